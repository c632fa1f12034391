//! Reads a worker's partitions: which one next, how much, and how far time has come. Without a dataflow around it.
//!
//! Three modes:
//! * **Replay** reads the partition whose own clock is furthest behind, so that partitions that run apart in time are not held in
//!   memory. The worker's clock is the least of them.
//! * **Catch up**, at the start of a live job, does the same with what was stored when the partitions were opened, so that what
//!   expired while the job was down is dated by when it expired.
//! * **Live** polls the partitions in rotation. The worker's clock is the job's, at most [`STEP`] ahead of what has been handed over.
//!
//! Under replay and catch-up chunks are read ahead while workers of the process have nothing left to read, which then help to decode them
//! ([`crate::ingest::decoding`]); chunks are taken in one by one, in the order in which they would have been read.
//!
//! Promises: one chunk of a partition per activation; beyond [`IN_FLIGHT`] bytes on their way to the owners nothing more is read,
//! and messages wait in the sources. Holds per partition which positions may not have taken effect yet:
//! [`PartitionReaders::progress`] returns the position from which each would have to be read again. Reads nothing before the
//! partitions are handed in ([`PartitionReaders::hand_in`]).
//!
//! A live job reads until [`PartitionReaders::rest`]; its clock then goes on until [`PartitionReaders::end`].

use crate::failure::Failure;
use crate::ingest::advice::{Advisor, LOOK_AFTER};
use crate::ingest::decoding::{ChunkContext, DecodeTask, Decoded, SharedDecoding, Wake};
use crate::ingest::event_batch::{EventBatch, hash_partition};
use crate::ingest::match_events::{EventMatcher, MessageClock, MessageContext, Output, PartitionClock, Scratch};
use crate::ingest::pace::{Rest, TICK};
use crate::ingest::read_ahead::{PolledAhead, ReadAhead};
use crate::ingest::seen::Seen;
use crate::ingest::watch::Watch;
use crate::status::{Reading, SourceReport, Status};
use crate::time::Span;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use usher_core::clock::Clock;
use usher_core::counts::Counts;
use usher_core::dead_letters::DeadLetters;
use usher_core::lock::lock;
use usher_core::source::{Partition, PartitionId, Polled, ReadFrom, Records, Resume, Source, SourceError};
use usher_formats::Fields;

/// Bytes of a partition read at a time: some 300 messages, a quarter of a millisecond.
const CHUNK: usize = 256 << 10;
/// Bytes of events sent that the slowest worker has not worked off, beyond which nothing more is read.
const IN_FLIGHT: usize = 64 << 20;
/// Chunks that are read ahead for each worker that decodes: while one is decoded the next ones wait.
const AHEAD: usize = 4;
/// How often sources are asked for new partitions.
const DISCOVER: Duration = Duration::from_secs(1);
/// How often what has come in is looked at.
const ADVISE_EVERY: Duration = Duration::from_secs(10);
/// How far the live clock may be ahead of what has been handed over to the sinks, ms. It spreads what expires while a job is down, and produces no
/// changes that a slow destination can't take.
const STEP: Time = 1_000;
/// How soon the clock is looked at again when events have been read at this ms: the next ones are read at the next ms.
const SOON: Duration = Duration::from_micros(500);

/// A partition that this worker reads.
pub(crate) struct PartitionReader {
    /// Index in [`ReaderSetup::matchers`].
    source: usize,
    rank: u32,
    id: PartitionId,
    partition: ReadAhead,
    clock: PartitionClock,
    /// [`hash_partition`] of its id.
    seed: u64,
    /// Per batch with events that may not have taken effect: the latest time at which one does, and the position at which the
    /// batch begins. Both ascend.
    pending: VecDeque<(Time, u64)>,
    /// When all that has been read of it takes effect.
    effective: Time,
    /// The greatest timestamp of its events.
    newest: Option<Time>,
    /// The timestamp of its first event.
    oldest: Option<Time>,
    since: ReadSince,
    /// The position and time that [`PartitionReaders::take_moved`] returned last.
    reported: Option<(u64, Time)>,
    /// Whether the partition says when a message comes; `None` before it was asked to.
    waking: Option<bool>,
}

impl PartitionReader {
    /// Returns a reader of an opened partition of the source with an index, read since `since`. No message of it takes effect before
    /// `not_before`.
    pub(crate) fn new(
        source: usize,
        rank: u32,
        partition: Box<dyn Partition>,
        since: ReadSince,
        not_before: Option<Time>,
    ) -> PartitionReader {
        PartitionReader {
            source,
            rank,
            seed: hash_partition(partition.id()),
            id: partition.id().clone(),
            partition: ReadAhead::new(partition),
            clock: PartitionClock { first: None, greatest: not_before },
            pending: VecDeque::new(),
            effective: 0,
            newest: None,
            oldest: None,
            since,
            reported: None,
            waking: None,
        }
    }

