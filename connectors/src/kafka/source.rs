//! Topics as a source: each of their partitions is one of the source's.
//!
//! One client for a source, without a group: nothing is committed to the brokers, positions are the job's. Each partition is
//! fetched into a queue of its own, which its worker empties in batches and never waits for. Where reading starts and where a
//! bounded one ends is asked of the brokers once, when the source is opened. A thread looks for new partitions every
//! [`LOOK`], and finds out what became of positions that are gone.

use super::Variable;
use super::client::{Context, PATIENCE, Problem, REQUEST, Reader, code, ends, insist, problem, settings, topics};
use super::ffi::{self, Batch, Described, Fetched, Taken};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use usher_config::{Kafka, Start};
use usher_core::source::{Partition, PartitionId, Polled, ReadFrom, Records, Resume, Source, SourceError};

/// How often new partitions are looked for: a message of a new one is this late at most.
const LOOK: Duration = Duration::from_secs(5);

/// What fetching is set to; a job may set otherwise.
const DEFAULTS: [(&str, &str); 4] = [
    // With a full queue the fetcher sleeps for so long, 1,000 by default, which is long enough to empty it many times over.
    ("fetch.queue.backoff.ms", "2"),
    // Per partition; more is no faster. A fetch (1 MiB, compressed) and what it is unpacked to fit.
    ("queued.max.messages.kbytes", "8192"),
    // A broker that has nothing holds its answer for so long, 500 by default, and a partition whose queue was full at the
    // request waits with it.
    ("fetch.wait.max.ms", "50"),
    // After an error, 500 by default.
    ("fetch.error.backoff.ms", "100"),
];

const OURS: [(&str, &str); 4] = [
    // Messages of transactions that were rolled back are no messages.
    ("isolation.level", "read_committed"),
    // What ends a transaction has an offset too, so that the last message does not tell where the end is.
    ("enable.partition.eof", "true"),
    // A position that is gone is told, not passed over.
    ("auto.offset.reset", "error"),
    ("enable.auto.commit", "false"),
];

/// A partition's name: `topic,00042`.
///
/// By bytes, names are in the order of (topic, number), for numbers below 100,000: no character that a topic's name may have
/// comes before the comma.
pub fn partition_name(topic: &str, number: i32) -> String {
    format!("{topic},{number:05}")
}

/// The topic and the number of a partition's name, with or without leading zeros.
pub fn parse_partition(name: &str) -> Option<(&str, i32)> {
    let (topic, number) = name.rsplit_once(',')?;
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    (digits && !topic.is_empty()).then(|| Some((topic, number.parse().ok()?)))?
}

/// A source of topics, as the job has it.
pub struct SourceSpec<'a> {
    /// The source's id.
    pub id: &'a str,
    /// The cluster.
    pub kafka: &'a Kafka,
    /// At least one.
    pub topics: &'a [String],
    /// Where partitions start that no state knows. Under a bounded reading `Window` is `Earliest`.
    pub start: Start,
    /// What fills the longest window: how far before now, or before [`Bounds::from`], messages count, ms.
    pub window_ms: u64,
    /// The longest message, bytes.
    pub message_bytes: usize,
    /// The time, ms since the epoch.
    pub now: u64,
    /// Reads what is there and ends; none: for ever.
    pub bounds: Option<Bounds>,
}

/// What of its topics a source reads that ends where they end when it is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Messages of this time (ms since the epoch, the broker's) less the longest window, and later; none: as
    /// [`SourceSpec::start`] says.
    pub from: Option<u64>,
}

/// Topics as a source.
pub struct KafkaSource {
    id: String,
    pub(super) reader: Arc<Reader>,
    watch: Arc<Watch>,
    places: BTreeMap<PartitionId, Place>,
    bounded: bool,
    message_bytes: usize,
}

