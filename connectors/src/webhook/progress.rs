//! How far a sync has been delivered, durably: the file `delivery` beside the log.
//!
//! Which changes are settled, as a low watermark and ranges above it; how many ended how; of `mode: state` what the destination
//! holds; when how much of the log was there; and whether the sync is paused. What is written survives the end of the process at
//! once, and that of the machine after [`Progress::sync`]. So a crash of the process repeats what was on its way, and a loss of power
//! also what was answered since the last sync.
//!
//! The file has 8 bytes (`USHD`, and the format version as a u32, 3), then blocks as the log has them ([`block`]), each sealed
//! with its offset, of records (integers are varints of the log's blocks):
//!
//! ```text
//!  1  base      position in the log between two blocks, number of the first record behind it, records sent before it:
//!               all before is settled
//!  2  settled   first number, how many, end: 0 delivered, 1 superseded, 2 dead letter, 3 not sent
//!  3  counts    delivered, superseded, dead letters
//!  4  held      16 bytes: membership; 0 not, 1 certain, 2 not known; unless 0: the row, a text
//!  5  mark      position in the log, ms since the epoch: all before was committed by then
//!  6  paused    0 or 1
//!  7  mode      0 changes, 1 state
//!  8  again     a dead letter that was sent again: its end, as of settled
//!  9  retried   attempts that were made again since the log began, from version 2 on
//! 10  asked     ms since the epoch until which the endpoint has asked to wait, or 0, from version 3 on
//! ```
//!
//! It is written anew when it has grown by much, and when it has an earlier version. A block at its end that is torn is cut off: what it had is done again.

use super::held::Held;
use super::queue::End;
use super::ranges::Ranges;
use crate::outbox::block::{self, read_text, read_varint, write_text, write_varint};
use crate::outbox::files::{damaged, name, refused};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use usher_core::sink::SinkError;

/// Its name.
const FILE: &str = "delivery";
const MAGIC: [u8; 4] = *b"USHD";
const VERSION: u32 = 3;
const FILE_HEAD_BYTES: usize = 8;
/// The file is written anew when it has grown by so many bytes, and to twice its size: it is read in a moment at a start.
const COMPACT_BYTES: u64 = 4 << 20;
/// Marks of times that are kept: of seven days, one in ten minutes.
const MARKS: usize = 1_024;
/// From one mark to the next, ms.
const MARK_EVERY: u64 = 1_000;

const BASE: u8 = 1;
const SETTLED: u8 = 2;
const COUNTS: u8 = 3;
const HELD: u8 = 4;
const MARK: u8 = 5;
const PAUSED: u8 = 6;
const MODE: u8 = 7;
const AGAIN: u8 = 8;
const RETRIED: u8 = 9;
const ASKED: u8 = 10;

/// A place in the log, between two blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Base {
    pub position: u64,
    /// Of the first record behind it; records are numbered from 0.
    pub number: u64,
    /// Records before it that are sent.
    pub sent: u64,
}

/// How many changes ended how, since the log began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub delivered: u64,
    pub superseded: u64,
    pub dead_letters: u64,
}

/// The file, and what it says.
#[derive(Debug)]
pub(super) struct Progress {
    path: PathBuf,
    file: File,
    /// Where the next block goes.
    offset: u64,
    /// How large the file was when it was written anew.
    compacted: u64,
    /// Records that are not written yet, with room for a block's head.
    pending: Vec<u8>,
    is_synced: bool,
    base: Base,
    settled: Ranges,
    counts: Counts,
    marks: VecDeque<(u64, u64)>,
    paused: bool,
    retried: u64,
    asked_until: u64,
}

/// What a file said at a start.
pub(super) struct Found {
    pub progress: Progress,
    /// What the destination holds; `None` if the last run was not in `mode: state`.
    pub held: Option<Held>,
}

