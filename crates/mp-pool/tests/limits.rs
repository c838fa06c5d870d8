//! What each worker is given: processors, priority, environment, limits.

use mp_pool::{Pool, Resource, TaskError};
use rustix::process::getpriority_process;
use std::collections::BTreeSet;

mod methods;

use methods::guarded;

mp_pool::enable_test_support!();

fn processors() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None).expect("an affinity");
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

fn niceness() -> i32 {
    getpriority_process(None).expect("a priority")
}

#[test]
fn smoke() {
    guarded(|| {
        let first = processors()[0];
        let pool = Pool::builder().workers(2).cpu_affinity([first]).build().unwrap();
        for found in pool.broadcast(processors, &()) {
            assert_eq!(found.unwrap(), [first]);
        }
    });
}

#[test]
fn pinned_workers_have_one_processor_each_in_turn() {
    guarded(|| {
        let all = processors();
        let pool = Pool::builder().workers(all.len() + 1).pin_workers(true).build().unwrap();
        let found: Vec<Vec<usize>> =
            pool.broadcast(processors, &()).into_iter().map(Result::unwrap).collect();
        let expected: Vec<Vec<usize>> =
            (0..all.len() + 1).map(|worker| vec![all[worker % all.len()]]).collect();
        assert_eq!(found, expected);
        // The one that replaces another has its processor.
        assert!(pool.task(die).key(1).apply(()).is_err());
        let again: Vec<Vec<usize>> =
            pool.broadcast(processors, &()).into_iter().map(Result::unwrap).collect();
        assert_eq!(again, expected);
    });
}

fn die() {
    std::process::abort();
}

#[test]
fn nice_workers_give_way_by_so_much() {
    guarded(|| {
        let own = niceness();
        let pool = Pool::builder().workers(2).nice(3).build().unwrap();
        for found in pool.broadcast(niceness, &()) {
            assert_eq!(found.unwrap(), (own + 3).min(19));
        }
        assert_eq!(niceness(), own);
    });
}

#[test]
fn environment_and_directory_are_those_of_the_builder() {
    fn look() -> (Option<String>, String) {
        let variable = std::env::var("MP_POOL_TEST_VARIABLE").ok();
        (variable, std::env::current_dir().expect("a directory").display().to_string())
    }
    guarded(|| {
        let directory = std::env::temp_dir().canonicalize().unwrap();
        let builder = Pool::builder().workers(1).env("MP_POOL_TEST_VARIABLE", "here");
        let pool = builder.current_dir(&directory).build().unwrap();
        let expected = (Some("here".to_owned()), directory.display().to_string());
        assert_eq!(pool.apply(look, ()).unwrap(), expected);
        assert_eq!(std::env::var("MP_POOL_TEST_VARIABLE").ok(), None);
    });
}

#[test]
fn a_limit_of_the_system_holds_in_each_worker() {
    fn open_many() -> usize {
        let files: Vec<_> = (0..100).map_while(|_| std::fs::File::open("/dev/null").ok()).collect();
        files.len()
    }
    guarded(|| {
        let pool = Pool::builder().workers(1).limit(Resource::OpenFiles, 40).build().unwrap();
        assert!(pool.apply(open_many, ()).unwrap() < 40);
        // One that a worker cannot live with is told as the reason.
        let pool = Pool::builder().workers(1).limit(Resource::FileSize, 1 << 16).build().unwrap();
        match pool.apply(open_many, ()) {
            Err(TaskError::Broken(why)) => assert!(why.contains("RLIMIT_FSIZE"), "{why}"),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn workers_inherit_no_descriptor_that_they_were_not_given() {
    /// What is open and is neither a standard stream nor the worker's own.
    fn foreign() -> BTreeSet<String> {
        let entries = std::fs::read_dir("/proc/self/fd").expect("proc").flatten();
        let targets = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        targets
            .map(|target| target.display().to_string())
            .filter(|target| target.contains("mp-pool-open"))
            .collect()
    }
    guarded(|| {
        let path = std::env::temp_dir().join(format!("mp-pool-open-{}", std::process::id()));
        let file = std::fs::File::create(&path).unwrap();
        // As a library in C opens it.
        rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
        assert_eq!(foreign().len(), 1);
        let pool = Pool::new(1).unwrap();
        assert_eq!(pool.apply(foreign, ()).unwrap(), BTreeSet::new());
        drop(file);
        std::fs::remove_file(&path).unwrap();
    });
}
