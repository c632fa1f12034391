//! Pace: when an idle live job moves its clock.
//!
//! While something happens the workers of a process move their clocks every [`TICK`]. Once nothing has happened for [`AWAKE`] they
//! sleep: each wakes when something of its process changes by itself ([`Pace::publish_due`]), when a message comes or a request
//! asks for a fresh answer ([`Pace::stir`]), and at each multiple of [`IDLE`], at the same moment, so that they wake each other as
//! seldom as possible.
//!
//! Promises: what is due by the clock is given within a tick of when it is due, whether the job sleeps or not; a message is given
//! as soon as it is read. Holds an atomic per worker. A process of several does not hear of what is due in others: it sleeps for
//! [`IDLE_OF_SEVERAL`] at most. A clock that does not run by itself is never slept on.

use crate::time::Time;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use timely::scheduling::SyncActivator;
use usher_core::lock::lock;

/// How often a live job looks for messages and moves its clock while something happens, and a waiting replay looks again.
pub(crate) const TICK: Duration = Duration::from_millis(2);
/// How long the clock goes on in ticks after something has happened: traffic of some messages a second keeps it awake.
const AWAKE: Duration = Duration::from_millis(300);
/// How long the clock may stand, ms: as long as an answer of the API may be old that does not ask for a fresh one.
const IDLE: u64 = 250;
/// The same where other processes wait for this one's clock.
const IDLE_OF_SEVERAL: u64 = 5;
/// How often partitions that do not say when a message comes are looked at, …
const POLL: Duration = Duration::from_millis(20);
/// … and how much more seldom for each of them: a look costs a call of the system.
const POLL_OF_EACH: Duration = Duration::from_micros(50);

/// The pace of the workers of one process.
pub(crate) struct Pace {
    /// How long the clock may stand, ms; 0 if it may not.
    idle: AtomicU64,
    since: Instant,
    /// Until when the clock goes on in ticks: microseconds after `since`.
    awake_until: AtomicU64,
    /// By worker, the time at which something of its keys may change by itself; 0 if there is work.
    due: Vec<AtomicU64>,
    asleep: AtomicBool,
    wakes: Mutex<Vec<SyncActivator>>,
}

impl Pace {
    /// Returns the pace of so many workers, which do not sleep.
    pub(crate) fn new(workers: usize) -> Pace {
        Pace {
            idle: AtomicU64::new(0),
            since: Instant::now(),
            awake_until: AtomicU64::new(0),
            due: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            asleep: AtomicBool::new(false),
            wakes: Mutex::new(Vec::new()),
        }
    }

    /// Lets the workers sleep: the clock runs by itself. `several` if there are other processes.
    pub(crate) fn let_sleep(&self, several: bool) {
        self.idle.store(if several { IDLE_OF_SEVERAL } else { IDLE }, Ordering::Relaxed);
    }

    /// Adds what wakes a worker.
    pub(crate) fn add(&self, wake: SyncActivator) {
        lock(&self.wakes).push(wake);
    }

    /// Keeps the workers awake for a while, and wakes them; returns whether they slept.
    pub(crate) fn stir(&self) -> bool {
        let now = self.elapsed();
        let until = now + AWAKE.as_micros() as u64;
        // Written a few times a second, not with each message.
        if self.awake_until.load(Ordering::Relaxed) < now + AWAKE.as_micros() as u64 / 2 {
            self.awake_until.fetch_max(until, Ordering::AcqRel);
        }
        let slept = self.asleep.swap(false, Ordering::AcqRel);
        if slept {
            // A worker that has ended needs no waking.
            lock(&self.wakes).iter().for_each(|wake| {
                let _ = wake.activate();
            });
        }
        slept
    }

    /// Takes when something of a worker's keys may change by itself, `now` being the time that it has worked to.
    pub(crate) fn publish_due(&self, worker: usize, due: Time, now: Time) {
        let before = self.due[worker].swap(due, Ordering::AcqRel);
        if due <= now || due < before {
            self.wake_before(due, now);
        }
    }

    fn wake_before(&self, due: Time, now: Time) {
        let idle = self.idle.load(Ordering::Relaxed);
        if due <= now {
            self.stir();
        } else if due < now + idle && self.asleep.load(Ordering::Acquire) {
            // The others have gone to sleep for longer.
            lock(&self.wakes).iter().for_each(|wake| {
                let _ = wake.activate();
            });
        }
    }

    fn elapsed(&self) -> u64 {
        self.since.elapsed().as_micros() as u64
    }

