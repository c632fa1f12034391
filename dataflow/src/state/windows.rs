//! Windows: facts that events decide, "the number of events in the window lies in `least..=most`", an aggregate of a value
//! that they carry, or a sequence of them.
//!
//! Computes for each such fact of a key its truth, and when it flips. Holds, per key, 16 bytes with the time of the next armed timer; of a count
//! the newest few events, 24 bytes each (`counts.rs`); what greater counts, aggregates and sequences hold is decided in
//! `kept.rs` and stands in `runs.rs`, behind 8 bytes more per key where the model has such facts. Promises: when the timers up to a time have fired, nothing that has
//! left its window by then is read any more, and a key of which nothing else is held is empty. Refuses: events of the future; the caller
//! hands in an event when the clock has reached it.

mod chains;
mod counts;
mod event_list;
mod kept;
mod runs;

use self::chains::SequenceRule;
use self::counts::{Counted, Counts, Look};
use self::event_list::ValuedEvent;
use self::kept::{KeptRule, Question};
use self::runs::Runs;
use super::dictionary::AHEAD;
use super::forecast::Waiting;
use super::room::{self, make_room};
use super::timers::Timers;
use super::transition::Flip;
use crate::time::{Slot, Time};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::hint::black_box;
use usher_config::{Aggregate, Comparison};
use usher_queries::compile::count_range;
use usher_queries::plan::{EventPlan, FactKind, ModelPlan, Role};

pub(crate) use self::chains::held_as;
pub(crate) use self::counts::Rule;

/// How a fact is decided.
#[derive(Clone, Debug)]
pub(crate) enum WindowRule {
    /// By the newest few events.
    Newest(Rule),
    /// By more, or by values that they carry.
    Kept(KeptRule),
}

impl WindowRule {
    /// Returns how a fact of this kind is decided; `None` if not by events. `events` are those of the plan.
    fn of(fact: u32, kind: &FactKind, events: &[EventPlan]) -> Option<WindowRule> {
        match kind {
            FactKind::Performed { within, least, most, .. } => {
                let rule = Rule::new(*within, *least, *most);
                Some(if rule.is_small(fact) {
                    WindowRule::Newest(rule)
                } else {
                    WindowRule::Kept(KeptRule::new(*within, 0, Question::Count(rule)))
                })
            }
            FactKind::Aggregated { event, filter, within, value, aggregate, comparison } => {
                let question = match aggregate {
                    Aggregate::Sum(_)
                        if events[*event as usize].sum_only_rises(*filter, aggregate)
                            && matches!(comparison, Comparison::AtLeast(_) | Comparison::MoreThan(_)) =>
                    {
                        Question::Enough(aggregate.clone(), *comparison)
                    }
                    Aggregate::Distinct(_) => {
                        let (least, most) = count_range(comparison);
                        Question::Distinct(Rule::new(*within, least, most))
                    }
                    Aggregate::Sum(_) | Aggregate::Avg(_) => Question::Total(aggregate.clone(), *comparison),
                    Aggregate::Min(_) | Aggregate::Max(_) => Question::Extreme(aggregate.clone(), *comparison),
                    Aggregate::Count => panic!("the count is a fact of its own kind"),
                };
                Some(WindowRule::Kept(KeptRule::new(*within, *value as usize, question)))
            }
            FactKind::Sequence { steps, within, .. } => {
                let question = Question::Sequence(SequenceRule::new(steps));
                Some(WindowRule::Kept(KeptRule::new(*within, 0, question)))
            }
            FactKind::Known | FactKind::Property(_) | FactKind::Related { .. } | FactKind::Tallied { .. } => None,
        }
    }

    /// Returns how long an event counts.
    fn within(&self) -> Time {
        match self {
            WindowRule::Newest(rule) => rule.within,
            WindowRule::Kept(rule) => rule.within,
        }
    }

    /// Returns which of an event's values the fact takes; `None` if none.
    pub(crate) fn value(&self) -> Option<usize> {
        match self {
            WindowRule::Kept(KeptRule { question: Question::Count(_) | Question::Sequence(_), .. })
            | WindowRule::Newest(_) => None,
            WindowRule::Kept(rule) => Some(rule.value),
        }
    }

    /// Returns whether a sequence decides the fact.
    fn is_sequence(&self) -> bool {
        matches!(self, WindowRule::Kept(KeptRule { question: Question::Sequence(_), .. }))
    }
}

/// What is held of a fact, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// The number of events or values.
    Count(usize),
    /// As many as are held, or more.
    CountOrMore(usize),
    /// A sum or average.
    Total(String),
}

/// Where a message came from, in SPEC §2.4's order: the rank of its partition, then its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Arrival(u64);

impl Arrival {
    /// Ranks to 2^16 and positions to 2^48 (256 TB of one file) fit; beyond is a bug of the caller.
    pub(crate) fn new(rank: u32, position: u64) -> Arrival {
        assert!(rank < 1 << 16, "more than 65,536 partitions in one job");
        assert!(position < 1 << 48, "a position of a partition beyond 2^48");
        Arrival(u64::from(rank) << 48 | position)
    }

    pub(crate) fn rank(self) -> u32 {
        (self.0 >> 48) as u32
    }

    /// The same position in the partition of another rank.
    pub(crate) fn with_rank(self, rank: u32) -> Arrival {
        Arrival::new(rank, self.0 & ((1 << 48) - 1))
    }
}

/// An event that matters to a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) timestamp: Time,
    pub(crate) arrival: Arrival,
    /// A 64-bit hash of the message id.
    pub(crate) id: u64,
}

/// What is held of one key's counts, and its next timer.
#[derive(Debug, Default)]
struct KeyWindows {
    /// When the armed timer fires; 0 if none is armed.
    armed: Time,
    counts: Counts,
}

