//! The newest few events of each count of a key.
//!
//! Holds, per (key, fact), the newest [`Rule::keep`] events by (timestamp, arrival), 24 bytes each and nothing beside them; and as much for each of the
//! key's timers but the next one. An event that is not
//! among them can never decide the fact again: all newer ones stay longer. Promises: a fact is looked at again when passing time turns it;
//! while it can't, its events are kept until the newest of them has left the window, and [`Counts::held`] leaves out those that have. So a
//! key below its thresholds is not looked at for each event. Refuses: timestamps beyond [`TIMESTAMP_MAX`], and facts beyond 16 bits.
//!
//! Applying an event is idempotent while it is held: its id is found, and only its arrival may become earlier.
//!
//! The steps of [`Counts::apply`], which the tests repeat on a sorted list of all events:
//! 1. events that have left the window by `at` go, and truth may flip at exactly `timestamp + within`;
//! 2. an event whose window is over is dropped; one whose id is held is a repeat;
//! 3. the event is put in its place, and what is then beyond the newest `keep` goes;
//! 4. truth may flip at `at`.

use super::event_list::FEW;
use super::{Arrival, Held, Out, WindowRule};
use crate::state::transition::{Cause, Flip};
use crate::time::{TIMESTAMP_MAX, Time};
use std::ops::Range;
use thin_vec::ThinVec;

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

    pub(super) fn holds(&self, count: usize) -> bool {
        let count = count as u64;
        self.least <= count && self.most.is_none_or(|most| count <= most)
    }

    /// Returns whether events of a fact with this rule can be held here.
    pub(super) fn is_small(&self, fact: u32) -> bool {
        self.keep <= FEW && fact < LATER
    }

    /// Returns when to look at a fact again of which these are held, one at least: when it flips, else when the last one leaves.
    fn due(&self, held: &[Counted]) -> Time {
        let truth = self.holds(held.len());
        let turning = (1..held.len()).find(|gone| self.holds(held.len() - gone) != truth).unwrap_or(held.len());
        held[turning - 1].timestamp() + self.within
    }
}

/// In place of a fact: not an event, but a timer of the key that is armed beyond the next one. Its time is in place of the id.
const LATER: u32 = u16::MAX as u32;

/// How many events are passed over one by one, before those of a fact are searched for.
const NEAR: usize = if cfg!(test) { 3 } else { 64 };

/// An event that matters to a count. They are in order of facts, those of a fact from oldest to newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Counted {
    /// 16 bits of the fact, then 48 of the timestamp: 8,900 years.
    place: u64,
    arrival: Arrival,
    id: u64,
}

impl Counted {
    fn new(fact: u32, event: Held) -> Counted {
        assert!(event.timestamp <= TIMESTAMP_MAX, "an event at {} ms was applied", event.timestamp);
        Counted { place: first_place(fact) | event.timestamp, arrival: event.arrival, id: event.id }
    }

    fn fact(&self) -> u32 {
        (self.place >> 48) as u32
    }

    fn timestamp(&self) -> Time {
        self.place & TIMESTAMP_MAX
    }

    pub(crate) fn held(&self) -> Held {
        Held { timestamp: self.timestamp(), arrival: self.arrival, id: self.id }
    }
}

/// Returns the least place of a fact's events.
fn first_place(fact: u32) -> u64 {
    u64::from(fact) << 48
}

/// What an event leaves to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// Whether the event repeats one that is held.
    pub(super) repeat: bool,
    /// When to look at the fact again, if that is new.
    pub(super) due: Option<Time>,
}

/// The events of all counts of a key.
#[derive(Debug, Default)]
pub(super) struct Counts(ThinVec<Counted>);

impl Counts {
    /// Returns whether there are no events.
    pub(super) fn is_empty(&self) -> bool {
        self.0.first().is_none_or(|first| first.fact() == LATER)
    }

    /// Keeps the time of a timer that is armed, behind which another one is next. All that are kept are later.
    pub(super) fn keep_timer(&mut self, time: Time) {
        let place = self.of(LATER).start;
        self.insert(place, Counted { place: first_place(LATER), arrival: Arrival::new(0, 0), id: time });
    }

