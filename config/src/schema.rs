//! The JSON Schema of a job file, made of its shape.

use crate::node;
use crate::shape::{CONDITION, JOB, Key, Record, Rule, Shape};
use serde_json::{Map, Value, json};

/// The JSON Schema (draft 2020-12) of the job files that this version takes.
///
/// It describes a file after `${VAR}` is substituted. What it can't say (references between parts, predicates) is left
/// to [`crate::parse`].
pub fn schema() -> Value {
    let mut schema = Map::new();
    schema.insert(
        "$schema".to_owned(),
        "https://json-schema.org/draft/2020-12/schema".into(),
    );
    schema.insert("title".to_owned(), "usher job".into());
    schema.insert(
        "description".to_owned(),
        "A job of usher, the realtime audience engine.".into(),
    );
    schema.append(&mut record(&JOB));
    schema.insert(
        "$defs".to_owned(),
        json!({ "condition": one_of(&CONDITION) }),
    );
    schema.into()
}

fn of(shape: &'static Shape) -> Value {
    match shape {
        Shape::Text | Shape::Reference(_) => json!({"type": "string", "minLength": 1}),
        Shape::Id => json!({"type": "string", "pattern": ID}),
        Shape::Predicate => {
            json!({"type": "string", "minLength": 1, "examples": ["path = '/pricing'"]})
        }
        Shape::Path => {
            json!({"type": "string", "minLength": 1, "examples": ["context.traits.\"total billed\""]})
        }
        Shape::Duration { .. } => {
            json!({"type": "string", "pattern": format!("^{DURATION}$"), "examples": ["30s", "1h30m"]})
        }
        Shape::Refresh => {
            json!({"type": "string", "pattern": format!("^({DURATION}|manual)$"), "examples": ["1h", "manual"]})
        }
        Shape::Size => {
            json!({"type": ["string", "integer"], "pattern": "^[0-9]+(KiB|MiB|GiB)?$", "minimum": 1})
        }
        Shape::Number => json!({"type": "number"}),
        Shape::Boolean => json!({"type": "boolean"}),
        Shape::Choice { words, .. } => json!({"type": "string", "enum": words}),
        Shape::List {
            of: element,
            least,
            most,
            unique,
        } => {
            let mut list = json!({"type": "array", "items": of(element)});
            if *least > 0 {
                list["minItems"] = (*least).into();
            }
            if *most < usize::MAX {
                list["maxItems"] = (*most).into();
            }
            if *unique {
                list["uniqueItems"] = true.into();
            }
            list
        }
        Shape::Record(inner) => record(inner).into(),
        // The only one, and the only shape that contains itself.
        Shape::OneOf { .. } => json!({"$ref": "#/$defs/condition"}),
        Shape::Entries { of: value, ids } => {
            let names = if *ids {
                json!({"pattern": ID})
            } else {
                json!({"minLength": 1})
            };
            json!({"type": ["object", "null"], "propertyNames": names, "additionalProperties": of(value)})
        }
        Shape::Short { scalar, long } => json!({"anyOf": [of(scalar), record(long)]}),
    }
}

const ID: &str = "^[A-Za-z_][A-Za-z0-9_-]*$";
const DURATION: &str = "(?=[0-9])([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?";

fn one_of(shape: &'static Shape) -> Value {
    let Shape::OneOf { records, .. } = shape else {
        panic!("the condition is one of several records")
    };
    json!({"oneOf": records.iter().map(|kind| Value::from(record(kind))).collect::<Vec<_>>()})
}

fn record(record: &'static Record) -> Map<String, Value> {
    let mut schema = Map::new();
    let required: Vec<&str> = record
        .keys
        .iter()
        .filter(|key| key.required)
        .map(|key| key.name)
        .collect();
    let must_be_there = !required.is_empty()
        || record
            .rules
            .iter()
            .any(|rule| matches!(rule, Rule::ExactlyOne(_)));
    schema.insert(
        "type".to_owned(),
        if must_be_there {
            json!("object")
        } else {
            json!(["object", "null"])
        },
    );
    let properties: Map<String, Value> = record
        .keys
        .iter()
        .map(|key| (key.name.to_owned(), property(key)))
        .collect();
    schema.insert("properties".to_owned(), properties.into());
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
    schema.insert("additionalProperties".to_owned(), false.into());
    let rules: Vec<Value> = record.rules.iter().map(rule).collect();
    if !rules.is_empty() {
        schema.insert("allOf".to_owned(), rules.into());
    }
    schema
}

fn property(key: &'static Key) -> Value {
    let mut schema = of(key.shape);
    schema["description"] = key.doc.into();
    if let Some(default) = key.default {
        let node = node::parse(default, &mut Vec::new()).expect("a default is YAML");
        schema["default"] = plain(&node);
    }
    schema
}

fn rule(rule: &Rule) -> Value {
    let there = |keys: &[&str]| -> Vec<Value> {
        keys.iter().map(|key| json!({"required": [key]})).collect()
    };
    match rule {
        Rule::ExactlyOne(keys) => json!({"oneOf": there(keys)}),
        Rule::AtMostOne(_, keys) => {
            json!({"oneOf": [{"not": {"anyOf": there(keys)}}, {"oneOf": there(keys)}]})
        }
        Rule::Needs(key, other) => json!({"dependentRequired": {*key: [other]}}),
    }
}

/// A default as JSON.
fn plain(node: &node::Node) -> Value {
    match &node.kind {
        node::Kind::Boolean(value) => (*value).into(),
        node::Kind::Text { text, .. } => text.as_str().into(),
        node::Kind::List(list) => list.iter().map(plain).collect(),
        other => panic!("no default is written as {other:?}"),
    }
}
