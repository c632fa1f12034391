//! Reading a model's Parquet: a warehouse is listed, its footers are checked, its rows are read in pieces.
//!
//! Promises: only wanted columns are read; the same files in the same order give the same pieces everywhere, so that workers
//! share them by index; a file that is replaced while it is read is an error, never a mixture. Refuses: files without the
//! wanted columns, and columns whose type is another than the job's and can't become it. When to pull, and what to do with
//! the rows, is decided by the caller. All calls block; none may be made from inside an async runtime.
//!
//! Local files, `http(s)://` and `s3://` are tested against real ones; `gs://` and `az://` share their path, but have been tried on
//! no real store. Credentials come from the environment (`AWS_*`, `GOOGLE_*`, `AZURE_*`), never from a job.

mod cast;
pub(crate) mod error;
mod local;
pub(crate) mod location;
mod read;
pub(crate) mod remote;
mod schema;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_schema::{DataType, TimeUnit};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Type as Physical;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::ChunkReader;
use usher_core::value::ColumnType;
use usher_core::warehouse::{Batches, FileVersion, Snapshot, SnapshotError, SnapshotErrorKind, Wanted, Warehouse};

pub use read::{PieceReader, panics_are_caught};
pub use schema::{FoundType, Schema};

use location::{Base, Location};
use read::{Layout, guarded};
use remote::Store;

/// Rows of a batch: small enough for caches, large enough that the work per batch does not show.
const BATCH_ROWS: usize = 8_192;

/// Where a model's Parquet is.
#[derive(Clone, Debug)]
pub struct ParquetWarehouse {
    location: Location,
    reach: Reach,
}

/// How the files are reached.
#[derive(Clone, Debug)]
enum Reach {
    Local(PathBuf),
    Store(Arc<Store>),
}

/// The files of a model at one time, checked and ready to be read.
#[derive(Debug)]
pub struct ParquetSnapshot {
    files: Vec<FileVersion>,
    opened: Vec<OpenedFile>,
    pieces: Vec<(usize, usize)>,
}

/// A file that was found.
#[derive(Debug)]
struct Found {
    version: FileVersion,
    handle: Handle,
}

/// How a file is opened again.
#[derive(Clone, Debug)]
enum Handle {
    Local(PathBuf),
    Store(Arc<Store>, object_store::path::Path),
}

/// A file whose footer was read.
#[derive(Debug)]
struct OpenedFile {
    handle: Handle,
    metadata: ArrowReaderMetadata,
    /// The positions in the file of the columns that are read, ascending.
    roots: Vec<usize>,
    layout: Layout,
}

impl ParquetWarehouse {
    /// Resolves `parquet`, a path, folder, glob or url as written in a job; a relative path starts at `folder`. Touches neither
    /// disk nor network; credentials of stores are taken from the environment.
    ///
    /// # Errors
    ///
    /// An unknown kind of url, or a store that is not configured.
    pub fn new(parquet: &str, folder: &Path) -> Result<ParquetWarehouse, SnapshotError> {
        let location = Location::parse(parquet, folder)?;
        let reach = match &location.base {
            Base::Local(path) => Reach::Local(path.clone()),
            Base::Store { scheme, root, path } => Reach::Store(Arc::new(Store::open(&location, *scheme, root, path)?)),
        };
        Ok(ParquetWarehouse { location, reach })
    }

    /// The columns and their types, from the footer of the first file by path.
    ///
    /// # Errors
    ///
    /// There is no file, or the first can't be read.
    pub fn schema(&self) -> Result<Schema, SnapshotError> {
        let mut found = self.list()?;
        found.truncate(1);
        let (found, metadata) = footers(found)?.remove(0);
        Ok(Schema::of_arrow(&found.version.path, metadata.schema()))
    }

    /// Lists the files and reads their footers.
    ///
    /// # Errors
    ///
    /// There is no file; one can't be read; one lacks a wanted column or has it in a type that can't become the wanted one; the
    /// column of a key is neither string nor integer.
    pub fn pull(&self, wanted: &Wanted) -> Result<ParquetSnapshot, SnapshotError> {
        let mut pull = ParquetSnapshot { files: Vec::new(), opened: Vec::new(), pieces: Vec::new() };
        for (found, metadata) in footers(self.list()?)? {
            let (roots, layout) = lay_out(&found.version.path, &metadata, wanted)?;
            let file = pull.files.len();
            let opened = OpenedFile { handle: found.handle, metadata, roots, layout };
            for row_group in 0..opened.metadata.metadata().num_row_groups() {
                opened.check(&found.version, row_group)?;
                pull.pieces.push((file, row_group));
            }
            pull.files.push(found.version);
            pull.opened.push(opened);
        }
        Ok(pull)
    }

