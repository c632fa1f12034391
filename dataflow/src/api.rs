//! What the HTTP edge asks of a running job, answered from its threads.
//!
//! A [`JobApi`] is made before the job runs, so that the edge can show its progress from the first moment; [`crate::run()`] takes
//! it along. What is counted is shared memory ([`Status`]); what only the owner of a key has is asked of its worker, through a
//! handle that wakes it, and answered between two steps ([`crate::control::queries`]). Promises: no method waits for a worker but
//! those that return a future; a job without an API does none of this.
//!
//! Of several processes each answers for the job: [`Api::owner`] returns the owner of a key, members are gathered from all workers
//! by control messages, pulls and syncs are those of the first process; sizes and changes the edge gathers itself from
//! [`Api::processes`]. Counts of messages and partitions are those of the process that is asked.

mod definition;
pub(crate) mod explain;

use crate::clock_watch;
use crate::control::message::{Counts as KeyCounts, Listed};
use crate::ingest::advice;
use crate::ingest::event_batch::{hash_key, owner};
use crate::ingest::seen::Seen;
use crate::operators::deliver::Sinks;
use crate::snapshots::history::{ModelPulls, PullHistory};
use crate::status::{Checkpoints, Status};
use crate::time::{Slot, Time};
use futures::channel::oneshot;
use futures::future::ready;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, OnceLock};
use timely::scheduling::SyncActivator;
use usher_config::{Audience, Refresh, duration};
use usher_core::api::{
    Api, ApiError, AudienceState, BoxFuture, CheckpointMetrics, Definition, EventReport, Explanation, Freshness,
    JobReport, Metrics, ModelStatus, Moment, Page, PartitionMetrics, PartitionReport, Pull, PullOrder, Readiness,
    SchemaReport, SourceReport, SyncReport, Windows,
};
use usher_core::catalog::Catalog;
use usher_core::clock::Clock;
use usher_core::counts::{Counts, Skip};
use usher_core::dead_letters::DeadLetterReason;
use usher_core::delivery::{Delivery, DeliveryOrder, DeliveryReply};
use usher_core::edit::{Differ, EditReport};
use usher_core::ledger::Ledger;
use usher_core::lock::lock;
use usher_core::membership_index::MembershipIndex;
use usher_core::schemas::{SchemaId, SchemaKind};
use usher_core::sink::SyncStatus;
use usher_core::source::SourceError;
use usher_queries::conditions::{Written, written};
use usher_queries::plan::{EventPlan, FactKind, ModelPlan, Plan};

/// Who answers for which part of a job.
pub struct ApiSetup {
    /// The time, as the job has it.
    pub clock: Arc<dyn Clock>,
    /// Worker threads of each process.
    pub workers: usize,
    /// Which process this is.
    pub process: usize,
    /// Where the API of each process is, `host:port`, this one's too. One where there are no others.
    pub addresses: Vec<String>,
    /// Part of the ids in the stream of changes: the time of the start, ms since the epoch.
    pub run: u64,
    /// What works out edits; `None` if the job keeps no state.
    pub differ: Option<Arc<dyn Differ>>,
}

/// For how long a sync delivers nothing before readiness says so, ms: an election or a restart of a broker takes less.
const STALLED: u64 = 10_000;

/// What the API asks.
pub struct JobApi(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) plan: Plan,
    pub(crate) index: Arc<MembershipIndex>,
    /// By model and audience, the conditions in the job file's words.
    pub(crate) written: Vec<Vec<Written>>,
    clock: Arc<dyn Clock>,
    /// Workers of a process.
    pub(crate) threads: usize,
    process: usize,
    addresses: Vec<String>,
    /// The time of the start, ms since the epoch.
    pub(crate) run: u64,
    differ: Option<Arc<dyn Differ>>,
    /// Whether an edit is being worked out: it takes as much memory as the job.
    is_diffing: Arc<AtomicBool>,
    pub(crate) pulls: Arc<PullHistory>,
    status: OnceLock<Arc<Status>>,
    /// Of the syncs that deliver by themselves, in the order of the job.
    deliveries: OnceLock<Vec<Option<Arc<dyn Delivery>>>>,
    /// Of processes other than the first: how the syncs stood in the latest report of the first.
    pub(crate) reported_syncs: Mutex<Vec<SyncStatus>>,
    /// By worker of this process; none: it does not answer yet, or no more.
    handles: Mutex<Vec<Option<WorkerHandle>>>,
}

/// How a worker is asked.
pub(crate) struct WorkerHandle {
    pub(crate) sender: Sender<WorkerRequest>,
    pub(crate) wake: SyncActivator,
}

