//! A job becomes a plan.
//!
//! [`compile`] types every predicate, makes equal conditions one fact, and orders everything by meaning: neither the
//! ids of audiences nor the order of the file move a fact. All that is wrong is reported at once, in the file's order.
//!
//! Identity: a fact's canonical text says all that its meaning depends on and nothing else: not the id or label of an
//! event, not the audience that mentions it. Its fingerprint is a hash of that text, an audience's is a hash of its
//! condition over those. Two events with the same definition are one: their equal conditions are one fact, kept by the
//! first id, so that a message which matches both counts once.
//!
//! A model is read where an audience is about its keys or a condition about its rows; others are not pulled.

pub(crate) mod canonical;
pub mod conditions;
mod expr;

use self::canonical::{
    aggregate_name, aggregate_text, column_of, comparison_text, count_comparison, count_range, event_text, fingerprint,
    path_text, quoted, typed,
};
use self::expr::{Tree, expr, known_and, meaning};
use crate::plan::{AudiencePlan, EventColumn, EventPlan, Expr, Fact, FactKind, Filter, ModelPlan, Plan, SnapshotPlan};
use crate::predicate::{Now, Predicate};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use usher_config::{
    Aggregate, Audience, ColumnType, Comparison, Condition, ConditionKind, Event, Job, Members, Place, Problem,
    Problems, Sync, Text, nearest,
};

/// What the files of models say of their columns: by model id, each column's name and its type; none: a type that no
/// condition can read.
pub type Schemas = BTreeMap<String, Vec<(String, Option<ColumnType>)>>;

/// The models whose file's schema [`compile`] needs: some condition reads, or some sync includes, a column of theirs that is
/// not declared.
///
/// The key and foreign key need no type, so they need no schema unless a condition reads them.
pub fn needs_schema(job: &Job) -> BTreeSet<String> {
    let mut read = BTreeSet::new();
    for audience in job.audiences.values() {
        columns_read(&audience.condition, &audience.model, &mut read);
    }
    for sync in job.syncs.values() {
        for model in models_of(job, sync) {
            read.extend(sync.include.iter().map(|column| (model.to_string(), column.value.clone())));
        }
    }
    let undeclared = read.into_iter().filter_map(|(model, column)| {
        let found = job.models.get(&model)?;
        (found.parquet.is_some() && !found.columns.contains_key(&column)).then_some(model)
    });
    undeclared.collect()
}

/// The models that a sync has audiences of.
fn models_of<'a>(job: &'a Job, sync: &Sync) -> BTreeSet<&'a str> {
    sync.audiences.iter().filter_map(|id| Some(job.audiences.get(id)?.model.as_str())).collect()
}

/// Adds the (model, column) pairs that `condition`, on a key of `model`, reads.
fn columns_read(condition: &Condition, model: &str, read: &mut BTreeSet<(String, String)>) {
    match &condition.kind {
        ConditionKind::All(children) | ConditionKind::Any(children) => {
            children.iter().for_each(|child| columns_read(child, model, read));
        }
        ConditionKind::Not(child) => columns_read(child, model, read),
        ConditionKind::Property(text) => names_in(text, model, read),
        ConditionKind::Related { model, filter, aggregate, .. } => {
            filter.iter().for_each(|text| names_in(text, model, read));
            read.extend(column_of(aggregate).map(|column| (model.clone(), column.to_string())));
        }
        ConditionKind::Audience(_) | ConditionKind::Performed { .. } => {}
    }
}

/// Adds the columns that a predicate names: those it asks for while it is read. What is wrong with it is `compile`'s.
fn names_in(text: &Text, model: &str, read: &mut BTreeSet<(String, String)>) {
    let asked = RefCell::new(BTreeSet::new());
    let ask = |name: &str| {
        asked.borrow_mut().insert((model.to_string(), name.to_string()));
        None
    };
    let _ = Predicate::parse(text, &ask, &[], Now::Allowed);
    read.extend(asked.into_inner());
}

