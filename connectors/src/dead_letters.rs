//! Where messages go that can't be used: to a file of JSON lines, to a topic of Kafka, or counted and sampled in the log.
//!
//! A line, or a message of the topic, has `source`, `partition`, `position`, `reason`, `detail`, then `raw` (or `raw_base64` where the message is
//! not UTF-8), cut at 64 KiB, and `length`, the message's full length in bytes. Those of several workers come in no
//! particular order. Which message is a dead letter is decided elsewhere; [`Counts`] keeps the books.

use crate::kafka::DeadLetterTopic;
use crate::queued_writer::{Item, QueuedWriter};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use std::fmt;
use std::path::Path;
use std::sync::Mutex;
use usher_config::DeadLettersTo;
use usher_core::dead_letters::{DeadLetter, DeadLetterReason, DeadLetters};
use usher_core::lock::lock;
use usher_core::sink::{SinkError, Written};
use usher_core::source::HEAD_BYTES;

/// Bytes of dead letters that may wait to be written: 8 MiB.
const QUEUE_BYTES: usize = 8 << 20;
/// Dead letters of a reason that the log shows before it shows only some of them.
const SHOWN_FIRST: u64 = 10;
/// After the first, one in so many is shown.
const SHOWN_EVERY: u64 = 1000;
/// How much of a message the log shows, in bytes.
const SHOWN_BYTES: usize = 256;

/// Takes the dead letters of all workers.
pub struct DeadLetterWriter(Target);

enum Target {
    File(QueuedWriter<Vec<u8>>),
    Topic(DeadLetterTopic),
    /// How many of each reason came.
    Log(Mutex<[u64; DeadLetterReason::ALL.len()]>),
}

impl DeadLetterWriter {
    /// Appends to `target`, relative to `folder`, or shows samples in the log. `variable` says what secrets of Kafka's settings
    /// stand for.
    pub fn open(
        target: Option<&DeadLettersTo>,
        folder: &Path,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<DeadLetterWriter, SinkError> {
        Ok(DeadLetterWriter(match target {
            None => Target::Log(Mutex::default()),
            Some(DeadLettersTo::Kafka { kafka, topic }) => {
                Target::Topic(DeadLetterTopic::open(kafka, topic, variable)?)
            }
            Some(DeadLettersTo::File(target)) => {
                let (to, file) = crate::writer::open_to_append(&folder.join(&target.path))?;
                Target::File(QueuedWriter::start(&to, file))
            }
        }))
    }
}

impl DeadLetters for DeadLetterWriter {
    /// Takes one. Lines are visible as soon as the file's thread gets to them.
    ///
    /// Waits while more than 8 MiB wait to be written; for brokers that are away not for long, and then what finds no room is
    /// sampled in the log. An error may be that of an earlier one.
    fn write(&self, letter: &DeadLetter<'_>) -> Result<(), SinkError> {
        match &self.0 {
            Target::File(queue) => {
                let mut line = json(letter);
                line.push(b'\n');
                queue.push(line, QUEUE_BYTES)
            }
            Target::Topic(letters) => {
                if let Some(count) = letters.push(&letter.partition.source, &json(letter))?
                    && shown(count)
                {
                    show(letter, count, "a dead letter finds no room while the brokers are away");
                }
                Ok(())
            }
            Target::Log(counts) => {
                let count = {
                    let mut counts = lock(counts);
                    counts[letter.reason as usize] += 1;
                    counts[letter.reason as usize]
                };
                if shown(count) {
                    show(letter, count, "a dead letter; name a file in `dead_letters` to keep them");
                }
                Ok(())
            }
        }
    }

    /// Waits until all are written. Nothing can be written afterwards.
    fn finish(&self) -> Result<(), SinkError> {
        match &self.0 {
            Target::File(queue) => queue.finish(),
            Target::Topic(letters) => letters.finish(),
            Target::Log(counts) => {
                let counts = *lock(counts);
                for reason in DeadLetterReason::ALL {
                    let count = counts[reason as usize];
                    if count > SHOWN_FIRST {
                        tracing::warn!(reason = reason.name(), count, "dead letters in all");
                    }
                }
                Ok(())
            }
        }
    }
}

impl Item for Vec<u8> {
    fn weight(&self) -> usize {
        self.len()
    }

    fn format(&self, out: &mut Vec<u8>, _written: &mut Written) {
        out.extend_from_slice(self);
    }
}

/// Whether the `count`-th is shown.
fn shown(count: u64) -> bool {
    count <= SHOWN_FIRST || count.is_multiple_of(SHOWN_EVERY)
}

/// Shows a sample in the log.
fn show(letter: &DeadLetter<'_>, count: u64, what: &str) {
    let raw = String::from_utf8_lossy(&letter.raw[..letter.raw.len().min(SHOWN_BYTES)]);
    tracing::warn!(
        source = %letter.partition.source,
        partition = %letter.partition.name,
        position = %Position::of(letter),
        reason = letter.reason.name(),
        detail = letter.detail,
        length = letter.length,
        raw = ?raw,
        count,
        "{what}"
    );
}

/// Where a dead letter was read.
#[derive(Serialize)]
#[serde(untagged)]
enum Position {
    Record(u64),
    /// `P.i`: an element of a batch.
    Element(String),
}

impl Position {
    fn of(letter: &DeadLetter<'_>) -> Position {
        match letter.element {
            None => Position::Record(letter.position),
            Some(index) => Position::Element(format!("{}.{index}", letter.position)),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Record(position) => write!(f, "{position}"),
            Position::Element(position) => f.write_str(position),
        }
    }
}

/// The dead letter as JSON.
fn json(letter: &DeadLetter<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Line<'a> {
        source: &'a str,
        partition: &'a str,
        position: Position,
        reason: &'a str,
        detail: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        raw: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        raw_base64: Option<String>,
        length: u64,
    }
    let text = text(letter.raw, letter.length);
    serde_json::to_vec(&Line {
        source: &letter.partition.source,
        partition: &letter.partition.name,
        position: Position::of(letter),
        reason: letter.reason.name(),
        detail: letter.detail,
        raw: text,
        raw_base64: match text {
            Some(_) => None,
            None => Some(STANDARD.encode(&letter.raw[..letter.raw.len().min(HEAD_BYTES)])),
        },
        length: letter.length,
    })
    .expect("strings and numbers have a JSON form")
}

