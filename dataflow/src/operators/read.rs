//! Read: a worker's partitions become hits.
//!
//! Promises: the output's frontier is the clock: under replay, and while a live job catches up with what stood in its
//! sources, the least over the partitions that are not there yet; then the clock that it is given. A budget of bytes per
//! activation; what is on its way beyond [`IN_FLIGHT`] waits in the sources. By the partitions' own clocks it reads the one
//! that is furthest behind, so that those which run apart in time are not held in memory. The clock does not run away from
//! what has been told: where that is slow, time waits, in steps of [`STEP`].
//!
//! Of a live job it reads until it is told to rest, and then keeps its clock going until it is told to end.
//!
//! Holds one capability, and per partition which positions have not been worked off: [`Readings::resumes`] says from where
//! on all would have to be read again. It waits until it is handed its partitions.

use crate::edge::messages::{Arrived, Clock as MessageClock, Messages, Output, PartitionClock, Scratch};
use crate::engine::PartitionReport;
use crate::hits::{Hit, Hits, hash_partition};
use crate::job::{Failure, FailureKind, Status};
use crate::keeper::{Milestone, Span};
use crate::operators::deliver::failure;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::probe::Handle as ProbeHandle;
use timely::dataflow::{Scope, StreamVec};
use usher_core::clock::Clock;
use usher_core::counts::Counts;
use usher_core::dead_letters::DeadLetters;
use usher_core::source::{Partition, PartitionId, Polled, ReadFrom, Resume, Source, SourceError};
use usher_formats::Fields;

/// Bytes of a partition read at a time: some 300 messages, a quarter of a millisecond.
const CHUNK: usize = 256 << 10;
/// Bytes of hits sent and not yet worked off by whoever is slowest, beyond which nothing more is read.
const IN_FLIGHT: usize = 64 << 20;
/// How often an idle live job looks for news and moves its clock, and a waiting replay looks again.
const TICK: Duration = Duration::from_millis(2);
/// How often sources are asked for new partitions.
const DISCOVER: Duration = Duration::from_secs(1);
/// How far the live clock may be ahead of what has been told, ms: what expires while a job was down is spread, and what a slow
/// destination can't take is not made.
const STEP: Time = 1_000;

/// A partition that this worker reads.
pub(crate) struct Reading {
    /// Index in [`ReadSetup::messages`].
    source: usize,
    rank: u32,
    partition: Box<dyn Partition>,
    clock: PartitionClock,
    /// Where the id of a message without one comes from.
    seed: u64,
    /// Per batch that perhaps has hits which have not been worked off: the latest time at which one takes effect, and where
    /// the batch begins. Both ascend.
    pending: VecDeque<(Time, u64)>,
    /// When all that has been read of it has taken effect.
    effective: Time,
    /// The newest time of an event in it.
    newest: Option<Time>,
    /// The time of the first message that has one.
    oldest: Option<Time>,
    /// The position and time that were told last.
    committed: Option<(u64, Time)>,
}

impl Reading {
    /// `since`: the least time at which a message of it takes effect.
    pub(crate) fn new(source: usize, rank: u32, partition: Box<dyn Partition>, since: Option<Time>) -> Reading {
        let clock = PartitionClock { first: None, greatest: since };
        Reading {
            source,
            rank,
            seed: hash_partition(partition.id()),
            partition,
            clock,
            pending: VecDeque::new(),
            effective: 0,
            newest: None,
            oldest: None,
            committed: None,
        }
    }
}

/// The partitions that a worker reads, shared with whoever hands them in and asks where they stand.
#[derive(Default)]
pub(crate) struct Readings {
    readings: Vec<Reading>,
    /// Those at their end.
    ended: Vec<Reading>,
    /// Whether they have been handed in.
    ready: bool,
    /// The rank of the next one that is found.
    next_rank: u32,
    /// Whether something has been read of one since it was asked.
    moved: bool,
    /// By source, what became of its messages.
    counts: Vec<Counts>,
    /// Whether nothing more is to be read.
    resting: bool,
    /// The clock from when on nothing is.
    rests_from: Option<Time>,
    /// Whether the clock is to end.
    ending: bool,
}

/// How far a partition has come: before which position all takes effect at a time or before, and from when on it is read: none:
/// from ever; none inside: from a first message that has not come.
pub(crate) type Moved = (PartitionId, u64, Time, Option<Option<Time>>);

/// Where a partition stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Standpoint {
    pub(crate) rank: u32,
    pub(crate) id: PartitionId,
    pub(crate) resume: Resume,
}

