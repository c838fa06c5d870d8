//! Spinning, sleeping and waking across processes.
//!
//! A futex word here has no private flag, so that it works between processes. Every sleep is bounded by a slice: the
//! caller loops and reads the truth again, because a wake can be lost to its sender's death after the store, or to the
//! death of the one it woke.

use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::thread::futex::{self, Flags};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Sleeps while `word` holds `expected`, at most `slice`. May return early for no reason.
///
/// The kernel compares the word and goes to sleep as one step, so a store followed by [`wake`] is never missed.
#[inline]
pub fn sleep(word: &AtomicU32, expected: u32, slice: Duration) {
    if word.load(Ordering::Acquire) != expected {
        return;
    }
    let slice = timespec(slice);
    match futex::wait(word, Flags::empty(), expected, Some(&slice)) {
        Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => {}
        Err(error) => debug_assert!(false, "futex wait: {error}"),
    }
}

/// Wakes up to `count` sleepers on `word`; returns how many.
///
/// Inline, as what calls it is where it can be: on one core the woken runs at once, and the first return out of a function after
/// that switch goes to a place that nobody foresaw, which takes a quarter of a microsecond.
#[inline]
pub fn wake(word: &AtomicU32, count: u32) -> usize {
    // The kernel takes the count as a signed number.
    futex::wake(word, Flags::empty(), count.min(i32::MAX.cast_unsigned())).unwrap_or(0)
}

/// Asks for the cache line of `word` as one that is about to be written: where another core has it, it then comes once, not a first
/// time to be read and a second time to be written. Changes nothing else; on processors other than x86-64 it does nothing.
#[inline]
pub fn will_write(word: &AtomicU32) {
    sys::will_write(word);
}

