//! One file as a partition: its lines in order, and under `follow` what comes after them.
//!
//! Holds one buffer. Reads go behind the unfinished line that the last read left, which is moved to the front first:
//! a byte is copied once by the system and, where it is in such a line, once more. The buffer grows only for a line
//! that does not fit, up to `message_bytes`; of a longer line the first 64 KiB are kept and the rest is counted.
//!
//! Under `follow`, as `tail -F`:
//! * an unfinished last line waits for its newline;
//! * a file that gets shorter is read again from its start, with a warning;
//! * when another file stands at the path **and has content**, the old one is read to its end, then the new one. Until
//!   then the old one is read: the writer may not have turned to the new one yet;
//! * in both cases an unfinished last line of the old content counts as a line: nothing can finish it any more;
//! * a file that is gone, or not there yet, is waited for.
//!
//! Positions go on over all that: they are those of all content ever read of the path, one after the other. So two
//! lines never have the same position, and later lines have later ones. A file that is cut and grows beyond its old
//! length between two polls can't be distinguished from one that only grew.

use super::find::{Listed, identity, unreadable};
use super::input::{Coding, Input};
use super::{Followed, Identity};
use memchr::{memchr, memrchr};
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::path::PathBuf;
use usher_core::source::{Body, HEAD_BYTES, Partition, PartitionId, Polled, Record, Records, Resume, SourceError};

/// One file of a source.
pub struct FilePartition {
    id: PartitionId,
    path: PathBuf,
    coding: Coding,
    /// Goes on after the end: only plain files do.
    follow: bool,
    /// Another file of this name is what comes after it, and no mistake: the source is followed.
    rotates: bool,
    /// The file that was there when it was listed.
    listed: Option<Identity>,
    message_bytes: usize,
    buffer_bytes: usize,
    /// Stored bytes at the open; none where it was no regular file.
    size: Option<u64>,
    followed: Followed,
    stage: Stage,
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
    /// Where the content of the file that is read now starts in the partition.
    base: u64,
    /// The file that an earlier run read, while none has been opened.
    resumed: Option<Identity>,
    /// The file that is read, or was read last.
    held: Option<Identity>,
    /// The line being read, where it is too large.
    long: Option<Long>,
    /// The one handed out last.
    long_done: Option<Long>,
}

