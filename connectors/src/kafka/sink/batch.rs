//! A batch: the changes of one transaction.
//!
//! Promises: a batch merged from pieces has at most [`TRANSACTION_CHANGES`] changes, or [`BATCH_CHANGES`] without transactions, so that a
//! first fill is many short transactions.
//!
//! A change whose message is larger than Kafka takes ([`super::limits`]) is *refused*: the batch is committed without the
//! message, and the change is a dead letter. Which changes are refused is found while the batch is sent, and holds for all
//! later tries.

use super::limits::Refusal;
use crate::committed_rows::CommittedRows;
use crate::kafka::ledger::{DeadLetter, Progress};
use std::cell::RefCell;
use std::collections::BTreeMap;
use usher_core::catalog::Catalog;
use usher_core::change::{Change, ChangeTexts, Changes, Filter};
use usher_core::sink::Written;

pub(super) use crate::kafka::ledger::BATCH_CHANGES;

/// Changes of a transaction, at most: 65,536 are sent in some 100 ms, where a transaction may take 60 s. The next one begins when it is
/// committed, so with 16,384 a first fill took half as long again.
pub(super) const TRANSACTION_CHANGES: usize = 65_536;
/// Changes that are queued as one piece.
const PIECE_CHANGES: usize = 4096;
/// What a queued change takes besides its texts, bytes.
const CHANGE_BYTES: usize = 64;

/// Changes that are committed together.
#[derive(Default)]
pub(super) struct Batch {
    changes: Changes,
    /// By change, whether a message is sent, or the change is only committed.
    sent: Vec<bool>,
    /// By the place of a change, why its message is not sent.
    refused: RefCell<BTreeMap<usize, Refusal>>,
    /// All changes before this time have been handed over with it. None: more changes of the same write follow.
    pub(super) until: Option<u64>,
}

impl Batch {
    /// Takes the first of the `changes` of an epoch, which the filter commits, with the rows that the sync commits, in their order.
    pub(super) fn piece<'c>(
        changes: &mut impl Iterator<Item = &'c Change>,
        (epoch, filter): (&Changes, &Filter),
        catalog: &Catalog,
        rows: &mut CommittedRows,
    ) -> Batch {
        let mut piece = Batch::default();
        for change in changes.take(PIECE_CHANGES) {
            if rows.commit(epoch, change, catalog, &mut piece.changes) {
                piece.sent.push(filter.sends(change));
            }
        }
        piece
    }

    /// Returns the number of changes.
    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    /// Returns whether there is nothing to commit, not even a time.
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.until.is_none()
    }

    /// Returns its part of the queue's bound.
    pub(super) fn bytes(&self) -> usize {
        let text = |change| {
            let ChangeTexts { key, row, previous_row } = self.changes.texts(change);
            key.len() + row.len() + previous_row.len()
        };
        self.changes.iter().map(|change| CHANGE_BYTES + text(change)).sum()
    }

    /// Returns the changes in their order.
    pub(super) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter()
    }

    /// Returns the changes of which a message is sent, with their places: those that are refused are left out.
    pub(super) fn sent(&self) -> impl Iterator<Item = (usize, &Change)> {
        let changes = self.changes.iter().zip(&self.sent).enumerate().filter(|(_, (_, sent))| **sent);
        changes
            .map(|(place, (change, _))| (place, change))
            .filter(|(place, _)| !self.refused.borrow().contains_key(place))
    }

    /// Returns whether the message of the change at `place` is left out.
    pub(super) fn is_refused(&self, place: usize) -> bool {
        self.refused.borrow().contains_key(&place)
    }

    /// Returns how many of its changes are to be delivered, refused ones included.
    pub(super) fn to_send(&self) -> u64 {
        self.sent.iter().filter(|sent| **sent).count() as u64
    }

    /// Leaves out the message of the change at `place`.
    pub(super) fn refuse(&self, place: usize, refusal: Refusal) {
        self.refused.borrow_mut().insert(place, refusal);
    }

    /// Returns the dead letters of the refused changes, in their order.
    pub(super) fn dead_letters(&self, catalog: &Catalog) -> Vec<DeadLetter> {
        let refused = self.refused.borrow();
        let changes = self.changes.iter().enumerate();
        let refused = changes.filter_map(|(place, change)| Some((change, refused.get(&place)?)));
        let letter = |(change, refusal): (&Change, &Refusal)| {
            let time = self.until.unwrap_or(change.at);
            DeadLetter::new(time, change, catalog.id(change.audience), self.texts(change), refusal.to_string())
        };
        refused.map(letter).collect()
    }

    /// Returns how far the ledger is with this batch, behind `before`.
    pub(super) fn counted(&self, before: Progress) -> Progress {
        let dead_letters = self.refused.borrow().len() as u64;
        let delivered = before.delivered + self.to_send() - dead_letters;
        Progress { delivered, dead_letters: before.dead_letters + dead_letters, ..before }
    }

    /// Returns the key of one of its changes.
    pub(super) fn key(&self, change: &Change) -> &str {
        self.changes.key(change)
    }

    /// Returns the texts of one of its changes.
    pub(super) fn texts(&self, change: &Change) -> ChangeTexts<'_> {
        self.changes.texts(change)
    }

    /// Returns the changes whose message is sent, by kind; the bytes are 0.
    pub(super) fn written(&self) -> Written {
        let mut written = Written::default();
        self.sent().for_each(|(_, change)| written.count(change.kind));
        written
    }

    /// Returns whether the changes of `other` fit too, into a batch of at most so many.
    pub(super) fn has_room_for(&self, other: &Batch, changes_max: usize) -> bool {
        self.len() + other.len() <= changes_max
    }

    /// Adds the changes of `other` at the end.
    pub(super) fn append(&mut self, mut other: Batch) {
        self.changes.append(other.changes);
        self.sent.append(&mut other.sent);
        self.until = other.until.or(self.until);
    }
}
