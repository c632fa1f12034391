//! The seam to where state is kept: parts by name, and numbered manifests of which the greatest counts.
//!
//! Promises: a manifest is published under its number once, by whoever comes first; what was stored is there after a crash,
//! whole, or not at all; what comes back is what was stored, by its checksum. Refuses: a number that is taken, content of a
//! newer format, damaged content. What stores write is in `docs/FORMATS.md`.
//!
//! Who takes over publishes a manifest of its own (that which it found, say, under the next number) before it puts its first
//! part. With that, a predecessor that still runs removes nothing of its successor's in [`Store::collect`], and publishes
//! nothing more. Contents of manifests differ between those who publish (they name an incarnation): by that a store tells
//! its caller's own manifest, whose first answer was lost, from another's.

use std::collections::BTreeSet;

/// Where state is kept. Calls wait, and may come from any thread.
pub trait Store: Send + Sync {
    /// Stores a part under a name that no other has: letters, digits, `.`, `_` and `-`. Tells how many bytes it took.
    ///
    /// The same content again is no error, other content is.
    fn put_part(&self, name: &str, content: &[u8]) -> Result<u64, StoreError>;

    /// A part's content. One that is missing is damaged.
    fn get_part(&self, name: &str) -> Result<Vec<u8>, StoreError>;

    /// The manifest with the greatest number, and the number.
    fn latest(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError>;

    /// Publishes a manifest, unless one of that number with other content, or a greater one, is there.
    ///
    /// After an error other than [`StoreError::Superseded`] it may be there or not: publishing it again tells.
    fn publish(&self, number: u64, content: &[u8]) -> Result<(), StoreError>;

    /// Removes manifests below `number`, and parts that are not named; nothing if a greater manifest is there.
    fn collect(&self, keep: &BTreeSet<String>, number: u64) -> Result<(), StoreError>;
}

/// Why state can't be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process has gone on from the state.
    #[error("the state in `{url}` is now another process's: manifest {number} was published by it")]
    Superseded {
        /// Where the state is.
        url: String,
        /// The number that is taken.
        number: u64,
    },
    /// A process on this machine uses it.
    #[error("the state in `{url}` is in use by another process: {reason}")]
    Locked {
        /// Where the state is.
        url: String,
        /// Who holds it.
        reason: String,
    },
    /// It was written in a newer format.
    #[error("`{name}` in `{url}` has format version {found}; this version reads up to {known}")]
    Newer {
        /// Where the state is.
        url: String,
        /// The object.
        name: String,
        /// Its version.
        found: u32,
        /// The newest that can be read.
        known: u32,
    },
    /// It is not what was stored.
    #[error("`{name}` in `{url}` is damaged: {reason}")]
    Damaged {
        /// Where the state is.
        url: String,
        /// The object.
        name: String,
        /// How it shows.
        reason: String,
    },
    /// The world refuses.
    #[error("the state in `{url}` can't be {action}: {reason}")]
    Failed {
        /// Where the state is.
        url: String,
        /// `opened`, `read` or `written`.
        action: &'static str,
        /// The system's words.
        reason: String,
    },
}

impl StoreError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            StoreError::Superseded { .. } => "end one of the two; give each job a `state.url` of its own",
            StoreError::Locked { .. } => "stop the other process first; give each job a `state.url` of its own",
            StoreError::Newer { .. } => {
                "run the version that wrote it, or start anew with another `state.url`: all members are sent again"
            }
            StoreError::Damaged { .. } => {
                "restore it from a backup, or start anew with another `state.url`: all members are sent again"
            }
            StoreError::Failed { .. } => {
                "see that the place exists, has room, and that the job may read and write there"
            }
        }
    }
}
