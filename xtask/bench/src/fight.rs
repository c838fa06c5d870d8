//! Two processes that want the same lock all the time.

use crate::arena::Arena;
use crate::contestant::{Failure, Measured};
use crate::meter::Meter;

/// How often a side looks what the other has done.
const LOOK_EVERY: u64 = 32;

/// The measuring side: an operation is a turn of either; `turn` acquires, runs what it is given, and releases.
pub(crate) fn measure(
    meter: &mut Meter,
    arena: &Arena,
    mut turn: impl FnMut(&mut dyn FnMut()) -> Result<(), Failure>,
) -> Measured {
    arena.await_ready();
    let mut since = None;
    meter.measure(|n| {
        let start = arena.turns(0) + arena.turns(1);
        since.get_or_insert([arena.turns(0), arena.turns(1)]);
        loop {
            for _ in 0..LOOK_EVERY {
                turn(&mut || arena.guarded())?;
                arena.took_turn(0);
            }
            if arena.turns(0) + arena.turns(1) - start >= n {
                return Ok(());
            }
        }
    })?;
    let [own, other] = since.map_or([0, 0], |[own, other]| [arena.turns(0) - own, arena.turns(1) - other]);
    meter.sample.share = Some(own.min(other) as f64 / (own + other) as f64);
    arena.stop();
    Ok(())
}

/// The other side.
pub(crate) fn serve(
    arena: &Arena,
    mut turn: impl FnMut(&mut dyn FnMut()) -> Result<(), Failure>,
) -> Result<(), Failure> {
    arena.ready();
    while !arena.is_stopped() {
        turn(&mut || arena.guarded())?;
        arena.took_turn(1);
    }
    Ok(())
}

/// Nobody was in there together with another.
pub(crate) fn check(arena: &Arena) -> Measured {
    let turns = arena.turns(0) + arena.turns(1);
    if arena.count() == turns {
        Ok(())
    } else {
        Err(format!("{} of {turns} turns counted", arena.count()).into())
    }
}
