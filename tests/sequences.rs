//! Sequences from messages to changes: order within one ms over files and sources, repeats, and what is refused.

use crate::support::rows::run;
use std::path::Path;

/// Messages of one file: (its path, the lines as (ms of the minute, name, message id)).
type File = (&'static str, &'static [(u32, &'static str, &'static str)]);

/// Writes a job whose audience `seq` is this condition, with events `first` of the source `b` and `then` of the source `a`.
fn write(folder: &Path, condition: &str, files: &[File]) {
    let job = format!(
        "job: order
sources:
  a: {{file: {{path: a/}}, format: segment}}
  b: {{file: {{path: b/}}, format: segment}}
models: {{users: {{key: id}}}}
events:
  first: {{source: b, type: track, name: First, model: users, properties: {{n: integer}}}}
  then: {{source: a, type: track, name: Then, model: users}}
  both: {{source: [a, b], type: track, name: Both, model: users}}
  order: {{source: a, type: track, name: Order, model: users, properties: {{t: {{path: timestamp, type: string}}}}}}
  placed: {{source: a, type: track, name: Order, model: users, where: \"t < '2026-11-23T10:00:00.500Z'\", properties: {{t: {{path: timestamp, type: string}}}}}}
  shipped: {{source: a, type: track, name: Order, model: users, where: \"t > '2026-11-23T10:00:00.500Z'\", properties: {{t: {{path: timestamp, type: string}}}}}}
audiences:
  seq: {{model: users, where: {condition}}}
"
    );
    std::fs::write(folder.join("job.yaml"), job).expect("the folder can be written");
    for path in ["a", "b"] {
        std::fs::create_dir_all(folder.join(path)).expect("the folder can be written");
        std::fs::write(folder.join(path).join("9.jsonl"), "").expect("the folder can be written");
    }
    for (path, messages) in files {
        let line = |(ms, name, id): &(u32, &str, &str)| {
            format!(
                "{{\"type\":\"track\",\"event\":\"{name}\",\"userId\":\"u\",\"messageId\":\"{id}\",\
                 \"timestamp\":\"2026-11-23T10:00:{:02}.{:03}Z\"}}\n",
                ms / 1_000,
                ms % 1_000
            )
        };
        let lines: String = messages.iter().map(line).collect();
        std::fs::write(folder.join(path), lines).expect("the folder can be written");
    }
}

/// Returns the changes of a replay as `AT TYPE REASON`, the time from the minute on.
fn replay(condition: &str, files: &[File]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder for the test");
    write(folder.path(), condition, files);
    let mut all = Vec::new();
    for workers in ["1", "2"] {
        let flags = ["--now", "2026-11-24T00:00:00Z", "--until", "2026-11-23T10:01:00Z", "-w", workers];
        let ran = run(folder.path(), &[&["replay", "job.yaml"], &flags[..]].concat());
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let line = |line: &str| {
            let change: serde_json::Value = serde_json::from_str(line).expect("a change is JSON");
            let field = |name: &str| change[name].as_str().expect("a field of a change is text").to_owned();
            format!("{} {} {}", &field("at")[17..23], field("type"), field("reason"))
        };
        all.push(ran.stdout.lines().map(line).collect::<Vec<String>>());
    }
    assert_eq!(all[0], all[1], "two workers give what one gives");
    all.remove(0)
}

#[test]
fn events_of_one_ms_are_in_the_order_of_sources() {
    let files: [File; 2] = [("b/0.jsonl", &[(5, "First", "1")]), ("a/0.jsonl", &[(5, "Then", "2")])];
    assert_eq!(replay("{sequence: [{performed: first}, {performed: then}], within: 5s}", &files), [""; 0]);
    let other = replay("{sequence: [{performed: then}, {performed: first}], within: 5s}", &files);
    assert_eq!(other, ["00.005 entry event", "05.005 exit expiry"]);
}

#[test]
fn events_of_one_ms_are_in_the_order_of_files_and_of_lines() {
    let condition = "{sequence: [{performed: first}, {performed: both}], within: 5s}";
    let both_first: [File; 2] = [("b/0.jsonl", &[(5, "Both", "1")]), ("b/1.jsonl", &[(5, "First", "2")])];
    assert_eq!(replay(condition, &both_first), [""; 0]);
    let both_last: [File; 2] = [("b/0.jsonl", &[(5, "First", "2")]), ("b/1.jsonl", &[(5, "Both", "1")])];
    assert_eq!(replay(condition, &both_last), ["00.005 entry event", "05.005 exit expiry"]);
    assert_eq!(replay(condition, &[("b/0.jsonl", &[(5, "Both", "1"), (5, "First", "2")])]), [""; 0]);
}

#[test]
fn a_repeat_from_a_source_that_comes_first_changes_the_order_of_one_ms() {
    // The copy in `a` comes to the clock later: until then the message stands behind `First`.
    let condition = "{sequence: [{performed: first}, {performed: both}], within: 5s}";
    let files: [File; 2] = [
        ("b/0.jsonl", &[(5, "First", "1"), (5, "Both", "2"), (900, "Else", "3")]),
        ("a/0.jsonl", &[(300, "Else", "4"), (5, "Both", "2")]),
    ];
    assert_eq!(replay(condition, &files), ["00.005 entry event", "00.300 exit event"]);
}

#[test]
fn messages_with_one_id_are_two_of_two_events_that_differ_in_their_where_alone() {
    let files: [File; 1] = [("a/0.jsonl", &[(100, "Order", "1"), (600, "Order", "1")])];
    let of_two = "{sequence: [{performed: placed}, {performed: shipped}], within: 5s}";
    assert_eq!(replay(of_two, &files), ["00.600 entry event", "05.100 exit expiry"]);
    // Of one event they are one, whatever the steps ask for.
    let (placed, shipped) = ("t < '2026-11-23T10:00:00.500Z'", "t > '2026-11-23T10:00:00.500Z'");
    let of_one = format!(
        "{{sequence: [{{performed: order, where: \"{placed}\"}}, {{performed: order, where: \"{shipped}\"}}], within: 5s}}"
    );
    assert_eq!(replay(&of_one, &files), [""; 0]);
    let both = format!("{{any: [{of_one}, {of_two}]}}");
    assert_eq!(replay(&both, &files), ["00.600 entry event", "05.100 exit expiry"]);
    let excluded = "{sequence: [{performed: placed}, {performed: both}], without: [{performed: shipped}], within: 5s}";
    let files: [File; 1] = [("a/0.jsonl", &[(100, "Order", "1"), (600, "Order", "1"), (700, "Both", "2")])];
    assert_eq!(replay(excluded, &files), [""; 0]);
}

#[test]
fn a_late_excluded_event_ends_a_sequence_and_a_later_one_does_not() {
    let condition = "{sequence: [{performed: first}, {performed: both}], without: [{performed: then}], within: 5s}";
    let pair: File = ("b/0.jsonl", &[(100, "First", "1"), (200, "Both", "2"), (900, "Else", "3")]);
    assert_eq!(
        replay(condition, &[pair, ("a/0.jsonl", &[(50, "Else", "4"), (400, "Then", "5")])]),
        ["00.200 entry event", "05.100 exit expiry"]
    );
    assert_eq!(
        replay(condition, &[pair, ("a/0.jsonl", &[(400, "Else", "4"), (150, "Then", "5")])]),
        ["00.200 entry event", "00.400 exit event"]
    );
}

#[test]
fn the_clock_in_a_step_is_refused_with_a_hint_to_the_window() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    for condition in [
        "{sequence: [{performed: first, where: n > 1 or now() is null}, {performed: then}], within: 1h}",
        "{sequence: [{performed: then}, {performed: then}], without: [{performed: first, where: now() is null}], within: 1h}",
    ] {
        write(folder.path(), condition, &[]);
        let ran = run(folder.path(), &["check", "job.yaml"]);
        assert_eq!(ran.code, Some(2), "{condition}: {}", ran.stderr);
        assert!(ran.stderr.contains("job.yaml:14:"), "{}", ran.stderr);
        assert!(ran.stderr.contains("`within` limits how far back events count"), "{}", ran.stderr);
    }
}
