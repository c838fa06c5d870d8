//! `loom`: every interleaving of the models, up to a number of preemptions.

use crate::command::{cargo, flavoured, run as run_command};
use crate::outcome::{Outcome, Verdict};
use crate::workspace::crates;

/// The verb.
pub(crate) fn run(args: &[String]) -> Outcome {
    let (only, preemptions) = options(args)?;
    let mut models: Vec<String> = Vec::new();
    for one in crates()? {
        if one.dir.join("tests/loom.rs").is_file() && only.is_none_or(|only| only == one.name) {
            models.push(one.name);
        }
    }
    if models.is_empty() {
        println!("no crate has a tests/loom.rs");
    }
    for name in models {
        let mut command =
            flavoured(cargo(&format!("test -p {name} --release --test loom")), "--cfg loom", "loom");
        command.env("LOOM_MAX_PREEMPTIONS", preemptions);
        run_command(command)?;
    }
    Ok(Verdict::Passed)
}

/// The crate, when one is named, and the number of preemptions, 2 unless given.
fn options(args: &[String]) -> Result<(Option<&str>, &str), String> {
    let mut only = None;
    let mut preemptions = "2";
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--preemptions" => preemptions = args.next().ok_or("how many preemptions?")?,
            other if other.starts_with('-') => return Err(format!("no option `{other}`")),
            name => only = Some(name),
        }
    }
    Ok((only, preemptions))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_in_any_order() {
        let args = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(options(&[]), Ok((None, "2")));
        assert_eq!(options(&args("--preemptions 4 mp-lock")), Ok((Some("mp-lock"), "4")));
        assert!(options(&args("--preemptions")).is_err() && options(&args("--no")).is_err());
    }
}
