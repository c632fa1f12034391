//! Destinations by name: how changes become requests of a vendor's API, and what its answers say of them (docs/DESTINATIONS.md).
//!
//! The delivery is that of webhooks. A vendor's file says four things: where requests go, what a change becomes (an *item*), what
//! stands around the items of a request, and which items an answer of 2xx refuses. Limits, hosts and regions are the job's reader's
//! (`usher_config::VendorApi`).
//!
//! Promises:
//! 1. **Entries and updates carry columns, exits do not**, where a change sets what is held of a person: the ledger's columns are older than
//!    those that the person has now. An event carries them always.
//! 2. **An empty id is none.** A change whose id is null or blank is not sent: it is a dead letter.
//! 3. **Only what was refused goes back.** Of a request that is answered in parts, the items that the answer does not name are delivered.

mod braze;
mod customerio;
mod iterable;
mod segment;

use crate::messages::template::Templates;
use crate::messages::{Members, Messages, Node, Parts};
use braze::Braze;
use customerio::Customerio;
use iterable::Iterable;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use segment::Segment;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;
use url::Url;
use usher_config::{VendorApi, VendorTarget};
use usher_core::change::{Change, ChangeKind, ChangeTexts};
use usher_core::message::MessageId;

/// A vendor's API.
trait Api: Debug + Send + Sync {
    /// Returns whether the changes of a request must be of one audience, and all exits or none.
    fn is_grouped(&self) -> bool {
        false
    }

    /// Returns whether changes of an audience can be sent: whether it has a list, of a destination with lists.
    fn has_list(&self, audience: &str) -> bool {
        let _no_lists = audience;
        true
    }

    /// Returns path and query of a request, whose changes are of an audience and kind.
    fn path(&self, audience: &str, kind: ChangeKind) -> String;

    /// Appends what stands before the items of a request. Behind them stands [`Api::end`].
    fn begin(&self, out: &mut Vec<u8>, audience: &str, kind: ChangeKind);

    /// Returns what stands behind the items of a request.
    fn end(&self) -> &'static [u8] {
        b"]}"
    }

    /// Returns what a change becomes.
    fn item<'a>(&'a self, person: &'a Person<'a>) -> Item<'a>;

    /// Returns which items an answer of 2xx refuses. `ids` are those of the request's items.
    fn read(&self, ids: &[String], kind: ChangeKind, answer: &serde_json::Value) -> Reading {
        let _all_or_nothing = (ids, kind, answer);
        Reading::Delivered
    }

    /// Returns whether an answer can refuse some items: then it must be read to its end.
    fn answers_in_parts(&self) -> bool {
        false
    }

    /// Returns how long an answer of too many requests asks to wait, besides by `Retry-After`; `now` is ms since the epoch.
    fn asks_to_wait(&self, headers: &HeaderMap, now: u64) -> Option<Duration> {
        let _only_by_retry_after = (headers, now);
        None
    }
}

/// What a change becomes.
enum Item<'a> {
    /// An object, in which the sync's `fields` are set.
    Object(Members<'a>),
    /// The person's id alone.
    Id,
}

/// A change, as an API has it.
struct Person<'a> {
    /// Its id, which is not empty.
    id: &'a str,
    /// The name of the attribute that is true of members; empty of a destination without.
    attribute: &'a str,
    parts: &'a Parts<'a>,
    messages: &'a Messages,
    change: &'a Change,
    texts: ChangeTexts<'a>,
}

impl<'a> Person<'a> {
    /// Returns whether it is a member from now on.
    fn is_member(&self) -> bool {
        self.change.kind != ChangeKind::Exit
    }

    /// Returns the attribute, and the columns of a member; a column of the attribute's name is left out.
    fn attributes(&self) -> Members<'a> {
        let mut attributes = vec![(self.attribute.to_owned(), raw(self.is_member().to_string()))];
        if self.is_member() {
            attributes.extend(self.parts.columns().into_iter().filter(|(name, _)| *name != self.attribute));
        }
        attributes
    }

    /// Returns the id under a name.
    fn identified(&self, name: &str) -> (String, Node<'a>) {
        text(name, self.id)
    }
}

