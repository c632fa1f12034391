//! A store of framed objects, in a folder of this machine or in a bucket.
//!
//! Manifests are `manifests/NUMBER` (20 digits), parts are `parts/NAME`, schemas that messages name are `schemas/NAME`. A number is published by creating its object where there
//! is none, and then looking that no greater one has come: as the greatest manifest is never removed, whoever sees only
//! lower ones after it created its own is the latest.

use std::collections::BTreeSet;
use std::path::Path;

use super::frame::{self, Flaw, Kind};
use super::local::Folder;
use super::remote::Bucket;
use usher_core::store::{Store, StoreError};

/// How often a read begins anew because what it had listed is gone: each time, another has published and cleaned up.
const READS_MAX: usize = 100;

/// Bytes by name, `/` between folder and name. Errors are what the system or the server said.
pub(super) trait Blobs: Send + Sync {
    /// Stores bytes under a name, whole or not at all; tells whether nothing was there before.
    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, String>;

    /// What is there.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, String>;

    /// The names in a folder, without it, in no order.
    fn list(&self, folder: &str) -> Result<Vec<String>, String>;

    /// Removes what is there.
    fn remove(&self, name: &str) -> Result<(), String>;
}

/// A store of framed objects.
pub struct Objects {
    /// As people see it.
    url: String,
    blobs: Box<dyn Blobs>,
}

impl Objects {
    /// Opens the store at `url`: a folder (relative to `folder`) or `file://`, `s3://`, `gs://`, `az://`.
    ///
    /// A folder is made where it is missing, and locked against other processes of this machine: one lock for each
    /// `process`, the index in its cluster, for all of a cluster share a store, and each has a process 0.
    ///
    /// # Errors
    ///
    /// Another process has the lock; the url is none of these; the place can't be reached.
    pub fn open(url: &str, folder: &Path, process: usize) -> Result<Objects, StoreError> {
        let path = match url.split_once("://") {
            None => Some(url),
            Some(("file", path)) => Some(path),
            Some(_) => None,
        };
        let (shown, blobs): (_, Box<dyn Blobs>) = match path {
            Some(path) => (url.to_owned(), Box::new(Folder::open(url, &folder.join(path), process)?)),
            None => {
                let bucket = Bucket::open(url)?;
                (bucket.shown().to_owned(), Box::new(bucket))
            }
        };
        let objects = Objects { url: shown, blobs };
        // Says what is wrong with the place before anything depends on it.
        objects.manifests("opened")?;
        Ok(objects)
    }

    /// Opens the store at `url` to read it while a process may write to it: nothing is made or locked, and nothing may be written.
    ///
    /// # Errors
    ///
    /// The url is none of a store; the place holds no state or can't be reached.
    pub fn open_to_read(url: &str, folder: &Path) -> Result<Objects, StoreError> {
        let path = match url.split_once("://") {
            None => Some(url),
            Some(("file", path)) => Some(path),
            Some(_) => None,
        };
        let objects = match path {
            Some(path) => Objects::over(url, Box::new(Folder::open_to_read(&folder.join(path)))),
            None => {
                let bucket = Bucket::open(url)?;
                Objects { url: bucket.shown().to_owned(), blobs: Box::new(bucket) }
            }
        };
        objects.manifests("opened")?;
        Ok(objects)
    }

    pub(super) fn over(url: &str, blobs: Box<dyn Blobs>) -> Objects {
        Objects { url: url.to_owned(), blobs }
    }

    pub(super) fn failed(&self, action: &'static str, reason: String) -> StoreError {
        StoreError::Failed { url: self.url.clone(), action, reason }
    }

