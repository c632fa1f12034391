//! The seam to where changes go: batches of changes, and what takes them.
//!
//! A [`Changes`] holds the changes of one epoch (or a part of it), their keys in one buffer. A [`Sink`] takes them in
//! order. [`Messages`] says what a sync's messages look like. [`Writer`] is the sink of files and of stdout: one message on a
//! line.

mod log;
mod message;
mod messages;
pub(crate) mod spool;
mod template;
mod told;
mod writer;

pub use log::{Outlet, open_local};
pub(crate) use message::write_time;
pub use message::{Catalog, MessageId, write_message};
pub use messages::Messages;
pub use told::{Told, ToldAudience};
pub use writer::Writer;
pub(crate) use writer::open_to_append;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::sync::Arc;

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
    /// Who is told.
    pub address: Address,
    /// Where the key starts in the buffer, and its length in bytes.
    key: (u32, u32),
    /// The same of what is known of the key's row, as a JSON object; empty where nothing is.
    row: (u32, u32),
}

/// Which syncs a change concerns. Of each other, they know nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    /// All that have the audience.
    #[default]
    All,
    /// One, by its index in the job.
    Only(u16),
    /// One, which takes it for told without sending anything.
    Silently(u16),
}

/// Changes in an order, with their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    changes: Vec<Change>,
    /// Keys and rows.
    texts: String,
}

impl Changes {
    /// None yet.
    pub fn new() -> Changes {
        Changes::default()
    }

    /// Adds a change at the end.
    pub fn push(&mut self, at: u64, audience: u32, kind: ChangeKind, reason: Reason, key: &str) {
        self.push_to(Address::All, at, audience, kind, reason, key, "");
    }

    /// Adds a change at the end; `row` is a JSON object of what messages may carry of the key's row, or empty.
    #[allow(clippy::too_many_arguments)]
    pub fn push_to(
        &mut self,
        address: Address,
        at: u64,
        audience: u32,
        kind: ChangeKind,
        reason: Reason,
        key: &str,
        row: &str,
    ) {
        let mut keep = |text: &str| {
            let start = u32::try_from(self.texts.len()).expect("a batch holds less than 4 GiB of text");
            self.texts.push_str(text);
            (start, u32::try_from(text.len()).expect("a text of a batch is shorter than the batch"))
        };
        let (key, row) = (keep(key), keep(row));
        self.changes.push(Change { at, audience, kind, reason, address, key, row });
    }

    /// Adds one of `other`'s at the end.
    pub fn push_from(&mut self, other: &Changes, change: &Change) {
        let Change { at, audience, kind, reason, address, .. } = *change;
        self.push_to(address, at, audience, kind, reason, other.key(change), other.row(change));
    }

    /// Adds those of `other` at the end, in their order.
    pub fn append(&mut self, other: &Changes) {
        other.iter().for_each(|change| self.push_from(other, change));
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
        self.texts.clear();
    }

    /// The key of `change`, which is one of these.
    pub fn key(&self, change: &Change) -> &str {
        &self.texts[change.key.0 as usize..][..change.key.1 as usize]
    }

    /// What is known of the row of `change`, which is one of these.
    pub fn row(&self, change: &Change) -> &str {
        &self.texts[change.row.0 as usize..][..change.row.1 as usize]
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
            to.push_from(self, change);
        }
        *self = after;
        before
    }

    /// Orders by time, audience id, key: the order of what `replay` prints.
    pub fn sort(&mut self) {
        let texts = &self.texts;
        let key = |change: &Change| &texts[change.key.0 as usize..][..change.key.1 as usize];
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

/// Which changes a sync sends, and which it is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The sync's index in the job; none: it hears of everything.
    sync: Option<u16>,
    /// By audience, as in the catalog; none: all. Audiences beyond are ones that the job no longer has.
    audiences: Option<Vec<bool>>,
    entry: bool,
    exit: bool,
}

