//! Topics as a source: each partition of a topic is a partition of the source.
//!
//! A source has no group: nothing is committed to the brokers, positions are kept in the job's state. Each partition is fetched into a queue of its
//! own, which its worker empties in batches and never waits for. The offsets where reading starts, and where a bounded reading ends, are requested
//! from the brokers once, when the source is opened. A thread looks for new partitions every [`LOOK`], and for the offsets of partitions whose position
//! was deleted.
//!
//! A client has one request for messages underway at each broker. The request names no partition whose queue is full, and its answer is delayed while those
//! that it names have no new messages. So partitions at their ends hold up one that is behind: it comes no further than its queue holds, 8 MB, in each
//! [`FETCH_WAIT`]. Therefore partitions that are behind when the source is opened are read by a client of their own, which has the shorter [`CATCH_UP_WAIT`], and each
//! moves to the client of all others once it has caught up. A partition that is read to a bound is not fetched beyond it.
//!
//! Where messages name their schemas, a message is handed out once its schema is known, or that it has none. Until then its partition
//! has nothing, and stays where it is.

mod partition;

use self::partition::{KafkaPartition, PartitionSetup};
use super::Variable;
use super::client::{Context, PATIENCE, Reader, all_ends, ends, offsets_at, retry, settings};
use super::error::Problem;
use super::ffi::{self, TopicDescription};
use super::looks::{ANSWER, Looks};
use super::topics;
use crate::registry::Registry;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::Offset;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use usher_config::{Kafka, Start};
use usher_core::lock::lock;
use usher_core::schemas::Schemas;
use usher_core::source::{Partition, PartitionId, ReadFrom, Resume, Source, SourceError};

/// How often new partitions are looked for: a message of a new one is this late at most.
const LOOK: Duration = Duration::from_secs(5);

/// How long a broker without new messages delays its answer, ms, …
const FETCH_WAIT: usize = 50;
/// … and to the client of partitions that are behind or are read to a bound, …
const CATCH_UP_WAIT: usize = 2;
/// … for so many partitions, and longer for more: each such answer, and each request, names all of them, …
const FETCH_WAIT_PARTITIONS: usize = 20;
/// … and at most. A message ends the wait at once; only partitions whose queues were full at the request wait for it.
const FETCH_WAIT_MAX: usize = 1_000;
/// A partition is behind if it has so many messages to catch up on, or more.
const BEHIND_MIN: i64 = 10_000;
/// How long the client of partitions that are behind is kept after a partition was opened, though none has it: a worker opens its partitions once it has restored its keys.
const CATCH_UP_KEPT: Duration = Duration::from_secs(60);

/// Settings of fetching; a job may change them.
const DEFAULTS: [(&str, &str); 3] = [
    // While a queue is full the fetcher sleeps for so long, 1,000 by default, in which the queue could be emptied many times.
    ("fetch.queue.backoff.ms", "2"),
    // Per partition: a fetch (1 MiB, compressed) fits in unpacked. More is no faster.
    ("queued.max.messages.kbytes", "8192"),
    // After an error, 500 by default.
    ("fetch.error.backoff.ms", "100"),
];

const FIXED: [(&str, &str); 4] = [
    // Messages of transactions that were rolled back are skipped.
    ("isolation.level", "read_committed"),
    // The marker that ends a transaction has an offset too, so the end can't be computed from the last message.
    ("enable.partition.eof", "true"),
    // A position that was deleted is reported, not skipped.
    ("auto.offset.reset", "error"),
    ("enable.auto.commit", "false"),
];

/// Returns a partition's name: `topic,00042`.
///
/// The byte order of names is the order of (topic, number), for numbers below 100,000: no character of a topic's name sorts
/// before the comma.
pub fn partition_name(topic: &str, number: i32) -> String {
    format!("{topic},{number:05}")
}

