//! The port to where changes go: a [`Sink`] takes the changes of finished epochs, in order, and commits them to its ledger.
//!
//! Promises: what [`Sink::committed`] has passed is in the ledger, and a restart finds it there. Refuses: calls after an
//! error; each of them returns the error again.

use crate::catalog::Catalog;
use crate::change::{ChangeKind, Changes};
use crate::delivery::Delivery;
use crate::ledger::Ledger;
use serde::{Deserialize, Serialize};
use std::ops::AddAssign;
use std::sync::Arc;
use std::{fmt, io};

/// A destination of changes, with its ledger.
pub trait Sink: Send {
    /// Takes changes in their order. With this call, all changes before `until` (ms since the epoch) have been handed over; `until`
    /// never goes back, and may move without changes. Does not wait for the destination.
    ///
    /// # Errors
    /// The destination refused these or earlier changes. Afterwards nothing more is written, and each call returns the error again.
    fn write(&mut self, epoch: &Changes, until: u64) -> Result<(), SinkError>;

    /// Returns whether the destination keeps up. While it is behind by more than the sink's bound, nothing more is handed over:
    /// changes and the clock are held back, and events wait in their sources.
    fn ready(&self) -> bool {
        true
    }

    /// Returns the time before which all changes are committed: they have reached the destination, or durably wait until they do, and a
    /// restart will know them. Until a first `write`, 0.
    fn committed(&self) -> u64;

    /// Waits until all is written. Nothing can be written afterwards.
    ///
    /// # Errors
    /// The destination refused changes.
    fn finish(&mut self) -> Result<(), SinkError>;

    /// Returns a handle on the status, which stays valid while the sink takes changes and after it has ended.
    fn standing(&self) -> Arc<dyn Standing>;

    /// Returns counters, and the last error.
    fn status(&self) -> SyncStatus {
        self.standing().status()
    }

    /// Returns the delivery of a sink that delivers by itself, for an operator's orders; `None` of others.
    fn delivery(&self) -> Option<Arc<dyn Delivery>> {
        None
    }

    /// Returns how far the ledger is, for the checkpoint to note. None if there is no ledger that outlives the process.
    fn position(&self) -> Option<LedgerPosition> {
        None
    }
}

/// The status of a sync. May be read from any thread, at any time.
pub trait Standing: Send + Sync {
    /// Returns counters, and the last error. Does not wait for the destination.
    fn status(&self) -> SyncStatus;
}

/// How far a ledger is. A checkpoint notes it, and a start refuses a ledger that is behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerPosition {
    /// What keeps the ledger: `kafka` (a topic) or `outbox` (a folder). Positions of different keepers can't be compared.
    pub keeper: String,
    /// Grows with what is committed, also where the ledger begins anew: batches of a topic, bytes of a log. Begins anew in another place.
    pub at: u64,
    /// Where it is, as the keeper writes it, without secrets; empty if that follows from the state's url, or was not noted.
    pub place: String,
}

impl LedgerPosition {
    /// Refuses a ledger that is not as far as the checkpoint has noted.
    ///
    /// # Errors
    /// `found` is behind `noted`, or is kept by another keeper.
    pub fn check(found: &LedgerPosition, noted: Option<&LedgerPosition>, sync: &str) -> Result<(), SinkError> {
        match noted {
            Some(noted) if noted.keeper != found.keeper || noted.at > found.at => {
                Err(SinkError::Behind { sync: sync.to_owned(), found: found.to_string(), noted: noted.to_string() })
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for LedgerPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LedgerPosition { keeper, at, place: _ } = self;
        match &keeper[..] {
            "kafka" => write!(f, "batch {at} of a topic"),
            "outbox" => write!(f, "byte {at} of a log"),
            keeper => write!(f, "position {at} of `{keeper}`"),
        }
    }
}

/// A sync that was opened: its ledger, and how to go on.
pub struct OpenedSync {
    /// What an earlier run committed to it.
    pub ledger: Ledger,
    /// How far the ledger is, and where.
    pub position: LedgerPosition,
    /// Starts it. The catalog holds the job's audiences, and behind them those of `ledger` that the job no longer has.
    #[allow(clippy::type_complexity)]
    pub start: Box<dyn FnOnce(Arc<Catalog>) -> Box<dyn Sink> + Send>,
}

/// The counters of a sync, and its last error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncStatus {
    /// Entries and exits that reached the destination since the start.
    pub written: Written,
    /// Changes that were committed to it since its log began, those that are queued for a topic included, so that the counts add up. A ledger
    /// that begins anew in the log does not reset it.
    pub committed: u64,
    /// Changes that wait to be delivered.
    pub waiting: u64,
    /// For how long the sync has changes to deliver and has delivered none, ms; 0 if nothing waits.
    pub oldest_waiting_ms: u64,
    /// Deliveries that were retried.
    pub retries: u64,
    /// Changes given up, in the dead letters.
    pub dead_letters: u64,
    /// Attempts to deliver since the start.
    pub attempts: AttemptCounts,
    /// Changes that need not be sent any more.
    pub superseded: u64,
    /// Whether the destination takes changes.
    pub state: SyncState,
    /// Changes that were delivered since its log began; `None` if only those since the start are known.
    pub delivered: Option<u64>,
    /// The last error.
    pub last_error: Option<String>,
}

/// Whether a destination takes changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    /// It does.
    #[default]
    Ok,
    /// It fails: one change a step of the schedule is sent.
    Open,
    /// Nothing is sent until it is resumed.
    Paused,
    /// It refuses most of what is sent: nothing is dropped, and one change a step of the schedule is sent.
    Rejecting,
}

