//! The calendar and the times of the project: one reader, one writer.
//!
//! A time is a number of ms since 1970-01-01T00:00:00Z in the proleptic Gregorian calendar, which has no leap seconds:
//! an `i64` where it may lie before 1970, else a `u64`.
//!
//! Promises:
//! 1. What is finer than a ms is floored, before 1970 too.
//! 2. A 60th second is the second before it, everywhere; its fraction counts.
//! 3. What a writer writes of the years 0000 to 9999, each reader of texts reads as the same time, if its range has
//!    it.
//!
//! Refuses dates that the calendar does not have, hours beyond 23, offsets beyond `23:59`.
//!
//! | reader | takes | for |
//! |---|---|---|
//! | [`parse_rfc3339`] | RFC 3339 with a [`Leniency`] | times in messages |
//! | [`parse_number`], [`parse_digits`] | a JSON number, or a string of digits, of a [`Unit`] | times in messages |
//! | [`parse_timestamp`], [`parse_date`] | SQL | literals, columns |
//! | [`parse_setting`] | ISO 8601 with or without an offset, or a string of digits | a job's settings and flags |
//!
//! ```
//! use usher_core::time;
//!
//! let ten = time::parse_timestamp("2026-11-23 11:00:00.5+01:00").expect("a timestamp");
//! assert_eq!(ten, 1_795_428_000_500);
//! assert_eq!(time::timestamp(ten).as_deref(), Some("2026-11-23T10:00:00.500Z"));
//! assert_eq!(time::date(ten).as_deref(), Some("2026-11-23"));
//! ```

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// A day, ms.
pub const DAY: i64 = 86_400_000;

const HOUR: i64 = 3_600_000;
const MINUTE: i64 = 60_000;
const SECOND: i64 = 1000;

/// 0000-01-01T00:00:00Z.
const YEAR_0: i64 = -719_528 * DAY;
/// 10000-01-01T00:00:00Z.
const YEAR_10000: i64 = 2_932_897 * DAY;
/// -9999-01-01T00:00:00Z.
const YEAR_MINUS_9999: i64 = -4_371_587 * DAY;

/// A date of the proleptic Gregorian calendar; the year before 1 is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// The year.
    pub year: i64,
    /// From 1.
    pub month: i64,
    /// Of the month, from 1.
    pub day: i64,
}

impl Date {
    /// Returns the number of days from 1970-01-01 to this date. None if the calendar does not have it.
    ///
    /// The count is Howard Hinnant's `days_from_civil` ("chrono-compatible low-level date algorithms"): years begin in
    /// March, so that the leap day is the last.
    pub fn days(self) -> Option<i64> {
        let Date { year, month, day } = self;
        let leap_year = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days_of_month = match month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 => 28 + i64::from(leap_year),
            _ => return None,
        };
        if day < 1 || day > days_of_month {
            return None;
        }
        let year = if month <= 2 { year - 1 } else { year };
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        Some(era * 146_097 + day_of_era - 719_468)
    }

    /// Returns the date `days` after 1970-01-01, for the days of all times in ms, of 64 bits with or without a sign.
    ///
    /// Howard Hinnant's `civil_from_days`, the inverse of [`Date::days`].
    pub fn from_days(days: i64) -> Date {
        let days = days + 719_468;
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        Date { year: year_of_era + era * 400 + i64::from(month <= 2), month, day }
    }
}

/// Returns the midnight, UTC, of the day that `ms` is in.
pub fn midnight(ms: i64) -> i64 {
    ms - ms.rem_euclid(DAY)
}

/// What [`parse_rfc3339`] takes besides what it always takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leniency {
    /// Month, day and hour may have one digit.
    pub short_fields: bool,
    /// A comma may stand for the point in front of the fraction.
    pub comma: bool,
}

impl Leniency {
    /// What real traffic needs.
    pub const TRAFFIC: Leniency = Leniency { short_fields: true, comma: true };
    /// For what is written with care: literals, columns.
    pub const STRICT: Leniency = Leniency { short_fields: false, comma: false };
}

