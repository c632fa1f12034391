//! The protocol with the brokers: one batch is one transaction.
//!
//! A transaction holds the messages of a batch and the records by which the ledger changes, so both are committed or neither. If
//! a commit fails or has no answer, the outcome is unknown, and [`super::reconcile`] finds it out.
//!
//! A change whose message is larger than Kafka takes is refused: it is in the ledger like the others, with a dead letter in
//! the place of its message, all in one transaction.
//!
//! With `delivery: at_least_once` there are no transactions: see [`super::direct`].

use super::batch::Batch;
use super::limits::record_bytes;
use super::reconcile::Visible;
use super::sender::Sender;
use crate::kafka::client::{PATIENCE, Undelivered, is_purge};
use crate::kafka::error::{Problem, code, is_authorization, is_fenced};
use crate::kafka::ledger::{self, OWNER, PROGRESS, Pending, Progress, RESEND, SENT, TARGET};
use crate::kafka::sent::{HEADER, SentFrom, SentMessage, write_header};
use crate::moved::MovedMember;
use rdkafka::error::{KafkaError, RDKafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders, ToBytes};
use rdkafka::producer::{BaseRecord, Producer};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use usher_core::catalog::Catalog;
use usher_core::change::{Change, ChangeKind};
use usher_core::ledger::LedgerAudience;
use usher_core::message::MessageId;
use usher_core::sink::{SinkError, Written};

/// How long one call of librdkafka may wait for brokers before the sync's status has the problem.
pub(super) const CALL: Duration = Duration::from_secs(2);
/// The pause between two looks which messages have arrived.
pub(super) const ARRIVED_EVERY: Duration = Duration::from_micros(200);
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

/// Of a message, the place of its change in the batch, the change, and its id.
#[derive(Clone, Copy)]
pub(super) struct MessageHead<'b> {
    place: usize,
    pub(super) change: &'b Change,
    id: MessageId,
}

/// By which number the records that are sent are counted as they arrive, and how many they are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counting {
    /// 0: they are not counted.
    number: usize,
    records: usize,
}

/// Since when brokers are waited for, and when that was last reported.
pub(super) struct Wait {
    since: Instant,
    reported: Instant,
}

