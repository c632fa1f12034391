//! When an attempt that failed is made again: exponentially later, with full jitter, and never sooner than the destination asks.
//!
//! Before retry number `n` a random part of `first * 2^(n-1)` is waited, at most of `most`: of many that fail together, few come
//! back together. A wait that the destination asked for (`Retry-After`, in seconds or as a date) is kept, and only lengthened.

use std::time::{Duration, UNIX_EPOCH};

/// A schedule of retries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pub first: Duration,
    pub most: Duration,
}

impl Schedule {
    /// Returns the longest wait before the retry after so many failures, of which there is at least one.
    pub fn limit(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.most)
    }

    /// Returns the wait before the retry after so many failures; `random` is from 0 to 1.
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        self.limit(failures).mul_f64(random)
    }
}

/// Returns what is waited where the destination asks for `asked`: that, and up to a tenth of it more, 10 s at most.
pub(super) fn asked(asked: Duration, random: f64) -> Duration {
    asked.saturating_add((asked / 10).min(Duration::from_secs(10)).mul_f64(random))
}

/// Reads a `Retry-After`: seconds, or a date, whose distance is counted from the answer's own `Date` or from `now` (ms since the epoch),
/// whichever is longer: clocks differ. None if it is neither.
pub(super) fn retry_after(value: &str, date: Option<&str>, now: u64) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let until = since_epoch(value)?;
    let theirs = date.and_then(since_epoch).map_or(Duration::ZERO, |date| until.saturating_sub(date));
    Some(until.saturating_sub(Duration::from_millis(now)).max(theirs))
}

/// Returns the time of a date of HTTP.
fn since_epoch(date: &str) -> Option<Duration> {
    httpdate::parse_http_date(date.trim()).ok()?.duration_since(UNIX_EPOCH).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_doubled_up_to_the_most_and_a_random_part_is_waited() {
        let schedule = Schedule { first: Duration::from_secs(1), most: Duration::from_secs(600) };
        let limits: Vec<u64> = (1..=11).map(|failures| schedule.limit(failures).as_secs()).collect();
        assert_eq!(limits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600]);
        assert_eq!(schedule.limit(u32::MAX), Duration::from_secs(600));
        assert_eq!(schedule.delay(3, 0.0), Duration::ZERO);
        assert_eq!(schedule.delay(3, 0.5), Duration::from_secs(2));
    }

    #[test]
    fn an_asked_wait_is_never_shortened() {
        for seconds in [0, 1, 30, 3_600, u64::MAX] {
            for random in [0.0, 0.5, 1.0] {
                let wait = asked(Duration::from_secs(seconds), random);
                assert!(wait >= Duration::from_secs(seconds));
                assert!(wait.saturating_sub(Duration::from_secs(10)) <= Duration::from_secs(seconds));
            }
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_clock_that_asks_for_longer() {
        let now = since_epoch("Fri, 27 Nov 2026 10:00:00 GMT").unwrap().as_millis() as u64;
        let read = |value, date| retry_after(value, date, now).map(|wait| wait.as_secs());
        assert_eq!(read("120", None), Some(120));
        assert_eq!(read(" 0 ", None), Some(0));
        assert_eq!(read("99999999999999999999999", None), Some(u64::MAX));
        assert_eq!(read("Fri, 27 Nov 2026 10:02:00 GMT", None), Some(120));
        assert_eq!(read("Fri, 27 Nov 2026 09:00:00 GMT", None), Some(0));
        // Their clock is an hour behind.
        assert_eq!(read("Fri, 27 Nov 2026 09:02:00 GMT", Some("Fri, 27 Nov 2026 09:00:00 GMT")), Some(120));
        // And an hour ahead.
        assert_eq!(read("Fri, 27 Nov 2026 11:02:00 GMT", Some("Fri, 27 Nov 2026 11:00:00 GMT")), Some(3_720));
        for value in ["", "-1", "1.5", "soon"] {
            assert_eq!(read(value, None), None, "{value}");
        }
    }
}
