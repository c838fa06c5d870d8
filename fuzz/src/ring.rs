//! The byte ring under pipes and queues, with both of its sides.

use super::input::Input;
use super::memory;
use mp_core::Encoding;
use mp_pipe::ring::{Direction, Growth, ReaderCache, Record, Ring, Table, WriterCache};
use mp_shm::{Format, Growable, HEADER};
use std::fs::File;
use std::os::fd::AsFd;

const FORMAT: Format = Format::plain(*b"FUZZ", 1);

fn read(ring: &Ring, cache: &mut ReaderCache, input: &mut Input<'_>) {
    let mut buffer = [0; 4096];
    for _ in 0..20 {
        let head = match ring.look(cache) {
            Some(head) => head,
            None => match ring.peek(cache) {
                Ok(Some(head)) => head,
                _ => break,
            },
        };
        let copied = match buffer.get_mut(..head.length) {
            Some(out) => ring.copy_into(cache, &head, out),
            None => ring.copy_to(cache, &head, &mut Vec::new()),
        };
        if copied.is_err() || input.byte() % 8 == 7 {
            break;
        }
        ring.commit(cache, &head);
    }
    ring.give_all_space(cache);
    let _ = ring.release_left_regions(cache);
    let _ = (ring.free_bytes(cache), ring.len(), ring.is_empty(), ring.writer_left());
}

fn write(ring: &Ring, cache: &mut WriterCache, growth: Growth, input: &mut Input<'_>) {
    let kind = input.byte();
    let length = if kind % 4 == 3 { usize::from(input.pair()) * 2 } else { input.byte().into() };
    let bytes = vec![kind; length];
    let bound = if kind < 200 { u64::MAX } else { input.number(3) };
    if kind % 2 == 0 && ring.write_plain(cache, bound, Encoding::BYTES, &bytes) {
        return;
    }
    let record = Record { encoding: Encoding::BYTES, bytes: &bytes, handles: u16::from(kind % 16 == 5) };
    let _ = ring.write(cache, growth, bound, record, |_| Ok(()));
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (table, growth) = match input.byte() % 2 {
        0 => (Table::Short, Growth::WhenEmpty),
        _ => (Table::Long, Growth::Always),
    };
    let growable = Growable::create(FORMAT, table.fixed()).expect("memory");
    let file = File::from(growable.as_fd().try_clone_to_owned().expect("a descriptor"));
    let fixed = (HEADER + table.fixed()) as u64;
    let ring = Ring::new(growable, HEADER, Direction::There, table);
    let (mut writer, mut reader) = (WriterCache::default(), ReaderCache::default());
    for _ in 0..64 {
        let Some(what) = input.next() else { return };
        match what % 16 {
            0..=5 => memory::scribble(&file, fixed, &mut input),
            6..=8 => write(&ring, &mut writer, growth, &mut input),
            9..=11 => read(&ring, &mut reader, &mut input),
            // Somebody else takes over.
            12 => write(&ring, &mut WriterCache::default(), growth, &mut input),
            13 => read(&ring, &mut ReaderCache::default(), &mut input),
            14 => {
                ring.mend_reader();
                ring.mend_writer();
            }
            _ => drop(ring.shrink(&mut writer)),
        }
    }
}
