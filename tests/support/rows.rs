//! Runs the program to its end, and writes the Parquet that it reads.

use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use parquet::arrow::ArrowWriter;
use std::fmt::Write;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use usher_queries::Value;
use usher_queries::oracle::Row;

/// The seeds that a test runs: `FROM..TO` in the environment, or so many.
pub fn seeds(variable: &str, count: u64) -> Range<u64> {
    let Ok(text) = std::env::var(variable) else { return 0..count };
    let range = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.unwrap_or_else(|| panic!("{variable} is FROM..TO, not `{text}`"))
}

/// The program, in a folder, with an empty environment but for what it needs.
pub fn usher(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_usher"));
    command.current_dir(folder).args(args).env("USHER_LOG", "info").stdin(Stdio::null());
    command
}

/// What it printed and how it ended.
pub struct Ran {
    pub stdout: String,
    pub stderr: String,
    pub code: Option<i32>,
}

/// Replays `job.yaml` over a history of 2026-11-23; returns its changes, one a line: time of day, key, type, audience, reason.
pub fn replayed(folder: &Path, flags: &[&str]) -> String {
    let ran = run(folder, &[&["replay", "job.yaml"], flags].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let mut changes = String::new();
    for line in ran.stdout.lines() {
        let message: serde_json::Value = serde_json::from_str(line).expect("a change is JSON");
        let field = |name: &str| message[name].as_str().expect("a field of a change is text").to_owned();
        let at = field("at").replace("2026-11-23T", "").replace('Z', "");
        writeln!(changes, "{at} {} {} {} {}", field("key"), field("type"), field("audience_id"), field("reason"))
            .expect("text can be written");
    }
    changes
}

/// Returns the lines of an indented text, as [`replayed`] has them.
pub fn lines(text: &str) -> String {
    text.trim().lines().map(|line| line.trim().to_owned() + "\n").collect()
}

/// Runs the program to its end.
pub fn run(folder: &Path, args: &[&str]) -> Ran {
    let Output { stdout, stderr, status } = usher(folder, args).output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program prints text");
    Ran { stdout: text(stdout), stderr: text(stderr), code: status.code() }
}

/// Writes one batch as Parquet.
pub fn write_parquet(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)));
    let batch = batch.expect("the columns are of one length");
    let mut writer = ArrowWriter::try_new(File::create(path).expect("the folder can be written"), batch.schema(), None)
        .expect("a writer");
    writer.write(&batch).expect("the file can be written");
    writer.close().expect("the file can be written");
}

/// A column of strings.
pub fn strings(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// A column of numbers.
pub fn numbers(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

/// Writes rows of the oracle's: a key, perhaps a foreign key, and columns by type.
pub fn write_rows(path: &Path, key: &str, foreign_key: Option<&str>, columns: &[(&str, &str)], rows: &[Row]) {
    let keys = rows.iter().map(|row| Some(row.key.as_str())).collect::<StringArray>();
    let mut all: Vec<(&str, ArrayRef)> = vec![(key, Arc::new(keys))];
    if let Some(name) = foreign_key {
        let keys = rows.iter().map(|row| row.foreign_key.as_deref()).collect::<StringArray>();
        all.push((name, Arc::new(keys)));
    }
    for (name, column_type) in columns {
        let values = rows.iter().map(|row| row.values.get(*name).unwrap_or(&Value::Null));
        let column: ArrayRef = match *column_type {
            "boolean" => Arc::new(
                values.map(|v| if let Value::Boolean(b) = v { Some(*b) } else { None }).collect::<BooleanArray>(),
            ),
            "number" => Arc::new(
                values.map(|v| if let Value::Number(x) = v { Some(*x) } else { None }).collect::<Float64Array>(),
            ),
            "integer" => Arc::new(
                values.map(|v| if let Value::Integer(n) = v { Some(*n) } else { None }).collect::<Int64Array>(),
            ),
            "timestamp" => Arc::new(
                values
                    .map(|v| if let Value::Timestamp(ms) = v { Some(*ms) } else { None })
                    .collect::<TimestampMillisecondArray>(),
            ),
            "string" => Arc::new(
                values.map(|v| if let Value::String(s) = v { Some(s.as_ref()) } else { None }).collect::<StringArray>(),
            ),
            other => panic!("no test writes a column of type {other}"),
        };
        all.push((name, column));
    }
    write_parquet(path, all);
}

/// A time as the program prints it.
pub fn rfc3339(ms: i64) -> String {
    format!("{:.3}", jiff::Timestamp::from_millisecond(ms).expect("a time of this era"))
}
