//! The definition of correct: which changes a history must give, worked out the slow, obvious way.
//!
//! For each key, each condition is worked out as a timeline from the key's own events and rows alone: its truth, when
//! it flips and why. Memberships are then compared at each time at which anything flips. The result is every change
//! with its time and reason, in the order in which a replay prints them.
//!
//! The chains of sequences are searched for in `oracle/sequence.rs`.
//!
//! It shares no code with the engine or with [`crate::aggregate`] beyond the plan, [`Evaluator::holds`],
//! [`Evaluator::moments`] and [`Predicate::excludes_negative_numbers`]; it has its own walk of expressions and its own reading of numbers, on purpose. It keeps
//! everything in memory: hundreds of messages, not millions. Rows that events change are in `live.rs`, columns of parents in `parents.rs`.

mod sequence;

use crate::Value;
use crate::plan::{AudienceIx, EventPlan, Expr, Fact, FactKind, ModelPlan, Plan};
use crate::predicate::{Evaluator, Predicate};
use ethnum::I256;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::rc::Rc;
use usher_config::{Aggregate, Comparison, Incomplete};

/// All that happened: messages as they were read, and the snapshot's rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The partitions of all sources, in the order of arrival's rank: by source id, then partition.
    pub partitions: Vec<Partition>,
    /// The rows of the models, by model id.
    pub rows: BTreeMap<String, Vec<Row>>,
    /// When the pulls began that have them, ms. `None`: where the clock starts without `from`.
    pub pulled: Option<i64>,
}

/// A partition of a source.
#[derive(Clone, Debug, PartialEq)]
pub struct Partition {
    /// The source's id.
    pub source: String,
    /// Its messages, in order of position.
    pub messages: Vec<Message>,
}

/// One message, whether it matches an event or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Its position in its partition.
    pub position: u64,
    /// Its date, ms. `None` if it has no valid one: then it moves no clock and is no event.
    pub timestamp: Option<i64>,
    /// The events that it is.
    pub occurrences: Vec<Occurrence>,
}

/// One event that a message is.
#[derive(Clone, Debug, PartialEq)]
pub struct Occurrence {
    /// Index in [`Plan::events`].
    pub event: u32,
    /// The key.
    pub key: String,
    /// The message id, or a substitute that is unique within the source.
    pub id: String,
    /// The values of [`EventPlan::columns`].
    pub values: Vec<Value<'static>>,
    /// Of each, whether the message has a value of its type there, or null: a live column takes no other.
    pub says: Vec<bool>,
}

/// A row of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its key.
    pub key: String,
    /// Its values by column; a column that is missing is null.
    pub values: BTreeMap<String, Value<'static>>,
    /// The key of the row that it belongs to.
    pub foreign_key: Option<String>,
}

/// The flags of `replay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    /// Where the clock starts, ms. If `None`, at the least first timestamp.
    pub from: Option<i64>,
    /// The last ms. If `None`, the greatest timestamp.
    pub until: Option<i64>,
    /// The present, ms: messages dated beyond it plus the skew are dropped.
    pub now: i64,
}

/// Why a membership changed: of several causes, the first in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// An event took effect.
    Event,
    /// A window or a `now()` moment passed.
    Expiry,
    /// The snapshot has it so.
    Snapshot,
    /// An event set a live column.
    Trait,
}

/// An entry or an exit; ordered as a replay prints them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// When, ms.
    pub at: i64,
    /// The audience's id.
    pub audience: String,
    /// The member's key.
    pub key: String,
    /// Entry, else exit.
    pub entry: bool,
    /// Why.
    pub reason: Reason,
}

/// Returns all changes of a replay of `history`, sorted by time, audience and key.
pub fn changes(plan: &Plan, history: &History, flags: Flags) -> Vec<Change> {
    let Some((start, end)) = clock(plan, history, flags) else {
        return Vec::new();
    };
    let past = Past::new(plan, history, flags.now, Some(start));
    let mut changes = Vec::new();
    for key in keys(plan, history, &past.applications) {
        let truths = Truths::new(plan, history, &past, key);
        let flips = truths.flips();
        for (ix, audience) in truths.model.audiences.iter().enumerate() {
            let ix = ix as AudienceIx;
            let mut change = |at, entry, causes: BTreeSet<Reason>, otherwise| {
                let reason = causes.first().copied().or(otherwise).expect("a change has a cause");
                changes.push(Change { at, audience: audience.id.clone(), key: key.1.to_string(), entry, reason });
            };
            if truths.member(ix, When::At(start)) {
                // What differs from a key of which nothing is known made it enter.
                let causes = truths.causes(ix, When::Unknown, When::At(start));
                change(start, true, causes, Some(Reason::Snapshot));
            }
            for at in flips.range((Bound::Excluded(start), Bound::Included(end))) {
                let (before, after) = (When::At(at - 1), When::At(*at));
                let entry = truths.member(ix, after);
                if entry != truths.member(ix, before) {
                    change(*at, entry, truths.causes(ix, before, after), None);
                }
            }
        }
    }
    changes.sort();
    changes
}

