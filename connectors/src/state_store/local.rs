//! Objects as files of a folder of this machine.
//!
//! A file is written under another name, synced, linked to its own (which fails where there is one), and the folder synced: a
//! crash leaves it whole or not at all, and perhaps a leftover that the next start removes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::objects::Blobs;
use crate::disk;
use usher_core::store::StoreError;

/// The folder.
pub(super) struct Folder {
    folder: PathBuf,
    /// Of this process and no other.
    leftovers: String,
    written: AtomicU64,
    /// `None` if it is only read.
    _lock: Option<disk::Lock>,
}

impl Folder {
    /// Opens a folder, which is made where it is missing, and takes the lock of `process`.
    pub fn open(url: &str, folder: &Path, process: usize) -> Result<Folder, StoreError> {
        let failed =
            |error: io::Error| StoreError::Failed { url: url.to_owned(), action: "opened", reason: error.to_string() };
        for folder in [folder, &folder.join("manifests"), &folder.join("parts"), &folder.join("schemas")] {
            disk::create_folder(folder).map_err(failed)?;
        }
        let lock = disk::Lock::take(&folder.join(format!("lock-{process}"))).map_err(|taken| match taken {
            Ok(reason) => StoreError::Locked { url: url.to_owned(), reason },
            Err(error) => failed(error),
        })?;
        let leftovers = format!("new-{process}-");
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_string_lossy().starts_with(&leftovers) {
                disk::remove(&entry.path()).map_err(failed)?;
            }
        }
        Ok(Folder { folder: folder.to_owned(), leftovers, written: AtomicU64::new(0), _lock: Some(lock) })
    }

    /// Returns the folder of a process that may write to it, or of none, to read it. Nothing is made, locked or removed.
    pub fn open_to_read(folder: &Path) -> Folder {
        Folder { folder: folder.to_owned(), leftovers: String::new(), written: AtomicU64::new(0), _lock: None }
    }

    fn try_create(&self, to: &Path, bytes: &[u8]) -> io::Result<bool> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let new = self.folder.join(format!("{}{number}", self.leftovers));
        let written = (|| {
            let mut file = File::create(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            match fs::hard_link(&new, to) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                linked => linked.and_then(|()| disk::sync_folder_of(to)).map(|()| true),
            }
        })();
        // On a full disk all the more.
        let removed = disk::remove(&new);
        written.and_then(|created| removed.map(|()| created))
    }
}

impl Blobs for Folder {
    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, String> {
        self.try_create(&self.folder.join(name), bytes).map_err(|error| error.to_string())
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        match fs::read(self.folder.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, String> {
        let list = || -> io::Result<Vec<String>> {
            fs::read_dir(self.folder.join(folder))?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect()
        };
        list().map_err(|error| error.to_string())
    }

    fn remove(&self, name: &str) -> Result<(), String> {
        disk::remove(&self.folder.join(name)).map_err(|error| error.to_string())
    }
}
