//! The seam to where changes go, and the sink of lines: files and stdout.
//!
//! A [`Sink`] is handed the changes of a stretch of time at once, complete and in order. [`LineSink`] writes each as one
//! JSON object a line, on a thread of its own behind a bounded queue: whoever is slow to read is felt by the caller, and
//! through it by the sources.

mod changes;
mod lines;
mod message;

pub use changes::{Change, ChangeKind, Changes, Reason};
pub use lines::LineSink;
pub use message::{Catalog, Filter, write_message};

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where changes go.
pub trait Sink: Send {
    /// Takes the changes of a stretch of time; waits while there is no room.
    ///
    /// # Errors
    /// Earlier changes could not be written.
    fn write(&mut self, changes: &Arc<Changes>) -> Result<(), SinkError>;

    /// Writes out all that was taken.
    ///
    /// # Errors
    /// Some changes could not be written.
    fn finish(&mut self) -> Result<(), SinkError>;
}

/// A destination that can't be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkError {
    /// Whoever read the output has gone away.
    Closed,
    /// A file, or stdout.
    Unwritable {
        /// Its path, or `stdout`.
        path: PathBuf,
        /// Why, as the system says it.
        reason: String,
        /// Whether its disk is full.
        full: bool,
    },
}

impl SinkError {
    /// An error of a file.
    pub fn file(path: &Path, error: &std::io::Error) -> SinkError {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => SinkError::Closed,
            kind => SinkError::Unwritable {
                path: path.to_owned(),
                reason: error.to_string(),
                full: matches!(kind, std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded),
            },
        }
    }

    /// Whether the reader has gone away.
    pub fn is_closed(&self) -> bool {
        *self == SinkError::Closed
    }

    /// What to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            SinkError::Closed => None,
            SinkError::Unwritable { full: true, .. } => Some("make room on that disk, then start again".to_owned()),
            SinkError::Unwritable { .. } => Some("give a path in a folder that exists and may be written".to_owned()),
        }
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SinkError::Closed => f.write_str("the reader of the changes has gone away"),
            SinkError::Unwritable { path, reason, .. } => write!(f, "`{}` can't be written: {reason}", path.display()),
        }
    }
}

impl std::error::Error for SinkError {}
