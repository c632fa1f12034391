//! Rows against the slow way: of each live column all that ever happened is looked through again.

use super::*;
use crate::state::transition::ROW;
use std::collections::{BTreeMap, BTreeSet};
use usher_queries::plan::Plan;
use usher_queries::testing::fixtures::*;
use usher_queries::{Schemas, compile};

const KEY: Slot = 0;
const PREDICATES: [&str; 5] =
    ["plan = 'pro'", "plan is null", "ltv > 5", "trial_ends > now()", "trial_ends < now() and plan = 'free'"];

fn plan(members: Members) -> Plan {
    let ids = ["a", "b", "c", "d", "e"];
    let audiences: Vec<_> = ids.iter().zip(PREDICATES).map(|(id, of)| (*id, "users", property(of))).collect();
    let mut job = job(&audiences);
    job.syncs.insert("crm".to_owned(), sync(&["a"], &["plan", "ltv"]));
    job.models.get_mut("users").expect("users").members = members;
    set_live(&mut job, "users", &["plan", "trial_ends"]);
    compile(&job, "job.yaml", &Schemas::new()).expect("a sound job")
}

/// An event that sets a live column.
#[derive(Clone, Debug)]
struct Event {
    timestamp: Time,
    arrival: Arrival,
    live: u32,
    value: StoredValue,
    dropped: bool,
}

/// A pull that has been switched to: when it began, and the key's row.
type Pull = (Time, Option<Vec<StoredValue>>);

/// All that has happened.
#[derive(Default)]
struct Past {
    events: Vec<Event>,
    pulls: Vec<Pull>,
}

impl Past {
    /// When the first of the last pulls began that have the value of a column which the last one has.
    fn dated(&self, column: usize) -> Option<Time> {
        let value = &self.pulls.last()?.1.as_ref()?[column];
        let same = |(_, row): &&Pull| row.as_ref().is_some_and(|row| row[column] == *value);
        self.pulls.iter().rev().take_while(same).last().map(|(began, _)| *began)
    }

    /// Drops what is older than the row, or, of a key without one where only keys with a row count, than the last pull.
    fn drop_older(&mut self, live: &[usize], any: bool) {
        let last = self.pulls.last().map(|(began, row)| (*began, row.is_some()));
        let oldest: Vec<Time> = live
            .iter()
            .map(|column| match last {
                Some((_, true)) => self.dated(*column).expect("there is a row"),
                Some((began, false)) if !any => began,
                _ => 0,
            })
            .collect();
        self.events.iter_mut().for_each(|event| event.dropped |= event.timestamp < oldest[event.live as usize]);
    }

    fn row(&self, live: &[usize], columns: usize, any: bool) -> Option<Vec<StoredValue>> {
        let last = |index: usize| {
            let of = self.events.iter().filter(|event| event.live as usize == index && !event.dropped);
            of.max_by_key(|event| (event.timestamp, event.arrival))
        };
        let snapshot = self.pulls.last().and_then(|(_, row)| row.clone());
        let has_row = snapshot.is_some();
        let exists = has_row || any && (0..live.len()).any(|index| last(index).is_some());
        let mut row = exists.then(|| snapshot.unwrap_or_else(|| vec![StoredValue::Null; columns]))?;
        for (index, column) in live.iter().enumerate() {
            if let Some(event) = last(index) {
                row[*column] = event.value.clone();
            }
        }
        Some(row)
    }
}

