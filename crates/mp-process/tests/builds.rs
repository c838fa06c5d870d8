//! Programs built in every way that changes where functions lie and how panics end: optimised as a whole and stripped, panics that
//! abort, without relocation, static, without a build id, with functions in a shared library.

mod package;

use mp_test::guarded;
use package::{Package, expect_success};
use std::path::{Path, PathBuf};
use std::process::Command;

fn package() -> Package {
    Package::new("builds", "")
}

/// Builds the program `whole` with `flags` for the compiler.
fn built_with(flags: &str, name: &str) -> PathBuf {
    package().build_with(flags, "programs/whole.rs", name)
}

fn run(program: &Path) {
    guarded(|| {
        expect_success(&mut Command::new(program));
    });
}

/// Whether the program is placed anywhere, and whether it needs a loader.
fn kind(program: &Path) -> (bool, bool) {
    let header = Command::new("readelf").args(["-hlW"]).arg(program).output();
    let text =
        String::from_utf8_lossy(&header.expect("readelf, which comes with the linker").stdout).into_owned();
    (text.contains("Type:                              DYN"), text.contains("INTERP"))
}

#[test]
fn a_stripped_program_with_fat_lto_whose_panics_abort_works() {
    run(&package().build_whole("programs/whole.rs", "optimised"));
}

#[test]
fn a_panic_that_aborts_is_told_from_any_thread() {
    run(&package().build_whole("programs/aborts.rs", "aborts"));
}

#[test]
fn a_program_that_is_not_relocated_and_has_no_build_id_works() {
    let program = built_with("-C relocation-model=static -C link-arg=-Wl,--build-id=none", "fixed");
    assert_eq!(kind(&program), (false, true), "the build is as asked");
    run(&program);
}

#[test]
fn a_static_program_works() {
    let program = built_with("-C target-feature=+crt-static", "static_pie");
    assert_eq!(kind(&program), (true, false), "the build is as asked");
    run(&program);
}

#[test]
fn a_static_program_that_is_not_relocated_works() {
    let flags = "-C target-feature=+crt-static -C relocation-model=static";
    let program = built_with(flags, "static_fixed");
    assert_eq!(kind(&program), (false, false), "the build is as asked");
    run(&program);
}

#[test]
fn functions_in_a_shared_library_run_in_other_processes() {
    let _library = Package::new("shared_library", "[lib]\ncrate-type = [\"dylib\"]").with("library", "src");
    let library = "[dependencies.shared_library]\npath = \"../shared_library\"";
    let package = Package::new("with_library", library).with("with_library", "src/bin");
    let (program, built) = package.build("with_library");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    guarded(|| {
        // Beside the library stands the standard one, which the two share.
        let standard = expect_success(Command::new("rustc").args(["--print", "target-libdir"]));
        let libraries = format!("{}:{}", program.with_file_name("deps").display(), standard.trim());
        expect_success(Command::new(&program).env("LD_LIBRARY_PATH", libraries));
    });
}
