//! Opening a sync: settings of its clients, its topics, fencing of older processes, and reading the ledger.
//!
//! Steps of [`open_sync`]:
//! 1. check the settings and the topics; create the ledger topic if it is missing, and the target if the job has its number of
//!    partitions;
//! 2. with transactions: fence older processes, which rolls back what they had begun;
//! 3. commit the mark of this process; one that is fenced meanwhile ends;
//! 4. wait until the mark is visible, and read the ledger: a later mark is a successor's, and this process ends. Compare the
//!    ledger with the position that the checkpoint has noted, or take over the ledger from elsewhere, if that was noted;
//! 5. without transactions before: read the messages that the topic has and the ledger lacks, and take them into the ledger; note from where on
//!    there may be more. Pending messages that a version before has left are sent again;
//! 6. with transactions: commit the next `run` number, which versions without a mark look for;
//! 7. if `usher resend` has asked for it: forget the memberships, and begin the ledger anew; if it was taken over: put its memberships in their place;
//! 8. note in the ledger which target the changes go to.
//!
//! Refuses: missing topics that it may not create, a ledger topic whose records expire, and a ledger that is behind the
//! checkpoint.

use super::batch::BATCH_CHANGES;
use super::limits::Limits;
use super::moving::{self, NotedTopic};
use super::reconcile::uncommitted;
use super::sender::{OwnSync, Sender};
use super::watch::Watch;
use super::{KafkaSink, SyncSpec, position};
use crate::committed_rows::CommittedRows;
use crate::kafka::Variable;
use crate::kafka::client::{Context, PATIENCE, REQUEST, Reader, retry, settings};
use crate::kafka::error::{Problem, code, is_fenced};
use crate::kafka::ffi::{self, TopicDescription};
use crate::kafka::ledger::{self, LedgerTopic, RESEND};
use crate::kafka::sent::{self, SentMessage};
use crate::kafka::topics::{self, Ending};
use crate::messages::{Messages, filter};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use usher_core::catalog::Catalog;
use usher_core::ledger::Ledger;
use usher_core::sink::{LedgerPosition, OpenedSync, SinkError};

/// Without transactions the shortest time between two batches: changes of that time are sent together.
const BATCH_EVERY: Duration = Duration::from_micros(500);

/// Settings of a producer; a job may change them.
const DEFAULTS: [(&str, &str); 2] = [
    // The cheapest for both ends; JSON shrinks to a fifth.
    ("compression.type", "lz4"),
    // The changes of a transaction are there already: waiting for more does not pay.
    ("linger.ms", "0.5"),
];

/// The same without transactions.
const DIRECT_DEFAULTS: [(&str, &str); 2] = [
    DEFAULTS[0],
    // Small batches follow each other, and each request to a partition costs the brokers as much as several messages. With 1 ms a
    // change takes longer where brokers and clients are short of cores.
    ("linger.ms", "2"),
];

/// Settings of a reader; a job may change them.
const READER_DEFAULTS: [(&str, &str); 2] = [
    ("fetch.queue.backoff.ms", "2"),
    // For so long, 500 by default, a broker waits for more at the end of a ledger before it answers, and answers no other request of the connection.
    ("fetch.wait.max.ms", "1"),
];

/// Fences older processes of the sync, and reads its ledger.
///
/// Creates the sync's ledger topic if it is missing, and the target if it is missing and the job has its number of partitions.
/// Waits at most 30 s for brokers that do not answer.
pub fn open_sync(spec: &SyncSpec<'_>, variable: Variable<'_>) -> Result<OpenedSync, SinkError> {
    mark_sync(spec, variable)?.open(spec)
}

/// A sync whose ledger has this process's mark, and which is not read yet.
pub(in crate::kafka) struct MarkedSync {
    sender: Sender,
    reader: Arc<Reader>,
    deadline: Instant,
    /// Of the client that has created the topics.
    ending: Ending,
}

