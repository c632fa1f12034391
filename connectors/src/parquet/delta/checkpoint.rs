//! Checkpoints: the actions of all versions up to one, as rows of Parquet.
//!
//! Promises: of a file only the columns that are needed are decoded, and a row is decoded as a line of the log is. Refuses what
//! the Parquet reader refuses.

use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::actions::{self, Action};
use crate::parquet::read::guarded;

/// The kinds of actions that are read. What was removed is in no state.
const ACTIONS: [&str; 4] = ["protocol", "metaData", "add", "sidecar"];

/// What is read of a file that is part of the table: statistics may be most of a checkpoint.
const OF_ADD: [&str; 5] = ["path", "partitionValues", "size", "modificationTime", "deletionVector"];

/// Reads the actions of a checkpoint, or of a part of one. The error says what is wrong.
pub(super) fn actions(bytes: Bytes) -> Result<Vec<Action>, String> {
    let rows = guarded(|| {
        let reader = SerializedFileReader::new(bytes)?;
        let Some(columns) = columns(reader.metadata().file_metadata().schema())? else { return Ok(Vec::new()) };
        reader.get_row_iter(Some(columns))?.map(|row| row.map(|row| object(&row))).collect::<Result<Vec<_>, _>>()
    });
    let rows = rows.map_err(|error| error.to_string())?;
    let action = |(at, row): (usize, Value)| {
        Action::deserialize(row).map_err(|error| format!("row {at}: {}", actions::reason(&error)))
    };
    rows.into_iter().enumerate().map(action).collect()
}

/// Returns the part of a checkpoint's schema that is read; `None` if it has none of it.
fn columns(schema: &Type) -> Result<Option<Type>, ParquetError> {
    let mut kept = Vec::new();
    for field in schema.get_fields().iter().filter(|field| ACTIONS.contains(&field.name())) {
        kept.push(match field.name() {
            "add" if field.is_group() => {
                let inside = field.get_fields().iter().filter(|field| OF_ADD.contains(&field.name()));
                Arc::new(
                    Type::group_type_builder("add")
                        .with_repetition(field.get_basic_info().repetition())
                        .with_fields(inside.cloned().collect())
                        .build()?,
                )
            }
            _ => Arc::clone(field),
        });
    }
    if kept.is_empty() {
        return Ok(None);
    }
    Type::group_type_builder(schema.name()).with_fields(kept).build().map(Some)
}

fn object(row: &Row) -> Value {
    row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect::<Map<_, _>>().into()
}

/// Returns a field as JSON. Kinds that no action has are null.
fn value(field: &Field) -> Value {
    match field {
        Field::Bool(value) => (*value).into(),
        Field::Byte(value) => (*value).into(),
        Field::Short(value) => (*value).into(),
        Field::Int(value) => (*value).into(),
        Field::Long(value) => (*value).into(),
        Field::Str(text) => text.as_str().into(),
        Field::Group(row) => object(row),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        Field::MapInternal(map) => {
            let entry = |(key, of): &(Field, Field)| match key {
                Field::Str(key) => Some((key.clone(), value(of))),
                _ => None,
            };
            map.entries().iter().filter_map(entry).collect::<Map<_, _>>().into()
        }
        _ => Value::Null,
    }
}
