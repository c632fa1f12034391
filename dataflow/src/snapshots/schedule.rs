//! Schedules pulls: when each model is pulled, and what becomes of it.
//!
//! One thread of the first process decides. At the start it pulls each model whose snapshot an earlier run did not leave
//! behind, or whose pull is due ([`due_at_start`]), and the job awaits these; then as `refresh` says; and when the API asks. It runs at most one pull of a model at a time. It
//! opens a pull (lists files, reads footers) and starts one or two threads for each worker of its process, each of which reads a share. A first
//! pull that fails or is held ends the job; after a later one, which is logged, the last good snapshot stays in force. One that failed is
//! tried again after [`RETRY_FIRST`], doubled up to `refresh`; one that was held is left until the next is due.

use crate::checkpoint::{FailedPull, PullRecord, SharedPulls};
use crate::failure::{Failure, FailureKind};
use crate::ingest::evaluate_rows::wanted;
use crate::ingest::known_rows::{Base, Comparison, KnownRows, can_compare, is_aggregated};
use crate::operators::snapshots::{
    EndOfPull, Outcome, PullError, PullShare, PullTerms, Reads, RowMessage, RowsPulled, Totals, end_unread,
};
use crate::snapshots::history::PullHistory;
use crate::snapshots::refusal::describe;
use crate::status::Status;
use crate::time::Span;
use crate::time::Time;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};
use timely::scheduling::SyncActivator;
use tracing::{info, warn};
use usher_config::{Members, Refresh, duration};
use usher_core::api::{Extent, PullOrder, Trigger};
use usher_core::clock::Clock;
use usher_core::lock::lock;
use usher_core::warehouse::{FileVersion, Snapshot, Version, Warehouse};
use usher_queries::plan::Plan;

/// When a pull that failed is tried again: `refresh` if that is less.
const RETRY_FIRST: Duration = Duration::from_secs(60);
/// How long the next try waits at most where `refresh` is `manual`.
const RETRY_LAST: Duration = Duration::from_secs(3_600);
/// How soon the thread notices that the job has ended, and that a pull is due.
const LOOK: Duration = Duration::from_millis(100);

/// What to do where the first pull of a start is held.
pub(crate) const HELD_AT_START: &str =
    "if that is right, leave out `max_exits` and `min_rows`, or set `min_rows: 0`, for one start";

/// What the thread is sent.
pub(crate) enum ScheduleMessage {
    Ended(PullEnded),
    /// The API asks for a pull: [`PullHistory::take_asked`] has it.
    Asked,
}

/// How a pull ended, on all workers.
#[derive(Clone, Debug)]
pub(crate) struct PullEnded {
    /// Index of the model in the plan.
    pub(crate) model: usize,
    pub(crate) outcome: Outcome,
}

/// Threads that read for one worker, at most: it stages rows about twice as fast as one of them reads.
const READERS_MAX: usize = 2;

/// The way of rows to one worker: a bounded channel, and what wakes the operator that reads it.
pub(crate) struct RowChannel {
    pub(crate) out: SyncSender<RowMessage>,
    pub(crate) wake: SyncActivator,
}

/// Returns how many threads read a pull for each of so many workers.
fn readers_per_worker(cores: usize, workers: usize) -> usize {
    (cores / workers).clamp(1, READERS_MAX)
}

/// What the thread needs.
pub(crate) struct ScheduleSetup {
    pub(crate) plan: Arc<Plan>,
    pub(crate) span: Span,
    pub(crate) clock: Arc<dyn Clock>,
    /// By model, the pulls of an earlier run; `None` if none of them is in force.
    pub(crate) earlier: Vec<Option<EarlierPulls>>,
    /// By model, whether a pull is due all the same ([`due_at_start`]).
    pub(crate) due: Vec<bool>,
    /// By model, whether a ledger has a member of one of its audiences.
    pub(crate) in_ledgers: Vec<bool>,
    /// What checkpoints keep of pulls.
    pub(crate) pulls: SharedPulls,
    /// The number of workers of all processes.
    pub(crate) peers: usize,
    /// Cores for this process.
    pub(crate) cores: usize,
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
    /// How many pulls have failed since the last that did not.
    failures: u32,
    /// When the last pull was begun.
    since: Instant,
    /// The pull that runs, once it has been opened.
    pull: Option<RunningPull>,
    /// The snapshot in force, if this run pulled it.
    in_force: Option<InForce>,
}

