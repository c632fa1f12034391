//! What a destination holds, for `mode: state`: of each membership what it last acknowledged, or that this is not known.
//!
//! A membership of which an attempt has begun and no answer has settled it is not known, until one does: then what holds now is
//! sent, whatever it is. Memberships that it does not hold cost nothing; one that it holds costs an entry of a table, and its row's
//! text, which memberships with equal columns share.

use super::queue::Change;
use crate::committed_rows::{Folded, RowTexts};
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use usher_core::change::ChangeKind;

/// What is held of a membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeldMember {
    /// The included columns that it was acknowledged with, or that the attempt had that was not settled. Empty if none are known.
    pub row: Arc<str>,
    /// Whether the destination holds it, for certain.
    pub known: bool,
}

/// All that a destination holds.
#[derive(Debug, Default)]
pub(super) struct Held {
    members: HashMap<u128, HeldMember, BuildHasherDefault<Folded>>,
    texts: RowTexts,
    /// Whether the columns are part of what is held: where the sync sends updates.
    rows: bool,
}

impl Held {
    pub fn new(rows: bool) -> Held {
        Held { rows, ..Held::default() }
    }

    /// Returns what is held of a membership; `None`: it is certain that nothing is.
    pub fn get(&self, membership: u128) -> Option<&HeldMember> {
        self.members.get(&membership)
    }

    /// Returns the memberships that are held or not known.
    pub fn iter(&self) -> impl Iterator<Item = (u128, &HeldMember)> {
        self.members.iter().map(|(membership, held)| (*membership, held))
    }

    /// Sets what is held of a membership.
    pub fn set(&mut self, membership: u128, held: Option<(&str, bool)>) {
        let held = held.map(|(row, known)| HeldMember { row: self.texts.share(row), known });
        let before = match held {
            Some(held) => self.members.insert(membership, held),
            None => self.members.remove(&membership),
        };
        if let Some(before) = before {
            self.texts.release(before.row);
        }
    }

    /// Takes it that nothing is certain.
    pub fn doubt_all(&mut self) {
        self.members.values_mut().for_each(|held| held.known = false);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Held::new(self.rows);
    }

    /// Returns whether the destination holds what `change` leads to: to send it would change nothing.
    pub fn has(&self, change: &Change) -> bool {
        match (change.kind, self.get(change.membership)) {
            (ChangeKind::Exit, held) => held.is_none(),
            (_, None) => false,
            (_, Some(held)) => held.known && (!self.rows || held.row == change.row),
        }
    }

    /// Returns `change` as it is sent to a destination that holds this: what is not held for certain enters, an update leads from
    /// the row that is held, and an exit has that row.
    pub fn sent(&self, change: &Arc<Change>) -> Arc<Change> {
        let held = self.get(change.membership);
        match (change.kind, held) {
            (ChangeKind::Update, held) if !held.is_some_and(|held| held.known) => {
                Arc::new(Change { kind: ChangeKind::Entry, previous_row: "".into(), ..Change::clone(change) })
            }
            (ChangeKind::Update, Some(held)) if !held.row.is_empty() => {
                Arc::new(Change { previous_row: Arc::clone(&held.row), ..Change::clone(change) })
            }
            (ChangeKind::Exit, Some(held)) if !held.row.is_empty() => {
                Arc::new(Change { row: Arc::clone(&held.row), ..Change::clone(change) })
            }
            _ => Arc::clone(change),
        }
    }
}
