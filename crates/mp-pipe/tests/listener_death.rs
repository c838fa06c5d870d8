//! Clients and listeners are killed at each step of the handshake.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod meeting;

use meeting::{Place, address, at, key, meet};
use mp_pipe::{AcceptError, Client, ConnectError, Listener, connect};
use mp_test::{Role, guarded, role, say, steps_or_say, until};
use rustix::process::{Pid, Signal, kill_process};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_client_killed_at_any_step_is_an_error_and_the_listener_goes_on() {
    if role().is_some() {
        let mut connection = connect(address(), key()).unwrap();
        let _ = connection.recv::<u8>();
        return;
    }
    let test = "a_client_killed_at_any_step_is_an_error_and_the_listener_goes_on";
    if !steps_or_say(cfg!(mp_steps), test) {
        return;
    }
    guarded(|| {
        for (protocol, steps) in [("pipe.connect", 1..=6)] {
            for step in steps {
                let place = Place::new("client-death");
                let path = place.socket().display().to_string();
                let mut listener = Listener::bind(path.as_str(), key()).unwrap();
                let mut client = Role::start(at(test, "client", &path, &format!("{protocol}:{step}")));
                match step {
                    // It left without a word: nothing is said of it.
                    1 => {
                        client.wait();
                        assert!(listener.accept_timeout(Duration::from_millis(1)).unwrap().is_none());
                    }
                    // It had not proved anything.
                    2 | 3 => {
                        let error = listener.accept().unwrap_err();
                        assert!(matches!(error, AcceptError::Gone(_)), "step {step}: {error}");
                    }
                    // It is in, or died while it was let in; either way its death is known at once.
                    _ => match listener.accept() {
                        Ok((mut connection, _)) => {
                            assert!(connection.recv::<u8>().unwrap_err().is_disconnected());
                            until("sending fails", || connection.send(1).is_err());
                        }
                        Err(error) => assert!(matches!(error, AcceptError::Gone(_)), "step {step}: {error}"),
                    },
                }
                client.wait();
                let (ours, theirs) = meet(&mut listener, || connect(path.as_str(), key()));
                assert!(ours.is_ok() && theirs.is_ok(), "step {step}");
            }
        }
    });
}

#[test]
fn a_listener_killed_at_any_step_is_an_error_at_the_client() {
    if role().is_some() {
        let mut listener = Listener::bind(address(), key()).unwrap();
        say("listening");
        let (mut connection, _) = listener.accept().unwrap();
        let _ = connection.recv::<u8>();
        return;
    }
    let test = "a_listener_killed_at_any_step_is_an_error_at_the_client";
    if !steps_or_say(cfg!(mp_steps), test) {
        return;
    }
    guarded(|| {
        for (protocol, steps) in [("pipe.accept", 1..=6)] {
            for step in steps {
                let place = Place::new("listener-death");
                let path = place.socket().display().to_string();
                let mut other = Role::start(at(test, "listener", &path, &format!("{protocol}:{step}")));
                other.expect("listening");
                match connect(path.as_str(), key()) {
                    Err(error) => {
                        assert!(matches!(error, ConnectError::Gone), "step {step}: {error}");
                        assert!(step < 6, "step {step}: the connection had been handed over");
                    }
                    Ok(mut connection) => {
                        assert_eq!(step, 6);
                        assert!(connection.recv::<u8>().unwrap_err().is_disconnected());
                    }
                }
                other.wait();
                // Its file is cleared.
                drop(Listener::bind(path.as_str(), key()).unwrap());
            }
        }
    });
}

/// A client that is stopped in the middle is in nobody's way, and gets in when it goes on.
#[test]
fn a_client_stopped_at_any_step_delays_nobody_and_gets_in_later() {
    if role().is_some() {
        let mut connection = connect(address(), key()).unwrap();
        return assert_eq!(connection.recv::<u8>().unwrap(), 7);
    }
    let test = "a_client_stopped_at_any_step_delays_nobody_and_gets_in_later";
    if !steps_or_say(cfg!(mp_steps), test) {
        return;
    }
    guarded(|| {
        for step in 1..=6 {
            let place = Place::new("client-stop");
            let path = place.socket().display().to_string();
            let mut listener = Listener::bind(path.as_str(), key()).unwrap();
            let mut client = Role::start(at(test, "client", &path, &format!("pipe.connect:{step}:stop")));
            let pid = Pid::from_raw(i32::try_from(client.pid()).unwrap()).unwrap();
            // Steps 3 to 6 need an answer of the listener.
            let mut first = None;
            until("it is stopped", || {
                if let Some((connection, _)) = listener.accept_timeout(Duration::ZERO).unwrap() {
                    first = Some(connection);
                }
                is_stopped(client.pid())
            });
            let (ours, theirs) = meet(&mut listener, || connect(path.as_str(), key()));
            assert!(ours.is_ok() && theirs.is_ok(), "step {step}");
            kill_process(pid, Signal::CONT).unwrap();
            let mut first = first.unwrap_or_else(|| listener.accept().unwrap().0);
            first.send(7_u8).unwrap();
            assert!(client.wait().success(), "step {step}");
        }
    });
}

#[test]
fn a_stopped_listener_delays_clients_up_to_their_time_outs() {
    if role().is_some() {
        let mut listener = Listener::bind(address(), key()).unwrap();
        say("listening");
        loop {
            match listener.accept() {
                Ok((mut connection, _)) => return connection.send(7_u8).unwrap(),
                // Who had given up.
                Err(error) => assert!(error.is_of_client(), "{error}"),
            }
        }
    }
    let test = "a_stopped_listener_delays_clients_up_to_their_time_outs";
    guarded(|| {
        let place = Place::new("listener-stop");
        let path = place.socket().display().to_string();
        let mut listener = Role::start(at(test, "listener", &path, ""));
        listener.expect("listening");
        let pid = Pid::from_raw(i32::try_from(listener.pid()).unwrap()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        until("it is stopped", || is_stopped(listener.pid()));
        let short = Duration::from_millis(30);
        let client = Client::new(path.as_str()).key(key());
        for _ in 0..3 {
            let start = Instant::now();
            let error = client.clone().timeout(short).connect().unwrap_err();
            assert!(matches!(error, ConnectError::TimedOut), "{error}");
            assert!(start.elapsed() >= short);
        }
        thread::scope(|scope| {
            let patient = scope.spawn(|| client.connect().unwrap());
            kill_process(pid, Signal::CONT).unwrap();
            let (mut connection, _) = patient.join().unwrap();
            assert_eq!(connection.recv::<u8>().unwrap(), 7);
        });
        assert!(listener.wait().success());
    });
}

fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" T"))
}
