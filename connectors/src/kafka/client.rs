//! Clients of a cluster: their settings, the problems that they report, and retries of requests.
//!
//! Promises: a job can't change settings that the engine's guarantees rest on; requests to a cluster that is away are retried
//! without a busy loop, and the problem is logged once and then ever more rarely; a cluster that refuses is an error at once.

use super::error::{Problem, code};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientContext, Statistics};
use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use usher_config::{Kafka, Setting};
use usher_core::lock::lock;

/// How long a cluster may take to answer at a start: 30 s, an election of a new leader and a restart of one broker included.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long one request may take before it is repeated: an answer comes within ms, or not at all.
pub(super) const REQUEST: Duration = Duration::from_secs(3);
/// How long a reader's thread waits before it looks for errors again, at first, …
const POLL_FIRST: Duration = Duration::from_millis(1);
/// … and at most, each time twice as long.
const POLL_MAX: Duration = Duration::from_millis(100);
/// How long it waits for them when it looks.
const POLL: Duration = Duration::from_millis(1);
/// A problem that lasts is logged again after so long, then after twice as long, …
const LOG_PAUSE: Duration = Duration::from_secs(10);
/// … and at least this often.
const LOG_PAUSE_MAX: Duration = Duration::from_secs(300);

/// Settings that a job can't change, and why: each would break a promise.
const RESERVED: [(&str, &str); 17] = [
    ("bootstrap.servers", "the brokers are those of `brokers`"),
    ("metadata.broker.list", "the brokers are those of `brokers`"),
    ("group.id", "partitions are read without a group: positions are kept in the job's state"),
    ("group.instance.id", "partitions are read without a group: positions are kept in the job's state"),
    ("enable.auto.commit", "positions are kept in the job's state"),
    ("auto.commit.enable", "positions are kept in the job's state"),
    ("enable.auto.offset.store", "positions are kept in the job's state"),
    ("auto.offset.reset", "`start` sets where reading starts, and lost messages are reported"),
    ("enable.partition.eof", "the job is live once it has reached the end of each partition"),
    ("isolation.level", "messages of transactions that were rolled back never count"),
    ("transactional.id", "the sync's own name fences its older processes"),
    ("enable.idempotence", "a change is written once and in order"),
    ("enable.gapless.guarantee", "a change is written once and in order"),
    ("acks", "a change is committed when all replicas have it"),
    ("request.required.acks", "a change is committed when all replicas have it"),
    ("partitioner", "a key's changes go to the partition that other clients look for it in"),
    ("allow.auto.create.topics", "a misspelt topic is an error"),
];

/// Returns a client's settings: `defaults`, then those of the job, then `fixed`, which the job can't change.
///
/// `variable` resolves the `${VAR}` of secrets.
pub(super) fn settings(
    kafka: &Kafka,
    defaults: &[(&str, &str)],
    fixed: &[(&str, &str)],
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<ClientConfig, Problem> {
    let mut config = ClientConfig::new();
    config.set_log_level(RDKafkaLogLevel::Warning);
    for (name, value) in [
        // Names us in the brokers' logs.
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
        if let Some((_, why)) = RESERVED.iter().find(|(reserved, _)| reserved == name) {
            return Err(Problem::permanent(
                format!("`properties` can't set `{name}`: {why}"),
                "remove it from `properties`",
            ));
        }
        let value = match value {
            Setting::Plain(value) => value.clone(),
            Setting::Secret(secret) => secret.resolve(variable).map_err(|reason| {
                Problem::permanent(format!("`properties.{name}`: {reason}"), "set the variable and start again")
            })?,
        };
        config.set(name, value);
    }
    config.set("bootstrap.servers", &kafka.brokers);
    for (name, value) in fixed {
        config.set(*name, *value);
    }
    // The error of a setting is shown without the value, which may be secret.
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
            Err(Problem::permanent(format!("`properties.{name}`: {reason}"), hint))
        }
        Err(error) => {
            Err(Problem::permanent(format!("`properties`: {error}"), "librdkafka's CONFIGURATION.md has all settings"))
        }
    }
}

