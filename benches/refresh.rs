//! A refresh of a 1 M-row snapshot, 1 % of it changed, while events flow: the maximum lag.
//!
//! ```text
//! cargo bench --profile dist --bench refresh
//! cargo bench --profile dist --bench refresh -- --users 100000 --rate 1000
//! ```

// A benchmark's figures are its output.
#![allow(clippy::print_stdout)]

#[path = "canonical/workload.rs"]
#[allow(dead_code)]
mod workload;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use workload::Workload;

fn main() {
    let (mut users, mut rate) = (1_000_000, 5_000);
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(flag) = args.next() {
        let value =
            args.next().and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("`{flag}` wants a number"));
        match flag.as_str() {
            "--users" => users = value,
            "--rate" => rate = value,
            _ => panic!("`{flag}` is none of --users, --rate"),
        }
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("refresh");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("the folder for the data can be made");
    let workload = Workload { events: 0, users };
    workload.write_users(&folder, 0);
    let job = &workload.jobs()[0].text;
    let job = job
        .replace("path: events.jsonl", "path: events.jsonl, follow: true")
        .replace("key: user_id,", "key: user_id, refresh: 5s,");
    fs::write(folder.join("job.yaml"), job).expect("the folder can be written");
    let mut events = File::create(folder.join("events.jsonl")).expect("the folder can be written");

    let mut child = Command::new(env!("CARGO_BIN_EXE_usher"))
        .args(["run", "job.yaml"])
        .current_dir(&folder)
        .stderr(Stdio::piped())
        .spawn()
        .expect("usher starts");
    let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
    let said = std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            println!("usher: {line}");
        }
    });
    let since = Instant::now();
    let mut rng = fastrand::Rng::with_seed(5);
    let (mut sent, mut line, mut refreshed) = (0, String::new(), false);
    while since.elapsed() < Duration::from_secs(30) {
        let due = (since.elapsed().as_secs_f64() * rate as f64) as usize;
        line.clear();
        let now = jiff::Timestamp::now().as_millisecond() as u64;
        while sent < due {
            workload.message(&mut rng, sent, now, &mut line);
            sent += 1;
        }
        events.write_all(line.as_bytes()).expect("the file can be written");
        if !refreshed && since.elapsed() > Duration::from_secs(12) {
            refreshed = true;
            println!("bench: 1 % of {users} rows change");
            workload.write_users(&folder, 1);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("bench: {sent} events in {:.1} s", since.elapsed().as_secs_f64());
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(killed.is_ok_and(|status| status.success()));
    child.wait().expect("the child is ours");
    said.join().expect("the reader of stderr does not panic");
}
