//! The samples are sound, and reach what they are for.

use super::*;
use crate::oracle::{Change, Reason, changes, members_of_replay};
use crate::plan::FactKind;
use crate::{Schemas, compile, explain, plan_file};
use std::collections::BTreeSet;
use usher_config::Aggregate;

const SEEDS: std::ops::Range<u64> = 0..300;

fn plan_of(sample: &Sample) -> Plan {
    let folder = std::path::Path::new(".");
    let job = usher_config::parse(&sample.job, "job.yaml", folder, &|_| None);
    let plan = job.and_then(|job| compile(&job, "job.yaml", &Schemas::new()));
    plan.unwrap_or_else(|problems| panic!("seed {}: {problems}\n{}", sample.seed, sample.job))
}

#[test]
fn a_seed_makes_one_sample() {
    for seed in SEEDS {
        assert_eq!(Sample::new(seed), Sample::new(seed), "seed {seed}");
    }
}

#[test]
fn changes_alternate_and_add_up_to_the_members() {
    for seed in SEEDS {
        let sample = Sample::new(seed);
        let plan = plan_of(&sample);
        let history = sample.history(&plan);
        let changes = changes(&plan, &history, sample.flags);
        let mut held: BTreeSet<(String, String)> = BTreeSet::new();
        for (ix, Change { at, audience, key, entry, .. }) in changes.iter().enumerate() {
            let member = (audience.clone(), key.clone());
            let alternates = if *entry { held.insert(member) } else { held.remove(&member) };
            assert!(alternates, "seed {seed}: {audience} {key} at {at}");
            if changes.get(ix + 1).is_none_or(|next| next.at != *at) {
                let there = members_of_replay(&plan, &history, sample.flags, *at);
                assert_eq!(held, there, "seed {seed}, at {at}, {:?}", sample.flags);
            }
        }
    }
}

#[test]
fn plans_of_samples_survive_their_file_and_explain_themselves() {
    for seed in SEEDS {
        let plan = plan_of(&Sample::new(seed));
        let read = plan_file::decode(&plan_file::encode(&plan)).expect("what was just written");
        let text = explain::explain(&plan, None).expect("the whole plan");
        assert_eq!(explain::explain(&read, None), Ok(text), "seed {seed}");
        for audience in plan.job.audiences.keys() {
            assert!(explain::explain(&plan, Some(audience)).is_ok(), "seed {seed}");
        }
    }
}

