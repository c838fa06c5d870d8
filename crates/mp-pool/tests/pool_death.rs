//! What a pool does when its workers die: each task ends exactly once, and rightly.

use mp_core::step::{self, Action};
use mp_pool::{Cause, Pool, Retry, TaskError, attempt};
use mp_shm::Array;
use mp_test::{Role, guarded_with_orphans};
use rustix::process::{Pid, Signal, getpid, kill_process};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

mod methods;

use methods::guarded;

mp_pool::enable_test_support!();

fn pid() -> u32 {
    std::process::id()
}

fn square(n: u64) -> u64 {
    n * n
}

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a signal");
    // It may have ended meanwhile.
    let _ = kill_process(pid, signal);
}

fn raise(number: i32) {
    let signal = Signal::from_named_raw(number).expect("a signal");
    kill_process(getpid(), signal).expect("a signal");
    loop {
        std::thread::park();
    }
}

#[expect(clippy::disallowed_methods, reason = "tasks that exit")]
fn exit(code: i32) {
    std::process::exit(code);
}

fn hang() {
    loop {
        std::thread::park();
    }
}

fn cause<R: std::fmt::Debug>(result: Result<R, TaskError>) -> Cause {
    match result {
        Err(TaskError::WorkerDied { cause, .. }) => cause,
        other => panic!("{other:?}"),
    }
}

#[test]
fn smoke() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        assert_eq!(cause(pool.apply(exit, (3,))), Cause::Exit(3));
        assert_eq!(pool.apply(square, (9,)).unwrap(), 81);
    });
}

#[test]
fn each_death_has_its_cause_and_the_good_tasks_go_on() {
    fn abort() {
        eprintln!("these are my last words");
        std::process::abort();
    }
    fn grow(depth: u64) -> u64 {
        let page = std::hint::black_box([depth; 512]);
        if depth == u64::MAX { 0 } else { grow(std::hint::black_box(page[7]) + 1) + page[3] }
    }
    guarded(|| {
        let pool = Pool::new(3).unwrap();
        let good: Vec<_> = (0..100).map(|n| pool.apply_async(square, (n,))).collect();
        // An exit is no success, whatever its code.
        assert_eq!(cause(pool.apply(exit, (0,))), Cause::Exit(0));
        assert_eq!(cause(pool.apply(exit, (77,))), Cause::Exit(77));
        for number in [Signal::SEGV, Signal::KILL, Signal::TERM, Signal::ILL].map(Signal::as_raw) {
            let expected = Cause::Signal { number, core: false };
            assert_eq!(cause(pool.apply(raise, (number,))), expected);
        }
        match pool.apply(abort, ()) {
            Err(TaskError::WorkerDied { cause: Cause::Signal { number: 6, .. }, report }) => {
                assert!(report.stderr.contains("these are my last words"), "{report:?}");
            }
            other => panic!("{other:?}"),
        }
        // Told apart where the standard library's handler is there: not in a process taken over before `main`.
        let overflow = cause(pool.apply(grow, (0,)));
        assert!(
            matches!(overflow, Cause::StackOverflow | Cause::Signal { number: 11 | 6, .. }),
            "{overflow:?}"
        );
        for (n, result) in (0..100_u64).zip(good) {
            assert_eq!(result.get().unwrap(), n * n);
        }
        pool.close();
        pool.join().unwrap();
    });
}

#[test]
fn a_worker_past_its_memory_limit_is_told_as_such() {
    fn hoard() -> usize {
        let mut all = Vec::new();
        loop {
            all.push(std::hint::black_box(vec![1_u8; 8 << 20]));
            if all.len() > 100_000 {
                return all.len();
            }
        }
    }
    fn deep(frames: u32) -> usize {
        std::hint::black_box(if frames == 0 { vec![1_u8; 1 << 40].len() } else { deep(frames - 1) })
    }
    guarded(|| {
        // With a backtrace behind the line that tells of it, which is longer than a page.
        for backtrace in ["0", "full"] {
            let builder = Pool::builder().workers(2).env("RUST_BACKTRACE", backtrace);
            let pool = builder.memory_limit(256 << 20).build().unwrap();
            assert_eq!(cause(pool.apply(hoard, ())), Cause::Memory, "backtrace: {backtrace}");
            assert_eq!(cause(pool.apply(deep, (100,))), Cause::Memory, "backtrace: {backtrace}");
            assert_eq!(pool.apply(square, (4,)).unwrap(), 16);
        }
    });
}

