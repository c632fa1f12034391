//! Times: the reader of events' times and the one of predicates agree on what both take.
#![no_main]

use libfuzzer_sys::fuzz_target;
use usher_config::{ColumnType, Found};
use usher_fuzz::formats::NamedTime;
use usher_queries::Value;
use usher_queries::coerce::coerce;

fuzz_target!(|text: &str| {
    let as_text = Found::Text(text.into());
    let number = serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
        && text.starts_with(|first: char| first.is_ascii_digit() || first == '-')
        && text.ends_with(|last: char| last.is_ascii_digit());
    let as_number = number.then_some(Found::Number(text));
    for found in [Some(as_text), as_number].into_iter().flatten() {
        let event = NamedTime { path: "time", found: &found }.read().ok();
        if let (Some(event), Value::Timestamp(column)) = (event, coerce(&found, ColumnType::Timestamp).value) {
            assert_eq!(i64::try_from(event).ok(), Some(column), "{text}");
        }
    }
});
