//! Times as messages write them.
//!
//! A string is RFC 3339, read with the leniency that real traffic needs: a space for the `T`, month, day and hour
//! of one digit, no zone (UTC), `+0100` for `+01:00`, any number of fraction digits. A number is ms since the epoch.
//! What is finer than a ms is floored.

use std::fmt;

use usher_config::Found;

/// Why there is no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeError {
    /// None is given.
    Missing,
    /// One is given that is no time, or before 1970.
    Unreadable,
}

impl fmt::Display for TimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TimeError::Missing => "no timestamp",
            TimeError::Unreadable => "a timestamp that is neither RFC 3339 nor ms since 1970",
        })
    }
}

impl std::error::Error for TimeError {}

/// Reads a time: RFC 3339 text or a number of ms since the epoch, floored to a ms.
pub fn time_of(found: &Found<'_>) -> Result<u64, TimeError> {
    since_epoch(signed(found)?)
}

/// The event time of the Segment family; see SPEC §4.
pub(super) fn of_segment(
    timestamp: &Found<'_>,
    received: &Found<'_>,
    sent: &Found<'_>,
    original: &Found<'_>,
) -> Result<u64, TimeError> {
    let given = |found: &Found<'_>| *found != Found::Nothing;
    if given(timestamp) {
        return time_of(timestamp);
    }
    match (given(received), given(sent), given(original)) {
        // A device whose clock starts before 1970 still tells how long the message waited there.
        (true, true, true) => since_epoch(signed(received)? - (signed(sent)? - signed(original)?)),
        (_, _, true) => time_of(original),
        (true, _, false) => time_of(received),
        (false, _, false) => Err(TimeError::Missing),
    }
}

/// The event time of Snowplow, which derives it the same way.
pub(super) fn of_snowplow(
    derived: &Found<'_>,
    exact: &Found<'_>,
    collected: &Found<'_>,
    sent: &Found<'_>,
    created: &Found<'_>,
) -> Result<u64, TimeError> {
    let given = |found: &Found<'_>| *found != Found::Nothing;
    match (given(derived), given(exact)) {
        (true, _) => time_of(derived),
        (false, true) => time_of(exact),
        _ if given(collected) && given(sent) && given(created) => {
            since_epoch(signed(collected)? - (signed(sent)? - signed(created)?))
        }
        _ => time_of(collected),
    }
}

fn since_epoch(ms: i128) -> Result<u64, TimeError> {
    i64::try_from(ms).ok().and_then(|ms| u64::try_from(ms).ok()).ok_or(TimeError::Unreadable)
}

/// In ms, before 1970 too.
fn signed(found: &Found<'_>) -> Result<i128, TimeError> {
    let ms = match found {
        Found::Nothing => return Err(TimeError::Missing),
        Found::Text(text) => common(text.as_bytes()).or_else(|| lenient(text)),
        Found::Number(text) => floor(text),
        Found::Boolean(_) | Found::Compound(_) | Found::NotUtf8 => None,
    };
    ms.map(i128::from).ok_or(TimeError::Unreadable)
}

/// `2026-11-23T10:00:00Z` and `2026-11-23 10:00:00.123`, and what lies between: nearly all there is.
fn common(text: &[u8]) -> Option<i64> {
    let text = text.strip_suffix(b"Z").unwrap_or(text);
    let millis = match text {
        [.., b'.', a, b, c] if text.len() == 23 => number(&[*a, *b, *c])?,
        _ if text.len() == 19 => 0,
        _ => return None,
    };
    if (text[4], text[7], text[13], text[16]) != (b'-', b'-', b':', b':') || !matches!(text[10], b'T' | b' ') {
        return None;
    }
    let date = (number(&text[..4])?, number(&text[5..7])?, number(&text[8..10])?);
    let time = (number(&text[11..13])?, number(&text[14..16])?, number(&text[17..19])?);
    instant(date, time, millis)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
}

fn lenient(text: &str) -> Option<i64> {
    let mut rest = Rest(text.as_bytes());
    let year = rest.digits(4, 4)?;
    rest.one_of(b"-")?;
    let month = rest.digits(1, 2)?;
    rest.one_of(b"-")?;
    let day = rest.digits(1, 2)?;
    rest.one_of(b"Tt ")?;
    let hour = rest.digits(1, 2)?;
    rest.one_of(b":")?;
    let minute = rest.digits(2, 2)?;
    rest.one_of(b":")?;
    let second = rest.digits(2, 2)?;
    let mut millis = 0;
    if rest.one_of(b".,").is_some() {
        let length = rest.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (fraction, behind) = rest.0.split_at(length);
        fraction.first()?;
        millis = (0..3).fold(0, |sum, i| sum * 10 + i64::from(fraction.get(i).map_or(0, |digit| digit - b'0')));
        rest = Rest(behind);
    }
    let mut offset = 0;
    if let Some(sign) = rest.one_of(b"Zz+-").filter(|sign| b"+-".contains(sign)) {
        let hours = rest.digits(2, 2)?;
        let minutes = match rest.one_of(b":") {
            None if rest.0.is_empty() => 0,
            _ => rest.digits(2, 2)?,
        };
        if hours > 23 || minutes > 59 {
            return None;
        }
        offset = (hours * 60 + minutes) * 60_000;
        if sign == b'-' {
            offset = -offset;
        }
    }
    if !rest.0.is_empty() {
        return None;
    }
    Some(instant((year, month, day), (hour, minute, second), millis)? - offset)
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn digits(&mut self, least: usize, most: usize) -> Option<i64> {
        let digits = self.0.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at_checked(digits).filter(|(digits, _)| digits.len() >= least)?;
        self.0 = rest;
        number(digits)
    }

    fn one_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        bytes.contains(first).then(|| {
            self.0 = rest;
            *first
        })
    }
}

/// UTC, in ms. A leap second (`:60`) is read as the second before it.
fn instant((year, month, day): (i64, i64, i64), (hour, minute, second): (i64, i64, i64), millis: i64) -> Option<i64> {
    let leap_year = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap_year => 29,
        2 => 28,
        _ => return None,
    };
    if day < 1 || day > days_of_month || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let second = second.min(59);
    // Days from civil, counted in years that start in March (Howard Hinnant, "chrono-compatible low-level date algorithms").
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + millis)
}

/// The largest integer not above a JSON number, if 64 bits hold it.
fn floor(text: &str) -> Option<i64> {
    if let Ok(ms) = text.parse() {
        return Some(ms);
    }
    let (negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i64>().ok()),
        None => (text, Some(0)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let digits = || whole.bytes().chain(fraction.bytes()).map(|byte| i64::from(byte) - i64::from(b'0'));
    if digits().all(|digit| digit == 0) {
        return Some(0);
    }
    let point = exponent?.checked_add(whole.len() as i64)?;
    let mut sum = 0i64;
    for digit in digits().chain(std::iter::repeat(0)).take(usize::try_from(point).unwrap_or(0)) {
        sum = sum.checked_mul(10)?.checked_add(digit)?;
    }
    let finer = digits().skip(usize::try_from(point).unwrap_or(0)).any(|digit| digit != 0);
    if negative { Some(-sum - i64::from(finer)) } else { Some(sum) }
}
