//! The ledger of a sync without Kafka, as a log on this machine, and the delivery from it.
//!
//! The log is ledger and outbox in one. [`Sink::write`] queues the changes of the sync; a thread appends them in
//! blocks and syncs, as many as have come meanwhile in one; when that has returned they are committed. A second thread
//! reads the log behind it, writes the messages of those that are to be sent to the destination, and keeps a durable cursor.
//! So a slow destination holds up nothing but itself, and what it has not taken waits on the disk.
//!
//! Promises:
//! 1. What is committed survives a crash, and is a prefix of what was handed over. A block that a crash has torn is cut off at the next
//!    start, with a warning; damage anywhere else is an error.
//! 2. To a file each message is written once, in order. After a crash the lines behind the cursor are held against those that
//!    the log would write next: those that are there are not written again, and a torn last one is cut off. A line is
//!    known by its text or by its message's id, so that a message may look different after an edit of the job. Lines of others
//!    are left alone. It takes that nobody shortens the file, and that what was in it is there again: a loss of power may take lines
//!    from the middle of what was not synced yet (at most the last second), and then those behind them come twice.
//!    A file that is moved away or removed while the job runs is opened again at its path before the next line is written.
//! 3. To a stream (stdout) each message is written at least once: after a crash up to a second of them again.
//! 4. Opening reads what compaction has left: a snapshot of the memberships, and segments not much larger than it.
//!
//! 5. At most one process goes on with a log. On one machine a lock keeps a second one out; on a disk of several machines, where
//!    locks may not hold, each start writes its mark, a random incarnation, into the file `owner`, and a process that finds
//!    another mark there appends no block any more.
//! 6. Where the latest checkpoint has noted the ledger elsewhere, the log begins with what it has there ([`crate::moved`]).
//! 7. A file `resend`, which `usher resend` writes, asks for a ledger that begins anew: the next start forgets the memberships,
//!    delivers what waits, and keeps positions growing.
//!
//! Refuses: a folder that another process uses, a newer format, damage, a log that ends before its cursor, a log that is behind
//! the checkpoint.
//!
//! In memory per sync: what waits to be synced, 32 MiB before it is not `ready`; the rows of [`crate::committed_rows`], if the
//! sync includes columns; at a start and during a compaction the keys and rows of the memberships.

mod append;
pub(crate) mod block;
pub(crate) mod cursor;
mod deliver;
pub(crate) mod files;
pub(crate) mod formats;
mod memberships;
mod open;
pub(crate) mod shared;

pub use deliver::Outlet;

use crate::committed_rows::CommittedRows;
use crate::messages::filter;
use crate::moved::NotedLedger;
use crate::webhook;
use append::Append;
use block::Record;
use cursor::Mark;
use deliver::Delivery as LineDelivery;
use formats::Formats;
use open::Beginning;
use shared::Shared;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use usher_core::catalog::Catalog;
use usher_core::change::{Change, ChangeKind, ChangeTexts, Changes, Filter};
use usher_core::clock::Clock;
use usher_core::delivery::Delivery;
use usher_core::sink::{LedgerPosition, OpenedSync, Sink, SinkError, Standing};

/// Bounds, smaller in tests.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// A block is ended at so many bytes: some 100,000 changes, which one call writes and one sync makes safe.
    block_bytes: usize,
    /// A segment is ended at so many bytes: what is removed at once.
    segment_bytes: u64,
    /// A log is compacted when it has grown by so much, and by twice its snapshot: it can be read in a second.
    compact_bytes: u64,
    /// Bytes that may wait to be synced: a second's worth at a million changes a second.
    waiting_bytes: usize,
    /// From one sync to the next, at least: under a trickle of changes a disk does not sync all the time, and nobody waits long.
    sync_every: Duration,
    /// From one durable cursor to the next: it costs two syncs, and saves only reading at a start.
    save_every: Duration,
}

const BOUNDS: Bounds = Bounds {
    block_bytes: 4 << 20,
    segment_bytes: 32 << 20,
    compact_bytes: 64 << 20,
    waiting_bytes: 32 << 20,
    sync_every: Duration::from_millis(2),
    save_every: Duration::from_secs(1),
};