    /// The files, by path; at least one.
    fn list(&self) -> Result<Vec<Found>, SnapshotError> {
        let mut found = match &self.reach {
            Reach::Local(base) => local::list(&self.location, base)?,
            Reach::Store(store) => store.list(&self.location)?,
        };
        if found.is_empty() {
            let what = match self.location.shape {
                location::Shape::Glob(_) => "no file matches",
                _ => "no `*.parquet` file below this folder",
            };
            return Err(SnapshotError::new(SnapshotErrorKind::Missing, &self.location.written, what)
                .hint("names with a leading `_` or `.` are skipped"));
        }
        found.sort_by(|a, b| a.version.path.cmp(&b.version.path));
        Ok(found)
    }
}

impl ParquetSnapshot {
    /// The rows of all pieces by the footers, those without a key included.
    pub fn rows(&self) -> u64 {
        let rows =
            |opened: &OpenedFile| u64::try_from(opened.metadata.metadata().file_metadata().num_rows()).unwrap_or(0);
        self.opened.iter().map(rows).sum()
    }

    /// Reads one piece, 8,192 rows at a time. Of a store, the wanted columns of the row group are fetched first and held.
    ///
    /// # Errors
    ///
    /// The file is gone, was replaced, or its first pages can't be read; later ones are the iterator's.
    ///
    /// # Panics
    ///
    /// `piece` is not below [`Snapshot::pieces`].
    pub fn piece(&self, piece: usize) -> Result<PieceReader, SnapshotError> {
        let (file, row_group) = self.pieces[piece];
        let (version, opened) = (&self.files[file], &self.opened[file]);
        let of_page = |error| error::of_page(&version.path, row_group, &error);
        let (batches, local) = match &opened.handle {
            Handle::Local(path) => {
                let file = local::open(version, path)?;
                let same = file.try_clone().map_err(|error| error::of_io(&version.path, &error))?;
                (opened.batches(file, row_group), Some(same))
            }
            Handle::Store(store, path) => {
                (opened.batches(store.fetch(version, path, opened.ranges(row_group))?, row_group), None)
            }
        };
        Ok(PieceReader {
            version: version.clone(),
            row_group,
            layout: opened.layout.clone(),
            batches: Some(batches.map_err(of_page)?),
            local,
        })
    }
}

impl Warehouse for ParquetWarehouse {
    fn open(&self, wanted: &Wanted) -> Result<Arc<dyn Snapshot>, SnapshotError> {
        Ok(Arc::new(self.pull(wanted)?))
    }
}

impl Snapshot for ParquetSnapshot {
    fn files(&self) -> &[FileVersion] {
        &self.files
    }

    fn pieces(&self) -> usize {
        self.pieces.len()
    }

    fn read(&self, piece: usize) -> Result<Batches, SnapshotError> {
        Ok(Box::new(self.piece(piece)?))
    }
}

impl OpenedFile {
    fn projection(&self) -> ProjectionMask {
        ProjectionMask::roots(self.metadata.parquet_schema(), self.roots.iter().copied())
    }

    /// The chunks of the wanted columns.
    fn chunks(&self, row_group: usize) -> impl Iterator<Item = &ColumnChunkMetaData> {
        let projection = self.projection();
        let chunks = self.metadata.metadata().row_group(row_group).columns().iter().enumerate();
        chunks.filter(move |(leaf, _)| projection.leaf_included(*leaf)).map(|(_, chunk)| chunk)
    }

    /// Checks that the wanted columns lie inside the file: the Parquet reader takes that for granted.
    fn check(&self, version: &FileVersion, row_group: usize) -> Result<(), SnapshotError> {
        let is_inside = |chunk: &ColumnChunkMetaData| {
            let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
            let (start, length) = (u64::try_from(start).ok()?, u64::try_from(chunk.compressed_size()).ok()?);
            start.checked_add(length).filter(|&end| end <= version.size)
        };
        match self.chunks(row_group).find(|chunk| is_inside(chunk).is_none()) {
            None => Ok(()),
            Some(chunk) => {
                let what = format!(
                    "the column `{}` of row group {row_group} lies beyond the end of the file",
                    chunk.column_path()
                );
                Err(SnapshotError::new(SnapshotErrorKind::NotParquet, &version.path, what)
                    .hint("the file is damaged; write it again"))
            }
        }
    }

    /// The bytes of the wanted columns.
    fn ranges(&self, row_group: usize) -> Vec<Range<u64>> {
        let range = |chunk: &ColumnChunkMetaData| {
            let (start, length) = chunk.byte_range();
            start..start + length
        };
        self.chunks(row_group).map(range).collect()
    }

