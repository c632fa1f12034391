//! The conditions of a compiled job as its file has them, each with what decides it.
//!
//! A plan has conditions in canonical form, where equal ones are one fact and nothing shows how the author wrote them.
//! Here each condition of the file is typed once more and finds its fact by the same canonical text. The plan does not
//! keep that mapping, because plan files contain the plan and their format is frozen: a plan that was read from a file
//! must be explained like one that was compiled just now. It costs one pass over the predicates when the API starts.

use super::Schemas;
use super::canonical::aggregate_name;
use super::facts::{Facts, Tree};
use crate::plan::{AudienceIx, FactIx, ModelPlan, Plan};
use std::fmt::Write as _;
use usher_config::{
    Aggregate, Comparison, Condition, ConditionKind, Decimal, EventMatch, SequenceStep, Text, duration,
};

/// What decides a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Decided {
    All,
    Any,
    Not,
    Fact(FactIx),
    Audience(AudienceIx),
}

/// A condition as its author wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// `all`, `any`, `not`, `audience`, `property`, `performed`, `related` or `sequence`.
    pub kind: &'static str,
    /// As in the job file, on one line; a default that is not needed is left out.
    pub text: String,
    /// What a count or another aggregate is compared with: `at_least 3`; of a sequence, its number of steps: `3 steps`.
    pub threshold: Option<String>,
    /// What decides it.
    pub decided: Decided,
    /// The model whose keys it is about, by index.
    pub model: usize,
    /// The conditions inside: of a `related`, the one that the keys of its rows must meet.
    pub inside: Vec<Written>,
}

/// Returns the conditions of all audiences of a plan, by the index of model and audience.
pub fn written(plan: &Plan) -> Vec<Vec<Written>> {
    let schemas = plan_schemas(plan);
    let of = |(index, model): (usize, &ModelPlan)| {
        let of = |audience: &crate::plan::AudiencePlan| {
            let condition = &plan.job.audiences[&audience.id].condition;
            Writing { models: &plan.models, facts: Facts::new(&plan.job, &schemas) }.condition(condition, index)
        };
        model.audiences.iter().map(of).collect()
    };
    plan.models.iter().enumerate().map(of).collect()
}

/// Returns the columns that conditions read, with their types: typing them again needs no others.
pub(crate) fn plan_schemas(plan: &Plan) -> Schemas {
    let columns = |model: &ModelPlan| {
        let snapshot = model.snapshot.as_ref()?;
        let read = snapshot.columns.iter().chain(&snapshot.include);
        Some((model.id.clone(), read.map(|(name, column_type)| (name.clone(), Ok(*column_type))).collect()))
    };
    plan.models.iter().filter_map(columns).collect()
}

struct Writing<'a> {
    models: &'a [ModelPlan],
    facts: Facts<'a>,
}

impl<'a> Writing<'a> {
    /// Writes a condition on keys of a model.
    fn condition(&mut self, condition: &'a Condition, model: usize) -> Written {
        let (kind, text, threshold, inside): (_, _, _, Vec<&Condition>) = match &condition.kind {
            ConditionKind::All(of) => ("all", "all".to_owned(), None, of.iter().collect()),
            ConditionKind::Any(of) => ("any", "any".to_owned(), None, of.iter().collect()),
            ConditionKind::Not(of) => ("not", "not".to_owned(), None, vec![&**of]),
            ConditionKind::Audience(_) => ("audience", leaf_text(condition), None, Vec::new()),
            ConditionKind::Property(_) => ("property", leaf_text(condition), None, Vec::new()),
            ConditionKind::Performed { comparison, .. } => {
                ("performed", leaf_text(condition), Some(threshold(comparison)), Vec::new())
            }
            ConditionKind::Sequence { steps, without, within } => {
                let (text, threshold) = sequence_text(steps, without, *within);
                ("sequence", text, Some(threshold), Vec::new())
            }
            ConditionKind::Related { comparison, whose, .. } => {
                let whose = whose.iter().map(|whose| &**whose).collect();
                ("related", leaf_text(condition), Some(threshold(comparison)), whose)
            }
        };
        let decided = self.decided(condition, &self.models[model]);
        let of_inside = match &condition.kind {
            ConditionKind::Related { model: rows, .. } => self.models.iter().position(|model| model.id == *rows),
            _ => Some(model),
        };
        let of_inside = of_inside.expect("a plan has all models of its job");
        let inside = inside.into_iter().map(|of| self.condition(of, of_inside)).collect();
        Written { kind, text, threshold, decided, model, inside }
    }

