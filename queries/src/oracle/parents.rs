//! Columns of parents: the truth of a predicate on a row and the rows that it belongs to, at every ms at which any of them changes.

use super::{History, Past, Reason, Row, Timeline, Versions, live, model_row};
use crate::Value;
use crate::plan::Plan;
use crate::predicate::{Evaluator, Predicate};
use std::collections::BTreeSet;
use std::rc::Rc;

/// Returns the index of the model that a model belongs to.
fn parent(plan: &Plan, model: usize) -> usize {
    let belongs_to = plan.job.models[&plan.models[model].id].belongs_to.as_ref().expect("names are resolved");
    plan.models.iter().position(|of| of.id == belongs_to.model).expect("config resolves models")
}

/// Returns the versions of the row of a key that others belong to.
fn versions(plan: &Plan, history: &History, past: &Past<'_>, of: (usize, &str)) -> Versions {
    let known = past.parents.borrow().get(&(of.0, of.1.to_owned())).cloned();
    known.unwrap_or_else(|| {
        let model = &plan.models[of.0];
        let rows = model.rows.as_ref().expect("rows that others read are kept");
        let row = history.rows.get(&model.id).into_iter().flatten().find(|row| row.key == of.1);
        let versions = Rc::new(live::versions(plan, (model, rows), past, row, of.1));
        past.parents.borrow_mut().insert((of.0, of.1.to_owned()), Rc::clone(&versions));
        versions
    })
}

fn row_at(versions: &[live::Version], time: i64) -> Option<&Row> {
    versions.iter().rfind(|version| version.at <= time)?.row.as_ref()
}

/// Adds the times at which rows change that a row with these versions belongs to, over so many steps.
fn times_of_parents(
    plan: &Plan,
    history: &History,
    past: &Past<'_>,
    (model, own, steps): (usize, &[live::Version], usize),
    times: &mut BTreeSet<i64>,
) {
    if steps == 0 {
        return;
    }
    let keys: BTreeSet<&str> = own.iter().filter_map(|version| version.row.as_ref()?.foreign_key.as_deref()).collect();
    for key in keys {
        let of = parent(plan, model);
        let of_parent = versions(plan, history, past, (of, key));
        times.extend(of_parent.iter().map(|version| version.at));
        times_of_parents(plan, history, past, (of, &of_parent, steps - 1), times);
    }
}

/// Returns the timeline of a predicate that reads columns of parents, on the rows of a key with these versions.
pub(super) fn timeline(
    plan: &Plan,
    history: &History,
    past: &Past<'_>,
    (model, own): (usize, &[live::Version]),
    predicate: &Predicate,
) -> Timeline {
    let evaluator = Evaluator::new(predicate);
    let values = |time: i64| {
        let row = row_at(own, time)?;
        let mut read = model_row(predicate, row);
        for column in &predicate.of_parents {
            let (mut at, mut of) = (model, Some(row.clone()));
            for _ in &column.models {
                at = parent(plan, at);
                let key = of.and_then(|row| row.foreign_key);
                of = key.and_then(|key| row_at(&versions(plan, history, past, (at, &key)), time).cloned());
            }
            read.push(of.and_then(|row| row.values.get(&column.column).cloned()).unwrap_or(Value::Null));
        }
        Some(read)
    };
    let mut times: BTreeSet<i64> = own.iter().map(|version| version.at).collect();
    let steps = predicate.of_parents.iter().map(|of| of.models.len()).max().unwrap_or(0);
    times_of_parents(plan, history, past, (model, own, steps), &mut times);
    let moments: Vec<i64> =
        times.iter().filter_map(|time| Some(evaluator.moments(&values(*time)?))).flatten().collect();
    times.extend(moments);
    let holds = |row: Option<Vec<Value<'static>>>, time: i64| row.is_some_and(|row| evaluator.holds(&row, time));
    let mut timeline = Timeline::constant(holds(values(past.in_force), past.in_force));
    for time in times.into_iter().filter(|time| *time > past.in_force) {
        let truth = holds(values(time), time);
        if truth != timeline.at(time) {
            // What passes by itself comes before what changes at the same ms.
            let by_itself = holds(values(time - 1), time) == truth;
            timeline.flips.insert(time, if by_itself { Reason::Expiry } else { Reason::Trait });
        }
    }
    timeline
}