/// What is wrong with a property of a job's cluster.
#[derive(Debug)]
pub struct WrongSetting<'a> {
    /// The property's name.
    pub name: &'a str,
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub hint: &'static str,
}

/// Returns what is wrong with the properties of a job's cluster; connects to nothing. A secret whose variable is not set is left out.
pub fn check_settings<'a>(kafka: &'a Kafka, variable: &dyn Fn(&str) -> Option<String>) -> Vec<WrongSetting<'a>> {
    let mut problems = Vec::new();
    for (name, setting) in &kafka.properties {
        let known = match setting {
            Setting::Plain(_) => true,
            Setting::Secret(secret) => secret.resolve(variable).is_ok() || RESERVED.iter().any(|(own, _)| own == name),
        };
        if known {
            let one = Kafka {
                brokers: kafka.brokers.clone(),
                properties: [(name.clone(), setting.clone())].into_iter().collect(),
                ..Kafka::default()
            };
            let wrong = settings(&one, &[], &[], variable).err();
            problems.extend(wrong.map(|Problem { reason, hint, .. }| WrongSetting { name, reason, hint }));
        }
    }
    problems
}

/// What a client reports: its problems are logged, first at once and then ever more rarely.
pub(super) struct Context {
    /// The source or sync that the client works for, as the log names it: `source web`.
    owner: String,
    brokers: String,
    /// The topics of which the offsets of delivered messages are noted.
    noted: Vec<String>,
    state: Arc<Mutex<ClientState>>,
}

#[derive(Default)]
struct ClientState {
    /// The latest refusal: a retry does not help.
    refused: Option<Problem>,
    /// The latest problem since the brokers last answered.
    latest: Option<String>,
    /// When the latest problem was reported.
    latest_at: Option<Instant>,
    /// The latest line in the log since the brokers last answered.
    logged: Option<Logged>,
    /// The delivery that failed.
    undelivered: Option<Undelivered>,
    /// By noted topic and partition, where messages were delivered.
    delivered: BTreeMap<(usize, i32), Delivered>,
    /// By the number that their sender gave to them, how many messages were delivered.
    arrived: BTreeMap<usize, usize>,
}

/// Where messages of one producer were delivered in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivered {
    /// The offset of the first.
    first: i64,
    /// The offset after the last.
    pub(super) end: i64,
    count: i64,
}

impl Delivered {
    fn at(offset: i64) -> Delivered {
        Delivered { first: offset, end: offset + 1, count: 1 }
    }

    fn add(&mut self, offset: i64) {
        self.first = self.first.min(offset);
        self.end = self.end.max(offset + 1);
        self.count += 1;
    }

    /// Returns whether all that is in the partition from `offset` to the end is of this producer, without transactions.
    pub(super) fn is_all_from(&self, offset: i64) -> bool {
        self.first >= 0 && self.first <= offset && self.count == self.end - self.first
    }
}

/// A message that was not delivered.
#[derive(Clone, Debug)]
pub(super) struct Undelivered {
    pub(super) code: RDKafkaErrorCode,
    /// The message's key, and the length of its value.
    pub(super) key: String,
    pub(super) bytes: usize,
}

impl Undelivered {
    /// Returns the failure of a message that is not known.
    pub(super) fn of(code: RDKafkaErrorCode) -> Undelivered {
        Undelivered { code, key: String::new(), bytes: 0 }
    }

    /// Returns whether this shows the cause better than `other`: a purge has another cause, and of messages that are refused
    /// together for their size it is the largest.
    fn is_closer_than(&self, other: &Undelivered) -> bool {
        match (is_purge(self.code), is_purge(other.code)) {
            (own, others) if own != others => others,
            _ => self.code == other.code && self.bytes > other.bytes,
        }
    }
}

/// Returns whether a code says only that librdkafka has removed a message, and not why.
pub(super) fn is_purge(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)
}

