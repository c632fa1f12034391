//! Batches on their way without transactions, `delivery: at_least_once`.
//!
//! A batch takes two steps: its messages are sent, and once the brokers have confirmed all of them, the ledger is written. Up to [`UNDERWAY`]
//! batches are on their way at once, so a change waits for none of those before it; the ledger is written at most each [`LEDGER_EVERY`].
//!
//! Promises: batches take each step in their order, and count as committed in their order, once the ledger has them. What the topic has of a batch
//! that the ledger lacks is found after a crash: each message says of which batch it is ([`crate::kafka::sent`]), and the ledger notes each
//! [`NOTE_EVERY`], while nothing is underway each [`NOTE_IDLE_EVERY`], up to where it has all messages of the topic. Where a message does not
//! arrive, those of its batch and of all behind it are sent again, with the same ids, in order.

use super::batch::{BATCH_BYTES, BATCH_CHANGES, Batch};
use super::sender::{BACKOFF, Committed, Sender};
use super::transaction::{ARRIVED_EVERY, Setback, Wait};
use crate::kafka::client::REQUEST;
use crate::kafka::ledger::Progress;
use rdkafka::producer::Producer;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
use usher_core::catalog::Catalog;
use usher_core::sink::{SinkError, Written};

/// Batches on their way, at most.
const UNDERWAY: usize = 64;
/// How often the ledger is written at most: no message waits for it, and one request of several batches costs the brokers as much as that of one.
const LEDGER_EVERY: Duration = Duration::from_millis(10);
/// How often the ledger notes up to where it has all messages of the topic: so much of it is read after a crash.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// How often it notes where the topic ends while nothing is underway: others may write to the topic, and a start would read that.
const NOTE_IDLE_EVERY: Duration = Duration::from_secs(30);

/// A batch on its way.
struct Underway {
    batch: Box<Batch>,
    /// Its number, as [`Progress::batch`] counts.
    number: u64,
    step: Step,
    /// How many records of the step have not arrived.
    left: usize,
    /// Bytes of the messages that were sent.
    bytes: u64,
    /// How far the ledger was before it, and is with it: known with the step [`Step::Ledger`].
    progress: [Progress; 2],
}

/// What was sent of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Nothing,
    Messages,
    Ledger,
}

impl Underway {
    /// Returns the number by which the records of a step are counted as they arrive.
    fn counted_by(&self, step: Step) -> usize {
        self.number as usize * 2 + usize::from(step == Step::Ledger)
    }
}

/// The batches on their way, in their order.
#[derive(Default)]
pub(super) struct Direct {
    underway: VecDeque<Underway>,
    /// Where the topic ended before the messages of the batch with this number were sent: noted once the ledger has the batches before.
    ends: Option<(u64, BTreeMap<i32, i64>)>,
    noted_at: Option<Instant>,
    /// When the ledger was last written.
    ledger_at: Option<Instant>,
    waiting: Option<Wait>,
    /// The pause before the next try, until a batch is committed.
    backoff: Option<Duration>,
}

impl Direct {
    pub(super) fn is_empty(&self) -> bool {
        self.underway.is_empty()
    }

    /// Returns whether another batch may begin.
    pub(super) fn has_room(&self) -> bool {
        let sum = |of: fn(&Batch) -> usize| self.underway.iter().map(|underway| of(&underway.batch)).sum::<usize>();
        // With the next batch up to 60,000 records, which fit into librdkafka's queue of 100,000.
        self.underway.len() < UNDERWAY && sum(Batch::len) <= 2 * BATCH_CHANGES && sum(Batch::bytes) <= 2 * BATCH_BYTES
    }

    /// Returns when there may be something to do for batches underway; None if there are none.
    pub(super) fn next_look(&self) -> Option<Instant> {
        if self.is_empty() {
            return None;
        }
        let arrived = Instant::now() + ARRIVED_EVERY;
        // Until the ledger may be written, nothing waits for what arrives but a batch for which there is no room.
        Some(self.ledger_at.filter(|_| self.has_room()).map_or(arrived, |at| arrived.max(at + LEDGER_EVERY)))
    }

    /// Has batches sent again that have not arrived, and those behind them. All that was sent has arrived or failed.
    fn send_again(&mut self) {
        let mut step = Step::Ledger;
        for underway in &mut self.underway {
            if underway.left > 0 || underway.step == Step::Nothing {
                // Its records of the ledger are sent again where its messages have arrived.
                let before = if underway.step == Step::Ledger { Step::Messages } else { Step::Nothing };
                step = step.min(before);
            }
            if step < underway.step {
                (underway.step, underway.left) = (step, 0);
            }
        }
    }
}