/// What keeps the ledger, in [`LedgerPosition`].
const KEEPER: &str = "outbox";
/// Changes encoded before the lock is let go: 4,096, well below a millisecond.
const CHANGES_LOCKED: usize = 4096;

/// A sync without Kafka, as the job has it, and where its log is.
pub struct LogSpec<'a> {
    /// The sync's id.
    pub id: &'a str,
    /// The sync's index in the job.
    pub index: u16,
    /// The sync.
    pub sync: &'a usher_config::Sync,
    /// The folder of the log, which is made where it is missing.
    pub folder: &'a Path,
    /// A random number of this process: its mark in the folder.
    pub incarnation: u64,
    /// What the latest checkpoint has noted of the ledger.
    pub noted: Option<NotedLedger<'a>>,
}

/// Opens the log of a sync, which delivers to `outlet`.
///
/// # Errors
///
/// The folder is another process's or can't be read; the log is damaged, of a newer format, or behind the checkpoint.
pub fn open_local(spec: &LogSpec<'_>, outlet: Outlet) -> Result<OpenedSync, SinkError> {
    open_within(spec, Destination::Lines(outlet), BOUNDS)
}

/// Opens the log of a sync, which delivers to the webhook `target`: paths in it are relative to `job_folder`, and `variable` returns the
/// values of `${VAR}` in its secrets.
///
/// # Errors
///
/// As [`open_local`]; what the job says of the webhook is wrong, or what it holds can't be read.
pub fn open_webhook(
    spec: &LogSpec<'_>,
    target: &usher_config::WebhookTarget,
    (job_folder, variable): (&Path, webhook::Lookup),
    clock: Arc<dyn Clock>,
) -> Result<OpenedSync, SinkError> {
    let webhook = webhook::open(spec.id, spec.sync, target, job_folder, variable, clock)?;
    open_within(spec, Destination::Webhook(Box::new(webhook)), BOUNDS)
}

/// Asks for a ledger that begins anew when the sync is opened next. `folder` is the log's, which is made where it is missing.
///
/// # Errors
///
/// The folder can't be written.
pub fn resend_local(folder: &Path) -> Result<(), SinkError> {
    open::ask_for_resend(folder)
}

pub use open::{LogContent, read_content, read_ledger, take_log};

/// Where a log delivers to.
enum Destination {
    Lines(Outlet),
    Webhook(Box<webhook::Opened>),
}

/// The same, with what it has of earlier runs.
enum Outgoing {
    Lines(Outlet),
    Webhook(Box<(webhook::Opened, webhook::Kept)>),
}

fn open_within(spec: &LogSpec<'_>, to: Destination, bounds: Bounds) -> Result<OpenedSync, SinkError> {
    let (log, outgoing) = match to {
        Destination::Lines(outlet) => {
            let mut beginning = Beginning { length: outlet.length()?, mark: &mut Ok };
            (open::open(spec, &mut beginning)?, Outgoing::Lines(outlet))
        }
        Destination::Webhook(webhook) => {
            let mut kept = None;
            let mut mark = |mark: Mark| {
                let found = kept.insert(webhook::Kept::open(&webhook, spec.folder, mark.position)?);
                Ok(Mark { position: found.position(), length: 0, ..mark })
            };
            let log = open::open(spec, &mut Beginning { length: 0, mark: &mut mark })?;
            let mut kept = kept.expect("a log that was opened has begun");
            kept.complete(log.undelivered, log.any, log.memberships.rows());
            (log, Outgoing::Webhook(Box::new((*webhook, kept))))
        }
    };
    let ledger = log.memberships.ledger(log.any);
    let mut rows = CommittedRows::new(spec.sync);
    log.memberships.restore_rows(&mut rows);
    let at = position(log.end);
    let log = open::Log { memberships: Default::default(), ..log };
    let (index, sync) = (spec.index, spec.sync.clone());
    let start = move |catalog: Arc<Catalog>| -> Box<dyn Sink> {
        let filter = filter(index, &sync, &catalog);
        Box::new(Log::start(log, outgoing, sync, catalog, (filter, rows), bounds))
    };
    Ok(OpenedSync { ledger, position: at, start: Box::new(start) })
}

/// Returns the position of a log that ends at `end`.
fn position(end: u64) -> LedgerPosition {
    LedgerPosition { keeper: KEEPER.to_owned(), at: end, place: String::new() }
}

