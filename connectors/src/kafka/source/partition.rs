//! A partition of a topic: a queue that a client fetches messages into, and that its worker empties.
//!
//! Promises: messages in the order of their offsets, each once, from where it was opened; with a bound none beyond it. Where the position was
//! deleted it goes on at the first message left, with a warning. One that was behind moves to the client of all others once it has caught up. Holds
//! a batch of messages, which it lends to its worker. Refuses to go on in another topic of the same name.

use super::{BEHIND_MIN, PartitionBounds, Watch};
use crate::kafka::client::Reader;
use crate::kafka::error::Problem;
use crate::kafka::ffi::{FetchedBatch, Message, PartitionQueue, Taken};
use crate::registry::{Registry, Standing};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use usher_core::schemas::{HEADER, SchemaId, named};
use usher_core::source::{Body, Headers as _, Partition, PartitionId, Polled, ReadFrom, Records, SourceError};

/// A partition of a topic.
pub(super) struct KafkaPartition {
    /// Dropped first: its messages must not outlive the client that has fetched them.
    batch: FetchedBatch,
    queue: PartitionQueue,
    /// The client to which the partition moves once it has caught up. None if it has it already.
    next_reader: Option<Arc<Reader>>,
    /// What the queue calls when it is no longer empty.
    wake: Option<Arc<dyn Fn() + Send + Sync>>,
    id: PartitionId,
    bounds: PartitionBounds,
    identity: String,
    watch: Arc<Watch>,
    /// Where reading started.
    start: i64,
    /// All messages before this were taken out of the queue, and returned by the last poll.
    position: i64,
    bounded: bool,
    message_bytes: usize,
    /// The mean size of the messages of the last batch, bytes.
    mean: usize,
    /// The last entries of the batch, so many, are to be returned: the first of them waits for its schema.
    held: usize,
    schemas: Option<Gate>,
    failed: Option<SourceError>,
}

/// What lets messages pass whose schemas are known.
struct Gate {
    registry: Arc<Registry>,
    /// The schema of the latest message, if it is known.
    latest: Cell<Option<SchemaId>>,
}

impl Gate {
    /// Returns whether a message can be read, or can never be; if not, its schema is requested.
    fn passes(&self, message: &Message, message_bytes: usize) -> bool {
        let Some(Body::Bytes(bytes)) = message.body(message_bytes) else { return true };
        let Some(named) = named(bytes, message.get(HEADER)) else { return true };
        if self.latest.get() == Some(named.id) {
            return true;
        }
        let standing = self.registry.standing(named.id);
        self.latest.set((standing == Standing::Known).then_some(named.id));
        standing != Standing::Requested
    }
}

/// Whether a partition has a position to read at.
enum Lookup {
    /// The position was deleted, and the brokers have not answered yet where the partition starts now.
    Pending,
    Found,
}

/// What a partition is opened with.
pub(super) struct PartitionSetup {
    pub(super) id: PartitionId,
    /// With when reading starts, if it resumes.
    pub(super) bounds: PartitionBounds,
    pub(super) identity: String,
    /// The offset where reading starts.
    pub(super) start: i64,
    pub(super) bounded: bool,
    pub(super) message_bytes: usize,
    /// The client that reads it, and the one to which it moves once it has caught up.
    pub(super) readers: (Arc<Reader>, Option<Arc<Reader>>),
    pub(super) watch: Arc<Watch>,
    pub(super) schemas: Option<Arc<Registry>>,
}

impl KafkaPartition {
    /// Starts to fetch.
    pub(super) fn open(setup: PartitionSetup) -> KafkaPartition {
        let PartitionSetup { id, bounds, identity, start, bounded, message_bytes, readers, watch, schemas } = setup;
        let (reader, next_reader) = readers;
        KafkaPartition {
            batch: FetchedBatch::default(),
            queue: PartitionQueue::start(reader, &watch.topics[bounds.topic], bounds.number, start),
            next_reader,
            wake: None,
            id,
            bounds,
            identity,
            watch,
            start,
            position: start,
            bounded,
            message_bytes,
            mean: 1024,
            held: 0,
            schemas: schemas.map(|registry| Gate { registry, latest: Cell::new(None) }),
            failed: None,
        }
    }

    /// Takes the next batch. Returns how many entries of it, messages or not, are to be returned; 0 if none is a message.
    fn take(&mut self, budget: usize) -> usize {
        if self.held > 0 {
            self.batch.keep_last(std::mem::take(&mut self.held));
        } else if self.queue.may_have_some() {
            self.queue.take(&mut self.batch, budget / self.mean, Duration::ZERO);
            if !self.batch.messages().is_empty() {
                self.queue.has_more();
            }
        } else {
            self.batch.clear();
            return 0;
        }
        let (mut bytes, mut count, mut upto) = (0, 0, 0);
        for message in self.batch.messages() {
            match message.taken() {
                Taken::Message(message) => {
                    if self.bounded && message.offset() >= self.bounds.end {
                        self.position = self.bounds.end;
                        break;
                    }
                    if self.schemas.as_ref().is_some_and(|gate| !gate.passes(message, self.message_bytes)) {
                        self.held = self.batch.messages().len() - upto;
                        break;
                    }
                    self.position = message.offset() + 1;
                    bytes += message.value().map_or(0, <[u8]>::len);
                    count += 1;
                }
                Taken::End(end) => self.position = self.position.max(end),
                Taken::OutOfRange => {
                    self.watch.lock().lost.insert((self.bounds.topic, self.bounds.number), None);
                    self.watch.noticed.store(true, Ordering::Release);
                }
                Taken::Error(code) => {
                    let what = format!("topic `{}`, partition {}", self.topic(), self.bounds.number);
                    self.queue.reader().context().report(&Problem::of_code(code, &what).reason);
                }
            }
            upto += 1;
        }
        if count == 0 {
            return 0;
        }
        self.mean = (bytes / count).max(64);
        upto
    }

