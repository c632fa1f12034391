//! The columns of a job's models and events: their types, and what reads them.
//!
//! A predicate is typed against the declared types of columns, else those of the model's file. All that is wrong with
//! predicates, aggregates and included columns is collected here.

use super::Schemas;
use super::canonical::aggregate_name;
use crate::predicate::{NoParents, Now, Parents, Predicate, Unresolved};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use usher_config::{
    Aggregate, ColumnType, Condition, ConditionKind, EventMatch, Fragment, Gaps, Includes, Job, Place, Problem,
    Salvage, Text, nearest, some_of,
};

/// Returns the models whose file's schema [`compile`](super::compile()) needs: those of which some condition reads, or
/// some sync includes, a column that is not declared.
///
/// The key and foreign key need no type, so they need no schema unless a condition reads them.
pub fn needs_schema(job: &Job) -> BTreeSet<String> {
    models_read(job, None)
}

/// Returns the models whose file's schema [`check_salvage`](super::check_salvage()) needs, by the same rule.
pub fn salvage_needs_schema(salvage: &Salvage) -> BTreeSet<String> {
    models_read(&salvage.job, Some(salvage))
}

/// Returns the models of which the job's conditions read, or some sync includes, a column that is not declared; of a broken job also those
/// of its parts that could not be built.
fn models_read(job: &Job, broken: Option<&Salvage>) -> BTreeSet<String> {
    let mut read = BTreeSet::new();
    for audience in job.audiences.values() {
        columns_read(job, &audience.condition, &audience.model, &mut read);
    }
    for Fragment { model, condition } in broken.iter().flat_map(|broken| &broken.fragments) {
        columns_read(job, condition, model, &mut read);
    }
    for (models, columns) in includes(job, broken) {
        for model in models {
            read.extend(columns.iter().flat_map(|column| meant(job, model, &column.value)));
        }
    }
    let undeclared = read.into_iter().filter_map(|(model, column)| {
        let found = job.models.get(&model)?;
        let gap = broken.and_then(|broken| broken.gaps.models.get(&model));
        let is_declared =
            found.columns.contains_key(&column) || gap.is_some_and(|gap| gap.others || gap.columns.contains(&column));
        (found.parquet.is_some() && !is_declared).then_some(model)
    });
    undeclared.collect()
}

/// Returns the columns that each sync includes, with the models that it may have audiences of.
fn includes<'a>(job: &'a Job, broken: Option<&'a Salvage>) -> Vec<(BTreeSet<&'a str>, &'a [Text])> {
    let syncs = job.syncs.values().map(|sync| (&sync.audiences[..], &sync.include[..]));
    let others = broken.iter().flat_map(|broken| &broken.includes);
    let others = others.map(|Includes { audiences, columns }| (&audiences[..], &columns[..]));
    syncs.chain(others).map(|(audiences, columns)| (models_of(job, broken, audiences), columns)).collect()
}

/// Returns the models of these audiences. One whose model is not known may be of any.
fn models_of<'a>(job: &'a Job, broken: Option<&'a Salvage>, audiences: &[String]) -> BTreeSet<&'a str> {
    let model = |id: &String| {
        let built = job.audiences.get(id).map(|audience| audience.model.as_str());
        built.or_else(|| broken?.audience_models.get(id).map(String::as_str))
    };
    let any = || {
        let wrong = broken.iter().flat_map(|broken| broken.gaps.models.keys());
        job.models.keys().chain(wrong).map(String::as_str).collect()
    };
    audiences.iter().map(model).collect::<Option<_>>().unwrap_or_else(any)
}

/// Adds the (model, column) pairs that `condition`, on a key of `model`, reads.
fn columns_read(job: &Job, condition: &Condition, model: &str, read: &mut BTreeSet<(String, String)>) {
    match &condition.kind {
        ConditionKind::All(children) | ConditionKind::Any(children) => {
            children.iter().for_each(|child| columns_read(job, child, model, read));
        }
        ConditionKind::Not(child) => columns_read(job, child, model, read),
        ConditionKind::Property(text) => names_in(job, text, model, read),
        ConditionKind::Related { model, filter, whose, aggregate, .. } => {
            filter.iter().for_each(|text| names_in(job, text, model, read));
            whose.iter().for_each(|whose| columns_read(job, whose, model, read));
            read.extend(aggregate.column().into_iter().flat_map(|column| meant(job, model, column)));
        }
        ConditionKind::Audience(_) | ConditionKind::Performed { .. } | ConditionKind::Sequence { .. } => {}
    }
}

