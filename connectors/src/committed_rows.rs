//! The rows of the memberships that are committed to a sync: what its messages and its ledger have of them (SPEC §5).
//!
//! Computes, of each change that the sync commits, in order:
//! 1. an entry has the included columns of the row;
//! 2. an update too, with those that were committed before; it is no update where none of them differ;
//! 3. an exit has the columns of the last change of its membership that was committed; a column that is not among them is the
//!    row's, else null.
//!
//! Holds, if the sync includes columns, per membership an entry of a table and a text, which memberships with equal columns
//! share: measured at a million memberships, 69 bytes each with `include: [plan]` of four plans, 184 with an address of its own
//! for each key. A membership of which the ledger has no row, as earlier versions wrote it, costs nothing. Without included
//! columns nothing is held, and all rows are empty.

use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use usher_core::catalog::Catalog;
use usher_core::change::{Change, ChangeKind, ChangeTexts, Changes, Reason};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

/// Texts of rows, each once.
#[derive(Debug, Default)]
pub(crate) struct RowTexts(HashSet<Arc<str>>);

impl RowTexts {
    /// Returns the text, shared with all who have an equal one.
    pub(crate) fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.0.insert(Arc::clone(&text));
        text
    }

    /// Gives a text back; the last one to do so frees it.
    pub(crate) fn release(&mut self, text: Arc<str>) {
        // The set's own, and this one.
        if Arc::strong_count(&text) == 2 {
            self.0.remove(&text);
        }
    }
}

/// The committed rows of one sync.
#[derive(Debug, Default)]
pub(crate) struct CommittedRows {
    /// The columns that the sync includes.
    include: Vec<String>,
    /// By [`membership`].
    members: HashMap<u128, Arc<str>, BuildHasherDefault<Folded>>,
    texts: RowTexts,
}

/// What a sync commits of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommittedChange {
    reason: Reason,
    /// The included columns; empty if the sync includes none.
    row: Arc<str>,
    /// Of an update: the columns before it; else empty.
    previous_row: Arc<str>,
}

impl CommittedRows {
    /// Returns those of a sync that includes these columns and has committed nothing.
    pub(crate) fn new(sync: &usher_config::Sync) -> CommittedRows {
        let include = sync.include.iter().map(|column| column.value.clone()).collect();
        CommittedRows { include, ..CommittedRows::default() }
    }

    /// Takes up what the ledger has of a membership.
    pub(crate) fn restore(&mut self, audience: &str, key: &str, row: &str) {
        if !self.include.is_empty() && !row.is_empty() {
            let text = self.texts.share(row);
            self.members.insert(membership(audience, key), text);
        }
    }

    /// Commits one of `changes`, which the sync's filter commits; adds it to `to` as the sync has it. Returns whether it did:
    /// not an update by which no included column changes.
    pub(crate) fn commit(&mut self, changes: &Changes, change: &Change, catalog: &Catalog, to: &mut Changes) -> bool {
        let ChangeTexts { key, row, .. } = changes.texts(change);
        if self.include.is_empty() {
            if change.kind == ChangeKind::Update {
                return false;
            }
            let Change { recipients, at, audience, kind, reason, .. } = *change;
            to.push_to(recipients, at, audience, kind, reason, ChangeTexts::of_key(key));
            return true;
        }
        let Some(committed) = self.committed(change, catalog.id(change.audience), key, row) else { return false };
        let texts = ChangeTexts { key, row: &committed.row, previous_row: &committed.previous_row };
        to.push_to(change.recipients, change.at, change.audience, change.kind, committed.reason, texts);
        true
    }

    /// Returns what a sync that includes columns commits of a change.
    fn committed(&mut self, change: &Change, audience: &str, key: &str, row: &str) -> Option<CommittedChange> {
        let reason = change.reason;
        let without_row = || CommittedChange { reason, row: "".into(), previous_row: "".into() };
        let membership = membership(audience, key);
        match change.kind {
            ChangeKind::Entry => {
                let row = self.texts.share(&self.columns("", row));
                self.hold(membership, Arc::clone(&row));
                Some(CommittedChange { row, ..without_row() })
            }
            ChangeKind::Exit => {
                let before = self.members.remove(&membership);
                let row = self.columns(before.as_deref().unwrap_or_default(), row).into();
                if let Some(before) = before {
                    self.texts.release(before);
                }
                Some(CommittedChange { row, ..without_row() })
            }
            ChangeKind::Update => {
                let before = self.members.get(&membership).cloned().unwrap_or_default();
                let row = self.columns("", row);
                if row == *before || row == self.columns(&before, "") {
                    return None;
                }
                let reason = match reason {
                    Reason::Recovery if !self.has_included(&before) => Reason::Definition,
                    reason => reason,
                };
                let previous_row = self.columns(&before, "").into();
                drop(before);
                let row = self.texts.share(&row);
                self.hold(membership, Arc::clone(&row));
                Some(CommittedChange { reason, row, previous_row })
            }
        }
    }

    fn hold(&mut self, membership: u128, row: Arc<str>) {
        if let Some(before) = self.members.insert(membership, row) {
            self.texts.release(before);
        }
    }

    /// Returns the included columns as a JSON object, in the order of `include`: each from `first`, else from `second`, else null.
    fn columns(&self, first: &str, second: &str) -> String {
        let (first, second) = (parsed(first), parsed(second));
        let mut out = String::with_capacity(64);
        for name in &self.include {
            out.push(if out.is_empty() { '{' } else { ',' });
            out.push_str(&serde_json::Value::from(&name[..]).to_string());
            out.push(':');
            let value = first.get(name).or_else(|| second.get(name));
            out.push_str(value.map_or("null", |value| value.get()));
        }
        out.push('}');
        out
    }

    /// Returns whether a row has the included columns and no other.
    fn has_included(&self, row: &str) -> bool {
        let included: BTreeSet<&String> = self.include.iter().collect();
        parsed(row).keys().eq(included)
    }
}

/// Returns the columns of a row.
fn parsed(row: &str) -> BTreeMap<String, &RawValue> {
    match row {
        "" => BTreeMap::new(),
        row => serde_json::from_str(row).unwrap_or_else(|error| panic!("a change's row is a JSON object: {error}")),
    }
}

/// Returns what identifies a membership: 128 bits of the key's hash, seeded with the audience's.
pub(crate) fn membership(audience: &str, key: &str) -> u128 {
    xxh3_128_with_seed(key.as_bytes(), xxh3_64(audience.as_bytes()))
}

/// A hasher of what is a hash already: takes half of it.
#[derive(Default)]
pub(crate) struct Folded(u64);

impl Hasher for Folded {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only numbers of 128 bits are hashed")
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests;
