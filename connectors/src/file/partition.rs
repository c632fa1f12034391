//! One file as a partition: its lines in order, and under `follow` what comes after them.
//!
//! Holds one buffer. Reads go behind the unfinished line that the last read left, which is moved to the front first:
//! a byte is copied once by the system and, where it is in such a line, once more. The buffer grows only for a line
//! that does not fit, up to `message_bytes`; of a longer line the first 64 KiB are kept and the rest is counted.
//!
//! A file that is damaged in the middle counts up to there, whole lines only, with a warning; [`Partition::damage`] has the reason.
//!
//! Under `follow`, as `tail -F`:
//! * an unfinished last line waits for its newline;
//! * a file that gets shorter, or has other content before the position than was read, is read again from its start, with a
//!   warning;
//! * when another file stands at the path **and has content**, the old one is read to its end, then the new one. Until
//!   then the old one is read: the writer may not have turned to the new one yet;
//! * in both cases an unfinished last line of the old content counts as a line: nothing can finish it any more;
//! * a file that is gone, or not there yet, is waited for;
//! * compressed content is read once. One that is damaged is looked at again when the file has changed: it may have been read
//!   while it was written. What was read of it is not read again.
//!
//! Positions go on over all that: they are those of all content ever read of the path, one after the other. So two
//! lines never have the same position, and later lines have later ones.
//!
//! A followed file says when it is written to ([`Partition::wake_with`]) where the system notices it (`notices.rs`): also when another file
//! comes in its place, or when it comes at all. What is missed is found when the file is looked at next.
//!
//! Beyond the budget of open files (`budget.rs`) a file is closed between two polls. If another one has its name by then, the rest of
//! it can't be read.

use super::budget::{self, OpenFile};
use super::find::{Listed, identity, unreadable};
use super::input::{Coding, Input, Stored};
use super::notices::{Wake, Watched};
use super::tail::Tail;
use super::{Followed, Identity};
use memchr::{memchr, memrchr};
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use usher_core::lock::lock;
use usher_core::source::{Body, HEAD_BYTES, Partition, PartitionId, Polled, Record, Records, Resume, SourceError};

/// How often a damaged file that is followed is looked at.
const LOOK_AGAIN: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(1) };

/// One file of a source.
pub struct FilePartition {
    id: PartitionId,
    path: PathBuf,
    /// Goes on after the end, if its content is plain, and with another file of its name: the source is followed.
    follow: bool,
    /// The file that was there when it was listed.
    listed: Option<Identity>,
    message_bytes: usize,
    buffer_bytes: usize,
    /// Stored bytes at the open; none where it was no regular file.
    size: Option<u64>,
    followed: Followed,
    stage: Stage,
    /// A pipe that has been opened, of which the first bytes have not come.
    opening: Option<Stored>,
    /// Another file with content stands at the path: this one is read to its end.
    replaced: bool,
    caught_up: bool,
    buffer: Vec<u8>,
    /// What has been read and not handed out.
    unread: Range<usize>,
    /// How many of the first unread bytes are known to hold no newline.
    scanned: usize,
    /// Where `unread` starts in the partition.
    position: u64,
    /// The content of the file before `position`, if it is plain.
    tail: Tail,
    /// When the file had been changed last, when its content was compared.
    compared: Option<Changed>,
    /// Where the content of the file that is read now starts in the partition.
    base: u64,
    /// What an earlier run read, while no file has been opened.
    resumed: Option<Resumed>,
    /// The file that is read, or was read last.
    held: Option<Identity>,
    /// The line being read, where it is too large.
    long: Option<Long>,
    /// The one handed out last.
    long_done: Option<Long>,
    /// Why the content is read no further.
    damage: Option<SourceError>,
    /// What is woken when there is more.
    wake: Option<Wake>,
    /// The folder, the file that is read, and the one that stands at the path in its place.
    watched: [Option<Watched>; 3],
}

enum Stage {
    /// Not opened yet.
    Closed,
    Open(Input),
    /// Damaged, and followed: it is looked at again.
    Damaged(Damaged),
    Ended,
    Failed(SourceError),
}

