//! `ready`: under an executor that knows nothing of descriptors, and under tokio's.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_core::{Readable, Waitable, ready};
use std::future::{Future, poll_fn};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Once};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The plainest executor: polls, and parks its thread in between.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Polls `future` once; it must not be ready.
fn poll_once<F: Future>(future: Pin<&mut F>) {
    assert!(future.poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

/// Only `!` makes it ready; any other byte is a bell for nothing.
struct Spurious {
    reader: PipeReader,
    bells: AtomicU32,
}

impl Waitable for Spurious {
    fn wait_fd(&self) -> io::Result<BorrowedFd<'_>> {
        Ok(self.reader.as_fd())
    }

    fn is_ready(&self) -> io::Result<bool> {
        if !Readable(&self.reader).is_ready()? {
            return Ok(false);
        }
        let mut byte = [0];
        (&self.reader).read_exact(&mut byte)?;
        self.bells.fetch_add(1, SeqCst);
        Ok(byte == *b"!")
    }
}

/// Starts what async-io keeps for the life of a process, then runs `test` guarded.
fn guarded(test: impl FnOnce()) {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let (reader, _writer) = pipe();
        poll_once(pin!(ready(&reader)));
        block_on(async_io::Timer::after(Duration::from_millis(1)));
    });
    mp_test::guarded(test);
}

fn pipe() -> (Readable<PipeReader>, PipeWriter) {
    let (reader, writer) = io::pipe().unwrap();
    (Readable(reader), writer)
}

fn read_byte(reader: &Readable<PipeReader>) -> u8 {
    let mut byte = [0];
    (&reader.0).read_exact(&mut byte).unwrap();
    byte[0]
}

#[test]
fn what_is_ready_already_completes_at_once() {
    guarded(|| {
        let (reader, mut writer) = pipe();
        writer.write_all(b"x").unwrap();
        let mut future = pin!(ready(&reader));
        assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    });
}

#[test]
fn a_later_byte_completes_it_under_a_plain_executor() {
    guarded(|| {
        let (reader, mut writer) = pipe();
        let polled = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&polled);
        let other = thread::spawn(move || {
            mp_test::until("the future was polled", || seen.load(SeqCst) == 1);
            writer.write_all(b"x").unwrap();
            writer
        });
        let mut future = pin!(ready(&reader));
        block_on(poll_fn(|context| {
            let result = future.as_mut().poll(context);
            polled.store(1, SeqCst);
            result
        }))
        .unwrap();
        drop(other.join().unwrap());
    });
}

#[test]
fn a_hang_up_is_readiness() {
    guarded(|| {
        let (reader, writer) = pipe();
        let mut future = pin!(ready(&reader));
        poll_once(future.as_mut());
        drop(writer);
        block_on(future).unwrap();
    });
}

#[test]
fn a_dropped_future_takes_nothing() {
    guarded(|| {
        let (reader, mut writer) = pipe();
        {
            let mut future = pin!(ready(&reader));
            poll_once(future.as_mut());
            writer.write_all(b"x").unwrap();
        }
        block_on(ready(&reader)).unwrap();
        assert_eq!(read_byte(&reader), b'x');
    });
}

#[test]
fn several_futures_wait_for_the_same_thing() {
    guarded(|| {
        let (reader, mut writer) = pipe();
        let (mut first, mut second) = (Box::pin(ready(&reader)), Box::pin(ready(&reader)));
        poll_once(first.as_mut());
        poll_once(second.as_mut());
        writer.write_all(b"x").unwrap();
        block_on(second).unwrap();
        block_on(first).unwrap();
    });
}

#[test]
fn bells_for_nothing_go_on_waiting() {
    guarded(|| {
        let (reader, mut writer) = io::pipe().unwrap();
        let item = Spurious { reader, bells: AtomicU32::new(0) };
        let mut future = pin!(ready(&item));
        poll_once(future.as_mut());
        writer.write_all(b"..!").unwrap();
        block_on(future).unwrap();
        assert_eq!(item.bells.load(SeqCst), 3);
    });
}

#[test]
fn works_under_tokio() {
    guarded(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            let (there_reader, mut there) = pipe();
            let (back_reader, mut back) = pipe();
            let echo = tokio::spawn(async move {
                for _ in 0..100 {
                    ready(&there_reader).await.unwrap();
                    back.write_all(&[read_byte(&there_reader)]).unwrap();
                }
            });
            for number in 0..100 {
                there.write_all(&[number]).unwrap();
                ready(&back_reader).await.unwrap();
                assert_eq!(read_byte(&back_reader), number);
            }
            echo.await.unwrap();
        });
    });
}

#[test]
fn select_in_tokio_drops_it_without_loss() {
    guarded(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (reader, mut writer) = pipe();
            tokio::select! {
                _ = ready(&reader) => panic!("nothing was written"),
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
            writer.write_all(b"x").unwrap();
            ready(&reader).await.unwrap();
            assert_eq!(read_byte(&reader), b'x');
        });
    });
}
