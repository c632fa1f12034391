//! Small random jobs with histories, from a seed: what the engine and the oracle are compared on.
//!
//! A [`Sample`] is a job file's text, the lines of its event files and the rows of its models, all made from one
//! number, so that a failure is reproduced by printing it. The hard cases are frequent: partitions that run apart, late
//! messages, bursts in one ms, timestamps exactly at the end of a window and one ms before it, repeats in other
//! partitions and with other timestamps, messages of the future, nulls, anonymous traffic, events of two sources, equal events under two
//! names, audiences of audiences, sequences whose steps and exclusions overlap, `now()` moments, and columns of parents that events set. [`Sample::history`] is the same input for the oracle.
//!
//! It touches no file: its caller writes lines and Parquet.

use crate::Value;
use crate::oracle::{Flags, History, Message, Occurrence, Partition, Row};
use crate::plan::{EventPlan, Plan};
use serde_json::{Value as Json, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use usher_config::{ColumnType, Step};
use usher_core::time;

/// 2023-11-14 22:13:20 UTC, ms: where all histories start.
const EPOCH: i64 = 1_700_000_000_000;
/// How long the input of a job is, ms: longer than the longest window.
const SPAN: i64 = 100_000;
/// `limits.future_skew` of all jobs, ms.
const SKEW: i64 = 10_000;
/// The windows of all conditions, ms; few, so that ends of windows coincide.
const WINDOWS: [i64; 6] = [1_000, 2_000, 5_000, 10_000, 30_000, 60_000];

/// A job with its input.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The number that it was made from.
    pub seed: u64,
    /// The job file's text, YAML. Its paths are relative to the folder that it is written to.
    pub job: String,
    /// The files of events, in the order of their ranks of arrival.
    pub files: Vec<EventFile>,
    /// The rows of the models, by model id, to be written with the columns of [`parquet_of`].
    pub rows: BTreeMap<String, Vec<Row>>,
    /// The flags of the replay.
    pub flags: Flags,
}

/// A file of events: one partition.
#[derive(Clone, Debug, PartialEq)]
pub struct EventFile {
    /// The source's id.
    pub source: String,
    /// Its path, relative to the job's folder.
    pub path: String,
    /// Its lines.
    pub messages: Vec<SampleMessage>,
}

/// A message in Segment's format.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleMessage {
    /// `type`.
    pub kind: &'static str,
    /// `event`.
    pub name: Option<&'static str>,
    /// `userId`: a string, an integer or null.
    pub user: Json,
    /// `messageId`.
    pub id: Option<String>,
    /// `timestamp`, ms.
    pub timestamp: i64,
    /// `properties`.
    pub properties: BTreeMap<&'static str, Json>,
}

impl SampleMessage {
    /// Returns the message as one line of JSON, without its newline.
    pub fn line(&self) -> String {
        let mut message = json!({
            "type": self.kind,
            "userId": self.user,
            "timestamp": time::timestamp(self.timestamp).expect("a time near EPOCH"),
        });
        let traits = matches!(self.kind, "identify" | "group");
        message[if traits { "traits" } else { "properties" }] = json!(self.properties);
        if let Some(name) = self.name {
            message["event"] = json!(name);
        }
        if let Some(id) = &self.id {
            message["messageId"] = json!(id);
        }
        message.to_string()
    }

    /// Returns the key, as SPEC reads it. `None` for anonymous traffic.
    fn key(&self) -> Option<String> {
        match &self.user {
            Json::String(key) if !key.is_empty() => Some(key.clone()),
            Json::Number(key) => Some(key.to_string()),
            _ => None,
        }
    }
}

impl EventFile {
    /// Returns the file's content.
    pub fn text(&self) -> String {
        self.messages.iter().map(|message| message.line() + "\n").collect()
    }
}

/// Returns how a sample's job declares a model: the path of its Parquet file, the column of its key, that of its
/// foreign key, and its other columns with their types.
///
/// # Panics
///
/// Panics if samples have no snapshot of that model.
pub fn parquet_of(
    model: &str,
) -> (&'static str, &'static str, Option<&'static str>, &'static [(&'static str, &'static str)]) {
    match model {
        "users" => (
            "users.parquet",
            "user_id",
            Some("account"),
            &[("active", "boolean"), ("ltv", "number"), ("plan", "string"), ("trial_ends", "timestamp")],
        ),
        "orders" => (
            "orders.parquet",
            "order_id",
            Some("customer_id"),
            &[("amount", "number"), ("due", "timestamp"), ("items", "integer"), ("status", "string")],
        ),
        "accounts" => {
            ("accounts.parquet", "account_id", Some("company"), &[("renews", "timestamp"), ("tier", "string")])
        }
        "companies" => ("companies.parquet", "company_id", None, &[("founded", "timestamp"), ("size", "integer")]),
        other => panic!("samples have no snapshot of `{other}`"),
    }
}

impl Sample {
    /// Makes the sample of `seed`.
    pub fn new(seed: u64) -> Sample {
        let mut random = fastrand::Rng::with_seed(seed);
        // From the front or from the back, so that few keys are now known and now not.
        let (few, many) = (random.usize(3..=8), random.bool());
        let keys = if many { &KEYS[..few] } else { &KEYS[8 - few..] };
        let anyone = random.bool();
        Maker {
            random,
            // Its own, so that what it draws moves no other draw.
            of_parents: fastrand::Rng::with_seed(!seed),
            windows: Vec::new(),
            keys,
            anyone,
            live: Vec::new(),
            live_of_accounts: Vec::new(),
            sets: false,
            accounts: false,
            companies: false,
        }
        .sample(seed)
    }