/// A problem in the log.
#[derive(Clone, Copy)]
struct Logged {
    at: Instant,
    /// How long the next problem is not logged.
    pause: Duration,
}

impl Context {
    pub(super) fn new(owner: String, brokers: &str) -> Context {
        Context { owner, brokers: brokers.to_owned(), noted: Vec::new(), state: Arc::default() }
    }

    /// Returns the context of another client of the same owner: a problem that both have is logged as one.
    pub(super) fn for_another_client(&self) -> Context {
        Context {
            owner: self.owner.clone(),
            brokers: self.brokers.clone(),
            noted: Vec::new(),
            state: Arc::clone(&self.state),
        }
    }

    /// Notes the offsets of messages that are delivered to `topics`.
    pub(super) fn noting(self, topics: &[&str]) -> Context {
        Context { noted: topics.iter().map(|topic| (*topic).to_owned()).collect(), ..self }
    }

    fn lock(&self) -> MutexGuard<'_, ClientState> {
        lock(&self.state)
    }

    pub(super) fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Records a problem, and logs it if the pause since the last line is over.
    pub(super) fn report(&self, what: &str) {
        let mut state = self.lock();
        state.latest = Some(what.to_owned());
        state.latest_at = Some(Instant::now());
        let pause = match state.logged {
            Some(Logged { at, pause }) if at.elapsed() < pause => return,
            Some(Logged { pause, .. }) => (pause * 2).min(LOG_PAUSE_MAX),
            None => LOG_PAUSE,
        };
        state.logged = Some(Logged { at: Instant::now(), pause });
        tracing::warn!(client = %self.owner, brokers = %self.brokers, "waiting for kafka: {what}");
    }

    /// Takes an answer of some broker. It ends the problem only if none was reported for a while: another broker may still be
    /// away.
    pub(super) fn report_answer(&self) {
        let quiet = self.lock().latest_at.is_none_or(|at| at.elapsed() > LOG_PAUSE);
        if quiet {
            self.report_recovery();
        }
    }

    /// Ends the problem, and logs that, if the problem was logged.
    pub(super) fn report_recovery(&self) {
        let mut state = self.lock();
        if state.logged.take().is_some() {
            tracing::info!(client = %self.owner, brokers = %self.brokers, "kafka answers");
        }
        state.latest = None;
    }

    /// Returns the latest problem, if it has not ended.
    fn latest(&self) -> Option<String> {
        self.lock().latest.clone()
    }

    /// Returns why the brokers refuse, if they do.
    pub(super) fn refused(&self) -> Option<Problem> {
        self.lock().refused.clone()
    }

    /// Returns the delivery that failed since the last call. Of several the one that shows the cause.
    pub(super) fn take_undelivered(&self) -> Option<Undelivered> {
        self.lock().undelivered.take()
    }

    /// Returns whether a delivery failed since the last [`Context::take_undelivered`] for a reason of its own, not by a purge.
    pub(super) fn has_rejected(&self) -> bool {
        self.lock().undelivered.as_ref().is_some_and(|undelivered| !is_purge(undelivered.code))
    }

    /// Returns, by noted topic and partition, where messages were delivered since the last call.
    pub(super) fn take_delivered(&self) -> BTreeMap<(usize, i32), Delivered> {
        std::mem::take(&mut self.lock().delivered)
    }

    /// Returns how many messages were delivered since the last call, by the number that their sender gave to them.
    pub(super) fn take_arrived(&self) -> BTreeMap<usize, usize> {
        std::mem::take(&mut self.lock().arrived)
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
        let reason = plain(reason);
        match code {
            // Handled by the call that fails with it.
            RDKafkaErrorCode::Fatal => {}
            RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL => {
                let brokers = format!("`{}`", self.brokers);
                let refused = Problem { reason: format!("{brokers}: {reason}"), ..Problem::of_code(code, &brokers) };
                self.lock().refused = Some(refused);
                self.report(reason);
            }
            _ => self.report(reason),
        }
    }
}

