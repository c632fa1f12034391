//! Where files are: on this machine, or in an object store.
//!
//! Local files are read where they are. Of a remote one the footer is fetched, then, row group by row group, the bytes of
//! the wanted columns in one request: memory is bounded by those.

use super::{SnapshotError, reader_options};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::http::HttpBuilder;
use object_store::path::Path as ObjectPath;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use url::Url;

/// How much of a remote file's end is fetched at first: most footers fit.
const FOOTER: u64 = 64 << 10;
/// How long a store that does not answer is asked again before the pull fails.
const RETRY: Duration = Duration::from_secs(20);

#[derive(Clone)]
pub(super) enum Location {
    Local(PathBuf),
    Remote(Arc<Remote>),
}

pub(super) struct Remote {
    url: String,
    store: Box<dyn ObjectStore>,
    /// What is in the store's own terms: a file, a folder or a glob.
    path: String,
    /// It can't be listed: the url is a file's.
    single: bool,
    runtime: Runtime,
}

/// A file to read.
#[derive(Clone, Debug)]
pub(super) struct Object {
    /// As messages name it.
    pub(super) name: String,
    /// Local files' paths.
    pub(super) path: Option<PathBuf>,
    remote: ObjectPath,
    size: u64,
}

impl Location {
    pub(super) fn parse(parquet: &str, folder: &Path, options: &[(String, String)]) -> Result<Location, SnapshotError> {
        let Some((scheme, rest)) = parquet.split_once("://") else {
            return Ok(Location::Local(folder.join(parquet)));
        };
        if scheme == "file" {
            return Ok(Location::Local(PathBuf::from(rest)));
        }
        let failed = |error: &dyn std::fmt::Display| {
            SnapshotError::new(
                format!("`{parquet}` can't be opened: {error}"),
                "stores are named by s3://bucket/path, gs://bucket/path, az://container/path or http(s)://host/file; their credentials come from the environment",
            )
        };
        // A glob's characters are none of a url's.
        let base = Url::parse(&format!("{scheme}://{}", rest.split('/').next().unwrap_or_default())).map_err(|e| failed(&e))?;
        let path = rest.split_once('/').map_or("", |(_, path)| path).to_owned();
        let retry = RetryConfig { max_retries: 3, retry_timeout: RETRY, ..RetryConfig::default() };
        let single = matches!(scheme, "http" | "https");
        let store: Box<dyn ObjectStore> = match scheme {
            "s3" | "s3a" => {
                let mut builder = AmazonS3Builder::new().with_url(base.as_str()).with_retry(retry);
                for (key, value) in options {
                    if let Ok(key) = key.parse() {
                        builder = builder.with_config(key, value);
                    }
                }
                Box::new(builder.build().map_err(|e| failed(&e))?)
            }
            "http" | "https" => {
                let client = ClientOptions::new().with_allow_http(true);
                let builder = HttpBuilder::new().with_url(base.as_str()).with_retry(retry).with_client_options(client);
                Box::new(builder.build().map_err(|e| failed(&e))?)
            }
            _ => object_store::parse_url_opts(&base, options.iter().cloned()).map_err(|e| failed(&e))?.0,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("store").enable_all().build();
        let runtime = runtime.map_err(|e| failed(&e))?;
        Ok(Location::Remote(Arc::new(Remote { url: parquet.to_owned(), store, path, single, runtime })))
    }

    /// The files, sorted by name; at least one.
    pub(super) fn list(&self) -> Result<Vec<Object>, SnapshotError> {
        let (mut objects, named) = match self {
            Location::Local(path) => (list_local(path)?, path.display().to_string()),
            Location::Remote(remote) => (remote.list()?, remote.url.clone()),
        };
        if objects.is_empty() {
            return Err(SnapshotError::new(
                format!("no Parquet file at `{named}`"),
                "a path may be a file, a folder with *.parquet below it, or a glob; relative paths are relative to the job file's folder",
            ));
        }
        objects.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(objects)
    }

    pub(super) fn footer(&self, object: &Object) -> Result<ArrowReaderMetadata, SnapshotError> {
        let not_parquet = |error: ParquetError| SnapshotError::not_parquet(&object.name, &error);
        match self {
            Location::Local(path) => {
                let path = object.path.as_ref().unwrap_or(path);
                let file = File::open(path).map_err(|error| SnapshotError::io(&object.name, &error))?;
                ArrowReaderMetadata::load(&file, reader_options()).map_err(not_parquet)
            }
            Location::Remote(remote) => {
                let mut reader = ParquetMetaDataReader::new();
                let mut want = FOOTER.min(object.size);
                loop {
                    let end = remote.range(object, object.size - want..object.size)?;
                    match reader.try_parse_sized(&end, object.size) {
                        Ok(()) => break,
                        Err(ParquetError::NeedMoreData(more)) if want < object.size => want = (more as u64).clamp(want + 1, object.size),
                        Err(error) => return Err(not_parquet(error)),
                    }
                }
                let metadata = reader.finish().map_err(not_parquet)?;
                ArrowReaderMetadata::try_new(Arc::new(metadata), reader_options()).map_err(not_parquet)
            }
        }
    }

    /// Fetches the wanted columns of a remote row group.
    pub(super) fn row_group(
        &self,
        object: &Object,
        metadata: &ParquetMetaData,
        row_group: usize,
        mask: &ProjectionMask,
    ) -> Result<RowGroupBytes, SnapshotError> {
        let Location::Remote(remote) = self else { panic!("a local row group is read from its file") };
        let columns = metadata.row_group(row_group).columns().iter().enumerate().filter(|(leaf, _)| mask.leaf_included(*leaf));
        let ranges: Vec<Range<u64>> = columns.map(|(_, column)| column.byte_range()).map(|(start, len)| start..start + len).collect();
        let bytes = remote.runtime.block_on(remote.store.get_ranges(&object.remote, &ranges)).map_err(|e| remote.failed(&object.name, e))?;
        let chunks = ranges.iter().map(|range| range.start).zip(bytes).collect();
        Ok(RowGroupBytes { chunks, size: object.size })
    }
}

fn list_local(path: &Path) -> Result<Vec<Object>, SnapshotError> {
    let object = |path: PathBuf| Object { name: path.display().to_string(), path: Some(path), remote: ObjectPath::default(), size: 0 };
    let mut found = Vec::new();
    if path.is_dir() {
        below(path, &mut found).map_err(|error| SnapshotError::io(&path.display().to_string(), &error))?;
    } else if path.exists() {
        found.push(path.to_owned());
    } else if path.to_string_lossy().contains(['*', '?', '[']) {
        let pattern = path.to_string_lossy();
        let paths = glob::glob(&pattern).map_err(|error| SnapshotError::new(format!("`{pattern}` is no glob: {error}"), "globs know *, ? and **"))?;
        for path in paths {
            let path = path.map_err(|error| SnapshotError::io(&error.path().display().to_string(), error.error()))?;
            if path.is_file() {
                found.push(path);
            }
        }
    }
    Ok(found.into_iter().map(object).collect())
}

fn below(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        if is_hidden(&name.to_string_lossy()) {
            continue;
        }
        if path.is_dir() {
            below(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            found.push(path);
        }
    }
    Ok(())
}

/// Names that writers use for what is not, or not yet, data.
fn is_hidden(name: &str) -> bool {
    name.starts_with(['_', '.'])
}

impl Remote {
    fn list(&self) -> Result<Vec<Object>, SnapshotError> {
        let failed = |error| self.failed(&self.url, error);
        let object = |meta: object_store::ObjectMeta| {
            let root = &self.url[..self.url.len() - self.path.len()];
            Object { name: format!("{root}{}", meta.location), path: None, remote: meta.location, size: meta.size }
        };
        let wildcard = self.path.find(['*', '?']);
        if wildcard.is_none() && (self.single || self.path.ends_with(".parquet")) {
            let path = ObjectPath::parse(&self.path).map_err(|error| failed(error.into()))?;
            let head = self.runtime.block_on(self.store.head(&path)).map_err(failed)?;
            return Ok(vec![object(head)]);
        }
        if self.single {
            return Err(SnapshotError::new(format!("`{}` has a glob in it", self.url), "over http a url names one file; object stores can list"));
        }
        let folder = &self.path[..self.path[..wildcard.unwrap_or(self.path.len())].rfind('/').map_or(0, |at| at + 1)];
        let folder = if wildcard.is_some() { folder } else { &self.path };
        let prefix = ObjectPath::parse(folder.trim_end_matches('/')).map_err(|error| failed(error.into()))?;
        let pattern = wildcard.map(|_| glob::Pattern::new(&self.path)).transpose().map_err(|error| {
            SnapshotError::new(format!("`{}` is no glob: {error}", self.url), "globs know *, ? and **")
        })?;
        let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
        let all: Vec<object_store::ObjectMeta> = self.runtime.block_on(self.store.list(Some(&prefix)).try_collect()).map_err(failed)?;
        let wanted = all.into_iter().filter(|meta| match &pattern {
            Some(pattern) => pattern.matches_with(meta.location.as_ref(), options),
            None => {
                let below = meta.location.as_ref()[prefix.as_ref().len()..].split('/');
                meta.location.as_ref().ends_with(".parquet") && !below.into_iter().any(is_hidden)
            }
        });
        Ok(wanted.map(object).collect())
    }