/// What a worker is asked.
pub(crate) enum WorkerRequest {
    Explain(ExplainRequest),
    /// List members that `worker` owns, which may be another one.
    List {
        worker: u32,
        audience: u32,
        from: Slot,
        limit: usize,
        answer: oneshot::Sender<Listed>,
    },
    /// Count the keys of `worker`, which may be another one, that meet the conditions of an audience.
    Count {
        worker: u32,
        audience: u32,
        answer: oneshot::Sender<KeyCounts>,
    },
    /// Have the first process pull a model.
    Pull {
        model: usize,
        order: PullOrder,
    },
}

/// Why a key is in audiences.
pub(crate) struct ExplainRequest {
    pub(crate) model: usize,
    pub(crate) key: String,
    /// Of the model; `None` for all.
    pub(crate) audience: Option<usize>,
    pub(crate) answer: oneshot::Sender<Result<Explanation, ApiError>>,
}

pub(crate) fn not_live() -> ApiError {
    ApiError::Unavailable("the job is not live".to_owned())
}

/// The turn to work out an edit, which ends when it is dropped, in a panic too.
struct DiffTurn(Arc<AtomicBool>);

impl DiffTurn {
    /// Takes the turn; `None` while it is taken.
    fn take(is_diffing: &Arc<AtomicBool>) -> Option<DiffTurn> {
        (!is_diffing.swap(true, Ordering::AcqRel)).then(|| DiffTurn(Arc::clone(is_diffing)))
    }
}

impl Drop for DiffTurn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl JobApi {
    /// An engine for a job that is about to run.
    pub fn new(plan: &Plan, setup: ApiSetup) -> JobApi {
        let ApiSetup { clock, workers, process, addresses, run, differ } = setup;
        let handles = std::iter::repeat_with(|| None).take(workers).collect();
        JobApi(Arc::new(Inner {
            index: Arc::new(MembershipIndex::new(
                plan.job.catalog(),
                plan.job.models.keys().cloned(),
                plan.job.sources.keys().cloned(),
                workers,
                run,
            )),
            written: written(plan),
            plan: plan.clone(),
            clock,
            threads: workers,
            process,
            addresses,
            run,
            differ,
            is_diffing: Arc::default(),
            pulls: Arc::new(PullHistory::new(plan.models.len())),
            status: OnceLock::new(),
            deliveries: OnceLock::new(),
            reported_syncs: Mutex::new(vec![SyncStatus::default(); plan.job.syncs.len()]),
            handles: Mutex::new(handles),
        }))
    }

    /// The index that the job writes.
    pub fn index(&self) -> Arc<MembershipIndex> {
        Arc::clone(&self.0.index)
    }

    pub(crate) fn inner(&self) -> Arc<Inner> {
        Arc::clone(&self.0)
    }
}

/// What the states of all audiences are made from.
struct AudienceInputs {
    /// By model.
    fresh: Vec<Freshness>,
    /// Per model and fact, from when on the events of its window were read; empty before the start.
    fact_since: Vec<Vec<Time>>,
    /// By audience, the keys that are held until windows are complete; empty before workers have started.
    held: Vec<u64>,
    as_of: Time,
}

impl Inner {
    /// The job begins to run.
    pub(crate) fn run(
        self: &Arc<Inner>,
        status: &Arc<Status>,
        sinks: &Sinks,
        ledgers: &Arc<[Ledger]>,
        catalog: &Arc<Catalog>,
    ) {
        assert!(self.status.set(Arc::clone(status)).is_ok(), "it is for one run");
        let deliveries = lock(sinks).iter().map(|sink| sink.delivery()).collect();
        assert!(self.deliveries.set(deliveries).is_ok(), "it is for one run");
        if !ledgers.iter().any(|ledger| ledger.any) {
            return;
        }
        let (inner, ledgers, catalog) = (Arc::clone(self), Arc::clone(ledgers), Arc::clone(catalog));
        // It takes seconds with millions of memberships; the workers start meanwhile.
        std::thread::Builder::new()
            .name("ledgers".to_owned())
            .spawn(move || inner.serve_ledgers(&ledgers, &catalog))
            .expect("the system can start a thread");
    }

    /// Serves the memberships in the ledgers until the job is live.
    fn serve_ledgers(&self, ledgers: &[Ledger], catalog: &Catalog) {
        let clock = ledgers.iter().map(|ledger| ledger.clock).max().unwrap_or(0);
        let present = self.index.audiences().len() as u32;
        let members = ledgers.iter().flat_map(|ledger| {
            let of_job = |audience| catalog.index_in_ledger(audience).filter(|index| *index < present);
            let places: Vec<Option<u32>> = ledger.audiences.iter().map(of_job).collect();
            ledger.iter().filter_map(move |(audience, key)| Some((places[audience as usize]?, key)))
        });
        self.index.load_ledger(clock, members, self.addresses.len());
    }

    pub(crate) fn register(&self, worker: u32, handle: WorkerHandle) {
        lock(&self.handles)[worker as usize % self.threads] = Some(handle);
    }

    /// Ends the answers: the job has ended.
    pub(crate) fn end(&self) {
        lock(&self.handles).fill_with(|| None);
    }

