//! Schedules pulls: when each model is pulled, and what becomes of it.
//!
//! One thread of the first process decides. At the start it pulls each model whose snapshot an earlier run did not leave
//! behind, or whose pull is due; then as `refresh` says; and when the API asks. It runs at most one pull of a model at a time. It
//! opens a pull (lists files, reads footers) and has each worker of its process read a share, on a thread of its own. A first
//! pull that fails ends the job; after a later one, which is logged, the last good snapshot stays in force.

use crate::checkpoint::{PullRecord, WholePulls};
use crate::failure::{Failure, FailureKind};
use crate::ingest::evaluate_rows::wanted;
use crate::operators::snapshots::{Outcome, PullError, PullShare, RowMessage, RowsRead};
use crate::snapshots::history::PullHistory;
use crate::status::Status;
use crate::time::Span;
use crate::time::Time;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};
use timely::scheduling::SyncActivator;
use tracing::{info, warn};
use usher_config::Refresh;
use usher_core::api::{Extent, Trigger};
use usher_core::clock::Clock;
use usher_core::lock::lock;
use usher_core::warehouse::{FileVersion, Warehouse};
use usher_queries::plan::Plan;

/// How soon the thread notices that the job has ended, and what the API asks for.
const LOOK: Duration = Duration::from_millis(100);

/// How a pull ended, on all workers.
#[derive(Clone, Debug)]
pub(crate) struct PullEnded {
    /// Index of the model in the plan.
    pub(crate) model: usize,
    pub(crate) outcome: Outcome,
}

/// The way of rows to one worker: a bounded channel, and what wakes the operator that reads it.
pub(crate) struct RowChannel {
    pub(crate) out: SyncSender<RowMessage>,
    pub(crate) wake: SyncActivator,
}

/// What the thread needs.
pub(crate) struct ScheduleSetup {
    pub(crate) plan: Arc<Plan>,
    pub(crate) span: Span,
    pub(crate) clock: Arc<dyn Clock>,
    /// By model, the pull of an earlier run that is in force.
    pub(crate) known: Vec<Option<PullRecord>>,
    /// The pulls that checkpoints may refer to.
    pub(crate) whole: WholePulls,
    /// The number of workers of all processes.
    pub(crate) peers: usize,
    pub(crate) status: Arc<Status>,
    /// What the API shows of pulls, and which ones it asks for.
    pub(crate) history: Arc<PullHistory>,
}

/// A model with Parquet.
struct Model {
    index: usize,
    id: String,
    warehouse: Box<dyn Warehouse>,
    /// Its `refresh`, if it is an interval.
    every: Option<Duration>,
    /// When the next pull is due; `None` while one is running, or if pulls are made on request only.
    due: Option<Instant>,
    /// The number of the last pull that was begun.
    begun: u64,
    /// Whether a snapshot is in force.
    good: bool,
    running: bool,
    /// When the last pull was begun.
    since: Instant,
    /// The files of the last pull that was begun, and of the snapshot in force if this run pulled it.
    files: Vec<FileVersion>,
    files_in_force: Option<Vec<FileVersion>>,
}