/// A pull that runs.
struct RunningPull {
    opened: Arc<dyn Snapshot>,
    reads: Reads,
    /// Of what is read whole: rows that are as in the snapshot in force are not sent.
    comparison: Option<Arc<Comparison>>,
    began: Time,
    terms: PullTerms,
}

/// A snapshot that is in force.
struct InForce {
    /// The number of its pull.
    pull: u64,
    files: Vec<FileVersion>,
    /// Of a table with versions it is held: a later one is read by how it differs.
    table: Option<(Version, Arc<dyn Snapshot>)>,
    /// What a later one is compared with as it is read.
    rows: Option<Arc<KnownRows>>,
}

/// The pulls of an earlier run, of one model.
#[derive(Clone, Debug)]
pub(crate) struct EarlierPulls {
    pub(crate) in_force: PullRecord,
    /// The last one, if it failed.
    pub(crate) failed: Option<FailedPull>,
}

impl EarlierPulls {
    /// Returns them if one is in force.
    pub(crate) fn of((in_force, failed): (Option<PullRecord>, Option<FailedPull>)) -> Option<EarlierPulls> {
        Some(EarlierPulls { in_force: in_force?, failed })
    }

    /// Returns how long after `clock` the next pull is due, of a model with this `refresh`; `None` if it is made on request only.
    fn due_in(&self, every: Option<Duration>, clock: Time) -> Option<Duration> {
        let since = |then: Time| Duration::from_millis(clock.saturating_sub(then));
        let refresh = |began: Time| every.map(|every| every.saturating_sub(since(began)));
        match &self.failed {
            None => refresh(self.in_force.began),
            Some(FailedPull { began, failures: 0, .. }) => refresh(*began),
            Some(FailedPull { began, took, failures, .. }) => {
                Some(retry(failures - 1, every).saturating_sub(since(began + took)))
            }
        }
    }
}

/// Returns, by model, whether a pull is due, of those of which one of an earlier run is in force.
pub(crate) fn due_at_start(plan: &Plan, span: Span, earlier: &[Option<EarlierPulls>], clock: Time) -> Vec<bool> {
    let is_due = |(model, pulls): (usize, &Option<EarlierPulls>)| {
        let due_in = pulls.as_ref().and_then(|pulls| pulls.due_in(every(plan, span, model), clock));
        due_in.is_some_and(|left| left.is_zero())
    };
    earlier.iter().enumerate().map(is_due).collect()
}

/// Returns a model's `refresh`, if it is an interval.
fn every(plan: &Plan, span: Span, model: usize) -> Option<Duration> {
    match (span, plan.job.models[&plan.models[model].id].refresh) {
        (Span::Live, Refresh::Every(ms)) => Some(Duration::from_millis(ms)),
        _ => None,
    }
}

