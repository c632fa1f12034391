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
//! A fact's events stand next to those of the key's other facts as long as they are few, and the question is then answered by a look
//! at all of them; more of them are [`Large`]. Promises: an event costs a scan of the few or O(log n) in the number of those held,
//! wherever it stands, and an event that leaves as much. What is exact does not depend on the order in which events come and go.

use super::chains::{self, Chains, SequenceRule};
use super::counts::Rule;
use super::event_list::{Beside, EventList, FEW, Few, Many, ValuedEvent};
use super::{Arrival, Held, order};
use crate::time::Time;
use hashbrown::HashMap;
use thin_vec::ThinVec;
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
    /// The truth of the fact while nothing is held.
    pub(super) holds_of_nothing: bool,
}

impl KeptRule {
    pub(super) fn new(within: Time, value: usize, question: Question) -> KeptRule {
        let mut rule = KeptRule { within, value, question, holds_of_nothing: false };
        let (mut all, mut len) = (ThinVec::new(), 0);
        rule.holds_of_nothing = Kept::List(EventList::Few(Few { all: &mut all, start: 0, len: &mut len })).holds(&rule);
        rule
    }

    /// Returns whether any number of events decides alike, so that none is held.
    pub(super) fn is_constant(&self) -> bool {
        match &self.question {
            Question::Count(rule) | Question::Distinct(rule) => {
                rule.keep == 0 || rule.most.is_some_and(|most| most < rule.least)
            }
            Question::Total(..) | Question::Enough(..) | Question::Extreme(..) | Question::Sequence(_) => false,
        }
    }

    /// Returns how many events are few.
    pub(super) fn few(&self) -> usize {
        match &self.question {
            Question::Sequence(_) => chains::FEW,
            _ => FEW,
        }
    }

    /// Returns whether so few are left of many that they are few again.
    pub(super) fn are_few_again(&self, len: usize) -> bool {
        len <= self.few() / 2
    }
}

/// The events of a fact that are more than a few.
#[derive(Debug)]
pub(super) enum Large {
    /// Of a count or an aggregate.
    Many(Box<Many>),
    /// Of a sequence.
    Chains(Box<Chains>),
}

