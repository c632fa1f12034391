//! A topic as the destination of a sync's changes.
//!
//! A thread of its own takes what is handed over and sends it in turns: a turn's changes, and what they make of what the sync
//! was told (see `told`), are one transaction, so that both are there or neither. A turn ends `commit_every` after the last
//! one at most, and at once when nothing was going on; none is larger than [`TURN_CHANGES`], so that a first fill is spread
//! over many short ones. A turn is kept in memory until it is told: one that fails is sent again with the same ids, by a
//! new producer, after that one has ended what the old one had begun and has seen by the log that it was not told. The last
//! ones that were told are kept too ([`KEPT_BYTES`]): brokers that went away may have lost what they said was committed; then
//! those are sent again, in order, with the same ids.
//!
//! With `delivery: at_least_once` there are no transactions: what is about to be sent goes into the log, then changes go, then
//! what was told, each when the one before has arrived. What is then in the log and not told is sent again at the next start,
//! with the same ids.
//!
//! Of each sync there is one transactional id, `usher.JOB.SYNC`, however many workers there are. Opening it fences whoever
//! had it and rolls back what they had begun; only then is read what was told.

use super::Variable;
use super::client::{Context, PATIENCE, Problem, REQUEST, Reader, code, insist, missing, not_made, problem, settings};
use super::ffi::{self, Described};
use super::ledger::{self, PROGRESS, Pending, Progress};
use crate::messages::{Messages, filter};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use usher_core::catalog::Catalog;
use usher_core::change::{Change, ChangeKind, Changes, Filter};
use usher_core::ledger::LedgerAudience;
use usher_core::message::MessageId;
use usher_core::sink::{OpenedSync, Sink, SinkError, SyncStatus, Written};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use usher_config::{Delivery, KafkaTarget};

/// Bytes of changes that may wait before the job is held back: 32 MiB, some 300,000 changes.
const WAITING_BYTES: usize = 32 << 20;
/// Changes of a turn: 20,000 are sent in some 100 ms, where a transaction may take 60 s.
const TURN_CHANGES: usize = 20_000;
/// How often turns are sent without transactions, at most: what comes within it is sent together.
const TOGETHER: Duration = Duration::from_millis(2);
/// Bytes of turns kept after they were told: 2 MiB, a second of 20,000 changes/s; one is kept however large it is.
const KEPT_BYTES: usize = 2 << 20;
/// Changes queued as one piece.
const PIECE_CHANGES: usize = 4096;
/// What a waiting change takes besides its texts.
const CHANGE_BYTES: usize = 64;
/// How long one call of librdkafka may wait for brokers before the sync's standing says so.
const CALL: Duration = Duration::from_secs(2);
/// How often it is looked whether all has arrived.
const ARRIVED: Duration = Duration::from_micros(200);
/// How long a commit may have no answer before another producer finds out what became of it: a restart of a broker is over.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a sync that ends waits for brokers that do not answer. What is not told then is told at the next start.
const FINISH: Duration = Duration::from_secs(30);
/// Between a turn that failed and the next try, at first, …
const BACKOFF: Duration = Duration::from_millis(50);
/// … and at most.
const BACKOFF_MOST: Duration = Duration::from_secs(5);

const DEFAULTS: [(&str, &str); 2] = [
    // The cheapest for both ends; JSON shrinks to a fifth.
    ("compression.type", "lz4"),
    // A turn is a batch already.
    ("linger.ms", "0.5"),
];

/// A sync to Kafka, as the job has it.
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
}

impl SyncSpec<'_> {
    fn failed(&self, action: &'static str, problem: Problem) -> SinkError {
        let to = name(self.target);
        SinkError::Failed { to, action, reason: problem.reason, hint: problem.hint }
    }

    fn context(&self) -> Context {
        Context::new(format!("sync {}", self.id), &self.target.kafka.brokers)
    }

    fn exactly_once(&self) -> bool {
        self.target.delivery == Delivery::ExactlyOnce
    }
}

fn name(target: &KafkaTarget) -> String {
    format!("topic `{}` of `{}`", target.topic, target.kafka.brokers)
}

