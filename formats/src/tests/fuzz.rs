//! Random messages, read twice: by the reader, and the obvious way.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::Value;
use usher_config::{Format, Found, JsonPaths, Path, Step};

use super::reference::{self, Answers};
use super::{path, paths, seeded};
use crate::time;
use crate::{Content, Decoder, Fields, NamedTime};

#[test]
fn the_reader_agrees_with_the_obvious_reader() {
    compare(fastrand::u64(..), 50_000);
}

#[test]
#[ignore = "minutes: for changes of the walk"]
fn the_reader_agrees_with_the_obvious_reader_for_long() {
    compare(fastrand::u64(..), 5_000_000);
}

fn compare(seed: u64, rounds: usize) {
    let mut rng = seeded(seed);
    let jobs: Vec<_> =
        jobs().into_iter().map(|(format, paths)| (Decoder::new(&format, &paths), format, paths)).collect();
    let mut met = BTreeMap::new();
    for round in 0..rounds {
        let message = message(&mut rng);
        let (decoder, format, paths) = &jobs[rng.usize(..jobs.len())];
        let mut fields = Fields::default();
        if rng.bool() {
            // Left over from another message.
            let _ = decoder.decode(LEFTOVER, None, &mut fields);
        }
        let verdict = decoder.decode(&message, None, &mut fields);
        let expected = reference::decode(format, paths, &message);
        let shown = || format!("seed {seed}, round {round}, {format:?}, {}", message.escape_ascii());
        let mut note = |what: String| *met.entry(what).or_insert(0) += 1;
        match (&verdict, &expected) {
            (Ok(Content::Message), Some(expected)) => {
                let got = Answers::of(&fields, paths.len(), expected.times.clone().unwrap_or_default());
                assert_eq!(got, *expected, "{}", shown());
                let named = |path, found| NamedTime { path, found };
                let time = match expected.times.as_deref() {
                    None => None,
                    Some([one]) => Some(named("properties.list[1]", one).read()),
                    Some([timestamp, received, sent, original]) => Some(time::of_segment(
                        named("timestamp", timestamp),
                        named("receivedAt", received),
                        named("sentAt", sent),
                        named("originalTimestamp", original),
                    )),
                    Some(_) => unreachable!("one time or four"),
                };
                if let Some(time) = time {
                    let shown_time = |time: &Result<u64, _>| time.as_ref().map_err(ToString::to_string).copied();
                    assert_eq!(shown_time(&fields.time(None)), shown_time(&time), "{}", shown());
                    note(format!("time {time:?}").chars().take(8).collect());
                }
                for found in got.paths.iter().chain([&got.kind, &got.name, &got.key, &got.id]).flatten() {
                    note(format!("{found:?}").split('(').next().unwrap_or_default().to_owned());
                }
                for (_, malformed) in &fields.broken {
                    assert!(malformed.at <= message.len(), "{}", shown());
                    note(format!("{:?}", malformed.what));
                }
                for found in got.paths.iter().flatten() {
                    if let Found::Text(std::borrow::Cow::Owned(_)) = found {
                        note("unescaped".to_owned());
                    }
                }
            }
            (Err(malformed), None) => {
                assert!(malformed.at <= message.len(), "{}", shown());
                note(format!("{:?}", malformed.what));
            }
            _ => panic!("{verdict:?}, but {expected:?}: {}", shown()),
        }
        if let Ok(Value::Object(value)) = serde_json::from_slice(&message) {
            assert_eq!((&verdict, &fields.broken[..]), (&Ok(Content::Message), &[][..]), "{}", shown());
            note("serde_json".to_owned());
            let value = Value::Object(value);
            for (i, path) in paths.iter().enumerate() {
                if *format == Format::Segment && path.0[0] != Step::Key("properties".to_owned()) {
                    same(fields.get(i), &value, path, &shown);
                }
            }
        }
    }
    for what in [
        "NotUtf8",
        "NotOneObject",
        "TooDeep",
        "BrokenString",
        "BrokenNumber",
        "Expected(\"a name\")",
        "Expected(\"a value\")",
        "Expected(\"`:`\")",
        "Expected(\"`\\\"`\")",
        "Expected(\"`,` or `}`\")",
        "Expected(\"`,` or `]`\")",
        "Nothing",
        "Text",
        "unescaped",
        "Number",
        "Boolean",
        "Compound",
        "Mended",
        "NotFinite",
        "time Ok(",
        "time Err",
        "serde_json",
    ] {
        assert!(met.contains_key(what), "seed {seed}: never {what} in {met:?}");
    }
}

