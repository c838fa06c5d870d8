//! A handle of every kind, inside a struct, as an argument, and on to a grandchild; what a process's end does to them.

use mp_test::guarded;
use multiprocess::lock::{
    Barrier, BoundedSemaphore, Condition, Event, Lock, Mutex, Once, RLock, RwLock, Semaphore,
};
use multiprocess::pipe::{self, Connection, RecvError};
use multiprocess::process::Passed;
use multiprocess::queue;
use multiprocess::shm::{Frozen, SharedMemory};
use multiprocess::{Array, Process, Queue, RemoteError, Value};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{PipeReader, Read};
use std::sync::Mutex as LocalMutex;

multiprocess::enable_test_support!();

#[derive(Serialize, Deserialize)]
struct Memory {
    value: Value<i64>,
    array: Array<u8>,
    frozen: Frozen<f64>,
    named: SharedMemory,
    file: Passed<File>,
}

#[derive(Serialize, Deserialize)]
struct Locks {
    lock: Lock,
    rlock: RLock,
    rwlock: RwLock<u32>,
    mutex: Mutex<u64>,
    semaphore: Semaphore,
    bounded: BoundedSemaphore,
    condition: Condition,
    event: Event,
    barrier: Barrier,
    once: Once,
}

#[derive(Serialize, Deserialize)]
struct Channels {
    connection: Connection,
    sender: pipe::Sender<u32>,
    receiver: pipe::Receiver<u32>,
    queue: Queue<String>,
    put: queue::Sender<u32>,
    get: queue::Receiver<u32>,
}

#[derive(Serialize, Deserialize)]
struct Everything {
    memory: Memory,
    locks: Vec<Locks>,
    channels: Option<Box<Channels>>,
}

/// Hands `all` on through `depth` more processes; the last one uses it.
fn hand_on(depth: u32, all: Everything) -> Result<u32, RemoteError> {
    if depth > 0 {
        return Process::spawn(hand_on, (depth - 1, all))?.join()?;
    }
    use_memory(all.memory)?;
    for locks in all.locks {
        use_locks(locks)?;
    }
    use_channels(*all.channels.expect("they were sent along"))?;
    Ok(std::process::id())
}

fn use_memory(memory: Memory) -> Result<(), RemoteError> {
    memory.value.fetch_add(1);
    memory.array.set(0, 7);
    assert_eq!(*memory.frozen, [0.5, 1.5]);
    memory.named.copy_in(0, b"named");
    assert!(memory.file.into_inner().metadata()?.is_file());
    Ok(())
}

fn use_locks(locks: Locks) -> Result<(), RemoteError> {
    let guard = locks.lock.acquire()?;
    let _again = (locks.rlock.acquire()?, locks.rlock.acquire()?);
    locks.rwlock.write()?.with(|number| *number += 1);
    locks.mutex.acquire()?.with(|number| *number += 1);
    locks.semaphore.acquire().forget();
    drop(locks.bounded.acquire());
    locks.once.call_once(|| ())?;
    locks.condition.notify_all();
    guard.release();
    locks.event.set();
    locks.barrier.wait()?;
    Ok(())
}

fn use_channels(mut channels: Channels) -> Result<(), RemoteError> {
    let number: u32 = channels.connection.recv()?;
    channels.sender.send(number + channels.receiver.recv()?)?;
    channels.queue.put("from afar".to_owned())?;
    channels.put.put(channels.get.get()? + 1)?;
    Ok(())
}