/// Fences older processes of the sync, and reads what they told.
///
/// Creates the topic where it is missing and the job says how many partitions it has, and the sync's own one. Waits for
/// brokers that do not answer, 30 s at most.
pub fn open_sync(spec: &SyncSpec<'_>, variable: Variable<'_>) -> Result<OpenedSync, SinkError> {
    let failed = |problem| spec.failed("opened", problem);
    let config = producer_settings(spec, variable).map_err(failed)?;
    let reading = reader_settings(spec, variable).map_err(failed)?;
    let ledger_topic = ledger::topic(spec.job, spec.id);
    let reader = Arc::new(Reader::start(&reading, spec.context(), |_| ()).map_err(failed)?);
    let found = look(spec, &reader, &ledger_topic).map_err(failed)?;
    create_missing(spec, &reader, &ledger_topic, &found, variable).map_err(failed)?;
    let producer = producer(spec.context(), &config).map_err(failed)?;
    if spec.exactly_once() {
        fence(&producer, PATIENCE).map_err(failed)?;
    }
    let log = ledger::read(&reader, &ledger_topic, PATIENCE).map_err(failed)?;
    drop(reader);
    let mut sender = Sender {
        id: spec.id.to_owned(),
        name: name(spec.target),
        topic: spec.target.topic.clone(),
        ledger_topic,
        producer,
        config,
        reading,
        brokers: spec.target.kafka.brokers.clone(),
        exactly_once: spec.exactly_once(),
        progress: log.progress,
        messages: Messages::of(spec.sync, Arc::new(Catalog::new(spec.job, []))),
        audiences: log.audiences,
        broken: None,
        kept: VecDeque::new(),
        kept_bytes: 0,
        deadline: None,
        shared: Arc::default(),
    };
    if sender.exactly_once {
        // Whoever is fenced by this looks for it.
        sender.progress.run += 1;
        sender.deadline = Some(Instant::now() + PATIENCE);
        sender.turn(&Turn::default(), &Catalog::new(spec.job, []))?;
        sender.deadline = None;
    }
    if !log.pending.is_empty() {
        tracing::info!(sync = spec.id, messages = log.pending.len(), "what may not have been sent is sent again");
        sender.send_again(&log.pending).map_err(|setback| match setback {
            Setback::End(error) => error,
            Setback::Again(reason) | Setback::Renew(reason) => sender.failed(reason, "see that the brokers run"),
        })?;
    }
    let every = if sender.exactly_once { Duration::from_millis(spec.target.commit_every) } else { TOGETHER };
    let (sync, index) = (spec.sync.clone(), spec.index);
    let any = log.ledger.any;
    Ok(OpenedSync {
        ledger: log.ledger,
        start: Box::new(move |catalog| {
            let filter = filter(index, &sync, &catalog);
            sender.messages = Messages::of(&sync, Arc::clone(&catalog));
            Box::new(KafkaSink::start(sender, catalog, filter, every, any))
        }),
    })
}

/// Whether the sync could be opened: looks, changes nothing and fences nobody.
pub fn check_sync(spec: &SyncSpec<'_>, variable: Variable<'_>) -> Result<(), SinkError> {
    let failed = |problem| spec.failed("opened", problem);
    producer_settings(spec, variable).map_err(failed)?;
    let reading = reader_settings(spec, variable).map_err(failed)?;
    let ledger_topic = ledger::topic(spec.job, spec.id);
    let reader = Arc::new(Reader::start(&reading, spec.context(), |_| ()).map_err(failed)?);
    let found = look(spec, &reader, &ledger_topic).map_err(failed)?;
    if found.ledger.is_some() {
        check_told(spec, &ledger_topic, variable).map_err(failed)?;
    }
    Ok(())
}

fn producer_settings(spec: &SyncSpec<'_>, variable: Variable<'_>) -> Result<ClientConfig, Problem> {
    let id = format!("usher.{}.{}", spec.job, spec.id);
    let mut ours = vec![
        ("enable.idempotence", "true"),
        // As Java's clients do, so that a key's changes are where joins and tables look for them.
        ("partitioner", "murmur2_random"),
    ];
    if spec.exactly_once() {
        ours.push(("transactional.id", &id));
    } else {
        // Tried until it arrives; a transaction's own time bounds its messages.
        ours.push(("message.timeout.ms", "0"));
    }
    settings(&spec.target.kafka, &DEFAULTS, &ours, variable)
}

fn reader_settings(spec: &SyncSpec<'_>, variable: Variable<'_>) -> Result<ClientConfig, Problem> {
    let ours = [
        ("isolation.level", "read_committed"),
        ("enable.partition.eof", "true"),
        ("auto.offset.reset", "error"),
        ("enable.auto.commit", "false"),
    ];
    settings(&spec.target.kafka, &[("fetch.queue.backoff.ms", "2")], &ours, variable)
}

/// The topics of a sync, as they were found.
struct Found {
    target: Option<Described>,
    ledger: Option<Described>,
}