/// All that is held of one key, to be read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeyView<'a> {
    /// `None` of a key that is not known.
    counts: Option<&'a Counts>,
    /// `None` if nothing is held of facts other than small counts.
    runs: Option<&'a Runs>,
}

/// All that is held of one key, to be worked on.
struct KeyWork<'a> {
    windows: &'a mut KeyWindows,
    /// `None` where the model has small counts only.
    runs: Option<&'a mut Option<Box<Runs>>>,
}

/// Where flips and timers go while windows are worked on.
struct Out<'a> {
    slot: Slot,
    flips: &'a mut Vec<Flip>,
    timers: &'a mut Timers<Slot>,
}

/// The windows of all keys of a model.
pub(crate) struct WindowState {
    /// By fact; `None` for facts that events do not decide.
    rules: Vec<Option<WindowRule>>,
    /// By slot.
    keys: Vec<KeyWindows>,
    /// What is held of facts other than small counts, by slot; empty where the model has none.
    runs: Vec<Option<Box<Runs>>>,
    has_runs: bool,
    timers: Timers<Slot>,
    /// All timers up to this time have fired.
    fired: Time,
    /// How many of the next timers' keys have been read ahead.
    read_ahead: usize,
}

/// An event of a key, and the facts that it counts for.
pub(crate) struct Applied<'a> {
    /// The clock at which it takes effect.
    pub(crate) at: Time,
    pub(crate) event: Held,
    /// Bits into `facts`.
    pub(crate) bits: u64,
    pub(crate) facts: &'a [u32],
    /// What it is in the sequences among `facts`.
    pub(crate) roles: &'a [Role],
    /// Those that it carries.
    pub(crate) values: &'a [i128],
}

impl Applied<'_> {
    /// Returns what the event is in the sequence at `position`: all positions of one sequence stand next to each other. Those are
    /// taken from `rest`.
    fn role(&self, position: usize, rest: &mut u64) -> Role {
        let mut role = self.roles[position];
        while *rest != 0 {
            let next = rest.trailing_zeros() as usize;
            if self.facts[next] != self.facts[position] {
                break;
            }
            role.bits |= self.roles[next].bits;
            *rest &= *rest - 1;
        }
        role
    }
}

impl WindowState {
    pub(crate) fn new(model: &ModelPlan, events: &[EventPlan]) -> WindowState {
        let facts = (0..).zip(&model.facts);
        let rules: Vec<_> = facts.map(|(index, fact)| WindowRule::of(index, &fact.kind, events)).collect();
        let has_runs = rules.iter().flatten().any(|rule| matches!(rule, WindowRule::Kept(_)));
        let (keys, runs) = (Vec::new(), Vec::new());
        WindowState { rules, keys, runs, has_runs, timers: Timers::default(), fired: 0, read_ahead: 0 }
    }

    /// Reserves memory for so many more slots.
    pub(crate) fn reserve(&mut self, slots: usize) {
        room::reserve(&mut self.keys, slots);
        if self.has_runs {
            room::reserve(&mut self.runs, slots);
        }
    }

    /// Makes room for so many slots.
    pub(crate) fn fit(&mut self, slots: usize) {
        let more = slots.saturating_sub(self.keys.len());
        if more > 0 {
            make_room(&mut self.keys, more);
            self.keys.resize_with(slots, KeyWindows::default);
            if self.has_runs {
                make_room(&mut self.runs, more);
                self.runs.resize_with(slots, || None);
            }
        }
    }

    /// Returns the rule of a fact; `None` if events do not decide it.
    pub(crate) fn rule(&self, fact: u32) -> Option<&WindowRule> {
        self.rules[fact as usize].as_ref()
    }

    /// Returns whether the events of a fact are kept with a value.
    fn takes_value(&self, fact: u32) -> bool {
        self.rule(fact).is_some_and(|rule| rule.value().is_some() || rule.is_sequence())
    }

    /// Returns whether there is room for a slot.
    pub(crate) fn has(&self, slot: Slot) -> bool {
        (slot as usize) < self.keys.len()
    }

