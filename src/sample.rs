//! Reads the first messages of a file, a folder, a glob or a topic, without a job, and the rows of a table.

use crate::exit::Exit;
use crate::open::{WallClock, variable};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use usher_config::{Kafka, SourceFrom, Start};
use usher_connectors::file::open_files;
use usher_connectors::kafka::{Bounds, KafkaSource, SourceSpec};
use usher_core::clock::Clock;
use usher_core::source::{Body, Polled, Source};

/// The longest message, bytes.
const MESSAGE_BYTES: u64 = 1 << 20;
/// Bytes that a partition reads at a time.
const BUDGET: usize = 1 << 20;
/// How long a topic may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Returns where a source that is no id of a job reads: `kafka://BROKERS/TOPIC`, else files.
pub fn source_of(text: &str) -> Result<SourceFrom, Exit> {
    let Some(rest) = text.strip_prefix("kafka://") else {
        return Ok(SourceFrom::File { path: text.to_owned(), follow: false });
    };
    match rest.split_once('/') {
        Some((brokers, topic)) if !brokers.is_empty() && !topic.is_empty() && !topic.contains('/') => {
            let kafka = Kafka { brokers: brokers.to_owned(), properties: BTreeMap::new() };
            Ok(SourceFrom::Kafka { kafka, topics: vec![topic.to_owned()] })
        }
        _ => Err(Exit::wrong(format_args!("`{text}` names no topic"))
            .hint("write `kafka://HOST:PORT/TOPIC`; what needs more settings goes into a job file".to_owned())),
    }
}

/// Reads the first `most` messages with content; those of all partitions by turns. Paths are relative to `folder`.
pub fn read(id: &str, from: &SourceFrom, folder: &Path, most: usize) -> Result<Vec<Vec<u8>>, Exit> {
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
            };
            Box::new(KafkaSource::open(&spec, &variable)?)
        }
    };
    let mut partitions = Vec::new();
    for partition in source.partitions() {
        partitions.push(source.open(&partition, None)?);
    }
    let mut messages = Vec::new();
    let since = Instant::now();
    while !partitions.is_empty() && messages.len() < most {
        let (before, mut open) = (messages.len(), Vec::new());
        let share = (most / partitions.len()).max(1);
        for mut partition in partitions {
            let ended = match partition.poll(BUDGET)? {
                Polled::Records(records) => {
                    let bytes = records.filter_map(|record| match record.body {
                        Body::Bytes(bytes) => Some(bytes.to_vec()),
                        Body::Blank | Body::TooLarge { .. } => None,
                    });
                    messages.extend(bytes.take(share));
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
        if messages.len() == before && !partitions.is_empty() {
            if since.elapsed() > PATIENCE {
                let seconds = PATIENCE.as_secs();
                return Err(Exit::not_opened(format_args!("source `{id}` has sent nothing for {seconds} s")));
            }
            // The client fetches in the background.
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    messages.truncate(most);
    Ok(messages)
}