/// Does steps 1 to 3.
pub(in crate::kafka) fn mark_sync(spec: &SyncSpec<'_>, variable: Variable<'_>) -> Result<MarkedSync, SinkError> {
    let failed = |problem| spec.failed("opened", problem);
    let configs = client_settings(spec, variable).map_err(failed)?;
    let [producer_config, reader_config, admin_config] = &configs;
    let ledger_topic = ledger::topic(spec.job, spec.id);
    let reader = Arc::new(Reader::start(reader_config, spec.context(), |_| ()).map_err(failed)?);
    let topics = find_topics(spec, &reader, &ledger_topic).map_err(failed)?;
    let admin = topics::admin(admin_config, spec.context()).map_err(failed)?;
    let (target, ledger) = create_missing(spec, &reader, &admin, &ledger_topic, topics).map_err(failed)?;
    let names = [&spec.target.topic[..], &ledger_topic];
    let limits = Limits::read(&admin, names, producer_config).unwrap_or_else(|problem| {
        tracing::warn!(sync = spec.id, "how large messages may be can't be read: {}", problem.reason);
        Limits::of_client(producer_config)
    });
    let ending = Ending::of(admin);
    let (sender, deadline) = mark_ledger(spec, configs, limits, (Arc::clone(&reader), target, ledger))?;
    Ok(MarkedSync { sender, reader, deadline, ending })
}

/// Does steps 2 and 3, and returns until when the others are tried.
pub(super) fn mark_ledger(
    spec: &SyncSpec<'_>,
    [mut producer_config, reader_config, admin_config]: [ClientConfig; 3],
    limits: Limits,
    (reader, target, ledger): (Arc<Reader>, TopicDescription, TopicDescription),
) -> Result<(Sender, Instant), SinkError> {
    let failed = |problem| spec.failed("opened", problem);
    limits.bound(&mut producer_config);
    let own = Arc::new(OwnSync::new(spec, &reader_config));
    let context = own.context().noting(&[&own.topic, &own.ledger_topic]);
    let producer = producer(context, &producer_config).map_err(failed)?;
    let watch = Watch::new(Arc::clone(&own), reader, (target, ledger));
    let mut sender = Sender::new(spec, producer, [producer_config, admin_config], limits, (own, watch));
    if spec.exactly_once()
        && let Err(problem) = fence(&sender.producer, &sender.own.ledger_topic, PATIENCE)
    {
        let fenced = sender.producer.client().fatal_error().is_some_and(|(code, _)| is_fenced(code));
        return Err(if fenced { sender.own.superseded() } else { failed(problem) });
    }
    let deadline = Instant::now() + PATIENCE;
    sender.commit_before(deadline, |sender| sender.send_mark())?;
    sender.note_mark();
    Ok((sender, deadline))
}

/// Waits until the mark of this process is visible, and reads the ledger. A later mark is a successor's.
pub(super) fn read_marked(
    spec: &SyncSpec<'_>,
    (sender, deadline): (&Sender, Instant),
    reader: &Arc<Reader>,
) -> Result<LedgerTopic, SinkError> {
    let failed = |problem| spec.failed("opened", problem);
    sender.wait_for_mark(reader, deadline).map_err(failed)?;
    let found = ledger::read(reader, &sender.own.ledger_topic, PATIENCE).map_err(failed)?;
    match found.owner {
        Some(mark) if mark.incarnation == spec.incarnation => Ok(found),
        _ => Err(sender.own.superseded()),
    }
}