impl Readings {
    /// Hands the partitions in. Those found later have ranks from `next_rank` on, as many apart as there are workers.
    pub(crate) fn hand_in(&mut self, readings: Vec<Reading>, next_rank: u32) {
        assert!(!self.ready, "partitions are handed in once");
        (self.readings, self.ready, self.next_rank) = (readings, true, next_rank);
        self.moved = true;
    }

    /// Reads nothing more from the next activation on.
    pub(crate) fn rest(&mut self) {
        self.resting = true;
    }

    /// Comes to its end with the next activation.
    pub(crate) fn end(&mut self) {
        self.ending = true;
    }

    /// Whether it rests, and all that it has read has been worked off, where all that takes effect before `done` has. What is
    /// dated later than the clock from when on it rests is not waited for.
    pub(crate) fn has_settled(&self, done: Time) -> bool {
        let settled = |at: Time, reading: &Reading| {
            reading.pending.iter().take_while(|(effect, _)| *effect <= at).all(|(effect, _)| *effect < done)
        };
        let mut all = self.readings.iter().chain(&self.ended);
        self.rests_from.is_some_and(|at| all.all(|reading| settled(at, reading)))
    }

    /// The partitions that have come further since the last call.
    pub(crate) fn take_moved(&mut self) -> Vec<Moved> {
        if !std::mem::take(&mut self.moved) {
            return Vec::new();
        }
        let of = |reading: &mut Reading| {
            let now = (reading.partition.position(), reading.effective);
            let since = match reading.partition.since() {
                ReadFrom::Ever => None,
                ReadFrom::Time(time) => Some(Some(time)),
                ReadFrom::Oldest => Some(reading.oldest),
            };
            let news = reading.committed != Some(now);
            reading.committed = Some(now);
            news.then(|| (reading.partition.id().clone(), now.0, now.1, since))
        };
        self.readings.iter_mut().chain(&mut self.ended).filter_map(of).collect()
    }

    /// What has been counted, and where each partition stands.
    pub(crate) fn report(&self) -> (Vec<Counts>, Vec<PartitionReport>) {
        let of = |reading: &Reading| PartitionReport {
            id: reading.partition.id().clone(),
            position: reading.partition.position(),
            lag: reading.partition.lag(),
            newest: reading.newest,
        };
        (self.counts.clone(), self.readings.iter().chain(&self.ended).map(of).collect())
    }

    /// From where on each partition would have to be read again, where all that takes effect before `done` has been worked off.
    pub(crate) fn resumes(&mut self, done: Time) -> Vec<Standpoint> {
        let of = |reading: &mut Reading| {
            while reading.pending.front().is_some_and(|(latest, _)| *latest < done) {
                reading.pending.pop_front();
            }
            let position = reading.pending.front().map_or(reading.partition.position(), |(_, first)| *first);
            let resume = Resume { position, identity: reading.partition.identity() };
            Standpoint { rank: reading.rank, id: reading.partition.id().clone(), resume }
        };
        self.readings.iter_mut().chain(&mut self.ended).map(of).collect()
    }
}

pub(crate) struct ReadSetup {
    pub(crate) worker: usize,
    pub(crate) peers: usize,
    pub(crate) span: Span,
    pub(crate) clock: Arc<dyn Clock>,
    /// Per source, what is asked of its messages.
    pub(crate) messages: Vec<Messages>,
    pub(crate) readings: Rc<RefCell<Readings>>,
    /// Per source, where new partitions are found.
    pub(crate) sources: Arc<Vec<Mutex<Box<dyn Source>>>>,
    pub(crate) dead_letters: Arc<dyn DeadLetters>,
    pub(crate) status: Arc<Status>,
}

/// Hits, and what all keepers must know of the sources.
pub(crate) type ReadStreams<'scope> = (StreamVec<'scope, Time, Hits>, StreamVec<'scope, Time, (u32, Milestone)>);

