//! The rules of SPEC as histories with their changes; and the oracle against a cruder one.

use super::{Flags, Message, Partition, Row, changes, clock, dated, members, members_since};
use crate::plan::Plan;
use crate::testing::fixtures::*;
use crate::{Schemas, Value, compile};
use std::collections::BTreeMap;
use usher_config::{Aggregate, Comparison, Condition, Decimal};

const FLAGS: Flags = Flags { from: None, until: None, now: i64::MAX };

fn plan_of(audiences: &[(&str, &str, Condition)]) -> Plan {
    compile(&job(audiences), "job.yaml", &Schemas::new()).expect("a sound job")
}

/// Returns the changes of one partition of `web` over users u (ltv 500) and v (ltv 10).
fn replay(audiences: &[(&str, &str, Condition)], messages: &[(i64, &str, &str, &str)], flags: Flags) -> Vec<String> {
    let plan = plan_of(audiences);
    let history = history(vec![partition(&plan, messages)], &[("u", 500.0), ("v", 10.0)]);
    lines(&changes(&plan, &history, flags))
}

fn until(until: i64) -> Flags {
    Flags { until: Some(until), ..FLAGS }
}

#[test]
fn the_third_event_enters_and_the_exit_is_at_the_oldest_plus_the_window() {
    let keen = [("keen", "users", performed("priced", at_least(3), 4 * HOUR))];
    let views = [(0, "priced", "u", "a"), (HOUR, "priced", "u", "b"), (2 * HOUR, "priced", "u", "c")];
    let expected = [format!("{} +keen u event", 2 * HOUR), format!("{} -keen u expiry", 4 * HOUR)];
    assert_eq!(replay(&keen, &views, until(10 * HOUR)), expected);
    assert_eq!(replay(&keen, &views, until(4 * HOUR)), expected, "`until` is inclusive");
    assert_eq!(replay(&keen, &views, until(4 * HOUR - 1)), expected[..1]);
    assert_eq!(replay(&keen, &views, FLAGS), expected[..1], "the clock stops at the greatest timestamp");
}

