//! The worker's side: takes jobs from its line, runs their items, sends each result.
//!
//! | step | a death here | the pool |
//! | --- | --- | --- |
//! | `pool.worker:1` a job was read | nothing of it has started | runs it elsewhere |
//! | `pool.worker:2` an item was claimed | it counts as started | gives `WorkerDied` for it, runs the rest elsewhere |
//! | `pool.worker:3` the item has run | it has started | as above |
//! | `pool.worker:4` its result was published | the result is there | settles it, runs the rest elsewhere |

use crate::context;
use crate::control::{now, task_number};
use crate::error::TaskError;
use crate::job::{self, Args, Job, Raw, Received, kind};
use crate::line::{Line, LineEnd};
use crate::packs;
pub(crate) use crate::packs::Packs;
use mp_core::handle::Handles;
use mp_core::{Encoding, wire};
use mp_process::Panic;
use mp_process::routine::{Call, CallError, Reply, Routine};
use std::any::Any;
use std::backtrace::Backtrace;
use std::borrow::Cow;
use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::{Arc, Once};

/// An initializer with its encoded arguments: routine, encoding, bytes, handles.
pub(crate) type Initializer = Option<(Routine, u8, Vec<u8>)>;

/// The function that each worker process runs. Returns when the pool has closed its end of the line.
pub(crate) fn work(line: LineEnd, initializer: Initializer, worker: usize) {
    let mut line = line.open();
    // The terminal's Ctrl-C goes to everybody; what becomes of the workers is for the program to say. A handler, not `ignore`, which
    // the programs that a task starts would inherit. Without one the worker dies of Ctrl-C, as it would have.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::default());
    context::enter(line.memory().clone(), worker);
    context::watch_for_crashes();
    keep_panics();
    if let Some((routine, encoding, bytes)) = initializer
        && let Err(why) = initialize(&routine, Encoding(encoding), &bytes)
    {
        context::end_copies();
        // A pool that is gone need not know.
        let _ = line.write_all(kind::BROKEN, [why.as_bytes(), &[]], &[], true);
        return;
    }
    context::end_copies();
    if let Err(error) = line.write_all(kind::READY, [&[]; 2], &[], true) {
        // Said where the pool reads last words: a limit on the size of files holds for shared memory, too.
        eprintln!("mp-pool: a worker cannot write to its pool: {error:?}");
        return;
    }
    let memory = line.memory().clone();
    let (mut known, mut known_packs) = (None, None);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let Ok(Ok(incoming)) = line.next(&mut bytes) else { return };
        mp_core::step!("pool.worker", 1);
        let handles = incoming.handles.map_err(|error| error.to_string());
        if incoming.kind == kind::LONE {
            // Large arguments are given to the function as they came.
            let Some(tail) = job::cut_tail(&mut bytes) else { return };
            let Some(job) = Received::parse(&tail) else { return };
            if run_job(&mut line, &mut known, job, handles, Some(std::mem::take(&mut bytes))).is_none() {
                return;
            }
            continue;
        }
        let Some(job) = Received::parse(&bytes) else { return };
        if incoming.kind == kind::PACK {
            if packs::run(&mut line, &memory, &mut known_packs, &job).is_none() {
                return;
            }
            continue;
        }
        if run_job(&mut line, &mut known, job, handles, None).is_none() {
            return;
        }
        if bytes.capacity() > KEPT {
            bytes = Vec::new();
        }
    }
}

fn initialize(routine: &Routine, encoding: Encoding, bytes: &[u8]) -> Result<(), String> {
    let call = routine.resolve().map_err(|error| error.to_string())?;
    match call_caught(call, encoding, Cow::Borrowed(bytes), Vec::new()) {
        Ok(Ok(_)) | Ok(Err(CallError::Result(_))) => Ok(()),
        Ok(Err(CallError::Arguments(error))) => Err(error.to_string()),
        Err(panic) => Err(format!("the initializer {panic}")),
    }
}

/// A buffer larger than this is not kept for the next job.
const KEPT: usize = 4 << 20;

/// The last function that was run, by its encoded name.
type Known = Option<(Vec<u8>, Option<Call>)>;

