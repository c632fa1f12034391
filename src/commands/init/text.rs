//! The text of a job file, with comments, from what samples contain.

use super::Events;
use super::tables::Table;
use crate::profile::{Group, Kind};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use usher_config::{Format, JsonPaths, SourceFrom};

/// The most properties of an event that are declared.
const PROPERTIES: usize = 30;
/// The most events that are declared.
const EVENTS: usize = 50;

/// What stands before the job of the small shop.
pub const SHOP: &str = "# A small shop: people look at pages, put things into carts and order.
# `usher replay` prints who entered and left its audiences, `usher schema` is the JSON Schema for your editor.
";
/// What stands behind it.
pub const SHOP_SYNC: &str = "
syncs:
  log: {to: {file: {path: changes.jsonl}}}
";

/// A declared event.
struct Declared {
    id: String,
    count: u64,
    /// How many properties are declared.
    properties: usize,
    /// Somebody did something, rather than was described or looked at a page.
    is_action: bool,
    text: String,
}

/// Returns the job file, which lies in `folder`.
pub fn job(sources: &mut [Events], tables: &[Table], folder: &Path) -> String {
    let keys = event_keys(sources);
    // The model of the events: the table that has most of their keys.
    let common = |table: &&Table| {
        let key = table.key(&keys);
        table.common(key, &keys)
    };
    let parent = tables.iter().rev().max_by_key(common);
    if let Some(parent) = parent {
        let of_parent = parent.texts(parent.key(&keys)).cloned().unwrap_or_default();
        sources.iter_mut().for_each(|source| source.find_key(&of_parent));
    }
    let mut text = String::from(
        "# Written by `usher init` from samples: check names, keys and types before you rely on them.\n\
         # `usher check` finds mistakes, `usher peek` prints what comes in, `usher schema` is the JSON Schema for your editor.\n",
    );
    let name = folder.canonicalize().ok().and_then(|folder| Some(folder.file_name()?.to_string_lossy().into_owned()));
    line(&mut text, format_args!("job: {}\n", id(&name.unwrap_or_default(), "job")));
    if !sources.is_empty() {
        line(&mut text, "sources:");
        sources.iter().for_each(|source| self::source(&mut text, source, folder));
    }
    line(&mut text, "\nmodels:");
    let parent_id = parent.map_or("users", |table| table.id.as_str());
    let parent_keys = parent.and_then(|table| table.texts(table.key(&keys))).cloned().unwrap_or_default();
    if tables.is_empty() {
        line(&mut text, "  # Without `parquet` whoever sends an event may be a member.");
        line(&mut text, "  users: {key: user_id}");
    }
    for table in tables {
        let belongs = (table.id != *parent_id).then_some((parent_id, &parent_keys));
        model(&mut text, table, &keys, belongs, folder);
    }
    let events = declared(sources, parent_id);
    if !events.is_empty() {
        line(&mut text, "\nevents:");
        events.iter().for_each(|event| text.push_str(&event.text));
    }
    audiences(&mut text, &events, parent, parent_id, &keys);
    line(&mut text, "\nsyncs:\n  # Or kafka: {brokers: \"host:9092\", topic: audience-changes}");
    line(&mut text, "  log: {to: {file: {path: changes.jsonl}}}");
    text
}

fn line(text: &mut String, line: impl std::fmt::Display) {
    writeln!(text, "{line}").expect("a string takes text");
}

/// Returns the texts at the keys of events, of all sources.
fn event_keys(sources: &[Events]) -> BTreeSet<String> {
    let of = |source: &Events| match key_path(&source.format) {
        Some(path) => source.texts.at(&path).cloned().unwrap_or_default(),
        // Any path may be the key: what a table's key has in common with it decides.
        None => source.texts.all(),
    };
    sources.iter().flat_map(of).collect()
}

/// Returns where a format has the key.
fn key_path(format: &Format) -> Option<String> {
    match format {
        Format::Segment | Format::Rudderstack | Format::Hightouch => Some("userId".to_owned()),
        Format::SnowplowTsv | Format::SnowplowJson => Some("user_id".to_owned()),
        Format::Json(paths) => paths.key.as_ref().map(ToString::to_string),
    }
}

