//! Rows that are kept, because events change them too: the properties that follow from a row, whoever changed it.
//!
//! Computes the flips of the `property` facts of a key when an event sets a live column of its row or a pull switches it: of each
//! live column the newer of the two values counts (SPEC §3). Promises: a fact flips at the ms at which its row changes, with the
//! cause of the change that made it so; what repeats a value changes nothing. Holds, per key: the columns of its row in the snapshot,
//! since when each live one has its value, and per live column the values of the latest ms with their ids, without end. Dropped is what is older
//! than the row's value, and of a key without a row, where only keys with one are members, what is older than the last pull.
//! Refuses: facts that events decide, and aggregates over other models' rows.
//!
//! Facts that read columns of the rows that a row belongs to follow when these are known: `rows/joined.rs`.

mod joined;

use self::joined::Joins;
use super::facts::{get, set, words_for};
use super::properties::PropertyState;
use super::transition::{Cause, Flip, OUTWARD};
use super::windows::Arrival;
use crate::ingest::evaluate_rows::{json, write_columns};
use crate::ingest::match_events::KEY_BYTES;
use crate::ingest::row_batch::Timeline;
use crate::time::{Slot, Time};
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use usher_config::{Aggregate, Members};
use usher_core::api::{ExplainedLive, Moment};
use usher_queries::aggregate::Contribution;
use usher_queries::plan::{FactKind, ModelPlan, RowsPlan};
use usher_queries::predicate::{Evaluator, ParentColumn, Predicate};
use usher_queries::{StoredValue, Value};

/// A value that an event sets, among those of one ms.
pub(crate) type Setting = (Arrival, u64, StoredValue);

/// What events have set a live column to: the values of the latest ms, each with the arrival and the id of its event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// The live column, by index.
    pub(crate) live: u32,
    pub(crate) timestamp: Time,
    pub(crate) values: Vec<Setting>,
}

impl Settings {
    /// Returns the value that counts among those of the ms: that of the last arrival.
    fn last(&self) -> &StoredValue {
        let last = self.values.iter().max_by_key(|(arrival, ..)| *arrival);
        last.map(|(.., value)| value).expect("a time is kept with a value")
    }
}

/// What an event that has not taken effect will set.
#[derive(Clone, Debug)]
pub(crate) struct WaitingTraits {
    /// When it takes effect.
    pub(crate) at: Time,
    pub(crate) timestamp: Time,
    pub(crate) arrival: Arrival,
    pub(crate) id: u64,
    /// By live column.
    pub(crate) values: Vec<(u32, StoredValue)>,
}

/// A row as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeptRow {
    /// The columns in the snapshot, and behind them the foreign key where rows contribute to conditions of their parent; `None` if it
    /// has no such row.
    pub(crate) snapshot: Option<Box<[StoredValue]>>,
    /// By live column: when the first pull began that had the value.
    pub(crate) dated: Vec<Time>,
    /// Of the live columns that events have set.
    pub(crate) set: Vec<Settings>,
}

/// A property of a row.
struct RowFact {
    fact: u32,
    evaluator: Evaluator,
    /// The columns that it reads, by index.
    columns: Vec<usize>,
    /// Whether it mentions `now()`.
    clocked: bool,
    /// Whether it reads columns of parents, which stand behind those of the row.
    inherits: bool,
    /// Whether events may set one of these.
    inherits_live: bool,
}

impl RowFact {
    fn new(fact: usize, predicate: &Predicate, rows: &RowsPlan) -> RowFact {
        let at = |name: &String| rows.columns.iter().position(|(column, _)| column == name);
        let of_parent = |of: &ParentColumn| rows.inherited.iter().position(|inherited| inherited.column == *of);
        let own = predicate.columns.iter().map(|(name, _)| at(name).expect("what is read is kept"));
        let inherited = predicate.of_parents.iter().map(|of| of_parent(of).expect("what is read is inherited"));
        let inherited: Vec<usize> = inherited.collect();
        RowFact {
            fact: fact as u32,
            evaluator: Evaluator::new(predicate),
            columns: own.chain(inherited.iter().map(|at| rows.columns.len() + at)).collect(),
            clocked: predicate.mentions_now(),
            inherits: !inherited.is_empty(),
            inherits_live: inherited.iter().any(|at| rows.inherited[*at].is_live),
        }
    }