/// Returns an error's text without the thread and the time that librdkafka puts around it.
fn plain(reason: &str) -> &str {
    let reason = reason.rsplit_once(" (after ").map_or(reason, |(reason, _)| reason);
    reason.strip_prefix("Client ").unwrap_or(reason).trim()
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    /// A number by which the sender counts messages that have arrived; those with 0 are not counted.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match result {
            Ok(message) => {
                let Some(topic) = self.noted.iter().position(|topic| topic == message.topic()) else { return };
                let offset = message.offset();
                let mut state = self.lock();
                let noted = state.delivered.entry((topic, message.partition()));
                noted.and_modify(|noted| noted.add(offset)).or_insert_with(|| Delivered::at(offset));
                if number > 0 {
                    *state.arrived.entry(number).or_default() += 1;
                }
            }
            Err((error, message)) => {
                let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
                let bytes = message.payload().map_or(0, <[u8]>::len);
                let failed = Undelivered { code: code(error), key, bytes };
                let mut state = self.lock();
                if state.undelivered.as_ref().is_none_or(|known| failed.is_closer_than(known)) {
                    state.undelivered = Some(failed);
                }
            }
        }
    }
}

/// Repeats a request until it succeeds, fails for good, or `patience` is over.
pub(super) fn retry<T>(
    context: &Context,
    patience: Duration,
    mut request: impl FnMut() -> Result<T, Problem>,
) -> Result<T, Problem> {
    let until = Instant::now() + patience;
    loop {
        let started = Instant::now();
        match request() {
            Ok(answer) => {
                context.report_recovery();
                return Ok(answer);
            }
            Err(problem) => {
                if let Some(refused) = context.refused() {
                    return Err(refused);
                }
                if !problem.transient {
                    return Err(problem);
                }
                if Instant::now() >= until {
                    let seconds = patience.as_secs();
                    let reason = context.latest().unwrap_or(problem.reason);
                    let reason = format!("`{}` did not answer within {seconds} s: {reason}", context.brokers);
                    return Err(Problem { reason, ..problem });
                }
                context.report(&problem.reason);
                // A request that failed at once would fail at once again.
                std::thread::sleep(Duration::from_millis(100).saturating_sub(started.elapsed()));
            }
        }
    }
}

/// A client that reads partitions one by one, and the thread that polls it for errors.
pub(super) struct Reader {
    base: Arc<BaseConsumer<Context>>,
    thread: Option<JoinHandle<()>>,
    /// The thread ends once it is dropped.
    runs: Option<Sender<()>>,
}

impl Reader {
    /// Starts a client; `tick` is called some ten times a second, at first more often, on the client's thread.
    pub(super) fn start(
        config: &ClientConfig,
        context: Context,
        mut tick: impl FnMut(&BaseConsumer<Context>) + Send + 'static,
    ) -> Result<Reader, Problem> {
        let base: BaseConsumer<Context> =
            config.create_with_context(context).map_err(|error| Problem::not_created(&error))?;
        let base = Arc::new(base);
        let (runs, ended) = mpsc::channel();
        let thread = {
            let base = Arc::clone(&base);
            std::thread::Builder::new().name("kafka".to_owned()).spawn(move || {
                let mut wait = POLL_FIRST;
                // Not `poll(wait)`: whoever drops the reader would wait for the end of it.
                while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                    // Errors go to the context, messages to their partitions' queues. With no time at all the crate would return after each line
                    // of librdkafka's log.
                    while base.poll(POLL).is_some() {}
                    tick(&base);
                    wait = (wait * 2).min(POLL_MAX);
                }
            })
        };
        Ok(Reader { base, thread: Some(thread.expect("the system can start a thread")), runs: Some(runs) })
    }

    pub(super) fn base(&self) -> &BaseConsumer<Context> {
        &self.base
    }

    pub(super) fn context(&self) -> &Context {
        self.base.client().context()
    }

    /// Returns the client of the C interface.
    pub(super) fn native(&self) -> *mut rdkafka::bindings::rd_kafka_t {
        self.base.client().native_ptr()
    }

    /// Returns a partition's first offset and its end: how far a reader of committed messages can get now.
    pub(super) fn ends(&self, topic: &str, partition: i32) -> Result<(i64, i64), Problem> {
        ends(&self.base, topic, partition)
    }
}

