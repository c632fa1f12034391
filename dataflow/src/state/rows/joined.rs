//! Rows as they are joined: with what they read of the rows that they belong to, as of any ms of an epoch.
//!
//! Holds, of rows that changed in the epoch at hand, how they were before. See [`crate::state::joins`].

use super::{Held, Moved, RowFact, RowState, Shape, parent_key};
use crate::ingest::evaluate_rows::json;
use crate::ingest::row_batch::Timeline;
use crate::state::facts::{get, set, words_for};
use crate::state::parents::{Interest, ParentValues, Parents, Readers, is_later};
use crate::state::properties::PropertyState;
use crate::state::transition::{Cause, Flip};
use crate::time::{Slot, Time};
use hashbrown::HashMap;
use usher_core::api::ExplainedParent;
use usher_queries::StoredValue;
use usher_queries::plan::{InheritedColumn, RowsPlan};

/// A row before a change in this epoch: its columns, and behind them its foreign key if that is kept; `None` if there was none.
pub(super) struct Version {
    time: Time,
    cause: Cause,
    row: Option<Box<[StoredValue]>>,
}

/// How rows hang together with those of other models.
#[derive(Default)]
pub(super) struct Joins {
    /// The columns of parents that the rows read.
    pub(super) inherited: Vec<InheritedColumn>,
    /// What is known of the parents; `None` if the rows read none.
    pub(super) parents: Option<Parents>,
    readers: Vec<Readers>,
    versions: HashMap<Slot, Vec<Version>>,
    /// Rows that may have changed at a time, and have not been joined.
    changed: Vec<(Time, Slot)>,
    /// The time of the last change, as of which rows were restored, or at which the epoch at hand begins: what is older is taken for as
    /// late. Workers have no more to say of an earlier time.
    latest: Time,
    /// Values that have not been sent.
    values: Vec<ParentValues>,
}

impl Joins {
    pub(super) fn new(model: usize, rows: &RowsPlan) -> Joins {
        let parent = rows.parent.filter(|_| !rows.inherited.is_empty());
        let parents = parent.map(|parent| Parents::new(parent.model, model as u32, rows.inherited.len()));
        Joins { inherited: rows.inherited.clone(), parents, ..Joins::default() }
    }

    /// Returns whether rows are joined with any.
    pub(super) fn any(&self) -> bool {
        self.parents.is_some() || !self.readers.is_empty()
    }

    /// Returns whether some worker reads a key's row.
    pub(super) fn is_read(&self, slot: Slot) -> bool {
        self.readers.iter().any(|readers| !readers.of(slot).is_empty())
    }
}

/// What follows for a fact from a row.
enum Follows {
    Truth(bool),
    Timeline(Option<Timeline>),
}

impl RowState {
    /// Sets who may read rows as those of parents.
    pub(crate) fn set_readers(&mut self, readers: Vec<Readers>) {
        self.joins.readers = readers;
    }

    /// Returns a row as it is now, to be noted should it change; `None` if that matters to no other row.
    pub(super) fn before(&self, slot: Slot) -> Option<Option<Box<[StoredValue]>>> {
        self.joins.any().then(|| {
            let row = self.rows.get(&slot).and_then(|held| self.shape().effective(&held.row));
            row.map(|row| row.into_iter().cloned().collect())
        })
    }

    /// Takes note of how a row was before it changed.
    pub(super) fn note(&mut self, slot: Slot, before: Option<Option<Box<[StoredValue]>>>, moved: Moved) {
        let Some(before) = before else { return };
        let shape = super::shape(self.any, self.foreign_key, &self.live, self.columns.len());
        let now = self.rows.get(&slot).and_then(|held| shape.effective(&held.row));
        let is_same = match (&before, &now) {
            (None, None) => true,
            (Some(before), Some(now)) => before.iter().eq(now.iter().copied()),
            _ => false,
        };
        if is_same {
            return;
        }
        let Joins { parents, versions, changed, latest, .. } = &mut self.joins;
        *latest = moved.time.max(*latest);
        let time = *latest;
        if let Some(parents) = parents {
            let key = |value: Option<&StoredValue>| value.and_then(parent_key);
            let (was, is) = (
                key(before.as_ref().and_then(|row| row.last())),
                key(now.as_ref().and_then(|row| row.last().copied())),
            );
            parents.moved(slot, time, (was.as_deref(), is.as_deref()));
        }
        let versions = versions.entry(slot).or_default();
        match versions.last_mut().filter(|last| last.time == time) {
            Some(last) => last.cause = last.cause.min(moved.cause),
            None => {
                versions.push(Version { time, cause: moved.cause, row: before });
                changed.push((time, slot));
            }
        }
    }

