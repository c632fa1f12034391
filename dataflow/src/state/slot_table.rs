//! A hash table of slots: one read of memory finds what a hash may stand for.
//!
//! Each place is 8 bytes, half of the hash beside the slot, so that a slot with another hash is hardly ever looked at. The home of a slot is where its half
//! of the hash lies among all halves; it stands there or behind, at the first place that was free (linear probing; Knuth, The Art of Computer
//! Programming, volume 3, 6.4). Promises: growth is one pass over the places in order, and reads nothing else; tables of different shares grow
//! one after the other, not at once. Refuses: to compare keys, which the caller does.

use crate::time::Slot;

/// By how much a table grows.
const GROWTH: f64 = 1.25;
/// Places of the least table.
const LEAST: f64 = 8.0;

#[derive(Default)]
pub(super) struct SlotTable {
    /// Half of the hash, and below it the slot plus 1; 0 where nothing is.
    places: Box<[u64]>,
    len: usize,
    /// Which of the sizes of [`places`] it has.
    size: i32,
}

/// Returns the half of the hash that is kept. Other bits of a hash tell which table it belongs to, and which worker.
fn half(hash: u64) -> u64 {
    hash & u64::from(u32::MAX)
}

fn place(hash: u64, slot: Slot) -> u64 {
    half(hash) << 32 | (u64::from(slot) + 1)
}

/// Returns the slot of a place that is taken.
fn slot(place: u64) -> Slot {
    (half(place) - 1) as Slot
}

/// Returns how many places a table of this size has. `share` is at least 0 and less than 1: the sizes of tables of different shares are spread evenly
/// between one size and the next.
fn places(size: i32, share: f64) -> usize {
    (LEAST * GROWTH.powf(f64::from(size) + share)) as usize
}

/// Returns how many of so many places are taken at most: four fifths, so that a slot is found within three places on average, and that there is
/// none within thirteen.
fn most(places: usize) -> usize {
    places * 4 / 5
}

impl SlotTable {
    /// Returns how many slots there is room for.
    pub(super) fn capacity(&self) -> usize {
        most(self.places.len())
    }

    /// Returns the first slot with this hash that is `wanted`, which is also asked about slots whose hash has the same lower half.
    pub(super) fn find(&self, hash: u64, wanted: impl Fn(Slot) -> bool) -> Option<Slot> {
        for (_, place) in self.from(hash) {
            if place == 0 {
                break;
            }
            if place >> 32 == half(hash) && wanted(slot(place)) {
                return Some(slot(place));
            }
        }
        None
    }

    /// Returns what the search for a hash reads first.
    pub(super) fn touch(&self, hash: u64) -> u64 {
        self.places.get(self.home(hash)).copied().unwrap_or(0)
    }

    /// Adds a slot, not the greatest that there is. `share`: see [`places`].
    pub(super) fn insert(&mut self, hash: u64, slot: Slot, share: f64) {
        if self.len == self.capacity() {
            self.reserve(1, share);
        }
        debug_assert!(slot < Slot::MAX, "slot {slot} plus 1 takes more than 32 bits");
        self.put(place(hash, slot));
        self.len += 1;
    }

    /// Makes room for so many more slots.
    pub(super) fn reserve(&mut self, more: usize, share: f64) {
        let needed = self.len + more;
        if needed <= self.capacity() {
            return;
        }
        let large = (self.size..).find(|size| most(places(*size, share)) >= needed);
        self.size = large.expect("sizes grow without end");
        let new = vec![0; places(self.size, share)].into_boxed_slice();
        let old = std::mem::replace(&mut self.places, new);
        old.iter().filter(|place| **place != 0).for_each(|place| self.put(*place));
    }

