//! Conditions become facts: equal ones are one, whichever audiences they stand in.
//!
//! The facts of sequences are in `facts/sequence.rs`.
//!
//! Facts are addressed by their canonical text until all are found and [`layout`](super::layout) gives them indexes.

mod sequence;

pub(super) use self::sequence::{FilteredEvent, SequenceDraft};
use super::Schemas;
use super::canonical::{
    aggregated_text, count_comparison, count_range, fingerprint, hex, known_text, performed_text, property_text,
    related_text,
};
use super::columns::Columns;
use crate::plan::{AudienceIx, Expr, FactIx};
use crate::predicate::Predicate;
use std::collections::{BTreeMap, BTreeSet};
use usher_config::{Aggregate, ColumnType, Comparison, Condition, ConditionKind, Event, Job, Members, Text};

/// A fact before everything has its index.
#[derive(Clone)]
pub(super) enum Draft<'a> {
    Performed {
        /// The first of the ids of equal events with this condition.
        event: &'a str,
        filter: Option<Predicate>,
        within: u64,
        least: u64,
        most: Option<u64>,
    },
    Aggregated {
        /// As in `Performed`.
        event: &'a str,
        filter: Option<Predicate>,
        within: u64,
        aggregate: &'a Aggregate,
        comparison: Comparison,
    },
    Sequence(SequenceDraft<'a>),
    Property(Predicate),
    Related {
        model: &'a str,
        filter: Option<Predicate>,
        aggregate: &'a Aggregate,
        column_type: Option<ColumnType>,
        comparison: Comparison,
    },
    Tallied {
        model: &'a str,
        /// Whether a row counts: over the facts of its own key.
        counts: Tree,
        aggregate: &'a Aggregate,
        column_type: Option<ColumnType>,
        comparison: Comparison,
    },
}

/// Facts by model id, then by canonical text.
pub(super) type Drafts<'a> = BTreeMap<&'a str, BTreeMap<String, Draft<'a>>>;

/// A condition whose facts are still their canonical text, and whose audiences are still their id.
#[derive(Clone)]
pub(super) enum Tree {
    All(Vec<Tree>),
    Any(Vec<Tree>),
    Not(Box<Tree>),
    Fact(String),
    Audience(String),
}

/// Returns whether only keys of the snapshot can be members of a model's audiences.
fn mentioned_known(job: &Job, model: &str) -> bool {
    job.models[model].members == Members::Known
}

impl Tree {
    /// Returns the canonical text of a condition without audiences.
    fn text(&self) -> String {
        let joined = |word: &str, parts: &[Tree]| {
            let parts: BTreeSet<String> = parts.iter().map(Tree::text).collect();
            format!("{word}({})", parts.into_iter().collect::<Vec<_>>().join(","))
        };
        match self {
            Tree::All(parts) => joined("all", parts),
            Tree::Any(parts) => joined("any", parts),
            Tree::Not(part) => format!("not({})", part.text()),
            Tree::Fact(text) => hex(&fingerprint(text)),
            Tree::Audience(id) => panic!("the audience `{id}` is inlined"),
        }
    }

    /// Returns the canonical expression, with the indexes of facts and audiences.
    pub(super) fn expr(&self, fact: &dyn Fn(&str) -> FactIx, audience: &dyn Fn(&str) -> AudienceIx) -> Expr {
        match self {
            Tree::All(children) => Expr::all(children.iter().map(|child| child.expr(fact, audience))),
            Tree::Any(children) => Expr::any(children.iter().map(|child| child.expr(fact, audience))),
            Tree::Not(child) => child.expr(fact, audience).negated(),
            Tree::Fact(text) => Expr::Fact(fact(text)),
            Tree::Audience(id) => Expr::Audience(audience(id)),
        }
    }
}

/// All facts found so far, and what was wrong on the way.
pub(super) struct Facts<'a> {
    pub(super) job: &'a Job,
    pub(super) columns: Columns<'a>,
    /// By event id: what all conditions on it share, `None` if it is wrong and reported. Each is typed once.
    pub(super) shared: BTreeMap<&'a str, Option<Option<Predicate>>>,
    pub(super) drafts: Drafts<'a>,
    /// Whether the conditions of an audience take its place.
    inlines: bool,
}