    /// The numbers of the manifests.
    fn manifests(&self, action: &'static str) -> Result<BTreeSet<u64>, StoreError> {
        let names = self.blobs.list("manifests").map_err(|reason| self.failed(action, reason))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Keeps a schema under a name of letters, digits, `.`, `_` and `-`. One that is there stays.
    ///
    /// # Errors
    /// It can't be written.
    pub fn put_schema(&self, name: &str, content: &[u8]) -> Result<(), StoreError> {
        let name = format!("schemas/{name}");
        self.blobs
            .create(&name, &frame::seal(Kind::Schema, content))
            .map_err(|reason| self.failed("written", reason))?;
        Ok(())
    }

    /// Returns the schemas that are kept under names with a prefix. A damaged one is removed: schemas can be had again.
    ///
    /// # Errors
    /// They can't be read, or one was written by a newer version.
    pub fn schemas(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let names = self.blobs.list("schemas").map_err(|reason| self.failed("read", reason))?;
        let mut schemas = Vec::new();
        for name in names.into_iter().filter(|name| name.starts_with(prefix)) {
            let path = format!("schemas/{name}");
            let Some(bytes) = self.blobs.read(&path).map_err(|reason| self.failed("read", reason))? else { continue };
            match self.unframe(Kind::Schema, &path, &bytes) {
                Ok(content) => schemas.push((name, content)),
                Err(StoreError::Damaged { .. }) => {
                    self.blobs.remove(&path).map_err(|reason| self.failed("written", reason))?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(schemas)
    }

    /// Removes a schema that is kept under a name: another may then be.
    ///
    /// # Errors
    /// It can't be removed.
    pub fn remove_schema(&self, name: &str) -> Result<(), StoreError> {
        self.blobs.remove(&format!("schemas/{name}")).map_err(|reason| self.failed("written", reason))
    }

    fn superseded(&self, number: u64) -> StoreError {
        StoreError::Superseded { url: self.url.clone(), number }
    }

    /// Creates an object; tells whether it is there now, by this call or an earlier one whose answer was lost.
    fn create(&self, name: &str, frame: &[u8]) -> Result<bool, StoreError> {
        for _ in 0..READS_MAX {
            if self.blobs.create(name, frame).map_err(|reason| self.failed("written", reason))? {
                return Ok(true);
            }
            match self.blobs.read(name).map_err(|reason| self.failed("read", reason))? {
                Some(found) => return Ok(found == frame),
                // It was removed meanwhile, or two came at once and neither was let in.
                None => continue,
            }
        }
        Err(self.failed("written", format!("`{name}` comes and goes")))
    }

    fn unframe(&self, kind: Kind, name: &str, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
        frame::open(kind, bytes).map_err(|flaw| {
            let (url, name) = (self.url.clone(), name.to_owned());
            match flaw {
                Flaw::Newer(found) => StoreError::Newer { url, name, found, known: frame::VERSION },
                Flaw::Damaged(reason) => StoreError::Damaged { url, name, reason },
            }
        })
    }
}

impl Store for Objects {
    fn put_part(&self, name: &str, content: &[u8]) -> Result<u64, StoreError> {
        let name = part(name);
        let frame = frame::seal(Kind::Part, content);
        match self.create(&name, &frame)? {
            true => Ok(frame.len() as u64),
            false => Err(self.failed("written", format!("`{name}` is there, with other content"))),
        }
    }

    fn get_part(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let name = part(name);
        match self.blobs.read(&name).map_err(|reason| self.failed("read", reason))? {
            Some(bytes) => self.unframe(Kind::Part, &name, &bytes),
            None => Err(StoreError::Damaged { url: self.url.clone(), name, reason: "it is missing".to_owned() }),
        }
    }

    fn latest(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        for _ in 0..READS_MAX {
            let Some(number) = self.manifests("read")?.last().copied() else {
                return Ok(None);
            };
            let name = manifest(number);
            if let Some(bytes) = self.blobs.read(&name).map_err(|reason| self.failed("read", reason))? {
                return Ok(Some((number, self.unframe(Kind::Manifest, &name, &bytes)?)));
            }
        }
        Err(self.failed("read", "its manifests come and go".to_owned()))
    }

    fn publish(&self, number: u64, content: &[u8]) -> Result<(), StoreError> {
        if !self.create(&manifest(number), &frame::seal(Kind::Manifest, content))? {
            return Err(self.superseded(number));
        }
        match self.manifests("read")?.last() {
            Some(&greatest) if greatest > number => Err(self.superseded(greatest)),
            _ => Ok(()),
        }
    }

    fn collect(&self, keep: &BTreeSet<String>, number: u64) -> Result<(), StoreError> {
        // Parts first: what is listed before the manifests show no successor is not a successor's.
        let parts = self.blobs.list("parts").map_err(|reason| self.failed("read", reason))?;
        let manifests = self.manifests("read")?;
        if let Some(&greatest) = manifests.last().filter(|&&greatest| greatest > number) {
            return Err(self.superseded(greatest));
        }
        let manifests = manifests.range(..number).map(|&number| manifest(number));
        let parts = parts.iter().filter(|part| !keep.contains(*part)).map(|name| part(name));
        for name in manifests.chain(parts) {
            self.blobs.remove(&name).map_err(|reason| self.failed("written", reason))?;
        }
        Ok(())
    }
}

pub(super) fn manifest(number: u64) -> String {
    format!("manifests/{number:020}")
}

pub(super) fn part(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    assert!(!name.is_empty() && !name.starts_with('.') && name.bytes().all(plain), "`{name}` is no name of a part");
    format!("parts/{name}")
}