fn text<'a>(name: &str, value: &'a str) -> (String, Node<'a>) {
    (name.to_owned(), Node::Text(value))
}

/// Returns the list of an audience that [`Api::has_list`].
fn list(lists: &BTreeMap<String, u32>, audience: &str) -> u32 {
    *lists.get(audience).expect("a change of an audience without a list is not written")
}

fn raw<'a>(json: String) -> Node<'a> {
    Node::Raw(json)
}

/// What an answer of 2xx says of the items of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// All were taken.
    Delivered,
    /// These were refused, by their places in order, each with the reason; all others were taken.
    Refused(Vec<(usize, String)>),
    /// Some were refused, and the answer does not say which.
    Unnamed,
}

/// Why a change can't be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unwritable {
    /// A template fails on it.
    Template,
    /// Its id is empty.
    NoId,
    /// Its audience, which the job may have no more, has no list.
    NoList(String),
    /// It is larger than the vendor takes: bytes, and how many at most.
    TooLarge(usize, u64),
}

impl std::fmt::Display for Unwritable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unwritable::Template => f.write_str("its request can't be written: a template fails on it"),
            Unwritable::NoList(audience) => write!(f, "the audience `{audience}` has no list in the job"),
            Unwritable::NoId => f.write_str("its request can't be written: the id is empty"),
            Unwritable::TooLarge(bytes, most) => {
                write!(f, "its request can't be sent: it has {bytes} bytes, and the destination takes {most}")
            }
        }
    }
}

/// How requests to a vendor are written, and answers read.
#[derive(Debug)]
pub(super) struct Vendor {
    api: Box<dyn Api>,
    /// Of the id, then of the attribute's name.
    templates: Templates,
    has_attribute: bool,
    item_bytes: Option<u64>,
}

impl Vendor {
    /// `target`'s templates were checked when the job was read.
    pub fn new(target: &VendorTarget) -> Vendor {
        let api: Box<dyn Api> = match &target.api {
            VendorApi::Segment { call, id_type } | VendorApi::Rudderstack { call, id_type } => {
                Box::new(Segment { call: *call, id_type: *id_type })
            }
            VendorApi::Braze { shape, id_type } => Box::new(Braze { shape: *shape, id_type: *id_type }),
            VendorApi::Iterable { lists, id_type } => Box::new(Iterable { lists: lists.clone(), id_type: *id_type }),
            VendorApi::Customerio { shape, id_type, .. } => {
                Box::new(Customerio { shape: shape.clone(), id_type: *id_type })
            }
        };
        let id = target.id.as_ref().map_or("{{ key }}", |text| &text.value);
        let attribute = target.attribute.as_ref().map_or("{{ audience.id }}", |text| &text.value);
        let templates = Templates::new([id, attribute].into_iter()).unwrap_or_else(|(_, error)| {
            panic!("a template was not checked when the job was read: {error}");
        });
        let (has_attribute, item_bytes) = (target.api.has_attribute(), target.api.limits().item_bytes);
        Vendor { api, templates, has_attribute, item_bytes }
    }

    /// Returns the header with the key. None: it can't be one.
    pub fn authorization(api: &VendorApi, key: &str) -> Option<(HeaderName, HeaderValue)> {
        let basic = |text: &str| {
            use base64::Engine;
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
        };
        let (name, value) = match api {
            VendorApi::Segment { .. } | VendorApi::Rudderstack { .. } => (AUTHORIZATION, basic(&format!("{key}:"))),
            VendorApi::Braze { .. } => (AUTHORIZATION, format!("Bearer {key}")),
            VendorApi::Iterable { .. } => (HeaderName::from_static("api-key"), key.to_owned()),
            VendorApi::Customerio { site_id, .. } => (AUTHORIZATION, basic(&format!("{site_id}:{key}"))),
        };
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    }

