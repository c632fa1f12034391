//! The protocol with the brokers: one batch is one transaction.
//!
//! A transaction holds the messages of a batch and the records by which the ledger changes, so both are committed or neither. If
//! a commit fails or has no answer, the outcome is unknown, and [`super::reconcile`] finds it out.
//!
//! A change whose message is larger than Kafka takes is refused: it is in the ledger like the others, with a dead letter in
//! the place of its message, all in one transaction.
//!
//! With `delivery: at_least_once` there are no transactions: see [`super::rounds`].

use super::batch::Batch;
use super::limits::record_bytes;
use super::reconcile::Visible;
use super::sender::Sender;
use crate::kafka::client::{PATIENCE, Undelivered, is_purge};
use crate::kafka::error::{Problem, code, is_authorization, is_fenced};
use crate::kafka::ledger::{self, OWNER, PROGRESS, Pending, Progress, RESEND, TARGET};
use rdkafka::error::{KafkaError, RDKafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders, ToBytes};
use rdkafka::producer::{BaseRecord, Producer};
use std::collections::BTreeSet;
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
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// Why a batch is not committed.
pub(super) enum Setback {
    /// It can be sent again.
    Retry(String),
    /// The outcome is unknown, and the producer must be replaced.
    Replace(String),
    /// The brokers take nothing more from this producer: another process has come, or a transaction took too long.
    Fenced(String),
    /// The brokers take only smaller messages than was known.
    TooLarge(Problem),
    /// A retry does not help.
    Failed(SinkError),
}

/// The messages of a batch that are sent twice: as pending, and themselves.
#[derive(Default)]
pub(super) struct BatchMessages {
    bytes: Vec<u8>,
    /// Each message's place in the batch, its id, and where it ends.
    heads: Vec<(usize, MessageId, usize)>,
}

/// Of a message, the place of its change in the batch, the change, and its id.
#[derive(Clone, Copy)]
pub(super) struct MessageHead<'b> {
    place: usize,
    pub(super) change: &'b Change,
    id: MessageId,
}

impl BatchMessages {
    /// Returns the messages in the order of their changes; `batch` is that of which they are.
    pub(super) fn iter<'b>(&self, batch: &'b Batch) -> impl Iterator<Item = (MessageHead<'b>, &[u8])> {
        let mut changes = batch.changes().enumerate();
        let starts = std::iter::once(0).chain(self.heads.iter().map(|(_, _, end)| *end));
        self.heads.iter().zip(starts).map(move |((place, id, end), start)| {
            let (_, change) = changes.find(|(at, _)| at == place).expect("messages are in the order of changes");
            (MessageHead { place: *place, change, id: *id }, &self.bytes[start..*end])
        })
    }
}

/// Since when brokers are waited for, and when that was last reported.
struct Wait {
    since: Instant,
    reported: Instant,
}

impl Wait {
    fn begin() -> Wait {
        let since = Instant::now();
        Wait { since, reported: since }
    }
}

impl Sender {
    /// Sends a batch once, and commits it in a transaction. Messages that are `visible` in the target already are left out.
    pub(super) fn send_once(
        &self,
        batch: &Batch,
        catalog: &Catalog,
        progress: &Progress,
        visible: &Visible,
    ) -> Result<Written, Setback> {
        self.forget_undelivered();
        self.begin()?;
        let mut bytes = 0;
        self.for_each_message(batch, |head, message| {
            bytes += self.send_message(batch, head, message, visible)?;
            Ok(())
        })?;
        self.send_audiences(batch, catalog)?;
        self.send_ledger(batch, catalog, progress)?;
        self.commit()?;
        Ok(Written { bytes, ..batch.written() })
    }

    /// Commits the mark of this process, with which the ledger is its own. Not yet marked, it fences nobody a second time.
    pub(super) fn send_mark(&self) -> Result<(), Setback> {
        self.begin()?;
        let value = ledger::owner_value(self.incarnation);
        self.send(BaseRecord::to(&self.ledger_topic).partition(0).key(OWNER).payload(&value))?;
        self.commit()
    }