/// Returns the memberships, as (audience, key), at `time`; `now` is the present. The pulls are in force from when they began.
pub fn members(plan: &Plan, history: &History, now: i64, time: i64) -> BTreeSet<(String, String)> {
    members_by(plan, history, &Past::new(plan, history, now, None), time)
}

/// Returns the memberships, as (audience, key), at `time` in a replay, in which the pulls are in force from where its clock starts.
#[cfg(test)]
pub(crate) fn members_of_replay(plan: &Plan, history: &History, flags: Flags, time: i64) -> BTreeSet<(String, String)> {
    let start = clock(plan, history, flags).map(|(start, _)| start);
    members_by(plan, history, &Past::new(plan, history, flags.now, start), time)
}

fn members_by(plan: &Plan, history: &History, past: &Past<'_>, time: i64) -> BTreeSet<(String, String)> {
    let mut members = BTreeSet::new();
    for key in keys(plan, history, &past.applications) {
        let truths = Truths::new(plan, history, past, key);
        for (ix, audience) in truths.model.audiences.iter().enumerate() {
            if truths.member(ix as AudienceIx, When::At(time)) {
                members.insert((audience.id.clone(), key.1.to_string()));
            }
        }
    }
    members
}

/// A flip of a fact of a key: what the generator's tests look for in samples.
#[cfg(test)]
pub(crate) struct FactFlip<'a> {
    pub(crate) kind: &'a FactKind,
    pub(crate) truth: bool,
    pub(crate) reason: Reason,
}

/// Returns all flips of all facts of all keys.
#[cfg(test)]
pub(crate) fn fact_flips<'a>(plan: &'a Plan, history: &History, now: i64) -> Vec<FactFlip<'a>> {
    let past = Past::new(plan, history, now, None);
    let mut flips = Vec::new();
    for key in keys(plan, history, &past.applications) {
        let truths = Truths::new(plan, history, &past, key);
        for (fact, timeline) in truths.model.facts.iter().zip(&truths.timelines) {
            for (at, reason) in &timeline.flips {
                flips.push(FactFlip { kind: &fact.kind, truth: timeline.at(*at), reason: *reason });
            }
        }
    }
    flips
}

/// Returns the memberships, as (audience, key), of a job that starts at `time` without the events dated before `since`, which `history` does
/// not have: who belongs and whose membership could not come from missing events (SPEC §6).
pub fn members_since(plan: &Plan, history: &History, now: i64, time: i64, since: i64) -> BTreeSet<(String, String)> {
    let past = Past::new(plan, history, now, None);
    let mut members = BTreeSet::new();
    for key in keys(plan, history, &past.applications) {
        let truths = Truths::new(plan, history, &past, key);
        let known = Known { truths: &truths, plan, time, since };
        let mut admitted = vec![false; truths.model.audiences.len()];
        for ix in &truths.model.order {
            let audience = &truths.model.audiences[*ix as usize];
            admitted[*ix as usize] = known.plainly(&audience.expr, &admitted)
                && (known.sends(*ix) || known.known(&audience.expr, &admitted) == Some(true));
            if admitted[*ix as usize] {
                members.insert((audience.id.clone(), key.1.to_string()));
            }
        }
    }
    members
}

/// What is known of a key's conditions at a time: true, false, or, as `None`, neither, because it could come from missing events.
struct Known<'a> {
    truths: &'a Truths<'a>,
    plan: &'a Plan,
    time: i64,
    since: i64,
}

