//! The history of pulls: when each model was pulled and how that ended, when the next pull is due, and which pulls the API asks
//! for.
//!
//! The scheduler writes it, the API reads it; other processes get copies. Holds the last [`KEPT`] pulls of each model.

use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Mutex;
use usher_core::api::{Extent, Freshness, Moment, Pull, PullCounts, PullOrder, PullResult, Trigger};
use usher_core::lock::lock;

/// Pulls of a model that are remembered: three months of daily ones.
const KEPT: usize = 100;
/// How late a pull may begin without being overdue, ms: the scheduler looks ten times a second, and machines stall.
const OVERDUE: Time = 5_000;

/// The history of all models, by index, and what is asked for.
pub(crate) struct PullHistory {
    models: Mutex<Vec<ModelPulls>>,
    asked: Mutex<Asked>,
}

/// What wakes the scheduler.
type Wake = Box<dyn Fn() + Send>;

/// The pulls that are asked for.
#[derive(Default)]
struct Asked {
    orders: Vec<(usize, PullOrder)>,
    /// Wakes the scheduler, while the job runs.
    wake: Option<Wake>,
}

/// The pulls of one model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelPulls {
    /// The newest first.
    pulls: VecDeque<Record>,
    /// When the snapshot in force was pulled, and the number of its rows.
    in_force: Option<(Time, u64)>,
    /// Why the last pull of an earlier run failed, if it did.
    failed_before: Option<String>,
    /// The version of the table that is in force, where it has versions and this run pulled it.
    version: Option<u64>,
    /// When the next pull is due; `None` if only on request.
    next: Option<Time>,
    /// How many pulls have begun.
    begun: u64,
    counts: PullCounts,
}

/// A pull.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    /// How many pulls had begun with it.
    serial: u64,
    /// Its number in this run, by which workers know it; 0 if the files were unchanged.
    number: u64,
    began: Time,
    trigger: Trigger,
    full: bool,
    /// The version of the table, where it has versions.
    version: Option<u64>,
    ended: Option<Ended>,
    /// Keys that it changed on the workers that have switched to it, which may be before it has ended here.
    changed_keys: Option<u64>,
}

/// How a pull ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Ended {
    /// In ms.
    took: u64,
    rows: Option<u64>,
    /// Those that were read.
    read: Option<u64>,
    error: Option<String>,
    /// Whether the brake held it.
    held: bool,
}

impl PullHistory {
    /// Returns the history of so many models that were never pulled.
    pub(crate) fn new(models: usize) -> PullHistory {
        PullHistory { models: Mutex::new(vec![ModelPulls::default(); models]), asked: Mutex::default() }
    }

    /// Returns the pulls of all models, by index.
    pub(crate) fn models(&self) -> Vec<ModelPulls> {
        self.lock().clone()
    }

    /// Replaces everything by what the first process has.
    pub(crate) fn replace(&self, models: Vec<ModelPulls>) {
        *self.lock() = models;
    }

    /// Says how what is asked for wakes the scheduler; not at all once the job has ended.
    pub(crate) fn wake_with(&self, wake: Option<Wake>) {
        lock(&self.asked).wake = wake;
    }

    /// Asks for a pull.
    pub(crate) fn ask(&self, model: usize, order: PullOrder) {
        let mut asked = lock(&self.asked);
        asked.orders.push((model, order));
        if let Some(wake) = &asked.wake {
            wake();
        }
    }

    /// Puts back what was asked for and has to wait.
    pub(crate) fn put_back(&self, model: usize, order: PullOrder) {
        lock(&self.asked).orders.push((model, order));
    }

    /// Returns whether a pull was asked for that has not begun.
    pub(crate) fn is_asked(&self, model: usize) -> bool {
        lock(&self.asked).orders.iter().any(|(asked, _)| *asked == model)
    }

    /// Returns the models that were asked for since the last call.
    pub(crate) fn take_asked(&self) -> Vec<(usize, PullOrder)> {
        std::mem::take(&mut lock(&self.asked).orders)
    }

    /// Records that the snapshot of an earlier run is in force.
    pub(crate) fn restored(&self, model: usize, began: Time, rows: u64) {
        self.lock()[model].in_force = Some((began, rows));
    }

    /// Records why the last pull of an earlier run failed, if it did.
    pub(crate) fn restored_failure(&self, model: usize, reason: Option<String>) {
        self.lock()[model].failed_before = reason;
    }