/// Returns the (model, column) pairs that a name outside predicates may be meant for: the column of `model`, and a column
/// of a parent, which is reported as one.
fn meant(job: &Job, model: &str, name: &str) -> impl Iterator<Item = (String, String)> {
    let (models, column) = parts(name);
    let parent = ancestor(job, model, &models).ok().filter(|_| !models.is_empty());
    let of_parent = parent.map(|parent| (parent.to_string(), column));
    [(model.to_string(), name.to_string())].into_iter().chain(of_parent)
}

/// Returns the models that the name of a column has before it, and the column.
fn parts(name: &str) -> (Vec<String>, String) {
    let mut parts: Vec<String> = name.split('.').map(|part| part.trim_matches('"').to_owned()).collect();
    let column = parts.pop().expect("a text has a last part");
    (parts, column)
}

/// Adds the columns that a predicate names: those it asks for while it is parsed, whether it has problems or not.
fn names_in(job: &Job, text: &Text, model: &str, read: &mut BTreeSet<(String, String)>) {
    let asked = Asked { job, model, names: RefCell::new(BTreeSet::new()) };
    let ask = |name: &str| {
        asked.names.borrow_mut().insert((model.to_string(), name.to_string()));
        None
    };
    let _ = Predicate::parse(text, &ask, &[], &asked, Now::Allowed);
    read.extend(asked.names.into_inner());
}

/// The columns that a predicate on rows of a model names, with their models.
struct Asked<'a> {
    job: &'a Job,
    model: &'a str,
    names: RefCell<BTreeSet<(String, String)>>,
}

impl Parents for Asked<'_> {
    fn column(&self, models: &[String], column: &str) -> Result<ColumnType, Option<Unresolved>> {
        let of = ancestor(self.job, self.model, models)?;
        self.names.borrow_mut().insert((of.to_string(), column.to_string()));
        // Any will do: what follows from it is not looked at.
        Ok(ColumnType::String)
    }
}

/// Returns the last of `models`, the first of which `model` belongs to, and each of which belongs to the next.
fn ancestor<'j>(job: &'j Job, model: &'j str, models: &[String]) -> Result<&'j str, Unresolved> {
    let mut at = model;
    for (part, step) in models.iter().enumerate() {
        let parent = job.models.get(at).and_then(|of| of.belongs_to.as_ref()).map(|of| of.model.as_str());
        match parent.filter(|parent| parent == step) {
            Some(parent) => at = parent,
            None => return Err(no_parent(job, (at, parent), (part, step))),
        }
    }
    Ok(at)
}

/// Returns why `step` is not the model that `model` belongs to, which is `parent`.
fn no_parent(job: &Job, (model, parent): (&str, Option<&str>), (part, step): (usize, &str)) -> Unresolved {
    let belongs_to_it = job.models.get(step).and_then(|of| of.belongs_to.as_ref()).is_some_and(|of| of.model == model);
    let (message, hint) = match parent {
        _ if part == 0 && step == model => {
            let message = format!("the row is one of `{model}` itself");
            (
                message,
                "name its columns without the model; behind a model's id are columns of one that it belongs to".into(),
            )
        }
        _ if belongs_to_it => {
            let message = format!("`{model}` does not belong to `{step}`, but `{step}` to `{model}`");
            (message, format!("a `related: {step}` condition is about its rows"))
        }
        Some(parent) => {
            let message = format!("`{model}` does not belong to `{step}`");
            match nearest(step, [parent]) {
                Some(near) => (message, format!("did you mean `{near}`?")),
                None => (message, format!("it belongs to `{parent}`: `{parent}.COLUMN`")),
            }
        }
        None => {
            let hint = match job.models.contains_key(step) {
                true => format!("`belongs_to: {{model: {step}, foreign_key: COLUMN}}` on `{model}` says that it does"),
                false => "text stands in single quotes; a name with a point in it in double quotes".to_owned(),
            };
            (format!("`{model}` belongs to no model, so `{step}` is none of its parents"), hint)
        }
    };
    Unresolved { part, message, hint }
}

/// The columns of the models that a model belongs to.
struct ParentsOf<'c, 'a> {
    columns: &'c Columns<'a>,
    model: &'c str,
}

