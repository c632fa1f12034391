//! What can be wrong with a snapshot.

use std::fmt;

/// A snapshot that can't be read, with the file and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotError {
    message: String,
    hint: Option<String>,
}

impl SnapshotError {
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> SnapshotError {
        SnapshotError { message: message.into(), hint: Some(hint.into()) }
    }

    pub(super) fn io(name: &str, error: &std::io::Error) -> SnapshotError {
        let hint = match error.kind() {
            std::io::ErrorKind::PermissionDenied => "the user that runs usher must be allowed to read it",
            _ => "give the path of a Parquet file, a folder of them, or a glob; relative paths are relative to the job file's folder",
        };
        SnapshotError::new(format!("`{name}` can't be read: {error}"), hint)
    }

    pub(super) fn not_parquet(name: &str, error: &dyn fmt::Display) -> SnapshotError {
        let hint = "it may still be being written, or be cut off: write to a name with a leading `_` or `.` and rename it when it is whole";
        SnapshotError::new(format!("`{name}` is no whole Parquet file: {error}"), hint)
    }

    pub(super) fn damaged(name: &str, error: &dyn fmt::Display) -> SnapshotError {
        SnapshotError::new(format!("`{name}` is damaged: {error}"), "its footer can be read but its data can't: write it again")
    }

    pub(super) fn no_column(name: &str, column: &str, names: &[&str]) -> SnapshotError {
        let near = names.iter().min_by_key(|name| strsim::osa_distance(name, column));
        let near = near.filter(|name| strsim::osa_distance(name, column) <= 2);
        let guess = near.map_or(String::new(), |name| format!("did you mean `{name}`? "));
        SnapshotError::new(format!("`{name}` has no column `{column}`"), format!("{guess}its columns are {}", names.join(", ")))
    }

    /// What to do.
    pub fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SnapshotError {}