    /// Returns what is held of a key.
    pub(crate) fn key(&self, slot: Slot) -> KeyView<'_> {
        KeyView { counts: Some(&self.keys[slot as usize].counts), runs: self.runs_of(slot) }
    }

    /// Returns what is held of a key's facts that are no small counts; `None` if nothing.
    fn runs_of(&self, slot: Slot) -> Option<&Runs> {
        self.runs.get(slot as usize)?.as_deref()
    }

    /// Returns something that is read with a key: see [`KeyedState::read_ahead`](super::keyed::KeyedState::read_ahead).
    pub(crate) fn touch(&self, slot: Slot) -> Time {
        self.keys[slot as usize].armed ^ Time::from(self.runs_of(slot).is_some())
    }

    /// Returns something behind what [`WindowState::touch`] reads.
    pub(crate) fn touch_within(&self, slot: Slot) -> Time {
        let counted = self.keys[slot as usize].counts.len() as u64;
        self.runs_of(slot).map_or(counted, |runs| counted ^ runs.touch())
    }

    /// Returns something of a key's events, whose number [`WindowState::touch_within`] reads.
    pub(crate) fn touch_events(&self, slot: Slot) -> u64 {
        self.keys[slot as usize].counts.touch()
    }

    /// Applies an event to each fact that it counts for; returns whether it repeats an event that is held.
    ///
    /// # Panics
    /// Panics if it counts for a fact without a window.
    pub(crate) fn apply(&mut self, slot: Slot, applied: &Applied<'_>, flips: &mut Vec<Flip>) -> bool {
        let mut key = KeyWork::of(slot, &mut self.keys, &mut self.runs);
        let mut out = Out { slot, flips, timers: &mut self.timers };
        let (mut repeat, mut due) = (false, None);
        let (mut before, mut from) = (0, 0);
        let mut rest = applied.bits;
        while rest != 0 {
            let position = rest.trailing_zeros() as usize;
            let fact = applied.facts[position];
            rest &= rest - 1;
            // Where the events of the fact before end, those of a later one are looked for.
            if fact <= before {
                from = 0;
            }
            before = fact;
            let Some(rule) = &self.rules[fact as usize] else {
                panic!("an event counts for fact {fact}, which has no window");
            };
            let (event, value) = match rule {
                WindowRule::Kept(KeptRule { question: Question::Sequence(_), .. }) => {
                    let role = applied.role(position, &mut rest);
                    (held_as(role, applied.event), i128::from(role.bits))
                }
                WindowRule::Kept(rule) => (applied.event, applied.values.get(rule.value).copied().unwrap_or(0)),
                WindowRule::Newest(_) => (applied.event, 0),
            };
            let look = key.apply(rule, fact, applied.at, (event, value), &mut from, &mut out);
            repeat |= look.repeat;
            due = due.into_iter().chain(look.due).min();
        }
        key.windows.arm(due, &mut out);
        key.release();
        repeat
    }

    /// Returns a time before which no timer is due. None if there are no timers.
    pub(crate) fn next_timer(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Returns a time, at most `end`, before which so many timers are due: see [`Timers::limit`].
    pub(crate) fn timer_limit(&self, many: usize, end: Time) -> Time {
        self.timers.limit(many, end)
    }

    /// Fires the next timer due by `through`; returns its slot, `None` if none is due.
    pub(crate) fn fire(&mut self, through: Time, flips: &mut Vec<Flip>) -> Option<Slot> {
        if self.read_ahead == 0 {
            self.read_ahead_of_timers();
        }
        let Some((time, slot)) = self.timers.pop(through) else {
            self.fired = self.fired.max(through);
            return None;
        };
        self.read_ahead = self.read_ahead.saturating_sub(1);
        let mut out = Out { slot, flips, timers: &mut self.timers };
        KeyWork::of(slot, &mut self.keys, &mut self.runs).fire(&self.rules, time, &mut out);
        Some(slot)
    }

    /// Reads what the next timers will read: most of it misses the caches, and the misses of several keys overlap.
    fn read_ahead_of_timers(&mut self) {
        let next = || self.timers.upcoming(AHEAD);
        // The compiler must not find that nothing uses what is read.
        black_box(next().fold(0, |all, slot| all ^ self.touch(slot)));
        black_box(next().fold(0, |all, slot| all ^ self.touch_within(slot)));
        black_box(next().fold(0, |all, slot| all ^ self.touch_events(slot)));
        self.read_ahead = next().count();
    }

    /// Takes up the events of a fact of which nothing is held yet, after all before `clock` has taken effect; returns its truth.
    ///
    /// # Panics
    /// Panics if events do not decide the fact.
    pub(crate) fn restore(
        &mut self,
        slot: Slot,
        fact: u32,
        clock: Time,
        held: &[(Held, i128)],
        flips: &mut Vec<Flip>,
    ) -> bool {
        let rule = self.rules[fact as usize].as_ref().expect("a fact with events has a window, by its fingerprint");
        let mut out = Out { slot, flips, timers: &mut self.timers };
        // What has left its window may have been held when the key was written: nothing had turned on it.
        let left = held.iter().take_while(|(held, _)| held.timestamp + rule.within() < clock).count();
        KeyWork::of(slot, &mut self.keys, &mut self.runs).restore(rule, fact, &held[left..], &mut out)
    }

    /// Returns what is held of a fact, with the values, from oldest to newest.
    #[cfg(test)]
    pub(crate) fn events_of(&self, slot: Slot, fact: u32) -> Vec<(Held, i128)> {
        self.key(slot).events_of(self.rule(fact).expect("it has a window"), fact, self.fired)
    }

    /// Returns the events of a key that matter to counts, by fact, each from oldest to newest.
    pub(crate) fn counted(&self, slot: Slot) -> impl Iterator<Item = (u32, CountEvents<'_>)> {
        let of_runs = self.runs_of(slot).into_iter().flat_map(Runs::held).filter(|(fact, _)| !self.takes_value(*fact));
        let few = self.keys[slot as usize]
            .counts
            .held(&self.rules, self.fired)
            .map(|(fact, held)| (fact, CountEvents::Few(held)));
        few.chain(of_runs.map(|(fact, held)| {
            let held: Vec<Held> = held.into_iter().map(|(held, _)| held).collect();
            (fact, CountEvents::Held(held.into()))
        }))
    }

    /// Returns the events of a key that matter to aggregates and sequences with their values, by fact, each from oldest to newest.
    pub(crate) fn valued(&self, slot: Slot) -> impl Iterator<Item = (u32, Vec<(Held, i128)>)> {
        self.runs_of(slot).into_iter().flat_map(Runs::held).filter(|(fact, _)| self.takes_value(*fact))
    }
}

/// The events that matter to a count, to be written as a sequence of [`Held`].
pub(crate) enum CountEvents<'a> {
    Few(&'a [Counted]),
    Held(Cow<'a, [Held]>),
}

impl Serialize for CountEvents<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            CountEvents::Few(held) => serializer.collect_seq(held.iter().map(Counted::held)),
            CountEvents::Held(held) => held.serialize(serializer),
        }
    }
}