    /// Returns the input as the oracle takes it; `plan` is this sample's job, compiled.
    pub fn history(&self, plan: &Plan) -> History {
        let partition = |(rank, file): (usize, &EventFile)| {
            let message = |(position, message): (usize, &SampleMessage)| {
                let id = message.id.clone().unwrap_or_else(|| format!("at {rank}:{position}"));
                let matching = plan.events.iter().enumerate().filter(|(_, event)| {
                    event.sources.contains(&file.source)
                        && event.kind.as_deref().is_none_or(|kind| kind == message.kind)
                        && (event.names.is_empty()
                            || message.name.is_some_and(|name| event.names.iter().any(|one| one == name)))
                });
                let occurrence = |(event, plan): (usize, &EventPlan)| {
                    let (key, id) = (message.key()?, id.clone());
                    let (values, says) = (values(plan, message), says(plan, message));
                    Some(Occurrence { event: event as u32, key, id, values, says })
                };
                Message {
                    position: position as u64,
                    timestamp: Some(message.timestamp),
                    occurrences: matching.filter_map(occurrence).collect(),
                }
            };
            let messages = file.messages.iter().enumerate().map(message).collect();
            Partition { source: file.source.clone(), messages }
        };
        let partitions = self.files.iter().enumerate().map(partition).collect();
        History { partitions, rows: self.rows.clone(), pulled: None }
    }
}

/// Returns the values of an event's columns; samples only have properties of the declared type, or null.
fn values(plan: &EventPlan, message: &SampleMessage) -> Vec<Value<'static>> {
    let value = |column: &crate::plan::EventColumn| match column.path.0.last() {
        Some(Step::Key(name)) => match message.properties.get(name.as_str()) {
            None | Some(Json::Null) => Value::Null,
            Some(Json::Bool(b)) => Value::Boolean(*b),
            Some(Json::String(s)) if column.column_type == ColumnType::Timestamp => {
                Value::Timestamp(time::parse_timestamp(s).expect("samples have sound times"))
            }
            Some(Json::String(s)) => match column.column_type {
                ColumnType::Integer => Value::Integer(s.parse().expect("samples have integers in strings")),
                ColumnType::Number => Value::Number(s.parse().expect("samples have numbers in strings")),
                ColumnType::Boolean => Value::Boolean(s == "true"),
                _ => Value::String(Cow::Owned(s.clone())),
            },
            // No value of any type that samples have.
            Some(Json::Object(_)) => Value::Null,
            Some(Json::Number(n)) => match (column.column_type, n.as_i64()) {
                (ColumnType::Integer, Some(n)) => Value::Integer(n),
                _ => Value::Number(n.as_f64().expect("samples have plain numbers")),
            },
            Some(other) => panic!("samples have no properties such as `{other}`"),
        },
        _ => panic!("samples read properties by name"),
    };
    plan.columns.iter().map(value).collect()
}

/// Returns, by column of an event, whether a message says something: it has a value there, or null.
fn says(plan: &EventPlan, message: &SampleMessage) -> Vec<bool> {
    let says = |column: &crate::plan::EventColumn| match column.path.0.last() {
        Some(Step::Key(name)) => message.properties.get(name.as_str()).is_some_and(|value| !value.is_object()),
        _ => false,
    };
    plan.columns.iter().map(says).collect()
}

/// An event of the job.
#[derive(Clone, Copy)]
struct EventLine {
    id: &'static str,
    sources: &'static [&'static str],
    kind: &'static str,
    /// Any if empty.
    names: &'static [&'static str],
    model: &'static str,
    /// Its `where`.
    filter: Option<&'static str>,
    properties: &'static str,
}

impl EventLine {
    /// Returns whether it sets live columns, and nothing else.
    fn sets(&self) -> bool {
        self.properties != PROPERTIES
    }
}

/// The properties of events that conditions are about.
const PROPERTIES: &str = "n: integer, s: string, b: boolean, x: number";

/// The columns that may be live, with the property that sets each.
const LIVE: [(&str, &str); 5] =
    [("account", "account"), ("active", "active"), ("ltv", "ltv"), ("plan", "plan"), ("trial_ends", "ends")];

/// The columns of accounts that may be live, with the property that sets each.
const LIVE_OF_ACCOUNTS: [(&str, &str); 3] = [("company", "company"), ("renews", "renews"), ("tier", "tier")];

/// The properties of the event that sets them.
const ACCOUNT_PROPERTIES: &str = "company: string, renews: timestamp, tier: string";

/// The keys of companies; the last is in no snapshot.
const COMPANIES: [&str; 3] = ["c0", "c1", "c9"];

/// The keys of accounts; the last is in no snapshot.
const ACCOUNTS: [&str; 4] = ["a0", "a1", "a2", "a9"];

/// The keys of aggregates.
const AGGREGATES: [&str; 5] = ["sum", "avg", "min", "max", "distinct"];

/// The keys of comparisons.
const COMPARISONS: [&str; 6] = ["at_least", "at_most", "more_than", "less_than", "exactly", "between"];

/// Predicates on the properties of events.
const FILTERS: [&str; 10] = [
    "n > 2",
    "s = 'a'",
    "s in ('a', 'b')",
    "n is null",
    "b",
    "not b",
    "x >= 1.5",
    "n > 1 and s <> 'b'",
    "s like 'a%' or x = 0.1",
    "coalesce(n, 3) + 1 > 3",
];