    fn range(&self, object: &Object, range: Range<u64>) -> Result<Bytes, SnapshotError> {
        self.runtime.block_on(self.store.get_range(&object.remote, range)).map_err(|error| self.failed(&object.name, error))
    }

    fn failed(&self, name: &str, error: object_store::Error) -> SnapshotError {
        use object_store::Error as E;
        let (what, hint) = match &error {
            E::NotFound { .. } => ("does not exist".to_owned(), "check the bucket and the path"),
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => ("may not be read".to_owned(), "credentials come from the environment (AWS_ACCESS_KEY_ID, ..)"),
            other => (format!("can't be read: {other}"), "is the store there? AWS_ENDPOINT names one that is not Amazon's"),
        };
        SnapshotError::new(format!("`{name}` {what}"), hint)
    }
}

/// The fetched part of a remote file.
pub(super) struct RowGroupBytes {
    /// By start.
    chunks: Vec<(u64, Bytes)>,
    size: u64,
}

impl RowGroupBytes {
    fn from(&self, start: u64) -> parquet::errors::Result<Bytes> {
        let chunk = self.chunks.iter().find(|(at, bytes)| *at <= start && start < at + bytes.len() as u64);
        let (at, bytes) = chunk.ok_or_else(|| ParquetError::General(format!("byte {start} belongs to no wanted column")))?;
        Ok(bytes.slice((start - at) as usize..))
    }
}

impl Length for RowGroupBytes {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for RowGroupBytes {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(bytes::Buf::reader(self.from(start)?))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let bytes = self.from(start)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!("{length} bytes from byte {start} are not all there")));
        }
        Ok(bytes.slice(..length))
    }
}
