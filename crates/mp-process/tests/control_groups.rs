//! `cpu_count` knows the quota of a control group.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod help;

use mp_process::{Process, cpu_count};
use mp_test::guarded;
use std::fs;
use std::path::{Path, PathBuf};

mp_process::enable_test_support!();

/// A control group with a quota of one processor, in either version; removed when dropped.
struct Group(PathBuf);

impl Group {
    /// `None` where this user may not make one.
    fn of_one_processor() -> Option<Group> {
        let name = format!("mp-test-{}", std::process::id());
        let root = Path::new("/sys/fs/cgroup");
        let unified = root.join("cgroup.controllers").exists();
        let group = Group(if unified { root.join(name) } else { root.join("cpu").join(name) });
        fs::create_dir(&group.0).ok()?;
        if unified {
            fs::write(group.0.join("cpu.max"), "100000 100000").ok()?;
        } else {
            fs::write(group.0.join("cpu.cfs_period_us"), "100000").ok()?;
            fs::write(group.0.join("cpu.cfs_quota_us"), "100000").ok()?;
        }
        Some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn count_within(group: String) -> usize {
    fs::write(Path::new(&group).join("cgroup.procs"), "0").unwrap();
    cpu_count()
}

#[test]
fn cpu_count_is_at_most_the_quota_of_the_control_group() {
    let test = "cpu_count_is_at_most_the_quota_of_the_control_group";
    guarded(|| {
        let Some(group) = Group::of_one_processor() else {
            eprintln!("mp-test: {test} cannot run here: it needs leave to make a control group");
            return;
        };
        let path = group.0.to_str().unwrap().to_owned();
        assert_eq!(Process::spawn(count_within, (path,)).unwrap().join().unwrap(), 1);
    });
}
