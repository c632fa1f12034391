//! What of a sound job is probably not meant: conditions that are always or never true, and types that no message has.
//!
//! These are warnings: the job runs as it is written. Each has the place of its text and a hint.

use crate::compile::canonical::count_range;
use crate::compile::columns::Columns;
use crate::compile::plan_schemas;
use crate::plan::Plan;
use crate::predicate::{Never, Predicate};
use usher_config::{
    Aggregate, Condition, ConditionKind, EventMatch, Format, Place, Problem, SequenceStep, duration, nearest,
};

/// The types of messages in the formats of Segment's family.
const TYPES: [&str; 6] = ["track", "page", "screen", "identify", "group", "alias"];

/// Returns the warnings of a job, in the order of events and audiences by id, each once.
pub fn warnings(plan: &Plan) -> Vec<Problem> {
    let schemas = plan_schemas(plan);
    let mut lint = Lint { plan, columns: Columns::new(&plan.job, &schemas), found: Vec::new() };
    for (id, event) in &plan.job.events {
        lint.kind(id);
        if let Some(text) = &event.filter
            && let Some(predicate) = lint.columns.event_predicate(id, text)
        {
            lint.predicate(&predicate, &text.place);
        }
    }
    for audience in plan.job.audiences.values() {
        lint.condition(&audience.condition, &audience.model);
    }
    lint.found
}

struct Lint<'a> {
    plan: &'a Plan,
    columns: Columns<'a>,
    found: Vec<Problem>,
}

