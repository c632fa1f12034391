//! Live traits of a job that runs: events and pulls set a column in turns, across a kill.

use crate::live::Running;
use crate::support::process::until;
use crate::support::rows::{strings, usher, write_parquet};
use std::io::Write;
use std::path::Path;

const JOB: &str = r#"
job: shop
sources: {web: {file: {path: events.jsonl, follow: true}, format: segment}}
models:
  users:
    parquet: users.parquet
    key: user_id
    refresh: manual
    columns: {plan: {type: string, live: {event: identified, property: plan}}}
events: {identified: {source: web, type: identify, model: users, properties: {plan: string}}}
audiences:
  pro: {model: users, where: {property: plan = 'pro'}}
  paying: {model: users, where: {property: "plan in ('pro', 'basic')"}}
syncs: {crm: {send: [entry, exit, update], include: [plan], to: {file: {path: changes.jsonl}}}}
state: {url: state, checkpoint_every: 100ms}
api: {listen: "127.0.0.1:0"}
"#;

/// Writes the users `a` and `b` with their plans.
fn users(folder: &Path, plans: [&str; 2]) {
    let aside = folder.join("_users.parquet");
    write_parquet(&aside, vec![("user_id", strings(&["a", "b"])), ("plan", strings(&plans))]);
    std::fs::rename(aside, folder.join("users.parquet")).expect("the folder can be written");
}

/// Appends an `identify` call of a time with these traits.
fn identify(folder: &Path, user: &str, at: i64, traits: &str) {
    let file = std::fs::OpenOptions::new().append(true).create(true).open(folder.join("events.jsonl"));
    let line = format!(r#"{{"type":"identify","userId":"{user}","timestamp":{at},"traits":{traits}}}"#);
    file.and_then(|mut file| writeln!(file, "{line}")).expect("the folder can be written");
}

pub fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Returns the changes so far, each as `type audience key reason plan`.
fn changes(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("changes.jsonl")).unwrap_or_default();
    let change = |line: &str| {
        let change: serde_json::Value = serde_json::from_str(line).expect("a change is JSON");
        let field = |name: &str| change[name].as_str().unwrap_or_else(|| panic!("no {name} in {line}")).to_owned();
        let plan = change["row"]["plan"].as_str().unwrap_or("null").to_owned();
        let fields = [field("type"), field("audience_id"), field("key"), field("reason"), plan];
        fields.join(" ")
    };
    // The last line may be half written.
    text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(change).collect()
}

/// Waits for changes beyond the first `known`, in any order; returns how many there are then.
fn wait_for(folder: &Path, known: usize, wanted: &[&str]) -> usize {
    let new = || changes(folder).split_off(known);
    until(&|| format!("{wanted:?} come: {:?}", new()), || new().len() >= wanted.len());
    let mut found = new();
    found.sort();
    assert_eq!(found, wanted);
    known + wanted.len()
}

/// Starts the job; returns it and the url of its API.
pub fn start(folder: &Path, workers: &str) -> (Running, String) {
    let running = Running::start(folder, workers);
    let line = running.wait_for("api on ");
    let url = line.split("api on ").nth(1).expect("the url comes after it").trim().to_owned();
    running.wait_for("live after");
    (running, url)
}

pub fn ask(url: &str, args: &[&str]) -> String {
    let output = usher(Path::new("."), args).env("USHER_URL", url).output().expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Waits until a checkpoint has been published that began from now on.
pub fn checkpointed(folder: &Path) {
    let newest = || {
        let manifests = std::fs::read_dir(folder.join("state/manifests")).into_iter().flatten();
        let number = |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
        manifests.filter_map(number).max().and_then(|name| name.parse::<u64>().ok()).unwrap_or(0)
    };
    let enough = newest() + 2;
    until(&|| "checkpoints are made".to_owned(), || newest() >= enough);
}

#[test]
fn events_and_pulls_set_a_live_column_in_turns_and_a_kill_forgets_none_of_it() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let folder = folder.path();
    std::fs::write(folder.join("job.yaml"), JOB).expect("the folder can be written");
    users(folder, ["free", "pro"]);
    let (mut running, _) = start(folder, "1");
    let known = wait_for(folder, 0, &["entry paying b definition pro", "entry pro b definition pro"]);

    identify(folder, "a", now(), r#"{"plan":"pro"}"#);
    let known = wait_for(folder, known, &["entry paying a trait pro", "entry pro a trait pro"]);
    checkpointed(folder);
    running.child.kill().expect("it runs");
    running.child.wait().expect("it is ours");

    let (running, url) = start(folder, "3");
    let explained: serde_json::Value =
        serde_json::from_str(&ask(&url, &["why", "users", "a", "--json"])).expect("it is JSON");
    assert_eq!((&explained["live"][0]["value"], &explained["live"][0]["origin"]), (&"pro".into(), &"event".into()));
    // A null is a value; what is missing or of another type says nothing.
    identify(folder, "a", now(), r#"{"name":"Ada","plan":{"is":"free"}}"#);
    identify(folder, "b", now(), r#"{"plan":null}"#);
    let known = wait_for(folder, known, &["exit paying b trait pro", "exit pro b trait pro"]);

    // A pull that repeats its values makes them no newer; one with another value does.
    ask(&url, &["pull", "users", "--wait", "--full"]);
    users(folder, ["basic", "pro"]);
    ask(&url, &["pull", "users", "--wait"]);
    let known = wait_for(folder, known, &["exit pro a snapshot pro", "update paying a snapshot basic"]);

    identify(folder, "a", now() - 3_600_000, r#"{"plan":"free"}"#);
    identify(folder, "a", now(), r#"{"plan":"pro"}"#);
    let known = wait_for(folder, known, &["entry pro a trait pro", "update paying a trait pro"]);
    identify(folder, "b", now(), r#"{"plan":"basic"}"#);
    wait_for(folder, known, &["entry paying b trait basic"]);
    running.stop("-TERM");
}
