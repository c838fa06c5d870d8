//! Waiting for one thing in a future, under any executor.

use crate::deadline::LONG_SLICE;
use crate::wait::Waitable;
use async_io::{Async, Timer};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::task::Poll;

/// Completes when `item` is ready: an operation on it that does not wait would succeed, or tell why it cannot.
///
/// Works under every executor. It wakes once a second at the latest and looks again, as every sleep here does. It takes
/// nothing from `item`, so dropping the future loses nothing; loop over an operation that does not wait and this one:
///
/// ```
/// # use mp_core::Readable;
/// # use std::io::{Read, Write};
/// # async_io::block_on(async {
/// let (reader, mut writer) = std::io::pipe()?;
/// writer.write_all(b"x")?;
/// mp_core::ready(&Readable(&reader)).await?;
/// # std::io::Result::Ok(())
/// # }).unwrap();
/// ```
///
/// # Errors
///
/// When `item` says so, or no descriptors are left.
pub async fn ready<W: Waitable + ?Sized>(item: &W) -> io::Result<()> {
    if item.is_ready()? {
        return Ok(());
    }
    // A descriptor of its own: several futures may wait for the same thing, and one number is registered only once. A
    // blocking descriptor does no harm, since nothing is read from it.
    let watched = Async::new_nonblocking(item.wait_fd()?.try_clone_to_owned()?)?;
    // The first look was before the descriptor had to be readable; from here on readiness is never missed: each wait arms
    // the descriptor anew, and the kernel then tells what is readable already.
    while !item.is_ready()? {
        readable_or_slice(&watched).await?;
    }
    Ok(())
}

/// Completes when `watched` is readable, or after a slice.
async fn readable_or_slice(watched: &Async<OwnedFd>) -> io::Result<()> {
    let mut readable = pin!(watched.readable());
    let mut slice = pin!(Timer::after(LONG_SLICE));
    poll_fn(|context| match readable.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending => slice.as_mut().poll(context).map(|_| Ok(())),
    })
    .await
}
