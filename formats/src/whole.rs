//! Records whole, as JSON: for people who look at what comes in.
//!
//! Promises: a record of an encoding is its value as JSON, and envelopes come off as in [`Decoder::unwrap`]: what they have beside a message are
//! members of it where it lacks them. Slow: a record is taken apart as a tree.
//!
//! Refuses: to say what is wrong with a record that can't be read, or to read the rest of a batch with a broken element. Headers are not listed, but for the attributes of a binary CloudEvent.

use serde_json::{Map, Value};

use usher_config::Envelope;
use usher_core::source::Headers;

use super::envelope::is_binary_event;
use super::{Decoder, Written, to_json};

/// The attributes of a CloudEvent that are looked for in headers.
const ATTRIBUTES: [&str; 7] = ["id", "source", "specversion", "type", "subject", "time", "dataschema"];

impl Decoder {
    /// Returns the messages in a record, in order, each as JSON; none of what is blank. `None` for what can't be read.
    pub fn whole(&self, record: &[u8], headers: Option<&dyn Headers>) -> Vec<Option<Value>> {
        let mut messages = Vec::new();
        match self.value(record, headers) {
            Some(value) => take_apart(value, Map::new(), &self.envelopes, headers, &mut messages),
            None => messages.push(None),
        }
        messages
    }

    /// Returns the value that a record is.
    fn value(&self, record: &[u8], headers: Option<&dyn Headers>) -> Option<Value> {
        let layout = &self.layout;
        let of = |written: &Written, root, bytes: &[u8]| match written {
            Written::Text => to_json(bytes),
            Written::Avro(reader) => serde_json::from_str(&reader.to_json(layout, root, bytes)?).ok(),
            Written::Protobuf(reader) => serde_json::from_str(&reader.to_json(layout, root, bytes)?).ok(),
            Written::Registered(_) => unreachable!("a message is written by one schema"),
        };
        match &self.written {
            Written::Registered(registered) => {
                let found = registered.open(record, headers, layout, &self.envelopes).ok()?;
                of(&found.written, found.root, found.bytes)
            }
            written => of(written, written.root().unwrap_or_default(), record),
        }
    }
}

/// Takes envelopes off a value; `beside` is what those that are off have beside it.
fn take_apart(
    value: Value,
    mut beside: Map<String, Value>,
    envelopes: &[Envelope],
    headers: Option<&dyn Headers>,
    messages: &mut Vec<Option<Value>>,
) {
    if value.is_null() {
        return;
    }
    let Some((envelope, inner)) = envelopes.split_first() else {
        return messages.push(match value {
            Value::Object(members) => {
                beside.extend(members);
                Some(Value::Object(beside))
            }
            _ => None,
        });
    };
    if *envelope == Envelope::Cloudevents && is_binary_event(headers) {
        let text = |name: &str| {
            let value = headers?.get(&format!("ce_{name}"))?;
            Some((name.to_owned(), Value::from(String::from_utf8_lossy(value))))
        };
        beside.extend(ATTRIBUTES.iter().filter_map(|name| text(name)));
        return take_apart(value, beside, inner, headers, messages);
    }
    let mut members = match value {
        Value::Object(members) => members,
        Value::Array(list) if *envelope == Envelope::Batch => Map::from_iter([("batch".to_owned(), list.into())]),
        _ => return messages.push(None),
    };
    let inside = match envelope {
        Envelope::Batch => match members.remove("batch") {
            Some(Value::Array(list)) => {
                beside.extend(members);
                return list.into_iter().for_each(|each| take_apart(each, beside.clone(), inner, headers, messages));
            }
            _ => None,
        },
        Envelope::Connect => {
            let payload = members.remove("payload");
            members.clear();
            payload
        }
        Envelope::Debezium => {
            let (before, after) = (members.remove("before"), members.remove("after"));
            match members.get("op").map(Value::as_str) {
                Some(Some("d")) => Some(before.unwrap_or_default()),
                Some(Some(_)) => Some(after.unwrap_or_default()),
                _ => None,
            }
        }
        Envelope::Cloudevents => {
            let data = members.remove("data");
            let is_encoded = data.is_none() && members.contains_key("data_base64");
            (members.contains_key("specversion") && !is_encoded).then(|| data.unwrap_or_default())
        }
    };
    let Some(inside) = inside else { return messages.push(None) };
    beside.extend(members);
    take_apart(inside, beside, inner, headers, messages);
}
