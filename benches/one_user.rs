//! All events of one user: what an event costs while so many others of the same user are in its window; and all users of one account.
//!
//! Replays files of events of one user, in order and in no order at all, and prints µs per event, reading and matching included, by the
//! number of events in the window. With a count of 100,000, with each aggregate and with each sequence the curve is to be flat but for a logarithm. So it
//! is for events of the users of one account, by the number of its users. A change of what its users show costs each of them once.
//!
//! ```text
//! cargo bench --bench one_user
//! cargo bench --bench one_user -- --events 50000
//! ```

// A benchmark's figures are its output.
#![allow(clippy::print_stdout)]

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use std::fmt::Write;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// 2026-11-23 10:00:00 UTC, ms.
const START: u64 = 1_795_428_000_000;
/// Between two events, ms.
const STEP: u64 = 20;
/// How many events are in the window.
const IN_WINDOW: [u64; 4] = [100, 1_000, 10_000, 100_000];

/// Conditions; `WITHIN` is their window.
const CONDITIONS: [(&str, &str); 8] = [
    ("3 or more", "{performed: ordered, at_least: 3, within: WITHIN}"),
    ("100,000 or more", "{performed: ordered, at_least: 100000, within: WITHIN}"),
    ("sum", "{performed: ordered, sum: revenue, at_least: 1000000000, within: WITHIN}"),
    ("average", "{performed: ordered, avg: revenue, at_least: 49, within: WITHIN}"),
    ("greatest value", "{performed: ordered, max: revenue, between: [10, 98], within: WITHIN}"),
    ("10,000 distinct values", "{performed: ordered, distinct: sku, at_least: 10000, within: WITHIN}"),
    (
        "sequence",
        "{sequence: [{performed: ordered, where: \"revenue > 90\"}, {performed: ordered, where: \"revenue < 10\"}, {performed: ordered, where: \"revenue = 50\"}], within: WITHIN}",
    ),
    (
        "sequence without",
        "{sequence: [{performed: ordered, where: \"revenue > 90\"}, {performed: ordered, where: \"revenue < 10\"}], without: [{performed: ordered, where: \"revenue = 50\"}], within: WITHIN}",
    ),
];

/// About an account and its users.
const ACCOUNT_AUDIENCES: [(&str, &str); 5] = [
    ("no account", "of_users: {model: users, where: {performed: ordered, within: 1s}}"),
    (
        "50 of its users",
        "of_accounts: {model: accounts, where: {related: users, whose: {performed: ordered, within: 1s}, at_least: 50}}",
    ),
    (
        "their scores",
        "of_accounts: {model: accounts, where: {related: users, whose: {performed: ordered, within: 1s}, sum: score, between: [100, 200]}}",
    ),
    (
        "greatest score",
        "of_accounts: {model: accounts, where: {related: users, whose: {performed: ordered, within: 1s}, max: score, exactly: 9}}",
    ),
    ("its plan", "of_users: {model: users, where: {property: \"accounts.plan = 'paid'\"}}"),
];

