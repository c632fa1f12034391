//! Claims about Protobuf: what a library wrote is found, and any other bytes are malformed or read, without a panic.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use usher_config::{Envelope, Found};

use super::avro::{Unpacked, assert_same, bytes, case_paths, plain, shown};
use super::whole::assert_whole;
use super::{paths, seeded};
use crate::{Content, Decoder, Fields, Unwrapped};

/// What Google's library wrote, and what is found of it: see `make.py` beside it.
const CASES: &str = include_str!("../../testdata/protobuf/cases.jsonl");
const SHOP: &str = include_str!("../../testdata/protobuf/shop.proto");
const PARTS: &str = include_str!("../../testdata/protobuf/parts.proto");

fn decoder(file: &str, message: &str, wanted: &[&str], envelopes: &[Envelope]) -> Decoder {
    let files = BTreeMap::from([("parts.proto".to_owned(), PARTS.to_owned())]);
    let decoder = Decoder::new(&plain(), &paths(wanted)).in_envelopes(envelopes);
    decoder.in_protobuf(file, &files, message).unwrap_or_else(|reason| panic!("{reason}"))
}

#[test]
fn what_the_library_wrote_is_found() {
    let mut kinds = BTreeMap::<String, u32>::new();
    for line in CASES.lines() {
        let case: Value = serde_json::from_str(line).expect("a case is JSON");
        let wanted = case_paths(&case);
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let decoder = decoder(SHOP, "Event", &wanted, &[]);
        let message = bytes(case["bytes"].as_str().expect("bytes"));
        let mut fields = Fields::default();
        assert_eq!(decoder.decode(&message, None, &mut fields), Ok(Content::Message), "{line}");
        assert_whole(&decoder, &message, &wanted, line);
        for (index, expected) in case["found"].as_array().expect("what is found").iter().enumerate() {
            assert_same(&shown(fields.get(index)), expected, &format!("{} of {line}", wanted[index]));
            let kind = expected.as_object().map_or("null", |of| of.keys().next().expect("a kind"));
            *kinds.entry(kind.to_owned()).or_default() += 1;
        }
    }
    for kind in ["null", "boolean", "integer", "double", "decimal", "text", "timestamp", "json"] {
        assert!(kinds[kind] >= 20, "{kinds:?}");
    }
}

