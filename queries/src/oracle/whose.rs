//! Aggregates over rows that change or must meet conditions of their own: of every row of the model, at every ms at which
//! anything of it changes, it is worked out whether it counts for the key.

use super::{History, Past, Reason, Timeline, Truths, When, all_keys, billionths, compare_values, live};
use crate::Value;
use crate::plan::{ContributionPlan, Plan};
use std::collections::BTreeSet;
use usher_config::{Aggregate, Comparison};

/// A row of the related model with all that decides whether it counts.
struct Child<'a> {
    truths: Truths<'a>,
    versions: Vec<live::Version>,
    contribution: &'a ContributionPlan,
    /// The parent's key, and the columns that are aggregated.
    column: Option<&'a str>,
}

impl Child<'_> {
    /// Returns what the row is at a time: the key of its parent and the value that is aggregated.
    fn outward(&self, time: i64) -> Option<(Option<String>, Value<'static>)> {
        let version = self.versions.iter().rfind(|version| version.at <= time)?;
        version.outward(self.column)
    }

    /// Returns what it adds for `parent` at a time; `None` if nothing.
    fn adds(&self, parent: &str, time: i64) -> Option<Value<'static>> {
        let (of, value) = self.outward(time)?;
        let counts = of.as_deref() == Some(parent) && self.truths.holds(&self.contribution.counts, When::At(time));
        let value = match self.contribution.aggregate {
            Aggregate::Count => Some(Value::Null),
            Aggregate::Distinct(_) => Some(value).filter(|value| *value != Value::Null),
            _ => Some(value).filter(|value| *value != Value::Null && billionths(value).is_some()),
        };
        value.filter(|_| counts)
    }

    /// Returns the times at which what it adds may change.
    fn times(&self) -> BTreeSet<i64> {
        self.versions.iter().map(|version| version.at).chain(self.truths.flips()).collect()
    }

    /// Returns why what it adds changes at a time.
    fn causes(&self, time: i64) -> BTreeSet<Reason> {
        let mut causes = BTreeSet::new();
        self.contribution
            .counts
            .leaves(&mut |fact| causes.extend(self.truths.timelines[fact as usize].flips.get(&time)), &mut |_| {
                panic!("audiences are inlined")
            });
        let mut before = self.outward(time - 1);
        for version in self.versions.iter().filter(|version| version.at == time) {
            let now = version.outward(self.column);
            if now != before {
                causes.insert(version.by);
            }
            before = now;
        }
        causes
    }
}

/// Returns the timeline of an aggregate over the rows of model `child` that belong to a key: of the fact of its parent.
pub(super) fn tallied(
    plan: &Plan,
    history: &History,
    past: &Past<'_>,
    (child, fact, parent): (usize, u32, &str),
    aggregate: &Aggregate,
    comparison: &Comparison,
) -> Timeline {
    let model = &plan.models[child];
    let rows = model.rows.as_ref().expect("rows that contribute are kept");
    let contribution = rows.contributions.iter().find(|of| of.fact == fact).expect("rows contribute to the fact");
    let column = contribution.column.map(|column| rows.columns[column as usize].0.as_str());
    let mut children = Vec::new();
    for (_, key) in all_keys(plan, history, &past.applications).into_iter().filter(|(of, _)| *of == child) {
        let row = history.rows.get(&model.id).into_iter().flatten().find(|row| row.key == key);
        let versions = live::versions(plan, (model, rows), past, row, key);
        children.push(Child { truths: Truths::new(plan, history, past, (child, key)), versions, contribution, column });
    }
    let holds = |time: i64| {
        let values: Vec<Value<'static>> = children.iter().filter_map(|child| child.adds(parent, time)).collect();
        compare_values(aggregate, comparison, values.len(), &values)
    };
    let mut timeline = Timeline::constant(holds(past.in_force));
    let times: BTreeSet<i64> = children.iter().flat_map(Child::times).filter(|time| *time > past.in_force).collect();
    for time in times {
        if holds(time) != timeline.at(time) {
            let moved = children.iter().filter(|child| child.adds(parent, time - 1) != child.adds(parent, time));
            let causes: BTreeSet<Reason> = moved.flat_map(|child| child.causes(time)).collect();
            timeline.flips.insert(time, *causes.first().expect("what changes has a cause"));
        }
    }
    timeline
}
