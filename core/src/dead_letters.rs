//! The port to the dead letters: a [`DeadLetters`] takes each message that can't be used, with its place, reason and bytes.
//!
//! Promises: a dead letter that was taken is kept or counted, never lost in silence. Refuses: calls after
//! [`DeadLetters::finish`].

use crate::sink::SinkError;
use crate::source::PartitionId;
use serde::{Deserialize, Serialize};

/// Why a message can't be used (SPEC §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DeadLetterReason {
    /// Its key is no string and no JSON integer, or too long.
    BadKey,
    /// Its time is before 1970 or can't be read.
    BadTimestamp,
    /// Its time is too far ahead of the clock.
    FutureTimestamp,
    /// It is not one JSON object (or row) in UTF-8, or a value that is needed is broken.
    Malformed,
    /// It has no time.
    NoTimestamp,
    /// It is longer than `limits.message_bytes`.
    TooLarge,
    /// The registry has no schema of its id.
    UnknownSchema,
}

impl DeadLetterReason {
    /// All, by name.
    pub const ALL: [DeadLetterReason; 7] = [
        DeadLetterReason::BadKey,
        DeadLetterReason::BadTimestamp,
        DeadLetterReason::FutureTimestamp,
        DeadLetterReason::Malformed,
        DeadLetterReason::NoTimestamp,
        DeadLetterReason::TooLarge,
        DeadLetterReason::UnknownSchema,
    ];

    /// Returns the name in dead letters and counts.
    pub fn name(self) -> &'static str {
        match self {
            DeadLetterReason::BadKey => "bad_key",
            DeadLetterReason::BadTimestamp => "bad_timestamp",
            DeadLetterReason::FutureTimestamp => "future_timestamp",
            DeadLetterReason::Malformed => "malformed",
            DeadLetterReason::NoTimestamp => "no_timestamp",
            DeadLetterReason::TooLarge => "too_large",
            DeadLetterReason::UnknownSchema => "unknown_schema",
        }
    }
}

/// A message that can't be used.
#[derive(Clone, Copy, Debug)]
pub struct DeadLetter<'a> {
    /// Where it was read.
    pub partition: &'a PartitionId,
    /// Where it starts there; of an element of a batch where the batch does.
    pub position: u64,
    /// Its index in its batch, if it was in one.
    pub element: Option<u32>,
    /// Why it can't be used.
    pub reason: DeadLetterReason,
    /// What is wrong, in detail.
    pub detail: &'a str,
    /// The message, or the part of it that was kept.
    pub raw: &'a [u8],
    /// Its full length, bytes.
    pub length: u64,
}

/// The destination of messages that can't be used. Shared by all workers of a process.
pub trait DeadLetters: Send + Sync {
    /// Takes a dead letter. May wait while too much is queued.
    ///
    /// # Errors
    /// The destination refused this or an earlier dead letter.
    fn write(&self, letter: &DeadLetter<'_>) -> Result<(), SinkError>;

    /// Waits until all dead letters are written. Nothing can be written afterwards.
    ///
    /// # Errors
    /// The destination refused a dead letter.
    fn finish(&self) -> Result<(), SinkError>;
}
