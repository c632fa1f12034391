//! The bytes of a file, decompressed where its first bytes say that it is compressed, whatever its name.
//!
//! Members of gzip and frames of zstd are read one after the other. Bytes behind the last one that begin none are skipped with a
//! warning. A file that is not being read can be closed in between ([`Input::release`]): it is opened again at the next read.

use super::Identity;
use super::budget::OpenFile;
use super::find::identity;
use flate2::bufread::GzDecoder;
use std::fs::Metadata;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Stored bytes that a decoder reads at a time: 32 KiB.
const PACKED_BYTES: usize = 32 << 10;

/// How a file's content is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Plain,
    Gzip,
    Zstd,
}

impl Coding {
    /// Bytes that decide it.
    pub const FIRST: usize = 4;

    /// Returns how content is stored that begins so. None if the bytes may be the beginning of more than one coding.
    pub fn of(first: &[u8]) -> Option<Coding> {
        let is = |magic: &[u8]| first.starts_with(magic);
        let may_be = |magic: &[u8]| magic.starts_with(first);
        // Frames of zstd that hold no content have one of 16 first bytes.
        let skippable = [first.first().copied().unwrap_or(0x50), 0x2a, 0x4d, 0x18];
        let skippable = (0x50..=0x5f).contains(&skippable[0]).then_some(skippable);
        if is(&[0x1f, 0x8b]) {
            Some(Coding::Gzip)
        } else if is(&[0x28, 0xb5, 0x2f, 0xfd]) || skippable.is_some_and(|magic| is(&magic)) {
            Some(Coding::Zstd)
        } else if may_be(&[0x1f, 0x8b])
            || may_be(&[0x28, 0xb5, 0x2f, 0xfd])
            || skippable.is_some_and(|magic| may_be(&magic))
        {
            None
        } else {
            Some(Coding::Plain)
        }
    }
}

/// A file that is read from start to end.
pub enum Input {
    /// As it is stored.
    Plain(Stored),
    /// Compressed.
    Packed(Packed),
}

impl Input {
    /// Returns the content of a file that has not been read; the file itself, if its first bytes are too few to decide how it is stored, and
    /// others may follow: if `more` is set, or it is a pipe.
    pub fn new(mut stored: Stored, more: bool) -> io::Result<Result<Input, Stored>> {
        let first = match stored.peek(Coding::FIRST) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Err(stored)),
            first => first?,
        };
        Ok(match Coding::of(first) {
            Some(Coding::Plain) => Ok(Input::Plain(stored)),
            Some(Coding::Gzip | Coding::Zstd) => {
                Ok(Input::Packed(Packed { state: State::Between(stored), members: 0 }))
            }
            None if more => Err(stored),
            None => Ok(Input::Plain(stored)),
        })
    }

    /// Returns the stored bytes.
    pub fn stored(&self) -> &Stored {
        match self {
            Input::Plain(stored) => stored,
            Input::Packed(packed) => packed.stored(),
        }
    }

    /// Returns the stored bytes.
    pub fn stored_mut(&mut self) -> &mut Stored {
        match self {
            Input::Plain(stored) => stored,
            Input::Packed(packed) => packed.stored_mut(),
        }
    }

    /// Closes the file until it is read again.
    pub fn release(&mut self) {
        self.stored_mut().release();
    }
}

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Input::Plain(stored) => stored.read(into),
            Input::Packed(packed) => packed.read(into),
        }
    }
}

/// Compressed content.
pub struct Packed {
    state: State,
    /// Members and frames begun.
    members: u64,
}

/// Where the reading of compressed content is.
enum State {
    Gzip(Box<GzDecoder<Stored>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Stored>>),
    /// At the start of a member or frame, or at the end.
    Between(Stored),
    End(Stored),
    /// While it is replaced.
    Moved,
}

impl Packed {
    fn stored(&self) -> &Stored {
        match &self.state {
            State::Gzip(decoder) => decoder.get_ref(),
            State::Zstd(decoder) => decoder.get_ref(),
            State::Between(stored) | State::End(stored) => stored,
            State::Moved => unreachable!("a state is put back at once"),
        }
    }

    /// Returns the stored bytes.
    pub fn stored_mut(&mut self) -> &mut Stored {
        match &mut self.state {
            State::Gzip(decoder) => decoder.get_mut(),
            State::Zstd(decoder) => decoder.get_mut(),
            State::Between(stored) | State::End(stored) => stored,
            State::Moved => unreachable!("a state is put back at once"),
        }
    }

    /// Begins the next member or frame, if there is one.
    fn next(&mut self, mut stored: Stored) -> io::Result<State> {
        let first = match stored.peek(Coding::FIRST) {
            Ok(first) => first,
            Err(error) => {
                self.state = State::Between(stored);
                return Err(error);
            }
        };
        let (coding, left) = (Coding::of(first), first.len());
        Ok(match coding {
            Some(Coding::Gzip) => {
                self.members += 1;
                State::Gzip(Box::new(GzDecoder::new(stored)))
            }
            Some(Coding::Zstd) => {
                self.members += 1;
                State::Zstd(Box::new(zstd::stream::read::Decoder::with_buffer(stored)?.single_frame()))
            }
            _ => {
                if left > 0 {
                    tracing::warn!(
                        path = %stored.path.display(), from = stored.read - stored.unread() as u64,
                        "bytes behind the compressed content are skipped"
                    );
                }
                State::End(stored)
            }
        })
    }
}

