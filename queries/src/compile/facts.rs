//! Conditions become facts: equal ones are one, whichever audiences they stand in.
//!
//! The facts of sequences are in `facts/sequence.rs`.
//!
//! Facts are addressed by their canonical text until all are found and [`layout`](super::layout) gives them indexes.

mod sequence;

pub(super) use self::sequence::{FilteredEvent, SequenceDraft};
use super::Schemas;
use super::canonical::{aggregated_text, count_comparison, count_range, performed_text, property_text, related_text};
use super::columns::Columns;
use crate::plan::{AudienceIx, Expr, FactIx};
use crate::predicate::Predicate;
use std::collections::BTreeMap;
use usher_config::{Aggregate, Audience, ColumnType, Comparison, Condition, ConditionKind, Event, Job, Place, Text};

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
        /// Of the first condition.
        place: &'a Place,
    },
}

/// Facts by model id, then by canonical text.
pub(super) type Drafts<'a> = BTreeMap<&'a str, BTreeMap<String, Draft<'a>>>;

/// A condition whose facts are still their canonical text, and whose audiences are still their id.
pub(super) enum Tree {
    All(Vec<Tree>),
    Any(Vec<Tree>),
    Not(Box<Tree>),
    Fact(String),
    Audience(String),
}

impl Tree {
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
}

impl<'a> Facts<'a> {
    pub(super) fn new(job: &'a Job, schemas: &'a Schemas) -> Facts<'a> {
        Facts { job, columns: Columns::new(job, schemas), shared: BTreeMap::new(), drafts: Drafts::new() }
    }

    /// Adds the facts of a condition of `audience`. `None` if a predicate or a column is wrong, which is reported.
    pub(super) fn condition(&mut self, condition: &'a Condition, audience: &'a Audience) -> Option<Tree> {
        match &condition.kind {
            ConditionKind::All(children) => Some(Tree::All(self.conditions(children, audience)?)),
            ConditionKind::Any(children) => Some(Tree::Any(self.conditions(children, audience)?)),
            ConditionKind::Not(child) => Some(Tree::Not(Box::new(self.condition(child, audience)?))),
            ConditionKind::Audience(id) => {
                let mentioned = self.job.audiences.get(id).expect("config resolves the audiences of conditions");
                assert_eq!(mentioned.model, audience.model, "config lets audiences mention those of their model only");
                Some(Tree::Audience(id.clone()))
            }
            ConditionKind::Property(text) => {
                let predicate = self.columns.model_predicate(&audience.model, text)?;
                let live = self.live_columns_text(&audience.model, &predicate)?;
                let text = property_text(&audience.model, &predicate, &live);
                Some(self.fact(audience, text, Draft::Property(predicate)))
            }
            ConditionKind::Performed { event, filter, aggregate, comparison, within } => {
                self.performed(audience, event, filter.as_ref(), (aggregate, comparison), *within)
            }
            ConditionKind::Sequence { steps, without, within } => self.sequence(audience, steps, without, *within),
            ConditionKind::Related { model, filter, aggregate, comparison } => {
                self.related(audience, &condition.place, model, filter.as_ref(), aggregate, comparison)
            }
        }
    }

    /// Adds the facts of all conditions, of those after a wrong one too.
    fn conditions(&mut self, conditions: &'a [Condition], audience: &'a Audience) -> Option<Vec<Tree>> {
        let trees: Vec<_> = conditions.iter().map(|condition| self.condition(condition, audience)).collect();
        trees.into_iter().collect()
    }

    fn performed(
        &mut self,
        audience: &'a Audience,
        event: &str,
        filter: Option<&Text>,
        (aggregate, comparison): (&'a Aggregate, &Comparison),
        within: u64,
    ) -> Option<Tree> {
        let (id, event, filter) = self.filtered(audience, event, filter)?;
        if *aggregate == Aggregate::Count {
            let (least, most) = count_range(comparison);
            let text = performed_text(event, filter.as_ref(), (least, most), within);
            return Some(self.fact(audience, text, Draft::Performed { event: id, filter, within, least, most }));
        }
        let comparison = match aggregate {
            Aggregate::Distinct(_) => count_comparison(comparison),
            _ => *comparison,
        };
        let text = aggregated_text(event, filter.as_ref(), aggregate, &comparison, within);
        Some(self.fact(audience, text, Draft::Aggregated { event: id, filter, within, aggregate, comparison }))
    }

    /// Returns an event of a condition with the predicate that its events fulfil: that of the condition and that of the event.
    fn filtered(
        &mut self,
        audience: &Audience,
        event: &str,
        filter: Option<&Text>,
    ) -> Option<(&'a str, &'a Event, Option<Predicate>)> {
        let (id, event) = self.job.events.get_key_value(event).expect("config resolves the events of conditions");
        assert_eq!(event.model, audience.model, "config lets audiences count events of their model only");
        // Both are checked, so that what is wrong with either is reported at once.
        let own = filter.map(|text| self.columns.event_predicate(event, text).ok_or(())).transpose();
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
                Some(text) => self.columns.event_predicate(&job.events[event], text).map(Some),
            };
            self.shared.insert(event, shared);
        }
        self.shared[event].clone()
    }

    fn related(
        &mut self,
        audience: &'a Audience,
        place: &'a Place,
        model: &str,
        filter: Option<&Text>,
        aggregate: &'a Aggregate,
        comparison: &Comparison,
    ) -> Option<Tree> {
        let (id, related) = self.job.models.get_key_value(model).expect("config resolves the models of conditions");
        let belongs_to = related.belongs_to.as_ref().expect("config lets only models that belong to one be related");
        assert_eq!(belongs_to.model, audience.model, "config lets a model be related to the one it belongs to only");
        // Both are checked, so that what is wrong with either is reported at once.
        let filter = filter.map(|text| self.columns.model_predicate(id, text).ok_or(())).transpose();
        let column_type = self.columns.aggregate_type(id, aggregate, place);
        let (filter, column_type) = (filter.ok()?, column_type.ok()?);
        let comparison = match aggregate {
            Aggregate::Count => count_comparison(comparison),
            _ => *comparison,
        };
        let text = related_text(id, related, (aggregate, column_type), &comparison, filter.as_ref());
        let draft = Draft::Related { model: id, filter, aggregate, column_type, comparison, place };
        Some(self.fact(audience, text, draft))
    }

    /// Keeps a fact on the audience's model; of equal ones, the one on the first event id.
    fn fact(&mut self, audience: &'a Audience, text: String, draft: Draft<'a>) -> Tree {
        let drafts = self.drafts.entry(&audience.model).or_default();
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
