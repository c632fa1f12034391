//! The seam to what only the running job knows: a trait, and what it answers with.
//!
//! Membership itself is in the published index; everything else comes from here. Methods that return at once are called on
//! the server's threads for each request and must not wait; what needs a worker returns a future, which the server gives up
//! on after its patience. Sizes and counts of audiences are the index's.

use crate::counts::Counts;
use crate::message::write_time;
pub use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};

/// What the server asks the running job.
///
/// Ids of models and audiences that are handed in are the job's.
pub trait Api: Send + Sync + 'static {
    /// Whether the job is live.
    fn readiness(&self) -> Readiness;

    /// The models, by id.
    fn models(&self) -> Vec<ModelStatus>;

    /// The pulls of a model, the newest first; as many as are remembered.
    fn pulls(&self, model: &str) -> Vec<Pull>;

    /// Starts a pull. Answers when it is accepted, not when it is done.
    fn pull_now(&self, model: &str, extent: Extent) -> BoxFuture<'static, Result<(), ApiError>>;

    /// What is known of the audiences, by id.
    fn audiences(&self) -> Vec<AudienceState>;

    /// Why a key is in the audiences of its model or not: in one of them, or in all, by id.
    fn explain(
        &self,
        model: &str,
        key: &str,
        audience: Option<&str>,
    ) -> BoxFuture<'static, Result<Explanation, ApiError>>;

    /// The members of an audience, at most `limit` of them, from the start or where an earlier page's cursor says.
    ///
    /// While membership does not change, pages that follow each other's cursors hold every member once.
    fn members(&self, audience: &str, cursor: Option<&str>, limit: usize)
    -> BoxFuture<'static, Result<Page, ApiError>>;

    /// How the syncs stand, by id.
    fn syncs(&self) -> Vec<SyncReport>;

    /// What is measured.
    fn metrics(&self) -> Metrics;

    /// What has matched each event of the job, by id.
    fn events(&self) -> Vec<EventReport>;

    /// What has come in of each source, by id.
    fn sources(&self) -> Vec<SourceReport>;

    /// The `host:port` of the process that owns a key of a model; none: this one.
    fn owner(&self, model: &str, key: &str) -> Option<String>;

    /// The `host:port` of every process of the job, by number; none: this one, which there is once.
    fn processes(&self) -> Vec<Option<String>> {
        vec![None]
    }
}

/// Why the job does not do or answer something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// There is no such thing: what, in words. 404.
    #[error("{0}")]
    NotFound(String),
    /// The request can't be understood: a cursor that is none. 400.
    #[error("{0}")]
    Wrong(String),
    /// Not now: a pull is running, a model is never pulled. 409.
    #[error("{0}")]
    Conflict(String),
    /// Not yet, or no more. 503.
    #[error("{0}")]
    Unavailable(String),
}

/// A time, in ms since the epoch. RFC 3339 in UTC with ms where it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = Vec::with_capacity(24);
        write_time(&mut text, self.0);
        f.write_str(std::str::from_utf8(&text).expect("digits are UTF-8"))
    }
}

impl Serialize for Moment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl utoipa::PartialSchema for Moment {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String);
        text.format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).into()
    }
}

impl ToSchema for Moment {}

/// Whether the job is live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Readiness {
    /// It is: what downstream hears is what holds now.
    pub ready: bool,
    /// If not, what is being done.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub detail: Option<String>,
}

/// How new a model's snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub enum Freshness {
    /// The last pull succeeded, and the next is not overdue.
    Current,
    /// A pull is running.
    Refreshing,
    /// The last pull failed or is overdue.
    Stale,
    /// It was never pulled.
    Pending,
}

impl Freshness {
    /// All.
    pub const ALL: [Freshness; 4] = [Freshness::Current, Freshness::Refreshing, Freshness::Stale, Freshness::Pending];

    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Freshness::Current => "Current",
            Freshness::Refreshing => "Refreshing",
            Freshness::Stale => "Stale",
            Freshness::Pending => "Pending",
        }
    }
}

/// A model and its snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ModelStatus {
    /// Its id.
    pub id: String,
    /// How new its snapshot is.
    pub freshness: Freshness,
    /// How often it is pulled: a duration, `manual`, or `never` for a model without Parquet.
    pub refresh: String,
    /// When the snapshot in force was pulled.
    pub last_pull: Option<Moment>,
    /// When the next pull is due.
    pub next_pull: Option<Moment>,
    /// Rows of the snapshot in force.
    pub rows: Option<u64>,
    /// Why the last pull failed.
    pub last_error: Option<String>,
}

/// How much a pull reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// Files that changed.
    #[default]
    Partial,
    /// All files.
    Full,
}

/// How a pull ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PullResult {
    /// It has not.
    Running,
    /// It is in force.
    Succeeded,
    /// The last good snapshot stays in force.
    Failed,
}

/// What caused a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The start of the job.
    Start,
    /// `refresh`.
    Schedule,
    /// Somebody asked for it.
    Request,
}

/// A pull of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Pull {
    /// When it began.
    pub date: Moment,
    /// How it ended.
    pub status: PullResult,
    /// What caused it.
    pub trigger: Trigger,
    /// How much it read.
    pub extent: Extent,
    /// How long it took; none while it runs.
    pub duration_ms: Option<u64>,
    /// Rows that it read.
    pub rows: Option<u64>,
    /// Keys for which something changed.
    pub changed_keys: Option<u64>,
    /// Why it failed.
    pub error: Option<String>,
}

