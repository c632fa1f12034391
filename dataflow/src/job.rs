//! What the workers of a job share, and what comes of it.

use crate::cluster::Pulse;
use crate::engine::JobApi;
use crate::keeper::Span;
use crate::time::Time;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use usher_core::catalog::Catalog;
use usher_core::clock::Clock;
use usher_core::counts::Counts;
use usher_core::dead_letters::DeadLetters;
use usher_core::ledger::Ledger;
use usher_core::sink::Sink;
use usher_core::source::Source;
use usher_core::store::Store;
use usher_core::warehouse::Warehouse;
use usher_queries::plan::Plan;

/// A job with everything opened, ready to run.
pub struct OpenedJob {
    /// What it means.
    pub plan: Plan,
    /// From where to where.
    pub span: Span,
    /// The time: of the clock under [`Span::Live`]; beyond which a message is of the future under [`Span::Replay`].
    pub clock: Arc<dyn Clock>,
    /// Its sources, by id.
    pub sources: Vec<(String, Box<dyn Source>)>,
    /// The Parquet of each model of the plan that has some, by index.
    pub warehouses: Vec<Option<Box<dyn Warehouse>>>,
    /// Where changes go, in the order of the job's syncs. They come in order of (time, audience, key), stretch by stretch.
    pub sinks: Vec<Box<dyn Sink>>,
    /// What messages call audiences, those that the job no longer has too.
    pub catalog: Arc<Catalog>,
    /// What an earlier run left behind, and where to leave it; none: nothing is kept.
    pub recovery: Option<Recovery>,
    /// The other processes, if there are any.
    pub cluster: Option<Cluster>,
    /// Where bad messages go.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// What the API asks; none: there is no API.
    pub api: Option<Arc<JobApi>>,
    /// Worker threads of this process, at least 1.
    pub workers: usize,
}

/// What an earlier run left behind, and where to leave it.
pub struct Recovery {
    /// The state.
    pub store: Arc<dyn Store>,
    /// A random number of this start: parts that it stores have it in their names.
    pub incarnation: u64,
    /// The manifest that claimed the state for this run, and its number. In the first process only.
    pub claim: Option<(u64, Vec<u8>)>,
    /// What each sync was told, in the order of the job. In the first process only.
    pub ledgers: Vec<Ledger>,
    /// How often state is written.
    pub checkpoint_every: Duration,
    /// Partitions that are not what was read are read from where they are entered, instead of ending the job.
    pub restart_sources: bool,
}

/// The other processes of a job, connected.
pub struct Cluster {
    /// Which one this is.
    pub(crate) process: usize,
    /// Streams to the others, by process; none at its own place.
    pub(crate) sockets: Vec<Option<TcpStream>>,
    pub(crate) pulse: Pulse,
}

/// Why a job that ran could not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What part of the world failed.
    pub kind: FailureKind,
    /// What happened, to what.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// The parts of the world that can end a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// A source could not be read on.
    Source,
    /// The first pull of a model failed.
    FirstPull,
    /// A sink could not be written.
    Sink,
    /// Whoever read the changes has gone away.
    SinkClosed,
    /// State could not be gone on from at the start.
    Resume,
    /// State could not be kept.
    State,
    /// Another process was lost.
    Peer,
}

/// How often each audience was entered and left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Turns {
    pub entries: u64,
    pub exits: u64,
}

/// The checkpoints of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpoints {
    /// How many were made.
    pub made: u64,
    /// How long the last one took.
    pub took: Duration,
    /// How many bytes its parts have.
    pub bytes: u64,
}

/// What a job has done so far; readable from any thread while it runs.
pub struct Status {
    counts: Mutex<Vec<Counts>>,
    repeats: Vec<AtomicU64>,
    keys: Vec<AtomicU64>,
    turns: Mutex<Vec<Vec<Turns>>>,
    members: Mutex<Vec<Vec<u64>>>,
    bytes: Mutex<Vec<(u64, u64)>>,
    clock: AtomicU64,
    live: AtomicU64,
    lag_ms_max: AtomicU64,
    checkpoints: Mutex<Checkpoints>,
    pub(crate) stop: AtomicBool,
    pub(crate) abort: AtomicBool,
    failure: Mutex<Option<Failure>>,
}

