//! What is known of one key, and how it goes on by itself: for who asks why it is in an audience.
//!
//! Computes, for each fact of a key, its truth now and all its flips to come if no event comes but those that wait for their time,
//! and no pull: windows end, moments of `now()` pass. Changes nothing.

use super::windows::Held;
use super::{ClockedTruth, FactState, Keys, audiences};
use crate::time::{Slot, Time};
use std::collections::BTreeSet;

/// An event of the key that has not taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) fact: u32,
    /// When it takes effect.
    pub(crate) at: Time,
    pub(crate) event: Held,
}

/// A fact of a key, now and later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outlook {
    pub(crate) truth: bool,
    /// Later times at which it turns, ascending; it alternates.
    pub(crate) turns: Vec<Time>,
    /// The events that count, from oldest to newest; none: events have no part in it.
    pub(crate) events: Option<Vec<Time>>,
    /// There may be more events, which can't decide.
    pub(crate) full: bool,
}

impl Keys {
    /// The slot of a key of which something is known.
    pub(crate) fn find(&self, hash: u64, key: &str) -> Option<Slot> {
        self.slots.find(hash, key)
    }

    /// All facts of a key after all that happens at `time` has taken effect; `slot`: none where nothing is known of it yet.
    /// `waiting` is in the order in which it takes effect.
    pub(crate) fn outlook(&self, slot: Option<Slot>, time: Time, waiting: &[Waiting]) -> Vec<Outlook> {
        let fact_words = self.audiences.default_facts.len();
        let truths = match slot {
            Some(slot) => &self.truths[slot as usize * fact_words..][..fact_words],
            None => &self.audiences.default_facts[..],
        };
        let of = |(fact, state): (usize, &FactState)| {
            let fact = fact as u32;
            let truth = audiences::get(truths, fact);
            let mut outlook = Outlook { truth, ..Outlook::default() };
            match state {
                FactState::Known
                | FactState::Property { clocked: false }
                | FactState::Related { clocked: false, .. } => {}
                FactState::Window(rule) => {
                    let held = slot.map_or(&[][..], |slot| self.windows[slot as usize].held_of(fact));
                    outlook.events = Some(held.iter().map(|held| held.timestamp).collect());
                    outlook.full = held.len() >= rule.keep;
                    let mut events = waiting.iter().filter(|waiting| waiting.fact == fact);
                    outlook.turns = super::windows::turns(rule, fact, held, &mut events);
                }
                FactState::Property { .. } | FactState::Related { .. } => {
                    let clocked = slot.and_then(|slot| self.clocked.get(&(slot, fact)));
                    let later = |turn: &i64| Time::try_from(*turn).ok().filter(|turn| *turn > time);
                    let moments: BTreeSet<Time> = match clocked.map(|clocked| &clocked.truth) {
                        None => BTreeSet::new(),
                        Some(ClockedTruth::Row(timeline)) => timeline.turns.iter().filter_map(later).collect(),
                        Some(ClockedTruth::Aggregate(rows)) => {
                            rows.iter().flat_map(|(_, when)| &when.turns).filter_map(later).collect()
                        }
                    };
                    let mut before = truth;
                    for moment in moments {
                        let (after, _) = self.look_at(slot.expect("it has a moment"), fact, moment);
                        if after != before {
                            outlook.turns.push(moment);
                        }
                        before = after;
                    }
                }
            }
            outlook
        };
        self.facts.iter().enumerate().map(of).collect()
    }

    /// Collects up to `limit` keys that are in an audience, from slot `from` on, looking at up to `looks` slots. Tells the slot to
    /// go on from; none: that was the last.
    pub(crate) fn list_members(
        &self,
        audience: u32,
        from: Slot,
        limit: usize,
        looks: usize,
        keys: &mut Vec<String>,
    ) -> Option<Slot> {
        let member_words = self.audiences.member_words();
        let until = self.slots.len().min((from as usize).saturating_add(looks));
        for slot in from as usize..until {
            if keys.len() == limit {
                return Some(slot as Slot);
            }
            if audiences::get(&self.members[slot * member_words..], audience) {
                keys.push(self.slots.key(slot as Slot).to_owned());
            }
        }
        (until < self.slots.len()).then_some(until as Slot)
    }
}
