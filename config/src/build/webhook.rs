//! Builds destinations by HTTP.

use super::text;
use crate::schema::webhook as keys;
use crate::schema::{At, Fields};
use crate::{Batch, HttpMethod, PlacedSecret, Rate, Retry, Secret, VendorTarget, WebhookMode, WebhookTarget};
use std::collections::BTreeMap;

pub(super) fn target(fields: &Fields) -> Option<WebhookTarget> {
    Some(WebhookTarget {
        secrets: fields.list(&keys::SECRET).into_iter().map(secret).collect(),
        method: fields.get(&keys::METHOD)?,
        body: text(fields, &keys::BODY),
        batch: match fields.get(&keys::BATCH) {
            Some(batch) => Some(self::batch(batch)?),
            None => None,
        },
        gzip: fields.get(&keys::GZIP)?,
        ..delivery(fields, secret(fields.at(&keys::URL)?), fields.get(&keys::MODE)?)?
    })
}

/// Builds the delivery to a destination by name, whose fields have the keys that it shares with webhooks.
pub(super) fn vendor_target(
    fields: &Fields,
    url: PlacedSecret,
    batch: Batch,
    rate: Option<Rate>,
    mode: WebhookMode,
    vendor: VendorTarget,
) -> Option<WebhookTarget> {
    Some(WebhookTarget { rate, batch: Some(batch), vendor: Some(vendor), ..delivery(fields, url, mode)? })
}

/// Builds a delivery by the keys that all destinations by HTTP share.
fn delivery(fields: &Fields, url: PlacedSecret, mode: WebhookMode) -> Option<WebhookTarget> {
    Some(WebhookTarget {
        url,
        secrets: Vec::new(),
        method: HttpMethod::Post,
        headers: headers(fields)?,
        body: None,
        timeout: fields.get(&keys::TIMEOUT)?,
        concurrency: fields.get(&keys::CONCURRENCY).unwrap_or(keys::CONCURRENCY_DEFAULT),
        rate: fields.get(&keys::RATE_LIMIT),
        batch: None,
        retry: retry(fields)?,
        keep: fields.get(&keys::KEEP)?,
        keep_bytes: fields.get(&keys::KEEP_BYTES)?,
        mode,
        gzip: false,
        ca: text(fields, &keys::CA),
        deny_private: fields.get(&keys::DENY_PRIVATE)?,
        allow_http: fields.get(&keys::ALLOW_HTTP)?,
        vendor: None,
    })
}

fn headers(fields: &Fields) -> Option<BTreeMap<String, PlacedSecret>> {
    let headers = fields.entries(&keys::HEADERS).into_iter();
    headers.map(|entry| Some((entry.name.to_owned(), secret(entry.item?)))).collect()
}

pub(super) fn secret(secret: At<'_, &Secret>) -> PlacedSecret {
    PlacedSecret { secret: secret.value.clone(), place: secret.place.clone() }
}

fn batch(fields: &Fields) -> Option<Batch> {
    Some(Batch {
        changes: fields.get(&keys::BATCH_CHANGES).unwrap_or(keys::BATCH_CHANGES_DEFAULT),
        bytes: fields.get(&keys::BATCH_BYTES)?,
        wait: fields.get(&keys::BATCH_WAIT)?,
    })
}

fn retry(fields: &Fields) -> Option<Retry> {
    match fields.get(&keys::RETRY) {
        Some(retry) => Some(Retry { first: retry.get(&keys::RETRY_FIRST)?, most: retry.get(&keys::RETRY_MOST)? }),
        None => Some(Retry { first: keys::RETRY_FIRST_DEFAULT.ms(), most: keys::RETRY_MOST_DEFAULT.ms() }),
    }
}
