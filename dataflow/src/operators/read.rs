//! Read: a worker's partitions become hits.
//!
//! Promises: the output's frontier is the clock: under replay the least over the partitions not at their end, live the
//! clock that it is given. A budget of bytes per activation; what is on its way beyond [`IN_FLIGHT`] waits in the
//! sources. Holds one capability. Under replay it reads the partition that is furthest behind, so that files which run
//! apart in time are not held in memory.

use crate::edge::messages::{Arrived, Clock as MessageClock, Messages, Output, PartitionClock, Scratch};
use crate::hits::Hits;
use crate::job::{Clock, Failure, FailureKind, Status};
use crate::keeper::{Milestone, Span};
use crate::operators::deliver::failure;
use crate::time::Time;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::probe::Handle as ProbeHandle;
use timely::dataflow::{Scope, StreamVec};
use usher_connectors::dead_letters::{Counts, DeadLetters};
use usher_connectors::formats::Fields;
use usher_connectors::source::{Partition, PartitionId, Polled, Source, SourceError};

/// Bytes of a partition read at a time: some 300 messages, a quarter of a millisecond.
const CHUNK: usize = 256 << 10;
/// Bytes of hits sent and not yet worked off by whoever is slowest, beyond which nothing more is read.
const IN_FLIGHT: usize = 64 << 20;
/// How often an idle live job looks for news and moves its clock, and a waiting replay looks again.
const TICK: Duration = Duration::from_millis(2);
/// How often folders are searched for new files.
const DISCOVER: Duration = Duration::from_secs(1);

/// The ranks of partitions in the order of arrival, shared by the workers of a process.
///
/// Those known at the start rank by (source, path); those found later, behind them, as they are found.
#[derive(Default)]
pub(crate) struct Ranks(Mutex<Vec<PartitionId>>);

impl Ranks {
    /// The rank of a partition; a new one where it has none.
    pub(crate) fn of(&self, id: &PartitionId) -> u32 {
        let mut ranks = self.0.lock().expect("a worker panicked, which ends the process");
        let rank = ranks.iter().position(|known| known == id).unwrap_or_else(|| {
            ranks.push(id.clone());
            ranks.len() - 1
        });
        rank as u32
    }
}

/// A partition that this worker reads.
pub(crate) struct Reading {
    /// Index in [`ReadSetup::messages`].
    pub(crate) source: usize,
    pub(crate) rank: u32,
    pub(crate) partition: Box<dyn Partition>,
    pub(crate) clock: PartitionClock,
}

pub(crate) struct ReadSetup {
    pub(crate) worker: usize,
    pub(crate) peers: usize,
    pub(crate) span: Span,
    pub(crate) clock: Arc<dyn Clock>,
    /// Per source, what is asked of its messages.
    pub(crate) messages: Vec<Messages>,
    pub(crate) readings: Vec<Reading>,
    /// Per source, where new partitions are found.
    pub(crate) sources: Arc<Vec<Mutex<Box<dyn Source>>>>,
    pub(crate) ranks: Arc<Ranks>,
    pub(crate) dead_letters: Arc<DeadLetters>,
    pub(crate) status: Arc<Status>,
}

/// Hits, and what all keepers must know of the sources.
pub(crate) type ReadStreams<'scope> = (StreamVec<'scope, Time, Hits>, StreamVec<'scope, Time, (u32, Milestone)>);

