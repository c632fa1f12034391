//! Evaluates the rows of a pull.
//!
//! Computes, batch by batch and column by column: for rows of a parent model the truth of its property facts, for rows that
//! belong to another model what each adds to the related facts of their parent. For a predicate with `now()` it computes the
//! row's truth over all time instead. Holds nothing between batches.

use crate::ingest::event_batch::{hash_key, owner};
use crate::ingest::known_rows::{Comparison, KnownBatch};
use crate::ingest::row_batch::{Role, RowBatch, Timeline};
use crate::state::facts::words_for;
use arrow_array::{Array, ArrayRef, BooleanArray};
use std::fmt::Write;
use std::sync::Arc;
use usher_config::{Aggregate, ColumnType};
use usher_core::time::{write_date, write_timestamp};
use usher_core::warehouse;
use usher_core::warehouse::Wanted;
use usher_queries::aggregate::Contribution;
use usher_queries::plan::{FactKind, Plan, SnapshotPlan};
use usher_queries::predicate::{Evaluator, Predicate, PredicateIndex};
use usher_queries::{StoredValue, Value};
use xxhash_rust::xxh3::xxh3_128;

/// A predicate, and the places of its columns in a batch.
struct Filter {
    evaluator: Evaluator,
    columns: Vec<usize>,
    types: Vec<ColumnType>,
    /// Whether it mentions `now()`.
    clocked: bool,
}

/// What conditions and messages take of the rows of a batch, of the model itself.
struct OwnRows {
    rows: usize,
    /// The bits of the facts that hold, in as many words for each row.
    truths: Vec<u64>,
    /// What messages may carry of each row, and where each text ends; empty if they carry nothing.
    texts: String,
    ends: Vec<usize>,
}

impl OwnRows {
    fn text(&self, row: usize) -> &str {
        let Some(end) = self.ends.get(row) else { return "" };
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.texts[start..*end]
    }
}

/// What is sent of a batch that was compared with the snapshot in force.
pub(crate) struct Compared {
    /// The rows that were changed are gone, and there anew.
    pub(crate) batches: Vec<RowBatch>,
    /// The number of rows in them that are there, and of those that are gone.
    pub(crate) sent: u64,
    pub(crate) gone: u64,
}

/// The property facts of a model that is pulled.
struct PropertyFacts {
    facts: Vec<(u32, Filter)>,
    /// Finds among `facts`, by the columns of a batch, those that can hold for a row, and which don't mention `now()`.
    can_hold: PredicateIndex,
    /// The types of the columns by whose values it finds them.
    found_by: Vec<(usize, ColumnType)>,
}

/// A fact of the parent model that aggregates rows of this one.
struct RelatedFact {
    fact: u32,
    filter: Option<Filter>,
    aggregate: Aggregate,
    column: Option<(usize, ColumnType)>,
}

/// Evaluates the rows of one pull of a model, for all conditions of the job.
pub(crate) struct RowReader {
    pulled: u32,
    pull: u64,
    peers: u32,
    /// Property facts, if the model has audiences of its own; none where rows are kept.
    own: Option<PropertyFacts>,
    /// The columns of rows that are kept: place in a batch, type.
    kept: Vec<(usize, ColumnType)>,
    /// Whether the foreign key is kept, behind them.
    keeps_foreign_key: bool,
    /// The columns that messages may carry: name as JSON, place in a batch, type.
    include: Vec<(String, usize, ColumnType)>,
    /// The parent model, and its facts about rows of this one.
    related: Option<(u32, Vec<RelatedFact>)>,
}

/// Returns the columns to read of a model's Parquet; `None` if it has none.
pub fn wanted(plan: &Plan, model: usize) -> Option<Wanted> {
    let snapshot = plan.models[model].snapshot.as_ref()?;
    let foreign_key = snapshot.parent.as_ref().map(|(_, column)| column.clone());
    let columns = columns(snapshot);
    let declared = &plan.job.models[&plan.models[model].id].columns;
    let read = columns.iter().map(|(name, _)| name).chain(&foreign_key).chain([&snapshot.key]);
    let undeclared = read.filter(|name| !declared.contains_key(&name[..])).cloned().collect();
    Some(Wanted { key: snapshot.key.clone(), foreign_key, columns, undeclared })
}

