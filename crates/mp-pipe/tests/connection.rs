//! A two-way connection, both ends in one process.

use mp_pipe::{
    Connection, RecvBytesIntoError, RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError, pipe,
};
use mp_test::guarded;
use serde::{Deserialize, Serialize};
use std::thread;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(30);

/// Sends until the pipe is full; how many went.
fn fill(end: &mut Connection, message: &[u8]) -> usize {
    let mut count = 0;
    loop {
        match end.try_send(message.to_vec()) {
            Ok(()) => count += 1,
            Err(error) => {
                assert!(error.is_full(), "{error}");
                assert_eq!(error.into_inner(), message);
                return count;
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Message {
    Nothing,
    Text(String),
    Numbers { id: u64, samples: Vec<f64> },
}

#[test]
fn smoke() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        for message in [
            Message::Nothing,
            Message::Text("text".into()),
            Message::Numbers { id: 7, samples: vec![0.5; 16] },
        ] {
            left.send(message.clone()).unwrap();
            assert_eq!(right.recv::<Message>().unwrap(), message);
            right.send(message.clone()).unwrap();
            assert_eq!(left.recv::<Message>().unwrap(), message);
        }
        left.send(()).unwrap();
        right.recv::<()>().unwrap();
        assert!(format!("{left:?}").contains("sent_not_received: 0"), "{left:?}");
    });
}

#[test]
fn messages_are_whole_and_in_order_at_every_size() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        let sizes: Vec<usize> = (0..20)
            .chain([100, 4095, 4096, 4097, 16_376, 16_384, 16_385, 65_528, 65_536, 65_537])
            .chain([1 << 20, 4 << 20, (4 << 20) + 1, 0, (16 << 20) + 3, 1, 64 << 20, 8])
            .collect();
        let fill = |size: usize| u8::try_from(size % 251).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                for &size in &sizes {
                    left.send_bytes(&vec![fill(size); size]).unwrap();
                }
            });
            for &size in &sizes {
                let bytes = right.recv_bytes().unwrap();
                assert_eq!(bytes.len(), size);
                assert!(bytes.iter().all(|byte| *byte == fill(size)), "{size}");
            }
        });
    });
}

#[test]
fn many_sizes_at_random_stream_both_ways_at_once() {
    fn numbers(seed: u64) -> impl Iterator<Item = u64> {
        std::iter::successors(Some(seed), |n| {
            Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
        })
        .map(|n| n >> 33)
    }
    fn length(n: u64) -> usize {
        usize::try_from(match n % 64 {
            0 => n % 700_000,
            1..8 => n % 20_000,
            _ => n % 90,
        })
        .unwrap()
    }
    fn turn(mut end: Connection, mine: u64, theirs: u64) {
        // Each sends a few, then receives as many: never more on the way than a pipe holds.
        let (mut mine, mut theirs) = (numbers(mine), numbers(theirs));
        for _ in 0..2_000 {
            let n = mine.next().unwrap();
            end.send(vec![n.to_ne_bytes()[0]; length(n)]).unwrap();
            let n = theirs.next().unwrap();
            assert!(end.recv::<Vec<u8>>().unwrap() == vec![n.to_ne_bytes()[0]; length(n)]);
        }
    }
    guarded(|| {
        let (left, right) = pipe().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| turn(left, 1, 2));
            turn(right, 2, 1);
        });
    });
}

#[test]
fn a_full_pipe_gives_the_value_back_and_has_room_again() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        for round in 0..3 {
            let count = fill(&mut left, &[9; 1000]);
            assert!(count >= 32, "{count}");
            let start = Instant::now();
            let error = left.send_timeout(vec![1; 1000], SHORT).unwrap_err();
            assert!(error.is_timeout() && start.elapsed() >= SHORT);
            assert_eq!(error.into_inner(), vec![1; 1000]);
            let deadline = Instant::now() + SHORT;
            assert!(left.send_deadline(vec![1; 1000], deadline).unwrap_err().is_timeout());
            assert!(Instant::now() >= deadline);
            for _ in 0..count {
                assert_eq!(right.recv_bytes().unwrap().len(), 1000);
            }
            assert!(right.try_recv::<Vec<u8>>().unwrap_err().is_empty(), "round {round}");
        }
    });
}

