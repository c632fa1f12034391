//! The ledger of a sync: the memberships that its committed entries and exits add up to.
//!
//! Read from the sync's durable log at a start, and held against what holds now: the difference is what is sent (SPEC §6).
//! Holds each key's text once per membership, until the difference is made.

use serde::{Deserialize, Serialize};

/// An audience as the ledger names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LedgerAudience {
    /// Its id.
    pub id: String,
    /// Its name, as people see it.
    pub name: String,
    /// The id of its parent model.
    pub model: String,
}

/// The memberships that have been committed to a sync.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Whether anything was ever committed. If not, the sync is new.
    pub any: bool,
    /// The time of the latest committed change, ms since the epoch.
    pub clock: u64,
    /// The audiences that memberships name.
    pub audiences: Vec<LedgerAudience>,
    /// Index in `audiences`, and where the key ends in `keys`.
    members: Vec<(u32, usize)>,
    keys: String,
}

impl Ledger {
    /// Returns the ledger as it begins anew: without memberships, and not before the latest change that was committed.
    pub fn begun_anew(self) -> Ledger {
        Ledger { clock: self.clock, ..Ledger::default() }
    }

    /// Returns the index of an audience, which is added if it is new.
    pub fn audience(&mut self, audience: LedgerAudience) -> u32 {
        let at = self.audiences.iter().position(|known| *known == audience).unwrap_or_else(|| {
            self.audiences.push(audience);
            self.audiences.len() - 1
        });
        at as u32
    }

    /// Adds a membership that the ledger does not have yet.
    pub fn push(&mut self, audience: u32, key: &str) {
        self.keys.push_str(key);
        self.members.push((audience, self.keys.len()));
    }

    /// Returns the number of memberships.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Returns whether there are no memberships.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Returns the memberships, as index in `audiences` and key.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        let mut start = 0;
        self.members.iter().map(move |(audience, end)| {
            let key = &self.keys[start..*end];
            start = *end;
            (*audience, key)
        })
    }
}