/// Builds the operator. `told` is where the whole job's changes have come to.
pub(crate) fn read<'scope>(
    scope: Scope<'scope, Time>,
    setup: ReadSetup,
    committed: ProbeHandle<Time>,
) -> ReadStreams<'scope> {
    let mut builder = OperatorBuilder::new("Read".to_owned(), scope);
    let activator = scope.activator_for(Rc::clone(&builder.operator_info().address));
    let (hits, hits_stream) = builder.new_output::<Vec<Hits>>();
    let (milestones, milestones_stream) = builder.new_output::<Vec<(u32, Milestone)>>();
    let mut hits = OutputBuilder::<Time, CapacityContainerBuilder<Vec<Hits>>>::from(hits);
    let mut milestones = OutputBuilder::<Time, CapacityContainerBuilder<Vec<(u32, Milestone)>>>::from(milestones);
    builder.build_reschedule(move |mut capabilities| {
        let mut milestone_cap = capabilities.pop();
        let mut cap = capabilities.pop();
        let mut reader = Reader::new(setup);
        let mut armed: Option<Instant> = None;
        move |_frontiers| {
            let Some(hold) = &mut cap else { return false };
            let committed = committed.with_frontier(|frontier| frontier.first().copied());
            let turn = reader.turn(*hold.time(), committed);
            for hits_of_worker in turn.hits {
                hits.activate().session(&*hold).give(hits_of_worker);
            }
            if let Some(milestone_hold) = &milestone_cap {
                let mut output = milestones.activate();
                let mut session = output.session(milestone_hold);
                for milestone in turn.milestones {
                    for worker in 0..reader.setup.peers as u32 {
                        session.give((worker, milestone));
                    }
                }
            }
            match turn.next {
                Next::Again(time) => {
                    hold.downgrade(&time);
                    activator.activate();
                }
                Next::Wait(time) => {
                    hold.downgrade(&time);
                    // Armed once a period: a second timer would never go away.
                    let now = Instant::now();
                    if armed.is_none_or(|at| at <= now) {
                        // Taken before it is armed: when it goes off, this has passed.
                        armed = Some(now + TICK);
                        activator.activate_after(TICK);
                    }
                }
                Next::Done => (cap, milestone_cap) = (None, None),
            }
            false
        }
    });
    (hits_stream, milestones_stream)
}

/// A source that can't be read on, as the end of the job.
pub(crate) fn unreadable(error: SourceError) -> Failure {
    Failure { kind: FailureKind::Source, message: error.to_string(), hint: Some(error.hint().to_owned()) }
}

enum Next {
    /// There may be more at once; the clock is at least at this.
    Again(Time),
    /// There is nothing to do for a while.
    Wait(Time),
    Done,
}

/// What one activation brings.
struct Turn {
    hits: Vec<Hits>,
    milestones: Vec<Milestone>,
    next: Next,
}

/// What a partition gave.
enum Chunk {
    Read(Vec<Hits>),
    Idle,
    End,
}

struct Reader {
    setup: ReadSetup,
    /// By source.
    counts: Vec<Counts>,
    opened: bool,
    /// (clock, bytes) of hits sent that may not have been worked off.
    sent: VecDeque<(Time, usize)>,
    in_flight: usize,
    /// The partition to look at next, live.
    next: usize,
    /// Stored bytes of partitions that have been read to their end.
    ended_bytes: u64,
    greatest: Option<Time>,
    first: Option<Time>,
    discovered: Instant,
}

impl Reader {
    fn new(setup: ReadSetup) -> Reader {
        Reader {
            counts: vec![Counts::default(); setup.messages.len()],
            setup,
            opened: false,
            sent: VecDeque::new(),
            in_flight: 0,
            next: 0,
            ended_bytes: 0,
            greatest: None,
            first: None,
            discovered: Instant::now(),
        }
    }

    fn turn(&mut self, held: Time, committed: Option<Time>) -> Turn {
        while let Some((_, bytes)) =
            self.sent.front().copied().filter(|(at, _)| committed.is_none_or(|committed| *at < committed))
        {
            self.in_flight -= bytes;
            self.sent.pop_front();
        }
        let readings = Rc::clone(&self.setup.readings);
        let mut readings = readings.borrow_mut();
        if !readings.ready {
            return Turn { hits: Vec::new(), milestones: Vec::new(), next: Next::Wait(held) };
        }
        let turn = match self.setup.span {
            Span::Replay { until, .. } => self.replay_turn(&mut readings, held, committed, until),
            Span::Live => self.live_turn(&mut readings, held, committed),
        };
        let turn = turn.unwrap_or_else(|failure| {
            self.setup.status.fail(failure);
            Turn { hits: Vec::new(), milestones: Vec::new(), next: Next::Done }
        });
        let (read, of) = readings
            .readings
            .iter()
            .map(|reading| reading.partition.progress())
            .fold((0, 0), |(r, o), (read, of)| (r + read, o + of));
        let mut counts = Counts::default();
        self.counts.iter().for_each(|of| counts += *of);
        self.setup.status.publish_reading(
            // Each process has a status of its own.
            self.setup.worker % self.setup.status.workers(),
            &counts,
            (read + self.ended_bytes, of + self.ended_bytes),
        );
        readings.counts.clone_from(&self.counts);
        turn
    }

