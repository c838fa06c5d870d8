//! Queues between many processes that no process's death can tear or block.
