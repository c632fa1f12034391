//! What a fact keeps per key: bytes of memory, for each kind of state.
//!
//! Each user of a snapshot has the same number of events in the window. A job with facts of one kind is replayed over them, and its peak memory
//! is compared with that of a job which knows the same users and reads the same events, but has no fact. Prints bytes per (key, fact), with what the allocator
//! and growing tables take on top of them. Needs `/proc`.
//!
//! ```text
//! cargo bench --profile dist --bench state
//! cargo bench --profile dist --bench state -- --users 1000000
//! ```

// A benchmark's figures are its output.
#![allow(clippy::print_stdout)]

#[path = "canonical/process.rs"]
mod process;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use process::Run;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// 2026-11-23 10:00:00 UTC, ms.
const START: u64 = 1_795_428_000_000;

/// A kind of state, and a condition that keeps it; `N` is another number in each fact, so that no two are one.
const KINDS: [(&str, &str); 11] = [
    ("count, 1 or more", "{performed: ordered, at_least: 1, within: Ns}"),
    ("count, 3 or more", "{performed: ordered, at_least: 3, within: Ns}"),
    ("count, at most 100", "{performed: ordered, at_most: 100, within: Ns}"),
    ("greatest value, at least", "{performed: ordered, max: revenue, at_least: 10, within: Ns}"),
    ("greatest value, between", "{performed: ordered, max: revenue, between: [10, 20], within: Ns}"),
    ("sum, at least", "{performed: ordered, sum: revenue, at_least: 100, within: Ns}"),
    (
        "sum of no negatives, at least",
        "{performed: ordered, where: \"revenue >= 0\", sum: revenue, at_least: 100, within: Ns}",
    ),
    ("average", "{performed: ordered, avg: revenue, at_least: 1000, within: Ns}"),
    ("distinct values, 3 or more", "{performed: ordered, distinct: sku, at_least: 3, within: Ns}"),
    ("distinct values, at most 100", "{performed: ordered, distinct: sku, at_most: 100, within: Ns}"),
    (
        "sequence",
        "{sequence: [{performed: ordered, where: \"revenue > 40\"}, {performed: ordered}], without: [{performed: ordered, where: \"revenue > 95\"}], within: Ns}",
    ),
];
/// How many events each key has in the window.
const EVENTS: [usize; 3] = [1, 2, 8];

fn main() {
    let mut users = 500_000;
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(flag) = args.next() {
        assert!(flag == "--users", "`{flag}` is none of --users");
        users = args.next().and_then(|value| value.parse().ok()).expect("`--users` wants a number");
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("state");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("the folder for the data can be made");
    write_users(&folder, users);
    println!("bench: bytes per (key, fact) of {users} keys, by facts of a kind x events of each key in the window");
    let mut rows = vec![String::new(); KINDS.len()];
    for events in EVENTS {
        write_events(&folder, users, events);
        let base = replay(&folder, "{property: \"id = ''\"}", 1);
        println!(
            "{events} events of each key, no fact: {:.2} GB, {:.1} s; {}",
            base.peak_bytes as f64 / 1e9,
            base.time.as_secs_f64(),
            base.last_line
        );
        for ((_, condition), row) in KINDS.iter().zip(&mut rows) {
            for facts in [1, 5] {
                let more = replay(&folder, condition, facts).peak_bytes.saturating_sub(base.peak_bytes);
                write!(row, "{:>8}", more / (users * facts) as u64).expect("a string can be written");
            }
        }
    }
    let columns = EVENTS.iter().flat_map(|events| [format!("1 x {events}"), format!("5 x {events}")]);
    println!("{:<30}{}", "", columns.map(|column| format!("{column:>8}")).collect::<String>());
    for ((name, _), row) in KINDS.iter().zip(rows) {
        println!("{name:<30}{row}");
    }
}

fn write_users(folder: &Path, users: usize) {
    let ids: StringArray = (0..users).map(|user| Some(format!("user-{user:07}"))).collect();
    let batch = RecordBatch::try_from_iter([("id", Arc::new(ids) as ArrayRef)]).expect("a column");
    let file = File::create(folder.join("users.parquet")).expect("the folder can be written");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("the schema can be written");
    writer.write(&batch).expect("the file can be written");
    writer.close().expect("the file can be written");
}

/// Writes `events` events of each user within an hour.
fn write_events(folder: &Path, users: usize, events: usize) {
    let mut random = fastrand::Rng::with_seed(1);
    let mut out = BufWriter::new(File::create(folder.join("events.jsonl")).expect("the folder can be written"));
    let all = (users * events) as u64;
    for i in 0..all {
        let at = jiff::Timestamp::from_millisecond((START + i * 3_600_000 / all) as i64).expect("a time of our days");
        let (user, revenue, sku) = (i as usize % users, random.u32(0..100), random.u32(0..1_000));
        writeln!(
            out,
            "{{\"type\":\"track\",\"event\":\"Ordered\",\"userId\":\"user-{user:07}\",\"messageId\":\"m{i}\",\"timestamp\":\"{at}\",\
             \"properties\":{{\"revenue\":{revenue},\"sku\":\"s{sku}\"}}}}"
        )
        .expect("the folder can be written");
    }
    out.flush().expect("the folder can be written");
}

/// Replays a job with so many facts of a kind.
fn replay(folder: &Path, condition: &str, facts: usize) -> Run {
    let mut job = String::from(
        "job: state
sources: {web: {file: {path: events.jsonl}, format: segment}}
models: {users: {parquet: users.parquet, key: id}}
events:
  ordered: {source: web, type: track, name: Ordered, model: users, properties: {revenue: number, sku: string}}
audiences:
",
    );
    for fact in 0..facts {
        // In no audience, so that what is measured is what the fact keeps: not members, and not their changes.
        let condition = condition.replace("Ns", &format!("{}s", 86_400 + fact));
        writeln!(job, "  a{fact}: {{model: users, where: {{all: [{condition}, {{property: \"id = ''\"}}]}}}}")
            .expect("a string can be written");
    }
    let file: PathBuf = folder.join("job.yaml");
    fs::write(&file, job).expect("the folder can be written");
    process::replay(&file, 1)
}
