//! The last content that was read of a file: by it, a file that was cut and has grown again differs from one that only grew.

use super::input::Stored;
use std::io;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes that are kept: more than a line's id and time, whatever the line's length.
const KEPT: usize = 256;

/// Where reading stands in the stored bytes of a file, and what is before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub offset: u64,
    /// Of the last bytes before the offset ([`Tail::hash`]).
    pub hash: u64,
}

impl Mark {
    /// Returns the mark of a file at an offset; `None` if the file is shorter.
    pub fn at(stored: &mut Stored, offset: u64) -> io::Result<Option<Mark>> {
        let tail = Tail::of(stored, offset)?;
        Ok(tail.map(|tail| Mark { offset, hash: tail.hash() }))
    }

    /// Returns whether a file has what was read up to here.
    pub fn is_in(self, stored: &mut Stored) -> io::Result<bool> {
        Ok(Mark::at(stored, self.offset)? == Some(self))
    }
}

/// The last bytes of content before a position.
#[derive(Clone, Default)]
pub struct Tail {
    bytes: Vec<u8>,
}

impl Tail {
    /// Returns how many bytes before an offset it takes.
    pub fn length_at(offset: u64) -> usize {
        KEPT.min(usize::try_from(offset).unwrap_or(KEPT))
    }

    /// Returns the tail of a file's stored bytes at an offset; `None` if the file is shorter.
    pub fn of(stored: &mut Stored, offset: u64) -> io::Result<Option<Tail>> {
        let mut bytes = vec![0; Tail::length_at(offset)];
        let start = offset - bytes.len() as u64;
        Ok(stored.read_at(&mut bytes, start)?.then_some(Tail { bytes }))
    }

    /// Moves on over content.
    pub fn pass(&mut self, content: &[u8]) {
        if content.len() < KEPT {
            let surplus = (self.bytes.len() + content.len()).saturating_sub(KEPT);
            self.bytes.drain(..surplus);
            self.bytes.extend_from_slice(content);
        } else {
            self.bytes.clear();
            self.bytes.extend_from_slice(&content[content.len() - KEPT..]);
        }
    }

    /// Begins with other content.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Returns the last bytes before a position that is `more` further.
    pub fn with(&self, more: &[u8]) -> Tail {
        let mut tail = self.clone();
        tail.pass(more);
        tail
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns what tells it from others.
    pub fn hash(&self) -> u64 {
        xxh3_64(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_the_end_of_all_that_has_passed() {
        let mut random = fastrand::Rng::with_seed(3);
        let (mut tail, mut all) = (Tail::default(), Vec::new());
        for _ in 0..1_000 {
            let more: Vec<u8> = (0..random.usize(0..400)).map(|_| random.u8(..)).collect();
            let ahead = tail.with(&more);
            tail.pass(&more);
            all.extend_from_slice(&more);
            let length = Tail::length_at(all.len() as u64);
            assert_eq!(tail.bytes(), &all[all.len() - length..]);
            assert_eq!(ahead.bytes(), tail.bytes());
        }
    }
}
