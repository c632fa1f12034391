//! Batches on their way without transactions, `delivery: at_least_once`.
//!
//! A batch takes three steps: its messages are noted in the ledger as pending; the messages themselves are sent; the ledger is written. Each
//! waits until the brokers have confirmed the one before. Three batches are on their way at once, each at another step, and what
//! all of them send makes one *round*: a change waits for the end of the round that is underway, and reaches its topic in the second one after.
//!
//! Promises: batches take each step in their order; after a crash the messages of all that were pending are sent again, with the
//! same ids. Batches that may be pending have records of other keys ([`Pending`](crate::kafka::ledger::Pending)). Where one record of a round does not arrive
//! the whole round is sent again.

use super::batch::Batch;
use super::reconcile::Visible;
use super::sender::{BACKOFF, Sender};
use super::transaction::{BatchMessages, Setback};
use crate::kafka::ledger::Progress;
use usher_core::catalog::Catalog;
use usher_core::sink::{SinkError, Written};

/// A batch on its way.
struct Underway {
    batch: Box<Batch>,
    messages: BatchMessages,
    /// Its number, as [`Progress::batch`] counts.
    number: u64,
    /// The greatest time of its changes and of those before.
    clock: u64,
    /// Bytes of the messages that were sent.
    bytes: u64,
}

impl Underway {
    /// Returns how far the ledger is with it, behind `before`, before it is counted.
    fn progress(&self, before: Progress) -> Progress {
        Progress { batch: self.number, clock: self.clock, ..before }
    }
}

/// The batches on their way.
#[derive(Default)]
pub(super) struct Rounds {
    /// Noted as pending.
    pending: Option<Underway>,
    /// Its messages have arrived.
    sent: Option<Underway>,
}

impl Rounds {
    /// Returns whether no batch is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_none() && self.sent.is_none()
    }
}

impl Sender {
    /// Sends a round, in which `next` takes its first step, until it has arrived. Returns the batch that is committed by it.
    pub(super) fn send_round(
        &mut self,
        rounds: &mut Rounds,
        next: Option<Box<Batch>>,
        catalog: &Catalog,
    ) -> Result<Option<Box<Batch>>, SinkError> {
        let next = next.map(|batch| {
            let last = rounds.pending.as_ref().or(rounds.sent.as_ref());
            let before = last.map_or(self.progress, |last| last.progress(self.progress));
            let clock = batch.changes().map(|change| change.at).fold(before.clock, u64::max);
            Underway { messages: self.write_messages(&batch), batch, number: before.batch + 1, clock, bytes: 0 }
        });
        let mut backoff = BACKOFF;
        let bytes = loop {
            match self.send_steps(rounds, next.as_ref(), catalog) {
                Ok(bytes) => break bytes,
                Err(setback) => self.take_setback(setback, &mut backoff)?,
            }
        };
        self.note_delivered();
        let committed =
            std::mem::replace(&mut rounds.sent, rounds.pending.take().map(|sent| Underway { bytes, ..sent }));
        rounds.pending = next;
        Ok(committed.map(|underway| {
            let progress = underway.batch.counted(underway.progress(self.progress));
            let Underway { batch, bytes, .. } = underway;
            let written = Written { bytes, ..batch.written() };
            self.committed(&batch, catalog, progress, written);
            batch
        }))
    }

    /// Sends what each batch has to send, and waits until all of it has arrived; returns the bytes of the messages.
    fn send_steps(&self, rounds: &Rounds, next: Option<&Underway>, catalog: &Catalog) -> Result<u64, Setback> {
        self.forget_undelivered();
        let mut bytes = 0;
        if let Some(Underway { batch, messages, .. }) = &rounds.pending {
            for (head, message) in messages.iter(batch) {
                bytes += self.send_message(batch, &head, message, &Visible::default())?;
            }
        }
        if let Some(sent) = &rounds.sent {
            self.send_ledger(&sent.batch, catalog, &sent.progress(self.progress))?;
        }
        if let Some(Underway { batch, messages, number, .. }) = next {
            self.send_audiences(batch, catalog)?;
            self.send_pending(batch, messages, catalog, *number)?;
        }
        self.flush()?;
        Ok(bytes)
    }
}