/// Returns the columns that conditions read, and then those that only messages carry.
fn columns(snapshot: &SnapshotPlan) -> Vec<(String, ColumnType)> {
    let mut columns = snapshot.columns.clone();
    columns.extend(snapshot.include.iter().filter(|column| !snapshot.columns.contains(column)).cloned());
    columns
}

/// Returns a value as JSON, with times as messages have them: a year beyond 9999 has a sign.
pub(crate) fn json(value: &Value<'_>) -> serde_json::Value {
    let time = |ms: i64, write: fn(&mut Vec<u8>, i64)| {
        let mut text = Vec::with_capacity("2026-11-23T10:00:00.123Z".len());
        write(&mut text, ms);
        String::from_utf8(text).expect("times are ASCII").into()
    };
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Boolean(b) => (*b).into(),
        Value::Integer(n) => (*n).into(),
        Value::Number(x) => (*x).into(),
        Value::String(text) => text.as_ref().into(),
        Value::Timestamp(ms) => time(*ms, write_timestamp),
        Value::Date(ms) => time(*ms, write_date),
        Value::List(values) => values.iter().map(json).collect(),
    }
}

/// Writes columns as a JSON object: names as JSON, and values.
pub(crate) fn write_columns(columns: impl Iterator<Item = (impl AsRef<str>, serde_json::Value)>, out: &mut String) {
    out.push('{');
    for (i, (name, value)) in columns.enumerate() {
        let comma = if i == 0 { "" } else { "," };
        write!(out, "{comma}{}:{value}", name.as_ref()).expect("writing to a string never fails");
    }
    out.push('}');
}

impl RowReader {
    /// Returns the reader of one pull of a model of the plan, on one of `peers` workers.
    pub(crate) fn new(plan: &Plan, model: usize, pull: u64, peers: u32) -> RowReader {
        let snapshot = plan.models[model].snapshot.as_ref().expect("only a model with Parquet is pulled");
        let read = columns(snapshot);
        let column = |name: &str| {
            let at = read.iter().position(|(column, _)| column == name);
            at.expect("the plan projects what its conditions read")
        };
        let filter = |predicate: &Predicate| Filter {
            evaluator: Evaluator::new(predicate),
            columns: predicate.columns.iter().map(|(name, _)| column(name)).collect(),
            types: predicate.columns.iter().map(|(_, column_type)| *column_type).collect(),
            clocked: predicate.mentions_now(),
        };
        let facts = |of: usize| plan.models[of].facts.iter().enumerate().map(|(i, fact)| (i as u32, &fact.kind));
        // Every model has fact 0; it matters only if there are audiences.
        let own = plan.models[model].owns_rows().then(|| {
            let properties = facts(model).filter_map(|(fact, kind)| match kind {
                FactKind::Property(predicate) if plan.models[model].rows.is_none() => Some((fact, filter(predicate))),
                _ => None,
            });
            PropertyFacts::new(properties.collect(), &read)
        });
        let related = snapshot.parent.as_ref().map(|(parent, _)| {
            let related = facts(*parent as usize).filter_map(|(fact, kind)| match kind {
                FactKind::Related { model: of, filter: rows, aggregate, column_type, .. } if *of as usize == model => {
                    let name = match aggregate {
                        Aggregate::Count => None,
                        Aggregate::Sum(c)
                        | Aggregate::Avg(c)
                        | Aggregate::Min(c)
                        | Aggregate::Max(c)
                        | Aggregate::Distinct(c) => Some(c),
                    };
                    let column =
                        name.map(|name| (column(name), column_type.expect("an aggregate's column has a type")));
                    Some(RelatedFact { fact, filter: rows.as_ref().map(filter), aggregate: aggregate.clone(), column })
                }
                _ => None,
            });
            (*parent, related.collect::<Vec<_>>())
        });
        let related = related.filter(|(_, related)| own.is_none() || !related.is_empty());
        let include = snapshot.include.iter();
        let include = include.map(|(name, kind)| (serde_json::Value::from(&name[..]).to_string(), column(name), *kind));
        let rows = plan.models[model].rows.as_ref();
        let include = if own.is_some() && rows.is_none() { include.collect() } else { Vec::new() };
        let kept = rows.iter().flat_map(|rows| &rows.columns).map(|(name, of)| (column(name), *of)).collect();
        let keeps_foreign_key = rows.is_some_and(|rows| rows.parent.is_some());
        RowReader { pulled: model as u32, pull, peers, own, kept, keeps_foreign_key, include, related }
    }

