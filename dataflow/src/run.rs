//! Runs a job: starts the workers, each with the same dataflow, joins them, and finishes the sinks.

use crate::api::Inner;
use crate::checkpoint::{Coordinator, Manifest, ManifestHeader, SharedPulls};
use crate::cluster;
use crate::control::restore::{Bootstrap, RestoreSetup, failed_pulls, known_pulls};
use crate::failure::{Failure, FailureKind};
use crate::graph::{self, Inputs};
use crate::ingest::advice::Advisor;
use crate::ingest::decoding::{DecodeHelper, SharedDecoding};
use crate::ingest::match_events::EventMatcher;
use crate::ingest::reader::{PartitionReaders, ReaderSetup};
use crate::opened::{OpenedJob, Purpose, Recovery};
use crate::operators::deliver::{DeliverSetup, Sinks};
use crate::operators::membership::MembershipSetup;
use crate::operators::snapshots::RowMessage;
use crate::operators::stage::StageSetup;
use crate::snapshots::history::PullHistory;
use crate::snapshots::schedule::{self, EarlierPulls, RowChannel, ScheduleMessage, ScheduleSetup, due_at_start};
use crate::state::dictionary::SharedDictionary;
use crate::state::epoch::EpochWorker;
use crate::status::Status;
use crate::time::Span;
use crate::time::Time;
use crate::worker::{WorkerLoop, WorkerSetup};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use timely::worker::Worker;
use usher_core::catalog::Catalog;
use usher_core::clock::Clock;
use usher_core::dead_letters::DeadLetters;
use usher_core::ledger::{Ledger, LedgerAudience};
use usher_core::lock::lock;
use usher_core::membership_index::IndexWriter;
use usher_core::sink::SinkError;
use usher_core::source::{PartitionId, Source};
use usher_core::store::Store;
use usher_queries::plan::Plan;

/// Partitions of all sources together: the rank of one in the order of arrival has 16 bits.
const PARTITIONS: usize = 1 << 16;
/// Batches of rows, of 8,192 each, that the threads that read for a worker may be ahead of it: with four they waited while it did other work.
const ROWS_AHEAD: usize = 16;
/// How often the end of the job is looked for while connections close.
const LOOK: Duration = Duration::from_millis(50);

/// What all workers of this process share.
struct Shared {
    plan: Arc<Plan>,
    span: Span,
    clock: Arc<dyn Clock>,
    /// Workers of this process, and of all.
    threads: usize,
    peers: usize,
    source_ids: Arc<Vec<String>>,
    sources: Arc<Vec<Mutex<Box<dyn Source>>>>,
    dead_letters: Arc<dyn DeadLetters>,
    sinks: Sinks,
    status: Arc<Status>,
    store: Option<Arc<dyn Store>>,
    restart_sources: bool,
    purpose: Purpose,
    catalog: Arc<Catalog>,
    api: Option<Arc<Inner>>,
    advisor: Arc<Advisor>,
    decoding: Arc<SharedDecoding>,
}

/// What one worker takes with it when it starts.
struct Own {
    rows: Receiver<RowMessage>,
    out: SyncSender<RowMessage>,
    channels: Sender<RowChannel>,
    /// What only worker 0 has.
    first: Option<First>,
}

/// What worker 0 leads with.
struct First {
    pulls: Sender<ScheduleMessage>,
    coordinator: Option<Coordinator>,
    bootstrap: Bootstrap,
}

