//! What the figures were taken on.

use std::fs;
use std::process::Command;

use serde::Serialize;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Facts {
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
    pub(crate) python: String,
    /// Runnable processes when the run began: above a fraction of the cores, figures are noise.
    pub(crate) load: String,
}

impl Facts {
    pub(crate) fn gather() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        // What follows the version names the distributor's, or one machine's own, build.
        let release = read("/proc/sys/kernel/osrelease");
        let version = release.split(['-', '+']).next().unwrap_or("?").trim();
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: model.map_or("unknown processor", |(_, name)| name).trim().to_owned(),
            kernel: format!("Linux {version}"),
            rustc: env!("BENCH_RUSTC").split(" (").next().unwrap_or_default().to_owned(),
            python: python(),
            load: read("/proc/loadavg").split(' ').next().unwrap_or("?").to_owned(),
        }
    }

    /// One line for the head of the table.
    pub(crate) fn line(&self) -> String {
        let Self { cores, processor, kernel, rustc, python, load } = self;
        format!("{cores} cores ({processor}), {kernel}, {rustc}, {python}, load {load} at the start")
    }
}

fn python() -> String {
    let answer = Command::new("python3").arg("--version").output().ok();
    let said = answer.map(|answer| String::from_utf8_lossy(&answer.stdout).trim().to_owned());
    said.filter(|said| !said.is_empty()).unwrap_or_else(|| "no Python 3".to_owned())
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
