//! Large bursts, little address space, many producers and consumers, and fair shares.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "helpers of tests, small numbers")]

mod help;

use help::{child, memory};
use mp_queue::{JoinableQueue, Queue, Receiver, Sender, give, take};
use mp_shm::{Array, Value};
use mp_test::{Role, command, guarded, role, say};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::thread;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

fn limit_address_space(bytes: u64) {
    setrlimit(Resource::As, Rlimit { current: Some(bytes), maximum: getrlimit(Resource::As).maximum })
        .unwrap();
}

/// Waits in vain until an idle consumer has tidied up.
fn until_given_back(queue: &Queue<Vec<u8>>) {
    mp_test::until("the memory is back", || {
        assert!(queue.get_timeout(Duration::from_millis(1)).unwrap_err().is_timeout());
        memory() < MIB as u64
    });
}

#[test]
fn one_gib_in_and_out_and_the_memory_is_back() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        let value = vec![3_u8; MIB];
        (0..1024).for_each(|_| queue.put(value.clone()).unwrap());
        assert!(memory() >= 1 << 30);
        (0..1024).for_each(|_| assert_eq!(queue.get().unwrap().len(), MIB));
        // Most of it already, while it was read.
        assert!(memory() < 64 * MIB as u64, "{}", memory());
        until_given_back(&queue);
    });
}

#[test]
fn a_child_with_512_mib_of_address_space_gets_and_puts_a_gib() {
    const TEST: &str = "a_child_with_512_mib_of_address_space_gets_and_puts_a_gib";
    match role().as_deref() {
        Some("consumer") => {
            let queue: Queue<Vec<u8>> = take("end").unwrap();
            limit_address_space(512 << 20);
            for n in 0..1024 {
                let value = queue.get().unwrap();
                assert!(value.len() == MIB && value[MIB / 2] == n as u8);
            }
            return;
        }
        Some("producer") => {
            limit_address_space(512 << 20);
            let queue: Queue<Vec<u8>> = take("end").unwrap();
            return (0..1024).for_each(|n| queue.put(vec![n as u8; MIB]).unwrap());
        }
        Some(_) => {
            limit_address_space(512 << 20);
            let queue: JoinableQueue<Vec<u8>> = take("end").unwrap();
            for _ in 0..256 {
                let (value, claim) = queue.claim().unwrap();
                assert_eq!(value.len(), MIB);
                claim.done().unwrap();
            }
            return;
        }
        None => {}
    }
    guarded(|| {
        let queue = Queue::<Vec<u8>>::new().unwrap();
        assert!(Role::start(child(TEST, "producer", &queue)).wait().success());
        assert_eq!(queue.len(), 1024);
        assert!(Role::start(child(TEST, "consumer", &queue)).wait().success());
        until_given_back(&queue);
        let tasks = JoinableQueue::new().unwrap();
        (0..256).for_each(|_| tasks.put(vec![1_u8; MIB]).unwrap());
        assert!(Role::start(child(TEST, "worker", &tasks)).wait().success());
        tasks.join().unwrap();
    });
}

#[test]
fn a_queue_that_finds_no_memory_gives_the_value_back_and_goes_on() {
    const TEST: &str = "a_queue_that_finds_no_memory_gives_the_value_back_and_goes_on";
    if role().is_some() {
        let queue: Queue<Vec<u8>> = take("end").unwrap();
        let value = vec![1; 200 * MIB];
        limit_address_space(256 << 20);
        let error = queue.put(value).unwrap_err();
        assert_eq!(error.into_inner().len(), 200 * MIB);
        queue.put(vec![2; 10]).unwrap();
        return assert_eq!(queue.get().unwrap(), [2; 10]);
    }
    guarded(|| {
        let queue = Queue::<Vec<u8>>::new().unwrap();
        assert!(Role::start(child(TEST, "small", &queue)).wait().success());
        queue.put(vec![3; MIB]).unwrap();
        assert_eq!(queue.get().unwrap().len(), MIB);
    });
}

