//! The file source: a file, a folder or a glob; each file is a partition of lines.
//!
//! * A **file** is read whatever its name. With `follow` it may come later: then it is waited for.
//! * A **folder** means all files below it; names (of files and folders) with a leading `_` or `.` are skipped.
//! * A **glob** has `*`, `?` or `[`, and no file of that very name exists. `*` and `?` don't match a `/`, nor a
//!   leading `.`; `**` matches folders. Folders that match are skipped.
//!
//! Content that is compressed with gzip or zstd is known by its first bytes, whatever the name, and decompressed, all its members or
//! frames; it is read once, also under `follow`. Partitions are sorted by path. A partition's name is its path relative to the job's folder where it lies
//! below it, so that results don't depend on where a job is kept.
//!
//! Without `follow`, a path that matches nothing is an error. Files are opened when first polled and closed at their
//! end; that they can be opened is tried at once. Any number of files can be read: [`hold_at_most`] sets how many are held open
//! between two polls. A file that comes later and can't be read is left out with a warning, and tried again.

mod budget;
mod find;
mod input;
mod notices;
mod partition;
mod tail;

pub use budget::hold_at_most;
pub use find::reads;
use find::{Kind, Listed, kind_of, list, unreadable};
use partition::FilePartition;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use usher_core::lock::lock;
use usher_core::source::{Partition, PartitionId, Resume, Source, SourceError};

/// All buffers of a source together, about: 64 MiB. More files have smaller ones.
const BUFFERS_BYTES: usize = 64 << 20;
/// The smallest buffer: 16 KiB, some lines of a usual length.
const BUFFER_BYTES_MIN: usize = 16 << 10;
/// The largest buffer: 256 KiB, so that what was read is still in the second-level cache when it is parsed.
const BUFFER_BYTES_MAX: usize = 256 << 10;

/// Device and inode: what a file is, whatever it is called.
type Identity = (u64, u64);

/// Files that are or were followed, and whether a partition holds them open now.
///
/// A file that a rotation has renamed to another name of the same folder or glob is known by it, and not read twice.
type Followed = Arc<Mutex<BTreeMap<Identity, bool>>>;

/// The files of one source.
pub struct Files {
    source_id: String,
    /// As the job file has it.
    path: String,
    folder: PathBuf,
    follow: bool,
    /// The longest message.
    message_bytes: usize,
    kind: Kind,
    /// Names of all files ever seen.
    known: BTreeSet<PathBuf>,
    /// Names of those that came later and can't be read.
    refused: BTreeSet<PathBuf>,
    followed: Followed,
    /// The files by partition, as they were when they were found.
    found: BTreeMap<PartitionId, Listed>,
}

/// Opens the files of a `file` source.
///
/// `path` is as the job file has it, relative to `folder`; messages longer than `message_bytes` come as too large.
/// Fails where nothing matches (without `follow`), and where a file or folder can't be read.
pub fn open_files(
    source_id: &str,
    path: &str,
    folder: &Path,
    follow: bool,
    message_bytes: u64,
) -> Result<Files, SourceError> {
    let mut files = Files {
        source_id: source_id.to_string(),
        path: path.to_string(),
        folder: folder.to_path_buf(),
        follow,
        message_bytes: usize::try_from(message_bytes).unwrap_or(usize::MAX),
        kind: kind_of(&folder.join(path), path),
        known: BTreeSet::new(),
        refused: BTreeSet::new(),
        followed: Followed::default(),
        found: BTreeMap::new(),
    };
    files.find(false)?;
    if files.found.is_empty() {
        if !follow {
            return Err(SourceError::NoFile {
                id: files.source_id,
                path: files.path,
                folder: folder.display().to_string(),
            });
        }
        tracing::warn!(source = %source_id, path, "no file matches yet; waiting for one");
    }
    Ok(files)
}

impl Source for Files {
    fn partitions(&self) -> Vec<PartitionId> {
        self.found.keys().cloned().collect()
    }

    /// Looks for new files under `follow`, in a folder or a glob. A file that was renamed while it was followed is not new.
    fn discover(&mut self) -> Result<Vec<PartitionId>, SourceError> {
        if !self.follow || self.kind == Kind::File {
            return Ok(Vec::new());
        }
        self.find(true)
    }

    fn open(&mut self, id: &PartitionId, from: Option<&Resume>) -> Result<Box<dyn Partition>, SourceError> {
        let file = self.found.get(id).expect("a partition is opened by a known id").clone();
        let buffer = (BUFFERS_BYTES / self.known.len().max(1)).clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_MAX);
        let mut partition =
            FilePartition::new(id.clone(), file, self.follow, self.message_bytes, buffer, &self.followed);
        if let Some(from) = from {
            partition.resume(from)?;
        }
        Ok(Box::new(partition))
    }
}

impl Files {
    /// Adds the files that are not yet known, and returns them. `later`: one that can't be read is left out.
    fn find(&mut self, later: bool) -> Result<Vec<PartitionId>, SourceError> {
        let new = self.new_files(later)?;
        let ids = new.keys().cloned().collect();
        self.found.extend(new);
        Ok(ids)
    }

    /// Returns the files that are not yet known.
    fn new_files(&mut self, later: bool) -> Result<BTreeMap<PartitionId, Listed>, SourceError> {
        let listed = list(self.kind, &self.source_id, &self.path, &self.folder, self.follow)?;
        let mut new = Vec::new();
        let mut identities = BTreeSet::new();
        for file in listed {
            identities.extend(file.identity);
            if self.known.contains(&file.path) {
                continue;
            }
            if let Some(error) = file.try_open() {
                let error = unreadable(&self.source_id, &file.path, &error);
                if !later {
                    return Err(error);
                }
                if self.refused.insert(file.path) {
                    tracing::warn!("{error}; it is tried again");
                }
                continue;
            }
            self.known.insert(file.path.clone());
            let followed = lock(&self.followed);
            if file.identity.is_some_and(|identity| followed.contains_key(&identity)) {
                tracing::info!(path = %file.path.display(), "a file that was followed has a new name");
                continue;
            }
            new.push(file);
        }
        // Inodes are used again: one that no file has and nobody reads is forgotten.
        lock(&self.followed).retain(|identity, held| *held || identities.contains(identity));
        let named = new.into_iter().map(|file| {
            let name = file.path.strip_prefix(&self.folder).unwrap_or(&file.path);
            (PartitionId { source: self.source_id.clone(), name: name.to_string_lossy().into_owned() }, file)
        });
        Ok(named.collect())
    }
}

#[cfg(test)]
mod tests;
