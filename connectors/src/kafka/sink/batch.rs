//! A batch: the changes of one transaction.
//!
//! Promises: a batch joined from pieces has at most [`TRANSACTION_CHANGES`] changes, or [`BATCH_CHANGES`] without transactions, and one of more than
//! a piece at most [`BATCH_BYTES`], so that a first fill is many short transactions.
//!
//! A change whose message is larger than Kafka takes ([`super::limits`]) is *refused*: the batch is committed without the
//! message, and the change is a dead letter. Which changes are refused is found while the batch is sent, and holds for all
//! later tries.

use super::limits::Refusal;
use crate::committed_rows::CommittedRows;
use crate::kafka::ledger::{DeadLetter, Progress};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use usher_core::catalog::Catalog;
use usher_core::change::{Change, ChangeTexts, Changes, Filter};
use usher_core::sink::Written;

/// Changes of a batch without transactions, at most.
pub(super) const BATCH_CHANGES: usize = 20_000;
/// Changes of a transaction, at most: with their records in the ledger they fit into librdkafka's queue of 100,000. The next transaction begins when
/// one is committed, so a first fill takes less time in larger ones.
pub(super) const TRANSACTION_CHANGES: usize = 12 * PIECE_CHANGES;
/// Bytes of the changes of a batch, at most: 8 MiB, sent in well under a second, where a transaction may take 60 s. A single piece may have more.
pub(super) const BATCH_BYTES: usize = 8 << 20;
/// Changes that are queued as one piece.
const PIECE_CHANGES: usize = 4096;
/// What a queued change takes besides its texts, bytes.
const CHANGE_BYTES: usize = 64;

/// Changes that are committed together.
#[derive(Default)]
pub(super) struct Batch {
    changes: Changes,
    /// Its part of the queue's bound.
    bytes: usize,
    /// By change, whether a message is sent, or the change is only committed.
    sent: Vec<bool>,
    /// By the place of a change, why its message is not sent.
    refused: RefCell<BTreeMap<usize, Refusal>>,
    /// All changes before this time have been handed over with it or earlier. None if it has the end of no write.
    pub(super) until: Option<u64>,
}

impl Batch {
    /// Takes the next [`PIECE_CHANGES`] of `changes`, those of an epoch that the filter commits, with the rows that the sync commits.
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
        let text = |change| {
            let ChangeTexts { key, row, previous_row } = piece.changes.texts(change);
            key.len() + row.len() + previous_row.len()
        };
        piece.bytes = piece.changes.iter().map(|change| CHANGE_BYTES + text(change)).sum();
        piece
    }

    /// Returns a piece of so many changes and bytes.
    #[cfg(test)]
    pub(super) fn of(count: usize, bytes: usize) -> Batch {
        let mut changes = Changes::new();
        (0..count).for_each(|_| {
            changes.push(0, 0, usher_core::change::ChangeKind::Entry, usher_core::change::Reason::Event, "u-1")
        });
        Batch { changes, bytes, sent: vec![true; count], ..Batch::default() }
    }

    /// Takes the first of the queued pieces, and of those behind it as many as fit into a batch of at most `changes_max` changes.
    pub(super) fn take_pieces(queue: &mut VecDeque<Batch>, changes_max: usize) -> Vec<Batch> {
        let (mut changes, mut bytes, mut taken) = (0, 0, Vec::new());
        while let Some(piece) = queue.pop_front_if(|piece| {
            let fits = changes + piece.len() <= changes_max && bytes + piece.bytes <= BATCH_BYTES;
            fits || taken.is_empty()
        }) {
            changes += piece.len();
            bytes += piece.bytes;
            taken.push(piece);
        }
        taken
    }

    /// Joins pieces, of which nothing is refused.
    pub(super) fn join(mut pieces: Vec<Batch>) -> Batch {
        let bytes = pieces.iter().map(|piece| piece.bytes).sum();
        let until = pieces.iter().rev().find_map(|piece| piece.until);
        let sent = pieces.iter_mut().flat_map(|piece| std::mem::take(&mut piece.sent)).collect();
        let changes = Changes::concat(pieces.into_iter().map(|piece| piece.changes));
        Batch { changes, bytes, sent, until, ..Batch::default() }
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
        self.bytes
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
            let time = self.until.unwrap_or(change.at).max(change.at);
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
}
