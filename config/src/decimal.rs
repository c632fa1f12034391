//! Exact decimals: what sums and thresholds are made of.
//!
//! A [`Decimal`] is an integer number of 10^-9, between -10^28 and 10^28.

use serde::{Deserialize, Serialize};

/// An exact decimal with 9 fractional digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Decimal(i128);

impl Decimal {
    /// The shortest decimal form of `x`, rounded half-even to 9 digits; none beyond ±10^28.
    pub fn from_f64(x: f64) -> Option<Decimal> {
        if !x.is_finite() { None } else { Decimal::parse(&format!("{x}")) }
    }

    /// Reads plain digits with an optional sign and fraction, rounded half-even to 9 digits.
    pub fn parse(text: &str) -> Option<Decimal> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let mut raw = whole.parse::<i128>().ok()?.checked_mul(1_000_000_000)?;
        let kept = format!("{:0<9}", &fraction[..fraction.len().min(9)]);
        raw = raw.checked_add(kept.parse().ok()?)?;
        let rest = fraction.get(9..).unwrap_or("").trim_end_matches('0');
        if rest > "5" || (rest == "5" && raw % 2 == 1) {
            raw += 1;
        }
        Decimal::from_raw(if negative { -raw } else { raw })
    }

    /// `raw` × 10^-9; none beyond ±10^28.
    pub fn from_raw(raw: i128) -> Option<Decimal> {
        (raw.unsigned_abs() <= 10u128.pow(37)).then_some(Decimal(raw))
    }

    /// The number of 10^-9.
    pub fn raw(self) -> i128 {
        self.0
    }
}

impl From<i64> for Decimal {
    fn from(n: i64) -> Decimal {
        Decimal(i128::from(n) * 1_000_000_000)
    }
}
