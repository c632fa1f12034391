//! The manifest: what a checkpoint consists of.
//!
//! Encoded with bincode 1.3, in the frame of the store, which has version and checksum. Whoever changes a type that is
//! reachable from [`Manifest`] or from a shard's keys raises [`REVISION`] and keeps a fixture.

use crate::operators::read::Standpoint;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use usher_core::source::PartitionId;
use usher_core::store::{Store, StoreError};

/// The version of what manifests and shards hold.
pub(crate) const REVISION: u32 = 1;

/// How often it is tried to claim a state from somebody who goes on publishing.
const CLAIMS: u32 = 10;

/// What a checkpoint consists of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// [`REVISION`] of what wrote it.
    pub(crate) revision: u32,
    /// The job's name.
    pub(crate) job: String,
    /// Who wrote it: a random number of each start.
    pub(crate) incarnation: u64,
    /// Where the clock stood when partitions were marked.
    pub(crate) clock: Time,
    /// Partitions by the ranks by which shards name them, those that are gone too.
    pub(crate) partitions: Vec<(u32, PartitionId)>,
    /// Where to read on.
    pub(crate) standpoints: Vec<Standpoint>,
    /// What shards know of models, in the order in which they list them.
    pub(crate) models: Vec<ModelState>,
    /// Ids and fingerprints of the audiences that syncs were told of.
    pub(crate) audiences: Vec<(String, [u8; 16])>,
    /// Shard, name and bytes of the parts.
    pub(crate) parts: Vec<(u32, String, u64)>,
}

/// What shards know of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelState {
    /// Its id.
    pub(crate) id: String,
    /// The fingerprints of its facts, in order.
    pub(crate) facts: Vec<[u8; 16]>,
    /// The pull in force; none: there was none.
    pub(crate) pull: Option<PulledAt>,
}

/// A pull whose rows are in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PulledAt {
    /// Where from, as the job had it.
    pub(crate) parquet: String,
    /// The columns that messages may name, which it read.
    pub(crate) include: Vec<String>,
    /// When it began, ms since the epoch.
    pub(crate) began: Time,
    /// How long it took, ms.
    pub(crate) took: u64,
    /// How many rows it had.
    pub(crate) rows: u64,
}

/// Why bytes are no manifest that this version can go on from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It was written by another version.
    #[error("the state was written with revision `{found}` of its content, this version reads `{REVISION}`")]
    Revision {
        /// What wrote it.
        found: u32,
    },
    /// It is another job's.
    #[error("the state is of the job `{found}`, not of `{job}`")]
    Job {
        /// Whose it is.
        found: String,
        /// The job at hand.
        job: String,
    },
    /// It makes no sense.
    #[error("the state's manifest makes no sense: {reason}")]
    Damaged {
        /// The decoder's words.
        reason: String,
    },
}

/// Why a run can't go on from what is in a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// What is there is not what can be gone on from.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was published.
pub(crate) enum Published {
    This,
    /// One of this run under the same number, of which it was not known.
    Earlier,
}

impl ClaimError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            ClaimError::Manifest(error) => error.hint(),
            ClaimError::Store(error) => error.hint(),
        }
    }
}

impl ManifestError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            ManifestError::Revision { .. } => {
                "run the version that wrote it, or give the job another `state.url` to start anew: everybody is told again"
            }
            ManifestError::Job { .. } => "give each job a `state.url` of its own",
            ManifestError::Damaged { .. } => "restore the store from a backup, or give the job another `state.url`",
        }
    }
}

impl Manifest {
    /// What there is before anything was kept.
    fn first(job: &str) -> Manifest {
        Manifest {
            revision: REVISION,
            job: job.to_owned(),
            incarnation: 0,
            clock: 0,
            partitions: Vec::new(),
            standpoints: Vec::new(),
            models: Vec::new(),
            audiences: Vec::new(),
            parts: Vec::new(),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        bincode::serialize(self).expect("a manifest is plain data")
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        // The revision stands first, whatever follows.
        let revision = bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        match revision {
            Some(REVISION) => {
                bincode::deserialize(bytes).map_err(|error| ManifestError::Damaged { reason: error.to_string() })
            }
            Some(found) => Err(ManifestError::Revision { found }),
            None => Err(ManifestError::Damaged { reason: "it is empty".to_owned() }),
        }
    }
}

/// Claims the state in a store for a run of `job`: from then on no earlier run can publish anything.
///
/// Tells the number of the manifest that claims it, and its bytes, which say what there is to go on from. `incarnation` is a
/// random number, to know one's own by.
///
/// # Errors
/// The state is another job's, or another version's, or can't be read or written.
pub fn claim(store: &dyn Store, job: &str, incarnation: u64) -> Result<(u64, Vec<u8>), ClaimError> {
    let mut left = CLAIMS;
    loop {
        let (number, mut manifest) = match store.latest()? {
            Some((number, bytes)) => (number + 1, Manifest::decode(&bytes)?),
            None => (1, Manifest::first(job)),
        };
        if manifest.job != job {
            return Err(ManifestError::Job { found: manifest.job, job: job.to_owned() }.into());
        }
        manifest.incarnation = incarnation;
        left -= 1;
        match publish(store, number, &manifest) {
            Ok(_) => return Ok((number, manifest.encode())),
            // Whom this replaces has just published another one: it is gone on from there.
            Err(StoreError::Superseded { .. }) if left > 0 => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Publishes a manifest; where it is not known whether that was done, looks.
pub(super) fn publish(store: &dyn Store, number: u64, manifest: &Manifest) -> Result<Published, StoreError> {
    let bytes = manifest.encode();
    let Err(error) = store.publish(number, &bytes) else { return Ok(Published::This) };
    match store.latest() {
        Ok(Some((latest, there))) if latest == number => match Manifest::decode(&there) {
            Ok(_) if there == bytes => Ok(Published::This),
            Ok(there) if there.incarnation == manifest.incarnation => Ok(Published::Earlier),
            _ => Err(error),
        },
        _ => Err(error),
    }
}
