//! The thread of a sync: takes batches from a bounded queue, and retries each until it is committed.
//!
//! Promises: batches are committed in the order in which they were handed over; while the brokers are away a batch stays queued
//! and is retried after a growing pause, and the sync's status has the latest error; the first error that a retry does not
//! solve ends the thread.

use super::SyncSpec;
use super::batch::{BATCH_BYTES, BATCH_CHANGES, Batch, TRANSACTION_CHANGES};
use super::direct::Direct;
use super::limits::Limits;
use super::reconcile::{Broken, Visible};
use super::transaction::{CALL, Counting, Setback};
use super::watch::Watch;
use crate::kafka::client::{Context, PATIENCE, Reader, offsets_at, retry};
use crate::kafka::error::Problem;
use crate::kafka::ledger::{self, DeadLettersOfLedger, LedgerTopic, Mark, Progress};
use crate::messages::Messages;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::topic_partition_list::Offset;
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use usher_core::catalog::Catalog;
use usher_core::ledger::LedgerAudience;
use usher_core::lock::{lock, wait_timeout};
use usher_core::sink::{SinkError, Standing, SyncStatus, Written};

/// How long an idle thread waits for a batch before it polls its producer.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// The pause between two looks whether the mark is visible.
const VISIBLE_EVERY: Duration = Duration::from_millis(5);
/// The pause after a batch that failed, at first, …
pub(super) const BACKOFF: Duration = Duration::from_millis(50);
/// … and at most.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Bytes of committed batches that are kept: 2 MiB, a second of 20,000 changes/s; the latest is kept whatever its size, mostly up to [`BATCH_BYTES`].
const KEPT_BYTES: usize = 2 << 20;

/// The places of the topics in what [`Sender::producer_context`] notes.
const TARGET: usize = 0;
const LEDGER: usize = 1;

/// What to do when the brokers do not take what is left at the end.
const NOT_COMMITTED: &str = "see that the brokers run; changes that were not committed are sent at the next start";

/// What to do when the brokers do not answer before the job runs.
pub(super) const RETRY_HINT: &str = "see that the brokers run";

/// What the sink and its thread share.
#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Wakes both sides: the state has changed.
    pub(super) changed: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    queue: VecDeque<Batch>,
    /// Bytes of the changes that are queued or being sent.
    pub(super) bytes: usize,
    /// How many changes are queued or being sent.
    pub(super) changes: u64,
    /// Those of them that are to be delivered.
    pub(super) to_send: u64,
    /// No more changes come: queued ones are sent at once.
    pub(super) closing: bool,
    /// Nothing more is sent: the sink was dropped, or has waited long enough for its end.
    pub(super) abandoned: bool,
    /// How many batches are being sent.
    sending: usize,
    /// The thread has ended.
    pub(super) ended: bool,
    /// All changes before this time have been handed over.
    pub(super) handed_over: u64,
    /// All changes before this time are committed.
    pub(super) committed: u64,
    /// How many batches have been committed, since the ledger began.
    pub(super) batch: u64,
    /// When changes began to wait, or the last ones were committed.
    pub(super) waiting_since: Option<Instant>,
    pub(super) status: SyncStatus,
    /// Changes that were delivered since the ledger began.
    pub(super) delivered: u64,
    /// Changes that Kafka did not take since then.
    pub(super) dead: u64,
    /// The last of them.
    pub(super) dead_letters: DeadLettersOfLedger,
    /// Why the thread has ended.
    pub(super) error: Option<SinkError>,
}

impl Standing for Shared {
    fn status(&self) -> SyncStatus {
        let state = self.lock();
        let since = state.waiting_since.filter(|_| state.changes > 0);
        let oldest_waiting_ms = since.map_or(0, |since| since.elapsed().as_millis() as u64);
        // What waits is not in the ledger yet; it is counted, so that the counts add up.
        SyncStatus {
            committed: state.delivered + state.dead + state.to_send,
            delivered: Some(state.delivered),
            dead_letters: state.dead,
            waiting: state.to_send,
            oldest_waiting_ms,
            ..state.status.clone()
        }
    }
}