fn reads_as(text: &str, value: &Value) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|read| read == *value)
}

/// What was found is what `serde_json` has there.
fn same(found: &Found<'_>, message: &Value, path: &Path, shown: &dyn Fn() -> String) {
    let mut value = message;
    for step in &path.0 {
        let next = match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(index),
            Step::All => return,
        };
        value = next.unwrap_or(&Value::Null);
    }
    let is_same = match (found, value) {
        (Found::Nothing, Value::Null) => true,
        (Found::Boolean(found), Value::Bool(value)) => found == value,
        (Found::Text(found), Value::String(value)) => found == value,
        // Numbers read by the same library: of long ones it gets the last digit wrong.
        (Found::Number(found), value @ Value::Number(_)) => reads_as(found, value),
        (Found::Compound(found), value @ (Value::Array(_) | Value::Object(_))) => reads_as(found, value),
        _ => false,
    };
    assert!(is_same, "{found:?}, but {value}: {}", shown());
}

pub(super) fn jobs() -> Vec<(Format, Vec<Path>)> {
    let wanted = paths(&[
        "properties.a",
        "properties.a.b",
        "properties.total billed",
        "properties.list.[0]",
        "properties.list.[2].a",
        "properties.list.[*]",
        "properties.list.[*].a",
        "properties.list.[*].list.[*].b",
        "properties.list.[*].[1]",
        "properties.a.a.a.list.[1].[0]",
        "context.a",
        "context.list.[*]",
        "traits.a",
        "timestamp",
        "a much longer name than eight bytes, and then than forty",
        "a much longer name than eight bytes, and then than forty too",
        "properties",
    ]);
    let json = |properties| {
        Format::Json(JsonPaths {
            kind: Some(path("type")),
            name: None,
            key: Some(path("context.a")),
            time: Some(path("properties.list.[1]")),
            id: Some(path("list.[0].a")),
            properties,
        })
    };
    vec![
        (Format::Segment, wanted[..wanted.len() - 1].to_vec()),
        (Format::Rudderstack, wanted.clone()),
        (Format::Hightouch, paths(&["context.page.path"])),
        (Format::Segment, Vec::new()),
        (json(None), wanted.clone()),
        (json(Some(path("context"))), wanted[..wanted.len() - 1].to_vec()),
        (json(Some(path("properties.list.[0]"))), wanted),
    ]
}

const LEFTOVER: &[u8] = br#"{"type":"page","name":"x","userId":7,"messageId":"\u0041","timestamp":"2026-11-23T10:00:00Z",
    "properties":{"a":{"b":1,"a":{"a":{"list":[0,[1]]}}},"list":[1,2,{"a":3}],"total billed":4},"context":{"a":5,"list":[6]}}"#;

pub(super) const NAMES: &[&str] = &[
    "type",
    "event",
    "userId",
    "messageId",
    "name",
    "timestamp",
    "receivedAt",
    "sentAt",
    "originalTimestamp",
    "properties",
    "context",
    "traits",
    "a",
    "b",
    "list",
    "total billed",
    "c",
    "propertiez",
    "é",
    "",
    "a much longer name than eight bytes, and then than forty",
    "a much longer name than eight bytes, but other then",
    "t\\u0079pe",
    "\\u0061",
    "li\\u0073t",
    "properti\\u0065s",
    "\\x",
    "\\ud800",
    "\\n",
    "\u{1}",
];

pub(super) const STRINGS: &[&str] = &[
    "",
    "track",
    "page",
    "screen",
    "identify",
    "group",
    "a",
    "u-42",
    "2026-11-23T10:00:00Z",
    "2026-11-23T10:00:00.25Z",
    "2015-2-02 00:30:08.276+02:00",
    "eight by",
    "seven b",
    "nine byte",
    "Sommer\u{20ac}",
    "\u{1f600}",
    "\\n",
    "\\\"",
    "\\\\",
    "\\u00e9",
    "\\ud83d\\ude00",
    "a longer string with a \\t in it",
    "{",
    "}",
    "[1,",
    ",",
    ":",
    "\\/",
    "\\ud800",
    "\\ude00\\ud83d",
];

const BROKEN_STRINGS: &[&str] =
    &["\\x", "\\u12", "\\ud800\\x", "\t", "\u{0}", "a long one \n broken", "\\ud800\n", "\\u00zz"];