impl SyncState {
    /// All values.
    pub const ALL: [SyncState; 4] = [SyncState::Ok, SyncState::Open, SyncState::Paused, SyncState::Rejecting];

    /// Returns the name in answers and metrics.
    pub fn name(self) -> &'static str {
        match self {
            SyncState::Ok => "ok",
            SyncState::Open => "open",
            SyncState::Paused => "paused",
            SyncState::Rejecting => "rejecting",
        }
    }
}

/// Attempts to deliver, by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AttemptCounts {
    /// Those that were delivered.
    pub delivered: u64,
    /// Those that failed, by the destination's fault.
    pub failed: u64,
    /// Those that came too soon after others.
    pub throttled: u64,
    /// Those whose changes were refused.
    pub refused: u64,
    /// How long all of them took together, ms.
    pub latency_ms: u64,
}

impl AttemptCounts {
    /// Returns how many have ended.
    pub fn ended(&self) -> u64 {
        self.delivered + self.failed + self.throttled + self.refused
    }
}

/// Changes that reached a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Entries.
    pub entries: u64,
    /// Exits.
    pub exits: u64,
    /// Updates.
    pub updates: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Written {
    /// Returns how many changes.
    pub fn changes(&self) -> u64 {
        self.entries + self.exits + self.updates
    }

    /// Counts a change of `kind`, without its bytes.
    pub fn count(&mut self, kind: ChangeKind) {
        match kind {
            ChangeKind::Entry => self.entries += 1,
            ChangeKind::Exit => self.exits += 1,
            ChangeKind::Update => self.updates += 1,
        }
    }
}

impl AddAssign for Written {
    fn add_assign(&mut self, other: Written) {
        self.entries += other.entries;
        self.exits += other.exits;
        self.updates += other.updates;
        self.bytes += other.bytes;
    }
}

/// Why a destination can't be opened or written to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The reader has closed its end of the pipe: for stdout, usually no failure.
    #[error("{to} was closed by its reader")]
    Closed {
        /// The destination.
        to: String,
    },
    /// The ledger lacks what the checkpoint has noted as committed: it is gone, or was restored from an older backup.
    #[error("the ledger of sync `{sync}` is behind the checkpoint: it is at {found}, and {noted} was committed before")]
    Behind {
        /// The sync's id.
        sync: String,
        /// The position that was found.
        found: String,
        /// The position in the checkpoint.
        noted: String,
    },
    /// Another process of the same sync has taken over.
    #[error("{to} is now another process's, which has taken over from this one")]
    Superseded {
        /// The destination.
        to: String,
    },
    /// The operating system refuses, or the brokers do.
    #[error("{to} can't be {action}: {reason}")]
    Failed {
        /// The destination: a path in backticks, `stdout`, or a topic.
        to: String,
        /// `opened` or `written`.
        action: &'static str,
        /// The system's words, or the brokers'.
        reason: String,
        /// What to do about it.
        hint: &'static str,
    },
}

impl SinkError {
    /// Returns what the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            SinkError::Closed { .. } => "keep the reader running for as long as the job",
            SinkError::Behind { .. } => {
                "restore the ledger, or start it anew with `usher resend JOB SYNC`: all members are then sent again"
            }
            SinkError::Superseded { .. } => {
                "run a job once; two jobs that share a cluster need different names (`job:` in the job file)"
            }
            SinkError::Failed { hint, .. } => hint,
        }
    }

    /// Returns the error that the system gave when `to` was to be `action`.
    pub fn new(to: &str, action: &'static str, error: &io::Error) -> SinkError {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return SinkError::Closed { to: to.to_string() };
        }
        let hint = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "free some space, then start again: changes that were not written are written then"
            }
            io::ErrorKind::NotFound => "create the folder first; a path in a job file is relative to its folder",
            io::ErrorKind::IsADirectory => "give the path of a file, not of a folder",
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "the user that runs the job must be able to write it"
            }
            _ => "see that the destination can be written to",
        };
        SinkError::Failed { to: to.to_string(), action, reason: error.to_string(), hint }
    }
}
