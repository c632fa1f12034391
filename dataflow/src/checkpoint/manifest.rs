//! The manifest: what a checkpoint consists of.
//!
//! Encoded with bincode 1.3, in the frame of the store, which has version and checksum. A change of a type that is reachable
//! from [`Manifest`] or from a part's keys raises [`REVISION`] and adds a fixture. Names of types and fields are not encoded.
//!
//! | revision | what was added |
//! |---|---|
//! | 1 | |
//! | 2 | the checksum of each part, the position of each ledger |
//! | 3 | of each fact, from when on the events of its window were read |
//! | 4 | of each model, the columns of rows that are kept |
//! | 5 | parts of several shards, and those of the keys that later checkpoints changed |
//! | 6 | of each model, how the last pull failed |
//! | 7 | where each ledger is; in the identity of a partition, the files that were read before others of its name |

use crate::control::message::StoredPart;
use crate::ingest::reader::PartitionProgress;
use crate::time::Time;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use usher_core::sink::LedgerPosition;
use usher_core::source::{PartitionId, Resume};
use usher_core::store::{Store, StoreError};
use usher_queries::diff::Before;
use usher_queries::plan::ModelPlan;

/// The version of what manifests and parts hold.
pub(crate) const REVISION: u32 = 7;

/// How many times a claim is tried while an earlier run goes on publishing.
const CLAIMS: u32 = 10;

/// What a checkpoint consists of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The [`REVISION`] of the version that wrote it.
    pub(crate) revision: u32,
    /// The job's name.
    pub(crate) job: String,
    /// A random number of the run that wrote it.
    pub(crate) incarnation: u64,
    /// The clock when partitions were marked.
    pub(crate) clock: Time,
    /// Partitions by the ranks that parts refer to, those that no longer exist too.
    pub(crate) partitions: Vec<(u32, PartitionId)>,
    /// Where reading resumes.
    pub(crate) progress: Vec<PartitionProgress>,
    /// The models, in the order in which parts list them.
    pub(crate) models: Vec<ModelManifest>,
    /// Ids and fingerprints of the audiences whose changes were sent to syncs.
    pub(crate) audiences: Vec<(String, [u8; 16])>,
    /// The files with all keys, as one checkpoint wrote them.
    pub(crate) parts: Vec<StoredPart>,
    /// The files with the keys that had changed at each later one, in order. What a later file has of a key counts.
    pub(crate) changed: Vec<StoredPart>,
    /// By sync, the position of its ledger: it had committed all changes that the keys may have caused.
    pub(crate) ledgers: Vec<(String, LedgerPosition)>,
    /// By model, how the last pull failed, if it did.
    pub(crate) failed_pulls: Vec<(String, FailedPull)>,
}

/// A part in a manifest of revisions 2 to 4, of one shard.
#[derive(Deserialize)]
struct StoredPartV4 {
    shard: u32,
    name: String,
    bytes: u64,
    sum: Option<u64>,
}

impl From<StoredPartV4> for StoredPart {
    fn from(StoredPartV4 { shard, name, bytes, sum }: StoredPartV4) -> StoredPart {
        StoredPart { shards: (shard, shard), name, bytes, sum }
    }
}

/// A part in a manifest of revision 1.
#[derive(Deserialize)]
struct StoredPartV1 {
    shard: u32,
    name: String,
    bytes: u64,
}

impl From<StoredPartV1> for StoredPart {
    fn from(StoredPartV1 { shard, name, bytes }: StoredPartV1) -> StoredPart {
        StoredPartV4 { shard, name, bytes, sum: None }.into()
    }
}

/// A model in a manifest of revision 3.
#[derive(Deserialize)]
struct ModelManifestV3 {
    id: String,
    facts: Vec<[u8; 16]>,
    since: Vec<Time>,
    pull: Option<PullRecord>,
}

