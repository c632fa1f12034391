//! The port from the HTTP edge to the running job: the trait [`Api`], and the types of its answers.
//!
//! Membership, sizes and counts of audiences are in the membership index; everything else comes from here. Methods that return
//! a value are called on the server's threads for each request and must not wait; methods that need a worker return a future, which
//! the server drops after its time limit. Types with a schema are part of the API: their comments are its description.

use crate::counts::Counts;
use crate::delivery::{DeliveryOrder, DeliveryReply};
use crate::edit::EditReport;
pub use crate::reply::{ApiError, BoxFuture, Moment};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The running job, for the server. May be called from any thread.
///
/// Callers pass ids of models and audiences that the job has.
pub trait Api: Send + Sync + 'static {
    // Readiness and metrics.

    /// Returns whether the job is live.
    fn readiness(&self) -> Readiness;

    // Snapshots.

    /// Returns the models, by id.
    fn models(&self) -> Vec<ModelStatus>;

    /// Returns the pulls of a model, the newest first, as far back as they are kept.
    fn pulls(&self, model: &str) -> Vec<Pull>;

    /// Starts a pull. The future ends when the pull is accepted, not when the pull ends. Returns the number that it gets, or a smaller one
    /// if others begin before it.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] if a pull is running or was asked for, or the model has nothing to pull.
    fn pull_now(&self, model: &str, order: PullOrder) -> BoxFuture<'static, Result<u64, ApiError>>;

    // Members.

    /// Returns freshness and windows of audiences of the job, in the order of `ids`; without it of all, by id.
    fn audiences(&self, ids: Option<&[String]>) -> Vec<AudienceState>;

    /// Explains why a key is in an audience of its model or not; without an audience, in each of them, by id.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] if the job has nothing of the key.
    fn explain(
        &self,
        model: &str,
        key: &str,
        audience: Option<&str>,
    ) -> BoxFuture<'static, Result<Explanation, ApiError>>;

    /// Returns at most `limit` members of an audience, from the start or after the page whose cursor is given.
    ///
    /// While membership does not change, pages that follow each other's cursors hold every member once.
    ///
    /// # Errors
    /// [`ApiError::Wrong`] if the cursor is malformed.
    fn members(&self, audience: &str, cursor: Option<&str>, limit: usize)
    -> BoxFuture<'static, Result<Page, ApiError>>;

    /// Keeps the clock of an idle job going for a while, so that answers are as of now; returns whether it stood.
    fn wake(&self) -> bool {
        false
    }

    /// Counts the keys that meet each condition of an audience, and its members that will leave by themselves.
    fn definition(&self, audience: &str) -> BoxFuture<'static, Result<Definition, ApiError>>;

    // The job.

    /// Returns what runs: the plan, its state, and how far it is.
    fn job(&self) -> JobReport;

    // Syncs.

    /// Returns the syncs, by id.
    fn syncs(&self) -> Vec<SyncReport>;

    /// Carries out an order to a sync that delivers by itself, in the process that does.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] if the sync does not deliver by itself, else as [`Delivery::order`](crate::delivery::Delivery::order).
    fn delivery(&self, sync: &str, order: DeliveryOrder) -> BoxFuture<'static, Result<DeliveryReply, ApiError>>;

    /// Works out what the job in the bytes of a plan file would do in place of this one.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] if another edit is being worked out or the job keeps no state, else as
    /// [`Differ::diff`](crate::edit::Differ::diff).
    fn diff(&self, plan: Vec<u8>, read: bool) -> BoxFuture<'static, Result<EditReport, ApiError>>;

    /// Returns what is measured beside the other answers.
    fn metrics(&self) -> Metrics;

    /// Returns what has matched each event of the job, by id.
    fn events(&self) -> Vec<EventReport>;

    /// Returns what was read of each source, by id.
    fn sources(&self) -> Vec<SourceReport>;

    // The cluster.

    /// Returns the `host:port` of the process that owns a key of a model; `None` for this one.
    fn owner(&self, model: &str, key: &str) -> Option<String>;

    /// Returns the `host:port` of every process of the job, by number; `None`, once, for this one.
    fn processes(&self) -> Vec<Option<String>> {
        vec![None]
    }
}

/// Whether the job is live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Readiness {
    /// Whether the job is live: changes are sent as they happen.
    pub ready: bool,
    /// If not, what is being done; if so, what stands in its way: a clock that does not go on, or a sync that delivers nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub detail: Option<String>,
}

