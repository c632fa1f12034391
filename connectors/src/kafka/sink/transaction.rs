//! The protocol with the brokers: one batch is one transaction, and a transaction of unknown outcome is found out about.
//!
//! A transaction holds the messages of a batch and the records by which the ledger changes, so both are committed or neither. If
//! a commit fails or has no answer, the outcome is unknown: a new producer ends the old one's transaction, the ledger is read,
//! and its [`Progress`] shows whether the batch was committed. If not, the batch is sent again with the same message ids. If
//! batches before it are missing too, because brokers that went away have lost them, they are sent again first, in order, from
//! those that are kept.
//!
//! With `delivery: at_least_once` there are no transactions: the messages are written to the ledger as pending, then sent, then
//! the ledger is written, each after the one before has arrived.

use super::batch::Batch;
use super::open::{fence, producer};
use super::sender::Sender;
use crate::kafka::client::Reader;
use crate::kafka::error::{Problem, code};
use crate::kafka::ledger::{self, PROGRESS, Pending, Progress};
use rdkafka::error::{KafkaError, RDKafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders, ToBytes};
use rdkafka::producer::{BaseRecord, Producer};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use usher_core::catalog::Catalog;
use usher_core::change::{Change, ChangeKind};
use usher_core::message::MessageId;
use usher_core::sink::{SinkError, Written};

/// How long one call of librdkafka may wait for brokers before the sync's status has the problem.
pub(super) const CALL: Duration = Duration::from_secs(2);
/// The pause between two looks whether all messages have arrived.
const ARRIVED_EVERY: Duration = Duration::from_micros(200);
/// How long a commit may have no answer before a new producer finds out the outcome: a restart of a broker takes less.
const ANSWER: Duration = Duration::from_secs(10);

/// Why a batch is not committed.
pub(super) enum Setback {
    /// It can be sent again.
    Retry(String),
    /// The outcome is unknown, and the producer must be replaced.
    Replace(String),
    /// A retry does not help.
    Failed(SinkError),
}

impl Sender {
    /// Sends a batch once, and commits it.
    pub(super) fn send_once(&self, batch: &Batch, catalog: &Catalog, progress: &Progress) -> Result<Written, Setback> {
        let _ = self.producer.client().context().take_undelivered();
        if !self.exactly_once {
            self.send_audiences(batch, catalog)?;
            self.send_pending(batch, catalog, progress)?;
            self.flush()?;
            let written = self.send_messages(batch)?;
            self.flush()?;
            self.send_ledger(batch, catalog, progress)?;
            self.flush()?;
            return Ok(written);
        }
        self.begin()?;
        let written = self.send_messages(batch)?;
        self.send_audiences(batch, catalog)?;
        self.send_ledger(batch, catalog, progress)?;
        self.commit()?;
        Ok(written)
    }

    /// Sends the pending messages of an earlier run, and commits them as the batch that [`Sender::progress`] already counts.
    pub(super) fn send_pending_again(&self, pending: &[Pending]) -> Result<(), Setback> {
        if self.exactly_once {
            self.begin()?;
        }
        for pending in pending {
            let headers = pending
                .headers
                .iter()
                .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
            self.send(BaseRecord::to(&self.topic).key(&pending.key).payload(&pending.message).headers(headers))?;
        }
        if !self.exactly_once {
            self.flush()?;
        }
        let mut key = Vec::new();
        for pending in pending {
            self.send_member(&mut key, &pending.audience, &pending.key, pending.entered.then_some(pending.at))?;
        }
        self.send_progress(&self.progress)?;
        if self.exactly_once { self.commit() } else { self.flush() }
    }

