//! Everything gets its index: facts by canonical text, audiences, models and events by id.
//!
//! It cannot fail: conditions are typed and references are resolved. The order depends on the job's meaning only, so
//! equal jobs have equal plans.

use super::canonical::{audience_text, fingerprint, known_text};
use super::columns::Included;
use super::facts::{Draft, Drafts, Facts, FilteredEvent, SequenceDraft, Tree};
use super::live::{columns_needed, find_inherited, properties_set, rows_plan};
use crate::aggregate::Summary;
use crate::plan::{
    AudienceIx, AudiencePlan, ContributionPlan, EventColumn, EventFilter, EventPlan, Fact, FactIx, FactKind, Filter,
    InheritedColumn, ModelPlan, Plan, RowsPlan, SequenceStep, SnapshotPlan, TraitPlan,
};
use crate::predicate::Predicate;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use usher_config::{Aggregate, ColumnType, Condition, ConditionKind, Event, Job, Members, Model};

/// The number of facts of an event that a matched event names at once.
const BLOCK: usize = 64;

/// The parts of a job that become its plan, and the events, which get their facts while models get theirs.
pub(super) struct Layout<'a> {
    job: &'a Job,
    drafts: &'a Drafts<'a>,
    /// The condition of each audience.
    trees: &'a BTreeMap<&'a str, Tree>,
    included: &'a Included,
    /// By event, what all its conditions share.
    shared: &'a BTreeMap<&'a str, Option<Option<Predicate>>>,
    /// By model, what is kept of its rows.
    rows: BTreeMap<&'a str, RowsPlan>,
    /// All audiences so that each comes after those it mentions.
    order: Vec<&'a str>,
    events: Vec<EventPlan>,
    /// By event, the values that its matches carry: the column, and whether it is counted by its hash.
    values: Vec<Vec<(&'a str, bool)>>,
}

