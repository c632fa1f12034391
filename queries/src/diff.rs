//! What an edit of a job changes, by meaning: audiences, events and syncs that come, go or change, and the windows that are filled
//! from the sources' history (SPEC §6).
//!
//! Audiences and conditions are the same where their fingerprints are, however they are spelled, ordered or named. Pure: reads
//! nothing but the two plans, or what a state has kept of the first one. Refuses nothing.

use crate::compile::conditions::{Decided, Written, written};
use crate::plan::{FactIx, ModelPlan, Plan};
use std::collections::{BTreeMap, BTreeSet};
use usher_config::{Event, Source, SourceFrom, Start, Sync, Text, duration};
use usher_core::edit::{AudienceChange, AudienceEdit, Edit, FilledWindow, NamedChange, NamedEdit};
use usher_core::time::shortest;

/// What is known of a job before an edit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Before<'a> {
    /// Its plan. `None` if only its state is known.
    pub plan: Option<&'a Plan>,
    /// The fingerprints of its audiences, by id.
    pub audiences: BTreeMap<String, [u8; 16]>,
    /// By model, the fingerprints of its facts.
    pub facts: BTreeMap<String, BTreeSet<[u8; 16]>>,
    /// The ids of its syncs.
    pub syncs: BTreeSet<String>,
    /// By model, where its snapshot is, as [`SnapshotPlan::parquet`](crate::plan::SnapshotPlan::parquet) has it.
    pub snapshots: BTreeMap<String, String>,
}

