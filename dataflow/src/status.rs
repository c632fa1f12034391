//! What a job has done so far: written by the workers, readable from any thread while it runs.
//!
//! Each fact is counted once, by the worker that sees it, and published here: messages by source, transitions by audience,
//! repeats by event. The closing line, the metrics and the API read the same numbers.

use crate::failure::Failure;
use crate::ingest::pace::Pace;
use crate::ingest::seen::Seen;
use crate::start_difference::{Conditions, StartDifference, keep_condition};
use crate::state::event_counts::EventCounts;
use crate::time::Time;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};
use usher_core::counts::Counts;
use usher_core::lock::lock;
use usher_core::schemas::Schemas;
use usher_core::sink::{Standing, SyncStatus};
use usher_core::source::{PartitionId, SourceError};

/// What a worker has read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    /// What became of messages, by source.
    pub(crate) messages: Vec<Counts>,
    /// Bytes read of its partitions, and how many were stored when they were opened.
    pub(crate) bytes: (u64, u64),
    /// The files that are damaged in the middle, by source; what comes before counts.
    pub(crate) damaged: Vec<(usize, SourceError)>,
}

/// How far a partition has been read, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceReport {
    pub(crate) id: PartitionId,
    /// The position of the next message.
    pub(crate) position: u64,
    /// Messages that are there and have not been read, if that is known.
    pub(crate) lag: Option<u64>,
    /// The greatest timestamp of its events.
    pub(crate) newest: Option<Time>,
}

/// The changes of an audience that were given to the syncs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transitions {
    /// Entries.
    pub entries: u64,
    /// Exits.
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
    /// How many were given up.
    pub failed: u64,
    /// When the job began that makes them; `None` if it keeps no state.
    pub started: Option<Instant>,
    /// When the last one was made.
    pub last: Option<Instant>,
}

/// What one worker has counted.
#[derive(Default)]
struct WorkerStatus {
    reading: Mutex<Reading>,
    /// What has come in, by source.
    seen: Mutex<Vec<Seen>>,
    /// The progress of its partitions, as the API shows it.
    partitions: Mutex<Vec<SourceReport>>,
    /// What took effect, by event of the plan.
    event_counts: Mutex<Vec<EventCounts>>,
    /// By audience, in order of their ids.
    transitions: Mutex<Vec<Transitions>>,
    /// Exits of memberships whose audience is gone.
    removed_exits: AtomicU64,
    /// Members by audience at the end of the run, from the arrangement.
    members: Mutex<Vec<u64>>,
    keys: AtomicU64,
    /// Keys that are held, by audience, in order of their ids.
    held: Mutex<Vec<u64>>,
}

/// The status of a job in this process.
pub struct Status {
    workers: Vec<WorkerStatus>,
    audiences: usize,
    clock: AtomicU64,
    live: AtomicU64,
    lag_ms_max: AtomicU64,
    clock_ahead: AtomicU64,
    /// Per model and fact, from when on the events of its window were read.
    fact_since: Mutex<Vec<Vec<Time>>>,
    checkpoints: Mutex<Checkpoints>,
    conditions: Mutex<Conditions>,
    start_difference: Mutex<Option<StartDifference>>,
    stop: AtomicBool,
    abort: AtomicBool,
    pace: Pace,
    failure: Mutex<Option<Failure>>,
    /// Of the syncs, in the order of the job; empty in processes that write to none.
    syncs: OnceLock<Vec<Arc<dyn Standing>>>,
    /// By source, the schemas that its messages name, if they name any.
    schemas: OnceLock<Vec<Option<Arc<dyn Schemas>>>>,
}