/// What the index does not know of an audience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudienceState {
    /// Its id.
    pub id: String,
    /// How new the oldest of the snapshots is that decide it.
    pub freshness: Freshness,
    /// Whether its windows are filled.
    pub windows: Windows,
}

/// Whether the windows of an audience hold all that they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Windows {
    /// They do.
    pub complete: bool,
    /// When they will, if not.
    pub complete_at: Option<Moment>,
}

/// Why a key is in audiences or not.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Explanation {
    /// The model's id.
    pub parent_model_id: String,
    /// The key.
    pub user_id: String,
    /// What it is as of.
    pub as_of: Moment,
    /// Whether the key has a row in the snapshot in force.
    pub in_snapshot: bool,
    /// By audience.
    pub audiences: Vec<ExplainedAudience>,
}

/// Why a key is in an audience or not.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ExplainedAudience {
    /// The audience's id.
    pub audience_id: String,
    /// What people see as its name.
    pub audience_name: String,
    /// Whether the key is in it.
    pub member: bool,
    /// When that will change by itself, if nothing else happens.
    pub changes_at: Option<Moment>,
    /// Why.
    pub condition: ExplainedCondition,
}

/// A condition, and how it stands for a key.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(no_recursion)]
pub struct ExplainedCondition {
    /// `all`, `any`, `not`, `audience`, `property`, `performed`, `related` or `sequence`.
    pub kind: String,
    /// As in the job file.
    pub text: String,
    /// Whether it holds.
    pub holds: bool,
    /// What is compared, where it is kept: a count; `3 or more` where no more than 3 events can decide.
    pub value: Option<serde_json::Value>,
    /// With what, as in the job file: `at_least 3`.
    pub threshold: Option<String>,
    /// The times of the events that count now, from the oldest to the newest: as many as can decide.
    pub events: Vec<Moment>,
    /// When it will change by itself, if nothing else happens.
    pub changes_at: Option<Moment>,
    /// The conditions inside.
    pub conditions: Vec<ExplainedCondition>,
}

/// A page of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// What it is as of.
    pub as_of: Moment,
    /// The keys, in the engine's order.
    pub keys: Vec<String>,
    /// What to ask for the next page with; none: this is the last.
    pub next_cursor: Option<String>,
}

/// How a sync stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SyncReport {
    /// Its id.
    pub id: String,
    /// Changes that were committed to it since the start.
    pub committed: u64,
    /// Changes that have reached the destination since the start.
    pub delivered: u64,
    /// Changes that wait to be delivered.
    pub waiting: u64,
    /// Deliveries that were tried again.
    pub retries: u64,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Changes given up, in the dead letters.
    pub dead_letters: u64,
}

impl SyncReport {
    /// How the sync `id` stands, in the words of its sink.
    pub fn of(id: &str, standing: &crate::sink::SyncStatus) -> SyncReport {
        SyncReport {
            id: id.to_owned(),
            committed: standing.committed,
            delivered: standing.written.entries + standing.written.exits,
            waiting: standing.waiting,
            retries: standing.retries,
            last_error: standing.last_error.clone(),
            dead_letters: standing.dead_letters,
        }
    }
}

/// What has matched an event of the job in this process since the start.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct EventReport {
    /// The event's id.
    pub id: String,
    /// Its source's id.
    pub source: String,
    /// Messages that match it, repeats included.
    pub matched: u64,
    /// Those of them that repeat one that is held.
    pub repeats: u64,
    /// The greatest timestamp of them; null if none has matched.
    pub last_seen: Option<Moment>,
    /// Types and names that no event matches and that differ from this event's by case or a letter.
    pub near: Vec<String>,
}

/// What has come in of a source in this process since the start.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct SourceReport {
    /// The source's id.
    pub id: String,
    /// Its partitions, by name.
    pub partitions: Vec<PartitionReport>,
    /// All messages.
    pub read: u64,
    /// Those that match an event.
    pub matched: u64,
    /// Those that have no part in anything, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Those that can't be used, by reason.
    pub dead_letters: BTreeMap<String, u64>,
    /// Types and names that no event matches, the most frequent first, at most 100. Beyond 10,000 messages their counts are estimates.
    pub unmatched: Vec<UnmatchedName>,
    /// The files that are damaged in the middle, and how; what comes before counts.
    pub damaged_files: Vec<String>,
}

/// How far a partition has been read.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct PartitionReport {
    /// The partition's name.
    pub name: String,
    /// Where the next message starts.
    pub position: u64,
    /// Messages that are there and have not been read; null if that is not known.
    pub lag_messages: Option<u64>,
    /// How far the newest message that was read is behind the clock, ms; null if nothing was read.
    pub lag_ms: Option<u64>,
}

/// A type and a name that no event matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct UnmatchedName {
    /// The messages' type, if they have one.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The messages' name, if they have one.
    pub name: Option<String>,
    /// How many there are.
    pub count: u64,
}

/// What is measured besides what the other methods tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// What became of messages, by source.
    pub messages: Vec<(String, Counts)>,
    /// How far partitions have been read.
    pub partitions: Vec<PartitionMetrics>,
    /// Files that are damaged in the middle, by source: what comes before counts.
    pub damaged_files: Vec<(String, u64)>,
    /// Bytes of state.
    pub state_bytes: u64,
}

/// How far a partition has been read.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionMetrics {
    /// The source's id.
    pub source: String,
    /// The partition's name.
    pub partition: String,
    /// Where the next message starts.
    pub position: u64,
    /// Messages that are there and have not been read; none: not known.
    pub lag_messages: Option<u64>,
    /// How far the newest message that was read is behind the wall clock, ms; none: nothing was read.
    pub lag_ms: Option<u64>,
}
