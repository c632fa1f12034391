//! How large a record may be: what the client takes, and what the brokers take in a topic.
//!
//! Promises: a message that is larger than either is never produced, because one that brokers refuse fails its whole
//! transaction. Brokers measure batches, so a batch of several records is held to the smaller of the topics' limits, by
//! `batch.size`.
//!
//! A record is measured before compression, as librdkafka does: whether a change is sent does not depend on its neighbours
//! in a batch. Limits are read when the sync is opened; again when a message is larger than the topic's, at most every
//! [`LOOK`]; and when brokers refuse a record although it fits. Where they can't be read (the user may not describe the
//! topics' settings), the client's limit holds alone.

use super::open::producer;
use super::sender::Sender;
use super::transaction::Setback;
use crate::kafka::client::Context;
use crate::kafka::error::Problem;
use crate::kafka::topics;
use rdkafka::admin::AdminClient;
use rdkafka::config::ClientConfig;
use std::fmt;
use std::time::{Duration, Instant};

/// The client's limit where the job sets none: librdkafka's.
const CLIENT_BYTES: usize = 1_000_000;
/// The most that a record takes besides key, value and headers: librdkafka's `RD_KAFKAP_MESSAGE_V2_MAX_OVERHEAD`.
const RECORD_BYTES: usize = 36;
/// The most that a header takes besides name and value: two lengths.
const HEADER_BYTES: usize = 10;
/// What a batch takes besides its records: the header of format 2.
const BATCH_BYTES: usize = 61;
/// From one look at the limits to the next: a topic whose limit was raised takes larger messages soon, and many refused
/// messages are not as many requests.
const LOOK: Duration = Duration::from_secs(10);
/// How long brokers that do not answer are asked for the limits.
const PATIENCE: Duration = Duration::from_secs(5);

/// The limits, bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// `message.max.bytes` of the client.
    client: usize,
    /// `max.message.bytes` of the target and of the ledger topic; `None` if it can't be read.
    target: Option<usize>,
    ledger: Option<usize>,
    read: Instant,
}

/// Why a message is not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Of the record, before compression.
    bytes: usize,
    most: usize,
    /// The setting that says so, and of what.
    setting: &'static str,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { bytes, most, setting } = self;
        write!(f, "a message of {bytes} bytes is larger than {setting}, {most}")
    }
}

const OF_CLIENT: &str = "the client's `message.max.bytes`";
const OF_TARGET: &str = "the topic's `max.message.bytes`";
const OF_LEDGER: &str = "the ledger topic's `max.message.bytes`";

/// Returns the most bytes of a record, before compression, by the lengths of its key and value.
pub(super) fn record_bytes<'a, 'b>(
    key: usize,
    value: usize,
    headers: impl IntoIterator<Item = (&'a str, &'b [u8])>,
) -> usize {
    let headers = headers.into_iter().map(|(name, value)| HEADER_BYTES + name.len() + value.len());
    RECORD_BYTES + key + value + headers.sum::<usize>()
}

impl Limits {
    /// Returns the client's limit alone.
    pub(super) fn of_client(client: &ClientConfig) -> Limits {
        let client = client.get("message.max.bytes").and_then(|text| text.parse().ok()).unwrap_or(CLIENT_BYTES);
        Limits { client, target: None, ledger: None, read: Instant::now() }
    }

    /// Reads the limits of the target and of the ledger topic, in this order.
    pub(super) fn read(
        admin: &AdminClient<Context>,
        names: [&str; 2],
        client: &ClientConfig,
    ) -> Result<Limits, Problem> {
        let found = topics::setting(admin, &names, "max.message.bytes", PATIENCE)?;
        let bytes = |place: usize| found[place].as_ref().ok().and_then(|value| value.parse().ok());
        for (name, code) in names.iter().zip(&found).filter_map(|(name, found)| Some((name, found.as_ref().err()?))) {
            tracing::debug!(topic = name, "the topic's settings can't be read: {code}");
        }
        Ok(Limits { target: bytes(0), ledger: bytes(1), ..Limits::of_client(client) })
    }

    /// Returns why a record of so many bytes is not sent to the target, if it is not.
    pub(super) fn refuses(&self, bytes: usize) -> Option<Refusal> {
        self.refuses_in(self.target, OF_TARGET, bytes)
    }

    /// Returns why a record of so many bytes is not written to the ledger, if it is not.
    pub(super) fn ledger_refuses(&self, bytes: usize) -> Option<Refusal> {
        self.refuses_in(self.ledger, OF_LEDGER, bytes)
    }

    fn refuses_in(&self, topic: Option<usize>, of_topic: &'static str, bytes: usize) -> Option<Refusal> {
        let refused = |most: usize, setting| (bytes > most).then_some(Refusal { bytes, most, setting });
        let of_topic = topic.and_then(|most| refused(most.saturating_sub(BATCH_BYTES), of_topic));
        of_topic.or_else(|| refused(self.client, OF_CLIENT))
    }

