//! A shard as bytes: per model of the manifest, the keys.
//!
//! The worker writes them straight from where they are kept. To hand copies of keys to a thread would be millions of small
//! allocations of one thread that another one frees, and whatever the worker allocates from then on pays for that.

use crate::keys::state::{KeyState, KeyView};

/// Writes a shard, model by model and key by key.
pub(crate) struct Encoder {
    bytes: Vec<u8>,
    /// Where the number of keys of the model stands, and the number.
    model: (usize, u64),
    keys: u64,
}

impl Encoder {
    /// Of so many models.
    pub(crate) fn new(models: usize) -> Encoder {
        Encoder { bytes: (models as u64).to_le_bytes().to_vec(), model: (0, 0), keys: 0 }
    }

    /// Begins the next model.
    pub(crate) fn model(&mut self) {
        self.model = (self.bytes.len(), 0);
        self.bytes.extend([0; 8]);
    }

    /// A key of the model.
    pub(crate) fn key(&mut self, key: &KeyView<'_>) {
        bincode::serialize_into(&mut self.bytes, key).expect("keys are plain data");
        let (at, keys) = &mut self.model;
        *keys += 1;
        self.bytes[*at..*at + 8].copy_from_slice(&keys.to_le_bytes());
        self.keys += 1;
    }

    /// The bytes, if there are any keys.
    pub(crate) fn end(self) -> Option<Vec<u8>> {
        (self.keys > 0).then_some(self.bytes)
    }
}

/// The keys in a shard's bytes, per model.
pub(crate) fn decode_shard(bytes: &[u8]) -> Result<Vec<Vec<KeyState>>, String> {
    bincode::deserialize(bytes).map_err(|error| error.to_string())
}
