//! Runs a job: builds the same dataflow on every worker and steps it to its end.

use crate::edge::messages::{Messages, PartitionClock};
use crate::job::{Failure, FailureKind, Opened, Status};
use crate::keeper::{Keeper, Span};
use crate::operators::deliver::{self, Sinks, deliver};
use crate::operators::keep::{KeepSetup, PullEnded, keep};
use crate::operators::members::members;
use crate::operators::pull::{Pulled, pull};
use crate::operators::read::{Ranks, ReadSetup, Reading, read, unreadable};
use crate::operators::stage::{Staging, stage};
use crate::pulls::{self, Line};
use crate::time::Time;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::probe::Handle as ProbeHandle;
use timely::worker::Worker;

/// Partitions of all sources together: the rank of one in the order of arrival has 16 bits.
const PARTITIONS: usize = 1 << 16;
/// Batches of rows that a reading thread may be ahead of its worker.
const ROWS_AHEAD: usize = 4;
/// How near to the clock, ms, a job that goes live has caught up with it.
const CAUGHT_UP: Time = 20;
/// How long a parked worker may not notice that the job was aborted.
const PARK: Duration = Duration::from_millis(50);

/// What each worker takes with it when it starts.
struct Share {
    readings: Vec<Reading>,
    rows: Receiver<Pulled>,
    line: Sender<Line>,
    pulls: Option<Sender<PullEnded>>,
    out: std::sync::mpsc::SyncSender<Pulled>,
}

