//! Consumers and producers of a queue that can be joined are killed at random, thousands of times.
//!
//! Hunted: any interleaving of a death with the claims of others after which a value that `put` had confirmed is not done once all is
//! joined, is torn, is done although nobody put it, or after which somebody waits for ever. A value may be done twice only when a consumer
//! was killed.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "helpers of tests, small numbers")]

mod help;

use mp_queue::{GetError, JoinableQueue, give, take};
use mp_shm::{Array, Value};
use mp_test::{Role, command, guarded, role};
use serde::{Deserialize, Serialize};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

const TEST: &str = "random_kills_leave_no_task_undone_and_join_returns";
const SLOTS: usize = 512;
const EACH: usize = 2048;

type Task = (u32, u32, Vec<u8>);

fn task(slot: u32, number: u32) -> Task {
    let length = match number % 53 {
        0 => 200_000,
        1..5 => 5_000,
        _ => (number as usize * 31) % 200,
    };
    (slot, number, vec![(number ^ slot) as u8; length])
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Board {
    confirmed: Array<u64>,
    done: Array<u8>,
    over: Value<bool>,
}

fn produce() {
    let (queue, board, slot): (JoinableQueue<Task>, Board, u32) = take("kit").unwrap();
    for number in 0..EACH as u32 {
        if board.over.get() {
            return;
        }
        queue.put(task(slot, number)).unwrap();
        board.confirmed.at(slot as usize).set(u64::from(number) + 1);
    }
}

fn consume() {
    let (queue, board): (JoinableQueue<Task>, Board) = take("kit").unwrap();
    for turn in 0_u32.. {
        let settle: Box<dyn FnOnce()>;
        let got = if turn % 2 == 0 {
            queue.get().map(|task| (task, None))
        } else {
            queue.claim().map(|(task, claim)| (task, Some(claim)))
        };
        let (got, claim) = match got {
            Err(GetError::Closed) => return,
            other => other.unwrap(),
        };
        assert!(got == task(got.0, got.1), "torn: {} of {}", got.1, got.0);
        if turn % 31 == 7
            && let Some(claim) = claim
        {
            // Left to another.
            drop(claim);
            continue;
        }
        settle = match claim {
            Some(claim) => Box::new(move || claim.done().unwrap()),
            None => Box::new(|| queue.task_done().unwrap()),
        };
        board.done.at(got.0 as usize * EACH + got.1 as usize).fetch_add(1);
        settle();
    }
}

/// Numbers that look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn start(role: &str, kit: &impl Fn(&mut std::process::Command)) -> Role {
    let mut child = command(TEST, role);
    kit(&mut child);
    Role::start(child)
}

fn round(queue: &JoinableQueue<Task>, dice: &mut Dice, length: Duration) -> usize {
    let board = Board {
        confirmed: Array::new(SLOTS).unwrap(),
        done: Array::new(SLOTS * EACH).unwrap(),
        over: Value::new(false).unwrap(),
    };
    let mut slots = 0_u32;
    let mut producer = || {
        slots += 1;
        start("producer", &|child| give(child, "kit", &(queue.clone(), board.clone(), slots - 1)).unwrap())
    };
    let consumer =
        || start("consumer", &|child| give(child, "kit", &(queue.clone(), board.clone())).unwrap());
    let mut producers: Vec<Role> = (0..2).map(|_| producer()).collect();
    let mut consumers: Vec<Role> = (0..3).map(|_| consumer()).collect();
    let (mut kills, mut consumers_killed, begin) = (0, 0, Instant::now());
    while begin.elapsed() < length && kills < SLOTS - 2 {
        std::thread::sleep(Duration::from_micros(dice.below(8_000)));
        let of_producers = dice.below(3) == 0;
        let (among, index) = if of_producers {
            (&mut producers, dice.below(2) as usize)
        } else {
            (&mut consumers, dice.below(3) as usize)
        };
        let status = among[index].kill();
        assert!(status.success() || status.signal() == Some(9), "a child failed: {status}");
        kills += 1;
        if of_producers {
            producers[index] = producer();
        } else {
            consumers_killed += 1;
            consumers[index] = consumer();
        }
    }
    board.over.set(true);
    assert!(producers.iter_mut().all(|child| child.wait().success()));
    queue.join().unwrap();
    assert_eq!((queue.unfinished(), queue.lost()), (0, 0));
    queue.close().unwrap();
    assert!(consumers.iter_mut().all(|child| child.wait().success()));
    let mut again = 0;
    for slot in 0..slots as usize {
        let confirmed = board.confirmed.at(slot).get() as usize;
        for number in 0..EACH {
            let done = board.done.at(slot * EACH + number).get();
            assert!(done > 0 || number >= confirmed, "task {number} of {slot} was not done");
            assert!(done == 0 || number <= confirmed, "task {number} of {slot} was never put");
            again += usize::from(done.saturating_sub(1));
        }
    }
    assert!(again <= consumers_killed, "{again} done again, {consumers_killed} consumers killed");
    kills
}

#[test]
#[ignore = "stress"]
fn random_kills_leave_no_task_undone_and_join_returns() {
    match role().as_deref() {
        Some("producer") => return produce(),
        Some(_) => return consume(),
        None => {}
    }
    let seconds = std::env::var("MP_STRESS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let length = Duration::from_secs_f64(seconds);
    let begin = Instant::now();
    let seed =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    let (mut dice, mut kills, mut rounds) = (Dice(seed), 0, 0);
    let wanted = help::wanted_kills();
    while rounds < 2 || begin.elapsed() < length || kills < wanted {
        guarded(|| {
            let queue = match rounds % 2 {
                0 => JoinableQueue::new(),
                _ => JoinableQueue::bounded(1 + dice.below(20) as usize),
            };
            kills += round(&queue.unwrap(), &mut dice, (length / 2).min(Duration::from_secs(5)));
        });
        rounds += 1;
    }
    println!("{kills} kills in {rounds} rounds");
}
