//! Clients of a cluster: their settings, what they complain of, and waiting for them at the start.
//!
//! Promises: settings that the engine's guarantees rest on can't be changed by a job; a cluster that is away is waited for,
//! said once and then ever more rarely, and never polled in a busy loop; one that refuses is an error at once.

use super::ffi::{self, Described};
use rdkafka::client::Client;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::{ClientContext, Statistics};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use usher_config::{Kafka, Setting};

/// How long a cluster may take to answer at a start: 30 s, an election of a new leader and a restart of one broker included.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long one request may take before it is made again: the answer is there in ms, or not at all.
pub(super) const REQUEST: Duration = Duration::from_secs(3);
/// A complaint that goes on is said again after so long, then after twice as long, …
const SAY_AGAIN: Duration = Duration::from_secs(10);
/// … and at least this often.
const SAY_AT_LEAST: Duration = Duration::from_secs(300);

/// Settings that are the engine's own: each would break a promise.
const OURS: [(&str, &str); 17] = [
    ("bootstrap.servers", "the brokers are what `brokers` says"),
    ("metadata.broker.list", "the brokers are what `brokers` says"),
    ("group.id", "partitions are read without a group: positions are kept in the job's state"),
    ("group.instance.id", "partitions are read without a group: positions are kept in the job's state"),
    ("enable.auto.commit", "positions are kept in the job's state"),
    ("auto.commit.enable", "positions are kept in the job's state"),
    ("enable.auto.offset.store", "positions are kept in the job's state"),
    ("auto.offset.reset", "`start` says where reading starts, and what was lost is said"),
    ("enable.partition.eof", "the end of a partition is how the job knows that it is live"),
    ("isolation.level", "messages of transactions that were rolled back never count"),
    ("transactional.id", "the sync's own name fences its older processes"),
    ("enable.idempotence", "a change is written once and in order"),
    ("enable.gapless.guarantee", "a change is written once and in order"),
    ("acks", "a change is told when all replicas have it"),
    ("request.required.acks", "a change is told when all replicas have it"),
    ("partitioner", "a key's changes go to the partition that other clients look for it in"),
    ("allow.auto.create.topics", "a misspelt topic is an error"),
];

/// Why a cluster is of no use, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) reason: String,
    pub(super) hint: &'static str,
    /// Whether another try may end otherwise.
    pub(super) passes: bool,
}

/// What a code of librdkafka means for `what`: a topic, or the brokers.
pub(super) fn problem(code: RDKafkaErrorCode, what: &str) -> Problem {
    use RDKafkaErrorCode as E;
    let (hint, passes) = match code {
        E::Authentication | E::SaslAuthenticationFailed => {
            ("`properties` need the right `sasl.mechanism`, `sasl.username` and `sasl.password`", false)
        }
        E::SSL => ("`properties` need the `ssl.ca.location` of whoever signed the brokers' certificates", false),
        E::TopicAuthorizationFailed => {
            ("allow the user of `properties` to describe and read a source's topics, and to write a sync's", false)
        }
        E::ClusterAuthorizationFailed | E::TransactionalIdAuthorizationFailed | E::GroupAuthorizationFailed => (
            "allow the user of `properties` to do so; a sync needs to write with the transactional id `usher.JOB.SYNC`",
            false,
        ),
        E::InvalidTopic => ("topics have letters, digits, `.`, `_` and `-` in their names, at most 249", false),
        E::MessageSizeTooLarge => ("raise the topic's `max.message.bytes`, or send less of the row", false),
        E::PolicyViolation => ("ask whoever runs the cluster to create the topic", false),
        E::UnsupportedVersion | E::UnsupportedFeature => ("use brokers of Kafka 2.5 or later", false),
        E::Resolve => ("see that the names in `brokers` are right, and known here", true),
        _ => ("see that the brokers run, and that `brokers` and `security.protocol` are right", true),
    };
    let reason = match code {
        E::OperationTimedOut | E::RequestTimedOut => "there is no answer".to_owned(),
        code => words(&code.to_string()),
    };
    Problem { reason: format!("{what}: {reason}"), hint, passes }
}

/// librdkafka's words without its prefixes.
fn words(text: &str) -> String {
    let text = text.split_once(" (").map_or(text, |(_, rest)| rest.strip_suffix(')').unwrap_or(rest));
    text.strip_prefix("Local: ").or(text.strip_prefix("Broker: ")).unwrap_or(text).to_lowercase()
}

/// The code of an error.
pub(super) fn code(error: &KafkaError) -> RDKafkaErrorCode {
    error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)
}

