//! What a thread of its own looks at every [`LOOK`], less often while brokers are away, whether the sync has something to send or not: its topics, and
//! the mark in its ledger; without transactions, some seconds after the start, also messages of the process before. What sends waits for none of it: a
//! look under load takes as long as some hundred changes do.
//!
//! Promises: a process whose ledger has another's mark ends within seconds, also if it has nothing to send; a ledger topic that
//! is gone, or another topic of its name, ends the sync with the reason; a target that is another topic is named in the log. What a process
//! that was killed had sent, and the brokers have taken only after its successor had read the topic, ends the successor: the next start has it in
//! the ledger. What comes later than [`LATE`] after the start may not be found.

use super::reconcile::uncommitted;
use super::sender::{OwnSync, Sender};
use super::transaction::{self, Setback};
use crate::kafka::client::{Reader, ends};
use crate::kafka::error::Problem;
use crate::kafka::ffi::{self, TopicDescription};
use crate::kafka::ledger;
use crate::kafka::looks::{ANSWER, Looks};
use crate::kafka::sent::{self, SentFrom, SentMessage};
use rdkafka::consumer::Consumer;
use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use usher_core::lock::lock;
use usher_core::sink::SinkError;

/// From one look to the next: how long two processes may both go on where nothing is fenced.
const LOOK: Duration = Duration::from_secs(2);
/// How long a topic is missing before it is gone: a broker that starts lists topics that it knows only after a while.
const GONE: Duration = Duration::from_secs(10);

/// How long after the start the topic is looked at for messages of the process before that the brokers have taken late: at the first look from then on.
const LATE: Duration = Duration::from_secs(5);

/// What the looks and what sends share.
pub(super) struct Watch {
    own: Arc<OwnSync>,
    reader: Arc<Reader>,
    /// The topics as they were when the sync was opened.
    target: TopicDescription,
    ledger: TopicDescription,
    /// How far the ledger is known to have no other mark. None: not at all.
    ledger_end: Mutex<Option<i64>>,
    /// When the target is looked at for late messages, and from where on.
    late: Mutex<Option<(Instant, BTreeMap<i32, i64>)>>,
    /// What a look has found, until what sends acts on it.
    found: Mutex<Option<Found>>,
}

/// What what sends acts on.
enum Found {
    /// The ledger is another process's, or its topic is gone.
    Failed(SinkError),
    /// The target has messages of the process before, from here on.
    Late(SentFrom),
    /// It has none.
    NoneLate(SentFrom),
}

/// The thread that looks. It ends with this.
pub(super) struct Watching {
    thread: Option<JoinHandle<()>>,
    runs: Option<mpsc::Sender<()>>,
}

impl Watch {
    pub(super) fn new(
        own: Arc<OwnSync>,
        reader: Arc<Reader>,
        (target, ledger): (TopicDescription, TopicDescription),
    ) -> Watch {
        let (ledger_end, late, found) = Default::default();
        Watch { own, reader, target, ledger, ledger_end, late, found }
    }