/// Reads RFC 3339. None if `text` is something else.
///
/// Always takes a space for the `T`, `t` and `z`, any number of digits in the fraction, no offset (UTC), and `+0100`
/// and `+01` for `+01:00`. Does not allocate.
pub fn parse_rfc3339(text: &[u8], leniency: Leniency) -> Option<i64> {
    let (local, rest) = match fixed_fields(text) {
        None if leniency.short_fields => short_fields(text),
        fields => fields,
    }?;
    let (fraction, zone) = match rest {
        [b'.', digits @ ..] => fraction(digits)?,
        [b',', digits @ ..] if leniency.comma => fraction(digits)?,
        _ => (0, rest),
    };
    Some(local + fraction - offset(zone)?)
}

/// Reads a SQL timestamp: RFC 3339, [`Leniency::STRICT`]. None if it is none.
///
/// The year has four digits where it is written: with an offset the time may lie up to 23:59 h beyond these years.
pub fn parse_timestamp(text: &str) -> Option<i64> {
    parse_rfc3339(text.as_bytes(), Leniency::STRICT)
}

/// Reads `YYYY-MM-DD` as its midnight, UTC. None if it is none.
pub fn parse_date(text: &str) -> Option<i64> {
    let date: &[u8; 10] = text.as_bytes().try_into().ok()?;
    Some(fixed_date(date)?.days()? * DAY)
}

/// What a number counts since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Ms.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

impl Unit {
    /// All units.
    pub const ALL: [Unit; 4] = [Unit::Seconds, Unit::Millis, Unit::Micros, Unit::Nanos];

    /// Returns its name in a job.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Seconds => "s",
            Unit::Millis => "ms",
            Unit::Micros => "us",
            Unit::Nanos => "ns",
        }
    }

    /// Returns the power of ten of ms in one.
    fn exponent(self) -> i64 {
        match self {
            Unit::Seconds => 3,
            Unit::Millis => 0,
            Unit::Micros => -3,
            Unit::Nanos => -6,
        }
    }
}

/// Numbers of this magnitude and greater are ms, smaller ones seconds, if no unit is given: 10^11 s is in the year 5138,
/// 10^11 ms in March 1973.
const MILLIS_MIN: u64 = 100_000_000_000;
/// The digits of [`MILLIS_MIN`].
const MILLIS_DIGITS: i64 = 12;

/// Reads a JSON number of a unit, floored to a ms. None if 64 bits do not hold the ms.
///
/// Without a unit it is ms, or seconds if its magnitude is below 10^11.
pub fn parse_number(text: &str, unit: Option<Unit>) -> Option<i64> {
    if let Ok(number) = text.parse::<i64>() {
        return of_integer(number, unit);
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
    let Some(zeros) = digits().position(|digit| digit != 0) else {
        return Some(0);
    };
    let point = exponent?.checked_add(whole.len() as i64)?;
    let seconds = point.checked_sub(zeros as i64)? < MILLIS_DIGITS;
    let unit = unit.unwrap_or(if seconds { Unit::Seconds } else { Unit::Millis });
    let point = usize::try_from(point.checked_add(unit.exponent())?).unwrap_or(0);
    let mut floor = 0i64;
    for digit in digits().chain(std::iter::repeat(0)).take(point) {
        floor = floor.checked_mul(10)?.checked_add(digit)?;
    }
    let finer = digits().skip(point).any(|digit| digit != 0);
    if negative { Some(-floor - i64::from(finer)) } else { Some(floor) }
}

/// Returns the time that an integer is, as [`parse_number`] does.
pub fn of_integer(number: i64, unit: Option<Unit>) -> Option<i64> {
    let seconds = number.unsigned_abs() < MILLIS_MIN;
    match unit.unwrap_or(if seconds { Unit::Seconds } else { Unit::Millis }) {
        Unit::Seconds => number.checked_mul(SECOND),
        Unit::Millis => Some(number),
        Unit::Micros => Some(number.div_euclid(1_000)),
        Unit::Nanos => Some(number.div_euclid(1_000_000)),
    }
}

/// Reads what [`parse_number`] does from a string of digits: a sign and a fraction, but no exponent. None if it is something else.
pub fn parse_digits(text: &str, unit: Option<Unit>) -> Option<i64> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    if digits(whole) && digits(fraction) { parse_number(text, unit) } else { None }
}

/// Reads what a person writes in a job: a string of digits, as [`parse_digits`] does without a unit, or ISO 8601, in UTC if it has
/// no offset. Of the rarer forms of ISO 8601 those that jiff reads.
///
/// None if it is none of these, or before 1970.
pub fn parse_setting(text: &str) -> Option<u64> {
    // The library's range ends with 9999-12-30.
    let whole = || parse_timestamp(text).or_else(|| parse_date(text));
    if let Some(ms) = parse_digits(text, None).or_else(whole) {
        return u64::try_from(ms).ok();
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return u64::try_from(time.as_millisecond()).ok();
    }
    let time: DateTime = text.parse().ok()?;
    u64::try_from(TimeZone::UTC.to_timestamp(time).ok()?.as_millisecond()).ok()
}

