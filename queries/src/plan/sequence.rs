//! Sequences in a plan: steps and exclusions over filters of events, and what a matched event is in them.
//!
//! A sequence is a fact of several events. A matched event names facts by position in [`EventPlan::facts`]; a sequence has one
//! position for each filter of the event that it uses, all of one event next to each other and in one block of 64. [`Role`]
//! is what a position means: the steps that an event which passes the filter matches, and whether it is excluded.

use super::{EventPlan, Fact, FactKind};
use serde::{Deserialize, Serialize};

/// The bit of [`Role::bits`] of an event that may not lie within a sequence.
pub const EXCLUDED: u64 = 1 << 63;

/// The events that pass one filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventFilter {
    /// Index in [`super::Plan::events`].
    pub event: u32,
    /// Index in [`EventPlan::filters`].
    pub filter: u32,
}

/// A step of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceStep {
    /// Its events.
    pub of: EventFilter,
    /// How much later its event may be than that of the step before, ms. `None` if nothing but the window limits it, as of the
    /// first step.
    pub after: Option<u64>,
}

/// What an event is in the sequence that a position of its facts names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// The steps that it matches, from the lowest bit on, and [`EXCLUDED`]. 0 if the position names no sequence.
    pub bits: u64,
    /// Which of the sequence's events it is, in the order in which steps and exclusions name them. Message ids are of one event.
    pub nth: u32,
}

impl EventPlan {
    /// Returns, by position in [`EventPlan::facts`], what this event, the one at `event` of the plan, is in sequences of `facts`,
    /// those of its model.
    pub fn roles(&self, event: u32, facts: &[Fact]) -> Vec<Role> {
        let mut roles = vec![Role::default(); self.facts.len()];
        for (filter, positions) in self.filters.iter().enumerate() {
            let of = EventFilter { event, filter: filter as u32 };
            for position in &positions.facts {
                let position = *position as usize;
                if let FactKind::Sequence { steps, without, .. } = &facts[self.facts[position] as usize].kind {
                    roles[position] = role(of, steps, without);
                }
            }
        }
        roles
    }
}

fn role(of: EventFilter, steps: &[SequenceStep], without: &[EventFilter]) -> Role {
    let matching = steps.iter().enumerate().filter(|(_, step)| step.of == of);
    let steps_of = matching.fold(0, |bits, (step, _)| bits | 1 << step);
    let excluded = if without.contains(&of) { EXCLUDED } else { 0 };
    let mut events: Vec<u32> = Vec::new();
    for named in steps.iter().map(|step| step.of.event).chain(without.iter().map(|of| of.event)) {
        if !events.contains(&named) {
            events.push(named);
        }
    }
    let nth =
        events.iter().position(|event| *event == of.event).expect("a position of a sequence is of one of its events");
    Role { bits: steps_of | excluded, nth: nth as u32 }
}
