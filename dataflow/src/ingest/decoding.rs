//! Chunks of messages that any worker of a process decodes, so that one large file keeps all of them busy.
//!
//! A worker that has nothing left to read helps those that have ([`SharedDecoding::join`]). A reader whose process has helpers reads
//! some chunks ahead ([`crate::ingest::read_ahead`]) and puts each into the queue as a [`DecodeTask`]; between two steps of its
//! dataflow a helper takes the first one and decodes it. What came out of a chunk is taken in by its reader alone, in the order of the partition: when
//! the next chunk waits in the queue, the reader decodes it itself, and while a helper is at it, the reader decodes another.
//!
//! Promises: what is taken in is what the reader would have decoded itself, one chunk after the other. Under replay an event takes effect at the
//! greatest timestamp read so far or its own, whichever is later, so a chunk is decoded by a clock of its own, and what came before it is
//! composed in by [`Decoded::follow`]. Nothing is counted, and no dead letter is written, before its chunk is taken in. Starts no thread, and
//! waits for none. Refuses messages that can't be copied, and those that take effect by the job's clock: a live job does not read ahead.

use crate::ingest::event_batch::EventBatch;
use crate::ingest::match_events::{EventMatcher, MessageClock, MessageContext, Output, PartitionClock, Scratch};
use crate::ingest::seen::Seen;
use crate::time::Time;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use usher_core::counts::Counts;
use usher_core::dead_letters::{DeadLetter, DeadLetterReason, DeadLetters};
use usher_core::lock::lock;
use usher_core::sink::SinkError;
use usher_core::source::{CopiedRecords, PartitionId};
use usher_formats::Fields;

/// Wakes a worker, from any thread.
pub(crate) type Wake = Arc<dyn Fn() + Send + Sync>;

/// What the workers of one process share: the chunks that wait to be decoded, and who helps.
pub(crate) struct SharedDecoding {
    /// The number of workers of all processes.
    peers: u32,
    helpers: AtomicUsize,
    queue: Mutex<Queue>,
}

struct Queue {
    tasks: VecDeque<Arc<DecodeTask>>,
    /// By worker of the process; `None` while it has something to read.
    helpers: Vec<Option<Helper>>,
}

struct Helper {
    wake: Wake,
    /// Whether it has found the queue empty, and is to be woken.
    waits: bool,
}

impl SharedDecoding {
    /// Returns what so many workers of a process share; `peers` is the number of workers of all processes.
    pub(crate) fn new(workers: usize, peers: usize) -> SharedDecoding {
        let helpers = (0..workers).map(|_| None).collect();
        SharedDecoding {
            peers: peers as u32,
            helpers: AtomicUsize::new(0),
            queue: Mutex::new(Queue { tasks: VecDeque::new(), helpers }),
        }
    }

