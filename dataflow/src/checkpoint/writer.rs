//! Writes one worker's keys while it works.
//!
//! The worker encodes the keys of one part between two steps of the dataflow, some ms of work. A thread compresses and stores
//! the parts, at most [`AHEAD`] behind.

use super::Manifest;
use super::manifest::{PublishOutcome, publish};
use super::part;
use crate::control::message::{CheckpointAnswer, CheckpointStep, StoredPart};
use crate::state::epoch::EpochWorker;
use crate::state::listing::Listing;
use crate::time::Time;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use usher_core::store::{Store, StoreError};

/// Parts that wait to be stored: each is held in memory twice.
const AHEAD: usize = 2;

/// What the thread is to store.
enum Upload {
    Part { checkpoint: u64, shards: (u32, u32), name: String, content: Vec<u8> },
    Manifest { checkpoint: u64, number: u64, manifest: Box<Manifest>, keep: BTreeSet<String> },
}

/// What became of an upload.
pub(super) enum Uploaded {
    Part(Result<StoredPart, StoreError>),
    Manifest(Result<PublishOutcome, StoreError>),
}

/// The thread of a worker that stores its parts and, on worker 0, manifests.
pub(crate) struct Uploader {
    orders: SyncSender<Upload>,
    /// Each with its checkpoint.
    results: Receiver<(u64, Uploaded)>,
}

impl Uploader {
    /// Starts the thread, which wakes this one whenever something is stored. It ends when the uploader is dropped.
    pub(crate) fn start(store: Arc<dyn Store>) -> Uploader {
        let (orders, to_do) = sync_channel(AHEAD);
        let (done, results) = channel();
        let worker = std::thread::current();
        std::thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || {
                for upload in to_do {
                    if done.send(store_upload(&*store, upload)).is_err() {
                        return;
                    }
                    // A worker with nothing else to do is parked.
                    worker.unpark();
                }
            })
            .expect("the system can start a thread");
        Uploader { orders, results }
    }

    /// Publishes the manifest of a checkpoint, and then removes all parts but those in `keep`.
    pub(super) fn publish(&self, checkpoint: u64, number: u64, manifest: Manifest, keep: BTreeSet<String>) {
        let upload = Upload::Manifest { checkpoint, number, manifest: Box::new(manifest), keep };
        self.orders.send(upload).expect("the thread lives as long as the uploader");
    }

    /// Returns the next result for a checkpoint; `None` if nothing more has been stored. Those for earlier ones, which were given up
    /// while their parts were on their way, are dropped.
    pub(super) fn result(&self, checkpoint: u64) -> Option<Uploaded> {
        self.results.try_iter().find(|(of, _)| *of == checkpoint).map(|(_, uploaded)| uploaded)
    }
}

fn store_upload(store: &dyn Store, upload: Upload) -> (u64, Uploaded) {
    match upload {
        Upload::Part { checkpoint, shards, name, content } => {
            let stored = store.put_part(&name, &content);
            let sum = Some(part::sum(&content));
            (checkpoint, Uploaded::Part(stored.map(|bytes| StoredPart { shards, name, bytes, sum })))
        }
        Upload::Manifest { checkpoint, number, manifest, keep } => {
            let outcome = publish(store, number, &manifest);
            if matches!(outcome, Ok(PublishOutcome::This))
                && let Err(error) = store.collect(&keep, number)
            {
                tracing::warn!(error = %error, "parts of older checkpoints could not be removed");
            }
            (checkpoint, Uploaded::Manifest(outcome))
        }
    }
}

/// Writes one worker's keys for one checkpoint.
pub(crate) struct KeyWriter {
    checkpoint: u64,
    /// The names of its parts begin with this.
    prefix: String,
    listing: Listing,
    /// The next part to encode.
    next: usize,
    /// A part that is encoded and that the thread has not accepted yet.
    encoded: Option<Upload>,
    /// How many parts the thread has accepted and not stored yet.
    waiting: usize,
    parts: Vec<StoredPart>,
    failed: Option<String>,
    /// The time, exclusive, that the written keys have reached.
    done: Time,
}

