//! Claims about Avro: what a library wrote is found, and any other bytes are malformed or read, without a panic.

use serde_json::{Value, json};
use usher_config::{Envelope, Format, Found, JsonPaths};

use super::whole::assert_whole;
use super::{path, paths, seeded, text};
use crate::{Content, Decoder, Fields, Malformed, Unwrapped};

/// What fastavro wrote, and what is found of it: see `make.py` beside it.
const CASES: &str = include_str!("../../testdata/avro/cases.jsonl");

pub(super) fn plain() -> Format {
    let at = |name: &str| Some(path(name));
    Format::Json(JsonPaths {
        kind: at("type"),
        name: at("name"),
        key: at("user"),
        time: at("at"),
        id: at("uuid"),
        properties: at("properties"),
    })
}

fn decoder(schema: &Value, wanted: &[&str], envelopes: &[Envelope]) -> Decoder {
    let decoder = Decoder::new(&plain(), &paths(wanted)).in_envelopes(envelopes);
    decoder.in_avro(&schema.to_string(), &[]).unwrap_or_else(|reason| panic!("{schema}: {reason}"))
}

pub(super) fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hexadecimal[at..at + 2], 16).expect("two digits");
    (0..hexadecimal.len()).step_by(2).map(digit).collect()
}

/// What is found, as the cases have it.
pub(super) fn shown(found: &Found<'_>) -> Value {
    match found {
        Found::Nothing => Value::Null,
        Found::Boolean(boolean) => json!({ "boolean": boolean }),
        Found::Integer(integer) => json!({ "integer": integer.to_string() }),
        Found::Double(number) => json!({ "double": number }),
        Found::Decimal(text) => json!({ "decimal": text }),
        Found::Text(text) => json!({ "text": text }),
        Found::Timestamp(ms) => json!({ "timestamp": ms }),
        Found::Date(ms) => json!({ "date": ms }),
        Found::Compound(json) => json!({ "json": serde_json::from_str::<Value>(json).expect("it is JSON") }),
        other => panic!("no case has {other:?}"),
    }
}

/// Asserts that what is found is what a case has. The parser of the cases rounds numbers of many digits.
pub(super) fn assert_same(found: &Value, expected: &Value, of: &str) {
    match (found, expected) {
        (Value::Number(_), Value::Number(whole)) if whole.is_i64() || whole.is_u64() => {
            assert_eq!(found, expected, "{of}");
        }
        (Value::Number(found), Value::Number(expected)) => {
            let (found, expected) = (found.as_f64().unwrap_or(0.0), expected.as_f64().unwrap_or(0.0));
            assert!((found - expected).abs() <= expected.abs() * 1e-14, "{found}, but {expected}: {of}");
        }
        (Value::Array(found), Value::Array(expected)) if found.len() == expected.len() => {
            found.iter().zip(expected).for_each(|(found, expected)| assert_same(found, expected, of));
        }
        (Value::Object(found), Value::Object(expected)) if found.keys().eq(expected.keys()) => {
            found.values().zip(expected.values()).for_each(|(found, expected)| assert_same(found, expected, of));
        }
        (found, expected) => assert_eq!(found, expected, "{of}"),
    }
}

/// The paths of a case.
pub(super) fn case_paths(case: &Value) -> Vec<String> {
    let paths = case["paths"].as_array().expect("paths").iter().map(|path| {
        let steps = path.as_array().expect("a path").iter().map(|step| step.as_str().expect("a step"));
        steps.collect::<Vec<_>>().join(".")
    });
    paths.collect()
}

