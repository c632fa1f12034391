//! A topic as the destination of a sync's changes.
//!
//! ```text
//! write ──► queue ──► thread ──► transaction: messages → topic, memberships → ledger topic
//! (sink)    (sender)  (sender)   (transaction)
//! ```
//!
//! | module | is |
//! |---|---|
//! | `open` | settings of the clients, topics, fencing of older processes, reading the ledger |
//! | `moving` | a ledger that was kept elsewhere, or is to be |
//! | `sender` | the thread: queue, pace, retries |
//! | `transaction` | one batch as one transaction |
//! | `direct` | without transactions: several batches underway |
//! | `reconcile` | what follows when its outcome is unknown |
//! | `watch` | the topics and the mark in the ledger, looked at every few seconds |
//! | `batch` | the changes of one transaction |
//! | `limits` | how large a record may be |
//!
//! Promises: a batch's messages and the records of the ledger that belong to them are one transaction, so both are committed or
//! neither. A batch is sent `commit_every` after the one before at the latest, and at once if the sync was idle; a write is sent when
//! all of it is queued, or enough for a full batch. A batch that fails is sent again with the same ids. With `delivery: at_least_once`,
//! which has no transactions, messages may be sent twice after a failure of the brokers, with the same ids.
//!
//! A sync has one transactional id, `usher.JOB.SYNC`, however many workers the job has: a process that opens the sync fences
//! the one before. A process owns the ledger from the moment at which its mark, a random incarnation, is committed there. Of
//! processes that write one ledger at most one goes on, however they started:
//!
//! * A process that is fenced before its mark is committed ends: the one that has fenced it came later.
//! * A process that is fenced afterwards reads the ledger. If there is a mark behind its own, or more is committed than it has
//!   sent, it ends; if not (the brokers have timed its transaction out), it fences in its turn.
//! * An idle process looks at the mark every few seconds, so it ends too. With `delivery: at_least_once`, where nothing is fenced,
//!   that look is the only one, and two processes may both send for that time; what the older one has sent then ends the newer one
//!   ([`watch`]), and the next start has it in the ledger.

mod batch;
mod direct;
mod limits;
mod moving;
mod open;
mod reconcile;
mod sender;
mod transaction;
mod watch;

pub use moving::NotedTopic;
#[cfg(test)]
pub(super) use open::mark_sync;
pub use open::{check_sync, open_sync, read_ledger, resend_sync};

use super::client::Context;
use super::error::Problem;
use super::topics::Ending;
use crate::committed_rows::CommittedRows;
use crate::moved::NotedLedger;
use batch::Batch;
use sender::{Sender, Shared};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use transaction::CALL;
use usher_config::KafkaTarget;
use usher_core::catalog::Catalog;
use usher_core::change::{Changes, Filter};
use usher_core::delivery::{DeadLetterPage, Delivery, DeliveryOrder, DeliveryReply};
use usher_core::reply::{ApiError, BoxFuture};
use usher_core::sink::{LedgerPosition, Sink, SinkError, Standing};

/// Bytes of changes that may wait before the sink is not [`Sink::ready`]: 32 MiB, some 300,000 changes.
const WAITING_BYTES: usize = 32 << 20;
/// What keeps the ledger, in [`LedgerPosition`].
pub const KEEPER: &str = "kafka";
/// How long [`Sink::finish`] waits for brokers that do not answer. Changes that are not committed then are sent at the next
/// start.
const FINISH: Duration = Duration::from_secs(30);

/// A sync to Kafka, as the job has it.
#[derive(Clone, Copy)]
pub struct SyncSpec<'a> {
    /// The job's name.
    pub job: &'a str,
    /// The sync's id.
    pub id: &'a str,
    /// The sync's index in the job.
    pub index: u16,
    /// The sync.
    pub sync: &'a usher_config::Sync,
    /// Where it sends to.
    pub target: &'a KafkaTarget,
    /// A random number of this process: its mark in the ledger.
    pub incarnation: u64,
    /// What the latest checkpoint has noted of the ledger.
    pub noted: Option<NotedLedger<'a>>,
}

impl SyncSpec<'_> {
    fn failed(&self, action: &'static str, problem: Problem) -> SinkError {
        SinkError::Failed { to: self.target_name(), action, reason: problem.reason, hint: problem.hint }
    }

    /// Returns the target's name in errors.
    fn target_name(&self) -> String {
        format!("topic `{}` of `{}`", self.target.topic, self.target.kafka.brokers)
    }

    fn context(&self) -> Context {
        Context::new(format!("sync {}", self.id), &self.target.kafka.brokers)
    }

    /// Returns whose ledger it is, as messages without transactions say it.
    fn ledger_of(&self) -> String {
        format!("{}.{}", self.job, self.id)
    }

    fn exactly_once(&self) -> bool {
        self.target.delivery == usher_config::Delivery::ExactlyOnce
    }
}

