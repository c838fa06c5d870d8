//! What CPython's own tests of queues show, shown here: one module for each of its classes, its names kept.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(non_snake_case, reason = "modules are named as CPython's classes")]

use mp_queue::{JoinableQueue, Queue, SimpleQueue, TryGetError, TryPutError, give, take};
use mp_test::{Role, command, guarded, hear, role, say};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(100);

/// Starts the test again in `role`, with `kit`.
fn start<T: Serialize + 'static>(test: &str, role: &str, kit: &T) -> Role {
    let mut child = command(test, role);
    give(&mut child, "kit", kit).unwrap();
    Role::start(child)
}

mod _TestQueue {
    use super::*;

    #[test]
    fn test_put() {
        if role().is_some() {
            let queue: Queue<u32> = take("kit").unwrap();
            while let Some(_go) = hear() {
                (1..=6).for_each(|n| assert_eq!(queue.get().unwrap(), n));
                say("drained");
            }
            return;
        }
        guarded(|| {
            let queue = Queue::<u32>::bounded(6).unwrap();
            let mut child = start("_TestQueue::test_put", "drain", &queue);
            assert!(queue.is_empty() && !queue.is_full());
            queue.put(1).unwrap();
            queue.put_timeout(2, Duration::MAX).unwrap();
            queue.put_deadline(3, Instant::now() + SHORT).unwrap();
            queue.try_put(4).unwrap();
            queue.put_timeout(5, Duration::ZERO).unwrap();
            queue.put_many([6]).unwrap();
            // The values are in the queue at once.
            assert!(!queue.is_empty() && queue.is_full());
            let at_once = Instant::now();
            assert!(matches!(queue.try_put(7), Err(TryPutError::Full(7))));
            assert!(queue.put_timeout(7, Duration::ZERO).unwrap_err().is_timeout());
            let in_time = Instant::now();
            assert!(queue.put_timeout(7, SHORT).unwrap_err().is_timeout());
            assert!(in_time.elapsed() >= SHORT && at_once.elapsed() >= SHORT);
            child.tell("go");
            child.expect("drained");
            assert!(queue.is_empty() && !queue.is_full());
            assert!(child.wait().success());
        });
    }

    #[test]
    fn test_get() {
        if role().is_some() {
            let queue: Queue<u32> = take("kit").unwrap();
            return (2..=6).for_each(|n| queue.put(n).unwrap());
        }
        guarded(|| {
            let queue = Queue::<u32>::new().unwrap();
            assert!(queue.is_empty());
            assert!(start("_TestQueue::test_get", "fill", &queue).wait().success());
            assert!(!queue.is_empty());
            assert_eq!(queue.get().unwrap(), 2);
            assert_eq!(queue.get_timeout(Duration::MAX).unwrap(), 3);
            assert_eq!(queue.get_deadline(Instant::now() + SHORT).unwrap(), 4);
            assert_eq!(queue.try_get().unwrap(), 5);
            assert_eq!(queue.get_timeout(Duration::ZERO).unwrap(), 6);
            assert!(queue.is_empty());
            assert!(matches!(queue.try_get(), Err(TryGetError::Empty)));
            assert!(queue.get_timeout(Duration::ZERO).unwrap_err().is_timeout());
            let start = Instant::now();
            assert!(queue.get_timeout(SHORT).unwrap_err().is_timeout());
            assert!(start.elapsed() >= SHORT);
        });
    }

    /// There is no feeder thread that a child would have to start anew: parent and child both put, in order.
    #[test]
    fn test_fork() {
        if role().is_some() {
            let queue: Queue<u32> = take("kit").unwrap();
            return (10..20).for_each(|n| queue.put(n).unwrap());
        }
        guarded(|| {
            let queue = Queue::<u32>::new().unwrap();
            (0..10).for_each(|n| queue.put(n).unwrap());
            assert!(start("_TestQueue::test_fork", "child", &queue).wait().success());
            (0..20).for_each(|n| assert_eq!(queue.get().unwrap(), n));
            assert!(queue.try_get().unwrap_err().is_empty());
        });
    }

    #[test]
    fn test_qsize() {
        guarded(|| {
            let queue = Queue::new().unwrap();
            assert_eq!(queue.len(), 0);
            queue.put(1).unwrap();
            assert_eq!(queue.len(), 1);
            queue.put(5).unwrap();
            assert_eq!(queue.len(), 2);
            queue.get().unwrap();
            assert_eq!(queue.len(), 1);
            queue.get().unwrap();
            assert_eq!(queue.len(), 0);
        });
    }

