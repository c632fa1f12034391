//! The canonical workload, end to end, beside the floors that nothing here can be faster than.
//!
//! Segment messages of some 800 bytes from 1 M users (Zipf 1.0), 10 % out of order, 5 % twice; 100 audiences over 20
//! windowed conditions from 5 minutes to 24 hours and a few properties. Each figure is the median of the runs, whole
//! processes, baseline beside it.
//!
//! ```text
//! cargo bench --profile dist --bench canonical                       # what is in docs/BENCHMARKS.md
//! cargo bench --profile dist --bench canonical -- --events 500000 --users 100000 --runs 1
//! USHER=$(scripts/dist) cargo bench --profile dist --bench canonical                       # the program as packages have it
//! ```

// A benchmark's figures are its output.
#![allow(clippy::print_stdout)]

#[path = "../formats/benches/floors/reading.rs"]
mod floors;
#[path = "canonical/process.rs"]
mod process;
#[path = "canonical/workload.rs"]
mod workload;

use process::{Run, replay};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use workload::Workload;

struct Flags {
    events: usize,
    users: usize,
    runs: usize,
}

fn main() {
    let flags = flags();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("canonical-{}-{}", flags.events, flags.users));
    let workload = Workload { events: flags.events, users: flags.users };
    if !folder.join("complete").exists() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("the folder for the data can be made");
        workload.write(&folder);
        fs::write(folder.join("complete"), "").expect("the folder can be written");
    }
    let events = folder.join("events.jsonl");
    let lines = floors::count_lines(&events);
    let bytes = fs::metadata(&events).expect("the events are there").len();
    println!("{lines} messages, {} bytes each, {} users", bytes / lines, flags.users);

    report("floor: serde_json into borrowed fields", lines, &repeat(flags.runs, || floors::serde(&events)));
    report("floor: one skipping walk", lines, &repeat(flags.runs, || floors::walk(&events)));
    let mut medians = HashMap::new();
    for job in workload.jobs() {
        let file = folder.join(format!("{}.yaml", job.name));
        fs::write(&file, &job.text).expect("the folder can be written");
        let runs: Vec<Run> = (0..flags.runs).map(|_| replay(&file, job.workers)).collect();
        let times: Vec<Duration> = runs.iter().map(|run| run.time).collect();
        let peak = runs.iter().map(|run| run.peak_bytes).max().unwrap_or(0);
        let ledger = report(&format!("replay: {}", job.name), lines, &times);
        println!("{:>52} peak {:.2} GB; {}", "", peak as f64 / 1e9, runs[0].last_line);
        medians.insert(job.name.clone(), ledger);
    }
    let ratio = |a: &str, b: &str| medians[a].as_secs_f64() / medians[b].as_secs_f64();
    println!("1,000 audiences against 10: {:.2} times the time", ratio("1000-audiences", "10-audiences"));
    println!("30-day windows against 5-minute ones: {:.2} times the time", ratio("30-days", "5-minutes"));
    println!(
        "20 aggregates and sequences against 20 counts: {:.2} times the time",
        ratio("20-aggregates", "20-counts")
    );
}

fn flags() -> Flags {
    let mut flags = Flags { events: 4_000_000, users: 1_000_000, runs: 3 };
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(flag) = args.next() {
        let value =
            args.next().and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("`{flag}` wants a number"));
        match flag.as_str() {
            "--events" => flags.events = value,
            "--users" => flags.users = value,
            "--runs" => flags.runs = value,
            _ => panic!("`{flag}` is none of --events, --users, --runs"),
        }
    }
    flags
}

fn repeat(runs: usize, mut work: impl FnMut()) -> Vec<Duration> {
    (0..runs)
        .map(|_| {
            let since = Instant::now();
            work();
            since.elapsed()
        })
        .collect()
}

/// Prints the median and the spread; tells the median.
fn report(what: &str, messages: u64, times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    let median = times[times.len() / 2];
    let rate = |time: &Duration| messages as f64 / time.as_secs_f64() / 1e6;
    println!("{what:<44} {:>6.2} M/s ({:.2} to {:.2})", rate(&median), rate(&times[times.len() - 1]), rate(&times[0]));
    median
}