    fn batches<R: ChunkReader + 'static>(
        &self,
        reader: R,
        row_group: usize,
    ) -> Result<ParquetRecordBatchReader, ParquetError> {
        guarded(|| {
            ParquetRecordBatchReaderBuilder::new_with_metadata(reader, self.metadata.clone())
                .with_row_groups(vec![row_group])
                .with_projection(self.projection())
                .with_batch_size(BATCH_ROWS)
                .build()
        })
    }
}

/// Reads the footers of files, in their order.
fn footers(found: Vec<Found>) -> Result<Vec<(Found, ArrowReaderMetadata)>, SnapshotError> {
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
    let read = || {
        let metadata =
            ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Skip).parse_and_finish(reader)?;
        arrow_metadata(Arc::new(metadata))
    };
    guarded(read).map_err(|error| error::of_footer(&version.path, &error))
}

/// Finds out the Arrow types of a file's columns.
fn arrow_metadata(metadata: Arc<ParquetMetaData>) -> Result<ArrowReaderMetadata, ParquetError> {
    let options = ArrowReaderOptions::new();
    // What a writer says of Arrow may not fit its columns; then Parquet's own types decide.
    let found = ArrowReaderMetadata::try_new(Arc::clone(&metadata), options.clone()).or_else(|_| {
        ArrowReaderMetadata::try_new(Arc::clone(&metadata), options.clone().with_skip_arrow_metadata(true))
    })?;
    // The old 96-bit timestamps span more years than 64 bits of ns: read them as ms, or `9999-12-31` wraps around.
    let columns = found.parquet_schema().root_schema().get_fields();
    let is_int96 = |at: usize| columns[at].is_primitive() && columns[at].get_physical_type() == Physical::INT96;
    if !(0..columns.len()).any(is_int96) {
        return Ok(found);
    }
    let fields = found.schema().fields().iter().enumerate().map(|(at, field)| match is_int96(at) {
        true => Arc::new(field.as_ref().clone().with_data_type(DataType::Timestamp(TimeUnit::Millisecond, None))),
        false => Arc::clone(field),
    });
    let schema = arrow_schema::Schema::new_with_metadata(fields.collect::<Vec<_>>(), found.schema().metadata().clone());
    ArrowReaderMetadata::try_new(metadata, options.with_schema(Arc::new(schema)))
}

/// Finds the wanted columns in a file.
fn lay_out(file: &str, metadata: &ArrowReaderMetadata, wanted: &Wanted) -> Result<(Vec<usize>, Layout), SnapshotError> {
    let schema = Schema::of_arrow(file, metadata.schema());
    let type_at = |at: usize| metadata.schema().field(at).data_type();
    let changed = |name: &str, at: usize, wanted: &str| {
        let found = match &schema.columns[at].1 {
            FoundType::Known(found) => found.to_string(),
            FoundType::Unsupported(found) => found.clone(),
        };
        let what = format!("the column `{name}` has the type `{found}`; wanted is `{wanted}`");
        SnapshotError::new(SnapshotErrorKind::ChangedType, file, what)
    };
    let key_at = |name: &String| {
        let at = schema.position(name)?;
        match cast::can_be_key(type_at(at)) {
            true => Ok(at),
            false => Err(changed(name, at, "string` or `integer").hint("keys are strings or integers")),
        }
    };
    let column_at = |&(ref name, to): &(String, ColumnType)| {
        let at = schema.position(name)?;
        match cast::can_become(type_at(at), to) {
            true => Ok((at, to)),
            false => Err(changed(name, at, &to.to_string()).hint(match &schema.columns[at].1 {
                FoundType::Known(found) => {
                    format!("write the column as it was, or declare it as `{}` in the job", found)
                }
                FoundType::Unsupported(_) => {
                    "no type of a job can hold it; write the column in another type".to_owned()
                }
            })),
        }
    };
    let key = key_at(&wanted.key)?;
    let foreign_key = wanted.foreign_key.as_ref().map(key_at).transpose()?;
    let columns = wanted.columns.iter().map(column_at).collect::<Result<Vec<_>, _>>()?;

    let mut roots: Vec<usize> = columns.iter().map(|&(at, _)| at).chain(foreign_key).chain([key]).collect();
    roots.sort_unstable();
    roots.dedup();
    // A batch holds the read columns only.
    let in_batch = |at: usize| roots.binary_search(&at).expect("the columns of a layout are read");
    let layout = Layout {
        key: in_batch(key),
        foreign_key: foreign_key.map(in_batch),
        columns: columns.into_iter().map(|(at, to)| (in_batch(at), to)).collect(),
    };
    Ok((roots, layout))
}
