//! Writes the shards of one worker while it works.
//!
//! The worker encodes the keys of one shard between two steps of the dataflow, some ms of work. A thread compresses and stores
//! the shards, at most [`AHEAD`] behind.

use super::Manifest;
use super::manifest::{PublishOutcome, publish};
use super::part;
use crate::control::message::{CheckpointAnswer, CheckpointStep, StoredPart};
use crate::state::epoch::{EpochWorker, Listing, SHARDS};
use crate::time::Time;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use usher_core::store::{Store, StoreError};

/// Shards that wait to be stored: each is held in memory twice.
const AHEAD: usize = 2;

/// What the thread is to store.
enum Upload {
    Part { shard: u32, name: String, content: Vec<u8> },
    Manifest { number: u64, manifest: Box<Manifest>, keep: BTreeSet<String> },
}

/// What became of an upload.
pub(super) enum Uploaded {
    Part(Result<StoredPart, StoreError>),
    Manifest(Result<PublishOutcome, StoreError>),
}

/// The thread of a worker that stores its parts and, on worker 0, manifests.
pub(crate) struct Uploader {
    orders: SyncSender<Upload>,
    results: Receiver<Uploaded>,
}

impl Uploader {
    /// Starts the thread. It ends when the uploader is dropped.
    pub(crate) fn start(store: Arc<dyn Store>) -> Uploader {
        let (orders, to_do) = sync_channel(AHEAD);
        let (done, results) = channel();
        std::thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || {
                for upload in to_do {
                    if done.send(store_upload(&*store, upload)).is_err() {
                        return;
                    }
                }
            })
            .expect("the system can start a thread");
        Uploader { orders, results }
    }

    /// Publishes a manifest, and then removes all parts but those in `keep`.
    pub(super) fn publish(&self, number: u64, manifest: Manifest, keep: BTreeSet<String>) {
        let upload = Upload::Manifest { number, manifest: Box::new(manifest), keep };
        self.orders.send(upload).expect("the thread lives as long as the uploader");
    }

    /// Returns the next result; `None` if nothing more has been stored.
    pub(super) fn result(&self) -> Option<Uploaded> {
        self.results.try_recv().ok()
    }
}

fn store_upload(store: &dyn Store, upload: Upload) -> Uploaded {
    match upload {
        Upload::Part { shard, name, content } => {
            let stored = store.put_part(&name, &content);
            let sum = Some(part::sum(&content));
            Uploaded::Part(stored.map(|bytes| StoredPart { shard, name, bytes, sum }))
        }
        Upload::Manifest { number, manifest, keep } => {
            let outcome = publish(store, number, &manifest);
            if matches!(outcome, Ok(PublishOutcome::This))
                && let Err(error) = store.collect(&keep, number)
            {
                tracing::warn!(error = %error, "parts of older checkpoints could not be removed");
            }
            Uploaded::Manifest(outcome)
        }
    }
}

/// Writes one worker's keys for one checkpoint.
pub(crate) struct ShardWriter {
    checkpoint: u64,
    /// The names of its parts begin with this.
    prefix: String,
    listing: Listing,
    /// The next shard to encode.
    next: usize,
    /// A shard that is encoded and that the thread has not accepted yet.
    encoded: Option<Upload>,
    /// How many shards the thread has accepted and not stored yet.
    waiting: usize,
    parts: Vec<StoredPart>,
    failed: Option<String>,
    /// The time, exclusive, that the written keys have reached.
    done: Time,
}

impl ShardWriter {
    /// Lists the keys of a worker, to write them step by step.
    pub(crate) fn new(checkpoint: u64, prefix: String, epochs: &EpochWorker) -> ShardWriter {
        ShardWriter {
            checkpoint,
            prefix,
            listing: epochs.list(),
            next: 0,
            encoded: None,
            waiting: 0,
            parts: Vec::new(),
            failed: None,
            done: epochs.reached(),
        }
    }

    /// Encodes at most one more shard. Returns the answer to worker 0 when all are stored, or one could not be.
    pub(crate) fn step(&mut self, epochs: &EpochWorker, uploader: &Uploader) -> Option<CheckpointAnswer> {
        while let Some(uploaded) = uploader.result() {
            self.waiting -= 1;
            match uploaded {
                Uploaded::Part(Ok(part)) => self.parts.push(part),
                Uploaded::Part(Err(error)) => self.failed = Some(error.to_string()),
                Uploaded::Manifest(_) => panic!("a manifest is published after all parts are stored"),
            }
        }
        if self.encoded.is_none() && self.next < SHARDS && self.failed.is_none() {
            if let Some(content) = epochs.shard(&self.listing, self.next) {
                let name = format!("{}-{:03}", self.prefix, self.next);
                self.encoded = Some(Upload::Part { shard: self.next as u32, name, content });
                self.done = epochs.reached();
            }
            self.next += 1;
        }
        if let Some(upload) = self.encoded.take() {
            match uploader.orders.try_send(upload) {
                Ok(()) => self.waiting += 1,
                Err(TrySendError::Full(upload)) => self.encoded = Some(upload),
                Err(TrySendError::Disconnected(_)) => panic!("the thread lives as long as the uploader"),
            }
        }
        let over = self.next == SHARDS || self.failed.is_some();
        (over && self.encoded.is_none() && self.waiting == 0).then(|| CheckpointAnswer {
            checkpoint: self.checkpoint,
            in_force: epochs.steady(),
            step: CheckpointStep::Written {
                parts: std::mem::take(&mut self.parts),
                done: self.done,
                failed: self.failed.take(),
            },
        })
    }

    /// Returns whether the next step encodes a shard.
    pub(crate) fn is_busy(&self) -> bool {
        self.encoded.is_none() && self.next < SHARDS
    }
}
