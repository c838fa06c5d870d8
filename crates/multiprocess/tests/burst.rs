//! A child that was joined is sent nothing more, in the middle of a burst too.

use multiprocess::pipe::{Connection, pipe};
use multiprocess::{Process, RemoteError};

multiprocess::enable_test_support!();

fn peer(mut end: Connection) -> Result<(), RemoteError> {
    end.send(1_u64)?;
    // Nothing of a burst is taken: the sender is never rung for, nor told otherwise.
    loop {
        std::thread::park();
    }
}

#[test]
fn a_send_after_a_join_is_refused_at_once() {
    mp_test::guarded(|| {
        for _ in 0..20 {
            let (mut here, there) = pipe().unwrap();
            let child = Process::spawn(peer, (there,)).unwrap();
            here.recv::<u64>().unwrap();
            for n in 0..200_u64 {
                here.send(n).unwrap();
            }
            child.kill().unwrap();
            assert!(child.join().is_err());
            assert!(here.send(200_u64).unwrap_err().is_disconnected(), "a burst went on");
        }
    });
}
