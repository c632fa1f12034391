//! The port to the sources of messages: partitions that are polled for records.
//!
//! A source is a set of partitions. A [`Partition`] is read in order and by one worker; its positions only grow, so
//! that (source id, partition name, position) orders arrival (SPEC §2.4). A poll hands out a batch of records that
//! all borrow from the partition's own buffer: nothing is copied or allocated per record. Polls never wait for data
//! that is not there yet. Records are bytes here; decoding them is up to the caller.
//!
//! Refuses: a position that a partition no longer has, and to go on after an error.
//!
//! ```
//! use usher_core::source::{Body, Partition, PartitionId, Polled, Records, SourceError};
//!
//! /// A partition of lines in memory.
//! struct Lines { id: PartitionId, text: &'static [u8], position: usize }
//!
//! impl Partition for Lines {
//!     fn id(&self) -> &PartitionId { &self.id }
//!
//!     fn poll(&mut self, _budget: usize) -> Result<Polled<'_>, SourceError> {
//!         let start = std::mem::replace(&mut self.position, self.text.len());
//!         match &self.text[start..] {
//!             [] => Ok(Polled::End),
//!             lines => Ok(Polled::Records(Records::lines(lines, start as u64, 1024))),
//!         }
//!     }
//!
//!     fn position(&self) -> u64 { self.position as u64 }
//!     fn identity(&self) -> String { "memory".to_owned() }
//!     fn progress(&self) -> (u64, u64) { (self.position as u64, self.text.len() as u64) }
//!     fn caught_up(&self) -> bool { self.position == self.text.len() }
//! }
//!
//! let id = PartitionId { source: "web".to_owned(), name: "a.jsonl".to_owned() };
//! let mut partition = Lines { id, text: b"{}\n\n", position: 0 };
//! let Ok(Polled::Records(records)) = partition.poll(1024) else { panic!("there are records") };
//! let found: Vec<_> = records.map(|record| (record.position, record.body)).collect();
//! assert_eq!(found, [(0, Body::Bytes(b"{}")), (3, Body::Blank)]);
//! assert!(matches!(partition.poll(1024), Ok(Polled::End)));
//! ```

use crate::schemas::Schemas;
use memchr::memchr;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// How much of a message that is too large, or goes to the dead letters, is kept: 64 KiB.
pub const HEAD_BYTES: usize = 64 * 1024;

/// What Windows' tools write before a text in UTF-8.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A part of a source that is read in order and has positions of its own.
///
/// Ordered by source id, then name, both by bytes: with the position, SPEC §2.4's arrival order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PartitionId {
    /// The source's id in the job.
    pub source: String,
    /// The file's path: relative to the job's folder where it lies below it. Of a topic: `topic,00042`.
    pub name: String,
}

/// Where messages come from: a set of partitions, which may grow.
pub trait Source: Send {
    /// Returns the partitions found so far, in order.
    fn partitions(&self) -> Vec<PartitionId>;

    /// Takes up what an earlier run has read, of all sources, before partitions are listed and opened: which partitions there are may depend on it.
    fn resume(&mut self, read: &[(PartitionId, Resume)]) {
        let _ = read;
    }

    /// Looks for new partitions and returns them, in order.
    ///
    /// # Errors
    /// The source can't be listed.
    fn discover(&mut self) -> Result<Vec<PartitionId>, SourceError>;

    /// Opens a partition at the position that an earlier run reached, or, without one, where the source starts to read.
    ///
    /// # Errors
    /// The partition can't be read, or no longer has the position.
    fn open(&mut self, id: &PartitionId, from: Option<&Resume>) -> Result<Box<dyn Partition>, SourceError>;

    /// Returns the schemas of its messages, if they name them by ids.
    fn schemas(&self) -> Option<Arc<dyn Schemas>> {
        None
    }
}