/// The sink, which hands changes to its thread.
struct KafkaSink {
    sync: String,
    filter: Filter,
    catalog: Arc<Catalog>,
    rows: CommittedRows,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Whether anything was ever handed over: the ledger is not that of a new sync.
    any: bool,
    /// Where the ledger is.
    place: String,
}

impl KafkaSink {
    fn start(
        sender: Sender,
        catalog: Arc<Catalog>,
        (filter, rows): (Filter, CommittedRows),
        every: Duration,
        (any, place): (bool, String),
        ending: Ending,
    ) -> KafkaSink {
        let shared = Arc::clone(&sender.shared);
        let name = format!("sync {}", sender.own.id);
        let (sync, of_thread) = (sender.own.id.clone(), Arc::clone(&catalog));
        let run = move || {
            sender.run(&of_thread, every);
            drop(ending);
        };
        let thread = std::thread::Builder::new().name(name).spawn(run);
        let thread = Some(thread.expect("the system can start a thread"));
        KafkaSink { sync, filter, catalog, rows, shared, thread, any, place }
    }
}

impl Sink for KafkaSink {
    fn write(&mut self, epoch: &Changes, until: u64) -> Result<(), SinkError> {
        let mut changes = epoch.iter().filter(|change| self.filter.commits(change)).peekable();
        let mut queued = false;
        loop {
            let piece = Batch::piece(&mut changes, (epoch, &self.filter), &self.catalog, &mut self.rows);
            let is_last = changes.peek().is_none();
            let mut state = self.shared.lock();
            if let Some(error) = &state.error {
                return Err(error.clone());
            }
            // The first write is committed even without changes: the sync is not new at the next start.
            if !piece.is_empty() || (is_last && !self.any) {
                (self.any, queued) = (true, true);
                state.push(piece);
            }
            if is_last {
                state.hand_over(until);
            }
            drop(state);
            if queued {
                self.shared.changed.notify_all();
            }
            if is_last {
                return Ok(());
            }
        }
    }

    fn ready(&self) -> bool {
        self.shared.lock().bytes <= WAITING_BYTES
    }

    fn committed(&self) -> u64 {
        self.shared.lock().committed
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        let mut state = self.shared.lock();
        state.closing = true;
        self.shared.changed.notify_all();
        let (mut left, mut progress_at) = (state.changes, Instant::now());
        while !state.ended {
            state = self.shared.wait(state, CALL);
            if state.changes != left {
                (left, progress_at) = (state.changes, Instant::now());
            }
            if progress_at.elapsed() > FINISH {
                // The thread ends with the error of the batch that it could not commit.
                state.abandoned = true;
                self.shared.changed.notify_all();
            }
        }
        match &state.error {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn standing(&self) -> Arc<dyn Standing> {
        Arc::clone(&self.shared) as Arc<dyn Standing>
    }

    fn delivery(&self) -> Option<Arc<dyn Delivery>> {
        Some(Arc::new(Letters { sync: self.sync.clone(), shared: Arc::clone(&self.shared) }))
    }

    fn position(&self) -> Option<LedgerPosition> {
        Some(position(self.shared.lock().batch, &self.place))
    }
}

/// The dead letters of a sync, which are in its ledger. It takes no orders: a transaction is sent as it comes.
struct Letters {
    sync: String,
    shared: Arc<Shared>,
}

impl Letters {
    fn page(&self, from: u64, limit: usize) -> DeadLetterPage {
        let state = self.shared.lock();
        let mut letters = state.dead_letters.from(from);
        let dead_letters = letters.by_ref().take(limit).map(|(number, letter)| letter.report(number)).collect();
        DeadLetterPage { dead_letters, next_cursor: letters.next().map(|(number, _)| number.to_string()) }
    }
}

impl Delivery for Letters {
    fn order(&self, order: DeliveryOrder) -> BoxFuture<'static, Result<DeliveryReply, ApiError>> {
        let reply = match order {
            DeliveryOrder::DeadLetters { from, limit } => Ok(DeliveryReply::DeadLetters(self.page(from, limit))),
            _ => {
                let reason = format!(
                    "the sync `{}` goes to a topic: it has no attempts, can't be paused, and its dead letters are only listed; `usher resend JOB {0}` sends all members again",
                    self.sync
                );
                Err(ApiError::Conflict(reason))
            }
        };
        Box::pin(std::future::ready(reply))
    }
}

/// Returns the position of a ledger with so many committed batches.
fn position(batch: u64, place: &str) -> LedgerPosition {
    LedgerPosition { keeper: KEEPER.to_owned(), at: batch, place: place.to_owned() }
}

impl Drop for KafkaSink {
    /// Changes that are not committed are not sent any more.
    fn drop(&mut self) {
        self.shared.lock().abandoned = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a panic of the thread is a bug");
        }
    }
}
