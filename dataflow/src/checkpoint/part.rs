//! Reading a part of a checkpoint: the keys of one shard.
//!
//! Promises: what is returned is what the manifest names. Refuses, as damaged: content with another checksum, whole as it may
//! be in itself, and keys of another shard.

use crate::control::message::StoredPart;
use crate::ingest::event_batch::hash_key;
use crate::state::codec::KeyState;
use crate::state::epoch::shard_of;
use crate::state::shard::decode_shard;
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
pub(crate) fn read_part(store: &dyn Store, part: &StoredPart) -> Result<Vec<Vec<KeyState>>, StoreError> {
    let content = store.get_part(&part.name)?;
    let damaged = |reason: String| StoreError::Damaged {
        url: "the store".to_owned(),
        name: format!("parts/{}", part.name),
        reason,
    };
    if part.sum.is_some_and(|wanted| wanted != sum(&content)) {
        return Err(damaged("it is another part than the manifest names".to_owned()));
    }
    let shard = decode_shard(&content).map_err(damaged)?;
    let misplaced = shard.iter().flatten().find(|state| shard_of(hash_key(&state.key)) != part.shard as usize);
    match misplaced {
        Some(state) => Err(damaged(format!("it has the key `{}`, which is not of shard {}", state.key, part.shard))),
        None => Ok(shard),
    }
}