/// Appends RFC 3339 in UTC with ms: `2026-11-23T10:00:00.123Z`.
///
/// Years beyond 9999 have a sign, as in ISO 8601: `+10000-01-01T00:00:00.000Z`.
pub fn write_time(out: &mut Vec<u8>, ms: u64) {
    let day = DAY as u64;
    write(out, (ms / day) as i64, (ms % day) as i64);
}

/// Appends what [`write_time`] does, for times before 1970 too.
///
/// Years before 0 have a sign, which counts among the four characters, as in `strftime`: `-005`.
pub fn write_timestamp(out: &mut Vec<u8>, ms: i64) {
    write(out, ms.div_euclid(DAY), ms.rem_euclid(DAY));
}

/// Appends the date, in UTC, that `ms` is in: `2026-11-23`. Years as [`write_timestamp`] writes them.
pub fn write_date(out: &mut Vec<u8>, ms: i64) {
    let date = Date::from_days(ms.div_euclid(DAY));
    write_year(out, date.year);
    out.extend_from_slice(&month_and_day(date));
}

/// Returns what [`write_timestamp`] writes. None if the year has more than four digits.
pub fn timestamp(ms: i64) -> Option<String> {
    text(ms, write_timestamp)
}

/// Returns what [`write_date`] writes. None if the year has more than four digits.
pub fn date(ms: i64) -> Option<String> {
    text(ms, write_date)
}

/// Returns RFC 3339 in UTC with no more digits of the fraction than it takes: `2026-11-23T10:00:00Z`.
///
/// A time that [`parse_timestamp`] reads and that is beyond the years 0000 to 9999 in UTC has an offset:
/// `9999-12-31T00:01:00-23:59`. None further beyond.
pub fn shortest(ms: i64) -> Option<String> {
    /// The largest offset.
    const AHEAD: i64 = 23 * HOUR + 59 * MINUTE;
    let (local, zone) = match ms {
        _ if ms < YEAR_0 => (ms.checked_add(AHEAD)?, "+23:59"),
        _ if ms >= YEAR_10000 => (ms - AHEAD, "-23:59"),
        _ => (ms, "Z"),
    };
    let mut text = timestamp(local).filter(|_| local >= YEAR_0)?;
    let unneeded = match ms {
        _ if ms % SECOND == 0 => ".000Z",
        _ if ms % 100 == 0 => "00Z",
        _ if ms % 10 == 0 => "0Z",
        _ => "Z",
    };
    text.truncate(text.len() - unneeded.len());
    text.push_str(zone);
    Some(text)
}

/// Reads the 19 bytes `YYYY-MM-DDThh:mm:ss`: its ms without an offset, and what follows.
fn fixed_fields(text: &[u8]) -> Option<(i64, &[u8])> {
    let (head, rest) = text.split_first_chunk::<19>()?;
    let [date @ .., b'T' | b't' | b' ', h, i, b':', m, n, b':', s, t] = head else {
        return None;
    };
    let date = fixed_date(date.first_chunk()?)?;
    Some((local(date, [pair(*h, *i)?, pair(*m, *n)?, pair(*s, *t)?])?, rest))
}

/// Reads the digits of `YYYY-MM-DD`.
fn fixed_date(text: &[u8; 10]) -> Option<Date> {
    let [c, d, y, z, b'-', m, n, b'-', t, u] = *text else {
        return None;
    };
    Some(Date { year: pair(c, d)? * 100 + pair(y, z)?, month: pair(m, n)?, day: pair(t, u)? })
}

fn pair(tens: u8, ones: u8) -> Option<i64> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
    Some(digit(tens)? * 10 + digit(ones)?)
}

