//! Producers and consumers are killed and stopped at random, thousands of times.
//!
//! Hunted: any interleaving of a death with the operations of the others that loses a value which `put` had confirmed (save the
//! one that a killed consumer had taken), shows one twice, tears one, gives it another's handle, or lets somebody wait
//! for ever. Each producer numbers its values and notes in shared memory which it has put; consumers count there which they have
//! seen.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "helpers of tests, small numbers")]

mod help;

use help::memory;
use mp_queue::{GetError, PutError, Queue, Receiver, Sender, TryGetError, TryPutError, give, take};
use mp_shm::{Array, Value};
use mp_test::{Role, command, guarded, role};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

const TEST: &str = "random_kills_lose_double_and_tear_nothing_and_nobody_hangs";
/// Producers that one round may see, and values that each of them puts.
const SLOTS: usize = 1024;
const EACH: usize = 4096;

#[derive(Debug, Serialize, Deserialize)]
struct Item {
    slot: u32,
    number: u32,
    bytes: Vec<u8>,
    /// Some values carry memory that tells whose it is.
    memory: Option<Value<u64>>,
}

impl Item {
    fn new(slot: u32, number: u32) -> Item {
        let length = match number % 97 {
            0 => 300_000,
            1..10 => 9_000,
            _ => (number as usize * 31) % 200,
        };
        let memory = (number % 11 == 3).then(|| Value::new(mark(slot, number)).unwrap());
        Item { slot, number, bytes: vec![(number ^ slot) as u8; length], memory }
    }

    /// Whether it is whole and its own.
    fn check(&self) {
        let expected = Item::new(self.slot, self.number);
        assert!(self.bytes == expected.bytes, "torn: {} of {}", self.number, self.slot);
        let marks = [self, &expected].map(|item| item.memory.as_ref().map(Value::get));
        // Without one when the kernel had no room for handles.
        assert!(marks[0].is_none() || marks[0] == marks[1], "another's handle: {marks:?}");
    }
}

fn mark(slot: u32, number: u32) -> u64 {
    u64::from(slot) << 32 | u64::from(number)
}

/// What tells the processes of a round about each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Board {
    /// How many values of each producer were confirmed.
    confirmed: Array<u64>,
    /// How often each value was seen.
    seen: Array<u8>,
    over: Value<bool>,
}

impl Board {
    fn new() -> Board {
        let (confirmed, seen) = (Array::new(SLOTS).unwrap(), Array::new(SLOTS * EACH).unwrap());
        Board { confirmed, seen, over: Value::new(false).unwrap() }
    }
}

/// How the processes of a round put and get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Way {
    /// They wait in `put` and `get`.
    Plain,
    /// They sleep in `poll`, for ever if the bell is missed.
    Polling,
    /// They get so many at once.
    Batches,
}

/// What a killed consumer may have taken and not yet noted.
const BATCH: usize = 8;

/// Puts in the way of the round; what was refused, if it was not for lack of room.
fn put(sender: &Sender<Item>, way: Way, mut item: Item) -> Result<(), PutError<Item>> {
    if way != Way::Polling {
        return sender.put(item);
    }
    loop {
        match sender.try_put(item) {
            Ok(()) => return Ok(()),
            Err(TryPutError::Failed(error)) => return Err(error),
            Err(TryPutError::Full(back)) => item = back,
        }
        poll(&mut [PollFd::new(sender, PollFlags::IN)], None).unwrap();
    }
}

/// Gets in the way of the round.
fn get(receiver: &Receiver<Item>, way: Way) -> Result<Vec<Item>, GetError> {
    match way {
        Way::Plain => receiver.get().map(|item| vec![item]),
        Way::Batches => receiver.get_many(BATCH)?.collect(),
        Way::Polling => loop {
            match receiver.try_get() {
                Ok(item) => return Ok(vec![item]),
                Err(TryGetError::Failed(error)) => return Err(error),
                Err(TryGetError::Empty) => {}
            }
            poll(&mut [PollFd::new(receiver, PollFlags::IN)], None).unwrap();
        },
    }
}

fn produce() {
    let (sender, board, way, slot): (Sender<Item>, Board, Way, u32) = take("kit").unwrap();
    for number in 0..EACH as u32 {
        if board.over.get() {
            return;
        }
        if let Err(error) = put(&sender, way, Item::new(slot, number)) {
            assert!(matches!(error, PutError::TooManyHandles(_)), "{error}");
            put(&sender, way, Item { memory: None, ..error.into_inner() }).unwrap();
        }
        board.confirmed.at(slot as usize).set(u64::from(number) + 1);
    }
}

