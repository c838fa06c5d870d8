//! What the fuzz targets do with their bytes. `crates/multiprocess/tests/corpus.rs` does the same with those that are kept, on a
//! stable compiler.
//!
//! Each target plays a process that writes garbage: into the memory, the sockets or the messages that others read. What the others
//! do then may fail with an error; it may not panic, reach outside of memory, or go on for ever.

pub mod decode;
pub mod frame;
pub mod handshake;
pub mod input;
pub mod joinable;
pub mod memory;
pub mod named;
pub mod pipe;
pub mod queue;
pub mod ring;
pub mod segments;
