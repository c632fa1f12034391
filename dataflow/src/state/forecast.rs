//! Forecast: what is known of one key, and how it goes on by itself. It answers why a key is in an audience, and until when.
//!
//! Computes, for each fact of a key, its truth now and all its flips to come if no event comes but those that wait for their
//! time, and no pull: windows end, moments of `now()` pass. Changes nothing.

use super::facts::get;
use super::keyed::KeyedState;
use super::rows::WaitingTraits;
use super::windows::{Held, KeyView, Shown, flips_ahead};
use crate::time::{Slot, Time};
use std::collections::BTreeMap;

/// An event of the key that has not taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) fact: u32,
    /// When it takes effect.
    pub(crate) at: Time,
    pub(crate) event: Held,
    /// The value of it that the fact takes, or what it is in a sequence; 0 if it takes none.
    pub(crate) value: i128,
}

/// A fact of a key, now and later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forecast {
    pub(crate) truth: bool,
    /// Later times at which it flips, ascending; its truth alternates.
    pub(crate) flips: Vec<Time>,
    /// The times of the events that count, from oldest to newest: of a sequence, those for the steps that it has reached. `None` if
    /// events do not decide it.
    pub(crate) events: Option<Vec<Time>>,
    /// What is counted or added up, or the number of steps reached; `None` if only this key's row decides it, or if what is held does not
    /// determine it.
    pub(crate) value: Option<Shown>,
    /// Whether it may flip earlier: windows, or rows, of other keys decide it, which may be with other workers.
    pub(crate) unforeseen: bool,
}

impl KeyedState {
    /// Returns the later times at which a fact of a key flips if nothing is read any more, ascending, after all that happens at
    /// `time` has taken effect.
    pub(crate) fn flips_of(&self, slot: Slot, fact: u32, time: Time) -> Vec<Time> {
        let Some(rule) = self.windows.rule(fact) else {
            let truth = get(self.evaluate.facts().row(slot), fact);
            return self.properties.flips_ahead(slot, fact, time, truth);
        };
        let held = self.windows.key(slot).events_of(rule, fact, time);
        if held.is_empty() { Vec::new() } else { flips_ahead(rule, fact, &held, &mut std::iter::empty()) }
    }

    /// Returns whether a fact may flip at times that only the owners of other keys know; `waits`: events of its key wait that set its row.
    pub(crate) fn is_unforeseen(&self, fact: u32, waits: bool) -> bool {
        self.tallies.is_timed(fact) || self.rows.as_ref().is_some_and(|rows| rows.is_unforeseen(fact, waits))
    }

    /// Returns how many of the keys that may be members meet a fact.
    pub(crate) fn keys_meeting(&self, fact: u32) -> u64 {
        self.evaluate.fact_counts().keys(fact, self.keys().borrow().keys())
    }

    /// Returns all facts of a key after all that happens at `time` has taken effect; `slot` is `None` if nothing is known of the
    /// key yet. `waiting` and `traits` are in the order in which they take effect.
    pub(crate) fn forecast(
        &self,
        slot: Option<Slot>,
        time: Time,
        (waiting, traits): (&[Waiting], &[WaitingTraits]),
    ) -> Vec<Forecast> {
        let rows = self.rows.as_ref().filter(|_| !traits.is_empty());
        let by_traits = rows.map_or_else(BTreeMap::new, |rows| rows.flips_ahead(slot, time, traits));
        let facts = self.evaluate.facts();
        let truths = slot.map_or(facts.default(), |slot| facts.row(slot));
        let of = |fact: u32| {
            let truth = get(truths, fact);
            if let Some(rule) = self.windows.rule(fact) {
                let windows = slot.map_or(KeyView::default(), |slot| self.windows.key(slot));
                let held = windows.events_of(rule, fact, time);
                let mut events = waiting.iter().filter(|waiting| waiting.fact == fact);
                let flips = flips_ahead(rule, fact, &held, &mut events);
                let (events, value) = match windows.progress(rule, fact, time) {
                    Some(reached) => (reached.clone(), Some(Shown::Count(reached.len()))),
                    None => (held.iter().map(|(held, _)| held.timestamp).collect(), windows.shown(rule, fact, time)),
                };
                return Forecast { truth, flips, events: Some(events), value, unforeseen: false };
            }
            let flips = match (by_traits.get(&fact), slot) {
                (Some(flips), _) => flips.clone(),
                (None, Some(slot)) => self.properties.flips_ahead(slot, fact, time, truth),
                (None, None) => Vec::new(),
            };
            let (value, unforeseen) = (self.tallies.shown(slot, fact), self.is_unforeseen(fact, !traits.is_empty()));
            Forecast { truth, flips, events: None, value, unforeseen }
        };
        (0..self.facts as u32).map(of).collect()
    }
}
