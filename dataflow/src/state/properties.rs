//! Properties: facts that pulls decide, and the moments at which `now()` changes them.
//!
//! Computes the flips of the `property` and `related` facts of a key when a pull switches it, and when a moment of `now()`
//! passes. Holds, per (key, fact) that depends on `now()`: its truth over all time and one armed timer; per key: the included
//! columns of its row. The truth now of the other facts is in the bits that evaluation keeps. Refuses: facts that events decide.

use super::facts::{BitRows, get, set};
use super::rows::Moved;
use super::staged::Staged;
use super::timers::Timers;
use super::transition::{Cause, Flip, ROW};
use crate::ingest::row_batch::{Role, Timeline};
use crate::time::{Slot, Time};
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use usher_config::Comparison;
use usher_queries::aggregate::{Contribution, Summary};
use usher_queries::plan::{Fact, FactKind, ModelPlan};

/// Truth over all time of a fact of a key that depends on `now()`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ClockedTruth {
    /// A predicate on the key's row.
    Row(Timeline),
    /// Rows that come into and go out of an aggregate.
    Aggregate(Vec<(Contribution, Timeline)>),
}

/// A [`ClockedTruth`] with the time of its armed timer.
struct Clocked {
    truth: ClockedTruth,
    armed: Option<Time>,
}

/// What decides a fact.
enum PropertyFact {
    /// Whether the key has a row.
    Known,
    /// A predicate on the key's row.
    Row { clocked: bool },
    /// An aggregate over rows of another model.
    Related { empty: Summary, comparison: Comparison, clocked: bool },
}

/// The properties of all keys of a model.
pub(crate) struct PropertyState {
    /// By fact; `None` for facts that events decide.
    facts: Vec<Option<PropertyFact>>,
    /// The facts that depend on `now()`.
    clocked_facts: Vec<u32>,
    clocked: HashMap<(Slot, u32), Clocked>,
    /// The included columns of a key's row.
    rows: HashMap<Slot, Box<str>>,
    /// Rows that have changed in this epoch: when, and the row before, in order. Noted only once the job is live.
    changed_rows: HashMap<Slot, Vec<(Time, Box<str>)>>,
    notes_changed_rows: bool,
    timers: Timers<(Slot, u32)>,
    /// By fact, whether it reads columns of parents.
    joined: Vec<bool>,
    /// The timers of these: what parents change at earlier times of an epoch comes first.
    joined_timers: Timers<(Slot, u32)>,
}

impl PropertyState {
    pub(crate) fn new(model: &ModelPlan) -> PropertyState {
        let fact = |kind: &FactKind| match kind {
            FactKind::Known => Some(PropertyFact::Known),
            FactKind::Property(predicate) => Some(PropertyFact::Row { clocked: predicate.mentions_now() }),
            FactKind::Related { filter, aggregate, comparison, .. } => Some(PropertyFact::Related {
                empty: Summary::new(aggregate),
                comparison: *comparison,
                clocked: filter.as_ref().is_some_and(|filter| filter.mentions_now()),
            }),
            FactKind::Performed { .. }
            | FactKind::Aggregated { .. }
            | FactKind::Sequence { .. }
            | FactKind::Tallied { .. } => None,
        };
        let facts: Vec<Option<PropertyFact>> = model.facts.iter().map(|of| fact(&of.kind)).collect();
        let is_clocked = |fact: &Option<PropertyFact>| {
            matches!(fact, Some(PropertyFact::Row { clocked: true } | PropertyFact::Related { clocked: true, .. }))
        };
        let reads_parents =
            |of: &Fact| matches!(&of.kind, FactKind::Property(predicate) if !predicate.of_parents.is_empty());
        let clocked_facts = facts.iter().enumerate().filter(|(_, fact)| is_clocked(fact)).map(|(i, _)| i as u32);
        PropertyState {
            clocked_facts: clocked_facts.collect(),
            facts,
            clocked: HashMap::new(),
            rows: HashMap::new(),
            changed_rows: HashMap::new(),
            notes_changed_rows: false,
            timers: Timers::default(),
            joined: model.facts.iter().map(reads_parents).collect(),
            joined_timers: Timers::default(),
        }
    }