#[test]
fn samples_reach_what_is_hard() {
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    let mut saw = |what, times: usize| *seen.entry(what).or_default() += times as u32;
    for seed in SEEDS {
        let sample = Sample::new(seed);
        let plan = plan_of(&sample);
        let history = sample.history(&plan);
        let changes = changes(&plan, &history, sample.flags);
        for reason in [Reason::Event, Reason::Expiry, Reason::Snapshot, Reason::Trait] {
            let what = match reason {
                Reason::Event => "changes by an event",
                Reason::Expiry => "changes by expiry",
                Reason::Snapshot => "changes by the snapshot",
                Reason::Trait => "changes by a trait",
            };
            saw(what, changes.iter().filter(|change| change.reason == reason).count());
        }
        for flip in crate::oracle::fact_flips(&plan, &history, sample.flags.now) {
            if let FactKind::Sequence { without, .. } = flip.kind {
                match (without.is_empty(), flip.truth, flip.reason) {
                    (true, true, Reason::Event) => saw("sequences that an event completes", 1),
                    (false, true, Reason::Event) => saw("sequences with exclusions that an event completes", 1),
                    (false, false, Reason::Event) => saw("sequences that a late excluded event breaks", 1),
                    (_, false, Reason::Expiry) => saw("sequences that age out", 1),
                    _ => {}
                }
            }
            if let FactKind::Property(predicate) = flip.kind
                && let Some(steps) = predicate.of_parents.iter().map(|of| of.models.len()).max()
            {
                let by_trait = flip.reason == Reason::Trait;
                let steps = if steps > 1 { "several steps" } else { "one step" };
                match (steps, by_trait) {
                    ("one step", true) => saw("columns of a parent over one step that a live column changes", 1),
                    (_, true) => saw("columns of a parent over several steps that a live column changes", 1),
                    (_, false) => saw("columns of a parent that `now()` meets", 1),
                }
            }
            if let FactKind::Tallied { windowed, .. } = flip.kind {
                let moved = matches!(flip.reason, Reason::Trait | Reason::Snapshot);
                saw("aggregates of rows that live columns change", usize::from(moved));
                saw("aggregates of rows whose events count", usize::from(*windowed && flip.reason == Reason::Event));
                saw("aggregates of rows that change by expiry", usize::from(flip.reason == Reason::Expiry));
            }
            let FactKind::Aggregated { aggregate, .. } = flip.kind else { continue };
            match (aggregate, flip.truth, flip.reason) {
                (Aggregate::Sum(_), false, Reason::Expiry) => {
                    saw("sums that fall through their threshold by expiry", 1)
                }
                (Aggregate::Sum(_), _, Reason::Event) => saw("sums that an event moves through their threshold", 1),
                (Aggregate::Avg(_), ..) => saw("averages that cross their threshold", 1),
                (Aggregate::Max(_) | Aggregate::Min(_), _, Reason::Expiry) => saw("extreme values that age out", 1),
                (Aggregate::Distinct(_), ..) => saw("numbers of distinct values that cross their threshold", 1),
                _ => {}
            }
        }
        saw("distinct values seen twice of which one ages out", twins(&plan, &history));
        saw("entries by expiry", changes.iter().filter(|c| c.entry && c.reason == Reason::Expiry).count());
        saw("exits by an event", changes.iter().filter(|c| !c.entry && c.reason == Reason::Event).count());
        let mut unmoved = history.clone();
        for occurrence in
            unmoved.partitions.iter_mut().flat_map(|of| &mut of.messages).flat_map(|of| &mut of.occurrences)
        {
            let event = &plan.events[occurrence.event as usize];
            for (value, column) in occurrence.says.iter_mut().zip(&event.columns) {
                *value &= !["account", "company"].contains(&&column.name[..]);
            }
        }
        let differs_by_moving = crate::oracle::changes(&plan, &unmoved, sample.flags) != changes;
        let reads_parents = plan.models.iter().flat_map(|model| &model.rows).any(|rows| !rows.inherited.is_empty());
        saw("histories where rows that read columns of a parent move", usize::from(reads_parents && differs_by_moving));
        let pairs = || changes.windows(2);
        saw("audiences changed in one ms", pairs().filter(|p| p[0].at == p[1].at && p[0].key == p[1].key).count());
        let mentions = sample.job.matches("\"audience\":").count();
        saw("audiences mentioned", mentions);
        saw("members known from events only", changes.iter().filter(|change| change.key == "u6").count());
        let differs = |other: &History| usize::from(crate::oracle::changes(&plan, other, sample.flags) != changes);
        let unique = change_messages(&history, |message, number| {
            message.occurrences.iter_mut().for_each(|occurrence| occurrence.id = number.to_string());
        });
        saw("histories where repeats matter", differs(&unique));
        let mut apart = history.clone();
        for partition in &mut apart.partitions {
            let occurrences = partition.messages.iter_mut().flat_map(|message| &mut message.occurrences);
            occurrences.for_each(|occurrence| occurrence.id = format!("{} {}", partition.source, occurrence.id));
        }
        saw("histories where repeats in two sources matter", differs(&apart));
        saw("events with a filter", plan.job.events.values().filter(|event| event.filter.is_some()).count());
        saw("events of two names", plan.job.events.values().filter(|event| event.names.len() > 1).count());
        let on_time = change_messages(&history, |message, _| {
            message.timestamp = message.timestamp.filter(|timestamp| *timestamp <= sample.flags.now + SKEW);
        });
        assert_eq!(differs(&on_time), 0, "seed {seed}: messages of the future do nothing");
        let future = |message: &Message| message.timestamp.is_some_and(|at| at > sample.flags.now + SKEW);
        saw(
            "messages of the future",
            history.partitions.iter().flat_map(|p| &p.messages).filter(|m| future(m)).count(),
        );
        let mut merged = history.clone();
        if let [first, second, ..] = &mut merged.partitions[..]
            && first.source == second.source
        {
            first.messages.append(&mut second.messages);
            saw("histories where partitions matter", differs(&merged));
        }
    }
    for (what, at_least) in [
        ("changes by an event", 600),
        ("changes by expiry", 600),
        ("changes by the snapshot", 600),
        ("changes by a trait", 100),
        ("aggregates of rows that live columns change", 100),
        ("aggregates of rows whose events count", 30),
        ("aggregates of rows that change by expiry", 30),
        ("columns of a parent over one step that a live column changes", 100),
        ("columns of a parent over several steps that a live column changes", 60),
        ("columns of a parent that `now()` meets", 100),
        ("histories where rows that read columns of a parent move", 20),
        ("sums that fall through their threshold by expiry", 100),
        ("sums that an event moves through their threshold", 100),
        ("averages that cross their threshold", 100),
        ("extreme values that age out", 100),
        ("numbers of distinct values that cross their threshold", 100),
        ("distinct values seen twice of which one ages out", 100),
        ("sequences that an event completes", 150),
        ("sequences with exclusions that an event completes", 200),
        ("sequences that a late excluded event breaks", 10),
        ("sequences that age out", 300),
        ("entries by expiry", 100),
        ("exits by an event", 100),
        ("audiences changed in one ms", 100),
        ("audiences mentioned", 50),
        ("members known from events only", 50),
        ("histories where repeats matter", 30),
        ("histories where repeats in two sources matter", 10),
        ("events with a filter", 30),
        ("events of two names", 20),
        ("messages of the future", 50),
        ("histories where partitions matter", 30),
    ] {
        let times = seen.get(what).copied().unwrap_or(0);
        assert!(times >= at_least, "{what}: {times} times in {SEEDS:?}, expected {at_least}; all: {seen:#?}");
    }
}

