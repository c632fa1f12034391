//! The folder of a table: its log is listed, small files are read whole, data files are found by their path in the log.

use std::fs;

use bytes::Bytes;
use usher_core::warehouse::{FileVersion, SnapshotError, SnapshotErrorKind};

use crate::parquet::location::Location;
use crate::parquet::tables::DELTA;
use crate::parquet::{Found, Handle, Reach, error, local, partitions};

/// The folder of a table.
#[derive(Clone, Copy)]
pub(super) struct Folder<'a> {
    pub location: &'a Location,
    pub reach: &'a Reach,
}

impl Folder<'_> {
    /// Returns a name below the folder as people see it.
    pub fn shown(&self, below: &str) -> String {
        format!("{}/{below}", self.location.shown)
    }

    /// Returns the path of a data file or a vector, as the log has it but decoded, as people see it.
    pub fn shown_file(&self, path: &str) -> String {
        if is_absolute(path) { path.to_owned() } else { self.shown(path) }
    }

    /// Lists the files right in the log's folder, by name; of a store those whose names come after `after` only. The path of each
    /// is its name.
    ///
    /// # Errors
    /// It can't be listed, or there is none.
    pub fn log(&self, after: Option<&str>) -> Result<Vec<FileVersion>, SnapshotError> {
        let mut files = match self.reach {
            Reach::Local(base) => {
                let of_io = |error: &std::io::Error| error::of_io(&self.shown(DELTA), error);
                fs::metadata(base).map_err(|error| local::of_base(self.location, base, &error))?;
                let entries = match fs::read_dir(base.join(DELTA)) {
                    Ok(entries) => entries,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(self.no_table()),
                    Err(error) => return Err(of_io(&error)),
                };
                let mut files = Vec::new();
                for entry in entries {
                    let entry = entry.map_err(|error| of_io(&error))?;
                    // A writer removes its temporary files meanwhile.
                    let Ok(meta) = fs::metadata(entry.path()) else { continue };
                    if meta.is_file() {
                        files.push(local::version(&entry.file_name().to_string_lossy(), entry.path(), &meta).version);
                    }
                }
                files
            }
            Reach::Store(store) => store.right_in(self.location, DELTA, after)?,
        };
        if files.is_empty() && after.is_none() {
            return Err(self.no_table());
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    fn no_table(&self) -> SnapshotError {
        SnapshotError::new(SnapshotErrorKind::Missing, &self.location.shown, "there is no `_delta_log` in this folder")
            .hint("`delta:` names the folder of a Delta table; plain files are read with `parquet:`")
    }

    /// Reads a file below the folder, by a path that is not encoded.
    ///
    /// # Errors
    /// It can't be read.
    pub fn whole(&self, below: &str) -> Result<Bytes, SnapshotError> {
        match self.reach {
            Reach::Local(base) => {
                let read = fs::read(base.join(below));
                read.map(Bytes::from).map_err(|error| error::of_io(&self.shown(below), &error))
            }
            Reach::Store(store) => store.whole(&self.shown(below), &self.in_store(below)?),
        }
    }

    /// Reads a file by its path in the log, decoded.
    ///
    /// # Errors
    /// It can't be read, or is in another store.
    pub fn whole_file(&self, path: &str) -> Result<Bytes, SnapshotError> {
        match self.reach {
            Reach::Local(base) => {
                let read = fs::read(base.join(self.local(path)?));
                read.map(Bytes::from).map_err(|error| error::of_io(&self.shown_file(path), &error))
            }
            Reach::Store(store) => store.whole(&self.shown_file(path), &self.in_store(path)?),
        }
    }

    /// Finds a data file by its path as the log has it, with its size in bytes.
    ///
    /// # Errors
    /// It is missing, has another size, or is in another store.
    pub fn file(&self, path: &str, size: u64, modified_ms: Option<i64>) -> Result<Found, SnapshotError> {
        let path = partitions::decoded(path);
        let shown = self.shown_file(&path);
        match self.reach {
            Reach::Local(base) => {
                let full = base.join(self.local(&path)?);
                let meta = fs::metadata(&full).map_err(|error| error::of_io(&shown, &error))?;
                if meta.len() != size {
                    let what = format!("the file has {} bytes, and the table's log says {size}", meta.len());
                    return Err(SnapshotError::new(SnapshotErrorKind::NotParquet, &shown, what).hint(error::DAMAGED));
                }
                Ok(local::version(&shown, full, &meta))
            }
            Reach::Store(store) => {
                let handle = Handle::Store(std::sync::Arc::clone(store), self.in_store(&path)?);
                Ok(Found { version: FileVersion { path: shown, size, e_tag: None, modified_ms }, handle })
            }
        }
    }

    /// Returns a path of this machine, below the folder or absolute.
    fn local<'p>(&self, path: &'p str) -> Result<&'p str, SnapshotError> {
        let path = path.strip_prefix("file://").or_else(|| path.strip_prefix("file:")).unwrap_or(path);
        if path.contains("://") { Err(elsewhere(path)) } else { Ok(path) }
    }

    /// Returns a path in the store of the table.
    fn in_store(&self, path: &str) -> Result<object_store::path::Path, SnapshotError> {
        let inside = match is_absolute(path) {
            false => self.shown(path),
            true => path.replacen("s3a://", "s3://", 1),
        };
        // The scheme and the bucket or host.
        let root = self.location.shown.split('/').take(3).collect::<Vec<_>>().join("/");
        let below = inside.strip_prefix(&root).and_then(|below| below.strip_prefix('/'));
        let below = below.ok_or_else(|| elsewhere(path))?;
        object_store::path::Path::parse(below).map_err(|error| error::of_client(path, &error))
    }
}

/// Returns whether a path of the log is not below the table's folder.
fn is_absolute(path: &str) -> bool {
    path.starts_with('/') || path.contains("://") || path.starts_with("file:")
}

fn elsewhere(path: &str) -> SnapshotError {
    let what = "the file is in another store than the table, which is not supported";
    error::unsupported(path, what, "copy the table with its files (a deep clone) into one bucket or folder")
}
