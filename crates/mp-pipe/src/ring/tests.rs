use super::*;
use mp_shm::Format;
use std::collections::VecDeque;

const FORMAT: Format = Format::plain(*b"TEST", 1);

fn ring() -> Ring {
    let memory = Growable::create(FORMAT, Table::Long.fixed()).unwrap();
    Ring::new(memory, mp_shm::HEADER, Direction::There, Table::Long)
}

fn write(ring: &Ring, cache: &mut WriterCache, growth: Growth, bytes: &[u8]) -> Result<(), WriteError> {
    let record = Record { encoding: Encoding::BYTES, bytes, handles: 0 };
    ring.write(cache, growth, u64::MAX, record, |_| Ok(()))
}

fn read(ring: &Ring, cache: &mut ReaderCache) -> Option<Vec<u8>> {
    let head = ring.peek(cache).unwrap()?;
    let mut out = Vec::new();
    ring.copy_to(cache, &head, &mut out).unwrap();
    ring.commit(cache, &head);
    Some(out)
}

/// A cheap generator: the same numbers each time.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn message(state: &mut u64) -> Vec<u8> {
    let length = match random(state) % 100 {
        0..60 => random(state) % 100,
        60..90 => random(state) % 10_000,
        90..99 => random(state) % 400_000,
        _ => random(state) % 20_000_000,
    };
    let fill = u8::try_from(random(state) % 256).unwrap();
    vec![fill; usize::try_from(length).unwrap()]
}

fn behaves_as_a_queue(growth: Growth, rounds: u32, seed: u64) {
    let ring = ring();
    let (mut writer, mut reader) = (WriterCache::default(), ReaderCache::default());
    let (mut model, mut state) = (VecDeque::new(), seed);
    for round in 0..rounds {
        if random(&mut state) % 16 < 9 {
            let bytes = message(&mut state);
            match write(&ring, &mut writer, growth, &bytes) {
                Ok(()) => model.push_back(bytes),
                Err(WriteError::Full) => {
                    assert!(growth == Growth::WhenEmpty && !model.is_empty(), "round {round}")
                }
                Err(error) => panic!("{error:?}"),
            }
        } else {
            assert!(read(&ring, &mut reader) == model.pop_front(), "round {round}");
        }
        if random(&mut state).is_multiple_of(50) {
            // Another process takes over one side: nothing depends on what was remembered.
            writer = WriterCache::default();
            reader = ReaderCache::default();
        }
        assert_eq!(ring.len(), model.len() as u64);
    }
    while let Some(bytes) = model.pop_front() {
        assert!(read(&ring, &mut reader) == Some(bytes));
    }
    assert_eq!(read(&ring, &mut reader), None);
}

#[test]
fn a_growing_ring_is_a_queue() {
    behaves_as_a_queue(Growth::Always, 1500, 1);
}

#[test]
fn a_pipe_s_ring_is_a_queue() {
    behaves_as_a_queue(Growth::WhenEmpty, 3000, 2);
}

#[test]
fn a_ring_that_calms_down_still_has_room_for_what_is_written() {
    for length in [10, 20_000, 100_000, 300_000] {
        let (ring, mut writer, mut reader) = (ring(), WriterCache::default(), ReaderCache::default());
        for round in 0..1500 {
            let bytes = if round == 0 { vec![1; 3_000_000] } else { vec![2; length] };
            write(&ring, &mut writer, Growth::WhenEmpty, &bytes).unwrap();
            assert!(read(&ring, &mut reader) == Some(bytes), "{length} bytes, round {round}");
        }
    }
}

#[test]
fn the_bound_counts_messages() {
    let (ring, mut writer, mut reader) = (ring(), WriterCache::default(), ReaderCache::default());
    let record = Record { encoding: Encoding::BYTES, bytes: b"x", handles: 0 };
    for _ in 0..3 {
        for _ in 0..2 {
            ring.write(&mut writer, Growth::Always, 2, record, |_| Ok(())).unwrap();
        }
        let full = ring.write(&mut writer, Growth::Always, 2, record, |_| Ok(()));
        assert!(matches!(full, Err(WriteError::Full)));
        assert!(read(&ring, &mut reader).is_some() && read(&ring, &mut reader).is_some());
    }
}