    fn topic(&self) -> &str {
        &self.watch.topics[self.bounds.topic]
    }

    /// Moves to the client of partitions that are not behind, if this one is not behind any more. What is queued beyond the position is fetched again.
    fn move_if_caught_up(&mut self) {
        // More messages may have come since the source was opened.
        let is_behind = || self.position < self.bounds.end || self.lag().is_none_or(|lag| lag >= BEHIND_MIN as u64);
        let Some(reader) = &self.next_reader else { return };
        if self.held > 0 || is_behind() {
            return;
        }
        let reader = Arc::clone(reader);
        self.next_reader = None;
        // Its messages belong to the client that the partition leaves.
        self.batch.clear();
        self.queue = PartitionQueue::start(reader, self.topic(), self.bounds.number, self.position);
        if let Some(wake) = &self.wake {
            self.queue.wake_with(Arc::clone(wake));
        }
    }

    /// Continues at the first message left, if the position was deleted.
    fn find_position(&mut self) -> Result<Lookup, SourceError> {
        if !self.watch.noticed.load(Ordering::Acquire) {
            return Ok(Lookup::Found);
        }
        let which = (self.bounds.topic, self.bounds.number);
        let found = {
            let mut state = self.watch.lock();
            if state.replaced[self.bounds.topic] {
                return Err(self.unlike("is another topic of that name".to_owned()));
            }
            match state.lost.get(&which) {
                None => return Ok(Lookup::Found),
                Some(None) => return Ok(Lookup::Pending),
                Some(Some(found)) => {
                    let found = *found;
                    state.lost.remove(&which);
                    found
                }
            }
        };
        let (low, end) = found;
        if self.position > end {
            return Err(self.unlike(format!("ends at {end}")));
        }
        if self.position < low {
            tracing::warn!(
                source = %self.id.source, topic = %self.topic(), partition = self.bounds.number,
                read = self.position, first = low, lost = low - self.position,
                "messages were deleted before they were read; continuing at the first one left"
            );
            self.position = low;
        }
        self.held = 0;
        self.queue.restart(self.position);
        Ok(Lookup::Found)
    }

    fn unlike(&self, found: String) -> SourceError {
        SourceError::Unlike {
            id: self.id.source.clone(),
            partition: self.id.name.clone(),
            found,
            read: format!("up to {} of {}", self.position, self.identity),
        }
    }
}

impl Partition for KafkaPartition {
    fn id(&self) -> &PartitionId {
        &self.id
    }

    fn poll(&mut self, budget: usize) -> Result<Polled<'_>, SourceError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.bounded && self.position >= self.bounds.end {
            self.batch.clear();
            self.queue.stop();
            return Ok(Polled::End);
        }
        self.move_if_caught_up();
        match self.find_position() {
            Ok(Lookup::Found) => {}
            Ok(Lookup::Pending) => return Ok(Polled::Idle),
            Err(error) => {
                self.failed = Some(error.clone());
                return Err(error);
            }
        }
        let upto = loop {
            let upto = self.take(budget);
            // The client says only once that the queue has something: what holds no message must not hide one behind it.
            let ends = self.bounded && self.position >= self.bounds.end;
            if upto > 0 || self.held > 0 || ends || self.batch.messages().is_empty() {
                break upto;
            }
        };
        match upto {
            0 => match self.schemas.as_ref().filter(|_| self.held > 0).and_then(|gate| gate.registry.failure()) {
                Some(error) => {
                    self.failed = Some(error.clone());
                    Err(error)
                }
                None => Ok(Polled::Idle),
            },
            upto => Ok(Polled::Records(Records::messages(&self.batch, upto, self.message_bytes))),
        }
    }

    fn wake_with(&mut self, wake: Arc<dyn Fn() + Send + Sync>) -> bool {
        if let Some(gate) = &self.schemas {
            gate.registry.wake_with(Arc::clone(&wake));
        }
        self.queue.wake_with(Arc::clone(&wake));
        self.wake = Some(wake);
        true
    }

    fn position(&self) -> u64 {
        // An offset is never negative.
        self.position as u64
    }

    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn progress(&self) -> (u64, u64) {
        ((self.position - self.start).max(0) as u64, (self.bounds.end - self.start).max(0) as u64)
    }

    fn lag(&self) -> Option<u64> {
        self.queue.end().map(|end| (end - self.position).max(0) as u64)
    }

    fn caught_up(&self) -> bool {
        self.position >= self.bounds.end
    }

    fn since(&self) -> ReadFrom {
        self.bounds.since
    }
}