    fn least_due(&self) -> Time {
        self.due.iter().map(|due| due.load(Ordering::Acquire)).min().unwrap_or(0)
    }

    /// Returns what a worker does that stands at `held` and has nothing to read. `polled` is the number of its partitions that do not say
    /// when a message comes.
    pub(crate) fn next(&self, held: Time, now: Time, polled: usize) -> Rest {
        let idle = self.idle.load(Ordering::Relaxed);
        let due = self.least_due();
        // What is due next is known once this move has brought what is due now.
        if idle == 0 || self.elapsed() < self.awake_until.load(Ordering::Acquire) || due <= now {
            self.asleep.store(false, Ordering::Release);
            return Rest::AWAKE;
        }
        self.asleep.store(true, Ordering::Release);
        // Looked at again: who has stirred in between has not woken this worker.
        if self.elapsed() < self.awake_until.load(Ordering::Acquire) {
            return Rest::AWAKE;
        }
        let moves = now / idle > held / idle;
        let until = due.min((now / idle + 1) * idle);
        let mut sleep = Duration::from_millis(until - now).max(Duration::from_millis(1));
        if polled > 0 {
            sleep = sleep.min(POLL.max(POLL_OF_EACH * polled as u32));
        }
        Rest { moves, sleeps: true, wait: sleep }
    }

    /// Returns since when something was due by itself that the clock of a worker brings when it moves from `held` to `clock`; `None` if
    /// nothing was.
    pub(crate) fn due_since(&self, held: Time, clock: Time) -> Option<Time> {
        Some(self.least_due().max(held)).filter(|due| *due <= clock)
    }
}

/// What a worker does that has nothing to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    /// Whether its clock moves to now.
    pub(crate) moves: bool,
    /// Whether it sleeps: until the wait is over nothing is due by itself.
    pub(crate) sleeps: bool,
    /// How long it waits, unless it is woken.
    pub(crate) wait: Duration,
}

impl Rest {
    /// The clock goes on in ticks.
    pub(crate) const AWAKE: Rest = Rest { moves: true, sleeps: false, wait: TICK };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asleep(workers: usize) -> Pace {
        let pace = Pace::new(workers);
        pace.let_sleep(false);
        (0..workers).for_each(|worker| pace.publish_due(worker, Time::MAX, 0));
        pace
    }

    fn sleeps(moves: bool, ms: u64) -> Rest {
        Rest { moves, sleeps: true, wait: Duration::from_millis(ms) }
    }

    #[test]
    fn a_clock_that_does_not_run_by_itself_is_not_slept_on() {
        let pace = Pace::new(1);
        pace.publish_due(0, Time::MAX, 0);
        assert_eq!(pace.next(1_000, 1_000, 0), Rest::AWAKE);
    }

    #[test]
    fn idle_workers_wake_at_the_same_moments_and_when_something_is_due() {
        let pace = asleep(2);
        assert_eq!(pace.next(1_000, 1_040, 0), sleeps(false, 210));
        assert_eq!(pace.next(1_000, 1_250, 0), sleeps(true, 250));
        pace.publish_due(1, 1_280, 1_250);
        assert_eq!(pace.next(1_250, 1_260, 0), sleeps(false, 20));
        assert_eq!(pace.next(1_250, 1_280, 0), Rest::AWAKE);
        pace.publish_due(1, 1_300, 1_280);
        assert_eq!(pace.next(1_280, 1_282, 0), sleeps(false, 18));
        assert_eq!(pace.next(1_280, 1_300, 0), Rest::AWAKE);
        pace.publish_due(1, 1_280, 1_250);
        assert_eq!([1_279, 1_280, 1_281].map(|clock| pace.due_since(1_250, clock)), [None, Some(1_280), Some(1_280)]);
        assert_eq!(pace.due_since(1_290, 1_300), Some(1_290), "it was due before");
        let pace = asleep(1);
        assert_eq!(pace.next(1_250, 1_260, 3), sleeps(false, 20));
        assert_eq!(pace.next(1_250, 1_260, 1_000), sleeps(false, 50));
    }

    #[test]
    fn workers_with_work_and_those_that_were_stirred_tick() {
        let pace = asleep(2);
        assert!(!pace.next(1_000, 1_010, 0).moves);
        assert!(pace.stir());
        assert!(!pace.stir());
        assert_eq!(pace.next(1_000, 1_010, 0), Rest::AWAKE);
        let pace = asleep(2);
        pace.publish_due(0, 0, 1_000);
        assert_eq!(pace.next(1_000, 1_010, 0), Rest::AWAKE);
    }
}
