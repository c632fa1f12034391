//! What a pull has read of its rows, so that the next pull of the model sends only rows that differ.
//!
//! A snapshot is often written anew with its keys in the same order, and few rows that differ. Batches are compared by their keys: one that has the
//! keys of a batch of the snapshot in force, in the same order, sends the rows whose digests differ. Other batches send all rows. Batches of the
//! snapshot in force whose keys no batch has any more are named: the owners of keys know which slots they had
//! ([`BatchSlots`](crate::state::batch_slots::BatchSlots)).
//!
//! Promises: rows whose digest is the same are decided the same, and messages carry the same of them; where the digest is a hash, but for one
//! chance in 2^64 for each row that differs. Holds: of a batch a fingerprint of its keys, of 128 bits; of a row its digest, up to 8 bytes.
//! Refuses: models of whose rows more is sent than truths and texts ([`can_compare`]).

use arrow_array::{Array, StringArray};
use hashbrown::{HashMap, HashSet};
use serde::{Deserialize, Serialize};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};
use usher_core::lock::lock;
use usher_queries::plan::{FactKind, Plan};
use xxhash_rust::xxh3::Xxh3;

/// The snapshot in force, from which a pull differs that sends only a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Base {
    /// The number of its pull.
    pub(crate) pull: u64,
    pub(crate) rows: u64,
}

/// The rows of one batch.
pub(crate) struct KnownBatch {
    /// By which the owners of keys know it: the pull that sent its keys, and its place in that.
    pub(crate) number: u64,
    pub(crate) rows: usize,
    /// As many bytes for each row.
    pub(crate) digests: Box<[u8]>,
}

/// The rows of a snapshot, by the fingerprints of their batches' keys.
pub(crate) struct KnownRows {
    seed: u64,
    batches: HashMap<u128, Arc<KnownBatch>>,
}

/// A comparison of the rows of a pull, by all its readers, with those of the snapshot in force.
pub(crate) struct Comparison {
    pull: u64,
    /// Of fingerprints and digests. It is drawn, so that keys and values whose hashes are equal can't be prepared.
    seed: u64,
    before: Option<(Base, Arc<KnownRows>)>,
    read: Mutex<Read>,
}

/// What has been read so far.
#[derive(Default)]
struct Read {
    batches: HashMap<u128, Arc<KnownBatch>>,
    /// The batches of the snapshot in force that were found.
    found: HashSet<u64>,
    numbers: u32,
}

/// How the rows of a pull differ from those of the snapshot in force.
pub(crate) struct Differs {
    pub(crate) base: Base,
    /// The numbers of the batches that were not found, ascending.
    pub(crate) gone: Vec<u64>,
    /// The number of their rows.
    pub(crate) rows_gone: u64,
}

/// Returns whether pulls of a model can be compared: they send truths that do not depend on `now()`, and texts for messages, but
/// neither rows that are kept nor what is aggregated.
pub(crate) fn can_compare(plan: &Plan, model: usize) -> bool {
    let pulled = &plan.models[model];
    let is_clocked =
        pulled.facts.iter().any(|fact| matches!(&fact.kind, FactKind::Property(predicate) if predicate.mentions_now()));
    pulled.owns_rows() && pulled.rows.is_none() && !is_clocked && !is_aggregated(plan, model)
}

/// Returns whether a fact of any model aggregates rows of a model.
pub(crate) fn is_aggregated(plan: &Plan, model: usize) -> bool {
    let mut facts = plan.models.iter().flat_map(|of| &of.facts);
    facts.any(|fact| matches!(fact.kind, FactKind::Related { model: of, .. } if of as usize == model))
}

/// Returns the pull that sent the keys of a batch.
pub(crate) fn pull_of(batch: u64) -> u64 {
    batch >> 32
}

impl KnownBatch {
    /// Returns the rows whose digests differ from these, which are of the same keys, ascending.
    pub(crate) fn differing(&self, digests: &[u8]) -> Vec<usize> {
        if *self.digests == *digests {
            return Vec::new();
        }
        let width = digests.len() / self.rows;
        let rows = self.digests.chunks_exact(width).zip(digests.chunks_exact(width)).enumerate();
        rows.filter(|(_, (before, now))| before != now).map(|(row, _)| row).collect()
    }
}

impl Comparison {
    /// Returns the comparison of a pull with the snapshot in force; with nothing if that is not known.
    pub(crate) fn new(pull: u64, before: Option<(Base, Arc<KnownRows>)>) -> Comparison {
        let seed = before.as_ref().map_or_else(|| RandomState::new().hash_one(pull), |(_, known)| known.seed);
        Comparison { pull, seed, before, read: Mutex::default() }
    }

    /// Returns a hash of the same seed for all pulls that are compared with each other.
    pub(crate) fn hasher(&self) -> Xxh3 {
        Xxh3::with_seed(self.seed)
    }

    /// Returns the fingerprint of keys and their order.
    pub(crate) fn fingerprint(&self, keys: &StringArray) -> u128 {
        let mut hasher = self.hasher();
        // Of a slice of an array the first is not 0: it is then another fingerprint, so at worst more rows are sent.
        let ends = keys.offsets();
        hasher.update(ends.inner().inner().as_slice());
        hasher.update(&keys.values()[ends[0] as usize..ends[keys.len()] as usize]);
        hasher.digest128()
    }

    /// Returns the batch of the snapshot in force that has these keys, once.
    pub(crate) fn find(&self, fingerprint: u128) -> Option<Arc<KnownBatch>> {
        let (_, known) = self.before.as_ref()?;
        let batch = known.batches.get(&fingerprint)?;
        lock(&self.read).found.insert(batch.number).then(|| Arc::clone(batch))
    }

    /// Returns the number of a batch whose keys are sent.
    pub(crate) fn number(&self) -> u64 {
        let mut read = lock(&self.read);
        read.numbers += 1;
        self.pull << 32 | u64::from(read.numbers)
    }

    /// Takes note of a batch that was read.
    pub(crate) fn add(&self, fingerprint: u128, batch: Arc<KnownBatch>) {
        lock(&self.read).batches.insert(fingerprint, batch);
    }

    /// Returns how all that was read differs from the snapshot in force; `None` if no batch of that was found: all rows were sent.
    pub(crate) fn end(&self) -> Option<Differs> {
        let (base, known) = self.before.as_ref()?;
        let read = lock(&self.read);
        if read.found.is_empty() {
            return None;
        }
        let gone = || known.batches.values().filter(|batch| !read.found.contains(&batch.number));
        let rows_gone = gone().map(|batch| batch.rows as u64).sum();
        let mut gone: Vec<u64> = gone().map(|batch| batch.number).collect();
        // Their slots then mostly ascend.
        gone.sort_unstable();
        Some(Differs { base: *base, gone, rows_gone })
    }

    /// Returns the rows, once all have been read: what the next pull is compared with.
    pub(crate) fn known(&self) -> Arc<KnownRows> {
        Arc::new(KnownRows { seed: self.seed, batches: std::mem::take(&mut lock(&self.read).batches) })
    }
}