impl<'a> Before<'a> {
    /// Returns what a plan shows.
    pub fn of_plan(plan: &'a Plan) -> Before<'a> {
        let audiences = plan.models.iter().flat_map(|model| &model.audiences);
        let facts = |model: &ModelPlan| model.facts.iter().map(|fact| fact.fingerprint).collect();
        let snapshot = |model: &ModelPlan| Some((model.id.clone(), model.snapshot.as_ref()?.parquet.clone()));
        Before {
            plan: Some(plan),
            audiences: audiences.map(|audience| (audience.id.clone(), audience.fingerprint)).collect(),
            facts: plan.models.iter().map(|model| (model.id.clone(), facts(model))).collect(),
            syncs: plan.job.syncs.keys().cloned().collect(),
            snapshots: plan.models.iter().filter_map(snapshot).collect(),
        }
    }

    fn has_fact(&self, model: &ModelPlan, fact: FactIx) -> bool {
        let facts = self.facts.get(&model.id);
        facts.is_some_and(|facts| facts.contains(&model.facts[fact as usize].fingerprint))
    }
}

/// Returns what differs between a job before and after an edit.
pub fn compare(before: &Before<'_>, new: &Plan) -> Edit {
    let now = Before::of_plan(new);
    let sync = |old: &Sync, new: &Sync| changed(sync_keys(old, new));
    let events = before.plan.map(|old| named(&old.job.events, &new.job.events, event));
    let syncs = match before.plan {
        Some(old) => named(&old.job.syncs, &new.job.syncs, |old, new| sync(old, new).into_iter().collect()),
        None => {
            let unknown = |ids: &BTreeSet<String>| ids.iter().map(|id| (id.clone(), ())).collect();
            named(&unknown(&before.syncs), &unknown(&now.syncs), |(), ()| Vec::new())
        }
    };
    Edit {
        audiences: audiences(before, &now, new),
        events: events.unwrap_or_default(),
        syncs,
        filled: filled(before, new),
    }
}

fn audiences(before: &Before<'_>, now: &Before<'_>, new: &Plan) -> Vec<AudienceEdit> {
    let same = |fingerprint: &[u8; 16], of: &Before<'_>, other: &Before<'_>| -> Vec<String> {
        let equal =
            of.audiences.iter().filter(|(id, known)| *known == fingerprint && !other.audiences.contains_key(*id));
        equal.map(|(id, _)| id.clone()).collect()
    };
    let ids: BTreeSet<&String> = before.audiences.keys().chain(now.audiences.keys()).collect();
    let mut edits = Vec::new();
    for id in ids {
        let mut add = |change| edits.push(AudienceEdit { id: id.clone(), change });
        match (before.audiences.get(id), now.audiences.get(id)) {
            (None, Some(fingerprint)) => {
                add(AudienceChange::Added { same_conditions_as: same(fingerprint, before, now) });
            }
            (Some(fingerprint), None) => {
                add(AudienceChange::Removed { same_conditions_as: same(fingerprint, now, before) });
            }
            (Some(was), Some(is)) => {
                if was != is {
                    let (removed_conditions, added_conditions) = conditions(before, new, id);
                    add(AudienceChange::Changed { removed_conditions, added_conditions });
                }
                if let Some(old) = before.plan {
                    let (from, to) = (&old.job.audiences[id].name, &new.job.audiences[id].name);
                    if from != to {
                        add(AudienceChange::Renamed { from: from.clone(), to: to.clone() });
                    }
                }
            }
            (None, None) => unreachable!("the id is from one of the two"),
        }
    }
    edits
}

/// A condition by what it means: the fingerprint of its fact, or of the audience that it mentions; and whether it is negated.
type Meaning = (Option<String>, [u8; 16], bool);

/// Returns the conditions of an audience by their meaning, as the author wrote them.
fn by_meaning(plan: &Plan, id: &str) -> BTreeMap<Meaning, String> {
    fn collect(model: &ModelPlan, of: &Written, negated: bool, found: &mut BTreeMap<Meaning, String>) {
        let text = || if negated { format!("not: {{{}}}", of.text) } else { of.text.clone() };
        match of.decided {
            Decided::Fact(fact) => {
                found.insert((None, model.facts[fact as usize].fingerprint, negated), text());
            }
            Decided::Audience(audience) => {
                let audience = &model.audiences[audience as usize];
                found.insert((Some(audience.id.clone()), audience.fingerprint, negated), text());
            }
            Decided::All | Decided::Any => of.inside.iter().for_each(|of| collect(model, of, negated, found)),
            Decided::Not => of.inside.iter().for_each(|of| collect(model, of, !negated, found)),
        }
    }
    let mut found = BTreeMap::new();
    for (model, written) in plan.models.iter().zip(written(plan)) {
        let of = model.audiences.iter().zip(&written).find(|(audience, _)| audience.id == id);
        of.into_iter().for_each(|(_, written)| collect(model, written, false, &mut found));
    }
    found
}

/// Returns the conditions that an audience had, and that it has, where they differ.
fn conditions(before: &Before<'_>, new: &Plan, id: &str) -> (Vec<String>, Vec<String>) {
    let now = by_meaning(new, id);
    let without = |of: &BTreeMap<Meaning, String>, other: &BTreeMap<Meaning, String>| -> Vec<String> {
        of.iter().filter(|(meaning, _)| !other.contains_key(*meaning)).map(|(_, text)| text.clone()).collect()
    };
    match before.plan {
        Some(old) => {
            let was = by_meaning(old, id);
            (without(&was, &now), without(&now, &was))
        }
        None => {
            let model = new.models.iter().find(|model| model.audiences.iter().any(|audience| audience.id == id));
            let facts = model.and_then(|model| before.facts.get(&model.id));
            let is_new = |(mentioned, fingerprint, _): &Meaning| match mentioned {
                Some(audience) => before.audiences.get(audience) != Some(fingerprint),
                None => facts.is_none_or(|facts| !facts.contains(fingerprint)),
            };
            (Vec::new(), now.into_iter().filter(|(meaning, _)| is_new(meaning)).map(|(_, text)| text).collect())
        }
    }
}

/// Returns what differs between two sections of ids.
fn named<T>(
    old: &BTreeMap<String, T>,
    new: &BTreeMap<String, T>,
    differ: impl Fn(&T, &T) -> Vec<NamedChange>,
) -> Vec<NamedEdit> {
    let ids: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changes = |id: &String| match (old.get(id), new.get(id)) {
        (None, _) => vec![NamedChange::Added],
        (_, None) => vec![NamedChange::Removed],
        (Some(old), Some(new)) => differ(old, new),
    };
    ids.into_iter().flat_map(|id| changes(id).into_iter().map(|change| NamedEdit { id: id.clone(), change })).collect()
}

fn changed(keys: Vec<&'static str>) -> Option<NamedChange> {
    (!keys.is_empty()).then(|| NamedChange::Changed { keys: keys.into_iter().map(str::to_owned).collect() })
}

/// Returns the names of what differs.
fn keys(of: &[(&'static str, bool)]) -> Vec<&'static str> {
    of.iter().filter(|(_, same)| !same).map(|(key, _)| *key).collect()
}

fn event(old: &Event, new: &Event) -> Vec<NamedChange> {
    let text = |filter: &Option<Text>| filter.as_ref().map(|text| text.value.clone());
    let differing = keys(&[
        ("source", old.sources == new.sources),
        ("type", old.kind == new.kind),
        ("name", old.names == new.names),
        ("where", text(&old.filter) == text(&new.filter)),
        ("model", old.model == new.model),
        ("foreign_key", old.foreign_key == new.foreign_key),
        ("timestamp", old.timestamp == new.timestamp),
        ("properties", old.properties == new.properties),
    ]);
    let mut changes: Vec<NamedChange> = changed(differing).into_iter().collect();
    if old.label != new.label {
        let label = |event: &Event| event.label.clone().unwrap_or_default();
        changes.push(NamedChange::Renamed { from: label(old), to: label(new) });
    }
    changes
}

fn sync_keys(old: &Sync, new: &Sync) -> Vec<&'static str> {
    let send = |sync: &Sync| (sync.send_entry, sync.send_exit, sync.send_update);
    let names = |sync: &Sync| (sync.entry_name.clone(), sync.exit_name.clone(), sync.update_name.clone());
    keys(&[
        ("audiences", old.audiences == new.audiences),
        ("send", send(old) == send(new)),
        ("format", old.format == new.format),
        ("include", old.include == new.include),
        ("event_names", names(old) == names(new)),
        ("fields", old.fields == new.fields),
        ("backfill", old.backfill == new.backfill),
        ("on_remove", old.on_remove == new.on_remove),
        ("to", old.to == new.to),
    ])
}

/// Returns the windows that are new, in the order of models and facts.
fn filled(before: &Before<'_>, new: &Plan) -> Vec<FilledWindow> {
    let mut filled = Vec::new();
    let written = written(new);
    for (number, model) in new.models.iter().enumerate() {
        for (index, fact) in model.facts.iter().enumerate() {
            let index = index as FactIx;
            let Some(within) = fact.kind.window().filter(|_| !before.has_fact(model, index)) else { continue };
            let mut condition = None;
            let mut audiences = Vec::new();
            // Inside `whose` the audiences of another model have it too.
            let all = new.models.iter().zip(&written).flat_map(|(of, written)| of.audiences.iter().zip(written));
            for (audience, written) in all {
                if let Some(text) = text_of(written, (number, Decided::Fact(index))) {
                    audiences.push(audience.id.clone());
                    condition.get_or_insert_with(|| text.to_owned());
                }
            }
            let sources: BTreeSet<&String> =
                fact.kind.events().into_iter().flat_map(|event| &new.events[event as usize].sources).collect();
            filled.push(FilledWindow {
                condition: condition.unwrap_or_else(|| fact.text.clone()),
                audiences,
                within: duration::format(within),
                from: sources.into_iter().map(|id| entered(id, &new.job.sources[id])).collect(),
            });
        }
    }
    filled
}

/// Returns the text of the condition that a fact or an audience of a model decides; `None` if it is not among them.
pub fn text_of(written: &Written, decided: (usize, Decided)) -> Option<&str> {
    if (written.model, written.decided) == decided {
        return Some(&written.text);
    }
    written.inside.iter().find_map(|of| text_of(of, decided))
}

/// Returns the audiences that depend on conditions which the job has not kept before, or on a snapshot of another place: nothing is known of
/// their members without the sources and the warehouse.
pub fn unknown_audiences(before: &Before<'_>, new: &Plan) -> BTreeSet<String> {
    let mut unknown = BTreeSet::new();
    let is_elsewhere = |of: usize| {
        let model = &new.models[of];
        model.snapshot.as_ref().is_some_and(|snapshot| before.snapshots.get(&model.id) != Some(&snapshot.parquet))
    };
    for (of, model) in new.models.iter().enumerate() {
        for index in &model.order {
            let audience = &model.audiences[*index as usize];
            let (mut of_facts, mut of_audiences) = (false, false);
            let mut of_fact = |fact| {
                of_facts |= !before.has_fact(model, fact) || new.pulled_for(of, fact).into_iter().any(is_elsewhere);
            };
            audience.expr.leaves(&mut of_fact, &mut |mentioned| {
                of_audiences |= unknown.contains(&model.audiences[mentioned as usize].id);
            });
            if of_facts || of_audiences {
                unknown.insert(audience.id.clone());
            }
        }
    }
    unknown
}

/// Describes from when on a source is read for a window that is new.
fn entered(id: &str, source: &Source) -> String {
    let from = match (&source.from, &source.start) {
        (SourceFrom::File { .. }, _) | (_, Start::Earliest) => "all that it holds".to_owned(),
        (_, Start::Window) => "as far back as the longest window, and as it holds".to_owned(),
        (_, Start::Latest) => "what comes from the start on".to_owned(),
        (_, Start::Time(time)) => {
            format!("from {} on", i64::try_from(*time).ok().and_then(shortest).unwrap_or_else(|| time.to_string()))
        }
    };
    format!("{id}: {from}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{Schemas, compile};
    use crate::testing::fixtures::*;
    use usher_config::Condition;

    fn plan(audiences: &[(&str, &str, Condition)]) -> Plan {
        compile(&job(audiences), "job.yaml", &Schemas::new()).expect("a sound job")
    }

    fn edit(old: &Plan, new: &Plan) -> serde_json::Value {
        serde_json::to_value(compare(&Before::of_plan(old), new)).expect("plain data")
    }

    #[test]
    fn a_job_that_is_spelled_otherwise_is_not_changed() {
        let old = plan(&[("a", "users", all([property("ltv > 300"), performed("priced", at_least(3), HOUR)]))]);
        let new = plan(&[("a", "users", all([performed("priced", at_least(3), HOUR), property("ltv>300")]))]);
        assert_eq!(compare(&Before::of_plan(&old), &new), Edit::default());
    }

    #[test]
    fn audiences_are_added_removed_changed_and_renamed_by_what_they_mean() {
        let rich = || property("ltv > 300");
        let seen = |least| performed("priced", at_least(least), HOUR);
        let old =
            plan(&[("gone", "users", rich()), ("kept", "users", all([rich(), seen(3)])), ("same", "users", rich())]);
        let mut new = plan(&[
            ("kept", "users", all([seen(2), not(rich())])),
            ("new", "users", rich()),
            ("of_kept", "users", all([rich(), audience("kept")])),
            ("same", "users", rich()),
        ]);
        new.job.audiences.get_mut("same").expect("it is there").name = "The same".to_owned();
        let found = edit(&old, &new);
        let expected = serde_json::json!([
            {"id": "gone", "change": "removed", "same_conditions_as": ["new"]},
            {"id": "kept", "change": "changed",
             "removed_conditions": ["property: ltv > 300", "performed: priced, at_least: 3, within: 1h"],
             "added_conditions": ["performed: priced, at_least: 2, within: 1h", "not: {property: ltv > 300}"]},
            {"id": "new", "change": "added", "same_conditions_as": ["gone"]},
            {"id": "of_kept", "change": "added", "same_conditions_as": []},
            {"id": "same", "change": "renamed", "from": "same", "to": "The same"},
        ]);
        let sorted = |mut value: serde_json::Value| {
            for of in ["removed_conditions", "added_conditions"] {
                if let Some(texts) = value[1][of].as_array_mut() {
                    texts.sort_by_key(ToString::to_string);
                }
            }
            value
        };
        assert_eq!(sorted(found["audiences"].clone()), sorted(expected));
        assert_eq!(
            found["filled"],
            serde_json::json!([{"condition": "performed: priced, at_least: 2, within: 1h", "audiences": ["kept"],
                "within": "1h", "from": ["web: all that it holds"]}])
        );
    }

    #[test]
    fn an_audience_whose_mentioned_audience_changes_is_changed_by_that() {
        let of = |ltv: &str| plan(&[("a", "users", property(ltv)), ("b", "users", not(audience("a")))]);
        let found = edit(&of("ltv > 1"), &of("ltv > 2"));
        assert_eq!(found["audiences"][1]["id"], "b");
        assert_eq!(found["audiences"][1]["added_conditions"], serde_json::json!(["not: {audience: a}"]));
        assert_eq!(found["filled"], serde_json::json!([]), "a property has no window");
    }

    #[test]
    fn events_and_syncs_are_compared_key_by_key() {
        let old = {
            let mut job = job(&[("a", "users", performed("ordered", at_least(1), HOUR))]);
            job.syncs.insert("crm".to_owned(), sync(&["a"], &["plan"]));
            job.syncs.insert("gone".to_owned(), sync(&["a"], &[]));
            job
        };
        let mut new = old.clone();
        new.syncs.remove("gone");
        new.syncs.insert("new".to_owned(), sync(&["a"], &[]));
        let crm = new.syncs.get_mut("crm").expect("it is there");
        (crm.send_exit, crm.include) = (false, Vec::new());
        new.events.get_mut("ordered").expect("it is there").names = vec!["Order Placed".to_owned()];
        new.events.get_mut("priced").expect("it is there").label = Some("Pricing".to_owned());
        let compiled = |job| compile(&job, "job.yaml", &Schemas::new()).expect("a sound job");
        let (old, new) = (compiled(old), compiled(new));
        let found = edit(&old, &new);
        assert_eq!(
            found["syncs"],
            serde_json::json!([
                {"id": "crm", "change": "changed", "keys": ["send", "include"]},
                {"id": "gone", "change": "removed"},
                {"id": "new", "change": "added"},
            ])
        );
        assert_eq!(
            found["events"],
            serde_json::json!([
                {"id": "ordered", "change": "changed", "keys": ["name"]},
                {"id": "priced", "change": "renamed", "from": "", "to": "Pricing"},
            ])
        );
        assert_eq!(found["audiences"][0]["change"], "changed", "its event is another");
    }

    #[test]
    fn a_state_shows_which_conditions_are_new_without_the_plan_that_made_it() {
        let old = plan(&[("a", "users", property("ltv > 1"))]);
        let new = plan(&[("a", "users", all([property("ltv > 1"), performed("priced", at_least(1), HOUR)]))]);
        let before = Before { plan: None, ..Before::of_plan(&old) };
        assert_eq!(unknown_audiences(&before, &new), BTreeSet::from(["a".to_owned()]));
        assert_eq!(unknown_audiences(&before, &old), BTreeSet::new());
        let AudienceChange::Changed { removed_conditions, added_conditions } =
            &compare(&before, &new).audiences[0].change
        else {
            panic!("it is changed");
        };
        assert_eq!(
            (removed_conditions.len(), &added_conditions[..]),
            (0, &["performed: priced, within: 1h".to_owned()][..])
        );
    }
}
