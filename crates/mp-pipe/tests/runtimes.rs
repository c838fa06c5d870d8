//! The descriptors of connections in event loops of others: tokio's `AsyncFd` without the feature `async`.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(unsafe_code, reason = "tokio wants to be told that a descriptor stays the same")]

use mp_pipe::{Receiver, pipe_one_way};
use mp_test::guarded;
use std::thread;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The pattern of the documentation: receive until empty, then wait for readiness.
async fn receive(end: &mut AsyncFd<Receiver<u32>>) -> Option<u32> {
    loop {
        let mut ready = end.readable_mut().await.unwrap();
        match ready.get_inner_mut().try_recv() {
            Ok(value) => return Some(value),
            Err(error) if error.is_empty() => ready.clear_ready(),
            Err(error) if error.is_disconnected() => return None,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn tokio_misses_nothing() {
    const COUNT: u32 = 5000;
    guarded(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let (mut sender, receiver) = pipe_one_way().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                for n in 0..COUNT {
                    sender.send(n).unwrap();
                    if n % 7 == 0 {
                        thread::yield_now();
                    }
                }
            });
            runtime.block_on(async {
                // SAFETY: an end gives one descriptor, which it keeps open until it is dropped.
                let end = unsafe { AsyncFd::register_with_interest(receiver, Interest::READABLE) };
                let mut end = end.unwrap();
                for n in 0..COUNT {
                    assert_eq!(receive(&mut end).await, Some(n));
                }
                assert_eq!(receive(&mut end).await, None);
            });
        });
    });
}
