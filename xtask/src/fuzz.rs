//! `fuzz`: arbitrary bytes for whatever is read from memory or sockets that another process wrote.

use std::process::Command;

use crate::command::{cargo, root, run as run_command, works};
use crate::manifest::Manifest;
use crate::outcome::{Failure, Outcome, Verdict, from_faults};

/// Seconds for one input; what takes longer goes on for ever.
const PATIENCE: u64 = 30;
/// A damaged header may tell of a message of 4 GiB less a byte, and a ring so large is made for it: that is the limit, and no fault.
const MEMORY: u64 = 6_000;

#[derive(Debug, PartialEq, Eq)]
struct Options {
    target: Option<String>,
    /// For all targets together.
    seconds: u64,
}

/// The verb.
pub(crate) fn run(args: &[String]) -> Outcome {
    let options = Options::parse(args)?;
    if !works(cargo("fuzz --version")) {
        return Ok(Verdict::Skipped("cargo-fuzz".to_owned()));
    }
    let all = targets()?;
    let chosen: Vec<&String> =
        all.iter().filter(|name| options.target.as_ref().is_none_or(|only| only == *name)).collect();
    if chosen.is_empty() {
        return Err(format!("no such target; there are: {}", all.join(", ")).into());
    }
    let each = (options.seconds / chosen.len() as u64).max(1);
    run_command(fuzz("build".to_owned()))?;
    let limits = format!("-max_total_time={each} -timeout={PATIENCE} -rss_limit_mb={MEMORY}");
    let mut faults = Vec::new();
    for name in chosen {
        if let Err(failure) = run_command(fuzz(format!("run {name} -- {limits}"))) {
            faults.push(format!("{name}: {failure}"));
        }
    }
    from_faults(&faults)
}

/// `cargo fuzz` asks the compiler for its sanitizer, which a stable one has but does not offer.
fn fuzz(args: String) -> Command {
    let (verb, rest) = args.split_once(' ').unwrap_or((&args, ""));
    let mut command = cargo(&format!("fuzz {verb} --fuzz-dir fuzz {rest}"));
    command.env("RUSTC_BOOTSTRAP", "1");
    command.env("CARGO_TARGET_DIR", crate::command::target_dir().join("fuzz"));
    command
}

/// The names of the targets, in the order of their list.
fn targets() -> Result<Vec<String>, Failure> {
    let manifest = Manifest::read(&root().join("fuzz/Cargo.toml"))?;
    Ok(manifest.all("bin").filter_map(|bin| bin.string("name")).collect())
}

impl Options {
    fn parse(args: &[String]) -> Result<Options, Failure> {
        let mut options = Options { target: None, seconds: 60 };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--seconds" => {
                    let text = args.next().ok_or("`--seconds` needs a value")?;
                    options.seconds = text.parse().map_err(|error| format!("`{text}`: {error}"))?;
                }
                other if other.starts_with('-') => return Err(format!("no option `{other}`").into()),
                name => options.target = Some(name.to_owned()),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Options, Failure> {
        Options::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read_in_any_order() {
        let expected = Options { target: Some("ring".to_owned()), seconds: 9 };
        assert_eq!(parsed("--seconds 9 ring").unwrap(), expected);
        assert_eq!(parsed("ring --seconds 9").unwrap(), expected);
        assert_eq!(parsed("").unwrap(), Options { target: None, seconds: 60 });
        assert!(parsed("--seconds").is_err() && parsed("--fast").is_err());
    }

    #[test]
    fn each_target_has_its_file() {
        let targets = targets().unwrap();
        assert!(!targets.is_empty());
        for name in targets {
            assert!(root().join(format!("fuzz/fuzz_targets/{name}.rs")).is_file(), "{name}");
            assert!(root().join(format!("fuzz/src/{name}.rs")).is_file(), "{name}");
        }
    }
}
