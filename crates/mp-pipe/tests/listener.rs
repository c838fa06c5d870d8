//! Connections between programs that share nothing but an address.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod meeting;

use meeting::{Place, address, at, is_there, key, meet};
use mp_pipe::{
    AcceptError, Address, AuthenticationError, Client, ConnectError, Connection, Key, Listener, Passed,
    connect,
};
use mp_test::{Role, guarded, hear, role, say};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn smoke() {
    guarded(|| {
        let place = Place::new("smoke");
        for address in [Address::path(place.socket()), Address::unique().unwrap()] {
            for key in [None, Some(key()), Some(Key::new(""))] {
                let mut listener = Listener::bind(&address, key.clone()).unwrap();
                assert_eq!(listener.local_address(), &address);
                let (ours, theirs) = meet(&mut listener, || connect(&address, key));
                let (mut ours, mut theirs) = (ours.unwrap(), theirs.unwrap());
                assert!(!theirs.poll(Duration::ZERO).unwrap());
                ours.send("there".to_owned()).unwrap();
                assert!(theirs.poll(Duration::MAX).unwrap());
                assert_eq!(theirs.recv::<String>().unwrap(), "there");
                theirs.send(vec![7_u64; 200_000]).unwrap();
                assert_eq!(ours.recv::<Vec<u64>>().unwrap(), vec![7; 200_000]);
                drop(theirs);
                assert!(ours.recv::<u8>().unwrap_err().is_disconnected());
            }
            assert!(!is_there(&place.socket()), "a dropped listener leaves no file");
        }
    });
}

#[test]
fn another_process_connects_and_handles_travel() {
    if role().is_some() {
        let (mut connection, peer) = Client::new(address()).key(key()).connect().unwrap();
        assert_eq!(peer.pid, Some(std::os::unix::process::parent_id()));
        let file: Passed<std::fs::File> = connection.recv().unwrap();
        file.into_inner().write_all(b"written by the client").unwrap();
        let mut end: Connection = connection.recv().unwrap();
        end.send("through an end that was handed over".to_owned()).unwrap();
        return;
    }
    guarded(|| {
        let place = Place::new("handles");
        let path = place.socket().display().to_string();
        let mut listener = Listener::bind(path.as_str(), key()).unwrap();
        let test = "another_process_connects_and_handles_travel";
        let mut client = Role::start(at(test, "client", &path, ""));
        let (mut connection, peer) = listener.accept().unwrap();
        assert_eq!(peer.pid, Some(client.pid()));
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        let (mut reader, writer) = io::pipe().unwrap();
        connection.send(Passed(std::fs::File::from(std::os::fd::OwnedFd::from(writer)))).unwrap();
        let (mut kept, sent) = mp_pipe::pipe().unwrap();
        connection.send(sent).unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "written by the client");
        assert_eq!(kept.recv::<String>().unwrap(), "through an end that was handed over");
        assert!(kept.recv::<String>().unwrap_err().is_disconnected());
        assert!(client.wait().success());
    });
}

#[test]
fn what_a_client_sent_before_it_left_is_received() {
    guarded(|| {
        let address = Address::unique().unwrap();
        let mut listener = Listener::bind(&address, None).unwrap();
        let (ours, _) = meet(&mut listener, || {
            let mut connection = connect(&address, None)?;
            connection.send(1).unwrap();
            connection.send(2).unwrap();
            Err(ConnectError::Gone)
        });
        let mut ours = ours.unwrap();
        assert_eq!((ours.recv::<i32>().unwrap(), ours.recv::<i32>().unwrap()), (1, 2));
        assert!(ours.recv::<i32>().unwrap_err().is_disconnected());
    });
}

