//! The brake: who would leave by a pull, found out before a row of it switches.
//!
//! Computes, for each audience of the models that a staged pull decides, how many members it has and how many of them would be no
//! members if every key were switched at that ms. At a start these are the members that there would be without the pull. Each member is evaluated exactly; nothing is estimated, and nothing changes. Holds
//! two numbers per audience and one key's facts. Refuses to run within an epoch or while keys are being switched: members and
//! facts are of one time.
//!
//! A large model is weighed some keys at a time, between epochs, so that events do not wait. A key counts as of when it is looked
//! at: then the numbers are of a span of the clock, not of one ms.

use super::epoch::{EpochWorker, WholePull};
use super::facts::{Words, get, ones};
use crate::time::{Slot, Time};
use serde::{Deserialize, Serialize};
use usher_config::Share;

/// An audience with fewer members does not count: in it a share says little.
pub(crate) const MEMBERS_MIN: u64 = 20;

/// The members of an audience, and how many of them a pull would make leave.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Exits {
    /// Index of the model in the plan.
    pub(crate) model: u32,
    /// Index of the audience in the model.
    pub(crate) audience: u32,
    pub(crate) members: u64,
    pub(crate) leaving: u64,
}

impl Exits {
    /// Returns the counts, at 0, of all audiences of a model.
    pub(crate) fn of_model(model: u32, audiences: usize) -> Vec<Exits> {
        (0..audiences as u32).map(|audience| Exits { model, audience, members: 0, leaving: 0 }).collect()
    }
}

/// Adds up what all workers counted and returns the audiences of which more than `share` would leave.
pub(crate) fn exceeding(counts: impl IntoIterator<Item = Exits>, share: Share) -> Vec<Exits> {
    let mut all: Vec<Exits> = counts.into_iter().collect();
    all.sort_unstable();
    let mut sums: Vec<Exits> = Vec::new();
    for one in all {
        match sums.last_mut() {
            Some(sum) if (sum.model, sum.audience) == (one.model, one.audience) => {
                sum.members += one.members;
                sum.leaving += one.leaving;
            }
            _ => sums.push(one),
        }
    }
    sums.retain(|sum| sum.members >= MEMBERS_MIN && share.is_exceeded(sum.leaving, sum.members));
    sums
}

/// The weighing of a worker's part of a pull.
pub(crate) struct Weighing {
    /// The part that is looked at, and the next slot of it.
    part: usize,
    slot: Slot,
    counts: Vec<Exits>,
    facts: Words,
    before: Words,
    after: Words,
}

impl Weighing {
    /// Begins with the first key.
    pub(crate) fn new() -> Weighing {
        Weighing {
            part: 0,
            slot: 0,
            counts: Vec::new(),
            facts: Words::new(),
            before: Words::new(),
            after: Words::new(),
        }
    }

    /// Looks at up to `fuel` keys of the worker, whose state is that of `time`; returns whether all have been looked at.
    pub(crate) fn step(&mut self, pull: &WholePull, epochs: &EpochWorker, time: Time, mut fuel: usize) -> bool {
        while let Some((index, staged)) = pull.parts.get(self.part) {
            let model = epochs.model(*index as usize);
            if self.slot == 0 {
                self.counts.extend(Exits::of_model(*index, model.evaluate.audiences()));
            }
            let first = self.counts.len() - model.evaluate.audiences();
            while model.has(self.slot) {
                if fuel == 0 {
                    return false;
                }
                fuel -= 1;
                model.evaluate.current_members(self.slot, epochs.is_started(), &mut self.before);
                let before = &self.before[..];
                if model.leaves(staged, self.slot) {
                    ones(before).for_each(|audience| self.counts[first + audience as usize].members += 1);
                } else if before.iter().any(|word| *word != 0) {
                    let facts = model.evaluate.facts();
                    self.facts.clear();
                    self.facts.extend_from_slice(facts.row(self.slot));
                    model.preview(staged, self.slot, (pull.began, time), &mut self.facts);
                    model.evaluate.members_by(&self.facts, |audience| get(before, audience), &mut self.after);
                    for audience in ones(before) {
                        let count = &mut self.counts[first + audience as usize];
                        count.members += 1;
                        count.leaving += u64::from(!get(&self.after, audience));
                    }
                }
                self.slot += 1;
            }
            (self.part, self.slot) = (self.part + 1, 0);
        }
        true
    }