impl Events {
    /// Takes the path with most of a table's keys for the key of a JSON format.
    fn find_key(&mut self, keys: &BTreeSet<String>) {
        if let Format::Json(paths) = &mut self.format
            && let Some(found) = self.texts.path_of(keys)
        {
            paths.key = usher_config::Path::parse(found).ok();
        }
    }
}

fn source(text: &mut String, source: &Events, folder: &Path) {
    let from = match &source.from {
        SourceFrom::File { path, .. } => {
            format!("file: {{path: {}, follow: true}}", quoted(&relative(path, folder)))
        }
        SourceFrom::Kafka { kafka, topics } => {
            format!("kafka: {{brokers: {}, topic: {}}}", quoted(&kafka.brokers), quoted(&topics[0]))
        }
    };
    let format = match &source.format {
        Format::Segment => "segment".to_owned(),
        Format::Rudderstack => "rudderstack".to_owned(),
        Format::Hightouch => "hightouch".to_owned(),
        Format::SnowplowTsv => "snowplow_tsv".to_owned(),
        Format::SnowplowJson => "snowplow_json".to_owned(),
        Format::Json(paths) => json_format(paths),
    };
    line(text, format_args!("  {}:\n    {from}\n    format: {format}", source.id));
}

fn json_format(paths: &JsonPaths) -> String {
    let parts = [
        ("type", &paths.kind),
        ("name", &paths.name),
        ("key", &paths.key),
        ("time", &paths.time),
        ("id", &paths.id),
        ("properties", &paths.properties),
    ];
    let given =
        parts.iter().filter_map(|(name, path)| Some(format!("{name}: {}", quoted(&path.as_ref()?.to_string()))));
    format!("{{json: {{{}}}}}", given.collect::<Vec<_>>().join(", "))
}

fn model(
    text: &mut String,
    table: &Table,
    keys: &BTreeSet<String>,
    belongs: Option<(&str, &BTreeSet<String>)>,
    folder: &Path,
) {
    let none = BTreeSet::new();
    let key = table.key(if belongs.is_some() { &none } else { keys });
    line(text, format_args!("  {}:\n    parquet: {}", table.id, quoted(&relative(&table.path, folder))));
    if !table.has_key() {
        line(text, "    # A guess: no column has a value of its own in each row.");
    }
    line(text, format_args!("    key: {}", quoted(key)));
    if let Some((parent, parent_keys)) = belongs {
        match table.foreign_key(key, parent_keys) {
            Some(foreign) => {
                line(text, format_args!("    belongs_to: {{model: {parent}, foreign_key: {}}}", quoted(foreign)));
            }
            None => line(text, format_args!("    # belongs_to: {{model: {parent}, foreign_key: COLUMN}}")),
        }
    }
    let columns = table.columns.iter().filter(|(name, _)| name != key);
    let columns: Vec<String> = columns.map(|(name, column_type)| format!("{}: {column_type}", quoted(name))).collect();
    if !columns.is_empty() {
        line(text, format_args!("    columns: {{{}}}", columns.join(", ")));
    }
}

/// Returns the events to declare: the most frequent first, of equals the one with most properties.
fn declared(sources: &[Events], model: &str) -> Vec<Declared> {
    let mut ids = BTreeSet::new();
    let mut events = Vec::new();
    for source in sources {
        for (kind, group) in source.profile.most_frequent() {
            // Pages and screens have as many names as a site has pages: the type is the event.
            let by_type = is_family(&source.format) && matches!(kind.kind.as_deref(), Some("page" | "screen"));
            let kind = if by_type { Kind { kind: kind.kind.clone(), name: None } } else { kind.clone() };
            // No event can be declared of these.
            if [&kind.kind, &kind.name].into_iter().flatten().any(|text| text.trim().is_empty()) {
                continue;
            }
            let name = match (kind.name.as_deref(), kind.kind.as_deref()) {
                (Some(name), _) => id(name, "event"),
                (None, Some(of)) => id(of, "event"),
                (None, None) => "message".to_owned(),
            };
            if by_type && !ids.insert(format!("{}\0{name}", source.id)) {
                continue;
            }
            let (first, mut name, mut number) = (name.clone(), name, 1);
            while !ids.insert(name.clone()) {
                number += 1;
                name = format!("{first}_{number}");
            }
            let group = if by_type { source.profile.of_type(kind.kind.as_deref()) } else { group.clone() };
            events.push(event(name, source, &kind, &group, model));
        }
    }
    events.sort_by(|a, b| (b.count, b.properties, &a.id).cmp(&(a.count, a.properties, &b.id)));
    events.truncate(EVENTS);
    events
}

