//! Files that are there after a crash.
//!
//! What a function here has returned from survives a loss of power: content is synced, and so is the folder that names it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

/// Makes a folder and those above it, where they are missing.
pub(crate) fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent().filter(|above| !above.as_os_str().is_empty()) {
        create_folder(above)?;
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
        made => made?,
    }
    sync_folder_of(folder)
}

/// Makes what was created in, renamed into or removed from a file's folder last.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// A lock that is a file, held until this is dropped or the process ends, however it ends.
pub(crate) struct Lock(File);

impl Lock {
    /// Takes the lock at `path`, and writes who has it into it. `Err(Ok(holder))`: another has it, whose words are `holder`.
    pub fn take(path: &Path) -> Result<Lock, io::Result<String>> {
        let open = || File::options().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = open().map_err(Err)?;
        match file.try_lock() {
            Ok(()) => {
                let mut write = || {
                    file.set_len(0)?;
                    file.rewind()?;
                    write!(file, "process {}", std::process::id())
                };
                write().map_err(Err)?;
                Ok(Lock(file))
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                Err(file.read_to_string(&mut holder).map(|_| match holder.is_empty() {
                    true => "one that is just starting".to_owned(),
                    false => holder,
                }))
            }
            Err(TryLockError::Error(error)) => Err(Err(error)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough while a child that is just being started has a copy of it.
        let _ = self.0.unlock();
    }
}