    /// Holds the batches of a producer to what both topics take.
    pub(super) fn bound(&self, config: &mut ClientConfig) {
        let own = config.get("batch.size").and_then(|text| text.parse().ok()).unwrap_or(CLIENT_BYTES);
        let most = [self.target, self.ledger].into_iter().flatten().fold(own, usize::min);
        config.set("batch.size", most.max(1).to_string());
    }

    /// Returns whether a topic takes less than by `other`.
    fn is_below(&self, other: &Limits) -> bool {
        let of = |limit: Option<usize>| limit.unwrap_or(usize::MAX);
        of(self.target) < of(other.target) || of(self.ledger) < of(other.ledger)
    }
}

impl Sender {
    /// Returns why a message is not sent, if it is not. Limits that were not read just now are read again before.
    pub(super) fn refusal(&self, refused: impl Fn(&Limits) -> Option<Refusal>) -> Option<Refusal> {
        let refusal = refused(&self.limits.get())?;
        if self.limits.get().read.elapsed() < LOOK {
            return Some(refusal);
        }
        // What can't be read now stays as it was. Limits that are lower now are found when brokers refuse a batch: the producer is replaced
        // then, because its batches are held to them too.
        let known = Limits { read: Instant::now(), ..self.limits.get() };
        self.limits.set(self.read_limits().ok().filter(|found| !found.is_below(&known)).unwrap_or(known));
        refused(&self.limits.get())
    }

    fn read_limits(&self) -> Result<Limits, Problem> {
        let names = [&self.own.topic[..], &self.own.ledger_topic];
        Limits::read(&topics::admin(&self.admin_config, self.own.context())?, names, &self.producer_config)
    }

    /// Reads the limits again, because brokers have refused a record that fits, and leaves the producer to be replaced.
    /// Returns what the refusal means for the batch: it is sent again if the limits are smaller now, else it has failed with
    /// `problem`.
    pub(super) fn lower_limits(&mut self, problem: Problem) -> Setback {
        let again = |sender: &Sender, reason| match sender.own.exactly_once {
            true => Setback::Replace(reason),
            false => Setback::Retry(reason),
        };
        let found = match self.read_limits() {
            Ok(found) => found,
            Err(unread) if unread.transient => return again(self, unread.reason),
            Err(_) => return self.of_problem(problem),
        };
        if !found.is_below(&self.limits.get()) {
            return self.of_problem(problem);
        }
        tracing::warn!(sync = %self.own.id, topic = %self.own.topic, "the topics take only smaller messages now");
        self.limits.set(found);
        found.bound(&mut self.producer_config);
        if !self.own.exactly_once {
            match producer(self.producer_context(), &self.producer_config) {
                Ok(new) => self.producer = new,
                Err(problem) => return self.of_problem(problem),
            }
        }
        again(self, problem.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(target: Option<usize>) -> Limits {
        Limits { client: CLIENT_BYTES, target, ledger: Some(5_000), read: Instant::now() }
    }

    #[test]
    fn a_message_is_held_to_the_smaller_of_the_clients_limit_and_the_topics() {
        let limits_of = |target| limits(target);
        assert_eq!(limits_of(Some(2_000)).refuses(2_000 - BATCH_BYTES), None);
        let refusal = limits_of(Some(2_000)).refuses(2_000).unwrap();
        assert_eq!(refusal.to_string(), "a message of 2000 bytes is larger than the topic's `max.message.bytes`, 1939");
        assert_eq!(limits_of(None).refuses(CLIENT_BYTES), None);
        let refusal = limits_of(Some(2_000_000)).refuses(CLIENT_BYTES + 1).unwrap();
        assert_eq!(refusal.setting, OF_CLIENT);
        assert_eq!(limits_of(None).ledger_refuses(5_000).unwrap().setting, OF_LEDGER);
    }

    #[test]
    fn batches_are_held_to_the_smaller_of_both_topics_and_the_jobs_own() {
        let size = |target, own: Option<&str>| {
            let mut config = ClientConfig::new();
            own.map(|own| config.set("batch.size", own));
            limits(target).bound(&mut config);
            config.get("batch.size").map(str::to_owned)
        };
        assert_eq!(size(None, None).as_deref(), Some("5000"));
        assert_eq!(size(Some(2_000), None).as_deref(), Some("2000"));
        assert_eq!(size(Some(2_000), Some("100")).as_deref(), Some("100"));
        assert_eq!(size(Some(0), None).as_deref(), Some("1"));
    }

    #[test]
    fn a_record_is_measured_with_its_key_and_headers() {
        assert_eq!(record_bytes(2, 100, [("id", &b"12345"[..])]), 36 + 2 + 100 + 10 + 2 + 5);
    }
}