/// Returns the topic and the number of a partition's name, with or without leading zeros. None if it is no such name.
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
    /// The topics; at least one.
    pub topics: &'a [String],
    /// Where partitions start that have no position in the state. In a bounded reading `Window` is `Earliest`.
    pub start: Start,
    /// The longest window, ms: messages count from so long before now, or before [`Bounds::from`].
    pub window_ms: u64,
    /// The longest message, bytes.
    pub message_bytes: usize,
    /// The time, ms since the epoch.
    pub now: u64,
    /// Reads the messages that exist and ends. None: reads without end.
    pub bounds: Option<Bounds>,
    /// The schemas that messages name. None: they name none.
    pub schemas: Option<Arc<Registry>>,
}

/// The bounds of a reading that ends where the topics end when the source is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The broker's time, ms since the epoch, from which messages are read, less the longest window. None: by
    /// [`SourceSpec::start`].
    pub from: Option<u64>,
}

/// Topics as a source.
pub struct KafkaSource {
    id: String,
    /// The client of partitions that are read to a bound; else of those that are not, or no longer, behind.
    pub(super) reader: Arc<Reader>,
    watch: Arc<Watch>,
    bounds: BTreeMap<PartitionId, PartitionBounds>,
    bounded: bool,
    message_bytes: usize,
    schemas: Option<Arc<Registry>>,
}

/// The offsets of a partition when the source was opened.
#[derive(Clone, Debug)]
struct PartitionBounds {
    /// Index in [`Watch::topics`].
    topic: usize,
    number: i32,
    /// The first offset.
    low: i64,
    end: i64,
    /// Where reading starts.
    start: i64,
    since: ReadFrom,
    /// Why it starts there, for the log.
    why: &'static str,
}

/// What the source's thread observes.
struct Watch {
    topics: Vec<String>,
    /// The topics when the source was opened.
    first: Vec<TopicDescription>,
    state: Mutex<Watched>,
    /// Whether a topic was replaced or a position was deleted: partitions look at the state.
    noticed: AtomicBool,
    catch_up: Mutex<CatchUp>,
}

/// The client of partitions that are behind.
#[derive(Default)]
struct CatchUp {
    /// None where partitions are read to a bound, and once it has ended.
    reader: Option<Arc<Reader>>,
    /// When a partition was last opened, with this client or the other.
    opened: Option<Instant>,
}

impl CatchUp {
    /// Takes the client out, if no partition has it or will.
    fn take_unused(&mut self, now: Instant) -> Option<Arc<Reader>> {
        let is_over = self.opened.is_some_and(|opened| now.duration_since(opened) > CATCH_UP_KEPT);
        self.reader.take_if(|reader| is_over && Arc::strong_count(reader) == 1)
    }
}

struct Watched {
    looks: Looks,
    /// By topic, the number of partitions.
    partitions: Vec<i32>,
    /// By topic, whether it was replaced by another topic of the same name.
    replaced: Vec<bool>,
    /// Partitions, by topic and number, whose position was deleted, with their current first offset and end once the brokers
    /// have answered.
    lost: HashMap<(usize, i32), Option<(i64, i64)>>,
}