impl State {
    /// Queues a piece.
    pub(super) fn push(&mut self, piece: Batch) {
        self.waiting_since.get_or_insert_with(Instant::now);
        self.bytes += piece.bytes();
        self.changes += piece.len() as u64;
        self.to_send += piece.to_send();
        self.queue.push_back(piece);
    }

    /// Notes that all changes before `until` have been handed over.
    pub(super) fn hand_over(&mut self, until: u64) {
        self.handed_over = until;
        if let Some(last) = self.queue.back_mut() {
            last.until = Some(until);
        }
        self.commit_if_idle();
    }

    /// Returns whether what is queued is as much as a batch may have.
    fn is_full(&self, changes_max: usize) -> bool {
        let changes: usize = self.queue.iter().map(Batch::len).sum();
        let bytes: usize = self.queue.iter().map(Batch::bytes).sum();
        changes >= changes_max || bytes >= BATCH_BYTES
    }

    /// Returns whether all pieces of the latest write are queued, or nothing is.
    fn is_whole(&self) -> bool {
        self.queue.back().is_none_or(|last| last.until.is_some())
    }

    /// Returns whether a batch is due: a full one, or where `time_has_come` one of all that is queued, unless the latest write is queued in part.
    fn is_due(&self, changes_max: usize, time_has_come: bool) -> bool {
        let enough = self.closing || self.is_full(changes_max);
        !self.queue.is_empty() && (enough || (time_has_come && self.is_whole()))
    }

    /// Takes the pieces of the next batch.
    fn pop(&mut self, changes_max: usize) -> Vec<Batch> {
        self.sending += 1;
        Batch::take_pieces(&mut self.queue, changes_max)
    }

    /// Counts a batch as committed.
    fn committed(&mut self, batch: &Batch) {
        self.sending -= 1;
        self.bytes -= batch.bytes();
        self.changes -= batch.len() as u64;
        self.to_send -= batch.to_send();
        self.waiting_since = (self.changes > 0).then(Instant::now);
        if let Some(until) = batch.until {
            self.committed = until;
        }
        self.commit_if_idle();
    }

    /// Takes how far the ledger is.
    pub(super) fn take_progress(&mut self, progress: &Progress) {
        self.batch = progress.batch;
        (self.delivered, self.dead) = (progress.delivered, progress.dead_letters);
    }

    /// If nothing is queued or being sent, everything that was handed over is committed.
    fn commit_if_idle(&mut self) {
        if self.queue.is_empty() && self.sending == 0 {
            self.committed = self.handed_over;
        }
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Waits for a change of the state, for at most `time`.
    pub(super) fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        wait_timeout(&self.changed, state, time)
    }
}

/// What the thread does next.
enum Next {
    Send(Box<Batch>),
    /// No batch is due: those that are underway go on.
    Poll,
    End,
}

/// A batch that was committed, and how far the ledger was before and is with it.
pub(super) struct Committed {
    pub(super) batch: Box<Batch>,
    pub(super) before: Progress,
    pub(super) progress: Progress,
}

/// A committed batch, kept in case the brokers lose it.
pub(super) struct KeptBatch {
    pub(super) progress: Progress,
    /// By partition of the target, an offset before its messages.
    pub(super) ends: BTreeMap<i32, i64>,
    pub(super) batch: Box<Batch>,
}

/// What does not change of a sync while this process has it.
pub(super) struct OwnSync {
    pub(super) id: String,
    /// The target's name in errors.
    name: String,
    brokers: String,
    pub(super) topic: String,
    pub(super) ledger_topic: String,
    /// Whose ledger it is, `JOB.SYNC`, as messages without transactions say it.
    pub(super) ledger_of: String,
    pub(super) exactly_once: bool,
    /// The random number by which this process knows its mark in the ledger.
    pub(super) incarnation: u64,
    pub(super) reader_config: ClientConfig,
}