#[test]
fn one_thread_writes_while_another_reads() {
    let ring = ring();
    let count = if cfg!(debug_assertions) { 200_000_u64 } else { 5_000_000 };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut cache = WriterCache::default();
            for n in 0..count {
                let bytes = n.to_ne_bytes();
                let bytes = &bytes.repeat(1 + usize::try_from(n % 9).unwrap());
                while write(&ring, &mut cache, Growth::WhenEmpty, bytes).is_err() {
                    std::thread::yield_now();
                }
            }
        });
        let mut cache = ReaderCache::default();
        for n in 0..count {
            let bytes = loop {
                if let Some(bytes) = read(&ring, &mut cache) {
                    break bytes;
                }
                std::thread::yield_now();
            };
            assert_eq!(bytes, n.to_ne_bytes().repeat(1 + usize::try_from(n % 9).unwrap()));
        }
    });
}

/// Large enough for a region of its own.
const LARGE: usize = 6 << 20;

#[test]
fn large_messages_take_turns_in_the_memory_of_three() {
    let (ring, mut writer, mut reader) = (ring(), WriterCache::default(), ReaderCache::default());
    let mut send = |n: u8| write(&ring, &mut writer, Growth::WhenEmpty, &vec![n; LARGE]);
    send(0).unwrap();
    for n in 1..20 {
        send(n).unwrap();
        assert!(matches!(send(n), Err(WriteError::Full)), "a third one has to wait");
        assert!(read(&ring, &mut reader) == Some(vec![n - 1; LARGE]));
        assert!(mib(&ring) <= 19, "{}", mib(&ring));
    }
    assert_eq!(ring.regions(), 20 + 1);
    let offsets: std::collections::BTreeSet<u64> = (1..=20).map(|index| ring.entry(index).offset).collect();
    assert_eq!(offsets.len(), 3, "the first was not left when the third was sent");
    // Nobody sends any more.
    assert!(read(&ring, &mut reader) == Some(vec![19; LARGE]));
    ring.release_left_regions(&mut reader).unwrap();
    assert_eq!(mib(&ring), 0);
    // What was returned while it was read from is not offered.
    assert!(write(&ring, &mut writer, Growth::WhenEmpty, &vec![7; LARGE]).is_ok());
    assert!(read(&ring, &mut reader) == Some(vec![7; LARGE]));
    assert!(!ring.spare().was_offered(20) && mib(&ring) == 6);
}

#[test]
fn what_fits_nobody_makes_room_for_what_does() {
    let (ring, mut writer, mut reader) = (ring(), WriterCache::default(), ReaderCache::default());
    let mut through = |length: usize| {
        write(&ring, &mut writer, Growth::Always, &vec![1; length]).unwrap();
        assert!(read(&ring, &mut reader) == Some(vec![1; length]));
    };
    (0..3).for_each(|_| through(5 * LARGE));
    (0..6).for_each(|_| through(LARGE));
    let last: std::collections::BTreeSet<u64> =
        (ring.regions() - 4..ring.regions()).map(|index| ring.entry(index).offset).collect();
    assert_eq!(last.len(), 2, "small ones take turns");
    assert!(mib(&ring) <= 13, "{}", mib(&ring));
}

/// How much memory there is, in MiB.
fn mib(ring: &Ring) -> i64 {
    rustix::fs::fstat(ring.memory()).unwrap().st_blocks / 2048
}

#[test]
fn what_a_reader_gave_back_and_died_is_not_offered() {
    let (ring, mut writer, mut reader) = (ring(), WriterCache::default(), ReaderCache::default());
    let mut send = |n: u8| write(&ring, &mut writer, Growth::Always, &vec![n; LARGE]).unwrap();
    (0..3).for_each(&mut send);
    for n in 0..3 {
        assert!(read(&ring, &mut reader) == Some(vec![n; LARGE]));
    }
    // The first was offered; the second was given back, and the reader died before he said so.
    ring.word(FREED).fetch_sub(1, Relaxed);
    send(3);
    assert!(ring.spare().left().is_none() && mib(&ring) == 12, "the first was taken");
    ring.mend_reader();
    assert_eq!(ring.word(FREED).load(Relaxed), ring.word(REGION).load(Relaxed));
    assert_eq!(ring.spare().reclaim(), None);
}

