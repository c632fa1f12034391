//! What the fuzz targets share: the readers of messages, jobs that need something of every kind, and how answers compare.
//!
//! A target panics where a parser does, and where two readers of the same bytes disagree.

#![allow(missing_docs)]

use serde_json::Value;
use usher_config::{Format, Found, Path, Step};

pub use usher_formats as formats;
use usher_formats::{Decoder, Fields, Needed};

/// Paths as a job file writes them.
pub fn paths(texts: &[&str]) -> Vec<Path> {
    texts.iter().map(|text| Path::parse(text).expect("a path")).collect()
}

/// Decodes a message, and asks for all that can be asked for. None: malformed, or a value is broken.
pub fn read<'a>(decoder: &Decoder, count: usize, message: &'a [u8]) -> Option<Vec<Found<'a>>> {
    let mut fields = Fields::default();
    let verdict = decoder.decode(message, None, &mut fields).err();
    let own = [Needed::Kind, Needed::Name, Needed::Key, Needed::Id, Needed::Time];
    let all = own.into_iter().chain((0..count).map(Needed::Path));
    if let Some(malformed) = verdict.or_else(|| fields.broken(all)) {
        assert!(malformed.at <= message.len(), "{malformed}");
        return None;
    }
    let _ = fields.time(Some(1));
    let own = [fields.kind(), fields.name(), fields.key(), fields.id()].map(Found::clone);
    Some(own.into_iter().chain((0..count).map(|i| fields.get(i).clone())).collect())
}

/// What was found is what the library has at the end of a path without `[*]`.
pub fn same(found: &Found<'_>, message: &Value, path: &Path) {
    let mut value = message;
    for step in &path.0 {
        let next = match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(index),
            Step::All => return,
        };
        value = next.unwrap_or(&Value::Null);
    }
    let reads_as = |text: &str| serde_json::from_str::<Value>(text).is_ok_and(|read| read == *value);
    let is_same = match (found, value) {
        (Found::Nothing, Value::Null) => true,
        (Found::Boolean(found), Value::Bool(value)) => found == value,
        (Found::Text(found), Value::String(value)) => found == value,
        (Found::Number(found), Value::Number(_)) => reads_as(found),
        (Found::Compound(found), Value::Array(_) | Value::Object(_)) => reads_as(found),
        _ => false,
    };
    assert!(is_same, "{found:?} at {path}, but {value}");
}

/// Paths of every kind into Snowplow's events.
pub fn snowplow_paths() -> Vec<Path> {
    paths(&[
        "contexts_a_b_1[0].a",
        "contexts_a_b_1[1]",
        "contexts_a_b_1[*].a",
        "contexts_a_b_1[*].l[*]",
        "contexts_a_b_1",
        "unstruct_event_a_b_1.a",
        "properties.a",
        "properties.l[*].a",
        "properties",
        "contexts.data[0].schema",
        "unstruct_event",
        "page_url",
        "br_cookies",
        "none",
    ])
}

/// The format's decoder for [`snowplow_paths`], and how many they are.
pub fn snowplow(format: Format) -> (Decoder, usize) {
    let paths = snowplow_paths();
    (Decoder::new(&format, &paths), paths.len())
}