    /// Returns what has changed since the last call, if anything has.
    fn take_moved(&mut self) -> Option<Moved> {
        let now = (self.partition.position(), self.effective);
        if self.reported.replace(now) == Some(now) {
            return None;
        }
        Some(Moved { id: self.partition.id().clone(), position: now.0, at: now.1 })
    }

    /// Returns the times from which on conditions have all that it has, at the time `now`.
    fn source_since(&self, now: Time) -> SourceSince {
        let time = |from: ReadFrom| match from {
            ReadFrom::Ever => 0,
            ReadFrom::Time(time) => time,
            // Of a partition that had nothing any more it is not known what was deleted.
            ReadFrom::Oldest => self.oldest.unwrap_or(now),
        };
        SourceSince { source: self.source as u32, new: time(self.since.new), kept: time(self.since.kept) }
    }

    /// Returns the position before which all that takes effect before `done` need not be read again.
    fn resume(&mut self, done: Time) -> PartitionProgress {
        while self.pending.front().is_some_and(|(latest, _)| *latest < done) {
            self.pending.pop_front();
        }
        let position = self.pending.front().map_or(self.partition.position(), |(_, first)| *first);
        let resume = Resume { position, identity: self.partition.identity() };
        PartitionProgress { rank: self.rank, id: self.partition.id().clone(), resume }
    }

    /// Notes what a chunk that began at `first` brought.
    fn note(&mut self, first: u64, batches: &[EventBatch]) {
        let mut events = batches.iter().flat_map(|batch| &batch.events);
        let Some(event) = events.next() else { return };
        let (mut effect, mut oldest, mut newest) = (event.at, event.timestamp, event.timestamp);
        for event in events {
            effect = effect.max(event.at);
            (oldest, newest) = (oldest.min(event.timestamp), newest.max(event.timestamp));
        }
        // An earlier batch that takes effect no earlier covers this one.
        if self.pending.back().is_none_or(|(before, _)| *before < effect) {
            self.pending.push_back((effect, first));
        }
        self.effective = self.effective.max(effect);
        self.newest = self.newest.max(Some(newest));
        self.oldest.get_or_insert(oldest);
    }
}

/// The partitions that a worker reads, shared between the operator that reads them and the worker's loop.
#[derive(Default)]
pub(crate) struct PartitionReaders {
    reading: Vec<PartitionReader>,
    /// Those at their end.
    ended: Vec<PartitionReader>,
    /// Whether they have been handed in.
    ready: bool,
    /// The rank of the next one that is discovered.
    next_rank: u32,
    /// Whether something has been read since the last [`PartitionReaders::take_moved`].
    moved: bool,
    /// Whether something has been read since the last [`PartitionReaders::report`].
    has_read: bool,
    /// Whether nothing more is to be read.
    resting: bool,
    /// The clock when reading stopped.
    rests_from: Option<Time>,
    /// Whether the clock is to end.
    ending: bool,
    /// Whether the live clock stood at now when it was moved last.
    caught_up: bool,
    /// Moves of the live clock whose changes may not have been handed over: where to, and since when something that they bring was due.
    moves: VecDeque<(Time, Time)>,
}

/// A partition that has been read further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) id: PartitionId,
    /// All before this position …
    pub(crate) position: u64,
    /// … takes effect at this time or before.
    pub(crate) at: Time,
}

/// From when on a partition is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadSince {
    /// For conditions that are new.
    pub(crate) new: ReadFrom,
    /// For conditions that an earlier run has kept, beside what it had read for them.
    pub(crate) kept: ReadFrom,
}

/// The times, ms since the epoch, from which on the partitions of a source are read; 0: from their first messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct SourceSince {
    /// The source's index by id.
    pub(crate) source: u32,
    /// As [`ReadSince`] has them.
    pub(crate) new: Time,
    pub(crate) kept: Time,
}

/// From where a partition would have to be read again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct PartitionProgress {
    /// Its rank in the order of arrival.
    pub(crate) rank: u32,
    pub(crate) id: PartitionId,
    pub(crate) resume: Resume,
}

/// What the readers of one worker send to all workers: where the clock starts and ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum SourceProgress {
    /// Replay: the least first timestamp of its partitions. Live: its clock when it had caught up, and from when on each of its
    /// partitions is read.
    Opened(Option<Time>, Vec<SourceSince>),
    /// Replay: the greatest timestamp. Live: the clock at which it was stopped.
    Ended(Option<Time>),
}