impl<'a> KeyWork<'a> {
    fn of(slot: Slot, keys: &'a mut [KeyWindows], runs: &'a mut [Option<Box<Runs>>]) -> KeyWork<'a> {
        KeyWork { windows: &mut keys[slot as usize], runs: runs.get_mut(slot as usize) }
    }

    /// Returns the runs, of which there may be none yet.
    ///
    /// # Panics
    /// Panics if the model has small counts only.
    fn runs(&mut self) -> &mut Runs {
        self.runs.as_mut().expect("a model with such facts has room for what they hold").get_or_insert_default()
    }

    /// Applies an event with its value at clock `at`. `from`: see [`Counts::apply`].
    fn apply(
        &mut self,
        rule: &WindowRule,
        fact: u32,
        at: Time,
        (event, value): (Held, i128),
        from: &mut usize,
        out: &mut Out<'_>,
    ) -> Look {
        match rule {
            WindowRule::Newest(rule) => self.windows.counts.apply(rule, fact, at, event, from, out),
            WindowRule::Kept(rule) => self.runs().apply(rule, fact, at, (event, value), out),
        }
    }

    /// Looks at all facts when a timer fires at `time`.
    fn fire(&mut self, rules: &[Option<WindowRule>], time: Time, out: &mut Out<'_>) {
        if self.windows.armed != time {
            return;
        }
        self.windows.armed = 0;
        let counted = self.windows.counts.fire(rules, time, out);
        let runs = self.runs.as_mut().and_then(|runs| runs.as_mut());
        let kept = runs.and_then(|runs| runs.fire(rules, time, out));
        if let Some(due) = counted.into_iter().chain(kept).min() {
            match self.windows.counts.take_timer(due) {
                Some(pending) => self.windows.armed = pending,
                None => self.windows.arm(Some(due), out),
            }
        }
        self.release();
    }

    /// Takes up what was held of a fact of which nothing is held yet; returns its truth.
    fn restore(&mut self, rule: &WindowRule, fact: u32, held: &[(Held, i128)], out: &mut Out<'_>) -> bool {
        let (truth, due) = match rule {
            WindowRule::Newest(rule) => self.windows.counts.restore(rule, fact, held.iter().map(|(held, _)| *held)),
            WindowRule::Kept(rule) => self.runs().restore(rule, fact, held),
        };
        self.windows.arm(due, out);
        self.release();
        truth
    }

    /// Gives back the memory of what is no longer needed: keys come and go by the million.
    fn release(&mut self) {
        let runs = self.runs.as_mut().and_then(|runs| {
            if runs.as_ref().is_some_and(|runs| runs.is_empty()) {
                **runs = None;
            }
            runs.as_ref()
        });
        if self.windows.counts.is_empty() && runs.is_none() {
            *self.windows = KeyWindows::default();
        }
    }
}

impl KeyWindows {
    /// Has a timer fire at `due`, or before.
    fn arm(&mut self, due: Option<Time>, out: &mut Out<'_>) {
        let Some(due) = due.filter(|due| self.armed == 0 || *due < self.armed) else { return };
        if self.armed != 0 {
            self.counts.keep_timer(self.armed);
        }
        self.armed = due;
        out.timers.push(due, out.slot);
    }
}

impl KeyView<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_none_or(Counts::is_empty) && self.runs.is_none()
    }

    /// Returns what is held of a fact at `now`, with the values, from oldest to newest.
    pub(crate) fn events_of(&self, rule: &WindowRule, fact: u32, now: Time) -> Vec<(Held, i128)> {
        let in_window = |(held, _): &(Held, i128)| now < held.timestamp + rule.within();
        match rule {
            WindowRule::Newest(_) => {
                let counted = self.counts.into_iter().flat_map(|counts| counts.of_fact(fact));
                counted.map(|counted| (counted.held(), 0)).filter(in_window).collect()
            }
            WindowRule::Kept(_) => {
                let mut runs = self.runs.into_iter().flat_map(Runs::held);
                runs.find(|(of, _)| *of == fact).map_or_else(Vec::new, |(_, held)| held)
            }
        }
    }

    /// Returns what is held of a fact at `now`, for people; `None` if that does not determine it.
    pub(crate) fn shown(&self, rule: &WindowRule, fact: u32, now: Time) -> Option<Shown> {
        let held = self.events_of(rule, fact, now);
        let count = |keep: usize| match held.len() {
            0 if keep == 0 => None,
            len if len >= keep => Some(Shown::CountOrMore(len)),
            len => Some(Shown::Count(len)),
        };
        let total = |aggregate| event_list::total(aggregate, held.iter().map(|(_, value)| *value));
        match rule {
            WindowRule::Newest(rule) => count(rule.keep),
            WindowRule::Kept(rule) => match &rule.question {
                Question::Count(rule) | Question::Distinct(rule) => count(rule.keep),
                Question::Total(aggregate, _) => total(aggregate).shown().map(Shown::Total),
                Question::Enough(aggregate, comparison) => {
                    let total = total(aggregate);
                    // Once it is enough, older events are not held.
                    let or_more = if total.holds(comparison) && !held.is_empty() { " or more" } else { "" };
                    total.shown().map(|total| Shown::Total(total + or_more))
                }
                Question::Extreme(..) | Question::Sequence(_) => None,
            },
        }
    }

    /// Returns how far a sequence has come at `now`, as the timestamps of the events for the steps that it has reached; `None` if the
    /// fact is no sequence.
    pub(crate) fn progress(&self, rule: &WindowRule, fact: u32, now: Time) -> Option<Vec<Time>> {
        let WindowRule::Kept(KeptRule { question: Question::Sequence(sequence), .. }) = rule else { return None };
        let events = self.events_of(rule, fact, now);
        let events: Vec<ValuedEvent> = events.into_iter().map(|(held, bits)| ValuedEvent::new(held, bits)).collect();
        Some(chains::progress(sequence, &events, now))
    }
}

