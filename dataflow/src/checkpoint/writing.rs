//! Writing a worker's shards, while it works.
//!
//! The worker encodes the keys of one shard between two steps, some ms of work; a thread compresses and stores them, at most
//! [`AHEAD`] shards behind.

use super::Manifest;
use super::manifest::{Published, publish};
use crate::keeper::{Keeper, Listing, SHARDS};
use crate::letters::Letter;
use crate::time::Time;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use usher_core::store::{Store, StoreError};

/// Shards that wait to be stored: each is held in memory twice.
const AHEAD: usize = 2;

/// Something to store.
enum Upload {
    Part { shard: u32, name: String, content: Vec<u8> },
    Manifest { number: u64, manifest: Box<Manifest>, keep: BTreeSet<String> },
}

/// What became of it.
pub(crate) enum Uploaded {
    /// Shard, name, bytes.
    Part(Result<(u32, String, u64), StoreError>),
    Manifest(Result<Published, StoreError>),
}

/// A worker's thread that stores things.
pub(crate) struct Uploads {
    orders: SyncSender<Upload>,
    results: Receiver<Uploaded>,
}

impl Uploads {
    /// Starts the thread. It ends when this is dropped.
    pub(crate) fn start(store: Arc<dyn Store>) -> Uploads {
        let (orders, to_do) = sync_channel(AHEAD);
        let (done, results) = channel();
        std::thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || {
                for upload in to_do {
                    let uploaded = match upload {
                        Upload::Part { shard, name, content } => {
                            let stored = store.put_part(&name, &content);
                            Uploaded::Part(stored.map(|bytes| (shard, name, bytes)))
                        }
                        Upload::Manifest { number, manifest, keep } => {
                            let published = publish(&*store, number, &manifest);
                            if matches!(published, Ok(Published::This))
                                && let Err(error) = store.collect(&keep, number)
                            {
                                tracing::warn!(error = %error, "parts of older checkpoints could not be removed");
                            }
                            Uploaded::Manifest(published)
                        }
                    };
                    if done.send(uploaded).is_err() {
                        return;
                    }
                }
            })
            .expect("the system can start a thread");
        Uploads { orders, results }
    }

    /// Publishes a manifest, and then removes what it does not name.
    pub(crate) fn publish(&self, number: u64, manifest: Manifest, keep: BTreeSet<String>) {
        let upload = Upload::Manifest { number, manifest: Box::new(manifest), keep };
        self.orders.send(upload).expect("the thread lives as long as this");
    }

    /// What has been stored since, if anything.
    pub(crate) fn result(&self) -> Option<Uploaded> {
        self.results.try_recv().ok()
    }
}

/// A worker's share of a checkpoint.
pub(crate) struct Writing {
    checkpoint: u64,
    /// What its parts' names begin with.
    prefix: String,
    listing: Listing,
    next: usize,
    /// Picked, and not taken by the thread yet.
    picked: Option<Upload>,
    waiting: usize,
    parts: Vec<(u32, String, u64)>,
    failed: Option<String>,
    done: Time,
}

impl Writing {
    pub(crate) fn new(checkpoint: u64, prefix: String, keeper: &Keeper) -> Writing {
        let (parts, done) = (Vec::new(), keeper.done());
        let (picked, failed) = (None, None);
        Writing { checkpoint, prefix, listing: keeper.list(), next: 0, picked, waiting: 0, parts, failed, done }
    }

    /// Goes on by at most one shard; tells worker 0 at the end.
    pub(crate) fn step(&mut self, keeper: &Keeper, uploads: &Uploads) -> Option<Letter> {
        while let Some(uploaded) = uploads.result() {
            self.waiting -= 1;
            match uploaded {
                Uploaded::Part(Ok(part)) => self.parts.push(part),
                Uploaded::Part(Err(error)) => self.failed = Some(error.to_string()),
                Uploaded::Manifest(_) => panic!("a manifest is published when all shards are written"),
            }
        }
        if self.picked.is_none() && self.next < SHARDS && self.failed.is_none() {
            if let Some(content) = keeper.shard(&self.listing, self.next) {
                let name = format!("{}-{:03}", self.prefix, self.next);
                self.picked = Some(Upload::Part { shard: self.next as u32, name, content });
                self.done = keeper.done();
            }
            self.next += 1;
        }
        if let Some(upload) = self.picked.take() {
            match uploads.orders.try_send(upload) {
                Ok(()) => self.waiting += 1,
                Err(TrySendError::Full(upload)) => self.picked = Some(upload),
                Err(TrySendError::Disconnected(_)) => panic!("the thread lives as long as its worker"),
            }
        }
        let over = self.next == SHARDS || self.failed.is_some();
        (over && self.picked.is_none() && self.waiting == 0).then(|| Letter::Written {
            checkpoint: self.checkpoint,
            parts: std::mem::take(&mut self.parts),
            done: self.done,
            in_force: keeper.steady(),
            failed: self.failed.take(),
        })
    }

    /// Whether it has something to do at once.
    pub(crate) fn is_busy(&self) -> bool {
        self.picked.is_none() && self.next < SHARDS
    }
}
