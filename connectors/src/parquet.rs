//! Reading a model's Parquet: a warehouse is listed, its footers are checked, its rows are read in pieces.
//!
//! Promises: only wanted columns are read; the same files in the same order give the same pieces everywhere, so that workers
//! share them by index; a file that is replaced while it is read is an error, never a mixture; checksums of pages are verified,
//! and a row group has as many rows as its footer says; of a Delta table ([`delta`]) what is read is one version. Refuses: what
//! [`layout`] refuses of columns, the folder of a table format where plain files are read ([`tables`]), and what is compressed or encrypted in a way that is not read here, by its name. When to pull, and what to do
//! with the rows, is decided by the caller. All calls block; none may be made from inside an async runtime.
//!
//! Local files, `http(s)://` and `s3://` are tested against real ones; `gs://` and `az://` share their path, but have been tried on
//! no real store. Credentials come from the environment (`AWS_*`, `GOOGLE_*`, `AZURE_*`), never from a job.

mod cast;
mod delta;
pub(crate) mod error;
mod footer;
mod layout;
mod local;
pub(crate) mod location;
mod partitions;
mod read;
pub(crate) mod remote;
mod schema;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::ChunkReader;
use usher_config::TableVersion;
use usher_core::warehouse::{
    Batches, Difference, FileVersion, Snapshot, SnapshotError, SnapshotErrorKind, Version, Wanted, Warehouse,
};

pub use read::{PieceReader, panics_are_caught};
pub use schema::{FoundType, Schema};

use delta::deletion::Deleted;
use delta::difference::{Differing, OfTable, Part};
use delta::{Between, Delta, TableFile};
use footer::footers;
use layout::{Layout, Layouts};
use location::{Base, Location};
use read::guarded;
use remote::Store;

/// Rows of a batch: small enough for caches, large enough that the work per batch does not show.
const BATCH_ROWS: usize = 8_192;

