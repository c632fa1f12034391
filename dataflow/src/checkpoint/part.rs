//! Reading a part of a checkpoint: keys of some shards.
//!
//! Promises: what is returned is what the manifest names. Refuses, as damaged: content with another checksum, whole as it may
//! be in itself, and keys of other shards.

use crate::control::message::StoredPart;
use crate::ingest::event_batch::hash_key;
use crate::state::listing::shard_of;
use crate::state::part::{ModelKeys, decode_part};
use usher_core::store::{Store, StoreError};
use xxhash_rust::xxh3::xxh3_64;

/// Returns the checksum of a part's content.
pub(super) fn sum(content: &[u8]) -> u64 {
    xxh3_64(content)
}

/// Returns the keys of a part, per model of the manifest.
///
/// # Errors
/// The part can't be read, or is not the one that the manifest names.
pub(crate) fn read_part(store: &dyn Store, part: &StoredPart) -> Result<Vec<ModelKeys>, StoreError> {
    let content = store.get_part(&part.name)?;
    let damaged = |reason: String| StoreError::Damaged {
        url: "the store".to_owned(),
        name: format!("parts/{}", part.name),
        reason,
    };
    if part.sum.is_some_and(|wanted| wanted != sum(&content)) {
        return Err(damaged("it is another part than the manifest names".to_owned()));
    }
    let models = decode_part(&content).map_err(damaged)?;
    let (first, last) = part.shards;
    let is_misplaced = |key: &&String| !(first..=last).contains(&(shard_of(hash_key(key)) as u32));
    if let Some(key) = models.iter().flat_map(ModelKeys::all).find(is_misplaced) {
        return Err(damaged(format!("it has the key `{key}`, which is not of shards {first} to {last}")));
    }
    Ok(models)
}
