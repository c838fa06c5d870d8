//! Run a Rust function in another process and get its result back.