impl Status {
    /// For a job of so many workers and audiences.
    pub fn new(workers: usize, audiences: usize) -> Arc<Status> {
        Arc::new(Status {
            counts: Mutex::new(vec![Counts::default(); workers]),
            repeats: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            keys: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            turns: Mutex::new(vec![vec![Turns::default(); audiences]; workers]),
            members: Mutex::new(vec![vec![0; audiences]; workers]),
            bytes: Mutex::new(vec![(0, 0); workers]),
            clock: AtomicU64::new(0),
            live: AtomicU64::new(0),
            lag_ms_max: AtomicU64::new(0),
            checkpoints: Mutex::new(Checkpoints::default()),
            stop: AtomicBool::new(false),
            abort: AtomicBool::new(false),
            failure: Mutex::new(None),
        })
    }

    /// Asks the job to stop: what was read is worked off and, where it is live, goes into a last checkpoint; then it ends.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// What was read, and what became of it.
    pub fn counts(&self) -> Counts {
        let mut all = Counts::default();
        locked(&self.counts).iter().for_each(|counts| all += *counts);
        all.repeats = self.repeats.iter().map(|n| n.load(Ordering::Relaxed)).sum();
        all
    }

    /// Keys of which something is known.
    pub fn keys(&self) -> u64 {
        self.keys.iter().map(|n| n.load(Ordering::Relaxed)).sum()
    }

    /// Entries and exits per audience, in order of the audiences' ids.
    pub fn turns(&self) -> Vec<Turns> {
        let turns = locked(&self.turns);
        let mut all = turns[0].clone();
        for worker in &turns[1..] {
            for (all, one) in all.iter_mut().zip(worker) {
                all.entries += one.entries;
                all.exits += one.exits;
            }
        }
        all
    }

    /// How many members each audience has in the end, in order of the audiences' ids.
    pub fn members(&self) -> Vec<u64> {
        let members = locked(&self.members);
        (0..members[0].len()).map(|audience| members.iter().map(|worker| worker[audience]).sum()).collect()
    }

    /// Bytes read of the sources, and how many stood there at the start.
    pub fn bytes(&self) -> (u64, u64) {
        locked(&self.bytes).iter().fold((0, 0), |(read, of), (r, o)| (read + r, of + o))
    }

    /// How far the changes have been told, ms since the epoch.
    pub fn clock(&self) -> Time {
        self.clock.load(Ordering::Relaxed)
    }

    /// The most that what was told has been behind the clock since the job went live and caught up with it, ms.
    pub fn lag_ms_max(&self) -> u64 {
        self.lag_ms_max.load(Ordering::Relaxed)
    }

    /// Whether every worker has announced who belongs: what is told from now on is news.
    pub fn live(&self) -> bool {
        self.live.load(Ordering::Relaxed) == self.keys.len() as u64
    }

    /// The checkpoints of this run.
    pub fn checkpoints(&self) -> Checkpoints {
        *locked(&self.checkpoints)
    }

    /// How many workers this process has.
    pub(crate) fn workers(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn publish_checkpoint(&self, took: Duration, bytes: u64) {
        let mut checkpoints = locked(&self.checkpoints);
        *checkpoints = Checkpoints { made: checkpoints.made + 1, took, bytes };
    }

    /// Ends the job at once. The first failure is kept.
    pub(crate) fn fail(&self, failure: Failure) {
        locked(&self.failure).get_or_insert(failure);
        self.abort.store(true, Ordering::Release);
    }

    pub(crate) fn take_failure(&self) -> Option<Failure> {
        locked(&self.failure).take()
    }

    /// Ends the job where it stands: what has been told is flushed, nothing more is read.
    pub fn abort(&self) {
        self.abort.store(true, Ordering::Release);
    }

    pub(crate) fn aborted(&self) -> bool {
        self.abort.load(Ordering::Acquire)
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// `worker`: of this process.
    pub(crate) fn publish_reading(&self, worker: usize, counts: &Counts, bytes: (u64, u64)) {
        locked(&self.counts)[worker] = *counts;
        locked(&self.bytes)[worker] = bytes;
    }

    pub(crate) fn publish_keeping(&self, worker: usize, repeats: u64, keys: usize, turns: &[Turns]) {
        self.repeats[worker].store(repeats, Ordering::Relaxed);
        self.keys[worker].store(keys as u64, Ordering::Relaxed);
        locked(&self.turns)[worker].copy_from_slice(turns);
    }

    pub(crate) fn publish_clock(&self, clock: Time) {
        self.clock.fetch_max(clock, Ordering::Relaxed);
    }

    pub(crate) fn publish_members(&self, worker: usize, sizes: Vec<u64>) {
        locked(&self.members)[worker] = sizes;
    }

    pub(crate) fn publish_lag(&self, ms: u64) {
        self.lag_ms_max.fetch_max(ms, Ordering::Relaxed);
    }

    pub(crate) fn publish_live(&self) {
        self.live.fetch_add(1, Ordering::Relaxed);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("a worker panicked, which ends the process")
}
