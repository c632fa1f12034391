//! Builds destinations by HTTP.

use super::text;
use crate::schema::webhook as keys;
use crate::schema::{At, Fields, Key};
use crate::{Batch, HttpMethod, Place, PlacedSecret, Rate, Retry, Secret, VendorTarget, WebhookMode, WebhookTarget};
use std::collections::BTreeMap;

/// Stands for a url that is wrong or missing, which was reported.
pub(super) const SOME_URL: &str = "https://example.invalid";

/// Builds a webhook. What is wrong was reported: something that is right stands for it, so that the rest can be checked.
pub(super) fn target(fields: &Fields) -> WebhookTarget {
    WebhookTarget {
        secrets: fields.list(&keys::SECRET).into_iter().map(secret).collect(),
        method: fields.get(&keys::METHOD).unwrap_or(HttpMethod::Post),
        body: text(fields, &keys::BODY),
        batch: fields.get(&keys::BATCH).map(batch),
        gzip: fields.get(&keys::GZIP).unwrap_or_default(),
        ..delivery(
            fields,
            secret_or(fields, &keys::URL, SOME_URL),
            fields.get(&keys::MODE).unwrap_or(WebhookMode::Changes),
        )
    }
}

/// Returns a secret; for one that is wrong or missing, `stand_in`, with which nothing is wrong.
pub(super) fn secret_or(fields: &Fields, key: &Key<Secret>, stand_in: &str) -> PlacedSecret {
    let stand_in = || PlacedSecret { secret: Secret(stand_in.to_owned()), place: Place::default() };
    fields.at(key).map_or_else(stand_in, secret)
}

/// Builds the delivery to a destination by name, whose fields have the keys that it shares with webhooks.
pub(super) fn vendor_target(
    fields: &Fields,
    url: PlacedSecret,
    batch: Batch,
    rate: Option<Rate>,
    mode: WebhookMode,
    vendor: VendorTarget,
) -> WebhookTarget {
    WebhookTarget { rate, batch: Some(batch), vendor: Some(vendor), ..delivery(fields, url, mode) }
}

/// Builds a delivery by the keys that all destinations by HTTP share.
fn delivery(fields: &Fields, url: PlacedSecret, mode: WebhookMode) -> WebhookTarget {
    WebhookTarget {
        url,
        secrets: Vec::new(),
        method: HttpMethod::Post,
        headers: headers(fields),
        body: None,
        timeout: fields.get(&keys::TIMEOUT).unwrap_or_default(),
        concurrency: fields.get(&keys::CONCURRENCY).unwrap_or(keys::CONCURRENCY_DEFAULT),
        rate: fields.get(&keys::RATE_LIMIT),
        batch: None,
        retry: retry(fields),
        keep: fields.get(&keys::KEEP).unwrap_or_default(),
        keep_bytes: fields.get(&keys::KEEP_BYTES).unwrap_or_default(),
        mode,
        gzip: false,
        ca: text(fields, &keys::CA),
        deny_private: fields.get(&keys::DENY_PRIVATE).unwrap_or_default(),
        allow_http: fields.get(&keys::ALLOW_HTTP).unwrap_or(true),
        vendor: None,
    }
}

fn headers(fields: &Fields) -> BTreeMap<String, PlacedSecret> {
    let headers = fields.entries(&keys::HEADERS).into_iter();
    headers.filter_map(|entry| Some((entry.name.to_owned(), secret(entry.item?)))).collect()
}

pub(super) fn secret(secret: At<'_, &Secret>) -> PlacedSecret {
    PlacedSecret { secret: secret.value.clone(), place: secret.place.clone() }
}

fn batch(fields: &Fields) -> Batch {
    Batch {
        changes: fields.get(&keys::BATCH_CHANGES).unwrap_or(keys::BATCH_CHANGES_DEFAULT),
        bytes: fields.get(&keys::BATCH_BYTES).unwrap_or_default(),
        wait: fields.get(&keys::BATCH_WAIT).unwrap_or_default(),
    }
}

fn retry(fields: &Fields) -> Retry {
    let (first, most) = (keys::RETRY_FIRST_DEFAULT.ms(), keys::RETRY_MOST_DEFAULT.ms());
    match fields.get(&keys::RETRY).map(|retry| (retry.get(&keys::RETRY_FIRST), retry.get(&keys::RETRY_MOST))) {
        Some((Some(first), Some(most))) => Retry { first, most },
        _ => Retry { first, most },
    }
}
