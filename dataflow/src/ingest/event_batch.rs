//! Batches of matched events, on their way to the workers that own the keys.
//!
//! A matched event is an event of a key that passed the filter of at least one condition. Events travel in batches, one per
//! partition and destination, with their keys in one buffer. The dataflow's record is a batch, so that an event costs no
//! allocation and no call on its way. A [`MatchedEvent`] whose block is [`TRAITS`] or later sets live columns instead.
//!
//! The hashes of keys, ids and positions are here too: durable state refers to them, so they never change.

use crate::time::Time;
use serde::{Deserialize, Serialize};
use usher_core::source::PartitionId;
use usher_queries::StoredValue;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The first block of events that set live columns: their bits are the event's traits in the plan, from `64 * (block - TRAITS)` on.
pub(crate) const TRAITS: u16 = 1 << 15;

/// The bit of [`MatchedEvent::key_len`] that marks the one that stands for its message: a key is far shorter.
const FOR_MESSAGE: u16 = 1 << 15;

/// An event of a key, with the conditions that it counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct MatchedEvent {
    /// When it takes effect; not before `timestamp`.
    pub(crate) at: Time,
    pub(crate) timestamp: Time,
    /// Of the message in its partition, for the order of arrival: elements of one batch have several.
    pub(crate) position: u64,
    /// [`hash_id`] of the message id, or [`hash_position`].
    pub(crate) id: u64,
    /// [`hash_key`] of the key.
    pub(crate) key_hash: u64,
    /// The facts that it counts for: a bit for each of the event's 64 facts from `64 * block` on.
    pub(crate) facts: u64,
    key_start: u32,
    /// Where the values that it carries start.
    values_start: u32,
    /// Bytes of the key; and the bit [`FOR_MESSAGE`].
    key_len: u16,
    /// Index in `Plan::events`.
    pub(crate) event: u16,
    pub(crate) block: u16,
}

/// What all [`MatchedEvent`]s of one event have in common; fields as there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventHead {
    pub(crate) at: Time,
    pub(crate) timestamp: Time,
    pub(crate) position: u64,
    pub(crate) id: u64,
    pub(crate) key_hash: u64,
    pub(crate) event: u16,
}

/// Matched events of one partition for one worker, in the partition's order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct EventBatch {
    /// The worker that owns the keys.
    pub(crate) worker: u32,
    /// The partition's rank in the order of arrival (SPEC §2.4).
    pub(crate) partition: u32,
    pub(crate) events: Vec<MatchedEvent>,
    keys: String,
    /// Numbers in units of 10^-9 and hashes, for the aggregates of events.
    values: Vec<i128>,
    /// The values of live columns.
    traits: Vec<StoredValue>,
}

impl EventBatch {
    /// Returns an empty batch.
    pub(crate) fn new(worker: u32, partition: u32) -> EventBatch {
        EventBatch { worker, partition, ..EventBatch::default() }
    }

    /// Adds an event of a key: one [`MatchedEvent`] for each block of 64 `facts` that is not empty. `values` are those of
    /// the event in the plan; one that none of the facts takes may be anything.
    pub(crate) fn push(&mut self, event: &EventHead, key: &str, facts: &[u64], values: &[i128]) {
        let EventHead { at, timestamp, position, id, key_hash, event } = *event;
        let key_start = u32::try_from(self.keys.len()).expect("the keys of one batch stay under 4 GiB");
        let key_len = u16::try_from(key.len()).expect("keys are at most 1,024 bytes");
        self.keys.push_str(key);
        let values_start = u32::try_from(self.values.len()).expect("one batch has less than 2^32 values");
        self.values.extend_from_slice(values);
        for (block, facts) in facts.iter().enumerate().filter(|(_, facts)| **facts != 0) {
            let (facts, block) = (*facts, block as u16);
            self.events.push(MatchedEvent {
                at,
                timestamp,
                position,
                id,
                key_hash,
                facts,
                key_start,
                values_start,
                key_len,
                event,
                block,
            });
        }
    }

