//! The seed's program `value`; its body is `src/value.rs`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    multiprocess::init();
    examples::value::run().map(drop)
}
