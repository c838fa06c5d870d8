//! Two programs that share nothing but a name and a key meet, and talk through shared memory.

use multiprocess::pipe::{Key, Listener, connect};
use multiprocess::{Process, RemoteError};
use std::error::Error;

const KEY: &[u8] = b"known to both";

/// The client: any program would do; here it is a child that knows the name alone.
fn client(name: String) -> Result<String, RemoteError> {
    let mut connection = connect(multiprocess::pipe::Address::name(name), Key::new(KEY))?;
    connection.send("a question".to_owned())?;
    Ok(connection.recv()?)
}

fn stranger(name: String) -> String {
    match connect(multiprocess::pipe::Address::name(name), Key::new("a guess")) {
        Ok(_) => "was let in".into(),
        Err(error) => error.to_string(),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    multiprocess::init();
    let name = format!("multiprocess-example-{}", std::process::id());
    let mut listener = Listener::bind(multiprocess::pipe::Address::name(name.clone()), Key::new(KEY))?;

    let guess = Process::spawn(stranger, (name.clone(),))?;
    match listener.accept() {
        Ok(_) => return Err("a stranger was let in".into()),
        Err(error) => println!("refused: {error}"),
    }
    println!("the stranger was told: {}", guess.join()?);

    let process = Process::spawn(client, (name,))?;
    let (mut connection, peer) = listener.accept()?;
    let question: String = connection.recv()?;
    println!("from {peer:?}: {question}");
    connection.send("an answer".to_owned())?;
    println!("the client received: {}", process.join()??);
    Ok(())
}