impl PartitionReaders {
    /// Hands the partitions in, once. Those discovered later get ranks from `next_rank` on, in steps of the number of workers.
    ///
    /// # Panics
    /// Panics if partitions were handed in before.
    pub(crate) fn hand_in(&mut self, readers: Vec<PartitionReader>, next_rank: u32) {
        assert!(!self.ready, "partitions are handed in once");
        (self.reading, self.ready, self.next_rank) = (readers, true, next_rank);
        self.note_read();
    }

    /// Notes that something has been read, or is there to be reported.
    fn note_read(&mut self) {
        (self.moved, self.has_read) = (true, true);
    }

    /// Stops reading with the next activation. The clock goes on.
    pub(crate) fn rest(&mut self) {
        self.resting = true;
    }

    /// Ends the clock with the next activation.
    pub(crate) fn end(&mut self) {
        self.ending = true;
    }

    /// Returns whether reading has stopped and all that was read has taken effect, if all that takes effect before `done` has.
    ///
    /// Events dated later than the clock at which reading stopped are not waited for.
    pub(crate) fn has_settled(&self, done: Time) -> bool {
        let settled = |at: Time, reader: &PartitionReader| {
            reader.pending.iter().take_while(|(effect, _)| *effect <= at).all(|(effect, _)| *effect < done)
        };
        let mut all = self.reading.iter().chain(&self.ended);
        self.rests_from.is_some_and(|at| all.all(|reader| settled(at, reader)))
    }

    /// Returns whether the live clock has been moved to now; one that is late goes on in steps of [`STEP`].
    pub(crate) fn has_caught_up(&self) -> bool {
        self.caught_up
    }

    /// Returns how far what has been handed over lags behind what was due, ms, at the time `now`.
    pub(crate) fn lag(&mut self, handed_over: Time, now: Time) -> Time {
        while self.moves.pop_front_if(|(to, _)| *to <= handed_over).is_some() {}
        self.moves.front().map_or(0, |(_, since)| now.saturating_sub(*since))
    }

    /// Returns the partitions that have been read further since the last call.
    pub(crate) fn take_moved(&mut self) -> Vec<Moved> {
        if !std::mem::take(&mut self.moved) {
            return Vec::new();
        }
        self.reading.iter_mut().chain(&mut self.ended).filter_map(PartitionReader::take_moved).collect()
    }

    /// Returns whether something has been read since the last report.
    pub(crate) fn has_read(&self) -> bool {
        self.has_read
    }

    /// Returns how far each partition has been read.
    pub(crate) fn report(&mut self) -> Vec<SourceReport> {
        self.has_read = false;
        let report = |reader: &PartitionReader| SourceReport {
            id: reader.id.clone(),
            position: reader.partition.position(),
            lag: reader.partition.lag(),
            newest: reader.newest,
        };
        self.reading.iter().chain(&self.ended).map(report).collect()
    }

    /// Returns from where each partition would have to be read again, if all that takes effect before `done` has taken effect.
    pub(crate) fn progress(&mut self, done: Time) -> Vec<PartitionProgress> {
        self.reading.iter_mut().chain(&mut self.ended).map(|reader| reader.resume(done)).collect()
    }

    /// Notes a move of the live clock, which brings what has been due since a time, if anything was.
    fn note_move(&mut self, from: Time, to: Time, since: Option<Time>) {
        if let Some(since) = since.filter(|_| to > from) {
            self.moves.push_back((to, since));
        }
    }

    /// Returns the least clock of the partitions; `None` if there are none.
    fn least_clock(&self) -> Option<Option<Time>> {
        self.reading.iter().map(|reader| reader.clock.greatest).min()
    }
}

/// What a worker needs to read its partitions.
pub(crate) struct ReaderSetup {
    pub(crate) worker: usize,
    /// The number of workers of all processes.
    pub(crate) peers: usize,
    pub(crate) span: Span,
    pub(crate) clock: Arc<dyn Clock>,
    /// By source.
    pub(crate) matchers: Rc<Vec<EventMatcher>>,
    /// What is shared with the other workers of the process.
    pub(crate) decoding: Arc<SharedDecoding>,
    pub(crate) readers: Rc<RefCell<PartitionReaders>>,
    /// Where new partitions are discovered, in the order of `matchers`.
    pub(crate) sources: Arc<Vec<Mutex<Box<dyn Source>>>>,
    pub(crate) dead_letters: Arc<dyn DeadLetters>,
    pub(crate) status: Arc<Status>,
    pub(crate) advisor: Arc<Advisor>,
}

