//! Iterable's static lists: `/api/lists/subscribe` and `/api/lists/unsubscribe`, of one list a request.
//!
//! An answer of 2xx names the persons that were not taken in `failedUpdates`. To remove a person that is not known changes nothing, and
//! is delivered.

use super::{Api, Item, Person, Reading, raw};
use crate::messages::Node;
use serde_json::Value;
use std::collections::BTreeMap;
use usher_config::IterableId;
use usher_core::change::ChangeKind;

/// What `failedUpdates` calls persons that there are not.
const NOT_FOUND: [&str; 4] = ["notFoundEmails", "notFoundUserIds", "forgottenEmails", "forgottenUserIds"];

#[derive(Debug)]
pub(super) struct Iterable {
    pub lists: BTreeMap<String, u32>,
    pub id_type: IterableId,
}

impl Api for Iterable {
    fn is_grouped(&self) -> bool {
        true
    }

    fn has_list(&self, audience: &str) -> bool {
        self.lists.contains_key(audience)
    }

    fn path(&self, _audience: &str, kind: ChangeKind) -> String {
        match kind {
            ChangeKind::Exit => "/api/lists/unsubscribe".to_owned(),
            ChangeKind::Entry | ChangeKind::Update => "/api/lists/subscribe".to_owned(),
        }
    }

    fn begin(&self, out: &mut Vec<u8>, audience: &str, _kind: ChangeKind) {
        let list = super::list(&self.lists, audience);
        out.extend_from_slice(format!("{{\"listId\":{list},\"subscribers\":[").as_bytes());
    }

    fn item<'a>(&'a self, person: &'a Person<'a>) -> Item<'a> {
        let mut subscriber = vec![person.identified(self.id_type.name())];
        if person.is_member() {
            if self.id_type == IterableId::UserId {
                // Without it a project by address would not find the person by its id.
                subscriber.push(("preferUserId".to_owned(), raw("true".to_owned())));
            }
            let columns = person.parts.columns();
            if !columns.is_empty() {
                subscriber.push(("dataFields".to_owned(), Node::Object(columns)));
            }
        }
        Item::Object(subscriber)
    }

    fn answers_in_parts(&self) -> bool {
        true
    }

    fn read(&self, ids: &[String], kind: ChangeKind, answer: &Value) -> Reading {
        let mut refused = Vec::new();
        let mut named = 0;
        for (reason, persons) in answer["failedUpdates"].as_object().into_iter().flatten() {
            let persons: Vec<&str> = persons.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if kind == ChangeKind::Exit && NOT_FOUND.contains(&reason.as_str()) {
                named += persons.len() as u64;
                continue;
            }
            // A name that is none of ours leaves one of ours unnamed.
            let is_ours = |person: &str| ids.iter().any(|id| person.eq_ignore_ascii_case(id));
            named += persons.iter().filter(|person| is_ours(person)).count() as u64;
            let is_named = |id: &str| persons.iter().any(|person| person.eq_ignore_ascii_case(id));
            let places = ids.iter().enumerate().filter(|(_, id)| is_named(id));
            refused.extend(places.map(|(place, _)| (place, reason.clone())));
        }
        match answer["failCount"].as_u64().unwrap_or(0) {
            failed if failed > named => Reading::Unnamed,
            _ if refused.is_empty() => Reading::Delivered,
            _ => Reading::Refused(refused),
        }
    }
}
