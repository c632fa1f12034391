//! The keys of sources.

use super::destination::{BROKERS, PROPERTIES};
use super::{
    BOOLEAN, Choice, Fields, Key, List, PATH, Record, Rule, SECRET, SECRET_URL, START, Short, TEXT, TOPIC, Type,
    choice, one_or_more, optional, record, required, short,
};
use crate::{Envelope, Path, Secret, Start};

pub(crate) static FILE: Key<Fields> =
    optional("file", record(&FILE_RECORD), "Files of lines; each file is a partition.");
pub(crate) static KAFKA: Key<Fields> =
    optional("kafka", record(&KAFKA_RECORD), "Topics of Kafka; each of their partitions is one.");
pub(crate) static FORMAT: Key<Short<FormatName>> =
    required("format", short(&FORMAT_NAME, &FORMAT_RECORD), "The messages' wire format.");
pub(crate) static ENCODING: Key<EncodingName> =
    optional("encoding", choice(), "How the messages are written.").default(EncodingName::Json);
pub(crate) static SCHEMA: Key<String> = optional(
    "schema",
    TEXT,
    "The file with the schema that writes the messages, relative to the job file's folder: an Avro schema, or a `.proto` file.",
);
pub(crate) static REGISTRY: Key<Fields> = optional(
    "registry",
    record(&REGISTRY_RECORD),
    "The schema registry that has the schemas that the messages name: in their prefix, or in the header `__value_schema_id`.",
);
pub(crate) static MESSAGE: Key<String> = optional("message", TEXT, "The name of the message in a `.proto` file.");
pub(crate) static UNWRAP: Key<List<Envelope>> = optional(
    "unwrap",
    one_or_more(&ENVELOPE),
    "The envelope around each message, or a list of envelopes, the outermost first.",
);
pub(crate) static START_AT: Key<Start> = optional(
    "start",
    START,
    "Where a first start reads Kafka from: `earliest`, `latest`, or a time, RFC 3339 or Unix time in seconds or ms. \
     Default: what fills the longest window.",
);

/// A source.
pub(crate) static RECORD: Record = Record {
    what: "source",
    keys: &[&FILE, &KAFKA, &FORMAT, &ENCODING, &REGISTRY, &SCHEMA, &MESSAGE, &UNWRAP, &START_AT],
    rules: &[
        Rule::ExactlyOne(&[&FILE, &KAFKA]),
        Rule::AtMostOne("place of schemas", &[&REGISTRY, &SCHEMA]),
        Rule::Needs(&START_AT, &KAFKA),
        Rule::Needs(&MESSAGE, &SCHEMA),
    ],
};

pub(crate) static REGISTRY_URL: Key<Secret> = required(
    "url",
    SECRET_URL,
    "The address of a registry that is compatible with Confluent's. User, password and query are never shown.",
);
pub(crate) static USERNAME: Key<String> = optional("username", TEXT, "The name of the user, for basic authentication.");
pub(crate) static PASSWORD: Key<Secret> = optional("password", SECRET, "The password of the user. It is never shown.");

pub(crate) static REGISTRY_RECORD: Record = Record {
    what: "schema registry",
    keys: &[&REGISTRY_URL, &USERNAME, &PASSWORD],
    rules: &[Rule::Needs(&PASSWORD, &USERNAME)],
};

pub(crate) static TOPICS: Key<List<String>> = required("topic", one_or_more(&TOPIC), "The topic, or a list of topics.");

static KAFKA_RECORD: Record = Record { what: "kafka source", keys: &[&BROKERS, &TOPICS, &PROPERTIES], rules: &[] };

pub(crate) static FILE_PATH: Key<String> =
    required("path", TEXT, "A file, folder or glob, relative to the job file's folder; .gz and .zst too.");
pub(crate) static FOLLOW: Key<bool> =
    optional("follow", BOOLEAN, "Whether to keep reading what is appended.").default(false);

static FILE_RECORD: Record = Record { what: "file source", keys: &[&FILE_PATH, &FOLLOW], rules: &[] };

/// How messages are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum EncodingName {
    Json,
    Avro,
    Protobuf,
    JsonSchema,
}

impl EncodingName {
    /// Returns whether its messages are no text.
    pub(crate) fn is_binary(self) -> bool {
        matches!(self, EncodingName::Avro | EncodingName::Protobuf)
    }
}

impl Choice for EncodingName {
    const WHAT: &'static str = "encoding";
    const ALL: &'static [EncodingName] =
        &[EncodingName::Json, EncodingName::Avro, EncodingName::Protobuf, EncodingName::JsonSchema];

    fn word(self) -> &'static str {
        match self {
            EncodingName::Json => "json",
            EncodingName::Avro => "avro",
            EncodingName::Protobuf => "protobuf",
            EncodingName::JsonSchema => "json_schema",
        }
    }
}

static ENVELOPE: Type<Envelope> = choice();

impl Choice for Envelope {
    const WHAT: &'static str = "envelope";
    const ALL: &'static [Envelope] = &[Envelope::Batch, Envelope::Debezium, Envelope::Connect, Envelope::Cloudevents];

    fn word(self) -> &'static str {
        match self {
            Envelope::Batch => "batch",
            Envelope::Debezium => "debezium",
            Envelope::Connect => "connect",
            Envelope::Cloudevents => "cloudevents",
        }
    }
}

/// The formats that need no more than a name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum FormatName {
    Segment,
    Rudderstack,
    Hightouch,
    SnowplowTsv,
    SnowplowJson,
    Json,
}

impl Choice for FormatName {
    const WHAT: &'static str = "message format";
    const ALL: &'static [FormatName] = &[
        FormatName::Segment,
        FormatName::Rudderstack,
        FormatName::Hightouch,
        FormatName::SnowplowTsv,
        FormatName::SnowplowJson,
        FormatName::Json,
    ];

    fn word(self) -> &'static str {
        match self {
            FormatName::Segment => "segment",
            FormatName::Rudderstack => "rudderstack",
            FormatName::Hightouch => "hightouch",
            FormatName::SnowplowTsv => "snowplow_tsv",
            FormatName::SnowplowJson => "snowplow_json",
            FormatName::Json => "json",
        }
    }
}

static FORMAT_NAME: Type<FormatName> = choice();

pub(crate) static JSON: Key<Fields> = optional("json", record(&JSON_RECORD), "Any JSON: where its parts are.");

static FORMAT_RECORD: Record = Record { what: "message format", keys: &[&JSON], rules: &[Rule::ExactlyOne(&[&JSON])] };

pub(crate) static JSON_TYPE: Key<Path> = optional("type", PATH, "The path of the message's type.");
pub(crate) static JSON_NAME: Key<Path> = optional("name", PATH, "The path of the event's name.");
pub(crate) static JSON_KEY: Key<Path> = optional("key", PATH, "The path of the key of the parent model.");
pub(crate) static JSON_TIME: Key<Path> = optional("time", PATH, "The path of the event's time.");
pub(crate) static JSON_ID: Key<Path> = optional("id", PATH, "The path of the message id.");
pub(crate) static JSON_PROPERTIES: Key<Path> =
    optional("properties", PATH, "The path of the properties. Default: the message itself.");

static JSON_RECORD: Record = Record {
    what: "json format",
    keys: &[&JSON_TYPE, &JSON_NAME, &JSON_KEY, &JSON_TIME, &JSON_ID, &JSON_PROPERTIES],
    rules: &[],
};
