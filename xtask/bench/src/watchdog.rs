//! One sample in a process of its own, ended with all that it started when it takes too long.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process_group, set_parent_process_death_signal, waitid,
};

use crate::args::Plan;
use crate::contestant::{Contestant, Failure};
use crate::cores;
use crate::measure::Said;
use crate::peers;
use crate::rows::Row;

/// How one sample ended.
#[derive(Debug)]
pub(crate) enum Ended {
    Said(Said),
    Hung(Duration),
    Failed(String),
}

/// This process dies when its parent does, so that an interrupted run leaves nothing behind.
pub(crate) fn die_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

pub(crate) fn sample(row: &Row, contestant: &Contestant, plan: &Plan) -> Result<Ended, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--measure", row.name, contestant.name]).arg(plan.budget().as_millis().to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own, so that one signal reaches whatever the contestant started.
    command.process_group(0).env_remove(cores::VARIABLE);
    if let Some(cores) = cores::variable(row.place) {
        command.env(cores::VARIABLE, cores);
    }
    let mut child = command.spawn()?;
    let pid = Pid::from_child(&child);
    let limit = Duration::from_secs(20);
    let in_time = ended_within(pid, limit);
    // Not waited for yet, so the number is still its own. An empty group is no error here.
    let _ = kill_process_group(pid, Signal::KILL);
    let status = child.wait()?;
    peers::iceoryx2::remove_names(child.id())?;
    let (said, complaint) = output(&mut child)?;
    if !in_time {
        return Ok(Ended::Hung(limit));
    }
    if !status.success() {
        let last =
            complaint.lines().map(str::trim).rfind(|line| !line.is_empty() && !line.starts_with("note:"));
        return Ok(Ended::Failed(last.map_or_else(|| status.to_string(), str::to_owned)));
    }
    // What a contestant prints itself comes before.
    let line = said.lines().last().unwrap_or_default();
    Ok(serde_json::from_str(line).map_or_else(|error| Ended::Failed(error.to_string()), Ended::Said))
}

fn ended_within(pid: Pid, limit: Duration) -> bool {
    let (ended, news) = mpsc::channel();
    thread::spawn(move || {
        // It stays unwaited-for: the caller signals its group first.
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        let _ = ended.send(());
    });
    news.recv_timeout(limit).is_ok()
}

/// What it printed; a few lines, so that the pipes hold it and nobody needs to read meanwhile.
fn output(child: &mut Child) -> io::Result<(String, String)> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut out)?;
    }
    if let Some(mut pipe) = child.stderr.take() {
        pipe.read_to_end(&mut err)?;
    }
    Ok((String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned()))
}
