//! How far a log has been delivered, durably.
//!
//! A file of two slots, at 0 and at 512, written in turn; the one of the greater number that is whole counts, so that one that
//! a crash has torn costs only what it said. A slot is (integers little endian)
//!
//! ```text
//!  0  4 bytes   `USHC`
//!  4  u32       format version, 2
//!  8  u64       its number
//! 16  u64       position in the log, between two blocks: all before it has been delivered
//! 24  u64       length of the destination's file in bytes when it had been; 0 where it is no file
//! 32  u64       changes that had been delivered since the log began, which `usher resend` goes on with unless it is lost
//! 40  u64       XXH3 (64 bits, seed 0) of the 40 bytes before
//! ```
//!
//! Version 1 has no count, and the sum at 32: what it delivered is not counted.

use super::files::{damaged, refused};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use usher_core::sink::SinkError;
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: [u8; 4] = *b"USHC";
const VERSION: u32 = 2;
/// Bytes of a slot.
const BYTES: usize = 48;
/// Slots are this far apart, in bytes: what a disk writes at once.
const SLOT_BYTES: u64 = 512;

/// How far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// In the log.
    pub position: u64,
    /// Of the destination's file.
    pub length: u64,
    /// Changes that were delivered since the log began.
    pub delivered: u64,
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
        let slots = [0, SLOT_BYTES as usize].into_iter().filter_map(|at| read(bytes.get(at..)?));
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
        let mut slot = [0; BYTES];
        slot[..4].copy_from_slice(&MAGIC);
        slot[4..8].copy_from_slice(&VERSION.to_le_bytes());
        for (at, value) in [(8, self.number), (16, mark.position), (24, mark.length), (32, mark.delivered)] {
            slot[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        let sum = xxh3_64(&slot[..40]);
        slot[40..].copy_from_slice(&sum.to_le_bytes());
        let at = SeekFrom::Start(self.number % 2 * SLOT_BYTES);
        let written = self.file.seek(at).and_then(|_| self.file.write_all(&slot));
        let synced = written.and_then(|()| if durably { self.file.sync_data() } else { Ok(()) });
        synced.map_err(refused(&self.path, "written"))
    }
}

/// Reads the slot at the beginning of some bytes: its number, and what it says. `None` if it is not whole.
fn read(slot: &[u8]) -> Option<(u64, Mark)> {
    let u64_at = |at: usize| Some(u64::from_le_bytes(*slot.get(at..)?.first_chunk()?));
    let version = u32::from_le_bytes(*slot.get(4..)?.first_chunk()?);
    let (sum, delivered) = match version {
        1 => (32, 0),
        VERSION => (40, u64_at(32)?),
        _ => return None,
    };
    let whole = slot[..4] == MAGIC && u64_at(sum)? == xxh3_64(&slot[..sum]);
    let mark = Mark { position: u64_at(16)?, length: u64_at(24)?, delivered };
    whole.then_some((u64_at(8)?, mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_the_first_version_stay_readable() {
        let mut slot = [0; 40];
        slot[..4].copy_from_slice(b"USHC");
        slot[4] = 1;
        (slot[8], slot[16], slot[24]) = (5, 6, 7);
        let sum = xxh3_64(&slot[..32]);
        slot[32..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(read(&slot), Some((5, Mark { position: 6, length: 7, delivered: 0 })));
        slot[16] = 8;
        assert_eq!(read(&slot), None, "its sum is another");
        assert_eq!(read(&slot[..30]), None);
    }

    #[test]
    fn a_slot_is_read_as_it_was_written_and_of_two_the_later_counts() {
        let folder = tempfile::tempdir().unwrap();
        let mark = |delivered| Mark { position: 10 * delivered, length: 3, delivered };
        let mut cursor = Cursor::create(folder.path(), mark(0)).unwrap();
        for delivered in 1..4 {
            cursor.save(mark(delivered), true).unwrap();
            assert_eq!(Cursor::open(folder.path()).unwrap().unwrap().1, mark(delivered));
        }
        // The later one is torn: the one before it counts.
        let path = folder.path().join("cursor");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[33] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(Cursor::open(folder.path()).unwrap().unwrap().1, mark(2));
    }
}
