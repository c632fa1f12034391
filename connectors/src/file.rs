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
mod followed;
mod input;
mod notices;
mod partition;
mod past;
mod tail;

pub use budget::hold_at_most;
pub use find::reads;
use find::{Kind, Listed, beside, kind_of, list, unreadable};
use followed::{Claim, Followed, is_of_another};
use partition::FilePartition;
use past::History;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tail::Mark;
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

/// Where files are, and how long they are.
type Places = BTreeMap<Identity, (PathBuf, u64)>;

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
    /// Names of files that are other partitions', with what they are.
    renamed: BTreeMap<PathBuf, Identity>,
    /// Names of those that came later and can't be read.
    refused: BTreeSet<PathBuf>,
    followed: Followed,
    /// The files by partition, as they were when they were found.
    found: BTreeMap<PartitionId, Listed>,
    /// Where all files were when they were listed last.
    places: Places,
    /// Where all files are of folders of files that may have been renamed to other names than the source's.
    beside: BTreeMap<PathBuf, Places>,
    /// What an earlier run has read, where it was followed; `None` if that was not told.
    resumed: Option<BTreeMap<PartitionId, (u64, History)>>,
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
        renamed: BTreeMap::new(),
        refused: BTreeSet::new(),
        followed: Followed::default(),
        found: BTreeMap::new(),
        places: Places::new(),
        beside: BTreeMap::new(),
        resumed: None,
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

    /// Takes up which file each partition of a followed source read: one that has another name now stays with the partition that read it.
    fn resume(&mut self, read: &[(PartitionId, Resume)]) {
        if !self.follow || self.resumed.is_some() {
            return;
        }
        let records = read.iter().filter(|(id, _)| id.source == self.source_id);
        let records =
            records.filter_map(|(id, from)| Some((id.clone(), (from.position, History::parse(&from.identity)?))));
        let records: BTreeMap<_, _> = records.collect();
        // A file that a partition was reading is that one's, whatever others have read of it before.
        let of_past = |(id, (_, record)): (&PartitionId, &(u64, History))| {
            let past = record.past.iter().map(|stretch| (stretch.file, stretch.mark));
            past.map(|(file, mark)| (file, id.name.clone(), mark)).collect::<Vec<_>>()
        };
        let of_now = |(id, (position, record)): (&PartitionId, &(u64, History))| {
            record.is_read(*position).then(|| (record.file, id.name.clone(), record.mark))
        };
        let claims = records.iter().flat_map(of_past).collect::<Vec<_>>();
        for (file, by, mark) in claims.into_iter().chain(records.iter().filter_map(of_now)) {
            if self.kind == Kind::File || self.places.contains_key(&file) {
                lock(&self.followed).insert(file, Claim { by, held: false, mark });
            }
        }
        let followed = &self.followed;
        self.found.retain(|id, file| {
            let is_renamed = !records.contains_key(id)
                && file.identity.is_some_and(|file_is| is_of_another(followed, &id.name, &file.path, file_is));
            if is_renamed {
                tracing::info!(path = %file.path.display(), "a file that was followed has a new name");
                self.renamed.insert(file.path.clone(), file.identity.expect("it was looked up by it"));
            }
            !is_renamed
        });
        for (id, (_, record)) in &records {
            if self.found.contains_key(id) {
                continue;
            }
            let path = self.folder.join(&id.name);
            if !self.places_of(&path, record).is_empty() {
                self.found.insert(id.clone(), Listed { path, size: None, identity: None });
            }
        }
        self.resumed = Some(records);
    }

    /// Looks for new files under `follow`, in a folder or a glob. A file that was renamed while it was followed is not new.
    fn discover(&mut self) -> Result<Vec<PartitionId>, SourceError> {
        self.beside.clear();
        if self.kind == Kind::File {
            lock(&self.followed).retain(|_, claim| claim.held);
        }
        if !self.follow || self.kind == Kind::File {
            return Ok(Vec::new());
        }
        self.find(true)
    }

    fn open(&mut self, id: &PartitionId, from: Option<&Resume>) -> Result<Box<dyn Partition>, SourceError> {
        let file = self.found.get(id).expect("a partition is opened by a known id").clone();
        let buffer = (BUFFERS_BYTES / self.found.len().max(1)).clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_MAX);
        let path = file.path.clone();
        let mut partition =
            FilePartition::new(id.clone(), file, self.follow, self.message_bytes, buffer, &self.followed);
        let Some(from) = from else {
            if let Some((position, record)) = self.resumed.as_ref().and_then(|resumed| resumed.get(id)).cloned() {
                let places = self.places_of(&path, &record);
                partition.read_again(position, record, places);
            }
            return Ok(Box::new(partition));
        };
        let Some(record) = History::parse(&from.identity) else {
            return Err(SourceError::Unlike {
                id: id.source.clone(),
                partition: id.name.clone(),
                found: "is a file".to_owned(),
                read: format!("`{}`", from.identity),
            });
        };
        let places = if self.follow { self.places_of(&path, &record) } else { Places::new() };
        partition.resume(from.position, record, places)?;
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
        let mut new = BTreeMap::new();
        self.places.clear();
        for file in listed {
            if let (Some(identity), Some(size)) = (file.identity, file.size) {
                self.places.insert(identity, (file.path.clone(), size));
            }
            let name = file.path.strip_prefix(&self.folder).unwrap_or(&file.path).to_string_lossy().into_owned();
            let id = PartitionId { source: self.source_id.clone(), name };
            if self.found.contains_key(&id) || self.is_renamed(&file, &id.name) {
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
            new.insert(id, file);
        }
        // Inodes are used again: one that no file has and nobody reads is forgotten.
        let places = &self.places;
        self.renamed.retain(|_, identity| places.contains_key(identity));
        lock(&self.followed).retain(|identity, claim| claim.held || places.contains_key(identity));
        Ok(new)
    }

    /// Returns whether a partition of another name than the file's reads it, or has read it.
    fn is_renamed(&mut self, file: &Listed, name: &str) -> bool {
        let Some(identity) = file.identity else { return false };
        let is_known = || {
            let followed = lock(&self.followed);
            let claim = followed.get(&identity).filter(|claim| claim.by != name)?;
            let is_long_enough = |mark: Mark| file.size.is_some_and(|size| size >= mark.offset);
            Some(claim.mark.is_none_or(is_long_enough))
        };
        if self.renamed.get(&file.path) == Some(&identity) && is_known() == Some(true) {
            return true;
        }
        if !is_of_another(&self.followed, name, &file.path, identity) {
            self.renamed.remove(&file.path);
            return false;
        }
        if self.renamed.insert(file.path.clone(), identity) != Some(identity) {
            tracing::info!(path = %file.path.display(), "a file that was followed has a new name");
        }
        true
    }

    /// Returns where the files of a partition are, as far as they are there: in the source, or in the folder of its path.
    fn places_of(&mut self, path: &Path, record: &History) -> Places {
        let mut found = Places::new();
        for (file, _) in record.files() {
            let place = self.places.get(&file).or_else(|| {
                let folder = path.parent().unwrap_or(Path::new("."));
                self.beside.entry(folder.to_owned()).or_insert_with(|| beside(folder)).get(&file)
            });
            found.extend(place.map(|place| (file, place.clone())));
        }
        found
    }
}

#[cfg(test)]
mod tests;