/// Runs an opened job to its end, or until [`Status::stop`].
///
/// # Errors
/// What of the world failed while it ran. Sinks have been flushed as far as they could be.
pub fn run(mut opened: OpenedJob, status: &Arc<Status>) -> Result<(), Failure> {
    opened.sources.sort_by(|a, b| a.0.cmp(&b.0));
    let (process, processes) =
        opened.cluster.as_ref().map_or((0, 1), |cluster| (cluster.process, cluster.sockets.len()));
    let mut recovery = opened.recovery.take();
    let claim = recovery.as_mut().and_then(|recovery| recovery.claim.take());
    let manifest = claim.as_ref().map(|(_, bytes)| Manifest::decode(bytes).expect("it was read when it was claimed"));
    let partitions = partitions(&mut opened, manifest.as_ref())?;
    let plan = Arc::new(opened.plan);
    let known_pulls = known_pulls(&plan, manifest.as_ref());
    let failed = failed_pulls(&plan, manifest.as_ref(), &known_pulls);
    let earlier: Vec<Option<EarlierPulls>> = known_pulls.into_iter().zip(failed).map(EarlierPulls::of).collect();
    let due = match recovery.as_ref().map(|recovery| recovery.purpose) {
        // No model is pulled.
        Some(Purpose::ForeseeByState) => vec![false; plan.models.len()],
        _ => due_at_start(&plan, opened.span, &earlier, opened.clock.now()),
    };
    let pulls = SharedPulls::default();
    for (model, of_model) in (0..).zip(&earlier) {
        let Some(EarlierPulls { in_force, failed }) = of_model else { continue };
        let records = &mut *lock(&pulls);
        records.whole.insert((model, 0), in_force.clone());
        records.failed.extend(failed.clone().map(|failed| (model, failed)));
    }
    status.set_syncs(opened.sinks.iter().map(|sink| sink.standing()).collect());
    status.set_schemas(opened.sources.iter().map(|(_, source)| source.schemas()).collect());
    let (source_ids, sources): (Vec<String>, _) =
        opened.sources.into_iter().map(|(id, source)| (id, Mutex::new(source))).unzip();
    let advisor = Arc::new(Advisor::new(&plan, &source_ids));
    let shared = Shared {
        span: opened.span,
        clock: Arc::clone(&opened.clock),
        threads: opened.workers,
        peers: opened.workers * processes,
        source_ids: Arc::new(source_ids),
        sources: Arc::new(sources),
        dead_letters: opened.dead_letters,
        sinks: Arc::new(Mutex::new(opened.sinks)),
        status: Arc::clone(status),
        store: recovery.as_ref().map(|recovery| Arc::clone(&recovery.store)),
        restart_sources: recovery.as_ref().is_some_and(|recovery| recovery.restart_sources),
        purpose: recovery.as_ref().map_or(Purpose::Run, |recovery| recovery.purpose),
        catalog: Arc::clone(&opened.catalog),
        api: opened.api.map(|api| api.inner()),
        advisor: Arc::clone(&advisor),
        decoding: Arc::new(SharedDecoding::new(opened.workers, opened.workers * processes)),
        plan,
    };
    if shared.span == Span::Live && shared.clock.runs() {
        status.pace().let_sleep(processes > 1);
    }
    if recovery.is_some() {
        status.keep_state();
    }
    let ledgers: Arc<[Ledger]> =
        recovery.as_mut().map(|recovery| std::mem::take(&mut recovery.ledgers)).unwrap_or_default().into();
    if let Some(api) = &shared.api {
        api.run(status, &shared.sinks, &ledgers, &opened.catalog);
    }
    let in_ledgers = in_ledgers(&shared.plan, &ledgers);
    let from_now = recovery.as_ref().is_some_and(|recovery| recovery.clock_from_now);
    let clock_limit = from_now.then(|| shared.clock.now());
    let (to_schedule, messages) = channel();
    let first = (process == 0).then(|| First {
        pulls: to_schedule.clone(),
        coordinator: coordinator(&shared.plan, claim.as_ref(), recovery.as_ref(), &partitions, &pulls),
        bootstrap: Bootstrap {
            partitions,
            manifest: claim.map(|(_, bytes)| bytes),
            ledgers,
            catalog: opened.catalog,
            clock_limit,
            due: due.clone(),
        },
    });
    match &shared.api {
        // The thread is gone once the job is ending.
        Some(api) => api.pulls.wake_with(Some(Box::new(move || drop(to_schedule.send(ScheduleMessage::Asked))))),
        // It ends when nobody can send to it any more.
        None => drop(to_schedule),
    }
    let schedule = ScheduleSetup {
        plan: Arc::clone(&shared.plan),
        span: shared.span,
        clock: opened.clock,
        earlier,
        due,
        in_ledgers,
        pulls,
        peers: shared.peers,
        cores: opened.cores,
        status: Arc::clone(status),
        history: shared
            .api
            .as_ref()
            .map_or_else(|| Arc::new(PullHistory::new(shared.plan.models.len())), |api| Arc::clone(&api.pulls)),
    };
    let (api, sinks, threads) = (shared.api.clone(), Arc::clone(&shared.sinks), shared.threads);
    let (channels, owns) = owns(threads, first);
    let worker_logic = move |worker: &mut Worker| {
        let own = lock(&owns[worker.index() % threads]).take();
        start_worker(worker, &shared, own.expect("a worker starts once"));
    };

    let (mut heartbeat, mut connections) = (None, None);
    let guards = match opened.cluster {
        None if threads == 1 => timely::execute(timely::Config::thread(), worker_logic),
        None => timely::execute(timely::Config::process(threads), worker_logic),
        Some(cluster) => {
            cluster.heartbeat.attach(status);
            heartbeat = Some(cluster.heartbeat);
            let executed = cluster::execute(cluster.process, cluster.sockets, threads, worker_logic);
            executed.map(|(guards, comms)| {
                connections = Some(comms);
                guards
            })
        }
    };
    let guards = guards.unwrap_or_else(|error| panic!("timely did not start: {error}"));
    let channels: Vec<RowChannel> = channels.iter().collect();
    let puller = (process == 0).then(|| {
        std::thread::Builder::new()
            .name("pulls".to_owned())
            .spawn(move || schedule::run(schedule, opened.warehouses, channels, messages))
            .expect("the system can start a thread")
    });
    for result in guards.join() {
        result.unwrap_or_else(|error| panic!("a worker ended badly: {error}"));
    }
    if let Some(api) = &api {
        api.pulls.wake_with(None);
    }
    if let Some(puller) = puller {
        puller.join().expect("the thread of pulls does not panic");
    }
    advisor.look(status, 1);
    if let Some(api) = &api {
        api.end();
    }
    finish_sinks(&sinks, status);
    if let Some(connections) = connections {
        close(connections, status);
    }
    let result = status.take_failure().map_or(Ok(()), Err);
    if let Some(heartbeat) = heartbeat {
        heartbeat.end(result.as_ref().copied());
    }
    result
}