/// A partition: the place of its topic in a list of them, and its number.
pub(super) type TopicPartition = (usize, i32);

/// Returns, by partition, the first offset and the end, as [`Reader::ends`] does. Two requests to each broker, however many partitions it has.
pub(super) fn all_ends(
    base: &BaseConsumer<Context>,
    topics: &[&str],
    partitions: impl Iterator<Item = TopicPartition> + Clone,
) -> Result<BTreeMap<TopicPartition, (i64, i64)>, Problem> {
    let lows = offsets_at(base, topics, partitions.clone(), Offset::Beginning)?;
    let ends = offsets_at(base, topics, partitions, Offset::End)?;
    let both = |((topic, number), low): (TopicPartition, i64)| {
        let end = ends[&(topic, number)];
        if low < 0 || end < low {
            let reason = format!("topic `{}`, partition {number}, starts at {low} and ends at {end}", topics[topic]);
            // It is being created anew.
            return Err(Problem { reason, hint: "see that the topic is there", transient: true });
        }
        Ok(((topic, number), (low, end)))
    };
    lows.into_iter().map(both).collect()
}

/// Returns the offsets of partitions at either end, or those of their first messages of a time or later; -1 where there is none. The offset of `place` is the time then,
/// ms since the epoch.
pub(super) fn offsets_at(
    base: &BaseConsumer<Context>,
    topics: &[&str],
    partitions: impl Iterator<Item = TopicPartition>,
    place: Offset,
) -> Result<BTreeMap<TopicPartition, i64>, Problem> {
    let partitions: Vec<TopicPartition> = partitions.collect();
    // The call takes no empty list.
    if partitions.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut asked = TopicPartitionList::with_capacity(partitions.len());
    for (topic, number) in &partitions {
        asked.add_partition_offset(topics[*topic], *number, place).expect("a time and both ends are valid offsets");
    }
    let found = base.offsets_for_times(asked, REQUEST).map_err(|error| {
        let names: Vec<String> = topics.iter().map(|topic| format!("topic `{topic}`")).collect();
        Problem::of_error(&error, &names.join(", "))
    })?;
    let offset = |(topic, number): TopicPartition| {
        let name = topics[topic];
        let element = found.find_partition(name, number).expect("the answer has each requested partition");
        element.error().map_err(|error| Problem::of_error(&error, &format!("topic `{name}`, partition {number}")))?;
        Ok(((topic, number), element.offset().to_raw().unwrap_or(-1)))
    };
    partitions.into_iter().map(offset).collect()
}

/// See [`Reader::ends`].
pub(super) fn ends(base: &BaseConsumer<Context>, topic: &str, partition: i32) -> Result<(i64, i64), Problem> {
    base.fetch_watermarks(topic, partition, REQUEST)
        .map_err(|error| Problem::of_error(&error, &format!("topic `{topic}`, partition {partition}")))
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.runs = None;
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a panic of the thread is a bug");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Delivered;

    /// What others have written between is seen as a gap, and what is not known is no proof.
    #[test]
    fn what_was_delivered_is_all_only_without_a_gap() {
        let delivered = |offsets: &[i64]| {
            let mut of = Delivered::at(offsets[0]);
            offsets[1..].iter().for_each(|offset| of.add(*offset));
            of
        };
        assert!(delivered(&[7]).is_all_from(7));
        assert!(delivered(&[7, 8, 9]).is_all_from(7) && delivered(&[9, 7, 8]).is_all_from(8));
        assert!(!delivered(&[7, 8]).is_all_from(6), "another's record may be at 6");
        assert!(!delivered(&[7, 9]).is_all_from(7), "another's record is at 8");
        // A duplicate that was refused has no offset.
        assert!(!delivered(&[-1001, 8]).is_all_from(7) && !delivered(&[-1001]).is_all_from(7));
    }
}
