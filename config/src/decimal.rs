//! Exact decimals, for sums and thresholds.
//!
//! A [`Decimal`] is an integer number of 10^-9, between -10^28 and 10^28. Text is read exactly and rounded half to even
//! at the ninth fractional digit, once; a double is read by its shortest decimal form. A number beyond the range is
//! refused, never wrapped or saturated.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An exact decimal with 9 fractional digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Decimal(i128);

/// Fractional digits.
const DIGITS: i64 = 9;
/// Units in 1.
const ONE: i128 = 1_000_000_000;
/// Units in 10^28, the largest magnitude.
const GREATEST: i128 = 10i128.pow(37);

impl Decimal {
    /// Parses a number as JSON or YAML write it, exponents included.
    ///
    /// `None` if the text is not a decimal number, or is beyond ±10^28.
    pub fn parse(text: &str) -> Option<Decimal> {
        let (negative, unsigned) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
            Some(at) => (&unsigned[..at], parse_exponent(&unsigned[at + 1..])?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let digits = whole.bytes().chain(fraction.bytes()).skip_while(|digit| *digit == b'0');
        let shift = exponent.saturating_sub(fraction.len() as i64).saturating_add(DIGITS);
        let units = scale(digits, shift)?;
        Decimal::from_raw(if negative { -units } else { units })
    }

    /// Returns whether a text that [`Decimal::parse`] takes is that number: it has 9 fractional digits at most, or is how
    /// a program writes the double next to such a number, as `0.30000000000000004` for 0.3.
    pub fn is_exact(text: &str) -> bool {
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], parse_exponent(&text[at + 1..]).unwrap_or_default()),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = || whole.bytes().chain(fraction.bytes()).filter(u8::is_ascii_digit);
        let zeros = digits().rev().take_while(|digit| *digit == b'0').count();
        let is_double_of = |number: Decimal| {
            let (written, number) = (text.parse::<f64>().ok()?, number.to_string().parse::<f64>().ok()?);
            Some(number != 0.0 && (written - number).abs() <= written.abs() * 1e-15)
        };
        zeros == digits().count()
            || (fraction.len() as i64).saturating_sub(exponent).saturating_sub(zeros as i64) <= DIGITS
            || Decimal::parse(text).and_then(is_double_of) == Some(true)
    }

    /// Returns the shortest decimal form that reads back as the same double.
    ///
    /// `None` for NaN, infinities and numbers beyond ±10^28.
    pub fn from_f64(value: f64) -> Option<Decimal> {
        if value.fract() == 0.0 && value.abs() < (1u64 << 53) as f64 {
            return Some(Decimal::from(value as i64));
        }
        Decimal::parse(&format!("{value:e}"))
    }

    /// Returns the number of 10^-9.
    pub fn raw(self) -> i128 {
        self.0
    }

    /// Returns a number of 10^-9; `None` beyond ±10^28.
    pub fn from_raw(raw: i128) -> Option<Decimal> {
        (-GREATEST..=GREATEST).contains(&raw).then_some(Decimal(raw))
    }

    /// Returns whether it has no fractional part.
    pub fn is_whole(self) -> bool {
        self.0 % ONE == 0
    }

    /// Returns its value as an integer; `None` if it has a fraction or does not fit.
    pub fn to_i64(self) -> Option<i64> {
        if self.is_whole() { i64::try_from(self.0 / ONE).ok() } else { None }
    }
}

/// Returns the value of an exponent; `None` if it is not a number. One that does not fit is `i64::MAX` or its negative:
/// no mantissa is long enough to bring such a number back into the range.
fn parse_exponent(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value = digits.parse::<i64>().unwrap_or(i64::MAX);
    Some(if negative { -value } else { value })
}

/// Returns `digits` × 10^`shift`, rounded half to even; `None` from 10^38 on. `digits` has no leading zero.
fn scale(digits: impl Iterator<Item = u8> + Clone, shift: i64) -> Option<i128> {
    let count = digits.clone().count();
    if count == 0 {
        return Some(0);
    }
    let length = shift.checked_add(count as i64)?;
    if length > 38 {
        return None;
    }
    if length < 0 {
        return Some(0);
    }
    let kept = count.min(length as usize);
    let mut units = digits.clone().take(kept).fold(0i128, |units, digit| units * 10 + i128::from(digit - b'0'));
    if shift > 0 {
        units *= 10i128.pow(shift as u32);
    }
    let mut dropped = digits.skip(kept);
    let up = match dropped.next() {
        Some(b'5') if dropped.all(|digit| digit == b'0') => units % 2 == 1,
        Some(first) => first >= b'5',
        None => false,
    };
    Some(units + i128::from(up))
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Decimal {
        Decimal(i128::from(value) * ONE)
    }
}