impl Progress {
    /// Returns whether a folder has the file.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(FILE).exists()
    }

    /// Reads the file of a folder. Where it is missing it is made, and numbers begin with `first`. `cursor` is how far any outlet of
    /// this log has come: what a file behind it says of the log is void. `rows`: whether columns are part of what a destination holds.
    pub fn open(folder: &Path, cursor: u64, first: u64, rows: bool) -> Result<Found, SinkError> {
        let path = folder.join(FILE);
        let mut file = match File::options().read(true).write(true).open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let base = Base { position: cursor, number: first, sent: 0 };
                return Ok(Found { progress: Progress::create(path, base)?, held: None });
            }
            opened => opened.map_err(refused(&path, "read"))?,
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(refused(&path, "read"))?;
        let Some((head, _)) = bytes.split_first_chunk::<FILE_HEAD_BYTES>() else {
            return Err(damaged(&path, "its head is cut"));
        };
        let version = u32::from_le_bytes(head[4..].try_into().expect("4 bytes"));
        if head[..4] != MAGIC {
            return Err(damaged(&path, "its head is not that of a delivery"));
        }
        if version > VERSION {
            return Err(SinkError::Failed {
                to: name(&path),
                action: "read",
                reason: format!("it has format version {version}; this version reads up to {VERSION}"),
                hint: "run the version that wrote it, or remove the file: what waits is sent again",
            });
        }
        let mut progress = Progress {
            path,
            file,
            offset: FILE_HEAD_BYTES as u64,
            compacted: 0,
            pending: Vec::new(),
            is_synced: true,
            base: Base::default(),
            settled: Ranges::default(),
            counts: Counts::default(),
            marks: VecDeque::new(),
            paused: false,
            retried: 0,
            asked_until: 0,
        };
        let (mut held, mut is_state) = (Held::new(rows), false);
        while let Some(body) = block_at(&bytes, progress.offset) {
            if progress.apply(body, &mut held, &mut is_state).is_none() {
                return Err(damaged(&progress.path, "a block holds no records"));
            }
            progress.offset += (block::HEAD_BYTES + body.len()) as u64;
        }
        if progress.offset < bytes.len() as u64 {
            let (path, bytes) = (progress.path.display(), bytes.len() as u64 - progress.offset);
            tracing::warn!(%path, bytes, "the end of the file was torn by a crash, and is cut off");
            let cut = progress.file.set_len(progress.offset).and_then(|()| progress.file.sync_all());
            cut.map_err(refused(&progress.path, "written"))?;
        }
        progress.compacted = progress.offset;
        if progress.base.position < cursor {
            // Another outlet has gone on since, and has delivered all of it.
            let number = progress.settled.watermark();
            let Counts { delivered, superseded, dead_letters } = progress.counts;
            progress.base = Base { position: cursor, number, sent: delivered + superseded + dead_letters };
            progress.settled = Ranges::below(number);
            is_state = false;
            progress.rewrite(None)?;
        }
        let held = is_state.then_some(held);
        if version < VERSION {
            progress.rewrite(held.as_ref())?;
        }
        Ok(Found { progress, held })
    }

    fn create(path: PathBuf, base: Base) -> Result<Progress, SinkError> {
        let failed = refused(&path, "written");
        let mut progress = Progress {
            file: File::create(path.with_extension("new")).map_err(&failed)?,
            path: path.clone(),
            offset: 0,
            compacted: 0,
            pending: Vec::new(),
            is_synced: true,
            base,
            settled: Ranges::below(base.number),
            counts: Counts::default(),
            marks: VecDeque::new(),
            paused: false,
            retried: 0,
            asked_until: 0,
        };
        progress.rewrite(None)?;
        Ok(progress)
    }

    /// Returns where to go on in the log.
    pub fn base(&self) -> Base {
        self.base
    }

    /// Returns which records are settled.
    pub fn settled(&self) -> &Ranges {
        &self.settled
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Returns how many attempts were made again since the log began.
    pub fn retried(&self) -> u64 {
        self.retried
    }

    /// Takes how many attempts were made again since the log began.
    pub fn set_retried(&mut self, retried: u64) {
        if retried != self.retried {
            self.retried = retried;
            self.record(RETRIED, &[retried]);
        }
    }

    /// Returns until when the endpoint has asked to wait, ms since the epoch; 0 if it has not.
    pub fn asked_until(&self) -> u64 {
        self.asked_until
    }

    /// Takes until when the endpoint has asked to wait.
    pub fn set_asked_until(&mut self, until: u64) {
        if until != self.asked_until {
            self.asked_until = until;
            self.record(ASKED, &[until]);
        }
    }

    /// Takes it that all before a place in the log is settled.
    pub fn set_base(&mut self, base: Base) {
        self.base = base;
        self.record(BASE, &[base.position, base.number, base.sent]);
    }

    /// Takes the end of a record.
    pub fn settle(&mut self, number: u64, end: End) {
        if self.settled.insert(number, number + 1) > 0 {
            count(&mut self.counts, number_of(end), 1);
            self.record(SETTLED, &[number, 1, number_of(end)]);
        }
    }

    /// Takes the end of a dead letter that was sent again.
    pub fn settle_again(&mut self, end: End) {
        self.counts.dead_letters = self.counts.dead_letters.saturating_sub(1);
        count(&mut self.counts, number_of(end), 1);
        self.record(AGAIN, &[number_of(end)]);
    }

    /// Takes what the destination holds of a membership.
    pub fn hold(&mut self, membership: u128, held: Option<(&str, bool)>) {
        write_held(&mut self.pending, membership, held);
    }

    /// Takes it that so much of the log is there at a time (ms since the epoch). Returns whether that is worth writing.
    pub fn mark(&mut self, position: u64, now: u64) -> bool {
        let last = self.marks.back();
        if last.is_some_and(|(end, time)| *end >= position || now.saturating_sub(*time) < MARK_EVERY) {
            return false;
        }
        self.push_mark(position, now);
        self.record(MARK, &[position, now]);
        true
    }

    fn push_mark(&mut self, position: u64, now: u64) {
        if self.marks.len() >= MARKS {
            // Of the older half every second one goes: what it dated is dated later, and is kept for longer.
            let mut at = 0;
            self.marks.retain(|_| {
                at += 1;
                at > MARKS / 2 || at % 2 == 0
            });
        }
        self.marks.push_back((position, now));
    }

    /// Returns the end of what was committed by a time (ms since the epoch), as far as that is known.
    pub fn committed_by(&self, time: u64) -> u64 {
        let at = self.marks.partition_point(|(_, marked)| *marked <= time);
        at.checked_sub(1).map_or(0, |at| self.marks[at].0)
    }

    /// Returns when a position of the log was committed at the latest, ms since the epoch.
    pub fn committed_at(&self, position: u64) -> Option<u64> {
        let at = self.marks.partition_point(|(end, _)| *end <= position);
        self.marks.get(at).map(|(_, time)| *time)
    }

    /// Takes whether the sync is paused.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
        self.record(PAUSED, &[u64::from(paused)]);
    }

    /// Goes on with what the destination holds, in `mode: state`, or without.
    pub fn restart(&mut self, held: Option<&Held>) -> Result<(), SinkError> {
        self.rewrite(held)
    }

    /// Returns whether there is something to [write](Self::write) or to [sync](Self::sync).
    pub fn is_dirty(&self) -> bool {
        !self.pending.is_empty() || !self.is_synced
    }

    /// Writes what it was given: it survives the end of the process. `held` is what the destination holds, in `mode: state`.
    pub fn write(&mut self, held: Option<&Held>) -> Result<(), SinkError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        if self.offset >= COMPACT_BYTES.max(2 * self.compacted) + self.compacted {
            return self.rewrite(held);
        }
        let mut block = vec![0; block::HEAD_BYTES];
        block.append(&mut self.pending);
        block::seal(&mut block, self.offset);
        self.file.write_all(&block).map_err(refused(&self.path, "written"))?;
        self.offset += block.len() as u64;
        self.is_synced = false;
        Ok(())
    }

    /// Makes what was written survive the end of the machine.
    pub fn sync(&mut self) -> Result<(), SinkError> {
        if !self.is_synced {
            self.file.sync_data().map_err(refused(&self.path, "written"))?;
            self.is_synced = true;
        }
        Ok(())
    }

    /// Writes the file anew, with what it adds up to.
    fn rewrite(&mut self, held: Option<&Held>) -> Result<(), SinkError> {
        let (path, new) = (self.path.clone(), self.path.with_extension("new"));
        let failed = refused(&path, "written");
        let mut body = Vec::new();
        write_record(&mut body, BASE, &[self.base.position, self.base.number, self.base.sent]);
        let watermark = self.settled.watermark();
        let below = (self.base.number < watermark).then_some((self.base.number, watermark));
        for (start, end) in below.into_iter().chain(self.settled.above()) {
            write_record(&mut body, SETTLED, &[start, end - start, number_of(End::Unsent)]);
        }
        let Counts { delivered, superseded, dead_letters } = self.counts;
        write_record(&mut body, COUNTS, &[delivered, superseded, dead_letters]);
        for (position, time) in &self.marks {
            write_record(&mut body, MARK, &[*position, *time]);
        }
        write_record(&mut body, PAUSED, &[u64::from(self.paused)]);
        write_record(&mut body, RETRIED, &[self.retried]);
        write_record(&mut body, ASKED, &[self.asked_until]);
        write_record(&mut body, MODE, &[u64::from(held.is_some())]);
        for (membership, member) in held.into_iter().flat_map(Held::iter) {
            write_held(&mut body, membership, Some((&member.row, member.known)));
        }
        let mut block = vec![0; block::HEAD_BYTES];
        block.append(&mut body);
        block::seal(&mut block, FILE_HEAD_BYTES as u64);
        let mut file =
            File::options().read(true).write(true).create(true).truncate(true).open(&new).map_err(&failed)?;
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&VERSION.to_le_bytes());
        let written = file.write_all(&head).and_then(|()| file.write_all(&block)).and_then(|()| file.sync_all());
        written.and_then(|()| std::fs::rename(&new, &path)).map_err(&failed)?;
        crate::disk::sync_folder_of(&path).map_err(&failed)?;
        self.offset = (head.len() + block.len()) as u64;
        file.seek(SeekFrom::Start(self.offset)).map_err(&failed)?;
        (self.file, self.compacted, self.is_synced) = (file, self.offset, true);
        self.pending.clear();
        Ok(())
    }

    fn record(&mut self, tag: u8, values: &[u64]) {
        write_record(&mut self.pending, tag, values);
    }

    /// Applies the records of a block. None: it can't be read.
    fn apply(&mut self, mut body: &[u8], held: &mut Held, is_state: &mut bool) -> Option<()> {
        while let Some((&tag, rest)) = body.split_first() {
            body = rest;
            let mut number = || read_varint(&mut body);
            match tag {
                BASE => {
                    self.base = Base { position: number()?, number: number()?, sent: number()? };
                    self.settled.insert(0, self.base.number);
                }
                SETTLED => {
                    let (first, many, end) = (number()?, number()?, number()?);
                    let added = self.settled.insert(first, first.checked_add(many)?);
                    count(&mut self.counts, end, added);
                }
                COUNTS => {
                    self.counts = Counts { delivered: number()?, superseded: number()?, dead_letters: number()? };
                }
                HELD => {
                    let (membership, rest) = body.split_first_chunk::<16>()?;
                    let (&known, rest) = rest.split_first()?;
                    body = rest;
                    let row = if known == 0 { None } else { Some((read_text(&mut body)?, known == 1)) };
                    held.set(u128::from_le_bytes(*membership), row);
                }
                MARK => {
                    let (position, time) = (number()?, number()?);
                    self.push_mark(position, time);
                }
                PAUSED => self.paused = number()? == 1,
                RETRIED => self.retried = number()?,
                ASKED => self.asked_until = number()?,
                MODE => {
                    *is_state = number()? == 1;
                    if !*is_state {
                        held.clear();
                    }
                }
                AGAIN => {
                    self.counts.dead_letters = self.counts.dead_letters.saturating_sub(1);
                    let end = number()?;
                    count(&mut self.counts, end, 1);
                }
                _ => return None,
            }
        }
        Some(())
    }
}