    /// Adds an event of a key that sets live columns: by its traits in the plan, in order, the values of those that it sets.
    pub(crate) fn push_traits(&mut self, event: &EventHead, key: &str, set: &mut [Option<StoredValue>]) {
        let EventHead { at, timestamp, position, id, key_hash, event } = *event;
        let key_start = u32::try_from(self.keys.len()).expect("the keys of one batch stay under 4 GiB");
        let key_len = u16::try_from(key.len()).expect("keys are at most 1,024 bytes");
        self.keys.push_str(key);
        for (block, set) in set.chunks_mut(64).enumerate() {
            let values_start = u32::try_from(self.traits.len()).expect("one batch has less than 2^32 values");
            let mut facts = 0;
            for (bit, value) in set.iter_mut().enumerate().filter_map(|(bit, value)| Some((bit, value.take()?))) {
                facts |= 1 << bit;
                self.traits.push(value);
            }
            if facts == 0 {
                continue;
            }
            let block = TRAITS + block as u16;
            self.events.push(MatchedEvent {
                at,
                timestamp,
                position,
                id,
                key_hash,
                facts,
                key_start,
                values_start,
                key_len,
                event,
                block,
            });
        }
    }

    /// Returns the live columns that one of its events sets, as traits of its event in the plan, with the values.
    pub(crate) fn traits(&self, event: &MatchedEvent) -> impl Iterator<Item = (usize, &StoredValue)> {
        let first = usize::from(event.block - TRAITS) * 64;
        let set = (0..64).filter(|bit| event.facts >> bit & 1 == 1).map(move |bit| first + bit);
        set.zip(&self.traits[event.values_start as usize..])
    }

    /// Returns the key of one of its events.
    pub(crate) fn key(&self, event: &MatchedEvent) -> &str {
        &self.keys[event.key_start as usize..][..usize::from(event.key_len & !FOR_MESSAGE)]
    }

    /// Returns the values from the first one that one of its events carries on: the event knows how many are its own.
    pub(crate) fn values(&self, event: &MatchedEvent) -> &[i128] {
        &self.values[event.values_start as usize..]
    }

    /// Has one of its events stand for its message.
    pub(crate) fn stand_for_message(&mut self, event: usize) {
        self.events[event].key_len |= FOR_MESSAGE;
    }

    /// Has no event take effect before a time.
    pub(crate) fn not_before(&mut self, time: Time) {
        self.events.iter_mut().for_each(|event| event.at = event.at.max(time));
    }

    /// Returns whether there are no events in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Returns about how many bytes it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.events.len() * size_of::<MatchedEvent>()
            + self.keys.len()
            + self.values.len() * size_of::<i128>()
            + self.traits.len() * size_of::<StoredValue>()
    }
}

impl MatchedEvent {
    /// Returns whether it sets live columns, and counts for no condition.
    pub(crate) fn sets_traits(&self) -> bool {
        self.block >= TRAITS
    }

    /// Returns whether its message is a repeat if it is one. Of all that a message is on all workers one stands for it.
    pub(crate) fn stands_for_message(&self) -> bool {
        self.key_len & FOR_MESSAGE != 0
    }
}

/// Returns the hash that decides a key's worker, and its shard of durable state. It never changes.
pub(crate) fn hash_key(key: &str) -> u64 {
    xxh3_64(key.as_bytes())
}

/// Returns the worker that owns a key. It is decided by the high half: the low bits find the key in its worker's table.
pub(crate) fn owner(key_hash: u64, peers: u32) -> u32 {
    (((key_hash >> 32) * u64::from(peers)) >> 32) as u32
}

/// Returns the identity of a message with an id.
pub(crate) fn hash_id(id: &str) -> u64 {
    xxh3_64(id.as_bytes())
}

/// Returns the identity of a message without an id, by its position. It never changes: durable state identifies events by it.
pub(crate) fn hash_position(partition: u64, position: u64) -> u64 {
    xxh3_64_with_seed(&position.to_le_bytes(), partition)
}

/// Returns the identity of an element of a batch, without an id, by the batch's position and its index. It never changes.
pub(crate) fn hash_element(partition: u64, position: u64, index: u32) -> u64 {
    let mut place = [0; 12];
    place[..8].copy_from_slice(&position.to_le_bytes());
    place[8..].copy_from_slice(&index.to_le_bytes());
    xxh3_64_with_seed(&place, partition)
}

/// Returns the hash of a partition for [`hash_position`].
pub(crate) fn hash_partition(id: &PartitionId) -> u64 {
    xxh3_64_with_seed(id.name.as_bytes(), xxh3_64(id.source.as_bytes()))
}
