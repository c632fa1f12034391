//! Files of an object store or a web server.
//!
//! All waiting happens on one small runtime per warehouse, started at the first request; callers block. A request is
//! repeated three times within 30 s, so that a store that is down is an error in reasonable time.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, GetOptions, GetRange, ObjectMeta, ObjectStore, RetryConfig};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use tokio::runtime::Runtime;

use super::error::{self, FROM_ENVIRONMENT};
use super::location::{Location, Scheme, Shape};
use super::tables::{ABOVE, DATA, DELTA, Format, HUDI, METADATA, METADATA_FILE, Markers, Table};
use super::{Found, Handle};
use usher_core::warehouse::FileVersion;
use usher_core::warehouse::{SnapshotError, SnapshotErrorKind};

/// The end of a file that is fetched first: it holds the footer of all but the widest files.
const TAIL_BYTES: u64 = 64 << 10;

/// Ranges nearer to each other than this are fetched as one: a request costs as much as so many bytes.
const GAP_BYTES_MAX: u64 = 256 << 10;

/// The largest request: well within the client's 30 s for any useful line.
const REQUEST_BYTES_MAX: u64 = 8 << 20;

/// Requests at a time, per reader.
const REQUESTS_MAX: usize = 8;

/// How often a request is repeated.
const REQUESTS_REPEATED: usize = 3;

/// A store with the runtime that talks to it.
pub(super) struct Store {
    store: Box<dyn ObjectStore>,
    scheme: Scheme,
    path: Path,
    runtime: OnceLock<Runtime>,
}

impl Store {
    /// Builds the client; credentials are taken from the environment. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// The url or the environment does not make a client.
    pub fn open(location: &Location, scheme: Scheme, root: &str, path: &str) -> Result<Store, SnapshotError> {
        let parsed = match scheme {
            Scheme::Http => Path::from_url_path(path),
            _ => Path::parse(path),
        };
        let path = parsed.map_err(|error| error::of_client(&location.written, &error))?;
        let store = client(scheme, root, REQUESTS_REPEATED).map_err(|error| {
            let error = error::of_client(&location.written, &error);
            if scheme == Scheme::Http { error } else { error.hint(FROM_ENVIRONMENT) }
        })?;
        Ok(Store { store, scheme, path, runtime: OnceLock::new() })
    }

    /// Lists the files of the location, in no order, and finds the table that one of them is of.
    ///
    /// # Errors
    ///
    /// The store refuses or does not answer, or the one file is missing.
    pub fn list(self: &Arc<Store>, location: &Location) -> Result<(Vec<Found>, Option<Table>), SnapshotError> {
        match &location.shape {
            Shape::Exact => match self.wait(self.probe(location)) {
                // A web server has no folders; in a bucket a name without a file may be one.
                Err(error) if error.kind == SnapshotErrorKind::Missing && self.scheme != Scheme::Http => {
                    let (found, table) = self.wait(self.below(location, &Shape::Folder))?;
                    if found.is_empty() { Err(error) } else { Ok((found, table)) }
                }
                // Nor does it list what is around a file.
                found if self.scheme == Scheme::Http => Ok((vec![found?], None)),
                found => Ok((vec![found?], self.wait(self.table_above(location, true)))),
            },
            shape => self.wait(self.below(location, shape)),
        }
    }

    /// Lists the files right in a folder below the location's path, those whose names come after `after` only. The path of each is
    /// its name.
    ///
    /// # Errors
    ///
    /// The store refuses or does not answer.
    pub fn right_in(
        self: &Arc<Store>,
        location: &Location,
        folder: &str,
        after: Option<&str>,
    ) -> Result<Vec<FileVersion>, SnapshotError> {
        let folder = self.path.clone().join(folder);
        let name = |meta: ObjectMeta| {
            let below: Vec<String> =
                meta.location.prefix_match(&folder)?.map(|part| part.as_ref().to_owned()).collect();
            let [name] = <[String; 1]>::try_from(below).ok()?;
            Some(self.found(name, meta).version)
        };
        let listing = async {
            if self.scheme == Scheme::Http {
                return Ok(self.store.list_with_delimiter(Some(&folder)).await?.objects);
            }
            match after {
                Some(after) => {
                    self.store.list_with_offset(Some(&folder), &folder.clone().join(after)).try_collect().await
                }
                None => self.store.list(Some(&folder)).try_collect::<Vec<_>>().await,
            }
        };
        let listed = self.wait(listing).map_err(|error| error::of_store(&location.written, &error))?;
        Ok(listed.into_iter().filter_map(name).collect())
    }

