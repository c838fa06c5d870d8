//! `Queue`, one each way: bytes in a `Vec`, which is what bytes cross in fastest.

use std::process::Stdio;

use mp_queue::{Queue, give, take};

use crate::contestant::{Failure, Measured};
use crate::link::{self, Link};
use crate::meter::Meter;
use crate::{cores, role};

/// To the other side, and from it.
type Queues = (Queue<Vec<u8>>, Queue<Vec<u8>>);

impl<const N: usize> Link<N> for Queues {
    fn send(&mut self, message: &[u8; N]) -> Result<(), Failure> {
        Ok(self.0.put(message.to_vec())?)
    }

    fn recv(&mut self) -> Result<[u8; N], Failure> {
        self.1.get()?.try_into().map_err(|_| "a message of another length".into())
    }
}

pub(crate) fn round_trip(meter: &mut Meter) -> Measured {
    with_queues("8", |queues| link::round_trip::<8>(meter, queues))
}

pub(crate) fn stream(meter: &mut Meter) -> Measured {
    with_queues("64", |queues| link::stream::<64>(meter, queues))
}

fn with_queues(size: &str, measure: impl FnOnce(&mut Queues) -> Measured) -> Measured {
    // As many messages in between as the ring of the limit holds.
    let (to, from) = (Queue::bounded(1024)?, Queue::bounded(1024)?);
    let mut command = role::command("ours-queue", size, Stdio::null())?;
    give(&mut command, "queues", &(from.clone(), to.clone()))?;
    let child = command.spawn()?;
    drop(command);
    measure(&mut (to, from))?;
    role::finish(child)
}

pub(crate) fn serve(size: &str) -> Result<(), Failure> {
    cores::pin_second()?;
    let mut queues: Queues = take("queues")?;
    if size == "8" { link::serve::<8>(&mut queues) } else { link::serve::<64>(&mut queues) }
}
