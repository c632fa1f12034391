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
    let [Some(whole)] = &whole[..] else { panic!("{whole:?}: {of}") };
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
    let whole = |envelopes: &[Envelope], record: &str| {
        Decoder::new(&plain(), &[]).in_envelopes(envelopes).whole(record.as_bytes(), None)
    };
    assert_eq!(whole(&[], "no message"), [None]);
    assert_eq!(whole(&[], "[1]"), [None]);
    assert_eq!(whole(&[Connect], r#"{"schema":{},"payload":null}"#), []);
    assert_eq!(whole(&[Debezium], r#"{"after":{"a":1}}"#), [None]);
    assert_eq!(
        whole(&[Debezium], r#"{"op":"d","before":{"a":1},"after":null,"ts_ms":5}"#),
        [Some(json!({"op": "d", "ts_ms": 5, "a": 1}))]
    );
    assert_eq!(
        whole(&[Batch], r#"{"batch":[{"a":1},2,null,{"b":3}],"b":2}"#),
        [Some(json!({"a": 1, "b": 2})), None, Some(json!({"b": 3}))]
    );
    assert_eq!(whole(&[Envelope::Cloudevents], r#"{"specversion":"1.0","data_base64":"e30="}"#), [None]);
    assert_eq!(whole(&[Batch], r#"[{"a":1},{"a":2}]"#), [Some(json!({"a": 1})), Some(json!({"a": 2}))]);
}

#[test]
fn a_binary_cloud_event_has_the_attributes_of_its_headers() {
    let headers = Listed(vec![("ce_specversion", Some(b"1.0")), ("ce_type", Some(b"order")), ("ce_id", Some(b"7"))]);
    let decoder = Decoder::new(&plain(), &[]).in_envelopes(&[Envelope::Cloudevents]);
    let expected = json!({"specversion": "1.0", "type": "order", "id": "7", "total": 3});
    assert_eq!(decoder.whole(br#"{"total":3}"#, Some(&headers)), [Some(expected)]);
    let structured = json!({"specversion": "1.0", "type": "order", "data": {"total": 3}}).to_string();
    let expected = json!({"specversion": "1.0", "type": "order", "total": 3});
    assert_eq!(decoder.whole(structured.as_bytes(), None), [Some(expected)]);
}
