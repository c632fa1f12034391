//! `docs/REFERENCE.md` has each key of the job file, as the program's JSON Schema has it, and no other; and its examples are right.
//!
//! `USHER_WRITE_DOCS=1 cargo test --test usher reference` writes the tables anew, and appends sections that are missing: each then needs
//! an example by hand, in which each of its keys occurs.

use crate::support::rows::{numbers, run, strings, usher, write_parquet};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The section of the root.
const ROOT: &str = "The job file";
/// What stands before a table.
const HEAD: &str = "| key | type | default | meaning |\n|---|---|---|---|\n";

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/REFERENCE.md")
}

fn schema() -> Value {
    let ran = run(Path::new("."), &["schema"]);
    serde_json::from_str(&ran.stdout).expect("the schema is JSON")
}

/// A mapping of the job file, by its place.
type Records = BTreeMap<String, Vec<Row>>;

/// A key.
#[derive(Clone, Debug)]
struct Row {
    key: String,
    text: String,
}

/// Collects the mappings with keys of a schema, below a place.
fn collect(place: &str, schema: &Value, records: &mut Records) {
    if !schema.is_object() {
        return;
    }
    let list = |name: &str| schema[name].as_array().cloned().unwrap_or_default();
    if let Some(keys) = schema["properties"].as_object().filter(|keys| !keys.is_empty()) {
        let required = list("required");
        let mut rows: Vec<(bool, Row)> = Vec::new();
        for (key, value) in keys {
            let is_required = required.iter().any(|name| name == key);
            let default = if is_required { "required".to_owned() } else { default(value) };
            let text = format!("| `{key}` | {} | {default} | {} |", shape(value), meaning(value));
            rows.push((!is_required, Row { key: key.clone(), text }));
            let below = if place == ROOT { key.clone() } else { format!("{place}.{key}") };
            collect(&below, value, records);
        }
        rows.sort_by_key(|(optional, _)| *optional);
        let before = records.insert(place.to_owned(), rows.into_iter().map(|(_, row)| row).collect());
        assert!(before.is_none(), "{place} comes twice");
    }
    list("anyOf").iter().for_each(|of| collect(place, of, records));
    collect(&format!("{place}.ID"), &schema["additionalProperties"], records);
    collect(&format!("{place}[]"), &schema["items"], records);
}

fn records() -> Records {
    let schema = schema();
    let mut records = Records::new();
    collect(ROOT, &schema, &mut records);
    for kind in schema["$defs"]["condition"]["oneOf"].as_array().expect("conditions are of several kinds") {
        let name = kind["required"][0].as_str().expect("a kind has a key that it is known by");
        collect(&format!("condition `{name}`"), kind, &mut records);
    }
    records
}

/// Describes what a value may be.
fn shape(schema: &Value) -> String {
    let list = |name: &str| schema[name].as_array().cloned().unwrap_or_default();
    // Any value that is no text may be a text with a variable.
    let of: Vec<Value> = list("anyOf").into_iter().filter(|of| of["pattern"] != r"\$\{").collect();
    if !of.is_empty() {
        let shapes: Vec<String> = of.iter().map(shape).collect();
        return match &shapes[..] {
            [one, list] if *list == format!("list of {one}") => format!("{one}, or a list"),
            _ => shapes.join(", or "),
        };
    }
    if schema["$ref"].is_string() {
        return "condition".to_owned();
    }
    let words = list("enum");
    if !words.is_empty() {
        let words: Vec<String> = words.iter().map(|word| format!("`{}`", word.as_str().unwrap_or_default())).collect();
        return words.join(", ");
    }
    let pattern = schema["pattern"].as_str().unwrap_or_default();
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).filter(|of| *of != "null").collect(),
        _ => Vec::new(),
    };
    let known = [
        ("|manual)$", "duration, or `manual`"),
        ("ms)$", "duration"),
        ("KiB", "size"),
        (")%$", "percentage"),
        ("/(s|m|h)$", "rate"),
        ("[A-Za-z_][A-Za-z0-9_-]*", "id"),
        ("{1,249}", "topic"),
        (":[0-9]{1,5}", "host:port"),
    ];
    if let Some((_, name)) = known.iter().find(|(part, _)| pattern.contains(part)) {
        return (*name).to_owned();
    }
    match &types[..] {
        ["array"] => {
            let bound = match (schema["minItems"].as_u64(), schema["maxItems"].as_u64()) {
                (Some(least), Some(most)) if least == most => format!("{least} "),
                _ => String::new(),
            };
            format!("list of {bound}{}", shape(&schema["items"]))
        }
        ["object"] if schema["additionalProperties"].is_object() => {
            format!("mapping of {}", shape(&schema["additionalProperties"]))
        }
        ["object"] => "mapping".to_owned(),
        ["integer"] => match (schema["minimum"].as_u64(), schema["maximum"].as_u64()) {
            (Some(least), Some(most)) if most < u64::from(u32::MAX) => format!("whole number, {least} to {most}"),
            (Some(least), _) => format!("whole number, {least} or more"),
            _ => "whole number".to_owned(),
        },
        types => types.join(", "),
    }
}

