//! A pull that is compared with the snapshot in force changes what the whole snapshot changes.

use super::*;
use crate::ingest::known_rows::{Comparison, KnownRows, can_compare};
use crate::ingest::reader::SourceProgress;
use crate::operators::snapshots::{PullShare, Reads, Totals};
use crate::state::epoch::Worked;
use crate::state::testing::{Row, Rows, START, Seen, batch, random_rows, staged, users};
use crate::time::Span;
use arrow_array::Array;
use std::sync::mpsc::sync_channel;
use timely::scheduling::SyncActivator;
use usher_core::warehouse::{Batches, FileVersion, KeyedBatch, Snapshot, SnapshotError};
use usher_queries::testing::fixtures::*;
use usher_queries::{Schemas, compile};

const KEYS: usize = 60;
const READERS: usize = 2;

/// A snapshot in memory, by piece.
struct InMemory {
    files: Vec<FileVersion>,
    pieces: Vec<Vec<KeyedBatch>>,
}

impl InMemory {
    /// Pieces of two batches of five rows.
    fn new(plan: &Plan, rows: &[(String, Row)]) -> InMemory {
        let of = |rows: &[(String, Row)]| batch(plan, rows.iter().map(|(key, row)| (key, row)), false);
        let pieces = rows.chunks(10).map(|piece| piece.chunks(5).map(of).collect());
        let files = vec![FileVersion { path: "users.parquet".into(), size: 1, e_tag: None, modified_ms: None }];
        InMemory { files, pieces: pieces.collect() }
    }
}

impl Snapshot for InMemory {
    fn files(&self) -> &[FileVersion] {
        &self.files
    }

    fn rows(&self) -> u64 {
        self.pieces.iter().flatten().map(|batch| batch.keys.len() as u64).sum()
    }

    fn pieces(&self) -> usize {
        self.pieces.len()
    }

    fn file(&self, _: usize) -> usize {
        0
    }

    fn read(&self, piece: usize) -> Result<Batches, SnapshotError> {
        Ok(Box::new(self.pieces[piece].clone().into_iter().map(Ok)))
    }
}

/// What is sent of a row: truths, truths of more facts than a digest has bits, or truths and a text.
#[derive(Clone, Copy, PartialEq)]
enum Sent {
    Few,
    Many,
    Texts,
}

fn plan(sent: Sent) -> Plan {
    let count = if sent == Sent::Many { 70 } else { 3 };
    let ids: Vec<String> = (0..count).map(|of| format!("a{of}")).collect();
    let predicates = (0..count).map(|of| if of == 0 { "plan is null".into() } else { format!("ltv > {of}") });
    let predicates: Vec<String> = predicates.collect();
    let audiences = ids.iter().zip(&predicates).map(|(id, of)| (&id[..], "users", property(of)));
    let mut job = job(&audiences.collect::<Vec<_>>());
    if sent == Sent::Texts {
        job.syncs.insert("crm".to_owned(), sync(&["a0", "a1"], &["plan"]));
    }
    compile(&job, "job.yaml", &Schemas::new()).expect("a sound job")
}

/// A job of which pulls of users are compared with the one before.
struct Compared {
    setup: StageSetup,
    slots: BatchSlots,
    in_force: Option<(Base, Arc<KnownRows>)>,
    wake: SyncActivator,
}

impl Compared {
    /// Reads, sends and stages a pull. Returns it with the verdict, how many rows were sent, and what the next is compared with.
    fn pull(&mut self, number: u64, rows: &[(String, Row)]) -> (WholePull, Option<Base>, Outcome, Arc<KnownRows>) {
        let plan = &self.setup.plan;
        let model = users(plan);
        let comparison = Arc::new(Comparison::new(number, self.in_force.clone()));
        let totals = Arc::new(Totals::new(READERS, 1));
        let (out, sent) = sync_channel(1_000);
        let share = || PullShare {
            plan: Arc::clone(plan),
            model,
            pull: number,
            began: START + number,
            terms: PullTerms::default(),
            reads: Reads::Whole(Arc::new(InMemory::new(plan, rows))),
            comparison: Some(Arc::clone(&comparison)),
            in_force: self.in_force.as_ref().map_or(0, |(base, _)| base.pull),
            totals: Arc::clone(&totals),
            peers: 1,
            rows_per_owner: 0,
            out: out.clone(),
            wake: self.wake.clone(),
        };
        // Which of them takes which piece is not fixed.
        std::thread::scope(|threads| {
            for _ in 0..READERS {
                let share = share();
                threads.spawn(|| share.read());
            }
        });
        let mut pull = Receiving::new(&self.setup, model as u32, 0);
        for message in sent.try_iter() {
            match message {
                RowMessage::Rows(rows) => pull.rows(rows, &self.setup.dictionaries, &mut self.slots),
                RowMessage::End(end) => pull.end = Some(end),
            }
        }
        assert!(pull.is_all_there());
        let end = pull.end.take().expect("it has come");
        let EndOfPull { base, began, .. } = end;
        let outcome = pull.outcome(end, &mut self.slots);
        let pull = WholePull { pulled: model as u32, number, began, at: None, parts: pull.parts };
        (pull, base, outcome, comparison.known())
    }
}

