//! The thread that delivers: it reads the log behind the one that writes it, and writes messages to the destination.

use super::block::{Record, Records};
use super::cursor::{Cursor, Mark};
use super::files::{self, Blocks, Next, refused};
use super::formats::Formats;
use super::shared::{More, Shared};
use crate::messages::Messages;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use usher_core::catalog::Catalog;
use usher_core::change::{ChangeTexts, Changes, Recipients};
use usher_core::sink::{SinkError, Written};

/// Bytes formatted before they are written: 64 KiB, where a write's own cost no longer counts.
const PIECE_BYTES: usize = 64 << 10;

/// Where the lines go.
pub struct Outlet {
    /// Its name in errors.
    to: String,
    kind: Kind,
}

enum Kind {
    /// A regular file, by its path: it can be read again, and cut.
    File(PathBuf, File),
    Stream(Box<dyn Write + Send>),
}

impl Outlet {
    /// Appends to the file at `path`, which is created where it is missing; its folder must exist.
    pub fn file(path: &Path) -> Result<Outlet, SinkError> {
        let failed = refused(path, "opened");
        let file = File::options().append(true).create(true).open(path).map_err(&failed)?;
        let regular = file.metadata().map_err(&failed)?.is_file();
        let kind = if regular { Kind::File(path.to_owned(), file) } else { Kind::Stream(Box::new(file)) };
        Ok(Outlet { to: files::name(path), kind })
    }

    /// Prints.
    pub fn stdout() -> Outlet {
        Outlet::stream("stdout", io::stdout())
    }

    /// Writes to `stream`; `to` is its name in errors.
    pub fn stream(to: &str, stream: impl Write + Send + 'static) -> Outlet {
        Outlet { to: to.to_owned(), kind: Kind::Stream(Box::new(stream)) }
    }

    /// How long it is.
    pub(super) fn length(&self) -> Result<u64, SinkError> {
        match &self.kind {
            Kind::File(_, file) => Ok(file.metadata().map_err(|error| self.failed("read", &error))?.len()),
            Kind::Stream(_) => Ok(0),
        }
    }

    fn failed(&self, action: &'static str, error: &io::Error) -> SinkError {
        SinkError::new(&self.to, action, error)
    }

    /// Opens the file again if another one, or none, is at its path: it was moved away or removed, and what is written to it
    /// would be missed. Returns whether it did.
    fn reopen(&mut self) -> Result<bool, SinkError> {
        let Kind::File(path, file) = &self.kind else { return Ok(false) };
        let own = file.metadata().map_err(|error| self.failed("read", &error))?;
        let same = match std::fs::metadata(path) {
            Ok(found) => (found.dev(), found.ino()) == (own.dev(), own.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(self.failed("read", &error)),
        };
        if same {
            return Ok(false);
        }
        tracing::warn!(path = %path.display(), "the file was moved or removed; changes go to a new one from now on");
        *self = Outlet::file(&path.clone())?;
        Ok(true)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let written = match &mut self.kind {
            Kind::File(_, file) => file.write_all(bytes),
            Kind::Stream(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        };
        written.map_err(|error| self.failed("written", &error))
    }

    /// Ends a last line that is not ended, so that the next one is a line of its own.
    fn end_line(&mut self) -> Result<(), SinkError> {
        let length = self.length()?;
        let Kind::File(path, file) = &mut self.kind else {
            return Ok(());
        };
        let mut end = || {
            let mut last = [b'\n'];
            // One that can only be appended to is taken as it is.
            if length > 0
                && let Ok(mut written) = File::open(&path)
            {
                written.seek(SeekFrom::End(-1))?;
                written.read_exact(&mut last)?;
            }
            if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
        };
        let ended = end();
        ended.map_err(|error| self.failed("written", &error))
    }
}

/// What is in the destination's file behind the cursor, and not yet known to be this log's or another's.
struct Tail {
    lines: BufReader<File>,
    /// Where the next line starts.
    at: u64,
    line: Vec<u8>,
}

impl Tail {
    /// The lines behind `at`, if the file can be read.
    fn open(outlet: &Outlet, at: u64) -> Result<Option<Tail>, SinkError> {
        let Kind::File(path, _) = &outlet.kind else {
            return Ok(None);
        };
        let open = || {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(at))?;
            Ok(Tail { lines: BufReader::with_capacity(PIECE_BYTES, file), at, line: Vec::new() })
        };
        open().map(Some).map_err(|error| outlet.failed("read", &error))
    }

    /// Goes to the line of a message, past those of others. If there is none, a torn one that would be it is cut off.
    fn find(&mut self, outlet: &Outlet, message: &[u8], id: &[u8]) -> Result<bool, SinkError> {
        loop {
            self.line.clear();
            let read = self.lines.read_until(b'\n', &mut self.line);
            let read = read.map_err(|error| outlet.failed("read", &error))? as u64;
            let same = self.line == message || memchr::memmem::find(&self.line, id).is_some();
            if self.line.last() == Some(&b'\n') {
                self.at += read;
                if same {
                    return Ok(true);
                }
                continue;
            }
            if read > 0
                && (same || message.starts_with(&self.line))
                && let Kind::File(_, file) = &outlet.kind
            {
                file.set_len(self.at).map_err(|error| outlet.failed("written", &error))?;
            }
            return Ok(false);
        }
    }
}

/// The thread's state.
pub(super) struct Delivery {
    shared: Arc<Shared>,
    folder: PathBuf,
    outlet: Outlet,
    tail: Option<Tail>,
    cursor: Cursor,
    mark: Mark,
    formats: Formats,
    /// Segments have been left behind since the last sweep.
    sweep: bool,
    out: Vec<u8>,
    /// What `out` holds: how many changes, and of which kinds.
    held: (u64, Written),
    /// When something was delivered first of which the durable cursor does not know.
    unsaved: Option<Instant>,
}

impl Delivery {
    pub fn new(
        shared: Arc<Shared>,
        folder: PathBuf,
        (cursor, mark): (Cursor, Mark),
        outlet: Outlet,
        sync: usher_config::Sync,
        catalog: Arc<Catalog>,
    ) -> Delivery {
        Delivery {
            shared,
            folder,
            outlet,
            tail: None,
            cursor,
            mark,
            formats: Formats::new(sync, catalog),
            sweep: false,
            out: Vec::new(),
            held: (0, Written::default()),
            unsaved: None,
        }
    }

