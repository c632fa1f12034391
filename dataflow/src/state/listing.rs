//! The keys of a worker as a checkpoint writes them: in the order of their shards, cut into parts of some thousand.
//!
//! A checkpoint writes all keys, or those that have changed since an earlier one. Promises: a key is in one part of a listing at most; what a part
//! takes of a worker's time does not grow with the number of keys. Refuses: to hold what is known of a key; that is encoded when the part is
//! written, as it is then.

use super::epoch::EpochWorker;
use super::keyed::KeyedState;
use super::part::Encoder;
use crate::time::Slot;
use std::ops::{Range, RangeInclusive};

/// Shards that keys are cut into: 256, by the first byte of the key's hash. It never changes.
pub(crate) const SHARDS: usize = 256;

/// Keys of a part, at most: some 7 ms of work.
const PART_KEYS: usize = 8_192;

/// Returns the shard of a key.
pub(crate) fn shard_of(key_hash: u64) -> usize {
    (key_hash >> 56) as usize
}

/// The keys of a model that are to be written.
struct ListedModel {
    /// In order of their shards.
    slots: Vec<Slot>,
    /// By shard, where it begins in `slots`; behind the last one, their number.
    starts: Vec<usize>,
    /// Keys that were forgotten, with their hashes, in order.
    gone: Vec<(u64, Box<str>)>,
}

impl ListedModel {
    fn new(slots: impl Iterator<Item = (Slot, u64)> + Clone, gone: Vec<(u64, Box<str>)>) -> ListedModel {
        let mut starts = vec![0; SHARDS + 1];
        slots.clone().for_each(|(_, hash)| starts[shard_of(hash) + 1] += 1);
        for shard in 0..SHARDS {
            starts[shard + 1] += starts[shard];
        }
        let mut next = starts.clone();
        let mut in_order = vec![0; starts[SHARDS]];
        for (slot, hash) in slots {
            let at = &mut next[shard_of(hash)];
            in_order[*at] = slot;
            *at += 1;
        }
        ListedModel { slots: in_order, starts, gone }
    }

    /// Returns where the keys of shards stand in `slots`, and in `gone`.
    fn ranges(&self, shards: &RangeInclusive<usize>) -> (Range<usize>, Range<usize>) {
        let gone = |shard: usize| self.gone.partition_point(|(hash, _)| shard_of(*hash) < shard);
        (self.starts[*shards.start()]..self.starts[shards.end() + 1], gone(*shards.start())..gone(shards.end() + 1))
    }
}

/// A part that is to be written.
struct ListedPart {
    shards: RangeInclusive<usize>,
    /// Which share of the shards' keys, and of how many.
    share: (usize, usize),
}

impl ListedPart {
    /// Returns this share of a range.
    fn of(&self, range: &Range<usize>) -> Range<usize> {
        let (share, shares) = self.share;
        let at = |share: usize| range.start + range.len() * share / shares;
        at(share)..at(share + 1)
    }
}

/// The keys of a worker that a checkpoint is to write.
pub(crate) struct Listing {
    models: Vec<ListedModel>,
    parts: Vec<ListedPart>,
    /// Whether they are those that have changed.
    changed: bool,
}

impl Listing {
    fn new(models: Vec<ListedModel>, changed: bool) -> Listing {
        let keys = |shards: &RangeInclusive<usize>| -> usize {
            let ranges = models.iter().map(|model| model.ranges(shards));
            ranges.map(|(slots, gone)| slots.len() + gone.len()).sum()
        };
        let mut parts = Vec::new();
        let mut first = 0;
        for shard in 0..SHARDS {
            let shards = first..=shard;
            let ends = shard + 1 == SHARDS || keys(&(first..=shard + 1)) > PART_KEYS;
            if !ends {
                continue;
            }
            let shares = keys(&shards).div_ceil(PART_KEYS);
            parts.extend((0..shares).map(|share| ListedPart { shards: shards.clone(), share: (share, shares) }));
            first = shard + 1;
        }
        Listing { models, parts, changed }
    }

    /// Returns how many parts there are.
    pub(crate) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Returns the shards of a part's keys.
    pub(crate) fn shards(&self, part: usize) -> RangeInclusive<usize> {
        self.parts[part].shards.clone()
    }
}

impl KeyedState {
    /// Lists all keys, and begins to note which change.
    fn list(&mut self) -> ListedModel {
        self.note_changes();
        ListedModel::new(self.keys().borrow().hashes(), Vec::new())
    }

    /// Lists the keys that have changed since the checkpoint `since`.
    fn list_changed(&mut self, since: u64, checkpoint: u64) -> ListedModel {
        let (slots, mut gone) = self.changed_since(since, checkpoint);
        let keys = self.keys().borrow();
        // Of a key that is here again, what is known of it is written.
        gone.retain(|(hash, key)| keys.find(*hash, key).is_none_or(|slot| slots.binary_search(&slot).is_err()));
        ListedModel::new(slots.iter().filter_map(|slot| Some((*slot, keys.hash_in_use(*slot)?))), gone)
    }
}

impl EpochWorker {
    /// Lists the keys that `checkpoint` is to write: those that have changed since the checkpoint `since`, or all.
    pub(crate) fn list(&mut self, checkpoint: u64, since: Option<u64>) -> Listing {
        let list = |model: &mut KeyedState| match since {
            Some(since) => model.list_changed(since, checkpoint),
            None => model.list(),
        };
        Listing::new(self.models_mut().iter_mut().map(list).collect(), since.is_some())
    }

    /// Returns what is known now of the keys that were listed in a part, encoded; `None` if nothing is.
    pub(crate) fn part(&self, listing: &Listing, part: usize) -> Option<Vec<u8>> {
        let part = &listing.parts[part];
        let mut encoder = Encoder::new(listing.models.len());
        for (index, listed) in listing.models.iter().enumerate() {
            let (slots, gone) = listed.ranges(&part.shards);
            let model = self.model(index);
            let keys = model.keys().borrow();
            let mut forgotten: Vec<&str> = listed.gone[part.of(&gone)].iter().map(|(_, key)| &**key).collect();
            encoder.model();
            for slot in &listed.slots[part.of(&slots)] {
                // A slot may have another key since, or none.
                if !keys.hash_in_use(*slot).is_some_and(|hash| part.shards.contains(&shard_of(hash))) {
                    continue;
                }
                match model.encoded(*slot, keys.key(*slot)) {
                    Some(key) => encoder.key(&key),
                    None if listing.changed => forgotten.push(keys.key(*slot)),
                    None => {}
                }
            }
            encoder.forgotten(&forgotten);
        }
        encoder.end()
    }
}

#[cfg(test)]
mod tests;