/// The body of a block at an offset of the file; `None` if there is no whole one.
fn block_at(bytes: &[u8], offset: u64) -> Option<&[u8]> {
    let (head, rest) = bytes.get(offset as usize..)?.split_first_chunk()?;
    let (length, sum) = block::read_head(head)?;
    rest.get(..length).filter(|body| block::is_whole(body, sum, offset))
}

fn number_of(end: End) -> u64 {
    match end {
        End::Delivered => 0,
        End::Superseded => 1,
        End::Dead(_) => 2,
        End::Unsent => 3,
    }
}

fn count(counts: &mut Counts, end: u64, many: u64) {
    match end {
        0 => counts.delivered += many,
        1 => counts.superseded += many,
        2 => counts.dead_letters += many,
        _ => {}
    }
}

fn write_record(out: &mut Vec<u8>, tag: u8, values: &[u64]) {
    out.push(tag);
    values.iter().for_each(|value| write_varint(out, *value));
}

fn write_held(out: &mut Vec<u8>, membership: u128, held: Option<(&str, bool)>) {
    out.push(HELD);
    out.extend_from_slice(&membership.to_le_bytes());
    match held {
        None => out.push(0),
        Some((row, known)) => {
            out.push(if known { 1 } else { 2 });
            write_text(out, row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::Death;
    use super::*;

    fn reopened(folder: &Path) -> Found {
        Progress::open(folder, 0, 0, true).unwrap()
    }

    #[test]
    fn what_was_written_is_there_after_the_process_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut progress = reopened(folder.path()).progress;
        progress.restart(Some(&Held::new(true))).unwrap();
        progress.set_base(Base { position: 40, number: 3, sent: 2 });
        progress.settle(3, End::Delivered);
        progress.settle(5, End::Superseded);
        progress.settle(6, End::Dead(Death::Refused));
        progress.settle(7, End::Unsent);
        progress.settle(5, End::Delivered);
        progress.hold(1, Some(("{}", true)));
        progress.hold(2, Some(("{}", false)));
        progress.hold(3, Some(("", true)));
        progress.hold(3, None);
        progress.mark(100, 5_000);
        progress.pause(true);
        progress.set_retried(6);
        progress.set_asked_until(7_000);
        progress.write(None).unwrap();
        drop(progress);
        let Found { progress, held } = reopened(folder.path());
        assert_eq!(progress.base(), Base { position: 40, number: 3, sent: 2 });
        assert_eq!(progress.counts(), Counts { delivered: 1, superseded: 1, dead_letters: 1 });
        assert_eq!((progress.settled().watermark(), progress.settled().above().collect::<Vec<_>>()), (4, vec![(5, 8)]));
        assert_eq!((progress.is_paused(), progress.retried(), progress.asked_until()), (true, 6, 7_000));
        assert_eq!((progress.committed_by(4_999), progress.committed_by(5_000)), (0, 100));
        assert_eq!((progress.committed_at(99), progress.committed_at(100)), (Some(5_000), None));
        let held = held.unwrap();
        let known = |membership| held.get(membership).map(|held| held.known);
        assert_eq!((known(1), known(2), known(3)), (Some(true), Some(false), None));
    }

    /// Set `UPDATE=1` to write the file of a new version.
    #[test]
    fn files_of_this_version_stay_readable() {
        let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/webhook/testdata");
        let path = testdata.join("delivery.v3");
        let folder = tempfile::tempdir().unwrap();
        let mut progress = reopened(folder.path()).progress;
        progress.restart(Some(&Held::new(true))).unwrap();
        progress.set_base(Base { position: 300, number: 7, sent: 5 });
        for (number, end) in
            [(7, End::Delivered), (300, End::Superseded), (301, End::Dead(Death::Expired)), (9, End::Unsent)]
        {
            progress.settle(number, end);
        }
        progress.settle_again(End::Delivered);
        progress.hold(u128::MAX - 1, Some(("{\"plan\":\"pro\"}", true)));
        progress.hold(2, Some(("", false)));
        progress.hold(3, None);
        progress.mark(1_000, 1_795_428_000_000);
        progress.pause(true);
        progress.set_retried(300);
        progress.set_asked_until(1_795_428_600_000);
        progress.write(None).unwrap();
        let written = std::fs::read(folder.path().join("delivery")).unwrap();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &written).unwrap();
        }
        let frozen = std::fs::read(&path).unwrap();
        assert_eq!(written, frozen);
        let asked = 1_795_428_600_000;
        for (name, retried, asked) in [("delivery.v1", 0, 0), ("delivery.v2", 300, 0), ("delivery.v3", 300, asked)] {
            let old = tempfile::tempdir().unwrap();
            std::fs::copy(testdata.join(name), old.path().join("delivery")).unwrap();
            // What is read is written anew in this version.
            for _ in 0..2 {
                let Found { progress: read, held } = reopened(old.path());
                assert_eq!((read.base(), read.counts(), read.is_paused()), (progress.base(), progress.counts(), true));
                assert_eq!((read.retried(), read.asked_until()), (retried, asked), "{name}");
                assert_eq!(
                    (read.settled.watermark(), read.settled.above().collect::<Vec<_>>()),
                    (8, vec![(9, 10), (300, 302)])
                );
                assert_eq!(held.unwrap().iter().count(), 2);
            }
        }
    }

    #[test]
    fn a_dead_letter_that_is_sent_again_is_counted_by_its_new_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut progress = reopened(folder.path()).progress;
        progress.settle(0, End::Dead(Death::Refused));
        progress.settle(1, End::Dead(Death::Refused));
        progress.settle_again(End::Delivered);
        progress.settle_again(End::Dead(Death::Refused));
        progress.write(None).unwrap();
        let expected = Counts { delivered: 1, superseded: 0, dead_letters: 1 };
        assert_eq!(progress.counts(), expected);
        assert_eq!(reopened(folder.path()).progress.counts(), expected);
    }

    #[test]
    fn a_file_that_is_written_anew_says_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let Found { mut progress, .. } = reopened(folder.path());
        let mut held = Held::new(true);
        progress.restart(Some(&held)).unwrap();
        let row = "x".repeat(1 << 16);
        for number in 0..400_u64 {
            progress.settle(2 * number, End::Delivered);
            progress.hold(u128::from(number), Some((&row, true)));
            held.set(u128::from(number), Some(("y", number % 2 == 0)));
            progress.write(Some(&held)).unwrap();
        }
        let length = std::fs::metadata(folder.path().join("delivery")).unwrap().len();
        assert!(length < 2 * COMPACT_BYTES + (1 << 20), "{length}");
        progress.rewrite(Some(&held)).unwrap();
        let again = reopened(folder.path());
        assert_eq!(again.progress.settled, progress.settled);
        assert_eq!(again.progress.counts(), progress.counts());
        assert_eq!(again.held.unwrap().iter().count(), 400);
    }

    #[test]
    fn a_torn_end_is_cut_off_and_a_file_that_is_behind_the_cursor_is_void() {
        let folder = tempfile::tempdir().unwrap();
        let mut progress = reopened(folder.path()).progress;
        for number in 0..3 {
            progress.settle(number, End::Delivered);
            progress.write(None).unwrap();
        }
        let path = folder.path().join("delivery");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let again = reopened(folder.path()).progress;
        assert_eq!(again.settled().watermark(), 2);
        let void = Progress::open(folder.path(), 500, 0, true).unwrap().progress;
        assert_eq!(void.base().position, 500);
        assert_eq!(void.counts().delivered, 2);
    }

    #[test]
    fn marks_thin_out_and_never_date_a_change_too_early() {
        let folder = tempfile::tempdir().unwrap();
        let mut progress = reopened(folder.path()).progress;
        for second in 1..=5_000_u64 {
            progress.mark(second * 10, second * 1_000);
        }
        assert!(progress.marks.len() <= MARKS);
        for second in 1..5_000_u64 {
            let at = progress.committed_at(second * 10 - 1).unwrap();
            assert!(at >= second * 1_000, "{second}");
        }
    }
}
