//! A process is started, runs beside the parent, and is joined.

use crate::Told;
use multiprocess::{Process, Queue};

fn example_function(parameter: String, lines: Queue<String>) {
    for line in ["child process starts", &parameter, "child process ends"] {
        println!("{line}");
        // The parent checks the order by what it hears, since both print to one terminal.
        let _ = lines.put(line.to_owned());
    }
}

/// The five lines, in their order.
///
/// # Errors
///
/// When a process cannot be started.
pub fn run() -> Told {
    let lines = Queue::new()?;
    let tell = |line: &str| {
        println!("{line}");
        lines.put(line.to_owned())
    };
    tell("parent process starts")?;
    let process = Process::spawn(example_function, ("example_parameter".to_owned(), lines.clone()))?;
    process.join()?;
    tell("parent process ends")?;
    lines.close()?;
    Ok(lines.iter().collect::<Result<_, _>>()?)
}
