//! Whether a sync sends now: its state, what it waits for, and how many requests may be on their way.
//!
//! * `ok`: as many as `concurrency`. After five failures of the endpoint in a row it is `open`.
//! * `open`: one change a step of the schedule, a probe. If one is delivered, it is `ok`, and 1, 2, 4, … requests may be on their way, up
//!   to `concurrency`, half as many after each failure: an endpoint that comes back is not run over.
//! * `rejecting`: over half of the last 50 keys, at least 20, were refused: it is the template or the endpoint, not the messages.
//!   It probes like `open`, and the first delivery ends it.
//! * `paused`: nothing, until it is resumed by hand. Survives restarts.
//!
//! Too many requests (429) is no failure: all wait as long as was asked, else a step of the schedule, and then half as many may be on
//! their way, one more after each delivery. Answers to requests that were on their way together are one step.

use super::schedule::{self, Schedule};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use usher_core::sink::SyncState;

/// Failures in a row that open it.
const FAILURES: u32 = 5;
/// Keys whose last outcome is known.
const KEYS: usize = 50;
/// Fewer keys say nothing of the endpoint.
const KEYS_LEAST: usize = 20;
/// The longest wait that is kept, of a destination that asks for more: beyond it a clock can't count.
const WAIT_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// So many requests may be on their way.
    Closed(usize),
    Open,
    Rejecting,
}

/// The state of one sync.
#[derive(Debug)]
pub(super) struct Breaker {
    schedule: Schedule,
    concurrency: usize,
    paused: bool,
    phase: Phase,
    /// Of the endpoint, since the last delivery or refusal.
    failures: u32,
    /// Waits for too many requests since the last other answer.
    throttles: u32,
    /// Whether fewer requests are on their way since there were too many.
    is_throttled: bool,
    /// Probes that failed.
    probes: u32,
    /// Nothing is sent before: the endpoint has asked for it.
    asked_until: Option<Instant>,
    /// No probe is sent before.
    probe_at: Option<Instant>,
    /// The last outcome of each of the last keys, by a hash: whether it was refused.
    keys: VecDeque<(u64, bool)>,
}

/// What may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowance {
    /// Nothing, until a time or until it is resumed.
    Nothing { until: Option<Instant> },
    /// One change, if no request is on its way.
    Probe,
    /// So many requests.
    Requests(usize),
}

impl Breaker {
    pub fn new(schedule: Schedule, concurrency: usize, paused: bool) -> Breaker {
        Breaker {
            schedule,
            concurrency,
            paused,
            phase: Phase::Closed(concurrency),
            failures: 0,
            throttles: 0,
            is_throttled: false,
            probes: 0,
            asked_until: None,
            probe_at: None,
            keys: VecDeque::with_capacity(KEYS),
        }
    }

    pub fn state(&self) -> SyncState {
        match self.phase {
            _ if self.paused => SyncState::Paused,
            Phase::Closed(_) => SyncState::Ok,
            Phase::Open => SyncState::Open,
            Phase::Rejecting => SyncState::Rejecting,
        }
    }

    pub fn allowance(&self, now: Instant) -> Allowance {
        if self.paused {
            return Allowance::Nothing { until: None };
        }
        let is_closed = matches!(self.phase, Phase::Closed(_));
        let probe_at = self.probe_at.filter(|_| !is_closed);
        let until = self.asked_until.into_iter().chain(probe_at).max();
        if let Some(until) = until.filter(|until| *until > now) {
            return Allowance::Nothing { until: Some(until) };
        }
        match self.phase {
            Phase::Closed(requests) => Allowance::Requests(requests),
            Phase::Open | Phase::Rejecting => Allowance::Probe,
        }
    }

    /// Takes a request that was delivered, of these keys (hashes).
    pub fn delivered(&mut self, keys: impl Iterator<Item = u64>) {
        keys.for_each(|key| self.outcome(key, false));
        self.answered();
        match self.phase {
            Phase::Closed(requests) => {
                let more = if self.is_throttled { requests + 1 } else { requests * 2 };
                self.is_throttled &= more < self.concurrency;
                self.phase = Phase::Closed(more.min(self.concurrency));
            }
            Phase::Open => self.phase = Phase::Closed(1),
            Phase::Rejecting => {
                self.keys.clear();
                self.phase = Phase::Closed(1);
            }
        }
        (self.probes, self.probe_at) = (0, None);
    }