#[test]
fn keys_that_do_not_fit_are_refused_on_both_sides() {
    use AuthenticationError::{KeyNeeded, NoKeyThere, WrongKey};
    guarded(|| {
        let cases = [
            (Some(key()), Some(Key::new("another")), WrongKey),
            (Some(key()), Some(Key::new("")), WrongKey),
            (Some(key()), None, KeyNeeded),
            (None, Some(key()), NoKeyThere),
        ];
        for (here, there, why) in cases {
            let address = Address::unique().unwrap();
            let mut listener = Listener::bind(&address, here.clone()).unwrap();
            let (ours, theirs) = meet(&mut listener, || connect(&address, there));
            let ours = ours.unwrap_err();
            assert!(ours.is_of_client(), "{ours}");
            assert!(matches!(ours, AcceptError::Authentication(_, error) if error == why), "{ours}");
            let theirs = theirs.unwrap_err();
            assert!(matches!(theirs, ConnectError::Authentication(error) if error == why), "{theirs}");
            // The listener goes on.
            let (ours, theirs) = meet(&mut listener, || connect(&address, here));
            assert!(ours.is_ok() && theirs.is_ok());
        }
    });
}

#[test]
fn an_impostor_who_does_not_know_the_key_is_found_out() {
    guarded(|| {
        let place = Place::new("impostor");
        let socket = UnixListener::bind(place.socket()).unwrap();
        // One lets everybody in at once, one after asking for a proof, whatever it is.
        for asks in [false, true] {
            thread::scope(|scope| {
                let client = scope.spawn(|| connect(place.socket().as_path(), key()));
                let (mut stream, _) = socket.accept().unwrap();
                let mut hello = [0; 40];
                stream.read_exact(&mut hello).unwrap();
                if asks {
                    hello[4] = 1; // "prove it"
                    stream.write_all(&hello).unwrap();
                    let mut proof = [0; 32];
                    stream.read_exact(&mut proof).unwrap();
                    // Sent back, it is still the client's proof, not a listener's.
                    hello[8..].copy_from_slice(&proof);
                }
                hello[4] = 0; // "welcome"
                stream.write_all(&hello).unwrap();
                let found_out = client.join().unwrap().unwrap_err();
                let impostor = ConnectError::Authentication(AuthenticationError::Impostor);
                assert_eq!(found_out.to_string(), impostor.to_string());
            });
        }
    });
}

#[test]
fn a_silent_client_is_in_nobodys_way() {
    guarded(|| {
        let place = Place::new("silent");
        let mut listener = Listener::bind(place.socket().as_path(), key()).unwrap();
        let _silent: Vec<UnixStream> =
            (0..20).map(|_| UnixStream::connect(place.socket()).unwrap()).collect();
        let mut halfway = UnixStream::connect(place.socket()).unwrap();
        halfway.write_all(b"MPL1\x01").unwrap();
        for _ in 0..3 {
            let (ours, theirs) = meet(&mut listener, || connect(place.socket().as_path(), key()));
            let (mut ours, mut theirs) = (ours.unwrap(), theirs.unwrap());
            ours.send(1).unwrap();
            assert_eq!(theirs.recv::<i32>().unwrap(), 1);
        }
        assert!(listener.accept_timeout(Duration::ZERO).unwrap().is_none());
    });
}

#[test]
fn more_silent_clients_than_there_is_patience_for_do_no_harm() {
    guarded(|| {
        let place = Place::new("crowd");
        let mut listener = Listener::bind(place.socket().as_path(), None).unwrap();
        let crowd: Vec<UnixStream> = (0..300).map(|_| UnixStream::connect(place.socket()).unwrap()).collect();
        let (ours, theirs) = meet(&mut listener, || connect(place.socket().as_path(), None));
        assert!(ours.is_ok() && theirs.is_ok());
        drop(crowd);
    });
}

#[test]
fn a_client_that_stays_silent_is_sent_away_with_a_typed_error() {
    guarded(|| {
        let place = Place::new("patience");
        let mut listener = Listener::bind(place.socket().as_path(), None).unwrap();
        let silent = UnixStream::connect(place.socket()).unwrap();
        let start = Instant::now();
        let error = listener.accept().unwrap_err();
        assert!(
            matches!(error, AcceptError::Silent(peer) if peer.pid == Some(std::process::id())),
            "{error}"
        );
        assert!(start.elapsed() >= Duration::from_secs(10));
        drop(silent);
    });
}

