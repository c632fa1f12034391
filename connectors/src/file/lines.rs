//! One file, line by line.
//!
//! Holds one buffer: a chunk and what is left of the line before it. A line longer than a message may be is never held
//! whole: its first 64 KiB are kept and the rest is counted.

use crate::source::{Body, Partition, PartitionId, Polled, Record, SourceError};
use flate2::read::MultiGzDecoder;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tracing::{info, warn};

/// How much of a line that is too long is kept.
const HEAD: usize = 64 << 10;

pub(super) struct Lines {
    id: PartitionId,
    path: PathBuf,
    follow: bool,
    message_bytes: usize,
    input: Option<Input>,
    buffer: Vec<u8>,
    /// Where what has not been handed out starts and ends in `buffer`.
    start: usize,
    end: usize,
    /// The position of `buffer[start]`.
    position: u64,
    /// The line that is too long, while it goes on and until it is handed out.
    long: Option<Long>,
    /// Stored bytes when it was opened, and those read of files that were replaced.
    stored_at_open: u64,
    read_before: u64,
    caught_up: bool,
    ended: bool,
}

struct Long {
    head: Vec<u8>,
    position: u64,
    length: u64,
    complete: bool,
}

struct Input {
    reader: Box<dyn Read + Send>,
    /// Stored bytes read.
    read: Arc<AtomicU64>,
    /// Device and inode.
    file: (u64, u64),
}

/// Counts what goes through it.
struct Counting {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counting {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Lines {
    pub(super) fn open(id: PartitionId, path: PathBuf, follow: bool, message_bytes: usize) -> Result<Lines, SourceError> {
        let compressed = path.extension().is_some_and(|extension| extension == "gz" || extension == "zst");
        let mut lines = Lines {
            id,
            path,
            follow: follow && !compressed,
            message_bytes,
            input: None,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            position: 0,
            long: None,
            stored_at_open: 0,
            read_before: 0,
            caught_up: false,
            ended: false,
        };
        lines.open_input()?;
        lines.caught_up = lines.input.is_none();
        Ok(lines)
    }

    /// Opens the file. One that is followed may not be there.
    fn open_input(&mut self) -> Result<(), SourceError> {
        let opened = File::open(&self.path).and_then(|file| file.metadata().map(|metadata| (file, metadata)));
        let (file, metadata) = match opened {
            Ok(opened) => opened,
            Err(error) if self.follow && error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.error(&error)),
        };
        let read = Arc::new(AtomicU64::new(0));
        let counting = Counting { file, read: Arc::clone(&read) };
        let reader: Box<dyn Read + Send> = match self.path.extension().and_then(|extension| extension.to_str()) {
            Some("gz") => Box::new(MultiGzDecoder::new(io::BufReader::with_capacity(128 << 10, counting))),
            Some("zst") => Box::new(zstd::stream::read::Decoder::new(counting).map_err(|error| self.error(&error))?),
            _ => Box::new(counting),
        };
        self.stored_at_open = self.stored_at_open.max(self.read_before + metadata.len());
        self.input = Some(Input { reader, read, file: identity(&metadata) });
        Ok(())
    }

    fn error(&self, error: &io::Error) -> SourceError {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => Some("the user that runs usher must be allowed to read it"),
            _ if self.path.extension().is_some_and(|extension| extension == "gz" || extension == "zst") => {
                Some("the file may be damaged or cut off: decompress it by hand to see")
            }
            _ => None,
        };
        SourceError {
            message: format!("source `{}`: `{}` can't be read on from byte {}: {error}", self.id.source, self.path.display(), self.position),
            hint: hint.map(str::to_owned),
        }
    }