    /// Returns the columns that a sync can't include, because items have members of these names.
    pub fn own_names(api: &VendorApi) -> &'static [&'static str] {
        match api {
            VendorApi::Segment { .. } | VendorApi::Rudderstack { .. } | VendorApi::Iterable { .. } => &[],
            VendorApi::Braze { .. } if api.is_event() => &[],
            VendorApi::Braze { .. } => &braze::OWN_NAMES,
            VendorApi::Customerio { .. } => &[],
        }
    }

    /// Returns the number of the requests that a change can be in: changes of one request have one number. `audience` is that of its
    /// audience.
    pub fn group(&self, audience: u32, kind: ChangeKind) -> u32 {
        match self.api.is_grouped() {
            true => 2 * audience + u32::from(kind == ChangeKind::Exit),
            false => 0,
        }
    }

    /// Returns the url of a request of a change's group, at a host.
    pub fn url(&self, host: &Url, audience: &str, kind: ChangeKind) -> Option<Url> {
        let base = host.as_str().trim_end_matches('/');
        Url::parse(&format!("{base}{}", self.api.path(audience, kind))).ok()
    }

    /// Appends what stands before the items of a request of a change's group.
    pub fn begin(&self, out: &mut Vec<u8>, audience: &str, kind: ChangeKind) {
        self.api.begin(out, audience, kind);
    }

    /// Returns what stands behind the items of a request.
    pub fn end(&self) -> &'static [u8] {
        self.api.end()
    }

    /// Appends what a change becomes. Returns the id of the change, and the person's.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        messages: &Messages,
        change: &Change,
        texts: ChangeTexts<'_>,
    ) -> Result<(MessageId, String), Unwritable> {
        let parts = messages.parts(change, texts);
        if !self.api.has_list(&parts.audience.id) {
            return Err(Unwritable::NoList(parts.audience.id.clone()));
        }
        let id = self.templates.text(0, &parts.context).ok_or(Unwritable::Template)?;
        let id = id.trim();
        if id.is_empty() {
            return Err(Unwritable::NoId);
        }
        let attribute = match self.has_attribute {
            true => self.templates.text(1, &parts.context).ok_or(Unwritable::Template)?,
            false => String::new(),
        };
        let start = out.len();
        let person = Person { id, attribute: attribute.trim(), parts: &parts, messages, change, texts };
        match self.api.item(&person) {
            Item::Object(object) => messages.write_object(out, object, &parts),
            Item::Id => Node::Text(id).write(out),
        }
        let bytes = out.len() - start;
        if let Some(most) = self.item_bytes.filter(|most| bytes as u64 > *most) {
            out.truncate(start);
            return Err(Unwritable::TooLarge(bytes, most));
        }
        Ok((parts.id, id.to_owned()))
    }

    /// Returns whether an answer of 2xx must be read to its end: it can refuse some items.
    pub fn answers_in_parts(&self) -> bool {
        self.api.answers_in_parts()
    }

    /// Reads an answer of 2xx to a request with the items of these persons. `None`: it is cut, or no JSON.
    pub fn read(&self, ids: &[String], kind: ChangeKind, answer: &[u8]) -> Option<Reading> {
        if !self.answers_in_parts() || answer.trim_ascii().is_empty() {
            return Some(Reading::Delivered);
        }
        let answer = serde_json::from_slice(answer).ok()?;
        let reading = self.api.read(ids, kind, &answer);
        Some(match reading {
            Reading::Refused(mut items) => {
                items.retain(|(place, _)| *place < ids.len());
                items.sort_by_key(|(place, _)| *place);
                items.dedup_by_key(|(place, _)| *place);
                if items.is_empty() { Reading::Unnamed } else { Reading::Refused(items) }
            }
            reading => reading,
        })
    }

    /// Returns how long an answer of too many requests asks to wait, besides by `Retry-After`.
    pub fn asks_to_wait(&self, headers: &HeaderMap, now: u64) -> Option<Duration> {
        self.api.asks_to_wait(headers, now)
    }
}

#[cfg(test)]
mod tests;
