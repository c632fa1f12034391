//! The port to where changes go: a [`Sink`] takes the changes of finished epochs, in order, and commits them to its ledger.
//!
//! Promises: what [`Sink::committed`] has passed is in the ledger, and a restart finds it there. Refuses: calls after an
//! error; each of them returns the error again.

use crate::catalog::Catalog;
use crate::change::Changes;
use crate::ledger::Ledger;
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;

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

    /// Returns counters, and the last error.
    fn status(&self) -> SyncStatus;
}

/// A sync that was opened: its ledger, and how to go on.
pub struct OpenedSync {
    /// What an earlier run committed to it.
    pub ledger: Ledger,
    /// Starts it. The catalog holds the job's audiences, and behind them those of `ledger` that the job no longer has.
    #[allow(clippy::type_complexity)]
    pub start: Box<dyn FnOnce(Arc<Catalog>) -> Box<dyn Sink> + Send>,
}

/// The counters of a sync, and its last error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncStatus {
    /// Entries and exits that reached the destination since the start.
    pub written: Written,
    /// Changes that were committed to it since the start.
    pub committed: u64,
    /// Changes that wait to be delivered.
    pub waiting: u64,
    /// Deliveries that were retried.
    pub retries: u64,
    /// Changes given up, in the dead letters.
    pub dead_letters: u64,
    /// The last error.
    pub last_error: Option<String>,
}

/// Changes that reached a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Entries.
    pub entries: u64,
    /// Exits.
    pub exits: u64,
    /// Bytes.
    pub bytes: u64,
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
            io::ErrorKind::NotFound => "create the folder first; paths are relative to the job file's folder",
            io::ErrorKind::IsADirectory => "give the path of a file, not of a folder",
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "the user that runs the job must be able to write it"
            }
            _ => "see that the destination can be written to",
        };
        SinkError::Failed { to: to.to_string(), action, reason: error.to_string(), hint }
    }
}
