//! CPython's tests that take several crates: queues and pools inside a child, one lock for every start method, a large pool. The
//! names are CPython's.

use mp_test::guarded;
use multiprocess::lock::Lock;
use multiprocess::process::{ForkServer, StartMethod};
use multiprocess::{Pool, Process, Queue, RemoteError};

multiprocess::enable_test_support!();

mod stdin_bad_file_descriptor {
    use super::*;

    fn put(queue: Queue<u32>) -> Result<(), RemoteError> {
        Ok(queue.put(42)?)
    }

    fn queue_in_process() -> Result<u32, RemoteError> {
        let queue = Queue::new()?;
        Process::spawn(put, (queue.clone(),))?.join()??;
        Ok(queue.get()?)
    }

    #[test]
    fn test_queue_in_process() {
        guarded(|| {
            assert_eq!(Process::spawn(queue_in_process, ()).unwrap().join().unwrap().unwrap(), 42);
        });
    }

    fn pool_in_process() -> Result<Vec<u32>, RemoteError> {
        let pool = Pool::new(2)?;
        Ok(pool.map(|n: u32| n * n, 0..4)?)
    }

    #[test]
    fn test_pool_in_process() {
        guarded(|| {
            let found = Process::spawn(pool_in_process, ()).unwrap().join().unwrap().unwrap();
            assert_eq!(found, [0, 1, 4, 9]);
        });
    }
}

mod start_method {
    use super::*;

    fn is_locked(lock: Lock) -> bool {
        lock.try_acquire().is_err()
    }

    #[test]
    fn test_mixed_startmethod() {
        guarded(|| {
            // One representation: a lock made anywhere goes to a child of every kind.
            let lock = Lock::new().unwrap();
            let guard = lock.acquire().unwrap();
            for method in [StartMethod::Spawn, StartMethod::ForkServer] {
                let builder = Process::builder().start_method(method);
                assert!(builder.spawn(is_locked, (lock.clone(),)).unwrap().join().unwrap(), "{method:?}");
            }
            guard.release();
            ForkServer::stop();
        });
    }

    fn put_there(queue: Queue<String>) -> Result<(), RemoteError> {
        Ok(queue.put("from a grandchild".to_owned())?)
    }

    fn hand_on(queue: Queue<String>, fork_server: bool) -> Result<(), RemoteError> {
        let method = if fork_server { StartMethod::ForkServer } else { StartMethod::Spawn };
        Process::builder().start_method(method).spawn(put_there, (queue,))?.join()?
    }

    #[test]
    fn test_nested_startmethod() {
        guarded(|| {
            for (method, inner) in [(StartMethod::Spawn, true), (StartMethod::ForkServer, false)] {
                let queue = Queue::new().unwrap();
                let process = Process::builder().start_method(method).spawn(hand_on, (queue.clone(), inner));
                process.unwrap().join().unwrap().unwrap();
                assert_eq!(queue.try_get().unwrap(), "from a grandchild");
            }
            ForkServer::stop();
        });
    }
}

mod misc {
    use super::*;

    #[test]
    fn test_large_pool() {
        guarded(|| {
            let pool = Pool::new(200).unwrap();
            let found = pool.map(|n: u64| n * n, 0..1000).unwrap();
            assert!(found.into_iter().eq((0..1000).map(|n| n * n)));
            drop(pool);
        });
    }
}