    /// Has a worker of the process help from now on: it has nothing left to read. `wake` is called when there is something to decode.
    pub(crate) fn join(&self, worker: usize, wake: Wake) {
        let mut queue = lock(&self.queue);
        if queue.helpers[worker].replace(Helper { wake, waits: false }).is_none() {
            self.helpers.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the number of workers that help.
    pub(crate) fn helpers(&self) -> usize {
        self.helpers.load(Ordering::Relaxed)
    }

    /// Adds a chunk, behind all others.
    pub(crate) fn push(&self, task: Arc<DecodeTask>) {
        let mut queue = lock(&self.queue);
        queue.tasks.push_back(task);
        for helper in queue.helpers.iter_mut().flatten() {
            if std::mem::take(&mut helper.waits) {
                (helper.wake)();
            }
        }
    }

    /// Takes a certain chunk out of the queue; returns false if another worker has taken it.
    pub(crate) fn take(&self, task: &Arc<DecodeTask>) -> bool {
        let mut queue = lock(&self.queue);
        let place = queue.tasks.iter().position(|queued| Arc::ptr_eq(queued, task));
        place.is_some_and(|place| queue.tasks.remove(place).is_some())
    }

    /// Takes the next chunk.
    pub(crate) fn take_next(&self) -> Option<Arc<DecodeTask>> {
        lock(&self.queue).tasks.pop_front()
    }

    /// Takes the next chunk for a worker, if it helps; it is woken when there is one.
    pub(crate) fn take_to_help(&self, worker: usize) -> Option<Arc<DecodeTask>> {
        let mut queue = lock(&self.queue);
        queue.helpers[worker].as_ref()?;
        let task = queue.tasks.pop_front();
        if let Some(helper) = &mut queue.helpers[worker] {
            helper.waits = task.is_none();
        }
        task
    }
}

/// A worker's part in decoding what others read.
pub(crate) struct DecodeHelper {
    /// Of the process.
    pub(crate) worker: usize,
    pub(crate) decoding: Arc<SharedDecoding>,
    /// By source.
    pub(crate) matchers: Rc<Vec<EventMatcher>>,
}

impl DecodeHelper {
    /// Decodes a chunk, if one waits and the worker has nothing left to read; returns whether it did.
    pub(crate) fn step(&self) -> bool {
        // Without other workers there is nobody to help.
        if self.decoding.helpers() == 0 {
            return false;
        }
        let task = self.decoding.take_to_help(self.worker);
        task.is_some_and(|task| {
            task.finish(task.decode(&self.matchers, &self.decoding));
            true
        })
    }
}

/// Where a chunk comes from, and what decides how its messages are read.
#[derive(Clone, Debug)]
pub(crate) struct ChunkContext {
    /// Index of its source.
    pub(crate) source: usize,
    pub(crate) rank: u32,
    pub(crate) id: PartitionId,
    /// [`crate::ingest::event_batch::hash_partition`] of `id`.
    pub(crate) seed: u64,
    /// When it was read.
    pub(crate) now: Time,
    /// Its messages move the clock of its partition no further.
    pub(crate) limit: Time,
}

/// A chunk that any worker of the process may decode.
pub(crate) struct DecodeTask {
    records: CopiedRecords,
    context: ChunkContext,
    outcome: Mutex<Outcome>,
    /// Wakes the worker that reads the partition.
    wake: Wake,
}

/// How far a chunk is.
enum Outcome {
    /// In the queue, or with a worker.
    Pending,
    /// The same, and its reader waits for it.
    Awaited,
    Decoded(Box<Decoded>),
}

impl DecodeTask {
    pub(crate) fn new(records: CopiedRecords, context: ChunkContext, wake: Wake) -> DecodeTask {
        DecodeTask { records, context, outcome: Mutex::new(Outcome::Pending), wake }
    }

    /// Decodes the chunk. `matchers` are by source.
    pub(crate) fn decode(&self, matchers: &[EventMatcher], decoding: &SharedDecoding) -> Decoded {
        let ChunkContext { source, rank, id, seed, now, limit } = &self.context;
        let mut decoded = Decoded::new(*rank, decoding.peers);
        let kept = KeptDeadLetters::default();
        let (mut fields, mut scratch) = (Fields::default(), Scratch::default());
        let mut out = Output {
            batches: &mut decoded.batches,
            counts: &mut decoded.counts,
            seen: &mut decoded.seen,
            dead_letters: &kept,
        };
        for record in self.records.records() {
            let clock = MessageClock::Partition(&mut decoded.clock, *limit);
            let mut context = MessageContext { id, seed: *seed, now: *now, clock };
            matchers[*source]
                .read(record, &mut context, &mut fields, &mut scratch, &mut out)
                .expect("dead letters that are kept are not refused");
        }
        decoded.dead_letters = kept.0.into_inner().expect("no thread has panicked with the dead letters");
        decoded
    }

    /// Keeps what came out of the chunk for its reader, and wakes the reader if it waits.
    pub(crate) fn finish(&self, decoded: Decoded) {
        let before = std::mem::replace(&mut *lock(&self.outcome), Outcome::Decoded(Box::new(decoded)));
        if matches!(before, Outcome::Awaited) {
            (self.wake)();
        }
    }

    /// Takes what came out of the chunk. `None` while another worker is at it: the reader is woken when it is done.
    pub(crate) fn take_outcome(&self) -> Option<Decoded> {
        match std::mem::replace(&mut *lock(&self.outcome), Outcome::Awaited) {
            Outcome::Decoded(decoded) => Some(*decoded),
            Outcome::Pending | Outcome::Awaited => None,
        }
    }

    /// Returns the memory of the copied messages.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.records.into_bytes()
    }
}

/// What came out of a chunk, as if it were the first of its partition.
pub(crate) struct Decoded {
    /// By worker of all processes; one may be empty.
    pub(crate) batches: Vec<EventBatch>,
    pub(crate) clock: PartitionClock,
    pub(crate) counts: Counts,
    /// [`Seen::of_chunk`].
    pub(crate) seen: Seen,
    /// In the order of their messages.
    pub(crate) dead_letters: Vec<KeptDeadLetter>,
}

impl Decoded {
    fn new(rank: u32, peers: u32) -> Decoded {
        Decoded {
            batches: (0..peers).map(|worker| EventBatch::new(worker, rank)).collect(),
            clock: PartitionClock::default(),
            counts: Counts::default(),
            seen: Seen::of_chunk(),
            dead_letters: Vec::new(),
        }
    }

