//! A pull, staged until it is known to be whole, then switched to key by key. It has all rows of its model, or a difference from the
//! snapshot in force: rows that are new or changed, and keys whose rows are gone.
//!
//! Promises: nothing of a pull shows before [`Staged`] is handed over; then each key's facts switch at one moment. Holds, until then, per key
//! of the pull: an index and a word of truths, or its aggregates. Refuses: a key that comes twice in a pull of its own model, with the two
//! files that have it.

use super::facts::words_for;
use crate::ingest::row_batch::{Role, RowBatch, Timeline};
use crate::time::Slot;
use hashbrown::hash_table::Entry;
use hashbrown::{HashMap, HashTable};
use usher_queries::StoredValue;
use usher_queries::aggregate::{Contribution, Summary};
use usher_queries::plan::{FactKind, ModelPlan};

/// What a pull decides of the keys of one model.
pub(crate) struct Staged {
    pub(crate) role: Role,
    /// The facts of the keys' model that this pull decides.
    pub(crate) facts: Vec<u32>,
    /// Per slot, one more than its index in `truths` or `summaries`, 0 if it has no row in the pull; and [`REMOVED`], if the table had a row of it
    /// and has it no longer in the same place.
    index: Vec<u32>,
    /// Whether a key's row was removed twice.
    removed_twice: bool,
    /// The keys that the pull names, while they are few, some perhaps twice: a difference need not look for them in the index.
    few: Option<Vec<Slot>>,
    /// Of a difference that has ended: the keys that it names, ascending. `None`: it has all rows.
    named: Option<Vec<Slot>>,
    stride: usize,
    truths: Vec<u64>,
    /// The included columns of each row; empty if no sync includes any.
    texts: Vec<Box<str>>,
    /// The number of columns of a row that are kept, and their values.
    columns: usize,
    values: Vec<StoredValue>,
    summaries: Vec<Summary>,
    empty: Vec<Summary>,
    pub(crate) timelines: HashMap<(Slot, u32), Timeline>,
    pub(crate) timed: HashMap<(Slot, u32), Vec<(Contribution, Timeline)>>,
    rows: u32,
    batches: Batches,
}

/// What it costs to look something up by key, in facts of which each is a bit: an estimate, a miss of the caches or two.
const LOOK_UP: usize = 24;

/// Keys are few if there are so many times more in the index.
const FEW: usize = 16;

/// The bit in the index that says that a row was removed.
const REMOVED: u32 = 1 << 31;

/// Which file each row is of: per batch, the number of rows at its end, and the file.
#[derive(Default)]
struct Batches(Vec<(u32, u32)>);

impl Batches {
    /// Ends a batch of a file with its last row.
    fn end(&mut self, rows: u32, file: u32) {
        match self.0.last_mut() {
            Some((last, of)) if *of == file => *last = rows,
            _ => self.0.push((rows, file)),
        }
    }

    /// Returns the file of a row of an ended batch, by the row's number from 1 on; `file` if its batch has not ended.
    fn file(&self, row: u32, file: u32) -> u32 {
        let at = self.0.partition_point(|(last, _)| *last < row);
        self.0.get(at).map_or(file, |(_, file)| *file)
    }
}

/// A key that comes twice: its row in the batch, and the files, the lesser number first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Twice {
    pub(crate) row: usize,
    pub(crate) files: (u32, u32),
}

impl Twice {
    fn new(row: usize, one: u32, other: u32) -> Twice {
        Twice { row, files: (one.min(other), one.max(other)) }
    }

    /// Returns that of two of a batch whose key is less: which one comes first depends on what is read first.
    fn least<'k>(one: Option<Twice>, other: Twice, key: impl Fn(usize) -> &'k str) -> Option<Twice> {
        match one {
            Some(one) if key(one.row) <= key(other.row) => Some(one),
            _ => Some(other),
        }
    }
}

impl Staged {
    /// Stages a pull of model `pulled` for the keys of a model, of which there are so many. There is room for a row of each and some more: what
    /// grows by doubling holds up events for a quarter of a second when it has ten million rows.
    pub(crate) fn new(role: Role, pulled: u32, model: &ModelPlan, keys: usize) -> Staged {
        let rows = model.rows.as_ref().filter(|_| role == Role::Own);
        let mut facts = Vec::new();
        let mut empty = Vec::new();
        for (i, fact) in model.facts.iter().enumerate() {
            match (&fact.kind, role) {
                // Of rows that are kept properties are decided where they are.
                (FactKind::Property(_), Role::Own) if rows.is_none() => facts.push(i as u32),
                (FactKind::Related { model, aggregate, .. }, Role::Related) if *model == pulled => {
                    facts.push(i as u32);
                    empty.push(Summary::new(aggregate));
                }
                _ => {}
            }
        }
        let room = keys + keys / 8;
        let stride = if role == Role::Own { words_for(facts.len()) } else { 0 };
        let columns = rows.map_or(0, |rows| rows.columns.len() + usize::from(rows.parent.is_some()));
        Staged {
            role,
            stride,
            facts,
            index: vec![0; room],
            removed_twice: false,
            few: Some(Vec::new()),
            named: None,
            truths: Vec::with_capacity(room * stride),
            texts: Vec::new(),
            columns,
            values: Vec::with_capacity(room * columns),
            summaries: Vec::with_capacity(room * empty.len()),
            empty,
            timelines: HashMap::new(),
            timed: HashMap::new(),
            rows: 0,
            batches: Batches::default(),
        }
    }

