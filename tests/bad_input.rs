//! Bad input is data: each kind has its message or dead letter, and everything else goes on.

use crate::support::rows::{Ran, numbers, run, strings, write_parquet};
use std::path::Path;

const JOB: &str = "
job: shop
sources: {web: {file: {path: events.jsonl}, format: segment}}
models: {users: {parquet: users.parquet, key: user_id, columns: {ltv: number}}}
events: {bought: {source: web, type: track, name: Bought, model: users, properties: {revenue: number}}}
audiences: {buyers: {model: users, where: {all: [{performed: bought, within: 1h}, {property: ltv > 1}]}}}
";

const REPLAY: [&str; 6] = ["replay", "job.yaml", "--now", "2026-11-24T00:00:00Z", "--dead-letters", "dead.jsonl"];

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
    let ran = run(folder.path(), &REPLAY);
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

/// Replays lines as the job's events and returns the run and its dead letters.
fn replay_lines(job: &str, lines: &[&[u8]], flags: &[&str]) -> (Ran, String) {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    std::fs::write(folder.path().join("job.yaml"), job).expect("the folder can be written");
    std::fs::write(folder.path().join("events.jsonl"), lines.join(&b'\n')).expect("the folder can be written");
    let ran = run(folder.path(), &[&REPLAY, flags].concat());
    let dead = std::fs::read_to_string(folder.path().join("dead.jsonl")).unwrap_or_default();
    (ran, dead)
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
    dies_of(
        &bought(r#""userId":"a","timestamp":"yesterday""#),
        "bad_timestamp",
        "`timestamp` = \"yesterday\" is neither RFC 3339 nor Unix time",
    );
    dies_of(
        &bought(r#""userId":"a","timestamp":"1969-12-31T23:59:59Z""#),
        "bad_timestamp",
        "`timestamp` = \"1969-12-31T23:59:59Z\" is before 1970",
    );
    dies_of(&bought(r#""userId":"a","timestamp":-1"#), "bad_timestamp", "`timestamp` = -1 is before 1970");
    dies_of(&bought(r#""userId":"a""#), "no_timestamp", "");
}

#[test]
fn a_time_in_the_year_9999_ends_no_window() {
    dies_of(
        &bought(r#""userId":"a","timestamp":"9999-01-01T00:00:00Z""#),
        "future_timestamp",
        "9999-01-01T00:00:00.000Z is 2911751d later than 2026-11-24T00:00:00.000Z; `limits.future_skew` is 5m",
    );
    // As a number, a year of five digits.
    dies_of(
        &bought(r#""userId":"a","timestamp":253402300800000"#),
        "future_timestamp",
        "+10000-01-01T00:00:00.000Z is 2912116d later than 2026-11-24T00:00:00.000Z; `limits.future_skew` is 5m",
    );
}

#[test]
fn a_time_beyond_all_that_is_counted_is_a_dead_letter_whatever_now_is() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    let beyond = bought(r#""userId":"a","timestamp":281474976710656"#);
    let lines = [good("a", 1), beyond, good("b", 2)].join(&b'\n');
    std::fs::write(folder.path().join("events.jsonl"), lines).expect("the folder can be written");
    let now = ["--now", "300000000000000"];
    let ran = run(folder.path(), &[&["replay", "job.yaml", "--dead-letters", "dead.jsonl"], &now[..]].concat());
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 2), "{}", ran.stderr);
    let dead = std::fs::read_to_string(folder.path().join("dead.jsonl")).expect("dead letters are written");
    let letter: serde_json::Value = serde_json::from_str(&dead).expect("one dead letter");
    assert_eq!(letter["reason"], "future_timestamp");
    let last = "+10889-08-02T05:31:50.656Z is later than +10889-08-02T05:31:50.655Z, the last time that is counted";
    assert_eq!(letter["detail"], last);
}

#[test]
fn a_key_of_a_wrong_type_is_a_dead_letter() {
    dies_of(
        &bought(r#""userId":3.0,"timestamp":"2026-11-23T10:00:01Z""#),
        "bad_key",
        "the key is a number but no integer",
    );
    dies_of(
        &bought(r#""userId":"a\ud800","timestamp":"2026-11-23T10:00:01Z""#),
        "bad_key",
        "the key has half of a surrogate pair",
    );
    dies_of(&bought(r#""userId":NaN,"timestamp":"2026-11-23T10:00:01Z""#), "bad_key", "the key is not a finite number");
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

/// Two events, of which the second needs values of the message.
const TWO_EVENTS: &str = "
job: shop
sources: {web: {file: {path: events.jsonl}, format: segment}}
models: {users: {}}
events:
  looked: {source: web, type: track, name: Looked, model: users}
  bought: {source: web, type: track, name: Bought, model: users, properties: {v: number, s: string}}
audiences:
  lookers: {model: users, where: {performed: looked, within: 1h}}
  buyers: {model: users, where: {performed: bought, where: \"v > 0 or s = 'q'\", within: 1h}}
";

/// A message of that type and name, with a member instead of a sound one.
fn message(kind: &str, name: &str, member: &str) -> Vec<u8> {
    let sound = [r#""userId":"u""#, r#""timestamp":"2026-11-23T10:00:00Z""#, r#""messageId":"i""#];
    let name_of = |member: &str| member.split(':').next().map(str::to_owned);
    let others: Vec<&str> = sound.into_iter().filter(|other| name_of(other) != name_of(member)).collect();
    format!(r#"{{"type":{kind},"event":{name},{},{member}}}"#, others.join(",")).into_bytes()
}

/// Values that the second event needs, and that can't be read.
const BROKEN: [&str; 6] = [
    r#""properties":{"v":1-2}"#,
    r#""properties":{"s":"\q"}"#,
    r#""userId":01"#,
    r#""userId":"\q""#,
    r#""timestamp":01"#,
    r#""messageId":"\q""#,
];

#[test]
fn a_broken_value_in_a_message_that_matches_nothing_is_not_bad() {
    let of_other_name = BROKEN.map(|member| message(r#""track""#, r#""Else""#, member));
    let of_other_type = BROKEN.map(|member| message(r#""page""#, r#""Bought""#, member));
    let lines: Vec<&[u8]> = of_other_name.iter().chain(&of_other_type).map(|line| &line[..]).collect();
    let (ran, dead) = replay_lines(TWO_EVENTS, &lines, &[]);
    let expected = "read 12 = matched 0 + skipped 12 (unmatched 12) + dead letters 0;";
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    assert_eq!(dead, "");
}

#[test]
fn a_broken_value_is_a_dead_letter_where_the_event_needs_it() {
    let lines = BROKEN.map(|member| message(r#""track""#, r#""Bought""#, member));
    let (ran, dead) = replay_lines(TWO_EVENTS, &lines.each_ref().map(|line| &line[..]), &[]);
    assert!(ran.stderr.contains("matched 0 + skipped 0 + dead letters 6 (malformed 6);"), "{}", ran.stderr);
    assert!(dead.contains(r#""detail":"broken number or literal at byte "#), "{dead}");
    // The other event needs no properties.
    let lines = BROKEN.map(|member| message(r#""track""#, r#""Looked""#, member));
    let (ran, _) = replay_lines(TWO_EVENTS, &lines.each_ref().map(|line| &line[..]), &[]);
    assert!(ran.stderr.contains("matched 2 + skipped 0 + dead letters 4 (malformed 4);"), "{}", ran.stderr);
    // A message that is both is lost to neither.
    let both = TWO_EVENTS.replace("name: Looked", "name: [Looked, Bought]");
    let lines = BROKEN.map(|member| message(r#""track""#, r#""Bought""#, member));
    let (ran, _) = replay_lines(&both, &lines.each_ref().map(|line| &line[..]), &[]);
    assert!(ran.stderr.contains("matched 2 + skipped 0 + dead letters 4 (malformed 4);"), "{}", ran.stderr);
}

#[test]
fn a_message_that_does_not_say_which_event_it_is_is_a_dead_letter() {
    let user = r#""userId":"u""#;
    let [kind, name] = [message(r#""\q""#, r#""Else""#, user), message(r#""track""#, "01", user)];
    let unclosed = br#"{"type":"track","event":"Else","properties":{"v":1}"#;
    let garbage = br#"{"type":"track","event":"Else" x "userId":"u"}"#;
    let (ran, _) = replay_lines(TWO_EVENTS, &[&kind, &name, unclosed, garbage], &[]);
    assert!(ran.stderr.contains("matched 0 + skipped 0 + dead letters 4 (malformed 4);"), "{}", ran.stderr);
}

#[test]
fn a_message_that_matches_nothing_moves_the_clock_only_by_a_time_that_can_be_read() {
    let looked = message(r#""track""#, r#""Looked""#, r#""properties":{}"#);
    for (member, changes) in
        [(r#""timestamp":01,"receivedAt":"2026-11-23T12:00:00Z""#, 1), (r#""timestamp":"2026-11-23T12:00:00Z""#, 2)]
    {
        let other = message(r#""track""#, r#""Else""#, member);
        let (ran, _) = replay_lines(TWO_EVENTS, &[&looked, &other], &[]);
        assert!(
            ran.stderr.contains("read 2 = matched 1 + skipped 1 (unmatched 1) + dead letters 0;"),
            "{}",
            ran.stderr
        );
        assert_eq!(ran.stdout.lines().count(), changes, "{member}: {}", ran.stdout);
    }
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
fn a_key_in_two_partitions_is_named_with_both_files() {
    let two = |folder: &Path| {
        std::fs::remove_file(folder.join("users.parquet")).expect("it was written");
        for country in ["DE", "FR"] {
            let inside = folder.join(format!("users.parquet/country={country}"));
            std::fs::create_dir_all(&inside).expect("a folder");
            let columns = vec![("user_id", strings(&["a", country])), ("ltv", numbers(&[1.0, 2.0]))];
            write_parquet(&inside.join("part-0.parquet"), columns);
        }
    };
    let files = "in `users.parquet/country=DE/part-0.parquet` and in `users.parquet/country=FR/part-0.parquet`";
    first_pull(two, &format!("the key `a` comes twice: {files}"), "a key names one row");
}

#[test]
fn a_missing_parquet_file_is_named() {
    first_pull(
        |folder| std::fs::remove_file(folder.join("users.parquet")).expect("it was written"),
        "`users.parquet`: no such file or folder",
        "it was looked for at `./users.parquet`",
    );
}

#[test]
fn a_number_as_a_time_is_unix_time_in_events_properties_and_flags() {
    let job = JOB.replace("{revenue: number}", "{due: timestamp, seen: {type: timestamp, unit: us}}").replace(
        "{performed: bought, within: 1h}",
        "{performed: bought, where: \"due > '2026-11-01' and seen > '2026-11-01'\", within: 1h}",
    );
    let line = |user: &str, time: &str, due: &str, seen: &str| {
        bought(&format!(r#""userId":"{user}","timestamp":{time},"properties":{{"due":{due},"seen":{seen}}}"#))
    };
    let lines = [
        line("a", "1795428000", "1795428000", "1795428000000000"),
        line("b", "\"1795428001.5\"", "\"1795428000000\"", "\"1795428000000000.5\""),
    ];
    let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
    let (ran, dead) = replay_lines(&job, &lines, &["--from", "1795428000", "--until", "1795428001500"]);
    assert_eq!((ran.code, dead.as_str()), (Some(0), ""), "{}", ran.stderr);
    let at: Vec<&str> = ran.stdout.lines().filter_map(|line| line.split("\"at\":\"").nth(1)?.get(..24)).collect();
    assert_eq!(at, ["2026-11-23T10:00:00.000Z", "2026-11-23T10:00:01.500Z"], "{}", ran.stdout);
    assert!(ran.stderr.contains("mismatches 0"), "{}", ran.stderr);
}

#[test]
fn what_sdks_write_though_json_does_not_have_it_spoils_no_message() {
    let job =
        JOB.replace("{performed: bought, within: 1h}", "{performed: bought, where: \"revenue is null\", within: 1h}");
    let lines = [
        bought(r#""userId":"a","timestamp":"2026-11-23T10:00:01Z","properties":{"revenue":NaN}"#),
        bought(r#""userId":"b","timestamp":"2026-11-23T10:00:02Z","properties":{"revenue":-Infinity,"note":"\ud83d"}"#),
    ];
    let marked = [b"\xef\xbb\xbf", &lines[0][..]].concat();
    let (ran, dead) = replay_lines(&job, &[&marked, &lines[1], b"\xef\xbb\xbf"], &[]);
    assert_eq!((ran.code, dead.as_str(), ran.stdout.lines().count()), (Some(0), "", 2), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("read 3 = matched 2 + skipped 1 (blank 1) + dead letters 0; repeats 0; mismatches 2"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_damaged_file_ends_a_replay_with_1_when_all_else_is_done() {
    use std::io::Write;
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    std::fs::write(folder.path().join("job.yaml"), JOB.replace("events.jsonl", "in")).expect("it can be written");
    std::fs::create_dir(folder.path().join("in")).expect("it can be made");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&[good("a", 1), b"\n".to_vec(), good("a", 2), b"\n".to_vec()].concat()).expect("to memory");
    let whole = encoder.finish().expect("to memory");
    std::fs::write(folder.path().join("in/1"), &whole[..whole.len() - 4]).expect("it can be written");
    std::fs::write(folder.path().join("in/2"), good("b", 3)).expect("it can be written");
    let ran = run(folder.path(), &["replay", "job.yaml", "--now", "2026-11-24T00:00:00Z"]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(1), 2), "{}", ran.stderr);
    assert!(ran.stderr.contains("read 3 = matched 3"), "{}", ran.stderr);
    assert!(ran.stderr.contains("error: source `web`: `./in/1` is damaged after"), "{}", ran.stderr);
}

#[test]
fn more_files_are_read_than_may_be_open() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    shop(folder.path());
    std::fs::write(folder.path().join("job.yaml"), JOB.replace("events.jsonl", "in")).expect("it can be written");
    std::fs::create_dir(folder.path().join("in")).expect("it can be made");
    for file in 0..300 {
        // All at once: none of them is at its end before the others are open.
        let lines: Vec<u8> = (1..60).flat_map(|second| [good("a", second), b"\n".to_vec()].concat()).collect();
        std::fs::write(folder.path().join(format!("in/{file:03}")), lines).expect("it can be written");
    }
    let usher = env!("CARGO_BIN_EXE_usher");
    let command = format!("ulimit -n 100; exec '{usher}' replay job.yaml --now 2026-11-24T00:00:00Z");
    let ran = std::process::Command::new("sh").args(["-c", &command]).current_dir(folder.path()).output();
    let ran = ran.expect("a shell");
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("read 17,700 = matched 17,700"), "{stderr}");
}

#[test]
fn a_source_does_not_read_what_a_sync_writes_into_its_folder() {
    for (path, sync) in [("data", "data/out.jsonl"), ("data/", "./data/deep/out"), ("data/*.jsonl", "data/out.jsonl")] {
        let folder = tempfile::tempdir().expect("a folder for the test");
        shop(folder.path());
        std::fs::create_dir_all(folder.path().join("data/deep")).expect("it can be made");
        std::fs::write(folder.path().join("data/in.jsonl"), good("a", 1)).expect("it can be written");
        let job = JOB.replace("events.jsonl", path) + &format!("syncs: {{log: {{to: {{file: {{path: {sync}}}}}}}}}\n");
        std::fs::write(folder.path().join("job.yaml"), job).expect("it can be written");
        let ran = run(folder.path(), &["check", "job.yaml"]);
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        assert!(
            ran.stderr.contains(&format!("the sync `log` writes to `{sync}`, which the source `web` reads")),
            "{}",
            ran.stderr
        );
    }
}
