//! The job as a value: everything that SPEC §1 can express, checked.
//!
//! All maps are ordered by id, so everything derived from a job is the same on every run. Predicates
//! are text with a place: `usher-queries` parses them, and its problems point into the same file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use usher_core::catalog::Catalog;
pub use usher_core::schemas::SchemaKind;
use usher_core::time::Unit;
pub use usher_core::value::ColumnType;

use serde::{Deserialize, Serialize};

use crate::path::write_name;
use crate::schema::job::{API, DEAD_LETTERS, MODELS, SOURCES, STATE, SYNCS};
use crate::schema::{AnyKey, Choice as _, destination, model, process, source, sync};
use crate::{Decimal, Location, Path, Place, PlacedSecret, Share, WebhookTarget};

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
    /// Where messages go that can't be parsed; `None`: they are counted and sampled in the log.
    pub dead_letters: Option<DeadLettersTo>,
    /// Where state is kept; `None`: in `usher-state/<job>` of the job's folder.
    pub state: Option<State>,
    /// The HTTP API; `None` if the job has none.
    pub api: Option<Api>,
    /// How the processes of a cluster wait for each other.
    pub cluster: Cluster,
    /// Bounds.
    pub limits: Limits,
}

impl Job {
    /// Returns the audiences as messages name them.
    pub fn catalog(&self) -> Catalog {
        let audiences = self.audiences.iter();
        Catalog::new(&self.name, audiences.map(|(id, audience)| (&id[..], &audience.name[..], &audience.model[..])))
    }
}

/// A text that is never shown: it keeps its `${VAR}` until it is used, in plan files too.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(pub String);

impl Secret {
    /// Returns the text itself, with the values of `variable` for each `${VAR}`. The error names a variable that is not
    /// set.
    pub fn resolve(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
        crate::variables::resolve(&self.0, variable)
    }

    /// Returns whether it is the text itself, without `${VAR}`.
    pub fn is_literal(&self) -> bool {
        crate::variables::is_literal(&self.0)
    }

    /// Returns whether it is an address in which nothing is secret: it has neither user nor query.
    fn is_open_address(&self) -> bool {
        self.0.split_once("://").is_some_and(|(_, rest)| {
            let authority = rest.split(['/', '#']).next().unwrap_or_default();
            !authority.contains('@') && !rest.contains('?')
        })
    }
}

impl Job {
    /// Returns the path in the job file of a secret that is written there itself, not as `${VAR}`.
    pub fn written_secret(&self) -> Option<String> {
        let is_url = |path: &str| path.rsplit('.').next() == Some(source::REGISTRY_URL.name());
        let mut written = self.secrets().into_iter().filter(|(_, secret)| secret.is_literal());
        written.find(|(path, secret)| !(is_url(path) && secret.is_open_address())).map(|(path, _)| path)
    }

