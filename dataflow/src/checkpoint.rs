//! Checkpoints: what lets a job go on where it was (SPEC §6).
//!
//! A checkpoint is fuzzy: keys are written shard by shard while the job runs, each as it is at that moment. Before the first
//! is written every worker has said from where on its partitions would have to be read again ([`Letter::Mark`]), so a shard
//! may know more than that, never less; applying an event twice changes nothing. The manifest that lists the shards is
//! published only when syncs have been told all that the written keys may have come to: whatever ended in a window that is
//! no longer held has been told.
//!
//! Promises: a manifest names parts that are all there; it is published under the next number, or not at all if another
//! process has published that one. Refuses: a checkpoint during which a pull was switched to; it is made again.
//!
//! Worker 0 leads: mark, write, wait until told, publish. Nobody waits in the meantime, and files are written by a thread.

mod lead;
mod manifest;
mod shard;
mod writing;

pub(crate) use lead::{Heading, Lead, WholePulls};
pub use manifest::{ClaimError, ManifestError, claim};
pub(crate) use manifest::{Manifest, ModelState, Published, PulledAt, REVISION};
pub(crate) use shard::{Encoder, decode_shard};
pub(crate) use writing::{Uploaded, Uploads, Writing};

#[cfg(test)]
mod tests;