    fn replay_turn(
        &mut self,
        readings: &mut Readings,
        held: Time,
        committed: Option<Time>,
        until: Option<Time>,
    ) -> Result<Turn, Failure> {
        if self.is_full(held, committed) {
            return Ok(Turn { hits: Vec::new(), milestones: Vec::new(), next: Next::Wait(held) });
        }
        let (hits, idle) = self.read_furthest_behind(readings, |_| true)?;
        // What comes later in a partition takes effect later too, and is not asked for.
        for index in (0..readings.readings.len()).rev() {
            if until.is_some_and(|until| readings.readings[index].clock.greatest.is_some_and(|at| at > until)) {
                self.end(readings, index);
            }
        }
        let mut milestones = Vec::new();
        let firsts = || readings.readings.iter().map(|reading| reading.clock.first);
        if !self.opened && firsts().all(|first| first.is_some()) {
            self.opened = true;
            milestones.push(Milestone::Opened(firsts().flatten().chain(self.first).min()));
        }
        let next = match readings.readings.iter().map(|reading| reading.clock.greatest).min() {
            Some(least) if idle => Next::Wait(least.unwrap_or(0).max(held)),
            Some(least) => Next::Again(least.unwrap_or(0).max(held)),
            None => {
                milestones.push(Milestone::Ended(self.greatest));
                Next::Done
            }
        };
        Ok(Turn { hits, milestones, next })
    }

    fn live_turn(&mut self, readings: &mut Readings, held: Time, committed: Option<Time>) -> Result<Turn, Failure> {
        let now = self.setup.clock.now();
        if readings.ending {
            let milestones = vec![Milestone::Ended(Some(held))];
            return Ok(Turn { hits: Vec::new(), milestones, next: Next::Done });
        }
        if !self.opened {
            return self.catch_up_turn(readings, held, committed, now);
        }
        // The clock only moves forward, whatever the machine's does, and not away from what has been told.
        let clock = now.min(committed.map_or(now, |committed| committed.saturating_add(STEP))).max(held);
        if readings.resting {
            readings.rests_from.get_or_insert(now.max(held));
            return Ok(Turn { hits: Vec::new(), milestones: Vec::new(), next: Next::Wait(clock) });
        }
        self.discover(readings)?;
        let mut hits = Vec::new();
        let mut busy = false;
        let mut left = readings.readings.len();
        while !busy && left > 0 && self.in_flight <= IN_FLIGHT {
            left -= 1;
            self.next = (self.next + 1) % readings.readings.len();
            match self.poll(&mut readings.readings[self.next], now, Some(held))? {
                Chunk::Read(read) => (hits, busy, readings.moved) = (read, true, true),
                Chunk::Idle => {}
                Chunk::End => self.end(readings, self.next),
            }
        }
        Ok(Turn { hits, milestones: Vec::new(), next: if busy { Next::Again(clock) } else { Next::Wait(clock) } })
    }

    /// Reads what stood in the sources at the start, by the partitions' own clocks, so that what ended meanwhile ended when
    /// it did.
    fn catch_up_turn(
        &mut self,
        readings: &mut Readings,
        held: Time,
        committed: Option<Time>,
        now: Time,
    ) -> Result<Turn, Failure> {
        if self.is_full(held, committed) {
            return Ok(Turn { hits: Vec::new(), milestones: Vec::new(), next: Next::Wait(held) });
        }
        let (hits, idle) = self.read_furthest_behind(readings, |reading| !reading.partition.caught_up())?;
        let behind = readings.readings.iter().filter(|reading| !reading.partition.caught_up());
        let now = now.max(held);
        let (milestones, clock) = match behind.map(|reading| reading.clock.greatest).min() {
            Some(least) => (Vec::new(), least.unwrap_or(0).clamp(held, now)),
            None => {
                self.opened = true;
                (vec![Milestone::Opened(Some(now))], now)
            }
        };
        Ok(Turn { hits, milestones, next: if idle { Next::Wait(clock) } else { Next::Again(clock) } })
    }

    /// Whether what is on its way has to be worked off before more is read.
    fn is_full(&self, held: Time, committed: Option<Time>) -> bool {
        self.in_flight > IN_FLIGHT && committed.is_some_and(|committed| held > committed)
    }