/// Compiles `job`, read from `file`; `schemas` has the columns of at least [`needs_schema`]'s models.
///
/// A column's declared type wins over its file's. Problems are sorted by place.
pub fn compile(job: &Job, file: &str, schemas: &Schemas) -> Result<Plan, Problems> {
    let mut drafts = Drafts { job, schemas, facts: BTreeMap::new(), problems: Vec::new() };
    let mut trees = BTreeMap::new();
    for (id, audience) in &job.audiences {
        if job.models.contains_key(&audience.model) {
            trees.insert(id.as_str(), drafts.tree(&audience.condition, audience));
        } else {
            drafts.unknown("model", &audience.model, job.models.keys(), &audience.place);
        }
    }
    let order = drafts.order();
    let included = drafts.included();
    let plan = if drafts.problems.is_empty() {
        let plan = build(job, &drafts.facts, &trees, &order, &included);
        drafts.problems = members_of_nothing(&plan);
        Some(plan)
    } else {
        None
    };
    let mut problems = drafts.problems;
    problems.sort_by(|a, b| {
        let place = |p: &Problem| (p.place.line, p.place.column, p.place.path.clone());
        place(a).cmp(&place(b)).then_with(|| a.message.cmp(&b.message))
    });
    match plan {
        Some(plan) if problems.is_empty() => Ok(plan),
        _ => Err(Problems { file: file.to_string(), problems }),
    }
}

/// What is wrong with the predicates and aggregated columns of a job's conditions and the columns that its syncs include, and
/// nothing else: for a job that has other problems already.
pub fn check_predicates(job: &Job, schemas: &Schemas) -> Vec<Problem> {
    let mut drafts = Drafts { job, schemas, facts: BTreeMap::new(), problems: Vec::new() };
    for audience in job.audiences.values() {
        drafts.tree(&audience.condition, audience);
    }
    drafts.included();
    drafts.problems
}

/// The columns that syncs include: by model id, then by name.
type Included = BTreeMap<String, BTreeMap<String, ColumnType>>;

/// A fact before everything has its index.
#[derive(Clone)]
enum Draft<'a> {
    Performed {
        /// The first of the ids of equal events whose conditions say this.
        event: &'a str,
        filter: Option<Predicate>,
        within: u64,
        least: u64,
        most: Option<u64>,
    },
    Property(Predicate),
    Related {
        model: &'a str,
        filter: Option<Predicate>,
        aggregate: &'a Aggregate,
        column_type: Option<ColumnType>,
        comparison: Comparison,
    },
}

/// All facts found so far, and what was wrong on the way.
struct Drafts<'a> {
    job: &'a Job,
    schemas: &'a Schemas,
    /// By model id, then by canonical text.
    facts: BTreeMap<&'a str, BTreeMap<String, Draft<'a>>>,
    problems: Vec<Problem>,
}