pub(super) const WORDS: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "42",
    "3.0",
    "-0",
    "1e3",
    "1E-3",
    "2.5e+10",
    "1763892000000",
    "12345678901234567890",
    "0.1",
    "1e999",
    "1763892000000.9",
    "NaN",
    "-Infinity",
];

const BROKEN_WORDS: &[&str] = &[
    "nul",
    "True",
    "01",
    "1.",
    ".5",
    "+1",
    "-",
    "1e",
    "1e+",
    "0x1F",
    "nan",
    "1_000",
    "1.2.3",
    "--1",
    "truefalse",
    "+Infinity",
];

pub(super) fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    from[rng.usize(..from.len())]
}

fn message(rng: &mut Rng) -> Vec<u8> {
    let mut text = String::new();
    blank(rng, &mut text);
    match rng.u32(..100) {
        0 => value(rng, &mut text, 3),
        1 => {
            // About as deep as may be, of either bracket, where it is needed or not.
            let depth = rng.usize(120..132);
            let shapes: Vec<_> = (0..depth).map(|_| rng.bool()).collect();
            text += &format!(r#"{{"{}":"#, pick(rng, &["c", "properties", "list", "a"]));
            for object in &shapes {
                text += if *object { r#"{"a":"# } else { "[" };
            }
            text += "1";
            for object in shapes.iter().rev() {
                text += if *object { "}" } else { "]" };
            }
            text += "}";
        }
        _ => object(rng, &mut text, 5),
    }
    blank(rng, &mut text);
    let mut bytes = text.into_bytes();
    if rng.u32(..3) == 0 {
        for _ in 0..rng.usize(1..4) {
            mutate(rng, &mut bytes);
        }
    }
    bytes
}

pub(super) fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = rng.usize(..bytes.len());
    let structural = b"{}[]:,\"\\ \n0a-.\x00\x1f\x80\xff"[rng.usize(..18)];
    match rng.u32(..7) {
        0 => bytes[at] = structural,
        1 => bytes[at] = rng.u8(..),
        2 => bytes.insert(at, structural),
        3 => drop(bytes.remove(at)),
        4 => bytes.truncate(at),
        5 => {
            let slice = bytes[at..bytes.len().min(at + rng.usize(1..20))].to_vec();
            let to = rng.usize(..bytes.len());
            bytes.splice(to..to, slice);
        }
        _ => bytes.push(structural),
    }
}

fn blank(rng: &mut Rng, text: &mut String) {
    if rng.u32(..8) == 0 {
        for _ in 0..rng.usize(1..4) {
            *text += pick(rng, &[" ", "\n", "\r", "\t"]);
        }
    }
}

pub(super) fn value(rng: &mut Rng, text: &mut String, depth: usize) {
    blank(rng, text);
    let most = if depth == 0 { 6 } else { 10 };
    match rng.u32(..most) {
        0..3 => string(rng, text),
        3..6 => *text += if rng.u32(..40) == 0 { pick(rng, BROKEN_WORDS) } else { pick(rng, WORDS) },
        6..8 => object(rng, text, depth - 1),
        _ => {
            text.push('[');
            let count = if rng.u32(..50) == 0 { rng.usize(..200) } else { rng.usize(..4) };
            for i in 0..count {
                if i > 0 {
                    text.push(',');
                }
                value(rng, text, if count > 4 { 0 } else { depth - 1 });
            }
            blank(rng, text);
            text.push(']');
        }
    }
    blank(rng, text);
}

pub(super) fn object(rng: &mut Rng, text: &mut String, depth: usize) {
    text.push('{');
    for i in 0..rng.usize(..7) {
        if i > 0 {
            text.push(',');
        }
        blank(rng, text);
        text.push('"');
        *text += pick(rng, NAMES);
        text.push('"');
        blank(rng, text);
        text.push(':');
        value(rng, text, depth);
    }
    blank(rng, text);
    text.push('}');
}

fn string(rng: &mut Rng, text: &mut String) {
    text.push('"');
    *text += pick(rng, STRINGS);
    if rng.u32(..60) == 0 {
        *text += pick(rng, BROKEN_STRINGS);
    }
    if rng.u32(..6) == 0 {
        *text += pick(rng, STRINGS);
    }
    if rng.u32(..20) == 0 {
        // Longer than the blocks that quotes are looked for in.
        for _ in 0..rng.usize(..200) {
            *text += pick(rng, &["x", "y", "z", "\\\\", "\\\"", "é"]);
        }
    }
    text.push('"');
}
