//! What is read ahead and decoded by others is what one worker would have read one by one: random partitions, read twice.

use super::*;
use crate::ingest::decoding::tests::{LONGEST, line, plan, shown};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use usher_core::dead_letters::DeadLetter;
use usher_core::sink::SinkError;
use usher_core::source::{Body, Partition, Record};

/// The clock of the machine, which stands.
const NOW: Time = 1_790_000_000_000;
/// Workers of the process: the first one reads.
const WORKERS: usize = 3;

/// What a poll finds.
#[derive(Clone)]
enum Step {
    Lines(String),
    TooLarge(u64),
    Idle,
    /// The end of what can be read.
    Damage,
    Error,
}

/// A partition that gives out what it was made with.
struct Script {
    id: PartitionId,
    steps: Vec<Step>,
    next: usize,
    position: u64,
    /// What was there when it was opened.
    stored: u64,
    caught_up: bool,
    damage: Option<SourceError>,
    /// Whether more may come behind the end.
    goes_on: bool,
}

impl Partition for Script {
    fn id(&self) -> &PartitionId {
        &self.id
    }

    fn poll(&mut self, _budget: usize) -> Result<Polled<'_>, SourceError> {
        let Some(step) = self.steps.get(self.next) else {
            self.caught_up = true;
            return Ok(if self.goes_on { Polled::Idle } else { Polled::End });
        };
        let position = self.position;
        match step {
            Step::Error => return Err(damage(position)),
            Step::Damage => {
                (self.damage, self.caught_up) = (Some(damage(position)), true);
                return Ok(Polled::End);
            }
            _ => self.next += 1,
        }
        Ok(match step {
            Step::Lines(lines) => {
                self.position += lines.len() as u64;
                Polled::Records(Records::lines(lines.as_bytes(), position, LONGEST))
            }
            Step::TooLarge(length) => {
                self.position += length + 1;
                let body = Body::TooLarge { head: b"{\"type\":", length: *length };
                Polled::Records(Records::one(Record { position, timestamp: None, headers: None, body }))
            }
            _ => Polled::Idle,
        })
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn identity(&self) -> String {
        format!("read to {}", self.position)
    }

    fn progress(&self) -> (u64, u64) {
        (self.position, self.stored)
    }

    fn lag(&self) -> Option<u64> {
        Some(self.stored.saturating_sub(self.position))
    }

    fn caught_up(&self) -> bool {
        self.caught_up || self.position >= self.stored
    }

    fn damage(&self) -> Option<&SourceError> {
        self.damage.as_ref()
    }
}

fn damage(position: u64) -> SourceError {
    SourceError::Damaged { id: "web".to_owned(), path: "a.gz".to_owned(), position, reason: "cut".to_owned() }
}

struct Stands;

impl Clock for Stands {
    fn now(&self) -> Time {
        NOW
    }
}

#[derive(Default)]
struct Written(Mutex<Vec<String>>);

impl DeadLetters for Written {
    fn write(&self, letter: &DeadLetter<'_>) -> Result<(), SinkError> {
        lock(&self.0).push(format!("{letter:?}"));
        Ok(())
    }

