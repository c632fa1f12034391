//! What the vendors' SDKs sent: requests recorded by a server on loopback, as `formats/tests/sdk/README.md` says.

use serde::Deserialize;
use serde_json::value::RawValue;
use usher_config::{Format, Found};

use super::{paths, text};
use crate::{Content, Decoder, Fields};

const SENT: &[(Format, &str)] = &[
    (Format::Segment, include_str!("../../tests/sdk/segment-analytics-python-2.4.0.jsonl")),
    (Format::Segment, include_str!("../../tests/sdk/segment-analytics-node-3.1.0.jsonl")),
    (Format::Rudderstack, include_str!("../../tests/sdk/rudder-sdk-python-2.1.9.jsonl")),
    (Format::Rudderstack, include_str!("../../tests/sdk/rudder-sdk-node-3.0.13.jsonl")),
    (Format::Hightouch, include_str!("../../tests/sdk/hightouch-events-sdk-python-0.0.4.jsonl")),
];

/// A request of an SDK.
#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    batch: Vec<&'a RawValue>,
}

/// The messages in what was sent.
fn messages(sent: &'static str) -> Vec<String> {
    let mut messages = Vec::new();
    for line in sent.lines() {
        // A number that is not finite is no JSON: the envelope is read without it.
        let line = line.replace("NaN", "\"NaN\"");
        let request: Request<'_> = serde_json::from_str(&line).expect("a request");
        messages.extend(request.batch.iter().map(|message| message.get().replace("\"NaN\"", "NaN")));
    }
    messages
}

#[test]
fn the_short_forms_find_what_sdks_sent() {
    let wanted = paths(&[
        "properties.plan",
        "properties.email",
        "properties.logins",
        "properties.employees",
        "properties.revenue",
        "properties.path",
        "properties.variation",
    ]);
    for (format, sent) in SENT {
        let decoder = Decoder::new(format, &wanted);
        let mut kinds = Vec::new();
        for message in messages(sent) {
            let mut fields = Fields::default();
            assert_eq!(decoder.decode(message.as_bytes(), None, &mut fields), Ok(Content::Message), "{message}");
            let Found::Text(kind) = fields.kind() else { panic!("a message has a type: {message}") };
            let time = fields.time(None);
            assert!(time.is_ok(), "{time:?}: {message}");
            assert!(matches!(fields.id(), Found::Text(id) if !id.is_empty()), "{message}");
            if *fields.name() == text("Seen") {
                assert_eq!(*fields.key(), Found::Nothing, "{message}");
                continue;
            }
            assert_eq!(*fields.key(), text("u-1"), "{message}");
            let expected: &[(usize, Found<'_>)] = match (&**kind, fields.name()) {
                ("identify", _) => &[(0, text("pro")), (1, text("ann@example.com")), (2, Found::Number("5"))],
                ("group", _) => &[(0, text("enterprise")), (3, Found::Number("329"))],
                ("track", Found::Text(name)) if name == "Order Completed" => &[(4, Found::Number("99.5"))],
                ("page", Found::Text(name)) if name == "Pricing" => &[(5, text("/pricing"))],
                ("screen", Found::Text(name)) if name == "Home" => &[(6, text("b"))],
                ("alias" | "track", _) => &[],
                other => panic!("{other:?} was not sent: {message}"),
            };
            let found: Vec<_> = (0..wanted.len()).map(|i| (i, fields.get(i).clone())).collect();
            let found: Vec<_> = found.into_iter().filter(|(_, found)| *found != Found::Nothing).collect();
            assert_eq!(found, expected, "{message}");
            kinds.push(kind.clone().into_owned());
        }
        for kind in ["identify", "track", "page", "screen", "group"] {
            assert!(kinds.iter().any(|known| known == kind), "{format:?} has no {kind}");
        }
    }
}

#[test]
fn the_sdk_of_segment_for_python_sends_nan() {
    let decoder = Decoder::new(&Format::Segment, &paths(&["properties.x"]));
    let all = messages(SENT[0].1);
    let message = all.iter().find(|message| message.contains("\"Seen\"")).expect("it was sent");
    let mut fields = Fields::default();
    assert_eq!(decoder.decode(message.as_bytes(), None, &mut fields), Ok(Content::Message));
    assert_eq!(*fields.get(0), Found::NotFinite);
}
