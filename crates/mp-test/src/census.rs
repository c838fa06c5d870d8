//! What a process has: descriptors, threads, children, names in shared memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

/// How long leftovers may take to go away (a thread that is just ending, say) before they count as left.
const SETTLE: Duration = Duration::from_secs(10);

/// What was there at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census {
    fds: BTreeMap<String, String>,
    threads: usize,
    children: BTreeSet<String>,
    names: BTreeSet<String>,
}

impl Census {
    /// Counts now.
    #[must_use]
    pub fn take() -> Census {
        Census { fds: fds(), threads: threads(), children: children(), names: names() }
    }

    /// How many descriptors are open.
    #[must_use]
    pub fn fd_count(&self) -> usize {
        self.fds.len()
    }

    /// Fails when there is now more than there was.
    ///
    /// # Panics
    ///
    /// When something is left.
    pub fn assert_nothing_left(&self) {
        let give_up = Instant::now() + SETTLE;
        loop {
            let left = self.left();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < give_up, "left behind: {}", left.join(", "));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn left(&self) -> Vec<String> {
        let now = Census::take();
        let mut left = Vec::new();
        if now.fds.len() > self.fds.len() {
            let new = now.fds.iter().filter(|(fd, what)| self.fds.get(*fd) != Some(what));
            left.extend(new.map(|(fd, what)| format!("fd {fd} ({what})")));
        }
        if now.threads > self.threads {
            left.push(format!("{} threads where there were {}", now.threads, self.threads));
        }
        left.extend(now.children.difference(&self.children).map(|child| format!("child {child}")));
        let new = now.names.difference(&self.names).filter(|name| !is_of_another(name));
        left.extend(new.map(|name| format!("/dev/shm/{name}")));
        left
    }
}

fn entries(path: &str) -> impl Iterator<Item = String> {
    fs::read_dir(path)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
}

fn fds() -> BTreeMap<String, String> {
    entries("/proc/self/fd")
        .filter_map(|fd| {
            // The directory's own descriptor is gone by now and drops out here.
            let what = fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
            let what = what.to_string_lossy().into_owned();
            (!what.ends_with("/fd")).then_some((fd, what))
        })
        .collect()
}

/// How many threads of these crates this process has: they are all named `mp-…`. The test harness has its own, which come and go.
#[must_use]
pub fn threads() -> usize {
    let ours = |task: &String| {
        fs::read_to_string(format!("/proc/self/task/{task}/comm")).is_ok_and(|name| name.starts_with("mp-"))
    };
    entries("/proc/self/task").filter(ours).count()
}

/// The children of this process, living or not yet waited for, as `PID NAME STATE`.
fn children() -> BTreeSet<String> {
    let me = std::process::id().to_string();
    entries("/proc").filter_map(|pid| child_of(&me, &pid)).collect()
}

fn child_of(parent: &str, pid: &str) -> Option<String> {
    if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (front, back) = stat.rsplit_once(')')?;
    let mut fields = back.split_ascii_whitespace();
    let state = fields.next()?;
    (fields.next()? == parent).then(|| {
        let name = front.split_once('(').map_or("", |(_, name)| name);
        format!("{pid} {name} {state}")
    })
}

/// Whether the name is that of a test which runs beside this one: such names carry the process, and that lives, as no child of ours.
fn is_of_another(name: &str) -> bool {
    let pid = name.split('-').find(|part| part.parse::<u32>().is_ok_and(|pid| pid > 1));
    pid.is_some_and(|pid| {
        let me = std::process::id().to_string();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        pid != me && state.is_some_and(|state| state != 'Z') && child_of(&me, pid).is_none()
    })
}

/// Names of ours in shared memory; other programs may come and go there.
fn names() -> BTreeSet<String> {
    let ours = |name: &String| ["mp", "shmem_", "multiprocess"].iter().any(|start| name.starts_with(start));
    entries("/dev/shm").filter(ours).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_of_each_kind_is_seen() {
        let before = Census::take();
        assert_eq!(before.left(), Vec::<String>::new());
        let file = fs::File::open("/dev/null").unwrap();
        assert!(before.left().iter().any(|left| left.contains("/dev/null")), "{:?}", before.left());
        drop(file);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        assert!(before.left().iter().any(|left| left.starts_with("child")));
        child.wait().unwrap();
        let (ready, gate) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("mp-test".into()).spawn(move || gate.recv()).unwrap();
        crate::until("the thread has its name", || before.left().iter().any(|left| left.contains("threads")));
        drop(ready);
        let _ = thread.join();
        let name = format!("/dev/shm/mp-test-{}", std::process::id());
        fs::write(&name, "").unwrap();
        assert!(before.left().contains(&name));
        fs::remove_file(name).unwrap();
        // One whose process is gone, and one of a test beside this one.
        let [gone, beside] = ["4194304".to_owned(), std::os::unix::process::parent_id().to_string()]
            .map(|pid| format!("/dev/shm/mp-test-{pid}-left"));
        fs::write(&gone, "").unwrap();
        fs::write(&beside, "").unwrap();
        let left = before.left();
        fs::remove_file(&gone).unwrap();
        fs::remove_file(&beside).unwrap();
        assert!(left.contains(&gone) && !left.contains(&beside), "{left:?}");
        before.assert_nothing_left();
    }
}
