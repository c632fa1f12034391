//! The messages in Avro and in Protobuf: schemas that have all that the JSON has, and the same values in them.
//!
//! An object is a record whose fields may be null, or a message with optional fields; a number is a double. Times stay texts, so
//! that all three read the same.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value, json};

/// What values of a place are, over all messages.
#[derive(Default)]
pub struct Shape {
    fields: BTreeMap<String, Shape>,
    element: Option<Box<Shape>>,
    is_text: bool,
    is_number: bool,
}

impl Shape {
    /// Adds what a value has.
    pub fn add(&mut self, value: &Value) {
        match value {
            Value::Object(members) => {
                members.iter().for_each(|(name, value)| self.fields.entry(name.clone()).or_default().add(value));
            }
            Value::Array(items) => {
                let element = self.element.get_or_insert_default();
                items.iter().for_each(|item| element.add(item));
            }
            Value::String(_) => self.is_text = true,
            Value::Number(_) => self.is_number = true,
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// The schema in Avro. Records are numbered.
    pub fn avro(&self, count: &mut usize) -> Value {
        if let Some(element) = &self.element {
            return json!({ "type": "array", "items": element.avro(count) });
        }
        if self.is_text || self.is_number {
            return json!(if self.is_text { "string" } else { "double" });
        }
        *count += 1;
        let name = format!("R{count}");
        let fields =
            self.fields.iter().map(|(name, shape)| json!({ "name": name, "type": ["null", shape.avro(count)] }));
        json!({ "type": "record", "name": name, "fields": fields.collect::<Vec<_>>() })
    }

    /// Writes a value in Avro.
    pub fn to_avro(&self, value: &Value, out: &mut Vec<u8>) {
        match value {
            Value::Object(members) => {
                for (name, shape) in &self.fields {
                    let value = members.get(name).filter(|value| !value.is_null());
                    long(out, i64::from(value.is_some()));
                    if let Some(value) = value {
                        shape.to_avro(value, out);
                    }
                }
            }
            Value::Array(items) => {
                if !items.is_empty() {
                    long(out, items.len() as i64);
                }
                let element = self.element.as_ref().expect("it was added");
                items.iter().for_each(|item| element.to_avro(item, out));
                long(out, 0);
            }
            Value::String(text) => {
                long(out, text.len() as i64);
                out.extend(text.bytes());
            }
            other => out.extend(other.as_f64().expect("a number").to_le_bytes()),
        }
    }

    /// The message of that name in Protobuf.
    pub fn protobuf(&self, name: &str, out: &mut String) {
        write!(out, "message {name} {{ ").expect("it is written to memory");
        for (index, (field, shape)) in self.fields.iter().enumerate() {
            let (label, shape) = match &shape.element {
                Some(element) => ("repeated", &**element),
                None => ("optional", shape),
            };
            let of = match (shape.is_text, shape.is_number) {
                (true, _) => "string".to_owned(),
                (_, true) => "double".to_owned(),
                _ => {
                    let inner = format!("M_{field}");
                    shape.protobuf(&inner, out);
                    inner
                }
            };
            write!(out, "{label} {of} {field} = {}; ", index + 1).expect("it is written to memory");
        }
        out.push_str("} ");
    }

    /// Writes the members of an object in Protobuf.
    pub fn to_protobuf(&self, members: &Map<String, Value>, out: &mut Vec<u8>) {
        for (index, (name, shape)) in self.fields.iter().enumerate() {
            match (members.get(name), &shape.element) {
                (Some(Value::Array(items)), Some(element)) => {
                    items.iter().for_each(|item| element.field(index as u64 + 1, item, out));
                }
                (Some(value), _) if !value.is_null() => shape.field(index as u64 + 1, value, out),
                _ => {}
            }
        }
    }

    fn field(&self, number: u64, value: &Value, out: &mut Vec<u8>) {
        let mut sized = |bytes: &[u8]| {
            varint(out, number << 3 | 2);
            varint(out, bytes.len() as u64);
            out.extend(bytes);
        };
        match value {
            Value::Object(members) => {
                let mut inner = Vec::new();
                self.to_protobuf(members, &mut inner);
                sized(&inner);
            }
            Value::String(text) => sized(text.as_bytes()),
            other => {
                varint(out, number << 3 | 1);
                out.extend(other.as_f64().expect("a number").to_le_bytes());
            }
        }
    }
}

fn long(out: &mut Vec<u8>, value: i64) {
    varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
