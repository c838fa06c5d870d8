//! The seed's program `array`; its body is `src/array.rs`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    multiprocess::init();
    examples::array::run().map(drop)
}