impl OwnSync {
    pub(super) fn new(spec: &SyncSpec<'_>, reader_config: &ClientConfig) -> OwnSync {
        OwnSync {
            id: spec.id.to_owned(),
            name: spec.target_name(),
            brokers: spec.target.kafka.brokers.clone(),
            topic: spec.target.topic.clone(),
            ledger_topic: ledger::topic(spec.job, spec.id),
            ledger_of: spec.ledger_of(),
            exactly_once: spec.exactly_once(),
            incarnation: spec.incarnation,
            reader_config: reader_config.clone(),
        }
    }

    pub(super) fn superseded(&self) -> SinkError {
        SinkError::Superseded { to: self.name.clone() }
    }

    pub(super) fn failed(&self, reason: String, hint: &'static str) -> SinkError {
        SinkError::Failed { to: self.name.clone(), action: "written", reason, hint }
    }

    pub(super) fn context(&self) -> Context {
        Context::new(format!("sync {}", self.id), &self.brokers)
    }
}

/// The thread's state. The protocols with the brokers are in [`super::transaction`] and [`super::direct`].
pub(super) struct Sender {
    pub(super) own: Arc<OwnSync>,
    pub(super) producer: BaseProducer<Context>,
    pub(super) producer_config: ClientConfig,
    pub(super) admin_config: ClientConfig,
    /// How large records may be.
    pub(super) limits: Cell<Limits>,
    /// How the records that are being sent are counted.
    pub(super) counting: Cell<Counting>,
    /// Whether the mark is committed.
    pub(super) owned: bool,
    /// The offset of the mark: a later one is a successor's. None if the brokers have not said it.
    marked_at: Option<i64>,
    /// The process that the ledger belonged to before. Where its mark is the latest, this process's is lost.
    previous_owner: Option<u64>,
    pub(super) watch: Arc<Watch>,
    /// By partition of the target, an offset before the messages of the next batch. A partition that is missing is new.
    pub(super) ends: BTreeMap<i32, i64>,
    pub(super) progress: Progress,
    /// How messages are written.
    pub(super) messages: Messages,
    /// The audiences whose records have been written, by id.
    pub(super) audiences: BTreeMap<String, LedgerAudience>,
    /// Why the producer must be replaced before the next batch, if it must.
    broken: Option<Broken>,
    /// The latest committed batches, oldest first.
    pub(super) kept: VecDeque<KeptBatch>,
    kept_bytes: usize,
    /// When a batch that is not committed becomes an error. None: it is retried until the sync is closed.
    deadline: Option<Instant>,
    pub(super) shared: Arc<Shared>,
}

impl Sender {
    /// Returns a sender that knows nothing of its ledger yet. `configs` are those of producers, readers and admin
    /// clients.
    pub(super) fn new(
        spec: &SyncSpec<'_>,
        producer: BaseProducer<Context>,
        [producer_config, admin_config]: [ClientConfig; 2],
        limits: Limits,
        (own, watch): (Arc<OwnSync>, Watch),
    ) -> Sender {
        Sender {
            own,
            producer,
            producer_config,
            admin_config,
            limits: Cell::new(limits),
            counting: Cell::default(),
            owned: false,
            marked_at: None,
            previous_owner: None,
            watch: Arc::new(watch),
            ends: BTreeMap::new(),
            progress: Progress::default(),
            messages: Messages::of(spec.sync, Arc::new(Catalog::new(spec.job, []))),
            audiences: BTreeMap::new(),
            broken: None,
            kept: VecDeque::new(),
            kept_bytes: 0,
            deadline: None,
            shared: Arc::default(),
        }
    }

    /// Notes that the mark is committed, and where.
    pub(super) fn note_mark(&mut self) {
        self.owned = true;
        let end = self.producer.client().context().take_delivered().remove(&(LEDGER, 0));
        // A duplicate that was refused has no offset.
        self.marked_at = end.map(|of| of.end).filter(|end| *end > 0).map(|end| end - 1);
    }

