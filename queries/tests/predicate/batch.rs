//! Rows as a batch in the canonical Arrow types.

use arrow_array::builder::{Float64Builder, Int64Builder, ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMillisecondArray};
use std::sync::Arc;
use usher_config::ColumnType;
use usher_queries::Value;

/// One array a column of rows that hold the columns' values in order.
pub fn columns(types: &[(String, ColumnType)], rows: &[Vec<Value<'static>>]) -> Vec<ArrayRef> {
    let column = |index: usize| rows.iter().map(move |row| &row[index]);
    (0..types.len()).map(|index| array(types[index].1, column(index))).collect()
}

fn array<'v>(column_type: ColumnType, values: impl Iterator<Item = &'v Value<'static>>) -> ArrayRef {
    match column_type {
        ColumnType::Boolean => Arc::new(values.map(boolean).collect::<BooleanArray>()),
        ColumnType::Integer => Arc::new(values.map(integer).collect::<Int64Array>()),
        ColumnType::Number => Arc::new(values.map(number).collect::<Float64Array>()),
        ColumnType::String => Arc::new(values.map(string).collect::<StringArray>()),
        ColumnType::Timestamp | ColumnType::Date => Arc::new(values.map(time).collect::<TimestampMillisecondArray>()),
        ColumnType::ListString => {
            let mut builder = ListBuilder::new(StringBuilder::new());
            for value in values {
                builder.append_option(list(value).map(|values| values.iter().map(string).collect::<Vec<_>>()));
            }
            Arc::new(builder.finish())
        }
        ColumnType::ListInteger => {
            let mut builder = ListBuilder::new(Int64Builder::new());
            for value in values {
                builder.append_option(list(value).map(|values| values.iter().map(integer).collect::<Vec<_>>()));
            }
            Arc::new(builder.finish())
        }
        ColumnType::ListNumber => {
            let mut builder = ListBuilder::new(Float64Builder::new());
            for value in values {
                builder.append_option(list(value).map(|values| values.iter().map(number).collect::<Vec<_>>()));
            }
            Arc::new(builder.finish())
        }
    }
}

fn boolean(value: &Value<'static>) -> Option<bool> {
    match value {
        Value::Boolean(boolean) => Some(*boolean),
        Value::Null => None,
        other => panic!("{other:?} is no boolean"),
    }
}

fn integer(value: &Value<'static>) -> Option<i64> {
    match value {
        Value::Integer(integer) => Some(*integer),
        Value::Null => None,
        other => panic!("{other:?} is no integer"),
    }
}

fn number(value: &Value<'static>) -> Option<f64> {
    match value {
        Value::Number(number) => Some(*number),
        Value::Null => None,
        other => panic!("{other:?} is no number"),
    }
}

fn string<'v>(value: &'v Value<'static>) -> Option<&'v str> {
    match value {
        Value::String(text) => Some(text),
        Value::Null => None,
        other => panic!("{other:?} is no string"),
    }
}

fn time(value: &Value<'static>) -> Option<i64> {
    match value {
        Value::Timestamp(time) | Value::Date(time) => Some(*time),
        Value::Null => None,
        other => panic!("{other:?} is no time"),
    }
}

fn list<'v>(value: &'v Value<'static>) -> Option<&'v [Value<'static>]> {
    match value {
        Value::List(values) => Some(values),
        Value::Null => None,
        other => panic!("{other:?} is no list"),
    }
}
