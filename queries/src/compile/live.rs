//! Live columns, whose values events set too, and columns of parents: rows that something else changes than their own pull.
//!
//! A condition on a live column has another meaning than one on a column of the snapshot alone, so the identity of the column is
//! part of the condition's text; so is the way to a column of a parent. Of a model with a live column that something reads rows are kept, and
//! of one that reads columns of a parent, and of the parent: [`RowsPlan`].

use super::canonical::{event_text, filter_text, fingerprint, hex, place_text, quoted};
use super::columns::Included;
use super::facts::{Draft, Drafts, Facts};
use crate::plan::{InheritedColumn, LivePlan, ParentPlan, RowsPlan};
use crate::predicate::{ParentColumn, Predicate};
use std::collections::{BTreeMap, BTreeSet};
use usher_config::{ColumnType, Event, Job, Live, Members};

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

    /// Returns what the text of a condition on rows has of the columns of parents that it reads, with a space before it; empty if it
    /// reads none. `None` if the `where` of an event is wrong, which is reported.
    pub(super) fn parents_text(&mut self, model: &'a str, read: &[ParentColumn]) -> Option<String> {
        let job = self.job;
        let mut texts = Vec::new();
        for ParentColumn { models, column, column_type } in read {
            let mut at = model;
            let mut text = String::new();
            for _ in models {
                let belongs_to = job.models[at].belongs_to.as_ref().expect("names are resolved");
                let by = &belongs_to.foreign_key;
                let live = self.live_columns_text(at, &[(by.clone(), ColumnType::String)])?;
                at = &belongs_to.model;
                let of = &job.models[at];
                let members = if of.members == Members::Any { " members=any" } else { "" };
                text += &format!("{} by={}{live} key={}{members} ", quoted(at), quoted(by), quoted(&of.key));
            }
            let live = self.live_columns_text(at, &[(column.clone(), *column_type)])?;
            texts.push(format!("({text}column={}:{column_type}{live})", quoted(column)));
        }
        Some(if texts.is_empty() { String::new() } else { format!(" parents=[{}]", texts.join("")) })
    }
}

/// Returns the models that belong to a model.
fn children<'j>(job: &'j Job, model: &str) -> impl Iterator<Item = &'j str> {
    let belongs = move |of: &usher_config::Model| of.belongs_to.as_ref().is_some_and(|parent| parent.model == model);
    job.models.iter().filter(move |(_, of)| belongs(of)).map(|(id, _)| id.as_str())
}

/// Returns the columns of parents that conditions on rows of a model read, and conditions on rows of models that belong to it through
/// its rows, sorted.
fn inherited(job: &Job, drafts: &Drafts<'_>, model: &str) -> BTreeSet<ParentColumn> {
    let own = drafts.get(model).into_iter().flat_map(BTreeMap::values).flat_map(|draft| match draft {
        Draft::Property(predicate) => &predicate.of_parents[..],
        _ => &[],
    });
    // Models belong to each other in no circle.
    let of_children = children(job, model).flat_map(|child| inherited(job, drafts, child)).filter_map(|mut column| {
        column.models.remove(0);
        (!column.models.is_empty()).then_some(column)
    });
    own.cloned().chain(of_children).collect()
}

/// Returns the columns of a model that conditions on rows of models that belong to it read.
fn passed_on(job: &Job, drafts: &Drafts<'_>, model: &str) -> BTreeMap<String, ColumnType> {
    let read = children(job, model).flat_map(|child| inherited(job, drafts, child));
    read.filter(|column| column.models.len() == 1).map(|of| (of.column, of.column_type)).collect()
}

/// Enters where rows find the columns of their parents, once it is known what is kept of the rows of all models.
pub(super) fn find_inherited(job: &Job, rows: &mut BTreeMap<&str, RowsPlan>) {
    let find = |rows: &BTreeMap<&str, RowsPlan>, column: &ParentColumn| {
        let ParentColumn { models, column, column_type } = column;
        let parent = rows.get(models[0].as_str()).expect("rows of a parent are kept");
        let of = match models.len() {
            1 => parent.columns.iter().position(|(name, _)| name == column),
            _ => {
                let rest = (&models[1..], column, column_type);
                let is =
                    |of: &InheritedColumn| (&of.column.models[..], &of.column.column, &of.column.column_type) == rest;
                parent.inherited.iter().position(is).map(|at| parent.columns.len() + at)
            }
        };
        let is_live = |(at, model): (usize, &String)| {
            let of = &job.models[model];
            let read = if at + 1 == models.len() { Some(column) } else { None };
            let by = of.belongs_to.as_ref().map(|of| &of.foreign_key).filter(|_| at + 1 < models.len());
            read.into_iter().chain(by).any(|name| of.live.contains_key(name))
        };
        (of.expect("what is inherited is kept") as u32, models.iter().enumerate().any(is_live))
    };
    let found: BTreeMap<String, Vec<(u32, bool)>> = rows
        .iter()
        .map(|(id, of)| ((*id).to_owned(), of.inherited.iter().map(|of| find(rows, &of.column)).collect()))
        .collect();
    for (id, of) in rows {
        for (inherited, found) in of.inherited.iter_mut().zip(&found[*id]) {
            (inherited.of, inherited.is_live) = *found;
        }
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
/// none of them is live, its rows contribute to no condition of their parent, and no condition reads columns of a parent of them or theirs as
/// those of a parent.
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
    let inherited = inherited(job, drafts, model);
    let passed_on = passed_on(job, drafts, model);
    let is_between = !inherited.is_empty() || !passed_on.is_empty();
    columns.extend(passed_on);
    let reads_parent = !contributes.is_empty() || !inherited.is_empty();
    let belongs_to = job.models[model].belongs_to.as_ref().filter(|_| reads_parent);
    let foreign_key = belongs_to.map(|of| of.foreign_key.as_str());
    if let Some(name) = foreign_key.filter(|name| job.models[model].live.contains_key(*name)) {
        columns.insert(name.to_owned(), job.models[model].columns[name]);
    }
    let live: Vec<&str> =
        job.models[model].live.keys().map(String::as_str).filter(|name| columns.contains_key(*name)).collect();
    if live.is_empty() && contributes.is_empty() && !is_between {
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
    // Where they are is known when the rows of all models are.
    let inherited = inherited.into_iter().map(|column| InheritedColumn { column, of: 0, is_live: false }).collect();
    // What rows contribute is known when all models have their facts.
    Some(RowsPlan { columns, include, live, parent, contributions: Vec::new(), inherited })
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
