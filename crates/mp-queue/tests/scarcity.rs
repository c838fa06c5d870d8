//! No descriptor left, no address space left: at each place where it can run out, that is a typed error, nothing is left open, and
//! nothing is lost but what the error says.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_queue::{
    GetError, GiveError, JoinableQueue, Passed, PutError, Queue, Receiver, SimpleQueue, Waitable, give, take,
    wait,
};
use mp_test::{Role, command, guarded, role, short_of_descriptors, short_of_memory};
use std::fs::File;
use std::io;
use std::time::Duration;

const MIB: usize = 1 << 20;

/// In a process of its own, whose limits may change.
fn alone(me: &str, test: impl FnOnce()) {
    if role().is_some() {
        return test();
    }
    guarded(|| assert!(Role::start(command(me, "alone")).wait().success()));
}

fn no_descriptor(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error())
}

fn null() -> Passed<File> {
    Passed(File::open("/dev/null").unwrap())
}

#[test]
fn making_a_queue_without_descriptors_is_an_error() {
    alone("making_a_queue_without_descriptors_is_an_error", || {
        let (errors, unbounded) = short_of_descriptors(Queue::<u8>::new);
        assert!(errors.len() >= 4 && errors.iter().all(no_descriptor), "{errors:?}");
        let (errors, bounded) = short_of_descriptors(|| Queue::<u8>::bounded(2));
        assert!(errors.len() >= 5 && errors.iter().all(no_descriptor), "{errors:?}");
        let (errors, simple) = short_of_descriptors(SimpleQueue::<u8>::new);
        assert!(errors.len() >= 4 && errors.iter().all(no_descriptor), "{errors:?}");
        let (errors, joinable) = short_of_descriptors(JoinableQueue::<u8>::new);
        assert!(errors.len() >= 5 && errors.iter().all(no_descriptor), "{errors:?}");
        unbounded.put(1).unwrap();
        bounded.put(2).unwrap();
        simple.put(3).unwrap();
        joinable.put(4).unwrap();
        let got = [unbounded.get(), bounded.get(), simple.get(), joinable.get()].map(Result::unwrap);
        assert_eq!(got, [1, 2, 3, 4]);
    });
}

#[test]
fn polling_without_descriptors_is_an_error_and_misses_nothing() {
    alone("polling_without_descriptors_is_an_error_and_misses_nothing", || {
        let whole = Queue::<u8>::new().unwrap();
        let tasks = JoinableQueue::<u8>::new().unwrap();
        let (sender, receiver) = Queue::<u8>::bounded(2).unwrap().split();
        let (always, _receiver) = Queue::<u8>::new().unwrap().split();
        whole.put(1).unwrap();
        tasks.put(2).unwrap();
        sender.put(3).unwrap();
        let items: [&dyn Waitable; 5] = [&whole, &tasks, &receiver, &sender, &always];
        for item in items {
            let (errors, found) = short_of_descriptors(|| wait(&[item], Some(Duration::ZERO)));
            assert!(!errors.is_empty() && errors.iter().all(no_descriptor), "{errors:?}");
            assert_eq!(found, [0]);
        }
    });
}

#[test]
fn giving_without_descriptors_is_an_error_and_the_queue_is_still_whole() {
    const ME: &str = "giving_without_descriptors_is_an_error_and_the_queue_is_still_whole";
    if role().as_deref() == Some("child") {
        return take::<Queue<u8>>("end").unwrap().put(1).unwrap();
    }
    alone(ME, || {
        let queue = Queue::<u8>::new().unwrap();
        let mut child = command(ME, "child");
        let (errors, ()) = short_of_descriptors(|| give(&mut child, "end", &queue));
        assert!(!errors.is_empty());
        for error in &errors {
            assert!(matches!(error, GiveError::Io(error) if no_descriptor(error)), "{error:?}");
        }
        assert!(Role::start(child).wait().success());
        assert_eq!(queue.get().unwrap(), 1);
    });
}

