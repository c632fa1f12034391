//! Which partition reads, or has read, which file of a followed source, whatever the file is called now.
//!
//! A file is read by one partition: the first that opens it. One that a rotation has renamed to another name of the same folder or pattern
//! stays with it. Inodes are used again: a file that does not go on from what was read of the one before is another file.

use super::Identity;
use super::budget::OpenFile;
use super::input::Stored;
use super::tail::Mark;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use usher_core::lock::lock;

/// The files of a source that are or were read, by what they are.
pub type Followed = Arc<Mutex<BTreeMap<Identity, Claim>>>;

/// That a partition reads a file, or has read it.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The partition's name.
    pub by: String,
    /// Whether it holds the file open now.
    pub held: bool,
    /// Where in the file it stands, if it does not; `None` if that is not known.
    pub mark: Option<Mark>,
}

/// Notes that a partition reads a file. Returns false if the file is another one's.
pub fn claim(followed: &Followed, file: Identity, by: &str) -> bool {
    let mut followed = lock(followed);
    let claim = followed.entry(file).or_insert_with(|| Claim { by: by.to_owned(), held: true, mark: None });
    let is_own = claim.by == by;
    claim.held |= is_own;
    is_own
}

/// Notes that a partition does not read a file any more, and where it stands. Of which nothing was read may be another one's.
pub fn leave(followed: &Followed, file: Identity, by: &str, mark: Option<Mark>) {
    let mut followed = lock(followed);
    if mark.is_some_and(|mark| mark.offset == 0) {
        followed.remove(&file);
    } else {
        followed.insert(file, Claim { by: by.to_owned(), held: false, mark });
    }
}

/// Returns whether the file at a path is read, or was read, by another partition than that of a name. A claim on what was there before is
/// dropped.
pub fn is_of_another(followed: &Followed, name: &str, path: &Path, file: Identity) -> bool {
    let claim = lock(followed).get(&file).cloned();
    let Some(claim) = claim.filter(|claim| claim.by != name) else { return false };
    let goes_on = claim.held
        || claim.mark.is_none_or(|mark| {
            let stored = OpenFile::open(path).and_then(|open| Stored::new(path, open));
            // One that can't be read is not judged.
            stored.map_or(true, |mut stored| stored.identity() == file && mark.is_in(&mut stored).unwrap_or(true))
        });
    if !goes_on {
        lock(followed).remove(&file);
    }
    goes_on
}
