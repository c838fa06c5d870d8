//! What takes much memory or time: `cargo xtask stress`.

use mp_shm::{Frozen, FrozenWriter, Value, give, take};
use mp_test::{Role, command, guarded, say};
use std::time::{Duration, Instant};

fn seconds() -> Duration {
    let given = std::env::var("MP_STRESS_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(given.unwrap_or(1))
}

fn available() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// 8 GiB (or what two thirds of the available memory hold, which is said) are written, sealed, sent, and read elsewhere.
#[test]
#[ignore = "stress"]
fn eight_gibibytes_are_frozen_and_sent() {
    const ME: &str = "eight_gibibytes_are_frozen_and_sent";
    const PAGE: usize = 4096 / 8;
    if mp_test::role().is_some() {
        let frozen: Frozen<u64> = take("frozen").expect("a frozen slice");
        say(&format!("{} {}", frozen.len(), frozen.iter().step_by(PAGE).sum::<u64>()));
        return;
    }
    guarded(|| {
        let wanted: u64 = 8 << 30;
        let size = wanted.min(available() / 3 * 2);
        if size < wanted {
            eprintln!("mp-shm: {ME} has memory for {} MiB only", size >> 20);
        }
        let len = usize::try_from(size / 8).expect("a length");
        let mut writer = FrozenWriter::<u64>::new(len).expect("memory");
        for (page, words) in writer.chunks_mut(PAGE).enumerate() {
            words[0] = page as u64;
        }
        let frozen = writer.freeze().expect("seals");
        let mut command = command(ME, "reader");
        give(&mut command, "frozen", &frozen).expect("given");
        let mut reader = Role::start(command);
        let pages = len.div_ceil(PAGE) as u64;
        assert_eq!(reader.word(), Some(format!("{len} {}", pages * (pages - 1) / 2)));
        assert!(reader.wait().success());
    });
}

/// Waiters and changers of one value are killed at random; whoever lives always gets on, and the value is always one that
/// somebody set. Hunts a bell that a death leaves in a state in which a change is slept through.
#[test]
#[ignore = "stress"]
fn waiters_and_changers_killed_at_random_strand_nobody() {
    const ME: &str = "waiters_and_changers_killed_at_random_strand_nobody";
    match mp_test::role().as_deref() {
        Some("waiter") => {
            let value: Value<u64> = take("value").expect("a value");
            say("ready");
            let mut seen = value.get();
            loop {
                seen = value.wait_changed(seen);
            }
        }
        Some(_) => {
            let value: Value<u64> = take("value").expect("a value");
            say("ready");
            loop {
                value.fetch_add(1 << 32);
            }
        }
        None => {}
    }
    guarded(|| {
        let end = Instant::now() + seconds();
        let value = Value::new(0_u64).expect("a value");
        let start = |role: &str| {
            let mut command = command(ME, role);
            give(&mut command, "value", &value).expect("given");
            let mut role = Role::start(command);
            role.expect("ready");
            role
        };
        let mut rounds = 0_u32;
        while Instant::now() < end {
            let mut victims = [start("waiter"), start("changer"), start("waiter")];
            let before = value.get();
            value.wait_until(|now| now != before);
            let first = usize::try_from(rounds % 3).expect("small");
            victims[first].kill();
            victims[(first + 1) % 3].kill();
            victims[(first + 2) % 3].kill();
            // Nobody else lives: this change must reach a waiter in this process whatever the dead have left.
            let low = value.get();
            std::thread::scope(|scope| {
                let waiter = scope.spawn(|| value.wait_until(|now| now == low + 1));
                value.set(low + 1);
                assert!(waiter.join().is_ok());
            });
            value.set(0);
            rounds += 1;
        }
        println!("{rounds} rounds, 3 kills each");
    });
}