/// What arrives without room for its handles is lost, as the error says: what comes behind it is not, whoever is at the other end of a lost
/// end is told, and on a queue that can be joined it is counted.
#[test]
fn getting_handles_without_descriptors_is_an_error_and_the_next_value_comes() {
    alone("getting_handles_without_descriptors_is_an_error_and_the_next_value_comes", || {
        type Three = (u8, Passed<File>, Passed<File>, Passed<File>);
        let queue = Queue::<Three>::new().unwrap();
        let tasks = JoinableQueue::<Three>::new().unwrap();
        for n in 0..6_u8 {
            queue.put((n, null(), null(), null())).unwrap();
            tasks.put((n, null(), null(), null())).unwrap();
        }
        let (errors, (n, ..)) = short_of_descriptors(|| queue.get());
        assert!(errors.iter().all(|error| matches!(error, GetError::TooManyHandles)), "{errors:?}");
        assert_eq!((errors.len(), n), (3, 3));
        assert_eq!([(); 2].map(|()| queue.get().unwrap().0), [4, 5]);
        let (errors, ((n, ..), claim)) = short_of_descriptors(|| tasks.claim());
        assert!(errors.iter().all(|error| matches!(error, GetError::TooManyHandles)), "{errors:?}");
        assert_eq!((errors.len(), n), (3, 3));
        claim.done().unwrap();
        for _ in 0..2 {
            tasks.get().unwrap();
            tasks.task_done().unwrap();
        }
        tasks.join().unwrap();
        assert_eq!(tasks.lost(), 3);
    });
}

#[test]
fn a_queue_that_arrives_without_descriptors_is_lost_and_its_other_side_is_told() {
    alone("a_queue_that_arrives_without_descriptors_is_lost_and_its_other_side_is_told", || {
        let outer = Queue::<Receiver<u8>>::new().unwrap();
        let senders: Vec<_> = (0..5)
            .map(|_| {
                let (sender, receiver) = Queue::bounded(1).unwrap().split();
                outer.put(receiver).unwrap();
                sender
            })
            .collect();
        let (errors, receiver) = short_of_descriptors(|| outer.get());
        assert!(errors.iter().all(|error| matches!(error, GetError::TooManyHandles)), "{errors:?}");
        assert!(!errors.is_empty());
        for sender in &senders[..errors.len()] {
            mp_test::until("it is told", || {
                // One may be put while the receiver has not gone.
                matches!(sender.put(1), Err(PutError::Disconnected(1)))
            });
        }
        senders[errors.len()].put(2).unwrap();
        assert_eq!(receiver.get().unwrap(), 2);
    });
}

#[test]
fn a_value_too_large_for_this_process_is_an_error_and_stays() {
    const ME: &str = "a_value_too_large_for_this_process_is_an_error_and_stays";
    // More than what the C library has set aside for small allocations.
    const LARGE: usize = 80 * MIB;
    const STEP: u64 = 8 << 20;
    if role().is_some() {
        let (queue, tasks): (Queue<Vec<u8>>, JoinableQueue<Vec<u8>>) = take("ends").unwrap();
        let out_of_memory = |error: &GetError| matches!(error, GetError::Io(error) if error.kind() == io::ErrorKind::OutOfMemory);
        let (errors, value) = short_of_memory(STEP, || queue.get());
        // First for the mapping, then for the copy.
        assert!(errors.len() > 10 && errors.iter().all(out_of_memory), "{errors:?}");
        assert_eq!((value.len(), value[LARGE / 2]), (LARGE, 1));
        drop(value);
        let (errors, value) = short_of_memory(STEP, || queue.get_many(1)?.next().unwrap());
        assert!(errors.len() > 10 && errors.iter().all(out_of_memory), "{errors:?}");
        assert_eq!((value.len(), value[LARGE / 2]), (LARGE, 2));
        let value = std::cell::Cell::new(Some(value));
        let put = || {
            queue.put(value.take().unwrap()).map_err(|error| {
                assert!(matches!(error, PutError::Io(..)), "{error:?}");
                value.set(Some(error.into_inner()));
            })
        };
        assert!(short_of_memory(STEP, put).0.len() > 5, "a mapping");
        // The claim keeps a copy, which needs its own memory.
        let (errors, (value, claim)) = short_of_memory(STEP, || tasks.claim());
        assert!(errors.len() > 10 && errors.iter().all(out_of_memory), "{errors:?}");
        assert_eq!((value.len(), claim.deliveries()), (LARGE, 1));
        drop((value, claim));
        let (errors, (value, claim)) = short_of_memory(STEP, || tasks.claim());
        assert!(errors.iter().all(out_of_memory), "{errors:?}");
        assert_eq!((value.len(), claim.deliveries()), (LARGE, 2));
        return claim.done().unwrap();
    }
    guarded(|| {
        let (queue, tasks) = (Queue::<Vec<u8>>::new().unwrap(), JoinableQueue::<Vec<u8>>::new().unwrap());
        queue.put(vec![1; LARGE]).unwrap();
        queue.put(vec![2; LARGE]).unwrap();
        tasks.put(vec![3; LARGE]).unwrap();
        let mut child = command(ME, "small");
        give(&mut child, "ends", &(queue.clone(), tasks.clone())).unwrap();
        assert!(Role::start(child).wait().success());
        assert_eq!(queue.get().unwrap().len(), LARGE);
        tasks.join().unwrap();
        assert_eq!(tasks.lost(), 0);
    });
}