#[test]
fn what_fastavro_wrote_is_found() {
    let mut kinds = std::collections::BTreeMap::<String, u32>::new();
    for line in CASES.lines() {
        let case: Value = serde_json::from_str(line).expect("a case is JSON");
        let wanted = case_paths(&case);
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let decoder = decoder(&case["schema"], &wanted, &[]);
        let message = bytes(case["bytes"].as_str().expect("bytes"));
        let mut fields = Fields::default();
        assert_eq!(decoder.decode(&message, None, &mut fields), Ok(Content::Message), "{line}");
        assert_whole(&decoder, &message, &wanted, line);
        for (index, expected) in case["found"].as_array().expect("what is found").iter().enumerate() {
            assert_same(&shown(fields.get(index)), expected, &format!("{} of {line}", wanted[index]));
            let kind = expected.as_object().map_or("null", |of| of.keys().next().expect("a kind"));
            *kinds.entry(kind.to_owned()).or_default() += 1;
        }
        // All of it is needed, and nothing more is there.
        let empty = case["schema"]["fields"] == json!([]);
        for length in (0..message.len()).filter(|_| !empty) {
            let cut = decoder.decode(&message[..length], None, &mut Fields::default());
            assert!(cut.is_err(), "{length} bytes of {line}");
        }
        let longer = [&message[..], &[0]].concat();
        let error = decoder.decode(&longer, None, &mut Fields::default()).expect_err("a byte too many");
        assert_eq!(error.to_string(), format!("does not fit its schema: something follows at byte {}", message.len()));
    }
    for kind in ["null", "boolean", "integer", "double", "decimal", "text", "timestamp", "date", "json"] {
        assert!(kinds[kind] >= 20, "{kinds:?}");
    }
}

#[test]
fn any_bytes_are_read_or_malformed() {
    let mut rng = seeded(8);
    let cases: Vec<Value> = CASES.lines().map(|line| serde_json::from_str(line).expect("a case is JSON")).collect();
    let (mut read, mut malformed) = (0, 0);
    for round in 0..20_000 {
        let case = &cases[rng.usize(..cases.len())];
        let wanted = ["a", "b", "c.a", "d.[0]", "a.[*].b", "next.next.a"];
        let decoder = decoder(&case["schema"], &wanted[rng.usize(..3)..], &[]);
        let mut message = bytes(case["bytes"].as_str().expect("bytes"));
        for _ in 0..rng.usize(1..4) {
            if message.is_empty() || round % 5 == 0 {
                message.push(rng.u8(..));
            } else {
                let at = rng.usize(..message.len());
                message[at] = rng.u8(..);
            }
        }
        match decoder.decode(&message, None, &mut Fields::default()) {
            Ok(_) => read += 1,
            Err(error) => {
                assert!(error.at <= message.len(), "{error}");
                malformed += 1;
            }
        }
    }
    assert!(read > 1_000 && malformed > 1_000, "{read} read, {malformed} malformed");
}

