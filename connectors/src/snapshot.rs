//! Snapshots: the content of a model, read from Parquet.
//!
//! [`Warehouse`] says where: a file, a folder (all `*.parquet` below it; names with a leading `_` or `.` are left out), a
//! glob, or a url. [`Warehouse::pull`] lists the files and checks their footers against what is wanted; [`Pull::read`]
//! reads one piece, a row group of a file, so that pieces can be shared out. Only the wanted columns are read, cast to one
//! Arrow type per column type.
//!
//! Refuses: finding a key that comes twice, and keeping anything; that is the caller's. Calls wait for the disk or the
//! network.

mod columns;
mod error;
mod location;

pub use columns::{FoundType, Schema};
pub use error::SnapshotError;

use arrow_array::{ArrayRef, BooleanArray, StringArray};
use arrow_select::filter::filter;
use columns::{Cast, key_text};
use location::{Location, Object, RowGroupBytes};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use usher_config::ColumnType;

/// Rows of a batch: some 100 KB a column.
const BATCH_ROWS: usize = 8_192;
/// The longest key, bytes.
const KEY_BYTES: usize = 1_024;

/// Where a model's Parquet is.
pub struct Warehouse {
    location: Location,
}

/// What a job reads of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The column of the key.
    pub key: String,
    /// The column with the key of the row that a row belongs to.
    pub foreign_key: Option<String>,
    /// Other columns, with the types they are read as.
    pub columns: Vec<(String, ColumnType)>,
}

impl Warehouse {
    /// Understands `parquet` as the job file has it; relative paths are relative to `folder`. Looks at nothing yet.
    ///
    /// `options` are the object stores' own settings by their lower-case names (`aws_access_key_id`, `aws_endpoint`).
    ///
    /// # Errors
    /// It is no url that is known.
    pub fn open(parquet: &str, folder: &Path, options: &[(String, String)]) -> Result<Warehouse, SnapshotError> {
        Ok(Warehouse { location: Location::parse(parquet, folder, options)? })
    }

    /// The columns of the first file, from its footer.
    ///
    /// # Errors
    /// Nothing is there, or it is no Parquet.
    pub fn schema(&self) -> Result<Schema, SnapshotError> {
        let object = self.location.list()?.swap_remove(0);
        let metadata = self.location.footer(&object)?;
        Ok(Schema::new(metadata.schema()))
    }

    /// Lists the files and checks that each has the wanted columns.
    ///
    /// # Errors
    /// Nothing is there, a file is no Parquet, or lacks a column or has it with another type.
    pub fn pull(&self, wanted: &Wanted) -> Result<Pull, SnapshotError> {
        let mut files = Vec::new();
        let mut pieces = Vec::new();
        for object in self.location.list()? {
            let metadata = self.location.footer(&object)?;
            let schema = Schema::new(metadata.schema());
            let find = |name: &str| schema.find(name).ok_or_else(|| SnapshotError::no_column(&object.name, name, &schema.names()));
            let key = find(&wanted.key)?;
            let foreign_key = wanted.foreign_key.as_deref().map(find).transpose()?;
            for at in std::iter::once(key).chain(foreign_key) {
                schema.check_key(&object.name, at)?;
            }
            let mut columns = Vec::new();
            for (name, column_type) in &wanted.columns {
                let at = find(name)?;
                columns.push((at, schema.cast(&object.name, at, *column_type)?));
            }
            pieces.extend((0..metadata.metadata().num_row_groups()).map(|row_group| (files.len(), row_group)));
            files.push(Opened { object, metadata, key, foreign_key, columns });
        }
        Ok(Pull { location: self.location.clone(), files, pieces })
    }
}

struct Opened {
    object: Object,
    metadata: ArrowReaderMetadata,
    /// Indexes of the file's columns.
    key: usize,
    foreign_key: Option<usize>,
    columns: Vec<(usize, Cast)>,
}

/// A pull that was opened.
pub struct Pull {
    location: Location,
    files: Vec<Opened>,
    /// (file, row group)
    pieces: Vec<(usize, usize)>,
}