impl From<ModelManifestV3> for ModelManifest {
    /// No rows were kept.
    fn from(ModelManifestV3 { id, facts, since, pull }: ModelManifestV3) -> ModelManifest {
        ModelManifest { id, facts, since, pull, rows: RowsManifest::default() }
    }
}

/// A model in a manifest of revisions 1 and 2.
#[derive(Deserialize)]
struct ModelManifestV2 {
    id: String,
    facts: Vec<[u8; 16]>,
    pull: Option<PullRecord>,
}

impl From<ModelManifestV2> for ModelManifest {
    /// The events of all windows count as read.
    fn from(ModelManifestV2 { id, facts, pull }: ModelManifestV2) -> ModelManifest {
        ModelManifestV3 { since: vec![0; facts.len()], id, facts, pull }.into()
    }
}

/// The fields of a manifest, which stand one behind the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    /// Returns the next one.
    fn next<T: DeserializeOwned>(&mut self) -> Result<T, ManifestError> {
        bincode::deserialize_from(&mut self.0).map_err(|error| ManifestError::Damaged { reason: error.to_string() })
    }

    /// Returns the next one, a list of what an earlier revision had.
    fn next_of<Old: DeserializeOwned, New: From<Old>>(&mut self) -> Result<Vec<New>, ManifestError> {
        Ok(self.next::<Vec<Old>>()?.into_iter().map(New::from).collect())
    }
}

/// A model as the parts have it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelManifest {
    /// Its id.
    pub(crate) id: String,
    /// The fingerprints of its facts, in order.
    pub(crate) facts: Vec<[u8; 16]>,
    /// Per fact, from when on the events of its window were read, ms since the epoch; 0: all, or it has no window.
    pub(crate) since: Vec<Time>,
    /// The pull in force, if there was one.
    pub(crate) pull: Option<PullRecord>,
    /// What is kept of its rows.
    pub(crate) rows: RowsManifest,
}

/// What the parts have of a model's rows; nothing where rows are not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RowsManifest {
    /// The columns and the names of their types, in order.
    pub(crate) columns: Vec<(String, String)>,
    /// The fingerprints of the live columns, in order.
    pub(crate) live: Vec<[u8; 16]>,
}

impl RowsManifest {
    /// Returns what is kept of the rows of a model of the plan.
    pub(crate) fn of(model: &ModelPlan) -> RowsManifest {
        let rows = model.rows.iter();
        let columns = rows.clone().flat_map(|rows| &rows.columns).map(|(name, of)| (name.clone(), of.to_string()));
        // Behind the columns: no column has an empty name.
        let foreign_key = rows.clone().filter(|rows| rows.parent.is_some()).map(|_| (String::new(), String::new()));
        let columns = columns.chain(foreign_key);
        RowsManifest {
            columns: columns.collect(),
            live: rows.flat_map(|rows| &rows.live).map(|live| live.fingerprint).collect(),
        }
    }
}

/// A pull whose rows are in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PullRecord {
    /// The location: the identity of [`usher_config::Parquet`].
    pub(crate) parquet: String,
    /// The columns it read for messages to name.
    pub(crate) include: Vec<String>,
    /// When it began, ms since the epoch.
    pub(crate) began: Time,
    /// How long it took, ms.
    pub(crate) took: u64,
    /// The number of rows it read.
    pub(crate) rows: u64,
}

/// A model's last pull, which failed or was held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailedPull {
    /// The location: the identity of [`usher_config::Parquet`].
    pub(crate) parquet: String,
    /// When it began, ms since the epoch.
    pub(crate) began: Time,
    /// How long it took, ms.
    pub(crate) took: u64,
    /// How many have failed since the last that did not; 0 if the brake held it.
    pub(crate) failures: u32,
    /// Why.
    pub(crate) reason: String,
}