#[test]
fn strangers_and_garbage_are_typed_errors() {
    guarded(|| {
        let place = Place::new("garbage");
        let mut listener = Listener::bind(place.socket().as_path(), key()).unwrap();
        let mut stranger = UnixStream::connect(place.socket()).unwrap();
        stranger.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n").unwrap();
        assert!(matches!(listener.accept().unwrap_err(), AcceptError::Malformed(_)));
        // Who only looks whether somebody listens is no error.
        drop(UnixStream::connect(place.socket()).unwrap());
        assert!(listener.accept_timeout(Duration::from_millis(1)).unwrap().is_none());
        // Who leaves in the middle is one.
        UnixStream::connect(place.socket()).unwrap().write_all(b"MPL").unwrap();
        assert!(matches!(listener.accept().unwrap_err(), AcceptError::Gone(_)));
        // And the other way round.
        let other = place.0.join("other");
        let socket = UnixListener::bind(&other).unwrap();
        thread::scope(|scope| {
            let client = scope.spawn(|| connect(other.as_path(), None));
            let (mut stream, _) = socket.accept().unwrap();
            stream.write_all(&[b'x'; 40]).unwrap();
            assert!(matches!(client.join().unwrap().unwrap_err(), ConnectError::Malformed));
            let client = scope.spawn(|| connect(other.as_path(), None));
            drop(socket.accept().unwrap());
            assert!(matches!(client.join().unwrap().unwrap_err(), ConnectError::Gone));
        });
    });
}

#[test]
fn time_outs_are_kept() {
    guarded(|| {
        let address = Address::unique().unwrap();
        let mut listener = Listener::bind(&address, None).unwrap();
        let short = Duration::from_millis(30);
        let start = Instant::now();
        assert!(listener.accept_timeout(short).unwrap().is_none());
        assert!(start.elapsed() >= short);
        assert!(listener.accept_deadline(start).unwrap().is_none());
        // Nobody accepts: the client waits for its time-out, and the listener finds somebody who left.
        let start = Instant::now();
        let error = Client::new(&address).timeout(short).connect().unwrap_err();
        assert!(matches!(error, ConnectError::TimedOut), "{error}");
        assert!(start.elapsed() >= short);
        assert!(matches!(listener.accept().unwrap_err(), AcceptError::Gone(_)));
    });
}

#[test]
fn a_full_queue_of_waiting_clients_keeps_the_time_out() {
    guarded(|| {
        let place = Place::new("queue");
        let socket =
            rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None)
                .unwrap();
        let address = rustix::net::SocketAddrUnix::new(place.socket()).unwrap();
        rustix::net::bind(&socket, &address).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        let _first = UnixStream::connect(place.socket()).unwrap();
        let short = Duration::from_millis(30);
        let start = Instant::now();
        let error = Client::new(place.socket()).timeout(short).connect().unwrap_err();
        assert!(matches!(error, ConnectError::TimedOut), "{error}");
        assert!(start.elapsed() >= short);
    });
}

#[test]
fn an_address_belongs_to_the_living() {
    guarded(|| {
        let place = Place::new("living");
        for address in [Address::path(place.socket()), Address::unique().unwrap()] {
            let mut listener = Listener::bind(&address, None).unwrap();
            for _ in 0..3 {
                let error = Listener::bind(&address, None).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
            }
            // Looking whether it lives did not disturb it.
            let (ours, theirs) = meet(&mut listener, || connect(&address, None));
            assert!(ours.is_ok() && theirs.is_ok());
        }
    });
}

#[test]
fn nobody_there_is_a_typed_error() {
    guarded(|| {
        let place = Place::new("nobody");
        let address = Address::path(place.socket());
        let error = connect(&address, None).unwrap_err();
        assert!(matches!(&error, ConnectError::NoListener(at) if *at == address), "{error}");
        drop(UnixListener::bind(place.socket()).unwrap());
        assert!(matches!(connect(&address, None), Err(ConnectError::NoListener(_))));
        assert!(matches!(connect(Address::unique().unwrap(), None), Err(ConnectError::NoListener(_))));
    });
}

