//! The second process of a link: it serves an end that it was given.

use multiprocess::{Process, RemoteError};
use serde::{Serialize, de::DeserializeOwned};

use crate::contestant::{Failure, Measured};
use crate::cores;
use crate::link::{self, Link};

/// Serves `end` with messages of `N` bytes in another process until it is told to stop.
pub(super) fn start<const N: usize, L>(end: L) -> Result<Process<Result<(), RemoteError>>, Failure>
where
    L: Link<N> + Serialize + DeserializeOwned + 'static,
{
    // A daemon, so that it never outlives a sample that the watchdog has ended.
    Ok(Process::builder().daemon(true).spawn(serve::<N, L>, (end,))?)
}

pub(super) fn finish(process: Process<Result<(), RemoteError>>) -> Measured {
    Ok(process.join()??)
}

fn serve<const N: usize, L: Link<N>>(mut end: L) -> Result<(), RemoteError> {
    let served = cores::pin_second().and_then(|()| link::serve::<N>(&mut end));
    Ok(served.map_err(std::io::Error::other)?)
}