/// Why this version can't resume from a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It was written by another version.
    #[error("the state was written with revision `{found}` of its content, this version reads up to `{REVISION}`")]
    Revision {
        /// The revision of the version that wrote it.
        found: u32,
    },
    /// It belongs to another job.
    #[error("the state is of the job `{found}`, not of `{job}`")]
    Job {
        /// The job that it belongs to.
        found: String,
        /// The job at hand.
        job: String,
    },
    /// It can't be decoded.
    #[error("the state's manifest can't be decoded: {reason}")]
    Damaged {
        /// The decoder's message.
        reason: String,
    },
}

/// Why a run can't resume from the state in a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The newest manifest can't be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Which manifest of this run has the number under which one was published.
pub(super) enum PublishOutcome {
    /// The one that was to be published.
    This,
    /// An earlier one, whose publishing had seemed to fail.
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
                "run the version that wrote it, or give the job another `state.url` to start anew: all entries are sent again"
            }
            ManifestError::Job { .. } => "give each job a `state.url` of its own",
            ManifestError::Damaged { .. } => "restore the store from a backup, or give the job another `state.url`",
        }
    }
}

impl Manifest {
    /// Returns the manifest of a job that has no state yet.
    fn first(job: &str) -> Manifest {
        Manifest {
            revision: REVISION,
            job: job.to_owned(),
            incarnation: 0,
            clock: 0,
            partitions: Vec::new(),
            progress: Vec::new(),
            models: Vec::new(),
            audiences: Vec::new(),
            parts: Vec::new(),
            changed: Vec::new(),
            ledgers: Vec::new(),
            failed_pulls: Vec::new(),
        }
    }

    /// Returns what it has kept of the job's audiences, conditions and syncs.
    fn job_before(&self) -> Before<'static> {
        let facts = self.models.iter().map(|model| (model.id.clone(), model.facts.iter().copied().collect()));
        let snapshot = |model: &ModelManifest| Some((model.id.clone(), model.pull.as_ref()?.parquet.clone()));
        Before {
            plan: None,
            audiences: self.audiences.iter().cloned().collect(),
            facts: facts.collect(),
            syncs: self.ledgers.iter().map(|(sync, _)| sync.clone()).collect(),
            snapshots: self.models.iter().filter_map(snapshot).collect(),
        }
    }

    /// Returns all files that it names.
    pub(crate) fn all_parts(&self) -> impl Iterator<Item = &StoredPart> {
        self.parts.iter().chain(&self.changed)
    }

    /// Returns, by partition, where reading resumes.
    pub(crate) fn read(&self) -> Vec<(PartitionId, Resume)> {
        self.progress.iter().map(|progress| (progress.id.clone(), progress.resume.clone())).collect()
    }

    /// Returns the manifest as bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        bincode::serialize(self).expect("a manifest is plain data")
    }

    /// Reads a manifest of this version's [`REVISION`] or an earlier one.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        if bytes.is_empty() {
            return Err(ManifestError::Damaged { reason: "it is empty".to_owned() });
        }
        let mut fields = Fields(bytes);
        // It comes first in every revision.
        let revision: u32 = fields.next()?;
        if !(1..=REVISION).contains(&revision) {
            return Err(ManifestError::Revision { found: revision });
        }
        Ok(Manifest {
            revision: REVISION,
            job: fields.next()?,
            incarnation: fields.next()?,
            clock: fields.next()?,
            partitions: fields.next()?,
            progress: fields.next()?,
            models: match revision {
                1 | 2 => fields.next_of::<ModelManifestV2, _>()?,
                3 => fields.next_of::<ModelManifestV3, _>()?,
                _ => fields.next()?,
            },
            audiences: fields.next()?,
            parts: match revision {
                1 => fields.next_of::<StoredPartV1, _>()?,
                2..=4 => fields.next_of::<StoredPartV4, _>()?,
                _ => fields.next()?,
            },
            // Before, all keys were written each time.
            changed: if revision >= 5 { fields.next()? } else { Vec::new() },
            ledgers: match revision {
                1 => Vec::new(),
                2..=6 => {
                    let noted: Vec<(String, String, u64)> = fields.next()?;
                    let position = |(sync, keeper, at)| (sync, LedgerPosition { keeper, at, place: String::new() });
                    noted.into_iter().map(position).collect()
                }
                _ => fields.next()?,
            },
            failed_pulls: if revision >= 6 { fields.next()? } else { Vec::new() },
        })
    }
}

