//! Fact counts: how many keys meet each fact of a model, kept as facts flip.
//!
//! Counts the keys that may be members: those of the snapshot for `members: known`, else all of which something is known.
//! Promises: a count is exact between two epochs, and a flip costs an addition. Holds 8 bytes per fact. Of a model with
//! `members: any` the keys are counted whose truth differs from that of an unknown key, so that keys which come and go
//! without a fact that differs are not noticed; the caller knows the number of keys.

use super::facts::{Words, get, ones, words_for};
use usher_config::Members;
use usher_queries::plan::ModelPlan;

/// The fact that a key has a row in the snapshot in force.
const KNOWN: u32 = 0;

/// The counts of one model's facts on one worker.
pub(crate) struct FactCounts {
    /// By fact.
    counts: Vec<u64>,
    /// The truth of each fact for a key of which nothing is known.
    default: Words,
    /// Whether only keys with a row are counted.
    known_only: bool,
}

impl FactCounts {
    pub(crate) fn new(model: &ModelPlan) -> FactCounts {
        let mut default = vec![0; words_for(model.facts.len())];
        for (index, fact) in model.facts.iter().enumerate() {
            super::facts::set(&mut default, index as u32, fact.default);
        }
        let known_only = model.members == Members::Known;
        FactCounts { counts: vec![0; model.facts.len()], default, known_only }
    }

    /// Counts a key with these facts, which was not counted before.
    pub(crate) fn add(&mut self, facts: &[u64]) {
        if !self.known_only {
            let differing: Words = facts.iter().zip(&self.default).map(|(fact, default)| fact ^ default).collect();
            ones(&differing).for_each(|fact| self.counts[fact as usize] += 1);
        } else if get(facts, KNOWN) {
            ones(facts).for_each(|fact| self.counts[fact as usize] += 1);
        }
    }

    /// Takes up the flips of a key that was counted: each of `flipped`, once, is another truth now; `facts` is the truth now.
    pub(crate) fn flip(&mut self, facts: &[u64], flipped: impl Iterator<Item = u32> + Clone) {
        let known = get(facts, KNOWN);
        let was_known = known != flipped.clone().any(|fact| fact == KNOWN);
        let mut step = |fact: u32, up: bool| {
            let count = &mut self.counts[fact as usize];
            *count = if up { *count + 1 } else { *count - 1 };
        };
        match (self.known_only, was_known, known) {
            (false, ..) => flipped.for_each(|fact| step(fact, get(facts, fact) != get(&self.default, fact))),
            (true, true, true) => flipped.for_each(|fact| step(fact, get(facts, fact))),
            (true, false, true) => ones(facts).for_each(|fact| step(fact, true)),
            (true, true, false) => {
                // What held before: what holds now, but for what has flipped. Ups come first: a count is never below 0.
                flipped.clone().filter(|fact| get(facts, *fact)).for_each(|fact| step(fact, true));
                ones(facts).for_each(|fact| step(fact, false));
                flipped.filter(|fact| !get(facts, *fact)).for_each(|fact| step(fact, false));
            }
            (true, false, false) => {}
        }
    }

    /// Returns how many of the keys that may be members meet a fact; `keys` is the number of keys of which something is known.
    pub(crate) fn keys(&self, fact: u32, keys: usize) -> u64 {
        let count = self.counts[fact as usize];
        if !self.known_only && get(&self.default, fact) { keys as u64 - count } else { count }
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::set;
    use super::*;
    use usher_queries::plan::{Fact, FactKind};

    const FACTS: u32 = 70;

    fn model(rng: &mut fastrand::Rng, members: Members) -> ModelPlan {
        let mut fact = |index: u32| Fact {
            kind: FactKind::Known,
            fingerprint: [0; 16],
            text: String::new(),
            default: index > 0 && rng.u8(0..3) == 0,
        };
        let facts = (0..FACTS).map(&mut fact).collect();
        ModelPlan {
            id: String::new(),
            members,
            facts,
            audiences: Vec::new(),
            order: Vec::new(),
            snapshot: None,
            rows: None,
        }
    }

    #[test]
    fn counts_kept_by_flips_are_those_counted_from_all_keys() {
        for seed in 0..40 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let members = if seed % 2 == 0 { Members::Known } else { Members::Any };
            let model = model(&mut rng, members);
            let mut counts = FactCounts::new(&model);
            let mut keys: Vec<Words> = vec![counts.default.clone(); 20];
            for facts in &mut keys {
                (0..FACTS).filter(|_| rng.bool()).for_each(|fact| set(facts, fact, true));
                counts.add(facts);
            }
            let (mut joined, mut left) = (0, 0);
            for _ in 0..300 {
                let facts = &mut keys[rng.usize(0..20)];
                let mut flipped: Vec<u32> = (0..rng.usize(1..5)).map(|_| rng.u32(0..FACTS)).collect();
                if rng.bool() {
                    flipped.push(KNOWN);
                }
                flipped.sort_unstable();
                flipped.dedup();
                for fact in &flipped {
                    let truth = get(facts, *fact);
                    set(facts, *fact, !truth);
                }
                if flipped[0] == KNOWN {
                    *if get(facts, KNOWN) { &mut joined } else { &mut left } += 1;
                }
                counts.flip(facts, flipped.iter().copied());
                for fact in 0..FACTS {
                    let may = |facts: &&Words| members == Members::Any || get(facts, KNOWN);
                    let want = keys.iter().filter(may).filter(|facts| get(facts, fact)).count();
                    assert_eq!(counts.keys(fact, keys.len()), want as u64, "seed {seed}, fact {fact}");
                }
            }
            assert!(joined > 0 && left > 0, "seed {seed} has no key that joins and none that leaves the snapshot");
        }
    }
}