    fn decided(&mut self, condition: &'a Condition, model: &'a ModelPlan) -> Decided {
        match &condition.kind {
            ConditionKind::All(_) => Decided::All,
            ConditionKind::Any(_) => Decided::Any,
            ConditionKind::Not(_) => Decided::Not,
            ConditionKind::Audience(id) => {
                let index = model.audiences.binary_search_by(|audience| audience.id.cmp(id));
                Decided::Audience(index.expect("the plan has the audience") as AudienceIx)
            }
            ConditionKind::Property(_)
            | ConditionKind::Performed { .. }
            | ConditionKind::Related { .. }
            | ConditionKind::Sequence { .. } => {
                let Some(Tree::Fact(canonical)) = self.facts.condition(condition, &model.id) else {
                    panic!("a compiled condition is sound: {:?}", self.facts.columns.problems);
                };
                let fact = model.facts.iter().position(|fact| fact.text == canonical);
                Decided::Fact(fact.expect("the plan has the fact") as FactIx)
            }
        }
    }
}

/// Returns a sequence as in the job file, on one line, and its number of steps.
fn sequence_text(steps: &[SequenceStep], without: &[EventMatch], within: u64) -> (String, String) {
    let of = |EventMatch { event, filter }: &EventMatch, after: Option<u64>| {
        let mut text = format!("{{performed: {event}");
        write_filter(&mut text, filter.as_ref());
        if let Some(after) = after {
            write!(text, ", after: {}", duration::format(after)).expect("writing to a string");
        }
        text + "}"
    };
    let listed: Vec<String> = steps.iter().map(|step| of(&step.of, step.after)).collect();
    let mut text = format!("sequence: [{}]", listed.join(", "));
    if !without.is_empty() {
        let excluded: Vec<String> = without.iter().map(|excluded| of(excluded, None)).collect();
        write!(text, ", without: [{}]", excluded.join(", ")).expect("writing to a string");
    }
    write!(text, ", within: {}", duration::format(within)).expect("writing to a string");
    (text, format!("{} steps", steps.len()))
}

/// Returns a condition with all inside as in the job file, on one line.
fn whole_text(condition: &Condition) -> String {
    let list = |word: &str, of: &[Condition]| {
        let of: Vec<String> = of.iter().map(|of| format!("{{{}}}", whole_text(of))).collect();
        format!("{word}: [{}]", of.join(", "))
    };
    match &condition.kind {
        ConditionKind::All(of) => list("all", of),
        ConditionKind::Any(of) => list("any", of),
        ConditionKind::Not(of) => format!("not: {{{}}}", whole_text(of)),
        _ => leaf_text(condition),
    }
}

/// Returns a condition that has no conditions beside it as in the job file, on one line; a default that is not needed is left out.
fn leaf_text(condition: &Condition) -> String {
    let mut text = String::new();
    match &condition.kind {
        ConditionKind::All(_) | ConditionKind::Any(_) | ConditionKind::Not(_) => panic!("it is no leaf"),
        ConditionKind::Audience(id) => text = format!("audience: {id}"),
        ConditionKind::Property(of) => text = format!("property: {}", of.value),
        ConditionKind::Performed { event, filter, aggregate, comparison, within } => {
            write!(text, "performed: {event}").expect("writing to a string");
            write_filter(&mut text, filter.as_ref());
            write_comparison(&mut text, aggregate, comparison);
            write!(text, ", within: {}", duration::format(*within)).expect("writing to a string");
        }
        ConditionKind::Sequence { steps, without, within } => (text, _) = sequence_text(steps, without, *within),
        ConditionKind::Related { model, filter, whose, aggregate, comparison, .. } => {
            write!(text, "related: {model}").expect("writing to a string");
            write_filter(&mut text, filter.as_ref());
            if let Some(whose) = whose {
                write!(text, ", whose: {{{}}}", whole_text(whose)).expect("writing to a string");
            }
            write_comparison(&mut text, aggregate, comparison);
        }
    }
    text
}

fn write_filter(out: &mut String, filter: Option<&Text>) {
    if let Some(filter) = filter {
        write!(out, ", where: {}", filter.value).expect("writing to a string");
    }
}

