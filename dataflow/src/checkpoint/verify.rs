//! Verifies the state of a stopped job: reads all of its latest checkpoint, as a start would, and returns what it holds.

use super::manifest::{ClaimError, Manifest};
use super::part::read_part;
use crate::time::Time;
use std::collections::{BTreeMap, HashSet};
use usher_core::sink::LedgerPosition;
use usher_core::store::Store;

/// What the latest checkpoint of a job holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateContent {
    /// The number of its manifest.
    pub number: u64,
    /// The job's name.
    pub job: String,
    /// The clock, ms since the epoch; 0 if no checkpoint was made yet.
    pub clock: Time,
    /// How many parts there are, and their bytes.
    pub parts: usize,
    /// The bytes of all parts together.
    pub bytes: u64,
    /// The models.
    pub models: Vec<ModelContent>,
    /// Where reading resumes.
    pub partitions: Vec<PartitionContent>,
    /// The ids of the audiences.
    pub audiences: Vec<String>,
    /// By sync, the position of its ledger.
    pub ledgers: BTreeMap<String, LedgerPosition>,
}

/// What a checkpoint holds of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelContent {
    /// The model's id.
    pub id: String,
    /// Keys with state.
    pub keys: u64,
    /// When the pull in force began, ms since the epoch, and how many rows it read.
    pub pull: Option<(Time, u64)>,
}

/// Where reading a partition resumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionContent {
    /// The source's id.
    pub source: String,
    /// The partition's name.
    pub name: String,
    /// The first position that is not in the state.
    pub position: u64,
}

/// Reads the latest manifest of a store and all parts that it names. None if the store holds no state.
///
/// # Errors
/// Something can't be read, is damaged, or is of another version.
pub fn verify(store: &dyn Store) -> Result<Option<StateContent>, ClaimError> {
    let Some((number, bytes)) = store.latest()? else { return Ok(None) };
    let manifest = Manifest::decode(&bytes)?;
    let mut keys = vec![0; manifest.models.len()];
    // Per model, the keys that newer parts have, or have forgotten.
    let mut newer: Vec<HashSet<String>> = vec![HashSet::new(); manifest.models.len()];
    for part in manifest.changed.iter().rev() {
        for ((count, newer), of) in keys.iter_mut().zip(&mut newer).zip(read_part(store, part)?) {
            for state in of.keys {
                *count += u64::from(newer.insert(state.key));
            }
            newer.extend(of.forgotten);
        }
    }
    for part in &manifest.parts {
        for ((count, newer), of) in keys.iter_mut().zip(&newer).zip(read_part(store, part)?) {
            *count += of.keys.iter().filter(|state| !newer.contains(&state.key)).count() as u64;
        }
    }
    let (parts, bytes) = (manifest.all_parts().count(), manifest.all_parts().map(|part| part.bytes).sum());
    let models = manifest.models.into_iter().zip(keys).map(|(model, keys)| ModelContent {
        id: model.id,
        keys,
        pull: model.pull.map(|pull| (pull.began, pull.rows)),
    });
    let partitions = manifest.progress.into_iter().map(|partition| PartitionContent {
        source: partition.id.source,
        name: partition.id.name,
        position: partition.resume.position,
    });
    Ok(Some(StateContent {
        number,
        job: manifest.job,
        clock: manifest.clock,
        parts,
        bytes,
        models: models.collect(),
        partitions: partitions.collect(),
        audiences: manifest.audiences.into_iter().map(|(id, _)| id).collect(),
        ledgers: manifest.ledgers.into_iter().collect(),
    }))
}