/// Changes the rows of a snapshot, mostly leaving the keys in their places.
fn change(rows: &mut Vec<(String, Row)>, rng: &mut fastrand::Rng) {
    let before: Rows = rows.iter().cloned().collect();
    let after = random_rows(&before, KEYS, rng);
    match rng.u8(..8) {
        0 => rng.shuffle(rows),
        1 => rows.retain(|(key, _)| after.contains_key(key)),
        2 => rows.extend(after.iter().filter(|(key, _)| !before.contains_key(*key)).map(|(k, row)| (k.clone(), *row))),
        _ => {}
    }
    rows.iter_mut().for_each(|(key, row)| *row = *after.get(key).unwrap_or(row));
}

#[test]
fn what_is_compared_changes_what_the_whole_snapshot_changes() {
    timely::execute_directly(|worker| {
        let wake = worker.sync_activator_for(Vec::new());
        let (mut changes, mut differences, mut left_out, mut refused) = (0, 0, 0, 0);
        for seed in 0..150 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let plan = Arc::new(plan([Sent::Few, Sent::Many, Sent::Texts][seed as usize % 3]));
            let model = users(&plan);
            assert!(can_compare(&plan, model));
            let new = || {
                let keys: Vec<SharedDictionary> = plan.models.iter().map(|_| SharedDictionary::default()).collect();
                let span = Span::Replay { from: Some(START), until: None };
                let mut epochs = EpochWorker::new(&plan, span, 1, &keys);
                epochs.source_progress(SourceProgress::Opened(Some(START), Vec::new()));
                for other in (0..plan.models.len()).filter(|of| plan.models[*of].snapshot.is_some() && *of != model) {
                    let (pulled, parts) = (other as u32, Vec::new());
                    epochs.take(WholePull { pulled, number: 1, began: START, at: None, parts });
                }
                (Rc::new(RefCell::new(epochs)), keys)
            };
            let ((whole, keys_whole), (epochs, dictionaries)) = (new(), new());
            let setup = StageSetup { plan: Arc::clone(&plan), peers: 1, dictionaries, epochs: Rc::clone(&epochs) };
            let mut compared = Compared { setup, slots: BatchSlots::default(), in_force: None, wake: wake.clone() };
            let (mut seen_whole, mut seen) = (Seen::default(), Seen::default());
            let mut rows: Vec<(String, Row)> = Vec::new();
            while rows.len() < KEYS / 2 {
                rows = random_rows(&rows.into_iter().collect(), KEYS, &mut rng).into_iter().collect();
            }
            for number in 1..12 {
                let mut after = rows.clone();
                change(&mut after, &mut rng);
                if number > 1 && after.len().is_multiple_of(5) && rng.bool() {
                    // A batch comes twice.
                    let twice: Vec<(String, Row)> = after.iter().chain(&after[..5]).cloned().collect();
                    let (pull, _, outcome, _) = compared.pull(number, &twice);
                    let is_refused =
                        outcome.is_err() || Fitting::default().step(&pull, &epochs.borrow(), 1_000) == Some(false);
                    assert!(is_refused, "seed {seed}, pull {number}");
                    epochs.borrow_mut().give_up(&pull);
                    refused += 1;
                    continue;
                }
                let (pull, base, outcome, known) = compared.pull(number, &after);
                let outcome = outcome.unwrap_or_else(|error| panic!("seed {seed}, pull {number}: {error:?}"));
                let count = after.len() as u64;
                let RowsPulled { rows: counted, read, sent, skipped } = outcome;
                assert_eq!((counted, read, skipped), (count, count, 0), "seed {seed}, pull {number}");
                let until = START + 2 * number;
                if let Some(base) = base {
                    assert_eq!(Some(base), compared.in_force.as_ref().map(|(base, _)| *base));
                    let fits = Fitting::default().step(&pull, &epochs.borrow(), 1_000);
                    assert_eq!(fits, Some(true), "seed {seed}, pull {number}");
                    differences += 1;
                    left_out += count - sent;
                }
                if number > 1 && rng.u8(..4) == 0 {
                    // Another worker refuses it.
                    epochs.borrow_mut().give_up(&pull);
                    continue;
                }
                rows = after;
                let of_whole = (rows.iter().cloned().collect(), false);
                let pull_whole = staged(&plan, number, &[of_whole], &keys_whole[model]);
                for (epochs, pull, seen) in [(&whole, pull_whole, &mut seen_whole), (&epochs, pull, &mut seen)] {
                    let mut epochs = epochs.borrow_mut();
                    epochs.take(pull);
                    while epochs.work(Some(until), 1_000, seen) == Worked::More {}
                    seen.0.sort();
                }
                assert_eq!(seen.0, seen_whole.0, "seed {seed}, pull {number}");
                assert_eq!(epochs.borrow().len(), whole.borrow().len(), "seed {seed}: as many keys are known");
                changes += seen.0.len();
                seen.0.clear();
                seen_whole.0.clear();
                compared.in_force = Some((Base { pull: number, rows: count }, known));
            }
        }
        assert!(
            changes > 10_000 && differences > 600 && left_out > 10_000 && refused > 50,
            "{changes} changes, {differences} differences, {left_out} rows left out, {refused} refused"
        );
    });
}