impl<'a> Facts<'a> {
    pub(super) fn new(job: &'a Job, schemas: &'a Schemas) -> Facts<'a> {
        let columns = Columns::new(job, schemas);
        Facts { job, columns, shared: BTreeMap::new(), drafts: Drafts::new(), inlines: false }
    }

    /// Adds the facts of a condition on keys of `model`. `None` if a predicate or a column is wrong, which is reported.
    pub(super) fn condition(&mut self, condition: &'a Condition, model: &'a str) -> Option<Tree> {
        match &condition.kind {
            ConditionKind::All(children) => Some(Tree::All(self.conditions(children, model)?)),
            ConditionKind::Any(children) => Some(Tree::Any(self.conditions(children, model)?)),
            ConditionKind::Not(child) => Some(Tree::Not(Box::new(self.condition(child, model)?))),
            ConditionKind::Audience(id) => {
                let mentioned = self.job.audiences.get(id).expect("config resolves the audiences of conditions");
                assert_eq!(mentioned.model, model, "config lets audiences mention those of their model only");
                if self.inlines {
                    let known = Tree::Fact(known_text(model));
                    let tree = self.condition(&mentioned.condition, model)?;
                    return Some(if mentioned_known(self.job, model) { Tree::All(vec![known, tree]) } else { tree });
                }
                Some(Tree::Audience(id.clone()))
            }
            ConditionKind::Property(text) => {
                let predicate = self.columns.model_predicate(model, text)?;
                self.property(model, predicate)
            }
            ConditionKind::Performed { event, filter, aggregate, comparison, within } => {
                self.performed(model, event, filter.as_ref(), (aggregate, comparison), *within)
            }
            ConditionKind::Sequence { steps, without, within } => self.sequence(model, steps, without, *within),
            ConditionKind::Related { .. } => self.related(model, condition),
        }
    }

    /// Adds the fact of a predicate on rows of `model`.
    pub(super) fn property(&mut self, model: &'a str, predicate: Predicate) -> Option<Tree> {
        let live = self.live_columns_text(model, &predicate.columns)?;
        let live = live + &self.parents_text(model, &predicate.of_parents)?;
        let text = property_text(model, &predicate, &live);
        Some(self.fact(model, text, Draft::Property(predicate)))
    }

    /// Adds the facts of all conditions, of those after a wrong one too.
    fn conditions(&mut self, conditions: &'a [Condition], model: &'a str) -> Option<Vec<Tree>> {
        let trees: Vec<_> = conditions.iter().map(|condition| self.condition(condition, model)).collect();
        trees.into_iter().collect()
    }

    fn performed(
        &mut self,
        model: &'a str,
        event: &str,
        filter: Option<&Text>,
        (aggregate, comparison): (&'a Aggregate, &Comparison),
        within: u64,
    ) -> Option<Tree> {
        let (id, event, filter) = self.filtered(model, event, filter)?;
        if *aggregate == Aggregate::Count {
            let (least, most) = count_range(comparison);
            let text = performed_text(event, filter.as_ref(), (least, most), within);
            return Some(self.fact(model, text, Draft::Performed { event: id, filter, within, least, most }));
        }
        let comparison = match aggregate {
            Aggregate::Distinct(_) => count_comparison(comparison),
            _ => *comparison,
        };
        let text = aggregated_text(event, filter.as_ref(), aggregate, &comparison, within);
        Some(self.fact(model, text, Draft::Aggregated { event: id, filter, within, aggregate, comparison }))
    }

    /// Returns an event of a condition with the predicate that its events fulfil: that of the condition and that of the event.
    fn filtered(
        &mut self,
        model: &str,
        event: &str,
        filter: Option<&Text>,
    ) -> Option<(&'a str, &'a Event, Option<Predicate>)> {
        let (id, event) = self.job.events.get_key_value(event).expect("config resolves the events of conditions");
        assert_eq!(event.model, model, "config lets audiences count events of their model only");
        // Both are checked, so that what is wrong with either is reported at once.
        let own = filter.map(|text| self.columns.event_predicate(id, text).ok_or(())).transpose();
        let shared = self.shared(id)?;
        let filter = match (shared, own.ok()?) {
            (Some(shared), Some(own)) => Some(shared.and(&own)),
            (shared, own) => shared.or(own),
        };
        Some((id, event, filter))
    }

    /// Returns the predicate that all conditions on an event share, if it has one. `None` if it is wrong, which is
    /// reported once.
    pub(super) fn shared(&mut self, event: &'a str) -> Option<Option<Predicate>> {
        if !self.shared.contains_key(event) {
            let job = self.job;
            let shared = match &job.events[event].filter {
                None => Some(None),
                Some(text) => self.columns.event_predicate(event, text).map(Some),
            };
            self.shared.insert(event, shared);
        }
        self.shared[event].clone()
    }

    fn related(&mut self, parent: &'a str, condition: &'a Condition) -> Option<Tree> {
        let ConditionKind::Related { model, filter, whose, aggregate, aggregate_place, comparison } = &condition.kind
        else {
            panic!("it is about related rows");
        };
        let (id, related) = self.job.models.get_key_value(model).expect("config resolves the models of conditions");
        let belongs_to = related.belongs_to.as_ref().expect("config lets only models that belong to one be related");
        assert_eq!(belongs_to.model, parent, "config lets a model be related to the one it belongs to only");
        // All are checked, so that what is wrong with any is reported at once.
        let filter = filter.as_ref().map(|text| self.columns.model_predicate(id, text).ok_or(())).transpose();
        let column_type = self.columns.aggregate_type(id, aggregate, aggregate_place);
        let whose = whose.as_ref().map(|whose| self.inlined(whose, id).ok_or(())).transpose();
        let (filter, column_type, whose) = (filter.ok()?, column_type.ok()?, whose.ok()?);
        let comparison = match aggregate {
            Aggregate::Count => count_comparison(comparison),
            _ => *comparison,
        };
        let text = related_text(id, related, (aggregate, column_type), &comparison, filter.as_ref());
        let read = filter.iter().flat_map(|filter| filter.columns.iter().cloned());
        let foreign_key = related.columns.get_key_value(&belongs_to.foreign_key);
        let foreign_key = foreign_key.map(|(name, of)| (name.clone(), *of));
        let read: Vec<_> =
            read.chain(aggregate.column().map(str::to_owned).zip(column_type)).chain(foreign_key).collect();
        let of_parents = filter.iter().flat_map(|filter| filter.of_parents.iter().cloned()).collect::<Vec<_>>();
        let live = self.live_columns_text(id, &read)? + &self.parents_text(id, &of_parents)?;
        if live.is_empty() && whose.is_none() {
            let draft = Draft::Related { model: id, filter, aggregate, column_type, comparison };
            return Some(self.fact(parent, text, draft));
        }
        let mut counts = vec![Tree::Fact(known_text(id))];
        if let Some(filter) = filter {
            counts.push(self.property(id, filter)?);
        }
        let whose_text = whose.as_ref().map_or(String::new(), |whose| format!(" whose={}", whose.text()));
        counts.extend(whose);
        let counts = Tree::All(counts);
        let draft = Draft::Tallied { model: id, counts, aggregate, column_type, comparison };
        Some(self.fact(parent, format!("{text}{live}{whose_text}"), draft))
    }

    /// Adds the facts of a condition on keys of `model` that has the conditions of audiences in place of the audiences.
    fn inlined(&mut self, condition: &'a Condition, model: &'a str) -> Option<Tree> {
        let inlines = std::mem::replace(&mut self.inlines, true);
        let tree = self.condition(condition, model);
        self.inlines = inlines;
        tree
    }

    /// Keeps a fact of a model; of equal ones, the one on the first event id.
    fn fact(&mut self, model: &'a str, text: String, draft: Draft<'a>) -> Tree {
        let drafts = self.drafts.entry(model).or_default();
        match (drafts.get_mut(&text), draft) {
            (
                Some(Draft::Performed { event: kept, .. } | Draft::Aggregated { event: kept, .. }),
                Draft::Performed { event, .. } | Draft::Aggregated { event, .. },
            ) => *kept = event.min(*kept),
            (Some(_), _) => {}
            (None, draft) => {
                drafts.insert(text.clone(), draft);
            }
        }
        Tree::Fact(text)
    }
}