    /// Delivers what comes, until no more does. `segment` is where the one begins that the cursor is in; `undelivered` is how many
    /// changes an earlier run has left.
    pub fn run(mut self, segment: u64, undelivered: u64) -> Result<(), SinkError> {
        let mut blocks = Blocks::open(&files::segment(&self.folder, segment))?;
        blocks.seek(self.mark.position)?;
        if undelivered == 0 {
            // Nothing behind the cursor can be this log's, and the file may be another than the last time.
            self.outlet.end_line()?;
            self.save()?;
        } else {
            // A file that is shorter than it was is another: any of it may be this log's.
            let shorter = self.outlet.length()? < self.mark.length;
            self.tail = Tail::open(&self.outlet, if shorter { 0 } else { self.mark.length })?;
        }
        loop {
            let save_every = self.shared.bounds.save_every;
            let rest = self.unsaved.map(|since| save_every.saturating_sub(since.elapsed()));
            if rest.is_some_and(|rest| rest.is_zero()) {
                self.save()?;
                continue;
            }
            match self.shared.more(blocks.position(), rest) {
                More::Blocks { end, segment } => {
                    if let Some(segment) = segment {
                        blocks = Blocks::open(&files::segment(&self.folder, segment))?;
                        self.sweep = true;
                    }
                    let end = end - blocks.head.position;
                    match blocks.next(end)? {
                        Next::Block => {}
                        Next::End => continue,
                        Next::Flaw(flaw) => return Err(files::damaged(&blocks.path, flaw)),
                    }
                    if self.deliver(&blocks.body)?.is_none() {
                        return Err(files::damaged(&blocks.path, "a block holds no records"));
                    }
                    self.mark.position = blocks.position();
                    self.unsaved.get_or_insert_with(Instant::now);
                    if let Kind::Stream(_) = self.outlet.kind {
                        // What has left is not sent again after the end of the process, only after that of the machine.
                        self.cursor.save(self.mark, false)?;
                    }
                }
                More::Later => {}
                More::Over => return self.unsaved.map_or(Ok(()), |_| self.save()),
            }
        }
    }

    /// Delivers a block. None: it can't be read.
    fn deliver(&mut self, body: &[u8]) -> Result<Option<()>, SinkError> {
        let mut records = Records::of(body);
        let mut audiences: Vec<(Arc<Messages>, u32)> = Vec::new();
        let mut sent = 0;
        let mut changes = Changes::new();
        loop {
            let record = match records.next() {
                Some(Some(record)) => record,
                Some(None) => break,
                None => return Ok(None),
            };
            while audiences.len() < records.audiences.len() {
                audiences.push(self.formats.audience(records.audiences[audiences.len()]));
            }
            if !record.sent {
                continue;
            }
            sent += 1;
            let (messages, index) = &audiences[record.audience as usize];
            let Record { at, kind, reason, key, row, previous_row, .. } = record;
            changes.clear();
            let texts = ChangeTexts { key, row, previous_row };
            changes.push_to(Recipients::All, at, *index, kind, reason, texts);
            let change = *changes.iter().next().expect("it was just pushed");
            let start = self.out.len();
            let id = messages.write(&mut self.out, &change, texts);
            self.out.push(b'\n');
            if let Some(tail) = &mut self.tail {
                if tail.find(&self.outlet, &self.out[start..], id.as_str().as_bytes())? {
                    self.out.truncate(start);
                    self.shared.lock().delivered(1, Written::default());
                    continue;
                }
                self.tail = None;
                self.outlet.end_line()?;
            }
            self.held.0 += 1;
            self.held.1.count(kind);
            if self.out.len() >= PIECE_BYTES {
                self.flush()?;
            }
        }
        self.flush()?;
        self.mark.delivered += sent;
        Ok(Some(()))
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        if self.out.is_empty() {
            return Ok(());
        }
        if self.outlet.reopen()? {
            self.outlet.end_line()?;
        }
        self.outlet.write(&self.out)?;
        let (changes, written) = std::mem::take(&mut self.held);
        self.shared.lock().delivered(changes, Written { bytes: self.out.len() as u64, ..written });
        self.out.clear();
        Ok(())
    }

    /// Makes durable how far it has come, and removes the segments that nothing needs any more.
    fn save(&mut self) -> Result<(), SinkError> {
        // The lines first: a cursor never knows of more than is there.
        if let Kind::File(_, file) = &self.outlet.kind {
            file.sync_data().map_err(|error| self.outlet.failed("written", &error))?;
        }
        self.mark.length = match &self.tail {
            Some(tail) => tail.at,
            None => self.outlet.length()?,
        };
        self.cursor.save(self.mark, true)?;
        self.unsaved = None;
        let snapshot = {
            let mut state = self.shared.lock();
            state.delivered = self.mark.position;
            state.snapshot.0
        };
        if std::mem::take(&mut self.sweep) {
            files::sweep(&self.folder, snapshot, self.mark.position).map_err(refused(&self.folder, "written"))?;
        }
        Ok(())
    }
}
