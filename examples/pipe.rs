//! The seed's program `pipe`; its body is `src/pipe.rs`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    multiprocess::init();
    examples::pipe::run().map(drop)
}
