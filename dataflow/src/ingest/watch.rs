//! When a worker looks at its partitions, live.
//!
//! Promises: partitions that say when a message comes are looked at then, and once in [`LOOK`], since they say nothing of what else happens to
//! their topics. While one of them does not say it, all are looked at each time.

use crate::time::Time;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often partitions without a new message are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Since when something has been there that was not looked at.
const NOTHING: Time = Time::MAX;

/// What partitions note when a message comes.
pub(crate) struct Arrivals(AtomicU64);

impl Arrivals {
    /// Notes, on any thread, that a message came at a time, ms.
    pub(crate) fn note(&self, at: Time) {
        self.0.fetch_min(at, Ordering::AcqRel);
    }
}

/// Whether partitions are to be looked at.
pub(crate) struct Watch {
    arrivals: Arc<Arrivals>,
    silent: usize,
    looked: Instant,
    /// The clock then.
    looked_at: Time,
}

impl Watch {
    pub(crate) fn new(now: Instant) -> Watch {
        Watch { arrivals: Arc::new(Arrivals(AtomicU64::new(0))), silent: 0, looked: now, looked_at: 0 }
    }

    /// Returns where partitions note that a message came.
    pub(crate) fn arrivals(&self) -> Arc<Arrivals> {
        Arc::clone(&self.arrivals)
    }

    /// Notes that there may be more than has been looked at, since an unknown time.
    pub(crate) fn note_more(&self) {
        self.arrivals.note(0);
    }

    /// Sets how many partitions do not say when a message comes.
    pub(crate) fn set_silent(&mut self, silent: usize) {
        self.silent = silent;
    }

    /// Returns how many partitions do not say when a message comes.
    pub(crate) fn silent(&self) -> usize {
        self.silent
    }

    /// Returns whether partitions are to be looked at, `now` and at a time of the clock: then since when something may be there. What comes after
    /// the call is due at the next one.
    pub(crate) fn take_due(&mut self, now: Instant, time: Time) -> Option<Time> {
        let came = self.arrivals.0.swap(NOTHING, Ordering::AcqRel);
        let looks = self.silent > 0 || now.duration_since(self.looked) >= LOOK;
        if came == NOTHING && !looks {
            return None;
        }
        let since = if looks { came.min(self.looked_at) } else { came };
        (self.looked, self.looked_at) = (now, time);
        Some(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_looked_at_when_a_message_has_come_and_once_a_second() {
        let start = Instant::now();
        let mut watch = Watch::new(start);
        let due = |watch: &mut Watch, ms| watch.take_due(start + Duration::from_millis(ms), ms);
        assert_eq!(due(&mut watch, 0), Some(0), "at first something may be there");
        assert_eq!(due(&mut watch, 999), None);
        assert_eq!(due(&mut watch, 1_000), Some(0));
        assert_eq!(due(&mut watch, 1_999), None);
        watch.arrivals().note(1_500);
        watch.arrivals().note(1_600);
        assert_eq!(due(&mut watch, 1_999), Some(1_500), "the first that came");
        assert_eq!(due(&mut watch, 2_998), None, "a second is counted from the last look");
        watch.note_more();
        assert_eq!(due(&mut watch, 2_998), Some(0));
        watch.set_silent(1);
        assert_eq!(due(&mut watch, 3_000), Some(2_998), "one says nothing: it may have come since the last look");
        watch.arrivals().note(3_010);
        assert_eq!(due(&mut watch, 3_020), Some(3_000));
    }
}