/// Where a model's Parquet is.
#[derive(Clone, Debug)]
pub struct ParquetWarehouse {
    location: Location,
    reach: Reach,
    /// Whether the files of a table format are read as plain files.
    force_files: bool,
    /// Set if it is the folder of a Delta table.
    delta: Option<Delta>,
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
    version: Option<Version>,
    /// What the log of a table says of it.
    of_table: Option<OfTable>,
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
    deleted: Option<Deleted>,
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
        Ok(ParquetWarehouse { location, reach, force_files: false, delta: None })
    }

    /// Resolves `url`, the path or url of a Delta table's folder as written in a job, otherwise as [`ParquetWarehouse::new`] does.
    /// Reads its version `at`.
    ///
    /// # Errors
    ///
    /// An unknown kind of url, or a store that is not configured.
    pub fn delta(url: &str, at: TableVersion, folder: &Path) -> Result<ParquetWarehouse, SnapshotError> {
        let files = ParquetWarehouse::new(url, folder)?;
        Ok(ParquetWarehouse { delta: Some(Delta::new(at)), ..files })
    }

    /// Reads all files that are found, whether they are plain files or some of a table's, if `force` is set.
    pub fn force_files(self, force: bool) -> ParquetWarehouse {
        ParquetWarehouse { force_files: force, ..self }
    }

    /// Returns the columns and their types, from the footer of the first file by path; of a Delta table from its log.
    ///
    /// # Errors
    ///
    /// There is no file, or the first can't be read.
    pub fn schema(&self) -> Result<Schema, SnapshotError> {
        if self.delta.is_some() {
            return self.whole_schema();
        }
        let mut found = self.list()?;
        found.truncate(1);
        self.schema_of(found)
    }

    /// Returns the columns and their types, from the footers of all files; a column's type is that of the first file that has it.
    ///
    /// # Errors
    ///
    /// There is no file, or one can't be read.
    pub fn whole_schema(&self) -> Result<Schema, SnapshotError> {
        if let Some(delta) = &self.delta {
            let columns = delta.columns(&self.location, &self.reach)?;
            return Ok(Schema::of_table(&self.location.shown, &columns));
        }
        self.schema_of(self.list()?)
    }

    fn schema_of(&self, found: Vec<Found>) -> Result<Schema, SnapshotError> {
        let footers = footers(found)?;
        let mut schemas = footers.iter().map(|(found, metadata)| Schema::of_file(&found.version.path, metadata));
        let mut schema = schemas.next().expect("at least one file is listed");
        schemas.for_each(|other| schema.join(other));
        Ok(schema)
    }

    /// Lists the files and reads their footers. Of a Delta table a version that was opened before is the same snapshot.
    ///
    /// # Errors
    ///
    /// There is no file; one can't be read; one lacks a key, or has a wanted column in a type that can't become the wanted one; no
    /// file has a wanted column; the column of a key is neither string nor integer; or what [`delta`] refuses.
    pub fn pull(&self, wanted: &Wanted) -> Result<Arc<ParquetSnapshot>, SnapshotError> {
        let Some(delta) = &self.delta else {
            let files = footers(self.list()?)?.into_iter().map(|(found, metadata)| {
                let schema = Schema::of_file(&found.version.path, &metadata);
                (found, metadata, schema, None)
            });
            return ParquetSnapshot::new(None, files, wanted).map(Arc::new);
        };
        delta.open(&self.location, &self.reach, wanted, |table, before| {
            let (files, of_files): (Vec<_>, Vec<_>) = table.files.into_iter().unzip();
            let files = footers_but(files, before)?.into_iter().zip(&of_files).map(|((found, metadata), file)| {
                let schema = Schema::of_table_file(&found.version.path, &metadata, file);
                (found, metadata, schema, file.deleted.clone())
            });
            // Also where the table has no file.
            let columns = Schema::of_table(&self.location.shown, &table.columns);
            let lacks = |name: &&String| matches!(columns.position(name), Ok(None));
            let names = wanted.columns.iter().map(|(name, _)| name).chain(&wanted.foreign_key).chain([&wanted.key]);
            match names.into_iter().find(lacks) {
                Some(name) => Err(columns.missing(name)),
                None => {
                    let opened = ParquetSnapshot::new(Some(table.version), files, wanted)?;
                    let of_table = OfTable { entry: table.entry, columns: table.columns, files: of_files };
                    Ok(ParquetSnapshot { of_table: Some(of_table), ..opened })
                }
            }
        })
    }

    /// Returns the rows that were added and those that were removed from one version of a Delta table to a later one, as
    /// [`Warehouse::difference`] does.
    fn differing(&self, from: &Version, to: &Version, wanted: &Wanted) -> Option<[ParquetSnapshot; 2]> {
        let delta = self.delta.as_ref()?;
        let Between { from, to, differences } = delta.between(&self.location, &self.reach, (from, to), wanted)?;
        let key = Wanted {
            key: wanted.key.clone(),
            foreign_key: None,
            columns: Vec::new(),
            undeclared: wanted.undeclared.iter().filter(|name| **name == wanted.key).cloned().collect(),
        };
        let added = to.only(differences.added, wanted)?;
        let removed = from.only(differences.removed, &key)?;
        (added.rows() + removed.rows() < to.rows()).then_some([added, removed])
    }

    /// The files, by path; at least one.
    fn list(&self) -> Result<Vec<Found>, SnapshotError> {
        let (mut found, table) = match &self.reach {
            Reach::Local(base) => local::list(&self.location, base)?,
            Reach::Store(store) => store.list(&self.location)?,
        };
        if let Some(table) = table.filter(|_| !self.force_files) {
            return Err(table.error());
        }
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

/// Reads the footers of files, but of those that the snapshot `before` has.
fn footers_but(
    files: Vec<Found>,
    before: Option<&ParquetSnapshot>,
) -> Result<Vec<(Found, ArrowReaderMetadata)>, SnapshotError> {
    let before = before.into_iter().flat_map(|before| before.files.iter().zip(&before.opened));
    let known: HashMap<&str, _> = before.map(|(version, opened)| (&version.path[..], (version, opened))).collect();
    let known = |found: &Found| {
        let (version, opened) = known.get(&found.version.path[..])?;
        (**version == found.version).then(|| opened.metadata.clone())
    };
    let of_files: Vec<_> = files.iter().map(known).collect();
    let (mut read, mut all) = (Vec::new(), Vec::new());
    for (found, metadata) in files.into_iter().zip(of_files) {
        match metadata {
            Some(metadata) => all.push((found, metadata)),
            None => read.push(found),
        }
    }
    all.extend(footers(read)?);
    all.sort_by(|a, b| a.0.version.path.cmp(&b.0.version.path));
    Ok(all)
}

impl ParquetSnapshot {
    /// Lays out files, each with its footer, its columns and its deleted rows.
    fn new(
        version: Option<Version>,
        files: impl Iterator<Item = (Found, ArrowReaderMetadata, Schema, Option<Deleted>)>,
        wanted: &Wanted,
    ) -> Result<ParquetSnapshot, SnapshotError> {
        let (of_table, opened, pieces) = (None, Vec::new(), Vec::new());
        let mut pull = ParquetSnapshot { version, of_table, files: Vec::new(), opened, pieces };
        let mut layouts = Layouts::new(wanted);
        for (found, metadata, schema, deleted) in files {
            let (roots, layout) = layouts.file(schema)?;
            let file = pull.files.len();
            let opened = OpenedFile { handle: found.handle, metadata, roots, layout, deleted };
            for row_group in 0..opened.metadata.metadata().num_row_groups() {
                opened.check(&found.version, row_group)?;
                let rows = opened.rows_before(row_group)..opened.rows_before(row_group + 1);
                if opened.deleted.as_ref().is_none_or(|deleted| !deleted.covers(rows)) {
                    pull.pieces.push((file, row_group));
                }
            }
            pull.files.push(found.version);
            pull.opened.push(opened);
        }
        layouts.end()?;
        Ok(pull)
    }

    /// The rows of all pieces by the footers, those without a key included, those that are deleted not.
    pub fn rows(&self) -> u64 {
        let rows = |opened: &OpenedFile| {
            let deleted = opened.deleted.as_ref().map_or(0, Deleted::count);
            opened.rows().saturating_sub(deleted)
        };
        self.opened.iter().map(rows).sum()
    }

    /// Returns what is wanted of some files of the table, and of these the rows that differ; `None` if one can't be read.
    fn only(&self, files: Vec<Differing>, wanted: &Wanted) -> Option<ParquetSnapshot> {
        let of_table = self.of_table.as_ref()?;
        let file = |Differing { part, same }: Differing| {
            let (found, metadata, file): (Found, ArrowReaderMetadata, TableFile) = match part {
                Part::Of(at) => {
                    let found = Found { version: self.files[at].clone(), handle: self.opened[at].handle.clone() };
                    (found, self.opened[at].metadata.clone(), of_table.files[at].clone())
                }
                Part::Between(found, file) => {
                    let (found, metadata) = footers(vec![found]).ok()?.pop()?;
                    (found, metadata, file)
                }
            };
            let schema = Schema::of_table_file(&found.version.path, &metadata, &file);
            Some((found, metadata, schema, same.or(file.deleted)))
        };
        let files = files.into_iter().map(file).collect::<Option<Vec<_>>>()?;
        ParquetSnapshot::new(self.version.clone(), files.into_iter(), wanted).ok()
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
        self.open_piece(piece).map_err(|error| match &self.version {
            Some(version) => delta::of_gone(version.number, error),
            None => error,
        })
    }

    fn open_piece(&self, piece: usize) -> Result<PieceReader, SnapshotError> {
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
            rows_read: 0,
            rows_said: opened.metadata.metadata().row_group(row_group).num_rows(),
            batches: Some(batches.map_err(of_page)?),
            deleted: opened.deleted.clone().map(|deleted| (deleted, opened.rows_before(row_group))),
            local,
        })
    }
}