impl Known<'_> {
    fn sends(&self, audience: AudienceIx) -> bool {
        let id = &self.truths.model.audiences[audience as usize].id;
        self.plan.job.audiences[id].incomplete == Incomplete::Send
    }

    fn fact(&self, ix: u32) -> Option<bool> {
        let truth = self.truths.fact(ix, When::At(self.time));
        let model = self.plan.models.iter().position(|model| std::ptr::eq(model, self.truths.model));
        (!self.turns(model.expect("a model of the plan"), ix, truth)).then_some(truth)
    }

    /// Returns whether a fact of a model, whose truth is `truth`, could turn with the events that are missing.
    fn turns(&self, model: usize, ix: u32, truth: bool) -> bool {
        let kind = &self.plan.models[model].facts[ix as usize].kind;
        match kind {
            FactKind::Tallied { model: child, aggregate, comparison, .. } => {
                let counts = &self.plan.contribution(*child as usize, ix).counts;
                self.rows_turn(*child as usize, counts, (aggregate, comparison), truth)
            }
            _ => {
                let lacks_events = kind.window().is_some_and(|within| self.since + within as i64 > self.time);
                lacks_events && more_events_turn(self.plan, kind, truth)
            }
        }
    }

    /// Returns whether an aggregate of the rows of a model that count, whose comparison's truth is `truth`, could turn with missing events.
    fn rows_turn(&self, child: usize, counts: &Expr, of: (&Aggregate, &Comparison), truth: bool) -> bool {
        let (aggregate, comparison) = of;
        let (joins, leaves) = (self.could_turn(child, counts, false), self.could_turn(child, counts, true));
        let least = !matches!(comparison, Comparison::AtMost(_) | Comparison::LessThan(_));
        let most = !matches!(comparison, Comparison::AtLeast(_) | Comparison::MoreThan(_));
        let never_negative = |column: &str| match counts {
            Expr::All(parts) => parts.iter().any(|part| self.requires_no_negative(child, part, column)),
            one => self.requires_no_negative(child, one, column),
        };
        let grows_with_rows = match aggregate {
            Aggregate::Count | Aggregate::Distinct(_) => true,
            Aggregate::Sum(column) => never_negative(column),
            Aggregate::Avg(_) | Aggregate::Min(_) | Aggregate::Max(_) => false,
        };
        // What nothing meets, too little can't miss.
        let can_be_too_little = least && !compare_values(aggregate, comparison, 0, &[]);
        match (aggregate, truth) {
            // More rows raise it, fewer lower it.
            (_, true) if grows_with_rows => joins && most || leaves && can_be_too_little,
            (_, false) if grows_with_rows => joins && can_be_too_little || leaves && most,
            // More rows raise a maximum and lower a minimum; the last row that ceases to count leaves null, which meets nothing.
            (Aggregate::Max(_), true) => joins && most || leaves,
            (Aggregate::Max(_), false) => joins || leaves && most,
            (Aggregate::Min(_), true) => joins && least || leaves,
            (Aggregate::Min(_), false) => joins || leaves && least,
            _ => joins || leaves,
        }
    }

    /// Returns whether a part of what lets a row count is a predicate that no row with a negative number in a column meets.
    fn requires_no_negative(&self, model: usize, part: &Expr, column: &str) -> bool {
        let Expr::Fact(ix) = part else { return false };
        let kind = &self.plan.models[model].facts[*ix as usize].kind;
        matches!(kind, FactKind::Property(predicate) if predicate.excludes_negative_numbers(column))
    }

    /// Returns whether an expression over the facts of a model could turn from `truth` for some key.
    fn could_turn(&self, model: usize, expr: &Expr, truth: bool) -> bool {
        match expr {
            Expr::All(parts) | Expr::Any(parts) => parts.iter().any(|part| self.could_turn(model, part, truth)),
            Expr::Not(part) => self.could_turn(model, part, !truth),
            Expr::Fact(ix) => self.turns(model, *ix, truth),
            Expr::Audience(_) => panic!("audiences are inlined"),
        }
    }

    fn known(&self, expr: &Expr, admitted: &[bool]) -> Option<bool> {
        let all = |parts: &[Expr], neutral: bool| {
            let parts: Vec<Option<bool>> = parts.iter().map(|part| self.known(part, admitted)).collect();
            match parts.contains(&Some(!neutral)) {
                true => Some(!neutral),
                false => (!parts.contains(&None)).then_some(neutral),
            }
        };
        match expr {
            Expr::All(parts) => all(parts, true),
            Expr::Any(parts) => all(parts, false),
            Expr::Not(part) => self.known(part, admitted).map(|truth| !truth),
            Expr::Fact(ix) => self.fact(*ix),
            Expr::Audience(ix) => {
                let of = || self.known(&self.truths.model.audiences[*ix as usize].expr, admitted);
                if admitted[*ix as usize] && !self.sends(*ix) { Some(true) } else { of() }
            }
        }
    }

    /// Returns whether an expression holds, with all that is there.
    fn plainly(&self, expr: &Expr, admitted: &[bool]) -> bool {
        match expr {
            Expr::All(parts) => parts.iter().all(|part| self.plainly(part, admitted)),
            Expr::Any(parts) => parts.iter().any(|part| self.plainly(part, admitted)),
            Expr::Not(part) => !self.plainly(part, admitted),
            Expr::Fact(ix) => self.truths.fact(*ix, When::At(self.time)),
            Expr::Audience(ix) => admitted[*ix as usize],
        }
    }
}

/// Returns whether a condition on events whose truth is `truth` could turn if there were more of them than were seen.
fn more_events_turn(plan: &Plan, condition: &FactKind, truth: bool) -> bool {
    match condition {
        FactKind::Performed { most: Some(_), .. } if truth => true,
        FactKind::Performed { least, .. } => !truth && *least > 0,
        FactKind::Aggregated { event, filter, aggregate, comparison, .. } => {
            let is_above = matches!(comparison, Comparison::AtLeast(_) | Comparison::MoreThan(_));
            let is_below = matches!(comparison, Comparison::AtMost(_) | Comparison::LessThan(_));
            let nothing_meets = compare_values(aggregate, comparison, 0, &[]);
            let filter = &plan.events[*event as usize].filters[*filter as usize].predicate;
            let never_negative =
                |column: &str| filter.as_ref().is_some_and(|filter| filter.excludes_negative_numbers(column));
            let only_grows = match aggregate {
                Aggregate::Count | Aggregate::Distinct(_) => true,
                Aggregate::Sum(column) => never_negative(column),
                Aggregate::Avg(_) | Aggregate::Min(_) | Aggregate::Max(_) => false,
            };
            match (aggregate, truth) {
                (_, true) if only_grows => !is_above,
                (_, false) if only_grows => !is_below && !nothing_meets,
                (Aggregate::Max(_), true) => !is_above,
                (Aggregate::Min(_), true) => !is_below,
                _ => true,
            }
        }
        // More events make more chains, and any of them may be excluded in one.
        FactKind::Sequence { without, .. } => !truth || !without.is_empty(),
        FactKind::Known | FactKind::Property(_) | FactKind::Related { .. } | FactKind::Tallied { .. } => false,
    }
}