    /// Sends the batches after number `found` again, which the brokers had committed and have lost.
    ///
    /// The last replica of a topic may answer, while it stops cleanly, that a transaction is complete, and not have marked it in
    /// its partitions; the next transaction, which is rolled back, takes it along (observed with Kafka 4.3).
    fn resend_lost(&self, found: u64, catalog: &Catalog) -> Result<(), Setback> {
        let committed = self.progress.batch;
        if self.kept.front().is_none_or(|oldest| oldest.progress.batch > found + 1) {
            let reason = format!("the brokers have lost committed batches: {found} is the last of {committed}");
            return Err(Setback::Failed(self.failed(reason, "start again: what was lost is sent then")));
        }
        tracing::warn!(sync = %self.id, found, committed, "the brokers have lost committed batches; sending them again");
        for kept in self.kept.iter().filter(|kept| kept.progress.batch > found) {
            self.send_once(&kept.batch, catalog, &kept.progress)?;
        }
        Ok(())
    }

    /// Calls `send` for each message of a batch.
    fn for_each_message<'a>(
        &'a self,
        batch: &'a Batch,
        mut send: impl FnMut(&Change, &[u8], &MessageId) -> Result<(), Setback>,
    ) -> Result<(), Setback> {
        let mut message = Vec::new();
        for change in batch.sent() {
            message.clear();
            let id = self.messages.write(&mut message, change, batch.key(change), batch.row(change));
            send(change, &message, &id)?;
        }
        Ok(())
    }

    fn send_pending(&self, batch: &Batch, catalog: &Catalog, progress: &Progress) -> Result<(), Setback> {
        let mut number = 0;
        self.for_each_message(batch, |change, message, id| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let headers = self.messages.headers(change, id);
            let pending = Pending {
                batch: progress.batch,
                audience: catalog.id(change.audience).to_owned(),
                key: batch.key(change).to_owned(),
                entered: change.kind == ChangeKind::Entry,
                at: change.at,
                headers: headers.map(|(name, value)| (name.to_owned(), text(value))).collect(),
                // Messages are JSON.
                message: text(message),
            };
            let (key, value) = pending.record(number);
            number += 1;
            self.send(BaseRecord::to(&self.ledger_topic).partition(0).key(&key[..]).payload(&value[..]))
        })
    }

    fn send_messages(&self, batch: &Batch) -> Result<Written, Setback> {
        let mut written = batch.written();
        self.for_each_message(batch, |change, message, id| {
            let headers = self.messages.headers(change, id);
            let headers = headers.fold(OwnedHeaders::new_with_capacity(4), |headers, (key, value)| {
                headers.insert(Header { key, value: Some(value) })
            });
            written.bytes += message.len() as u64;
            // The message has the time of the change; the record has the broker's time of its arrival.
            self.send(BaseRecord::to(&self.topic).key(batch.key(change)).payload(message).headers(headers))
        })?;
        Ok(written)
    }

    /// Writes the records of a batch's audiences, where they are new or have changed, before those of its memberships.
    fn send_audiences(&self, batch: &Batch, catalog: &Catalog) -> Result<(), Setback> {
        let named: BTreeSet<_> = batch.changes().map(|change| change.audience).collect();
        for audience in named.into_iter().map(|audience| catalog.audience(audience)) {
            if self.audiences.get(&audience.id) != Some(&audience) {
                let (key, value) = ledger::audience_record(&audience);
                self.send(BaseRecord::to(&self.ledger_topic).partition(0).key(&key[..]).payload(&value[..]))?;
            }
        }
        Ok(())
    }

    /// Writes the memberships that a batch changes, and the progress.
    fn send_ledger(&self, batch: &Batch, catalog: &Catalog, progress: &Progress) -> Result<(), Setback> {
        let mut key = Vec::new();
        for change in batch.changes() {
            let at = (change.kind == ChangeKind::Entry).then_some(change.at);
            self.send_member(&mut key, catalog.id(change.audience), batch.key(change), at)?;
        }
        self.send_progress(progress)
    }

    /// Writes the record of a membership since `at`; None: a tombstone, because the key has left.
    fn send_member(&self, buffer: &mut Vec<u8>, audience: &str, key: &str, at: Option<u64>) -> Result<(), Setback> {
        ledger::member_key(buffer, audience, key);
        let value = at.map(|at| at.to_string());
        let record = BaseRecord::<[u8], str>::to(&self.ledger_topic).partition(0).key(buffer);
        self.send(match &value {
            Some(value) => record.payload(value),
            None => record,
        })
    }

    fn send_progress(&self, progress: &Progress) -> Result<(), Setback> {
        let value = progress.value();
        self.send(BaseRecord::to(&self.ledger_topic).partition(0).key(PROGRESS).payload(&value[..]))
    }

    /// Hands a record to librdkafka; waits while its queue is full.
    fn send<K: ToBytes + ?Sized, P: ToBytes + ?Sized>(&self, record: BaseRecord<'_, K, P>) -> Result<(), Setback> {
        let mut record = record;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.producer.poll(Duration::from_millis(5));
                    if let Some(error) = self.producer.client().fatal_error() {
                        return Err(self.of_fatal(error));
                    }
                }
                Err((error, _)) => return Err(self.of_error(&error, "a message can't be sent")),
            }
        }
    }

    /// Waits until all records have arrived.
    fn flush(&self) -> Result<(), Setback> {
        let since = Instant::now();
        let mut reported = since;
        // The crate's `flush` looks every 100 ms only, and its `poll` does not sleep for less than 1 ms.
        while self.producer.in_flight_count() > 0 {
            let before = self.producer.in_flight_count();
            self.producer.poll(Duration::ZERO);
            if self.producer.in_flight_count() < before {
                continue;
            }
            std::thread::sleep(ARRIVED_EVERY);
            if let Some(error) = self.producer.client().fatal_error() {
                return Err(self.of_fatal(error));
            }
            if reported.elapsed() > CALL {
                reported = Instant::now();
                let (count, seconds) = (self.producer.in_flight_count(), since.elapsed().as_secs());
                self.retry_call(format!("{count} messages have not arrived for {seconds} s"))?;
            }
        }
        match self.producer.client().context().take_undelivered() {
            None => Ok(()),
            Some(code) => Err(self.of_undelivered(code)),
        }
    }

    fn begin(&self) -> Result<(), Setback> {
        self.producer.begin_transaction().map_err(|error| self.of_error(&error, "a transaction can't begin"))
    }

    /// Waits until all records have arrived, then commits the transaction.
    ///
    /// One that fails is not rolled back here: if the brokers' answer was lost it may be committed. The next producer finds the
    /// outcome out, and ends the transaction.
    fn commit(&self) -> Result<(), Setback> {
        self.flush()?;
        let since = Instant::now();
        loop {
            let Err(error) = self.producer.commit_transaction(CALL) else { return Ok(()) };
            if let Some(error) = self.producer.client().fatal_error() {
                return Err(self.of_fatal(error));
            }
            if let Some(code) = self.producer.client().context().take_undelivered() {
                return Err(self.of_undelivered(code));
            }
            match &error {
                KafkaError::Transaction(inner) if inner.txn_requires_abort() || !is_unanswered(inner) => {
                    return Err(Setback::Replace(inner.string()));
                }
                // The outcome is unknown: the same call again returns it.
                _ if since.elapsed() < ANSWER => {
                    self.retry_call(format!("a commit has no answer for {} s", since.elapsed().as_secs()))?;
                }
                _ => return Err(Setback::Replace(format!("a commit has no answer for {} s", ANSWER.as_secs()))),
            }
        }
    }

    /// Returns what an error of a call means for the batch.
    fn of_error(&self, error: &KafkaError, what: &str) -> Setback {
        if let Some(error) = self.producer.client().fatal_error() {
            return self.of_fatal(error);
        }
        match error {
            KafkaError::Transaction(inner) => Setback::Replace(format!("{what}: {}", inner.string())),
            error => self.of_undelivered(code(error)),
        }
    }

    /// Returns what a message that was not delivered means for the batch.
    fn of_undelivered(&self, code: RDKafkaErrorCode) -> Setback {
        match self.of_problem(Problem::of_code(code, "a message was rejected")) {
            Setback::Retry(reason) if self.exactly_once => Setback::Replace(reason),
            setback => setback,
        }
    }

    /// Returns what a problem means for the batch.
    fn of_problem(&self, problem: Problem) -> Setback {
        match problem.transient {
            true => Setback::Retry(problem.reason),
            false => Setback::Failed(self.failed(problem.reason, problem.hint)),
        }
    }

    /// Returns what a fatal error of the producer means for the batch. A producer that was fenced, or whose transaction the
    /// brokers have ended after a time without messages, can be replaced.
    fn of_fatal(&self, (code, reason): (RDKafkaErrorCode, String)) -> Setback {
        use RDKafkaErrorCode as E;
        let replaceable = matches!(
            code,
            E::Fenced
                | E::ProducerFenced
                | E::InvalidProducerEpoch
                | E::InvalidProducerIdMapping
                | E::UnknownProducerId
                | E::OutOfOrderSequenceNumber
                | E::InvalidTransactionalState
        );
        if self.exactly_once && replaceable {
            return Setback::Replace(reason);
        }
        Setback::Failed(self.failed(reason, "start again: what was not committed is sent then"))
    }

    /// Replaces the producer, which ends the old one's transaction, and finds out whether the batch was committed after all.
    ///
    /// If another process has taken the sync over, the ledger has its `run` number: then this one does not fence it.
    pub(super) fn replace_producer(
        &mut self,
        batch: &Batch,
        catalog: &Catalog,
        progress: &Progress,
        reason: String,
    ) -> Result<Written, Setback> {
        let replaced = self.read_progress().and_then(|_| {
            let new = producer(self.context(), &self.producer_config).map_err(|problem| self.of_problem(problem))?;
            fence(&new, ANSWER).map_err(|problem| self.of_problem(problem))?;
            Ok(new)
        });
        match replaced {
            Ok(new) => self.producer = new,
            Err(Setback::Retry(problem)) => {
                self.mark_broken(reason);
                return Err(Setback::Retry(problem));
            }
            Err(setback) => return Err(setback),
        }
        tracing::info!(sync = %self.id, %reason, "continuing with a new producer");
        self.find_outcome(batch, catalog, progress, reason)
    }

    /// Finds out whether a batch was committed, and whether those before it still are. No transaction is open.
    fn find_outcome(
        &self,
        batch: &Batch,
        catalog: &Catalog,
        progress: &Progress,
        reason: String,
    ) -> Result<Written, Setback> {
        loop {
            match self.read_progress() {
                Ok(found) if found == *progress => return Ok(batch.written()),
                Ok(found) if found.batch < self.progress.batch => {
                    self.resend_lost(found.batch, catalog)?;
                    return Err(Setback::Retry(reason));
                }
                Ok(_) => return Err(Setback::Retry(reason)),
                // Nothing is sent before the outcome is known.
                Err(Setback::Retry(reason)) => self.retry_call(reason)?,
                Err(setback) => return Err(setback),
            }
        }
    }

    /// Reads the committed progress from the ledger. Fails if another process has taken the sync over.
    fn read_progress(&self) -> Result<Progress, Setback> {
        let reader = Reader::start(&self.reader_config, self.context(), |_| ()).map(Arc::new);
        let found = reader
            .and_then(|reader| ledger::read(&reader, &self.ledger_topic, ANSWER))
            .map_err(|problem| self.of_problem(problem))?;
        if found.progress.run == self.progress.run {
            return Ok(found.progress);
        }
        Err(Setback::Failed(SinkError::Superseded { to: self.name.clone() }))
    }
}

/// Returns whether an error leaves the outcome of a call unknown.
fn is_unanswered(error: &RDKafkaError) -> bool {
    error.is_retriable() || error.code() == RDKafkaErrorCode::OperationTimedOut
}
