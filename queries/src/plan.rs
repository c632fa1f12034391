//! The plan: what a job compiles to.
//!
//! Equal conditions are one [`Fact`]; audiences are boolean expressions over facts. Everything is addressed by a dense
//! index, in an order that depends on the job's meaning only, and each fact and audience has a fingerprint that stays
//! the same as long as its meaning does, across restarts and edits of the job file.
//!
//! Plan files contain these types: a change of one changes their format ([`crate::plan_file`]).

mod sequence;

use crate::predicate::{ParentColumn, Predicate};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use usher_config::{Aggregate, ColumnType, Comparison, Job, Members, Path};
use usher_core::time::Unit;

pub use self::sequence::{EXCLUDED, EventFilter, Role, SequenceStep};
pub use crate::expr::{AudienceIx, Expr, FactIx};

/// The compiled job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The job as it was read; secrets are still their `${VAR}`.
    pub job: Job,
    /// All models of the job, by id; those that nothing needs have only the fact [`FactKind::Known`], no audiences and
    /// no snapshot.
    pub models: Vec<ModelPlan>,
    /// All events of the job, by id, those without conditions too: a message that matches one is an event. Of events
    /// with the same definition, the first has the facts that their conditions share.
    pub events: Vec<EventPlan>,
}

/// What is kept for the keys of one model, and what is read of its rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelPlan {
    /// The model's id.
    pub id: String,
    /// Who can be a member.
    pub members: Members,
    /// The conditions on its keys, by index. The fact at 0 is always [`FactKind::Known`].
    pub facts: Vec<Fact>,
    /// The audiences over its keys, sorted by id.
    pub audiences: Vec<AudiencePlan>,
    /// The audiences' indexes so that each comes after those it mentions.
    pub order: Vec<AudienceIx>,
    /// How its Parquet is read. `None` if it has none, or if no audience is about its keys and no condition about its
    /// rows: then it is not pulled.
    pub snapshot: Option<SnapshotPlan>,
    /// What is kept of its rows. `None` if nothing is: conditions are decided when a row is read, and only the truth is kept.
    pub rows: Option<RowsPlan>,
}

impl ModelPlan {
    /// Returns whether something depends on which rows its keys have: its audiences, or what is kept of rows.
    pub fn owns_rows(&self) -> bool {
        !self.audiences.is_empty() || self.rows.is_some()
    }

    /// Returns whether each audience holds, by index, given which facts hold for a key.
    pub fn evaluate(&self, fact: impl Fn(FactIx) -> bool) -> Vec<bool> {
        let mut holds = vec![false; self.audiences.len()];
        for ix in &self.order {
            holds[*ix as usize] = self.audiences[*ix as usize].expr.holds(&fact, &|other| holds[other as usize]);
        }
        holds
    }
}

/// A condition on a key that is true or false at any time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// The condition.
    pub kind: FactKind,
    /// Its identity: a hash of its canonical text.
    pub fingerprint: [u8; 16],
    /// The canonical text.
    pub text: String,
    /// Its truth for a key of which nothing is known.
    pub default: bool,
}

