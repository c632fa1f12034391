//! Columns of parents, as a stranger would write them: over one step and several, live ones and rows that move, `now()`, and pulls of a job
//! that runs.

use crate::related::wait_for;
use crate::support::rows::{lines, replayed, run, strings, write_parquet};
use crate::traits::{ask, checkpointed, now, start};
use arrow_array::{ArrayRef, TimestampMillisecondArray};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

const JOB: &str = r#"
job: tiers
sources: {web: {file: {path: events.jsonl}, format: segment}}
models:
  companies: {parquet: companies.parquet, key: company_id}
  accounts:
    parquet: accounts.parquet
    key: account_id
    columns:
      tier: {type: string, live: {event: upgraded, property: tier}}
      renews: {type: timestamp, live: {event: upgraded, property: renews}}
      company: {type: string, live: {event: upgraded, property: company}}
    belongs_to: {model: companies, foreign_key: company}
  users:
    parquet: users.parquet
    key: user_id
    columns: {account: {type: string, live: {event: joined, property: account}}}
    belongs_to: {model: accounts, foreign_key: account}
events:
  upgraded: {source: web, type: group, model: accounts, properties: {tier: string, renews: timestamp, company: string}}
  joined: {source: web, type: identify, model: users, properties: {account: string}}
  priced: {source: web, type: page, model: users}
audiences:
  gold: {model: users, where: {property: "accounts.tier = 'gold'"}}
  large: {model: users, where: {property: "accounts.companies.size = 'large' and role = 'admin'"}}
  trial: {model: users, where: {property: "accounts.renews > now()"}}
  none: {model: users, where: {property: "accounts.tier is null"}}
  looked: {model: accounts, where: {related: users, where: "accounts.tier = 'gold'", whose: {performed: priced, within: 1h}}}
"#;

/// A message: `10:00:00.000 acme tier=gold`, `10:00:00.000 u-1 account=acme`, `10:00:00.000 u-1 page`.
fn message((number, line): (usize, &str)) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let what = match words[2].split_once('=') {
        None => r#""type":"page""#.to_owned(),
        Some((name, value)) => {
            let kind = if name == "account" { "identify" } else { "group" };
            let value = if value == "null" { value.to_owned() } else { format!("\"{value}\"") };
            format!(r#""type":"{kind}","traits":{{"{name}":{value}}}"#)
        }
    };
    format!(
        "{{\"timestamp\":\"2026-11-23T{}Z\",\"userId\":\"{}\",\"messageId\":\"m-{number}\",{what}}}\n",
        words[0], words[1]
    )
}

/// Replays events over four users: `u-1`, an admin, and `u-2` of `acme`, a basic account of the large `c-1`; `u-3`, an admin, of `bolt`, a gold
/// account of the small `c-2`; `u-4` of an account that has no row.
fn check(events: &str, want: &str) {
    for workers in ["1", "2", "3"] {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let folder = folder.path();
        std::fs::write(folder.join("job.yaml"), JOB).expect("the folder can be written");
        let messages: String = events.trim().lines().enumerate().map(message).collect();
        std::fs::write(folder.join("events.jsonl"), messages).expect("the folder can be written");
        let table = |name: &str, columns: Vec<(&'static str, Vec<&str>)>| {
            let columns = columns.into_iter().map(|(name, values)| (name, strings(&values))).collect();
            write_parquet(&folder.join(name), columns);
        };
        table("companies.parquet", vec![("company_id", vec!["c-1", "c-2"]), ("size", vec!["large", "small"])]);
        let accounts = vec![
            ("account_id", strings(&["acme", "bolt"])),
            ("company", strings(&["c-1", "c-2"])),
            ("tier", strings(&["basic", "gold"])),
            ("renews", Arc::new(TimestampMillisecondArray::from(vec![None, None])) as ArrayRef),
        ];
        write_parquet(&folder.join("accounts.parquet"), accounts);
        table(
            "users.parquet",
            vec![
                ("user_id", vec!["u-1", "u-2", "u-3", "u-4"]),
                ("account", vec!["acme", "acme", "bolt", "gone"]),
                ("role", vec!["admin", "member", "admin", "member"]),
            ],
        );
        let ends = "2026-11-24T00:00:00Z";
        assert_eq!(
            replayed(folder, &["-w", workers, "--until", ends, "--now", ends]),
            lines(want),
            "{workers} workers"
        );
    }
}