    /// Records when the next pull is due.
    pub(crate) fn due(&self, model: usize, next: Option<Time>) {
        self.lock()[model].next = next;
    }

    /// Records that a pull has begun.
    pub(crate) fn begin(&self, model: usize, number: u64, began: Time, trigger: Trigger, full: bool) {
        let model = &mut self.lock()[model];
        model.begun += 1;
        let serial = model.begun;
        let record = Record { serial, number, began, trigger, full, version: None, ended: None, changed_keys: None };
        model.pulls.push_front(record);
        model.pulls.truncate(KEPT);
    }

    /// Records the number of the running pull, and whether it reads all files.
    pub(crate) fn reads(&self, model: usize, number: u64, all: bool) {
        let mut models = self.lock();
        let running = models[model].running();
        (running.number, running.full) = (number, all);
    }

    /// Records the version of the table that the running pull reads.
    pub(crate) fn reads_version(&self, model: usize, version: Option<u64>) {
        self.lock()[model].running().version = version;
    }

    /// Ends the running pull, which found the files of the snapshot in force and read nothing.
    pub(crate) fn unchanged(&self, model: usize, took: u64) {
        let mut models = self.lock();
        let rows = models[model].in_force.map(|(_, rows)| rows);
        models[model].counts.succeeded += 1;
        let running = models[model].running();
        (running.number, running.changed_keys, running.full) = (0, Some(0), false);
        running.ended = Some(Ended { took, rows, read: Some(0), error: None, held: false });
    }

    /// Ends the running pull, which is in force now: the snapshot has so many rows, and so many were read.
    pub(crate) fn succeeded(&self, model: usize, took: u64, rows: u64, read: u64) {
        let mut models = self.lock();
        let model = &mut models[model];
        model.counts.succeeded += 1;
        let running = model.running();
        running.ended = Some(Ended { took, rows: Some(rows), read: Some(read), error: None, held: false });
        let (began, version) = (running.began, running.version);
        (model.in_force, model.version) = (Some((began, rows)), version);
    }

    /// Ends the running pull, which failed.
    pub(crate) fn failed(&self, model: usize, took: u64, error: String) {
        let ended = Ended { took, rows: None, read: None, error: Some(error), held: false };
        let mut models = self.lock();
        models[model].counts.failed += 1;
        models[model].running().ended = Some(ended);
    }

    /// Ends the running pull, which the brake held.
    pub(crate) fn held(&self, model: usize, took: u64, rows: u64, error: String) {
        let ended = Ended { took, rows: Some(rows), read: None, error: Some(error), held: true };
        let mut models = self.lock();
        models[model].counts.held += 1;
        models[model].running().ended = Some(ended);
    }