impl KafkaSource {
    /// Connects, and requests the first offset and the end of each partition.
    ///
    /// Waits at most 30 s for brokers that do not answer. A missing topic, and brokers that refuse, are errors at once.
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
        let (bounded, names) = (spec.bounds.is_some(), spec.topics.iter().map(String::as_str).collect::<Vec<_>>());
        let config = |wait: usize| {
            let wait = wait.to_string();
            settings(spec.kafka, &[&DEFAULTS[..], &[("fetch.wait.max.ms", &wait)]].concat(), &FIXED, variable)
        };
        let context = Context::new(format!("source {}", spec.id), &spec.kafka.brokers);
        // The client's thread starts before the topics are known.
        let watched: Arc<Mutex<Option<Arc<Watch>>>> = Arc::default();
        let start = |wait: usize| {
            let watched = Arc::clone(&watched);
            let look = move |base: &_| {
                let watch = lock(&watched).clone();
                if let Some(watch) = watch {
                    watch.look(base);
                }
            };
            Ok::<_, Problem>(Arc::new(Reader::start(&config(wait)?, context.for_another_client(), look)?))
        };
        let mut first_reader = start(CATCH_UP_WAIT)?;
        let first = topics::describe(first_reader.base().client(), &context, &names, patience)?;
        let partitions = first.iter().map(|topic| usize::try_from(topic.partitions).unwrap_or(0)).sum();
        if fetch_wait(CATCH_UP_WAIT, partitions) != CATCH_UP_WAIT {
            first_reader = start(fetch_wait(CATCH_UP_WAIT, partitions))?;
        }
        let base = first_reader.base();
        let all = (0..).zip(&first).flat_map(|(topic, of)| (0..of.partitions).map(move |number| (topic, number)));
        let ends = retry(&context, patience, || all_ends(base, &names, all.clone()))?;
        let mut bounds = BTreeMap::new();
        for ((topic, number), (low, end)) in ends {
            let id = PartitionId { source: spec.id.to_owned(), name: partition_name(names[topic], number) };
            let (since, why) = (oldest(low), "the earliest");
            bounds.insert(id, PartitionBounds { topic, number, low, end, start: low, since, why });
        }
        let time = match (spec.bounds, spec.start) {
            (Some(Bounds { from: Some(from) }), _) => Some((from.saturating_sub(spec.window_ms), "what --from needs")),
            (_, Start::Time(time)) => Some((time, "`start`, a time")),
            (None, Start::Window) => Some((spec.now.saturating_sub(spec.window_ms), "what fills the longest window")),
            (Some(_), Start::Window) | (_, Start::Earliest) => None,
            (_, Start::Latest) => {
                bounds.values_mut().for_each(|bounds: &mut PartitionBounds| {
                    (bounds.start, bounds.since, bounds.why) = (bounds.end, ReadFrom::Time(spec.now), "the latest");
                });
                None
            }
        };
        if let Some((time, why)) = time {
            retry(&context, patience, || at_time(base, &names, &mut bounds, time))?;
            for bounds in bounds.values_mut() {
                // If already the first message is of that time or later, earlier ones of that time may have been deleted.
                bounds.since = if bounds.start > bounds.low { ReadFrom::Time(time) } else { oldest(bounds.low) };
                bounds.why = why;
            }
        }
        let watch = Arc::new(Watch {
            state: Mutex::new(Watched {
                looks: Looks::new(LOOK, Instant::now()),
                partitions: first.iter().map(|described| described.partitions).collect(),
                replaced: vec![false; names.len()],
                lost: HashMap::new(),
            }),
            topics: spec.topics.to_vec(),
            first,
            noticed: AtomicBool::new(false),
            catch_up: Mutex::default(),
        });
        let reader = if bounded {
            *lock(&watched) = Some(Arc::clone(&watch));
            first_reader
        } else {
            lock(&watch.catch_up).reader = Some(first_reader);
            let (config, watch) = (config(fetch_wait(FETCH_WAIT, partitions))?, Arc::clone(&watch));
            Arc::new(Reader::start(&config, context.for_another_client(), move |base| watch.look(base))?)
        };
        Ok(KafkaSource {
            id: spec.id.to_owned(),
            reader,
            watch,
            bounds,
            bounded,
            message_bytes: spec.message_bytes,
            schemas: spec.schemas.clone(),
        })
    }
}

#[cfg(test)]
impl KafkaSource {
    /// Returns how many partitions are read by the client of those that are behind. None if there is no such client.
    pub(super) fn catching_up(&self) -> Option<usize> {
        lock(&self.watch.catch_up).reader.as_ref().map(|reader| Arc::strong_count(reader) - 1)
    }
}

/// Returns how long a broker delays its answer about so many partitions without new messages, ms. `least`: about [`FETCH_WAIT_PARTITIONS`] or fewer.
fn fetch_wait(least: usize, partitions: usize) -> usize {
    (least * partitions.div_ceil(FETCH_WAIT_PARTITIONS)).clamp(least, FETCH_WAIT_MAX)
}

