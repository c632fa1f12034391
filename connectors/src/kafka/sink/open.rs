//! Opening a sync: settings of its clients, its topics, fencing of older processes, and reading the ledger.
//!
//! Steps of [`open_sync`]:
//! 1. check the settings and the topics; create the ledger topic if it is missing, and the target if the job has its number of
//!    partitions;
//! 2. with transactions: fence older processes, which rolls back what they had begun;
//! 3. read the ledger, and commit the next `run` number, which a fenced process looks for;
//! 4. without transactions: send the pending messages of an earlier run again.
//!
//! Refuses: missing topics that it may not create, and a ledger topic whose records expire.

use super::sender::{RETRY_HINT, Sender};
use super::transaction::Setback;
use super::{KafkaSink, SyncSpec};
use crate::kafka::Variable;
use crate::kafka::client::{Context, PATIENCE, REQUEST, Reader, retry, settings};
use crate::kafka::error::{Problem, code};
use crate::kafka::ffi::{self, TopicDescription};
use crate::kafka::{ledger, topics};
use crate::messages::{Messages, filter};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use usher_core::catalog::Catalog;
use usher_core::sink::{OpenedSync, SinkError};

/// Without transactions the shortest time between two batches: changes of that time are sent together.
const BATCH_EVERY: Duration = Duration::from_millis(2);

/// Settings of a producer; a job may change them.
const DEFAULTS: [(&str, &str); 2] = [
    // The cheapest for both ends; JSON shrinks to a fifth.
    ("compression.type", "lz4"),
    // The changes of a batch are there already: waiting for more does not pay.
    ("linger.ms", "0.5"),
];

/// Fences older processes of the sync, and reads its ledger.
///
/// Creates the sync's ledger topic if it is missing, and the target if it is missing and the job has its number of partitions.
/// Waits at most 30 s for brokers that do not answer.
pub fn open_sync(spec: &SyncSpec<'_>, variable: Variable<'_>) -> Result<OpenedSync, SinkError> {
    let failed = |problem| spec.failed("opened", problem);
    let producer_config = producer_settings(spec, variable).map_err(failed)?;
    let reader_config = reader_settings(spec, variable).map_err(failed)?;
    let ledger_topic = ledger::topic(spec.job, spec.id);
    let reader = Arc::new(Reader::start(&reader_config, spec.context(), |_| ()).map_err(failed)?);
    let found = find_topics(spec, &reader, &ledger_topic).map_err(failed)?;
    create_missing(spec, &reader, &ledger_topic, &found, variable).map_err(failed)?;
    let producer = producer(spec.context(), &producer_config).map_err(failed)?;
    if spec.exactly_once() {
        fence(&producer, PATIENCE).map_err(failed)?;
    }
    let found = ledger::read(&reader, &ledger_topic, PATIENCE).map_err(failed)?;
    drop(reader);
    let mut sender = Sender::new(spec, producer, producer_config, reader_config, found.progress, found.audiences);
    if spec.exactly_once() {
        sender.commit_run(Instant::now() + PATIENCE)?;
    }
    if !found.pending.is_empty() {
        let messages = found.pending.len();
        tracing::info!(sync = spec.id, messages, "sending pending messages of an earlier run again");
        sender.send_pending_again(&found.pending).map_err(|setback| match setback {
            Setback::Failed(error) => error,
            Setback::Retry(reason) | Setback::Replace(reason) => sender.failed(reason, RETRY_HINT),
        })?;
    }
    let every = if spec.exactly_once() { Duration::from_millis(spec.target.commit_every) } else { BATCH_EVERY };
    let (sync, index) = (spec.sync.clone(), spec.index);
    let any = found.ledger.any;
    Ok(OpenedSync {
        ledger: found.ledger,
        start: Box::new(move |catalog: Arc<Catalog>| {
            let filter = filter(index, &sync, &catalog);
            sender.messages = Messages::of(&sync, Arc::clone(&catalog));
            Box::new(KafkaSink::start(sender, catalog, filter, every, any))
        }),
    })
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
        check_is_compacted(spec, &ledger_topic, variable).map_err(failed)?;
    }
    Ok(())
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
    settings(&spec.target.kafka, &DEFAULTS, &fixed, variable)
}

fn reader_settings(spec: &SyncSpec<'_>, variable: Variable<'_>) -> Result<ClientConfig, Problem> {
    let fixed = [
        ("isolation.level", "read_committed"),
        ("enable.partition.eof", "true"),
        ("auto.offset.reset", "error"),
        ("enable.auto.commit", "false"),
    ];
    settings(&spec.target.kafka, &[("fetch.queue.backoff.ms", "2")], &fixed, variable)
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
    let mut found = retry(context, PATIENCE, || ffi::describe(client, &names, REQUEST))?;
    let (ledger, target) = (found.pop().flatten(), found.pop().flatten());
    if target.is_none() && spec.target.partitions.is_none() {
        let hint =
            "create the topic, correct its name, or write `partitions: N` in the sync's `to.kafka` to have it created";
        return Err(Problem { hint, ..topics::missing(client, context, &spec.target.topic) });
    }
    Ok(Topics { target, ledger })
}

