//! Workers that are replaced before they die of themselves.

use mp_pool::{Pool, TaskError};
use mp_test::{Role, until};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
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

/// The first one that gets here goes on, all others once the file `gate` is there.
fn enter(first: String, gate: String) {
    if std::fs::File::create_new(first).is_err() {
        until("the gate is open", || Path::new(&gate).exists());
    }
}

/// Two names that no other test has.
struct Gate(PathBuf, PathBuf);

impl Gate {
    fn new(name: &str) -> Gate {
        let path = |what: &str| std::env::temp_dir().join(format!("mp-pool-{name}-{what}-{}", pid()));
        Gate(path("first"), path("gate"))
    }

    fn args(&self) -> (String, String) {
        (self.0.display().to_string(), self.1.display().to_string())
    }

    fn open(&self) {
        std::fs::File::create(&self.1).expect("a file");
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
        let _ = std::fs::remove_file(&self.1);
    }
}

#[test]
fn smoke() {
    guarded(|| {
        let pool = Pool::builder().workers(1).max_memory(1).build().unwrap();
        let first = pool.apply(pid, ()).unwrap();
        until("the worker is replaced", || pool.apply(pid, ()).unwrap() != first);
    });
}

/// The successor is held up in its initializer; meanwhile the old one serves.
#[test]
fn a_worker_too_large_or_too_old_serves_until_its_successor_is_ready() {
    guarded(|| {
        for by_memory in [true, false] {
            let gate = Gate::new("overlap");
            let builder = Pool::builder().workers(1).initializer(enter, gate.args());
            let builder =
                if by_memory { builder.max_memory(1) } else { builder.max_age(Duration::from_millis(1)) };
            let pool = builder.build().unwrap();
            let first = pool.apply(pid, ()).unwrap();
            until("a successor is starting", || pool.stats().recycled == 1 && pool.stats().started == 2);
            for _ in 0..50 {
                assert_eq!(pool.apply(pid, ()).unwrap(), first);
            }
            assert_eq!(pool.stats().workers, 1);
            gate.open();
            until("the worker is replaced", || pool.apply(pid, ()).unwrap() != first);
        }
    });
}

#[test]
fn with_jitter_workers_are_not_replaced_at_the_same_task() {
    guarded(|| {
        let pool = Pool::builder().workers(1).max_tasks_per_child(200).recycle_jitter(0.9).build().unwrap();
        let mut counts = std::collections::BTreeMap::new();
        let results: Vec<_> = (0..3000).map(|_| pool.apply_async(pid, ())).collect();
        for result in results {
            *counts.entry(result.get().unwrap()).or_insert(0_u32) += 1;
        }
        assert!(counts.values().all(|count| *count <= 200));
        let different: BTreeSet<u32> = counts.into_values().collect();
        assert!(different.len() > 2, "{different:?}");
    });
}

#[test]
fn results_larger_than_the_line_are_not_lost_when_a_worker_is_replaced() {
    fn large(n: usize) -> String {
        n.to_string().repeat(2 << 20)
    }
    guarded(|| {
        let pool = Pool::builder().workers(2).max_tasks_per_child(1).build().unwrap();
        let results: Vec<_> = (0..8).map(|n| pool.apply_async(large, (n,))).collect();
        for (n, result) in (0..8).zip(results) {
            assert_eq!(result.get().unwrap(), n.to_string().repeat(2 << 20));
        }
    });
}

fn kill(pid: u32) {
    let _ = kill_process(Pid::from_raw(pid.cast_signed()).expect("a pid"), Signal::KILL);
}

/// No descriptor is left for a start: the pool goes on with those who are there, takes up starting again when it can, and breaks
/// with the reason when nobody is left.
#[test]
fn a_pool_whose_replacements_cannot_start_goes_on_with_who_is_left() {
    if mp_test::role().is_some() {
        let pool = Pool::new(2).unwrap();
        let workers: Vec<u32> = pool.broadcast(pid, &()).into_iter().map(Result::unwrap).collect();
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..limit }).unwrap();
        kill(workers[0]);
        until("the death is seen", || pool.stats().workers == 1);
        for n in 0..100 {
            assert_eq!(pool.apply(square, (n,)).unwrap(), n * n);
        }
        assert_eq!(pool.apply(pid, ()).unwrap(), workers[1]);
        setrlimit(Resource::Nofile, limit).unwrap();
        until("there are two again", || pool.stats().workers == 2);
        let workers: Vec<u32> = pool.broadcast(pid, &()).into_iter().map(Result::unwrap).collect();
        setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..limit }).unwrap();
        workers.into_iter().for_each(kill);
        match pool.apply(square, (1,)) {
            Err(TaskError::Broken(why)) => assert!(why.contains("open files"), "{why}"),
            // It had begun before the kill.
            other => assert!(matches!(pool.apply(square, (1,)), Err(TaskError::Broken(_))), "{other:?}"),
        }
        setrlimit(Resource::Nofile, limit).unwrap();
        // A broken pool stays so; another one is as good as new.
        assert!(pool.broken().is_some());
        assert_eq!(Pool::new(1).unwrap().apply(square, (3,)).unwrap(), 9);
        mp_test::say("done");
        return;
    }
    guarded(|| {
        let test = "a_pool_whose_replacements_cannot_start_goes_on_with_who_is_left";
        let mut role = Role::start(mp_test::command(test, "poor"));
        role.expect("done");
        assert!(role.wait().success());
    });
}
