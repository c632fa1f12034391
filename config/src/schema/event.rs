//! The keys of events.

use super::model::COLUMN_TYPE;
use super::{
    DESCRIPTION, Entries, Key, List, PATH, PREDICATE, Record, Reference, Section, Short, TEXT, Type, by_name, choice,
    one_or_more, optional, reference, required, short,
};
use crate::{ColumnType, Path};
use usher_core::time::Unit;

pub(crate) static LABEL: Key<String> = optional("label", TEXT, "Its name, for people.");
pub(crate) static SOURCES: Key<List<Reference>> = required(
    "source",
    one_or_more(&SOURCE),
    "The source's id, or a list of ids, as of files that backfill a topic. Messages of several sources with the same id \
     and key are one event.",
);
pub(crate) static TYPE: Key<String> = optional("type", TEXT, "The messages' type. Default: any.");
pub(crate) static NAMES: Key<List<String>> =
    optional("name", one_or_more(&TEXT), "The messages' name, or a list of names. Default: any.");
pub(crate) static WHERE: Key<String> =
    optional("where", PREDICATE, "A predicate on the properties that all conditions on this event share.");
pub(crate) static MODEL: Key<Reference> = required("model", reference(Section::Model), "The parent model's id.");
pub(crate) static FOREIGN_KEY: Key<Path> =
    optional("foreign_key", PATH, "The path of the parent model's key. Default: the format's user id.");
pub(crate) static TIMESTAMP: Key<Path> =
    optional("timestamp", PATH, "The path of the time. Default: the format's event time.");
pub(crate) static PROPERTIES: Key<Entries<Short<ColumnType>>> =
    optional("properties", by_name(&PROPERTY), "Columns, by name.");

/// An event.
pub(crate) static RECORD: Record = Record {
    what: "event",
    keys: &[&LABEL, &DESCRIPTION, &SOURCES, &TYPE, &NAMES, &WHERE, &MODEL, &FOREIGN_KEY, &TIMESTAMP, &PROPERTIES],
    rules: &[],
};

static SOURCE: Type<Reference> = reference(Section::Source);

static PROPERTY: Type<Short<ColumnType>> = short(&COLUMN_TYPE, &PROPERTY_RECORD);

pub(crate) static PROPERTY_PATH: Key<Path> =
    optional("path", PATH, "Where in the message it is. Default: `properties.` and its name.");
pub(crate) static PROPERTY_TYPE: Key<ColumnType> = required("type", choice(), "Its type.");

pub(crate) static PROPERTY_UNIT: Key<Unit> =
    optional("unit", choice(), "Of a timestamp: what its numbers count. Default: ms, or seconds below 10^11.");

static PROPERTY_RECORD: Record =
    Record { what: "property", keys: &[&PROPERTY_PATH, &PROPERTY_TYPE, &PROPERTY_UNIT], rules: &[] };