#[test]
fn what_a_writer_took_and_died_goes_back() {
    let (ring, mut writer, mut reader) = (ring(), WriterCache::default(), ReaderCache::default());
    (0..2).for_each(|n| write(&ring, &mut writer, Growth::Always, &vec![n; LARGE]).unwrap());
    (0..2).for_each(|n| assert!(read(&ring, &mut reader) == Some(vec![n; LARGE])));
    assert!(ring.spare().take(|_| true).is_some() && mib(&ring) == 12);
    ring.mend_writer();
    assert_eq!(mib(&ring), 6);
    // What the table names was not lost.
    let last = ring.entry(ring.regions() - 1);
    let words = ring.spare();
    words.state.store(words.state.load(Relaxed) | 2, Relaxed);
    words.offset.store(last.offset, Relaxed);
    ring.mend_writer();
    assert!(ring.spare().left().is_none() && mib(&ring) == 6);
}

#[test]
fn a_large_region_that_is_read_in_two_goes_is_given_back_twice() {
    let (ring, mut writer, mut reader) = (ring(), WriterCache::default(), ReaderCache::default());
    let mut round = |length: usize, idle: bool| {
        write(&ring, &mut writer, Growth::WhenEmpty, &vec![1; length]).unwrap();
        assert!(read(&ring, &mut reader) == Some(vec![1; length]));
        if idle {
            ring.release_left_regions(&mut reader).unwrap();
        }
        ring.regions()
    };
    (0..3).for_each(|_| assert!(round(10 << 20, false) > 0));
    let regions = round(5 << 20, true);
    assert_eq!(round(4 << 20, true), regions, "it had room for both");
    assert!(mib(&ring) <= 1, "{} MiB are still there", mib(&ring));
}

#[test]
fn a_writer_who_waits_for_memory_is_woken_when_there_is_some() {
    let (ring, mut writer, mut reader) = (ring(), WriterCache::default(), ReaderCache::default());
    let mut send = |length| write(&ring, &mut writer, Growth::WhenEmpty, &vec![1; length]);
    for length in [LARGE, 10_000, 10_000] {
        send(length).unwrap();
    }
    for left in [2, 1] {
        assert!(matches!(send(LARGE), Err(WriteError::Full)));
        read(&ring, &mut reader).unwrap();
        let woken = ring.is_empty() || ring.free_bytes(&reader) >= reader.region_size() / 4;
        assert_eq!(woken, left == 1, "{left} are left");
    }
    send(LARGE).unwrap();
}

#[test]
fn memory_goes_back_after_a_burst() {
    let (ring, mut writer, mut reader) = (ring(), WriterCache::default(), ReaderCache::default());
    let kib = || rustix::fs::fstat(ring.memory()).unwrap().st_blocks / 2;
    for _ in 0..100 {
        write(&ring, &mut writer, Growth::Always, &vec![1; 1 << 20]).unwrap();
    }
    assert!(kib() > 100 << 10);
    while read(&ring, &mut reader).is_some() {}
    ring.shrink(&mut writer).unwrap();
    ring.release_left_regions(&mut reader).unwrap();
    assert!(kib() < 1 << 10, "{} KiB are still there", kib());
    write(&ring, &mut writer, Growth::Always, b"again").unwrap();
    assert_eq!(read(&ring, &mut reader).as_deref(), Some(&b"again"[..]));
}

#[test]
fn more_taken_than_sent_is_an_error_not_an_empty_ring() {
    let (ring, mut cache) = (ring(), ReaderCache::default());
    ring.word(super::layout::TAKEN).store(1, Relaxed);
    assert!(!ring.is_empty());
    assert!(ring.look(&mut cache).is_none());
    assert_eq!(ring.peek(&mut cache).unwrap_err().kind(), std::io::ErrorKind::InvalidData);
}