impl Sender {
    /// Begins a batch, and has those underway go on. Returns the batches that are committed.
    pub(super) fn send_direct(
        &mut self,
        direct: &mut Direct,
        next: Option<Box<Batch>>,
        catalog: &Catalog,
    ) -> Result<Vec<Committed>, SinkError> {
        if let Some(batch) = next {
            let number = direct.underway.back().map_or(self.progress.batch, |last| last.number) + 1;
            // The start has noted it first.
            let noted_at = direct.noted_at.get_or_insert_with(Instant::now);
            if noted_at.elapsed() >= NOTE_EVERY && direct.ends.is_none() && !self.watch.awaits_late() {
                *noted_at = Instant::now();
                direct.ends = Some((number, self.ends.clone()));
            }
            let progress = [self.progress; 2];
            direct.underway.push_back(Underway { batch, number, step: Step::Nothing, left: 0, bytes: 0, progress });
        } else if direct.is_empty() {
            self.note_while_idle(direct);
        }
        while let Err(setback) = self.go_on(direct, catalog) {
            // The producer is replaced then: what it has sent must not arrive behind what comes again, whether it was refused or not.
            if matches!(setback, Setback::TooLarge(_)) {
                let _ = self.flush();
            }
            self.take_setback(setback, direct.backoff.get_or_insert(BACKOFF))?;
            self.settle(direct)?;
        }
        let mut committed = Vec::new();
        while let Some(Underway { batch, bytes, progress: [before, after], .. }) =
            direct.underway.pop_front_if(|first| first.step == Step::Ledger && first.left == 0)
        {
            let written = Written { bytes, ..batch.written() };
            self.committed(&batch, catalog, after, written);
            direct.backoff = None;
            committed.push(Committed { batch, before, progress: after });
        }
        Ok(committed)
    }

    /// Notes from time to time where the topic ends. Nothing is underway: the ledger has all before that.
    fn note_while_idle(&mut self, direct: &mut Direct) {
        let noted_at = direct.noted_at.get_or_insert_with(Instant::now);
        if noted_at.elapsed() < NOTE_IDLE_EVERY || self.watch.awaits_late() {
            return;
        }
        *noted_at = Instant::now();
        let end = |partition| {
            self.producer.client().fetch_watermarks(&self.own.topic, partition, REQUEST).map(|(_, end)| end)
        };
        let ends = (0..self.watch.target_partitions()).map(|partition| Some((partition, end(partition).ok()?)));
        // Where the brokers do not answer, the next time does.
        let Some(ends) = ends.collect::<Option<BTreeMap<_, _>>>() else { return };
        if ends != self.ends && self.send_sent_from(Some(&self.watch.sent_from(ends.clone()))).is_ok() {
            self.ends = ends;
        }
    }

    /// Sends what the batches have to send now.
    fn go_on(&mut self, direct: &mut Direct, catalog: &Catalog) -> Result<(), Setback> {
        self.producer.poll(Duration::ZERO);
        let some = self.count_arrived(direct);
        if let Some(undelivered) = self.producer.client().context().take_undelivered() {
            return Err(self.of_undelivered(undelivered));
        }
        // Not more often, unless no other batch may begin, or none will.
        let writes_ledger = direct.ledger_at.is_none_or(|at| at.elapsed() >= LEDGER_EVERY)
            || !direct.has_room()
            || self.shared.lock().closing;
        let mut before = Some(self.progress).filter(|_| writes_ledger);
        for underway in &mut direct.underway {
            if underway.step == Step::Nothing {
                if self.send_audiences(&underway.batch, catalog)? {
                    // A message must not be found whose audience the ledger does not know.
                    self.flush()?;
                    self.note_audiences(&underway.batch, catalog);
                }
                let number = underway.counted_by(Step::Messages);
                let (bytes, left) =
                    self.count(number, |sender| sender.send_messages(&underway.batch, underway.number))?;
                (underway.step, underway.left, underway.bytes) = (Step::Messages, left, bytes);
            }
            if let Some(progress) = before.filter(|_| underway.step == Step::Messages && underway.left == 0) {
                let clock = underway.batch.changes().map(|change| change.at).fold(progress.clock, u64::max);
                let next = Progress { batch: underway.number, clock, ..progress };
                let sent_from = direct.ends.take_if(|(number, _)| *number <= underway.number + 1);
                let number = underway.counted_by(Step::Ledger);
                let ((), left) = self.count(number, |sender| {
                    sender.send_ledger(&underway.batch, catalog, &next)?;
                    sent_from.map_or(Ok(()), |(_, ends)| sender.send_sent_from(Some(&sender.watch.sent_from(ends))))
                })?;
                (underway.step, underway.left) = (Step::Ledger, left);
                direct.ledger_at = Some(Instant::now());
                underway.progress = [progress, underway.batch.counted(next)];
            }
            before = (writes_ledger && underway.step == Step::Ledger).then_some(underway.progress[1]);
        }
        let awaits_some = direct.underway.iter().any(|underway| underway.left > 0);
        match some || !awaits_some {
            true => direct.waiting = None,
            false => {
                let count = self.producer.in_flight_count();
                let wait = direct.waiting.get_or_insert_with(Wait::begin);
                self.check_waiting(wait, |seconds| format!("{count} messages have not arrived for {seconds} s"))?;
            }
        }
        Ok(())
    }

