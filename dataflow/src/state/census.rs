//! Census: how many keys meet the conditions of an audience, and when its members will leave by themselves.
//!
//! Looks at all keys of a worker, of the audience's model and of those whose rows conditions inside `whose` are about, a slice at a time: [`Census::go_on`] returns after about [`SLICE`]. Between two slices the job
//! goes on, so a census of more than one slice has each key as of the time of its slice. Promises: within one slice all keys are
//! as of one time. Holds 8 bytes per condition and minute. Refuses: to assume anything of what will be read; events that wait
//! for their time have no part in it.

use super::epoch::EpochWorker;
use super::facts::{Words, get, set};
use super::keyed::KeyedState;
use crate::time::{Slot, Time};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use usher_config::Members;
use usher_queries::conditions::{Decided, Written};
use usher_queries::plan::{ModelPlan, Plan};

/// How long a slice takes: little beside what an epoch may take.
const SLICE: Duration = Duration::from_millis(2);
/// Keys between two looks at the time.
const LOOKS: Slot = 64;
/// Minutes for which is counted who leaves.
const MINUTES: u64 = 60;
/// ms of a minute.
const MINUTE: Time = 60_000;

/// What is counted: an audience of a model.
#[derive(Clone, Copy)]
pub(crate) struct Counted<'a> {
    pub(crate) plan: &'a Plan,
    /// The audience's model, by index.
    pub(crate) model: usize,
    /// The audience's index in the model.
    pub(crate) audience: usize,
    /// Its conditions.
    pub(crate) written: &'a Written,
    /// The facts that decide it, those of audiences that it mentions too.
    pub(crate) facts: &'a [u32],
}

/// The counts of one audience on one worker, so far.
pub(crate) struct Census {
    /// The models that conditions are about, by index, and how many of them have been gone through.
    models: Vec<usize>,
    ended: usize,
    next: Slot,
    /// The time of the first slice.
    pub(crate) as_of: Time,
    /// How long all slices took.
    pub(crate) took: Duration,
    /// By condition, each before those inside it: the keys that meet it, of those that may be members.
    pub(crate) keys: Vec<u64>,
    /// By minute after `as_of`: the members that leave in it.
    pub(crate) leaving: Vec<u64>,
}

/// Returns the number of conditions, those inside included.
fn conditions(written: &Written) -> usize {
    1 + written.inside.iter().map(conditions).sum::<usize>()
}

impl Census {
    /// Starts a census of an audience as of `now`.
    pub(crate) fn new(of: Counted<'_>, now: Time) -> Census {
        let keys = vec![0; conditions(of.written)];
        let mut models = BTreeSet::new();
        add_models(of.written, &mut models);
        let models = models.into_iter().collect();
        Census { models, ended: 0, next: 0, as_of: now, took: Duration::ZERO, keys, leaving: vec![0; MINUTES as usize] }
    }

    /// Counts for about a slice, as of `now`; returns whether all keys have been looked at.
    pub(crate) fn go_on(&mut self, epochs: &EpochWorker, of: Counted<'_>, now: Time) -> bool {
        let begun = Instant::now();
        while let Some(model) = self.models.get(self.ended).copied() {
            let keyed = epochs.model(model);
            if !keyed.has(self.next) {
                (self.ended, self.next) = (self.ended + 1, 0);
                continue;
            }
            self.look_at((model, keyed), of, now);
            self.next += 1;
            if self.next.is_multiple_of(LOOKS) && begun.elapsed() >= SLICE {
                break;
            }
        }
        self.took += begun.elapsed();
        self.ended == self.models.len()
    }

    fn look_at(&mut self, (model, keyed): (usize, &KeyedState), of: Counted<'_>, now: Time) {
        let slot = self.next;
        let (facts, members) = (keyed.evaluate.facts().row(slot), keyed.evaluate.members(slot));
        let may_be_member = match of.plan.models[model].members {
            Members::Known => get(facts, 0),
            Members::Any => keyed.keys().borrow().is_in_use(slot),
        };
        if !may_be_member {
            return;
        }
        count(of.written, model, (facts, members), &mut self.keys.iter_mut());
        // Of what windows of other keys decide it is not known here when it changes.
        let is_foreseen = || of.facts.iter().all(|fact| !keyed.is_unforeseen(*fact, false));
        if model == of.model
            && is_foreseen()
            && get(members, of.audience as u32)
            && let Some(leaves) = leaves_at(keyed, slot, of, now)
            && let Some(minute) = self.leaving.get_mut(((leaves - now - 1) / MINUTE) as usize)
        {
            *minute += 1;
        }
    }
}

/// Adds the models that a condition and those inside it are about.
fn add_models(written: &Written, models: &mut BTreeSet<usize>) {
    models.insert(written.model);
    written.inside.iter().for_each(|inside| add_models(inside, models));
}

/// Counts a key of a model for each condition on such keys that it meets; returns whether it meets the outermost, false if that is about
/// keys of another model.
fn count<'k>(
    written: &Written,
    model: usize,
    (facts, members): (&[u64], &[u64]),
    keys: &mut impl Iterator<Item = &'k mut u64>,
) -> bool {
    let counter = keys.next().expect("there is a counter for each condition");
    let (mut all, mut any) = (true, false);
    for inside in &written.inside {
        let holds = count(inside, model, (facts, members), keys);
        (all, any) = (all && holds, any || holds);
    }
    if written.model != model {
        return false;
    }
    let holds = match written.decided {
        Decided::All => all,
        Decided::Any => any,
        Decided::Not => !any,
        Decided::Fact(fact) => get(facts, fact),
        Decided::Audience(audience) => get(members, audience),
    };
    *counter += u64::from(holds);
    holds
}

/// Returns when a member leaves by itself; `None` if not within the minutes that are counted.
fn leaves_at(keyed: &KeyedState, slot: Slot, of: Counted<'_>, now: Time) -> Option<Time> {
    let end = now + MINUTES * MINUTE;
    let mut flips: Vec<(Time, u32)> = Vec::new();
    for fact in of.facts {
        let later = keyed.flips_of(slot, *fact, now).into_iter().filter(|at| (now + 1..=end).contains(at));
        flips.extend(later.map(|at| (at, *fact)));
    }
    flips.sort_unstable();
    let mut facts: Words = keyed.evaluate.facts().row(slot).to_vec();
    for at_once in flips.chunk_by(|(a, _), (b, _)| a == b) {
        for (_, fact) in at_once {
            let truth = get(&facts, *fact);
            set(&mut facts, *fact, !truth);
        }
        if !holds(&of.plan.models[of.model], of.audience, &facts) {
            return Some(at_once[0].0);
        }
    }
    None
}

fn holds(model: &ModelPlan, audience: usize, facts: &[u64]) -> bool {
    model.audiences[audience].expr.holds(&|fact| get(facts, fact), &|other| holds(model, other as usize, facts))
}