fn main() {
    let mut events = 200_000;
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(flag) = args.next() {
        assert!(flag == "--events", "`{flag}` is none of --events");
        events = args.next().and_then(|value| value.parse().ok()).expect("`--events` wants a number");
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("one_user");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("the folder for the data can be made");
    println!("bench: µs per event of one user, {events} events, by the number of events in the window");
    for (order, shuffled) in [("in order", false), ("in no order", true)] {
        println!("{order:<24}{}", IN_WINDOW.map(|n| format!("{n:>10}")).concat());
        for (name, condition) in CONDITIONS {
            let costs = IN_WINDOW.map(|in_window| {
                write_events(&folder, events, shuffled.then_some(in_window * STEP));
                write_job(&folder, condition, in_window * STEP);
                replay(&folder).as_secs_f64() * 1e6 / events as f64
            });
            println!("  {name:<22}{}", costs.map(|cost| format!("{cost:>10.2}")).concat());
        }
    }
    println!("bench: µs per event of the users of one account, {events} events, by the number of its users");
    println!("{:<24}{}", "", IN_WINDOW.map(|n| format!("{n:>10}")).concat());
    for (name, audience) in ACCOUNT_AUDIENCES {
        let costs = IN_WINDOW.map(|users| {
            write_account(&folder, users, audience);
            write_orders(&folder, events, users);
            replay(&folder).as_secs_f64() * 1e6 / events as f64
        });
        println!("  {name:<22}{}", costs.map(|cost| format!("{cost:>10.2}")).concat());
    }
    let costs = IN_WINDOW.map(|users| {
        write_account(&folder, users, ACCOUNT_AUDIENCES[ACCOUNT_AUDIENCES.len() - 1].1);
        let changes = (2_000_000 / users).max(20);
        let time = |changes| {
            write_plans(&folder, changes);
            replay(&folder)
        };
        let (with, without) = (time(changes), time(1));
        with.saturating_sub(without).as_secs_f64() * 1e6 / (changes * users) as f64
    });
    println!("  {:<22}{}  each user, by a change of the plan", "", costs.map(|cost| format!("{cost:>10.2}")).concat());
}

/// Writes events of one user; `late`: each is dated up to so many ms before the newest.
fn write_events(folder: &Path, events: u64, late: Option<u64>) {
    let mut random = fastrand::Rng::with_seed(1);
    let mut lines = String::new();
    for i in 0..events {
        let newest = START + i * STEP;
        // Every second event moves the clock on.
        let late = late.filter(|_| i % 2 == 1).map_or(0, |late| random.u64(0..late));
        let at = jiff::Timestamp::from_millisecond((newest - late) as i64).expect("a time of our days");
        let (revenue, sku) = (random.u32(0..100), random.u32(0..20_000));
        writeln!(
            lines,
            "{{\"type\":\"track\",\"event\":\"Ordered\",\"userId\":\"u\",\"messageId\":\"m{i}\",\"timestamp\":\"{at}\",\
             \"properties\":{{\"revenue\":{revenue},\"sku\":\"s{sku}\"}}}}"
        )
        .expect("writing to a string");
    }
    fs::write(folder.join("events.jsonl"), lines).expect("the folder can be written");
}

fn write_job(folder: &Path, condition: &str, within: u64) {
    let condition = condition.replace("WITHIN", &format!("{within}ms"));
    let job = format!(
        "job: one_user
sources: {{web: {{file: {{path: events.jsonl}}, format: segment}}}}
models: {{users: {{key: user_id}}}}
events:
  ordered: {{source: web, type: track, name: Ordered, model: users, properties: {{revenue: number, sku: string}}}}
audiences:
  a: {{model: users, where: {condition}}}
"
    );
    fs::write(folder.join("job.yaml"), job).expect("the folder can be written");
}

/// Writes an account of so many users, and a job with an audience.
fn write_account(folder: &Path, users: u64, audience: &str) {
    let rows = |columns: Vec<(&str, ArrayRef)>, name: &str| {
        let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
        let file = File::create(folder.join(name)).expect("the folder can be written");
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("the schema can be written");
        writer.write(&batch).expect("the file can be written");
        writer.close().expect("the file can be written");
    };
    let ids: StringArray = (0..users).map(|user| Some(format!("u{user}"))).collect();
    let accounts: StringArray = (0..users).map(|_| Some("a")).collect();
    let scores: Int64Array = (0..users as i64).map(|user| Some(user % 10)).collect();
    let users_of = vec![
        ("id", Arc::new(ids) as ArrayRef),
        ("account_id", Arc::new(accounts) as _),
        ("score", Arc::new(scores) as _),
    ];
    rows(users_of, "users.parquet");
    let account = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
    rows(vec![("id", account("a")), ("plan", account("paid"))], "accounts.parquet");
    let job = format!(
        "job: one_account
sources: {{web: {{file: {{path: events.jsonl}}, format: segment}}}}
models:
  accounts: {{parquet: accounts.parquet, key: id, columns: {{plan: {{type: string, live: {{event: planned, property: plan}}}}}}}}
  users: {{parquet: users.parquet, key: id, belongs_to: {{model: accounts, foreign_key: account_id}}, columns: {{score: integer}}}}
events:
  ordered: {{source: web, type: track, name: Ordered, model: users}}
  planned: {{source: web, type: group, model: accounts, foreign_key: groupId, properties: {{plan: string}}}}
audiences:
  {audience}
"
    );
    fs::write(folder.join("job.yaml"), job).expect("the folder can be written");
}

/// Writes events of the users in turn.
fn write_orders(folder: &Path, events: u64, users: u64) {
    let mut lines = String::new();
    for i in 0..events {
        let at = jiff::Timestamp::from_millisecond((START + i * STEP) as i64).expect("a time of our days");
        // Users are far from each other, so that none is in a cache because of its neighbour.
        let user = i * 7_919 % users;
        writeln!(
            lines,
            "{{\"type\":\"track\",\"event\":\"Ordered\",\"userId\":\"u{user}\",\"messageId\":\"m{i}\",\"timestamp\":\"{at}\"}}"
        )
        .expect("writing to a string");
    }
    fs::write(folder.join("events.jsonl"), lines).expect("the folder can be written");
}

/// Writes events that change the plan of the account each time.
fn write_plans(folder: &Path, changes: u64) {
    let mut lines = String::new();
    for i in 0..changes {
        let at = jiff::Timestamp::from_millisecond((START + i * STEP) as i64).expect("a time of our days");
        let plan = if i % 2 == 0 { "trial" } else { "paid" };
        writeln!(
            lines,
            "{{\"type\":\"group\",\"groupId\":\"a\",\"userId\":\"u0\",\"messageId\":\"m{i}\",\"timestamp\":\"{at}\",\
             \"traits\":{{\"plan\":\"{plan}\"}}}}"
        )
        .expect("writing to a string");
    }
    fs::write(folder.join("events.jsonl"), lines).expect("the folder can be written");
}

fn replay(folder: &Path) -> Duration {
    let since = Instant::now();
    let ran = Command::new(env!("CARGO_BIN_EXE_usher"))
        .args(["replay", "job.yaml", "--now", "2027-01-01T00:00:00Z", "--out", "changes.jsonl"])
        .current_dir(folder)
        .output()
        .expect("usher starts");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    since.elapsed()
}
