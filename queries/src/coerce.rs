//! Property coercion: what was found in a message becomes a value of the declared type.
//!
//! Nothing is guessed: what is not of the type, and is not listed here, is null and a mismatch. Text is borrowed from
//! the message unless the reader had to resolve escapes.
//!
//! | to | from |
//! |---|---|
//! | `string` | a string; a number or boolean: its JSON text |
//! | `number` | a number, or a string that is one; finite |
//! | `integer` | the same, without fractional part (3.0 and 1e3 are), within 64 bits, exactly |
//! | `boolean` | a boolean, `"true"`, `"false"` |
//! | `timestamp` | RFC 3339 in a string ([`parse_timestamp`]); Unix time, a number or a string of digits, floored to a ms: of the column's unit, else ms, or seconds below 10^11 |
//! | `date` | `YYYY-MM-DD`, or the day in UTC of an RFC 3339 timestamp, in a string |
//! | `list<T>` | an array; each element as above, a wrong one is null and makes the whole a mismatch |
//!
//! Encodings with types of their own have integers, doubles, decimals, times and days: an integer or a decimal counts as the same number in
//! JSON, a double as its shortest text. A time is a `timestamp`, a `date` (its day in UTC) and a `string` (RFC 3339); a day likewise, and
//! neither is a number.
//!
//! A string is a number if it is an optional sign, digits with at most one point, and an optional exponent: no
//! spaces, no `NaN`.

use crate::Value;
use crate::value::element_type;
use serde_json::value::RawValue;
use std::borrow::Cow;
use usher_config::{ColumnType, Found};
use usher_core::time::{self, Unit, midnight, parse_date, parse_digits, parse_number, parse_timestamp};

/// A value, and whether something that did not fit was found in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Coerced<'a> {
    /// Null or of the column's type.
    pub value: Value<'a>,
    /// Whether a present, non-null value had the wrong type; to be counted.
    pub mismatch: bool,
}

/// Returns what was found as a value of `column_type`.
pub fn coerce<'a>(found: &Found<'a>, column_type: ColumnType) -> Coerced<'a> {
    coerce_of_unit(found, column_type, None)
}

/// Returns what was found as a value of `column_type`. A number read as a timestamp is of the unit; without one its magnitude decides.
pub fn coerce_of_unit<'a>(found: &Found<'a>, column_type: ColumnType, unit: Option<Unit>) -> Coerced<'a> {
    if let Found::Nothing = found {
        return Coerced { value: Value::Null, mismatch: false };
    }
    let value = match column_type {
        ColumnType::String => string(found).map(Value::String),
        ColumnType::Boolean => boolean(found).map(Value::Boolean),
        ColumnType::Integer => match found {
            Found::Integer(integer) => Some(Value::Integer(*integer)),
            Found::Double(number) => whole(*number).map(Value::Integer),
            _ => decimal(found).and_then(integer).map(Value::Integer),
        },
        ColumnType::Number => match found {
            Found::Integer(integer) => Some(Value::Number(*integer as f64)),
            Found::Double(number) => Some(Value::Number(*number)),
            _ => decimal(found).and_then(number).map(Value::Number),
        },
        ColumnType::Timestamp => timestamp(found, unit).map(Value::Timestamp),
        ColumnType::Date => date(found).map(Value::Date),
        ColumnType::ListString | ColumnType::ListInteger | ColumnType::ListNumber => {
            return list(found, column_type);
        }
    };
    Coerced { mismatch: value.is_none(), value: value.unwrap_or(Value::Null) }
}

