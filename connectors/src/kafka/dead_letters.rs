//! A topic for dead letters: a message each, keyed by the source's id.
//!
//! Promises: memory is bounded; a worker waits for brokers that are away for [`WAIT`] once, and from then on what finds no
//! room is counted and goes to the log; the end waits until all that was taken has arrived.

use super::Variable;
use super::client::{Context, PATIENCE, Problem, Reader, not_made, problem, settings, topics};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, NoCustomPartitioner, Producer, ThreadedProducer};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use usher_config::Kafka;
use usher_core::sink::SinkError;

/// How long a dead letter waits for room, once: as long as brokers need for an election or a restart.
const WAIT: Duration = Duration::from_secs(5);
/// How long the end waits for brokers.
const FINISH: Duration = Duration::from_secs(30);

const DEFAULTS: [(&str, &str); 2] = [
    ("compression.type", "lz4"),
    // 8 MiB wait at most.
    ("queue.buffering.max.kbytes", "8192"),
];

const OURS: [(&str, &str); 2] = [
    // Each once and in order, while the process lives.
    ("enable.idempotence", "true"),
    // Tried until it arrives.
    ("message.timeout.ms", "0"),
];

/// Writes dead letters to a topic.
pub(crate) struct Letters {
    to: String,
    topic: String,
    producer: ThreadedProducer<Context, NoCustomPartitioner>,
    full: Mutex<Full>,
}

/// What became of letters that found no room.
#[derive(Default)]
struct Full {
    /// The brokers are away: nobody waits any more.
    away: bool,
    lost: u64,
}

/// Whether dead letters could be written to the topic.
pub fn check_letters(kafka: &Kafka, topic: &str, variable: Variable<'_>) -> Result<(), SinkError> {
    let opened = || -> Result<(), Problem> {
        let context = Context::new("dead letters".to_owned(), &kafka.brokers);
        let reader = Reader::start(&settings(kafka, &[], &[], variable)?, context, |_| ())?;
        topics(reader.base().client(), reader.context(), &[topic], PATIENCE).map(drop)
    };
    opened().map_err(|problem| failed(&name(kafka, topic), "opened", problem))
}

fn name(kafka: &Kafka, topic: &str) -> String {
    format!("topic `{topic}` of `{}`", kafka.brokers)
}

fn failed(to: &str, action: &'static str, problem: Problem) -> SinkError {
    SinkError::Failed { to: to.to_owned(), action, reason: problem.reason, hint: problem.hint }
}

impl Letters {
    /// Opens the topic, which has to be there.
    pub(crate) fn open(kafka: &Kafka, topic: &str, variable: Variable<'_>) -> Result<Letters, SinkError> {
        check_letters(kafka, topic, variable)?;
        let to = name(kafka, topic);
        let producer = settings(kafka, &DEFAULTS, &OURS, variable).and_then(|config| {
            let context = Context::new("dead letters".to_owned(), &kafka.brokers);
            config.create_with_context(context).map_err(|error| not_made(&error))
        });
        let producer = producer.map_err(|problem| failed(&to, "opened", problem))?;
        Ok(Letters { to, topic: topic.to_owned(), producer, full: Mutex::default() })
    }

    /// Takes a letter; some: there is no room for it, as for so many before.
    pub(crate) fn push(&self, source: &str, letter: &[u8]) -> Result<Option<u64>, SinkError> {
        if let Some(code) = self.producer.client().context().take_undelivered() {
            return Err(failed(&self.to, "written", problem(code, "a dead letter was not taken")));
        }
        let until = Instant::now() + WAIT;
        loop {
            match self.producer.send(BaseRecord::to(&self.topic).key(source).payload(letter)) {
                Ok(()) => {
                    self.full.lock().expect("nobody panics with the lock").away = false;
                    return Ok(None);
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    let mut full = self.full.lock().expect("nobody panics with the lock");
                    full.away |= Instant::now() >= until;
                    if full.away {
                        full.lost += 1;
                        return Ok(Some(full.lost));
                    }
                }
                Err((error, _)) => {
                    return Err(failed(
                        &self.to,
                        "written",
                        problem(super::client::code(&error), "a dead letter was not taken"),
                    ));
                }
            }
            // Room comes as letters arrive; there is nobody to wake us.
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until all have arrived.
    pub(crate) fn finish(&self) -> Result<(), SinkError> {
        let lost = self.full.lock().expect("nobody panics with the lock").lost;
        if lost > 0 {
            tracing::warn!(lost, "dead letters found no room while {} was away", self.to);
        }
        let flushed = self.producer.flush(FINISH);
        if let Some(code) = self.producer.client().context().take_undelivered() {
            return Err(failed(&self.to, "written", problem(code, "a dead letter was not taken")));
        }
        flushed.map_err(|_| {
            let left = self.producer.in_flight_count();
            let reason = format!("{left} dead letters have not arrived within {} s", FINISH.as_secs());
            failed(&self.to, "written", Problem { reason, hint: "see that the brokers run", passes: true })
        })
    }
}
