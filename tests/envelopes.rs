//! Messages in envelopes: what is in them is read as if it came alone.

use crate::support::rows::{Ran, run};
use std::path::Path;

const JOB: &str = "
job: shop
sources: {web: {file: {path: events.jsonl}, format: segment, unwrap: UNWRAP}}
models: {users: {key: user_id}}
events: {bought: {source: web, type: track, name: Bought, model: users, properties: {revenue: number, channel: {path: context.channel, type: string}, op: {path: op, type: string}}}}
audiences:
  buyers: {model: users, where: {performed: bought, at_least: 2, within: 20s}}
  rich: {model: users, where: {performed: bought, sum: revenue, more_than: 5, within: 15s}}
  app: {model: users, where: {performed: bought, where: \"channel = 'app' and op is null\", within: 10s}}
";

/// Replays records with an `unwrap`, or without one.
fn replay(folder: &Path, unwrap: &str, records: &[String], workers: &str) -> Ran {
    let job = match unwrap {
        "" => JOB.replace(", unwrap: UNWRAP", ""),
        unwrap => JOB.replace("UNWRAP", unwrap),
    };
    std::fs::write(folder.join("job.yaml"), job).expect("the folder can be written");
    std::fs::write(folder.join("events.jsonl"), records.join("\n")).expect("the folder can be written");
    let flags = ["replay", "job.yaml", "--now", "2026-11-24T00:00:00Z", "-w", workers, "--dead-letters", "dead.jsonl"];
    let ran = run(folder, &flags);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    ran
}

/// The line of counts.
fn counts(ran: &Ran) -> &str {
    let line = ran.stderr.lines().find(|line| line.contains("read ") && line.contains(" = matched "));
    let line = line.unwrap_or_else(|| panic!("no counts in {}", ran.stderr));
    &line[line.find("read ").expect("it was found by that")..]
}

/// A message of a random user and time; some repeat, some have no key, some are malformed.
fn message(rng: &mut fastrand::Rng, second: usize) -> String {
    let (minute, second) = (second / 60, second % 60);
    let user = match rng.u32(..20) {
        0 => String::new(),
        user => format!(r#""userId":"u-{}","#, user % 9),
    };
    // Each way of being identified: by an id, by a copy's, by the place.
    let id = match rng.u32(..3) {
        0 => String::new(),
        1 => format!(r#""messageId":"{}","#, rng.u32(..40)),
        _ => format!(r#""messageId":"m{}","#, rng.u64(..)),
    };
    let context = ["", r#""context":{"channel":"app"},"#, r#""context":{"channel":null},"#][rng.usize(..3)];
    let revenue = rng.u32(..4);
    if rng.u32(..40) == 0 {
        return r#"{"type":"track","event":"Bought","userId":}"#.to_owned();
    }
    format!(
        r#"{{"type":"track","event":"Bought",{user}{id}{context}"timestamp":"2026-11-23T10:{minute:02}:{second:02}Z","properties":{{"revenue":{revenue}}}}}"#
    )
}

/// Messages in order, several of them in one second.
fn messages(rng: &mut fastrand::Rng) -> Vec<String> {
    (0..600).map(|number| message(rng, number / 3)).collect()
}

#[test]
fn a_batch_gives_the_changes_that_its_elements_give_line_by_line() {
    for seed in 0..4 {
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let alone = messages(&mut rng);
        let folder = tempfile::tempdir().expect("a folder for the test");
        let expected = replay(folder.path(), "", &alone, "1");
        assert!(expected.stdout.lines().count() > 20, "{}", expected.stdout);
        let mut batches = Vec::new();
        let mut rest = &alone[..];
        while !rest.is_empty() {
            let (first, others) = rest.split_at(rng.usize(1..9).min(rest.len()));
            rest = others;
            let list = first.join(", ");
            batches.push(match rng.u32(..3) {
                0 => format!("[{list}]"),
                1 => format!(r#"{{"sentAt":"2020-01-01T00:00:00Z","batch":[{list}],"writeKey":"w"}}"#),
                _ => format!(r#"{{"batch": [ {list} ] }}"#),
            });
        }
        for workers in ["1", "3"] {
            let ran = replay(folder.path(), "batch", &batches, workers);
            assert_eq!(ran.stdout, expected.stdout, "seed {seed}");
            assert_eq!(counts(&ran), counts(&expected), "seed {seed}");
        }
    }
}

#[test]
fn each_envelope_and_a_list_of_them_give_what_is_inside() {
    let mut rng = fastrand::Rng::with_seed(7);
    let alone = messages(&mut rng);
    let folder = tempfile::tempdir().expect("a folder for the test");
    let expected = replay(folder.path(), "", &alone, "2");
    let connect = |inside: &String| format!(r#"{{"schema":{{"type":"struct"}},"payload":{inside}}}"#);
    let cloud = |inside: &String| format!(r#"{{"specversion":"1.0","type":"t","source":"/s","data":{inside}}}"#);
    let wrapped = |of: &dyn Fn(&String) -> String| alone.iter().map(of).collect::<Vec<_>>();
    for (unwrap, records) in [
        ("connect", wrapped(&connect)),
        ("cloudevents", wrapped(&cloud)),
        ("[connect, cloudevents]", wrapped(&|inside| connect(&cloud(inside)))),
        ("[cloudevents, batch]", wrapped(&|inside| cloud(&format!("[{inside}]")))),
        ("[batch, connect]", vec![format!("[{}]", wrapped(&connect).join(","))]),
    ] {
        // An envelope around what is broken is broken itself, so that nothing differs.
        let ran = replay(folder.path(), unwrap, &records, "2");
        let same = (ran.stdout == expected.stdout, counts(&ran) == counts(&expected));
        assert_eq!(same, (true, true), "{unwrap}: {} but {}", counts(&ran), counts(&expected));
    }
}

#[test]
fn a_row_that_debezium_captured_is_an_event_with_its_operation() {
    let change = |op: &str, second: u32, before: &str, after: &str| {
        let ms = 1_795_428_000_000 + u64::from(second) * 1000;
        format!(r#"{{"before":{before},"after":{after},"source":{{"table":"orders"}},"op":"{op}","ts_ms":{ms}}}"#)
    };
    let job = "
job: shop
sources: {orders: {file: {path: events.jsonl}, format: {json: {key: customer}}, unwrap: debezium}}
models: {users: {key: user_id}}
events:
  placed: {source: orders, model: users, where: \"op = 'c'\", properties: {op: string, total: number}}
  deleted: {source: orders, model: users, where: \"op = 'd' and table = 'orders'\", properties: {op: string, table: {path: source.table, type: string}}}
audiences:
  buyers: {model: users, where: {performed: placed, sum: total, at_least: 3, within: 1h}}
  gone: {model: users, where: {performed: deleted, within: 1h}}
";
    let lines = [
        change("c", 0, "null", r#"{"customer":"a","total":1}"#),
        change("c", 1, "null", r#"{"customer":"a","total":2}"#),
        change("u", 2, r#"{"customer":"b","total":1}"#, r#"{"customer":"b","total":9}"#),
        change("d", 3, r#"{"customer":"b","total":9}"#, "null"),
        change("d", 4, "null", "null"),
    ];
    let folder = tempfile::tempdir().expect("a folder for the test");
    std::fs::write(folder.path().join("job.yaml"), job).expect("the folder can be written");
    std::fs::write(folder.path().join("events.jsonl"), lines.join("\n")).expect("the folder can be written");
    let ran = run(folder.path(), &["replay", "job.yaml", "--now", "2026-11-24T00:00:00Z"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let changes = ran.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let changes: Vec<String> = changes.map(|c| format!("{} {} {}", c["at"], c["audience_id"], c["key"])).collect();
    assert_eq!(changes, [r#""2026-11-23T10:00:01.000Z" "buyers" "a""#, r#""2026-11-23T10:00:03.000Z" "gone" "b""#]);
    assert!(counts(&ran).starts_with("read 5 = matched 4 + skipped 1 (blank 1)"), "{}", counts(&ran));
}

#[test]
fn a_dead_letter_of_a_batch_has_its_position_and_index() {
    let good = |user: &str| {
        format!(r#"{{"type":"track","event":"Bought","userId":"{user}","timestamp":"2026-11-23T10:00:00Z"}}"#)
    };
    let keyless = r#"{"type":"track","event":"Bought","userId":7.5,"timestamp":"2026-11-23T10:00:00Z"}"#;
    let first = format!(r#"{{"batch":[{}]}}"#, good("a"));
    let second = format!(r#"{{"batch":[{},{{"type":}},null,{keyless}]}}"#, good("b"));
    let folder = tempfile::tempdir().expect("a folder for the test");
    let ran = replay(folder.path(), "batch", &[first.clone(), second, good("c")], "1");
    assert_eq!(
        counts(&ran),
        "read 6 = matched 2 + skipped 1 (blank 1) + dead letters 3 (bad_key 1, malformed 2); repeats 0; mismatches 0"
    );
    let dead = std::fs::read_to_string(folder.path().join("dead.jsonl")).expect("dead letters are written");
    let letters: Vec<serde_json::Value> =
        dead.lines().map(|line| serde_json::from_str(line).expect("a dead letter is JSON")).collect();
    let at = first.len() + 1;
    assert_eq!(letters[0]["position"], format!("{at}.1"));
    assert_eq!((&letters[0]["raw"], &letters[0]["length"]), (&r#"{"type":}"#.into(), &9.into()));
    assert_eq!(letters[1]["position"], format!("{at}.3"));
    assert_eq!((&letters[1]["reason"], &letters[1]["raw"]), (&"bad_key".into(), &keyless.into()));
    assert!(letters[2]["position"].is_u64(), "a record that is no batch has no index");
    assert_eq!(letters[2]["detail"], "not in its envelope: no list `batch`, which `unwrap: batch` takes");
}