    /// Returns the next of the timers that are kept, which is not kept any more, if it fires by `due`.
    pub(super) fn take_timer(&mut self, due: Time) -> Option<Time> {
        let place = self.of(LATER).start;
        let time = self.0.get(place).map(|timer| timer.id).filter(|time| *time <= due)?;
        self.0.remove(place);
        Some(time)
    }

    /// Returns the number of events, timers that are kept included: it is behind a pointer.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns something of the first 64 events, of each line of memory but perhaps the last.
    pub(super) fn touch(&self) -> u64 {
        const LINE: usize = 64;
        self.0.iter().take(64).step_by(LINE / size_of::<Counted>()).fold(0, |all, counted| all ^ counted.place)
    }

    /// Applies an event at clock `at`. `from` is a place at which the fact's events stand, or before;
    /// it becomes the one behind them, or stays.
    pub(super) fn apply(
        &mut self,
        rule: &Rule,
        fact: u32,
        at: Time,
        event: Held,
        from: &mut usize,
        out: &mut Out<'_>,
    ) -> Look {
        debug_assert!(event.timestamp <= at, "an event of the future was applied");
        if rule.keep == 0 {
            return Look::default();
        }
        let Range { start, end } = self.of_from(fact, *from);
        debug_assert!(end - start <= rule.keep, "more is held of fact {fact} than decides it");
        let gone = self.count_expired(rule, start..end, at, out);
        let held = &mut self.0[start + gone..end];
        let len = held.len();
        let found = held.iter().rposition(|held| held.id == event.id);
        if let Some(found) = found
            && event.arrival < held[found].arrival
        {
            held[found].arrival = event.arrival;
            let place = held[..found].partition_point(|before| *before < held[found]);
            held[place..=found].rotate_right(1);
        }
        if found.is_some() || event.timestamp + rule.within <= at {
            self.remove(start..start + gone);
            *from = start + len;
            return Look { repeat: found.is_some(), due: None };
        }
        let event = Counted::new(fact, event);
        let place = held.iter().rposition(|held| *held < event).map_or(0, |i| i + 1);
        if len == rule.keep {
            *from = end;
            if place == 0 {
                return Look::default();
            }
            // The oldest makes room.
            put(&mut held[..place], event);
            return Look { repeat: false, due: Some(rule.due(held)) };
        }
        if gone > 0 {
            // One that has left the window makes room: usually as many leave as come, and nothing behind them moves.
            put(&mut self.0[start + gone - 1..start + gone + place], event);
            self.remove(start..start + gone - 1);
        } else {
            self.insert(start + place, event);
        }
        *from = start + len + 1;
        let (before, after) = (rule.holds(len), rule.holds(len + 1));
        if before != after {
            out.flips.push(Flip { time: at, slot: out.slot, fact, truth: after, cause: Cause::Event });
        }
        Look { repeat: false, due: Some(rule.due(&self.0[start..*from])) }
    }

    /// Removes what has left its window at `through`; returns when to look again, if anything is left.
    pub(super) fn fire(&mut self, rules: &[Option<WindowRule>], through: Time, out: &mut Out<'_>) -> Option<Time> {
        let (mut start, mut next) = (0, None);
        while let Some(first) = self.0.get(start).filter(|first| first.fact() != LATER) {
            let Some(WindowRule::Newest(rule)) = &rules[first.fact() as usize] else {
                panic!("events are held for fact {}, which is no small count", first.fact());
            };
            let of_fact = start..self.end(first.fact(), start);
            let left = self.expire(rule, of_fact, through, out);
            if !left.is_empty() {
                let due = rule.due(&self.0[left.clone()]);
                next = Some(next.map_or(due, |next: Time| next.min(due)));
            }
            start = left.end;
        }
        next
    }

    /// Removes the events of a fact as if all time passed.
    pub(super) fn expire_all(&mut self, rule: &Rule, fact: u32, out: &mut Out<'_>) {
        self.expire(rule, self.of(fact), Time::MAX, out);
    }

