//! Reads the first messages of a file, a folder, a glob or a topic: as they are, or of a job's source as JSON, out of their envelopes and their encoding.

use crate::exit::Exit;
use crate::open::{WallClock, variable};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use usher_config::{Encoding, Kafka, SourceFrom, Start};
use usher_connectors::file::open_files;
use usher_connectors::kafka::{Bounds, KafkaSource, SourceSpec};
use usher_connectors::registry::{Registry, RegistrySpec};
use usher_core::clock::Clock;
use usher_core::schemas::Schemas;
use usher_core::source::{Body, Headers, Partition, Polled, Source};
use usher_formats::{Decoder, Fields};

/// The longest message, bytes.
const MESSAGE_BYTES: u64 = 1 << 20;
/// Bytes that a partition reads at a time.
const BUDGET: usize = 1 << 20;
/// How long a topic may send nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// The first messages of a source.
#[derive(Debug, Default)]
pub struct Sample {
    pub messages: Vec<Vec<u8>>,
    /// Why some of them can't be taken out of what is around them, and how many for each reason.
    pub broken: BTreeMap<String, u64>,
}

/// Returns the messages in a record with these headers.
type MessagesOf<'f> = dyn Fn(&[u8], Option<&dyn Headers>) -> Vec<Vec<u8>> + 'f;

/// Returns where a source that is no id of a job reads: `kafka://BROKERS/TOPIC`, else files.
pub fn source_of(text: &str) -> Result<SourceFrom, Exit> {
    let Some(rest) = text.strip_prefix("kafka://") else {
        return Ok(SourceFrom::File { path: text.to_owned(), follow: false });
    };
    match rest.split_once('/') {
        Some((brokers, topic)) if !brokers.is_empty() && !topic.is_empty() && !topic.contains('/') => {
            let kafka = Kafka { brokers: brokers.to_owned(), ..Kafka::default() };
            Ok(SourceFrom::Kafka { kafka, topics: vec![topic.to_owned()] })
        }
        _ => Err(Exit::wrong(format_args!("`{text}` names no topic"))
            .hint("write `kafka://HOST:PORT/TOPIC`; what needs more settings goes into a job file".to_owned())),
    }
}

/// Reads the first `most` messages with content; those of all partitions by turns. Paths are relative to `folder`.
///
/// # Errors
/// The source can't be read, or is a topic that has sent nothing at all.
pub fn read(id: &str, from: &SourceFrom, folder: &Path, most: usize) -> Result<Vec<Vec<u8>>, Exit> {
    first_messages(id, partitions(id, from, folder, None)?, most, patience(from), &|record, _| vec![record.to_vec()])
}

/// Does what [`read`] does for a source of a job. Messages that come in envelopes or in an encoding are JSON, each as the job sees it; what can't be
/// read is the record as it is, or the element of a batch.
///
/// # Errors
/// As above, or the source's registry does not answer.
pub fn read_source(id: &str, source: &usher_config::Source, folder: &Path, most: usize) -> Result<Sample, Exit> {
    if source.unwrap.is_empty() && source.encoding == Encoding::Json {
        return Ok(Sample { messages: read(id, &source.from, folder, most)?, broken: BTreeMap::new() });
    }
    let registry = match &source.encoding {
        Encoding::Registered { registry, .. } => {
            Some(Registry::open(&RegistrySpec { id, registry, bounded: true, kept: None }, &variable)?)
        }
        Encoding::Json | Encoding::Avro(_) | Encoding::Protobuf { .. } => None,
    };
    let schemas = registry.clone().map(|registry| registry as Arc<dyn Schemas>);
    let decoder = Decoder::of(source, &[], schemas)
        .map_err(|reason| Exit::wrong(format_args!("the schema of source `{id}` can't be read: {reason}")))?;
    let partitions = partitions(id, &source.from, folder, registry)?;
    let broken = RefCell::default();
    let messages = first_messages(id, partitions, most, patience(&source.from), &|record, headers| {
        let messages = decoder.whole(record, headers);
        if messages.iter().any(Result::is_err) {
            add_reasons(&decoder, record, headers, &mut broken.borrow_mut());
        }
        let messages = messages.into_iter();
        messages.map(|message| message.map_or_else(<[u8]>::to_vec, |message| message.to_string().into())).collect()
    })?;
    Ok(Sample { messages, broken: broken.into_inner() })
}

/// Adds why messages in a record are malformed.
fn add_reasons(decoder: &Decoder, record: &[u8], headers: Option<&dyn Headers>, reasons: &mut BTreeMap<String, u64>) {
    let done: Result<(), Infallible> = decoder.unwrap(record, headers, &mut Fields::default(), &mut |unwrapped, _| {
        if let Err(malformed) = unwrapped.content {
            let reason = match unwrapped.element {
                Some(element) => format!("element {} of its batch: {malformed}", element.index),
                None => malformed.to_string(),
            };
            *reasons.entry(reason).or_default() += 1;
        }
        Ok(())
    });
    let Ok(()) = done;
}

/// Returns how long a source may send nothing. A pipe is waited for.
fn patience(from: &SourceFrom) -> Duration {
    match from {
        SourceFrom::File { .. } => Duration::MAX,
        SourceFrom::Kafka { .. } => PATIENCE,
    }
}