struct Maker {
    random: fastrand::Rng,
    /// For columns of parents.
    of_parents: fastrand::Rng,
    /// The windows that the job uses.
    windows: Vec<i64>,
    /// The keys in play.
    keys: &'static [&'static str],
    /// Whether keys outside the snapshot may be members of users' audiences.
    anyone: bool,
    /// The live columns of users.
    live: Vec<&'static str>,
    /// The live columns of accounts.
    live_of_accounts: Vec<&'static str>,
    /// Whether messages come that set live columns of users.
    sets: bool,
    /// Whether users belong to accounts that have audiences.
    accounts: bool,
    /// Whether these belong to companies.
    companies: bool,
}

/// `7` may stand in a message as a number; the last three are in no snapshot.
const KEYS: [&str; 8] = ["u0", "7", "u1", "u2", "u3", "u5", "u6", "u7"];

impl Maker {
    fn sample(mut self, seed: u64) -> Sample {
        self.accounts = self.random.bool();
        self.companies = self.accounts && self.of_parents.u8(0..3) > 0;
        let mut events = self.events();
        self.sets = events.iter().any(EventLine::sets);
        self.grouped(&mut events);
        let job = self.job(&events);
        let now = EPOCH + SPAN;
        let mut files = self.files(&events, now);
        self.groups(&mut files);
        let rows = [
            ("users", self.users()),
            ("orders", self.orders()),
            ("accounts", self.accounts()),
            ("companies", self.companies()),
        ];
        let rows = rows.into_iter().map(|(model, rows)| (model.to_string(), rows)).collect();
        let near = |random: &mut fastrand::Rng| EPOCH + random.i64(-5_000..SPAN + 70_000);
        let from = (self.random.u8(0..4) == 0).then(|| near(&mut self.random));
        let until = match self.random.u8(0..4) {
            // Long enough that all windows end.
            0 | 1 => Some(EPOCH + SPAN + 90_000),
            2 => Some(near(&mut self.random).max(from.unwrap_or(i64::MIN))),
            _ => None,
        };
        Sample { seed, job, files, rows, flags: Flags { from, until, now } }
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.random.usize(0..of.len())]
    }

    /// Returns true once in `n` times.
    fn once_in(&mut self, n: u8) -> bool {
        self.random.u8(0..n) == 0
    }

    fn events(&mut self) -> Vec<EventLine> {
        let sources: &[&str] = if self.random.bool() { &["app", "web"] } else { &["web"] };
        let names: &[&str] = if self.once_in(3) { &["Added", "Bought"] } else { &["Bought"] };
        let filter = self.event_filter();
        let properties = PROPERTIES;
        let names_added = &["Added"];
        let added =
            EventLine { id: "added", sources, kind: "track", names: names_added, model: "users", filter, properties };
        let filter = self.event_filter();
        let mut events = vec![added, EventLine { id: "bought", names, filter, ..added }];
        if self.random.bool() {
            let sources: &[&str] = self.one(&[&["app"], &["web"], &["app", "web"]]);
            let filter = self.event_filter();
            events.push(EventLine { id: "viewed", kind: "page", sources, names: &[], filter, ..added });
        }
        if self.random.bool() {
            self.live = LIVE.iter().map(|(column, _)| *column).filter(|_| self.random.u8(0..4) > 0).collect();
            let sources: &[&str] = self.one(&[&["app"], &["web"], &["app", "web"]]);
            let filter = self.once_in(4).then_some("coalesce(active, true)");
            let properties = "account: string, active: boolean, ends: timestamp, ltv: number, plan: string";
            let set =
                EventLine { id: "identified", kind: "identify", sources, names: &[], filter, properties, ..added };
            events.push(set);
        }
        if self.random.bool() {
            // The same as `added`, under another name: their equal conditions must be one.
            if self.random.bool() {
                events.push(EventLine { id: "put", ..added });
            } else {
                let filter = self.event_filter();
                let sources = &["app"];
                let visited =
                    EventLine { id: "visited", sources, kind: "page", names: &[], model: "visitors", filter, ..added };
                if self.random.bool() {
                    let (filter, properties) = (None, "plan: string");
                    events.push(EventLine { id: "hailed", kind: "identify", filter, properties, ..visited });
                }
                events.push(visited);
            }
        }
        events
    }

    /// Returns the `where` of an event.
    fn event_filter(&mut self) -> Option<&'static str> {
        self.once_in(4).then(|| self.one(&FILTERS))
    }

    fn job(&mut self, events: &[EventLine]) -> String {
        let mut job = String::from("job: sample\n\nsources:\n");
        for source in ["app", "web"] {
            if events.iter().any(|event| event.sources.contains(&source)) {
                writeln!(job, "  {source}: {{file: {{path: events/{source}/}}, format: segment}}").expect("a string");
            }
        }
        job.push_str("\nmodels:\n");
        let models: &[&str] = match (self.companies, self.accounts) {
            (true, _) => &["companies", "accounts", "users", "orders"],
            (false, true) => &["accounts", "users", "orders"],
            (false, false) => &["users", "orders"],
        };
        for model in models {
            let (path, key, foreign_key, columns) = parquet_of(model);
            let (event, live): (_, Vec<&(&str, &str)>) = match *model {
                "users" => ("identified", LIVE.iter().filter(|(column, _)| self.live.contains(column)).collect()),
                "accounts" => {
                    let of_accounts = LIVE_OF_ACCOUNTS.iter();
                    ("grouped", of_accounts.filter(|(column, _)| self.live_of_accounts.contains(column)).collect())
                }
                _ => ("", Vec::new()),
            };
            let column = |(name, kind): &(&str, &str)| match live.iter().find(|(column, _)| column == name) {
                Some((_, property)) => {
                    format!("{name}: {{type: {kind}, live: {{event: {event}, property: {property}}}}}")
                }
                None => format!("{name}: {kind}"),
            };
            let mut columns: Vec<String> = columns.iter().map(column).collect();
            if let Some((name, _)) = live.iter().find(|(name, _)| foreign_key == Some(name)) {
                columns.push(column(&(name, "string")));
            }
            write!(job, "  {model}: {{parquet: {path}, key: {key}, columns: {{{}}}", columns.join(", "))
                .expect("a string");
            let parent = match *model {
                "orders" => Some("users"),
                "users" => self.accounts.then_some("accounts"),
                _ => self.companies.then_some("companies"),
            };
            if let Some((foreign_key, parent)) = foreign_key.zip(parent) {
                write!(job, ", belongs_to: {{model: {parent}, foreign_key: {foreign_key}}}").expect("a string");
            }
            if !["orders", "companies"].contains(model) && self.anyone {
                job.push_str(", members: any");
            }
            job.push_str("}\n");
        }
        if events.iter().any(|event| event.model == "visitors") {
            let live = "plan: {type: string, live: {event: hailed, property: plan}}, city: string";
            let hailed = events.iter().any(|event| event.id == "hailed");
            let columns = if hailed { format!(", columns: {{{live}}}") } else { String::new() };
            writeln!(job, "  visitors: {{key: visitor_id{columns}}}").expect("a string");
        }
        job.push_str("\nevents:\n");
        for EventLine { id, sources, kind, names, model, filter, properties } in events {
            let list = |texts: &[&str]| match texts {
                [one] => one.to_string(),
                many => format!("[{}]", many.join(", ")),
            };
            let name = if names.is_empty() { String::new() } else { format!(", name: {}", list(names)) };
            let filter = filter.map_or(String::new(), |filter| format!(", where: \"{filter}\""));
            let sources = list(sources);
            writeln!(
                job,
                "  {id}: {{source: {sources}, type: {kind}{name}{filter}, model: {model}, properties: {{{properties}}}}}"
            )
            .expect("a string");
        }
        job.push_str("\naudiences:\n");
        let mut audiences: Vec<(String, &str)> = Vec::new();
        for ix in 0..self.random.usize(3..=7) {
            // Ids out of order, so that a mentioned audience comes before and after by id.
            let id = format!("{}{ix}", self.one(&["a", "m", "z"]));
            let visitors = events.iter().any(|event| event.model == "visitors") && self.once_in(3);
            let accounts = !visitors && self.accounts && self.random.bool();
            let model = if visitors {
                "visitors"
            } else if accounts {
                "accounts"
            } else {
                "users"
            };
            let of = |model: &str| {
                let of = audiences.iter().filter(|(_, of)| *of == model);
                of.map(|(id, _)| id.clone()).collect::<Vec<String>>()
            };
            let others = of(model);
            if accounts {
                let users = of("users");
                let mut condition = self.account(events, &others, &users, 2);
                if self.anyone {
                    // No key of which nothing is known is a member.
                    let mut some = self.related_users(events, &users);
                    AGGREGATES.iter().chain(&COMPARISONS).for_each(|key| {
                        some.as_object_mut().expect("an object").remove(*key);
                    });
                    condition = json!({"all": [some, condition]});
                }
                writeln!(job, "  {id}: {{model: {model}, where: {condition}}}").expect("a string");
                audiences.push((id, model));
                continue;
            }
            let mut condition = self.condition(model, events, &others, 2);
            if visitors || self.anyone {
                // Where keys outside the snapshot may be members, one of which nothing is known must not be.
                condition = json!({"all": [self.something(model, events), condition]});
            }
            writeln!(job, "  {id}: {{model: {model}, where: {condition}}}").expect("a string");
            audiences.push((id, model));
        }
        write!(job, "\nlimits: {{future_skew: {}s}}\n", SKEW / 1_000).expect("a string");
        job
    }

    /// Returns a condition that does not hold for a key of which nothing is known.
    fn something(&mut self, model: &str, events: &[EventLine]) -> Json {
        match self.random.u8(0..4) {
            0 if model == "users" => {
                json!({"property": self.one(&["plan is not null", "trial_ends > now()"])})
            }
            1 if model == "users" => {
                json!({"property": self.one(&["active", "ltv >= 0", "plan = 'pro'"])})
            }
            2 if self.random.bool() => self.sequence(model, events),
            _ => {
                let mut performed = self.performed(model, events);
                let count = self.random.u8(1..=2);
                for key in AGGREGATES.iter().chain(&COMPARISONS) {
                    performed.as_object_mut().expect("an object").remove(*key);
                }
                performed["at_least"] = json!(count);
                performed
            }
        }
    }

    fn condition(&mut self, model: &str, events: &[EventLine], others: &[String], depth: u8) -> Json {
        if self.once_in(5) {
            return self.sequence(model, events);
        }
        let leaves = if depth == 0 { 5 } else { 9 };
        match self.random.u8(0..leaves) {
            0 | 1 => self.performed(model, events),
            2 if model == "users" => json!({"property": self.property()}),
            2 | 3 if events.iter().any(|event| event.id == "hailed") && model == "visitors" => {
                json!({"property": self.one(&["plan = 'pro'", "plan is null", "city is null and plan <> 'pro'"])})
            }
            3 if model == "users" => self.related(),
            4 if !others.is_empty() => {
                json!({"audience": others[self.random.usize(0..others.len())]})
            }
            5 => json!({"not": self.condition(model, events, others, depth - 1)}),
            6 | 7 => {
                let parts = self.random.usize(0..=3);
                let parts: Vec<Json> = (0..parts).map(|_| self.condition(model, events, others, depth - 1)).collect();
                if self.random.bool() { json!({"all": parts}) } else { json!({"any": parts}) }
            }
            _ => self.performed(model, events),
        }
    }

    /// Aggregates one of the columns and compares with what its values often add up to.
    fn aggregate(&mut self, condition: &mut Json, aggregate: &str, columns: &[&str]) {
        condition[aggregate] = json!(self.one(columns));
        let sums: [f64; 11] = [-0.7, 0.0, 0.1, 0.2, 0.9, 1.0, 1.5, 1.6, 2.0, 3.0, 5.0];
        let (a, b) = (self.one(&sums), self.one(&sums));
        match self.random.u8(0..6) {
            0 => condition["at_least"] = json!(a),
            1 => condition["at_most"] = json!(a),
            2 => condition["more_than"] = json!(a),
            3 => condition["less_than"] = json!(a),
            4 => condition["exactly"] = json!(a),
            _ => condition["between"] = json!([a.min(b), a.max(b)]),
        }
    }

    /// Compares a count, or leaves it at its default.
    fn comparison(&mut self, condition: &mut Json, greatest: i64) {
        if !self.once_in(4) {
            self.bound(condition, greatest);
        }
    }

    fn bound(&mut self, condition: &mut Json, greatest: i64) {
        let n = self.random.i64(0..=greatest);
        match self.random.u8(0..6) {
            2 => condition["at_most"] = json!(n),
            1 => condition["more_than"] = json!(n),
            3 => condition["less_than"] = json!(n),
            4 => condition["exactly"] = json!(n),
            5 => condition["between"] = json!([n, n + self.random.i64(0..=greatest)]),
            _ => condition["at_least"] = json!(n),
        }
    }

    fn performed(&mut self, model: &str, events: &[EventLine]) -> Json {
        let mine = events.iter().filter(|event| event.model == model && !event.sets());
        let mine: Vec<&str> = mine.map(|event| event.id).collect();
        let within = self.one(&WINDOWS);
        self.windows.push(within);
        let mut performed = json!({"performed": self.one(&mine), "within": format!("{}s", within / 1_000)});
        if self.random.bool() {
            performed["where"] = json!(self.one(&FILTERS));
        }
        match self.random.u8(0..19) {
            0 | 1 | 12 | 13 | 15 => self.aggregate(&mut performed, "sum", &["n", "x"]),
            2 | 16 => self.aggregate(&mut performed, "avg", &["n", "x"]),
            3 => self.aggregate(&mut performed, "min", &["n", "x"]),
            4 | 14 => self.aggregate(&mut performed, "max", &["n", "x"]),
            5 | 17 => {
                performed["distinct"] = json!(self.one(&["b", "n", "s", "x"]));
                self.bound(&mut performed, 3);
            }
            _ => self.comparison(&mut performed, 3),
        }
        performed
    }

    /// Draws a sequence that events of this model often complete, and often break.
    fn sequence(&mut self, model: &str, events: &[EventLine]) -> Json {
        let mine = events.iter().filter(|event| event.model == model && !event.sets());
        let mine: Vec<&str> = mine.map(|event| event.id).collect();
        let within = self.one(&WINDOWS[2..]);
        self.windows.push(within);
        let count = self.one(&[2, 2, 2, 2, 3, 3, 4]);
        let mut steps: Vec<Json> = (0..count).map(|_| self.matching(&mine)).collect();
        for step in &mut steps[1..] {
            if self.once_in(3) {
                let after = self.one(&WINDOWS[..5]);
                self.windows.push(after);
                step["after"] = json!(format!("{}s", after / 1_000));
            }
        }
        let mut sequence = json!({"sequence": &steps, "within": format!("{}s", within / 1_000)});
        if !self.once_in(3) {
            // An event that is no step breaks more than one that may itself begin or end a sequence.
            let is_step = |event: &&str| steps.iter().any(|step| step["performed"] == **event);
            let others: Vec<&str> = mine.iter().copied().filter(|event| !is_step(event)).collect();
            let mine = if others.is_empty() || self.once_in(3) { mine } else { others };
            let excluded = self.one(&[1, 2, 2]);
            // Without a filter more events break it.
            let mut exclusion =
                || if self.once_in(6) { self.matching(&mine) } else { json!({"performed": self.one(&mine)}) };
            sequence["without"] = (0..excluded).map(|_| exclusion()).collect();
        }
        sequence
    }

    /// Draws events of a step or an exclusion.
    fn matching(&mut self, events: &[&str]) -> Json {
        let mut matching = json!({"performed": self.one(events)});
        if self.once_in(3) {
            matching["where"] = json!(self.one(&FILTERS));
        }
        matching
    }

    fn property(&mut self) -> &'static str {
        let own = self.own_property();
        let of_accounts: &[&str] = &[
            "accounts.tier = 'gold'",
            "accounts.tier is null",
            "accounts.tier <> 'gold' or ltv > 50",
            "accounts.renews > now()",
            "accounts.renews <= now() - interval '5 seconds'",
            "accounts.renews < now() and active",
        ];
        let of_companies: &[&str] = &[
            "accounts.companies.size > 10",
            "accounts.companies.size is null and accounts.tier = 'gold'",
            "accounts.companies.founded <= now()",
            "coalesce(accounts.companies.size, 20) > 10 and plan = 'pro'",
        ];
        match (self.accounts, self.companies) {
            (true, true) => self.or_of_parents(own, &[of_accounts, of_companies].concat()),
            (true, false) => self.or_of_parents(own, of_accounts),
            _ => own,
        }
    }

    /// Returns a predicate, or in its place one of those on columns of parents.
    fn or_of_parents(&mut self, own: &'static str, of_parents: &[&'static str]) -> &'static str {
        match self.of_parents.u8(0..5) {
            0 | 1 => own,
            _ => of_parents[self.of_parents.usize(0..of_parents.len())],
        }
    }

    fn own_property(&mut self) -> &'static str {
        self.one(&[
            "ltv > 50",
            "plan = 'pro'",
            "plan is null",
            "active",
            "not active and ltv < 100",
            "trial_ends > now()",
            "trial_ends <= now() - interval '5 seconds'",
            "trial_ends < now() and plan = 'free'",
        ])
    }

    /// Returns a condition on an account.
    fn account(&mut self, events: &[EventLine], others: &[String], users: &[String], depth: u8) -> Json {
        match self.random.u8(0..if depth == 0 { 4 } else { 7 }) {
            0 => {
                let own = self.one(&["tier = 'gold'", "tier is null"]);
                let of_companies = ["companies.size > 10", "companies.founded > now() or tier = 'gold'"];
                json!({"property": if self.companies { self.or_of_parents(own, &of_companies) } else { own }})
            }
            1 if !others.is_empty() => json!({"audience": others[self.random.usize(0..others.len())]}),
            4 => json!({"not": self.account(events, others, users, depth - 1)}),
            5 => {
                let parts: Vec<Json> = (0..2).map(|_| self.account(events, others, users, depth - 1)).collect();
                if self.random.bool() { json!({"all": parts}) } else { json!({"any": parts}) }
            }
            _ => self.related_users(events, users),
        }
    }

    /// Returns a condition on the users of an account.
    fn related_users(&mut self, events: &[EventLine], users: &[String]) -> Json {
        let mut related = json!({"related": "users"});
        if self.random.bool() {
            related["where"] = json!(self.property());
        }
        if self.random.u8(0..3) > 0 {
            related["whose"] = self.condition("users", events, users, 1);
        }
        match self.random.u8(0..7) {
            0 => related["sum"] = json!("ltv"),
            1 => related["max"] = json!("ltv"),
            2 => related["min"] = json!("ltv"),
            3 => related["distinct"] = json!("plan"),
            _ => {
                self.comparison(&mut related, 3);
                return related;
            }
        }
        self.bound(&mut related, 3);
        related
    }

    fn related(&mut self) -> Json {
        let mut related = json!({"related": "orders"});
        if self.random.bool() {
            let filters = ["status = 'paid'", "amount > 1", "due > now()", "due < now() + interval '10 seconds'"];
            let own = self.one(&filters);
            let of_users = ["users.plan = 'pro' and amount > 0", "users.trial_ends > now()", "not users.active"];
            let of_accounts = ["users.accounts.tier = 'gold'", "users.accounts.renews <= now() or amount > 1"];
            let of_accounts = if self.accounts { &of_accounts[..] } else { &[] };
            related["where"] = json!(self.or_of_parents(own, &[&of_users[..], of_accounts].concat()));
        }
        if self.once_in(4) {
            let whose = ["amount >= 1", "due > now() - interval '20 seconds'", "status <> 'open'"];
            related["whose"] = json!({"property": self.one(&whose)});
        }
        match self.random.u8(0..8) {
            0 | 1 => related["sum"] = json!("amount"),
            2 => related["avg"] = json!("amount"),
            3 => related["min"] = json!("amount"),
            4 => related["max"] = json!("items"),
            5 => related["distinct"] = json!("status"),
            _ => {
                self.comparison(&mut related, 3);
                return related;
            }
        }
        self.bound(&mut related, 3);
        related
    }

    fn key(&mut self) -> String {
        self.one(self.keys).to_string()
    }

    fn users(&mut self) -> Vec<Row> {
        let mut rows = Vec::new();
        for key in &KEYS[..5] {
            let mut values = BTreeMap::new();
            let ltv = self.one(&[0.0, 49.5, 50.0, 50.000000001, 99.0, 300.0]);
            values.insert("ltv".to_string(), self.or_null(Value::Number(ltv)));
            let active = self.random.bool();
            values.insert("active".to_string(), self.or_null(Value::Boolean(active)));
            let plan = self.one(&["free", "pro"]);
            values.insert("plan".to_string(), self.or_null(Value::String(plan.into())));
            let trial_ends = EPOCH + self.random.i64(-10_000..SPAN);
            values.insert("trial_ends".to_string(), self.or_null(Value::Timestamp(trial_ends)));
            let account = self.one(&ACCOUNTS);
            let foreign_key = (!self.once_in(6)).then(|| account.to_string());
            let account = foreign_key.clone().map_or(Value::Null, |key| Value::String(key.into()));
            values.insert("account".to_string(), account);
            rows.push(Row { key: key.to_string(), values, foreign_key });
        }
        rows
    }

    fn accounts(&mut self) -> Vec<Row> {
        let mut row = |key: &&str| {
            let tier = self.one(&["gold", "basic"]);
            let tier = self.or_null(Value::String(tier.into()));
            let of = &mut self.of_parents;
            let company = (of.u8(0..5) > 0).then(|| COMPANIES[of.usize(0..3)].to_string());
            let renews = EPOCH + of.i64(-10_000..SPAN);
            let renews = if of.u8(0..6) == 0 { Value::Null } else { Value::Timestamp(renews) };
            let values = [
                ("tier", tier),
                ("renews", renews),
                ("company", company.clone().map_or(Value::Null, |key| Value::String(key.into()))),
            ];
            let values = values.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
            Row { key: key.to_string(), values, foreign_key: company }
        };
        ACCOUNTS[..3].iter().map(&mut row).collect()
    }

    fn companies(&mut self) -> Vec<Row> {
        let of = &mut self.of_parents;
        let mut row = |key: &&str| {
            let size = if of.u8(0..4) == 0 { Value::Null } else { Value::Integer(of.i64(0..30)) };
            let founded = Value::Timestamp(EPOCH + of.i64(0..SPAN));
            let values = BTreeMap::from([("size".to_string(), size), ("founded".to_string(), founded)]);
            Row { key: key.to_string(), values, foreign_key: None }
        };
        COMPANIES[..2].iter().map(&mut row).collect()
    }

    /// Adds the event that sets live columns of accounts, if there is one.
    fn grouped(&mut self, events: &mut Vec<EventLine>) {
        let of = &mut self.of_parents;
        if !self.accounts || of.u8(0..4) == 0 {
            return;
        }
        let live = LIVE_OF_ACCOUNTS.iter().map(|(column, _)| *column).filter(|_| of.u8(0..4) > 0);
        self.live_of_accounts = live.filter(|column| *column != "company" || self.companies).collect();
        let filter = (of.u8(0..4) == 0).then_some("coalesce(tier, 'basic') <> 'none'");
        let sources = events[0].sources;
        events.push(EventLine {
            id: "grouped",
            sources,
            kind: "group",
            names: &[],
            model: "accounts",
            filter,
            properties: ACCOUNT_PROPERTIES,
        });
    }

    /// Adds messages that set live columns of accounts, between the others of each file.
    fn groups(&mut self, files: &mut [EventFile]) {
        if self.live_of_accounts.is_empty() {
            return;
        }
        let of = &mut self.of_parents;
        for number in 0..of.usize(10..60) {
            let file = of.usize(0..files.len());
            let messages = &mut files[file].messages;
            if messages.is_empty() {
                continue;
            }
            let at = of.usize(0..messages.len());
            // No later than the file's clock, so that the others take effect when they did.
            let clock = messages[..=at].iter().map(|message| message.timestamp).max().expect("there is one");
            let late = if of.bool() { 0 } else { of.i64(0..8_000) };
            let mut properties = BTreeMap::new();
            let renews = time::timestamp(EPOCH + of.i64(-10_000..SPAN)).expect("a time near EPOCH");
            for (name, values) in [
                ("company", ["c0", "c1", ["", "c9"][of.usize(0..2)]]),
                ("renews", [&renews; 3].map(String::as_str)),
                ("tier", ["gold", "basic", "gold"]),
            ] {
                match of.usize(0..5) {
                    0 => {}
                    1 => drop(properties.insert(name, Json::Null)),
                    value => drop(properties.insert(name, json!(values[value - 2]))),
                }
            }
            let user = json!(ACCOUNTS[of.usize(0..ACCOUNTS.len())]);
            let id = (of.u8(0..6) > 0).then(|| format!("g{}", number - number % 5 * of.usize(0..2)));
            let timestamp = clock - late;
            messages.insert(at + 1, SampleMessage { kind: "group", name: None, user, id, timestamp, properties });
        }
    }

    fn orders(&mut self) -> Vec<Row> {
        let mut rows = Vec::new();
        for ix in 0..self.random.usize(0..12) {
            let mut values = BTreeMap::new();
            let amount = self.one(&[0.1, 0.2, 0.7, 1.0, 1.5, 2.0, -1.0]);
            values.insert("amount".to_string(), self.or_null(Value::Number(amount)));
            let items = self.random.i64(0..4);
            values.insert("items".to_string(), self.or_null(Value::Integer(items)));
            let status = self.one(&["paid", "open", "sent"]);
            values.insert("status".to_string(), self.or_null(Value::String(status.into())));
            let due = EPOCH + self.random.i64(-10_000..SPAN);
            values.insert("due".to_string(), self.or_null(Value::Timestamp(due)));
            let foreign_key = if self.once_in(8) { None } else { Some(self.key()) };
            rows.push(Row { key: format!("o{ix}"), values, foreign_key });
        }
        rows
    }

    fn or_null(&mut self, value: Value<'static>) -> Value<'static> {
        if self.once_in(6) { Value::Null } else { value }
    }

    fn files(&mut self, events: &[EventLine], now: i64) -> Vec<EventFile> {
        let mut files: Vec<EventFile> = Vec::new();
        for source in ["app", "web"] {
            if events.iter().any(|event| event.sources.contains(&source)) {
                for ix in 0..self.random.usize(1..=3) {
                    let path = format!("events/{source}/{ix}.jsonl");
                    files.push(EventFile { source: source.to_string(), path, messages: Vec::new() });
                }
            }
        }
        // Repeats come in all sources of an event.
        let shared = events.iter().any(|event| event.sources.len() > 1);
        // Each partition's own clock: where it is and how far a message moves it.
        let mut clocks: Vec<(i64, i64)> =
            files.iter().map(|_| (EPOCH + self.random.i64(0..20_000), self.random.i64(1..4_000))).collect();
        for number in 0..self.random.usize(20..=310) {
            let ix = self.random.usize(0..files.len());
            if clocks[ix].0 > EPOCH + SPAN {
                continue;
            }
            let earlier: Vec<(usize, usize)> = (0..files.len())
                .filter(|other| shared || files[*other].source == files[ix].source)
                .flat_map(|other| (0..files[other].messages.len()).map(move |message| (other, message)))
                .collect();
            let repeated = (!earlier.is_empty()).then(|| {
                let (file, message) = earlier[self.random.usize(0..earlier.len())];
                files[file].messages[message].clone()
            });
            let times: Vec<i64> =
                earlier.iter().map(|(file, message)| files[*file].messages[*message].timestamp).collect();
            let timestamp = self.timestamp(&mut clocks[ix], &times, now);
            let known: Vec<&SampleMessage> =
                earlier.iter().map(|(file, message)| &files[*file].messages[*message]).collect();
            if self.once_in(4)
                && let Some(between) = self.between(number, &known, clocks[ix].0)
            {
                files[ix].messages.push(between);
                continue;
            }
            let message = match repeated {
                // A repeat: often with its own timestamp, now and then of another key, which is another event.
                Some(mut repeat) if self.once_in(4) => {
                    if self.random.bool() {
                        repeat.timestamp = timestamp;
                    }
                    if self.once_in(5) {
                        repeat.user = json!(self.key());
                    }
                    repeat
                }
                _ => self.message(number, timestamp),
            };
            files[ix].messages.push(message);
        }
        files
    }

    /// Returns a message of a key dated between two others of it, not later than `clock`: what came in order before may not be in order any
    /// more. `None` if the one that was drawn has no other near it.
    fn between(&mut self, number: usize, earlier: &[&SampleMessage], clock: i64) -> Option<SampleMessage> {
        let one = earlier.get(self.random.usize(0..earlier.len().max(1)))?;
        let is_near = |other: &&&SampleMessage| {
            let apart = one.timestamp.abs_diff(other.timestamp);
            other.user == one.user && (1..20_000).contains(&apart)
        };
        let near: Vec<i64> = earlier.iter().filter(is_near).map(|other| other.timestamp).collect();
        let other = near.get(self.random.usize(0..near.len().max(1)))?;
        let user = one.user.clone();
        let timestamp = (one.timestamp + other) / 2;
        (timestamp <= clock).then(|| SampleMessage { user, ..self.message(number, timestamp) })
    }

    /// Returns the timestamp of the next message of a partition with this clock and step, after messages with these
    /// `times`.
    fn timestamp(&mut self, (clock, step): &mut (i64, i64), times: &[i64], now: i64) -> i64 {
        let window = if self.windows.is_empty() { WINDOWS[0] } else { self.one(&self.windows.clone()) };
        let timestamp = match self.random.u8(0..24) {
            0..=3 => *clock,
            4..=6 => *clock - self.random.i64(0..=window + 500),
            7..=10 => {
                // Exactly where a window ends, or the ms before; not far ahead, or all that follows would be late.
                let before = self.random.i64(0..=1);
                let ends = times.iter().map(|time| time + window - before);
                let near: Vec<i64> = ends.filter(|end| (*clock - 30_000..*clock + 5_000).contains(end)).collect();
                if near.is_empty() { *clock } else { self.one(&near) }
            }
            11 => *clock - window,
            12 => *clock - window + 1,
            13 if self.once_in(4) => return now + SKEW + 1,
            14 if self.once_in(20) => return now + SKEW,
            _ => *clock + self.random.i64(0..=*step),
        };
        *clock = timestamp.max(*clock);
        timestamp
    }

    fn message(&mut self, number: usize, timestamp: i64) -> SampleMessage {
        let kinds = [
            ("track", Some("Added")),
            ("track", Some("Added")),
            ("track", Some("Bought")),
            ("page", None),
            ("track", Some("Else")),
            ("identify", None),
            ("identify", None),
        ];
        let (kind, name) = self.one(if self.sets { &kinds } else { &kinds[..5] });
        let key = self.key();
        let user = match self.random.u8(0..20) {
            0 => Json::Null,
            1 => json!(""),
            _ if key == "7" && self.random.bool() => json!(7),
            _ => json!(key),
        };
        let mut properties = BTreeMap::new();
        if kind == "identify" {
            let ends = time::timestamp(EPOCH + self.random.i64(-10_000..SPAN)).expect("a time near EPOCH");
            for (name, values) in [
                ("account", [json!("a0"), json!(self.one(&["a1", "", "a9"])), json!(self.one(&["a1", "a2"]))]),
                ("active", [json!(true), json!(false), json!(true)]),
                ("ends", [json!(ends), json!({}), json!(ends)]),
                ("ltv", [json!(0), json!(50.5), json!(99.0)]),
                ("plan", [json!("free"), json!("pro"), json!({"is": "pro"})]),
            ] {
                match self.random.usize(0..5) {
                    0 => {}
                    1 => drop(properties.insert(name, Json::Null)),
                    value => drop(properties.insert(name, values[value - 2].clone())),
                }
            }
            let id = (!self.once_in(12)).then(|| format!("m{number}"));
            return SampleMessage { kind, name, user, id, timestamp, properties };
        }
        for (name, values) in [
            ("n", [json!(1), json!(2), json!(3), json!("2")]),
            ("s", [json!("a"), json!("ab"), json!("b"), json!("a")]),
            ("b", [json!(true), json!(false), json!(true), json!("true")]),
            // The last is a number in a string.
            ("x", [json!(0.1), json!(1.5), json!(-0.7), json!("1.5")]),
        ] {
            match self.random.usize(0..6) {
                0 => {}
                1 => {
                    properties.insert(name, Json::Null);
                }
                value => {
                    properties.insert(name, values[value - 2].clone());
                }
            }
        }
        let id = (!self.once_in(12)).then(|| format!("m{number}"));
        SampleMessage { kind, name, user, id, timestamp, properties }
    }
}

#[cfg(test)]
mod tests;