    /// Records that a worker has switched to a pull, which changed so many of its keys.
    pub(crate) fn switched(&self, model: usize, number: u64, changed: u64) {
        let mut models = self.lock();
        let mut pulls = models[model].pulls.iter_mut();
        if let Some(pull) = pulls.find(|pull| pull.number == number) {
            *pull.changed_keys.get_or_insert(0) += changed;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<ModelPulls>> {
        lock(&self.models)
    }
}

impl ModelPulls {
    /// Returns the pull that is running.
    fn running(&mut self) -> &mut Record {
        let newest = self.pulls.front_mut().filter(|pull| pull.ended.is_none());
        newest.expect("the newest pull is running")
    }

    /// Returns whether a pull is running.
    pub(crate) fn is_running(&self) -> bool {
        self.pulls.front().is_some_and(|pull| pull.ended.is_none())
    }

    /// Returns the number that the next pull will have.
    pub(crate) fn next_number(&self) -> u64 {
        self.begun + 1
    }

    /// Returns when the snapshot in force was pulled.
    pub(crate) fn last_pull(&self) -> Option<Time> {
        self.in_force.map(|(began, _)| began)
    }

    /// Returns when the next pull is due; `None` if only on request.
    pub(crate) fn next_pull(&self) -> Option<Time> {
        self.next
    }

    /// Returns the number of rows of the snapshot in force.
    pub(crate) fn rows(&self) -> Option<u64> {
        self.in_force.map(|(_, rows)| rows)
    }

    /// Returns the version of the table that is in force, where that is known.
    pub(crate) fn version(&self) -> Option<u64> {
        self.version
    }

    /// Returns how many pulls ended, and how.
    pub(crate) fn counts(&self) -> PullCounts {
        self.counts
    }

    /// Returns why the last pull that has ended failed or was held.
    pub(crate) fn last_error(&self) -> Option<&str> {
        match self.pulls.iter().find_map(|pull| pull.ended.as_ref()) {
            Some(last) => last.error.as_deref(),
            None => self.failed_before.as_deref(),
        }
    }

    /// Returns how fresh the snapshot in force is at a time.
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

    /// Returns the pulls, the newest first.
    pub(crate) fn history(&self) -> Vec<Pull> {
        let pull = |record: &Record| Pull {
            number: record.serial,
            date: Moment(record.began),
            status: match &record.ended {
                None => PullResult::Running,
                Some(Ended { error: None, .. }) => PullResult::Succeeded,
                Some(Ended { held: true, .. }) => PullResult::Held,
                Some(_) => PullResult::Failed,
            },
            trigger: record.trigger,
            extent: if record.full { Extent::Full } else { Extent::Partial },
            version: record.version,
            duration_ms: record.ended.as_ref().map(|ended| ended.took),
            rows: record.ended.as_ref().and_then(|ended| ended.rows),
            rows_read: record.ended.as_ref().and_then(|ended| ended.read),
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
    fn what_is_asked_for_wakes_the_scheduler_and_what_has_to_wait_does_not() {
        let history = PullHistory::new(2);
        let order = PullOrder { extent: Extent::Full, accept: true };
        history.ask(0, order);
        let (wakes, woken) = std::sync::mpsc::channel();
        history.wake_with(Some(Box::new(move || wakes.send(()).expect("it is received"))));
        history.ask(1, order);
        assert!(woken.try_recv().is_ok());
        assert_eq!(history.take_asked().iter().map(|(model, _)| *model).collect::<Vec<_>>(), [0, 1]);
        history.put_back(1, order);
        assert!(history.is_asked(1) && woken.try_recv().is_err());
        history.wake_with(None);
        history.ask(0, order);
        assert_eq!(history.take_asked().len(), 2);
    }

    #[test]
    fn a_model_is_as_fresh_as_its_last_pull() {
        let history = PullHistory::new(1);
        let freshness = |now| history.models()[0].freshness(now);
        assert_eq!(freshness(0), Freshness::Pending);
        history.begin(0, 1, 100, Trigger::Start, true);
        assert_eq!(freshness(100), Freshness::Refreshing);
        // A worker may switch before the scheduler has recorded the end.
        history.switched(0, 1, 2);
        history.succeeded(0, 7, 3, 3);
        history.switched(0, 1, 1);
        history.due(0, Some(1_100));
        assert_eq!((freshness(1_100), freshness(1_101 + OVERDUE)), (Freshness::Current, Freshness::Stale));
        history.begin(0, 2, 1_100, Trigger::Schedule, true);
        history.failed(0, 1, "it is gone".to_owned());
        assert_eq!(freshness(1_101), Freshness::Stale);
        assert_eq!(
            (history.models()[0].last_pull(), history.models()[0].rows()),
            (Some(100), Some(3)),
            "it stays in force"
        );
        history.begin(0, 3, 1_150, Trigger::Schedule, true);
        history.held(0, 1, 0, "it has no rows".to_owned());
        assert_eq!(freshness(1_151), Freshness::Stale);
        assert_eq!((history.models()[0].rows(), history.models()[0].last_error()), (Some(3), Some("it has no rows")));
        history.begin(0, 4, 1_200, Trigger::Request, false);
        history.unchanged(0, 1);
        assert_eq!(freshness(1_201), Freshness::Current, "the snapshot in force was found to be up to date");
        let pulls = history.models()[0].history();
        let changed: Vec<_> = pulls.iter().map(|pull| (pull.extent, pull.status, pull.changed_keys)).collect();
        assert_eq!(
            changed,
            [
                (Extent::Partial, PullResult::Succeeded, Some(0)),
                (Extent::Full, PullResult::Held, None),
                (Extent::Full, PullResult::Failed, None),
                (Extent::Full, PullResult::Succeeded, Some(3))
            ]
        );
        assert_eq!(history.models()[0].counts(), PullCounts { succeeded: 2, failed: 1, held: 1 });
        for number in 0..KEPT as u64 + 10 {
            history.begin(0, number, number, Trigger::Schedule, true);
            history.succeeded(0, 0, 0, 0);
        }
        assert_eq!(history.models()[0].history().len(), KEPT);
    }
}
