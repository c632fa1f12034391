//! Facts that take more than the newest few events: large counts, and aggregates of a value that events carry.
//!
//! Computes the truth of one such fact of a key at any time. Holds, of the events in the window, no more than can decide:
//!
//! | question | what is held |
//! |---|---|
//! | count | the newest `keep` |
//! | `sum`, `avg` | all of them, and their exact sum |
//! | `sum` of what is never negative, to be enough | the newest whose sum is enough: older ones leave the window before it can fall |
//! | `distinct` | the newest event of each value, of the newest `keep` values |
//! | `min`, `max` | the newest whose value is enough, the newest whose value is too much |
//! | sequence | all of them: see `chains.rs` |
//!
//! Promises: an event costs O(log n) in the number of those held, wherever it stands, and an event that leaves as much.
//! What is exact does not depend on the order in which events come and go.

use super::chains::{Chains, SequenceRule};
use super::event_list::{EventList, FEW};
use super::{Arrival, Held, Rule, order};
use crate::time::Time;
use hashbrown::HashMap;
use usher_config::{Aggregate, Comparison};
use usher_queries::aggregate::{Bearing, Contribution, Summary, bearing};

/// What decides a fact of a key.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    /// The number of events.
    Count(Rule),
    /// The number of distinct values.
    Distinct(Rule),
    /// Their sum or average.
    Total(Aggregate, Comparison),
    /// Whether their sum is enough, where no value is negative.
    Enough(Aggregate, Comparison),
    /// Their least or greatest value.
    Extreme(Aggregate, Comparison),
    /// Whether they make a sequence. Their value is what they are in it, as bits.
    Sequence(SequenceRule),
}

/// A window with a question.
#[derive(Clone, Debug)]
pub(crate) struct KeptRule {
    pub(crate) within: Time,
    /// Which of the event's values counts.
    pub(crate) value: usize,
    pub(crate) question: Question,
}

impl KeptRule {
    /// Returns whether any number of events decides alike, so that none is held.
    pub(super) fn is_constant(&self) -> bool {
        match &self.question {
            Question::Count(rule) | Question::Distinct(rule) => {
                rule.keep == 0 || rule.most.is_some_and(|most| most < rule.least)
            }
            Question::Total(..) | Question::Enough(..) | Question::Extreme(..) | Question::Sequence(_) => false,
        }
    }
}

/// The events of a fact of a key that matter.
#[derive(Debug)]
pub(super) enum Kept {
    /// Of a count or an aggregate.
    Valued(Valued),
    /// Of a sequence.
    Chains(Box<Chains>),
}

impl Kept {
    pub(super) fn new(rule: &KeptRule) -> Kept {
        match &rule.question {
            Question::Sequence(_) => Kept::Chains(Box::default()),
            _ => Kept::Valued(Valued::new(rule)),
        }
    }

