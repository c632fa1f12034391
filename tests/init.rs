//! `usher init` and `usher peek`: from nothing but events and tables to a job that runs, in two commands.

use crate::support::rows::{numbers, run, strings, write_parquet};
use std::path::Path;

fn tables(folder: &Path) {
    write_parquet(
        &folder.join("users.parquet"),
        vec![
            ("plan", strings(&["pro", "free"])),
            ("user_id", strings(&["u-1", "u-2"])),
            ("ltv", numbers(&[10.0, 20.0])),
        ],
    );
    write_parquet(
        &folder.join("orders.parquet"),
        vec![
            ("order_id", strings(&["o-1", "o-2", "o-3"])),
            ("customer", strings(&["u-1", "u-1", "u-2"])),
            ("total", numbers(&[1.0, 2.0, 3.0])),
        ],
    );
}

fn write(path: &Path, lines: &[String]) {
    std::fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).expect("it can be written");
}

/// The messages of an SDK's requests, each on a line of its own, with a time where a server would add it.
fn sdk(file: &str) -> Vec<String> {
    let path = format!("{}/formats/tests/sdk/{file}", env!("CARGO_MANIFEST_DIR"));
    let requests = std::fs::read_to_string(path).expect("the requests are part of the project");
    let mut lines = Vec::new();
    for request in requests.lines() {
        // What JSON does not have stays in the messages.
        let request: serde_json::Value =
            serde_json::from_str(&request.replace("NaN", "\"NaN\"")).expect("a request is JSON");
        for message in request["batch"].as_array().expect("a request is a batch") {
            let mut message = message.clone();
            if message.get("timestamp").is_none() {
                message["receivedAt"] = "2026-11-27T14:17:18Z".into();
            }
            lines.push(message.to_string().replace("\"NaN\"", "NaN"));
        }
    }
    lines
}

#[test]
fn events_of_each_sdk_and_a_table_become_a_job_that_runs() {
    for (file, format) in [
        ("segment-analytics-node-3.1.0.jsonl", "segment"),
        ("segment-analytics-python-2.4.0.jsonl", "segment"),
        ("rudder-sdk-node-3.0.13.jsonl", "rudderstack"),
        ("rudder-sdk-python-2.1.9.jsonl", "rudderstack"),
        ("hightouch-events-sdk-python-0.0.4.jsonl", "hightouch"),
    ] {
        let folder = tempfile::tempdir().expect("a folder for the test");
        tables(folder.path());
        write(&folder.path().join("events.jsonl"), &sdk(file));
        let ran = run(folder.path(), &["init", "orders.parquet", "events.jsonl", "users.parquet"]);
        assert_eq!(ran.code, Some(0), "{file}: {}", ran.stderr);
        let job = std::fs::read_to_string(folder.path().join("job.yaml")).expect("the job is written");
        for part in [
            &format!("format: {format}\n"),
            "name: \"Order Completed\"",
            "revenue: number",
            "key: user_id\n",
            "belongs_to: {model: users, foreign_key: customer}",
        ] {
            assert!(job.contains(part), "{file}: {part} in\n{job}");
        }
        let ran = run(folder.path(), &["replay", "job.yaml", "--now", "2026-11-28T00:00:00Z"]);
        assert_eq!(ran.code, Some(0), "{file}: {}\n{job}", ran.stderr);
        assert!(
            ran.stdout.contains("\"type\":\"entry\"") && ran.stdout.contains("\"key\":\"u-1\""),
            "{file}: {}",
            ran.stdout
        );
        assert!(ran.stderr.contains("dead letters 0") && ran.stderr.contains("mismatches 0"), "{file}: {}", ran.stderr);
    }
}

