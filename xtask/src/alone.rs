//! `alone`: each crate is whole by itself. A fresh package with that single dependency runs the README's program.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::command::{cargo, root, run_limited, target_dir};
use crate::outcome::{Failure, Outcome, from_faults};
use crate::workspace::{Crate, crates};

/// For building, which may have to wait for other builds.
const BUILD_LIMIT: Duration = Duration::from_secs(600);
/// For the program.
const RUN_LIMIT: Duration = Duration::from_secs(60);

/// The verb.
pub(crate) fn run(args: &[String]) -> Outcome {
    let mut faults = Vec::new();
    for one in crates()?.iter().filter(|one| one.is_published()) {
        if args.first().is_some_and(|only| *only != one.name) {
            continue;
        }
        match proved(one) {
            Ok(()) => println!("  {:<14} ok", one.name),
            Err(failure) => faults.push(format!("{}: {failure}", one.name)),
        }
    }
    from_faults(&faults)
}

fn proved(one: &Crate) -> Result<(), Failure> {
    let readme = fs::read_to_string(one.dir.join("README.md"))?;
    let program = program(&readme).ok_or("its README has no ```rust block")?;
    let name = format!("alone-{}", one.name);
    let dir = target_dir().join("alone").join(&one.name);
    write_package(one, &name, &dir, &program)?;

    // One build directory for all, so that what they share is built once.
    let built = target_dir().join("alone-target");
    let mut build = cargo("build --quiet");
    build.current_dir(&dir).env("CARGO_TARGET_DIR", &built);
    run_limited(build, &dir.join("build.txt"), BUILD_LIMIT)?;

    let mut command = std::process::Command::new(built.join("debug").join(&name));
    command.current_dir(&dir);
    run_limited(command, &dir.join("run.txt"), RUN_LIMIT)
}

/// A package that is no member of our workspace, with our versions of everything else.
fn write_package(one: &Crate, name: &str, dir: &Path, program: &str) -> Result<(), Failure> {
    fs::create_dir_all(dir.join("src"))?;
    let manifest = format!(
        "[package]\nname = {name:?}\nversion = \"0.0.0\"\nedition = \"2024\"\npublish = false\n\n\
         [dependencies]\n{} = {{ path = {:?} }}\n\n[workspace]\n",
        one.name, one.dir
    );
    fs::write(dir.join("Cargo.toml"), manifest)?;
    fs::write(dir.join("src/main.rs"), program)?;
    fs::copy(root().join("Cargo.lock"), dir.join("Cargo.lock"))?;
    Ok(())
}

/// The first ```rust block as a program: rustdoc's hidden lines shown, a `main` around it when it has none.
fn program(readme: &str) -> Option<String> {
    let mut lines = readme.lines().skip_while(|line| !line.trim_start().starts_with("```rust"));
    lines.next()?;
    let body: Vec<&str> = lines.take_while(|line| !line.trim_start().starts_with("```")).map(shown).collect();
    let body = body.join("\n");
    if body.contains("fn main(") {
        return Some(body + "\n");
    }
    // As rustdoc: a block that ends by naming its error may use `?`.
    if body.trim_end().ends_with("(())") {
        return Some(format!(
            "fn main() {{\n    fn inner() -> Result<(), impl std::fmt::Debug> {{\n{body}\n    }}\n    inner().unwrap();\n}}\n"
        ));
    }
    Some(format!("fn main() {{\n{body}\n}}\n"))
}

/// `# use x;` is hidden on the page and part of the program.
fn shown(line: &str) -> &str {
    let trimmed = line.trim_start();
    if trimmed == "#" { "" } else { trimmed.strip_prefix("# ").unwrap_or(line) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rust_block_is_the_program() {
        let readme = "# t\n```toml\na = 1\n```\n```rust\n# use a::b;\nfn main() {\n    #[cfg(x)]\n    b();\n}\n```\n```rust\nno\n```\n";
        assert_eq!(program(readme).unwrap(), "use a::b;\nfn main() {\n    #[cfg(x)]\n    b();\n}\n");
        assert_eq!(program("```toml\n```\n"), None);
    }

    #[test]
    fn a_block_without_main_gets_one() {
        assert_eq!(program("```rust,no_run\nf();\n```\n").unwrap(), "fn main() {\nf();\n}\n");
        let fallible = program("```rust\nf()?;\n# Ok::<(), E>(())\n```\n").unwrap();
        assert!(fallible.contains("inner().unwrap()") && fallible.contains("Ok::<(), E>(())"));
    }
}
