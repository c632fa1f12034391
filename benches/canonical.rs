//! The canonical workload, end to end, beside the floors that nothing here can be faster than.
//!
//! Segment messages of some 800 bytes from 1 M users (Zipf 1.0), 10 % out of order, 5 % twice; 100 audiences over 20
//! windowed conditions from 5 minutes to 24 hours and a few properties. Each figure is the median of the runs, whole
//! processes, baseline beside it.
//!
//! ```text
//! cargo bench --profile dist --bench canonical                       # what is in docs/BENCHMARKS.md
//! cargo bench --profile dist --bench canonical -- --events 500000 --users 100000 --runs 1
//! ```

// A benchmark's figures are its output.
#![allow(clippy::print_stdout)]

#[path = "canonical/workload.rs"]
mod workload;

use std::collections::HashMap;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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
    let lines = count_lines(&events);
    let bytes = fs::metadata(&events).expect("the events are there").len();
    println!("{lines} messages, {} bytes each, {} users", bytes / lines, flags.users);

    report("floor: serde_json into borrowed fields", lines, &repeat(flags.runs, || floor_serde(&events)));
    report("floor: one skipping walk", lines, &repeat(flags.runs, || floor_walk(&events)));
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

fn count_lines(path: &Path) -> u64 {
    let mut lines = 0;
    each_chunk(path, |chunk| lines += memchr::memchr_iter(b'\n', chunk).count() as u64);
    lines
}

/// The whole lines of a file, a chunk at a time.
fn each_chunk(path: &Path, mut work: impl FnMut(&[u8])) {
    use std::io::Read;
    let mut file = fs::File::open(path).expect("the events are there");
    let mut buffer = vec![0; 256 << 10];
    let mut start = 0;
    loop {
        let read = file.read(&mut buffer[start..]).expect("the events can be read");
        if read == 0 {
            return;
        }
        let end = start + read;
        let whole = memchr::memrchr(b'\n', &buffer[..end]).map_or(0, |at| at + 1);
        work(&buffer[..whole]);
        buffer.copy_within(whole..end, 0);
        start = end - whole;
    }
}

fn each_line(path: &Path, mut work: impl FnMut(&[u8])) {
    each_chunk(path, |chunk| {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', chunk) {
            work(&chunk[start..end]);
            start = end + 1;
        }
    });
}

fn floor_serde(events: &Path) {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message<'a> {
        #[serde(rename = "type", borrow)]
        kind: Option<&'a str>,
        #[serde(borrow)]
        event: Option<&'a str>,
        #[serde(borrow)]
        name: Option<&'a str>,
        #[serde(borrow)]
        user_id: Option<&'a str>,
        #[serde(borrow)]
        message_id: Option<&'a str>,
        #[serde(borrow)]
        timestamp: Option<&'a str>,
        #[serde(borrow)]
        properties: Option<Properties<'a>>,
    }
    #[derive(serde::Deserialize)]
    struct Properties<'a> {
        #[serde(borrow)]
        path: Option<&'a str>,
        #[serde(borrow)]
        category: Option<&'a str>,
        revenue: Option<f64>,
    }
    each_line(events, |line| {
        let message: Message<'_> = serde_json::from_slice(line).expect("the messages are JSON");
        let properties = message.properties.as_ref().map(|p| (p.path, p.category, p.revenue));
        black_box((
            message.kind,
            message.event,
            message.name,
            message.user_id,
            message.message_id,
            message.timestamp,
            properties,
        ));
    });
}

fn floor_walk(events: &Path) {
    use usher_config::Format;
    use usher_formats::{Decoder, Fields};
    let decoder = Decoder::new(&Format::Segment, &[]);
    each_chunk(events, |chunk| {
        let mut fields = Fields::default();
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', chunk) {
            black_box(decoder.decode(&chunk[start..end], None, &mut fields)).expect("the messages are JSON");
            start = end + 1;
        }
    });
}

struct Run {
    time: Duration,
    peak_bytes: u64,
    last_line: String,
}

/// A whole process, from file to file.
fn replay(job: &Path, workers: usize) -> Run {
    let out: PathBuf = job.with_extension("changes.jsonl");
    let since = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_usher"))
        .args(["replay", "--now", "2026-12-01T00:00:00Z", "-w", &workers.to_string(), "--out"])
        .arg(&out)
        .arg(job)
        .stderr(Stdio::piped())
        .spawn()
        .expect("usher starts");
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak_bytes = 0;
    let time = loop {
        if let Some(peak) = fs::read_to_string(&status_file).ok().as_deref().and_then(high_water) {
            peak_bytes = peak;
        }
        if child.try_wait().expect("the child is ours").is_some() {
            break since.elapsed();
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let output = child.wait_with_output().expect("the child is ours");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let _ = fs::remove_file(out);
    Run { time, peak_bytes, last_line: said.lines().last().unwrap_or_default().to_owned() }
}

fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