impl MarkedSync {
    /// Does steps 4 to 8.
    pub(in crate::kafka) fn open(self, spec: &SyncSpec<'_>) -> Result<OpenedSync, SinkError> {
        let MarkedSync { mut sender, reader, deadline, ending } = self;
        let failed = |problem| spec.failed("opened", problem);
        let place = moving::place(spec, &reader);
        let mut found = read_marked(spec, (&sender, deadline), &reader)?;
        let noted = spec.noted.filter(|_| !found.resend);
        let elsewhere = noted.filter(|noted| moving::is_elsewhere(spec, noted.position, &reader));
        let moved = elsewhere.map(|noted| (noted.take_over)()).transpose()?;
        if moved.is_none() {
            let at = position(found.progress.batch, &place);
            LedgerPosition::check(&at, noted.map(|noted| noted.position), spec.id)?;
        }
        let was_killed = found.sent.is_some();
        // Without `!sent` the topic has no message that the ledger lacks.
        let all = match spec.exactly_once() && !was_killed {
            true => reader,
            false => uncommitted(&sender.own.reader_config, sender.own.context()).map_err(failed)?,
        };
        let (sent, ends) = read_sent(&all, spec, &mut found).map_err(failed)?;
        sender.take_ledger(&found);
        sender.note_target_ends(&all).map_err(failed)?;
        // What has come since it was read is behind these.
        sender.ends.extend(ends);
        drop(all);
        if !spec.exactly_once() || was_killed {
            let from = (!spec.exactly_once()).then(|| sender.watch.sent_from(sender.ends.clone()));
            if !sent.is_empty() {
                let messages = sent.len();
                tracing::info!(
                    sync = spec.id,
                    messages,
                    "taking messages into the ledger that an earlier run has sent before it ended"
                );
            }
            sender.commit_before(deadline, |sender| sender.send_sent(&sent, from.as_ref()))?;
            if !spec.exactly_once() && was_killed {
                sender.watch.await_late(sender.ends.clone());
            }
        }
        if !found.pending.is_empty() {
            let messages = found.pending.len();
            tracing::info!(sync = spec.id, messages, "sending pending messages of an earlier run again");
            sender.commit_before(deadline, |sender| sender.send_pending_again(&found.pending))?;
        }
        if spec.exactly_once() {
            sender.commit_run(deadline)?;
        }
        if found.resend {
            begin_anew(spec, &mut sender, &found.ledger, deadline)?;
            found.ledger = found.ledger.begun_anew();
            found.members.clear();
        }
        if let Some(moved) = moved {
            moving::take_in(&mut sender, &mut found, moved, deadline)?;
        }
        note_target(&mut sender, &found, deadline)?;
        let every = if spec.exactly_once() { Duration::from_millis(spec.target.commit_every) } else { BATCH_EVERY };
        let (sync, index) = (spec.sync.clone(), spec.index);
        let any = found.ledger.any;
        let mut state = sender.shared.lock();
        state.take_progress(&sender.progress);
        state.dead_letters = std::mem::take(&mut found.dead_letters);
        drop(state);
        let mut rows = CommittedRows::new(spec.sync);
        found.members.iter().for_each(|(member, row)| {
            let (audience, key) = ledger::member(member);
            rows.restore(audience, key, row);
        });
        let at = position(sender.progress.batch, &place);
        Ok(OpenedSync {
            ledger: found.ledger,
            position: at,
            start: Box::new(move |catalog: Arc<Catalog>| {
                let filter = filter(index, &sync, &catalog);
                sender.messages = Messages::of(&sync, Arc::clone(&catalog));
                Box::new(KafkaSink::start(sender, catalog, (filter, rows), every, (any, place), ending))
            }),
        })
    }
}

/// Reads the messages that a topic has and the ledger lacks, and counts them in the ledger as committed. Returns them, and where the partitions of the
/// sync's target ended, if they were read.
pub(super) fn read_sent(
    reader: &Arc<Reader>,
    spec: &SyncSpec<'_>,
    found: &mut LedgerTopic,
) -> Result<(Vec<SentMessage>, BTreeMap<i32, i64>), Problem> {
    let Some(from) = &found.sent else { return Ok(Default::default()) };
    let mut sent = Vec::new();
    let mut ends =
        sent::read(reader, &spec.ledger_of(), from, PATIENCE, |partition, message| sent.push((partition, message)))?;
    if from.topic != spec.target.topic {
        ends.clear();
    }
    Ok((found.take_sent(sent::in_order(sent)), ends))
}