fn is_family(format: &Format) -> bool {
    matches!(format, Format::Segment | Format::Rudderstack | Format::Hightouch)
}

fn event(id: String, source: &Events, kind: &Kind, group: &Group, model: &str) -> Declared {
    let mut keys = vec![format!("source: {}", source.id)];
    if let Some(kind) = &kind.kind {
        keys.push(format!("type: {}", quoted(kind)));
    }
    if let Some(name) = &kind.name {
        keys.push(format!("name: {}", quoted(name)));
    }
    keys.push(format!("model: {model}"));
    let mut text = format!("  # {} of {} messages\n  {id}:\n", group.messages, source.profile.messages);
    for key in keys {
        line(&mut text, format_args!("    {key}"));
    }
    let properties = properties(source, kind, group);
    if !properties.is_empty() {
        line(&mut text, "    properties:");
        properties.iter().for_each(|(name, property)| line(&mut text, format_args!("      {name}: {property}")));
    }
    let is_action = !is_family(&source.format) || kind.kind.as_deref() == Some("track");
    Declared { id, count: group.messages, properties: properties.len(), is_action, text }
}

/// Returns the properties of an event by their names in conditions.
fn properties(source: &Events, kind: &Kind, group: &Group) -> BTreeMap<String, String> {
    let of_traits = is_family(&source.format) && matches!(kind.kind.as_deref(), Some("identify" | "group"));
    let has_traits = group.paths.keys().any(|path| path.starts_with("traits."));
    let prefix = match &source.format {
        Format::Rudderstack if of_traits && !has_traits => "context.traits.".to_owned(),
        Format::Segment | Format::Rudderstack | Format::Hightouch if of_traits => "traits.".to_owned(),
        Format::Segment | Format::Rudderstack | Format::Hightouch => "properties.".to_owned(),
        Format::Json(JsonPaths { properties: Some(path), .. }) => format!("{path}."),
        Format::SnowplowTsv | Format::SnowplowJson | Format::Json(_) => String::new(),
    };
    let parts = parts_of(&source.format);
    let mut properties = BTreeMap::new();
    for (path, values) in &group.paths {
        let Some(rest) = path.strip_prefix(&prefix) else { continue };
        let Some(declared) = values.declared() else { continue };
        if parts.contains(path) || properties.len() == PROPERTIES {
            continue;
        }
        let name = id(rest, "property");
        // `name: type` is short for the path `properties.name`; a format without an object of properties has them at the top.
        let is_short = name == *rest && !matches!(source.format, Format::SnowplowTsv | Format::SnowplowJson);
        let written = if of_traits || !prefix.is_empty() { format!("properties.{rest}") } else { path.clone() };
        let property =
            if is_short { declared.to_owned() } else { format!("{{path: {}, type: {declared}}}", quoted(&written)) };
        properties.entry(name).or_insert(property);
    }
    properties
}

/// Returns the paths that a format reads by itself, or whose values say nothing of what happened.
fn parts_of(format: &Format) -> BTreeSet<String> {
    match format {
        Format::Json(paths) => {
            let parts = [&paths.kind, &paths.name, &paths.key, &paths.time, &paths.id];
            parts.into_iter().flatten().map(ToString::to_string).collect()
        }
        Format::SnowplowTsv | Format::SnowplowJson => {
            let parts =
                ["event", "event_name", "event_id", "user_id", "collector_tstamp", "etl_tstamp", "dvce_created_tstamp"];
            parts.into_iter().map(str::to_owned).collect()
        }
        _ => BTreeSet::new(),
    }
}

