//! The documented examples: a job, some events, and the changes they must give, in text a stranger can read.

use crate::support::rows::{lines, numbers, replayed, strings, write_parquet};
use std::path::Path;

const SHOP: &str = "
job: shop
sources: {web: {file: {path: events.jsonl}, format: segment}}
models: {users: {parquet: users.parquet, key: user_id}}
events:
  pricing_viewed: {source: web, type: page, model: users, properties: {path: string}}
  order_completed: {source: web, type: track, name: Order Completed, model: users}
audiences:
";

/// A message: `10:00:00.000 u-1 page /pricing [id]`, `10:00:00.000 u-1 order [id]`.
fn message(line: &str, number: usize) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let id = |at: usize| words.get(at).map_or_else(|| format!("m-{number}"), |id| (*id).to_owned());
    let (what, id) = match words[2] {
        "page" => (format!(r#""type":"page","name":"Page","properties":{{"path":"{}"}}"#, words[3]), id(4)),
        "order" => (r#""type":"track","event":"Order Completed","properties":{}"#.to_owned(), id(3)),
        other => panic!("no message is a {other}"),
    };
    format!(r#"{{"timestamp":"2026-11-23T{}Z","userId":"{}","messageId":"{id}",{what}}}"#, words[0], words[1])
}

/// Replays events over `users` (key and lifetime value) and returns the changes, one a line.
fn changes(folder: &Path, audiences: &str, users: &[(&str, f64)], events: &str, flags: &[&str]) -> String {
    std::fs::write(folder.join("job.yaml"), format!("{SHOP}{audiences}")).expect("the folder can be written");
    let messages: String = events.trim().lines().enumerate().map(|(i, line)| message(line, i) + "\n").collect();
    std::fs::write(folder.join("events.jsonl"), messages).expect("the folder can be written");
    let (keys, ltv): (Vec<&str>, Vec<f64>) = users.iter().copied().unzip();
    write_parquet(&folder.join("users.parquet"), vec![("user_id", strings(&keys)), ("ltv", numbers(&ltv))]);
    replayed(folder, flags)
}

fn check(audiences: &str, users: &[(&str, f64)], events: &str, flags: &[&str], want: &str) {
    let folder = tempfile::tempdir().expect("a folder for the test");
    assert_eq!(changes(folder.path(), audiences, users, events, flags), lines(want));
}

const HIGH_INTENT: &str = "
  high_intent:
    model: users
    where:
      all:
        - {performed: pricing_viewed, where: \"path = '/pricing'\", at_least: 3, within: 4h}
        - property: ltv > 300
        - not: {performed: order_completed, within: 5m}
";

#[test]
fn three_pricing_views_in_four_hours_with_lifetime_value_over_300() {
    check(
        HIGH_INTENT,
        &[("u-1", 301.0), ("u-2", 300.0)],
        "
        10:00:00.000 u-1 page /pricing
        10:00:00.000 u-2 page /pricing
        10:30:00.000 u-1 page /pricing
        10:30:00.000 u-2 page /pricing
        10:40:00.000 u-1 page /help
        11:00:00.000 u-1 page /pricing
        11:00:00.000 u-2 page /pricing
        ",
        &["--until", "2026-11-23T20:00:00Z"],
        "
        11:00:00.000 u-1 entry high_intent event
        14:00:00.000 u-1 exit high_intent expiry
        ",
    );
}

#[test]
fn an_order_in_the_last_five_minutes_suppresses() {
    check(
        HIGH_INTENT,
        &[("u-1", 1000.0)],
        "
        10:00:00.000 u-1 page /pricing
        10:01:00.000 u-1 page /pricing
        10:02:00.000 u-1 page /pricing
        10:03:00.500 u-1 order
        10:20:00.000 u-9 page /
        ",
        &[],
        "
        10:02:00.000 u-1 entry high_intent event
        10:03:00.500 u-1 exit high_intent event
        10:08:00.500 u-1 entry high_intent expiry
        ",
    );
}

#[test]
fn an_exit_is_dated_at_ts_plus_window_with_no_further_event() {
    let buyers = "\n  buyers: {model: users, where: {performed: order_completed, within: 90s}}\n";
    let events = "10:00:00.123 u-1 order";
    check(buyers, &[("u-1", 0.0)], events, &[], "10:00:00.123 u-1 entry buyers event");
    let both = "10:00:00.123 u-1 entry buyers event\n10:01:30.123 u-1 exit buyers expiry";
    check(buyers, &[("u-1", 0.0)], events, &["--until", "2026-11-23T10:01:30.123Z"], both);
    check(
        buyers,
        &[("u-1", 0.0)],
        events,
        &["--until", "2026-11-23T10:01:30.122Z"],
        "10:00:00.123 u-1 entry buyers event",
    );
}

#[test]
fn a_key_that_is_not_in_the_snapshot_is_no_member() {
    let buyers = "\n  buyers: {model: users, where: {performed: order_completed, within: 90s}}\n";
    check(buyers, &[("u-1", 0.0)], "10:00:00.123 u-2 order", &[], "");
}

#[test]
fn a_repeat_changes_nothing_while_its_event_is_held() {
    let twice = "\n  twice: {model: users, where: {performed: order_completed, at_least: 2, within: 10s}}\n";
    check(
        twice,
        &[("u-1", 0.0)],
        "
        10:00:00.000 u-1 order a
        10:00:01.000 u-1 order a
        10:00:02.000 u-1 order b
        10:00:20.000 u-1 order a
        10:00:21.000 u-1 order c
        ",
        &[],
        "
        10:00:02.000 u-1 entry twice event
        10:00:10.000 u-1 exit twice expiry
        10:00:21.000 u-1 entry twice event
        ",
    );
}

#[test]
fn leaving_and_entering_in_the_same_ms_is_no_change() {
    let buyers = "\n  buyers: {model: users, where: {performed: order_completed, within: 10s}}\n";
    let events = "10:00:00.000 u-1 order\n10:00:10.000 u-1 order";
    check(
        buyers,
        &[("u-1", 0.0)],
        events,
        &["--until", "2026-11-23T10:00:30Z"],
        "
        10:00:00.000 u-1 entry buyers event
        10:00:20.000 u-1 exit buyers expiry
    ",
    );
}

#[test]
fn what_came_before_from_is_history() {
    let buyers = "\n  buyers: {model: users, where: {performed: order_completed, within: 10s}}\n";
    let events = "10:00:00.000 u-1 order\n10:00:07.000 u-2 order\n10:00:09.000 u-3 order";
    let users = &[("u-1", 0.0), ("u-2", 0.0), ("u-3", 0.0)];
    check(
        buyers,
        users,
        events,
        &["--from", "2026-11-23T10:00:08Z", "--until", "2026-11-23T10:00:12Z"],
        "
        10:00:08.000 u-1 entry buyers event
        10:00:08.000 u-2 entry buyers event
        10:00:09.000 u-3 entry buyers event
        10:00:10.000 u-1 exit buyers expiry
    ",
    );
}