/// `None` when the pool is gone. `alone` are the arguments of the only item where they did not come with the job.
fn run_job(
    line: &mut Line,
    known: &mut Known,
    mut job: Received<'_>,
    handles: Result<Vec<OwnedFd>, String>,
    mut alone: Option<Vec<u8>>,
) -> Option<()> {
    if known.as_ref().is_none_or(|(name, _)| name != job.routine) {
        let routine: Option<Routine> =
            wire::decode(Encoding::POSTCARD, Cow::Borrowed(job.routine), Vec::new()).ok();
        *known = Some((job.routine.to_vec(), routine.and_then(|routine| routine.resolve().ok())));
    }
    let call = known.as_ref().and_then(|(_, call)| *call);
    let (mut handles, lost) = match handles {
        Ok(handles) => (handles.into_iter(), None),
        Err(why) => (Vec::new().into_iter(), Some(why)),
    };
    for number in 0..job.count {
        let Args { encoding, handles: count, bytes } = job.next_args()?;
        let own: Vec<OwnedFd> = handles.by_ref().take(count.into()).collect();
        // Stored before the claim, so that whoever sees the claim finds a start that is not older.
        let started = now();
        let task = task_number(job.entry, job.generation, number);
        line.control().announce(task, started);
        if line.control().claim(job.entry.into(), job.generation) != Some(number) {
            return Some(()); // the rest was taken back
        }
        context::begin(task, job.attempt);
        mp_core::step!("pool.worker", 2);
        let mut outcome = match &lost {
            Some(why) if count > 0 => Outcome::text(kind::ARGUMENTS, why),
            _ => run_item(call, encoding, alone.take().map_or(Cow::Borrowed(bytes), Cow::Owned), own),
        };
        context::end_copies();
        mp_core::step!("pool.worker", 3);
        outcome.stamp(started, now());
        let fds: Vec<_> = outcome.handles.fds().collect();
        // A result that cannot be sent must not pass for a death.
        if let Err(error) = line.write_all(outcome.kind, outcome.parts(), &fds, true) {
            let why = format!("{error:?}");
            let mut outcome = Outcome::text(kind::UNENCODABLE, &why);
            outcome.stamp(started, now());
            line.write_all(outcome.kind, outcome.parts(), &[], true).ok()?;
            continue;
        }
        drop(fds);
        outcome.handles.sent();
        mp_core::step!("pool.worker", 4);
    }
    Some(())
}

/// How an item ended: the record's kind, and its bytes. The head stands behind them, so that what is large is written from where it
/// lies, and read to where it stays.
pub(crate) struct Outcome {
    pub(crate) kind: u8,
    pub(crate) bytes: wire::Owned,
    pub(crate) handles: Handles,
    head: [u8; HEAD],
}

/// What stands behind a result's bytes, and before those of many: its encoding, when the item was started, for how long it ran.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) encoding: Encoding,
    pub(crate) started: u64,
    pub(crate) ran: u64,
}

/// How many bytes that are.
pub(crate) const HEAD: usize = 17;

impl Head {
    /// The head of a result and what follows it; `None` when it is too short.
    pub(crate) fn parse(record: &[u8]) -> Option<(Head, &[u8])> {
        let ([encoding], rest) = record.split_first_chunk()?;
        let (started, rest) = rest.split_first_chunk()?;
        let (ran, rest) = rest.split_first_chunk()?;
        let (started, ran) = (u64::from_ne_bytes(*started), u64::from_ne_bytes(*ran));
        Some((Head { encoding: Encoding(*encoding), started, ran }, rest))
    }

    /// As [`parse`](Head::parse), for a head that stands behind the result.
    pub(crate) fn parse_behind(record: &[u8]) -> Option<(Head, &[u8])> {
        let (result, head) = record.split_last_chunk::<HEAD>()?;
        Head::parse(head).map(|(head, _)| (head, result))
    }
}

/// Fills in a head's times.
pub(crate) fn stamp(head: &mut [u8; HEAD], started: u64, ended: u64) {
    head[1..9].copy_from_slice(&started.to_ne_bytes());
    head[9..].copy_from_slice(&ended.saturating_sub(started).to_ne_bytes());
}

impl Outcome {
    pub(crate) fn new(kind: u8, encoding: Encoding, bytes: wire::Owned, handles: Handles) -> Outcome {
        let mut head = [0; HEAD];
        head[0] = encoding.0;
        Outcome { kind, bytes, handles, head }
    }

    /// When it was started and when it ended.
    pub(crate) fn stamp(&mut self, started: u64, ended: u64) {
        stamp(&mut self.head, started, ended);
    }

    /// The record.
    pub(crate) fn parts(&self) -> [&[u8]; 2] {
        [&self.bytes, &self.head]
    }