    /// Reads a file whole; `shown` is its path as people see it.
    ///
    /// # Errors
    ///
    /// The store refuses or does not answer, or the file is missing.
    pub fn whole(&self, shown: &str, path: &Path) -> Result<Bytes, SnapshotError> {
        let read = self.wait(async { self.store.get_opts(path, GetOptions::default()).await?.bytes().await });
        read.map_err(|error| error::of_store(shown, &error))
    }

    /// Returns the table that one of the folders above the location's path is, with `file` of that of the file.
    async fn table_above(&self, location: &Location, file: bool) -> Option<Table> {
        let names: Vec<_> = self.path.parts().collect();
        let above = (0..names.len()).rev().take(if file { ABOVE + 1 } else { ABOVE });
        let folders = above.map(|depth| Path::from_iter(names[..depth].iter().cloned()));
        let formats = folders.map(async |folder| {
            let format = self.format(&folder).await?;
            let bucket = location.shown.split('/').take(3).collect::<Vec<_>>().join("/");
            Some(Table { folder: format!("{bucket}/{folder}"), format })
        });
        futures::future::join_all(formats).await.into_iter().flatten().next()
    }

    /// Returns the format of the table that a folder is. What the store does not list is no table's.
    async fn format(&self, folder: &Path) -> Option<Format> {
        let (delta, hudi, iceberg) = futures::join!(self.has(folder, DELTA, ""), self.has(folder, HUDI, ""), async {
            self.has(folder, METADATA, METADATA_FILE).await && self.has(folder, DATA, "").await
        });
        match (delta, hudi, iceberg) {
            (true, ..) => Some(Format::Delta),
            (_, true, _) => Some(Format::Hudi),
            (.., true) => Some(Format::Iceberg),
            _ => None,
        }
    }

    /// Returns whether a folder has one of this name with a file whose name ends so. Looks at the first page of it.
    async fn has(&self, folder: &Path, name: &str, end: &str) -> bool {
        const PAGE: usize = 1_000;
        let inside = folder.clone().join(name);
        if self.scheme == Scheme::Http {
            let listing = self.store.list_with_delimiter(Some(&inside)).await;
            return listing
                .is_ok_and(|listing| listing.objects.iter().any(|file| file.location.as_ref().ends_with(end)));
        }
        let files = self.store.list(Some(&inside)).take(PAGE).take_while(|file| futures::future::ready(file.is_ok()));
        let mut ends = files.filter(|file| {
            futures::future::ready(file.as_ref().is_ok_and(|file| file.location.as_ref().ends_with(end)))
        });
        ends.next().await.is_some()
    }

    /// Fetches the ends of files, a few at a time, in their order.
    ///
    /// # Errors
    ///
    /// The first that can't be fetched.
    pub fn tails(self: &Arc<Store>, files: &[(FileVersion, Path)]) -> Result<Vec<Remote>, SnapshotError> {
        let tail = |(version, path): &(FileVersion, Path)| {
            let remote =
                Remote { store: Arc::clone(self), version: version.clone(), path: path.clone(), fetched: Vec::new() };
            async move {
                let start = remote.version.size.saturating_sub(TAIL_BYTES);
                let range = start..remote.version.size;
                if range.is_empty() {
                    return Ok(remote);
                }
                let bytes = remote.get(range).await?;
                Ok(Remote { fetched: vec![(start, bytes)], ..remote })
            }
        };
        let tails: Vec<_> = files.iter().map(tail).collect();
        self.wait(futures::stream::iter(tails).buffered(REQUESTS_MAX).try_collect())
    }

