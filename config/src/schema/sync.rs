//! The keys of syncs.

use super::destination::DESTINATION;
use super::{
    BOOLEAN, Choice, Choices, DESCRIPTION, Duration, Entries, Fields, Key, List, Record, Reference, Section, TEMPLATE,
    TEXT, Type, by_name, choice, choices, duration, optional, record, reference, required, set, whole,
};
use crate::{Delivery, OnRemove, SyncFormat};

/// More partitions than any topic has: a greater number is a typing error.
const PARTITIONS_MAX: u32 = 100_000;
/// ms. By default Kafka aborts a transaction that is open for a minute.
const COMMIT_EVERY_MAX: u64 = 30_000;
/// How often the transactions of a sync to Kafka are committed where the file does not set it: short enough for people
/// who wait for a change, long enough to keep transactions rare.
pub(crate) const COMMIT_EVERY_DEFAULT: Duration = Duration::millis(100);

pub(crate) static AUDIENCES: Key<List<Reference>> =
    optional("audiences", set(&AUDIENCE), "The audiences whose changes are sent. Default: all.");
pub(crate) static SEND: Key<Choices<Change>> =
    optional("send", choices(), "Which changes are sent. An update is a change of an included column of a member.")
        .default(&[Change::Entry, Change::Exit]);
pub(crate) static FORMAT: Key<SyncFormat> =
    optional("format", choice(), "The messages' format.").default(SyncFormat::Usher);
pub(crate) static INCLUDE: Key<List<String>> =
    optional("include", set(&TEXT), "Columns of the member's row that messages carry. Default: none.");
pub(crate) static EVENT_NAMES: Key<Fields> = optional(
    "event_names",
    record(&EVENT_NAMES_RECORD),
    "What messages call an entry, an exit and an update. Default: as the format does.",
);
pub(crate) static FIELDS: Key<Entries<String>> =
    optional("fields", by_name(&TEMPLATE), "Templates by the dotted path of the field that each fills.");
pub(crate) static BACKFILL: Key<bool> = optional(
    "backfill",
    BOOLEAN,
    "Whether a new sync receives an entry for each present member. If not, it receives only later changes.",
)
.default(true);
pub(crate) static ON_REMOVE: Key<OnRemove> =
    optional("on_remove", choice(), "What happens to the members of an audience that the sync no longer has.")
        .default(OnRemove::Exit);
pub(crate) static TO: Key<Fields> = required("to", record(&DESTINATION), "The destination of the changes.");
pub(crate) static PARTITIONS: Key<u32> = optional(
    "partitions",
    whole(1, PARTITIONS_MAX),
    "Creates Kafka's topic with this number of partitions if it is missing. Default: the topic must exist.",
);
pub(crate) static DELIVERY: Key<Delivery> = optional(
    "delivery",
    choice(),
    "How often a change may be delivered. Default: `exactly_once` with Kafka, else `at_least_once`.",
);
pub(crate) static COMMIT_EVERY: Key<Duration> =
    optional("commit_every", duration(1, COMMIT_EVERY_MAX), "How often transactions of Kafka are committed.")
        .described_default(COMMIT_EVERY_DEFAULT);

/// A sync.
pub(crate) static RECORD: Record = Record {
    what: "sync",
    keys: &[
        &DESCRIPTION,
        &AUDIENCES,
        &SEND,
        &FORMAT,
        &INCLUDE,
        &EVENT_NAMES,
        &FIELDS,
        &BACKFILL,
        &ON_REMOVE,
        &TO,
        &PARTITIONS,
        &DELIVERY,
        &COMMIT_EVERY,
    ],
    rules: &[],
};

static AUDIENCE: Type<Reference> = reference(Section::Audience);

pub(crate) static ENTRY_NAME: Key<String> = optional("entry", TEXT, "What messages call an entry.");
pub(crate) static EXIT_NAME: Key<String> = optional("exit", TEXT, "What messages call an exit.");
pub(crate) static UPDATE_NAME: Key<String> = optional("update", TEXT, "What messages call an update.");

static EVENT_NAMES_RECORD: Record =
    Record { what: "`event_names`", keys: &[&ENTRY_NAME, &EXIT_NAME, &UPDATE_NAME], rules: &[] };

/// A kind of change that a sync sends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Entry,
    Exit,
    Update,
}

impl Choice for Change {
    const WHAT: &'static str = "`send`";
    const ALL: &'static [Change] = &[Change::Entry, Change::Exit, Change::Update];

    fn word(self) -> &'static str {
        match self {
            Change::Entry => "entry",
            Change::Exit => "exit",
            Change::Update => "update",
        }
    }
}

impl Choice for SyncFormat {
    const WHAT: &'static str = "sync format";
    const ALL: &'static [SyncFormat] = &[SyncFormat::Usher, SyncFormat::Cloudevents, SyncFormat::Segment];

    fn word(self) -> &'static str {
        match self {
            SyncFormat::Usher => "usher",
            SyncFormat::Cloudevents => "cloudevents",
            SyncFormat::Segment => "segment",
        }
    }
}

impl Choice for OnRemove {
    const WHAT: &'static str = "`on_remove`";
    const ALL: &'static [OnRemove] = &[OnRemove::Exit, OnRemove::Forget];

    fn word(self) -> &'static str {
        match self {
            OnRemove::Exit => "exit",
            OnRemove::Forget => "forget",
        }
    }
}

impl Choice for Delivery {
    const WHAT: &'static str = "`delivery`";
    const ALL: &'static [Delivery] = &[Delivery::ExactlyOnce, Delivery::AtLeastOnce];

    fn word(self) -> &'static str {
        match self {
            Delivery::ExactlyOnce => "exactly_once",
            Delivery::AtLeastOnce => "at_least_once",
        }
    }
}