/// Creates the missing topics; checks the settings of a ledger topic that exists.
fn create_missing(
    spec: &SyncSpec<'_>,
    reader: &Reader,
    ledger_topic: &str,
    found: &Topics,
    variable: Variable<'_>,
) -> Result<(), Problem> {
    let mut new = Vec::new();
    if let (None, Some(partitions)) = (&found.target, spec.target.partitions) {
        let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        new.push(NewTopic::new(&spec.target.topic, partitions, TopicReplication::Fixed(-1)));
    }
    match found.ledger {
        Some(_) => check_is_compacted(spec, ledger_topic, variable)?,
        None => new.push(
            NewTopic::new(ledger_topic, 1, TopicReplication::Fixed(-1))
                .set("cleanup.policy", "compact")
                // A start also reads what is not compacted yet: with these at most a tenth of it, and the newest hour.
                .set("min.cleanable.dirty.ratio", "0.1")
                .set("segment.ms", "3600000"),
        ),
    }
    if new.is_empty() {
        return Ok(());
    }
    let admin = admin(spec, variable)?;
    let created = retry(reader.context(), PATIENCE, || {
        let options = AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST));
        wait(admin.create_topics(&new, &options), "creating topics")
    })?;
    for result in created {
        match result {
            Ok(topic) => tracing::info!(sync = spec.id, %topic, "created a topic"),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(Problem::of_code(code, &format!("topic `{topic}` can't be created"))),
        }
    }
    // The answer comes before all brokers have the topic.
    let names: Vec<&str> = new.iter().map(|topic| topic.name).collect();
    retry(reader.context(), PATIENCE, || {
        let found = ffi::describe(reader.base().client(), &names, REQUEST)?;
        if found.iter().all(Option::is_some) {
            return Ok(());
        }
        Err(Problem {
            reason: "a new topic does not exist on all brokers yet".to_owned(),
            hint: "see that the brokers run",
            transient: true,
        })
    })
}

/// Checks that the ledger topic keeps the latest record of each key without a time limit.
fn check_is_compacted(spec: &SyncSpec<'_>, ledger_topic: &str, variable: Variable<'_>) -> Result<(), Problem> {
    let admin = admin(spec, variable)?;
    let wanted = [ResourceSpecifier::Topic(ledger_topic)];
    let found = retry(admin.inner().context(), PATIENCE, || {
        let options = AdminOptions::new().request_timeout(Some(REQUEST));
        wait(admin.describe_configs(&wanted, &options), "the settings of a topic")
    })?;
    for resource in found {
        match resource {
            Err(code) => {
                tracing::warn!(
                    topic = ledger_topic,
                    "the topic's settings can't be read: {code}; it must have `cleanup.policy=compact`"
                );
            }
            Ok(resource) => {
                let policy = resource.get("cleanup.policy").and_then(|entry| entry.value.clone()).unwrap_or_default();
                if policy != "compact" {
                    return Err(Problem::permanent(
                        format!("topic `{ledger_topic}`, the sync's ledger, has `cleanup.policy={policy}`"),
                        "set its `cleanup.policy` to `compact`: entries whose records are deleted would be sent again",
                    ));
                }
            }
        }
    }
    Ok(())
}

fn admin(spec: &SyncSpec<'_>, variable: Variable<'_>) -> Result<AdminClient<Context>, Problem> {
    let config = settings(&spec.target.kafka, &[], &[], variable)?;
    config.create_with_context(spec.context()).map_err(|error| Problem::not_created(&error))
}

/// Waits for the answer to a request, which has a timeout of its own.
fn wait<T>(request: impl Future<Output = KafkaResult<T>>, what: &str) -> Result<T, Problem> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers needs nothing");
    runtime.block_on(request).map_err(|error| Problem::of_error(&error, what))
}

/// Creates a producer.
pub(super) fn producer(context: Context, config: &ClientConfig) -> Result<BaseProducer<Context>, Problem> {
    config.create_with_context(context).map_err(|error| Problem::not_created(&error))
}

/// Ends the transactions of older producers of the sync, and keeps them from writing.
pub(super) fn fence(producer: &BaseProducer<Context>, patience: Duration) -> Result<(), Problem> {
    const WHAT: &str = "the sync's transactional id";
    retry(producer.client().context(), patience, || {
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
