//! Ours beside its peers and the hand-made limits, interleaved in one run: `cargo xtask bench`.
//!
//! One sample is one process of its own: the runner starts this program again with `--measure ROW CONTESTANT`, reads the
//! figure that it prints, and ends it with all it started when it takes too long. A contestant that needs a second
//! process of ours starts this program with `--role NAME`.
//!
//! | module | idea |
//! | --- | --- |
//! | [`rows`] | what is measured, and who takes part: the table to add to |
//! | [`ours`], [`peers`], [`limit`] | the contestants, one file each |
//! | [`meter`], [`cpu`] | how a contestant is measured |
//! | [`link`], [`lane`] | round trip and stream over anything that carries messages, of a fixed size or of any |
//! | [`link`] | round trip and stream over anything that carries messages |
//! | [`many`] | two that send and two that take, through one channel |
//! | [`arena`], [`fight`] | a page that two sides share, and two that want the same lock |
//! | [`crowd`], [`waiting`] | many pairs on few cores; one side that waits for a second |
//! | [`idle`] | what happens where there is nothing to do |
//! | [`work`] | what the tasks of the pools do |
//! | [`run`], [`watchdog`], [`stats`] | the rounds, the time limit, the medians |
//! | [`report`] | table, JSON, plots, the page in `docs/` |

mod arena;
mod args;
mod contestant;
mod cores;
mod cpu;
mod crowd;
mod facts;
mod fight;
mod idle;
mod lane;
mod limit;
mod link;
mod many;
mod measure;
mod meter;
mod ours;
mod peers;
mod report;
mod role;
mod rows;
mod run;
mod stats;
mod waiting;
mod watchdog;
mod work;

use std::process::ExitCode;

use args::Verb;
use contestant::Failure;

fn main() -> ExitCode {
    // Children that these started enter here again and do not return.
    ours::init();
    peers::procspawn::init();
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(), Failure> {
    match args::parse(std::env::args().skip(1))? {
        Verb::Run(plan) => run::run(&plan),
        Verb::List => {
            report::table::list();
            Ok(())
        }
        Verb::Help => {
            println!("{}", args::HELP);
            Ok(())
        }
        Verb::Measure(one) => measure::measure(&one),
        Verb::Role { name, argument } => role::play(&name, &argument),
    }
}
