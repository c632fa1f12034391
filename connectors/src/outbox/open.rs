//! Reading a log at a start: the ledger, what is not delivered yet, and where to go on.

use super::LogSpec;
use super::append::create_segment;
use super::cursor::{Cursor, Mark};
use super::files::{self, Blocks, HEAD_BYTES, Next, refused};
use super::memberships::Memberships;
use crate::moved::{self, MovedLedger};
use crate::webhook::Settled;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use usher_core::ledger::Ledger;
use usher_core::sink::{LedgerPosition, SinkError};

/// How often a log is read that changes meanwhile.
const PEEKS_MAX: u32 = 10;

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
    pub owner: Owner,
}

/// The mark of the process that a log belongs to: a file with its incarnation.
#[derive(Clone)]
pub(super) struct Owner {
    path: PathBuf,
    incarnation: String,
}

impl Owner {
    /// Writes the mark.
    fn mark(folder: &Path, incarnation: u64) -> Result<Owner, SinkError> {
        let (path, new) = (folder.join("owner"), folder.join("owner.new"));
        let incarnation = format!("{incarnation:016x}");
        let mut file = File::create(&new).map_err(refused(&path, "written"))?;
        file.write_all(incarnation.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&new, &path))
            .and_then(|()| crate::disk::sync_folder_of(&path))
            .map_err(refused(&path, "written"))?;
        Ok(Owner { path, incarnation })
    }

    /// Checks that the log has no other mark.
    pub(super) fn check(&self) -> Result<(), SinkError> {
        let found = fs::read(&self.path).map_err(refused(&self.path, "read"))?;
        if found == self.incarnation.as_bytes() {
            return Ok(());
        }
        let folder = self.path.parent().expect("the mark is in the log's folder");
        Err(SinkError::Superseded { to: files::name(folder) })
    }
}

/// The file that asks for a ledger that begins anew.
fn resend_file(folder: &Path) -> PathBuf {
    folder.join("resend")
}

/// See [`super::resend_local`].
pub(super) fn ask_for_resend(folder: &Path) -> Result<(), SinkError> {
    crate::disk::create_folder(folder).map_err(refused(folder, "opened"))?;
    let path = resend_file(folder);
    let write = File::create(&path).and_then(|file| file.sync_all()).and_then(|()| crate::disk::sync_folder_of(&path));
    write.map_err(refused(&path, "written"))
}

/// How the delivery of a log begins.
pub(super) struct Beginning<'a> {
    /// The length of the destination's file, bytes; 0 if it is none.
    pub length: u64,
    /// Returns where the delivery goes on, by the cursor. Called each time that the log is read.
    pub mark: &'a mut dyn FnMut(Mark) -> Result<Mark, SinkError>,
}

/// Opens the log of a sync, whose folder is made where it is missing.
pub(super) fn open(spec: &LogSpec<'_>, beginning: &mut Beginning<'_>) -> Result<Log, SinkError> {
    let folder = spec.folder;
    let lock = take_lock(folder)?;
    let owner = Owner::mark(folder, spec.incarnation)?;
    let (here, elsewhere) = match spec.noted {
        Some(noted) if noted.position.keeper == super::KEEPER => (Some(noted.position), None),
        noted => (None, noted),
    };
    if !resend_file(folder).exists() {
        if let Some(noted) = elsewhere {
            return begin_with(folder, beginning, (0, &(noted.take_over)()?), lock, owner);
        }
        let log = read(folder, beginning, lock, owner)?;
        LedgerPosition::check(&super::position(log.end), here, spec.id)?;
        return Ok(log);
    }
    tracing::info!(sync = spec.id, "the ledger begins anew, as `usher resend` has asked");
    let noted = here.map_or(0, |noted| noted.at);
    let log = match read(folder, beginning, lock.clone(), owner.clone()) {
        Ok(log) if log.end >= noted => begin_anew(log)?,
        // What is gone, damaged or restored from an older backup has nothing that the new ledger needs.
        _ => begin_with(folder, beginning, (noted, &MovedLedger::default()), lock, owner)?,
    };
    forget_resend(folder)?;
    Ok(log)
}

/// Removes the request for a ledger that begins anew: it has.
fn forget_resend(folder: &Path) -> Result<(), SinkError> {
    let path = resend_file(folder);
    crate::disk::remove(&path).and_then(|()| crate::disk::sync_folder_of(&path)).map_err(refused(&path, "written"))
}

