//! Control messages: what workers send each other beside the data, one enum per protocol.
//!
//! Messages from one worker to another arrive in the order in which they were sent ([`crate::operators::control`]). They carry
//! no time and hold none back.

use crate::ingest::reader::PartitionProgress;
use crate::snapshots::history::ModelPulls;
use crate::state::brake::Exits;
use crate::state::transition::Removed;
use crate::time::{Slot, Time};
use serde::{Deserialize, Serialize};
use usher_core::api::PullOrder;
use usher_core::sink::SyncStatus;
use usher_core::source::PartitionId;

/// A control message, by protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ControlMessage {
    /// How the job starts.
    Start(StartMessage),
    /// Worker 0 asks all workers for their part of a checkpoint.
    Checkpoint(CheckpointOrder),
    /// A worker answers worker 0.
    CheckpointAnswer(CheckpointAnswer),
    /// What the API asks, and what it shows.
    Query(QueryMessage),
    /// How the job ends.
    Shutdown(ShutdownMessage),
}

/// From worker 0: what an earlier run left behind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum StartMessage {
    /// To all, the first message of a run.
    Begin {
        /// What there is to read, by rank in the order of arrival.
        partitions: Vec<PartitionId>,
        /// The bytes of the manifest to restore, if there is one.
        manifest: Option<Vec<u8>>,
        /// Per sync of the job, whether it has no ledger yet.
        new_syncs: Vec<bool>,
        /// Per sync of the job, the time of the latest committed change: the clock does not start before it.
        clocks: Vec<Time>,
        /// A time that the clock starts at if it would start later; `None` if there is no limit.
        clock_limit: Option<Time>,
        /// Models of which a pull is due that the start awaits, though an earlier run has left a snapshot.
        due: Vec<bool>,
    },
    /// To the owner of keys: memberships in the ledger of a sync.
    Ledger {
        /// Index of the sync in the job.
        sync: u32,
        model: u32,
        members: LedgerMembers,
    },
    /// To the owner of keys: memberships in ledgers whose audience is gone.
    Removed { members: Vec<Removed> },
    /// To all: all ledgers have been sent.
    LedgersSent,
    /// To all, at the start: the members that the ledgers have on a worker, and who of them would leave by the first pulls.
    Exits(Vec<Exits>),
}

/// Memberships of keys of one model in the ledger of a sync.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LedgerMembers {
    heads: Vec<LedgerMember>,
    keys: String,
}

/// A membership: the audience by index in the model, [`hash_key`](crate::ingest::event_batch::hash_key) of the key, and the end of the key in
/// the keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct LedgerMember {
    audience: u32,
    hash: u64,
    key_end: u32,
}

impl LedgerMembers {
    /// Adds a membership.
    pub(crate) fn push(&mut self, audience: u32, hash: u64, key: &str) {
        self.keys.push_str(key);
        let key_end = u32::try_from(self.keys.len()).expect("the keys of one message stay under 4 GiB");
        self.heads.push(LedgerMember { audience, hash, key_end });
    }

    /// Returns the number of memberships.
    pub(crate) fn len(&self) -> usize {
        self.heads.len()
    }

    /// Returns the audiences.
    pub(crate) fn audiences(&self) -> impl Iterator<Item = u32> {
        self.heads.iter().map(|member| member.audience)
    }

    /// Returns the hash and the key of a membership.
    pub(crate) fn key(&self, at: usize) -> (u64, &str) {
        let start = if at == 0 { 0 } else { self.heads[at - 1].key_end as usize };
        let LedgerMember { hash, key_end, .. } = self.heads[at];
        (hash, &self.keys[start..key_end as usize])
    }
}

/// From worker 0 to all: the steps of a checkpoint, numbered from 1 in each run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum CheckpointOrder {
    /// Report the progress of your partitions.
    Mark {
        checkpoint: u64,
        /// It is the run's last one: read nothing more, and answer when all that has been read is committed.
        last: bool,
    },
    /// All workers have marked: write your keys into parts whose names begin with `prefix`.
    Write {
        checkpoint: u64,
        prefix: String,
        /// The last checkpoint of this run that was published: write the keys that have changed since. `None`: write all.
        since: Option<u64>,
    },
}

/// A part of a checkpoint in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct StoredPart {
    /// The first shard of its keys, and the last.
    pub(crate) shards: (u32, u32),
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// The checksum of its content; `None` if a version wrote it that had none.
    pub(crate) sum: Option<u64>,
}

/// To worker 0: a worker's part of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CheckpointAnswer {
    pub(crate) checkpoint: u64,
    /// Per model, the number of the pull in force; `None` while the worker switches to one.
    pub(crate) in_force: Option<Vec<u64>>,
    pub(crate) step: CheckpointStep,
}

/// What a worker has done for a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum CheckpointStep {
    /// The progress of its partitions.
    Marked(Vec<PartitionProgress>),
    /// Its keys are written.
    Written {
        parts: Vec<StoredPart>,
        /// The time, exclusive, that the written keys may have reached.
        done: Time,
        /// Why they could not be written.
        failed: Option<String>,
    },
}

/// What the API asks of other workers, and what every process shows of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum QueryMessage {
    /// To a worker: list members of an audience that it owns, from a slot on, and send them to worker `to`.
    List { to: u32, request: u64, audience: u32, from: Slot, limit: u32 },
    /// To the worker that asked: the members.
    Listed { request: u64, members: Listed },
    /// To a worker: count the keys that meet the conditions of an audience, and send the counts to worker `to`.
    Count { to: u32, request: u64, audience: u32 },
    /// To the worker that asked: the counts.
    Counted { request: u64, counts: Counts },
    /// To worker 0: a worker has switched to a pull, which changed so many of its keys.
    Switched { model: u32, pull: u64, changed: u64 },
    /// To worker 0: pull a model.
    Pull { model: u32, order: PullOrder },
    /// To the first worker of each other process: the progress of a partition.
    Reflected(ReflectedProgress),
    /// From worker 0 to the first worker of each other process: the pulls of the models, and the state of the syncs.
    Report { pulls: Vec<ModelPulls>, syncs: Vec<SyncStatus> },
}

/// Members of one audience on one worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Listed {
    pub(crate) keys: Vec<String>,
    /// The slot to go on from; `None` if these were the last.
    pub(crate) next: Option<Slot>,
    /// The time that the page is as of; 0 if the worker is not live.
    pub(crate) as_of: Time,
    /// When its process started: slots are those of one run.
    pub(crate) run: u64,
}

/// How many keys of one worker meet the conditions of an audience.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// The time of the counts of facts; 0 if the worker is not live.
    pub(crate) as_of: Time,
    /// The time of the other counts.
    pub(crate) counted_at: Time,
    /// By condition, each before those inside it.
    pub(crate) keys: Vec<u64>,
    /// By minute after `counted_at`: the members that leave by themselves in it.
    pub(crate) leaving: Vec<u64>,
}

/// How much of a partition is reflected in membership.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReflectedProgress {
    pub(crate) id: PartitionId,
    /// All before this position …
    pub(crate) position: u64,
    /// … takes effect at this time or before.
    pub(crate) at: Time,
}

/// How a job of several processes ends together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ShutdownMessage {
    /// To all: one process was asked to stop.
    Stop,
    /// From worker 0 to all: wait for nothing more, and end.
    End,
}
