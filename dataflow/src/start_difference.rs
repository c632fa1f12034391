//! What a start sends: the difference between membership and the ledgers, counted before the sinks are handed it.
//!
//! Counts entries and exits by sync and audience, without those that a sync only notes in its ledger, with the first members of each as samples. Of a start that only works the difference
//! out ([`crate::Purpose`]), each sample has the condition that decides it. Pure; holds the samples.

use crate::state::deciding::Deciding;
use crate::time::Time;
use std::collections::BTreeMap;
use usher_core::catalog::Catalog;
use usher_core::change::{ChangeKind, Changes, Filter, Reason};
use usher_queries::plan::Plan;

/// Samples of entries, and of exits, of an audience.
const SAMPLES: usize = 10;

/// The difference that a start sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartDifference {
    /// The clock at which the job goes live, ms since the epoch.
    pub at: Time,
    /// By sync and audience, in the order of their ids; without those that nothing is sent of.
    pub audiences: Vec<AudienceDifference>,
}

/// The difference of one audience in one sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudienceDifference {
    /// The sync's id.
    pub sync: String,
    /// The audience's id.
    pub audience: String,
    /// How many members enter.
    pub entries: u64,
    /// How many leave.
    pub exits: u64,
    /// The first of each, by key.
    pub samples: Vec<StartSample>,
}

/// A member that enters or leaves at a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartSample {
    /// Its key.
    pub key: String,
    /// Whether it enters.
    pub enters: bool,
    /// Why.
    pub reason: Reason,
    /// The condition that decides it. `None` if the audience is gone, or that was not asked for.
    pub condition: Option<Deciding>,
}

/// The conditions that decide members, by audience in the catalog, kind of change and key.
pub(crate) type Conditions = BTreeMap<(u32, ChangeKind), BTreeMap<String, Option<Deciding>>>;

impl StartDifference {
    /// Counts the changes of a start at `at`, in order.
    pub(crate) fn count(plan: &Plan, catalog: &Catalog, at: Time, changes: &Changes, conditions: &Conditions) -> Self {
        let mut audiences = Vec::new();
        for (index, (id, sync)) in plan.job.syncs.iter().enumerate() {
            let ids = sync.audiences.iter().map(String::as_str);
            let filter = Filter::new(index as u16, ids, &[ChangeKind::Entry, ChangeKind::Exit], catalog);
            let mut of_sync: BTreeMap<&str, AudienceDifference> = BTreeMap::new();
            for change in changes.iter().filter(|change| change.at <= at && filter.sends(change)) {
                let audience = catalog.id(change.audience);
                let difference = of_sync.entry(audience).or_insert_with(|| AudienceDifference {
                    sync: id.clone(),
                    audience: audience.to_owned(),
                    entries: 0,
                    exits: 0,
                    samples: Vec::new(),
                });
                let enters = change.kind == ChangeKind::Entry;
                let count = if enters { &mut difference.entries } else { &mut difference.exits };
                *count += 1;
                if *count <= SAMPLES as u64 {
                    let key = changes.key(change).to_owned();
                    let of_kind = conditions.get(&(change.audience, change.kind));
                    let condition = of_kind.and_then(|keys| *keys.get(&key)?);
                    difference.samples.push(StartSample { key, enters, reason: change.reason, condition });
                }
            }
            audiences.extend(of_sync.into_values());
        }
        StartDifference { at, audiences }
    }
}

/// Keeps the condition that decides a member, of the first keys of its audience and kind of change.
pub(crate) fn keep_condition(
    conditions: &mut Conditions,
    of: (u32, ChangeKind),
    key: &str,
    condition: impl FnOnce() -> Option<Deciding>,
) {
    let keys = conditions.entry(of).or_default();
    if keys.len() >= SAMPLES && keys.last_key_value().is_some_and(|(last, _)| key > &last[..]) {
        return;
    }
    keys.insert(key.to_owned(), condition());
    if keys.len() > SAMPLES {
        keys.pop_last();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_keys_of_an_audience_keep_their_conditions() {
        let mut conditions = Conditions::new();
        for key in (0..100).rev() {
            let fact = Some(Deciding::Fact(key));
            keep_condition(&mut conditions, (3, ChangeKind::Exit), &format!("u-{key:03}"), || fact);
        }
        let keys = &conditions[&(3, ChangeKind::Exit)];
        assert_eq!(keys.len(), SAMPLES);
        assert_eq!(keys.first_key_value(), Some((&"u-000".to_owned(), &Some(Deciding::Fact(0)))));
        assert!(keys.contains_key("u-009"));
    }
}