impl Read for Packed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = match &mut self.state {
                State::Gzip(decoder) => decoder.read(into)?,
                State::Zstd(decoder) => decoder.read(into)?,
                State::Between(_) => 0,
                State::End(_) => return Ok(0),
                State::Moved => unreachable!("a state is put back at once"),
            };
            if count > 0 || into.is_empty() {
                return Ok(count);
            }
            let stored = match std::mem::replace(&mut self.state, State::Moved) {
                State::Gzip(decoder) => decoder.into_inner(),
                State::Zstd(decoder) => decoder.finish(),
                State::Between(stored) => stored,
                State::End(_) | State::Moved => unreachable!("handled above"),
            };
            self.state = self.next(stored)?;
        }
    }
}

/// The stored bytes of a file, from its start on.
pub struct Stored {
    path: PathBuf,
    /// `None` while it is released.
    file: Option<OpenFile>,
    identity: Identity,
    /// Bytes taken out of the file, those given out included.
    pub read: u64,
    buffer: Vec<u8>,
    /// Where the bytes of `buffer` begin and end that have not been given out.
    start: usize,
    end: usize,
}

impl Stored {
    /// Returns an open file, of which nothing has been read.
    pub fn new(path: &Path, file: OpenFile) -> io::Result<Stored> {
        let identity = identity(&file.metadata()?);
        Ok(Stored { path: path.to_owned(), file: Some(file), identity, read: 0, buffer: Vec::new(), start: 0, end: 0 })
    }

    /// Returns whether it is a pipe or a device, which can be opened once only.
    pub fn waits(&self) -> bool {
        self.file.as_ref().is_some_and(OpenFile::waits)
    }

    /// Returns where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns how the content is stored, as far as its first bytes say.
    pub fn coding(&mut self) -> io::Result<Option<Coding>> {
        let mut first = [0; Coding::FIRST];
        let length = usize::try_from(self.metadata()?.len()).map_or(Coding::FIRST, |length| length.min(Coding::FIRST));
        self.read_at(&mut first[..length], 0)?;
        Ok(Coding::of(&first[..length]))
    }

    /// Returns what the file is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Returns whether it is closed for now.
    pub fn is_released(&self) -> bool {
        self.file.is_none()
    }

    /// Returns the file's metadata.
    pub fn metadata(&mut self) -> io::Result<Metadata> {
        self.file()?.metadata()
    }

    /// Reads bytes at an offset, without a part in what is read in order. Returns whether all are there.
    pub fn read_at(&mut self, into: &mut [u8], offset: u64) -> io::Result<bool> {
        match self.file()?.read_exact_at(into, offset) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Goes on at an offset.
    pub fn seek(&mut self, offset: u64) -> io::Result<()> {
        self.file()?.seek(SeekFrom::Start(offset))?;
        (self.start, self.end, self.read) = (0, 0, offset);
        Ok(())
    }

    /// Closes the file until it is read again, if it can be opened again.
    pub fn release(&mut self) {
        self.file.take_if(|file| file.metadata().is_ok_and(|metadata| metadata.is_file()));
    }

    fn unread(&self) -> usize {
        self.end - self.start
    }

    /// Returns the file, opened again if it was released.
    fn file(&mut self) -> io::Result<&mut OpenFile> {
        if self.file.is_none() {
            let mut file = OpenFile::open(&self.path)?;
            if identity(&file.metadata()?) != self.identity {
                return Err(io::Error::new(io::ErrorKind::NotFound, "another file has its name"));
            }
            file.seek(SeekFrom::Start(self.read))?;
            self.file = Some(file);
        }
        Ok(self.file.as_mut().expect("it was just opened"))
    }

    /// Returns the next bytes, at least so many unless the file ends before.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.unread() < count && self.take_in(count)? > 0 {}
        Ok(&self.buffer[self.start..self.end])
    }

    /// Reads once behind the unread bytes, with room for at least `room` unread ones.
    fn take_in(&mut self, room: usize) -> io::Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.unread());
        let length = self.buffer.len().max(room);
        self.buffer.resize(length, 0);
        let mut buffer = std::mem::take(&mut self.buffer);
        let end = self.end;
        let count = self.file().and_then(|file| retry(|| file.read(&mut buffer[end..])));
        self.buffer = buffer;
        let count = count?;
        self.end += count;
        self.read += count as u64;
        Ok(count)
    }
}

/// Calls until no signal interrupts.
fn retry(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

impl Read for Stored {
    /// Reads past the buffer, which for content that is not compressed holds the first bytes only.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.unread() > 0 {
            let count = self.unread().min(into.len());
            into[..count].copy_from_slice(&self.buffer[self.start..][..count]);
            self.start += count;
            return Ok(count);
        }
        let count = self.file()?.read(into)?;
        self.read += count as u64;
        Ok(count)
    }
}

impl BufRead for Stored {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.unread() == 0 {
            self.take_in(PACKED_BYTES)?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
    }
}
