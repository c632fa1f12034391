//! Changes of membership, compact: on their way from the workers to the sinks.

use serde::{Deserialize, Serialize};

/// Which way a membership changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum ChangeKind {
    Entry,
    Exit,
}

impl ChangeKind {
    /// As messages name it.
    pub fn as_str(self) -> &'static str {
        match self {
            ChangeKind::Entry => "entry",
            ChangeKind::Exit => "exit",
        }
    }
}

/// Why a membership changed; of several, the first in this order is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Reason {
    Event,
    Expiry,
    Snapshot,
    Definition,
}

impl Reason {
    /// As messages name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Event => "event",
            Reason::Expiry => "expiry",
            Reason::Snapshot => "snapshot",
            Reason::Definition => "definition",
        }
    }
}

/// A change; its key is in its batch's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// When, ms since the epoch.
    pub at: u64,
    key_start: u32,
    key_len: u16,
    /// The audience's number in the [`super::Catalog`].
    pub audience: u32,
    /// Entry or exit.
    pub kind: ChangeKind,
    /// Why.
    pub reason: Reason,
}

/// A batch of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    changes: Vec<Change>,
    keys: String,
}

impl Changes {
    /// Adds a change. Keys are at most 64 KiB.
    pub fn push(&mut self, at: u64, audience: u32, kind: ChangeKind, reason: Reason, key: &str) {
        let key_start = u32::try_from(self.keys.len()).expect("the keys of one batch stay under 4 GiB");
        let key_len = u16::try_from(key.len()).expect("a key is at most 64 KiB");
        self.keys.push_str(key);
        self.changes.push(Change { at, key_start, key_len, audience, kind, reason });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter()
    }

    /// A change's key.
    pub fn key(&self, change: &Change) -> &str {
        &self.keys[change.key_start as usize..][..usize::from(change.key_len)]
    }

    /// Puts them in the order of (time, audience, key).
    pub fn sort(&mut self) {
        let keys = &self.keys;
        let key = |change: &Change| &keys[change.key_start as usize..][..usize::from(change.key_len)];
        self.changes.sort_unstable_by(|a, b| (a.at, a.audience).cmp(&(b.at, b.audience)).then_with(|| key(a).cmp(key(b))));
    }

    /// Adds all of another batch.
    pub fn append(&mut self, other: &Changes) {
        if self.is_empty() {
            self.clone_from(other);
            return;
        }
        for change in &other.changes {
            self.push(change.at, change.audience, change.kind, change.reason, other.key(change));
        }
    }

    /// Takes out those before a time; none: all.
    pub fn take_before(&mut self, time: Option<u64>) -> Changes {
        let due = |change: &Change| time.is_none_or(|time| change.at < time);
        if self.changes.iter().all(due) {
            return std::mem::take(self);
        }
        let (mut before, mut after) = (Changes::default(), Changes::default());
        for change in &self.changes {
            let to = if due(change) { &mut before } else { &mut after };
            to.push(change.at, change.audience, change.kind, change.reason, self.key(change));
        }
        *self = after;
        before
    }
}
