//! The worker's loop over a pack: compiled for each function, so that an item costs little more than its call.
//!
//! Results are gathered, kept on the slate (see `control`), and sent many at a time: when the pack ends, when the slate is full, when
//! the first of them is a millisecond old, and before anything that goes alone (a panic, a large result, one with handles). So they
//! come in the order of the items.

use crate::context;
use crate::control::{Control, SLATE, now, task_number};
use crate::job::{Received, kind};
use crate::line::{CONTROL, Line};
use crate::pack::{Values, append_result, encoding_of};
use crate::worker::{HEAD, Outcome, forget_panic, panic_of, panicked, stamp};
use mp_core::{Encoding, plain, wire};
use mp_process::Task;
use mp_process::routine::{Drive, DrivenRoutine, Driver, Reply};
use mp_shm::{Growable, HEADER};
use serde::{Serialize, de::DeserializeOwned};
use std::borrow::Cow;
use std::panic::{self, AssertUnwindSafe};

/// What stands before the results: the head, and how many they are.
const BEFORE: usize = HEAD + 4;
/// Results are sent when the first is so old, in nanoseconds.
const OLD: u64 = 1_000_000;
/// The clock is read about so often.
const LOOK: u64 = 20_000;

/// Runs functions over packs.
#[derive(Debug)]
pub(crate) enum Packs {}

impl Driver for Packs {
    type Context<'a> = Pack<'a>;