    /// Returns whether pulls decide a fact without `now()`: its truth is what a checkpoint keeps of it.
    pub(crate) fn is_plain(&self, fact: u32) -> bool {
        matches!(
            self.facts[fact as usize],
            Some(
                PropertyFact::Known
                    | PropertyFact::Row { clocked: false }
                    | PropertyFact::Related { clocked: false, .. }
            )
        )
    }

    /// Returns the included columns of a key's row; empty if there are none.
    pub(crate) fn row(&self, slot: Slot) -> &str {
        self.rows.get(&slot).map_or("", |row| row)
    }

    /// Begins to note which rows change.
    pub(crate) fn note_changed_rows(&mut self) {
        self.notes_changed_rows = true;
    }

    /// Returns what [`PropertyState::row`] returns as of a time of this epoch.
    pub(crate) fn row_at(&self, slot: Slot, time: Time) -> &str {
        let changes = self.changed_rows.get(&slot);
        let later = changes.and_then(|changes| changes.iter().find(|(changed, _)| time < *changed));
        later.map_or_else(|| self.row(slot), |(_, before)| before)
    }

    /// Forgets how rows were before they changed in this epoch.
    pub(crate) fn end_epoch(&mut self) {
        self.changed_rows.clear();
    }

    /// Sets the included columns of a key's row; empty if there is none.
    pub(crate) fn set_row(&mut self, slot: Slot, row: Box<str>, moved: Moved, flips: &mut Vec<Flip>) -> bool {
        let Moved { time, cause } = moved;
        let before = self.row(slot);
        // `memcmp` is not called for empty texts: glibc's for AVX-512 takes some 50 ns at the dangling pointer of an empty box.
        if before.len() == row.len() && (row.is_empty() || before == &*row) {
            return false;
        }
        let before = if row.is_empty() { self.rows.remove(&slot) } else { self.rows.insert(slot, row) };
        if self.notes_changed_rows {
            let changes = self.changed_rows.entry(slot).or_default();
            if changes.last().is_none_or(|(last, _)| *last != time) {
                changes.push((time, before.unwrap_or_default()));
            }
            flips.push(Flip { time, slot, fact: ROW, truth: true, cause });
        }
        true
    }

    /// Sets the truth over time of a fact of a key, which follows from its row and depends on `now()`; `None` if there is no row.
    /// What flips by itself up to then does so first.
    pub(crate) fn set_row_truth(
        &mut self,
        slot: Slot,
        fact: u32,
        timeline: Option<Timeline>,
        moved: Moved,
        flips: &mut Vec<Flip>,
    ) {
        let Moved { time, cause } = moved;
        while let Some(armed) =
            self.clocked.get(&(slot, fact)).and_then(|clocked| clocked.armed).filter(|at| *at <= time)
        {
            self.look(slot, fact, armed, Cause::Expiry, flips);
        }
        let before = match self.clocked.get(&(slot, fact)) {
            Some(Clocked { truth: ClockedTruth::Row(before), .. }) if Some(before) == timeline.as_ref() => return,
            Some(_) => self.look_at(slot, fact, time).0,
            None => false,
        };
        let truth = timeline.as_ref().is_some_and(|timeline| timeline.at(time));
        match timeline {
            None => drop(self.clocked.remove(&(slot, fact))),
            Some(timeline) => {
                let armed = timeline.next(time);
                armed.into_iter().for_each(|time| self.arm(time, slot, fact));
                self.clocked.insert((slot, fact), Clocked { truth: ClockedTruth::Row(timeline), armed });
            }
        }
        if truth != before {
            flips.push(Flip { time, slot, fact, truth, cause });
        }
    }

    /// Returns the facts of a key whose truth over time is held.
    pub(crate) fn clocked(&self, slot: Slot) -> impl Iterator<Item = (u32, &ClockedTruth)> {
        let facts = if self.clocked.is_empty() { &[][..] } else { &self.clocked_facts };
        facts.iter().filter_map(move |fact| Some((*fact, &self.clocked.get(&(slot, *fact))?.truth)))
    }

