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
    use super::super::testing::{Rows, START, Seen, random_rows, staged, users};
    use super::*;
    use crate::ingest::reader::SourceProgress;
    use crate::time::Span;
    use std::collections::BTreeMap;
    use std::rc::Rc;
    use usher_queries::plan::Plan;
    use usher_queries::testing::fixtures::*;
    use usher_queries::{Schemas, compile};

    const KEYS: usize = 24;

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
            let mut rows = random_rows(&random_rows(&Rows::new(), KEYS, &mut rng), KEYS, &mut rng);
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
                let after = random_rows(&rows, KEYS, &mut rng);
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
                let gone = (rows.clone(), true);
                let mut twice = staged(&plan, 98, &[gone.clone(), gone], &keys_parts);
                assert_eq!(twice.parts[0].1.end_difference(), rows.is_empty(), "seed {seed}: a row is removed twice");
                parts.give_up(&twice);
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
