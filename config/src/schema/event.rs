//! The keys of events.

use super::model::COLUMN_TYPE;
use super::{
    DESCRIPTION, Entries, Key, PATH, Record, Reference, Section, Short, TEXT, Type, by_name, choice, optional,
    reference, required, short,
};
use crate::{ColumnType, Path};
use usher_core::time::Unit;

pub(crate) static LABEL: Key<String> = optional("label", TEXT, "Its name, for people.");
pub(crate) static SOURCE: Key<Reference> = required("source", reference(Section::Source), "The source's id.");
pub(crate) static TYPE: Key<String> = optional("type", TEXT, "The messages' type. Default: any.");
pub(crate) static NAME: Key<String> = optional("name", TEXT, "The messages' name. Default: any.");
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
    keys: &[&LABEL, &DESCRIPTION, &SOURCE, &TYPE, &NAME, &MODEL, &FOREIGN_KEY, &TIMESTAMP, &PROPERTIES],
    rules: &[],
};

static PROPERTY: Type<Short<ColumnType>> = short(&COLUMN_TYPE, &PROPERTY_RECORD);

pub(crate) static PROPERTY_PATH: Key<Path> =
    optional("path", PATH, "Where in the message it is. Default: `properties.` and its name.");
pub(crate) static PROPERTY_TYPE: Key<ColumnType> = required("type", choice(), "Its type.");

pub(crate) static PROPERTY_UNIT: Key<Unit> =
    optional("unit", choice(), "Of a timestamp: what its numbers count. Default: ms, or seconds below 10^11.");

static PROPERTY_RECORD: Record =
    Record { what: "property", keys: &[&PROPERTY_PATH, &PROPERTY_TYPE, &PROPERTY_UNIT], rules: &[] };