    /// Switches a key to what a pull has of it, at `time`; `truths` are its facts as of now. Returns whether anything is new.
    pub(crate) fn switch(
        &mut self,
        staged: &mut Staged,
        slot: Slot,
        time: Time,
        truths: &BitRows,
        flips: &mut Vec<Flip>,
    ) -> bool {
        let known = staged.has(slot);
        let mut new = false;
        // No other flip of a fact that only pulls decide can be pending.
        let mut settle = |fact: u32, truth: bool| {
            let flips_now = get(truths.row(slot), fact) != truth;
            if flips_now {
                flips.push(Flip { time, slot, fact, truth, cause: Cause::Snapshot });
            }
            flips_now
        };
        let mut clocked_now = Vec::new();
        if staged.role == Role::Own {
            new |= settle(0, known);
        }
        for i in 0..staged.facts.len() {
            let fact = staged.facts[i];
            match self.facts[fact as usize].as_ref() {
                Some(PropertyFact::Row { clocked: false }) => new |= settle(fact, known && staged.truth(slot, i)),
                Some(PropertyFact::Related { comparison, clocked: false, .. }) => {
                    new |= settle(fact, staged.summary(slot, i).holds(comparison));
                }
                Some(PropertyFact::Row { .. }) => {
                    clocked_now.push((fact, staged.timelines.remove(&(slot, fact)).map(ClockedTruth::Row)));
                }
                Some(PropertyFact::Related { .. }) => {
                    clocked_now.push((fact, staged.timed.remove(&(slot, fact)).map(ClockedTruth::Aggregate)));
                }
                Some(PropertyFact::Known) | None => panic!("fact {fact} is decided by no pull"),
            }
        }
        if staged.role == Role::Own {
            let row = staged.text(slot).unwrap_or_default();
            new |= self.set_row(slot, row, Moved { time, cause: Cause::Snapshot }, flips);
        }
        for (fact, truth) in clocked_now {
            new |= self.switch_clocked(slot, fact, truth, time, truths, flips);
        }
        new
    }

    /// Writes into `facts` what they would be at `time` if the key were switched to a pull; `default` are those of a key of which
    /// nothing is known.
    pub(crate) fn preview(&self, staged: &Staged, slot: Slot, time: Time, default: &[u64], facts: &mut [u64]) {
        let known = staged.has(slot);
        if staged.role == Role::Own {
            set(facts, 0, known);
        }
        for (i, fact) in staged.facts.iter().enumerate() {
            let truth = match self.facts[*fact as usize].as_ref() {
                Some(PropertyFact::Row { clocked: false }) => known && staged.truth(slot, i),
                Some(PropertyFact::Related { comparison, clocked: false, .. }) => {
                    staged.summary(slot, i).holds(comparison)
                }
                Some(PropertyFact::Row { .. }) => {
                    staged.timelines.get(&(slot, *fact)).map_or(get(default, *fact), |timeline| timeline.at(time))
                }
                Some(PropertyFact::Related { empty, comparison, .. }) => {
                    let rows = staged.timed.get(&(slot, *fact));
                    rows.map_or(get(default, *fact), |rows| aggregate(empty, rows, time).holds(comparison))
                }
                Some(PropertyFact::Known) | None => panic!("fact {fact} is decided by no pull"),
            };
            set(facts, *fact, truth);
        }
    }

    fn switch_clocked(
        &mut self,
        slot: Slot,
        fact: u32,
        truth: Option<ClockedTruth>,
        time: Time,
        truths: &BitRows,
        flips: &mut Vec<Flip>,
    ) -> bool {
        let new = self.clocked.get(&(slot, fact)).map(|clocked| &clocked.truth) != truth.as_ref();
        match truth {
            Some(truth) => self.hold(slot, fact, truth, time, flips),
            None => {
                if self.clocked.remove(&(slot, fact)).is_some() {
                    let truth = get(truths.default(), fact);
                    flips.push(Flip { time, slot, fact, truth, cause: Cause::Snapshot });
                }
            }
        }
        new
    }

    /// Takes up the truth over time of a fact of a key, as of `time`.
    pub(crate) fn hold(&mut self, slot: Slot, fact: u32, truth: ClockedTruth, time: Time, flips: &mut Vec<Flip>) {
        self.clocked.insert((slot, fact), Clocked { truth, armed: None });
        self.look(slot, fact, time, Cause::Snapshot, flips);
    }

    /// Takes up the included columns of a key's row.
    pub(crate) fn restore_row(&mut self, slot: Slot, row: &str) {
        if !row.is_empty() {
            self.rows.insert(slot, row.into());
        }
    }