/// Reads what [`fixed_fields`] does, with month, day and hour of one digit or two.
fn short_fields(text: &[u8]) -> Option<(i64, &[u8])> {
    let mut rest = Rest(text);
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
    Some((local(Date { year, month, day }, [hour, minute, second])?, rest.0))
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn digits(&mut self, count_min: usize, count_max: usize) -> Option<i64> {
        let count = self.0.iter().take(count_max).take_while(|byte| byte.is_ascii_digit()).count();
        if count < count_min {
            return None;
        }
        let (digits, rest) = self.0.split_at(count);
        self.0 = rest;
        Some(digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
    }

    fn one_of(&mut self, bytes: &[u8]) -> Option<()> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        bytes.contains(first).then_some(())
    }
}

/// Returns the ms of a date and a time of day, of which the calendar decides.
fn local(date: Date, [hour, minute, second]: [i64; 3]) -> Option<i64> {
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // A 60th second is the one before it.
    Some(date.days()? * DAY + hour * HOUR + minute * MINUTE + second.min(59) * SECOND)
}

/// Reads the ms of a fraction's digits, of which there is at least one: the ms and what follows.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(count);
    digits.first()?;
    let ms = (0..3).fold(0, |ms, place| ms * 10 + digits.get(place).map_or(0, |digit| i64::from(digit - b'0')));
    Some((ms, rest))
}

