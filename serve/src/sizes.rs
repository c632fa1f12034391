//! Sizes of audiences over time: the last hour by 10 s, the last day by minute.
//!
//! A task of the server reads the counts of the index at each step; nothing is done on the path of an event. Promises: a size is
//! that at the first moment of its step, as soon as the server came to read it; a step at which the job was not live has none.
//! Holds, per audience, 24 bytes for each of 361 steps and 4 for each of 1,440: some 14 kB. Nothing of it is kept over a restart.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use usher_core::lock::lock;
use usher_core::membership_index::{Count, MembershipIndex};

/// The step of the last hour, ms.
pub(crate) const STEP: u64 = 10_000;
/// Steps of the last hour.
const HOUR: usize = 360;
/// The step of the last day, ms.
pub(crate) const MINUTE: u64 = 60_000;
/// Minutes of the last day.
const DAY: usize = 1440;
/// How often it is looked whether the job is live.
const LOOK: Duration = Duration::from_secs(1);

/// The sizes of all audiences of this process's keys.
pub(crate) struct Sizes(Mutex<Rings>);

struct Rings {
    /// One step more than an hour: entries and exits are differences.
    hour: Ring<Vec<Count>>,
    day: Ring<Vec<u32>>,
}

/// The samples of the latest steps, the newest last; `None`: there is none of that step.
struct Ring<T> {
    step: u64,
    capacity: usize,
    /// The number of the newest step: its time by its length.
    newest: u64,
    samples: VecDeque<Option<T>>,
}

impl<T> Ring<T> {
    fn new(step: u64, capacity: usize) -> Ring<T> {
        Ring { step, capacity, newest: 0, samples: VecDeque::new() }
    }

    /// Takes the sample of `time`, unless its step has one.
    fn record(&mut self, time: u64, sample: impl FnOnce() -> T) {
        let number = time / self.step;
        if !self.samples.is_empty() {
            if number <= self.newest {
                return;
            }
            let missed = (number - self.newest - 1).min(self.capacity as u64);
            self.samples.extend((0..missed).map(|_| None));
        }
        self.samples.push_back(Some(sample()));
        self.newest = number;
        let over = self.samples.len().saturating_sub(self.capacity);
        self.samples.drain(..over);
    }

    /// Returns the time of the newest step; `None` if there is none.
    fn until(&self) -> Option<u64> {
        (!self.samples.is_empty()).then_some(self.newest * self.step)
    }

    /// Returns the latest `count` steps, the newest last.
    fn latest(&self, count: usize) -> impl Iterator<Item = Option<&T>> {
        self.samples.iter().skip(self.samples.len().saturating_sub(count)).map(Option::as_ref)
    }
}

/// The sizes of one audience at equal distances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Series {
    /// The time of the last step, ms since the epoch; `None` if there are no steps.
    pub(crate) until: Option<u64>,
    /// The size at each step, the last one `until`; `None` where it is not known.
    pub(crate) sizes: Vec<Option<u64>>,
    /// The entries between the step before and this one, if they are counted.
    pub(crate) entries: Vec<Option<u64>>,
    /// The exits, alike.
    pub(crate) exits: Vec<Option<u64>>,
}

impl Series {
    /// Adds the series of another process, whose steps are `step` ms apart too: what only one of them has is not known.
    pub(crate) fn add(&mut self, mut other: Series, step: u64) {
        let (Some(own), Some(theirs)) = (self.until, other.until) else {
            *self = Series::default();
            return;
        };
        let until = own.min(theirs);
        self.end_at(until, step);
        other.end_at(until, step);
        for (own, theirs) in
            [(&mut self.sizes, other.sizes), (&mut self.entries, other.entries), (&mut self.exits, other.exits)]
        {
            let known = own.len().min(theirs.len());
            own.drain(..own.len() - known);
            let theirs = &theirs[theirs.len() - known..];
            own.iter_mut()
                .zip(theirs)
                .for_each(|(own, theirs)| *own = own.zip(*theirs).map(|(own, theirs)| own + theirs));
        }
    }

    fn end_at(&mut self, until: u64, step: u64) {
        let later = self.until.map_or(0, |own| (own - until) / step) as usize;
        for list in [&mut self.sizes, &mut self.entries, &mut self.exits] {
            list.truncate(list.len().saturating_sub(later));
        }
        self.until = Some(until);
    }
}

impl Sizes {
    /// Returns empty rings.
    pub(crate) fn new() -> Sizes {
        Sizes(Mutex::new(Rings { hour: Ring::new(STEP, HOUR + 1), day: Ring::new(MINUTE, DAY) }))
    }

    /// Takes the counts of all audiences at `time`, ms since the epoch.
    pub(crate) fn record(&self, time: u64, counts: &[Count]) {
        let mut rings = lock(&self.0);
        rings.hour.record(time, || counts.to_vec());
        // A slot of a key is 32 bits: no audience has more members on one worker.
        let size = |count: &Count| u32::try_from(count.size).unwrap_or(u32::MAX);
        rings.day.record(time, || counts.iter().map(size).collect());
    }