impl ReaderSetup {
    /// Returns the worker's number in its process, which has a status of its own.
    fn worker_of_process(&self) -> usize {
        self.worker % self.status.workers()
    }

    /// Returns what the worker has seen, by source.
    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        let mut seen = self.status.seen_by(self.worker_of_process());
        seen.resize_with(self.matchers.len(), Seen::default);
        seen
    }
}

/// What one activation brings.
pub(crate) struct Activation {
    /// At most one batch for each worker.
    pub(crate) events: Vec<EventBatch>,
    /// No event of these takes effect before.
    pub(crate) from: Time,
    pub(crate) source_progress: Vec<SourceProgress>,
    pub(crate) next: Next,
}

/// How an activation ends. No event that is read later takes effect before the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// There may be more to read at once.
    Again(Time),
    /// There is nothing to do for so long, unless a message comes.
    Wait(Time, Duration),
    /// Nothing more is read, ever.
    Done,
}

impl Activation {
    /// Returns an activation that reads nothing, and looks again after a tick.
    fn idle(from: Time, to: Time) -> Activation {
        Activation { events: Vec::new(), from, source_progress: Vec::new(), next: Next::Wait(to, TICK) }
    }
}

/// What a partition gave.
enum Chunk {
    Read(Vec<EventBatch>),
    /// Nothing yet: the next chunk is with another worker, and a later one has been decoded instead.
    Later,
    /// Nothing yet: all that has been read ahead is decoded, or with other workers. The next chunk wakes the reader.
    Awaited,
    Idle,
    End,
}

/// Decides which partition is read next, and reads it.
pub(crate) struct ReadScheduler {
    setup: ReaderSetup,
    /// By source.
    counts: Vec<Counts>,
    /// What was published last.
    published: Reading,
    /// Whether [`SourceProgress::Opened`] has been sent.
    opened: bool,
    /// Chunks that have been read ahead, of all partitions, and memory for others.
    ahead: usize,
    memory: Vec<Vec<u8>>,
    /// Clock and bytes of the batches that may not have been worked off.
    sent: VecDeque<(Time, usize)>,
    in_flight: usize,
    /// The partition polled last, live.
    last: usize,
    /// Whether a partition has been polled since the last publication.
    polled: bool,
    /// When partitions are looked at, live.
    watch: Watch,
    /// Whether it slept, live, until this activation.
    slept: bool,
    /// The clock at which events were read last, live.
    read_at: Option<Time>,
    /// Stored bytes of partitions that have been read to their end.
    ended_bytes: u64,
    /// Those of them that are damaged in the middle, by source.
    ended_damaged: Vec<(usize, SourceError)>,
    /// The greatest and the first timestamp of partitions at their end.
    greatest: Option<Time>,
    first: Option<Time>,
    discovered: Instant,
    advised: Instant,
    /// Wakes the operator.
    wake: Wake,
}

impl ReadScheduler {
    /// `wake` wakes the operator.
    pub(crate) fn new(setup: ReaderSetup, wake: Wake) -> ReadScheduler {
        ReadScheduler {
            counts: vec![Counts::default(); setup.matchers.len()],
            setup,
            published: Reading::default(),
            opened: false,
            ahead: 0,
            memory: Vec::new(),
            sent: VecDeque::new(),
            in_flight: 0,
            last: 0,
            polled: false,
            watch: Watch::new(Instant::now()),
            slept: false,
            read_at: None,
            ended_bytes: 0,
            ended_damaged: Vec::new(),
            greatest: None,
            first: None,
            discovered: Instant::now(),
            advised: Instant::now(),
            wake,
        }
    }

    /// Has partitions say when a message comes, where they can.
    fn watch_partitions(&mut self, readers: &mut PartitionReaders) {
        for reader in readers.reading.iter_mut().filter(|reader| reader.waking.is_none()) {
            let (status, wake) = (Arc::clone(&self.setup.status), Arc::clone(&self.wake));
            let (arrivals, clock) = (self.watch.arrivals(), Arc::clone(&self.setup.clock));
            let waking = reader.partition.wake_with(Arc::new(move || {
                arrivals.note(clock.now());
                if !status.pace().stir() {
                    wake();
                }
            }));
            reader.waking = Some(waking);
        }
        self.watch.set_silent(readers.reading.iter().filter(|reader| reader.waking == Some(false)).count());
    }

    /// Returns the number of workers of all processes.
    pub(crate) fn peers(&self) -> usize {
        self.setup.peers
    }

