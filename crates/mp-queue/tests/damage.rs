//! What others find when somebody wrote over the memory of a queue. More of it is in the fuzz targets.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_queue::{GetError, Queue, TryGetError, TryPutError};
use mp_test::guarded;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The memory of `queue` as a file.
fn memory(queue: &Queue<u8>) -> File {
    let mut scratch = Vec::new();
    let message = mp_core::wire::encode(queue, &mut scratch).unwrap();
    let fd = message.handles.fds().next().unwrap().try_clone_to_owned().unwrap();
    File::from(fd)
}

/// Where the ring counts what was taken.
const TAKEN: u64 = 64 + 256;

#[test]
fn more_taken_than_put_is_an_error_not_an_endless_wait() {
    guarded(|| {
        let queue = Queue::<u8>::new().unwrap();
        memory(&queue).write_all_at(&1_u64.to_ne_bytes(), TAKEN).unwrap();
        assert!(matches!(queue.get(), Err(GetError::Io(_))));
        assert!(matches!(queue.try_get(), Err(TryGetError::Failed(GetError::Io(_)))));
    });
}

#[test]
fn a_lock_that_was_written_over_is_an_error() {
    guarded(|| {
        let queue = Queue::<u8>::new().unwrap();
        let file = memory(&queue);
        let locks = file.metadata().unwrap().len() - 384;
        queue.put(1).unwrap();
        file.write_all_at(&[0; 256], locks).unwrap();
        assert!(matches!(queue.try_put(2), Err(TryPutError::Failed(_))));
        assert!(matches!(queue.try_get(), Err(TryGetError::Failed(GetError::Io(_)))));
        assert!(queue.close().is_err());
    });
}