#[test]
fn users_change_at_the_ms_at_which_their_account_does_and_moving_to_another_counts() {
    check(
        "
        10:00:00.000 nobody page
        10:10:00.000 acme tier=gold
        10:20:00.000 u-1 account=bolt
        10:30:00.001 acme tier=null
        10:40:00.000 u-3 account=acme
        10:50:00.000 bolt company=c-1
        10:51:00.000 bolt company=c-9
        ",
        "
        10:00:00.000 u-3 entry gold snapshot
        10:00:00.000 u-1 entry large snapshot
        10:00:00.000 u-4 entry none snapshot
        10:10:00.000 u-1 entry gold trait
        10:10:00.000 u-2 entry gold trait
        10:20:00.000 u-1 exit large trait
        10:30:00.001 u-2 exit gold trait
        10:30:00.001 u-2 entry none trait
        10:40:00.000 u-3 exit gold trait
        10:40:00.000 u-3 entry large trait
        10:40:00.000 u-3 entry none trait
        10:50:00.000 u-1 entry large trait
        10:51:00.000 u-1 exit large trait
        ",
    );
}

#[test]
fn a_moment_of_an_account_is_one_of_its_users_and_rows_count_for_it_by_what_it_says() {
    check(
        "
        10:00:00.000 u-2 page
        10:05:00.000 acme renews=2026-11-23T10:30:00.007Z
        10:10:00.000 u-4 account=acme
        10:20:00.000 u-1 account=null
        10:25:00.000 acme tier=gold
        10:27:00.000 acme renews=2026-11-23T10:29:00.000Z
        ",
        "
        10:00:00.000 u-3 entry gold snapshot
        10:00:00.000 u-1 entry large snapshot
        10:00:00.000 u-4 entry none snapshot
        10:05:00.000 u-1 entry trial trait
        10:05:00.000 u-2 entry trial trait
        10:10:00.000 u-4 exit none trait
        10:10:00.000 u-4 entry trial trait
        10:20:00.000 u-1 exit large trait
        10:20:00.000 u-1 entry none trait
        10:20:00.000 u-1 exit trial trait
        10:25:00.000 u-2 entry gold trait
        10:25:00.000 u-4 entry gold trait
        10:25:00.000 acme entry looked trait
        10:29:00.000 u-2 exit trial expiry
        10:29:00.000 u-4 exit trial expiry
        11:00:00.000 acme exit looked expiry
        ",
    );
}

/// A job that runs, with pulls of both models.
const LIVE: &str = r#"
job: tiers
sources: {web: {file: {path: events.jsonl, follow: true}, format: segment}}
models:
  accounts:
    parquet: accounts.parquet
    key: account_id
    refresh: manual
    columns: {tier: {type: string, live: {event: upgraded, property: tier}}}
  users: {parquet: users.parquet, key: user_id, refresh: manual, belongs_to: {model: accounts, foreign_key: account}}
events: {upgraded: {source: web, type: group, model: accounts, properties: {tier: string}}}
audiences:
  gold: {model: users, where: {property: "accounts.tier = 'gold'"}}
  rest: {model: users, where: {property: "accounts.tier is null"}}
syncs: {crm: {to: {file: {path: changes.jsonl}}}}
state: {url: state, checkpoint_every: 100ms}
api: {listen: "127.0.0.1:0"}
"#;

