//! The keys of destinations by name: what each vendor's API needs, and those of the delivery, which all share with webhooks.

use super::webhook::{
    ALLOW_HTTP, BATCH_WAIT, CA, CONCURRENCY, DENY_PRIVATE, HEADERS, KEEP, KEEP_BYTES, RATE_LIMIT, RETRY, TIMEOUT,
};
use super::{
    Bytes, Choice, Entries, Fields, Key, Record, Rule, SECRET, SECRET_URL, SIZE, TEMPLATE, TEXT, Type, by_name, choice,
    optional, record, required, whole,
};
use crate::{
    BrazeId, BrazeShape, CustomerioId, CustomerioShape, IterableId, Region, Secret, SegmentCall, SegmentId, WebhookMode,
};

pub(crate) static WRITE_KEY: Key<Secret> = required("write_key", SECRET, "The write key of the source. Never shown.");
pub(crate) static API_KEY: Key<Secret> = required("api_key", SECRET, "The API key. Never shown.");
pub(crate) static SITE_ID: Key<String> = required("site_id", TEXT, "The site id of the workspace.");
pub(crate) static REGION: Key<Region> =
    optional("region", choice(), "Where the account is, which decides the host. Default: `us`.");
pub(crate) static URL: Key<Secret> = optional(
    "url",
    SECRET_URL,
    "The host in place of the vendor's, as in `https://proxy.example.com`. Its path is never shown.",
);
pub(crate) static OWN_URL: Key<Secret> = required(
    "url",
    SECRET_URL,
    "The host of the account's API: of Braze its REST endpoint, of RudderStack its data plane. Its path is never shown.",
);
pub(crate) static ID: Key<String> = optional(
    "id",
    TEMPLATE,
    "A template of the person's id, as in `{{ row.email | normalize_email }}`. A change without one is a dead letter. Default: the \
     member's key.",
);
pub(crate) static ATTRIBUTE: Key<String> = optional(
    "attribute",
    TEMPLATE,
    "A template of the name of the attribute that is true of members. Default: `{{ audience.id }}`.",
);
pub(crate) static CALL: Key<SegmentCall> =
    optional("as", choice(), "What a change becomes.").default(SegmentCall::Track);
pub(crate) static BRAZE_SHAPE: Key<BrazeShape> =
    optional("as", choice(), "What a change becomes.").default(BrazeShape::Attributes);
pub(crate) static CUSTOMERIO_SHAPE: Key<CustomerioShape> =
    optional("as", choice(), "What a change becomes. Default: `attributes`.");
pub(crate) static SEGMENT_ID_TYPE: Key<SegmentId> =
    optional("id_type", choice(), "What the id is.").default(SegmentId::UserId);
pub(crate) static BRAZE_ID_TYPE: Key<BrazeId> =
    optional("id_type", choice(), "What the id is.").default(BrazeId::ExternalId);
pub(crate) static ITERABLE_ID_TYPE: Key<IterableId> =
    optional("id_type", choice(), "What the id is.").default(IterableId::UserId);
pub(crate) static CUSTOMERIO_ID_TYPE: Key<CustomerioId> =
    optional("id_type", choice(), "What the id is.").default(CustomerioId::Id);
pub(crate) static LISTS: Key<Entries<u32>> =
    required("lists", by_name(&LIST), "The id of the static list of each audience of the sync.");
pub(crate) static SEGMENTS: Key<Entries<u32>> = optional(
    "segments",
    by_name(&LIST),
    "The id of the manual segment of each audience of the sync, in place of attributes.",
);
pub(crate) static MODE: Key<WebhookMode> = optional(
    "mode",
    choice(),
    "What is sent after an outage. Default: the `state` of attributes, traits and lists, all `changes` of events.",
);
pub(crate) static BATCH: Key<Fields> = optional(
    "batch",
    record(&BATCH_RECORD),
    "How many changes go in one request. Default: as many as the vendor takes.",
);

pub(crate) static BATCH_CHANGES: Key<u32> =
    optional("changes", whole(1, u32::MAX), "Changes of a request at most. Default: the vendor's limit.");
pub(crate) static BATCH_BYTES: Key<Bytes> =
    optional("bytes", SIZE, "Bytes of a body at most. Default: the vendor's limit.");

static LIST: Type<u32> = whole(1, u32::MAX);

static BATCH_RECORD: Record =
    Record { what: "a vendor's `batch`", keys: &[&BATCH_CHANGES, &BATCH_BYTES, &BATCH_WAIT], rules: &[] };

