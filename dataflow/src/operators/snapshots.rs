//! Snapshots: a worker's share of a model's pull becomes rows for the owners of their keys.
//!
//! Promises: reading and evaluating happen on threads of their own, a bounded number of batches ahead; this operator only passes
//! on what is there. Every pull ends with one [`RowMessage::End`] to each worker, whatever happened, with the number of batches
//! that the worker must have received: from the thread that ends last, or where it could not be opened, from the scheduler. Only a first pull
//! that could not be opened has no end: the job fails. Holds a capability at time 0 as long as the job runs: rows
//! have no time.

use crate::ingest::evaluate_rows::{Compared, RowReader};
use crate::ingest::known_rows::{Base, Comparison, Differs};
use crate::ingest::row_batch::RowBatch;
use crate::state::brake::Exits;
use crate::time::Time;
use arrow_array::Array;
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::sync::{Arc, Mutex};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, StreamVec};
use timely::scheduling::SyncActivator;
use usher_config::Share;
use usher_core::lock::lock;
use usher_core::warehouse::{Difference, Snapshot, SnapshotError};
use usher_queries::plan::Plan;

/// Batches passed on in one activation: of 8,192 rows each, some ms of staging for their owners.
const BATCHES: usize = 1;

/// What travels to the owners of a pull's keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum RowMessage {
    Rows(RowBatch),
    End(EndOfPull),
}

/// How many rows a pull had, or why it failed.
pub(crate) type Outcome = Result<RowsPulled, PullError>;

/// Rows of a pull.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct RowsPulled {
    /// Of the snapshot.
    pub(crate) rows: u64,
    /// Those that were read, the keys of rows that are gone among them.
    pub(crate) read: u64,
    /// Those that were sent to the owners of their keys: all, or those of new batches and those that differ.
    pub(crate) sent: u64,
    /// Those of them without a usable key.
    pub(crate) skipped: u64,
}

/// Rows of a pull that were read, and sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RowsRead {
    /// All that were read, the keys of rows that are gone among them.
    pub(crate) read: u64,
    /// Those that were sent: all, or those of new batches and those that differ.
    pub(crate) rows: u64,
    /// The rows of the snapshot in force that are no longer in the table.
    pub(crate) gone: u64,
    /// Rows without a usable key.
    pub(crate) skipped: u64,
}

/// Why a pull is not taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum PullError {
    /// It can't be read.
    Unreadable { reason: String, hint: Option<String> },
    /// What it read is no difference from the snapshot in force: it is to be read whole.
    NoDifference,
    /// A key comes twice, in these files, by their number in the snapshot.
    RepeatedKey { key: String, files: (u32, u32) },
    /// It has fewer rows than it must have.
    FewRows { rows: u64, least: u64 },
    /// By it too many members of these audiences would leave.
    Exits { rows: u64, exits: Vec<Exits>, most: Share },
}

impl From<SnapshotError> for PullError {
    fn from(error: SnapshotError) -> PullError {
        PullError::Unreadable { reason: error.message(), hint: error.hint }
    }
}

/// What a pull must meet to be taken; nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PullTerms {
    /// The fewest rows.
    pub(crate) rows_min: u64,
    /// The largest share of an audience's members that may leave by it.
    pub(crate) exits_max: Option<Share>,
}

/// All threads have read their shares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndOfPull {
    pub(crate) worker: u32,
    pub(crate) pulled: u32,
    pub(crate) pull: u64,
    /// When the pull began, ms since the epoch.
    pub(crate) began: Time,
    /// About how many rows of the pull each owner gets.
    pub(crate) rows_per_owner: u64,
    /// How many batches went to `worker`.
    pub(crate) batches: u64,
    pub(crate) outcome: Result<RowsRead, PullError>,
    /// Set if only a difference was sent.
    pub(crate) base: Option<Base>,
    /// Batches of the base that the pull does not have with the same keys in the same order, by their numbers, ascending.
    pub(crate) gone: Vec<u64>,
    /// The number of the pull that is in force, if this run has made it; else 0.
    pub(crate) in_force: u64,
    pub(crate) terms: PullTerms,
}

impl EndOfPull {
    /// Returns the end of a pull of which nothing was read, for one worker.
    pub(crate) fn unread(model: usize, pull: u64, began: Time, in_force: u64, error: SnapshotError) -> EndOfPull {
        EndOfPull {
            worker: 0,
            pulled: model as u32,
            pull,
            began,
            rows_per_owner: 0,
            batches: 0,
            outcome: Err(error.into()),
            base: None,
            gone: Vec::new(),
            in_force,
            terms: PullTerms::default(),
        }
    }
}

impl RowMessage {
    fn worker(&self) -> u32 {
        match self {
            RowMessage::Rows(rows) => rows.worker,
            RowMessage::End(end) => end.worker,
        }
    }
}