    fn values<'v>(&self, row: &[&'v StoredValue]) -> Vec<Value<'v>> {
        self.columns.iter().map(|column| row[*column].value()).collect()
    }

    /// Returns the truth for a row over all time.
    fn timeline(&self, row: &[&StoredValue]) -> Timeline {
        Timeline::of(&self.evaluator, &self.values(row))
    }

    /// Returns the truth for a row at a time; false if there is none.
    fn holds(&self, row: Option<&[&StoredValue]>, time: Time) -> bool {
        row.is_some_and(|row| self.evaluator.holds(&self.values(row), i64::try_from(time).unwrap_or(i64::MAX)))
    }
}

/// A row, with the truth of the properties that do not depend on `now()`.
struct Held {
    row: KeptRow,
    /// A bit per property, in order; the first is whether there is a row.
    truths: Vec<u64>,
    /// What the row is to its parent, if that matters.
    outward: Outward,
}

impl Held {
    fn new(row: KeptRow) -> Held {
        Held { row, truths: Vec::new(), outward: Outward::default() }
    }
}

/// What a row is to the key that it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outward {
    /// That key; `None` if it has none.
    pub(crate) parent: Option<Box<str>>,
    /// By contribution: what the row adds where it counts; `None` if that is null.
    pub(crate) values: Box<[Option<Contribution>]>,
}

/// The rows of all keys of a model.
pub(crate) struct RowState {
    /// Whether a key without a row in the snapshot has one of its live columns.
    any: bool,
    /// By live column, its column.
    live: Vec<usize>,
    /// The columns that messages carry: name as JSON, index.
    include: Vec<(String, usize)>,
    columns: Vec<(String, usher_config::ColumnType)>,
    /// By fact, ascending.
    facts: Vec<RowFact>,
    /// Of rows that contribute to conditions of their parent or read columns of it: the live column of the foreign key, if there is one.
    foreign_key: Option<Option<usize>>,
    /// By contribution: the aggregate, and its column.
    contributions: Vec<(Aggregate, Option<usize>)>,
    rows: HashMap<Slot, Held>,
    /// What rows were to their parents before they changed in this epoch, and when they did, in order.
    changed: HashMap<Slot, Vec<(Time, Outward)>>,
    /// When the last pull began whose rows are in force; 0 if there is none.
    pulled: Time,
    joins: Joins,
}

/// A change of a row: when, and why.
#[derive(Clone, Copy)]
pub(crate) struct Moved {
    pub(crate) time: Time,
    pub(crate) cause: Cause,
}

/// The columns that are kept of rows: how many, by live column which one, and the live column of the foreign key, which stands behind
/// them.
struct Shape<'s> {
    columns: usize,
    live: &'s [usize],
    foreign_key: Option<Option<usize>>,
    /// Whether a key without a row in the snapshot has one of its live columns.
    any: bool,
}

impl Shape<'_> {
    /// Returns the row that follows from what is kept; `None` if there is none.
    fn effective<'r>(&self, kept: &'r KeptRow) -> Option<Vec<&'r StoredValue>> {
        const NULL: &StoredValue = &StoredValue::Null;
        let mut row: Vec<&StoredValue> = match &kept.snapshot {
            Some(snapshot) => snapshot.iter().collect(),
            None if self.any && !kept.set.is_empty() => {
                vec![NULL; self.columns + usize::from(self.foreign_key.is_some())]
            }
            None => return None,
        };
        // What is older than the row's value is not kept.
        for settings in &kept.set {
            let live = settings.live as usize;
            row[self.live[live]] = settings.last();
            if self.foreign_key == Some(Some(live)) {
                row[self.columns] = settings.last();
            }
        }
        Some(row)
    }
}

/// Returns the key that a foreign key is; `None` if it is none.
fn parent_key(value: &StoredValue) -> Option<Box<str>> {
    match value {
        StoredValue::String(key) if !key.is_empty() && key.len() <= KEY_BYTES => Some(key.clone()),
        StoredValue::Integer(key) => Some(key.to_string().into()),
        _ => None,
    }
}

/// Returns the time before which an event sets nothing of a row, where no event has set the column.
fn oldest(row: &KeptRow, live: u32, any: bool, pulled: Time) -> Time {
    match &row.snapshot {
        Some(_) => row.dated[live as usize],
        None if any => 0,
        None => pulled,
    }
}

