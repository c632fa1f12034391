//! Windows: facts that events decide, "the number of events in the window lies in `least..=most`".
//!
//! Computes for each such fact of a key its truth, and when it flips. Holds, per (key, fact): the newest `keep` events by
//! (timestamp, arrival), 24 bytes each, and the time of one armed timer. An event that is not among them can never decide the
//! fact again: all newer ones stay longer. Refuses: events of the future; the caller hands in an event when the clock has
//! reached it.
//!
//! Applying an event is idempotent while it is held: its id is found, and only its arrival may become earlier.
//!
//! The steps of [`WindowState::apply`], which the tests repeat on a sorted list of all events:
//! 1. events that have left the window by `at` go, and truth may flip at exactly `timestamp + within`;
//! 2. an event whose window is over is dropped; one whose id is held is a repeat;
//! 3. the event is put in its place, and what is then beyond the newest `keep` goes;
//! 4. truth may flip at `at`;
//! 5. a timer stands at or before the moment at which the oldest held event leaves.

use super::forecast::Waiting;
use super::timers::{Timer, Timers};
use super::transition::{Cause, Flip};
use crate::time::{Slot, Time};
use serde::{Deserialize, Serialize};
use usher_queries::plan::{FactKind, ModelPlan};

/// When a count of events in a window holds, and how many decide it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) within: Time,
    pub(crate) least: u64,
    pub(crate) most: Option<u64>,
    /// How many of the newest events decide: one more than `most`, else `least`.
    pub(crate) keep: usize,
}

impl Rule {
    pub(crate) fn new(within: Time, least: u64, most: Option<u64>) -> Rule {
        let keep = most.map_or(least, |most| most.saturating_add(1));
        Rule { within, least, most, keep: usize::try_from(keep).unwrap_or(usize::MAX) }
    }

    fn holds(&self, count: usize) -> bool {
        let count = count as u64;
        self.least <= count && self.most.is_none_or(|most| count <= most)
    }
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

/// The held events of one fact: a run in [`KeyWindows::held`].
#[derive(Clone, Copy, Debug)]
struct Run {
    /// When the armed timer fires; 0 if none is armed.
    armed: Time,
    fact: u32,
    len: u32,
}

/// All that is held of one key.
#[derive(Debug, Default)]
pub(crate) struct KeyWindows {
    /// Sorted by fact.
    runs: Vec<Run>,
    /// The runs one after the other, each from oldest to newest.
    held: Vec<Held>,
}

/// Where flips and timers go while windows are worked on.
struct Out<'a> {
    slot: Slot,
    flips: &'a mut Vec<Flip>,
    timers: &'a mut Timers,
}

/// The windows of all keys of a model.
pub(crate) struct WindowState {
    /// By fact; `None` for facts that events do not decide.
    rules: Vec<Option<Rule>>,
    /// By slot.
    keys: Vec<KeyWindows>,
    timers: Timers,
}

/// An event of a key, and the facts that it counts for.
pub(crate) struct Applied<'a> {
    /// The clock at which it takes effect.
    pub(crate) at: Time,
    pub(crate) event: Held,
    /// Bits into `facts`.
    pub(crate) bits: u64,
    pub(crate) facts: &'a [u32],
}

impl WindowState {
    pub(crate) fn new(model: &ModelPlan) -> WindowState {
        let rule = |kind: &FactKind| match kind {
            FactKind::Performed { within, least, most, .. } => Some(Rule::new(*within, *least, *most)),
            FactKind::Known | FactKind::Property(_) | FactKind::Related { .. } => None,
        };
        let rules = model.facts.iter().map(|fact| rule(&fact.kind)).collect();
        WindowState { rules, keys: Vec::new(), timers: Timers::default() }
    }

    /// Makes room for so many slots.
    pub(crate) fn fit(&mut self, slots: usize) {
        if self.keys.len() < slots {
            self.keys.resize_with(slots, KeyWindows::default);
        }
    }

    /// Returns the rule of a fact; `None` if events do not decide it.
    pub(crate) fn rule(&self, fact: u32) -> Option<&Rule> {
        self.rules[fact as usize].as_ref()
    }

    /// Returns whether there is room for a slot.
    pub(crate) fn has(&self, slot: Slot) -> bool {
        (slot as usize) < self.keys.len()
    }

    /// Returns what is held of a key.
    pub(crate) fn key(&self, slot: Slot) -> &KeyWindows {
        &self.keys[slot as usize]
    }

    /// Applies an event to each fact that it counts for; returns whether it repeats an event that is held.
    ///
    /// # Panics
    /// Panics if it counts for a fact without a window.
    pub(crate) fn apply(&mut self, slot: Slot, applied: &Applied<'_>, flips: &mut Vec<Flip>) -> bool {
        let key = &mut self.keys[slot as usize];
        let mut out = Out { slot, flips, timers: &mut self.timers };
        let mut repeat = false;
        let mut rest = applied.bits;
        while rest != 0 {
            let fact = applied.facts[rest.trailing_zeros() as usize];
            rest &= rest - 1;
            let Some(rule) = &self.rules[fact as usize] else {
                panic!("an event counts for fact {fact}, which has no window");
            };
            repeat |= key.apply(rule, fact, applied.at, applied.event, &mut out);
        }
        repeat
    }

