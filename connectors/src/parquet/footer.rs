//! Footers: what a file says of its columns, row groups and rows.
//!
//! Promises: the counts that a footer has agree. Refuses a footer whose number of rows is another than that of its row groups, unless it
//! is 0: an old writer left it so, and the row groups are right.

use std::sync::Arc;

use arrow_schema::{DataType, TimeUnit};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::Type as Physical;
use parquet::errors::ParquetError;
use parquet::file::metadata::{FileMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::ChunkReader;
use usher_core::warehouse::{FileVersion, SnapshotError, SnapshotErrorKind};

use super::read::guarded;
use super::{Found, Handle, error, local};

/// Reads the footers of files, in their order.
///
/// # Errors
///
/// One can't be read, or its counts disagree.
pub(super) fn footers(found: Vec<Found>) -> Result<Vec<(Found, ArrowReaderMetadata)>, SnapshotError> {
    let metadata = match found.first().map(|found| &found.handle) {
        Some(Handle::Store(store, _)) => {
            let files = found.iter().filter_map(|found| match &found.handle {
                Handle::Store(_, path) => Some((found.version.clone(), path.clone())),
                Handle::Local(_) => None,
            });
            let tails = store.tails(&files.collect::<Vec<_>>())?;
            tails.iter().zip(&found).map(|(tail, found)| footer(&found.version, tail)).collect::<Result<Vec<_>, _>>()?
        }
        _ => {
            let local = |found: &Found| match &found.handle {
                Handle::Local(path) => footer(&found.version, &local::open(&found.version, path)?),
                Handle::Store(..) => {
                    unreachable!("all files of a warehouse are reached in the same way")
                }
            };
            found.iter().map(local).collect::<Result<Vec<_>, _>>()?
        }
    };
    Ok(found.into_iter().zip(metadata).collect())
}

fn footer(version: &FileVersion, reader: &impl ChunkReader) -> Result<ArrowReaderMetadata, SnapshotError> {
    let read = || ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Skip).parse_and_finish(reader);
    let of_footer = |error| error::of_footer(&version.path, &error);
    let metadata = counted(guarded(read).map_err(of_footer)?).map_err(|(file, groups)| {
        let what = format!("the footer says that the file has {file} rows, and that its row groups have {groups}");
        SnapshotError::new(SnapshotErrorKind::NotParquet, &version.path, what).hint(error::DAMAGED)
    })?;
    guarded(|| arrow_metadata(Arc::new(metadata))).map_err(of_footer)
}

/// Returns the footer with the number of rows of its row groups. The error is the file's number and that of the row groups.
fn counted(metadata: ParquetMetaData) -> Result<ParquetMetaData, (i64, i128)> {
    let file = metadata.file_metadata();
    let groups: i128 = metadata.row_groups().iter().map(|group| i128::from(group.num_rows())).sum();
    let negative = metadata.row_groups().iter().any(|group| group.num_rows() < 0);
    let rows = match i64::try_from(groups) {
        Ok(rows) if !negative && rows == file.num_rows() => return Ok(metadata),
        Ok(rows) if !negative && file.num_rows() == 0 => rows,
        _ => return Err((file.num_rows(), groups)),
    };
    // The reader reads no more rows than the file's number.
    let file = FileMetaData::new(
        file.version(),
        rows,
        file.created_by().map(str::to_owned),
        file.key_value_metadata().cloned(),
        file.schema_descr_ptr(),
        file.column_orders().cloned(),
    );
    Ok(ParquetMetaData::new(file, metadata.row_groups().to_vec()))
}

/// Finds out the Arrow types of a file's columns.
fn arrow_metadata(metadata: Arc<ParquetMetaData>) -> Result<ArrowReaderMetadata, ParquetError> {
    let options = ArrowReaderOptions::new();
    // What a writer says of Arrow may not fit its columns; then Parquet's own types decide.
    let found = ArrowReaderMetadata::try_new(Arc::clone(&metadata), options.clone()).or_else(|_| {
        ArrowReaderMetadata::try_new(Arc::clone(&metadata), options.clone().with_skip_arrow_metadata(true))
    })?;
    // The old 96-bit timestamps span more years than 64 bits of ns: read them as µs, or `9999-12-31` wraps around. Not as ms: Spark
    // computes their days in 64 bits of µs, and what wraps around there comes back only there.
    let columns = found.parquet_schema().root_schema().get_fields();
    let is_int96 = |at: usize| columns[at].is_primitive() && columns[at].get_physical_type() == Physical::INT96;
    if !(0..columns.len()).any(is_int96) {
        return Ok(found);
    }
    let fields = found.schema().fields().iter().enumerate().map(|(at, field)| match is_int96(at) {
        true => Arc::new(field.as_ref().clone().with_data_type(DataType::Timestamp(TimeUnit::Microsecond, None))),
        false => Arc::clone(field),
    });
    let schema = arrow_schema::Schema::new_with_metadata(fields.collect::<Vec<_>>(), found.schema().metadata().clone());
    ArrowReaderMetadata::try_new(metadata, options.with_schema(Arc::new(schema)))
}
