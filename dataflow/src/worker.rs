//! One worker's loop: a step of the dataflow, then what there is to do between two steps.
//!
//! Between two steps a worker takes control messages: at the start it restores what an earlier run left of its keys; then it
//! writes its share of checkpoints, answers queries and, if it has nothing left to read, helps other workers of its process to decode
//! what they read. If its process is asked to stop, its first worker sends that to all;
//! worker 0 then makes the last checkpoint, and lets all workers end.

use crate::api::Inner;
use crate::checkpoint::{Coordinator, KeyWriter, Uploader};
use crate::clock_watch::{self, ClockNews, ClockWatch, LOOK_EVERY};
use crate::control::message::{
    CheckpointAnswer, CheckpointOrder, CheckpointStep, ControlMessage, ShutdownMessage, StartMessage,
};
use crate::control::queries::{Queries, QueryContext};
use crate::control::restore::{self, Bootstrap, RestoreSetup};
use crate::failure::Failure;
use crate::graph::Graph;
use crate::ingest::decoding::DecodeHelper;
use crate::ingest::reader::PartitionReaders;
use crate::operators::deliver::Sinks;
use crate::state::brake::Exits;
use crate::state::epoch::EpochWorker;
use crate::status::Status;
use crate::time::Span;
use crate::time::Time;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use timely::worker::Worker;
use usher_core::clock::Clock;
use usher_core::lock::lock;
use usher_core::store::Store;

/// How long what has been read is worked off at the end while a sync does not accept it: the rest is sent at the next start.
const WORK_OFF: Duration = Duration::from_secs(5);
/// How near to the clock, ms, a job that goes live has caught up with it.
const CAUGHT_UP: Time = 20;
/// How long a parked worker may not notice that the job was aborted.
const PARK: Duration = Duration::from_millis(250);

/// What a worker works with.
pub(crate) struct WorkerSetup {
    pub(crate) worker: u32,
    pub(crate) span: Span,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) graph: Graph,
    pub(crate) epochs: Rc<RefCell<EpochWorker>>,
    pub(crate) readers: Rc<RefCell<PartitionReaders>>,
    pub(crate) helper: DecodeHelper,
    pub(crate) restore: RestoreSetup,
    pub(crate) status: Arc<Status>,
    pub(crate) store: Option<Arc<dyn Store>>,
    /// On worker 0, if state is kept.
    pub(crate) coordinator: Option<Coordinator>,
    pub(crate) sinks: Sinks,
    /// Workers of each process; `None` if there is one process.
    pub(crate) threads: Option<u32>,
    /// What the HTTP edge asks; `None` if there is no API.
    pub(crate) api: Option<Arc<Inner>>,
}

/// A worker.
pub(crate) struct WorkerLoop {
    setup: WorkerSetup,
    queries: Option<Queries>,
    uploader: Option<Uploader>,
    /// The worker's share of a checkpoint.
    writer: Option<KeyWriter>,
    /// The number of the last checkpoint, until all that has been read has been handed over.
    settling: Option<u64>,
    stop_sent: bool,
    end_sent: bool,
    ending: Option<Instant>,
    caught_up: bool,
    /// The lag while the clock has not been caught up with.
    behind: Time,
    /// What workers have counted before the start of who would leave by the first pulls.
    start_exits: Vec<Vec<Exits>>,
    clocks: ClockWatch,
    started: Instant,
    /// When the clocks were looked at last.
    clocks_seen: Option<Instant>,
}

/// Logs what the clocks show.
fn log_clock(news: ClockNews, live: bool) {
    match news {
        ClockNews::Ahead(ahead) if live => tracing::warn!(
            "the job's clock is {} ahead of this machine's clock: it stands until that has caught up, and no window ends\n  \
             hint: set the machine's clock, or start with `--clock-from-now`",
            clock_watch::length(ahead)
        ),
        ClockNews::Ahead(ahead) => tracing::warn!(
            "the clock of the state is {} ahead of this machine's clock: the job is live when that has caught up\n  \
             hint: set the machine's clock, or start with `--clock-from-now`",
            clock_watch::length(ahead)
        ),
        ClockNews::CaughtUp => tracing::info!("this machine's clock has caught up with the job's"),
        ClockNews::Jumped(jump) if jump > 0 => tracing::warn!(
            "this machine's clock has jumped forward by {}: shorter windows end at once",
            clock_watch::length(jump.unsigned_abs())
        ),
        ClockNews::Jumped(jump) => {
            tracing::warn!("this machine's clock has jumped back by {}", clock_watch::length(jump.unsigned_abs()));
        }
    }
}

