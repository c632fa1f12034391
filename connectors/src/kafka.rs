//! Kafka, in and out: topics as sources, as destinations of changes, and for dead letters.
//!
//! The only module that names `rdkafka`. Promises: a source's messages each have their topic, partition and offset as
//! position, and those of transactions that were rolled back are never seen; a sync's changes and what it was told are one
//! transaction, so that readers of what is committed see each change once, whatever ends the process, and an older process
//! of the same sync can write nothing more; what the brokers do not take now is kept and tried again, visibly. Refuses:
//! settings that would break this, topics that are not there, state of another topic of the same name.
//!
//! ```text
//! client   settings, complaints, waiting for a cluster       native   the C interface, the only unsafe code
//! source   topics → partitions of messages                    told     what a sync was told, as records of a topic
//! sink     changes → transactions                             letters  dead letters → a topic
//! ```

mod client;
mod dead_letters;
mod ffi;
mod ledger;
mod sink;
mod source;

pub(crate) use dead_letters::Letters;
pub use dead_letters::check_letters;
pub use sink::{SyncSpec, check_sync, open_sync};
pub use source::{Bounds, KafkaSource, SourceSpec, parse_partition, partition_name};

/// What `${VAR}` of secret settings stand for; none: not set.
pub type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

#[cfg(test)]
mod tests;
