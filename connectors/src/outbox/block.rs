//! Blocks of records: what the log's files are made of.
//!
//! A block is whole or it is not there. It has all that its records need, the audiences they name included (integers little
//! endian; a varint has 7 bits a byte, the lowest first, the top bit set on all but its last byte; a text is its length as a
//! varint and its UTF-8):
//!
//! ```text
//!  0  4 bytes   `USHB`
//!  4  u32       length of the body, bytes
//!  8  u64       XXH3 (64 bits) of the body, seeded with the block's position
//! 16  the body: any number of
//!       audience   1 byte 128; id, name, model: texts. The block's records name it by its index among the block's audiences
//!       record     1 byte: bit 0 exit, bit 6 update (else entry), bit 1 to be delivered, bits 2-4 reason (0 event, 1 expiry,
//!                  2 snapshot, 3 trait, 4 definition, 5 recovery), bit 5 a row follows
//!                  varint: the audience's index
//!                  varint: `at` minus the record's before (the first: minus 0), zigzag
//!                  text: the key
//!                  text: the row as a JSON object, where bit 5 says so
//!                  text: the row before it, of an update
//! ```
//!
//! Files of format version 1 have no updates, and rows only where a change is to be delivered.

use usher_core::change::{ChangeKind, Reason};
use usher_core::ledger::LedgerAudience;
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub(crate) const MAGIC: [u8; 4] = *b"USHB";
/// Bytes before the body.
pub(crate) const HEAD_BYTES: usize = 16;

const AUDIENCE: u8 = 128;
const EXIT: u8 = 1;
const SENT: u8 = 2;
const REASON_SHIFT: u8 = 2;
const ROW: u8 = 32;
const UPDATE: u8 = 64;

/// A change of a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// An index that means something to whoever writes or reads.
    pub audience: u32,
    pub kind: ChangeKind,
    pub reason: Reason,
    /// It is to be delivered.
    pub sent: bool,
    pub at: u64,
    pub key: &'a str,
    /// Empty: none.
    pub row: &'a str,
    /// Of an update; else empty.
    pub previous_row: &'a str,
}

/// A block being put together.
#[derive(Default)]
pub(crate) struct Encoder {
    /// With room for the head.
    block: Vec<u8>,
    /// By the writer's index: the block's.
    audiences: Vec<Option<u32>>,
    defined: u32,
    at: u64,
}

impl Encoder {
    /// Bytes so far, 0 if it is not begun.
    pub fn len(&self) -> usize {
        self.block.len()
    }

    /// Makes it a block, even without records.
    pub fn begin(&mut self) {
        if self.block.is_empty() {
            self.block.resize(HEAD_BYTES, 0);
        }
    }

    /// Adds a record; `audience` tells what it means by its index.
    pub fn push(&mut self, record: &Record<'_>, audience: impl FnOnce() -> LedgerAudience) {
        self.begin();
        let index = record.audience as usize;
        if self.audiences.len() <= index {
            self.audiences.resize(index + 1, None);
        }
        let known = match self.audiences[index] {
            Some(known) => known,
            None => {
                let LedgerAudience { id, name, model } = audience();
                self.block.push(AUDIENCE);
                [id, name, model].iter().for_each(|text| write_text(&mut self.block, text));
                self.defined += 1;
                *self.audiences[index].insert(self.defined - 1)
            }
        };
        let kind = match record.kind {
            ChangeKind::Entry => 0,
            ChangeKind::Exit => EXIT,
            ChangeKind::Update => UPDATE,
        };
        let sent = if record.sent { SENT } else { 0 };
        let row = if record.row.is_empty() { 0 } else { ROW };
        self.block.push(kind | sent | (number(record.reason) << REASON_SHIFT) | row);
        write_varint(&mut self.block, u64::from(known));
        let step = record.at.wrapping_sub(self.at) as i64;
        self.at = record.at;
        write_varint(&mut self.block, ((step << 1) ^ (step >> 63)) as u64);
        write_text(&mut self.block, record.key);
        if row != 0 {
            write_text(&mut self.block, record.row);
        }
        if record.kind == ChangeKind::Update {
            write_text(&mut self.block, record.previous_row);
        }
    }

    /// Gives the block, still without a head, and begins anew.
    pub fn take(&mut self) -> Vec<u8> {
        self.audiences.clear();
        (self.defined, self.at) = (0, 0);
        std::mem::take(&mut self.block)
    }
}

