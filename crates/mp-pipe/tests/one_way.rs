//! A one-way pipe, both ends in one process.

use mp_pipe::{Receiver, RecvError, SendError, Sender, pipe_one_way};
use mp_test::guarded;
use std::thread;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(30);

#[test]
fn smoke() {
    guarded(|| {
        let (mut sender, mut receiver) = pipe_one_way().unwrap();
        for n in 0..10 {
            sender.send((n, n.to_string())).unwrap();
        }
        for n in 0..10 {
            assert_eq!(receiver.recv().unwrap(), (n, n.to_string()));
        }
    });
}

#[test]
fn iterating_ends_with_the_sender() {
    guarded(|| {
        let (mut sender, receiver) = pipe_one_way::<u64>().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || (0..100_000).for_each(|n| sender.send(n).unwrap()));
            let all: Vec<u64> = receiver.map(Result::unwrap).collect();
            assert!(all == (0..100_000).collect::<Vec<_>>());
        });
    });
}

#[test]
fn full_empty_and_timed_out_are_told_apart() {
    guarded(|| {
        let (mut sender, mut receiver): (Sender<Vec<u8>>, Receiver<Vec<u8>>) = pipe_one_way().unwrap();
        assert!(receiver.try_recv().unwrap_err().is_empty());
        let start = Instant::now();
        assert!(receiver.recv_timeout(SHORT).unwrap_err().is_timeout());
        assert!(!receiver.poll(SHORT).unwrap());
        assert!(start.elapsed() >= 2 * SHORT);
        assert!(receiver.recv_deadline(start).unwrap_err().is_timeout());
        let mut count = 0;
        let back = loop {
            match sender.try_send(vec![7; 500]) {
                Ok(()) => count += 1,
                Err(error) => break error,
            }
        };
        assert!(back.is_full());
        assert_eq!(back.into_inner(), vec![7; 500]);
        let start = Instant::now();
        assert!(sender.send_timeout(vec![8; 500], SHORT).unwrap_err().is_timeout());
        assert!(start.elapsed() >= SHORT);
        assert!(sender.send_deadline(vec![8; 500], start).unwrap_err().is_timeout());
        drop(sender);
        assert!(receiver.poll(Duration::ZERO).unwrap());
        assert_eq!(receiver.by_ref().map(Result::unwrap).filter(|bytes| bytes == &[7; 500]).count(), count);
        assert!(matches!(receiver.recv(), Err(RecvError::Disconnected)));
    });
}

#[test]
fn sending_to_nobody_gives_the_value_back() {
    guarded(|| {
        let (mut sender, receiver) = pipe_one_way::<String>().unwrap();
        drop(receiver);
        let error = sender.send("unsent".into()).unwrap_err();
        assert!(matches!(&error, SendError::Disconnected(text) if text == "unsent"), "{error}");
    });
}

#[test]
fn the_wrong_end_is_refused_where_it_arrives() {
    guarded(|| {
        let (mut left, mut right) = mp_pipe::pipe().unwrap();
        let (sender, receiver) = pipe_one_way::<u8>().unwrap();
        left.send(sender).unwrap();
        left.send(receiver).unwrap();
        assert!(matches!(right.recv::<Receiver<u8>>(), Err(RecvError::Decode(_))));
        assert!(matches!(right.recv::<mp_pipe::Connection>(), Err(RecvError::Decode(_))));
    });
}
