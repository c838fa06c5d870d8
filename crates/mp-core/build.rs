//! Present only because `links` asks for a build script.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