#[test]
fn any_bytes_are_read_or_malformed() {
    let mut rng = seeded(9);
    let cases: Vec<Vec<u8>> = CASES
        .lines()
        .map(|line| {
            let case: Value = serde_json::from_str(line).expect("a case is JSON");
            bytes(case["bytes"].as_str().expect("bytes"))
        })
        .collect();
    let wanted =
        ["items.[*].sku", "inner.inner.counts.a", "properties.a", "any", "numbers.[1]", "list", "at", "thing.sku"];
    let decoder = decoder(SHOP, "shop.v1.Event", &wanted, &[]);
    let (mut read, mut malformed) = (0, 0);
    for _ in 0..20_000 {
        let mut message = cases[rng.usize(..cases.len())].clone();
        for _ in 0..rng.usize(1..4) {
            if message.is_empty() {
                message.push(rng.u8(..));
            } else {
                let at = rng.usize(..message.len());
                message[at] = rng.u8(..);
            }
        }
        message.truncate(rng.usize(..=message.len() * 2).min(message.len()));
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

#[test]
fn bytes_that_do_not_fit_the_wire_are_malformed() {
    let file = r#"syntax = "proto3"; message M { string a = 1; M m = 2; repeated int32 l = 3; }"#;
    let error = |message: &[u8]| {
        let decoded = decoder(file, "M", &["a", "m.a", "l"], &[]).decode(message, None, &mut Fields::default());
        decoded.expect_err("it is malformed").to_string().replace("does not fit its schema: ", "")
    };
    for (message, expected) in [
        (&[0x0a][..], "a number that does not end at byte 1"),
        (&[0x0a, 5, b'x'], "it ends early at byte 2"),
        (&[0x0a, 1, 0xff], "a text that is not UTF-8 at byte 2"),
        (&[0x00, 1], "a field without a number at byte 0"),
        (&[0x0f], "a field of no type of the wire at byte 0"),
        (&[0x12, 2, 0x0a, 9], "it ends early at byte 4"),
        (&[0x1a, 1, 0x80], "a number that does not end at byte 2"),
        (&[0x2b, 0x08, 1], "a number that does not end at byte 3"),
        (&[0xff; 12], "a number that does not end at byte 0"),
    ] {
        assert_eq!(error(message), expected, "{message:?}");
    }
    let deep = |levels: usize| {
        (0..levels).fold(Vec::new(), |inner: Vec<u8>, _| {
            let mut message = vec![0x12];
            let mut length = inner.len();
            while length >= 0x80 {
                message.push(length as u8 | 0x80);
                length >>= 7;
            }
            message.push(length as u8);
            message.extend(inner);
            message
        })
    };
    let nested = decoder(file, "M", &[&vec!["m"; 200].join(".")], &[]);
    let error = nested.decode(&deep(150), None, &mut Fields::default()).expect_err("it is too deep");
    assert!(error.to_string().starts_with("deeper than 128 levels"), "{error}");
    assert!(nested.decode(&deep(100), None, &mut Fields::default()).is_ok());
}

#[test]
fn a_field_of_another_type_of_the_wire_is_another_field() {
    let file = r#"syntax = "proto3"; message M { string a = 1; int32 n = 2; repeated int32 l = 3; }"#;
    let mut fields = Fields::default();
    // A varint for the text, a text for the integer, eight bytes for the list.
    let message = [&[0x08, 7, 0x12, 1, b'x', 0x19][..], &[0; 8], &[0x1a, 2, 5, 6, 0x18, 7]].concat();
    assert!(decoder(file, "M", &["a", "n", "l"], &[]).decode(&message, None, &mut fields).is_ok());
    let found = [0, 1, 2].map(|index| shown(fields.get(index)));
    assert_eq!(found, [json!({ "text": "" }), json!({ "integer": "0" }), json!({ "json": [5, 6, 7] })]);
}

#[test]
fn fields_go_by_their_names_in_json_too() {
    let file = r#"syntax = "proto3"; message M { string user_id = 1; string x = 2 [json_name = "messageId"]; }"#;
    let mut fields = Fields::default();
    let message = [0x0a, 1, b'u', 0x12, 1, b'i'];
    assert!(decoder(file, "M", &["userId", "user_id", "messageId"], &[]).decode(&message, None, &mut fields).is_ok());
    // The name itself comes first.
    let found = [0, 1, 2].map(|index| fields.get(index).clone());
    assert_eq!(found, [Found::Nothing, Found::Text("u".into()), Found::Text("i".into())]);
}

#[test]
fn a_message_that_the_file_lacks_is_refused_with_the_one_that_is_near() {
    let of = |message: &str| Decoder::new(&plain(), &[]).in_protobuf(PARTS, &BTreeMap::new(), message).err();
    assert_eq!(of("parts.Itme").as_deref(), Some("it has no message `parts.Itme`; did you mean `parts.Item`?"));
    assert_eq!((of("Item"), of("parts.Item")), (None, None));
}

/// Returns what the paths and the id find in each message, and its time.
fn unwrap(file: &str, envelope: Envelope, wanted: &[&str], record: &[u8]) -> Vec<Unpacked> {
    let decoder = decoder(file, "M", wanted, &[envelope]);
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
fn what_is_in_an_envelope_in_protobuf_is_the_message() {
    let batch = r#"syntax = "proto3"; message M { string sent = 1; repeated E batch = 2; } message E { int32 a = 1; string uuid = 3; }"#;
    let record = [0x12, 5, 0x08, 1, 0x1a, 1, b'x', 0x0a, 3, b'n', b'o', b'w', 0x12, 0];
    let found = unwrap(batch, Envelope::Batch, &["a", "sent"], &record);
    let one = |a: i64, id: &str| {
        Ok((vec![json!({ "integer": a.to_string() }), json!({ "text": "now" }), json!({ "text": id })], None))
    };
    assert_eq!(found, [one(1, "x"), one(0, "")]);
    let change = r#"syntax = "proto3"; message M { Row before = 1; Row after = 2; string op = 3; int64 ts_ms = 4; } message Row { int32 id = 1; }"#;
    let record = |op: u8| vec![0x0a, 2, 0x08, 1, 0x12, 2, 0x08, 2, 0x1a, 1, op, 0x20, 0xe8, 0x07];
    let found = |id: i64, op: &str| {
        let found = vec![json!({ "integer": id.to_string() }), json!({ "text": op }), json!(null)];
        vec![Ok((found, Some(1_000_000)))]
    };
    assert_eq!(unwrap(change, Envelope::Debezium, &["id", "op"], &record(b'u')), found(2, "u"));
    assert_eq!(unwrap(change, Envelope::Debezium, &["id", "op"], &record(b'd')), found(1, "d"));
    let blank = [0x1a, 1, b'd'];
    assert_eq!(unwrap(change, Envelope::Debezium, &["id", "op"], &blank), [Err(None)]);
    let other = r#"syntax = "proto3"; message M { int32 x = 1; }"#;
    for envelope in [Envelope::Batch, Envelope::Debezium, Envelope::Connect, Envelope::Cloudevents] {
        assert!(matches!(&unwrap(other, envelope, &[], &[])[..], [Err(Some(_))]), "{envelope:?}");
    }
}

#[test]
fn a_path_that_the_schema_lacks_is_named_with_one_that_is_near() {
    let wanted = [
        "inner.strng",
        "thing.sku",
        "thing.count.x",
        "properties.any.thing",
        "items.[*].tags",
        "by_number.5.skuu",
        "userr",
    ];
    let lacking = decoder(SHOP, "Event", &wanted, &[]).lacking();
    let near = |near: &str| Some(near.to_owned());
    assert_eq!(lacking, [(0, near("string")), (2, None), (5, near("sku")), (6, near("user"))]);
}