    /// Takes a change that was refused, of a key (a hash). Returns whether its sync is `rejecting`.
    pub fn refused(&mut self, key: u64, now: Instant, random: f64) -> bool {
        self.outcome(key, true);
        self.answered();
        let refused = self.keys.iter().filter(|(_, refused)| *refused).count();
        let rejecting = self.keys.len() >= KEYS_LEAST && refused * 2 > self.keys.len();
        match self.phase {
            Phase::Rejecting => self.step(now, random),
            _ if rejecting => {
                self.phase = Phase::Rejecting;
                self.step(now, random);
            }
            // The endpoint answers again.
            Phase::Open => {
                self.phase = Phase::Closed(1);
                (self.probes, self.probe_at) = (0, None);
            }
            Phase::Closed(_) => {}
        }
        self.phase == Phase::Rejecting
    }

    /// Takes a failure of the endpoint, which may have asked for a wait.
    pub fn failed(&mut self, asked: Option<Duration>, now: Instant, random: f64) {
        self.failures += 1;
        self.throttles = 0;
        match self.phase {
            Phase::Closed(_) if self.failures >= FAILURES => {
                self.phase = Phase::Open;
                self.step(now, random);
            }
            Phase::Closed(requests) if requests < self.concurrency => self.phase = Phase::Closed((requests / 2).max(1)),
            Phase::Closed(_) => {}
            Phase::Open | Phase::Rejecting => self.step(now, random),
        }
        self.wait(asked.map(|asked| schedule::asked(asked, random)), now);
    }

    /// Takes an answer that the endpoint gets too many requests.
    pub fn throttled(&mut self, asked: Option<Duration>, now: Instant, random: f64) {
        // Those that were sent before it waits are answered while it does.
        if self.asked_until.is_none_or(|until| until <= now) {
            self.throttles += 1;
            self.is_throttled = true;
            if let Phase::Closed(requests) = self.phase {
                self.phase = Phase::Closed((requests / 2).max(1));
            }
        }
        let wait = match asked {
            Some(asked) => schedule::asked(asked, random),
            None => self.schedule.delay(self.throttles, random),
        };
        self.wait(Some(wait), now);
    }

    /// Returns until when the endpoint has asked to wait.
    pub fn asked_until(&self) -> Option<Instant> {
        self.asked_until
    }

    /// Waits on for what the endpoint has asked for in an earlier run.
    pub fn wait_on(&mut self, left: Duration, now: Instant) {
        self.wait(Some(left), now);
    }

