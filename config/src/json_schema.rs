//! The JSON Schema of a job file, derived from its records.

use serde_json::{Map, Value, json};

use crate::schema::{AnyKey, Record, Rule, Shape, condition, job};

/// Returns the JSON Schema (draft 2020-12) of the job files that this version accepts.
///
/// A value that is no text may be a text with `${VAR}`. It does not cover references between parts and predicates:
/// [`crate::parse`] checks those.
pub fn schema() -> Value {
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".to_owned(), "usher job".into());
    schema.insert("description".to_owned(), "A job of usher, the realtime audience engine.".into());
    schema.append(&mut record(&job::RECORD));
    schema.insert("$defs".to_owned(), json!({ "condition": one_of(&condition::RECORDS) }));
    schema.into()
}

/// Returns the schema of a shape. Where it takes no text, or only some, a text with a variable stands for the value.
fn of(shape: &Shape) -> Value {
    let schema = plain(shape);
    let substituted = matches!(
        shape,
        Shape::Duration { .. }
            | Shape::Refresh
            | Shape::Size
            | Shape::Whole { .. }
            | Shape::Topic
            | Shape::Id
            | Shape::Address
            | Shape::Number
            | Shape::Boolean
            | Shape::Choice { .. }
    );
    if substituted { json!({"anyOf": [schema, {"type": "string", "pattern": VARIABLE}]}) } else { schema }
}

fn plain(shape: &Shape) -> Value {
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
        Shape::Share => {
            let pattern = r"^(0*100(\.0{1,2})?|0*[0-9]{1,2}(\.[0-9]{1,2})?)%$";
            json!({"type": "string", "pattern": pattern, "examples": ["20%", "0.5%"]})
        }
        Shape::Rate => json!({"type": "string", "pattern": "^0*[1-9][0-9]*/(s|m|h)$", "examples": ["100/s", "60/m"]}),
        Shape::Whole { least, most } => json!({"type": "integer", "minimum": least, "maximum": most}),
        Shape::Secret => json!({"type": "string", "minLength": 1, "examples": ["${TOKEN}"]}),
        Shape::SecretUrl => json!({"type": "string", "minLength": 1, "examples": ["https://api.example.com"]}),
        Shape::Location => json!({"type": "string", "minLength": 1}),
        Shape::Setting => json!({"type": ["string", "number", "boolean"]}),
        Shape::Template => json!({"type": "string", "examples": ["{{ row.plan }}"]}),
        Shape::Topic => json!({"type": "string", "pattern": TOPIC}),
        Shape::Address => json!({"type": "string", "pattern": "^.+:[0-9]{1,5}$", "examples": ["127.0.0.1:8080"]}),
        Shape::Start => {
            let examples = ["earliest", "latest", "2026-11-23T10:00:00Z"];
            json!({"type": ["string", "number"], "minLength": 1, "minimum": 0, "examples": examples})
        }
        Shape::OneOrMore(element) => {
            json!({"anyOf": [of(element), {"type": "array", "items": of(element), "minItems": 1, "uniqueItems": true}]})
        }
        Shape::Number => json!({"type": "number"}),
        Shape::Boolean => json!({"type": "boolean"}),
        Shape::Choice { words, .. } => json!({"type": "string", "enum": words()}),
        Shape::List { of: element, least, most, unique } => {
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
            let names = if *ids { json!({"pattern": ID}) } else { json!({"minLength": 1}) };
            json!({"type": ["object", "null"], "propertyNames": names, "additionalProperties": of(value)})
        }
        Shape::Short { scalar, long } => json!({"anyOf": [of(scalar), record(long)]}),
    }
}

/// A text in which a variable stands.
const VARIABLE: &str = r"\$\{";
const TOPIC: &str = "^[A-Za-z0-9._-]{1,249}$";
const ID: &str = "^[A-Za-z_][A-Za-z0-9_-]*$";
/// At least one of the units, in this order. It needs no look-ahead, which not all validators have.
const DURATION: &str = concat!(
    "([0-9]+d([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?",
    "|[0-9]+h([0-9]+m)?([0-9]+s)?([0-9]+ms)?",
    "|[0-9]+m([0-9]+s)?([0-9]+ms)?",
    "|[0-9]+s([0-9]+ms)?",
    "|[0-9]+ms)"
);