#[test]
fn a_row_has_of_each_live_column_the_newer_value_at_every_ms() {
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let any = rng.bool();
        let plan = plan(if any { Members::Any } else { Members::Known });
        let model = plan.models.iter().find(|model| model.id == "users").expect("users");
        let rows = model.rows.as_ref().expect("users have live columns");
        let live: Vec<usize> = rows.live.iter().map(|live| live.column as usize).collect();
        let mut state = RowState::new(0, model).expect("rows are kept");
        let mut properties = PropertyState::new(model);
        properties.note_changed_rows();
        let mut past = Past::default();
        let mut truths: BTreeMap<u32, bool> = BTreeMap::new();
        let mut now: Time = 100;
        let value = |rng: &mut fastrand::Rng, column: &str| match (column, rng.u8(0..4)) {
            (_, 0) => StoredValue::Null,
            ("plan", 1) => StoredValue::String("pro".into()),
            ("plan", _) => StoredValue::String("free".into()),
            ("trial_ends", _) => StoredValue::Timestamp(100 + rng.i64(0..120)),
            _ => StoredValue::Number((rng.u8(0..10) as f64).to_bits()),
        };
        for _ in 0..20 {
            let mut flips = Vec::new();
            // What is true of the row from a time on: (time, row).
            let mut versions = vec![(now, past.row(&live, rows.columns.len(), any))];
            let from = now;
            for _ in 0..rng.u8(0..4) {
                now += rng.u64(0..4);
                let timestamp = if rng.bool() { now } else { now.saturating_sub(rng.u64(0..30)) };
                let index = rng.usize(0..live.len());
                let value = value(&mut rng, &rows.columns[live[index]].0);
                let arrival = Arrival::new(rng.u32(0..3), past.events.len() as u64);
                let event = Event { timestamp, arrival, live: index as u32, value: value.clone(), dropped: false };
                let id = past.events.len() as u64;
                past.events.push(event);
                past.drop_older(&live, any);
                let to = (&mut properties, &mut flips);
                state.apply(KEY, (now, timestamp), (arrival, id), [(index as u32, &value)].into_iter(), to);
                let row = past.row(&live, rows.columns.len(), any);
                if value == StoredValue::Null && versions.last().is_some_and(|(_, last)| *last != row) {
                    *seen.entry("a null that an event sets").or_default() += 1;
                }
                versions.push((now, row));
            }
            now += rng.u64(0..10);
            while properties.fire(now, false, &mut flips) {}
            if rng.u8(0..3) == 0 {
                let began = now - rng.u64(0..20).min(now - past.pulls.last().map_or(0, |(began, _)| *began));
                let same = past.pulls.last().filter(|_| rng.bool()).map(|(_, row)| row.clone());
                let new = |rng: &mut fastrand::Rng| {
                    (rng.u8(0..5) > 0)
                        .then(|| rows.columns.iter().map(|(name, _)| value(rng, name)).collect::<Vec<_>>())
                };
                let row = same.unwrap_or_else(|| new(&mut rng));
                let before = past.row(&live, rows.columns.len(), any);
                let set = past.events.iter().any(|event| !event.dropped);
                past.pulls.push((began, row.clone()));
                past.drop_older(&live, any);
                // A row that is held is switched at the end of its epoch, though the pull is in force from before.
                let in_force = if state.rows.contains_key(&KEY) { now - rng.u64(0..=now - from) } else { now };
                let to = (&mut properties, &mut flips);
                state.switch(KEY, row.as_deref(), began, (in_force, now), to);
                state.set_pulled(began);
                let after = past.row(&live, rows.columns.len(), any);
                let reach = match (before == after, past.events.iter().any(|event| !event.dropped)) {
                    (false, false) if set => "a pull after an event, whose value counts",
                    (_, true) => "a pull after an event, whose value does not count",
                    _ => "a pull without events",
                };
                *seen.entry(reach).or_default() += 1;
                versions.push((now, after));
            }
            // Every ms of the epoch, by what was flipped, against the row that was in force at its end.
            flips.retain(|flip| flip.fact != ROW);
            flips.sort_by_key(|flip| flip.time);
            for time in from..=now {
                for flip in flips.iter().filter(|flip| flip.time == time) {
                    let before = truths.insert(flip.fact, flip.truth).unwrap_or(false);
                    assert_ne!(before, flip.truth, "seed {seed}: {flip:?} flips nothing");
                }
                let (_, row) = versions.iter().rfind(|(at, _)| *at <= time).expect("the first is of the start");
                let row: Option<Vec<&StoredValue>> = row.as_ref().map(|row| row.iter().collect());
                assert_eq!(truths.get(&0).copied().unwrap_or(false), row.is_some(), "seed {seed} at {time}");
                for fact in &state.facts {
                    let want = fact.holds(row.as_deref(), time);
                    let found = truths.get(&fact.fact).copied().unwrap_or(false);
                    assert_eq!(found, want, "seed {seed} at {time}: {:?}", model.facts[fact.fact as usize].text);
                }
                let want = super::text(&state.include, row.as_deref());
                assert_eq!(properties.row_at(KEY, time), &*want, "seed {seed} at {time}");
            }
            let moments: BTreeSet<&str> =
                flips.iter().filter(|flip| flip.cause == Cause::Expiry).map(|_| "a moment of now()").collect();
            moments.into_iter().for_each(|what| *seen.entry(what).or_default() += 1);
            properties.end_epoch();
            now += 1;
        }
    }
    for what in [
        "a null that an event sets",
        "a pull after an event, whose value counts",
        "a pull after an event, whose value does not count",
        "a moment of now()",
    ] {
        assert!(seen.get(what).copied().unwrap_or(0) > 50, "{what}: {seen:?}");
    }
}

#[test]
fn a_repeat_sets_nothing_and_may_move_the_arrival_of_what_it_repeats() {
    let plan = plan(Members::Known);
    let model = plan.models.iter().find(|model| model.id == "users").expect("users");
    let mut state = RowState::new(0, model).expect("rows are kept");
    let (mut properties, mut flips) = (PropertyState::new(model), Vec::new());
    let row = vec![StoredValue::Null; state.columns.len()];
    state.switch(KEY, Some(&row), 1, (1, 1), (&mut properties, &mut flips));
    let (pro, free) = (StoredValue::String("pro".into()), StoredValue::String("free".into()));
    let mut set = |id, rank, timestamp, value: &StoredValue| {
        let to = (&mut properties, &mut flips);
        let repeats = state.apply(KEY, (9, timestamp), (Arrival::new(rank, id), id), [(0, value)].into_iter(), to);
        (repeats, state.live_values(KEY)[0].value.clone())
    };
    assert_eq!(set(1, 1, 5, &pro), (false, "pro".into()));
    assert_eq!(set(2, 2, 5, &free), (false, "free".into()), "the last arrival of the ms");
    assert_eq!(set(2, 0, 7, &free), (true, "pro".into()), "a copy of it arrives before the other");
    assert_eq!(set(3, 3, 4, &free), (false, "pro".into()), "it is older");
    assert_eq!(set(4, 3, 6, &free), (false, "free".into()), "it is newer");
    assert_eq!(set(1, 1, 8, &pro), (false, "pro".into()), "no longer held, so no repeat");
}
