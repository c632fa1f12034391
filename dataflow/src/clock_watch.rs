//! Watches the machine's clock beside the job's.
//!
//! Computes how far the job's clock is ahead of the machine's: after a start with a state whose clock the machine's has not reached,
//! and while the machine's clock is behind where it was. The job's clock then stands: nothing enters, and no window ends. It is
//! logged at once and each minute. A jump of the machine's clock by more than the skew that clocks may have is logged too, either
//! way: forward, it ends all shorter windows at once.
//!
//! Pure: whoever calls it gives it the clocks.

use crate::time::Time;
use std::time::Duration;

/// From one look at the clocks to the next.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// From one log line about a clock that is ahead to the next.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// Ms that the job's clock may be ahead before it is worth a line: synchronized clocks are corrected by less.
const TOLERATED: Time = 1_000;

/// What there is to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClockNews {
    /// The job's clock is so many ms ahead of the machine's.
    Ahead(Time),
    /// It no longer is.
    CaughtUp,
    /// The machine's clock has jumped by so many ms.
    Jumped(i64),
}

/// The clocks as they were.
pub(crate) struct ClockWatch {
    /// The jump that clocks may make, ms.
    skew: Time,
    /// The machine's clock at the last look, and what a clock that never jumps showed.
    last: Option<(Time, Duration)>,
    /// When it was logged that the job's clock is ahead.
    logged: Option<Duration>,
}

impl ClockWatch {
    pub(crate) fn new(skew: Time) -> ClockWatch {
        ClockWatch { skew, last: None, logged: None }
    }

    /// Looks at the clocks: the job's, the machine's, and the time since the start by a clock that never jumps. Returns what to log.
    pub(crate) fn look(&mut self, job: Time, machine: Time, since_start: Duration) -> Vec<ClockNews> {
        let mut news = Vec::new();
        if let Some((before, then)) = self.last.replace((machine, since_start)) {
            let expected = before as i64 + since_start.saturating_sub(then).as_millis() as i64;
            let jump = machine as i64 - expected;
            if jump.unsigned_abs() > self.skew {
                news.push(ClockNews::Jumped(jump));
            }
        }
        let ahead = ahead(job, machine);
        match self.logged {
            Some(logged) if ahead > 0 && since_start.saturating_sub(logged) < LOG_EVERY => {}
            _ if ahead > 0 => {
                self.logged = Some(since_start);
                news.push(ClockNews::Ahead(ahead));
            }
            Some(_) => {
                self.logged = None;
                news.push(ClockNews::CaughtUp);
            }
            None => {}
        }
        news
    }
}

/// Returns how many ms the job's clock is ahead of the machine's; 0 within what corrections of a clock cause.
pub(crate) fn ahead(job: Time, machine: Time) -> Time {
    Some(job.saturating_sub(machine)).filter(|ahead| *ahead > TOLERATED).unwrap_or(0)
}

/// Returns a length of time with its two greatest units: `59m`, `1h 2m`, `3d 4h`.
pub(crate) fn length(ms: Time) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let first = units.iter().position(|(unit, _)| ms >= *unit);
    let Some(first) = first else { return format!("{ms}ms") };
    let of = |(unit, name): &(Time, &str), ms: Time| format!("{}{name}", ms / unit);
    let rest = ms % units[first].0;
    match units.get(first + 1).filter(|(unit, _)| rest >= *unit) {
        Some(second) => format!("{} {}", of(&units[first], ms), of(second, rest)),
        None => of(&units[first], ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Time = 3_600_000;
    const NOON: Time = 1_795_428_000_000;

    #[test]
    fn a_clock_that_is_ahead_is_logged_at_once_and_each_minute_until_it_no_longer_is() {
        let mut watch = ClockWatch::new(300_000);
        let mut logged = Vec::new();
        for second in 0..=3_600 {
            let since_start = Duration::from_secs(second);
            for news in watch.look(NOON + HOUR, NOON + second * 1_000, since_start) {
                logged.push((second, news));
            }
        }
        let expected = (0..60).map(|minute| (minute * 60, ClockNews::Ahead(HOUR - minute * 60_000)));
        // A second is tolerated.
        assert_eq!(logged, expected.chain([(3_599, ClockNews::CaughtUp)]).collect::<Vec<_>>());
    }

    #[test]
    fn a_jump_beyond_the_skew_is_logged_whichever_way_it_is() {
        let mut watch = ClockWatch::new(300_000);
        let second = Duration::from_secs;
        assert_eq!(watch.look(NOON, NOON, second(0)), []);
        assert_eq!(watch.look(NOON, NOON + 300_000 + 1_000, second(1)), [], "the skew is allowed");
        let now = NOON + 301_000;
        assert_eq!(watch.look(now, now + HOUR + 1_000, second(2)), [ClockNews::Jumped(HOUR as i64)]);
        let job = now + HOUR + 1_000;
        let back = [ClockNews::Jumped(-(HOUR as i64)), ClockNews::Ahead(HOUR - 1_000)];
        assert_eq!(watch.look(job, now + 2_000, second(3)), back);
        // However long a process was stopped.
        assert_eq!(watch.look(job, now + 2_000 + 5 * HOUR, second(3 + 5 * 3_600)), [ClockNews::CaughtUp]);
    }

    #[test]
    fn lengths_have_their_two_greatest_units() {
        let text = |ms| length(ms);
        assert_eq!([text(7), text(59_999), text(60_000), text(3_540_000)], ["7ms", "59s", "1m", "59m"]);
        assert_eq!([text(HOUR + 120_000), text(HOUR + 5_000), text(76 * HOUR)], ["1h 2m", "1h", "3d 4h"]);
    }
}
