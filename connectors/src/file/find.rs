//! Which files a path of the job file means.

use super::Identity;
use glob::{MatchOptions, Pattern};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use usher_core::source::SourceError;

/// What kind of path it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Folder,
    Glob,
}

/// A file that a path means.
#[derive(Clone, Debug)]
pub struct Listed {
    pub path: PathBuf,
    /// Bytes stored, where it is a regular file; `None` where it is another (a pipe), or not there yet.
    pub size: Option<u64>,
    /// Device and inode; `None` where it is not there yet.
    pub identity: Option<Identity>,
}

/// The kind of `path`, as written `text`.
pub fn kind_of(path: &Path, text: &str) -> Kind {
    if path.is_dir() || text.ends_with('/') {
        Kind::Folder
    } else if text.contains(['*', '?', '[']) && !path.exists() {
        Kind::Glob
    } else {
        Kind::File
    }
}

impl Listed {
    /// Returns why the file can't be opened.
    pub fn try_open(&self) -> Option<io::Error> {
        // Opening a pipe would wait for its writer, and closing it would end it.
        self.size.and_then(|_| File::open(&self.path).err())
    }
}

/// The files that `path` in `folder` means now, in no order.
///
/// A single file that is not there is listed under `follow`, and left out otherwise.
pub fn list(kind: Kind, id: &str, path: &str, folder: &Path, follow: bool) -> Result<Vec<Listed>, SourceError> {
    let unreadable = |path: &Path, error: &io::Error| unreadable(id, path, error);
    let full = folder.join(path);
    let mut paths = Vec::new();
    match kind {
        Kind::File => paths.push(full),
        Kind::Folder => {
            below(&full, &mut paths).map_err(|(path, error)| unreadable(&path, &error))?;
        }
        Kind::Glob => {
            // The folder's own name may hold `*`; a path that starts with `/` takes no part of it.
            let pattern = Path::new(&Pattern::escape(&folder.to_string_lossy())).join(path);
            let found = glob::glob_with(&pattern.to_string_lossy(), OPTIONS).map_err(|error| SourceError::Pattern {
                id: id.to_string(),
                path: path.to_string(),
                reason: error.msg.to_string(),
            })?;
            for entry in found {
                let entry = entry.map_err(|error| unreadable(error.path(), error.error()))?;
                if !entry.is_dir() {
                    paths.push(entry);
                }
            }
        }
    }
    let mut listed = Vec::with_capacity(paths.len());
    for path in paths {
        match fs::metadata(&path) {
            Ok(metadata) => {
                let size = metadata.is_file().then_some(metadata.len());
                listed.push(Listed { path, size, identity: Some(identity(&metadata)) });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if kind == Kind::File && follow {
                    tracing::warn!(path = %path.display(), "the file is not there yet; waiting for it");
                    listed.push(Listed { path, size: None, identity: None });
                }
            }
            Err(error) => return Err(unreadable(&path, &error)),
        }
    }
    Ok(listed)
}

/// The regular files in a folder, by what they are, with their lengths; none if it can't be listed.
pub fn beside(folder: &Path) -> BTreeMap<Identity, (PathBuf, u64)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| {
        let metadata = fs::metadata(entry.path()).ok().filter(fs::Metadata::is_file)?;
        Some((identity(&metadata), (entry.path(), metadata.len())))
    });
    files.collect()
}

/// How globs match.
const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// Returns whether a source with that path reads a file, be it there or not. Both paths are relative to `folder`.
pub fn reads(path: &str, file: &str, folder: &Path) -> bool {
    let (full, file) = (absolute(&folder.join(path)), absolute(&folder.join(file)));
    if full == file {
        return true;
    }
    match kind_of(&folder.join(path), path) {
        Kind::File => false,
        Kind::Folder => file
            .strip_prefix(&full)
            .is_ok_and(|below| !below.iter().any(|name| matches!(name.as_encoded_bytes().first(), Some(b'_' | b'.')))),
        Kind::Glob => {
            let folder = absolute(folder);
            let pattern = plain(&Path::new(&Pattern::escape(&folder.to_string_lossy())).join(path), false);
            Pattern::new(&pattern.to_string_lossy()).is_ok_and(|pattern| pattern.matches_path_with(&file, OPTIONS))
        }
    }
}

/// Returns a path from the root, its links resolved as far as they are there.
fn absolute(path: &Path) -> PathBuf {
    plain(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()), true)
}

/// Returns a path without `.` and `..`. `resolve`: and without links.
fn plain(path: &Path, resolve: bool) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
        if resolve && let Ok(resolved) = plain.canonicalize() {
            plain = resolved;
        }
    }
    plain
}

/// All files below `folder`, but for names with a leading `_` or `.`.
fn below(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<(), (PathBuf, io::Error)> {
    let at = |error| (folder.to_path_buf(), error);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(at)?,
    };
    for entry in entries {
        let entry = entry.map_err(at)?;
        let name = entry.file_name();
        if matches!(name.as_encoded_bytes().first(), Some(b'_' | b'.')) {
            continue;
        }
        let path = entry.path();
        // Links are followed to files but not to folders: they could lead back up.
        let kind = entry.file_type().map_err(at)?;
        if kind.is_dir() {
            below(&path, paths)?;
        } else if path.is_file() {
            paths.push(path);
        }
    }
    Ok(())
}

/// The system's refusal to read `path`.
pub fn unreadable(id: &str, path: &Path, error: &io::Error) -> SourceError {
    SourceError::Unreadable { id: id.to_string(), path: path.display().to_string(), reason: error.to_string() }
}

/// Device and inode.
pub fn identity(metadata: &fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}
