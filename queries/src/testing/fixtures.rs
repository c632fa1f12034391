//! Jobs and histories written by hand.
//!
//! [`job`] is a small shop: `users`, known from a snapshot; `orders`, which belong to them; `visitors`, known from
//! events only; and events of both. The functions below build its conditions. They do not check what they make: a
//! condition on something that the shop does not have is a panic when it is compiled.

use crate::Value;
use crate::oracle::{Change, History, Message, Occurrence, Partition, Reason, Row};
use crate::plan::Plan;
use std::collections::BTreeMap;
use usher_config::{
    Aggregate, Audience, BelongsTo, Cluster, ColumnType, Comparison, Condition, ConditionKind, Decimal, Encoding,
    Event, EventMatch, Format, Job, Limits, Live, Members, Model, OnRemove, Parquet, Path, Place, Property, Refresh,
    SequenceStep, Source, SourceFrom, Start, Step, Sync, SyncFormat, SyncTo, Text,
};

/// A second, ms.
pub const SECOND: i64 = 1_000;
/// A minute, ms.
pub const MINUTE: i64 = 60 * SECOND;
/// An hour, ms.
pub const HOUR: i64 = 60 * MINUTE;
/// A day, ms.
pub const DAY: i64 = 24 * HOUR;

/// Returns the shop with these audiences, as (id, model, condition). They stand on lines 10, 20, ...
pub fn job(audiences: &[(&str, &str, Condition)]) -> Job {
    let web = Source {
        place: Place::default(),
        from: SourceFrom::File { path: "events.jsonl".to_string(), follow: false },
        format: Format::Segment,
        encoding: Encoding::Json,
        unwrap: Vec::new(),
        start: Start::Window,
    };
    let audience = |(ix, (id, model, condition)): (usize, &(&str, &str, Condition))| {
        let line = 10 * (ix as u32 + 1);
        let audience = Audience {
            place: Place { path: format!("audiences.{id}"), line, column: 3, ..Place::default() },
            name: id.to_string(),
            description: None,
            owner: None,
            tags: Vec::new(),
            model: model.to_string(),
            incomplete: usher_config::Incomplete::Hold,
            condition: condition.clone(),
        };
        (id.to_string(), audience)
    };
    Job {
        name: "shop".to_string(),
        folder: Default::default(),
        sources: BTreeMap::from([("web".to_string(), web)]),
        models: models(),
        events: events(),
        audiences: audiences.iter().enumerate().map(audience).collect(),
        syncs: BTreeMap::new(),
        dead_letters: None,
        state: None,
        api: None,
        cluster: Cluster::default(),
        limits: Limits::default(),
    }
}

fn models() -> BTreeMap<String, Model> {
    let model = |key: &str, members, columns: &[(&str, ColumnType)]| Model {
        place: Place::default(),
        description: None,
        parquet: (members == Members::Known).then(|| Parquet::Files(format!("{key}.parquet").as_str().into())),
        key: key.to_string(),
        refresh: Refresh::Every(24 * HOUR as u64),
        max_exits: None,
        min_rows: None,
        force_files: false,
        columns: columns.iter().map(|(name, column_type)| (name.to_string(), *column_type)).collect(),
        live: BTreeMap::new(),
        belongs_to: None,
        members,
    };
    let users = model(
        "user_id",
        Members::Known,
        &[("ltv", ColumnType::Number), ("plan", ColumnType::String), ("trial_ends", ColumnType::Timestamp)],
    );
    let mut orders = model(
        "order_id",
        Members::Known,
        &[("amount", ColumnType::Number), ("due", ColumnType::Timestamp), ("status", ColumnType::String)],
    );
    orders.belongs_to = Some(BelongsTo { model: "users".to_string(), foreign_key: "customer_id".to_string() });
    BTreeMap::from([
        ("users".to_string(), users),
        ("orders".to_string(), orders),
        ("visitors".to_string(), model("visitor_id", Members::Any, &[])),
    ])
}