/// Forgets the memberships. The count of batches goes on, beyond what the checkpoint has noted.
pub(super) fn begin_anew(
    spec: &SyncSpec<'_>,
    sender: &mut Sender,
    ledger: &Ledger,
    deadline: Instant,
) -> Result<(), SinkError> {
    tracing::info!(sync = spec.id, members = ledger.len(), "the ledger begins anew, as `usher resend` has asked");
    let members: Vec<(&str, &str)> =
        ledger.iter().map(|(audience, key)| (&ledger.audiences[audience as usize].id[..], key)).collect();
    for members in members.chunks(BATCH_CHANGES) {
        sender.commit_before(deadline, |sender| sender.send_forgotten(members))?;
    }
    let noted = spec.noted.map(|noted| noted.position).filter(|noted| noted.keeper == super::KEEPER);
    let noted = noted.map_or(0, |noted| noted.at);
    let mut progress = sender.progress;
    progress.batch = progress.batch.max(noted);
    progress.began = progress.batch;
    sender.commit_before(deadline, |sender| sender.send_begun(&progress))?;
    sender.progress = progress;
    Ok(())
}

/// Writes which topic the messages go to, where that is not known or the ledger begins anew. Warns if it is another one.
fn note_target(sender: &mut Sender, found: &LedgerTopic, deadline: Instant) -> Result<(), SinkError> {
    let Some(id) = sender.watch.target_id().map(str::to_owned) else { return Ok(()) };
    match &found.target {
        Some(known) if *known == id => Ok(()),
        Some(_) if !found.resend => {
            sender.watch.warn_of_another_target();
            Ok(())
        }
        _ => sender.commit_before(deadline, |sender| sender.send_target(&id)),
    }
}

/// Asks for a ledger that begins anew when the sync is opened next. Creates the ledger topic if it is missing; fences no
/// process.
pub fn resend_sync(spec: &SyncSpec<'_>, variable: Variable<'_>) -> Result<(), SinkError> {
    let failed = |problem| spec.failed("opened", problem);
    let reader_config = reader_settings(spec, variable).map_err(failed)?;
    let ledger_topic = ledger::topic(spec.job, spec.id);
    let reader = Reader::start(&reader_config, spec.context(), |_| ()).map_err(failed)?;
    let topics = find_topics(spec, &reader, &ledger_topic).map_err(failed)?;
    let admin = topics::admin(&admin_settings(spec, variable).map_err(failed)?, spec.context()).map_err(failed)?;
    create_missing(spec, &reader, &admin, &ledger_topic, topics).map_err(failed)?;
    // Without the sync's transactional id, which would fence a process that runs.
    let fixed = [("enable.idempotence", "true"), ("message.timeout.ms", "30000")];
    let config = settings(&spec.target.kafka, &DEFAULTS, &fixed, variable).map_err(failed)?;
    let producer = producer(spec.context(), &config).map_err(failed)?;
    let record = BaseRecord::with_opaque_to(&ledger_topic, 0).partition(0).key(RESEND).payload("{}");
    let sent = producer.send(record).map_err(|(error, _)| error).and_then(|()| producer.flush(PATIENCE));
    let undelivered = producer.client().context().take_undelivered();
    let code = undelivered.map(|undelivered| undelivered.code).or(sent.err().map(|error| code(&error)));
    match code {
        None => Ok(()),
        Some(code) => Err(failed(Problem::of_code(code, &format!("topic `{ledger_topic}`")))),
    }
}

/// Reads the sync's ledger while a process may write to it: where the latest checkpoint has `noted` it. Changes nothing, and fences no process. The
/// ledger of a sync without a ledger topic is empty.
pub fn read_ledger(
    spec: &SyncSpec<'_>,
    noted: Option<&LedgerPosition>,
    variable: Variable<'_>,
) -> Result<Ledger, SinkError> {
    let failed = |problem| spec.failed("opened", problem);
    let reader_config = reader_settings(spec, variable).map_err(failed)?;
    let ledger_topic = ledger::topic(spec.job, spec.id);
    let reader = Arc::new(Reader::start(&reader_config, spec.context(), |_| ()).map_err(failed)?);
    if let Some(noted) = noted.filter(|noted| moving::is_elsewhere(spec, noted, &reader)) {
        return NotedTopic { job: spec.job, id: spec.id, sync: spec.sync, noted }.read(variable);
    }
    let (client, names) = (reader.base().client(), [&ledger_topic[..]]);
    let found = retry(reader.context(), PATIENCE, || ffi::describe(client, &names, REQUEST)).map_err(failed)?;
    match found.first() {
        Some(Some(_)) => {
            let mut found = ledger::read(&reader, &ledger_topic, PATIENCE).map_err(failed)?;
            if found.sent.is_some() {
                let all = uncommitted(&reader_config, spec.context()).map_err(failed)?;
                read_sent(&all, spec, &mut found).map_err(failed)?;
            }
            let LedgerTopic { ledger, resend, .. } = found;
            Ok(if resend { ledger.begun_anew() } else { ledger })
        }
        _ => Ok(Ledger::default()),
    }
}

