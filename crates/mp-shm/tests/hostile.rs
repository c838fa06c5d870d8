//! Descriptors that come from a broken program: every header, size and set of seals gives an error or harmless memory.

mod common;

use common::cross;
use mp_core::Passed;
use mp_shm::{Array, Frozen, Value};
use mp_test::guarded;
use rustix::fs::{MemfdFlags, SealFlags};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A header that is right but for what `random` changes in it.
fn header(random: &mut Random, kind: &[u8; 4], version: u32, element: u32, size: u64) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..8].copy_from_slice(b"mpshm\0\0\x01");
    bytes[8..12].copy_from_slice(kind);
    bytes[12..16].copy_from_slice(&version.to_ne_bytes());
    bytes[16..20].copy_from_slice(&element.to_ne_bytes());
    bytes[20..24].copy_from_slice(&4_u32.to_ne_bytes());
    bytes[24..32].copy_from_slice(&size.wrapping_sub(64).to_ne_bytes());
    match random.below(4) {
        0 => {}
        // A length, or a number of pages, that is anything.
        1 => {
            let at = [24, 56][usize::from(random.below(2) == 1)];
            let shift = random.below(64);
            bytes[at..at + 8].copy_from_slice(&(random.next() >> shift).to_ne_bytes());
        }
        2 => bytes[56..64].copy_from_slice(&((1_u64 << 63) | (1 << random.below(40))).to_ne_bytes()),
        _ => (0..=random.below(3)).for_each(|_| {
            bytes[usize::try_from(random.below(64)).expect("small")] = random.next().to_ne_bytes()[0];
        }),
    }
    bytes
}

fn descriptor(random: &mut Random, size: u64, header: &[u8; 64]) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(rustix::fs::memfd_create("mp-test", flags).expect("a memfd"));
    file.write_all_at(header, 0).expect("written");
    file.set_len(size).expect("sized");
    let seals = match random.below(8) {
        0 => SealFlags::SHRINK,
        1 => SealFlags::GROW,
        2 => SealFlags::SHRINK | SealFlags::GROW,
        _ => SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    };
    // Those for writing need seals without WRITE.
    let seals = if random.below(2) == 0 { seals.difference(SealFlags::WRITE) } else { seals };
    rustix::fs::fcntl_add_seals(&file, seals).expect("sealed");
    file.into()
}

/// Fuzzing with a seed, for as long as it is given: each of the three is offered what looks much like itself.
#[test]
fn whatever_a_descriptor_holds_is_refused_or_used_without_harm() {
    let seconds = std::env::var("MP_STRESS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    guarded(|| {
        let (mut random, end) = (Random(0x9e37_79b9), Instant::now() + Duration::from_secs(seconds));
        let (mut tried, mut taken) = (0, [0; 3]);
        while Instant::now() < end || tried < 1000 {
            tried += 1;
            let size = [64, 65, 68, 4096, 8192 + random.below(4096), random.below(64)]
                [usize::try_from(random.below(6)).expect("small")];
            let element = 5;
            let value = header(&mut random, b"VALU", 2, element, size);
            let value = Passed(descriptor(&mut random, size, &value));
            if let Ok(value) = cross::<_, Value<i32>>(&(0_u32, value)) {
                value.fetch_add(value.get());
                value.wait_changed_timeout(0, Duration::ZERO);
                taken[0] += 1;
            }
            let array = header(&mut random, b"ARRY", 2, element, size);
            let array = Passed(descriptor(&mut random, size, &array));
            let (start, count) = (random.below(3), random.below(2000));
            if let Ok(array) = cross::<_, Array<i32>>(&((0_u32, array), start, count)) {
                array.fill(7);
                assert!(array.to_vec().iter().all(|element| *element == 7));
                taken[1] += 1;
            }
            let frozen = header(&mut random, b"FROZ", 1, element, size);
            let frozen = Passed(descriptor(&mut random, size, &frozen));
            if let Ok(frozen) = cross::<_, Frozen<i32>>(&frozen) {
                assert!(frozen.prefault().is_ok());
                let _ = frozen.iter().fold(0_i32, |sum, element| sum.wrapping_add(*element));
                taken[2] += 1;
            }
        }
        assert!(
            taken.iter().all(|taken| *taken > 0),
            "each kind was accepted now and then: {taken:?} of {tried}"
        );
    });
}
