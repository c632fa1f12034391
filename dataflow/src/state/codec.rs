//! Keys on their way to a checkpoint, and back.
//!
//! Promises: what [`KeyedState::encoded`] returns and [`KeyedState::restore`] takes up is all that is known of a key but its
//! memberships: events that still matter, and what pulls decided. A restored key may be newer than the clock that the others
//! are restored at; reading on from there, what it already has changes nothing. Facts are matched by fingerprint: a condition
//! keeps its state as long as its meaning stays, whatever else an edit changes.

use super::facts::get;
use super::keyed::KeyedState;
use super::properties::ClockedTruth;
use super::windows::{Arrival, Held};
use crate::time::{Slot, Time};
use serde::{Deserialize, Serialize};

/// All that is known of a key, borrowed from where it is kept. It is what is written; a [`KeyState`] is what is read back. Their
/// bytes are the same.
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
    /// A bit per fact; only those of facts that pulls decide mean anything.
    truths: Vec<u64>,
    /// Events that matter, by fact.
    windows: Vec<(u32, Vec<Held>)>,
    /// Truth over time, by fact.
    clocked: Vec<(u32, ClockedTruth)>,
    /// The included columns of its row.
    row: String,
}

/// What facts and ranks of partitions were written as, and what they are now.
pub(crate) struct Mapping {
    /// By fact as it was written, the fact now; `None` if there is no such fact any more.
    pub(crate) facts: Vec<Option<u32>>,
    /// By rank of a partition as it was written, the rank now.
    pub(crate) ranks: Vec<u32>,
}

#[cfg(test)]
impl KeyState {
    /// Returns the key as it is written.
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

impl KeyedState {
    /// Returns all that is known of the key in a slot; `None` if nothing is.
    pub(crate) fn encoded<'a>(&'a self, slot: Slot, key: &'a str) -> Option<KeyView<'a>> {
        let windows = self.windows.key(slot);
        let clocked: Vec<(u32, &ClockedTruth)> = self.properties.clocked(slot).collect();
        if self.evaluate.is_default(slot) && windows.is_empty() && clocked.is_empty() {
            return None;
        }
        Some(KeyView {
            key,
            truths: self.evaluate.facts().row(slot),
            windows: windows.runs().collect(),
            clocked,
            row: self.properties.row(slot),
        })
    }

    /// Takes up a key at `clock`. `hash` is [`crate::ingest::event_batch::hash_key`] of it.
    pub(crate) fn restore(&mut self, hash: u64, state: &KeyState, mapping: &Mapping, clock: Time) {
        let slot = self.intern(hash, &state.key);
        self.properties.restore_row(slot, &state.row);
        for (was, fact) in mapping.facts.iter().enumerate() {
            let Some(fact) = *fact else { continue };
            if self.properties.is_plain(fact) {
                self.evaluate.restore(slot, fact, get(&state.truths, was as u32));
            }
        }
        for (was, held) in &state.windows {
            let Some(fact) = mapping.facts[*was as usize] else { continue };
            let moved: Vec<Held> =
                held.iter().map(|held| Held { arrival: mapped(held.arrival, &mapping.ranks), ..*held }).collect();
            let truth = self.windows.restore(slot, fact, &moved, &mut self.flips);
            self.evaluate.restore(slot, fact, truth);
        }
        for (was, truth) in &state.clocked {
            let Some(fact) = mapping.facts[*was as usize] else { continue };
            self.properties.hold(slot, fact, truth.clone(), clock, &mut self.flips);
        }
    }
}

/// Returns the arrival with the rank that its partition has now.
fn mapped(arrival: Arrival, ranks: &[u32]) -> Arrival {
    arrival.with_rank(ranks[arrival.rank() as usize])
}