/// Runs an opened job to its end, or until [`Status::stop`].
///
/// # Errors
/// What of the world failed while it ran. Sinks have been flushed as far as they could be.
pub fn run(mut opened: Opened, status: &Arc<Status>) -> Result<(), Failure> {
    let peers = opened.workers;
    let plan = Arc::new(opened.plan);
    let ranks = Arc::new(Ranks::default());
    // In order of (source, path): the order of arrival.
    opened.sources.sort_by(|a, b| a.0.cmp(&b.0));
    let mut dealt: Vec<Vec<Reading>> = (0..peers).map(|_| Vec::new()).collect();
    let mut source_ids = Vec::new();
    let mut sources = Vec::new();
    for (source, (id, mut of)) in opened.sources.into_iter().enumerate() {
        for partition in of.partitions() {
            let rank = ranks.of(&partition);
            let partition = of.open(&partition, None).map_err(unreadable)?;
            let reading = Reading { source, rank, partition, clock: PartitionClock::default() };
            dealt[rank as usize % peers].push(reading);
        }
        source_ids.push(id);
        sources.push(Mutex::new(of));
    }
    let partitions: usize = dealt.iter().map(Vec::len).sum();
    if partitions > PARTITIONS {
        let message = format!("the sources have {partitions} partitions, more than {PARTITIONS}");
        let hint = Some("put the events into fewer, larger files".to_owned());
        return Err(Failure { kind: FailureKind::Source, message, hint });
    }
    let sources = Arc::new(sources);
    let catalog = catalog(&plan);
    let audiences = catalog.iter().flatten().count();
    let (line_in, line_out) = channel();
    let (ended_in, ended_out) = channel();
    let mut ended_in = Some(ended_in);
    let shares: Vec<Mutex<Option<Share>>> = dealt
        .into_iter()
        .map(|readings| {
            let (out, rows) = sync_channel(ROWS_AHEAD);
            Mutex::new(Some(Share { readings, rows, line: line_in.clone(), pulls: ended_in.take(), out }))
        })
        .collect();
    drop(line_in);
    let sinks: Sinks = Arc::new(Mutex::new(opened.sinks));

    let config = if peers == 1 { timely::Config::thread() } else { timely::Config::process(peers) };
    let (span, clock, dead_letters) = (opened.span, opened.clock, opened.dead_letters);
    let worker_logic = {
        let (plan, sinks, status) = (Arc::clone(&plan), Arc::clone(&sinks), Arc::clone(status));
        move |worker: &mut Worker| {
            let index = worker.index();
            let share = shares[index].lock().expect("a worker panicked").take().expect("a worker starts once");
            let told = ProbeHandle::new();
            let setup = ReadSetup {
                worker: index,
                peers,
                span,
                clock: Arc::clone(&clock),
                messages: source_ids.iter().map(|source| Messages::new(&plan, source)).collect(),
                readings: share.readings,
                sources: Arc::clone(&sources),
                ranks: Arc::clone(&ranks),
                dead_letters: Arc::clone(&dead_letters),
                status: Arc::clone(&status),
            };
            let keeper = Rc::new(RefCell::new(Keeper::new(&plan, span, peers)));
            let staging: Staging = Rc::new(RefCell::new(BTreeMap::new()));
            let keep_setup = KeepSetup {
                worker: index,
                peers,
                span,
                catalog: catalog.clone(),
                keeper: Rc::clone(&keeper),
                staging: Rc::clone(&staging),
                status: Arc::clone(&status),
                pulls: share.pulls,
            };
            let (wake, mut members) = worker.dataflow::<Time, _, _>(|scope| {
                let (hits, milestones) = read(scope, setup, told.clone());
                let (rows, wake) = pull(scope, share.rows);
                let verdicts = stage(rows, Arc::clone(&plan), peers, keeper, staging);
                let (changes, memberships) = keep(hits, milestones, verdicts, keep_setup);
                let gather = matches!(span, Span::Replay { .. });
                deliver(changes, gather, Arc::clone(&sinks), Arc::clone(&status)).probe_with(&told);
                (wake, members(memberships, &told))
            });
            let _ = share.line.send(Line { out: share.out, wake });
            drop(share.line);
            let mut caught_up = false;
            while !told.done() && !status.aborted() {
                worker.step_or_park(Some(PARK));
                let Some(told) = told.with_frontier(|frontier| frontier.first().copied()) else { continue };
                members.compact(told);
                if span == Span::Live && status.live() && !status.stopped() {
                    let lag = clock.now().saturating_sub(told);
                    // Going live takes what it takes; from when the clock has been caught up with, every ms counts.
                    caught_up |= lag < CAUGHT_UP;
                    if caught_up {
                        status.publish_lag(lag);
                    }
                }
            }
            status.publish_members(index, members.sizes(audiences));
            // What still reads rows or files is of no more use.
            for dataflow in worker.installed_dataflows() {
                worker.drop_dataflow(dataflow);
            }
        }
    };
    let guards = timely::execute(config, worker_logic).unwrap_or_else(|error| panic!("timely did not start: {error}"));
    let lines: Vec<Line> = line_out.iter().collect();
    let puller = {
        let (plan, status) = (Arc::clone(&plan), Arc::clone(status));
        std::thread::Builder::new()
            .name("pulls".to_owned())
            .spawn(move || pulls::run(plan, span, opened.warehouses, lines, ended_out, status))
            .expect("the system can start a thread")
    };
    for result in guards.join() {
        result.unwrap_or_else(|error| panic!("a worker ended badly: {error}"));
    }
    puller.join().expect("the thread of pulls does not panic");
    let mut sinks = sinks.lock().expect("a worker panicked");
    for sink in sinks.iter_mut() {
        if let Err(error) = sink.finish() {
            status.fail(deliver::failure(error));
        }
    }
    status.take_failure().map_or(Ok(()), Err)
}

/// Per model and audience of it, the audience's number among all of the job, by id.
fn catalog(plan: &usher_queries::plan::Plan) -> Vec<Vec<u32>> {
    let mut ids: Vec<&str> = plan.models.iter().flat_map(|model| &model.audiences).map(|a| a.id.as_str()).collect();
    ids.sort_unstable();
    let number = |id: &str| ids.binary_search(&id).expect("it was just collected") as u32;
    plan.models.iter().map(|model| model.audiences.iter().map(|audience| number(&audience.id)).collect()).collect()
}
