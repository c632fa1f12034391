//! Conditions across models, as a stranger would write them: rows whose own key meets a condition, rows that move, several parents.

use crate::support::process::until;
use crate::support::receiver::get_text;
use crate::support::rows::{lines, replayed, run, strings, write_parquet};
use crate::traits::{ask, checkpointed, now, start};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;

const JOB: &str = "
job: teams
sources: {web: {file: {path: events.jsonl}, format: segment}}
models:
  companies: {parquet: companies.parquet, key: company_id}
  accounts: {parquet: accounts.parquet, key: account_id, belongs_to: {model: companies, foreign_key: company}}
  users:
    parquet: users.parquet
    key: user_id
    columns: {account: {type: string, live: {event: grouped, property: account}}}
    belongs_to: {model: accounts, foreign_key: account}
events:
  priced: {source: web, type: page, model: users}
  seen: {source: web, type: page, model: accounts, foreign_key: context.groupId}
  grouped: {source: web, type: identify, model: users, properties: {account: string}}
audiences:
";

/// A message: `10:00:00.000 u-1 page [account]`, `10:00:00.000 u-1 joins account`.
fn message(line: &str, number: usize) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let what = match &words[2..] {
        ["page"] => r#""type":"page""#.to_owned(),
        ["page", account] => format!(r#""type":"page","context":{{"groupId":"{account}"}}"#),
        ["joins", "nobody"] => r#""type":"identify","traits":{"account":null}"#.to_owned(),
        ["joins", account] => format!(r#""type":"identify","traits":{{"account":"{account}"}}"#),
        other => panic!("no message is {other:?}"),
    };
    format!(r#"{{"timestamp":"2026-11-23T{}Z","userId":"{}","messageId":"m-{number}",{what}}}"#, words[0], words[1])
}

/// Replays events over four users, of whom `u-1` and `u-2` are admins of `acme`, `u-3` a member of it and `u-4` an admin of `bolt`.
fn changes(folder: &Path, audiences: &str, events: &str, workers: &str) -> String {
    std::fs::write(folder.join("job.yaml"), format!("{JOB}{audiences}")).expect("the folder can be written");
    let messages: String = events.trim().lines().enumerate().map(|(i, line)| message(line, i) + "\n").collect();
    std::fs::write(folder.join("events.jsonl"), messages).expect("the folder can be written");
    let table = |name: &str, columns: Vec<(&'static str, Vec<&str>)>| {
        let columns = columns.into_iter().map(|(name, values)| (name, strings(&values))).collect();
        write_parquet(&folder.join(name), columns);
    };
    table("companies.parquet", vec![("company_id", vec!["c-1"])]);
    table("accounts.parquet", vec![("account_id", vec!["acme", "bolt"]), ("company", vec!["c-1", "c-1"])]);
    table(
        "users.parquet",
        vec![
            ("user_id", vec!["u-1", "u-2", "u-3", "u-4"]),
            ("account", vec!["acme", "acme", "acme", "bolt"]),
            ("role", vec!["admin", "admin", "member", "admin"]),
        ],
    );
    let ends = "2026-11-24T00:00:00Z";
    replayed(folder, &["-w", workers, "--until", ends, "--now", ends])
}

fn check(audiences: &str, events: &str, want: &str) {
    for workers in ["1", "2", "3"] {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let found = changes(folder.path(), audiences, events, workers);
        assert_eq!(found, lines(want), "{workers} workers");
    }
}

const TWO_ADMINS: &str = "
  two_admins:
    model: accounts
    where:
      related: users
      where: role = 'admin'
      whose: {performed: priced, at_least: 2, within: 1h}
      at_least: 2
";

#[test]
fn an_account_enters_by_its_second_user_and_leaves_at_the_ms_at_which_a_window_of_one_ends() {
    check(
        TWO_ADMINS,
        "
        10:00:00.000 u-1 page
        10:01:00.000 u-1 page
        10:02:00.000 u-3 page
        10:03:00.000 u-3 page
        10:04:00.000 u-4 page
        10:05:00.000 u-4 page
        10:10:00.000 u-2 page
        10:20:00.007 u-2 page
        ",
        "
        10:20:00.007 acme entry two_admins event
        11:00:00.000 acme exit two_admins expiry
        ",
    );
}

#[test]
fn a_user_who_moves_counts_for_the_other_account_from_that_ms_on() {
    check(
        TWO_ADMINS,
        "
        10:00:00.000 u-1 page
        10:00:00.000 u-1 page
        10:00:00.000 u-2 page
        10:00:00.000 u-2 page
        10:00:00.000 u-4 page
        10:00:00.000 u-4 page
        10:10:00.000 u-2 joins bolt
        10:20:00.000 u-2 joins nobody
        10:30:00.000 u-2 joins acme
        ",
        "
        10:00:00.000 acme entry two_admins event
        10:10:00.000 acme exit two_admins trait
        10:10:00.000 bolt entry two_admins trait
        10:20:00.000 bolt exit two_admins trait
        10:30:00.000 acme entry two_admins trait
        11:00:00.000 acme exit two_admins expiry
        ",
    );
}

#[test]
fn all_is_not_of_whose_not_and_conditions_go_over_several_models() {
    let audiences = "
  everybody_looked:
    model: accounts
    where:
      all:
        - {related: users}
        - not: {related: users, whose: {not: {performed: priced, within: 1h}}}
  both_accounts:
    model: companies
    where: {related: accounts, whose: {related: users, whose: {performed: priced, within: 1h}}, exactly: 2}
";
    check(
        audiences,
        "
        10:00:00.000 u-1 page
        10:01:00.000 u-4 page
        10:02:00.000 u-2 page
        10:03:00.000 u-3 page
        ",
        "
        10:01:00.000 c-1 entry both_accounts event
        10:01:00.000 bolt entry everybody_looked event
        10:03:00.000 acme entry everybody_looked event
        11:00:00.000 acme exit everybody_looked expiry
        11:01:00.000 c-1 exit both_accounts expiry
        11:01:00.000 bolt exit everybody_looked expiry
        ",
    );
}

#[test]
fn a_message_is_an_event_of_a_user_and_of_an_account_by_two_foreign_keys() {
    let audiences = "
  lookers: {model: users, where: {performed: priced, at_least: 2, within: 1h}}
  looked_at: {model: accounts, where: {performed: seen, at_least: 2, within: 1h}}
";
    check(
        audiences,
        "
        10:00:00.000 u-1 page acme
        10:01:00.000 u-2 page acme
        10:02:00.000 u-2 page
        ",
        "
        10:01:00.000 acme entry looked_at event
        10:02:00.000 u-2 entry lookers event
        11:00:00.000 acme exit looked_at expiry
        11:01:00.000 u-2 exit lookers expiry
        ",
    );
}

/// A job that runs: whoever looks at prices counts for an account, and whose role is admin.
const LIVE: &str = r#"
job: teams
sources: {web: {file: {path: events.jsonl, follow: true}, format: segment}}
models:
  accounts: {parquet: accounts.parquet, key: account_id, refresh: manual}
  users: {parquet: users.parquet, key: user_id, refresh: manual, belongs_to: {model: accounts, foreign_key: account}}
events: {priced: {source: web, type: page, model: users}}
audiences:
  two: {model: accounts, where: {related: users, whose: {performed: priced, within: 1h}, at_least: 2}}
  partly: {model: accounts, where: {related: users, whose: {property: "role = 'admin'"}, between: [1, 39]}}
  members: {model: users, where: {property: "role = 'member'"}}
syncs: {crm: {to: {file: {path: changes.jsonl}}}}
state: {url: state, checkpoint_every: 100ms}
api: {listen: "127.0.0.1:0"}
"#;

/// Writes forty admins, `u-0` to `u-39`, of an account; `leaving` of them have gone.
fn admins(folder: &Path, account: &str, leaving: usize) {
    let keys: Vec<String> = (leaving..40).map(|user| format!("u-{user}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let (accounts, roles) = (vec![account; keys.len()], vec!["admin"; keys.len()]);
    let columns = vec![("user_id", strings(&keys)), ("account", strings(&accounts)), ("role", strings(&roles))];
    write_parquet(&folder.join("_users.parquet"), columns);
    std::fs::rename(folder.join("_users.parquet"), folder.join("users.parquet")).expect("the folder can be written");
}

/// Appends a look at prices.
fn looks(folder: &Path, user: &str) {
    let file = std::fs::OpenOptions::new().append(true).create(true).open(folder.join("events.jsonl"));
    let line = format!(r#"{{"type":"page","userId":"{user}","timestamp":{}}}"#, now());
    file.and_then(|mut file| writeln!(file, "{line}")).expect("the folder can be written");
}

/// Returns the changes so far, each as `type audience key reason`, with its time.
fn committed(folder: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(folder.join("changes.jsonl")).unwrap_or_default();
    let change = |line: &str| {
        let change: serde_json::Value = serde_json::from_str(line).expect("a change is JSON");
        let field = |name: &str| change[name].as_str().unwrap_or_else(|| panic!("no {name} in {line}")).to_owned();
        (["type", "audience_id", "key", "reason"].map(field).join(" "), field("at"))
    };
    // The last line may be half written.
    text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(change).collect()
}

/// Waits for changes beyond the first `known`, in any order; returns how many there are then.
pub fn wait_for(folder: &Path, known: usize, wanted: &[&str]) -> usize {
    let new = || committed(folder).split_off(known);
    until(&|| format!("{wanted:?} come: {:?}", new()), || new().len() >= wanted.len());
    let found: BTreeSet<String> = new().into_iter().map(|(text, _)| text).collect();
    assert_eq!(found, wanted.iter().map(|text| (*text).to_owned()).collect());
    known + wanted.len()
}

#[test]
fn an_account_enters_by_its_second_user_and_leaves_when_a_pull_moves_that_user_and_a_kill_forgets_none_of_it() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let folder = folder.path();
    std::fs::write(folder.join("job.yaml"), LIVE).expect("the folder can be written");
    std::fs::write(folder.join("events.jsonl"), "").expect("the folder can be written");
    let accounts = vec![("account_id", strings(&["acme", "bolt"]))];
    write_parquet(&folder.join("accounts.parquet"), accounts);
    admins(folder, "acme", 0);
    let (mut running, url) = start(folder, "3");
    looks(folder, "u-1");
    looks(folder, "u-1");
    looks(folder, "u-7");
    let known = wait_for(folder, 0, &["entry two acme event"]);
    let why: serde_json::Value =
        serde_json::from_str(&ask(&url, &["why", "accounts", "acme", "two", "--json"])).expect("it is JSON");
    let condition = &why["audiences"][0]["condition"];
    assert_eq!((&condition["value"], &condition["threshold"]), (&2.into(), &"at_least 2".into()), "{why}");
    let port = url.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("the url has a port");
    let definition: serde_json::Value =
        serde_json::from_str(&get_text(port, "/v1/definitions/two")).expect("the answer is JSON");
    let counted = &definition["condition"];
    assert_eq!((&counted["keys"], &counted["conditions"][0]["keys"]), (&1.into(), &2.into()), "{definition}");
    checkpointed(folder);
    running.child.kill().expect("it runs");
    running.child.wait().expect("it is ours");

    // All of an account's rows move in one pull, at one ms on all workers: at no time some are there and some are not.
    let (running, url) = start(folder, "2");
    admins(folder, "bolt", 0);
    ask(&url, &["pull", "users", "--wait"]);
    let known = wait_for(folder, known, &["exit two acme snapshot", "entry two bolt snapshot"]);
    let times: BTreeSet<String> = committed(folder).split_off(known - 2).into_iter().map(|(_, at)| at).collect();
    assert_eq!(times.len(), 1, "{times:?}");

    // A row that is deleted leaves at the ms of the others of its parent.
    admins(folder, "bolt", 2);
    ask(&url, &["pull", "users", "--wait"]);
    let known = wait_for(folder, known, &["exit two bolt snapshot", "entry partly bolt snapshot"]);
    looks(folder, "u-20");
    wait_for(folder, known, &["entry two bolt event"]);
    running.stop("-TERM");
}

#[test]
fn explain_describes_the_facts_of_rows_that_decide_whether_they_count() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    changes(folder.path(), TWO_ADMINS, "10:00:00.000 u-1 page", "1");
    for args in [&["explain", "job.yaml"][..], &["explain", "job.yaml", "two_admins"]] {
        let ran = run(folder.path(), args);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let text = ran.stdout;
        let (before, _) = text.split_once(" decide, at least 2").expect("a fact that rows decide");
        let (_, deciding) = before.rsplit_once("where ").expect("it names what decides");
        assert!(deciding.split(", ").count() > 1, "{deciding}");
        for fact in deciding.split(", ") {
            assert!(text.contains(&format!("\n  fact {fact} ")), "{fact} is not described:\n{text}");
        }
        assert!(text.contains(" of accounts\n    holds ") && text.contains("\nevent priced\n"), "{text}");
    }
}