impl WorkerLoop {
    pub(crate) fn new(setup: WorkerSetup) -> WorkerLoop {
        let uploader = setup.store.as_ref().map(|store| Uploader::start(Arc::clone(store)));
        let queries = setup.api.clone().map(|api| Queries::new(setup.worker, api, &setup.graph));
        let clocks = ClockWatch::new(setup.restore.plan.job.limits.future_skew);
        WorkerLoop {
            clocks,
            started: Instant::now(),
            clocks_seen: None,
            setup,
            queries,
            uploader,
            writer: None,
            settling: None,
            stop_sent: false,
            end_sent: false,
            ending: None,
            caught_up: false,
            behind: 0,
            start_exits: Vec::new(),
        }
    }

    /// Worker 0: sends all workers what the run starts from.
    pub(crate) fn bootstrap(&self, bootstrap: Bootstrap) {
        restore::send(bootstrap, &self.setup.restore.plan, &self.setup.graph.control);
    }

    /// Runs to the end of the job. `audiences` is the number of the job's.
    pub(crate) fn run(mut self, worker: &mut Worker, audiences: usize) {
        let mut busy = true;
        while !self.setup.graph.handed_over.done() && !self.setup.status.aborted() {
            if busy {
                worker.step();
            } else {
                worker.step_or_park(Some(PARK));
            }
            let handed_over = self.setup.graph.handed_over.with_frontier(|frontier| frontier.first().copied());
            busy = self.between_steps(handed_over);
            self.watch_clocks();
            let Some(handed_over) = handed_over else { continue };
            self.setup.graph.members.compact(handed_over);
            self.setup.epochs.borrow_mut().release_slots(handed_over);
            self.measure_lag(handed_over);
        }
        self.setup.status.publish_lag(self.behind);
        let sizes = self.setup.graph.members.sizes(audiences);
        self.setup.status.publish_members(self.setup.worker as usize % self.setup.status.workers(), sizes);
        // Nothing more is read.
        for dataflow in worker.installed_dataflows() {
            worker.drop_dataflow(dataflow);
        }
    }

    /// Publishes, on the first worker of each process, how far the job's clock is ahead of the machine's; worker 0 logs it.
    fn watch_clocks(&mut self) {
        let WorkerSetup { worker, span, clock, status, epochs, .. } = &self.setup;
        let first = (*worker as usize).is_multiple_of(status.workers());
        if *span != Span::Live || !first || self.clocks_seen.is_some_and(|seen| seen.elapsed() < LOOK_EVERY) {
            return;
        }
        self.clocks_seen = Some(Instant::now());
        let (job, machine) = (epochs.borrow().done().saturating_sub(1), clock.now());
        let ahead = clock_watch::ahead(job, machine);
        status.publish_clock_ahead(ahead);
        let news = self.clocks.look(job, machine, self.started.elapsed());
        if *worker == 0 {
            news.into_iter().for_each(|news| log_clock(news, status.live()));
        }
    }

    fn measure_lag(&mut self, handed_over: Time) {
        let WorkerSetup { span, status, clock, .. } = &self.setup;
        if *span == Span::Live && status.live() && !status.stopped() {
            let mut readers = self.setup.readers.borrow_mut();
            let lag = readers.lag(handed_over, clock.now());
            // Going live takes what it takes, in steps of the clock; once it has been caught up with, every ms counts.
            self.caught_up |= readers.has_caught_up() && lag < CAUGHT_UP;
            if self.caught_up {
                status.publish_lag(lag);
            }
            self.behind = if self.caught_up { 0 } else { lag };
        }
    }