/// The first 64 KiB of a message of `length` bytes as text, cut between characters; none where it is no UTF-8.
fn text(raw: &[u8], length: u64) -> Option<&str> {
    let cut = &raw[..raw.len().min(HEAD_BYTES)];
    match simdutf8::compat::from_utf8(cut) {
        Ok(text) => Some(text),
        // The last character may be cut, not broken.
        Err(error) if error.error_len().is_none() && (cut.len() as u64) < length => {
            simdutf8::basic::from_utf8(&cut[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::Arc;
    use usher_core::source::PartitionId;

    fn partition() -> PartitionId {
        PartitionId { source: "web".into(), name: "in/a.jsonl".into() }
    }

    fn parsed(raw: &[u8], length: u64) -> serde_json::Value {
        let line = json(&DeadLetter {
            partition: &partition(),
            position: 7,
            element: None,
            reason: DeadLetterReason::Malformed,
            detail: "no JSON object",
            raw,
            length,
        });
        serde_json::from_slice(&line).unwrap()
    }

    #[test]
    fn dead_letters_are_lines_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let target = DeadLettersTo::File(usher_config::FileTarget { path: "dead.jsonl".to_string() });
        let letters = DeadLetterWriter::open(Some(&target), folder.path(), &|_| None).unwrap();
        for (reason, raw) in
            [(DeadLetterReason::BadKey, &b"{\"a\": \"\xc3\xab\"}"[..]), (DeadLetterReason::Malformed, b"\xff\x00")]
        {
            let letter = DeadLetter {
                partition: &partition(),
                position: 12,
                element: None,
                reason,
                detail: "the key is `3.0`",
                raw,
                length: raw.len() as u64,
            };
            letters.write(&letter).unwrap();
        }
        letters.finish().unwrap();
        let text = fs::read_to_string(folder.path().join("dead.jsonl")).unwrap();
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_torn_line_of_an_earlier_run_is_ended_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead.jsonl");
        fs::write(&path, "whole\ntorn").unwrap();
        let target = DeadLettersTo::File(usher_config::FileTarget { path: "dead.jsonl".to_string() });
        for _ in 0..2 {
            DeadLetterWriter::open(Some(&target), folder.path(), &|_| None).unwrap().finish().unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"whole\ntorn\n");
        }
    }

    #[test]
    fn raw_is_cut_between_characters_and_length_is_the_whole() {
        let text = "a".repeat(HEAD_BYTES - 1) + "ëb";
        let found = parsed(text.as_bytes(), text.len() as u64);
        assert_eq!(found["raw"], text[..HEAD_BYTES - 1]);
        assert_eq!(found["length"], text.len());
        // The reader has cut it already, and kept the full length.
        let found = parsed(&text.as_bytes()[..HEAD_BYTES], 40_000_000);
        assert_eq!(found["raw"], text[..HEAD_BYTES - 1]);
        assert_eq!(found["length"], 40_000_000);
    }

    #[test]
    fn what_is_not_utf8_is_base64() {
        // A whole message that ends inside a character is broken, not cut.
        let found = parsed(b"a\xc3", 2);
        assert_eq!(found["raw_base64"], "YcM=");
        assert_eq!(found.get("raw"), None);
        let found = parsed(&[0xff; HEAD_BYTES + 10], 70_000);
        let raw = STANDARD.decode(found["raw_base64"].as_str().unwrap()).unwrap();
        assert_eq!(raw, [0xff; HEAD_BYTES]);
    }

    #[test]
    fn workers_share_one_file_line_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let target = DeadLettersTo::File(usher_config::FileTarget { path: "dead.jsonl".to_string() });
        let letters = Arc::new(DeadLetterWriter::open(Some(&target), folder.path(), &|_| None).unwrap());
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let letters = letters.clone();
                std::thread::spawn(move || {
                    for position in 0..1000 {
                        let letter = DeadLetter {
                            partition: &partition(),
                            position: worker * 1000 + position,
                            element: None,
                            reason: DeadLetterReason::TooLarge,
                            detail: "",
                            raw: b"{}",
                            length: 2,
                        };
                        letters.write(&letter).unwrap();
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        letters.finish().unwrap();
        let text = fs::read_to_string(folder.path().join("dead.jsonl")).unwrap();
        let mut positions: Vec<u64> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["position"].as_u64().unwrap())
            .collect();
        positions.sort();
        assert_eq!(positions, (0..4000).collect::<Vec<_>>());
    }

    #[test]
    fn a_file_that_is_full_is_an_error() {
        let target = DeadLettersTo::File(usher_config::FileTarget { path: "/dev/full".to_string() });
        let letters = DeadLetterWriter::open(Some(&target), Path::new("."), &|_| None).unwrap();
        let letter = DeadLetter {
            partition: &partition(),
            position: 0,
            element: Some(3),
            reason: DeadLetterReason::NoTimestamp,
            detail: "",
            raw: b"{}",
            length: 2,
        };
        // The first may still be taken; the end tells.
        let _ = letters.write(&letter);
        assert!(matches!(letters.finish(), Err(SinkError::Failed { .. })));
    }
}
