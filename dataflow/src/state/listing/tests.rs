//! What checkpoints of changes add up to is held to what is known of all keys.

use super::super::codec::KeyState;
use super::super::dictionary::SharedDictionary;
use super::super::epoch::{EpochWorker, WholePull, Worked};
use super::super::part::{ModelKeys, decode_part};
use super::super::testing::{Rows, START, random_rows, staged, users};
use super::super::transition::{EpochOutput, KeyText, Removed, Transition};
use super::*;
use crate::ingest::event_batch::{EventBatch, EventHead, hash_key};
use crate::ingest::reader::SourceProgress;
use crate::time::{Span, Time};
use std::collections::{BTreeMap, BTreeSet};
use usher_config::Aggregate;
use usher_core::change::Recipients;
use usher_queries::plan::{FactKind, Plan};
use usher_queries::testing::fixtures::*;
use usher_queries::{Schemas, StoredValue, compile};

const KEYS: usize = 40;

/// Facts of all kinds that a checkpoint has something of.
fn plan(live: bool) -> Plan {
    let trial = property("trial_ends > now() and plan <> 'free'");
    let spends = performed_of("ordered", Aggregate::Sum("revenue".into()), between(-50, 400), 30);
    let steps = [step("priced", None, None), step("ordered", None, Some(12))];
    let mut job = job(&[
        ("rich", "users", property("ltv > 50")),
        ("trial", "users", trial),
        ("looks", "users", performed("priced", at_least(2), 20)),
        ("looks_often", "users", performed("priced", at_least(4), 22)),
        ("spends", "users", spends),
        ("goes_on", "users", sequence(steps, &[], 25)),
        ("here", "visitors", performed("visited", at_least(1), 15)),
    ]);
    job.syncs.insert("crm".to_owned(), sync(&["rich"], &["plan"]));
    if live {
        set_live(&mut job, "users", &["plan"]);
    }
    compile(&job, "job.yaml", &Schemas::new()).expect("a sound job")
}

/// Takes nothing.
struct Ignored;