/// An occurrence as it takes effect.
struct Application<'a> {
    /// When: the greatest timestamp so far in its partition.
    at: i64,
    /// Its partition's rank and its position there.
    arrival: (usize, u64),
    timestamp: i64,
    occurrence: &'a Occurrence,
}

/// Returns the dated messages of each partition, as (time of effect, timestamp, message), without those of the future.
fn dated<'a>(plan: &Plan, history: &'a History, now: i64) -> Vec<Vec<(i64, i64, &'a Message)>> {
    let latest = now.saturating_add_unsigned(plan.job.limits.future_skew);
    let effective = |partition: &'a Partition| {
        let mut clock = i64::MIN;
        let mut dated = Vec::new();
        for message in &partition.messages {
            if let Some(timestamp) = message.timestamp.filter(|timestamp| *timestamp <= latest) {
                clock = clock.max(timestamp);
                dated.push((clock, timestamp, message));
            }
        }
        dated
    };
    history.partitions.iter().map(effective).collect()
}

/// Returns the first and last ms of the clock. `None` if no message has a timestamp, or it would end before it starts.
fn clock(plan: &Plan, history: &History, flags: Flags) -> Option<(i64, i64)> {
    let dated = dated(plan, history, flags.now);
    let first = dated.iter().filter_map(|partition| partition.first()).map(|(at, ..)| *at).min()?;
    let greatest = dated.iter().filter_map(|partition| partition.last()).map(|(at, ..)| *at).max()?;
    let start = flags.from.unwrap_or(first);
    let end = flags.until.unwrap_or(greatest.max(start));
    (start <= end).then_some((start, end))
}

/// The versions of a row.
type Versions = Rc<Vec<live::Version>>;

/// All that a key's conditions depend on, beside the rows.
struct Past<'a> {
    applications: Vec<Application<'a>>,
    /// When the pulls began.
    pulled: i64,
    /// When they came into force.
    in_force: i64,
    /// The versions of rows of parents that have been worked out, by the model's index and the key.
    parents: RefCell<BTreeMap<(usize, String), Versions>>,
}

impl<'a> Past<'a> {
    /// `start`: where the clock starts; if `None`, the pulls are in force from when they began.
    fn new(plan: &Plan, history: &'a History, now: i64, start: Option<i64>) -> Past<'a> {
        let natural =
            || clock(plan, history, Flags { from: None, until: None, now }).map_or(i64::MIN, |(start, _)| start);
        let pulled = history.pulled.unwrap_or_else(natural);
        Past {
            applications: applications(plan, history, now),
            pulled,
            in_force: start.unwrap_or(pulled),
            parents: RefCell::default(),
        }
    }
}

/// Returns all occurrences in the order in which they take effect.
fn applications<'a>(plan: &Plan, history: &'a History, now: i64) -> Vec<Application<'a>> {
    let mut applications = Vec::new();
    for (rank, messages) in dated(plan, history, now).into_iter().enumerate() {
        for (at, timestamp, message) in messages {
            for occurrence in &message.occurrences {
                let arrival = (rank, message.position);
                applications.push(Application { at, arrival, timestamp, occurrence });
            }
        }
    }
    applications.sort_by_key(|application| (application.at, application.arrival));
    applications
}

/// Returns all keys of which anything is known, as (model's index, key), of models with audiences.
fn keys<'a>(plan: &Plan, history: &'a History, applications: &[Application<'a>]) -> BTreeSet<(usize, &'a str)> {
    let mut keys = all_keys(plan, history, applications);
    // A row makes known the key that it points to, by a live foreign key too.
    for (ix, model) in plan.models.iter().enumerate() {
        let Some(belongs_to) = &plan.job.models[&model.id].belongs_to else { continue };
        let to = plan.models.iter().position(|of| of.id == belongs_to.model).expect("config resolves models");
        for row in history.rows.get(&model.id).into_iter().flatten() {
            keys.extend(row.foreign_key.as_deref().map(|key| (to, key)));
        }
        let Some(parent) = model.rows.as_ref().and_then(|rows| rows.parent) else { continue };
        let live = parent.live.map(|live| &model.rows.as_ref().expect("it keeps rows").live[live as usize]);
        for Application { occurrence, .. } in applications {
            let event = &plan.events[occurrence.event as usize];
            if let Some(live) = live.filter(|live| live.event == occurrence.event && event.model as usize == ix)
                && let column = event.columns.iter().position(|column| column.name == live.property)
                && let Some(Value::String(key)) = column.map(|column| &occurrence.values[column])
            {
                keys.insert((parent.model as usize, key));
            }
        }
    }
    keys.retain(|(model, _)| !plan.models[*model].audiences.is_empty());
    keys
}

