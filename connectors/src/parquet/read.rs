//! One piece of a pull, batch by batch.

use std::cell::Cell;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, StringArray, UInt32Array, new_null_array};
use arrow_schema::ArrowError;
use arrow_select::filter::filter;
use arrow_select::take::take;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use parquet::errors::ParquetError;

use usher_core::value::ColumnType;
use usher_core::warehouse::{FileVersion, KeyedBatch, SnapshotError};

use super::cast::Refused;
use super::delta::deletion::Deleted;
use super::layout::{LaidOut, Layout, Place};
use super::{cast, error, local};

/// The rows of one piece; ends at the first error. Errors at the end: fewer or more rows than the footer says, and a local file
/// that was written over meanwhile.
pub struct PieceReader {
    pub(super) version: FileVersion,
    pub(super) row_group: usize,
    pub(super) layout: Layout,
    /// The rows that were read, and those that the footer says.
    pub(super) rows_read: i64,
    pub(super) rows_said: i64,
    /// None: over.
    pub(super) batches: Option<ParquetRecordBatchReader>,
    /// The rows of the file that are deleted, and the number in it of the row group's first.
    pub(super) deleted: Option<(Deleted, u64)>,
    /// The file, where it may be written over while it is read.
    pub(super) local: Option<File>,
}

impl Iterator for PieceReader {
    type Item = Result<KeyedBatch, SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (batches, layout, rows_read) = (self.batches.as_mut()?, &self.layout, &mut self.rows_read);
        let deleted = &self.deleted;
        let rows = guarded(|| match batches.next() {
            Some(batch) => {
                let mut batch = batch.map_err(of_arrow)?;
                let before = *rows_read as u64;
                *rows_read += batch.num_rows() as i64;
                if let Some((deleted, first)) = deleted {
                    batch = deleted.without(first + before, batch).map_err(of_arrow)?;
                }
                rows(&batch, layout).map(Some).map_err(of_arrow)
            }
            None => Ok(None),
        });
        let mut rows = rows.map_err(|error| error::of_page(&self.version.path, self.row_group, &error)).transpose();
        if let Some(Ok(_)) = rows {
            return rows;
        }
        self.batches = None;
        if rows.is_none() && self.rows_read != self.rows_said {
            rows = Some(Err(error::of_rows(&self.version.path, self.row_group, self.rows_read, self.rows_said)));
        }
        // A file that changed explains an error, and an end without one may be a mixture.
        match self.local.take().map(|file| local::check(&self.version, &file)) {
            Some(Err(replaced)) => Some(Err(replaced)),
            _ => rows,
        }
    }
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is in a step of the Parquet reader, whose panics are caught and become errors.
///
/// A panic hook that ends the process asks this first.
pub fn panics_are_caught() -> bool {
    GUARDED.get()
}

/// Runs a step of the Parquet reader. It takes some damage of a file for a fault of its own and panics; a damaged file is
/// data, so that is an error here like any other.
pub(super) fn guarded<T>(step: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    // Safe to unwind through: nothing that a failed step has touched is used again.
    GUARDED.set(true);
    let result = catch_unwind(AssertUnwindSafe(step));
    GUARDED.set(false);
    result.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        Err(ParquetError::General(format!("the decoder gave up: {text}")))
    })
}

/// The Parquet reader's error inside Arrow's, where there is one.
fn of_arrow(error: ArrowError) -> ParquetError {
    match error {
        ArrowError::ExternalError(cause) => match cause.downcast::<ParquetError>() {
            Ok(cause) => *cause,
            Err(cause) => ParquetError::External(cause),
        },
        ArrowError::ParquetError(text) => ParquetError::General(text),
        other => ParquetError::ArrowError(other.to_string()),
    }
}

fn rows(batch: &RecordBatch, layout: &Layout) -> Result<KeyedBatch, ArrowError> {
    let keys = |column: &LaidOut| match values(column, batch)? {
        Some(array) => cast::keys(&array).map_err(|error| of_column(error, &column.name)),
        None => Ok(StringArray::new_null(batch.num_rows())),
    };
    let column = |(column, to): &(LaidOut, ColumnType)| match (&column.place, values(column, batch)?) {
        (Place::Batch(_), Some(array)) => cast::canonical(&array, *to).map_err(|error| of_column(error, &column.name)),
        (_, Some(array)) => Ok(array),
        (_, None) => Ok(new_null_array(&cast::canonical_type(*to), batch.num_rows())),
    };
    let foreign_keys = layout.foreign_key.as_ref().map(keys).transpose()?;
    let columns = layout.columns.iter().map(column).collect::<Result<_, _>>()?;
    let keys = keys(&layout.key)?;
    let rows = KeyedBatch { skipped: keys.null_count() as u64, keys, foreign_keys, columns };
    if rows.skipped == 0 { Ok(rows) } else { with_keys(rows) }
}

/// The values of a column as they are in the batch, or as often as it has rows; `None` if they are nowhere.
fn values(column: &LaidOut, batch: &RecordBatch) -> Result<Option<ArrayRef>, ArrowError> {
    Ok(match &column.place {
        Place::Batch(at) => Some(Arc::clone(batch.column(*at))),
        Place::Path(value) => Some(take(value, &UInt32Array::from(vec![0; batch.num_rows()]), None)?),
        Place::Nowhere => None,
    })
}

/// Names the column whose value was refused.
fn of_column(error: ArrowError, name: &str) -> ArrowError {
    match error {
        ArrowError::ExternalError(cause) if cause.is::<Refused>() => {
            ArrowError::ExternalError(Box::new(Refused { what: format!("the column `{name}` {cause}") }))
        }
        other => other,
    }
}

/// The rows that have a key.
fn with_keys(rows: KeyedBatch) -> Result<KeyedBatch, ArrowError> {
    let keep: BooleanArray = rows.keys.iter().map(|key| Some(key.is_some())).collect();
    let texts = |array: &StringArray| Ok::<_, ArrowError>(filter(array, &keep)?.as_string().clone());
    Ok(KeyedBatch {
        keys: texts(&rows.keys)?,
        foreign_keys: rows.foreign_keys.as_ref().map(texts).transpose()?,
        columns: rows.columns.iter().map(|column| filter(column, &keep)).collect::<Result<_, _>>()?,
        skipped: rows.skipped,
    })
}