/// The freshness of a model's snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub enum Freshness {
    /// The last pull succeeded, and the next is not overdue.
    Current,
    /// A pull is running.
    Refreshing,
    /// The last pull failed, was held or is overdue.
    Stale,
    /// The model was never pulled.
    Pending,
}

impl Freshness {
    /// All values.
    pub const ALL: [Freshness; 4] = [Freshness::Current, Freshness::Refreshing, Freshness::Stale, Freshness::Pending];

    /// Returns the name in answers and metrics.
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
    /// How new its snapshot is; none if the model is never pulled: it has no Parquet, or nothing needs its rows.
    pub freshness: Option<Freshness>,
    /// How often it is pulled: a duration, `manual`, or `never` for a model without Parquet.
    pub refresh: String,
    /// When the snapshot in force was pulled.
    pub last_pull: Option<Moment>,
    /// When the next pull is due.
    pub next_pull: Option<Moment>,
    /// Rows of the snapshot in force.
    pub rows: Option<u64>,
    /// The version of the Delta table that is in force; null where the model has none, or where an earlier run pulled it.
    pub version: Option<u64>,
    /// Why the last pull failed or was held.
    pub last_error: Option<String>,
    /// How many pulls ended, and how, since the start.
    pub pulls: PullCounts,
}

/// How many pulls of a model ended, and how, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PullCounts {
    /// Those that are, or were, in force, or found nothing new.
    pub succeeded: u64,
    /// Those that could not be read.
    pub failed: u64,
    /// Those that the brake held.
    pub held: u64,
}

/// What is asked of a pull.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PullOrder {
    /// `partial`, the default, skips the pull if no file has changed since the last good one.
    #[serde(default)]
    #[schema(required = false)]
    pub extent: Extent,
    /// Whether it is taken whatever `max_exits` and `min_rows` say.
    #[serde(default)]
    #[schema(required = false)]
    pub accept: bool,
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
    /// It has not ended.
    Running,
    /// Its snapshot is in force.
    Succeeded,
    /// It could not be read: the last good snapshot stays in force.
    Failed,
    /// It would have taken too many out of an audience, or had too few rows: the last good snapshot stays in force.
    Held,
}

/// What caused a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The start of the job.
    Start,
    /// `refresh`, or another try after one that failed.
    Schedule,
    /// A request to the API.
    Request,
}

/// A pull of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Pull {
    /// Its number among the pulls of the model since the start, from 1.
    pub number: u64,
    /// When it began.
    pub date: Moment,
    /// How it ended.
    pub status: PullResult,
    /// What caused it.
    pub trigger: Trigger,
    /// How much it read.
    pub extent: Extent,
    /// The version of the Delta table that it read or found unchanged; null where the model has none.
    pub version: Option<u64>,
    /// Its duration; null while it runs.
    pub duration_ms: Option<u64>,
    /// Rows of the snapshot that it gave, found unchanged, or was held with.
    pub rows: Option<u64>,
    /// Rows that it read; fewer than all where only what differs from the version in force was read, the keys of rows that are gone
    /// included. Null where it was not taken.
    pub rows_read: Option<u64>,
    /// Keys with a change.
    pub changed_keys: Option<u64>,
    /// Why it failed or was held.
    pub error: Option<String>,
}

/// What is reported of an audience beside the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudienceState {
    /// Its id.
    pub id: String,
    /// Who is responsible for it.
    pub owner: Option<String>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// The freshness of the oldest snapshot that the audience depends on.
    pub freshness: Freshness,
    /// Whether its windows are filled.
    pub windows: Windows,
    /// Keys of this process that do not enter before windows are.
    pub held: u64,
}

/// Whether the windows of an audience are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Windows {
    /// Whether they contain all events of their length.
    pub complete: bool,
    /// If not, when they will.
    pub complete_at: Option<Moment>,
}

/// Why a key is in audiences or not.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Explanation {
    /// The model's id.
    pub parent_model_id: String,
    /// The key.
    pub user_id: String,
    /// The time of the answer.
    pub as_of: Moment,
    /// Whether the key has a row in the snapshot in force.
    pub in_snapshot: bool,
    /// The live columns of its row that something reads.
    pub live: Vec<ExplainedLive>,
    /// The columns of parents that conditions on its row read.
    pub parents: Vec<ExplainedParent>,
    /// By audience.
    pub audiences: Vec<ExplainedAudience>,
}

