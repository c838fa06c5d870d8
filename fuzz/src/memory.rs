//! Shared memory as its most careless user sees it: a file that can be written anywhere.

use super::input::Input;
use mp_core::wire;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use serde::Serialize;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// A message as it lies between two processes.
pub struct Sent {
    pub encoding: mp_core::Encoding,
    pub bytes: Vec<u8>,
    pub handles: Vec<OwnedFd>,
}

/// `value` as a message; ends that move stay, as when sending has failed.
pub fn sent<T: Serialize + 'static>(value: &T) -> Sent {
    let mut scratch = Vec::new();
    let message = wire::encode(value, &mut scratch).expect("it can be encoded");
    let handles = message.handles.fds().map(|fd| fd.try_clone_to_owned().expect("a descriptor")).collect();
    Sent { encoding: message.encoding, bytes: message.bytes.to_vec(), handles }
}

/// The memory behind handle `index` of `value`.
pub fn of<T: Serialize + 'static>(value: &T, index: usize) -> File {
    File::from(sent(value).handles.swap_remove(index))
}

/// Writes some word: of the first `fixed` bytes, or of the windows behind them.
pub fn scribble(file: &File, fixed: u64, input: &mut Input<'_>) {
    let at = match input.byte() {
        // The most important words stand in front.
        place @ 0..=127 => u64::from(place) * 8,
        128..=199 => u64::from(input.pair()) * 8 % fixed,
        _ => fixed.next_multiple_of(mp_shm::WINDOW) + u64::from(input.pair()) * 8,
    };
    write(file, at, input);
}

/// Writes the word at `at`, of four bytes or eight.
pub fn write(file: &File, at: u64, input: &mut Input<'_>) {
    let mut now = [0; 8];
    // Beyond the end there is nothing.
    if file.read_exact_at(&mut now, at).is_err() {
        return;
    }
    let word = input.number(u64::from_ne_bytes(now)).to_ne_bytes();
    let length = if input.byte() % 2 == 0 { 8 } else { 4 };
    file.write_all_at(&word[..length], at).expect("it is not sealed against writing");
}

/// Another file with what is in `file`, some of it changed: words, the length, the seals.
pub fn forged(file: &File, input: &mut Input<'_>) -> OwnedFd {
    let mut bytes = vec![0; usize::try_from(file.metadata().expect("a file").len()).expect("small")];
    file.read_exact_at(&mut bytes, 0).expect("a file");
    let copy = memfd_create("mp-forged", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("memory");
    let copy = File::from(copy);
    copy.write_all_at(&bytes, 0).expect("memory");
    for _ in 0..input.byte() % 8 {
        write(&copy, u64::from(input.byte()) * 4, input);
    }
    let length = input.byte();
    if length % 4 == 3 {
        let length = input.number(bytes.len() as u64) % (1 << 24);
        copy.set_len(length).expect("memory");
    }
    let seals = match fcntl_get_seals(file) {
        Ok(seals) if length < 200 => seals,
        _ => SealFlags::from_bits_truncate(input.byte().into()),
    };
    // Written once and sealed: some types ask for the last of these.
    let _ = fcntl_add_seals(&copy, seals);
    copy.into()
}

/// A descriptor of any kind.
pub fn any_descriptor(input: &mut Input<'_>) -> OwnedFd {
    match input.byte() % 4 {
        0 => File::open("/dev/null").expect("a descriptor").into(),
        1 => std::os::unix::net::UnixStream::pair().expect("descriptors").0.into(),
        2 => forged(&of(&mp_shm::Value::new(7_u32).expect("memory"), 0), input),
        _ => File::open("/proc/self")
            .expect("a descriptor")
            .as_fd()
            .try_clone_to_owned()
            .expect("a descriptor"),
    }
}