impl<'a> Layout<'a> {
    pub(super) fn new(
        job: &'a Job,
        facts: &'a Facts<'a>,
        trees: &'a BTreeMap<&'a str, Tree>,
        included: &'a Included,
    ) -> Layout<'a> {
        let (drafts, shared) = (&facts.drafts, &facts.shared);
        let rows = |id: &'a String| Some((id.as_str(), rows_plan(job, (id, drafts), included, shared)?));
        let mut rows = job.models.keys().filter_map(rows).collect();
        find_inherited(job, &mut rows);
        let order = order(job);
        let ordered: BTreeSet<&str> = order.iter().copied().collect();
        let waiting: BTreeSet<&str> = job.audiences.keys().map(String::as_str).collect();
        let waiting: BTreeSet<_> = waiting.difference(&ordered).collect();
        assert!(waiting.is_empty(), "config refuses audiences that depend on each other in a circle: {waiting:?}");
        Layout {
            job,
            drafts,
            trees,
            included,
            shared,
            rows,
            order,
            events: Vec::new(),
            values: vec![Vec::new(); job.events.len()],
        }
    }

    /// Lays out the plan.
    pub(super) fn plan(mut self) -> Plan {
        self.events = self.job.events.iter().map(|(id, event)| self.event(id, event)).collect();
        let mut models: Vec<ModelPlan> = self.job.models.iter().map(|(id, model)| self.model(id, model)).collect();
        self.contributions(&mut models);
        Plan { job: self.job.clone(), models, events: self.events }
    }

    /// Enters at each model what its rows contribute to conditions of their parent.
    fn contributions(&self, models: &mut [ModelPlan]) {
        for (parent, drafts) in self.drafts {
            for (text, draft) in drafts {
                let Draft::Tallied { model, counts, aggregate, .. } = draft else { continue };
                let ix = |models: &[ModelPlan], model: &str, text: &str| {
                    fact_ix(&models[self.model_ix(model) as usize].facts, text)
                };
                let fact = ix(models, parent, text);
                let counts = counts.expr(&|text| ix(models, model, text), &|_| panic!("audiences are inlined"));
                let rows = models[self.model_ix(model) as usize].rows.as_mut().expect("rows that contribute are kept");
                let column = |name: &str| rows.columns.iter().position(|(column, _)| column == name);
                let column = aggregate.column().map(|name| column(name).expect("what is aggregated is kept") as u32);
                rows.contributions.push(ContributionPlan { fact, counts, aggregate: (*aggregate).clone(), column });
            }
        }
    }

    /// Returns whether a fact may flip at times that only the owners of other keys know: windows and `now()` decide it, or events that set
    /// live columns of rows wait for their time.
    fn is_timed(&self, draft: &Draft<'_>) -> bool {
        let is_live = |draft: &Draft<'_>| match draft {
            Draft::Tallied { model, .. } => self.rows.get(model).is_some_and(|rows| !rows.live.is_empty()),
            _ => false,
        };
        let reads_live = |draft: &Draft<'_>| match draft {
            Draft::Property(predicate) => {
                let models = predicate.of_parents.iter().flat_map(|of| &of.models);
                models.into_iter().any(|model| self.rows.get(model.as_str()).is_some_and(|rows| !rows.live.is_empty()))
            }
            _ => false,
        };
        let is_of_kind =
            |draft: &Draft<'_>| is_windowed(draft) || mentions_now(draft) || is_live(draft) || reads_live(draft);
        match draft {
            Draft::Tallied { model, counts, .. } => is_live(draft) || self.depends(model, counts, &is_of_kind),
            _ => false,
        }
    }

    /// Returns whether some fact that decides a condition of a model is of a kind; those inside `whose` count, of their model.
    fn depends(&self, model: &str, tree: &Tree, is_of_kind: &dyn Fn(&Draft<'_>) -> bool) -> bool {
        match tree {
            Tree::All(parts) | Tree::Any(parts) => parts.iter().any(|part| self.depends(model, part, is_of_kind)),
            Tree::Not(part) => self.depends(model, part, is_of_kind),
            Tree::Audience(_) => panic!("audiences are inlined"),
            Tree::Fact(text) => match self.drafts.get(model).and_then(|drafts| drafts.get(text)) {
                Some(draft) if is_of_kind(draft) => true,
                Some(Draft::Tallied { model, counts, .. }) => self.depends(model, counts, is_of_kind),
                Some(_) | None => false,
            },
        }
    }

    fn model(&mut self, id: &str, model: &Model) -> ModelPlan {
        let facts = self.facts(id);
        let (audiences, order) = self.audiences(id, model, &facts);
        let snapshot = self.snapshot(id, model);
        let rows = self.rows.get(id).cloned();
        ModelPlan { id: id.to_string(), members: model.members, facts, audiences, order, snapshot, rows }
    }

    /// Returns the facts of a model, by index, and enters those on events there.
    fn facts(&mut self, model: &str) -> Vec<Fact> {
        let mut facts = vec![fact(FactKind::Known, known_text(model))];
        for (text, draft) in self.drafts.get(model).into_iter().flatten() {
            let kind = match draft {
                Draft::Property(predicate) => FactKind::Property(predicate.clone()),
                Draft::Tallied { model, counts, aggregate, comparison, .. } => FactKind::Tallied {
                    model: self.model_ix(model),
                    aggregate: (*aggregate).clone(),
                    comparison: *comparison,
                    windowed: self.depends(model, counts, &is_windowed),
                    timed: self.is_timed(draft),
                },
                Draft::Related { model, filter, aggregate, column_type, comparison } => FactKind::Related {
                    model: self.model_ix(model),
                    filter: filter.clone(),
                    aggregate: (*aggregate).clone(),
                    column_type: *column_type,
                    comparison: *comparison,
                },
                Draft::Performed { event, filter, within, least, most } => {
                    let (event, filter) = self.enter(event, filter.as_ref(), facts.len() as FactIx);
                    FactKind::Performed { event, filter, within: *within, least: *least, most: *most }
                }
                Draft::Sequence(draft) => self.sequence(draft, facts.len() as FactIx),
                Draft::Aggregated { event, filter, within, aggregate, comparison } => {
                    let (event, filter) = self.enter(event, filter.as_ref(), facts.len() as FactIx);
                    let value = self.value(event, aggregate);
                    let (within, aggregate, comparison) = (*within, (*aggregate).clone(), *comparison);
                    FactKind::Aggregated { event, filter, value, within, aggregate, comparison }
                }
            };
            facts.push(fact(kind, text.clone()));
        }
        facts
    }

    /// Enters a fact at its event and filter, and returns their indexes.
    fn enter(&mut self, event: &str, filter: Option<&Predicate>, fact: FactIx) -> (u32, u32) {
        let EventFilter { event, filter } = self.find(event, filter);
        self.enter_at(EventFilter { event, filter }, fact);
        (event, filter)
    }

    /// Returns the indexes of an event and one of its filters.
    fn find(&self, event: &str, filter: Option<&Predicate>) -> EventFilter {
        let event = self.job.events.keys().position(|id| id == event).expect("an event of the job");
        let text = filter.map(|filter| &filter.text[..]);
        let filters = &self.events[event].filters;
        let filter =
            filters.binary_search_by(|of| of.predicate.as_ref().map(|predicate| &predicate.text[..]).cmp(&text));
        let filter = filter.expect("the filters were collected from all drafts, and are in the order of their texts");
        EventFilter { event: event as u32, filter: filter as u32 }
    }

    fn enter_at(&mut self, of: EventFilter, fact: FactIx) {
        let event = &mut self.events[of.event as usize];
        event.filters[of.filter as usize].facts.push(event.facts.len() as u32);
        event.facts.push(fact);
    }

    /// Enters a sequence at its events and filters, and returns it. Its positions at one event stand next to each other in one
    /// block of 64, so that a matched event has all that it is in the sequence at once.
    fn sequence(&mut self, draft: &SequenceDraft<'a>, fact: FactIx) -> FactKind {
        let mut filters: Vec<EventFilter> =
            draft.events().map(|(event, filter)| self.find(event, filter.as_ref())).collect();
        filters.sort_by_key(|of| (of.event, of.filter));
        filters.dedup();
        for of_event in filters.chunk_by(|a, b| a.event == b.event) {
            let facts = &mut self.events[of_event[0].event as usize].facts;
            assert!(of_event.len() <= BLOCK, "config limits the steps and exclusions of a sequence");
            if facts.len() % BLOCK + of_event.len() > BLOCK {
                // No filter has these positions, so they mean nothing.
                facts.resize(facts.len().next_multiple_of(BLOCK), 0);
            }
            of_event.iter().for_each(|of| self.enter_at(*of, fact));
        }
        let step = |((event, filter), after): &(FilteredEvent<'a>, Option<u64>)| SequenceStep {
            of: self.find(event, filter.as_ref()),
            after: *after,
        };
        FactKind::Sequence {
            steps: draft.steps.iter().map(step).collect(),
            without: draft.without.iter().map(|(event, filter)| self.find(event, filter.as_ref())).collect(),
            within: draft.within,
        }
    }

    /// Returns the index of the value of an event that an aggregate takes.
    fn value(&mut self, event: u32, aggregate: &'a Aggregate) -> u32 {
        let column = aggregate.column().expect("the count is no aggregate of a column");
        let value = (column, matches!(aggregate, Aggregate::Distinct(_)));
        let values = &mut self.values[event as usize];
        let known = values.iter().position(|known| *known == value);
        let index = known.unwrap_or_else(|| {
            values.push(value);
            values.len() - 1
        });
        index as u32
    }

    /// Returns the audiences of a model, by index, and their order of evaluation.
    fn audiences(&self, model_id: &str, model: &Model, facts: &[Fact]) -> (Vec<AudiencePlan>, Vec<AudienceIx>) {
        let mine = self.job.audiences.iter().filter(|(_, audience)| audience.model == *model_id);
        let ids: Vec<&str> = mine.map(|(id, _)| id.as_str()).collect();
        let audience_ixs: HashMap<&str, AudienceIx> = ids.iter().zip(0..).map(|(id, ix)| (*id, ix)).collect();
        let (fact_ix, audience_ix) = (|text: &str| fact_ix(facts, text), |id: &str| audience_ixs[id]);
        let order: Vec<AudienceIx> = self.order.iter().filter_map(|id| audience_ixs.get(id).copied()).collect();
        let mut audiences: BTreeMap<AudienceIx, AudiencePlan> = BTreeMap::new();
        for ix in &order {
            let id = ids[*ix as usize];
            let expr = self.trees[id].expr(&fact_ix, &audience_ix);
            let text = audience_text(model_id, model.members, &expr, facts, &|ix| audiences[&ix].fingerprint);
            let expr = match model.members {
                Members::Known => expr.and_known(),
                Members::Any => expr,
            };
            let name = self.job.audiences[id].name.clone();
            audiences.insert(*ix, AudiencePlan { id: id.to_string(), name, fingerprint: fingerprint(&text), expr });
        }
        (audiences.into_values().collect(), order)
    }

    /// Returns what is read of an event's messages, with its filters and without its facts.
    fn event(&self, id: &str, event: &Event) -> EventPlan {
        let mut filters: BTreeMap<Option<String>, Option<Predicate>> = BTreeMap::new();
        let mut names: BTreeSet<String> = BTreeSet::new();
        let mut add = |filter: &Option<Predicate>| {
            filters.insert(filter.as_ref().map(|predicate| predicate.text.clone()), filter.clone());
        };
        for draft in self.drafts.get(event.model.as_str()).into_iter().flat_map(BTreeMap::values) {
            match draft {
                Draft::Performed { event, filter, .. } if *event == id => add(filter),
                Draft::Aggregated { event, filter, aggregate, .. } if *event == id => {
                    add(filter);
                    names.extend(aggregate.column().map(str::to_owned));
                }
                Draft::Sequence(draft) => {
                    draft.events().filter(|(event, _)| *event == id).for_each(|(_, filter)| add(filter));
                }
                Draft::Performed { .. }
                | Draft::Aggregated { .. }
                | Draft::Property(_)
                | Draft::Related { .. }
                | Draft::Tallied { .. } => {}
            }
        }
        names.extend(filters.values().flatten().flat_map(|p| &p.columns).map(|(name, _)| name.clone()));
        let ix = self.job.events.keys().position(|known| known == id).expect("an event of the job") as u32;
        let set: Vec<(u32, &str)> = properties_set(&self.rows, event, ix).collect();
        let shared = self.shared[id].as_ref().expect("what is wrong was reported").clone().filter(|_| !set.is_empty());
        names.extend(columns_needed(&set, shared.as_ref()));
        let place = |name: &str| names.iter().position(|column| column == name).expect("it is read") as u32;
        let traits = set.iter().map(|(live, name)| TraitPlan { live: *live, column: place(name) }).collect();
        let columns = names.into_iter().map(|name| {
            let property = &event.properties[&name];
            EventColumn {
                name: name.clone(),
                path: property.path.clone(),
                column_type: property.column_type,
                unit: property.unit,
            }
        });
        EventPlan {
            id: id.to_string(),
            sources: event.sources.clone(),
            kind: event.kind.clone(),
            names: event.names.clone(),
            model: self.model_ix(&event.model),
            foreign_key: event.foreign_key.clone(),
            timestamp: event.timestamp.clone(),
            columns: columns.collect(),
            filters: filters.into_values().map(|predicate| Filter { predicate, facts: Vec::new() }).collect(),
            facts: Vec::new(),
            traits,
            shared,
        }
    }

    /// Returns how a model is read: where an audience is about its keys or a condition about its rows. `None` if it is
    /// not read.
    fn snapshot(&self, id: &str, model: &Model) -> Option<SnapshotPlan> {
        let parquet = model.parquet.as_ref()?.identity();
        let mut columns: BTreeMap<String, ColumnType> = BTreeMap::new();
        let mut is_related = false;
        for (parent, facts) in self.drafts {
            for draft in facts.values() {
                match draft {
                    Draft::Property(predicate) if *parent == id => columns.extend(predicate.columns.iter().cloned()),
                    Draft::Tallied { model, .. } if *model == id => {
                        is_related = true;
                        // A live foreign key too.
                        columns.extend(self.rows[id].columns.iter().cloned());
                    }
                    Draft::Related { model, filter, aggregate, column_type, .. } if *model == id => {
                        is_related = true;
                        columns.extend(filter.iter().flat_map(|predicate| predicate.columns.iter().cloned()));
                        columns.extend(aggregate.column().map(str::to_string).zip(*column_type));
                    }
                    _ => {}
                }
            }
        }
        let has_audiences = self.job.audiences.values().any(|audience| audience.model == id);
        let rows = self.rows.get(id);
        let inherits = rows.is_some_and(|rows| !rows.inherited.is_empty());
        let is_passed_on = |of: &InheritedColumn| of.column.models[0] == id;
        let passes_on = self.rows.values().flat_map(|rows| &rows.inherited).any(is_passed_on);
        columns.extend(rows.filter(|_| inherits || passes_on).iter().flat_map(|rows| rows.columns.iter().cloned()));
        let parent = model.belongs_to.as_ref().filter(|_| is_related || inherits);
        (has_audiences || is_related || inherits || passes_on).then(|| SnapshotPlan {
            parquet,
            key: model.key.clone(),
            columns: columns.into_iter().collect(),
            include: self.included.get(id).into_iter().flatten().map(|(name, of)| (name.clone(), *of)).collect(),
            parent: parent.map(|parent| (self.model_ix(&parent.model), parent.foreign_key.clone())),
        })
    }

    fn model_ix(&self, id: &str) -> u32 {
        self.job.models.keys().position(|model| model == id).expect("config resolves models") as u32
    }
}

