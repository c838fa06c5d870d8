//! `stress`: the ignored race, kill and soak tests for a given time; or a suite n times over, also under load.

use crate::command::record;
use crate::load::Load;
use crate::outcome::{Failure, Outcome, Verdict};
use crate::suite;

#[derive(Debug, PartialEq, Eq)]
struct Options {
    seconds: u64,
    kills: Option<u64>,
    repeat: Option<u64>,
    which: String,
    load: bool,
}

/// The verb.
pub(crate) fn run(args: &[String]) -> Outcome {
    let options = Options::parse(args)?;
    // Lives to the end of this function, on every way out of it.
    let _load = if options.load { Some(Load::start()?) } else { None };
    match options.repeat {
        Some(times) => again_and_again(&options.which, times)?,
        None => ignored(&options)?,
    }
    Ok(Verdict::Passed)
}

/// The suite `times` over, up to its first failure. The output is shown only then.
fn again_and_again(which: &str, times: u64) -> Result<(), Failure> {
    for round in 1..=times {
        let recorded = record(suite::command(which, suite::STEPS, ""), false)?;
        if let Err(failure) = suite::passed(&recorded) {
            println!("{}", recorded.text);
            return Err(format!("round {round} of {times}: {failure}").into());
        }
        let summary = recorded.text.lines().rev().find(|line| line.contains(" passed"));
        println!("round {round} of {times}: {}", summary.unwrap_or("no tests").trim());
    }
    Ok(())
}

/// The tests marked `#[ignore]`, each for about so many seconds, or those that kill, each until it has killed so many.
fn ignored(options: &Options) -> Result<(), Failure> {
    let filter = if options.kills.is_some() { "--run-ignored only kill" } else { "--run-ignored only" };
    let mut command = suite::command(&options.which, suite::STEPS, filter);
    command.env("MP_STRESS_SECONDS", options.seconds.to_string());
    if let Some(kills) = options.kills {
        command.env("MP_STRESS_KILLS", kills.to_string());
    }
    suite::passed(&record(command, true)?)
}

impl Options {
    fn parse(args: &[String]) -> Result<Options, Failure> {
        let mut options =
            Options { seconds: 1, kills: None, repeat: None, which: "--workspace".to_owned(), load: false };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("`{arg}` needs a value"));
            let number = |text: &String| text.parse().map_err(|error| format!("`{text}`: {error}"));
            match arg.as_str() {
                "--seconds" => options.seconds = number(value()?)?,
                "--kills" => options.kills = Some(number(value()?)?),
                "--repeat" => options.repeat = Some(number(value()?)?),
                "-p" | "--package" => options.which = format!("-p {}", value()?),
                "--load" => options.load = true,
                other => return Err(format!("no option `{other}`").into()),
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
    fn options_have_defaults() {
        let expected =
            Options { seconds: 1, kills: None, repeat: None, which: "--workspace".to_owned(), load: false };
        assert_eq!(parsed("").unwrap(), expected);
    }

    #[test]
    fn options_are_read() {
        let expected = Options {
            seconds: 9,
            kills: Some(7),
            repeat: Some(3),
            which: "-p mp-pipe".to_owned(),
            load: true,
        };
        assert_eq!(parsed("--repeat 3 --kills 7 -p mp-pipe --load --seconds 9").unwrap(), expected);
    }

    #[test]
    fn a_missing_or_bad_value_is_an_error() {
        for text in ["--repeat", "--repeat many", "--seconds -1", "--fast"] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
