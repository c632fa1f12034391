//! What a request looks like: method, url, headers, body, and its signature.
//!
//! A body is a change's message, or what the sync's `body` makes of it; of a batch a JSON array of these. The id (`webhook-id`) is the
//! change's, of a batch a hash of theirs, so that an attempt has the id of those before. What is signed is the body before it is
//! compressed: receivers see it after their server has undone that.
//!
//! A destination by name has requests of its [vendor](super::vendor), without ids and signatures in headers.

use super::queue::Change;
use super::signature::{self, Key};
use super::target::Target;
use super::vendor::{Reading, Unwritable, Vendor};
use crate::messages::Messages;
use crate::messages::template::Templates;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Request};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use url::Url;
use usher_config::SyncFormat;
use usher_core::change::{ChangeKind, ChangeTexts, Changes, Recipients};
use usher_core::message::MessageId;

/// Headers that are not the author's to set.
pub(super) const OWN_HEADERS: [&str; 7] = [
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "host",
];

/// How the messages of an audience are written.
#[derive(Clone, Debug)]
pub(super) struct Audience {
    pub messages: Arc<Messages>,
    /// As `messages` number it.
    pub index: u32,
}

/// How the requests of a sync are written.
#[derive(Debug)]
pub(super) struct Requests {
    pub target: Target,
    pub method: Method,
    pub headers: HeaderMap,
    pub keys: Vec<Key>,
    pub body: Option<Templates>,
    pub is_batch: bool,
    pub gzip: bool,
    /// Of a destination by name.
    pub vendor: Option<Vendor>,
}

/// What is sent: all of an attempt but its time.
#[derive(Debug)]
pub(super) struct Content {
    pub id: String,
    url: Url,
    pub body: Vec<u8>,
    /// Of a destination by name: what its answer is read by.
    pub asked: Asked,
}

/// What a request of a destination by name asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// The persons' ids, by item.
    ids: Vec<String>,
    kind: ChangeKind,
}

/// Where what a request has of a change goes.
enum To {
    Url(Url),
    /// To a vendor: the person's id.
    Person(String),
}

