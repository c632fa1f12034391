//! Whether a staged difference fits the snapshot in force, found out before a row of it switches.
//!
//! Computes whether each row that is removed is there, and each that is added is not, so that keys stay unique and the number of rows is
//! known. Holds the place it has come to. Refuses to run while keys are being switched.

use super::epoch::{EpochWorker, WholePull};

/// The check of a worker's part of a difference.
#[derive(Default)]
pub(crate) struct Fitting {
    part: usize,
    keys: usize,
}

impl Fitting {
    /// Looks at up to `fuel` keys; returns whether all fit, once all have been looked at or one does not.
    pub(crate) fn step(&mut self, pull: &WholePull, epochs: &EpochWorker, fuel: usize) -> Option<bool> {
        let mut left = fuel;
        while let Some((model, staged)) = pull.parts.get(self.part) {
            let model = epochs.model(*model as usize);
            let named = &staged.named().expect("a difference that has ended names keys")[self.keys..];
            let now = &named[..left.min(named.len())];
            if !now.iter().all(|slot| model.fits(staged, *slot)) {
                return Some(false);
            }
            if now.len() < named.len() {
                self.keys += now.len();
                return None;
            }
            left -= now.len();
            (self.part, self.keys) = (self.part + 1, 0);
        }
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::dictionary::SharedDictionary;
    use super::super::epoch::Worked;
    use super::super::staged::Staged;
    use super::super::transition::{EpochOutput, KeyText, Removed, Transition};
    use super::*;
    use crate::ingest::evaluate_rows::{RowReader, wanted};
    use crate::ingest::reader::SourceProgress;
    use crate::ingest::row_batch::Role;
    use crate::time::{Slot, Span, Time};
    use arrow_array::{ArrayRef, Float64Array, StringArray, TimestampMillisecondArray};
    use std::collections::BTreeMap;
    use std::rc::Rc;
    use std::sync::Arc;
    use usher_config::ColumnType;
    use usher_core::change::{ChangeKind, Recipients};
    use usher_core::warehouse::KeyedBatch;
    use usher_queries::plan::Plan;
    use usher_queries::testing::fixtures::*;
    use usher_queries::{Schemas, compile};

    const START: Time = 1_795_428_000_000;
    const KEYS: usize = 24;

    /// A row: a number, a time relative to the start, a text.
    type Row = (Option<u8>, i64, Option<&'static str>);
    type Rows = BTreeMap<String, Row>;

    fn plan(live: bool) -> Plan {
        let predicates = ["ltv > 50", "trial_ends > now() and plan <> 'free'", "plan is null"];
        let ids = ["a", "b", "c"];
        let audiences: Vec<_> = ids.iter().zip(predicates).map(|(id, of)| (*id, "users", property(of))).collect();
        let mut job = job(&audiences);
        job.syncs.insert("crm".to_owned(), sync(&["a"], &["plan"]));
        if live {
            set_live(&mut job, "users", &["plan"]);
        }
        compile(&job, "job.yaml", &Schemas::new()).expect("a sound job")
    }

    fn users(plan: &Plan) -> usize {
        plan.models.iter().position(|model| model.id == "users").expect("users")
    }

    fn random_rows(before: &Rows, rng: &mut fastrand::Rng) -> Rows {
        let mut rows = before.clone();
        for _ in 0..rng.usize(..8) {
            let user = format!("u-{}", rng.usize(..KEYS));
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
    fn staged(plan: &Plan, number: u64, batches: &[(Rows, bool)], keys: &SharedDictionary) -> WholePull {
        let model = users(plan);
        let mut staged = Staged::new(Role::Own, model as u32, &plan.models[model]);
        keys.borrow_mut().hold();
        let reader = RowReader::new(plan, model, number, 1);
        for (rows, gone) in batches {
            let batch = batch(plan, rows, *gone);
            for mut rows in if *gone { reader.read_gone(&batch) } else { reader.read(&batch) } {
                let mut keys = keys.borrow_mut();
                let slots: Vec<Slot> =
                    (0..rows.len()).map(|row| keys.intern(rows.key(row).0, rows.key(row).1)).collect();
                assert_eq!(staged.add(&mut rows, &slots), None, "keys are unique");
            }
        }
        WholePull { pulled: model as u32, number, began: START + number, at: None, parts: vec![(model as u32, staged)] }
    }

    /// Stages a difference in random batches: the rows that are gone, and those that are new; some rows that are the same are in both.
    fn difference(
        plan: &Plan,
        number: u64,
        (before, after): (&Rows, &Rows),
        rng: &mut fastrand::Rng,
        keys: &SharedDictionary,
    ) -> (WholePull, bool) {
        let mut rewritten = |key: &String| before.get(key) != after.get(key) || rng.u8(..6) == 0;
        let touched: Vec<String> = before.keys().chain(after.keys()).filter(|key| rewritten(key)).cloned().collect();
        let of = |rows: &Rows| -> Rows {
            rows.iter().filter(|(key, _)| touched.contains(key)).map(|(key, row)| (key.clone(), *row)).collect()
        };
        let mut batches: Vec<(Rows, bool)> = Vec::new();
        for (rows, gone) in [(of(before), true), (of(after), false)] {
            for (key, row) in rows {
                batches.push((BTreeMap::from([(key, row)]), gone));
            }
        }
        rng.shuffle(&mut batches);
        let mut pull = staged(plan, number, &batches, keys);
        let once = pull.parts[0].1.end_difference();
        (pull, once)
    }

    /// All that is given out, in words.
    #[derive(Default)]
    struct Seen(Vec<String>);

    impl EpochOutput for Seen {
        fn transition(&mut self, transition: &Transition, _: Option<Recipients>, text: KeyText<'_>) {
            let Transition { time, audience, kind, reason, .. } = *transition;
            let is = if kind == ChangeKind::Entry { "in" } else { "out" };
            self.0.push(format!("{} {} {audience} {is} {reason:?} {}", time - START, text.key, text.row));
        }

        fn update(&mut self, transition: &Transition, _: Recipients, text: KeyText<'_>) {
            self.0.push(format!(
                "{} {} {} update {}",
                transition.time - START,
                text.key,
                transition.audience,
                text.row
            ));
        }

        fn correction(&mut self, _: &Transition, _: Recipients, _: KeyText<'_>) {}
        fn removal(&mut self, _: &Removed, _: Time, _: &str) {}
        fn epoch_end(&mut self, _: Time) {}
    }

    #[test]
    fn a_difference_changes_what_the_whole_snapshot_changes() {
        let (mut changes, mut fitted) = (0, 0);
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let plan = plan(seed % 2 == 1);
            let model = users(&plan);
            let new = || {
                let keys: Vec<SharedDictionary> = plan.models.iter().map(|_| SharedDictionary::default()).collect();
                let span = Span::Replay { from: Some(START), until: None };
                let mut epochs = EpochWorker::new(&plan, span, 1, &keys);
                epochs.source_progress(SourceProgress::Opened(Some(START), Vec::new()));
                (epochs, Rc::clone(&keys[model]))
            };
            let ((mut whole, keys_whole), (mut parts, keys_parts)) = (new(), new());
            let mut rows = random_rows(&random_rows(&Rows::new(), &mut rng), &mut rng);
            for (epochs, keys) in [(&mut whole, &keys_whole), (&mut parts, &keys_parts)] {
                let others =
                    (0..plan.models.len()).filter(|other| plan.models[*other].snapshot.is_some() && *other != model);
                for other in others {
                    let (pulled, parts) = (other as u32, Vec::new());
                    epochs.take(WholePull { pulled, number: 1, began: START, at: None, parts });
                }
                epochs.take(staged(&plan, 1, &[(rows.clone(), false)], keys));
            }
            let (mut seen_whole, mut seen_parts) = (Seen::default(), Seen::default());
            while whole.work(Some(START + 1), 7, &mut seen_whole) == Worked::More {}
            while parts.work(Some(START + 1), 7, &mut seen_parts) == Worked::More {}
            for number in 2..10 {
                // Moments of `now()` are at even ms, so none passes as keys are switched.
                let switch = (parts.done() + rng.u64(..4)) | 1;
                while whole.work(Some(switch), 1_000, &mut seen_whole) == Worked::More {}
                while parts.work(Some(switch), 1_000, &mut seen_parts) == Worked::More {}
                let after = random_rows(&rows, &mut rng);
                let (pull, once) = difference(&plan, number, (&rows, &after), &mut rng, &keys_parts);
                let mut fitting = Fitting::default();
                let fits = std::iter::from_fn(|| Some(fitting.step(&pull, &parts, 2))).flatten().next();
                assert_eq!((once, fits), (true, Some(true)), "seed {seed}");
                // What does not fit is found: another snapshot is in force.
                let (other, _) = difference(&plan, 99, (&after, &rows), &mut rng, &keys_parts);
                if rows.keys().ne(after.keys()) {
                    let mut fitting = Fitting::default();
                    let fits = std::iter::from_fn(|| Some(fitting.step(&other, &parts, 1_000))).flatten().next();
                    assert_eq!(fits, Some(false), "seed {seed}");
                    fitted += 1;
                }
                parts.give_up(&other);
                parts.take(pull);
                whole.take(staged(&plan, number, &[(after.clone(), false)], &keys_whole));
                while whole.work(Some(switch + 1), 1_000, &mut seen_whole) == Worked::More {}
                while parts.work(Some(switch + 1), 1_000, &mut seen_parts) == Worked::More {}
                seen_whole.0.sort();
                seen_parts.0.sort();
                assert_eq!(seen_parts.0, seen_whole.0, "seed {seed}, pull {number}");
                assert_eq!(parts.len(), whole.len(), "seed {seed}: as many keys are known");
                changes += seen_parts.0.len();
                seen_whole.0.clear();
                seen_parts.0.clear();
                rows = after;
            }
        }
        assert!(changes > 3_000 && fitted > 500, "{changes} changes, {fitted} that do not fit");
    }
}