/// Returns the number of the worker that a message goes to.
pub(crate) fn route(pulled: &RowMessage) -> u64 {
    u64::from(pulled.worker())
}

/// What a pull reads.
#[derive(Clone)]
pub(crate) enum Reads {
    Whole(Arc<dyn Snapshot>),
    Difference(Difference, Base),
}

impl Reads {
    /// Returns what is read, each with whether its rows are no longer in the table.
    fn all(&self) -> impl Iterator<Item = (&Arc<dyn Snapshot>, bool)> {
        let (rows, gone) = match self {
            Reads::Whole(rows) => (rows, None),
            Reads::Difference(Difference { added, removed }, _) => (added, Some(removed)),
        };
        std::iter::once((rows, false)).chain(gone.map(|gone| (gone, true)))
    }

    /// Returns about how many rows there are.
    pub(crate) fn rows(&self) -> u64 {
        let (Reads::Whole(rows) | Reads::Difference(Difference { added: rows, .. }, _)) = self;
        // A footer may claim any number. A row mostly takes a byte or more, so no more rows than bytes are believed.
        let bytes: u64 = rows.files().iter().map(|file| file.size).sum();
        rows.rows().min(bytes)
    }

    /// Returns what it differs from; `None` if it is read whole.
    pub(crate) fn base(&self) -> Option<Base> {
        match self {
            Reads::Whole(_) => None,
            Reads::Difference(_, base) => Some(*base),
        }
    }
}

/// The job is ending.
struct Ending;

/// What the readers of a pull have read together.
pub(crate) struct Totals {
    /// Of the snapshots of the pull, in their order, how many pieces have been taken.
    taken: [usize; 2],
    /// How many are still reading.
    reading: usize,
    /// By worker, the number of batches.
    batches: Vec<u64>,
    outcome: Result<RowsRead, PullError>,
}

impl Totals {
    /// Of so many readers, for so many workers.
    pub(crate) fn new(readers: usize, peers: usize) -> Mutex<Totals> {
        Mutex::new(Totals {
            taken: [0; 2],
            reading: readers,
            batches: vec![0; peers],
            outcome: Ok(RowsRead::default()),
        })
    }

    /// Returns the next piece of a snapshot of so many, in order. So the first ones that can't be read are taken in every run, one by each reader.
    fn take(&mut self, snapshot: usize, pieces: usize) -> Option<usize> {
        let next = self.taken[snapshot];
        self.taken[snapshot] += 1;
        (next < pieces).then_some(next)
    }

    /// Adds what one has read. Of several errors the least is kept, so that every run names the same.
    fn add(&mut self, batches: &[u64], outcome: Result<RowsRead, PullError>) {
        self.reading -= 1;
        self.batches.iter_mut().zip(batches).for_each(|(all, of_share)| *all += of_share);
        self.outcome = match (std::mem::replace(&mut self.outcome, Ok(RowsRead::default())), outcome) {
            (Ok(all), Ok(of_share)) => Ok(RowsRead {
                read: all.read + of_share.read,
                rows: all.rows + of_share.rows,
                gone: all.gone + of_share.gone,
                skipped: all.skipped + of_share.skipped,
            }),
            (Err(one), Err(other)) => Err(one.min(other)),
            (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
        };
    }
}

/// Ends a pull of which nothing could be read, on all workers. `end` is what one of them gets.
pub(crate) fn end_unread(end: &EndOfPull, peers: usize, out: &SyncSender<RowMessage>, wake: &SyncActivator) {
    for worker in 0..peers as u32 {
        // The receiver is gone once the job is ending.
        let _ = out.send(RowMessage::End(EndOfPull { worker, ..end.clone() }));
    }
    let _ = wake.activate();
}

/// A share of a pull, to be read: pieces that no other reader has taken.
pub(crate) struct PullShare {
    pub(crate) plan: Arc<Plan>,
    pub(crate) model: usize,
    pub(crate) pull: u64,
    /// When it began, ms since the epoch.
    pub(crate) began: Time,
    pub(crate) terms: PullTerms,
    pub(crate) reads: Reads,
    /// Set if rows that are as in the snapshot in force are left out.
    pub(crate) comparison: Option<Arc<Comparison>>,
    /// The number of the pull that is in force, if this run has made it; else 0.
    pub(crate) in_force: u64,
    pub(crate) totals: Arc<Mutex<Totals>>,
    /// Workers that own keys.
    pub(crate) peers: usize,
    /// About how many rows each of them gets.
    pub(crate) rows_per_owner: u64,
    pub(crate) out: SyncSender<RowMessage>,
    pub(crate) wake: SyncActivator,
}

impl PullShare {
    /// Reads it on the calling thread. Ends early once the job is ending.
    pub(crate) fn read(self) {
        let reader = RowReader::new(&self.plan, self.model, self.pull, self.peers as u32);
        let mut batches = vec![0; self.peers];
        let mut outcome = Ok(RowsRead::default());
        for (of, snapshot) in self.reads.all().enumerate() {
            let Ok(read) = &mut outcome else { break };
            match self.read_pieces(of, snapshot, &reader, &mut batches, read) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => outcome = Err(error.into()),
                Err(Ending) => return,
            }
        }
        let mut totals = lock(&self.totals);
        totals.add(&batches, outcome);
        if totals.reading == 0 {
            self.end(&totals);
        }
    }