impl Parents for ParentsOf<'_, '_> {
    fn column(&self, models: &[String], column: &str) -> Result<ColumnType, Option<Unresolved>> {
        let of = ancestor(self.columns.job, self.model, models).map_err(|unresolved| {
            let child = unresolved.part.checked_sub(1).map_or(self.model, |at| &models[at]);
            self.columns.knows_parent(child).then_some(unresolved)
        })?;
        let (message, hint) = match self.columns.column(of, column) {
            Some(Column::Typed(column_type)) => return Ok(column_type),
            Some(Column::Unreadable(found)) => unreadable(of, column, found),
            Some(Column::InDoubt) => return Err(None),
            None => {
                let names = self.columns.names(of);
                let names = || names.iter().map(String::as_str);
                let hint = match (nearest(column, names()), some_of(names())) {
                    (Some(near), _) => format!("did you mean `{near}`?"),
                    (None, Some(known)) => format!("columns: {known}"),
                    (None, None) => format!("declare it in the `columns` of `{of}`"),
                };
                (format!("model `{of}` has no column `{column}`"), hint)
            }
        };
        Err(Some(Unresolved { part: models.len(), message, hint }))
    }
}

/// The columns that syncs include: by model id, then by name.
pub(super) type Included = BTreeMap<String, BTreeMap<String, ColumnType>>;

/// A column that a model has, or a property that an event has.
#[derive(Clone, Copy)]
enum Column<'a> {
    Typed(ColumnType),
    /// Its type in the file, by its name, is none of [`ColumnType`]'s.
    Unreadable(&'a str),
    /// Its declaration is wrong, or it is not known whether it is declared: that was reported.
    InDoubt,
}

/// The columns of a job, and what is wrong with those that are read.
pub(crate) struct Columns<'a> {
    job: &'a Job,
    schemas: &'a Schemas,
    /// What there is of a broken job.
    broken: Option<&'a Salvage>,
    /// What is wrong in the models and events of a broken job.
    gaps: Gaps,
    /// What was found so far.
    pub(super) problems: Vec<Problem>,
}

