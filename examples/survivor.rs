//! A pool outlives whatever its tasks do: one line for each, with what came back.

#![expect(unsafe_code, reason = "one task crashes on purpose")]

use multiprocess::pool::{Cause, Crash, Report, Retry, TaskError};
use multiprocess::{Pool, RemoteError};
use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// What a bad task does.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
enum Deed {
    Return,
    Err,
    Panic,
    Exit,
    Abort,
    Segfault,
    OverflowStack,
    Hang,
    AllocateWithoutEnd,
}

const DEEDS: [Deed; 9] = [
    Deed::Return,
    Deed::Err,
    Deed::Panic,
    Deed::Exit,
    Deed::Abort,
    Deed::Segfault,
    Deed::OverflowStack,
    Deed::Hang,
    Deed::AllocateWithoutEnd,
];

/// Far more than a task needs, far less than the machine has.
const MEMORY_LIMIT: u64 = 512 << 20;

#[expect(clippy::disallowed_methods, reason = "one task exits on purpose")]
fn task(deed: Deed) -> Result<String, RemoteError> {
    match deed {
        Deed::Return => return Ok("a result".into()),
        Deed::Err => drop("not a number".parse::<i32>()?),
        Deed::Panic => panic!("something is wrong"),
        Deed::Exit => std::process::exit(3),
        Deed::Abort => std::process::abort(),
        Deed::Segfault => crash(),
        Deed::OverflowStack => drop(black_box(deeper(1))),
        Deed::Hang => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        Deed::AllocateWithoutEnd => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(black_box(vec![1_u8; 16 << 20]));
            }
        }
    }
    Ok("unreachable".into())
}

fn crash() {
    // SAFETY: none: this ends the process, which is what the example is about.
    unsafe { std::ptr::null_mut::<u8>().write_volatile(1) };
}

#[expect(unconditional_recursion, reason = "one task overflows its stack on purpose")]
fn deeper(depth: u64) -> u64 {
    let page = black_box([depth; 512]);
    deeper(black_box(page[7]) + 1) + page[3]
}

fn good(n: u64) -> u64 {
    n * n
}

/// Whether what came back is the deed's true fate.
fn is_right(deed: Deed, outcome: &Result<Result<String, RemoteError>, TaskError>) -> bool {
    match (deed, outcome) {
        (Deed::Return, Ok(Ok(_))) | (Deed::Err, Ok(Err(_))) | (Deed::Panic, Err(TaskError::Panicked(_))) => {
            true
        }
        (Deed::Hang, Err(TaskError::TimedOut)) => true,
        (deed, Err(TaskError::WorkerDied { cause, .. })) => match (deed, cause) {
            (Deed::Exit, Cause::Exit(code)) => *code == 3,
            (Deed::Abort, Cause::Signal { number, .. }) => *number == 6,
            (Deed::Segfault, Cause::Signal { number, .. }) => *number == 11,
            // Where the worker was taken over before the standard library's handler was set up, it is a plain SIGSEGV.
            (Deed::OverflowStack, Cause::StackOverflow | Cause::Signal { number: 11, .. }) => true,
            (Deed::AllocateWithoutEnd, Cause::Memory) => true,
            _ => false,
        },
        _ => false,
    }
}

/// Fates that are not the task's own doing; gives those that were told wrong.
fn further_fates(pool: &Pool) -> Result<Vec<Deed>, Box<dyn Error>> {
    let mut wrong = Vec::new();
    let poison = pool.task(task).retry(Retry::times(2)).apply((Deed::Abort,));
    match poison {
        Err(error @ TaskError::Poison { .. }) => println!("tried again: {error}"),
        _ => wrong.push(Deed::Abort),
    }
    let hanging = pool.apply_async(task, (Deed::Hang,));
    hanging.cancel();
    match hanging.get() {
        Err(error @ TaskError::Cancelled) => println!("cancelled: {error}"),
        _ => wrong.push(Deed::Hang),
    }
    let by = Instant::now() + Duration::from_millis(200);
    match pool.task(task).deadline(by).apply((Deed::Hang,)) {
        Err(error @ TaskError::DeadlinePassed) => println!("deadline: {error}"),
        _ => wrong.push(Deed::Hang),
    }
    // Once all workers are there again: four that fill them, a fifth that does not wait.
    drop(pool.broadcast(good, &(1,)));
    let fill: Vec<_> = (0..4).map(|_| pool.apply_async(task, (Deed::Hang,))).collect();
    match pool.task(good).queue_timeout(Duration::from_millis(100)).apply((1,)) {
        Err(error @ TaskError::QueueTimedOut) => println!("not started: {error}"),
        _ => wrong.push(Deed::Return),
    }
    for result in fill {
        result.cancel();
        result.wait();
    }
    Ok(wrong)
}

/// The functions in which a crashed worker was, the innermost first.
fn print_where(report: &Report) {
    let frames = report.backtrace.iter().flat_map(Crash::frames);
    for frame in frames.filter(|frame| frame.function.is_some()).take(FRAMES) {
        let place = frame.file.map(|file| format!(" at {file}:{}", frame.line.unwrap_or(0)));
        println!("    in {}{}", frame.function.unwrap_or_default(), place.unwrap_or_default());
    }
}

/// Of a stack that is full there are thousands.
const FRAMES: usize = 6;

fn main() -> Result<(), Box<dyn Error>> {
    multiprocess::init();
    let pool = Pool::builder().workers(4).memory_limit(MEMORY_LIMIT).build()?;
    let good_ones: Vec<_> = (0..200).map(|n| pool.apply_async(good, (n,))).collect();
    let bad_ones: Vec<_> = DEEDS
        .iter()
        .map(|deed| (*deed, pool.task(task).timeout(Duration::from_secs(5)).apply_async((*deed,))))
        .collect();
    let more_good_ones: Vec<_> = (0..200).map(|n| pool.apply_async(good, (n,))).collect();

    let mut wrong = Vec::new();
    for (deed, result) in bad_ones {
        let outcome = result.get();
        let text = match &outcome {
            Ok(Ok(value)) => format!("returned {value:?}"),
            Ok(Err(error)) => format!("returned the error `{error}`"),
            Err(error) => error.to_string(),
        };
        println!("{deed:?}: {text}");
        if let Err(TaskError::WorkerDied { report, .. }) = &outcome {
            print_where(report);
        }
        if !is_right(deed, &outcome) {
            wrong.push(deed);
        }
    }
    let mut done = 0;
    for (n, result) in (0..200).chain(0..200).zip(good_ones.into_iter().chain(more_good_ones)) {
        done += u64::from(result.get()? == n * n);
    }
    println!("good tasks: {done} of 400 right");
    wrong.extend(further_fates(&pool)?);
    pool.close();
    let summary = pool.join()?;
    println!("deaths: {:?}", summary.stats.deaths);
    if done == 400 && wrong.is_empty() { Ok(()) } else { Err(format!("told wrong: {wrong:?}").into()) }
}
