//! Changes of membership: entries, exits and updates with their time, audience, key and reason.
//!
//! A [`Changes`] is a batch of changes whose texts (keys, rows) share one buffer. A [`Filter`] decides which changes of a
//! batch a sync commits and sends. Promises: changes stay in the order in which they were added. Refuses (panics): a key or a row of
//! 4 GiB or more; a batch may have more, as the entries of a hundred million members do.
//!
//! ```
//! use usher_core::catalog::Catalog;
//! use usher_core::change::{ChangeKind, Changes, Filter, Reason};
//!
//! let catalog = Catalog::new("shop", [("buyers", "Buyers", "users"), ("vips", "VIPs", "users")]);
//! let mut changes = Changes::new();
//! changes.push(10, 0, ChangeKind::Entry, Reason::Event, "u-1");
//! changes.push(20, 1, ChangeKind::Exit, Reason::Expiry, "u-2");
//!
//! // A sync of the entries of `buyers`.
//! let filter = Filter::new(0, ["buyers"], &[ChangeKind::Entry], &catalog);
//! let sent: Vec<&str> = changes.iter().filter(|change| filter.sends(change)).map(|change| changes.key(change)).collect();
//! assert_eq!(sent, ["u-1"]);
//!
//! assert_eq!(changes.take_before(Some(15)).len(), 1);
//! assert_eq!(changes.len(), 1);
//! ```

use crate::catalog::Catalog;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What happens to a membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ChangeKind {
    /// The key is now in the audience.
    Entry,
    /// The key is no longer in the audience.
    Exit,
    /// The key stays in the audience, and its row changes. Only syncs whose included columns differ commit it.
    Update,
}

/// The cause of a change. If there are several, the least in this order is given (SPEC §5).
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
    /// Returns the name in messages.
    pub fn name(self) -> &'static str {
        match self {
            ChangeKind::Entry => "entry",
            ChangeKind::Exit => "exit",
            ChangeKind::Update => "update",
        }
    }
}

impl Reason {
    /// Returns the name in messages.
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

/// A change; its texts are in the [`Changes`] that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// When, ms since the epoch.
    pub at: u64,
    /// Which audience: its index in the [`Catalog`].
    pub audience: u32,
    /// What happens.
    pub kind: ChangeKind,
    /// Why.
    pub reason: Reason,
    /// The syncs that it concerns.
    pub recipients: Recipients,
    /// Where its texts start in the buffer: the key, its row, the row before an update, one behind the other.
    start: u64,
    /// How long each of them is, in bytes.
    lengths: [u32; 3],
}

/// The texts of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeTexts<'a> {
    /// The member's key.
    pub key: &'a str,
    /// Columns of its row, as a JSON object; empty where none are known.
    pub row: &'a str,
    /// Of an update that a sync commits: the columns before it, as a JSON object; else empty.
    pub previous_row: &'a str,
}

impl<'a> ChangeTexts<'a> {
    /// Returns the texts of a change of `key` without a row.
    pub fn of_key(key: &'a str) -> ChangeTexts<'a> {
        ChangeTexts { key, ..ChangeTexts::default() }
    }
}

/// Which syncs a change concerns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Recipients {
    /// All syncs that have the audience.
    #[default]
    All,
    /// One sync, by its index in the job.
    Only(u16),
    /// One, by its index in the job, which commits it to its ledger without sending anything.
    LedgerOnly(u16),
}

/// Changes in an order, with their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    changes: Vec<Change>,
    /// Keys and rows.
    texts: String,
}

impl Changes {
    /// Returns an empty batch.
    pub fn new() -> Changes {
        Changes::default()
    }

    /// Adds a change of a key without a row at the end.
    pub fn push(&mut self, at: u64, audience: u32, kind: ChangeKind, reason: Reason, key: &str) {
        self.push_to(Recipients::All, at, audience, kind, reason, ChangeTexts::of_key(key));
    }

    /// Adds a change at the end.
    pub fn push_to(
        &mut self,
        recipients: Recipients,
        at: u64,
        audience: u32,
        kind: ChangeKind,
        reason: Reason,
        texts: ChangeTexts<'_>,
    ) {
        let start = self.texts.len() as u64;
        let lengths = [texts.key, texts.row, texts.previous_row].map(|text| {
            self.texts.push_str(text);
            u32::try_from(text.len()).expect("a key or a row has less than 4 GiB")
        });
        self.changes.push(Change { at, audience, kind, reason, recipients, start, lengths });
    }

