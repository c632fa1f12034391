//! Where nearly nothing of a source matches, the log says once what its messages look like and what to set.

use crate::support::rows::{run, strings, write_parquet};

const JOB: &str = "
job: shop
sources: {web: {file: {path: events.jsonl}, format: segment}}
models: {users: {key: user_id}}
events: {seen: {source: web, type: track, name: Order Completed, model: users}}
audiences: {hot: {model: users, where: {performed: seen, within: 1h}}}
";

/// Replays messages and returns what was logged.
fn advice(job: &str, lines: &[String]) -> String {
    let folder = tempfile::tempdir().expect("a folder for the test");
    std::fs::write(folder.path().join("job.yaml"), job).expect("it can be written");
    std::fs::write(folder.path().join("events.jsonl"), lines.join("\n")).expect("it can be written");
    let ran = run(folder.path(), &["replay", "job.yaml", "--now", "2026-11-24T00:00:00Z"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    ran.stderr
}

fn track(name: &str, second: usize) -> String {
    format!(
        r#"{{"type":"track","event":"{name}","userId":"a","messageId":"{second}","timestamp":"2026-11-23T10:00:{:02}Z"}}"#,
        second % 60
    )
}

/// The lines that warn.
fn warnings(stderr: &str) -> Vec<&str> {
    stderr.lines().filter(|line| line.contains("WARN")).collect()
}

#[test]
fn batches_are_known_as_batches() {
    let batch = format!(r#"{{"batch":[{},{}],"sentAt":"2026-11-23T10:00:02Z"}}"#, track("a", 1), track("b", 2));
    let stderr = advice(JOB, &[batch.clone(), batch]);
    assert!(stderr.contains("2 of 2 messages match no event of the job: each is a `batch` of messages"), "{stderr}");
    assert!(stderr.contains("hint: set `unwrap: batch` of the source"), "{stderr}");
    assert_eq!(warnings(&stderr).len(), 1, "{stderr}");
}

#[test]
fn envelopes_that_the_source_does_not_take_off_are_named() {
    let row = r#"{"before":null,"after":{"id":"a"},"op":"c","ts_ms":1795428000000}"#;
    let payload = format!(r#"{{"schema":{{}},"payload":{row}}}"#);
    let event = format!(r#"{{"specversion":"1.0","id":"1","type":"t","source":"/s","data":{}}}"#, track("a", 1));
    let json =
        JOB.replace("format: segment", "format: {json: {key: id}}").replace("type: track, name: Order Completed, ", "");
    let connect = json.replace("{json: {key: id}}", "{json: {key: id}}, unwrap: connect");
    for (job, message, hint) in [
        (JOB, row, "set `unwrap: debezium` of the source"),
        (JOB, &payload, "set `unwrap: connect` of the source"),
        (JOB, &event, "set `unwrap: cloudevents` of the source"),
        // They have a time and no key where the format says.
        (&json, row, "set `unwrap: debezium` of the source"),
        (&connect, &payload, "set `unwrap: [connect, debezium]` of the source"),
    ] {
        let stderr = advice(job, &[message.to_owned(), message.to_owned()]);
        assert!(stderr.contains(&format!("hint: {hint}")), "{stderr}");
        assert_eq!(warnings(&stderr).len(), 1, "{stderr}");
    }
    // The list that there is begins with something else.
    let of =
        |envelopes: &str| json.replace("{json: {key: id}}", &format!("{{json: {{key: id}}}}, unwrap: {envelopes}"));
    let other = |name: &str| format!("the outermost first: put `{name}` where it comes, and leave out what does not");
    for (envelopes, message, hint) in [
        ("debezium", &*payload, other("connect")),
        ("connect", row, other("debezium")),
        ("debezium", &*event, other("cloudevents")),
        ("batch", &*track("a", 1), "leave out `unwrap` of the source".to_owned()),
    ] {
        let stderr = advice(&of(envelopes), &[message.to_owned(), message.to_owned()]);
        assert!(stderr.contains(&hint), "{envelopes}: {stderr}");
    }
    let debezium = json.replace("{json: {key: id}}", "{json: {key: id}}, unwrap: [connect, debezium]");
    let stderr = advice(&debezium, &[payload.clone(), payload]);
    assert!(warnings(&stderr).is_empty(), "{stderr}");
}

#[test]
fn a_name_that_differs_by_a_letter_or_by_case_is_named() {
    for near in ["order completed", "Order Complete"] {
        let lines: Vec<String> = (0..100).map(|second| track(near, second)).collect();
        let stderr = advice(JOB, &lines);
        assert!(stderr.contains(&format!("most frequent are `track` `{near}` (100)")), "{stderr}");
        assert!(stderr.contains(&format!("`{near}` comes near to `Order Completed` of the event `seen`")), "{stderr}");
        assert_eq!(warnings(&stderr).len(), 1, "{stderr}");
    }
}

#[test]
fn messages_of_another_format_are_known_by_their_looks() {
    let segment = JOB.replace("format: segment", "format: snowplow_tsv");
    let stderr = advice(&segment, &[track("Order Completed", 1)]);
    assert!(stderr.contains("1 of 1 messages are refused as malformed"), "{stderr}");
    assert!(stderr.contains("they look like Segment's, RudderStack's or Hightouch's"), "{stderr}");
    let row = format!("shop{}", "\t".repeat(130));
    let stderr = advice(JOB, &[row.clone(), row]);
    assert!(stderr.contains("they look like Snowplow's enriched events in TSV"), "{stderr}");
    assert!(stderr.contains("set `format: snowplow_tsv`"), "{stderr}");
}

#[test]
fn messages_without_a_key_or_a_time_say_where_it_is_set() {
    let anonymous = track("Order Completed", 1).replace("\"userId\":\"a\"", "\"anonymousId\":\"a\"");
    let stderr = advice(JOB, &[anonymous.clone(), anonymous]);
    assert!(stderr.contains("2 of 2 messages have no key"), "{stderr}");
    let timeless = track("Order Completed", 1).replace("\"timestamp\"", "\"when\"");
    let stderr = advice(JOB, &[timeless.clone(), timeless]);
    assert!(stderr.contains("2 of 2 messages are refused as no_timestamp"), "{stderr}");
    assert!(stderr.contains("set `timestamp` of the events"), "{stderr}");
}

#[test]
fn a_job_that_uses_little_of_a_source_is_not_advised() {
    let mut lines: Vec<String> = (0..500).map(|second| track("Other", second)).collect();
    lines.push(track("Order Completed", 500));
    assert_eq!(warnings(&advice(JOB, &lines)), [""; 0]);
    assert_eq!(warnings(&advice(JOB, &[track("Order Completed", 1)])), [""; 0]);
}

#[test]
fn an_event_that_matches_nothing_while_its_source_brings_thousands_is_named() {
    let job = JOB
        .replace("events: {", "events: {gone: {source: web, type: track, name: Gone, model: users}, ")
        .replace("audiences: {", "audiences: {cold: {model: users, where: {performed: gone, within: 1h}}, ");
    let lines: Vec<String> = (0..2_500).map(|second| track("Order Completed", second)).collect();
    let stderr = advice(&job, &lines);
    assert!(stderr.contains("the event has matched none of 2500 messages"), "{stderr}");
    assert_eq!(warnings(&stderr).len(), 1, "{stderr}");
}

#[test]
fn an_event_whose_keys_no_row_has_is_named_with_the_key_to_set() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let ids = ["a@example.com", "b@example.com"];
    write_parquet(&folder.path().join("users.parquet"), vec![("email", strings(&ids))]);
    let job = JOB.replace("{users: {key: user_id}}", "{users: {parquet: users.parquet, key: email}}");
    let lines = [track("Order Completed", 1), track("Order Completed", 2), track("Order Completed", 3)];
    std::fs::write(folder.path().join("events.jsonl"), lines.join("\n")).expect("it can be written");
    let replay = |job: &str| {
        std::fs::write(folder.path().join("job.yaml"), job).expect("it can be written");
        let ran = run(folder.path(), &["replay", "job.yaml", "--now", "2026-11-24T00:00:00Z"]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        ran.stderr
    };
    let stderr = replay(&job);
    assert!(stderr.contains("3 of 3 messages have a key that no row of `users` has"), "{stderr}");
    assert!(stderr.contains("hint: set `foreign_key` of the event to where `email` of `users` is"), "{stderr}");
    assert_eq!(warnings(&stderr).len(), 1, "{stderr}");
    // With `members: any` keys without a row are members.
    let stderr = replay(&job.replace("key: email}", "key: email, members: any}"));
    assert_eq!(warnings(&stderr).len(), 0, "{stderr}");
}
