//! Sequences, by trying every choice of events for the steps.

use super::{Application, Held, Occurrence, Timeline, event_row, occurrence_now, windowed};
use crate::plan::{EventFilter, Plan, SequenceStep};
use crate::predicate::Evaluator;

/// What an event is in a sequence.
#[derive(Clone)]
struct Matches {
    /// By step.
    steps: Vec<bool>,
    excluded: bool,
}

/// A place in the order of events: timestamp and arrival.
type At = (i64, (usize, u64));

/// Returns the timeline of a sequence for a key. An event is held until its window ends, whatever else comes.
pub(super) fn timeline(
    applications: &[Application<'_>],
    key: &str,
    plan: &Plan,
    (steps, without): (&[SequenceStep], &[EventFilter]),
    within: i64,
) -> Timeline {
    let passes = |occurrence: &Occurrence, of: &EventFilter| {
        let event = &plan.events[of.event as usize];
        occurrence.event == of.event
            && event.filters[of.filter as usize].predicate.as_ref().is_none_or(|filter| {
                Evaluator::new(filter).holds(&event_row(event, filter, occurrence), occurrence_now())
            })
    };
    let matches = |occurrence: &Occurrence| {
        let matches = Matches {
            steps: steps.iter().map(|step| passes(occurrence, &step.of)).collect(),
            excluded: without.iter().any(|of| passes(occurrence, of)),
        };
        (matches.steps.contains(&true) || matches.excluded).then_some(matches)
    };
    let mine: Vec<&Application<'_>> =
        applications.iter().filter(|application| application.occurrence.key == key).collect();
    windowed(&mine, within, matches, |held| held, |held| holds(held, steps))
}

/// Returns whether there are events for all steps, and none that is excluded between the first and the last.
fn holds(held: &[Held<'_, Matches>], steps: &[SequenceStep]) -> bool {
    let at = |event: &Held<'_, Matches>| -> At { (event.timestamp, event.arrival) };
    let firsts = held.iter().filter(|event| event.value.steps[0]).map(at);
    firsts.into_iter().any(|first| goes_on(held, steps, 1, first, first))
}

/// Returns whether events for the steps from `step` on follow the one at `last`, in a sequence that begins at `first`.
fn goes_on(held: &[Held<'_, Matches>], steps: &[SequenceStep], step: usize, first: At, last: At) -> bool {
    let at = |event: &Held<'_, Matches>| -> At { (event.timestamp, event.arrival) };
    if step == steps.len() {
        return !held.iter().any(|event| event.value.excluded && first < at(event) && at(event) < last);
    }
    let in_time = |next: At| steps[step].after.is_none_or(|after| next.0 - last.0 <= after as i64);
    let next = held.iter().filter(|event| event.value.steps[step] && last < at(event) && in_time(at(event)));
    next.into_iter().any(|event| goes_on(held, steps, step + 1, first, at(event)))
}