    pub(crate) fn is_here(&self, worker: u32) -> bool {
        worker as usize / self.threads == self.process
    }

    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    /// Asks a worker of this process.
    fn ask(&self, worker: usize, request: WorkerRequest) -> Result<(), ApiError> {
        let handles = lock(&self.handles);
        let handle = handles[worker % self.threads].as_ref().ok_or_else(not_live)?;
        handle.sender.send(request).map_err(|_| not_live())?;
        handle.wake.activate().map_err(|_| not_live())
    }

    pub(crate) fn ask_for_pull(&self, model: usize, order: PullOrder) {
        self.pulls.ask(model, order);
    }

    /// How the syncs stand, in the order of the job.
    pub(crate) fn sync_statuses(&self) -> Vec<SyncStatus> {
        match self.status.get() {
            Some(status) if self.process == 0 => status.syncs(),
            _ => lock(&self.reported_syncs).clone(),
        }
    }

    /// Describes the sync that has delivered nothing for longest although it has something to deliver, if that is long.
    fn stalled(&self) -> Option<String> {
        let syncs = self.plan.job.syncs.keys().zip(self.sync_statuses());
        let (id, status) = syncs.max_by_key(|(_, status)| status.oldest_waiting_ms)?;
        if status.oldest_waiting_ms < STALLED {
            return None;
        }
        let (seconds, waiting) = (status.oldest_waiting_ms / 1_000, status.waiting);
        let reason = status.last_error.map_or(String::new(), |error| format!(": {error}"));
        Some(format!("live, but sync `{id}` has delivered nothing for {seconds} s, and {waiting} changes wait{reason}"))
    }

    fn model(&self, id: &str) -> usize {
        self.plan.models.iter().position(|model| model.id == id).expect("the server asks for the job's models")
    }

    /// The model of an audience, and its index there.
    pub(crate) fn audience(&self, id: &str) -> (usize, usize) {
        let place = |(index, model): (usize, &ModelPlan)| {
            Some((index, model.audiences.binary_search_by(|audience| audience.id[..].cmp(id)).ok()?))
        };
        self.plan.models.iter().enumerate().find_map(place).expect("the server asks for the job's audiences")
    }

    /// The facts that decide an audience, those of audiences that it mentions too.
    pub(crate) fn facts(model: &ModelPlan, audience: usize) -> BTreeSet<u32> {
        let (mut facts, mut next) = (BTreeSet::new(), vec![audience]);
        while let Some(audience) = next.pop() {
            let mut add = |fact| {
                facts.insert(fact);
            };
            model.audiences[audience].expr.leaves(&mut add, &mut |audience| next.push(audience as usize));
        }
        facts
    }

    fn audience_state(&self, model: usize, audience: usize, inputs: &AudienceInputs) -> AudienceState {
        let AudienceInputs { fresh, fact_since, held, as_of } = inputs;
        let plan = &self.plan.models[model];
        let mut freshness = Freshness::Current;
        let mut complete_at = 0;
        let is_known = !fact_since.is_empty();
        let facts = Inner::facts(plan, audience).into_iter();
        for (of, fact) in facts.flat_map(|fact| self.plan.deciding(model, fact)) {
            let pulled = match &self.plan.models[of].facts[fact as usize].kind {
                FactKind::Known | FactKind::Property(_) => Some(of),
                FactKind::Related { model, .. } | FactKind::Tallied { model, .. } => Some(*model as usize),
                kind => {
                    let within = kind.window().expect("a fact that no pull decides has a window");
                    let since = fact_since.get(of).map_or(0, |facts| facts[fact as usize]);
                    complete_at = complete_at.max(if since > 0 { since + within } else { 0 });
                    None
                }
            };
            if let Some(pulled) = pulled.filter(|pulled| self.plan.models[*pulled].snapshot.is_some()) {
                freshness = worse(freshness, fresh[pulled]);
            }
        }
        let complete = is_known && complete_at <= *as_of;
        let windows = Windows { complete, complete_at: (complete_at > *as_of).then_some(Moment(complete_at)) };
        let id = plan.audiences[audience].id.clone();
        let number = self.index.catalog().index(&id);
        let held = number.and_then(|number| held.get(number as usize)).copied().unwrap_or(0);
        let Audience { owner, tags, .. } = &self.plan.job.audiences[&id];
        AudienceState { owner: owner.clone(), tags: tags.clone(), id, freshness, windows, held }
    }

    fn freshness(&self) -> Vec<Freshness> {
        let now = self.now();
        self.pulls.models().iter().map(|log| log.freshness(now)).collect()
    }