impl Filter {
    /// Every change.
    pub fn all() -> Filter {
        Filter { sync: None, audiences: None, entry: true, exit: true }
    }

    /// What `sync`, the job's `index`-th, sends of the audiences of `catalog`.
    pub fn of(index: u16, sync: &usher_config::Sync, catalog: &Catalog) -> Filter {
        let mut audiences = vec![false; catalog.len()];
        for id in &sync.audiences {
            if let Some(index) = catalog.index(id) {
                audiences[index as usize] = true;
            }
        }
        Filter { sync: Some(index), audiences: Some(audiences), entry: sync.send_entry, exit: sync.send_exit }
    }

    /// Whether the sync has the audience.
    pub fn has(&self, audience: u32) -> bool {
        self.audiences.as_ref().is_none_or(|audiences| audiences.get(audience as usize).copied().unwrap_or(false))
    }

    /// Whether the sync is told of `change`: what it was told is membership, whatever it sends of it.
    pub fn tells(&self, change: &Change) -> bool {
        match (change.address, self.sync) {
            (Address::All, _) => self.has(change.audience),
            (Address::Only(sync) | Address::Silently(sync), Some(me)) => sync == me,
            (Address::Only(_) | Address::Silently(_), None) => false,
        }
    }

    /// Whether `change` is sent.
    pub fn sends(&self, change: &Change) -> bool {
        let kind = match change.kind {
            ChangeKind::Entry => self.entry,
            ChangeKind::Exit => self.exit,
        };
        kind && self.tells(change) && !matches!(change.address, Address::Silently(_))
    }
}

/// A destination of changes, with a memory of what it was told.
pub trait Sink: Send {
    /// Takes changes in their order; with them, all before `until` have been handed over. `until` never goes back, and
    /// comes without changes too.
    ///
    /// Does not wait for the destination. An error may be that of earlier changes; after one, nothing more is written and
    /// each call gives it again.
    fn write(&mut self, epoch: &Changes, until: u64) -> Result<(), SinkError>;

    /// Whether the destination keeps up. While it is behind by more than the sink's bound nothing more is handed over: changes
    /// are held back, the clock with them, and events wait where they come from.
    fn ready(&self) -> bool {
        true
    }

    /// All changes before this are told: they have reached the destination, or durably wait until they do, and a
    /// restart will know them. Until a first `write`, 0.
    fn told(&self) -> u64;

    /// Waits until all is written. Nothing can be written afterwards.
    fn finish(&mut self) -> Result<(), SinkError>;

    /// How it stands.
    fn standing(&self) -> Standing;
}

/// A sync that was opened: what it was told, and how to go on.
pub struct Opened {
    /// What an earlier run told it.
    pub told: Told,
    /// Starts it. The catalog holds the job's audiences, and behind them those of `told` that the job no longer has.
    #[allow(clippy::type_complexity)]
    pub start: Box<dyn FnOnce(Arc<Catalog>) -> Box<dyn Sink> + Send>,
}

/// How a sync stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// What has reached the destination since the start.
    pub written: Written,
    /// Changes that it was told of since the start.
    pub told: u64,
    /// Changes that wait to be delivered.
    pub waiting: u64,
    /// Deliveries that were tried again.
    pub retries: u64,
    /// Changes given up, in the dead letters.
    pub dead_letters: u64,
    /// What went wrong last.
    pub last_error: Option<String>,
}

/// What has reached a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Another process of the same sync has taken over.
    #[error("{to} is now another process's, which has taken over from this one")]
    Superseded {
        /// The destination.
        to: String,
    },
    /// The operating system refuses, or the brokers do.
    #[error("{to} can't be {action}: {reason}")]
    Failed {
        /// The destination: a path in backticks, `stdout`, or a topic.
        to: String,
        /// `opened` or `written`.
        action: &'static str,
        /// The system's words, or the brokers'.
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
            SinkError::Superseded { .. } => {
                "run a job once; two jobs that share a cluster need names of their own (`job:` in the job file)"
            }
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
