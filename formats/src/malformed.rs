//! Why a message, or a value of one, is not read: what is wrong, and at which byte.

use std::fmt;

use usher_core::schemas::{SchemaId, SchemaKind};

/// A message, or a value of one, that can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong.
    pub what: What,
    /// The byte of the message where it shows, from 0.
    pub at: usize,
}

/// What can be wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The bytes are not UTF-8.
    NotUtf8,
    /// It starts as something else than an object, or something follows the object.
    NotOneObject,
    /// Something else was expected there, named as it is shown.
    Expected(&'static str),
    /// It nests deeper than [`DEPTH_MAX`](super::DEPTH_MAX).
    TooDeep,
    /// A needed string has an escape that stands for nothing, or a raw control character.
    BrokenString,
    /// A needed value is no number, `true`, `false` or `null`.
    BrokenNumber,
    /// It is not in the envelope that it is to be in: it has something, as it is shown.
    Envelope(&'static str),
    /// It does not fit the schema that wrote it: it has something, as it is shown.
    Unfit(&'static str),
    /// It names no schema, though its source has a registry.
    NoSchema,
    /// It names a schema that can't be had, or can't be read.
    UnknownSchema(SchemaId),
    /// It names a schema in another language than its source is in.
    OtherSchema(SchemaId, SchemaKind),
    /// A row has so many columns, which is not what its format has.
    Columns(usize),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at;
        match self.what {
            What::NotUtf8 => write!(f, "not UTF-8 at byte {at}"),
            What::NotOneObject => write!(f, "not one JSON object at byte {at}"),
            What::Expected(what) => write!(f, "not JSON: expected {what} at byte {at}"),
            What::TooDeep => write!(f, "deeper than {} levels at byte {at}", super::DEPTH_MAX),
            What::BrokenString => write!(f, "broken string at byte {at}"),
            What::Envelope(what) => write!(f, "not in its envelope: {what}"),
            What::Unfit(what) => write!(f, "does not fit its schema: {what} at byte {at}"),
            What::NoSchema => {
                f.write_str("it names no schema: neither its prefix nor the header `__value_schema_id` has an id")
            }
            What::UnknownSchema(id) => write!(f, "its schema {id} can't be had"),
            What::OtherSchema(id, kind) => {
                write!(f, "its schema {id} is in {kind}, and the source's `encoding` is not")
            }
            What::Columns(count) => {
                write!(f, "not a row of {} columns: it has {count}", super::snowplow::COLUMNS.len())
            }
            What::BrokenNumber => write!(f, "broken number or literal at byte {at}"),
        }
    }
}

impl std::error::Error for Malformed {}