    /// Returns a time before which no timer is due. None if there are no timers.
    pub(crate) fn next_timer(&self) -> Option<Time> {
        self.timers.next().into_iter().chain(self.joined_timers.next()).min()
    }

    /// Returns a time, at most `end`, before which so many timers of each kind are due: see [`Timers::limit`].
    pub(crate) fn timer_limit(&self, many: usize, end: Time) -> Time {
        self.joined_timers.limit(many, self.timers.limit(many, end))
    }

    fn arm(&mut self, time: Time, slot: Slot, fact: u32) {
        let timers = if self.joined[fact as usize] { &mut self.joined_timers } else { &mut self.timers };
        timers.push(time, (slot, fact));
    }

    /// Fires the next timer due by `through`, of facts that read columns of parents if they are `joined`, else of the others; returns
    /// whether one was due.
    pub(crate) fn fire(&mut self, through: Time, joined: bool, flips: &mut Vec<Flip>) -> bool {
        let timers = if joined { &mut self.joined_timers } else { &mut self.timers };
        let Some((time, (slot, fact))) = timers.pop(through) else { return false };
        if self.clocked.get(&(slot, fact)).is_some_and(|clocked| clocked.armed == Some(time)) {
            self.look(slot, fact, time, Cause::Expiry, flips);
        }
        true
    }

    /// Returns whether nothing depends on `now()` for a key.
    pub(crate) fn is_timeless(&self, slot: Slot) -> bool {
        self.clocked(slot).next().is_none()
    }

    /// Forgets a key.
    pub(crate) fn forget(&mut self, slot: Slot) {
        self.rows.remove(&slot);
    }

    /// Returns when a fact that depends on `now()` flips by itself after `time`, if its truth is `before` now.
    pub(crate) fn flips_ahead(&self, slot: Slot, fact: u32, time: Time, mut before: bool) -> Vec<Time> {
        let later = |turn: &i64| Time::try_from(*turn).ok().filter(|turn| *turn > time);
        let moments: BTreeSet<Time> = match self.clocked.get(&(slot, fact)).map(|clocked| &clocked.truth) {
            None => BTreeSet::new(),
            Some(ClockedTruth::Row(timeline)) => timeline.flips.iter().filter_map(later).collect(),
            Some(ClockedTruth::Aggregate(rows)) => {
                rows.iter().flat_map(|(_, when)| &when.flips).filter_map(later).collect()
            }
        };
        let mut times = Vec::new();
        for moment in moments {
            let (after, _) = self.look_at(slot, fact, moment);
            if after != before {
                times.push(moment);
            }
            before = after;
        }
        times
    }

    /// Gives the truth at `time` of a fact that depends on `now()`, and arms a timer for its next flip.
    fn look(&mut self, slot: Slot, fact: u32, time: Time, cause: Cause, flips: &mut Vec<Flip>) {
        let (truth, next) = self.look_at(slot, fact, time);
        self.clocked.get_mut(&(slot, fact)).expect("it was just looked at").armed = next;
        if let Some(time) = next {
            self.arm(time, slot, fact);
        }
        flips.push(Flip { time, slot, fact, truth, cause });
    }

    /// Returns the truth at `time` of a fact that depends on `now()`, and when to look again.
    fn look_at(&self, slot: Slot, fact: u32, time: Time) -> (bool, Option<Time>) {
        let clocked = self.clocked.get(&(slot, fact)).expect("a fact that is looked at has a truth over time");
        match (&clocked.truth, &self.facts[fact as usize]) {
            (ClockedTruth::Row(timeline), _) => (timeline.at(time), timeline.next(time)),
            (ClockedTruth::Aggregate(rows), Some(PropertyFact::Related { empty, comparison, .. })) => {
                let truth = aggregate(empty, rows, time).holds(comparison);
                (truth, rows.iter().filter_map(|(_, when)| when.next(time)).min())
            }
            (ClockedTruth::Aggregate(_), _) => panic!("fact {fact} is no aggregate"),
        }
    }
}

/// Returns the aggregate of the rows that count at `time`.
fn aggregate(empty: &Summary, rows: &[(Contribution, Timeline)], time: Time) -> Summary {
    let mut summary = empty.clone();
    rows.iter().filter(|(_, when)| when.at(time)).for_each(|(what, _)| summary.add(*what));
    summary
}