/// Builds the operator. `told` is where the whole job's changes have come to.
pub(crate) fn read<'scope>(
    scope: Scope<'scope, Time>,
    setup: ReadSetup,
    told: ProbeHandle<Time>,
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
            let told = told.with_frontier(|frontier| frontier.first().copied());
            let turn = reader.turn(*hold.time(), told);
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
                    if armed.is_none_or(|at| at <= Instant::now()) {
                        activator.activate_after(TICK);
                        armed = Some(Instant::now() + TICK);
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
    counts: Counts,
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
            setup,
            counts: Counts::default(),
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

    fn turn(&mut self, held: Time, told: Option<Time>) -> Turn {
        while let Some((_, bytes)) = self.sent.front().copied().filter(|(at, _)| told.is_none_or(|told| *at < told)) {
            self.in_flight -= bytes;
            self.sent.pop_front();
        }
        let turn = match self.setup.span {
            Span::Replay { until, .. } => self.replay_turn(held, told, until),
            Span::Live => self.live_turn(held),
        };
        let turn = turn.unwrap_or_else(|failure| {
            self.setup.status.fail(failure);
            Turn { hits: Vec::new(), milestones: Vec::new(), next: Next::Done }
        });
        let (read, of) = self
            .setup
            .readings
            .iter()
            .map(|reading| reading.partition.progress())
            .fold((0, 0), |(r, o), (read, of)| (r + read, o + of));
        self.setup.status.publish_reading(
            self.setup.worker,
            &self.counts,
            (read + self.ended_bytes, of + self.ended_bytes),
        );
        turn
    }

    fn replay_turn(&mut self, held: Time, told: Option<Time>, until: Option<Time>) -> Result<Turn, Failure> {
        if self.in_flight > IN_FLIGHT && told.is_some_and(|told| held > told) {
            return Ok(Turn { hits: Vec::new(), milestones: Vec::new(), next: Next::Wait(held) });
        }
        let mut hits = Vec::new();
        let readings = &self.setup.readings;
        if let Some(behind) = (0..readings.len()).min_by_key(|i| (readings[*i].clock.greatest, readings[*i].rank)) {
            let now = self.setup.clock.now();
            match self.poll(behind, now, None)? {
                Chunk::Read(read) => hits = read,
                Chunk::Idle => {}
                Chunk::End => self.end(behind),
            }
            // What comes later in it takes effect later too, and is not asked for.
            let beyond =
                |clock: &PartitionClock| until.is_some_and(|until| clock.greatest.is_some_and(|at| at > until));
            if self.setup.readings.get(behind).is_some_and(|reading| beyond(&reading.clock)) {
                self.end(behind);
            }
        }
        let mut milestones = Vec::new();
        let firsts = || self.setup.readings.iter().map(|reading| reading.clock.first);
        if !self.opened && firsts().all(|first| first.is_some()) {
            self.opened = true;
            milestones.push(Milestone::Opened(firsts().flatten().chain(self.first).min()));
        }
        let next = match self.setup.readings.iter().map(|reading| reading.clock.greatest).min() {
            Some(least) => Next::Again(least.unwrap_or(0).max(held)),
            None => {
                milestones.push(Milestone::Ended(self.greatest));
                Next::Done
            }
        };
        Ok(Turn { hits, milestones, next })
    }

    fn live_turn(&mut self, held: Time) -> Result<Turn, Failure> {
        // The clock only moves forward, whatever the machine's does.
        let now = self.setup.clock.now().max(held);
        let mut milestones = Vec::new();
        if self.setup.status.stopped() {
            milestones.push(Milestone::Ended(Some(held)));
            return Ok(Turn { hits: Vec::new(), milestones, next: Next::Done });
        }
        self.discover()?;
        let mut hits = Vec::new();
        let mut busy = false;
        let mut left = self.setup.readings.len();
        while !busy && left > 0 && self.in_flight <= IN_FLIGHT {
            left -= 1;
            self.next = (self.next + 1) % self.setup.readings.len();
            match self.poll(self.next, now, Some(held))? {
                Chunk::Read(read) => (hits, busy) = (read, true),
                Chunk::Idle => {}
                Chunk::End => self.end(self.next),
            }
        }
        if !self.opened && self.setup.readings.iter().all(|reading| reading.partition.caught_up()) {
            self.opened = true;
            milestones.push(Milestone::Opened(Some(now)));
        }
        Ok(Turn { hits, milestones, next: if busy { Next::Again(now) } else { Next::Wait(now) } })
    }

    /// Reads a chunk of a partition. `clock`: the job's, live.
    fn poll(&mut self, index: usize, now: Time, clock: Option<Time>) -> Result<Chunk, Failure> {
        let Reading { source, rank, partition, clock: partition_clock } = &mut self.setup.readings[index];
        let id = partition.id().clone();
        let mut hits: Vec<Hits> = (0..self.setup.peers as u32).map(|worker| Hits::new(worker, *rank)).collect();
        match partition.poll(CHUNK).map_err(unreadable)? {
            Polled::End => return Ok(Chunk::End),
            Polled::Idle => return Ok(Chunk::Idle),
            Polled::Records(records) => {
                let messages = &self.setup.messages[*source];
                let (mut fields, mut scratch) = (Fields::default(), Scratch::default());
                let mut out =
                    Output { hits: &mut hits, counts: &mut self.counts, dead_letters: &self.setup.dead_letters };
                for record in records {
                    let clock = match clock {
                        Some(clock) => MessageClock::Job(clock),
                        None => MessageClock::Partition(partition_clock),
                    };
                    let mut at = Arrived { id: &id, partition: *rank, now, clock };
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
        Ok(Chunk::Read(hits))
    }

    fn end(&mut self, index: usize) {
        let Reading { partition, clock, .. } = self.setup.readings.remove(index);
        self.ended_bytes += partition.progress().0;
        self.greatest = self.greatest.max(clock.greatest);
        self.first = [self.first, clock.first].into_iter().flatten().min();
    }

    /// Takes up files that have come since the start.
    fn discover(&mut self) -> Result<(), Failure> {
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
                let rank = self.setup.ranks.of(&id);
                let partition = of.open(&id, None).map_err(unreadable)?;
                self.setup.readings.push(Reading { source, rank, partition, clock: PartitionClock::default() });
            }
        }
        Ok(())
    }
}