    /// Writes which topic the messages go to: at the next start one that was created anew is noticed.
    pub(super) fn send_target(&self, id: &str) -> Result<(), Setback> {
        self.begin()?;
        self.send(BaseRecord::to(&self.ledger_topic).partition(0).key(TARGET).payload(id))?;
        self.commit()
    }

    /// Forgets memberships, in order that the ledger begins anew.
    pub(super) fn send_forgotten(&self, members: &[(&str, &str)]) -> Result<(), Setback> {
        self.begin()?;
        let mut buffer = Vec::new();
        for (audience, key) in members {
            self.send_member(&mut buffer, audience, key, None)?;
        }
        self.commit()
    }

    /// Ends the request for a ledger that begins anew: it has.
    pub(super) fn send_begun(&self, progress: &Progress) -> Result<(), Setback> {
        self.begin()?;
        self.send_progress(progress)?;
        self.send(BaseRecord::<str, str>::to(&self.ledger_topic).partition(0).key(RESEND))?;
        self.commit()
    }

    /// Sends the pending messages of an earlier run, and commits them as the batch that [`Sender::progress`] already counts.
    pub(super) fn send_pending_again(&self, pending: &[Pending]) -> Result<(), Setback> {
        self.begin()?;
        for pending in pending {
            let headers = pending.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header { key, value: Some(&**value) })
            });
            self.send(BaseRecord::to(&self.topic).key(&*pending.key).payload(&*pending.message).headers(headers))?;
        }
        if !self.exactly_once {
            self.flush()?;
        }
        let mut key = Vec::new();
        for pending in pending {
            let value = pending.entered.then(|| ledger::member_value(pending.at, &pending.row));
            self.send_member(&mut key, &pending.audience, &pending.key, value)?;
        }
        self.send_progress(&self.progress)?;
        self.commit()
    }

    /// Calls `send` for each message of a batch; those that are refused are left out.
    pub(super) fn for_each_message<'b>(
        &self,
        batch: &'b Batch,
        mut send: impl FnMut(&MessageHead<'b>, &[u8]) -> Result<(), Setback>,
    ) -> Result<(), Setback> {
        let mut message = Vec::new();
        for (place, change) in batch.sent() {
            message.clear();
            let id = self.messages.write(&mut message, change, batch.texts(change));
            send(&MessageHead { place, change, id }, &message)?;
        }
        Ok(())
    }

    /// Forgets what earlier records that did not arrive have left.
    pub(super) fn forget_undelivered(&self) {
        let _ = self.producer.client().context().take_undelivered();
    }

    /// Writes the messages of a batch, without those that are refused.
    pub(super) fn write_messages(&self, batch: &Batch) -> BatchMessages {
        let BatchMessages { mut bytes, mut heads } = BatchMessages::default();
        for (place, change) in batch.sent() {
            let id = self.messages.write(&mut bytes, change, batch.texts(change));
            heads.push((place, id, bytes.len()));
        }
        BatchMessages { bytes, heads }
    }

    /// Notes in the ledger the messages of a batch with this number as pending.
    pub(super) fn send_pending(
        &self,
        batch: &Batch,
        messages: &BatchMessages,
        catalog: &Catalog,
        of_batch: u64,
    ) -> Result<(), Setback> {
        let mut number = 0;
        let mut noted = messages.iter(batch).filter(|(head, _)| !batch.is_refused(head.place));
        noted.try_for_each(|(MessageHead { place, change, id }, message)| {
            // Messages are JSON, and their headers are text.
            let headers = self.messages.headers(change, &id);
            let pending = Pending {
                batch: of_batch,
                audience: catalog.id(change.audience).into(),
                key: batch.key(change).into(),
                entered: change.kind != ChangeKind::Exit,
                at: change.at,
                row: batch.texts(change).row.into(),
                headers: headers.map(|(name, value)| (name.into(), String::from_utf8_lossy(value))).collect(),
                message: String::from_utf8_lossy(message),
            };
            let (key, value) = pending.record(number);
            let (bytes, in_ledger) =
                (self.bytes_of(batch, change, message, &id), record_bytes(key.len(), value.len(), []));
            // What can't be noted as pending can't be sent: a crash would lose it.
            let refusal = self.refusal(|limits| limits.refuses(bytes).or_else(|| limits.ledger_refuses(in_ledger)));
            if let Some(refusal) = refusal {
                batch.refuse(place, refusal);
                return Ok(());
            }
            number += 1;
            self.send(BaseRecord::to(&self.ledger_topic).partition(0).key(&key[..]).payload(&value[..]))
        })
    }

    /// Sends a message that is not visible in the target already; returns its bytes, 0 if it is not sent.
    pub(super) fn send_message(
        &self,
        batch: &Batch,
        MessageHead { place, change, id }: &MessageHead<'_>,
        message: &[u8],
        visible: &Visible,
    ) -> Result<u64, Setback> {
        if batch.is_refused(*place) || visible.has(batch.key(change), message) {
            return Ok(0);
        }
        let of_record = self.bytes_of(batch, change, message, id);
        if let Some(refusal) = self.refusal(|limits| limits.refuses(of_record)) {
            batch.refuse(*place, refusal);
            return Ok(0);
        }
        let headers = self.messages.headers(change, id);
        let headers = headers.fold(OwnedHeaders::new_with_capacity(4), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        });
        // The message has the time of the change; the record has the broker's time of its arrival.
        self.send(BaseRecord::to(&self.topic).key(batch.key(change)).payload(message).headers(headers))?;
        Ok(message.len() as u64)
    }

    /// Returns the most bytes of the record of a message.
    fn bytes_of(&self, batch: &Batch, change: &Change, message: &[u8], id: &MessageId) -> usize {
        record_bytes(batch.key(change).len(), message.len(), self.messages.headers(change, id))
    }

    /// Writes the records of a batch's audiences, where they are new or have changed, before those of its memberships.
    pub(super) fn send_audiences(&self, batch: &Batch, catalog: &Catalog) -> Result<(), Setback> {
        let named: BTreeSet<_> = batch.changes().map(|change| change.audience).collect();
        for audience in named.into_iter().map(|audience| catalog.audience(audience)) {
            if self.audiences.get(&audience.id) != Some(&audience) {
                let (key, value) = ledger::audience_record(&audience);
                self.send(BaseRecord::to(&self.ledger_topic).partition(0).key(&key[..]).payload(&value[..]))?;
            }
        }
        Ok(())
    }

    /// Writes the memberships that a batch changes, its dead letters, and the progress, which is `progress` before the batch
    /// is counted.
    pub(super) fn send_ledger(&self, batch: &Batch, catalog: &Catalog, progress: &Progress) -> Result<(), Setback> {
        let mut key = Vec::new();
        for change in batch.changes() {
            let audience = catalog.id(change.audience);
            let value = (change.kind != ChangeKind::Exit).then(|| self.member_value(audience, batch, change));
            self.send_member(&mut key, audience, batch.key(change), value)?;
        }
        for (mut letter, number) in batch.dead_letters(catalog).into_iter().zip(progress.dead_letters..) {
            let (key, dropped) = ledger::dead_keys(number);
            let value = letter.value(|value| self.fits_ledger(key.len(), value));
            self.send(BaseRecord::to(&self.ledger_topic).partition(0).key(&key[..]).payload(&value[..]))?;
            if let Some(dropped) = dropped {
                self.send(BaseRecord::<str, str>::to(&self.ledger_topic).partition(0).key(&dropped[..]))?;
            }
        }
        self.send_progress(&batch.counted(*progress))
    }

    /// Returns the value of a membership's record, without a row that is too large for the ledger.
    fn member_value(&self, audience: &str, batch: &Batch, change: &Change) -> String {
        let value = ledger::member_value(change.at, batch.texts(change).row);
        match self.fits_ledger(audience.len() + 1 + batch.key(change).len(), &value) {
            true => value,
            false => ledger::member_value(change.at, ""),
        }
    }

    fn fits_ledger(&self, key: usize, value: &str) -> bool {
        self.limits.get().ledger_refuses(record_bytes(key, value.len(), [])).is_none()
    }

    /// Writes the record of a membership; without a value a tombstone, because the key has left.
    fn send_member(
        &self,
        buffer: &mut Vec<u8>,
        audience: &str,
        key: &str,
        value: Option<String>,
    ) -> Result<(), Setback> {
        ledger::member_key(buffer, audience, key);
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
    pub(super) fn send<K: ToBytes + ?Sized, P: ToBytes + ?Sized>(
        &self,
        record: BaseRecord<'_, K, P>,
    ) -> Result<(), Setback> {
        let mut record = record;
        let mut wait = Wait::begin();
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.producer.poll(Duration::from_millis(5));
                    if self.check_waiting(&mut wait, |seconds| {
                        format!("the producer's queue has been full for {seconds} s")
                    })? {
                        return self.flush();
                    }
                }
                // librdkafka takes nothing more for a transaction that has failed: why it has is what its deliveries say.
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::State), _)) if self.exactly_once => {
                    self.flush()?;
                    return Err(Setback::Replace("a transaction has failed".to_owned()));
                }
                Err((KafkaError::MessageProduction(code @ RDKafkaErrorCode::MessageSizeTooLarge), back)) => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let key = back.key.map(|key| text(key.to_bytes())).unwrap_or_default();
                    let bytes = back.payload.map_or(0, |payload| payload.to_bytes().len());
                    return Err(self.of_undelivered(Undelivered { code, key, bytes }));
                }
                Err((error, _)) => return Err(self.of_error(&error, "a message can't be sent")),
            }
        }
    }

    /// Waits until all records have arrived.
    pub(super) fn flush(&self) -> Result<(), Setback> {
        let mut wait = Wait::begin();
        // The crate's `flush` looks every 100 ms only, and its `poll` does not sleep for less than 1 ms.
        while self.producer.in_flight_count() > 0 {
            let before = self.producer.in_flight_count();
            self.producer.poll(Duration::ZERO);
            if self.producer.in_flight_count() < before {
                continue;
            }
            std::thread::sleep(ARRIVED_EVERY);
            let count = self.producer.in_flight_count();
            if self.check_waiting(&mut wait, |seconds| format!("{count} messages have not arrived for {seconds} s"))? {
                break;
            }
        }
        match self.producer.client().context().take_undelivered() {
            None => Ok(()),
            Some(undelivered) => Err(self.of_undelivered(undelivered)),
        }
    }

    /// Checks the producer while the brokers are waited for: for a fatal error, and, each [`CALL`], whether to give up. Returns whether the transaction
    /// can't be committed any more: librdkafka sends none of its other records then. `what` says what is waited for, and for how many seconds.
    fn check_waiting(&self, wait: &mut Wait, what: impl FnOnce(u64) -> String) -> Result<bool, Setback> {
        if let Some(error) = self.producer.client().fatal_error() {
            return Err(self.of_fatal(error));
        }
        if self.exactly_once && self.producer.client().context().has_rejected() {
            return Ok(true);
        }
        if wait.reported.elapsed() > CALL {
            wait.reported = Instant::now();
            self.retry_call(what(wait.since.elapsed().as_secs()))?;
        }
        Ok(false)
    }

    /// Begins a transaction, if there are transactions.
    pub(super) fn begin(&self) -> Result<(), Setback> {
        if !self.exactly_once {
            return Ok(());
        }
        self.producer.begin_transaction().map_err(|error| self.of_error(&error, "a transaction can't begin"))
    }

    /// Commits the transaction; without transactions, waits until all records have arrived.
    ///
    /// One that fails is not rolled back here: if the brokers' answer was lost it may be committed. The next producer finds the
    /// outcome out, and ends the transaction.
    fn commit(&self) -> Result<(), Setback> {
        self.flush()?;
        if !self.exactly_once {
            return Ok(());
        }
        let since = Instant::now();
        let answer = if self.owned { ANSWER } else { PATIENCE };
        loop {
            let Err(error) = self.producer.commit_transaction(CALL) else { return Ok(()) };
            if let Some(error) = self.producer.client().fatal_error() {
                return Err(self.of_fatal(error));
            }
            if let Some(undelivered) = self.producer.client().context().take_undelivered() {
                return Err(self.of_undelivered(undelivered));
            }
            match &error {
                KafkaError::Transaction(inner) if inner.txn_requires_abort() || !is_unanswered(inner) => {
                    return Err(self.of_transaction(inner, "a transaction can't be committed"));
                }
                // The outcome is unknown: the same call again returns it.
                _ if since.elapsed() < answer => {
                    self.retry_call(format!("a commit has no answer for {} s", since.elapsed().as_secs()))?;
                }
                _ => return Err(Setback::Replace(format!("a commit has no answer for {} s", answer.as_secs()))),
            }
        }
    }

    /// Returns what an error of a call means for the batch.
    pub(super) fn of_error(&self, error: &KafkaError, what: &str) -> Setback {
        if let Some(error) = self.producer.client().fatal_error() {
            return self.of_fatal(error);
        }
        match error {
            KafkaError::Transaction(inner) => self.of_transaction(inner, what),
            error => self.of_undelivered(Undelivered::of(code(error))),
        }
    }

    /// Returns what an error of a transaction means for the batch. Its code is the cause also where messages were purged.
    fn of_transaction(&self, error: &RDKafkaError, what: &str) -> Setback {
        if is_authorization(error.code()) {
            return Setback::Replace(self.not_allowed(error.code()));
        }
        Setback::Replace(format!("{what}: {}", error.string()))
    }

    /// Returns what a message that was not delivered means for the batch.
    fn of_undelivered(&self, undelivered: Undelivered) -> Setback {
        let Undelivered { code, key, bytes } = undelivered;
        match code {
            // librdkafka removes the messages of a transaction that has failed: why it has is what the transaction returns.
            code if is_purge(code) && self.exactly_once => match self.producer.commit_transaction(CALL) {
                Err(KafkaError::Transaction(error)) => match self.producer.client().fatal_error() {
                    Some(error) => self.of_fatal(error),
                    None => self.of_transaction(&error, "a transaction has failed"),
                },
                _ => Setback::Replace("a transaction has failed".to_owned()),
            },
            code if is_authorization(code) && self.exactly_once => Setback::Replace(self.not_allowed(code)),
            code if is_authorization(code) => Setback::Retry(self.not_allowed(code)),
            RDKafkaErrorCode::MessageSizeTooLarge => {
                let what = format!("the change of key `{key}`, a message of {bytes} bytes");
                Setback::TooLarge(Problem::of_code(code, &what))
            }
            code => match self.of_problem(Problem::of_code(code, "a message was rejected")) {
                Setback::Retry(reason) if self.exactly_once => Setback::Replace(reason),
                setback => setback,
            },
        }
    }

    /// Returns the reason of a right that is missing. It may be given back: the batch is sent again until then.
    fn not_allowed(&self, code: RDKafkaErrorCode) -> String {
        let what = format!("topics `{}` and `{}`", self.topic, self.ledger_topic);
        let Problem { reason, hint, .. } = Problem::of_code(code, &what);
        format!("{reason}; {hint}")
    }

    /// Returns what a problem means for the batch.
    pub(super) fn of_problem(&self, problem: Problem) -> Setback {
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
            E::InvalidProducerIdMapping
                | E::UnknownProducerId
                | E::OutOfOrderSequenceNumber
                | E::InvalidTransactionalState
        );
        if self.exactly_once && is_fenced(code) {
            return Setback::Fenced(reason);
        }
        if self.exactly_once && is_authorization(code) {
            return Setback::Replace(self.not_allowed(code));
        }
        if self.exactly_once && replaceable {
            return Setback::Replace(reason);
        }
        Setback::Failed(self.failed(reason, "start again: what was not committed is sent then"))
    }
}

/// Returns whether an error leaves the outcome of a call unknown.
fn is_unanswered(error: &RDKafkaError) -> bool {
    error.is_retriable() || error.code() == RDKafkaErrorCode::OperationTimedOut
}
