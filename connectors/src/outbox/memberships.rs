//! What the records of a log add up to.
//!
//! Holds the key of each entry, of members that have left since too: compaction keeps a log within a multiple of its members.
//! Equal rows are held once. A membership is found by 32 bits of its key's hash, seeded with its audience: the table takes 9 bytes a place.

use super::block::{self, Encoder, Record, Records};
use super::files::{self, Blocks, HEAD_BYTES, Head, Next, refused};
use crate::committed_rows::{CommittedRows, RowTexts, membership};
use crate::moved::MovedLedger;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::Path;
use std::sync::Arc;
use usher_core::change::ChangeKind;
use usher_core::ledger::Ledger;
use usher_core::sink::SinkError;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Those that hold, in the order of their entries.
#[derive(Default)]
pub(super) struct Memberships {
    /// The greatest `at`.
    pub clock: u64,
    /// One for each id: the definition that was committed last.
    audiences: Vec<Box<[u8]>>,
    /// Index in `audiences`, by definition.
    known: HashMap<Box<[u8]>, u32>,
    held: HashTable<Place>,
    members: Vec<Member>,
    keys: String,
    rows: RowTexts,
}

/// A membership that holds, in the table.
pub(super) struct Place {
    /// [`Place::hash`] of the membership.
    hash: u32,
    /// Index in `members`.
    member: u32,
}

impl Place {
    /// Returns 32 bits of the hash of a key, seeded with the audience.
    pub(super) fn hash(audience: u32, key: &str) -> u32 {
        xxh3_64_with_seed(key.as_bytes(), u64::from(audience)) as u32
    }