/// Begins a ledger at the end of a log: what waits is still delivered.
fn begin_anew(mut log: Log) -> Result<Log, SinkError> {
    let position = log.end;
    log.file = create_segment(&log.folder, position)?;
    log.segments.push(position);
    log.end += HEAD_BYTES;
    let clock = log.memberships.clock;
    log.memberships = Memberships::default();
    log.memberships.clock = clock;
    log.snapshot = (position, log.memberships.write_begun(&log.folder, position)?);
    log.any = false;
    Ok(log)
}

/// Begins a log at a position with the memberships of another ledger, whatever the folder holds.
fn begin_with(
    folder: &Path,
    beginning: &mut Beginning<'_>,
    (position, moved): (u64, &MovedLedger),
    lock: Arc<crate::disk::Lock>,
    owner: Owner,
) -> Result<Log, SinkError> {
    let (segments, snapshots) = files::list(folder).map_err(refused(folder, "read"))?;
    let segments = segments.into_iter().map(|base| files::segment(folder, base));
    let snapshots = snapshots.into_iter().map(|base| files::snapshot(folder, base));
    for path in segments.chain(snapshots).chain([folder.join("cursor"), folder.join("delivery")]) {
        crate::disk::remove(&path).map_err(refused(&path, "written"))?;
    }
    let mark = Mark { position, length: beginning.length, delivered: 0 };
    let mark = Mark { position, ..(beginning.mark)(mark)? };
    let file = create_segment(folder, position)?;
    let (memberships, any) = (Memberships::of(moved), moved.ledger.any);
    let length = match any {
        true => memberships.write(folder, position, super::BOUNDS.block_bytes)?,
        false => memberships.write_begun(folder, position)?,
    };
    Ok(Log {
        folder: folder.to_owned(),
        lock,
        memberships,
        any,
        segments: vec![position],
        file,
        end: position + HEAD_BYTES,
        snapshot: (position, length),
        cursor: Cursor::create(folder, mark)?,
        mark,
        undelivered: 0,
        owner,
    })
}

/// Takes the lock of a folder, which is made where it is missing.
fn take_lock(folder: &Path) -> Result<Arc<crate::disk::Lock>, SinkError> {
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
    Ok(Arc::new(lock))
}

/// What a log holds.
pub struct LogContent {
    /// The memberships.
    pub ledger: Ledger,
    /// Changes that are committed and not delivered.
    pub waiting: u64,
    /// How far the ledger is.
    pub position: LedgerPosition,
}

/// Reads the log in a folder as a start does, and hands nothing to a destination. None if there is no log.
///
/// # Errors
///
/// Another process uses the folder; the log is damaged or of a newer format.
pub fn read_content(folder: &Path) -> Result<Option<LogContent>, SinkError> {
    let (segments, _) = match files::list(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        listed => listed.map_err(refused(folder, "read"))?,
    };
    if segments.is_empty() && !folder.join("cursor").exists() {
        return Ok(None);
    }
    let lock = take_lock(folder)?;
    let owner = Owner { path: folder.join("owner"), incarnation: String::new() };
    let (log, waiting) = read_to_count(folder, lock, owner)?;
    Ok(Some(LogContent { ledger: log.memberships.ledger(log.any), waiting, position: super::position(log.end) }))
}

/// Reads a log; returns how many changes are committed and not delivered.
fn read_to_count(folder: &Path, lock: Arc<crate::disk::Lock>, owner: Owner) -> Result<(Log, u64), SinkError> {
    let mut settled = None;
    let mut mark = |mark: Mark| {
        settled = Settled::read(folder, mark.position)?;
        let position = settled.as_ref().map_or(mark.position, Settled::position);
        Ok(Mark { position, ..mark })
    };
    let log = read(folder, &mut Beginning { length: 0, mark: &mut mark }, lock, owner)?;
    let waiting = settled.map_or(log.undelivered, |settled| settled.waiting(log.undelivered));
    Ok((log, waiting))
}

