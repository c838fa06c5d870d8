//! The bodies of the example programs that `tour` runs as well, each in a module of its own.
//!
//! A program of the seed is `examples/NAME.rs`: `init()`, then the body here. The body returns what it has seen, so that `tour` can compare
//! it with what was promised.

pub mod array;
pub mod lock;
pub mod pipe;
pub mod pool;
pub mod process;
pub mod queue;
pub mod race;
pub mod value;

/// What a body returns: the lines that tell what happened, or why it did not.
pub type Told = Result<Vec<String>, Box<dyn std::error::Error>>;