impl<'a> Drafts<'a> {
    /// Types a condition of `audience`. Where something is wrong, the tree has a hole and `problems` is not empty.
    fn tree(&mut self, condition: &'a Condition, audience: &'a Audience) -> Tree {
        let hole = Tree::Any(Vec::new());
        match &condition.kind {
            ConditionKind::All(children) => Tree::All(children.iter().map(|c| self.tree(c, audience)).collect()),
            ConditionKind::Any(children) => Tree::Any(children.iter().map(|c| self.tree(c, audience)).collect()),
            ConditionKind::Not(child) => Tree::Not(Box::new(self.tree(child, audience))),
            ConditionKind::Audience(id) => match self.job.audiences.get(id) {
                Some(mentioned) if mentioned.model == audience.model => Tree::Audience(id.clone()),
                Some(mentioned) => {
                    let message = format!(
                        "audience `{id}` is about model `{}`, this one about `{}`",
                        mentioned.model, audience.model
                    );
                    self.problems.push(Problem::new(&condition.place, message));
                    hole
                }
                None => {
                    self.unknown("audience", id, self.job.audiences.keys(), &condition.place);
                    hole
                }
            },
            ConditionKind::Property(text) => {
                let Some(predicate) = self.model_predicate(&audience.model, text) else {
                    return hole;
                };
                let text = format!("property v1 model={} {}", quoted(&audience.model), typed(&predicate));
                self.fact(audience, text, Draft::Property(predicate))
            }
            ConditionKind::Performed { event, filter, aggregate, comparison, within } => {
                if *aggregate != Aggregate::Count {
                    let message = "aggregates of `performed` other than the count are not in this version";
                    self.problems.push(Problem::new(&condition.place, message));
                }
                let Some((id, event)) = self.job.events.get_key_value(event) else {
                    self.unknown("event", event, self.job.events.keys(), &condition.place);
                    return hole;
                };
                if event.model != audience.model {
                    let message = format!(
                        "event `{id}` is about model `{}`, this audience about `{}`",
                        event.model, audience.model
                    );
                    self.problems.push(Problem::new(&condition.place, message));
                    return hole;
                }
                let Ok(filter) = filter.as_ref().map(|text| self.event_predicate(event, text)).transpose() else {
                    return hole;
                };
                let (least, most) = count_range(comparison);
                let mut text = format!("performed v1 {}", event_text(event));
                write!(text, " count={least}..").expect("writing to a string");
                if let Some(most) = most {
                    write!(text, "{most}").expect("writing to a string");
                }
                write!(text, " within={within}").expect("writing to a string");
                if let Some(filter) = &filter {
                    write!(text, " paths=[").expect("writing to a string");
                    for (name, _) in &filter.columns {
                        write!(text, "{}", path_text(&event.properties[name].path)).expect("writing to a string");
                        text.push(',');
                    }
                    write!(text, "] {}", typed(filter)).expect("writing to a string");
                }
                self.fact(audience, text, Draft::Performed { event: id, filter, within: *within, least, most })
            }
            ConditionKind::Related { model, filter, aggregate, comparison } => {
                let Some((id, related)) = self.job.models.get_key_value(model) else {
                    self.unknown("model", model, self.job.models.keys(), &condition.place);
                    return hole;
                };
                let foreign_key = match &related.belongs_to {
                    Some(parent) if parent.model == audience.model => &parent.foreign_key,
                    _ => {
                        let message = format!("model `{id}` does not belong to `{}`", audience.model);
                        let hint = format!("give `{id}` `belongs_to: {{model: {}, foreign_key: ...}}`", audience.model);
                        self.problems.push(Problem::new(&condition.place, message).hint(hint));
                        return hole;
                    }
                };
                let filter = filter.as_ref().map(|text| self.model_predicate(id, text).ok_or(())).transpose();
                let column_type = self.aggregate_type(id, aggregate, &condition.place);
                let (Ok(filter), Ok(column_type)) = (filter, column_type) else {
                    return hole;
                };
                let comparison = match aggregate {
                    Aggregate::Count => count_comparison(comparison),
                    _ => *comparison,
                };
                let mut text = format!(
                    "related v1 model={} of={} by={} key={} {}",
                    quoted(id),
                    quoted(&audience.model),
                    quoted(foreign_key),
                    quoted(&related.key),
                    aggregate_text(aggregate, column_type),
                );
                write!(text, " {}", comparison_text(&comparison)).expect("writing to a string");
                if let Some(filter) = &filter {
                    write!(text, " {}", typed(filter)).expect("writing to a string");
                }
                self.fact(audience, text, Draft::Related { model: id, filter, aggregate, column_type, comparison })
            }
        }
    }

    /// Keeps a fact on the audience's model; of equal ones, the one on the first event id.
    fn fact(&mut self, audience: &'a Audience, text: String, draft: Draft<'a>) -> Tree {
        let facts = self.facts.entry(&audience.model).or_default();
        match (facts.get_mut(&text), draft) {
            (Some(Draft::Performed { event: kept, .. }), Draft::Performed { event, .. }) => *kept = event.min(*kept),
            (Some(_), _) => {}
            (None, draft) => {
                facts.insert(text.clone(), draft);
            }
        }
        Tree::Fact(text)
    }

