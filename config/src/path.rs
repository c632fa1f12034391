//! A path into a message, and what can stand at its end.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// A dotted path: `a."total billed"[0].b`, `[*]` for all of a list, `headers.NAME` for a Kafka header.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Path(pub Vec<Step>);

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Step {
    /// The member of an object by name.
    Key(String),
    /// The element of an array by index, from 0.
    Index(usize),
    /// All elements of an array.
    All,
}

/// What stood at the end of a path, borrowed from the message where it can be.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Found<'a> {
    /// Nothing, or null.
    #[default]
    Nothing,
    /// `true` or `false`.
    Boolean(bool),
    /// A number as written.
    Number(&'a str),
    /// A string, escapes resolved.
    Text(Cow<'a, str>),
    /// An object or array, as JSON text.
    Compound(Cow<'a, str>),
}
