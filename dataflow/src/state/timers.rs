//! A calendar of moments at which to look at something again: at a key, or at a fact of it.
//!
//! Promises: [`Timers::pop`] returns timers in order; pushing and popping cost O(1) amortised for moments that are far away and
//! O(log n) in the number of timers within the current [`SPAN`] only, however many are pending. Most of those that come next are
//! known beforehand, so that what they concern can be read ahead.
//! Holds: of a timer, two bytes of its time and what it is for; 8 bytes for a key. Refuses: to cancel a timer; the owner of one that fires
//! checks whether it still means anything.

use crate::time::Time;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// What one bucket of the calendar spans, as a power of two: 2^12 ms, some 4 s.
///
/// Large enough that a 90-day window has under two million buckets, small enough that ordering one is cheap.
const SPAN: u32 = 12;

/// A moment within a bucket, in ms from its start, and what is to be looked at then.
type Within<T> = (u16, T);

/// The pending timers of one model's keys. `T` is what is looked at when one fires.
pub(crate) struct Timers<T> {
    /// The timers of the bucket before `opened` that it had when it was opened, the next one last.
    near: Vec<Within<T>>,
    /// Those that were pushed into buckets before `opened`.
    late: BinaryHeap<Reverse<(Time, T)>>,
    /// All others, by bucket, unordered within.
    far: BTreeMap<u64, Vec<Within<T>>>,
    /// The first bucket that has not been moved to `near`.
    opened: u64,
}

impl<T: Ord> Default for Timers<T> {
    fn default() -> Timers<T> {
        Timers { near: Vec::new(), late: BinaryHeap::new(), far: BTreeMap::new(), opened: 0 }
    }
}

impl<T: Copy + Ord> Timers<T> {
    pub(crate) fn push(&mut self, time: Time, of: T) {
        let bucket = time >> SPAN;
        if bucket < self.opened {
            self.late.push(Reverse((time, of)));
        } else {
            let within = time & ((1 << SPAN) - 1);
            self.far.entry(bucket).or_default().push((within as u16, of));
        }
    }

    /// Returns a time before which no timer is due: that of the next one, or the start of its bucket. None if there are no timers.
    pub(crate) fn next(&self) -> Option<Time> {
        let first = self.first().map(|(time, _)| time);
        first.or_else(|| self.far.keys().next().map(|bucket| bucket << SPAN))
    }

    /// Returns a time, at most `end`, before which at most so many timers are due: that of the next one behind them, or the start of its
    /// bucket. Those that were pushed into buckets that had been opened come on top.
    pub(crate) fn limit(&self, many: usize, end: Time) -> Time {
        if let Some(next) = self.near.len().checked_sub(many + 1) {
            return end.min(self.time_of(self.near[next].0));
        }
        let mut due = self.near.len();
        let beyond = self.far.range(..=end >> SPAN).find(|(_, timers)| {
            due += timers.len();
            due > many
        });
        beyond.map_or(end, |(bucket, _)| end.min(bucket << SPAN))
    }

    /// Returns how many timers are pending.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.near.len() + self.late.len() + self.far.values().map(Vec::len).sum::<usize>()
    }

    /// Returns what the timers that come next are for, in order, unless others are pushed before them: as many as are known of `many`.
    pub(crate) fn upcoming(&self, many: usize) -> impl Iterator<Item = T> {
        self.near.iter().rev().take(many).map(|(_, of)| *of)
    }

    /// Returns the next timer of the bucket that was opened last.
    fn nearest(&self) -> Option<(Time, T)> {
        let (within, of) = *self.near.last()?;
        Some((self.time_of(within), of))
    }

    /// Returns the time of a timer of the bucket that was opened last.
    fn time_of(&self, within: u16) -> Time {
        ((self.opened - 1) << SPAN) + Time::from(within)
    }

    /// Returns the first timer of the buckets before `opened`.
    fn first(&self) -> Option<(Time, T)> {
        let late = self.late.peek().map(|Reverse(timer)| *timer);
        self.nearest().into_iter().chain(late).min()
    }

    /// Returns the next timer due at or before `through`: its time, and what it is for.
    pub(crate) fn pop(&mut self, through: Time) -> Option<(Time, T)> {
        loop {
            if let Some(first) = self.first() {
                if first.0 > through {
                    return None;
                }
                if self.nearest() == Some(first) {
                    self.near.pop();
                } else {
                    self.late.pop();
                }
                return Some(first);
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
        for slot in 0..5_000u32 {
            let timer = (now + rng.u64(0..40_000), slot);
            timers.push(timer.0, timer.1);
            pending.push(timer);
            if slot % 7 == 0 {
                now += rng.u64(0..3_000);
                let first = pending.iter().map(|(time, _)| *time).min();
                assert!(timers.next() <= first && timers.next().is_some(), "seed {seed}");
                let mut due: Vec<(Time, u32)> = pending.extract_if(.., |(time, _)| *time <= now).collect();
                due.sort_unstable();
                for want in due {
                    assert_eq!(timers.pop(now), Some(want), "seed {seed}");
                }
                assert_eq!(timers.pop(now), None, "seed {seed}");
            }
        }
    }

    #[test]
    fn the_limit_is_behind_so_many_timers() {
        let bucket = 1 << SPAN;
        let limits = |timers: &Timers<u64>| [0, 1, 2, 4, 5, 6, 7].map(|many| timers.limit(many, 9 * bucket));
        let mut timers = Timers::default();
        assert_eq!(limits(&timers), [9 * bucket; 7]);
        (0..6).for_each(|n| timers.push(bucket + 10 + n / 2, n));
        timers.push(5 * bucket + 1, 6);
        assert_eq!(limits(&timers), [1, 1, 1, 1, 1, 5, 9].map(|n| n * bucket));
        assert_eq!(timers.pop(bucket + 10), Some((bucket + 10, 0)));
        let near = [10, 11, 11, 12].map(|ms| bucket + ms);
        assert_eq!(limits(&timers)[..4], near);
        assert_eq!(limits(&timers)[4..], [5, 9, 9].map(|n| n * bucket));
        assert_eq!(timers.limit(4, bucket + 11), bucket + 11);
        assert_eq!(timers.limit(5, bucket + 50), bucket + 50);
    }
}