    /// Types a predicate on the rows of `model`.
    fn model_predicate(&mut self, model: &str, text: &Text) -> Option<Predicate> {
        let names = self.column_names(model);
        let unreadable = RefCell::new(BTreeSet::new());
        let column = |name: &str| {
            let found = self.column(model, name)?;
            if found.is_none() {
                unreadable.borrow_mut().insert(name.to_string());
            }
            found
        };
        match Predicate::parse(text, &column, &names, Now::Allowed) {
            Ok(predicate) => Some(predicate),
            Err(mut problems) => {
                // The parser takes a column without a type for an unknown one; its file knows better.
                for name in unreadable.into_inner() {
                    problems.retain(|problem| !problem.message.contains(&format!("`{name}`")));
                    problems.push(Problem::new(&text.place, unreadable_column(model, &name)));
                }
                self.problems.extend(problems);
                None
            }
        }
    }

    /// Types a predicate on the properties of `event`.
    fn event_predicate(&mut self, event: &Event, text: &Text) -> Result<Predicate, ()> {
        let names: Vec<String> = event.properties.keys().cloned().collect();
        let column = |name: &str| event.properties.get(name).map(|property| property.column_type);
        Predicate::parse(text, &column, &names, Now::Refused).map_err(|problems| self.problems.extend(problems))
    }

    /// The type of a model's column, as declared, else as in its file; none: no such column; none inside: a type that
    /// no condition can read. Names match exactly, else without case where that is unique.
    fn column(&self, model: &str, name: &str) -> Option<Option<ColumnType>> {
        if let Some(declared) = self.job.models[model].columns.get(name) {
            return Some(Some(*declared));
        }
        let columns = self.schemas.get(model)?;
        if let Some((_, column_type)) = columns.iter().find(|(column, _)| column == name) {
            return Some(*column_type);
        }
        let mut alike = columns.iter().filter(|(column, _)| column.to_lowercase() == name.to_lowercase());
        match (alike.next(), alike.next()) {
            (Some((_, column_type)), None) => Some(*column_type),
            _ => None,
        }
    }

    /// The names of a model's columns, sorted.
    fn column_names(&self, model: &str) -> Vec<String> {
        let declared = self.job.models[model].columns.keys().cloned();
        let in_file = self.schemas.get(model).into_iter().flatten().map(|(name, _)| name.clone());
        declared.chain(in_file).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The type of the column that `aggregate` takes, checked; none for the count.
    fn aggregate_type(&mut self, model: &str, aggregate: &Aggregate, place: &Place) -> Result<Option<ColumnType>, ()> {
        let Some(name) = column_of(aggregate) else {
            return Ok(None);
        };
        let message = match self.column(model, name) {
            None => {
                let names = self.column_names(model);
                self.unknown("column", name, names.iter(), place);
                return Err(());
            }
            Some(None) => unreadable_column(model, name),
            Some(Some(column_type)) => {
                let numeric = matches!(column_type, ColumnType::Integer | ColumnType::Number);
                let list =
                    matches!(column_type, ColumnType::ListString | ColumnType::ListInteger | ColumnType::ListNumber);
                match aggregate {
                    Aggregate::Distinct(_) if !list => return Ok(Some(column_type)),
                    Aggregate::Distinct(_) => {
                        format!("`distinct` takes no lists, and column `{name}` is {}", column_type)
                    }
                    _ if numeric => return Ok(Some(column_type)),
                    _ => format!(
                        "`{}` takes integers and numbers, and column `{name}` is {}",
                        aggregate_name(aggregate),
                        column_type
                    ),
                }
            }
        };
        self.problems.push(Problem::new(place, message));
        Err(())
    }

    /// The columns that syncs include, with their types. One that no model of its sync has is reported; a model that lacks what
    /// another has is left out.
    fn included(&mut self) -> Included {
        let job = self.job;
        let mut included = Included::new();
        for sync in job.syncs.values() {
            // Of an audience that can't be read, the model is not known.
            if sync.audiences.iter().any(|id| !job.audiences.contains_key(id)) {
                continue;
            }
            let models = models_of(job, sync);
            let models: Vec<&str> = models.into_iter().filter(|id| job.models.contains_key(*id)).collect();
            for Text { value: name, place } in &sync.include {
                let found: Vec<_> = models.iter().filter_map(|id| Some((*id, self.column(id, name)?))).collect();
                if found.is_empty() {
                    self.not_included(name, &models, place);
                }
                for (model, column_type) in found {
                    match column_type {
                        Some(column_type) => {
                            included.entry(model.to_string()).or_default().insert(name.clone(), column_type);
                        }
                        None => {
                            let message =
                                format!("column `{name}` of model `{model}` has a type that no message can carry");
                            self.problems.push(Problem::new(place, message));
                        }
                    }
                }
            }
        }
        included
    }

    /// Reports a column that none of these models has.
    fn not_included(&mut self, name: &str, models: &[&str], place: &Place) {
        let read = |model: &&str| self.job.models[*model].parquet.is_some();
        if models.iter().any(read) {
            let names: BTreeSet<String> = models.iter().flat_map(|model| self.column_names(model)).collect();
            self.unknown("column", name, names.iter(), place);
        } else {
            let message = format!("no audience of this sync is of a model with `parquet`, so no message has `{name}`");
            self.problems.push(Problem::new(place, message));
        }
    }

    /// Reports a name that nothing has.
    fn unknown<'n>(&mut self, what: &str, name: &str, known: impl Iterator<Item = &'n String>, place: &Place) {
        let problem = Problem::new(place, format!("unknown {what} `{name}`"));
        self.problems.push(match nearest(name, known.map(String::as_str)) {
            Some(close) => problem.hint(format!("did you mean `{close}`?")),
            None => problem,
        });
    }

