//! Random rows of users, staged as a pull stages them, for tests of what pulls decide.

use super::dictionary::SharedDictionary;
use super::epoch::WholePull;
use super::staged::Staged;
use super::transition::{EpochOutput, KeyText, Removed, Transition};
use crate::ingest::evaluate_rows::{RowReader, wanted};
use crate::ingest::row_batch::Role;
use crate::time::Time;
use arrow_array::{ArrayRef, Float64Array, StringArray, TimestampMillisecondArray};
use std::collections::BTreeMap;
use std::sync::Arc;
use usher_config::ColumnType;
use usher_core::change::{ChangeKind, Recipients};
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

/// Returns a batch of rows, with their keys only or with what the plan wants of them.
pub(crate) fn batch<'r>(plan: &Plan, rows: impl Iterator<Item = (&'r String, &'r Row)>, only_keys: bool) -> KeyedBatch {
    let (keys, rows): (Vec<&String>, Vec<&Row>) = rows.unzip();
    let wanted = wanted(plan, users(plan)).expect("it is pulled");
    let column = |(_, to): &(String, ColumnType)| -> ArrayRef {
        match to {
            ColumnType::Number => Arc::new(rows.iter().map(|row| row.0.map(f64::from)).collect::<Float64Array>()),
            ColumnType::Timestamp => {
                let times = rows.iter().map(|row| Some(START as i64 + row.1));
                Arc::new(times.collect::<TimestampMillisecondArray>())
            }
            _ => Arc::new(rows.iter().map(|row| row.2).collect::<StringArray>()),
        }
    };
    KeyedBatch {
        columns: wanted.columns.iter().filter(|_| !only_keys).map(column).collect(),
        keys: keys.into_iter().map(Some).collect(),
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
        let batch = batch(plan, rows.iter(), *gone);
        for mut rows in if *gone { reader.read_gone(&batch) } else { reader.read(&batch) } {
            let slots = keys.borrow_mut().intern_all(rows.len(), |row| rows.key(row));
            assert_eq!(staged.add(&mut rows, &slots), None, "keys are unique");
        }
    }
    WholePull { pulled: model as u32, number, began: START + number, at: None, parts: vec![(model as u32, staged)] }
}

/// All that is given out, in words.
#[derive(Default)]
pub(crate) struct Seen(pub(crate) Vec<String>);

impl EpochOutput for Seen {
    fn transition(&mut self, transition: &Transition, _: Option<Recipients>, text: KeyText<'_>) {
        let Transition { time, audience, kind, reason, .. } = *transition;
        let is = if kind == ChangeKind::Entry { "in" } else { "out" };
        self.0.push(format!("{} {} {audience} {is} {reason:?} {}", time - START, text.key, text.row));
    }

    fn update(&mut self, transition: &Transition, _: Recipients, text: KeyText<'_>) {
        self.0.push(format!("{} {} {} update {}", transition.time - START, text.key, transition.audience, text.row));
    }

    fn correction(&mut self, _: &Transition, _: Recipients, _: KeyText<'_>) {}
    fn removal(&mut self, _: &Removed, _: Time, _: &str) {}
    fn epoch_end(&mut self, _: Time) {}
}