/// Takes over the ledger of a sync from the log in a folder, in which it was noted. The folder stays, with the dead letters of a webhook.
/// `incarnation` is the random number of this process: another that has the log ends.
///
/// # Errors
///
/// Another process of this machine uses the folder; the log is damaged, of a newer format, gone or behind what was noted; changes wait to be
/// delivered from it.
pub fn take_log(sync: &str, folder: &Path, incarnation: u64, noted: &LedgerPosition) -> Result<MovedLedger, SinkError> {
    let lock = take_lock(folder)?;
    let owner = Owner::mark(folder, incarnation)?;
    let (log, waiting) = read_to_count(folder, lock.clone(), owner.clone())?;
    LedgerPosition::check(&super::position(log.end), Some(noted), sync)?;
    if resend_file(folder).exists() {
        let moved = log.memberships.moved(log.any).begun_anew();
        begin_with(folder, &mut Beginning { length: 0, mark: &mut Ok }, (log.end, &moved), lock, owner)?;
        forget_resend(folder)?;
        return Ok(moved);
    }
    if waiting > 0 {
        return Err(moved::refused(
            sync,
            format!("{waiting} changes wait for the destination that it had before `to` changed"),
            "put `to` back until they are delivered, or start the ledger anew with `usher resend JOB SYNC`: all members are sent to the new destination, and what waits is not sent",
        ));
    }
    let moved = log.memberships.moved(log.any);
    let members = moved.ledger.len();
    tracing::info!(sync, members, folder = %folder.display(), "the ledger is taken over from where the sync had it before");
    Ok(moved)
}

/// Reads the ledger of the log in a folder while a process may write to it, as the next start will find it. None if there is no log.
///
/// # Errors
///
/// The log is damaged or of a newer format, or changes faster than it is read.
pub fn read_ledger(folder: &Path) -> Result<Option<Ledger>, SinkError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match peek(folder) {
            // Compaction has removed a file meanwhile.
            Err(_) if tries < PEEKS_MAX => {}
            read => return read,
        }
    }
}

/// Reads the ledger as far as it is whole: the end of the last segment may be about to be written.
fn peek(folder: &Path) -> Result<Option<Ledger>, SinkError> {
    let (segments, snapshots) = match files::list(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        listed => listed.map_err(refused(folder, "read"))?,
    };
    let mut memberships = Memberships::default();
    let (from, length) = match snapshots.last() {
        Some(&position) => (position, memberships.read(folder, position)?),
        None => (0, 0),
    };
    let mut any = length > HEAD_BYTES;
    let mut end = match segments.first() {
        Some(&first) if first > from => {
            return Err(files::damaged(&files::segment(folder, first), "the segment before it is missing"));
        }
        first => first.copied().unwrap_or(from),
    };
    for &base in &segments {
        let path = files::segment(folder, base);
        if base != end {
            return Err(files::damaged(&path, format!("the segment before it ends at {end}")));
        }
        let length = fs::metadata(&path).map_err(refused(&path, "read"))?.len();
        if length < HEAD_BYTES {
            continue;
        }
        let mut blocks = Blocks::open(&path)?;
        loop {
            let position = blocks.position();
            match blocks.next(length)? {
                Next::Block if position < from => {}
                Next::Block => {
                    any = true;
                    if memberships.apply(&blocks.body).is_none() {
                        return Err(files::damaged(&path, "a block holds no records"));
                    }
                }
                Next::Flaw(flaw) if Some(&base) != segments.last() => return Err(files::damaged(&path, flaw)),
                Next::End | Next::Flaw(_) => {
                    end = position;
                    break;
                }
            }
        }
    }
    let ledger = memberships.ledger(any);
    Ok(Some(if resend_file(folder).exists() { ledger.begun_anew() } else { ledger }))
}

/// Reads the log of a folder whose lock is taken.
fn read(
    folder: &Path,
    beginning: &mut Beginning<'_>,
    lock: Arc<crate::disk::Lock>,
    owner: Owner,
) -> Result<Log, SinkError> {
    files::remove_leftovers(folder).map_err(refused(folder, "written"))?;
    let (mut segments, snapshots) = files::list(folder).map_err(refused(folder, "read"))?;
    let (cursor, mark) = match Cursor::open(folder)? {
        Some(found) => found,
        None if segments.is_empty() => {
            // What was in the destination before is not this log's.
            let mark = Mark { position: 0, length: beginning.length, delivered: 0 };
            (Cursor::create(folder, mark)?, mark)
        }
        None => return Err(files::damaged(&folder.join("cursor"), "it is missing, and the log is not")),
    };
    let mark = (beginning.mark)(mark)?;
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
        lock,
        // A snapshot without a block is that of a ledger that was begun anew.
        any: snapshot.1 > HEAD_BYTES || log.blocks > 0,
        memberships: log.memberships,
        segments,
        file,
        end,
        snapshot,
        cursor,
        mark,
        undelivered: log.undelivered,
        owner,
    })
}

/// A log being read.
struct Read {
    memberships: Memberships,
    snapshot: u64,
    mark: Mark,
    undelivered: u64,
    /// Blocks since the snapshot.
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
                    self.blocks += u64::from(position >= self.snapshot);
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
