//! Audiences of keys of which nothing is known.
//!
//! Where any key can be a member, an audience that would hold for a key without a row and without an event would have
//! all keys that there could be. Whether it does is decided by its condition alone, whatever is wrong with the
//! predicates in it: nothing is there that they could be true of.

use super::layout::order;
use crate::aggregate::Summary;
use std::collections::BTreeMap;
use usher_config::{Condition, ConditionKind, Job, Members, Problem};

/// Reports the audiences of `members: any` models that would hold for a key of which nothing is known. Nothing is said
/// of those that mention an audience which the job does not have, or themselves, directly or through others.
pub(super) fn audiences_of_unknown_keys(job: &Job) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut holds = BTreeMap::new();
    for id in order(job) {
        let audience = &job.audiences[id];
        let is_any = job.models.get(&audience.model).is_some_and(|model| model.members == Members::Any);
        let of_unknown = is_any && holds_of_unknown(&audience.condition, &holds);
        if of_unknown {
            let message = format!("audience `{id}` would hold for a key of which nothing is known");
            let hint = "add a condition that only something known can fulfil, such as a `performed`, or give the \
                        model `parquet` and `members: known`";
            problems.push(Problem::new(&audience.place, message).hint(hint));
        }
        holds.insert(id, of_unknown);
    }
    problems
}

/// Returns whether a condition holds for a key of which nothing is known; `audiences` has whether those do that it
/// mentions.
fn holds_of_unknown(condition: &Condition, audiences: &BTreeMap<&str, bool>) -> bool {
    let holds = |condition: &Condition| holds_of_unknown(condition, audiences);
    match &condition.kind {
        ConditionKind::All(children) => children.iter().all(holds),
        ConditionKind::Any(children) => children.iter().any(holds),
        ConditionKind::Not(child) => !holds(child),
        ConditionKind::Audience(id) => audiences[id.as_str()],
        ConditionKind::Property(_) | ConditionKind::Sequence { .. } => false,
        ConditionKind::Performed { aggregate, comparison, .. }
        | ConditionKind::Related { aggregate, comparison, .. } => Summary::new(aggregate).holds(comparison),
    }
}
