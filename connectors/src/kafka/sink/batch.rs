//! A batch: the changes of one transaction.
//!
//! Promises: a batch merged from pieces has at most [`BATCH_CHANGES`] changes, so that a first fill is many short transactions.
//!
//! A message that Kafka does not take is *refused*: the batch is committed without it, and the change is a dead letter. Brokers refuse
//! messages that arrive together; so those of a group that was refused are sent as two groups, each of which has arrived before the next
//! is sent, down to one message.

use crate::committed_rows::CommittedRows;
use crate::kafka::ledger::{DeadLetter, Progress};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use usher_core::catalog::Catalog;
use usher_core::change::{Change, ChangeTexts, Changes, Filter};
use usher_core::sink::Written;

/// Changes of a batch: 20,000 are sent in some 100 ms, where a transaction may take 60 s.
pub(super) const BATCH_CHANGES: usize = 20_000;
/// Changes that are queued as one piece.
const PIECE_CHANGES: usize = 4096;
/// What a queued change takes besides its texts, bytes.
const CHANGE_BYTES: usize = 64;

/// Why Kafka does not take a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The brokers' words, or librdkafka's.
    pub(super) reason: String,
    /// Of the message.
    pub(super) bytes: usize,
}

/// Changes that are committed together.
#[derive(Default)]
pub(super) struct Batch {
    changes: Changes,
    /// By change, whether a message is sent, or the change is only committed.
    sent: Vec<bool>,
    /// What was found out while it was sent.
    tried: RefCell<Tried>,
    /// All changes before this time have been handed over with it. None: more changes of the same write follow.
    pub(super) until: Option<u64>,
}

/// What was found out of the messages of a batch while it was sent. Messages have places: those of the changes.
#[derive(Default)]
struct Tried {
    refused: BTreeMap<usize, Refusal>,
    /// Where groups begin, each of which has arrived before the next is sent.
    groups: BTreeSet<usize>,
}

impl Batch {
    /// Returns the changes of an epoch that the filter commits, in their order, in pieces, with the rows that the sync commits.
    pub(super) fn pieces(epoch: &Changes, filter: &Filter, catalog: &Catalog, rows: &mut CommittedRows) -> Vec<Batch> {
        let mut pieces: Vec<Batch> = Vec::new();
        for change in epoch.iter().filter(|change| filter.commits(change)) {
            if pieces.last().is_none_or(|piece| piece.len() == PIECE_CHANGES) {
                pieces.push(Batch::default());
            }
            let piece = pieces.last_mut().expect("there is one");
            if rows.commit(epoch, change, catalog, &mut piece.changes) {
                piece.sent.push(filter.sends(change));
            }
        }
        pieces.retain(|piece| !piece.is_empty());
        pieces
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

    /// Returns the changes of which a message is sent, with their places: all but those that Kafka refuses.
    pub(super) fn sent(&self) -> impl Iterator<Item = (usize, &Change)> {
        let changes = self.changes.iter().zip(&self.sent).enumerate().filter(|(_, (_, sent))| **sent);
        changes.map(|(place, (change, _))| (place, change)).filter(|(place, _)| !self.is_refused(*place))
    }

    /// Returns how many of its changes are sent, or would be if Kafka took them.
    pub(super) fn to_send(&self) -> u64 {
        self.sent.iter().filter(|sent| **sent).count() as u64
    }

    /// Returns whether Kafka refuses the message of a change, by its place.
    pub(super) fn is_refused(&self, place: usize) -> bool {
        self.tried.borrow().refused.contains_key(&place)
    }

    /// Returns the changes whose messages Kafka refuses.
    fn refused(&self) -> Vec<(&Change, Refusal)> {
        let tried = self.tried.borrow();
        let changes = self.changes.iter().enumerate();
        changes.filter_map(|(place, change)| Some((change, tried.refused.get(&place)?.clone()))).collect()
    }

    /// Takes it that Kafka refuses the message of a change.
    pub(super) fn refuse(&self, place: usize, refusal: Refusal) {
        self.tried.borrow_mut().refused.insert(place, refusal);
    }

    /// Returns the dead letters of the changes whose messages Kafka refuses, in their order.
    pub(super) fn dead_letters(&self, catalog: &Catalog) -> Vec<DeadLetter> {
        let letter = |(change, refusal): (&Change, Refusal)| {
            let time = self.until.unwrap_or(change.at);
            let of = (catalog.id(change.audience), self.texts(change));
            DeadLetter::new(time, change, of, (refusal.reason, refusal.bytes))
        };
        self.refused().into_iter().map(letter).collect()
    }

    /// Returns how far the ledger is with this batch, behind `before`.
    pub(super) fn counted(&self, before: Progress) -> Progress {
        let dead_letters = self.tried.borrow().refused.len() as u64;
        let delivered = before.delivered + self.to_send() - dead_letters;
        Progress { delivered, dead_letters: before.dead_letters + dead_letters, ..before }
    }

    /// Returns whether all messages before a place must have arrived before that one is sent.
    pub(super) fn begins_group(&self, place: usize) -> bool {
        self.tried.borrow().groups.contains(&place)
    }

    /// Returns whether it is sent in groups.
    pub(super) fn has_groups(&self) -> bool {
        !self.tried.borrow().groups.is_empty()
    }

    /// Takes it that Kafka refuses some of the messages from one place to before another: they are two groups from now on. One alone is
    /// refused.
    pub(super) fn narrow(&self, from: usize, to: usize, refusal: Refusal) {
        let places: Vec<usize> =
            self.sent().map(|(place, _)| place).filter(|place| (from..to).contains(place)).collect();
        let mut tried = self.tried.borrow_mut();
        match places[..] {
            [] => unreachable!("a message was refused"),
            [place] => drop(tried.refused.insert(place, refusal)),
            [first, ..] => tried.groups.extend([first, places[places.len() / 2], to]),
        }
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

    /// Returns whether the changes of `other` fit too.
    pub(super) fn has_room_for(&self, other: &Batch) -> bool {
        self.len() + other.len() <= BATCH_CHANGES
    }

    /// Adds the changes of `other` at the end.
    pub(super) fn append(&mut self, mut other: Batch) {
        self.changes.append(&other.changes);
        self.sent.append(&mut other.sent);
        self.until = other.until.or(self.until);
    }
}
