//! Histories by hand: which value of a live column counts, and why a membership changes by it.

use crate::oracle::{Flags, History, Message, Occurrence, Partition, Row, changes};
use crate::plan::Plan;
use crate::testing::fixtures::{any, at_least, job, lines, performed, property, set_live};
use crate::{Schemas, Value, compile};
use std::collections::BTreeMap;
use usher_config::{Condition, Members};

const START: i64 = 1_000_000;

fn plan(condition: Condition, members: Members) -> Plan {
    let mut job = job(&[("a", "users", condition)]);
    set_live(&mut job, "users", &["plan", "trial_ends"]);
    job.models.get_mut("users").expect("users").members = members;
    compile(&job, "job.yaml", &Schemas::new()).expect("a sound job")
}

/// What an event says; `None`: nothing.
type Says = Option<Value<'static>>;

fn text(value: &'static str) -> Says {
    Some(Value::String(value.into()))
}

/// Returns a partition with events of `u`, as (timestamp from the start, id, what it says).
fn partition(plan: &Plan, messages: &[(i64, &str, Says)]) -> Partition {
    let event = plan.events.iter().position(|event| event.id == "identified").expect("it is there");
    let columns = &plan.events[event].columns;
    let message = |(position, (timestamp, id, says)): (usize, &(i64, &str, Says))| {
        let (mut values, mut said) = (vec![Value::Null; columns.len()], vec![false; columns.len()]);
        if let Some(value) = says {
            let name = if matches!(value, Value::Timestamp(_)) { "trial_ends" } else { "plan" };
            let at = columns.iter().position(|column| column.name == name).expect("the event has it");
            (values[at], said[at]) = (value.clone(), true);
        }
        let (key, id) = ("u".to_string(), id.to_string());
        let occurrence = Occurrence { event: event as u32, key, id, values, says: said };
        Message { position: position as u64, timestamp: Some(START + timestamp), occurrences: vec![occurrence] }
    };
    Partition { source: "web".to_string(), messages: messages.iter().enumerate().map(message).collect() }
}

/// Returns the changes, with times from the start; `row`: the plan of `u` in the snapshot, if it has a row.
fn run(plan: &Plan, row: Option<&'static str>, partitions: Vec<Partition>, from: Option<i64>) -> Vec<String> {
    let row = row.map(|value| Row {
        key: "u".to_string(),
        values: BTreeMap::from([("plan".to_string(), Value::String(value.into()))]),
        foreign_key: None,
    });
    let rows = BTreeMap::from([("users".to_string(), row.into_iter().collect())]);
    let history = History { partitions, rows, pulled: None };
    let flags = Flags { from: from.map(|from| START + from), until: Some(START + 100), now: START + 1_000 };
    let mut found = changes(plan, &history, flags);
    found.iter_mut().for_each(|change| change.at -= START);
    lines(&found)
}

fn pro() -> Condition {
    property("plan = 'pro'")
}

#[test]
fn the_newer_of_event_and_snapshot_counts_and_of_one_ms_the_event() {
    let plan = plan(pro(), Members::Known);
    let of = |messages: &[(i64, &str, Says)]| run(&plan, Some("free"), vec![partition(&plan, messages)], None);
    assert_eq!(of(&[(0, "x", None), (5, "a", text("pro"))]), ["5 +a u trait"]);
    assert_eq!(of(&[(0, "x", text("pro"))]), ["0 +a u snapshot"], "at the ms of the snapshot the event's counts");
    assert_eq!(of(&[(0, "x", None), (-1, "a", text("pro"))]), Vec::<String>::new(), "the snapshot's is newer");
    assert_eq!(
        of(&[(0, "x", None), (9, "a", text("pro")), (8, "b", text("free"))]),
        ["9 +a u trait"],
        "what comes late is older"
    );
}

#[test]
fn null_is_a_value_and_what_is_missing_or_wrong_says_nothing() {
    let plan = plan(pro(), Members::Known);
    let of = |says: Says| run(&plan, Some("pro"), vec![partition(&plan, &[(0, "x", None), (5, "a", says)])], None);
    assert_eq!(of(Some(Value::Null)), ["0 +a u snapshot", "5 -a u trait"]);
    assert_eq!(of(None), ["0 +a u snapshot"]);
}

#[test]
fn of_values_of_one_ms_that_of_the_last_arrival_counts_and_a_repeat_may_move_it() {
    let plan = plan(pro(), Members::Known);
    let one = partition(&plan, &[(0, "x", None), (5, "a", text("pro")), (5, "b", text("free"))]);
    assert_eq!(
        run(&plan, Some("free"), vec![one.clone()], None),
        Vec::<String>::new(),
        "within one ms there is no change"
    );
    // A copy of `b` in a partition of a lesser rank makes its arrival the lesser one.
    let copy = partition(&plan, &[(0, "y", None), (7, "b", text("free"))]);
    assert_eq!(run(&plan, Some("free"), vec![copy, one], None), ["7 +a u trait"]);
}

#[test]
fn a_key_without_a_row_has_one_of_its_live_columns_if_any_key_may_be_a_member() {
    let condition = || any([pro(), property("ltv is null")]);
    let messages = [(0, "x", None), (3, "b", Some(Value::Null)), (5, "a", text("pro"))];
    let plan = |members| plan(condition(), members);
    let of = |plan: &Plan| run(plan, None, vec![partition(plan, &messages)], None);
    assert_eq!(of(&plan(Members::Any)), ["3 +a u trait"], "from its first value on, a null too");
    assert_eq!(of(&plan(Members::Known)), Vec::<String>::new());
}

#[test]
fn with_from_the_snapshot_is_as_old_as_without() {
    let plan = plan(pro(), Members::Known);
    let history = || vec![partition(&plan, &[(0, "x", None), (5, "a", text("pro")), (50, "y", None)])];
    assert_eq!(run(&plan, Some("free"), history(), Some(20)), ["20 +a u snapshot"]);
}

#[test]
fn a_moment_of_now_that_an_event_sets_passes_by_itself() {
    let plan = plan(property("trial_ends > now()"), Members::Known);
    let ends = |at: i64| Some(Value::Timestamp(START + at));
    let messages = [(0, "x", None), (5, "a", ends(40)), (20, "b", ends(30)), (30, "c", None)];
    assert_eq!(run(&plan, Some("free"), vec![partition(&plan, &messages)], None), ["5 +a u trait", "30 -a u expiry"]);
}

#[test]
fn an_event_comes_before_a_trait_as_a_reason() {
    let mut job = job(&[("a", "users", any([pro(), performed("identified", at_least(1), 10_000)]))]);
    set_live(&mut job, "users", &["plan"]);
    let plan = compile(&job, "job.yaml", &Schemas::new()).expect("a sound job");
    let messages = [(0, "x", None), (5, "a", text("pro"))];
    let found = run(&plan, Some("free"), vec![partition(&plan, &messages)], None);
    assert_eq!(found, ["0 +a u event"], "`x` is an event of `u` too");
}
