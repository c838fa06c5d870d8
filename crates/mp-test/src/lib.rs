//! Test support for the mp crates: children, watchdogs, leak checks.