    /// Returns a row as of a time of this epoch, or right `before` it.
    fn as_of(&self, slot: Slot, time: Time, before: bool) -> Option<Vec<&StoredValue>> {
        let versions = self.joins.versions.get(&slot);
        match versions.and_then(|versions| versions.iter().find(|of| is_later(of.time, time, before))) {
            Some(later) => later.row.as_ref().map(|row| row.iter().collect()),
            None => self.rows.get(&slot).and_then(|held| self.shape().effective(&held.row)),
        }
    }

    /// Returns the key that a row points to.
    fn key_of(&self, row: Option<&Vec<&StoredValue>>) -> Option<Box<str>> {
        row.filter(|_| self.joins.parents.is_some()).and_then(|row| parent_key(row[self.columns.len()]))
    }

    /// Returns a row with what it reads of its parent as of a time of this epoch, or right `before` it: its columns, and behind them those
    /// of parents. `None` if nothing is known of the parent here.
    pub(super) fn with_parent<'r>(
        &'r self,
        mut row: Vec<&'r StoredValue>,
        time: Time,
        before: bool,
    ) -> Option<Vec<&'r StoredValue>> {
        let Some(parents) = &self.joins.parents else { return Some(row) };
        let key = self.key_of(Some(&row));
        row.truncate(self.columns.len());
        row.extend(parents.values(key.as_deref(), time, before)?);
        Some(row)
    }

    /// Returns a row as of a time, or right `before` it, with what it reads of its parent.
    fn joined(&self, slot: Slot, time: Time, before: bool) -> Option<Vec<&StoredValue>> {
        let row = self.as_of(slot, time, before)?;
        Some(self.with_parent(row, time, before).expect("a parent is known from when a row points to it"))
    }

    /// Returns why a row with what it reads of its parent changed at a time. A row that moves to another parent does so by its own cause.
    fn cause(&self, slot: Slot, time: Time) -> Option<Cause> {
        let (before, now) = (self.as_of(slot, time, true), self.as_of(slot, time, false));
        let versions = self.joins.versions.get(&slot).into_iter().flatten();
        let own = versions.filter(|of| of.time == time && before != now).map(|of| of.cause);
        let (was, is) = (self.key_of(before.as_ref()), self.key_of(now.as_ref()));
        let parents = self.joins.parents.as_ref().filter(|_| was == is);
        let of_parent = parents.and_then(|parents| parents.cause(&is?, time));
        own.chain(of_parent).min()
    }

    /// Works out what follows from a row, and from what it reads of its parent, at a time at which either may have changed.
    pub(crate) fn join(
        &mut self,
        (slot, key): (Slot, &str),
        time: Time,
        (properties, flips): (&mut PropertyState, &mut Vec<Flip>),
    ) {
        let Some(cause) = self.cause(slot, time) else { return };
        let row = self.joined(slot, time, false);
        let follows = |(i, fact): (usize, &RowFact)| {
            let row = row.as_deref();
            let follows = match fact.clocked {
                true => Follows::Timeline(row.map(|row| fact.timeline(row))),
                false => Follows::Truth(fact.holds(row, time)),
            };
            (i, fact.fact, follows)
        };
        let inherits = self.facts.iter().enumerate().filter(|(_, fact)| fact.inherits);
        let follows: Vec<(usize, u32, Follows)> = inherits.map(follows).collect();
        let values = self.changed_values(slot, key, (time, cause), row.as_deref());
        self.joins.values.extend(values);
        let facts = self.facts.len();
        let moved = Moved { time, cause };
        for (i, fact, follows) in follows {
            match follows {
                Follows::Timeline(timeline) => properties.set_row_truth(slot, fact, timeline, moved, flips),
                Follows::Truth(truth) => {
                    // Until the epoch ends what has gone is held.
                    let Some(Held { truths, .. }) = self.rows.get_mut(&slot) else { continue };
                    truths.resize(words_for(facts + 1), 0);
                    if get(truths, i as u32 + 1) != truth {
                        set(truths, i as u32 + 1, truth);
                        flips.push(Flip { time, slot, fact, truth, cause });
                    }
                }
            }
        }
    }

    /// Returns what the workers that read a row are sent where it changed at a time.
    fn changed_values(
        &self,
        slot: Slot,
        key: &str,
        (time, cause): (Time, Cause),
        row: Option<&[&StoredValue]>,
    ) -> Vec<ParentValues> {
        if !self.joins.is_read(slot) {
            return Vec::new();
        }
        let before = self.joined(slot, time, true);
        let mut sent = Vec::new();
        for readers in &self.joins.readers {
            let values = read(row, &readers.columns);
            if values == read(before.as_deref(), &readers.columns) {
                continue;
            }
            for worker in readers.of(slot) {
                let (worker, child, key, values) = (*worker, readers.child, key.to_owned(), values.clone());
                sent.push(ParentValues { worker, child, key, time, cause: Some(cause), values });
            }
        }
        sent
    }

    /// Begins to send a key's values to a worker, for rows of `child`: those of `time` first.
    pub(crate) fn begin_reading(&mut self, (slot, key): (Slot, &str), time: Time, (child, worker): (u32, u32)) {
        let row = self.joined(slot, time, false);
        let readers = self.joins.readers.iter().find(|readers| readers.child == child);
        let values = read(row.as_deref(), &readers.expect("rows of that model read these").columns);
        self.joins.values.push(ParentValues { worker, child, key: key.to_owned(), time, cause: None, values });
        self.readers_of(child).begin(slot, worker);
    }

    /// Ends it.
    pub(crate) fn end_reading(&mut self, slot: Slot, child: u32, worker: u32) {
        self.readers_of(child).end(slot, worker);
    }

    fn readers_of(&mut self, child: u32) -> &mut Readers {
        let readers = self.joins.readers.iter_mut().find(|readers| readers.child == child);
        readers.expect("rows of that model read these")
    }

    /// Returns what a key's row reads of those that it belongs to; nothing if it has no row.
    pub(crate) fn parent_values(&self, slot: Slot) -> Vec<ExplainedParent> {
        let row = self.rows.get(&slot).and_then(|held| self.shape().effective(&held.row));
        let Some((row, parents)) = row.zip(self.joins.parents.as_ref()) else { return Vec::new() };
        let key = self.key_of(Some(&row));
        let values = parents.values(key.as_deref(), Time::MAX, false).unwrap_or_default();
        let shown = |(inherited, value): (&InheritedColumn, &StoredValue)| ExplainedParent {
            column: inherited.column.to_string(),
            key: key.as_deref().map(str::to_owned),
            value: json(&value.value()),
        };
        self.joins.inherited.iter().zip(values).map(shown).collect()
    }

    /// Takes in values of a parent, in order of time.
    pub(crate) fn take_parent(&mut self, values: ParentValues) {
        let Joins { parents, changed, .. } = &mut self.joins;
        parents.as_mut().expect("the rows read columns of parents").take(values, changed);
    }

    /// Takes which rows may have changed before a time, or what they read of their parents.
    pub(crate) fn take_changed(&mut self, limit: Time) -> Vec<(Time, Slot)> {
        self.joins.changed.extract_if(.., |(time, _)| *time < limit).collect()
    }

    /// Takes what is to be asked of the owners of parents.
    pub(crate) fn take_interests(&mut self) -> Vec<Interest> {
        self.joins.parents.as_mut().map_or_else(Vec::new, Parents::take_interests)
    }

    /// Takes the values that workers are to be sent.
    pub(crate) fn take_values(&mut self) -> Vec<ParentValues> {
        std::mem::take(&mut self.joins.values)
    }

    /// Takes note that the next epoch begins at a time.
    pub(crate) fn begin_joins(&mut self, time: Time) {
        self.joins.latest = time.max(self.joins.latest);
    }

    /// Forgets how rows and their parents were before they changed in this epoch; the next one begins at `until`.
    pub(crate) fn end_joins(&mut self, until: Time) {
        self.begin_joins(until);
        // Where a start goes on without a snapshot, the first pulls are in force from a ms on that later epochs come to.
        if !self.joins.any() || !self.joins.changed.is_empty() {
            return;
        }
        let changed = std::mem::take(&mut self.joins.versions);
        changed.keys().for_each(|slot| self.drop_empty(*slot));
        let RowState { joins, rows, live, foreign_key, columns, any, .. } = self;
        let shape = Shape { columns: columns.len(), live, foreign_key: *foreign_key, any: *any };
        if let Some(parents) = &mut joins.parents {
            parents.end_epoch(until, |slot| {
                let row = rows.get(&slot).and_then(|held| shape.effective(&held.row))?;
                parent_key(row[shape.columns])
            });
        }
    }
}

/// Returns what others read of a row; all null if there is none.
fn read(row: Option<&[&StoredValue]>, columns: &[usize]) -> Vec<StoredValue> {
    columns.iter().map(|column| row.map_or(StoredValue::Null, |row| row[*column].clone())).collect()
}
