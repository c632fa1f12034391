//! A calendar of moments to look at a (slot, fact) again.
//!
//! Promises: [`Timers::pop`] returns timers in order; pushing and popping cost O(1) amortised for moments that are far away and
//! O(log n) in the number of timers within the current [`SPAN`] only, however many are pending. Most of those that come next are
//! known beforehand, so that what they concern can be read ahead.
//! Holds: 16 bytes a timer. Refuses: to cancel a timer; the owner of one that fires checks whether it still means anything.

use crate::time::{Slot, Time};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// What one bucket of the calendar spans, as a power of two: 2^12 ms, some 4 s.
///
/// Large enough that a 90-day window has under two million buckets, small enough that ordering one is cheap.
const SPAN: u32 = 12;

/// A moment at which a fact of a key may change by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timer {
    pub(crate) time: Time,
    pub(crate) slot: Slot,
    pub(crate) fact: u32,
}

/// The pending timers of one model's keys.
#[derive(Default)]
pub(crate) struct Timers {
    /// The timers of the bucket before `opened` that it had when it was opened, the next one last.
    near: Vec<Timer>,
    /// Those that were pushed into buckets before `opened`.
    late: BinaryHeap<Reverse<Timer>>,
    /// All others, by bucket, unordered within.
    far: BTreeMap<u64, Vec<Timer>>,
    /// The first bucket that has not been moved to `near`.
    opened: u64,
}

impl Timers {
    pub(crate) fn push(&mut self, timer: Timer) {
        let bucket = timer.time >> SPAN;
        if bucket < self.opened {
            self.late.push(Reverse(timer));
        } else {
            self.far.entry(bucket).or_default().push(timer);
        }
    }

    /// Returns a time before which no timer is due: that of the next one, or the start of its bucket. None if there are no timers.
    pub(crate) fn next(&self) -> Option<Time> {
        let first = self.first().map(|timer| timer.time);
        first.or_else(|| self.far.keys().next().map(|bucket| bucket << SPAN))
    }

    /// Returns timers that come next, in order, unless others are pushed before them: as many as are known of `many`.
    pub(crate) fn upcoming(&self, many: usize) -> impl Iterator<Item = &Timer> {
        self.near.iter().rev().take(many)
    }

    /// Returns the first timer of the buckets before `opened`.
    fn first(&self) -> Option<Timer> {
        let late = self.late.peek().map(|Reverse(timer)| *timer);
        self.near.last().copied().into_iter().chain(late).min()
    }

    /// The next timer due at or before `through`.
    pub(crate) fn pop(&mut self, through: Time) -> Option<Timer> {
        loop {
            if let Some(first) = self.first() {
                if first.time > through {
                    return None;
                }
                if self.near.last() == Some(&first) {
                    return self.near.pop();
                }
                return self.late.pop().map(|Reverse(timer)| timer);
            }
            let bucket = *self.far.keys().next()?;
            if bucket > through >> SPAN {
                return None;
            }
            self.near = self.far.remove(&bucket).expect("the bucket was just seen");
            self.near.sort_unstable_by(|a, b| b.cmp(a));
            self.opened = bucket + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_in_order_and_never_early() {
        let seed = 7;
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut timers = Timers::default();
        let mut pending = Vec::new();
        let mut now = 0;
        for slot in 0..5_000 {
            let timer = Timer { time: now + rng.u64(0..40_000), slot, fact: 0 };
            timers.push(timer);
            pending.push(timer);
            if slot % 7 == 0 {
                now += rng.u64(0..3_000);
                let first = pending.iter().map(|timer: &Timer| timer.time).min();
                assert!(timers.next() <= first && timers.next().is_some(), "seed {seed}");
                let mut due: Vec<Timer> = pending.extract_if(.., |t| t.time <= now).collect();
                due.sort_by_key(|t| t.time);
                for want in due {
                    assert_eq!(timers.pop(now).map(|t| t.time), Some(want.time), "seed {seed}");
                }
                assert_eq!(timers.pop(now), None, "seed {seed}");
            }
        }
    }
}
