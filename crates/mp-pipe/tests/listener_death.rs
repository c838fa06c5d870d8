//! Clients and listeners are killed at each step of the handshake.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod meeting;

use meeting::{Place, address, at, key, meet};
use mp_pipe::{AcceptError, ConnectError, Listener, connect};
use mp_test::{Role, guarded, role, say, steps_or_say, until};
use std::time::Duration;

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
