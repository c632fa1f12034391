//! The log of pulls: what was pulled when and how it ended, what is due, what is asked for.
//!
//! Written by the thread that pulls, read by whoever is asked. Holds the last [`KEPT`] pulls of each model.

use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Mutex;
use usher_core::api::{Extent, Freshness, Moment, Pull, PullResult, Trigger};

/// Pulls of a model that are remembered: three months of daily ones.
const KEPT: usize = 100;
/// How late a pull may begin and not be overdue, ms: the thread that pulls looks ten times a second, and machines stall.
const OVERDUE: Time = 5_000;

/// The log of all models.
pub(crate) struct PullLog {
    models: Mutex<Vec<ModelLog>>,
    asked: Mutex<Vec<(usize, Extent)>>,
}

/// What is known of one model's pulls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelLog {
    /// The newest first.
    pulls: VecDeque<Record>,
    /// When the snapshot in force was pulled, and its rows.
    in_force: Option<(Time, u64)>,
    /// When the next pull is due; none: when somebody asks.
    next: Option<Time>,
}

/// A pull.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    /// As the keepers know it; 0: it changed nothing.
    number: u64,
    began: Time,
    trigger: Cause,
    full: bool,
    ended: Option<Ended>,
    /// Keys of those workers that have switched to it; that may be known before its end is.
    changed_keys: Option<u64>,
}

/// What caused a pull, in a form that can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Cause {
    Start,
    Schedule,
    Request,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Ended {
    took: u64,
    rows: Option<u64>,
    error: Option<String>,
}

impl PullLog {
    pub(crate) fn new(models: usize) -> PullLog {
        PullLog { models: Mutex::new(vec![ModelLog::default(); models]), asked: Mutex::new(Vec::new()) }
    }

    /// What is known of all models, by index.
    pub(crate) fn models(&self) -> Vec<ModelLog> {
        self.lock().clone()
    }

    /// Takes over what the first process knows.
    pub(crate) fn replace(&self, models: Vec<ModelLog>) {
        *self.lock() = models;
    }

    /// Asks for a pull.
    pub(crate) fn ask(&self, model: usize, extent: Extent) {
        self.asked.lock().expect("nobody panics with the lock").push((model, extent));
    }

    /// What was asked for since the last call.
    pub(crate) fn take_asked(&self) -> Vec<(usize, Extent)> {
        std::mem::take(&mut self.asked.lock().expect("nobody panics with the lock"))
    }

    /// Says that the snapshot in force is that of an earlier run.
    pub(crate) fn known(&self, model: usize, began: Time, rows: u64) {
        self.lock()[model].in_force = Some((began, rows));
    }

    /// Says when the next pull is due.
    pub(crate) fn due(&self, model: usize, next: Option<Time>) {
        self.lock()[model].next = next;
    }

    pub(crate) fn begin(&self, model: usize, number: u64, began: Time, trigger: Cause, full: bool) {
        let pulls = &mut self.lock()[model].pulls;
        pulls.push_front(Record { number, began, trigger, full, ended: None, changed_keys: None });
        pulls.truncate(KEPT);
    }

    /// The pull that was begun reads everything.
    pub(crate) fn reads_all(&self, model: usize) {
        self.lock()[model].running().full = true;
    }

    /// The files are those of the snapshot in force: there was nothing to read.
    pub(crate) fn unchanged(&self, model: usize, took: u64) {
        let mut models = self.lock();
        let rows = models[model].in_force.map(|(_, rows)| rows);
        let running = models[model].running();
        (running.number, running.changed_keys) = (0, Some(0));
        running.ended = Some(Ended { took, rows, error: None });
    }

    pub(crate) fn succeeded(&self, model: usize, took: u64, rows: u64) {
        let mut models = self.lock();
        let model = &mut models[model];
        let running = model.running();
        running.ended = Some(Ended { took, rows: Some(rows), error: None });
        model.in_force = Some((running.began, rows));
    }

    pub(crate) fn failed(&self, model: usize, took: u64, error: String) {
        let ended = Ended { took, rows: None, error: Some(error) };
        self.lock()[model].running().ended = Some(ended);
    }