    fn drive<F, Args>(function: F, pack: &mut Pack<'_>)
    where
        F: Task<Args>,
        Args: DeserializeOwned + 'static,
        F::Output: Serialize + 'static,
    {
        pack.results = encoding_of::<F::Output>();
        pack.open(pack.looked);
        let (encoding, bytes) = pack.arguments;
        let mut values = Values::new(bytes, plain::width::<Args>());
        forget_panic();
        loop {
            let ran = panic::catch_unwind(AssertUnwindSafe(|| {
                while let Some(args) = pack.claim(&mut values) {
                    let args = if encoding == Encoding::PLAIN { plain::read::<Args>(args) } else { None }
                        .map_or_else(|| wire::decode::<Args>(encoding, Cow::Borrowed(args), Vec::new()), Ok);
                    match args {
                        Ok(args) => pack.call(function, args),
                        Err(error) => pack.send_alone(Outcome::text(kind::ARGUMENTS, &error.to_string())),
                    }
                }
            }));
            match ran {
                Ok(()) => break,
                Err(payload) => {
                    let panic = panic_of(payload);
                    pack.send_alone(panicked(&panic));
                    forget_panic();
                }
            }
        }
        pack.flush();
    }
}

/// A pack that is being run.
pub(crate) struct Pack<'a> {
    line: &'a mut Line,
    control: Control<'a>,
    entry: u8,
    generation: u16,
    /// How its items are encoded, and their bytes.
    arguments: (Encoding, &'a [u8]),
    results: Encoding,
    /// How many items have begun.
    begun: u32,
    /// The record of the results that were not sent.
    out: Vec<u8>,
    /// How many that are.
    kept: u32,
    /// Where those end that have been counted.
    counted: usize,
    /// The number of the record that they will be.
    number: u64,
    /// When the first of them began.
    opened: u64,
    /// When the clock was read last.
    looked: u64,
    /// So many items until it is read again, and how many there were between.
    until_look: u32,
    stride: u32,
    gone: bool,
}

/// The last function that was run over a pack, by its encoded name.
pub(crate) type Known = Option<(Vec<u8>, Option<Drive<Packs>>)>;

/// Runs what a pack holds; `None` when the pool is gone.
pub(crate) fn run(line: &mut Line, memory: &Growable, known: &mut Known, job: &Received<'_>) -> Option<()> {
    let arguments = job.pack()?;
    if known.as_ref().is_none_or(|(name, _)| name != job.routine) {
        let routine: Option<DrivenRoutine<Packs>> =
            wire::decode(Encoding::POSTCARD, Cow::Borrowed(job.routine), Vec::new()).ok();
        *known = Some((job.routine.to_vec(), routine.and_then(|routine| routine.resolve().ok())));
    }
    let drive = known.as_ref().and_then(|(_, drive)| *drive);
    let time = now();
    let mut pack = Pack {
        line,
        control: Control::new(memory.fixed(), HEADER + CONTROL),
        entry: job.entry,
        generation: job.generation,
        arguments,
        results: Encoding::POSTCARD,
        begun: 0,
        out: vec![0; BEFORE],
        kept: 0,
        counted: BEFORE,
        number: 0,
        opened: time,
        looked: time,
        until_look: 1,
        stride: 1,
        gone: false,
    };
    pack.control.announce(task_number(job.entry, job.generation, 0), time);
    pack.open(time);
    match drive {
        Some(drive) => drive.run(&mut pack),
        None => pack.refuse_all(job.count),
    }
    (!pack.gone).then_some(())
}

impl Pack<'_> {
    /// The next item's arguments; it counts as started from now on. `None` when there is none, or the rest was taken back.
    #[inline(always)]
    fn claim<'v>(&mut self, values: &mut Values<'v>) -> Option<&'v [u8]> {
        if self.gone {
            return None;
        }
        let number = self.control.claim(self.entry.into(), self.generation)?;
        debug_assert_eq!(number, self.begun);
        self.begun = number + 1;
        context::begin(task_number(self.entry, self.generation, number), 0);
        mp_core::step!("pool.pack", 1);
        values.next()
    }

    #[inline(always)]
    fn call<F, Args>(&mut self, function: F, args: Args)
    where
        F: Task<Args>,
        F::Output: Serialize + 'static,
    {
        let value = function.call(args);
        let fits = append_result(&value, &mut self.out) && self.out.len() - BEFORE <= SLATE;
        if !fits {
            return self.returned_alone(value);
        }
        // Its drop may panic: then the result is not counted, and goes.
        drop(value);
        context::end_copies();
        self.kept += 1;
        let results = &self.out[BEFORE..];
        self.control.note_on_slate(self.number, self.kept, results, self.counted - BEFORE);
        self.counted = self.out.len();
        self.until_look -= 1;
        if self.until_look == 0 {
            self.look();
        }
    }

    /// Reads the clock, more or less often as items are short or long.
    fn look(&mut self) {
        let time = now();
        let since = time.saturating_sub(self.looked);
        self.stride = match since {
            0..LOOK => (self.stride * 2).min(4096),
            _ if since > 2 * LOOK => 1.max(self.stride / 4),
            _ => self.stride,
        };
        (self.looked, self.until_look) = (time, self.stride);
        let task = task_number(self.entry, self.generation, self.begun);
        self.control.announce(task, time);
        if time.saturating_sub(self.opened) > OLD {
            self.flush();
        }
    }

    /// A result with handles, or one that does not fit.
    #[cold]
    fn returned_alone<R: Serialize + 'static>(&mut self, value: R) {
        self.out.truncate(self.counted);
        // What is not moved is dropped there, which may panic: an item has one outcome.
        let outcome = match Reply::from_value(value) {
            Ok(Reply { encoding, bytes, handles }) => Outcome::new(kind::RETURNED, encoding, bytes, handles),
            Err(error) => Outcome::text(kind::UNENCODABLE, &error.to_string()),
        };
        self.send_alone(outcome);
    }

    /// Sends what was gathered, then the outcome of the item that has just run.
    #[cold]
    fn send_alone(&mut self, mut outcome: Outcome) {
        context::end_copies();
        self.out.truncate(self.counted);
        self.flush();
        let (started, ended) = (self.looked, now());
        outcome.stamp(started, ended);
        let fds: Vec<_> = outcome.handles.fds().collect();
        if let Err(error) = self.line.write_all(outcome.kind, outcome.parts(), &fds, true) {
            let why = format!("{error:?}");
            let mut outcome = Outcome::text(kind::UNENCODABLE, &why);
            outcome.stamp(started, ended);
            self.gone |= self.line.write_all(outcome.kind, outcome.parts(), &[], true).is_err();
        } else {
            drop(fds);
            outcome.handles.sent();
        }
        self.open(ended);
    }

    /// Sends the results that were gathered.
    fn flush(&mut self) {
        if self.kept > 0 && !self.gone {
            let time = now();
            self.out[0] = self.results.0;
            if let Some(head) = self.out.first_chunk_mut() {
                stamp(head, self.opened, time);
            }
            self.out[HEAD..BEFORE].copy_from_slice(&self.kept.to_ne_bytes());
            self.gone |= self.line.write_all(kind::PACKED, [&self.out, &[]], &[], true).is_err();
            mp_core::step!("pool.pack", 4);
            self.control.wipe_slate();
            mp_core::step!("pool.pack", 5);
            self.looked = time;
        }
        self.open(self.looked);
    }

    /// The next result is the first of a record.
    fn open(&mut self, time: u64) {
        self.out.truncate(BEFORE);
        (self.kept, self.counted, self.opened) = (0, BEFORE, time);
        self.number = self.line.next_number();
        self.control.begin_slate(self.results.0, time);
    }

    /// The function is not known here.
    fn refuse_all(&mut self, count: u32) {
        for _ in 0..count {
            if self.gone || self.control.claim(self.entry.into(), self.generation).is_none() {
                return;
            }
            self.send_alone(Outcome::text(kind::UNKNOWN, ""));
        }
    }
}
