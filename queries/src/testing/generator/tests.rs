//! The samples are sound, and reach what they are for.

use super::*;
use crate::oracle::{Change, Reason, changes, members};
use crate::{Schemas, compile, explain, plan_file};
use std::collections::BTreeSet;

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
                assert_eq!(held, members(&plan, &history, sample.flags.now, *at), "seed {seed}, at {at}");
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
        for reason in [Reason::Event, Reason::Expiry, Reason::Snapshot] {
            let what = match reason {
                Reason::Event => "changes by an event",
                Reason::Expiry => "changes by expiry",
                Reason::Snapshot => "changes by the snapshot",
            };
            saw(what, changes.iter().filter(|change| change.reason == reason).count());
        }
        saw("entries by expiry", changes.iter().filter(|c| c.entry && c.reason == Reason::Expiry).count());
        saw("exits by an event", changes.iter().filter(|c| !c.entry && c.reason == Reason::Event).count());
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
        ("entries by expiry", 100),
        ("exits by an event", 100),
        ("audiences changed in one ms", 100),
        ("audiences mentioned", 50),
        ("members known from events only", 50),
        ("histories where repeats matter", 30),
        ("messages of the future", 50),
        ("histories where partitions matter", 30),
    ] {
        let times = seen.get(what).copied().unwrap_or(0);
        assert!(times >= at_least, "{what}: {times} times in {SEEDS:?}, expected {at_least}; all: {seen:#?}");
    }
}

/// Returns a history with each message changed; `change` also gets the message's number.
fn change_messages(history: &History, mut change: impl FnMut(&mut Message, usize)) -> History {
    let mut changed = history.clone();
    let messages = changed.partitions.iter_mut().flat_map(|partition| &mut partition.messages);
    messages.enumerate().for_each(|(number, message)| change(message, number));
    changed
}