/// Sleeps until one of `fds` is readable (or hung up), at most `slice`; `None` sleeps until then.
///
/// # Errors
///
/// What `poll` says; an interruption by a signal is no error and returns early.
pub fn sleep_on_fds(fds: &[BorrowedFd<'_>], slice: Option<Duration>) -> io::Result<bool> {
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    poll_once(&mut polled, slice)
}

/// As [`sleep_on_fds`] for any events; true when at least one is ready.
///
/// # Errors
///
/// What `poll` says; an interruption by a signal is no error and returns early.
pub fn poll_once(polled: &mut [PollFd<'_>], slice: Option<Duration>) -> io::Result<bool> {
    let slice = slice.map(timespec);
    match poll(polled, slice.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A duration as the kernel takes it; what does not fit is as good as for ever.
#[must_use]
pub fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX >> 1),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// Prepares this process for [`light_barrier`]; false where the kernel lacks the means, and full fences are needed.
///
/// "Publish, then look whether the peer sleeps" needs a store to become visible before a later load, on each message. The
/// kernel offers to pay for that on the sleeper's side alone, who is slow anyway: his [`heavy_barrier`] makes every
/// running thread of every registered process pass a full barrier.
#[must_use]
pub fn register_light_barrier() -> bool {
    // A forked child inherits the registration together with the memory.
    static REGISTERED: Answer = Answer::new();
    REGISTERED.get(sys::register_barrier)
}

/// The cheap side, before the load: only the compiler is kept from reordering.
#[inline]
pub fn light_barrier() {
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
}

/// The expensive side, between the store that announces a sleep and the last look.
pub fn heavy_barrier() {
    std::sync::atomic::fence(Ordering::SeqCst);
    sys::barrier_everywhere();
}

/// A clock that costs a few nanoseconds and counts at some hundred million to a few billion per second: good for "was that
/// just now", nothing else.
#[inline]
#[must_use]
pub fn ticks() -> u64 {
    sys::ticks()
}

/// The core that this thread runs on now.
#[must_use]
pub fn core() -> u32 {
    u32::try_from(rustix::thread::sched_getcpu()).unwrap_or(u32::MAX)
}

/// How many cores this process may use; spinning for a peer makes sense only from two on.
#[must_use]
pub fn usable_cores() -> u32 {
    // Zero before anybody has asked; whoever asks at once gets the same.
    static CORES: AtomicU32 = AtomicU32::new(0);
    let mut cores = CORES.load(Ordering::Relaxed);
    if cores == 0 {
        cores = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count()).max(1);
        CORES.store(cores, Ordering::Relaxed);
    }
    cores
}

/// A yes or no of this process that is asked for once, or by several threads at the same time, who get the same. Nobody waits for anybody: in
/// a forked child, the thread that had asked first is not there any more.
#[derive(Debug, Default)]
pub struct Answer(AtomicU32);

impl Answer {
    /// Not asked for yet.
    #[must_use]
    pub const fn new() -> Answer {
        Answer(AtomicU32::new(0))
    }

    /// The answer, by `ask` if there is none yet.
    #[inline]
    pub fn get(&self, ask: impl FnOnce() -> bool) -> bool {
        match self.0.load(Ordering::Relaxed) {
            0 => {
                let answer = ask();
                self.0.store(1 + u32::from(answer), Ordering::Relaxed);
                answer
            }
            known => known == 2,
        }
    }
}

/// Spins for a while before a sleep, as long as that has lately paid.
///
/// | credit | a wait | found soon | found late | not found |
/// | --- | --- | --- | --- | --- |
/// | 1 to 4 | spins first | credit + 2, at most 4 | as before | credit - 1 |
/// | 0 | sleeps at once, but for a trial now and then | credit 2 | credit 1 | the next trial after twice as many waits |
///
/// The budget is about what a wake across cores costs. A shorter one has a slow gait that it never leaves: both sides sleep, each
/// wake takes longer than the other side spins, so both sleep again. Once a trial finds a peer that is just being woken, late, it goes on until the
/// peer has a trial too, and from then on both answer soon. It is a time, not a count of pauses, which last 4 to 140 cycles by processor.
///
/// Soon is what costs less than to sleep and be woken. Where more processes want to run than there are cores, a peer that has to wait for his turn
/// is found late or not at all, and whoever spins for him keeps a core from those who have something to do: that earns nothing, and the trials
/// become few. Nobody spins for a peer on his own core, where the peer cannot run meanwhile, nor on a machine with one.
#[derive(Debug)]
pub struct Spin {
    credit: u8,
    /// How many waits were without a trial, and after how many there is one.
    passed_over: u16,
    trial_after: u16,
}

impl Default for Spin {
    fn default() -> Spin {
        Spin { credit: Spin::CREDIT, passed_over: 0, trial_after: Spin::TRIAL }
    }
}

impl Spin {
    /// The longest spin.
    pub const MOST: Duration = Duration::from_micros(50);
    const SOON: Duration = Duration::from_micros(8);
    const CREDIT: u8 = 4;
    const TRIAL: u16 = 32;
    const TRIAL_MOST: u16 = 1024;

    /// Spins until `done` says so; false when it did not within the budget.
    ///
    /// `peer_core` is the core on which the peer was last seen, [`u32::MAX`] where unknown.
    pub fn until(&mut self, peer_core: u32, mut done: impl FnMut() -> bool) -> bool {
        if done() {
            return true;
        }
        // A process that is bound to one core still spins for a peer that is known to run on another.
        if peer_core == core() || (usable_cores() < 2 && peer_core == u32::MAX) || !self.is_worth_it() {
            return false;
        }
        let found = spin(done);
        self.learn(found);
        found.is_some()
    }

    fn is_worth_it(&mut self) -> bool {
        if self.credit > 0 {
            return true;
        }
        self.passed_over += 1;
        let trial = self.passed_over >= self.trial_after;
        if trial {
            self.passed_over = 0;
        }
        trial
    }

    /// After a spin that found what it waited for so long, or did not.
    fn learn(&mut self, found: Option<Duration>) {
        match found {
            Some(after) if after <= Spin::SOON => {
                self.credit = Spin::CREDIT.min(self.credit + 2);
                self.trial_after = Spin::TRIAL;
            }
            Some(_) => self.credit = self.credit.max(1),
            None if self.credit == 0 => self.trial_after = Spin::TRIAL_MOST.min(self.trial_after * 2),
            None => self.credit -= 1,
        }
    }
}

/// Spins until `done`, within the budget; after how long that was.
fn spin(mut done: impl FnMut() -> bool) -> Option<Duration> {
    let start = Instant::now();
    let mut spun = Duration::ZERO;
    loop {
        for _ in 0..16 {
            std::hint::spin_loop();
            if done() {
                return Some(spun);
            }
        }
        spun = start.elapsed();
        if spun >= Spin::MOST {
            return None;
        }
    }
}

/// Lets more messages come before they are looked at again.
///
/// The look that finds a message takes the cache line away which the other side needs for the next one. Where the taker is the faster
/// side each look finds one or two, and both go at the pace of that line: several times slower than the one who waits for nobody.
/// So a taker who finds few waits for a moment, if there were more after it the last time.
///
/// | state | found few, then | becomes |
/// | --- | --- | --- |
/// | `pauses` | none more | apart, with the fewest pauses |
/// | | some more | twice the pauses, up to the most |
/// | | many more | the same |
/// | apart | not waited | after 256 times: the fewest pauses |
///
/// So what comes one by one, as answers do, is waited for in vain each 256th time.
#[derive(Clone, Copy, Debug)]
pub struct Gather {
    pauses: u8,
    apart: u8,
}

impl Default for Gather {
    fn default() -> Gather {
        Gather { pauses: Gather::FEWEST, apart: 0 }
    }
}

impl Gather {
    const FEWEST: u8 = 8;
    const MOST: u8 = 64;
    /// Found in one look, these are few.
    const FEW: u64 = 4;
    /// As many more are worth the wait.
    const MANY: u64 = 16;

    /// How many there are, after a look that showed `found` of which `known` is not yet taken; `look` shows it once more.
    #[inline]
    #[must_use]
    pub fn more(&mut self, found: u64, known: u64, look: impl FnOnce() -> u64) -> u64 {
        if known >= Gather::FEW {
            return found;
        }
        if self.apart > 0 {
            self.apart -= 1;
            return found;
        }
        self.wait_for_more(found, look)
    }

    #[cold]
    fn wait_for_more(&mut self, found: u64, look: impl FnOnce() -> u64) -> u64 {
        (0..self.pauses).for_each(|_| std::hint::spin_loop());
        let now = look();
        match now.wrapping_sub(found) {
            0 => *self = Gather { pauses: Gather::FEWEST, apart: u8::MAX },
            1..Gather::MANY => self.pauses = Gather::MOST.min(self.pauses * 2),
            _ => {}
        }
        now
    }

    /// Both numbers as one, for a word that threads share.
    #[inline]
    #[must_use]
    pub const fn pack(self) -> u16 {
        u16::from_le_bytes([self.pauses, self.apart])
    }

    /// What was [`pack`](Gather::pack)ed.
    #[inline]
    #[must_use]
    pub const fn unpack(packed: u16) -> Gather {
        let [pauses, apart] = packed.to_le_bytes();
        Gather { pauses, apart }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_word_does_not_sleep() {
        sleep(&AtomicU32::new(1), 0, Duration::from_secs(3600));
    }

    #[test]
    fn a_slice_ends_without_a_wake() {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(5) {
            sleep(&AtomicU32::new(0), 0, Duration::from_millis(5));
        }
    }

    /// Whether a wait with nothing to find spins; only where spinning can pay at all.
    fn spins(spin: &mut Spin) -> bool {
        let mut looks = 0;
        spin.until(u32::MAX - 1, || {
            looks += 1;
            false
        });
        looks > 1
    }

    #[test]
    fn a_spin_that_never_pays_stops_and_is_tried_now_and_then() {
        let mut spin = Spin::default();
        assert_eq!((0..4).filter(|_| spins(&mut spin)).count(), 4);
        // After 32 waits, 64 more, 128, 256, 512, then after each 1024.
        let trials: Vec<u32> = (1..=4064).filter(|_| spins(&mut spin)).collect();
        assert_eq!(trials, [32, 96, 224, 480, 992, 2016, 3040, 4064]);
    }

    #[test]
    fn what_is_found_late_keeps_a_spin_going_but_earns_nothing() {
        let mut spin = Spin { credit: 0, ..Spin::default() };
        for _ in 0..10 {
            spin.learn(Some(Spin::MOST));
            assert_eq!(spin.credit, 1);
        }
        spin.learn(None);
        assert!(!spins(&mut spin));
    }

    #[test]
    fn a_trial_that_pays_starts_it_again() {
        let mut spin = Spin { credit: 0, passed_over: Spin::TRIAL - 1, ..Spin::default() };
        let mut looks = 0;
        assert!(spin.until(u32::MAX - 1, || {
            looks += 1;
            looks > 3
        }));
        assert!(spins(&mut spin) && spins(&mut spin) && !spins(&mut spin));
    }

    #[test]
    fn what_comes_one_by_one_is_seldom_waited_for() {
        let (mut gather, mut looks) = (Gather::default(), 0);
        for _ in 0..2560 {
            let found = gather.more(7, 1, || {
                looks += 1;
                7
            });
            assert_eq!(found, 7);
            gather = Gather::unpack(gather.pack());
        }
        assert_eq!(looks, 10);
    }

    #[test]
    fn who_gathers_waits_longer_while_it_brings_more() {
        let mut gather = Gather::default();
        for n in 0..10 {
            assert_eq!(gather.more(n, 1, || n + 1), n + 1);
        }
        assert_eq!((gather.pauses, gather.apart), (Gather::MOST, 0));
        // Enough is there already.
        assert_eq!(gather.more(9, Gather::FEW, || unreachable!("not looked at")), 9);
    }

    #[test]
    fn nobody_spins_for_a_peer_on_his_own_core() {
        let mut looks = 0;
        let before = core();
        Spin::default().until(before, || {
            looks += 1;
            false
        });
        // The scheduler may have moved this thread meanwhile.
        assert!(looks == 1 || core() != before || looks > 1 && usable_cores() > 1);
    }
}
