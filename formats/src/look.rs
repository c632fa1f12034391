//! What a message looks like, apart from any job: for the advice where a source's messages match nothing.

use std::fmt;

use usher_config::{Envelope, Format};
use usher_core::source::BYTE_ORDER_MARK;
use usher_core::suggest::some_of;

use super::snowplow::COLUMNS;
use super::star::members;
use super::strings::unescape;

/// What a message looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// `{"batch": […]}`, or a bare array: each element is a message.
    Batch,
    /// A change record of Debezium.
    Debezium,
    /// A record of Kafka Connect's JSON converter: `schema` and `payload`.
    Connect,
    /// A structured CloudEvent.
    CloudEvent,
    /// A message of the Segment family: its type.
    Segment(String),
    /// A row of Snowplow's enriched events.
    SnowplowTsv,
    /// A row of tabs, with so many columns.
    Row(usize),
    /// An enriched event of Snowplow's in JSON.
    SnowplowJson,
    /// What Snowplow's trackers send to a collector.
    SnowplowTracker,
    /// Another object: its keys, sorted.
    Json(Vec<String>),
    /// Bytes in front of which a schema registry's client put the id of the schema.
    Registry,
    /// Something binary, by its name.
    Binary(&'static str),
    /// Something else.
    Other,
}

impl Look {
    /// Returns what a message looks like.
    pub fn of(message: &[u8]) -> Look {
        let message = message.strip_prefix(BYTE_ORDER_MARK).unwrap_or(message);
        let text = message.trim_ascii_start();
        if let Some((_, name)) = BINARY.iter().find(|(magic, _)| message.starts_with(magic)) {
            return Look::Binary(name);
        }
        match text.first() {
            Some(0) => Look::Registry,
            Some(b'[') => Look::Batch,
            Some(b'{') => of_object(text),
            _ => match message.iter().filter(|byte| **byte == b'\t').count() + 1 {
                1 => Look::Other,
                columns if columns == COLUMNS.len() => Look::SnowplowTsv,
                columns => Look::Row(columns),
            },
        }
    }

    /// Returns the envelope that a message looks to be in.
    pub fn envelope(&self) -> Option<Envelope> {
        match self {
            Look::Batch => Some(Envelope::Batch),
            Look::Debezium => Some(Envelope::Debezium),
            Look::Connect => Some(Envelope::Connect),
            Look::CloudEvent => Some(Envelope::Cloudevents),
            _ => None,
        }
    }

    /// Returns whether a source of a format reads messages that look so.
    pub fn is_of(&self, format: &Format) -> bool {
        matches!(
            (self, format),
            (Look::Segment(_), Format::Segment | Format::Rudderstack | Format::Hightouch)
                | (Look::SnowplowTsv, Format::SnowplowTsv)
                | (Look::SnowplowJson, Format::SnowplowJson)
                | (
                    Look::Segment(_)
                        | Look::SnowplowJson
                        | Look::CloudEvent
                        | Look::Debezium
                        | Look::Connect
                        | Look::Json(_),
                    Format::Json(_)
                )
        )
    }
}