    /// Fires the next timer due by `through`; returns its slot, `None` if none is due.
    pub(crate) fn fire(&mut self, through: Time, flips: &mut Vec<Flip>) -> Option<Slot> {
        let Timer { time, slot, fact } = self.timers.pop(through)?;
        let rule = self.rules[fact as usize].as_ref().expect("a timer is of a fact with a window");
        self.keys[slot as usize].fire(rule, fact, time, &mut Out { slot, flips, timers: &mut self.timers });
        Some(slot)
    }

    /// Takes up the events of a fact of which nothing is held yet; returns its truth.
    ///
    /// # Panics
    /// Panics if events do not decide the fact.
    pub(crate) fn restore(&mut self, slot: Slot, fact: u32, held: &[Held], flips: &mut Vec<Flip>) -> bool {
        let rule = self.rules[fact as usize].as_ref().expect("a fact with events has a window, by its fingerprint");
        let mut out = Out { slot, flips, timers: &mut self.timers };
        self.keys[slot as usize].restore(rule, fact, held, &mut out)
    }
}

impl KeyWindows {
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Applies an event at clock `at`; returns whether it repeats a held one.
    fn apply(&mut self, rule: &Rule, fact: u32, at: Time, event: Held, out: &mut Out<'_>) -> bool {
        debug_assert!(event.timestamp <= at, "an event of the future was applied");
        if rule.keep == 0 {
            return false;
        }
        let (index, start) = self.find(fact);
        if self.runs.get(index).is_none_or(|run| run.fact != fact) {
            if event.timestamp + rule.within <= at {
                return false;
            }
            self.runs.insert(index, Run { armed: 0, fact, len: 0 });
        }
        self.expire(rule, index, start, at, out);
        let run = self.runs[index];
        let end = start + run.len as usize;
        let held = &mut self.held[start..end];
        if let Some(found) = held.iter().rposition(|h| h.id == event.id) {
            if event.arrival < held[found].arrival {
                held[found].arrival = event.arrival;
                let mut i = found;
                while i > 0 && order(&held[i]) < order(&held[i - 1]) {
                    held.swap(i, i - 1);
                    i -= 1;
                }
            }
            return true;
        }
        if event.timestamp + rule.within <= at {
            return false;
        }
        let place = held.iter().rposition(|h| order(h) < order(&event)).map_or(0, |i| i + 1);
        if held.len() < rule.keep {
            let before = rule.holds(held.len());
            self.held.insert(start + place, event);
            self.runs[index].len += 1;
            let after = rule.holds(run.len as usize + 1);
            if before != after {
                out.flips.push(Flip { time: at, slot: out.slot, fact, truth: after, cause: Cause::Event });
            }
        } else if place > 0 {
            // The oldest makes room: everything up to the place moves one to the front.
            held[..place].rotate_left(1);
            held[place - 1] = event;
        } else {
            return false;
        }
        self.arm(rule, index, start, out);
        false
    }

    /// The held events, by fact, each from oldest to newest.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (u32, &[Held])> {
        let mut start = 0;
        self.runs.iter().map(move |run| {
            let held = &self.held[start..][..run.len as usize];
            start += run.len as usize;
            (run.fact, held)
        })
    }

    /// The held events of a fact, from oldest to newest.
    pub(crate) fn held_of(&self, fact: u32) -> &[Held] {
        let (index, start) = self.find(fact);
        match self.runs.get(index) {
            Some(run) if run.fact == fact => &self.held[start..][..run.len as usize],
            _ => &[],
        }
    }

    /// Takes up what was held of a fact of which nothing is held yet; returns its truth.
    fn restore(&mut self, rule: &Rule, fact: u32, held: &[Held], out: &mut Out<'_>) -> bool {
        if held.is_empty() {
            return rule.holds(0);
        }
        let (index, start) = self.find(fact);
        assert!(self.runs.get(index).is_none_or(|run| run.fact != fact), "a fact is restored once");
        // Ranks of partitions may be others now, and with them the order of equal timestamps.
        let mut held = held.to_vec();
        held.sort_by_key(order);
        let len = held.len();
        self.runs.insert(index, Run { armed: 0, fact, len: len as u32 });
        self.held.splice(start..start, held);
        self.arm(rule, index, start, out);
        rule.holds(len)
    }

    /// Looks at a fact when a timer of it fires at `time`.
    fn fire(&mut self, rule: &Rule, fact: u32, time: Time, out: &mut Out<'_>) {
        let (index, start) = self.find(fact);
        if self.runs.get(index).is_none_or(|run| run.fact != fact || run.armed != time) {
            return;
        }
        self.expire(rule, index, start, time, out);
        self.runs[index].armed = 0;
        if self.runs[index].len == 0 {
            self.runs.remove(index);
            // Keys come and go by the million: the memory of one that is no longer needed is given back.
            if self.runs.is_empty() {
                *self = KeyWindows::default();
            }
        } else {
            self.arm(rule, index, start, out);
        }
    }

    /// The index of a fact's run, or where it would stand, and where its held events start.
    fn find(&self, fact: u32) -> (usize, usize) {
        let mut start = 0;
        for (index, run) in self.runs.iter().enumerate() {
            if run.fact >= fact {
                return (index, start);
            }
            start += run.len as usize;
        }
        (self.runs.len(), start)
    }

    fn expire(&mut self, rule: &Rule, index: usize, start: usize, through: Time, out: &mut Out<'_>) {
        let Run { fact, len, .. } = self.runs[index];
        let held = &self.held[start..start + len as usize];
        let gone = held.iter().take_while(|h| h.timestamp + rule.within <= through).count();
        if gone == 0 {
            return;
        }
        let mut truth = rule.holds(held.len());
        for (i, h) in held[..gone].iter().enumerate() {
            let left = rule.holds(held.len() - i - 1);
            if left != truth {
                truth = left;
                let time = h.timestamp + rule.within;
                out.flips.push(Flip { time, slot: out.slot, fact, truth, cause: Cause::Expiry });
            }
        }
        self.held.drain(start..start + gone);
        self.runs[index].len -= gone as u32;
    }

    fn arm(&mut self, rule: &Rule, index: usize, start: usize, out: &mut Out<'_>) {
        let due = self.held[start].timestamp + rule.within;
        let run = &mut self.runs[index];
        if run.armed == 0 || due < run.armed {
            run.armed = due;
            out.timers.push(Timer { time: due, slot: out.slot, fact: run.fact });
        }
    }
}