/// Returns the times behind the first at which a truth flips that follows each timeline from its time on.
fn flips_of(timelines: &[(Time, Timeline)]) -> Vec<Time> {
    let mut flips = Vec::new();
    let mut truth = timelines.first().is_some_and(|(from, timeline)| timeline.at(*from));
    let ends = timelines.iter().skip(1).map(|(from, _)| *from).chain([Time::MAX]);
    for ((from, timeline), end) in timelines.iter().zip(ends) {
        if timeline.at(*from) != truth {
            flips.push(*from);
            truth = !truth;
        }
        let later = std::iter::successors(timeline.next(*from), |time| timeline.next(*time));
        for time in later.take_while(|time| *time < end) {
            flips.push(time);
            truth = !truth;
        }
    }
    flips
}

/// Returns what messages may carry of a row: a JSON object; empty if there is no row.
fn text(include: &[(String, usize)], row: Option<&[&StoredValue]>) -> Box<str> {
    let Some(row) = row else { return Box::default() };
    let mut text = String::new();
    write_columns(include.iter().map(|(name, column)| (name, json(&row[*column].value()))), &mut text);
    text.into()
}

/// Returns what a row is to its parent: its foreign key stands behind its columns.
fn outward(contributions: &[(Aggregate, Option<usize>)], columns: usize, row: Option<&[&StoredValue]>) -> Outward {
    let Some(row) = row else { return Outward::default() };
    let value = |(aggregate, column): &(Aggregate, Option<usize>)| {
        let value = column.map_or(Value::Null, |column| row[column].value());
        match Contribution::of(aggregate, &value) {
            Contribution::Null | Contribution::OutOfRange => None,
            contribution => Some(contribution),
        }
    };
    Outward { parent: parent_key(row[columns]), values: contributions.iter().map(value).collect() }
}

fn shape(any: bool, foreign_key: Option<Option<usize>>, live: &[usize], columns: usize) -> Shape<'_> {
    Shape { columns, live, foreign_key, any }
}

impl RowState {
    /// Returns the rows of a model; `None` if none are kept.
    pub(crate) fn new(index: usize, model: &ModelPlan) -> Option<RowState> {
        let rows = model.rows.as_ref()?;
        let fact = |(index, kind): (usize, &FactKind)| match kind {
            FactKind::Property(predicate) => Some(RowFact::new(index, predicate, rows)),
            _ => None,
        };
        let name = |column: &u32| {
            let column = *column as usize;
            (serde_json::Value::from(&rows.columns[column].0[..]).to_string(), column)
        };
        Some(RowState {
            any: model.members == Members::Any,
            live: rows.live.iter().map(|live| live.column as usize).collect(),
            include: rows.include.iter().map(name).collect(),
            columns: rows.columns.clone(),
            facts: model.facts.iter().map(|fact| &fact.kind).enumerate().filter_map(fact).collect(),
            foreign_key: rows.parent.map(|parent| parent.live.map(|live| live as usize)),
            contributions: rows
                .contributions
                .iter()
                .map(|of| (of.aggregate.clone(), of.column.map(|column| column as usize)))
                .collect(),
            changed: HashMap::new(),
            rows: HashMap::new(),
            pulled: 0,
            joins: Joins::new(index, rows),
        })
    }

    /// Sets live columns of a key by an event; returns whether it repeats one that is held.
    pub(crate) fn apply<'v>(
        &mut self,
        slot: Slot,
        (time, timestamp): (Time, Time),
        (arrival, id): (Arrival, u64),
        values: impl Iterator<Item = (u32, &'v StoredValue)>,
        (properties, flips): (&mut PropertyState, &mut Vec<Flip>),
    ) -> bool {
        let row = self.before(slot);
        let held = self.rows.entry(slot).or_insert_with(|| Held::new(KeptRow::default()));
        let mut repeats = false;
        // Nothing has been worked out of a row that is new.
        let mut changes = held.truths.is_empty();
        for (live, value) in values {
            let oldest = oldest(&held.row, live, self.any, self.pulled);
            let before = held.row.set_value(live).cloned();
            repeats |= held.row.set(live, timestamp, (arrival, id, value.clone()), oldest);
            changes |= held.row.set_value(live) != before.as_ref();
        }
        if changes {
            self.moved((slot, row), Moved { time, cause: Cause::Trait }, properties, flips);
        }
        repeats
    }

