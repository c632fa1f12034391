//! The port to the warehouse: a [`Warehouse`] opens a model's [`Snapshot`], whose pieces are read independently.
//!
//! Promises: the pieces of one snapshot are the same everywhere, so that workers share them by index; a file that is replaced
//! while it is read is an error, never a mixture. When to pull, and what to do with the rows, is decided by the caller.

use crate::value::ColumnType;
use arrow_array::{ArrayRef, StringArray};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Where the rows of one model are. Calls block.
pub trait Warehouse: Send {
    /// Lists what is there now and checks it against what is wanted.
    ///
    /// # Errors
    /// There is nothing to read, it can't be read, or its columns do not fit.
    fn open(&self, wanted: &Wanted) -> Result<Arc<dyn Snapshot>, SnapshotError>;

    /// Returns how a version differs from an earlier one, if that is known and less to read than the version is. Both were opened
    /// here for `wanted`, `to` last, and the caller still holds them.
    fn difference(&self, _from: &Version, _to: &Version, _wanted: &Wanted) -> Option<Difference> {
        None
    }
}

/// How a version of a table differs from an earlier one.
#[derive(Clone)]
pub struct Difference {
    /// The rows that the version has and the earlier one has not.
    pub added: Arc<dyn Snapshot>,
    /// The rows that the earlier version has and the version has not: their keys only. One that changed is in both.
    pub removed: Arc<dyn Snapshot>,
}

/// The content of a model at one time, checked and ready to be read.
pub trait Snapshot: Send + Sync {
    /// Returns the files, by path.
    fn files(&self) -> &[FileVersion];

    /// Returns the version of the table that it is; `None` where the files have no table with versions.
    fn version(&self) -> Option<&Version> {
        None
    }

    /// Returns the number of rows by the files' metadata, those without a key included. Only to size tables by: it may be wrong.
    fn rows(&self) -> u64;

    /// Returns the number of pieces.
    fn pieces(&self) -> usize;

    /// Returns the file that a piece is of, by its place in [`Snapshot::files`].
    ///
    /// # Panics
    /// Panics if `piece` is not below [`Snapshot::pieces`].
    fn file(&self, piece: usize) -> usize;

    /// Reads one piece, batch by batch. The iterator ends after its first error.
    ///
    /// # Errors
    /// The piece can't be opened; later errors are the iterator's.
    ///
    /// # Panics
    /// Panics if `piece` is not below [`Snapshot::pieces`].
    fn read(&self, piece: usize) -> Result<Batches, SnapshotError>;
}

/// The batches of one piece.
pub type Batches = Box<dyn Iterator<Item = Result<KeyedBatch, SnapshotError>>>;

/// Rows of a model, in the job's types.
#[derive(Clone, Debug)]
pub struct KeyedBatch {
    /// The keys: never null, never empty, at most 1,024 bytes. Integers by their decimal form.
    pub keys: StringArray,
    /// The parent's keys, if asked for: null where the file has null, an empty or a too long text.
    pub foreign_keys: Option<StringArray>,
    /// The columns, in the order of [`Wanted::columns`].
    pub columns: Vec<ArrayRef>,
    /// Rows of this batch that have no key and were left out.
    pub skipped: u64,
}

/// What of a model is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The column of the key.
    pub key: String,
    /// The column of the parent's key.
    pub foreign_key: Option<String>,
    /// The columns, and the types that they are to have.
    pub columns: Vec<(String, ColumnType)>,
    /// Those of them, the key and the foreign key included, whose type is not declared: it must be the same in all files.
    pub undeclared: BTreeSet<String>,
}

/// One version of one file. Equal versions have equal content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileVersion {
    /// The location as written, with what was found below it.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// The store's tag of the content, if it gives one.
    pub e_tag: Option<String>,
    /// When it was written, in ms since the epoch, if that is known.
    pub modified_ms: Option<i64>,
}

/// A version of a table, whose content never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// What identifies the table: another one in the same place has another id.
    pub table: String,
    /// Its number, from 0 on.
    pub number: u64,
}

/// Why a warehouse could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotError {
    /// What kind of failure it is.
    pub kind: SnapshotErrorKind,
    /// The file, or the location as written.
    pub at: String,
    /// What happened: lower case, names in backticks.
    pub what: String,
    /// What to do, where there is something to say.
    pub hint: Option<String>,
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SnapshotErrorKind {
    /// The location is not one that could ever be read: an unknown scheme, a store that is not configured.
    Location,
    /// The folder is one of a table format, whose files are not plain files.
    Table,
    /// No such file, or no file in the folder.
    Missing,
    /// The footer can't be read: truncated, or not Parquet.
    NotParquet,
    /// A wanted column is in no file, a key not in all, or one not unique.
    MissingColumn,
    /// A wanted column has a type that can't become the job's, or another than in another file.
    ChangedType,
    /// A page of a file can't be decoded, or has a value that no row of a job can have.
    Unreadable,
    /// A file is compressed or encrypted in a way that is not read.
    Unsupported,
    /// The file was replaced between the listing and the reading.
    Replaced,
    /// The store or the disk did not answer, or with an error.
    Network,
    /// Access is denied.
    Denied,
}

impl SnapshotError {
    /// Returns an error without a hint.
    pub fn new(kind: SnapshotErrorKind, at: &str, what: impl Into<String>) -> SnapshotError {
        SnapshotError { kind, at: at.to_owned(), what: what.into(), hint: None }
    }

    /// Returns the error with a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> SnapshotError {
        self.hint = Some(hint.into());
        self
    }

    /// Returns what happened, to what, without the hint.
    pub fn message(&self) -> String {
        format!("`{}`: {}", self.at, self.what)
    }
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for SnapshotError {}
