//! Many numbers in shared memory, of several types.

use crate::Told;
use multiprocess::{Array, Process};

fn task(squares: Array<i64>, letters: Array<char>) {
    for n in 0..squares.len() {
        squares.set(n, i64::try_from(n * n).expect("small"));
    }
    for (n, letter) in "héllo".chars().enumerate() {
        letters.set(n, letter);
    }
}

/// What the child wrote.
///
/// # Errors
///
/// When a process cannot be started.
pub fn run() -> Told {
    let (squares, letters) = (Array::new(6)?, Array::new(5)?);
    Process::spawn(task, (squares.clone(), letters.clone()))?.join()?;
    let (squares, letters) = (squares.to_vec(), letters.to_vec().into_iter().collect::<String>());
    println!("{squares:?} {letters}");
    Ok(vec![format!("{squares:?}"), letters])
}
