//! What follows when the outcome of a transaction is unknown: a new producer ends the old one's, and what was committed is found
//! out from the topics.
//!
//! Steps of [`Sender::replace_producer`]:
//! 1. read the mark in the ledger: if it is another process's, this one ends. A producer that was fenced waits [`GRACE`] first,
//!    so that a process that has just come has committed its mark;
//! 2. fence: the brokers end the old producer's transaction, and take nothing more from it;
//! 3. roll back what hangs. A transaction of many partitions is marked as committed partition by partition, and brokers that end
//!    or start meanwhile may take it for complete without having marked all of them (observed with Kafka 4.3). What is not marked
//!    is neither committed nor rolled back, and the next transaction would take it along;
//! 4. read the ledger's [`Progress`], and the messages that are visible in the target since the oldest batch that may be
//!    incomplete. Batches that the ledger lacks, and messages that the target lacks, are sent again, in order, and only those.
//!
//! Nothing is sent before the outcome is known.

use super::batch::Batch;
use super::open::{fence, producer};
use super::sender::{KeptBatch, Sender};
use super::transaction::{ANSWER, CALL, Setback};
use crate::kafka::client::{Context, REQUEST, Reader, retry};
use crate::kafka::error::Problem;
use crate::kafka::ffi;
use crate::kafka::ledger::{self, Progress};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer;
use rdkafka::producer::{BaseRecord, Producer};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use usher_core::catalog::Catalog;
use usher_core::sink::Written;
use xxhash_rust::xxh3::Xxh3;

/// How long a fenced producer waits before it reads the mark in the ledger: a start commits its mark within ms of fencing.
const GRACE: Duration = Duration::from_secs(1);

/// Messages that are in the target, by hashes of key and value.
#[derive(Default)]
pub(super) struct Visible(HashSet<u128>);

impl Visible {
    pub(super) fn has(&self, key: &str, message: &[u8]) -> bool {
        !self.0.is_empty() && self.0.contains(&hash(key.as_bytes(), message))
    }
}

fn hash(key: &[u8], message: &[u8]) -> u128 {
    let mut hasher = Xxh3::new();
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(message);
    hasher.digest128()
}

/// A producer that must be replaced before the next batch, and why.
pub(super) struct Broken {
    pub(super) reason: String,
    pub(super) fenced: bool,
}

impl Sender {
    /// Replaces the producer, which ends the old one's transaction, and finds out whether the batch was committed after all.
    ///
    /// If another process has taken the sync over, the ledger has its mark: then this one does not fence it.
    pub(super) fn replace_producer(
        &mut self,
        batch: &Batch,
        catalog: &Catalog,
        progress: &Progress,
        broken: Broken,
    ) -> Result<Written, Setback> {
        if broken.fenced {
            self.pause(GRACE);
        }
        let replaced = self.read_progress(progress).and_then(|_| {
            let new =
                producer(self.producer_context(), &self.producer_config).map_err(|problem| self.of_problem(problem))?;
            fence(&new, &self.own.ledger_topic, ANSWER).map_err(|problem| self.of_problem(problem))?;
            Ok(new)
        });
        match replaced {
            Ok(new) => self.producer = new,
            Err(Setback::Retry(problem)) => {
                self.mark_broken(broken);
                return Err(Setback::Retry(problem));
            }
            Err(setback) => return Err(setback),
        }
        tracing::info!(sync = %self.own.id, reason = %broken.reason, "continuing with a new producer");
        loop {
            match self.reconcile(batch, catalog, progress, &broken.reason) {
                Err(Setback::Retry(reason)) => self.retry_call(reason)?,
                Ok(Some(written)) => return Ok(written),
                Ok(None) => return Err(Setback::Retry(broken.reason)),
                Err(setback) => return Err(setback),
            }
        }
    }

    /// Finds out what was committed, and completes what is incomplete. Returns None if the batch was not committed. No
    /// transaction is open.
    fn reconcile(
        &self,
        batch: &Batch,
        catalog: &Catalog,
        progress: &Progress,
        reason: &str,
    ) -> Result<Option<Written>, Setback> {
        let reader = self.reader()?;
        let ends = self.read_ends()?;
        let hanging = self.hanging(&reader, &ends)?;
        if !hanging.is_empty() {
            tracing::warn!(sync = %self.own.id, partitions = hanging.len(), "rolling back a transaction that the brokers left open");
            self.roll_back(&hanging)?;
        }
        let (found, marked) = self.read_progress(progress)?;
        if !marked {
            // It was rolled back with what hung. Without it an older process would take the ledger for its own.
            self.send_mark()?;
        }
        if hanging.is_empty() && found.is_at(progress) {
            return Ok(Some(batch.written()));
        }
        // A batch whose transaction hung may lack messages although the ledger has it.
        let first = if hanging.is_empty() { found.batch + 1 } else { found.batch.max(1) };
        let committed = self.progress.batch;
        let oldest = self.kept.front().map_or(committed + 1, |oldest| oldest.progress.batch);
        if found.batch < committed && oldest > found.batch + 1 {
            let reason = format!("the brokers have lost committed batches: {} is the last of {committed}", found.batch);
            return Err(Setback::Failed(self.own.failed(reason, "start again: what was lost is sent then")));
        }
        let kept: Vec<&KeptBatch> = self.kept.iter().filter(|kept| kept.progress.batch >= first).collect();
        let from = kept.first().map_or(&self.ends, |kept| &kept.ends);
        let visible = self.visible(&reader, from, &ends)?;
        if found.batch < committed {
            let found = found.batch;
            tracing::warn!(sync = %self.own.id, found, committed, reason, "the brokers have lost committed batches; sending them again");
        }
        for kept in kept {
            if kept.progress.batch > found.batch || !self.is_visible(&kept.batch, &visible)? {
                self.send_once(&kept.batch, catalog, &kept.progress, &visible)?;
            }
        }
        if found.is_at(progress) && self.is_visible(batch, &visible)? {
            return Ok(Some(batch.written()));
        }
        if visible.0.is_empty() {
            return Ok(None);
        }
        self.send_once(batch, catalog, progress, &visible).map(Some)
    }