    /// Switches a key to what a pull that began at `began` has of it, at `time`; a row that is held at `last`, no earlier than anything
    /// that has been worked out of it. Returns whether anything is new, and whether what is kept of the key changes.
    pub(crate) fn switch(
        &mut self,
        slot: Slot,
        values: Option<&[StoredValue]>,
        began: Time,
        (time, last): (Time, Time),
        (properties, flips): (&mut PropertyState, &mut Vec<Flip>),
    ) -> (bool, bool) {
        let before = self.before(slot);
        let Some(held) = self.rows.get_mut(&slot) else {
            let Some(values) = values else { return (false, false) };
            let row = KeptRow { snapshot: Some(values.into()), dated: vec![began; self.live.len()], set: Vec::new() };
            self.rows.insert(slot, Held::new(row));
            self.moved((slot, before), Moved { time, cause: Cause::Snapshot }, properties, flips);
            return (true, true);
        };
        let new = held.row.snapshot.as_deref() != values;
        let drops = held.row.switch(values, began, &self.live, self.any);
        if new || drops {
            self.moved((slot, before), Moved { time: last, cause: Cause::Snapshot }, properties, flips);
        }
        (new, new || drops)
    }

    /// Returns, by fact that a row decides, the times after `time` at which it flips if these events of the key come and no others;
    /// `slot` is `None` if nothing is known of the key yet.
    pub(crate) fn flips_ahead(
        &self,
        slot: Option<Slot>,
        time: Time,
        waiting: &[WaitingTraits],
    ) -> BTreeMap<u32, Vec<Time>> {
        let mut row = slot.and_then(|slot| self.kept(slot)).cloned().unwrap_or_default();
        // From when which row counts.
        let mut rows = vec![(time, row.clone())];
        for event in waiting {
            for (live, value) in &event.values {
                let oldest = oldest(&row, *live, self.any, self.pulled);
                row.set(*live, event.timestamp, (event.arrival, event.id, value.clone()), oldest);
            }
            match rows.last_mut() {
                Some((at, last)) if *at == event.at => last.clone_from(&row),
                _ => rows.push((event.at, row.clone())),
            }
        }
        let rows: Vec<(Time, Option<Vec<&StoredValue>>)> =
            (rows.iter()).map(|(from, row)| (*from, self.shape().effective(row))).collect();
        let is_there = |(from, row): &(Time, Option<Vec<&StoredValue>>)| {
            (*from, Timeline { first: row.is_some(), flips: Vec::new() })
        };
        let known: Vec<(Time, Timeline)> = rows.iter().map(is_there).collect();
        // Of a parent that is not known here nothing is foreseen.
        let mut joined = rows.clone();
        for (_, row) in &mut joined {
            *row = row.take().and_then(|row| self.with_parent(row, time, false));
        }
        let of_fact = |fact: &RowFact| {
            let timeline = |(from, row): &(Time, Option<Vec<&StoredValue>>)| {
                (*from, row.as_ref().map_or_else(Timeline::default, |row| fact.timeline(row)))
            };
            let rows = if fact.inherits { &joined } else { &rows };
            (fact.fact, flips_of(&rows.iter().map(timeline).collect::<Vec<_>>()))
        };
        std::iter::once((0, flips_of(&known))).chain(self.facts.iter().map(of_fact)).collect()
    }

    /// Returns whether a fact may flip at times that only other keys' owners know: events may set columns of parents, or, where events of
    /// this key wait, the row may come to belong to another.
    pub(crate) fn is_unforeseen(&self, fact: u32, waits: bool) -> bool {
        let of_fact = self.facts.binary_search_by_key(&fact, |of| of.fact).map(|at| &self.facts[at]);
        let moves = waits && self.foreign_key.flatten().is_some();
        of_fact.is_ok_and(|of| of.inherits && (of.inherits_live || moves))
    }

    /// Takes note that a pull that began then is in force for all keys.
    pub(crate) fn set_pulled(&mut self, began: Time) {
        self.pulled = began;
    }