/// A partition as it was found when the source was opened.
#[derive(Clone, Debug)]
struct Place {
    /// Index in [`Watch::topics`].
    topic: usize,
    number: i32,
    low: i64,
    end: i64,
    start: i64,
    since: ReadFrom,
    why: &'static str,
}

/// What the source's thread finds out.
struct Watch {
    topics: Vec<String>,
    /// The topics as they were found first.
    first: Vec<Described>,
    state: Mutex<Watched>,
}

struct Watched {
    looked: Instant,
    /// Per topic, how many partitions it has.
    partitions: Vec<i32>,
    /// Topics that are not those that were found first.
    other: Vec<bool>,
    /// Partitions whose position is gone: where they start and end now, as soon as it is known.
    lost: HashMap<(usize, i32), Option<(i64, i64)>>,
}

impl KafkaSource {
    /// Connects, and finds out where each partition starts and ends.
    ///
    /// Waits for brokers that do not answer, 30 s at most. A topic that is not there, and brokers that refuse, are errors at
    /// once.
    pub fn open(spec: &SourceSpec<'_>, variable: Variable<'_>) -> Result<KafkaSource, SourceError> {
        KafkaSource::open_within(PATIENCE, spec, variable).map_err(|problem| SourceError::Kafka {
            id: spec.id.to_owned(),
            reason: problem.reason,
            hint: problem.hint,
        })
    }

    pub(super) fn open_within(
        patience: Duration,
        spec: &SourceSpec<'_>,
        variable: Variable<'_>,
    ) -> Result<KafkaSource, Problem> {
        let config = settings(spec.kafka, &DEFAULTS, &OURS, variable)?;
        let context = Context::new(format!("source {}", spec.id), &spec.kafka.brokers);
        // The thread has nothing to look at before the topics are known.
        let seen: Arc<Mutex<Option<Arc<Watch>>>> = Arc::default();
        let reader = {
            let seen = Arc::clone(&seen);
            Reader::start(&config, context, move |base| {
                let watch = seen.lock().expect("nobody panics with the lock").clone();
                if let Some(watch) = watch {
                    watch.look(base);
                }
            })?
        };
        let names: Vec<&str> = spec.topics.iter().map(String::as_str).collect();
        let first = topics(reader.base().client(), reader.context(), &names, patience)?;
        let mut places = BTreeMap::new();
        for (topic, (name, described)) in names.iter().zip(&first).enumerate() {
            for number in 0..described.partitions {
                let (low, end) = insist(reader.context(), patience, || reader.ends(name, number))?;
                let id = PartitionId { source: spec.id.to_owned(), name: partition_name(name, number) };
                places
                    .insert(id, Place { topic, number, low, end, start: low, since: oldest(low), why: "the earliest" });
            }
        }
        let time = match (spec.bounds, spec.start) {
            (Some(Bounds { from: Some(from) }), _) => Some((from.saturating_sub(spec.window_ms), "what --from needs")),
            (_, Start::Time(time)) => Some((time, "`start`, a time")),
            (None, Start::Window) => Some((spec.now.saturating_sub(spec.window_ms), "what fills the longest window")),
            (Some(_), Start::Window) | (_, Start::Earliest) => None,
            (_, Start::Latest) => {
                places.values_mut().for_each(|place| {
                    (place.start, place.since, place.why) = (place.end, ReadFrom::Time(spec.now), "the latest");
                });
                None
            }
        };
        if let Some((time, why)) = time {
            insist(reader.context(), patience, || at_time(reader.base(), &names, &mut places, time))?;
            for place in places.values_mut() {
                // Where the first that is there is of that time or later, it is not known what was before it.
                place.since = if place.start > place.low { ReadFrom::Time(time) } else { oldest(place.low) };
                place.why = why;
            }
        }
        let watch = Arc::new(Watch {
            state: Mutex::new(Watched {
                looked: Instant::now(),
                partitions: first.iter().map(|described| described.partitions).collect(),
                other: vec![false; names.len()],
                lost: HashMap::new(),
            }),
            topics: spec.topics.to_vec(),
            first,
        });
        *seen.lock().expect("nobody panics with the lock") = Some(Arc::clone(&watch));
        Ok(KafkaSource {
            id: spec.id.to_owned(),
            reader: Arc::new(reader),
            watch,
            places,
            bounded: spec.bounds.is_some(),
            message_bytes: spec.message_bytes,
        })
    }
}