/// The position at which reading a partition resumes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Resume {
    /// The first position that was not read.
    pub position: u64,
    /// Identifies the content: another file or topic of the same name has another identity. Opaque outside the source.
    pub identity: String,
}

/// The headers of a message.
///
/// A record only refers to them: they are read where a job names one.
pub trait Headers {
    /// Returns the value of the last header of that name; `None` if there is none or it has no value.
    fn get(&self, name: &str) -> Option<&[u8]>;
}

/// One ordered stream of records.
pub trait Partition: Send {
    /// Returns its id.
    fn id(&self) -> &PartitionId;

    /// Returns the next records, at least one and about `budget` bytes of them. Never waits for data that is not there. Those of one
    /// partition either can all be copied ([`Records::copy_into`]) or none of them.
    ///
    /// # Errors
    /// The partition can't be read on. Each further poll returns the same error.
    fn poll(&mut self, budget: usize) -> Result<Polled<'_>, SourceError>;

    /// Has `wake` called, from any thread, whenever records come after a poll that found none. Returns false if the partition
    /// can't do that: then it is to be polled now and again.
    fn wake_with(&mut self, wake: Arc<dyn Fn() + Send + Sync>) -> bool {
        let _ = wake;
        false
    }

    /// Returns the position of the next record: bytes of decompressed content, or an offset of a topic. Never goes back.
    fn position(&self) -> u64;

    /// Returns the identity of the content, for [`Resume::identity`].
    fn identity(&self) -> String;

    /// Returns how much was read, and how much was stored when the partition was opened: compressed bytes of a file, messages of
    /// a topic. The first may exceed the second if the partition has grown.
    fn progress(&self) -> (u64, u64);

    /// Returns the number of messages that are there and were not read; `None` if it is not known.
    fn lag(&self) -> Option<u64> {
        None
    }

    /// Returns whether all records that were there at the open have been returned.
    fn caught_up(&self) -> bool;

    /// Returns from when on it is read.
    fn since(&self) -> ReadFrom {
        ReadFrom::Ever
    }

    /// Returns why it was not read to its end, if it is damaged in the middle: what comes before counts.
    fn damage(&self) -> Option<&SourceError> {
        None
    }
}

/// From when on a partition is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// From its very first message, or from the position that an earlier run reached.
    Ever,
    /// Messages of this time (ms since the epoch) and later.
    Time(u64),
    /// From the first message that is still there; earlier ones were deleted.
    Oldest,
}

/// The result of a poll.
pub enum Polled<'a> {
    /// At least one record.
    Records(Records<'a>),
    /// Nothing now; there may be more later.
    Idle,
    /// Nothing now or later.
    End,
}

/// One message, or a blank line, or a message that is too large.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// Where it starts in its partition.
    pub position: u64,
    /// The transport's own time of the message, ms since the epoch; files have none.
    pub timestamp: Option<u64>,
    /// The transport's headers of the message; files have none.
    pub headers: Option<&'a dyn Headers>,
    /// Its content.
    pub body: Body<'a>,
}

impl fmt::Debug for Record<'_> {
    /// Shows whether there are headers, which can't be listed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { position, timestamp, headers, body } = self;
        let mut shown = f.debug_struct("Record");
        shown.field("position", position).field("timestamp", timestamp);
        shown.field("headers", &headers.is_some()).field("body", body).finish()
    }
}

/// The content of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// A message, without its line end (`\n` or `\r\n`). Not known to be UTF-8.
    Bytes(&'a [u8]),
    /// Nothing but JSON white space, or a byte order mark.
    Blank,
    /// More than the job's `limits.message_bytes`.
    TooLarge {
        /// The first [`HEAD_BYTES`] of it, or all where it is shorter.
        head: &'a [u8],
        /// The whole length in bytes, without the line end.
        length: u64,
    },
}