fn long(value: i64) -> Vec<u8> {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

fn string(value: &str) -> Vec<u8> {
    [long(value.len() as i64), value.as_bytes().to_vec()].concat()
}

fn record(fields: Value) -> Value {
    let fields = fields.as_object().expect("fields").iter().map(|(name, of)| json!({ "name": name, "type": of }));
    json!({ "type": "record", "name": "R", "fields": fields.collect::<Vec<_>>() })
}

fn error(schema: &Value, wanted: &[&str], message: &[u8]) -> String {
    let decoded = decoder(schema, wanted, &[]).decode(message, None, &mut Fields::default());
    decoded.expect_err("it is malformed").to_string().replace("does not fit its schema: ", "")
}

#[test]
fn bytes_that_do_not_fit_their_schema_are_malformed() {
    for (of, wrong, expected) in [
        (json!("boolean"), vec![2], "a boolean that is neither 0 nor 1 at byte 1"),
        (json!("int"), long(1 << 31), "an int beyond 32 bits at byte 5"),
        (json!("long"), vec![0xff; 11], "a number that does not end at byte 0"),
        (json!("string"), long(-1), "a length below 0 at byte 1"),
        (json!("string"), long(i64::MAX), "it ends early at byte 10"),
        (json!("string"), [long(1), vec![0xff]].concat(), "a text that is not UTF-8 at byte 2"),
        (json!(["null", "long"]), long(2), "a branch that its union does not have at byte 1"),
        (
            json!({"type": "enum", "name": "E", "symbols": ["A"]}),
            long(1),
            "a symbol that its enum does not have at byte 1",
        ),
        (
            json!({"type": "array", "items": "null"}),
            long(i64::MAX),
            "a list of too many values without bytes at byte 10",
        ),
        (json!({"type": "array", "items": "long"}), long(i64::MAX), "a number that does not end at byte 10"),
        (json!(["null", "R"]), vec![2; 300], "deeper than 128 levels"),
    ] {
        let found = error(&record(json!({ "a": of })), &["a"], &wrong);
        assert!(found.starts_with(expected), "{of}: {found}, but {expected}");
    }
    // What the job does not need is passed over.
    let unneeded = record(json!({ "a": "string" }));
    assert!(decoder(&unneeded, &[], &[]).decode(&[2, 0xff], None, &mut Fields::default()).is_ok());
    // A record in itself never ends.
    assert!(error(&record(json!({ "a": "R" })), &[], &[]).starts_with("deeper than 128 levels"));
}

#[test]
fn a_schema_that_is_no_record_is_refused() {
    let of = |schema: Value| Decoder::new(&plain(), &[]).in_avro(&schema.to_string(), &[]).err();
    assert_eq!(of(json!("string")).as_deref(), Some("its type is no record"));
    assert_eq!(of(json!(["null", "string"])).as_deref(), Some("its type is no record"));
    assert_eq!(of(json!(["null", record(json!({}))])), None);
    assert_eq!(of(json!({ "type": "map", "values": "long" })), None);
}

#[test]
fn a_union_of_four_branches_is_passed_through() {
    let branch = json!({ "type": "record", "name": "B", "fields": [{ "name": "x", "type": "long" }] });
    let schema = record(json!({ "a": ["null", "string", "long", branch] }));
    for (message, expected) in [
        (long(0), [json!(null), json!(null)]),
        ([long(1), string("é")].concat(), [json!({ "text": "é" }), json!(null)]),
        ([long(2), long(-5)].concat(), [json!({ "integer": "-5" }), json!(null)]),
        ([long(3), long(7)].concat(), [json!({ "json": { "x": 7 } }), json!({ "integer": "7" })]),
    ] {
        let mut fields = Fields::default();
        assert!(decoder(&schema, &["a", "a.x"], &[]).decode(&message, None, &mut fields).is_ok());
        assert_eq!([shown(fields.get(0)), shown(fields.get(1))], expected);
    }
    let null = json!(["null", record(json!({ "a": "long" }))]);
    let mut fields = Fields::default();
    assert_eq!(decoder(&null, &["a"], &[]).decode(&long(0), None, &mut fields), Ok(Content::Blank));
}

/// What the paths and the id find in a message, and its time; else why it is malformed, `None` if it is blank.
pub(super) type Unpacked = Result<(Vec<Value>, Option<u64>), Option<Malformed>>;

/// Returns what the paths and the id find in each message, and its time.
fn unwrap(schema: &Value, envelopes: &[Envelope], wanted: &[&str], record: &[u8]) -> Vec<Unpacked> {
    let decoder = decoder(schema, wanted, envelopes);
    let mut messages = Vec::new();
    let done: Result<(), ()> = decoder.unwrap(record, None, &mut Fields::default(), &mut |unwrapped, fields| {
        let Unwrapped { element, raw, content, .. } = unwrapped;
        if let Some(element) = element {
            assert_eq!(element.index as usize, messages.len());
            assert_eq!(&record[element.start..][..raw.len()], raw);
        }
        messages.push(match content {
            Ok(Content::Message) => {
                let found = (0..wanted.len()).map(|index| fields.get(index)).chain([fields.id()]);
                Ok((found.map(shown).collect(), fields.time(None).ok()))
            }
            Ok(Content::Blank) => Err(None),
            Err(malformed) => Err(Some(malformed)),
        });
        Ok(())
    });
    assert_eq!(done, Ok(()));
    messages
}

#[test]
fn a_change_of_debezium_in_avro_is_its_row() {
    let row = json!({ "type": "record", "name": "Row", "fields": [{ "name": "id", "type": "long" }, { "name": "note", "type": ["null", "string"] }] });
    let source = json!({ "type": "record", "name": "Source", "fields": [{ "name": "table", "type": "string" }] });
    let schema = json!({ "type": "record", "name": "Envelope", "fields": [
        { "name": "before", "type": ["null", row] },
        { "name": "after", "type": ["null", "Row"] },
        { "name": "source", "type": source },
        { "name": "op", "type": "string" },
        { "name": "ts_ms", "type": ["null", "long"] },
    ] });
    let none = || long(0);
    let row = |id: i64| [long(1), long(id), long(0)].concat();
    let change = |before: Vec<u8>, after: Vec<u8>, op: &str| {
        [before, after, string("orders"), string(op), long(1), long(1_700_000_000_123)].concat()
    };
    let read = |message: Vec<u8>| unwrap(&schema, &[Envelope::Debezium], &["id", "op", "source.table"], &message);
    let found = |id: i64, op: &str| {
        let found =
            [json!({ "integer": id.to_string() }), json!({ "text": op }), json!({ "text": "orders" }), json!(null)];
        vec![Ok((found.to_vec(), Some(1_700_000_000_123)))]
    };
    assert_eq!(read(change(none(), row(1), "c")), found(1, "c"));
    assert_eq!(read(change(row(1), row(2), "u")), found(2, "u"));
    assert_eq!(read(change(row(2), none(), "d")), found(2, "d"));
    assert_eq!(read(change(none(), none(), "d")), [Err(None)]);
    let mut cut = change(none(), row(1), "c");
    cut.pop();
    assert!(matches!(&read(cut)[..], [Err(Some(_))]));
}

#[test]
fn the_elements_of_a_list_in_avro_are_messages() {
    let event = json!({ "type": "record", "name": "Event", "fields": [{ "name": "a", "type": "long" }, { "name": "uuid", "type": "string" }] });
    let schema = record(json!({ "sent": "string", "batch": { "type": "array", "items": ["null", event] } }));
    let element = |a: i64, id: &str| [long(1), long(a), string(id)].concat();
    // Fields are in the order of their names here.
    let message =
        [long(2), element(1, "x"), long(0), long(-1), long(4), element(2, "y"), long(0), string("now")].concat();
    let found = unwrap(&schema, &[Envelope::Batch], &["a", "sent"], &message);
    let one =
        |a: i64, id: &str| Ok((vec![json!({ "integer": a.to_string() }), json!(null), json!({ "text": id })], None));
    let with_sent = |of: Unpacked| {
        of.map(|(mut found, time)| {
            found[1] = json!({ "text": "now" });
            (found, time)
        })
    };
    assert_eq!(found, [with_sent(one(1, "x")), Err(None), with_sent(one(2, "y"))]);
    let list = schema["fields"][0]["type"].clone();
    let bare = [long(1), element(5, "z"), long(0)].concat();
    assert_eq!(unwrap(&list, &[Envelope::Batch], &["a", "sent"], &bare), [one(5, "z")]);
}

#[test]
fn an_integer_in_avro_is_a_time_as_one_in_json_is() {
    let schema = record(json!({ "at": "long", "user": "string" }));
    let mut fields = Fields::default();
    let message = [long(1_700_000_000_123), string("u")].concat();
    assert!(decoder(&schema, &[], &[]).decode(&message, None, &mut fields).is_ok());
    assert_eq!((fields.time(None), fields.key().clone()), (Ok(1_700_000_000_123), text("u")));
}

#[test]
fn a_path_that_the_schema_lacks_is_named_with_one_that_is_near() {
    let inner = json!({ "type": "record", "name": "I", "fields": [{ "name": "revenue", "type": "double" }] });
    let schema = record(
        json!({ "order": ["null", inner], "tags": { "type": "map", "values": "string" }, "rows": { "type": "array", "items": "I" } }),
    );
    let wanted = [
        "order.revenu",
        "order.revenue",
        "ordr.revenue",
        "tags.any",
        "rows.[*].revenue",
        "rows.[0].x",
        "order.revenue.x",
        "zzz",
    ];
    let lacking = decoder(&schema, &wanted, &[]).lacking();
    let near = |near: &str| Some(near.to_owned());
    assert_eq!(lacking, [(0, near("revenue")), (2, near("order")), (5, None), (6, None), (7, None)]);
    assert_eq!(decoder(&schema, &wanted, &[Envelope::Cloudevents]).lacking(), []);
}
