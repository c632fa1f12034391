//! Which numbers are settled: all below a low watermark, and ranges above it.

use std::collections::BTreeMap;

/// A set of numbers that grows from below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    /// All below are in.
    watermark: u64,
    /// Those above: first to behind the last, apart from each other and from the watermark.
    above: BTreeMap<u64, u64>,
}

impl Ranges {
    /// Returns the set of all numbers below one.
    pub fn below(watermark: u64) -> Ranges {
        Ranges { watermark, above: BTreeMap::new() }
    }

    /// Returns the least number that is not in.
    pub fn watermark(&self) -> u64 {
        self.watermark
    }

    /// Returns whether a number is in.
    pub fn contains(&self, number: u64) -> bool {
        number < self.watermark || self.above.range(..=number).next_back().is_some_and(|(_, end)| number < *end)
    }

    /// Returns the ranges above the watermark.
    pub fn above(&self) -> impl Iterator<Item = (u64, u64)> {
        self.above.iter().map(|(start, end)| (*start, *end))
    }

    /// Adds the numbers from `start` to before `end`. Returns how many were not in.
    pub fn insert(&mut self, start: u64, end: u64) -> u64 {
        let (mut start, mut end) = (start.max(self.watermark), end);
        if start >= end {
            return 0;
        }
        let mut added = end - start;
        while let Some((&first, &last)) = self.above.range(..=end).next_back().filter(|(_, last)| **last >= start) {
            self.above.remove(&first);
            added -= last.min(end).saturating_sub(first.max(start));
            (start, end) = (start.min(first), end.max(last));
        }
        if start == self.watermark {
            self.watermark = end;
        } else {
            self.above.insert(start, end);
        }
        added
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ranges_are_the_set_that_was_inserted() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let start = random.u64(0..10);
            let mut ranges = Ranges::below(start);
            let mut set: BTreeSet<u64> = (0..start).collect();
            for _ in 0..60 {
                let first = random.u64(0..80);
                let end = first + random.u64(0..6);
                let before = set.len();
                set.extend(first..end);
                assert_eq!(ranges.insert(first, end), (set.len() - before) as u64, "seed {seed}");
                let watermark = (0..).find(|number| !set.contains(number)).unwrap();
                assert_eq!(ranges.watermark(), watermark, "seed {seed}");
                for number in 0..90 {
                    assert_eq!(ranges.contains(number), set.contains(&number), "seed {seed}: {number}");
                }
                let mut last = watermark;
                for (start, end) in ranges.above() {
                    assert!(last < start && start < end, "seed {seed}: apart");
                    last = end;
                }
            }
        }
    }
}
