//! When models are pulled.
//!
//! One thread of a process decides: at the start each model once, then as its `refresh` says, never two of a model at a
//! time. It opens a pull (lists files, reads footers), hands each worker a share to read on a thread of its own, and
//! hears how it ended. A first pull that fails ends the job; a later one is told in the log, and the last good snapshot
//! stays in force.

use crate::edge::rows::wanted;
use crate::job::{Failure, FailureKind, Status};
use crate::keeper::Span;
use crate::operators::keep::PullEnded;
use crate::operators::pull::{Outcome, PullError, Pulled, RowsRead, Share};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};
use timely::scheduling::SyncActivator;
use tracing::{info, warn};
use usher_config::Refresh;
use usher_connectors::snapshot::Warehouse;
use usher_queries::plan::Plan;

/// How soon the thread sees that the job has ended.
const LOOK: Duration = Duration::from_millis(100);

/// How one worker is sent rows.
pub(crate) struct Line {
    pub(crate) out: SyncSender<Pulled>,
    pub(crate) wake: SyncActivator,
}

struct Model {
    index: usize,
    id: String,
    warehouse: Warehouse,
    every: Option<Duration>,
    /// When it is due; none: while it is pulled, or when asked only.
    due: Option<Instant>,
    /// How many pulls were begun.
    begun: u64,
    good: bool,
    since: Instant,
}

/// Runs until the job ends.
pub(crate) fn run(
    plan: Arc<Plan>,
    span: Span,
    warehouses: Vec<Option<Warehouse>>,
    lines: Vec<Line>,
    ended: Receiver<PullEnded>,
    status: Arc<Status>,
) {
    let now = Instant::now();
    let mut models: Vec<Model> = Vec::new();
    for (index, warehouse) in warehouses.into_iter().enumerate() {
        let Some(warehouse) = warehouse else { continue };
        let id = plan.models[index].id.clone();
        let every = match (span, plan.job.models[&id].refresh) {
            (Span::Live, Refresh::Every(ms)) => Some(Duration::from_millis(ms)),
            _ => None,
        };
        models.push(Model { index, id, warehouse, every, due: Some(now), begun: 0, good: false, since: now });
    }
    loop {
        for model in models.iter_mut().filter(|model| model.due.is_some_and(|due| due <= Instant::now())) {
            model.begin(&plan, &lines, &status);
        }
        match ended.recv_timeout(LOOK) {
            Ok(PullEnded { model, outcome }) => {
                let model = models.iter_mut().find(|m| m.index == model).expect("only what was pulled ends");
                model.end(outcome, &status);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if status.aborted() || status.stopped() {
            return;
        }
    }
}

impl Model {
    fn begin(&mut self, plan: &Arc<Plan>, lines: &[Line], status: &Status) {
        self.since = Instant::now();
        self.begun += 1;
        self.due = None;
        let wanted = wanted(plan, self.index).expect("a model with Parquet has columns to read");
        let opened = match self.warehouse.pull(&wanted) {
            Ok(opened) => Arc::new(opened),
            Err(error) => return self.end(Err(error.into()), status),
        };
        for (worker, line) in lines.iter().enumerate() {
            let share = Share {
                plan: Arc::clone(plan),
                model: self.index,
                pull: self.begun,
                opened: Arc::clone(&opened),
                worker,
                peers: lines.len(),
                out: line.out.clone(),
                wake: line.wake.clone(),
            };
            std::thread::Builder::new()
                .name(format!("pull-{}", self.id))
                .spawn(|| share.read())
                .expect("the system can start a thread");
        }
    }

    fn end(&mut self, outcome: Outcome, status: &Status) {
        self.due = self.every.map(|every| self.since + every);
        let model = &self.id;
        match outcome {
            Ok(RowsRead { rows, skipped }) => {
                self.good = true;
                let took_ms = self.since.elapsed().as_millis() as u64;
                info!(model, rows, skipped, took_ms, "pulled");
            }
            Err(PullError { reason, hint }) if self.good => {
                let hint = hint.unwrap_or_default();
                warn!(model, reason, hint, "the pull failed; the last good snapshot stays in force");
            }
            Err(PullError { reason, hint }) => {
                let message = format!("model `{model}` could not be pulled: {reason}");
                status.fail(Failure { kind: FailureKind::FirstPull, message, hint });
            }
        }
    }
}