/// A batch of records, borrowed from one buffer or from the messages of a client. Lines are split as the batch is iterated.
#[derive(Clone)]
pub struct Records<'a> {
    /// A single record, instead of lines and messages.
    one: Option<Record<'a>>,
    /// Lines not yet handed out; the last may lack its newline.
    lines: &'a [u8],
    /// Where `lines` starts in the partition.
    position: u64,
    /// A client's own messages, and which of their places have not been handed out.
    batch: Option<(&'a dyn MessageBatch, Range<usize>)>,
    /// The longest message, in bytes.
    message_bytes: usize,
}

/// Messages that a client holds in its own memory, in their order.
pub trait MessageBatch {
    /// Returns the message in a place as a record; `None` if something else is there. `message_bytes` is the longest message.
    fn record(&self, place: usize, message_bytes: usize) -> Option<Record<'_>>;
}

impl<'a> Records<'a> {
    /// Returns the lines of `lines`, which start at `position`.
    pub fn lines(lines: &'a [u8], position: u64, message_bytes: usize) -> Records<'a> {
        Records { one: None, lines, position, batch: None, message_bytes }
    }

    /// Returns the messages in the first `places` places of a batch.
    pub fn messages(batch: &'a dyn MessageBatch, places: usize, message_bytes: usize) -> Records<'a> {
        Records { one: None, lines: &[], position: 0, batch: Some((batch, 0..places)), message_bytes }
    }

    /// Returns a single record.
    pub fn one(record: Record<'a>) -> Records<'a> {
        Records { one: Some(record), lines: &[], position: 0, batch: None, message_bytes: 0 }
    }

    /// Returns whether they can be copied: messages that a client holds, and headers, are only referred to.
    pub fn can_be_copied(&self) -> bool {
        self.batch.is_none() && self.one.is_none_or(|record| record.headers.is_none())
    }

    /// Copies what has not been handed out, into the memory of `bytes`. `None` if they can't be copied.
    pub fn copy_into(&self, mut bytes: Vec<u8>) -> Option<CopiedRecords> {
        if !self.can_be_copied() {
            return None;
        }
        let Records { one, lines, position, batch: _, message_bytes } = self;
        bytes.clear();
        let one = match one.filter(|_| lines.is_empty()) {
            None => {
                bytes.extend_from_slice(lines);
                None
            }
            Some(Record { position, timestamp, headers: _, body }) => {
                let (content, body) = match body {
                    Body::Bytes(content) => (content, CopiedBody::Bytes),
                    Body::Blank => (&[][..], CopiedBody::Blank),
                    Body::TooLarge { head, length } => (head, CopiedBody::TooLarge { length }),
                };
                bytes.extend_from_slice(content);
                Some(CopiedRecord { position, timestamp, body })
            }
        };
        Some(CopiedRecords { bytes, position: *position, message_bytes: *message_bytes, one })
    }
}

/// Records with bytes of their own, which may go to another thread.
#[derive(Debug)]
pub struct CopiedRecords {
    /// The lines, or what was kept of the single record.
    bytes: Vec<u8>,
    /// Where the lines start in the partition.
    position: u64,
    /// The longest message, in bytes.
    message_bytes: usize,
    /// A single record, instead of lines.
    one: Option<CopiedRecord>,
}

/// A single record, without its bytes.
#[derive(Debug)]
struct CopiedRecord {
    position: u64,
    timestamp: Option<u64>,
    body: CopiedBody,
}

#[derive(Debug)]
enum CopiedBody {
    Bytes,
    Blank,
    TooLarge { length: u64 },
}

impl CopiedRecords {
    /// Returns the records, as those were that were copied.
    pub fn records(&self) -> Records<'_> {
        let bytes = &self.bytes;
        match &self.one {
            None => Records::lines(bytes, self.position, self.message_bytes),
            Some(CopiedRecord { position, timestamp, body }) => {
                let body = match body {
                    CopiedBody::Bytes => Body::Bytes(bytes),
                    CopiedBody::Blank => Body::Blank,
                    CopiedBody::TooLarge { length } => Body::TooLarge { head: bytes, length: *length },
                };
                Records::one(Record { position: *position, timestamp: *timestamp, headers: None, body })
            }
        }
    }

    /// Returns the memory, for the next copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        if self.lines.is_empty() {
            if let Some(one) = self.one.take() {
                return Some(one);
            }
            let (batch, places) = self.batch.as_mut()?;
            return places.find_map(|place| batch.record(place, self.message_bytes));
        }
        let (line, rest) = match memchr(b'\n', self.lines) {
            Some(end) => (&self.lines[..end], &self.lines[end + 1..]),
            None => (self.lines, &[][..]),
        };
        let position = self.position;
        self.position += (self.lines.len() - rest.len()) as u64;
        self.lines = rest;
        Some(Record { position, timestamp: None, headers: None, body: body(line, self.message_bytes) })
    }
}

