//! The foundation of the mp crates: wire codec, OS handles as serde values, process identity, deadlines, waiting.
