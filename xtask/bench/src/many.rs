//! Two that send and two that take, all through one channel: a sender and a taker on each of two cores.

use std::thread;

use multiprocess::{Process, Queue, RemoteError};
use serde::{Serialize, de::DeserializeOwned};

use crate::contestant::{Failure, Measured};
use crate::cores;
use crate::meter::Meter;

/// Bytes of a message.
pub(crate) const SIZE: usize = 64;

/// The channel, as one of the four has it.
pub(crate) trait Lane {
    fn put(&mut self, message: &[u8; SIZE]) -> Result<(), Failure>;
    fn take(&mut self) -> Result<[u8; SIZE], Failure>;
}

/// What makes a lane in whichever process it comes to.
pub(crate) trait Ends: Clone + Serialize + DeserializeOwned + 'static {
    type Lane: Lane;
    fn open(self) -> Result<Self::Lane, Failure>;
}

/// The first byte of a message says what its taker does with it.
const PLAIN: u8 = 1;
const LAST: u8 = 2;
const STOP: u8 = 3;

/// How many the second sender is to send, and the news that a marked message was taken: some three of them a batch, the same for every
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

pub(crate) fn between_processes<E: Ends>(meter: &mut Meter, ends: E) -> Measured {
    let control = Control::new()?;
    let start = || Process::builder().daemon(true);
    let sender = start().spawn(send_here::<E>, (ends.clone(), control.go.clone()))?;
    let takers = [true, false]
        .map(|first| start().spawn(take_here::<E>, (ends.clone(), control.taken.clone(), first)));
    measure(meter, &mut ends.open()?, &control)?;
    sender.join()??;
    takers.into_iter().try_for_each(|taker| Ok(taker?.join()??))
}

pub(crate) fn between_threads<L: Lane + Clone + Send + 'static>(meter: &mut Meter, mut lane: L) -> Measured {
    let control = Control::new()?;
    let (second, go) = (lane.clone(), control.go.clone());
    let sender = thread::spawn(move || {
        cores::pin_second()?;
        send_as_told(second, &go)
    });
    let takers = [true, false].map(|first| {
        let (lane, taken) = (lane.clone(), control.taken.clone());
        thread::spawn(move || {
            if first { cores::pin_first() } else { cores::pin_second() }?;
            take_all(lane, &taken)
        })
    });
    measure(meter, &mut lane, &control)?;
    for thread in [sender].into_iter().chain(takers) {
        thread.join().map_err(|_| "one of the threads panicked")??;
    }
    Ok(())
}

/// The measuring side is one of the senders. Once the last message of each has been taken, so have all before.
fn measure(meter: &mut Meter, lane: &mut impl Lane, control: &Control) -> Measured {
    meter.measure(|n| {
        let half = (n / 2).max(1);
        control.go.put(half)?;
        send(lane, n.saturating_sub(half).max(1))?;
        control.taken.get()?;
        Ok(control.taken.get().map(drop)?)
    })?;
    control.go.put(0)?;
    // One by one: a taker that reads ahead would keep the other's.
    for _ in 0..2 {
        lane.put(&message(STOP))?;
        control.taken.get()?;
    }
    Ok(())
}

fn message(mark: u8) -> [u8; SIZE] {
    let mut message = [0x5a; SIZE];
    message[0] = mark;
    message
}

fn send(lane: &mut impl Lane, count: u64) -> Result<(), Failure> {
    let plain = message(PLAIN);
    for _ in 1..count {
        lane.put(&plain)?;
    }
    lane.put(&message(LAST))
}

fn send_as_told(mut lane: impl Lane, go: &Queue<u64>) -> Result<(), Failure> {
    loop {
        match go.get()? {
            0 => return Ok(()),
            count => send(&mut lane, count)?,
        }
    }
}

fn take_all(mut lane: impl Lane, taken: &Queue<u8>) -> Result<(), Failure> {
    loop {
        let mark = lane.take()?[0];
        if mark != PLAIN {
            taken.put(mark)?;
        }
        if mark == STOP {
            return Ok(());
        }
    }
}

fn send_here<E: Ends>(ends: E, go: Queue<u64>) -> Result<(), RemoteError> {
    let sent = cores::pin_second().and_then(|()| send_as_told(ends.open()?, &go));
    Ok(sent.map_err(std::io::Error::other)?)
}

fn take_here<E: Ends>(ends: E, taken: Queue<u8>, first: bool) -> Result<(), RemoteError> {
    let pinned = if first { cores::pin_first() } else { cores::pin_second() };
    let took = pinned.and_then(|()| take_all(ends.open()?, &taken));
    Ok(took.map_err(std::io::Error::other)?)
}