/// The next worker that reaches `number` dies there; the task that arms it passes its own steps before.
fn arm(number: u32) -> u32 {
    step::arm("pool.worker", number, Action::Kill, u32::from(number > 2));
    std::process::id()
}

/// Writes its pid over the first bytes.
fn sign(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[..4].copy_from_slice(&std::process::id().to_ne_bytes());
    bytes
}

/// Who signed what were `length` sevens.
fn signer(bytes: &[u8], length: usize) -> u32 {
    let (pid, rest) = bytes.split_first_chunk().expect("four bytes");
    assert!(bytes.len() == length && rest.iter().all(|byte| *byte == 7));
    u32::from_ne_bytes(*pid)
}

#[test]
fn a_kill_at_each_step_of_a_task_has_the_documented_end() {
    if !mp_test::steps_or_say(step::enabled(), "a_kill_at_each_step_of_a_task_has_the_documented_end") {
        return;
    }
    guarded(|| {
        let ("pool.worker", steps) = ("pool.worker", 1..=4) else { unreachable!() };
        // Large arguments and results go another way.
        for (number, length) in steps.flat_map(|number| [(number, 4), (number, 300_000)]) {
            let pool = Pool::new(1).unwrap();
            let armed = pool.apply(arm, (number,)).unwrap();
            // The first task meets the step; the two behind it are there already when it does, or not: they never see a death.
            let results: Vec<_> = (0..3).map(|_| pool.apply_async(sign, (vec![7; length],))).collect();
            let mut results =
                results.into_iter().map(|result| result.get().map(|bytes| signer(&bytes, length)));
            match (number, results.next().unwrap()) {
                // Never started: it ran in the next worker.
                (1, Ok(pid)) => assert_ne!(pid, armed),
                (2 | 3, Err(TaskError::WorkerDied { cause: Cause::Signal { number: 9, .. }, .. })) => {}
                // The result was there.
                (4, Ok(pid)) => assert_eq!(pid, armed),
                (_, other) => panic!("step {number}: {other:?}"),
            }
            for result in results {
                assert_ne!(result.unwrap(), armed, "step {number}");
            }
        }
    });
}

/// Item 5 arms step `number` while it runs: the steps behind it are its own, the claim is the next item's.
fn square_and_arm(args: (u32, u32)) -> u64 {
    let (item, number) = args;
    if item == 5 && attempt() == 0 {
        step::arm("pool.pack", number, Action::Kill, 0);
    }
    u64::from(item) * u64::from(item)
}

/// So slowly that each item's result is published before the next is begun.
fn square_slowly_and_arm(args: (u32, u32)) -> u64 {
    std::thread::sleep(Duration::from_millis(2));
    square_and_arm(args)
}

#[test]
fn what_a_pack_has_published_is_not_taken_from_the_slate_again() {
    let test = "what_a_pack_has_published_is_not_taken_from_the_slate_again";
    if !mp_test::steps_or_say(step::enabled(), test) {
        return;
    }
    guarded(|| {
        for number in [3, 4, 5] {
            let pool = Pool::new(1).unwrap();
            let items = (0..20).map(|item| (item, number));
            let results = pool.task(square_slowly_and_arm).chunk_size(20).try_map(items);
            for (item, result) in (0_u64..).zip(results) {
                assert_eq!(result.unwrap(), item * item, "step {number}");
            }
            assert_eq!(pool.stats().started, 2, "step {number}: nobody was killed");
        }
    });
}

