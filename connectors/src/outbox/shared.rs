//! What the sink and its threads have in common.

use super::block::{Encoder, Record};
use super::{Bounds, open};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use usher_core::ledger::LedgerAudience;
use usher_core::lock::{lock, wait_timeout_while, wait_while};
use usher_core::sink::{AttemptCounts, SinkError, Standing, SyncState, SyncStatus, Written};

pub(crate) struct Shared {
    pub(super) bounds: Bounds,
    /// Held until the last thread has ended.
    _lock: Arc<crate::disk::Lock>,
    state: Mutex<State>,
    /// For the log's thread: something waits, or it is over.
    pub filled: Condvar,
    /// For the delivery: there is more in the log, or it is over.
    pub synced: Condvar,
    /// The same for a delivery that waits for more than that.
    pub changed: tokio::sync::Notify,
}

pub(crate) struct State {
    bounds: Bounds,
    /// Of full blocks, with the clock that is committed with each.
    blocks: VecDeque<(Vec<u8>, u64)>,
    /// The one that is filled.
    encoder: Encoder,
    /// Bytes in blocks that are not synced yet, the one being written included.
    waiting_bytes: usize,
    /// All before this was handed over.
    handed: u64,
    /// All before this is committed, whatever waits.
    committed: u64,
    /// The log has at least one block.
    any: bool,
    closed: bool,
    /// The log's thread has ended: nothing more comes.
    pub appended: bool,
    pub error: Option<SinkError>,
    /// The end of what is synced.
    pub end: u64,
    /// Where segments begin that the delivery has not come to.
    pub segments: VecDeque<u64>,
    /// Where the latest snapshot is, and its length in bytes.
    pub snapshot: (u64, u64),
    /// How far the durable cursor is.
    pub delivered: u64,
    written: Written,
    /// Changes that were delivered since the log began: a ledger that begins anew in it does not reset them.
    delivered_changes: u64,
    undelivered: u64,
    /// When changes began to wait, or the last ones were delivered.
    waiting_since: Option<Instant>,
    /// Of a delivery that counts more than lines.
    report: Option<Report>,
}

/// What a delivery says of itself beside what it has written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub state: SyncState,
    /// Since the log began.
    pub delivered: u64,
    pub superseded: u64,
    pub dead_letters: u64,
    /// Since the start.
    pub retries: u64,
    pub attempts: AttemptCounts,
    /// When the oldest change that waits was committed; `None` if that is not known.
    pub oldest_waiting_since: Option<Instant>,
    pub last_error: Option<String>,
}

impl Shared {
    pub(super) fn new(log: &open::Log, bounds: Bounds) -> Shared {
        let state = State {
            bounds,
            blocks: VecDeque::new(),
            encoder: Encoder::default(),
            waiting_bytes: 0,
            handed: 0,
            committed: 0,
            any: log.any,
            closed: false,
            appended: false,
            error: None,
            end: log.end,
            segments: log.segments.iter().copied().filter(|&base| base > log.mark.position).collect(),
            snapshot: log.snapshot,
            delivered: log.mark.position,
            written: Written::default(),
            delivered_changes: log.mark.delivered,
            undelivered: log.undelivered,
            waiting_since: (log.undelivered > 0).then(Instant::now),
            report: None,
        };
        Shared {
            bounds,
            _lock: log.lock.clone(),
            state: Mutex::new(state),
            filled: Condvar::new(),
            synced: Condvar::new(),
            changed: tokio::sync::Notify::new(),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The state, if nothing has failed.
    pub fn working(&self) -> Result<MutexGuard<'_, State>, SinkError> {
        let state = self.lock();
        assert!(!state.closed, "a sync is written to after its end");
        match &state.error {
            Some(error) => Err(error.clone()),
            None => Ok(state),
        }
    }

    /// Wakes the delivery.
    pub fn notify_delivery(&self) {
        self.synced.notify_all();
        self.changed.notify_one();
    }

    /// Returns the end of what is synced, and where the segments begin that this has not returned before.
    pub fn log_end(&self) -> (u64, Vec<u64>) {
        let mut state = self.lock();
        (state.end, state.segments.drain(..).collect())
    }

    /// Returns whether nothing more is appended.
    pub fn is_over(&self) -> bool {
        let state = self.lock();
        state.appended || state.error.is_some()
    }

    /// Nothing more is handed over.
    pub fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
        self.notify_delivery();
    }

    /// Takes the end of a thread, which may be the end of all.
    pub fn ended(&self, result: Result<(), SinkError>) {
        if let Err(error) = result {
            self.lock().error.get_or_insert(error);
            self.filled.notify_all();
            self.notify_delivery();
        }
    }