fn events() -> BTreeMap<String, Event> {
    let event = |kind: &str, name: Option<&str>, model: &str, properties: &[(&str, ColumnType)]| Event {
        place: Place::default(),
        label: None,
        description: None,
        sources: vec!["web".to_string()],
        kind: Some(kind.to_string()),
        names: name.map(str::to_string).into_iter().collect(),
        filter: None,
        model: model.to_string(),
        foreign_key: None,
        timestamp: None,
        properties: properties.iter().map(|(name, column_type)| property_at(name, *column_type)).collect(),
    };
    let ordered = event("track", Some("Order Completed"), "users", &[("revenue", ColumnType::Number)]);
    BTreeMap::from([
        ("ordered".to_string(), ordered),
        ("priced".to_string(), event("page", None, "users", &[("path", ColumnType::String)])),
        ("visited".to_string(), event("page", None, "visitors", &[])),
    ])
}

/// Makes columns of a model live: an event `identified` of it, of the type `identify`, has a property of the name and type of each.
pub fn set_live(job: &mut Job, model: &str, columns: &[&str]) {
    let of = job.models.get_mut(model).expect("a model of the shop");
    let properties = columns.iter().map(|name| property_at(name, of.columns[*name])).collect();
    let live = |name: &&str| (name.to_string(), Live { event: "identified".to_string(), property: name.to_string() });
    of.live = columns.iter().map(live).collect();
    let identified = Event {
        kind: Some("identify".to_string()),
        names: Vec::new(),
        model: model.to_string(),
        properties,
        ..job.events["ordered"].clone()
    };
    job.events.insert("identified".to_string(), identified);
}

/// Returns a sync of these audiences that includes these columns; the first stands in column 1 of line 100, the next in
/// column 2, ...
pub fn sync(audiences: &[&str], include: &[&str]) -> Sync {
    let column = |(at, name): (usize, &&str)| {
        let place =
            Place { path: format!("syncs.s.include[{at}]"), line: 100, column: at as u32 + 1, ..Place::default() };
        Text { value: name.to_string(), place }
    };
    Sync {
        place: Place::default(),
        description: None,
        audiences: audiences.iter().map(|id| id.to_string()).collect(),
        send_entry: true,
        send_exit: true,
        send_update: false,
        format: SyncFormat::Usher,
        include: include.iter().enumerate().map(column).collect(),
        entry_name: None,
        exit_name: None,
        update_name: None,
        fields: BTreeMap::new(),
        backfill: true,
        on_remove: OnRemove::Exit,
        to: SyncTo::Stdout,
    }
}

/// Returns a property that is read by its name in `properties`.
pub fn property_at(name: &str, column_type: ColumnType) -> (String, Property) {
    let path = Path(vec![Step::Key("properties".to_string()), Step::Key(name.to_string())]);
    (name.to_string(), Property { path, column_type, unit: None })
}

fn condition(kind: ConditionKind) -> Condition {
    Condition { place: Place::default(), kind }
}

/// Returns a text of the job file.
pub fn text(value: &str) -> Text {
    Text { value: value.to_string(), place: Place::default() }
}

/// Returns `all` of these conditions.
pub fn all<const N: usize>(children: [Condition; N]) -> Condition {
    condition(ConditionKind::All(children.into()))
}

/// Returns `any` of these conditions.
pub fn any<const N: usize>(children: [Condition; N]) -> Condition {
    condition(ConditionKind::Any(children.into()))
}

/// Returns `not` this condition.
pub fn not(child: Condition) -> Condition {
    condition(ConditionKind::Not(Box::new(child)))
}

/// Returns the condition to be a member of another audience.
pub fn audience(id: &str) -> Condition {
    condition(ConditionKind::Audience(id.to_string()))
}

/// Returns a `property` condition.
pub fn property(predicate: &str) -> Condition {
    condition(ConditionKind::Property(text(predicate)))
}

/// Returns a `performed` condition on the count of an event in the last `within` ms.
pub fn performed(event: &str, comparison: Comparison, within: i64) -> Condition {
    condition(ConditionKind::Performed {
        event: event.to_string(),
        filter: None,
        aggregate: Aggregate::Count,
        comparison,
        within: within as u64,
    })
}

/// Returns a `performed` condition on an aggregate of an event's property in the last `within` ms.
pub fn performed_of(event: &str, aggregate: Aggregate, comparison: Comparison, within: i64) -> Condition {
    let event = event.to_string();
    condition(ConditionKind::Performed { event, filter: None, aggregate, comparison, within: within as u64 })
}

