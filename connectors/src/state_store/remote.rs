//! Objects in a bucket: S3, Google Cloud Storage, Azure.
//!
//! What fails for a reason that may pass (no answer, an answer of 5xx) is tried again, with growing pauses, for about 20 s. A
//! request whose answer was lost may have been done: creating again then finds an object there, which is said and not an error.

use std::time::Duration;

use backon::{BlockingRetryable, ExponentialBuilder};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use tokio::runtime::Runtime;

use super::objects::Blobs;
use crate::parquet::error::{self, FROM_ENVIRONMENT};
use crate::parquet::location::{Base, Location, Scheme, Shape};
use crate::parquet::remote::client;
use usher_core::store::StoreError;
use usher_core::warehouse::SnapshotErrorKind;

/// The first pause, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How often a request is repeated: with these pauses for about 20 s, within which a service restarts or a load balancer turns.
const REPEATED_MAX: usize = 8;

/// A folder of a bucket.
pub(super) struct Bucket {
    /// Without credentials.
    shown: String,
    store: Box<dyn ObjectStore>,
    root: Path,
    runtime: Runtime,
}

impl Bucket {
    /// Builds the client; credentials are taken from the environment. Nothing is sent yet.
    pub fn open(url: &str) -> Result<Bucket, StoreError> {
        let refused = |url: &str, reason: String| StoreError::Failed { url: url.to_owned(), action: "opened", reason };
        // No relative path comes here.
        let location =
            Location::parse(url, std::path::Path::new("")).map_err(|error| refused(&error.at, error.what))?;
        let shown = &location.shown;
        let Base::Store { scheme, root, path } = location.base else {
            panic!("a path is opened as a folder");
        };
        if scheme == Scheme::Http {
            return Err(refused(
                shown,
                "a web server keeps no state; give a folder, `s3://`, `gs://` or `az://`".into(),
            ));
        }
        if matches!(location.shape, Shape::Glob(_)) {
            return Err(refused(shown, "a place has no wildcards".into()));
        }
        let of_client = |error: &dyn std::error::Error| refused(shown, error::of_client(shown, error).what);
        let path = Path::parse(path).map_err(|error| of_client(&error))?;
        let store = client(scheme, &root, 0).map_err(|error| of_client(&error))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("usher-state")
            .enable_all()
            .build()
            .map_err(|error| refused(shown, error.to_string()))?;
        Ok(Bucket { shown: location.shown, store, root: path, runtime })
    }

    /// The url as people see it.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    #[cfg(test)]
    pub fn over(store: Box<dyn ObjectStore>) -> Bucket {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Bucket { shown: "test://".to_owned(), store, root: Path::from("state"), runtime: runtime.expect("a runtime") }
    }

    fn path(&self, name: &str) -> Path {
        name.split('/').fold(self.root.clone(), Path::join)
    }

    /// Does a request until it is answered for good.
    fn ask<T, F: Future<Output = Result<T, Error>>>(&self, request: impl Fn() -> F) -> Result<T, Error> {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(PAUSES.0)
            .with_max_delay(PAUSES.1)
            .with_max_times(REPEATED_MAX)
            .with_jitter();
        (|| self.runtime.block_on(request()))
            .retry(pauses)
            .when(|error| {
                let said = error::of_store(&self.shown, error);
                let passing = matches!(error, Error::Generic { .. }) && said.kind == SnapshotErrorKind::Network;
                if passing {
                    tracing::warn!(url = self.shown, reason = said.what, "a request for state is tried again");
                }
                passing
            })
            .call()
    }

    fn said(&self, error: &Error) -> String {
        let said = error::of_store(&self.shown, error);
        match said.kind {
            SnapshotErrorKind::Denied => format!("{}; {FROM_ENVIRONMENT}", said.what),
            _ => said.what,
        }
    }
}

impl Blobs for Bucket {
    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, String> {
        let path = self.path(name);
        let bytes = bytes::Bytes::copy_from_slice(bytes);
        let create = || {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            self.store.put_opts(&path, bytes.clone().into(), options)
        };
        match self.ask(create) {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(self.said(&error)),
        }
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        let path = self.path(name);
        match self.ask(|| async { self.store.get(&path).await?.bytes().await }) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.said(&error)),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, String> {
        let folder = self.path(folder);
        let listed = self.ask(|| self.store.list(Some(&folder)).try_collect::<Vec<_>>());
        let listed = listed.map_err(|error| self.said(&error))?;
        Ok(listed.iter().filter_map(|meta| meta.location.filename().map(str::to_owned)).collect())
    }

    fn remove(&self, name: &str) -> Result<(), String> {
        let path = self.path(name);
        match self.ask(|| self.store.delete(&path)) {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.said(&error)),
        }
    }
}