/// Checks that the topics of the source `id` exist.
///
/// Waits at most 30 s for brokers that do not answer.
pub fn check_source(id: &str, kafka: &Kafka, topics: &[String], variable: Variable<'_>) -> Result<(), SourceError> {
    let check = || -> Result<(), Problem> {
        let config = settings(kafka, &DEFAULTS, &FIXED, variable)?;
        let reader = Reader::start(&config, Context::new(format!("source {id}"), &kafka.brokers), |_| ())?;
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        topics::describe(reader.base().client(), reader.context(), &names, PATIENCE).map(drop)
    };
    check().map_err(|Problem { reason, hint, .. }| SourceError::Kafka { id: id.to_owned(), reason, hint })
}

/// Returns from when on a partition is read that is read from its first message.
fn oldest(low: i64) -> ReadFrom {
    if low == 0 { ReadFrom::Ever } else { ReadFrom::Oldest }
}

/// Sets the starts to the first message of `time` or later; without such a message, to the end.
fn at_time(
    base: &BaseConsumer<Context>,
    topics: &[&str],
    bounds: &mut BTreeMap<PartitionId, PartitionBounds>,
    time: u64,
) -> Result<(), Problem> {
    let time = i64::try_from(time).unwrap_or(i64::MAX);
    let partitions = bounds.values().map(|of| (of.topic, of.number));
    let found = offsets_at(base, topics, partitions, Offset::Offset(time))?;
    for of in bounds.values_mut() {
        of.start = match found[&(of.topic, of.number)] {
            -1 => of.end,
            offset => offset.clamp(of.low, of.end),
        };
    }
    Ok(())
}

impl Source for KafkaSource {
    fn schemas(&self) -> Option<Arc<dyn Schemas>> {
        self.schemas.clone().map(|schemas| schemas as Arc<dyn Schemas>)
    }

    fn partitions(&self) -> Vec<PartitionId> {
        self.bounds.keys().cloned().collect()
    }

