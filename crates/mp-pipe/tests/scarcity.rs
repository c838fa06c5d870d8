//! No descriptor left, no address space left: at each place where it can run out, that is a typed error, nothing is left open, and
//! nothing is lost but what the error says.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod meeting;

use meeting::Place;
use mp_pipe::{
    AcceptError, Address, ConnectError, Connection, GiveError, Listener, Passed, RecvError, SendError,
    Waitable, connect, give, pipe, pipe_one_way, take, wait,
};
use mp_test::{Role, command, guarded, hear, role, say, short_of_descriptors, short_of_memory};
use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

const MIB: usize = 1 << 20;
const NOW: Option<Duration> = Some(Duration::ZERO);

/// In a process of its own, whose limits may change.
fn alone(me: &str, test: impl FnOnce()) {
    if role().is_some() {
        return test();
    }
    guarded(|| assert!(Role::start(command(me, "alone")).wait().success()));
}

fn no_descriptor(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMFILE)
}

fn null() -> Passed<File> {
    Passed(File::open("/dev/null").unwrap())
}

#[test]
fn making_something_without_descriptors_is_an_error() {
    alone("making_something_without_descriptors_is_an_error", || {
        let (errors, (mut left, mut right)) = short_of_descriptors(pipe);
        assert!(errors.len() >= 3 && errors.iter().all(no_descriptor), "{errors:?}");
        left.send(1).unwrap();
        assert_eq!(right.recv::<i32>().unwrap(), 1);
        let (errors, (mut sender, mut receiver)) = short_of_descriptors(pipe_one_way::<u8>);
        assert!(errors.len() >= 3 && errors.iter().all(no_descriptor), "{errors:?}");
        sender.send(2).unwrap();
        assert_eq!(receiver.recv().unwrap(), 2);
        let address = Address::unique().unwrap();
        let (errors, listener) = short_of_descriptors(|| Listener::bind(&address, None));
        assert!(!errors.is_empty());
        assert!(errors.iter().all(|error| error.to_string().contains("listen at")), "{errors:?}");
        drop(listener);
    });
}

#[test]
fn polling_without_descriptors_is_an_error_and_misses_nothing() {
    alone("polling_without_descriptors_is_an_error_and_misses_nothing", || {
        let (mut left, right) = pipe().unwrap();
        let (mut sender, receiver) = pipe_one_way::<u8>().unwrap();
        let listener = Listener::bind(Address::unique().unwrap(), None).unwrap();
        left.send(1).unwrap();
        sender.send(2).unwrap();
        let items: [(&dyn Waitable, &[usize]); 3] = [(&right, &[0]), (&receiver, &[0]), (&listener, &[])];
        for (item, ready) in items {
            let (errors, found) = short_of_descriptors(|| wait(&[item], NOW));
            assert!(!errors.is_empty() && errors.iter().all(no_descriptor), "{errors:?}");
            assert_eq!(found, ready);
        }
    });
}

/// What arrives without room for its handles is lost, as the error says: what comes behind it is not, and whoever is at the other end of a
/// lost end is told.
#[test]
fn receiving_handles_without_descriptors_is_an_error_and_the_next_message_comes() {
    alone("receiving_handles_without_descriptors_is_an_error_and_the_next_message_comes", || {
        let (mut left, mut right) = pipe().unwrap();
        for n in 0..6_u8 {
            left.send((n, null(), null(), null())).unwrap();
        }
        left.send(7_u8).unwrap();
        type Three = (u8, Passed<File>, Passed<File>, Passed<File>);
        let (errors, (n, ..)) = short_of_descriptors(|| right.recv::<Three>());
        assert_eq!(errors.len(), 3);
        assert!(errors.iter().all(|error| matches!(error, RecvError::TooManyHandles)), "{errors:?}");
        assert_eq!(n, 3);
        assert_eq!([4, 5].map(|_| right.recv::<Three>().unwrap().0), [4, 5]);
        assert_eq!(right.recv::<u8>().unwrap(), 7);
        let mut kept: Vec<Connection> = (0..4)
            .map(|_| {
                let (kept, sent) = pipe().unwrap();
                left.send(sent).unwrap();
                kept
            })
            .collect();
        let (errors, mut end) = short_of_descriptors(|| right.recv::<Connection>());
        assert!(errors.iter().all(|error| matches!(error, RecvError::TooManyHandles)), "{errors:?}");
        end.send(8_u8).unwrap();
        assert_eq!(kept[errors.len()].recv::<u8>().unwrap(), 8);
        assert!(!errors.is_empty());
        assert!(kept[..errors.len()].iter_mut().all(|kept| kept.recv::<u8>().unwrap_err().is_disconnected()));
    });
}

