//! The log's files: their names, their heads, and their blocks one after another.
//!
//! A position counts the bytes of all segments ever, heads included. `POSITION.log` (20 digits) is the segment that begins there, and
//! the next begins where it ends; `POSITION.snapshot` holds an entry for each membership that all records before that position
//! add up to. Each begins with (integers little endian)
//!
//! ```text
//!  0  4 bytes   `USHT`
//!  4  u32       format version, 2; 1 is read too
//!  8  u64       its position
//! 16  u64       a snapshot's length in bytes; a segment's 0
//! 24  u64       a snapshot's greatest `at`; a segment's 0
//! 32  u64       XXH3 (64 bits, seed 0) of the 32 bytes before
//! 40  blocks
//! ```
//!
//! A block's position, in its checksum, is that of its first byte in the segment; in a snapshot, its offset in the file.

use super::block;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use usher_core::sink::SinkError;
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: [u8; 4] = *b"USHT";
pub(crate) const VERSION: u32 = 2;
/// Bytes before the first block.
pub(crate) const HEAD_BYTES: u64 = 40;
/// Read at once: small blocks cost no call each.
const READ_BYTES: usize = 256 << 10;

/// What a file of the log begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub version: u32,
    pub position: u64,
    pub length: u64,
    pub clock: u64,
}

impl Default for Head {
    fn default() -> Head {
        Head { version: VERSION, position: 0, length: 0, clock: 0 }
    }
}

impl Head {
    pub fn bytes(self) -> [u8; HEAD_BYTES as usize] {
        let mut bytes = [0; HEAD_BYTES as usize];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&self.version.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.position.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.length.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.clock.to_le_bytes());
        let sum = xxh3_64(&bytes[..32]);
        bytes[32..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

pub(crate) fn segment(folder: &Path, position: u64) -> PathBuf {
    folder.join(format!("{position:020}.log"))
}

pub(crate) fn snapshot(folder: &Path, position: u64) -> PathBuf {
    folder.join(format!("{position:020}.snapshot"))
}

/// The positions of a folder's segments and of its snapshots, in order.
pub(crate) fn list(folder: &Path) -> io::Result<(Vec<u64>, Vec<u64>)> {
    let (mut segments, mut snapshots) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let position = |of: &str| name.strip_suffix(of)?.parse::<u64>().ok();
        segments.extend(position(".log"));
        snapshots.extend(position(".snapshot"));
    }
    segments.sort_unstable();
    snapshots.sort_unstable();
    Ok((segments, snapshots))
}

/// Removes what a crash has left half written: files get their names when they are whole.
pub(crate) fn remove_leftovers(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "new") {
            crate::disk::remove(&path)?;
        }
    }
    Ok(())
}

/// Removes what neither the memberships after `snapshot` nor the delivery from `delivered` on needs; in order, so that a crash
/// leaves no gap. A segment that ends where the delivery goes on is kept: the delivery may be about to open it, for it chose its
/// segment when there was no later one.
pub(crate) fn sweep(folder: &Path, snapshot: u64, delivered: u64) -> io::Result<()> {
    let (segments, snapshots) = list(folder)?;
    for old in snapshots.iter().filter(|&&old| old < snapshot) {
        crate::disk::remove(&self::snapshot(folder, *old))?;
    }
    for pair in segments.windows(2).filter(|pair| pair[1] <= snapshot && pair[1] < delivered) {
        crate::disk::remove(&segment(folder, pair[0]))?;
    }
    Ok(())
}

/// A file's name in errors.
pub(crate) fn name(path: &Path) -> String {
    format!("`{}`", path.display())
}

/// The system's refusal.
pub(crate) fn refused(path: &Path, action: &'static str) -> impl Fn(io::Error) -> SinkError {
    move |error| SinkError::new(&name(path), action, &error)
}

/// What can't be gone on from.
pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> SinkError {
    SinkError::Failed {
        to: name(path),
        action: "read",
        reason: format!("it is damaged: {}", reason.into()),
        hint: "restore the log's folder from a backup, or remove it and run `usher resend JOB SYNC`: all members are sent again",
    }
}

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A block: its body is there.
    Block,
    End,
    /// Neither.
    Flaw(&'static str),
}