    /// Works out what follows from a row that may have changed, and was as `before` if that matters to others.
    fn moved(
        &mut self,
        (slot, before): (Slot, Option<Option<Box<[StoredValue]>>>),
        moved: Moved,
        properties: &mut PropertyState,
        flips: &mut Vec<Flip>,
    ) {
        self.note(slot, before, moved);
        let shape = shape(self.any, self.foreign_key, &self.live, self.columns.len());
        let Some(held) = self.rows.get_mut(&slot) else { return };
        let row = shape.effective(&held.row);
        held.truths.resize(words_for(self.facts.len() + 1), 0);
        let Moved { time, cause } = moved;
        let mut settle = |bit: usize, fact: u32, truth: bool, truths: &mut [u64]| {
            if get(truths, bit as u32) != truth {
                set(truths, bit as u32, truth);
                flips.push(Flip { time, slot, fact, truth, cause });
            }
        };
        settle(0, 0, row.is_some(), &mut held.truths);
        for (i, fact) in self.facts.iter().enumerate().filter(|(_, fact)| !fact.clocked && !fact.inherits) {
            settle(i + 1, fact.fact, fact.holds(row.as_deref(), time), &mut held.truths);
        }
        for fact in self.facts.iter().filter(|fact| fact.clocked && !fact.inherits) {
            properties.set_row_truth(slot, fact.fact, row.as_ref().map(|row| fact.timeline(row)), moved, flips);
        }
        if !self.contributions.is_empty() {
            let outward = outward(&self.contributions, self.columns.len(), row.as_deref());
            if outward != held.outward {
                let before = std::mem::replace(&mut held.outward, outward);
                let changed = self.changed.entry(slot).or_default();
                if changed.last().is_none_or(|(last, _)| *last != time) {
                    changed.push((time, before));
                }
                flips.push(Flip { time, slot, fact: OUTWARD, truth: true, cause });
            }
        }
        if !self.include.is_empty() {
            properties.set_row(slot, text(&self.include, row.as_deref()), moved, flips);
        }
        // What is joined is forgotten when that is done.
        if !self.joins.any() {
            self.drop_empty(slot);
        }
    }

    fn shape(&self) -> Shape<'_> {
        shape(self.any, self.foreign_key, &self.live, self.columns.len())
    }

    /// Returns what a key's row is to its parent as of a time of this epoch; `None` if it has no row.
    pub(crate) fn outward_at(&self, slot: Slot, time: Time) -> Option<&Outward> {
        let later = self.changed.get(&slot).and_then(|changes| changes.iter().find(|(changed, _)| time < *changed));
        match later {
            Some((_, before)) => Some(before),
            None => self.rows.get(&slot).map(|held| &held.outward),
        }
    }

    /// Forgets how rows were before they changed in this epoch.
    pub(crate) fn end_epoch(&mut self) {
        self.changed.clear();
    }

    fn drop_empty(&mut self, slot: Slot) {
        if self.rows.get(&slot).is_some_and(|held| held.row.snapshot.is_none() && held.row.set.is_empty()) {
            self.rows.remove(&slot);
        }
    }

    /// Writes into `facts` what they would be at `time` if the key were switched to this row of a pull that began at `began`.
    pub(crate) fn preview(
        &self,
        slot: Slot,
        values: Option<&[StoredValue]>,
        (began, time): (Time, Time),
        facts: &mut [u64],
    ) {
        let mut row = self.rows.get(&slot).map(|held| held.row.clone()).unwrap_or_default();
        row.switch(values, began, &self.live, self.any);
        let row = self.shape().effective(&row);
        set(facts, 0, row.is_some());
        let of_row = self.facts.iter().filter(|fact| !fact.inherits);
        of_row.for_each(|fact| set(facts, fact.fact, fact.holds(row.as_deref(), time)));
        // Where nothing is known of the parent that it would have, they stay as they are.
        if let Some(row) = row.map_or(Some(None), |row| self.with_parent(row, time, false).map(Some)) {
            let joined = self.facts.iter().filter(|fact| fact.inherits);
            joined.for_each(|fact| set(facts, fact.fact, fact.holds(row.as_deref(), time)));
        }
    }

    /// Returns the facts of a key that are not as the snapshot alone would have them.
    pub(crate) fn by_traits(&self, slot: Slot, time: Time, facts: &mut [u64]) {
        facts.fill(0);
        let Some(held) = self.rows.get(&slot).filter(|held| !held.row.set.is_empty()) else { return };
        let row = self.shape().effective(&held.row);
        let snapshot: Option<Vec<&StoredValue>> = held.row.snapshot.as_ref().map(|row| row.iter().collect());
        set(facts, 0, row.is_some() != snapshot.is_some());
        for fact in self.facts.iter().filter(|fact| !fact.inherits) {
            set(facts, fact.fact, fact.holds(row.as_deref(), time) != fact.holds(snapshot.as_deref(), time));
        }
    }

    /// Returns the live columns of a key's row with their values; none if it has no row.
    pub(crate) fn live_values(&self, slot: Slot) -> Vec<ExplainedLive> {
        let Some(held) = self.rows.get(&slot) else { return Vec::new() };
        let Some(row) = self.shape().effective(&held.row) else { return Vec::new() };
        let value = |(index, column): (usize, &usize)| {
            let settings = held.row.set.iter().find(|settings| settings.live as usize == index);
            let dated = held.row.snapshot.as_ref().map(|_| held.row.dated[index]);
            let at = settings.map(|settings| settings.timestamp).or(dated)?;
            let origin = if settings.is_some() { "event" } else { "snapshot" }.to_owned();
            let (column, value) = (self.columns[*column].0.clone(), json(&row[*column].value()));
            Some(ExplainedLive { column, value, at: Moment(at), origin })
        };
        self.live.iter().enumerate().filter_map(value).collect()
    }

    /// Returns whether nothing is kept of a key.
    pub(crate) fn is_empty(&self, slot: Slot) -> bool {
        !self.rows.contains_key(&slot) && !self.joins.is_read(slot)
    }

    /// Returns what is kept of a key's row.
    pub(crate) fn kept(&self, slot: Slot) -> Option<&KeptRow> {
        self.rows.get(&slot).map(|held| &held.row)
    }

    /// Returns whether a row decides a fact.
    pub(crate) fn decides(&self, fact: u32) -> bool {
        fact == 0 || self.facts.binary_search_by_key(&fact, |of| of.fact).is_ok()
    }

    /// Takes up a row as it was kept, as of `time`: what follows from it flips.
    pub(crate) fn restore(
        &mut self,
        slot: Slot,
        row: KeptRow,
        time: Time,
        (properties, flips): (&mut PropertyState, &mut Vec<Flip>),
    ) {
        let before = self.before(slot);
        self.rows.insert(slot, Held::new(row));
        self.moved((slot, before), Moved { time, cause: Cause::Snapshot }, properties, flips);
    }
}

