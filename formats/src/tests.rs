//! Claims about the reader, on messages of our own.

use std::borrow::Cow;

use usher_config::{Format, Found, JsonPaths, Path, Step};

use super::scan::Marks;
use super::{Content, DEPTH_MAX, Decoder, Fields, NamedTime, Needed, TimeError, What};

mod avro;
mod envelope;
mod fuzz;
mod headers;
mod protobuf;
mod reference;
mod registered;
mod sdk;
mod shapes;
mod snowplow;
mod whole;

#[expect(clippy::print_stdout, reason = "the test runner shows it where the test fails")]
fn seeded(seed: u64) -> fastrand::Rng {
    println!("seed {seed}");
    fastrand::Rng::with_seed(seed)
}

/// A path written with dots; `[0]` and `[*]` are steps of their own.
fn path(text: &str) -> Path {
    let step = |step: &str| match step.strip_prefix('[').and_then(|step| step.strip_suffix(']')) {
        Some("*") => Step::All,
        Some(index) => Step::Index(index.parse().expect("an index")),
        None => Step::Key(step.to_owned()),
    };
    Path(text.split('.').map(step).collect())
}

fn paths(texts: &[&str]) -> Vec<Path> {
    texts.iter().map(|text| path(text)).collect()
}

fn text(text: &str) -> Found<'_> {
    Found::Text(Cow::Borrowed(text))
}

fn compound(text: &str) -> Found<'_> {
    Found::Compound(Cow::Borrowed(text))
}

fn decode<'a>(wanted: &[&str], message: &'a str) -> Fields<'a> {
    decode_as(&Format::Segment, wanted, message)
}

fn decode_as<'a>(format: &Format, wanted: &[&str], message: &'a str) -> Fields<'a> {
    let mut fields = Fields::default();
    let verdict = Decoder::new(format, &paths(wanted)).decode(message.as_bytes(), None, &mut fields);
    assert_eq!(verdict, Ok(Content::Message), "{message}");
    fields
}

/// What one path finds.
fn get(wanted: &str, message: &str) -> Found<'static> {
    match decode(&[wanted], message).get(0) {
        Found::Nothing => Found::Nothing,
        Found::NotUtf8 => Found::NotUtf8,
        Found::NotFinite => Found::NotFinite,
        Found::Mended(found) => Found::Mended(found.clone()),
        Found::Boolean(found) => Found::Boolean(*found),
        Found::Number(found) => Found::Number(found.to_string().leak()),
        Found::Text(found) => Found::Text(found.clone().into_owned().into()),
        Found::Compound(found) => Found::Compound(found.clone().into_owned().into()),
        typed => panic!("JSON has no {typed:?}"),
    }
}

/// What is wrong with a message, for a job that wants `properties.a`; empty: nothing.
fn wrong(message: impl AsRef<[u8]>) -> String {
    wrong_as(&Format::Segment, &["properties.a"], message.as_ref())
}

/// What is wrong with a message, or with a value that is wanted of it.
fn wrong_as(format: &Format, wanted: &[&str], message: &[u8]) -> String {
    let mut fields = Fields::default();
    let verdict = Decoder::new(format, &paths(wanted)).decode(message, None, &mut fields);
    let malformed = verdict.err().or_else(|| fields.broken(all_needed(wanted.len())));
    malformed.map_or(String::new(), |malformed| malformed.to_string())
}

/// All values of a message that are wanted, with so many paths.
fn all_needed(paths: usize) -> impl Iterator<Item = Needed> {
    let own = [Needed::Kind, Needed::Name, Needed::Key, Needed::Id, Needed::Time];
    own.into_iter().chain((0..paths).map(Needed::Path))
}

const MISSING: &str = "missing";
const UNREADABLE: &str = "unreadable";

