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
//! * the old one is looked at until the next is replaced: whole lines that other writers still write to it are read, between two of the new one;
//! * a file that is gone, or not there yet, is waited for;
//! * a file at the path that another partition of the source reads, or has read, was renamed: it stays with that one (`followed.rs`);
//! * compressed content is read to its end. Then the file is looked at now and again: what comes in its place is read as for other
//!   files, and so is what is appended, but only when it rests: it may still be written. One that is damaged is looked at again in the same way,
//!   and what was read of it is not read again.
//!
//! Positions go on over all that: they are those of all content ever read of the path, one after the other. So two
//! lines never have the same position, and later lines have later ones. The identity has which file which stretch of them was read of
//! (`past.rs`). A later run finds these files by what they are, reads on where reading stood, and after a crash reads what
//! has to be read again at the same positions.
//!
//! A followed file says when it is written to ([`Partition::wake_with`]) where the system notices it (`notices.rs`): also when another file
//! comes in its place, or when it comes at all. What is missed is found when the file is looked at next.
//!
//! Beyond the budget of open files (`budget.rs`) a file is closed between two polls. If another one has its name by then, the rest of
//! it can't be read.

use super::Identity;
use super::budget::{self, OpenFile};
use super::find::{Listed, identity, unreadable};
use super::followed::{self, Followed};
use super::input::{Coding, Input, Stored};
use super::notices::{Wake, Watched};
use super::past::{History, Stretch};
use super::tail::{Mark, Tail};
use memchr::{memchr, memrchr};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use usher_core::lock::lock;
use usher_core::source::{Body, HEAD_BYTES, Partition, PartitionId, Polled, Record, Records, SourceError};

/// Stretches that are kept of files that are no longer there: what has to be read again after a crash is in the last ones.
const STRETCHES: usize = 16;
/// Stretches that are kept of all files. Of a folder that has more files that were rotated the oldest may be read anew after a restart.
const STRETCHES_MAX: usize = 4_096;

/// How often a compressed file that is followed, and was read, is looked at.
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
    /// Where the content of the file that is read now starts in the partition, were all of it read in one go.
    base: u64,
    /// Where the stretch of it begins that is read now.
    from: u64,
    /// Where it ends, if it is known to.
    to: Option<u64>,
    /// What an earlier run read, while the file that it read last, or one in its place, has not been opened.
    resumed: Option<History>,
    /// Stretches that are read again before that.
    again: VecDeque<Stretch>,
    /// Where files of an earlier run are now, and how long they are.
    places: BTreeMap<Identity, (PathBuf, u64)>,
    /// The stretches before the one that is read now.
    past: Vec<Stretch>,
    /// They as [`Partition::identity`] has them.
    past_text: String,
    /// Where the file that is read was found.
    read_at: PathBuf,
    /// Files that were read to their end, to which something may still be written.
    left: Vec<Left>,
    /// Whether something was written to them before the start.
    behind: bool,
    /// The file that is read otherwise, while one of [`FilePartition::left`] is read.
    away: Option<Left>,
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
    /// Compressed, followed, and read as far as it goes: it is looked at again.
    Resting(Resting),
    Ended,
    Failed(SourceError),
}

/// A compressed file that was read, and may be written or replaced.
struct Resting {
    /// As it was when it was read.
    read: Version,
    /// As it was when it was looked at last, and when that was.
    seen: Version,
    looked: Instant,
    /// Its end.
    end: Option<Mark>,
}

/// A file that was read, as far as that went.
struct Left {
    stored: Stored,
    /// Where in the file reading stands.
    offset: u64,
    tail: Tail,
    /// How long it was when it was looked at last.
    seen: u64,
}