    #[test]
    fn test_task_done() {
        if role().is_some() {
            let queue: JoinableQueue<u32> = take("kit").unwrap();
            for value in queue.iter() {
                value.unwrap();
                queue.task_done().unwrap();
            }
            return;
        }
        guarded(|| {
            let queue = JoinableQueue::<u32>::new().unwrap();
            let mut workers: Vec<Role> =
                (0..4).map(|_| start("_TestQueue::test_task_done", "worker", &queue)).collect();
            (0..10).for_each(|n| queue.put(n).unwrap());
            queue.join().unwrap();
            assert_eq!(queue.unfinished(), 0);
            queue.close().unwrap();
            assert!(workers.iter_mut().all(|worker| worker.wait().success()));
        });
    }

    #[test]
    fn test_timeout() {
        guarded(|| {
            let queue = Queue::<u8>::new().unwrap();
            let start = Instant::now();
            assert!(queue.get_timeout(2 * SHORT).unwrap_err().is_timeout());
            assert!(start.elapsed() >= 2 * SHORT);
        });
    }

    /// What cannot be encoded is `put`'s error, not a feeder's: it takes no room and stops nothing.
    #[test]
    fn test_queue_feeder_donot_stop_onexc() {
        #[derive(Debug, Deserialize)]
        struct Maybe(bool);
        impl Serialize for Maybe {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self.0 {
                    true => serializer.serialize_bool(true),
                    false => Err(serde::ser::Error::custom("not serializable")),
                }
            }
        }
        guarded(|| {
            let queue = Queue::bounded(1).unwrap();
            assert!(queue.put(Maybe(false)).unwrap_err().to_string().contains("cannot be encoded"));
            assert!(queue.is_empty());
            queue.try_put(Maybe(true)).unwrap();
            // It is refused before it asks for room.
            assert!(queue.put(Maybe(false)).is_err());
            assert!(queue.get().unwrap().0);
        });
    }

    /// `is_empty` has one meaning, whether the queue was used or not, closed or not.
    #[test]
    fn test_closed_queue_empty_exceptions() {
        guarded(|| {
            let unused = Queue::<u8>::new().unwrap();
            unused.close().unwrap();
            assert!(unused.is_empty());
            let used = Queue::new().unwrap();
            used.put("foo".to_owned()).unwrap();
            used.close().unwrap();
            assert!(!used.is_empty());
            assert_eq!(used.get().unwrap(), "foo");
            assert!(used.is_empty());
        });
    }

    #[test]
    fn test_closed_queue_put_get_exceptions() {
        guarded(|| {
            let queue = Queue::new().unwrap();
            queue.close().unwrap();
            assert!(queue.put("foo".to_owned()).unwrap_err().is_closed());
            assert!(queue.get().unwrap_err().is_closed());
            let tasks = JoinableQueue::new().unwrap();
            tasks.close().unwrap();
            assert!(tasks.put(1).unwrap_err().is_closed());
            assert!(tasks.get().unwrap_err().is_closed());
            tasks.join().unwrap();
        });
    }
}

mod TestSimpleQueue {
    use super::*;

    #[test]
    fn test_empty() {
        if role().is_some() {
            let queue: SimpleQueue<(bool, bool)> = take("kit").unwrap();
            let before = queue.is_empty();
            queue.put((before, false)).unwrap();
            let after = queue.is_empty();
            return queue.put((before, after)).unwrap();
        }
        guarded(|| {
            let queue = SimpleQueue::<(bool, bool)>::new().unwrap();
            assert!(start("TestSimpleQueue::test_empty", "child", &queue).wait().success());
            assert!(!queue.is_empty());
            assert_eq!(queue.get().unwrap(), (true, false));
            assert_eq!(queue.get().unwrap(), (true, false));
            assert!(queue.is_empty());
        });
    }

    /// Not an exception: whoever asks a closed queue gets the truth.
    #[test]
    fn test_empty_exceptions() {
        guarded(|| {
            let queue = SimpleQueue::<u8>::new().unwrap();
            queue.close().unwrap();
            assert!(queue.is_empty());
            assert!(queue.get().unwrap_err().is_closed());
        });
    }

    #[test]
    fn test_close() {
        guarded(|| {
            let queue = SimpleQueue::<u8>::new().unwrap();
            queue.close().unwrap();
            queue.close().unwrap();
        });
    }

