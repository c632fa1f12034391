//! The seam to where messages come from.
//!
//! A source is read in partitions, each in order and with positions of its own. A [`Partition`] hands out what is there
//! and never waits; its caller decides when to look again.

use std::fmt;

/// Which partition of which source; in order of (source, name), SPEC §2.4's order of arrival.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionId {
    /// The source's id.
    pub source: String,
    /// The partition's name within it: a file's path.
    pub name: String,
}

/// A part of a source that is read in order and has positions of its own.
pub trait Partition: Send {
    /// Which one it is.
    fn id(&self) -> &PartitionId;

    /// The next records, about `budget` bytes of them. Never waits for what is not there yet.
    ///
    /// # Errors
    /// What was read so far has been handed out; the partition can't be read on.
    fn poll(&mut self, budget: usize) -> Result<Polled<'_>, SourceError>;

    /// Bytes read so far of what is stored, and how many were stored when it was opened.
    fn progress(&self) -> (u64, u64);

    /// Whether all that stood there when it was opened has been handed out.
    fn caught_up(&self) -> bool;
}

/// What a partition has.
pub enum Polled<'a> {
    /// Records, perhaps none where more bytes are needed to complete one.
    Records(Records<'a>),
    /// Nothing now; there may be more later.
    Idle,
    /// Nothing any more.
    End,
}

/// Records in order, borrowed from one buffer.
pub type Records<'a> = Box<dyn Iterator<Item = Record<'a>> + 'a>;

/// A message as it was stored.
pub struct Record<'a> {
    /// Where it starts.
    pub position: u64,
    /// The transport's time of it, ms since the epoch; files have none.
    pub timestamp: Option<u64>,
    /// Its bytes.
    pub body: Body<'a>,
}

/// The bytes of a record.
pub enum Body<'a> {
    /// All of them.
    Bytes(&'a [u8]),
    /// Nothing but white space.
    Blank,
    /// More than a message may have.
    TooLarge {
        /// The first of them, at most 64 KiB.
        head: &'a [u8],
        /// How many there were.
        length: u64,
    },
}

/// A source that can't be opened or read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceError {
    /// What happened, to what.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SourceError {}
