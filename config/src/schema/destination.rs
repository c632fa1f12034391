//! The keys of places that messages are written to: the destinations of syncs and of dead letters.

use super::{
    Entries, Fields, Key, RawSetting, Record, Rule, SETTING, TEXT, TOPIC, by_name, optional, record, required, vendor,
    webhook,
};

pub(crate) static FILE: Key<Fields> = optional("file", record(&FILE_RECORD), "Appends lines to a file.");
pub(crate) static KAFKA: Key<Fields> = optional("kafka", record(&KAFKA_RECORD), "Messages in a topic of Kafka.");
pub(crate) static WEBHOOK: Key<Fields> =
    optional("webhook", record(&webhook::RECORD), "Sends each change by HTTP, signed as Standard Webhooks are.");
pub(crate) static SEGMENT: Key<Fields> =
    optional("segment", record(&vendor::SEGMENT), "Messages of a source of Segment.");
pub(crate) static RUDDERSTACK: Key<Fields> =
    optional("rudderstack", record(&vendor::RUDDERSTACK), "Messages of a source of RudderStack.");
pub(crate) static BRAZE: Key<Fields> =
    optional("braze", record(&vendor::BRAZE), "Attributes or events of users of Braze.");
pub(crate) static ITERABLE: Key<Fields> = optional("iterable", record(&vendor::ITERABLE), "Static lists of Iterable.");
pub(crate) static CUSTOMERIO: Key<Fields> = optional(
    "customerio",
    record(&vendor::CUSTOMERIO),
    "Attributes or events of people of Customer.io, or its manual segments.",
);
pub(crate) static STDOUT: Key<Fields> = optional("stdout", record(&STDOUT_RECORD), "Prints lines: `stdout: {}`.");

/// The destination of a sync.
pub(crate) static DESTINATION: Record = Record {
    what: "destination",
    keys: &[&FILE, &KAFKA, &STDOUT, &WEBHOOK, &SEGMENT, &RUDDERSTACK, &BRAZE, &ITERABLE, &CUSTOMERIO],
    rules: &[Rule::ExactlyOne(&[
        &FILE,
        &KAFKA,
        &STDOUT,
        &WEBHOOK,
        &SEGMENT,
        &RUDDERSTACK,
        &BRAZE,
        &ITERABLE,
        &CUSTOMERIO,
    ])],
};

/// The destination of dead letters.
pub(crate) static DEAD_LETTERS: Record =
    Record { what: "dead letters", keys: &[&FILE, &KAFKA], rules: &[Rule::ExactlyOne(&[&FILE, &KAFKA])] };

pub(crate) static FILE_PATH: Key<String> = required("path", TEXT, "The file, relative to the job file's folder.");

static FILE_RECORD: Record = Record { what: "file", keys: &[&FILE_PATH], rules: &[] };

static STDOUT_RECORD: Record = Record { what: "stdout", keys: &[], rules: &[] };

pub(crate) static BROKERS: Key<String> = required("brokers", TEXT, "`host:port`, comma separated.");
pub(crate) static TOPIC_NAME: Key<String> = required("topic", TOPIC, "The topic.");
pub(crate) static PROPERTIES: Key<Entries<RawSetting>> = optional(
    "properties",
    by_name(&SETTING),
    "Passed to librdkafka unchanged. If the name contains password, secret, token or key, the value is never shown.",
);

static KAFKA_RECORD: Record = Record { what: "kafka topic", keys: &[&BROKERS, &TOPIC_NAME, &PROPERTIES], rules: &[] };
