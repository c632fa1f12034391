//! Events in order of (timestamp, arrival), each with a value, found by id.
//!
//! Holds up to [`FEW`] events of a fact next to those of the key's other facts, 40 bytes each, and more in a B-tree beside a table of
//! ids, some 90 bytes each. Promises: finding, inserting and removing an event, wherever it stands, costs at most a scan of the key's
//! few, else O(log n). Refuses: two events of a fact with one id.

use super::{Arrival, Held, order};
use crate::time::Time;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::ops::Range;
use thin_vec::ThinVec;
use usher_config::Aggregate;
use usher_queries::aggregate::{Contribution, Summary};

/// The greatest number of a fact's events that stand in a vector: a scan of so many costs about what a step down a tree does.
pub(super) const FEW: usize = 64;

/// An event and the value that it carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct ValuedEvent {
    pub(super) held: Held,
    /// Two words, for an `i128` in their place would have it take 48 bytes.
    value: [u64; 2],
}

impl ValuedEvent {
    pub(super) fn new(held: Held, value: i128) -> ValuedEvent {
        ValuedEvent { held, value: [value as u64, (value >> 64) as u64] }
    }

    pub(super) fn value(&self) -> i128 {
        let [low, high] = self.value;
        i128::from(high as i64) << 64 | i128::from(low)
    }

    pub(super) fn pair(&self) -> (Held, i128) {
        (self.held, self.value())
    }
}

/// A fact's few events: a part of the vector of all of the key's.
pub(super) struct Few<'a> {
    pub(super) all: &'a mut ThinVec<ValuedEvent>,
    pub(super) start: usize,
    pub(super) len: &'a mut u16,
}

impl Few<'_> {
    fn range(&self) -> Range<usize> {
        self.start..self.start + usize::from(*self.len)
    }

    /// Returns the events from oldest to newest.
    pub(super) fn events(&self) -> &[ValuedEvent] {
        &self.all[self.range()]
    }

    fn insert(&mut self, event: Held, value: i128) {
        let place = self.events().iter().rposition(|other| order(&other.held) < order(&event)).map_or(0, |i| i + 1);
        if self.all.len() == self.all.capacity() {
            // Most keys have one or two events.
            self.all.reserve_exact(self.all.len().max(1));
        }
        self.all.insert(self.start + place, ValuedEvent::new(event, value));
        *self.len += 1;
    }

    fn remove(&mut self, event: &Held) -> i128 {
        let place = self.events().iter().position(|other| other.held == *event).expect("the event is there");
        *self.len -= 1;
        self.all.remove(self.start + place).value()
    }
}

/// More than a few events of a fact.
#[derive(Debug)]
pub(super) struct Many {
    by_order: BTreeMap<(Time, Arrival, u64), i128>,
    by_id: HashMap<u64, (Time, Arrival)>,
    beside: Beside,
}

/// What answers the question without a look at all of them.
#[derive(Debug)]
pub(super) enum Beside {
    Nothing,
    /// The sum of all of them.
    Total(Summary),
    /// The event of each value.
    ByValue(HashMap<i128, Held>),
}

impl Many {
    pub(super) fn of(beside: Beside, events: impl Iterator<Item = (Held, i128)>) -> Many {
        let mut many = Many { by_order: BTreeMap::new(), by_id: HashMap::new(), beside };
        events.for_each(|(event, value)| many.insert(event, value));
        many
    }

    pub(super) fn len(&self) -> usize {
        self.by_order.len()
    }

    /// Returns the events with their values, from oldest to newest.
    pub(super) fn events(&self) -> impl Iterator<Item = (Held, i128)> {
        self.by_order.iter().map(|(key, value)| (held(*key), *value))
    }

    fn insert(&mut self, event: Held, value: i128) {
        self.by_order.insert((event.timestamp, event.arrival, event.id), value);
        self.by_id.insert(event.id, (event.timestamp, event.arrival));
        match &mut self.beside {
            Beside::Nothing => {}
            Beside::Total(total) => total.add(Contribution::Number(value)),
            Beside::ByValue(by_value) => {
                by_value.insert(value, event);
            }
        }
    }

    fn remove(&mut self, event: &Held) -> i128 {
        self.by_id.remove(&event.id);
        let place = (event.timestamp, event.arrival, event.id);
        let value = self.by_order.remove(&place).expect("the event is there");
        match &mut self.beside {
            Beside::Nothing => {}
            Beside::Total(total) => total.take_back(Contribution::Number(value)),
            Beside::ByValue(by_value) => {
                by_value.remove(&value);
            }
        }
        value
    }
}

