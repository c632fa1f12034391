//! Delta tables: the files, the rows of them that count, and the columns, that a table's log gives for one version.
//!
//! Promises: what is read is one version, whatever is written meanwhile; of a log that was read before, only the entries that are new;
//! a version that was opened before is not opened again, and of a later one only the footers of new files are read; how it differs from an
//! earlier one ([`difference`]) is known while that one is held. Deletion
//! vectors, column mapping by name and by id, partition values, and checkpoints of both kinds count.
//!
//! Refuses: a table that needs a feature of readers that is not known here, by its name; an entry of the log, a checkpoint or a
//! deletion vector that can't be decoded; a version whose entries or files are gone.
//!
//! The log is read by this program's own code, not by a library: the reader of its files is the one of plain Parquet, and what
//! remains is JSON lines, the checkpoint's rows, and bitmaps, which are the crate `roaring`'s.

mod actions;
mod checkpoint;
pub(super) mod columns;
pub(super) mod deletion;
pub(super) mod difference;
mod folder;
mod log;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use usher_config::TableVersion;
use usher_core::lock::lock;
use usher_core::warehouse::{FileVersion, SnapshotError, SnapshotErrorKind, Version, Wanted};

use super::location::Location;
use super::{Found, ParquetSnapshot, Reach};
use actions::{Action, FileName};
use columns::TableColumns;
use deletion::Deleted;
use difference::{Differences, OfTable};
use folder::Folder;
use log::Replayed;

/// How often a pull of the newest version begins anew because files that it names are gone.
const OPENINGS: usize = 3;

/// Which version of a table is read, and what is known of it from the last time.
#[derive(Clone, Debug)]
pub(super) struct Delta {
    at: TableVersion,
    last: Arc<Mutex<Last>>,
}

/// What was read last.
#[derive(Debug, Default)]
struct Last {
    log: Option<Replayed>,
    opened: Option<(Wanted, Arc<ParquetSnapshot>)>,
    /// What was opened before, where it is still held elsewhere.
    earlier: Vec<(Wanted, Weak<ParquetSnapshot>)>,
}

/// A version of a table.
#[derive(Debug)]
pub(super) struct Table {
    pub version: Version,
    pub entry: Option<FileVersion>,
    pub columns: Arc<TableColumns>,
    /// By path.
    pub files: Vec<(Found, TableFile)>,
}

/// What a table says of one of its files.
#[derive(Clone, Debug)]
pub(super) struct TableFile {
    pub name: FileName,
    pub columns: Arc<TableColumns>,
    /// The values of partition columns, by their physical names; `None` for null.
    pub partition: BTreeMap<String, Option<String>>,
    /// The rows that are deleted.
    pub deleted: Option<Deleted>,
}

impl Delta {
    pub(super) fn new(at: TableVersion) -> Delta {
        Delta { at, last: Arc::default() }
    }

    /// Returns the same table, and what is known of it, at another version.
    #[cfg(test)]
    pub(super) fn with_version(&self, at: TableVersion) -> Delta {
        Delta { at, last: Arc::clone(&self.last) }
    }

    /// Returns the columns of the version that a pull would read.
    ///
    /// # Errors
    /// The log can't be read, or it needs what is not read here.
    pub(super) fn columns(&self, location: &Location, reach: &Reach) -> Result<Arc<TableColumns>, SnapshotError> {
        let folder = Folder { location, reach };
        let replayed = log::read(&folder, self.at, lock(&self.last).log.take())?;
        let columns = replayed.state.columns(&folder)?;
        lock(&self.last).log = Some(replayed);
        Ok(Arc::new(columns))
    }

