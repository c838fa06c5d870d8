//! What CPython's tests of `multiprocessing.connection` promise, one module per class.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_pipe::{
    Connection, Passed, Readable, Receiver, RecvError, Sender, Waitable, give, pipe, pipe_one_way, take, wait,
};
use mp_test::{Hail, Role, command, guarded, hear, role, say};
use serde::Serialize;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(30);

/// The second process of a test.
fn second<T: Serialize + 'static>(test: &str, value: &T) -> Role {
    let mut command = command(test, "second");
    give(&mut command, "value", value).unwrap();
    Role::start(command)
}

/// In the second process: sends everything back until an empty message comes.
fn echo() {
    let mut connection: Connection = take("value").unwrap();
    loop {
        let bytes = connection.recv_bytes().unwrap();
        if bytes.is_empty() {
            return;
        }
        connection.send_bytes(&bytes).unwrap();
    }
}

mod connection {
    use super::*;

    #[test]
    fn objects_bytes_and_16_mib_come_back_and_the_end_is_seen() {
        const ME: &str = "connection::objects_bytes_and_16_mib_come_back_and_the_end_is_seen";
        if role().is_some() {
            return echo();
        }
        guarded(|| {
            let (mut ours, theirs) = pipe().unwrap();
            let mut child = second(ME, &theirs);
            drop(theirs);
            let objects = postcard_bytes(&(1_u8, vec![2.25, 3.5], None::<u8>, "text"));
            let really_big: Vec<u8> = (0..=255).cycle().take(16 << 20).collect();
            for bytes in [b"hello world".to_vec(), objects, really_big] {
                assert!(!ours.poll(Duration::ZERO).unwrap());
                ours.send_bytes(&bytes).unwrap();
                assert_eq!(ours.recv_bytes().unwrap(), bytes);
            }
            let start = Instant::now();
            assert!(!ours.poll(SHORT).unwrap());
            assert!(start.elapsed() >= SHORT);
            ours.send_bytes(b"").unwrap();
            assert!(child.wait().success());
            assert!(ours.poll(Duration::MAX).unwrap(), "an end is something to receive");
            assert!(ours.recv_bytes().unwrap_err().is_disconnected());
        });
    }

    fn postcard_bytes<T: Serialize + 'static>(value: &T) -> Vec<u8> {
        let mut scratch = Vec::new();
        mp_core::encode(value, &mut scratch).unwrap().bytes.to_vec()
    }

    /// A slice says which bytes are meant: there is no offset or size that could be wrong.
    #[test]
    fn a_part_of_some_bytes_is_a_slice() {
        guarded(|| {
            let (mut left, mut right) = pipe().unwrap();
            let message = b"abcdefghijklmnopqrstuvwxyz";
            for part in [&message[..], &message[5..], &message[7..15], &message[26..], &message[26..26]] {
                left.send_bytes(part).unwrap();
                assert_eq!(right.recv_bytes().unwrap(), part);
            }
        });
    }

    /// The parent lets go of the child's end right after the start.
    #[test]
    fn the_parent_may_close_the_childs_end_at_once() {
        const ME: &str = "connection::the_parent_may_close_the_childs_end_at_once";
        if role().is_some() {
            return echo();
        }
        guarded(|| {
            let (mut ours, theirs) = pipe().unwrap();
            let mut child = second(ME, &theirs);
            drop(theirs);
            ours.send_bytes(b"hello").unwrap();
            assert_eq!(ours.recv_bytes().unwrap(), b"hello");
            ours.send_bytes(b"").unwrap();
            assert!(child.wait().success());
        });
    }

    /// A descriptor with a number above 256 travels as any other.
    #[test]
    fn a_large_descriptor_number_travels() {
        guarded(|| {
            let (mut left, mut right) = pipe().unwrap();
            let (reader, writer) = std::io::pipe().unwrap();
            let high = rustix::io::fcntl_dupfd_cloexec(&writer, 300).unwrap();
            drop(writer);
            left.send(mp_pipe::Passed(high)).unwrap();
            let passed: mp_pipe::Passed<std::fs::File> = right.recv().unwrap();
            std::io::Write::write_all(&mut &passed.0, b"foo").unwrap();
            drop(passed);
            assert_eq!(std::io::read_to_string(reader).unwrap(), "foo");
        });
    }

    /// A message that says it has a handle, without one.
    #[test]
    fn a_handle_that_did_not_travel_is_an_error() {
        guarded(|| {
            let (mut left, mut right) = pipe().unwrap();
            left.send(0_u32).unwrap(); // the number under which a first handle would have travelled
            let missing = right.recv::<mp_pipe::Passed<std::fs::File>>();
            assert!(matches!(missing, Err(RecvError::Decode(_))));
            left.send(1_u8).unwrap();
            assert_eq!(right.recv::<u8>().unwrap(), 1);
        });
    }
}