impl<'a> Columns<'a> {
    pub(crate) fn new(job: &'a Job, schemas: &'a Schemas) -> Columns<'a> {
        Columns { job, schemas, broken: None, gaps: Gaps::default(), problems: Vec::new() }
    }

    /// The columns of a broken job.
    pub(super) fn of_salvage(salvage: &'a Salvage, schemas: &'a Schemas) -> Columns<'a> {
        Columns { broken: Some(salvage), gaps: salvage.gaps.clone(), ..Columns::new(&salvage.job, schemas) }
    }

    /// Checks the predicates and aggregates in a condition on a key of `model`.
    pub(super) fn check(&mut self, condition: &Condition, model: &str) {
        match &condition.kind {
            ConditionKind::All(children) | ConditionKind::Any(children) => {
                children.iter().for_each(|child| self.check(child, model));
            }
            ConditionKind::Not(child) => self.check(child, model),
            ConditionKind::Audience(_) => {}
            ConditionKind::Property(text) => drop(self.model_predicate(model, text)),
            ConditionKind::Performed { event, filter, .. } => {
                filter.iter().for_each(|text| drop(self.event_predicate(event, text)));
            }
            ConditionKind::Sequence { steps, without, .. } => {
                for EventMatch { event, filter } in steps.iter().map(|step| &step.of).chain(without) {
                    filter.iter().for_each(|text| drop(self.event_predicate(event, text)));
                }
            }
            ConditionKind::Related { model, filter, whose, aggregate, aggregate_place, .. } => {
                filter.iter().for_each(|text| drop(self.model_predicate(model, text)));
                whose.iter().for_each(|whose| self.check(whose, model));
                let _ = self.aggregate_type(model, aggregate, aggregate_place);
            }
        }
    }

    /// Types a predicate on the rows of `model`. `None` if something is wrong, which is reported.
    pub(crate) fn model_predicate(&mut self, model: &str, text: &Text) -> Option<Predicate> {
        let names = self.names(model);
        let untyped = RefCell::new(BTreeMap::new());
        let column = |name: &str| match self.column(model, name)? {
            Column::Typed(column_type) => Some(column_type),
            column => {
                untyped.borrow_mut().insert(name.to_string(), column);
                None
            }
        };
        let parents = ParentsOf { columns: self, model };
        match Predicate::parse(text, &column, &names, &parents, Now::Allowed) {
            Ok(predicate) => Some(predicate),
            Err(mut problems) => {
                // The parser takes an untyped column for an unknown one.
                for (name, column) in untyped.into_inner() {
                    problems.retain(|problem| !is_unknown(problem, &name));
                    if let Column::Unreadable(found) = column {
                        problems.push(unreadable_column(&text.place, model, &name, found));
                    }
                }
                self.problems.extend(problems);
                None
            }
        }
    }

    /// Types a predicate on the properties of an event. `None` if something is wrong, which is reported.
    pub(crate) fn event_predicate(&mut self, event: &str, text: &Text) -> Option<Predicate> {
        let of = self.job.events.get(event);
        let names: Vec<String> = of.iter().flat_map(|event| event.properties.keys().cloned()).collect();
        let in_doubt = RefCell::new(BTreeSet::new());
        let column = |name: &str| match self.property(event, name)? {
            Column::Typed(column_type) => Some(column_type),
            _ => {
                in_doubt.borrow_mut().insert(name.to_string());
                None
            }
        };
        match Predicate::parse(text, &column, &names, &NoParents, Now::Refused) {
            Ok(predicate) => Some(predicate),
            Err(mut problems) => {
                for name in in_doubt.into_inner() {
                    problems.retain(|problem| !is_unknown(problem, &name));
                }
                self.problems.extend(problems);
                None
            }
        }
    }

    /// Returns an event's property. `None` if there is no such property.
    fn property(&self, event: &str, name: &str) -> Option<Column<'a>> {
        let Some(of) = self.job.events.get(event) else {
            return Some(Column::InDoubt);
        };
        let declared = of.properties.get(name).map(|property| Column::Typed(property.column_type));
        let gap = self.gaps.events.get(event);
        declared.or_else(|| gap.filter(|gap| gap.others || gap.columns.contains(name)).map(|_| Column::InDoubt))
    }

    /// Returns a model's column, as declared, else as in its file. Names match exactly; those of a file also in another case, where that is
    /// unique and no declared column has the name in another case. `None` if there is no such column.
    fn column(&self, model: &str, name: &str) -> Option<Column<'a>> {
        let Some(of) = self.job.models.get(model) else {
            return Some(Column::InDoubt);
        };
        let gap = self.gaps.models.get(model);
        if gap.is_some_and(|gap| gap.columns.contains(name)) {
            return Some(Column::InDoubt);
        }
        let declared = of.columns.get(name).map(|declared| Column::Typed(*declared));
        let others = gap.filter(|gap| gap.others).map(|_| Column::InDoubt);
        let alike = |declared: &String| declared.to_lowercase() == name.to_lowercase();
        let any_case = !of.columns.keys().any(alike);
        declared.or_else(|| self.column_in_file(model, name, any_case)).or(others)
    }

    /// Returns a column of a model's file; if `any_case` is set, also one whose name differs by case alone.
    fn column_in_file(&self, model: &str, name: &str, any_case: bool) -> Option<Column<'a>> {
        let schemas: &'a Schemas = self.schemas;
        let columns = schemas.get(model)?;
        let mut alike = columns.iter().filter(|(column, _)| column.to_lowercase() == name.to_lowercase());
        let found = match columns.iter().find(|(column, _)| column == name) {
            Some(exact) => exact,
            None => alike.next().filter(|_| any_case && alike.next().is_none())?,
        };
        Some(match &found.1 {
            Ok(found) => Column::Typed(*found),
            Err(found) => Column::Unreadable(found),
        })
    }

    /// Returns the names of a model's columns, sorted.
    fn names(&self, model: &str) -> Vec<String> {
        let declared = self.job.models.get(model).into_iter().flat_map(|model| model.columns.keys());
        let in_doubt = self.gaps.models.get(model).into_iter().flat_map(|gap| &gap.columns);
        let in_file = self.schemas.get(model).into_iter().flatten().map(|(name, _)| name);
        declared.chain(in_doubt).chain(in_file).cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Returns whether it is known which model a model belongs to, if any.
    fn knows_parent(&self, model: &str) -> bool {
        self.job.models.contains_key(model) && !self.gaps.models.get(model).is_some_and(|gap| gap.parent)
    }

    /// Returns the type of the column that `aggregate` takes, `None` for the count.
    ///
    /// # Errors
    ///
    /// Returns `Err` if something is wrong with the column, which is reported.
    pub(super) fn aggregate_type(
        &mut self,
        model: &str,
        aggregate: &Aggregate,
        place: &Place,
    ) -> Result<Option<ColumnType>, ()> {
        let Some(name) = aggregate.column() else {
            return Ok(None);
        };
        let message = match self.column(model, name) {
            None if self.parent_column(model, name) => {
                self.of_a_parent(name, "an aggregate takes a column of the rows themselves", place);
                return Err(());
            }
            None => {
                let names = self.names(model);
                self.unknown_column(name, &names, place);
                return Err(());
            }
            Some(Column::Unreadable(found)) => {
                self.problems.push(unreadable_column(place, model, name, found));
                return Err(());
            }
            Some(Column::InDoubt) => return Err(()),
            Some(Column::Typed(column_type)) if aggregate.takes(column_type) => return Ok(Some(column_type)),
            Some(Column::Typed(column_type)) => {
                let takes =
                    if matches!(aggregate, Aggregate::Distinct(_)) { "no lists" } else { "integers and numbers" };
                format!("`{}` takes {takes}, and column `{name}` is {column_type}", aggregate_name(aggregate))
            }
        };
        self.problems.push(Problem::new(place, message));
        Err(())
    }

    /// Returns the columns that syncs include, with their types. One that no model of its sync has is reported; a model
    /// without a column that another model of the sync has is left out.
    pub(super) fn included(&mut self) -> Included {
        let mut included = Included::new();
        for (models, columns) in includes(self.job, self.broken) {
            // The models of a broken job may all be missing.
            if models.is_empty() && self.broken.is_some() {
                continue;
            }
            let models: Vec<&str> = models.into_iter().collect();
            for Text { value: name, place } in columns {
                self.include(name, &models, place, &mut included);
            }
        }
        included
    }

    /// Adds one column of a sync for each of its models that has it.
    fn include(&mut self, name: &str, models: &[&str], place: &Place, included: &mut Included) {
        let found: Vec<_> = models.iter().filter_map(|id| Some((*id, self.column(id, name)?))).collect();
        if found.is_empty() && models.iter().any(|model| self.parent_column(model, name)) {
            self.of_a_parent(name, "messages carry columns of the member's own row", place);
        } else if found.is_empty() {
            self.not_included(name, models, place);
        }
        for (model, column) in found {
            match column {
                Column::Typed(column_type) => {
                    included.entry(model.to_string()).or_default().insert(name.to_string(), column_type);
                }
                Column::Unreadable(found) => self.problems.push(unreadable_column(place, model, name, found)),
                Column::InDoubt => {}
            }
        }
    }

    /// Reports a column that none of these models has.
    fn not_included(&mut self, name: &str, models: &[&str], place: &Place) {
        let read = |model: &&str| {
            let model = &self.job.models[*model];
            model.parquet.is_some() || !model.live.is_empty()
        };
        if models.iter().any(read) {
            let names: BTreeSet<String> = models.iter().flat_map(|model| self.names(model)).collect();
            self.unknown_column(name, &names, place);
        } else {
            let message = format!("no audience of this sync is of a model with `parquet`, so no message has `{name}`");
            self.problems.push(Problem::new(place, message));
        }
    }

    /// Returns whether a name is that of a column of a model that `model` belongs to.
    fn parent_column(&self, model: &str, name: &str) -> bool {
        let (models, column) = parts(name);
        let parents = ParentsOf { columns: self, model };
        !models.is_empty() && !matches!(parents.column(&models, &column), Err(Some(_)))
    }

    /// Reports a column of a parent where there can be none.
    fn of_a_parent(&mut self, name: &str, why: &str, place: &Place) {
        let message = format!("`{name}` is a column of a parent, which only predicates read: {why}");
        self.problems.push(Problem::new(place, message).hint("add the column to the model's own export"));
    }

    /// Reports a name that no column has.
    fn unknown_column<'n>(&mut self, name: &str, known: impl IntoIterator<Item = &'n String>, place: &Place) {
        let problem = Problem::new(place, format!("unknown column `{name}`"));
        let known: Vec<&str> = known.into_iter().map(String::as_str).collect();
        self.problems.push(match (nearest(name, known.iter().copied()), some_of(known)) {
            (Some(close), _) => problem.hint(format!("did you mean `{close}`?")),
            (None, Some(known)) => problem.hint(format!("columns: {known}")),
            (None, None) => problem,
        });
    }
}

/// Returns whether a problem of a predicate is that no column has this name.
fn is_unknown(problem: &Problem, name: &str) -> bool {
    problem.message.starts_with(&format!("unknown column `{name}` at "))
}

/// Returns the problem of a column whose type in the file is none of [`ColumnType`]'s.
fn unreadable_column(place: &Place, model: &str, name: &str, found: &str) -> Problem {
    let (message, hint) = unreadable(model, name, found);
    Problem::new(place, message).hint(hint)
}

/// Returns what is wrong with such a column, and what to do.
fn unreadable(model: &str, name: &str, found: &str) -> (String, String) {
    let message = format!("column `{name}` of model `{model}` is of type `{found}`, which is not supported");
    (message, "cast it in the export".to_owned())
}
