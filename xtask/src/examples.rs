//! Running every example program as its reader would, under a time-out.

use std::time::{Duration, Instant};

use crate::command::{cargo, root, run, run_limited, scratch};
use crate::manifest::Manifest;
use crate::outcome::{Failure, Outcome, Verdict};

const LIMIT: Duration = Duration::from_secs(120);

/// Builds and runs each `[[example]]`; its output is kept and shown only when it fails.
pub(crate) fn run_all() -> Outcome {
    let manifest = Manifest::read(&root().join("examples/Cargo.toml"))?;
    let programs = programs(&manifest);
    if programs.is_empty() {
        return Err("examples/Cargo.toml lists no `[[example]]`".into());
    }
    run(cargo("build --release --examples"))?;
    let failed: Vec<&str> =
        programs.iter().filter(|(name, args)| !holds(name, args)).map(|(name, _)| name.as_str()).collect();
    if failed.is_empty() { Ok(Verdict::Passed) } else { Err(format!("failed: {}", failed.join(", ")).into()) }
}

/// Each example with the arguments of `[package.metadata.examples.NAME] args = […]`.
fn programs(manifest: &Manifest) -> Vec<(String, Vec<String>)> {
    let names = manifest.all("example").filter_map(|example| example.string("name"));
    names
        .map(|name| {
            let header = format!("package.metadata.examples.{name}");
            let args = manifest.all(&header).flat_map(|section| section.strings("args")).collect();
            (name, args)
        })
        .collect()
}

fn holds(name: &str, args: &[String]) -> bool {
    let start = Instant::now();
    let ended = run_one(name, args);
    let took = start.elapsed().as_secs_f64();
    match &ended {
        Ok(()) => println!("  {name:<16} {took:>6.1} s  ok"),
        Err(failure) => println!("  {name:<16} {took:>6.1} s  FAILED: {failure}"),
    }
    ended.is_ok()
}

fn run_one(name: &str, args: &[String]) -> Result<(), Failure> {
    // On Unix cargo becomes the program, so the time-out's kill meets the program itself.
    let mut command = cargo(&format!("run --quiet --release --example {name} --"));
    command.args(args);
    run_limited(command, &scratch(&format!("examples/{name}.txt"))?, LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_from_the_metadata() {
        let text = "[[example]]\nname = \"a\"\n[[example]]\nname = \"b\"\n[package.metadata.examples.b]\nargs = [\"x\", \"y z\"]\n";
        let expected = [("a".to_owned(), vec![]), ("b".to_owned(), vec!["x".to_owned(), "y z".to_owned()])];
        assert_eq!(programs(&Manifest::parse(text)), expected);
    }
}