    /// Lists members, worker by worker.
    async fn list(
        self: Arc<Inner>,
        audience: u32,
        Cursor { mut worker, mut slot, mut run }: Cursor,
        limit: usize,
    ) -> Result<Page, ApiError> {
        let peers = (self.threads * self.addresses.len()) as u32;
        let of_earlier = || ApiError::Wrong("the cursor is of an earlier run: start over".to_owned());
        // A run with more workers.
        if worker >= peers {
            return Err(of_earlier());
        }
        let (mut keys, mut as_of) = (Vec::new(), Time::MAX);
        // One more than asked for: without it this page is the last.
        let mut next_cursor = None;
        while worker < peers && keys.len() <= limit {
            let (answer, answered) = oneshot::channel();
            let (left, at) = (limit - keys.len(), (worker, slot));
            let limit = left.max(1);
            let asked = if self.is_here(worker) { worker as usize } else { 0 };
            self.ask(asked, WorkerRequest::List { worker, audience, from: slot, limit, answer })?;
            let listed = answered.await.map_err(|_| not_live())?;
            if listed.as_of == 0 {
                return Err(not_live());
            }
            if run.take().is_some_and(|run| run != listed.run) {
                return Err(of_earlier());
            }
            if left == 0 {
                next_cursor = Some(Cursor { worker: at.0, slot: at.1, run: Some(listed.run) }.to_string());
            }
            keys.extend(listed.keys);
            as_of = as_of.min(listed.as_of);
            (worker, slot) = match listed.next {
                Some(next) => (worker, next),
                None => (worker + 1, 0),
            };
        }
        let as_of = if as_of == Time::MAX { self.index.as_of().map_or(0, |as_of| as_of.time) } else { as_of };
        if keys.len() <= limit {
            next_cursor = None;
        }
        keys.truncate(limit);
        Ok(Page { as_of: Moment(as_of), keys, next_cursor })
    }

    /// Returns the index in the plan of the model of an audience, by the audience's number in the job.
    pub(crate) fn model_of(&self, audience: u32) -> usize {
        self.audience(self.index.catalog().id(audience)).0
    }
}

/// The staler of two.
fn worse(a: Freshness, b: Freshness) -> Freshness {
    let rank = |freshness| match freshness {
        Freshness::Current => 0,
        Freshness::Refreshing => 1,
        Freshness::Stale => 2,
        Freshness::Pending => 3,
    };
    if rank(b) > rank(a) { b } else { a }
}

/// Where a page of members begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cursor {
    worker: u32,
    slot: Slot,
    /// When the worker's process started; `None` at the start of all pages.
    run: Option<u64>,
}

impl Cursor {
    fn parse(text: &str) -> Option<Cursor> {
        let hex = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            digits.then(|| u64::from_str_radix(text, 16).ok()).flatten()
        };
        let mut parts = text.split('-').map(hex);
        let cursor = Cursor {
            worker: u32::try_from(parts.next()??).ok()?,
            slot: Slot::try_from(parts.next()??).ok()?,
            run: Some(parts.next()??),
        };
        parts.next().is_none().then_some(cursor)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cursor { worker, slot, run } = self;
        write!(f, "{worker:x}-{slot:x}-{:x}", run.unwrap_or_default())
    }
}

impl Api for JobApi {
    fn readiness(&self) -> Readiness {
        let not_yet = |detail: &str| Readiness { ready: false, detail: Some(detail.to_owned()) };
        let Some(status) = self.0.status.get() else { return not_yet("the job is being opened") };
        if status.stopped() || status.aborted() {
            return not_yet("the job is stopping");
        }
        if status.live() && self.0.index.as_of().is_some_and(|as_of| !as_of.recovering) {
            return Readiness { ready: true, detail: clock_ahead(status, "job").or_else(|| self.0.stalled()) };
        }
        if let Some(detail) = clock_ahead(status, "state") {
            return not_yet(&detail);
        }
        let (read, of) = status.bytes();
        match read < of {
            true => not_yet(&format!("the sources are being read: {read} of {of}")),
            false => not_yet("the sources have been read; snapshots are waited for, and who belongs is worked out"),
        }
    }

    fn wake(&self) -> bool {
        self.0.status.get().is_some_and(|status| status.live() && status.pace().stir())
    }

    fn models(&self) -> Vec<ModelStatus> {
        let inner = &*self.0;
        let now = inner.now();
        let status = |(plan, log): (&ModelPlan, ModelPulls)| {
            let model = &inner.plan.job.models[&plan.id];
            ModelStatus {
                id: plan.id.clone(),
                freshness: plan.snapshot.is_some().then(|| log.freshness(now)),
                refresh: match (&model.parquet, model.refresh) {
                    (None, _) => "never".to_owned(),
                    (Some(_), Refresh::Manual) => "manual".to_owned(),
                    (Some(_), Refresh::Every(ms)) => duration::format(ms),
                },
                last_pull: log.last_pull().map(Moment),
                next_pull: log.next_pull().map(Moment),
                rows: log.rows(),
                version: log.version(),
                last_error: log.last_error().map(str::to_owned),
                pulls: log.counts(),
            }
        };
        inner.plan.models.iter().zip(inner.pulls.models()).map(status).collect()
    }

