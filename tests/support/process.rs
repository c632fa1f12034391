//! The program in the background: started, watched on stderr, ended by signals and crashes; and the changes that it has
//! written.

use crate::support::rows::usher;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long anything is waited for: far more than it takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// How often a condition is polled.
const POLL_EVERY: Duration = Duration::from_millis(5);

/// Waits until something holds.
pub fn until(what: &dyn Fn() -> String, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "it never came to this: {}", what());
        std::thread::sleep(POLL_EVERY);
    }
}

/// Now, ms since the epoch.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Waits until the clock has passed a time.
pub fn pass(time: i64) {
    until(&|| format!("{time} passes"), || now() > time);
}

/// Makes a named pipe.
pub fn make_pipe(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.is_ok_and(|made| made.success()), "mkfifo runs");
}

/// A running program. It is killed when this is dropped.
pub struct Process {
    child: Child,
    stderr: Arc<Mutex<String>>,
}

impl Process {
    /// Starts it in a folder.
    pub fn start(folder: &Path, args: &[&str]) -> Process {
        let mut child =
            usher(folder, args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let pipe = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let stderr = Arc::new(Mutex::new(String::new()));
        let written = Arc::clone(&stderr);
        std::thread::spawn(move || {
            for line in pipe.lines().map_while(Result::ok) {
                let mut all = written.lock().expect("the lock is not poisoned");
                all.push_str(&line);
                all.push('\n');
            }
        });
        Process { child, stderr }
    }

    /// Returns its stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().expect("the lock is not poisoned").clone()
    }

    /// Waits until its stderr contains `what`.
    pub fn wait_for(&mut self, what: &str) {
        let since = Instant::now();
        while !self.stderr().contains(what) {
            let ended = self.child.try_wait().expect("the child is ours");
            // Its last lines may still be in the pipe.
            let over = ended.is_some() && since.elapsed() > Duration::from_secs(1);
            assert!(
                !over && since.elapsed() < PATIENCE,
                "stderr never had `{what}`, but ({ended:?})\n{}",
                self.stderr()
            );
            std::thread::sleep(POLL_EVERY);
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("the child is ours").is_some()
    }

    /// Whether it has a thread of this name.
    pub fn has_thread(&self, name: &str) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        threads
            .filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok())
            .any(|of| of.trim() == name)
    }

    /// Sends a signal, by its name.
    pub fn signal(&self, name: &str) {
        let signal = format!("-{name}");
        let sent = std::process::Command::new("kill").args([&signal, &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|sent| sent.success()), "kill runs");
    }

    /// Kills it with SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("the child is ours");
        self.child.wait().expect("the child is ours");
    }

    /// Waits until it ends by itself; returns its exit code and its stderr.
    pub fn ends(mut self) -> (Option<i32>, String) {
        let since = Instant::now();
        let code = loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                break status.code();
            }
            assert!(since.elapsed() < PATIENCE, "it does not end:\n{}", self.stderr());
            std::thread::sleep(POLL_EVERY);
        };
        // The thread that reads stderr holds the other handle until it has read all.
        until(&|| "stderr is read to its end".to_owned(), || Arc::strong_count(&self.stderr) == 1);
        (code, self.stderr())
    }

    /// Stops it with SIGTERM, which must end it with 0; returns its stderr.
    pub fn stop(self) -> String {
        self.signal("TERM");
        let (code, stderr) = self.ends();
        assert_eq!(code, Some(0), "{stderr}");
        stderr
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A change that a file has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub id: String,
    pub entered: bool,
    /// Neither an entry nor an exit.
    pub updated: bool,
    pub audience: String,
    pub key: String,
    /// Ms since the epoch.
    pub at: i64,
    pub reason: String,
    pub row: serde_json::Value,
    pub previous_row: serde_json::Value,
}

impl Change {
    /// As `entry keen u-1 event`.
    pub fn text(&self) -> String {
        let kind = match self.updated {
            true => "update",
            false if self.entered => "entry",
            false => "exit",
        };
        format!("{kind} {} {} {}", self.audience, self.key, self.reason)
    }
}

/// The changes in a file, which may not be there yet; without a last line that is not whole.
pub fn changes(path: &Path) -> Vec<Change> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    parse(whole)
}

/// The changes in a text.
pub fn parse(text: &str) -> Vec<Change> {
    let change = |line: &str| {
        let mut message: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let field = |name: &str| message[name].as_str().unwrap_or_else(|| panic!("no {name} in {line}")).to_owned();
        let at: jiff::Timestamp = field("at").parse().expect("a time");
        Change {
            id: field("id"),
            entered: field("type") == "entry",
            updated: field("type") == "update",
            audience: field("audience_id"),
            key: field("key"),
            at: at.as_millisecond(),
            reason: field("reason"),
            row: message["row"].take(),
            previous_row: message["previous_row"].take(),
        }
    };
    text.lines().map(change).collect()
}

/// Returns the members that changes add up to. Panics if entries and exits do not alternate, beginning with an entry,
/// or an id comes twice.
pub fn members(changes: &[Change]) -> BTreeSet<(String, String)> {
    let mut ids: BTreeMap<&str, &Change> = BTreeMap::new();
    let mut members = BTreeSet::new();
    for change in changes {
        if let Some(before) = ids.insert(&change.id, change) {
            panic!("an id comes twice: {before:?}, {change:?}");
        }
        let place = (change.audience.clone(), change.key.clone());
        if change.updated {
            assert!(members.contains(&place), "only a member is updated: {change:?}");
            continue;
        }
        let alternates = if change.entered { members.insert(place.clone()) } else { members.remove(&place) };
        let of = || changes.iter().filter(|of| (&of.audience, &of.key) == (&place.0, &place.1)).collect::<Vec<_>>();
        assert!(alternates, "entries and exits do not alternate: {:#?}", of());
    }
    members
}

/// A file of addresses for so many processes, on ports that were free a moment ago.
pub fn hosts(folder: &Path, processes: usize) -> PathBuf {
    let bound: Vec<std::net::TcpListener> =
        (0..processes).map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port")).collect();
    let lines = bound.iter().map(|listener| format!("{}\n", listener.local_addr().expect("it is bound")));
    let path = folder.join("hosts");
    std::fs::write(&path, lines.collect::<String>()).expect("the folder can be written");
    path
}

/// Starts all processes of a job.
pub fn start_all(folder: &Path, processes: usize, workers: &str) -> Vec<Process> {
    hosts(folder, processes);
    let number = processes.to_string();
    let start = |process: usize| {
        let process = process.to_string();
        Process::start(folder, &["run", "job.yaml", "-h", "hosts", "-n", &number, "-p", &process, "-w", workers])
    };
    (0..processes).map(start).collect()
}
