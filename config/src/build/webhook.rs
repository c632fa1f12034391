//! Builds destinations by HTTP.

use super::text;
use crate::schema::webhook as keys;
use crate::schema::{At, Fields};
use crate::{Batch, PlacedSecret, Retry, Secret, WebhookTarget};

pub(super) fn target(fields: &Fields) -> Option<WebhookTarget> {
    let headers = fields.entries(&keys::HEADERS).into_iter();
    let headers = headers.map(|entry| Some((entry.name.to_owned(), secret(entry.item?))));
    Some(WebhookTarget {
        url: secret(fields.at(&keys::URL)?),
        secrets: fields.list(&keys::SECRET).into_iter().map(secret).collect(),
        method: fields.get(&keys::METHOD)?,
        headers: headers.collect::<Option<_>>()?,
        body: text(fields, &keys::BODY),
        timeout: fields.get(&keys::TIMEOUT)?,
        concurrency: fields.get(&keys::CONCURRENCY).unwrap_or(keys::CONCURRENCY_DEFAULT),
        rate: fields.get(&keys::RATE_LIMIT),
        batch: match fields.get(&keys::BATCH) {
            Some(batch) => Some(self::batch(batch)?),
            None => None,
        },
        retry: match fields.get(&keys::RETRY) {
            Some(retry) => self::retry(retry)?,
            None => Retry { first: keys::RETRY_FIRST_DEFAULT.ms(), most: keys::RETRY_MOST_DEFAULT.ms() },
        },
        keep: fields.get(&keys::KEEP)?,
        keep_bytes: fields.get(&keys::KEEP_BYTES)?,
        mode: fields.get(&keys::MODE)?,
        gzip: fields.get(&keys::GZIP)?,
        ca: text(fields, &keys::CA),
        deny_private: fields.get(&keys::DENY_PRIVATE)?,
        allow_http: fields.get(&keys::ALLOW_HTTP)?,
    })
}

fn secret(secret: At<'_, &Secret>) -> PlacedSecret {
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
    Some(Retry { first: fields.get(&keys::RETRY_FIRST)?, most: fields.get(&keys::RETRY_MOST)? })
}