/// Returns all keys of which a row or an event is known, as (model's index, key).
fn all_keys<'a>(plan: &Plan, history: &'a History, applications: &[Application<'a>]) -> BTreeSet<(usize, &'a str)> {
    let mut keys = BTreeSet::new();
    for (ix, model) in plan.models.iter().enumerate() {
        keys.extend(history.rows.get(&model.id).into_iter().flatten().map(|row| (ix, row.key.as_str())));
    }
    for Application { occurrence, .. } in applications {
        keys.insert((plan.events[occurrence.event as usize].model as usize, occurrence.key.as_str()));
    }
    keys
}

/// The truth of a condition over all time.
struct Timeline {
    /// Before the first flip.
    initially: bool,
    /// When it changes and why; it alternates.
    flips: BTreeMap<i64, Reason>,
    /// Why it is not as for an unknown key where it starts so.
    initially_by: Reason,
}

impl Timeline {
    fn constant(truth: bool) -> Timeline {
        Timeline { initially: truth, flips: BTreeMap::new(), initially_by: Reason::Snapshot }
    }

    fn at(&self, time: i64) -> bool {
        self.initially ^ (self.flips.range(..=time).count() % 2 == 1)
    }

    /// Returns `truth` at each of `moments` and before them; a flip there is an expiry.
    fn of_moments(moments: &BTreeSet<i64>, truth: impl Fn(i64) -> bool) -> Timeline {
        let mut timeline = Timeline::constant(truth(moments.first().map_or(0, |first| first.saturating_sub(1))));
        for moment in moments {
            if truth(*moment) != timeline.at(*moment) {
                timeline.flips.insert(*moment, Reason::Expiry);
            }
        }
        timeline
    }
}

/// A point at which memberships are compared.
#[derive(Clone, Copy)]
enum When {
    /// When nothing is known of the key.
    Unknown,
    /// A time.
    At(i64),
}

/// All conditions of a model for one key.
struct Truths<'a> {
    model: &'a ModelPlan,
    /// By fact.
    timelines: Vec<Timeline>,
}

impl<'a> Truths<'a> {
    fn new(plan: &'a Plan, history: &History, past: &Past<'_>, key: (usize, &str)) -> Truths<'a> {
        let model = &plan.models[key.0];
        let applications = &past.applications;
        let row = history.rows.get(&model.id).into_iter().flatten().find(|row| row.key == key.1);
        let versions = model.rows.as_ref().map(|rows| live::versions(plan, (model, rows), past, row, key.1));
        let timeline = |fact: &Fact| match &fact.kind {
            FactKind::Property(predicate) if !predicate.of_parents.is_empty() => {
                parents::timeline(plan, history, past, (key.0, versions.as_deref().unwrap_or_default()), predicate)
            }
            FactKind::Known if versions.is_some() => live::timeline(versions.iter().flatten(), row, None),
            FactKind::Property(predicate) if versions.is_some() => {
                live::timeline(versions.iter().flatten(), row, Some(predicate))
            }
            FactKind::Known => Timeline::constant(row.is_some()),
            FactKind::Property(predicate) => match row {
                Some(row) => property(predicate, row),
                None => Timeline::constant(false),
            },
            FactKind::Tallied { model: child, aggregate, comparison, windowed, .. } => {
                let ix = model.facts.iter().position(|known| std::ptr::eq(known, fact)).expect("a fact of the model");
                let of = (*child as usize, ix as u32, key.1);
                let mut timeline = whose::tallied(plan, history, past, of, aggregate, comparison);
                if *windowed {
                    timeline.initially_by = Reason::Event;
                }
                timeline
            }
            FactKind::Related { model, filter, aggregate, comparison, .. } => {
                let rows = history.rows.get(&plan.models[*model as usize].id).into_iter().flatten();
                let mine: Vec<&Row> = rows.filter(|row| row.foreign_key.as_deref() == Some(key.1)).collect();
                related(filter.as_ref(), aggregate, comparison, &mine)
            }
            FactKind::Performed { event, filter, within, least, most } => {
                let plan = &plan.events[*event as usize];
                let filter = plan.filters[*filter as usize].predicate.as_ref();
                let matching = matching(applications, key.1, (*event, plan), filter);
                performed(&matching, *within as i64, *least, *most)
            }
            FactKind::Aggregated { event, filter, within, aggregate, comparison, .. } => {
                let plan = &plan.events[*event as usize];
                let filter = plan.filters[*filter as usize].predicate.as_ref();
                let matching = matching(applications, key.1, (*event, plan), filter);
                aggregated(&matching, plan, *within as i64, aggregate, comparison, filter)
            }
            FactKind::Sequence { steps, without, within } => {
                sequence::timeline(applications, key.1, plan, (steps, without), *within as i64)
            }
        };
        Truths { model, timelines: model.facts.iter().map(timeline).collect() }
    }

    /// Returns all times at which a condition flips.
    fn flips(&self) -> BTreeSet<i64> {
        self.timelines.iter().flat_map(|timeline| timeline.flips.keys().copied()).collect()
    }

    fn fact(&self, ix: u32, when: When) -> bool {
        match when {
            When::Unknown => self.model.facts[ix as usize].default,
            When::At(time) => self.timelines[ix as usize].at(time),
        }
    }

    fn member(&self, audience: AudienceIx, when: When) -> bool {
        self.holds(&self.model.audiences[audience as usize].expr, when)
    }

    fn holds(&self, expr: &Expr, when: When) -> bool {
        match expr {
            Expr::All(parts) => parts.iter().all(|part| self.holds(part, when)),
            Expr::Any(parts) => parts.iter().any(|part| self.holds(part, when)),
            Expr::Not(part) => !self.holds(part, when),
            Expr::Fact(ix) => self.fact(*ix, when),
            Expr::Audience(ix) => self.member(*ix, when),
        }
    }

    /// Returns what changed a condition of `audience` between two points. A mentioned audience is a condition too: if
    /// it changed, its causes count.
    fn causes(&self, audience: AudienceIx, before: When, after: When) -> BTreeSet<Reason> {
        let mut causes = BTreeSet::new();
        let mut next = vec![&self.model.audiences[audience as usize].expr];
        while let Some(expr) = next.pop() {
            match expr {
                Expr::All(parts) | Expr::Any(parts) => next.extend(parts),
                Expr::Not(part) => next.push(part),
                Expr::Audience(ix) if self.member(*ix, before) != self.member(*ix, after) => {
                    causes.extend(self.causes(*ix, before, after));
                }
                Expr::Fact(ix) if self.fact(*ix, before) != self.fact(*ix, after) => {
                    let performed = self.model.facts[*ix as usize].kind.window().is_some();
                    causes.insert(match (before, after) {
                        (When::At(_), When::At(time)) => self.timelines[*ix as usize].flips[&time],
                        _ if performed => Reason::Event,
                        _ => self.timelines[*ix as usize].initially_by,
                    });
                }
                Expr::Audience(_) | Expr::Fact(_) => {}
            }
        }
        causes
    }
}