/// From when on a partition is read that is read from its first message.
fn oldest(low: i64) -> ReadFrom {
    if low == 0 { ReadFrom::Ever } else { ReadFrom::Oldest }
}

/// Sets the places to the first messages of `time` or later; without one, to the end as it was found.
fn at_time(
    base: &BaseConsumer<Context>,
    topics: &[&str],
    places: &mut BTreeMap<PartitionId, Place>,
    time: u64,
) -> Result<(), Problem> {
    let time = i64::try_from(time).unwrap_or(i64::MAX);
    let mut asked = TopicPartitionList::with_capacity(places.len());
    for place in places.values() {
        asked
            .add_partition_offset(topics[place.topic], place.number, Offset::Offset(time))
            .expect("a time is a valid offset");
    }
    let found =
        base.offsets_for_times(asked, REQUEST).map_err(|error| problem(code(&error), "the offsets of a time"))?;
    for place in places.values_mut() {
        let topic = topics[place.topic];
        let element = found.find_partition(topic, place.number).expect("each that was asked for is answered");
        element
            .error()
            .map_err(|error| problem(code(&error), &format!("topic `{topic}`, partition {}", place.number)))?;
        place.start = match element.offset() {
            Offset::Offset(offset) => offset.clamp(place.low, place.end),
            _ => place.end,
        };
    }
    Ok(())
}

impl Source for KafkaSource {
    fn partitions(&self) -> Vec<PartitionId> {
        self.places.keys().cloned().collect()
    }

    /// New partitions are read from their start.
    fn discover(&mut self) -> Result<Vec<PartitionId>, SourceError> {
        let partitions = self.watch.lock().partitions.clone();
        let mut new = Vec::new();
        for (topic, count) in partitions.into_iter().enumerate() {
            let name = &self.watch.topics[topic];
            for number in 0..count {
                let id = PartitionId { source: self.id.clone(), name: partition_name(name, number) };
                self.places.entry(id.clone()).or_insert_with(|| {
                    new.push(id);
                    Place { topic, number, low: 0, end: 0, start: 0, since: ReadFrom::Ever, why: "a new partition" }
                });
            }
        }
        new.sort();
        Ok(new)
    }

    fn open(&mut self, id: &PartitionId, from: Option<&Resume>) -> Result<Box<dyn Partition>, SourceError> {
        let unlike = |found: String, read: String| SourceError::Unlike {
            id: id.source.clone(),
            partition: id.name.clone(),
            found,
            read,
        };
        let Some(place) = self.places.get(id) else {
            return Err(unlike("is not there".to_owned(), "it".to_owned()));
        };
        let topic = &self.watch.topics[place.topic];
        let identity = identity(topic, &self.watch.first[place.topic]);
        let (mut start, mut why, mut since) = (place.start, place.why, place.since);
        if let Some(resume) = from {
            let position = i64::try_from(resume.position).unwrap_or(i64::MAX);
            if resume.identity != identity {
                let found = format!("is of another topic of that name, `{identity}`, and ends at {}", place.end);
                return Err(unlike(found, format!("`{}` up to {position}", resume.identity)));
            }
            if position > place.end {
                return Err(unlike(format!("ends at {}", place.end), format!("up to {position}")));
            }
            (start, why, since) = (position, "where an earlier run stood", ReadFrom::Ever);
            if position < place.low {
                tracing::warn!(
                    source = %id.source, topic = %topic, partition = place.number,
                    read = position, first = place.low, lost = place.low - position,
                    "messages were deleted before they were read; going on from the first that is there"
                );
                (start, why, since) = (place.low, "the earliest: where an earlier run stood is gone", ReadFrom::Oldest);
            }
        }
        tracing::info!(source = %id.source, topic = %topic, partition = place.number, offset = start, why, "reading");
        Ok(Box::new(KafkaPartition {
            fetched: Fetched::start(Arc::clone(&self.reader), topic, place.number, start),
            id: id.clone(),
            place: Place { since, ..place.clone() },
            identity,
            watch: Arc::clone(&self.watch),
            batch: Batch::default(),
            start,
            position: start,
            bounded: self.bounded,
            message_bytes: self.message_bytes,
            mean: 1024,
            failed: None,
        }))
    }
}

