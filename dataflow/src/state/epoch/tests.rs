//! Where an epoch ends, and what a start awaits.

use super::super::dictionary::SharedDictionary;
use super::super::testing::{Rows, START, staged, users};
use super::super::transition::{EpochOutput, KeyText, Removed, Transition};
use super::*;
use crate::ingest::event_batch::EventHead;
use crate::time::FUEL;
use usher_core::change::{ChangeKind, Reason, Recipients};
use usher_queries::testing::fixtures::*;
use usher_queries::{Schemas, compile};

const WITHIN: Time = 60_000;

/// The ends of epochs, and the exits of each; when users entered.
#[derive(Default)]
struct Epochs {
    ended: Vec<(Time, usize)>,
    exits: usize,
    users: Vec<Time>,
}

impl EpochOutput for Epochs {
    fn transition(&mut self, transition: &Transition, _: Option<Recipients>, _: KeyText<'_>) {
        self.exits += usize::from(transition.kind == ChangeKind::Exit);
        self.users.extend((transition.reason == Reason::Snapshot).then_some(transition.time));
    }
    fn correction(&mut self, _: &Transition, _: Recipients, _: KeyText<'_>) {}
    fn update(&mut self, _: &Transition, _: Recipients, _: KeyText<'_>) {}
    fn removal(&mut self, _: &Removed, _: Time, _: &str) {}
    fn epoch_end(&mut self, until: Time) {
        self.ended.push((until, std::mem::take(&mut self.exits)));
    }
}

/// Visitors who have visited in a while, and rich users.
fn plan() -> Plan {
    let here = ("here", "visitors", performed("visited", at_least(1), WITHIN as i64));
    let job = job(&[here, ("rich", "users", property("ltv > 50"))]);
    compile(&job, "job.yaml", &Schemas::new()).expect("a sound job")
}

/// Returns a worker without keys, and its users' dictionary.
fn started(plan: &Plan) -> (EpochWorker, SharedDictionary) {
    let keys: Vec<SharedDictionary> = plan.models.iter().map(|_| SharedDictionary::default()).collect();
    let mut epochs = EpochWorker::new(plan, Span::Replay { from: Some(START), until: None }, 1, &keys);
    epochs.source_progress(SourceProgress::Opened(Some(START), Vec::new()));
    for model in (0..plan.models.len()).filter(|model| plan.models[*model].snapshot.is_some()) {
        epochs.take(WholePull { pulled: model as u32, number: 1, began: START, at: None, parts: Vec::new() });
    }
    (epochs, keys[users(plan)].clone())
}

/// Returns a visit of a key of its own at each of these times.
fn visits(plan: &Plan, times: impl IntoIterator<Item = Time>) -> EventBatch {
    let of_visitors = |event: &EventPlan| plan.models[event.model as usize].id == "visitors" && !event.facts.is_empty();
    let event = plan.events.iter().position(of_visitors).expect("visits count");
    let mut batch = EventBatch::new(0, 0);
    for (number, at) in times.into_iter().enumerate() {
        let key = format!("key-{number}");
        let (position, id) = (number as u64, number as u64 + 1);
        let head = EventHead { at, timestamp: at, position, id, key_hash: hash_key(&key), event: event as u16 };
        batch.push(&head, &key, &[1], &[]);
    }
    batch
}

#[test]
fn a_clock_that_moves_far_ends_few_windows_an_epoch() {
    let plan = plan();
    let (mut epochs, _) = started(&plan);
    // Three keys a ms, and then more in one ms than an epoch fires timers.
    let (few, many) = (3 * FUEL, FUEL + 5);
    let last = START + few as Time / 3;
    epochs.receive(visits(&plan, (0..few + many).map(|number| (START + number as Time / 3).min(last))));
    let mut out = Epochs::default();
    for frontier in [last + 1, last + 2 * WITHIN] {
        while epochs.work(Some(frontier), FUEL, &mut out) == Worked::More {}
    }
    assert_eq!(out.ended.iter().map(|(_, exits)| exits).sum::<usize>(), few + many);
    assert_eq!(out.ended.last().map(|(until, _)| *until), Some(last + 2 * WITHIN));
    let over: Vec<_> = out.ended.windows(2).filter(|two| two[1].1 > FUEL).map(|two| two[1].0 - two[0].0).collect();
    assert_eq!(over, [1], "only the ms at which more windows end");
}

#[test]
fn an_agreed_pull_is_switched_to_at_its_ms_whatever_events_wait() {
    let plan = plan();
    let (mut epochs, keys) = started(&plan);
    let end = START + 10_000;
    epochs.receive(visits(&plan, START..end));
    let mut out = Epochs::default();
    // All events are ready; an epoch takes some of them.
    while out.ended.len() < 3 {
        epochs.work(Some(end), 500, &mut out);
    }
    while !epochs.is_between() {
        epochs.work(Some(end), 1, &mut out);
    }
    let rows: Rows = (0..10).map(|n| (format!("u-{n}"), (Some(90), 0, None))).collect();
    let at = epochs.done();
    assert!(at < end - 500, "events wait");
    epochs.whole.push_back(WholePull { at: Some(at), ..staged(&plan, 2, &[(rows, false)], &keys) });
    while epochs.work(Some(end), 500, &mut out) == Worked::More {}
    assert_eq!(out.users, [at; 10]);
}

#[test]
fn the_more_facts_a_pull_decides_the_fewer_keys_are_switched_for_a_unit() {
    assert_eq!([0, 7, 8, 24, 56, 1_000].map(unchanged_per_fuel), [16, 16, 8, 4, 2, 1]);
}

#[test]
fn a_start_awaits_a_pull_that_is_due_until_it_is_whole_or_given_up() {
    let plan = plan();
    let models: Vec<bool> = (0..plan.models.len()).map(|model| model == users(&plan)).collect();
    // Whether the pull ends before it is known what an earlier run left, and whether it is given up.
    for (is_early, fails) in [(false, false), (false, true), (true, false), (true, true)] {
        let keys: Vec<SharedDictionary> = plan.models.iter().map(|_| SharedDictionary::default()).collect();
        let mut epochs = EpochWorker::new(&plan, Span::Live, 1, &keys);
        let end = |epochs: &mut EpochWorker| {
            let pull = WholePull { pulled: users(&plan) as u32, number: 1, began: START, at: None, parts: Vec::new() };
            if fails { epochs.give_up(&pull) } else { epochs.take(pull) }
        };
        if is_early {
            end(&mut epochs);
        }
        let baseline = |model: &ModelPlan| Baseline {
            live: true,
            syncs: Vec::new(),
            new_definitions: vec![false; model.audiences.len()],
        };
        let baselines = plan.models.iter().map(baseline).collect();
        let restored = Restored { baselines, pulled: models.clone(), due: models.clone(), fact_since: Vec::new() };
        epochs.prepare(restored, START, START);
        epochs.begin();
        epochs.source_progress(SourceProgress::Opened(Some(START), Vec::new()));
        let work = |epochs: &mut EpochWorker| {
            while epochs.work(Some(START + 1_000), FUEL, &mut Epochs::default()) == Worked::More {}
        };
        work(&mut epochs);
        assert_eq!(epochs.is_started(), is_early, "{is_early} {fails}");
        if !is_early {
            end(&mut epochs);
            work(&mut epochs);
        }
        assert!(epochs.is_started(), "{is_early} {fails}");
    }
}

#[test]
fn a_job_that_is_stopped_while_its_start_awaits_a_pull_is_done() {
    let plan = plan();
    let due: Vec<bool> = (0..plan.models.len()).map(|model| model == users(&plan)).collect();
    let keys: Vec<SharedDictionary> = plan.models.iter().map(|_| SharedDictionary::default()).collect();
    let mut epochs = EpochWorker::new(&plan, Span::Live, 1, &keys);
    let baselines = plan.models.iter().map(|_| Baseline::default()).collect();
    epochs.prepare(Restored { baselines, pulled: due.clone(), due, fact_since: Vec::new() }, START, START);
    epochs.begin();
    epochs.source_progress(SourceProgress::Opened(Some(START), Vec::new()));
    while epochs.work(Some(START + 1_000), FUEL, &mut Epochs::default()) == Worked::More {}
    epochs.source_progress(SourceProgress::Ended(Some(START + 2_000)));
    assert_eq!(epochs.work(None, FUEL, &mut Epochs::default()), Worked::Finished);
}
