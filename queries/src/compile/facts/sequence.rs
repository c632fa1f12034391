//! Sequences become facts.
//!
//! Canonical form: an `after` that is no shorter than the window limits nothing and is left out; exclusions are sorted, each
//! once. Every step is of the first event by id with its definition, so that a message which matches two names of one event is
//! one event of the sequence.

use super::super::canonical::{filtered_text, first_alike, sequence_text};
use super::{Draft, Facts, Tree};
use crate::predicate::Predicate;
use std::collections::BTreeMap;
use usher_config::{EventMatch, SequenceStep};

/// A sequence before everything has its index.
#[derive(Clone)]
pub(in super::super) struct SequenceDraft<'a> {
    /// Each with its `after`, ms.
    pub(in super::super) steps: Vec<(FilteredEvent<'a>, Option<u64>)>,
    pub(in super::super) without: Vec<FilteredEvent<'a>>,
    pub(in super::super) within: u64,
}

/// The events that pass a filter: the event's id, and the filter.
pub(in super::super) type FilteredEvent<'a> = (&'a str, Option<Predicate>);

impl<'a> SequenceDraft<'a> {
    /// Returns the events of all steps and exclusions.
    pub(in super::super) fn events(&self) -> impl Iterator<Item = &FilteredEvent<'a>> {
        self.steps.iter().map(|(of, _)| of).chain(&self.without)
    }
}

impl<'a> Facts<'a> {
    /// Adds the fact of a sequence. All its predicates are checked, whatever is wrong with one of them.
    pub(super) fn sequence(
        &mut self,
        model: &'a str,
        steps: &'a [SequenceStep],
        without: &'a [EventMatch],
        within: u64,
    ) -> Option<Tree> {
        let steps: Vec<_> = steps.iter().map(|step| (self.event_match(model, &step.of), step.after)).collect();
        let without: Vec<_> = without.iter().map(|of| self.event_match(model, of)).collect();
        // Events in the window lie less than it apart.
        let limits = |after: &u64| after.saturating_add(1) < within;
        let steps: Option<Vec<_>> = steps.into_iter().map(|(of, after)| Some((of?, after.filter(limits)))).collect();
        let without: Option<BTreeMap<String, FilteredEvent<'a>>> = without.into_iter().collect();
        let (steps, without) = (steps?, without?);
        let texts: Vec<(String, Option<u64>)> = steps.iter().map(|((text, _), after)| (text.clone(), *after)).collect();
        let text = sequence_text(&texts, &without.keys().cloned().collect(), within);
        let steps = steps.into_iter().map(|((_, of), after)| (of, after)).collect();
        let draft = SequenceDraft { steps, without: without.into_values().collect(), within };
        Some(self.fact(model, text, Draft::Sequence(draft)))
    }

    /// Returns what a step or an exclusion is about, with its canonical text. `None` if its predicate is wrong.
    fn event_match(&mut self, model: &str, of: &EventMatch) -> Option<(String, FilteredEvent<'a>)> {
        let (_, event, filter) = self.filtered(model, &of.event, of.filter.as_ref())?;
        let first = first_alike(self.job, event, filter.as_ref());
        Some((filtered_text(event, filter.as_ref()), (first, filter)))
    }
}
