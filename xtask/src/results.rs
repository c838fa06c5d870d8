//! What a run of the tests printed, read back: both nextest's lines and libtest's.

/// One test that ran.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    /// The crate, with `-` in its name.
    pub(crate) krate: String,
    /// The binary and the modules down to the test: `["lock", "smoke"]`, `["wire", "tests", "round_trip"]`.
    pub(crate) path: Vec<String>,
    pub(crate) passed: bool,
}

/// Written above the output of `cargo test -p CRATE`, whose own lines do not name the crate.
pub(crate) const CRATE_LINE: &str = "# crate ";

/// Every test in the output of nextest or, below [`CRATE_LINE`]s, of libtest.
pub(crate) fn parse(text: &str) -> Vec<Ran> {
    let mut found = Vec::new();
    let mut krate = String::new();
    let mut binary = String::new();
    for line in text.lines() {
        if let Some(ran) = nextest_line(line) {
            // A failure is printed twice, where it happens and at the end.
            if !found.contains(&ran) {
                found.push(ran);
            }
        } else if let Some(name) = line.strip_prefix(CRATE_LINE) {
            krate = name.trim().to_owned();
        } else if let Some(rest) = line.trim_start().strip_prefix("Running ") {
            binary = binary_of(rest);
        } else if line.trim_start().starts_with("Doc-tests ") {
            binary = "doc".to_owned();
        } else if let Some((name, passed)) = libtest_line(line) {
            found.push(Ran { krate: krate.clone(), path: path_of(&binary, name), passed });
        }
    }
    found
}

/// `PASS [   0.004s] (1/3) mp-core::wire modules::name`
fn nextest_line(line: &str) -> Option<Ran> {
    let (status, rest) = line.trim_start().split_once(" [")?;
    // LEAK is a pass for nextest: the process ended, something of it held its output a little longer.
    let passed = match status.trim() {
        "PASS" | "LEAK" => true,
        "FAIL" | "TIMEOUT" | "ABORT" | "LEAK-FAIL" | "LKFAIL" => false,
        other if other.starts_with("SIG") => false,
        _ => return None,
    };
    let rest = rest.split_once(']')?.1.trim_start();
    let rest = match rest.strip_prefix('(') {
        Some(counted) => counted.split_once(')')?.1.trim_start(),
        None => rest,
    };
    let (id, name) = rest.split_once(' ')?;
    let (krate, binary) = id.split_once("::").unwrap_or((id, ""));
    let binary = binary.strip_prefix("bin/").or_else(|| binary.strip_prefix("example/")).unwrap_or(binary);
    Some(Ran { krate: krate.to_owned(), path: path_of(binary, name.trim()), passed })
}

/// `unittests src/lib.rs (target/debug/deps/…)` is the crate itself; `tests/lock.rs (…)` is `lock`.
fn binary_of(rest: &str) -> String {
    let file = rest.strip_prefix("unittests ").unwrap_or(rest).split(" (").next().unwrap_or_default();
    let file = file.trim_end_matches(".rs").trim_end_matches("/main");
    file.strip_prefix("tests/").unwrap_or_default().to_owned()
}

/// `test modules::name ... ok`; an ignored test did not run.
fn libtest_line(line: &str) -> Option<(&str, bool)> {
    let (name, end) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let passed = match end.split([' ', ',']).next()? {
        "ok" => true,
        "FAILED" => false,
        _ => return None,
    };
    Some((name.split(" - should panic").next()?.trim(), passed))
}

fn path_of(binary: &str, name: &str) -> Vec<String> {
    let binary = Some(binary).filter(|binary| !binary.is_empty());
    binary.into_iter().chain(name.split("::")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(krate: &str, path: &[&str], passed: bool) -> Ran {
        Ran { krate: krate.to_owned(), path: path.iter().map(|&part| part.to_owned()).collect(), passed }
    }

    #[test]
    fn nextest_lines_are_read() {
        let text = "\
    Starting 4 tests across 3 binaries (1 test skipped)
        PASS [   0.004s] (1/4) mp-core wire::tests::round_trip
        PASS [   0.104s] (  2/4) mp-core::two_processes smoke
        FAIL [   0.200s] (3/4) mp-lock::lock acquire
     SIGABRT [   0.200s] (4/4) mp-lock::lock abort
        SLOW [> 60.000s] ───────── mp-lock::lock slow
     Summary [   0.300s] 4 tests run: 2 passed, 2 failed, 1 skipped
        FAIL [   0.200s] (3/4) mp-lock::lock acquire
";
        let expected = [
            ran("mp-core", &["wire", "tests", "round_trip"], true),
            ran("mp-core", &["two_processes", "smoke"], true),
            ran("mp-lock", &["lock", "acquire"], false),
            ran("mp-lock", &["lock", "abort"], false),
        ];
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn libtest_lines_are_read() {
        let text = "\
# crate mp-core
     Running unittests src/lib.rs (target/steps/debug/deps/mp_core-0123)
test wire::tests::round_trip ... ok
test wire::tests::slow ... ignored, takes long
     Running tests/two_processes.rs (target/steps/debug/deps/two_processes-0123)
test smoke ... FAILED
test explodes - should panic ... ok
     Running tests/it/main.rs (target/steps/debug/deps/it-0123)
test start ... ok
test result: FAILED. 1 passed; 1 failed; 0 ignored
";
        let expected = [
            ran("mp-core", &["wire", "tests", "round_trip"], true),
            ran("mp-core", &["two_processes", "smoke"], false),
            ran("mp-core", &["two_processes", "explodes"], true),
            ran("mp-core", &["it", "start"], true),
        ];
        assert_eq!(parse(text), expected);
    }
}