fn one_of(records: &[&Record]) -> Value {
    json!({"oneOf": records.iter().map(|kind| Value::from(record(kind))).collect::<Vec<_>>()})
}

fn record(record: &Record) -> Map<String, Value> {
    let mut schema = Map::new();
    let required: Vec<&str> = record.keys.iter().filter(|key| key.is_required()).map(|key| key.name()).collect();
    let must_be_there = !required.is_empty() || record.rules.iter().any(|rule| matches!(rule, Rule::ExactlyOne(_)));
    schema.insert("type".to_owned(), if must_be_there { json!("object") } else { json!(["object", "null"]) });
    let properties: Map<String, Value> =
        record.keys.iter().map(|key| (key.name().to_owned(), property(*key))).collect();
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

fn property(key: &dyn AnyKey) -> Value {
    let mut schema = of(key.shape());
    schema["description"] = key.description().into();
    if let Some(default) = key.default_json() {
        schema["default"] = default;
    }
    schema
}

fn rule(rule: &Rule) -> Value {
    let there =
        |keys: &[&dyn AnyKey]| -> Vec<Value> { keys.iter().map(|key| json!({"required": [key.name()]})).collect() };
    match rule {
        Rule::ExactlyOne(keys) => json!({"oneOf": there(keys)}),
        Rule::AtMostOne(_, keys) => {
            json!({"oneOf": [{"not": {"anyOf": there(keys)}}, {"oneOf": there(keys)}]})
        }
        Rule::Needs(key, other) => json!({"dependentRequired": {key.name(): [other.name()]}}),
        Rule::NeedsOneOf(key, others) => {
            let absent = json!({"not": {"required": [key.name()]}});
            let any: Vec<Value> = std::iter::once(absent).chain(there(others)).collect();
            json!({"anyOf": any})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{self, Kind, Node};
    use regex::Regex;

    fn value(node: &Node) -> Value {
        match &node.kind {
            Kind::Null => Value::Null,
            Kind::Boolean(value) => (*value).into(),
            Kind::Text { text, .. } => text.as_str().into(),
            Kind::Number(text) => text.parse::<serde_json::Number>().map_or(text.as_str().into(), Value::Number),
            Kind::List(list) => list.iter().map(value).collect(),
            Kind::Mapping(entries) => {
                let members = entries.iter().map(|entry| (entry.key.clone(), value(&entry.value)));
                members.collect::<Map<_, _>>().into()
            }
            Kind::Broken => panic!("a file that parses has no broken node"),
        }
    }

    /// Validates the keywords that the schema uses. Panics at any other keyword.
    fn fits(schema: &Value, root: &Value, value: &Value) -> bool {
        let words = schema.as_object().expect("a schema is an object");
        let one = |schema: &Value| fits(schema, root, value);
        let all = |list: &Value| list.as_array().expect("a list").clone();
        words.iter().all(|(word, operand)| match word.as_str() {
            "$schema" | "title" | "description" | "default" | "examples" | "$defs" => true,
            "pattern" => value.as_str().is_none_or(|text| {
                Regex::new(operand.as_str().expect("a pattern")).expect("a pattern that is valid").is_match(text)
            }),
            "$ref" => {
                assert_eq!(operand, "#/$defs/condition");
                one(&root["$defs"]["condition"])
            }
            "type" => {
                let is = |name: &Value| match name.as_str().expect("a type's name") {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "number" => value.is_number(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    other => panic!("unknown type {other}"),
                };
                operand.as_array().map_or_else(|| is(operand), |names| names.iter().any(is))
            }
            "enum" => all(operand).contains(value),
            "minLength" => value.as_str().is_none_or(|text| !text.is_empty()),
            "minimum" => value.as_f64().is_none_or(|number| number >= operand.as_f64().expect("a number")),
            "maximum" => value.as_f64().is_none_or(|number| number <= operand.as_f64().expect("a number")),
            "items" => value.as_array().is_none_or(|list| list.iter().all(|element| fits(operand, root, element))),
            "minItems" => value.as_array().is_none_or(|list| list.len() as u64 >= operand.as_u64().expect("a number")),
            "maxItems" => value.as_array().is_none_or(|list| list.len() as u64 <= operand.as_u64().expect("a number")),
            "uniqueItems" => {
                value.as_array().is_none_or(|list| (1..list.len()).all(|at| !list[..at].contains(&list[at])))
            }
            "properties" => value.as_object().is_none_or(|object| {
                object.iter().all(|(key, value)| operand.get(key).is_none_or(|schema| fits(schema, root, value)))
            }),
            "additionalProperties" => value.as_object().is_none_or(|object| {
                let declared = words.get("properties");
                let more = object.iter().filter(|(key, _)| declared.is_none_or(|declared| declared.get(key).is_none()));
                more.into_iter().all(|(_, value)| operand.is_object() && fits(operand, root, value))
            }),
            "propertyNames" => value
                .as_object()
                .is_none_or(|object| object.keys().all(|key| fits(operand, root, &key.as_str().into()))),
            "required" => value
                .as_object()
                .is_none_or(|object| all(operand).iter().all(|key| object.contains_key(key.as_str().expect("a key")))),
            "dependentRequired" => value.as_object().is_none_or(|object| {
                let mut operand = operand.as_object().expect("an object").iter();
                operand.all(|(key, others)| {
                    !object.contains_key(key)
                        || all(others).iter().all(|other| object.contains_key(other.as_str().expect("a key")))
                })
            }),
            "allOf" => all(operand).iter().all(one),
            "anyOf" => all(operand).iter().any(one),
            "oneOf" => all(operand).iter().filter(|schema| one(schema)).count() == 1,
            "not" => !one(operand),
            other => panic!("the validator lacks `{other}`"),
        })
    }

    fn accepts(text: &str) -> bool {
        let node = yaml::parse(text, "", &mut Vec::new()).expect("readable");
        let schema = schema();
        fits(&schema, &schema, &value(&node))
    }

    #[test]
    fn the_schema_accepts_the_examples() {
        for text in [
            include_str!("../examples/minimal.yaml"),
            include_str!("../examples/shop.yaml"),
            include_str!("../examples/nested.yaml"),
            include_str!("../examples/telemetry.json"),
            include_str!("../examples/streams.yaml"),
        ] {
            assert!(accepts(text), "{text}");
        }
    }

    #[test]
    fn the_schema_accepts_a_variable_wherever_the_reader_does() {
        let job = include_str!("../examples/nested.yaml");
        for (from, to) in [
            ("more_than: 1000.5", "more_than: \"${N:-3}\""),
            ("between: [2, 5]", "between: [\"${N:-3}\", 5]"),
            ("format: rudderstack", "format: \"${F:-segment}\""),
            ("refresh: manual", "refresh: \"${F:-1h}\""),
            ("members: any", "members: \"${F:-any}\""),
            ("send: [entry]", "send: [\"${F:-entry}\"]"),
            ("send: [entry]", "backfill: \"${F:-true}\""),
            ("within: 30d", "within: \"${F:-30d}\""),
            ("job: nested", "job: \"${JOB:-nested}\"\nlimits: {message_bytes: \"${F:-1MiB}\"}"),
            ("job: nested", "job: nested\napi: {listen: \"127.0.0.1:${PORT:-80}\", rate_limit: \"${N:-3}\"}"),
        ] {
            let substituted = job.replacen(from, to, 1);
            assert_ne!(substituted, job, "{from} is in the example");
            let read = crate::parse(&substituted, "job.yaml", std::path::Path::new("."), &|_| None);
            assert!(read.is_ok(), "the reader refuses {to}: {read:?}");
            assert!(accepts(&substituted), "the schema refuses {to}");
        }
    }

    /// Changes to a job that its shape forbids: the schema and the reader must agree on each.
    #[test]
    fn the_schema_and_the_reader_refuse_the_same_mistakes() {
        let job = include_str!("../examples/nested.yaml");
        for (from, to) in [
            ("job: nested", "jobb: nested"),
            ("format: rudderstack", "format: snowplow_csv"),
            ("format: rudderstack", "format: rudderstack, start: earliest"),
            ("format: rudderstack", "format: {json: {typ: a}}"),
            ("file: {path: \"events/*.jsonl.zst\"}, ", ""),
            ("parquet: accounts.parquet, key: id,", "parquet: accounts.parquet,"),
            ("refresh: manual", "refresh: 5"),
            ("refresh: manual", "max_exits: 20"),
            ("refresh: manual", "max_exits: 1.234%"),
            ("refresh: manual", "max_exits: 101%"),
            ("refresh: manual", "max_exits: 100.01%"),
            ("refresh: manual", "refresh: 1 hour"),
            ("refresh: manual", "min_rows: -1"),
            ("refresh: manual", "force_files: 1"),
            ("parquet: accounts.parquet, key: id,", "parquet: accounts.parquet, delta: accounts, key: id,"),
            ("parquet: accounts.parquet, key: id,", "delta: accounts,"),
            ("parquet: accounts.parquet, key: id,", "delta: {version: 3}, key: id,"),
            ("parquet: accounts.parquet, key: id,", "delta: {url: a, version: -1}, key: id,"),
            ("parquet: accounts.parquet, key: id,", "delta: {url: a, version: 1, timestamp: \"2026-11-01\"}, key: id,"),
            ("parquet: accounts.parquet, key: id,", "delta: a, force_files: true, key: id,"),
            ("parquet: accounts.parquet, key: id,", ""),
            ("members: any", "members: all"),
            ("tags: list<string>", "tags: list<date>"),
            ("tags: list<string>", "tags: {type: string, live: {}}"),
            ("source: web, ", ""),
            ("name: App Opened", "name: 5"),
            ("sum: total,", "sum: total, avg: total,"),
            ("more_than: 1000.5", "more_than: 1000.5, at_least: 5"),
            ("more_than: 1000.5", "more_than: \"many\""),
            ("within: 30d", "wthin: 30d"),
            (", within: 30d", ""),
            ("performed: app_opened", "performed: app_opened, sum: x, avg: x"),
            ("{property: \"list_contains(tags, 'vip')\"}", "{property: a, audience: buyers}"),
            ("{property: \"list_contains(tags, 'vip')\"}", "{}"),
            ("        - {performed: app_opened, after: 1h30m}\n        - {performed: app_opened}\n", ""),
            ("{performed: app_opened, after: 1h30m}", "{performed: app_opened, after: soon}"),
            ("{performed: app_opened, after: 1h30m}", "{performed: app_opened, within: 1h}"),
            ("{performed: app_opened, after: 1h30m}", "{performed: app_opened, at_least: 2}"),
            ("{performed: app_opened, after: 1h30m}", "{where: price > 1}"),
            ("without: [{performed: cart_emptied}]", "without: {performed: cart_emptied}"),
            ("without: [{performed: cart_emptied}]", "without: [{performed: cart_emptied, after: 1h}]"),
            ("without: [{performed: cart_emptied}]", "whithout: []"),
            ("without: [{performed: cart_emptied}]\n      within: 7d", "without: []"),
            ("between: [2, 5]", "between: [2]"),
            ("send: [entry]", "send: [entry, entry]"),
            ("send: [entry]", "send: []"),
            ("send: [entry]", "delivery: twice"),
            ("send: [entry]", "partitions: 0"),
            ("send: [entry]", "partitions: 1.5"),
            ("send: [entry]", "include: []"),
            ("send: [entry]", "include: [a, a]"),
            ("send: [entry]", "event_names: {enter: a}"),
            ("send: [entry]", "fields: {a: 1}"),
            ("send: [entry]", "backfill: 1"),
            ("send: [entry]", "on_remove: keep"),
            ("to: {file: {path: out/marketing.jsonl}}", "to: {file: {path: out/marketing.jsonl}, stdout: {}}"),
            ("to: {file: {path: out/marketing.jsonl}}", "to: {kafka: {}}"),
            ("to: {file: {path: out/marketing.jsonl}}", "to: {kafka: {brokers: a, topic: a, properties: {a: []}}}"),
            ("to: {file: {path: out/marketing.jsonl}}", "to: {webhook: {}}"),
            ("to: {file: {path: out/marketing.jsonl}}", "to: {webhook: {url: a, rate: 5}}"),
            ("to: {file: {path: out/marketing.jsonl}}", "to: {webhook: {url: a, rate: 0/s}}"),
            ("to: {file: {path: out/marketing.jsonl}}", "to: {webhook: {url: a, method: GET}}"),
            ("to: {file: {path: out/marketing.jsonl}}", "to: {webhook: {url: a, secret: []}}"),
            ("to: {file: {path: out/marketing.jsonl}}", "to: {webhook: {url: a, mode: net}}"),
            ("to: {file: {path: out/marketing.jsonl}}", "to: {webhook: {url: a, batch: {changes: 0}}}"),
            ("to: {file: {path: out/marketing.jsonl}}", "to: {webhook: {url: a, concurrency: 0}}"),
            ("to: {file: {path: out/marketing.jsonl}}", "to: {segment: {}}"),
            ("to: {file: {path: out/marketing.jsonl}}", "to: {segment: {write_key: a, region: us, url: b}}"),
            ("to: {file: {path: out/marketing.jsonl}}", "to: {braze: {api_key: a, url: b, id_type: name}}"),
            ("to: {file: {path: out/marketing.jsonl}}", "to: {iterable: {api_key: a, lists: {active: x}}}"),
            ("to: {file: {path: out/marketing.jsonl}}", "to: {customerio: {site_id: a, api_key: b, as: rows}}"),
            ("file: {path: \"events/*.jsonl.zst\"}", "kafka: {brokers: a, topic: []}"),
            ("job: nested", "job: nested\napi: {listen: \"[::1]:80\", rate_limit: 0}"),
            ("job: nested", "job: nested\napi: {listen: \"[::1]:80\", keys: [{token: \"\"}]}"),
            ("job: nested", "job: nested\nstate: {checkpoint_every: 1s}"),
        ] {
            let broken = job.replacen(from, to, 1);
            assert_ne!(broken, job, "{from} is in the example");
            assert!(!accepts(&broken), "the schema takes {to}");
            let read = crate::parse(&broken, "job.yaml", std::path::Path::new("."), &|_| None);
            assert!(read.is_err(), "the reader takes {to}");
        }
    }

    #[test]
    fn the_schema_explains_every_key_and_gives_defaults() {
        let schema = schema();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(schema["required"], json!(["job"]));
        let sync = &schema["properties"]["syncs"]["additionalProperties"]["properties"];
        assert_eq!(sync["send"]["default"], json!(["entry", "exit"]));
        assert_eq!(sync["send"]["items"]["anyOf"][0]["enum"], json!(["entry", "exit", "update"]));
        assert_eq!(sync["to"]["description"], "The destination of the changes.");
        let model = &schema["properties"]["models"]["additionalProperties"]["properties"];
        assert_eq!(model["refresh"]["default"], "24h");
        assert_eq!(sync["on_remove"]["default"], "exit");
        assert_eq!(sync["backfill"]["default"], true);
        let webhook = &sync["to"]["properties"]["webhook"]["properties"];
        assert_eq!(webhook["timeout"]["default"], "15s");
        assert_eq!(webhook["keep_bytes"]["default"], "10GiB");
        assert_eq!(webhook["mode"]["anyOf"][0]["enum"], json!(["changes", "state"]));
        let braze = &sync["to"]["properties"]["braze"];
        assert_eq!(braze["required"], json!(["api_key", "url"]));
        assert_eq!(braze["properties"]["as"]["anyOf"][0]["enum"], json!(["attributes", "events"]));
    }
}
