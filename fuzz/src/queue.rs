//! A queue with its senders and receivers, over memory in which a third party writes.

use super::input::Input;
use super::memory;
use mp_core::{Waitable, wire};
use mp_queue::{GetError, Queue, Receiver, Sender};
use mp_shm::Value;
use serde::{Serialize, de::DeserializeOwned};
use std::fs::File;
use std::time::Duration;

const NOW: Duration = Duration::ZERO;

pub type Item = (u64, Vec<u8>, Option<Value<u64>>);

pub fn item(input: &mut Input<'_>) -> Item {
    let length = usize::from(input.byte()) * if input.byte() % 8 == 0 { 300 } else { 1 };
    let value = (input.byte() % 8 == 7).then(|| Value::new(5).expect("memory"));
    (7, vec![1; length], value)
}

fn use_queue(queue: &Queue<Item>, input: &mut Input<'_>) {
    match input.byte() % 12 {
        0 | 1 => drop(queue.try_put(item(input))),
        2 => drop(queue.try_put_many((0..input.byte() % 70).map(|_| (3, Vec::new(), None)))),
        3 | 4 => drop(queue.try_get()),
        5 => drop(queue.try_get_many(input.byte().into()).map(|batch| batch.count())),
        6 => drop((queue.len(), queue.is_empty(), queue.is_full(), queue.bound(), queue.is_closed())),
        7 => drop(queue.is_ready()),
        8 => drop(queue.wait_fd().map(|_| ())),
        9 => drop(format!("{queue:?}")),
        10 => drop(queue.put_timeout(item(input), NOW)),
        _ => drop(queue.get_timeout(NOW)),
    }
}

fn use_halves(sender: &Sender<Item>, receiver: &Receiver<Item>, input: &mut Input<'_>) {
    match input.byte() % 6 {
        0 => drop(sender.try_put(item(input))),
        1 => drop(receiver.try_get()),
        2 => drop((sender.is_ready(), receiver.is_ready())),
        3 => drop((sender.wait_fd().map(|_| ()), receiver.wait_fd().map(|_| ()))),
        4 => drop(receiver.try_get_many(9).map(|batch| batch.count())),
        _ => drop((sender.is_full(), receiver.len())),
    }
}

/// As it is for whoever gets it in a message.
pub fn another<T: Serialize + DeserializeOwned + 'static>(value: &T) -> Option<T> {
    let sent = memory::sent(value);
    wire::decode(sent.encoding, sent.bytes.into(), sent.handles).ok()
}

/// Where the two locks lie: behind the ring, at the end of the fixed part.
pub fn locks(fixed: u64) -> std::ops::Range<u64> {
    fixed - 384..fixed - 128
}

/// Changes a lock; whether it did.
pub fn scribble_lock(file: &File, fixed: u64, input: &mut Input<'_>) -> bool {
    let place = input.byte();
    // Mostly the words around the locks, of which the queue's own follow them.
    let at = locks(fixed).start + u64::from(place % 96) * 4;
    memory::write(file, at, input);
    locks(fixed).contains(&at)
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let bound = input.byte() % 4;
    let queue = if bound == 0 { Queue::<Item>::new() } else { Queue::bounded(bound.into()) };
    let mut queue = queue.expect("memory");
    let (sender, receiver) = queue.clone().split();
    let file = memory::of(&queue, 0);
    let fixed = file.metadata().expect("a file").len();
    let mut locks_are_whole = true;
    for _ in 0..48 {
        let Some(what) = input.next() else { break };
        match what % 16 {
            0..=4 => memory::scribble(&file, locks(fixed).start, &mut input),
            5 => locks_are_whole &= !scribble_lock(&file, fixed, &mut input),
            6..=10 => use_queue(&queue, &mut input),
            11..=13 => use_halves(&sender, &receiver, &mut input),
            14 => match another(&queue) {
                Some(again) => queue = again,
                None => return,
            },
            // It waits for the owner of a lock for as long as it takes, and a damaged lock may name one that never was.
            _ if locks_are_whole => drop(queue.close()),
            _ => drop(queue.close_timeout(NOW)),
        }
    }
    drop((queue, sender));
    if locks_are_whole {
        comes_to_an_end(&receiver);
    }
}

/// Whose senders are all gone hears so, after what lies in the queue, or that the queue is damaged.
fn comes_to_an_end(receiver: &Receiver<Item>) {
    for _ in 0..100 {
        if let Err(GetError::Disconnected | GetError::Closed | GetError::Io(_)) = receiver.get() {
            return;
        }
    }
}