/// Returns all partitions in order of (source, path), the order of arrival; those that an earlier run read and that are gone too.
fn partitions(opened: &mut OpenedJob, manifest: Option<&Manifest>) -> Result<Vec<PartitionId>, Failure> {
    if let Some(manifest) = manifest {
        let read = manifest.read();
        opened.sources.iter_mut().for_each(|(_, source)| source.resume(&read));
    }
    let mut partitions: BTreeSet<PartitionId> =
        opened.sources.iter().flat_map(|(_, source)| source.partitions()).collect();
    partitions.extend(manifest.iter().flat_map(|manifest| &manifest.partitions).map(|(_, id)| id.clone()));
    if partitions.len() > PARTITIONS {
        let message = format!("the sources have {} partitions, more than {PARTITIONS}", partitions.len());
        let hint = Some("put the events into fewer, larger files".to_owned());
        return Err(Failure { kind: FailureKind::Source, message, hint });
    }
    Ok(partitions.into_iter().collect())
}

/// Returns, per model, whether a ledger has a member of one of its audiences.
fn in_ledgers(plan: &Plan, ledgers: &[Ledger]) -> Vec<bool> {
    let mut found = vec![false; plan.models.len()];
    for ledger in ledgers {
        let model = |audience: &LedgerAudience| plan.models.iter().position(|model| model.id == audience.model);
        let models: Vec<Option<usize>> = ledger.audiences.iter().map(model).collect();
        let mut left: BTreeSet<usize> = models.iter().flatten().copied().filter(|model| !found[*model]).collect();
        let mut members = ledger.iter();
        while !left.is_empty()
            && let Some((audience, _)) = members.next()
        {
            if let Some(model) = models[audience as usize] {
                left.remove(&model);
                found[model] = true;
            }
        }
    }
    found
}

/// Returns what makes the checkpoints, if state is kept.
fn coordinator(
    plan: &Arc<Plan>,
    claim: Option<&(u64, Vec<u8>)>,
    recovery: Option<&Recovery>,
    partitions: &[PartitionId],
    pulls: &SharedPulls,
) -> Option<Coordinator> {
    let ((number, _), recovery) = claim.zip(recovery.filter(|recovery| recovery.purpose == Purpose::Run))?;
    let header = ManifestHeader { incarnation: recovery.incarnation, claim: *number, partitions: partitions.to_vec() };
    Some(Coordinator::new(Arc::clone(plan), header, recovery.checkpoint_every, Arc::clone(pulls)))
}

/// Returns what each worker takes with it, and where the channels of their rows arrive.
fn owns(threads: usize, mut first: Option<First>) -> (Receiver<RowChannel>, Vec<Mutex<Option<Own>>>) {
    let (channels, arrive) = channel();
    let own = |_| {
        let (out, rows) = sync_channel(ROWS_AHEAD);
        Mutex::new(Some(Own { rows, out, channels: channels.clone(), first: first.take() }))
    };
    (arrive, (0..threads).map(own).collect())
}

