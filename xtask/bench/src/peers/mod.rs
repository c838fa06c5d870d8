//! The contestants that are not ours: other crates, the system's own means, threads, Python. One file each.

pub(crate) mod iceoryx2;
pub(crate) mod ipc_channel;
pub(crate) mod kernel;
pub(crate) mod many;
pub(crate) mod procspawn;
pub(crate) mod python;
pub(crate) mod raw_sync;
pub(crate) mod threads;