    /// Evaluates a batch of rows, and splits it by role and by the worker that owns the keys.
    pub(crate) fn read(&self, batch: &warehouse::KeyedBatch) -> Vec<RowBatch> {
        let mut out = Vec::new();
        if let Some(properties) = &self.own {
            let mut parts = self.parts(self.pulled, Role::Own);
            let own = self.evaluate_own(batch, properties);
            self.push_own(batch, properties, &own, 0..own.rows, &mut parts);
            out.append(&mut parts);
        }
        if let Some((parent, facts)) = &self.related {
            let mut parts = self.parts(*parent, Role::Related);
            if self.own.is_none() {
                for row in 0..batch.keys.len() {
                    let key = batch.keys.value(row);
                    let fingerprint = xxh3_128(key.as_bytes());
                    parts[owner(fingerprint as u64, self.peers) as usize].push_seen(fingerprint, key);
                }
            }
            self.read_related(batch, facts, &mut parts);
            out.append(&mut parts);
        }
        out.retain(|batch| !batch.is_empty());
        out
    }

    /// Evaluates a batch that has rows, as [`RowReader::read`] does, and leaves out rows that are as in the snapshot in force. Only where
    /// [`can_compare`](super::known_rows::can_compare) is true of the model.
    pub(crate) fn read_compared(&self, batch: &warehouse::KeyedBatch, comparison: &Comparison) -> Compared {
        let properties = self.own.as_ref().expect("rows that are compared are those of the model itself");
        let rows = batch.keys.len();
        let own = self.evaluate_own(batch, properties);
        let digests = self.digests(properties, &own, comparison);
        let fingerprint = comparison.fingerprint(&batch.keys);
        let changed = comparison.find(fingerprint).map(|before| (before.differing(&digests), before));
        let mut parts = self.parts(self.pulled, Role::Own);
        let (known, mut out, sent, gone) = match changed {
            Some((changed, before)) if changed.is_empty() => (before, Vec::new(), 0, 0),
            Some((changed, before)) => {
                self.push_own(batch, properties, &own, changed.iter().copied(), &mut parts);
                let gone = self.gone(batch, changed.iter().copied());
                let known = KnownBatch { number: before.number, rows, digests };
                (Arc::new(known), gone, changed.len(), changed.len())
            }
            None => {
                let number = comparison.number();
                self.push_own(batch, properties, &own, 0..rows, &mut parts);
                parts.iter_mut().for_each(|part| part.number = number);
                (Arc::new(KnownBatch { number, rows, digests }), Vec::new(), rows, 0)
            }
        };
        comparison.add(fingerprint, known);
        out.extend(parts.into_iter().filter(|part| !part.is_empty()));
        Compared { batches: out, sent: sent as u64, gone: gone as u64 }
    }

    /// Returns what rows are compared by: the truths of up to 64 conditions, or 8 bytes of a hash of all truths and what messages may carry.
    fn digests(&self, properties: &PropertyFacts, own: &OwnRows, comparison: &Comparison) -> Box<[u8]> {
        let facts = properties.facts.len();
        if self.include.is_empty() && facts <= 64 {
            let width = facts.div_ceil(8);
            // A word a row, or none if there are no facts.
            if width == 1 {
                return own.truths.iter().map(|truths| *truths as u8).collect();
            }
            let mut digests = Vec::with_capacity(own.truths.len() * width);
            own.truths.iter().for_each(|truths| digests.extend_from_slice(&truths.to_le_bytes()[..width]));
            return digests.into();
        }
        let stride = words_for(facts);
        let digest = |row: usize| {
            let mut hasher = comparison.hasher();
            own.truths[row * stride..][..stride].iter().for_each(|word| hasher.update(&word.to_le_bytes()));
            hasher.update(own.text(row).as_bytes());
            hasher.digest().to_le_bytes()
        };
        (0..own.rows).flat_map(digest).collect()
    }

