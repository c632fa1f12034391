//! One file that is much larger than the others: its chunks are decoded by all workers, and nothing shows but the time that it takes.
//!
//! `USHER_LARGE_FILES=0..50 cargo test --release --test usher one_file` runs more than the few of every test run.

use crate::support::process::{Process, changes, members};
use crate::support::rows::{rfc3339, run, seeds};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use usher_core::counts::grouped;

const JOB: &str = "
job: shop
sources: {web: {file: {path: \"events/*\"}, format: segment}}
models: {users: {}}
events:
  viewed: {source: web, type: page, model: users, properties: {path: string}}
  bought: {source: web, type: track, name: Bought, model: users, properties: {revenue: number}}
audiences:
  lookers: {model: users, where: {performed: viewed, where: \"path = '/a'\", at_least: 2, within: 5m}}
  buyers: {model: users, where: {performed: bought, sum: revenue, more_than: 50, within: 1h}}
  idle: {model: users, where: {all: [{performed: viewed, within: 1h}, {not: {performed: bought, within: 10m}}]}}
  sold: {model: users, where: {sequence: [{performed: viewed}, {performed: bought}], within: 30m}}
limits: {message_bytes: 20KiB}
";
/// When the history begins, ms: 2026-11-23 10:00 UTC.
const BEGINS: i64 = 1_795_428_000_000;

/// Appends a line about a time: events that are late, come twice, are dated later, can't be used, match nothing, or are too long.
fn write_line(random: &mut fastrand::Rng, text: &mut String, time: i64) {
    let time = match random.u8(..30) {
        0 => time - random.i64(0..7_200_000),
        1 => time + random.i64(0..120_000),
        _ => time,
    };
    let filler = "x".repeat(random.usize(..400));
    let common = format!(
        r#""userId":"u-{}","messageId":"m-{}","timestamp":"{}","context":{{"text":"{filler}"}}"#,
        random.u16(..300),
        random.u32(..100_000),
        rfc3339(time),
    );
    let line = match random.u16(..1_000) {
        0..=499 => format!(r#"{{"type":"page","properties":{{"path":"/{}"}},{common}}}"#, random.alphabetic()),
        500..=799 => {
            format!(r#"{{"type":"track","event":"Bought","properties":{{"revenue":{}}},{common}}}"#, random.i8(..))
        }
        800..=899 => format!(r#"{{"type":"track","event":"Other {}",{common}}}"#, random.u8(..)),
        900..=929 => format!(r#"{{"type":"page",{common}"#),
        930..=949 => r#"{"type":"page","timestamp":"2026-11-23T10:00:00Z"}"#.to_owned(),
        950..=969 => r#"{"type":"page","userId":"u-1","timestamp":"yesterday"}"#.to_owned(),
        970..=979 => r#"{"type":"page","userId":7.5,"timestamp":"2999-11-23T10:00:00Z"}"#.to_owned(),
        980..=997 => " ".repeat(random.usize(..3)),
        // Some are longer than a chunk, too.
        _ => format!(r#"{{"type":"page","text":"{}",{common}}}"#, "y".repeat(random.usize(20_000..600_000))),
    };
    text.push_str(&line);
    text.push('\n');
}

/// Returns about so many bytes of lines, over five hours.
fn lines(random: &mut fastrand::Rng, length: usize) -> String {
    let mut text = String::new();
    while text.len() < length {
        let time = BEGINS + (text.len() as f64 / length as f64 * 18_000_000.0) as i64;
        write_line(random, &mut text, time);
    }
    text
}

/// Writes a file, compressed or not, whole or with its end cut off.
fn write_file(random: &mut fastrand::Rng, folder: &Path, name: &str, text: &str) {
    let is_packed = random.u8(..3) == 0;
    let mut bytes = text.as_bytes().to_vec();
    if is_packed {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).expect("memory can be written");
        bytes = encoder.finish().expect("memory can be written");
    }
    // An unfinished line, or a damaged file.
    if random.u8(..3) == 0 {
        bytes.truncate(bytes.len() - random.usize(..bytes.len() / 3));
    }
    let name = if is_packed { format!("{name}.gz") } else { name.to_owned() };
    std::fs::write(folder.join("events").join(name), bytes).expect("the folder can be written");
}

/// The dead letters of each file, in their order.
fn dead_letters(path: &Path) -> BTreeMap<String, Vec<String>> {
    let mut by_file: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in std::fs::read_to_string(path).expect("dead letters are written").lines() {
        let letter: serde_json::Value = serde_json::from_str(line).expect("a dead letter is JSON");
        by_file.entry(letter["partition"].to_string()).or_default().push(line.to_owned());
    }
    by_file
}

#[test]
fn a_replay_of_one_large_file_gives_the_same_bytes_for_any_number_of_workers() {
    for seed in seeds("USHER_LARGE_FILES", 6) {
        let random = &mut fastrand::Rng::with_seed(seed);
        let folder = tempfile::tempdir().expect("a folder for the test");
        std::fs::write(folder.path().join("job.yaml"), JOB).expect("the folder can be written");
        std::fs::create_dir(folder.path().join("events")).expect("the folder can be written");
        let text = lines(random, 4_000_000);
        write_file(random, folder.path(), "large.jsonl", &text);
        for small in 0..random.usize(..4) {
            let length = random.usize(..300_000);
            let text = lines(random, length);
            write_file(random, folder.path(), &format!("{small}.jsonl"), &text);
        }
        let until = rfc3339(BEGINS + random.i64(3_600_000..18_000_000));
        let mut first = None;
        for workers in ["1", "2", "3"] {
            let mut args = vec!["replay", "job.yaml", "--now", "2026-12-01T00:00:00Z", "-w", workers];
            args.extend(["--dead-letters", "dead.jsonl", "--summary", "summary.json"]);
            if seed % 2 == 1 {
                args.extend(["--until", &until]);
            }
            let ran = run(folder.path(), &args);
            let what = format!("seed {seed}, {workers} workers");
            assert_eq!(ran.code, Some(0), "{what}: {}", ran.stderr);
            let summary = std::fs::read_to_string(folder.path().join("summary.json")).expect("it is written");
            let mut summary: serde_json::Value = serde_json::from_str(&summary).expect("the summary is JSON");
            let fields = summary.as_object_mut().expect("the summary is an object");
            fields.retain(|name, _| !name.contains("seconds") && !name.contains("rate"));
            let got = (ran.stdout, summary, dead_letters(&folder.path().join("dead.jsonl")));
            assert!(got.0.lines().count() > 100, "{what}: {}", ran.stderr);
            let first = first.get_or_insert_with(|| got.clone());
            assert!(first.0 == got.0, "{what} print other bytes than one");
            assert_eq!(first.1, got.1, "{what}");
            assert!(first.2 == got.2, "{what} write other dead letters than one");
        }
    }
}

#[test]
fn a_large_file_that_is_caught_up_with_by_several_workers_is_read_once() {
    let random = &mut fastrand::Rng::with_seed(1);
    let mut ended = Vec::new();
    let parts: Vec<String> = (0..2).map(|_| lines(random, 2_000_000)).collect();
    for workers in ["1", "3"] {
        let folder = tempfile::tempdir().expect("a folder for the test");
        std::fs::create_dir(folder.path().join("events")).expect("the folder can be written");
        let job = JOB.replace("\"events/*\"}", "\"events/*\", follow: true}").replace("within: 5m", "within: 90d");
        let job = job.replace("within: 1h", "within: 90d").replace("within: 30m", "within: 90d");
        let job = format!("{job}state: {{url: state}}\nsyncs: {{crm: {{to: {{file: {{path: changes.jsonl}}}}}}}}\n");
        std::fs::write(folder.path().join("job.yaml"), job).expect("the folder can be written");
        let mut text = String::new();
        for part in &parts {
            text.push_str(part);
            std::fs::write(folder.path().join("events/large.jsonl"), &text).expect("the folder can be written");
            let mut process = Process::start(folder.path(), &["run", "job.yaml", "-w", workers]);
            process.wait_for("live after");
            let stderr = process.stop();
            let read = format!("read {} =", grouped(part.lines().count() as u64));
            assert!(stderr.contains(&read), "{workers} workers: `{read}` is not in\n{stderr}");
        }
        ended.push(members(&changes(&folder.path().join("changes.jsonl"))));
    }
    assert!(ended[0].len() > 300, "{}", ended[0].len());
    assert!(ended[0] == ended[1], "three workers end with other members than one");
}