/// Returns when the truth of a fact flips by itself: `held` is held of it now, and nothing else comes but `waiting`, in the order
/// in which it takes effect.
pub(crate) fn flips_ahead(
    rule: &WindowRule,
    fact: u32,
    held: &[(Held, i128)],
    waiting: &mut dyn Iterator<Item = &Waiting>,
) -> Vec<Time> {
    let (mut flips, mut timers) = (Vec::new(), Timers::default());
    let mut out = Out { slot: 0, flips: &mut flips, timers: &mut timers };
    let (mut windows, mut runs) = (KeyWindows::default(), None);
    let mut key = KeyWork { windows: &mut windows, runs: Some(&mut runs) };
    let before = key.restore(rule, fact, held, &mut out);
    for Waiting { at, event, value, .. } in waiting {
        key.apply(rule, fact, *at, (*event, *value), &mut 0, &mut out);
    }
    match rule {
        WindowRule::Newest(rule) => windows.counts.expire_all(rule, fact, &mut out),
        WindowRule::Kept(rule) => runs.iter_mut().for_each(|runs| runs.expire_all(rule, fact, &mut out)),
    }
    // Stable: of two flips in the same ms the later one counts.
    flips.sort_by_key(|flip| flip.time);
    let (mut truth, mut times) = (before, Vec::new());
    for at_once in flips.chunk_by(|a, b| a.time == b.time) {
        let after = at_once.last().expect("a chunk is not empty");
        if after.truth != truth {
            truth = after.truth;
            times.push(after.time);
        }
    }
    times
}