    /// Returns all secrets, each with its path in the job file.
    pub fn secrets(&self) -> Vec<(String, &Secret)> {
        let path = |steps: &[&str]| steps.join(".");
        let sources = self.sources.iter().filter_map(|(id, source)| match &source.from {
            SourceFrom::Kafka { kafka, .. } => Some((path(&[SOURCES.name(), id, source::KAFKA.name()]), kafka)),
            SourceFrom::File { .. } => None,
        });
        let syncs = self.syncs.iter().filter_map(|(id, sync)| match &sync.to {
            SyncTo::Kafka(target) => {
                Some((path(&[SYNCS.name(), id, sync::TO.name(), destination::KAFKA.name()]), &target.kafka))
            }
            SyncTo::File(_) | SyncTo::Stdout | SyncTo::Webhook(_) => None,
        });
        let dead_letters = self.dead_letters.iter().filter_map(|to| match to {
            DeadLettersTo::Kafka { kafka, .. } => {
                Some((path(&[DEAD_LETTERS.name(), destination::KAFKA.name()]), kafka))
            }
            DeadLettersTo::File(_) => None,
        });
        let settings = sources.chain(syncs).chain(dead_letters).flat_map(|(cluster, kafka)| {
            kafka.properties.iter().filter_map(move |(name, setting)| match setting {
                Setting::Secret(secret) => {
                    Some((path(&[&cluster, destination::PROPERTIES.name(), &write_name(name)]), secret))
                }
                Setting::Plain(_) => None,
            })
        });
        let keys = self.api.iter().flat_map(|api| &api.keys).enumerate().map(|(at, key)| {
            let keys = format!("{}[{at}]", process::KEYS.name());
            (path(&[API.name(), &keys, process::TOKEN.name()]), &key.token)
        });
        let webhooks = self.syncs.iter().flat_map(|(id, sync)| {
            let (name, secrets) = match &sync.to {
                SyncTo::Webhook(target) => (target.name(), target.secrets()),
                SyncTo::File(_) | SyncTo::Stdout | SyncTo::Kafka(_) => Default::default(),
            };
            let to = path(&[SYNCS.name(), id, sync::TO.name(), name]);
            secrets.into_iter().map(move |(key, secret)| (path(&[&to, &key]), secret)).collect::<Vec<_>>()
        });
        let registries = self.sources.iter().filter_map(|(id, source)| match &source.encoding {
            Encoding::Registered { registry, .. } => {
                Some((path(&[SOURCES.name(), id, source::REGISTRY.name()]), registry))
            }
            Encoding::Json | Encoding::Avro(_) | Encoding::Protobuf { .. } => None,
        });
        let registries = registries.flat_map(|(at, Registry { url, password, .. })| {
            let url = (path(&[&at, source::REGISTRY_URL.name()]), &url.secret);
            let password = password.iter().map(|password| (path(&[&at, source::PASSWORD.name()]), &password.secret));
            std::iter::once(url).chain(password).collect::<Vec<_>>()
        });
        let models = self.models.iter().filter_map(|(id, model)| {
            let (key, location) = match model.parquet.as_ref()? {
                Parquet::Files(location) => (model::PARQUET.name(), location),
                Parquet::Delta(table) => (model::DELTA.name(), &table.url),
            };
            Some((path(&[MODELS.name(), id, key]), location.secret()?))
        });
        let state = self
            .state
            .iter()
            .filter_map(|state| Some((path(&[STATE.name(), process::URL.name()]), state.url.secret()?)));
        settings.chain(keys).chain(webhooks).chain(registries).chain(models).chain(state).collect()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A Kafka cluster, and the settings of its client. Equal where these are, wherever the file has them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Kafka {
    /// `host:port`, comma separated.
    pub brokers: String,
    /// Passed to librdkafka unchanged.
    pub properties: BTreeMap<String, Setting>,
    /// The places of the properties, by name; a plan does not have them.
    #[serde(skip)]
    pub places: BTreeMap<String, Place>,
}

impl PartialEq for Kafka {
    fn eq(&self, other: &Kafka) -> bool {
        let Kafka { brokers, properties, places: _ } = self;
        (brokers, properties) == (&other.brokers, &other.properties)
    }
}

impl Eq for Kafka {}

/// A value for librdkafka.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Setting {
    /// A value that may be shown.
    Plain(String),
    /// A value whose name contains password, secret, token or key.
    Secret(Secret),
}

/// Where durable state is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// `file://`, `s3://`, …; or a folder, relative to the job's.
    pub url: Location,
    /// ms between checkpoints.
    pub checkpoint_every: u64,
}

/// The HTTP API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Api {
    /// Its place in the file.
    pub place: Place,
    /// `host:port`.
    pub listen: String,
    /// The accepted tokens. If empty, every client on this machine is accepted.
    pub keys: Vec<ApiKey>,
    /// Requests per second and key; `None`: any number.
    pub rate_limit: Option<u32>,
    /// The console.
    pub console: Console,
}

/// The console of an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Console {
    /// There is none.
    Off,
    /// It is at `/`.
    On {
        /// Whether it offers what changes something.
        actions: bool,
    },
}

/// A bearer of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// The token that the bearer sends.
    pub token: Secret,
    /// Whether the bearer may read.
    pub read: bool,
    /// Whether the bearer may change something.
    pub admin: bool,
}

/// How the processes of a cluster wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// ms within which each process must connect to all others.
    pub connect_timeout: u64,
    /// ms without a message after which a process counts as lost.
    pub peer_timeout: u64,
}

/// A stream of messages, and its wire format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Its place in the file.
    pub place: Place,
    /// The transport.
    pub from: SourceFrom,
    /// What messages look like.
    pub format: Format,
    /// How they are written.
    pub encoding: Encoding,
    /// The envelopes around each message, the outermost first.
    pub unwrap: Vec<Envelope>,
    /// The position of the first read of a source that can be read from any position. State of an earlier run overrides
    /// it.
    pub start: Start,
}