    /// Takes up events in any order, with their values.
    pub(super) fn of(rule: &KeptRule, events: &[(Held, i128)]) -> Kept {
        if let Question::Sequence(sequence) = &rule.question {
            return Kept::Chains(Box::new(Chains::of(sequence, events)));
        }
        let mut valued = Valued::new(rule);
        for (event, value) in events {
            valued.insert(rule, *event, *value);
            valued.index_values(rule);
        }
        Kept::Valued(valued)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Kept::Valued(valued) => valued.events.len(),
            Kept::Chains(chains) => chains.len(),
        }
    }

    /// Returns something of its events, so that they are read.
    pub(super) fn touch(&self) -> u64 {
        match self {
            Kept::Valued(valued) => valued.events.oldest().map_or(0, |held| held.timestamp),
            Kept::Chains(chains) => chains.len() as u64,
        }
    }

    pub(super) fn oldest(&self) -> Option<Held> {
        match self {
            Kept::Valued(valued) => valued.events.oldest(),
            Kept::Chains(chains) => chains.oldest(),
        }
    }

    pub(super) fn find(&self, id: u64) -> Option<Held> {
        match self {
            Kept::Valued(valued) => valued.events.find(id),
            Kept::Chains(chains) => chains.find(id),
        }
    }

    /// Returns the events with their values, from oldest to newest.
    pub(super) fn events(&self) -> impl Iterator<Item = (Held, i128)> {
        let (valued, chains) = match self {
            Kept::Valued(valued) => (Some(valued), None),
            Kept::Chains(chains) => (None, Some(chains)),
        };
        let chained = chains.into_iter().flat_map(|chains| chains.events());
        valued.into_iter().flat_map(|valued| valued.events.iter()).chain(chained)
    }

    /// Returns the sum or average for people; `None` if it is null or the question another one.
    pub(super) fn total(&self) -> Option<String> {
        match self {
            Kept::Valued(valued) => valued.total(),
            Kept::Chains(_) => None,
        }
    }

    pub(super) fn holds(&self, rule: &KeptRule) -> bool {
        match self {
            Kept::Valued(valued) => valued.holds(rule),
            Kept::Chains(chains) => chains.holds(),
        }
    }

    /// Gives an event that is held an earlier arrival.
    pub(super) fn set_arrival(&mut self, rule: &KeptRule, event: &Held, arrival: Arrival) {
        match (self, &rule.question) {
            (Kept::Chains(chains), Question::Sequence(sequence)) => chains.set_arrival(sequence, event, arrival),
            (Kept::Valued(valued), _) => valued.set_arrival(event, arrival),
            (Kept::Chains(_), _) => unreachable!("chains are kept for a sequence"),
        }
    }

    /// Takes in an event whose id is not held, and drops what can't decide any more.
    pub(super) fn insert(&mut self, rule: &KeptRule, event: Held, value: i128) {
        match (self, &rule.question) {
            (Kept::Chains(chains), Question::Sequence(sequence)) => chains.insert(sequence, event, value as u64),
            (Kept::Valued(valued), _) => {
                valued.insert(rule, event, value);
                valued.index_values(rule);
            }
            (Kept::Chains(_), _) => unreachable!("chains are kept for a sequence"),
        }
    }

    /// Removes the oldest event.
    pub(super) fn remove_oldest(&mut self, rule: &KeptRule) {
        match self {
            Kept::Valued(valued) => {
                valued.remove_oldest();
                valued.index_values(rule);
            }
            Kept::Chains(chains) => chains.remove_oldest(),
        }
    }

    /// Returns how far a sequence has come; `None` if the question is another one.
    pub(super) fn progress(&self, rule: &KeptRule, now: Time) -> Option<Vec<Time>> {
        match (self, &rule.question) {
            (Kept::Chains(chains), Question::Sequence(sequence)) => Some(chains.progress(sequence, now)),
            _ => None,
        }
    }
}

/// The events of a count or an aggregate.
#[derive(Debug)]
pub(super) struct Valued {
    events: EventList,
    beside: Beside,
}

/// What is kept beside the events.
#[derive(Debug)]
enum Beside {
    Nothing,
    /// The sum of all of them.
    Total(Summary),
    /// The event of each value, once there are more than a few.
    ByValue(HashMap<i128, Held>),
}

impl Valued {
    fn new(rule: &KeptRule) -> Valued {
        let beside = match &rule.question {
            Question::Total(aggregate, _) | Question::Enough(aggregate, _) => Beside::Total(Summary::new(aggregate)),
            _ => Beside::Nothing,
        };
        Valued { events: EventList::default(), beside }
    }

    /// Returns the sum or average for people; `None` if it is null or the question another one.
    fn total(&self) -> Option<String> {
        match &self.beside {
            Beside::Total(total) => total.shown(),
            Beside::Nothing | Beside::ByValue(_) => None,
        }
    }

    fn holds(&self, rule: &KeptRule) -> bool {
        match (&rule.question, &self.beside) {
            (Question::Count(count) | Question::Distinct(count), _) => count.holds(self.events.len()),
            (Question::Total(_, comparison) | Question::Enough(_, comparison), Beside::Total(total)) => {
                total.holds(comparison)
            }
            (Question::Extreme(aggregate, comparison), _) => {
                let mut holds = false;
                for (_, value) in self.events.iter() {
                    match bearing(aggregate, comparison, value) {
                        Bearing::Holds => holds = true,
                        Bearing::Breaks => return false,
                        Bearing::Nothing => {}
                    }
                }
                holds
            }
            (Question::Total(..) | Question::Enough(..), _) => {
                unreachable!("a total is kept for a question about it")
            }
            (Question::Sequence(_), _) => unreachable!("a sequence is decided by chains"),
        }
    }