/// The kinds of facts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FactKind {
    /// The key is in the snapshot in force.
    Known,
    /// The number of events in the window lies in a range.
    Performed {
        /// Index in [`Plan::events`].
        event: u32,
        /// Index in [`EventPlan::filters`].
        filter: u32,
        /// The window, ms.
        within: u64,
        /// The least count that holds.
        least: u64,
        /// The greatest count that holds, `None` if there is no bound. Below `least` if no count holds.
        most: Option<u64>,
    },
    /// A predicate on the key's row; without a row, false.
    Property(Predicate),
    /// An aggregate over the rows of a model that belongs to this one.
    Related {
        /// Index in [`Plan::models`].
        model: u32,
        /// Which rows; all if `None`.
        filter: Option<Predicate>,
        /// The aggregate.
        aggregate: Aggregate,
        /// The type of the aggregate's column, `None` for the count.
        column_type: Option<ColumnType>,
        /// What the aggregate is compared with.
        comparison: Comparison,
    },
    /// An aggregate over the rows of a model that belongs to this one and whose rows are kept: their owners send what each contributes.
    Tallied {
        /// Index in [`Plan::models`].
        model: u32,
        /// The aggregate.
        aggregate: Aggregate,
        /// What the aggregate is compared with.
        comparison: Comparison,
        /// Whether events in a window decide which rows count.
        windowed: bool,
        /// Whether rows may begin or cease to count at times that are known ahead, by their owners: windows and `now()` decide it, or events
        /// that set live columns wait.
        timed: bool,
    },
    /// An aggregate of a column over the events in the window.
    Aggregated {
        /// Index in [`Plan::events`].
        event: u32,
        /// Index in [`EventPlan::filters`].
        filter: u32,
        /// Index in [`EventPlan::values`].
        value: u32,
        /// The window, ms.
        within: u64,
        /// The aggregate, never the count.
        aggregate: Aggregate,
        /// What the aggregate is compared with.
        comparison: Comparison,
    },
    /// Events that match the steps in order, all in the window, with no excluded one between the first and the last.
    Sequence {
        /// Two or more.
        steps: Vec<SequenceStep>,
        /// The events that may not lie in between, in canonical order.
        without: Vec<EventFilter>,
        /// The window, ms.
        within: u64,
    },
}

/// An audience over facts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AudiencePlan {
    /// The audience's id.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// A hash of its meaning: its condition and those of the audiences it mentions.
    pub fingerprint: [u8; 16],
    /// Who belongs. For `members: known` the outermost is `All([Fact(0), ..])`.
    pub expr: Expr,
}

/// What is read of a kind of message, and what it decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventPlan {
    /// The event's id.
    pub id: String,
    /// The ids of its sources: at least one, sorted.
    pub sources: Vec<String>,
    /// The message's type; any if `None`.
    pub kind: Option<String>,
    /// The message's names, sorted; any if empty.
    pub names: Vec<String>,
    /// Index in [`Plan::models`] of the parent model.
    pub model: u32,
    /// Where the key is; the format's user id if `None`.
    pub foreign_key: Option<Path>,
    /// Where the time is; the format's time if `None`.
    pub timestamp: Option<Path>,
    /// The properties that some filter reads, sorted by name.
    pub columns: Vec<EventColumn>,
    /// The distinct filters of conditions on this event.
    pub filters: Vec<Filter>,
    /// All facts on this event, in order: a matched event names them by position in this list. A sequence has a position for each
    /// of its filters on this event. A position that no filter has means nothing.
    pub facts: Vec<FactIx>,
    /// The live columns that it sets.
    pub traits: Vec<TraitPlan>,
    /// What a message must fulfil to set them: the predicate that all its conditions share.
    pub shared: Option<Predicate>,
}

/// A live column that an event sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraitPlan {
    /// Index in [`RowsPlan::live`] of the event's model.
    pub live: u32,
    /// Index in [`EventPlan::columns`] of the value.
    pub column: u32,
}

/// A property to read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventColumn {
    /// Its name in predicates.
    pub name: String,
    /// Where it is.
    pub path: Path,
    /// Its type.
    pub column_type: ColumnType,
    /// What its numbers count, of a timestamp; `None`: their magnitude decides.
    pub unit: Option<Unit>,
}

/// A filter on an event and the facts that count what passes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filter {
    /// Everything passes if `None`.
    pub predicate: Option<Predicate>,
    /// Positions in [`EventPlan::facts`].
    pub facts: Vec<u32>,
}