    /// Waits until the mark can be read, and with it all that was committed before: brokers confirm a transaction before its
    /// partitions have it. Fails if it can't be read before `deadline`.
    pub(super) fn wait_for_mark(&self, reader: &Reader, deadline: Instant) -> Result<(), Problem> {
        let Some(mark) = self.marked_at else { return Ok(()) };
        loop {
            let (_, end) = retry(reader.context(), PATIENCE, || reader.ends(&self.own.ledger_topic, 0))?;
            if end > mark {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let reason = format!("a transaction is open in topic `{}` at offset {end}", self.own.ledger_topic);
                return Err(Problem { reason, hint: RETRY_HINT, transient: true });
            }
            std::thread::sleep(VISIBLE_EVERY);
        }
    }

    /// Returns whether the ledger shows this process's mark. None if it belongs to another process.
    ///
    /// Brokers that fail may lose the mark: then the ledger has none, or the one before. A mark behind this process's is never
    /// the one before.
    pub(super) fn is_marked(&self, owner: Option<Mark>) -> Option<bool> {
        let Some(owner) = owner else { return Some(false) };
        let is_before = self.marked_at.is_some_and(|at| owner.offset < at);
        match owner.incarnation == self.own.incarnation {
            true => Some(true),
            false => (is_before && self.previous_owner == Some(owner.incarnation)).then_some(false),
        }
    }

    /// Goes on from a ledger that was read.
    pub(super) fn take_ledger(&mut self, found: &LedgerTopic) {
        self.progress = found.progress;
        self.progress.version = if self.own.exactly_once { ledger::VERSION_OF_TRANSACTIONS } else { ledger::VERSION };
        self.previous_owner = found.previous.map(|mark| mark.incarnation);
        self.audiences.clone_from(&found.audiences);
        self.watch.wrote_ledger(found.end);
    }

    /// Notes where the target ends.
    pub(super) fn note_target_ends(&mut self, reader: &Reader) -> Result<(), Problem> {
        let all = (0..self.watch.target_partitions()).map(|partition| (0, partition));
        let ends = || offsets_at(reader.base(), &[&self.own.topic], all.clone(), Offset::End);
        let ends = retry(reader.context(), PATIENCE, ends)?;
        self.ends.extend(ends.into_iter().map(|((_, partition), end)| (partition, end)));
        Ok(())
    }

    /// Commits what opening a sync writes, before `deadline`.
    pub(super) fn commit_before<T>(
        &mut self,
        deadline: Instant,
        commit: impl FnOnce(&mut Sender) -> Result<T, Setback>,
    ) -> Result<T, SinkError> {
        self.deadline = Some(deadline);
        let result = commit(self);
        self.deadline = None;
        result.map_err(|setback| match setback {
            Setback::Failed(error) => error,
            // While it opens the sync a process does not fence the one that has fenced it.
            Setback::Fenced(_) => self.own.superseded(),
            Setback::Retry(reason) | Setback::Replace(reason) => self.own.failed(reason, RETRY_HINT),
            Setback::TooLarge(Problem { reason, hint, .. }) => self.own.failed(reason, hint),
        })
    }

    /// Commits the next `run` number before `deadline`: a version that knows no mark looks for it.
    pub(super) fn commit_run(&mut self, deadline: Instant) -> Result<(), SinkError> {
        self.progress.run += 1;
        self.deadline = Some(deadline);
        self.commit_batch(&Batch::default(), &Catalog::new("", []))?;
        self.deadline = None;
        Ok(())
    }

    /// Runs until the sink is closed and all is committed, the sink is abandoned, or a batch fails for good. Two batches are at
    /// least `every` apart, unless there are enough changes for a full one.
    pub(super) fn run(mut self, catalog: &Catalog, every: Duration) {
        let watching = self.watch.start();
        let mut last: Option<Instant> = None;
        let mut direct = Direct::default();
        loop {
            let next = self.next(last.map(|last| last + every), &direct);
            if let Next::Send(_) = next {
                last = Some(Instant::now());
            }
            let result = self.heed_look().and_then(|()| self.turn(next, &mut direct, catalog));
            let committed = match result {
                Ok(Some(committed)) => committed,
                Ok(None) => {
                    self.end();
                    break;
                }
                Err(error) => {
                    let mut state = self.shared.lock();
                    state.status.last_error = Some(error.to_string());
                    state.error = Some(error);
                    break;
                }
            };
            for Committed { batch, before, progress } in committed {
                let mut state = self.shared.lock();
                state.committed(&batch);
                state.take_progress(&progress);
                for (letter, number) in batch.dead_letters(catalog).into_iter().zip(before.dead_letters..) {
                    state.dead_letters.insert(number, letter);
                }
                drop(state);
                self.shared.changed.notify_all();
                self.keep(batch, before);
            }
        }
        drop(watching);
        let mut state = self.shared.lock();
        state.ended = true;
        self.shared.changed.notify_all();
    }

