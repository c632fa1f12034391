//! Forecast: what is known of one key, and how it goes on by itself. It answers why a key is in an audience, and until when.
//!
//! Computes, for each fact of a key, its truth now and all its flips to come if no event comes but those that wait for their
//! time, and no pull: windows end, moments of `now()` pass. Changes nothing.

use super::facts::get;
use super::keyed::KeyedState;
use super::windows::{Held, flips_ahead};
use crate::time::{Slot, Time};

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
pub(crate) struct Forecast {
    pub(crate) truth: bool,
    /// Later times at which it flips, ascending; its truth alternates.
    pub(crate) flips: Vec<Time>,
    /// The times of the events that count, from oldest to newest; `None` if events do not decide it.
    pub(crate) events: Option<Vec<Time>>,
    /// Whether there may be more events, which can't decide.
    pub(crate) full: bool,
}

impl KeyedState {
    /// Returns all facts of a key after all that happens at `time` has taken effect; `slot` is `None` if nothing is known of the
    /// key yet. `waiting` is in the order in which it takes effect.
    pub(crate) fn forecast(&self, slot: Option<Slot>, time: Time, waiting: &[Waiting]) -> Vec<Forecast> {
        let facts = self.evaluate.facts();
        let truths = slot.map_or(facts.default(), |slot| facts.row(slot));
        let of = |fact: u32| {
            let truth = get(truths, fact);
            if let Some(rule) = self.windows.rule(fact) {
                let held = slot.map_or(&[][..], |slot| self.windows.key(slot).held_of(fact));
                let mut events = waiting.iter().filter(|waiting| waiting.fact == fact);
                return Forecast {
                    truth,
                    flips: flips_ahead(rule, fact, held, &mut events),
                    events: Some(held.iter().map(|held| held.timestamp).collect()),
                    full: held.len() >= rule.keep,
                };
            }
            let flips = slot.map_or(Vec::new(), |slot| self.properties.flips_ahead(slot, fact, time, truth));
            Forecast { truth, flips, ..Forecast::default() }
        };
        (0..self.facts as u32).map(of).collect()
    }
}
