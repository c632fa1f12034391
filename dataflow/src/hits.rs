//! Hits: what the edge found in messages, on its way to the workers that own the keys.
//!
//! A hit is an event of a key that passed the filter of at least one condition. Hits travel in batches, one per
//! partition and destination, with their keys in one buffer: a record of timely's is a batch, so that an event costs no
//! allocation and no call on its way.

use crate::time::Time;
use serde::{Deserialize, Serialize};
use usher_core::source::PartitionId;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// An event of a key, with the conditions that it counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Hit {
    /// When it takes effect; not before `timestamp`.
    pub(crate) at: Time,
    pub(crate) timestamp: Time,
    pub(crate) position: u64,
    /// Hash of the message id.
    pub(crate) id: u64,
    /// [`hash_key`] of the key.
    pub(crate) key_hash: u64,
    /// Which of 64 facts of the event, from `64 * block` on, it counts for.
    pub(crate) facts: u64,
    key_start: u32,
    key_len: u16,
    /// Index in `Plan::events`.
    pub(crate) event: u16,
    pub(crate) block: u16,
}

/// A message as an event of a key, before it is known where the key is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) at: Time,
    pub(crate) timestamp: Time,
    pub(crate) position: u64,
    pub(crate) id: u64,
    pub(crate) key_hash: u64,
    pub(crate) event: u16,
}

/// Hits of one partition for one worker, in the partition's order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Hits {
    /// The worker they go to.
    pub(crate) worker: u32,
    /// The partition's rank in SPEC §2.4's order of arrival.
    pub(crate) partition: u32,
    pub(crate) hits: Vec<Hit>,
    keys: String,
}

impl Hits {
    pub(crate) fn new(worker: u32, partition: u32) -> Hits {
        Hits { worker, partition, ..Hits::default() }
    }

    /// Adds an event of a key; the blocks of 64 facts that it counts for become hits.
    pub(crate) fn push(&mut self, event: &Event, key: &str, facts: &[u64]) {
        let Event { at, timestamp, position, id, key_hash, event } = *event;
        let key_start = u32::try_from(self.keys.len()).expect("the keys of one batch stay under 4 GiB");
        let key_len = u16::try_from(key.len()).expect("keys are at most 1,024 bytes");
        self.keys.push_str(key);
        for (block, facts) in facts.iter().enumerate().filter(|(_, facts)| **facts != 0) {
            let (facts, block) = (*facts, block as u16);
            self.hits.push(Hit { at, timestamp, position, id, key_hash, facts, key_start, key_len, event, block });
        }
    }

    pub(crate) fn key(&self, hit: &Hit) -> &str {
        &self.keys[hit.key_start as usize..][..usize::from(hit.key_len)]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.hits.is_empty()
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.hits.len() * size_of::<Hit>() + self.keys.len()
    }
}

/// The hash that decides a key's worker, and later its shard of durable state: it never changes.
pub(crate) fn hash_key(key: &str) -> u64 {
    xxh3_64(key.as_bytes())
}

/// The worker that owns a key. Takes the high half: the low bits find the key in its worker's table.
pub(crate) fn owner(key_hash: u64, peers: u32) -> u32 {
    (((key_hash >> 32) * u64::from(peers)) >> 32) as u32
}

/// The identity of a message by its id.
pub(crate) fn hash_id(id: &str) -> u64 {
    xxh3_64(id.as_bytes())
}

/// The identity of a message without an id: where it stands. It never changes: durable state knows events by it.
pub(crate) fn hash_position(partition: u64, position: u64) -> u64 {
    xxh3_64_with_seed(&position.to_le_bytes(), partition)
}

/// A partition, as [`hash_position`] takes it.
pub(crate) fn hash_partition(id: &PartitionId) -> u64 {
    xxh3_64_with_seed(id.name.as_bytes(), xxh3_64(id.source.as_bytes()))
}