    /// Takes up events of a fact of which nothing is held yet; returns its truth, and when to look at it.
    pub(super) fn restore(&mut self, rule: &Rule, fact: u32, held: impl Iterator<Item = Held>) -> (bool, Option<Time>) {
        let of_fact = self.of(fact);
        assert!(of_fact.is_empty(), "a fact is restored once");
        let start = of_fact.start;
        let mut held: Vec<Counted> = held.map(|event| Counted::new(fact, event)).collect();
        // Ranks of partitions may be others now, and with them the order of equal timestamps.
        held.sort_unstable();
        self.0.reserve_exact(held.len());
        let len = held.len();
        self.0.splice(start..start, held);
        let restored = &self.0[start..start + len];
        (rule.holds(len), if restored.is_empty() { None } else { Some(rule.due(restored)) })
    }

    /// Returns the events of all facts that have not left their windows by `through`, by fact.
    pub(super) fn held<'a>(
        &'a self,
        rules: &'a [Option<WindowRule>],
        through: Time,
    ) -> impl Iterator<Item = (u32, &'a [Counted])> {
        let events = &self.0[..self.of(LATER).start];
        events.chunk_by(|a, b| a.fact() == b.fact()).filter_map(move |held| {
            let fact = held[0].fact();
            let within = rules[fact as usize].as_ref().expect("the fact has a window").within();
            let held = &held[held.partition_point(|held| held.timestamp() + within <= through)..];
            (!held.is_empty()).then_some((fact, held))
        })
    }

    /// Returns the events of a fact, from oldest to newest.
    pub(super) fn of_fact(&self, fact: u32) -> &[Counted] {
        &self.0[self.of(fact)]
    }

    /// Returns where the events of a fact stand, or would.
    fn of(&self, fact: u32) -> Range<usize> {
        let start = self.0.partition_point(|held| held.place < first_place(fact));
        start..self.end(fact, start)
    }

    /// Returns where the events of a fact stand, or would: at `from` or behind.
    fn of_from(&self, fact: u32, from: usize) -> Range<usize> {
        // Each step of a search waits for the one before. Those of a walk do not, and a search begins where many events are passed over.
        let is_before = |held: &Counted| held.place < first_place(fact);
        let rest = &self.0[from..];
        let (near, far) = rest.split_at(rest.len().min(NEAR));
        let start = from
            + match near.iter().position(|held| !is_before(held)) {
                Some(start) => start,
                None => near.len() + far.partition_point(is_before),
            };
        start..self.end(fact, start)
    }

    /// Returns the place behind the events of a fact that begin at `start`.
    fn end(&self, fact: u32, start: usize) -> usize {
        start + self.0[start..].iter().take_while(|held| held.fact() == fact).count()
    }

    fn insert(&mut self, place: usize, event: Counted) {
        if self.0.len() == self.0.capacity() {
            // Most keys have one event or two. Others get room for two more, or a quarter: with room for one, each event moved all of them.
            let more = if self.0.len() < 2 { 1 } else { (self.0.len() / 4).max(2) };
            self.0.reserve_exact(more);
        }
        self.0.insert(place, event);
    }

    /// Removes those of a fact's events that have left the window at `through`; returns where the others stand.
    fn expire(&mut self, rule: &Rule, of_fact: Range<usize>, through: Time, out: &mut Out<'_>) -> Range<usize> {
        let Range { start, end } = of_fact;
        let gone = self.count_expired(rule, start..end, through, out);
        self.remove(start..start + gone);
        start..end - gone
    }

    /// Counts those of a fact's events that have left the window at `through`, and gives the flips that this makes.
    fn count_expired(&self, rule: &Rule, of_fact: Range<usize>, through: Time, out: &mut Out<'_>) -> usize {
        let held = &self.0[of_fact];
        let gone = held.iter().take_while(|held| held.timestamp() + rule.within <= through).count();
        if gone == 0 {
            return 0;
        }
        let mut truth = rule.holds(held.len());
        for (i, event) in held[..gone].iter().enumerate() {
            let left = rule.holds(held.len() - i - 1);
            if left != truth {
                truth = left;
                let time = event.timestamp() + rule.within;
                out.flips.push(Flip { time, slot: out.slot, fact: event.fact(), truth, cause: Cause::Expiry });
            }
        }
        gone
    }

    fn remove(&mut self, places: Range<usize>) {
        if !places.is_empty() {
            self.0.drain(places);
        }
    }
}

/// Puts an event behind the last of `held`; the first makes room.
fn put(held: &mut [Counted], event: Counted) {
    held.rotate_left(1);
    held[held.len() - 1] = event;
}
