//! Tallies: aggregates over rows that other keys own, kept by difference.
//!
//! Computes the flips of the facts of a key that aggregate rows whose owners send what they contribute as it changes
//! ([`Update`], made by [`super::contributions`]). Promises: a fact flips at the ms of the updates that make it so, whatever order
//! they come in; its cause is the first, in their order, of those of all updates of that ms. Holds, per (key, fact): a count, an exact sum
//! with the number of its rows, or the values each with how many rows have it. Nothing of it is in a checkpoint: rows send anew
//! what they contribute at a start.

use super::agreement::Proposal;
use super::parents::{Interest, ParentValues};
use super::transition::{Cause, Flip};
use super::windows::Shown;
use crate::time::{Slot, Time};
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use usher_config::{Aggregate, Comparison};
use usher_queries::aggregate::{Contribution, Summary};
use usher_queries::plan::{FactKind, ModelPlan};

/// A change of what a row contributes to a fact of its parent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Update {
    /// The parent's model.
    pub(crate) model: u32,
    /// [`hash_key`](crate::ingest::event_batch::hash_key) of the parent's key, and the key.
    pub(crate) key_hash: u64,
    pub(crate) key: String,
    /// The fact of the parent's model.
    pub(crate) fact: u32,
    pub(crate) time: Time,
    /// Whether it is taken back, else added: what is taken back was added before, or at the same ms by another row.
    pub(crate) taken_back: bool,
    pub(crate) contribution: Contribution,
    pub(crate) cause: Cause,
}

/// What one worker sends another beside events and rows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Exchanged {
    /// The worker that it is for.
    pub(crate) worker: u32,
    /// For the keys that it owns.
    pub(crate) updates: Vec<Update>,
    /// In the keys that it owns.
    pub(crate) interests: Vec<Interest>,
    /// For its rows.
    pub(crate) values: Vec<ParentValues>,
    /// For all workers.
    pub(crate) proposals: Vec<Proposal>,
}

/// What a fact aggregates.
struct TallyFact {
    aggregate: Aggregate,
    comparison: Comparison,
    /// Whether rows may begin or cease to count at times that their owners know ahead.
    timed: bool,
}

/// The contributions to a fact of a key.
enum Tally {
    /// A count, a sum or an average.
    Summary(Summary),
    /// Values, each with how many rows have it.
    Values(BTreeMap<Contribution, u64>),
}

impl Tally {
    fn new(aggregate: &Aggregate) -> Tally {
        match aggregate {
            Aggregate::Count | Aggregate::Sum(_) | Aggregate::Avg(_) => Tally::Summary(Summary::new(aggregate)),
            Aggregate::Min(_) | Aggregate::Max(_) | Aggregate::Distinct(_) => Tally::Values(BTreeMap::new()),
        }
    }

    fn change(&mut self, contribution: Contribution, taken_back: bool) {
        match self {
            Tally::Summary(summary) if taken_back => summary.take_back(contribution),
            Tally::Summary(summary) => summary.add(contribution),
            Tally::Values(values) if taken_back => {
                let count = values.get_mut(&contribution).expect("only what was added is taken back");
                *count -= 1;
                if *count == 0 {
                    values.remove(&contribution);
                }
            }
            Tally::Values(values) => *values.entry(contribution).or_default() += 1,
        }
    }

    fn holds(&self, TallyFact { aggregate, comparison, .. }: &TallyFact) -> bool {
        self.summary(aggregate).holds(comparison)
    }

    /// Returns the aggregate.
    fn summary(&self, aggregate: &Aggregate) -> Summary {
        match (self, aggregate) {
            (Tally::Summary(summary), _) => summary.clone(),
            (Tally::Values(values), Aggregate::Distinct(_)) => Summary::of_count(values.len() as u64),
            (Tally::Values(values), _) => {
                // Numbers are ordered.
                let mut summary = Summary::new(aggregate);
                let extreme = match aggregate {
                    Aggregate::Min(_) => values.first_key_value(),
                    _ => values.last_key_value(),
                };
                extreme.into_iter().for_each(|(value, _)| summary.add(*value));
                summary
            }
        }
    }
}

/// The tallies of all keys of a model.
pub(crate) struct TallyState {
    /// By fact; `None` for those that nothing is sent for.
    facts: Vec<Option<TallyFact>>,
    /// With the number of rows that contribute: none is kept for no rows.
    tallies: HashMap<(Slot, u32), (u64, Tally)>,
    /// By key with tallies, how many.
    keys: HashMap<Slot, u32>,
}

impl TallyState {
    pub(crate) fn new(model: &ModelPlan) -> TallyState {
        let fact = |kind: &FactKind| match kind {
            FactKind::Tallied { aggregate, comparison, timed, .. } => {
                Some(TallyFact { aggregate: aggregate.clone(), comparison: *comparison, timed: *timed })
            }
            _ => None,
        };
        let facts = model.facts.iter().map(|of| fact(&of.kind)).collect();
        TallyState { facts, tallies: HashMap::new(), keys: HashMap::new() }
    }

    /// Returns whether nothing contributes to a fact of a key.
    pub(crate) fn is_empty(&self, slot: Slot) -> bool {
        !self.keys.contains_key(&slot)
    }

