//! Rows that events change: the versions that a key's row has, one after the other, and the truth of a predicate over them.

use super::{Past, Reason, Row, Timeline, model_row};
use crate::Value;
use crate::plan::{ModelPlan, Plan, RowsPlan};
use crate::predicate::{Evaluator, Predicate};
use std::collections::{BTreeMap, BTreeSet};
use usher_config::Members;

/// A row from a time on; `None` if there is none.
pub(super) struct Version {
    pub(super) at: i64,
    pub(super) by: Reason,
    pub(super) row: Option<Row>,
}

impl Version {
    /// Returns the key of the parent, and the value of a column. `None` if there is no row.
    pub(super) fn outward(&self, column: Option<&str>) -> Option<(Option<String>, Value<'static>)> {
        let row = self.row.as_ref()?;
        let value = column.and_then(|column| row.values.get(column).cloned()).unwrap_or(Value::Null);
        Some((row.foreign_key.clone().filter(|key| !key.is_empty()), value))
    }
}

/// A value that an event sets.
struct Said<'a> {
    timestamp: i64,
    arrival: (usize, u64),
    id: &'a str,
    value: Value<'static>,
}

/// Returns the versions of a key's row from when the snapshot is in force: the first is of that time.
pub(super) fn versions(
    plan: &Plan,
    (model, rows): (&ModelPlan, &RowsPlan),
    past: &Past<'_>,
    snapshot: Option<&Row>,
    key: &str,
) -> Vec<Version> {
    let mut said: Vec<Vec<Said<'_>>> = rows.live.iter().map(|_| Vec::new()).collect();
    let mut versions = Vec::new();
    let current = |said: &[Vec<Said<'_>>]| row(model, rows, snapshot, said, past.pulled, key);
    let drops = snapshot.is_some() || model.members == Members::Known;
    let mut applications = past.applications.iter().peekable();
    while let Some(application) = applications.peek() {
        if application.at > past.in_force {
            break;
        }
        let application = applications.next().expect("it was just seen");
        say(plan, rows, application, key, &mut said);
    }
    // What is older than the snapshot is dropped: a copy with another date is no repeat of it.
    let drop_older = |said: &mut Vec<Vec<Said<'_>>>| {
        said.iter_mut().filter(|_| drops).for_each(|of| of.retain(|one| one.timestamp >= past.pulled));
    };
    drop_older(&mut said);
    versions.push(Version { at: past.in_force, by: Reason::Snapshot, row: current(&said) });
    for application in applications {
        say(plan, rows, application, key, &mut said);
        drop_older(&mut said);
        let row = current(&said);
        if versions.last().is_none_or(|last| last.row != row) {
            versions.push(Version { at: application.at, by: Reason::Trait, row });
        }
    }
    versions
}

/// Takes an event into what was said of a key's columns: of each the values of the latest ms.
fn say<'a>(plan: &Plan, rows: &RowsPlan, application: &super::Application<'a>, key: &str, said: &mut [Vec<Said<'a>>]) {
    let super::Application { arrival, timestamp, occurrence, .. } = application;
    let event = &plan.events[occurrence.event as usize];
    let shared = |predicate: &Predicate| {
        Evaluator::new(predicate).holds(&super::event_row(event, predicate, occurrence), super::occurrence_now())
    };
    if occurrence.key != key || !event.shared.as_ref().is_none_or(shared) {
        return;
    }
    for (live, said) in rows.live.iter().zip(said).filter(|(live, _)| live.event == occurrence.event) {
        let column = event.columns.iter().position(|column| column.name == live.property).expect("it is read");
        if !occurrence.says[column] {
            continue;
        }
        if let Some(same) = said.iter_mut().find(|one| one.id == occurrence.id) {
            same.arrival = same.arrival.min(*arrival);
            continue;
        }
        let value = occurrence.values[column].clone();
        said.push(Said { timestamp: *timestamp, arrival: *arrival, id: &occurrence.id, value });
        let latest = said.iter().map(|one| one.timestamp).max().expect("there is one");
        said.retain(|one| one.timestamp == latest);
    }
}

/// Returns the row of a key by its snapshot, of a pull that began at `pulled`, and what was said.
fn row(
    model: &ModelPlan,
    rows: &RowsPlan,
    snapshot: Option<&Row>,
    said: &[Vec<Said<'_>>],
    pulled: i64,
    key: &str,
) -> Option<Row> {
    let exists = snapshot.is_some() || (model.members == Members::Any && said.iter().any(|of| !of.is_empty()));
    let empty = || Row { key: key.to_string(), values: BTreeMap::new(), foreign_key: None };
    let mut row = exists.then(|| snapshot.cloned().unwrap_or_else(empty))?;
    for (at, (live, said)) in rows.live.iter().zip(said).enumerate() {
        let Some(last) = said.iter().max_by_key(|one| (one.timestamp, one.arrival)) else { continue };
        if snapshot.is_none() || last.timestamp >= pulled {
            row.values.insert(rows.columns[live.column as usize].0.clone(), last.value.clone());
            let is_foreign_key = rows.parent.and_then(|parent| parent.live) == Some(at as u32);
            if is_foreign_key {
                row.foreign_key = match &last.value {
                    Value::String(key) => Some(key.to_string()),
                    Value::Integer(key) => Some(key.to_string()),
                    _ => None,
                };
            }
        }
    }
    Some(row)
}

/// Returns the timeline of a predicate on a row with these versions, from the first on; without a predicate, of there being a row.
pub(super) fn timeline<'a>(
    versions: impl Iterator<Item = &'a Version> + Clone,
    snapshot: Option<&Row>,
    predicate: Option<&Predicate>,
) -> Timeline {
    let evaluator = predicate.map(|predicate| (predicate, Evaluator::new(predicate)));
    let holds = |row: Option<&Row>, time: i64| match (row, &evaluator) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(row), Some((predicate, evaluator))) => evaluator.holds(&model_row(predicate, row), time),
    };
    let mut times: BTreeSet<i64> = BTreeSet::new();
    for version in versions.clone() {
        times.insert(version.at);
        if let (Some(row), Some((predicate, evaluator))) = (&version.row, &evaluator) {
            times.extend(evaluator.moments(&model_row(predicate, row)));
        }
    }
    let mut versions = versions.peekable();
    let first = versions.next().expect("a row has a version from the start on");
    let mut timeline = Timeline::constant(holds(first.row.as_ref(), first.at));
    if holds(snapshot, first.at) != timeline.initially {
        timeline.initially_by = Reason::Trait;
    }
    let mut last = first;
    for time in times.range(first.at..).copied() {
        let before = timeline.at(time);
        let mut truth = holds(last.row.as_ref(), time);
        let mut by = Reason::Expiry;
        while let Some(version) = versions.next_if(|version| version.at == time) {
            last = version;
            if holds(last.row.as_ref(), time) != truth {
                truth = !truth;
                by = version.by;
            }
        }
        if truth != before {
            timeline.flips.insert(time, by);
        }
    }
    timeline
}

#[cfg(test)]
mod tests;