/// A client's settings from those of a job; the engine's own come on top.
pub(super) fn settings(
    kafka: &Kafka,
    defaults: &[(&str, &str)],
    ours: &[(&str, &str)],
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<ClientConfig, Problem> {
    let wrong = |reason: String, hint| Problem { reason, hint, passes: false };
    let mut config = ClientConfig::new();
    config.set_log_level(RDKafkaLogLevel::Warning);
    for (name, value) in [
        // The versions of both ends are in the brokers' logs.
        ("client.id", "usher"),
        // Half-open connections are noticed.
        ("socket.keepalive.enable", "true"),
        // Back within 2 s after an outage; by default up to 10.
        ("reconnect.backoff.max.ms", "2000"),
    ]
    .iter()
    .chain(defaults)
    {
        config.set(*name, *value);
    }
    for (name, value) in &kafka.properties {
        if let Some((_, why)) = OURS.iter().find(|(ours, _)| ours == name) {
            return Err(wrong(format!("`properties` can't set `{name}`: {why}"), "take it out of `properties`"));
        }
        let value = match value {
            Setting::Plain(value) => value.clone(),
            Setting::Secret(secret) => secret.resolve(variable).map_err(|reason| {
                wrong(format!("`properties.{name}`: {reason}"), "set the variable and start again")
            })?,
        };
        config.set(name, value);
    }
    config.set("bootstrap.servers", &kafka.brokers);
    for (name, value) in ours {
        config.set(*name, *value);
    }
    // What is wrong with a setting is said without its value, which may be secret.
    match config.create_native_config() {
        Ok(_) => Ok(config),
        Err(KafkaError::ClientConfig(_, reason, name, value)) => {
            let reason = if value.is_empty() { reason } else { reason.replace(&value, "…") };
            let tls = ["ssl", "sasl"].iter().any(|tls| name.starts_with(tls)) || name == "security.protocol";
            let hint = if tls {
                "TLS and SCRAM need usher built with `--features tls`; librdkafka's CONFIGURATION.md has all settings"
            } else {
                "librdkafka's CONFIGURATION.md has all settings"
            };
            Err(wrong(format!("`properties.{name}`: {reason}"), hint))
        }
        Err(error) => Err(wrong(format!("`properties`: {error}"), "librdkafka's CONFIGURATION.md has all settings")),
    }
}

/// A client that was not made.
pub(super) fn not_made(error: &KafkaError) -> Problem {
    let hint = "TLS and SCRAM need usher built with `--features tls`; librdkafka's CONFIGURATION.md has all settings";
    Problem { reason: format!("`properties`: {error}"), hint, passes: false }
}

/// Hears what a client complains of.
pub(super) struct Context {
    /// Who it works for, in the log: `source web`.
    owner: String,
    brokers: String,
    state: Mutex<Complaints>,
}

#[derive(Default)]
struct Complaints {
    /// The latest refusal: trying again does not help.
    refused: Option<Problem>,
    /// The latest complaint since all was well.
    latest: Option<String>,
    /// When one was said, and after how long the next will be.
    said: Option<(Instant, Duration)>,
    /// When the latest came.
    last: Option<Instant>,
    /// The first delivery that failed.
    undelivered: Option<RDKafkaErrorCode>,
}

impl Context {
    pub(super) fn new(owner: String, brokers: &str) -> Context {
        Context { owner, brokers: brokers.to_owned(), state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Complaints> {
        self.state.lock().expect("nobody panics with the lock")
    }

    /// Says a complaint, if enough time has passed since the last.
    pub(super) fn complain(&self, what: &str) {
        let mut state = self.lock();
        state.latest = Some(what.to_owned());
        state.last = Some(Instant::now());
        let wait = match state.said {
            Some((at, wait)) if at.elapsed() < wait => return,
            Some((_, wait)) => (wait * 2).min(SAY_AT_LEAST),
            None => SAY_AGAIN,
        };
        state.said = Some((Instant::now(), wait));
        tracing::warn!(client = %self.owner, brokers = %self.brokers, "waiting for kafka: {what}");
    }

    /// Some broker answers. All is well again if there was no complaint for a while: another may still be away.
    pub(super) fn calm(&self) {
        let quiet = self.lock().last.is_none_or(|last| last.elapsed() > SAY_AGAIN);
        if quiet {
            self.content();
        }
    }

    /// All is well again.
    pub(super) fn content(&self) {
        let mut state = self.lock();
        if state.said.take().is_some() {
            tracing::info!(client = %self.owner, brokers = %self.brokers, "kafka answers");
        }
        state.latest = None;
    }

    /// The latest complaint that has not passed.
    fn complaint(&self) -> Option<String> {
        self.lock().latest.clone()
    }

    /// Why the brokers refuse, if they do.
    pub(super) fn refused(&self) -> Option<Problem> {
        self.lock().refused.clone()
    }

    /// The first delivery that failed since the last call.
    pub(super) fn take_undelivered(&self) -> Option<RDKafkaErrorCode> {
        self.lock().undelivered.take()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // What matters comes as an error, too; these lines repeat it in every detail.
        tracing::debug!(client = %self.owner, ?level, facility, "{message}");
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        let code = code(&error);
        match code {
            // Told where it is noticed.
            RDKafkaErrorCode::Fatal => {}
            RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL => {
                let mut problem = problem(code, &format!("`{}`", self.brokers));
                problem.reason = format!("`{}`: {}", self.brokers, plain(reason));
                self.lock().refused = Some(problem);
                self.complain(plain(reason));
            }
            _ => self.complain(plain(reason)),
        }
    }
}

/// A complaint without the thread and the time that librdkafka puts around it.
fn plain(reason: &str) -> &str {
    let reason = reason.rsplit_once(" (after ").map_or(reason, |(reason, _)| reason);
    reason.strip_prefix("Client ").unwrap_or(reason).trim()
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.lock().undelivered.get_or_insert(code(error));
        }
    }
}

/// Asks until there is an answer that counts, for as long as `patience`.
pub(super) fn insist<T>(
    context: &Context,
    patience: Duration,
    mut ask: impl FnMut() -> Result<T, Problem>,
) -> Result<T, Problem> {
    let until = Instant::now() + patience;
    loop {
        let asked = Instant::now();
        match ask() {
            Ok(answer) => {
                context.content();
                return Ok(answer);
            }
            Err(problem) => {
                if let Some(refused) = context.refused() {
                    return Err(refused);
                }
                if !problem.passes {
                    return Err(problem);
                }
                if Instant::now() >= until {
                    let seconds = patience.as_secs();
                    let reason = context.complaint().unwrap_or(problem.reason);
                    let reason = format!("`{}` did not answer within {seconds} s: {reason}", context.brokers);
                    return Err(Problem { reason, ..problem });
                }
                context.complain(&problem.reason);
                // An answer that came at once would come at once again.
                std::thread::sleep(Duration::from_millis(100).saturating_sub(asked.elapsed()));
            }
        }
    }
}

/// What topics are; a missing one is a problem that names those like it.
pub(super) fn topics<C: ClientContext>(
    client: &Client<C>,
    context: &Context,
    names: &[&str],
    patience: Duration,
) -> Result<Vec<Described>, Problem> {
    let found = insist(context, patience, || ffi::describe(client, names, REQUEST))?;
    let mut all = Vec::new();
    for (name, found) in names.iter().zip(found) {
        all.push(found.ok_or_else(|| missing(client, context, name))?);
    }
    Ok(all)
}

/// That there is no such topic.
pub(super) fn missing<C: ClientContext>(client: &Client<C>, context: &Context, name: &str) -> Problem {
    let mut like: Vec<(usize, String)> = Vec::new();
    if let Ok(metadata) = client.fetch_metadata(None, REQUEST) {
        for topic in metadata.topics() {
            let distance = strsim::damerau_levenshtein(name, topic.name());
            if distance <= 1 + name.len() / 4 || topic.name().contains(name) || name.contains(topic.name()) {
                like.push((distance, topic.name().to_owned()));
            }
        }
    }
    like.sort();
    let like: Vec<String> = like.iter().take(3).map(|(_, name)| format!("`{name}`")).collect();
    let like = if like.is_empty() { String::new() } else { format!("; there is {}", like.join(", ")) };
    Problem {
        reason: format!("`{}` has no topic `{name}`{like}", context.brokers),
        hint: "create the topic, or correct its name",
        passes: false,
    }
}

/// A client that reads partitions one by one, and a thread that hears it out.
pub(super) struct Reader {
    base: Arc<BaseConsumer<Context>>,
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Reader {
    /// Starts a client; `look` is called some ten times a second, on a thread of its own.
    pub(super) fn start(
        config: &ClientConfig,
        context: Context,
        mut look: impl FnMut(&BaseConsumer<Context>) + Send + 'static,
    ) -> Result<Reader, Problem> {
        let base: BaseConsumer<Context> = config.create_with_context(context).map_err(|error| not_made(&error))?;
        let base = Arc::new(base);
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (base, stop) = (Arc::clone(&base), Arc::clone(&stop));
            std::thread::Builder::new().name("kafka".to_owned()).spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // Errors have been told to the context. Messages go to their partitions' queues.
                    let _ = base.poll(Duration::from_millis(100));
                    look(&base);
                }
            })
        };
        Ok(Reader { base, thread: Some(thread.expect("the system can start a thread")), stop })
    }

    pub(super) fn base(&self) -> &BaseConsumer<Context> {
        &self.base
    }

    pub(super) fn context(&self) -> &Context {
        self.base.client().context()
    }

    /// The client of the C interface.
    pub(super) fn native(&self) -> *mut rdkafka::bindings::rd_kafka_t {
        self.base.client().native_ptr()
    }

    /// A partition's first offset and its end: where a reader of what is committed can get to now.
    pub(super) fn ends(&self, topic: &str, partition: i32) -> Result<(i64, i64), Problem> {
        ends(&self.base, topic, partition)
    }
}

/// See [`Reader::ends`].
pub(super) fn ends(base: &BaseConsumer<Context>, topic: &str, partition: i32) -> Result<(i64, i64), Problem> {
    let asked = base.fetch_watermarks(topic, partition, REQUEST);
    asked.map_err(|error| problem(code(&error), &format!("topic `{topic}`, partition {partition}")))
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a panic of the thread is a bug");
        }
    }
}
