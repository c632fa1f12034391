//! Checkpoints: what a job resumes from after a restart (SPEC §6).
//!
//! A checkpoint is fuzzy: keys are written part by part while the job runs, each as it is at that moment. Before the first
//! key is written, every worker reports the position from which each of its partitions would have to be read again
//! ([`CheckpointOrder::Mark`]). A part may therefore include later events, but never lacks an earlier one; applying an event
//! twice changes nothing. The manifest that lists the parts is published only when the syncs have committed every change that
//! the written keys may have caused: an event that has expired is no longer in the written windows, and could not cause its
//! exit again.
//!
//! The first checkpoint of a run writes all keys, a later one those that have changed since ([`crate::state::changed`]), and those that are
//! forgotten. Its manifest names the parts of the ones before it too; of a key the newest counts. Once the changes are half as large as what they
//! change, or there are many of them, all keys are written again, so that a start reads at most half as much again.
//!
//! Promises: a manifest names only parts that are in the store; it is published under the next number, or not at all if another
//! process has published that number. Refuses: a checkpoint during which a worker switches to a pull; it is given up and made
//! again.
//!
//! Worker 0 coordinates: mark, write, wait until committed, publish. No worker waits meanwhile: a thread per worker stores the
//! files.
//!
//! [`CheckpointOrder::Mark`]: crate::control::message::CheckpointOrder::Mark

mod coordinator;
mod manifest;
mod part;
mod verify;
mod writer;

pub(crate) use coordinator::{Coordinator, ManifestHeader, SharedPulls};
pub use manifest::{ClaimError, ManifestError, StateBefore, before, claim, job_before, note_moved, noted_positions};
pub(crate) use manifest::{FailedPull, Manifest, ModelManifest, PullRecord, RowsManifest};
pub(crate) use part::read_part;
pub use verify::{ModelContent, PartitionContent, StateContent, verify};
pub(crate) use writer::{KeyWriter, Uploader};

#[cfg(test)]
mod tests;
