//! Contributions: what the rows of a model add to the facts of the keys that they belong to.
//!
//! Computes, when facts of a row's own key flip or the row changes, which of its contributions are taken back and which are added,
//! at that ms and with the cause of what changed: [`Update`]s for the owners of the parents' keys. Promises: what was sent of a row and not taken back is
//! what it contributes; what comes and goes within a ms is not sent. Holds, per key with a row that counts: the parent's key and the contributions.

use super::facts::{Words, get, set, words_for};
use super::rows::Outward;
use super::tallies::Update;
use super::transition::{Cause, Flip, OUTWARD};
use crate::ingest::event_batch::hash_key;
use crate::time::{Slot, Time};
use hashbrown::HashMap;
use usher_queries::plan::{Expr, ModelPlan};

/// A fact of the parent model that rows contribute to.
struct Target {
    fact: u32,
    /// Whether a row counts.
    counts: Expr,
    /// The facts that decide it.
    facts: Words,
}

/// The contributions of all rows of a model.
pub(crate) struct Contributions {
    /// The parent model.
    parent: u32,
    targets: Vec<Target>,
    sent: HashMap<Slot, Outward>,
    /// The time of the last update: before the start, what is older is taken for as late.
    latest: Time,
    /// Updates that have not been taken.
    updates: Vec<Update>,
}

impl Contributions {
    /// Returns the contributions of a model; `None` if its rows contribute to nothing.
    pub(crate) fn new(model: &ModelPlan) -> Option<Contributions> {
        let rows = model.rows.as_ref().filter(|rows| !rows.contributions.is_empty())?;
        let parent = rows.parent?.model;
        let target = |of: &usher_queries::plan::ContributionPlan| {
            let mut facts = vec![0; words_for(model.facts.len())];
            of.counts.leaves(&mut |fact| set(&mut facts, fact, true), &mut |_| panic!("audiences are inlined"));
            Target { fact: of.fact, counts: of.counts.clone(), facts }
        };
        let targets = rows.contributions.iter().map(target).collect();
        Some(Contributions { parent, targets, sent: HashMap::new(), latest: 0, updates: Vec::new() })
    }

    /// Takes what follows from the flips of a key at one ms. `flipped`: the facts that differ after it, `outward`: what the row is to
    /// its parent then.
    pub(crate) fn settle(
        &mut self,
        of_key: &[Flip],
        flipped: &[(u32, Cause)],
        facts: &[u64],
        outward: Option<&Outward>,
    ) {
        let slot = of_key[0].slot;
        let moved = of_key.iter().filter(|flip| flip.fact == OUTWARD).map(|flip| flip.cause).min();
        let touched = |target: &Target| flipped.iter().any(|(fact, _)| get(&target.facts, *fact));
        if moved.is_none() && !self.targets.iter().any(touched) {
            return;
        }
        let parent = outward.and_then(|outward| outward.parent.clone());
        let counts = |target: &Target| {
            parent.is_some() && target.counts.holds(&|fact| get(facts, fact), &|_| panic!("audiences are inlined"))
        };
        let value = |at: usize| outward.and_then(|outward| outward.values.get(at).copied().flatten());
        let values = self.targets.iter().enumerate().map(|(at, target)| value(at).filter(|_| counts(target))).collect();
        let now = Outward { parent, values };
        self.latest = self.latest.max(of_key[0].time);
        let time = self.latest;
        let before = self.sent.remove(&slot).unwrap_or_default();
        for (at, target) in self.targets.iter().enumerate() {
            let of = |outward: &Outward| {
                let value = outward.values.get(at).copied().flatten()?;
                Some((outward.parent.clone()?, value))
            };
            let (before, now) = (of(&before), of(&now));
            if before == now {
                continue;
            }
            let own = flipped.iter().filter(|(fact, _)| get(&target.facts, *fact)).map(|(_, cause)| *cause);
            let cause = own.chain(moved).min().expect("what a row contributes changes with it or its facts");
            let mut send = |(key, contribution): (Box<str>, _), taken_back| {
                let (model, fact, key_hash) = (self.parent, target.fact, hash_key(&key));
                let key = key.into_string();
                self.updates.push(Update { model, key_hash, key, fact, time, taken_back, contribution, cause });
            };
            before.into_iter().for_each(|before| send(before, true));
            now.into_iter().for_each(|now| send(now, false));
        }
        if now.values.iter().any(Option::is_some) {
            self.sent.insert(slot, now);
        }
    }

    /// Returns whether a key contributes nothing.
    pub(crate) fn is_empty(&self, slot: Slot) -> bool {
        !self.sent.contains_key(&slot)
    }

    /// Takes the updates so far.
    pub(crate) fn take_updates(&mut self) -> Vec<Update> {
        std::mem::take(&mut self.updates)
    }
}

/// Returns, by model, its layer: 0 if no rows contribute to its facts, else one more than the greatest of theirs.
pub(crate) fn layers(models: &[ModelPlan]) -> Vec<usize> {
    fn layer(models: &[ModelPlan], of: usize) -> usize {
        let contributing = models.iter().enumerate().filter(|(_, model)| {
            let contributing = model.rows.as_ref().filter(|rows| !rows.contributions.is_empty());
            let parent = contributing.and_then(|rows| rows.parent);
            parent.is_some_and(|parent| parent.model as usize == of)
        });
        // Models belong to each other in no circle.
        contributing.map(|(model, _)| layer(models, model) + 1).max().unwrap_or(0)
    }
    (0..models.len()).map(|model| layer(models, model)).collect()
}