mod poll {
    use super::*;

    #[test]
    fn an_empty_message_keeps_poll_true_until_it_is_received() {
        guarded(|| {
            let (mut left, mut right) = pipe().unwrap();
            assert!(!left.poll(Duration::ZERO).unwrap());
            right.send_bytes(b"").unwrap();
            for _ in 0..3 {
                assert!(left.poll(Duration::MAX).unwrap());
            }
            assert_eq!(left.recv_bytes().unwrap(), b"");
            assert!(!left.poll(Duration::ZERO).unwrap());
        });
    }

    #[test]
    fn strings_keep_their_boundaries() {
        const ME: &str = "poll::strings_keep_their_boundaries";
        const STRINGS: [&str; 8] = ["hello", "", "a", "b", "", "bye", "", "lop"];
        if role().is_some() {
            let mut connection: Connection = take("value").unwrap();
            for text in STRINGS {
                connection.send_bytes(text.as_bytes()).unwrap();
            }
            return;
        }
        guarded(|| {
            let (mut ours, theirs) = pipe().unwrap();
            let mut child = second(ME, &theirs);
            for text in STRINGS {
                assert!(ours.poll(Duration::MAX).unwrap());
                assert_eq!(ours.recv_bytes().unwrap(), text.as_bytes());
            }
            assert!(child.wait().success());
        });
    }

    /// Looking takes nothing, in another process either: not a byte of a message is gone after many looks.
    #[test]
    fn poll_never_takes_a_part_of_a_message() {
        const ME: &str = "poll::poll_never_takes_a_part_of_a_message";
        if role().is_some() {
            let mut connection: Connection = take("value").unwrap();
            for round in 0..100_u8 {
                // Before it comes, while it comes, and when it is there.
                for part in [&[round; 1000][..], &[round; 70_000], &[round]] {
                    while !connection.poll(Duration::from_micros(10)).unwrap() {}
                    assert!((0..10).all(|_| connection.poll(Duration::ZERO).unwrap()));
                    assert_eq!(wait(&[&connection], None).unwrap(), [0]);
                    assert_eq!(connection.recv_bytes().unwrap(), part);
                    connection.send_bytes(b"next").unwrap();
                }
            }
            return;
        }
        guarded(|| {
            let (mut ours, theirs) = pipe().unwrap();
            let mut child = second(ME, &theirs);
            for round in 0..100_u8 {
                for part in [&[round; 1000][..], &[round; 70_000], &[round]] {
                    ours.send_bytes(part).unwrap();
                    assert_eq!(ours.recv_bytes().unwrap(), b"next");
                }
            }
            assert!(child.wait().success());
        });
    }

    #[test]
    fn three_sends_are_three_receives() {
        guarded(|| {
            let (mut left, mut right) = pipe().unwrap();
            for text in [b"a", b"b", b"c"] {
                left.send_bytes(text).unwrap();
            }
            for text in [b"a", b"b", b"c"] {
                assert!(right.poll(Duration::ZERO).unwrap());
                assert_eq!(right.recv_bytes().unwrap(), text);
            }
            assert!(!right.poll(Duration::ZERO).unwrap());
        });
    }
}

mod pickling {
    use super::*;