/// The first bytes of what is no text.
const BINARY: &[(&[u8], &str)] = &[
    (&[0xff, 0xfe], "UTF-16"),
    (&[0xfe, 0xff], "UTF-16"),
    (&[0x1f, 0x8b], "gzip"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    (b"BZh", "bzip2"),
    (&[0xfd, b'7', b'z', b'X', b'Z'], "xz"),
    (b"PK\x03\x04", "zip"),
    (b"PAR1", "Parquet"),
    (b"Obj\x01", "an Avro file"),
];

/// The types of the Segment family.
const TYPES: [&str; 6] = ["identify", "track", "page", "screen", "group", "alias"];

fn of_object(message: &[u8]) -> Look {
    let Some(members) = std::str::from_utf8(message).ok().and_then(members) else {
        return if message.starts_with(b"{\"batch\"") { Look::Batch } else { Look::Other };
    };
    let text = |name: &str| members.get(name).and_then(|value| unescape(value)).map(|value| value.text);
    let has = |name: &str| members.contains_key(name);
    if members.get("batch").is_some_and(|value| value.starts_with('[')) {
        Look::Batch
    } else if has("op") && (has("after") || has("before")) {
        Look::Debezium
    } else if members.len() == 2 && has("schema") && has("payload") {
        Look::Connect
    } else if has("specversion") {
        Look::CloudEvent
    } else if text("schema").is_some_and(|schema| schema.contains("/payload_data/")) {
        Look::SnowplowTracker
    } else if has("event_id") && has("collector_tstamp") {
        Look::SnowplowJson
    } else if let Some(kind) = text("type").filter(|kind| TYPES.contains(&kind.as_str()))
        && (has("userId") || has("anonymousId"))
    {
        Look::Segment(kind)
    } else {
        Look::Json(members.into_keys().collect())
    }
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Look::Batch => f.write_str("each is a `batch` of messages"),
            Look::Debezium => f.write_str("they look like Debezium's change records (`op`, `before`, `after`)"),
            Look::Connect => f.write_str("they look like Kafka Connect's (`schema` and `payload`)"),
            Look::CloudEvent => f.write_str("they look like CloudEvents (`specversion`)"),
            Look::Segment(kind) => write!(f, "they look like Segment's, RudderStack's or Hightouch's (`type: {kind}`)"),
            Look::SnowplowTsv => f.write_str("they look like Snowplow's enriched events in TSV"),
            Look::Row(columns) => write!(f, "they are rows of {columns} columns between tabs"),
            Look::SnowplowJson => f.write_str("they look like Snowplow's enriched events in JSON"),
            Look::SnowplowTracker => f.write_str("they look like what Snowplow's trackers send to a collector"),
            Look::Json(keys) => match some_of(keys.iter().map(String::as_str)) {
                Some(keys) => write!(f, "they are JSON objects with {keys}"),
                None => f.write_str("they are JSON objects without keys"),
            },
            Look::Registry => f.write_str("they begin with byte 0, as a schema registry's clients write them"),
            Look::Binary(name) => write!(f, "they look like {name}"),
            Look::Other => f.write_str("they are neither JSON objects nor rows"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_known_by_their_looks() {
        let json = |keys: &[&str]| Look::Json(keys.iter().map(|key| (*key).to_owned()).collect());
        let row = |columns: usize| "x\t".repeat(columns - 1);
        for (message, look) in [
            (r#"{"batch":[{"type":"track"}],"sentAt":"x"}"#, Look::Batch),
            (r#" [{"type":"track"}]"#, Look::Batch),
            (r#"{"batch":[{"type":"track""#, Look::Batch),
            (r#"{"batch":7,"a":1}"#, json(&["a", "batch"])),
            (r#"{"before":null,"after":{},"op":"c","ts_ms":1}"#, Look::Debezium),
            (r#"{"schema":{},"payload":{"a":1}}"#, Look::Connect),
            (r#"{"specversion":"1.0","id":"1","data":{}}"#, Look::CloudEvent),
            (r#"{"type":"track","event":"Seen","userId":"a"}"#, Look::Segment("track".to_owned())),
            (r#"{"type":"order","userId":"a"}"#, json(&["type", "userId"])),
            (r#"{"app_id":"a","event_id":"1","collector_tstamp":"x"}"#, Look::SnowplowJson),
            (
                r#"{"schema":"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4","data":[]}"#,
                Look::SnowplowTracker,
            ),
            (&format!("a{}", row(131)), Look::SnowplowTsv),
            ("a\tb\tc", Look::Row(3)),
            ("\u{feff}{\"a\":1}", json(&["a"])),
            (r#"{"type":"track","userId":"a","properties":{"price":NaN}}"#, Look::Segment("track".to_owned())),
            (r#"{"type":"track","userId":"\ud83d","properties":{}}"#, Look::Segment("track".to_owned())),
            (r#"{"a":1} x"#, Look::Other),
            (r#"{"a":}"#, Look::Other),
            ("{}", json(&[])),
            ("hello", Look::Other),
            ("", Look::Other),
            ("\0\0\0\0\u{1}x", Look::Registry),
        ] {
            assert_eq!(Look::of(message.as_bytes()), look, "{message}");
        }
        assert_eq!(Look::of(b"\xff\xfe{\0}\0"), Look::Binary("UTF-16"));
        assert_eq!(Look::of(b"{}").to_string(), "they are JSON objects without keys");
        assert_eq!(json(&["a", "b"]).to_string(), "they are JSON objects with `a` and `b`");
    }
}
