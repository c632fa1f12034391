//! What a sync looks at every [`LOOK`], less often while brokers are away, whether it has something to send or not: its topics, and the mark in its ledger;
//! without transactions, some seconds after the start, also messages of the process before.
//!
//! Promises: a process whose ledger has another's mark ends within seconds, also if it has nothing to send; a ledger topic that
//! is gone, or another topic of its name, ends the sync with the reason; a target that is another topic is named in the log. What a process
//! that was killed had sent, and the brokers have taken only after its successor had read the topic, ends the successor: the next start has it in
//! the ledger. What comes later than [`LATE`] after the start may not be found.

use super::reconcile::uncommitted;
use super::sender::Sender;
use super::transaction::{self, Setback};
use crate::kafka::client::REQUEST;
use crate::kafka::ffi::{self, TopicDescription};
use crate::kafka::looks::{ANSWER, Looks};
use crate::kafka::sent::{self, SentMessage};
use rdkafka::producer::Producer;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use usher_core::sink::SinkError;

/// From one look to the next: how long two processes may both go on where nothing is fenced.
const LOOK: Duration = Duration::from_secs(2);
/// How long a topic is missing before it is gone: a broker that starts lists topics that it knows only after a while.
const GONE: Duration = Duration::from_secs(10);

/// How long after the start the topic is looked at for messages of the process before that the brokers have taken late: at the first look from then on.
const LATE: Duration = Duration::from_secs(5);

/// What was seen at the last look.
pub(super) struct Watch {
    /// The topics as they were when the sync was opened.
    target: TopicDescription,
    ledger: TopicDescription,
    looks: Cell<Looks>,
    /// How far the ledger is known to have no other mark. None: not at all.
    ledger_end: Cell<Option<i64>>,
    missing_since: Cell<Option<Instant>>,
    replaced: Cell<bool>,
    /// When the target is looked at for late messages, and from where on.
    late: RefCell<Option<(Instant, BTreeMap<i32, i64>)>>,
}

impl Watch {
    pub(super) fn new(target: TopicDescription, ledger: TopicDescription) -> Watch {
        Watch {
            target,
            ledger,
            looks: Cell::new(Looks::new(LOOK, Instant::now())),
            ledger_end: Cell::new(None),
            missing_since: Cell::new(None),
            replaced: Cell::new(false),
            late: RefCell::default(),
        }
    }

    /// Has the target looked at for messages of the process before, which has ended without a clean stop. They are behind `ends`.
    pub(super) fn await_late(&self, ends: BTreeMap<i32, i64>) {
        *self.late.borrow_mut() = Some((Instant::now() + LATE, ends));
    }

    /// Returns whether messages of the process before may still come.
    pub(super) fn awaits_late(&self) -> bool {
        self.late.borrow().is_some()
    }

    /// Returns the id of the target. None if the brokers are older than ids.
    pub(super) fn target_id(&self) -> Option<&str> {
        self.target.id.as_deref()
    }

    /// Returns the number of the target's partitions when the sync was opened.
    pub(super) fn target_partitions(&self) -> i32 {
        self.target.partitions
    }

    /// Returns how far the ledger is known to have no other mark.
    pub(super) fn ledger_end(&self) -> Option<i64> {
        self.ledger_end.get()
    }

    /// This process has written the ledger up to an offset, or has read it up to there.
    pub(super) fn wrote_ledger(&mut self, end: i64) {
        self.ledger_end.set(self.ledger_end.get().max(Some(end)));
    }
}

impl Sender {
    /// Looks at the topics and at the mark, if it is time to. Problems of the brokers are left to what sends.
    ///
    /// # Errors
    /// The ledger is another process's, or its topic is gone.
    pub(super) fn look(&self) -> Result<(), SinkError> {
        let watch = &self.watch;
        let mut looks = watch.looks.get();
        if !self.owned || !looks.due(Instant::now()) {
            return Ok(());
        }
        let looked = self.look_at_topics(&mut looks)?;
        watch.looks.set(looks);
        if looked && let Err(Setback::Failed(error)) = self.look_at_mark() {
            return Err(error);
        }
        let late = self.watch.late.borrow().clone();
        match late.filter(|(at, _)| looked && *at <= Instant::now()) {
            Some((_, ends)) => self.look_for_late(ends),
            None => Ok(()),
        }
    }

