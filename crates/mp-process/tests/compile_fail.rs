//! What must not compile does not, and the compiler's message says what to write instead.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Builds a package of its own with `body` in `main`; the compiler's messages, or nothing when it compiles.
///
/// Builds, not checks: a capture is found when the function's code is made.
fn errors_of(name: &str, body: &str) -> Option<String> {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("compile_fail");
    let package = dir.join(name);
    fs::create_dir_all(package.join("src")).unwrap();
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\nmp-process = {{ path = {:?} \
         }}\n\n[workspace]\n",
        env!("CARGO_MANIFEST_DIR")
    );
    fs::write(package.join("Cargo.toml"), manifest).unwrap();
    // The versions that the workspace has: nothing is looked up.
    let lock = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock");
    let _ = fs::copy(lock, package.join("Cargo.lock"));
    let program = format!(
        "use mp_process::Process;\n\nfn show(text: String) {{\n    println!(\"{{text}}\");\n}}\n\nfn main() {{\n    \
         mp_process::init();\n    let text = \"x\".to_owned();\n    {body}\n}}\n"
    );
    fs::write(package.join("src/main.rs"), program).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["build", "--offline", "--quiet", "--color=never"])
        .current_dir(&package)
        .env("CARGO_TARGET_DIR", dir.join("target"))
        .output()
        .unwrap();
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Fails unless `body` is refused with a message that contains all of `cures`.
fn assert_refused(name: &str, body: &str, cures: &[&str]) {
    let errors = errors_of(name, body).unwrap_or_else(|| panic!("{body} compiles"));
    // The compiler breaks and indents lines as it likes.
    let flat = errors.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    for cure in cures {
        assert!(flat.contains(cure), "{body}: the message does not say {cure:?}:\n{errors}");
    }
}

#[test]
fn smoke() {
    let errors = errors_of("right", "let _ = Process::spawn(show, (text,));");
    assert_eq!(errors, None);
}

#[test]
fn a_capture_is_refused_and_the_message_says_to_pass_it_as_an_argument() {
    let cures = ["must not capture anything", "pass what it needs as arguments"];
    // A number, so that the closure is `Copy`: only its size gives it away.
    assert_refused("copied", "let n = text.len(); let _ = Process::spawn(move || n + 1, ());", &cures);
    assert_refused(
        "captured",
        "let _ = Process::spawn(move || text.len(), ());",
        &["a closure must not capture"],
    );
}

#[test]
fn a_call_in_place_of_the_function_is_refused_and_the_message_says_so() {
    assert_refused("called", "let _ = Process::spawn(show(text), ());", &["pass the function itself"]);
}

#[test]
fn a_bare_value_in_place_of_a_tuple_is_refused_and_the_message_says_so() {
    // The compiler knows which tuple is meant, and its own words are the cure.
    let cures = ["expected `(String,)`, found `String`", "use a trailing comma", "(text,)"];
    assert_refused("bare", "let _ = Process::spawn(show, text);", &cures);
}
