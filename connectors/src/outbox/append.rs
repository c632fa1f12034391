//! The thread that appends to the log, block by block, begins segments, and has them compacted.

use super::block;
use super::files::{self, Blocks, HEAD_BYTES, Head, Next, refused};
use super::memberships::Memberships;
use super::open::Owner;
use super::shared::Shared;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;
use usher_core::sink::SinkError;

pub(super) struct Append {
    shared: Arc<Shared>,
    folder: PathBuf,
    /// The segments from the latest snapshot on; the last is written to.
    segments: Vec<u64>,
    file: File,
    /// The end of the log.
    end: u64,
    compaction: Option<JoinHandle<()>>,
    owner: Owner,
}

impl Append {
    /// Goes on at the `end` of the log, which is in the last of `segments`, in `file`.
    pub fn new(
        shared: Arc<Shared>,
        folder: PathBuf,
        segments: Vec<u64>,
        (file, end): (File, u64),
        owner: Owner,
    ) -> Append {
        Append { shared, folder, segments, file, end, compaction: None, owner }
    }

    /// Appends what comes, until no more does.
    pub fn run(mut self) -> Result<(), SinkError> {
        let mut last_sync: Option<Instant> = None;
        let mut result = Ok(());
        while let Some((mut block, ledger)) = self.shared.next_block() {
            result = self.append(&mut block);
            if result.is_err() {
                break;
            }
            self.shared.lock().synced(block.len(), ledger, self.end);
            self.shared.notify_delivery();
            // A block that is full does not wait; one that is not gets fuller meanwhile.
            let pause = self.shared.bounds.sync_every;
            if let Some(rest) = last_sync.and_then(|last| pause.checked_sub(last.elapsed()))
                && block.len() < self.shared.bounds.block_bytes
            {
                std::thread::sleep(rest);
            }
            last_sync = Some(Instant::now());
        }
        if let Some(compaction) = self.compaction.take()
            && let Err(panic) = compaction.join()
        {
            std::panic::resume_unwind(panic);
        }
        self.shared.lock().appended = true;
        self.shared.notify_delivery();
        result
    }

    fn append(&mut self, block: &mut [u8]) -> Result<(), SinkError> {
        self.owner.check()?;
        let base = *self.segments.last().expect("a log has a segment");
        if self.end - base >= self.shared.bounds.segment_bytes {
            self.begin_segment()?;
        }
        block::seal(block, self.end);
        let path = files::segment(&self.folder, *self.segments.last().expect("a log has a segment"));
        let written = self.file.write_all(block).and_then(|()| self.file.sync_data());
        written.map_err(refused(&path, "written"))?;
        self.end += block.len() as u64;
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<(), SinkError> {
        self.file = create_segment(&self.folder, self.end)?;
        let position = self.end;
        self.end += HEAD_BYTES;
        self.segments.push(position);
        // Asked first: a compaction that ends in between has left another snapshot.
        let idle = self.compaction.as_ref().is_none_or(JoinHandle::is_finished);
        let (snapshot, snapshot_bytes) = {
            let mut state = self.shared.lock();
            state.segments.push_back(position);
            state.snapshot
        };
        let grown = self.shared.bounds.compact_bytes.max(2 * snapshot_bytes);
        if position - snapshot >= grown && idle {
            self.segments.retain(|&base| base >= snapshot);
            let (shared, folder) = (self.shared.clone(), self.folder.clone());
            let closed: Vec<u64> = self.segments.iter().copied().filter(|&base| base < position).collect();
            let run = move || shared.ended(compact(&shared, &folder, snapshot, &closed, position));
            let thread = std::thread::Builder::new().name("compact".to_owned()).spawn(run);
            self.compaction = Some(thread.expect("the system can start a thread"));
        }
        Ok(())
    }
}

/// Makes a segment that begins at a position, and is there after a crash.
pub(super) fn create_segment(folder: &Path, position: u64) -> Result<File, SinkError> {
    let path = files::segment(folder, position);
    let failed = refused(&path, "written");
    let mut file = File::create(&path).map_err(&failed)?;
    let head = Head { position, ..Head::default() };
    file.write_all(&head.bytes()).and_then(|()| file.sync_all()).map_err(&failed)?;
    crate::disk::sync_folder_of(&path).map_err(&failed)?;
    Ok(file)
}

/// Writes the snapshot of `position`, up to which `segments` go on from the one before, and removes what it replaces.
fn compact(shared: &Shared, folder: &Path, snapshot: u64, segments: &[u64], position: u64) -> Result<(), SinkError> {
    let mut memberships = Memberships::default();
    if snapshot > 0 {
        memberships.read(folder, snapshot)?;
    }
    for &base in segments {
        let path = files::segment(folder, base);
        let mut blocks = Blocks::open(&path)?;
        let length = std::fs::metadata(&path).map_err(refused(&path, "read"))?.len();
        loop {
            match blocks.next(length)? {
                Next::End => break,
                Next::Block if memberships.apply(&blocks.body).is_some() => {}
                Next::Block => return Err(files::damaged(&path, "a block holds no records")),
                Next::Flaw(flaw) => return Err(files::damaged(&path, flaw)),
            }
        }
    }
    let length = memberships.write(folder, position, shared.bounds.block_bytes)?;
    let delivered = {
        let mut state = shared.lock();
        state.snapshot = (position, length);
        state.delivered
    };
    files::sweep(folder, position, delivered).map_err(refused(folder, "written"))
}
