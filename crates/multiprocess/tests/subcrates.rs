//! Each crate's way through the facade, and all of them together.

use mp_test::guarded;
use multiprocess::lock::Barrier;
use multiprocess::pipe::Connection;
use multiprocess::{Array, Lock, Pool, Process, Queue, RemoteError, Value, pipe};

multiprocess::enable_test_support!();

fn everything(
    value: Value<i64>,
    array: Array<u8>,
    lock: Lock,
    queue: Queue<String>,
    mut connection: Connection,
    barrier: Barrier,
) -> Result<usize, RemoteError> {
    barrier.wait()?;
    let guard = lock.acquire()?;
    value.set(value.get() + 1);
    array.set(0, 7);
    guard.release();
    queue.put("from the child".into())?;
    let text: String = connection.recv()?;
    connection.send(text.len())?;
    Ok(text.len())
}

#[test]
fn every_handle_crosses_to_a_process() {
    guarded(|| {
        let (value, array) = (Value::new(41_i64).unwrap(), Array::new(3).unwrap());
        let (lock, queue, barrier) = (Lock::new().unwrap(), Queue::new().unwrap(), Barrier::new(2).unwrap());
        let (mut ours, theirs) = pipe().unwrap();
        let args = (value.clone(), array.clone(), lock.clone(), queue.clone(), theirs, barrier.clone());
        let process = Process::spawn(everything, args).unwrap();
        barrier.wait().unwrap();
        assert_eq!(queue.get().unwrap(), "from the child");
        ours.send("four".to_owned()).unwrap();
        assert_eq!(ours.recv::<usize>().unwrap(), 4);
        assert_eq!(process.join().unwrap().unwrap(), 4);
        assert_eq!((value.get(), array.get(0)), (42, Some(7)));
        assert!(!lock.is_locked());
    });
}

fn put_from_a_task(queue: Queue<u32>, n: u32) {
    queue.put(n).expect("the test holds the queue");
}

#[test]
fn handles_cross_to_the_workers_of_a_pool() {
    guarded(|| {
        let queue = Queue::new().unwrap();
        let pool = Pool::new(2).unwrap();
        let results: Vec<_> =
            (0..20).map(|n| pool.apply_async(put_from_a_task, (queue.clone(), n))).collect();
        results.into_iter().for_each(|result| result.get().unwrap());
        let mut got: Vec<u32> = (0..20).map(|_| queue.try_get().unwrap()).collect();
        got.sort_unstable();
        assert!(got.into_iter().eq(0..20));
    });
}

fn starts_another(depth: u32) -> Result<u32, RemoteError> {
    if depth == 0 {
        return Ok(0);
    }
    Ok(1 + Process::spawn(starts_another, (depth - 1,))?.join()??)
}

#[test]
fn processes_start_from_several_threads_and_from_children() {
    guarded(|| {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|depth| scope.spawn(move || Process::spawn(starts_another, (depth,)).unwrap()))
                .collect();
            for (depth, thread) in (0..4).zip(threads) {
                assert_eq!(thread.join().unwrap().join().unwrap().unwrap(), depth);
            }
        });
    });
}