    /// Adds a change of `other` at the end.
    pub fn push_from(&mut self, other: &Changes, change: &Change) {
        let Change { at, audience, kind, reason, recipients, .. } = *change;
        self.push_to(recipients, at, audience, kind, reason, other.texts(change));
    }

    /// Returns the changes of some batches, one behind the other.
    pub fn concat(batches: impl IntoIterator<Item = Changes>) -> Changes {
        let mut batches: Vec<Changes> = batches.into_iter().collect();
        if batches.len() == 1 {
            return batches.remove(0);
        }
        let changes = batches.iter().map(Changes::len).sum();
        let texts = batches.iter().map(|batch| batch.texts.len()).sum();
        let mut all = Changes { changes: Vec::with_capacity(changes), texts: String::with_capacity(texts) };
        // Each is freed when it is copied: a start may have many.
        for batch in batches {
            let behind = all.texts.len() as u64;
            all.texts.push_str(&batch.texts);
            let moved = |change: Change| Change { start: change.start + behind, ..change };
            all.changes.extend(batch.changes.into_iter().map(moved));
        }
        all
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
        key_of(&self.texts, change)
    }

    /// What is known of the row of `change`, which is one of these.
    pub fn row(&self, change: &Change) -> &str {
        self.texts(change).row
    }

    /// The texts of `change`, which is one of these.
    pub fn texts(&self, change: &Change) -> ChangeTexts<'_> {
        let [key, row, previous_row] = change.lengths.map(|length| length as usize);
        let (key, rest) = self.texts[change.start as usize..].split_at(key);
        let (row, rest) = rest.split_at(row);
        ChangeTexts { key, row, previous_row: &rest[..previous_row] }
    }

    /// Removes and returns the changes before a time; `None` for all.
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
        /// From so many on, comparing a few of their bytes without reading the texts pays.
        const MANY: usize = 64;
        let texts = &self.texts;
        self.changes.sort_by_key(|change| (change.at, change.audience));
        for same in self.changes.chunk_by_mut(|a, b| (a.at, a.audience) == (b.at, b.audience)) {
            if same.len() < MANY {
                same.sort_by_key(|change| key_of(texts, change));
                continue;
            }
            let common = common_prefix(same.iter().map(|change| key_of(texts, change).as_bytes()));
            same.sort_by_cached_key(|change| {
                let rest = &key_of(texts, change).as_bytes()[common..];
                (first_bytes(rest), rest)
            });
        }
    }
}

/// Returns with how many bytes all of some texts begin alike.
fn common_prefix<'a>(mut texts: impl Iterator<Item = &'a [u8]>) -> usize {
    let Some(first) = texts.next() else { return 0 };
    let alike = |text: &[u8], length: usize| first[..length].iter().zip(text).take_while(|(a, b)| a == b).count();
    texts.fold(first.len(), |length, text| alike(text, length))
}

/// Returns the first 8 bytes of a text as a number, in the order of texts; behind the end of a shorter one are zeros.
fn first_bytes(text: &[u8]) -> u64 {
    let mut first = [0; 8];
    let length = text.len().min(8);
    first[..length].copy_from_slice(&text[..length]);
    u64::from_be_bytes(first)
}

/// Returns the key of a change whose texts are in `texts`.
fn key_of<'a>(texts: &'a str, change: &Change) -> &'a str {
    &texts[change.start as usize..][..change.lengths[0] as usize]
}

impl<'a> IntoIterator for &'a Changes {
    type Item = &'a Change;
    type IntoIter = std::slice::Iter<'a, Change>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Which changes a sync commits to its ledger, and which of these it sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The sync's index in the job; `None` for a filter that is no sync's.
    sync: Option<u16>,
    /// By audience, as in the catalog; `None` for all. Audiences beyond the end are ones that the job no longer has.
    audiences: Option<Vec<bool>>,
    entry: bool,
    exit: bool,
    update: bool,
}

impl Filter {
    /// Returns the filter of every entry and exit.
    pub fn all() -> Filter {
        Filter { sync: None, audiences: None, entry: true, exit: true, update: false }
    }