/// The sink.
struct Log {
    shared: Arc<Shared>,
    catalog: Arc<Catalog>,
    filter: Filter,
    rows: CommittedRows,
    /// Changes of one write, as they are committed.
    committed: Changes,
    /// Of the delivery, if it takes orders.
    control: Option<Arc<webhook::Control>>,
    /// Of the log and of the delivery.
    threads: Vec<JoinHandle<()>>,
}

impl Log {
    fn start(
        log: open::Log,
        outgoing: Outgoing,
        sync: usher_config::Sync,
        catalog: Arc<Catalog>,
        (filter, rows): (Filter, CommittedRows),
        bounds: Bounds,
    ) -> Log {
        let shared = Arc::new(Shared::new(&log, bounds));
        let open::Log { folder, segments, file, end, cursor, mark, undelivered, owner, .. } = log;
        let segment = segments.iter().rfind(|&&base| base <= mark.position).copied();
        let segment = segment.expect("the segment of the cursor was read");
        let mut control = None;
        let deliver: Box<dyn FnOnce() -> Result<(), SinkError> + Send> = match outgoing {
            Outgoing::Lines(outlet) => {
                let cursor = (cursor, mark);
                let delivery = LineDelivery::new(shared.clone(), folder.clone(), cursor, outlet, sync, catalog.clone());
                Box::new(move || delivery.run(segment, undelivered))
            }
            Outgoing::Webhook(webhook) => {
                shared.lock().set_undelivered(webhook.1.waiting());
                let log = webhook::Log { shared: shared.clone(), folder: folder.clone(), cursor, segment };
                let formats = Formats::new(sync, catalog.clone());
                let (sender, commands) = webhook::control();
                control = Some(Arc::new(sender));
                Box::new(move || webhook::run(*webhook, log, formats, commands))
            }
        };
        let append = Append::new(shared.clone(), folder, segments, (file, end), owner);
        let spawn = |name: &str, run: Box<dyn FnOnce() -> Result<(), SinkError> + Send>| {
            let shared = shared.clone();
            let run = move || shared.ended(run());
            std::thread::Builder::new().name(name.to_owned()).spawn(run).expect("the system can start a thread")
        };
        let threads = vec![spawn("ledger", Box::new(move || append.run())), spawn("deliver", deliver)];
        Log { shared, catalog, filter, rows, committed: Changes::new(), control, threads }
    }
}

impl Sink for Log {
    fn write(&mut self, epoch: &Changes, until: u64) -> Result<(), SinkError> {
        let mut ledger = epoch.iter().filter(|change| self.filter.commits(change)).peekable();
        loop {
            self.committed.clear();
            for change in ledger.by_ref().take(CHANGES_LOCKED) {
                self.rows.commit(epoch, change, &self.catalog, &mut self.committed);
            }
            let mut state = self.shared.working()?;
            for change in &self.committed {
                let sent = self.filter.sends(change);
                let ChangeTexts { key, row, previous_row } = self.committed.texts(change);
                // The ledger keeps the row of a membership, sent or not.
                let row = if sent || change.kind != ChangeKind::Exit { row } else { "" };
                let Change { audience, kind, reason, at, .. } = *change;
                let record = Record { audience, kind, reason, sent, at, key, row, previous_row };
                state.push(&record, || self.catalog.audience(change.audience));
            }
            if ledger.peek().is_none() {
                state.until(until);
                drop(state);
                self.shared.filled.notify_one();
                return Ok(());
            }
            drop(state);
            self.shared.filled.notify_one();
        }
    }

    fn ready(&self) -> bool {
        self.shared.lock().ready()
    }

    fn committed(&self) -> u64 {
        self.shared.lock().committed()
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.shared.close();
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
        self.shared.lock().error.clone().map_or(Ok(()), Err)
    }

    fn standing(&self) -> Arc<dyn Standing> {
        Arc::clone(&self.shared) as Arc<dyn Standing>
    }

    fn position(&self) -> Option<LedgerPosition> {
        Some(position(self.shared.lock().end))
    }

    fn delivery(&self) -> Option<Arc<dyn Delivery>> {
        self.control.clone().map(|control| control as Arc<dyn Delivery>)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.shared.close();
    }
}

#[cfg(test)]
mod tests;
