//! A queue between processes that nothing but the queue connects.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_queue::{Queue, TryPutError, give, take};
use mp_test::{Role, command, guarded, hear, role, say};
use std::collections::HashMap;
use std::time::Duration;

fn start<T: 'static>(test: &str, role: &str, queue: &Queue<T>) -> Role {
    let mut child = command(test, role);
    give(&mut child, "queue", queue).unwrap();
    Role::start(child)
}

#[test]
fn smoke() {
    if role().is_some() {
        return take::<Queue<String>>("queue").unwrap().put("obj".to_owned()).unwrap();
    }
    guarded(|| {
        let queue = Queue::<String>::new().unwrap();
        let mut child = start("smoke", "task", &queue);
        assert_eq!(queue.get().unwrap(), "obj");
        assert!(child.wait().success());
    });
}

#[test]
fn a_child_that_put_much_and_was_not_read_exits_and_loses_nothing() {
    const TEST: &str = "a_child_that_put_much_and_was_not_read_exits_and_loses_nothing";
    if role().is_some() {
        let queue: Queue<Vec<u8>> = take("queue").unwrap();
        return (0..100_u8).for_each(|n| queue.put(vec![n; 20_000]).unwrap());
    }
    guarded(|| {
        let queue = Queue::<Vec<u8>>::new().unwrap();
        let mut child = start(TEST, "task", &queue);
        // Python's best-known trap: joining before reading.
        assert!(child.wait().success());
        for n in 0..100 {
            assert_eq!(queue.try_get().unwrap(), [n; 20_000]);
        }
    });
}

#[test]
fn processes_share_the_work_in_order() {
    const TEST: &str = "processes_share_the_work_in_order";
    const EACH: u64 = 3_000;
    match role().as_deref() {
        Some("producer") => {
            let queue: Queue<(u32, u64, String)> = take("queue").unwrap();
            let me = std::process::id();
            return (0..EACH).for_each(|n| queue.put((me, n, "x".repeat((n % 300) as usize))).unwrap());
        }
        Some("consumer") => {
            let queue: Queue<(u32, u64, String)> = take("queue").unwrap();
            let (mut last, mut count) = (HashMap::new(), 0);
            for value in queue.iter() {
                let (producer, n, text) = value.unwrap();
                assert_eq!(text.len() as u64, n % 300);
                assert!(last.insert(producer, n).is_none_or(|before| before < n), "out of order");
                count += 1;
            }
            return say(&count.to_string());
        }
        _ => {}
    }
    guarded(|| {
        for queue in [Queue::new().unwrap(), Queue::<(u32, u64, String)>::bounded(5).unwrap()] {
            let mut consumers: Vec<Role> = (0..3).map(|_| start(TEST, "consumer", &queue)).collect();
            let mut producers: Vec<Role> = (0..3).map(|_| start(TEST, "producer", &queue)).collect();
            assert!(producers.iter_mut().all(|producer| producer.wait().success()));
            queue.close().unwrap();
            let counts =
                consumers.iter_mut().map(|consumer| consumer.word().unwrap().parse::<u64>().unwrap());
            assert_eq!(counts.sum::<u64>(), 3 * EACH);
            assert!(consumers.iter_mut().all(|consumer| consumer.wait().success()));
        }
    });
}

#[test]
fn values_of_several_producers_come_in_the_order_of_their_puts() {
    const TEST: &str = "values_of_several_producers_come_in_the_order_of_their_puts";
    if role().is_some() {
        let queue: Queue<u32> = take("queue").unwrap();
        while let Some(n) = hear() {
            queue.put(n.parse().unwrap()).unwrap();
            say("put");
        }
        return;
    }
    guarded(|| {
        let queue = Queue::<u32>::new().unwrap();
        let mut producers: Vec<Role> = (0..3).map(|_| start(TEST, "producer", &queue)).collect();
        for n in 0..300 {
            // In turns that are no pattern; this process is one of them.
            match producers.get_mut(n as usize * 7 / 3 % 4) {
                Some(producer) => {
                    producer.tell(&n.to_string());
                    producer.expect("put");
                }
                None => queue.put(n).unwrap(),
            }
        }
        (0..300).for_each(|n| assert_eq!(queue.try_get().unwrap(), n));
        assert!(producers.iter_mut().all(|producer| producer.wait().success()));
    });
}