impl KeptRow {
    /// Returns the value that events have set a live column to; `None` if none has.
    fn set_value(&self, live: u32) -> Option<&StoredValue> {
        self.set.iter().find(|settings| settings.live == live).map(Settings::last)
    }

    /// Sets a live column by an event, unless no event has set it and this one is older than `oldest`; returns whether the event is
    /// one that is held.
    fn set(&mut self, live: u32, timestamp: Time, setting: Setting, oldest: Time) -> bool {
        match self.set.iter_mut().find(|settings| settings.live == live) {
            Some(settings) => match settings.values.iter_mut().find(|(_, known, _)| *known == setting.1) {
                Some(same) => {
                    same.0 = same.0.min(setting.0);
                    return true;
                }
                None if timestamp == settings.timestamp => settings.values.push(setting),
                None if timestamp > settings.timestamp => {
                    (settings.timestamp, settings.values) = (timestamp, vec![setting]);
                }
                None => {}
            },
            None if timestamp >= oldest => {
                self.set.push(Settings { live, timestamp, values: vec![setting] });
                self.set.sort_by_key(|settings| settings.live);
            }
            None => {}
        }
        false
    }

    /// Switches to the columns that a pull has, which began then; returns whether something that events have set is dropped.
    fn switch(&mut self, values: Option<&[StoredValue]>, began: Time, live: &[usize], any: bool) -> bool {
        if let Some(values) = values {
            self.dated.resize(live.len(), began);
            for (index, column) in live.iter().enumerate() {
                let before = self.snapshot.as_ref().map(|row| &row[*column]);
                if before != Some(&values[*column]) {
                    self.dated[index] = began;
                }
            }
        }
        if self.snapshot.as_deref() != values {
            self.snapshot = values.map(Into::into);
        }
        let before = self.set.len();
        let oldest = |live: u32| match values {
            Some(_) => self.dated[live as usize],
            None if any => 0,
            None => began,
        };
        self.set.retain(|settings| settings.timestamp >= oldest(settings.live));
        self.set.len() < before
    }
}

#[cfg(test)]
mod tests;
