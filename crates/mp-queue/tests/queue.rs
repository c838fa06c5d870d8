//! Behaviour of [`mp_queue::Queue`] within one process.

use mp_queue::{GetError, Queue};
use mp_test::guarded;

#[test]
fn smoke() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        queue.put("one".to_owned()).unwrap();
        queue.put("two".to_owned()).unwrap();
        assert_eq!((queue.get().unwrap(), queue.get().unwrap()), ("one".to_owned(), "two".to_owned()));
        assert!(queue.try_get().unwrap_err().is_empty());
    });
}

#[test]
fn many_threads_put_and_get_everything_once() {
    guarded(|| {
        for bound in [None, Some(3)] {
            let queue: Queue<u64> = bound.map_or_else(Queue::new, Queue::bounded).unwrap();
            let count = 20_000;
            let sum = std::thread::scope(|scope| {
                let putters: Vec<_> = (0..4)
                    .map(|part| {
                        let queue = queue.clone();
                        scope.spawn(move || (0..count).for_each(|n| queue.put(part * count + n).unwrap()))
                    })
                    .collect();
                let getters: Vec<_> = (0..3)
                    .map(|_| {
                        let queue = queue.clone();
                        scope.spawn(move || queue.iter().map(Result::unwrap).sum::<u64>())
                    })
                    .collect();
                putters.into_iter().for_each(|putter| putter.join().unwrap());
                queue.close().unwrap();
                getters.into_iter().map(|getter| getter.join().unwrap()).sum::<u64>()
            });
            let all = 4 * count;
            assert_eq!(sum, all * (all - 1) / 2);
        }
    });
}

#[test]
fn closed_queue_drains() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        queue.put(1).unwrap();
        queue.close().unwrap();
        assert!(queue.put(2).unwrap_err().is_closed());
        assert_eq!(queue.get().unwrap(), 1);
        assert!(matches!(queue.get(), Err(GetError::Closed)));
    });
}
