//! Runs a job: builds the same dataflow on every worker and steps it to its end.

use crate::checkpoint::{Heading, Lead, Manifest, WholePulls};
use crate::cluster;
use crate::desk::{Desk, DeskSetup, Opening, known_pulls};
use crate::edge::messages::Messages;
use crate::engine::pull_log::PullLog;
use crate::job::{Failure, FailureKind, OpenedJob, Status};
use crate::keeper::{Keeper, Span};
use crate::operators::bus::Bus;
use crate::operators::deliver::{self, DeliverSetup, Sinks, deliver};
use crate::operators::keep::{KeepSetup, PullEnded, keep};
use crate::operators::members::members;
use crate::operators::pull::{Pulled, pull};
use crate::operators::read::{ReadSetup, Readings, read};
use crate::operators::stage::{Staging, stage};
use crate::pulls::{self, Line, PullsSetup};
use crate::time::Time;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::probe::Handle as ProbeHandle;
use timely::worker::Worker;
use usher_core::membership_index::IndexWriter;
use usher_core::sink::SinkError;
use usher_core::source::PartitionId;

/// Partitions of all sources together: the rank of one in the order of arrival has 16 bits.
const PARTITIONS: usize = 1 << 16;
/// Batches of rows that a reading thread may be ahead of its worker.
const ROWS_AHEAD: usize = 4;
/// How near to the clock, ms, a job that goes live has caught up with it.
const CAUGHT_UP: Time = 20;
/// How long a parked worker may not notice that the job was aborted.
const PARK: Duration = Duration::from_millis(50);

/// What each worker of this process takes with it when it starts.
struct Share {
    rows: Receiver<Pulled>,
    line: Sender<Line>,
    out: std::sync::mpsc::SyncSender<Pulled>,
    /// What only worker 0 has.
    first: Option<First>,
}

/// What worker 0 leads with.
struct First {
    pulls: Sender<PullEnded>,
    lead: Option<Lead>,
    opening: Opening,
}

