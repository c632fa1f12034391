//! Customer.io's tracking API: `/api/v2/batch` with an attribute that is true of members, or with events; or manual segments,
//! `/api/v1/segments/ID/add_customers` and `/remove_customers`, of one segment a request.
//!
//! Times are seconds since the epoch there: a column whose text is a time or a date is sent as that. An event's id is a ULID, by which
//! repeats are dropped. A batch that is answered 2xx has `errors`, each with the place of its item.

use super::{Api, Item, Person, Reading, raw, text};
use crate::messages::{Members, Node};
use serde_json::Value;
use usher_config::{CustomerioId, CustomerioRequest, CustomerioShape};
use usher_core::change::ChangeKind;
use usher_core::message::MessageId;
use usher_core::time::{parse_date, parse_timestamp};

/// The digits of a ULID.
const BASE_32: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

#[derive(Debug)]
pub(super) struct Customerio {
    pub shape: CustomerioRequest,
    pub id_type: CustomerioId,
}

impl Api for Customerio {
    fn is_grouped(&self) -> bool {
        matches!(self.shape, CustomerioRequest::Segments(_))
    }

    fn has_list(&self, audience: &str) -> bool {
        match &self.shape {
            CustomerioRequest::Segments(segments) => segments.contains_key(audience),
            CustomerioRequest::People(_) => true,
        }
    }

    fn path(&self, audience: &str, kind: ChangeKind) -> String {
        let CustomerioRequest::Segments(segments) = &self.shape else { return "/api/v2/batch".to_owned() };
        let action = if kind == ChangeKind::Exit { "remove_customers" } else { "add_customers" };
        let (segment, id_type) = (super::list(segments, audience), self.id_type.name());
        format!("/api/v1/segments/{segment}/{action}?id_type={id_type}")
    }

    fn begin(&self, out: &mut Vec<u8>, _audience: &str, _kind: ChangeKind) {
        out.extend_from_slice(match self.shape {
            CustomerioRequest::Segments(_) => b"{\"ids\":[",
            CustomerioRequest::People(_) => b"{\"batch\":[",
        });
    }

    fn item<'a>(&'a self, person: &'a Person<'a>) -> Item<'a> {
        let CustomerioRequest::People(shape) = &self.shape else { return Item::Id };
        let parts = person.parts;
        let identifiers = Node::Object(vec![person.identified(self.id_type.name())]);
        let mut entity = vec![text("type", "person"), ("identifiers".to_owned(), identifiers)];
        let attributes = match shape {
            CustomerioShape::Attributes => {
                entity.push(text("action", "identify"));
                person.attributes()
            }
            CustomerioShape::Events => {
                let id = format!("\"{}\"", ulid(&parts.id, parts.at_ms));
                let timestamp = (parts.at_ms / 1_000).to_string();
                entity.extend([text("action", "event"), text("name", parts.event)]);
                entity.extend([("id".to_owned(), raw(id)), ("timestamp".to_owned(), raw(timestamp))]);
                parts.properties()
            }
        };
        entity.push(("attributes".to_owned(), Node::Object(with_seconds(attributes))));
        Item::Object(entity)
    }

    fn answers_in_parts(&self) -> bool {
        matches!(self.shape, CustomerioRequest::People(_))
    }

    fn read(&self, _ids: &[String], _kind: ChangeKind, answer: &Value) -> Reading {
        let errors = answer["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        if errors.is_empty() {
            return Reading::Delivered;
        }
        let of_item = |error: &Value| {
            let place = usize::try_from(error["batch_index"].as_u64()?).ok()?;
            let said = |name: &str| error[name].as_str().filter(|text| !text.is_empty());
            let reason = said("message").or(said("reason")).unwrap_or("no reason is given");
            Some((place, said("field").map_or_else(|| reason.to_owned(), |field| format!("{field}: {reason}"))))
        };
        errors.iter().map(of_item).collect::<Option<_>>().map_or(Reading::Unnamed, Reading::Refused)
    }
}

/// Returns attributes with times as seconds since the epoch.
fn with_seconds(attributes: Members<'_>) -> Members<'_> {
    let seconds = |value| match value {
        Node::Raw(json) => Node::Raw(seconds(&json).map_or(json, |seconds| seconds.to_string())),
        value => value,
    };
    attributes.into_iter().map(|(name, value)| (name, seconds(value))).collect()
}

/// Returns the seconds since the epoch of a JSON string that is a time or a date.
fn seconds(json: &str) -> Option<i64> {
    let text: String = serde_json::from_str(json).ok().filter(|_| json.starts_with('"'))?;
    let ms = parse_timestamp(&text).or_else(|| parse_date(&text))?;
    Some(ms.div_euclid(1_000))
}

/// Returns a ULID: the time of a change, and 80 bits of its id, so that a repeat has the same.
fn ulid(id: &MessageId, at: u64) -> String {
    let hash = u128::from_str_radix(id.as_str(), 16).expect("an id has 32 hex digits");
    let bits = u128::from(at & ((1 << 48) - 1)) << 80 | hash >> 48;
    (0..26).rev().map(|place| char::from(BASE_32[(bits >> (5 * place)) as usize & 31])).collect()
}