/// The blocks of a file, one after another.
pub(crate) struct Blocks {
    pub path: PathBuf,
    file: BufReader<File>,
    pub head: Head,
    /// What offsets in the file are counted from.
    base: u64,
    /// Of the next block in the file.
    offset: u64,
    pub body: Vec<u8>,
}

impl Blocks {
    /// Opens a segment or a snapshot.
    pub fn open(path: &Path) -> Result<Blocks, SinkError> {
        let failed = refused(path, "read");
        let file = File::open(path).map_err(&failed)?;
        let mut file = BufReader::with_capacity(READ_BYTES, file);
        let mut bytes = [0; HEAD_BYTES as usize];
        match file.read_exact(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(damaged(path, "its head is cut"));
            }
            read => read.map_err(&failed)?,
        }
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let version = u32::from_le_bytes(bytes[4..8].try_into().expect("4 bytes"));
        let head = Head { version, position: u64_at(8), length: u64_at(16), clock: u64_at(24) };
        if bytes[..4] == MAGIC && version > VERSION {
            return Err(SinkError::Failed {
                to: name(path),
                action: "read",
                reason: format!("it has format version {version}; this version reads up to {VERSION}"),
                hint: "run the version that wrote it, or remove the log's folder and run `usher resend JOB SYNC`: all members are sent again",
            });
        }
        let stem = path.file_stem().and_then(|stem| stem.to_string_lossy().parse().ok());
        if head.bytes() != bytes || stem != Some(head.position) {
            return Err(damaged(path, "its head is not that of a log of this name"));
        }
        let base = if head.length == 0 { head.position } else { 0 };
        Ok(Blocks { path: path.to_owned(), file, head, base, offset: HEAD_BYTES, body: Vec::new() })
    }

    /// Where the next block is.
    pub fn position(&self) -> u64 {
        self.base + self.offset
    }

    /// Goes to a block.
    pub fn seek(&mut self, position: u64) -> Result<(), SinkError> {
        self.offset = position.saturating_sub(self.base).max(HEAD_BYTES);
        self.file.seek(SeekFrom::Start(self.offset)).map_err(refused(&self.path, "read"))?;
        Ok(())
    }

    /// Reads the next block, up to `end` bytes of the file.
    pub fn next(&mut self, end: u64) -> Result<Next, SinkError> {
        let left = end.saturating_sub(self.offset);
        if left == 0 {
            return Ok(Next::End);
        }
        let mut head = [0; block::HEAD_BYTES];
        if left < head.len() as u64 {
            return Ok(Next::Flaw("a block's head is cut"));
        }
        self.file.read_exact(&mut head).map_err(refused(&self.path, "read"))?;
        let Some((length, sum)) = block::read_head(&head) else {
            return Ok(Next::Flaw("there is no block where one should be"));
        };
        if left - (head.len() as u64) < length as u64 {
            return Ok(Next::Flaw("a block is cut"));
        }
        self.body.resize(length, 0);
        self.file.read_exact(&mut self.body).map_err(refused(&self.path, "read"))?;
        if !block::is_whole(&self.body, sum, self.position()) {
            return Ok(Next::Flaw("a block's checksum is another"));
        }
        self.offset += (head.len() + length) as u64;
        Ok(Next::Block)
    }

    /// Tells whether a whole block begins anywhere behind a flaw.
    pub fn goes_on(&mut self, end: u64) -> Result<bool, SinkError> {
        let start = self.offset + 1;
        self.seek(self.base + start)?;
        let mut rest = Vec::new();
        let failed = refused(&self.path, "read");
        (&mut self.file).take(end.saturating_sub(start)).read_to_end(&mut rest).map_err(failed)?;
        Ok(memchr::memmem::find_iter(&rest, &block::MAGIC).any(|at| {
            let Some((head, behind)) = rest[at..].split_first_chunk() else {
                return false;
            };
            let position = self.base + start + at as u64;
            block::read_head(head).is_some_and(|(length, sum)| {
                behind.get(..length).is_some_and(|body| block::is_whole(body, sum, position))
            })
        }))
    }
}