    /// Reads a chunk of the partition whose clock is furthest behind, of those asked for, that has something; tells whether
    /// none has.
    fn read_furthest_behind(
        &mut self,
        readings: &mut Readings,
        asked: impl Fn(&Reading) -> bool,
    ) -> Result<(Vec<Hits>, bool), Failure> {
        let now = self.setup.clock.now();
        let mut others: Option<Vec<(Option<Time>, u32)>> = None;
        let least = readings.readings.iter().filter(|reading| asked(reading)).map(|r| (r.clock.greatest, r.rank)).min();
        let Some(least) = least else { return Ok((Vec::new(), false)) };
        let mut next = Some(least);
        while let Some(place) = next {
            let index = readings.readings.iter().position(|r| r.rank == place.1).expect("it was just there");
            match self.poll(&mut readings.readings[index], now, None)? {
                Chunk::Read(read) => {
                    readings.moved = true;
                    return Ok((read, false));
                }
                Chunk::End => {
                    self.end(readings, index);
                    return Ok((Vec::new(), false));
                }
                // It may be on its way to us; the next one is not held up by that.
                Chunk::Idle => {
                    let others = others.get_or_insert_with(|| {
                        let asked = readings.readings.iter().filter(|reading| asked(reading));
                        let mut by_clock: Vec<_> = asked.map(|r| (r.clock.greatest, r.rank)).collect();
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

    /// Reads a chunk of a partition. `clock`: the job's, live.
    fn poll(&mut self, reading: &mut Reading, now: Time, clock: Option<Time>) -> Result<Chunk, Failure> {
        let Reading { source, rank, partition, clock: partition_clock, seed, pending, .. } = reading;
        // A live clock is not moved beyond the present by what is dated later: that waits.
        let limit = match self.setup.span {
            Span::Replay { .. } => Time::MAX,
            Span::Live => now,
        };
        let id = partition.id().clone();
        let first = partition.position();
        let mut hits: Vec<Hits> = (0..self.setup.peers as u32).map(|worker| Hits::new(worker, *rank)).collect();
        match partition.poll(CHUNK).map_err(unreadable)? {
            Polled::End => return Ok(Chunk::End),
            Polled::Idle => return Ok(Chunk::Idle),
            Polled::Records(records) => {
                let messages = &self.setup.messages[*source];
                let (mut fields, mut scratch) = (Fields::default(), Scratch::default());
                let mut out = Output {
                    hits: &mut hits,
                    counts: &mut self.counts[*source],
                    dead_letters: &*self.setup.dead_letters,
                };
                for record in records {
                    let clock = match clock {
                        Some(clock) => MessageClock::Job(clock),
                        None => MessageClock::Partition(partition_clock, limit),
                    };
                    let mut at = Arrived { id: &id, seed: *seed, now, clock };
                    messages.read(record, &mut at, &mut fields, &mut scratch, &mut out).map_err(failure)?;
                }
            }
        }
        hits.retain(|hits| !hits.is_empty());
        let latest = clock.or(partition_clock.greatest).unwrap_or(0);
        let bytes: usize = hits.iter().map(Hits::bytes).sum();
        if bytes > 0 {
            self.sent.push_back((latest, bytes));
            self.in_flight += bytes;
        }
        let mut found = hits.iter().flat_map(|hits| &hits.hits);
        if let Some(Hit { at, timestamp, .. }) = found.next().copied() {
            let (mut effect, mut oldest, mut newest) = (at, timestamp, timestamp);
            for hit in found {
                (effect, oldest, newest) = (effect.max(hit.at), oldest.min(hit.timestamp), newest.max(hit.timestamp));
            }
            // An earlier batch that takes effect no earlier stands for this one.
            if pending.back().is_none_or(|(before, _)| *before < effect) {
                pending.push_back((effect, first));
            }
            reading.effective = reading.effective.max(effect);
            reading.newest = reading.newest.max(Some(newest));
            reading.oldest.get_or_insert(oldest);
        }
        Ok(Chunk::Read(hits))
    }

    fn end(&mut self, readings: &mut Readings, index: usize) {
        let reading = readings.readings.remove(index);
        self.ended_bytes += reading.partition.progress().0;
        self.greatest = self.greatest.max(reading.clock.greatest);
        self.first = [self.first, reading.clock.first].into_iter().flatten().min();
        readings.ended.push(reading);
    }

    /// Takes up partitions that have come since the start.
    fn discover(&mut self, readings: &mut Readings) -> Result<(), Failure> {
        if self.discovered.elapsed() < DISCOVER {
            return Ok(());
        }
        self.discovered = Instant::now();
        for (source, of) in self.setup.sources.iter().enumerate() {
            // One worker looks at each source, and reads what it finds there.
            if source % self.setup.peers != self.setup.worker {
                continue;
            }
            let mut of = of.lock().expect("a worker panicked, which ends the process");
            for id in of.discover().map_err(unreadable)? {
                let partition = of.open(&id, None).map_err(unreadable)?;
                readings.readings.push(Reading::new(source, readings.next_rank, partition, None));
                readings.next_rank += self.setup.peers as u32;
            }
        }
        Ok(())
    }
}
