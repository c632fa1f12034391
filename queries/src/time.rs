//! Reading times, in ms since the epoch, UTC.
//!
//! Reads RFC 3339 and variants of it: `T` or a space between date and time, any number of fractional digits (finer
//! than ms is floored), `Z`, an offset (`+02:00`, `+0200`, `+02`) or no zone at all, which is UTC. Refuses times
//! without seconds, dates that the calendar does not have, and times outside the years 0000 to 9999 in UTC. A leap
//! second (`:60`) is read as the second before it.

/// A day, ms.
pub const DAY: i64 = 86_400_000;

const FIRST: i64 = -719_528 * DAY;
const LAST: i64 = 2_932_897 * DAY - 1;

/// Reads a time of day with its date, in ms since the epoch. `None` if the text is not one.
pub fn parse_timestamp(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() < 19 || !matches!(bytes[10], b'T' | b't' | b' ') || bytes[13] != b':' || bytes[16] != b':' {
        return None;
    }
    let day = day(&bytes[..10])?;
    let (hour, minute, second) = (two(&bytes[11..])?, two(&bytes[14..])?, two(&bytes[17..])?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, zone) = fraction(&bytes[19..])?;
    let local = day * DAY + (hour * 3600 + minute * 60 + second.min(59)) * 1000 + fraction;
    let time = local - offset(zone)?;
    (FIRST..=LAST).contains(&time).then_some(time)
}

/// Reads `YYYY-MM-DD` as its midnight UTC, in ms since the epoch. `None` if the text is not one.
pub fn parse_date(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    (bytes.len() == 10).then(|| day(bytes)).flatten().map(|day| day * DAY)
}

/// Returns the midnight UTC of the day that `time` is in.
pub fn midnight(time: i64) -> i64 {
    time - time.rem_euclid(DAY)
}

/// Reads `.123…`, which may be missing. Returns its ms, and what follows.
fn fraction(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let Some((b'.', digits)) = bytes.split_first() else {
        return Some((0, bytes));
    };
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    let (digits, rest) = digits.split_at(count);
    let ms = (0..3).fold(0, |ms, place| ms * 10 + digits.get(place).map_or(0, |digit| i64::from(digit - b'0')));
    Some((ms, rest))
}

/// Returns the ms by which a zone is ahead of UTC.
fn offset(zone: &[u8]) -> Option<i64> {
    let (sign, rest) = match zone {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let minutes = match rest {
        [_, _] => 0,
        [_, _, b':', minutes @ ..] | [_, _, minutes @ ..] if minutes.len() == 2 => two(minutes)?,
        _ => return None,
    };
    let hours = two(rest)?;
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes) * 60_000)
}

/// Returns the number of days from the epoch to `YYYY-MM-DD`.
///
/// The method is Howard Hinnant's `days_from_civil`: years begin in March, so that the leap day is the last.
fn day(bytes: &[u8]) -> Option<i64> {
    if bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let (year, month, day) = (two(bytes)? * 100 + two(&bytes[2..])?, two(&bytes[5..])?, two(&bytes[8..])?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if day < 1 || day > length {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Reads two digits.
fn two(bytes: &[u8]) -> Option<i64> {
    match bytes {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9', ..] => Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0')),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_the_calendar_library_reads_them() {
        let seed = 7;
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let (hour, minute) = (random.i64(0..24), random.i64(0..60));
            let date = format!("{:04}-{:02}-{:02}", random.i64(0..10_000), random.i64(0..14), random.i64(0..33));
            let fraction = ["", ".1", ".12", ".123", ".1239", ".999999999"][random.usize(0..6)];
            let zone = ["Z", "z", "+02:00", "-11:30", "+00:00"][random.usize(0..5)];
            let between = ["T", "t", " "][random.usize(0..3)];
            let text = format!("{date}{between}{hour:02}:{minute:02}:{:02}{fraction}{zone}", random.i64(0..60));
            let slow = text.parse::<jiff::Timestamp>().ok().map(|time| time.as_nanosecond().div_euclid(1_000_000));
            let slow = slow.map(|ms| ms as i64).filter(|ms| (FIRST..=LAST).contains(ms));
            assert_eq!(parse_timestamp(&text), slow, "seed {seed}: {text}");
            let slow = date.parse::<jiff::civil::Date>().ok();
            let slow =
                slow.map(|date| date.to_zoned_datetime(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_millisecond());
            assert_eq!(parse_date(&date), slow, "seed {seed}: {date}");
        }
    }

    #[test]
    fn variants_of_rfc_3339_are_read_and_the_rest_refused() {
        let noon = parse_timestamp("2026-11-23T12:00:00Z");
        assert_eq!(noon, Some(1_795_435_200_000));
        for same in [
            "2026-11-23 12:00:00",
            "2026-11-23T12:00:00.0009Z",
            "2026-11-23T14:00:00+02",
            "2026-11-23T14:00:00+0200",
            "2026-11-23T11:30:00-00:30",
        ] {
            assert_eq!(parse_timestamp(same), noon, "{same}");
        }
        assert_eq!(parse_timestamp("1969-12-31T23:59:59.9999Z"), Some(-1));
        assert_eq!(parse_timestamp("2016-12-31T23:59:60Z"), parse_timestamp("2016-12-31T23:59:59Z"));
        for wrong in [
            "",
            "2026-11-23",
            "2026-11-23T12:00Z",
            "2026-11-23T24:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-11-23T12:00:00.Z",
            "2026-11-23T12:00:00+2",
            "2026-11-23T12:00:00+2:00",
            "2026-11-23T12:00:00 Z",
            "2026-11-23T12:00:00Zz",
            "0000-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-01:00",
            "２026-11-23T12:00:00Z",
            "2026-11-23é12:00:00Z",
        ] {
            assert_eq!(parse_timestamp(wrong), None, "{wrong}");
        }
        assert_eq!(parse_date("2026-1-23"), None);
        assert_eq!(midnight(-1), -DAY);
    }
}
