//! A small shop for tests: users, events as they happen, and the changes that its sync has received.

use crate::support::process::{Change, Process, changes, now, until};
use crate::support::rows::{numbers, strings, write_parquet};
use std::cell::Cell;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A shop in a folder of its own.
pub struct Shop {
    folder: tempfile::TempDir,
    events: Cell<u32>,
    marks: Cell<usize>,
}

/// Users that only mark how far the job is.
const MARKS: usize = 60;

/// What every job of the shop has. `u-0` to `u-9` have 0 to 90 of lifetime value.
const BEGINNING: &str = "
job: shop
sources: {web: {file: {path: events.jsonl, follow: true}, format: segment}}
models: {users: {parquet: users.parquet, key: user_id}}
events:
  bought: {source: web, type: track, name: Bought, model: users}
  viewed: {source: web, type: track, name: Viewed, model: users}
  marked: {source: web, type: track, name: Marked, model: users}
state: {url: state, checkpoint_every: 250ms}
";

/// A sync of everything to `changes.jsonl`.
pub const CRM: &str = "  crm: {to: {file: {path: changes.jsonl}}}\n";

/// A job: its audiences and syncs, each on lines of their own, indented by two.
pub fn job(audiences: &str, syncs: &str) -> String {
    let marked = "  marked: {model: users, where: {performed: marked, within: 7d}}\n";
    format!("{BEGINNING}audiences:\n{marked}{audiences}\nsyncs:\n{syncs}")
}

/// Adds to a job a model `anybody` without Parquet, whose event is `Seen`.
pub fn with_anybody(job: &str) -> String {
    let job = job.replace("models: {", "models: {anybody: {key: id, members: any}, ");
    job.replace("events:\n", "events:\n  seen: {source: web, type: track, name: Seen, model: anybody}\n")
}

/// Adds to a job the accounts that the users belong to: `a-0` has `u-0` to `u-4`, `a-1` the others.
pub fn with_accounts(job: &str) -> String {
    let users = "users: {parquet: users.parquet, key: user_id";
    let belonging = format!("{users}, belongs_to: {{model: accounts, foreign_key: account}}");
    job.replace(users, &format!("accounts: {{parquet: accounts.parquet, key: account_id}}, {belonging}"))
}

impl Shop {
    /// Opens it with a job.
    pub fn new(job: &str) -> Shop {
        let shop = Shop {
            folder: tempfile::tempdir().expect("a folder for the test"),
            events: Cell::new(0),
            marks: Cell::new(0),
        };
        let ltv: Vec<f64> = (0..10).map(|user| f64::from(user) * 10.0).collect();
        shop.users("users.parquet", &ltv);
        write_parquet(
            &shop.path("accounts.parquet"),
            vec![("account_id", strings(&["a-0", "a-1"])), ("tier", strings(&["gold", "basic"]))],
        );
        shop.job(job);
        std::fs::write(shop.path("events.jsonl"), "").expect("the folder can be written");
        shop
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Keeps the folder, to be looked at after a failure.
    pub fn keep(self) -> PathBuf {
        self.folder.keep()
    }

    /// Writes the job file.
    pub fn job(&self, job: &str) {
        std::fs::write(self.path("job.yaml"), job).expect("the folder can be written");
    }

    /// Writes users with their lifetime values; all that serve as marks have none.
    pub fn users(&self, file: &str, ltv: &[f64]) {
        let keys = (0..ltv.len()).map(|user| format!("u-{user}")).chain((0..MARKS).map(|mark| format!("m-{mark}")));
        let keys: Vec<String> = keys.collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let ltv: Vec<f64> = ltv.iter().copied().chain(std::iter::repeat_n(0.0, MARKS)).collect();
        let account = |at: usize| if at < 5 { "a-0" } else { "a-1" };
        let accounts: Vec<&str> = (0..keys.len()).map(account).collect();
        let columns = vec![("user_id", strings(&keys)), ("ltv", numbers(&ltv)), ("account", strings(&accounts))];
        write_parquet(&self.path(file), columns);
    }

    /// Appends an event that happens now; returns its time.
    pub fn happens(&self, what: &str, user: &str) -> i64 {
        let at = now();
        self.happened(what, user, at);
        at
    }

    /// Appends so many events that happen now.
    pub fn happens_often(&self, what: &str, user: &str, times: usize) {
        for _ in 0..times {
            self.happens(what, user);
        }
    }

    /// Appends an event that happened at a time.
    pub fn happened(&self, what: &str, user: &str, at: i64) {
        let id = self.events.replace(self.events.get() + 1);
        let events = std::fs::OpenOptions::new().append(true).create(true).open(self.path("events.jsonl"));
        let line = format!(
            "{{\"type\":\"track\",\"event\":\"{what}\",\"userId\":\"{user}\",\"messageId\":\"{id}\",\"timestamp\":{at}}}\n"
        );
        events.and_then(|mut file| file.write_all(line.as_bytes())).expect("the folder can be written");
    }

    pub fn run(&self, args: &[&str]) -> Process {
        let mut all = vec!["run", "job.yaml"];
        all.extend(args);
        Process::start(self.folder(), &all)
    }

    /// Runs it until it is live.
    pub fn live(&self, args: &[&str]) -> Process {
        let mut process = self.run(args);
        process.wait_for("live after");
        process
    }

    /// Lets the next of the users that mark how far the job is enter `marked`; returns its key.
    pub fn mark(&self) -> String {
        let mark = format!("m-{}", self.marks.replace(self.marks.get() + 1));
        self.happens("Marked", &mark);
        mark
    }

    /// Waits until the changes of all events so far are committed and written.
    pub fn wait_until_committed(&self, process: &Process) {
        let mark = self.mark();
        let there = || self.changes().iter().any(|change| change.audience == "marked" && change.key == mark);
        until(&|| format!("{mark} is committed\n{}", process.stderr()), there);
    }

    /// Waits until a checkpoint is published that began from now on: all that is committed now is in it.
    pub fn checkpointed(&self, process: &Process) {
        let newest = || {
            let manifests = std::fs::read_dir(self.path("state/manifests")).into_iter().flatten();
            let number = |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
            manifests.filter_map(number).max().and_then(|name| name.parse::<u64>().ok()).unwrap_or(0)
        };
        // The next one may have begun before.
        let enough = newest() + 2;
        until(&|| format!("checkpoints are made\n{}", process.stderr()), || newest() >= enough);
    }

    /// Returns the changes in `changes.jsonl`.
    pub fn changes(&self) -> Vec<Change> {
        changes(&self.path("changes.jsonl"))
    }
}

/// Returns the changes without those of marks.
pub fn without_marks(changes: Vec<Change>) -> Vec<Change> {
    changes.into_iter().filter(|change| change.audience != "marked").collect()
}
