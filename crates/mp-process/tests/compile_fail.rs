//! What must not compile does not, and the compiler's message says what to write instead. The mistakes are in `tests/mistakes/`.
//!
//! They are built, not checked: a capture is found when the function's code is made.

mod package;

use package::Package;

fn package() -> Package {
    Package::new("mistakes", "").with("mistakes", "src/bin")
}

/// Fails unless the program is refused with a message that contains all of `cures`.
fn assert_refused(name: &str, cures: &[&str]) {
    let (_, output) = package().build(name);
    assert!(!output.status.success(), "{name} compiles");
    let errors = String::from_utf8_lossy(&output.stderr);
    // The compiler breaks and indents lines as it likes.
    let flat = errors.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    for cure in cures {
        assert!(flat.contains(cure), "{name}: the message does not say {cure:?}:\n{errors}");
    }
}

#[test]
fn smoke() {
    let (_, output) = package().build("none");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_capture_is_refused_and_the_message_says_to_pass_it_as_an_argument() {
    assert_refused("capture_copy", &["must not capture anything", "pass what it needs as arguments"]);
    assert_refused("capture", &["a closure must not capture anything: pass what it needs as arguments"]);
}

#[test]
fn a_call_in_place_of_the_function_is_refused_and_the_message_says_so() {
    assert_refused("call", &["pass the function itself"]);
}

#[test]
fn a_bare_value_in_place_of_a_tuple_is_refused_and_the_message_says_so() {
    // The compiler knows which tuple is meant, and its own words are the cure.
    assert_refused("bare", &["expected `(String,)`, found `String`", "use a trailing comma", "(text,)"]);
}

#[test]
fn a_function_pointer_is_refused_and_the_message_says_to_name_the_function() {
    assert_refused("pointer", &["must be named itself, not by a `fn` pointer"]);
}

#[test]
fn a_value_that_serde_does_not_carry_is_named() {
    assert_refused("serde", &["Plain", "Serialize"]);
}
