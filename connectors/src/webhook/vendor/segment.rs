//! Segment's HTTP tracking API, `/v1/batch`, which RudderStack has too.
//!
//! A change is a `track`, the message that `format: segment` writes, or an `identify` whose traits say whether the person is a
//! member. `messageId` is the change's id, by which both drop repeats. A request is taken or refused as a whole.

use super::{Api, Item, Person, text};
use crate::messages::Node;
use usher_config::{SegmentCall, SegmentId};
use usher_core::change::ChangeKind;

#[derive(Debug)]
pub(super) struct Segment {
    pub call: SegmentCall,
    pub id_type: SegmentId,
}

impl Api for Segment {
    fn path(&self, _audience: &str, _kind: ChangeKind) -> String {
        "/v1/batch".to_owned()
    }

    fn begin(&self, out: &mut Vec<u8>, _audience: &str, _kind: ChangeKind) {
        out.extend_from_slice(b"{\"batch\":[");
    }

    fn item<'a>(&'a self, person: &'a Person<'a>) -> Item<'a> {
        let parts = person.parts;
        let id = person.identified(self.id_type.name());
        Item::Object(match self.call {
            SegmentCall::Track => {
                let mut track = person.messages.track(person.change, person.texts, parts);
                let place = track.iter().position(|(name, _)| name == SegmentId::UserId.name());
                track[place.expect("a track has a user")] = id;
                track
            }
            SegmentCall::Identify => vec![
                text("type", "identify"),
                text("messageId", parts.id.as_str()),
                id,
                text("timestamp", &parts.at),
                ("traits".to_owned(), Node::Object(person.attributes())),
            ],
        })
    }
}