/// Returns the index of a model's fact by its text. Behind the first, they are in the order of their texts.
fn fact_ix(facts: &[Fact], text: &str) -> FactIx {
    let found = facts[1..].binary_search_by(|fact| fact.text[..].cmp(text)).map(|at| at + 1);
    found.unwrap_or_else(|_| facts.iter().position(|fact| fact.text == text).expect("a fact of the model")) as FactIx
}

/// Returns whether events in a window decide a fact.
fn is_windowed(draft: &Draft<'_>) -> bool {
    matches!(draft, Draft::Performed { .. } | Draft::Aggregated { .. } | Draft::Sequence(_))
}

/// Returns whether a predicate on a row decides a fact, and mentions `now()`.
fn mentions_now(draft: &Draft<'_>) -> bool {
    match draft {
        Draft::Property(predicate) => predicate.mentions_now(),
        Draft::Related { filter, .. } => filter.as_ref().is_some_and(Predicate::mentions_now),
        Draft::Performed { .. } | Draft::Aggregated { .. } | Draft::Sequence(_) | Draft::Tallied { .. } => false,
    }
}

/// Returns a fact with its identity and its truth for a key of which nothing is known.
fn fact(kind: FactKind, text: String) -> Fact {
    let default = match &kind {
        FactKind::Known | FactKind::Property(_) | FactKind::Sequence { .. } => false,
        FactKind::Performed { least, most, .. } => *least == 0 && most.is_none_or(|most| *least <= most),
        FactKind::Related { aggregate, comparison, .. }
        | FactKind::Tallied { aggregate, comparison, .. }
        | FactKind::Aggregated { aggregate, comparison, .. } => Summary::new(aggregate).holds(comparison),
    };
    Fact { kind, fingerprint: fingerprint(&text), text, default }
}

