//! Claims about envelopes: each by example, and all of them against the plain way, which takes a message apart as a tree.

use serde_json::{Map, Value, json};
use usher_config::{Envelope, Format, Found, JsonPaths, Path};

use super::headers::Listed;
use super::{all_needed, compound, path, paths, seeded, text};
use crate::{Content, Decoder, Fields, TimeError, Unwrapped};
use Envelope::{Batch, Cloudevents, Connect, Debezium};

/// What one message of a record is.
#[derive(Clone, Debug, PartialEq)]
enum Message {
    /// What the decoder finds: kind, name, key, id, then the paths; and the time.
    Read(Vec<Found<'static>>, Option<u64>),
    Blank,
    /// Or with a value that is.
    Malformed,
}

fn json_format(id: bool) -> Format {
    let at = |name: &str| Some(path(name));
    let id = if id { at("uuid") } else { None };
    Format::Json(JsonPaths {
        kind: at("type"),
        name: at("name"),
        key: at("user"),
        time: at("at"),
        id,
        properties: None,
    })
}

fn owned(found: &Found<'_>) -> Found<'static> {
    match found {
        Found::Nothing => Found::Nothing,
        Found::Boolean(boolean) => Found::Boolean(*boolean),
        Found::Number(text) => Found::Text(format!("number {text}").into()),
        Found::Text(text) => Found::Text(text.to_string().into()),
        Found::Compound(text) => Found::Compound(text.to_string().into()),
        other => panic!("no message here has {other:?}"),
    }
}

fn answers(fields: &Fields<'_>, count: usize) -> Message {
    if fields.broken(all_needed(count)).is_some() {
        return Message::Malformed;
    }
    let own = [fields.kind(), fields.name(), fields.key(), fields.id()].map(owned);
    let found = own.into_iter().chain((0..count).map(|index| owned(fields.get(index))));
    Message::Read(found.collect(), fields.time(None).ok())
}

/// Returns the messages of a record, with their raw bytes.
fn unwrap(
    format: &Format,
    envelopes: &[Envelope],
    wanted: &[Path],
    record: &[u8],
    headers: Option<&Listed>,
) -> Vec<(Message, String)> {
    let decoder = Decoder::new(format, wanted).in_envelopes(envelopes);
    let mut messages = Vec::new();
    let mut fields = Fields::default();
    // What an earlier record left must not show.
    for _ in 0..2 {
        messages.clear();
        let mut elements = 0;
        let headers = headers.map(|headers| headers as &dyn usher_core::source::Headers);
        let done: Result<(), ()> = decoder.unwrap(record, headers, &mut fields, &mut |unwrapped, fields| {
            let Unwrapped { element, raw, content, .. } = unwrapped;
            if let Some(element) = element {
                assert_eq!(element.index, elements, "elements come in order");
                assert_eq!(&record[element.start..][..raw.len()], raw);
                elements += 1;
            }
            let message = match content {
                Ok(Content::Message) => answers(fields, wanted.len()),
                Ok(Content::Blank) => Message::Blank,
                Err(malformed) => {
                    assert!(malformed.at <= raw.len(), "{malformed}");
                    Message::Malformed
                }
            };
            messages.push((message, String::from_utf8_lossy(raw).into_owned()));
            Ok(())
        });
        assert_eq!(done, Ok(()));
    }
    messages
}

/// Returns what the paths find in each message of a record, and its id and time.
fn finds(envelopes: &[Envelope], wanted: &[&str], record: &str) -> Vec<Vec<Found<'static>>> {
    let messages = unwrap(&json_format(true), envelopes, &paths(wanted), record.as_bytes(), None);
    let read = messages.into_iter().map(|(message, _)| match message {
        Message::Read(found, _) => found[4..].to_vec(),
        other => panic!("{record}: {other:?}"),
    });
    read.collect()
}

/// Returns the detail of what is one malformed message.
fn detail(envelopes: &[Envelope], record: &[u8]) -> String {
    let decoder = Decoder::new(&json_format(true), &[]).in_envelopes(envelopes);
    let mut details = Vec::new();
    let done: Result<(), ()> = decoder.unwrap(record, None, &mut Fields::default(), &mut |unwrapped, _| {
        details.push(unwrapped.content.map_err(|malformed| malformed.to_string()));
        Ok(())
    });
    assert_eq!((done, details.len()), (Ok(()), 1), "{details:?}");
    details.remove(0).expect_err("it is malformed")
}

#[test]
fn each_element_of_a_batch_is_a_message() {
    for record in [
        r#"{"batch":[{"a":1},{"a":"x"}],"sentAt":"2026-11-23T10:00:00Z"}"#,
        r#"[{"a":1},{"a":"x"}]"#,
        "\u{feff} [ {\"a\":1} ,\n{\"a\":\"x\"} ] \r\n",
        r#"{"batch":7,"batch":[{"a":1},{"a":"x"}]}"#,
    ] {
        assert_eq!(finds(&[Batch], &["a"], record), [[text("number 1")], [text("x")]], "{record}");
    }
    assert_eq!(finds(&[Batch], &["a"], "[]"), Vec::<Vec<Found<'_>>>::new());
    assert_eq!(finds(&[Batch], &["a"], r#"{"batch":[ ],"a":1}"#), Vec::<Vec<Found<'_>>>::new());
}

#[test]
fn the_fields_beside_a_batch_hold_where_an_element_lacks_them() {
    let record = r#"{"a":1,"c":{"x":1,"l":[{"y":1},{"y":2}]},"batch":[{},{"a":2,"c":{"l":[{"y":3}]}},{"a":null},{"c":7}],"b":3}"#;
    let n = |n: u32| Found::Text(format!("number {n}").into());
    assert_eq!(
        finds(&[Batch], &["a", "b", "c.x", "c.l.[*].y", "c"], record),
        [
            [n(1), n(3), n(1), compound("[1,2]"), compound(r#"{"x":1,"l":[{"y":1},{"y":2}]}"#)],
            [n(2), n(3), Found::Nothing, compound("[3]"), compound(r#"{"l":[{"y":3}]}"#)],
            [Found::Nothing, n(3), n(1), compound("[1,2]"), compound(r#"{"x":1,"l":[{"y":1},{"y":2}]}"#)],
            [n(1), n(3), Found::Nothing, Found::Nothing, n(7)],
        ]
    );
    // Not the id, which would make repeats of all but one.
    let ids = unwrap(&json_format(true), &[Batch], &[], br#"{"uuid":"u","batch":[{},{"uuid":"v"}]}"#, None);
    let id = |message: &Message| match message {
        Message::Read(found, _) => found[3].clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!([id(&ids[0].0), id(&ids[1].0)], [Found::Nothing, text("v")]);
}

#[test]
fn a_broken_element_alone_is_malformed() {
    let bad: [&[u8]; 9] = [
        b"7",
        b"\"x\"",
        b"[]",
        b"",
        b"{\"a\":}",
        b"{\"a\":1} x",
        b"{\"a\":\"\\x\"}",
        b"{\"\xff\":1}",
        b"{a:1,\"b\":[{}]}",
    ];
    let mut record = b"{\"batch\":[{\"a\":\"first\"}".to_vec();
    for bad in bad {
        record.extend([b",", bad].concat());
    }
    record.extend(b",null,{\"a\":\"last\"}]}");
    let messages = unwrap(&json_format(true), &[Batch], &paths(&["a"]), &record, None);
    let kinds: Vec<_> = messages.iter().map(|(message, _)| matches!(message, Message::Read(..))).collect();
    assert_eq!(kinds, [&[true][..], &[false; 10], &[true]].concat(), "{messages:?}");
    for ((message, raw), bad) in messages[1..10].iter().zip(bad) {
        assert_eq!((message, raw.as_str()), (&Message::Malformed, &*String::from_utf8_lossy(bad)));
    }
    assert_eq!(messages[10].0, Message::Blank, "null is no message");
}

#[test]
fn a_broken_element_of_a_batch_in_other_envelopes_alone_is_malformed() {
    let deep = format!("{}1{}", r#"{"a":"#.repeat(129), "}".repeat(129));
    for broken in [&br#"{"a":}"#[..], br#"{"a":1,}"#, deep.as_bytes(), b"{\"a\":\"\xff\"}", b"\xff", b"\xe2\x82"] {
        let batch = [&br#"[{"user":"g1"},"#[..], broken, br#",{"user":"g2"}]"#].concat();
        for batch in [batch.clone(), [br#"{"batch":"#, &batch[..], b"}"].concat()] {
            for (envelope, before, after) in [
                (Connect, r#"{"schema":null,"payload":"#, r#","größe":"ü"}"#),
                (Debezium, r#"{"op":"c","after":"#, r#","before":null,"größe":"ü","ts_ms":1700000000123}"#),
                (Cloudevents, r#"{"specversion":"1.0","größe":"ü","data":"#, r#","id":"1"}"#),
            ] {
                let record = [before.as_bytes(), &batch, after.as_bytes()].concat();
                let wanted = paths(&["user", "größe"]);
                let found = unwrap(&json_format(false), &[envelope, Batch], &wanted, &record, None);
                let read = |(message, _): &(Message, String)| match message {
                    Message::Read(found, time) => Some((found[4].clone(), found[5].clone(), *time)),
                    _ => None,
                };
                let found: Vec<_> = found.iter().map(read).collect();
                let beside = if envelope == Connect { Found::Nothing } else { text("ü") };
                let time = (envelope == Debezium).then_some(1_700_000_000_123);
                let good = |user: &str| Some((Found::Text(user.to_owned().into()), beside.clone(), time));
                let shown = String::from_utf8_lossy(&record);
                assert_eq!(found, [good("g1"), None, good("g2")], "{shown}");
            }
        }
    }
    // Without a batch inside it is the record that is broken, and so is one whose brackets do not pair.
    for (envelopes, record) in [
        (&[Connect][..], r#"{"payload":{"a":}}"#),
        (&[Connect, Batch], r#"{"payload":[{"a":1}"#),
        (&[Batch, Connect], r#"[{"payload":{"a":}}]"#),
    ] {
        let found = unwrap(&json_format(false), envelopes, &[], record.as_bytes(), None);
        assert!(matches!(&found[..], [(Message::Malformed, _)]), "{record}: {found:?}");
    }
}

#[test]
fn a_record_that_is_not_in_its_envelope_is_malformed_as_a_whole() {
    for (envelope, record, expected) in [
        (Batch, r#"{"type":"track"}"#, "not in its envelope: no list `batch`, which `unwrap: batch` takes"),
        (Batch, r#"{"batch":{}}"#, "not in its envelope: no list `batch`, which `unwrap: batch` takes"),
        (Batch, "7", "not one JSON object at byte 0"),
        (Batch, r#"{"batch":[{}"#, "not JSON: expected `,` or `]` at byte 12"),
        (Batch, r#"{"batch":[{]}]}"#, "not JSON: expected `,` or `]` at byte 12"),
        (Batch, r#"{"batch":[{}],"type":}"#, "not JSON: expected a value at byte 21"),
        (Batch, r#"[{}] x"#, "not one JSON object at byte 5"),
        (Connect, r#"{"schema":{}}"#, "not in its envelope: no `payload`, which `unwrap: connect` takes"),
        (Connect, r#"{"payload":7}"#, "not one JSON object at byte 11"),
        (Connect, r#"{"payload":{"a":}}"#, "not JSON: expected a value at byte 16"),
        (Debezium, r#"{"after":{}}"#, "not in its envelope: no `op`, which a change of Debezium's has"),
        (Debezium, r#"{"op":null,"after":{}}"#, "not in its envelope: no `op`, which a change of Debezium's has"),
        (Cloudevents, r#"{"data":{}}"#, "not in its envelope: no `specversion`, which a CloudEvent has"),
        (
            Cloudevents,
            r#"{"specversion":"1.0","data_base64":"e30="}"#,
            "not in its envelope: a CloudEvent with `data_base64`, and only `data` is read",
        ),
        (Cloudevents, r#"{"specversion":"1.0","data":"{}"}"#, "not one JSON object at byte 28"),
    ] {
        assert_eq!(detail(&[envelope], record.as_bytes()), expected, "{record}");
    }
    assert_eq!(detail(&[Connect], b"{\"payload\":{},\"\xff\":1}"), "not UTF-8 at byte 15");
    let deep = format!(r#"{{"payload":{}{}}}"#, r#"{"a":"#.repeat(128), "}".repeat(128));
    assert!(detail(&[Connect], deep.as_bytes()).starts_with("deeper than 128 levels"));
}

#[test]
fn a_broken_value_is_where_the_record_has_it() {
    let decoder = Decoder::new(&json_format(true), &paths(&["a", "b"])).in_envelopes(&[Connect, Debezium]);
    for (record, at) in
        [(r#"{"payload":{"op":"c","after":{"a":01}}}"#, 34), (r#"{"payload":{"op":"c","after":{},"b":01}}"#, 36)]
    {
        let mut found = Vec::new();
        let done: Result<(), ()> = decoder.unwrap(record.as_bytes(), None, &mut Fields::default(), &mut |_, fields| {
            found.push(fields.broken(all_needed(2)).map(|broken| broken.at));
            Ok(())
        });
        assert_eq!((done, found), (Ok(()), vec![Some(at)]), "{record}");
    }
}

#[test]
fn a_change_of_debezium_is_the_row_after_it_and_of_a_deletion_the_row_before() {
    let change = |op: &str, before: &str, after: &str| {
        format!(r#"{{"before":{before},"after":{after},"source":{{"table":"t"}},"op":"{op}","ts_ms":1700000000123}}"#)
    };
    let find = |record: &str| finds(&[Debezium], &["id", "op", "source.table"], record);
    for op in ["c", "u", "r"] {
        let found = find(&change(op, r#"{"id":"old"}"#, r#"{"id":"new"}"#));
        assert_eq!(found, [[text("new"), text(op), text("t")]]);
    }
    assert_eq!(find(&change("d", r#"{"id":"old"}"#, "null")), [[text("old"), text("d"), text("t")]]);
    // A column of that name is the row's.
    assert_eq!(find(&change("c", "null", r#"{"id":1,"op":"x"}"#)), [[text("number 1"), text("x"), text("t")]]);
    for record in [
        change("d", "null", r#"{"id":"new"}"#),
        change("t", "null", "null"),
        change("c", r#"{"id":"old"}"#, " null "),
        r#"{"op":"m","message":{}}"#.to_owned(),
    ] {
        let messages = unwrap(&json_format(true), &[Debezium], &[], record.as_bytes(), None);
        assert_eq!(messages[0].0, Message::Blank, "{record}");
    }
    let time =
        |row: &str| match &unwrap(&json_format(true), &[Debezium], &[], change("c", "{}", row).as_bytes(), None)[..] {
            [(Message::Read(_, time), _)] => *time,
            other => panic!("{other:?}"),
        };
    assert_eq!(time("{}"), Some(1_700_000_000_123));
    assert_eq!(time(r#"{"at":null}"#), Some(1_700_000_000_123));
    assert_eq!(time(r#"{"at":1600000000000}"#), Some(1_600_000_000_000), "the format's own comes first");
}

#[test]
fn a_time_of_an_envelope_that_cannot_be_read_is_named() {
    let decoder = Decoder::new(&json_format(true), &[]).in_envelopes(&[Debezium]);
    for (record, expected) in [
        (r#"{"op":"c","after":{},"ts_ms":true}"#, "`ts_ms` = true is neither RFC 3339 nor Unix time"),
        (r#"{"op":"c","after":{},"ts_ms":null}"#, "no timestamp"),
    ] {
        let mut errors = Vec::new();
        let _: Result<(), ()> = decoder.unwrap(record.as_bytes(), None, &mut Fields::default(), &mut |_, fields| {
            errors.extend(fields.time(None).err().map(|error: TimeError<'_>| error.to_string()));
            Ok(())
        });
        assert_eq!(errors, [expected]);
    }
}

#[test]
fn a_cloud_event_is_its_data_with_its_id_and_time() {
    let record = r#"{"specversion":"1.0","id":"e-1","source":"/shop","type":"com.shop.order","subject":"u-1",
        "time":"2026-11-23T10:00:00Z","data":{"user":"u-2","n":1}}"#;
    let read = |record: &str, headers: Option<&Listed>, format: &Format| {
        let mut all = unwrap(format, &[Cloudevents], &paths(&["subject", "n"]), record.as_bytes(), headers);
        assert_eq!(all.len(), 1);
        all.remove(0).0
    };
    let expected = |kind: Found<'static>, id: &str| {
        let found =
            [kind, Found::Nothing, text("u-2"), Found::Text(id.to_owned().into()), text("u-1"), text("number 1")];
        Message::Read(found.to_vec(), Some(1_795_428_000_000))
    };
    assert_eq!(read(record, None, &json_format(true)), expected(text("com.shop.order"), "e-1"));
    let own = record.replace(r#""n":1"#, r#""n":1,"uuid":"m-1","type":"order""#);
    assert_eq!(read(&own, None, &json_format(true)), expected(text("order"), "m-1"));
    let binary = Listed(vec![
        ("ce_specversion", Some(b"1.0")),
        ("ce_id", Some(b"e-1")),
        ("ce_type", Some(b"com.shop.order")),
        ("ce_subject", Some(b"u-1")),
        ("ce_time", Some(b"2026-11-23T10:00:00Z")),
        ("content-type", Some(b"application/json")),
    ]);
    let data = r#"{"user":"u-2","n":1}"#;
    assert_eq!(read(data, Some(&binary), &json_format(true)), expected(text("com.shop.order"), "e-1"));
    let mut distinguished = binary.0;
    distinguished.pop();
    distinguished.push(("content-type", Some(b"application/cloudevents+json; charset=UTF-8")));
    assert_eq!(read(record, Some(&Listed(distinguished)), &json_format(true)), expected(text("com.shop.order"), "e-1"));
    assert_eq!(read(r#"{"specversion":"1.0","data":null}"#, None, &json_format(true)), Message::Blank);
    assert_eq!(read(r#"{"specversion":"1.0"}"#, None, &json_format(true)), Message::Blank);
}

#[test]
fn the_id_of_a_cloud_event_is_not_that_of_the_elements_of_its_batch() {
    let record = br#"{"specversion":"1.0","id":"e","data":[{},{"uuid":"m"}]}"#;
    let messages = unwrap(&json_format(true), &[Cloudevents, Batch], &[], record, None);
    let ids = messages.iter().map(|(message, _)| match message {
        Message::Read(found, _) => found[3].clone(),
        other => panic!("{other:?}"),
    });
    assert_eq!(ids.collect::<Vec<_>>(), [Found::Nothing, text("m")]);
    let inner = br#"[{"specversion":"1.0","id":"a","data":{}},{"specversion":"1.0","data":{}}]"#;
    let messages = unwrap(&json_format(true), &[Batch, Cloudevents], &[], inner, None);
    let ids = messages.iter().map(|(message, _)| match message {
        Message::Read(found, _) => found[3].clone(),
        other => panic!("{other:?}"),
    });
    assert_eq!(ids.collect::<Vec<_>>(), [text("a"), Found::Nothing]);
}

#[test]
fn a_header_with_an_id_is_not_that_of_the_elements_of_its_batch() {
    let id = Some(Path::parse("headers.id").expect("a path"));
    let format = Format::Json(JsonPaths { kind: None, name: None, key: None, time: None, id, properties: None });
    let kafka = usher_config::Kafka { brokers: "localhost:9092".to_owned(), ..usher_config::Kafka::default() };
    let source = usher_config::Source {
        place: Default::default(),
        from: usher_config::SourceFrom::Kafka { kafka, topics: vec!["events".to_owned()] },
        format,
        encoding: usher_config::Encoding::Json,
        unwrap: vec![Batch],
        start: usher_config::Start::Window,
    };
    let decoder = Decoder::of(&source, &[], None).expect("there is no schema");
    let headers = Listed(vec![("id", Some(b"one"))]);
    let mut ids = Vec::new();
    let done: Result<(), ()> = decoder.unwrap(b"[{},{}]", Some(&headers), &mut Fields::default(), &mut |_, fields| {
        ids.push(owned(fields.id()));
        Ok(())
    });
    assert_eq!((done, ids), (Ok(()), vec![Found::Nothing, Found::Nothing]));
}

/// The plain way: what is in the envelopes, as trees.
struct Plain {
    /// What the envelopes have beside it.
    outer: Map<String, Value>,
    id: Value,
    time: Value,
}

impl Plain {
    fn new() -> Plain {
        Plain { outer: Map::new(), id: Value::Null, time: Value::Null }
    }

    fn unwrap(mut self, format: &Format, envelopes: &[Envelope], wanted: &[Path], value: &Value) -> Vec<Message> {
        if *value == Value::Null {
            return vec![Message::Blank];
        }
        let Some((envelope, inner)) = envelopes.split_first() else {
            let Value::Object(message) = value else { return vec![Message::Malformed] };
            return vec![self.read(format, wanted, message.clone())];
        };
        let mut beside = match value {
            Value::Object(members) => members.clone(),
            Value::Array(_) if *envelope == Batch => Map::new(),
            _ => return vec![Message::Malformed],
        };
        let inside = match envelope {
            Batch => {
                let list = if value.is_array() { Some(value.clone()) } else { beside.remove("batch") };
                let Some(Value::Array(list)) = list else { return vec![Message::Malformed] };
                self.outer.extend(beside);
                self.outer.remove("uuid");
                let each = |element: &Value| {
                    let (outer, time) = (self.outer.clone(), self.time.clone());
                    Plain { outer, time, id: Value::Null }.unwrap(format, inner, wanted, element)
                };
                return list.iter().flat_map(each).collect();
            }
            Connect => {
                let Some(payload) = beside.remove("payload") else { return vec![Message::Malformed] };
                return self.unwrap(format, inner, wanted, &payload);
            }
            Debezium => {
                let (before, after) = (beside.remove("before"), beside.remove("after"));
                self.time = beside.get("ts_ms").cloned().unwrap_or(self.time);
                match beside.get("op") {
                    Some(Value::String(op)) if op == "d" => before,
                    Some(Value::String(_)) => after,
                    _ => return vec![Message::Malformed],
                }
            }
            Cloudevents => {
                if !beside.contains_key("specversion") {
                    return vec![Message::Malformed];
                }
                let data = beside.remove("data");
                self.id = beside.get("id").cloned().unwrap_or(self.id);
                self.time = beside.get("time").cloned().unwrap_or(self.time);
                data
            }
        };
        self.outer.extend(beside);
        self.unwrap(format, inner, wanted, &inside.unwrap_or_default())
    }

    /// A message as if all were its own members.
    fn read(mut self, format: &Format, wanted: &[Path], message: Map<String, Value>) -> Message {
        self.outer.extend(message);
        let none = |value: Option<&Value>| value.is_none_or(|value| value.is_null());
        if !self.id.is_null() && none(self.outer.get("uuid").filter(|id| *id != "")) {
            self.outer.insert("uuid".to_owned(), self.id);
        }
        if none(self.outer.get("at")) {
            self.outer.insert("at".to_owned(), self.time);
        }
        let all = Value::Object(self.outer).to_string();
        let mut fields = Fields::default();
        Decoder::new(format, wanted).decode(all.as_bytes(), None, &mut fields).expect("it was written by the library");
        answers(&fields, wanted.len())
    }
}

/// Returns what is at the paths of the messages of a record, each taken whole; no ids and no times.
fn whole(format: &Format, envelopes: &[Envelope], wanted: &[Path], record: &[u8]) -> Vec<Message> {
    let messages = Decoder::new(format, &[]).in_envelopes(envelopes).whole(record, None);
    let read = messages.into_iter().map(|message| {
        let Ok(message) = message else { return Message::Malformed };
        let (text, mut fields) = (message.to_string(), Fields::default());
        Decoder::new(format, wanted).decode(text.as_bytes(), None, &mut fields).expect("it was written by the library");
        answers(&fields, wanted.len())
    });
    without_ids(&read.collect::<Vec<_>>())
}

/// Returns messages without their ids and times, and without those that are blank.
fn without_ids(messages: &[Message]) -> Vec<Message> {
    let messages = messages.iter().filter(|message| **message != Message::Blank).cloned();
    let without = |message| match message {
        Message::Read(mut found, _) => {
            found.remove(3);
            Message::Read(found, None)
        }
        other => other,
    };
    messages.map(without).collect()
}

/// A value that may be anything, of names that envelopes and paths have.
fn value(rng: &mut fastrand::Rng, depth: u32) -> Value {
    match rng.u32(0..if depth == 0 { 5 } else { 8 }) {
        0 => Value::Null,
        1 => json!(rng.u32(0..3)),
        2 => json!(["", "a", "d", "ü\n"][rng.usize(..4)]),
        3 => json!(rng.bool()),
        4 => json!(1_700_000_000_000u64 + rng.u64(..1000)),
        5 => (0..rng.usize(..3)).map(|_| value(rng, depth - 1)).collect(),
        _ => Value::Object(members(rng, depth - 1)),
    }
}

fn members(rng: &mut fastrand::Rng, depth: u32) -> Map<String, Value> {
    const NAMES: [&str; 9] = ["type", "name", "user", "at", "uuid", "a", "c", "op", "id"];
    (0..rng.usize(..5)).map(|_| (NAMES[rng.usize(..NAMES.len())].to_owned(), value(rng, depth))).collect()
}

fn wrapped(rng: &mut fastrand::Rng, envelopes: &[Envelope]) -> Value {
    if rng.u32(..20) == 0 {
        return value(rng, 2);
    }
    let Some((envelope, inner)) = envelopes.split_first() else { return Value::Object(members(rng, 2)) };
    let mut outer = members(rng, 1);
    let mut put = |rng: &mut fastrand::Rng, name: &str, value: Value| {
        if rng.u32(..20) > 0 {
            outer.insert(name.to_owned(), value);
        }
    };
    match envelope {
        Batch => {
            let list: Value = (0..rng.usize(..4)).map(|_| wrapped(rng, inner)).collect();
            if rng.bool() {
                return list;
            }
            put(rng, "batch", list);
        }
        Connect => {
            let payload = wrapped(rng, inner);
            put(rng, "payload", payload);
        }
        Debezium => {
            let (before, after) = (wrapped(rng, inner), wrapped(rng, inner));
            put(rng, "before", before);
            put(rng, "after", after);
            let (op, ms) = (["c", "d", "u"][rng.usize(..3)], 1_600_000_000_000 + rng.u64(..1000));
            put(rng, "op", json!(op));
            put(rng, "ts_ms", json!(ms));
        }
        Cloudevents => {
            let data = wrapped(rng, inner);
            put(rng, "specversion", json!("1.0"));
            put(rng, "data", data);
            let id = ["x", "y"][rng.usize(..2)];
            put(rng, "id", json!(id));
            put(rng, "time", json!("2026-11-23T10:00:00Z"));
        }
    }
    Value::Object(outer)
}

#[test]
fn what_is_in_any_envelopes_is_what_the_plain_way_finds() {
    let mut rng = seeded(41);
    let wanted = paths(&["a", "a.a", "c.a", "c.[0]", "c.[*].a", "op", "user"]);
    let (mut read, mut blank, mut malformed) = (0, 0, 0);
    for _ in 0..20_000 {
        let mut all = [Batch, Debezium, Connect, Cloudevents];
        rng.shuffle(&mut all);
        let envelopes = &all[..rng.usize(1..4)];
        let record = wrapped(&mut rng, envelopes);
        let format = json_format(true);
        let expected = Plain::new().unwrap(&format, envelopes, &wanted, &record);
        // A record without a value does not come here.
        if record == Value::Null {
            continue;
        }
        let bytes = record.to_string();
        let found = unwrap(&format, envelopes, &wanted, bytes.as_bytes(), None);
        let found: Vec<Message> = found.into_iter().map(|(message, _)| message).collect();
        assert_eq!(found, expected, "{envelopes:?} of {bytes}");
        assert_eq!(
            whole(&format, envelopes, &wanted, bytes.as_bytes()),
            without_ids(&found),
            "{envelopes:?} of {bytes}"
        );
        for message in found {
            match message {
                Message::Read(..) => read += 1,
                Message::Blank => blank += 1,
                Message::Malformed => malformed += 1,
            }
        }
    }
    assert!(read > 5_000 && blank > 500 && malformed > 500, "{read} read, {blank} blank, {malformed} malformed");
}