/// Returns the applications of an event of `key` that pass a filter.
fn matching<'a, 'b>(
    applications: &'b [Application<'a>],
    key: &str,
    (event, plan): (u32, &EventPlan),
    filter: Option<&Predicate>,
) -> Vec<&'b Application<'a>> {
    let evaluator = filter.map(|filter| (filter, Evaluator::new(filter)));
    let matching = applications.iter().filter(|Application { occurrence, .. }| {
        occurrence.event == event
            && occurrence.key == key
            && evaluator.as_ref().is_none_or(|(filter, evaluator)| {
                evaluator.holds(&event_row(plan, filter, occurrence), occurrence_now())
            })
    });
    matching.collect()
}

/// Returns any time: filters of events never read the clock, because `now()` is refused in them.
fn occurrence_now() -> i64 {
    0
}

/// Returns the values that `filter` reads, from those of the event's columns.
fn event_row(plan: &EventPlan, filter: &Predicate, occurrence: &Occurrence) -> Vec<Value<'static>> {
    let value = |name: &String| {
        let column = plan.columns.iter().position(|column| column.name == *name).expect("a filter's column is read");
        occurrence.values[column].clone()
    };
    filter.columns.iter().map(|(name, _)| value(name)).collect()
}

/// Returns the values that `predicate` reads, from a row.
fn model_row(predicate: &Predicate, row: &Row) -> Vec<Value<'static>> {
    let value = |name: &String| row.values.get(name).cloned().unwrap_or(Value::Null);
    predicate.columns.iter().map(|(name, _)| value(name)).collect()
}

/// Returns the timeline of a predicate on the key's row.
fn property(predicate: &Predicate, row: &Row) -> Timeline {
    let evaluator = Evaluator::new(predicate);
    let row = model_row(predicate, row);
    Timeline::of_moments(&evaluator.moments(&row).into_iter().collect(), |now| evaluator.holds(&row, now))
}

/// Returns the timeline of an aggregate over the key's related rows.
fn related(filter: Option<&Predicate>, aggregate: &Aggregate, comparison: &Comparison, rows: &[&Row]) -> Timeline {
    let evaluator = filter.map(|filter| (filter, Evaluator::new(filter)));
    let moments = rows.iter().flat_map(|row| match &evaluator {
        Some((filter, evaluator)) => evaluator.moments(&model_row(filter, row)),
        None => Vec::new(),
    });
    Timeline::of_moments(&moments.collect(), |now| {
        let passes = |row: &&&Row| {
            evaluator.as_ref().is_none_or(|(filter, evaluator)| evaluator.holds(&model_row(filter, row), now))
        };
        compare(aggregate, comparison, &rows.iter().filter(passes).copied().collect::<Vec<_>>())
    })
}