#[test]
fn a_kill_at_each_step_of_a_pack_costs_at_most_the_item_that_ran() {
    let test = "a_kill_at_each_step_of_a_pack_costs_at_most_the_item_that_ran";
    if !mp_test::steps_or_say(step::enabled(), test) {
        return;
    }
    guarded(|| {
        let ("pool.pack", steps) = ("pool.pack", 1..=5) else { unreachable!() };
        for number in steps {
            let pool = Pool::new(1).unwrap();
            let items = || (0..40).map(|item| (item, number));
            let results = pool.task(square_and_arm).chunk_size(40).try_map(items());
            // Armed while item 5 runs: the next claim is item 6's, its own result is the next to be noted.
            let lost = match number {
                1 => Some(6),
                2 => Some(5),
                _ => None,
            };
            for (item, result) in (0_u64..).zip(results) {
                match result {
                    Ok(value) => {
                        assert_eq!((value, Some(item) != lost), (item * item, true), "step {number}")
                    }
                    Err(error) => {
                        assert_eq!(Some(item), lost, "step {number}: {error}");
                        assert!(matches!(error, TaskError::WorkerDied { .. }), "step {number}: {error}");
                    }
                }
            }
            let retried = pool.task(square_and_arm).chunk_size(40).retry(Retry::times(1)).map(items());
            assert_eq!(retried.unwrap(), (0..40).map(|item| item * item).collect::<Vec<u64>>());
        }
    });
}

#[test]
fn an_item_that_dies_or_panics_in_a_pack_fails_alone() {
    fn fickle(item: u64) -> u64 {
        match item {
            700 => panic!("no"),
            1300 => exit(9),
            _ => {}
        }
        item + 1
    }
    fn text(item: String) -> String {
        if item == "77" {
            exit(3);
        }
        // Some do not fit where results are gathered.
        item.repeat(if item == "50" { 20_000 } else { 1 })
    }
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        for (item, result) in (0_u64..).zip(pool.try_map(fickle, 0..20_000_u64)) {
            match (item, result) {
                (700, Err(TaskError::Panicked(_))) => {}
                (1300, Err(TaskError::WorkerDied { cause: Cause::Exit(9), .. })) => {}
                (_, Ok(value)) => assert_eq!(value, item + 1),
                (_, other) => panic!("{item}: {other:?}"),
            }
        }
        for (item, result) in (0_u64..).zip(pool.try_map(text, (0..3000).map(|item| item.to_string()))) {
            match (item, result) {
                (77, Err(TaskError::WorkerDied { cause: Cause::Exit(3), .. })) => {}
                (50, Ok(value)) => assert_eq!(value.len(), 40_000),
                (_, Ok(value)) => assert_eq!(value, item.to_string()),
                (_, other) => panic!("{item}: {other:?}"),
            }
        }
        assert!(pool.map(fickle, 0..20_000_u64).is_err());
        assert_eq!(pool.map(fickle, 2000..60_000_u64).unwrap(), (2001..60_001).collect::<Vec<u64>>());
        let units: Vec<()> = pool.map(drop::<u64>, 0..10_000_u64).unwrap();
        assert_eq!(units.len(), 10_000);
    });
}

#[test]
fn a_task_past_its_timeout_is_killed_and_its_place_is_free() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let timeout = Duration::from_millis(30);
        let hanging: Vec<_> = (0..6).map(|_| pool.task(hang).timeout(timeout).apply_async(())).collect();
        let good: Vec<_> = (0..100).map(|n| pool.apply_async(square, (n,))).collect();
        for result in hanging {
            assert!(matches!(result.get(), Err(TaskError::TimedOut)));
        }
        for (n, result) in (0..100_u64).zip(good) {
            assert_eq!(result.get().unwrap(), n * n);
        }
    });
}