/// Reads the ms by which a zone is ahead of UTC; nothing is UTC.
fn offset(zone: &[u8]) -> Option<i64> {
    let (hours, minutes) = match *zone {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+' | b'-', h, i] => (pair(h, i)?, 0),
        [b'+' | b'-', h, i, m, n] | [b'+' | b'-', h, i, b':', m, n] => (pair(h, i)?, pair(m, n)?),
        _ => return None,
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    let ahead = hours * HOUR + minutes * MINUTE;
    Some(if zone[0] == b'-' { -ahead } else { ahead })
}

fn write(out: &mut Vec<u8>, days: i64, ms: i64) {
    let date = Date::from_days(days);
    write_year(out, date.year);
    out.extend_from_slice(&month_and_day(date));
    // The ms of a day have 32 bits, which are divided faster than 64.
    let (seconds, ms) = (ms as u32 / 1000, ms as u32 % 1000);
    let ([h, i], [m, n], [s, t]) = (digits(seconds / 3600), digits(seconds / 60 % 60), digits(seconds % 60));
    let [x, y, z] = digits(ms);
    out.extend_from_slice(&[b'T', h, i, b':', m, n, b':', s, t, b'.', x, y, z, b'Z']);
}

fn write_year(out: &mut Vec<u8>, year: i64) {
    match year {
        0..=9999 => out.extend_from_slice(&digits::<4>(year as u32)),
        10_000.. => out.extend_from_slice(format!("+{year}").as_bytes()),
        _ => out.extend_from_slice(format!("-{:04}", -year).as_bytes()),
    }
}

fn month_and_day(date: Date) -> [u8; 6] {
    let ([m, n], [d, e]) = (digits(date.month as u32), digits(date.day as u32));
    [b'-', m, n, b'-', d, e]
}

/// Returns the last `N` decimal digits of a number.
fn digits<const N: usize>(mut number: u32) -> [u8; N] {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    digits
}

fn text(ms: i64, write: fn(&mut Vec<u8>, i64)) -> Option<String> {
    if !(YEAR_MINUS_9999..YEAR_10000).contains(&ms) {
        return None;
    }
    let mut out = Vec::with_capacity("-2026-11-23T10:00:00.123Z".len());
    write(&mut out, ms);
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: i64 = 1_795_428_000_000;

    fn traffic(text: &str) -> Option<i64> {
        parse_rfc3339(text.as_bytes(), Leniency::TRAFFIC)
    }

    fn written(ms: u64) -> String {
        let mut out = Vec::new();
        write_time(&mut out, ms);
        String::from_utf8(out).expect("times are ASCII")
    }

    /// A time in one of many notations, most of them right.
    fn notation(random: &mut fastrand::Rng) -> String {
        let date = format!("{:04}-{:02}-{:02}", random.i64(0..10_000), random.i64(0..14), random.i64(0..33));
        let time = format!("{:02}:{:02}:{:02}", random.i64(0..24), random.i64(0..60), random.i64(0..60));
        let between = ["T", "t", " "][random.usize(0..3)];
        let fraction = ["", ".1", ".12", ".123", ".1239", ".999999999"][random.usize(0..6)];
        let zone = ["Z", "z", "+02:00", "-11:30", "+0200", "+02", "+00:00"][random.usize(0..7)];
        format!("{date}{between}{time}{fraction}{zone}")
    }

    #[test]
    fn days_and_dates_are_each_others_inverse() {
        let mut expected = Date { year: -1, month: 12, day: 31 };
        for days in -719_529..2_932_898 {
            let date = Date::from_days(days);
            assert_eq!(date.days(), Some(days), "{date:?}");
            let next_year = Date { year: expected.year + 1, month: 1, day: 1 };
            let next_month = Date { month: expected.month + 1, day: 1, ..expected };
            assert!(days == -719_529 || [expected, next_month, next_year].contains(&date), "{date:?}");
            expected = Date { day: date.day + 1, ..date };
            assert!(expected == Date::from_days(days + 1) || expected.days().is_none(), "{date:?}");
        }
        assert_eq!(Date { year: 1970, month: 1, day: 1 }.days(), Some(0));
        assert_eq!(Date { year: 0, month: 1, day: 1 }.days(), Some(YEAR_0 / DAY));
        assert_eq!(Date { year: 10_000, month: 1, day: 1 }.days(), Some(YEAR_10000 / DAY));
        assert_eq!(Date { year: -9999, month: 1, day: 1 }.days(), Some(YEAR_MINUS_9999 / DAY));
        for (year, month, day) in
            [(2026, 2, 29), (1900, 2, 29), (2026, 13, 1), (2026, 0, 1), (2026, 1, 0), (2026, 4, 31)]
        {
            assert_eq!(Date { year, month, day }.days(), None, "{year}-{month}-{day}");
        }
    }

    #[test]
    fn times_are_read_as_the_calendar_library_reads_them() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let text = notation(&mut random);
            let slow = text.parse::<Timestamp>().ok().map(|time| time.as_nanosecond().div_euclid(1_000_000) as i64);
            assert_eq!(traffic(&text), slow, "seed {seed}: {text}");
            assert_eq!(parse_timestamp(&text), slow, "seed {seed}: {text}");
            let slow = text[..10].parse::<jiff::civil::Date>().ok();
            let slow = slow.map(|date| TimeZone::UTC.to_timestamp(date.into()).expect("it is in range"));
            assert_eq!(parse_date(&text[..10]), slow.map(Timestamp::as_millisecond), "seed {seed}: {text}");
        }
    }

    #[test]
    fn what_is_read_strictly_is_read_leniently_as_the_same() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut read = [0; 3];
        for _ in 0..50_000 {
            let mut text = notation(&mut random).into_bytes();
            for _ in 0..random.usize(0..3) {
                let (at, byte) = (random.usize(..text.len()), b"0129-:TtZz+. ,x"[random.usize(..15)]);
                match random.u8(0..3) {
                    0 => drop(text.remove(at)),
                    1 => text.insert(at, byte),
                    _ => text[at] = byte,
                }
            }
            let shown = text.escape_ascii();
            match (parse_rfc3339(&text, Leniency::STRICT), parse_rfc3339(&text, Leniency::TRAFFIC)) {
                (None, None) => read[0] += 1,
                (None, Some(_)) => read[1] += 1,
                (strict, lenient) => {
                    read[2] += 1;
                    assert_eq!(strict, lenient, "seed {seed}: {shown}");
                }
            }
        }
        assert!(read.iter().all(|count| *count > 100), "seed {seed}: {read:?}");
    }

    #[test]
    fn near_kin_of_rfc_3339_are_read() {
        for (text, ms) in [
            ("2026-11-23T10:00:00Z", TEN),
            ("2026-11-23t10:00:00z", TEN),
            ("2026-11-23 10:00:00", TEN),
            ("2026-11-23 10:00:00.25", TEN + 250),
            ("2026-11-23T10:00:00.0009Z", TEN),
            ("2026-11-23T10:00:00.1239999Z", TEN + 123),
            ("2026-11-23T12:00:00+02:00", TEN),
            ("2026-11-23T12:00:00+0200", TEN),
            ("2026-11-23T12:00:00+02", TEN),
            ("2026-11-23T04:30:00-05:30", TEN),
            ("2026-11-24T00:00:00.5+14:00", TEN + 500),
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.9999Z", -1),
            ("1969-12-31T23:00:00-01:00", 0),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000),
            ("2016-12-31T23:59:60.5Z", 1_483_228_799_500),
        ] {
            assert_eq!(traffic(text), Some(ms), "{text}");
            assert_eq!(parse_timestamp(text), Some(ms), "{text}");
        }
        for (text, ms) in [
            ("2026-11-23T10:00:00,5Z", TEN + 500),
            ("2015-2-02T00:30:08.276Z", 1_422_837_008_276),
            ("2015-2-2T0:30:08.276Z", 1_422_837_008_276),
        ] {
            assert_eq!(traffic(text), Some(ms), "{text}");
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn a_year_of_four_digits_is_read_with_any_offset_and_written_again() {
        let last = YEAR_10000 - 1000;
        for (text, ms, written) in [
            ("9999-12-31T23:59:59Z", last, "9999-12-31T23:59:59Z"),
            ("9999-12-31T23:59:59+14:00", last - 14 * HOUR, "9999-12-31T09:59:59Z"),
            ("9999-12-31T23:59:59-01:00", last + HOUR, "9999-12-31T01:00:59-23:59"),
            ("9999-12-31T23:59:59.5-23:59", YEAR_10000 + 23 * HOUR + 59 * MINUTE - 500, "9999-12-31T23:59:59.5-23:59"),
            ("9999-12-31T23:00:00-01:00", YEAR_10000, "9999-12-31T00:01:00-23:59"),
            ("0000-01-01T00:00:00+01:00", YEAR_0 - HOUR, "0000-01-01T22:59:00+23:59"),
            ("0000-01-01T00:00:00+23:59", YEAR_0 - 23 * HOUR - 59 * MINUTE, "0000-01-01T00:00:00+23:59"),
        ] {
            for text in [text, written] {
                assert_eq!((parse_timestamp(text), traffic(text)), (Some(ms), Some(ms)), "{text}");
            }
            assert_eq!(shortest(ms).as_deref(), Some(written), "{text}");
        }
        let beyond = YEAR_10000 + 23 * HOUR + 59 * MINUTE;
        assert_eq!(
            (shortest(beyond), shortest(YEAR_0 - DAY), shortest(i64::MIN), shortest(i64::MAX)),
            (None, None, None, None)
        );
    }

    #[test]
    fn other_texts_are_no_times() {
        for text in [
            "",
            "now",
            "2026-11-23",
            "2026-11-23T10:00Z",
            "2026-11-23T10:00:00 Z",
            "2026-11-23T10:00:00.Z",
            "26-11-23T10:00:00Z",
            "2026-13-01T10:00:00Z",
            "2026-02-29T10:00:00Z",
            "2026-00-01T10:00:00Z",
            "2026-01-00T10:00:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T10:60:00Z",
            "2026-11-23T10:00:61Z",
            "2026-11-23T10:00:00+24:00",
            "2026-11-23T10:00:00+02:60",
            "2026-11-23T10:00:00+02:",
            "2026-11-23T10:00:00+2",
            "2026-11-23T10:00:00+2:00",
            "2026-11-23T10:00:00ZZ",
            "2026-11-23T1a:00:00Z",
            "2026-11-23T10:00:00é",
            "2026-11-23é10:00:00Z",
            "1763892000000",
            "２026-11-23T10:00:00Z",
        ] {
            assert_eq!(traffic(text), None, "{text}");
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
        for text in ["", "2026-1-23", "2026-02-29", "2026-11-23 ", "2026/11/23", "２026-11-2"] {
            assert_eq!(parse_date(text), None, "{text}");
        }
        assert_eq!((midnight(TEN), midnight(-1)), (TEN - 10 * HOUR, -DAY));
    }

    #[test]
    fn numbers_of_ms_are_floored() {
        for (text, ms) in [
            ("0", 0),
            ("-0", 0),
            ("1763892000000", 1_763_892_000_000),
            ("1763892000000.999", 1_763_892_000_000),
            ("1.763892e12", 1_763_892_000_000),
            ("1763892000000000e-3", 1_763_892_000_000),
            ("1.7638920000009E+12", 1_763_892_000_000),
            ("0.9", 0),
            ("-0.1", -1),
            ("-1e-400", -1),
            ("-1.5", -2),
            ("0e99999999999999999999", 0),
            ("1e-400", 0),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(parse_number(text, Some(Unit::Millis)), Some(ms), "{text}");
        }
        for text in ["1e30", "1e999999999999999999999", "9223372036854775808", "-9223372036854775808.5"] {
            assert_eq!(parse_number(text, Some(Unit::Millis)), None, "{text}");
            assert_eq!(parse_number(text, None), None, "{text}");
        }
    }

    #[test]
    fn a_number_below_1e11_is_seconds() {
        for (text, ms) in [
            ("1793527200000", 1_793_527_200_000),
            ("1793527201", 1_793_527_201_000),
            ("1793527202.5", 1_793_527_202_500),
            ("1793527202.0009", 1_793_527_202_000),
            ("1.7935272025e9", 1_793_527_202_500),
            ("0.00017935272025e13", 1_793_527_202_500),
            ("17935272025000E-1", 1_793_527_202_500),
            ("99999999999", 99_999_999_999_000),
            ("99999999999.9999", 99_999_999_999_999),
            ("100000000000", 100_000_000_000),
            ("100000000000.5", 100_000_000_000),
            ("1e11", 100_000_000_000),
            ("-99999999999", -99_999_999_999_000),
            ("-99999999999.9999", -100_000_000_000_000),
            ("-100000000000", -100_000_000_000),
            ("253402300799", 253_402_300_799),
            ("0", 0),
            ("0.001", 1),
            ("-0.0001", -1),
            ("1e-400", 0),
        ] {
            assert_eq!(parse_number(text, None), Some(ms), "{text}");
        }
    }

    #[test]
    fn a_unit_decides_whatever_the_magnitude() {
        let cases = [
            ("1793527202", Unit::Seconds, 1_793_527_202_000),
            ("253402300799.9", Unit::Seconds, 253_402_300_799_900),
            ("1500", Unit::Millis, 1500),
            ("1500.9", Unit::Millis, 1500),
            ("1793527202500999", Unit::Micros, 1_793_527_202_500),
            ("-1", Unit::Micros, -1),
            ("1793527202500.9e3", Unit::Micros, 1_793_527_202_500),
            ("1793527202500999999", Unit::Nanos, 1_793_527_202_500),
            ("1793527202500999999.5", Unit::Nanos, 1_793_527_202_500),
            ("999999", Unit::Nanos, 0),
        ];
        for (text, unit, ms) in cases {
            assert_eq!(parse_number(text, Some(unit)), Some(ms), "{text} {}", unit.name());
        }
        assert_eq!(parse_number("9223372036854775807", Some(Unit::Seconds)), None);
        assert_eq!(parse_number("9223372036854775.9", Some(Unit::Seconds)), None);
    }

    #[test]
    fn numbers_are_read_as_exact_arithmetic_reads_them() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let (digits, places) = (random.usize(1..17), random.u32(0..8));
            let number: i128 = (0..digits).fold(0, |sum, _| sum * 10 + random.i128(0..10));
            let number = if random.bool() { -number } else { number };
            let (whole, fraction) = (number.abs() / 10i128.pow(places), number.abs() % 10i128.pow(places));
            let sign = if number < 0 { "-" } else { "" };
            let text = match places {
                0 => format!("{sign}{whole}"),
                _ => format!("{sign}{whole}.{fraction:0width$}", width = places as usize),
            };
            let scale = |unit: Unit| match unit {
                Unit::Seconds => (number * 1000).div_euclid(10i128.pow(places)),
                Unit::Millis => number.div_euclid(10i128.pow(places)),
                Unit::Micros => number.div_euclid(10i128.pow(places + 3)),
                Unit::Nanos => number.div_euclid(10i128.pow(places + 6)),
            };
            for unit in Unit::ALL {
                let slow = i64::try_from(scale(unit)).ok();
                assert_eq!(parse_number(&text, Some(unit)), slow, "seed {seed}: {text} {}", unit.name());
            }
            let unit = if whole < 100_000_000_000 { Unit::Seconds } else { Unit::Millis };
            let slow = i64::try_from(scale(unit)).ok();
            assert_eq!(parse_number(&text, None), slow, "seed {seed}: {text}");
            assert_eq!(parse_digits(&text, None), slow, "seed {seed}: {text}");
        }
    }

    #[test]
    fn a_string_of_digits_is_read_as_the_number() {
        for (text, ms) in [("1793527200000", 1_793_527_200_000), ("1793527202.5", 1_793_527_202_500), ("-1", -1000)] {
            assert_eq!(parse_digits(text, None), Some(ms), "{text}");
        }
        assert_eq!(parse_digits("1793527202500999", Some(Unit::Micros)), Some(1_793_527_202_500));
        for text in
            ["", "-", "+1", "1.", ".5", "1e9", "1793527200 ", " 1", "1_000", "0x10", "NaN", "１", "1.2.3", "--1"]
        {
            assert_eq!(parse_digits(text, None), None, "{text}");
        }
    }

    #[test]
    fn settings_are_digits_or_iso_8601_from_1970_on() {
        for text in [
            "1795428000000",
            "1795428000",
            "1795428000.0004",
            "2026-11-23T10:00:00Z",
            "2026-11-23 10:00",
            "2026-11-23T12:00:00+02:00[Europe/Berlin]",
            "2026-11-23T12:00+02",
            "20261123T100000Z",
        ] {
            assert_eq!(parse_setting(text), Some(TEN as u64), "{text}");
        }
        assert_eq!(parse_setting("2026-11-23"), Some((TEN - 10 * HOUR) as u64));
        assert_eq!(parse_setting("9999-12-31T23:59:59.999Z"), Some(YEAR_10000 as u64 - 1));
        assert_eq!(parse_setting("9999-12-31"), Some((YEAR_10000 - DAY) as u64));
        for text in ["", "-1", "1969-12-31T23:59:59Z", "1969-12-31", "now", "1e12", "2026-11-23T10:00:00 Z"] {
            assert_eq!(parse_setting(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_written_as_the_calendar_library_writes_them_and_read_again() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        // The library's last second cannot be made from ms.
        let (first, last) = (Timestamp::MIN.as_millisecond(), Timestamp::MAX.as_millisecond() - 1000);
        for _ in 0..20_000 {
            let ms = random.i64(first..=last);
            let time = Timestamp::from_millisecond(ms).expect("it is in range");
            let text = timestamp(ms).expect("it is in range");
            // The library counts the sign as one of four digits.
            let year = TimeZone::UTC.to_datetime(time).year();
            let year = if year < 0 { format!("-{:04}", -year) } else { format!("{year:04}") };
            let expected = year + &time.strftime("-%m-%dT%H:%M:%S%.3fZ").to_string();
            assert_eq!(text, expected, "seed {seed}: {ms}");
            assert_eq!(date(ms).as_deref(), expected.split('T').next(), "seed {seed}: {ms}");
            let unit = [1, 10, 100, 1000][random.usize(0..4)];
            let ms = random.i64(YEAR_0..=last) / unit * unit;
            let time = Timestamp::from_millisecond(ms).expect("it is in range");
            let text = shortest(ms).expect("it is in range");
            assert_eq!(text, time.to_string(), "seed {seed}: {ms}");
            let all = timestamp(ms).expect("it is in range");
            assert_eq!(all.len(), 24, "seed {seed}: {ms}");
            for text in [&all, &text] {
                assert_eq!((parse_timestamp(text), traffic(text)), (Some(ms), Some(ms)), "seed {seed}: {text}");
            }
            if let Ok(ms) = u64::try_from(ms) {
                assert_eq!(written(ms), all, "seed {seed}");
            }
        }
    }

    #[test]
    fn every_year_of_four_digits_is_written() {
        let last = YEAR_10000 - 1;
        assert_eq!(timestamp(last).as_deref(), Some("9999-12-31T23:59:59.999Z"));
        assert_eq!(shortest(last - 999).as_deref(), Some("9999-12-31T23:59:59Z"));
        assert_eq!(date(last).as_deref(), Some("9999-12-31"));
        assert_eq!(timestamp(YEAR_0).as_deref(), Some("0000-01-01T00:00:00.000Z"));
        assert_eq!(date(YEAR_0 - 1).as_deref(), Some("-0001-12-31"));
        assert_eq!(date(YEAR_MINUS_9999).as_deref(), Some("-9999-01-01"));
        assert_eq!((timestamp(YEAR_10000), date(YEAR_10000)), (None, None));
        assert_eq!((timestamp(YEAR_MINUS_9999 - 1), date(i64::MIN)), (None, None));
    }

    #[test]
    fn years_of_more_digits_have_a_sign() {
        assert_eq!(written(YEAR_10000 as u64), "+10000-01-01T00:00:00.000Z");
        assert_eq!(written(u64::MAX), "+584556019-04-03T14:25:51.615Z");
        for (ms, year) in [(i64::MAX, "+292278994-"), (i64::MIN, "-292275055-")] {
            let mut out = Vec::new();
            write_timestamp(&mut out, ms);
            write_date(&mut out, ms);
            assert_eq!(String::from_utf8_lossy(&out).matches(year).count(), 2, "{ms}");
        }
    }
}
