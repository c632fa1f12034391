//! The keys of destinations by HTTP.

use super::{
    BOOLEAN, Bytes, Choice, Duration, Entries, Fields, Key, List, RATE, Record, SECRET as SECRET_TEXT, SECRET_URL,
    SIZE, TEMPLATE, TEXT, Type, by_name, choice, duration, one_or_more, optional, record, required, whole,
};
use crate::{HttpMethod, Rate, Secret, WebhookMode};

/// ms. A shorter timeout or retry would be one of this machine, not of the destination.
const LEAST_MS: u64 = 10;
/// ms. A longer timeout holds a key for nothing.
const TIMEOUT_MAX: u64 = 600_000;
/// ms. Between two retries never more than a day.
const RETRY_MAX: u64 = 86_400_000;
/// Requests on their way: each is a connection.
const CONCURRENCY_MAX: u32 = 1_024;
/// Changes of a request: no destination that is known takes more.
const BATCH_MAX: u32 = 10_000;

/// Requests on their way where the file has no number.
pub(crate) const CONCURRENCY_DEFAULT: u32 = 16;
/// Changes of a request where the file has `batch` and no number.
pub(crate) const BATCH_CHANGES_DEFAULT: u32 = 100;
/// How long a change of a batch waits for others where the file does not set it.
pub(crate) const BATCH_WAIT_DEFAULT: Duration = Duration::seconds(1);

static ONE_SECRET: Type<Secret> = SECRET_TEXT;

pub(crate) static URL: Key<Secret> = required(
    "url",
    SECRET_URL,
    "Where requests go: `https`, or `http` to this machine. Path and query may have templates. User, password and query are \
     never shown.",
);
pub(crate) static SECRET: Key<List<Secret>> = optional(
    "secret",
    one_or_more(&ONE_SECRET),
    "`whsec_` and base64 of 24 to 64 bytes: signs requests as Standard Webhooks are. All of a list sign, for as long as keys \
     rotate. Default: nothing is signed.",
);
pub(crate) static METHOD: Key<HttpMethod> =
    optional("method", choice(), "The method of requests.").default(HttpMethod::Post);
pub(crate) static HEADERS: Key<Entries<Secret>> =
    optional("headers", by_name(&ONE_SECRET), "Headers of each request. Their values are never shown.");
pub(crate) static BODY: Key<String> =
    optional("body", TEMPLATE, "A template of the body. Default: the message in the sync's `format`.");
pub(crate) static TIMEOUT: Key<Duration> =
    optional("timeout", duration(LEAST_MS, TIMEOUT_MAX), "How long a request may take, up to the end of its answer.")
        .default(Duration::seconds(15));
pub(crate) static CONCURRENCY: Key<u32> =
    optional("concurrency", whole(1, CONCURRENCY_MAX), "Requests on their way at the same time. Default: 16.");
pub(crate) static RATE_LIMIT: Key<Rate> = optional(
    "rate",
    RATE,
    "Requests in a second, minute or hour, as in `100/s`. Default: any number; of a vendor's API its limit.",
);
pub(crate) static BATCH: Key<Fields> = optional(
    "batch",
    record(&BATCH_RECORD),
    "Sends several changes in one request, as a JSON array. Default: one change a request, at once.",
);
pub(crate) static RETRY: Key<Fields> =
    optional("retry", record(&RETRY_RECORD), "When an attempt that failed is made again.");
pub(crate) static KEEP: Key<Duration> = optional(
    "keep",
    duration(1_000, u64::MAX),
    "How long a change waits at most, from its commit; then it is a dead letter.",
)
.default(Duration::days(7));
pub(crate) static KEEP_BYTES: Key<Bytes> =
    optional("keep_bytes", SIZE, "How much waits at most; beyond it the oldest changes are dead letters.")
        .default(Bytes(10 << 30));
pub(crate) static MODE: Key<WebhookMode> = optional(
    "mode",
    choice(),
    "What is sent after an outage: all `changes`, or the `state`: what differs from what the destination holds.",
)
.default(WebhookMode::Changes);
pub(crate) static GZIP: Key<bool> = optional("gzip", BOOLEAN, "Whether bodies are compressed.").default(false);
pub(crate) static CA: Key<String> = optional(
    "ca",
    TEXT,
    "A file of certificates in PEM, relative to the job file's folder, that sign the destination's. Default: the system's.",
);
pub(crate) static DENY_PRIVATE: Key<bool> =
    optional("deny_private", BOOLEAN, "Whether destinations in private networks are refused.").default(false);
pub(crate) static ALLOW_HTTP: Key<bool> =
    optional("allow_http", BOOLEAN, "Whether `http` is allowed to other machines than this one.").default(false);

/// A destination by HTTP.
pub(crate) static RECORD: Record = Record {
    what: "webhook",
    keys: &[
        &URL,
        &SECRET,
        &METHOD,
        &HEADERS,
        &BODY,
        &TIMEOUT,
        &CONCURRENCY,
        &RATE_LIMIT,
        &BATCH,
        &RETRY,
        &KEEP,
        &KEEP_BYTES,
        &MODE,
        &GZIP,
        &CA,
        &DENY_PRIVATE,
        &ALLOW_HTTP,
    ],
    rules: &[],
};

pub(crate) static BATCH_CHANGES: Key<u32> =
    optional("changes", whole(1, BATCH_MAX), "Changes of a request at most. Default: 100.");
pub(crate) static BATCH_BYTES: Key<Bytes> =
    optional("bytes", SIZE, "Bytes of a body at most; a single change may be larger.").default(Bytes(256 << 10));
pub(crate) static BATCH_WAIT: Key<Duration> =
    optional("wait", duration(0, 3_600_000), "How long a change waits for others at most.").default(BATCH_WAIT_DEFAULT);

static BATCH_RECORD: Record =
    Record { what: "`batch`", keys: &[&BATCH_CHANGES, &BATCH_BYTES, &BATCH_WAIT], rules: &[] };

pub(crate) const RETRY_FIRST_DEFAULT: Duration = Duration::seconds(1);
pub(crate) const RETRY_MOST_DEFAULT: Duration = Duration::minutes(10);

pub(crate) static RETRY_FIRST: Key<Duration> = optional(
    "first",
    duration(LEAST_MS, RETRY_MAX),
    "How long until the first retry at most. It is doubled each time, and a random part of it is waited.",
)
.default(RETRY_FIRST_DEFAULT);
pub(crate) static RETRY_MOST: Key<Duration> =
    optional("most", duration(LEAST_MS, RETRY_MAX), "How long until any retry at most.").default(RETRY_MOST_DEFAULT);

static RETRY_RECORD: Record = Record { what: "`retry`", keys: &[&RETRY_FIRST, &RETRY_MOST], rules: &[] };

impl Choice for HttpMethod {
    const WHAT: &'static str = "method";
    const ALL: &'static [HttpMethod] = &[HttpMethod::Post, HttpMethod::Put, HttpMethod::Patch, HttpMethod::Delete];

    fn word(self) -> &'static str {
        self.name()
    }
}

impl Choice for WebhookMode {
    const WHAT: &'static str = "`mode`";
    const ALL: &'static [WebhookMode] = &[WebhookMode::Changes, WebhookMode::State];

    fn word(self) -> &'static str {
        match self {
            WebhookMode::Changes => "changes",
            WebhookMode::State => "state",
        }
    }
}