    /// The next block to append, with the clock that is committed with it; waits for one. None: no more comes.
    pub fn next_block(&self) -> Option<(Vec<u8>, u64)> {
        let idle = |state: &mut State| {
            state.error.is_none() && !state.closed && state.blocks.is_empty() && state.encoder.len() == 0
        };
        let mut state = wait_while(&self.filled, self.lock(), idle);
        if state.error.is_some() {
            return None;
        }
        state.blocks.pop_front().or_else(|| {
            let handed = state.handed;
            (state.encoder.len() > 0).then(|| (state.encoder.take(), handed))
        })
    }
}

impl Standing for Shared {
    fn status(&self) -> SyncStatus {
        self.lock().status()
    }
}

fn elapsed_ms(since: Instant) -> u64 {
    since.elapsed().as_millis() as u64
}

/// What there is for the delivery.
pub(crate) enum More {
    /// Blocks up to `end`; the next one in the segment that begins at `segment`, where that is another.
    Blocks { end: u64, segment: Option<u64> },
    /// Nothing yet.
    Later,
    /// Nothing, ever.
    Over,
}

impl Shared {
    /// What there is behind `position`; waits for it, so long at most.
    pub fn more(&self, position: u64, wait: Option<Duration>) -> More {
        let idle = |state: &mut State| state.error.is_none() && !state.appended && state.end <= position;
        let mut state = match wait {
            Some(wait) => wait_timeout_while(&self.synced, self.lock(), wait, idle),
            None => wait_while(&self.synced, self.lock(), idle),
        };
        if state.error.is_some() {
            return More::Over;
        }
        if state.end > position {
            let segment = state.segments.pop_front_if(|base| *base == position);
            return More::Blocks { end: state.end, segment };
        }
        if state.appended { More::Over } else { More::Later }
    }
}

impl State {
    /// Adds a record to what waits.
    pub fn push(&mut self, record: &Record<'_>, audience: impl FnOnce() -> LedgerAudience) {
        let before = self.encoder.len();
        self.encoder.push(record, audience);
        self.waiting_bytes += self.encoder.len() - before;
        self.undelivered += u64::from(record.sent);
        if record.sent {
            self.waiting_since.get_or_insert_with(Instant::now);
        }
        self.any = true;
        if self.encoder.len() >= self.bounds.block_bytes {
            // The write that this is of is not all handed over: the clock is that of the one before.
            self.blocks.push_back((self.encoder.take(), self.handed));
        }
    }

    /// All before `until` has been pushed.
    pub fn until(&mut self, until: u64) {
        self.handed = until;
        if !self.any {
            // That it has started is worth knowing: it is no new sync at the next start.
            self.any = true;
            self.encoder.begin();
            self.waiting_bytes += self.encoder.len();
        }
    }

    /// A block of so many bytes is synced, and ends at `end`.
    pub fn synced(&mut self, bytes: usize, committed: u64, end: u64) {
        self.waiting_bytes -= bytes;
        self.committed = self.committed.max(committed);
        self.end = end;
    }

    /// Lines of so many changes are in the destination; `written` are those that were not before.
    pub fn delivered(&mut self, changes: u64, written: Written) {
        self.delivered_changes += changes;
        self.undelivered = self.undelivered.saturating_sub(changes);
        self.waiting_since = (self.undelivered > 0).then(Instant::now);
        self.written += written;
    }

    /// Sets how many changes wait to be delivered.
    pub fn set_undelivered(&mut self, changes: u64) {
        self.undelivered = changes;
    }

    /// Takes it that so many dead letters wait to be delivered again.
    pub fn again(&mut self, changes: u64) {
        self.undelivered += changes;
    }

    pub fn report(&mut self, report: Report) {
        self.report = Some(report);
    }

    pub fn ready(&self) -> bool {
        self.waiting_bytes <= self.bounds.waiting_bytes
    }

    pub fn committed(&self) -> u64 {
        if self.waiting_bytes == 0 { self.handed } else { self.committed }
    }

    fn status(&self) -> SyncStatus {
        let status = SyncStatus {
            written: self.written,
            committed: self.delivered_changes + self.undelivered,
            delivered: Some(self.delivered_changes),
            waiting: self.undelivered,
            oldest_waiting_ms: self.waiting_since.map_or(0, elapsed_ms),
            last_error: self.error.as_ref().map(ToString::to_string),
            ..SyncStatus::default()
        };
        match &self.report {
            None => status,
            Some(report) => SyncStatus {
                committed: report.delivered + report.superseded + report.dead_letters + self.undelivered,
                delivered: Some(report.delivered),
                superseded: report.superseded,
                dead_letters: report.dead_letters,
                retries: report.retries,
                attempts: report.attempts,
                state: report.state,
                oldest_waiting_ms: report.oldest_waiting_since.filter(|_| self.undelivered > 0).map_or(0, elapsed_ms),
                last_error: status.last_error.or_else(|| report.last_error.clone()),
                ..status
            },
        }
    }
}
