//! The keys of the file's top level.

use super::{
    AnyKey, Entries, Fields, ID, Key, List, Record, TEXT, Type, audience, by_id, destination, event, model,
    one_or_more, optional, process, record, required, source, sync,
};

pub(crate) static NAME: Key<String> = required("job", ID, "The job's name: an id.");
pub(crate) static INCLUDE: Key<List<String>> = optional(
    "include",
    one_or_more(&TEXT),
    "Files with more sources, models, events, audiences and syncs: globs relative to the job file's folder.",
);
pub(crate) static SOURCES: Key<Entries<Fields>> = optional("sources", by_id(&SOURCE), "Streams of messages, by id.");
pub(crate) static MODELS: Key<Entries<Fields>> = optional("models", by_id(&MODEL), "Tables of the warehouse, by id.");
pub(crate) static EVENTS: Key<Entries<Fields>> =
    optional("events", by_id(&EVENT), "Named, typed views on the messages of a source, by id.");
pub(crate) static AUDIENCES: Key<Entries<Fields>> =
    optional("audiences", by_id(&AUDIENCE), "Trees of conditions over one model, by id.");
pub(crate) static SYNCS: Key<Entries<Fields>> =
    optional("syncs", by_id(&SYNC), "Where changes of audiences are sent, by id.");
pub(crate) static DEAD_LETTERS: Key<Fields> = optional(
    "dead_letters",
    record(&destination::DEAD_LETTERS),
    "Where messages go that can't be read. Default: counted and sampled in the log.",
);
pub(crate) static STATE: Key<Fields> = optional(
    "state",
    record(&process::STATE),
    "Where durable state is kept. Default: `usher-state/<job>` beside the job file.",
);
pub(crate) static API: Key<Fields> = optional("api", record(&process::API), "The HTTP API. Default: there is none.");
pub(crate) static CLUSTER: Key<Fields> =
    optional("cluster", record(&process::CLUSTER), "How the processes of a cluster wait for each other.");
pub(crate) static LIMITS: Key<Fields> = optional("limits", record(&process::LIMITS), "Bounds.");

/// The whole file.
pub(crate) static RECORD: Record = Record {
    what: "job",
    keys: &[
        &NAME,
        &INCLUDE,
        &SOURCES,
        &MODELS,
        &EVENTS,
        &AUDIENCES,
        &SYNCS,
        &DEAD_LETTERS,
        &STATE,
        &API,
        &CLUSTER,
        &LIMITS,
    ],
    rules: &[],
};

/// The sections that an included file may have.
pub(crate) static SECTIONS: [&dyn AnyKey; 5] = [&SOURCES, &MODELS, &EVENTS, &AUDIENCES, &SYNCS];

static SOURCE: Type<Fields> = record(&source::RECORD);
static MODEL: Type<Fields> = record(&model::RECORD);
static EVENT: Type<Fields> = record(&event::RECORD);
static AUDIENCE: Type<Fields> = record(&audience::RECORD);
static SYNC: Type<Fields> = record(&sync::RECORD);
