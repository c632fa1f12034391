//! The plan: what a job compiles to.
//!
//! Equal conditions are one [`Fact`]; audiences are boolean expressions over facts. Everything is addressed by a dense
//! index, in an order that depends on the job's meaning only, and each fact and audience has a fingerprint that stays
//! the same as long as its meaning does, across restarts and edits of the job file.

use crate::predicate::Predicate;
use serde::{Deserialize, Serialize};
use usher_config::{Aggregate, ColumnType, Comparison, Job, Members, Path};

/// A fact's index within its model.
pub type FactIx = u32;
/// An audience's index within its model.
pub type AudienceIx = u32;

/// The compiled job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The job as it was read; secrets are still their `${VAR}`.
    pub job: Job,
    /// Parent models (those with audiences or events) and models that belong to them, by id.
    pub models: Vec<ModelPlan>,
    /// All events of the job, by id, those without conditions too: they decide what matches.
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
    /// How its Parquet is read; none: it has none.
    pub snapshot: Option<SnapshotPlan>,
}

/// A condition on a key that is true or false at any time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// What it says.
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
        /// The greatest count that holds; none: no bound.
        most: Option<u64>,
    },
    /// A predicate on the key's row; without a row, false.
    Property(Predicate),
    /// An aggregate over the rows of a model that belongs to this one.
    Related {
        /// Index in [`Plan::models`].
        model: u32,
        /// Which rows; none: all.
        filter: Option<Predicate>,
        /// Of what.
        aggregate: Aggregate,
        /// The type of the aggregate's column; none for count.
        column_type: Option<ColumnType>,
        /// Against what.
        comparison: Comparison,
    },
}

/// An audience over facts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AudiencePlan {
    /// The audience's id.
    pub id: String,
    /// What people see as its name.
    pub name: String,
    /// A hash of its meaning: its condition and those of the audiences it mentions.
    pub fingerprint: [u8; 16],
    /// Who belongs. For `members: known` the outermost is `All([Fact(0), ..])`.
    pub expr: Expr,
}

/// A boolean expression over facts and other audiences of the model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Expr {
    All(Vec<Expr>),
    Any(Vec<Expr>),
    Not(Box<Expr>),
    Fact(FactIx),
    Audience(AudienceIx),
}

/// What is read of a kind of message, and what it decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventPlan {
    /// The event's id.
    pub id: String,
    /// The source's id.
    pub source: String,
    /// The message's type; none: any.
    pub kind: Option<String>,
    /// The message's name; none: any.
    pub name: Option<String>,
    /// Index in [`Plan::models`] of the parent model.
    pub model: u32,
    /// Where the key is; none: the format's user id.
    pub foreign_key: Option<Path>,
    /// Where the time is; none: the format's.
    pub timestamp: Option<Path>,
    /// The properties that some filter reads, sorted by name.
    pub columns: Vec<EventColumn>,
    /// The distinct filters of conditions on this event.
    pub filters: Vec<Filter>,
    /// All facts on this event, in order: a hit names them by position in this list.
    pub facts: Vec<FactIx>,
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
}

/// A filter on an event and the facts that count what passes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filter {
    /// None: everything passes.
    pub predicate: Option<Predicate>,
    /// Positions in [`EventPlan::facts`].
    pub facts: Vec<u32>,
}

/// How a model's Parquet is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotPlan {
    /// Where: as written in the job.
    pub parquet: String,
    /// The column of the key.
    pub key: String,
    /// The columns that some condition reads, with the type they are read as, sorted by name.
    pub columns: Vec<(String, ColumnType)>,
    /// For a model that belongs to another: the parent's index in [`Plan::models`] and the column with its key.
    pub parent: Option<(u32, String)>,
}