/// Returns the default: the schema's, else what the description says.
fn default(schema: &Value) -> String {
    match &schema["default"] {
        Value::Null => {
            let said = schema["description"].as_str().unwrap_or_default().split_once("Default: ");
            said.map_or(String::new(), |(_, default)| default.trim_end_matches('.').to_owned())
        }
        Value::Array(several) => {
            let several: Vec<&str> = several.iter().filter_map(Value::as_str).collect();
            format!("`[{}]`", several.join(", "))
        }
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

fn meaning(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    let text = text.split_once("Default: ").map_or(text, |(text, _)| text).trim_end().trim_end_matches('.');
    assert!(!text.is_empty(), "a key has a description: {schema}");
    text.replace('|', "\\|")
}

/// The sections of the page: the place in the heading, and the text below it.
fn sections(page: &str) -> Vec<(String, String)> {
    let sections = page.split("\n## ").skip(1);
    let of = |section: &str| {
        let (heading, text) = section.split_once('\n').expect("a section has text");
        let place = heading.strip_prefix('`').and_then(|of| of.strip_suffix('`')).unwrap_or(heading);
        (place.to_owned(), text.to_owned())
    };
    sections.map(of).collect()
}

fn table(rows: &[Row]) -> String {
    rows.iter().fold(HEAD.to_owned(), |mut table, row| {
        writeln!(table, "{}", row.text).expect("a string takes text");
        table
    })
}

/// The blocks of YAML in a text.
fn examples(text: &str) -> Vec<&str> {
    text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().expect("a split has a first part")).collect()
}

/// Writes the tables of the page anew, and appends sections that are missing.
fn write_docs(page: &str, records: &Records) {
    let mut new = page.split("\n## ").next().expect("a page has a beginning").to_owned();
    let sections = sections(page);
    for (place, text) in &sections {
        let heading = if place.contains(' ') { place.clone() } else { format!("`{place}`") };
        let text = match (records.get(place), text.split_once(HEAD)) {
            (Some(rows), Some((before, after))) => {
                let after = after.split_once("\n\n").map_or("", |(_, after)| after);
                format!("{before}{}\n{after}", table(rows))
            }
            _ => text.clone(),
        };
        write!(new, "\n## {heading}\n{text}").expect("a string takes text");
    }
    for (place, rows) in records.iter().filter(|(place, _)| sections.iter().all(|(there, _)| there != *place)) {
        let heading = if place.contains(' ') { place.clone() } else { format!("`{place}`") };
        write!(new, "\n## {heading}\n\n{}\n```yaml\n```\n", table(rows)).expect("a string takes text");
    }
    std::fs::write(docs(), new).expect("the docs can be written");
}

#[test]
fn the_reference_has_each_key_of_the_schema_and_no_other() {
    let page = std::fs::read_to_string(docs()).expect("the docs are part of the project");
    let records = records();
    if std::env::var_os("USHER_WRITE_DOCS").is_some() {
        return write_docs(&page, &records);
    }
    let hint = "run with USHER_WRITE_DOCS=1, and give each new key an example";
    let sections = sections(&page);
    let described: BTreeSet<&str> =
        sections.iter().filter(|(_, text)| text.contains(HEAD)).map(|(place, _)| place.as_str()).collect();
    assert_eq!(described, records.keys().map(String::as_str).collect(), "{hint}");
    for (place, text) in &sections {
        let Some(rows) = records.get(place) else { continue };
        assert!(
            text.contains(&format!("{}\n", table(rows))),
            "the table of `{place}` is another; {hint}:\n{}",
            table(rows)
        );
        let examples = examples(text).concat();
        for Row { key, .. } in rows {
            let is_there =
                ["\n", " ", "{"].iter().any(|before| format!("\n{examples}").contains(&format!("{before}{key}:")));
            assert!(is_there, "`{place}` has no example of `{key}`");
        }
    }
}

/// The variables that the examples name, beside a secret.
const VARIABLES: [&str; 9] = [
    "USHER_API_KEY",
    "READER_KEY",
    "OPERATOR_KEY",
    "SEGMENT_KEY",
    "RUDDERSTACK_KEY",
    "BRAZE_KEY",
    "ITERABLE_KEY",
    "CUSTOMERIO_KEY",
    "CIO_SITE",
];

/// What an example lacks of a job.
const REST: [(&str, &str); 6] = [
    ("job", "job: shop\n"),
    ("sources", "sources: {web: {file: {path: events.jsonl}, format: segment}}\n"),
    (
        "models",
        "models:\n  accounts: {parquet: accounts.parquet, key: account_id}\n  \
         users: {parquet: users.parquet, key: user_id, belongs_to: {model: accounts, foreign_key: account}}\n  \
         orders: {parquet: orders.parquet, key: order_id, belongs_to: {model: users, foreign_key: customer_id}}\n",
    ),
    (
        "events",
        "events:\n  page_viewed: {source: web, type: page, model: users, properties: {path: string}}\n  \
         order_completed: {source: web, type: track, name: Order Completed, model: users, properties: {revenue: number, sku: string}}\n",
    ),
    ("audiences", "audiences: {rich: {model: users, where: {property: ltv > 300}}}\n"),
    ("syncs", "syncs: {log: {to: {file: {path: changes.jsonl}}}}\n"),
];

#[test]
fn each_example_of_the_reference_is_right() {
    let page = std::fs::read_to_string(docs()).expect("the docs are part of the project");
    let folder = tempfile::tempdir().expect("a folder for the test");
    let users = vec![
        ("user_id", strings(&["u-1"])),
        ("plan", strings(&["pro"])),
        ("email", strings(&["a@example.com"])),
        ("ltv", numbers(&[1.0])),
        ("account", strings(&["a-1"])),
    ];
    write_parquet(&folder.path().join("users.parquet"), users);
    write_parquet(&folder.path().join("accounts.parquet"), vec![("account_id", strings(&["a-1"]))]);
    let orders = vec![
        ("order_id", strings(&["o-1"])),
        ("customer_id", strings(&["u-1"])),
        ("status", strings(&["paid"])),
        ("amount", numbers(&[1.0])),
    ];
    write_parquet(&folder.path().join("orders.parquet"), orders);
    std::fs::create_dir(folder.path().join("audiences")).expect("the folder can be written");
    std::fs::write(folder.path().join("events.jsonl"), "").expect("the folder can be written");
    let avro = r#"{"type": "record", "name": "order", "fields": [{"name": "kind", "type": "string"},
        {"name": "user", "type": "string"}, {"name": "at", "type": "string"}]}"#;
    std::fs::write(folder.path().join("order.avsc"), avro).expect("the folder can be written");
    let proto =
        "syntax = \"proto3\"; package shop; message Refund { string kind = 1; string user = 2; string at = 3; }";
    std::fs::write(folder.path().join("refund.proto"), proto).expect("the folder can be written");
    let more = "audiences: {included: {model: users, where: {property: ltv > 1}}}\n";
    std::fs::write(folder.path().join("audiences/more.yaml"), more).expect("the folder can be written");
    let sections = sections(&page);
    let examples: Vec<(&str, &str)> = sections
        .iter()
        .flat_map(|(place, text)| examples(text).into_iter().map(move |example| (place.as_str(), example)))
        .collect();
    assert!(examples.len() > 20, "{}", examples.len());
    for (place, example) in examples {
        let rest = REST.iter().filter(|(key, _)| !format!("\n{example}").contains(&format!("\n{key}:")));
        let job = rest.fold(example.to_owned(), |job, (_, part)| job + part);
        std::fs::write(folder.path().join("job.yaml"), &job).expect("the folder can be written");
        let mut check = usher(folder.path(), &["check", "job.yaml"]);
        check.env("CRM_SECRET", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz");
        for name in VARIABLES {
            check.env(name, name);
        }
        let checked = check.output().expect("the program starts");
        let stderr = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "the example of `{place}`: {stderr}\n{job}");
    }
}