    /// Pauses it, or ends the pause and all waiting.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
        if !paused {
            (self.asked_until, self.probe_at) = (None, None);
        }
    }

    fn answered(&mut self) {
        (self.failures, self.throttles) = (0, 0);
    }

    /// Waits for the next probe.
    fn step(&mut self, now: Instant, random: f64) {
        self.probes += 1;
        self.probe_at = Some(now + self.schedule.delay(self.probes, random));
    }

    fn wait(&mut self, wait: Option<Duration>, now: Instant) {
        if let Some(until) = wait.and_then(|wait| now.checked_add(wait.min(WAIT_MAX))) {
            self.asked_until = Some(self.asked_until.map_or(until, |before| before.max(until)));
        }
    }

    fn outcome(&mut self, key: u64, refused: bool) {
        self.keys.retain(|(known, _)| *known != key);
        if self.keys.len() == KEYS {
            self.keys.pop_front();
        }
        self.keys.push_back((key, refused));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule = Schedule { first: Duration::from_secs(1), most: Duration::from_secs(600) };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(SCHEDULE, 8, false);
        for failures in 0..5 {
            assert_eq!(breaker.state(), SyncState::Ok, "{failures}");
            breaker.failed(None, now, 1.0);
        }
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_one_probe_a_step_goes() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert_eq!(breaker.state(), SyncState::Open);
        assert_eq!(breaker.allowance(now), Allowance::Nothing { until: Some(now + seconds(1)) });
        assert_eq!(breaker.allowance(now + seconds(1)), Allowance::Probe);
        breaker.failed(None, now + seconds(1), 1.0);
        assert_eq!(breaker.allowance(now + seconds(2)), Allowance::Nothing { until: Some(now + seconds(3)) });
        assert_eq!(breaker.allowance(now + seconds(3)), Allowance::Probe);
    }

    #[test]
    fn a_delivery_or_a_refusal_between_failures_keeps_it_closed() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SCHEDULE, 8, false);
        for round in 0..20 {
            for _ in 0..4 {
                breaker.failed(None, now, 1.0);
            }
            if round % 2 == 0 {
                breaker.delivered([round].into_iter());
            } else {
                breaker.refused(7, now, 1.0);
            }
        }
        assert_eq!(breaker.state(), SyncState::Ok);
        assert_eq!(breaker.allowance(now), Allowance::Requests(8));
    }

    #[test]
    fn an_endpoint_that_comes_back_gets_more_and_more_and_one_that_fails_again_less() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let mut allowed = Vec::new();
        for _ in 0..5 {
            breaker.delivered(std::iter::empty());
            allowed.push(breaker.allowance(now));
        }
        assert_eq!(allowed, [1, 2, 4, 8, 8].map(Allowance::Requests));
        let mut breaker = opened(now);
        (0..3).for_each(|_| breaker.delivered(std::iter::empty()));
        breaker.failed(None, now, 1.0);
        assert_eq!(breaker.allowance(now), Allowance::Requests(2));
        (0..4).for_each(|_| breaker.failed(None, now, 1.0));
        assert_eq!(breaker.state(), SyncState::Open);
    }

    #[test]
    fn too_many_requests_only_wait_as_long_as_asked_or_a_step() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SCHEDULE, 8, false);
        for _ in 0..50 {
            breaker.throttled(Some(seconds(30)), now, 0.0);
        }
        assert_eq!(breaker.state(), SyncState::Ok);
        assert_eq!(breaker.allowance(now), Allowance::Nothing { until: Some(now + seconds(30)) });
        assert_eq!(breaker.allowance(now + seconds(30)), Allowance::Requests(4), "they are one step");
        let mut breaker = Breaker::new(SCHEDULE, 8, false);
        breaker.throttled(None, now, 1.0);
        breaker.throttled(None, now + seconds(1), 1.0);
        assert_eq!(breaker.allowance(now + seconds(1)), Allowance::Nothing { until: Some(now + seconds(3)) });
    }

    #[test]
    fn after_too_many_requests_half_as_many_go_and_one_more_after_each_delivery() {
        let mut now = Instant::now();
        let mut breaker = Breaker::new(SCHEDULE, 8, false);
        let mut allowed = Vec::new();
        for _ in 0..4 {
            breaker.throttled(None, now, 1.0);
            now += seconds(60);
            allowed.push(breaker.allowance(now));
        }
        assert_eq!(allowed, [4, 2, 1, 1].map(Allowance::Requests));
        allowed.clear();
        for _ in 0..8 {
            breaker.delivered(std::iter::empty());
            allowed.push(breaker.allowance(now));
        }
        assert_eq!(allowed, [2, 3, 4, 5, 6, 7, 8, 8].map(Allowance::Requests));
        breaker.throttled(None, now, 0.0);
        assert_eq!(breaker.allowance(now), Allowance::Requests(4), "it begins with a short wait again");
    }

    #[test]
    fn an_asked_wait_holds_whatever_is_delivered_meanwhile() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SCHEDULE, 8, false);
        (0..6).for_each(|_| breaker.failed(Some(seconds(60)), now, 0.0));
        breaker.delivered([1].into_iter());
        assert_eq!(breaker.allowance(now + seconds(59)), Allowance::Nothing { until: Some(now + seconds(60)) });
        breaker.failed(Some(Duration::MAX), now, 1.0);
        assert!(matches!(breaker.allowance(now + seconds(1 << 20)), Allowance::Nothing { until: Some(_) }));
    }

    #[test]
    fn over_half_of_at_least_twenty_keys_refused_is_rejecting_until_a_delivery() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SCHEDULE, 8, false);
        for key in 0..19 {
            assert!(!breaker.refused(key, now, 1.0), "{key}");
            assert!(!breaker.refused(key, now, 1.0), "the same key is one key");
        }
        assert!(breaker.refused(19, now, 1.0));
        assert_eq!(breaker.state(), SyncState::Rejecting);
        assert_eq!(breaker.allowance(now + seconds(1)), Allowance::Probe);
        assert!(breaker.refused(3, now + seconds(1), 1.0));
        assert_eq!(breaker.allowance(now + seconds(2)), Allowance::Nothing { until: Some(now + seconds(3)) });
        breaker.delivered([3].into_iter());
        assert_eq!(breaker.state(), SyncState::Ok);
        assert!(!breaker.refused(4, now, 1.0));
    }

    #[test]
    fn half_of_the_last_fifty_keys_refused_is_not_rejecting() {
        let now = Instant::now();
        let mut breaker = Breaker::new(SCHEDULE, 8, false);
        for key in 0..200 {
            breaker.delivered([2 * key].into_iter());
            assert!(!breaker.refused(2 * key + 1, now, 1.0), "{key}");
        }
    }

    #[test]
    fn paused_is_paused_until_resumed() {
        let now = Instant::now();
        let mut breaker = opened(now);
        breaker.pause(true);
        assert_eq!(breaker.state(), SyncState::Paused);
        assert_eq!(breaker.allowance(now + seconds(9)), Allowance::Nothing { until: None });
        breaker.pause(false);
        assert_eq!(breaker.allowance(now), Allowance::Probe, "at once");
    }
}
