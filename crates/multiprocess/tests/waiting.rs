//! One `wait` over everything that can be waited for.

use mp_test::guarded;
use multiprocess::lock::Event;
use multiprocess::pipe::{Connection, Readable, Waitable, wait};
use multiprocess::queue::JoinableQueue;
use multiprocess::{Process, Queue, pipe};
use std::io::Write;
use std::time::Duration;

multiprocess::enable_test_support!();

fn act(queue: Queue<u8>, tasks: JoinableQueue<u8>, event: Event, mut connection: Connection) {
    // One after the other, each time when the parent has seen the one before.
    connection.recv::<()>().expect("the parent waits");
    queue.put(1).expect("put");
    connection.recv::<()>().expect("the parent waits");
    tasks.put(2).expect("put");
    connection.recv::<()>().expect("the parent waits");
    event.set();
    connection.recv::<()>().expect("the parent waits");
    connection.send(4_u8).expect("send");
    connection.recv::<()>().expect("the parent waits");
}

#[test]
fn queues_events_connections_processes_and_foreign_descriptors_in_one_wait() {
    guarded(|| {
        let (queue, tasks) = (Queue::new().unwrap(), JoinableQueue::new().unwrap());
        let full = Queue::bounded(1).unwrap();
        full.put(0_u8).unwrap();
        let sender = full.clone().into_sender();
        let event = Event::new().unwrap();
        let (mut connection, theirs) = pipe().unwrap();
        let (tube, mut tube_end) = std::io::pipe().unwrap();
        let tube = Readable(tube);
        let process = Process::spawn(act, (queue.clone(), tasks.clone(), event.clone(), theirs)).unwrap();
        let ready = |connection: &Connection| {
            let all: [&dyn Waitable; 7] = [&queue, &tasks, &event, connection, &process, &tube, &sender];
            assert_eq!(wait(&all[4..], Some(Duration::ZERO)).unwrap().first(), None);
            wait(&all[..], Some(Duration::from_secs(100))).unwrap()
        };
        connection.send(()).unwrap();
        assert_eq!(ready(&connection), [0]);
        queue.get().unwrap();
        connection.send(()).unwrap();
        assert_eq!(ready(&connection), [1]);
        tasks.get().unwrap();
        connection.send(()).unwrap();
        assert_eq!(ready(&connection), [2]);
        event.clear();
        connection.send(()).unwrap();
        assert_eq!(ready(&connection), [3]);
        assert_eq!(connection.recv::<u8>().unwrap(), 4);
        tube_end.write_all(b"x").unwrap();
        assert_eq!(wait(&[&queue, &tube, &sender], None).unwrap(), [1]);
        full.get().unwrap();
        assert_eq!(wait(&[&queue, &tube, &sender], None).unwrap(), [1, 2]);
        assert_eq!(wait(&[&queue, &process], Some(Duration::ZERO)).unwrap(), []);
        connection.send(()).unwrap();
        assert_eq!(wait(&[&queue, &process], None).unwrap(), [1]);
        process.join().unwrap();
    });
}