    /// Counts what has arrived. Returns whether anything has.
    fn count_arrived(&mut self, direct: &mut Direct) -> bool {
        let arrived = self.producer.client().context().take_arrived();
        for underway in &mut direct.underway {
            let count = arrived.get(&underway.counted_by(underway.step)).copied().unwrap_or(0);
            underway.left -= count.min(underway.left);
        }
        self.note_delivered();
        !arrived.is_empty()
    }

    /// After a setback: waits until all that was sent has arrived or failed, and has sent again what has not arrived.
    fn settle(&mut self, direct: &mut Direct) -> Result<(), SinkError> {
        while let Err(setback) = self.flush() {
            self.take_setback(setback, direct.backoff.get_or_insert(BACKOFF))?;
        }
        self.forget_undelivered();
        self.count_arrived(direct);
        direct.send_again();
        direct.waiting = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn underway(number: u64, (step, left): (Step, usize)) -> Underway {
        let progress = [Progress::default(); 2];
        Underway { batch: Box::new(Batch::of(1, 1)), number, step, left, bytes: 0, progress }
    }

    #[test]
    fn what_arrives_is_looked_at_when_the_ledger_may_be_written_or_sooner_where_there_is_no_room() {
        let written = Instant::now();
        let looks = |batches: usize| {
            let underway = (1..).take(batches).map(|number| underway(number, (Step::Messages, 1))).collect();
            let direct = Direct { underway, ledger_at: Some(written), ..Direct::default() };
            direct.next_look().map(|look| look >= written + LEDGER_EVERY)
        };
        assert_eq!([0, 1, UNDERWAY - 1].map(looks), [None, Some(true), Some(true)]);
        let later = written + Duration::from_secs(3_600);
        let full = (1..).take(UNDERWAY).map(|number| underway(number, (Step::Messages, 1))).collect();
        let direct = Direct { underway: full, ledger_at: Some(later), ..Direct::default() };
        assert!(direct.next_look().unwrap() < later, "the ledger may be written only then");
    }

    #[test]
    fn what_has_not_arrived_is_sent_again_with_all_behind_it() {
        use Step::{Ledger, Messages, Nothing};
        let again = |before: &[(Step, usize)]| {
            let underway = (1..).zip(before).map(|(number, state)| underway(number, *state)).collect();
            let mut direct = Direct { underway, ..Direct::default() };
            direct.send_again();
            direct.underway.iter().map(|underway| (underway.step, underway.left)).collect::<Vec<_>>()
        };
        let all_arrived = [(Ledger, 0), (Messages, 0), (Messages, 0)];
        assert_eq!(again(&all_arrived), all_arrived);
        // A message that comes again comes before those of later batches.
        assert_eq!(again(&[(Ledger, 0), (Messages, 2), (Messages, 0)]), [(Ledger, 0), (Nothing, 0), (Nothing, 0)]);
        assert_eq!(again(&[(Messages, 0), (Nothing, 0), (Messages, 0)]), [(Messages, 0), (Nothing, 0), (Nothing, 0)]);
        // The ledger is written again in the order of batches, and no message is sent again for that.
        assert_eq!(again(&[(Ledger, 1), (Ledger, 0), (Messages, 0)]), [(Messages, 0), (Messages, 0), (Messages, 0)]);
        assert_eq!(again(&[(Ledger, 3), (Messages, 1), (Messages, 0)]), [(Messages, 0), (Nothing, 0), (Nothing, 0)]);
    }
}