/// An event in a window, with what is kept of it.
struct Held<'a, V> {
    /// Index in [`Plan::events`]: message ids are of one event.
    event: u32,
    id: &'a str,
    timestamp: i64,
    arrival: (usize, u64),
    value: V,
}

/// Returns the timeline of a condition on the events in a window, one ms after the other: SPEC §2.2 and §2.4.
///
/// An event without a `value` has no part in it. `keep` is called with the held events, the newest first, when one is added, and
/// returns those that can still make a difference.
fn windowed<'a, V>(
    applications: &[&Application<'a>],
    within: i64,
    value: impl Fn(&Occurrence) -> Option<V>,
    keep: impl Fn(Vec<Held<'a, V>>) -> Vec<Held<'a, V>>,
    truth: impl Fn(&[Held<'a, V>]) -> bool,
) -> Timeline {
    let mut held: Vec<Held<V>> = Vec::new();
    let mut timeline = Timeline::constant(truth(&held));
    let mut next = applications.iter().peekable();
    loop {
        let expiry = held.iter().map(|event| event.timestamp + within).min();
        let Some(now) = expiry.into_iter().chain(next.peek().map(|application| application.at)).min() else {
            return timeline;
        };
        let before = truth(&held);
        let mut by = Reason::Expiry;
        held.retain(|event| now < event.timestamp + within);
        let mut last = truth(&held);
        while let Some(application) = next.next_if(|application| application.at == now) {
            let Application { arrival, timestamp, occurrence, .. } = **application;
            let Some(value) = value(occurrence) else { continue };
            let event = occurrence.event;
            if let Some(same) = held.iter_mut().find(|same| same.event == event && same.id == occurrence.id) {
                same.arrival = same.arrival.min(arrival);
            } else if now < timestamp + within {
                held.push(Held { event, id: &occurrence.id, timestamp, arrival, value });
                held.sort_by_key(|event| std::cmp::Reverse((event.timestamp, event.arrival)));
                held = keep(held);
            }
            if truth(&held) != last {
                last = !last;
                by = Reason::Event;
            }
        }
        if last != before {
            timeline.flips.insert(now, by);
        }
    }
}

/// Returns the timeline of a compared count of events in a window.
fn performed(applications: &[&Application<'_>], within: i64, least: u64, most: Option<u64>) -> Timeline {
    // One more than the most shows that there are too many; without a most, the least shows that there are enough.
    let newest = most.map_or(least, |most| most + 1);
    let keep = |mut held: Vec<_>| {
        held.truncate(usize::try_from(newest).unwrap_or(usize::MAX));
        held
    };
    let truth = |held: &[Held<()>]| {
        let count = held.len() as u64;
        least <= count && most.is_none_or(|most| count <= most)
    };
    windowed(applications, within, |_| Some(()), keep, truth)
}

/// Returns the timeline of a compared aggregate of events in a window; null values have no part in it.
fn aggregated(
    applications: &[&Application<'_>],
    plan: &EventPlan,
    within: i64,
    aggregate: &Aggregate,
    comparison: &Comparison,
    filter: Option<&Predicate>,
) -> Timeline {
    let name = aggregate.column().expect("the count is no aggregate of a column");
    let rises = filter.is_some_and(|filter| filter.excludes_negative_numbers(name));
    let column = plan.columns.iter().position(|column| column.name == name).expect("an aggregate's column is read");
    let value = |occurrence: &Occurrence| {
        let value = occurrence.values[column].clone();
        let counts = match aggregate {
            Aggregate::Distinct(_) => value != Value::Null,
            _ => value != Value::Null && billionths(&value).is_some(),
        };
        counts.then_some(value)
    };
    // From the newest to the oldest, only those that are relevant beside the newer ones stay.
    let keep = |held: Vec<_>| {
        let mut kept: Vec<Held<Value<'static>>> = Vec::new();
        for event in held {
            if relevant(aggregate, comparison, rises, &event, &kept) {
                kept.push(event);
            }
        }
        kept
    };
    let truth = |held: &[Held<Value<'static>>]| {
        let values: Vec<Value<'static>> = held.iter().map(|event| event.value.clone()).collect();
        compare_values(aggregate, comparison, held.len(), &values)
    };
    windowed(applications, within, value, keep, truth)
}

/// Returns whether an event could ever make a difference beside the newer ones that are held. `rises`: no value is negative.
fn relevant(
    aggregate: &Aggregate,
    comparison: &Comparison,
    rises: bool,
    event: &Held<'_, Value<'static>>,
    newer: &[Held<'_, Value<'static>>],
) -> bool {
    let alone = |value: &Value<'static>| compare_values(aggregate, comparison, 1, std::slice::from_ref(value));
    match aggregate {
        Aggregate::Distinct(_) => {
            let mut values: Vec<&Value<'static>> = Vec::new();
            for other in newer {
                if !values.contains(&&other.value) {
                    values.push(&other.value);
                }
            }
            let enough = match comparison {
                Comparison::AtLeast(n) => n.to_i64().expect("a count"),
                Comparison::Between(_, n) => n.to_i64().expect("a count") + 1,
                other => panic!("`{other:?}` is not in canonical form"),
            };
            !values.contains(&&event.value) && (values.len() as i64) < enough
        }
        // A value that fulfils the comparison alone matters if no newer one does. A value that breaks it whatever else is held
        // matters if no newer one breaks it.
        Aggregate::Min(_) | Aggregate::Max(_) => {
            let holds = alone(&event.value);
            let raw = billionths(&event.value).expect("it is no null");
            let breaks = match (aggregate, comparison) {
                (
                    Aggregate::Max(_),
                    Comparison::AtMost(n)
                    | Comparison::LessThan(n)
                    | Comparison::Exactly(n)
                    | Comparison::Between(_, n),
                ) => !holds && raw >= I256::from(n.raw()),
                (
                    Aggregate::Min(_),
                    Comparison::AtLeast(n)
                    | Comparison::MoreThan(n)
                    | Comparison::Exactly(n)
                    | Comparison::Between(n, _),
                ) => !holds && raw <= I256::from(n.raw()),
                _ => false,
            };
            (holds && !newer.iter().any(|other| alone(&other.value)))
                || (breaks && newer.iter().all(|other| alone(&other.value)))
        }
        // The newer ones leave the window later: while their sum is enough, an older one changes nothing.
        Aggregate::Sum(_) if rises && matches!(comparison, Comparison::AtLeast(_) | Comparison::MoreThan(_)) => {
            let values: Vec<Value<'static>> = newer.iter().map(|other| other.value.clone()).collect();
            !compare_values(aggregate, comparison, values.len(), &values)
        }
        _ => true,
    }
}

/// Returns whether a comparison holds for the aggregate of `rows`.
fn compare(aggregate: &Aggregate, comparison: &Comparison, rows: &[&Row]) -> bool {
    let values: Vec<Value<'static>> = match aggregate.column() {
        Some(column) => rows.iter().filter_map(|row| row.values.get(column).cloned()).collect(),
        None => Vec::new(),
    };
    compare_values(aggregate, comparison, rows.len(), &values)
}

/// Returns whether a comparison holds for the aggregate of `values`, or for the count.
fn compare_values(aggregate: &Aggregate, comparison: &Comparison, count: usize, values: &[Value<'static>]) -> bool {
    let one = I256::from(1_000_000_000i64);
    let present = || values.iter().filter(|value| **value != Value::Null);
    let numbers = || -> Vec<I256> { present().filter_map(billionths).collect() };
    // The aggregate is `total / n`; `n` is 1 but for the average.
    let mut n = I256::ONE;
    let total = match aggregate {
        Aggregate::Count => Some(I256::from(count as u64) * one),
        Aggregate::Sum(_) => Some(numbers().into_iter().sum()),
        Aggregate::Avg(_) => {
            let numbers = numbers();
            n = I256::from(numbers.len() as u64);
            (!numbers.is_empty()).then(|| numbers.into_iter().sum())
        }
        Aggregate::Min(_) => numbers().into_iter().min(),
        Aggregate::Max(_) => numbers().into_iter().max(),
        Aggregate::Distinct(_) => {
            let mut different: Vec<&Value<'static>> = Vec::new();
            for value in present() {
                if !different.contains(&value) {
                    different.push(value);
                }
            }
            Some(I256::from(different.len() as u64) * one)
        }
    };
    let Some(total) = total else { return false };
    let times = |threshold: &usher_config::Decimal| I256::from(threshold.raw()) * n;
    match comparison {
        Comparison::AtLeast(threshold) => total >= times(threshold),
        Comparison::AtMost(threshold) => total <= times(threshold),
        Comparison::MoreThan(threshold) => total > times(threshold),
        Comparison::LessThan(threshold) => total < times(threshold),
        Comparison::Exactly(threshold) => total == times(threshold),
        Comparison::Between(least, most) => times(least) <= total && total <= times(most),
    }
}

/// Returns a number in units of 10^-9, digit by digit from its shortest decimal form, half-even. `None` beyond ±10^28.
fn billionths(value: &Value<'_>) -> Option<I256> {
    let text = match value {
        Value::Integer(n) => n.to_string(),
        // Rust prints the shortest digits that read back as the same double, and never an exponent.
        Value::Number(x) => x.to_string(),
        other => panic!("`{other:?}` is no number, which compile should have found"),
    };
    let (sign, digits) = text.strip_prefix('-').map_or((1i128, text.as_str()), |digits| (-1, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.len() > 29 {
        return None;
    }
    let (kept, dropped) = fraction.split_at(fraction.len().min(9));
    let mut raw: i128 = format!("{whole}{kept:0<9}").parse().expect("at most 38 digits fit");
    let half = dropped.starts_with('5') && dropped[1..].chars().all(|digit| digit == '0');
    if (half && raw % 2 == 1) || (!half && dropped >= "5") {
        raw += 1;
    }
    (raw <= 10i128.pow(37)).then(|| I256::from(sign * raw))
}

mod live;
mod parents;
#[cfg(test)]
mod tests;
mod whose;
