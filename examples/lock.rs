//! The seed's program `lock`; its body is `src/lock.rs`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    multiprocess::init();
    examples::lock::run().map(drop)
}
