//! The seam to where changes go: batches of changes, and what takes them.
//!
//! A [`Changes`] holds the changes of one epoch (or a part of it), their keys in one buffer. A [`Sink`] takes them in
//! order. [`Writer`] is the sink of files and of stdout: one JSON line for each change, as [`write_message`] has it.

mod message;
pub(crate) mod spool;
mod writer;

pub use message::{Catalog, write_message};
pub use writer::Writer;
pub(crate) use writer::open_to_append;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;

/// In or out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ChangeKind {
    /// The key is now in the audience.
    Entry,
    /// The key is no longer in the audience.
    Exit,
}

/// Why membership changed. Where several hold, the least is said (SPEC §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reason {
    /// An event.
    Event,
    /// A window ended, or a `now()` moment passed.
    Expiry,
    /// A pull.
    Snapshot,
    /// A live trait.
    Trait,
    /// The job file changed.
    Definition,
    /// The job was down when it happened.
    Recovery,
}

impl ChangeKind {
    /// As messages have it.
    pub fn name(self) -> &'static str {
        match self {
            ChangeKind::Entry => "entry",
            ChangeKind::Exit => "exit",
        }
    }
}

impl Reason {
    /// As messages have it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Event => "event",
            Reason::Expiry => "expiry",
            Reason::Snapshot => "snapshot",
            Reason::Trait => "trait",
            Reason::Definition => "definition",
            Reason::Recovery => "recovery",
        }
    }
}

/// An entry or an exit; its key is in the [`Changes`] that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// When, ms since the epoch.
    pub at: u64,
    /// Which audience: its index in the [`Catalog`].
    pub audience: u32,
    /// In or out.
    pub kind: ChangeKind,
    /// Why.
    pub reason: Reason,
    /// Where the key starts in the buffer, and its length in bytes.
    key: (u32, u32),
}

/// Changes in an order, with their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    changes: Vec<Change>,
    keys: String,
}

impl Changes {
    /// None yet.
    pub fn new() -> Changes {
        Changes::default()
    }

    /// Adds a change at the end.
    pub fn push(&mut self, at: u64, audience: u32, kind: ChangeKind, reason: Reason, key: &str) {
        let start = u32::try_from(self.keys.len()).expect("a batch holds less than 4 GiB of keys");
        let length = u32::try_from(key.len()).expect("a key has at most 1,024 bytes");
        self.keys.push_str(key);
        self.changes.push(Change { at, audience, kind, reason, key: (start, length) });
    }

    /// Adds those of `other` at the end, in their order.
    pub fn append(&mut self, other: &Changes) {
        for change in other.iter() {
            let Change { at, audience, kind, reason, .. } = *change;
            self.push(at, audience, kind, reason, other.key(change));
        }
    }

    /// The changes in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Change> {
        self.changes.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Forgets all; keeps the memory.
    pub fn clear(&mut self) {
        self.changes.clear();
        self.keys.clear();
    }

    /// The key of `change`, which is one of these.
    pub fn key(&self, change: &Change) -> &str {
        let (start, length) = (change.key.0 as usize, change.key.1 as usize);
        &self.keys[start..start + length]
    }

    /// Takes out those before a time; none: all.
    pub fn take_before(&mut self, time: Option<u64>) -> Changes {
        let due = |change: &Change| time.is_none_or(|time| change.at < time);
        if self.iter().all(due) {
            return std::mem::take(self);
        }
        let (mut before, mut after) = (Changes::default(), Changes::default());
        for change in self.iter() {
            let to = if due(change) { &mut before } else { &mut after };
            to.push(change.at, change.audience, change.kind, change.reason, self.key(change));
        }
        *self = after;
        before
    }

    /// Orders by time, audience id, key: the order of what `replay` prints.
    pub fn sort(&mut self) {
        let keys = &self.keys;
        let key = |change: &Change| &keys[change.key.0 as usize..][..change.key.1 as usize];
        self.changes.sort_by(|a, b| (a.at, a.audience, key(a)).cmp(&(b.at, b.audience, key(b))));
    }
}

impl<'a> IntoIterator for &'a Changes {
    type Item = &'a Change;
    type IntoIter = std::slice::Iter<'a, Change>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Which changes a sync sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// By audience, as in the catalog; none: all.
    audiences: Option<Vec<bool>>,
    entry: bool,
    exit: bool,
}

impl Filter {
    /// Every change.
    pub fn all() -> Filter {
        Filter { audiences: None, entry: true, exit: true }
    }

    /// What `sync` sends of the audiences of `catalog`.
    pub fn of(sync: &usher_config::Sync, catalog: &Catalog) -> Filter {
        let mut audiences = vec![false; catalog.len()];
        for id in &sync.audiences {
            if let Some(index) = catalog.index(id) {
                audiences[index as usize] = true;
            }
        }
        Filter { audiences: Some(audiences), entry: sync.send_entry, exit: sync.send_exit }
    }

    /// Whether `change` is sent.
    pub fn sends(&self, change: &Change) -> bool {
        let kind = match change.kind {
            ChangeKind::Entry => self.entry,
            ChangeKind::Exit => self.exit,
        };
        kind && self.audiences.as_ref().is_none_or(|audiences| audiences[change.audience as usize])
    }
}

/// A destination of changes.
pub trait Sink: Send {
    /// Takes the changes of an epoch, in their order.
    ///
    /// Waits while the destination is behind by more than the sink's bound. An error may be that of earlier changes;
    /// after one, nothing more is written and each call gives it again.
    fn write(&mut self, epoch: &Changes) -> Result<(), SinkError>;

    /// Waits until all is written. Nothing can be written afterwards.
    fn finish(&mut self) -> Result<(), SinkError>;

    /// What has been written so far.
    fn written(&self) -> Written;
}

/// What has reached a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Entries.
    pub entries: u64,
    /// Exits.
    pub exits: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Why a destination can't be opened or written to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The reader has closed its end of the pipe: for stdout, usually no failure.
    #[error("{to} was closed by its reader")]
    Closed {
        /// The destination.
        to: String,
    },
    /// The operating system refuses.
    #[error("{to} can't be {action}: {reason}")]
    Failed {
        /// The destination: a path in backticks, or `stdout`.
        to: String,
        /// `opened` or `written`.
        action: &'static str,
        /// The system's words.
        reason: String,
        /// What to do about it.
        hint: &'static str,
    },
}

impl SinkError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            SinkError::Closed { .. } => "keep the reader running for as long as the job",
            SinkError::Failed { hint, .. } => hint,
        }
    }

    /// The system's refusal to do `action` to `to`.
    pub(crate) fn new(to: &str, action: &'static str, error: &io::Error) -> SinkError {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return SinkError::Closed { to: to.to_string() };
        }
        let hint = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "free some space, then start again: what was not written is written then"
            }
            io::ErrorKind::NotFound => "create the folder first; paths are relative to the job file's folder",
            io::ErrorKind::IsADirectory => "give the path of a file, not of a folder",
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "the user that runs the job must be able to write it"
            }
            _ => "see that the destination can be written to",
        };
        SinkError::Failed { to: to.to_string(), action, reason: error.to_string(), hint }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