#[test]
fn a_stopped_worker_is_killed_when_its_task_times_out() {
    fn stop() {
        kill_process(getpid(), Signal::STOP).unwrap();
    }
    guarded(|| {
        let pool = Pool::builder().workers(2).grace(Duration::from_millis(10)).build().unwrap();
        let stopped = pool.task(stop).timeout(Duration::from_millis(20)).apply_async(());
        assert!(matches!(stopped.get(), Err(TaskError::TimedOut)));
        assert_eq!(pool.apply(square, (5,)).unwrap(), 25);
    });
}

#[test]
fn a_timeout_never_hits_the_next_task() {
    fn nap(microseconds: u64) {
        std::thread::sleep(Duration::from_micros(microseconds));
    }
    guarded(|| {
        let pool = Pool::new(1).unwrap();
        let (mut in_time, mut late) = (0, 0);
        for round in 0..60 {
            // Ends at about the moment at which it would be killed.
            let timeout = Duration::from_millis(2);
            let edge = pool.task(nap).timeout(timeout).apply_async((1_700 + 10 * round,));
            let behind: Vec<_> = (0..3).map(|_| pool.apply_async(nap, (100,))).collect();
            match edge.get() {
                Ok(()) => in_time += 1,
                Err(TaskError::TimedOut) => late += 1,
                other => panic!("{other:?}"),
            }
            behind.into_iter().for_each(|result| result.get().unwrap());
        }
        assert_eq!(in_time + late, 60);
    });
}

/// Workers inherit that SIGTERM is ignored, so there is all the time of the grace for another task to start and be hit.
#[test]
fn a_worker_that_ignores_sigterm_is_killed_after_the_grace_and_no_other_task_with_it() {
    fn nap(milliseconds: u64) {
        std::thread::sleep(Duration::from_millis(milliseconds));
    }
    let test = "a_worker_that_ignores_sigterm_is_killed_after_the_grace_and_no_other_task_with_it";
    if mp_test::role().is_some() {
        let pool = Pool::builder().workers(1).grace(Duration::from_millis(300)).build().unwrap();
        let timeout = Duration::from_millis(20);
        let hanging = pool.task(hang).timeout(timeout).apply_async(());
        // Too late by little: it ends within the grace, before the kill.
        let late = pool.task(nap).timeout(timeout).apply_async((60,));
        let behind: Vec<_> = (0..4).map(|_| pool.apply_async(nap, (200,))).collect();
        assert!(matches!(hanging.get(), Err(TaskError::TimedOut)));
        late.get().unwrap();
        behind.into_iter().for_each(|result| result.get().unwrap());
        mp_test::say("done");
        return;
    }
    guarded(|| {
        let role = mp_test::command(test, "ignores SIGTERM");
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "trap '' TERM; exec \"$0\" \"$@\""]).arg(role.get_program()).args(role.get_args());
        shell.envs(role.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut role = Role::start(shell);
        role.expect("done");
        assert!(role.wait().success());
    });
}

#[test]
fn an_item_that_dies_or_hangs_is_charged_alone_and_nothing_runs_twice() {
    #[expect(clippy::disallowed_methods, reason = "an item that exits")]
    fn visit((visits, n): (Array<u32>, u32)) -> u32 {
        visits.at(n as usize).fetch_add(1);
        match n {
            37 => std::process::exit(1),
            150 => hang(),
            _ => {}
        }
        n
    }
    guarded(|| {
        let pool = Pool::builder().workers(2).task_timeout(Duration::from_millis(500)).build().unwrap();
        let visits = Array::<u32>::new(200).unwrap();
        let results = pool.try_map(visit, (0..200).map(|n| (visits.clone(), n)));
        for (n, result) in (0..200).zip(results) {
            match (n, result) {
                (37, Err(TaskError::WorkerDied { cause: Cause::Exit(1), .. })) => {}
                (150, Err(TaskError::TimedOut)) => {}
                (n, Ok(found)) => assert_eq!(found, n),
                (n, other) => panic!("item {n}: {other:?}"),
            }
        }
        assert_eq!(visits.to_vec(), [1; 200]);
    });
}

