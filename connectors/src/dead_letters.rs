//! Bad messages, and the count of all.
//!
//! Promises: every bad message is written, with its place, its reason and its bytes, or, where the job names no file,
//! counted and sampled in the log. [`Counts`] adds up: read = matched + skipped + dead letters.

use crate::sink::SinkError;
use crate::source::PartitionId;
use base64::Engine;
use serde::Serialize;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tracing::warn;
use usher_config::FileTarget;

/// The most of a message's bytes that is kept.
const RAW_BYTES: usize = 64 << 10;
/// How many dead letters the log shows before it shows every [`SAMPLE`]-th.
const SHOWN: u64 = 10;
/// See [`SHOWN`].
const SAMPLE: u64 = 10_000;

/// Why a message is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Reason {
    BadKey,
    BadTimestamp,
    FutureTimestamp,
    Malformed,
    NoTimestamp,
    TooLarge,
}

/// In alphabetical order, as they are printed, and in the order of [`Reason`].
const REASONS: [&str; 6] = ["bad_key", "bad_timestamp", "future_timestamp", "malformed", "no_timestamp", "too_large"];

/// A bad message.
pub struct DeadLetter<'a> {
    /// Where it was read.
    pub partition: &'a PartitionId,
    /// Where in it.
    pub position: u64,
    /// What kind of bad.
    pub reason: Reason,
    /// What exactly, or nothing.
    pub detail: &'a str,
    /// Its bytes, or the first of them.
    pub raw: &'a [u8],
    /// How many it has.
    pub length: u64,
}

/// The line that is written of it.
#[derive(Serialize)]
struct Line<'a> {
    source: &'a str,
    partition: &'a str,
    position: u64,
    reason: Reason,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
    length: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_base64: Option<String>,
}

/// Where bad messages go; shared by all workers.
pub struct DeadLetters {
    to: Mutex<To>,
}

enum To {
    File { path: PathBuf, file: BufWriter<File>, failed: Option<std::io::Error> },
    Log { seen: u64 },
}

impl DeadLetters {
    /// Opens the job's file, to append to it, or the log where it names none.
    ///
    /// # Errors
    /// The file can't be opened.
    pub fn open(target: Option<&FileTarget>, folder: &Path) -> Result<DeadLetters, SinkError> {
        let to = match target {
            None => To::Log { seen: 0 },
            Some(target) => {
                let path = folder.join(&target.path);
                let file = OpenOptions::new().append(true).create(true).open(&path).map_err(|error| SinkError::file(&path, &error))?;
                To::File { path, file: BufWriter::new(file), failed: None }
            }
        };
        Ok(DeadLetters { to: Mutex::new(to) })
    }

    /// Writes one. A disk that is full is told by [`DeadLetters::close`].
    pub fn write(&self, letter: &DeadLetter<'_>) {
        match &mut *self.to.lock().expect("a worker panicked, which ends the process") {
            To::Log { seen } => {
                *seen += 1;
                if *seen <= SHOWN || seen.is_multiple_of(SAMPLE) {
                    let (partition, position, reason, detail) = (&letter.partition.name, letter.position, REASONS[letter.reason as usize], letter.detail);
                    warn!(partition, position, reason, detail, dead_letters = *seen, "a bad message was left out; `dead_letters` in the job file keeps them");
                }
            }
            To::File { file, failed, .. } => {
                let raw = &letter.raw[..letter.raw.len().min(RAW_BYTES)];
                // A cut in the middle of a character is not the message's fault.
                let text = match std::str::from_utf8(raw) {
                    Ok(text) => Some(text),
                    Err(error) if error.error_len().is_none() && raw.len() < letter.length as usize => std::str::from_utf8(&raw[..error.valid_up_to()]).ok(),
                    Err(_) => None,
                };
                let line = Line {
                    source: &letter.partition.source,
                    partition: &letter.partition.name,
                    position: letter.position,
                    reason: letter.reason,
                    detail: letter.detail,
                    length: letter.length,
                    raw: text,
                    raw_base64: text.is_none().then(|| base64::engine::general_purpose::STANDARD.encode(raw)),
                };
                let mut bytes = serde_json::to_vec(&line).expect("a dead letter is JSON");
                bytes.push(b'\n');
                if let Err(error) = file.write_all(&bytes) {
                    failed.get_or_insert(error);
                }
            }
        }
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// Some dead letters could not be written.
    pub fn close(&self) -> Result<(), SinkError> {
        match &mut *self.to.lock().expect("a worker panicked, which ends the process") {
            To::Log { .. } => Ok(()),
            To::File { path, file, failed } => {
                let flushed = file.flush();
                match failed.take().map_or(flushed, Err) {
                    Ok(()) => Ok(()),
                    Err(error) => Err(SinkError::file(path, &error)),
                }
            }
        }
    }
}

/// What became of the messages that were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Counts {
    pub read: u64,
    pub matched: u64,
    pub blank: u64,
    pub no_key: u64,
    pub unmatched: u64,
    /// By reason, in the order of [`Reason`].
    dead: [u64; 6],
    /// Of those matched, how many repeated an event that was held.
    pub repeats: u64,
    /// Values of the wrong type, taken for null.
    pub mismatches: u64,
}

impl Counts {
    /// Counts a dead letter.
    pub fn bury(&mut self, reason: Reason) {
        self.dead[reason as usize] += 1;
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Counts) {
        self.read += other.read;
        self.matched += other.matched;
        self.blank += other.blank;
        self.no_key += other.no_key;
        self.unmatched += other.unmatched;
        self.repeats += other.repeats;
        self.mismatches += other.mismatches;
        self.dead.iter_mut().zip(other.dead).for_each(|(all, one)| *all += one);
    }

    /// How many were bad for a reason.
    pub fn dead(&self, reason: Reason) -> u64 {
        self.dead[reason as usize]
    }

    /// Whether every message read is somewhere.
    pub fn balanced(&self) -> bool {
        self.read == self.matched + self.blank + self.no_key + self.unmatched + self.dead.iter().sum::<u64>()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped = [("blank", self.blank), ("no_key", self.no_key), ("unmatched", self.unmatched)];
        let dead: Vec<(&str, u64)> = REASONS.into_iter().zip(self.dead).collect();
        write!(f, "read {} = matched {} + skipped {}", self.read, self.matched, Parts(&skipped))?;
        write!(f, " + dead letters {}; repeats {}, mismatches {}", Parts(&dead), self.repeats, self.mismatches)
    }
}

/// A sum, and what it is made of where that is something.
struct Parts<'a>(&'a [(&'a str, u64)]);

impl fmt::Display for Parts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.iter().map(|(_, n)| n).sum::<u64>())?;
        let mut open = " (";
        for (name, n) in self.0.iter().filter(|(_, n)| *n > 0) {
            write!(f, "{open}{name} {n}")?;
            open = ", ";
        }
        if open == ", " { f.write_str(")") } else { Ok(()) }
    }
}
