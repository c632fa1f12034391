//! The port to the schemas of a source whose messages name theirs by an id, and how a message names it.
//!
//! As clients of a Confluent-compatible registry write it, the id is in the header [`HEADER`], or else in front of the message: a byte 0
//! and a number in four bytes, the highest first; or a byte 1 and a GUID in 16 bytes. In the header the message itself is as it is. Behind
//! the id of Protobuf stands which message of the file it is, which this module passes on.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// The header that has the id of the value's schema.
pub const HEADER: &str = "__value_schema_id";

/// The id of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SchemaId {
    /// A number of one registry.
    Number(u32),
    /// A GUID, which is the same in all registries.
    Guid([u8; 16]),
}

impl fmt::Display for SchemaId {
    /// A number in digits; a GUID as texts have it, with hyphens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SchemaId::Number(number) => number.fmt(f),
            SchemaId::Guid(bytes) => bytes.iter().enumerate().try_for_each(|(index, byte)| {
                let hyphen = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
                write!(f, "{hyphen}{byte:02x}")
            }),
        }
    }
}

/// The language of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SchemaKind {
    /// Avro.
    Avro,
    /// Protobuf.
    Protobuf,
    /// JSON Schema.
    JsonSchema,
}

impl SchemaKind {
    /// Returns the language by the name that a registry has for it.
    pub fn of_registry(name: &str) -> Option<SchemaKind> {
        match name {
            "AVRO" => Some(SchemaKind::Avro),
            "PROTOBUF" => Some(SchemaKind::Protobuf),
            "JSON" => Some(SchemaKind::JsonSchema),
            _ => None,
        }
    }

    /// Returns the word of a job file.
    pub fn word(self) -> &'static str {
        match self {
            SchemaKind::Avro => "avro",
            SchemaKind::Protobuf => "protobuf",
            SchemaKind::JsonSchema => "json_schema",
        }
    }
}

impl fmt::Display for SchemaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SchemaKind::Avro => "Avro",
            SchemaKind::Protobuf => "Protobuf",
            SchemaKind::JsonSchema => "JSON Schema",
        })
    }
}

/// A schema as a registry has it, with all that it refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// Its language.
    pub kind: SchemaKind,
    /// Its text; of Protobuf also its descriptor in base64.
    pub text: String,
    /// What it refers to, each behind what it refers to itself.
    pub references: Vec<Reference>,
}

/// A schema that another one refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The name by which it is referred to: of Protobuf the import, of Avro the type.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// The schemas of a source.
///
/// A message whose schema is not known yet is not handed out by its source: so whoever has a message finds its schema, or why there is none.
pub trait Schemas: Send + Sync {
    /// Returns the schema of an id, or a clause why it has none. `None`: that is not known yet.
    fn find(&self, id: SchemaId) -> Option<Result<Arc<Schema>, Arc<str>>>;

    /// Returns what is known of it, for people.
    fn report(&self) -> SchemasReport;
}

impl fmt::Debug for dyn Schemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schemas")
    }
}

/// What is known of the schemas of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchemasReport {
    /// Why no schema can be had, where messages wait for one.
    pub waiting: Option<String>,
    /// Those that messages have named, by id: of each its language, or why there is none.
    pub seen: Vec<(SchemaId, Result<SchemaKind, String>)>,
}

/// How a message names its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// The id.
    pub id: SchemaId,
    /// What follows the id where the id is.
    pub rest: &'a [u8],
    /// Where the id is.
    pub place: IdPlace,
}

/// Where the id of a message's schema is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdPlace {
    /// In front of the message.
    Prefix,
    /// In its header.
    Header,
}

/// Returns how a message names its schema, by the value of its [`HEADER`] if it has one; `None` if it does not.
#[inline]
pub fn named<'a>(message: &'a [u8], header: Option<&'a [u8]>) -> Option<Named<'a>> {
    let (bytes, place) = match header.filter(|header| !header.is_empty()) {
        Some(header) => (header, IdPlace::Header),
        None => (message, IdPlace::Prefix),
    };
    let (version, bytes) = bytes.split_first()?;
    let (id, rest) = match version {
        0 => bytes.split_first_chunk().map(|(id, rest)| (SchemaId::Number(u32::from_be_bytes(*id)), rest))?,
        1 => bytes.split_first_chunk().map(|(id, rest)| (SchemaId::Guid(*id), rest))?,
        _ => return None,
    };
    Some(Named { id, rest, place })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: [u8; 16] = [0x89, 0x79, 0x1e, 0x3b, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

    #[test]
    fn an_id_is_in_the_header_or_in_front() {
        let prefixed = [&[0, 0, 1, 0, 2][..], b"x"].concat();
        let found = |id, rest, place| Some(Named { id, rest, place });
        assert_eq!(named(&prefixed, None), found(SchemaId::Number(65_538), b"x", IdPlace::Prefix));
        let guid = [&[1][..], &GUID, b"x"].concat();
        assert_eq!(named(&guid, None), found(SchemaId::Guid(GUID), b"x", IdPlace::Prefix));
        let header = [&[1][..], &GUID, &[2, 4]].concat();
        // What begins the message is its own.
        assert_eq!(named(&prefixed, Some(&header)), found(SchemaId::Guid(GUID), &[2, 4], IdPlace::Header));
        assert_eq!(named(b"{}", Some(&[0, 0, 0, 0, 7])), found(SchemaId::Number(7), b"", IdPlace::Header));
        // An empty header is none.
        assert_eq!(named(&prefixed, Some(&[])), found(SchemaId::Number(65_538), b"x", IdPlace::Prefix));
    }

    #[test]
    fn what_begins_otherwise_or_ends_early_has_no_id() {
        for message in [&b""[..], b"{}", &[0, 0, 0, 1], &[1, 2, 3], &[2, 0, 0, 0, 1, 1]] {
            assert_eq!(named(message, None), None, "{message:?}");
        }
        assert_eq!(named(&[0, 0, 0, 0, 1, 1], Some(&[0, 1])), None, "a header that ends early is no id");
    }

    #[test]
    fn ids_are_shown_as_registries_show_them() {
        assert_eq!(SchemaId::Number(7).to_string(), "7");
        assert_eq!(SchemaId::Guid(GUID).to_string(), "89791e3b-0102-0304-0506-0708090a0b0c");
    }
}
