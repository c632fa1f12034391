//! Random rows of users, staged as a pull stages them, for tests of what pulls decide.

use super::dictionary::SharedDictionary;
use super::epoch::WholePull;
use super::staged::Staged;
use crate::ingest::evaluate_rows::{RowReader, wanted};
use crate::ingest::row_batch::Role;
use crate::time::Time;
use arrow_array::{ArrayRef, Float64Array, StringArray, TimestampMillisecondArray};
use std::collections::BTreeMap;
use std::sync::Arc;
use usher_config::ColumnType;
use usher_core::warehouse::KeyedBatch;
use usher_queries::plan::Plan;

/// When the job starts, ms since the epoch.
pub(crate) const START: Time = 1_795_428_000_000;

/// A row: a number, a time relative to the start, a text.
pub(crate) type Row = (Option<u8>, i64, Option<&'static str>);
/// Rows by their keys.
pub(crate) type Rows = BTreeMap<String, Row>;

/// Returns the index of the users.
pub(crate) fn users(plan: &Plan) -> usize {
    plan.models.iter().position(|model| model.id == "users").expect("users")
}

/// Returns these rows after some random changes, of so many keys.
pub(crate) fn random_rows(before: &Rows, keys: usize, rng: &mut fastrand::Rng) -> Rows {
    let mut rows = before.clone();
    for _ in 0..rng.usize(..8) {
        let user = format!("u-{}", rng.usize(..keys));
        match rng.u8(..3) {
            0 => drop(rows.remove(&user)),
            _ => {
                let plan = [Some("free"), Some("pro"), None][rng.usize(..3)];
                rows.insert(user, ((rng.u8(..5) > 0).then(|| rng.u8(..100)), 2 * rng.i64(-4..20), plan));
            }
        }
    }
    rows
}

fn batch(plan: &Plan, rows: &Rows, only_keys: bool) -> KeyedBatch {
    let wanted = wanted(plan, users(plan)).expect("it is pulled");
    let column = |(_, to): &(String, ColumnType)| -> ArrayRef {
        match to {
            ColumnType::Number => Arc::new(rows.values().map(|row| row.0.map(f64::from)).collect::<Float64Array>()),
            ColumnType::Timestamp => {
                let times = rows.values().map(|row| Some(START as i64 + row.1));
                Arc::new(times.collect::<TimestampMillisecondArray>())
            }
            _ => Arc::new(rows.values().map(|row| row.2).collect::<StringArray>()),
        }
    };
    KeyedBatch {
        columns: wanted.columns.iter().filter(|_| !only_keys).map(column).collect(),
        keys: rows.keys().map(Some).collect(),
        foreign_keys: None,
        skipped: 0,
    }
}

/// Stages batches of rows that are there, or gone.
pub(crate) fn staged(plan: &Plan, number: u64, batches: &[(Rows, bool)], keys: &SharedDictionary) -> WholePull {
    let model = users(plan);
    let mut staged = Staged::new(Role::Own, model as u32, &plan.models[model], keys.borrow().len());
    keys.borrow_mut().hold();
    let reader = RowReader::new(plan, model, number, 1);
    for (rows, gone) in batches {
        let batch = batch(plan, rows, *gone);
        for mut rows in if *gone { reader.read_gone(&batch) } else { reader.read(&batch) } {
            let slots = keys.borrow_mut().intern_all(rows.len(), |row| rows.key(row));
            assert_eq!(staged.add(&mut rows, &slots), None, "keys are unique");
        }
    }
    WholePull { pulled: model as u32, number, began: START + number, at: None, parts: vec![(model as u32, staged)] }
}
