//! The job, as a value: what SPEC §1 can say, shaped and checked.
//!
//! All maps are ordered by id, so that everything derived from a job is the same on every run. Predicates are
//! kept as text with their place: `usher-queries` reads them, and its problems point into the same file.

use crate::{Decimal, Path, Place};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A whole job file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The job's name.
    pub name: String,
    /// The folder that relative paths are relative to: the job file's. Not part of a plan file.
    #[serde(skip)]
    pub folder: PathBuf,
    /// Streams of messages, by id.
    pub sources: BTreeMap<String, Source>,
    /// Tables of the warehouse, by id.
    pub models: BTreeMap<String, Model>,
    /// Typed views on the messages, by id.
    pub events: BTreeMap<String, Event>,
    /// Audiences, by id.
    pub audiences: BTreeMap<String, Audience>,
    /// Where changes go, by id.
    pub syncs: BTreeMap<String, Sync>,
    /// Where bad messages go; none: counted and sampled in the log.
    pub dead_letters: Option<DeadLettersTo>,
    /// Where state is kept; none: in `usher-state/<job>` of the working folder.
    pub state: Option<State>,
    /// The HTTP API; none: there is none.
    pub api: Option<Api>,
    /// How the processes of a cluster wait for each other.
    pub cluster: Cluster,
    /// Bounds.
    pub limits: Limits,
}

/// A text that is not shown: it keeps its `${VAR}` until it is used, in plan files too.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(pub String);

impl Secret {
    /// The text itself, with what `variable` says put in for `${VAR}`; the error names a variable that is not set.
    pub fn resolve(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
        crate::variables::resolve(&self.0, variable)
    }
}

impl Secret {
    /// Whether it holds the text itself, and no `${VAR}`.
    pub fn is_literal(&self) -> bool {
        crate::variables::is_literal(&self.0)
    }
}

impl Job {
    /// All secrets, each with its path in the job file.
    pub fn secrets(&self) -> Vec<(String, &Secret)> {
        let sources = self.sources.iter().filter_map(|(id, source)| match &source.from {
            SourceFrom::Kafka { kafka, .. } => Some((format!("sources.{id}.kafka"), kafka)),
            SourceFrom::File { .. } => None,
        });
        let syncs = self.syncs.iter().filter_map(|(id, sync)| match &sync.to {
            SyncTo::Kafka(target) => Some((format!("syncs.{id}.to.kafka"), &target.kafka)),
            SyncTo::File(_) | SyncTo::Stdout => None,
        });
        let dead_letters = self.dead_letters.iter().filter_map(|to| match to {
            DeadLettersTo::Kafka { kafka, .. } => Some(("dead_letters.kafka".to_owned(), kafka)),
            DeadLettersTo::File(_) => None,
        });
        let settings = sources.chain(syncs).chain(dead_letters).flat_map(|(path, kafka)| {
            kafka.properties.iter().filter_map(move |(name, setting)| match setting {
                Setting::Secret(secret) => {
                    Some((format!("{path}.properties.{}", crate::path::write_name(name)), secret))
                }
                Setting::Plain(_) => None,
            })
        });
        let keys = self.api.iter().flat_map(|api| &api.keys).enumerate();
        settings.chain(keys.map(|(at, key)| (format!("api.keys[{at}].token"), &key.token))).collect()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A Kafka cluster, and how to talk to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kafka {
    /// `host:port`, comma separated.
    pub brokers: String,
    /// Handed to librdkafka as they are.
    pub properties: BTreeMap<String, Setting>,
}

/// A value for librdkafka.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Setting {
    /// Anybody may see it.
    Plain(String),
    /// Its name contains password, secret, token or key.
    Secret(Secret),
}

/// Where durable state is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// `file://`, `s3://`, …; or a folder, relative to the job's.
    pub url: String,
    /// ms between checkpoints (60s).
    pub checkpoint_every: u64,
}

/// The HTTP API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Api {
    /// Where it stands in the file.
    pub place: Place,
    /// `host:port`.
    pub listen: String,
    /// Who may ask; none: anybody on this machine.
    pub keys: Vec<ApiKey>,
    /// Requests per second and key; none: any number.
    pub rate_limit: Option<u32>,
}

/// A bearer of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// What the bearer sends.
    pub token: Secret,
    /// May read.
    pub read: bool,
    /// May change something.
    pub admin: bool,
}

