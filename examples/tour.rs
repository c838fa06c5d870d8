//! All programs of the seed in their order, each with what it shows and whether it came out as promised.

use examples::Told;
use std::process::ExitCode;

/// A program: its name, what it shows, its body, and what must be true of what it tells.
struct Stop {
    name: &'static str,
    shows: &'static str,
    body: fn() -> Told,
    promised: &'static str,
    kept: fn(&[String]) -> bool,
}

const STOPS: [Stop; 8] = [
    Stop {
        name: "process",
        shows: "a function runs in a process of its own; join waits for it",
        body: examples::process::run,
        promised: "five lines in the order of the seed",
        kept: |told| {
            let seed = [
                "parent process starts",
                "child process starts",
                "example_parameter",
                "child process ends",
                "parent process ends",
            ];
            told == seed
        },
    },
    Stop {
        name: "queue",
        shows: "the child puts, the parent gets",
        body: examples::queue::run,
        promised: "obj",
        kept: |told| told == ["obj"],
    },
    Stop {
        name: "pipe",
        shows: "two ends, both directions; and a pipe with one direction",
        body: examples::pipe::run,
        promised: "obj, an answer, and 1 2 3",
        kept: |told| told == ["obj", "an answer", "[1, 2, 3]"],
    },
    Stop {
        name: "value",
        shows: "a number in shared memory changes for both, an ordinary variable does not",
        body: examples::value::run,
        promised: "3.1415, and still 0",
        kept: |told| told == ["3.1415", "0"],
    },
    Stop {
        name: "array",
        shows: "many numbers, and letters, in shared memory",
        body: examples::array::run,
        promised: "the squares up to 25, and héllo",
        kept: |told| told == ["[0, 1, 4, 9, 16, 25]", "héllo"],
    },
    Stop {
        name: "race",
        shows: "without a lock additions get lost",
        body: examples::race::run,
        promised: "a wrong result in at least one of 100 rounds",
        kept: |told| told[1] != "0",
    },
    Stop {
        name: "lock",
        shows: "with a lock none is lost",
        body: examples::lock::run,
        promised: "20, and 20 in all of 100 rounds",
        kept: |told| told == ["20", "100"],
    },
    Stop {
        name: "pool",
        shows: "32 tasks for 16 processes, callbacks, close and join",
        body: examples::pool::run,
        promised: "32 tasks done in at most 16 processes, the callback called, apply_async faster than apply",
        kept: |told| {
            let processes = told[1].split(' ').next().and_then(|count| count.parse::<u32>().ok());
            told[0] == "32 tasks"
                && processes.is_some_and(|count| (2..=16).contains(&count))
                && told[2] == "callback: task 32 is done"
                && told[3] == "apply_async is faster"
        },
    },
];

fn main() -> ExitCode {
    multiprocess::init();
    let mut broken = Vec::new();
    for Stop { name, shows, body, promised, kept } in STOPS {
        println!("== {name}: {shows}");
        let outcome = match body() {
            Ok(told) if kept(&told) => "as promised".to_owned(),
            Ok(told) => format!("NOT as promised: {told:?}"),
            Err(error) => format!("NOT as promised: {error}"),
        };
        println!("-- promised: {promised}; outcome: {outcome}\n");
        if outcome != "as promised" {
            broken.push(name);
        }
    }
    if broken.is_empty() {
        println!("{} programs, all as promised", STOPS.len());
        ExitCode::SUCCESS
    } else {
        println!("not as promised: {}", broken.join(", "));
        ExitCode::FAILURE
    }
}