    /// Reads some more. `held` is the worker's clock; all changes of the job before `handed_over` have been handed to the
    /// sinks, all if it is `None`. A failure ends the job.
    pub(crate) fn activate(&mut self, held: Time, handed_over: Option<Time>) -> Activation {
        let is_done = |at: Time| handed_over.is_none_or(|handed_over| at < handed_over);
        while let Some((_, bytes)) = self.sent.pop_front_if(|(at, _)| is_done(*at)) {
            self.in_flight -= bytes;
        }
        let readers = Rc::clone(&self.setup.readers);
        let mut readers = readers.borrow_mut();
        if !readers.ready {
            return Activation::idle(held, held);
        }
        let was_opened = self.opened;
        let activation = match self.setup.span {
            Span::Replay { until, .. } => self.replay(&mut readers, held, handed_over, until),
            Span::Live if readers.ending => Ok(Activation {
                events: Vec::new(),
                from: held,
                source_progress: vec![SourceProgress::Ended(Some(held))],
                next: Next::Done,
            }),
            Span::Live if !self.opened => self.catch_up(&mut readers, held, handed_over),
            Span::Live => self.live(&mut readers, held, handed_over),
        };
        let activation = activation.unwrap_or_else(|failure| {
            self.setup.status.fail(failure);
            Activation { next: Next::Done, ..Activation::idle(held, held) }
        });
        self.publish(&readers);
        self.advise(was_opened);
        activation
    }

    /// Looks at what has come in: once all that was stored at the start has been read, and then from time to time.
    fn advise(&mut self, was_opened: bool) {
        let ReaderSetup { worker, span, status, advisor, .. } = &self.setup;
        let has_caught_up = *span == Span::Live && self.opened && !was_opened;
        if has_caught_up || worker % status.workers() == 0 && self.advised.elapsed() >= ADVISE_EVERY {
            self.advised = Instant::now();
            advisor.look(status, if has_caught_up { 1 } else { LOOK_AFTER });
        }
    }

    /// Publishes what has been read, if that has changed.
    fn publish(&mut self, readers: &PartitionReaders) {
        if !std::mem::take(&mut self.polled) {
            return;
        }
        let progress = readers.reading.iter().map(|reader| reader.partition.progress());
        let (read, stored) = progress.fold((0, 0), |(read, stored), (r, s)| (read + r, stored + s));
        let bytes = (read + self.ended_bytes, stored + self.ended_bytes);
        let damaged = readers.reading.iter().filter(|reader| reader.partition.damage().is_some()).count();
        if self.published.bytes == bytes
            && self.published.messages == self.counts
            && self.published.damaged.len() == damaged + self.ended_damaged.len()
        {
            return;
        }
        self.published.bytes = bytes;
        self.published.damaged.clone_from(&self.ended_damaged);
        let damaged =
            readers.reading.iter().filter_map(|reader| Some((reader.source, reader.partition.damage()?.clone())));
        self.published.damaged.extend(damaged);
        self.published.messages.clone_from(&self.counts);
        // Each process has a status of its own.
        let worker = self.setup.worker % self.setup.status.workers();
        self.setup.status.publish_reading(worker, self.published.clone());
    }

    fn replay(
        &mut self,
        readers: &mut PartitionReaders,
        held: Time,
        handed_over: Option<Time>,
        until: Option<Time>,
    ) -> Result<Activation, Failure> {
        if self.is_full(held, handed_over) {
            return Ok(Activation::idle(held, held));
        }
        let (events, idle) = self.read_furthest_behind(readers, |_| true)?;
        // Later messages of a partition take effect later too, beyond the end.
        for index in (0..readers.reading.len()).rev() {
            let greatest = readers.reading[index].clock.greatest;
            if until.is_some_and(|until| greatest.is_some_and(|at| at > until)) {
                self.end(readers, index);
            }
        }
        let mut source_progress = Vec::new();
        let firsts = || readers.reading.iter().map(|reader| reader.clock.first);
        if !self.opened && firsts().all(|first| first.is_some()) {
            self.opened = true;
            source_progress.push(SourceProgress::Opened(firsts().flatten().chain(self.first).min(), Vec::new()));
        }
        let next = match readers.least_clock() {
            Some(least) if idle => Next::Wait(least.unwrap_or(0).max(held), TICK),
            Some(least) => Next::Again(least.unwrap_or(0).max(held)),
            None => {
                self.help_others();
                source_progress.push(SourceProgress::Ended(self.greatest));
                Next::Done
            }
        };
        Ok(Activation { events, from: held, source_progress, next })
    }

