//! The keys of a part as bytes: a version, then per model of the manifest the keys, and those that are forgotten.
//!
//! The worker encodes keys straight from its keyed state. Handing copies of keys to a thread would be millions of small
//! allocations that one thread makes and another one frees, which slows down every later allocation of the worker.

use crate::state::codec::{KeyState, KeyStateV1, KeyStateV2, KeyView};
use serde::Deserialize;

/// The first bytes of a part of the second version: no first version's number of models. What a key has more in a version than in the
/// one before stands behind the rest.
const VERSION_2: u64 = u64::from_le_bytes(*b"usher\0\0\x02");
const VERSION_3: u64 = u64::from_le_bytes(*b"usher\0\0\x03");
/// With keys that are forgotten.
const VERSION_4: u64 = u64::from_le_bytes(*b"usher\0\0\x04");

/// What a part has of a model.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(crate) struct ModelKeys {
    /// Keys with all that is known of them.
    pub(crate) keys: Vec<KeyState>,
    /// Keys of which nothing is known any more.
    pub(crate) forgotten: Vec<String>,
}

impl ModelKeys {
    /// Returns all keys that it names.
    pub(crate) fn all(&self) -> impl Iterator<Item = &String> {
        self.keys.iter().map(|state| &state.key).chain(&self.forgotten)
    }
}

/// Writes a part: per model first its keys, one by one, then those that are forgotten.
pub(crate) struct Encoder {
    bytes: Vec<u8>,
    /// The offset of the model's number of keys, and the number.
    model: (usize, u64),
    keys: u64,
}

impl Encoder {
    /// Starts a part of so many models.
    pub(crate) fn new(models: usize) -> Encoder {
        let bytes = [VERSION_4, models as u64].map(u64::to_le_bytes).concat();
        Encoder { bytes, model: (0, 0), keys: 0 }
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

    /// Ends the model with the keys that are forgotten.
    pub(crate) fn forgotten(&mut self, keys: &[&str]) {
        bincode::serialize_into(&mut self.bytes, keys).expect("keys are plain data");
        self.keys += keys.len() as u64;
    }

    /// Returns the bytes; `None` if there are no keys.
    pub(crate) fn end(self) -> Option<Vec<u8>> {
        (self.keys > 0).then_some(self.bytes)
    }
}

/// Returns the keys in a part's bytes, of this version or an earlier one, per model; or the decoder's message.
pub(crate) fn decode_part(bytes: &[u8]) -> Result<Vec<ModelKeys>, String> {
    fn keys<Key: Into<KeyState> + serde::de::DeserializeOwned>(bytes: &[u8]) -> bincode::Result<Vec<ModelKeys>> {
        let models: Vec<Vec<Key>> = bincode::deserialize(bytes)?;
        let keys =
            |keys: Vec<Key>| ModelKeys { keys: keys.into_iter().map(Key::into).collect(), forgotten: Vec::new() };
        Ok(models.into_iter().map(keys).collect())
    }
    let decoded = match bytes.split_first_chunk().map(|(version, rest)| (u64::from_le_bytes(*version), rest)) {
        Some((VERSION_4, rest)) => bincode::deserialize(rest),
        Some((VERSION_3, rest)) => keys::<KeyState>(rest),
        Some((VERSION_2, rest)) => keys::<KeyStateV2>(rest),
        _ => keys::<KeyStateV1>(bytes),
    };
    decoded.map_err(|error| error.to_string())
}
