//! What memory cgroups still allow: a hint, since others take from the same allowance meanwhile.

use std::fs;
use std::path::{Path, PathBuf};

/// The least that this process's memory cgroup, or one around it, still allows; `None` where none limits it.
pub(crate) fn allowance() -> Option<u64> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
    [Version::Two, Version::One].into_iter().filter_map(|version| version.allowance(&cgroups)).min()
}

#[derive(Clone, Copy, Debug)]
enum Version {
    One,
    Two,
}

impl Version {
    fn allowance(self, cgroups: &str) -> Option<u64> {
        let root = Path::new(match self {
            Version::One => "/sys/fs/cgroup/memory",
            Version::Two => "/sys/fs/cgroup",
        });
        least(self, root, self.path(cgroups)?)
    }

    /// Where the process is, below the root of the hierarchy.
    fn path(self, cgroups: &str) -> Option<&str> {
        cgroups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let found = match self {
                Version::One => controllers.split(',').any(|name| name == "memory"),
                Version::Two => controllers.is_empty(),
            };
            found.then_some(path)
        })
    }

    /// The files of limit and use, and the field of `memory.stat` for cache that can be given up.
    fn files(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Version::One => ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "),
            Version::Two => ("memory.max", "memory.current", "inactive_file "),
        }
    }
}

/// Each cgroup from `path` up to the root may limit what lies in it.
fn least(version: Version, root: &Path, path: &str) -> Option<u64> {
    let own: PathBuf = root.join(path.trim_start_matches('/'));
    own.ancestors()
        .take_while(|directory| directory.starts_with(root))
        .filter_map(|at| one(version, at))
        .min()
}

/// Page cache in a cgroup can be given up, so it counts as free.
fn one(version: Version, directory: &Path) -> Option<u64> {
    let (limit, used, inactive) = version.files();
    let read = |file: &str| fs::read_to_string(directory.join(file)).ok();
    // "max" is no number: no limit.
    let limit: u64 = read(limit)?.trim().parse().ok()?;
    let used: u64 = read(used)?.trim().parse().ok()?;
    let stat = read("memory.stat").unwrap_or_default();
    let cache = stat.lines().find_map(|line| line.strip_prefix(inactive)?.parse::<u64>().ok()).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(cache)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &str = "12:cpu,memory:/a/b\n5:cpuset:/\n0::/user.slice/x\n";

    #[test]
    fn the_path_is_that_of_the_memory_controller() {
        assert_eq!(Version::One.path(BOTH), Some("/a/b"));
        assert_eq!(Version::Two.path(BOTH), Some("/user.slice/x"));
        assert_eq!(Version::One.path("0::/\n"), None);
    }

    #[test]
    fn the_tightest_one_around_the_process_counts() {
        let root = std::env::temp_dir().join(format!("mp-shm-cgroup-{}", std::process::id()));
        let put = |at: &str, limit: &str, used: &str, stat: &str| {
            let directory = root.join(at);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("memory.max"), limit).unwrap();
            fs::write(directory.join("memory.current"), used).unwrap();
            fs::write(directory.join("memory.stat"), stat).unwrap();
        };
        put("a", "1000\n", "700\n", "anon 5\ninactive_file 200\n");
        put("a/b", "max\n", "650\n", "");
        assert_eq!(least(Version::Two, &root, "/a/b"), Some(500));
        put("a/b", "660\n", "650\n", "");
        assert_eq!(least(Version::Two, &root, "/a/b"), Some(10));
        assert_eq!(least(Version::Two, &root, "/"), None);
        fs::remove_dir_all(root).unwrap();
    }
}
