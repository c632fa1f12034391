//! Events that have not taken effect, with the worker that owns their keys.
//!
//! Promises: events are given in the order of (time, arrival), however they were batched. An event that comes after later ones became ready is given
//! after those. Where a worker's sources are ahead of another's, hundreds of batches wait, and an epoch concerns few of
//! them: so the time of each batch's next event is kept in a list of its own.

use crate::ingest::event_batch::{EventBatch, MatchedEvent};
use crate::state::windows::Arrival;
use crate::time::Time;
use std::collections::VecDeque;

/// Events that have not been applied: those that are *ready*, which an epoch may apply, and those that wait for their time.
#[derive(Default)]
pub(super) struct WaitingEvents {
    /// By number; `None` for a number that is vacant.
    batches: Vec<Option<WaitingBatch>>,
    /// By number, when the next event that is not ready takes effect; the end of time if there is none.
    next_at: Vec<Time>,
    vacant: Vec<u32>,
    ready: VecDeque<Ready>,
}

/// A batch, and which of its events are not ready, and how many have not been applied.
struct WaitingBatch {
    batch: EventBatch,
    next: usize,
    left: usize,
}

impl WaitingBatch {
    /// Returns when the next event that is not ready takes effect.
    fn next_at(&self) -> Time {
        self.batch.events.get(self.next).map_or(Time::MAX, |event| event.at)
    }
}

/// An event whose time has come.
#[derive(Clone, Copy)]
pub(super) struct Ready {
    pub(super) at: Time,
    pub(super) arrival: Arrival,
    batch: u32,
    index: u32,
}

impl WaitingEvents {
    /// Takes in a batch.
    pub(super) fn receive(&mut self, mut batch: EventBatch) {
        // Only events of the future come out of order.
        if !batch.events.is_sorted_by_key(|event| event.at) {
            batch.events.sort_by_key(|event| event.at);
        }
        let left = batch.events.len();
        let waiting = WaitingBatch { batch, next: 0, left };
        let next_at = waiting.next_at();
        match self.vacant.pop() {
            Some(number) => {
                self.batches[number as usize] = Some(waiting);
                self.next_at[number as usize] = next_at;
            }
            None => {
                self.batches.push(Some(waiting));
                self.next_at.push(next_at);
            }
        }
    }

    /// Makes the events ready that take effect before `end`.
    pub(super) fn gather(&mut self, end: Time) {
        let already = self.ready.len();
        let mut batches = 0;
        for (number, next_at) in self.next_at.iter_mut().enumerate().filter(|(_, next_at)| **next_at < end) {
            let waiting = self.batches[number].as_mut().expect("a vacant number has no next event");
            let events = &waiting.batch.events[waiting.next..];
            let due = events.partition_point(|event| event.at < end);
            for (i, event) in events[..due].iter().enumerate() {
                let arrival = Arrival::new(waiting.batch.partition, event.position);
                let index = (waiting.next + i) as u32;
                self.ready.push_back(Ready { at: event.at, arrival, batch: number as u32, index });
            }
            waiting.next += due;
            *next_at = waiting.next_at();
            batches += 1;
        }
        if batches > 1 {
            // What was ready before takes effect before all that is new.
            self.ready.make_contiguous()[already..].sort_by_key(|ready| (ready.at, ready.arrival));
        }
    }

    /// Returns when the next event that is not ready takes effect.
    pub(super) fn next_at(&self) -> Option<Time> {
        self.next_at.iter().min().copied().filter(|next| *next < Time::MAX)
    }

    /// Returns the events that are ready, in order.
    pub(super) fn ready(&self) -> &VecDeque<Ready> {
        &self.ready
    }

    /// Returns the first event that is ready. It is not ready any more, and is to be applied.
    pub(super) fn take_ready(&mut self) -> Option<Ready> {
        self.ready.pop_front()
    }

    /// Returns an event that has not been applied, with its batch.
    pub(super) fn event(&self, ready: &Ready) -> (&EventBatch, &MatchedEvent) {
        let batch = &self.waiting(ready.batch as usize).batch;
        (batch, &batch.events[ready.index as usize])
    }

    /// Forgets an event that was applied.
    pub(super) fn applied(&mut self, ready: &Ready) {
        let place = &mut self.batches[ready.batch as usize];
        let waiting = place.as_mut().expect("a batch stays until its last event is applied");
        waiting.left -= 1;
        if waiting.left == 0 {
            *place = None;
            self.vacant.push(ready.batch);
        }
    }

    /// Returns all events, each with its batch, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&EventBatch, &MatchedEvent)> {
        let ready = self.ready.iter().map(|ready| self.event(ready));
        let later =
            self.batches.iter().flatten().flat_map(|waiting| {
                waiting.batch.events[waiting.next..].iter().map(move |event| (&waiting.batch, event))
            });
        ready.chain(later)
    }

    fn waiting(&self, number: usize) -> &WaitingBatch {
        self.batches[number].as_ref().expect("a batch stays until its last event is applied")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::event_batch::EventHead;

    #[test]
    fn events_come_in_the_order_of_time_and_arrival_however_they_were_batched() {
        for seed in 0..300 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut waiting = WaitingEvents::default();
            // What came, what was given, and until when events were gathered.
            let (mut came, mut given, mut end) = (Vec::new(), Vec::new(), 0);
            let mut positions = [0; 3];
            for _ in 0..rng.usize(1..30) {
                for _ in 0..rng.usize(0..4) {
                    let partition = rng.usize(0..positions.len());
                    let mut batch = EventBatch::new(0, partition as u32);
                    for _ in 0..rng.usize(1..20) {
                        let (at, position) = (end + rng.u64(0..50), positions[partition]);
                        positions[partition] += 1;
                        let head = EventHead { at, timestamp: at, position, id: 0, key_hash: 0, event: 0 };
                        batch.push(&head, "u-1", &[1], &[]);
                        came.push((at, Arrival::new(partition as u32, position)));
                    }
                    waiting.receive(batch);
                }
                end += rng.u64(0..40);
                waiting.gather(end);
                let later = came.iter().map(|(at, _)| *at).filter(|at| *at >= end);
                assert_eq!(waiting.next_at(), later.min(), "seed {seed}");
                for _ in 0..rng.usize(0..60) {
                    let Some(ready) = waiting.take_ready() else { break };
                    assert_eq!(waiting.event(&ready).1.at, ready.at, "seed {seed}");
                    waiting.applied(&ready);
                    given.push((ready.at, ready.arrival));
                }
                assert_eq!(waiting.iter().count(), came.len() - given.len(), "seed {seed}");
            }
            waiting.gather(Time::MAX);
            given.extend(std::iter::from_fn(|| waiting.take_ready()).map(|ready| (ready.at, ready.arrival)));
            came.sort();
            assert_eq!(given, came, "seed {seed}");
        }
    }
}
