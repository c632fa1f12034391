//! Claims about messages that name their schemas.

use std::collections::HashMap;
use std::sync::Arc;

use usher_config::{
    Encoding, Envelope, Format, Found, Kafka, Path, Place, PlacedSecret, Registry, SchemaKind, Secret, Source,
    SourceFrom, Start,
};
use usher_core::schemas::{HEADER, Reference, Schema, SchemaId, Schemas, SchemasReport};
use usher_core::source::Headers;

use super::{paths, text};
use crate::{Content, Decoder, Fields, Malformed, Unwrapped, What};

#[derive(Clone)]
struct Known(HashMap<SchemaId, Result<Arc<Schema>, Arc<str>>>);

impl Schemas for Known {
    fn find(&self, id: SchemaId) -> Option<Result<Arc<Schema>, Arc<str>>> {
        self.0.get(&id).cloned()
    }

    fn report(&self) -> SchemasReport {
        SchemasReport::default()
    }
}

struct Header(Vec<u8>);

impl Headers for Header {
    fn get(&self, name: &str) -> Option<&[u8]> {
        (name == HEADER).then_some(&self.0)
    }
}

fn schema(kind: SchemaKind, text: &str, references: &[(&str, &str)]) -> Schema {
    let reference = |(name, text): &(&str, &str)| Reference { name: (*name).to_owned(), text: (*text).to_owned() };
    Schema { kind, text: text.to_owned(), references: references.iter().map(reference).collect() }
}

fn source(kind: SchemaKind, unwrap: &[Envelope]) -> Source {
    let url = PlacedSecret { secret: Secret("http://localhost".to_owned()), place: Place::default() };
    Source {
        place: Place::default(),
        from: SourceFrom::Kafka {
            kafka: Kafka { brokers: "localhost:9092".to_owned(), ..Kafka::default() },
            topics: vec!["web".to_owned()],
        },
        format: Format::Segment,
        encoding: Encoding::Registered { kind, registry: Registry { url, username: None, password: None } },
        unwrap: unwrap.to_vec(),
        start: Start::Window,
    }
}

fn decoder(kind: SchemaKind, schemas: &[(u32, Schema)], wanted: &[&str], unwrap: &[Envelope]) -> Decoder {
    let known = schemas.iter().map(|(id, schema)| (SchemaId::Number(*id), Ok(Arc::new(schema.clone()))));
    let mut known: HashMap<_, Result<_, Arc<str>>> = known.collect();
    known.insert(SchemaId::Number(404), Err("it is gone".into()));
    let found = Decoder::of(&source(kind, unwrap), &paths(wanted), Some(Arc::new(Known(known))));
    found.expect("a registry's schemas come later")
}

fn numbered(id: u32, rest: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), rest].concat()
}

const FIRST: &str =
    r#"{"type":"record","name":"E","fields":[{"name":"userId","type":"string"},{"name":"a","type":"long"}]}"#;
const SECOND: &str =
    r#"{"type":"record","name":"E","fields":[{"name":"a","type":"P"},{"name":"userId","type":"string"}]}"#;
const PART: &str = r#"{"type":"record","name":"P","fields":[{"name":"b","type":"long"}]}"#;

#[test]
fn a_message_is_read_by_the_schema_that_it_names() {
    let schemas = [(1, schema(SchemaKind::Avro, FIRST, &[])), (2, schema(SchemaKind::Avro, SECOND, &[("P", PART)]))];
    let decoder = decoder(SchemaKind::Avro, &schemas, &["a", "a.b"], &[]);
    let (first, second) = (numbered(1, b"\x06u-1\x0e"), numbered(2, b"\x10\x06u-2"));
    let header = Header(numbered(2, b""));
    for _ in 0..2 {
        let mut fields = Fields::default();
        assert_eq!(decoder.decode(&first, None, &mut fields), Ok(Content::Message));
        assert_eq!((fields.key(), fields.get(0), fields.get(1)), (&text("u-1"), &Found::Integer(7), &Found::Nothing));
        assert_eq!(decoder.decode(&second, None, &mut fields), Ok(Content::Message));
        assert_eq!((fields.key(), fields.get(1)), (&text("u-2"), &Found::Integer(8)));
        assert_eq!(decoder.decode(b"\x12\x06u-3", Some(&header), &mut fields), Ok(Content::Message));
        assert_eq!((fields.key(), fields.get(1)), (&text("u-3"), &Found::Integer(9)));
    }
}