/// Looks for the topics. A target that is missing and can't be created is a problem.
fn look(spec: &SyncSpec<'_>, reader: &Reader, ledger_topic: &str) -> Result<Found, Problem> {
    let (client, context) = (reader.base().client(), reader.context());
    let names = [&spec.target.topic[..], ledger_topic];
    let mut found = insist(context, PATIENCE, || ffi::describe(client, &names, REQUEST))?;
    let (ledger, target) = (found.pop().flatten(), found.pop().flatten());
    if target.is_none() && spec.target.partitions.is_none() {
        let hint =
            "create the topic, correct its name, or say `partitions: N` in the sync's `to.kafka` to have it created";
        return Err(Problem { hint, ..missing(client, context, &spec.target.topic) });
    }
    Ok(Found { target, ledger })
}

/// Creates what is missing; looks at the settings of a topic of what was told that is there.
fn create_missing(
    spec: &SyncSpec<'_>,
    reader: &Reader,
    ledger_topic: &str,
    found: &Found,
    variable: Variable<'_>,
) -> Result<(), Problem> {
    let mut new = Vec::new();
    if let (None, Some(partitions)) = (&found.target, spec.target.partitions) {
        let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        new.push(NewTopic::new(&spec.target.topic, partitions, TopicReplication::Fixed(-1)));
    }
    match found.ledger {
        Some(_) => check_told(spec, ledger_topic, variable)?,
        None => new.push(
            NewTopic::new(ledger_topic, 1, TopicReplication::Fixed(-1))
                .set("cleanup.policy", "compact")
                // A start reads what is not yet compacted too: a tenth of it at most, but for the newest hour.
                .set("min.cleanable.dirty.ratio", "0.1")
                .set("segment.ms", "3600000"),
        ),
    }
    if new.is_empty() {
        return Ok(());
    }
    let admin = admin(spec, variable)?;
    let created = insist(reader.context(), PATIENCE, || {
        let options = AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST));
        answer(admin.create_topics(&new, &options), "creating topics")
    })?;
    for result in created {
        match result {
            Ok(topic) => tracing::info!(sync = spec.id, %topic, "created a topic"),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(problem(code, &format!("topic `{topic}` can't be created"))),
        }
    }
    // It is created before all brokers know of it.
    let names: Vec<&str> = new.iter().map(|topic| topic.name).collect();
    insist(reader.context(), PATIENCE, || {
        let found = ffi::describe(reader.base().client(), &names, REQUEST)?;
        if found.iter().all(Option::is_some) {
            return Ok(());
        }
        Err(Problem {
            reason: "a new topic is not there yet".to_owned(),
            hint: "see that the brokers run",
            passes: true,
        })
    })
}

/// That the topic of what was told keeps the latest record of each key, for ever.
fn check_told(spec: &SyncSpec<'_>, ledger_topic: &str, variable: Variable<'_>) -> Result<(), Problem> {
    let admin = admin(spec, variable)?;
    let asked = [ResourceSpecifier::Topic(ledger_topic)];
    let found = insist(admin.inner().context(), PATIENCE, || {
        let options = AdminOptions::new().request_timeout(Some(REQUEST));
        answer(admin.describe_configs(&asked, &options), "the settings of a topic")
    })?;
    for resource in found {
        match resource {
            Err(code) => {
                tracing::warn!(
                    topic = ledger_topic,
                    "the topic's settings can't be seen: {code}; it has to have `cleanup.policy=compact`"
                );
            }
            Ok(resource) => {
                let policy = resource.get("cleanup.policy").and_then(|entry| entry.value.clone()).unwrap_or_default();
                if policy != "compact" {
                    return Err(Problem {
                        reason: format!(
                            "topic `{ledger_topic}`, which holds what the sync was told, has `cleanup.policy={policy}`"
                        ),
                        hint: "set its `cleanup.policy` to `compact`: what is deleted from it would be told again",
                        passes: false,
                    });
                }
            }
        }
    }
    Ok(())
}

fn admin(spec: &SyncSpec<'_>, variable: Variable<'_>) -> Result<AdminClient<Context>, Problem> {
    let config = settings(&spec.target.kafka, &[], &[], variable)?;
    config.create_with_context(spec.context()).map_err(|error| not_made(&error))
}

/// Waits for the answer to a request, which ends by its own timeout.
fn answer<T>(request: impl Future<Output = KafkaResult<T>>, what: &str) -> Result<T, Problem> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers needs nothing");
    runtime.block_on(request).map_err(|error| problem(code(&error), what))
}

fn producer(context: Context, config: &ClientConfig) -> Result<BaseProducer<Context>, Problem> {
    config.create_with_context(context).map_err(|error| not_made(&error))
}

/// Ends what older processes had begun, and keeps them from writing.
fn fence(producer: &BaseProducer<Context>, patience: Duration) -> Result<(), Problem> {
    insist(producer.client().context(), patience, || {
        let result = producer.init_transactions(REQUEST);
        producer.poll(Duration::ZERO);
        result.map_err(|error| match &error {
            KafkaError::Transaction(inner)
                if !inner.is_retriable() && inner.code() != RDKafkaErrorCode::OperationTimedOut =>
            {
                Problem { passes: false, ..problem(inner.code(), "the sync's transactional id") }
            }
            _ => problem(code(&error), "the sync's transactional id"),
        })
    })
}

