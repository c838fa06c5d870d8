//! The forms for futures: under tokio, and under a bare executor.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_queue::{JoinableQueue, Queue, Receiver, give, take};
use mp_test::{Role, command, guarded, hear, role, say};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// The smallest executor there is: this thread, which sleeps until it is woken.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// The runtime's own thread and descriptors come with its first use and stay.
fn warm_up() {
    let queue = Queue::new().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| block_on(queue.get_async()).unwrap());
        queue.put(1).unwrap();
    });
    let queue = Queue::<u8>::new().unwrap();
    let mut get = Box::pin(queue.get_async());
    assert!(get.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

#[test]
fn smoke() {
    warm_up();
    guarded(|| {
        let queue = Queue::bounded(1).unwrap();
        block_on(async {
            queue.put_async("obj".to_owned()).await.unwrap();
            assert_eq!(queue.get_async().await.unwrap(), "obj");
            queue.close().unwrap();
            assert_eq!(queue.put_async("late".to_owned()).await.unwrap_err().into_inner(), "late");
            assert!(queue.get_async().await.unwrap_err().is_closed());
        });
    });
}

#[test]
fn tokio_tasks_exchange_values_through_a_small_queue() {
    warm_up();
    guarded(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (sender, receiver) = Queue::bounded(2).unwrap().split();
            let producers = [0, 1].map(|producer| {
                let sender = sender.clone();
                tokio::spawn(async move {
                    for n in 0..1_000_u32 {
                        sender.put_async((producer, n)).await.unwrap();
                    }
                })
            });
            drop(sender);
            let mut next = [0, 0];
            loop {
                match receiver.get_async().await {
                    Ok((producer, n)) => {
                        assert_eq!(n, next[producer]);
                        next[producer] += 1;
                    }
                    Err(error) => break assert!(error.is_disconnected(), "{error}"),
                }
            }
            assert_eq!(next, [1_000, 1_000]);
            for producer in producers {
                producer.await.unwrap();
            }
        });
    });
}

#[test]
fn a_dropped_future_has_taken_nothing() {
    warm_up();
    guarded(|| {
        let queue = Queue::new().unwrap();
        for n in 0..100 {
            let mut dropped = Box::pin(queue.get_async());
            assert!(dropped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            queue.put(n).unwrap();
            drop(dropped);
            assert_eq!(block_on(queue.get_async()).unwrap(), n);
        }
        let full = Queue::bounded(1).unwrap();
        full.put(0).unwrap();
        let mut dropped = Box::pin(full.put_async(1));
        assert!(dropped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        full.get().unwrap();
        drop(dropped);
        assert!(full.is_empty());
    });
}

#[test]
fn many_futures_cost_no_thread_each() {
    warm_up();
    guarded(|| {
        let queue = Queue::<u32>::new().unwrap();
        let before = mp_test::threads();
        let mut waiting: Vec<_> = (0..50).map(|_| Box::pin(queue.get_async())).collect();
        for future in &mut waiting {
            assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert_eq!(mp_test::threads(), before);
        queue.put_many(0..50).unwrap();
        let mut got: Vec<u32> = waiting.into_iter().map(|future| block_on(future).unwrap()).collect();
        got.sort_unstable();
        assert_eq!(got, Vec::from_iter(0..50));
    });
}

#[test]
fn a_claim_is_got_in_a_future_also_when_its_consumer_was_killed() {
    const TEST: &str = "a_claim_is_got_in_a_future_also_when_its_consumer_was_killed";
    if role().is_some() {
        let queue: JoinableQueue<u32> = take("queue").unwrap();
        queue.get().unwrap();
        say("claimed");
        let _ = hear();
        return;
    }
    warm_up();
    guarded(|| {
        let queue = JoinableQueue::<u32>::new().unwrap();
        block_on(queue.put_async(1)).unwrap();
        let mut child = command(TEST, "consumer");
        give(&mut child, "queue", &queue).unwrap();
        let mut child = Role::start(child);
        child.expect("claimed");
        thread::scope(|scope| {
            scope.spawn(|| {
                let (value, claim) = block_on(queue.claim_async()).unwrap();
                assert_eq!((value, claim.deliveries()), (1, 2));
                claim.done().unwrap();
            });
            child.kill();
        });
        queue.join().unwrap();
    });
}

#[test]
fn a_killed_last_sender_ends_the_future() {
    const TEST: &str = "a_killed_last_sender_ends_the_future";
    if role().is_some() {
        let _sender: mp_queue::Sender<u8> = take("sender").unwrap();
        say("here");
        let _ = hear();
        return;
    }
    warm_up();
    guarded(|| {
        let (sender, receiver) = Queue::<u8>::new().unwrap().split();
        let mut child = command(TEST, "sender");
        give(&mut child, "sender", &sender).unwrap();
        let mut child = Role::start(child);
        child.expect("here");
        drop(sender);
        let waiting = |receiver: &Receiver<u8>| block_on(receiver.get_async());
        thread::scope(|scope| {
            scope.spawn(|| assert!(waiting(&receiver).unwrap_err().is_disconnected()));
            child.kill();
        });
    });
}