    /// Closed is closed at both ends, for everybody.
    #[test]
    fn test_closed() {
        guarded(|| {
            let queue = SimpleQueue::new().unwrap();
            let other = queue.clone();
            queue.close().unwrap();
            assert!(other.put(1_u8).unwrap_err().is_closed());
            assert!(other.get().unwrap_err().is_closed());
        });
    }
}

/// What hangs or misbehaves in Python, and returns a typed result here.
mod chaos {
    use super::*;
    use mp_test::until;

    /// C12: a consumer is killed while it waits in `get`; Python loses its lock, and everybody else sees "empty".
    #[test]
    fn c12_a_consumer_is_killed_in_get() {
        if role().is_some() {
            let queue: Queue<u8> = take("kit").unwrap();
            say(&std::fs::read_link("/proc/thread-self").unwrap().to_string_lossy());
            let _ = queue.get();
            return;
        }
        guarded(|| {
            let queue = Queue::<u8>::new().unwrap();
            for n in 0..5 {
                let mut child = start("chaos::c12_a_consumer_is_killed_in_get", "consumer", &queue);
                let thread = child.word().unwrap();
                until("it waits", || {
                    let stat = std::fs::read_to_string(format!("/proc/{thread}/stat")).unwrap();
                    stat.rsplit_once(')').unwrap().1.trim_start().starts_with('S')
                });
                child.kill();
                queue.put(n).unwrap();
                assert_eq!(queue.get_timeout(Duration::from_secs(60)).unwrap(), n);
            }
        });
    }

    /// C13: a producer is killed in the middle of a `put` of 4 MiB; Python's next `get` hangs past its time-out.
    #[test]
    fn c13_a_producer_is_killed_in_a_large_put() {
        if role().is_some() {
            let queue: Queue<Vec<u8>> = take("kit").unwrap();
            say("putting");
            for _ in 0.. {
                queue.put(vec![9; 4 << 20]).unwrap();
            }
            return;
        }
        guarded(|| {
            let queue = Queue::<Vec<u8>>::bounded(2).unwrap();
            for _ in 0..10 {
                let mut child = start("chaos::c13_a_producer_is_killed_in_a_large_put", "producer", &queue);
                child.expect("putting");
                assert!(queue.get().unwrap() == vec![9; 4 << 20]);
                child.kill();
                // What is there is whole; then the time-out, and not later.
                while let Ok(value) = queue.get_timeout(Duration::from_millis(1)) {
                    assert!(value == vec![9; 4 << 20]);
                }
                queue.put(vec![1]).unwrap();
                assert_eq!(queue.get().unwrap(), [1]);
            }
        });
    }

    /// C14: a consumer of a `JoinableQueue` dies before `task_done`; Python's `join` hangs.
    #[test]
    fn c14_a_consumer_dies_before_task_done() {
        if role().is_some() {
            let queue: JoinableQueue<u8> = take("kit").unwrap();
            queue.get().unwrap();
            say("got");
            let _ = hear();
            return;
        }
        guarded(|| {
            let queue = JoinableQueue::<u8>::new().unwrap();
            queue.put(1).unwrap();
            let mut consumer = start("chaos::c14_a_consumer_dies_before_task_done", "consumer", &queue);
            consumer.expect("got");
            consumer.kill();
            assert!(!queue.join_timeout(Duration::from_millis(1)).unwrap());
            assert_eq!(queue.get().unwrap(), 1);
            queue.task_done().unwrap();
            queue.join().unwrap();
        });
    }

    /// C15: a child puts 200 kB that nobody reads; in Python it does not exit.
    #[test]
    fn c15_a_child_puts_much_and_nobody_reads() {
        if role().is_some() {
            return take::<Queue<Vec<u8>>>("kit").unwrap().put(vec![0; 200_000]).unwrap();
        }
        guarded(|| {
            let queue = Queue::<Vec<u8>>::new().unwrap();
            assert!(start("chaos::c15_a_child_puts_much_and_nobody_reads", "child", &queue).wait().success());
            assert_eq!(queue.try_get().unwrap().len(), 200_000);
        });
    }

    /// C16: in Python a `get_nowait` right after `put` says "empty".
    #[test]
    fn c16_put_and_then_at_once_get() {
        guarded(|| {
            let queue = Queue::new().unwrap();
            for n in 0..1_000 {
                queue.put(n).unwrap();
                assert!(!queue.is_empty() && queue.len() == 1);
                assert_eq!(queue.try_get().unwrap(), n);
            }
        });
    }
}