    /// Fails if the target has messages of the process before that were not there when this one had read it.
    fn look_for_late(&self, ends: BTreeMap<i32, i64>) -> Result<(), SinkError> {
        let (from, mut any) = (self.sent_from(ends), false);
        let read = uncommitted(&self.reader_config, self.context()).and_then(|reader| {
            let take = |_, message: SentMessage| any |= message.incarnation != from.by;
            sent::read(&reader, &self.ledger_of, &from, transaction::ANSWER, take)
        });
        // What the process before has noted of its own progress meanwhile is replaced in any case.
        match read {
            Ok(_) if any => {
                if let Err(Setback::Failed(error)) = self.send_sent(&[], Some(&from)) {
                    return Err(error);
                }
                Err(self.failed(
                    "messages of an earlier process have arrived after this one had read the topic".to_owned(),
                    "start again: the members are compared with these messages then",
                ))
            }
            Ok(_) => {
                *self.watch.late.borrow_mut() = None;
                match self.send_sent_from(Some(&from)) {
                    Err(Setback::Failed(error)) => Err(error),
                    _ => Ok(()),
                }
            }
            // The next look tries again.
            Err(problem) => {
                self.producer.client().context().report(&problem.reason);
                Ok(())
            }
        }
    }

    /// Returns whether the ledger topic is there.
    fn look_at_topics(&self, looks: &mut Looks) -> Result<bool, SinkError> {
        let (client, watch) = (self.producer.client(), &self.watch);
        let described = ffi::describe(client, &[&self.topic, &self.ledger_topic], ANSWER);
        looks.looked(described.is_ok(), Instant::now());
        let found = match described {
            Ok(found) => found,
            Err(problem) => {
                client.context().report(&problem.reason);
                return Ok(false);
            }
        };
        let [target, ledger] = &found[..] else { return Ok(false) };
        if target.as_ref().is_some_and(|target| target.id != watch.target.id) && !watch.replaced.replace(true) {
            self.warn_of_another_target();
        }
        let gone = match ledger {
            None => {
                let since = watch.missing_since.get().unwrap_or_else(Instant::now);
                watch.missing_since.set(Some(since));
                client.context().report(&format!("topic `{}` is missing", self.ledger_topic));
                since.elapsed() >= GONE
            }
            Some(ledger) => {
                watch.missing_since.set(None);
                ledger.id != watch.ledger.id
            }
        };
        if gone {
            return Err(SinkError::Failed {
                to: format!("topic `{}`, the ledger of sync `{}`,", self.ledger_topic, self.id),
                action: "written",
                reason: match ledger {
                    None => "it was deleted".to_owned(),
                    Some(_) => "it was deleted, and another topic has its name".to_owned(),
                },
                hint: "restore the topic, or start the ledger anew with `usher resend JOB SYNC`: all members are then sent again",
            });
        }
        Ok(ledger.is_some())
    }

    pub(super) fn warn_of_another_target(&self) {
        tracing::warn!(
            sync = %self.id, topic = %self.topic,
            "the topic is another one than the sync has written to (it was created again, or the job names another one), and \
             lacks what was sent before; `usher resend JOB {}` sends all members again at the next start", self.id
        );
    }

    /// Fails if another process has marked the ledger since the last look.
    pub(super) fn look_at_mark(&self) -> Result<(), Setback> {
        let (_, end) = self
            .producer
            .client()
            .fetch_watermarks(&self.ledger_topic, 0, REQUEST)
            .map_err(|error| Setback::Retry(error.to_string()))?;
        let known = self.watch.ledger_end.get();
        // With transactions a record of this process shows that it was not fenced before; its marker follows.
        let is_new = known.is_none_or(|known| if self.exactly_once { end > known + 1 } else { end > known });
        if is_new {
            self.check_owner((known.unwrap_or(0), end))?;
            self.watch.ledger_end.set(Some(end));
        }
        Ok(())
    }
}
