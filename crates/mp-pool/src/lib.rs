//! A pool of worker processes that a crashing, hanging or leaking task cannot break.