/// A time, or what kind of error it is.
fn outcome(time: Result<u64, TimeError<'_>>) -> Result<u64, &'static str> {
    time.map_err(|error| if error == TimeError::Missing { MISSING } else { UNREADABLE })
}

fn read_time(found: &Found<'_>) -> Result<u64, &'static str> {
    outcome(NamedTime { path: "at", found }.read())
}

const TRACK: &str = r#"{"anonymousId":"5f1c","context":{"library":{"name":"analytics.js","version":"2.11.1"},"ip":"108.0.78.21"},
 "event":"Course Clicked","integrations":{},"messageId":"ajs-f8ca","properties":{"title":"Intro to Analytics"},
 "receivedAt":"2015-12-12T19:11:01.266Z","sentAt":"2015-12-12T19:11:01.169Z","timestamp":"2015-12-12T19:11:01.249Z",
 "type":"track","userId":"AiUG","originalTimestamp":"2015-12-12T19:11:01.152Z"}"#;

#[test]
fn a_track_gives_kind_name_key_id_and_what_the_job_wants() {
    for format in [Format::Segment, Format::Rudderstack, Format::Hightouch] {
        let fields = decode_as(&format, &["properties.title", "context.library.version", "context.ip.x"], TRACK);
        assert_eq!(*fields.kind(), text("track"));
        assert_eq!(*fields.name(), text("Course Clicked"));
        assert_eq!(*fields.key(), text("AiUG"));
        assert_eq!(*fields.id(), text("ajs-f8ca"));
        assert_eq!(*fields.get(0), text("Intro to Analytics"));
        assert_eq!(*fields.get(1), text("2.11.1"));
        assert_eq!(*fields.get(2), Found::Nothing);
    }
}

#[test]
fn the_name_of_pages_and_screens_is_name_and_of_all_else_event() {
    for (kind, name) in [("page", "n"), ("screen", "n"), ("track", "e"), ("group", "e"), ("alias", "e"), ("merge", "e")]
    {
        let message = format!(r#"{{"name":"n","event":"e","type":"{kind}"}}"#);
        assert_eq!(*decode(&[], &message).name(), text(name), "{kind}");
    }
    assert_eq!(*decode(&[], r#"{"event":"e"}"#).name(), text("e"));
    assert_eq!(*decode(&[], r#"{"type":"page","event":"e"}"#).name(), Found::Nothing);
}

#[test]
fn properties_of_identify_and_group_are_also_their_traits() {
    for (kind, found) in [("identify", text("pro")), ("group", text("pro")), ("track", Found::Nothing)] {
        let message = format!(r#"{{"traits":{{"plan":"pro"}},"type":"{kind}"}}"#);
        assert_eq!(*decode(&["properties.plan"], &message).get(0), found, "{kind}");
        assert_eq!(*decode(&["traits.plan"], &message).get(0), text("pro"), "{kind}");
        let message = format!(r#"{{"traits":{{"plan":"pro"}},"properties":{{"plan":"basic"}},"type":"{kind}"}}"#);
        assert_eq!(*decode(&["properties.plan"], &message).get(0), text("basic"), "{kind}");
    }
    assert_eq!(*decode(&["properties.plan"], r#"{"type":"group","traits":null}"#).get(0), Found::Nothing);
}

#[test]
fn a_null_in_the_own_properties_goes_before_the_traits() {
    for (members, found) in [
        (r#""properties":{"plan":null},"traits":{"plan":"pro"}"#, Found::Nothing),
        (r#""traits":{"plan":"pro"},"properties":{"other":1}"#, text("pro")),
        (r#""properties":null,"traits":{"plan":"pro"}"#, text("pro")),
        (r#""properties":3,"traits":{"plan":"pro"}"#, text("pro")),
        (r#""properties":{"plan":"basic","plan":null},"traits":{"plan":"pro"}"#, Found::Nothing),
        (r#""properties":{"plan":null},"properties":{},"traits":{"plan":"pro"}"#, text("pro")),
    ] {
        let message = format!(r#"{{"type":"identify",{members}}}"#);
        for format in [Format::Segment, Format::Rudderstack, Format::Hightouch] {
            assert_eq!(*decode_as(&format, &["properties.plan"], &message).get(0), found, "{message}");
        }
    }
    let list = r#"{"type":"group","properties":{"tags":null},"traits":{"tags":[1]}}"#;
    assert_eq!(*decode(&["properties.tags.[*]"], list).get(0), Found::Nothing);
    let list = r#"{"type":"group","properties":{},"traits":{"tags":[1]}}"#;
    assert_eq!(*decode(&["properties.tags.[*]"], list).get(0), compound("[1]"));
}

#[test]
fn rudderstacks_traits_are_also_in_the_context() {
    for (members, found) in [
        (r#""context":{"traits":{"plan":"pro"}}"#, text("pro")),
        (r#""context":{"traits":{"plan":"old"}},"traits":{"plan":"pro"}"#, text("pro")),
        (r#""context":{"traits":{"plan":"pro"}},"traits":{"email":"a@example.com"}"#, text("pro")),
        (r#""context":{"traits":{"plan":"old"}},"traits":{"plan":null}"#, Found::Nothing),
        (r#""context":{"traits":{"plan":"old"}},"properties":{"plan":"pro"}"#, text("pro")),
        (r#""context":{"traits":null},"traits":{}"#, Found::Nothing),
    ] {
        for kind in ["identify", "group"] {
            let message = format!(r#"{{{members},"type":"{kind}"}}"#);
            assert_eq!(*decode_as(&Format::Rudderstack, &["properties.plan"], &message).get(0), found, "{message}");
        }
        let track = format!(r#"{{{members},"type":"track","properties":{{"plan":7}}}}"#);
        assert_eq!(*decode_as(&Format::Rudderstack, &["properties.plan"], &track).get(0), Found::Number("7"));
    }
    let context = r#"{"type":"identify","context":{"traits":{"plan":"pro"}}}"#;
    for format in [Format::Segment, Format::Hightouch] {
        assert_eq!(*decode_as(&format, &["properties.plan"], context).get(0), Found::Nothing, "{format:?}");
    }
}

#[test]
fn what_sdks_write_though_json_does_not_have_it_is_read() {
    for (value, found) in [
        ("NaN", Found::NotFinite),
        ("Infinity", Found::NotFinite),
        ("-Infinity", Found::NotFinite),
        (r#""NaN""#, text("NaN")),
        (r#""\ud83d""#, Found::Mended("\u{fffd}".to_owned())),
        (r#""a\ude00b\ud83d\ude00""#, Found::Mended("a\u{fffd}b😀".to_owned())),
        (r#"[1, NaN, "\ud800"]"#, compound("[1, {}, \"\u{fffd}\"]")),
        (r#"{"a":-Infinity,"\udfff":[]}"#, compound("{\"a\":{},\"\u{fffd}\":[]}")),
    ] {
        let message = format!(r#"{{"properties":{{"a":{value}}},"userId":{value},"context":[{value}]}}"#);
        assert_eq!(get("properties.a", &message), found, "{message}");
        assert_eq!(*decode(&[], &message).key(), found, "{message}");
    }
    assert_eq!(get("properties.l.[*].a", r#"{"properties":{"l":[{"a":NaN},{"a":2}]}}"#), compound("[{},2]"));
    assert_eq!(get("properties.\u{fffd}", r#"{"properties":{"\ud800":1}}"#), Found::Number("1"));
    for value in ["nan", "-NaN", "+Infinity", "inf", "Infinit", "NaN1", "undefined"] {
        assert_eq!(wrong(format!(r#"{{"properties":{{"a":{value}}}}}"#)), "broken number or literal at byte 19");
    }
}

#[test]
fn an_unreadable_time_is_named_with_its_path_and_text() {
    let error = |members: &str| {
        let message = format!("{{{members}}}");
        decode(&[], &message).time(None).expect_err(members).to_string()
    };
    assert_eq!(error(""), "no timestamp");
    assert_eq!(error(r#""timestamp":"soon""#), "`timestamp` = \"soon\" is neither RFC 3339 nor Unix time");
    assert_eq!(error(r#""timestamp":-5"#), "`timestamp` = -5 is before 1970");
    assert_eq!(error(r#""timestamp":"1969-12-31T23:59:59Z""#), "`timestamp` = \"1969-12-31T23:59:59Z\" is before 1970");
    assert_eq!(error(r#""receivedAt":{"a":1}"#), "`receivedAt` = {\"a\":1} is neither RFC 3339 nor Unix time");
    assert_eq!(error(r#""timestamp":NaN"#), "`timestamp` = not a finite number is neither RFC 3339 nor Unix time");
    assert_eq!(error(r#""originalTimestamp":true"#), "`originalTimestamp` = true is neither RFC 3339 nor Unix time");
    let device = r#""receivedAt":"2026-11-23T10:00:00Z","sentAt":"9999-12-31T00:00:00Z","originalTimestamp":"2026-11-23T10:00:00Z""#;
    assert_eq!(
        error(device),
        "`receivedAt` = \"2026-11-23T10:00:00Z\" minus the difference of `sentAt` = \"9999-12-31T00:00:00Z\" and \
         `originalTimestamp` = \"2026-11-23T10:00:00Z\" is no time from 1970 on"
    );
    let long = "é".repeat(500);
    let shown = error(&format!(r#""timestamp":"{long}""#));
    assert_eq!(shown, format!("`timestamp` = \"{}…\" is neither RFC 3339 nor Unix time", "é".repeat(100)));
    let format = Format::Json(JsonPaths {
        kind: None,
        name: None,
        key: None,
        time: Some(path("meta.ts")),
        id: None,
        properties: None,
    });
    let fields = decode_as(&format, &[], r#"{"meta":{"ts":"10013-12-10 01:09:46.708"}}"#);
    assert_eq!(
        fields.time(None).expect_err("five digits").to_string(),
        "`meta.ts` = \"10013-12-10 01:09:46.708\" is neither RFC 3339 nor Unix time"
    );
}

#[test]
fn traits_are_only_needed_where_they_are_the_properties() {
    for (message, at) in [
        (r#"{"traits":{"plan":01},"type":"track"}"#, None),
        (r#"{"traits":{"plan":01},"type":"identify"}"#, Some(18)),
        (r#"{"traits":{"plan":01},"type":"identify","properties":{"plan":1}}"#, None),
        (r#"{"traits":{"plan":1},"type":"identify","properties":{"plan":01}}"#, Some(60)),
    ] {
        let broken = decode(&["properties.plan"], message).broken([Needed::Path(0)]);
        assert_eq!(broken.map(|broken| (broken.what, broken.at)), at.map(|at| (What::BrokenNumber, at)), "{message}");
    }
}

#[test]
fn a_broken_value_spoils_no_other() {
    for (members, broken) in [
        (r#""type":01"#, vec![Needed::Kind]),
        (r#""type":"page","name":"\x""#, vec![Needed::Name]),
        (r#""type":"track","name":"\x""#, vec![]),
        (r#""userId":01"#, vec![Needed::Key]),
        (r#""messageId":"\x""#, vec![Needed::Id]),
        (r#""sentAt":01"#, vec![Needed::Time]),
        (r#""properties":{"a":1-2}"#, vec![Needed::Path(0), Needed::Path(2)]),
        (r#""properties":{"b":{"c":"\x"}}"#, vec![Needed::Path(1), Needed::Path(2)]),
        (r#""properties":{"c":"\x"}"#, vec![Needed::Path(2)]),
        (r#""properties":{"a":1-2},"properties":{}"#, vec![]),
        (r#""list":[{"a":1},{"a":1-2}]"#, vec![Needed::Path(3)]),
    ] {
        let message = format!("{{{members}}}");
        let fields = decode(&["properties.a", "properties.b", "properties", "list.[*].a"], &message);
        let found: Vec<_> = all_needed(4).filter(|value| fields.broken([*value]).is_some()).collect();
        assert_eq!(found, broken, "{message}");
    }
}

#[test]
fn of_broken_values_the_first_is_named_with_its_place_in_the_record() {
    for (message, at) in [
        (r#"{"userId":01,"messageId":"\x"}"#, 10),
        (r#"{"messageId":"\x","userId":01}"#, 13),
        ("\u{feff}{\"userId\":01}", 13),
    ] {
        assert_eq!(decode(&[], message).broken(all_needed(0)).map(|broken| broken.at), Some(at), "{message}");
    }
}

#[test]
fn free_json_has_its_parts_where_the_job_says() {
    let format = Format::Json(JsonPaths {
        kind: Some(path("kind")),
        name: Some(path("what.[1]")),
        key: Some(path("user.id")),
        time: Some(path("ts")),
        id: Some(path("uuid")),
        properties: Some(path("data.props")),
    });
    let message =
        r#"{"kind":"k","what":["x","y"],"user":{"id":7},"ts":1763892000000,"uuid":9,"data":{"props":{"a":1}},"a":2}"#;
    let fields = decode_as(&format, &["properties.a", "a", "data.props.a", "properties"], message);
    assert_eq!(*fields.kind(), text("k"));
    assert_eq!(*fields.name(), text("y"));
    assert_eq!(*fields.key(), Found::Number("7"));
    assert_eq!(*fields.id(), Found::Number("9"));
    assert_eq!(outcome(fields.time(Some(1))), Ok(1763892000000));
    assert_eq!(*fields.get(0), Found::Number("1"));
    assert_eq!(*fields.get(1), Found::Number("2"));
    assert_eq!(*fields.get(2), Found::Number("1"));
    assert_eq!(*fields.get(3), compound(r#"{"a":1}"#));
}

#[test]
fn free_json_without_paths_has_itself_as_properties_and_the_brokers_time() {
    let format = Format::Json(JsonPaths { kind: None, name: None, key: None, time: None, id: None, properties: None });
    let fields = decode_as(&format, &["properties.a", "properties"], r#" {"a":1} "#);
    assert_eq!([fields.kind(), fields.name(), fields.key(), fields.id()], [&Found::Nothing; 4]);
    assert_eq!(*fields.get(0), Found::Number("1"));
    assert_eq!(*fields.get(1), compound(r#"{"a":1}"#));
    assert_eq!(outcome(fields.time(Some(5))), Ok(5));
    assert_eq!(outcome(fields.time(None)), Err(MISSING));
}

#[test]
fn what_is_found_has_its_json_type() {
    for (value, found) in [
        ("null", Found::Nothing),
        ("true", Found::Boolean(true)),
        ("false", Found::Boolean(false)),
        (r#""""#, text("")),
        (r#""true""#, text("true")),
        ("3.0", Found::Number("3.0")),
        ("-0", Found::Number("-0")),
        ("1E400", Found::Number("1E400")),
        ("123456789012345678901234567890", Found::Number("123456789012345678901234567890")),
        (r#"{ "b" : [1] }"#, compound(r#"{ "b" : [1] }"#)),
        ("[]", compound("[]")),
        (r#""\u00e9\ud83d\ude00\/\n""#, text("é😀/\n")),
        (r#""naïve 日本""#, text("naïve 日本")),
    ] {
        assert_eq!(get("properties.a", &format!(r#"{{"properties":{{"a":{value}}}}}"#)), found);
        assert_eq!(get("properties.a", &format!("{{\n \"properties\" : {{ \"a\"\t:\r\n{value} }} }}\n")), found);
    }
}

#[test]
fn names_match_exactly_whatever_their_escapes_spaces_and_length() {
    assert_eq!(get("properties.total billed", r#"{"properties":{"total billed":830}}"#), Found::Number("830"));
    assert_eq!(get("properties.total billed", r#"{"properties":{"total\u0020billed":830}}"#), Found::Number("830"));
    assert_eq!(get("properties.total billed", r#"{"properties":{"total  billed":830}}"#), Found::Nothing);
    assert_eq!(get("properties.A", r#"{"properties":{"a":1}}"#), Found::Nothing);
    assert_eq!(get("properties.a", r#"{"properties":{"a\u0000":1}}"#), Found::Nothing);
    let long = "n".repeat(100);
    let message = format!(r#"{{"properties":{{"{long}n":1,"{long}":2}}}}"#);
    assert_eq!(get(&format!("properties.{long}"), &message), Found::Number("2"));
    let dotted = Path(vec![Step::Key("a.b".to_owned())]);
    let mut fields = Fields::default();
    Decoder::new(&Format::Segment, &[dotted]).decode(br#"{"a.b":1}"#, None, &mut fields).expect("well-formed");
    assert_eq!(*fields.get(0), Found::Number("1"));
}

#[test]
fn a_thousand_wanted_names_are_all_found() {
    let names: Vec<_> = (0..1000).map(|i| format!("properties.p{i}")).collect();
    let wanted: Vec<_> = names.iter().map(String::as_str).collect();
    let members: Vec<_> = (0..1000).rev().map(|i| format!(r#""p{i}":{i}"#)).collect();
    let message = format!(r#"{{"properties":{{{}}}}}"#, members.join(","));
    let fields = decode(&wanted, &message);
    for i in 0..1000 {
        assert_eq!(*fields.get(i), Found::Number(&i.to_string()));
    }
}

#[test]
fn lists_are_entered_by_index_and_by_star() {
    let message = r#"{"properties":{"l":[{"a":1},{"a":"x","b":[1,2]},null,{"b":[3,null]},7,{"a":null}]}}"#;
    assert_eq!(get("properties.l.[1].a", message), text("x"));
    assert_eq!(get("properties.l.[2]", message), Found::Nothing);
    assert_eq!(get("properties.l.[9]", message), Found::Nothing);
    assert_eq!(get("properties.l.[*].a", message), compound(r#"[1,"x"]"#));
    assert_eq!(get("properties.l.[*].b.[*]", message), compound("[1,2,3]"));
    assert_eq!(get("properties.l.[*].b.[0]", message), compound("[1,3]"));
    assert_eq!(get("properties.l.[*].c", message), compound("[]"));
    assert_eq!(get("properties.[*]", message), Found::Nothing);
    assert_eq!(get("properties.l.[0].a.[*]", message), Found::Nothing);
    let fields =
        decode(&["properties.l.[*].a", "properties.l", "properties.l.[0].a"], r#"{"properties":{"l":[{"a":1}]}}"#);
    assert_eq!(*fields.get(0), compound("[1]"));
    assert_eq!(*fields.get(1), compound(r#"[{"a":1}]"#));
    assert_eq!(*fields.get(2), Found::Number("1"));
}

#[test]
fn of_a_repeated_key_the_last_counts() {
    assert_eq!(get("properties.a", r#"{"properties":{"a":1,"a":"x"}}"#), text("x"));
    assert_eq!(get("properties.a", r#"{"properties":{"a":1,"\u0061":null}}"#), Found::Nothing);
    assert_eq!(get("properties.a", r#"{"properties":{"a":1},"properties":{"b":2}}"#), Found::Nothing);
    assert_eq!(get("properties.a", r#"{"properties":{"a":1},"properties":3}"#), Found::Nothing);
    assert_eq!(get("properties.a", r#"{"properties":{"a":01,"a":2}}"#), Found::Number("2"));
    assert_eq!(get("properties.l.[*]", r#"{"properties":{"l":[1],"l":2}}"#), Found::Nothing);
    let message = r#"{"userId":"a","type":"x","userId":"b"}"#;
    assert_eq!(*decode(&[], message).key(), text("b"));
}

#[test]
fn properties_that_are_no_object_hold_nothing() {
    for properties in ["null", "[]", "[{\"a\":1}]", "3", "\"a\"", "true"] {
        assert_eq!(get("properties.a", &format!(r#"{{"properties":{properties}}}"#)), Found::Nothing);
    }
}

#[test]
fn a_decoder_may_go_to_another_thread() {
    let decoder = Decoder::new(&Format::Segment, &[]);
    let read = move || decoder.decode(b"{}", None, &mut Fields::default());
    assert_eq!(std::thread::spawn(read).join().expect("no panic"), Ok(Content::Message));
}

#[test]
fn fields_hold_nothing_of_the_message_before() {
    let decoder = Decoder::new(&Format::Segment, &paths(&["properties.a"]));
    let mut fields = Fields::default();
    assert_eq!(*fields.get(0), Found::Nothing);
    assert_eq!(outcome(fields.time(None)), Err(MISSING));
    decoder.decode(br#"{"userId":"u","properties":{"a":1}}"#, None, &mut fields).expect("well-formed");
    decoder.decode(br#"{"type":"track"}"#, None, &mut fields).expect("well-formed");
    assert_eq!((fields.key(), fields.get(0)), (&Found::Nothing, &Found::Nothing));
    let other = Decoder::new(&Format::Segment, &paths(&["b", "c"]));
    other.decode(br#"{"c":1}"#, None, &mut fields).expect("well-formed");
    assert_eq!((fields.get(0), fields.get(1)), (&Found::Nothing, &Found::Number("1")));
}

#[test]
fn what_is_not_one_object_in_utf8_is_malformed() {
    assert_eq!(wrong(b"{\"a\":\"\xff\"}"), "not UTF-8 at byte 6");
    for (message, error) in [
        ("", "not one JSON object at byte 0"),
        (" \n", "not one JSON object at byte 2"),
        ("[{}]", "not one JSON object at byte 0"),
        ("null", "not one JSON object at byte 0"),
        ("\u{feff}\u{feff}{}", "not one JSON object at byte 3"),
        ("\u{feff}[{}]", "not one JSON object at byte 3"),
        ("{}\u{feff}", "not one JSON object at byte 2"),
        ("{} {}", "not one JSON object at byte 3"),
        ("{},", "not one JSON object at byte 2"),
        ("{", "not JSON: expected a name at byte 1"),
        ("{\"a\":1,}", "not JSON: expected a name at byte 7"),
        ("{a:1}", "not JSON: expected a name at byte 1"),
        ("{\"a\" 1}", "not JSON: expected `:` at byte 5"),
        ("{\"a\":}", "not JSON: expected a value at byte 5"),
        ("{\"a\":[1,]}", "not JSON: expected a value at byte 8"),
        ("{\"a\":'x'}", "not JSON: expected a value at byte 5"),
        ("{\"a\":1 2}", "not JSON: expected `,` or `}` at byte 7"),
        ("{\"a\":[1}", "not JSON: expected `,` or `]` at byte 7"),
        ("{\"a\":{\"b\":1]}", "not JSON: expected `,` or `}` at byte 11"),
        ("{\"a\":\"x}", "not JSON: expected `\"` at byte 8"),
        ("{\"a\":\"x\\\"}", "not JSON: expected `\"` at byte 10"),
        ("{\"a\":\"x\\", "not JSON: expected `\"` at byte 8"),
        ("{\"type\":\"x", "not JSON: expected `\"` at byte 10"),
        ("{} {\"type\":1}", "not one JSON object at byte 3"),
    ] {
        assert_eq!(wrong(message), error, "{message}");
    }
    for message in ["{}", "\u{feff}{}", "\u{feff} {}\r\n", " \t\r\n{} \t\r\n", r#"{"":{}}"#, r#"{"a":[[],{},[{}]]}"#] {
        assert_eq!(wrong(message), "", "{message}");
    }
}

#[test]
fn every_cut_of_a_message_is_malformed() {
    assert_eq!(wrong(TRACK), "");
    for end in 0..TRACK.len() {
        assert_ne!(wrong(&TRACK[..end]), "", "{}", &TRACK[..end]);
    }
}

#[test]
fn a_broken_value_is_malformed_only_where_it_is_needed() {
    for (value, error) in [
        (r#""\x""#, "broken string at byte 19"),
        (r#""\u12""#, "broken string at byte 19"),
        (r#""\ud800\x""#, "broken string at byte 19"),
        ("\"a\tb\"", "broken string at byte 19"),
        ("01", "broken number or literal at byte 19"),
        ("1.", "broken number or literal at byte 19"),
        ("+1", "broken number or literal at byte 19"),
        (".5", "broken number or literal at byte 19"),
        ("1e", "broken number or literal at byte 19"),
        ("-", "broken number or literal at byte 19"),
        ("nan", "broken number or literal at byte 19"),
        ("tru", "broken number or literal at byte 19"),
        (r#"[1,"\x"]"#, "broken string at byte 22"),
        (r#"{"b":01}"#, "broken number or literal at byte 24"),
    ] {
        assert_eq!(wrong(format!(r#"{{"properties":{{"a":{value}}}}}"#)), error, "{value}");
        assert_eq!(wrong(format!(r#"{{"properties":{{"b":{value}}}}}"#)), "", "{value}");
        assert_eq!(wrong(format!(r#"{{"context":[{value}]}}"#)), "", "{value}");
    }
    assert_eq!(wrong(r#"{"properties":{"\x":1}}"#), "", "a name is no value");
}

#[test]
fn a_message_may_be_128_levels_deep_and_no_deeper() {
    for wanted in ["context", "properties", "userId"] {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let nested =
                |levels: usize| format!(r#"{{"{wanted}":{}0{}}}"#, open.repeat(levels - 1), close.repeat(levels - 1));
            assert_eq!(wrong(nested(DEPTH_MAX)), "", "{wanted}");
            let error = wrong(nested(DEPTH_MAX + 1));
            assert!(error.starts_with("deeper than 128 levels at byte "), "{error}");
        }
    }
}

#[test]
fn a_hundred_thousand_open_brackets_are_malformed_and_cost_nothing() {
    for start in ["", r#"{"properties":"#, r#"{"properties":{"a":"#, r#"{"x":"#] {
        for bracket in ["[", r#"{"a":"#, r#"{"properties":"#] {
            assert_ne!(wrong(format!("{start}{}", bracket.repeat(100_000))), "");
        }
    }
}

#[test]
fn strings_of_a_mebibyte_are_read_and_skipped() {
    let long = "é".repeat(1 << 19);
    let message = format!(r#"{{"x":"{long}","properties":{{"a":"{long}","b":"{long}\n"}}}}"#);
    assert_eq!(get("properties.a", &message), text(&long));
    assert_eq!(get("properties.b", &message), text(&format!("{long}\n")));
    let cut = &message.as_bytes()[..(1 << 20) + 1];
    assert_eq!(wrong(cut), "not UTF-8 at byte 1048576");
}

#[test]
fn events_of_32_and_33_kb_are_read() {
    for size in [32 << 10, 33 << 10] {
        let start = r#"{"userId":"u","properties":{"pad":""#;
        let end = r#"","a":1}}"#;
        let message = format!("{start}{}{end}", "x".repeat(size - start.len() - end.len()));
        assert_eq!(get("properties.a", &message), Found::Number("1"));
    }
}

#[test]
fn a_batch_envelope_is_one_message_without_a_type() {
    let message =
        r#"{"batch":[{"type":"track","userId":"u","event":"e"}],"sentAt":"2026-11-23T10:00:00Z","context":{}}"#;
    let fields = decode(&[], message);
    assert_eq!([fields.kind(), fields.name(), fields.key()], [&Found::Nothing; 3]);
    assert_eq!(outcome(fields.time(None)), Err(MISSING));
}

#[test]
fn keys_are_handed_out_as_they_stand() {
    for (key, found) in [
        ("42", Found::Number("42")),
        ("3.0", Found::Number("3.0")),
        ("\"\"", text("")),
        ("null", Found::Nothing),
        ("true", Found::Boolean(true)),
        ("\" u \"", text(" u ")),
    ] {
        assert_eq!(*decode(&[], &format!(r#"{{"userId":{key}}}"#)).key(), found);
    }
}

#[test]
fn the_documented_samples_formula_gives_its_timestamp() {
    let corrected = TRACK.replace(r#""timestamp""#, r#""was""#);
    assert_eq!(outcome(decode(&[], TRACK).time(None)), Ok(1449947461249));
    assert_eq!(outcome(decode(&[], &corrected).time(None)), Ok(1449947461249));
}

#[test]
fn the_event_time_of_the_segment_family_falls_back_in_order() {
    let (timestamp, received, sent, original) = (
        r#""timestamp":"2026-11-23T10:00:00Z""#,
        r#""receivedAt":"2026-11-23T11:00:00Z""#,
        r#""sentAt":"2026-11-23T12:00:05Z""#,
        r#""originalTimestamp":"2026-11-23T12:00:00Z""#,
    );
    let ten = 1795428000000;
    let hour = 3_600_000;
    for (members, time) in [
        (vec![timestamp, received, sent, original], Ok(ten)),
        (vec![received, sent, original], Ok(ten + hour - 5000)),
        (vec![r#""timestamp":null"#, received, sent, original], Ok(ten + hour - 5000)),
        (vec![received, original], Ok(ten + 2 * hour)),
        (vec![sent, original], Ok(ten + 2 * hour)),
        (vec![original], Ok(ten + 2 * hour)),
        (vec![received, sent], Ok(ten + hour)),
        (vec![received], Ok(ten + hour)),
        (vec![sent], Ok(7)),
        (vec![], Ok(7)),
        (vec![r#""timestamp":"""#, received], Err(UNREADABLE)),
        (vec![r#""timestamp":{}"#, received], Err(UNREADABLE)),
        (vec![timestamp, r#""receivedAt":"soon""#], Ok(ten)),
        (vec![r#""receivedAt":"soon""#, sent, original], Err(UNREADABLE)),
        (vec![received, r#""sentAt":"soon""#, original], Err(UNREADABLE)),
        (vec![received, r#""sentAt":"soon""#], Ok(ten + hour)),
        (vec![r#""receivedAt":"soon""#], Err(UNREADABLE)),
        (vec![r#""receivedAt":"1970-01-01T00:00:01Z""#, sent, original], Err(UNREADABLE)),
        (
            vec![received, r#""sentAt":"1969-12-31T23:59:59Z""#, r#""originalTimestamp":"1969-12-31T23:59:58Z""#],
            Ok(ten + hour - 1000),
        ),
    ] {
        let message = format!("{{{}}}", members.join(","));
        assert_eq!(outcome(decode(&[], &message).time(Some(7))), time, "{message}");
    }
}

#[test]
fn times_are_rfc_3339_with_leniency_or_unix_time() {
    let ten = 1795428000000;
    for (time, ms) in [
        ("2026-11-23T10:00:00Z", ten),
        ("2026-11-23T10:00:00.123Z", ten + 123),
        ("2026-11-23T10:00:00.1Z", ten + 100),
        ("2026-11-23T10:00:00.1239999Z", ten + 123),
        ("2026-11-23T10:00:00,5Z", ten + 500),
        ("2026-11-23t10:00:00z", ten),
        ("2026-11-23 10:00:00", ten),
        ("2026-11-23 10:00:00.25", ten + 250),
        ("2026-11-23T12:00:00+02:00", ten),
        ("2026-11-23T12:00:00+0200", ten),
        ("2026-11-23T12:00:00+02", ten),
        ("2026-11-23T04:30:00-05:30", ten),
        ("2026-11-24T00:00:00.5+14:00", ten + 500),
        ("2015-2-02T00:30:08.276Z", 1422837008276),
        ("2015-2-2T0:30:08.276Z", 1422837008276),
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:00:00-01:00", 0),
        ("2024-02-29T00:00:00Z", 1709164800000),
        ("2016-12-31T23:59:60.5Z", 1483228799500),
        ("1763892000000", 1763892000000),
        ("1763892000", 1763892000000),
        ("1763892000.5", 1763892000500),
        ("9999-12-31T23:59:59.999Z", 253402300799999),
    ] {
        assert_eq!(read_time(&text(time)), Ok(ms), "{time}");
    }
    for time in [
        "",
        "now",
        "2026-11-23",
        "2026-11-23T10:00Z",
        "2026-11-23T10:00:00 Z",
        "2026-11-23T10:00:00.Z",
        "26-11-23T10:00:00Z",
        "2026-13-01T10:00:00Z",
        "2026-02-29T10:00:00Z",
        "2026-00-01T10:00:00Z",
        "2026-01-00T10:00:00Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T10:60:00Z",
        "2026-11-23T10:00:61Z",
        "2026-11-23T10:00:00+24:00",
        "2026-11-23T10:00:00+02:60",
        "2026-11-23T10:00:00+02:",
        "2026-11-23T10:00:00+2",
        "2026-11-23T10:00:00ZZ",
        "1969-12-31T23:59:59.999Z",
        "1970-01-01T00:00:00+01:00",
        "2026-11-23T1a:00:00Z",
        "2026-11-23T10:00:00é",
        "10013-12-10 01:09:46.708",
        "-5965-09-20 15:44:22.721",
        "-1763892000000",
        "1e12",
        "２026-11-23T10:00:00Z",
    ] {
        assert_eq!(read_time(&text(time)), Err(UNREADABLE), "{time}");
    }
    for (time, ms) in [
        ("0", 0),
        ("-0", 0),
        ("1763892000000", 1763892000000),
        ("1763892000000.999", 1763892000000),
        ("1.763892e12", 1763892000000),
        ("1763892000000000e-3", 1763892000000),
        ("1.7638920000009E+12", 1763892000000),
        ("1763892000", 1763892000000),
        ("1763892000.5", 1763892000500),
        ("253818700186708", 253818700186708),
        ("0.9", 900),
        ("0.0009", 0),
        ("0e99999999999999999999", 0),
        ("1e-400", 0),
        ("9223372036854775807", i64::MAX as u64),
    ] {
        assert_eq!(read_time(&Found::Number(time)), Ok(ms), "{time}");
    }
    for time in ["-1", "-0.1", "-1e-400", "1e30", "1e999999999999999999999", "9223372036854775808", "-1763892000000"] {
        assert_eq!(read_time(&Found::Number(time)), Err(UNREADABLE), "{time}");
    }
    assert_eq!(read_time(&Found::Nothing), Err(MISSING));
    assert_eq!(read_time(&Found::Boolean(true)), Err(UNREADABLE));
    assert_eq!(read_time(&compound("[]")), Err(UNREADABLE));
}

#[test]
fn quotes_are_found_as_one_by_one() {
    let mut rng = seeded(fastrand::u64(..));
    let mut marks = Marks::default();
    for _ in 0..5_000 {
        let few = rng.usize(1..30);
        let any = |rng: &mut fastrand::Rng| b"\\\\\"\"\n\xe9xxxxxxxxxxxxxxxxxxxxxxxx"[rng.usize(..few)];
        let bytes: Vec<_> = (0..rng.usize(..300)).map(|_| any(&mut rng)).collect();
        marks.refill(&bytes);
        let mut escaped = false;
        let is_quote = |byte: &u8| {
            let quote = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            quote
        };
        let quotes: Vec<_> = bytes.iter().map(is_quote).collect();
        for from in 0..=bytes.len() {
            let expected = (from..bytes.len()).find(|at| quotes[*at]);
            let found = match marks.window(from) {
                0 => marks.far(from),
                window => Some(from + window.trailing_zeros() as usize),
            };
            assert_eq!(found, expected, "from {from} in {}", bytes.escape_ascii());
        }
        let special = bytes.iter().any(|byte| b"\\\n".contains(byte));
        assert_eq!(marks.plain, !special, "{}", bytes.escape_ascii());
    }
}

#[test]
fn times_are_read_as_the_library_reads_them() {
    let mut rng = seeded(fastrand::u64(..));
    for _ in 0..20_000 {
        let ms = rng.i64(0..253_402_000_000_000);
        let time = jiff::Timestamp::from_millisecond(ms).expect("a time before the year 10000");
        let offset = jiff::tz::Offset::from_seconds(rng.i32(-23..24) * 3600 + rng.i32(0..60) * 60).expect("an offset");
        for shown in [time.to_string(), format!("{time:.9}"), time.display_with_offset(offset).to_string()] {
            assert_eq!(read_time(&text(&shown)), Ok(ms as u64), "{shown}");
        }
    }
}