    #[test]
    fn one_way_ends_keep_their_direction_when_they_are_sent() {
        const ME: &str = "pickling::one_way_ends_keep_their_direction_when_they_are_sent";
        if role().is_some() {
            let mut connection: Connection = take("value").unwrap();
            let mut sender: Sender<String> = connection.recv().unwrap();
            sender.send("all is well".into()).unwrap();
            drop(sender);
            let mut receiver: Receiver<u8> = connection.recv().unwrap();
            assert_eq!(receiver.recv().unwrap(), 7);
            return say("received");
        }
        guarded(|| {
            let (mut ours, theirs) = pipe().unwrap();
            let mut child = second(ME, &theirs);
            let (sender, mut receiver) = pipe_one_way::<String>().unwrap();
            ours.send(sender).unwrap();
            assert_eq!(receiver.recv().unwrap(), "all is well");
            assert!(receiver.recv().unwrap_err().is_disconnected());
            let (mut sender, receiver) = pipe_one_way::<u8>().unwrap();
            ours.send(receiver).unwrap();
            sender.send(7).unwrap();
            child.expect("received");
            assert!(child.wait().success());
        });
    }

    /// A socket that this process has connected and another one goes on with.
    #[test]
    fn a_connected_socket_goes_on_in_another_process() {
        const ME: &str = "pickling::a_connected_socket_goes_on_in_another_process";
        if role().is_some() {
            let mut connection: Connection = take("value").unwrap();
            let socket: Passed<TcpStream> = connection.recv().unwrap();
            let mut socket = socket.into_inner();
            let mut bytes = [0; 5];
            socket.read_exact(&mut bytes).unwrap();
            return socket.write_all(&bytes.map(|byte| byte.to_ascii_uppercase())).unwrap();
        }
        guarded(|| {
            let (mut ours, theirs) = pipe().unwrap();
            let mut child = second(ME, &theirs);
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut here, _) = listener.accept().unwrap();
            ours.send(Passed(there)).unwrap();
            here.write_all(b"hello").unwrap();
            let mut text = String::new();
            here.read_to_string(&mut text).unwrap();
            assert_eq!(text, "HELLO");
            assert!(child.wait().success());
        });
    }
}

mod waiting {
    use super::*;

    /// Four that write to their ends in processes of their own, some of them slowly, until all have gone.
    #[test]
    fn four_pipes_of_other_processes_to_the_end() {
        const ME: &str = "waiting::four_pipes_of_other_processes_to_the_end";
        const COUNT: u32 = 10;
        if role().is_some() {
            let (mut sender, slow): (Sender<u32>, bool) = take("value").unwrap();
            for n in 0..COUNT {
                if slow {
                    std::thread::sleep(Duration::from_millis(3));
                }
                sender.send(n).unwrap();
            }
            return;
        }
        guarded(|| {
            let (mut readers, mut children): (Vec<Receiver<u32>>, Vec<Role>) = (0..4)
                .map(|n| {
                    let (sender, receiver) = pipe_one_way().unwrap();
                    (receiver, second(ME, &(sender, n % 2 == 0)))
                })
                .unzip();
            let mut seen = 0;
            while !readers.is_empty() {
                let items: Vec<&dyn Waitable> =
                    readers.iter().map(|reader| reader as &dyn Waitable).collect();
                for index in wait(&items, None).unwrap().into_iter().rev() {
                    match readers[index].try_recv() {
                        Ok(_) => seen += 1,
                        Err(error) => {
                            assert!(error.is_disconnected(), "{error}");
                            drop(readers.remove(index));
                        }
                    }
                }
            }
            assert_eq!(seen, 4 * COUNT);
            assert!(children.iter_mut().all(|child| child.wait().success()));
        });
    }