    /// Dates the events as those of a chunk that follows what has moved `clock`, and moves it on.
    ///
    /// An event takes effect at the greatest of its own timestamp, those before it in the chunk, and those before the chunk: the
    /// first two are in its `at`.
    pub(crate) fn follow(&mut self, clock: &mut PartitionClock) {
        if let Some(before) = clock.greatest {
            self.batches.iter_mut().for_each(|batch| batch.not_before(before));
        }
        clock.first = clock.first.or(self.clock.first);
        clock.greatest = clock.greatest.max(self.clock.greatest);
    }
}

/// A dead letter until its chunk is taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptDeadLetter {
    position: u64,
    element: Option<u32>,
    reason: DeadLetterReason,
    detail: String,
    raw: Vec<u8>,
    length: u64,
}

impl KeptDeadLetter {
    /// Returns it as one of a partition.
    pub(crate) fn of<'a>(&'a self, partition: &'a PartitionId) -> DeadLetter<'a> {
        let KeptDeadLetter { position, element, reason, detail, raw, length } = self;
        DeadLetter { partition, position: *position, element: *element, reason: *reason, detail, raw, length: *length }
    }
}

/// Keeps the dead letters of a chunk.
#[derive(Default)]
struct KeptDeadLetters(Mutex<Vec<KeptDeadLetter>>);

impl DeadLetters for KeptDeadLetters {
    fn write(&self, letter: &DeadLetter<'_>) -> Result<(), SinkError> {
        let DeadLetter { partition: _, position, element, reason, detail, raw, length } = *letter;
        let (detail, raw) = (detail.to_owned(), raw.to_vec());
        lock(&self.0).push(KeptDeadLetter { position, element, reason, detail, raw, length });
        Ok(())
    }