/// A damaged file that may still be written.
struct Damaged {
    /// As it was when it was read.
    read: Version,
    /// As it was when it was looked at last, and when that was.
    seen: Version,
    looked: Instant,
}

/// When a file was written to last: s and ns.
type Changed = (i64, i64);

fn changed(metadata: &Metadata) -> Changed {
    (metadata.mtime(), metadata.mtime_nsec())
}

/// What differs when a file has been written to.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Version {
    identity: Identity,
    length: u64,
    changed: Changed,
}

impl Version {
    fn of(metadata: &Metadata) -> Version {
        Version { identity: identity(metadata), length: metadata.len(), changed: changed(metadata) }
    }
}

/// The file that an earlier run read.
#[derive(Clone, Copy)]
struct Resumed {
    file: Identity,
    /// The tail of the plain content that it read.
    tail: Option<ResumedTail>,
}

/// The tail of what an earlier run read.
#[derive(Clone, Copy)]
struct ResumedTail {
    /// Where it ends in the file.
    offset: u64,
    hash: u64,
}

/// A line that is too large, of which some has been read.
struct Long {
    position: u64,
    head: Vec<u8>,
    length: u64,
    ends_in_return: bool,
}

/// What is handed out.
enum Batch {
    Lines(Range<usize>),
    Long,
    Idle,
    End,
}

impl FilePartition {
    pub fn new(
        id: PartitionId,
        file: Listed,
        follow: bool,
        message_bytes: usize,
        buffer_bytes: usize,
        followed: &Followed,
    ) -> FilePartition {
        FilePartition {
            id,
            path: file.path,
            follow,
            listed: file.identity,
            message_bytes,
            buffer_bytes,
            size: file.size,
            followed: followed.clone(),
            stage: Stage::Closed,
            opening: None,
            replaced: false,
            // Of what is not there yet, nothing is left to read; how much comes from a pipe is not known.
            caught_up: file.identity.is_none() || file.size == Some(0),
            buffer: Vec::new(),
            unread: 0..0,
            scanned: 0,
            position: 0,
            tail: Tail::default(),
            compared: None,
            base: 0,
            resumed: None,
            held: None,
            long: None,
            long_done: None,
            damage: None,
            wake: None,
            watched: [const { None }; 3],
        }
    }

    /// Watches the file at the path, which is read from now on.
    fn watch(&mut self) {
        if let Some(wake) = &self.wake {
            self.watched[1] = Watched::file(&self.path, wake);
            self.watched[2] = None;
        }
    }

    /// Watches the file at the path too, which has nothing to read yet.
    fn watch_next(&mut self) {
        if let (Some(wake), None) = (&self.wake, &self.watched[2]) {
            self.watched[2] = Watched::file(&self.path, wake);
        }
    }

