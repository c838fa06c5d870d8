//! Whatever another process has written into the memory of claims: an error or a wrong value, never a panic or an endless loop.

use super::table::{Claims, FIXED};
use mp_core::Encoding;
use mp_shm::{HEADER, WINDOW};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Any value, small ones and powers of two less rarely than by chance.
fn word(state: &mut u64) -> u64 {
    let some = random(state);
    match random(state) % 4 {
        0 => some,
        1 => some >> (some % 64),
        2 => (1 << (some % 64)) - (some >> 63),
        _ => u64::MAX - some % 100,
    }
}

/// Does what a consumer, a joiner and a sweeper do.
fn use_it(claims: &Claims, state: &mut u64) {
    let mut kept = Vec::new();
    for number in 0..20 {
        let bytes = vec![1; usize::try_from(random(state) % 300).unwrap() + 1];
        kept.extend(claims.record(number, Encoding::BYTES, false, &bytes));
    }
    for (n, claimed) in kept.into_iter().enumerate() {
        match n % 4 {
            0 => _ = claims.settle(claimed, || ()),
            1 => _ = claims.give_back(claimed, false),
            2 => _ = claims.give_back(claimed, true),
            _ => claims.keep(claimed),
        }
    }
    let _ = claims.sweep(&claims.dead_owners());
    for _ in 0..5 {
        let mut bytes = Vec::new();
        if let Ok(Some((claimed, _))) = claims.take_returned(&mut bytes) {
            claims.settle(claimed, || ());
        }
    }
    claims.mend(random(state) % 30);
    let _ = claims.unfinished_slot(random(state) % 200);
    let _ = (claims.unfinished(), claims.oldest_kept(), claims.lost(), claims.sweep_is_due());
    claims.trim();
}

#[test]
fn garbage_is_an_error_never_a_panic() {
    let seconds = std::env::var("MP_STRESS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let (mut state, start) = (9, Instant::now());
    let mut rounds = 0;
    while rounds < 8 || start.elapsed() < Duration::from_secs_f64(seconds) {
        rounds += 1;
        let claims = Claims::create(1).unwrap();
        use_it(&claims, &mut state);
        for _ in 0..1 + random(&mut state) % 4 {
            let fixed = FIXED as u64 / 8;
            let place = HEADER + usize::try_from(random(&mut state) % fixed).unwrap() * 8;
            claims.memory().fixed().atomic_u64(place).store(word(&mut state), Relaxed);
        }
        if let Ok(block) =
            claims.memory().window(claims.memory().first_window(), usize::try_from(WINDOW).unwrap())
        {
            for _ in 0..1 + random(&mut state) % 8 {
                // Any word of the first entries.
                let place = usize::try_from(random(&mut state) % (40 * 8)).unwrap() * 8;
                block.atomic_u64(place).store(word(&mut state), Relaxed);
            }
        }
        use_it(&claims, &mut state);
        use_it(&Claims::open(claims.memory().clone()), &mut state);
    }
}
