//! A queue that can be joined: its claims lie in memory of their own.

use super::input::Input;
use super::memory;
use super::queue::{Item, another, item};
use mp_core::Waitable;
use mp_queue::{Claim, JoinableQueue, OnDeath};
use std::time::Duration;

const NOW: Duration = Duration::ZERO;

fn use_queue(queue: &JoinableQueue<Item>, claims: &mut Vec<Claim>, input: &mut Input<'_>) {
    match input.byte() % 14 {
        0..=2 => drop(queue.try_put(item(input))),
        3 | 4 => drop(queue.try_get()),
        5 | 6 => claims.extend(queue.try_claim().map(|(_, claim)| claim)),
        7 => drop(queue.task_done()),
        8 => drop(claims.pop().map(Claim::done)),
        9 => drop(claims.pop()),
        10 => drop(queue.join_timeout(NOW)),
        11 => drop((queue.len(), queue.unfinished(), queue.lost(), queue.is_empty())),
        12 => drop((queue.is_ready(), queue.wait_fd().map(|_| ()))),
        _ => drop(queue.try_get_many(input.byte().into()).map(|batch| batch.count())),
    }
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte();
    let bound = (kind % 4 > 1).then(|| usize::from(kind % 4));
    let policy = match kind / 4 % 3 {
        0 => OnDeath::CountLost,
        1 => OnDeath::Redeliver,
        _ => OnDeath::RedeliverAtMost(u32::from(kind / 12)),
    };
    let mut queue = JoinableQueue::<Item>::with_policy(bound, policy).expect("memory");
    let file = memory::of(&queue, 0);
    // Behind the memory: one bell or two.
    let claims_file = memory::of(&queue, if bound.is_some() { 3 } else { 2 });
    let (fixed, mut claims) = (file.metadata().expect("a file").len() - 384, Vec::new());
    for _ in 0..64 {
        let Some(what) = input.next() else { break };
        match what % 16 {
            0 | 1 => memory::scribble(&file, fixed, &mut input),
            2 => memory::write(&claims_file, u64::from(input.byte() % 16) * 8, &mut input),
            3 | 4 => {
                let entry = mp_shm::WINDOW + u64::from(input.byte() % 64) * 8;
                memory::write(&claims_file, entry, &mut input);
            }
            5 => match another(&queue) {
                Some(again) => queue = again,
                None => return,
            },
            6 => drop(queue.close()),
            _ => use_queue(&queue, &mut claims, &mut input),
        }
    }
}