#[test]
fn every_handle_crosses_inside_structs_and_on_to_grandchildren() {
    guarded(|| {
        let memory = Memory {
            value: Value::new(41).unwrap(),
            array: Array::new(3).unwrap(),
            frozen: Frozen::from_slice(&[0.5, 1.5]).unwrap(),
            named: SharedMemory::create(&format!("mp-handles-{}", std::process::id()), 64).unwrap(),
            file: Passed(File::open("/proc/self/exe").unwrap()),
        };
        let locks = Locks {
            lock: Lock::new().unwrap(),
            rlock: RLock::new().unwrap(),
            rwlock: RwLock::new(1).unwrap(),
            mutex: Mutex::new(1).unwrap(),
            semaphore: Semaphore::new(2).unwrap(),
            bounded: BoundedSemaphore::new(1).unwrap(),
            condition: Condition::new().unwrap(),
            event: Event::new().unwrap(),
            barrier: Barrier::new(2).unwrap(),
            once: Once::new().unwrap(),
        };
        let (mut ours, connection) = multiprocess::pipe().unwrap();
        let (sender, mut from_there) = pipe::pipe_one_way().unwrap();
        let (mut to_there, receiver) = pipe::pipe_one_way().unwrap();
        let queue = Queue::new().unwrap();
        let (put, got) = Queue::new().unwrap().split();
        let (to_get, get) = Queue::new().unwrap().split();
        ours.send(1_u32).unwrap();
        to_there.send(2).unwrap();
        to_get.put(3).unwrap();
        let here = Locks {
            lock: locks.lock.clone(),
            rlock: locks.rlock.clone(),
            rwlock: locks.rwlock.clone(),
            mutex: locks.mutex.clone(),
            semaphore: locks.semaphore.clone(),
            bounded: locks.bounded.clone(),
            condition: locks.condition.clone(),
            event: locks.event.clone(),
            barrier: locks.barrier.clone(),
            once: locks.once.clone(),
        };
        let (value, array) = (memory.value.clone(), memory.array.clone());
        let name = memory.named.name().to_owned();
        let named = SharedMemory::open(&name).unwrap();
        let channels = Channels { connection, sender, receiver, queue: queue.clone(), put, get };
        let all = Everything { memory, locks: vec![locks], channels: Some(Box::new(channels)) };

        let process = Process::spawn(hand_on, (2, all)).unwrap();
        here.event.wait();
        here.barrier.wait().unwrap();
        assert_ne!(process.join().unwrap().unwrap(), std::process::id());

        assert_eq!((value.get(), array.get(0)), (42, Some(7)));
        let mut text = [0; 5];
        named.copy_out(0, &mut text);
        assert_eq!(&text, b"named");
        assert!(!here.lock.is_locked() && !here.rlock.is_locked());
        assert_eq!((here.rwlock.read().unwrap().get(), here.mutex.acquire().unwrap().get()), (2, 2));
        assert_eq!((here.semaphore.available_permits(), here.bounded.available_permits()), (1, 1));
        assert!(here.once.is_completed());
        assert_eq!(from_there.recv().unwrap(), 3);
        assert_eq!((queue.get().unwrap().as_str(), got.get().unwrap()), ("from afar", 4));
        assert!(matches!(ours.recv::<u32>(), Err(RecvError::Disconnected)), "the ends there are gone");
    });
}

/// Ends of this process that nobody drops.
static KEPT: LocalMutex<Vec<Kept>> = LocalMutex::new(Vec::new());

#[expect(dead_code, reason = "kept, not used")]
enum Kept {
    Connection(Box<Connection>),
    Sender(queue::Sender<u32>),
    Receiver(queue::Receiver<u32>),
}

/// Waits for what never comes.
fn wait_on_a_pipe(mut connection: Connection, done: Passed<File>) {
    let first: Result<u32, _> = connection.recv();
    assert_eq!(first.ok(), Some(1), "what was sent before is received");
    assert!(matches!(connection.recv::<u32>(), Err(RecvError::Disconnected)));
    drop(done);
}

fn wait_on_a_queue(get: queue::Receiver<u32>, put: queue::Sender<u32>, done: Passed<File>) {
    assert_eq!(get.get().ok(), Some(1), "what was put before is got");
    assert!(matches!(get.get(), Err(queue::GetError::Disconnected)));
    // Full, and nobody will take anything.
    while put.put(1).is_ok() {}
    drop(done);
}

/// Starts processes that wait for this one, keeps its ends in a static, and returns: its end waits for those processes.
fn end_with_kept_ends(done: Passed<File>) {
    let done = done.into_inner();
    let (mut ours, theirs) = multiprocess::pipe().expect("a pipe");
    ours.send(1_u32).expect("room");
    let (put, get) = Queue::new().expect("a queue").split();
    put.put(1).expect("room");
    let (to_us, from_there) = Queue::bounded(2).expect("a queue").split();
    let mut kept = KEPT.lock().expect("poison");
    kept.extend([Kept::Connection(Box::new(ours)), Kept::Sender(put), Kept::Receiver(from_there)]);
    let pass = || Passed(done.try_clone().expect("a descriptor"));
    drop(Process::spawn(wait_on_a_pipe, (theirs, pass())).expect("started"));
    drop(Process::spawn(wait_on_a_queue, (get, to_us, pass())).expect("started"));
}

#[test]
fn a_process_that_ends_lets_go_of_its_ends_before_it_waits_for_its_children() {
    guarded(|| {
        let (reader, writer): (PipeReader, _) = std::io::pipe().unwrap();
        let done = Passed(File::from(std::os::fd::OwnedFd::from(writer)));
        let process = Process::spawn(end_with_kept_ends, (done,)).unwrap();
        process.join().unwrap();
        // All of them are gone by now: nobody holds the pipe.
        let mut reader = reader;
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0);
    });
}
