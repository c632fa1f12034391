//! A typed value of a column or property.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use usher_config::ColumnType;

/// A value of one of the job's column types, borrowed from its message or row where that is possible.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// No value.
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

impl<'a> Value<'a> {
    /// Reads one row of a column in its canonical Arrow type (see [`Evaluator::holds_batch`]).
    ///
    /// # Panics
    ///
    /// Panics if the array has another type.
    ///
    /// [`Evaluator::holds_batch`]: crate::predicate::Evaluator::holds_batch
    pub fn at(array: &'a ArrayRef, column_type: ColumnType, row: usize) -> Value<'a> {
        if array.is_null(row) {
            return Value::Null;
        }
        match column_type {
            ColumnType::Boolean => Value::Boolean(array.as_boolean().value(row)),
            ColumnType::Integer => Value::Integer(array.as_primitive::<Int64Type>().value(row)),
            ColumnType::Number => match array.as_primitive::<Float64Type>().value(row) {
                number if number.is_finite() => Value::Number(number),
                _ => Value::Null,
            },
            ColumnType::String => Value::String(Cow::Borrowed(array.as_string::<i32>().value(row))),
            ColumnType::Timestamp => Value::Timestamp(array.as_primitive::<TimestampMillisecondType>().value(row)),
            ColumnType::Date => Value::Date(array.as_primitive::<TimestampMillisecondType>().value(row)),
            ColumnType::ListString | ColumnType::ListInteger | ColumnType::ListNumber => {
                let list = array.as_list::<i32>();
                let element = element_type(column_type).expect("a list has elements");
                let (from, to) = (list.value_offsets()[row] as usize, list.value_offsets()[row + 1] as usize);
                Value::List((from..to).map(|index| Value::at(list.values(), element, index)).collect())
            }
        }
    }
}

/// Returns the type of a list's elements. `None` if the type is no list.
pub fn element_type(column_type: ColumnType) -> Option<ColumnType> {
    match column_type {
        ColumnType::ListString => Some(ColumnType::String),
        ColumnType::ListInteger => Some(ColumnType::Integer),
        ColumnType::ListNumber => Some(ColumnType::Number),
        _ => None,
    }
}

/// A [`Value`] that is kept or sent: it borrows nothing, and equal values are equal bit by bit.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum StoredValue {
    #[default]
    Null,
    Boolean(bool),
    Integer(i64),
    /// The bits of the double; those of 0.0 for -0.0.
    Number(u64),
    String(Box<str>),
    Timestamp(i64),
    Date(i64),
    List(Box<[StoredValue]>),
}

impl StoredValue {
    /// Returns a copy of a value.
    pub fn of(value: &Value<'_>) -> StoredValue {
        match value {
            Value::Null => StoredValue::Null,
            Value::Boolean(boolean) => StoredValue::Boolean(*boolean),
            Value::Integer(integer) => StoredValue::Integer(*integer),
            Value::Number(number) => StoredValue::Number((number + 0.0).to_bits()),
            Value::String(text) => StoredValue::String(text.as_ref().into()),
            Value::Timestamp(ms) => StoredValue::Timestamp(*ms),
            Value::Date(ms) => StoredValue::Date(*ms),
            Value::List(values) => StoredValue::List(values.iter().map(StoredValue::of).collect()),
        }
    }

    /// Returns the value; text is borrowed.
    pub fn value(&self) -> Value<'_> {
        match self {
            StoredValue::Null => Value::Null,
            StoredValue::Boolean(boolean) => Value::Boolean(*boolean),
            StoredValue::Integer(integer) => Value::Integer(*integer),
            StoredValue::Number(bits) => Value::Number(f64::from_bits(*bits)),
            StoredValue::String(text) => Value::String(Cow::Borrowed(text)),
            StoredValue::Timestamp(ms) => Value::Timestamp(*ms),
            StoredValue::Date(ms) => Value::Date(*ms),
            StoredValue::List(values) => Value::List(values.iter().map(StoredValue::value).collect()),
        }
    }
}