    /// Adds a batch; `slots[row]` are its keys' slots. Returns the row with the least key that the pull had before.
    pub(crate) fn add(&mut self, rows: &mut RowBatch, slots: &[Slot]) -> Option<Twice> {
        let mut twice = None;
        if rows.gone {
            self.remove(slots);
            return None;
        }
        self.make_room(slots);
        for (row, slot) in slots.iter().enumerate() {
            let seen = self.has(*slot);
            let slot = *slot as usize;
            match self.role {
                Role::Own if seen => {
                    let first = self.batches.file(self.index[slot] & !REMOVED, rows.file);
                    let twice_here = Twice::new(row, first, rows.file);
                    twice = Twice::least(twice, twice_here, |row| rows.key(row).1);
                }
                Role::Own => {
                    self.truths.extend_from_slice(&rows.truths[row * self.stride..][..self.stride]);
                    if !rows.text(row).is_empty() {
                        if self.texts.is_empty() {
                            self.texts.reserve(self.index.len());
                        }
                        self.texts.push(rows.text(row).into());
                    }
                    let values = &mut rows.values[row * self.columns..][..self.columns];
                    self.values.extend(values.iter_mut().map(std::mem::take));
                    self.rows += 1;
                    self.index[slot] |= self.rows;
                }
                Role::Related if seen => {}
                Role::Related => {
                    self.summaries.extend_from_slice(&self.empty);
                    self.rows += 1;
                    self.index[slot] |= self.rows;
                }
            }
        }
        self.batches.end(self.rows, rows.file);
        assert!(self.rows < REMOVED, "a worker has fewer than 2^31 rows of a pull");
        self.note(slots);
        for (row, fact, timeline) in rows.timelines.drain(..) {
            self.timelines.insert((slots[row as usize], fact), timeline);
        }
        for (row, fact, contribution) in rows.contributions.drain(..) {
            let position = self.position(fact);
            let at = self.row(slots[row as usize]).expect("its row has been added");
            self.summaries[at * self.empty.len() + position].add(contribution);
        }
        for (row, fact, contribution, timeline) in rows.timed.drain(..) {
            self.timed.entry((slots[row as usize], fact)).or_default().push((contribution, timeline));
        }
        twice
    }

    /// Adds keys whose rows the table has no longer in the same place.
    pub(crate) fn remove(&mut self, slots: &[Slot]) {
        self.make_room(slots);
        self.note(slots);
        for slot in slots {
            let index = &mut self.index[*slot as usize];
            self.removed_twice |= *index & REMOVED != 0;
            *index |= REMOVED;
        }
    }

    fn note(&mut self, slots: &[Slot]) {
        self.few = self.few.take().filter(|few| (few.len() + slots.len()) * FEW < self.index.len());
        self.few.iter_mut().for_each(|few| few.extend_from_slice(slots));
    }

    fn make_room(&mut self, slots: &[Slot]) {
        if let Some(last) = slots.iter().max().filter(|last| **last as usize >= self.index.len()) {
            self.index.resize((*last as usize + 1).next_power_of_two(), 0);
        }
    }

    /// Ends a difference: it is known what it names. Returns whether no key's row is removed twice.
    pub(crate) fn end_difference(&mut self) -> bool {
        self.named = Some(match self.few.take() {
            Some(mut few) => {
                few.sort_unstable();
                few.dedup();
                few
            }
            None => self.slots().collect(),
        });
        !self.removed_twice
    }

    /// Returns what a look at a key of it costs, in facts of which each is a bit.
    pub(crate) fn weight(&self) -> usize {
        let looked_up = [self.columns > 0, !self.texts.is_empty(), !self.timelines.is_empty(), !self.timed.is_empty()];
        self.facts.len() + self.columns + LOOK_UP * looked_up.into_iter().filter(|is| *is).count()
    }

    /// Returns the keys that a difference names, ascending; `None` if the pull has all rows.
    pub(crate) fn named(&self) -> Option<&[Slot]> {
        self.named.as_deref()
    }

