//! When a client looks at its topics: every so often, and less often while brokers do not answer.
//!
//! While no broker is connected, librdkafka (2.12) looks at a request of its admin interface again at each change of a broker's state, and
//! each look asks for a connection, which is such a change: two of its threads use half a core until the request's timeout. So a look
//! waits only [`ANSWER`] for an answer, and after looks without one the pauses grow to [`LONGEST`].

use std::time::{Duration, Instant};

/// How long an answer is waited for. One that is not there by then is there at the next look, or brokers are away.
pub(super) const ANSWER: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(10);

/// When to look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looks {
    every: Duration,
    pause: Duration,
    looked: Instant,
}

impl Looks {
    /// Begins with a look that was answered at `now`.
    pub(super) fn new(every: Duration, now: Instant) -> Looks {
        Looks { every, pause: every, looked: now }
    }

    /// Returns whether it is time to look.
    pub(super) fn due(&self, now: Instant) -> bool {
        self.left(now).is_zero()
    }

    /// Returns how long it is until then.
    pub(super) fn left(&self, now: Instant) -> Duration {
        (self.looked + self.pause).saturating_duration_since(now)
    }

    /// Notes a look, and whether it was answered.
    pub(super) fn looked(&mut self, answered: bool, now: Instant) {
        self.pause = if answered { self.every } else { (self.pause * 2).min(LONGEST.max(self.every)) };
        self.looked = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_nothing_answers_and_an_answer_ends_that() {
        let second = Duration::from_secs(1);
        let mut now = Instant::now();
        let mut looks = Looks::new(2 * second, now);
        let mut pauses = Vec::new();
        for answered in [false, false, false, false, true, false] {
            let since = now;
            while !looks.due(now) {
                now += second;
            }
            pauses.push((now - since).as_secs());
            looks.looked(answered, now);
        }
        assert_eq!(pauses, [2, 4, 8, 10, 10, 2]);
    }
}