    /// All audiences so that each comes after those it mentions, else by id; a cycle is a problem of each in it.
    fn order(&mut self) -> Vec<&'a str> {
        let job = self.job;
        let mentions: BTreeMap<&str, BTreeSet<&str>> = job
            .audiences
            .iter()
            .map(|(id, audience)| {
                let mut mentioned = BTreeSet::new();
                audiences_in(&audience.condition, &mut mentioned);
                mentioned.retain(|id| job.audiences.contains_key(*id));
                (id.as_str(), mentioned)
            })
            .collect();
        let mut order: Vec<&str> = Vec::new();
        let mut waiting: BTreeSet<&str> = mentions.keys().copied().collect();
        while let Some(next) = waiting.iter().copied().find(|id| mentions[id].is_disjoint(&waiting)) {
            waiting.remove(next);
            order.push(next);
        }
        for id in waiting {
            // Those that wait for a cycle without being in it are not to blame: only who reaches itself is.
            let mut reached = BTreeSet::new();
            let mut next: Vec<&str> = mentions[id].iter().copied().collect();
            while let Some(other) = next.pop() {
                if reached.insert(other) {
                    next.extend(&mentions[other]);
                }
            }
            if reached.contains(id) {
                let message = format!("audience `{id}` depends on itself");
                self.problems.push(Problem::new(&job.audiences[id].place, message));
            }
        }
        order
    }
}

/// What is said of a column that has a type which is none of [`ColumnType`]'s.
fn unreadable_column(model: &str, name: &str) -> String {
    format!("column `{name}` of model `{model}` has a type that no condition can read")
}

/// Adds the audiences that a condition mentions.
fn audiences_in<'a>(condition: &'a Condition, mentioned: &mut BTreeSet<&'a str>) {
    match &condition.kind {
        ConditionKind::All(children) | ConditionKind::Any(children) => {
            children.iter().for_each(|child| audiences_in(child, mentioned));
        }
        ConditionKind::Not(child) => audiences_in(child, mentioned),
        ConditionKind::Audience(id) => {
            mentioned.insert(id);
        }
        ConditionKind::Property(_) | ConditionKind::Performed { .. } | ConditionKind::Related { .. } => {}
    }
}