    /// A reader that holds `ranges` of a file.
    ///
    /// # Errors
    ///
    /// They can't be fetched, or the file is no longer the one that was listed.
    pub fn fetch(
        self: &Arc<Store>,
        version: &FileVersion,
        path: &Path,
        ranges: Vec<Range<u64>>,
    ) -> Result<Remote, SnapshotError> {
        let remote =
            Remote { store: Arc::clone(self), version: version.clone(), path: path.clone(), fetched: Vec::new() };
        let mut fetched = Vec::new();
        for range in merge(ranges) {
            let parts: Vec<_> = (range.start..range.end)
                .step_by(usize::try_from(REQUEST_BYTES_MAX).unwrap_or(usize::MAX))
                .map(|start| remote.get(start..range.end.min(start + REQUEST_BYTES_MAX)))
                .collect();
            let parts: Vec<Bytes> = self.wait(futures::stream::iter(parts).buffered(REQUESTS_MAX).try_collect())?;
            fetched.push((range.start, if parts.len() == 1 { parts[0].clone() } else { parts.concat().into() }));
        }
        Ok(Remote { fetched, ..remote })
    }

    /// Asks for the first byte of the one file; the answer's head says the rest. Unlike HEAD, a signed url allows it.
    async fn probe(self: &Arc<Store>, location: &Location) -> Result<Found, SnapshotError> {
        let options = GetOptions { range: Some(GetRange::Bounded(0..1)), ..GetOptions::default() };
        let answer = self.store.get_opts(&self.path, options).await;
        let meta = answer.map_err(|error| error::of_store(&location.written, &error))?.meta;
        Ok(self.found(location.written.clone(), meta))
    }

    async fn below(
        self: &Arc<Store>,
        location: &Location,
        shape: &Shape,
    ) -> Result<(Vec<Found>, Option<Table>), SnapshotError> {
        let of_store = |error: object_store::Error| error::of_store(&location.written, &error);
        let (mut found, mut markers) = (Vec::new(), Markers::default());
        let mut take = |meta: ObjectMeta| {
            let names = self.names(&meta.location);
            let names: Vec<&str> = names.iter().map(|name| &**name).collect();
            markers.see(&names);
            if shape.takes(&names) {
                found.push(self.found(format!("{}/{}", location.shown, names.join("/")), meta));
            }
        };
        if self.scheme != Scheme::Http {
            let prefix = Some(&self.path).filter(|path| !path.as_ref().is_empty());
            let mut listing = self.store.list(prefix);
            while let Some(meta) = listing.next().await {
                take(meta.map_err(of_store)?);
            }
            return Ok(self.with_table(location, found, &markers).await);
        }
        // Web servers list folder by folder; some refuse to list all at once.
        let (mut folders, mut inside) = (vec![self.path.clone()], Markers::default());
        while let Some(folder) = folders.pop() {
            let listing = self.store.list_with_delimiter(Some(&folder)).await.map_err(|error| {
                let error = of_store(error);
                SnapshotError { what: format!("listing failed: {}", error.what), ..error }
                    .hint("only a server with WebDAV lists its files; give the url of one file")
            })?;
            listing.objects.into_iter().for_each(&mut take);
            for below in listing.common_prefixes {
                let names = self.names(&below);
                let names: Vec<&str> = names.iter().map(|name| &**name).collect();
                inside.see(&names);
                if shape.enters(&names) {
                    folders.push(below);
                }
            }
        }
        markers.join(inside);
        Ok(self.with_table(location, found, &markers).await)
    }

    /// Returns the files with the table that one of them is of.
    async fn with_table(
        &self,
        location: &Location,
        found: Vec<Found>,
        markers: &Markers,
    ) -> (Vec<Found>, Option<Table>) {
        let below = found.iter().find_map(|found| match &found.handle {
            Handle::Store(_, path) => {
                let names = self.names(path);
                markers.around(&names.iter().map(|name| &**name).collect::<Vec<_>>())
            }
            Handle::Local(_) => None,
        });
        let table = match below {
            Some((folder, format)) => Some(Table { folder: format!("{}/{folder}", location.shown), format }),
            None => self.table_above(location, false).await,
        };
        (found, table)
    }

    /// The names below the location's path.
    fn names(&self, path: &Path) -> Vec<String> {
        path.prefix_match(&self.path).into_iter().flatten().map(|part| part.as_ref().to_owned()).collect()
    }