    fn pulls(&self, model: &str) -> Vec<Pull> {
        self.0.pulls.models()[self.0.model(model)].history()
    }

    fn pull_now(&self, model: &str, order: PullOrder) -> BoxFuture<'static, Result<u64, ApiError>> {
        let inner = &*self.0;
        let index = inner.model(model);
        let asked = || {
            let conflict = |what: String| Err(ApiError::Conflict(what));
            if inner.plan.job.models[model].parquet.is_none() {
                return conflict(format!("`{model}` has no Parquet: it is never pulled"));
            }
            if inner.plan.models[index].snapshot.is_none() {
                return conflict(format!("no condition needs the rows of `{model}`: it is never pulled"));
            }
            let pulls = &inner.pulls.models()[index];
            if pulls.is_running() || inner.pulls.is_asked(index) {
                return conflict(format!("a pull of `{model}` is running"));
            }
            match inner.status.get() {
                Some(status) if !status.stopped() && !status.aborted() => {}
                _ => return Err(ApiError::Unavailable("the job does not run".to_owned())),
            }
            match inner.process {
                0 => inner.ask_for_pull(index, order),
                _ => inner.ask(0, WorkerRequest::Pull { model: index, order })?,
            }
            Ok(pulls.next_number())
        };
        Box::pin(std::future::ready(asked()))
    }

    fn audiences(&self, ids: Option<&[String]>) -> Vec<AudienceState> {
        let inner = &*self.0;
        let status = inner.status.get();
        let inputs = AudienceInputs {
            fresh: inner.freshness(),
            fact_since: status.map(|status| status.fact_since()).unwrap_or_default(),
            held: status.map(|status| status.held()).unwrap_or_default(),
            as_of: inner.index.as_of().map_or_else(|| inner.now(), |as_of| as_of.time),
        };
        if let Some(ids) = ids {
            let state = |id: &String| {
                let (model, audience) = inner.audience(id);
                inner.audience_state(model, audience, &inputs)
            };
            return ids.iter().map(state).collect();
        }
        let models = inner.plan.models.iter().enumerate();
        let of_model = |(model, plan): (usize, &ModelPlan)| {
            let state = |audience| inner.audience_state(model, audience, &inputs);
            (0..plan.audiences.len()).map(state).collect::<Vec<_>>()
        };
        let mut states: Vec<AudienceState> = models.flat_map(of_model).collect();
        states.sort_by(|a, b| a.id.cmp(&b.id));
        states
    }

    fn explain(
        &self,
        model: &str,
        key: &str,
        audience: Option<&str>,
    ) -> BoxFuture<'static, Result<Explanation, ApiError>> {
        let inner = &*self.0;
        let index = inner.model(model);
        let audience = match audience.map(|id| (id, inner.audience(id))) {
            Some((_, (of, audience))) if of == index => Ok(Some(audience)),
            Some((id, _)) => Err(ApiError::NotFound(format!("audience `{id}` is not about `{model}`"))),
            None => Ok(None),
        };
        let (answer, answered) = oneshot::channel();
        let peers = (inner.threads * inner.addresses.len()) as u32;
        let asked = audience.and_then(|audience| {
            let worker = owner(hash_key(key), peers);
            if !inner.is_here(worker) {
                return Err(not_live());
            }
            inner.ask(
                worker as usize,
                WorkerRequest::Explain(ExplainRequest { model: index, key: key.to_owned(), audience, answer }),
            )
        });
        Box::pin(async move {
            asked?;
            answered.await.unwrap_or_else(|_| Err(not_live()))
        })
    }

    fn members(
        &self,
        audience: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Page, ApiError>> {
        let audience = self.0.index.catalog().index(audience).expect("the edge asks for the job's audiences");
        let inner = self.inner();
        match cursor.map_or(Some(Cursor::default()), Cursor::parse) {
            Some(from) => Box::pin(inner.list(audience, from, limit)),
            None => Box::pin(std::future::ready(Err(ApiError::Wrong("the cursor is none of this API's".to_owned())))),
        }
    }

    fn definition(&self, audience: &str) -> BoxFuture<'static, Result<Definition, ApiError>> {
        Box::pin(Arc::clone(&self.0).definition(audience.to_owned()))
    }

    fn job(&self) -> JobReport {
        self.0.job()
    }

    fn syncs(&self) -> Vec<SyncReport> {
        let syncs = self.0.plan.job.syncs.keys().zip(self.0.sync_statuses());
        syncs.map(|(id, standing)| SyncReport::of(id, &standing)).collect()
    }

    fn delivery(&self, sync: &str, order: DeliveryOrder) -> BoxFuture<'static, Result<DeliveryReply, ApiError>> {
        let index =
            self.0.plan.job.syncs.keys().position(|id| id == sync).expect("the server asks for the job's syncs");
        let Some(deliveries) = self.0.deliveries.get() else { return Box::pin(ready(Err(not_live()))) };
        match deliveries.get(index).and_then(Option::as_ref) {
            Some(delivery) => delivery.order(order),
            None => {
                let reason =
                    format!("the sync `{sync}` goes to no webhook: its destination takes changes as they come");
                Box::pin(ready(Err(ApiError::Conflict(reason))))
            }
        }
    }

    fn diff(&self, plan: Vec<u8>, read: bool) -> BoxFuture<'static, Result<EditReport, ApiError>> {
        let conflict = |what: &str| -> BoxFuture<'static, Result<EditReport, ApiError>> {
            Box::pin(ready(Err(ApiError::Conflict(what.to_owned()))))
        };
        let Some(differ) = self.0.differ.clone() else { return conflict("the job keeps no state") };
        let Some(turn) = DiffTurn::take(&self.0.is_diffing) else {
            return conflict("another edit is being worked out");
        };
        let (answer, answered) = oneshot::channel();
        let work = move || {
            let report = differ.diff(&plan, read, &|| answer.is_canceled());
            drop(turn);
            // The client may have gone.
            let _ = answer.send(report);
        };
        std::thread::Builder::new().name("diff".to_owned()).spawn(work).expect("the system can start a thread");
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(not_live())) })
    }

    fn metrics(&self) -> Metrics {
        let inner = &*self.0;
        let now = inner.now();
        let mut messages: BTreeMap<String, Counts> =
            inner.plan.job.sources.keys().map(|id| (id.clone(), Counts::default())).collect();
        let mut partitions = Vec::new();
        let mut damaged: BTreeMap<String, u64> = inner.plan.job.sources.keys().map(|id| (id.clone(), 0)).collect();
        if let Some(status) = inner.status.get() {
            for (source, counts) in inner.plan.job.sources.keys().zip(status.messages()) {
                *messages.entry(source.clone()).or_default() += counts;
            }
            for (event, counts) in inner.plan.events.iter().zip(status.event_counts()) {
                // Which of an event's sources a repeat came from is not kept: the first stands for all.
                messages.entry(event.sources[0].clone()).or_default().repeats += counts.repeated_messages;
            }
            for (_, damage) in status.damaged_files() {
                if let SourceError::Damaged { id, .. } = damage {
                    *damaged.entry(id).or_default() += 1;
                }
            }
            partitions.extend(status.partitions().into_iter().map(|partition| PartitionMetrics {
                source: partition.id.source,
                partition: partition.id.name,
                position: partition.position,
                lag_messages: partition.lag,
                lag_ms: partition.newest.map(|newest| now.saturating_sub(newest)),
            }));
        }
        let Checkpoints { made, failed, took, bytes, started, last } =
            inner.status.get().map(|status| status.checkpoints()).unwrap_or_default();
        let checkpoints = CheckpointMetrics {
            made,
            failed,
            age_ms: last.or(started).map(|since| since.elapsed().as_millis() as u64),
            took_ms: last.map(|_| took.as_millis() as u64),
        };
        let clock_ahead_ms = inner.status.get().map_or(0, |status| status.clock_ahead());
        Metrics {
            messages: messages.into_iter().collect(),
            partitions,
            damaged_files: damaged.into_iter().collect(),
            clock_ahead_ms,
            state_bytes: bytes,
            checkpoints,
        }
    }

    fn events(&self) -> Vec<EventReport> {
        let inner = &*self.0;
        let Some(status) = inner.status.get() else { return Vec::new() };
        let (seen, counts) = (status.seen(), status.event_counts());
        let of_source = |id: &str| inner.plan.job.sources.keys().position(|source| source == id);
        let report = |(number, event): (usize, &EventPlan)| {
            let of_sources = event.sources.iter().filter_map(|id| seen.get(of_source(id)?));
            let (mut matched, mut last, mut near) = (0, None, Vec::new());
            for seen in of_sources {
                let one = seen.event(number);
                matched += one.matched;
                last = last.max(one.last);
                near.extend(advice::near(event, &seen.names()));
            }
            let counts = counts.get(number).copied().unwrap_or_default();
            let has_snapshot = inner.plan.models[event.model as usize].snapshot.is_some();
            EventReport {
                id: event.id.clone(),
                source: event.sources.join(", "),
                matched,
                repeats: counts.repeats,
                without_row: has_snapshot.then_some(counts.without_row),
                last_seen: last.map(Moment),
                near,
            }
        };
        let mut reports: Vec<EventReport> = inner.plan.events.iter().enumerate().map(report).collect();
        reports.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        reports
    }

    fn sources(&self) -> Vec<SourceReport> {
        let inner = &*self.0;
        let now = inner.now();
        let Some(status) = inner.status.get() else { return Vec::new() };
        let (messages, seen) = (status.messages(), status.seen());
        let (partitions, damaged) = (status.partitions(), status.damaged_files());
        let report = |(index, id): (usize, &String)| {
            let counts = messages.get(index).copied().unwrap_or_default();
            let schemas = status.schemas().get(index).and_then(Option::as_ref);
            let schemas = schemas.map(|schemas| schemas.report()).unwrap_or_default();
            let mut partitions: Vec<PartitionReport> = partitions
                .iter()
                .filter(|partition| partition.id.source == *id)
                .map(|partition| PartitionReport {
                    name: partition.id.name.clone(),
                    position: partition.position,
                    end: partition.lag.map(|lag| partition.position + lag),
                    lag_messages: partition.lag,
                    lag_ms: partition.newest.map(|newest| now.saturating_sub(newest)),
                })
                .collect();
            partitions.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            SourceReport {
                id: id.clone(),
                partitions,
                read: counts.read,
                matched: counts.matched,
                skipped: Skip::ALL.into_iter().map(|skip| (skip.name().to_owned(), counts.skipped(skip))).collect(),
                dead_letters: DeadLetterReason::ALL
                    .into_iter()
                    .map(|reason| (reason.name().to_owned(), counts.dead_letters(reason)))
                    .collect(),
                unmatched: seen.get(index).map(Seen::names).unwrap_or_default(),
                damaged_files: damaged
                    .iter()
                    .filter(|(source, _)| *source == index)
                    .map(|(_, damage)| damage.to_string())
                    .collect(),
                state: if schemas.waiting.is_some() { "waiting: registry" } else { "ok" }.to_owned(),
                last_error: schemas.waiting,
                schemas: schemas.seen.into_iter().map(schema_report).collect(),
            }
        };
        inner.plan.job.sources.keys().enumerate().map(report).collect()
    }

    fn owner(&self, _model: &str, key: &str) -> Option<String> {
        let inner = &*self.0;
        if inner.addresses.len() == 1 {
            return None;
        }
        let process = match inner.index.as_of() {
            // The ledgers are in the first process, whichever process owns the key.
            Some(as_of) if as_of.recovering => inner.process,
            None => 0,
            Some(_) => {
                let worker = owner(hash_key(key), (inner.threads * inner.addresses.len()) as u32);
                worker as usize / inner.threads
            }
        };
        (process != inner.process).then(|| inner.addresses[process].clone())
    }

    fn processes(&self) -> Vec<Option<String>> {
        let inner = &*self.0;
        let address = |(process, address): (usize, &String)| (process != inner.process).then(|| address.clone());
        inner.addresses.iter().enumerate().map(address).collect()
    }
}