/// Random words in everything that another process can write: the header, the table, the records.
fn scribble(ring: &Ring, state: &mut u64) {
    for _ in 0..random(state) % 5 {
        let place = usize::try_from(random(state) % 110).unwrap() * 8;
        // Small numbers and near misses as often as large ones.
        let value = match random(state) % 3 {
            0 => ring.table_word(place).load(Relaxed).wrapping_add(random(state) % 17).wrapping_sub(8),
            _ => random(state) >> (random(state) % 64),
        };
        ring.table_word(place).store(value, Relaxed);
    }
    for index in 0..2 {
        if random(state).is_multiple_of(2)
            && let Ok(region) = ring.map_region(index)
            && let Ok(word) = region.word((random(state) % 2000) & !7)
        {
            word.store(random(state) >> (random(state) % 64), Relaxed);
        }
    }
}

/// Everything that a reader does, until it finds nothing, or an error.
fn read_garbage(ring: &Ring, cache: &mut ReaderCache, state: &mut u64) {
    let mut buffer = vec![0; 1 << 16];
    for _ in 0..30 {
        let found = if random(state).is_multiple_of(2) { Ok(ring.look(cache)) } else { ring.peek(cache) };
        let Ok(Some(head)) = found else { break };
        let copied = match buffer.get_mut(..head.length) {
            Some(out) => ring.copy_into(cache, &head, out),
            None => ring.copy_to(cache, &head, &mut Vec::new()),
        };
        if copied.is_err() {
            break;
        }
        ring.commit(cache, &head);
    }
    ring.give_all_space(cache);
    let _ = ring.release_left_regions(cache);
    let _ = (ring.free_bytes(cache), ring.len(), ring.is_empty());
    ring.mend_reader();
}

/// Everything that a writer does.
fn write_garbage(ring: &Ring, cache: &mut WriterCache, state: &mut u64) {
    for growth in [Growth::Always, Growth::WhenEmpty] {
        // Now and then one that asks for memory of its own.
        let most = if random(state).is_multiple_of(32) { LARGE as u64 } else { 40_000 };
        let bytes = vec![3; usize::try_from(random(state) % most).unwrap()];
        if !ring.write_plain(cache, random(state), Encoding::BYTES, &bytes) {
            let _ = write(ring, cache, growth, &bytes);
        }
    }
    let _ = ring.shrink(cache);
    ring.mend_writer();
}

fn survives_garbage(seed: u64) {
    let mut state = seed | 1;
    let (ring, mut writer, mut reader) = (ring(), WriterCache::default(), ReaderCache::default());
    for _ in 0..20 {
        write(&ring, &mut writer, Growth::Always, &[3; 100]).unwrap();
    }
    let _ = read(&ring, &mut reader);
    for _ in 0..3 {
        scribble(&ring, &mut state);
        for cache in [&mut reader, &mut ReaderCache::default()] {
            read_garbage(&ring, cache, &mut state);
        }
        for cache in [&mut writer, &mut WriterCache::default()] {
            write_garbage(&ring, cache, &mut state);
        }
    }
}

#[test]
fn garbage_is_an_error_never_a_panic() {
    (0..500_u64).for_each(|seed| survives_garbage(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
}

/// As the one above, for `MP_STRESS_SECONDS`, from other seeds each time; a failure names its seed.
#[test]
#[ignore = "stress: runs for MP_STRESS_SECONDS"]
fn much_garbage_is_an_error_never_a_panic() {
    let seconds = std::env::var("MP_STRESS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    let mut seed = mp_core::park::ticks();
    let mut rounds = 0_u64;
    while std::time::Instant::now() < end {
        seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
        let one = seed;
        if let Err(panic) = std::panic::catch_unwind(move || survives_garbage(one)) {
            eprintln!("survives_garbage({one}) panicked");
            std::panic::resume_unwind(panic);
        }
        rounds += 1;
    }
    println!("{rounds} rings full of garbage");
}