    /// Opens the version that a pull reads by `open`, which is given the snapshot that was opened last.
    ///
    /// # Errors
    /// The log can't be read, or it needs what is not read here; and those of `open`. Where a file of the newest version is gone, the
    /// version that is then the newest is opened.
    pub(super) fn open(
        &self,
        location: &Location,
        reach: &Reach,
        wanted: &Wanted,
        open: impl Fn(Table, Option<&ParquetSnapshot>) -> Result<ParquetSnapshot, SnapshotError>,
    ) -> Result<Arc<ParquetSnapshot>, SnapshotError> {
        let folder = Folder { location, reach };
        let mut guard = lock(&self.last);
        let last = &mut *guard;
        let mut gone: Option<(u64, SnapshotError)> = None;
        for _ in 0..OPENINGS {
            let replayed = log::read(&folder, self.at, last.log.take())?;
            let version = replayed.version();
            if let Some((_, error)) = gone.take_if(|(number, _)| *number == version.number) {
                return Err(error);
            }
            let replayed = last.log.insert(replayed);
            if let Some((of, opened)) = &last.opened
                && of == wanted
                && opened.version.as_ref() == Some(&version)
            {
                return Ok(Arc::clone(opened));
            }
            let number = version.number;
            let before = last.opened.as_ref().map(|(_, opened)| &**opened);
            let opened =
                replayed.state.table(&folder, version, replayed.entry.clone()).and_then(|table| open(table, before));
            match opened {
                Ok(opened) => {
                    let opened = Arc::new(opened);
                    let before = last.opened.replace((wanted.clone(), Arc::clone(&opened)));
                    last.earlier.extend(before.map(|(wanted, before)| (wanted, Arc::downgrade(&before))));
                    last.earlier.retain(|(_, before)| before.strong_count() > 0);
                    return Ok(opened);
                }
                Err(error) if error.kind == SnapshotErrorKind::Missing => gone = Some((number, of_gone(number, error))),
                Err(error) => return Err(error),
            }
        }
        let (_, error) = gone.expect("an opening that did not return was of a version with a missing file");
        Err(error)
    }
}

/// Two versions of a table, and how the later one differs.
pub(super) struct Between {
    pub from: Arc<ParquetSnapshot>,
    pub to: Arc<ParquetSnapshot>,
    pub differences: Differences,
}

impl Delta {
    /// Returns how the version that was opened last differs from one that was opened before and is still held; `None` if that is not known.
    pub(super) fn between(
        &self,
        location: &Location,
        reach: &Reach,
        (from, to): (&Version, &Version),
        wanted: &Wanted,
    ) -> Option<Between> {
        let last = lock(&self.last);
        let is = |of: &Wanted, opened: &ParquetSnapshot, version: &Version| {
            of == wanted && opened.version.as_ref() == Some(version)
        };
        let (_, to) = last.opened.as_ref().filter(|(of, opened)| is(of, opened, to))?;
        let mut earlier = last.earlier.iter().filter_map(|(of, before)| Some((of, before.upgrade()?)));
        let (_, from) = earlier.find(|(of, before)| is(of, before, from))?;
        let of_table = |opened: &ParquetSnapshot| Some(opened.version.as_ref()?.number);
        let (before, after) = (of_table(&from)?, of_table(to)?);
        let same_table = from.version.as_ref()?.table == to.version.as_ref()?.table && before < after;
        let (was, is): (&OfTable, &OfTable) = (from.of_table.as_ref()?, to.of_table.as_ref()?);
        let folder = Folder { location, reach };
        let rows = |at: usize| to.opened[at].rows();
        let differences = same_table.then(|| difference::between(&folder, (before, was), (after, is), rows))??;
        Some(Between { from, to: Arc::clone(to), differences })
    }
}

/// Returns the error of a file that a version names and that is missing.
pub(super) fn of_gone(version: u64, error: SnapshotError) -> SnapshotError {
    if error.kind != SnapshotErrorKind::Missing {
        return error;
    }
    let what = format!("the file is gone, and version {version} of the table names it");
    SnapshotError::new(SnapshotErrorKind::Missing, &error.at, what).hint(
        "a vacuum removes files of old versions: read a newer version, or keep files for longer than a pull takes",
    )
}

/// Returns the error of a part of the log, or of a deletion vector, that can't be decoded.
fn damaged(at: &str, what: impl Into<String>) -> SnapshotError {
    SnapshotError::new(SnapshotErrorKind::Unreadable, at, what).hint(
        "restore the file from a backup, or the table from an earlier version; a pull does not guess what it said",
    )
}