fn string<'a>(found: &Found<'a>) -> Option<Cow<'a, str>> {
    match found {
        Found::Text(text) => Some(text.clone()),
        Found::Mended(text) => Some(Cow::Owned(text.clone())),
        Found::Number(text) => Some(Cow::Borrowed(text)),
        Found::Boolean(boolean) => Some(Cow::Borrowed(if *boolean { "true" } else { "false" })),
        Found::Integer(integer) => Some(Cow::Owned(integer.to_string())),
        Found::Double(number) => Some(Cow::Owned(serde_json::Value::from(*number).to_string())),
        Found::Decimal(text) => Some(Cow::Owned(text.clone())),
        Found::Timestamp(ms) => time::timestamp(*ms).map(Cow::Owned),
        Found::Date(ms) => time::date(*ms).map(Cow::Owned),
        Found::Nothing | Found::Compound(_) | Found::NotFinite | Found::NotUtf8 => None,
    }
}

fn boolean(found: &Found<'_>) -> Option<bool> {
    match found {
        Found::Boolean(boolean) => Some(*boolean),
        Found::Text(text) => match &**text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn timestamp(found: &Found<'_>, unit: Option<Unit>) -> Option<i64> {
    match found {
        Found::Text(text) => parse_timestamp(text).or_else(|| parse_digits(text, unit)),
        Found::Number(text) => parse_number(text, unit),
        Found::Decimal(text) => parse_number(text, unit),
        Found::Integer(integer) => time::of_integer(*integer, unit),
        Found::Double(number) => parse_number(&serde_json::Value::from(*number).to_string(), unit),
        Found::Timestamp(ms) | Found::Date(ms) => Some(*ms),
        _ => None,
    }
}

fn date(found: &Found<'_>) -> Option<i64> {
    match found {
        Found::Text(text) => parse_date(text).or_else(|| parse_timestamp(text).map(midnight)),
        Found::Timestamp(ms) => Some(midnight(*ms)),
        Found::Date(ms) => Some(*ms),
        _ => None,
    }
}

/// Returns the text of a number, or of a string that may be one.
fn decimal<'f>(found: &'f Found<'_>) -> Option<&'f str> {
    match found {
        Found::Number(text) => Some(text),
        Found::Decimal(text) => Some(text),
        // Of what a Rust float can be read from, only `inf`, `infinity` and `nan` contain these letters.
        Found::Text(text) if !text.bytes().any(|byte| matches!(byte, b'n' | b'N' | b'i' | b'I')) => Some(text),
        _ => None,
    }
}

/// Returns the integer that a number is. `None` if it has a fractional part or does not fit.
fn whole(number: f64) -> Option<i64> {
    // 2^63 is a double, 2^63 - 1 is none.
    let fits = number >= i64::MIN as f64 && number < i64::MAX as f64;
    (fits && number.fract() == 0.0).then_some(number as i64)
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|number| number.is_finite())
}

/// Returns the exact integer that a decimal number is. `None` if it has a fractional part or does not fit.
fn integer(text: &str) -> Option<i64> {
    if let Ok(integer) = text.parse::<i64>() {
        return Some(integer);
    }
    number(text)?;
    let (negative, unsigned) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], &unsigned[at + 1..]),
        None => (unsigned, "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let trailing = digits.len() - digits.trim_end_matches('0').len();
    // An exponent beyond 64 bits is far out of range in both directions.
    let exponent = exponent.parse::<i64>().ok()?.checked_sub(fraction.len() as i64)?.checked_add(trailing as i64)?;
    let power = u32::try_from(exponent).ok()?;
    let magnitude = significant.parse::<i128>().ok()?.checked_mul(10i128.checked_pow(power)?)?;
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

fn list<'a>(found: &Found<'a>, column_type: ColumnType) -> Coerced<'a> {
    let element = element_type(column_type).expect("only lists come here");
    let (values, mismatch) = match found {
        Found::Compound(Cow::Borrowed(json)) => elements(json, element, |value| value),
        Found::Compound(Cow::Owned(json)) => elements(json, element, owned),
        _ => (None, true),
    };
    Coerced { value: values.map_or(Value::Null, Value::List), mismatch }
}