/// How the processes of a cluster wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// ms until all must have met (15s).
    pub connect_timeout: u64,
    /// ms that one may not be heard of (30s).
    pub peer_timeout: u64,
}

/// Where messages come from, and how to read them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Where it stands in the file.
    pub place: Place,
    /// The transport.
    pub from: SourceFrom,
    /// The wire format.
    pub format: Format,
    /// Where a source that can be entered anywhere is read from, where no state says it.
    pub start: Start,
}

/// Where reading starts without state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// What fills the longest window.
    Window,
    /// All that is there.
    Earliest,
    /// Nothing that is there.
    Latest,
    /// Messages of this time (ms since the epoch) and later.
    Time(u64),
}

/// A transport of messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SourceFrom {
    /// Files of lines: a file, a folder or a glob; each file is a partition.
    File {
        /// As written, relative to the job's folder.
        path: String,
        /// Go on reading what is appended, as `tail -F`.
        follow: bool,
    },
    /// Topics of Kafka; each of their partitions is one.
    Kafka {
        /// The cluster.
        kafka: Kafka,
        /// At least one, sorted.
        topics: Vec<String>,
    },
}

/// A wire format of events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Format {
    /// Segment's JSON.
    Segment,
    /// RudderStack's JSON.
    Rudderstack,
    /// Hightouch Events' JSON.
    Hightouch,
    /// Snowplow's enriched events: 131 columns.
    SnowplowTsv,
    /// Snowplow's enriched events as its analytics SDK writes them in JSON.
    SnowplowJson,
    /// Any JSON, with the paths given.
    Json(JsonPaths),
}

/// Where in a JSON message its parts are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JsonPaths {
    /// The kind of message; none: messages have no type.
    pub kind: Option<Path>,
    /// The event's name.
    pub name: Option<Path>,
    /// The key of the parent model.
    pub key: Option<Path>,
    /// The event's time.
    pub time: Option<Path>,
    /// The message id.
    pub id: Option<Path>,
    /// The object that holds the properties; none: the message itself.
    pub properties: Option<Path>,
}

/// A table of the warehouse.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Where it stands in the file.
    pub place: Place,
    /// What it is, in the author's words.
    pub description: Option<String>,
    /// Where its Parquet files are: path, folder, glob or url, as written. None: known from events only.
    pub parquet: Option<String>,
    /// The column of the key; empty where a model without Parquet names none.
    pub key: String,
    /// How often it is pulled.
    pub refresh: Refresh,
    /// The declared columns; the others have the file's type.
    pub columns: BTreeMap<String, ColumnType>,
    /// The model whose rows these rows belong to.
    pub belongs_to: Option<BelongsTo>,
    /// Who can be a member of its audiences.
    pub members: Members,
}

/// How often a snapshot is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refresh {
    /// Every so many ms.
    Every(u64),
    /// When asked.
    Manual,
}

/// A parent by foreign key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BelongsTo {
    /// The parent model's id.
    pub model: String,
    /// The column that holds the parent's key.
    pub foreign_key: String,
}

/// Who can be a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Members {
    /// Keys of the snapshot only.
    Known,
    /// Any key of which something is known.
    Any,
}

/// The type of a column or property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum ColumnType {
    String,
    Integer,
    Number,
    Boolean,
    Timestamp,
    Date,
    ListString,
    ListInteger,
    ListNumber,
}

/// A named, typed view on one kind of message of a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Where it stands in the file.
    pub place: Place,
    /// What people see as its name.
    pub label: Option<String>,
    /// What it is, in the author's words.
    pub description: Option<String>,
    /// The source's id.
    pub source: String,
    /// The message's type; none: any.
    pub kind: Option<String>,
    /// The message's name; none: any.
    pub name: Option<String>,
    /// The parent model's id.
    pub model: String,
    /// Where the key is; none: the format's user id.
    pub foreign_key: Option<Path>,
    /// Where the time is; none: the format's event time.
    pub timestamp: Option<Path>,
    /// The columns, by name (alias).
    pub properties: BTreeMap<String, Property>,
}

/// A column of an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Property {
    /// Where in the message it is. `properties.` is resolved against the format by the reader.
    pub path: Path,
    /// Its type.
    pub column_type: ColumnType,
}

/// Who belongs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Audience {
    /// Where it stands in the file.
    pub place: Place,
    /// What people see as its name; the id where none is given.
    pub name: String,
    /// What it is, in the author's words.
    pub description: Option<String>,
    /// The parent model's id.
    pub model: String,
    /// The condition.
    pub condition: Condition,
}

