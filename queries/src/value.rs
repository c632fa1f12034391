//! A typed value of a column or property.

use std::borrow::Cow;

/// A value of one of the job's column types, borrowed from its message or row where it can be.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// Nothing known.
    Null,
    /// `boolean`.
    Boolean(bool),
    /// `integer`.
    Integer(i64),
    /// `number`; never NaN or infinite.
    Number(f64),
    /// `string`.
    String(Cow<'a, str>),
    /// `timestamp`, ms since the epoch, UTC.
    Timestamp(i64),
    /// `date`: its midnight UTC, ms since the epoch.
    Date(i64),
    /// `list<T>`; elements are null or of the element type.
    List(Vec<Value<'a>>),
}