/// Returns a list of keys, with those of the delivery behind them.
macro_rules! with_delivery {
    ($($own:ident),*) => {
        &[
            $(&$own,)*
            &MODE,
            &BATCH,
            &RATE_LIMIT,
            &CONCURRENCY,
            &TIMEOUT,
            &RETRY,
            &KEEP,
            &KEEP_BYTES,
            &HEADERS,
            &CA,
            &DENY_PRIVATE,
            &ALLOW_HTTP,
        ]
    };
}

/// A source of Segment.
pub(crate) static SEGMENT: Record = Record {
    what: "segment",
    keys: with_delivery![WRITE_KEY, REGION, URL, CALL, ID, SEGMENT_ID_TYPE, ATTRIBUTE],
    rules: &[Rule::AtMostOne("host", &[&REGION, &URL])],
};

/// A source of RudderStack.
pub(crate) static RUDDERSTACK: Record = Record {
    what: "rudderstack",
    keys: with_delivery![WRITE_KEY, OWN_URL, CALL, ID, SEGMENT_ID_TYPE, ATTRIBUTE],
    rules: &[],
};

/// A workspace of Braze.
pub(crate) static BRAZE: Record = Record {
    what: "braze",
    keys: with_delivery![API_KEY, OWN_URL, BRAZE_SHAPE, ID, BRAZE_ID_TYPE, ATTRIBUTE],
    rules: &[],
};

/// A project of Iterable.
pub(crate) static ITERABLE: Record = Record {
    what: "iterable",
    keys: with_delivery![API_KEY, REGION, URL, LISTS, ID, ITERABLE_ID_TYPE],
    rules: &[Rule::AtMostOne("host", &[&REGION, &URL])],
};

/// A workspace of Customer.io.
pub(crate) static CUSTOMERIO: Record = Record {
    what: "customerio",
    keys: with_delivery![SITE_ID, API_KEY, REGION, URL, CUSTOMERIO_SHAPE, SEGMENTS, ID, CUSTOMERIO_ID_TYPE, ATTRIBUTE],
    rules: &[Rule::AtMostOne("host", &[&REGION, &URL]), Rule::AtMostOne("shape", &[&CUSTOMERIO_SHAPE, &SEGMENTS])],
};

impl Choice for Region {
    const WHAT: &'static str = "region";
    const ALL: &'static [Region] = &[Region::Us, Region::Eu];

    fn word(self) -> &'static str {
        match self {
            Region::Us => "us",
            Region::Eu => "eu",
        }
    }
}

impl Choice for SegmentCall {
    const WHAT: &'static str = "call";
    const ALL: &'static [SegmentCall] = &[SegmentCall::Track, SegmentCall::Identify];

    fn word(self) -> &'static str {
        match self {
            SegmentCall::Track => "track",
            SegmentCall::Identify => "identify",
        }
    }
}

impl Choice for BrazeShape {
    const WHAT: &'static str = "shape of Braze";
    const ALL: &'static [BrazeShape] = &[BrazeShape::Attributes, BrazeShape::Events];

    fn word(self) -> &'static str {
        match self {
            BrazeShape::Attributes => "attributes",
            BrazeShape::Events => "events",
        }
    }
}

impl Choice for CustomerioShape {
    const WHAT: &'static str = "shape of Customer.io";
    const ALL: &'static [CustomerioShape] = &[CustomerioShape::Attributes, CustomerioShape::Events];

    fn word(self) -> &'static str {
        match self {
            CustomerioShape::Attributes => "attributes",
            CustomerioShape::Events => "events",
        }
    }
}

impl Choice for SegmentId {
    const WHAT: &'static str = "id of Segment";
    const ALL: &'static [SegmentId] = &[SegmentId::UserId, SegmentId::AnonymousId];

    fn word(self) -> &'static str {
        self.name()
    }
}

impl Choice for BrazeId {
    const WHAT: &'static str = "id of Braze";
    const ALL: &'static [BrazeId] = &[BrazeId::ExternalId, BrazeId::BrazeId, BrazeId::Email, BrazeId::Phone];

    fn word(self) -> &'static str {
        self.name()
    }
}

impl Choice for IterableId {
    const WHAT: &'static str = "id of Iterable";
    const ALL: &'static [IterableId] = &[IterableId::UserId, IterableId::Email];

    fn word(self) -> &'static str {
        self.name()
    }
}

impl Choice for CustomerioId {
    const WHAT: &'static str = "id of Customer.io";
    const ALL: &'static [CustomerioId] = &[CustomerioId::Id, CustomerioId::Email, CustomerioId::CioId];

    fn word(self) -> &'static str {
        self.name()
    }
}