/// What is sent at once.
#[derive(Default)]
struct Turn {
    changes: Changes,
    /// Whether each is sent, or only taken for told.
    sent: Vec<bool>,
    /// Up to where all changes were handed over with it; none: the last of them is still to come.
    until: Option<u64>,
}

impl Turn {
    fn bytes(&self) -> usize {
        let text = |change| self.changes.key(change).len() + self.changes.row(change).len();
        self.changes.iter().map(|change| CHANGE_BYTES + text(change)).sum()
    }

    /// What of it is sent; bytes are not known before.
    fn written(&self) -> Written {
        let sent = || self.changes.iter().zip(&self.sent).filter(|(_, sent)| **sent);
        let entries = sent().filter(|(change, _)| change.kind == ChangeKind::Entry).count() as u64;
        Written { entries, exits: sent().count() as u64 - entries, bytes: 0 }
    }

    fn append(&mut self, mut other: Turn) {
        self.changes.append(&other.changes);
        self.sent.append(&mut other.sent);
        self.until = other.until.or(self.until);
    }
}

/// What the sink and its thread share.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Something has changed: for both sides.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Turn>,
    /// Of what is queued or being sent.
    bytes: usize,
    changes: u64,
    /// What is queued is not to wait for more.
    closing: bool,
    /// The sink is gone: nothing more is sent.
    gone: bool,
    sending: bool,
    ended: bool,
    until: u64,
    committed: u64,
    standing: SyncStatus,
    error: Option<SinkError>,
}

impl State {
    /// With nothing on its way, all that was handed over is told.
    fn settle(&mut self) {
        if self.queue.is_empty() && !self.sending {
            self.committed = self.until;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with the lock")
    }
}

/// What comes next for the thread.
enum Next {
    Turn(Box<Turn>),
    /// Nothing for now.
    Nothing,
    Done,
}

/// Why a turn did not succeed.
enum Setback {
    /// It can be sent again.
    Again(String),
    /// The producer is of no use any more, and what became of the turn is not known.
    Renew(String),
    End(SinkError),
}

/// The thread's side.
struct Sender {
    id: String,
    name: String,
    topic: String,
    ledger_topic: String,
    producer: BaseProducer<Context>,
    config: ClientConfig,
    reading: ClientConfig,
    brokers: String,
    exactly_once: bool,
    progress: Progress,
    /// How messages are written.
    messages: Messages,
    /// Those whose record was written.
    audiences: BTreeMap<String, LedgerAudience>,
    /// Why the producer is of no use any more.
    broken: Option<String>,
    /// The last turns that were told, with what the log said then, and their bytes.
    kept: VecDeque<(Progress, Box<Turn>)>,
    kept_bytes: usize,
    /// What is not told by then is an error; none: it is tried for as long as the sync is wanted.
    deadline: Option<Instant>,
    shared: Arc<Shared>,
}

impl Sender {
    fn run(mut self, catalog: &Catalog, every: Duration) {
        let mut last: Option<Instant> = None;
        loop {
            match self.next(last.map(|last| last + every)) {
                Next::Done => break,
                Next::Nothing => self.producer.poll(Duration::ZERO),
                Next::Turn(turn) => {
                    last = Some(Instant::now());
                    let result = self.turn(&turn, catalog);
                    let mut state = self.shared.lock();
                    state.sending = false;
                    if let Err(error) = result {
                        state.standing.last_error = Some(error.to_string());
                        state.error = Some(error);
                        break;
                    }
                    state.bytes -= turn.bytes();
                    state.changes -= turn.changes.len() as u64;
                    state.standing.committed += turn.changes.len() as u64;
                    if let Some(until) = turn.until {
                        state.committed = until;
                    }
                    state.settle();
                    drop(state);
                    self.shared.changed.notify_all();
                    self.keep(turn);
                }
            }
        }
        let mut state = self.shared.lock();
        state.ended = true;
        self.shared.changed.notify_all();
    }

