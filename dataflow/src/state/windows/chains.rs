//! Chains: facts that a sequence of events decides.
//!
//! A chain is an event for each step, in strictly increasing (timestamp, arrival), each at most the step's `after` later than the
//! one before, with no excluded event strictly between the first and the last. The fact is true while a chain lies in the window.
//!
//! [`Chains`] holds all events in the window that match a step or are excluded, 32 bytes each, and beyond [`BLOCK`] some 40 bytes more
//! for a table of ids and for blocks; up to [`FEW`] of them are held as those of other facts are, see [`hold`]. None of them can be dropped before its window ends: a late event may come to lie between any two,
//! and then any of them may be the step before it, the one after it, or the one that separates it from both.
//!
//! Promises: the first event of the newest chain, so that the fact ends exactly at that event's timestamp plus the window, whatever
//! the order in which events come. An event costs a pass over its block and over those blocks behind it for which it changes
//! something; one at the end goes on from what is known of the last block.
//!
//! The method: going through events in order, it is enough to keep for each step the newest chain that has reached it. A chain that
//! ends later at the same step also begins later (or at the same event): so it is the better one for the window, for exclusions
//! and for `after`. A block's [`Passage`] is what becomes of the chains that reach its start. A block whose input is as before
//! passes on what it did before, so that what an event changes ends soon; each block remembers its last two inputs, because
//! chains that come and go in front of it mostly change between two.
//!
//! What leaves the window is removed from the front, and passages are left as they are: the first event of the newest chain shows
//! whether it is still there, and if it is not, those of all other chains are gone too.

use super::event_list::ValuedEvent;
use super::{Arrival, Held, order};
use crate::time::Time;
use hashbrown::HashMap;
use smallvec::SmallVec;
use usher_queries::plan::{EXCLUDED, Role, SequenceStep};

/// The most events of a block: a pass over so many takes less than a µs. Few in tests, so that there are many blocks.
const BLOCK: usize = if cfg!(test) { 4 } else { 256 };
/// So many events are passed over at each look: that costs no more than to read what would be kept of them.
pub(super) const FEW: usize = if cfg!(test) { 3 } else { 8 };
/// Spreads the ids of a sequence's events: message ids are of one event.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A sequence.
#[derive(Clone, Debug)]
pub(crate) struct SequenceRule {
    /// By step, how much later its event may be than that of the step before, ms; [`Time::MAX`] if nothing limits it.
    after: Vec<Time>,
}

impl SequenceRule {
    pub(crate) fn new(steps: &[SequenceStep]) -> SequenceRule {
        SequenceRule { after: steps.iter().map(|step| step.after.unwrap_or(Time::MAX)).collect() }
    }

    /// Returns the number of steps before the last.
    fn inner(&self) -> usize {
        self.after.len() - 1
    }

    /// Returns what chains that have reached steps are to the events from `next` on: those that can't go on are gone, and when
    /// they reached their step is left out where nothing depends on it.
    fn carry(&self, reached: &[Option<Reached>], next: Time) -> Inputs {
        let carried = |(step, reached): (usize, &Option<Reached>)| match (reached, self.after[step + 1]) {
            (Some(_), Time::MAX) => Some(0),
            (Some(reached), after) => Some(reached.at).filter(|at| at + after >= next),
            (None, _) => None,
        };
        reached.iter().enumerate().map(carried).collect()
    }
}

/// Returns an event as sequences hold it, with an id that no other event of its sequence has.
pub(crate) fn held_as(role: Role, held: Held) -> Held {
    Held { id: held.id.wrapping_add(SPREAD.wrapping_mul(u64::from(role.nth))), ..held }
}

/// Where a chain begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    /// In an earlier block: with the chain that had reached this step there.
    Before(usize),
    /// At an event with this timestamp.
    At(Time),
}

/// The newest chain that has reached a step.
#[derive(Clone, Copy, Debug)]
struct Reached {
    /// The timestamp of the step's event; 0 if it is in an earlier block and nothing depends on it.
    at: Time,
    first: First,
}

/// By step, all but the last: when the newest chain that can go on reached it. Most sequences have two or three steps.
type Inputs = SmallVec<[Option<Time>; 2]>;

/// What becomes of the chains that reach the start of a block.
#[derive(Debug)]
struct Passage {
    input: Inputs,
    /// By step, all but the last.
    output: SmallVec<[Option<Reached>; 2]>,
    /// Where the newest whole chain that ends in the block begins.
    whole: Option<First>,
}

