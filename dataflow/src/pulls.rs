//! When models are pulled.
//!
//! One thread of the first process decides: at the start each model whose snapshot is not known or is due, then as its `refresh`
//! says, never two of a model at a time. It opens a pull (lists files, reads footers), hands each worker of its process a
//! share to read on a thread of its own, and hears how it ended. A first pull that fails ends the job; a later one is told in
//! the log, and the last good snapshot stays in force.

use crate::checkpoint::{PulledAt, WholePulls};
use crate::edge::rows::wanted;
use crate::engine::pull_log::{Cause, PullLog};
use crate::job::{Failure, FailureKind, Status};
use crate::keeper::Span;
use crate::operators::keep::PullEnded;
use crate::operators::pull::{Outcome, PullError, Pulled, RowsRead, Share};
use crate::time::Time;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};
use timely::scheduling::SyncActivator;
use tracing::{info, warn};
use usher_config::Refresh;
use usher_core::api::Extent;
use usher_core::clock::Clock;
use usher_core::warehouse::FileVersion;
use usher_core::warehouse::Warehouse;
use usher_queries::plan::Plan;

/// How soon the thread sees that the job has ended.
const LOOK: Duration = Duration::from_millis(100);

/// How one worker is sent rows.
pub(crate) struct Line {
    pub(crate) out: SyncSender<Pulled>,
    pub(crate) wake: SyncActivator,
}

pub(crate) struct PullsSetup {
    pub(crate) plan: Arc<Plan>,
    pub(crate) span: Span,
    pub(crate) clock: Arc<dyn Clock>,
    /// Per model, the pull of an earlier run that is in force.
    pub(crate) known: Vec<Option<PulledAt>>,
    /// Where pulls are noted for checkpoints.
    pub(crate) whole: WholePulls,
    /// Workers of all processes.
    pub(crate) peers: usize,
    pub(crate) status: Arc<Status>,
    /// What is told of pulls, and asked for.
    pub(crate) log: Arc<PullLog>,
}

struct Model {
    index: usize,
    id: String,
    warehouse: Box<dyn Warehouse>,
    every: Option<Duration>,
    /// When it is due; none: while it is pulled, or when asked only.
    due: Option<Instant>,
    /// How many pulls were begun.
    begun: u64,
    good: bool,
    running: bool,
    since: Instant,
    /// The files of the last pull that was begun, and of the snapshot in force where this run pulled it.
    files: Vec<FileVersion>,
    files_in_force: Option<Vec<FileVersion>>,
}

/// Runs until the job ends.
pub(crate) fn run(
    setup: PullsSetup,
    warehouses: Vec<Option<Box<dyn Warehouse>>>,
    lines: Vec<Line>,
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
            setup.log.known(index, pull.began, pull.rows);
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
    let mut cause = Cause::Start;
    models.iter().for_each(|model| model.say_due(&setup));
    loop {
        for model in models.iter_mut().filter(|model| model.due.is_some_and(|due| due <= Instant::now())) {
            model.begin(&setup, &lines, cause, Extent::Full);
        }
        cause = Cause::Schedule;
        for (index, extent) in setup.log.take_asked() {
            let model =
                models.iter_mut().find(|model| model.index == index).expect("only what has Parquet is asked for");
            // Who asks while one is running is served by that one.
            if !model.running {
                model.begin(&setup, &lines, Cause::Request, extent);
            }
        }
        match ended.recv_timeout(LOOK) {
            Ok(PullEnded { model, outcome }) => {
                let model = models.iter_mut().find(|m| m.index == model).expect("only what was pulled ends");
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
    fn begin(&mut self, setup: &PullsSetup, lines: &[Line], cause: Cause, extent: Extent) {
        let due = self.due.take();
        let since = std::mem::replace(&mut self.since, Instant::now());
        self.begun += 1;
        self.running = true;
        setup.log.begin(self.index, self.begun, setup.clock.now(), cause, extent == Extent::Full);
        let plan = &setup.plan;
        let wanted = wanted(plan, self.index).expect("a model with Parquet has columns to read");
        let snapshot = plan.models[self.index].snapshot.as_ref().expect("a model with Parquet has a snapshot");
        // Noted before anybody can switch to it; that it is in force is known from those who keep its rows.
        self.note(
            setup,
            PulledAt {
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
            // As if it had not been begun: what is in force is what is there.
            setup.log.unchanged(self.index, self.since.elapsed().as_millis() as u64);
            setup.whole.lock().expect("a panic ends the process").remove(&self.number());
            self.begun -= 1;
            (self.due, self.since, self.running) = (due, since, false);
            return;
        }
        setup.log.reads_all(self.index);
        for (reader, line) in lines.iter().enumerate() {
            let share = Share {
                plan: Arc::clone(plan),
                model: self.index,
                pull: self.begun,
                opened: Arc::clone(&opened),
                reader,
                readers: lines.len(),
                peers: setup.peers,
                out: line.out.clone(),
                wake: line.wake.clone(),
            };
            std::thread::Builder::new()
                .name(format!("pull-{}", self.id))
                .spawn(|| share.read())
                .expect("the system can start a thread");
        }
    }

    fn end(&mut self, outcome: Outcome, setup: &PullsSetup) {
        self.due = self.every.map(|every| self.since + every);
        self.running = false;
        self.say_due(setup);
        let took = self.since.elapsed().as_millis() as Time;
        match &outcome {
            Ok(read) => setup.log.succeeded(self.index, took, read.rows),
            Err(error) => setup.log.failed(self.index, took, error.reason.clone()),
        }
        let model = &self.id;
        match outcome {
            Ok(RowsRead { rows, skipped }) => {
                self.good = true;
                self.files_in_force = Some(std::mem::take(&mut self.files));
                let noted = setup.whole.lock().expect("a panic ends the process").get(&self.number()).cloned();
                self.note(setup, PulledAt { rows, took, ..noted.expect("it was noted when it began") });
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

    /// Notes when the next pull is due.
    fn say_due(&self, setup: &PullsSetup) {
        let left = |due: Instant| due.saturating_duration_since(Instant::now()).as_millis() as Time;
        setup.log.due(self.index, self.due.map(|due| setup.clock.now() + left(due)));
    }

    fn number(&self) -> (u32, u64) {
        (self.index as u32, self.begun)
    }

    fn note(&self, setup: &PullsSetup, pull: PulledAt) {
        setup.whole.lock().expect("a panic ends the process").insert(self.number(), pull);
    }
}