#[test]
fn what_names_no_schema_or_one_that_is_not_there_is_refused_for_that() {
    let schemas = [
        (1, schema(SchemaKind::Avro, FIRST, &[])),
        (2, schema(SchemaKind::JsonSchema, "{}", &[])),
        (3, schema(SchemaKind::Avro, "nonsense", &[])),
    ];
    let decoder = decoder(SchemaKind::Avro, &schemas, &[], &[]);
    for (message, what, why) in [
        (b"{}".to_vec(), What::NoSchema, ""),
        (vec![0, 0, 0, 1], What::NoSchema, ""),
        (numbered(404, b""), What::UnknownSchema(SchemaId::Number(404)), "it is gone"),
        (numbered(5, b""), What::UnknownSchema(SchemaId::Number(5)), ""),
        (numbered(2, b"{}"), What::OtherSchema(SchemaId::Number(2), SchemaKind::JsonSchema), ""),
        (numbered(3, b""), What::UnknownSchema(SchemaId::Number(3)), "it can't be read: it is not JSON"),
    ] {
        let malformed = decoder.decode(&message, None, &mut Fields::default()).unwrap_err();
        assert_eq!(malformed, Malformed { what, at: 0 });
        if let What::UnknownSchema(id) = what {
            assert!(decoder.why_unknown(id).starts_with(why), "{}", decoder.why_unknown(id));
        }
    }
    // Where it does not fit is the byte of the whole message.
    let unfit = decoder.decode(&numbered(1, b"\x06u"), None, &mut Fields::default()).unwrap_err();
    assert_eq!(unfit.at, 6);
}

