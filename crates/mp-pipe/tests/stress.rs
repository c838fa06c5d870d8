//! Kills at random instructions instead of numbered ones.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_pipe::{Connection, RecvError, SendError, give, pipe, take};
use mp_test::{Role, command, guarded, role};
use std::time::{Duration, Instant};

/// How long a stress test runs.
fn span() -> Duration {
    let seconds = std::env::var("MP_STRESS_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}

/// How many kills it goes on to, whatever time that takes.
fn wanted_kills() -> usize {
    std::env::var("MP_STRESS_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// A cheap generator: the same numbers each time.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// A message that tells when it is torn, of all sizes, now and then with a handle.
type Message = (u64, Vec<u64>, Option<mp_pipe::Passed<std::fs::File>>);

fn message(n: u64) -> Message {
    let length = [0, 1, 10, 100, 1000, 3000, 20_000][usize::try_from(n % 7).unwrap()];
    let file = (n % 11 == 3).then(|| mp_pipe::Passed(std::fs::File::open("/dev/null").unwrap()));
    (n, vec![n; length], file)
}

fn check(n: u64, found: &Message) {
    let expected = message(n);
    assert_eq!(found.0, n);
    assert!(found.1 == expected.1, "message {n} is torn");
    assert_eq!(found.2.is_some(), expected.2.is_some());
}

/// It hunts a death anywhere between two instructions of a send, a receive, a change of regions, a sleep or a bell, in either
/// direction, while the other side is in any of these: what arrives is whole and in order, then comes the news.
#[test]
#[ignore = "stress"]
fn a_peer_killed_at_random_tears_nothing() {
    let test = "a_peer_killed_at_random_tears_nothing";
    if role().is_some() {
        let mut connection: Connection = take("end").unwrap();
        for n in 0.. {
            connection.send(message(n)).unwrap();
            if n % 3 == 0 {
                check(n, &connection.recv().unwrap());
            }
        }
    }
    guarded(|| {
        let (end, mut state, mut kills) = (Instant::now() + span(), 99, 0);
        while Instant::now() < end || kills < wanted_kills() {
            let (mut kept, sent) = pipe().unwrap();
            let mut child = command(test, "doomed");
            give(&mut child, "end", &sent).unwrap();
            let mut child = Role::start(child);
            let doom = random(&mut state) % 400;
            let spin = random(&mut state) % 100_000;
            for n in 0.. {
                if n == doom {
                    (0..spin).for_each(|_| std::hint::spin_loop());
                    child.kill();
                    kills += 1;
                }
                match kept.recv::<Message>() {
                    Ok(found) => check(n, &found),
                    Err(error) => {
                        assert!(matches!(error, RecvError::Disconnected), "{error}");
                        assert!(n >= doom);
                        break;
                    }
                }
                if n % 3 == 0
                    && let Err(error) = kept.send(message(n))
                {
                    assert!(matches!(error, SendError::Disconnected(_)), "{error}");
                }
            }
            child.wait();
        }
        println!("{kills} kills");
    });
}

/// One message of 1 GiB goes to another process and back, and its memory is given back after it.
#[test]
#[ignore = "stress"]
fn a_message_of_one_gibibyte_goes_there_and_back() {
    const ME: &str = "a_message_of_one_gibibyte_goes_there_and_back";
    const SIZE: usize = 1 << 30;
    if mp_test::role().is_some() {
        let mut connection: mp_pipe::Connection = mp_pipe::take("connection").unwrap();
        let bytes = connection.recv_bytes().unwrap();
        return connection.send_bytes(&bytes).unwrap();
    }
    mp_test::guarded(|| {
        let (mut ours, theirs) = mp_pipe::pipe().unwrap();
        let mut command = mp_test::command(ME, "echo");
        mp_pipe::give(&mut command, "connection", &theirs).unwrap();
        let mut child = mp_test::Role::start(command);
        let mut bytes = (0..=250_u8).collect::<Vec<_>>().repeat(SIZE / 251 + 1);
        bytes.truncate(SIZE);
        ours.send_bytes(&bytes).unwrap();
        let back = ours.recv_bytes().unwrap();
        assert!(back == bytes);
        assert!(ours.recv_bytes().unwrap_err().is_disconnected());
        assert!(child.wait().success());
    });
}