    /// Waits until a turn is due: at `at` at the earliest, unless there is enough for one.
    fn next(&self, at: Option<Instant>) -> Next {
        let mut state = self.shared.lock();
        let wake = Instant::now() + Duration::from_millis(500);
        loop {
            if state.gone {
                return Next::Done;
            }
            let now = Instant::now();
            let until = if state.queue.is_empty() {
                if state.closing {
                    return Next::Done;
                }
                wake
            } else {
                let enough = state.closing || state.changes as usize >= TURN_CHANGES;
                match at {
                    Some(at) if at > now && !enough => at,
                    _ => break,
                }
            };
            if now >= until {
                return Next::Nothing;
            }
            (state, _) = self.shared.changed.wait_timeout(state, until - now).expect("nobody panics with the lock");
        }
        let mut turn = state.queue.pop_front().expect("it is not empty");
        while let Some(more) = state.queue.front()
            && turn.changes.len() + more.changes.len() <= TURN_CHANGES
        {
            let more = state.queue.pop_front().expect("it is not empty");
            turn.append(more);
        }
        state.sending = true;
        Next::Turn(Box::new(turn))
    }

    /// Sends a turn until it is told.
    fn turn(&mut self, turn: &Turn, catalog: &Catalog) -> Result<(), SinkError> {
        let mut progress = self.progress;
        progress.turn += u64::from(turn.until.is_some() || !turn.changes.is_empty());
        progress.clock = turn.changes.iter().map(|change| change.at).fold(progress.clock, u64::max);
        let mut backoff = BACKOFF;
        loop {
            let tried = match self.broken.take() {
                None => self.attempt(turn, catalog, &progress),
                Some(reason) => self.renew(turn, catalog, &progress, reason),
            };
            match tried {
                Ok(written) => {
                    self.progress = progress;
                    for change in &turn.changes {
                        let id = catalog.id(change.audience);
                        if self.audiences.get(id).is_none_or(|known| *known != catalog.audience(change.audience)) {
                            self.audiences.insert(id.to_owned(), catalog.audience(change.audience));
                        }
                    }
                    self.producer.client().context().content();
                    let mut state = self.shared.lock();
                    state.standing.last_error = None;
                    state.standing.written.entries += written.entries;
                    state.standing.written.exits += written.exits;
                    state.standing.written.bytes += written.bytes;
                    return Ok(());
                }
                Err(Setback::End(error)) => return Err(error),
                Err(Setback::Again(reason)) => self.wait(reason, &mut backoff)?,
                Err(Setback::Renew(reason)) => {
                    self.broken = Some(reason.clone());
                    self.wait(reason, &mut backoff)?;
                }
            }
        }
    }

    /// Keeps a turn that was told, and lets go of those that are too long ago.
    fn keep(&mut self, turn: Box<Turn>) {
        if !self.exactly_once {
            return;
        }
        self.kept_bytes += turn.bytes();
        self.kept.push_back((self.progress, turn));
        while self.kept_bytes > KEPT_BYTES
            && self.kept.len() > 1
            && let Some((_, oldest)) = self.kept.pop_front()
        {
            self.kept_bytes -= oldest.bytes();
        }
    }

    /// Sends the turns after `there`, which were told, once more.
    ///
    /// The last replica of a topic, stopping cleanly, may say that a transaction is complete and not have marked it in its
    /// partitions; with the next one, which was rolled back, it is gone (seen with Kafka 4.3).
    fn tell_again(&self, there: u64, catalog: &Catalog) -> Result<(), Setback> {
        let ledger = self.progress.turn;
        if self.kept.front().is_none_or(|(oldest, _)| oldest.turn > there + 1) {
            let reason = format!("the brokers have lost what they had committed: turn {there} is the last of {ledger}");
            return Err(Setback::End(self.failed(reason, "start again: what was lost is told then")));
        }
        tracing::warn!(sync = %self.id, there, ledger, "the brokers have lost turns that they had committed; they are sent again");
        for (progress, turn) in self.kept.iter().filter(|(progress, _)| progress.turn > there) {
            self.attempt(turn, catalog, progress)?;
        }
        Ok(())
    }

    /// Before the next try, which there may not be.
    fn wait(&self, reason: String, backoff: &mut Duration) -> Result<(), SinkError> {
        if self.given_up(&reason) {
            let hint = "see that the brokers run; what is not told is told at the next start";
            return Err(self.failed(reason, hint));
        }
        self.pause(*backoff);
        *backoff = (*backoff * 2).min(BACKOFF_MOST);
        Ok(())
    }

    /// Notes a setback; whether it is the last.
    fn given_up(&self, reason: &str) -> bool {
        self.producer.client().context().complain(reason);
        let mut state = self.shared.lock();
        state.standing.retries += 1;
        state.standing.last_error = Some(reason.to_owned());
        state.gone || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// What to do about a call that came to nothing: another one, after a short pause.
    fn once_more(&self, reason: String) -> Result<(), Setback> {
        if self.given_up(&reason) {
            return Err(Setback::Again(reason));
        }
        self.pause(BACKOFF);
        Ok(())
    }

    fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.shared.lock();
        while !state.gone
            && let Some(left) = until.checked_duration_since(Instant::now())
        {
            (state, _) = self.shared.changed.wait_timeout(state, left).expect("nobody panics with the lock");
        }
    }