impl Lint<'_> {
    fn warn(&mut self, place: &Place, message: String, hint: String) {
        let problem = Problem::new(place, message).hint(hint);
        if !self.found.contains(&problem) {
            self.found.push(problem);
        }
    }

    /// Warns of a type that no message of the event's sources can have.
    fn kind(&mut self, id: &str) {
        let event = &self.plan.job.events[id];
        let Some(kind) = &event.kind else { return };
        let of_family = |source: &String| {
            let format = &self.plan.job.sources[source].format;
            matches!(format, Format::Segment | Format::Rudderstack | Format::Hightouch)
        };
        if event.sources.iter().all(of_family) && !TYPES.contains(&kind.as_str()) {
            let message = format!("no message of this format has the type `{kind}`, so `{id}` never matches");
            let hint = match nearest(kind, TYPES) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "it is `track`, `page`, `screen`, `identify`, `group` or `alias`".to_string(),
            };
            self.warn(&event.place, message, hint);
        }
    }

    fn condition(&mut self, condition: &Condition, model: &str) {
        match &condition.kind {
            ConditionKind::All(inside) | ConditionKind::Any(inside) => {
                inside.iter().for_each(|condition| self.condition(condition, model));
            }
            ConditionKind::Not(inside) => self.condition(inside, model),
            ConditionKind::Audience(_) => {}
            ConditionKind::Property(text) => {
                if let Some(predicate) = self.columns.model_predicate(model, text) {
                    self.predicate(&predicate, &text.place);
                }
            }
            ConditionKind::Performed { event, filter, aggregate, comparison, .. } => {
                if let Some(text) = filter
                    && let Some(predicate) = self.columns.event_predicate(event, text)
                {
                    self.predicate(&predicate, &text.place);
                }
                self.count(aggregate, count_range(comparison), &condition.place);
            }
            ConditionKind::Sequence { steps, without, within } => {
                for EventMatch { event, filter } in steps.iter().map(|step| &step.of).chain(without) {
                    if let Some(text) = filter
                        && let Some(predicate) = self.columns.event_predicate(event, text)
                    {
                        self.predicate(&predicate, &text.place);
                    }
                }
                self.sequence(steps, without, *within, &condition.place);
            }
            ConditionKind::Related { model, filter, whose, aggregate, comparison, .. } => {
                whose.iter().for_each(|whose| self.condition(whose, model));
                if let Some(text) = filter
                    && let Some(predicate) = self.columns.model_predicate(model, text)
                {
                    self.predicate(&predicate, &text.place);
                }
                self.count(aggregate, count_range(comparison), &condition.place);
            }
        }
    }

    /// Warns of a step that `without` excludes, and of an `after` that limits nothing.
    fn sequence(&mut self, steps: &[SequenceStep], without: &[EventMatch], within: u64, place: &Place) {
        let filter = |of: &EventMatch| of.filter.as_ref().map(|text| text.value.clone());
        let excludes = |step: &EventMatch| {
            let is_all =
                |of: &&EventMatch| of.event == step.event && (of.filter.is_none() || filter(of) == filter(step));
            without.iter().any(|of| is_all(&of))
        };
        for (number, step) in steps.iter().enumerate() {
            let event = &step.of.event;
            if number > 0 && number + 1 < steps.len() && excludes(&step.of) {
                let message = format!(
                    "this sequence is never true: `without` excludes every `{event}` of its step {}",
                    number + 1
                );
                self.warn(
                    place,
                    message,
                    format!("remove `{event}` from `without`, or distinguish the two by `where`"),
                );
            }
            if let Some(after) = step.after.filter(|after| *after >= within).map(duration::format) {
                let within = duration::format(within);
                let message = format!("`after: {after}` limits nothing: all events lie within {within}");
                self.warn(place, message, format!("write an `after` below `{within}`, or leave it out"));
            }
        }
    }

    /// Warns of a count that every key has.
    fn count(&mut self, aggregate: &Aggregate, range: (u64, Option<u64>), place: &Place) {
        if matches!(aggregate, Aggregate::Count | Aggregate::Distinct(_)) && range == (0, None) {
            let message = "this condition is always true: every count is at least 0".to_string();
            self.warn(place, message, "write `at_least: 1`, or `at_most: 0` for none".to_string());
        }
    }

    fn predicate(&mut self, predicate: &Predicate, place: &Place) {
        for never in predicate.never_true() {
            match never {
                Never::ComparedWithNull(operand, test) => {
                    let message = format!("`{operand}` is compared with null, which is never true");
                    self.warn(place, message, format!("write `{operand} {test}`"));
                }
                Never::EmptyRange(range, exchanged) => {
                    let message = format!("`{range}` is never true: its first bound is greater than its second");
                    self.warn(place, message, format!("write `{exchanged}`"));
                }
                Never::Contradiction(left, right) => {
                    let message = format!("`{left}` and `{right}` are never true together");
                    self.warn(place, message, "join them with `or`, or change one of the bounds".to_string());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fixtures::*;
    use crate::{Schemas, compile};
    use usher_config::Comparison;

    fn found(condition: Condition) -> Vec<String> {
        let job = job(&[("a", "users", condition)]);
        let plan = compile(&job, "job.yaml", &Schemas::new()).expect("a sound job");
        let text = |problem: Problem| format!("{}; {}", problem.message, problem.hint.unwrap_or_default());
        warnings(&plan).into_iter().map(text).collect()
    }

    #[test]
    fn a_comparison_with_null_is_never_true() {
        let null = ["`plan` is compared with null, which is never true; write `plan is null`"];
        let not_null = ["`plan` is compared with null, which is never true; write `plan is not null`"];
        assert_eq!(found(property("plan = null")), null);
        assert_eq!(found(property("null = plan")), null);
        assert_eq!(found(property("plan != null")), not_null);
        assert_eq!(found(property("not (ltv > 3 or plan <> null)")), not_null);
        let path = found(performed_where("priced", "path = null", at_least(1), HOUR));
        assert_eq!(path, ["`path` is compared with null, which is never true; write `path is null`"]);
        assert_eq!(found(property("plan is null and plan is distinct from null")), [""; 0]);
    }

    #[test]
    fn bounds_that_leave_no_value_are_never_true_together() {
        for predicate in [
            "ltv > 5 and ltv < 3",
            "ltv > 5 and ltv < 5.0",
            "ltv >= 5 and ltv < 5",
            "ltv = 1 and ltv = 2",
            "ltv = 1 and ltv <> 1",
            "ltv = 1 and ltv > 1",
            "plan = 'a' and plan = 'b'",
            "ltv between 1 and 3 and ltv > 3",
            "trial_ends > '2026-02-01' and trial_ends < '2026-01-01'",
            "plan is null or (ltv > 5 and plan = 'x' and ltv < 3)",
        ] {
            let found = found(property(predicate));
            assert!(found.len() == 1 && found[0].contains("are never true together"), "{predicate}: {found:?}");
        }
        for predicate in [
            "ltv > 3 and ltv < 5",
            "ltv >= 5 and ltv <= 5",
            "ltv > 5 or ltv < 3",
            "ltv = 1 and ltv >= 1",
            "ltv <> 1 and ltv <> 2",
            "ltv > 5 and ltv + 1 < 3",
            "plan >= 'a' and plan < 'b'",
        ] {
            assert_eq!(found(property(predicate)), [""; 0], "{predicate}");
        }
    }

    #[test]
    fn a_range_whose_first_bound_is_greater_is_never_true() {
        let empty = [
            "`ltv between 5 and 3` is never true: its first bound is greater than its second; write `ltv between 3 and 5`",
        ];
        assert_eq!(found(property("ltv between 5 and 3")), empty);
        assert_eq!(found(property("ltv between 5 and 3 and ltv > 4")), empty, "reported once");
        assert_eq!(found(property("plan is null or ltv between 5 and 3")), empty);
        assert_eq!(found(property("ltv between 3 and 5 or ltv between 4 and 4")), [""; 0]);
    }

    #[test]
    fn a_count_that_every_key_has_is_always_true() {
        let always =
            ["this condition is always true: every count is at least 0; write `at_least: 1`, or `at_most: 0` for none"];
        assert_eq!(found(performed("priced", at_least(0), HOUR)), always);
        assert_eq!(found(related(None, Aggregate::Count, at_least(0))), always);
        let sum = Comparison::AtLeast(usher_config::Decimal::from(0));
        assert_eq!(found(related(None, Aggregate::Sum("amount".into()), sum)), [""; 0], "a sum may be negative");
        assert_eq!(found(performed("priced", at_most(0), HOUR)), [""; 0]);
    }

    #[test]
    fn a_middle_step_that_is_excluded_and_an_after_beyond_the_window_are_not_meant() {
        let steps = || [step("priced", None, None), step("ordered", None, None), step("priced", None, None)];
        let never = "this sequence is never true: `without` excludes every `ordered` of its step 2; remove `ordered` from \
                     `without`, or distinguish the two by `where`";
        assert_eq!(found(sequence(steps(), &["ordered"], HOUR)), [never]);
        assert_eq!(found(sequence(steps(), &["priced"], HOUR)), [""; 0], "the ends are not in between");
        let long = [step("priced", None, None), step("ordered", None, Some(HOUR))];
        let nothing =
            "`after: 1h` limits nothing: all events lie within 1h; write an `after` below `1h`, or leave it out";
        assert_eq!(found(sequence(long, &[], HOUR)), [nothing]);
        let null = [step("priced", None, None), step("priced", Some("path = null"), None)];
        assert_eq!(found(sequence(null, &[], HOUR)).len(), 1);
    }

    #[test]
    fn a_type_that_no_message_has_never_matches() {
        let mut job = job(&[("a", "users", performed("priced", at_least(1), HOUR))]);
        job.events.get_mut("priced").expect("an event").kind = Some("tracks".to_string());
        let plan = compile(&job, "job.yaml", &Schemas::new()).expect("a sound job");
        let found = warnings(&plan);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].message, "no message of this format has the type `tracks`, so `priced` never matches");
        assert_eq!(found[0].hint.as_deref(), Some("did you mean `track`?"));
    }
}