/// Schedules pulls until the job ends. `warehouses` are by model, `channels` by worker of this process.
pub(crate) fn run(
    setup: ScheduleSetup,
    warehouses: Vec<Option<Box<dyn Warehouse>>>,
    channels: Vec<RowChannel>,
    ended: Receiver<PullEnded>,
) {
    let (now, clock) = (Instant::now(), setup.clock.now());
    let mut models: Vec<Model> = Vec::new();
    for (index, warehouse) in warehouses.into_iter().enumerate() {
        let Some(warehouse) = warehouse else { continue };
        let id = setup.plan.models[index].id.clone();
        let every = match (setup.span, setup.plan.job.models[&id].refresh) {
            (Span::Live, Refresh::Every(ms)) => Some(Duration::from_millis(ms)),
            _ => None,
        };
        let known = setup.known[index].as_ref();
        let due = match (known, every) {
            (Some(pull), Some(every)) => {
                let age = Duration::from_millis(clock.saturating_sub(pull.began));
                Some(now + every.saturating_sub(age))
            }
            (Some(_), None) => None,
            (None, _) => Some(now),
        };
        if let Some(pull) = known {
            setup.history.restored(index, pull.began, pull.rows);
        }
        let (good, files, files_in_force) = (known.is_some(), Vec::new(), None);
        models.push(Model {
            index,
            id,
            warehouse,
            every,
            due,
            begun: 0,
            good,
            running: false,
            since: now,
            files,
            files_in_force,
        });
    }
    let mut trigger = Trigger::Start;
    models.iter().for_each(|model| model.publish_due(&setup));
    loop {
        for model in models.iter_mut().filter(|model| model.due.is_some_and(|due| due <= Instant::now())) {
            model.begin(&setup, &channels, trigger, Extent::Full);
        }
        trigger = Trigger::Schedule;
        for (index, extent) in setup.history.take_asked() {
            let model = models
                .iter_mut()
                .find(|model| model.index == index)
                .expect("only a model with Parquet can be asked for");
            // A request while one is running is served by that one.
            if !model.running {
                model.begin(&setup, &channels, Trigger::Request, extent);
            }
        }
        match ended.recv_timeout(LOOK) {
            Ok(PullEnded { model, outcome }) => {
                let model = models.iter_mut().find(|m| m.index == model).expect("only a model with Parquet is pulled");
                model.end(outcome, &setup);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if setup.status.aborted() || setup.status.stopped() {
            return;
        }
    }
}

impl Model {
    /// Begins a pull: a thread for each worker of this process reads a share.
    fn begin(&mut self, setup: &ScheduleSetup, channels: &[RowChannel], trigger: Trigger, extent: Extent) {
        let due = self.due.take();
        let since = std::mem::replace(&mut self.since, Instant::now());
        self.begun += 1;
        self.running = true;
        setup.history.begin(self.index, self.begun, setup.clock.now(), trigger, extent == Extent::Full);
        let plan = &setup.plan;
        let wanted = wanted(plan, self.index).expect("a model with Parquet has columns to read");
        let snapshot = plan.models[self.index].snapshot.as_ref().expect("a model with Parquet has a snapshot");
        // Before a worker can switch to it. Which pull is in force is decided by the workers.
        self.record(
            setup,
            PullRecord {
                parquet: snapshot.parquet.clone(),
                include: snapshot.include.iter().map(|(name, _)| name.clone()).collect(),
                began: setup.clock.now(),
                took: 0,
                rows: 0,
            },
        );
        let opened = match self.warehouse.open(&wanted) {
            Ok(opened) => opened,
            Err(error) => return self.end(Err(error.into()), setup),
        };
        self.files = opened.files().to_vec();
        if extent == Extent::Partial && self.files_in_force.as_ref() == Some(&self.files) {
            // As if it had not been begun: the snapshot in force has the same files.
            setup.history.unchanged(self.index, self.since.elapsed().as_millis() as u64);
            lock(&setup.whole).remove(&self.number());
            self.begun -= 1;
            (self.due, self.since, self.running) = (due, since, false);
            return;
        }
        setup.history.reads_all(self.index);
        for (reader, channel) in channels.iter().enumerate() {
            let share = PullShare {
                plan: Arc::clone(plan),
                model: self.index,
                pull: self.begun,
                opened: Arc::clone(&opened),
                reader,
                readers: channels.len(),
                peers: setup.peers,
                out: channel.out.clone(),
                wake: channel.wake.clone(),
            };
            std::thread::Builder::new()
                .name(format!("pull-{}", self.id))
                .spawn(|| share.read())
                .expect("the system can start a thread");
        }
    }

    /// Ends the pull that is running.
    fn end(&mut self, outcome: Outcome, setup: &ScheduleSetup) {
        self.due = self.every.map(|every| self.since + every);
        self.running = false;
        self.publish_due(setup);
        let took = self.since.elapsed().as_millis() as Time;
        match &outcome {
            Ok(read) => setup.history.succeeded(self.index, took, read.rows),
            Err(error) => setup.history.failed(self.index, took, error.reason.clone()),
        }
        let model = &self.id;
        match outcome {
            Ok(RowsRead { rows, skipped }) => {
                self.good = true;
                self.files_in_force = Some(std::mem::take(&mut self.files));
                let recorded = lock(&setup.whole).get(&self.number()).cloned();
                self.record(setup, PullRecord { rows, took, ..recorded.expect("it was recorded when it began") });
                info!(model, rows, skipped, took_ms = took, "pulled");
            }
            Err(PullError { reason, hint }) if self.good => {
                let hint = hint.unwrap_or_default();
                warn!(model, reason, hint, "the pull failed; the last good snapshot stays in force");
            }
            Err(PullError { reason, hint }) => {
                let message = format!("model `{model}` could not be pulled: {reason}");
                setup.status.fail(Failure { kind: FailureKind::FirstPull, message, hint });
            }
        }
    }

    /// Publishes when the next pull is due.
    fn publish_due(&self, setup: &ScheduleSetup) {
        let left = |due: Instant| due.saturating_duration_since(Instant::now()).as_millis() as Time;
        setup.history.due(self.index, self.due.map(|due| setup.clock.now() + left(due)));
    }

    /// Returns the model and the number of the last pull that was begun.
    fn number(&self) -> (u32, u64) {
        (self.index as u32, self.begun)
    }

    /// Records the pull for checkpoints.
    fn record(&self, setup: &ScheduleSetup, pull: PullRecord) {
        lock(&setup.whole).insert(self.number(), pull);
    }
}