    /// Gives an event that is held an earlier arrival.
    fn set_arrival(&mut self, event: &Held, arrival: Arrival) {
        let value = self.events.remove(event);
        let event = Held { arrival, ..*event };
        self.events.insert(event, value);
        if let Beside::ByValue(by_value) = &mut self.beside {
            by_value.insert(value, event);
        }
    }

    /// Takes in an event whose id is not held, and drops what can't decide any more.
    fn insert(&mut self, rule: &KeptRule, event: Held, value: i128) {
        match &rule.question {
            Question::Count(count) => {
                self.add(event, value);
                self.drop_beyond(count.keep);
            }
            Question::Total(..) => self.add(event, value),
            Question::Enough(_, comparison) => {
                self.add(event, value);
                self.drop_surplus(comparison);
            }
            Question::Distinct(count) => {
                if self.replace(event, self.of_value(value), value) {
                    self.drop_beyond(count.keep);
                }
            }
            Question::Extreme(aggregate, comparison) => {
                let of = |value| bearing(aggregate, comparison, value);
                if of(value) != Bearing::Nothing {
                    let alike = self.events.iter().find(|(_, other)| of(*other) == of(value));
                    self.replace(event, alike.map(|(held, _)| held), value);
                }
            }
            Question::Sequence(_) => unreachable!("a sequence is decided by chains"),
        }
    }

    /// Removes the oldest event.
    fn remove_oldest(&mut self) {
        let oldest = self.events.oldest().expect("it is asked for while there are events");
        self.remove(&oldest);
    }

    /// Takes in an event in place of the one that stands for the same, unless that is newer; returns whether it did.
    fn replace(&mut self, event: Held, alike: Option<Held>, value: i128) -> bool {
        if let Some(alike) = alike {
            if order(&event) < order(&alike) {
                return false;
            }
            self.remove(&alike);
        }
        self.add(event, value);
        true
    }

    fn drop_beyond(&mut self, keep: usize) {
        if self.events.len() > keep {
            self.remove_oldest();
        }
    }

    /// Drops the oldest events without which the sum is enough.
    fn drop_surplus(&mut self, comparison: &Comparison) {
        let Beside::Total(total) = &mut self.beside else { unreachable!("a total is kept for a question about it") };
        while total.holds(comparison)
            && let Some((oldest, value)) = self.events.first()
        {
            total.take_back(Contribution::Number(value));
            if !total.holds(comparison) {
                total.add(Contribution::Number(value));
                break;
            }
            self.events.remove(&oldest);
        }
    }

    fn of_value(&self, value: i128) -> Option<Held> {
        match &self.beside {
            Beside::ByValue(by_value) => by_value.get(&value).copied(),
            Beside::Nothing | Beside::Total(_) => {
                self.events.iter().find(|(_, other)| *other == value).map(|(held, _)| held)
            }
        }
    }

    fn add(&mut self, event: Held, value: i128) {
        self.events.insert(event, value);
        match &mut self.beside {
            Beside::Nothing => {}
            Beside::Total(total) => total.add(Contribution::Number(value)),
            Beside::ByValue(by_value) => {
                by_value.insert(value, event);
            }
        }
    }

    fn remove(&mut self, event: &Held) {
        let value = self.events.remove(event);
        match &mut self.beside {
            Beside::Nothing => {}
            Beside::Total(total) => total.take_back(Contribution::Number(value)),
            Beside::ByValue(by_value) => {
                by_value.remove(&value);
            }
        }
    }

    /// Makes the table of values once there are more than a few, and drops it when there are none left.
    fn index_values(&mut self, rule: &KeptRule) {
        if !matches!(rule.question, Question::Distinct(_)) {
            return;
        }
        match self.beside {
            Beside::Nothing if self.events.len() > FEW => {
                self.beside = Beside::ByValue(self.events.iter().map(|(held, value)| (value, held)).collect());
            }
            Beside::ByValue(_) if self.events.is_empty() => self.beside = Beside::Nothing,
            _ => {}
        }
    }
}