/// Rows of a pull. Those without a usable key are left out.
pub struct Rows {
    /// The keys: integers by their decimal form. No nulls.
    pub keys: StringArray,
    /// The keys of the rows that these belong to; null where there is none.
    pub foreign_keys: Option<StringArray>,
    /// The wanted columns, in order: `Utf8`, `Int64`, `Float64`, `Boolean`, `Timestamp(ms)` for timestamps and dates, `List`
    /// of those.
    pub columns: Vec<ArrayRef>,
    /// How many rows had a null, empty or too long key.
    pub skipped: u64,
}

impl Pull {
    /// How many pieces there are.
    pub fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// Reads a piece, batch by batch.
    ///
    /// # Errors
    /// The file can't be read; from the iterator: its data is damaged.
    pub fn read(&self, piece: usize) -> Result<impl Iterator<Item = Result<Rows, SnapshotError>> + use<'_>, SnapshotError> {
        let (file, row_group) = self.pieces[piece];
        let file = &self.files[file];
        let roots = file.columns.iter().map(|(at, _)| *at).chain([file.key]).chain(file.foreign_key);
        let mut projected: Vec<usize> = roots.collect();
        projected.sort_unstable();
        projected.dedup();
        let mask = ProjectionMask::roots(file.metadata.metadata().file_metadata().schema_descr(), projected.iter().copied());
        let reader = match &file.object.path {
            Some(path) => {
                let opened = File::open(path).map_err(|error| SnapshotError::io(&file.object.name, &error))?;
                build(ParquetRecordBatchReaderBuilder::new_with_metadata(opened, file.metadata.clone()), mask, row_group)
            }
            None => {
                let bytes: RowGroupBytes = self.location.row_group(&file.object, file.metadata.metadata(), row_group, &mask)?;
                build(ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, file.metadata.clone()), mask, row_group)
            }
        };
        let name = &file.object.name;
        let reader = reader.map_err(|error| SnapshotError::damaged(name, &error))?;
        let at = move |column: usize| projected.binary_search(&column).expect("what is wanted is projected");
        Ok(reader.map(move |batch| {
            let batch = batch.map_err(|error| SnapshotError::damaged(name, &error))?;
            let damaged = |error| SnapshotError::damaged(name, &error);
            let keys = key_text(batch.column(at(file.key))).map_err(damaged)?;
            let usable: BooleanArray = keys.iter().map(|key| Some(key.is_some_and(|key| !key.is_empty() && key.len() <= KEY_BYTES))).collect();
            let skipped = (usable.len() - usable.true_count()) as u64;
            let pick = |array: ArrayRef| if skipped == 0 { Ok(array) } else { filter(&array, &usable) };
            let text = |array: ArrayRef| arrow_array::cast::AsArray::as_string::<i32>(&array).clone();
            let foreign_keys = file.foreign_key.map(|column| {
                let keys: ArrayRef = Arc::new(key_text(batch.column(at(column)))?);
                pick(keys).map(text)
            });
            let columns = file.columns.iter().map(|(column, cast)| pick(cast.apply(batch.column(at(*column)))?)).collect::<Result<_, _>>();
            Ok(Rows {
                foreign_keys: foreign_keys.transpose().map_err(damaged)?,
                columns: columns.map_err(damaged)?,
                keys: text(pick(Arc::new(keys)).map_err(damaged)?),
                skipped,
            })
        }))
    }
}

fn build<T: parquet::file::reader::ChunkReader + 'static>(
    builder: ParquetRecordBatchReaderBuilder<T>,
    mask: ProjectionMask,
    row_group: usize,
) -> parquet::errors::Result<ParquetRecordBatchReader> {
    builder.with_projection(mask).with_row_groups(vec![row_group]).with_batch_size(BATCH_ROWS).build()
}

fn reader_options() -> ArrowReaderOptions {
    // A writer's own idea of the Arrow types is not needed, and may name types that are not read here.
    ArrowReaderOptions::new().with_skip_arrow_metadata(true)
}