/// Returns the order of events of a fact.
fn order(held: &Held) -> (Time, Arrival) {
    (held.timestamp, held.arrival)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use usher_config::{Comparison, Decimal, Members};
    use usher_queries::aggregate::{Contribution, Summary};
    use usher_queries::plan::{Fact, Filter};

    const WITHIN: Time = 100;

    fn model(rules: &[(u64, Option<u64>)]) -> ModelPlan {
        let fact = |(least, most): &(u64, Option<u64>)| Fact {
            kind: FactKind::Performed { event: 0, filter: 0, within: WITHIN, least: *least, most: *most },
            fingerprint: [0; 16],
            text: String::new(),
            default: *least == 0,
        };
        ModelPlan {
            id: "users".into(),
            members: Members::Any,
            audiences: Vec::new(),
            order: Vec::new(),
            facts: rules.iter().map(fact).collect(),
            snapshot: None,
            rows: None,
        }
    }

    fn state(rules: &[(u64, Option<u64>)]) -> WindowState {
        let mut state = WindowState::new(&model(rules), &[]);
        state.fit(1);
        state
    }

    /// Applies an event to all of `facts`; returns whether it was a repeat.
    fn apply(
        state: &mut WindowState,
        at: Time,
        timestamp: Time,
        id: u64,
        facts: &[u32],
        flips: &mut Vec<Flip>,
    ) -> bool {
        let event = Held { timestamp, arrival: Arrival::new(0, id), id };
        state.apply(0, &Applied { at, event, bits: (1 << facts.len()) - 1, facts, roles: &[], values: &[] }, flips)
    }

    fn fire(state: &mut WindowState, through: Time, flips: &mut Vec<Flip>) {
        while state.fire(through, flips).is_some() {}
    }

    /// (time, truth) of the flips.
    fn times(flips: &[Flip]) -> Vec<(Time, bool)> {
        flips.iter().map(|flip| (flip.time, flip.truth)).collect()
    }

    #[test]
    fn at_least_two_begins_with_the_second_event_and_ends_when_the_first_leaves() {
        let (mut state, mut flips) = (state(&[(2, None)]), Vec::new());
        apply(&mut state, 10, 10, 1, &[0], &mut flips);
        apply(&mut state, 30, 30, 2, &[0], &mut flips);
        fire(&mut state, 500, &mut flips);
        assert_eq!(times(&flips), [(30, true), (110, false)]);
        assert!(state.key(0).is_empty());
    }

    #[test]
    fn a_late_event_counts_for_what_is_left_of_its_window() {
        let (mut state, mut flips) = (state(&[(1, None)]), Vec::new());
        apply(&mut state, 90, 10, 1, &[0], &mut flips);
        apply(&mut state, 190, 85, 2, &[0], &mut flips);
        fire(&mut state, 500, &mut flips);
        assert_eq!(times(&flips), [(90, true), (110, false)], "one whose window is over counts for nothing");
    }

    #[test]
    fn at_most_one_is_broken_by_the_second_event_only_while_both_count() {
        let (mut state, mut flips) = (state(&[(0, Some(1))]), Vec::new());
        for (id, at) in [(1, 10), (2, 20), (3, 40)] {
            apply(&mut state, at, at, id, &[0], &mut flips);
        }
        fire(&mut state, 500, &mut flips);
        assert_eq!(times(&flips), [(20, false), (120, true)], "the newest two decide");
    }

    #[test]
    fn a_repeat_changes_nothing_while_the_event_is_held() {
        let (mut state, mut flips) = (state(&[(2, None)]), Vec::new());
        assert!(!apply(&mut state, 10, 10, 1, &[0], &mut flips));
        assert!(apply(&mut state, 20, 10, 1, &[0], &mut flips));
        assert!(flips.is_empty());
    }

    #[test]
    fn no_more_events_are_held_than_can_decide() {
        let (mut state, mut flips) = (state(&[(2, None), (0, Some(2))]), Vec::new());
        for id in 0..50 {
            apply(&mut state, id, id, id, &[0, 1], &mut flips);
        }
        assert_eq!((state.events_of(0, 0).len(), state.events_of(0, 1).len()), (2, 3));
    }

    #[test]
    fn a_key_below_its_threshold_is_not_looked_at_for_each_event() {
        let (mut state, mut flips) = (state(&[(10, None)]), Vec::new());
        for id in 1..=5 {
            apply(&mut state, 10 * id, 10 * id, id, &[0], &mut flips);
        }
        let looks: Vec<Time> = (0..500).filter(|time| state.fire(*time, &mut flips).is_some()).collect();
        assert_eq!(looks, [110, 150], "when the newest of the first look leaves, and of the second");
        assert!(state.key(0).is_empty() && flips.is_empty());
    }

    #[test]
    fn timers_of_a_key_do_not_grow_with_its_events() {
        let mut model = model(&[(1, None), (1, None), (1, None)]);
        for (fact, within) in model.facts.iter_mut().zip([5, 700, 9_000]) {
            fact.kind = FactKind::Performed { event: 0, filter: 0, within, least: 1, most: None };
        }
        let mut state = WindowState::new(&model, &[]);
        state.fit(1);
        let (mut flips, mut most) = (Vec::new(), 0);
        for at in 0..20_000 {
            fire(&mut state, at, &mut flips);
            if at % 20 == 0 && at < 10_000 {
                apply(&mut state, at, at, at, &[0, 1, 2], &mut flips);
            }
            most = most.max(state.timers.len());
        }
        assert!(state.key(0).is_empty() && state.timers.len() == 0);
        assert!(most <= 3, "{most} timers of three facts");
    }

    #[test]
    fn of_a_fact_that_has_not_turned_nothing_is_taken_up_after_its_window() {
        let (mut state, mut flips) = (state(&[(2, None)]), Vec::new());
        apply(&mut state, 10, 10, 1, &[0], &mut flips);
        let written = state.events_of(0, 0);
        assert_eq!(written.len(), 1);
        for (clock, held) in [(110, 1), (111, 0)] {
            let mut restored = WindowState::new(&model(&[(2, None)]), &[]);
            restored.fit(1);
            assert!(!restored.restore(0, 0, clock, &written, &mut flips));
            assert_eq!(restored.events_of(0, 0).len(), held);
        }
    }

    /// Returns what is written of a state and taken up again, with these truths.
    fn restored(state: &WindowState, rules: &[(u64, Option<u64>)], clock: Time, truth: &[bool]) -> WindowState {
        let mut restored = WindowState::new(&model(rules), &[]);
        restored.fit(1);
        let mut truths: Vec<bool> = rules.iter().map(|(least, _)| *least == 0).collect();
        for (fact, _) in state.counted(0) {
            let held = state.events_of(0, fact);
            truths[fact as usize] = restored.restore(0, fact, clock + 1, &held, &mut Vec::new());
        }
        assert_eq!(truths, truth);
        restored
    }

    /// All events of a fact, kept as a sorted list; truth is counted anew at each look.
    #[derive(Default)]
    struct SortedList(BTreeMap<(Time, Time), u64>);

    impl SortedList {
        fn holds(&self, rule: &Rule, clock: Time) -> bool {
            rule.holds(self.0.keys().filter(|(timestamp, _)| *timestamp <= clock && clock < timestamp + WITHIN).count())
        }
    }

    #[test]
    fn windows_equal_a_sorted_list_of_all_events() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            // Among small counts one that always holds, and one that is not small.
            let rules = [(1, None), (0, None), (3, None), (0, Some(0)), (90, None), (0, Some(2)), (2, Some(3))];
            let (mut state, mut flips) = (state(&rules), Vec::new());
            let of = rules.map(|(least, most)| Rule::new(WITHIN, least, most));
            let mut events: Vec<(Time, Time)> = Vec::new();
            let mut lists: Vec<SortedList> = rules.iter().map(|_| SortedList::default()).collect();
            let mut truth: Vec<bool> = rules.iter().map(|(least, _)| *least == 0).collect();
            let (mut clock, mut reached) = (WITHIN, 0);
            for id in 0..120 {
                let next = clock + *rng.choice(&[0, 1, 7, 30, 90]).expect("it is not empty");
                // Every ms on the way is looked at, as the clock passes it.
                fire(&mut state, next, &mut flips);
                let mut event = (next - rng.u64(0..WITHIN + 10).min(next), id);
                // Some come again, for other facts too.
                if id > 0 && rng.u8(0..5) == 0 {
                    event = *rng.choice(&events).expect("there are some");
                }
                events.push(event);
                let mut facts: Vec<u32> = (0..rules.len() as u32).filter(|_| rng.bool()).collect();
                if rng.bool() {
                    rng.shuffle(&mut facts);
                }
                flips.sort_by_key(|flip| flip.time);
                for time in clock + 1..=next {
                    for flip in flips.extract_if(.., |flip| flip.time <= time) {
                        truth[flip.fact as usize] = flip.truth;
                    }
                    for (fact, list) in lists.iter().enumerate() {
                        assert_eq!(truth[fact], list.holds(&of[fact], time), "seed {seed}: fact {fact} at {time}");
                    }
                }
                clock = next;
                if id % 30 == 0 {
                    state = restored(&state, &rules, clock, &truth);
                }
                apply(&mut state, clock, event.0, event.1, &facts, &mut flips);
                for fact in &facts {
                    lists[*fact as usize].0.insert(event, event.1);
                }
                for flip in flips.drain(..) {
                    truth[flip.fact as usize] = flip.truth;
                    reached += usize::from(flip.truth);
                }
                for (fact, list) in lists.iter().enumerate() {
                    assert_eq!(
                        truth[fact],
                        list.holds(&of[fact], clock),
                        "seed {seed}: fact {fact} after an event at {clock}"
                    );
                }
            }
            assert!(reached > 0, "seed {seed} reaches nothing");
        }
    }

    /// Facts of these aggregates of the only value that events carry.
    fn aggregates(of: &[(Aggregate, Comparison)]) -> WindowState {
        let mut model = model(&[]);
        model.facts = of
            .iter()
            .map(|(aggregate, comparison)| Fact {
                kind: FactKind::Aggregated {
                    event: 0,
                    filter: 0,
                    value: 0,
                    within: WITHIN,
                    aggregate: aggregate.clone(),
                    comparison: *comparison,
                },
                fingerprint: [0; 16],
                text: String::new(),
                default: false,
            })
            .collect();
        let mut state = WindowState::new(&model, &[event()]);
        state.fit(1);
        state
    }

    /// An event with one filter, which everything passes.
    fn event() -> EventPlan {
        EventPlan {
            id: "ordered".into(),
            sources: Vec::new(),
            kind: None,
            names: Vec::new(),
            model: 0,
            foreign_key: None,
            timestamp: None,
            columns: Vec::new(),
            filters: vec![Filter { predicate: None, facts: Vec::new() }],
            facts: Vec::new(),
            traits: Vec::new(),
            shared: None,
        }
    }

    /// Computes an aggregate anew from all events in the window.
    fn naive(aggregate: &Aggregate, comparison: &Comparison, events: &[(Time, i128)], clock: Time) -> bool {
        let in_window = events.iter().filter(|(at, _)| *at <= clock && clock < at + WITHIN);
        let mut summary = Summary::new(aggregate);
        in_window.for_each(|(_, value)| match aggregate {
            Aggregate::Distinct(_) => summary.add(Contribution::Value(*value as u128)),
            _ => summary.add(Contribution::Number(*value)),
        });
        summary.holds(comparison)
    }

    #[test]
    fn a_sum_of_what_is_never_negative_keeps_no_more_than_is_enough() {
        let n = Decimal::from;
        let sum = || Aggregate::Sum("c".to_owned());
        for seed in 0..60 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let facts: Vec<_> = (0..6)
                .map(|_| rng.i64(-1..60))
                .flat_map(|bound| [Comparison::AtLeast(n(bound)), Comparison::MoreThan(n(bound))])
                .map(|comparison| (sum(), comparison))
                .collect();
            let mut state = aggregates(&facts);
            for (rule, (aggregate, comparison)) in state.rules.iter_mut().zip(&facts) {
                let question = Question::Enough(aggregate.clone(), *comparison);
                *rule = Some(WindowRule::Kept(KeptRule::new(WITHIN, 0, question)));
            }
            let mut truth: Vec<bool> = facts.iter().map(|(of, comparison)| naive(of, comparison, &[], 0)).collect();
            let (mut events, mut clock): (Vec<(Time, i128)>, _) = (Vec::new(), WITHIN);
            let (mut dropped, mut flips) = (0, Vec::new());
            let all: Vec<u32> = (0..facts.len() as u32).collect();
            for id in 0..300 {
                let next = clock + rng.u64(0..12);
                fire(&mut state, next, &mut flips);
                flips.sort_by_key(|flip| flip.time);
                for time in clock + 1..=next {
                    for flip in flips.extract_if(.., |flip| flip.time <= time) {
                        truth[flip.fact as usize] = flip.truth;
                    }
                    for (fact, (aggregate, comparison)) in facts.iter().enumerate() {
                        let want = naive(aggregate, comparison, &events, time);
                        assert_eq!(truth[fact], want, "seed {seed}: {comparison:?} at {time}");
                    }
                }
                clock = next;
                let (timestamp, value) = (next - rng.u64(0..WITHIN + 10).min(next), n(rng.i64(0..12)).raw());
                let event = Held { timestamp, arrival: Arrival::new(0, id), id };
                // Every fourth comes again at once, and changes nothing.
                for _ in 0..if id % 4 == 0 { 2 } else { 1 } {
                    let bits = (1 << all.len()) - 1;
                    let applied = Applied { at: clock, event, bits, facts: &all, roles: &[], values: &[value] };
                    state.apply(0, &applied, &mut flips);
                }
                if timestamp + WITHIN > clock {
                    events.push((timestamp, value));
                }
                for flip in flips.extract_if(.., |flip| flip.time <= clock) {
                    truth[flip.fact as usize] = flip.truth;
                }
                let in_window = events.iter().filter(|(at, _)| clock < at + WITHIN).count();
                for (fact, (aggregate, comparison)) in facts.iter().enumerate() {
                    let held = state.events_of(0, fact as u32);
                    let newer: Vec<(Time, i128)> =
                        held.iter().skip(1).map(|(held, value)| (held.timestamp, *value)).collect();
                    let is_enough = naive(aggregate, comparison, &newer, clock);
                    assert!(held.is_empty() || !is_enough, "seed {seed}: {comparison:?} holds {held:?}");
                    dropped += in_window - held.len();
                }
            }
            assert!(dropped > 1_000, "seed {seed}: {dropped} events were not held");
        }
    }

    #[test]
    fn aggregates_equal_those_of_all_events_in_the_window() {
        let column = || "c".to_owned();
        let n = Decimal::from;
        for seed in 0..120 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut facts, mut reached) = (Vec::new(), 0);
            // Half of the seeds put more events in a window than a vector has. Bounds are drawn from where the aggregates lie then.
            let is_dense = seed % 2 == 1;
            let values = if is_dense { 150 } else { 4 };
            for make in [Aggregate::Sum, Aggregate::Avg, Aggregate::Min, Aggregate::Max, Aggregate::Distinct] {
                let bounds = match make(column()) {
                    _ if !is_dense => 0..=3,
                    Aggregate::Sum(_) => 0..=8_000,
                    Aggregate::Avg(_) => 70..=80,
                    Aggregate::Min(_) => -1..=2,
                    Aggregate::Max(_) => 145..=149,
                    _ => 1..=100,
                };
                let (a, b) = (rng.i64(bounds.clone()), rng.i64(bounds));
                facts.extend([
                    (make(column()), Comparison::AtLeast(n(a))),
                    (make(column()), Comparison::Between(n(a.min(b)), n(a.max(b)))),
                ]);
                // A plan has counts of distinct values in canonical form.
                if !matches!(make(column()), Aggregate::Distinct(_)) {
                    facts.extend([
                        (make(column()), Comparison::LessThan(n(a))),
                        (make(column()), Comparison::Exactly(n(b))),
                    ]);
                }
            }
            let (mut state, mut flips) = (aggregates(&facts), Vec::new());
            let mut truth: Vec<bool> = facts.iter().map(|(of, comparison)| naive(of, comparison, &[], 0)).collect();
            let (mut events, mut clock): (Vec<(Time, i128)>, _) = (Vec::new(), WITHIN);
            let all: Vec<u32> = (0..facts.len() as u32).collect();
            for id in 0..if is_dense { 1_000 } else { 400 } {
                let next = clock + if is_dense { u64::from(rng.u8(0..4) == 0) } else { rng.u64(0..30) };
                fire(&mut state, next, &mut flips);
                flips.sort_by_key(|flip| flip.time);
                for time in clock + 1..=next {
                    for flip in flips.extract_if(.., |flip| flip.time <= time) {
                        truth[flip.fact as usize] = flip.truth;
                        reached += 1;
                    }
                    for (fact, (aggregate, comparison)) in facts.iter().enumerate() {
                        let want = naive(aggregate, comparison, &events, time);
                        assert_eq!(truth[fact], want, "seed {seed}: {aggregate:?} {comparison:?} at {time}");
                    }
                }
                clock = next;
                let (timestamp, value) = (next - rng.u64(0..WITHIN + 10).min(next), rng.i64(-1..values));
                let event = Held { timestamp, arrival: Arrival::new(0, id), id };
                let value = n(value).raw();
                let applied = Applied {
                    at: clock,
                    event,
                    bits: (1 << facts.len()) - 1,
                    facts: &all,
                    roles: &[],
                    values: &[value],
                };
                assert!(!state.apply(0, &applied, &mut flips));
                events.push((timestamp, value));
                reached += flips.len();
                for flip in flips.drain(..) {
                    truth[flip.fact as usize] = flip.truth;
                }
                for (fact, (aggregate, comparison)) in facts.iter().enumerate() {
                    let want = naive(aggregate, comparison, &events, clock);
                    assert_eq!(truth[fact], want, "seed {seed}: {aggregate:?} {comparison:?} after {id} at {clock}");
                }
                if id % 100 == 99 {
                    // What is held restores to the same.
                    let mut restored = aggregates(&facts);
                    let mut ignored = Vec::new();
                    for fact in &all {
                        let held = state.events_of(0, *fact);
                        let is = restored.restore(0, *fact, clock, &held, &mut ignored);
                        assert_eq!(is, truth[*fact as usize], "seed {seed}: fact {fact} as restored");
                    }
                    state = restored;
                }
            }
            fire(&mut state, clock + WITHIN, &mut flips);
            assert!(state.key(0).is_empty(), "seed {seed}: nothing is held for ever");
            assert!(reached > 20, "seed {seed}: {reached} flips");
        }
    }

    #[test]
    fn no_more_events_of_an_aggregate_are_held_than_can_decide() {
        let (column, n) = (|| "c".to_owned(), Decimal::from);
        let facts = [
            (Aggregate::Max(column()), Comparison::AtLeast(n(5))),
            (Aggregate::Max(column()), Comparison::Exactly(n(5))),
            (Aggregate::Distinct(column()), Comparison::AtLeast(n(3))),
            (Aggregate::Sum(column()), Comparison::AtLeast(n(3))),
        ];
        let (mut state, mut flips) = (aggregates(&facts), Vec::new());
        for id in 0..90 {
            let event = Held { timestamp: id, arrival: Arrival::new(0, id), id };
            let values = [n(id as i64 % 10).raw()];
            state.apply(
                0,
                &Applied { at: id, event, bits: 0b1111, facts: &[0, 1, 2, 3], roles: &[], values: &values },
                &mut flips,
            );
        }
        let held: Vec<usize> = (0..4).map(|fact| state.events_of(0, fact).len()).collect();
        assert_eq!(held, [1, 2, 3, 90]);
    }

    #[test]
    fn a_repeat_with_another_value_changes_nothing_while_the_event_is_held() {
        let facts = [(Aggregate::Sum("c".to_owned()), Comparison::AtLeast(Decimal::from(10)))];
        let (mut state, mut flips) = (aggregates(&facts), Vec::new());
        let mut apply = |at, value: i64| {
            let event = Held { timestamp: at, arrival: Arrival::new(0, at), id: 1 };
            let values = [Decimal::from(value).raw()];
            state.apply(0, &Applied { at, event, bits: 1, facts: &[0], roles: &[], values: &values }, &mut flips)
        };
        assert_eq!([apply(10, 4), apply(20, 40), apply(110, 40)], [false, true, false]);
        assert_eq!(times(&flips), [(110, true)], "the second is an event once the first has left");
    }

    #[test]
    fn counts_beyond_a_few_equal_a_sorted_list_of_all_events() {
        let rules = [(100, None), (0, Some(80)), (70, Some(90))];
        let mut rng = fastrand::Rng::with_seed(5);
        let (mut state, mut flips) = (state(&rules), Vec::new());
        let mut timestamps: Vec<Time> = Vec::new();
        let mut truth = [false, true, false];
        let (mut clock, mut flipped) = (WITHIN, 0);
        for id in 0..6_000 {
            // It comes in bursts, and in between most of them leave.
            let next = clock + if id % 400 == 0 { rng.u64(20..WITHIN) } else { u64::from(rng.u8(0..6) == 0) };
            fire(&mut state, next, &mut flips);
            clock = next;
            let timestamp = next - rng.u64(0..WITHIN + 10);
            apply(&mut state, clock, timestamp, id, &[0, 1, 2], &mut flips);
            timestamps.push(timestamp);
            flips.sort_by_key(|flip| flip.time);
            flipped += flips.len();
            flips.drain(..).for_each(|flip| truth[flip.fact as usize] = flip.truth);
            let count = timestamps.iter().filter(|at| clock < **at + WITHIN).count();
            for (fact, (least, most)) in rules.iter().enumerate() {
                let want = Rule::new(WITHIN, *least, *most).holds(count);
                assert_eq!(truth[fact], want, "fact {fact} after {id}: {count} in the window");
            }
        }
        assert!(flipped > 20, "the bursts reach their thresholds: {flipped}");
    }
}