impl Warehouse for ParquetWarehouse {
    fn open(&self, wanted: &Wanted) -> Result<Arc<dyn Snapshot>, SnapshotError> {
        Ok(self.pull(wanted)?)
    }

    fn difference(&self, from: &Version, to: &Version, wanted: &Wanted) -> Option<Difference> {
        let [added, removed] = self.differing(from, to, wanted)?;
        Some(Difference { added: Arc::new(added), removed: Arc::new(removed) })
    }
}

impl Snapshot for ParquetSnapshot {
    fn files(&self) -> &[FileVersion] {
        &self.files
    }

    fn version(&self) -> Option<&Version> {
        self.version.as_ref()
    }

    fn rows(&self) -> u64 {
        ParquetSnapshot::rows(self)
    }

    fn pieces(&self) -> usize {
        self.pieces.len()
    }

    fn file(&self, piece: usize) -> usize {
        self.pieces[piece].0
    }

    fn read(&self, piece: usize) -> Result<Batches, SnapshotError> {
        Ok(Box::new(self.piece(piece)?))
    }
}

impl OpenedFile {
    /// The rows by the footer, the deleted ones included.
    fn rows(&self) -> u64 {
        self.rows_before(self.metadata.metadata().num_row_groups())
    }

    /// The rows of the row groups before one.
    fn rows_before(&self, row_group: usize) -> u64 {
        let groups = &self.metadata.metadata().row_groups()[..row_group];
        groups.iter().map(|group| u64::try_from(group.num_rows()).unwrap_or(0)).sum()
    }

    fn projection(&self) -> ProjectionMask {
        ProjectionMask::roots(self.metadata.parquet_schema(), self.roots.iter().copied())
    }

    /// The chunks of the wanted columns.
    fn chunks(&self, row_group: usize) -> impl Iterator<Item = &ColumnChunkMetaData> {
        let projection = self.projection();
        let chunks = self.metadata.metadata().row_group(row_group).columns().iter().enumerate();
        chunks.filter(move |(leaf, _)| projection.leaf_included(*leaf)).map(|(_, chunk)| chunk)
    }

    /// Checks that the wanted columns can be read, and lie inside the file: the Parquet reader takes that for granted.
    fn check(&self, version: &FileVersion, row_group: usize) -> Result<(), SnapshotError> {
        for chunk in self.chunks(row_group) {
            let column = chunk.column_path().string();
            let codec = match chunk.compression() {
                Compression::BROTLI(_) => "brotli",
                Compression::LZO => "LZO",
                _ if chunk.crypto_metadata().is_some() => {
                    let what = format!("the column `{column}` is encrypted, which is not supported");
                    return Err(error::unsupported(&version.path, what, error::NOT_ENCRYPTED));
                }
                _ => continue,
            };
            let what = format!("the column `{column}` is compressed with {codec}, which is not supported");
            return Err(error::unsupported(&version.path, what, "compress it with zstd, snappy, gzip or lz4"));
        }
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
                    chunk.column_path().string()
                );
                Err(SnapshotError::new(SnapshotErrorKind::NotParquet, &version.path, what).hint(error::DAMAGED))
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