/// Returns the elements of a JSON array, and whether any did not fit. The elements are `None` if it is no array.
fn elements<'j, 'a>(
    json: &'j str,
    element: ColumnType,
    keep: fn(Value<'j>) -> Value<'a>,
) -> (Option<Vec<Value<'a>>>, bool) {
    let Ok(items) = serde_json::from_str::<Vec<&'j RawValue>>(json) else {
        return (None, true);
    };
    let mut mismatch = false;
    let values = items.into_iter().map(|item| {
        let coerced = coerce(&classify(item.get()), element);
        mismatch |= coerced.mismatch;
        keep(coerced.value)
    });
    (Some(values.collect()), mismatch)
}

/// Returns what one JSON value is.
fn classify(json: &str) -> Found<'_> {
    match json.as_bytes()[0] {
        b'n' => Found::Nothing,
        b't' => Found::Boolean(true),
        b'f' => Found::Boolean(false),
        b'{' | b'[' => Found::Compound(Cow::Borrowed(json)),
        b'"' if !json.contains('\\') => Found::Text(Cow::Borrowed(&json[1..json.len() - 1])),
        // A string that can't be unescaped (a lone surrogate) has no text; as a compound it fits nothing.
        b'"' => serde_json::from_str(json)
            .map_or(Found::Compound(Cow::Borrowed(json)), |text: String| Found::Text(Cow::Owned(text))),
        _ => Found::Number(json),
    }
}