    /// New partitions are read from their start.
    fn discover(&mut self) -> Result<Vec<PartitionId>, SourceError> {
        let partitions = self.watch.lock().partitions.clone();
        let mut new = Vec::new();
        for (topic, count) in partitions.into_iter().enumerate() {
            let name = &self.watch.topics[topic];
            for number in 0..count {
                let id = PartitionId { source: self.id.clone(), name: partition_name(name, number) };
                self.bounds.entry(id.clone()).or_insert_with(|| {
                    new.push(id);
                    let (since, why) = (ReadFrom::Ever, "a new partition");
                    PartitionBounds { topic, number, low: 0, end: 0, start: 0, since, why }
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
        let Some(bounds) = self.bounds.get(id) else {
            return Err(unlike("is not there".to_owned(), "it".to_owned()));
        };
        let topic = &self.watch.topics[bounds.topic];
        let identity = identity(topic, &self.watch.first[bounds.topic]);
        let (mut start, mut why, mut since) = (bounds.start, bounds.why, bounds.since);
        if let Some(resume) = from {
            let position = i64::try_from(resume.position).unwrap_or(i64::MAX);
            if resume.identity != identity {
                let found = format!("is of another topic of that name, `{identity}`, and ends at {}", bounds.end);
                return Err(unlike(found, format!("`{}` up to {position}", resume.identity)));
            }
            if position > bounds.end {
                return Err(unlike(format!("ends at {}", bounds.end), format!("up to {position}")));
            }
            (start, why, since) = (position, "the position of an earlier run", ReadFrom::Ever);
            if position < bounds.low {
                tracing::warn!(
                    source = %id.source, topic = %topic, partition = bounds.number,
                    read = position, first = bounds.low, lost = bounds.low - position,
                    "messages were deleted before they were read; continuing at the first one left"
                );
                (start, why, since) =
                    (bounds.low, "the earliest: the position of an earlier run was deleted", ReadFrom::Oldest);
            }
        }
        tracing::info!(source = %id.source, topic = %topic, partition = bounds.number, offset = start, why, "reading");
        let catch_up = {
            let mut catch_up = lock(&self.watch.catch_up);
            catch_up.opened = Some(Instant::now());
            catch_up.reader.clone()
        };
        let readers = match catch_up.filter(|_| bounds.end - start >= BEHIND_MIN) {
            Some(catch_up) => (catch_up, Some(Arc::clone(&self.reader))),
            None => (Arc::clone(&self.reader), None),
        };
        Ok(Box::new(KafkaPartition::open(PartitionSetup {
            id: id.clone(),
            bounds: PartitionBounds { since, ..bounds.clone() },
            identity,
            start,
            bounded: self.bounded,
            message_bytes: self.message_bytes,
            readers,
            watch: Arc::clone(&self.watch),
            schemas: self.schemas.clone(),
        })))
    }
}

/// Returns what distinguishes a topic from another one of its name: the id. Brokers before Kafka 2.8 have none; then it is the
/// name, and a topic that was created again is only noticed if it ends before the position.
fn identity(name: &str, topic: &TopicDescription) -> String {
    match &topic.id {
        Some(id) => format!("topic {id}"),
        None => format!("topic named {name}"),
    }
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        lock(&self.state)
    }

    /// Looks at the topics if it is time to, and ends the client of partitions that are behind if there are none any more. Called on the client's thread.
    fn look(&self, base: &BaseConsumer<Context>) {
        let (due, lost) = {
            let state = self.lock();
            let lost: Vec<_> = state.lost.iter().filter(|(_, now)| now.is_none()).map(|(which, _)| *which).collect();
            (state.looks.due(Instant::now()) || !lost.is_empty(), lost)
        };
        if !due {
            return;
        }
        let unused = lock(&self.catch_up).take_unused(Instant::now());
        // It takes a while to end, and does so without the lock.
        drop(unused);
        let context = base.client().context();
        let names: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        let described = ffi::describe(base.client(), &names, ANSWER);
        self.lock().looks.looked(described.is_ok(), Instant::now());
        match described {
            Err(problem) => context.report(&problem.reason),
            Ok(found) => {
                if found.iter().all(Option::is_some) {
                    context.report_answer();
                }
                let mut state = self.lock();
                for (topic, found) in found.iter().enumerate() {
                    match found {
                        None => context.report(&format!("topic `{}` was deleted", names[topic])),
                        Some(found) if found.id != self.first[topic].id => {
                            state.replaced[topic] = true;
                            self.noticed.store(true, Ordering::Release);
                        }
                        Some(found) => state.partitions[topic] = found.partitions.max(state.partitions[topic]),
                    }
                }
            }
        }
        for (topic, number) in lost {
            match ends(base, names[topic], number) {
                Ok(now) => drop(self.lock().lost.insert((topic, number), Some(now))),
                Err(problem) => context.report(&problem.reason),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::config::ClientConfig;

    #[test]
    fn empty_fetches_wait_longer_the_more_partitions_they_name() {
        let waits = |wait| [0, 1, 20, 21, 100, 400, 2_000].map(|partitions| fetch_wait(wait, partitions));
        assert_eq!(waits(FETCH_WAIT), [50, 50, 50, 100, 250, 1_000, 1_000]);
        assert_eq!(waits(CATCH_UP_WAIT), [2, 2, 2, 4, 10, 40, 200]);
    }

    #[test]
    fn the_client_of_partitions_that_are_behind_ends_a_minute_after_the_last_opening_if_none_has_it() {
        let reader =
            Reader::start(&ClientConfig::new(), Context::new("source web".to_owned(), ""), |_| ()).ok().unwrap();
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut catch_up = CatchUp { reader: Some(Arc::new(reader)), opened: None };
        assert!(catch_up.take_unused(start + 3600 * second).is_none(), "a partition may still be opened");
        catch_up.opened = Some(start);
        assert!(catch_up.take_unused(start + 60 * second).is_none(), "another one may be");
        let partition = catch_up.reader.clone();
        assert!(catch_up.take_unused(start + 61 * second).is_none(), "a partition has it");
        drop(partition);
        assert!(catch_up.take_unused(start + 61 * second).is_some() && catch_up.reader.is_none());
    }

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