/// An event, and the steps that it matches.
#[derive(Clone, Copy, Debug)]
struct ChainEvent {
    held: Held,
    /// As in [`Role::bits`].
    bits: u64,
}

impl ChainEvent {
    /// Returns an event that has the steps as its value.
    fn of(event: &ValuedEvent) -> ChainEvent {
        ChainEvent { held: event.held, bits: event.value() as u64 }
    }
}

/// Events next to each other.
#[derive(Debug, Default)]
struct Block {
    /// In order, at least one. Events of one place in the order, which are one message, are in one block.
    events: Vec<ChainEvent>,
    /// The passage for the present input, and that for the one before.
    passages: Vec<Passage>,
    /// That of the present passage: all blocks are searched for it.
    whole: Option<First>,
}

/// The events of a sequence of a key that are more than a few.
#[derive(Debug, Default)]
pub(super) struct Chains {
    /// In order.
    blocks: Vec<Block>,
    /// Where each event stands, once there is more than one block.
    by_id: HashMap<u64, (Time, Arrival)>,
    len: usize,
    /// The timestamp of the first event of the newest whole chain in the window.
    best: Option<Time>,
}

/// Returns whether there is a chain among a sequence's few events, which are all in the window.
pub(super) fn hold(rule: &SequenceRule, events: &[ValuedEvent]) -> bool {
    let all = (2 << rule.inner()) - 1;
    let bits = events.iter().fold(0, |bits, event| bits | event.value() as u64);
    if bits & all != all {
        return false;
    }
    let events: SmallVec<[ChainEvent; FEW]> = events.iter().map(ChainEvent::of).collect();
    Passage::through(rule, &events, Inputs::from_elem(None, rule.inner())).whole.is_some()
}

/// Returns how far the newest chain has come at `now`, as the timestamps of the events for the steps that it has reached: for
/// all steps if one is whole, else for as many as one has that can still go on.
pub(super) fn progress(rule: &SequenceRule, events: &[ValuedEvent], now: Time) -> Vec<Time> {
    let mut chains: Vec<Option<Vec<Time>>> = vec![None; rule.inner()];
    let mut whole = None;
    let events: Vec<ChainEvent> = events.iter().map(ChainEvent::of).collect();
    for (at, bits) in points(&events) {
        let last = |chain: &Vec<Time>| *chain.last().expect("a chain has an event for its first step");
        let follows = |step: usize, chains: &[Option<Vec<Time>>]| {
            let before = chains[step - 1].as_ref().filter(|_| bits >> step & 1 == 1)?;
            (at - last(before) <= rule.after[step]).then(|| [before.as_slice(), &[at]].concat())
        };
        whole = follows(rule.inner(), &chains).or(whole);
        if bits & EXCLUDED != 0 {
            chains.fill(None);
        }
        for step in (1..rule.inner()).rev() {
            chains[step] = follows(step, &chains).or(chains[step].take());
        }
        if bits & 1 == 1 {
            chains[0] = Some(vec![at]);
        }
    }
    let goes_on = |(step, chain): (usize, Option<Vec<Time>>)| {
        chain.filter(|chain| now.saturating_sub(chain[chain.len() - 1]) <= rule.after[step + 1])
    };
    let partial = || chains.into_iter().enumerate().rev().find_map(goes_on);
    whole.or_else(partial).unwrap_or_default()
}