/// The position of a read without state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// The start of the longest window.
    Window,
    /// The first message that is there.
    Earliest,
    /// Behind the last message that is there.
    Latest,
    /// The first message of this time (ms since the epoch) or later.
    Time(u64),
}

/// A transport of messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SourceFrom {
    /// Files of lines: a file, a folder or a glob; each file is a partition.
    File {
        /// As written, relative to the job's folder.
        path: String,
        /// Whether to keep reading what is appended, as `tail -F` does.
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

/// How messages are written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Encoding {
    /// As text, which the format reads.
    Json,
    /// In Avro.
    Avro(SchemaFile),
    /// In Protobuf.
    Protobuf {
        /// The `.proto` file.
        schema: SchemaFile,
        /// The name of the message in it.
        message: String,
    },
    /// In a language of schemas, by the schema that each message names.
    Registered {
        /// The language.
        kind: SchemaKind,
        /// Where the schemas are.
        registry: Registry,
    },
}

/// A schema registry, compatible with Confluent's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registry {
    /// Its url: user info and query are secret.
    pub url: PlacedSecret,
    /// The user's name.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<PlacedSecret>,
}

impl Encoding {
    /// Returns the file of the schema; `None` if there is none.
    pub fn schema(&self) -> Option<&SchemaFile> {
        match self {
            Encoding::Json | Encoding::Registered { .. } => None,
            Encoding::Avro(schema) | Encoding::Protobuf { schema, .. } => Some(schema),
        }
    }
}

/// A file with the schema that writes messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SchemaFile {
    /// As written, relative to the job's folder.
    pub path: String,
    /// Its place in the job file.
    pub place: Place,
    /// Its content. The parser of job files reads no other files: it leaves this empty.
    pub text: String,
    /// The files that it imports, by the names that it imports them by; likewise.
    pub imports: BTreeMap<String, String>,
}

/// What is around messages of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Envelope {
    /// `{"batch": […]}`, or a bare array: each element is a message.
    Batch,
    /// A change record of Debezium: the message is the row after the change, of a deletion the row before it.
    Debezium,
    /// A record of Kafka Connect's JSON converter with schemas: the message is `payload`.
    Connect,
    /// A CloudEvent, structured or binary: the message is its data.
    Cloudevents,
}

impl Envelope {
    /// Returns the envelope as a job file writes it.
    pub fn name(self) -> &'static str {
        self.word()
    }
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

/// The paths of the parts of a JSON message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JsonPaths {
    /// The kind of message; `None`: messages have no type.
    pub kind: Option<Path>,
    /// The event's name.
    pub name: Option<Path>,
    /// The key of the parent model.
    pub key: Option<Path>,
    /// The event's time.
    pub time: Option<Path>,
    /// The message id.
    pub id: Option<Path>,
    /// The object with the properties; `None`: the message itself.
    pub properties: Option<Path>,
}

/// A table of the warehouse.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Its place in the file.
    pub place: Place,
    /// The author's description.
    pub description: Option<String>,
    /// Where its Parquet is. `None`: its keys come from events only.
    pub parquet: Option<Parquet>,
    /// The column of the key; empty if a model without Parquet has none.
    pub key: String,
    /// How often it is pulled.
    pub refresh: Refresh,
    /// A pull by which more than this share of an audience's members would leave is held; `None`: no limit.
    pub max_exits: Option<Share>,
    /// A pull with fewer rows is held; `None`: one without rows is, where the last had any.
    pub min_rows: Option<u32>,
    /// Whether the files of a table format are read as plain files.
    pub force_files: bool,
    /// The declared columns; the others have the file's type.
    pub columns: BTreeMap<String, ColumnType>,
    /// Those of the declared columns whose values events set too.
    pub live: BTreeMap<String, Live>,
    /// The model whose rows these rows belong to.
    pub belongs_to: Option<BelongsTo>,
    /// Which keys can be members of its audiences.
    pub members: Members,
}

/// Where a model's Parquet is. Shown without what may be secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Parquet {
    /// Files: path, folder, glob or url.
    Files(Location),
    /// The files that the log of a Delta table names.
    Delta(DeltaTable),
}