    fn found(self: &Arc<Store>, path: String, meta: ObjectMeta) -> Found {
        let version = FileVersion {
            path,
            size: meta.size,
            e_tag: meta.e_tag,
            modified_ms: Some(meta.last_modified.timestamp_millis()),
        };
        Found { version, handle: Handle::Store(Arc::clone(self), meta.location) }
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        let start = || {
            // One thread keeps the connections; decoding is the caller's.
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("usher-warehouse")
                .enable_all()
                .build()
                .expect("a runtime starts wherever a thread does")
        };
        self.runtime.get_or_init(start).block_on(future)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the client: it knows credentials.
        f.debug_struct("Store").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

/// Builds the client of a store, which repeats a request so often within 30 s.
pub(crate) fn client(scheme: Scheme, root: &str, repeated: usize) -> Result<Box<dyn ObjectStore>, object_store::Error> {
    // The client takes the process's provider of TLS. A second installation changes nothing.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 3.0,
        },
        max_retries: repeated,
        retry_timeout: Duration::from_secs(30),
    };
    Ok(match scheme {
        Scheme::S3 => {
            let mut builder = AmazonS3Builder::from_env().with_url(root).with_retry(retry);
            // Whoever names an endpoint without TLS means it.
            if builder
                .get_config_value(&AmazonS3ConfigKey::Endpoint)
                .is_some_and(|endpoint| endpoint.starts_with("http://"))
            {
                builder = builder.with_allow_http(true);
            }
            Box::new(builder.build()?)
        }
        Scheme::Gs => Box::new(GoogleCloudStorageBuilder::from_env().with_url(root).with_retry(retry).build()?),
        Scheme::Az => Box::new(MicrosoftAzureBuilder::from_env().with_url(root).with_retry(retry).build()?),
        Scheme::Http => {
            let options = ClientOptions::new().with_allow_http(true);
            Box::new(HttpBuilder::new().with_url(root).with_client_options(options).with_retry(retry).build()?)
        }
    })
}

/// Joins ranges that overlap or are near to each other.
fn merge(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(GAP_BYTES_MAX) => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// A file of a store, of which some parts have been fetched; others are fetched when asked for.
#[derive(Debug)]
pub(super) struct Remote {
    store: Arc<Store>,
    version: FileVersion,
    path: Path,
    /// Start and content.
    fetched: Vec<(u64, Bytes)>,
}

impl Remote {
    async fn get(&self, range: Range<u64>) -> Result<Bytes, SnapshotError> {
        let of_store = |error: object_store::Error| error::of_store(&self.version.path, &error);
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            // A weak tag never matches in If-Match.
            if_match: self.version.e_tag.clone().filter(|tag| !tag.starts_with("W/")),
            ..GetOptions::default()
        };
        let answer = self.store.store.get_opts(&self.path, options).await.map_err(of_store)?;
        if answer.meta.size != self.version.size {
            return Err(error::replaced(&self.version.path));
        }
        let bytes = answer.bytes().await.map_err(of_store)?;
        match bytes.len() as u64 == range.end - range.start {
            true => Ok(bytes),
            false => Err(SnapshotError::new(
                SnapshotErrorKind::Network,
                &self.version.path,
                "the answer is shorter than the range asked for",
            )),
        }
    }

    /// What has been fetched from `start` on.
    fn held(&self, start: u64) -> Option<Bytes> {
        self.fetched.iter().find_map(|(at, bytes)| {
            let skip = usize::try_from(start.checked_sub(*at)?).ok()?;
            (skip < bytes.len()).then(|| bytes.slice(skip..))
        })
    }
}

impl Length for Remote {
    fn len(&self) -> u64 {
        self.version.size
    }
}

impl ChunkReader for Remote {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        use bytes::Buf;
        let held = self.held(start).ok_or_else(|| ParquetError::EOF(format!("nothing is known of byte {start}")))?;
        Ok(held.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        if let Some(held) = self.held(start).filter(|held| held.len() >= length) {
            return Ok(held.slice(..length));
        }
        let end = start.checked_add(length as u64).filter(|&end| end <= self.version.size);
        let end =
            end.ok_or_else(|| ParquetError::EOF(format!("{length} bytes at {start} lie beyond the end of the file")))?;
        if length == 0 {
            return Ok(Bytes::new());
        }
        self.store.wait(self.get(start..end)).map_err(|error| ParquetError::External(Box::new(error)))
    }
}