/// The value of a live column.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ExplainedLive {
    /// The column.
    pub column: String,
    /// Its value.
    pub value: serde_json::Value,
    /// The timestamp of the event, or when the first pull began that had the value.
    pub at: Moment,
    /// `event` or `snapshot`.
    pub origin: String,
}

/// The value of a column of a model that a row belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ExplainedParent {
    /// The column, as predicates name it: `accounts.plan`.
    pub column: String,
    /// The key that the row points to, of the first model in `column`; null if it points to none.
    pub key: Option<String>,
    /// The column's value; null where there is no such row.
    pub value: serde_json::Value,
}

/// Why a key is in an audience or not.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ExplainedAudience {
    /// The audience's id.
    pub audience_id: String,
    /// The audience's name, as people see it.
    pub audience_name: String,
    /// Whether the key is in it.
    pub member: bool,
    /// When that changes if nothing else happens; null if it does not.
    pub changes_at: Option<Moment>,
    /// The tree of conditions.
    pub condition: ExplainedCondition,
}

/// A condition, and its result for a key.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(no_recursion)]
pub struct ExplainedCondition {
    /// `all`, `any`, `not`, `audience`, `property`, `performed`, `related` or `sequence`.
    pub kind: String,
    /// As in the job file.
    pub text: String,
    /// Whether it holds.
    pub holds: bool,
    /// The value that is compared, if it is kept; `3 or more` if only 3 events are kept because no more can matter. Of a sequence, how
    /// many steps it has reached.
    pub value: Option<serde_json::Value>,
    /// What it is compared with, as in the job file: `at_least 3`. Of a sequence, all its steps: `3 steps`.
    pub threshold: Option<String>,
    /// The times of the events that count now, the oldest first, as many as are kept. Of a sequence, of the steps it has reached.
    pub events: Vec<Moment>,
    /// When the result changes if nothing else happens; null if it does not.
    pub changes_at: Option<Moment>,
    /// The conditions inside.
    pub conditions: Vec<ExplainedCondition>,
}

/// What an audience is, and how many keys meet each of its conditions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Definition {
    /// The audience's id.
    pub audience_id: String,
    /// The audience's name, as people see it.
    pub audience_name: String,
    /// What it is for; null if the job file does not say.
    pub description: Option<String>,
    /// The id of its model.
    pub model: String,
    /// The ids of the syncs that its changes are sent to.
    pub syncs: Vec<String>,
    /// The time that the keys of conditions without conditions inside are counted as of.
    pub as_of: Moment,
    /// The time that the keys of the other conditions, and those that leave, are counted as of.
    pub counted_at: Moment,
    /// The tree of conditions.
    pub condition: CountedCondition,
    /// The members that leave by themselves in the hour after `counted_at`, by the minute in which they do. Of what is read later,
    /// pulls included, nothing is assumed.
    pub leaving_by_minute: Vec<u64>,
}

/// A condition, and how many keys meet it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(no_recursion)]
pub struct CountedCondition {
    /// `all`, `any`, `not`, `audience`, `property`, `performed` or `related`.
    pub kind: String,
    /// As in the job file.
    pub text: String,
    /// What a count or another aggregate is compared with, as in the job file: `at_least 3`.
    pub threshold: Option<String>,
    /// How many keys meet it, of those that may be members.
    pub keys: u64,
    /// The conditions inside.
    pub conditions: Vec<CountedCondition>,
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct JobReport {
    /// The name of the job.
    pub job: String,
    /// The version of the program.
    pub version: String,
    /// When the process started that answers.
    pub started_at: Moment,
    /// Processes of the job.
    pub processes: u32,
    /// Worker threads of each process.
    pub workers: u32,
    /// Keys that this process owns and of which something is known.
    pub keys: u64,
    /// Bytes of the last checkpoint.
    pub state_bytes: u64,
    /// Checkpoints since the start.
    pub checkpoints: u64,
    /// How long the last checkpoint took, ms; null if there was none since the start.
    pub checkpoint_ms: Option<u64>,
    /// The plan as text: conditions with their fingerprints, what they share, and the state that each holds.
    pub plan: String,
}

/// A page of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The time of the answer.
    pub as_of: Moment,
    /// The keys, in the engine's order.
    pub keys: Vec<String>,
    /// The cursor of the next page; `None` on the last page.
    pub next_cursor: Option<String>,
}