    /// Returns the 64-bit hash of the table, spread over all its bits.
    fn spread(hash: u32) -> u64 {
        // 2^64 divided by the golden ratio.
        u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// An entry.
struct Member {
    /// [`GONE`] if it has left.
    audience: u32,
    /// Where its key ends in `keys`.
    key_end: usize,
    /// The row of its last change; empty if that had none.
    row: Arc<str>,
}

const GONE: u32 = u32::MAX;

/// Bytes of records of another ledger that are applied at once.
const APPLIED_BYTES: usize = 1 << 20;

/// Returns the record that stands for a membership, not for its entry.
fn member_record<'a>(audience: u32, key: &'a str, row: &'a str) -> Record<'a> {
    Record {
        audience,
        kind: ChangeKind::Entry,
        reason: usher_core::change::Reason::Event,
        sent: false,
        at: 0,
        key,
        row,
        previous_row: "",
    }
}

impl Memberships {
    /// Applies the records of a block; tells how many are to be delivered, or none if they can't be read.
    pub fn apply(&mut self, body: &[u8]) -> Option<u64> {
        let mut records = Records::of(body);
        let mut audiences = Vec::new();
        let mut sent = 0;
        while let Some(record) = records.next()? {
            while audiences.len() < records.audiences.len() {
                audiences.push(self.audience(records.audiences[audiences.len()]));
            }
            sent += u64::from(record.sent);
            self.clock = self.clock.max(record.at);
            let audience = audiences[record.audience as usize];
            let Memberships { held, members, keys, rows, .. } = self;
            let hash = Place::hash(audience, record.key);
            let same = |place: &Place| {
                let at = place.member as usize;
                let start = if at == 0 { 0 } else { members[at - 1].key_end };
                let member = &members[at];
                place.hash == hash && member.audience == audience && keys[start..member.key_end] == *record.key
            };
            let place = held.entry(Place::spread(hash), same, |place| Place::spread(place.hash));
            match (record.kind, place) {
                (ChangeKind::Entry, Entry::Vacant(vacant)) => {
                    let member = u32::try_from(members.len()).expect("a ledger has at most 2^32 entries");
                    vacant.insert(Place { hash, member });
                    keys.push_str(record.key);
                    members.push(Member { audience, key_end: keys.len(), row: rows.share(record.row) });
                }
                (ChangeKind::Update, Entry::Occupied(place)) => {
                    let row = rows.share(record.row);
                    rows.release(std::mem::replace(&mut members[place.get().member as usize].row, row));
                }
                (ChangeKind::Exit, Entry::Occupied(place)) => {
                    let (Place { member, .. }, _) = place.remove();
                    members[member as usize].audience = GONE;
                    rows.release(std::mem::take(&mut members[member as usize].row));
                }
                (ChangeKind::Entry, Entry::Occupied(_)) | (ChangeKind::Update | ChangeKind::Exit, Entry::Vacant(_)) => {
                }
            }
        }
        Some(sent)
    }

    fn audience(&mut self, definition: &[u8]) -> u32 {
        let index = match self.known.get(definition) {
            Some(&index) => index,
            None => {
                let id = block::audience(definition).id;
                let same = self.audiences.iter().position(|known| block::audience(known).id == id);
                let index = same.unwrap_or(self.audiences.len()) as u32;
                self.known.insert(definition.into(), index);
                index
            }
        };
        match self.audiences.get_mut(index as usize) {
            Some(latest) if **latest == *definition => {}
            Some(latest) => *latest = definition.into(),
            None => self.audiences.push(definition.into()),
        }
        index
    }

    /// Returns audience, key and row of each.
    fn iter(&self) -> impl Iterator<Item = (u32, &str, &str)> {
        let mut start = 0;
        let members = self.members.iter().map(move |member| {
            let key = &self.keys[start..member.key_end];
            start = member.key_end;
            (member.audience, key, &*member.row)
        });
        members.filter(|(audience, ..)| *audience != GONE)
    }

    /// Adds the rows to the committed ones of the sync.
    pub fn restore_rows(&self, rows: &mut CommittedRows) {
        let ids: Vec<String> = self.audiences.iter().map(|definition| block::audience(definition).id).collect();
        self.iter().for_each(|(audience, key, row)| rows.restore(&ids[audience as usize], key, row));
    }

    /// Returns what identifies each membership, and its row.
    pub fn rows(&self) -> impl Iterator<Item = (u128, &str)> {
        let ids: Vec<String> = self.audiences.iter().map(|definition| block::audience(definition).id).collect();
        self.iter().map(move |(audience, key, row)| (membership(&ids[audience as usize], key), row))
    }

    /// The same as the rest of the job knows it.
    pub fn ledger(&self, any: bool) -> Ledger {
        let mut ledger = Ledger::default();
        (ledger.any, ledger.clock) = (any, self.clock);
        let mut indices = vec![None; self.audiences.len()];
        for (audience, key, _) in self.iter() {
            let index = *indices[audience as usize]
                .get_or_insert_with(|| ledger.audience(block::audience(&self.audiences[audience as usize])));
            ledger.push(index, key);
        }
        ledger
    }

    /// Returns those of a ledger that was kept elsewhere.
    pub fn of(moved: &MovedLedger) -> Memberships {
        let mut memberships = Memberships { clock: moved.ledger.clock, ..Memberships::default() };
        let mut encoder = Encoder::default();
        let mut members = moved.ledger.iter().zip(&moved.rows).peekable();
        while let Some(((audience, key), row)) = members.next() {
            encoder.push(&member_record(audience, key, row), || moved.ledger.audiences[audience as usize].clone());
            if encoder.len() >= APPLIED_BYTES || members.peek().is_none() {
                memberships.apply(&encoder.take()[block::HEAD_BYTES..]).expect("records that were just encoded");
            }
        }
        memberships
    }

    /// Returns them with their rows, for a ledger that is kept elsewhere from now on; `any`: something was committed.
    pub fn moved(&self, any: bool) -> MovedLedger {
        MovedLedger::new(self.ledger(any), self.iter().map(|(.., row)| row.into()).collect())
    }

    /// Writes the snapshot of a ledger that begins at a position: without a block. Returns its length in bytes.
    pub fn write_begun(&self, folder: &Path, position: u64) -> Result<u64, SinkError> {
        self.write_blocks(folder, position, usize::MAX, false)
    }

    /// Writes the snapshot of a position, of one block at least; gives its length in bytes.
    pub fn write(&self, folder: &Path, position: u64, block_bytes: usize) -> Result<u64, SinkError> {
        self.write_blocks(folder, position, block_bytes, true)
    }

    fn write_blocks(&self, folder: &Path, position: u64, block_bytes: usize, any: bool) -> Result<u64, SinkError> {
        let path = files::snapshot(folder, position);
        let new = path.with_extension("new");
        let failed = refused(&path, "written");
        let mut file = File::create(&new).map_err(&failed)?;
        let mut length = HEAD_BYTES;
        file.write_all(&[0; HEAD_BYTES as usize]).map_err(&failed)?;
        let mut encoder = Encoder::default();
        if any {
            encoder.begin();
        }
        let mut flush = |encoder: &mut Encoder, file: &mut File| {
            let mut block = encoder.take();
            block::seal(&mut block, length);
            length += block.len() as u64;
            file.write_all(&block).map_err(&failed)
        };
        for (audience, key, row) in self.iter() {
            encoder.push(&member_record(audience, key, row), || block::audience(&self.audiences[audience as usize]));
            if encoder.len() >= block_bytes {
                flush(&mut encoder, &mut file)?;
            }
        }
        if encoder.len() > 0 {
            flush(&mut encoder, &mut file)?;
        }
        let head = Head { position, length, clock: self.clock, ..Head::default() };
        file.rewind().and_then(|()| file.write_all(&head.bytes())).map_err(&failed)?;
        file.sync_all().map_err(&failed)?;
        fs::rename(&new, &path).and_then(|()| crate::disk::sync_folder_of(&path)).map_err(&failed)?;
        Ok(length)
    }

    /// Applies a snapshot; gives its length in bytes.
    pub fn read(&mut self, folder: &Path, position: u64) -> Result<u64, SinkError> {
        let mut blocks = Blocks::open(&files::snapshot(folder, position))?;
        let length = fs::metadata(&blocks.path).map_err(refused(&blocks.path, "read"))?.len();
        if length != blocks.head.length {
            let reason = format!("it has {length} bytes, not {}", blocks.head.length);
            return Err(files::damaged(&blocks.path, reason));
        }
        loop {
            match blocks.next(length)? {
                Next::End => break,
                Next::Flaw(flaw) => return Err(files::damaged(&blocks.path, flaw)),
                Next::Block if self.apply(&blocks.body).is_some() => {}
                Next::Block => return Err(files::damaged(&blocks.path, "a block holds no records")),
            }
        }
        self.clock = self.clock.max(blocks.head.clock);
        Ok(length)
    }
}