/// Runs an opened job to its end, or until [`Status::stop`].
///
/// # Errors
/// What of the world failed while it ran. Sinks have been flushed as far as they could be.
pub fn run(mut opened: OpenedJob, status: &Arc<Status>) -> Result<(), Failure> {
    let threads = opened.workers;
    let (process, processes) =
        opened.cluster.as_ref().map_or((0, 1), |cluster| (cluster.process, cluster.sockets.len()));
    let peers = threads * processes;
    let plan = Arc::new(opened.plan);
    opened.sources.sort_by(|a, b| a.0.cmp(&b.0));
    let mut recovery = opened.recovery.take();
    let claim = recovery.as_mut().and_then(|recovery| recovery.claim.take());
    let manifest = claim.as_ref().map(|(_, bytes)| Manifest::decode(bytes).expect("it was read when it was claimed"));
    // In order of (source, path): the order of arrival. What an earlier run read and is gone now is still spoken of.
    let mut partitions: BTreeSet<PartitionId> =
        opened.sources.iter().flat_map(|(_, source)| source.partitions()).collect();
    partitions.extend(manifest.iter().flat_map(|manifest| &manifest.partitions).map(|(_, id)| id.clone()));
    if partitions.len() > PARTITIONS {
        let message = format!("the sources have {} partitions, more than {PARTITIONS}", partitions.len());
        let hint = Some("put the events into fewer, larger files".to_owned());
        return Err(Failure { kind: FailureKind::Source, message, hint });
    }
    let partitions: Vec<PartitionId> = partitions.into_iter().collect();
    let (source_ids, sources): (Vec<String>, Vec<_>) =
        opened.sources.into_iter().map(|(id, source)| (id, Mutex::new(source))).unzip();
    let (source_ids, sources) = (Arc::new(source_ids), Arc::new(sources));
    let catalog = catalog(&plan);
    let audiences = catalog.iter().flatten().count();
    let whole_pulls = WholePulls::default();
    let known_pulls = known_pulls(&plan, manifest.as_ref());
    for (model, pull) in known_pulls.iter().enumerate() {
        let pulls = &mut *whole_pulls.lock().expect("a panic ends the process");
        pulls.extend(pull.clone().map(|pull| ((model as u32, 0), pull)));
    }
    let sinks: Sinks = Arc::new(Mutex::new(opened.sinks));
    let api = opened.api.map(|engine| engine.inner());
    if let Some(api) = &api {
        let ledgers = recovery.as_ref().map_or(&[][..], |recovery| &recovery.ledgers);
        api.run(status, &sinks, ledgers, &opened.catalog);
    }
    let log = api.as_ref().map_or_else(|| Arc::new(PullLog::new(plan.models.len())), |api| Arc::clone(&api.log));
    let (line_in, line_out) = channel();
    let (ended_in, ended_out) = channel();
    let mut first = (process == 0).then(|| First {
        pulls: ended_in,
        lead: claim.as_ref().zip(recovery.as_ref()).map(|((number, _), recovery)| {
            let heading = Heading { incarnation: recovery.incarnation, claim: *number, partitions: partitions.clone() };
            Lead::new(Arc::clone(&plan), heading, recovery.checkpoint_every, Arc::clone(&whole_pulls))
        }),
        opening: Opening {
            partitions,
            manifest: claim.as_ref().map(|(_, bytes)| bytes.clone()),
            ledgers: recovery.as_mut().map(|recovery| std::mem::take(&mut recovery.ledgers)).unwrap_or_default(),
            catalog: Arc::clone(&opened.catalog),
        },
    });
    let shares: Vec<Mutex<Option<Share>>> = (0..threads)
        .map(|_| {
            let (out, rows) = sync_channel(ROWS_AHEAD);
            Mutex::new(Some(Share { rows, line: line_in.clone(), out, first: first.take() }))
        })
        .collect();
    drop(line_in);
    let store = recovery.as_ref().map(|recovery| Arc::clone(&recovery.store));
    let restart_sources = recovery.as_ref().is_some_and(|recovery| recovery.restart_sources);

    let (span, clock, dead_letters) = (opened.span, Arc::clone(&opened.clock), opened.dead_letters);
    let worker_logic = {
        let (plan, sinks, status, api) = (Arc::clone(&plan), Arc::clone(&sinks), Arc::clone(status), api.clone());
        move |worker: &mut Worker| {
            let index = worker.index();
            let share = &shares[index % threads];
            let share = share.lock().expect("a worker panicked").take().expect("a worker starts once");
            let (pulls, lead, opening) =
                share.first.map_or((None, None, None), |first| (Some(first.pulls), first.lead, Some(first.opening)));
            let committed = ProbeHandle::new();
            let readings = Rc::new(RefCell::new(Readings::default()));
            let setup = ReadSetup {
                worker: index,
                peers,
                span,
                clock: Arc::clone(&clock),
                messages: source_ids.iter().map(|source| Messages::new(&plan, source)).collect(),
                readings: Rc::clone(&readings),
                sources: Arc::clone(&sources),
                dead_letters: Arc::clone(&dead_letters),
                status: Arc::clone(&status),
            };
            let keeper = Rc::new(RefCell::new(Keeper::new(&plan, span, peers)));
            let staging: Staging = Rc::new(RefCell::new(BTreeMap::new()));
            let keep_setup = KeepSetup {
                worker: index,
                peers,
                catalog: catalog.clone(),
                keeper: Rc::clone(&keeper),
                staging: Rc::clone(&staging),
                status: Arc::clone(&status),
                pulls,
                publisher: api.as_ref().map(|api| IndexWriter::new(Arc::clone(&api.published), index % threads)),
            };
            let deliver_setup = DeliverSetup {
                worker: index,
                span,
                keeper: Rc::clone(&keeper),
                sinks: Arc::clone(&sinks),
                status: Arc::clone(&status),
            };
            let (wake, mut members, bus, wake_keep) = worker.dataflow::<Time, _, _>(|scope| {
                let bus = Bus::new(scope);
                let (hits, milestones) = read(scope, setup, committed.clone());
                let (rows, wake) = pull(scope, share.rows);
                let verdicts = stage(rows, Arc::clone(&plan), threads, peers, Rc::clone(&keeper), staging);
                let (changes, memberships, wake_keep) = keep(hits, milestones, verdicts, keep_setup);
                deliver(changes, deliver_setup).probe_with(&committed);
                (wake, members(memberships, &committed), bus, wake_keep)
            });
            let _ = share.line.send(Line { out: share.out, wake });
            drop(share.line);
            let mut desk = Desk::new(DeskSetup {
                worker: index as u32,
                plan: Arc::clone(&plan),
                bus,
                wake_keep,
                keeper,
                readings,
                source_ids: Arc::clone(&source_ids),
                sources: Arc::clone(&sources),
                status: Arc::clone(&status),
                store: store.clone(),
                lead,
                sinks: Arc::clone(&sinks),
                threads: (processes > 1).then_some(threads as u32),
                restart_sources,
                api: api.clone(),
            });
            if let Some(opening) = opening {
                desk.open(opening);
            }
            let mut caught_up = false;
            let mut busy = true;
            while !committed.done() && !status.aborted() {
                if busy {
                    worker.step();
                } else {
                    worker.step_or_park(Some(PARK));
                }
                let committed = committed.with_frontier(|frontier| frontier.first().copied());
                busy = desk.turn(committed);
                let Some(committed) = committed else { continue };
                members.compact(committed);
                if span == Span::Live && status.live() && !status.stopped() {
                    let lag = clock.now().saturating_sub(committed);
                    // Going live takes what it takes; from when the clock has been caught up with, every ms counts.
                    caught_up |= lag < CAUGHT_UP;
                    if caught_up {
                        status.publish_lag(lag);
                    }
                }
            }
            status.publish_members(index % threads, members.sizes(audiences));
            // What still reads rows or files is of no more use.
            for dataflow in worker.installed_dataflows() {
                worker.drop_dataflow(dataflow);
            }
        }
    };
    let (mut pulse, mut connections) = (None, None);
    let guards = match opened.cluster {
        None if threads == 1 => timely::execute(timely::Config::thread(), worker_logic),
        None => timely::execute(timely::Config::process(threads), worker_logic),
        Some(cluster) => {
            cluster.pulse.attach(status);
            pulse = Some(cluster.pulse);
            let executed = cluster::execute(cluster.process, cluster.sockets, threads, worker_logic);
            executed.map(|(guards, comms)| {
                connections = Some(comms);
                guards
            })
        }
    };
    let guards = guards.unwrap_or_else(|error| panic!("timely did not start: {error}"));
    let lines: Vec<Line> = line_out.iter().collect();
    let puller = (process == 0).then(|| {
        let setup = PullsSetup {
            plan: Arc::clone(&plan),
            span,
            clock: opened.clock,
            known: known_pulls,
            whole: whole_pulls,
            peers,
            status: Arc::clone(status),
            log,
        };
        std::thread::Builder::new()
            .name("pulls".to_owned())
            .spawn(move || pulls::run(setup, opened.warehouses, lines, ended_out))
            .expect("the system can start a thread")
    });
    for result in guards.join() {
        result.unwrap_or_else(|error| panic!("a worker ended badly: {error}"));
    }
    if let Some(puller) = puller {
        puller.join().expect("the thread of pulls does not panic");
    }
    if let Some(api) = &api {
        api.end();
    }
    let mut sinks = sinks.lock().expect("a worker panicked");
    for sink in sinks.iter_mut() {
        match sink.finish() {
            // A destination may be away; what it was not sent it is told by the next start.
            Err(error @ SinkError::Failed { .. }) if status.stopped() => {
                tracing::warn!(error = %error, "stopped before all was sent; the next start sends it");
            }
            Err(error) => status.fail(deliver::failure(error)),
            Ok(()) => {}
        }
    }
    if let Some(connections) = connections {
        close(connections, status);
    }
    let result = status.take_failure().map_or(Ok(()), Err);
    if let Some(pulse) = pulse {
        pulse.end(result.as_ref().copied());
    }
    result
}

/// Waits until what was sent to the other processes has left and they have sent their last, unless the job has failed: then
/// somebody may never do so, and the threads are left to the end of the process.
fn close(connections: impl Send + 'static, status: &Status) {
    let (closed_in, closed) = channel::<()>();
    let close = move || {
        drop(connections);
        drop(closed_in);
    };
    std::thread::Builder::new().name("close".to_owned()).spawn(close).expect("the system can start a thread");
    while !status.aborted() && closed.recv_timeout(PARK) == Err(RecvTimeoutError::Timeout) {}
}

/// Per model and audience of it, the audience's number among all of the job, by id.
fn catalog(plan: &usher_queries::plan::Plan) -> Vec<Vec<u32>> {
    let mut ids: Vec<&str> = plan.models.iter().flat_map(|model| &model.audiences).map(|a| a.id.as_str()).collect();
    ids.sort_unstable();
    let number = |id: &str| ids.binary_search(&id).expect("it was just collected") as u32;
    plan.models.iter().map(|model| model.audiences.iter().map(|audience| number(&audience.id)).collect()).collect()
}