/// Text with its place: a predicate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Text {
    /// The text.
    pub value: String,
    /// Where it stands.
    pub place: Place,
}

/// A condition with its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// Where it stands.
    pub place: Place,
    /// What it says.
    pub kind: ConditionKind,
}

/// SPEC §3's grammar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ConditionKind {
    /// All hold; of none: true.
    All(Vec<Condition>),
    /// Any holds; of none: false.
    Any(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// The key is in that audience.
    Audience(String),
    /// A predicate on the key's row.
    Property(Text),
    /// The count of the matching events in the window, compared.
    Performed {
        /// The event's id.
        event: String,
        /// Which of them; none: all.
        filter: Option<Text>,
        /// Always `Count` in this version.
        aggregate: Aggregate,
        /// Against what.
        comparison: Comparison,
        /// The window, ms.
        within: u64,
    },
    /// An aggregate over the rows that belong to the key, compared.
    Related {
        /// The model's id.
        model: String,
        /// Which rows; none: all.
        filter: Option<Text>,
        /// Of what.
        aggregate: Aggregate,
        /// Against what.
        comparison: Comparison,
    },
}

/// What is computed of the rows or events.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Aggregate {
    Count,
    Sum(String),
    Avg(String),
    Min(String),
    Max(String),
    Distinct(String),
}

/// A comparison with a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Comparison {
    AtLeast(Decimal),
    AtMost(Decimal),
    MoreThan(Decimal),
    LessThan(Decimal),
    Exactly(Decimal),
    /// Both ends included.
    Between(Decimal, Decimal),
}

/// Where changes of which audiences go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sync {
    /// Where it stands in the file.
    pub place: Place,
    /// What it is, in the author's words.
    pub description: Option<String>,
    /// The audiences' ids, sorted; all of the job's where the file names none.
    pub audiences: Vec<String>,
    /// Entries are sent.
    pub send_entry: bool,
    /// Exits are sent.
    pub send_exit: bool,
    /// The messages' format.
    pub format: SyncFormat,
    /// Columns of the member's row that messages carry, each with its place.
    pub include: Vec<Text>,
    /// What messages call an entry, where not as their format does.
    pub entry_name: Option<String>,
    /// What messages call an exit, where not as their format does.
    pub exit_name: Option<String>,
    /// Templates by the path of the field that they fill.
    pub fields: BTreeMap<String, Text>,
    /// A new sync is told of every member; else only of what changes from then on.
    pub backfill: bool,
    /// What becomes of the members of an audience that the sync no longer has.
    pub on_remove: OnRemove,
    /// Where to.
    pub to: SyncTo,
}

/// The format of a sync's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncFormat {
    /// SPEC §5's default message.
    Usher,
    /// CloudEvents 1.0, structured JSON.
    Cloudevents,
    /// Segment's `track`.
    Segment,
}

/// What becomes of the members of a removed audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnRemove {
    /// They exit.
    Exit,
    /// Nothing is said of them.
    Forget,
}

/// A destination of changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SyncTo {
    /// Appends lines to a file.
    File(FileTarget),
    /// Prints lines.
    Stdout,
    /// Messages in a topic of Kafka.
    Kafka(KafkaTarget),
}

/// A topic that changes are sent to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KafkaTarget {
    /// The cluster.
    pub kafka: Kafka,
    /// The topic.
    pub topic: String,
    /// Creates the topic with so many partitions where it is missing.
    pub partitions: Option<u32>,
    /// How often a change may come.
    pub delivery: Delivery,
    /// ms between commits of transactions (100ms).
    pub commit_every: u64,
}

/// How often a change may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// Once, to readers of what is committed.
    ExactlyOnce,
    /// Again after a crash.
    AtLeastOnce,
}

/// A destination of bad messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DeadLettersTo {
    /// Appends lines to a file.
    File(FileTarget),
    /// Messages in a topic of Kafka.
    Kafka {
        /// The cluster.
        kafka: Kafka,
        /// The topic.
        topic: String,
    },
}

/// A file that is appended to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileTarget {
    /// As written, relative to the job's folder.
    pub path: String,
}

/// Bounds, all with defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// How far ahead of the clock an event may be, ms (5m).
    pub future_skew: u64,
    /// The longest message, bytes (1MiB).
    pub message_bytes: u64,
}
