//! Kafka: topics as sources, as destinations of changes, and for dead letters.
//!
//! The only module that names `rdkafka`. Promises: the position of a message is its offset in its partition, and messages of
//! transactions that were rolled back are never read; a sync's messages and its ledger are committed in one transaction, so a
//! reader of committed messages sees each change once, however the process ends, and an older process of the same sync can
//! write nothing more; while the brokers are away requests are retried, and the log and the sync's status have the problem.
//! Refuses: settings that would break this, missing topics, and state of another topic of the same name.
//!
//! | module | is |
//! |---|---|
//! | `source` | topics as a source: their partitions are polled for messages |
//! | `sink` | a topic as a destination: batches of changes become transactions |
//! | `ledger` | the ledger of a sync, as records of a compacted topic |
//! | `sent` | without transactions: messages that were sent and are not in the ledger |
//! | `dead_letters` | a topic for dead letters |
//! | `client` | settings of clients, the problems that they report, retries |
//! | `topics` | topics by name, and suggestions for a name that is wrong |
//! | `error` | what error codes mean, whether to retry, and what to do |
//! | `ffi` | the part of librdkafka's C interface that `rdkafka` lacks: the only unsafe code |

mod client;
mod dead_letters;
mod error;
mod ffi;
mod ledger;
mod looks;
mod sent;
mod sink;
mod source;
mod topics;

pub use client::{WrongSetting, check_settings};
pub(crate) use dead_letters::DeadLetterTopic;
pub use dead_letters::check_dead_letters;
pub use sink::{KEEPER, NotedTopic, SyncSpec, check_sync, open_sync, read_ledger, resend_sync};
pub use source::{Bounds, KafkaSource, SourceSpec, check_source, parse_partition, partition_name};

/// Returns the value of a `${VAR}` of secret settings. None if it is not set.
pub type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Returns the version of librdkafka that is built in.
pub fn librdkafka_version() -> String {
    rdkafka::util::get_rdkafka_version().1
}

#[cfg(test)]
mod tests;
