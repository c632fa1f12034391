//! Reading a log at a start: the ledger, what is not delivered yet, and where to go on.

use super::append::create_segment;
use super::cursor::{Cursor, Mark};
use super::deliver::Outlet;
use super::files::{self, Blocks, HEAD_BYTES, Next, refused};
use super::memberships::Memberships;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use usher_core::sink::SinkError;

/// A log that was read.
pub(super) struct Log {
    pub folder: PathBuf,
    /// The folder is this process's for as long as anybody has this.
    pub lock: Arc<crate::disk::Lock>,
    pub memberships: Memberships,
    /// It has at least one block.
    pub any: bool,
    /// Where segments begin, in order.
    pub segments: Vec<u64>,
    /// The last of them, to append to.
    pub file: File,
    pub end: u64,
    /// Where the snapshot is (0: there is none), and its length in bytes.
    pub snapshot: (u64, u64),
    pub cursor: Cursor,
    pub mark: Mark,
    /// Changes that are to be delivered.
    pub undelivered: u64,
}

/// Reads the log of a folder, which is made where it is missing.
pub(super) fn open(folder: &Path, outlet: &Outlet) -> Result<Log, SinkError> {
    crate::disk::create_folder(folder).map_err(refused(folder, "opened"))?;
    let lock = crate::disk::Lock::take(&folder.join("lock")).map_err(|taken| match taken {
        Ok(holder) => SinkError::Failed {
            to: files::name(folder),
            action: "opened",
            reason: format!("another process uses it: {holder}"),
            hint: "stop the other process first; give each job a `state.url` of its own",
        },
        Err(error) => refused(folder, "opened")(error),
    })?;
    files::remove_leftovers(folder).map_err(refused(folder, "written"))?;
    let (mut segments, snapshots) = files::list(folder).map_err(refused(folder, "read"))?;
    let (cursor, mark) = match Cursor::open(folder)? {
        Some(found) => found,
        None if segments.is_empty() => {
            // What was in the destination before is not this log's.
            let mark = Mark { position: 0, length: outlet.length()? };
            (Cursor::create(folder, mark)?, mark)
        }
        None => return Err(files::damaged(&folder.join("cursor"), "it is missing, and the log is not")),
    };
    if segments.is_empty() {
        if let Some(&snapshot) = snapshots.last() {
            return Err(files::damaged(&files::segment(folder, snapshot), "it is missing"));
        }
        create_segment(folder, 0)?;
        segments.push(0);
    }
    let mut memberships = Memberships::default();
    let snapshot = match snapshots.last() {
        Some(&position) => (position, memberships.read(folder, position)?),
        None => (0, 0),
    };
    files::sweep(folder, snapshot.0, mark.position).map_err(refused(folder, "written"))?;
    let (segments, _) = files::list(folder).map_err(refused(folder, "read"))?;
    if segments[0] > snapshot.0.min(mark.position) {
        let path = files::segment(folder, segments[0]);
        return Err(files::damaged(&path, "the segment before it is missing"));
    }

    let mut log = Read { memberships, snapshot: snapshot.0, mark, undelivered: 0, blocks: 0 };
    let last = *segments.last().expect("it was just looked at");
    let mut end = segments[0];
    for &base in &segments {
        let path = files::segment(folder, base);
        if base != end {
            return Err(files::damaged(&path, format!("the segment before it ends at {end}")));
        }
        end = log.segment(&path, base, base == last)?;
    }
    let synced = mark.position.max(snapshot.0);
    if synced > end {
        let reason = format!("it ends at {end}, and was synced up to {synced}");
        return Err(files::damaged(&files::segment(folder, last), reason));
    }
    let path = files::segment(folder, last);
    let mut file = File::options().write(true).open(&path).map_err(refused(&path, "opened"))?;
    file.seek(SeekFrom::Start(end - last)).map_err(refused(&path, "opened"))?;
    Ok(Log {
        folder: folder.to_owned(),
        lock: Arc::new(lock),
        any: snapshot.0 > 0 || log.blocks > 0,
        memberships: log.memberships,
        segments,
        file,
        end,
        snapshot,
        cursor,
        mark,
        undelivered: log.undelivered,
    })
}

/// A log being read.
struct Read {
    memberships: Memberships,
    snapshot: u64,
    mark: Mark,
    undelivered: u64,
    blocks: u64,
}

impl Read {
    /// Reads a segment; gives the position of its end. The last one may end in what a crash has torn, which is cut off.
    fn segment(&mut self, path: &Path, base: u64, last: bool) -> Result<u64, SinkError> {
        let length = fs::metadata(path).map_err(refused(path, "read"))?.len();
        // Its head is synced before anything is behind it.
        if last && length < HEAD_BYTES {
            create_segment(path.parent().expect("a segment is in a folder"), base)?;
            return Ok(base + HEAD_BYTES);
        }
        let mut blocks = Blocks::open(path)?;
        loop {
            let position = blocks.position();
            match blocks.next(length)? {
                Next::End => return Ok(position),
                Next::Block => {
                    self.blocks += 1;
                    // A cursor at a segment's beginning is in front of its head.
                    let undelivered = position >= self.mark.position;
                    let sent = if position >= self.snapshot {
                        self.memberships.apply(&blocks.body)
                    } else {
                        Memberships::default().apply(&blocks.body)
                    };
                    match sent {
                        Some(sent) if undelivered => self.undelivered += sent,
                        Some(_) => {}
                        None => return Err(files::damaged(path, "a block holds no records")),
                    }
                }
                Next::Flaw(flaw) => {
                    let offset = position - base;
                    if !last || position < self.mark.position || blocks.goes_on(length)? {
                        return Err(files::damaged(path, format!("{flaw} at byte {offset}")));
                    }
                    let bytes = length - offset;
                    tracing::warn!(
                        path = %path.display(),
                        bytes,
                        reason = flaw,
                        "the end of the log was torn by a crash, and is cut off"
                    );
                    let file = File::options().write(true).open(path).map_err(refused(path, "opened"))?;
                    let cut = file.set_len(offset).and_then(|()| file.sync_all());
                    cut.map_err(refused(path, "written"))?;
                    return Ok(position);
                }
            }
        }
    }
}
