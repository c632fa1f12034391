//! How many files may be open at a time.
//!
//! A process has a limit of open files. Partitions whose files are being read hold them open, as a log that is rotated asks for; beyond
//! the budget, each closes its file after every poll and opens it again at the next.

use std::fs::File;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Half of the usual soft limit of 1,024.
const OPEN_MAX_DEFAULT: usize = 512;

/// Files that partitions of this process hold open.
static OPEN: AtomicUsize = AtomicUsize::new(0);
/// The most of them.
static OPEN_MAX: AtomicUsize = AtomicUsize::new(OPEN_MAX_DEFAULT);

/// Sets how many files the partitions of this process hold open: half of what the system lets it open leaves room for all else.
pub fn hold_at_most(files: usize) {
    OPEN_MAX.store(files, Ordering::Relaxed);
}

/// Returns whether more files are held open than may be.
pub fn is_exceeded() -> bool {
    OPEN.load(Ordering::Relaxed) > OPEN_MAX.load(Ordering::Relaxed)
}

/// An open file that counts.
pub struct OpenFile(File);

impl OpenFile {
    /// Counts a file.
    pub fn new(file: File) -> OpenFile {
        OPEN.fetch_add(1, Ordering::Relaxed);
        OpenFile(file)
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Deref for OpenFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl DerefMut for OpenFile {
    fn deref_mut(&mut self) -> &mut File {
        &mut self.0
    }
}
