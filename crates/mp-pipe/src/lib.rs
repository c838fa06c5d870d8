//! Connections between two processes at the speed of shared memory.
