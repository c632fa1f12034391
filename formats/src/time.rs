//! Times as messages write them.
//!
//! A string is RFC 3339, read with the leniency that real traffic needs: a space for the `T`, month, day and hour
//! of one digit, no zone (UTC), `+0100` for `+01:00`, any number of fraction digits. A number, or a string of digits, is Unix
//! time: ms, or seconds below 10^11 in magnitude. What is finer than a ms is floored. The reader is `usher_core::time`.

use std::fmt;

use usher_config::Found;
use usher_core::time::{Leniency, of_integer, parse_digits, parse_number, parse_rfc3339};

use super::binary::write_json;

/// The most of a value that a text about it shows, in characters.
const SHOWN: usize = 100;

/// Why there is no time.
#[derive(Clone, Debug, PartialEq)]
pub enum TimeError<'f> {
    /// None is given.
    Missing,
    /// A value is no time, or before 1970.
    Unreadable(NamedTime<'f>),
    /// The times of a device and of its server make no time from 1970 on: received − (sent − created).
    Derived([NamedTime<'f>; 3]),
}

/// A value that is to be a time, and its path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NamedTime<'f> {
    /// The path in the message.
    pub path: &'f str,
    /// The value.
    pub found: &'f Found<'f>,
}

impl fmt::Display for TimeError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TimeError::Missing => f.write_str("no timestamp"),
            TimeError::Unreadable(time) if time.signed().is_ok() => write!(f, "{time} is before 1970"),
            TimeError::Unreadable(time) => write!(f, "{time} is neither RFC 3339 nor Unix time"),
            TimeError::Derived([received, sent, created]) => {
                write!(f, "{received} minus the difference of {sent} and {created} is no time from 1970 on")
            }
        }
    }
}

impl std::error::Error for TimeError<'_> {}

impl fmt::Display for NamedTime<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owned;
        let (text, quote) = match self.found {
            Found::Nothing => ("null", ""),
            Found::Boolean(true) => ("true", ""),
            Found::Boolean(false) => ("false", ""),
            Found::Number(text) => (*text, ""),
            Found::Text(text) => (&**text, "\""),
            Found::Mended(text) => (&**text, "\""),
            Found::Compound(text) => (&**text, ""),
            Found::NotFinite => ("not a finite number", ""),
            Found::NotUtf8 => ("bytes that are not UTF-8", ""),
            typed @ (Found::Integer(_)
            | Found::Double(_)
            | Found::Decimal(_)
            | Found::Timestamp(_)
            | Found::Date(_)) => {
                let mut json = String::new();
                write_json(typed, &mut json);
                owned = json;
                (owned.as_str(), "")
            }
        };
        let end = text.char_indices().nth(SHOWN).map_or(text.len(), |(at, _)| at);
        let more = if end < text.len() { "…" } else { "" };
        write!(f, "`{}` = {quote}{}{more}{quote}", self.path, &text[..end])
    }
}

impl<'f> NamedTime<'f> {
    /// Returns the time, floored to a ms.
    ///
    /// # Errors
    /// There is none, or the value is no time or before 1970.
    pub fn read(self) -> Result<u64, TimeError<'f>> {
        since_1970(self.signed()?.into()).ok_or(TimeError::Unreadable(self))
    }

    fn is_given(self) -> bool {
        *self.found != Found::Nothing
    }

    /// Returns the time in ms, before 1970 too.
    fn signed(self) -> Result<i64, TimeError<'f>> {
        let ms = match self.found {
            Found::Nothing => return Err(TimeError::Missing),
            Found::Text(text) => parse_rfc3339(text.as_bytes(), Leniency::TRAFFIC).or_else(|| parse_digits(text, None)),
            Found::Number(text) => parse_number(text, None),
            Found::Decimal(text) => parse_number(text, None),
            Found::Integer(integer) => of_integer(*integer, None),
            Found::Double(number) => parse_number(&serde_json::Value::from(*number).to_string(), None),
            Found::Timestamp(ms) | Found::Date(ms) => Some(*ms),
            Found::Boolean(_) | Found::Compound(_) | Found::Mended(_) | Found::NotFinite | Found::NotUtf8 => None,
        };
        ms.ok_or(TimeError::Unreadable(self))
    }
}

/// Returns the event time of the Segment family; see SPEC §4.
pub(super) fn of_segment<'f>(
    timestamp: NamedTime<'f>,
    received: NamedTime<'f>,
    sent: NamedTime<'f>,
    original: NamedTime<'f>,
) -> Result<u64, TimeError<'f>> {
    if timestamp.is_given() {
        return timestamp.read();
    }
    match (received.is_given(), sent.is_given(), original.is_given()) {
        (true, true, true) => derived(received, sent, original),
        (_, _, true) => original.read(),
        (true, _, false) => received.read(),
        (false, _, false) => Err(TimeError::Missing),
    }
}

/// Returns the event time of Snowplow, which derives it the same way.
pub(super) fn of_snowplow<'f>(
    derived_time: NamedTime<'f>,
    exact: NamedTime<'f>,
    collected: NamedTime<'f>,
    sent: NamedTime<'f>,
    created: NamedTime<'f>,
) -> Result<u64, TimeError<'f>> {
    match (derived_time.is_given(), exact.is_given()) {
        (true, _) => derived_time.read(),
        (false, true) => exact.read(),
        _ if collected.is_given() && sent.is_given() && created.is_given() => derived(collected, sent, created),
        _ => collected.read(),
    }
}

/// Returns received − (sent − created): how long the message waited on its device is right even if the device's clock is not.
fn derived<'f>(received: NamedTime<'f>, sent: NamedTime<'f>, created: NamedTime<'f>) -> Result<u64, TimeError<'f>> {
    let signed = |time: NamedTime<'f>| Ok(i128::from(time.signed()?));
    let ms = signed(received)? - (signed(sent)? - signed(created)?);
    since_1970(ms).ok_or(TimeError::Derived([received, sent, created]))
}

/// None before 1970, and beyond the times that have a sign.
fn since_1970(ms: i128) -> Option<u64> {
    i64::try_from(ms).ok().and_then(|ms| u64::try_from(ms).ok())
}