impl EpochOutput for Ignored {
    fn transition(&mut self, _: &Transition, _: Option<Recipients>, _: KeyText<'_>) {}
    fn correction(&mut self, _: &Transition, _: Recipients, _: KeyText<'_>) {}
    fn update(&mut self, _: &Transition, _: Recipients, _: KeyText<'_>) {}
    fn removal(&mut self, _: &Removed, _: Time, _: &str) {}
    fn epoch_end(&mut self, _: Time) {}
}

/// Random events that take effect from `now` on, some of them late.
fn events(plan: &Plan, now: Time, next: &mut u64, rng: &mut fastrand::Rng) -> EventBatch {
    let mut batch = EventBatch::new(0, 0);
    for _ in 0..rng.usize(..12) {
        let event = rng.usize(..plan.events.len());
        let of = &plan.events[event];
        *next += 1;
        let at = now + rng.u64(..3);
        let key = format!("u-{}", rng.usize(..KEYS));
        let head = EventHead {
            at,
            timestamp: at - rng.u64(..8),
            position: *next,
            id: if rng.u8(..6) == 0 { 1 } else { *next },
            key_hash: hash_key(&key),
            event: event as u16,
        };
        let values: Vec<i128> = of.columns.iter().map(|_| i128::from(rng.i8(..)) * 1_000_000_000).collect();
        let facts: Vec<u64> = of.facts.chunks(64).map(|facts| u64::MAX >> (64 - facts.len())).collect();
        batch.push(&head, &key, &facts, &values);
        let plan = ["free", "pro"][rng.usize(..2)];
        let mut set: Vec<_> = of.traits.iter().map(|_| Some(StoredValue::String(plan.into()))).collect();
        batch.push_traits(&head, &key, &mut set);
    }
    batch
}

/// What is written of a key, by model and key.
type Known = BTreeMap<(usize, String), KeyState>;

/// A checkpoint's parts.
type Parts = Vec<Vec<ModelKeys>>;

/// Writes a listing whole.
fn write(epochs: &EpochWorker, listing: &Listing) -> Parts {
    let parts = (0..listing.parts()).filter_map(|part| epochs.part(listing, part));
    let mut parts: Parts = parts.map(|bytes| decode_part(&bytes).expect("it was just written")).collect();
    for (model, keys) in parts.iter_mut().flat_map(|part| part.iter_mut().enumerate()) {
        let of = epochs.model(model);
        let is_kept = |fact| (fact as usize) < of.facts && of.is_kept_as_truth(fact);
        keys.keys.iter_mut().for_each(|state| state.retain_truths(is_kept));
    }
    parts
}

/// Returns what a start takes up of these checkpoints, from the first to the last.
fn taken_up(checkpoints: &[Parts]) -> Known {
    let mut known = Known::new();
    let mut newer: BTreeSet<(usize, String)> = BTreeSet::new();
    for parts in checkpoints.iter().rev() {
        let mut here = BTreeSet::new();
        for (model, keys) in parts.iter().flat_map(|part| part.iter().enumerate()) {
            for state in &keys.keys {
                assert!(here.insert((model, state.key.clone())), "a checkpoint names `{}` once", state.key);
                if !newer.contains(&(model, state.key.clone())) {
                    known.insert((model, state.key.clone()), state.clone());
                }
            }
            for key in &keys.forgotten {
                assert!(here.insert((model, key.clone())), "a checkpoint names `{key}` once");
            }
        }
        newer.extend(here);
    }
    known
}

/// Returns all that is known now.
fn all(epochs: &EpochWorker, plan: &Plan) -> Known {
    let models = (0..plan.models.len()).map(|model| {
        let keys = epochs.model(model).keys().borrow();
        ListedModel::new(keys.hashes().collect::<Vec<_>>().into_iter(), Vec::new())
    });
    taken_up(&[write(epochs, &Listing::new(models.collect(), false))])
}

#[test]
fn checkpoints_of_what_changed_add_up_to_all_that_is_known() {
    let (mut forgotten, mut compared, mut passed_over) = (0, 0, 0);
    for seed in 0..150 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let plan = plan(seed % 2 == 1);
        let model = users(&plan);
        let keys: Vec<SharedDictionary> = plan.models.iter().map(|_| SharedDictionary::default()).collect();
        let mut epochs = EpochWorker::new(&plan, Span::Replay { from: Some(START), until: None }, 1, &keys);
        epochs.source_progress(SourceProgress::Opened(Some(START), Vec::new()));
        for other in (0..plan.models.len()).filter(|other| plan.models[*other].snapshot.is_some() && *other != model) {
            epochs.take(WholePull { pulled: other as u32, number: 1, began: START, at: None, parts: Vec::new() });
        }
        let mut rows = random_rows(&Rows::new(), KEYS, &mut rng);
        epochs.take(staged(&plan, 1, &[(rows.clone(), false)], &keys[model]));
        let (mut now, mut next, mut pull) = (START + 1, 1, 1);
        // Time goes on by some ms, with events and now and then a pull.
        let mut go_on = |epochs: &mut EpochWorker, rng: &mut fastrand::Rng| {
            epochs.receive(events(&plan, now, &mut next, rng));
            if rng.u8(..6) == 0 {
                pull += 1;
                rows = random_rows(&rows, KEYS, rng);
                epochs.take(staged(&plan, pull, &[(rows.clone(), false)], &keys[model]));
            }
            now += rng.u64(1..8);
            // A checkpoint during which pulls are switched to does not count: they are switched to whole.
            while epochs.work(Some(now), rng.usize(1..500), &mut Ignored) == Worked::More || epochs.steady().is_none() {
                now += 1;
            }
            epochs.release_slots(now - 1);
        };
        let mut checkpoints: Vec<Parts> = Vec::new();
        let mut last = None;
        for number in 1..60 {
            for _ in 0..rng.usize(..4) {
                go_on(&mut epochs, &mut rng);
            }
            let listing = epochs.list(number, last);
            if last.is_none() {
                checkpoints.clear();
            }
            if rng.u8(..3) == 0 {
                // While it is written, keys change: it may have them as they were or as they are.
                let mut parts = write(&epochs, &listing);
                go_on(&mut epochs, &mut rng);
                if rng.bool() {
                    parts = write(&epochs, &listing);
                }
                if rng.bool() {
                    checkpoints.push(parts);
                    last = Some(number);
                }
                continue;
            }
            let parts = write(&epochs, &listing);
            forgotten += parts.iter().flatten().map(|keys| keys.forgotten.len()).sum::<usize>();
            checkpoints.push(parts);
            let known = all(&epochs, &plan);
            let mut taken_up = taken_up(&checkpoints);
            // What has left its window without turning anything is passed over at a start.
            let within = |model: usize, fact: u32| match plan.models[model].facts[fact as usize].kind {
                FactKind::Performed { within, .. } => within,
                _ => Time::MAX,
            };
            for ((model, _), state) in &mut taken_up {
                passed_over +=
                    state.retain_events(|fact, event| epochs.done() <= event.timestamp + within(*model, fact));
            }
            let differ = |key: &(usize, String)| taken_up.get(key) != known.get(key);
            if let Some(key) = taken_up.keys().chain(known.keys()).find(|key| differ(key)) {
                let (was, is) = (taken_up.get(key), known.get(key));
                panic!("seed {seed}, checkpoint {number}: {key:?} is taken up as {was:?}, it is {is:?}");
            }
            compared += known.len();
            last = Some(number);
            if rng.u8(..12) == 0 {
                last = None;
            }
        }
    }
    assert!(forgotten > 1_000 && compared > 100_000, "{forgotten} forgotten, {compared} compared: both are reached");
    assert!(passed_over > 20, "{passed_over} events that have left are in older parts");
}

/// A model with so many keys in each of these shards, and as many that were forgotten.
fn model(keys: &[(usize, usize)]) -> ListedModel {
    let hashes: Vec<u64> =
        keys.iter().flat_map(|(shard, keys)| (0..*keys as u64).map(|key| (*shard as u64) << 56 | key)).collect();
    let slots: Vec<(Slot, u64)> = hashes.iter().enumerate().map(|(slot, hash)| (slot as Slot, *hash)).collect();
    let gone = hashes.iter().map(|hash| (*hash, hash.to_string().into())).collect();
    ListedModel::new(slots.into_iter().rev(), gone)
}

#[test]
fn each_key_is_in_one_part() {
    let cases: [&[(usize, usize)]; 5] = [
        &[],
        &[(7, 1)],
        &[(0, 3_000), (1, 3_000), (255, 1)],
        &[(3, 40_000), (4, 1), (200, 4_096)],
        &[(0, PART_KEYS / 4), (1, PART_KEYS / 4), (2, 1)],
    ];
    for keys in cases {
        let listing = Listing::new(vec![model(keys), model(&[]), model(keys)], true);
        let mut slots = vec![Vec::new(); 3];
        let mut gone = 0;
        for part in &listing.parts {
            let before = (slots.iter().map(Vec::len).sum::<usize>(), gone);
            for (model, slots) in listing.models.iter().zip(&mut slots) {
                let (of, forgotten) = model.ranges(&part.shards);
                slots.extend(&model.slots[part.of(&of)]);
                let forgotten = &model.gone[part.of(&forgotten)];
                assert!(forgotten.iter().all(|(hash, _)| part.shards.contains(&shard_of(*hash))));
                gone += forgotten.len();
            }
            let after = slots.iter().map(Vec::len).sum::<usize>() + gone;
            let in_part = after - before.0 - before.1;
            assert!((1..=PART_KEYS + 4).contains(&in_part), "{in_part} keys in a part of {keys:?}");
        }
        let total: usize = keys.iter().map(|(_, keys)| keys).sum();
        slots.iter_mut().for_each(|slots| slots.sort_unstable());
        let all: Vec<Slot> = (0..total as Slot).collect();
        assert_eq!((&slots[0], slots[1].len(), &slots[2], gone), (&all, 0, &all, 2 * total), "{keys:?}");
    }
}

#[test]
fn few_keys_are_one_part() {
    let listing = Listing::new(vec![model(&[(0, 5), (17, 3), (255, 9)])], false);
    assert_eq!((listing.parts(), listing.shards(0)), (1, 0..=255));
}