    /// Takes control messages and goes on with what there is to do. `handed_over`: all changes before it have been handed to the
    /// sinks. Returns whether there is more at once.
    fn between_steps(&mut self, handed_over: Option<Time>) -> bool {
        while let Some(message) = self.setup.graph.control.receive() {
            if let Err(failure) = self.receive(message, handed_over) {
                self.setup.status.fail(failure);
                return false;
            }
        }
        if let Err(failure) = self.coordinate(handed_over) {
            self.setup.status.fail(failure);
            return false;
        }
        self.send_stop();
        if let Some(exits) = self.setup.epochs.borrow_mut().take_start_exits() {
            self.setup.graph.control.broadcast(&ControlMessage::Start(StartMessage::Exits(exits)));
        }
        if let Some(checkpoint) = self.settling
            && self.setup.readers.borrow().has_settled(handed_over.unwrap_or(Time::MAX))
        {
            self.settling = None;
            self.mark(checkpoint, handed_over);
        }
        if self.ending.is_some_and(|since| since.elapsed() > WORK_OFF) && !self.setup.status.aborted() {
            tracing::warn!("a sync did not accept all changes before shutdown: they are sent at the next start");
            self.setup.status.abort();
        }
        let busy = [self.step_queries(), self.write_keys(), self.setup.helper.step()];
        busy.contains(&true)
    }

    fn step_queries(&mut self) -> bool {
        let Some(queries) = &mut self.queries else { return false };
        let WorkerSetup { graph, epochs, readers, status, .. } = &mut self.setup;
        queries.step(&mut QueryContext { graph, epochs, readers, status })
    }

    /// Goes on with this worker's share of a checkpoint; returns whether there is more to do at once.
    fn write_keys(&mut self) -> bool {
        let (Some(writer), Some(uploader)) = (&mut self.writer, &self.uploader) else { return false };
        let Some(answer) = writer.step(&self.setup.epochs.borrow(), uploader) else { return writer.is_busy() };
        self.setup.graph.control.send(0, ControlMessage::CheckpointAnswer(answer));
        self.writer = None;
        false
    }

    fn receive(&mut self, message: ControlMessage, handed_over: Option<Time>) -> Result<(), Failure> {
        match message {
            ControlMessage::Start(message) => self.receive_start(message)?,
            ControlMessage::Checkpoint(order) => self.receive_order(order, handed_over),
            ControlMessage::CheckpointAnswer(answer) => {
                let coordinator = self.setup.coordinator.as_mut().expect("only worker 0 is answered");
                coordinator.take(&self.setup.graph.control, answer);
            }
            ControlMessage::Query(message) => {
                if let Some(queries) = &mut self.queries {
                    queries.receive(message);
                }
            }
            ControlMessage::Shutdown(ShutdownMessage::Stop) => {
                self.stop_sent = true;
                self.setup.status.stop();
            }
            ControlMessage::Shutdown(ShutdownMessage::End) => {
                self.setup.readers.borrow_mut().end();
                self.ending = Some(Instant::now());
            }
        }
        Ok(())
    }

    fn receive_start(&mut self, message: StartMessage) -> Result<(), Failure> {
        let WorkerSetup { graph, epochs, readers, restore, .. } = &self.setup;
        match message {
            StartMessage::Exits(exits) => {
                self.start_exits.push(exits);
                if self.start_exits.len() == graph.control.peers() as usize {
                    let exits = std::mem::take(&mut self.start_exits).concat();
                    restore::judge_start(&restore.plan, &epochs.borrow(), &exits)?;
                    epochs.borrow_mut().pass_start();
                    graph.wake_membership.activate();
                }
            }
            StartMessage::Ledger { sync, model, members } => {
                epochs.borrow_mut().restore_ledger(model as usize, sync as usize, &members);
            }
            StartMessage::Removed { members } => epochs.borrow_mut().take_removed(members),
            StartMessage::LedgersSent => {
                epochs.borrow_mut().begin();
                graph.wake_membership.activate();
            }
            begin @ StartMessage::Begin { .. } => {
                let peers = graph.control.peers();
                restore.begin(peers, &begin, &mut epochs.borrow_mut(), &mut readers.borrow_mut())?;
            }
        }
        Ok(())
    }

