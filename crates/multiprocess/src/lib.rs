//! Processes, queues, pipes, shared memory, locks and pools: Python's multiprocessing, for Rust, without its deadlocks.