    /// Reads what was stored in the partitions when they were opened.
    fn catch_up(
        &mut self,
        readers: &mut PartitionReaders,
        held: Time,
        handed_over: Option<Time>,
    ) -> Result<Activation, Failure> {
        let now = self.setup.clock.now().max(held);
        if self.is_full(held, handed_over) {
            return Ok(Activation::idle(held, held));
        }
        let (events, idle) = self.read_furthest_behind(readers, |reader| !reader.partition.caught_up())?;
        let behind = readers.reading.iter().filter(|reader| !reader.partition.caught_up());
        let (source_progress, clock) = match behind.map(|reader| reader.clock.greatest).min() {
            Some(least) => (Vec::new(), least.unwrap_or(0).clamp(held, now)),
            None => {
                self.opened = true;
                self.help_others();
                let all = readers.reading.iter().chain(&readers.ended);
                let since = all.map(|reader| reader.source_since(now)).collect();
                (vec![SourceProgress::Opened(Some(now), since)], now)
            }
        };
        let next = if idle { Next::Wait(clock, TICK) } else { Next::Again(clock) };
        Ok(Activation { events, from: held, source_progress, next })
    }

    fn live(
        &mut self,
        readers: &mut PartitionReaders,
        held: Time,
        handed_over: Option<Time>,
    ) -> Result<Activation, Failure> {
        let now = self.setup.clock.now();
        // It only moves forward, whatever the machine's clock does, and not far ahead of what has been handed over.
        let clock = now.min(handed_over.map_or(now, |handed_over| handed_over.saturating_add(STEP))).max(held);
        readers.caught_up = clock >= now;
        if readers.resting {
            readers.rests_from.get_or_insert(now.max(held));
            return Ok(Activation::idle(held, clock));
        }
        // This ms is over for the worker: what has come since is dated by the next one.
        if held > now && self.read_at == Some(now) {
            return Ok(Activation { next: Next::Wait(held, SOON), ..Activation::idle(held, held) });
        }
        self.discover(readers)?;
        let due = self.setup.status.pace().due_since(held, clock);
        if let Some((events, came)) = self.read_next(readers, now, clock)? {
            // While it slept nothing was due but what woke it.
            let since = if self.slept { due.unwrap_or(clock).min(came.max(held)) } else { held };
            self.slept = false;
            self.read_at = Some(clock);
            readers.note_move(held, clock, Some(since));
            return Ok(Activation { events, from: clock, source_progress: Vec::new(), next: Next::Again(clock) });
        }
        let rest = match clock < now {
            // What has been handed over is far behind.
            true => Rest::AWAKE,
            false => self.setup.status.pace().next(held, now, self.watch.silent()),
        };
        self.slept = rest.sleeps;
        if !rest.moves {
            return Ok(Activation { next: Next::Wait(held, rest.wait), ..Activation::idle(held, held) });
        }
        // All that was there at this ms has been read: it takes effect at once, and not when the ms is over. A clock that stands would have what comes
        // later wait for ever.
        let is_over = clock == now && self.read_at == Some(clock) && self.setup.clock.runs();
        let (to, wait) = if is_over { (clock + 1, SOON) } else { (clock, rest.wait) };
        readers.note_move(held, to, due.or(is_over.then_some(clock)));
        Ok(Activation { next: Next::Wait(to, wait), ..Activation::idle(held, held) })
    }

    /// Reads a chunk of the next partition in rotation that has one, and returns it with the time since when it may have been there; `None` if
    /// none has, or if none is to be looked at.
    fn read_next(
        &mut self,
        readers: &mut PartitionReaders,
        now: Time,
        clock: Time,
    ) -> Result<Option<(Vec<EventBatch>, Time)>, Failure> {
        let Some(came) = self.watch.take_due(Instant::now(), now) else { return Ok(None) };
        self.watch_partitions(readers);
        let mut left = readers.reading.len();
        while left > 0 && self.in_flight <= IN_FLIGHT {
            left -= 1;
            self.last = (self.last + 1) % readers.reading.len();
            match self.poll(&mut readers.reading[self.last], now, Some(clock))? {
                Chunk::Read(events) => {
                    readers.note_read();
                    self.setup.status.pace().stir();
                    self.watch.note_more();
                    return Ok(Some((events, came)));
                }
                Chunk::Idle => {}
                Chunk::Later | Chunk::Awaited => unreachable!("nothing is read ahead by the job's clock"),
                Chunk::End => self.end(readers, self.last),
            }
        }
        if left > 0 {
            self.watch.note_more();
        }
        Ok(None)
    }

    /// Returns whether batches on their way have to be worked off before more is read.
    fn is_full(&self, held: Time, handed_over: Option<Time>) -> bool {
        self.in_flight > IN_FLIGHT && handed_over.is_some_and(|handed_over| held > handed_over)
    }