/// A Delta table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeltaTable {
    /// Path or url of its folder.
    pub url: Location,
    /// Which version is read.
    pub at: TableVersion,
}

/// Which version of a table is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TableVersion {
    /// The newest at each pull.
    Newest,
    /// This one.
    Number(u32),
    /// The newest that was committed at this time, ms since the epoch, or before.
    Time(u64),
}

impl Parquet {
    /// Returns a text that another location or another version has not, without what may be secret.
    pub fn identity(&self) -> String {
        self.text(&Location::identity)
    }

    fn text(&self, of: &dyn Fn(&Location) -> String) -> String {
        match self {
            Parquet::Files(location) => of(location),
            Parquet::Delta(DeltaTable { url, at }) => match (of(url), at) {
                (url, TableVersion::Newest) => format!("delta {url}"),
                (url, TableVersion::Number(version)) => format!("delta {url}, version {version}"),
                (url, TableVersion::Time(ms)) => format!("delta {url}, at {ms} ms"),
            },
        }
    }
}

impl fmt::Display for Parquet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(&|location| location.shown().to_owned()))
    }
}

/// The event that sets a column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// The event's id.
    pub event: String,
    /// The event's property with the value; of the column's type.
    pub property: String,
}

/// How often a snapshot is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refresh {
    /// At an interval of ms.
    Every(u64),
    /// On request.
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

/// Which keys can be members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Members {
    /// Keys of the snapshot only.
    Known,
    /// Any key of a row or an event.
    Any,
}

/// A named, typed view on one kind of message of a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its place in the file.
    pub place: Place,
    /// Its name, for people.
    pub label: Option<String>,
    /// The author's description.
    pub description: Option<String>,
    /// The ids of its sources: at least one, sorted.
    pub sources: Vec<String>,
    /// The message's type; `None`: any.
    pub kind: Option<String>,
    /// The message's names, sorted; empty: any.
    pub names: Vec<String>,
    /// A predicate that all its conditions share.
    pub filter: Option<Text>,
    /// The parent model's id.
    pub model: String,
    /// The path of the key; `None`: the format's user id.
    pub foreign_key: Option<Path>,
    /// The path of the time; `None`: the format's event time.
    pub timestamp: Option<Path>,
    /// The columns, by name (alias).
    pub properties: BTreeMap<String, Property>,
}

/// A column of an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Property {
    /// Its path in the message. The parser of the format resolves `properties.`.
    pub path: Path,
    /// Its type.
    pub column_type: ColumnType,
    /// What its numbers count, of a timestamp; `None`: their magnitude decides.
    pub unit: Option<Unit>,
}

/// A set of keys of one model, defined by a condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Audience {
    /// Its place in the file.
    pub place: Place,
    /// Its name, for people; the id if the file has none.
    pub name: String,
    /// The author's description.
    pub description: Option<String>,
    /// Who is responsible for it.
    pub owner: Option<String>,
    /// Words to find it by, in the file's order.
    pub tags: Vec<String>,
    /// The parent model's id.
    pub model: String,
    /// What becomes of keys while windows are incomplete.
    pub incomplete: Incomplete,
    /// The condition.
    pub condition: Condition,
}

/// What becomes of keys whose membership could come from events that a window does not have yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Incomplete {
    /// They do not enter before the window is complete.
    #[default]
    Hold,
    /// They enter at once.
    Send,
}

/// Text with its place: a predicate. Equal where the text is, wherever the file has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Text {
    /// The text.
    pub value: String,
    /// Its place.
    pub place: Place,
}

impl PartialEq for Text {
    fn eq(&self, other: &Text) -> bool {
        self.value == other.value
    }
}

/// A condition with its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// Its place.
    pub place: Place,
    /// The condition itself.
    pub kind: ConditionKind,
}

