//! A pull, staged until it is known to be whole, then switched to key by key.
//!
//! Promises: nothing of a pull shows before [`Staged`] is handed over; then each key's facts switch at one moment. Holds, until then, per key of the pull: an index and a word of truths, or its aggregates. Refuses: a key that
//! comes twice in a pull of its own model; the first in order is remembered, and the pull fails.

use super::facts::words_for;
use crate::ingest::row_batch::{Role, RowBatch, Timeline};
use crate::time::Slot;
use hashbrown::{HashMap, HashSet};
use usher_queries::aggregate::{Contribution, Summary};
use usher_queries::plan::{Fact, FactKind};

/// What a pull decides of the keys of one model.
pub(crate) struct Staged {
    pub(crate) role: Role,
    /// The facts of the keys' model that this pull decides.
    pub(crate) facts: Vec<u32>,
    /// Per slot, one more than its index in `truths` or `summaries`; 0 if it is not in the pull.
    index: Vec<u32>,
    stride: usize,
    truths: Vec<u64>,
    /// The included columns of each row; empty if no sync includes any.
    texts: Vec<Box<str>>,
    summaries: Vec<Summary>,
    empty: Vec<Summary>,
    pub(crate) timelines: HashMap<(Slot, u32), Timeline>,
    pub(crate) timed: HashMap<(Slot, u32), Vec<(Contribution, Timeline)>>,
    rows: u32,
}

impl Staged {
    /// Stages a pull of model `pulled` for the keys of a model with `facts`.
    pub(crate) fn new(role: Role, pulled: u32, model_facts: &[Fact]) -> Staged {
        let mut facts = Vec::new();
        let mut empty = Vec::new();
        for (i, fact) in model_facts.iter().enumerate() {
            match (&fact.kind, role) {
                (FactKind::Property(_), Role::Own) => facts.push(i as u32),
                (FactKind::Related { model, aggregate, .. }, Role::Related) if *model == pulled => {
                    facts.push(i as u32);
                    empty.push(Summary::new(aggregate));
                }
                _ => {}
            }
        }
        Staged {
            role,
            stride: words_for(facts.len()),
            facts,
            index: Vec::new(),
            truths: Vec::new(),
            texts: Vec::new(),
            summaries: Vec::new(),
            empty,
            timelines: HashMap::new(),
            timed: HashMap::new(),
            rows: 0,
        }
    }

    /// Adds a batch; `slots[row]` are its keys' slots. Returns the first row whose key the pull had before.
    pub(crate) fn add(&mut self, rows: &mut RowBatch, slots: &[Slot]) -> Option<usize> {
        let mut twice = None;
        for (row, slot) in slots.iter().enumerate() {
            let slot = *slot as usize;
            if self.index.len() <= slot {
                self.index.resize((slot + 1).next_power_of_two(), 0);
            }
            let seen = self.index[slot] != 0;
            match self.role {
                Role::Own if seen => twice = twice.or(Some(row)),
                Role::Own => {
                    self.truths.extend_from_slice(&rows.truths[row * self.stride..][..self.stride]);
                    if !rows.text(row).is_empty() {
                        self.texts.push(rows.text(row).into());
                    }
                    self.rows += 1;
                    self.index[slot] = self.rows;
                }
                Role::Related if seen => {}
                Role::Related => {
                    self.summaries.extend_from_slice(&self.empty);
                    self.rows += 1;
                    self.index[slot] = self.rows;
                }
            }
        }
        for (row, fact, timeline) in rows.timelines.drain(..) {
            self.timelines.insert((slots[row as usize], fact), timeline);
        }
        for (row, fact, contribution) in rows.contributions.drain(..) {
            let position = self.position(fact);
            let at = self.index[slots[row as usize] as usize] as usize - 1;
            self.summaries[at * self.empty.len() + position].add(contribution);
        }
        for (row, fact, contribution, timeline) in rows.timed.drain(..) {
            self.timed.entry((slots[row as usize], fact)).or_default().push((contribution, timeline));
        }
        twice
    }

    /// Returns whether the pull has a row of the key.
    pub(crate) fn has(&self, slot: Slot) -> bool {
        self.index.get(slot as usize).is_some_and(|i| *i != 0)
    }

    /// Returns the truth of its `i`-th fact, which does not depend on `now()`, for a key that it has.
    pub(crate) fn truth(&self, slot: Slot, i: usize) -> bool {
        let at = self.index[slot as usize] as usize - 1;
        self.truths[at * self.stride + i / 64] >> (i % 64) & 1 == 1
    }

    /// Takes the included columns of a key's row.
    pub(crate) fn text(&mut self, slot: Slot) -> Option<Box<str>> {
        let at = *self.index.get(slot as usize)? as usize;
        self.texts.get_mut(at.checked_sub(1)?).map(std::mem::take)
    }

    /// Returns the aggregate of its `i`-th fact.
    pub(crate) fn summary(&self, slot: Slot, i: usize) -> &Summary {
        match self.index.get(slot as usize) {
            Some(at) if *at != 0 => &self.summaries[(*at as usize - 1) * self.empty.len() + i],
            _ => &self.empty[i],
        }
    }

    fn position(&self, fact: u32) -> usize {
        self.facts.binary_search(&fact).expect("a contribution names a fact of its pull")
    }

    /// Returns the slots that it has rows of.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.index.iter().enumerate().filter(|(_, i)| **i != 0).map(|(slot, _)| slot as Slot)
    }
}

/// The keys of a pulled model that is no parent model, to find one that comes twice.
#[derive(Default)]
pub(crate) struct SeenKeys(HashSet<u128>);

impl SeenKeys {
    /// Adds keys by fingerprint; returns the first that had been seen.
    pub(crate) fn add(&mut self, keys: &[(u128, u32)]) -> Option<usize> {
        let mut twice = None;
        for (i, (key, _)) in keys.iter().enumerate() {
            if !self.0.insert(*key) {
                twice = twice.or(Some(i));
            }
        }
        twice
    }
}
