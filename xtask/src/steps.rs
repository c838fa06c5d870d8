//! `steps`: each numbered step of each protocol, with the tests that kill there. A step that no test names is a fault.
//!
//! A step is `step!("protocol", 3)` in a crate's `src/`. A test in a crate's `tests/` names it by a string
//! `"protocol:3"` (also `"protocol:1..=4"`, also with what follows a further colon), or by the pair
//! `"protocol", 3` or `"protocol", 1..=4` as arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::outcome::{Outcome, from_faults};
use crate::source::{Blank, blanked, functions};
use crate::workspace::{files, text};

/// A protocol and a number.
type Step = (String, u32);

/// The verb.
pub(crate) fn run(_: &[String]) -> Outcome {
    let mut declared = BTreeMap::new();
    let mut named = BTreeMap::new();
    let mut faults = Vec::new();
    for path in files()?.iter().filter(|path| path.starts_with("crates/") && path.ends_with(".rs")) {
        let code = blanked(&text(path)?, Blank::Comments);
        if path.contains("/src/") {
            match steps_in(&code) {
                Ok(steps) => steps.into_iter().for_each(|step| place(&mut declared, step, path.clone())),
                Err(fault) => faults.push(format!("{path}: {fault}")),
            }
        } else if path.contains("/tests/") {
            for (step, function) in named_in(&code) {
                place(&mut named, step, format!("{path}::{function}"));
            }
        }
    }
    if declared.is_empty() {
        println!("  no protocol has steps");
    }
    faults.extend(compare(&declared, &named));
    from_faults(&faults)
}

fn place(map: &mut BTreeMap<Step, BTreeSet<String>>, step: Step, at: String) {
    map.entry(step).or_default().insert(at);
}

/// Prints the table; says what is not covered, and what is killed at and does not exist.
fn compare(
    declared: &BTreeMap<Step, BTreeSet<String>>,
    named: &BTreeMap<Step, BTreeSet<String>>,
) -> Vec<String> {
    let mut faults = Vec::new();
    for (step, places) in declared {
        let title = format!("{}:{}", step.0, step.1);
        match named.get(step) {
            Some(tests) => println!("  {title:<24} {}", joined(tests)),
            None => faults.push(format!("no test kills at {title} ({})", joined(places))),
        }
    }
    let protocols: BTreeSet<&str> = declared.keys().map(|(protocol, _)| protocol.as_str()).collect();
    for ((protocol, number), tests) in named {
        // A protocol that nobody declares is some other string with a colon in it.
        if protocols.contains(protocol.as_str()) && !declared.contains_key(&(protocol.clone(), *number)) {
            faults.push(format!("{protocol}:{number} does not exist; named in {}", joined(tests)));
        }
    }
    faults
}

fn joined(places: &BTreeSet<String>) -> String {
    places.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Every `step!("protocol", N)` of a file whose comments are blanked.
fn steps_in(code: &str) -> Result<Vec<Step>, String> {
    let mut found = Vec::new();
    for (at, call) in code.match_indices("step!(") {
        let rest = &code[at + call.len()..];
        let step = string_at(rest.trim_start())
            .and_then(|(protocol, rest)| Some((protocol, rest.trim_start().strip_prefix(',')?.trim_start())))
            .and_then(|(protocol, rest)| Some((protocol.to_owned(), number_at(rest)?.0)));
        let line = code[..at].lines().count().max(1);
        found.push(step.ok_or_else(|| format!("line {line}: `step!` wants a string and a number"))?);
    }
    Ok(found)
}

/// Every step that a test file names, with the function that encloses the name.
fn named_in(code: &str) -> Vec<(Step, String)> {
    let places: Vec<(usize, &str)> = functions(code).collect();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = code[at..].find('"').map(|offset| at + offset) {
        let Some((literal, rest)) = string_at(&code[start..]) else { break };
        at = code.len() - rest.len();
        let function =
            places.iter().take_while(|(place, _)| *place < start).last().map_or("", |(_, name)| name);
        if let Some((protocol, numbers)) = pair(literal, rest) {
            found.extend(numbers.map(|number| ((protocol.to_owned(), number), function.to_owned())));
        }
    }
    found
}

/// `"protocol:1..=4"` by itself, or `"protocol"` with `, 1..=4` behind it.
fn pair<'a>(literal: &'a str, rest: &'a str) -> Option<(&'a str, RangeInclusive<u32>)> {
    match literal.split_once(':') {
        Some((protocol, numbers)) => Some((protocol, range_at(numbers)?)),
        None => Some((literal, range_at(rest.trim_start().strip_prefix(',')?.trim_start())?)),
    }
}

/// The contents of the string literal at the start, and what follows it.
fn string_at(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut escaped = false;
    let end = inner.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    Some((&inner[..end], &inner[end + 1..]))
}

fn number_at(text: &str) -> Option<(u32, &str)> {
    let len = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..len].parse().ok()?, &text[len..]))
}

/// `3`, `1..=4` or `1..5`.
fn range_at(text: &str) -> Option<RangeInclusive<u32>> {
    let (first, rest) = number_at(text)?;
    if let Some(rest) = rest.strip_prefix("..=") {
        return Some(first..=number_at(rest)?.0);
    }
    match rest.strip_prefix("..") {
        Some(rest) => Some(first..=number_at(rest)?.0.checked_sub(1)?),
        None => Some(first..=first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(protocol: &str, number: u32) -> Step {
        (protocol.to_owned(), number)
    }

    fn map(steps: &[Step]) -> BTreeMap<Step, BTreeSet<String>> {
        steps.iter().map(|step| (step.clone(), BTreeSet::from(["somewhere".to_owned()]))).collect()
    }

    #[test]
    fn steps_are_found_across_lines() {
        let code = "fn put() { step!(\"queue.put\", 1); mp_core::step!(\n  \"queue.put\",\n 2\n); }";
        assert_eq!(steps_in(code).unwrap(), [step("queue.put", 1), step("queue.put", 2)]);
    }

    #[test]
    fn a_step_without_a_literal_number_is_a_fault() {
        assert_eq!(
            steps_in("\n step!(\"put\", N)").unwrap_err(),
            "line 2: `step!` wants a string and a number"
        );
        assert!(steps_in("step!(put, 1)").is_err());
    }

    #[test]
    fn names_in_tests_carry_their_function() {
        let code = "
            const ALL: &str = \"lock:1..=2\";
            fn first() { f(\"ring.publish:3:stop\"); g(\"localhost\"); h(\"a \\\" b\"); }
            fn second() { arm(\"put\", 1..3, x); }";
        let expected = [
            (step("lock", 1), String::new()),
            (step("lock", 2), String::new()),
            (step("ring.publish", 3), "first".to_owned()),
            (step("put", 1), "second".to_owned()),
            (step("put", 2), "second".to_owned()),
        ];
        assert_eq!(named_in(code), expected);
    }

    #[test]
    fn a_quote_as_a_char_does_not_open_a_string() {
        let code = blanked("fn f() { g('\"'); h(\"put:1\"); /* \"put:2\" */ }", Blank::Comments);
        assert_eq!(named_in(&code), [(step("put", 1), "f".to_owned())]);
    }

    #[test]
    fn an_uncovered_and_an_unknown_step_are_faults() {
        let declared = map(&[step("put", 1), step("put", 2)]);
        assert!(compare(&declared, &map(&[step("put", 1), step("put", 2), step("other", 9)])).is_empty());
        let faults = compare(&declared, &map(&[step("put", 1), step("put", 3)]));
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].contains("put:2") && faults[1].contains("put:3"));
    }
}