impl FactKind {
    /// Returns how many events per key, the newest ones, decide a [`FactKind::Performed`]. `None` for other kinds.
    ///
    /// It is one more than the greatest count that holds, which shows that there are too many; without such a bound it
    /// is the least count, which shows that there are enough.
    pub fn newest(&self) -> Option<u64> {
        match self {
            FactKind::Performed { least, most, .. } => Some(most.map_or(*least, |most| most + 1)),
            FactKind::Known
            | FactKind::Property(_)
            | FactKind::Related { .. }
            | FactKind::Tallied { .. }
            | FactKind::Aggregated { .. }
            | FactKind::Sequence { .. } => None,
        }
    }

    /// Returns the window of a fact that events decide, ms. `None` for other kinds.
    pub fn window(&self) -> Option<u64> {
        match self {
            FactKind::Performed { within, .. }
            | FactKind::Aggregated { within, .. }
            | FactKind::Sequence { within, .. } => Some(*within),
            FactKind::Known | FactKind::Property(_) | FactKind::Related { .. } | FactKind::Tallied { .. } => None,
        }
    }

    /// Returns the events that decide a fact, as indexes in [`Plan::events`], each once.
    pub fn events(&self) -> Vec<u32> {
        match self {
            FactKind::Sequence { steps, without, .. } => {
                let of = steps.iter().map(|step| step.of).chain(without.iter().copied());
                of.map(|of| of.event).collect::<BTreeSet<u32>>().into_iter().collect()
            }
            FactKind::Performed { event, .. } | FactKind::Aggregated { event, .. } => vec![*event],
            FactKind::Known | FactKind::Property(_) | FactKind::Related { .. } | FactKind::Tallied { .. } => Vec::new(),
        }
    }
}

impl EventPlan {
    /// Returns whether more events that pass a filter can only raise the sum: its condition lets no negative number through.
    pub fn sum_only_rises(&self, filter: u32, aggregate: &Aggregate) -> bool {
        let predicate = self.filters[filter as usize].predicate.as_ref();
        matches!(aggregate, Aggregate::Sum(column) if predicate.is_some_and(|of| of.excludes_negative_numbers(column)))
    }

    /// Returns the values that a matched event carries: those that aggregates of `model`, the event's own, take.
    pub fn values(&self, model: &ModelPlan) -> Vec<EventValue> {
        let mut values: Vec<EventValue> = Vec::new();
        for (position, fact) in self.facts.iter().enumerate() {
            let FactKind::Aggregated { value, aggregate, .. } = &model.facts[*fact as usize].kind else { continue };
            // Facts are in the order in which values got their index.
            if values.len() == *value as usize {
                values.push(EventValue { aggregate: aggregate.clone(), facts: Vec::new() });
            }
            values[*value as usize].facts.push(position as u32);
        }
        values
    }
}

/// A value that a matched event carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventValue {
    /// An aggregate that takes it; others that take it have the same column and read it alike.
    pub aggregate: Aggregate,
    /// The facts that take it, as positions in [`EventPlan::facts`].
    pub facts: Vec<u32>,
}

/// What is kept of each row of a model, because something else than a pull changes rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowsPlan {
    /// The columns that conditions read or messages carry, sorted by name.
    pub columns: Vec<(String, ColumnType)>,
    /// Those that messages carry, as indexes in `columns`.
    pub include: Vec<u32>,
    /// Those that events set.
    pub live: Vec<LivePlan>,
    /// The model that the rows belong to. `None` if no row contributes to a condition there, and nothing reads columns of its rows through
    /// these.
    pub parent: Option<ParentPlan>,
    /// The conditions of the parent model that rows contribute to.
    pub contributions: Vec<ContributionPlan>,
    /// The columns of parents that conditions on these rows read, or those on rows that belong to these, sorted.
    pub inherited: Vec<InheritedColumn>,
}

/// A column of a parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InheritedColumn {
    /// Which one.
    pub column: ParentColumn,
    /// Where the parent's row has it: an index in its [`RowsPlan::columns`], and behind them in its [`RowsPlan::inherited`].
    pub of: u32,
    /// Whether events may set it, or a foreign key on the way to it behind the row's own.
    pub is_live: bool,
}