    fn failed(&self, reason: String, hint: &'static str) -> SinkError {
        SinkError::Failed { to: self.name.clone(), action: "written", reason, hint }
    }

    /// Sends a turn once.
    fn attempt(&self, turn: &Turn, catalog: &Catalog, progress: &Progress) -> Result<Written, Setback> {
        let _ = self.producer.client().context().take_undelivered();
        if !self.exactly_once {
            self.send_audiences(turn, catalog)?;
            self.send_pending(turn, catalog, progress)?;
            self.arrive()?;
            let written = self.send_changes(turn)?;
            self.arrive()?;
            self.send_told(turn, catalog, progress)?;
            self.arrive()?;
            return Ok(written);
        }
        self.producer.begin_transaction().map_err(|error| self.setback(&error, "a transaction can't begin"))?;
        let written = self.send_changes(turn)?;
        self.send_audiences(turn, catalog)?;
        self.send_told(turn, catalog, progress)?;
        self.commit()?;
        Ok(written)
    }

    /// The changes of a turn that are sent, and their messages.
    fn each_message<'a>(
        &'a self,
        turn: &'a Turn,
        mut send: impl FnMut(&Change, &[u8], &MessageId) -> Result<(), Setback>,
    ) -> Result<(), Setback> {
        let mut message = Vec::new();
        for (change, _) in turn.changes.iter().zip(&turn.sent).filter(|(_, sent)| **sent) {
            message.clear();
            let id = self.messages.write(&mut message, change, turn.changes.key(change), turn.changes.row(change));
            send(change, &message, &id)?;
        }
        Ok(())
    }

    fn send_pending(&self, turn: &Turn, catalog: &Catalog, progress: &Progress) -> Result<(), Setback> {
        let mut number = 0;
        self.each_message(turn, |change, message, id| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let headers = self.messages.headers(change, id);
            let pending = Pending {
                turn: progress.turn,
                audience: catalog.id(change.audience).to_owned(),
                key: turn.changes.key(change).to_owned(),
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

    /// Sends what may have been sent, and says that it was told. The log has counted it as a turn.
    fn send_again(&self, pending: &[Pending]) -> Result<(), Setback> {
        if self.exactly_once {
            self.producer.begin_transaction().map_err(|error| self.setback(&error, "a transaction can't begin"))?;
        }
        for pending in pending {
            let headers = pending
                .headers
                .iter()
                .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
            self.send(BaseRecord::to(&self.topic).key(&pending.key).payload(&pending.message).headers(headers))?;
        }
        if !self.exactly_once {
            self.arrive()?;
        }
        let mut key = Vec::new();
        for pending in pending {
            self.send_member(&mut key, &pending.audience, &pending.key, pending.entered.then_some(pending.at))?;
        }
        self.send_progress(&self.progress)?;
        if self.exactly_once { self.commit() } else { self.arrive() }
    }

    fn send_changes(&self, turn: &Turn) -> Result<Written, Setback> {
        let mut written = turn.written();
        self.each_message(turn, |change, message, id| {
            let headers = self.messages.headers(change, id);
            let headers = headers.fold(OwnedHeaders::new_with_capacity(4), |headers, (key, value)| {
                headers.insert(Header { key, value: Some(value) })
            });
            written.bytes += message.len() as u64;
            // The time of a change is when the message says; the broker's time of it is when it came.
            self.send(BaseRecord::to(&self.topic).key(turn.changes.key(change)).payload(message).headers(headers))
        })?;
        Ok(written)
    }

    /// Says of the audiences of a turn what they are, before anybody is said to be in them.
    fn send_audiences(&self, turn: &Turn, catalog: &Catalog) -> Result<(), Setback> {
        let named: BTreeSet<_> = turn.changes.iter().map(|change| change.audience).collect();
        for audience in named.into_iter().map(|audience| catalog.audience(audience)) {
            if self.audiences.get(&audience.id) != Some(&audience) {
                let (key, value) = ledger::audience_record(&audience);
                self.send(BaseRecord::to(&self.ledger_topic).partition(0).key(&key[..]).payload(&value[..]))?;
            }
        }
        Ok(())
    }

    fn send_told(&self, turn: &Turn, catalog: &Catalog, progress: &Progress) -> Result<(), Setback> {
        let mut key = Vec::new();
        for change in &turn.changes {
            let at = (change.kind == ChangeKind::Entry).then_some(change.at);
            self.send_member(&mut key, catalog.id(change.audience), turn.changes.key(change), at)?;
        }
        self.send_progress(progress)
    }

    /// Says that a key is in an audience since `at`; none: that it is not.
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

    fn send<K: rdkafka::message::ToBytes + ?Sized, P: rdkafka::message::ToBytes + ?Sized>(
        &self,
        record: BaseRecord<'_, K, P>,
    ) -> Result<(), Setback> {
        let mut record = record;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                // More is on its way than librdkafka holds, by its settings: until some has arrived.
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.producer.poll(Duration::from_millis(5));
                    if let Some(error) = self.producer.client().fatal_error() {
                        return Err(self.ended(error));
                    }
                }
                Err((error, _)) => return Err(self.setback(&error, "a message can't be sent")),
            }
        }
    }