    /// Splits the keys of rows that are no longer in the table, of a model with rows of its own, by the worker that owns them.
    pub(crate) fn read_gone(&self, batch: &warehouse::KeyedBatch) -> Vec<RowBatch> {
        self.gone(batch, 0..batch.keys.len())
    }

    fn gone(&self, batch: &warehouse::KeyedBatch, rows: impl Iterator<Item = usize>) -> Vec<RowBatch> {
        let mut parts = self.parts(self.pulled, Role::Own);
        for row in rows {
            let key = batch.keys.value(row);
            let hash = hash_key(key);
            parts[owner(hash, self.peers) as usize].push(hash, key);
        }
        parts.iter_mut().for_each(|batch| batch.gone = true);
        parts.retain(|batch| !batch.is_empty());
        parts
    }

    /// Returns an empty batch for each worker.
    fn parts(&self, model: u32, role: Role) -> Vec<RowBatch> {
        (0..self.peers).map(|worker| RowBatch::new(worker, self.pulled, self.pull, model, role)).collect()
    }

    /// Evaluates what conditions and messages take of the rows of a batch.
    fn evaluate_own(&self, batch: &warehouse::KeyedBatch, properties: &PropertyFacts) -> OwnRows {
        let rows = batch.keys.len();
        let mut own = OwnRows { rows, truths: properties.truths(batch), texts: String::new(), ends: Vec::new() };
        if !self.include.is_empty() {
            for row in 0..rows {
                self.write_row(batch, row, &mut own.texts);
                own.ends.push(own.texts.len());
            }
        }
        own
    }

    /// Adds rows of a batch that is evaluated to the parts of the owners of their keys.
    fn push_own(
        &self,
        batch: &warehouse::KeyedBatch,
        properties: &PropertyFacts,
        own: &OwnRows,
        rows: impl Iterator<Item = usize>,
        parts: &mut [RowBatch],
    ) {
        let stride = words_for(properties.facts.len());
        for row in rows {
            let key = batch.keys.value(row);
            let hash = hash_key(key);
            let part = &mut parts[owner(hash, self.peers) as usize];
            let number = part.push(hash, key);
            if !self.include.is_empty() {
                part.push_text(own.text(row));
            }
            let kept = self.kept.iter().map(|(at, of)| StoredValue::of(&Value::at(&batch.columns[*at], *of, row)));
            part.values.extend(kept);
            if self.keeps_foreign_key {
                let keys = batch.foreign_keys.as_ref().filter(|keys| !keys.is_null(row));
                part.values.push(keys.map_or(StoredValue::Null, |keys| StoredValue::String(keys.value(row).into())));
            }
            part.truths.extend_from_slice(&own.truths[row * stride..][..stride]);
            for (fact, filter) in properties.facts.iter().filter(|(_, filter)| filter.clocked) {
                part.timelines.push((number, *fact, filter.timeline(&batch.columns, row)));
            }
        }
    }

    /// Writes what messages may carry of a row: a JSON object.
    fn write_row(&self, batch: &warehouse::KeyedBatch, row: usize, out: &mut String) {
        let columns = self.include.iter();
        write_columns(columns.map(|(name, at, of)| (name, json(&Value::at(&batch.columns[*at], *of, row)))), out);
    }

    fn read_related(&self, batch: &warehouse::KeyedBatch, facts: &[RelatedFact], parts: &mut [RowBatch]) {
        let keys = batch.foreign_keys.as_ref().expect("rows that belong to another model have its key");
        let truths: Vec<Option<BooleanArray>> = facts
            .iter()
            .map(|fact| fact.filter.as_ref().and_then(|filter| filter.holds(&batch.columns, keys.len())))
            .collect();
        for row in 0..keys.len() {
            // A row without a parent counts for no key.
            if keys.is_null(row) || keys.value(row).is_empty() {
                continue;
            }
            let (hash, key) = (hash_key(keys.value(row)), keys.value(row));
            let part = &mut parts[owner(hash, self.peers) as usize];
            let number = part.push(hash, key);
            for (i, fact) in facts.iter().enumerate() {
                let clocked = fact.filter.as_ref().filter(|filter| filter.clocked);
                if clocked.is_none() && truths[i].as_ref().is_some_and(|truth| !truth.value(row)) {
                    continue;
                }
                let value = fact
                    .column
                    .map_or(Value::Null, |(at, column_type)| Value::at(&batch.columns[at], column_type, row));
                let contribution = Contribution::of(&fact.aggregate, &value);
                match clocked {
                    Some(filter) => {
                        let timeline = filter.timeline(&batch.columns, row);
                        if timeline.first || !timeline.flips.is_empty() {
                            part.timed.push((number, fact.fact, contribution, timeline));
                        }
                    }
                    None => part.contributions.push((number, fact.fact, contribution)),
                }
            }
        }
    }
}

