//! The seed's program `process`; its body is `src/process.rs`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    multiprocess::init();
    examples::process::run().map(drop)
}