/// Returns the audiences so that each comes after those it mentions, else by id: all but those that mention one which
/// the job does not have, or themselves, directly or through others.
pub(super) fn order(job: &Job) -> Vec<&str> {
    let mentions: BTreeMap<&str, BTreeSet<&str>> = job
        .audiences
        .iter()
        .map(|(id, audience)| {
            let mut mentioned = BTreeSet::new();
            audiences_in(&audience.condition, &mut mentioned);
            (id.as_str(), mentioned)
        })
        .collect();
    let mut mentioned_by: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut waits_for: BTreeMap<&str, usize> = BTreeMap::new();
    for (id, mentioned) in &mentions {
        waits_for.insert(*id, mentioned.len());
        mentioned.iter().for_each(|other| mentioned_by.entry(*other).or_default().push(*id));
    }
    let mut order: Vec<&str> = Vec::with_capacity(mentions.len());
    let mut ready: BTreeSet<&str> = mentions.iter().filter(|(_, of)| of.is_empty()).map(|(id, _)| *id).collect();
    while let Some(next) = ready.pop_first() {
        order.push(next);
        for id in mentioned_by.remove(next).into_iter().flatten() {
            let left = waits_for.get_mut(id).expect("an audience of the job");
            *left -= 1;
            if *left == 0 {
                ready.insert(id);
            }
        }
    }
    order
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
        ConditionKind::Related { whose, .. } => whose.iter().for_each(|whose| audiences_in(whose, mentioned)),
        ConditionKind::Property(_) | ConditionKind::Performed { .. } | ConditionKind::Sequence { .. } => {}
    }
}
