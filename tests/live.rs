//! `usher run` on a live file: entries at the start, events that are appended, a refresh, a stop.

use crate::support::rows::{numbers, strings, usher, write_parquet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const JOB: &str = "
job: shop
sources: {web: {file: {path: events.jsonl, follow: true}, format: segment}}
models: {users: {parquet: users.parquet, key: user_id, refresh: 1s}}
events: {bought: {source: web, type: track, name: Bought, model: users}}
audiences:
  buyers: {model: users, where: {performed: bought, within: 2s}}
  rich: {model: users, where: {property: ltv > 15}}
syncs:
  all: {to: {stdout: {}}}
  exits: {audiences: [buyers], send: [exit], to: {file: {path: exits.jsonl}}}
";

/// How long anything is waited for: far more than it takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Running {
    pub child: Child,
    lines: Receiver<serde_json::Value>,
    stderr: Receiver<String>,
}

impl Running {
    pub fn start(folder: &Path, workers: &str) -> Running {
        Running::with(folder, &["-w", workers])
    }

    /// Runs the job with flags.
    pub fn with(folder: &Path, flags: &[&str]) -> Running {
        let mut args = vec!["run", "job.yaml"];
        args.extend(flags);
        let mut child =
            usher(folder, &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let (line_in, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = line_in.send(serde_json::from_str(&line).expect("a change is JSON"));
            }
        });
        let (line_in, stderr) = channel();
        let pipe = BufReader::new(child.stderr.take().expect("stderr is piped"));
        std::thread::spawn(move || pipe.lines().map_while(Result::ok).for_each(|line| drop(line_in.send(line))));
        Running { child, lines, stderr }
    }

    /// The next change, as `type audience key reason`, and when.
    fn change(&self) -> (String, i64) {
        let message = self.lines.recv_timeout(PATIENCE).expect("a change comes");
        let field = |name: &str| message[name].as_str().expect("a field of a change is text").to_owned();
        let at: jiff::Timestamp = field("at").parse().expect("a time");
        (
            format!("{} {} {} {}", field("type"), field("audience_id"), field("key"), field("reason")),
            at.as_millisecond(),
        )
    }

    /// Waits for a line on stderr that contains `what`; returns it.
    pub fn wait_for(&self, what: &str) -> String {
        let until = Instant::now() + PATIENCE;
        while let Ok(line) = self.stderr.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if line.contains(what) {
                return line;
            }
        }
        panic!("stderr never had `{what}`");
    }

    pub fn stop(mut self, signal: &str) {
        // Twice: some senders signal a process and its group, and that counts as one.
        for _ in 0..2 {
            let killed = std::process::Command::new("kill").args([signal, &self.child.id().to_string()]).status();
            assert!(killed.is_ok(), "kill runs");
        }
        assert_eq!(self.child.wait().expect("the child is ours").code(), Some(0));
        self.wait_for("read ");
    }
}

pub fn users(folder: &Path, ltv: &[f64]) {
    // Written aside and moved into place, as a warehouse should.
    write_parquet(&folder.join("_users.parquet"), vec![("user_id", strings(&["a", "b"])), ("ltv", numbers(ltv))]);
    std::fs::rename(folder.join("_users.parquet"), folder.join("users.parquet")).expect("the folder can be written");
}

pub fn buy(folder: &Path, user: &str) -> i64 {
    let now = jiff::Timestamp::now().as_millisecond();
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(folder.join("events.jsonl"))
        .expect("the folder can be written");
    writeln!(file, r#"{{"type":"track","event":"Bought","userId":"{user}","timestamp":{now}}}"#)
        .expect("the file can be written");
    now
}

fn live(workers: &str, signal: &str) {
    let folder = tempfile::tempdir().expect("a folder for the test");
    std::fs::write(folder.path().join("job.yaml"), JOB).expect("the folder can be written");
    users(folder.path(), &[10.0, 20.0]);
    let running = Running::start(folder.path(), workers);
    running.wait_for("live after");
    assert_eq!(running.change().0, "entry rich b definition");

    let bought_at = buy(folder.path(), "a");
    let (entry, entered_at) = running.change();
    assert_eq!(entry, "entry buyers a event");
    assert!(entered_at >= bought_at);
    let (exit, left_at) = running.change();
    assert_eq!(
        (exit.as_str(), left_at),
        ("exit buyers a expiry", bought_at + 2_000),
        "it leaves at exactly ts + within"
    );

    users(folder.path(), &[30.0, 5.0]);
    let mut switched = [running.change().0, running.change().0];
    switched.sort();
    assert_eq!(switched, ["entry rich a snapshot", "exit rich b snapshot"]);

    std::fs::write(folder.path().join("users.parquet"), "half a file").expect("the folder can be written");
    running.wait_for("the last good snapshot stays in force");
    running.stop(signal);
    let exits = std::fs::read_to_string(folder.path().join("exits.jsonl")).expect("the sync has a file");
    assert_eq!(exits.lines().count(), 1, "{exits}");
}

#[test]
fn a_job_follows_refreshes_and_stops_on_sigterm() {
    live("1", "-TERM");
}

#[test]
fn two_workers_do_the_same_and_stop_on_ctrl_c() {
    live("2", "-INT");
}

#[test]
fn a_damaged_file_that_comes_into_a_followed_folder_does_not_end_the_job() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let path = folder.path();
    users(path, &[10.0, 10.0]);
    std::fs::create_dir(path.join("in")).expect("it can be made");
    let job = JOB.replace("events.jsonl", "in").replace("within: 2s", "within: 1h");
    std::fs::write(path.join("job.yaml"), job).expect("it can be written");
    let running = Running::start(path, "1");
    running.wait_for("live after");
    let bought =
        |user: &str, at: i64| format!(r#"{{"type":"track","event":"Bought","userId":"{user}","timestamp":{at}}}"#);
    let now = jiff::Timestamp::now().as_millisecond();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let lines = format!("{}\n{}\n", bought("a", now), bought("b", now));
    encoder.write_all(lines.as_bytes()).expect("to memory");
    let whole = encoder.finish().expect("to memory");
    // It has both lines, but not its end.
    std::fs::write(path.join("in/1.gz"), &whole[..whole.len() - 4]).expect("it can be written");
    running.wait_for("`./in/1.gz` is damaged after");
    assert_eq!(running.change().0, "entry buyers a event");
    assert_eq!(running.change().0, "entry buyers b event");
    std::fs::write(path.join("in/2.gz"), bought("c", now) + "\n").expect("it can be written");
    std::fs::write(path.join("in/3.gz"), [0x1f, 0x8b, 1, 2, 3]).expect("it can be written");
    running.wait_for("`./in/3.gz` is damaged after 0 bytes");
    running.stop("-TERM");
}
