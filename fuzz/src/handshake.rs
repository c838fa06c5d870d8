//! A listener whose clients, and clients whose listener, say anything.

use super::input::Input;
use mp_pipe::{Address, Client, Key, Listener};
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

fn name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("mp-fuzz-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed))
}

/// Words as they should be as far as the magic, or anything.
fn words(input: &mut Input<'_>) -> Vec<u8> {
    let kind = input.byte();
    let mut words = if kind % 2 == 0 { b"MPL1".to_vec() } else { Vec::new() };
    words.extend_from_slice(input.bytes(usize::from(kind / 2)));
    if kind % 8 == 0 {
        words.resize(40, 0);
    }
    words
}

fn clients(name: &str, key: Option<Key>, input: &mut Input<'_>) {
    let mut listener = Listener::bind(Address::name(name), key).expect("a free name");
    let address = SocketAddr::from_abstract_name(name).expect("a name");
    let mut others: Vec<UnixStream> = Vec::new();
    for _ in 0..24 {
        let Some(what) = input.next() else { return };
        match what % 6 {
            0 => others.extend(UnixStream::connect_addr(&address).ok()),
            1..=3 => {
                if let Some(mut other) = others.last() {
                    let _ = other.set_nonblocking(true);
                    let _ = other.write(&words(input));
                }
            }
            4 => drop(others.pop()),
            _ => drop(listener.accept_timeout(Duration::ZERO)),
        }
    }
    let _ = listener.accept_timeout(Duration::ZERO);
}

fn listener(name: &str, key: Option<Key>, input: &mut Input<'_>) {
    let address = SocketAddr::from_abstract_name(name).expect("a name");
    let listener = UnixListener::bind_addr(&address).expect("a free name");
    let says: Vec<Vec<u8>> = (0..1 + input.byte() % 3).map(|_| words(input)).collect();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let Ok((mut other, _)) = listener.accept() else { return };
            let _ = other.set_read_timeout(Some(Duration::from_millis(20)));
            let _ = other.read(&mut [0; 64]);
            says.iter().for_each(|words| drop(other.write(words)));
        });
        let mut client = Client::new(Address::name(name)).timeout(Duration::from_secs(5));
        if let Some(key) = key {
            client = client.key(key);
        }
        let _ = client.connect();
        // A scope ends before its threads are quite gone, and what they still hold then counts as lost.
        let _ = other.join();
    });
}

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (kind, name) = (input.byte(), name());
    let key = (kind % 2 == 0).then(|| Key::new(b"a key of sixteen"));
    if kind % 8 == 0 { listener(&name, key, &mut input) } else { clients(&name, key, &mut input) }
}