/// Writes what is aggregated and compared; nothing if it is the default, a count of at least 1.
fn write_comparison(out: &mut String, aggregate: &Aggregate, comparison: &Comparison) {
    if let Some(column) = aggregate.column() {
        write!(out, ", {}: {column}", aggregate_name(aggregate)).expect("writing to a string");
    }
    if *aggregate != Aggregate::Count || *comparison != Comparison::AtLeast(Decimal::from(1)) {
        let (word, number) = words(comparison);
        write!(out, ", {word}: {number}").expect("writing to a string");
    }
}

fn threshold(comparison: &Comparison) -> String {
    let (word, number) = words(comparison);
    format!("{word} {number}")
}

fn words(comparison: &Comparison) -> (&'static str, String) {
    match comparison {
        Comparison::AtLeast(n) => ("at_least", n.to_string()),
        Comparison::AtMost(n) => ("at_most", n.to_string()),
        Comparison::MoreThan(n) => ("more_than", n.to_string()),
        Comparison::LessThan(n) => ("less_than", n.to_string()),
        Comparison::Exactly(n) => ("exactly", n.to_string()),
        Comparison::Between(least, most) => ("between", format!("[{least}, {most}]")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile;
    use crate::testing::fixtures::*;
    use crate::testing::generator::Sample;

    /// Evaluates a condition as it is written, over facts and members.
    fn holds(written: &Written, facts: &dyn Fn(u32) -> bool, members: &[bool]) -> bool {
        match written.decided {
            Decided::All => written.inside.iter().all(|of| holds(of, facts, members)),
            Decided::Any => written.inside.iter().any(|of| holds(of, facts, members)),
            Decided::Not => !holds(&written.inside[0], facts, members),
            Decided::Fact(fact) => facts(fact),
            Decided::Audience(audience) => members[audience as usize],
        }
    }

    #[test]
    fn conditions_are_written_as_in_the_file() {
        let job = job(&[(
            "keen",
            "users",
            all([
                performed_where("priced", "path = '/pricing'", at_least(3), 4 * HOUR),
                performed("ordered", at_least(1), 90 * SECOND),
                not(performed("ordered", between(1, 2), 5 * MINUTE)),
                property("ltv > 300"),
                related(
                    Some("status = 'paid'"),
                    Aggregate::Sum("amount".into()),
                    Comparison::MoreThan(Decimal::from(9)),
                ),
                sequence(
                    [
                        step("priced", Some("path = '/pricing'"), None),
                        step("ordered", None, Some(90 * SECOND)),
                        step("priced", None, None),
                    ],
                    &["ordered"],
                    DAY,
                ),
            ]),
        )]);
        let plan = compile(&job, "job.yaml", &Schemas::new()).expect("a sound job");
        let of = &written(&plan)[plan.models.iter().position(|model| model.id == "users").expect("users")][0];
        let texts: Vec<(&str, Option<&str>)> =
            of.inside.iter().map(|of| (of.text.as_str(), of.threshold.as_deref())).collect();
        assert_eq!(
            texts,
            [
                ("performed: priced, where: path = '/pricing', at_least: 3, within: 4h", Some("at_least 3")),
                ("performed: ordered, within: 1m30s", Some("at_least 1")),
                ("not", None),
                ("property: ltv > 300", None),
                ("related: orders, where: status = 'paid', sum: amount, more_than: 9", Some("more_than 9")),
                (
                    "sequence: [{performed: priced, where: path = '/pricing'}, {performed: ordered, after: 1m30s}, \
                     {performed: priced}], without: [{performed: ordered}], within: 1d",
                    Some("3 steps")
                ),
            ]
        );
        assert_eq!(of.inside[2].inside[0].threshold.as_deref(), Some("between [1, 2]"));
    }

    #[test]
    fn what_is_written_holds_where_the_plan_does() {
        for seed in 0..200 {
            let sample = Sample::new(seed);
            let job =
                usher_config::parse(&sample.job, "job.yaml", std::path::Path::new("."), &|_| None).expect("sound");
            let plan = compile(&job, "job.yaml", &Schemas::new()).expect("sound");
            let mut random = fastrand::Rng::with_seed(seed);
            for (model, written) in plan.models.iter().zip(written(&plan)) {
                for _ in 0..20 {
                    let mut facts: Vec<bool> = model.facts.iter().map(|_| random.bool()).collect();
                    facts[0] = true;
                    let members = model.evaluate(|fact| facts[fact as usize]);
                    for (written, member) in written.iter().zip(&members) {
                        let found = holds(written, &|fact| facts[fact as usize], &members);
                        assert_eq!(found, *member, "seed {seed}: {written:?}");
                    }
                }
            }
        }
    }
}