#[test]
fn a_message_larger_than_what_is_free_waits_for_the_pipe_to_be_empty() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        left.send(1_u8).unwrap();
        let large = vec![3_u64; 100_000];
        assert!(left.try_send(large.clone()).unwrap_err().is_full());
        assert_eq!(right.recv::<u8>().unwrap(), 1);
        left.try_send(large.clone()).unwrap();
        assert_eq!(right.recv::<Vec<u64>>().unwrap(), large);
    });
}

#[test]
fn a_waiting_sender_goes_on_when_there_is_room() {
    guarded(|| {
        for size in [10_usize, 1000, 10_000, 60_000, 1 << 20] {
            let (mut left, mut right) = pipe().unwrap();
            let count = 200;
            thread::scope(|scope| {
                scope.spawn(move || {
                    for n in 0..count {
                        left.send(vec![n; size]).unwrap();
                    }
                });
                for n in 0..count {
                    assert!(right.recv::<Vec<u8>>().unwrap() == vec![n; size], "{size} {n}");
                }
                assert!(right.recv::<Vec<u8>>().unwrap_err().is_disconnected());
            });
        }
    });
}

#[test]
fn an_empty_pipe_says_so_at_once_or_after_the_time_out() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        assert!(matches!(right.try_recv::<u8>(), Err(TryRecvError::Empty)));
        let start = Instant::now();
        assert!(matches!(right.recv_timeout::<u8>(SHORT), Err(RecvTimeoutError::TimedOut)));
        assert!(start.elapsed() >= SHORT);
        let deadline = Instant::now() + SHORT;
        assert!(right.recv_deadline::<u8>(deadline).unwrap_err().is_timeout());
        assert!(Instant::now() >= deadline);
        let start = Instant::now();
        assert!(!right.poll(SHORT).unwrap());
        assert!(start.elapsed() >= SHORT && !right.poll(Duration::ZERO).unwrap());
        left.send(5_u8).unwrap();
        assert!(right.poll(Duration::ZERO).unwrap() && right.poll(Duration::MAX).unwrap());
        assert_eq!(right.recv_timeout::<u8>(Duration::MAX).unwrap(), 5);
    });
}

#[test]
fn what_was_sent_is_received_after_the_other_end_is_gone() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        for n in 0..100 {
            left.send(n).unwrap();
        }
        drop(left);
        for n in 0..100 {
            assert_eq!(right.recv::<i32>().unwrap(), n);
        }
        assert!(matches!(right.recv::<i32>(), Err(RecvError::Disconnected)));
        assert!(right.try_recv::<i32>().unwrap_err().is_disconnected());
        assert!(right.recv_timeout::<i32>(SHORT).unwrap_err().is_disconnected());
        assert!(right.poll(Duration::MAX).unwrap());
    });
}

#[test]
fn sending_to_nobody_gives_the_value_back() {
    guarded(|| {
        let (mut left, right) = pipe().unwrap();
        drop(right);
        let text = "unsent".to_owned();
        let error = left.send(text.clone()).unwrap_err();
        assert!(error.is_disconnected());
        assert_eq!(error.into_inner(), text);
        let error = left.try_send(text.clone()).unwrap_err();
        assert!(error.is_disconnected() && !error.is_full());
        let error = left.send_timeout(text.clone(), SHORT).unwrap_err();
        assert!(error.is_disconnected() && !error.is_timeout());
        assert!(left.send_bytes(b"x").unwrap_err().is_disconnected());
    });
}

#[test]
fn a_waiting_receiver_and_a_waiting_sender_learn_that_the_other_end_goes() {
    guarded(|| {
        let (left, mut right) = pipe().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || drop(left));
            assert!(right.recv::<u8>().unwrap_err().is_disconnected());
        });
        let (mut left, right) = pipe().unwrap();
        fill(&mut left, &[0; 1000]);
        thread::scope(|scope| {
            scope.spawn(move || drop(right));
            assert!(left.send(vec![1_u8; 1000]).unwrap_err().is_disconnected());
        });
    });
}

