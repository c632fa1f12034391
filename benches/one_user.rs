//! All events of one user: what an event costs while so many others of the same user are in its window.
//!
//! Replays files of events of one user, in order and in no order at all, and prints µs per event, reading and matching included, by the
//! number of events in the window. With a count of 100,000 and with each aggregate the curve is to be flat but for a logarithm.
//!
//! ```text
//! cargo bench --bench one_user
//! cargo bench --bench one_user -- --events 50000
//! ```

// A benchmark's figures are its output.
#![allow(clippy::print_stdout)]

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// 2026-11-23 10:00:00 UTC, ms.
const START: u64 = 1_795_428_000_000;
/// Between two events, ms.
const STEP: u64 = 20;
/// How many events are in the window.
const IN_WINDOW: [u64; 4] = [100, 1_000, 10_000, 100_000];

const QUESTIONS: [(&str, &str); 6] = [
    ("3 or more", "at_least: 3"),
    ("100,000 or more", "at_least: 100000"),
    ("sum", "sum: revenue, at_least: 1000000000"),
    ("average", "avg: revenue, at_least: 49"),
    ("greatest value", "max: revenue, between: [10, 98]"),
    ("10,000 distinct values", "distinct: sku, at_least: 10000"),
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
        for (name, question) in QUESTIONS {
            let costs = IN_WINDOW.map(|in_window| {
                write_events(&folder, events, shuffled.then_some(in_window * STEP));
                write_job(&folder, question, in_window * STEP);
                replay(&folder).as_secs_f64() * 1e6 / events as f64
            });
            println!("  {name:<22}{}", costs.map(|cost| format!("{cost:>10.2}")).concat());
        }
    }
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

fn write_job(folder: &Path, question: &str, within: u64) {
    let job = format!(
        "job: one_user
sources: {{web: {{file: {{path: events.jsonl}}, format: segment}}}}
models: {{users: {{key: user_id}}}}
events:
  ordered: {{source: web, type: track, name: Ordered, model: users, properties: {{revenue: number, sku: string}}}}
audiences:
  a: {{model: users, where: {{performed: ordered, {question}, within: {within}ms}}}}
"
    );
    fs::write(folder.join("job.yaml"), job).expect("the folder can be written");
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
