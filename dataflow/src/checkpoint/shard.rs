//! A shard as bytes: per model of the manifest, the keys.

use crate::keys::state::KeyState;

/// The bytes of a shard's keys, per model.
pub(crate) fn encode_shard(models: &[Vec<KeyState>]) -> Vec<u8> {
    bincode::serialize(models).expect("keys are plain data")
}

/// The keys in a shard's bytes, per model.
pub(crate) fn decode_shard(bytes: &[u8]) -> Result<Vec<Vec<KeyState>>, String> {
    bincode::deserialize(bytes).map_err(|error| error.to_string())
}