    fn finish(&self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// What is read, and how.
struct History {
    span: Span,
    partitions: Vec<Vec<Step>>,
    stored: Vec<u64>,
    not_before: Option<Time>,
    /// Whether the order between partitions is that of their clocks: none pauses.
    in_order: bool,
}

impl History {
    fn new(random: &mut fastrand::Rng) -> History {
        let span = match random.u8(..3) {
            0 => Span::Live,
            1 => Span::Replay { from: None, until: None },
            _ => Span::Replay { from: None, until: Some(NOW - random.u64(..400_000)) },
        };
        let in_order = random.bool();
        let mut history = History {
            span,
            partitions: Vec::new(),
            stored: Vec::new(),
            not_before: random.bool().then_some(NOW - 450_000),
            in_order,
        };
        for _ in 0..random.usize(1..=3) {
            let (mut steps, mut time, mut length) = (Vec::new(), NOW - 500_000, 0);
            for _ in 0..random.usize(0..40) {
                let step = match random.u8(..12) {
                    0 => Step::TooLarge(random.u64(LONGEST as u64 + 1..1_000)),
                    1 if !in_order => Step::Idle,
                    _ => Step::Lines((0..random.usize(1..12)).map(|_| line(random, time) + "\n").collect()),
                };
                length += match &step {
                    Step::Lines(lines) => lines.len() as u64,
                    Step::TooLarge(length) => length + 1,
                    _ => 0,
                };
                steps.push(step);
                time += random.u64(..30_000);
            }
            match random.u8(..8) {
                0 => steps.push(Step::Damage),
                1 if in_order => steps.push(Step::Error),
                _ => {}
            }
            history.partitions.push(steps);
            // Some have grown since they were opened, and of a pipe it is not known what it holds.
            history.stored.push(match random.u8(..6) {
                0 => length / 2,
                1 if span != Span::Live => 0,
                _ => length,
            });
        }
        history
    }

    fn readers(&self) -> Vec<PartitionReader> {
        let reader = |rank: usize| {
            let script = Script {
                id: PartitionId { source: "web".to_owned(), name: format!("{rank}.jsonl") },
                steps: self.partitions[rank].clone(),
                next: 0,
                position: 0,
                stored: self.stored[rank],
                caught_up: false,
                damage: None,
                goes_on: self.span == Span::Live,
            };
            let since = ReadSince { new: ReadFrom::Ever, kept: ReadFrom::Oldest };
            PartitionReader::new(0, rank as u32, Box::new(script), since, self.not_before)
        };
        (0..self.partitions.len()).map(reader).collect()
    }
}

/// What is seen of a run.
#[derive(Debug, Default, PartialEq)]
struct Trace {
    /// Of each partition, where it stands after each chunk.
    standings: Vec<(u32, String)>,
    /// The events of each chunk, by its partition's rank.
    events: Vec<(u32, Vec<Vec<String>>)>,
    progress: Vec<SourceProgress>,
    dead_letters: Vec<String>,
    status: String,
}

impl Trace {
    /// Forgets the order between partitions.
    fn by_partition(mut self) -> Trace {
        self.standings.sort_by_key(|(rank, _)| *rank);
        self.events.sort_by_key(|(rank, _)| *rank);
        self.dead_letters.sort();
        self
    }

    fn note(&mut self, readers: &PartitionReaders, last: &mut [String]) {
        for reader in readers.reading.iter().chain(&readers.ended) {
            let PartitionReader { rank, partition, clock, pending, effective, newest, oldest, .. } = reader;
            let stands = (partition.position(), partition.identity(), partition.progress(), partition.lag());
            let standing =
                format!("{stands:?} {:?} {clock:?} {pending:?} {effective} {newest:?} {oldest:?}", partition.damage());
            let before = &mut last[*rank as usize];
            if *before != standing {
                before.clone_from(&standing);
                self.standings.push((*rank, standing));
            }
        }
    }
}

/// How often a run came to what is hard.
#[derive(Debug, Default)]
struct Reached {
    ahead: usize,
    awaited: usize,
    left: usize,
}

/// Reads a history; `helping`: with the help of a second worker, which is as slow as chance has it.
fn read(history: &History, mut helping: Option<&mut fastrand::Rng>, reached: &mut Reached) -> Trace {
    let (plan, status, written) = (Arc::new(plan()), Status::new(WORKERS, 3), Arc::new(Written::default()));
    let readers = Rc::new(RefCell::new(PartitionReaders::default()));
    readers.borrow_mut().hand_in(history.readers(), 10);
    let matchers = Rc::new(vec![EventMatcher::new(&plan, "web", None)]);
    let decoding = Arc::new(SharedDecoding::new(WORKERS, WORKERS));
    if helping.is_some() {
        decoding.join(1, Arc::new(|| {}));
    }
    let setup = ReaderSetup {
        worker: 0,
        peers: WORKERS,
        span: history.span,
        clock: Arc::new(Stands),
        matchers: Rc::clone(&matchers),
        decoding: Arc::clone(&decoding),
        readers: Rc::clone(&readers),
        sources: Arc::new(Vec::new()),
        dead_letters: Arc::clone(&written) as Arc<dyn DeadLetters>,
        status: Arc::clone(&status),
        advisor: Arc::new(Advisor::new(&plan, &["web".to_owned()])),
    };
    let woken = Arc::new(AtomicUsize::new(0));
    let wakes = Arc::clone(&woken);
    let wake = move || {
        wakes.fetch_add(1, Ordering::Relaxed);
    };
    let mut scheduler = ReadScheduler::new(setup, Arc::new(wake));
    let (mut trace, mut held, mut at_work) = (Trace::default(), 0, Vec::new());
    let mut last = vec![String::new(); history.partitions.len()];
    trace.note(&readers.borrow(), &mut last);
    loop {
        let before = scheduler.ahead;
        let Activation { events, from: _, source_progress, next } = scheduler.activate(held, None);
        reached.ahead += usize::from(scheduler.ahead > 1);
        reached.left += usize::from(before > 1 && scheduler.ahead == 0 && matches!(history.span, Span::Replay { .. }));
        trace.note(&readers.borrow(), &mut last);
        if let Some(batch) = events.first() {
            trace.events.push((batch.partition, shown(&events)));
        }
        let is_over = next == Next::Done || !source_progress.is_empty() && history.span == Span::Live;
        trace.progress.extend(source_progress);
        if is_over {
            break;
        }
        held = match next {
            Next::Again(time) => time,
            Next::Wait(time, _) => {
                reached.awaited += usize::from(scheduler.ahead > 0);
                time
            }
            Next::Done => unreachable!("it is over then"),
        };
        let Some(random) = helping.as_mut() else { continue };
        for _ in 0..random.usize(..4) {
            if random.bool() {
                at_work.extend(decoding.take_to_help(1));
            } else if !at_work.is_empty() {
                let task: Arc<DecodeTask> = at_work.swap_remove(random.usize(..at_work.len()));
                task.finish(task.decode(&matchers, &decoding));
            }
        }
    }
    trace.dead_letters = std::mem::take(&mut *lock(&written.0));
    let (names, damaged) = (status.seen().iter().map(Seen::names).collect::<Vec<_>>(), status.damaged_files());
    let failure = status.take_failure().map(|failure| failure.message);
    trace.status = format!("{} {:?} {names:?} {damaged:?} {failure:?}", status.counts(), status.bytes());
    trace
}

#[test]
fn what_is_read_ahead_and_decoded_by_others_is_what_one_worker_reads() {
    let mut reached = Reached::default();
    for seed in 0..300 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let history = History::new(random);
        let alone = read(&history, None, &mut Reached::default());
        let helped = read(&history, Some(random), &mut reached);
        let (alone, helped) = match history.in_order {
            true => (alone, helped),
            false => (alone.by_partition(), helped.by_partition()),
        };
        assert!(alone == helped, "seed {seed}, {:?}:\n{alone:#?}\n{helped:#?}", history.span);
    }
    let Reached { ahead, awaited, left } = reached;
    assert!(ahead > 500 && awaited > 50 && left > 5, "{reached:?}");
}

#[test]
fn a_clock_that_moves_while_nothing_is_due_does_not_lag() {
    let mut readers = PartitionReaders::default();
    // Another worker of an idle job keeps its clock: nothing that is due waits for it.
    readers.note_move(1_000, 1_250, None);
    assert_eq!(readers.lag(1_000, 1_500), 0);
    readers.note_move(1_250, 1_500, Some(1_490));
    readers.note_move(1_500, 1_500, Some(1_500));
    assert_eq!([(1_000, 1_500), (1_499, 1_520), (1_500, 1_530)].map(|(over, now)| readers.lag(over, now)), [10, 30, 0]);
}

#[test]
fn a_live_clock_that_is_late_goes_on_in_steps_until_it_has_caught_up() {
    let plan = Arc::new(plan());
    let readers = Rc::new(RefCell::new(PartitionReaders::default()));
    readers.borrow_mut().hand_in(Vec::new(), 0);
    let setup = ReaderSetup {
        worker: 0,
        peers: WORKERS,
        span: Span::Live,
        clock: Arc::new(Stands),
        matchers: Rc::new(Vec::new()),
        decoding: Arc::new(SharedDecoding::new(WORKERS, WORKERS)),
        readers: Rc::clone(&readers),
        sources: Arc::new(Vec::new()),
        dead_letters: Arc::new(Written::default()),
        status: Status::new(WORKERS, 3),
        advisor: Arc::new(Advisor::new(&plan, &[])),
    };
    let mut scheduler = ReadScheduler::new(setup, Arc::new(|| {}));
    let start = NOW - 5_000;
    // The partitions, of which there are none, have been caught up with; the job has not started.
    scheduler.activate(start, Some(start));
    for (held, to) in [(start, start + STEP), (NOW - STEP - 1, NOW - 1), (NOW - STEP, NOW)] {
        let Activation { next, .. } = scheduler.activate(held, Some(held));
        assert!(matches!(next, Next::Wait(time, _) if time == to), "{next:?}");
        assert_eq!(readers.borrow().has_caught_up(), to == NOW);
    }
}

/// A clock that runs, as far as the test moves it.
struct SetClock(AtomicU64);

impl Clock for SetClock {
    fn now(&self) -> Time {
        self.0.load(Ordering::Relaxed)
    }

