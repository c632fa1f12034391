//! Sequences become facts.
//!
//! Canonical form: an `after` that is no shorter than the window limits nothing and is left out; exclusions are sorted, each
//! once. Every step is of the first event by id with its definition, so that a message which matches two names of one event is
//! one event of the sequence. What an event's conditions share (`where`) belongs to its definition: events that differ in it are two, and
//! message ids are of one. In the filter of a step it can't be distinguished from the step's own, so the canonical text numbers them.

use super::super::canonical::{event_text, filtered_text, is_alike, sequence_text};
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

/// What a step or an exclusion is about.
struct Matching<'a> {
    /// Its canonical text, without the number of its event.
    text: String,
    /// That of the event's messages, and that of what its conditions share.
    event: String,
    shared: Option<String>,
    of: FilteredEvent<'a>,
}

/// The events of a sequence, as its canonical text numbers them: of those with equal messages the first that differs in what its conditions
/// share is the first.
#[derive(Default)]
struct Numbers(BTreeMap<String, Vec<Option<String>>>);

impl Numbers {
    /// Returns the canonical text of what a step or an exclusion is about.
    fn text(&mut self, matching: &Matching<'_>) -> String {
        let alike = self.0.entry(matching.event.clone()).or_default();
        let number = alike.iter().position(|shared| *shared == matching.shared).unwrap_or_else(|| {
            alike.push(matching.shared.clone());
            alike.len() - 1
        });
        let text = &matching.text;
        if number == 0 { text.clone() } else { format!("{text} event={}", number + 1) }
    }
}

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
        let without: Option<Vec<_>> = without.into_iter().collect();
        let (steps, mut without) = (steps?, without?);
        let mut numbers = Numbers::default();
        let texts: Vec<_> = steps.iter().map(|(of, after)| (numbers.text(of), *after)).collect();
        without.sort_by(|a, b| (&a.text, &a.shared).cmp(&(&b.text, &b.shared)));
        let without: BTreeMap<String, FilteredEvent<'a>> =
            without.into_iter().map(|of| (numbers.text(&of), of.of)).collect();
        let text = sequence_text(&texts, &without.keys().cloned().collect(), within);
        let steps = steps.into_iter().map(|(of, after)| (of.of, after)).collect();
        let draft = SequenceDraft { steps, without: without.into_values().collect(), within };
        Some(self.fact(model, text, Draft::Sequence(draft)))
    }

    /// Returns what a step or an exclusion is about. `None` if its predicate is wrong.
    fn event_match(&mut self, model: &str, of: &EventMatch) -> Option<Matching<'a>> {
        let (id, event, filter) = self.filtered(model, &of.event, of.filter.as_ref())?;
        let shared = self.shared(id)?.map(|shared| shared.text);
        let job = self.job;
        let alike = job.events.iter().filter(|(_, other)| is_alike(event, other, filter.as_ref()));
        let first = alike
            .map(|(other, _)| other.as_str())
            .find(|other| self.shared(other).is_some_and(|of_other| of_other.map(|of_other| of_other.text) == shared));
        let first = first.expect("an event is like itself");
        Some(Matching {
            text: filtered_text(event, filter.as_ref()),
            event: event_text(event),
            shared,
            of: (first, filter),
        })
    }
}
