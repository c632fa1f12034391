//! A shard as bytes: per model of the manifest, the keys.
//!
//! The worker encodes keys straight from its keyed state. Handing copies of keys to a thread would be millions of small
//! allocations that one thread makes and another one frees, which slows down every later allocation of the worker.

use crate::state::codec::{KeyState, KeyView};

/// Writes a shard, model by model and key by key.
pub(crate) struct Encoder {
    bytes: Vec<u8>,
    /// The offset of the model's number of keys, and the number.
    model: (usize, u64),
    keys: u64,
}

impl Encoder {
    /// Starts a shard of so many models.
    pub(crate) fn new(models: usize) -> Encoder {
        Encoder { bytes: (models as u64).to_le_bytes().to_vec(), model: (0, 0), keys: 0 }
    }

    /// Starts the next model.
    pub(crate) fn model(&mut self) {
        self.model = (self.bytes.len(), 0);
        self.bytes.extend([0; 8]);
    }

    /// Adds a key of the model.
    pub(crate) fn key(&mut self, key: &KeyView<'_>) {
        bincode::serialize_into(&mut self.bytes, key).expect("keys are plain data");
        let (at, keys) = &mut self.model;
        *keys += 1;
        self.bytes[*at..*at + 8].copy_from_slice(&keys.to_le_bytes());
        self.keys += 1;
    }

    /// Returns the bytes; `None` if there are no keys.
    pub(crate) fn end(self) -> Option<Vec<u8>> {
        (self.keys > 0).then_some(self.bytes)
    }
}

/// Returns the keys in a shard's bytes, per model, or the decoder's message.
pub(crate) fn decode_shard(bytes: &[u8]) -> Result<Vec<Vec<KeyState>>, String> {
    bincode::deserialize(bytes).map_err(|error| error.to_string())
}
