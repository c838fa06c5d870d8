//! Messages of arbitrary bytes, with arbitrary handles beside them.

use super::input::Input;
use super::memory::{self, Sent};
use mp_core::{Encoding, Passed, wire};
use mp_queue::{JoinableQueue, Queue};
use mp_shm::{Array, Frozen, ShareableList, SharedMemory, Value};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

#[derive(Debug, Serialize, Deserialize)]
pub enum Tree {
    Leaf,
    Text(String, char, bool),
    Pair(Box<(u8, i64)>, Option<Vec<u16>>),
    Map(BTreeMap<u32, String>),
    Handles(Vec<Passed<OwnedFd>>),
    Floats { one: f32, many: Vec<f64> },
}

fn decode<T: DeserializeOwned + 'static>(sent: Sent) {
    let _ = wire::decode::<T>(sent.encoding, sent.bytes.into(), sent.handles);
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (kind, encoding) = (input.byte(), input.byte());
    let handles = (0..input.byte() % 4).map(|_| memory::any_descriptor(&mut input)).collect();
    let encoding = if encoding < 128 { Encoding::POSTCARD } else { Encoding(encoding - 128) };
    let sent = Sent { encoding, bytes: input.rest().to_vec(), handles };
    match kind % 20 {
        0 => decode::<Vec<u8>>(sent),
        1 => decode::<String>(sent),
        2 => decode::<Vec<u64>>(sent),
        3 => decode::<Vec<f32>>(sent),
        4 => decode::<Tree>(sent),
        5 => decode::<(u64, String, [f64; 16])>(sent),
        6 => decode::<Vec<Tree>>(sent),
        7 => decode::<Value<u32>>(sent),
        8 => decode::<Array<f64>>(sent),
        9 => decode::<Frozen<u64>>(sent),
        10 => decode::<SharedMemory>(sent),
        11 => decode::<ShareableList>(sent),
        12 => decode::<Queue<u8>>(sent),
        13 => decode::<mp_queue::Sender<u8>>(sent),
        14 => decode::<mp_queue::Receiver<u8>>(sent),
        15 => decode::<JoinableQueue<u8>>(sent),
        16 => decode::<mp_pipe::Connection>(sent),
        17 => decode::<mp_pipe::Sender<u8>>(sent),
        18 => decode::<mp_pipe::Receiver<u8>>(sent),
        _ => decode::<Vec<Option<Passed<std::fs::File>>>>(sent),
    }
}