#[test]
fn a_thousand_producers_and_consumers() {
    guarded(|| {
        let queue = Queue::<(u32, u32)>::bounded(100).unwrap();
        let seen: Vec<_> = (0..500 * 20).map(|_| std::sync::atomic::AtomicU32::new(0)).collect();
        let small = || thread::Builder::new().stack_size(128 << 10);
        thread::scope(|scope| {
            for _ in 0..500 {
                let consume = || {
                    for value in queue.iter() {
                        let (producer, n) = value.unwrap();
                        seen[(producer * 20 + n) as usize].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                };
                small().spawn_scoped(scope, consume).unwrap();
            }
            let producers: Vec<_> = (0..500)
                .map(|producer| {
                    let queue = &queue;
                    let produce = move || (0..20).for_each(|n| queue.put((producer, n)).unwrap());
                    small().spawn_scoped(scope, produce).unwrap()
                })
                .collect();
            producers.into_iter().for_each(|producer| producer.join().unwrap());
            queue.close().unwrap();
        });
        assert!(seen.into_iter().all(|count| count.into_inner() == 1));
    });
}

#[test]
#[ignore = "stress"]
fn a_thousand_processes_put_and_get() {
    const TEST: &str = "a_thousand_processes_put_and_get";
    match role().as_deref() {
        Some("producer") => {
            let sender: Sender<u64> = take("end").unwrap();
            return (0..20).for_each(|n| sender.put(n).unwrap());
        }
        Some(_) => {
            let receiver: Receiver<u64> = take("end").unwrap();
            let (count, sum) = receiver.iter().fold((0, 0), |(count, sum), n| (count + 1, sum + n.unwrap()));
            return say(&format!("{count} {sum}"));
        }
        None => {}
    }
    // A process here has two pipes to each of the others.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    guarded(|| {
        let (sender, receiver) = Queue::<u64>::bounded(50).unwrap().split();
        let mut consumers: Vec<Role> =
            (0..500).map(|_| Role::start(child(TEST, "consumer", &receiver))).collect();
        let mut producers: Vec<Role> =
            (0..500).map(|_| Role::start(child(TEST, "producer", &sender))).collect();
        drop(sender);
        assert!(producers.iter_mut().all(|producer| producer.wait().success()));
        let (mut count, mut sum) = (0, 0);
        for consumer in &mut consumers {
            let word = consumer.word().unwrap();
            let (one, two) = word.split_once(' ').unwrap();
            count += one.parse::<u64>().unwrap();
            sum += two.parse::<u64>().unwrap();
            assert!(consumer.wait().success());
        }
        assert_eq!((count, sum), (500 * 20, 500 * 190));
    });
}

const CROWD: usize = 8;
/// Long enough for the machine's scheduler, which has fewer cores than that, to be fair itself.
const LENGTH: Duration = Duration::from_secs(3);

/// Eight producers put, or eight consumers get, for so long; how many each had.
fn shares(test: &str, crowd: &'static str) -> Vec<u64> {
    let queue = Queue::<u64>::bounded(64).unwrap();
    let (board, go) = (Array::<u64>::new(CROWD).unwrap(), Value::new(false).unwrap());
    let mut many: Vec<Role> = (0..CROWD)
        .map(|n| {
            let mut child = command(test, crowd);
            give(&mut child, "kit", &(queue.clone(), board.clone(), go.clone(), n)).unwrap();
            Role::start(child)
        })
        .collect();
    many.iter_mut().for_each(|one| one.expect("ready"));
    go.set(true);
    let start = Instant::now();
    let mut n = 0;
    while n % 1_000 != 0 || start.elapsed() < LENGTH {
        n += 1;
        if crowd == "producer" {
            queue.get().unwrap();
        } else {
            queue.put(n).unwrap();
        }
    }
    let shares = (0..CROWD).map(|n| board.at(n).get()).collect();
    queue.close().unwrap();
    assert!(many.iter_mut().all(|one| one.wait().success()));
    shares
}

fn take_part(role: &str) {
    let (queue, board, go, n): (Queue<u64>, Array<u64>, Value<bool>, usize) = take("kit").unwrap();
    say("ready");
    mp_test::until("all are ready", || go.get());
    loop {
        let closed = if role == "producer" { queue.put(0).is_err() } else { queue.get().is_err() };
        if closed {
            return;
        }
        board.at(n).fetch_add(1);
    }
}

fn assert_fair(shares: &[u64]) {
    let fair = shares.iter().sum::<u64>() / CROWD as u64;
    assert!(shares.iter().all(|share| *share >= fair / 3), "{shares:?}");
}

#[test]
fn none_of_eight_producers_gets_less_than_a_third_of_its_share() {
    const TEST: &str = "none_of_eight_producers_gets_less_than_a_third_of_its_share";
    match role() {
        Some(role) => take_part(&role),
        None => guarded(|| assert_fair(&shares(TEST, "producer"))),
    }
}

#[test]
fn none_of_eight_consumers_gets_less_than_a_third_of_its_share() {
    const TEST: &str = "none_of_eight_consumers_gets_less_than_a_third_of_its_share";
    match role() {
        Some(role) => take_part(&role),
        None => guarded(|| assert_fair(&shares(TEST, "consumer"))),
    }
}