#[test]
fn a_long_task_is_charged_rightly_after_thousands_of_others_came_and_went_behind_it() {
    fn linger(starts: mp_shm::Value<u32>, pid: mp_shm::Value<u32>) {
        starts.fetch_add(1);
        pid.set(std::process::id());
        hang();
    }
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        let (starts, worker) = (mp_shm::Value::new(0_u32).unwrap(), mp_shm::Value::new(0_u32).unwrap());
        let long = pool.apply_async(linger, (starts.clone(), worker.clone()));
        mp_test::until("it runs", || worker.get() != 0);
        for _ in 0..50 {
            let others: Vec<_> = (0..100).map(|n| pool.apply_async(square, (n,))).collect();
            assert!(others.into_iter().all(|result| result.get().is_ok()));
        }
        signal(worker.get(), Signal::KILL);
        assert!(matches!(cause(long.get()), Cause::Signal { number: 9, .. }));
        assert_eq!(starts.get(), 1);
    });
}

#[test]
fn a_worker_killed_while_idle_costs_no_task() {
    guarded(|| {
        let pool = Pool::new(2).unwrap();
        for _ in 0..20 {
            let idle = pool.apply(pid, ()).unwrap();
            signal(idle, Signal::KILL);
            for n in 0..10 {
                assert_eq!(pool.apply(square, (n,)).unwrap(), n * n);
            }
        }
    });
}

#[test]
fn a_grandchild_that_holds_the_descriptors_hides_no_death() {
    #[expect(clippy::disallowed_methods, reason = "the task exits")]
    fn leave_a_child(pid: mp_shm::Value<u32>) {
        let child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        pid.set(child.id());
        std::process::exit(5);
    }
    guarded_with_orphans(|| {
        let pool = Pool::new(1).unwrap();
        let orphan = mp_shm::Value::new(0_u32).unwrap();
        assert_eq!(cause(pool.apply(leave_a_child, (orphan.clone(),))), Cause::Exit(5));
        assert_eq!(pool.apply(square, (2,)).unwrap(), 4);
        signal(orphan.get(), Signal::KILL);
        drop(pool);
    });
}

#[test]
fn an_initializer_that_kills_its_worker_breaks_the_pool_after_a_few() {
    guarded(|| {
        let pool = Pool::builder().workers(2).initializer(exit, (9,)).build().unwrap();
        let results: Vec<_> = (0..5).map(|n| pool.apply_async(square, (n,))).collect();
        for result in results {
            match result.get() {
                Err(TaskError::Broken(why)) => assert!(why.contains('9'), "{why}"),
                other => panic!("{other:?}"),
            }
        }
        // It stays broken, and can be joined as it is.
        assert!(matches!(pool.apply(square, (1,)), Err(TaskError::Broken(_))));
        pool.join().unwrap();
    });
}

/// 4 workers, a few hundred tasks that echo 200 KB, and all the time some worker is killed.
#[test]
fn chaos_gives_one_error_for_each_kill_of_a_running_task_and_none_otherwise() {
    const TASKS: u32 = 400;
    fn echo(n: u32, text: String) -> (u32, String) {
        std::thread::sleep(Duration::from_millis(5));
        (n, text)
    }
    guarded(|| {
        let pool = Pool::new(4).unwrap();
        let done = AtomicBool::new(false);
        let kills = std::thread::scope(|scope| {
            let killer = scope.spawn(|| {
                let mut kills = 0_usize;
                while !done.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(30));
                    // A pool whose workers are killed again and again before they are ready breaks, as it says.
                    if pool.stats().workers < 4 {
                        continue;
                    }
                    let workers = own_children();
                    if let Some(victim) = workers.get(kills % workers.len().max(1)) {
                        signal(*victim, Signal::KILL);
                        kills += 1;
                    }
                }
                kills
            });
            let stop = Stop(&done);
            let text = "0123456789".repeat(20_000);
            let results: Vec<_> = (0..TASKS).map(|n| pool.apply_async(echo, (n, text.clone()))).collect();
            let mut died = 0;
            for (n, result) in (0..TASKS).zip(results) {
                match result.get() {
                    Ok((number, echoed)) => assert!(number == n && echoed == text),
                    Err(TaskError::WorkerDied { cause: Cause::Signal { number: 9, .. }, .. }) => died += 1,
                    other => panic!("task {n}: {other:?}"),
                }
            }
            drop(stop);
            let kills = killer.join().unwrap();
            assert!(died <= kills, "{died} tasks ended with {kills} kills");
            kills
        });
        assert!(kills > 0);
        for n in 0..200 {
            assert_eq!(pool.apply(square, (n,)).unwrap(), n * n);
        }
    });
}

