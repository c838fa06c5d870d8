//! Shared memory that was forged: a copy of what some type makes, with other words, another length, other seals.

use super::input::Input;
use super::memory;
use mp_core::wire;
use mp_queue::{JoinableQueue, Queue};
use mp_shm::{Array, Frozen, Value};
use serde::{Serialize, de::DeserializeOwned};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// What arrives when the memory of `value` is forged.
fn forged<T: Serialize + DeserializeOwned + 'static>(value: &T, input: &mut Input<'_>) -> Option<T> {
    let mut sent = memory::sent(value);
    for (index, fd) in std::mem::take(&mut sent.handles).into_iter().enumerate() {
        let file = File::from(fd);
        let is_memory = rustix::fs::fcntl_get_seals(&file).is_ok();
        let forge = is_memory && (index == 0 || input.byte() % 2 == 0);
        let fd: OwnedFd = if forge { memory::forged(&file, input) } else { file.into() };
        sent.handles.push(fd);
    }
    if input.byte() % 8 == 7 {
        sent.bytes = input.bytes(20).to_vec();
    }
    wire::decode(sent.encoding, sent.bytes.into(), sent.handles).ok()
}

fn use_array(array: &Array<u64>) {
    let _ = array.to_vec();
    let _ = array.iter().fold(0_u64, u64::wrapping_add);
    if let Some(last) = array.len().checked_sub(1) {
        array.set(last, 1);
        let _ = array.slice(last..).to_vec();
    }
    let _ = array.prefault();
}

fn use_queue(queue: &Queue<Vec<u8>>) {
    let _ = queue.try_put(vec![1; 100]);
    let _ = (queue.try_get(), queue.len(), queue.is_full(), queue.bound());
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 10 {
        0 => {
            if let Some(value) = forged(&Value::new(5_u32).expect("memory"), &mut input) {
                value.set(value.get().wrapping_add(1));
                let _ = value.wait_changed_timeout(value.get(), Duration::ZERO);
            }
        }
        1 => drop(forged(&Value::new('x').expect("memory"), &mut input).map(|value| value.get())),
        2 => drop(forged(&Value::new(true).expect("memory"), &mut input).map(|value| value.get())),
        3 => {
            let array = Array::<u64>::new(usize::from(input.byte())).expect("memory");
            forged(&array, &mut input).iter().for_each(use_array);
        }
        4 => {
            let array = Array::<char>::new(9).expect("memory").slice(2..5);
            drop(forged(&array, &mut input).map(|array| array.to_vec()));
        }
        5 => {
            let frozen = Frozen::from_slice(&[7_u64; 20]).expect("memory");
            let sum = |frozen: Frozen<u64>| frozen.iter().fold(0_u64, |a, b| a.wrapping_add(*b));
            let _ = forged(&frozen, &mut input).map(sum);
        }
        6 => {
            let frozen = Frozen::from_slice(b"bytes").expect("memory");
            drop(forged(&frozen, &mut input).map(|frozen| frozen.to_vec()));
        }
        7 => {
            let queue = Queue::<Vec<u8>>::bounded(2).expect("memory");
            let _ = queue.try_put(vec![2; 10]);
            forged(&queue, &mut input).iter().for_each(use_queue);
        }
        8 => {
            let queue = JoinableQueue::<Vec<u8>>::new().expect("memory");
            let _ = (queue.try_put(vec![2; 10]), queue.try_put(vec![2; 10]), queue.try_get());
            if let Some(queue) = forged(&queue, &mut input) {
                let _ = (queue.try_get(), queue.task_done(), queue.unfinished(), queue.len());
            }
        }
        _ => {
            let (mut left, right) = mp_pipe::pipe().expect("memory");
            let _ = left.send(vec![1_u8; 10]);
            if let Some(mut end) = forged(&right, &mut input) {
                let _ = end.try_recv::<Vec<u8>>();
                let _ = end.send_timeout(vec![1_u8; 10], Duration::ZERO);
            }
        }
    }
}
