//! Files of lines as a source: each file is a partition.
//!
//! A path may name a file, a folder (all files below it; names with a leading `_` or `.` are left out) or a glob. Files
//! that end in `.gz` or `.zst` are decoded. With `follow` they are read on as `tail -F` does: what is appended comes, a
//! file that was cut starts again, one that was replaced is finished first, and files that appear are taken up;
//! compressed ones are read once.
//!
//! Refuses: waiting. Positions are offsets of decoded bytes since the partition was opened, across replacements.

mod lines;

use crate::source::{Partition, PartitionId, SourceError};
use lines::Lines;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The files of a source.
pub struct Files {
    source: String,
    path: PathBuf,
    follow: bool,
    message_bytes: usize,
    found: Vec<Box<dyn Partition>>,
    known: BTreeSet<PathBuf>,
}

/// Opens the files of a source; `path` is as in the job file, relative to `folder`.
///
/// # Errors
/// Nothing is there, or a file can't be opened. A single file that is followed may come later.
pub fn open_files(source: &str, path: &str, folder: &Path, follow: bool, message_bytes: u64) -> Result<Files, SourceError> {
    let path = folder.join(path);
    let mut files = Files {
        source: source.to_owned(),
        path,
        follow,
        message_bytes: usize::try_from(message_bytes).unwrap_or(usize::MAX),
        found: Vec::new(),
        known: BTreeSet::new(),
    };
    files.found = files.discover()?;
    if files.found.is_empty() && !follow {
        return Err(SourceError {
            message: format!("source `{source}`: no file at `{}`", files.path.display()),
            hint: Some("a path is relative to the job file's folder; it may be a file, a folder or a glob".to_owned()),
        });
    }
    Ok(files)
}

impl Files {
    /// The files that were there at the start, by path.
    pub fn partitions(&mut self) -> Vec<Box<dyn Partition>> {
        std::mem::take(&mut self.found)
    }

    /// Files that have come since, by path; only where they are followed.
    ///
    /// # Errors
    /// A file can't be opened.
    pub fn discover(&mut self) -> Result<Vec<Box<dyn Partition>>, SourceError> {
        if !self.follow && !self.known.is_empty() {
            return Ok(Vec::new());
        }
        let mut partitions: Vec<Box<dyn Partition>> = Vec::new();
        for path in self.list()? {
            if self.known.insert(path.clone()) {
                let id = PartitionId { source: self.source.clone(), name: path.display().to_string() };
                partitions.push(Box::new(Lines::open(id, path, self.follow, self.message_bytes)?));
            }
        }
        Ok(partitions)
    }

    /// The paths that the source's path means now, sorted.
    fn list(&self) -> Result<BTreeSet<PathBuf>, SourceError> {
        let error = |message: String| SourceError { message: format!("source `{}`: {message}", self.source), hint: None };
        let pattern = self.path.to_string_lossy();
        if self.path.is_dir() {
            let mut found = BTreeSet::new();
            below(&self.path, &mut found).map_err(|e| error(format!("`{pattern}` can't be listed: {e}")))?;
            return Ok(found);
        }
        if !pattern.contains(['*', '?', '[']) || self.path.exists() {
            // A file that is followed may come later.
            return Ok(if self.follow || self.path.exists() { [self.path.clone()].into() } else { BTreeSet::new() });
        }
        let paths = glob::glob(&pattern).map_err(|e| error(format!("`{pattern}` is no glob: {e}")))?;
        let paths = paths.map(|path| path.map_err(|e| error(e.to_string()))).collect::<Result<BTreeSet<_>, _>>()?;
        Ok(paths.into_iter().filter(|path| path.is_file()).collect())
    }
}

/// All files below a folder but those that are hidden or being written.
fn below(folder: &Path, found: &mut BTreeSet<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(['_', '.']) {
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            below(&path, found)?;
        } else {
            found.insert(path);
        }
    }
    Ok(())
}