impl Requests {
    /// Returns the type of bodies in a format.
    pub fn content_type(format: SyncFormat, is_batch: bool) -> &'static str {
        match (format, is_batch) {
            (SyncFormat::Cloudevents, false) => "application/cloudevents+json; charset=UTF-8",
            (SyncFormat::Cloudevents, true) => "application/cloudevents-batch+json; charset=UTF-8",
            _ => "application/json",
        }
    }

    /// Returns the number of the requests that a change can be in: changes of one request have one number. `audience` is that of its
    /// audience.
    pub fn group(&self, audience: u32, kind: ChangeKind) -> u32 {
        self.vendor.as_ref().map_or(0, |vendor| vendor.group(audience, kind))
    }

    /// Appends what a request has of a change. Returns its id, and the url; of a destination by name, whose url is that of the group,
    /// the person's id in its place.
    fn write(&self, change: &Change, audience: &Audience, body: &mut Vec<u8>) -> Result<(MessageId, To), Unwritable> {
        let mut one = Changes::new();
        let texts = ChangeTexts { key: &change.key, row: &change.row, previous_row: &change.previous_row };
        one.push_to(Recipients::All, change.at, audience.index, change.kind, change.reason, texts);
        let one = one.iter().next().expect("it was just pushed");
        let messages = &audience.messages;
        if let Some(vendor) = &self.vendor {
            let (id, person) = vendor.write(body, messages, one, texts)?;
            return Ok((id, To::Person(person)));
        }
        if self.body.is_none() && !self.target.has_templates() {
            let id = messages.write(body, one, texts);
            return Ok((id, To::Url(self.target.url(&minijinja::Value::UNDEFINED).ok_or(Unwritable::Template)?)));
        }
        let (id, context) = messages.context(one, texts);
        match &self.body {
            Some(templates) => {
                let text = templates.text(0, &context).ok_or(Unwritable::Template)?;
                body.extend_from_slice(text.as_bytes());
            }
            None => drop(messages.write(body, one, texts)),
        }
        Ok((id, To::Url(self.target.url(&context).ok_or(Unwritable::Template)?)))
    }

    /// Returns how many bytes a change has in a batch.
    pub fn bytes(&self, change: &Change, audience: &Audience) -> usize {
        let mut body = Vec::new();
        // One that can't be written has none: it is found when its request is written.
        let _unwritable = self.write(change, audience, &mut body);
        body.len() + 1
    }

    /// Returns the request of some changes of one [group](Self::group), at least one; the error is the place of one that can't be written,
    /// and why.
    pub fn content<'a>(
        &self,
        changes: &[Arc<Change>],
        audience: impl Fn(&Change) -> &'a Audience,
    ) -> Result<Content, (usize, Unwritable)> {
        let (mut body, mut ids, mut url) = (Vec::new(), Vec::with_capacity(changes.len()), None);
        let mut asked = Asked { ids: Vec::new(), kind: ChangeKind::Entry };
        let mut items = Vec::new();
        for (place, change) in changes.iter().enumerate() {
            if place > 0 {
                items.push(b',');
            }
            let (id, to) = self.write(change, audience(change), &mut items).map_err(|reason| (place, reason))?;
            ids.push(id);
            asked.kind = change.kind;
            match to {
                To::Url(to) => url = Some(to),
                To::Person(person) => asked.ids.push(person),
            }
        }
        match (&self.vendor, changes.first()) {
            (Some(vendor), Some(first)) => {
                let audience = audience(first);
                let id = audience.messages.audience_id(audience.index);
                let host = self.target.url(&minijinja::Value::UNDEFINED);
                url = Some(host.and_then(|host| vendor.url(&host, id, first.kind)).ok_or((0, Unwritable::Template))?);
                vendor.begin(&mut body, id, first.kind);
                body.append(&mut items);
                body.extend_from_slice(vendor.end());
            }
            _ if self.is_batch => {
                body.push(b'[');
                body.append(&mut items);
                body.push(b']');
            }
            _ => body = items,
        }
        let id = match &ids[..] {
            [id] => id.as_str().to_owned(),
            ids => batch_id(ids),
        };
        Ok(Content { id, url: url.expect("a request has a change"), body, asked })
    }

    /// Returns whether an answer of 2xx must be read to its end: it can refuse some of the request's changes.
    pub fn answers_in_parts(&self) -> bool {
        self.vendor.as_ref().is_some_and(Vendor::answers_in_parts)
    }

    /// Reads an answer of 2xx. `None`: it is cut, or not what the vendor documents.
    pub fn read(&self, asked: &Asked, answer: &[u8]) -> Option<Reading> {
        self.vendor.as_ref().map_or(Some(Reading::Delivered), |vendor| vendor.read(&asked.ids, asked.kind, answer))
    }

    /// Returns how long an answer asks to wait, besides by `Retry-After`; `now` is ms since the epoch.
    pub fn asks_to_wait(&self, headers: &HeaderMap, now: u64) -> Option<Duration> {
        self.vendor.as_ref().and_then(|vendor| vendor.asks_to_wait(headers, now))
    }

    /// Returns an attempt of a request, at a time (ms since the epoch).
    pub fn attempt(&self, client: &Client, content: &Content, now: u64) -> Result<Request, reqwest::Error> {
        let timestamp = now / 1_000;
        let mut headers = self.headers.clone();
        let text = |text: &str| HeaderValue::from_str(text).expect("ids, numbers and base64 are ASCII");
        if self.vendor.is_none() {
            headers.insert(HeaderName::from_static("webhook-id"), text(&content.id));
            headers.insert(HeaderName::from_static("webhook-timestamp"), text(&timestamp.to_string()));
        }
        if !self.keys.is_empty() {
            let signature = signature::header(&self.keys, &content.id, timestamp, &content.body);
            headers.insert(HeaderName::from_static("webhook-signature"), text(&signature));
        }
        let body = if self.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            compressed(&content.body)
        } else {
            content.body.clone()
        };
        // The builder makes user and password of the url a header.
        client.request(self.method.clone(), content.url.clone()).headers(headers).body(body).build()
    }
}

/// Returns the id of a batch: a hash of its ids, in their order.
fn batch_id(ids: &[MessageId]) -> String {
    let mut hash = Sha256::new();
    for id in ids {
        hash.update(id.as_str().as_bytes());
    }
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn compressed(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("memory takes all that is written")
}
