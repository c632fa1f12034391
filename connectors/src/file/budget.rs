//! Open files, and how many there may be at a time.
//!
//! A pipe is read without waiting for long: one whose writer writes nothing would hold up its worker.
//!
//! A process has a limit of open files. Partitions whose files are being read hold them open, as a log that is rotated asks for; beyond
//! the budget, each closes its file after every poll and opens it again at the next.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use std::fs::File;
use std::io::{self, Read};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Half of the usual soft limit of 1,024.
const OPEN_MAX_DEFAULT: usize = 512;

/// How long a pipe is waited for: its writer mostly has more by then.
const PIPE_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

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
pub struct OpenFile {
    file: File,
    /// It is a pipe, or a device.
    waits: bool,
}

impl OpenFile {
    /// Opens a file. Of a pipe no writer is waited for.
    pub fn open(path: &Path) -> io::Result<OpenFile> {
        let file = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
        let waits = !file.metadata()?.is_file();
        OPEN.fetch_add(1, Ordering::Relaxed);
        Ok(OpenFile { file, waits })
    }

    /// Returns whether it is a pipe or a device: then a read is [`io::ErrorKind::WouldBlock`] where nothing has come, and opening it again may miss
    /// what has been written.
    pub fn waits(&self) -> bool {
        self.waits
    }
}

impl Read for OpenFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // A pipe to which nobody has written yet has no end either: nothing is read of it then.
        if self.waits && poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&PIPE_WAIT))? == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.file.read(into)
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
        &self.file
    }
}

impl DerefMut for OpenFile {
    fn deref_mut(&mut self) -> &mut File {
        &mut self.file
    }
}