/// Returns, by sync, the ledger's position that a claimed manifest has noted.
///
/// # Errors
/// The manifest can't be decoded.
pub fn noted_positions(manifest: &[u8]) -> Result<BTreeMap<String, LedgerPosition>, ManifestError> {
    Ok(Manifest::decode(manifest)?.ledgers.into_iter().collect())
}

/// The latest state of a job, as an edit of the job finds it.
#[derive(Clone, Debug, PartialEq)]
pub struct StateBefore {
    /// The number of the manifest, and its bytes.
    pub manifest: (u64, Vec<u8>),
    /// The clock, ms since the epoch; 0 if no checkpoint was made.
    pub clock: Time,
    /// The job's audiences, conditions and syncs.
    pub job: Before<'static>,
}

/// Reads the latest manifest of `job` in a store, without claiming it. The state of a job that has none is empty.
///
/// # Errors
/// The state belongs to another job or another version, or can't be read.
pub fn before(store: &dyn Store, job: &str) -> Result<StateBefore, ClaimError> {
    let (number, manifest) = match store.latest()? {
        Some((number, bytes)) => (number, Manifest::decode(&bytes)?),
        None => (0, Manifest::first(job)),
    };
    if manifest.job != job {
        return Err(ManifestError::Job { found: manifest.job, job: job.to_owned() }.into());
    }
    Ok(StateBefore { manifest: (number, manifest.encode()), clock: manifest.clock, job: manifest.job_before() })
}

/// Returns what a claimed manifest has kept of the job before an edit.
///
/// # Errors
/// The manifest can't be decoded.
pub fn job_before(manifest: &[u8]) -> Result<Before<'static>, ManifestError> {
    Ok(Manifest::decode(manifest)?.job_before())
}

/// Claims the state in a store for a run of `job`: from then on no earlier run can publish a manifest.
///
/// Returns the number of the manifest that claims it, and its bytes, which hold what the run resumes from. `incarnation` is a
/// random number, by which the run recognizes its own manifests.
///
/// # Errors
/// The state belongs to another job or another version, or can't be read or written.
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
            // The run that this one replaces has just published another manifest: start from that one.
            Err(StoreError::Superseded { .. }) if left > 0 => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Notes that the ledgers of some syncs have moved to other places: publishes a claimed manifest anew, with their positions there. Returns its number
/// and its bytes. Nothing may have been committed to these ledgers since they moved.
///
/// # Errors
/// Another process has claimed the state, or the store can't be written.
pub fn note_moved(
    store: &dyn Store,
    (number, bytes): (u64, Vec<u8>),
    moved: &BTreeMap<String, LedgerPosition>,
) -> Result<(u64, Vec<u8>), ClaimError> {
    let mut manifest = Manifest::decode(&bytes)?;
    for (sync, position) in &mut manifest.ledgers {
        if let Some(moved) = moved.get(sync) {
            *position = moved.clone();
        }
    }
    publish(store, number + 1, &manifest)?;
    Ok((number + 1, manifest.encode()))
}

/// Publishes a manifest. After an error that leaves open whether it was published, looks at the newest one.
pub(super) fn publish(store: &dyn Store, number: u64, manifest: &Manifest) -> Result<PublishOutcome, StoreError> {
    let bytes = manifest.encode();
    let Err(error) = store.publish(number, &bytes) else { return Ok(PublishOutcome::This) };
    match store.latest() {
        Ok(Some((latest, there))) if latest == number => match Manifest::decode(&there) {
            Ok(_) if there == bytes => Ok(PublishOutcome::This),
            Ok(there) if there.incarnation == manifest.incarnation => Ok(PublishOutcome::Earlier),
            _ => Err(error),
        },
        _ => Err(error),
    }
}