/// Opens all partitions of a source.
fn partitions(
    id: &str,
    from: &SourceFrom,
    folder: &Path,
    registry: Option<Arc<Registry>>,
) -> Result<Vec<Box<dyn Partition>>, Exit> {
    let mut source: Box<dyn Source> = match from {
        SourceFrom::File { path, .. } => Box::new(open_files(id, path, folder, false, MESSAGE_BYTES)?),
        SourceFrom::Kafka { kafka, topics } => {
            let spec = SourceSpec {
                id,
                kafka,
                topics,
                start: Start::Earliest,
                window_ms: 0,
                message_bytes: MESSAGE_BYTES as usize,
                now: WallClock.now(),
                bounds: Some(Bounds::default()),
                schemas: registry,
            };
            Box::new(KafkaSource::open(&spec, &variable)?)
        }
    };
    let mut partitions = Vec::new();
    for partition in source.partitions() {
        partitions.push(source.open(&partition, None)?);
    }
    Ok(partitions)
}

/// Reads the first `most` messages of partitions; `messages_of` returns those of a record. Ends early where no partition has sent anything for `patience`.
fn first_messages(
    id: &str,
    mut partitions: Vec<Box<dyn Partition>>,
    most: usize,
    patience: Duration,
    messages_of: &MessagesOf,
) -> Result<Vec<Vec<u8>>, Exit> {
    let mut messages: Vec<Vec<u8>> = Vec::new();
    let mut since = Instant::now();
    while !partitions.is_empty() && messages.len() < most {
        let (before, mut open) = (messages.len(), Vec::new());
        let share = (most / partitions.len()).max(1);
        for mut partition in partitions {
            let ended = match partition.poll(BUDGET)? {
                Polled::Records(records) => {
                    let of_records = records.flat_map(|record| match record.body {
                        Body::Bytes(bytes) => messages_of(bytes, record.headers),
                        Body::Blank | Body::TooLarge { .. } => Vec::new(),
                    });
                    messages.extend(of_records.take(share));
                    false
                }
                Polled::Idle => false,
                Polled::End => true,
            };
            if !ended {
                open.push(partition);
            }
        }
        partitions = open;
        if messages.len() > before {
            since = Instant::now();
        } else if !partitions.is_empty() {
            if since.elapsed() > patience {
                let seconds = patience.as_secs();
                if messages.is_empty() {
                    return Err(Exit::not_opened(format_args!("source `{id}` has sent nothing for {seconds} s"))
                        .hint("see that the topic's brokers answer".to_owned()));
                }
                tracing::warn!(source = id, messages = messages.len(), "nothing more was sent for {seconds} s");
                break;
            }
            // The client fetches in the background.
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    messages.truncate(most);
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use usher_core::source::{PartitionId, Records, SourceError};

    const PATIENCE: Duration = Duration::from_millis(400);

    /// A partition that sends a line at each of these polls, counted from 0, and nothing at the others.
    struct Slow {
        id: PartitionId,
        polls: usize,
        sends_at: Vec<usize>,
        pause: Duration,
    }

    impl Partition for Slow {
        fn id(&self) -> &PartitionId {
            &self.id
        }

        fn poll(&mut self, _budget: usize) -> Result<Polled<'_>, SourceError> {
            let poll = self.polls;
            self.polls += 1;
            if self.sends_at.contains(&poll) {
                return Ok(Polled::Records(Records::lines(b"{}\n", 0, 1024)));
            }
            std::thread::sleep(self.pause);
            Ok(Polled::Idle)
        }

        fn position(&self) -> u64 {
            0
        }

        fn identity(&self) -> String {
            "slow".to_owned()
        }

        fn progress(&self) -> (u64, u64) {
            (0, 0)
        }

        fn caught_up(&self) -> bool {
            false
        }
    }

    fn slow(sends_at: &[usize], pause: Duration) -> Vec<Box<dyn Partition>> {
        let id = PartitionId { source: "web".to_owned(), name: "topic,00000".to_owned() };
        vec![Box::new(Slow { id, polls: 0, sends_at: sends_at.to_vec(), pause })]
    }

    fn as_it_is(record: &[u8], _: Option<&dyn Headers>) -> Vec<Vec<u8>> {
        vec![record.to_vec()]
    }

    #[test]
    fn a_topic_that_is_slow_in_all_is_read_as_long_as_it_sends() {
        // Each idle poll takes most of the patience, all of them together far more.
        let pause = PATIENCE * 3 / 5;
        let messages = first_messages("web", slow(&[0, 2, 4, 6], pause), 4, PATIENCE, &as_it_is).expect("it sends");
        assert_eq!(messages.len(), 4);
    }

    #[test]
    fn what_a_topic_sent_before_it_fell_silent_is_used() {
        let messages =
            first_messages("web", slow(&[0], PATIENCE / 4), 4, PATIENCE, &as_it_is).expect("it has sent one");
        assert_eq!(messages, [b"{}"]);
        let silent =
            first_messages("web", slow(&[], PATIENCE / 4), 4, PATIENCE, &as_it_is).expect_err("it has sent nothing");
        assert_eq!(silent.in_one_line(), "source `web` has sent nothing for 0 s; see that the topic's brokers answer");
    }
}