/// Gives everything its index. Nothing can be wrong any more.
fn build(
    job: &Job,
    drafts: &BTreeMap<&str, BTreeMap<String, Draft<'_>>>,
    trees: &BTreeMap<&str, Tree>,
    order: &[&str],
    included: &Included,
) -> Plan {
    let model_ix = |id: &str| job.models.keys().position(|model| model == id).expect("a model of the job") as u32;
    let mut events: Vec<EventPlan> =
        job.events.iter().map(|(id, event)| event_plan(id, event, drafts, model_ix(&event.model))).collect();
    let mut models = Vec::new();
    let mut fingerprints: BTreeMap<&str, [u8; 16]> = BTreeMap::new();
    for (id, model) in &job.models {
        let no_facts = BTreeMap::new();
        let found = drafts.get(id.as_str()).unwrap_or(&no_facts);
        let known = format!("known v1 model={}", quoted(id));
        let mut facts = vec![fact(FactKind::Known, known)];
        for (text, draft) in found {
            let kind = match draft {
                Draft::Property(predicate) => FactKind::Property(predicate.clone()),
                Draft::Related { model, filter, aggregate, column_type, comparison } => FactKind::Related {
                    model: model_ix(model),
                    filter: filter.clone(),
                    aggregate: (*aggregate).clone(),
                    column_type: *column_type,
                    comparison: *comparison,
                },
                Draft::Performed { event, filter, within, least, most } => {
                    let event = job.events.keys().position(|id| id == event).expect("an event of the job");
                    let plan = &mut events[event];
                    let filter = plan.filters.iter().position(|known| known.predicate == *filter);
                    let filter = filter.expect("the filter was collected from this draft");
                    plan.filters[filter].facts.push(plan.facts.len() as u32);
                    plan.facts.push(facts.len() as u32);
                    FactKind::Performed {
                        event: event as u32,
                        filter: filter as u32,
                        within: *within,
                        least: *least,
                        most: *most,
                    }
                }
            };
            facts.push(fact(kind, text.clone()));
        }
        let ids: Vec<&str> =
            job.audiences.iter().filter(|(_, audience)| audience.model == *id).map(|(id, _)| id.as_str()).collect();
        let audience_ix = |id: &str| ids.iter().position(|other| *other == id).expect("an audience of this model");
        let fact_ix = |text: &str| facts.iter().position(|fact| fact.text == text).expect("a fact of this model");
        let mine: Vec<&str> = order.iter().copied().filter(|id| ids.contains(id)).collect();
        let mut exprs: BTreeMap<&str, Expr> = BTreeMap::new();
        for audience in &mine {
            let expr = expr(&trees[audience], &|text| fact_ix(text) as u32, &|id| audience_ix(id) as u32);
            let text = format!(
                "audience v1 model={} members={} {}",
                quoted(id),
                match model.members {
                    Members::Known => "known",
                    Members::Any => "any",
                },
                meaning(&expr, &facts, &|ix| fingerprints[ids[ix as usize]])
            );
            fingerprints.insert(audience, fingerprint(&text));
            let expr = match model.members {
                Members::Known => known_and(expr),
                Members::Any => expr,
            };
            exprs.insert(audience, expr);
        }
        models.push(ModelPlan {
            id: id.clone(),
            members: model.members,
            audiences: ids
                .iter()
                .map(|id| AudiencePlan {
                    id: id.to_string(),
                    name: job.audiences[*id].name.clone(),
                    fingerprint: fingerprints[id],
                    expr: exprs[id].clone(),
                })
                .collect(),
            order: mine.iter().map(|id| audience_ix(id) as u32).collect(),
            facts,
            snapshot: snapshot(id, job, drafts, included, &model_ix),
        });
    }
    Plan { job: job.clone(), models, events }
}