enum Stage {
    /// Not opened yet.
    Closed,
    Open(Input),
    Ended,
    Failed(SourceError),
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
        let coding = Coding::of(&file.path);
        let rotates = follow;
        let follow = follow && coding == Coding::Plain;
        FilePartition {
            id,
            path: file.path,
            coding,
            follow,
            rotates,
            listed: file.identity,
            message_bytes,
            buffer_bytes,
            size: file.size,
            followed: followed.clone(),
            stage: Stage::Closed,
            replaced: false,
            // Of what is not there yet, nothing is left to read; how much comes from a pipe is not known.
            caught_up: file.identity.is_none() || file.size == Some(0),
            buffer: Vec::new(),
            unread: 0..0,
            scanned: 0,
            position: 0,
            base: 0,
            resumed: None,
            held: None,
            long: None,
            long_done: None,
        }
    }

    /// Goes on where an earlier run stood. What is there now is looked at when it is opened, but for files that are not
    /// followed: one that is shorter than what was read of it, or another one, is refused at once.
    pub fn resume(&mut self, from: &Resume) -> Result<(), SourceError> {
        let mut parts = from.identity.split(':').map(|part| part.parse::<u64>());
        let (Some(Ok(device)), Some(Ok(inode)), Some(Ok(base))) = (parts.next(), parts.next(), parts.next()) else {
            return Err(self.unlike("is a file".to_owned(), format!("`{}`", from.identity)));
        };
        let base = base.min(from.position);
        let read = from.position - base;
        if !self.rotates && self.listed.is_some_and(|listed| listed != (device, inode)) {
            return Err(self.unlike("is another file".to_owned(), format!("one whose inode is {inode}")));
        }
        match self.size {
            Some(size) if !self.follow && self.coding == Coding::Plain && size < read => {
                Err(self.unlike(format!("ends at {size}"), format!("up to {read}")))
            }
            _ => {
                (self.position, self.base, self.resumed) = (from.position, base, Some((device, inode)));
                self.caught_up &= self.size.is_none_or(|size| size <= read);
                Ok(())
            }
        }
    }

    fn unlike(&self, found: String, read: String) -> SourceError {
        SourceError::Unlike { id: self.id.source.clone(), partition: self.id.name.clone(), found, read }
    }

    /// Skips what an earlier run has read of the file just opened.
    fn skip_read(&mut self, input: &mut Input) -> io::Result<()> {
        let Some(resumed) = self.resumed.take() else { return Ok(()) };
        let read = self.position - self.base;
        let metadata = input.counted().file.metadata()?;
        if self.rotates && (identity(&metadata) != resumed || self.follow && metadata.len() < read) {
            // Where nothing was read there is nothing to go on from: the file may just have come.
            if read > 0 {
                tracing::warn!(
                    path = %self.path.display(),
                    "the file is not the one that was read, or is shorter; reading it from its start"
                );
            }
            self.base = self.position;
            return Ok(());
        }
        match input {
            Input::Plain(counted) => {
                counted.read = read;
                counted.file.seek(io::SeekFrom::Start(read)).map(drop)
            }
            compressed => {
                let skipped = io::copy(&mut compressed.by_ref().take(read), &mut io::sink())?;
                if skipped == read { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
            }
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
                Stage::Open(_) => {
                    if self.fill()? == 0
                        && let Some(batch) = self.at_the_end()?
                    {
                        return Ok(batch);
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
                // One more for the return before a newline that may come.
                if unread.len() > self.message_bytes.saturating_add(1) {
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
        self.unread.start += count;
        self.scanned = 0;
        self.position += count as u64;
    }

    /// Opens the file at the path; false where it is waited for.
    fn open(&mut self) -> Result<bool, SourceError> {
        match self.try_open() {
            Ok(mut input) => {
                self.hold(&input)?;
                self.held = input.counted().file.metadata().ok().map(|metadata| identity(&metadata));
                if let Err(error) = self.skip_read(&mut input) {
                    return self.fail(&error);
                }
                self.stage = Stage::Open(input);
                Ok(true)
            }
            Err(error) if self.follow && error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => self.fail(&error),
        }
    }

    fn try_open(&self) -> io::Result<Input> {
        let file = File::open(&self.path)?;
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Input::new(file, self.coding)
    }

    /// Notes that `input` is the file that is held now, and no other.
    fn hold(&mut self, input: &Input) -> Result<(), SourceError> {
        if self.follow {
            let held = self.identity(input)?;
            let mut followed = self.followed.lock().expect("nobody panics with the lock");
            if let Stage::Open(old) = &self.stage
                && let Ok(old) = old.counted().file.metadata()
            {
                followed.insert(identity(&old), false);
            }
            followed.insert(held, true);
        }
        Ok(())
    }

    fn identity(&mut self, input: &Input) -> Result<Identity, SourceError> {
        match input.counted().file.metadata() {
            Ok(metadata) => Ok(identity(&metadata)),
            Err(error) => self.fail(&error),
        }
    }

    /// Reads once into the buffer, behind what is unread: how many bytes came.
    fn fill(&mut self) -> Result<usize, SourceError> {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        if self.buffer.len() - self.unread.end < self.buffer_bytes / 2 {
            self.buffer.resize(self.unread.end + self.buffer_bytes, 0);
        }
        let Stage::Open(input) = &mut self.stage else {
            unreachable!("only an open file is read");
        };
        loop {
            match input.read(&mut self.buffer[self.unread.end..]) {
                Ok(count) => {
                    self.unread.end += count;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // An empty file is an empty archive, whatever its name.
                Err(_) if input.counted().read == 0 && self.size == Some(0) => return Ok(0),
                Err(error) => return self.fail(&error),
            }
        }
    }

    /// Decides what the end of the content means; none: that there is more to read.
    fn at_the_end(&mut self) -> Result<Option<Batch>, SourceError> {
        self.caught_up = true;
        if !self.follow {
            self.stage = Stage::Ended;
            return Ok(self.take_unfinished());
        }
        let Stage::Open(Input::Plain(input)) = &mut self.stage else {
            unreachable!("only plain files are followed");
        };
        let held = match input.file.metadata() {
            Ok(metadata) => metadata,
            Err(error) => return self.fail(&error),
        };
        if held.len() < input.read {
            tracing::warn!(
                path = %self.path.display(), read = input.read, length = held.len(),
                "the file got shorter; reading it from its start"
            );
            input.read = 0;
            if let Err(error) = input.file.rewind() {
                return self.fail(&error);
            }
            let unfinished = self.take_unfinished();
            self.base = self.position;
            return Ok(unfinished);
        }
        if self.replaced {
            // The old file has been read to its end after the new one was seen.
            self.replaced = false;
            return match self.try_open() {
                Ok(input) => {
                    tracing::info!(path = %self.path.display(), "the file was replaced; reading the new one");
                    self.hold(&input)?;
                    self.held = input.counted().file.metadata().ok().map(|metadata| identity(&metadata));
                    self.stage = Stage::Open(input);
                    let unfinished = self.take_unfinished();
                    self.base = self.position;
                    Ok(unfinished)
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(Batch::Idle)),
                Err(error) => self.fail(&error),
            };
        }
        match fs::metadata(&self.path) {
            Ok(there) if identity(&there) != identity(&held) && there.len() > 0 => {
                self.replaced = true;
                Ok(None)
            }
            Ok(_) => Ok(Some(Batch::Idle)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(Batch::Idle)),
            Err(error) => self.fail(&error),
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

    /// Ends the partition with the system's or the decoder's error.
    fn fail<T>(&mut self, error: &io::Error) -> Result<T, SourceError> {
        // Files that can't be read give the system's codes, damaged content gives the decoder's own errors.
        let error = if self.coding == Coding::Plain || error.raw_os_error().is_some() {
            unreadable(&self.id.source, &self.path, error)
        } else {
            SourceError::Damaged {
                id: self.id.source.clone(),
                path: self.path.display().to_string(),
                position: self.position + self.unread.len() as u64,
                reason: error.to_string(),
            }
        };
        self.stage = Stage::Failed(error.clone());
        Err(error)
    }
}

impl Partition for FilePartition {
    fn id(&self) -> &PartitionId {
        &self.id
    }

    fn poll(&mut self, budget: usize) -> Result<Polled<'_>, SourceError> {
        match self.next_batch(budget)? {
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

    fn position(&self) -> u64 {
        self.position
    }

    fn identity(&self) -> String {
        let (device, inode) = self.held.or(self.resumed).or(self.listed).unwrap_or((0, 0));
        format!("{device}:{inode}:{}", self.base)
    }

    fn progress(&self) -> (u64, u64) {
        let read = match &self.stage {
            Stage::Open(Input::Plain(_)) | Stage::Closed => self.position - self.base,
            Stage::Open(input) => input.counted().read,
            Stage::Ended | Stage::Failed(_) => self.size.unwrap_or(self.position),
        };
        (read, self.size.unwrap_or(0))
    }

    fn caught_up(&self) -> bool {
        self.caught_up
            || self.coding == Coding::Plain && self.size.is_some_and(|size| self.position - self.base >= size)
    }
}
