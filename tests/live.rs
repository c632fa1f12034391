//! `usher run` on a live file: entries at the start, events that are appended, a refresh, a stop.

use crate::support::process::{now, pass};
use crate::support::rows::{numbers, strings, usher, write_parquet};
use std::collections::BTreeSet;
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

const BRAKED: &str = "
job: shop
sources: {web: {file: {path: events.jsonl, follow: true}, format: segment}}
models: {users: {parquet: users.parquet, key: user_id, refresh: manual, max_exits: 20%}}
events: {bought: {source: web, type: track, name: Bought, model: users}}
audiences:
  rich: {model: users, where: {property: ltv > 15}}
  few: {model: users, where: {property: ltv > 1000}}
syncs: {log: {to: {file: {path: changes.jsonl}}}}
state: {url: state, checkpoint_every: 250ms}
api: {listen: \"127.0.0.1:0\"}
";

/// Writes 40 users, of whom so many are rich; the first two are very rich unless none is.
fn shoppers(folder: &Path, count: usize, rich: usize) {
    let keys: Vec<String> = (0..count).map(|user| format!("u-{user}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let ltv = |user| {
        if user >= rich {
            1.0
        } else if user < 2 {
            2_000.0
        } else {
            20.0
        }
    };
    let ltv: Vec<f64> = (0..count).map(ltv).collect();
    write_parquet(&folder.join("_users.parquet"), vec![("user_id", strings(&keys)), ("ltv", numbers(&ltv))]);
    std::fs::rename(folder.join("_users.parquet"), folder.join("users.parquet")).expect("the folder can be written");
}

/// Runs a command that asks the job; returns its exit code and what it printed.
fn ask(url: &str, args: &[&str]) -> (Option<i32>, String) {
    let output = usher(Path::new("."), args).env("USHER_URL", url).output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn a_pull_that_takes_too_many_out_is_held_before_a_row_switches_until_it_is_accepted() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let write =
        |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("the folder can be written");
    write("job.yaml", BRAKED);
    write("events.jsonl", "");
    shoppers(folder.path(), 40, 30);
    let running = Running::start(folder.path(), "2");
    let line = running.wait_for("api on ");
    let url = line.split("api on ").nth(1).expect("the url comes after it").trim().to_owned();
    running.wait_for("live after");
    let changes = || crate::support::process::changes(&folder.path().join("changes.jsonl"));
    let left = || changes().iter().filter(|change| !change.entered).count();
    let pull = |flags: &[&str]| ask(&url, &[&["pull", "users", "--wait"], flags].concat());

    // 6 of 30 is a fifth; few has too few members to count.
    shoppers(folder.path(), 40, 24);
    let (code, text) = pull(&[]);
    assert_eq!((code, text.starts_with("pulled `users`: 40 rows in ")), (Some(0), true), "{text}");
    crate::support::process::until(&|| "they leave".to_owned(), || left() == 6);
    // 5 of 24 is more.
    shoppers(folder.path(), 40, 19);
    let (code, text) = pull(&[]);
    let held = "the pull of `users` is held: it has 40 rows, and by it 5 of the 24 members of `rich` would leave, more than `max_exits`: 20%";
    assert_eq!(
        (code, text.contains(held), text.contains("usher pull users --accept")),
        (Some(1), true, true),
        "{text}"
    );
    running.wait_for("the pull is held; the last good snapshot stays in force");
    // Without rows it is held too.
    shoppers(folder.path(), 0, 0);
    let (code, text) = pull(&["--full"]);
    assert!(code == Some(1) && text.contains("it has 0 rows, fewer than `min_rows`: 1"), "{text}");
    let (_, models) = ask(&url, &["status", "--json"]);
    let models: serde_json::Value = serde_json::from_str(&models).expect("it is JSON");
    let users = &models["models"][0];
    assert_eq!((&users["freshness"], &users["rows"]), (&"Stale".into(), &40.into()));
    assert_eq!(users["pulls"], serde_json::json!({"succeeded": 2, "failed": 0, "held": 2}));
    assert_eq!(left(), 6, "nobody has left by a pull that is held");

    let (code, text) = pull(&["--accept"]);
    assert_eq!(code, Some(0), "{text}");
    crate::support::process::until(&|| "all leave".to_owned(), || left() == 32);
    running.stop("-TERM");
}

#[test]
fn where_nothing_is_in_force_the_ledgers_judge_the_first_pull_and_a_held_one_ends_the_start() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let write =
        |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("the folder can be written");
    write("events.jsonl", "");
    write("job.yaml", BRAKED);
    shoppers(folder.path(), 40, 30);
    let running = Running::start(folder.path(), "2");
    running.wait_for("live after");
    running.stop("-TERM");
    let changes = || crate::support::process::changes(&folder.path().join("changes.jsonl"));
    assert_eq!(changes().len(), 32);

    // A snapshot of another place is in force nowhere.
    let others = BRAKED.replace("users.parquet", "others.parquet");
    write("job.yaml", &others);
    let start = |rich: usize, rows: usize| {
        shoppers(folder.path(), rows, rich);
        std::fs::copy(folder.path().join("users.parquet"), folder.path().join("others.parquet")).expect("it is copied");
        let output = usher(folder.path(), &["run", "job.yaml", "-w", "2"]).output().expect("the program starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, stderr) = start(20, 40);
    let expected = "model `users` is held: nothing of it is in force, and by the ledgers 10 of the 30 members of `rich` would leave, more than `max_exits`: 20%";
    assert!(code == Some(3) && stderr.contains(expected), "{code:?} {stderr}");
    let (code, stderr) = start(0, 0);
    let expected = "model `users` is held: it has 0 rows, fewer than `min_rows`: 1";
    assert!(code == Some(3) && stderr.contains(expected), "{code:?} {stderr}");
    assert!(stderr.contains("leave out `max_exits` and `min_rows`"), "{stderr}");
    assert_eq!(changes().len(), 32, "nothing was sent");

    shoppers(folder.path(), 40, 25);
    std::fs::rename(folder.path().join("users.parquet"), folder.path().join("others.parquet")).expect("it is moved");
    let running = Running::start(folder.path(), "1");
    running.wait_for("live after");
    crate::support::process::until(&|| "five leave".to_owned(), || changes().len() == 37);
    running.stop("-TERM");
}

#[test]
fn a_pull_that_is_due_at_a_start_is_judged_and_in_force_or_given_up_before_the_job_is_live() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let path = folder.path();
    let job = BRAKED.replace("refresh: manual", "refresh: 1s");
    std::fs::write(path.join("job.yaml"), &job).expect("it can be written");
    std::fs::write(path.join("events.jsonl"), "").expect("it can be written");
    let changes = || crate::support::process::changes(&path.join("changes.jsonl"));
    // What comes before the line that says that the job is live.
    let start = |workers: &str| {
        pass(now() + 1_000);
        let running = Running::start(path, workers);
        let mut before = String::new();
        loop {
            let line = running.wait_for("");
            if line.contains("live after") {
                break (running, before);
            }
            before += &line;
        }
    };
    shoppers(path, 40, 30);
    start("2").0.stop("-TERM");
    assert_eq!(changes().len(), 32);
    for workers in ["1", "2"] {
        // 10 of 30.
        shoppers(path, 40, 20);
        let (running, before) = start(workers);
        assert!(before.contains("the pull is held; the last good snapshot stays in force"), "{before}");
        assert!(before.contains("10 of the 30 members of `rich` would leave"), "{before}");
        running.stop("-TERM");
        std::fs::write(path.join("users.parquet"), "half a file").expect("it can be written");
        let (running, before) = start(workers);
        assert!(before.contains("the pull failed; the last good snapshot stays in force"), "{before}");
        running.stop("-TERM");
        std::fs::remove_file(path.join("users.parquet")).expect("it was just written");
        let (running, before) = start(workers);
        assert!(before.contains("the pull failed; the last good snapshot stays in force"), "{before}");
        assert!(before.contains("it is taken to be that of the last run"), "{before}");
        running.stop("-TERM");
        assert_eq!(changes().len(), 32, "nobody leaves by a pull that is not taken");
    }
    // 5 of 30, and 5 of 25.
    for (workers, rich, in_all) in [("2", 25, 37), ("1", 20, 42)] {
        shoppers(path, 40, rich);
        let (running, before) = start(workers);
        assert!(before.contains("pulled"), "{before}");
        crate::support::process::until(&|| "five leave".to_owned(), || changes().len() == in_all);
        running.stop("-TERM");
        let reasons: BTreeSet<_> = changes()[in_all - 5..].iter().map(|change| change.reason.clone()).collect();
        assert_eq!(reasons, BTreeSet::from(["recovery".to_owned()]));
    }
    // Nothing is known of other files.
    std::fs::write(path.join("job.yaml"), job.replace("users.parquet", "others.parquet")).expect("it can be written");
    let output = usher(path, &["run", "job.yaml"]).output().expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("the schema of model `users` can't be read: `others.parquet`"), "{stderr}");
}

#[test]
fn a_restart_knows_that_the_last_pull_failed_or_was_held_and_when_it_is_tried_again() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let path = folder.path();
    std::fs::write(path.join("job.yaml"), BRAKED).expect("it can be written");
    std::fs::write(path.join("events.jsonl"), "").expect("it can be written");
    // Starts, pulls where that is asked for, and returns what is known of the pulls before and after.
    let run = |pull: Option<i32>| {
        let running = Running::start(path, "1");
        let line = running.wait_for("api on ");
        let url = line.split("api on ").nth(1).expect("the url comes after it").trim().to_owned();
        running.wait_for("live after");
        let known = || {
            let (_, models) = ask(&url, &["status", "--json"]);
            let models: serde_json::Value = serde_json::from_str(&models).expect("it is JSON");
            let users = &models["models"][0];
            let next =
                users["next_pull"].as_str().map(|next| usher_core::time::parse_timestamp(next).expect("it is a time"));
            let text = |key: &str| users[key].as_str().unwrap_or_default().to_owned();
            (text("freshness"), text("last_error"), next)
        };
        let before = known();
        if let Some(expected) = pull {
            let (code, text) = ask(&url, &["pull", "users", "--wait"]);
            assert_eq!(code, Some(expected), "{text}");
        }
        let after = known();
        running.stop("-TERM");
        (before, after)
    };
    shoppers(path, 40, 30);
    let current = ("Current".to_owned(), String::new(), None);
    assert_eq!(run(Some(0)), (current.clone(), current.clone()));
    // 10 of 30.
    shoppers(path, 40, 20);
    let (_, held) = run(Some(1));
    assert!(held.0 == "Stale" && held.1.contains("10 of the 30 members of `rich`") && held.2.is_none(), "{held:?}");
    std::fs::write(path.join("users.parquet"), "half a file").expect("it can be written");
    let (before, failed) = run(Some(1));
    assert_eq!(before, held);
    // The first is tried again a minute later, the second two.
    assert!(failed.0 == "Stale" && failed.1.contains("`users.parquet`"), "{failed:?}");
    let minutes = |next: Option<i64>| (next.expect("it is tried again") - now()) as f64 / 60_000.0;
    assert!((0.5..=1.0).contains(&minutes(failed.2)), "{failed:?}");
    let (before, twice) = run(Some(1));
    assert_eq!((&before.0, &before.1), (&failed.0, &failed.1));
    assert!(
        (before.2.expect("it is tried again") - failed.2.expect("as before")).abs() < 1_000,
        "{before:?} {failed:?}"
    );
    assert!((1.5..=2.0).contains(&minutes(twice.2)), "{twice:?}");
    shoppers(path, 40, 30);
    assert_eq!(run(Some(0)).1, current);
    assert_eq!(run(None).0, current);
}

#[test]
fn a_pull_that_failed_is_tried_again_by_itself() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    std::fs::write(folder.path().join("job.yaml"), JOB).expect("the folder can be written");
    users(folder.path(), &[10.0, 20.0]);
    let running = Running::start(folder.path(), "1");
    running.wait_for("live after");
    std::fs::write(folder.path().join("users.parquet"), "half a file").expect("the folder can be written");
    let line = running.wait_for("the pull failed; the last good snapshot stays in force");
    assert!(line.contains("next=\"in 1s\""), "{line}");
    users(folder.path(), &[30.0, 20.0]);
    assert_eq!(running.change().0, "entry rich b definition");
    assert_eq!(running.change().0, "entry rich a snapshot");
    running.stop("-TERM");
}