/// The model that rows belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentPlan {
    /// Index in [`Plan::models`].
    pub model: u32,
    /// Index in [`RowsPlan::live`] of the foreign key, if events set it.
    pub live: Option<u32>,
}

impl Plan {
    /// Returns what rows of a model contribute to a fact of the model that they belong to.
    ///
    /// # Panics
    ///
    /// Panics if they contribute nothing to it.
    pub fn contribution(&self, child: usize, fact: FactIx) -> &ContributionPlan {
        let rows = self.models[child].rows.as_ref().expect("rows that contribute are kept");
        rows.contributions.iter().find(|of| of.fact == fact).expect("a fact has what rows contribute to it")
    }

    /// Returns the facts that decide a fact, each with its model: the fact itself; where rows count by their own key, those that decide
    /// whether they do, down to what events and pulls decide.
    pub fn deciding(&self, model: usize, fact: FactIx) -> Vec<(usize, FactIx)> {
        let FactKind::Tallied { model: child, .. } = &self.models[model].facts[fact as usize].kind else {
            return vec![(model, fact)];
        };
        let child = *child as usize;
        let mut deciding = Vec::new();
        let counts = &self.contribution(child, fact).counts;
        counts.leaves(&mut |of_row| deciding.extend(self.deciding(child, of_row)), &mut |_| ());
        deciding
    }

    /// Returns the models whose snapshots may decide a fact: those of the rows that it reads or counts, and those that such rows belong to.
    pub fn pulled_for(&self, model: usize, fact: FactIx) -> Vec<usize> {
        let mut pulled = Vec::new();
        let rows = |of: usize| std::iter::successors(Some(of), |of| self.parent(*of));
        match &self.models[model].facts[fact as usize].kind {
            FactKind::Known | FactKind::Property(_) => pulled.extend(rows(model)),
            FactKind::Related { model: child, .. } => pulled.extend(rows(*child as usize)),
            FactKind::Tallied { model: child, .. } => {
                pulled.extend(rows(*child as usize));
                let counts = &self.contribution(*child as usize, fact).counts;
                counts.leaves(&mut |of_row| pulled.extend(self.pulled_for(*child as usize, of_row)), &mut |_| ());
            }
            _ => {}
        }
        pulled
    }

    /// Returns the model that the rows of a model belong to, if a condition is about them.
    fn parent(&self, model: usize) -> Option<usize> {
        Some(self.models[model].snapshot.as_ref()?.parent.as_ref()?.0 as usize)
    }
}

/// What a row contributes to a condition of its parent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContributionPlan {
    /// The fact of the parent model, [`FactKind::Tallied`].
    pub fact: FactIx,
    /// Whether the row counts: over the facts of its own key.
    pub counts: Expr,
    /// The aggregate.
    pub aggregate: Aggregate,
    /// Index in [`RowsPlan::columns`] of the column that it takes; `None` for the count.
    pub column: Option<u32>,
}

/// A column of a model that events set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LivePlan {
    /// Index in [`RowsPlan::columns`].
    pub column: u32,
    /// Index in [`Plan::events`].
    pub event: u32,
    /// The event's property with the value.
    pub property: String,
    /// The identity of its values: a hash of the canonical text.
    pub fingerprint: [u8; 16],
}

/// How a model's Parquet is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotPlan {
    /// Where it is: the identity of [`usher_config::Parquet`].
    pub parquet: String,
    /// The column of the key.
    pub key: String,
    /// The columns that some condition reads, with the type they are read as, sorted by name.
    pub columns: Vec<(String, ColumnType)>,
    /// The columns that some sync with an audience of this model includes in its messages, with the type they are read
    /// as, sorted by name.
    pub include: Vec<(String, ColumnType)>,
    /// The index in [`Plan::models`] of the model that the rows belong to, and the column with its key. `None` if no
    /// condition is about the rows.
    pub parent: Option<(u32, String)>,
}
