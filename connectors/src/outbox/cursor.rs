//! How far a log has been delivered, durably.
//!
//! A file of two slots, at 0 and at 512, written in turn; the one of the greater number that is whole counts, so that one that
//! a crash has torn costs only what it said. A slot is (integers little endian)
//!
//! ```text
//!  0  4 bytes   `USHC`
//!  4  u32       format version, 1
//!  8  u64       its number
//! 16  u64       position in the log, between two blocks: all before it has been delivered
//! 24  u64       length of the destination's file in bytes when it had been; 0 where it is no file
//! 32  u64       XXH3 (64 bits, seed 0) of the 32 bytes before
//! ```

use super::files::{damaged, refused};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use usher_core::sink::SinkError;
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: [u8; 4] = *b"USHC";
const VERSION: u32 = 1;
/// Slots are this far apart, in bytes: what a disk writes at once.
const SLOT_BYTES: u64 = 512;

/// How far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// In the log.
    pub position: u64,
    /// Of the destination's file.
    pub length: u64,
}

/// The file.
pub(crate) struct Cursor {
    path: PathBuf,
    file: File,
    number: u64,
}

impl Cursor {
    /// Opens it; none if there is none.
    pub fn open(folder: &Path) -> Result<Option<(Cursor, Mark)>, SinkError> {
        let path = folder.join("cursor");
        let failed = refused(&path, "read");
        let mut file = match File::options().read(true).write(true).open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(&failed)?,
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(&failed)?;
        let slots = [0, SLOT_BYTES as usize].into_iter().filter_map(|at| read(bytes.get(at..at + 40)?));
        match slots.max_by_key(|slot| slot.0) {
            Some((number, mark)) => Ok(Some((Cursor { path: path.clone(), file, number }, mark))),
            None => Err(damaged(&path, "neither of its two slots is whole")),
        }
    }

    /// Makes it.
    pub fn create(folder: &Path, mark: Mark) -> Result<Cursor, SinkError> {
        let (path, new) = (folder.join("cursor"), folder.join("cursor.new"));
        let failed = refused(&path, "written");
        let file = File::create(&new).map_err(&failed)?;
        let mut cursor = Cursor { path: path.clone(), file, number: 0 };
        cursor.save(mark, true)?;
        std::fs::rename(&new, &path).and_then(|()| crate::disk::sync_folder_of(&path)).map_err(&failed)?;
        Ok(cursor)
    }

    /// Writes how far; `durably` against more than the end of the process.
    pub fn save(&mut self, mark: Mark, durably: bool) -> Result<(), SinkError> {
        self.number += 1;
        let mut slot = [0; 40];
        slot[..4].copy_from_slice(&MAGIC);
        slot[4..8].copy_from_slice(&VERSION.to_le_bytes());
        for (at, value) in [(8, self.number), (16, mark.position), (24, mark.length)] {
            slot[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        let sum = xxh3_64(&slot[..32]);
        slot[32..].copy_from_slice(&sum.to_le_bytes());
        let at = SeekFrom::Start(self.number % 2 * SLOT_BYTES);
        let written = self.file.seek(at).and_then(|_| self.file.write_all(&slot));
        let synced = written.and_then(|()| if durably { self.file.sync_data() } else { Ok(()) });
        synced.map_err(refused(&self.path, "written"))
    }
}

fn read(slot: &[u8]) -> Option<(u64, Mark)> {
    let u64_at = |at: usize| u64::from_le_bytes(slot[at..at + 8].try_into().expect("8 bytes"));
    let whole = slot[..4] == MAGIC && slot[4..8] == VERSION.to_le_bytes() && xxh3_64(&slot[..32]) == u64_at(32);
    whole.then(|| (u64_at(8), Mark { position: u64_at(16), length: u64_at(24) }))
}