    /// Removes a slot; returns whether it was there.
    pub(super) fn remove(&mut self, hash: u64, slot: Slot) -> bool {
        let wanted = place(hash, slot);
        let found = self.from(hash).take_while(|(_, place)| *place != 0).find(|(_, place)| *place == wanted);
        let Some((mut hole, _)) = found else { return false };
        // Those behind it that are displaced move up, and none is cut off from its home.
        let count = self.places.len();
        let distance = |from: usize, to: usize| (to + count - from) % count;
        let mut at = (hole + 1) % count;
        while self.places[at] != 0 {
            if distance(self.home(self.places[at] >> 32), at) >= distance(hole, at) {
                self.places[hole] = self.places[at];
                hole = at;
            }
            at = (at + 1) % count;
        }
        self.places[hole] = 0;
        self.len -= 1;
        true
    }

    /// Returns where a hash is looked for first.
    fn home(&self, hash: u64) -> usize {
        ((half(hash) * self.places.len() as u64) >> 32) as usize
    }

    /// Returns the places from the home of a hash on, and behind the last one the first ones.
    fn from(&self, hash: u64) -> impl Iterator<Item = (usize, u64)> + '_ {
        let home = self.home(hash);
        let (before, behind) = self.places.split_at(home);
        (home..).zip(behind.iter().copied()).chain((0..).zip(before.iter().copied()))
    }

    /// Puts what stands at no place yet at its home, or behind.
    fn put(&mut self, place: u64) {
        let free = self.from(place >> 32).find(|(_, taken)| *taken == 0);
        let (at, _) = free.expect("a fifth of the places is free");
        self.places[at] = place;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_table_has_what_a_set_of_pairs_has() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            // Few hashes, at both ends of what they may be: equal ones, neighbours, and some that go round.
            let few = rng.u64(1..200);
            let share = rng.f64();
            let (mut table, mut pairs) = (SlotTable::default(), BTreeSet::new());
            for slot in 0..rng.u32(1..600) {
                let part = rng.u64(..few) << 32 >> few.ilog2();
                let hash = rng.u64(..) << 32 | half(if rng.bool() { part } else { !part });
                table.insert(hash, slot, share);
                pairs.insert((hash, slot));
                if rng.u8(..3) == 0 {
                    let (hash, slot) = *pairs.iter().nth(rng.usize(..pairs.len())).expect("there are so many");
                    pairs.remove(&(hash, slot));
                    assert!(table.remove(hash, slot), "seed {seed}");
                    assert!(!table.remove(hash, slot), "seed {seed}: it was removed");
                }
                if rng.u8(..50) == 0 {
                    table.reserve(rng.usize(..100), share);
                }
            }
            assert_eq!(table.len, pairs.len(), "seed {seed}");
            for (hash, slot) in &pairs {
                assert_eq!(table.find(*hash, |of| of == *slot), Some(*slot), "seed {seed}");
                assert!(table.find(*hash, |_| true).is_some(), "seed {seed}");
            }
            let taken = table.places.iter().filter(|place| **place != 0).count();
            assert_eq!(taken, pairs.len(), "seed {seed}");
        }
    }

    #[test]
    fn an_empty_table_has_nothing() {
        let mut table = SlotTable::default();
        assert_eq!((table.find(5, |_| true), table.touch(5), table.remove(5, 0)), (None, 0, false));
        table.insert(0, 0, 0.0);
        assert_eq!((table.find(0, |_| true), table.remove(0, 0), table.find(0, |_| true)), (Some(0), true, None));
    }

    #[test]
    fn a_table_has_at_most_three_fifths_more_places_than_slots() {
        for share in [0.0, 0.3, 0.99] {
            let (mut grown, mut reserved) = (SlotTable::default(), SlotTable::default());
            reserved.reserve(20_000, share);
            let room = reserved.places.len();
            for slot in 0..20_000 {
                let hash = u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
                grown.insert(hash, slot, share);
                reserved.insert(hash, slot, share);
                // Of a few, rounding counts.
                assert!(grown.places.len() <= grown.len * 157 / 100 + 8, "{} of {slot}", grown.places.len());
            }
            assert_eq!((reserved.places.len(), grown.places.len()), (room, room));
        }
    }
}
