//! Bytes that are put from where they are and got into a buffer.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "helpers of tests, small numbers")]

use mp_queue::{GetBytesIntoError, GetError, JoinableQueue, OnDeath, PutError, Queue};
use mp_test::guarded;
use std::thread;

#[test]
fn bytes_of_every_size_are_put_from_a_slice_and_got_into_a_buffer() {
    guarded(|| {
        let queue: Queue<Vec<u8>> = Queue::bounded(3).unwrap();
        let sizes = || [0, 1, 3, 64, 4_000, 60_000, 1 << 20, 9 << 20, 5, 9 << 20, 0].into_iter().zip(1_u8..);
        let consumer = {
            let queue = queue.clone();
            thread::spawn(move || {
                let mut buffer = vec![0; 10 << 20];
                for (size, n) in sizes() {
                    buffer.fill(0xee);
                    assert_eq!(queue.get_bytes_into(&mut buffer).unwrap(), size);
                    assert!(buffer[..size].iter().all(|byte| *byte == n));
                    assert!(buffer[size..].iter().all(|byte| *byte == 0xee), "behind it nothing changes");
                }
            })
        };
        for (size, n) in sizes() {
            queue.put_bytes(&vec![n; size]).unwrap();
        }
        consumer.join().unwrap();
        assert!(queue.is_empty());
    });
}

#[test]
fn they_are_the_same_values_as_vectors() {
    guarded(|| {
        let queue: Queue<Vec<u8>> = Queue::new().unwrap();
        queue.put_bytes(b"slice").unwrap();
        queue.put(b"vector".to_vec()).unwrap();
        assert_eq!(queue.get().unwrap(), b"slice");
        let mut buffer = [0; 6];
        assert_eq!(queue.get_bytes_into(&mut buffer).unwrap(), 6);
        assert_eq!(&buffer, b"vector");
    });
}

#[test]
fn too_small_a_buffer_gives_the_whole_value_back_and_the_queue_goes_on() {
    guarded(|| {
        let queue: Queue<Vec<u8>> = Queue::new().unwrap();
        let mut buffer = [0; 3];
        for size in [4, 5 << 20] {
            queue.put_bytes(&vec![7; size]).unwrap();
            queue.put_bytes(b"abc").unwrap();
            let error = queue.get_bytes_into(&mut buffer).unwrap_err();
            assert!(error.is_too_short(), "{error}");
            let GetBytesIntoError::TooShort(whole) = error else { panic!("{error:?}") };
            assert!(whole == vec![7; size]);
            assert_eq!(buffer, [0; 3], "nothing was written");
            assert_eq!((queue.get_bytes_into(&mut buffer).unwrap(), &buffer), (3, b"abc"));
            buffer.fill(0);
        }
    });
}

#[test]
fn the_end_is_seen_as_by_values() {
    guarded(|| {
        let (sender, receiver) = Queue::<Vec<u8>>::new().unwrap().split();
        sender.put_bytes(b"last").unwrap();
        drop(sender);
        let mut buffer = [0; 8];
        assert_eq!(receiver.get_bytes_into(&mut buffer).unwrap(), 4);
        let error = receiver.get_bytes_into(&mut buffer).unwrap_err();
        assert!(matches!(error, GetBytesIntoError::Failed(GetError::Disconnected)), "{error:?}");

        let (sender, receiver) = Queue::<Vec<u8>>::new().unwrap().split();
        drop(receiver);
        assert!(matches!(sender.put_bytes(b"nobody's").unwrap_err(), PutError::Disconnected(())));

        let queue: Queue<Vec<u8>> = Queue::new().unwrap();
        queue.close().unwrap();
        assert!(matches!(queue.put_bytes(b"late").unwrap_err(), PutError::Closed(())));
        let error = queue.get_bytes_into(&mut buffer).unwrap_err();
        assert!(matches!(error, GetBytesIntoError::Failed(GetError::Closed)), "{error:?}");
    });
}

#[test]
fn bytes_of_a_queue_that_can_be_joined_are_claimed() {
    guarded(|| {
        let queue: JoinableQueue<Vec<u8>> = JoinableQueue::with_policy(None, OnDeath::Redeliver).unwrap();
        let mut buffer = [0; 8];
        queue.put_bytes(b"again").unwrap();
        drop(queue.claim().unwrap().1);
        // What was given back comes from elsewhere, into a buffer all the same, or beside it.
        assert_eq!(queue.get_bytes_into(&mut buffer).unwrap(), 5);
        assert_eq!(&buffer[..5], b"again");
        queue.task_done().unwrap();
        queue.put_bytes(b"too long for it").unwrap();
        drop(queue.claim().unwrap().1);
        let error = queue.get_bytes_into(&mut buffer).unwrap_err();
        assert!(
            matches!(&error, GetBytesIntoError::TooShort(whole) if whole == b"too long for it"),
            "{error:?}"
        );
        queue.task_done().unwrap();
        queue.join().unwrap();
    });
}