    /// Reads a chunk of the partition whose clock is furthest behind, of those that are `asked` and have something. Returns the
    /// events, and whether all that are asked were idle.
    fn read_furthest_behind(
        &mut self,
        readers: &mut PartitionReaders,
        asked: impl Fn(&PartitionReader) -> bool,
    ) -> Result<(Vec<EventBatch>, bool), Failure> {
        let now = self.setup.clock.now();
        let mut others: Option<Vec<(Option<Time>, u32)>> = None;
        let of_asked = readers.reading.iter().filter(|reader| asked(reader));
        let Some(least) = of_asked.map(|reader| (reader.clock.greatest, reader.rank)).min() else {
            return Ok((Vec::new(), false));
        };
        let mut next = Some(least);
        while let Some((_, rank)) = next {
            let index = readers.reading.iter().position(|reader| reader.rank == rank);
            let index = index.expect("a partition is removed only at the end of this loop");
            match self.poll(&mut readers.reading[index], now, None)? {
                Chunk::Read(events) => {
                    readers.note_read();
                    return Ok((events, false));
                }
                Chunk::Later => return Ok((Vec::new(), false)),
                Chunk::Awaited => return Ok((Vec::new(), true)),
                Chunk::End => {
                    self.end(readers, index);
                    return Ok((Vec::new(), false));
                }
                // Its messages may be on their way; that does not hold up the next partition.
                Chunk::Idle => {
                    let others = others.get_or_insert_with(|| {
                        let of_asked = readers.reading.iter().filter(|reader| asked(reader));
                        let mut by_clock: Vec<_> = of_asked.map(|r| (r.clock.greatest, r.rank)).collect();
                        by_clock.sort_unstable_by(|a, b| b.cmp(a));
                        by_clock.pop();
                        by_clock
                    });
                    next = others.pop();
                }
            }
        }
        Ok((Vec::new(), true))
    }

    /// Reads a chunk of a partition. `clock` is the job's, if events take effect by it; else they do by the partition's own.
    fn poll(&mut self, reader: &mut PartitionReader, now: Time, clock: Option<Time>) -> Result<Chunk, Failure> {
        self.polled = true;
        if clock.is_none() && self.setup.decoding.helpers() > 0 && reader.partition.can_read_ahead() {
            return self.poll_ahead(reader, now);
        }
        let limit = self.limit(now);
        let PartitionReader { source, rank, id, partition, clock: partition_clock, seed, .. } = reader;
        let first = partition.position();
        let records = match partition.poll(CHUNK).map_err(Failure::of_source)? {
            Polled::End => return Ok(Chunk::End),
            Polled::Idle => return Ok(Chunk::Idle),
            Polled::Records(records) => records,
        };
        let mut batches: Vec<EventBatch> =
            (0..self.setup.peers as u32).map(|worker| EventBatch::new(worker, *rank)).collect();
        let matcher = &self.setup.matchers[*source];
        let (mut fields, mut scratch) = (Fields::default(), Scratch::default());
        let mut seen = self.setup.seen();
        let mut out = Output {
            batches: &mut batches,
            counts: &mut self.counts[*source],
            seen: &mut seen[*source],
            dead_letters: &*self.setup.dead_letters,
        };
        for record in records {
            let clock = match clock {
                Some(clock) => MessageClock::Job(clock),
                None => MessageClock::Partition(partition_clock, limit),
            };
            let mut context = MessageContext { id, seed: *seed, now, clock };
            matcher.read(record, &mut context, &mut fields, &mut scratch, &mut out).map_err(Failure::of_sink)?;
        }
        drop(seen);
        Ok(self.note_batches(reader, first, clock, batches))
    }

    /// Returns the time beyond which messages do not move the clock of their partition.
    fn limit(&self, now: Time) -> Time {
        match self.setup.span {
            Span::Replay { .. } => Time::MAX,
            // Messages dated later than now do not move a live clock beyond now.
            Span::Live => now,
        }
    }

    /// Notes the batches of a chunk that began at `first`, and returns those with events.
    fn note_batches(
        &mut self,
        reader: &mut PartitionReader,
        first: u64,
        clock: Option<Time>,
        mut batches: Vec<EventBatch>,
    ) -> Chunk {
        batches.retain(|batch| !batch.is_empty());
        let bytes: usize = batches.iter().map(EventBatch::bytes).sum();
        if bytes > 0 {
            self.sent.push_back((clock.or(reader.clock.greatest).unwrap_or(0), bytes));
            self.in_flight += bytes;
        }
        reader.note(first, &batches);
        Chunk::Read(batches)
    }