/// Checks that the sync can be opened. Changes nothing, and fences no process.
pub fn check_sync(spec: &SyncSpec<'_>, variable: Variable<'_>) -> Result<(), SinkError> {
    let failed = |problem| spec.failed("opened", problem);
    producer_settings(spec, variable).map_err(failed)?;
    let reader_config = reader_settings(spec, variable).map_err(failed)?;
    let ledger_topic = ledger::topic(spec.job, spec.id);
    let reader = Arc::new(Reader::start(&reader_config, spec.context(), |_| ()).map_err(failed)?);
    let found = find_topics(spec, &reader, &ledger_topic).map_err(failed)?;
    if found.ledger.is_some() {
        let admin = topics::admin(&admin_settings(spec, variable).map_err(failed)?, spec.context()).map_err(failed)?;
        check_is_compacted(&admin, &ledger_topic).map_err(failed)?;
    }
    Ok(())
}

/// Returns the settings of producers, readers and admin clients.
pub(super) fn client_settings(spec: &SyncSpec<'_>, variable: Variable<'_>) -> Result<[ClientConfig; 3], Problem> {
    Ok([producer_settings(spec, variable)?, reader_settings(spec, variable)?, admin_settings(spec, variable)?])
}

fn producer_settings(spec: &SyncSpec<'_>, variable: Variable<'_>) -> Result<ClientConfig, Problem> {
    let id = format!("usher.{}.{}", spec.job, spec.id);
    let mut fixed = vec![
        ("enable.idempotence", "true"),
        // As Java's clients do, so that a key's changes are where joins and tables look for them.
        ("partitioner", "murmur2_random"),
    ];
    if spec.exactly_once() {
        fixed.push(("transactional.id", &id));
    } else {
        // Retried until it arrives; in a transaction the transaction's timeout bounds its messages.
        fixed.push(("message.timeout.ms", "0"));
    }
    let defaults = if spec.exactly_once() { &DEFAULTS } else { &DIRECT_DEFAULTS };
    settings(&spec.target.kafka, defaults, &fixed, variable)
}

fn reader_settings(spec: &SyncSpec<'_>, variable: Variable<'_>) -> Result<ClientConfig, Problem> {
    let fixed = [
        ("isolation.level", "read_committed"),
        ("enable.partition.eof", "true"),
        ("auto.offset.reset", "error"),
        ("enable.auto.commit", "false"),
    ];
    settings(&spec.target.kafka, &READER_DEFAULTS, &fixed, variable)
}

/// The topics of a sync; None if a topic is missing.
struct Topics {
    target: Option<TopicDescription>,
    ledger: Option<TopicDescription>,
}

/// Finds the topics. A target that is missing and can't be created is a problem.
fn find_topics(spec: &SyncSpec<'_>, reader: &Reader, ledger_topic: &str) -> Result<Topics, Problem> {
    let (client, context) = (reader.base().client(), reader.context());
    let names = [&spec.target.topic[..], ledger_topic];
    let expected = usize::from(spec.target.partitions.is_none());
    let mut found = topics::find(client, context, &names, expected, PATIENCE)?;
    let (ledger, target) = (found.pop().flatten(), found.pop().flatten());
    if target.is_none() && spec.target.partitions.is_none() {
        let hint =
            "create the topic, correct its name, or write `partitions: N` in the sync's `to.kafka` to have it created";
        return Err(Problem { hint, ..topics::missing(client, context, &spec.target.topic) });
    }
    Ok(Topics { target, ledger })
}