    /// A worker has switched to a pull, which said something new of so many of its keys.
    pub(crate) fn switched(&self, model: usize, number: u64, changed: u64) {
        let mut models = self.lock();
        let mut pulls = models[model].pulls.iter_mut();
        if let Some(pull) = pulls.find(|pull| pull.number == number) {
            *pull.changed_keys.get_or_insert(0) += changed;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<ModelLog>> {
        self.models.lock().expect("nobody panics with the lock")
    }
}

impl ModelLog {
    fn running(&mut self) -> &mut Record {
        let newest = self.pulls.front_mut().filter(|pull| pull.ended.is_none());
        newest.expect("only a pull that was begun goes on")
    }

    pub(crate) fn is_running(&self) -> bool {
        self.pulls.front().is_some_and(|pull| pull.ended.is_none())
    }

    pub(crate) fn last_pull(&self) -> Option<Time> {
        self.in_force.map(|(began, _)| began)
    }

    pub(crate) fn next_pull(&self) -> Option<Time> {
        self.next
    }

    pub(crate) fn rows(&self) -> Option<u64> {
        self.in_force.map(|(_, rows)| rows)
    }

    /// Why the last pull that has ended failed.
    pub(crate) fn last_error(&self) -> Option<&str> {
        let last = self.pulls.iter().find_map(|pull| pull.ended.as_ref());
        last.and_then(|ended| ended.error.as_deref())
    }

    pub(crate) fn freshness(&self, now: Time) -> Freshness {
        if self.is_running() {
            Freshness::Refreshing
        } else if self.last_error().is_some() || self.next.is_some_and(|next| next + OVERDUE < now) {
            Freshness::Stale
        } else if self.in_force.is_none() {
            Freshness::Pending
        } else {
            Freshness::Current
        }
    }

    /// The pulls, the newest first.
    pub(crate) fn history(&self) -> Vec<Pull> {
        let pull = |record: &Record| Pull {
            date: Moment(record.began),
            status: match &record.ended {
                None => PullResult::Running,
                Some(Ended { error: None, .. }) => PullResult::Succeeded,
                Some(_) => PullResult::Failed,
            },
            trigger: match record.trigger {
                Cause::Start => Trigger::Start,
                Cause::Schedule => Trigger::Schedule,
                Cause::Request => Trigger::Request,
            },
            extent: if record.full { Extent::Full } else { Extent::Partial },
            duration_ms: record.ended.as_ref().map(|ended| ended.took),
            rows: record.ended.as_ref().and_then(|ended| ended.rows),
            changed_keys: record.changed_keys,
            error: record.ended.as_ref().and_then(|ended| ended.error.clone()),
        };
        self.pulls.iter().map(pull).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_as_fresh_as_its_last_pull() {
        let log = PullLog::new(1);
        let freshness = |now| log.models()[0].freshness(now);
        assert_eq!(freshness(0), Freshness::Pending);
        log.begin(0, 1, 100, Cause::Start, true);
        assert_eq!(freshness(100), Freshness::Refreshing);
        // A worker may switch before the thread that pulls has heard of the end.
        log.switched(0, 1, 2);
        log.succeeded(0, 7, 3);
        log.switched(0, 1, 1);
        log.due(0, Some(1_100));
        assert_eq!((freshness(1_100), freshness(1_101 + OVERDUE)), (Freshness::Current, Freshness::Stale));
        log.begin(0, 2, 1_100, Cause::Schedule, true);
        log.failed(0, 1, "it is gone".to_owned());
        assert_eq!(freshness(1_101), Freshness::Stale);
        assert_eq!((log.models()[0].last_pull(), log.models()[0].rows()), (Some(100), Some(3)), "it stays in force");
        log.begin(0, 3, 1_200, Cause::Request, false);
        log.unchanged(0, 1);
        assert_eq!(freshness(1_201), Freshness::Current, "what is in force was looked at and found to be new");
        let history = log.models()[0].history();
        let changed: Vec<_> = history.iter().map(|pull| (pull.extent, pull.status, pull.changed_keys)).collect();
        assert_eq!(
            changed,
            [
                (Extent::Partial, PullResult::Succeeded, Some(0)),
                (Extent::Full, PullResult::Failed, None),
                (Extent::Full, PullResult::Succeeded, Some(3))
            ]
        );
        for number in 0..KEPT as u64 + 10 {
            log.begin(0, number, number, Cause::Schedule, true);
            log.succeeded(0, 0, 0);
        }
        assert_eq!(log.models()[0].history().len(), KEPT);
    }
}