/// Returns a `performed` condition on events that fulfil a predicate.
pub fn performed_where(event: &str, predicate: &str, comparison: Comparison, within: i64) -> Condition {
    let ConditionKind::Performed { event, aggregate, comparison, within, .. } =
        performed(event, comparison, within).kind
    else {
        unreachable!("`performed` makes no other kind")
    };
    condition(ConditionKind::Performed { event, filter: Some(text(predicate)), aggregate, comparison, within })
}

/// Returns a step of a sequence, with its `where` and its `after` in ms.
pub fn step(event: &str, predicate: Option<&str>, after: Option<i64>) -> SequenceStep {
    let of = EventMatch { event: event.to_string(), filter: predicate.map(text) };
    SequenceStep { of, after: after.map(|after| after as u64) }
}

/// Returns a `sequence` condition without the events of some ids, in the last `within` ms.
pub fn sequence<const N: usize>(steps: [SequenceStep; N], without: &[&str], within: i64) -> Condition {
    let without = without.iter().map(|event| EventMatch { event: event.to_string(), filter: None }).collect();
    condition(ConditionKind::Sequence { steps: steps.into(), without, within: within as u64 })
}

/// Returns a `related` condition on orders.
pub fn related(predicate: Option<&str>, aggregate: Aggregate, comparison: Comparison) -> Condition {
    condition(ConditionKind::Related {
        model: "orders".to_string(),
        filter: predicate.map(text),
        whose: None,
        aggregate,
        aggregate_place: Place::default(),
        comparison,
    })
}

/// Returns the comparison `at_least`.
pub fn at_least(n: i64) -> Comparison {
    Comparison::AtLeast(Decimal::from(n))
}

/// Returns the comparison `at_most`.
pub fn at_most(n: i64) -> Comparison {
    Comparison::AtMost(Decimal::from(n))
}

/// Returns the comparison `exactly`.
pub fn exactly(n: i64) -> Comparison {
    Comparison::Exactly(Decimal::from(n))
}

/// Returns the comparison `between`.
pub fn between(least: i64, most: i64) -> Comparison {
    Comparison::Between(Decimal::from(least), Decimal::from(most))
}

/// Returns a partition of `web` with messages of (timestamp, event, key, id), without values. The event `-` is none of
/// the job's.
pub fn partition(plan: &Plan, messages: &[(i64, &str, &str, &str)]) -> Partition {
    let message = |(position, (timestamp, event, key, id)): (usize, &(i64, &str, &str, &str))| {
        let event = plan.events.iter().position(|known| known.id == *event);
        let occurrence = event.map(|event| Occurrence {
            event: event as u32,
            key: key.to_string(),
            id: id.to_string(),
            values: vec![Value::Null; plan.events[event].columns.len()],
            says: vec![false; plan.events[event].columns.len()],
        });
        Message {
            position: position as u64,
            timestamp: Some(*timestamp),
            occurrences: occurrence.into_iter().collect(),
        }
    };
    Partition { source: "web".to_string(), messages: messages.iter().enumerate().map(message).collect() }
}

/// Returns a history of these partitions, and users with these keys and values of `ltv`.
pub fn history(partitions: Vec<Partition>, users: &[(&str, f64)]) -> History {
    let row = |(key, ltv): &(&str, f64)| Row {
        key: key.to_string(),
        values: BTreeMap::from([("ltv".to_string(), Value::Number(*ltv))]),
        foreign_key: None,
    };
    let rows = BTreeMap::from([("users".to_string(), users.iter().map(row).collect())]);
    History { partitions, rows, pulled: None }
}

/// Returns changes as lines: `AT +AUDIENCE KEY REASON`.
pub fn lines(changes: &[Change]) -> Vec<String> {
    let line = |Change { at, audience, key, entry, reason }: &Change| {
        let sign = if *entry { '+' } else { '-' };
        let reason = match reason {
            Reason::Event => "event",
            Reason::Expiry => "expiry",
            Reason::Snapshot => "snapshot",
            Reason::Trait => "trait",
        };
        format!("{at} {sign}{audience} {key} {reason}")
    };
    changes.iter().map(line).collect()
}
