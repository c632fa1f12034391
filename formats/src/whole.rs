//! Records whole, as JSON: for people who look at what comes in.
//!
//! Promises: a record of an encoding is its value as JSON, and envelopes come off as in [`Decoder::unwrap`]: what they have beside a message are
//! members of it where it lacks them. A broken element of a batch is one alone. Slow: a record is taken apart as a tree.
//!
//! Refuses: to say what is wrong with what can't be read ([`Decoder::unwrap`] does). Headers are not listed, but for the attributes of a binary CloudEvent.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use usher_config::Envelope;
use usher_core::source::Headers;

use super::envelope::{Taken, is_binary_event, taken_apart};
use super::{Decoder, Written, to_json};

/// The attributes of a CloudEvent that are looked for in headers.
const ATTRIBUTES: [&str; 7] = ["id", "source", "specversion", "type", "subject", "time", "dataschema"];

/// Bytes that can't be read: a record, or an element of a batch.
pub type Unreadable<'a> = &'a [u8];

impl Decoder {
    /// Returns the messages in a record, in order, each as JSON; none of what is blank.
    pub fn whole<'a>(&self, record: &'a [u8], headers: Option<&dyn Headers>) -> Vec<Result<Value, Unreadable<'a>>> {
        let mut messages = Messages { headers, whole: record, found: Vec::new() };
        let value = match &self.written {
            Written::Text => Some(Part::Text(record)),
            _ => self.value(record, headers).map(Part::Value),
        };
        match value {
            Some(value) => messages.take_apart(value, Map::new(), &self.envelopes),
            None => messages.found.push(Err(record)),
        }
        messages.found
    }

    /// Returns the value that a record of an encoding is.
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

/// A part of a record.
enum Part<'a> {
    /// As it is written.
    Text(&'a [u8]),
    Value(Value),
}

impl<'a> Part<'a> {
    fn value(self) -> Option<Value> {
        match self {
            Part::Text(text) => to_json(text),
            Part::Value(value) => Some(value),
        }
    }

    fn text(&self) -> Option<&'a [u8]> {
        if let Part::Text(text) = self { Some(text) } else { None }
    }

    /// Returns it in its parts, where it is an object or a list; of a text broken ones too.
    fn parts(self) -> Option<Parts<'a>> {
        match self {
            Part::Text(text) => Some(match taken_apart(text)? {
                // Of a repeated key the last counts.
                Taken::Members(members) => {
                    Parts::Members(members.into_iter().map(|(name, text)| (name, Part::Text(text))).collect())
                }
                Taken::Elements(elements) => Parts::List(elements.into_iter().map(Part::Text).collect()),
            }),
            Part::Value(Value::Object(members)) => {
                Some(Parts::Members(members.into_iter().map(|(name, value)| (name, Part::Value(value))).collect()))
            }
            Part::Value(Value::Array(list)) => Some(Parts::List(list.into_iter().map(Part::Value).collect())),
            Part::Value(_) => None,
        }
    }
}

/// The parts of an object or a list.
enum Parts<'a> {
    Members(BTreeMap<String, Part<'a>>),
    List(Vec<Part<'a>>),
}

/// The messages of a record that is being taken apart.
struct Messages<'a, 'h> {
    headers: Option<&'h dyn Headers>,
    /// The record, or the element of a batch that is taken apart.
    whole: &'a [u8],
    found: Vec<Result<Value, Unreadable<'a>>>,
}

impl<'a> Messages<'a, '_> {
    /// Takes envelopes off; `beside` is what those that are off have beside it.
    fn take_apart(&mut self, part: Part<'a>, mut beside: Map<String, Value>, envelopes: &[Envelope]) {
        // What is in no batch is broken as a whole.
        let part = if envelopes.contains(&Envelope::Batch) { Some(part) } else { part.value().map(Part::Value) };
        let Some(part) = part else { return self.found.push(Err(self.whole)) };
        let is_null = match &part {
            Part::Text(text) => text.trim_ascii() == b"null",
            Part::Value(value) => value.is_null(),
        };
        if is_null {
            return;
        }
        let Some((envelope, inner)) = envelopes.split_first() else {
            return self.found.push(match part {
                Part::Value(Value::Object(members)) => {
                    beside.extend(members);
                    Ok(Value::Object(beside))
                }
                _ => Err(self.whole),
            });
        };
        if *envelope == Envelope::Cloudevents && is_binary_event(self.headers) {
            let text = |name: &str| {
                let value = self.headers?.get(&format!("ce_{name}"))?;
                Some((name.to_owned(), Value::from(String::from_utf8_lossy(value))))
            };
            beside.extend(ATTRIBUTES.iter().filter_map(|name| text(name)));
            return self.take_apart(part, beside, inner);
        }
        let mut members = match part.parts() {
            Some(Parts::Members(members)) => members,
            Some(Parts::List(list)) if *envelope == Envelope::Batch => {
                return self.elements(list, &beside, inner);
            }
            _ => return self.found.push(Err(self.whole)),
        };
        let inside = match envelope {
            Envelope::Batch => {
                let batch = members.remove("batch").and_then(Part::parts);
                let Some(Parts::List(list)) = batch else { return self.found.push(Err(self.whole)) };
                beside.extend(values(members));
                return self.elements(list, &beside, inner);
            }
            Envelope::Connect => {
                let payload = members.remove("payload");
                members.clear();
                payload
            }
            Envelope::Debezium => {
                let (before, after) = (members.remove("before"), members.remove("after"));
                let operation = members.remove("op").and_then(Part::value);
                let row = match &operation {
                    Some(Value::String(operation)) if operation == "d" => Some(before),
                    Some(Value::String(_)) => Some(after),
                    _ => None,
                };
                beside.extend(operation.map(|operation| ("op".to_owned(), operation)));
                row.map(|row| row.unwrap_or(Part::Value(Value::Null)))
            }
            Envelope::Cloudevents => {
                let data = members.remove("data");
                let is_encoded = data.is_none() && members.contains_key("data_base64");
                let is_event = members.contains_key("specversion") && !is_encoded;
                is_event.then(|| data.unwrap_or(Part::Value(Value::Null)))
            }
        };
        let Some(inside) = inside else { return self.found.push(Err(self.whole)) };
        beside.extend(values(members));
        self.take_apart(inside, beside, inner);
    }

    /// Takes envelopes off the elements of a batch.
    fn elements(&mut self, list: Vec<Part<'a>>, beside: &Map<String, Value>, envelopes: &[Envelope]) {
        for element in list {
            let around = self.whole;
            self.whole = element.text().unwrap_or(around);
            self.take_apart(element, beside.clone(), envelopes);
            self.whole = around;
        }
    }
}

/// Returns the members of an envelope that can be read.
fn values(members: BTreeMap<String, Part<'_>>) -> impl Iterator<Item = (String, Value)> {
    members.into_iter().filter_map(|(name, part)| Some((name, part.value()?)))
}