/// Writes a table in place of the one that is there.
fn table(folder: &Path, name: &str, columns: &[(&'static str, &[&str])]) {
    let columns = columns.iter().map(|(name, values)| (*name, strings(values))).collect();
    write_parquet(&folder.join("_table"), columns);
    std::fs::rename(folder.join("_table"), folder.join(name)).expect("the folder can be written");
}

#[test]
fn pulls_of_parents_and_of_rows_and_events_change_members_and_a_kill_forgets_none_of_it() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let folder = folder.path();
    std::fs::write(folder.join("job.yaml"), LIVE).expect("the folder can be written");
    std::fs::write(folder.join("events.jsonl"), "").expect("the folder can be written");
    let accounts = |tiers: &[(&str, &str)]| {
        let (keys, tiers): (Vec<&str>, Vec<&str>) = tiers.iter().copied().unzip();
        table(folder, "accounts.parquet", &[("account_id", &keys), ("tier", &tiers)]);
    };
    let users = |of: [&str; 3]| {
        table(folder, "users.parquet", &[("user_id", &["u-1", "u-2", "u-3"]), ("account", &of)]);
    };
    accounts(&[("acme", "basic"), ("bolt", "gold")]);
    users(["acme", "acme", "bolt"]);
    let (mut running, url) = start(folder, "3");
    let known = wait_for(folder, 0, &["entry gold u-3 definition"]);
    let why = ask(&url, &["why", "users", "u-3", "gold"]);
    assert!(why.contains("accounts.tier is \"gold\": the row belongs to `bolt`"), "{why}");

    // The row of a parent changes, is deleted, and comes again.
    accounts(&[("acme", "gold"), ("bolt", "basic")]);
    ask(&url, &["pull", "accounts", "--wait"]);
    let wanted = ["entry gold u-1 snapshot", "entry gold u-2 snapshot", "exit gold u-3 snapshot"];
    let known = wait_for(folder, known, &wanted);
    accounts(&[("acme", "gold")]);
    ask(&url, &["pull", "accounts", "--wait"]);
    let known = wait_for(folder, known, &["entry rest u-3 snapshot"]);
    checkpointed(folder);
    running.child.kill().expect("it runs");
    running.child.wait().expect("it is ours");

    // With another number of workers, which ask anew for what rows of theirs read.
    let (running, url) = start(folder, "2");
    accounts(&[("acme", "gold"), ("bolt", "gold")]);
    ask(&url, &["pull", "accounts", "--wait"]);
    let known = wait_for(folder, known, &["exit rest u-3 snapshot", "entry gold u-3 snapshot"]);
    users(["bolt", "nowhere", "bolt"]);
    ask(&url, &["pull", "users", "--wait"]);
    let known = wait_for(folder, known, &["exit gold u-2 snapshot", "entry rest u-2 snapshot"]);
    let file = std::fs::OpenOptions::new().append(true).open(folder.join("events.jsonl"));
    let line = format!(r#"{{"type":"group","userId":"bolt","timestamp":{},"traits":{{"tier":null}}}}"#, now());
    file.and_then(|mut file| writeln!(file, "{line}")).expect("the folder can be written");
    let wanted = ["exit gold u-1 trait", "exit gold u-3 trait", "entry rest u-1 trait", "entry rest u-3 trait"];
    wait_for(folder, known, &wanted);
    running.stop("-TERM");
}

#[test]
fn a_column_of_a_parent_where_there_is_none_is_refused_at_its_place_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let folder = folder.path();
    let columns = "columns: {tier: string}";
    let job = LIVE.replace("columns: {tier: {type: string, live: {event: upgraded, property: tier}}}", columns);
    let job = job.replace(
        "upgraded: {source: web, type: group, model: accounts",
        "upgraded: {source: web, type: group, model: users",
    );
    table(folder, "users.parquet", &[("user_id", &["u-1"]), ("account", &["a"])]);
    table(folder, "accounts.parquet", &[("account_id", &["a"]), ("tier", &["gold"])]);
    for (condition, message, hint) in [
        (r#"{property: "acounts.tier = 'gold'"}"#, "`users` does not belong to `acounts`", "did you mean `accounts`?"),
        (r#"{property: "accounts.teir = 'gold'"}"#, "model `accounts` has no column `teir`", "did you mean `tier`?"),
        (r#"{property: "users.account = 'gold'"}"#, "the row is one of `users` itself", "without the model"),
        (
            r#"{property: "accounts.users.account = 'gold'"}"#,
            "`accounts` does not belong to `users`, but `users` to `accounts`",
            "a `related: users` condition is about its rows",
        ),
        (
            r#"{performed: upgraded, where: "accounts.tier = 'gold'", within: 1h}"#,
            "predicates on events read no columns of models",
            "put a `property` condition on the key's row beside it",
        ),
        (r#"{performed: upgraded, sum: accounts.tier, at_least: 1, within: 1h}"#, "`accounts.tier`", "tier"),
    ] {
        let job = job.replace("{property: \"accounts.tier is null\"}", condition);
        std::fs::write(folder.join("job.yaml"), job).expect("the folder can be written");
        let ran = run(folder, &["check", "job.yaml"]);
        assert_eq!(ran.code, Some(2), "{condition}: {}", ran.stderr);
        let text = ran.stderr;
        assert!(text.contains("audiences.rest.where") && text.contains(message) && text.contains(hint), "{text}");
    }
    let included = job.replace("crm: {to", "crm: {include: [accounts.tier], to");
    std::fs::write(folder.join("job.yaml"), included).expect("the folder can be written");
    let text = run(folder, &["check", "job.yaml"]).stderr;
    let message = "`accounts.tier` is a column of a parent, which only predicates read: messages carry columns of the member's own row";
    assert!(text.contains(message), "{text}");
}