/// Returns the changes of `rich`: an aggregate of the revenue of orders of u in the last hour.
fn revenue(
    aggregate: fn(String) -> Aggregate,
    comparison: Comparison,
    orders: &[(i64, &str, Value<'static>)],
) -> Vec<String> {
    let rich = performed_of("ordered", aggregate("revenue".to_string()), comparison, HOUR);
    let plan = plan_of(&[("rich", "users", rich)]);
    let event = plan.events.iter().position(|event| event.id == "ordered").expect("an event of the job");
    let column = plan.events[event].columns.iter().position(|column| column.name == "revenue").expect("it is read");
    let messages: Vec<_> = orders.iter().map(|(at, id, _)| (*at, "ordered", "u", *id)).collect();
    let mut partition = partition(&plan, &messages);
    for (message, (.., value)) in partition.messages.iter_mut().zip(orders) {
        let occurrence = message.occurrences.iter_mut().find(|occurrence| occurrence.event as usize == event);
        occurrence.expect("an order").values[column] = value.clone();
    }
    lines(&changes(&plan, &history(vec![partition], &[("u", 500.0)]), until(5 * HOUR)))
}

fn at_least_decimal(text: &str) -> Comparison {
    Comparison::AtLeast(Decimal::parse(text).expect("a decimal"))
}

#[test]
fn a_sum_holds_until_the_oldest_of_its_events_ages_out() {
    let tenths = |at, id| (at, id, Value::Number(0.1));
    let orders = [tenths(0, "a"), tenths(MINUTE, "b"), tenths(2 * MINUTE, "c"), (3 * MINUTE, "d", Value::Null)];
    let expected = [format!("{} +rich u event", 2 * MINUTE), format!("{HOUR} -rich u expiry")];
    assert_eq!(revenue(Aggregate::Sum, at_least_decimal("0.3"), &orders), expected, "tenths add up exactly");
    assert_eq!(revenue(Aggregate::Sum, at_least_decimal("0.300000001"), &orders), [""; 0]);
    let repeated = [tenths(0, "a"), tenths(MINUTE, "a"), tenths(2 * MINUTE, "c")];
    assert_eq!(revenue(Aggregate::Sum, at_least_decimal("0.3"), &repeated), [""; 0], "a repeat adds nothing");
}

#[test]
fn an_average_rises_when_a_small_value_ages_out() {
    let orders = [(0, "a", Value::Number(1.0)), (MINUTE, "b", Value::Number(4.0))];
    let expected = [format!("{HOUR} +rich u expiry"), format!("{} -rich u expiry", HOUR + MINUTE)];
    assert_eq!(revenue(Aggregate::Avg, at_least_decimal("4"), &orders), expected);
}

#[test]
fn extreme_values_age_out_and_none_of_nothing_is_compared() {
    let orders = [(0, "a", Value::Number(9.0)), (MINUTE, "b", Value::Number(2.0))];
    let expected = ["0 +rich u event".to_string(), format!("{HOUR} -rich u expiry")];
    assert_eq!(revenue(Aggregate::Max, at_least_decimal("9"), &orders), expected);
    let least = ["0 +rich u event".to_string(), format!("{MINUTE} -rich u event")];
    assert_eq!(revenue(Aggregate::Min, at_least_decimal("9"), &orders), least);
    assert_eq!(revenue(Aggregate::Max, at_least_decimal("0"), &[(0, "a", Value::Null)]), [""; 0]);
}

#[test]
fn distinct_values_count_once_however_often_they_come() {
    let order = |at, id, value| (at, id, Value::Number(value));
    let orders = [order(0, "a", 1.0), order(MINUTE, "b", 1.0), order(2 * MINUTE, "c", 2.0)];
    let expected = [format!("{} +rich u event", 2 * MINUTE), format!("{} -rich u expiry", HOUR + MINUTE)];
    assert_eq!(revenue(Aggregate::Distinct, at_least(2), &orders), expected);
}

#[test]
fn an_order_suppresses_until_its_window_ends() {
    let audiences = [(
        "browsing",
        "users",
        all([performed("priced", at_least(1), HOUR), not(performed("ordered", at_least(1), 5 * MINUTE))]),
    )];
    let messages = [(0, "priced", "u", "a"), (MINUTE, "ordered", "u", "b")];
    let expected = [
        "0 +browsing u event".to_string(),
        format!("{MINUTE} -browsing u event"),
        format!("{} +browsing u expiry", 6 * MINUTE),
        format!("{HOUR} -browsing u expiry"),
    ];
    assert_eq!(replay(&audiences, &messages, until(2 * HOUR)), expected);
}

#[test]
fn leaving_and_entering_at_the_same_ms_is_no_change() {
    let keen = [("keen", "users", performed("priced", at_least(1), MINUTE))];
    let messages = [(0, "priced", "u", "a"), (MINUTE, "priced", "u", "b")];
    assert_eq!(
        replay(&keen, &messages, until(HOUR)),
        ["0 +keen u event".to_string(), format!("{} -keen u expiry", 2 * MINUTE)]
    );
    let late = [(0, "priced", "u", "a"), (MINUTE + 1, "priced", "u", "b")];
    assert_eq!(
        replay(&keen, &late, until(MINUTE + 1)),
        ["0 +keen u event".to_string(), format!("{MINUTE} -keen u expiry"), format!("{} +keen u event", MINUTE + 1)]
    );
}

#[test]
fn what_the_snapshot_and_an_empty_history_make_true_enters_when_the_clock_starts() {
    let audiences = [
        ("everyone", "users", all([])),
        ("idle", "users", performed("priced", at_most(0), MINUTE)),
        ("never", "users", any([])),
    ];
    let messages = [(100, "-", "", ""), (200, "priced", "u", "a")];
    let expected = [
        "100 +everyone u snapshot",
        "100 +everyone v snapshot",
        "100 +idle u snapshot",
        "100 +idle v snapshot",
        "200 -idle u event",
    ];
    assert_eq!(replay(&audiences, &messages, FLAGS), expected);
}

#[test]
fn input_without_any_timestamp_gives_no_change() {
    let everyone = [("everyone", "users", all([]))];
    assert_eq!(replay(&everyone, &[], until(HOUR)), [""; 0]);
    let future = Flags { now: 0, ..FLAGS };
    assert_eq!(
        replay(&everyone, &[(5 * MINUTE + 1, "priced", "u", "a")], future),
        [""; 0],
        "dropped, it moves no clock"
    );
    assert_eq!(replay(&everyone, &[(5 * MINUTE, "priced", "u", "a")], future).len(), 2);
}

#[test]
fn from_makes_what_came_before_history() {
    let keen = [("keen", "users", performed("priced", at_least(2), HOUR))];
    let messages = [
        (0, "priced", "u", "a"),
        (MINUTE, "priced", "u", "b"),
        (2 * MINUTE, "priced", "v", "c"),
        (9 * MINUTE, "priced", "v", "d"),
    ];
    let flags = Flags { from: Some(5 * MINUTE), until: Some(HOUR), now: i64::MAX };
    assert_eq!(
        replay(&keen, &messages, flags),
        [
            format!("{} +keen u event", 5 * MINUTE),
            format!("{} +keen v event", 9 * MINUTE),
            format!("{HOUR} -keen u expiry")
        ]
    );
    let after = Flags { from: Some(30 * MINUTE), ..FLAGS };
    assert_eq!(replay(&keen, &messages, after).len(), 2, "beyond the end of input, what holds enters at `from`");
}

#[test]
fn a_late_event_takes_effect_at_its_partitions_clock_and_counts_for_what_is_left() {
    let keen = [("keen", "users", performed("priced", at_least(1), MINUTE))];
    let messages = [(90 * SECOND, "-", "", ""), (40 * SECOND, "priced", "u", "a"), (30 * SECOND, "priced", "v", "b")];
    assert_eq!(
        replay(&keen, &messages, until(HOUR)),
        [format!("{} +keen u event", 90 * SECOND), format!("{} -keen u expiry", 100 * SECOND)],
        "v's window had ended when it took effect"
    );
}

#[test]
fn a_repeat_changes_nothing_while_the_event_is_held_whatever_its_timestamp() {
    let twice = [("twice", "users", performed("priced", at_least(2), MINUTE))];
    let held = [(0, "priced", "u", "a"), (30 * SECOND, "priced", "u", "a"), (59_999, "priced", "u", "b")];
    assert_eq!(
        replay(&twice, &held, until(HOUR)),
        ["59999 +twice u event".to_string(), "60000 -twice u expiry".into()]
    );
    let released = [(0, "priced", "u", "a"), (60 * SECOND, "priced", "u", "a"), (61 * SECOND, "priced", "u", "b")];
    assert_eq!(
        replay(&twice, &released, until(HOUR)),
        ["61000 +twice u event".to_string(), "120000 -twice u expiry".into()],
        "its window ended at 60 s, so the same id counts anew then"
    );
}

#[test]
fn an_event_that_newer_ones_made_irrelevant_is_forgotten() {
    // One event decides `at_least: 1`: b releases a, and a's repeat with a newer timestamp then releases b.
    let once = [("once", "users", performed("priced", at_least(1), MINUTE))];
    let messages = [(0, "priced", "u", "a"), (SECOND, "priced", "u", "b"), (2 * SECOND, "priced", "u", "a")];
    assert_eq!(replay(&once, &messages, until(HOUR)), ["0 +once u event".to_string(), "62000 -once u expiry".into()]);
}

#[test]
fn a_range_is_left_at_both_ends_and_the_last_flip_gives_the_reason() {
    let some = [("some", "users", performed("priced", between(1, 2), MINUTE))];
    let messages = [
        (0, "priced", "u", "a"),
        (1, "priced", "u", "b"),
        (2, "priced", "u", "c"),
        // At 60,002 the last of the first three has gone, and three others come: in range on the way, out of it after.
        (60_001, "-", "", ""),
        (60_002, "priced", "u", "d"),
        (60_002, "priced", "u", "e"),
        (60_002, "priced", "u", "f"),
    ];
    let expected = ["0 +some u event", "2 -some u event", "60000 +some u expiry", "60002 -some u event"];
    assert_eq!(replay(&some, &messages, FLAGS), expected);
}

#[test]
fn a_change_of_an_audience_has_the_causes_of_those_it_mentions() {
    let audiences =
        [("base", "users", performed("priced", at_least(1), MINUTE)), ("rest", "users", not(audience("base")))];
    let messages = [(0, "-", "", ""), (SECOND, "priced", "u", "a")];
    assert_eq!(
        replay(&audiences, &messages, until(HOUR)),
        [
            "0 +rest u snapshot",
            "0 +rest v snapshot",
            "1000 +base u event",
            "1000 -rest u event",
            "61000 -base u expiry",
            "61000 +rest u expiry"
        ]
    );
}

#[test]
fn keys_outside_the_snapshot_are_members_only_where_anyone_may_be() {
    let audiences = [
        ("buyers", "users", performed("ordered", at_least(1), MINUTE)),
        ("guests", "visitors", performed("visited", at_least(1), MINUTE)),
    ];
    let messages = [(0, "ordered", "stranger", "a"), (1, "visited", "stranger", "b")];
    assert_eq!(replay(&audiences, &messages, FLAGS), ["1 +guests stranger event"]);
}

#[test]
fn partitions_keep_their_own_clocks() {
    let keen = [("keen", "users", performed("priced", at_least(2), MINUTE))];
    let plan = plan_of(&keen);
    let fast = partition(&plan, &[(0, "priced", "u", "a"), (100 * SECOND, "-", "", "")]);
    let slow = partition(&plan, &[(10 * SECOND, "-", "", ""), (5 * SECOND, "priced", "u", "b")]);
    let history = history(vec![fast, slow], &[("u", 1.0)]);
    assert_eq!(lines(&changes(&plan, &history, FLAGS)), ["10000 +keen u event", "60000 -keen u expiry"]);
}

#[test]
fn three_views_of_the_pricing_page_and_a_high_lifetime_value() {
    let views = performed_where("priced", "path = '/pricing'", at_least(3), 4 * HOUR);
    let plan = plan_of(&[("high_intent", "users", all([views, property("ltv > 300")]))]);
    let mut messages = Vec::new();
    for (ix, key) in ["u", "v", "u", "v", "u", "v", "u"].into_iter().enumerate() {
        messages.push((ix as i64 * MINUTE, "priced", key, ["a", "b", "c", "d", "e", "f", "g"][ix]));
    }
    let mut views = partition(&plan, &messages);
    for (ix, message) in views.messages.iter_mut().enumerate() {
        let path = if ix == 2 { "/about" } else { "/pricing" };
        message.occurrences[0].values = vec![Value::String(path.into())];
    }
    let history = history(vec![views], &[("u", 300.5), ("v", 300.0)]);
    assert_eq!(
        lines(&changes(&plan, &history, until(5 * HOUR))),
        [format!("{} +high_intent u event", 6 * MINUTE), format!("{} -high_intent u expiry", 4 * HOUR)],
        "the view of another page does not count, nor does v's value"
    );
}

#[test]
fn a_now_predicate_flips_by_itself_to_the_ms() {
    let orders = |predicate| related(Some(predicate), Aggregate::Count, at_least(1));
    let plan = plan_of(&[
        ("overdue", "users", orders("due < now() - interval '1 second'")),
        ("trial", "users", property("trial_ends > now()")),
    ]);
    let mut history = history(vec![partition(&plan, &[(100, "-", "", "")])], &[("u", 0.0), ("v", 0.0)]);
    let time = |at| Value::Timestamp(at);
    history.rows.get_mut("users").expect("users")[0].values.insert("trial_ends".to_string(), time(5_000));
    history.rows.insert(
        "orders".to_string(),
        vec![Row {
            key: "o".to_string(),
            values: BTreeMap::from([("due".to_string(), time(2_000))]),
            foreign_key: Some("v".to_string()),
        }],
    );
    assert_eq!(
        lines(&changes(&plan, &history, until(HOUR))),
        ["100 +trial u snapshot", "3001 +overdue v expiry", "5000 -trial u expiry"]
    );
}

#[test]
fn related_rows_are_added_up_by_foreign_key() {
    let sum = |n| related(None, Aggregate::Sum("amount".into()), Comparison::AtLeast(Decimal::from(n)));
    let audiences = [
        ("one", "users", sum(1)),
        ("two", "users", sum(2)),
        (
            "average",
            "users",
            related(
                None,
                Aggregate::Avg("amount".into()),
                Comparison::Exactly(Decimal::parse("0.1").expect("a decimal")),
            ),
        ),
        ("none", "users", related(None, Aggregate::Count, exactly(0))),
    ];
    let plan = plan_of(&audiences);
    let mut history = history(vec![partition(&plan, &[(0, "-", "", "")])], &[("u", 0.0), ("v", 0.0)]);
    let order = |n: usize| Row {
        key: n.to_string(),
        values: BTreeMap::from([("amount".to_string(), Value::Number(0.1))]),
        foreign_key: Some("u".to_string()),
    };
    history.rows.insert("orders".to_string(), (0..10).map(order).collect());
    assert_eq!(
        lines(&changes(&plan, &history, FLAGS)),
        ["0 +average u snapshot", "0 +none v snapshot", "0 +one u snapshot"]
    );
}

#[test]
fn billionths_round_half_even_from_the_shortest_decimal_form() {
    let billionths = |x: f64| super::billionths(&Value::Number(x)).map(|raw| raw.as_i128());
    assert_eq!(billionths(0.1), Some(100_000_000));
    assert_eq!(billionths(-1.5), Some(-1_500_000_000));
    assert_eq!(billionths(0.000_000_000_5), Some(0));
    assert_eq!(billionths(0.000_000_001_5), Some(2));
    assert_eq!(billionths(0.000_000_002_5), Some(2));
    assert_eq!(billionths(0.000_000_002_500_1), Some(3));
    assert_eq!(billionths(1e28), Some(10i128.pow(37)));
    assert_eq!(billionths(1.000_000_1e28), None);
    assert_eq!(billionths(1e300), None);
    assert_eq!(
        super::billionths(&Value::Integer(i64::MIN)).map(|raw| raw.as_i128()),
        Some(-(1i128 << 63) * 1_000_000_000)
    );
}

/// Without repeats, what is held and released makes no difference: counting all events in the window is enough.
#[test]
fn without_repeats_it_agrees_with_counting_at_each_ms() {
    let seed = 0x0dd_ba11;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut flips = 0;
    for round in 0..300 {
        let within = random.i64(1..12);
        let (least, most) = (random.i64(0..4), random.i64(0..4));
        let comparison = if random.bool() { at_least(least) } else { between(least, most) };
        let plan = plan_of(&[("a", "users", performed("priced", comparison, within))]);
        let mut id = 0;
        let partitions: Vec<Partition> = (0..random.usize(1..4))
            .map(|_| {
                let messages: Vec<(i64, String)> = (0..random.usize(0..12))
                    .map(|_| {
                        id += 1;
                        (random.i64(0..30), id.to_string())
                    })
                    .collect();
                let messages: Vec<_> = messages.iter().map(|(at, id)| (*at, "priced", "u", id.as_str())).collect();
                partition(&plan, &messages)
            })
            .collect();
        let history = history(partitions, &[("u", 0.0)]);
        let mut was = None;
        let mut expected = Vec::new();
        let dated = dated(&plan, &history, i64::MAX);
        let Some((start, end)) = clock(&plan, &history, until(50)) else {
            continue;
        };
        for now in start..=end {
            let in_window = |(at, timestamp, _): &&(i64, i64, &Message)| *at <= now && now < timestamp + within;
            let count = dated.iter().flatten().filter(in_window).count() as i64;
            let is = match comparison {
                Comparison::Between(..) => least <= count && count <= most,
                _ => least <= count,
            };
            if is != was.unwrap_or(false) {
                expected.push((now, is));
            }
            was = Some(is);
            assert_eq!(members(&plan, &history, i64::MAX, now).len() == 1, is, "seed {seed}, round {round}, at {now}");
        }
        flips += expected.len();
        let found: Vec<(i64, bool)> =
            changes(&plan, &history, until(50)).iter().map(|change| (change.at, change.entry)).collect();
        assert_eq!(found, expected, "seed {seed}, round {round}");
    }
    assert!(flips > 300, "the histories reach what they test: {flips} flips");
}

/// A condition over events of `u`, of some depth.
fn random_condition(random: &mut fastrand::Rng, depth: u32, earlier: usize) -> Condition {
    let some = |random: &mut fastrand::Rng| -> [Condition; 2] {
        [random_condition(random, depth + 1, earlier), random_condition(random, depth + 1, earlier)]
    };
    match random.u8(0..if depth > 2 { 3 } else { 6 }) {
        0 | 1 => {
            let (event, within) = (if random.bool() { "priced" } else { "ordered" }, random.i64(1..40));
            let least = random.i64(0..3);
            let comparison = match random.u8(0..3) {
                0 => at_least(least + 1),
                1 => at_most(least),
                _ => between(least, least + random.i64(0..2)),
            };
            performed(event, comparison, within)
        }
        2 if earlier > 0 => audience(&format!("a{}", random.usize(0..earlier))),
        2 => property("ltv > 100"),
        3 => not(random_condition(random, depth + 1, earlier)),
        4 => any(some(random)),
        _ => all(some(random)),
    }
}

#[test]
fn whoever_is_admitted_without_the_events_before_a_time_belongs_with_them_too() {
    let seed = 0x5113_e0ce;
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut admitted, mut held, mut complete) = (0, 0, 0);
    for round in 0..600 {
        let ids: Vec<String> = (0..random.usize(1..5)).map(|at| format!("a{at}")).collect();
        let audiences: Vec<(&str, &str, Condition)> =
            ids.iter().enumerate().map(|(at, id)| (&id[..], "users", random_condition(&mut random, 0, at))).collect();
        let plan = plan_of(&audiences);
        let mut messages: Vec<(i64, &str, String)> = (0..random.usize(0..14))
            .map(|id| (random.i64(0..60), if random.bool() { "priced" } else { "ordered" }, id.to_string()))
            .collect();
        messages.sort_by_key(|message| message.0);
        let of = |since: i64| {
            let kept = messages.iter().filter(|message| message.0 >= since);
            let kept: Vec<_> = kept.map(|(at, event, id)| (*at, *event, "u", &id[..])).collect();
            history(vec![partition(&plan, &kept)], &[("u", 500.0), ("v", 10.0)])
        };
        let since = random.i64(1..50);
        let (whole, rest) = (of(i64::MIN), of(since));
        for time in since..since + 50 {
            let all = members(&plan, &whole, i64::MAX, time);
            let found = members_since(&plan, &rest, i64::MAX, time, since);
            let seen = members(&plan, &rest, i64::MAX, time);
            let wrong: Vec<_> = found.difference(&all).collect();
            assert!(
                wrong.is_empty(),
                "seed {seed}, round {round}: {wrong:?} at {time} since {since}\n{audiences:?}\n{messages:?}"
            );
            admitted += found.len();
            held += seen.difference(&found).count();
            if time >= since + 40 {
                assert_eq!(found, all, "seed {seed}, round {round}: every window is complete at {time}");
                complete += 1;
            }
        }
    }
    assert!(admitted > 1_000 && held > 1_000 && complete > 1_000, "{admitted} admitted, {held} held, {complete}");
}

/// A sequence of `priced` and `ordered` in an hour, without these.
fn priced_then_ordered(without: &[&str]) -> [(&'static str, &'static str, Condition); 1] {
    [("seq", "users", sequence([step("priced", None, None), step("ordered", None, None)], without, HOUR))]
}

#[test]
fn a_sequence_enters_with_its_last_step_and_exits_when_its_first_event_leaves() {
    let messages = [(0, "ordered", "u", "a"), (MINUTE, "priced", "u", "b"), (2 * MINUTE, "ordered", "u", "c")];
    let expected = [format!("{} +seq u event", 2 * MINUTE), format!("{} -seq u expiry", HOUR + MINUTE)];
    assert_eq!(replay(&priced_then_ordered(&[]), &messages, until(2 * HOUR)), expected);
    let again = [&messages[..], &[(3 * MINUTE, "priced", "u", "d"), (4 * MINUTE, "ordered", "u", "e")]].concat();
    let expected = [format!("{} +seq u event", 2 * MINUTE), format!("{} -seq u expiry", HOUR + 3 * MINUTE)];
    assert_eq!(replay(&priced_then_ordered(&[]), &again, until(2 * HOUR)), expected, "a newer chain holds it longer");
}

#[test]
fn events_of_equal_timestamps_are_in_order_of_arrival_and_one_message_is_one_event() {
    let twice = [("seq", "users", sequence([step("priced", None, None), step("priced", None, None)], &[], HOUR))];
    assert_eq!(replay(&twice, &[(5, "priced", "u", "a"), (5, "priced", "u", "a")], FLAGS), [""; 0]);
    assert_eq!(replay(&twice, &[(5, "priced", "u", "a"), (5, "priced", "u", "b")], FLAGS), ["5 +seq u event"]);
    let order = [(5, "ordered", "u", "a"), (5, "priced", "u", "b")];
    assert_eq!(replay(&priced_then_ordered(&[]), &order, FLAGS), [""; 0], "the order arrived before the view");
}

#[test]
fn after_limits_how_much_later_a_step_is() {
    let soon = sequence([step("priced", None, None), step("ordered", None, Some(MINUTE))], &[], HOUR);
    let soon = [("seq", "users", soon)];
    let late = [(0, "priced", "u", "a"), (MINUTE + 1, "ordered", "u", "b")];
    assert_eq!(replay(&soon, &late, FLAGS), [""; 0]);
    let in_time = [(0, "priced", "u", "a"), (MINUTE, "ordered", "u", "b")];
    assert_eq!(replay(&soon, &in_time, FLAGS), [format!("{MINUTE} +seq u event")]);
}

#[test]
fn an_excluded_event_breaks_a_sequence_only_between_its_ends() {
    let three = sequence(
        [step("priced", None, None), step("ordered", None, None), step("priced", None, None)],
        &["priced"],
        HOUR,
    );
    let three = [("seq", "users", three)];
    let messages = [(0, "priced", "u", "a"), (1, "ordered", "u", "b"), (2, "priced", "u", "c")];
    assert_eq!(replay(&three, &messages, FLAGS), ["2 +seq u event"], "its ends are not in between");
    let broken =
        [&messages[..1], &[(1, "priced", "u", "x"), (1, "ordered", "u", "b"), (2, "priced", "u", "c")]].concat();
    let expected = ["2 +seq u event".to_string(), format!("{} -seq u expiry", HOUR + 1)];
    assert_eq!(replay(&three, &broken, until(2 * HOUR)), expected, "the chain from the one at 1 holds");
}

#[test]
fn a_late_excluded_event_breaks_a_chain_that_held_and_a_late_step_repairs_one() {
    let priced_twice =
        [("seq", "users", sequence([step("priced", None, None), step("priced", None, None)], &["ordered"], HOUR))];
    let broken = [(0, "priced", "u", "a"), (10, "priced", "u", "b"), (20, "-", "u", "t"), (5, "ordered", "u", "c")];
    assert_eq!(replay(&priced_twice, &broken, FLAGS), ["10 +seq u event", "20 -seq u event"]);
    let repaired = [&broken[..], &[(30, "-", "u", "t2"), (6, "priced", "u", "d")]].concat();
    let expected = [
        "10 +seq u event".into(),
        "20 -seq u event".into(),
        "30 +seq u event".into(),
        format!("{} -seq u expiry", HOUR + 6),
    ];
    assert_eq!(replay(&priced_twice, &repaired, until(2 * HOUR)), expected);
}