impl fmt::Display for Decimal {
    /// The shortest form: `300`, `1.5`, `-0.000000001`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.0.unsigned_abs();
        let (whole, fraction) = (units / ONE as u128, units % ONE as u128);
        let sign = if self.0 < 0 { "-" } else { "" };
        if fraction == 0 {
            return write!(f, "{sign}{whole}");
        }
        let fraction = format!("{fraction:09}");
        write!(f, "{sign}{whole}.{}", fraction.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<String> {
        Decimal::parse(text).map(|decimal| decimal.to_string())
    }

    #[test]
    fn a_number_with_more_than_nine_fractional_digits_is_not_exact() {
        for text in [
            "0",
            "-1.5",
            "0.123456789",
            "0.12345678900",
            "1e-9",
            "100e-11",
            "1.5e-8",
            "0e-20",
            "+0.0000000000",
            "1e20",
            "0.30000000000000004",
        ] {
            assert!(Decimal::is_exact(text), "{text}");
        }
        for text in
            ["0.1234567891", "1e-10", "-0.00000000001", "10e-11", "1.5e-9", "1e-400", "1.5e-99999999999999999999"]
        {
            assert!(!Decimal::is_exact(text), "{text}");
        }
    }

    #[test]
    fn numbers_are_read_exactly_and_written_shortest() {
        for (text, expected) in [
            ("300", "300"),
            ("1.50", "1.5"),
            ("1.1", "1.1"),
            ("-0.0", "0"),
            ("+7", "7"),
            (".5", "0.5"),
            ("5.", "5"),
            ("007", "7"),
            ("1e3", "1000"),
            ("1.25E-2", "0.0125"),
            ("12345678901234567890.123456789", "12345678901234567890.123456789"),
            ("10000000000000000000000000000", "10000000000000000000000000000"),
            ("-1e28", "-10000000000000000000000000000"),
            ("0e999999999999999999999", "0"),
            ("1e-999999999999999999999", "0"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn rounding_is_half_to_even_at_the_ninth_digit() {
        for (text, expected) in [
            ("0.0000000005", "0"),
            ("0.0000000015", "0.000000002"),
            ("0.0000000025", "0.000000002"),
            ("0.00000000250000000000000001", "0.000000003"),
            ("-0.0000000015", "-0.000000002"),
            ("5e-10", "0"),
            ("6e-10", "0.000000001"),
            ("9.9e-11", "0"),
            ("0.9999999999", "1"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_or_too_large_is_refused() {
        for text in [
            "",
            "-",
            ".",
            "e5",
            "1e",
            "1e+",
            "1.2.3",
            "0x10",
            "1_000",
            "NaN",
            "inf",
            "1 ",
            "٣",
            "1e29",
            "1e99999999999999999999",
        ] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
        assert_eq!(shown("10000000000000000000000000000.0000000001").as_deref(), Some("10000000000000000000000000000"));
        assert_eq!(Decimal::parse("10000000000000000000000000000.000000001"), None);
    }

    #[test]
    fn a_double_counts_as_its_shortest_decimal_form() {
        for (value, expected) in
            [(0.1, "0.1"), (1.1, "1.1"), (-2.5, "-2.5"), (1e22, "10000000000000000000000"), (1e-10, "0")]
        {
            assert_eq!(Decimal::from_f64(value).expect("in range").to_string(), expected);
        }
        assert_eq!(
            Decimal::from_f64(0.1 + 0.2).expect("in range").to_string(),
            "0.3",
            "0.30000000000000004 at 9 digits"
        );
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.1e28, -1e300] {
            assert_eq!(Decimal::from_f64(value), None, "{value}");
        }
    }

    #[test]
    fn integers_of_64_bits_all_fit() {
        for value in [i64::MIN, -1, 0, 1, i64::MAX] {
            assert_eq!(Decimal::from(value).to_string(), value.to_string());
            assert_eq!(Decimal::from(value).to_i64(), Some(value));
        }
        assert_eq!(Decimal::parse("1.5").and_then(Decimal::to_i64), None);
        assert_eq!(Decimal::parse("1e20").and_then(Decimal::to_i64), None);
    }

    #[test]
    fn what_is_written_reads_back_as_the_same_decimal() {
        let seed = 7;
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let raw = random.i128(-GREATEST..=GREATEST) / 10i128.pow(random.u32(0..37));
            let decimal = Decimal::from_raw(raw).expect("in range");
            assert_eq!(Decimal::parse(&decimal.to_string()), Some(decimal), "seed {seed}, raw {raw}");
            let exponent = random.i64(-12..12);
            let shifted = format!("{raw}e{}", exponent - 9);
            let exact = if exponent >= 0 {
                raw.checked_mul(10i128.pow(exponent as u32)).and_then(Decimal::from_raw)
            } else {
                // The slow version: quotient and remainder, compared doubled.
                let divisor = 10i128.pow(-exponent as u32);
                let (quotient, remainder) = (raw.abs() / divisor, raw.abs() % divisor);
                let up = remainder * 2 > divisor || (remainder * 2 == divisor && quotient % 2 == 1);
                Decimal::from_raw((quotient + i128::from(up)) * raw.signum())
            };
            assert_eq!(Decimal::parse(&shifted), exact, "seed {seed}, {shifted}");
        }
    }
}