/// Builds the dataflow of a worker and runs it to its end.
fn start_worker(worker: &mut Worker, shared: &Shared, own: Own) {
    let (index, plan) = (worker.index(), &shared.plan);
    let numbers = audience_numbers(plan);
    let audiences = numbers.iter().flatten().count();
    let (pulls, coordinator, bootstrap) =
        own.first.map_or((None, None, None), |first| (Some(first.pulls), first.coordinator, Some(first.bootstrap)));
    let dictionaries: Vec<SharedDictionary> = plan.models.iter().map(|_| SharedDictionary::default()).collect();
    let epochs = Rc::new(RefCell::new(EpochWorker::new(plan, shared.span, shared.peers, &dictionaries)));
    let readers = Rc::new(RefCell::new(PartitionReaders::default()));
    let matchers = shared.source_ids.iter().zip(shared.status.schemas());
    let matchers = matchers.map(|(source, schemas)| EventMatcher::new(plan, source, schemas.clone())).collect();
    let matchers = Rc::new(matchers);
    let inputs = Inputs {
        events: ReaderSetup {
            worker: index,
            peers: shared.peers,
            span: shared.span,
            clock: Arc::clone(&shared.clock),
            matchers: Rc::clone(&matchers),
            decoding: Arc::clone(&shared.decoding),
            readers: Rc::clone(&readers),
            sources: Arc::clone(&shared.sources),
            dead_letters: Arc::clone(&shared.dead_letters),
            status: Arc::clone(&shared.status),
            advisor: Arc::clone(&shared.advisor),
        },
        snapshots: own.rows,
        stage: StageSetup { plan: Arc::clone(plan), peers: shared.peers, dictionaries, epochs: Rc::clone(&epochs) },
        membership: MembershipSetup {
            worker: index,
            peers: shared.peers,
            plan: Arc::clone(plan),
            numbers,
            epochs: Rc::clone(&epochs),
            status: Arc::clone(&shared.status),
            foresees: shared.purpose != Purpose::Run,
            pulls,
            index: shared.api.as_ref().map(|api| IndexWriter::new(Arc::clone(&api.index), index % shared.threads)),
        },
        deliver: DeliverSetup {
            worker: index,
            span: shared.span,
            plan: Arc::clone(plan),
            catalog: Arc::clone(&shared.catalog),
            sinks: Arc::clone(&shared.sinks),
            status: Arc::clone(&shared.status),
            logs: shared.purpose == Purpose::Run,
        },
    };
    let graph = worker.dataflow::<Time, _, _>(|scope| graph::build(scope, inputs));
    let _ = own.channels.send(RowChannel { out: own.out, wake: graph.wake_snapshots.clone() });
    drop(own.channels);
    let worker_loop = WorkerLoop::new(WorkerSetup {
        worker: index as u32,
        span: shared.span,
        clock: Arc::clone(&shared.clock),
        graph,
        epochs,
        readers,
        helper: DecodeHelper { worker: index % shared.threads, decoding: Arc::clone(&shared.decoding), matchers },
        restore: RestoreSetup {
            worker: index as u32,
            plan: Arc::clone(plan),
            source_ids: Arc::clone(&shared.source_ids),
            sources: Arc::clone(&shared.sources),
            store: shared.store.clone(),
            restart_sources: shared.restart_sources,
            pulls: shared.purpose != Purpose::ForeseeByState,
        },
        status: Arc::clone(&shared.status),
        store: shared.store.clone(),
        coordinator,
        sinks: Arc::clone(&shared.sinks),
        threads: (shared.peers > shared.threads).then_some(shared.threads as u32),
        api: shared.api.clone(),
    });
    if let Some(bootstrap) = bootstrap {
        worker_loop.bootstrap(bootstrap);
    }
    worker_loop.run(worker, audiences);
}

/// Flushes the sinks. A destination may be away when the job is stopped; it gets the rest at the next start.
fn finish_sinks(sinks: &Sinks, status: &Status) {
    let mut sinks = lock(sinks);
    for sink in sinks.iter_mut() {
        match sink.finish() {
            Err(error @ SinkError::Failed { .. }) if status.stopped() => {
                tracing::warn!(error = %error, "a sync did not accept all changes before shutdown: they are sent at the next start");
            }
            Err(error) => status.fail(Failure::of_sink(error)),
            Ok(()) => {}
        }
    }
}

/// Waits until what was sent to the other processes has left and they have sent their last, unless the job has failed: then
/// that may never happen, and the threads are left to the end of the process.
fn close(connections: impl Send + 'static, status: &Status) {
    let (closed_in, closed) = channel::<()>();
    let close = move || {
        drop(connections);
        drop(closed_in);
    };
    std::thread::Builder::new().name("close".to_owned()).spawn(close).expect("the system can start a thread");
    while !status.aborted() && closed.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {}
}

/// Returns, per model and audience of it, the audience's number among all of the job, by id.
fn audience_numbers(plan: &Plan) -> Vec<Vec<u32>> {
    let mut ids: Vec<&str> = plan.models.iter().flat_map(|model| &model.audiences).map(|a| a.id.as_str()).collect();
    ids.sort_unstable();
    let number = |id: &str| ids.binary_search(&id).expect("it was just collected") as u32;
    plan.models.iter().map(|model| model.audiences.iter().map(|audience| number(&audience.id)).collect()).collect()
}
