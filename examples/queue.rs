//! The seed's program `queue`; its body is `src/queue.rs`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    multiprocess::init();
    examples::queue::run().map(drop)
}
