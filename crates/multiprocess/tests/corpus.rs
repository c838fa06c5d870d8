//! Inputs that a fuzzer found worth keeping, and those that once made something fail: each ends with a value or an error.

#![allow(clippy::unwrap_used, reason = "a helper of tests")]

#[path = "../../../fuzz/src/lib.rs"]
#[allow(
    unreachable_pub,
    clippy::should_implement_trait,
    clippy::manual_is_multiple_of,
    reason = "a crate of its own elsewhere, where other lints hold"
)]
mod targets;

use std::panic::catch_unwind;
use std::path::Path;

/// Gives `target` what is kept for it.
fn replay(name: &str, target: fn(&[u8])) {
    mp_test::guarded(|| {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
        let mut inputs = 0;
        for kept in ["corpus", "regressions"] {
            let Ok(files) = std::fs::read_dir(fuzz.join(kept).join(name)) else { continue };
            for file in files {
                let path = file.unwrap().path();
                let bytes = std::fs::read(&path).unwrap();
                let ended = catch_unwind(|| target(&bytes));
                assert!(ended.is_ok(), "{} makes it panic", path.display());
                inputs += 1;
            }
        }
        assert!(inputs > 0, "nothing is kept for {name}");
    });
}

#[test]
fn ring() {
    replay("ring", targets::ring::run);
}

#[test]
fn pipe() {
    replay("pipe", targets::pipe::run);
}

#[test]
fn queue() {
    replay("queue", targets::queue::run);
}

#[test]
fn joinable() {
    replay("joinable", targets::joinable::run);
}

#[test]
fn decode() {
    replay("decode", targets::decode::run);
}

#[test]
fn segments() {
    replay("segments", targets::segments::run);
}

#[test]
fn named() {
    replay("named", targets::named::run);
}

#[test]
fn frame() {
    replay("frame", targets::frame::run);
}

#[test]
fn handshake() {
    replay("handshake", targets::handshake::run);
}