    /// The same over sockets, which the kernel calls readable also at their end.
    #[test]
    fn four_sockets_to_the_end() {
        const COUNT: usize = 10;
        guarded(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            thread::scope(|scope| {
                for n in 0..4_u8 {
                    scope.spawn(move || {
                        let mut socket = TcpStream::connect(address).unwrap();
                        for _ in 0..COUNT {
                            thread::sleep(Duration::from_millis(u64::from(n)));
                            socket.write_all(&[n; 50]).unwrap();
                        }
                    });
                }
                let mut sockets: Vec<Readable<TcpStream>> =
                    (0..4).map(|_| Readable(listener.accept().unwrap().0)).collect();
                let mut seen = [0; 4];
                while !sockets.is_empty() {
                    let items: Vec<&dyn Waitable> = sockets.iter().map(|one| one as &dyn Waitable).collect();
                    for index in wait(&items, None).unwrap().into_iter().rev() {
                        let mut bytes = [0; 32];
                        match sockets[index].0.read(&mut bytes).unwrap() {
                            0 => drop(sockets.remove(index)),
                            count => bytes[..count].iter().for_each(|n| seen[usize::from(*n)] += 1),
                        }
                    }
                }
                assert_eq!(seen, [COUNT * 50; 4]);
            });
        });
    }

    /// A time that is over before it begins looks once.
    #[test]
    fn a_time_out_of_nothing_looks_once() {
        guarded(|| {
            let (mut left, mut right) = pipe().unwrap();
            assert_eq!(wait(&[&right], Some(Duration::ZERO)).unwrap(), []);
            assert_eq!(wait(&[], Some(SHORT)).unwrap(), []);
            assert!(right.recv_deadline::<u8>(Instant::now()).unwrap_err().is_timeout());
            left.send(1_u8).unwrap();
            assert_eq!(wait(&[&right], Some(Duration::ZERO)).unwrap(), [0]);
            assert_eq!(right.recv_deadline::<u8>(Instant::now()).unwrap(), 1);
        });
    }
}

mod ignoring_signals {
    use super::*;
    use rustix::process::{Pid, Signal, kill_process};

    /// Signals that are handled, and come while a process waits to receive and to send, change nothing; far more goes than the pipe holds.
    #[test]
    fn a_signal_ends_no_send_and_no_receive() {
        const ME: &str = "ignoring_signals::a_signal_ends_no_send_and_no_receive";
        const MANY: usize = 4 << 20;
        if role().is_some() {
            let mut connection: Connection = take("value").unwrap();
            let hail = Hail::here();
            say("ready");
            assert_eq!(connection.recv::<u32>().unwrap(), 1234);
            connection.send(vec![b'x'; MANY]).unwrap();
            connection.send(vec![b'y'; MANY]).unwrap();
            return assert!(hail.hits() > 0);
        }
        guarded(|| {
            let (mut ours, theirs) = pipe().unwrap();
            let mut child = second(ME, &theirs);
            child.expect("ready");
            let pid = Pid::from_raw(i32::try_from(child.pid()).unwrap()).unwrap();
            let hail = || {
                for _ in 0..20 {
                    kill_process(pid, Signal::USR1).unwrap();
                    std::thread::sleep(Duration::from_millis(1));
                }
            };
            hail();
            ours.send(1234_u32).unwrap();
            hail();
            assert_eq!(ours.recv::<Vec<u8>>().unwrap(), vec![b'x'; MANY]);
            hail();
            assert_eq!(ours.recv::<Vec<u8>>().unwrap(), vec![b'y'; MANY]);
            assert!(child.wait().success());
        });
    }

    #[test]
    fn a_signal_ends_no_accept() {
        const ME: &str = "ignoring_signals::a_signal_ends_no_accept";
        if role().is_some() {
            let hail = Hail::here();
            let mut listener = mp_pipe::Listener::bind(&*hear().unwrap(), None).unwrap();
            say("listening");
            let (mut connection, _) = listener.accept().unwrap();
            connection.send("welcome".to_owned()).unwrap();
            return assert!(hail.hits() > 0);
        }
        guarded(|| {
            let name = format!("\0mp-test-signal-{}", std::process::id());
            let mut child = Role::start(command(ME, "listener"));
            child.tell(&name);
            child.expect("listening");
            let pid = Pid::from_raw(i32::try_from(child.pid()).unwrap()).unwrap();
            for _ in 0..20 {
                kill_process(pid, Signal::USR1).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
            let mut client = mp_pipe::connect(&*name, None).unwrap();
            assert_eq!(client.recv::<String>().unwrap(), "welcome");
            assert!(child.wait().success());
        });
    }
}