impl Large {
    /// Takes up events in any order, with their values.
    pub(super) fn of(rule: &KeptRule, events: &[ValuedEvent]) -> Large {
        match &rule.question {
            Question::Sequence(sequence) => Large::Chains(Box::new(Chains::of(sequence, events))),
            question => {
                let beside = match question {
                    Question::Total(aggregate, _) | Question::Enough(aggregate, _) => {
                        Beside::Total(Summary::new(aggregate))
                    }
                    Question::Distinct(_) => Beside::ByValue(HashMap::new()),
                    Question::Count(_) | Question::Extreme(..) | Question::Sequence(_) => Beside::Nothing,
                };
                Large::Many(Box::new(Many::of(beside, events.iter().map(ValuedEvent::pair))))
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Large::Many(many) => many.len(),
            Large::Chains(chains) => chains.len(),
        }
    }

    /// Returns the events with their values, from oldest to newest.
    pub(super) fn events(&self) -> impl Iterator<Item = (Held, i128)> {
        let (many, chains) = match self {
            Large::Many(many) => (Some(many), None),
            Large::Chains(chains) => (None, Some(chains)),
        };
        let chained = chains.into_iter().flat_map(|chains| chains.events());
        many.into_iter().flat_map(|many| many.events()).chain(chained)
    }
}

/// The events of a fact of a key that matter, wherever they stand.
pub(super) enum Kept<'a> {
    /// Of a count or an aggregate, or a sequence's few.
    List(EventList<'a>),
    /// Of a sequence.
    Chains(&'a mut Chains),
}

impl Kept<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Kept::List(list) => list.len(),
            Kept::Chains(chains) => chains.len(),
        }
    }

    pub(super) fn oldest(&self) -> Option<Held> {
        match self {
            Kept::List(list) => list.first().map(|(held, _)| held),
            Kept::Chains(chains) => chains.oldest(),
        }
    }

    pub(super) fn find(&self, id: u64) -> Option<Held> {
        match self {
            Kept::List(list) => list.find(id),
            Kept::Chains(chains) => chains.find(id),
        }
    }

    pub(super) fn holds(&self, rule: &KeptRule) -> bool {
        match (self, &rule.question) {
            (Kept::List(list), Question::Count(count) | Question::Distinct(count)) => count.holds(list.len()),
            (Kept::List(list), Question::Total(of, comparison) | Question::Enough(of, comparison)) => {
                list.total(of).holds(comparison)
            }
            (Kept::List(list), Question::Extreme(aggregate, comparison)) => {
                let mut holds = false;
                for (_, value) in list.iter() {
                    match bearing(aggregate, comparison, value) {
                        Bearing::Holds => holds = true,
                        Bearing::Breaks => return false,
                        Bearing::Nothing => {}
                    }
                }
                holds
            }
            (Kept::List(EventList::Few(few)), Question::Sequence(sequence)) => chains::hold(sequence, few.events()),
            (Kept::Chains(chains), _) => chains.holds(),
            (Kept::List(EventList::Many(_)), Question::Sequence(_)) => unreachable!("chains are kept for a sequence"),
        }
    }

    /// Gives an event that is held an earlier arrival.
    pub(super) fn set_arrival(&mut self, rule: &KeptRule, event: &Held, arrival: Arrival) {
        match (self, &rule.question) {
            (Kept::Chains(chains), Question::Sequence(sequence)) => chains.set_arrival(sequence, event, arrival),
            (Kept::List(list), _) => {
                let value = list.remove(event);
                list.insert(Held { arrival, ..*event }, value);
            }
            (Kept::Chains(_), _) => unreachable!("chains are kept for a sequence"),
        }
    }

    /// Takes in an event whose id is not held, and drops what can't decide any more.
    pub(super) fn insert(&mut self, rule: &KeptRule, event: Held, value: i128) {
        match (self, &rule.question) {
            (Kept::Chains(chains), Question::Sequence(sequence)) => chains.insert(sequence, event, value as u64),
            (Kept::List(list), question) => insert(list, question, event, value),
            (Kept::Chains(_), _) => unreachable!("chains are kept for a sequence"),
        }
    }

    /// Removes the oldest event.
    pub(super) fn remove_oldest(&mut self) {
        match self {
            Kept::List(list) => remove_oldest(list),
            Kept::Chains(chains) => chains.remove_oldest(),
        }
    }
}

/// Takes in an event whose id is not held, and drops what can't decide any more.
fn insert(list: &mut EventList<'_>, question: &Question, event: Held, value: i128) {
    match question {
        Question::Total(..) | Question::Sequence(_) => list.insert(event, value),
        Question::Count(count) => {
            list.insert(event, value);
            drop_beyond(list, count.keep);
        }
        Question::Enough(aggregate, comparison) => {
            list.insert(event, value);
            drop_surplus(list, aggregate, comparison);
        }
        Question::Distinct(count) => {
            if replace(list, event, list.of_value(value), value) {
                drop_beyond(list, count.keep);
            }
        }
        Question::Extreme(aggregate, comparison) => {
            let of = |value| bearing(aggregate, comparison, value);
            if of(value) != Bearing::Nothing {
                let alike = list.iter().find(|(_, other)| of(*other) == of(value)).map(|(held, _)| held);
                replace(list, event, alike, value);
            }
        }
    }
}

/// Takes in an event in place of the one that stands for the same, unless that is newer; returns whether it did.
fn replace(list: &mut EventList<'_>, event: Held, alike: Option<Held>, value: i128) -> bool {
    if let Some(alike) = alike {
        if order(&event) < order(&alike) {
            return false;
        }
        list.remove(&alike);
    }
    list.insert(event, value);
    true
}

fn drop_beyond(list: &mut EventList<'_>, keep: usize) {
    if list.len() > keep {
        remove_oldest(list);
    }
}

/// Drops the oldest events without which the sum is enough.
fn drop_surplus(list: &mut EventList<'_>, aggregate: &Aggregate, comparison: &Comparison) {
    let mut total = list.total(aggregate);
    while total.holds(comparison)
        && let Some((oldest, value)) = list.first()
    {
        total.take_back(Contribution::Number(value));
        if !total.holds(comparison) {
            break;
        }
        list.remove(&oldest);
    }
}

fn remove_oldest(list: &mut EventList<'_>) {
    let (oldest, _) = list.first().expect("it is asked for while there are events");
    list.remove(&oldest);
}