    fn runs(&self) -> bool {
        true
    }
}

#[test]
fn a_ms_is_over_as_soon_as_all_that_has_come_in_it_is_read() {
    let plan = Arc::new(plan());
    let (readers, clock) =
        (Rc::new(RefCell::new(PartitionReaders::default())), Arc::new(SetClock(AtomicU64::new(NOW))));
    let line = |number: u8| {
        let common = r#""userId":"u-1","timestamp":"2026-09-21T14:13:20Z""#;
        Step::Lines(
            format!(
                r#"{{"type":"track","event":"Bought","properties":{{"revenue":1}},"messageId":"m-{number}",{common}}}"#
            ) + "\n",
        )
    };
    let id = PartitionId { source: "web".to_owned(), name: "0.jsonl".to_owned() };
    let steps = vec![line(1), line(2), Step::Idle, line(3)];
    let script = Script { id, steps, next: 0, position: 0, stored: 0, caught_up: true, damage: None, goes_on: true };
    let since = ReadSince { new: ReadFrom::Ever, kept: ReadFrom::Oldest };
    readers.borrow_mut().hand_in(vec![PartitionReader::new(0, 0, Box::new(script), since, None)], 1);
    let setup = ReaderSetup {
        worker: 0,
        peers: WORKERS,
        span: Span::Live,
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        matchers: Rc::new(vec![EventMatcher::new(&plan, "web", None)]),
        decoding: Arc::new(SharedDecoding::new(WORKERS, WORKERS)),
        readers: Rc::clone(&readers),
        sources: Arc::new(Vec::new()),
        dead_letters: Arc::new(Written::default()),
        status: Status::new(WORKERS, 3),
        advisor: Arc::new(Advisor::new(&plan, &["web".to_owned()])),
    };
    let mut scheduler = ReadScheduler::new(setup, Arc::new(|| {}));
    scheduler.activate(NOW, None);
    let mut activate = |held: Time| {
        // A message comes.
        scheduler.watch.arrivals().note(clock.now());
        let Activation { events, from, next, .. } = scheduler.activate(held, None);
        (!events.is_empty(), from, next)
    };
    assert_eq!([activate(NOW), activate(NOW)], [(true, NOW, Next::Again(NOW)); 2]);
    assert_eq!(activate(NOW), (false, NOW, Next::Wait(NOW + 1, SOON)), "nothing more is there");
    assert_eq!(
        activate(NOW + 1),
        (false, NOW + 1, Next::Wait(NOW + 1, SOON)),
        "the ms is over: the next message waits for the next one"
    );
    assert_eq!([NOW, NOW + 1].map(|over| readers.borrow_mut().lag(over, NOW + 5)), [5, 0]);
    clock.0.store(NOW + 1, Ordering::Relaxed);
    assert_eq!(activate(NOW + 1), (true, NOW + 1, Next::Again(NOW + 1)));
    // The machine's clock is set back: the job's goes on, and is not moved ahead of it any more.
    clock.0.store(NOW - 5, Ordering::Relaxed);
    assert_eq!(activate(NOW + 1), (false, NOW + 1, Next::Wait(NOW + 1, TICK)));
}
