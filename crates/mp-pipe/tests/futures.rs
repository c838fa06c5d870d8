//! The forms for futures: under tokio, and under a bare executor.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_pipe::{Connection, RecvError, give, pipe, pipe_one_way, take};
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
    let (mut left, mut right) = pipe().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| block_on(right.recv_async::<i32>()).unwrap());
        left.send(1).unwrap();
    });
    let mut receive = Box::pin(right.recv_async::<i32>());
    assert!(receive.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

#[test]
fn smoke() {
    warm_up();
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        let (mut sender, mut receiver) = pipe_one_way::<String>().unwrap();
        block_on(async {
            left.send(7).unwrap();
            assert_eq!(right.recv_async::<i32>().await.unwrap(), 7);
            sender.send("obj".into()).unwrap();
            drop(sender);
            assert_eq!(receiver.recv_async().await.unwrap(), "obj");
            assert!(matches!(receiver.recv_async().await, Err(RecvError::Disconnected)));
        });
    });
}

/// A future that is dropped while it waits, or before it is polled again, has taken nothing.
#[test]
fn a_dropped_future_loses_no_message() {
    warm_up();
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        for n in 0..1000 {
            let mut receive = Box::pin(right.recv_async::<i32>());
            let mut context = Context::from_waker(Waker::noop());
            assert!(receive.as_mut().poll(&mut context).is_pending());
            left.send(n).unwrap();
            if n % 2 == 0 {
                drop(receive);
                assert_eq!(right.try_recv::<i32>().unwrap(), n);
            } else {
                assert_eq!(block_on(receive).unwrap(), n);
            }
        }
    });
}

#[test]
fn tokio_tasks_answer_each_other() {
    const COUNT: u32 = 2000;
    warm_up();
    guarded(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut left, mut right) = pipe().unwrap();
            let answers = async {
                for n in 0..COUNT {
                    assert_eq!(right.recv_async::<u32>().await.unwrap(), n);
                    right.send(n + 1).unwrap();
                }
            };
            let asks = async {
                for n in 0..COUNT {
                    left.send(n).unwrap();
                    assert_eq!(left.recv_async::<u32>().await.unwrap(), n + 1);
                }
            };
            tokio::join!(asks, answers);
        });
    });
}

#[test]
fn a_killed_peer_ends_the_future() {
    if role().is_some() {
        let mut connection: Connection = take("connection").unwrap();
        connection.send(1).unwrap();
        say("sent");
        let _ = hear();
        return;
    }
    warm_up();
    guarded(|| {
        let (mut ours, theirs) = pipe().unwrap();
        let mut child = command("a_killed_peer_ends_the_future", "peer");
        give(&mut child, "connection", &theirs).unwrap();
        let mut child = Role::start(child);
        child.expect("sent");
        thread::scope(|scope| {
            let receiver = scope.spawn(|| {
                block_on(async { (ours.recv_async::<i32>().await, ours.recv_async::<i32>().await) })
            });
            child.kill();
            let (first, second) = receiver.join().unwrap();
            assert_eq!(first.unwrap(), 1);
            assert!(matches!(second, Err(RecvError::Disconnected)));
        });
    });
}

#[test]
fn a_listener_accepts_in_a_future() {
    warm_up();
    guarded(|| {
        let (address, key) = (mp_pipe::Address::unique().unwrap(), mp_pipe::Key::new("secret"));
        let mut listener = mp_pipe::Listener::bind(&address, key.clone()).unwrap();
        thread::scope(|scope| {
            for n in 0..20 {
                let client = scope.spawn(|| mp_pipe::connect(&address, key.clone()));
                // A future that is dropped half-way turns nobody away.
                let mut accept = Box::pin(listener.accept_async());
                let (mut ours, _) = match accept.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(accepted) => accepted.unwrap(),
                    Poll::Pending => {
                        drop(accept);
                        block_on(listener.accept_async()).unwrap()
                    }
                };
                ours.send(n).unwrap();
                assert_eq!(client.join().unwrap().unwrap().recv::<i32>().unwrap(), n);
            }
        });
    });
}
