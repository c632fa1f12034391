//! A partition that can be read ahead: what it gives out is what has been taken in of it.
//!
//! While workers of the process help ([`crate::ingest::decoding`]) chunks are read, copied and decoded before it is their turn. Promises: positions,
//! identity, progress, lag and damage are those behind the last chunk that was taken in ([`ReadAhead::take_first`]), whatever has been read
//! beyond; chunks are those that polls one by one would have given, in their order. An error, an end or a pause that is met ahead is met
//! again when all before it has been taken in.
//!
//! Nothing is read ahead of a partition that holds messages in a client's own memory, nor beyond what was stored when it was opened: a poll of a pipe
//! may wait.

use crate::ingest::decoding::{DecodeTask, SharedDecoding};
use std::collections::VecDeque;
use std::sync::Arc;
use usher_core::source::{Partition, PartitionId, Polled, Records, SourceError};

/// A partition, and the chunks that have been read of it and not been taken in.
pub(crate) struct ReadAhead {
    partition: Box<dyn Partition>,
    chunks: VecDeque<AheadChunk>,
    /// Whether its records can be copied; not known before it was polled.
    is_copied: bool,
    /// Whether the last poll found nothing.
    has_stalled: bool,
    /// Where it was left, if nothing more is taken in.
    left: Option<Standing>,
}

struct AheadChunk {
    task: Arc<DecodeTask>,
    /// The partition before the chunk was read.
    before: Standing,
}

/// What a partition says of itself between two polls.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Standing {
    position: u64,
    identity: String,
    progress: (u64, u64),
    lag: Option<u64>,
    caught_up: bool,
    damage: Option<SourceError>,
}

impl Standing {
    fn of(partition: &dyn Partition) -> Standing {
        Standing {
            position: partition.position(),
            identity: partition.identity(),
            progress: partition.progress(),
            lag: partition.lag(),
            caught_up: partition.caught_up(),
            damage: partition.damage().cloned(),
        }
    }
}

/// What a poll ahead gave.
pub(crate) enum PolledAhead {
    /// A chunk, which has been added.
    Read(Arc<DecodeTask>),
    /// Nothing now.
    Idle,
    /// Nothing now or later, and all has been taken in.
    End,
}

impl ReadAhead {
    pub(crate) fn new(partition: Box<dyn Partition>) -> ReadAhead {
        ReadAhead { partition, chunks: VecDeque::new(), is_copied: false, has_stalled: false, left: None }
    }

    /// Returns where it stands, if that is not where it has been read to.
    fn standing(&self) -> Option<&Standing> {
        self.left.as_ref().or_else(|| self.chunks.front().map(|chunk| &chunk.before))
    }

    /// As [`Partition::id`].
    pub(crate) fn id(&self) -> &PartitionId {
        self.partition.id()
    }

    /// As [`Partition::position`].
    pub(crate) fn position(&self) -> u64 {
        self.standing().map_or_else(|| self.partition.position(), |standing| standing.position)
    }

    /// As [`Partition::identity`].
    pub(crate) fn identity(&self) -> String {
        self.standing().map_or_else(|| self.partition.identity(), |standing| standing.identity.clone())
    }

    /// As [`Partition::progress`].
    pub(crate) fn progress(&self) -> (u64, u64) {
        self.standing().map_or_else(|| self.partition.progress(), |standing| standing.progress)
    }

    /// As [`Partition::lag`].
    pub(crate) fn lag(&self) -> Option<u64> {
        self.standing().map_or_else(|| self.partition.lag(), |standing| standing.lag)
    }

    /// As [`Partition::caught_up`].
    pub(crate) fn caught_up(&self) -> bool {
        self.standing().map_or_else(|| self.partition.caught_up(), |standing| standing.caught_up)
    }

    /// As [`Partition::damage`].
    pub(crate) fn damage(&self) -> Option<&SourceError> {
        self.standing().map_or_else(|| self.partition.damage(), |standing| standing.damage.as_ref())
    }

    /// As [`Partition::wake_with`].
    pub(crate) fn wake_with(&mut self, wake: Arc<dyn Fn() + Send + Sync>) -> bool {
        self.partition.wake_with(wake)
    }

    /// As [`Partition::poll`].
    ///
    /// # Panics
    /// Panics if chunks have been read ahead.
    pub(crate) fn poll(&mut self, budget: usize) -> Result<Polled<'_>, SourceError> {
        assert!(self.chunks.is_empty(), "what has been read ahead is taken in first");
        let polled = self.partition.poll(budget);
        if let Ok(Polled::Records(records)) = &polled {
            self.is_copied = records.can_be_copied();
        }
        polled
    }

    /// Returns how many chunks have been read ahead.
    pub(crate) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Returns whether it has chunks that have been read ahead, or may have.
    pub(crate) fn can_read_ahead(&self) -> bool {
        !self.chunks.is_empty() || self.is_copied && self.has_stored()
    }

    /// Returns whether the next chunk may be read ahead of others.
    pub(crate) fn has_more(&self) -> bool {
        !self.has_stalled && self.has_stored()
    }

    /// Returns whether something is left of what was stored when it was opened.
    fn has_stored(&self) -> bool {
        let (read, stored) = self.partition.progress();
        read < stored && !self.partition.caught_up()
    }

    /// Reads a chunk ahead of being taken in. `task` makes of its records what is decoded.
    ///
    /// # Errors
    /// The partition can't be read on, and all before it has been taken in.
    ///
    /// # Panics
    /// Panics if a record can't be copied: then none of the partition can.
    pub(crate) fn read(
        &mut self,
        budget: usize,
        task: impl FnOnce(&Records<'_>) -> Option<DecodeTask>,
    ) -> Result<PolledAhead, SourceError> {
        let before = Standing::of(&*self.partition);
        match self.partition.poll(budget) {
            Ok(Polled::Records(records)) => {
                let task = Arc::new(task(&records).expect("the first records of the partition could be copied"));
                self.chunks.push_back(AheadChunk { task: Arc::clone(&task), before });
                Ok(PolledAhead::Read(task))
            }
            _ if !self.chunks.is_empty() => {
                self.has_stalled = true;
                Ok(PolledAhead::Idle)
            }
            Ok(Polled::Idle) => Ok(PolledAhead::Idle),
            Ok(Polled::End) => Ok(PolledAhead::End),
            Err(error) => Err(error),
        }
    }

    /// Returns the first chunk that has been read ahead.
    pub(crate) fn first(&self) -> Option<&Arc<DecodeTask>> {
        self.chunks.front().map(|chunk| &chunk.task)
    }

    /// Takes the first chunk in, which is decoded.
    pub(crate) fn take_first(&mut self) -> Option<Arc<DecodeTask>> {
        let chunk = self.chunks.pop_front()?;
        self.has_stalled &= !self.chunks.is_empty();
        Some(chunk.task)
    }

    /// Leaves what has been read ahead and not been taken in: the partition stays where it stands. Returns how many chunks that are.
    pub(crate) fn leave(&mut self, decoding: &SharedDecoding) -> usize {
        let chunks = std::mem::take(&mut self.chunks);
        for chunk in &chunks {
            decoding.take(&chunk.task);
        }
        let count = chunks.len();
        self.left = self.left.take().or_else(|| chunks.into_iter().next().map(|chunk| chunk.before));
        count
    }
}