impl Chains {
    /// Takes up events in any order, with the bits that they had as values.
    pub(super) fn of(rule: &SequenceRule, events: &[ValuedEvent]) -> Chains {
        let mut events: Vec<ChainEvent> = events.iter().map(ChainEvent::of).collect();
        events.sort_by_key(|event| order(&event.held));
        let mut chains = Chains { len: events.len(), ..Chains::default() };
        while !events.is_empty() {
            let rest = match events.len() > BLOCK {
                true => split(&mut events, BLOCK / 2),
                false => Vec::new(),
            };
            chains.blocks.push(Block { events, ..Block::default() });
            events = rest;
        }
        chains.index();
        if !chains.blocks.is_empty() {
            chains.refresh(rule, 0);
        }
        chains
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns whether a chain lies in the window.
    pub(super) fn holds(&self) -> bool {
        self.best.is_some()
    }

    pub(super) fn oldest(&self) -> Option<Held> {
        self.blocks.first().map(|block| block.events[0].held)
    }

    /// Returns the event with an id.
    pub(super) fn find(&self, id: u64) -> Option<Held> {
        match self.blocks.as_slice() {
            [only] => only.events.iter().rev().map(|event| event.held).find(|held| held.id == id),
            _ => self.by_id.get(&id).map(|(timestamp, arrival)| Held { timestamp: *timestamp, arrival: *arrival, id }),
        }
    }

    /// Returns the events with their bits as values, from oldest to newest.
    pub(super) fn events(&self) -> impl Iterator<Item = (Held, i128)> {
        self.blocks.iter().flat_map(|block| &block.events).map(|event| (event.held, i128::from(event.bits)))
    }

    /// Takes in an event whose id is not held.
    pub(super) fn insert(&mut self, rule: &SequenceRule, held: Held, bits: u64) {
        let block = self.place(&held);
        let is_last = block + 1 == self.blocks.len();
        let Block { events, passages, whole } = &mut self.blocks[block];
        let at = events.partition_point(|other| order(&other.held) <= order(&held));
        let is_behind = at == events.len() && events.last().is_some_and(|last| order(&last.held) < order(&held));
        events.insert(at, ChainEvent { held, bits });
        if is_last && is_behind && events.len() <= BLOCK {
            passages.truncate(1);
            passages[0].go_on(rule, held.timestamp, bits);
            *whole = passages[0].whole;
            self.len += 1;
            if self.blocks.len() > 1 {
                self.by_id.insert(held.id, (held.timestamp, held.arrival));
            }
            self.find_best();
            return;
        }
        self.len += 1;
        if self.blocks.len() > 1 {
            self.by_id.insert(held.id, (held.timestamp, held.arrival));
        }
        self.split_full(block, at);
        self.refresh(rule, block);
    }

    /// Gives an event that is held an earlier arrival.
    pub(super) fn set_arrival(&mut self, rule: &SequenceRule, held: &Held, arrival: Arrival) {
        let block = self.place(held);
        let events = &mut self.blocks[block].events;
        let at = events.iter().position(|other| other.held == *held).expect("the event is in its block");
        let moved = Held { arrival, ..*held };
        let stays = match at {
            0 => block == 0,
            _ => order(&events[at - 1].held) <= order(&moved),
        };
        if stays {
            events[at].held = moved;
            if let Some(place) = self.by_id.get_mut(&held.id) {
                place.1 = arrival;
            }
            return self.refresh(rule, block);
        }
        let bits = events.remove(at).bits;
        self.len -= 1;
        self.by_id.remove(&held.id);
        if self.blocks[block].events.is_empty() {
            self.blocks.remove(block);
        }
        if !self.blocks.is_empty() {
            self.refresh(rule, block.min(self.blocks.len() - 1));
        }
        self.insert(rule, moved, bits);
    }

    /// Removes the oldest event, which has left the window; those of its ms leave with it.
    ///
    /// # Panics
    /// Panics if there is none.
    pub(super) fn remove_oldest(&mut self) {
        let block = self.blocks.first_mut().expect("it is asked for while there are events");
        let ChainEvent { held, .. } = block.events.remove(0);
        self.by_id.remove(&held.id);
        self.len -= 1;
        if self.best.is_some_and(|first| first <= held.timestamp) {
            self.best = None;
        }
        if block.events.is_empty() {
            self.blocks.remove(0);
            if self.blocks.len() <= 1 {
                self.by_id = HashMap::new();
            }
        }
    }

    /// Returns the block in which an event stands, or belongs.
    fn place(&self, held: &Held) -> usize {
        self.blocks[1..].partition_point(|block| order(&block.events[0].held) <= order(held))
    }

    /// Cuts a block in two that has too many events; `at`: where one was added.
    fn split_full(&mut self, block: usize, at: usize) {
        let is_last = block + 1 == self.blocks.len();
        let events = &mut self.blocks[block].events;
        if events.len() <= BLOCK {
            return;
        }
        // Events mostly come in order: then the full block is left full, and a new one begun.
        let appended = is_last && at + 1 == events.len();
        let rest = split(events, if appended { at } else { BLOCK / 2 });
        if rest.is_empty() {
            return;
        }
        self.blocks.insert(block + 1, Block { events: rest, ..Block::default() });
        if self.blocks.len() == 2 {
            self.index();
        }
    }

    /// Makes the table of ids.
    fn index(&mut self) {
        if self.blocks.len() > 1 {
            let held = self.blocks.iter().flat_map(|block| &block.events).map(|event| event.held);
            self.by_id = held.map(|held| (held.id, (held.timestamp, held.arrival))).collect();
        }
    }

    /// Works out what a block whose events have changed, and those behind it, pass on; then the newest chain.
    fn refresh(&mut self, rule: &SequenceRule, changed: usize) {
        self.blocks[changed].passages.clear();
        let mut block = changed;
        while block < self.blocks.len() && self.pass(rule, block) {
            block += 1;
        }
        self.find_best();
    }

    fn find_best(&mut self) {
        self.best = self.newest_first().filter(|first| self.oldest().is_some_and(|oldest| oldest.timestamp <= *first));
    }

    /// Works out what a block passes on; returns whether that may differ from before.
    fn pass(&mut self, rule: &SequenceRule, block: usize) -> bool {
        let input = match block.checked_sub(1).and_then(|before| self.blocks[before].passages.first()) {
            Some(before) => rule.carry(&before.output, self.blocks[block].events[0].held.timestamp),
            None => Inputs::from_elem(None, rule.inner()),
        };
        let Block { events, passages, whole } = &mut self.blocks[block];
        match passages.iter().position(|known| known.input == input) {
            Some(0) => return false,
            Some(_) => passages.swap(0, 1),
            None => {
                passages.truncate(1);
                passages.insert(0, Passage::through(rule, events, input));
            }
        }
        *whole = passages[0].whole;
        true
    }

    /// Returns the timestamp of the first event of the newest whole chain; `None` if there is none, or if it was in a block that has
    /// left the window.
    fn newest_first(&self) -> Option<Time> {
        let mut block = self.blocks.iter().rposition(|block| block.whole.is_some())?;
        let mut first = self.blocks[block].whole?;
        loop {
            match first {
                First::At(timestamp) => return Some(timestamp),
                First::Before(step) => {
                    block = block.checked_sub(1)?;
                    first = self.blocks[block].passages.first()?.output[step]?.first;
                }
            }
        }
    }
}

/// Cuts events in two, at `at` or a little behind it: events of one place in the order stay together. Returns those behind.
fn split(events: &mut Vec<ChainEvent>, at: usize) -> Vec<ChainEvent> {
    let together = order(&events[at - 1].held);
    let more = events[at..].iter().take_while(|event| order(&event.held) == together).count();
    events.split_off(at + more)
}

/// Returns the places in the order of events: the timestamp of each, and all that the events there are.
fn points(events: &[ChainEvent]) -> impl Iterator<Item = (Time, u64)> {
    let of_one = events.chunk_by(|a, b| order(&a.held) == order(&b.held));
    of_one.map(|events| (events[0].held.timestamp, events.iter().fold(0, |bits, event| bits | event.bits)))
}

impl Passage {
    fn through(rule: &SequenceRule, events: &[ChainEvent], input: Inputs) -> Passage {
        let at = |(step, at): (usize, &Option<Time>)| at.map(|at| Reached { at, first: First::Before(step) });
        let output = input.iter().enumerate().map(at).collect();
        let mut passage = Passage { input, output, whole: None };
        points(events).for_each(|(at, bits)| passage.go_on(rule, at, bits));
        passage
    }

    /// Goes on over the next place in the order of events.
    fn go_on(&mut self, rule: &SequenceRule, at: Time, bits: u64) {
        let Passage { output: reached, whole, .. } = self;
        let inner = rule.inner();
        // A chain goes on only from what an earlier event has reached.
        let follows = |step: usize, reached: &[Option<Reached>]| {
            reached[step - 1].filter(|before| at - before.at <= rule.after[step]).map(|before| before.first)
        };
        if bits >> inner & 1 == 1 {
            *whole = follows(inner, reached).or(*whole);
        }
        if bits & EXCLUDED != 0 {
            reached.fill(None);
        } else {
            let mut matching = bits & ((1 << inner) - 2);
            while matching != 0 {
                let step = 63 - matching.leading_zeros() as usize;
                matching ^= 1 << step;
                if let Some(first) = follows(step, reached) {
                    reached[step] = Some(Reached { at, first });
                }
            }
        }
        if bits & 1 == 1 {
            reached[0] = Some(Reached { at, first: First::At(at) });
        }
    }
}

#[cfg(test)]
mod tests;
