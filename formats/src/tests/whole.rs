//! Claims about records whole: they have what the decoder finds at each path.

use serde_json::{Value, json};
use usher_config::{Envelope, Found};
use usher_core::time::{parse_date, parse_timestamp};

use super::avro::{assert_same, plain};
use super::headers::Listed;
use super::paths;
use crate::{Content, Decoder, Fields};

/// Asserts that a message, whole, has at `wanted` what its decoder finds there.
pub(super) fn assert_whole(decoder: &Decoder, message: &[u8], wanted: &[&str], of: &str) {
    let (mut found, mut fields) = (Fields::default(), Fields::default());
    assert_eq!(decoder.decode(message, None, &mut found), Ok(Content::Message), "{of}");
    let whole = decoder.whole(message, None);
    let [Ok(whole)] = &whole[..] else { panic!("{whole:?}: {of}") };
    let whole = whole.to_string();
    let read = Decoder::new(&plain(), &paths(wanted)).decode(whole.as_bytes(), None, &mut fields);
    assert_eq!(read, Ok(Content::Message), "{of}");
    for (index, path) in wanted.iter().enumerate() {
        // Times are texts in JSON.
        let text = match fields.get(index) {
            Found::Text(text) => &**text,
            _ => "",
        };
        match found.get(index) {
            Found::Timestamp(ms) => assert_eq!(parse_timestamp(text), Some(*ms), "{path} of {whole}: {of}"),
            Found::Date(ms) => assert_eq!(parse_date(text), Some(*ms), "{path} of {whole}: {of}"),
            found => assert_same(&in_json(fields.get(index)), &in_json(found), &format!("{path} of {whole}: {of}")),
        }
    }
}

/// A value that is no time, as JSON has it.
fn in_json(found: &Found<'_>) -> Value {
    let parsed = |text: &str| serde_json::from_str(text).expect("it is JSON");
    match found {
        Found::Nothing | Found::NotFinite => Value::Null,
        Found::Boolean(boolean) => json!(boolean),
        Found::Integer(integer) => parsed(&integer.to_string()),
        Found::Double(number) => json!(number),
        Found::Number(text) => parsed(text),
        Found::Decimal(text) => parsed(text),
        Found::Text(text) => json!(text),
        Found::Compound(text) => parsed(text),
        other => panic!("no case has {other:?}"),
    }
}

#[test]
fn what_can_not_be_read_is_no_message_and_what_is_blank_is_none() {
    use Envelope::{Batch, Connect, Debezium};
    let whole = |envelopes: &[Envelope], record: &'static str| {
        Decoder::new(&plain(), &[]).in_envelopes(envelopes).whole(record.as_bytes(), None)
    };
    let broken = |record: &'static str| Err(record.as_bytes());
    for (envelopes, record) in [
        (&[][..], "no message"),
        (&[], "[1]"),
        (&[Debezium], r#"{"after":{"a":1}}"#),
        (&[Envelope::Cloudevents], r#"{"specversion":"1.0","data_base64":"e30="}"#),
        (&[Batch], r#"{"a":1}"#),
        (&[Batch], r#"{"batch":{}}"#),
        (&[Batch], r#"{"batch":[{}"#),
        (&[Connect, Batch], r#"{"payload":[{]}]}"#),
    ] {
        assert_eq!(whole(envelopes, record), [broken(record)], "{record}");
    }
    assert_eq!(whole(&[Connect], r#"{"schema":{},"payload":null}"#), []);
    assert_eq!(
        whole(&[Debezium], r#"{"op":"d","before":{"a":1},"after":null,"ts_ms":5}"#),
        [Ok(json!({"op": "d", "ts_ms": 5, "a": 1}))]
    );
    assert_eq!(
        whole(&[Batch], r#"{"batch":[{"a":1},2,null,{"b":3}],"b":2}"#),
        [Ok(json!({"a": 1, "b": 2})), broken("2"), Ok(json!({"b": 3}))]
    );
    assert_eq!(whole(&[Batch], r#"[{"a":1},{"a":2}]"#), [Ok(json!({"a": 1})), Ok(json!({"a": 2}))]);
}

#[test]
fn a_broken_element_of_a_batch_is_one_alone_whatever_is_around_it() {
    use Envelope::{Batch, Cloudevents, Connect, Debezium};
    let bad: [&[u8]; 4] = [b"{\"a\":}", b"{\"\xff\":1}", b"{\"a\":1} x", b""];
    let list = [b"[{\"a\":1},", &bad.join(&b","[..])[..], b",{\"a\":2}]"].concat();
    for (envelopes, before, after) in [
        (&[Batch][..], "", ""),
        (&[Batch], r#"{"batch":"#, "}"),
        (&[Connect, Batch], r#"{"schema":7,"payload":{"batch":"#, "}}"),
        (&[Debezium, Batch], r#"{"op":"c","after":"#, "}"),
        (&[Batch, Batch], "[", "]"),
        (&[Cloudevents, Batch], r#"{"specversion":"1.0","data":"#, "}"),
    ] {
        let record = [before.as_bytes(), &list, after.as_bytes()].concat();
        let decoder = Decoder::new(&plain(), &[]).in_envelopes(envelopes);
        let found = decoder.whole(&record, None);
        let read = |n: usize| found[n].as_ref().map(|message| message["a"].clone());
        assert_eq!((read(0), read(5)), (Ok(json!(1)), Ok(json!(2))), "{}", String::from_utf8_lossy(&record));
        assert_eq!(found[1..5], bad.map(Err), "{envelopes:?}");
    }
}

#[test]
fn a_binary_cloud_event_has_the_attributes_of_its_headers() {
    let headers = Listed(vec![("ce_specversion", Some(b"1.0")), ("ce_type", Some(b"order")), ("ce_id", Some(b"7"))]);
    let decoder = Decoder::new(&plain(), &[]).in_envelopes(&[Envelope::Cloudevents]);
    let expected = json!({"specversion": "1.0", "type": "order", "id": "7", "total": 3});
    assert_eq!(decoder.whole(br#"{"total":3}"#, Some(&headers)), [Ok(expected)]);
    let structured = json!({"specversion": "1.0", "type": "order", "data": {"total": 3}}).to_string();
    let expected = json!({"specversion": "1.0", "type": "order", "total": 3});
    assert_eq!(decoder.whole(structured.as_bytes(), None), [Ok(expected)]);
}