    /// Does what is next. Returns what was committed by it; None at the end.
    fn turn(
        &mut self,
        next: Next,
        direct: &mut Direct,
        catalog: &Catalog,
    ) -> Result<Option<Vec<Committed>>, SinkError> {
        let committed = match next {
            Next::End => return Ok(None),
            Next::Poll if self.own.exactly_once => {
                self.producer.poll(Duration::ZERO);
                Vec::new()
            }
            Next::Poll => self.send_direct(direct, None, catalog)?,
            Next::Send(batch) if self.own.exactly_once => {
                let before = self.progress;
                self.commit_batch(&batch, catalog)?;
                vec![Committed { batch, before, progress: self.progress }]
            }
            Next::Send(batch) => self.send_direct(direct, Some(batch), catalog)?,
        };
        Ok(Some(committed))
    }

    /// Ends: with an error if changes are left that the brokers have not taken for too long. At a clean end without transactions it is noted that the
    /// topic has no message that the ledger lacks.
    fn end(&mut self) {
        let mut state = self.shared.lock();
        if state.abandoned {
            if state.closing && state.changes > 0 && state.error.is_none() {
                let reason = state.status.last_error.clone().unwrap_or_else(|| "the brokers do not answer".to_owned());
                state.error = Some(self.own.failed(reason, NOT_COMMITTED));
            }
            return;
        }
        drop(state);
        // The record is another process's where that has come meanwhile.
        if self.own.exactly_once || self.watch.awaits_late() || self.watch.is_marked_by_another() != Ok(false) {
            return;
        }
        if let Err(error) = self.commit_before(Instant::now() + CALL, |sender| sender.send_sent(&[], None)) {
            tracing::debug!(sync = %self.own.id, "the next start reads the end of the topic: {error}");
        }
    }

    /// Waits until a batch is due: not before `at`, and not while a write is queued in part, unless there is enough for a full one. Waits for a
    /// moment only while batches are underway.
    fn next(&self, at: Option<Instant>, direct: &Direct) -> Next {
        let changes_max = if self.own.exactly_once { TRANSACTION_CHANGES } else { BATCH_CHANGES };
        let (underway, has_room) = (!direct.is_empty(), direct.has_room());
        let mut state = self.shared.lock();
        let poll_at = direct.next_look().unwrap_or_else(|| Instant::now() + POLL_EVERY);
        loop {
            if state.abandoned {
                return Next::End;
            }
            let now = Instant::now();
            let later = at.filter(|at| *at > now);
            if has_room && state.is_due(changes_max, later.is_none()) {
                break;
            }
            if state.queue.is_empty() && state.closing && !underway {
                return Next::End;
            }
            if now >= poll_at {
                return Next::Poll;
            }
            let until =
                later.filter(|_| has_room && !state.queue.is_empty()).map_or(poll_at, |later| later.min(poll_at));
            state = self.shared.wait(state, until - now);
        }
        let pieces = state.pop(changes_max);
        drop(state);
        Next::Send(Box::new(Batch::join(pieces)))
    }

    /// Sends a batch until it is committed.
    fn commit_batch(&mut self, batch: &Batch, catalog: &Catalog) -> Result<(), SinkError> {
        let mut progress = self.progress;
        progress.batch += u64::from(!batch.is_empty());
        progress.clock = batch.changes().map(|change| change.at).fold(progress.clock, u64::max);
        let mut backoff = BACKOFF;
        loop {
            let result = match self.broken.take() {
                None => self.send_once(batch, catalog, &progress, &Visible::default()),
                Some(broken) => self.replace_producer(batch, catalog, &progress, broken),
            };
            match result {
                Ok(written) => {
                    self.committed(batch, catalog, batch.counted(progress), written);
                    return Ok(());
                }
                Err(setback) => self.take_setback(setback, &mut backoff)?,
            }
        }
    }