/// Returns how far the clock of the job, or of the state it starts from, is ahead of this machine's; `None` if it is not.
fn clock_ahead(status: &Status, of: &str) -> Option<String> {
    let ahead = status.clock_ahead();
    (ahead > 0)
        .then(|| format!("the clock of the {of} is {} ahead of this machine's clock", clock_watch::length(ahead)))
}

/// Returns a schema as the API shows it.
fn schema_report((id, found): (SchemaId, Result<SchemaKind, String>)) -> SchemaReport {
    let kind = found.as_ref().ok().map(|kind| kind.word().to_owned());
    SchemaReport { id: id.to_string(), kind, error: found.err() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use usher_core::sink::Standing;

    struct Stands;

    impl Clock for Stands {
        fn now(&self) -> Time {
            1_000
        }
    }

    fn engine(processes: usize, process: usize) -> JobApi {
        let job = "
job: shop
sources: {web: {file: {path: events.jsonl}, format: segment}}
models: {users: {}}
events: {viewed: {source: web, type: page, model: users}}
audiences: {seen: {model: users, where: {performed: viewed, within: 1h}}}
syncs: {log: {to: {stdout: {}}}}
";
        let job = usher_config::parse(job, "job.yaml", std::path::Path::new("."), &|_| None).expect("a sound job");
        let plan = usher_queries::compile(&job, "job.yaml", &usher_queries::Schemas::new()).expect("a sound job");
        let addresses = (0..processes).map(|process| format!("host-{process}:{}", 8_080 + process)).collect();
        JobApi::new(&plan, ApiSetup { clock: Arc::new(Stands), workers: 1, process, addresses, run: 1, differ: None })
    }

    #[test]
    fn while_a_job_recovers_the_ledgers_are_served_by_the_first_process() {
        let ledger = |id: &str, key: &str| {
            let mut ledger = Ledger::default();
            (ledger.any, ledger.clock) = (true, 500);
            let model = "users".to_owned();
            let audience =
                ledger.audience(usher_core::ledger::LedgerAudience { id: id.to_owned(), name: id.to_owned(), model });
            ledger.push(audience, key);
            ledger
        };
        let engine = engine(2, 0);
        let ledger = [ledger("seen", "a"), ledger("gone", "b"), ledger("seen", "a")];
        let audiences: Vec<_> = ledger.iter().flat_map(|ledger| ledger.audiences.clone()).collect();
        let catalog = Arc::new(engine.0.plan.job.catalog().with_removed(&audiences[..2]));
        engine.0.run(&Status::new(1, 1), &Arc::new(Mutex::new(Vec::new())), &Arc::from([]), &catalog);
        assert!(engine.index().as_of().is_none());
        engine.0.serve_ledgers(&ledger, &catalog);
        let published = engine.index();
        let users = published.model("users").expect("a model");
        for (key, audiences) in [("a", &[0][..]), ("b", &[])] {
            let (as_of, found) = published.lookup(users, key).expect("what the ledgers have");
            assert_eq!((as_of.time, as_of.recovering, &found[..]), (500, true, audiences));
            assert_eq!(engine.owner("users", key), None, "it is known here, whosever the key is");
        }
        assert!(!engine.readiness().ready);
    }

    #[test]
    fn the_other_process_is_asked_for_its_keys() {
        let (here, there) = (engine(2, 0), engine(2, 1));
        // The first process has the ledgers.
        assert_eq!((here.owner("users", "a"), there.owner("users", "a")), (None, Some("host-0:8080".to_owned())));
        for engine in [&here, &there] {
            usher_core::membership_index::IndexWriter::new(engine.index(), 0).close(1);
        }
        let keys: Vec<String> = (0..100).map(|key| format!("u-{key}")).collect();
        let mut of_there = 0;
        for key in &keys {
            match (here.owner("users", key), there.owner("users", key)) {
                (None, Some(address)) => assert_eq!(address, "host-0:8080"),
                (Some(address), None) => {
                    assert_eq!(address, "host-1:8081");
                    of_there += 1;
                }
                other => panic!("{key}: {other:?}"),
            }
        }
        assert!((20..80).contains(&of_there));
        assert_eq!(engine(1, 0).owner("users", "a"), None);
    }

    #[test]
    fn a_window_is_complete_when_it_has_been_read_from_its_beginning() {
        let engine = engine(1, 0);
        let windows = || engine.audiences(None)[0].windows;
        assert_eq!(windows(), Windows { complete: false, complete_at: None }, "nothing has been read");
        let status = Status::new(1, 1);
        assert!(engine.0.status.set(Arc::clone(&status)).is_ok());
        let since = |time| engine.0.plan.models.iter().map(|model| vec![time; model.facts.len()]).collect();
        status.publish_fact_since(since(0));
        assert!(windows().complete);
        status.publish_fact_since(since(900));
        assert_eq!((windows().complete, windows().complete_at), (false, Some(Moment(3_600_900))));
        status.publish_held(0, vec![7]);
        assert_eq!(engine.audiences(None)[0].held, 7);
    }

    #[test]
    fn a_sync_is_reported_as_it_stands_in_that_moment() {
        struct Counting(AtomicU64);

        impl Standing for Counting {
            fn status(&self) -> SyncStatus {
                SyncStatus { waiting: self.0.fetch_add(1, Ordering::Relaxed), ..SyncStatus::default() }
            }
        }

        let (first, other) = (engine(2, 0), engine(2, 1));
        for (engine, syncs) in
            [(&first, vec![Arc::new(Counting(AtomicU64::new(5))) as Arc<dyn Standing>]), (&other, vec![])]
        {
            let status = Status::new(1, 1);
            status.set_syncs(syncs);
            assert!(engine.0.status.set(status).is_ok());
        }
        let waiting = |engine: &JobApi| engine.syncs()[0].waiting;
        assert_eq!((waiting(&first), waiting(&first)), (5, 6));
        // The other processes have what the first has sent.
        assert_eq!(waiting(&other), 0);
        *lock(&other.0.reported_syncs) = first.0.sync_statuses();
        assert_eq!((waiting(&other), waiting(&other)), (7, 7));
    }

    #[test]
    fn an_edit_can_be_worked_out_after_one_that_panicked() {
        let is_diffing = Arc::default();
        let turn = DiffTurn::take(&is_diffing).expect("no edit is being worked out");
        assert!(DiffTurn::take(&is_diffing).is_none(), "one at a time");
        let work = move || {
            let _turn = turn;
            panic!("what works out edits has a fault");
        };
        assert!(std::thread::spawn(work).join().is_err());
        assert!(DiffTurn::take(&is_diffing).is_some());
    }

    #[test]
    fn a_cursor_is_read_back_and_nothing_else_is() {
        for (worker, slot, run) in [(0, 0, 0), (3, 77, 1_796_075_127_999), (u32::MAX, u32::MAX, u64::MAX)] {
            let cursor = Cursor { worker, slot, run: Some(run) };
            assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        }
        for wrong in ["", "-", "1", "1-", "1-2", "+1-2-3", "1-2-3-4", "x-1-1", "100000000-0-0", "0-0-"] {
            assert_eq!(Cursor::parse(wrong), None, "{wrong}");
        }
    }
}