    /// Has this worker help the others of its process to decode: it has nothing left to read that was there at the start.
    fn help_others(&self) {
        self.setup.decoding.join(self.setup.worker_of_process(), Arc::clone(&self.wake));
    }

    /// Reads chunks of a partition ahead, for other workers to decode, and takes the next one in.
    fn poll_ahead(&mut self, reader: &mut PartitionReader, now: Time) -> Result<Chunk, Failure> {
        if let Some(nothing) = self.read_ahead(reader, now)? {
            return Ok(nothing);
        }
        let decoding = Arc::clone(&self.setup.decoding);
        let first = reader.partition.first().expect("a chunk has been read ahead");
        let decoded = if decoding.take(first) {
            first.decode(&self.setup.matchers, &decoding)
        } else if let Some(decoded) = first.take_outcome() {
            decoded
        } else if let Some(other) = decoding.take_next() {
            other.finish(other.decode(&self.setup.matchers, &decoding));
            return Ok(Chunk::Later);
        } else {
            return Ok(Chunk::Awaited);
        };
        self.take_in(reader, decoded)
    }

    /// Reads chunks of a partition ahead, as many as there is room for and one at least. Returns what there is instead if there is none.
    fn read_ahead(&mut self, reader: &mut PartitionReader, now: Time) -> Result<Option<Chunk>, Failure> {
        let room = AHEAD * (self.setup.decoding.helpers() + 1);
        let limit = self.limit(now);
        while reader.partition.chunks() == 0 || self.ahead < room && reader.partition.has_more() {
            let PartitionReader { source, rank, id, partition, seed, .. } = reader;
            let context = ChunkContext { source: *source, rank: *rank, id: id.clone(), seed: *seed, now, limit };
            let (memory, wake) = (self.memory.pop().unwrap_or_default(), Arc::clone(&self.wake));
            let task = |records: &Records<'_>| Some(DecodeTask::new(records.copy_into(memory)?, context, wake));
            match partition.read(CHUNK, task).map_err(Failure::of_source)? {
                PolledAhead::Read(task) => {
                    self.ahead += 1;
                    self.setup.decoding.push(task);
                }
                PolledAhead::Idle if partition.chunks() > 0 => break,
                PolledAhead::Idle => return Ok(Some(Chunk::Idle)),
                PolledAhead::End => return Ok(Some(Chunk::End)),
            }
        }
        Ok(None)
    }

    /// Takes in what came out of the first chunk of a partition, as if it were decoded only now.
    fn take_in(&mut self, reader: &mut PartitionReader, mut decoded: Decoded) -> Result<Chunk, Failure> {
        let first = reader.partition.position();
        let task = reader.partition.take_first().expect("it was read ahead");
        self.ahead -= 1;
        self.memory.extend(Arc::into_inner(task).map(DecodeTask::into_bytes));
        decoded.follow(&mut reader.clock);
        let Decoded { batches, clock: _, counts, seen, dead_letters } = decoded;
        self.counts[reader.source] += counts;
        self.setup.seen()[reader.source].append(&seen);
        for letter in &dead_letters {
            self.setup.dead_letters.write(&letter.of(&reader.id)).map_err(Failure::of_sink)?;
        }
        Ok(self.note_batches(reader, first, None, batches))
    }

    /// Moves a partition to those at their end.
    fn end(&mut self, readers: &mut PartitionReaders, index: usize) {
        let mut reader = readers.reading.remove(index);
        self.ahead -= reader.partition.leave(&self.setup.decoding);
        self.ended_bytes += reader.partition.progress().0;
        self.ended_damaged.extend(reader.partition.damage().map(|damage| (reader.source, damage.clone())));
        self.greatest = self.greatest.max(reader.clock.greatest);
        self.first = [self.first, reader.clock.first].into_iter().flatten().min();
        readers.ended.push(reader);
    }

    /// Opens partitions that have come since the start.
    fn discover(&mut self, readers: &mut PartitionReaders) -> Result<(), Failure> {
        if self.discovered.elapsed() < DISCOVER {
            return Ok(());
        }
        self.discovered = Instant::now();
        for (index, source) in self.setup.sources.iter().enumerate() {
            // One worker looks at each source, and reads what it finds there.
            if index % self.setup.peers != self.setup.worker {
                continue;
            }
            let mut source = lock(source);
            for id in source.discover().map_err(Failure::of_source)? {
                let partition = source.open(&id, None).map_err(Failure::of_source)?;
                let since = ReadSince { new: ReadFrom::Ever, kept: ReadFrom::Ever };
                readers.reading.push(PartitionReader::new(index, readers.next_rank, partition, since, None));
                readers.next_rank += self.setup.peers as u32;
                self.watch.note_more();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
