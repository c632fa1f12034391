//! What a request looks like: method, url, headers, body, and its signature.
//!
//! A body is a change's message, or what the sync's `body` makes of it; of a batch a JSON array of these. The id (`webhook-id`) is the
//! change's, of a batch a hash of theirs, so that an attempt has the id of those before. What is signed is the body before it is
//! compressed: receivers see it after their server has undone that.

use super::queue::Change;
use super::signature::{self, Key};
use super::target::Target;
use crate::messages::Messages;
use crate::messages::template::Templates;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Request};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::sync::Arc;
use url::Url;
use usher_config::SyncFormat;
use usher_core::change::{ChangeTexts, Changes, Recipients};
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
}

/// What is sent: all of an attempt but its time.
#[derive(Debug)]
pub(super) struct Content {
    pub id: String,
    url: Url,
    pub body: Vec<u8>,
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

    /// Appends what a request has of a change. Returns its id and url; `None` if a template fails on it.
    fn write(&self, change: &Change, audience: &Audience, body: &mut Vec<u8>) -> Option<(MessageId, Url)> {
        let mut one = Changes::new();
        let texts = ChangeTexts { key: &change.key, row: &change.row, previous_row: &change.previous_row };
        one.push_to(Recipients::All, change.at, audience.index, change.kind, change.reason, texts);
        let one = one.iter().next().expect("it was just pushed");
        if self.body.is_none() && !self.target.has_templates() {
            let id = audience.messages.write(body, one, texts);
            return Some((id, self.target.url(&minijinja::Value::UNDEFINED)?));
        }
        let (id, context) = audience.messages.context(one, texts);
        match &self.body {
            Some(templates) => body.extend_from_slice(templates.text(0, &context)?.as_bytes()),
            None => drop(audience.messages.write(body, one, texts)),
        }
        Some((id, self.target.url(&context)?))
    }

    /// Returns how many bytes a change has in a batch.
    pub fn bytes(&self, change: &Change, audience: &Audience) -> usize {
        let mut body = Vec::new();
        self.write(change, audience, &mut body);
        body.len() + 1
    }

    /// Returns the request of some changes, at least one; the error is the place of one that can't be written.
    pub fn content<'a>(
        &self,
        changes: &[Arc<Change>],
        audience: impl Fn(&Change) -> &'a Audience,
    ) -> Result<Content, usize> {
        let (mut body, mut ids, mut url) = (Vec::new(), Vec::with_capacity(changes.len()), None);
        if self.is_batch {
            body.push(b'[');
        }
        for (place, change) in changes.iter().enumerate() {
            if place > 0 {
                body.push(b',');
            }
            let (id, to) = self.write(change, audience(change), &mut body).ok_or(place)?;
            ids.push(id);
            url = Some(to);
        }
        if self.is_batch {
            body.push(b']');
        }
        let id = match &ids[..] {
            [id] => id.as_str().to_owned(),
            ids => batch_id(ids),
        };
        Ok(Content { id, url: url.expect("a request has a change"), body })
    }

    /// Returns an attempt of a request, at a time (ms since the epoch).
    pub fn attempt(&self, client: &Client, content: &Content, now: u64) -> Result<Request, reqwest::Error> {
        let timestamp = now / 1_000;
        let mut headers = self.headers.clone();
        let text = |text: &str| HeaderValue::from_str(text).expect("ids, numbers and base64 are ASCII");
        headers.insert(HeaderName::from_static("webhook-id"), text(&content.id));
        headers.insert(HeaderName::from_static("webhook-timestamp"), text(&timestamp.to_string()));
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