    /// Ends the pull for all its readers.
    fn end(&self, totals: &Totals) {
        let Totals { batches, outcome, .. } = totals;
        let mut outcome = outcome.clone();
        let comparison = self.comparison.as_ref().filter(|_| outcome.is_ok());
        let (base, gone) = match comparison.and_then(|comparison| comparison.end()) {
            Some(Differs { base, gone, rows_gone }) => {
                outcome.iter_mut().for_each(|read| read.gone += rows_gone);
                (Some(base), gone)
            }
            None => (self.reads.base(), Vec::new()),
        };
        for (worker, batches) in batches.iter().enumerate() {
            let end = EndOfPull {
                worker: worker as u32,
                pulled: self.model as u32,
                pull: self.pull,
                began: self.began,
                rows_per_owner: self.rows_per_owner,
                batches: *batches,
                outcome: outcome.clone(),
                base,
                gone: gone.clone(),
                in_force: self.in_force,
                terms: self.terms,
            };
            if !self.send(RowMessage::End(end)) {
                return;
            }
        }
    }

    /// Reads pieces of the snapshot number `of`, whose rows are `gone` or not, until none is left, and counts their batches by worker, and their rows.
    fn read_pieces(
        &self,
        of: usize,
        (snapshot, gone): (&Arc<dyn Snapshot>, bool),
        reader: &RowReader,
        batches: &mut [u64],
        read: &mut RowsRead,
    ) -> Result<Result<(), SnapshotError>, Ending> {
        let pieces = snapshot.pieces();
        while let Some(piece) = { lock(&self.totals).take(of, pieces) } {
            let file = u32::try_from(snapshot.file(piece)).expect("a pull has fewer than 2^32 files");
            let of_piece = match snapshot.read(piece) {
                Ok(of_piece) => of_piece,
                Err(error) => return Ok(Err(error)),
            };
            for batch in of_piece {
                let batch = match batch {
                    Ok(batch) => batch,
                    Err(error) => return Ok(Err(error)),
                };
                let rows = batch.keys.len() as u64;
                read.read += rows;
                read.skipped += batch.skipped;
                let Compared { batches: of_batch, sent, gone: removed } = match &self.comparison {
                    _ if gone => Compared { batches: reader.read_gone(&batch), sent: 0, gone: rows },
                    Some(comparison) if rows > 0 => reader.read_compared(&batch, comparison),
                    _ => Compared { batches: reader.read(&batch), sent: rows, gone: 0 },
                };
                read.rows += sent;
                read.gone += removed;
                for mut rows in of_batch {
                    (rows.file, rows.rows_per_owner) = (file, self.rows_per_owner);
                    batches[rows.worker as usize] += 1;
                    if !self.send(RowMessage::Rows(rows)) {
                        return Err(Ending);
                    }
                }
            }
        }
        Ok(Ok(()))
    }

    fn send(&self, pulled: RowMessage) -> bool {
        self.out.send(pulled).is_ok() && self.wake.activate().is_ok()
    }
}

/// Builds the operator, and returns what wakes it. It ends when all senders to `inbox` are gone.
pub(crate) fn snapshots<'scope>(
    scope: Scope<'scope, Time>,
    inbox: Receiver<RowMessage>,
) -> (StreamVec<'scope, Time, RowMessage>, SyncActivator) {
    let mut builder = OperatorBuilder::new("Snapshots".to_owned(), scope);
    let address = builder.operator_info().address;
    let activator = scope.activator_for(Rc::clone(&address));
    let wake = scope.worker().sync_activator_for(address.to_vec());
    let (output, stream) = builder.new_output::<Vec<RowMessage>>();
    let mut output = OutputBuilder::<Time, CapacityContainerBuilder<Vec<RowMessage>>>::from(output);
    builder.build_reschedule(move |mut capabilities| {
        let mut cap = capabilities.pop();
        move |_frontiers| {
            let Some(hold) = &cap else { return false };
            for _ in 0..BATCHES {
                match inbox.try_recv() {
                    Ok(pulled) => {
                        output.activate().session(hold).give(pulled);
                        activator.activate();
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        cap = None;
                        break;
                    }
                }
            }
            false
        }
    });
    (stream, wake)
}