/// Returns when the truth of a fact flips by itself: `held` is held of it now, and nothing else comes but `waiting`, in the order
/// in which it takes effect.
pub(crate) fn flips_ahead(
    rule: &Rule,
    fact: u32,
    held: &[Held],
    waiting: &mut dyn Iterator<Item = &Waiting>,
) -> Vec<Time> {
    let (mut flips, mut timers) = (Vec::new(), Timers::default());
    let mut out = Out { slot: 0, flips: &mut flips, timers: &mut timers };
    let mut windows = KeyWindows::default();
    let before = windows.restore(rule, fact, held, &mut out);
    for Waiting { at, event, .. } in waiting {
        windows.apply(rule, fact, *at, *event, &mut out);
    }
    if !windows.is_empty() {
        windows.expire(rule, 0, 0, Time::MAX, &mut out);
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

fn order(held: &Held) -> (Time, Arrival) {
    (held.timestamp, held.arrival)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use usher_config::Members;
    use usher_queries::plan::Fact;

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
        }
    }

    fn state(rules: &[(u64, Option<u64>)]) -> WindowState {
        let mut state = WindowState::new(&model(rules));
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
        state.apply(0, &Applied { at, event, bits: (1 << facts.len()) - 1, facts }, flips)
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
        assert_eq!((state.key(0).held_of(0).len(), state.key(0).held_of(1).len()), (2, 3));
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
            let rules = [(1, None), (3, None), (0, Some(0)), (0, Some(2)), (2, Some(3))];
            let (mut state, mut flips) = (state(&rules), Vec::new());
            let mut lists: Vec<SortedList> = rules.iter().map(|_| SortedList::default()).collect();
            let mut truth: Vec<bool> = rules.iter().map(|(least, _)| *least == 0).collect();
            let (mut clock, mut reached) = (WITHIN, 0);
            for id in 0..120 {
                let next = clock + *rng.choice(&[0, 1, 7, 30, 90]).expect("it is not empty");
                // Every ms on the way is looked at, as the clock passes it.
                fire(&mut state, next, &mut flips);
                let timestamp = next - rng.u64(0..WITHIN + 10).min(next);
                let facts: Vec<u32> = (0..rules.len() as u32).filter(|_| rng.bool()).collect();
                flips.sort_by_key(|flip| flip.time);
                for time in clock + 1..=next {
                    for flip in flips.extract_if(.., |flip| flip.time <= time) {
                        truth[flip.fact as usize] = flip.truth;
                    }
                    for (fact, list) in lists.iter().enumerate() {
                        let rule = state.rule(fact as u32).expect("all facts have windows");
                        assert_eq!(truth[fact], list.holds(rule, time), "seed {seed}: fact {fact} at {time}");
                    }
                }
                clock = next;
                apply(&mut state, clock, timestamp, id, &facts, &mut flips);
                for fact in &facts {
                    lists[*fact as usize].0.insert((timestamp, id), id);
                }
                for flip in flips.drain(..) {
                    truth[flip.fact as usize] = flip.truth;
                    reached += usize::from(flip.truth);
                }
                for (fact, list) in lists.iter().enumerate() {
                    let rule = state.rule(fact as u32).expect("all facts have windows");
                    assert_eq!(
                        truth[fact],
                        list.holds(rule, clock),
                        "seed {seed}: fact {fact} after an event at {clock}"
                    );
                }
            }
            assert!(reached > 0, "seed {seed} reaches nothing");
        }
    }
}
