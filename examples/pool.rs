//! The seed's program `pool`; its body is `src/pool.rs`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    multiprocess::init();
    examples::pool::run().map(drop)
}
