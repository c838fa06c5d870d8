//! Whole programs, with a `main` of their own: what happens before `init()`, under `panic = "abort"`, and mistakes that
//! need types of their own. Their sources are in `tests/programs/`.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mp_test::guarded;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs");

/// A workspace of its own beside the tests' other files, with this crate as its one dependency.
fn workspace() -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
    let manifest = format!(
        "[package]\nname = \"programs\"\nversion = \"0.0.0\"\nedition = \"2024\"\nautobins = true\n\
         [dependencies]\nmp-process = {{ path = {:?} }}\n\
         [profile.dev]\npanic = \"abort\"\ndebug = false\n[workspace]\n",
        env!("CARGO_MANIFEST_DIR")
    );
    put(&root.join("Cargo.toml"), manifest.as_bytes());
    // The versions that are there, so that nothing is looked up.
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock");
    if !root.join("Cargo.lock").exists() {
        put(&root.join("Cargo.lock"), &fs::read(lock).unwrap());
    }
    for source in fs::read_dir(SOURCES).unwrap().map(|entry| entry.unwrap().path()) {
        let name = source.file_name().unwrap();
        put(&root.join("src/bin").join(name), &fs::read(&source).unwrap());
    }
    root
}

/// Written in one step, so that tests in other processes never see half of it; untouched when it is there already.
fn put(path: &Path, bytes: &[u8]) {
    if fs::read(path).is_ok_and(|found| found == bytes) {
        return;
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let draft = path.with_extension(format!("{}.draft", std::process::id()));
    fs::write(&draft, bytes).unwrap();
    fs::rename(draft, path).unwrap();
}

fn build(name: &str) -> (PathBuf, Output) {
    let root = workspace();
    let target = root.join("target");
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--offline", "--bin", name])
        .current_dir(&root)
        .env("CARGO_TARGET_DIR", &target)
        .output()
        .unwrap();
    (target.join("debug").join(name), output)
}

fn run(name: &str, argument: &str) {
    let (program, built) = build(name);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    guarded(|| {
        let output = Command::new(&program).arg(argument).output().unwrap();
        assert!(
            output.status.success(),
            "{name} {argument}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    });
}

#[test]
fn a_child_that_exits_before_init_is_an_error() {
    run("early", "exit");
}

#[test]
fn a_child_that_crashes_before_init_is_an_error() {
    run("early", "crash");
}

#[test]
fn a_child_that_stops_before_init_is_an_error() {
    run("early", "stop");
}

#[test]
fn a_child_that_never_calls_init_starts_no_chain_of_processes() {
    run("early", "never");
}

#[test]
fn a_child_that_closes_its_input_before_init_is_an_error() {
    run("early", "close");
}

#[test]
fn a_program_started_before_init_is_not_taken_for_the_child() {
    run("early", "program");
}

#[test]
fn threads_before_init_do_no_harm() {
    run("early", "threads");
}

#[test]
fn a_panic_that_aborts_is_told_from_any_thread() {
    run("aborts", "");
}

#[test]
fn a_thread_that_keeps_standard_output_locked_delays_neither_start_nor_end() {
    run("locked", "");
}

#[test]
fn a_join_reads_the_pipes_that_nobody_took() {
    run("unread", "");
}

/// What the compiler says to a mistake.
fn complaint(name: &str) -> String {
    let (_, built) = build(name);
    assert!(!built.status.success(), "{name} compiles");
    String::from_utf8_lossy(&built.stderr).into_owned()
}

#[test]
fn a_function_pointer_says_the_cure() {
    let text = complaint("mistake_pointer");
    let flat = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("must be named itself, not by a `fn` pointer"), "{text}");
}

#[test]
fn a_value_that_serde_does_not_carry_is_named() {
    let text = complaint("mistake_serde");
    assert!(text.contains("Plain") && text.contains("Serialize"), "{text}");
}
