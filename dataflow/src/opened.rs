//! A job with everything opened: what [`crate::run()`] takes.

use crate::api::JobApi;
use crate::cluster::Cluster;
use crate::time::Span;
use std::sync::Arc;
use std::time::Duration;
use usher_core::catalog::Catalog;
use usher_core::clock::Clock;
use usher_core::dead_letters::DeadLetters;
use usher_core::ledger::Ledger;
use usher_core::sink::Sink;
use usher_core::source::Source;
use usher_core::store::Store;
use usher_core::warehouse::Warehouse;
use usher_queries::plan::Plan;

/// A job with everything opened, ready to run.
pub struct OpenedJob {
    /// What it means.
    pub plan: Plan,
    /// From where to where its clock goes.
    pub span: Span,
    /// The time: of the clock under [`Span::Live`]; beyond which a message is of the future under [`Span::Replay`].
    pub clock: Arc<dyn Clock>,
    /// Its sources, by id.
    pub sources: Vec<(String, Box<dyn Source>)>,
    /// The warehouse of each model of the plan that has one, by index.
    pub warehouses: Vec<Option<Box<dyn Warehouse>>>,
    /// Where changes go, in the order of the job's syncs. They come in order of (time, audience, key), epoch by epoch.
    pub sinks: Vec<Box<dyn Sink>>,
    /// The audiences as messages name them, with those that the job no longer has but a ledger has.
    pub catalog: Arc<Catalog>,
    /// What an earlier run left behind, and where to leave it; `None` if no state is kept.
    pub recovery: Option<Recovery>,
    /// The other processes, if there are any.
    pub cluster: Option<Cluster>,
    /// Where bad messages go.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// What the HTTP edge asks; `None` if there is no API.
    pub api: Option<Arc<JobApi>>,
    /// Worker threads of this process, at least 1.
    pub workers: usize,
    /// Cores for this process: where there are more than workers, more threads than one read a pull for each.
    pub cores: usize,
}

/// What a job is started for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// To run.
    #[default]
    Run,
    /// To work out what a start would send, from sources and models as they are. Nothing is written; the job has no sinks, and goes
    /// on until it is stopped.
    Foresee,
    /// The same from what the state has alone: no source is read, and no model is pulled. Conditions that the state lacks are those of
    /// a key of which nothing is known.
    ForeseeByState,
}

/// What an earlier run left behind, and where to leave it.
pub struct Recovery {
    /// What the job is started for.
    pub purpose: Purpose,
    /// Where state is kept.
    pub store: Arc<dyn Store>,
    /// A random number of this start: parts that it stores have it in their names.
    pub incarnation: u64,
    /// The number and the bytes of the manifest that claimed the state for this run. In the first process only.
    pub claim: Option<(u64, Vec<u8>)>,
    /// The ledger of each sync, in the order of the job. In the first process only.
    pub ledgers: Vec<Ledger>,
    /// How often a checkpoint is made.
    pub checkpoint_every: Duration,
    /// Partitions that are not what was read are read from where they are entered, instead of ending the job.
    pub restart_sources: bool,
    /// Where the state's clock is ahead of the machine's, go on from the machine's.
    pub clock_from_now: bool,
}
