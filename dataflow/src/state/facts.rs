//! Sets of small numbers as bits, and the truth of every fact of every key.

use super::room::{self, make_room};
use crate::time::Slot;

/// A set of small numbers, 64 a word.
pub(crate) type Words = Vec<u64>;

/// Returns the number of words that hold so many bits.
pub(crate) fn words_for(bits: usize) -> usize {
    bits.div_ceil(64)
}

/// Returns whether a bit is set.
pub(crate) fn get(words: &[u64], bit: u32) -> bool {
    words[bit as usize / 64] >> (bit % 64) & 1 == 1
}

/// Sets or clears a bit.
pub(crate) fn set(words: &mut [u64], bit: u32, value: bool) {
    let mask = 1 << (bit % 64);
    if value {
        words[bit as usize / 64] |= mask;
    } else {
        words[bit as usize / 64] &= !mask;
    }
}

/// Adds a number to a set, which grows where it has no room for it.
pub(crate) fn insert(words: &mut Words, bit: u32) {
    if words.len() < words_for(bit as usize + 1) {
        words.resize(words_for(bit as usize + 1), 0);
    }
    set(words, bit, true);
}

/// Returns whether a number is in a set that grows.
pub(crate) fn contains(words: &[u64], bit: u32) -> bool {
    (bit as usize) < words.len() * 64 && get(words, bit)
}

/// Returns the numbers in a set, ascending.
pub(crate) fn ones(words: &[u64]) -> impl Iterator<Item = u32> + '_ {
    words.iter().enumerate().flat_map(|(w, word)| {
        let mut rest = *word;
        std::iter::from_fn(move || {
            let bit = (rest != 0).then(|| rest.trailing_zeros())?;
            rest &= rest - 1;
            Some(w as u32 * 64 + bit)
        })
    })
}

/// A row of bits per slot.
#[derive(Default)]
pub(crate) struct BitRows {
    bits: Vec<u64>,
    /// The row of a slot of which nothing is known; its length is that of all rows.
    default: Words,
}

impl BitRows {
    /// Returns no rows yet. New rows are copies of `default`.
    pub(crate) fn new(default: Words) -> BitRows {
        BitRows { bits: Vec::new(), default }
    }

    /// Returns so many rows, to which none are added.
    pub(crate) fn filled(default: Words, rows: usize) -> BitRows {
        BitRows { bits: default.repeat(rows), default }
    }

    /// Reserves memory for so many more slots.
    pub(crate) fn reserve(&mut self, slots: usize) {
        room::reserve(&mut self.bits, slots * self.default.len());
    }

    /// Makes room for so many slots.
    pub(crate) fn fit(&mut self, slots: usize) {
        if self.default.is_empty() {
            return;
        }
        let more = (slots * self.default.len()).saturating_sub(self.bits.len());
        make_room(&mut self.bits, more);
        for _ in self.bits.len() / self.default.len()..slots {
            self.bits.extend_from_slice(&self.default);
        }
    }

    pub(crate) fn default(&self) -> &[u64] {
        &self.default
    }

    pub(crate) fn row(&self, slot: Slot) -> &[u64] {
        &self.bits[slot as usize * self.default.len()..][..self.default.len()]
    }

    pub(crate) fn row_mut(&mut self, slot: Slot) -> &mut [u64] {
        &mut self.bits[slot as usize * self.default.len()..][..self.default.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in() {
        let mut words = vec![0; words_for(130)];
        for bit in [0, 63, 64, 129] {
            set(&mut words, bit, true);
        }
        set(&mut words, 63, false);
        assert_eq!(ones(&words).collect::<Vec<_>>(), [0, 64, 129]);
        assert!(get(&words, 129) && !get(&words, 63));
    }

    #[test]
    fn new_rows_are_the_default() {
        let mut rows = BitRows::new(vec![5]);
        rows.fit(2);
        set(rows.row_mut(1), 1, true);
        rows.fit(3);
        assert_eq!((rows.row(0), rows.row(1), rows.row(2)), (&[5][..], &[7][..], &[5][..]));
    }
}