    /// Goes on where an earlier run stood. What is there now is looked at when it is opened, but for files that are not
    /// followed: one that is shorter than what was read of it, has other content there, or is another one, is refused at once.
    pub fn resume(&mut self, from: &Resume) -> Result<(), SourceError> {
        let Some((resumed, base)) = parse_identity(&from.identity) else {
            return Err(self.unlike("is a file".to_owned(), format!("`{}`", from.identity)));
        };
        let base = base.min(from.position);
        let read = from.position - base;
        (self.position, self.base, self.resumed) = (from.position, base, Some(resumed));
        self.caught_up &= self.size.is_none_or(|size| size <= read);
        let (Some(listed), Some(size), false) = (self.listed, self.size, self.follow) else {
            return Ok(());
        };
        if listed != resumed.file {
            return Err(self.unlike("is another file".to_owned(), format!("one whose inode is {}", resumed.file.1)));
        }
        let opened = self.try_open();
        let Some(Input::Plain(mut stored)) = opened.map_err(|error| unreadable(&self.id.source, &self.path, &error))?
        else {
            return Ok(());
        };
        if size < read {
            return Err(self.unlike(format!("ends at {size}"), format!("up to {read}")));
        }
        match is_continued(&mut stored, read, resumed.tail) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.unlike("has other content".to_owned(), format!("up to {read}"))),
            Err(error) => Err(unreadable(&self.id.source, &self.path, &error)),
        }
    }

    fn unlike(&self, found: String, read: String) -> SourceError {
        SourceError::Unlike { id: self.id.source.clone(), partition: self.id.name.clone(), found, read }
    }

    /// Skips what has been read of the file just opened.
    fn skip_read(&mut self, input: &mut Input) -> io::Result<()> {
        let read = self.position - self.base;
        if let Some(resumed) = self.resumed.take()
            && self.follow
        {
            let is_same = input.stored().identity() == resumed.file
                && match input {
                    Input::Plain(stored) => is_continued(stored, read, resumed.tail)?,
                    Input::Packed(_) => true,
                };
            if !is_same {
                // Where nothing was read there is nothing to go on from: the file may just have come.
                if read > 0 {
                    tracing::warn!(
                        path = %self.path.display(),
                        "the file is not the one that was read, or has other content; reading it from its start"
                    );
                }
                self.base = self.position;
                return Ok(());
            }
        }
        match input {
            Input::Plain(_) if read == 0 => Ok(()),
            Input::Plain(stored) => {
                let mut tail = vec![0; Tail::length_at(read)];
                let start = read - tail.len() as u64;
                stored.read_at(&mut tail, start)?;
                self.tail = Tail::new(tail);
                stored.seek(read)
            }
            packed => {
                let mut left = packed.by_ref().take(read);
                // What is to be skipped is waited for.
                while let Err(error) = io::copy(&mut left, &mut io::sink()) {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        return Err(error);
                    }
                }
                if left.limit() == 0 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
            }
        }
    }

    /// Closes the file until it is read again.
    pub fn release(&mut self) {
        if let Stage::Open(input) = &mut self.stage {
            input.release();
        }
    }

    /// How much of the file's content is in memory.
    #[cfg(test)]
    pub fn held_bytes(&self) -> usize {
        self.buffer.capacity() + self.long.iter().chain(&self.long_done).map(|long| long.head.capacity()).sum::<usize>()
    }

    /// What comes next; loops until there is something to say.
    fn next_batch(&mut self, budget: usize) -> Result<Batch, SourceError> {
        loop {
            if let Some(batch) = self.take_lines(budget) {
                return Ok(batch);
            }
            match &mut self.stage {
                Stage::Closed => {
                    if !self.open()? {
                        return Ok(Batch::Idle);
                    }
                }
                Stage::Open(input) => {
                    if input.stored().is_released() && !self.is_changed() {
                        return Ok(Batch::Idle);
                    }
                    let Some(read) = self.fill()? else { return Ok(Batch::Idle) };
                    if self.damage.is_none() {
                        let batch = if read == 0 { self.at_the_end()? } else { self.compare(read)? };
                        if let Some(batch) = batch {
                            return Ok(batch);
                        }
                    }
                }
                Stage::Damaged(damaged) => {
                    if damaged.looked.elapsed() < LOOK_AGAIN || !self.is_mended() {
                        return Ok(Batch::Idle);
                    }
                }
                Stage::Ended => {
                    self.buffer = Vec::new();
                    return Ok(Batch::End);
                }
                Stage::Failed(error) => return Err(error.clone()),
            }
        }
    }

    /// Returns whether a followed file that was closed may have more than was read of it.
    fn is_changed(&self) -> bool {
        let Stage::Open(Input::Plain(stored)) = &self.stage else { return true };
        let unchanged = |there: &Metadata| {
            identity(there) == stored.identity() && there.len() == stored.read && self.compared == Some(changed(there))
        };
        !self.follow || !self.caught_up || !fs::metadata(&self.path).is_ok_and(|there| unchanged(&there))
    }

    /// Looks at a damaged file again. Returns whether it has changed since it was read and is no longer written, or is twice as
    /// long: then it is read on.
    fn is_mended(&mut self) -> bool {
        let Stage::Damaged(damaged) = &mut self.stage else {
            unreachable!("only a damaged file is looked at again");
        };
        damaged.looked = Instant::now();
        let Ok(there) = fs::metadata(&self.path).map(|metadata| Version::of(&metadata)) else { return false };
        let rests = std::mem::replace(&mut damaged.seen, there) == there;
        let read = damaged.read;
        if there == read || !rests && there.length < read.length.saturating_mul(2) {
            return false;
        }
        if there.identity != read.identity {
            self.base = self.position;
        }
        self.damage = None;
        self.stage = Stage::Closed;
        true
    }

    /// Takes whole lines out of the buffer, or the rest of a long one; none where no newline has been read.
    fn take_lines(&mut self, budget: usize) -> Option<Batch> {
        let unread = &self.buffer[self.unread.clone()];
        if self.long.is_some() {
            let newline = memchr(b'\n', unread);
            let line = newline.unwrap_or(unread.len());
            self.lengthen(line);
            return newline.map(|_| {
                self.advance(1);
                self.finish_long()
            });
        }
        // As many lines as the budget allows, or one.
        let within = budget.clamp(self.scanned, unread.len());
        let last = memrchr(b'\n', &unread[self.scanned..within])
            .map(|at| self.scanned + at)
            .or_else(|| memchr(b'\n', &unread[within..]).map(|at| within + at));
        match last {
            Some(newline) => {
                let start = self.unread.start;
                self.advance(newline + 1);
                Some(Batch::Lines(start..self.unread.start))
            }
            None => {
                self.scanned = unread.len();
                // Three for a byte order mark, and one for the return before a newline that may come.
                if unread.len() > self.message_bytes.saturating_add(4) {
                    self.long =
                        Some(Long { position: self.position, head: Vec::new(), length: 0, ends_in_return: false });
                    self.lengthen(self.unread.len());
                }
                None
            }
        }
    }

    /// Moves the first `count` unread bytes to the long line.
    fn lengthen(&mut self, count: usize) {
        let bytes = &self.buffer[self.unread.start..][..count];
        let long = self.long.as_mut().expect("a long line is being read");
        let room = HEAD_BYTES - long.head.len();
        long.head.extend_from_slice(&bytes[..count.min(room)]);
        long.length += count as u64;
        if let Some(last) = bytes.last() {
            long.ends_in_return = *last == b'\r';
        }
        self.advance(count);
    }

    /// The long line is at its end.
    fn finish_long(&mut self) -> Batch {
        self.long_done = self.long.take();
        Batch::Long
    }

    /// Drops the first `count` unread bytes.
    fn advance(&mut self, count: usize) {
        self.tail.pass(&self.buffer[self.unread.start..][..count]);
        self.unread.start += count;
        self.scanned = 0;
        self.position += count as u64;
    }

    /// Opens the file at the path; false where it is waited for.
    fn open(&mut self) -> Result<bool, SourceError> {
        match self.try_open() {
            Ok(Some(mut input)) => {
                self.hold(&input);
                let skipped = self.skip_read(&mut input);
                self.stage = Stage::Open(input);
                match skipped {
                    Ok(()) => Ok(true),
                    Err(error) => self.fail(&error).map(|()| true),
                }
            }
            // Its first bytes are still to come.
            Ok(None) if self.opening.is_some() => Ok(false),
            Ok(None) => {
                self.watch_next();
                self.caught_up = true;
                Ok(false)
            }
            Err(error) if self.follow && error.kind() == io::ErrorKind::NotFound => {
                self.caught_up = true;
                Ok(false)
            }
            Err(error) => self.fail(&error).map(|()| true),
        }
    }

    /// Opens the file at the path. None if its first bytes are to come.
    fn try_open(&mut self) -> io::Result<Option<Input>> {
        let stored = match self.opening.take() {
            Some(stored) => stored,
            None => {
                let file = OpenFile::open(&self.path)?;
                if file.metadata()?.is_dir() {
                    return Err(io::ErrorKind::IsADirectory.into());
                }
                Stored::new(&self.path, file)?
            }
        };
        Ok(match Input::new(stored, self.follow)? {
            Ok(input) => Some(input),
            Err(stored) => {
                self.opening = Some(stored).filter(Stored::waits);
                None
            }
        })
    }

    /// Notes that `input` is the file that is held now, and no other.
    fn hold(&mut self, input: &Input) {
        let now = input.stored().identity();
        let before = self.held.replace(now);
        self.watch();
        if self.follow && matches!(input, Input::Plain(_)) {
            let mut followed = lock(&self.followed);
            if let Some(before) = before {
                followed.insert(before, false);
            }
            followed.insert(now, true);
        }
    }

    /// Reads once into the buffer, behind what is unread: how many bytes came. None if a pipe has nothing.
    fn fill(&mut self) -> Result<Option<usize>, SourceError> {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        let Stage::Open(input) = &mut self.stage else {
            unreachable!("only an open file is read");
        };
        // A short file takes no more than it has, and the byte by which its end shows.
        let left = match (&*input, self.size) {
            (Input::Plain(stored), Some(size)) if !self.follow => size.saturating_sub(stored.read),
            _ => u64::MAX,
        };
        let room = self.buffer_bytes.min(usize::try_from(left).unwrap_or(usize::MAX).saturating_add(1 + Coding::FIRST));
        if self.buffer.len() - self.unread.end < room.div_ceil(2) {
            self.buffer.resize(self.unread.end + room, 0);
        }
        loop {
            match input.read(&mut self.buffer[self.unread.end..]) {
                Ok(count) => {
                    self.unread.end += count;
                    return Ok(Some(count));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                // It was closed, and there is another file now, or none: what was not read of it is lost.
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.follow => {
                    match input {
                        Input::Plain(_) => self.replaced = true,
                        Input::Packed(_) => self.end_damaged(&error),
                    }
                    return Ok(Some(0));
                }
                Err(error) => return self.fail(&error).map(|()| Some(0)),
            }
        }
    }

    /// Compares the content before the `read` bytes that came last with what was read of it. If the file was cut and has
    /// grown again, goes back to its start; returns the unfinished line of the old content.
    fn compare(&mut self, read: usize) -> Result<Option<Batch>, SourceError> {
        let before = self.unread.end - read;
        let Stage::Open(Input::Plain(stored)) = &mut self.stage else { return Ok(None) };
        if !self.follow {
            return Ok(None);
        }
        let tail = self.tail.with(&self.buffer[self.unread.start..before]);
        let from = self.position - self.base + (before - self.unread.start) as u64;
        match is_there(stored, &tail, from) {
            Ok(true) => Ok(None),
            Ok(false) => {
                self.unread.end = before;
                self.start_again("the file was cut and has grown again; reading it from its start")
            }
            Err(error) => self.fail(&error).map(|()| None),
        }
    }

    /// Goes back to the start of a followed file whose content has changed. Returns the unfinished line of the old content.
    fn start_again(&mut self, why: &str) -> Result<Option<Batch>, SourceError> {
        tracing::warn!(path = %self.path.display(), read = self.position - self.base, "{why}");
        let Stage::Open(Input::Plain(stored)) = &mut self.stage else {
            unreachable!("only plain content is followed");
        };
        if let Err(error) = stored.seek(0) {
            return self.fail(&error).map(|()| None);
        }
        let unfinished = self.take_unfinished();
        self.base = self.position;
        self.tail.clear();
        Ok(unfinished)
    }

    /// Decides what the end of the content means; none: that there is more to read.
    fn at_the_end(&mut self) -> Result<Option<Batch>, SourceError> {
        self.caught_up = true;
        let Stage::Open(Input::Plain(stored)) = &mut self.stage else {
            self.stage = Stage::Ended;
            return Ok(self.take_unfinished());
        };
        if !self.follow {
            self.stage = Stage::Ended;
            return Ok(self.take_unfinished());
        }
        if self.replaced {
            // The old file has been read to its end after the new one was seen.
            self.replaced = false;
            return self.turn_to_the_next();
        }
        let held = match stored.metadata() {
            Ok(metadata) => metadata,
            Err(error) => return self.fail(&error).map(|()| None),
        };
        if held.len() < stored.read {
            return self.start_again("the file got shorter; reading it from its start");
        }
        if self.compared.replace(changed(&held)) != Some(changed(&held)) {
            let tail = self.tail.with(&self.buffer[self.unread.clone()]);
            let read = stored.read;
            match is_there(stored, &tail, read) {
                Ok(true) => {}
                Ok(false) => return self.start_again("the file has other content; reading it from its start"),
                Err(error) => return self.fail(&error).map(|()| None),
            }
        }
        match fs::metadata(&self.path) {
            Ok(there) if identity(&there) != identity(&held) && there.len() > 0 => {
                self.replaced = true;
                Ok(None)
            }
            Ok(there) => {
                if identity(&there) != identity(&held) {
                    self.watch_next();
                }
                Ok(Some(Batch::Idle))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(Batch::Idle)),
            Err(error) => self.fail(&error).map(|()| None),
        }
    }

    /// Turns to the file that stands at the path in place of the one that was read. Returns the unfinished line of the old one.
    fn turn_to_the_next(&mut self) -> Result<Option<Batch>, SourceError> {
        match self.try_open() {
            Ok(Some(input)) => {
                tracing::info!(path = %self.path.display(), "the file was replaced; reading the new one");
                self.hold(&input);
                self.stage = Stage::Open(input);
                let unfinished = self.take_unfinished();
                self.base = self.position;
                self.tail.clear();
                Ok(unfinished)
            }
            Ok(None) => {
                self.watch_next();
                Ok(Some(Batch::Idle))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(Batch::Idle)),
            Err(error) => self.fail(&error).map(|()| None),
        }
    }

    /// Takes the last line, which has no newline.
    fn take_unfinished(&mut self) -> Option<Batch> {
        if self.long.is_some() {
            return Some(self.finish_long());
        }
        let line = self.unread.clone();
        self.advance(line.len());
        (!line.is_empty()).then_some(Batch::Lines(line))
    }

    /// Ends the partition with the system's error, or the content with the decoder's.
    fn fail(&mut self, error: &io::Error) -> Result<(), SourceError> {
        // Files that can't be read give the system's codes, damaged content gives the decoder's own errors.
        let packed = matches!(&self.stage, Stage::Open(Input::Packed(_)));
        if !packed || error.raw_os_error().is_some() {
            let error = unreadable(&self.id.source, &self.path, error);
            self.stage = Stage::Failed(error.clone());
            return Err(error);
        }
        self.end_damaged(error);
        Ok(())
    }

    /// Ends the content where it is damaged. Of an unfinished line nothing counts.
    fn end_damaged(&mut self, error: &io::Error) {
        let damage = SourceError::Damaged {
            id: self.id.source.clone(),
            path: self.path.display().to_string(),
            position: self.position + self.unread.len() as u64,
            reason: error.to_string(),
        };
        tracing::warn!("{damage}");
        self.damage = Some(damage);
        self.caught_up = true;
        (self.unread, self.scanned, self.long) = (0..0, 0, None);
        self.stage = match fs::metadata(&self.path) {
            Ok(metadata) if self.follow => {
                let read = Version::of(&metadata);
                Stage::Damaged(Damaged { read, seen: read, looked: Instant::now() })
            }
            _ => Stage::Ended,
        };
    }
}

