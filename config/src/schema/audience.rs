//! The keys of audiences.

use super::condition::condition;
use super::{DESCRIPTION, Fields, Key, Record, Reference, Section, TEXT, optional, reference, required};

pub(crate) static NAME: Key<String> = optional("name", TEXT, "Its name, for people. Default: its id.");
pub(crate) static MODEL: Key<Reference> = required("model", reference(Section::Model), "The parent model's id.");
pub(crate) static WHERE: Key<Fields> = required("where", condition(), "The condition of membership.");

/// An audience.
pub(crate) static RECORD: Record =
    Record { what: "audience", keys: &[&NAME, &DESCRIPTION, &MODEL, &WHERE], rules: &[] };