#[test]
fn giving_without_descriptors_is_an_error_and_the_end_is_still_here() {
    const ME: &str = "giving_without_descriptors_is_an_error_and_the_end_is_still_here";
    if role().as_deref() == Some("child") {
        return take::<Connection>("end").unwrap().send("taken".to_owned()).unwrap();
    }
    alone(ME, || {
        let (mut kept, given) = pipe().unwrap();
        let mut child = command(ME, "child");
        let (errors, ()) = short_of_descriptors(|| give(&mut child, "end", &given));
        assert!(!errors.is_empty());
        for error in &errors {
            assert!(matches!(error, GiveError::Io(error) if no_descriptor(error)), "{error:?}");
        }
        let mut child = Role::start(child);
        assert_eq!(kept.recv::<String>().unwrap(), "taken");
        assert!(child.wait().success());
    });
}

fn at(me: &str, role: &str, place: &Place) -> Command {
    let mut child = command(me, role);
    child.env("ADDRESS", place.socket());
    child
}

fn address() -> String {
    std::env::var("ADDRESS").unwrap()
}

/// One after the other until one gets in.
fn connect_in_the_end() {
    let mut connection = loop {
        match connect(address().as_str(), None) {
            Ok(connection) => break connection,
            Err(ConnectError::Gone) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(connection.recv::<u8>().unwrap(), 1);
}

#[test]
fn accepting_without_descriptors_is_an_error_and_clients_get_in_later() {
    const ME: &str = "accepting_without_descriptors_is_an_error_and_clients_get_in_later";
    if role().as_deref() == Some("client") {
        return connect_in_the_end();
    }
    alone(ME, || {
        let place = Place::new("scarce");
        let mut listener = Listener::bind(place.socket(), None).unwrap();
        let mut client = Role::start(at(ME, "client", &place));
        let (errors, (mut connection, _)) = short_of_descriptors(|| listener.accept());
        assert!(!errors.is_empty());
        for error in &errors {
            assert!(matches!(error, AcceptError::Io(error) if no_descriptor(error)), "{error:?}");
        }
        connection.send(1_u8).unwrap();
        assert!(client.wait().success());
    });
}

#[test]
fn connecting_without_descriptors_is_an_error_and_the_listener_goes_on() {
    const ME: &str = "connecting_without_descriptors_is_an_error_and_the_listener_goes_on";
    if role().is_some() {
        let (errors, mut connection) = short_of_descriptors(|| connect(address().as_str(), None));
        assert!(!errors.is_empty());
        for error in &errors {
            assert!(matches!(error, ConnectError::Io(_)), "{error:?}");
            assert!(error.to_string().contains("RLIMIT_NOFILE") || error.to_string().contains("open files"));
        }
        return assert_eq!(connection.recv::<u8>().unwrap(), 1);
    }
    guarded(|| {
        let place = Place::new("scarce");
        let mut listener = Listener::bind(place.socket(), None).unwrap();
        let mut client = Role::start(at(ME, "client", &place));
        while !client.has_ended() {
            match listener.accept_timeout(Duration::from_millis(10)) {
                // One that could not open what it was handed is gone.
                Ok(Some((mut connection, _))) => _ = connection.send(1_u8),
                Ok(None) | Err(AcceptError::Gone(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert!(client.wait().success());
    });
}

/// Five that keep silent hold what descriptors there are; who comes then gets in.
#[test]
fn silent_clients_give_their_descriptors_for_those_that_come() {
    const ME: &str = "silent_clients_give_their_descriptors_for_those_that_come";
    if role().as_deref() == Some("client") {
        return connect_in_the_end();
    }
    if role().as_deref() == Some("silent") {
        let _silent: Vec<UnixStream> = (0..5).map(|_| UnixStream::connect(address()).unwrap()).collect();
        say("silent");
        return drop(hear());
    }
    alone(ME, || {
        let place = Place::new("silent");
        let mut listener = Listener::bind(place.socket(), None).unwrap();
        let mut silent = Role::start(at(ME, "silent", &place));
        silent.expect("silent");
        let mut client = Role::start(at(ME, "client", &place));
        // The client needs one, and three for its pipe: the silent ones cannot keep all of the first five.
        let (errors, (mut connection, _)) = short_of_descriptors(|| listener.accept());
        assert!(errors.iter().all(|error| matches!(error, AcceptError::Io(_))), "{errors:?}");
        connection.send(1_u8).unwrap();
        assert!(client.wait().success());
        assert!(silent.wait().success());
    });
}

/// The message stays where it is until there is room for it.
#[test]
fn a_message_too_large_for_this_process_is_an_error_and_stays() {
    const ME: &str = "a_message_too_large_for_this_process_is_an_error_and_stays";
    // More than what the C library has set aside for small allocations.
    const LARGE: usize = 80 * MIB;
    const STEP: u64 = 8 << 20;
    if role().is_some() {
        let mut connection: Connection = take("end").unwrap();
        let (errors, bytes) = short_of_memory(STEP, || connection.recv_bytes());
        // First for the mapping, then for the copy.
        assert!(errors.len() > 10, "{errors:?}");
        for error in errors {
            let RecvError::Io(error) = error else { panic!("{error:?}") };
            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        }
        assert_eq!((bytes.len(), bytes[LARGE / 2]), (LARGE, 1));
        let mut buffer = bytes;
        let (errors, length) = short_of_memory(STEP, || connection.recv_bytes_into(&mut buffer));
        assert!(errors.len() >= 10, "a mapping");
        assert_eq!((length, buffer[LARGE / 2]), (LARGE, 2));
        let (errors, ()) = short_of_memory(STEP, || connection.send_bytes(&buffer));
        assert!(errors.len() >= 10, "a mapping");
        for error in errors {
            assert!(matches!(error, SendError::Io(..)), "{error:?}");
        }
        return assert_eq!(connection.recv::<u8>().unwrap(), 3);
    }
    guarded(|| {
        let (mut kept, sent) = pipe().unwrap();
        let mut child = command(ME, "small");
        give(&mut child, "end", &sent).unwrap();
        let mut child = Role::start(child);
        kept.send_bytes(&vec![1; LARGE]).unwrap();
        kept.send_bytes(&vec![2; LARGE]).unwrap();
        kept.send(3_u8).unwrap();
        assert_eq!(kept.recv_bytes().unwrap()[LARGE / 2], 2);
        assert!(child.wait().success());
    });
}

#[test]
fn making_a_pipe_without_memory_is_an_error() {
    alone("making_a_pipe_without_memory_is_an_error", || {
        let (errors, (mut left, mut right)) = short_of_memory(4096, pipe);
        assert!(!errors.is_empty());
        left.send(1_u8).unwrap();
        assert_eq!(right.recv::<u8>().unwrap(), 1);
        let (mut left, mut right) = pipe().unwrap();
        // The first message of a pipe maps its ring.
        let (errors, ()) = short_of_memory(4096, || left.send(vec![1_u8; 10]));
        assert!(errors.iter().all(|error| matches!(error, SendError::Io(..))), "{errors:?}");
        let (errors, value) = short_of_memory(4096, || right.recv::<Vec<u8>>());
        assert!(errors.iter().all(|error| matches!(error, RecvError::Io(..))), "{errors:?}");
        assert_eq!(value, [1; 10]);
    });
}