/// Returns whether the content of a file before an offset ends as a tail does.
fn is_there(stored: &mut Stored, tail: &Tail, offset: u64) -> io::Result<bool> {
    let mut there = vec![0; tail.bytes().len()];
    let Some(start) = offset.checked_sub(there.len() as u64) else { return Ok(false) };
    Ok(stored.read_at(&mut there, start)? && there == tail.bytes())
}

/// Returns whether a file has the content that an earlier run read, of which `read` bytes are not read again.
fn is_continued(stored: &mut Stored, read: u64, tail: Option<ResumedTail>) -> io::Result<bool> {
    let Some(tail) = tail else {
        return Ok(stored.metadata()?.len() >= read);
    };
    let mut there = vec![0; Tail::length_at(tail.offset)];
    let start = tail.offset - there.len() as u64;
    Ok(stored.read_at(&mut there, start)? && Tail::new(there).hash() == tail.hash)
}

/// Reads the identity of what was read: the file, its tail, and where its content starts in the partition.
fn parse_identity(text: &str) -> Option<(Resumed, u64)> {
    let parts: Vec<&str> = text.split(':').collect();
    let number = |text: &str| text.parse::<u64>().ok();
    let (device, inode, base) = match parts[..] {
        [device, inode, base, ..] => (number(device)?, number(inode)?, number(base)?),
        _ => return None,
    };
    let tail = match parts[3..] {
        [] => None,
        [offset, hash] => Some(ResumedTail { offset: number(offset)?, hash: u64::from_str_radix(hash, 16).ok()? }),
        _ => return None,
    };
    Some((Resumed { file: (device, inode), tail }, base))
}

