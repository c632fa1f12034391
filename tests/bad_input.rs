//! Bad input is data: each kind has its message or dead letter, and everything else goes on.

use crate::support::rows::{Ran, numbers, run, strings, write_parquet};
use std::path::Path;

const JOB: &str = "
job: shop
sources: {web: {file: {path: events.jsonl}, format: segment}}
models: {users: {parquet: users.parquet, key: user_id, columns: {ltv: number}}}
events: {bought: {source: web, type: track, name: Bought, model: users, properties: {revenue: number}}}
audiences: {buyers: {model: users, where: {all: [{performed: bought, within: 1h}, {property: ltv > 1}]}}}
dead_letters: {file: {path: dead.jsonl}}
";

fn good(user: &str, second: u32) -> Vec<u8> {
    format!(r#"{{"type":"track","event":"Bought","userId":"{user}","messageId":"{user}-{second}","timestamp":"2026-11-23T10:00:{second:02}Z"}}"#).into_bytes()
}

fn shop(folder: &Path) {
    std::fs::write(folder.join("job.yaml"), JOB).expect("the folder can be written");
    write_parquet(
        &folder.join("users.parquet"),
        vec![("user_id", strings(&["a", "b"])), ("ltv", numbers(&[10.0, 20.0]))],
    );
}

/// Replays one bad line between two good ones; tells the dead letter.
fn between_good_ones(bad: &[u8]) -> (Ran, serde_json::Value) {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    let lines = [good("a", 1), bad.to_vec(), good("b", 2)].join(&b'\n');
    std::fs::write(folder.path().join("events.jsonl"), lines).expect("the folder can be written");
    let ran = run(folder.path(), &["replay", "job.yaml", "--now", "2026-11-24T00:00:00Z"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.stdout.lines().count(), 2, "both good ones enter: {}", ran.stdout);
    let dead = std::fs::read_to_string(folder.path().join("dead.jsonl")).expect("dead letters are written");
    assert_eq!(dead.lines().count(), 1, "{dead}");
    assert!(ran.stderr.contains("read 3 = matched 2 + skipped 0 + dead letters 1"), "{}", ran.stderr);
    (ran, serde_json::from_str(&dead).expect("a dead letter is JSON"))
}

fn dies_of(bad: &[u8], reason: &str, detail: &str) {
    let (_, letter) = between_good_ones(bad);
    assert_eq!(letter["reason"], reason, "{letter}");
    assert_eq!(letter["detail"].as_str().unwrap_or(""), detail, "{letter}");
    assert_eq!(letter["source"], "web");
    assert_eq!(letter["position"], good("a", 1).len() as u64 + 1);
    assert_eq!(letter["length"], bad.len() as u64);
}

fn bought(more: &str) -> Vec<u8> {
    format!(r#"{{"type":"track","event":"Bought",{more}}}"#).into_bytes()
}

#[test]
fn a_malformed_line_is_a_dead_letter() {
    let (_, letter) = between_good_ones(br#"{"type":"track","event":"#);
    assert_eq!(
        (letter["reason"].as_str(), letter["raw"].as_str()),
        (Some("malformed"), Some(r#"{"type":"track","event":"#))
    );
    assert!(letter["detail"].as_str().is_some_and(|detail| detail.contains("byte")), "{letter}");
}

#[test]
fn a_time_that_cannot_be_read_is_a_dead_letter() {
    dies_of(&bought(r#""userId":"a","timestamp":"yesterday""#), "bad_timestamp", "");
    dies_of(&bought(r#""userId":"a","timestamp":"1969-12-31T23:59:59Z""#), "bad_timestamp", "");
    dies_of(&bought(r#""userId":"a""#), "no_timestamp", "");
}

#[test]
fn a_time_in_the_year_9999_ends_no_window() {
    dies_of(&bought(r#""userId":"a","timestamp":"9999-01-01T00:00:00Z""#), "future_timestamp", "");
}

#[test]
fn a_key_of_a_wrong_type_is_a_dead_letter() {
    dies_of(
        &bought(r#""userId":3.0,"timestamp":"2026-11-23T10:00:01Z""#),
        "bad_key",
        "the key is a number but no integer",
    );
    dies_of(&bought(r#""userId":true,"timestamp":"2026-11-23T10:00:01Z""#), "bad_key", "the key is a boolean");
    let long = format!(r#""userId":"{}","timestamp":"2026-11-23T10:00:01Z""#, "x".repeat(1_025));
    dies_of(&bought(&long), "bad_key", "the key is longer than 1,024 bytes");
}

#[test]
fn a_line_of_40_mb_is_a_dead_letter_with_its_first_64_kib() {
    let mut line = br#"{"type":"track","event":""#.to_vec();
    line.resize(40 << 20, b'x');
    let (_, letter) = between_good_ones(&line);
    assert_eq!((letter["reason"].as_str(), letter["length"].as_u64()), (Some("too_large"), Some(40 << 20)));
    assert_eq!(letter["raw"].as_str().map(str::len), Some(64 << 10));
}

#[test]
fn a_hundred_thousand_open_brackets_are_a_dead_letter() {
    let (_, letter) = between_good_ones(&vec![b'['; 100_000]);
    assert_eq!(letter["reason"], "malformed");
    let nested = [br#"{"a":"#.to_vec(), vec![b'['; 100_000]].concat();
    let (_, letter) = between_good_ones(&nested);
    assert_eq!(letter["reason"], "malformed");
}

#[test]
fn what_is_not_utf_8_is_kept_in_base64() {
    let (_, letter) = between_good_ones(b"{\"type\":\"tr\xff\xfeck\"}");
    assert_eq!(
        (letter["reason"].as_str(), letter["raw_base64"].as_str()),
        (Some("malformed"), Some("eyJ0eXBlIjoidHL//mNrIn0="))
    );
}

#[test]
fn a_value_of_a_wrong_type_is_null_and_counted() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let job = JOB.replace("{performed: bought, within: 1h}", "{performed: bought, where: revenue > 1, within: 1h}");
    shop(folder.path());
    std::fs::write(folder.path().join("job.yaml"), job).expect("the folder can be written");
    let line =
        r#"{"type":"track","event":"Bought","userId":"a","timestamp":1795428000000,"properties":{"revenue":[5]}}"#;
    std::fs::write(folder.path().join("events.jsonl"), line).expect("the folder can be written");
    let ran = run(folder.path(), &["replay", "job.yaml", "--now", "2026-11-24T00:00:00Z"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""));
    assert!(
        ran.stderr.contains("read 1 = matched 1 + skipped 0 + dead letters 0; repeats 0; mismatches 1"),
        "{}",
        ran.stderr
    );
}

#[test]
fn an_empty_file_gives_nothing() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    std::fs::write(folder.path().join("events.jsonl"), "").expect("the folder can be written");
    let ran = run(folder.path(), &["replay", "job.yaml"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""));
    assert!(ran.stderr.contains("read 0 = matched 0 + skipped 0 + dead letters 0"), "{}", ran.stderr);
}

#[test]
fn anonymous_blank_and_unknown_messages_are_skipped_and_counted() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    let lines = [
        &bought(r#""userId":null,"timestamp":"yesterday""#)[..],
        b"   ",
        br#"{"type":"page","timestamp":"bad"}"#,
        &good("a", 1),
    ]
    .join(&b'\n');
    std::fs::write(folder.path().join("events.jsonl"), lines).expect("the folder can be written");
    let ran = run(folder.path(), &["replay", "job.yaml", "--now", "2026-11-24T00:00:00Z"]);
    assert!(
        ran.stderr.contains("read 4 = matched 1 + skipped 3 (blank 1, no_key 1, unmatched 1) + dead letters 0"),
        "{}",
        ran.stderr
    );
}

/// A pull that fails at the start: exit 3, the reason and a hint.
fn first_pull(prepare: impl FnOnce(&Path), message: &str, hint: &str) {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    std::fs::write(folder.path().join("events.jsonl"), good("a", 1)).expect("the folder can be written");
    prepare(folder.path());
    let ran = run(folder.path(), &["replay", "job.yaml", "--now", "2026-11-24T00:00:00Z"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), ""), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("error: model `users` could not be pulled: {message}")), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("hint: {hint}")), "{}", ran.stderr);
}

#[test]
fn a_truncated_parquet_file_is_named() {
    first_pull(
        |folder| {
            let path = folder.join("users.parquet");
            let whole = std::fs::read(&path).expect("it was written");
            std::fs::write(&path, &whole[..whole.len() / 2]).expect("the folder can be written");
        },
        "`users.parquet`: the Parquet footer can't be read: ",
        "the file is truncated, still being written, or in another format",
    );
}

#[test]
fn a_missing_column_is_named_with_what_there_is() {
    first_pull(
        |folder| {
            write_parquet(&folder.join("users.parquet"), vec![("user_id", strings(&["a"])), ("ltx", numbers(&[1.0]))])
        },
        "`users.parquet`: no column `ltv`",
        "did you mean `ltx`?",
    );
}

#[test]
fn a_changed_type_is_named_with_both() {
    first_pull(
        |folder| {
            write_parquet(&folder.join("users.parquet"), vec![("user_id", strings(&["a"])), ("ltv", strings(&["1"]))])
        },
        "`users.parquet`: the column `ltv` has the type `string`; wanted is `number`",
        "write the column as it was, or declare it as `string` in the job",
    );
}

#[test]
fn a_key_that_comes_twice_is_named() {
    first_pull(
        |folder| {
            write_parquet(
                &folder.join("users.parquet"),
                vec![("user_id", strings(&["a", "b", "a"])), ("ltv", numbers(&[1.0, 2.0, 3.0]))],
            )
        },
        "the key `a` comes twice",
        "a key names one row",
    );
}

#[test]
fn a_missing_parquet_file_is_named() {
    first_pull(
        |folder| std::fs::remove_file(folder.join("users.parquet")).expect("it was written"),
        "`users.parquet`: no such file or folder",
        "it was looked for at `./users.parquet`",
    );
}
