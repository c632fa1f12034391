//! Live columns: columns of a model whose values events set too.
//!
//! A condition on a live column has another meaning than one on a column of the snapshot alone, so the identity of the column is
//! part of the condition's text. Of a model with a live column that something reads, rows are kept: [`RowsPlan`].

use super::canonical::{event_text, filter_text, fingerprint, hex, place_text, quoted};
use super::columns::Included;
use super::facts::{Draft, Drafts, Facts};
use crate::plan::{LivePlan, ParentPlan, RowsPlan};
use crate::predicate::Predicate;
use std::collections::{BTreeMap, BTreeSet};
use usher_config::{ColumnType, Event, Job, Live};

/// Returns the canonical text of a live column; `shared` is what all messages of its event must fulfil.
fn live_text(job: &Job, model: &str, column: &str, shared: Option<&Predicate>) -> String {
    let Live { event, property } = &job.models[model].live[column];
    let (event, column_type) = (&job.events[event], job.models[model].columns[column]);
    let of = place_text(&event.properties[property]);
    let filter = filter_text(event, shared);
    format!(
        "live v1 model={} column={}:{column_type} {} of={of}{filter}",
        quoted(model),
        quoted(column),
        event_text(event)
    )
}

impl<'a> Facts<'a> {
    /// Returns what the text of a condition on rows has of the live ones among the columns that it reads, with a space before it; empty if
    /// it reads none. `None` if the `where` of an event is wrong, which is reported.
    pub(super) fn live_columns_text(&mut self, model: &'a str, read: &[(String, ColumnType)]) -> Option<String> {
        let job = self.job;
        let mut prints = Vec::new();
        for (column, _) in read {
            if let Some(live) = job.models[model].live.get(column) {
                let shared = self.shared(&live.event)?;
                prints.push(hex(&fingerprint(&live_text(job, model, column, shared.as_ref()))));
            }
        }
        Some(if prints.is_empty() { String::new() } else { format!(" live=[{}]", prints.join(",")) })
    }
}

/// Returns the columns of each model that its own conditions read.
fn columns_of_properties(drafts: &Drafts<'_>, model: &str) -> BTreeMap<String, ColumnType> {
    let mut columns = BTreeMap::new();
    for draft in drafts.get(model).into_iter().flat_map(BTreeMap::values) {
        if let Draft::Property(predicate) = draft {
            columns.extend(predicate.columns.iter().cloned());
        }
    }
    columns
}

/// Returns what is kept of the rows of a model, whose columns `read` and `include` conditions read and messages carry. `None` if
/// none of them is live and its rows contribute to no condition of their parent.
pub(super) fn rows_plan(
    job: &Job,
    (model, drafts): (&str, &Drafts<'_>),
    included: &Included,
    shared: &BTreeMap<&str, Option<Option<Predicate>>>,
) -> Option<RowsPlan> {
    let include = included.get(model).cloned().unwrap_or_default();
    let mut columns = columns_of_properties(drafts, model);
    columns.extend(include.iter().map(|(name, of)| (name.clone(), *of)));
    let contributes = drafts.values().flat_map(BTreeMap::values).filter_map(|draft| match draft {
        Draft::Tallied { model: of, aggregate, column_type, .. } if *of == model => Some((*aggregate, *column_type)),
        _ => None,
    });
    let contributes: Vec<_> = contributes.collect();
    columns.extend(contributes.iter().filter_map(|(aggregate, of)| Some((aggregate.column()?.to_owned(), (*of)?))));
    let belongs_to = job.models[model].belongs_to.as_ref().filter(|_| !contributes.is_empty());
    let foreign_key = belongs_to.map(|of| of.foreign_key.as_str());
    if let Some(name) = foreign_key.filter(|name| job.models[model].live.contains_key(*name)) {
        columns.insert(name.to_owned(), job.models[model].columns[name]);
    }
    let live: Vec<&str> =
        job.models[model].live.keys().map(String::as_str).filter(|name| columns.contains_key(*name)).collect();
    if live.is_empty() && contributes.is_empty() {
        return None;
    }
    let parent = belongs_to.map(|of| ParentPlan {
        model: job.models.keys().position(|id| *id == of.model).expect("config resolves models") as u32,
        live: live.iter().position(|name| *name == of.foreign_key).map(|at| at as u32),
    });
    let at = |name: &str| columns.keys().position(|column| column == name).expect("it is one of them") as u32;
    let live = live.iter().map(|name| {
        let Live { event, property } = &job.models[model].live[*name];
        let filter = shared[event.as_str()].as_ref().expect("what is wrong was reported").as_ref();
        LivePlan {
            column: at(name),
            event: job.events.keys().position(|id| id == event).expect("config resolves events") as u32,
            property: property.clone(),
            fingerprint: fingerprint(&live_text(job, model, name, filter)),
        }
    });
    let live = live.collect();
    let include = include.keys().map(|name| at(name)).collect();
    let columns = columns.into_iter().collect();
    // What rows contribute is known when all models have their facts.
    Some(RowsPlan { columns, include, live, parent, contributions: Vec::new() })
}

/// Returns the properties of an event that set the live columns of these models.
pub(super) fn properties_set<'p>(
    rows: &'p BTreeMap<&str, RowsPlan>,
    event: &'p Event,
    ix: u32,
) -> impl Iterator<Item = (u32, &'p str)> {
    let live = rows.get(event.model.as_str()).into_iter().flat_map(|rows| rows.live.iter().enumerate());
    live.filter(move |(_, live)| live.event == ix).map(|(at, live)| (at as u32, live.property.as_str()))
}

/// Returns the names of the columns that an event's live columns need: their values and what messages must fulfil.
pub(super) fn columns_needed(properties: &[(u32, &str)], shared: Option<&Predicate>) -> BTreeSet<String> {
    let filter = shared.filter(|_| !properties.is_empty()).into_iter().flat_map(|shared| &shared.columns);
    properties.iter().map(|(_, name)| (*name).to_owned()).chain(filter.map(|(name, _)| name.clone())).collect()
}
