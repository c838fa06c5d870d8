//! Every wait of every type, whatever interrupts it, on a clock that nobody sets.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(unsafe_code, reason = "signals to a thread")]

mod help;

use help::start;
use mp_lock::{
    AcquireTimeoutError, Barrier, BarrierError, Condition, Event, Lock, LockError, Mutex, Once, RLock,
    RwLock, Semaphore,
};
use mp_test::{guarded, role, say};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

type Hold = dyn Fn(&dyn Fn()) + Send + Sync;

/// One kind of wait: for so long at most, whether it got what it waited for; and what lets it go.
struct Wait {
    name: &'static str,
    wait: Box<dyn Fn(Duration) -> bool + Send + Sync>,
    /// Holds what is waited for until it returns.
    hold: Box<Hold>,
    /// After the holding: lets go what only an act lets go.
    release: Box<dyn Fn() + Send + Sync>,
}

fn timed<G>(outcome: Result<G, AcquireTimeoutError<impl Sized>>) -> bool {
    match outcome {
        Ok(_) => true,
        Err(AcquireTimeoutError::TimedOut) => false,
        Err(error) => panic!("{error}"),
    }
}

fn nothing() {}

macro_rules! held {
    ($name:literal, $new:expr, $wait:ident, $hold:ident) => {{
        let (waited, held) = {
            let one = $new.unwrap();
            (one.clone(), one)
        };
        Wait {
            name: $name,
            wait: Box::new(move |timeout| timed(waited.$wait(timeout))),
            hold: Box::new(move |during| {
                let _guard = held.$hold().unwrap();
                during();
            }),
            release: Box::new(nothing),
        }
    }};
}

fn all() -> Vec<Wait> {
    let semaphore = Semaphore::new(1).unwrap();
    let (condition, lock) = (Condition::new().unwrap(), Lock::new().unwrap());
    let event = Event::new().unwrap();
    let polled = Event::new().unwrap();
    let barrier = Barrier::new(2).unwrap();
    vec![
        held!("Lock", Lock::new(), acquire_timeout, acquire),
        held!("RLock", RLock::new(), acquire_timeout, acquire),
        held!("Mutex", Mutex::new(1_u8), acquire_timeout, acquire),
        held!("RwLock, reading", RwLock::new(1_u8), read_timeout, write),
        held!("RwLock, writing", RwLock::new(1_u8), write_timeout, read),
        {
            let held = semaphore.clone();
            Wait {
                name: "Semaphore",
                wait: Box::new(move |timeout| match semaphore.acquire_timeout(timeout) {
                    Ok(_) => true,
                    Err(error) => error != LockError::TimedOut,
                }),
                hold: Box::new(move |during| {
                    let _permit = held.acquire();
                    during();
                }),
                release: Box::new(nothing),
            }
        },
        {
            let told = condition.clone();
            Wait {
                name: "Condition",
                wait: Box::new(move |timeout| {
                    condition.wait_timeout(&mut lock.acquire().unwrap(), timeout).unwrap()
                }),
                hold: Box::new(|during| during()),
                release: Box::new(move || told.notify_all()),
            }
        },
        {
            let set = event.clone();
            Wait {
                name: "Event",
                wait: Box::new(move |timeout| event.wait_timeout(timeout)),
                hold: Box::new(|during| during()),
                release: Box::new(move || set.set()),
            }
        },
        {
            let set = polled.clone();
            Wait {
                name: "Event, by its descriptor",
                wait: Box::new(move |timeout| !mp_lock::wait(&[&polled], Some(timeout)).unwrap().is_empty()),
                hold: Box::new(|during| during()),
                release: Box::new(move || set.set()),
            }
        },
        {
            let met = barrier.clone();
            Wait {
                name: "Barrier",
                wait: Box::new(move |timeout| match barrier.wait_timeout(timeout) {
                    Ok(_) => true,
                    Err(BarrierError::TimedOut) => {
                        barrier.reset();
                        false
                    }
                    Err(error) => panic!("{error}"),
                }),
                hold: Box::new(|during| during()),
                release: Box::new(move || assert!(met.wait().is_ok())),
            }
        },
    ]
}

/// How many signals were caught.
static CAUGHT: AtomicU32 = AtomicU32::new(0);

/// Runs `act` in a thread that a signal interrupts all the time.
fn bombarded<R: Send>(act: impl FnOnce() -> R + Send) -> (R, u32) {
    extern "C" fn catch(_: libc::c_int) {
        CAUGHT.fetch_add(1, SeqCst);
    }
    // SAFETY: an all-zero action is valid: no flags, so that interrupted calls are not begun again.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = catch as extern "C" fn(libc::c_int) as usize;
    // SAFETY: the handler only adds to an atomic.
    assert_eq!(unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) }, 0);
    let (thread_id, done) = (AtomicU32::new(0), AtomicBool::new(false));
    let before = CAUGHT.load(SeqCst);
    let result = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            thread_id.store(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned(), SeqCst);
            let result = act();
            done.store(true, SeqCst);
            result
        });
        while !done.load(SeqCst) {
            let to = thread_id.load(SeqCst);
            if to != 0 {
                // SAFETY: a signal with a handler, to a thread of this process, or to none when it has ended.
                unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), to, libc::SIGUSR1) };
            }
            thread::sleep(Duration::from_micros(500));
        }
        thread.join().unwrap()
    });
    (result, CAUGHT.load(SeqCst) - before)
}