    /// Returns the last hour of an audience by 10 s.
    pub(crate) fn hour(&self, audience: u32) -> Series {
        let rings = lock(&self.0);
        let of = |counts: &Vec<Count>| counts[audience as usize];
        let counts: Vec<Option<Count>> = rings.hour.latest(HOUR + 1).map(|sample| sample.map(of)).collect();
        let before = std::iter::once(None).chain(counts.iter().copied());
        let steps = before.zip(&counts).skip(usize::from(counts.len() > HOUR));
        let mut series = Series { until: rings.hour.until(), ..Series::default() };
        for (before, count) in steps {
            let since = before.zip(*count);
            series.sizes.push(count.map(|count| count.size));
            series.entries.push(since.map(|(before, count)| count.entries.saturating_sub(before.entries)));
            series.exits.push(since.map(|(before, count)| count.exits.saturating_sub(before.exits)));
        }
        series
    }

    /// Returns the last day of an audience by minute.
    pub(crate) fn day(&self, audience: u32) -> Series {
        let rings = lock(&self.0);
        let of = |sizes: &Vec<u32>| u64::from(sizes[audience as usize]);
        let sizes = rings.day.latest(DAY).map(|sample| sample.map(of)).collect();
        Series { until: rings.day.until(), sizes, ..Series::default() }
    }

    /// Records the counts of `index` at each step, until `stopping`.
    pub(crate) async fn follow(&self, index: &MembershipIndex, mut stopping: watch::Receiver<bool>) {
        // The time that answers are as of, and when it was read: an idle job's may stand still.
        let mut anchor: Option<(u64, Instant)> = None;
        loop {
            let pause = match index.as_of().filter(|as_of| !as_of.recovering) {
                None => {
                    anchor = None;
                    LOOK
                }
                Some(as_of) => {
                    let estimated = anchor.map(|(time, read)| time + read.elapsed().as_millis() as u64);
                    let time = estimated.unwrap_or(0).max(as_of.time);
                    if estimated.is_none_or(|estimated| as_of.time > estimated) {
                        anchor = Some((as_of.time, Instant::now()));
                    }
                    self.record(time, &index.counts());
                    Duration::from_millis(STEP - time % STEP)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = crate::connections::stopped(&mut stopping) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(size: u64, entries: u64, exits: u64) -> Count {
        Count { size, entries, exits }
    }

    #[test]
    fn a_step_has_the_first_size_in_it_and_what_came_and_went_since_the_step_before() {
        let sizes = Sizes::new();
        assert_eq!(sizes.hour(0), Series::default());
        for (time, counts) in [
            (100_000, count(5, 5, 0)),
            (104_000, count(9, 9, 0)),
            (110_002, count(7, 9, 2)),
            // Two steps without a sample.
            (140_000, count(7, 12, 5)),
        ] {
            sizes.record(time, &[Count::default(), counts]);
        }
        let hour = sizes.hour(1);
        assert_eq!(hour.until, Some(140_000));
        assert_eq!(hour.sizes, [Some(5), Some(7), None, None, Some(7)]);
        assert_eq!(hour.entries, [None, Some(4), None, None, None]);
        assert_eq!(hour.exits, [None, Some(2), None, None, None]);
        assert_eq!(sizes.day(1).sizes, [Some(5), Some(7)]);
        assert_eq!(sizes.day(1).until, Some(120_000));
    }

    #[test]
    fn an_hour_and_a_day_are_kept() {
        let sizes = Sizes::new();
        for step in 0..10_000 {
            sizes.record(step * STEP, &[count(step, step, 0)]);
        }
        let (hour, day) = (sizes.hour(0), sizes.day(0));
        assert_eq!((hour.sizes.len(), day.sizes.len()), (HOUR, DAY));
        assert_eq!((hour.sizes[0], hour.entries[0]), (Some(9_640), Some(1)));
        assert_eq!(hour.sizes.last(), Some(&Some(9_999)));
        // A long pause leaves nothing but gaps.
        sizes.record(1_000_000 * STEP, &[count(1, 1, 0)]);
        assert_eq!(sizes.hour(0).sizes.iter().flatten().count(), 1);
    }

    #[test]
    fn the_series_of_processes_are_summed_where_all_know() {
        let some = |list: &[u64]| list.iter().copied().map(Some).collect::<Vec<_>>();
        let mut own = Series { until: Some(30_000), sizes: some(&[1, 2, 3]), ..Series::default() };
        let other =
            Series { until: Some(20_000), sizes: vec![Some(10), None, Some(20), Some(30)], ..Series::default() };
        own.add(other, STEP);
        assert_eq!((own.until, own.sizes), (Some(20_000), some(&[21, 32])));
        let mut own = Series { until: Some(30_000), sizes: some(&[1]), ..Series::default() };
        own.add(Series::default(), STEP);
        assert_eq!(own, Series::default());
    }
}
