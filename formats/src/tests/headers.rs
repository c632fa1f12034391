//! Claims about paths that lead to headers.

use usher_config::{Encoding, Format, Found, JsonPaths, Kafka, Path, Place, Source, SourceFrom, Start};

use super::{MISSING, UNREADABLE, outcome, path, paths, text};
use crate::{Decoder, Fields};
use usher_core::source::Headers;

/// As a message of Kafka has them: a name may repeat, a value may be missing.
pub(super) struct Listed(pub(super) Vec<(&'static str, Option<&'static [u8]>)>);

impl Headers for Listed {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().rev().find(|(known, _)| *known == name)?.1
    }
}

fn source(from: SourceFrom, format: Format) -> Source {
    Source { place: Place::default(), from, format, encoding: Encoding::Json, unwrap: Vec::new(), start: Start::Window }
}

fn kafka() -> SourceFrom {
    let kafka = Kafka { brokers: "localhost:9092".to_owned(), ..Kafka::default() };
    SourceFrom::Kafka { kafka, topics: vec!["events".to_owned()] }
}

fn file() -> SourceFrom {
    SourceFrom::File { path: "events.jsonl".to_owned(), follow: false }
}

fn all_formats() -> [Format; 6] {
    let json = JsonPaths { kind: None, name: None, key: None, time: None, id: None, properties: None };
    [
        Format::Segment,
        Format::Rudderstack,
        Format::Hightouch,
        Format::SnowplowTsv,
        Format::SnowplowJson,
        Format::Json(json),
    ]
}

/// A message that holds nothing.
fn nothing(format: &Format) -> &'static [u8] {
    if *format == Format::SnowplowTsv { &[b'\t'; 130] } else { b"{}" }
}

#[test]
fn a_header_is_a_string_whatever_the_format() {
    let headers = Listed(vec![
        ("user", Some(b"u-1")),
        ("trace.id", Some(b"0042")),
        ("user", Some(b"u-2")),
        ("photo", Some(b"\xff\xd8")),
        ("null", None),
        ("empty", Some(b"")),
        ("odd[0]", Some("naïve".as_bytes())),
    ]);
    let wanted = paths(&[
        "headers.user",
        "headers.trace.id",
        "headers.photo",
        "headers.null",
        "headers.none",
        "headers.empty",
        "headers.odd.[0]",
        "headers.user",
    ]);
    for format in all_formats() {
        let decoder = Decoder::of(&source(kafka(), format.clone()), &wanted, None).expect("there is no schema");
        let mut fields = Fields::default();
        decoder.decode(nothing(&format), Some(&headers), &mut fields).expect("well-formed");
        let found: Vec<_> = (0..wanted.len()).map(|i| fields.get(i).clone()).collect();
        let (user, nothing) = (text("u-2"), Found::Nothing);
        let expected =
            [user.clone(), text("0042"), Found::NotUtf8, nothing.clone(), nothing, text(""), text("naïve"), user];
        assert_eq!(found, expected, "{format:?}");
        // Of the next message, which has none.
        decoder.decode(super::headers::nothing(&format), None, &mut fields).expect("well-formed");
        assert!((0..wanted.len()).all(|i| *fields.get(i) == Found::Nothing), "{format:?}");
    }
}

#[test]
fn a_name_with_points_may_be_quoted_or_not() {
    let headers = Listed(vec![("trace.id", Some(b"0042"))]);
    for written in ["headers.trace.id", r#"headers."trace.id""#] {
        let path = Path::parse(written).expect("a path");
        let decoder = Decoder::of(&source(kafka(), Format::Segment), &[path], None).expect("there is no schema");
        let mut fields = Fields::default();
        decoder.decode(b"{}", Some(&headers), &mut fields).expect("well-formed");
        assert_eq!(*fields.get(0), text("0042"), "{written}");
    }
}

#[test]
fn where_messages_have_no_headers_it_is_a_path_like_others() {
    let message = br#"{"headers":{"user":"of the message"}}"#;
    let headers = Listed(vec![("user", Some(b"of the transport"))]);
    let wanted = paths(&["headers.user", "headers", "properties.headers.user"]);
    for (from, user) in [(file(), "of the message"), (kafka(), "of the transport")] {
        let decoder = Decoder::of(&source(from, Format::Segment), &wanted, None).expect("there is no schema");
        let mut fields = Fields::default();
        decoder.decode(message, Some(&headers), &mut fields).expect("well-formed");
        assert_eq!(*fields.get(0), text(user));
        // A header is only meant where one is named.
        assert_eq!(*fields.get(1), super::compound(r#"{"user":"of the message"}"#));
        assert_eq!(*fields.get(2), Found::Nothing);
    }
}

#[test]
fn the_formats_own_parts_may_be_headers() {
    let format = Format::Json(JsonPaths {
        kind: Some(path("headers.ce_type")),
        name: Some(path("headers.ce_subject")),
        key: Some(path("headers.user")),
        time: Some(path("headers.ce_time")),
        id: Some(path("headers.ce_id")),
        properties: None,
    });
    let headers = Listed(vec![
        ("ce_type", Some(b"paid")),
        ("ce_subject", Some(b"order")),
        ("user", Some(b"\xff")),
        ("ce_time", Some(b"2026-11-23T10:00:00Z")),
        ("ce_id", Some(b"7")),
    ]);
    let decoder = Decoder::of(&source(kafka(), format), &paths(&["properties.a"]), None).expect("there is no schema");
    let mut fields = Fields::default();
    decoder.decode(br#"{"a":1}"#, Some(&headers), &mut fields).expect("well-formed");
    assert_eq!((fields.kind(), fields.name()), (&text("paid"), &text("order")));
    assert_eq!((fields.key(), fields.id()), (&Found::NotUtf8, &text("7")));
    assert_eq!(outcome(fields.time(None)), Ok(1795428000000));
    assert_eq!(*fields.get(0), Found::Number("1"));
    let broken = Listed(vec![("ce_time", Some(b"\xff"))]);
    decoder.decode(b"{}", Some(&broken), &mut fields).expect("well-formed");
    assert_eq!(outcome(fields.time(Some(5))), Err(UNREADABLE));
}

#[test]
fn the_brokers_time_is_the_last_resort_of_all_formats() {
    let ten = 1795428000000;
    for format in all_formats() {
        let decoder = Decoder::new(&format, &[]);
        let mut fields = Fields::default();
        decoder.decode(nothing(&format), None, &mut fields).expect("well-formed");
        assert_eq!(outcome(fields.time(Some(7))), Ok(7), "{format:?}");
        assert_eq!(outcome(fields.time(None)), Err(MISSING), "{format:?}");
        // What the message says goes before it, also where it makes no sense.
        let (column, said) = match format {
            Format::SnowplowTsv => (Some(3), ""),
            Format::SnowplowJson => (None, "collector_tstamp"),
            Format::Json(_) => continue,
            _ => (None, "receivedAt"),
        };
        for (time, expected) in [("2026-11-23 10:00:00", Ok(ten)), ("soon", Err(UNREADABLE))] {
            let message = match column {
                Some(column) => format!("{}{time}{}", "\t".repeat(column), "\t".repeat(130 - column)),
                None => format!(r#"{{"{said}":"{time}"}}"#),
            };
            let mut fields = Fields::default();
            decoder.decode(message.as_bytes(), None, &mut fields).expect("well-formed");
            assert_eq!(outcome(fields.time(Some(7))), expected, "{message}");
        }
    }
}