    /// Waits until all that was sent has arrived.
    fn arrive(&self) -> Result<(), Setback> {
        let since = Instant::now();
        let mut said = since;
        // The crate's `flush` looks every 100 ms only, and its `poll` does not sleep for less than 1 ms.
        while self.producer.in_flight_count() > 0 {
            let before = self.producer.in_flight_count();
            self.producer.poll(Duration::ZERO);
            if self.producer.in_flight_count() < before {
                continue;
            }
            std::thread::sleep(ARRIVED);
            if let Some(error) = self.producer.client().fatal_error() {
                return Err(self.ended(error));
            }
            if said.elapsed() > CALL {
                said = Instant::now();
                let (count, seconds) = (self.producer.in_flight_count(), since.elapsed().as_secs());
                self.once_more(format!("{count} messages have not arrived for {seconds} s"))?;
            }
        }
        match self.producer.client().context().take_undelivered() {
            None => Ok(()),
            Some(code) => Err(self.undelivered(code)),
        }
    }

    /// Commits. A transaction that fails is not rolled back here: with the brokers' answer lost it may be committed, and the
    /// producer that comes after this one finds out, and ends it.
    fn commit(&self) -> Result<(), Setback> {
        self.arrive()?;
        let since = Instant::now();
        loop {
            let Err(error) = self.producer.commit_transaction(CALL) else { return Ok(()) };
            if let Some(error) = self.producer.client().fatal_error() {
                return Err(self.ended(error));
            }
            if let Some(code) = self.producer.client().context().take_undelivered() {
                return Err(self.undelivered(code));
            }
            match &error {
                KafkaError::Transaction(inner) if inner.txn_requires_abort() || !unanswered(inner) => {
                    return Err(Setback::Renew(inner.string()));
                }
                // Whether it is committed is not known: asking again tells.
                _ if since.elapsed() < ANSWER => {
                    self.once_more(format!("a commit has no answer for {} s", since.elapsed().as_secs()))?;
                }
                _ => return Err(Setback::Renew(format!("a commit has no answer for {} s", ANSWER.as_secs()))),
            }
        }
    }

    /// What an error means for the turn.
    fn setback(&self, error: &KafkaError, what: &str) -> Setback {
        if let Some(error) = self.producer.client().fatal_error() {
            return self.ended(error);
        }
        match error {
            KafkaError::Transaction(inner) => Setback::Renew(format!("{what}: {}", inner.string())),
            error => self.undelivered(code(error)),
        }
    }

    fn undelivered(&self, code: RDKafkaErrorCode) -> Setback {
        match self.met(problem(code, "a message was not taken")) {
            Setback::Again(reason) if self.exactly_once => Setback::Renew(reason),
            setback => setback,
        }
    }

    /// What a problem means for the turn.
    fn met(&self, problem: Problem) -> Setback {
        match problem.passes {
            true => Setback::Again(problem.reason),
            false => Setback::End(self.failed(problem.reason, problem.hint)),
        }
    }

    /// What the end of a producer means: it was fenced, or the brokers have ended its transaction after a while of silence.
    fn ended(&self, (code, reason): (RDKafkaErrorCode, String)) -> Setback {
        use RDKafkaErrorCode as E;
        let passes = matches!(
            code,
            E::Fenced
                | E::ProducerFenced
                | E::InvalidProducerEpoch
                | E::InvalidProducerIdMapping
                | E::UnknownProducerId
                | E::OutOfOrderSequenceNumber
                | E::InvalidTransactionalState
        );
        if self.exactly_once && passes {
            return Setback::Renew(reason);
        }
        Setback::End(self.failed(reason, "start again: what was not told is told then"))
    }

    /// Takes a new producer, which ends what the old one had begun; if the brokers had the turn all the same, it is told.
    ///
    /// Where another process has taken the sync over, its mark is there, and nothing is taken back.
    fn renew(
        &mut self,
        turn: &Turn,
        catalog: &Catalog,
        progress: &Progress,
        reason: String,
    ) -> Result<Written, Setback> {
        let renewed = self.look().and_then(|_| {
            let renewed = producer(self.context(), &self.config).map_err(|problem| self.met(problem))?;
            fence(&renewed, ANSWER).map_err(|problem| self.met(problem))?;
            Ok(renewed)
        });
        match renewed {
            Ok(renewed) => self.producer = renewed,
            // Still to be done.
            Err(Setback::Again(met)) => {
                self.broken = Some(reason);
                return Err(Setback::Again(met));
            }
            Err(setback) => return Err(setback),
        }
        tracing::info!(sync = %self.id, %reason, "a new producer goes on");
        self.settle(turn, catalog, progress, reason)
    }