#[test]
fn full_and_closed_are_seen_from_everywhere() {
    const TEST: &str = "full_and_closed_are_seen_from_everywhere";
    if role().is_some() {
        let queue: Queue<u8> = take("queue").unwrap();
        assert_eq!(queue.bound(), Some(2));
        assert!(matches!(queue.try_put(3), Err(TryPutError::Full(3))));
        assert!(queue.put_timeout(3, Duration::from_millis(5)).unwrap_err().is_timeout());
        say("full");
        assert!(queue.put(3).unwrap_err().is_closed());
        say("closed");
        assert_eq!(hear(), None);
        return;
    }
    guarded(|| {
        let queue = Queue::bounded(2).unwrap();
        queue.put(1).unwrap();
        queue.put(2).unwrap();
        let mut child = start(TEST, "child", &queue);
        child.expect("full");
        queue.close().unwrap();
        child.expect("closed");
        assert!(child.wait().success());
        assert_eq!(queue.iter().map(Result::unwrap).collect::<Vec<_>>(), [1, 2]);
    });
}

#[test]
fn an_answer_comes_back_through_a_queue_that_came_with_the_question() {
    const TEST: &str = "an_answer_comes_back_through_a_queue_that_came_with_the_question";
    type Question = (u64, Queue<u64>);
    if role().is_some() {
        let queue: Queue<Question> = take("queue").unwrap();
        return queue.iter().map(Result::unwrap).for_each(|(n, answer)| answer.put(n * n).unwrap());
    }
    guarded(|| {
        let queue = Queue::<Question>::new().unwrap();
        let mut child = start(TEST, "server", &queue);
        for n in 0..200 {
            let answer = Queue::new().unwrap();
            queue.put((n, answer.clone())).unwrap();
            assert_eq!(answer.get().unwrap(), n * n);
        }
        queue.close().unwrap();
        assert!(child.wait().success());
    });
}

#[test]
fn two_processes_answer_each_other_for_long() {
    const TEST: &str = "two_processes_answer_each_other_for_long";
    if role().is_some() {
        let (there, back): (Queue<u32>, Queue<u32>) = take("queues").unwrap();
        return there.iter().map(Result::unwrap).for_each(|n| back.put(n + 1).unwrap());
    }
    guarded(|| {
        let (there, back) = (Queue::<u32>::new().unwrap(), Queue::<u32>::bounded(1).unwrap());
        let mut child = command(TEST, "echo");
        give(&mut child, "queues", &(there.clone(), back.clone())).unwrap();
        let mut child = Role::start(child);
        for n in 0..20_000 {
            there.put(n).unwrap();
            assert_eq!(back.get().unwrap(), n + 1);
        }
        there.close().unwrap();
        assert!(child.wait().success());
    });
}

#[test]
fn another_type_than_was_put_is_an_error_not_a_value() {
    const TEST: &str = "another_type_than_was_put_is_an_error_not_a_value";
    if role().is_some() {
        let queue: Queue<Vec<u8>> = take("queue").unwrap();
        let error = queue.get().unwrap_err();
        assert!(error.to_string().contains("Vec<u8>"), "{error}");
        let error = queue.get_bytes_into(&mut [0; 8]).unwrap_err();
        assert!(error.to_string().contains("Vec<u8>"), "{error}");
        assert!(queue.try_get().unwrap_err().is_empty());
        return;
    }
    guarded(|| {
        let queue = Queue::new().unwrap();
        queue.put("text".to_owned()).unwrap();
        queue.put("text".to_owned()).unwrap();
        assert!(start(TEST, "child", &queue).wait().success());
    });
}
