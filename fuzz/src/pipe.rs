//! Both ends of a pipe, over memory in which a third party writes.

use super::input::Input;
use super::memory;
use mp_core::{Waitable, wire};
use mp_pipe::{Connection, RecvError, pipe};
use mp_shm::Value;
use std::time::Duration;

const NOW: Duration = Duration::ZERO;

type Message = (u64, String, Option<Value<u64>>);

fn message(input: &mut Input<'_>) -> Message {
    let length = usize::from(input.byte()) * if input.byte() % 8 == 0 { 200 } else { 1 };
    let value = (input.byte() % 8 == 7).then(|| Value::new(5).expect("memory"));
    (7, "x".repeat(length), value)
}

fn use_end(end: &mut Connection, input: &mut Input<'_>) {
    match input.byte() % 10 {
        0 => drop(end.send_timeout(message(input), NOW)),
        1 => drop(end.send_timeout(vec![3_u8; usize::from(input.pair())], NOW)),
        2 | 3 => drop(end.try_recv::<Vec<u8>>()),
        4 => drop(end.try_recv::<Message>()),
        5 => {
            if matches!(end.poll(NOW), Ok(true)) {
                drop(end.recv_bytes_into(&mut [0; 64]));
            }
        }
        6 => drop(end.is_ready()),
        7 => drop(end.wait_fd().map(|_| ())),
        8 => drop(format!("{end:?}")),
        _ => drop(end.recv_timeout::<Message>(NOW)),
    }
}

/// The end as whoever gets it in a message has it.
fn moved(end: &Connection) -> Option<Connection> {
    let sent = memory::sent(end);
    wire::decode(sent.encoding, sent.bytes.into(), sent.handles).ok()
}

fn in_halves(end: Connection, input: &mut Input<'_>) -> Option<Connection> {
    let (mut sending, mut receiving) = end.split().ok()?;
    match input.byte() % 4 {
        0 => drop(receiving.try_recv::<Vec<u8>>()),
        1 => drop(sending.send_timeout(message(input), NOW)),
        2 => drop(receiving.is_ready()),
        _ => {}
    }
    sending.reunite(receiving).ok()
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut left, mut right) = pipe().expect("memory");
    let file = memory::of(&left, 0);
    let fixed = file.metadata().expect("a file").len();
    for _ in 0..48 {
        let Some(what) = input.next() else { break };
        match what % 16 {
            0..=5 => memory::scribble(&file, fixed, &mut input),
            6..=9 => use_end(&mut left, &mut input),
            10..=13 => use_end(&mut right, &mut input),
            14 => match moved(&right) {
                Some(again) => right = again,
                None => return,
            },
            _ => match in_halves(left, &mut input) {
                Some(again) => left = again,
                None => return,
            },
        }
    }
    drop(left);
    comes_to_an_end(&mut right);
    // In a burst the kernel is asked now and then only.
    while right.send(message(&mut input)).is_ok() {}
}

/// Whose peer is gone hears so, after what lies in the ring, or that the ring is damaged. A ring full of nothing may hold many
/// empty messages.
fn comes_to_an_end(end: &mut Connection) {
    for _ in 0..100 {
        if let Err(RecvError::Disconnected | RecvError::Io(_) | RecvError::InUse) = end.recv::<Vec<u8>>() {
            return;
        }
    }
}