/// Schedules pulls until the job ends. `warehouses` are by model, `channels` by worker of this process.
pub(crate) fn run(
    setup: ScheduleSetup,
    warehouses: Vec<Option<Box<dyn Warehouse>>>,
    channels: Vec<RowChannel>,
    messages: Receiver<ScheduleMessage>,
) {
    let (now, clock) = (Instant::now(), setup.clock.now());
    let mut models: Vec<Model> = Vec::new();
    for (index, warehouse) in warehouses.into_iter().enumerate() {
        let Some(warehouse) = warehouse else { continue };
        let id = setup.plan.models[index].id.clone();
        let every = every(&setup.plan, setup.span, index);
        let earlier = setup.earlier[index].as_ref();
        let due = match earlier {
            Some(pulls) if !setup.due[index] => pulls.due_in(every, clock).map(|left| now + left),
            _ => Some(now),
        };
        if let Some(EarlierPulls { in_force, failed }) = earlier {
            setup.history.restored(index, in_force.began, in_force.rows);
            setup.history.restored_failure(index, failed.as_ref().map(|failed| failed.reason.clone()));
        }
        let good = earlier.is_some();
        let failures = earlier.and_then(|pulls| Some(pulls.failed.as_ref()?.failures)).unwrap_or(0);
        models.push(Model {
            index,
            id,
            warehouse,
            every,
            due,
            begun: 0,
            good,
            running: false,
            failures,
            since: now,
            pull: None,
            in_force: None,
        });
    }
    let mut trigger = Trigger::Start;
    models.iter().for_each(|model| model.publish_due(&setup));
    loop {
        for model in models.iter_mut().filter(|model| model.due.is_some_and(|due| due <= Instant::now())) {
            model.begin(&setup, &channels, trigger, PullOrder { extent: Extent::Full, accept: false });
        }
        trigger = Trigger::Schedule;
        for (index, order) in setup.history.take_asked() {
            let model = models
                .iter_mut()
                .find(|model| model.index == index)
                .expect("only a model with Parquet can be asked for");
            // A request while one is running is served by that one, unless that one is judged and this one is not.
            match model.running {
                false => model.begin(&setup, &channels, Trigger::Request, order),
                true if order.accept => setup.history.put_back(index, order),
                true => {}
            }
        }
        match messages.recv_timeout(LOOK) {
            Ok(ScheduleMessage::Ended(PullEnded { model, outcome })) => {
                let model = models.iter_mut().find(|m| m.index == model).expect("only a model with Parquet is pulled");
                model.end(outcome, &setup, &channels);
            }
            Ok(ScheduleMessage::Asked) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if setup.status.aborted() || setup.status.stopped() {
            return;
        }
    }
}

impl Model {
    /// Begins a pull: threads of this process read a share each.
    fn begin(&mut self, setup: &ScheduleSetup, channels: &[RowChannel], trigger: Trigger, order: PullOrder) {
        let extent = order.extent;
        let due = self.due.take();
        let since = std::mem::replace(&mut self.since, Instant::now());
        self.begun += 1;
        self.running = true;
        let began = setup.clock.now();
        setup.history.begin(self.index, self.begun, began, trigger, extent == Extent::Full);
        let plan = &setup.plan;
        let wanted = wanted(plan, self.index).expect("a model with Parquet has columns to read");
        let snapshot = plan.models[self.index].snapshot.as_ref().expect("a model with Parquet has a snapshot");
        // Before a worker can switch to it. Which pull is in force is decided by the workers.
        self.record(
            setup,
            PullRecord {
                parquet: snapshot.parquet.clone(),
                include: snapshot.include.iter().map(|(name, _)| name.clone()).collect(),
                began,
                took: 0,
                rows: 0,
            },
        );
        let opened = match self.warehouse.open(&wanted) {
            Ok(opened) => opened,
            // The workers say that it has ended: the start awaits it on all of them.
            Err(error) if self.good => {
                let end = EndOfPull::unread(self.index, self.begun, began, self.in_force_number(), error);
                return end_unread(&end, setup.peers, &channels[0].out, &channels[0].wake);
            }
            Err(error) => return self.end(Err(error.into()), setup, channels),
        };
        let version = opened.version();
        setup.history.reads_version(self.index, version.map(|version| version.number));
        // A version never changes: it need not be read again even if all is to be read.
        let is_unchanged = |in_force: &InForce| match version {
            Some(version) => in_force.table.as_ref().is_some_and(|(in_force, _)| in_force == version),
            None => extent == Extent::Partial && in_force.files == opened.files(),
        };
        if self.in_force.as_ref().is_some_and(is_unchanged) {
            // As if it had not been begun: the snapshot in force is the same.
            setup.history.unchanged(self.index, self.since.elapsed().as_millis() as u64);
            let (model, pulls) = (self.index as u32, &mut *lock(&setup.pulls));
            pulls.whole.remove(&self.number());
            pulls.failed.remove(&model);
            self.begun -= 1;
            (self.since, self.running) = (since, false);
            let was_due = due.is_some_and(|due| due <= Instant::now());
            // What was to be tried again is no longer wrong, and what was due has been done.
            let is_over = std::mem::take(&mut self.failures) > 0 || was_due;
            self.due = if is_over { self.every.map(|every| Instant::now() + every) } else { due };
            self.publish_due(setup);
            return;
        }
        let terms = if order.accept { PullTerms::default() } else { self.terms(setup) };
        let asks_for_all = trigger == Trigger::Request && extent == Extent::Full;
        let difference = if asks_for_all { None } else { self.difference(setup, &opened) };
        let reads = difference.unwrap_or_else(|| Reads::Whole(Arc::clone(&opened)));
        let before = self.in_force.as_ref().and_then(|in_force| Some((in_force.pull, in_force.rows.clone()?)));
        let rows = setup.history.models()[self.index].rows();
        let before = before.and_then(|(pull, known)| Some((Base { pull, rows: rows? }, known)));
        let comparison = self.comparison(setup, &reads, before);
        self.read(setup, channels, RunningPull { opened, reads, comparison, began, terms });
    }

    /// Returns the comparison of what is read with the snapshot in force, if pulls of the model are compared. Versions of tables are not:
    /// how they differ is known without reading them.
    fn comparison(
        &self,
        setup: &ScheduleSetup,
        reads: &Reads,
        before: Option<(Base, Arc<KnownRows>)>,
    ) -> Option<Arc<Comparison>> {
        let Reads::Whole(opened) = reads else { return None };
        let is_compared =
            setup.span == Span::Live && opened.version().is_none() && can_compare(&setup.plan, self.index);
        is_compared.then(|| Arc::new(Comparison::new(self.begun, before)))
    }

    /// Returns how a snapshot differs from the one in force, if reading that is enough.
    fn difference(&self, setup: &ScheduleSetup, opened: &Arc<dyn Snapshot>) -> Option<Reads> {
        let plan = &setup.plan;
        // An aggregate over rows of this model has no inverse.
        if !plan.models[self.index].owns_rows() || is_aggregated(plan, self.index) {
            return None;
        }
        let InForce { pull, table: Some((from, _)), .. } = self.in_force.as_ref()? else { return None };
        let wanted = wanted(plan, self.index).expect("a model with Parquet has columns to read");
        let difference = self.warehouse.difference(from, opened.version()?, &wanted)?;
        let rows = setup.history.models()[self.index].rows()?;
        Some(Reads::Difference(difference, Base { pull: *pull, rows }))
    }

    /// Starts the threads that read a pull: for each worker of this process as many as there are cores for, up to [`READERS_MAX`].
    fn read(&mut self, setup: &ScheduleSetup, channels: &[RowChannel], pull: RunningPull) {
        setup.history.reads(self.index, self.begun, pull.reads.base().is_none());
        let of_each = readers_per_worker(setup.cores, channels.len());
        let rows_per_owner = pull.reads.rows() / setup.peers as u64;
        let totals = Arc::new(Totals::new(channels.len() * of_each, setup.peers));
        for channel in channels.iter().flat_map(|channel| std::iter::repeat_n(channel, of_each)) {
            let share = PullShare {
                plan: Arc::clone(&setup.plan),
                model: self.index,
                pull: self.begun,
                began: pull.began,
                terms: pull.terms,
                reads: pull.reads.clone(),
                comparison: pull.comparison.clone(),
                in_force: self.in_force_number(),
                totals: Arc::clone(&totals),
                peers: setup.peers,
                rows_per_owner,
                out: channel.out.clone(),
                wake: channel.wake.clone(),
            };
            std::thread::Builder::new()
                .name(format!("pull-{}", self.id))
                .spawn(|| share.read())
                .expect("the system can start a thread");
        }
        self.pull = Some(pull);
    }

    /// Reads and sends the whole snapshot, where the difference from the one in force could not be read, or is none.
    fn reads_whole(&mut self, pull: &RunningPull, setup: &ScheduleSetup, channels: &[RowChannel], why: &str) {
        info!(
            model = self.id,
            why, "the difference from the snapshot in force is not taken: the snapshot is read whole"
        );
        let recorded = lock(&setup.pulls).whole.remove(&self.number()).expect("it was recorded when it began");
        // What is still on its way of the difference is of another pull.
        self.begun += 1;
        self.record(setup, recorded);
        let RunningPull { opened, began, terms, .. } = pull;
        let (opened, began, terms) = (Arc::clone(opened), *began, *terms);
        let reads = Reads::Whole(Arc::clone(&opened));
        let comparison = self.comparison(setup, &reads, None);
        self.read(setup, channels, RunningPull { opened, reads, comparison, began, terms });
    }

    /// Returns what the next pull must meet. Under replay nothing is judged.
    fn terms(&self, setup: &ScheduleSetup) -> PullTerms {
        if setup.span != Span::Live {
            return PullTerms::default();
        }
        let model = &setup.plan.job.models[&self.id];
        let had_any = match setup.history.models()[self.index].rows() {
            Some(rows) => rows > 0,
            // Members of whom no row is known any more had rows.
            None => model.members == Members::Known && setup.in_ledgers[self.index],
        };
        PullTerms {
            rows_min: model.min_rows.map_or(u64::from(had_any), u64::from),
            // Where nothing is in force the ledgers judge, at the start.
            exits_max: model.max_exits.filter(|_| self.good),
        }
    }

    /// Ends the pull that is running.
    fn end(&mut self, outcome: Outcome, setup: &ScheduleSetup, channels: &[RowChannel]) {
        let took = self.since.elapsed().as_millis() as Time;
        let pull = self.pull.take();
        let error = match outcome {
            Ok(pulled) => return self.succeeded(pulled, pull.expect("it was opened"), took, setup),
            Err(error) => error,
        };
        let files = pull.as_ref().map_or(&[][..], |pull| pull.opened.files());
        let (reason, hint) = describe(&setup.plan, &self.id, files, &error);
        let is_judged = matches!(error, PullError::FewRows { .. } | PullError::Exits { .. });
        let is_difference = |pull: &&RunningPull| pull.reads.base().is_some() || error == PullError::NoDifference;
        if let Some(pull) = pull.as_ref().filter(is_difference).filter(|_| !is_judged) {
            return self.reads_whole(pull, setup, channels, &reason);
        }
        let (model, now) = (&self.id, Instant::now());
        self.running = false;
        self.due = self.every.map(|every| self.since + every);
        let held = match error {
            PullError::FewRows { rows, .. } | PullError::Exits { rows, .. } => Some(rows),
            PullError::Unreadable { .. } | PullError::RepeatedKey { .. } | PullError::NoDifference => None,
        };
        match held {
            Some(rows) => setup.history.held(self.index, took, rows, reason.clone()),
            None => setup.history.failed(self.index, took, reason.clone()),
        }
        if !self.good {
            let what = if held.is_some() { "is held" } else { "could not be pulled" };
            let message = format!("model `{model}` {what}: {reason}");
            // No API runs that could take an order.
            let hint = if held.is_some() { Some(HELD_AT_START.to_owned()) } else { hint };
            setup.status.fail(Failure { kind: FailureKind::FirstPull, message, hint });
            return;
        }
        if held.is_some() {
            self.failures = 0;
        } else {
            self.due = Some(now + retry(self.failures, self.every));
            self.failures += 1;
        }
        self.note_failure(setup, took, &reason);
        self.publish_due(setup);
        let next = match self.due {
            Some(due) => format!("in {}", duration::format(to_seconds(due.saturating_duration_since(now)))),
            None => "on request".to_owned(),
        };
        let hint = hint.unwrap_or_default();
        match held {
            Some(_) => warn!(model, reason, hint, next, "the pull is held; the last good snapshot stays in force"),
            None => warn!(model, reason, hint, next, "the pull failed; the last good snapshot stays in force"),
        }
    }

    /// Notes for the next start that the pull that has just ended failed.
    fn note_failure(&self, setup: &ScheduleSetup, took: Time, reason: &str) {
        let pulls = &mut *lock(&setup.pulls);
        let PullRecord { parquet, began, .. } =
            pulls.whole.remove(&self.number()).expect("it was recorded when it began");
        let failed = FailedPull { parquet, began, took, failures: self.failures, reason: reason.to_owned() };
        pulls.failed.insert(self.index as u32, failed);
    }

    /// Ends the pull that is running, which all workers take.
    fn succeeded(&mut self, pulled: RowsPulled, pull: RunningPull, took: Time, setup: &ScheduleSetup) {
        let RowsPulled { rows, read, sent, skipped } = pulled;
        self.running = false;
        self.due = self.every.map(|every| self.since + every);
        setup.history.succeeded(self.index, took, rows, read);
        (self.good, self.failures) = (true, 0);
        lock(&setup.pulls).failed.remove(&(self.index as u32));
        let RunningPull { opened, comparison, .. } = pull;
        let table = opened.version().cloned().map(|version| (version, Arc::clone(&opened)));
        let version = table.as_ref().map(|(version, _)| version.number);
        let known = comparison.map(|comparison| comparison.known());
        self.in_force = Some(InForce { pull: self.begun, files: opened.files().to_vec(), table, rows: known });
        let recorded = lock(&setup.pulls).whole.get(&self.number()).cloned();
        self.record(setup, PullRecord { rows, took, ..recorded.expect("it was recorded when it began") });
        info!(model = self.id, rows, read, sent, skipped, version, took_ms = took, "pulled");
        self.publish_due(setup);
    }

    /// Publishes when the next pull is due.
    fn publish_due(&self, setup: &ScheduleSetup) {
        let left = |due: Instant| due.saturating_duration_since(Instant::now()).as_millis() as Time;
        setup.history.due(self.index, self.due.map(|due| setup.clock.now() + left(due)));
    }

    /// Returns the number of the pull that is in force, if this run has made it; else 0.
    fn in_force_number(&self) -> u64 {
        self.in_force.as_ref().map_or(0, |in_force| in_force.pull)
    }

    /// Returns the model and the number of the last pull that was begun.
    fn number(&self) -> (u32, u64) {
        (self.index as u32, self.begun)
    }

    /// Records the pull for checkpoints.
    fn record(&self, setup: &ScheduleSetup, pull: PullRecord) {
        lock(&setup.pulls).whole.insert(self.number(), pull);
    }
}

/// Returns how long the next try waits after so many failures before the last one.
fn retry(failures: u32, every: Option<Duration>) -> Duration {
    let last = every.unwrap_or(RETRY_LAST);
    RETRY_FIRST.saturating_mul(1 << failures.min(16)).min(last)
}

/// Returns whole seconds, in ms; less than one as it is.
fn to_seconds(left: Duration) -> u64 {
    let ms = left.as_millis() as u64;
    if ms < 1_000 { ms } else { (ms + 500) / 1_000 * 1_000 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_has_two_readers_where_there_are_cores_for_them() {
        let readers = |cores| [1, 2, 4].map(|workers| readers_per_worker(cores, workers));
        assert_eq!([1, 2, 4, 16].map(readers), [[1, 1, 1], [2, 1, 1], [2, 2, 1], [2, 2, 2]]);
    }

    #[test]
    fn tries_are_a_minute_apart_then_twice_as_far_up_to_the_refresh() {
        let minutes = |every: Option<u64>| -> Vec<u64> {
            let every = every.map(|minutes| Duration::from_secs(60 * minutes));
            (0..8).map(|failures| retry(failures, every).as_secs() / 60).collect()
        };
        assert_eq!(minutes(Some(24 * 60)), [1, 2, 4, 8, 16, 32, 64, 128]);
        assert_eq!(minutes(Some(10)), [1, 2, 4, 8, 10, 10, 10, 10]);
        assert_eq!(minutes(None), [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(retry(0, Some(Duration::from_secs(5))), Duration::from_secs(5));
        assert_eq!(retry(u32::MAX, Some(Duration::from_secs(86_400))), Duration::from_secs(86_400));
    }
}