/// What tells a topic from another one of its name: its id. Brokers before Kafka 2.8 give none; then only its name, and one
/// that was made anew is known by an end that lies before what was read, if it does.
fn identity(name: &str, topic: &Described) -> String {
    match &topic.id {
        Some(id) => format!("topic {id}"),
        None => format!("topic named {name}"),
    }
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.state.lock().expect("nobody panics with the lock")
    }

    /// On the source's thread.
    fn look(&self, base: &BaseConsumer<Context>) {
        let (due, lost) = {
            let state = self.lock();
            let lost: Vec<_> = state.lost.iter().filter(|(_, now)| now.is_none()).map(|(which, _)| *which).collect();
            (state.looked.elapsed() >= LOOK || !lost.is_empty(), lost)
        };
        if !due {
            return;
        }
        let context = base.client().context();
        let names: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        match ffi::describe(base.client(), &names, REQUEST) {
            Err(problem) => context.complain(&problem.reason),
            Ok(found) => {
                if found.iter().all(Option::is_some) {
                    context.calm();
                }
                let mut state = self.lock();
                for (topic, found) in found.iter().enumerate() {
                    match found {
                        None => context.complain(&format!("topic `{}` is gone", names[topic])),
                        Some(found) if found.id != self.first[topic].id => state.other[topic] = true,
                        Some(found) => state.partitions[topic] = found.partitions.max(state.partitions[topic]),
                    }
                }
            }
        }
        for (topic, number) in lost {
            match ends(base, names[topic], number) {
                Ok(now) => drop(self.lock().lost.insert((topic, number), Some(now))),
                Err(problem) => context.complain(&problem.reason),
            }
        }
        self.lock().looked = Instant::now();
    }
}

/// A partition of a topic.
struct KafkaPartition {
    fetched: Fetched,
    id: PartitionId,
    place: Place,
    identity: String,
    watch: Arc<Watch>,
    batch: Batch,
    /// Where reading started.
    start: i64,
    /// Before this, all has been handed out.
    position: i64,
    bounded: bool,
    message_bytes: usize,
    /// Bytes of a message of the last batch, on average.
    mean: usize,
    failed: Option<SourceError>,
}

/// What there is of a partition whose position is not there.
enum Lost {
    /// It is looked for.
    Unknown,
    /// It was found.
    Found,
}

impl KafkaPartition {
    /// Takes the next batch, and tells how many of it are to be handed out, counting what is no message.
    fn take(&mut self, budget: usize) -> usize {
        self.fetched.take(&mut self.batch, budget / self.mean, Duration::ZERO);
        let (mut bytes, mut count, mut upto) = (0, 0, 0);
        for message in self.batch.messages() {
            match message.taken() {
                Taken::Message(message) => {
                    if self.bounded && message.offset() >= self.place.end {
                        self.position = self.place.end;
                        break;
                    }
                    self.position = message.offset() + 1;
                    bytes += message.value().map_or(0, <[u8]>::len);
                    count += 1;
                }
                Taken::End(end) => self.position = self.position.max(end),
                Taken::OutOfRange => drop(self.watch.lock().lost.insert((self.place.topic, self.place.number), None)),
                Taken::Error(code) => {
                    let what = format!("topic `{}`, partition {}", self.topic(), self.place.number);
                    self.fetched.reader().context().complain(&problem(code, &what).reason);
                }
            }
            upto += 1;
        }
        if count == 0 {
            return 0;
        }
        self.mean = (bytes / count).max(64);
        upto
    }

