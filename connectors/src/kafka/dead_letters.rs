//! A topic for dead letters: one message each, keyed by the source's id.
//!
//! Promises: memory is bounded; while the brokers are away and the queue is full, a worker waits [`WAIT`] once, and later dead
//! letters are counted and sampled in the log instead of sent; [`DeadLetterTopic::finish`] waits until all queued ones have
//! arrived.

use super::Variable;
use super::client::{Context, PATIENCE, Reader, settings};
use super::error::Problem;
use super::topics;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, NoCustomPartitioner, Producer, ThreadedProducer};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use usher_config::Kafka;
use usher_core::lock::lock;
use usher_core::sink::SinkError;

/// How long a dead letter waits for room, once: as long as brokers need for an election or a restart.
const WAIT: Duration = Duration::from_secs(5);
/// How long [`DeadLetterTopic::finish`] waits for brokers.
const FINISH: Duration = Duration::from_secs(30);

const DEFAULTS: [(&str, &str); 2] = [
    ("compression.type", "lz4"),
    // At most 8 MiB wait.
    ("queue.buffering.max.kbytes", "8192"),
];

const FIXED: [(&str, &str); 2] = [
    // Each once and in order, while the process lives.
    ("enable.idempotence", "true"),
    // Retried until it arrives.
    ("message.timeout.ms", "0"),
];

/// Writes dead letters to a topic.
pub(crate) struct DeadLetterTopic {
    /// The topic's name in errors.
    to: String,
    topic: String,
    producer: ThreadedProducer<Context, NoCustomPartitioner>,
    full: Mutex<Full>,
}

/// What happened to dead letters while the queue was full.
#[derive(Default)]
struct Full {
    /// The brokers are away: later dead letters do not wait.
    away: bool,
    /// Dead letters that were not sent.
    lost: u64,
}

/// Checks that dead letters can be written to the topic: the brokers answer, and the topic exists.
pub fn check_dead_letters(kafka: &Kafka, topic: &str, variable: Variable<'_>) -> Result<(), SinkError> {
    let opened = || -> Result<(), Problem> {
        let context = Context::new("dead letters".to_owned(), &kafka.brokers);
        let reader = Reader::start(&settings(kafka, &[], &[], variable)?, context, |_| ())?;
        topics::describe(reader.base().client(), reader.context(), &[topic], PATIENCE).map(drop)
    };
    opened().map_err(|problem| failed(&name(kafka, topic), "opened", problem))
}

fn name(kafka: &Kafka, topic: &str) -> String {
    format!("topic `{topic}` of `{}`", kafka.brokers)
}

fn failed(to: &str, action: &'static str, problem: Problem) -> SinkError {
    SinkError::Failed { to: to.to_owned(), action, reason: problem.reason, hint: problem.hint }
}

impl DeadLetterTopic {
    /// Opens the topic, which must exist.
    pub(crate) fn open(kafka: &Kafka, topic: &str, variable: Variable<'_>) -> Result<DeadLetterTopic, SinkError> {
        check_dead_letters(kafka, topic, variable)?;
        let to = name(kafka, topic);
        let producer = settings(kafka, &DEFAULTS, &FIXED, variable).and_then(|config| {
            let context = Context::new("dead letters".to_owned(), &kafka.brokers);
            config.create_with_context(context).map_err(|error| Problem::not_created(&error))
        });
        let producer = producer.map_err(|problem| failed(&to, "opened", problem))?;
        Ok(DeadLetterTopic { to, topic: topic.to_owned(), producer, full: Mutex::default() })
    }

    /// Queues a dead letter. Returns None if it was queued; else the number of dead letters so far, with this one, that were not,
    /// because the queue is full.
    pub(crate) fn push(&self, source: &str, letter: &[u8]) -> Result<Option<u64>, SinkError> {
        if let Some(undelivered) = self.producer.client().context().take_undelivered() {
            return Err(self.rejected(undelivered.code));
        }
        let until = Instant::now() + WAIT;
        loop {
            match self.producer.send(BaseRecord::with_opaque_to(&self.topic, 0).key(source).payload(letter)) {
                Ok(()) => {
                    lock(&self.full).away = false;
                    return Ok(None);
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    let mut full = lock(&self.full);
                    full.away |= Instant::now() >= until;
                    if full.away {
                        full.lost += 1;
                        return Ok(Some(full.lost));
                    }
                }
                Err((error, _)) => {
                    return Err(self.rejected(super::error::code(&error)));
                }
            }
            // There is room again when messages have arrived, of which the producer gives no signal.
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn rejected(&self, code: RDKafkaErrorCode) -> SinkError {
        failed(&self.to, "written", Problem::of_code(code, "a dead letter was rejected"))
    }

    /// Waits until all queued dead letters have arrived.
    pub(crate) fn finish(&self) -> Result<(), SinkError> {
        let lost = lock(&self.full).lost;
        if lost > 0 {
            tracing::warn!(lost, "dead letters were not sent while {} was away", self.to);
        }
        let flushed = self.producer.flush(FINISH);
        if let Some(undelivered) = self.producer.client().context().take_undelivered() {
            return Err(self.rejected(undelivered.code));
        }
        flushed.map_err(|_| {
            let left = self.producer.in_flight_count();
            let reason = format!("{left} dead letters have not arrived within {} s", FINISH.as_secs());
            failed(&self.to, "written", Problem { reason, hint: "see that the brokers run", transient: true })
        })
    }
}
