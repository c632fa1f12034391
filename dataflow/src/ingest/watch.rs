//! When a worker looks at its partitions, live.
//!
//! Promises: partitions that say when a message comes are looked at then, and once in [`LOOK`], since they say nothing of what else happens to
//! their topics. While one of them does not say it, all are looked at each time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often partitions without a new message are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Whether partitions are to be looked at.
pub(crate) struct Watch {
    has_come: Arc<AtomicBool>,
    silent: usize,
    looked: Instant,
}

impl Watch {
    pub(crate) fn new(now: Instant) -> Watch {
        Watch { has_come: Arc::new(AtomicBool::new(true)), silent: 0, looked: now }
    }

    /// Returns what partitions set when a message comes, on any thread.
    pub(crate) fn has_come(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.has_come)
    }

    /// Notes that there may be more than has been looked at.
    pub(crate) fn note_more(&self) {
        self.has_come.store(true, Ordering::Release);
    }

    /// Sets how many partitions do not say when a message comes.
    pub(crate) fn set_silent(&mut self, silent: usize) {
        self.silent = silent;
    }

    /// Returns how many partitions do not say when a message comes.
    pub(crate) fn silent(&self) -> usize {
        self.silent
    }

    /// Returns whether partitions are to be looked at now. What comes after the call makes the next one true.
    pub(crate) fn take_due(&mut self, now: Instant) -> bool {
        let has_come = self.has_come.swap(false, Ordering::AcqRel);
        let due = has_come || self.silent > 0 || now.duration_since(self.looked) >= LOOK;
        if due {
            self.looked = now;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_looked_at_when_a_message_has_come_and_once_a_second() {
        let start = Instant::now();
        let mut watch = Watch::new(start);
        let due = |watch: &mut Watch, ms| watch.take_due(start + Duration::from_millis(ms));
        assert!(due(&mut watch, 0), "at first something may be there");
        assert!(!due(&mut watch, 999));
        assert!(due(&mut watch, 1_000));
        assert!(!due(&mut watch, 1_999));
        watch.has_come().store(true, Ordering::Release);
        assert!(due(&mut watch, 1_999));
        assert!(!due(&mut watch, 2_998), "a second is counted from the last look");
        watch.note_more();
        assert!(due(&mut watch, 2_998));
        watch.set_silent(1);
        assert!(due(&mut watch, 2_998) && due(&mut watch, 2_998), "a followed file says nothing");
    }
}