    /// Returns whether a key's row in the snapshot in force is removed.
    pub(crate) fn removes(&self, slot: Slot) -> bool {
        self.index.get(slot as usize).is_some_and(|i| *i & REMOVED != 0)
    }

    /// Returns whether the pull has a row of the key.
    pub(crate) fn has(&self, slot: Slot) -> bool {
        self.index.get(slot as usize).is_some_and(|i| *i & !REMOVED != 0)
    }

    /// Returns whether the pull names the key.
    pub(crate) fn names(&self, slot: Slot) -> bool {
        self.index.get(slot as usize).is_some_and(|i| *i != 0)
    }

    /// Returns the truth of its `i`-th fact, which does not depend on `now()`, for a key that it has.
    pub(crate) fn truth(&self, slot: Slot, i: usize) -> bool {
        let at = (self.index[slot as usize] & !REMOVED) as usize - 1;
        self.truths[at * self.stride + i / 64] >> (i % 64) & 1 == 1
    }

    /// Takes the included columns of a key's row.
    pub(crate) fn text(&mut self, slot: Slot) -> Option<Box<str>> {
        let at = self.row(slot)?;
        self.texts.get_mut(at).map(std::mem::take)
    }

    /// Returns the columns of a key's row, of a model whose rows are kept; `None` if the pull has no row of the key.
    pub(crate) fn values(&self, slot: Slot) -> Option<&[StoredValue]> {
        let at = self.row(slot)?;
        Some(&self.values[at * self.columns..][..self.columns])
    }

    /// Returns the number of a key's row, from 0 on.
    fn row(&self, slot: Slot) -> Option<usize> {
        self.has(slot).then(|| (self.index[slot as usize] & !REMOVED) as usize - 1)
    }

    /// Returns the aggregate of its `i`-th fact.
    pub(crate) fn summary(&self, slot: Slot, i: usize) -> &Summary {
        self.row(slot).map_or(&self.empty[i], |at| &self.summaries[at * self.empty.len() + i])
    }

    fn position(&self, fact: u32) -> usize {
        self.facts.binary_search(&fact).expect("a contribution names a fact of its pull")
    }

    /// Returns the slots that it names, ascending.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.index.iter().enumerate().filter(|(_, i)| **i != 0).map(|(slot, _)| slot as Slot)
    }
}

/// The keys of a pulled model that is no parent model, to find one that comes twice.
#[derive(Default)]
pub(crate) struct SeenKeys {
    /// By number from 0 on.
    keys: Vec<u128>,
    numbers: HashTable<u32>,
    batches: Batches,
}

impl SeenKeys {
    /// Adds the keys, by fingerprint, of a batch of a file, whose texts are `text`; returns the least that had been seen.
    pub(crate) fn add<'k>(
        &mut self,
        keys: &[(u128, u32)],
        file: u32,
        text: impl Fn(usize) -> &'k str,
    ) -> Option<Twice> {
        let mut twice = None;
        for (row, (key, _)) in keys.iter().enumerate() {
            let SeenKeys { keys, numbers, batches } = self;
            // A fingerprint is as good a hash as any.
            let hash = |key: u128| key as u64;
            let place = numbers.entry(hash(*key), |at| keys[*at as usize] == *key, |at| hash(keys[*at as usize]));
            match place {
                Entry::Occupied(first) => {
                    let first = batches.file(*first.get() + 1, file);
                    twice = Twice::least(twice, Twice::new(row, first, file), &text);
                }
                Entry::Vacant(place) => {
                    place.insert(u32::try_from(keys.len()).expect("a worker has at most 2^32 keys of a pull"));
                    keys.push(*key);
                }
            }
        }
        self.batches.end(self.keys.len() as u32, file);
        twice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_comes_twice_is_found_with_both_files() {
        let mut seen = SeenKeys::default();
        let mut add = |keys: &[u128], file| {
            let keys: Vec<(u128, u32)> = keys.iter().map(|key| (*key, 0)).collect();
            let texts: Vec<String> = keys.iter().map(|(key, _)| format!("key-{key:02}")).collect();
            seen.add(&keys, file, |row| &texts[row]).map(|twice| (twice.row, twice.files))
        };
        assert_eq!(add(&[1, 2], 7), None);
        assert_eq!(add(&[3], 7), None);
        assert_eq!(add(&[], 5), None);
        assert_eq!(add(&[4, 5], 3), None);
        assert_eq!(add(&[6, 3, 1], 3), Some((2, (3, 7))), "the least, whichever comes first");
        assert_eq!(add(&[8, 5], 9), Some((1, (3, 9))));
        assert_eq!(add(&[10, 10], 11), Some((1, (11, 11))));
    }
}