impl Partition for FilePartition {
    fn id(&self) -> &PartitionId {
        &self.id
    }

    fn poll(&mut self, budget: usize) -> Result<Polled<'_>, SourceError> {
        let batch = self.next_batch(budget)?;
        if budget::is_exceeded() {
            self.release();
        }
        match batch {
            Batch::Lines(range) => {
                let position = self.position - range.len() as u64;
                Ok(Polled::Records(Records::lines(&self.buffer[range], position, self.message_bytes)))
            }
            Batch::Long => {
                let long = self.long_done.as_ref().expect("it was just put there");
                let length = long.length - u64::from(long.ends_in_return);
                let head = long.head.len().min(usize::try_from(length).unwrap_or(usize::MAX));
                Ok(Polled::Records(Records::one(Record {
                    position: long.position,
                    timestamp: None,
                    headers: None,
                    body: Body::TooLarge { head: &long.head[..head], length },
                })))
            }
            Batch::Idle => Ok(Polled::Idle),
            Batch::End => Ok(Polled::End),
        }
    }

    /// Only a followed file on a local file system does.
    fn wake_with(&mut self, wake: Arc<dyn Fn() + Send + Sync>) -> bool {
        if !self.follow {
            return false;
        }
        self.watched[0] = Watched::folder_of(&self.path, &wake);
        self.wake = Some(wake);
        self.watch();
        let is_there = self.watched[1].is_some() || !self.path.exists();
        if self.watched[0].is_none() || !is_there {
            (self.wake, self.watched) = (None, [const { None }; 3]);
        }
        self.wake.is_some()
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn identity(&self) -> String {
        let resumed = self.resumed.map(|resumed| resumed.file);
        let (device, inode) = self.held.or(resumed).or(self.listed).unwrap_or((0, 0));
        let file = format!("{device}:{inode}:{}", self.base);
        let tail = match (&self.stage, self.resumed) {
            (_, Some(Resumed { tail, .. })) => tail,
            (Stage::Open(Input::Plain(_)), None) => {
                Some(ResumedTail { offset: self.position - self.base, hash: self.tail.hash() })
            }
            _ => None,
        };
        tail.map_or(file.clone(), |tail| format!("{file}:{}:{:016x}", tail.offset, tail.hash))
    }

    fn progress(&self) -> (u64, u64) {
        let read = match &self.stage {
            Stage::Open(Input::Plain(_)) | Stage::Closed => self.position - self.base,
            Stage::Open(input) => input.stored().read,
            Stage::Damaged(_) | Stage::Ended | Stage::Failed(_) => self.size.unwrap_or(self.position),
        };
        (read, self.size.unwrap_or(0))
    }

    fn caught_up(&self) -> bool {
        self.caught_up
            || matches!(&self.stage, Stage::Open(Input::Plain(_)))
                && self.size.is_some_and(|size| self.position - self.base >= size)
    }

    fn damage(&self) -> Option<&SourceError> {
        self.damage.as_ref()
    }
}
