//! A job becomes a plan.
//!
//! [`compile`] types every predicate, makes equal conditions one fact, and orders everything by meaning: neither the
//! ids of audiences nor the order of the file move a fact. All that is wrong is reported at once, in the file's order.
//!
//! It takes a job that `usher_config` has read without a problem. That references lead somewhere, conditions fit the
//! model of their audience, and audiences do not depend on each other in a circle is asserted here, not reported. What
//! only compiling can find is reported: wrong predicates, columns and types, and audiences of unknown keys.
//!
//! Identity: a fact's canonical text contains all that its meaning depends on and nothing else: not the id or label of
//! an event, not the audience that mentions it. Its fingerprint is a hash of that text, an audience's is a hash of its
//! condition over those. Two events with the same definition are one: their equal conditions are one fact, kept by the
//! first id, so that a message which matches both counts once.
//!
//! A model is read where an audience is about its keys or a condition about its rows; others are not pulled.
//!
//! | file | step |
//! |---|---|
//! | `columns.rs` | the types of columns; predicates and aggregates against them |
//! | `facts.rs` | conditions become facts, equal ones once |
//! | `layout.rs` | everything gets its index: the plan |
//! | `live.rs` | live columns: their identity, and what is kept of rows |
//! | `canonical.rs` | canonical texts and fingerprints |
//! | `unknown.rs` | audiences of keys of which nothing is known |
//! | `conditions.rs` | back from a plan to the conditions as they are written |

pub(crate) mod canonical;
pub(crate) mod columns;
pub mod conditions;
mod facts;
mod layout;
mod live;
mod unknown;

use self::columns::Columns;
use self::facts::Facts;
use self::layout::Layout;
use self::unknown::audiences_of_unknown_keys;
use crate::plan::Plan;
use std::collections::BTreeMap;
use usher_config::{ColumnType, Fragment, Job, Problem, Problems, Salvage};

pub use self::canonical::count_range;
pub use self::columns::{needs_schema, salvage_needs_schema};
pub(crate) use self::conditions::plan_schemas;

/// The columns in the files of models: by model id, each column's name and its type. The error is the name of a type that is
/// not supported.
pub type Schemas = BTreeMap<String, Vec<(String, Result<ColumnType, String>)>>;

/// Compiles `job`, read from `file`; `schemas` has the columns of at least [`needs_schema`]'s models.
///
/// A column's declared type wins over its file's.
///
/// # Errors
///
/// All that is wrong with predicates and columns, and all audiences of unknown keys, sorted by place.
///
/// # Panics
///
/// Panics if the job breaks what `usher_config` guarantees of one that it read without a problem.
pub fn compile(job: &Job, file: &str, schemas: &Schemas) -> Result<Plan, Problems> {
    let mut facts = Facts::new(job, schemas);
    for id in job.events.keys() {
        let _ = facts.shared(id);
    }
    let mut trees = BTreeMap::new();
    for (id, audience) in &job.audiences {
        if let Some(tree) = facts.condition(&audience.condition, &audience.model) {
            trees.insert(id.as_str(), tree);
        }
    }
    let included = facts.columns.included();
    let mut problems = std::mem::take(&mut facts.columns.problems);
    problems.extend(audiences_of_unknown_keys(job));
    if problems.is_empty() {
        Ok(Layout::new(job, &facts, &trees, &included).plan())
    } else {
        Err(sorted(file, problems))
    }
}

/// Returns what [`compile`] would report of a job that has other problems: what is wrong with predicates, aggregated and
/// included columns, and the audiences of unknown keys, as far as it does not follow from those problems.
///
/// `schemas` has the columns of [`salvage_needs_schema`]'s models.
pub fn check_salvage(salvage: &Salvage, schemas: &Schemas) -> Vec<Problem> {
    let job = &salvage.job;
    let mut columns = Columns::of_salvage(salvage, schemas);
    for audience in job.audiences.values() {
        columns.check(&audience.condition, &audience.model);
    }
    for Fragment { model, condition } in &salvage.fragments {
        columns.check(condition, model);
    }
    for (id, event) in &job.events {
        event.filter.iter().for_each(|text| drop(columns.event_predicate(id, text)));
    }
    columns.included();
    let mut problems = columns.problems;
    problems.extend(audiences_of_unknown_keys(job));
    problems
}

/// Returns problems in the file's order.
fn sorted(file: &str, mut problems: Vec<Problem>) -> Problems {
    problems.sort_by(|a, b| {
        let place = |p: &Problem| (p.place.file.clone(), p.place.line, p.place.column, p.place.path.clone());
        place(a).cmp(&place(b)).then_with(|| a.message.cmp(&b.message))
    });
    Problems { file: file.to_string(), problems }
}

#[cfg(test)]
mod tests;
