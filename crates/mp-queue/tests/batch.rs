//! Many values at once.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "helpers of tests")]

mod help;

use help::{all_steps, dies_at, tube};
use mp_queue::{
    GetError, JoinableQueue, PutError, PutTimeoutError, Queue, Receiver, Sender, TryPutError, take,
};
use mp_test::{guarded, role, steps_or_say};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use std::io::Read;
use std::thread;
use std::time::Duration;

#[test]
fn smoke() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        assert_eq!(queue.put_many((0..1000).map(|n| (n, "x".repeat(n)))).unwrap(), 1000);
        assert_eq!(queue.len(), 1000);
        let mut next = 0;
        while next < 1000 {
            for value in queue.get_many(300).unwrap() {
                assert_eq!(value.unwrap(), (next, "x".repeat(next)));
                next += 1;
            }
        }
        assert!(queue.try_get_many(5).unwrap_err().is_empty());
        assert!(queue.get_many_timeout(5, Duration::from_millis(5)).unwrap_err().is_timeout());
    });
}

#[test]
fn values_that_are_bytes_and_large_ones_come_whole() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        let values = || [0, 10, 100_000, 5, 3 << 20, 1].map(|size| vec![size as u8; size]);
        queue.put_many(values()).unwrap();
        let got: Vec<Vec<u8>> = queue.get_many(usize::MAX).unwrap().map(Result::unwrap).collect();
        assert!(got == values());
    });
}

#[test]
fn none_of_none() {
    guarded(|| {
        let queue = Queue::<u8>::new().unwrap();
        assert_eq!(queue.put_many([]).unwrap(), 0);
        assert_eq!(queue.get_many(0).unwrap().len(), 0);
    });
}

#[test]
fn what_finds_no_room_comes_back() {
    guarded(|| {
        let queue = Queue::bounded(3).unwrap();
        let mut values = 0..1000;
        let error = queue.try_put_many(&mut values).unwrap_err();
        assert_eq!(error.put, 3);
        assert!(matches!(error.error, TryPutError::Full(3)), "{}", error.error);
        assert_eq!(error.rest.first(), Some(&4));
        // Nothing was dropped: what is not in the queue is in the error or still in the iterator.
        assert_eq!(values.start, 4 + i32::try_from(error.rest.len()).unwrap());
        let error = queue.put_many_timeout([7, 8], Duration::from_millis(5)).unwrap_err();
        assert_eq!((error.put, &error.rest), (0, &vec![8]));
        assert!(matches!(error.error, PutTimeoutError::TimedOut(7)));
        queue.close().unwrap();
        let error = queue.put_many([9]).unwrap_err();
        assert!(matches!(error.error, PutError::Closed(9)));
        assert_eq!(queue.get_many(10).unwrap().map(Result::unwrap).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(queue.get_many(10).unwrap_err().is_closed());
    });
}

#[test]
fn put_many_waits_for_room_and_what_is_put_can_be_got_meanwhile() {
    guarded(|| {
        let (sender, receiver) = Queue::bounded(2).unwrap().split();
        thread::scope(|scope| {
            scope.spawn(|| assert_eq!(sender.put_many(0..5_000_u32).unwrap(), 5_000));
            (0..2_500).for_each(|n| assert_eq!(receiver.get().unwrap(), n));
            let mut next = 2_500;
            while next < 5_000 {
                for value in receiver.get_many(7).unwrap() {
                    assert_eq!(value.unwrap(), next);
                    next += 1;
                }
            }
        });
    });
}

#[derive(Debug, PartialEq)]
struct Picky(u8);

impl Serialize for Picky {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 13 { Err(ser::Error::custom("thirteen")) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Picky, D::Error> {
        match u8::deserialize(deserializer)? {
            7 => Err(de::Error::custom("seven")),
            other => Ok(Picky(other)),
        }
    }
}

#[test]
fn one_that_cannot_be_encoded_stops_the_batch_and_one_that_cannot_be_decoded_does_not() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        let error = queue.put_many((6..20).map(Picky)).unwrap_err();
        assert_eq!(error.put, 7);
        assert!(matches!(error.error, PutError::Encode(Picky(13), _)));
        let got: Vec<_> = queue.get_many(100).unwrap().collect();
        assert_eq!(got.len(), 7);
        assert!(matches!(got[1], Err(GetError::Decode(_))));
        assert_eq!(got[6].as_ref().unwrap(), &Picky(12));
    });
}

#[test]
fn handles_stay_with_their_values() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        let (mut readers, mut values) = (Vec::new(), Vec::new());
        for n in 0..10_u32 {
            let (reader, file) = tube();
            readers.push(reader);
            values.push((n, file));
        }
        queue.put_many(values).unwrap();
        for (value, reader) in queue.get_many(10).unwrap().zip(&mut readers) {
            let (n, mut file) = value.unwrap();
            std::io::Write::write_all(&mut file.0, n.to_string().as_bytes()).unwrap();
            drop(file);
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, n.to_string());
        }
    });
}

#[test]
fn what_is_not_asked_for_of_a_batch_of_tasks_goes_back() {
    guarded(|| {
        let queue = JoinableQueue::new().unwrap();
        queue.put_many(0..5).unwrap();
        let mut batch = queue.get_many(5).unwrap();
        assert_eq!(batch.next().unwrap().unwrap(), 0);
        drop(batch);
        queue.task_done().unwrap();
        assert_eq!(queue.unfinished(), 4);
        for (n, value) in (1..).zip(queue.get_many(5).unwrap()) {
            assert_eq!(value.unwrap(), n);
            queue.task_done().unwrap();
        }
        queue.join().unwrap();
    });
}

#[test]
fn who_waits_is_told_of_each_value_of_a_batch() {
    guarded(|| {
        for _ in 0..50 {
            let queue = Queue::new().unwrap();
            thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| queue.get().unwrap());
                }
                queue.put_many(0..3).unwrap();
            });
        }
    });
}

#[test]
fn a_batch_in_which_its_process_dies_is_there_up_to_that_value() {
    const TEST: &str = "a_batch_in_which_its_process_dies_is_there_up_to_that_value";
    match role().as_deref() {
        Some("producer") => return drop(take::<Sender<u8>>("end").unwrap().put_many(0..10)),
        Some(_) => return drop(take::<Receiver<u8>>("end").unwrap().get_many(10)),
        None => {}
    }
    if !steps_or_say(mp_core::step::enabled(), TEST) {
        return;
    }
    guarded(|| {
        for step in all_steps(&[("queue.batch", 1..=1)]) {
            let queue = Queue::<u8>::new().unwrap();
            dies_at(&format!("{step}:+3"), TEST, "producer", &queue.clone().into_sender());
            queue.put(9).unwrap();
            let got: Vec<u8> = queue.get_many(20).unwrap().map(Result::unwrap).collect();
            assert_eq!(got, [0, 1, 2, 3, 9]);
        }
        for step in all_steps(&[("queue.batch", 2..=2)]) {
            let queue = Queue::<u8>::new().unwrap();
            queue.put_many(0..10).unwrap();
            dies_at(&format!("{step}:+3"), TEST, "consumer", &queue.clone().into_receiver());
            assert_eq!(queue.get().unwrap(), 4);
        }
    });
}