/// Counts pairs of events of a key with the same value of a column that a condition counts distinct values of, in one window.
fn twins(plan: &Plan, history: &History) -> usize {
    let mut found = 0;
    for fact in plan.models.iter().flat_map(|model| &model.facts) {
        let FactKind::Aggregated { event, aggregate: Aggregate::Distinct(column), within, .. } = &fact.kind else {
            continue;
        };
        let column = plan.events[*event as usize].columns.iter().position(|of| of.name == *column).expect("it is read");
        let mut seen: Vec<(&str, &Value<'_>, i64)> = Vec::new();
        for message in history.partitions.iter().flat_map(|partition| &partition.messages) {
            let Some(at) = message.timestamp else { continue };
            for occurrence in message.occurrences.iter().filter(|occurrence| occurrence.event == *event) {
                let value = &occurrence.values[column];
                let near = |(key, other, then): &&(&str, &Value<'_>, i64)| {
                    *key == occurrence.key && *other == value && *then != at && then.abs_diff(at) < *within
                };
                found += usize::from(*value != Value::Null && seen.iter().any(|of| near(&of)));
                seen.push((&occurrence.key, value, at));
            }
        }
    }
    found
}

/// Returns a history with each message changed; `change` also gets the message's number.
fn change_messages(history: &History, mut change: impl FnMut(&mut Message, usize)) -> History {
    let mut changed = history.clone();
    let messages = changed.partitions.iter_mut().flat_map(|partition| &mut partition.messages);
    messages.enumerate().for_each(|(number, message)| change(message, number));
    changed
}