    fn receive_order(&mut self, order: CheckpointOrder, handed_over: Option<Time>) {
        match order {
            CheckpointOrder::Mark { checkpoint, last: false } => self.mark(checkpoint, handed_over),
            CheckpointOrder::Mark { checkpoint, last: true } => {
                self.setup.readers.borrow_mut().rest();
                self.settling = Some(checkpoint);
            }
            CheckpointOrder::Write { checkpoint, prefix, since } => {
                let prefix = format!("{prefix}-{:03}", self.setup.worker);
                let epochs = &mut self.setup.epochs.borrow_mut();
                self.writer = Some(KeyWriter::new(checkpoint, since, prefix, epochs));
            }
        }
    }

    /// Answers with the progress of this worker's partitions.
    fn mark(&self, checkpoint: u64, handed_over: Option<Time>) {
        let progress = self.setup.readers.borrow_mut().progress(handed_over.unwrap_or(Time::MAX));
        let in_force = self.setup.epochs.borrow().steady();
        let answer = CheckpointAnswer { checkpoint, in_force, step: CheckpointStep::Marked(progress) };
        self.setup.graph.control.send(0, ControlMessage::CheckpointAnswer(answer));
    }

    /// Worker 0: makes checkpoints, and lets all workers end if the job was asked to stop. A job that is not live ends at once:
    /// it has committed nothing.
    fn coordinate(&mut self, handed_over: Option<Time>) -> Result<(), Failure> {
        if self.setup.worker != 0 || self.end_sent {
            return Ok(());
        }
        let stopped = self.setup.status.stopped();
        let over = match handed_over {
            Some(clock) if self.setup.coordinator.is_some() && self.setup.status.live() => {
                self.checkpoint(stopped, clock)?
            }
            _ => true,
        };
        if stopped && over {
            self.end_sent = true;
            self.setup.graph.control.broadcast(&ControlMessage::Shutdown(ShutdownMessage::End));
        }
        Ok(())
    }

    /// Goes on with the checkpoint; returns whether it was the last. `clock`: all changes before it have been handed to the sinks.
    fn checkpoint(&mut self, stopped: bool, clock: Time) -> Result<bool, Failure> {
        let (Some(coordinator), Some(uploader)) = (&mut self.setup.coordinator, &self.uploader) else {
            return Ok(true);
        };
        if stopped {
            coordinator.stop();
        }
        coordinator.read_since(self.setup.epochs.borrow().fact_since());
        let by_sinks = {
            let sinks = lock(&self.setup.sinks);
            sinks.iter().map(|sink| sink.committed()).min().unwrap_or(Time::MAX)
        };
        let ledgers = || {
            let sinks = lock(&self.setup.sinks);
            let positions = self.setup.restore.plan.job.syncs.keys().zip(sinks.iter());
            positions.filter_map(|(id, sink)| Some((id.clone(), sink.position()?))).collect()
        };
        let made = coordinator
            .step(&self.setup.graph.control, uploader, clock, by_sinks.min(clock), ledgers)
            .map_err(|error| Failure::of_state(&error))?;
        self.setup.status.publish_failed_checkpoints(coordinator.failed());
        if let Some(made) = made {
            let took_ms = made.took.as_millis() as u64;
            let (written, bytes, parts) = (made.written, made.bytes, made.parts);
            tracing::debug!(took_ms, written, bytes, parts, "checkpoint");
            self.setup.status.publish_checkpoint(made.took, made.bytes);
        }
        Ok(coordinator.is_over())
    }

    /// Sends the other processes that this one was asked to stop.
    fn send_stop(&mut self) {
        let first = self.setup.threads.is_some_and(|threads| self.setup.worker.is_multiple_of(threads));
        if first && self.setup.status.stopped() && !self.stop_sent {
            self.stop_sent = true;
            self.setup.graph.control.broadcast(&ControlMessage::Shutdown(ShutdownMessage::Stop));
        }
    }
}