fn consume() {
    let (receiver, board, way): (Receiver<Item>, Board, Way) = take("kit").unwrap();
    let mut last = HashMap::new();
    loop {
        let items = match get(&receiver, way) {
            Err(GetError::Closed) => return,
            other => other.unwrap(),
        };
        // Noted first: a check takes longer.
        for item in &items {
            board.seen.at(item.slot as usize * EACH + item.number as usize).fetch_add(1);
        }
        for item in items {
            item.check();
            let before = last.insert(item.slot, item.number);
            assert!(before.is_none_or(|before| before < item.number), "out of order");
        }
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victims {
    Producers,
    Consumers,
    Both,
}

struct Round {
    queue: Queue<Item>,
    board: Board,
    way: Way,
    /// Who is killed.
    victims: Victims,
    producers: Vec<Role>,
    consumers: Vec<Role>,
    slots: u32,
    consumers_killed: usize,
    kills: usize,
}

impl Round {
    fn start_producer(&mut self) {
        let mut child = command(TEST, "producer");
        give(
            &mut child,
            "kit",
            &(self.queue.clone().into_sender(), self.board.clone(), self.way, self.slots),
        )
        .unwrap();
        self.producers.push(Role::start(child));
        self.slots += 1;
    }

    fn start_consumer(&mut self) {
        let mut child = command(TEST, "consumer");
        give(&mut child, "kit", &(self.queue.clone().into_receiver(), self.board.clone(), self.way)).unwrap();
        self.consumers.push(Role::start(child));
    }

    fn kill_one(&mut self, dice: &mut Dice) {
        let producers = self.producers.len() as u64;
        let chosen = match self.victims {
            Victims::Producers => dice.below(producers),
            Victims::Consumers => producers + dice.below(self.consumers.len() as u64),
            Victims::Both => dice.below(producers + self.consumers.len() as u64),
        };
        let is_producer = chosen < producers;
        let among = if is_producer { &mut self.producers } else { &mut self.consumers };
        let index = if is_producer { chosen } else { chosen - producers };
        let mut victim = among.swap_remove(index as usize);
        if dice.below(4) == 0 {
            // Stopped for a while first, perhaps with a lock in its hands.
            let _ = kill_process(Pid::from_raw(victim.pid() as i32).unwrap(), Signal::STOP);
            std::thread::sleep(Duration::from_micros(dice.below(3_000)));
        }
        let status = victim.kill();
        assert!(status.success() || status.signal() == Some(9), "a child failed: {status}");
        self.kills += 1;
        if is_producer {
            self.start_producer();
        } else {
            self.consumers_killed += 1;
            self.start_consumer();
        }
    }

    fn finish(mut self) {
        self.board.over.set(true);
        assert!(self.producers.iter_mut().all(|child| child.wait().success()));
        self.queue.close().unwrap();
        assert!(self.consumers.iter_mut().all(|child| child.wait().success()));
        assert!(self.queue.get().unwrap_err().is_closed());
        let mut lost = 0;
        for slot in 0..self.slots as usize {
            let confirmed = self.board.confirmed.at(slot).get() as usize;
            for number in 0..EACH {
                let seen = self.board.seen.at(slot * EACH + number).get();
                assert!(seen <= 1, "value {number} of {slot} was seen {seen} times");
                assert!(seen == 0 || number <= confirmed, "value {number} of {slot} was never put");
                lost += usize::from(seen == 0 && number < confirmed);
            }
        }
        let taken = if self.way == Way::Batches { BATCH } else { 1 };
        assert!(
            lost <= self.consumers_killed * taken,
            "{lost} lost, {} consumers killed",
            self.consumers_killed
        );
        // What the dead left half-done is tidied up as well.
        assert!(memory() < 1 << 20, "{} bytes are left", memory());
    }
}

fn round(queue: Queue<Item>, way: Way, dice: &mut Dice, length: Duration) -> usize {
    let (producers, consumers) = (Vec::new(), Vec::new());
    let board = Board::new();
    let all = [Victims::Producers, Victims::Consumers, Victims::Both];
    let victims = all[dice.below(3) as usize];
    let mut round =
        Round { queue, board, way, victims, producers, consumers, slots: 0, consumers_killed: 0, kills: 0 };
    for _ in 0..1 + dice.below(3) {
        round.start_producer();
    }
    for _ in 0..1 + dice.below(3) {
        round.start_consumer();
    }
    let start = Instant::now();
    while start.elapsed() < length && (round.slots as usize) < SLOTS {
        std::thread::sleep(Duration::from_micros(dice.below(6_000)));
        round.kill_one(dice);
    }
    let kills = round.kills;
    round.finish();
    kills
}

#[test]
#[ignore = "stress"]
fn random_kills_lose_double_and_tear_nothing_and_nobody_hangs() {
    match role().as_deref() {
        Some("producer") => return produce(),
        Some("consumer") => return consume(),
        _ => {}
    }
    let seconds = std::env::var("MP_STRESS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let length = Duration::from_secs_f64(seconds);
    let start = Instant::now();
    let seed =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    let (mut dice, mut kills, mut rounds) = (Dice(seed), 0, 0);
    let wanted = help::wanted_kills();
    while rounds < 6 || start.elapsed() < length || kills < wanted {
        let one = (length / 6).min(Duration::from_secs(5));
        guarded(|| {
            let bounded = rounds % 2 == 0;
            let queue = if bounded { Queue::bounded(1 + dice.below(20) as usize) } else { Queue::new() };
            let way = [Way::Plain, Way::Polling, Way::Batches][rounds / 2 % 3];
            kills += round(queue.unwrap(), way, &mut dice, one);
        });
        rounds += 1;
    }
    println!("{kills} kills in {rounds} rounds");
}