impl KeyWriter {
    /// Lists the keys of a worker, to write them step by step: those that have changed since the checkpoint `since`, or all.
    pub(crate) fn new(checkpoint: u64, since: Option<u64>, prefix: String, epochs: &mut EpochWorker) -> KeyWriter {
        KeyWriter {
            checkpoint,
            prefix,
            listing: epochs.list(checkpoint, since),
            next: 0,
            encoded: None,
            waiting: 0,
            parts: Vec::new(),
            failed: None,
            done: epochs.reached(),
        }
    }

    /// Encodes at most one more part. Returns the answer to worker 0 when all are stored, or one could not be.
    pub(crate) fn step(&mut self, epochs: &EpochWorker, uploader: &Uploader) -> Option<CheckpointAnswer> {
        while let Some(uploaded) = uploader.result(self.checkpoint) {
            self.waiting -= 1;
            match uploaded {
                Uploaded::Part(Ok(part)) => self.parts.push(part),
                Uploaded::Part(Err(error)) => self.failed = Some(error.to_string()),
                Uploaded::Manifest(_) => panic!("a manifest is published after all parts are stored"),
            }
        }
        if self.is_busy() && self.failed.is_none() {
            if let Some(content) = epochs.part(&self.listing, self.next) {
                let name = format!("{}-{:05}", self.prefix, self.next);
                let shards = self.listing.shards(self.next);
                let shards = (*shards.start() as u32, *shards.end() as u32);
                let checkpoint = self.checkpoint;
                self.encoded = Some(Upload::Part { checkpoint, shards, name, content });
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
        let over = self.next == self.listing.parts() || self.failed.is_some();
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

    /// Returns whether the next step encodes a part.
    pub(crate) fn is_busy(&self) -> bool {
        self.encoded.is_none() && self.next < self.listing.parts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc::Sender;

    /// A store that has stored nothing before it is let go on.
    struct Slow(Mutex<Receiver<()>>);

    impl Store for Slow {
        fn put_part(&self, _: &str, content: &[u8]) -> Result<u64, StoreError> {
            self.0.lock().expect("no other thread panics").recv().expect("the test lets it go on");
            Ok(content.len() as u64)
        }

        fn get_part(&self, _: &str) -> Result<Vec<u8>, StoreError> {
            unreachable!("nothing is read")
        }

        fn latest(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
            unreachable!("nothing is read")
        }

        fn publish(&self, _: u64, _: &[u8]) -> Result<(), StoreError> {
            unreachable!("nothing is published")
        }

        fn collect(&self, _: &BTreeSet<String>, _: u64) -> Result<(), StoreError> {
            unreachable!("nothing is published")
        }
    }

    fn upload(uploader: &Uploader, checkpoint: u64) {
        let upload = Upload::Part { checkpoint, shards: (0, 255), name: checkpoint.to_string(), content: vec![0] };
        uploader.orders.send(upload).expect("the thread lives as long as the uploader");
    }

    #[test]
    fn a_part_of_a_checkpoint_that_was_given_up_is_none_of_the_next() {
        let (go_on, gate): (Sender<()>, _) = channel();
        let uploader = Uploader::start(Arc::new(Slow(Mutex::new(gate))));
        upload(&uploader, 1);
        upload(&uploader, 2);
        for _ in 0..2 {
            go_on.send(()).expect("the store waits");
        }
        let next = || {
            loop {
                match uploader.result(2) {
                    Some(Uploaded::Part(Ok(part))) => return part.name,
                    Some(_) => panic!("a part was stored"),
                    None => std::thread::park(),
                }
            }
        };
        assert_eq!(next(), "2");
        assert!(uploader.result(2).is_none());
    }
}