    fn finish(&self) -> Result<(), SinkError> {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use usher_core::source::Records;
    use usher_core::time::write_time;
    use usher_queries::plan::Plan;

    const JOB: &str = "
job: shop
sources: {web: {file: {path: events.jsonl}, format: segment}}
models: {users: {}}
events:
  viewed: {source: web, type: page, model: users, properties: {path: string}}
  bought: {source: web, type: track, name: Bought, model: users, properties: {revenue: number}}
  any: {source: web, type: track, model: users, properties: {revenue: number}}
audiences:
  lookers: {model: users, where: {performed: viewed, where: \"path = '/a'\", at_least: 2, within: 1h}}
  buyers: {model: users, where: {performed: bought, sum: revenue, more_than: 10, within: 1h}}
  busy: {model: users, where: {performed: any, at_least: 2, within: 1h}}
limits: {future_skew: 1m}
";
    /// The longest message.
    pub(crate) const LONGEST: usize = 300;
    const WORKERS: u32 = 3;
    /// The index of the event whose value an aggregate takes: the events of the plan are ordered by id.
    const BOUGHT: u16 = 1;

    pub(crate) fn plan() -> Plan {
        let job = usher_config::parse(JOB, "job.yaml", std::path::Path::new("."), &|_| None);
        let job = job.unwrap_or_else(|problem| panic!("{problem}"));
        usher_queries::compile(&job, "job.yaml", &usher_queries::Schemas::new()).expect("a sound job")
    }

    fn matcher() -> EventMatcher {
        EventMatcher::new(&plan(), "web", None)
    }

    /// A line of some kind about a time.
    pub(crate) fn line(random: &mut fastrand::Rng, time: Time) -> String {
        let time = match random.u8(..20) {
            0 => time.saturating_sub(random.u64(..100_000)),
            1 => time + random.u64(..200_000),
            _ => time,
        };
        let mut text = Vec::new();
        write_time(&mut text, time);
        let time = String::from_utf8(text).expect("a time is ASCII");
        let common =
            format!(r#""userId":"u-{}","messageId":"m-{}","timestamp":"{time}""#, random.u8(..9), random.u16(..));
        match random.u8(..16) {
            0..=4 => format!(r#"{{"type":"page","properties":{{"path":"/{}"}},{common}}}"#, random.alphabetic()),
            5..=7 => {
                format!(r#"{{"type":"track","event":"Bought","properties":{{"revenue":{}}},{common}}}"#, random.i8(..))
            }
            8 => format!(r#"{{"type":"track","event":"Other {}",{common}}}"#, random.u8(..)),
            9 => format!(r#"{{"type":"screen","name":"{}",{common}}}"#, random.u8(..)),
            10 => format!(r#"{{"type":"page","userId":"u-1","text":"{}",{common}"#, "x".repeat(random.usize(..400))),
            11 => String::new(),
            12 => format!(r#"{{"type":"page","timestamp":"{time}"}}"#),
            13 => format!(r#"{{"type":"page","userId":true,"timestamp":"{time}"}}"#),
            14 => r#"{"type":"page","userId":"u-1"}"#.to_owned(),
            _ => r#"{"type":"track","event":"Bought","userId":"u-1","timestamp":"yesterday"}"#.to_owned(),
        }
    }

    /// What batches hold, by worker: all of each event that does not depend on where its batch begins.
    pub(crate) fn shown(batches: &[EventBatch]) -> Vec<Vec<String>> {
        let event = |batch: &EventBatch, at: usize| {
            let event = batch.events[at];
            let fields = (event.at, event.timestamp, event.position, event.id, event.facts, event.event, event.block);
            // Without its own, the values of the events behind it.
            let value = batch.values(&event).first().filter(|_| event.event == BOUGHT);
            format!("{fields:?} {} {value:?}", batch.key(&event))
        };
        batches.iter().map(|batch| (0..batch.events.len()).map(|at| event(batch, at)).collect()).collect()
    }

    /// Reads one history as a partition would, and as chunks that are decoded in any order.
    fn compare(seed: u64) {
        let random = &mut fastrand::Rng::with_seed(seed);
        let matcher = matcher();
        let shared = SharedDecoding::new(2, WORKERS as usize);
        let id = PartitionId { source: "web".to_owned(), name: "events.jsonl".to_owned() };
        let (mut now, mut position) = (1_790_000_000_000, 0);
        let begins = PartitionClock { first: None, greatest: random.bool().then_some(now - 20_000) };
        let mut one_by_one = Decoded { clock: begins, seen: Seen::default(), ..Decoded::new(0, WORKERS) };
        let (kept, mut tasks) = (KeptDeadLetters::default(), Vec::new());
        for _ in 0..random.usize(1..40) {
            let lines: String = (0..random.usize(1..30)).map(|_| line(random, now) + "\n").collect();
            let limit = if seed.is_multiple_of(2) { Time::MAX } else { now };
            let records = Records::lines(lines.as_bytes(), position, LONGEST);
            let context = ChunkContext { source: 0, rank: 0, id: id.clone(), seed: 7, now, limit };
            let copied = records.copy_into(Vec::new()).expect("lines can be copied");
            tasks.push(DecodeTask::new(copied, context, Arc::new(|| {})));
            let (mut fields, mut scratch) = (Fields::default(), Scratch::default());
            let mut out = Output {
                batches: &mut one_by_one.batches,
                counts: &mut one_by_one.counts,
                seen: &mut one_by_one.seen,
                dead_letters: &kept,
            };
            for record in records {
                let clock = MessageClock::Partition(&mut one_by_one.clock, limit);
                let mut context = MessageContext { id: &id, seed: 7, now, clock };
                matcher.read(record, &mut context, &mut fields, &mut scratch, &mut out).expect("nothing refuses");
            }
            position += lines.len() as u64;
            now += random.u64(..60_000);
        }
        assert!(one_by_one.counts.read < 50 || one_by_one.counts.matched > 0, "seed {seed}: {}", one_by_one.counts);
        let mut order: Vec<usize> = (0..tasks.len()).collect();
        random.shuffle(&mut order);
        let matchers = [matcher];
        order.iter().for_each(|task| tasks[*task].finish(tasks[*task].decode(&matchers, &shared)));
        let mut clock = begins;
        let mut events: Vec<Vec<String>> = vec![Vec::new(); WORKERS as usize];
        let (mut counts, mut seen, mut dead_letters) = (Counts::default(), Seen::default(), Vec::new());
        for task in &tasks {
            let mut decoded = task.take_outcome().expect("it was decoded");
            decoded.follow(&mut clock);
            events.iter_mut().zip(shown(&decoded.batches)).for_each(|(all, these)| all.extend(these));
            counts += decoded.counts;
            seen.append(&decoded.seen);
            dead_letters.extend(decoded.dead_letters);
        }
        assert_eq!(shown(&one_by_one.batches), events, "seed {seed}");
        assert_eq!((one_by_one.clock, one_by_one.counts), (clock, counts), "seed {seed}");
        assert_eq!(kept.0.into_inner().expect("the lock is not poisoned"), dead_letters, "seed {seed}");
        assert_eq!(one_by_one.seen.names(), seen.names(), "seed {seed}");
        assert_eq!(one_by_one.seen.sample(), seen.sample(), "seed {seed}");
        for event in 0..3 {
            assert_eq!(one_by_one.seen.event(event), seen.event(event), "seed {seed}");
        }
    }

    #[test]
    fn chunks_decoded_in_any_order_are_what_one_after_the_other_would_have_been() {
        (0..200).for_each(compare);
    }

    #[test]
    fn a_helper_that_waits_is_woken_once_and_a_chunk_is_taken_once() {
        let (woken, decoding) = (Arc::new(AtomicUsize::new(0)), Arc::new(SharedDecoding::new(2, 2)));
        let helper = DecodeHelper { worker: 1, decoding: Arc::clone(&decoding), matchers: Rc::new(vec![matcher()]) };
        let count = Arc::clone(&woken);
        let wake: Wake = Arc::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let id = PartitionId { source: "web".to_owned(), name: "events.jsonl".to_owned() };
        let task = |wake: &Wake| {
            let records = Records::lines(b"{}\n", 0, LONGEST).copy_into(Vec::new()).expect("lines can be copied");
            let context = ChunkContext { source: 0, rank: 0, id: id.clone(), seed: 7, now: 0, limit: 0 };
            Arc::new(DecodeTask::new(records, context, Arc::clone(wake)))
        };
        let (silent, first): (Wake, _) = (Arc::new(|| {}), task(&wake));
        decoding.push(Arc::clone(&first));
        assert!(!helper.step(), "it has something to read itself");
        decoding.join(1, Arc::clone(&wake));
        assert_eq!(decoding.helpers(), 1);
        assert!(decoding.take(&first) && !decoding.take(&first));
        assert!(first.take_outcome().is_none());
        first.finish(first.decode(&helper.matchers, &decoding));
        assert_eq!(woken.load(Ordering::Relaxed), 1, "the reader waited");
        assert_eq!(first.take_outcome().map(|decoded| decoded.counts.read), Some(1));
        assert!(!helper.step());
        (0..3).for_each(|_| decoding.push(task(&silent)));
        assert_eq!(woken.load(Ordering::Relaxed), 2, "it is woken by the first of them");
        assert!(helper.step() && helper.step() && helper.step() && !helper.step());
    }
}