/// Returns the body of a line without its `\n`.
#[inline]
fn body(line: &[u8], message_bytes: usize) -> Body<'_> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if is_too_large(line, message_bytes) {
        Body::TooLarge { head: &line[..line.len().min(HEAD_BYTES)], length: line.len() as u64 }
    } else if line.iter().all(|b| matches!(b, b' ' | b'\t' | b'\r')) || line == BYTE_ORDER_MARK {
        Body::Blank
    } else {
        Body::Bytes(line)
    }
}

/// Returns whether a message is longer than the longest, without a byte order mark before it.
#[inline]
pub fn is_too_large(message: &[u8], message_bytes: usize) -> bool {
    message.len() > message_bytes
        && message.strip_prefix(BYTE_ORDER_MARK).is_none_or(|content| content.len() > message_bytes)
}

/// Why a source can't be opened or read on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// No file is there.
    #[error("source `{id}`: no file matches `{path}` in `{folder}`")]
    NoFile {
        /// The source's id.
        id: String,
        /// As the job file has it.
        path: String,
        /// The folder it is relative to.
        folder: String,
    },
    /// The path is no glob.
    #[error("source `{id}`: `{path}` is no pattern: {reason}")]
    Pattern {
        /// The source's id.
        id: String,
        /// As the job file has it.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system refuses.
    #[error("source `{id}`: `{path}` can't be read: {reason}")]
    Unreadable {
        /// The source's id.
        id: String,
        /// The file or folder.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// An earlier run read more of it than there is, or it is another one than was read.
    #[error("source `{id}`: `{partition}` {found}, but the state has read {read}")]
    Unlike {
        /// The source's id.
        id: String,
        /// The partition's name.
        partition: String,
        /// What is there: "ends at 17", "is another file".
        found: String,
        /// What the state says: "up to 40".
        read: String,
    },
    /// Kafka refuses, or does not answer.
    #[error("source `{id}`: {reason}")]
    Kafka {
        /// The source's id.
        id: String,
        /// Of what, and why.
        reason: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The registry of its messages' schemas can't be read.
    #[error("source `{id}`: the registry at `{url}` {reason}")]
    Registry {
        /// The source's id.
        id: String,
        /// Where it is, without what may be secret.
        url: String,
        /// What it does, or does not do.
        reason: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// A compressed file breaks off or makes no sense.
    #[error("source `{id}`: `{path}` is damaged after {position} bytes of content: {reason}")]
    Damaged {
        /// The source's id.
        id: String,
        /// The file.
        path: String,
        /// How many bytes of content, decompressed, could be read.
        position: u64,
        /// The decoder's words.
        reason: String,
    },
}

impl SourceError {
    /// Returns what the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            SourceError::NoFile { .. } => {
                "paths are relative to the folder of the job file, or of the plan; with `follow: true` a file may come later"
            }
            SourceError::Pattern { .. } => {
                "`*` and `?` stand for characters, `**` for folders; `[*]` is the character itself"
            }
            SourceError::Unreadable { reason, .. } if reason.contains("os error 24") => {
                "raise the limit of open files (`ulimit -n`), or join the files"
            }
            SourceError::Unreadable { .. } => "the user that runs the job must be able to read it",
            SourceError::Unlike { .. } => {
                "restore what was read, or start again from what is there with `--restart-sources`: what is held of it then stays held"
            }
            SourceError::Kafka { hint, .. } | SourceError::Registry { hint, .. } => hint,
            SourceError::Damaged { .. } => {
                "restore the file, or decompress what can be saved (`gzip -dc`, `zstd -dc`) and read that"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(lines: &[u8], message_bytes: usize) -> Vec<(u64, Body<'_>)> {
        Records::lines(lines, 100, message_bytes).map(|record| (record.position, record.body)).collect()
    }

    #[test]
    fn lines_keep_their_positions_and_lose_their_ends() {
        assert_eq!(
            bodies(b"one\ntwo\r\n \t\r\n\nlast", 100),
            [
                (100, Body::Bytes(b"one")),
                (104, Body::Bytes(b"two")),
                (109, Body::Blank),
                (113, Body::Blank),
                (114, Body::Bytes(b"last")),
            ]
        );
    }

    #[test]
    fn a_message_is_too_large_from_one_byte_above_the_limit() {
        assert_eq!(
            bodies(b"1234\r\n12345\n", 4),
            [(100, Body::Bytes(b"1234")), (106, Body::TooLarge { head: b"12345", length: 5 }),]
        );
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_length_of_a_message() {
        let marked = |text: &str| format!("\u{feff}{text}").into_bytes();
        let (four, five) = (marked("1234"), marked("12345"));
        assert_eq!(bodies(&four, 4), [(100, Body::Bytes(&four))]);
        assert_eq!(bodies(&five, 4), [(100, Body::TooLarge { head: &five, length: 8 })]);
        assert_eq!(bodies(&marked(""), 1), [(100, Body::Blank)]);
        assert_eq!(bodies(b"1234567", 4).len(), 1);
        assert!(is_too_large(b"12345", 4) && !is_too_large(b"1234", 4));
    }

    #[test]
    fn copied_records_are_those_that_had_not_been_handed_out() {
        struct NoHeaders;
        impl Headers for NoHeaders {
            fn get(&self, _name: &str) -> Option<&[u8]> {
                None
            }
        }
        let shown = |records: Records<'_>| records.map(|record| format!("{record:?}")).collect::<Vec<_>>();
        let mut lines = Records::lines(b"one\n\r\ntoo long\nlast", 7, 4);
        lines.next();
        let one = |body| Records::one(Record { position: 9, timestamp: Some(3), headers: None, body });
        let long = Body::TooLarge { head: b"12345", length: 50 };
        let mut memory = b"before".to_vec();
        for records in [lines, one(long), one(Body::Bytes(b"a")), one(Body::Blank), Records::lines(b"", 0, 1)] {
            let copied = records.copy_into(memory).expect("they are lines, or one without headers");
            assert_eq!(shown(copied.records()), shown(records));
            memory = copied.into_bytes();
        }
        let headers = Some(&NoHeaders as &dyn Headers);
        let referring = Record { position: 0, timestamp: None, headers, body: Body::Blank };
        assert!(Records::one(referring).copy_into(memory).is_none(), "headers are only referred to");
    }

    #[test]
    fn partitions_sort_by_source_and_then_by_the_bytes_of_the_path() {
        let id = |source: &str, name: &str| PartitionId { source: source.into(), name: name.into() };
        let mut ids = [id("b", "a"), id("a", "x/1"), id("a", "x.1"), id("a", "B"), id("a", "a")];
        ids.sort();
        let names: Vec<_> = ids.iter().map(|id| (&id.source[..], &id.name[..])).collect();
        assert_eq!(names, [("a", "B"), ("a", "a"), ("a", "x.1"), ("a", "x/1"), ("b", "a")]);
    }
}