/// What is read of an event's messages, before its facts have their indexes.
fn event_plan(id: &str, event: &Event, drafts: &BTreeMap<&str, BTreeMap<String, Draft<'_>>>, model: u32) -> EventPlan {
    let mut filters: BTreeMap<Option<String>, Option<Predicate>> = BTreeMap::new();
    for draft in drafts.get(event.model.as_str()).into_iter().flat_map(BTreeMap::values) {
        if let Draft::Performed { event, filter, .. } = draft
            && *event == id
        {
            filters.insert(filter.as_ref().map(|predicate| predicate.text.clone()), filter.clone());
        }
    }
    let names: BTreeSet<&String> = filters.values().flatten().flat_map(|p| &p.columns).map(|(name, _)| name).collect();
    let columns = names.into_iter().map(|name| {
        let property = &event.properties[name];
        EventColumn { name: name.clone(), path: property.path.clone(), column_type: property.column_type }
    });
    EventPlan {
        id: id.to_string(),
        source: event.source.clone(),
        kind: event.kind.clone(),
        name: event.name.clone(),
        model,
        foreign_key: event.foreign_key.clone(),
        timestamp: event.timestamp.clone(),
        columns: columns.collect(),
        filters: filters.into_values().map(|predicate| Filter { predicate, facts: Vec::new() }).collect(),
        facts: Vec::new(),
    }
}

/// How a model is read: where an audience is about its keys or a condition about its rows; else not at all.
fn snapshot(
    id: &str,
    job: &Job,
    drafts: &BTreeMap<&str, BTreeMap<String, Draft<'_>>>,
    included: &Included,
    model_ix: &dyn Fn(&str) -> u32,
) -> Option<SnapshotPlan> {
    let model = &job.models[id];
    let parquet = model.parquet.clone()?;
    let mut columns: BTreeMap<String, ColumnType> = BTreeMap::new();
    let mut is_related = false;
    for (parent, facts) in drafts {
        for draft in facts.values() {
            match draft {
                Draft::Property(predicate) if *parent == id => columns.extend(predicate.columns.iter().cloned()),
                Draft::Related { model, filter, aggregate, column_type, .. } if *model == id => {
                    is_related = true;
                    columns.extend(filter.iter().flat_map(|predicate| predicate.columns.iter().cloned()));
                    columns.extend(column_of(aggregate).map(str::to_string).zip(*column_type));
                }
                _ => {}
            }
        }
    }
    let has_audiences = job.audiences.values().any(|audience| audience.model == id);
    let parent = model.belongs_to.as_ref().filter(|_| is_related);
    (has_audiences || is_related).then(|| SnapshotPlan {
        parquet,
        key: model.key.clone(),
        columns: columns.into_iter().collect(),
        include: included.get(id).into_iter().flatten().map(|(name, of)| (name.clone(), *of)).collect(),
        parent: parent.map(|parent| (model_ix(&parent.model), parent.foreign_key.clone())),
    })
}

/// A fact of `kind` with its identity and its truth for a key of which nothing is known.
fn fact(kind: FactKind, text: String) -> Fact {
    let default = match &kind {
        FactKind::Known | FactKind::Property(_) => false,
        FactKind::Performed { least, most, .. } => *least == 0 && most.is_none_or(|most| *least <= most),
        FactKind::Related { aggregate, comparison, .. } => crate::aggregate::Summary::new(aggregate).holds(comparison),
    };
    Fact { kind, fingerprint: fingerprint(&text), text, default }
}

/// The audiences of `members: any` models that would hold for a key of which nothing is known.
fn members_of_nothing(plan: &Plan) -> Vec<Problem> {
    let mut problems = Vec::new();
    for model in plan.models.iter().filter(|model| model.members == Members::Any) {
        for (audience, holds) in model.audiences.iter().zip(model.evaluate_unknown()) {
            if holds {
                let message = format!("audience `{}` would hold for a key of which nothing is known", audience.id);
                let hint = "add a condition that only something known can fulfil, such as a `performed`, or give the \
                            model `parquet` and `members: known`";
                problems.push(Problem::new(&plan.job.audiences[&audience.id].place, message).hint(hint));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests;
