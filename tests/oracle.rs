//! A replay prints what the oracle computes, on random jobs over random histories, for any number of workers.
//!
//! `USHER_SEEDS=0..2000 cargo test --release --test usher oracle` runs more than the hundred of every test run.

use crate::support::rows::{rfc3339, run, seeds, write_rows};
use std::fmt::Write;
use std::path::Path;
use usher_queries::oracle::{self, Reason};
use usher_queries::plan::Plan;
use usher_queries::testing::generator::{Sample, parquet_of};

pub fn write(sample: &Sample, folder: &Path) {
    std::fs::write(folder.join("job.yaml"), &sample.job).expect("the folder can be written");
    for file in &sample.files {
        let path = folder.join(&file.path);
        std::fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("the folder can be written");
        std::fs::write(path, file.text()).expect("the folder can be written");
    }
    for (model, rows) in &sample.rows {
        let (path, key, foreign_key, columns) = parquet_of(model);
        write_rows(&folder.join(path), key, foreign_key, columns, rows);
    }
}

pub fn compile(sample: &Sample, folder: &Path) -> Plan {
    let job = usher_config::parse(&sample.job, "job.yaml", folder, &|_| None)
        .unwrap_or_else(|p| panic!("{p}\n{}", sample.job));
    usher_queries::compile(&job, "job.yaml", &usher_queries::Schemas::new())
        .unwrap_or_else(|p| panic!("{p}\n{}", sample.job))
}

/// The changes without ids, as the program prints them.
fn text_of_oracle(changes: &[oracle::Change]) -> String {
    let mut text = String::new();
    for change in changes {
        let kind = if change.entry { "entry" } else { "exit" };
        let reason = match change.reason {
            Reason::Event => "event",
            Reason::Expiry => "expiry",
            Reason::Snapshot => "snapshot",
            Reason::Trait => "trait",
        };
        writeln!(text, "{} {} {} {kind} {reason}", rfc3339(change.at), change.audience, change.key)
            .expect("text can be written");
    }
    text
}

fn text_of_program(stdout: &str) -> String {
    let mut text = String::new();
    for line in stdout.lines() {
        let message: serde_json::Value = serde_json::from_str(line).expect("a change is JSON");
        let field = |name: &str| message[name].as_str().unwrap_or_else(|| panic!("no {name} in {line}")).to_owned();
        writeln!(
            text,
            "{} {} {} {} {}",
            field("at"),
            field("audience_id"),
            field("key"),
            field("type"),
            field("reason")
        )
        .expect("text can be written");
    }
    text
}

#[test]
fn a_replay_is_what_the_oracle_computes_for_any_number_of_workers() {
    for seed in seeds("USHER_SEEDS", 100) {
        let sample = Sample::new(seed);
        let folder = tempfile::tempdir().expect("a folder for the test");
        write(&sample, folder.path());
        let plan = compile(&sample, folder.path());
        let want = text_of_oracle(&oracle::changes(&plan, &sample.history(&plan), sample.flags));
        let mut flags =
            vec![("--now", Some(sample.flags.now)), ("--from", sample.flags.from), ("--until", sample.flags.until)];
        flags.retain(|(_, value)| value.is_some());
        let flags: Vec<String> = flags
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_owned(), value.unwrap_or_default().to_string()])
            .collect();
        let mut first = None;
        for workers in ["1", "2", "3"] {
            let mut args = vec!["replay", "job.yaml", "-w", workers, "--summary", "summary.json"];
            args.extend(flags.iter().map(String::as_str));
            let ran = run(folder.path(), &args);
            assert_eq!(ran.code, Some(0), "seed {seed}, {workers} workers: {}", ran.stderr);
            let got = text_of_program(&ran.stdout);
            adds_up(&folder.path().join("summary.json"), &format!("seed {seed}, {workers} workers"));
            if got != want {
                let kept = folder.keep();
                panic!(
                    "seed {seed}, {workers} workers, flags {flags:?}, in {}:\n{}",
                    kept.display(),
                    difference(&want, &got)
                );
            }
            let first = first.get_or_insert_with(|| ran.stdout.clone());
            assert!(*first == ran.stdout, "seed {seed}: {workers} workers print other bytes than one");
        }
    }
}

/// Panics if the totals of a replay do not add up: read = matched + skipped + dead letters, and the arrangement of
/// members has as many as have entered and not left.
fn adds_up(summary: &Path, what: &str) {
    let text = std::fs::read_to_string(summary).expect("the replay writes its summary");
    let summary: serde_json::Value = serde_json::from_str(&text).expect("the summary is JSON");
    let count = |value: &serde_json::Value| value.as_u64().unwrap_or_else(|| panic!("{what}: not a count in {text}"));
    let field = |name: &str| count(&summary[name]);
    let sum = |name: &str| summary[name].as_object().expect("an object of counts").values().map(count).sum::<u64>();
    assert_eq!(field("read"), field("matched") + sum("skipped") + sum("dead_letters"), "{what}: {text}");
    assert_eq!(field("entries") - field("exits"), field("members"), "{what}: {text}");
}

/// The first lines that differ.
fn difference(want: &str, got: &str) -> String {
    let (want, got): (Vec<&str>, Vec<&str>) = (want.lines().collect(), got.lines().collect());
    let at = want.iter().zip(&got).take_while(|(a, b)| a == b).count();
    let around = |lines: &[&str]| lines[at.saturating_sub(2)..lines.len().min(at + 6)].join("\n  ");
    format!(
        "line {at} of {} and {}\nthe oracle:\n  {}\nthe program:\n  {}",
        want.len(),
        got.len(),
        around(&want),
        around(&got)
    )
}
