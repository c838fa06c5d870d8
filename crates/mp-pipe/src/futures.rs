//! The forms for futures: they wait in the kernel as `poll` does, and take nothing but in the step that returns it.

use crate::error::{RecvError, TryRecvError};
use crate::{AcceptError, Connection, Listener, Peer, Receiver, RecvHalf};
use mp_core::Waitable;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Receives by `try_recv` when `end` is ready.
async fn recv<E: Waitable, T>(
    end: &mut E,
    mut try_recv: impl FnMut(&mut E) -> Result<T, TryRecvError>,
) -> Result<T, RecvError> {
    loop {
        match try_recv(end) {
            Ok(value) => return Ok(value),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Failed(error)) => return Err(error),
        }
        mp_core::ready(&*end).await.map_err(RecvError::Io)?;
    }
}

impl Connection {
    /// Receives the next message, in a future, under any executor. Dropping the future loses no message.
    ///
    /// As [`recv`](Connection::recv) otherwise, also when the other end's process dies.
    ///
    /// # Errors
    ///
    /// See [`RecvError`].
    ///
    /// # Examples
    ///
    /// ```
    /// # async_io::block_on(async {
    /// let (mut left, mut right) = mp_pipe::pipe()?;
    /// left.send("obj".to_owned())?;
    /// assert_eq!(right.recv_async::<String>().await?, "obj");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub async fn recv_async<T: DeserializeOwned + 'static>(&mut self) -> Result<T, RecvError> {
        recv(self, Connection::try_recv).await
    }
}

impl RecvHalf {
    /// As [`Connection::recv_async`].
    ///
    /// # Errors
    ///
    /// See [`RecvError`].
    pub async fn recv_async<T: DeserializeOwned + 'static>(&mut self) -> Result<T, RecvError> {
        recv(self, RecvHalf::try_recv).await
    }
}

impl Listener {
    /// Waits for the next client, in a future, under any executor. Dropping the future turns no client away: a handshake that has begun
    /// goes on in the next call.
    ///
    /// # Errors
    ///
    /// See [`AcceptError`]; mostly one client's.
    pub async fn accept_async(&mut self) -> Result<(Connection, Peer), AcceptError> {
        loop {
            if let Some(accepted) = self.accept_timeout(Duration::ZERO)? {
                return Ok(accepted);
            }
            mp_core::ready(&*self).await.map_err(AcceptError::Io)?;
        }
    }
}

impl<T: DeserializeOwned + 'static> Receiver<T> {
    /// Receives the next value, in a future, under any executor. Dropping the future loses no value.
    ///
    /// As [`recv`](Receiver::recv) otherwise, also when the sender's process dies.
    ///
    /// # Errors
    ///
    /// See [`RecvError`].
    pub async fn recv_async(&mut self) -> Result<T, RecvError> {
        recv(self, Receiver::try_recv).await
    }
}
