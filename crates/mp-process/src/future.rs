//! Waiting for a process without a thread.

use crate::error::JoinError;
use crate::process::Process;
use crate::status::ExitStatus;
use serde::de::DeserializeOwned;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::{fmt, io};

/// The end of a process as a future: what its function returned. Made by `process.await`.
///
/// Works under any executor. Dropped before the end, it drops the handle: the process runs on. To give up waiting and keep the
/// handle, wait with [`wait_async`](Process::wait_async).
#[must_use = "futures do nothing unless awaited"]
pub struct Join<R>(Pin<Box<dyn Future<Output = Result<R, JoinError>> + Send>>);

impl<R: DeserializeOwned + 'static> IntoFuture for Process<R> {
    type Output = Result<R, JoinError>;
    type IntoFuture = Join<R>;

    /// As [`join`](Process::join).
    fn into_future(mut self) -> Join<R> {
        Join(Box::pin(async move {
            self.forget_pipes().map_err(JoinError::Io)?;
            let status = self.wait_async().await.map_err(JoinError::Io)?;
            self.child().result(status)
        }))
    }
}

impl<R> Future for Join<R> {
    type Output = Result<R, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

impl<R> fmt::Debug for Join<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Join").finish_non_exhaustive()
    }
}

impl<R> Process<R> {
    /// As [`wait`](Process::wait), in a future. Nothing is lost when it is dropped: the handle is still here.
    ///
    /// # Errors
    ///
    /// What the system says.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use mp_process::Process;
    /// # async fn example(process: Process<u32>) -> Result<(), Box<dyn std::error::Error>> {
    /// let status = process.wait_async().await?;
    /// println!("ended with {status}");
    /// println!("its result: {}", process.await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn wait_async(&self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            mp_core::ready(self).await?;
        }
    }
}
