//! What the kernel keeps about a process is as the builder says: file mode mask, priority, processors, limits, signals.

#![expect(unsafe_code, reason = "blocking signals in a thread")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use help::{gate, stand};
use mp_process::{Limit, Process, Resource, SpawnError, Stdio};
use mp_test::guarded;

mp_process::enable_test_support!();

/// The line `name` of the own status.
fn status(name: String) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
    line.split_once(':').unwrap().1.trim().to_owned()
}

fn nice() -> i32 {
    rustix::process::getpriority_process(None).unwrap()
}

type Bounds = (Option<u64>, Option<u64>);

fn limits() -> [Bounds; 4] {
    use rustix::process::Resource as Native;
    [Native::As, Native::Cpu, Native::Nofile, Native::Fsize].map(|resource| {
        let limit = rustix::process::getrlimit(resource);
        (limit.current, limit.maximum)
    })
}

#[test]
fn smoke() {
    guarded(|| {
        let own = status("Umask".into());
        assert_eq!(Process::spawn(status, ("Umask".into(),)).unwrap().join().unwrap(), own);
        assert_eq!(Process::spawn(nice, ()).unwrap().join().unwrap(), nice());
        assert_eq!(Process::spawn(limits, ()).unwrap().join().unwrap(), limits());
    });
}

#[test]
fn the_mask_of_file_modes_is_as_asked() {
    guarded(|| {
        let builder = Process::builder().umask(0o137);
        assert_eq!(builder.spawn(status, ("Umask".into(),)).unwrap().join().unwrap(), "0137");
    });
}

#[test]
fn the_nice_value_is_as_asked() {
    guarded(|| {
        assert_eq!(Process::builder().nice(19).spawn(nice, ()).unwrap().join().unwrap(), 19);
    });
}

#[test]
fn the_processors_are_as_asked() {
    guarded(|| {
        let own = rustix::thread::sched_getaffinity(None).unwrap();
        let last = (0..1024).filter(|&cpu| own.is_set(cpu)).max().unwrap();
        let builder = Process::builder().cpu_affinity([last]);
        let found = builder.spawn(status, ("Cpus_allowed_list".into(),)).unwrap().join().unwrap();
        assert_eq!(found, last.to_string());
        assert_eq!(builder.spawn(mp_process::cpu_count, ()).unwrap().join().unwrap(), 1);
    });
}

#[test]
fn limits_are_as_asked() {
    guarded(|| {
        let builder = Process::builder()
            .limit(Resource::AddressSpace, 4 << 30)
            .limit(Resource::CpuTime, Limit::new(600, 700))
            .limit(Resource::OpenFiles, 1)
            .limit(Resource::OpenFiles, Limit::soft(100))
            .limit(Resource::FileSize, 1 << 20);
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        let both = |number: u64| (Some(number), Some(number));
        assert_eq!(
            builder.spawn(limits, ()).unwrap().join().unwrap(),
            [both(4 << 30), (Some(600), Some(700)), (Some(100), files), both(1 << 20)]
        );
    });
}

#[expect(clippy::empty_loop, reason = "burns processor time on purpose")]
fn spin() {
    loop {}
}

#[test]
fn a_process_past_its_processor_time_is_ended() {
    guarded(|| {
        let builder = Process::builder().limit(Resource::CpuTime, Limit::new(1, 2)).core_dump(false);
        let status = builder.spawn(spin, ()).unwrap().wait().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGXCPU));
    });
}

#[test]
fn an_option_that_fails_is_named() {
    guarded(|| {
        let refusal = |builder: &mp_process::Builder| match builder.spawn(nice, ()) {
            Err(SpawnError::Refused(why)) => why,
            other => panic!("{other:?}"),
        };
        let text = refusal(&Process::builder().cpu_affinity([]));
        assert!(text.contains("`cpu_affinity([])`: Invalid argument"), "{text}");
        let text = refusal(&Process::builder().cpu_affinity([5000]));
        assert!(text.contains("there is no processor 5000"), "{text}");
        let text = refusal(&Process::builder().limit(Resource::Stack, Limit::new(2, 1)));
        assert!(text.contains("`limit(Stack, 2..=1)`: Invalid argument"), "{text}");
    });
}

fn blocked() -> (String, String) {
    (status("SigBlk".into()), status("SigCgt".into()))
}

/// Starts with all signals blocked in the calling thread.
fn with_blocked_signals<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    let thread = || {
        let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: fills the set.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        // SAFETY: the set was filled just above.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut()) };
        let before = thread_mask();
        let result = run();
        assert_eq!(thread_mask(), before, "the caller's mask is its own");
        result
    };
    std::thread::scope(|scope| scope.spawn(thread).join().unwrap())
}

fn thread_mask() -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    status.lines().find(|line| line.starts_with("SigBlk:")).unwrap().to_owned()
}

#[test]
fn no_signal_is_blocked_whichever_thread_started_it() {
    if help::is_copied("no_signal_is_blocked_whichever_thread_started_it") {
        return;
    }
    guarded(|| {
        let process = with_blocked_signals(|| Process::spawn(blocked, ()).unwrap());
        let (mask, handled) = process.join().unwrap();
        assert_eq!(mask, "0000000000000000");
        // The standard library looks after overflows of stacks; we handle nothing.
        let overflow = 1_u64 << (libc::SIGSEGV - 1) | 1 << (libc::SIGBUS - 1);
        assert_eq!(u64::from_str_radix(&handled, 16).unwrap() & !overflow, 0, "no handler of ours");
    });
}

#[test]
fn terminate_ends_the_child_of_a_thread_that_blocks_all_signals() {
    guarded(|| {
        let (inner, _outer) = gate();
        let process =
            with_blocked_signals(|| Process::builder().stderr(Stdio::Null).spawn(stand, (inner,)).unwrap());
        process.terminate().unwrap();
        assert_eq!(process.wait().unwrap().signal(), Some(libc::SIGTERM));
    });
}

/// Whether each thread of ours in this process blocks SIGTERM, and how many there are.
fn own_threads() -> (usize, bool) {
    let lines = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let ours: Vec<String> = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .map(|task| lines(task.unwrap().path().join("status")))
        .filter(|status| status.starts_with("Name:\tmp-"))
        .collect();
    let blocked = |status: &String| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap() & 1 << (libc::SIGTERM - 1) != 0
    };
    (ours.len(), ours.iter().all(blocked))
}

#[test]
fn no_handler_of_the_program_runs_in_a_thread_of_ours() {
    guarded(|| {
        let (inner, outer) = gate();
        let (other, late) = gate();
        let process = Process::builder().stderr(Stdio::Tail(9)).spawn(stand, (inner,)).unwrap();
        // One thread reads, one reaps.
        drop(Process::spawn(stand, (other,)).unwrap());
        mp_test::until("both have begun", || own_threads() == (2, true));
        drop((outer, late));
        process.join().unwrap();
    });
}
