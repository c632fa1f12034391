//! Which slots the keys of a batch of a pull have, so that a later pull can say that the batch is gone without its keys.
//!
//! Promises: batches of the snapshot in force are known, and those of a pull that may come into force. Their slots are those of their keys:
//! a key that has a row is not forgotten. Holds, per batch, ranges of slots, or the slots where they are in no order. Refuses nothing.

use crate::ingest::known_rows::pull_of;
use crate::time::Slot;
use hashbrown::HashMap;

/// The slots of one batch, in any order.
enum Slots {
    /// First and last.
    Ranges(Box<[(Slot, Slot)]>),
    Each(Box<[Slot]>),
}

/// The slots of a worker's share of the batches of one model.
#[derive(Default)]
pub(crate) struct BatchSlots {
    batches: HashMap<u64, Slots>,
    /// The last pull that ended, and the batches that are no longer in the snapshot once it is in force.
    last: (u64, Vec<u64>),
}

impl Slots {
    fn of(slots: &[Slot]) -> Slots {
        let ranges = slots.chunk_by(|one, next| one + 1 == *next);
        if ranges.clone().count() * 2 > slots.len() {
            return Slots::Each(slots.into());
        }
        Slots::Ranges(ranges.map(|range| (range[0], range[range.len() - 1])).collect())
    }

    fn add_to(&self, all: &mut Vec<Slot>) {
        match self {
            Slots::Ranges(ranges) => ranges.iter().for_each(|(first, last)| all.extend(*first..=*last)),
            Slots::Each(slots) => all.extend_from_slice(slots),
        }
    }
}

impl BatchSlots {
    /// Takes note of the slots of a batch's keys.
    pub(crate) fn add(&mut self, batch: u64, slots: &[Slot]) {
        self.batches.insert(batch, Slots::of(slots));
    }

    /// Ends a pull, all of which has arrived, with the pull that is in force; 0 if that is not known. `gone` are the batches of that which
    /// are not in this one; `None`: those of this one are all that it has. Returns the slots of the batches that are gone.
    pub(crate) fn end(&mut self, pull: u64, in_force: u64, gone: Option<Vec<u64>>) -> Vec<Slot> {
        let (last, superseded) = std::mem::take(&mut self.last);
        if last == in_force {
            superseded.iter().for_each(|batch| drop(self.batches.remove(batch)));
        }
        // Of pulls between them none was taken.
        self.batches.retain(|batch, _| pull_of(*batch) <= in_force || pull_of(*batch) >= pull);
        let mut slots = Vec::new();
        if let Some(gone) = &gone {
            gone.iter().filter_map(|batch| self.batches.get(batch)).for_each(|batch| batch.add_to(&mut slots));
        }
        let before = || self.batches.keys().copied().filter(|batch| pull_of(*batch) != pull).collect();
        self.last = (pull, gone.unwrap_or_else(before));
        slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn batch(pull: u64, number: u64) -> u64 {
        pull << 32 | number
    }

    #[test]
    fn slots_of_a_batch_come_back_in_any_order() {
        for slots in [&[][..], &[7], &[3, 4, 5, 9, 10], &[5, 3, 4, 1], &[2, 1, 0], &[0, 1, 2, 8]] {
            let mut all = Vec::new();
            Slots::of(slots).add_to(&mut all);
            assert_eq!(all, slots);
        }
    }

    #[test]
    fn batches_are_known_as_long_as_a_pull_may_need_them() {
        let known = |of: &BatchSlots| {
            let mut known: Vec<(u64, u64)> = of.batches.keys().map(|batch| (batch >> 32, batch & 0xff)).collect();
            known.sort_unstable();
            known
        };
        let mut of = BatchSlots::default();
        of.add(batch(1, 1), &[0, 1, 2]);
        of.add(batch(1, 2), &[3, 9]);
        assert!(of.end(1, 0, None).is_empty());
        // A batch is replaced by another.
        of.add(batch(2, 1), &[9, 10]);
        assert_eq!(of.end(2, 1, Some(vec![batch(1, 2)])), [3, 9]);
        assert_eq!(known(&of), [(1, 1), (1, 2), (2, 1)], "it may not be taken");
        // It was not: the same comes again.
        of.add(batch(3, 1), &[9, 10]);
        assert_eq!(of.end(3, 1, Some(vec![batch(1, 2)])), [3, 9]);
        assert_eq!(known(&of), [(1, 1), (1, 2), (3, 1)]);
        // It was.
        of.add(batch(4, 1), &[11]);
        assert_eq!(of.end(4, 3, Some(vec![batch(1, 1), batch(3, 1)])), [0, 1, 2, 9, 10]);
        assert_eq!(known(&of), [(1, 1), (3, 1), (4, 1)]);
        // A pull that has nothing of the one before, twice, of which the first is not taken.
        of.add(batch(5, 1), &[20]);
        assert!(of.end(5, 4, None).is_empty());
        of.add(batch(6, 1), &[21]);
        assert!(of.end(6, 4, None).is_empty());
        assert_eq!(known(&of), [(4, 1), (6, 1)]);
        of.add(batch(7, 1), &[22]);
        assert_eq!(of.end(7, 6, Some(vec![batch(6, 1)])), [21]);
        assert_eq!(known(&of), [(6, 1), (7, 1)]);
        assert!(of.end(8, 7, Some(vec![])).is_empty());
        assert_eq!(known(&of), [(7, 1)]);
    }
}
