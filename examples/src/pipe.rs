//! Two ends of a pipe; both go in and out, and a one-way pipe has a direction.

use crate::Told;
use multiprocess::pipe::{Connection, Sender, pipe_one_way};
use multiprocess::{Process, RemoteError, pipe};

fn task(mut connection: Connection) -> Result<String, RemoteError> {
    connection.send("obj".to_owned())?;
    // The other direction works as well.
    Ok(connection.recv()?)
}

fn count(mut sender: Sender<u32>) -> Result<(), RemoteError> {
    for n in 1..=3 {
        sender.send(n)?;
    }
    Ok(())
}

/// What the child sent, what it received, and what came through the one-way pipe.
///
/// # Errors
///
/// When a process cannot be started, or a pipe fails.
pub fn run() -> Told {
    let (mut parent, child) = pipe()?;
    let process = Process::spawn(task, (child,))?;
    let got: String = parent.recv()?;
    println!("{got}");
    parent.send("an answer".to_owned())?;
    let answered = process.join()??;
    println!("the child received {answered}");

    let (sender, receiver) = pipe_one_way()?;
    let process = Process::spawn(count, (sender,))?;
    let numbers = receiver.collect::<Result<Vec<u32>, _>>()?;
    println!("one way: {numbers:?}");
    process.join()??;
    Ok(vec![got, answered, format!("{numbers:?}")])
}