    fn topic(&self) -> &str {
        &self.watch.topics[self.place.topic]
    }

    /// Goes on where something is, after the position was found to be gone.
    fn find(&mut self) -> Result<Lost, SourceError> {
        let which = (self.place.topic, self.place.number);
        let found = {
            let mut state = self.watch.lock();
            if state.other[self.place.topic] {
                return Err(self.unlike("is another topic of that name".to_owned()));
            }
            match state.lost.get(&which) {
                None => return Ok(Lost::Found),
                Some(None) => return Ok(Lost::Unknown),
                Some(Some(found)) => {
                    let found = *found;
                    state.lost.remove(&which);
                    found
                }
            }
        };
        let (low, end) = found;
        if self.position > end {
            return Err(self.unlike(format!("ends at {end}")));
        }
        if self.position < low {
            tracing::warn!(
                source = %self.id.source, topic = %self.topic(), partition = self.place.number,
                read = self.position, first = low, lost = low - self.position,
                "messages were deleted before they were read; going on from the first that is there"
            );
            self.position = low;
        }
        self.fetched.restart(self.position);
        Ok(Lost::Found)
    }

    fn unlike(&self, found: String) -> SourceError {
        SourceError::Unlike {
            id: self.id.source.clone(),
            partition: self.id.name.clone(),
            found,
            read: format!("up to {} of {}", self.position, self.identity),
        }
    }
}

impl Partition for KafkaPartition {
    fn id(&self) -> &PartitionId {
        &self.id
    }

    fn poll(&mut self, budget: usize) -> Result<Polled<'_>, SourceError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.bounded && self.position >= self.place.end {
            self.batch.clear();
            return Ok(Polled::End);
        }
        match self.find() {
            Ok(Lost::Found) => {}
            Ok(Lost::Unknown) => return Ok(Polled::Idle),
            Err(error) => {
                self.failed = Some(error.clone());
                return Err(error);
            }
        }
        match self.take(budget) {
            0 => Ok(Polled::Idle),
            upto => Ok(Polled::Records(Records::messages(&self.batch, upto, self.message_bytes))),
        }
    }

    fn position(&self) -> u64 {
        // An offset is never negative.
        self.position as u64
    }

    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn progress(&self) -> (u64, u64) {
        ((self.position - self.start).max(0) as u64, (self.place.end - self.start).max(0) as u64)
    }

    fn lag(&self) -> Option<u64> {
        self.fetched.end().map(|end| (end - self.position).max(0) as u64)
    }

    fn caught_up(&self) -> bool {
        self.position >= self.place.end
    }

    fn since(&self) -> ReadFrom {
        self.place.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_partitions_sort_by_topic_and_number() {
        let mut names: Vec<String> = [("b", 0), ("a-b", 0), ("a.b", 1), ("a", 10), ("a", 9), ("a_b", 2), ("aB", 3)]
            .iter()
            .map(|(topic, number)| partition_name(topic, *number))
            .collect();
        names.sort();
        let mut parsed: Vec<_> = names.iter().map(|name| parse_partition(name).unwrap()).collect();
        assert_eq!(parsed.len(), 7);
        let sorted = parsed.clone();
        parsed.sort();
        assert_eq!(parsed, sorted);
    }

    #[test]
    fn names_of_partitions_are_read_with_and_without_zeros() {
        assert_eq!(parse_partition("web-events,00007"), Some(("web-events", 7)));
        assert_eq!(parse_partition("web-events,7"), Some(("web-events", 7)));
        for wrong in ["web-events", "web-events,", ",7", "web,+7", "web,x", "web,99999999999"] {
            assert_eq!(parse_partition(wrong), None, "{wrong}");
        }
    }
}
