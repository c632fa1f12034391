//! Events in order of (timestamp, arrival), found by id.
//!
//! Holds up to [`FEW`] events in one vector, 48 bytes each, and more in a B-tree beside a table of ids, some 90 bytes each.
//! Promises: finding, inserting and removing an event, wherever it stands, costs at most a scan of [`FEW`], else O(log n).
//! Refuses: two events with one id.

use super::{Arrival, Held, order};
use crate::time::Time;
use hashbrown::HashMap;
use std::collections::BTreeMap;

/// The greatest number of events in a vector: a scan of so many costs about what a step down a tree does.
pub(super) const FEW: usize = 64;
/// From a tree that shrinks below it, a vector is made again.
const FEW_AGAIN: usize = 16;

/// Events with a value each.
#[derive(Debug)]
pub(super) enum EventList {
    /// From oldest to newest.
    Few(Vec<(Held, i128)>),
    Many(Box<Many>),
}

/// More than a few events.
#[derive(Debug, Default)]
pub(super) struct Many {
    by_order: BTreeMap<(Time, Arrival, u64), i128>,
    by_id: HashMap<u64, (Time, Arrival)>,
}

impl Default for EventList {
    fn default() -> EventList {
        EventList::Few(Vec::new())
    }
}

impl EventList {
    pub(super) fn len(&self) -> usize {
        match self {
            EventList::Few(events) => events.len(),
            EventList::Many(many) => many.by_order.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn oldest(&self) -> Option<Held> {
        self.first().map(|(held, _)| held)
    }

    /// Returns the oldest event and its value.
    pub(super) fn first(&self) -> Option<(Held, i128)> {
        match self {
            EventList::Few(events) => events.first().copied(),
            EventList::Many(many) => many.by_order.first_key_value().map(|(key, value)| (held(*key), *value)),
        }
    }

    /// Returns the event with an id.
    pub(super) fn find(&self, id: u64) -> Option<Held> {
        match self {
            EventList::Few(events) => events.iter().rev().map(|(held, _)| *held).find(|held| held.id == id),
            EventList::Many(many) => many.by_id.get(&id).map(|(timestamp, arrival)| held((*timestamp, *arrival, id))),
        }
    }

    /// Puts an event, whose id is not there yet, in its place.
    pub(super) fn insert(&mut self, event: Held, value: i128) {
        if let EventList::Few(events) = self
            && events.len() >= FEW
        {
            let mut many = Box::<Many>::default();
            events.drain(..).for_each(|(event, value)| many.insert(event, value));
            *self = EventList::Many(many);
        }
        match self {
            EventList::Few(events) => {
                let place = events.iter().rposition(|(held, _)| order(held) < order(&event)).map_or(0, |i| i + 1);
                make_room(events);
                events.insert(place, (event, value));
            }
            EventList::Many(many) => many.insert(event, value),
        }
    }

    /// Removes an event; returns its value.
    ///
    /// # Panics
    /// Panics if it is not there.
    pub(super) fn remove(&mut self, event: &Held) -> i128 {
        match self {
            EventList::Few(events) => {
                let place = events.iter().position(|(held, _)| held == event).expect("the event is there");
                events.remove(place).1
            }
            EventList::Many(many) => {
                let value = many.remove(event);
                if many.by_order.len() < FEW_AGAIN {
                    *self = EventList::Few(self.iter().collect());
                }
                value
            }
        }
    }

    /// Returns the events with their values, from oldest to newest.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Held, i128)> {
        let (few, many) = match self {
            EventList::Few(events) => (Some(events), None),
            EventList::Many(many) => (None, Some(many)),
        };
        let many = many.into_iter().flat_map(|many| &many.by_order).map(|(key, value)| (held(*key), *value));
        few.into_iter().flatten().copied().chain(many)
    }
}

/// Makes room for one more, twice as much each time from one on: most keys have one or two events.
pub(super) fn make_room<T>(items: &mut Vec<T>) {
    if items.len() == items.capacity() {
        items.reserve_exact(items.len().max(1));
    }
}

impl Many {
    fn insert(&mut self, event: Held, value: i128) {
        self.by_order.insert((event.timestamp, event.arrival, event.id), value);
        self.by_id.insert(event.id, (event.timestamp, event.arrival));
    }

    fn remove(&mut self, event: &Held) -> i128 {
        self.by_id.remove(&event.id);
        self.by_order.remove(&(event.timestamp, event.arrival, event.id)).expect("the event is there")
    }
}

fn held((timestamp, arrival, id): (Time, Arrival, u64)) -> Held {
    Held { timestamp, arrival, id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_equals_a_sorted_vector_while_it_grows_and_shrinks() {
        let seed = 3;
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut list, mut vector) = (EventList::default(), Vec::new());
        let mut reached = (false, false);
        for id in 0..20_000u64 {
            // It grows for a while, then shrinks for a while.
            let grows = id / 500 % 2 == 0;
            if vector.is_empty() || random.u8(0..4) == 0 || (grows && random.bool()) {
                let event = Held { timestamp: random.u64(0..50), arrival: Arrival::new(0, id), id };
                list.insert(event, i128::from(id) * 7);
                vector.push((event, i128::from(id) * 7));
                vector.sort_by_key(|(held, _)| order(held));
            } else {
                let (event, value) = vector.remove(random.usize(0..vector.len()));
                assert_eq!(list.remove(&event), value, "seed {seed}");
                assert_eq!(list.find(event.id), None, "seed {seed}");
            }
            reached.0 |= matches!(list, EventList::Many(_));
            reached.1 |= reached.0 && matches!(list, EventList::Few(_));
            assert_eq!(list.len(), vector.len(), "seed {seed}");
            assert_eq!(list.oldest(), vector.first().map(|(held, _)| *held), "seed {seed}");
            if id % 50 == 0 {
                assert!(list.iter().eq(vector.iter().copied()), "seed {seed}");
                assert!(vector.iter().all(|(held, _)| list.find(held.id) == Some(*held)), "seed {seed}");
            }
        }
        assert_eq!(reached, (true, true), "it becomes a tree, and a vector again");
    }
}