/// Sets it when it is dropped, in a panic too: a scope waits for its threads.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The children of this process: workers, in a test that starts nothing else.
fn own_children() -> Vec<u32> {
    let threads = std::fs::read_dir("/proc/self/task").expect("proc").flatten();
    let children = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let children: String = children.collect::<Vec<_>>().join(" ");
    children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[test]
fn workers_die_with_a_killed_parent() {
    if mp_test::role().is_some() {
        let pool = Pool::new(3).unwrap();
        // Each of them holds one worker, so all three pids come up.
        fn linger(seen: Array<u32>, n: usize) {
            seen.at(n).set(std::process::id());
            hang();
        }
        let seen = Array::<u32>::new(3).unwrap();
        let _busy: Vec<_> = (0..3).map(|n| pool.apply_async(linger, (seen.clone(), n))).collect();
        mp_test::until("all workers are busy", || seen.to_vec().iter().all(|pid| *pid != 0));
        mp_test::say(&seen.to_vec().iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        let _ = mp_test::hear();
        return;
    }
    guarded_with_orphans(|| {
        let mut parent = Role::start(mp_test::command("workers_die_with_a_killed_parent", "parent"));
        let pids = parent.word().unwrap();
        let workers: Vec<mp_core::Identity> =
            pids.split(' ').filter_map(|pid| mp_core::Identity::of(pid.parse().ok()?)).collect();
        assert_eq!(workers.len(), 3);
        parent.kill();
        mp_test::until("all workers have died", || !workers.iter().any(|worker| worker.is_alive()));
    });
}

#[test]
fn four_workers_live_on_sixty_four_descriptors() {
    if mp_test::role().is_some() {
        use rustix::process::{Resource, Rlimit, setrlimit};
        setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: Some(64) }).unwrap();
        let pool = Pool::new(4).unwrap();
        let results: Vec<_> = (0..2000).map(|n| pool.apply_async(square, (n,))).collect();
        let dying: Vec<_> = (0..8).map(|_| pool.apply_async(exit, (1,))).collect();
        for (n, result) in (0..2000_u64).zip(results) {
            assert_eq!(result.get().unwrap(), n * n);
        }
        for result in dying {
            assert_eq!(cause(result.get()), Cause::Exit(1));
        }
        pool.close();
        pool.join().unwrap();
        mp_test::say("done");
        return;
    }
    guarded(|| {
        let mut role = Role::start(mp_test::command("four_workers_live_on_sixty_four_descriptors", "poor"));
        role.expect("done");
        assert!(role.wait().success());
    });
}

#[test]
fn all_workers_killed_at_once_are_replaced() {
    guarded(|| {
        let pool = Pool::new(4).unwrap();
        for _ in 0..5 {
            assert_eq!(pool.map(square, 0..50).unwrap().len(), 50);
            let workers: BTreeSet<u32> = own_children().into_iter().collect();
            workers.iter().for_each(|worker| signal(*worker, Signal::KILL));
        }
        assert_eq!(pool.apply(square, (6,)).unwrap(), 36);
    });
}
