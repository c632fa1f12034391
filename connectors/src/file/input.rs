//! The bytes of a file, decompressed where its name says so.

use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// How a file's content is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Plain,
    Gzip,
    Zstd,
}

impl Coding {
    /// By the ending of the name.
    pub fn of(path: &Path) -> Coding {
        match path.extension() {
            Some(ending) if ending.eq_ignore_ascii_case("gz") => Coding::Gzip,
            Some(ending) if ending.eq_ignore_ascii_case("zst") => Coding::Zstd,
            _ => Coding::Plain,
        }
    }
}

/// An open file that is read from start to end.
pub enum Input {
    Plain(Counted),
    /// All members, one after the other.
    Gzip(Box<MultiGzDecoder<Counted>>),
    /// All frames, one after the other.
    Zstd(zstd::stream::read::Decoder<'static, BufReader<Counted>>),
}

impl Input {
    /// Reads `file` from where it stands.
    pub fn new(file: File, coding: Coding) -> io::Result<Input> {
        let counted = Counted { file, read: 0 };
        Ok(match coding {
            Coding::Plain => Input::Plain(counted),
            Coding::Gzip => Input::Gzip(Box::new(MultiGzDecoder::new(counted))),
            Coding::Zstd => Input::Zstd(zstd::stream::read::Decoder::new(counted)?),
        })
    }

    /// The file, and how many of its stored bytes have been read.
    pub fn counted(&self) -> &Counted {
        match self {
            Input::Plain(counted) => counted,
            Input::Gzip(decoder) => decoder.get_ref(),
            Input::Zstd(decoder) => decoder.get_ref().get_ref(),
        }
    }
}

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Input::Plain(counted) => counted.read(into),
            Input::Gzip(decoder) => decoder.read(into),
            Input::Zstd(decoder) => decoder.read(into),
        }
    }
}

/// A file that counts what is read of it.
pub struct Counted {
    pub file: File,
    /// Stored bytes read so far.
    pub read: u64,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into)?;
        self.read += read as u64;
        Ok(read)
    }
}