/// A sync and its deliveries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SyncReport {
    /// Its id.
    pub id: String,
    /// Whether the destination takes changes: `ok`, `open`, `paused` or `rejecting`.
    pub state: crate::sink::SyncState,
    /// Changes that were committed to it since its log began: delivered, waiting, superseded and dead letters together.
    pub committed: u64,
    /// Changes delivered to the destination, counted as `committed`.
    pub delivered: u64,
    /// Changes that are not delivered yet: committed to the outbox, or queued for a topic.
    pub waiting: u64,
    /// Attempts to deliver since the start, of a webhook.
    pub attempts: crate::sink::AttemptCounts,
    /// Changes that need not be sent any more: a later one of their audience and key holds.
    pub superseded: u64,
    /// For how long the sync has changes to deliver and has delivered none, ms; 0 if nothing waits.
    pub oldest_waiting_ms: u64,
    /// Deliveries that were retried.
    pub retries: u64,
    /// The last error; null if there was none.
    pub last_error: Option<String>,
    /// Changes that were given up and written to the dead letters.
    pub dead_letters: u64,
}

impl SyncReport {
    /// Returns the report of the sync `id` from the status of its sink.
    pub fn of(id: &str, status: &crate::sink::SyncStatus) -> SyncReport {
        SyncReport {
            id: id.to_owned(),
            state: status.state,
            committed: status.committed,
            delivered: status.delivered.unwrap_or(status.written.changes()),
            waiting: status.waiting,
            attempts: status.attempts,
            superseded: status.superseded,
            oldest_waiting_ms: status.oldest_waiting_ms,
            retries: status.retries,
            last_error: status.last_error.clone(),
            dead_letters: status.dead_letters,
        }
    }
}

/// What has matched an event of the job in this process since the start.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct EventReport {
    /// The event's id.
    pub id: String,
    /// The id of its source; those of several are joined by `, `.
    pub source: String,
    /// Messages that match it, repeats included.
    pub matched: u64,
    /// Those of them that repeat one that is held.
    pub repeats: u64,
    /// Messages whose key has no row in the model's snapshot; null for a model without one. Beyond the first 10,000 one in 64 is looked
    /// up and counts for all; of those that came before the first pull the first 10,000 are.
    pub without_row: Option<u64>,
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
    /// `ok`, or `waiting: registry` while its messages wait for a schema that the registry does not give.
    pub state: String,
    /// Why it waits; null if it does not.
    pub last_error: Option<String>,
    /// The schemas of the registry that its messages have named, by id.
    pub schemas: Vec<SchemaReport>,
}

/// A schema of a registry that messages have named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SchemaReport {
    /// A number, or a GUID.
    pub id: String,
    /// `avro`, `protobuf` or `json_schema`; null if the registry has no schema that can be used.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Why its messages are dead letters; null if they are read.
    pub error: Option<String>,
}

/// How far a partition has been read.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct PartitionReport {
    /// The partition's name.
    pub name: String,
    /// Where the next message starts.
    pub position: u64,
    /// Where the last message that is there ends; null if that is not known.
    pub end: Option<u64>,
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

/// What is measured beside the other answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Counts of messages, by source.
    pub messages: Vec<(String, Counts)>,
    /// How far partitions have been read.
    pub partitions: Vec<PartitionMetrics>,
    /// Files that are damaged in the middle, by source: what comes before counts.
    pub damaged_files: Vec<(String, u64)>,
    /// How far the job's clock is ahead of the machine's, ms.
    pub clock_ahead_ms: u64,
    /// Bytes of state.
    pub state_bytes: u64,
    /// The checkpoints of this run.
    pub checkpoints: CheckpointMetrics,
}

/// The checkpoints of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckpointMetrics {
    /// How many were made.
    pub made: u64,
    /// How many were given up.
    pub failed: u64,
    /// How long ago the last one was made, before the first how long ago the job was started, ms; `None` if no state is kept.
    pub age_ms: Option<u64>,
    /// How long the last one took, ms; `None` if none was made.
    pub took_ms: Option<u64>,
}

/// How far a partition has been read.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionMetrics {
    /// The source's id.
    pub source: String,
    /// The partition's name.
    pub partition: String,
    /// The position of the next message.
    pub position: u64,
    /// Messages that are there and were not read; `None` if the number is not known.
    pub lag_messages: Option<u64>,
    /// How far the newest message that was read is behind the wall clock, ms; `None` if nothing was read.
    pub lag_ms: Option<u64>,
}