impl PropertyFacts {
    /// Prepares facts over columns that are read.
    fn new(facts: Vec<(u32, Filter)>, read: &[(String, ColumnType)]) -> PropertyFacts {
        let timeless = facts.iter().map(|(_, filter)| (!filter.clocked).then_some(filter));
        let can_hold = PredicateIndex::new(timeless.map(|filter| filter.map(|of| (&of.evaluator, &of.columns[..]))));
        let found_by = can_hold.columns().map(|at| (at, read[at].1)).collect();
        PropertyFacts { facts, can_hold, found_by }
    }

    /// Returns the bits of the facts that hold for each row of a batch, in as many words for each; not of those that mention `now()`.
    fn truths(&self, batch: &warehouse::KeyedBatch) -> Vec<u64> {
        let rows = batch.keys.len();
        let stride = words_for(self.facts.len());
        let mut truths = vec![0; stride * rows];
        for of in self.can_hold.always() {
            let Some(truth) = self.facts[of].1.holds(&batch.columns, rows) else { continue };
            truth.values().set_indices().for_each(|row| truths[row * stride + of / 64] |= 1 << (of % 64));
        }
        if self.found_by.is_empty() {
            return truths;
        }
        let mut values = vec![Value::Null; batch.columns.len()];
        for row in 0..rows {
            for (at, of) in &self.found_by {
                values[*at] = Value::at(&batch.columns[*at], *of, row);
            }
            for of in self.can_hold.found(&values).filter(|of| self.facts[*of].1.holds_at(&batch.columns, row)) {
                truths[row * stride + of / 64] |= 1 << (of % 64);
            }
        }
        truths
    }
}

impl Filter {
    /// Returns the truth for each row; `None` if it depends on the clock.
    fn holds(&self, columns: &[ArrayRef], rows: usize) -> Option<BooleanArray> {
        if self.clocked {
            return None;
        }
        let columns: Vec<ArrayRef> = self.columns.iter().map(|at| ArrayRef::clone(&columns[*at])).collect();
        Some(self.evaluator.holds_batch(&columns, rows, 0))
    }

    /// Returns the truth for one row, if it does not depend on the clock.
    fn holds_at(&self, columns: &[ArrayRef], row: usize) -> bool {
        self.evaluator.holds(&self.values(columns, row), 0)
    }

    /// Returns the truth of one row over all time.
    fn timeline(&self, columns: &[ArrayRef], row: usize) -> Timeline {
        Timeline::of(&self.evaluator, &self.values(columns, row))
    }

    /// Returns the values of one row that it reads.
    fn values<'c>(&self, columns: &'c [ArrayRef], row: usize) -> Vec<Value<'c>> {
        let read = self.columns.iter().zip(&self.types);
        read.map(|(at, column_type)| Value::at(&columns[*at], *column_type, row)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_any_year_is_sent() {
        const DAY: i64 = 86_400_000;
        // 10000-01-01.
        let end = 2_932_897 * DAY;
        for (value, text) in [
            (Value::Timestamp(end - 1), "9999-12-31T23:59:59.999Z"),
            (Value::Timestamp(end), "+10000-01-01T00:00:00.000Z"),
            (Value::Timestamp(-1), "1969-12-31T23:59:59.999Z"),
            (Value::Timestamp(i64::MAX), "+292278994-08-17T07:12:55.807Z"),
            (Value::Date(end - DAY), "9999-12-31"),
            (Value::Date(-719_528 * DAY), "0000-01-01"),
            (Value::Date(end), "+10000-01-01"),
        ] {
            assert_eq!(json(&value), text, "{value:?}");
        }
        let list = Value::List(vec![Value::Integer(1), Value::Null]);
        assert_eq!(json(&list), serde_json::json!([1, null]));
    }
}