#[test]
fn json_behind_an_id_is_read_as_json() {
    let decoder = decoder(SchemaKind::JsonSchema, &[(1, schema(SchemaKind::JsonSchema, "{}", &[]))], &["a"], &[]);
    for (mark, length) in [("", 0), ("\u{feff}", 3)] {
        let of = |json: &str| numbered(1, [mark, json].concat().as_bytes());
        let message = of(r#"{"userId":"u-1","a":7}"#);
        let mut fields = Fields::default();
        assert_eq!(decoder.decode(&message, None, &mut fields), Ok(Content::Message));
        assert_eq!((fields.key(), fields.get(0)), (&text("u-1"), &Found::Number("7")));
        let broken = of(r#"{"userId":}"#);
        let broken = decoder.decode(&broken, None, &mut Fields::default()).unwrap_err();
        assert_eq!(broken.at, 5 + length + 10);
    }
}

const FILE: &str = r#"syntax = "proto3"; import "part.proto";
message Other { string x = 1; message In { string userId = 2; } }
message Event { string userId = 1; Part a = 2; map<string, string> m = 4; message In { string userId = 3; } }"#;

#[test]
fn a_message_of_protobuf_is_the_one_of_its_file_that_it_says() {
    let part = r#"syntax = "proto3"; message Part { int64 b = 1; }"#;
    let schemas = [(1, schema(SchemaKind::Protobuf, FILE, &[("part.proto", part)]))];
    let decoder = decoder(SchemaKind::Protobuf, &schemas, &["a.b", "x"], &[]);
    let user = |number: u8| [&[number << 3 | 2, 3][..], b"u-1"].concat();
    let header = Header(numbered(1, &[2, 2]));
    for (indexes, message, key, found) in [
        (&[2, 2][..], [user(1), vec![0x12, 2, 8, 7]].concat(), "u-1", 0),
        (&[4, 2, 0], user(3), "u-1", 2),
        (&[4, 0, 0], user(2), "u-1", 2),
    ] {
        let message = numbered(1, &[indexes, &message].concat());
        let mut fields = Fields::default();
        assert_eq!(decoder.decode(&message, None, &mut fields), Ok(Content::Message));
        assert_eq!(fields.key(), &text(key));
        if found == 0 {
            assert_eq!(fields.get(0), &Found::Integer(7));
        }
    }
    for indexes in [&[0][..], &[2, 0]] {
        let message = numbered(1, &[indexes, &user(1)].concat());
        let mut fields = Fields::default();
        assert_eq!(decoder.decode(&message, None, &mut fields), Ok(Content::Message));
        assert_eq!((fields.key(), fields.get(1)), (&Found::Nothing, &text("u-1")));
    }
    let message = user(1);
    let mut fields = Fields::default();
    assert_eq!(decoder.decode(&message, Some(&header), &mut fields), Ok(Content::Message));
    assert_eq!(fields.key(), &text("u-1"));
    for indexes in [&[2, 4][..], &[4, 2, 2], &[2], &[1]] {
        let malformed = decoder.decode(&numbered(1, indexes), None, &mut Fields::default()).unwrap_err();
        assert!(matches!(malformed.what, What::Unfit(_)), "{malformed}");
    }
}

#[test]
fn what_is_in_an_envelope_behind_an_id_is_the_message() {
    let avro = format!(
        r#"{{"type":"record","name":"B","fields":[{{"name":"batch","type":{{"type":"array","items":{FIRST}}}}}]}}"#
    );
    let in_avro = decoder(SchemaKind::Avro, &[(1, schema(SchemaKind::Avro, &avro, &[]))], &["a"], &[Envelope::Batch]);
    let json = schema(SchemaKind::JsonSchema, "{}", &[]);
    let in_json = decoder(SchemaKind::JsonSchema, &[(1, json)], &["a"], &[Envelope::Batch]);
    let two = b"\x04\x06u-1\x0e\x06u-2\x10\x00";
    for (decoder, message) in [
        (in_avro, numbered(1, two)),
        (in_json, numbered(1, br#"{"batch":[{"userId":"u-1","a":7},{"userId":"u-2","a":8}]}"#)),
    ] {
        let mut found = Vec::new();
        let mut each = |message: Unwrapped<'_>, fields: &mut Fields<'_>| -> Result<(), ()> {
            assert_eq!(message.content, Ok(Content::Message));
            found.push(format!("{:?}", fields.key()));
            Ok(())
        };
        decoder.unwrap(&message, None, &mut Fields::default(), &mut each).expect("no reader fails");
        assert_eq!(found, [format!("{:?}", text("u-1")), format!("{:?}", text("u-2"))]);
        let mut refused = Vec::new();
        let other = numbered(9, b"x");
        let mut each = |message: Unwrapped<'_>, _: &mut Fields<'_>| -> Result<(), ()> {
            refused.push((message.raw.len(), message.content.map_err(|malformed| malformed.what)));
            Ok(())
        };
        decoder.unwrap(&other, None, &mut Fields::default(), &mut each).expect("no reader fails");
        assert_eq!(refused, [(6, Err(What::UnknownSchema(SchemaId::Number(9))))]);
    }
}

#[test]
fn a_schema_lacks_what_no_message_of_it_can_have() {
    let lacking = |schema: &Schema, wanted: &[&str]| -> Vec<(usize, Option<String>)> {
        let wanted: Vec<Path> = paths(wanted);
        Decoder::lacking_in(&source(schema.kind, &[]), &wanted, schema).unwrap_or_else(|reason| panic!("{reason}"))
    };
    let near = |index: usize, name: &str| (index, Some(name.to_owned()));
    let avro = schema(SchemaKind::Avro, SECOND, &[("P", PART)]);
    assert_eq!(lacking(&avro, &["a.b", "a.c", "userid"])[1..], [near(2, "userId")]);
    let file =
        schema(SchemaKind::Protobuf, FILE, &[("part.proto", r#"syntax = "proto3"; message Part { int64 bee = 1; }"#)]);
    // Some message of the file has it.
    assert_eq!(lacking(&file, &["x", "a.bee", "m.any", "a.bees", "y"])[..1], [near(3, "bee")]);
    assert!(lacking(&file, &["x", "a.bee", "m.any"]).is_empty());
    let document = r##"{"type": "object", "allOf": [{"$ref": "#/$defs/base"}], "oneOf": [{"properties": {"one": {"type": "string"}}}, {"$ref": "other"}],
        "properties": {"list": {"type": "array", "items": {"properties": {"sku": {}}}}, "open": {"type": "object", "additionalProperties": {"type": "string"}},
            "any": {}, "far": {"$ref": "https://example.com/nowhere"}, "self": {"$ref": "#"}},
        "$defs": {"base": {"properties": {"userId": {"type": "string"}}}}}"##;
    let document = schema(
        SchemaKind::JsonSchema,
        document,
        &[("other", r#"{"properties": {"two": {"type": ["null", "integer"]}}}"#)],
    );
    let there = [
        "one",
        "two",
        "userId",
        "list.[0].sku",
        "list.[*].sku",
        "open.x",
        "any.x.y",
        "far.x.y",
        "self.self.self.one",
        "self.open.z",
    ];
    assert!(lacking(&document, &there).is_empty(), "{:?}", lacking(&document, &there));
    let not_there = ["uno", "userid", "one.x", "list.[0].skuu", "self.lists", "list.sku"];
    let found = lacking(&document, &not_there);
    assert_eq!(found.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5], "{found:?}");
    assert_eq!((&found[1], &found[3], &found[4]), (&near(1, "userId"), &near(3, "sku"), &near(4, "list")));
    let broken = schema(SchemaKind::JsonSchema, "{", &[]);
    assert!(Decoder::lacking_in(&source(SchemaKind::JsonSchema, &[]), &[], &broken).is_err());
}