    /// Reads more behind what is left; tells how much came.
    fn fill(&mut self, budget: usize) -> Result<usize, SourceError> {
        let left = self.end - self.start;
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, left);
        }
        if self.buffer.len() < left + budget {
            self.buffer.resize(left + budget, 0);
        }
        let Some(input) = &mut self.input else { return Ok(0) };
        loop {
            match input.reader.read(&mut self.buffer[left..left + budget]) {
                Ok(read) => {
                    self.end += read;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.error(&error)),
            }
        }
    }

    /// Moves bytes that belong to a line that is too long out of the buffer.
    fn shorten(&mut self) {
        let fresh = &self.buffer[self.start..self.end];
        let newline = memchr::memchr(b'\n', fresh);
        match &mut self.long {
            Some(long) if !long.complete => {
                let take = newline.unwrap_or(fresh.len());
                let room = HEAD.saturating_sub(long.head.len()).min(take);
                long.head.extend_from_slice(&fresh[..room]);
                long.length += take as u64;
                long.complete = newline.is_some();
                let gone = take + usize::from(newline.is_some());
                self.start += gone;
                self.position += gone as u64;
            }
            None if newline.is_none() && fresh.len() > self.message_bytes => {
                let head = fresh[..fresh.len().min(HEAD)].to_vec();
                self.long = Some(Long { head, position: self.position, length: fresh.len() as u64, complete: false });
                self.position += fresh.len() as u64;
                self.start = self.end;
            }
            _ => {}
        }
    }

    /// What the end of the file means: the end, or that it may go on or has been replaced.
    fn at_end(&mut self) -> Result<AtEnd, SourceError> {
        if !self.follow {
            return Ok(AtEnd::Ended);
        }
        self.caught_up = true;
        let now = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            // Moved away, and nothing in its place yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(AtEnd::Waits),
            Err(error) => return Err(self.error(&error)),
        };
        let Some(input) = &self.input else {
            self.open_input()?;
            return Ok(AtEnd::Waits);
        };
        let read = input.read.load(Ordering::Relaxed);
        if identity(&now) != input.file {
            info!(path = self.id.name, "the file was replaced; reading the new one");
        } else if now.len() < read {
            warn!(path = self.id.name, "the file was cut; reading it again from its start");
        } else {
            return Ok(AtEnd::Waits);
        }
        self.read_before += read;
        self.open_input()?;
        Ok(AtEnd::Replaced)
    }
}

enum AtEnd {
    Ended,
    Waits,
    Replaced,
}

impl Partition for Lines {
    fn id(&self) -> &PartitionId {
        &self.id
    }

    fn poll(&mut self, budget: usize) -> Result<Polled<'_>, SourceError> {
        if self.long.as_ref().is_some_and(|long| long.complete) {
            self.long = None;
        }
        if self.ended {
            return Ok(Polled::End);
        }
        let mut whole_to_end = false;
        if self.fill(budget)? == 0 {
            match self.at_end()? {
                AtEnd::Waits => return Ok(Polled::Idle),
                AtEnd::Ended => self.ended = true,
                AtEnd::Replaced => {}
            }
            // A last line without its newline is whole when nothing can come behind it.
            whole_to_end = true;
            if let Some(long) = &mut self.long {
                long.complete = true;
            }
        }
        if let Some(input) = &self.input {
            self.caught_up |= self.read_before + input.read.load(Ordering::Relaxed) >= self.stored_at_open;
        }
        self.shorten();
        let left = &self.buffer[self.start..self.end];
        let whole = if whole_to_end { left.len() } else { memchr::memrchr(b'\n', left).map_or(0, |at| at + 1) };
        let position = self.position;
        let bytes = &self.buffer[self.start..self.start + whole];
        self.start += whole;
        self.position += whole as u64;
        let long = self.long.as_ref().filter(|long| long.complete).map(|long| Record {
            position: long.position,
            timestamp: None,
            body: Body::TooLarge { head: &long.head, length: long.length },
        });
        let lines = Split { rest: bytes, position, message_bytes: self.message_bytes };
        Ok(Polled::Records(Box::new(long.into_iter().chain(lines))))
    }

    fn progress(&self) -> (u64, u64) {
        let read = self.input.as_ref().map_or(0, |input| input.read.load(Ordering::Relaxed));
        (self.read_before + read, self.stored_at_open)
    }

    fn caught_up(&self) -> bool {
        self.caught_up || self.ended
    }
}

/// Whole lines as records.
struct Split<'a> {
    rest: &'a [u8],
    position: u64,
    message_bytes: usize,
}

impl<'a> Iterator for Split<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, gone) = match memchr::memchr(b'\n', self.rest) {
            Some(at) => (&self.rest[..at], at + 1),
            None => (self.rest, self.rest.len()),
        };
        let position = self.position;
        self.rest = &self.rest[gone..];
        self.position += gone as u64;
        let body = if line.len() > self.message_bytes {
            Body::TooLarge { head: &line[..line.len().min(HEAD)], length: line.len() as u64 }
        } else if line.first().is_none_or(u8::is_ascii_whitespace) && line.iter().all(u8::is_ascii_whitespace) {
            Body::Blank
        } else {
            Body::Bytes(line)
        };
        Some(Record { position, timestamp: None, body })
    }
}