impl Wait {
    pub(super) fn begin() -> Wait {
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
            if !visible.has(batch.key(head.change), message) {
                bytes += self.send_message(batch, head, message, None)?;
            }
            Ok(())
        })?;
        self.send_audiences(batch, catalog)?;
        self.send_ledger(batch, catalog, progress)?;
        self.commit()?;
        Ok(Written { bytes, ..batch.written() })
    }

    /// Sends the messages of a batch of this number without a transaction; returns their bytes.
    pub(super) fn send_messages(&self, batch: &Batch, number: u64) -> Result<u64, Setback> {
        let (mut bytes, mut header) = (0, String::new());
        self.for_each_message(batch, |head, message| {
            // The ledger has no row after an exit.
            let row = if head.change.kind == ChangeKind::Exit { "" } else { batch.texts(head.change).row };
            write_header(&mut header, &self.own.ledger_of, self.own.incarnation, number, head.change.at, row);
            bytes += self.send_message(batch, head, message, Some(&header))?;
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Commits the mark of this process, with which the ledger is its own. Not yet marked, it fences nobody a second time.
    pub(super) fn send_mark(&self) -> Result<(), Setback> {
        self.begin()?;
        let value = ledger::owner_value(self.own.incarnation);
        self.send(BaseRecord::to(&self.own.ledger_topic).partition(0).key(OWNER).payload(&value))?;
        self.commit()
    }

    /// Writes which topic the messages go to: at the next start one that was created anew is noticed.
    pub(super) fn send_target(&self, id: &str) -> Result<(), Setback> {
        self.begin()?;
        self.send(BaseRecord::to(&self.own.ledger_topic).partition(0).key(TARGET).payload(id))?;
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

    /// Writes memberships of a ledger that was kept elsewhere, with the records of their audiences that are not there. `at` stands for the times of their
    /// last changes, which are not known.
    pub(super) fn send_moved(&self, members: &[MovedMember<'_>], at: u64) -> Result<(), Setback> {
        self.begin()?;
        let named: BTreeSet<_> = members.iter().map(|(audience, ..)| *audience).collect();
        for audience in named {
            self.send_audience(audience)?;
        }
        let mut buffer = Vec::new();
        for (audience, key, row) in members {
            let value = self.member_value(&audience.id, key, at, row);
            self.send_member(&mut buffer, &audience.id, key, Some(value))?;
        }
        self.commit()
    }

    /// Ends the request for a ledger that begins anew: it has.
    pub(super) fn send_begun(&self, progress: &Progress) -> Result<(), Setback> {
        self.begin()?;
        self.send_progress(progress)?;
        self.send(BaseRecord::<str, str>::to(&self.own.ledger_topic).partition(0).key(RESEND))?;
        self.commit()
    }

    /// Notes in the ledger from where on the topic may have messages that it lacks, and before that the changes of those that are there, which
    /// [`Sender::progress`] already counts. None: it has none.
    pub(super) fn send_sent(&self, found: &[SentMessage], from: Option<&SentFrom>) -> Result<(), Setback> {
        self.begin()?;
        let mut key = Vec::new();
        for message in found {
            let value = message.entered.then(|| ledger::member_value(message.at, &message.row));
            self.send_member(&mut key, &message.audience, &message.key, value)?;
        }
        if !found.is_empty() {
            self.send_progress(&self.progress)?;
        }
        self.send_sent_from(from)?;
        self.commit()
    }

    /// Writes the record of where the topic may have messages that the ledger lacks.
    pub(super) fn send_sent_from(&self, from: Option<&SentFrom>) -> Result<(), Setback> {
        let value = from.map(SentFrom::value);
        let record = BaseRecord::<str, str>::to(&self.own.ledger_topic).partition(0).key(SENT);
        self.send(match &value {
            Some(value) => record.payload(value),
            None => record,
        })
    }

    /// Sends the pending messages of an earlier run, and commits them as the batch that [`Sender::progress`] already counts.
    pub(super) fn send_pending_again(&self, pending: &[Pending]) -> Result<(), Setback> {
        self.begin()?;
        for pending in pending {
            let headers = pending.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header { key, value: Some(&**value) })
            });
            self.send(BaseRecord::to(&self.own.topic).key(&*pending.key).payload(&*pending.message).headers(headers))?;
        }
        if !self.own.exactly_once {
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

    /// Sends a message, with a header by which it is found where there is no transaction; returns its bytes, 0 if it is not sent.
    fn send_message(
        &self,
        batch: &Batch,
        MessageHead { place, change, id }: &MessageHead<'_>,
        message: &[u8],
        found_by: Option<&str>,
    ) -> Result<u64, Setback> {
        let found_by = found_by.map(|header| (HEADER, header.as_bytes()));
        let headers = || self.messages.headers(change, id).chain(found_by);
        let of_record = record_bytes(batch.key(change).len(), message.len(), headers());
        if let Some(refusal) = self.refusal(|limits| limits.refuses(of_record)) {
            batch.refuse(*place, refusal);
            return Ok(0);
        }
        let headers = headers().fold(OwnedHeaders::new_with_capacity(5), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        });
        // The message has the time of the change; the record has the broker's time of its arrival.
        self.send(BaseRecord::to(&self.own.topic).key(batch.key(change)).payload(message).headers(headers))?;
        Ok(message.len() as u64)
    }

    /// Writes the records of a batch's audiences, where they are new or have changed, before those of its memberships. Returns whether there were
    /// any.
    pub(super) fn send_audiences(&self, batch: &Batch, catalog: &Catalog) -> Result<bool, Setback> {
        let named: BTreeSet<_> = batch.changes().map(|change| change.audience).collect();
        let mut any = false;
        for audience in named {
            any |= self.send_audience(&catalog.audience(audience))?;
        }
        Ok(any)
    }

    /// Writes the record of an audience, unless the ledger has it. Returns whether it did.
    fn send_audience(&self, audience: &LedgerAudience) -> Result<bool, Setback> {
        if self.audiences.get(&audience.id) == Some(audience) {
            return Ok(false);
        }
        let (key, value) = ledger::audience_record(audience);
        self.send(BaseRecord::to(&self.own.ledger_topic).partition(0).key(&key[..]).payload(&value[..]))?;
        Ok(true)
    }

    /// Writes the memberships that a batch changes, its dead letters, and the progress, which is `progress` before the batch
    /// is counted.
    pub(super) fn send_ledger(&self, batch: &Batch, catalog: &Catalog, progress: &Progress) -> Result<(), Setback> {
        let mut key = Vec::new();
        for change in batch.changes() {
            let audience = catalog.id(change.audience);
            let texts = batch.texts(change);
            let entered = change.kind != ChangeKind::Exit;
            let value = entered.then(|| self.member_value(audience, texts.key, change.at, texts.row));
            self.send_member(&mut key, audience, texts.key, value)?;
        }
        for (mut letter, number) in batch.dead_letters(catalog).into_iter().zip(progress.dead_letters..) {
            let (key, dropped) = ledger::dead_keys(number);
            let value = letter.value(|value| self.fits_ledger(key.len(), value));
            self.send(BaseRecord::to(&self.own.ledger_topic).partition(0).key(&key[..]).payload(&value[..]))?;
            if let Some(dropped) = dropped {
                self.send(BaseRecord::<str, str>::to(&self.own.ledger_topic).partition(0).key(&dropped[..]))?;
            }
        }
        self.send_progress(&batch.counted(*progress))
    }

    /// Returns the value of a membership's record, without a row that is too large for the ledger.
    fn member_value(&self, audience: &str, key: &str, at: u64, row: &str) -> String {
        let value = ledger::member_value(at, row);
        match self.fits_ledger(audience.len() + 1 + key.len(), &value) {
            true => value,
            false => ledger::member_value(at, ""),
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
        let record = BaseRecord::<[u8], str>::to(&self.own.ledger_topic).partition(0).key(buffer);
        self.send(match &value {
            Some(value) => record.payload(value),
            None => record,
        })
    }

    fn send_progress(&self, progress: &Progress) -> Result<(), Setback> {
        let value = progress.value();
        self.send(BaseRecord::to(&self.own.ledger_topic).partition(0).key(PROGRESS).payload(&value[..]))
    }

    /// Hands a record to librdkafka; waits while its queue is full. It counts among those of [`Sender::counting`].
    pub(super) fn send<K: ToBytes + ?Sized, P: ToBytes + ?Sized>(
        &self,
        record: BaseRecord<'_, K, P>,
    ) -> Result<(), Setback> {
        let Counting { number, records } = self.counting.get();
        self.counting.set(Counting { number, records: records + 1 });
        let BaseRecord { topic, partition, payload, key, timestamp, headers, .. } = record;
        let mut record = BaseRecord { topic, partition, payload, key, timestamp, headers, delivery_opaque: number };
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
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::State), _)) if self.own.exactly_once => {
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

    /// Calls `send`, whose records are counted by `number` as they arrive ([`Context::take_arrived`](crate::kafka::client::Context::take_arrived)). Returns also
    /// how many it has sent.
    pub(super) fn count<T>(
        &self,
        number: usize,
        send: impl FnOnce(&Sender) -> Result<T, Setback>,
    ) -> Result<(T, usize), Setback> {
        self.counting.set(Counting { number, records: 0 });
        let sent = send(self);
        let Counting { records, .. } = self.counting.take();
        Ok((sent?, records))
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
    pub(super) fn check_waiting(&self, wait: &mut Wait, what: impl FnOnce(u64) -> String) -> Result<bool, Setback> {
        if let Some(error) = self.producer.client().fatal_error() {
            return Err(self.of_fatal(error));
        }
        if self.own.exactly_once && self.producer.client().context().has_rejected() {
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
        if !self.own.exactly_once {
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
        if !self.own.exactly_once {
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
    pub(super) fn of_undelivered(&self, undelivered: Undelivered) -> Setback {
        let Undelivered { code, key, bytes } = undelivered;
        match code {
            // librdkafka removes the messages of a transaction that has failed: why it has is what the transaction returns.
            code if is_purge(code) && self.own.exactly_once => match self.producer.commit_transaction(CALL) {
                Err(KafkaError::Transaction(error)) => match self.producer.client().fatal_error() {
                    Some(error) => self.of_fatal(error),
                    None => self.of_transaction(&error, "a transaction has failed"),
                },
                _ => Setback::Replace("a transaction has failed".to_owned()),
            },
            code if is_authorization(code) && self.own.exactly_once => Setback::Replace(self.not_allowed(code)),
            code if is_authorization(code) => Setback::Retry(self.not_allowed(code)),
            RDKafkaErrorCode::MessageSizeTooLarge => {
                let what = format!("the change of key `{key}`, a message of {bytes} bytes");
                Setback::TooLarge(Problem::of_code(code, &what))
            }
            code => match self.of_problem(Problem::of_code(code, "a message was rejected")) {
                Setback::Retry(reason) if self.own.exactly_once => Setback::Replace(reason),
                setback => setback,
            },
        }
    }

    /// Returns the reason of a right that is missing. It may be given back: the batch is sent again until then.
    fn not_allowed(&self, code: RDKafkaErrorCode) -> String {
        let what = format!("topics `{}` and `{}`", self.own.topic, self.own.ledger_topic);
        let Problem { reason, hint, .. } = Problem::of_code(code, &what);
        format!("{reason}; {hint}")
    }

    /// Returns what a problem means for the batch.
    pub(super) fn of_problem(&self, problem: Problem) -> Setback {
        match problem.transient {
            true => Setback::Retry(problem.reason),
            false => Setback::Failed(self.own.failed(problem.reason, problem.hint)),
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
        if self.own.exactly_once && is_fenced(code) {
            return Setback::Fenced(reason);
        }
        if self.own.exactly_once && is_authorization(code) {
            return Setback::Replace(self.not_allowed(code));
        }
        if self.own.exactly_once && replaceable {
            return Setback::Replace(reason);
        }
        Setback::Failed(self.own.failed(reason, "start again: what was not committed is sent then"))
    }
}

/// Returns whether an error leaves the outcome of a call unknown.
fn is_unanswered(error: &RDKafkaError) -> bool {
    error.is_retriable() || error.code() == RDKafkaErrorCode::OperationTimedOut
}
