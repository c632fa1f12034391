//! The keys of a model on their way to durable state, and back.
//!
//! Promises: what [`Keys::state`] hands out and [`Keys::restore`] takes up is all that is known of a key but who it is a member
//! with: events that still matter, and what pulls said. A restored key may know more than it did at the clock that the
//! others are restored at; reading on from there, what it already knows changes nothing. Facts are matched by
//! fingerprint: a condition keeps its state as long as its meaning stays, whatever happens around it.

use super::windows::{Arrival, Held, Out};
use super::{Cause, Clocked, ClockedTruth, FactState, Keys, audiences};
use crate::time::{Slot, Time};
use serde::{Deserialize, Serialize};

/// All that is known of a key, where it is kept. What is written is this, what is read back is a [`KeyState`]; the bytes of both
/// are the same.
#[derive(Serialize)]
pub(crate) struct KeyView<'a> {
    key: &'a str,
    truths: &'a [u64],
    windows: Vec<(u32, &'a [Held])>,
    clocked: Vec<(u32, &'a ClockedTruth)>,
    row: &'a str,
}

/// All that is known of a key.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct KeyState {
    pub(crate) key: String,
    /// A bit per fact; only of those that pulls decide does it say anything.
    truths: Vec<u64>,
    /// Events that matter, by fact.
    windows: Vec<(u32, Vec<Held>)>,
    /// Truth over time, by fact.
    clocked: Vec<(u32, ClockedTruth)>,
    /// What messages may say of the row.
    row: String,
}

/// How what was written is read back.
pub(crate) struct Mapping {
    /// By fact as it was written, the fact now; none: it is no more.
    pub(crate) facts: Vec<Option<u32>>,
    /// By rank of a partition as it was written, the rank now.
    pub(crate) ranks: Vec<u32>,
}

#[cfg(test)]
impl KeyState {
    /// As it is written.
    pub(crate) fn view(&self) -> KeyView<'_> {
        KeyView {
            key: &self.key,
            truths: &self.truths,
            windows: self.windows.iter().map(|(fact, held)| (*fact, &held[..])).collect(),
            clocked: self.clocked.iter().map(|(fact, truth)| (*fact, truth)).collect(),
            row: &self.row,
        }
    }
}

impl Keys {
    /// The hash of each slot's key, of those in use.
    pub(crate) fn hashes(&self) -> impl Iterator<Item = (Slot, u64)> + '_ {
        (0..self.slots.len() as Slot)
            .filter(|slot| !self.slots.is_free(*slot))
            .map(|slot| (slot, self.slots.hash(slot)))
    }

    /// The hash of a slot's key, if it is in use.
    pub(crate) fn hash_of(&self, slot: Slot) -> Option<u64> {
        (!self.slots.is_free(slot)).then(|| self.slots.hash(slot))
    }

    /// All that is known of the key in a slot; none: nothing.
    pub(crate) fn state(&self, slot: Slot) -> Option<KeyView<'_>> {
        let fact_words = self.audiences.default_facts.len();
        let truths = &self.truths[slot as usize * fact_words..][..fact_words];
        let windows = &self.windows[slot as usize];
        let clocked: Vec<(u32, &ClockedTruth)> = if self.clocked.is_empty() {
            Vec::new()
        } else {
            let of = |fact: usize| Some((fact as u32, &self.clocked.get(&(slot, fact as u32))?.truth));
            (0..self.facts.len()).filter_map(of).collect()
        };
        if truths == self.audiences.default_facts && windows.is_empty() && clocked.is_empty() {
            return None;
        }
        Some(KeyView {
            key: self.slots.key(slot),
            truths,
            windows: windows.runs().collect(),
            clocked,
            row: self.rows.get(&slot).map_or("", |row| row),
        })
    }

    /// Takes up a key at `clock`. `hash` is [`crate::hits::hash_key`] of it.
    pub(crate) fn restore(&mut self, hash: u64, state: &KeyState, mapping: &Mapping, clock: Time) {
        let slot = self.intern(hash, &state.key);
        if !state.row.is_empty() {
            self.rows.insert(slot, state.row.as_str().into());
        }
        let start = slot as usize * self.audiences.default_facts.len();
        for (was, fact) in mapping.facts.iter().enumerate() {
            let Some(fact) = *fact else { continue };
            if matches!(
                self.facts[fact as usize],
                FactState::Known | FactState::Property { clocked: false } | FactState::Related { clocked: false, .. }
            ) {
                let truth = audiences::get(&state.truths, was as u32);
                audiences::set(&mut self.truths[start..], fact, truth);
            }
        }
        for (was, held) in &state.windows {
            let Some(fact) = mapping.facts[*was as usize] else { continue };
            let FactState::Window(rule) = &self.facts[fact as usize] else {
                panic!("a fact with events has a window, by its fingerprint");
            };
            let moved: Vec<Held> =
                held.iter().map(|held| Held { arrival: mapped(held.arrival, &mapping.ranks), ..*held }).collect();
            let mut out = Out { slot, flips: &mut self.flips, timers: &mut self.timers };
            let truth = self.windows[slot as usize].restore(rule, fact, &moved, &mut out);
            audiences::set(&mut self.truths[start..], fact, truth);
        }
        for (was, truth) in &state.clocked {
            let Some(fact) = mapping.facts[*was as usize] else { continue };
            self.clocked.insert((slot, fact), Clocked { truth: truth.clone(), armed: None });
            self.look(slot, fact, clock, Cause::Snapshot);
        }
    }

    /// Takes up what a sync was told, and decides who is a member as far as is known now.
    pub(crate) fn take_ledger(&mut self, syncs: usize, ledger: impl Iterator<Item = (usize, u32, u64, String)>) {
        let mut bits =
            self.ledger.take().unwrap_or_else(|| super::CommittedBits::new(syncs, self.audiences.member_words()));
        for (sync, audience, hash, key) in ledger {
            let slot = self.intern(hash, &key);
            bits.add(slot, sync, audience);
        }
        self.ledger = Some(bits);
    }

    /// All that was told has been taken up: decides who of the told are members as far as is known.
    pub(crate) fn decide_committed(&mut self) {
        self.order_flips();
        self.settle(usize::MAX, None);
        let Some(ledger) = &self.ledger else { return };
        let (fact_words, member_words) = (self.audiences.default_facts.len(), self.audiences.member_words());
        for slot in ledger.slots() {
            let truths = &self.truths[slot as usize * fact_words..][..fact_words];
            let members = &mut self.members[slot as usize * member_words..][..member_words];
            self.audiences.decide_all(truths, members, &mut |_| {});
        }
    }
}

fn mapped(arrival: Arrival, ranks: &[u32]) -> Arrival {
    arrival.with_rank(ranks[arrival.rank() as usize])
}