    /// Finds out whether a turn was told after all, and those before it still are. No transaction is open.
    fn settle(&self, turn: &Turn, catalog: &Catalog, progress: &Progress, reason: String) -> Result<Written, Setback> {
        loop {
            match self.look() {
                Ok(found) if found == *progress => return Ok(turn.written()),
                Ok(found) if found.turn < self.progress.turn => {
                    self.tell_again(found.turn, catalog)?;
                    return Err(Setback::Again(reason));
                }
                Ok(_) => return Err(Setback::Again(reason)),
                // Nothing is sent before it is known.
                Err(Setback::Again(reason)) => self.once_more(reason)?,
                Err(setback) => return Err(setback),
            }
        }
    }

    /// How far the sync was told, by what is committed.
    fn look(&self) -> Result<Progress, Setback> {
        let reader = Reader::start(&self.reading, self.context(), |_| ()).map(Arc::new);
        let log = reader
            .and_then(|reader| ledger::read(&reader, &self.ledger_topic, ANSWER))
            .map_err(|problem| self.met(problem))?;
        if log.progress.run == self.progress.run {
            return Ok(log.progress);
        }
        Err(Setback::End(SinkError::Superseded { to: self.name.clone() }))
    }

    fn context(&self) -> Context {
        Context::new(format!("sync {}", self.id), &self.brokers)
    }
}

/// Whether an error says that nothing is known.
fn unanswered(error: &RDKafkaError) -> bool {
    error.is_retriable() || error.code() == RDKafkaErrorCode::OperationTimedOut
}

/// A sync's topic.
struct KafkaSink {
    filter: Filter,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Whether it was ever told that a job has seen it.
    known: bool,
}

impl KafkaSink {
    fn start(sender: Sender, catalog: Arc<Catalog>, filter: Filter, every: Duration, known: bool) -> KafkaSink {
        let shared = Arc::clone(&sender.shared);
        let name = format!("sync {}", sender.id);
        let thread = std::thread::Builder::new().name(name).spawn(move || sender.run(&catalog, every));
        KafkaSink { filter, shared, thread: Some(thread.expect("the system can start a thread")), known }
    }
}

impl Sink for KafkaSink {
    fn write(&mut self, epoch: &Changes, until: u64) -> Result<(), SinkError> {
        let mut turns: Vec<Turn> = Vec::new();
        for change in epoch.iter().filter(|change| self.filter.commits(change)) {
            if turns.last().is_none_or(|turn| turn.changes.len() == PIECE_CHANGES) {
                turns.push(Turn::default());
            }
            let turn = turns.last_mut().expect("there is one");
            turn.changes.push_from(epoch, change);
            turn.sent.push(self.filter.sends(change));
        }
        // A sync that has nothing to tell at first is told so, once: it is not new at the next start.
        if turns.is_empty() && !self.known {
            turns.push(Turn::default());
        }
        self.known = true;
        if let Some(last) = turns.last_mut() {
            last.until = Some(until);
        }
        let mut state = self.shared.lock();
        if let Some(error) = &state.error {
            return Err(error.clone());
        }
        state.until = until;
        if turns.is_empty() {
            if let Some(last) = state.queue.back_mut() {
                last.until = Some(until);
            }
            state.settle();
            return Ok(());
        }
        for turn in turns {
            state.bytes += turn.bytes();
            state.changes += turn.changes.len() as u64;
            state.queue.push_back(turn);
        }
        self.shared.changed.notify_all();
        Ok(())
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
        let (mut left, mut moved) = (state.changes, Instant::now());
        while !state.ended {
            (state, _) = self.shared.changed.wait_timeout(state, CALL).expect("nobody panics with the lock");
            if state.changes != left {
                (left, moved) = (state.changes, Instant::now());
            }
            if moved.elapsed() > FINISH {
                // Ends with the error of what could not be sent.
                state.gone = true;
                self.shared.changed.notify_all();
            }
        }
        match &state.error {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn status(&self) -> SyncStatus {
        let state = self.shared.lock();
        SyncStatus { waiting: state.changes, ..state.standing.clone() }
    }
}

impl Drop for KafkaSink {
    /// What is not told yet is not sent any more.
    fn drop(&mut self) {
        self.shared.lock().gone = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a panic of the thread is a bug");
        }
    }
}