#[test]
fn other_files_are_never_removed() {
    guarded(|| {
        let place = Place::new("files");
        std::fs::write(place.socket(), "precious").unwrap();
        let error = Listener::bind(place.socket(), None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(std::fs::read_to_string(place.socket()).unwrap(), "precious");
        // A file that took the place of ours is not ours.
        let path = place.0.join("replaced");
        let listener = Listener::bind(path.as_path(), None).unwrap();
        assert!(std::fs::symlink_metadata(&path).unwrap().file_type().is_socket());
        std::fs::rename(&path, place.0.join("moved")).unwrap();
        std::fs::write(&path, "another").unwrap();
        drop(listener);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "another");
    });
}

#[test]
fn without_a_key_the_socket_is_its_users_alone() {
    guarded(|| {
        use std::os::unix::fs::PermissionsExt;
        let place = Place::new("private");
        let _listener = Listener::bind(place.socket(), None).unwrap();
        let mode = std::fs::metadata(place.socket()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    });
}

#[test]
fn a_killed_listeners_file_is_cleared() {
    if role().is_some() {
        let _listener = Listener::bind(address(), None).unwrap();
        say("listening");
        let _ = hear();
        return;
    }
    guarded(|| {
        let place = Place::new("stale");
        let path = place.socket().display().to_string();
        let mut other = Role::start(at("a_killed_listeners_file_is_cleared", "listener", &path, ""));
        other.expect("listening");
        assert_eq!(Listener::bind(path.as_str(), None).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        other.kill();
        assert!(is_there(&place.socket()));
        let mut listener = Listener::bind(path.as_str(), None).unwrap();
        let (ours, theirs) = meet(&mut listener, || connect(path.as_str(), None));
        assert!(ours.is_ok() && theirs.is_ok());
    });
}

#[test]
fn many_who_find_a_stale_file_at_once_leave_one_listener() {
    guarded(|| {
        let place = Place::new("race");
        for _ in 0..200 {
            drop(UnixListener::bind(place.socket()).unwrap());
            let start = std::sync::Barrier::new(6);
            let listeners: Vec<_> = thread::scope(|scope| {
                let bind = || {
                    start.wait();
                    Listener::bind(place.socket(), None)
                };
                let threads: Vec<_> = (0..6).map(|_| scope.spawn(bind)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let mut living: Vec<Listener> = listeners.into_iter().filter_map(Result::ok).collect();
            assert_eq!(living.len(), 1);
            let (ours, theirs) = meet(&mut living[0], || connect(place.socket(), None));
            assert!(ours.is_ok() && theirs.is_ok());
            drop(living);
            assert!(!is_there(&place.socket()));
        }
    });
}

/// Only the descriptor says when to call: a client in the middle of its handshake shows as well as one at the door.
#[test]
fn a_polled_listener_misses_no_step_of_a_handshake() {
    guarded(|| {
        let address = Address::unique().unwrap();
        let mut listener = Listener::bind(&address, key()).unwrap();
        for round in 0..20 {
            thread::scope(|scope| {
                let client = scope.spawn(|| connect(&address, key()));
                let (mut ours, _) = loop {
                    let mut polled = [rustix::event::PollFd::new(&listener, rustix::event::PollFlags::IN)];
                    while !matches!(rustix::event::poll(&mut polled, None), Ok(1)) {}
                    if let Some(accepted) = listener.accept_timeout(Duration::ZERO).unwrap() {
                        break accepted;
                    }
                };
                ours.send(round).unwrap();
                assert_eq!(client.join().unwrap().unwrap().recv::<i32>().unwrap(), round);
            });
        }
        assert_eq!(mp_pipe::wait(&[&listener], Some(Duration::ZERO)).unwrap(), []);
    });
}