impl Left {
    fn mark(&self) -> Mark {
        Mark { offset: self.offset, hash: self.tail.hash() }
    }
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
            from: 0,
            to: None,
            resumed: None,
            again: VecDeque::new(),
            places: BTreeMap::new(),
            past: Vec::new(),
            past_text: String::new(),
            read_at: PathBuf::new(),
            left: Vec::new(),
            behind: false,
            away: None,
            held: None,
            long: None,
            long_done: None,
            damage: None,
            wake: None,
            watched: [const { None }; 3],
        }
    }

    /// Watches the file that is read from now on.
    fn watch(&mut self) {
        if let Some(wake) = &self.wake {
            self.watched[1] = Watched::file(self.place(), wake);
            self.watched[2] = None;
        }
    }

    /// Returns where the file that is read was found.
    fn place(&self) -> &Path {
        if self.is_elsewhere() { &self.read_at } else { &self.path }
    }

    /// Returns whether the file that is read now was found under another name.
    fn is_elsewhere(&self) -> bool {
        !self.read_at.as_os_str().is_empty() && self.read_at != self.path
    }

    /// Watches the file at the path too, which has nothing to read yet.
    fn watch_next(&mut self) {
        if let (Some(wake), None) = (&self.wake, &self.watched[2]) {
            self.watched[2] = Watched::file(&self.path, wake);
        }
    }

    /// Goes on where an earlier run stood. What is there now is looked at when it is opened, but for files that are not
    /// followed: one that is shorter than what was read of it, has other content there, or is another one, is refused at once.
    ///
    /// `places` are where files of the record are now, if they are followed.
    pub fn resume(
        &mut self,
        position: u64,
        record: History,
        places: BTreeMap<Identity, (PathBuf, u64)>,
    ) -> Result<(), SourceError> {
        if self.follow {
            self.go_on(position, record, places);
            return Ok(());
        }
        let History { file, mark, .. } = record;
        (self.position, self.base) = (position, record.base.min(position));
        let read = position - self.base;
        self.caught_up &= self.size.is_none_or(|size| size <= read);
        self.resumed = Some(record);
        let (Some(listed), Some(size)) = (self.listed, self.size) else {
            return Ok(());
        };
        if listed != file {
            return Err(self.unlike("is another file".to_owned(), format!("one whose inode is {}", file.1)));
        }
        let opened = self.try_open(&self.path.clone());
        let Some(Input::Plain(mut stored)) = opened.map_err(|error| unreadable(&self.id.source, &self.path, &error))?
        else {
            return Ok(());
        };
        if size < read {
            return Err(self.unlike(format!("ends at {size}"), format!("up to {read}")));
        }
        match is_continued(&mut stored, read, mark) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.unlike("has other content".to_owned(), format!("up to {read}"))),
            Err(error) => Err(unreadable(&self.id.source, &self.path, &error)),
        }
    }

    /// As [`FilePartition::resume`], of a followed file.
    fn go_on(&mut self, position: u64, record: History, places: BTreeMap<Identity, (PathBuf, u64)>) {
        let again = record.past.iter().filter(|stretch| position < stretch.to);
        self.again = again.copied().collect();
        // What comes before cannot be read any more, and what follows keeps its positions.
        let first = self.again.front().map_or(record.from(), |stretch| stretch.from);
        self.position = position.max(first);
        self.base = record.base.min(self.position);
        self.from = self.position;
        self.set_past(record.past.clone());
        let is_here = self.listed == Some(record.file);
        let may_have_more = |(_, size): &(PathBuf, u64)| *size > 0;
        self.caught_up = match self.size {
            _ if !self.again.is_empty() => false,
            // Where the file has another name, another file may have this one.
            _ if !is_here && places.get(&record.file).is_some_and(may_have_more) => false,
            size => self.caught_up || is_here && size.is_some_and(|size| size <= self.position - self.base),
        };
        (self.resumed, self.places) = (Some(record), places);
    }

    /// Goes back to the first stretch of what an earlier run read that is still there, to read all again.
    pub fn read_again(&mut self, position: u64, record: History, places: BTreeMap<Identity, (PathBuf, u64)>) {
        let is_there = |file: &Identity| places.contains_key(file) || self.listed == Some(*file);
        let first = record.past.iter().find(|stretch| is_there(&stretch.file)).map(|stretch| stretch.from);
        let first = first.or_else(|| is_there(&record.file).then(|| record.from()));
        self.go_on(first.unwrap_or(position.max(record.end())), record, places);
    }

    /// Sets what was read before the file that is read now.
    fn set_past(&mut self, past: Vec<Stretch>) {
        let record = History { file: (0, 0), base: 0, mark: None, past };
        let text = record.to_string();
        self.past_text = text.find(';').map(|at| text[at..].to_owned()).unwrap_or_default();
        self.past = record.past;
    }

    fn unlike(&self, found: String, read: String) -> SourceError {
        SourceError::Unlike { id: self.id.source.clone(), partition: self.id.name.clone(), found, read }
    }

    /// Skips the first `read` bytes of the content of a file just opened.
    fn skip(&mut self, input: &mut Input, read: u64) -> io::Result<()> {
        self.tail.clear();
        match input {
            Input::Plain(_) if read == 0 => Ok(()),
            Input::Plain(stored) => {
                self.tail = Tail::of(stored, read)?.unwrap_or_default();
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
        self.left.iter_mut().chain(&mut self.away).for_each(|left| left.stored.release());
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
                    if matches!(self.stage, Stage::Open(_)) {
                        let batch = if read == 0 { self.at_the_end()? } else { self.compare(read)? };
                        if let Some(batch) = batch {
                            return Ok(batch);
                        }
                    }
                }
                Stage::Resting(resting) => {
                    (self.buffer, self.unread) = (Vec::new(), 0..0);
                    if resting.looked.elapsed() < LOOK_AGAIN || !self.is_awake() {
                        return Ok(Batch::Idle);
                    }
                }
                Stage::Ended => {
                    (self.buffer, self.unread) = (Vec::new(), 0..0);
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

    /// Looks at a compressed file again. Returns whether it, or one in its place, is to be read: one that has changed since it was read
    /// and is no longer written, or is twice as long.
    fn is_awake(&mut self) -> bool {
        let Stage::Resting(resting) = &mut self.stage else {
            unreachable!("only a file that rests is looked at again");
        };
        resting.looked = Instant::now();
        let (read, end) = (resting.read, resting.end);
        let found = |path: &Path| {
            let there = fs::metadata(path).ok().map(|metadata| (path.to_owned(), Version::of(&metadata)));
            there.filter(|(_, there)| *there != read && there.length > 0)
        };
        // Where it has another name by now, what matters is what has the partition's name.
        let its_own = |(_, there): &(PathBuf, Version)| there.identity == read.identity;
        let elsewhere = self.is_elsewhere().then(|| found(&self.read_at)).flatten().filter(its_own);
        let Some((path, there)) = elsewhere.or_else(|| found(&self.path)) else {
            self.caught_up = true;
            return false;
        };
        let Stage::Resting(resting) = &mut self.stage else { unreachable!("it rests") };
        let rests = std::mem::replace(&mut resting.seen, there) == there;
        if there.identity != read.identity {
            if followed::is_of_another(&self.followed, &self.id.name, &path, there.identity) {
                self.caught_up = true;
                return false;
            }
            if !rests && there.length < read.length.saturating_mul(2) {
                return false;
            }
            tracing::info!(path = %self.path.display(), "the file was replaced; reading the new one");
            self.leave(read.identity, end);
            (self.resumed, self.damage, self.stage) = (None, None, Stage::Closed);
            return true;
        }
        if !rests && there.length < read.length.saturating_mul(2) {
            return false;
        }
        if let (Some(end), None) = (end, &self.damage) {
            let opened = OpenFile::open(&path).and_then(|file| Stored::new(&path, file));
            match opened.and_then(|mut stored| end.is_in(&mut stored)) {
                // It was only touched.
                Ok(true) if there.length == end.offset => {
                    resting.read = there;
                    return false;
                }
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!(path = %path.display(), "the file has other content; reading it from its start");
                    (self.base, self.from) = (self.position, self.position);
                }
                // It is looked at again.
                Err(_) => return false,
            }
        }
        if self.is_elsewhere() {
            self.resumed = Some(History { file: read.identity, base: self.base, mark: None, past: self.past.clone() });
            self.places.insert(read.identity, (path, there.length));
        }
        (self.damage, self.stage) = (None, Stage::Closed);
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

    /// Opens the file that is to be read; false where it is waited for.
    fn open(&mut self) -> Result<bool, SourceError> {
        while let Some(stretch) = self.again.front().copied() {
            if self.open_again(stretch) {
                return Ok(true);
            }
            let (path, from, to) = (self.path.display(), self.position, stretch.to);
            tracing::warn!(%path, from, to, "a file that was read before is gone, or has other content; what was left of it is not read");
            self.position = self.position.max(to);
            self.again.pop_front();
        }
        // Of which nothing was read is read under its name, whatever that is.
        let moved = |resumed: &&History| resumed.is_read(self.position) && self.listed != Some(resumed.file);
        let moved = self.resumed.as_ref().filter(moved).map(|resumed| resumed.file);
        if let Some((path, _)) = moved.and_then(|file| self.places.remove(&file))
            && let Ok(Some(input)) = self.try_open(&path)
            && self.is_resumed(&input).is_ok_and(|is| is)
            && !self.is_taken(&path, input.stored().identity())
        {
            self.read_at = path;
            return self.begin(input).map(|()| true);
        }
        let path = self.path.clone();
        match self.try_open(&path) {
            Ok(Some(input)) => {
                if self.is_taken(&path, input.stored().identity()) {
                    self.caught_up = true;
                    return Ok(false);
                }
                self.read_at = path;
                self.begin(input).map(|()| true)
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

    /// Opens a file of which a stretch is read again; false if it is not there any more.
    fn open_again(&mut self, stretch: Stretch) -> bool {
        let place = self.places.get(&stretch.file).map_or(&self.path, |(path, _)| path).clone();
        let Ok(Some(mut input)) = self.try_open(&place) else { return false };
        if input.stored().identity() != stretch.file {
            return false;
        }
        let is_there = match stretch.mark {
            Some(mark) => {
                OpenFile::open(&place).and_then(|file| mark.is_in(&mut Stored::new(&place, file)?)).unwrap_or_default()
            }
            None => true,
        };
        self.position = self.position.max(stretch.from);
        if !is_there || self.skip(&mut input, self.position - stretch.base).is_err() {
            return false;
        }
        (self.base, self.from, self.to) = (stretch.base, self.position, Some(stretch.to));
        self.stage = Stage::Open(input);
        true
    }

    /// Ends a stretch that was read again. Returns its last line, if that has no newline.
    fn end_again(&mut self) -> Option<Batch> {
        let unfinished = self.take_unfinished();
        let stretch = self.again.pop_front().expect("it is being read");
        self.position = self.position.max(stretch.to);
        (self.to, self.replaced, self.stage) = (None, false, Stage::Closed);
        unfinished
    }

    /// Returns whether a file just opened is the one that was read last, and goes on from there.
    fn is_resumed(&self, input: &Input) -> io::Result<bool> {
        let Some(resumed) = &self.resumed else { return Ok(false) };
        let stored = input.stored();
        if stored.identity() != resumed.file {
            return Ok(false);
        }
        let mut beside = Stored::new(stored.path(), OpenFile::open(stored.path())?)?;
        if beside.identity() != resumed.file {
            return Ok(false);
        }
        match (input, resumed.mark) {
            (_, Some(mark)) => mark.is_in(&mut beside),
            (Input::Plain(_), None) => Ok(beside.metadata()?.len() >= self.position.saturating_sub(resumed.base)),
            (Input::Packed(_), None) => Ok(true),
        }
    }

    /// Begins to read a file just opened, behind what was read of it.
    fn begin(&mut self, mut input: Input) -> Result<(), SourceError> {
        let goes_on = match self.resumed.is_some() && self.follow {
            true => self.is_resumed(&input),
            false => Ok(true),
        };
        let resumed = self.resumed.take();
        if let (Some(resumed), Ok(true)) = (&resumed, &goes_on)
            && self.follow
        {
            self.position = self.position.max(resumed.from());
            (self.base, self.from) = (resumed.base, resumed.from());
        }
        if let (Some(resumed), Ok(false)) = (&resumed, &goes_on) {
            // Where nothing was read there is nothing to go on from: the file may just have come.
            if resumed.is_read(self.position) {
                tracing::warn!(
                    path = %self.path.display(),
                    "the file is not the one that was read, or has other content; reading it from its start"
                );
            }
            self.position = self.position.max(resumed.end());
            self.turn_to(&input);
        }
        if resumed.is_none() && self.base == self.position && !self.past.is_empty() {
            self.turn_to(&input);
        }
        self.hold(&input);
        let skipped = goes_on.and_then(|_| self.skip(&mut input, self.position - self.base));
        self.stage = Stage::Open(input);
        if self.follow {
            self.look_back(resumed.as_ref());
        }
        skipped.or_else(|error| self.fail(&error))
    }

    /// Sets where the content of a file starts that has not been read before, or that goes on where it was left.
    fn turn_to(&mut self, input: &Input) {
        let stored = input.stored();
        let known = self.past.iter().rfind(|stretch| stretch.file == stored.identity()).copied();
        let goes_on = |mark: Mark| {
            let beside = OpenFile::open(stored.path()).and_then(|file| Stored::new(stored.path(), file));
            beside.and_then(|mut beside| mark.is_in(&mut beside)).unwrap_or_default()
        };
        let known = known.filter(|stretch| stretch.mark.is_some_and(goes_on));
        self.base = known.map_or(self.position, |stretch| self.position - (stretch.to - stretch.base));
        self.from = self.position;
        self.compared = None;
    }

    /// Finds what was written to files that an earlier run had read to their end.
    fn look_back(&mut self, resumed: Option<&History>) {
        let places = std::mem::take(&mut self.places);
        let mut seen: BTreeSet<_> = self.held.into_iter().collect();
        for (nth, (file, mark)) in resumed.iter().flat_map(|resumed| resumed.files().rev()).enumerate() {
            let (Some((path, size)), Some(mark), true) = (places.get(&file), mark, seen.insert(file)) else { continue };
            if *size <= mark.offset && nth > 1 {
                continue;
            }
            let open = OpenFile::open(path).and_then(|file| Stored::new(path, file));
            let Ok(mut stored) = open else { continue };
            let is_plain = |stored: &mut Stored| Ok::<_, io::Error>(matches!(stored.coding()?, Some(Coding::Plain)));
            let Ok(Some(tail)) = Tail::of(&mut stored, mark.offset) else { continue };
            if stored.identity() == file && tail.hash() == mark.hash && is_plain(&mut stored).unwrap_or_default() {
                self.behind |= *size > mark.offset;
                self.left.insert(0, Left { stored, offset: mark.offset, tail, seen: mark.offset });
            }
        }
    }

    /// Notes that the file that was read is not read any more, and where reading stands in it.
    fn leave(&mut self, file: Identity, mark: Option<Mark>) {
        followed::leave(&self.followed, file, &self.id.name, mark);
        if self.from < self.position {
            let mut past = std::mem::take(&mut self.past);
            past.push(Stretch { file, base: self.base, from: self.from, to: self.position, mark });
            let old = past.len().saturating_sub(STRETCHES);
            if old > 0 {
                let followed = lock(&self.followed);
                let recent: BTreeSet<_> = past[old..].iter().map(|stretch| stretch.file).collect();
                let is_needed = |stretch: &Stretch| {
                    !recent.contains(&stretch.file)
                        && followed.get(&stretch.file).is_some_and(|claim| claim.by == self.id.name)
                };
                let mut nth = 0;
                past.retain(|stretch| {
                    nth += 1;
                    nth > old || is_needed(stretch)
                });
                past.drain(..past.len().saturating_sub(STRETCHES_MAX));
            }
            self.set_past(past);
        }
        (self.base, self.from) = (self.position, self.position);
    }

    /// Opens the file at a path. None if its first bytes are to come.
    fn try_open(&mut self, path: &Path) -> io::Result<Option<Input>> {
        let stored = match self.opening.take() {
            Some(stored) => stored,
            None => {
                let file = OpenFile::open(path)?;
                if file.metadata()?.is_dir() {
                    return Err(io::ErrorKind::IsADirectory.into());
                }
                Stored::new(path, file)?
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

    /// Returns whether a followed file at a path is another partition's; if not, it is this one's from now on.
    fn is_taken(&self, path: &Path, file: Identity) -> bool {
        self.follow
            && (followed::is_of_another(&self.followed, &self.id.name, path, file)
                || !followed::claim(&self.followed, file, &self.id.name))
    }

    /// Notes that `input` is the file that is held now, and no other.
    fn hold(&mut self, input: &Input) {
        let now = input.stored().identity();
        self.held = Some(now);
        self.watch();
        if self.follow {
            followed::claim(&self.followed, now, &self.id.name);
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
        // Of a stretch that is read again no more than was read of it.
        let left = match self.to.map(|to| to.saturating_sub(self.position + self.unread.end as u64)) {
            Some(0) => return Ok(Some(0)),
            Some(again) => again,
            None => left,
        };
        let bound = usize::try_from(self.to.map_or(u64::MAX, |_| left)).unwrap_or(usize::MAX);
        let room = self.buffer_bytes.min(usize::try_from(left).unwrap_or(usize::MAX).saturating_add(1 + Coding::FIRST));
        if self.buffer.len() - self.unread.end < room.div_ceil(2) {
            self.buffer.resize(self.unread.end + room, 0);
        }
        loop {
            let end = self.buffer.len().min(self.unread.end.saturating_add(bound));
            match input.read(&mut self.buffer[self.unread.end..end]) {
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
        if !self.follow || self.to.is_some() {
            return Ok(None);
        }
        let tail = self.tail.with(&self.buffer[self.unread.start..before]);
        let from = self.position - self.base + (before - self.unread.start) as u64;
        match is_there(stored, &tail, from) {
            Ok(true) => Ok(None),
            Ok(false) if self.away.is_some() => {
                self.unread.end = before;
                self.come_back(false)
            }
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
        (self.base, self.from) = (self.position, self.position);
        self.tail.clear();
        Ok(unfinished)
    }

    /// Decides what the end of the content means; none: that there is more to read.
    fn at_the_end(&mut self) -> Result<Option<Batch>, SourceError> {
        if self.to.is_some() {
            return Ok(self.end_again());
        }
        if !self.follow {
            (self.stage, self.caught_up) = (Stage::Ended, true);
            return Ok(self.take_unfinished());
        }
        let Stage::Open(Input::Plain(stored)) = &mut self.stage else { return self.rest() };
        if self.away.is_some() {
            return self.come_back(true);
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
        if self.visit() {
            return Ok(None);
        }
        match fs::metadata(&self.path) {
            Ok(there) if identity(&there) != identity(&held) => {
                let is_next = there.len() > 0
                    && !followed::is_of_another(&self.followed, &self.id.name, &self.path, identity(&there));
                if is_next {
                    self.replaced = true;
                    return Ok(None);
                }
                self.watch_next();
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return self.fail(&error).map(|()| None),
        }
        self.caught_up = true;
        Ok(Some(Batch::Idle))
    }

    /// Lets a compressed file rest that has been read. Returns its last line, if that has no newline.
    fn rest(&mut self) -> Result<Option<Batch>, SourceError> {
        let Stage::Open(Input::Packed(packed)) = &mut self.stage else {
            unreachable!("other content is followed");
        };
        let stored = packed.stored_mut();
        let read = stored.read;
        let end = stored.metadata().and_then(|there| Ok((Mark::at(stored, read)?, Version::of(&there))));
        match end {
            Ok((end, version)) => {
                let unfinished = self.take_unfinished();
                self.stage = Stage::Resting(Resting { read: version, seen: version, looked: Instant::now(), end });
                self.caught_up = !self.is_elsewhere();
                Ok(unfinished)
            }
            Err(error) => self.fail(&error).map(|()| None),
        }
    }

    /// Turns to a file that was read to its end before, if something has been written to it.
    fn visit(&mut self) -> bool {
        if self.long.is_some() {
            return false;
        }
        let mut grown = |left: &mut Left| left.stored.metadata().is_ok_and(|there| there.len() > left.seen);
        let Some(index) = self.left.iter_mut().position(&mut grown) else {
            // Only the last one is still looked at.
            self.left.drain(..self.left.len().saturating_sub(1));
            return false;
        };
        let mut late = self.left.remove(index);
        if late.stored.seek(late.offset).is_err() {
            return false;
        }
        // Of an unfinished line nothing was read.
        (self.unread, self.scanned) = (0..0, 0);
        let identity = late.stored.identity();
        let Stage::Open(Input::Plain(stored)) =
            std::mem::replace(&mut self.stage, Stage::Open(Input::Plain(late.stored)))
        else {
            unreachable!("only plain content is followed");
        };
        let offset = self.position - self.base;
        let now = Left { stored, offset, tail: std::mem::replace(&mut self.tail, late.tail), seen: 0 };
        self.leave(now.stored.identity(), Some(now.mark()));
        followed::claim(&self.followed, identity, &self.id.name);
        followed::claim(&self.followed, now.stored.identity(), &self.id.name);
        self.base = self.position - late.offset;
        (self.away, self.compared) = (Some(now), None);
        true
    }

    /// Turns back to the file that is read otherwise. Of the other one an unfinished last line is read when it is finished. It is looked at on if
    /// it `goes_on` from what was read of it.
    fn come_back(&mut self, goes_on: bool) -> Result<Option<Batch>, SourceError> {
        if self.long.is_some() {
            return Ok(Some(self.finish_long()));
        }
        let Left { mut stored, offset, tail, seen: _ } = self.away.take().expect("another file is read");
        let sought = stored.seek(offset);
        (self.unread, self.scanned) = (0..0, 0);
        let Stage::Open(Input::Plain(late)) = std::mem::replace(&mut self.stage, Stage::Open(Input::Plain(stored)))
        else {
            unreachable!("only plain content is followed");
        };
        let seen = late.read;
        let late = Left {
            stored: late,
            offset: self.position - self.base,
            tail: std::mem::replace(&mut self.tail, tail),
            seen,
        };
        self.leave(late.stored.identity(), Some(late.mark()));
        if goes_on {
            self.left.push(late);
        }
        self.base = self.position - offset;
        self.compared = None;
        sought.or_else(|error| self.fail(&error))?;
        Ok(None)
    }

    /// Turns to the file that stands at the path in place of the one that was read. Returns the unfinished line of the old one.
    fn turn_to_the_next(&mut self) -> Result<Option<Batch>, SourceError> {
        let path = self.path.clone();
        match self.try_open(&path) {
            Ok(Some(mut input)) => {
                if self.is_taken(&path, input.stored().identity()) {
                    return Ok(Some(Batch::Idle));
                }
                tracing::info!(path = %self.path.display(), "the file was replaced; reading the new one");
                let unfinished = self.take_unfinished();
                let Stage::Open(Input::Plain(stored)) = std::mem::replace(&mut self.stage, Stage::Closed) else {
                    unreachable!("only plain content is followed");
                };
                let (offset, seen) = (self.position - self.base, stored.read);
                let left = Left { stored, offset, tail: std::mem::take(&mut self.tail), seen };
                self.leave(left.stored.identity(), Some(left.mark()));
                if left.offset > 0 {
                    self.left.push(left);
                }
                self.left.retain(|left| left.stored.identity() != input.stored().identity());
                if self.is_elsewhere() {
                    self.size = input.stored_mut().metadata().ok().map(|there| there.len());
                }
                self.read_at = path;
                self.turn_to(&input);
                self.hold(&input);
                let skipped = self.skip(&mut input, self.position - self.base);
                self.stage = Stage::Open(input);
                skipped.or_else(|error| self.fail(&error))?;
                Ok(unfinished)
            }
            Ok(None) => {
                self.watch_next();
                self.caught_up = true;
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
        if self.to.is_some() {
            // It was not when it was read: the rest of the stretch is lost.
            (self.unread, self.scanned, self.long) = (0..0, 0, None);
            tracing::warn!(path = %self.path.display(), %error, "a file that was read before is damaged; what was left of it is not read");
            self.end_again();
            return;
        }
        let damage = SourceError::Damaged {
            id: self.id.source.clone(),
            path: self.path.display().to_string(),
            position: self.position + self.unread.len() as u64,
            reason: error.to_string(),
        };
        tracing::warn!("{damage}");
        self.damage = Some(damage);
        self.caught_up = !self.is_elsewhere();
        (self.unread, self.scanned, self.long) = (0..0, 0, None);
        self.stage = match fs::metadata(self.place()) {
            Ok(metadata) if self.follow => {
                let read = Version::of(&metadata);
                let opened = OpenFile::open(self.place()).and_then(|file| Stored::new(self.place(), file));
                let end = opened.and_then(|mut stored| Mark::at(&mut stored, read.length)).ok().flatten();
                Stage::Resting(Resting { read, seen: read, looked: Instant::now(), end })
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
fn is_continued(stored: &mut Stored, read: u64, mark: Option<Mark>) -> io::Result<bool> {
    match mark {
        Some(mark) => mark.is_in(stored),
        None => Ok(stored.metadata()?.len() >= read),
    }
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
        if let Some(resumed) = &self.resumed {
            return resumed.to_string();
        }
        let file = self.held.or(self.listed).unwrap_or((0, 0));
        let (base, mark) = match (&self.stage, &self.away) {
            (_, Some(away)) => (self.position - away.offset, Some(away.mark())),
            (Stage::Open(Input::Plain(_)), None) => {
                let offset = self.position - self.base;
                (self.base, Some(Mark { offset, hash: self.tail.hash() }))
            }
            // Of a damaged one it is not known what the rest will be.
            (Stage::Resting(resting), None) => (self.base, resting.end.filter(|_| self.damage.is_none())),
            _ => (self.base, None),
        };
        let mut text = History { file, base, mark, past: Vec::new() }.to_string();
        text.push_str(&self.past_text);
        if let (Some(_), Stage::Open(input), true) = (&self.away, &self.stage, self.from < self.position) {
            let (file, base, from, to) = (input.stored().identity(), self.base, self.from, self.position);
            let mark = Some(Mark { offset: to - base, hash: self.tail.hash() });
            text.push_str(&Stretch { file, base, from, to, mark }.to_string());
        }
        text
    }

    fn progress(&self) -> (u64, u64) {
        let read = match &self.stage {
            Stage::Open(_) if self.away.is_some() => self.away.as_ref().map_or(0, |away| away.offset),
            Stage::Open(Input::Plain(_)) | Stage::Closed => self.position - self.base,
            Stage::Open(input) => input.stored().read,
            Stage::Resting(_) | Stage::Ended | Stage::Failed(_) => self.size.unwrap_or(self.position),
        };
        (read, self.size.unwrap_or(0))
    }

    fn caught_up(&self) -> bool {
        self.caught_up
            || matches!(&self.stage, Stage::Open(Input::Plain(_)))
                && self.away.is_none()
                && self.to.is_none()
                && !self.behind
                && !self.is_elsewhere()
                && self.size.is_some_and(|size| self.position - self.base >= size)
    }

    fn damage(&self) -> Option<&SourceError> {
        self.damage.as_ref()
    }
}
