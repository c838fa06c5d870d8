//! Several that send and as many that take, all through one channel: half of either on each of two cores.

use std::thread;

use multiprocess::{Process, Queue, RemoteError};
use serde::{Serialize, de::DeserializeOwned};

use crate::contestant::{Failure, Measured};
use crate::cores;
use crate::limit::large::{ANSWER as LAST, PLAIN, STOP, Value, value};
use crate::meter::Meter;

/// Bytes of a message.
pub(crate) const SIZE: usize = 64;

/// What goes through the channel; its mark says what its taker does with it.
pub(crate) trait Parcel: 'static {
    fn marked(mark: u8) -> Self;
    fn mark(&self) -> u8;
}

impl Parcel for [u8; SIZE] {
    fn marked(mark: u8) -> Self {
        let mut message = [0x5a; SIZE];
        message[0] = mark;
        message
    }

    fn mark(&self) -> u8 {
        self[0]
    }
}

impl Parcel for Value {
    fn marked(mark: u8) -> Self {
        value(mark)
    }

    fn mark(&self) -> u8 {
        self.0.to_le_bytes()[0]
    }
}

/// The channel, as one of them has it.
pub(crate) trait Lane<M> {
    fn put(&mut self, message: &M) -> Result<(), Failure>;
    fn take(&mut self) -> Result<M, Failure>;
}

/// What makes a lane in whichever process it comes to.
pub(crate) trait Ends: Clone + Serialize + DeserializeOwned + 'static {
    type Parcel: Parcel;
    type Lane: Lane<Self::Parcel>;
    fn open(self) -> Result<Self::Lane, Failure>;
}

/// How many the other senders are to send, and the news that a marked message was taken: a few of them a batch, the same for every
/// contestant.
#[derive(Clone)]
struct Control {
    go: Queue<u64>,
    taken: Queue<u8>,
}

impl Control {
    fn new() -> Result<Control, Failure> {
        Ok(Control { go: Queue::new()?, taken: Queue::new()? })
    }
}

pub(crate) fn between_processes<E: Ends>(meter: &mut Meter, ends: E, pairs: u64) -> Measured {
    let control = Control::new()?;
    let start = || Process::builder().daemon(true);
    let mut others = Vec::new();
    for side in 1..pairs {
        others.push(start().spawn(send_here::<E>, (ends.clone(), control.go.clone(), side))?);
    }
    for side in 0..pairs {
        others.push(start().spawn(take_here::<E>, (ends.clone(), control.taken.clone(), side))?);
    }
    measure(meter, &mut ends.open()?, &control, pairs)?;
    others.into_iter().try_for_each(|other| Ok(other.join()??))
}

pub(crate) fn between_threads<M: Parcel, L>(meter: &mut Meter, mut lane: L, pairs: u64) -> Measured
where
    L: Lane<M> + Clone + Send + 'static,
{
    let control = Control::new()?;
    let mut others = Vec::new();
    for side in 1..pairs {
        let (lane, go) = (lane.clone(), control.go.clone());
        others.push(thread::spawn(move || {
            pin(side)?;
            send_as_told(lane, &go)
        }));
    }
    for side in 0..pairs {
        let (lane, taken) = (lane.clone(), control.taken.clone());
        others.push(thread::spawn(move || {
            pin(side)?;
            take_all(lane, &taken)
        }));
    }
    measure(meter, &mut lane, &control, pairs)?;
    for thread in others {
        thread.join().map_err(|_| "one of the threads panicked")??;
    }
    Ok(())
}

/// As many on either core.
fn pin(side: u64) -> Result<(), Failure> {
    if side.is_multiple_of(2) { cores::pin_first() } else { cores::pin_second() }
}

/// The measuring side is one of the senders. Once the last message of each has been taken, so have all before.
fn measure<M: Parcel>(meter: &mut Meter, lane: &mut impl Lane<M>, control: &Control, pairs: u64) -> Measured {
    meter.measure(|n| {
        let share = (n / pairs).max(1);
        (1..pairs).try_for_each(|_| control.go.put(share))?;
        send(lane, n.saturating_sub(share * (pairs - 1)).max(1))?;
        (0..pairs).try_for_each(|_| control.taken.get().map(drop))?;
        Ok(())
    })?;
    (1..pairs).try_for_each(|_| control.go.put(0))?;
    // One by one: a taker that reads ahead would keep the other's.
    for _ in 0..pairs {
        lane.put(&M::marked(STOP))?;
        control.taken.get()?;
    }
    Ok(())
}

fn send<M: Parcel>(lane: &mut impl Lane<M>, count: u64) -> Result<(), Failure> {
    let plain = M::marked(PLAIN);
    for _ in 1..count {
        lane.put(&plain)?;
    }
    lane.put(&M::marked(LAST))
}

fn send_as_told<M: Parcel>(mut lane: impl Lane<M>, go: &Queue<u64>) -> Result<(), Failure> {
    loop {
        match go.get()? {
            0 => return Ok(()),
            count => send(&mut lane, count)?,
        }
    }
}

fn take_all<M: Parcel>(mut lane: impl Lane<M>, taken: &Queue<u8>) -> Result<(), Failure> {
    loop {
        let mark = lane.take()?.mark();
        if mark != PLAIN {
            taken.put(mark)?;
        }
        if mark == STOP {
            return Ok(());
        }
    }
}

fn send_here<E: Ends>(ends: E, go: Queue<u64>, side: u64) -> Result<(), RemoteError> {
    let sent = pin(side).and_then(|()| send_as_told(ends.open()?, &go));
    Ok(sent.map_err(std::io::Error::other)?)
}

fn take_here<E: Ends>(ends: E, taken: Queue<u8>, side: u64) -> Result<(), RemoteError> {
    let took = pin(side).and_then(|()| take_all(ends.open()?, &taken));
    Ok(took.map_err(std::io::Error::other)?)
}
