//! Braze's `/users/track`: an attribute that is true of members, or custom events.
//!
//! An answer of 2xx has `errors`, each with the place of the item in its array. Too many requests are answered without `Retry-After`:
//! `X-RateLimit-Reset` says when the next are taken, in seconds since the epoch.

use super::{Api, Item, Person, Reading, text};
use crate::messages::Node;
use reqwest::header::HeaderMap;
use serde_json::Value;
use std::time::Duration;
use usher_config::{BrazeId, BrazeShape};
use usher_core::change::ChangeKind;

/// Members of a user that no column can be.
pub(super) const OWN_NAMES: [&str; 4] = ["external_id", "braze_id", "user_alias", "_update_existing_only"];

#[derive(Debug)]
pub(super) struct Braze {
    pub shape: BrazeShape,
    pub id_type: BrazeId,
}

impl Braze {
    /// The name of the array of items.
    fn array(&self) -> &'static str {
        match self.shape {
            BrazeShape::Attributes => "attributes",
            BrazeShape::Events => "events",
        }
    }
}

impl Api for Braze {
    fn path(&self, _audience: &str, _kind: ChangeKind) -> String {
        "/users/track".to_owned()
    }

    fn begin(&self, out: &mut Vec<u8>, _audience: &str, _kind: ChangeKind) {
        out.extend_from_slice(format!("{{\"{}\":[", self.array()).as_bytes());
    }

    fn item<'a>(&'a self, person: &'a Person<'a>) -> Item<'a> {
        let mut user = vec![person.identified(self.id_type.name())];
        match self.shape {
            BrazeShape::Attributes => {
                // The id goes before a column of the same name: an address that identifies is the one that is set.
                let attributes = person.attributes().into_iter();
                user.extend(attributes.filter(|(name, _)| name != self.id_type.name()));
            }
            BrazeShape::Events => {
                let properties = Node::Object(person.parts.properties());
                let (name, time) = (text("name", person.parts.event), text("time", &person.parts.at));
                user.extend([name, time, ("properties".to_owned(), properties)]);
            }
        }
        Item::Object(user)
    }

    fn answers_in_parts(&self) -> bool {
        true
    }

    fn read(&self, _ids: &[String], _kind: ChangeKind, answer: &Value) -> Reading {
        let errors = answer["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        if errors.is_empty() {
            return Reading::Delivered;
        }
        let of_item = |error: &Value| {
            let place = error["index"].as_u64().filter(|_| error["input_array"].as_str() == Some(self.array()))?;
            let reason = error["type"].as_str().unwrap_or("no reason is given").to_owned();
            Some((usize::try_from(place).ok()?, reason))
        };
        errors.iter().map(of_item).collect::<Option<_>>().map_or(Reading::Unnamed, Reading::Refused)
    }

    fn asks_to_wait(&self, headers: &HeaderMap, now: u64) -> Option<Duration> {
        let reset: u64 = headers.get("x-ratelimit-reset")?.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_millis(reset.saturating_mul(1_000).saturating_sub(now)))
    }
}