/// Writes the head of a block that goes to a position.
pub(crate) fn seal(block: &mut [u8], position: u64) {
    let (head, body) = block.split_at_mut(HEAD_BYTES);
    let length = u32::try_from(body.len()).expect("a block is cut long before 4 GiB");
    head[..4].copy_from_slice(&MAGIC);
    head[4..8].copy_from_slice(&length.to_le_bytes());
    head[8..].copy_from_slice(&xxh3_64_with_seed(body, position).to_le_bytes());
}

/// The length of the body that a head announces, and its checksum.
pub(crate) fn read_head(head: &[u8; HEAD_BYTES]) -> Option<(usize, u64)> {
    let length = u32::from_le_bytes(head[4..8].try_into().expect("4 bytes"));
    let sum = u64::from_le_bytes(head[8..].try_into().expect("8 bytes"));
    (head[..4] == MAGIC).then_some((length as usize, sum))
}

/// Tells whether this is the body with that checksum at a position.
pub(crate) fn is_whole(body: &[u8], sum: u64, position: u64) -> bool {
    xxh3_64_with_seed(body, position) == sum
}

/// Reads the records of a body.
pub(crate) struct Records<'a> {
    rest: &'a [u8],
    at: u64,
    /// The audiences so far, as they stand in the body: what [`audience`] reads.
    pub audiences: Vec<&'a [u8]>,
}

impl<'a> Records<'a> {
    pub fn of(body: &'a [u8]) -> Records<'a> {
        Records { rest: body, at: 0, audiences: Vec::new() }
    }

    /// The next record; its audience is the index in `audiences`. None: what follows is no record.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Option<Record<'a>>> {
        loop {
            let Some((&tag, rest)) = self.rest.split_first() else {
                return Some(None);
            };
            self.rest = rest;
            if tag == AUDIENCE {
                for _ in 0..3 {
                    read_text(&mut self.rest)?;
                }
                self.audiences.push(&rest[..rest.len() - self.rest.len()]);
                continue;
            }
            let audience = read_varint(&mut self.rest)?;
            if tag > (UPDATE << 1) - 1 || audience >= self.audiences.len() as u64 {
                return None;
            }
            let step = read_varint(&mut self.rest)?;
            self.at = self.at.wrapping_add((step >> 1) ^ (step & 1).wrapping_neg());
            let key = read_text(&mut self.rest)?;
            let row = if tag & ROW != 0 { read_text(&mut self.rest)? } else { "" };
            let kind = match tag & (EXIT | UPDATE) {
                0 => ChangeKind::Entry,
                EXIT => ChangeKind::Exit,
                UPDATE => ChangeKind::Update,
                _ => return None,
            };
            let previous_row = if kind == ChangeKind::Update { read_text(&mut self.rest)? } else { "" };
            return Some(Some(Record {
                audience: audience as u32,
                kind,
                reason: reason((tag >> REASON_SHIFT) & 7)?,
                sent: tag & SENT != 0,
                at: self.at,
                key,
                row,
                previous_row,
            }));
        }
    }
}

/// Reads one of [`Records::audiences`].
pub(crate) fn audience(mut definition: &[u8]) -> LedgerAudience {
    let mut text = || read_text(&mut definition).expect("it was walked before").to_owned();
    LedgerAudience { id: text(), name: text(), model: text() }
}

/// Writes one, as it stands in a body.
pub(crate) fn definition(audience: &LedgerAudience) -> Vec<u8> {
    let mut definition = Vec::new();
    [&audience.id, &audience.name, &audience.model].iter().for_each(|text| write_text(&mut definition, text));
    definition
}

fn number(reason: Reason) -> u8 {
    match reason {
        Reason::Event => 0,
        Reason::Expiry => 1,
        Reason::Snapshot => 2,
        Reason::Trait => 3,
        Reason::Definition => 4,
        Reason::Recovery => 5,
    }
}

fn reason(number: u8) -> Option<Reason> {
    Some(match number {
        0 => Reason::Event,
        1 => Reason::Expiry,
        2 => Reason::Snapshot,
        3 => Reason::Trait,
        4 => Reason::Definition,
        5 => Reason::Recovery,
        _ => return None,
    })
}

pub(crate) fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 128 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some(value);
        }
    }
    None
}

pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) {
    write_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

pub(crate) fn read_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let length = usize::try_from(read_varint(rest)?).ok()?;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    simdutf8::basic::from_utf8(text).ok()
}