impl Status {
    /// Returns the status of a job of so many workers and audiences that is about to run.
    pub fn new(workers: usize, audiences: usize) -> Arc<Status> {
        let worker = || WorkerStatus {
            transitions: Mutex::new(vec![Transitions::default(); audiences]),
            members: Mutex::new(vec![0; audiences]),
            held: Mutex::new(vec![0; audiences]),
            ..WorkerStatus::default()
        };
        Arc::new(Status {
            workers: (0..workers).map(|_| worker()).collect(),
            audiences,
            clock: AtomicU64::new(0),
            live: AtomicU64::new(0),
            lag_ms_max: AtomicU64::new(0),
            clock_ahead: AtomicU64::new(0),
            fact_since: Mutex::new(Vec::new()),
            checkpoints: Mutex::new(Checkpoints::default()),
            conditions: Mutex::new(Conditions::new()),
            start_difference: Mutex::new(None),
            stop: AtomicBool::new(false),
            abort: AtomicBool::new(false),
            pace: Pace::new(workers),
            failure: Mutex::new(None),
            syncs: OnceLock::new(),
            schemas: OnceLock::new(),
        })
    }

    /// Asks the job to stop: what was read is worked off and, if the job is live, goes into a last checkpoint; then it ends.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.pace.stir();
    }

    /// Returns how the syncs stand, in the order of the job; nothing before the job runs, and in processes that write to none.
    pub fn syncs(&self) -> Vec<SyncStatus> {
        self.syncs.get().into_iter().flatten().map(|sync| sync.status()).collect()
    }

    /// Returns what the start sends, once it is known, and the first time only.
    pub fn take_start_difference(&self) -> Option<StartDifference> {
        lock(&self.start_difference).take()
    }

    /// Publishes what the start sends.
    pub(crate) fn publish_start_difference(&self, difference: StartDifference) {
        *lock(&self.start_difference) = Some(difference);
    }

    /// Publishes the conditions that decide members of a worker at the start.
    pub(crate) fn publish_conditions(&self, conditions: Conditions) {
        let mut all = lock(&self.conditions);
        for (of, keys) in conditions {
            keys.into_iter().for_each(|(key, condition)| keep_condition(&mut all, of, &key, || condition));
        }
    }

    /// Returns the conditions that decide members at the start.
    pub(crate) fn conditions(&self) -> Conditions {
        lock(&self.conditions).clone()
    }

    /// Ends the job at once: what has been committed is flushed, nothing more is read.
    pub fn abort(&self) {
        self.abort.store(true, Ordering::Release);
    }

    /// Returns what was read, and what became of it.
    pub fn counts(&self) -> Counts {
        let mut all = Counts::default();
        for worker in &self.workers {
            lock(&worker.reading).messages.iter().for_each(|counts| all += *counts);
            all.repeats += lock(&worker.event_counts).iter().map(|counts| counts.repeated_messages).sum::<u64>();
        }
        all
    }

    /// Returns the number of keys of which something is known.
    pub fn keys(&self) -> u64 {
        self.workers.iter().map(|worker| worker.keys.load(Ordering::Relaxed)).sum()
    }

    /// Returns the entries and exits of each audience, in order of the audiences' ids. A change that was given to several syncs
    /// counts once. Exits of audiences that the job no longer has are [`Status::removed_exits`].
    pub fn transitions(&self) -> Vec<Transitions> {
        let mut all = vec![Transitions::default(); self.audiences];
        for worker in &self.workers {
            for (all, one) in all.iter_mut().zip(&*lock(&worker.transitions)) {
                all.entries += one.entries;
                all.exits += one.exits;
            }
        }
        all
    }

    /// Returns the exits from audiences that the job or a sync no longer has, each membership once.
    pub fn removed_exits(&self) -> u64 {
        self.workers.iter().map(|worker| worker.removed_exits.load(Ordering::Relaxed)).sum()
    }

    /// Returns the members of each audience at the end of the run, in order of the audiences' ids.
    pub fn members(&self) -> Vec<u64> {
        let mut all = vec![0; self.audiences];
        for worker in &self.workers {
            all.iter_mut().zip(&*lock(&worker.members)).for_each(|(all, one)| *all += one);
        }
        all
    }

    /// Returns how many bytes of the sources were read, and how many were stored at the start.
    pub fn bytes(&self) -> (u64, u64) {
        let bytes = self.workers.iter().map(|worker| lock(&worker.reading).bytes);
        bytes.fold((0, 0), |(read, of), (r, o)| (read + r, of + o))
    }

    /// Returns the files of the sources that are damaged in the middle: what comes before was read.
    pub fn damaged(&self) -> Vec<SourceError> {
        self.damaged_files().into_iter().map(|(_, damage)| damage).collect()
    }

    /// Returns the damaged files with the indexes of their sources.
    pub(crate) fn damaged_files(&self) -> Vec<(usize, SourceError)> {
        self.workers.iter().flat_map(|worker| lock(&worker.reading).damaged.clone()).collect()
    }

    /// Returns up to when all changes have been handed to the syncs, ms since the epoch.
    pub fn clock(&self) -> Time {
        self.clock.load(Ordering::Relaxed)
    }

    /// Returns the greatest lag of the changes behind the clock since the job went live and caught up with it, ms.
    pub fn lag_ms_max(&self) -> u64 {
        self.lag_ms_max.load(Ordering::Relaxed)
    }

    /// Returns how far the job's clock is ahead of the machine's, ms; 0 below a second.
    pub fn clock_ahead(&self) -> u64 {
        self.clock_ahead.load(Ordering::Relaxed)
    }

    /// Returns whether every worker has announced its members: the job is live.
    pub fn live(&self) -> bool {
        self.live.load(Ordering::Relaxed) == self.workers.len() as u64
    }

    /// Returns the checkpoints of this run.
    pub fn checkpoints(&self) -> Checkpoints {
        *lock(&self.checkpoints)
    }

    /// Returns, per model and fact, from when on the events of its window were read; empty before the job is live.
    pub(crate) fn fact_since(&self) -> Vec<Vec<Time>> {
        lock(&self.fact_since).clone()
    }

    /// Returns the keys of this process that are held until windows are complete, by audience in order of their ids.
    pub(crate) fn held(&self) -> Vec<u64> {
        let mut all = vec![0; self.audiences];
        for worker in &self.workers {
            all.iter_mut().zip(&*lock(&worker.held)).for_each(|(all, one)| *all += one);
        }
        all
    }

    /// Returns the number of workers of this process.
    pub(crate) fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Returns what became of messages, by source: the sum over the workers.
    pub(crate) fn messages(&self) -> Vec<Counts> {
        let mut all: Vec<Counts> = Vec::new();
        for worker in &self.workers {
            let reading = lock(&worker.reading);
            all.resize(all.len().max(reading.messages.len()), Counts::default());
            all.iter_mut().zip(&reading.messages).for_each(|(all, one)| *all += *one);
        }
        all
    }

    /// Returns what has come in, by source: the sum over the workers.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let mut all: Vec<Seen> = Vec::new();
        for worker in &self.workers {
            let seen = lock(&worker.seen);
            all.resize_with(all.len().max(seen.len()), Seen::default);
            all.iter_mut().zip(&*seen).for_each(|(all, one)| all.add(one));
        }
        all
    }

    /// Returns what a worker of this process has seen, by source, to be added to.
    pub(crate) fn seen_by(&self, worker: usize) -> MutexGuard<'_, Vec<Seen>> {
        lock(&self.workers[worker].seen)
    }

    /// Returns what took effect, by event of the plan: the sum over the workers.
    pub(crate) fn event_counts(&self) -> Vec<EventCounts> {
        let mut all: Vec<EventCounts> = Vec::new();
        for worker in &self.workers {
            let counts = lock(&worker.event_counts);
            all.resize(all.len().max(counts.len()), EventCounts::default());
            all.iter_mut().zip(&*counts).for_each(|(all, one)| all.add(one));
        }
        all
    }

    /// Returns the progress of the partitions of this process.
    pub(crate) fn partitions(&self) -> Vec<SourceReport> {
        self.workers.iter().flat_map(|worker| lock(&worker.partitions).clone()).collect()
    }

    /// Returns the pace of the workers of this process.
    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(crate) fn aborted(&self) -> bool {
        self.abort.load(Ordering::Acquire)
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Ends the job at once. The first failure is kept.
    pub(crate) fn fail(&self, failure: Failure) {
        lock(&self.failure).get_or_insert(failure);
        self.abort();
    }

    pub(crate) fn take_failure(&self) -> Option<Failure> {
        lock(&self.failure).take()
    }

    /// Sets the schemas that the messages of each source name, once.
    pub(crate) fn set_schemas(&self, schemas: Vec<Option<Arc<dyn Schemas>>>) {
        let _ = self.schemas.set(schemas);
    }

    /// Returns, by source, the schemas that its messages name; nothing before they are set.
    pub(crate) fn schemas(&self) -> &[Option<Arc<dyn Schemas>>] {
        self.schemas.get().map_or(&[], Vec::as_slice)
    }

    /// Takes the handles on the syncs. Panics if it is called twice.
    pub(crate) fn set_syncs(&self, syncs: Vec<Arc<dyn Standing>>) {
        assert!(self.syncs.set(syncs).is_ok(), "it is for one run");
    }

    // Published by the workers of this process, by their number in it.

    pub(crate) fn publish_reading(&self, worker: usize, reading: Reading) {
        *lock(&self.workers[worker].reading) = reading;
    }

    pub(crate) fn publish_partitions(&self, worker: usize, partitions: Vec<SourceReport>) {
        *lock(&self.workers[worker].partitions) = partitions;
    }

    pub(crate) fn publish_keys(&self, worker: usize, keys: usize) {
        self.workers[worker].keys.store(keys as u64, Ordering::Relaxed);
    }

    pub(crate) fn publish_event_counts(&self, worker: usize, counts: &[EventCounts]) {
        counts.clone_into(&mut lock(&self.workers[worker].event_counts));
    }

    pub(crate) fn publish_transitions(&self, worker: usize, transitions: &[Transitions], removed_exits: u64) {
        lock(&self.workers[worker].transitions).copy_from_slice(transitions);
        self.workers[worker].removed_exits.store(removed_exits, Ordering::Relaxed);
    }

    pub(crate) fn publish_members(&self, worker: usize, sizes: Vec<u64>) {
        *lock(&self.workers[worker].members) = sizes;
    }

    pub(crate) fn publish_checkpoint(&self, took: Duration, bytes: u64) {
        let mut checkpoints = lock(&self.checkpoints);
        let made = checkpoints.made + 1;
        *checkpoints = Checkpoints { made, took, bytes, last: Some(Instant::now()), ..*checkpoints };
    }

    /// Takes it that the job keeps state, from now on.
    pub(crate) fn keep_state(&self) {
        lock(&self.checkpoints).started = Some(Instant::now());
    }

    pub(crate) fn publish_failed_checkpoints(&self, failed: u64) {
        lock(&self.checkpoints).failed = failed;
    }

    pub(crate) fn publish_clock(&self, clock: Time) {
        self.clock.fetch_max(clock, Ordering::Relaxed);
    }

    pub(crate) fn publish_lag(&self, ms: u64) {
        self.lag_ms_max.fetch_max(ms, Ordering::Relaxed);
    }

    pub(crate) fn publish_fact_since(&self, fact_since: Vec<Vec<Time>>) {
        *lock(&self.fact_since) = fact_since;
    }

    pub(crate) fn publish_held(&self, worker: usize, held: Vec<u64>) {
        *lock(&self.workers[worker].held) = held;
    }

    pub(crate) fn publish_clock_ahead(&self, ms: u64) {
        self.clock_ahead.store(ms, Ordering::Relaxed);
    }

    pub(crate) fn publish_live(&self) {
        self.live.fetch_add(1, Ordering::Relaxed);
    }
}