    /// Returns the filter of the job's sync number `index`: changes of the kinds of `send`, of the audiences with these ids.
    pub fn new<'a>(
        index: u16,
        ids: impl IntoIterator<Item = &'a str>,
        send: &[ChangeKind],
        catalog: &Catalog,
    ) -> Filter {
        let mut audiences = vec![false; catalog.len()];
        for id in ids {
            if let Some(index) = catalog.index(id) {
                audiences[index as usize] = true;
            }
        }
        let [entry, exit, update] =
            [ChangeKind::Entry, ChangeKind::Exit, ChangeKind::Update].map(|kind| send.contains(&kind));
        Filter { sync: Some(index), audiences: Some(audiences), entry, exit, update }
    }

    /// Returns whether the sync has the audience.
    pub fn has(&self, audience: u32) -> bool {
        self.audiences.as_ref().is_none_or(|audiences| audiences.get(audience as usize).copied().unwrap_or(false))
    }

    /// Returns whether the sync commits `change` to its ledger: entries and exits always, whatever is sent of them, and the
    /// updates that it sends.
    pub fn commits(&self, change: &Change) -> bool {
        if change.kind == ChangeKind::Update && !self.update {
            return false;
        }
        match (change.recipients, self.sync) {
            (Recipients::All, _) => self.has(change.audience),
            (Recipients::Only(sync) | Recipients::LedgerOnly(sync), Some(me)) => sync == me,
            (Recipients::Only(_) | Recipients::LedgerOnly(_), None) => false,
        }
    }

    /// Returns whether the sync sends `change`.
    pub fn sends(&self, change: &Change) -> bool {
        let kind = match change.kind {
            ChangeKind::Entry => self.entry,
            ChangeKind::Exit => self.exit,
            ChangeKind::Update => self.update,
        };
        kind && self.commits(change) && !matches!(change.recipients, Recipients::LedgerOnly(_))
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
mod tests {
    use super::*;

    /// What is known of a change: its time, its audience and its texts.
    fn known<'a>(changes: &'a Changes, change: &Change) -> (u64, u32, ChangeTexts<'a>) {
        (change.at, change.audience, changes.texts(change))
    }

    #[test]
    fn reasons_are_in_the_order_of_precedence() {
        let mut reasons =
            [Reason::Recovery, Reason::Definition, Reason::Trait, Reason::Snapshot, Reason::Expiry, Reason::Event];
        reasons.sort();
        assert_eq!(reasons.map(Reason::name), ["event", "expiry", "snapshot", "trait", "definition", "recovery"]);
    }

    #[test]
    fn batches_that_are_joined_sorted_and_split_keep_the_texts_of_each_change() {
        for seed in 0..50 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut batches, mut list) = (Vec::new(), Vec::new());
            let prefix = ["", "user-0000"][seed as usize / 10 % 2];
            for _ in 0..rng.usize(1..5) {
                let mut batch = Changes::new();
                for _ in 0..rng.usize(0..if seed % 10 == 0 { 1000 } else { 20 }) {
                    let mut text = |most| "é".repeat(rng.usize(0..most)) + &rng.u8(..).to_string();
                    let (key, row, previous_row) = (prefix.to_owned() + &text(6), text(2), text(2));
                    let texts = ChangeTexts { key: &key, row: &row, previous_row: &previous_row };
                    let (at, audience) = (rng.u64(0..9), rng.u32(0..3));
                    batch.push_to(Recipients::All, at, audience, ChangeKind::Update, Reason::Trait, texts);
                    list.push((at, audience, key.clone(), row.clone(), previous_row.clone()));
                }
                batches.push(batch);
            }
            let mut all = Changes::concat(batches);
            all.sort();
            list.sort_by(|a, b| (a.0, a.1, &a.2).cmp(&(b.0, b.1, &b.2)));
            let time = rng.u64(0..10);
            let before = all.take_before(Some(time));
            let found =
                before.iter().map(|change| known(&before, change)).chain(all.iter().map(|change| known(&all, change)));
            let expected = list
                .iter()
                .map(|(at, audience, key, row, previous_row)| (*at, *audience, ChangeTexts { key, row, previous_row }));
            assert!(found.eq(expected), "seed {seed}");
            assert!(before.iter().all(|change| change.at < time) && all.iter().all(|change| change.at >= time));
        }
    }
}
