//! What stands around the content of every object of a store.
//!
//! A frame is (integers little endian):
//!
//! ```text
//!  0  4 bytes   `USHS`
//!  4  u32       format version, 1
//!  8  u32       kind: 1 part, 2 manifest, 3 schema
//! 12  u64       length of the content, bytes
//! 20  u64       length of the body, bytes
//! 28  u64       XXH3 (64 bits, seed 0) of the 28 bytes before, then of the body
//! 36  the body: the content, compressed with zstd
//! ```
//!
//! Promises: what [`open`] gives is what [`seal`] was given. Refuses: another kind, a newer version, and anything that is
//! cut, longer or changed in a bit.

use xxhash_rust::xxh3::Xxh3;

const MAGIC: [u8; 4] = *b"USHS";
/// The version that is written, and the newest that is read.
pub(super) const VERSION: u32 = 1;
/// Bytes before the body.
const HEAD_BYTES: usize = 36;
/// Of them, those that the checksum covers.
const SUMMED_BYTES: usize = 28;
/// zstd's fastest regular level: state is written all the time, and read once.
const LEVEL: i32 = 1;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Part = 1,
    Manifest = 2,
    Schema = 3,
}

/// Why a frame can't be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Its format version is this one.
    Newer(u32),
    /// What is wrong with it.
    Damaged(String),
}

/// Puts a frame around `content`.
pub(super) fn seal(kind: Kind, content: &[u8]) -> Vec<u8> {
    let body = zstd::bulk::compress(content, LEVEL).expect("zstd compresses anything into a buffer of its own");
    let mut frame = Vec::with_capacity(HEAD_BYTES + body.len());
    frame.extend(MAGIC);
    frame.extend(VERSION.to_le_bytes());
    frame.extend((kind as u32).to_le_bytes());
    frame.extend((content.len() as u64).to_le_bytes());
    frame.extend((body.len() as u64).to_le_bytes());
    let sum = sum(&frame, &body);
    frame.extend(sum.to_le_bytes());
    frame.extend(body);
    frame
}

/// Gives the content of a frame of a kind.
pub(super) fn open(kind: Kind, frame: &[u8]) -> Result<Vec<u8>, Flaw> {
    let damaged = |what: &str| Err(Flaw::Damaged(what.to_owned()));
    let Some((head, body)) = frame.split_at_checked(HEAD_BYTES) else {
        return damaged(&format!("it is cut: of its {HEAD_BYTES} first bytes, {} are there", frame.len()));
    };
    let u32_at = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
    let u64_at = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
    if head[..4] != MAGIC {
        return damaged("it does not begin as state does");
    }
    match u32_at(4) {
        VERSION => {}
        0 => return damaged("its format version is 0"),
        newer => return Err(Flaw::Newer(newer)),
    }
    if u64_at(20) != body.len() as u64 {
        return damaged(&format!("its body has {} bytes, not {}", body.len(), u64_at(20)));
    }
    if u64_at(28) != sum(&head[..SUMMED_BYTES], body) {
        return damaged("its checksum is another");
    }
    if u32_at(8) != kind as u32 {
        return damaged(&format!("it is of kind {}, not {}", u32_at(8), kind as u32));
    }
    let length = usize::try_from(u64_at(12)).expect("the checksum holds, and its writer had it in memory");
    match zstd::bulk::decompress(body, length) {
        Ok(content) if content.len() == length => Ok(content),
        Ok(content) => damaged(&format!("its content has {} bytes, not {length}", content.len())),
        Err(error) => damaged(&format!("its body can't be decompressed: {error}")),
    }
}

fn sum(head: &[u8], body: &[u8]) -> u64 {
    let mut sum = Xxh3::new();
    sum.update(head);
    sum.update(body);
    sum.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_is_opened_and_any_flaw_is_found() {
        let mut rng = fastrand::Rng::with_seed(5);
        for length in [0, 1, 35, 1000, 300_000] {
            let content: Vec<u8> = (0..length).map(|_| rng.u8(..7)).collect();
            let frame = seal(Kind::Part, &content);
            assert!(open(Kind::Part, &frame) == Ok(content));
            for _ in 0..200 {
                let mut flawed = frame.clone();
                match rng.u8(..3) {
                    0 => flawed.truncate(rng.usize(..frame.len())),
                    1 => flawed.extend(std::iter::repeat_n(rng.u8(..), rng.usize(1..9))),
                    _ => flawed[rng.usize(..frame.len())] ^= 1 << rng.u8(..8),
                }
                assert!(open(Kind::Part, &flawed).is_err());
            }
        }
        let manifest = seal(Kind::Manifest, b"m");
        assert_eq!(open(Kind::Part, &manifest), Err(Flaw::Damaged("it is of kind 2, not 1".to_owned())));
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut frame = seal(Kind::Part, b"content");
        frame[4] = 2;
        assert_eq!(open(Kind::Part, &frame), Err(Flaw::Newer(2)));
    }

    #[test]
    fn a_frame_of_the_first_version_stays_readable() {
        let frame = include_bytes!("testdata/part.v1");
        assert_eq!(open(Kind::Part, frame).as_deref(), Ok(&b"usher usher usher usher usher"[..]));
    }
}