/// A signal ends no wait, neither early nor with an error.
#[test]
fn a_signal_interrupts_no_wait() {
    if role().is_some() {
        for wait in all() {
            let timeout = Duration::from_millis(250);
            (wait.hold)(&|| {
                // On a busy machine a wait may be over before a signal has come.
                let mut caught = 0;
                while caught == 0 {
                    let start = Instant::now();
                    let (ended, signals) = bombarded(|| (wait.wait)(timeout));
                    assert!(!ended, "{}", wait.name);
                    assert!(start.elapsed() >= timeout, "{} ended early", wait.name);
                    caught = signals;
                }
            });
        }
        let once = Once::new().unwrap();
        thread::scope(|scope| {
            let (begun, begins) = std::sync::mpsc::channel();
            let once = &once;
            scope.spawn(move || {
                once.call_once(|| {
                    begun.send(()).unwrap();
                    // Not for a time: the other may come to its wait only when that is over.
                    let before = CAUGHT.load(SeqCst);
                    while CAUGHT.load(SeqCst) < before + 20 {
                        thread::sleep(Duration::from_millis(1));
                    }
                })
                .unwrap();
            });
            begins.recv().unwrap();
            let ((), caught) = bombarded(|| once.call_once(|| panic!("it was done")).unwrap());
            assert!(caught > 0, "nothing was interrupted");
        });
        say("lasted");
        return;
    }
    guarded(|| {
        let mut process = start("a_signal_interrupts_no_wait", "waiter", &0_u8);
        process.expect("lasted");
        assert!(process.wait().success());
    });
}

#[test]
fn a_time_out_of_999_ms_is_one_of_999_ms() {
    guarded(|| {
        let timeout = Duration::from_millis(999);
        thread::scope(|scope| {
            for wait in all() {
                scope.spawn(move || {
                    (wait.hold)(&|| {
                        let start = Instant::now();
                        thread::scope(|scope| {
                            scope.spawn(|| assert!(!(wait.wait)(timeout), "{}", wait.name));
                        });
                        assert!(start.elapsed() >= timeout, "{} ended early", wait.name);
                    });
                });
            }
        });
    });
}

/// The longest time-out waits for ever, and ends when what was waited for comes.
#[test]
fn the_longest_time_out_is_none() {
    guarded(|| all().iter().for_each(|wait| drop(seen_asleep(wait, Duration::MAX))));
}

/// Waits for so long at most, and is let go when it is seen asleep, however long that takes; the call that it slept in.
fn seen_asleep(wait: &Wait, timeout: Duration) -> Vec<String> {
    thread::scope(|scope| {
        let (at, from) = std::sync::mpsc::channel();
        let seen = std::sync::Mutex::new(None);
        (wait.hold)(&|| {
            let at = at.clone();
            let waiter = scope.spawn(move || {
                at.send(rustix::thread::gettid().as_raw_nonzero()).unwrap();
                (wait.wait)(timeout)
            });
            let call = sleeps(&from.recv().unwrap().to_string());
            *seen.lock().unwrap() = Some((waiter, call));
        });
        (wait.release)();
        let (waiter, call) = seen.into_inner().unwrap().unwrap();
        assert!(waiter.join().unwrap(), "{}", wait.name);
        call
    })
}

/// Waits until the thread sleeps; the operation and its arguments.
fn sleeps(thread: &str) -> Vec<String> {
    let mut call = Vec::new();
    mp_test::until("the waiter sleeps", || {
        let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall")).unwrap_or_default();
        call = text.split_whitespace().map(str::to_owned).collect();
        let number = call.first().and_then(|word| word.parse::<i64>().ok());
        number == Some(libc::SYS_futex) || number == Some(libc::SYS_ppoll) || number == Some(libc::SYS_poll)
    });
    call
}

/// A step of the wall clock moves no time-out: no sleep is on it.
#[test]
fn no_sleep_is_on_the_wall_clock() {
    const ON_THE_WALL_CLOCK: u64 = 256;
    guarded(|| {
        for wait in all() {
            let call = seen_asleep(&wait, Duration::from_secs(3600));
            if call[0] == libc::SYS_futex.to_string() {
                let operation = u64::from_str_radix(call[2].trim_start_matches("0x"), 16).unwrap();
                assert_eq!(operation & ON_THE_WALL_CLOCK, 0, "{}: futex {operation:#x}", wait.name);
            }
        }
    });
}