fn owned<'a>(value: Value<'_>) -> Value<'a> {
    match value {
        Value::Null => Value::Null,
        Value::Boolean(boolean) => Value::Boolean(boolean),
        Value::Integer(integer) => Value::Integer(integer),
        Value::Number(number) => Value::Number(number),
        Value::String(text) => Value::String(Cow::Owned(text.into_owned())),
        Value::Timestamp(time) => Value::Timestamp(time),
        Value::Date(time) => Value::Date(time),
        Value::List(values) => Value::List(values.into_iter().map(owned).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ColumnType::{Boolean, Date, Integer, ListInteger, ListNumber, ListString, Number, String, Timestamp};

    fn text(text: &str) -> Found<'_> {
        Found::Text(Cow::Borrowed(text))
    }

    fn json(text: &str) -> Found<'_> {
        Found::Compound(Cow::Borrowed(text))
    }

    #[track_caller]
    fn fits(found: Found<'_>, column_type: ColumnType, value: Value<'_>) {
        assert_eq!(coerce(&found, column_type), Coerced { value, mismatch: false }, "{found:?}");
    }

    #[track_caller]
    fn mismatches(found: Found<'_>, column_type: ColumnType) {
        assert_eq!(coerce(&found, column_type), Coerced { value: Value::Null, mismatch: true }, "{found:?}");
    }

    #[test]
    fn values_of_encodings_with_types_count_as_the_same_in_json() {
        fits(Found::Integer(-7), Integer, Value::Integer(-7));
        fits(Found::Integer(i64::MAX), Number, Value::Number(i64::MAX as f64));
        fits(Found::Integer(42), String, Value::String("42".into()));
        fits(Found::Integer(1_700_000_000), Timestamp, Value::Timestamp(1_700_000_000_000));
        fits(Found::Double(1.5), Number, Value::Number(1.5));
        fits(Found::Double(1.0), String, Value::String("1.0".into()));
        fits(Found::Double(-2.0), Integer, Value::Integer(-2));
        fits(Found::Double(1_700_000_000_123.5), Timestamp, Value::Timestamp(1_700_000_000_123));
        fits(Found::Decimal("12.50".to_owned()), Number, Value::Number(12.5));
        fits(Found::Decimal("3.00".to_owned()), Integer, Value::Integer(3));
        fits(Found::Decimal("12.50".to_owned()), String, Value::String("12.50".into()));
        for found in [Found::Double(0.5), Found::Double(9.3e18), Found::Double(-9.3e18)] {
            mismatches(found, Integer);
        }
        mismatches(Found::Integer(1), Boolean);
        mismatches(Found::Double(1.0), Boolean);
    }

    #[test]
    fn a_time_with_a_type_is_a_time_and_no_number() {
        let ms = 1_795_428_000_123;
        fits(Found::Timestamp(ms), Timestamp, Value::Timestamp(ms));
        fits(Found::Timestamp(ms), Date, Value::Date(midnight(ms)));
        fits(Found::Timestamp(ms), String, Value::String("2026-11-23T10:00:00.123Z".into()));
        fits(Found::Date(midnight(ms)), Date, Value::Date(midnight(ms)));
        fits(Found::Date(midnight(ms)), Timestamp, Value::Timestamp(midnight(ms)));
        fits(Found::Date(midnight(ms)), String, Value::String("2026-11-23".into()));
        for column_type in [Integer, Number, Boolean, ListString] {
            mismatches(Found::Timestamp(ms), column_type);
            mismatches(Found::Date(ms), column_type);
        }
    }

    #[test]
    fn nothing_is_null_and_no_mismatch() {
        for column_type in [String, Integer, Number, Boolean, Timestamp, Date, ListString, ListInteger, ListNumber] {
            fits(Found::Nothing, column_type, Value::Null);
        }
    }

    #[test]
    fn a_string_keeps_the_json_text() {
        fits(text("a"), String, Value::String("a".into()));
        fits(Found::Number("1.50"), String, Value::String("1.50".into()));
        fits(Found::Boolean(false), String, Value::String("false".into()));
        mismatches(json("[]"), String);
        let borrowed = coerce(&Found::Number("42"), String).value;
        assert!(matches!(borrowed, Value::String(Cow::Borrowed("42"))));
    }

    #[test]
    fn integers_are_exact_or_null() {
        for (written, integer) in [
            ("3", 3),
            ("-3", -3),
            ("+3", 3),
            ("007", 7),
            ("3.0", 3),
            ("-3.000", -3),
            ("1e3", 1000),
            ("1.5E1", 15),
            ("1500e-2", 15),
            ("0e999999999999999999999", 0),
            ("0.000e-5", 0),
            ("-0.0", 0),
            ("9007199254740993.0", 9_007_199_254_740_993),
            ("9223372036854775807.0", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("-9.223372036854775808e18", i64::MIN),
        ] {
            fits(Found::Number(written), Integer, Value::Integer(integer));
            fits(text(written), Integer, Value::Integer(integer));
        }
        for written in ["3.5", "1e-1", "9223372036854775808", "1e19", "1e300", "1e999", "1500e-3"] {
            mismatches(Found::Number(written), Integer);
            mismatches(text(written), Integer);
        }
        for written in ["", " 3", "3 ", "three", "0x10", "NaN", "inf", "-Infinity", "-", "+", ".", "e5", "1e", "1_000"]
        {
            mismatches(text(written), Integer);
            mismatches(text(written), Number);
        }
        mismatches(Found::Boolean(true), Integer);
    }

    #[test]
    fn numbers_are_finite() {
        fits(Found::Number("1.5"), Number, Value::Number(1.5));
        fits(text("-2.5e-1"), Number, Value::Number(-0.25));
        mismatches(Found::Number("1e999"), Number);
        mismatches(text("1e999"), Number);
        mismatches(Found::Boolean(true), Number);
        mismatches(json("{}"), Number);
    }

    #[test]
    fn what_is_not_finite_fits_no_type_and_a_mended_string_only_string() {
        for column_type in [String, Integer, Number, Boolean, Timestamp, Date, ListString, ListInteger, ListNumber] {
            mismatches(Found::NotFinite, column_type);
            if column_type != String {
                mismatches(Found::Mended("\u{fffd}".to_owned()), column_type);
            }
        }
        fits(Found::Mended("a\u{fffd}".to_owned()), String, Value::String("a\u{fffd}".into()));
    }

    #[test]
    fn booleans_are_read_from_two_words_only() {
        fits(Found::Boolean(true), Boolean, Value::Boolean(true));
        fits(text("true"), Boolean, Value::Boolean(true));
        fits(text("false"), Boolean, Value::Boolean(false));
        mismatches(text("True"), Boolean);
        mismatches(Found::Number("1"), Boolean);
    }

    #[test]
    fn times_are_rfc_3339_or_unix_time() {
        fits(text("1970-01-01T00:00:01.5Z"), Timestamp, Value::Timestamp(1500));
        fits(text("1970-01-01T00:00:01"), Timestamp, Value::Timestamp(1000));
        for (written, ms) in [
            ("1793527200000", 1_793_527_200_000),
            ("1793527200000.9", 1_793_527_200_000),
            ("1793527202.5", 1_793_527_202_500),
            ("1793527202", 1_793_527_202_000),
            ("-1.5", -1500),
        ] {
            fits(Found::Number(written), Timestamp, Value::Timestamp(ms));
            fits(text(written), Timestamp, Value::Timestamp(ms));
        }
        let of_unit = |found: &Found<'static>, unit| coerce_of_unit(found, Timestamp, Some(unit)).value;
        for found in [Found::Number("1500"), text("1500")] {
            assert_eq!(of_unit(&found, Unit::Millis), Value::Timestamp(1500));
            assert_eq!(of_unit(&found, Unit::Seconds), Value::Timestamp(1_500_000));
            assert_eq!(of_unit(&found, Unit::Micros), Value::Timestamp(1));
            assert_eq!(of_unit(&found, Unit::Nanos), Value::Timestamp(0));
        }
        assert_eq!(of_unit(&text("1970-01-01T00:00:01Z"), Unit::Nanos), Value::Timestamp(1000));
        mismatches(Found::Number("1e300"), Timestamp);
        mismatches(text("1e3"), Timestamp);
        mismatches(text("1970-01-01"), Timestamp);
        mismatches(Found::Boolean(true), Timestamp);
        fits(text("1970-01-02"), Date, Value::Date(86_400_000));
        fits(text("1970-01-02T01:00:00+02:00"), Date, Value::Date(0));
        mismatches(Found::Number("1500"), Date);
        mismatches(text("1970-02-30"), Date);
    }

    #[test]
    fn a_wrong_element_is_null_and_the_list_a_mismatch() {
        let list = |values: &[Value<'static>]| Value::List(values.to_vec());
        fits(json(r#"["a", null, 1.50, true]"#), ListString, {
            list(&[Value::String("a".into()), Value::Null, Value::String("1.50".into()), Value::String("true".into())])
        });
        fits(json(r#"[ "3", 4.0 ]"#), ListInteger, list(&[Value::Integer(3), Value::Integer(4)]));
        fits(json("[]"), ListNumber, list(&[]));
        let half = coerce(&json(r#"[1, "x", 2]"#), ListNumber);
        assert_eq!(half.value, list(&[Value::Number(1.0), Value::Null, Value::Number(2.0)]));
        assert!(half.mismatch);
        assert!(coerce(&json(r#"["\ud800"]"#), ListString).mismatch);
        let half = coerce(&json("[1, {}, 2]"), ListNumber);
        assert_eq!(half.value, list(&[Value::Number(1.0), Value::Null, Value::Number(2.0)]));
        assert!(half.mismatch);
        let escaped = Found::Compound(Cow::Owned(r#"["\u00e9", "b"]"#.to_owned()));
        let strings = list(&[Value::String("é".into()), Value::String("b".into())]);
        assert_eq!(coerce(&escaped, ListString), Coerced { value: strings, mismatch: false });
        mismatches(json(r#"{"a": 1}"#), ListString);
        mismatches(text("a"), ListString);
    }
}