    /// Prepares the next try of a batch, and pauses before it. An error if there is to be none.
    pub(super) fn take_setback(&mut self, setback: Setback, backoff: &mut Duration) -> Result<(), SinkError> {
        match setback {
            Setback::Failed(error) => Err(error),
            Setback::Retry(reason) => self.back_off(reason, backoff),
            Setback::Replace(reason) => {
                self.mark_broken(Broken { reason: reason.clone(), fenced: false });
                self.back_off(reason, backoff)
            }
            Setback::Fenced(reason) => {
                self.mark_broken(Broken { reason: reason.clone(), fenced: true });
                self.back_off(reason, backoff)
            }
            Setback::TooLarge(problem) => {
                let setback = self.lower_limits(problem);
                self.take_setback(setback, backoff)
            }
        }
    }

    pub(super) fn committed(&mut self, batch: &Batch, catalog: &Catalog, progress: Progress, written: Written) {
        self.progress = progress;
        self.note_audiences(batch, catalog);
        self.producer.client().context().report_recovery();
        let status = &mut self.shared.lock().status;
        status.last_error = None;
        status.written += written;
    }

    /// Notes that the ledger knows the audiences of a batch.
    pub(super) fn note_audiences(&mut self, batch: &Batch, catalog: &Catalog) {
        for change in batch.changes() {
            let id = catalog.id(change.audience);
            if self.audiences.get(id).is_none_or(|known| *known != catalog.audience(change.audience)) {
                self.audiences.insert(id.to_owned(), catalog.audience(change.audience));
            }
        }
    }

    /// Leaves the producer to be replaced before the next try.
    pub(super) fn mark_broken(&mut self, broken: Broken) {
        self.broken = Some(broken);
    }

    /// Keeps a committed batch, before which the ledger was at `before`; drops the oldest ones beyond [`KEPT_BYTES`].
    fn keep(&mut self, batch: Box<Batch>, before: Progress) {
        if !self.own.exactly_once {
            return;
        }
        let ends = self.note_delivered();
        self.kept_bytes += batch.bytes();
        // Sent again, it is counted again.
        let Progress { delivered, dead_letters, .. } = before;
        let progress = Progress { delivered, dead_letters, ..self.progress };
        self.kept.push_back(KeptBatch { progress, ends, batch });
        while self.kept_bytes > KEPT_BYTES
            && self.kept.len() > 1
            && let Some(oldest) = self.kept.pop_front()
        {
            self.kept_bytes -= oldest.batch.bytes();
        }
    }

    /// Notes how far the topics are written. Returns where the target was before.
    pub(super) fn note_delivered(&mut self) -> BTreeMap<i32, i64> {
        let before = self.ends.clone();
        for ((topic, partition), of) in self.producer.client().context().take_delivered() {
            match topic {
                // A duplicate that was refused has no offset.
                TARGET if of.end > 0 => drop(self.ends.insert(partition, of.end)),
                TARGET => {}
                // A record of a transaction shows that nobody had fenced this process before it. Without transactions another's
                // mark may stand among its records: there must be none but its own.
                _ if self.own.exactly_once || self.watch.ledger_end().is_some_and(|end| of.is_all_from(end)) => {
                    self.watch.wrote_ledger(of.end);
                }
                // The next look reads them.
                _ => {}
            }
        }
        before
    }

    /// Pauses before the next try, for longer each time. An error if there is to be no other try.
    fn back_off(&self, reason: String, backoff: &mut Duration) -> Result<(), SinkError> {
        self.heed_look()?;
        if self.note_setback(&reason) {
            return Err(self.own.failed(reason, NOT_COMMITTED));
        }
        self.pause(*backoff);
        *backoff = (*backoff * 2).min(BACKOFF_MAX);
        Ok(())
    }