    /// Returns whether all messages of a batch are in the target.
    fn is_visible(&self, batch: &Batch, visible: &Visible) -> Result<bool, Setback> {
        let mut all = true;
        self.for_each_message(batch, |head, message| {
            all &= visible.has(batch.key(head.change), message);
            Ok(())
        })?;
        Ok(all)
    }

    /// Reads the committed messages of the target from the offsets `from` to `ends`.
    fn visible(&self, reader: &Arc<Reader>, from: &BTreeMap<i32, i64>, ends: &Ends) -> Result<Visible, Setback> {
        let mut visible = Visible::default();
        for (partition, (low, end)) in &ends.target {
            let from = from.get(partition).copied().unwrap_or(*low).max(*low);
            let at = (&self.own.topic[..], *partition);
            let read = ledger::read_between(reader, at, (from, *end), ANSWER, |message| {
                let (key, value) = (message.key().unwrap_or_default(), message.value().unwrap_or_default());
                visible.0.insert(hash(key, value));
                Ok(())
            });
            read.map_err(|problem| self.of_problem(problem))?;
        }
        Ok(visible)
    }

    /// Requests where the partitions start and end, transactions that are open included.
    fn read_ends(&self) -> Result<Ends, Setback> {
        let read = || -> Result<Ends, Problem> {
            let reader = uncommitted(&self.own.reader_config, self.own.context())?;
            let names = [&self.own.topic[..]];
            let found = retry(reader.context(), ANSWER, || ffi::describe(reader.base().client(), &names, REQUEST))?;
            let partitions = found[0].as_ref().map_or(0, |topic| topic.partitions);
            let ends = |topic: &str, partition| retry(reader.context(), ANSWER, || reader.ends(topic, partition));
            let target = (0..partitions).map(|partition| Ok((partition, ends(&self.own.topic, partition)?)));
            Ok(Ends { target: target.collect::<Result<_, Problem>>()?, ledger: ends(&self.own.ledger_topic, 0)?.1 })
        };
        read().map_err(|problem| self.of_problem(problem))
    }

    /// Returns the partitions, of target and ledger, in which a transaction is open.
    fn hanging(&self, reader: &Reader, ends: &Ends) -> Result<Vec<(&str, i32)>, Setback> {
        let mut hanging = Vec::new();
        let target = ends.target.iter().map(|(partition, (_, end))| (&self.own.topic[..], *partition, *end));
        for (topic, partition, end) in target.chain([(&self.own.ledger_topic[..], 0, ends.ledger)]) {
            let stable = retry(reader.context(), ANSWER, || reader.ends(topic, partition));
            if stable.map_err(|problem| self.of_problem(problem))?.1 < end {
                hanging.push((topic, partition));
            }
        }
        Ok(hanging)
    }

    /// Begins a transaction in the partitions and rolls it back, and with it what hangs there of this sync.
    fn roll_back(&self, hanging: &[(&str, i32)]) -> Result<(), Setback> {
        self.begin()?;
        for (topic, partition) in hanging {
            // Never visible.
            self.send(BaseRecord::to(topic).partition(*partition).key("!rolled-back").payload(""))?;
        }
        self.flush()?;
        self.producer
            .abort_transaction(CALL)
            .map_err(|error| self.of_error(&error, "a transaction can't be rolled back"))
    }

    fn reader(&self) -> Result<Arc<Reader>, Setback> {
        let reader = Reader::start(&self.own.reader_config, self.own.context(), |_| ());
        reader.map(Arc::new).map_err(|problem| self.of_problem(problem))
    }

    /// Reads the committed progress from the ledger, and whether this process's mark is there. Fails if another process has taken
    /// the sync over, or has committed more than `sent`, up to which this one has sent.
    fn read_progress(&self, sent: &Progress) -> Result<(Progress, bool), Setback> {
        let found = ledger::read(&self.reader()?, &self.own.ledger_topic, ANSWER)
            .map_err(|problem| self.of_problem(problem))?;
        // A version without `!owner` leaves a later `run`.
        let is_own = found.progress.run <= sent.run && found.progress.batch <= sent.batch;
        match self.is_marked(found.owner) {
            Some(marked) if is_own => Ok((found.progress, marked)),
            _ => Err(Setback::Failed(self.own.superseded())),
        }
    }
}

/// Starts a client that reads transactions that are open as well.
pub(super) fn uncommitted(config: &ClientConfig, context: Context) -> Result<Arc<Reader>, Problem> {
    let mut config = config.clone();
    config.set("isolation.level", "read_uncommitted");
    Reader::start(&config, context, |_| ()).map(Arc::new)
}

/// Where partitions start and end, by partition of the target; and the end of the ledger.
struct Ends {
    target: BTreeMap<i32, (i64, i64)>,
    ledger: i64,
}