    /// Begins to look.
    pub(super) fn start(self: &Arc<Watch>) -> Watching {
        let (runs, ended) = mpsc::channel();
        let mut looking = Looking {
            watch: Arc::clone(self),
            looks: Looks::new(LOOK, Instant::now()),
            missing_since: None,
            replaced: false,
        };
        let run = move || {
            while ended.recv_timeout(looking.looks.left(Instant::now())) == Err(RecvTimeoutError::Timeout) {
                let Some(found) = looking.look() else { continue };
                let failed = matches!(found, Found::Failed(_));
                *lock(&looking.watch.found) = Some(found);
                if failed {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name(format!("watch {}", self.own.id)).spawn(run);
        Watching { thread: Some(thread.expect("the system can start a thread")), runs: Some(runs) }
    }

    /// Has the target looked at for messages of the process before, which has ended without a clean stop. They are behind `ends`.
    pub(super) fn await_late(&self, ends: BTreeMap<i32, i64>) {
        *lock(&self.late) = Some((Instant::now() + LATE, ends));
    }

    /// Returns whether messages of the process before may still come.
    pub(super) fn awaits_late(&self) -> bool {
        lock(&self.late).is_some()
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
        *lock(&self.ledger_end)
    }

    /// The ledger has no other mark before an offset: this process has written it up to there, or has read it.
    pub(super) fn wrote_ledger(&self, end: i64) {
        let mut known = lock(&self.ledger_end);
        *known = known.max(Some(end));
    }

    /// Returns the record of the ledger by which it has all messages before `ends`.
    pub(super) fn sent_from(&self, ends: BTreeMap<i32, i64>) -> SentFrom {
        SentFrom {
            by: format!("{:016x}", self.own.incarnation),
            topic: self.own.topic.clone(),
            id: self.target_id().map(str::to_owned),
            ends,
        }
    }

    pub(super) fn warn_of_another_target(&self) {
        tracing::warn!(
            sync = %self.own.id, topic = %self.own.topic,
            "the topic is another one than the sync has written to (it was created again, or the job names another one), and \
             lacks what was sent before; `usher resend JOB {}` sends all members again at the next start", self.own.id
        );
    }

    /// Returns whether another process has marked the ledger since the last look.
    pub(super) fn is_marked_by_another(&self) -> Result<bool, Problem> {
        let (_, end) = ends(self.reader.base(), &self.own.ledger_topic, 0)?;
        let known = self.ledger_end();
        // With transactions a record of this process shows that it was not fenced before; its marker follows.
        let is_new = known.is_none_or(|known| if self.own.exactly_once { end > known + 1 } else { end > known });
        if !is_new {
            return Ok(false);
        }
        let between = (known.unwrap_or(0), end);
        let mark = ledger::mark_between(&self.reader, &self.own.ledger_topic, between, transaction::ANSWER)?;
        if mark.is_some_and(|mark| mark.incarnation != self.own.incarnation) {
            return Ok(true);
        }
        self.wrote_ledger(end);
        Ok(false)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.runs = None;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a panic of the thread is a bug");
        }
    }
}

/// The state of the thread that looks.
struct Looking {
    watch: Arc<Watch>,
    looks: Looks,
    missing_since: Option<Instant>,
    replaced: bool,
}

impl Looking {
    /// Looks at the topics, at the mark, and for late messages. Problems of the brokers are left to what sends.
    fn look(&mut self) -> Option<Found> {
        match self.look_at_topics() {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => return Some(Found::Failed(error)),
        }
        let watch = &self.watch;
        if watch.is_marked_by_another().is_ok_and(|marked| marked) {
            return Some(Found::Failed(watch.own.superseded()));
        }
        let late = lock(&watch.late).clone();
        let (_, ends) = late.filter(|(at, _)| *at <= Instant::now())?;
        let (from, mut any) = (watch.sent_from(ends), false);
        let read = uncommitted(&watch.own.reader_config, watch.own.context()).and_then(|reader| {
            let take = |_, message: SentMessage| any |= message.incarnation != from.by;
            sent::read(&reader, &watch.own.ledger_of, &from, transaction::ANSWER, take)
        });
        match read {
            Ok(_) if any => Some(Found::Late(from)),
            Ok(_) => Some(Found::NoneLate(from)),
            // The next look tries again.
            Err(problem) => {
                watch.reader.context().report(&problem.reason);
                None
            }
        }
    }

    /// Returns whether the ledger topic is there.
    fn look_at_topics(&mut self) -> Result<bool, SinkError> {
        let Watch { own, reader, target: opened_target, ledger: opened_ledger, .. } = &*self.watch;
        let described = ffi::describe(reader.base().client(), &[&own.topic, &own.ledger_topic], ANSWER);
        self.looks.looked(described.is_ok(), Instant::now());
        let found = match described {
            Ok(found) => found,
            Err(problem) => {
                reader.context().report(&problem.reason);
                return Ok(false);
            }
        };
        let [target, ledger] = &found[..] else { return Ok(false) };
        if target.as_ref().is_some_and(|target| target.id != opened_target.id)
            && !std::mem::replace(&mut self.replaced, true)
        {
            self.watch.warn_of_another_target();
        }
        let gone = match ledger {
            None => {
                let since = *self.missing_since.get_or_insert_with(Instant::now);
                reader.context().report(&format!("topic `{}` is missing", own.ledger_topic));
                since.elapsed() >= GONE
            }
            Some(ledger) => {
                self.missing_since = None;
                ledger.id != opened_ledger.id
            }
        };
        if gone {
            return Err(SinkError::Failed {
                to: format!("topic `{}`, the ledger of sync `{}`,", own.ledger_topic, own.id),
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
}

impl Sender {
    /// Acts on what a look has found, if one has.
    ///
    /// # Errors
    /// The ledger is another process's, or its topic is gone; the target has messages of the process before.
    pub(super) fn heed_look(&self) -> Result<(), SinkError> {
        let found = lock(&self.watch.found).take();
        match found {
            None => Ok(()),
            Some(Found::Failed(error)) => Err(error),
            // What the process before has noted of its own progress meanwhile is replaced in any case.
            Some(Found::Late(from)) => {
                if let Err(Setback::Failed(error)) = self.send_sent(&[], Some(&from)) {
                    return Err(error);
                }
                Err(self.own.failed(
                    "messages of an earlier process have arrived after this one had read the topic".to_owned(),
                    "start again: the members are compared with these messages then",
                ))
            }
            Some(Found::NoneLate(from)) => {
                *lock(&self.watch.late) = None;
                match self.send_sent_from(Some(&from)) {
                    Err(Setback::Failed(error)) => Err(error),
                    _ => Ok(()),
                }
            }
        }
    }
}
