//! Counts of messages and of what happened to them.
//!
//! Promises: each message that is read is counted once more, as matched, skipped or dead letter ([`Counts::balanced`]).

use crate::dead_letters::DeadLetterReason;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::AddAssign;

/// Why a valid message was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Skip {
    /// Nothing but white space.
    Blank,
    /// It matches an event, but without a key.
    NoKey,
    /// It matches no event of the job.
    Unmatched,
}

impl Skip {
    /// All, by name.
    pub const ALL: [Skip; 3] = [Skip::Blank, Skip::NoKey, Skip::Unmatched];

    /// Returns the name in counts.
    pub fn name(self) -> &'static str {
        match self {
            Skip::Blank => "blank",
            Skip::NoKey => "no_key",
            Skip::Unmatched => "unmatched",
        }
    }
}

/// How many messages were read, and what happened to them.
///
/// Its text is the closing line of a job: `read 1,000 = matched 900 + skipped 80 (blank 1, no_key 29, unmatched 50) +
/// dead letters 20 (malformed 20); repeats 3; mismatches 2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All messages.
    pub read: u64,
    /// Those that match an event.
    pub matched: u64,
    /// Valid ones that no event of the job uses, by [`Skip`].
    skipped: [u64; Skip::ALL.len()],
    /// Those that can't be used, by [`DeadLetterReason`].
    dead: [u64; DeadLetterReason::ALL.len()],
    /// Matched ones that are copies of earlier ones.
    pub repeats: u64,
    /// Values that could not be read as their column's type.
    pub mismatches: u64,
}

impl Counts {
    /// Counts a skipped message; `read` is counted apart.
    pub fn skip(&mut self, skip: Skip) {
        self.skipped[skip as usize] += 1;
    }

    /// Counts a dead letter; `read` is counted apart.
    pub fn dead(&mut self, reason: DeadLetterReason) {
        self.dead[reason as usize] += 1;
    }

    /// Returns how many were skipped for `skip`.
    pub fn skipped(&self, skip: Skip) -> u64 {
        self.skipped[skip as usize]
    }

    /// Returns how many are dead letters for `reason`.
    pub fn dead_letters(&self, reason: DeadLetterReason) -> u64 {
        self.dead[reason as usize]
    }

    /// Returns whether each message was counted once: read = matched + skipped + dead letters.
    pub fn balanced(&self) -> bool {
        let skipped: u64 = self.skipped.iter().sum();
        let dead: u64 = self.dead.iter().sum();
        self.read == self.matched + skipped + dead
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.read += other.read;
        self.matched += other.matched;
        for (count, more) in self.skipped.iter_mut().zip(other.skipped) {
            *count += more;
        }
        for (count, more) in self.dead.iter_mut().zip(other.dead) {
            *count += more;
        }
        self.repeats += other.repeats;
        self.mismatches += other.mismatches;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped = Skip::ALL.map(|skip| (skip.name(), self.skipped(skip)));
        let dead = DeadLetterReason::ALL.map(|reason| (reason.name(), self.dead_letters(reason)));
        write!(
            f,
            "read {} = matched {} + skipped {} + dead letters {}; repeats {}; mismatches {}",
            grouped(self.read),
            grouped(self.matched),
            itemised(&skipped),
            itemised(&dead),
            grouped(self.repeats),
            grouped(self.mismatches),
        )
    }
}

/// Returns the sum, and in parentheses its parts: `80 (blank 1, no_key 29, unmatched 50)`.
fn itemised(items: &[(&str, u64)]) -> String {
    let sum = grouped(items.iter().map(|(_, count)| count).sum());
    let parts: Vec<String> = items
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name} {}", grouped(*count)))
        .collect();
    if parts.is_empty() { sum } else { format!("{sum} ({})", parts.join(", ")) }
}

/// Returns the digits in groups of three: `1,000`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> Counts {
        let mut counts = Counts { read: 1000, matched: 900, repeats: 3, mismatches: 2, ..Counts::default() };
        for (skip, times) in [(Skip::Unmatched, 50), (Skip::NoKey, 29), (Skip::Blank, 1)] {
            (0..times).for_each(|_| counts.skip(skip));
        }
        (0..20).for_each(|_| counts.dead(DeadLetterReason::Malformed));
        counts
    }

    #[test]
    fn the_closing_line_has_all_counts() {
        assert_eq!(
            counts().to_string(),
            "read 1,000 = matched 900 + skipped 80 (blank 1, no_key 29, unmatched 50) + \
             dead letters 20 (malformed 20); repeats 3; mismatches 2"
        );
        assert_eq!(
            Counts::default().to_string(),
            "read 0 = matched 0 + skipped 0 + dead letters 0; repeats 0; mismatches 0"
        );
    }

    #[test]
    fn counts_of_workers_add_up() {
        let mut sum = counts();
        sum += counts();
        assert!(sum.balanced());
        assert_eq!((sum.read, sum.skipped(Skip::NoKey)), (2000, 58));
        assert_eq!(sum.dead_letters(DeadLetterReason::Malformed), 40);
        assert_eq!((sum.repeats, sum.mismatches), (6, 4));
        sum.dead(DeadLetterReason::BadKey);
        assert!(!sum.balanced());
    }

    #[test]
    fn digits_are_grouped_by_three() {
        let texts = [0, 7, 999, 1000, 123_456, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "7", "999", "1,000", "123,456", "1,234,567"]);
    }

    #[test]
    fn reasons_are_counted_under_their_own_names() {
        for (index, reason) in DeadLetterReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        for (index, skip) in Skip::ALL.into_iter().enumerate() {
            assert_eq!(skip as usize, index);
        }
    }
}