#[test]
fn other_json_gets_its_paths_by_names_and_its_key_by_the_table() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    tables(folder.path());
    let line = |n: u32, who: &str| {
        format!(
            r#"{{"kind":"order","actor":{{"ref":"{who}"}},"ts":"2026-11-23T10:00:{n:02}Z","event_id":"{n}","data":{{"total":{n},"at home":true}}}}"#
        )
    };
    write(&folder.path().join("log.jsonl"), &[line(1, "u-1"), line(2, "u-2"), line(3, "u-9")]);
    let ran = run(folder.path(), &["init", "log.jsonl", "users.parquet", "-o", "mine.yaml"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let job = std::fs::read_to_string(folder.path().join("mine.yaml")).expect("the job is written");
    assert!(
        job.contains("format: {json: {type: kind, key: actor.ref, time: ts, id: event_id, properties: data}}"),
        "{job}"
    );
    let ran = run(folder.path(), &["replay", "mine.yaml", "--now", "2026-11-24T00:00:00Z"]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 2), "{}\n{job}", ran.stderr);
    assert!(ran.stderr.contains("read 3 = matched 3") && ran.stderr.contains("mismatches 0"), "{}", ran.stderr);
}

#[test]
fn without_samples_a_small_shop_is_written_and_nothing_is_overwritten() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let ran = run(folder.path(), &["init"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let ran = run(folder.path(), &["replay", "job.yaml"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("\"type\":\"exit\""), "{}", ran.stderr);
    let before = std::fs::read(folder.path().join("job.yaml")).expect("it is there");
    let ran = run(folder.path(), &["init"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("`job.yaml` is there already, and nothing is overwritten\nhint: "), "{}", ran.stderr);
    assert_eq!(std::fs::read(folder.path().join("job.yaml")).expect("it is there"), before);
}

#[test]
fn the_job_of_the_readme_runs_on_the_small_shop() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    assert_eq!(run(folder.path(), &["init"]).code, Some(0));
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("it is there");
    let job = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it has a job");
    std::fs::write(folder.path().join("pricing.yaml"), job).expect("the folder can be written");
    let ran = run(folder.path(), &["check", "pricing.yaml", "--connect"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let ran = run(folder.path(), &["replay", "pricing.yaml"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("\"audience_id\":\"high_intent\""), "{}", ran.stderr);
    // The mistakes that it shows are found where it says.
    let wrong =
        job.replace("performed: pricing_viewed", "performed: pricing_veiwed").replace("within: 5m", "within: 100d");
    std::fs::write(folder.path().join("pricing.yaml"), wrong).expect("the folder can be written");
    let ran = run(folder.path(), &["check", "pricing.yaml"]);
    let shown = readme.split("$ usher check pricing.yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    assert_eq!((ran.code, ran.stderr.trim_end()), (Some(2), shown.expect("it shows mistakes").trim_end()));
}

#[test]
fn what_no_format_reads_is_refused_with_what_it_looks_like() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    for (message, look, hint) in [
        (r#"{"batch":[{"type":"track"}]}"#, "each is a `batch` of messages", "`unwrap: batch`"),
        (
            r#"{"before":null,"after":{"user_id":"u-1"},"op":"c","ts_ms":1}"#,
            "they look like Debezium's change records",
            "`unwrap: debezium`",
        ),
        (r#"{"schema":{},"payload":{"user_id":"u-1"}}"#, "they look like Kafka Connect's", "`unwrap: connect`"),
        (
            r#"{"specversion":"1.0","type":"order","id":"1","data":{}}"#,
            "they look like CloudEvents",
            "`unwrap: cloudevents`",
        ),
        ("hello", "they are neither JSON objects nor rows", "give events as JSON, one object a line"),
    ] {
        write(&folder.path().join("events.jsonl"), &[message.to_owned()]);
        let ran = run(folder.path(), &["init", "events.jsonl"]);
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        let refused = format!("no format reads the messages of `events.jsonl`: {look}");
        assert!(ran.stderr.contains(&refused) && ran.stderr.contains(hint), "{}", ran.stderr);
        assert!(!folder.path().join("job.yaml").exists());
    }
    let ran = run(folder.path(), &["init", "missing.jsonl"]);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
}

#[test]
fn peek_shows_types_names_paths_and_the_events_that_match() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    tables(folder.path());
    let bought = |user: &str, revenue: &str| {
        format!(
            r#"{{"type":"track","event":"Bought","userId":"{user}","timestamp":"2026-11-23T10:00:00Z","properties":{{"revenue":{revenue}}}}}"#
        )
    };
    let page = r#"{"type":"page","name":"Home","userId":"u-1","timestamp":"2026-11-23T10:00:00Z"}"#.to_owned();
    write(&folder.path().join("events.jsonl"), &[bought("u-1", "5"), bought("u-2", "5.5"), page, "broken".to_owned()]);
    let ran = run(folder.path(), &["peek", "events.jsonl"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for part in [
        "events.jsonl: 4 messages\n",
        "`track` `Bought`, 2 messages\n",
        "`page` `Home`, 1 message\n",
        "integer or number       2  5, 5.5",
    ] {
        assert!(ran.stdout.contains(part), "{part} in\n{}", ran.stdout);
    }
    let job = "job: shop\nsources: {web: {file: {path: events.jsonl}, format: segment}}\n\
               models: {users: {parquet: users.parquet, key: user_id}}\n\
               events: {bought: {source: web, type: track, name: Bought, model: users}}\n\
               audiences: {buyers: {model: users, where: {performed: bought, within: 1h}}}\n";
    std::fs::write(folder.path().join("job.yaml"), job).expect("it can be written");
    for args in [&["peek", "job.yaml", "web"][..], &["peek", "web"]] {
        let ran = run(folder.path(), args);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert!(ran.stdout.contains("`track` `Bought`, 2 messages: bought\n"), "{}", ran.stdout);
        assert!(ran.stdout.contains("`page` `Home`, 1 message: no event of the job\n"), "{}", ran.stdout);
    }
    let ran = run(folder.path(), &["peek", "job.yaml", "wbe"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: did you mean `web`?"), "{}", ran.stderr);
    let ran = run(folder.path(), &["peek", "events.jsonl", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&ran.stdout).expect("it is JSON");
    assert_eq!((&found["messages"], &found["unreadable"]), (&4.into(), &1.into()));
    assert_eq!(found["kinds"][0]["paths"][0]["path"], "event");
}

#[test]
fn peek_takes_messages_out_of_the_envelopes_of_their_source() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let element = |user: u32| format!(r#"{{"type":"track","event":"Bought","userId":"u-{user}"}}"#);
    let batch =
        |from: u32| format!(r#"{{"batch":[{},{}],"sentAt":"2026-11-23T10:00:00Z"}}"#, element(from), element(from + 1));
    write(&folder.path().join("events.jsonl"), &[batch(1), "{}".to_owned(), batch(3)]);
    let job = "job: shop\nsources: {web: {file: {path: events.jsonl}, format: segment, unwrap: batch}}\n\
               models: {users: {key: user_id}}\n\
               events: {bought: {source: web, type: track, name: Bought, model: users}}\n\
               audiences: {buyers: {model: users, where: {performed: bought, within: 1h}}}\n";
    std::fs::write(folder.path().join("job.yaml"), job).expect("it can be written");
    let ran = run(folder.path(), &["peek", "job.yaml", "web"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for part in [
        "events.jsonl: 5 messages\n",
        "`track` `Bought`, 4 messages: bought\n",
        "sentAt  timestamp       4  \"2026-11-23T10:00:00Z\"\n",
        "userId  string          4  \"u-1\", \"u-2\", \"u-3\"\n",
        "without type and name, 1 message: no event of the job",
    ] {
        assert!(ran.stdout.contains(part), "{part} in\n{}", ran.stdout);
    }
}

#[test]
fn peek_shows_the_good_elements_of_a_batch_and_says_what_is_broken() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let batch = |broken: &[u8]| {
        let element = |user: u32| format!(r#"{{"type":"track","event":"Bought","userId":"u-{user}"}}"#).into_bytes();
        [b"{\"batch\":[", &element(1)[..], b",", broken, b",", &element(2), b"]}\n"].concat()
    };
    let records = [batch(b"{\"type\":\"\xff\"}"), batch(b"{\"type\":}"), b"{}\n".to_vec()].concat();
    std::fs::write(folder.path().join("events.jsonl"), records).expect("it can be written");
    let job = "job: shop\nsources: {web: {file: {path: events.jsonl}, format: segment, unwrap: batch}}\n\
               models: {users: {key: user_id}}\n\
               events: {bought: {source: web, type: track, name: Bought, model: users}}\n\
               audiences: {buyers: {model: users, where: {performed: bought, within: 1h}}}\n";
    std::fs::write(folder.path().join("job.yaml"), job).expect("it can be written");
    let ran = run(folder.path(), &["peek", "job.yaml", "web"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for part in [
        "events.jsonl: 7 messages\n",
        "`track` `Bought`, 4 messages: bought\n",
        "  1 can't be read: element 1 of its batch: not UTF-8 at byte 9\n",
        "  1 can't be read: element 1 of its batch: not JSON: expected a value at byte 8\n",
        "  1 can't be read: not in its envelope: no list `batch`, which `unwrap: batch` takes\n",
    ] {
        assert!(ran.stdout.contains(part), "{part} in\n{}", ran.stdout);
    }
    let ran = run(folder.path(), &["peek", "job.yaml", "web", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&ran.stdout).expect("it is JSON");
    assert_eq!(found["broken"].as_array().map(Vec::len), Some(3), "{found}");
}

#[test]
fn a_compressed_file_becomes_a_followed_source_that_is_read_to_its_last_line() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    tables(folder.path());
    let line = r#"{"type":"track","event":"Bought","userId":"u-1","timestamp":"2026-11-23T10:00:00Z"}"#;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, line.as_bytes()).expect("memory takes it");
    let packed = packed.finish().expect("memory takes it");
    std::fs::write(folder.path().join("events.gz"), packed).expect("it can be written");
    let ran = run(folder.path(), &["init", "events.gz", "users.parquet"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let ran = run(folder.path(), &["replay", "job.yaml", "--now", "2026-11-24T00:00:00Z"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("read 1 = matched 1"), "{}", ran.stderr);
}

#[test]
fn a_guessed_key_and_files_that_are_left_out_are_warned_of() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("the folder can be made");
    write_parquet(&data.join("users.parquet"), vec![("user_id", strings(&["u-1", "u-2"]))]);
    for name in ["events.jsonl", "more.jsonl", "_SUCCESS"] {
        std::fs::write(data.join(name), "{}\n").expect("it can be written");
    }
    let ran = run(folder.path(), &["init", "data"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let left_out = "what is not Parquet in it is left out: `data/events.jsonl` and 1 more\nhint: ";
    assert!(
        ran.stderr.contains(left_out) && ran.stderr.contains("`usher init data data/events.jsonl`"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("a guess"), "{}", ran.stderr);

    write_parquet(
        &folder.path().join("visits.parquet"),
        vec![("city", strings(&["Ulm", "Ulm"])), ("amount", numbers(&[1.0, 2.0]))],
    );
    let ran = run(folder.path(), &["init", "visits.parquet", "-o", "visits.yaml"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let guess = "no column of `visits.parquet` has a value of its own in each row, so the `key` of the model `visits` is a guess";
    assert!(ran.stderr.contains(guess), "{}", ran.stderr);
    let job = std::fs::read_to_string(folder.path().join("visits.yaml")).expect("the job is written");
    assert!(job.contains("    # A guess: no column has a value of its own in each row.\n    key: "), "{job}");
}

#[test]
fn samples_that_give_no_job_leave_no_file() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("it can be written");
    write("empty.jsonl", "\n");
    write("keyless.jsonl", "{\"type\":\"track\",\"event\":\"Bought\"}\n");
    for (sample, expected) in [("empty.jsonl", "`empty.jsonl` has no messages"), ("keyless.jsonl", "gives no `key`")] {
        let ran = run(folder.path(), &["init", sample]);
        assert_eq!(ran.code, Some(2), "{sample}: {}", ran.stderr);
        assert!(ran.stderr.contains(expected) && ran.stderr.contains("hint: "), "{sample}: {}", ran.stderr);
        assert!(!folder.path().join("job.yaml").exists(), "{sample}");
    }
}
