//! What workers write to each other beside the data: orders of worker 0, and answers.

use crate::engine::pull_log::ModelLog;
use crate::operators::read::Standpoint;
use crate::time::{Slot, Time};
use serde::{Deserialize, Serialize};
use usher_core::sink::SyncStatus;
use usher_core::source::PartitionId;

/// A letter, which [`crate::operators::bus`] carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Letter {
    /// Worker 0 to all, first of all: what there is to read, in order of arrival, and the manifest to restore, if there is one.
    Start {
        /// By rank.
        partitions: Vec<PartitionId>,
        /// The bytes of the manifest.
        manifest: Option<Vec<u8>>,
        /// Per sync of the job, whether it is new.
        new_syncs: Vec<bool>,
        /// Per sync of the job, up to when it was told: the clock does not start before.
        clocks: Vec<Time>,
    },
    /// Worker 0 to the owner of keys: what a sync was told.
    Ledger {
        /// Index in the job.
        sync: u32,
        model: u32,
        /// Audiences by index in the model, and keys.
        members: Vec<(u32, String)>,
    },
    /// Worker 0 to all: everything told has been sent.
    AllLedgers,
    /// Worker 0 to all: a checkpoint is to be made. Where do your partitions stand?
    Mark {
        /// Numbered from 1 in each run.
        checkpoint: u64,
        /// It is the run's last one: read nothing more, and answer when what has been read has been told.
        last: bool,
    },
    /// To worker 0: here they stand.
    Marked {
        checkpoint: u64,
        standpoints: Vec<Standpoint>,
        /// Per model, the pull in force; none: one is being switched to.
        in_force: Option<Vec<u64>>,
    },
    /// Worker 0 to all: all have marked; write your keys, into parts whose names begin so.
    Write { checkpoint: u64, prefix: String },
    /// To worker 0: they are written.
    Written {
        checkpoint: u64,
        /// Shard, name, bytes.
        parts: Vec<(u32, String, u64)>,
        /// Up to where the keys that were written may have come.
        done: Time,
        in_force: Option<Vec<u64>>,
        /// Why they are not.
        failed: Option<String>,
    },
    /// For the API, to whose keys they are: list members of an audience from a slot on, and tell `to`.
    List { to: u32, ask: u64, model: u32, audience: u32, from: Slot, limit: u32 },
    /// To who asked: here they are, where to go on, and as of when; 0: the worker is not live.
    Listed { ask: u64, keys: Vec<String>, next: Option<Slot>, as_of: Time },
    /// To worker 0: a pull was switched to, and said something new of so many keys.
    Switched { model: u32, pull: u64, changed: u64 },
    /// To worker 0: the API asks for a pull.
    Pull { model: u32, full: bool },
    /// To the first workers of the other processes: what stands before `position` takes effect at `at` or before.
    Reflected {
        id: PartitionId,
        position: u64,
        at: Time,
        /// From when on the partition is read; none: from ever.
        since: Option<Time>,
    },
    /// Worker 0 to the first workers of the other processes: how pulls and syncs stand.
    News { pulls: Vec<ModelLog>, syncs: Vec<SyncStatus> },
    /// To all: somebody was told to stop.
    Stop,
    /// Worker 0 to all, where the job was told to stop: nothing more is waited for, come to your end.
    End,
}