/// A fact's events, wherever they stand.
pub(super) enum EventList<'a> {
    Few(Few<'a>),
    Many(&'a mut Many),
}

impl EventList<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            EventList::Few(few) => few.events().len(),
            EventList::Many(many) => many.len(),
        }
    }

    /// Returns the oldest event and its value.
    pub(super) fn first(&self) -> Option<(Held, i128)> {
        match self {
            EventList::Few(few) => few.events().first().map(ValuedEvent::pair),
            EventList::Many(many) => many.by_order.first_key_value().map(|(key, value)| (held(*key), *value)),
        }
    }

    /// Returns the event with an id.
    pub(super) fn find(&self, id: u64) -> Option<Held> {
        match self {
            EventList::Few(few) => few.events().iter().rev().map(|event| event.held).find(|held| held.id == id),
            EventList::Many(many) => many.by_id.get(&id).map(|(timestamp, arrival)| held((*timestamp, *arrival, id))),
        }
    }

    /// Returns an event with this value: the only one, of a question about distinct values.
    pub(super) fn of_value(&self, value: i128) -> Option<Held> {
        match self {
            EventList::Many(Many { beside: Beside::ByValue(by_value), .. }) => by_value.get(&value).copied(),
            _ => self.iter().find(|(_, other)| *other == value).map(|(held, _)| held),
        }
    }

    /// Returns the sum or average of all values.
    pub(super) fn total(&self, aggregate: &Aggregate) -> Summary {
        match self {
            EventList::Many(Many { beside: Beside::Total(total), .. }) => total.clone(),
            _ => total(aggregate, self.iter().map(|(_, value)| value)),
        }
    }

    /// Puts an event, whose id is not there yet, in its place.
    pub(super) fn insert(&mut self, event: Held, value: i128) {
        match self {
            EventList::Few(few) => few.insert(event, value),
            EventList::Many(many) => many.insert(event, value),
        }
    }

    /// Removes an event; returns its value.
    ///
    /// # Panics
    /// Panics if it is not there.
    pub(super) fn remove(&mut self, event: &Held) -> i128 {
        match self {
            EventList::Few(few) => few.remove(event),
            EventList::Many(many) => many.remove(event),
        }
    }

    /// Returns the events with their values, from oldest to newest.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Held, i128)> {
        let (few, many) = match self {
            EventList::Few(few) => (Some(few.events()), None),
            EventList::Many(many) => (None, Some(many.events())),
        };
        few.into_iter().flatten().map(ValuedEvent::pair).chain(many.into_iter().flatten())
    }
}

/// Returns the sum or average of values.
pub(super) fn total(aggregate: &Aggregate, values: impl Iterator<Item = i128>) -> Summary {
    let mut total = Summary::new(aggregate);
    values.for_each(|value| total.add(Contribution::Number(value)));
    total
}

fn held((timestamp, arrival, id): (Time, Arrival, u64)) -> Held {
    Held { timestamp, arrival, id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_lists_equal_a_sorted_vector_while_they_grow_and_shrink() {
        let seed = 3;
        let mut random = fastrand::Rng::with_seed(seed);
        // Events of another fact stand on both sides.
        let stranger = ValuedEvent::new(Held { timestamp: 7, arrival: Arrival::new(0, 1), id: 7 }, -1);
        let (mut all, mut len): (ThinVec<ValuedEvent>, u16) = ([stranger, stranger].into_iter().collect(), 0);
        let mut many = Many::of(Beside::Nothing, std::iter::empty());
        let mut vector: Vec<(Held, i128)> = Vec::new();
        for id in 0..6_000u64 {
            let mut few = Few { all: &mut all, start: 1, len: &mut len };
            // They grow for a while, then shrink for a while.
            let grows = id / 40 % 2 == 0;
            if vector.is_empty() || random.u8(0..4) == 0 || (grows && random.bool()) {
                let event = Held { timestamp: random.u64(0..50), arrival: Arrival::new(0, id), id };
                let value = (i128::from(id) * -7) << 40;
                few.insert(event, value);
                many.insert(event, value);
                vector.push((event, value));
                vector.sort_by_key(|(held, _)| order(held));
            } else {
                let (event, value) = vector.remove(random.usize(0..vector.len()));
                assert_eq!((few.remove(&event), many.remove(&event)), (value, value), "seed {seed}");
            }
            for list in [EventList::Few(few), EventList::Many(&mut many)] {
                assert_eq!(list.len(), vector.len(), "seed {seed}");
                assert!(list.iter().eq(vector.iter().copied()), "seed {seed}");
                assert_eq!(list.first(), vector.first().copied(), "seed {seed}");
                assert!(vector.iter().all(|(held, _)| list.find(held.id) == Some(*held)), "seed {seed}");
                assert_eq!(list.find(id + 1), None, "seed {seed}");
            }
        }
        assert_eq!((all[0].held, all[all.len() - 1].held), (stranger.held, stranger.held));
    }
}
