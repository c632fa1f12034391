//! The events that still matter, per key and condition.
//!
//! Computes: for each fact "the number of events in the window lies in `least..=most`" of a key, its truth and when it
//! changes. Holds, per (key, fact): the newest `keep` events by (timestamp, arrival), 24 bytes each, and the time of
//! one armed timer. An event that is not among them can never decide the fact again: whatever is newer stays longer.
//! Refuses: events of the future; the caller hands in an event when the clock has reached it.
//!
//! Applying an event is idempotent while it is held: its id is found, and only its arrival may become earlier.
//!
//! The steps of [`Windows::apply`], which the tests repeat the slow way:
//! 1. what has left the window by `at` goes, and truth may flip at exactly `timestamp + within`;
//! 2. an event whose window is over is nothing; one whose id is held is a repeat;
//! 3. it is put in its place, and what is then beyond the newest `keep` goes;
//! 4. truth may flip at `at`;
//! 5. a timer stands at or before the moment the oldest held event leaves.

use super::outlook::Waiting;
use super::timers::Timer;
use super::{Cause, Flip};
use crate::time::{Slot, Time};
use serde::{Deserialize, Serialize};

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

/// The held events of one fact: a run in [`Windows::held`].
#[derive(Clone, Copy, Debug)]
struct Run {
    /// When the armed timer fires; 0: none is armed.
    armed: Time,
    fact: u32,
    len: u32,
}

/// All that is held of one key.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    /// Sorted by fact.
    runs: Vec<Run>,
    /// The runs one after the other, each from oldest to newest.
    held: Vec<Held>,
}

/// Where flips and timers go while windows are worked on.
pub(crate) struct Out<'a> {
    pub(crate) slot: Slot,
    pub(crate) flips: &'a mut Vec<Flip>,
    pub(crate) timers: &'a mut super::timers::Timers,
}

impl Windows {
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Applies an event at clock `at`; tells whether it is a repeat of a held one.
    pub(crate) fn apply(&mut self, rule: &Rule, fact: u32, at: Time, event: Held, out: &mut Out<'_>) -> bool {
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

    /// Takes up what was held of a fact of which nothing is held yet; tells its truth.
    pub(crate) fn restore(&mut self, rule: &Rule, fact: u32, held: &[Held], out: &mut Out<'_>) -> bool {
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
    pub(crate) fn fire(&mut self, rule: &Rule, fact: u32, time: Time, out: &mut Out<'_>) {
        let (index, start) = self.find(fact);
        if self.runs.get(index).is_none_or(|run| run.fact != fact || run.armed != time) {
            return;
        }
        self.expire(rule, index, start, time, out);
        self.runs[index].armed = 0;
        if self.runs[index].len == 0 {
            self.runs.remove(index);
            // Keys come and go by the million: what one no longer needs is given back.
            if self.runs.is_empty() {
                *self = Windows::default();
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

/// When the truth of a fact of which `held` is held turns, if nothing comes but `waiting`, in the order of taking effect.
pub(crate) fn turns(rule: &Rule, fact: u32, held: &[Held], waiting: &mut dyn Iterator<Item = &Waiting>) -> Vec<Time> {
    let (mut flips, mut timers) = (Vec::new(), super::timers::Timers::default());
    let mut out = Out { slot: 0, flips: &mut flips, timers: &mut timers };
    let mut windows = Windows::default();
    let before = windows.restore(rule, fact, held, &mut out);
    for Waiting { at, event, .. } in waiting {
        windows.apply(rule, fact, *at, *event, &mut out);
    }
    if !windows.is_empty() {
        windows.expire(rule, 0, 0, Time::MAX, &mut out);
    }
    // Stable: of two flips in the same ms the later one counts.
    flips.sort_by_key(|flip| flip.time);
    let (mut truth, mut turns) = (before, Vec::new());
    for at_once in flips.chunk_by(|a, b| a.time == b.time) {
        let after = at_once.last().expect("a chunk is not empty");
        if after.truth != truth {
            truth = after.truth;
            turns.push(after.time);
        }
    }
    turns
}

fn order(held: &Held) -> (Time, Arrival) {
    (held.timestamp, held.arrival)
}