#[test]
fn both_ends_waiting_for_room_keep_their_time_outs() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        fill(&mut left, &[0; 1000]);
        fill(&mut right, &[0; 1000]);
        thread::scope(|scope| {
            let left = &mut left;
            scope.spawn(|| assert!(left.send_timeout(vec![1_u8; 1000], SHORT).unwrap_err().is_timeout()));
            assert!(right.send_timeout(vec![1_u8; 1000], SHORT).unwrap_err().is_timeout());
        });
        // Whoever receives frees the other.
        thread::scope(|scope| {
            scope.spawn(|| left.send(vec![2_u8; 1000]).unwrap());
            while right.recv_bytes().unwrap() != [2; 1000] {}
        });
    });
}

#[test]
fn another_type_is_an_error_and_the_next_message_comes() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        left.send("text".to_owned()).unwrap();
        left.send((1_u8, 2_u8)).unwrap();
        left.send(3_u8).unwrap();
        assert!(matches!(right.recv::<Vec<u8>>(), Err(RecvError::Decode(_))));
        assert!(matches!(right.recv::<u8>(), Err(RecvError::Decode(_))));
        assert_eq!(right.recv::<u8>().unwrap(), 3);
    });
}

#[test]
fn a_value_that_cannot_be_encoded_comes_back_and_nothing_is_sent() {
    #[derive(Debug)]
    struct Stubborn;
    impl Serialize for Stubborn {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        assert!(matches!(left.send(Stubborn), Err(SendError::Encode(Stubborn, _))));
        assert!(matches!(left.try_send(Stubborn), Err(TrySendError::Failed(SendError::Encode(..)))));
        assert!(right.try_recv::<u8>().unwrap_err().is_empty());
        left.send(1).unwrap();
        assert_eq!(right.recv::<i32>().unwrap(), 1);
    });
}

#[test]
fn bells_for_one_who_did_not_sleep_take_no_room() {
    guarded(|| {
        // A fast exchange, in which sides announce a sleep and find that they need none, fills no socket: handles still go.
        let (mut left, mut right) = pipe().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..20_000_u32 {
                    left.send(n).unwrap();
                    assert_eq!(left.recv::<u32>().unwrap(), n);
                }
            });
            for _ in 0..20_000_u32 {
                let n = right.recv::<u32>().unwrap();
                right.send(n).unwrap();
            }
        });
        for _ in 0..200 {
            let null = std::fs::File::open("/dev/null").unwrap();
            left.try_send(mp_pipe::Passed(null)).unwrap();
        }
    });
}

#[test]
fn bytes_are_received_into_a_buffer() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        let mut buffer = [9; 8];
        left.send_bytes(b"abc").unwrap();
        left.send_bytes(b"").unwrap();
        left.send_bytes(b"12345678").unwrap();
        assert_eq!(right.recv_bytes_into(&mut buffer).unwrap(), 3);
        assert_eq!(&buffer, b"abc\x09\x09\x09\x09\x09");
        assert_eq!(right.recv_bytes_into(&mut []).unwrap(), 0);
        assert_eq!(right.recv_bytes_into(&mut buffer).unwrap(), 8);
        assert_eq!(&buffer, b"12345678");
    });
}

#[test]
fn a_buffer_that_is_too_small_gives_the_whole_message_back() {
    guarded(|| {
        let (mut left, mut right) = pipe().unwrap();
        left.send_bytes(b"whole").unwrap();
        left.send_bytes(b"next").unwrap();
        match right.recv_bytes_into(&mut [0; 4]) {
            Err(RecvBytesIntoError::TooShort(message)) => assert_eq!(message, b"whole"),
            other => panic!("{other:?}"),
        }
        assert_eq!(right.recv_bytes().unwrap(), b"next");
        drop(left);
        assert!(right.recv_bytes_into(&mut [0; 4]).unwrap_err().is_disconnected());
    });
}