    pub(crate) fn text(kind: u8, text: &str) -> Outcome {
        Outcome::new(kind, Encoding::TEXT, text.as_bytes().to_vec().into(), Handles::default())
    }
}

fn run_item(call: Option<Call>, encoding: Encoding, bytes: Cow<'_, [u8]>, handles: Vec<OwnedFd>) -> Outcome {
    let Some(call) = call else { return Outcome::text(kind::UNKNOWN, "") };
    match call_caught(call, encoding, bytes, handles) {
        Ok(Ok(Reply { encoding, bytes, handles })) => Outcome::new(kind::RETURNED, encoding, bytes, handles),
        Ok(Err(CallError::Arguments(error))) => Outcome::text(kind::ARGUMENTS, &error.to_string()),
        Ok(Err(CallError::Result(error))) => Outcome::text(kind::UNENCODABLE, &error.to_string()),
        Err(panic) => panicked(&panic),
    }
}

/// Runs the items of `job` in this process, for pools without workers.
pub(crate) fn run_here(mut job: Job) {
    keep_panics();
    let routine: Result<Routine, _> =
        wire::decode(Encoding::POSTCARD, Cow::Borrowed(&job.function.routine), Vec::new());
    let call = routine.ok().and_then(|routine| routine.resolve().ok());
    while let Some(mut item) = job.items.pop_front() {
        let handles: io::Result<Vec<OwnedFd>> =
            item.handles.iter().map(|handle| handle.try_clone()).collect();
        item.sent();
        let result = match (call, handles) {
            (None, _) => Err(TaskError::UnknownFunction),
            (_, Err(error)) => Err(TaskError::Io(error)),
            (Some(call), Ok(handles)) => {
                match call_caught(call, item.encoding, Cow::Borrowed(&item.bytes), handles) {
                    Ok(Ok(Reply { encoding, bytes, handles })) => {
                        let own: io::Result<Vec<OwnedFd>> =
                            handles.fds().map(|fd| fd.try_clone_to_owned()).collect();
                        handles.sent();
                        own.map(|handles| Raw { encoding, bytes: bytes.into_vec(), handles })
                            .map_err(TaskError::Io)
                    }
                    Ok(Err(CallError::Arguments(error))) => Err(TaskError::Arguments(error.to_string())),
                    Ok(Err(CallError::Result(error))) => Err(TaskError::Unencodable(error.to_string())),
                    Err(panic) => Err(TaskError::Panicked(panic)),
                }
            }
        };
        item.receipt.settle(result);
    }
}

fn call_caught(
    call: Call,
    encoding: Encoding,
    bytes: Cow<'_, [u8]>,
    handles: Vec<OwnedFd>,
) -> Result<Result<Reply, CallError>, Panic> {
    LAST_PANIC.set(None);
    let result = panic::catch_unwind(AssertUnwindSafe(|| call.call(encoding, bytes, handles)));
    result.map_err(panic_of)
}

/// No panic is noted from now on but the next.
pub(crate) fn forget_panic() {
    LAST_PANIC.set(None);
}

/// What was noted of the panic with this payload.
pub(crate) fn panic_of(payload: Box<dyn Any + Send>) -> Panic {
    let text = text_of(&*payload);
    // A payload whose own drop panics must not end the worker.
    std::mem::forget(payload);
    // Nothing was noted of a panic that was only carried on (`resume_unwind`).
    let unnoted = || Panic::new(text, "unknown".into(), String::new());
    LAST_PANIC.take().unwrap_or_else(unnoted)
}

pub(crate) fn panicked(panic: &Panic) -> Outcome {
    let mut scratch = Vec::new();
    match wire::encode(panic, &mut scratch) {
        Ok(message) => {
            let bytes = message.bytes.to_vec().into();
            Outcome::new(kind::PANICKED, message.encoding, bytes, Handles::default())
        }
        Err(error) => Outcome::text(kind::UNENCODABLE, &error.to_string()),
    }
}

/// What a panic said.
pub(crate) fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a payload that is no text").to_owned()
}

thread_local! {
    static LAST_PANIC: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

/// Keeps what a panic says for the report, and lets it be printed as before.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(set_hook);
}

fn set_hook() {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        let text = text_of(info.payload());
        let location = info.location().map_or_else(|| "unknown".into(), ToString::to_string);
        let backtrace = Backtrace::force_capture().to_string();
        // A thread that is ending has none any more.
        let _ = LAST_PANIC.try_with(|last| last.replace(Some(Panic::new(text, location, backtrace))));
        previous(info);
    }));
}