fn audiences(text: &mut String, events: &[Declared], parent: Option<&Table>, model: &str, keys: &BTreeSet<String>) {
    line(text, "\naudiences:");
    let column = parent.and_then(|table| {
        let key = table.key(keys);
        table.columns.iter().find(|(name, _)| name != key && is_id(name))
    });
    let property = column.map(|(name, _)| format!("property: {name} is not null"));
    let first = events.iter().find(|event| event.is_action).or(events.first());
    match (first, property) {
        (Some(event), property) => {
            line(
                text,
                "  # Who did it in the last 7 days; each leaves 7 days after the last time, to the millisecond.",
            );
            line(text, format_args!("  {}_lately:\n    model: {model}", event.id));
            line(text, format_args!("    where: {{performed: {}, at_least: 1, within: 7d}}", event.id));
            line(text, "    # More conditions:");
            line(text, "    # where:\n    #   all:");
            line(text, format_args!("    #     - {{performed: {}, at_least: 3, within: 4h}}", event.id));
            if let Some(property) = property {
                line(text, format_args!("    #     - {property}"));
            }
            line(
                text,
                format_args!(
                    "    #     - not: {{performed: {}, within: 5m}}",
                    events.last().map_or("", |last| &last.id)
                ),
            );
        }
        (None, property) => {
            let condition = property.unwrap_or_else(|| "all: []".to_owned());
            line(text, format_args!("  everybody:\n    model: {model}\n    where: {{{condition}}}"));
        }
    }
}

/// Returns a path that leads to the same place from `folder` as `path` does from the working folder.
fn relative(path: &str, folder: &Path) -> String {
    if path.contains("://") || Path::new(path).is_absolute() || folder == Path::new(".") {
        return path.to_owned();
    }
    match Path::new(path).strip_prefix(folder) {
        Ok(inside) => inside.display().to_string(),
        Err(_) => std::path::absolute(path).map_or_else(|_| path.to_owned(), |path| path.display().to_string()),
    }
}

/// Returns an id made of a name: lower case, other characters than letters and digits as `_`. `otherwise` if nothing is left.
pub fn id(name: &str, otherwise: &str) -> String {
    let mut id = String::new();
    for character in name.chars() {
        match character {
            'A'..='Z' | 'a'..='z' | '0'..='9' => id.push(character.to_ascii_lowercase()),
            _ if id.ends_with('_') || id.is_empty() => {}
            _ => id.push('_'),
        }
    }
    let id = id.trim_end_matches('_');
    match id.chars().next() {
        None => otherwise.to_owned(),
        Some('0'..='9') => format!("{otherwise}_{id}"),
        Some(_) => id.to_owned(),
    }
}

fn is_id(text: &str) -> bool {
    id(text, "") == text
}

/// Returns a text as YAML: plain where that is the same, else in double quotes.
fn quoted(text: &str) -> String {
    let first = text.chars().next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_' || first == '/');
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.' | '-'));
    let is_word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_lowercase().as_str());
    // What looks like a variable is none.
    let quoted = || serde_json::Value::from(text.replace("${", "$${")).to_string();
    if first && plain && !is_word { text.to_owned() } else { quoted() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_ids_and_texts_that_yaml_reads_as_they_are() {
        assert_eq!(id("Order Completed", "event"), "order_completed");
        assert_eq!(id("  ", "event"), "event");
        assert_eq!(id("2nd visit!", "event"), "event_2nd_visit");
        assert_eq!(quoted("warehouse/users.parquet"), "warehouse/users.parquet");
        assert_eq!(quoted("Order Completed: all"), "\"Order Completed: all\"");
        assert_eq!(quoted("no"), "\"no\"");
        assert_eq!(quoted("5"), "\"5\"");
    }

    #[test]
    fn paths_lead_from_the_folder_of_the_job_to_the_same_place() {
        assert_eq!(relative("events.jsonl", Path::new(".")), "events.jsonl");
        assert_eq!(relative("shop/events.jsonl", Path::new("shop")), "events.jsonl");
        assert_eq!(relative("s3://bucket/users/", Path::new("shop")), "s3://bucket/users/");
        assert!(Path::new(&relative("events.jsonl", Path::new("shop"))).is_absolute());
    }
}