/// SPEC §3's grammar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ConditionKind {
    /// All hold; true if there are none.
    All(Vec<Condition>),
    /// Any holds; false if there are none.
    Any(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// The key is in that audience.
    Audience(String),
    /// A predicate on the key's row.
    Property(Text),
    /// An aggregate over the matching events in the window, compared.
    Performed {
        /// The event's id.
        event: String,
        /// Which of them; `None`: all.
        filter: Option<Text>,
        /// The value that is compared.
        aggregate: Aggregate,
        /// The comparison.
        comparison: Comparison,
        /// The window, ms.
        within: u64,
    },
    /// An aggregate over the rows that belong to the key, compared.
    Related {
        /// The model's id.
        model: String,
        /// Which rows; `None`: all.
        filter: Option<Text>,
        /// A condition of that model, which the key of a row must meet; `None`: none.
        whose: Option<Box<Condition>>,
        /// The value that is compared.
        aggregate: Aggregate,
        /// The place of the column that it takes; for the count that of the condition.
        aggregate_place: Place,
        /// The comparison.
        comparison: Comparison,
    },
    /// Events that match the steps, in order.
    Sequence {
        /// Two or more.
        steps: Vec<SequenceStep>,
        /// Events of which none lies between the first and the last step's.
        without: Vec<EventMatch>,
        /// The window, ms.
        within: u64,
    },
}

/// A step of a sequence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SequenceStep {
    /// Its events.
    pub of: EventMatch,
    /// How much later its event may be than that of the step before, ms; `None`: any time. Always `None` for the first step.
    pub after: Option<u64>,
}

/// Events of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventMatch {
    /// The event's id.
    pub event: String,
    /// Which of them; `None`: all.
    pub filter: Option<Text>,
}

/// A value that is computed from rows or events.
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

impl Aggregate {
    /// Returns the column that it takes; `None` for the count.
    pub fn column(&self) -> Option<&str> {
        match self {
            Aggregate::Count => None,
            Aggregate::Sum(column)
            | Aggregate::Avg(column)
            | Aggregate::Min(column)
            | Aggregate::Max(column)
            | Aggregate::Distinct(column) => Some(column),
        }
    }

    /// Returns whether it takes a column of a type: `distinct` takes all but lists, the others integers and numbers.
    pub fn takes(&self, column_type: ColumnType) -> bool {
        match self {
            Aggregate::Count => false,
            Aggregate::Distinct(_) => !column_type.is_list(),
            Aggregate::Sum(_) | Aggregate::Avg(_) | Aggregate::Min(_) | Aggregate::Max(_) => {
                matches!(column_type, ColumnType::Integer | ColumnType::Number)
            }
        }
    }
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

/// A destination, and the audiences whose changes it receives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sync {
    /// Its place in the file.
    pub place: Place,
    /// The author's description.
    pub description: Option<String>,
    /// The audiences' ids, sorted; all of the job's audiences if the file has no list.
    pub audiences: Vec<String>,
    /// Whether entries are sent.
    pub send_entry: bool,
    /// Whether exits are sent.
    pub send_exit: bool,
    /// Whether updates are sent; then `include` has columns.
    pub send_update: bool,
    /// The messages' format.
    pub format: SyncFormat,
    /// Columns of the member's row that messages carry, each with its place.
    pub include: Vec<Text>,
    /// The name of an entry in messages; `None`: that of the format.
    pub entry_name: Option<String>,
    /// The name of an exit in messages; `None`: that of the format.
    pub exit_name: Option<String>,
    /// The name of an update in messages; `None`: that of the format.
    pub update_name: Option<String>,
    /// Templates by the path of the field that each fills.
    pub fields: BTreeMap<String, Text>,
    /// Whether a new sync receives an entry for each present member. If not, it receives only later changes.
    pub backfill: bool,
    /// What happens to the members of an audience that the sync no longer has.
    pub on_remove: OnRemove,
    /// The destination.
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

/// What happens to the members of a removed audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnRemove {
    /// They exit.
    Exit,
    /// Nothing is sent for them.
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
    /// Requests by HTTP.
    Webhook(Box<WebhookTarget>),
}

/// A topic that changes are sent to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KafkaTarget {
    /// The cluster.
    pub kafka: Kafka,
    /// The topic.
    pub topic: String,
    /// The number of partitions that a missing topic is created with; `None`: the topic must exist.
    pub partitions: Option<u32>,
    /// How often a change may be delivered.
    pub delivery: Delivery,
    /// ms between commits of transactions.
    pub commit_every: u64,
}

/// How often a change may be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// Once, to readers of committed messages.
    ExactlyOnce,
    /// Again after a crash.
    AtLeastOnce,
}

/// A destination of messages that can't be parsed.
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
    /// How far ahead of the clock an event may be, ms.
    pub future_skew: u64,
    /// The longest message, bytes.
    pub message_bytes: u64,
}
