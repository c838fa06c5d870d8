//! Memory under a name: another program opens it, Python's `multiprocessing.shared_memory` for one.

use multiprocess::shm::SharedMemory;
use multiprocess::{Process, RemoteError};
use std::error::Error;
use std::process::Command;

fn child(name: String) -> Result<(), RemoteError> {
    let memory = SharedMemory::open(&name)?;
    memory.copy_in(0, b"from a child");
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    multiprocess::init();
    let name = format!("mp-example-{}", std::process::id());
    let memory = SharedMemory::create(&name, 4096)?;
    Process::spawn(child, (name.clone(),))?.join()??;
    let mut bytes = [0; 12];
    memory.copy_out(0, &mut bytes);
    println!("{}", String::from_utf8_lossy(&bytes));

    let script = format!(
        "from multiprocessing import shared_memory, resource_tracker\n\
         m = shared_memory.SharedMemory('{name}')\n\
         resource_tracker.unregister(m._name, 'shared_memory')\n\
         print('python reads:', bytes(m.buf[:12]).decode())\n\
         m.buf[:11] = b'from Python'\n\
         m.close()\n"
    );
    match Command::new("python3").args(["-c", &script]).status() {
        Ok(status) if status.success() => {
            let mut bytes = [0; 11];
            memory.copy_out(0, &mut bytes);
            println!("{}", String::from_utf8_lossy(&bytes));
        }
        Ok(status) => return Err(format!("python3 ended with {status}").into()),
        Err(_) => println!("python3 is not installed: its half is left out"),
    }
    Ok(())
}
