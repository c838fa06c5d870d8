//! The seed's program `race`; its body is `src/race.rs`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    multiprocess::init();
    examples::race::run().map(drop)
}
