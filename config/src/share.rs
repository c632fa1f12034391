//! Shares as the job file writes them: `20%`, `0.5%`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A share of a whole, in hundredths of a percent: from 0 to 100 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Share(u32);

/// A whole.
const WHOLE: u32 = 100 * 100;

impl Share {
    /// Reads a share: a decimal number from 0 to 100 with at most two digits after the point, and `%`. None if it is none.
    pub fn parse(text: &str) -> Option<Share> {
        let number = text.strip_suffix('%')?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > 2 {
            return None;
        }
        let hundredths: u32 = format!("{fraction:0<2}").parse().ok()?;
        let share = whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(hundredths)?;
        (share <= WHOLE).then_some(Share(share))
    }

    /// Returns whether `part` of `whole` is more than this share.
    pub fn is_exceeded(self, part: u64, whole: u64) -> bool {
        u128::from(part) * u128::from(WHOLE) > u128::from(whole) * u128::from(self.0)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (whole, 0) => write!(f, "{whole}%"),
            (whole, tenths) if tenths % 10 == 0 => write!(f, "{whole}.{}%", tenths / 10),
            (whole, hundredths) => write!(f, "{whole}.{hundredths:02}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_read_and_written() {
        for (text, share) in
            [("20%", 2_000), ("0%", 0), ("100%", 10_000), ("0.5%", 50), ("12.34%", 1_234), ("1.05%", 105)]
        {
            assert_eq!(Share::parse(text), Some(Share(share)), "{text}");
            assert_eq!(Share(share).to_string(), text);
        }
        assert_eq!(Share::parse("020.0%"), Some(Share(2_000)));
        for text in
            ["", "%", "20", "20 %", "-1%", "+1%", "100.01%", "101%", "1.234%", "1.%", ".5%", "99999999999%", "1e1%"]
        {
            assert_eq!(Share::parse(text), None, "{text}");
        }
    }

    #[test]
    fn more_than_a_share_exceeds_it() {
        let fifth = Share(2_000);
        assert!(!fifth.is_exceeded(20, 100) && fifth.is_exceeded(21, 100));
        assert!(!Share(0).is_exceeded(0, 5) && Share(0).is_exceeded(1, u64::MAX));
        assert!(!Share(WHOLE).is_exceeded(u64::MAX, u64::MAX) && !fifth.is_exceeded(0, 0));
    }
}
