//! Runs the program as a whole process, and measures it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A whole process that has ended.
pub struct Run {
    pub time: Duration,
    /// Of resident memory.
    pub peak_bytes: u64,
    /// Of what it logged.
    pub last_line: String,
}

/// Runs `usher replay` of a job file, from file to file: the program that `USHER` names, or the one that is built with the benchmark.
///
/// # Panics
/// Panics if it fails.
pub fn replay(job: &Path, workers: usize) -> Run {
    let out: PathBuf = job.with_extension("changes.jsonl");
    let since = Instant::now();
    let program = std::env::var_os("USHER").unwrap_or_else(|| env!("CARGO_BIN_EXE_usher").into());
    let mut child = Command::new(program)
        .args(["replay", "--now", "2026-12-01T00:00:00Z", "-w", &workers.to_string(), "--out"])
        .arg(&out)
        .arg(job)
        .stderr(Stdio::piped())
        .spawn()
        .expect("usher starts");
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak_bytes = 0;
    let time = loop {
        if let Some(peak) = fs::read_to_string(&status_file).ok().as_deref().and_then(high_water) {
            peak_bytes = peak;
        }
        if child.try_wait().expect("the child is ours").is_some() {
            break since.elapsed();
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let output = child.wait_with_output().expect("the child is ours");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let _ = fs::remove_file(out);
    Run { time, peak_bytes, last_line: said.lines().last().unwrap_or_default().to_owned() }
}

fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
