//! What may be put: values that fail to cross, values that use the queue while they cross, values of every size.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "helpers of tests, small numbers")]

mod help;

use help::{memory, tube, until_given_back};
use mp_queue::{GetError, Passed, PutError, Queue};
use mp_test::guarded;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::thread;

/// Carries a handle, and fails in the middle when it is told to.
struct Fragile {
    file: Passed<File>,
    whole: bool,
}

impl Serialize for Fragile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Parts<'a>(&'a Passed<File>, Last);
        struct Last(bool);
        impl Serialize for Last {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if self.0 { ().serialize(serializer) } else { Err(ser::Error::custom("fragile")) }
            }
        }
        Parts(&self.file, Last(self.whole)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Fragile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fragile, D::Error> {
        <(Passed<File>, ())>::deserialize(deserializer).map(|(file, ())| Fragile { file, whole: true })
    }
}

#[test]
fn a_value_that_cannot_be_encoded_is_the_producer_s_error_and_nothing_of_it_is_in_the_queue() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        let (mut lost, file) = tube();
        let error = queue.put(Fragile { file, whole: false }).unwrap_err();
        assert!(matches!(&error, PutError::Encode(..)), "{error}");
        assert_eq!(queue.len(), 0);
        // The handle came back with the value, and there is no other copy of it.
        drop(error.into_inner());
        assert_eq!(lost.read(&mut [0]).unwrap(), 0);

        let (mut reader, file) = tube();
        queue.put(Fragile { file, whole: true }).unwrap();
        io::Write::write_all(&mut queue.get().unwrap().file.into_inner(), b"mine").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "mine");
    });
}

#[derive(Debug, PartialEq)]
struct Even(u32);

impl Serialize for Even {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Even {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Even, D::Error> {
        match u32::deserialize(deserializer)? {
            even if even.is_multiple_of(2) => Ok(Even(even)),
            _ => Err(de::Error::custom("odd")),
        }
    }
}

#[test]
fn a_value_that_cannot_be_decoded_is_that_get_s_error_and_the_queue_goes_on() {
    guarded(|| {
        let queue = Queue::bounded(4).unwrap();
        let (mut reader, Passed(file)) = tube();
        for n in 0..4 {
            let file = Passed(file.try_clone().unwrap());
            queue.put((file, Even(n))).unwrap();
        }
        drop(file);
        for n in 0..4 {
            match queue.get() {
                Ok((file, even)) => assert_eq!((even, file.0.metadata().is_ok()), (Even(n), true)),
                Err(error) => assert!(n % 2 == 1 && matches!(error, GetError::Decode(_)), "{n}: {error}"),
            }
        }
        assert!(queue.is_empty());
        // The handles of those that failed are closed.
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    });
}

/// Puts a smaller one into its queue each time it is encoded.
struct Nested {
    depth: u32,
    queue: Option<Queue<Nested>>,
}

impl Serialize for Nested {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let (Some(queue), Some(depth)) = (&self.queue, self.depth.checked_sub(1)) {
            let smaller = Nested { depth, queue: Some(queue.clone()) };
            queue.put(smaller).map_err(ser::Error::custom)?;
        }
        (self.depth, "x".repeat(self.depth as usize)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Nested {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Nested, D::Error> {
        let (depth, text) = <(u32, String)>::deserialize(deserializer)?;
        assert_eq!(text, "x".repeat(depth as usize));
        Ok(Nested { depth, queue: None })
    }
}

#[test]
fn encoding_may_put_into_the_same_queue() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        queue.put(Nested { depth: 20, queue: Some(queue.clone()) }).unwrap();
        for depth in 0..=20 {
            assert_eq!(queue.get().unwrap().depth, depth);
        }
        assert!(queue.is_empty());
    });
}

thread_local! {
    static GREEDY: RefCell<Option<Queue<Greedy>>> = const { RefCell::new(None) };
}

/// Gets another one from its queue while it is decoded.
#[derive(Serialize)]
struct Greedy(String, #[serde(skip)] Option<Box<Greedy>>);

impl<'de> Deserialize<'de> for Greedy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Greedy, D::Error> {
        let more = GREEDY.with_borrow(|queue| queue.clone()).and_then(|queue| queue.try_get().ok());
        // Read only now: the other one must not have been read over it.
        let (text,) = <(String,)>::deserialize(deserializer)?;
        Ok(Greedy(text, more.map(Box::new)))
    }
}

#[test]
fn decoding_may_get_from_the_same_queue() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        for text in ["one", "two", "three"] {
            queue.put(Greedy(text.into(), None)).unwrap();
        }
        GREEDY.set(Some(queue.clone()));
        let Greedy(one, more) = queue.get().unwrap();
        let Greedy(two, more) = *more.unwrap();
        let Greedy(three, more) = *more.unwrap();
        assert_eq!((one.as_str(), two.as_str(), three.as_str()), ("one", "two", "three"));
        assert!(more.is_none());
        GREEDY.set(None);
    });
}