    /// Pauses before the same call is made again. An error if there is to be no other try.
    pub(super) fn retry_call(&self, reason: String) -> Result<(), Setback> {
        self.heed_look().map_err(Setback::Failed)?;
        if self.note_setback(&reason) {
            return Err(Setback::Retry(reason));
        }
        self.pause(BACKOFF);
        Ok(())
    }

    /// Logs and counts a setback. Returns whether to give up.
    fn note_setback(&self, reason: &str) -> bool {
        self.producer.client().context().report(reason);
        let mut state = self.shared.lock();
        state.status.retries += 1;
        state.status.last_error = Some(reason.to_owned());
        state.abandoned || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Sleeps for `time`, or until the sink is abandoned.
    pub(super) fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.shared.lock();
        while !state.abandoned
            && let Some(left) = until.checked_duration_since(Instant::now())
        {
            state = self.shared.wait(state, left);
        }
    }

    /// Returns the context of a producer, which notes how far the target and the ledger are written.
    pub(super) fn producer_context(&self) -> Context {
        self.own.context().noting(&[&self.own.topic, &self.own.ledger_topic])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changes of a batch, at most.
    const MOST: usize = 100;

    /// A queue, and what is known of the writes: up to when each goes, and how many of its changes are not committed.
    #[derive(Default)]
    struct Queue {
        state: State,
        writes: Vec<(u64, usize)>,
        /// By piece that is queued or being sent: its write and its changes.
        pieces: VecDeque<(usize, usize)>,
        sending: VecDeque<Batch>,
    }

    impl Queue {
        fn push(&mut self, rng: &mut fastrand::Rng) {
            let (count, bytes) = (rng.usize(1..40), rng.usize(0..BATCH_BYTES * 5 / 4));
            let write = self.writes.len() - 1;
            self.writes[write].1 += count;
            self.pieces.push_back((write, count));
            self.state.push(Batch::of(count, bytes));
        }

        /// Takes a batch if one is due.
        fn take(&mut self) {
            if !self.state.is_due(MOST, true) {
                return;
            }
            let pieces = self.state.pop(MOST);
            let is_one = pieces.len() == 1;
            let batch = Batch::join(pieces);
            assert!(batch.len() <= MOST && (is_one || batch.bytes() <= BATCH_BYTES));
            self.sending.push_back(batch);
        }

        /// Commits the batch that was taken first.
        fn commit(&mut self) {
            let Some(batch) = self.sending.pop_front() else { return };
            let mut left = batch.len();
            while left > 0 {
                let (write, count) = self.pieces.pop_front().unwrap();
                self.writes[write].1 -= count;
                left -= count;
            }
            self.state.committed(&batch);
        }
    }

    #[test]
    fn what_counts_as_committed_is_committed() {
        for seed in 0..500 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut queue, mut until, mut committed) = (Queue::default(), 0, 0);
            for _ in 0..rng.usize(1..30) {
                queue.writes.push((u64::MAX, 0));
                for _ in 0..rng.usize(0..8) {
                    queue.push(&mut rng);
                    (0..rng.usize(0..2)).for_each(|_| queue.take());
                    (0..rng.usize(0..2)).for_each(|_| queue.commit());
                }
                until += rng.u64(1..5);
                queue.writes.last_mut().unwrap().0 = until;
                queue.state.hand_over(until);
                for _ in 0..rng.usize(0..4) {
                    queue.take();
                    (0..rng.usize(0..2)).for_each(|_| queue.commit());
                    assert!(queue.state.committed >= committed, "seed {seed}");
                    committed = queue.state.committed;
                    let is_committed = |(until, left): &(u64, usize)| *until > committed || *left == 0;
                    assert!(queue.writes.iter().all(is_committed), "seed {seed}");
                }
            }
            queue.state.closing = true;
            while !queue.state.queue.is_empty() || !queue.sending.is_empty() {
                queue.take();
                queue.commit();
            }
            let State { committed, bytes, changes, to_send, .. } = queue.state;
            assert_eq!((committed, bytes, changes, to_send), (until, 0, 0, 0), "seed {seed}");
        }
    }
}
