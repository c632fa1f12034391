//! The port to the store of state: parts by name, and numbered manifests of which the greatest counts.
//!
//! Promises: a manifest is published under its number once, by whoever comes first; what was stored is there after a crash,
//! whole, or not at all; what comes back is what was stored, by its checksum. Refuses: a number that is taken, content of a
//! newer format, damaged content. What stores write is in `docs/FORMATS.md`.
//!
//! A process that takes over publishes a manifest of its own (the one that it found, for example, under the next number) before
//! it puts its first part. From then on a predecessor that still runs removes no part of its successor in [`Store::collect`], and
//! publishes nothing more. Manifests of different processes differ in content (they name an incarnation): so a store
//! distinguishes its caller's own manifest, whose first answer was lost, from that of another process.

use std::collections::BTreeSet;

/// Where state is kept. Calls wait, and may come from any thread.
pub trait Store: Send + Sync {
    /// Stores a part under a unique name of letters, digits, `.`, `_` and `-`. Returns the number of bytes that it takes.
    ///
    /// # Errors
    /// The part can't be written, or the name has other content. The same content again is not an error.
    fn put_part(&self, name: &str, content: &[u8]) -> Result<u64, StoreError>;

    /// Returns the content of a part.
    ///
    /// # Errors
    /// The part can't be read, or is damaged; a missing part counts as damaged.
    fn get_part(&self, name: &str) -> Result<Vec<u8>, StoreError>;

    /// Returns the greatest number of a manifest and its content; `None` if there is no manifest.
    ///
    /// # Errors
    /// The manifest can't be read, or is damaged.
    fn latest(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError>;

    /// Publishes a manifest, unless one of that number with other content, or a greater one, is there.
    ///
    /// # Errors
    /// [`StoreError::Superseded`] if another process has published. After any other error the manifest may be there or not;
    /// publishing it again is safe.
    fn publish(&self, number: u64, content: &[u8]) -> Result<(), StoreError>;

    /// Removes manifests below `number`, and parts that are not in `keep`; nothing if there is a greater manifest.
    ///
    /// # Errors
    /// The store can't be listed or written.
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
    /// Returns what the user can do about it.
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