    /// Returns the counts of all audiences that were looked at.
    pub(crate) fn end(self) -> Vec<Exits> {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::super::dictionary::SharedDictionary;
    use super::super::epoch::Worked;
    use super::super::staged::Staged;
    use super::super::transition::{EpochOutput, KeyText, Removed, Transition};
    use super::*;
    use crate::ingest::evaluate_rows::{RowReader, wanted};
    use crate::ingest::reader::SourceProgress;
    use crate::ingest::row_batch::Role;
    use crate::time::Span;
    use arrow_array::{ArrayRef, Float64Array, StringArray, TimestampMillisecondArray};
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;
    use usher_config::{Aggregate, ColumnType};
    use usher_core::change::{ChangeKind, Recipients};
    use usher_core::warehouse::KeyedBatch;
    use usher_queries::plan::Plan;
    use usher_queries::testing::fixtures::*;
    use usher_queries::{Schemas, compile};

    const START: Time = 1_795_428_000_000;
    const KEYS: usize = 30;

    fn plan() -> Plan {
        let rich = property("ltv > 50");
        let trial = property("trial_ends > now() and plan <> 'free'");
        let buys = related(Some("amount > 5"), Aggregate::Count, at_least(2));
        let late = related(Some("due <= now() - interval '2 ms'"), Aggregate::Sum("amount".into()), at_most(9));
        let audiences = [
            ("a_rich", "users", rich.clone()),
            ("b_trial", "users", trial.clone()),
            ("c_buys", "users", buys.clone()),
            ("d_late", "users", all([late, property("plan is not null")])),
            ("e_either", "users", any([audience("a_rich"), all([audience("c_buys"), not(trial)])])),
            ("f_not", "users", all([property("plan = 'pro'"), not(any([rich, buys]))])),
        ];
        compile(&job(&audiences), "job.yaml", &Schemas::new()).expect("a sound job")
    }

    /// A random content of a model, staged.
    fn staged(plan: &Plan, model: usize, number: u64, rng: &mut fastrand::Rng, keys: &[SharedDictionary]) -> WholePull {
        let wanted = wanted(plan, model).expect("it is pulled");
        let users: Vec<String> = (0..KEYS).map(|user| format!("u-{user}")).filter(|_| rng.u8(..8) > 0).collect();
        let rows: Vec<(String, Option<String>)> = match wanted.foreign_key {
            None => users.into_iter().map(|user| (user, None)).collect(),
            Some(_) => {
                (0..KEYS * 3).map(|order| (format!("o-{order}"), Some(format!("u-{}", rng.usize(..KEYS))))).collect()
            }
        };
        let column = |(_, to): &(String, ColumnType)| -> ArrayRef {
            match to {
                ColumnType::Number => {
                    let number = |_| (rng.u8(..5) > 0).then(|| f64::from(rng.u32(..100)) / 4.0 * 4.0);
                    Arc::new((0..rows.len()).map(number).collect::<Float64Array>())
                }
                ColumnType::Timestamp => {
                    let time = |_| Some(START as i64 + 2 * rng.i64(-4..10));
                    Arc::new((0..rows.len()).map(time).collect::<TimestampMillisecondArray>())
                }
                _ => {
                    let plan = |_| [Some("free"), Some("pro"), None][rng.usize(..3)];
                    Arc::new((0..rows.len()).map(plan).collect::<StringArray>())
                }
            }
        };
        let batch = KeyedBatch {
            columns: wanted.columns.iter().map(column).collect(),
            keys: rows.iter().map(|(key, _)| Some(key)).collect(),
            foreign_keys: wanted.foreign_key.map(|_| rows.iter().map(|(_, parent)| parent.as_ref()).collect()),
            skipped: 0,
        };
        let of = &plan.models[model];
        let own = (!of.audiences.is_empty()).then_some((model as u32, Role::Own));
        let parent = of.snapshot.as_ref().and_then(|snapshot| snapshot.parent.as_ref());
        let mut parts: Vec<(u32, Staged)> = own
            .into_iter()
            .chain(parent.map(|(parent, _)| (*parent, Role::Related)))
            .map(|(of, role)| (of, Staged::new(role, model as u32, &plan.models[of as usize], 0)))
            .collect();
        for (of, _) in &parts {
            keys[*of as usize].borrow_mut().hold();
        }
        for mut rows in RowReader::new(plan, model, number, 1).read(&batch) {
            let Some((of, staged)) = parts.iter_mut().find(|(of, part)| (*of, part.role) == (rows.model, rows.role))
            else {
                continue;
            };
            let slots = keys[*of as usize].borrow_mut().intern_all(rows.len(), |row| rows.key(row));
            assert_eq!(staged.add(&mut rows, &slots), None, "keys are unique");
        }
        WholePull { pulled: model as u32, number, began: START, at: None, parts }
    }

    /// Who is in which audience, and how many have left it.
    #[derive(Default)]
    struct Seen {
        members: BTreeSet<(u32, u32, Slot)>,
        exits: BTreeMap<(u32, u32), u64>,
    }

    impl EpochOutput for Seen {
        fn transition(&mut self, transition: &Transition, _: Option<Recipients>, _: KeyText<'_>) {
            let Transition { model, audience, slot, kind, .. } = *transition;
            let member = (model as u32, audience, slot);
            match kind {
                ChangeKind::Entry => assert!(self.members.insert(member)),
                ChangeKind::Exit => {
                    assert!(self.members.remove(&member));
                    *self.exits.entry((model as u32, audience)).or_default() += 1;
                }
                ChangeKind::Update => panic!("an update is no transition"),
            }
        }

        fn correction(&mut self, _: &Transition, _: Recipients, _: KeyText<'_>) {}
        fn update(&mut self, _: &Transition, _: Recipients, _: KeyText<'_>) {}
        fn removal(&mut self, _: &Removed, _: Time, _: &str) {}
        fn epoch_end(&mut self, _: Time) {}
    }

    #[test]
    fn those_who_are_counted_as_leaving_leave_when_the_pull_is_switched_to() {
        let plan = plan();
        let models: Vec<usize> =
            (0..plan.models.len()).filter(|model| plan.models[*model].snapshot.is_some()).collect();
        let mut left = 0;
        for seed in 0..30 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let keys: Vec<SharedDictionary> = plan.models.iter().map(|_| SharedDictionary::default()).collect();
            let span = Span::Replay { from: Some(START), until: None };
            let mut epochs = EpochWorker::new(&plan, span, 1, &keys);
            epochs.source_progress(SourceProgress::Opened(Some(START), Vec::new()));
            models.iter().for_each(|model| epochs.take(staged(&plan, *model, 1, &mut rng, &keys)));
            let mut seen = Seen::default();
            while epochs.work(Some(START + 1), 7, &mut seen) == Worked::More {}
            for number in 2..8 {
                let pull = staged(&plan, models[rng.usize(..models.len())], number, &mut rng, &keys);
                // Moments of `now()` are at even ms, the switch is at an odd one: nothing else happens then.
                let switch = epochs.done() | 1;
                while epochs.work(Some(switch), 1_000, &mut seen) == Worked::More {}
                assert_eq!((epochs.rest(), epochs.steady().is_some()), (Some(switch - 1), true), "seed {seed}");
                let mut weighing = Weighing::new();
                while !weighing.step(&pull, &epochs, switch, rng.usize(1..9)) {}
                let counts = weighing.end();
                let members_before = seen.members.clone();
                seen.exits.clear();
                epochs.take(pull);
                while epochs.work(Some(switch + 1), 1_000, &mut seen) == Worked::More {}
                for Exits { model, audience, members, leaving } in counts {
                    let of = |(m, a, _): &&(u32, u32, Slot)| (*m, *a) == (model, audience);
                    assert_eq!(members, members_before.iter().filter(of).count() as u64, "seed {seed}");
                    let exits = seen.exits.get(&(model, audience)).copied().unwrap_or(0);
                    assert_eq!(leaving, exits, "seed {seed}, pull {number}, audience {audience}");
                    left += exits;
                }
            }
        }
        assert!(left > 500, "{left} left: both are reached");
    }

    #[test]
    fn an_audience_counts_from_twenty_members_of_all_workers_on() {
        let share = Share::parse("20%").expect("a share");
        let one = |audience, members, leaving| Exits { model: 1, audience, members, leaving };
        let counts = [one(0, 10, 3), one(1, 19, 19), one(2, 50, 10), one(0, 10, 2), one(2, 50, 11)];
        assert_eq!(exceeding(counts, share), [one(0, 20, 5), one(2, 100, 21)]);
        assert_eq!(exceeding([one(0, 20, 4)], share), []);
    }
}