/// Creates the missing topics; checks the settings of a ledger topic that exists. Returns the target and the ledger topic.
fn create_missing(
    spec: &SyncSpec<'_>,
    reader: &Reader,
    admin: &AdminClient<Context>,
    ledger_topic: &str,
    found: Topics,
) -> Result<(TopicDescription, TopicDescription), Problem> {
    let mut new = Vec::new();
    if let (None, Some(partitions)) = (&found.target, spec.target.partitions) {
        let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        new.push(NewTopic::new(&spec.target.topic, partitions, TopicReplication::Fixed(-1)));
    }
    match found.ledger {
        Some(_) => check_is_compacted(admin, ledger_topic)?,
        None => new.push(
            NewTopic::new(ledger_topic, 1, TopicReplication::Fixed(-1))
                .set("cleanup.policy", "compact")
                // A start also reads what is not compacted yet: with these at most a tenth of it, and the newest hour.
                .set("min.cleanable.dirty.ratio", "0.1")
                .set("segment.ms", "3600000"),
        ),
    }
    if let Topics { target: Some(target), ledger: Some(ledger) } = found {
        return Ok((target, ledger));
    }
    let created = retry(reader.context(), PATIENCE, || {
        let options = AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST));
        topics::wait(admin.create_topics(&new, &options), "creating topics")
    })?;
    for result in created {
        match result {
            Ok(topic) => tracing::info!(sync = spec.id, %topic, "created a topic"),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(Problem::of_code(code, &format!("topic `{topic}` can't be created"))),
        }
    }
    // The answer comes before all brokers have the topic.
    let names = [&spec.target.topic[..], ledger_topic];
    retry(reader.context(), PATIENCE, || {
        let mut described = ffi::describe(reader.base().client(), &names, REQUEST)?.into_iter().flatten();
        described.next().zip(described.next()).ok_or_else(|| Problem {
            reason: "a new topic does not exist on all brokers yet".to_owned(),
            hint: "see that the brokers run",
            transient: true,
        })
    })
}

/// Checks that the ledger topic keeps the latest record of each key without a time limit.
fn check_is_compacted(admin: &AdminClient<Context>, ledger_topic: &str) -> Result<(), Problem> {
    let found = topics::setting(admin, &[ledger_topic], "cleanup.policy", PATIENCE)?;
    for policy in found {
        match policy {
            Err(code) => {
                tracing::warn!(
                    topic = ledger_topic,
                    "the topic's settings can't be read: {code}; it must have `cleanup.policy=compact`"
                );
            }
            Ok(policy) if policy != "compact" => {
                return Err(Problem::permanent(
                    format!("topic `{ledger_topic}`, the sync's ledger, has `cleanup.policy={policy}`"),
                    "set its `cleanup.policy` to `compact`: entries whose records are deleted would be sent again",
                ));
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

fn admin_settings(spec: &SyncSpec<'_>, variable: Variable<'_>) -> Result<ClientConfig, Problem> {
    settings(&spec.target.kafka, &[], &[], variable)
}

/// Creates a producer.
pub(super) fn producer(context: Context, config: &ClientConfig) -> Result<BaseProducer<Context>, Problem> {
    config.create_with_context(context).map_err(|error| Problem::not_created(&error))
}

/// Ends the transactions of older producers of the sync, and keeps them from writing.
pub(super) fn fence(producer: &BaseProducer<Context>, ledger: &str, patience: Duration) -> Result<(), Problem> {
    const WHAT: &str = "the sync's transactional id";
    retry(producer.client().context(), patience, || {
        // librdkafka looks for the coordinator at once, and then each half a second, so a broker is to be connected the first time. A request
        // to a leader connects one; the connection that metadata come by is closed after its first answer.
        let ends = producer.client().fetch_watermarks(ledger, 0, REQUEST);
        ends.map_err(|error| Problem::of_error(&error, &format!("topic `{ledger}`")))?;
        let result = producer.init_transactions(REQUEST);
        producer.poll(Duration::ZERO);
        result.map_err(|error| match &error {
            KafkaError::Transaction(inner)
                if !inner.is_retriable() && inner.code() != RDKafkaErrorCode::OperationTimedOut =>
            {
                Problem { transient: false, ..Problem::of_code(inner.code(), WHAT) }
            }
            _ => Problem::of_code(code(&error), WHAT),
        })
    })
}