    /// Returns the aggregate of a fact of a key for people; `None` if nothing is sent for the fact, or the aggregate is null. `slot` is `None` if
    /// nothing is known of the key.
    pub(crate) fn shown(&self, slot: Option<Slot>, fact: u32) -> Option<Shown> {
        let of = self.facts[fact as usize].as_ref()?;
        let tally = slot.and_then(|slot| self.tallies.get(&(slot, fact)));
        let summary = tally.map_or_else(|| Summary::new(&of.aggregate), |(_, tally)| tally.summary(&of.aggregate));
        let text = summary.shown()?;
        Some(match of.aggregate {
            Aggregate::Count | Aggregate::Distinct(_) => text.parse().map_or(Shown::Total(text), Shown::Count),
            _ => Shown::Total(text),
        })
    }

    /// Returns whether a fact may flip at times that are known ahead, but not here.
    pub(crate) fn is_timed(&self, fact: u32) -> bool {
        self.facts[fact as usize].as_ref().is_some_and(|of| of.timed)
    }

    /// Takes in updates of one fact of a key, in order of time.
    pub(crate) fn apply(&mut self, slot: Slot, updates: &[Update], flips: &mut Vec<Flip>) {
        let fact = updates[0].fact;
        let of = self.facts[fact as usize].as_ref().expect("an update is for a fact that rows contribute to");
        let (mut rows, mut tally) = match self.tallies.remove(&(slot, fact)) {
            Some(known) => known,
            None => {
                *self.keys.entry(slot).or_default() += 1;
                (0, Tally::new(&of.aggregate))
            }
        };
        for of_ms in updates.chunk_by(|one, other| one.time == other.time) {
            let before = tally.holds(of);
            let mut added = of_ms.iter().filter(|update| !update.taken_back);
            added.clone().for_each(|update| tally.change(update.contribution, false));
            let taken_back = of_ms.iter().filter(|update| update.taken_back);
            taken_back.clone().for_each(|update| tally.change(update.contribution, true));
            rows = (rows + added.by_ref().count() as u64)
                .checked_sub(taken_back.count() as u64)
                .expect("only what was added is taken back");
            let truth = tally.holds(of);
            if truth != before {
                let cause = of_ms.iter().map(|update| update.cause).min().expect("a ms with updates");
                flips.push(Flip { time: of_ms[0].time, slot, fact, truth, cause });
            }
        }
        if rows > 0 {
            self.tallies.insert((slot, fact), (rows, tally));
            return;
        }
        let left = self.keys.get_mut(&slot).expect("it was counted");
        *left -= 1;
        if *left == 0 {
            self.keys.remove(&slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use usher_config::Decimal;

    const AGGREGATES: [fn(String) -> Aggregate; 6] =
        [|_| Aggregate::Count, Aggregate::Sum, Aggregate::Avg, Aggregate::Min, Aggregate::Max, Aggregate::Distinct];

    /// Returns whether the comparison holds for all contributions, added up anew.
    fn anew(of: &TallyFact, contributions: &[Contribution]) -> bool {
        let mut summary = Summary::new(&of.aggregate);
        contributions.iter().for_each(|contribution| summary.add(*contribution));
        summary.holds(&of.comparison)
    }

    #[test]
    fn a_fact_flips_at_each_ms_at_which_the_contributions_added_up_anew_say_so() {
        let mut flipped = 0;
        for seed in 0..600 {
            let mut random = fastrand::Rng::with_seed(seed);
            let aggregate = AGGREGATES[seed as usize % 6]("c".to_owned());
            let threshold = Decimal::from_raw(random.i128(-3..4) * 1_000_000_000).expect("a small number");
            let comparison = match random.u8(0..3) {
                0 => Comparison::AtLeast(threshold),
                1 => Comparison::LessThan(threshold),
                _ => Comparison::Exactly(threshold),
            };
            let of = || TallyFact { aggregate: aggregate.clone(), comparison, timed: false };
            let contribution = |random: &mut fastrand::Rng| match aggregate {
                Aggregate::Count => Contribution::Row,
                Aggregate::Distinct(_) => Contribution::Value(random.u128(0..4)),
                _ => Contribution::Number(random.i128(-2..3) * 1_000_000_000),
            };
            let mut state = TallyState { facts: vec![Some(of())], tallies: HashMap::new(), keys: HashMap::new() };
            let mut held: Vec<Contribution> = Vec::new();
            let (mut truth, mut time) = (anew(&of(), &held), 0);
            for _ in 0..8 {
                let (mut updates, mut wanted) = (Vec::new(), Vec::new());
                for _ in 0..random.usize(1..5) {
                    time += 1;
                    for _ in 0..random.usize(1..4) {
                        let taken_back = !held.is_empty() && random.bool();
                        let contribution = match taken_back {
                            true => held.swap_remove(random.usize(0..held.len())),
                            false => contribution(&mut random),
                        };
                        held.extend((!taken_back).then_some(contribution));
                        let (key, cause) = ("a".to_owned(), Cause::Event);
                        let update =
                            Update { model: 0, key_hash: 1, key, fact: 0, time, taken_back, contribution, cause };
                        updates.push(update);
                    }
                    if anew(&of(), &held) != truth {
                        truth = !truth;
                        wanted.push((time, truth));
                    }
                }
                // As they come: in any order of workers.
                random.shuffle(&mut updates);
                updates.sort_unstable();
                let mut flips = Vec::new();
                state.apply(0, &updates, &mut flips);
                let found: Vec<(Time, bool)> = flips.iter().map(|flip| (flip.time, flip.truth)).collect();
                assert_eq!(found, wanted, "seed {seed}: {aggregate:?} {comparison:?}");
                assert_eq!(state.is_empty(0), held.is_empty(), "seed {seed}");
                flipped += found.len();
            }
        }
        assert!(flipped > 1_000, "{flipped} flips");
    }
}