/// Bytes that tell of any that are missing, doubled or from elsewhere: a block of a prime length, another one for each size.
fn pattern(size: usize) -> Vec<u8> {
    let block: Vec<u8> = (0..251).map(|n: usize| (n ^ size ^ (size >> 8)) as u8).collect();
    let mut bytes = block.repeat(size / block.len() + 1);
    bytes.truncate(size);
    bytes
}

#[test]
fn values_of_every_size_come_whole() {
    guarded(|| {
        let (plain, coded) = (Queue::new().unwrap(), Queue::new().unwrap());
        let edges = [64 << 10, 1 << 20, 4 << 20, 16 << 20]
            .into_iter()
            .flat_map(|edge| [edge / 4 - 8, edge / 4, edge - 16, edge - 8, edge - 1, edge, edge + 1]);
        for size in [0, 1, 7, 8, 9, 1000].into_iter().chain(edges).chain([64 << 20]) {
            let value = pattern(size);
            plain.put(value.clone()).unwrap();
            assert!(plain.get().unwrap() == value, "{size} bytes");
            if size > 2 << 20 {
                // The coded form is walked byte by byte, which takes long in a build for debugging.
                continue;
            }
            coded.put((size, Passed(File::open("/dev/null").unwrap()), value.clone())).unwrap();
            let (length, _, back) = coded.get().unwrap();
            assert!(length == size && back == value, "{size} bytes, coded");
        }
    });
}

#[test]
fn large_and_small_values_keep_their_order() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        let sizes: Vec<usize> = (0..200).map(|n| [3, 70_000, 17, 5_000_000, 20_000][n % 5] + n).collect();
        thread::scope(|scope| {
            scope.spawn(|| sizes.iter().for_each(|size| queue.put(pattern(*size)).unwrap()));
            for size in &sizes {
                assert!(queue.get().unwrap() == pattern(*size), "{size} bytes");
            }
        });
    });
}

#[test]
fn memory_grows_for_a_burst_and_is_given_back_when_it_is_over() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        for round in 0..2 {
            let value = vec![round as u8; 1 << 20];
            (0..200).for_each(|_| queue.put(value.clone()).unwrap());
            assert!(memory() >= 200 << 20);
            (0..200).for_each(|_| assert!(queue.get().unwrap() == value));
            // Nothing comes: an idle consumer tidies up.
            until_given_back(&queue, 1 << 20);
        }
    });
}

#[test]
fn a_consumer_that_read_nothing_gives_back_what_another_left() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        (0..10).for_each(|_| queue.put(vec![1_u8; 1 << 20]).unwrap());
        // Another opening of the same memory, as another process has it.
        let other: Queue<Vec<u8>> = {
            let carrier = Queue::new().unwrap();
            carrier.put(queue.clone()).unwrap();
            carrier.get().unwrap()
        };
        (0..10).for_each(|_| drop(other.get().unwrap()));
        drop(other);
        until_given_back(&queue, 1 << 20);
    });
}

#[test]
fn the_memory_of_one_large_value_is_given_back_with_it() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        for _ in 0..3 {
            queue.put(vec![7_u8; 64 << 20]).unwrap();
            assert!(memory() >= 64 << 20);
            assert_eq!(queue.get().unwrap().len(), 64 << 20);
            assert!(memory() < 1 << 20);
        }
    });
}

#[test]
fn many_large_values_take_turns_in_memory_that_goes_back_when_they_end() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        let (mut buffer, mut kept) = (vec![0; 8 << 20], 0);
        for n in 1..=30_u8 {
            queue.put_bytes(&vec![n; 8 << 20]).unwrap();
            assert_eq!(queue.get_bytes_into(&mut buffer).unwrap(), 8 << 20);
            assert!(buffer.iter().all(|byte| *byte == n));
            kept += usize::from(memory() >= 8 << 20);
            assert!(memory() < 20 << 20, "{}", memory());
        }
        assert!(kept >= 20, "{kept}");
        until_given_back(&queue, 1 << 20);
        // More than may be kept goes back at once, as one alone does.
        for _ in 0..4 {
            queue.put(vec![7_u8; 80 << 20]).unwrap();
            assert_eq!(queue.get().unwrap().len(), 80 << 20);
            assert!(memory() < 1 << 20);
        }
    });
}

#[test]
fn a_long_stream_of_small_values_takes_little_memory() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        for n in 0..200_000_u64 {
            queue.put((n, "some text".to_owned())).unwrap();
            assert_eq!(queue.get().unwrap().0, n);
        }
        assert!(memory() < 1 << 20);
    });
}
