//! What events that are missing could change: whether a condition whose window is not filled can be relied on (SPEC §6).

use crate::plan::{Expr, FactIx, FactKind, Plan};
use usher_config::{Aggregate, Comparison, Decimal};

/// What events that are missing could have done to the truth of a condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MissingEvents {
    /// Where the condition is true: with them it could be false.
    pub makes_true: bool,
    /// Where it is false: with them it could be true.
    pub makes_false: bool,
}

impl MissingEvents {
    /// Returns whether the truth that a condition has could come from missing events.
    pub fn makes(self, truth: bool) -> bool {
        if truth { self.makes_true } else { self.makes_false }
    }
}

/// Returns what missing events could do to a fact of a model, for both of its truths.
///
/// Where rows count by their own key, events that are missing of a row may let it count or not, as they turn what decides that. Rows that only
/// begin to count do to an aggregate what more events do; rows that cease to count do the reverse, but where none counts `avg`, `min` and `max`
/// are null, for which no bound holds.
pub fn missing_events(plan: &Plan, model: usize, fact: FactIx) -> MissingEvents {
    let kind = &plan.models[model].facts[fact as usize].kind;
    let FactKind::Tallied { model: child, aggregate, comparison, .. } = kind else {
        return could_come_from_missing_events(plan, kind);
    };
    let counts = &plan.contribution(*child as usize, fact).counts;
    let rows = in_rows(plan, *child as usize, counts);
    let (begin, cease) = (rows.makes_false, rows.makes_true);
    let bounds = Bounds::of(comparison);
    let rises = |Bounds { lower, upper }| MissingEvents {
        makes_true: begin && upper || cease && lower,
        makes_false: begin && lower || cease && upper,
    };
    match aggregate {
        Aggregate::Count | Aggregate::Distinct(_) => rises(Bounds::of_non_negative(comparison)),
        Aggregate::Sum(column) if excludes_negative_numbers(plan, *child as usize, counts, column) => {
            rises(Bounds::of_non_negative(comparison))
        }
        Aggregate::Sum(_) | Aggregate::Avg(_) => {
            MissingEvents { makes_true: begin || cease, makes_false: begin || cease }
        }
        Aggregate::Max(_) => {
            MissingEvents { makes_true: begin && bounds.upper || cease, makes_false: begin || cease && bounds.upper }
        }
        Aggregate::Min(_) => {
            MissingEvents { makes_true: begin && bounds.lower || cease, makes_false: begin || cease && bounds.lower }
        }
    }
}

/// Returns whether no row of a model for which an expression over its facts holds has a negative number in a column.
fn excludes_negative_numbers(plan: &Plan, model: usize, counts: &Expr, column: &str) -> bool {
    match counts {
        Expr::All(parts) => parts.iter().any(|part| excludes_negative_numbers(plan, model, part, column)),
        Expr::Fact(fact) => match &plan.models[model].facts[*fact as usize].kind {
            FactKind::Property(predicate) => predicate.excludes_negative_numbers(column),
            _ => false,
        },
        Expr::Any(_) | Expr::Not(_) | Expr::Audience(_) => false,
    }
}

/// Returns what missing events could do to an expression over the facts of a model, for both of its truths.
fn in_rows(plan: &Plan, model: usize, expr: &Expr) -> MissingEvents {
    match expr {
        Expr::All(parts) | Expr::Any(parts) => {
            let parts = parts.iter().map(|part| in_rows(plan, model, part));
            parts.fold(MissingEvents::default(), |one, other| MissingEvents {
                makes_true: one.makes_true || other.makes_true,
                makes_false: one.makes_false || other.makes_false,
            })
        }
        Expr::Not(part) => {
            let MissingEvents { makes_true, makes_false } = in_rows(plan, model, part);
            MissingEvents { makes_true: makes_false, makes_false: makes_true }
        }
        Expr::Fact(fact) => missing_events(plan, model, *fact),
        Expr::Audience(_) => panic!("audiences are inlined"),
    }
}

/// Which bounds a comparison has.
#[derive(Clone, Copy)]
struct Bounds {
    lower: bool,
    upper: bool,
}

impl Bounds {
    fn of(comparison: &Comparison) -> Bounds {
        match comparison {
            Comparison::AtLeast(_) | Comparison::MoreThan(_) => Bounds { lower: true, upper: false },
            Comparison::AtMost(_) | Comparison::LessThan(_) => Bounds { lower: false, upper: true },
            Comparison::Exactly(_) | Comparison::Between(..) => Bounds { lower: true, upper: true },
        }
    }

    /// Returns the bounds of what is never negative: a lower one at 0 or below it is none.
    fn of_non_negative(comparison: &Comparison) -> Bounds {
        let zero = Decimal::from(0);
        let is_met_by_all = match comparison {
            Comparison::AtLeast(least) | Comparison::Exactly(least) | Comparison::Between(least, _) => *least <= zero,
            Comparison::MoreThan(least) => *least < zero,
            Comparison::AtMost(_) | Comparison::LessThan(_) => true,
        };
        Bounds { lower: !is_met_by_all, ..Bounds::of(comparison) }
    }
}

/// Returns what missing events could do to a condition of `plan`, for both of its truths.
///
/// More events only raise a count, a number of distinct values and a sum of what can't be negative: they never fall below a lower
/// bound again, nor below an upper one that they have passed. A `max` never falls and a `min` never rises, but of no event they are
/// null, for which no bound holds. More events only add to the chains of a sequence without exclusions; a missing event may be excluded
/// in a chain that was seen. Any other sum, and an `avg`, may go either way. A condition without a window has no missing events.
fn could_come_from_missing_events(plan: &Plan, condition: &FactKind) -> MissingEvents {
    let only_rises = |Bounds { lower, upper }| MissingEvents { makes_true: upper, makes_false: lower };
    match condition {
        FactKind::Performed { least, most, .. } => only_rises(Bounds { lower: *least > 0, upper: most.is_some() }),
        FactKind::Aggregated { event, filter, aggregate, comparison, .. } => {
            let bounds = Bounds::of(comparison);
            let rises = plan.events[*event as usize].sum_only_rises(*filter, aggregate);
            match aggregate {
                Aggregate::Count | Aggregate::Distinct(_) => only_rises(Bounds::of_non_negative(comparison)),
                Aggregate::Sum(_) if rises => only_rises(Bounds::of_non_negative(comparison)),
                Aggregate::Sum(_) | Aggregate::Avg(_) => MissingEvents { makes_true: true, makes_false: true },
                Aggregate::Max(_) => MissingEvents { makes_true: bounds.upper, makes_false: true },
                Aggregate::Min(_) => MissingEvents { makes_true: bounds.lower, makes_false: true },
            }
        }
        FactKind::Sequence { without, .. } => MissingEvents { makes_true: !without.is_empty(), makes_false: true },
        FactKind::Known | FactKind::Property(_) | FactKind::Related { .. } | FactKind::Tallied { .. } => {
            MissingEvents::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::{Contribution, Summary};
    use crate::compile::{Schemas, compile};
    use crate::testing::fixtures::{job, performed, performed_of, related, text};
    use usher_config::{Condition, ConditionKind};

    /// By trying it: whatever was seen, and whatever more there was.
    #[test]
    fn a_truth_could_come_from_missing_events_if_some_more_of_them_change_it() {
        let plan = compile(&job(&[]), "job.yaml", &Schemas::new()).expect("a sound job");
        for least in 0..4u64 {
            for most in [None, Some(0), Some(1), Some(2), Some(3)] {
                let condition = FactKind::Performed { event: 0, filter: 0, within: 1_000, least, most };
                let holds = |count: u64| least <= count && most.is_none_or(|most| count <= most);
                let changes = |truth: bool| {
                    let seen = (0..8).filter(|seen| holds(*seen) == truth);
                    seen.into_iter().any(|seen| (seen..16).any(|all| holds(all) != truth))
                };
                let found = could_come_from_missing_events(&plan, &condition);
                // Where no count holds nothing changes; to hold back for it harms nobody.
                if most.is_none_or(|most| most >= least) {
                    assert_eq!(
                        (found.makes(true), found.makes(false)),
                        (changes(true), changes(false)),
                        "{condition:?}"
                    );
                }
            }
        }
        let none = could_come_from_missing_events(&plan, &FactKind::Known);
        assert_eq!((none.makes(true), none.makes(false)), (false, false));
    }

    /// Returns whether an aggregate of `values` meets a comparison.
    fn meets(aggregate: &Aggregate, comparison: &Comparison, values: &[f64]) -> bool {
        let mut summary = Summary::new(aggregate);
        values.iter().for_each(|value| summary.add(Contribution::of(aggregate, &crate::Value::Number(*value))));
        summary.holds(comparison)
    }

    /// Returns a condition of events that fulfil a predicate.
    fn of_events(predicate: &str, mut condition: Condition) -> Condition {
        let ConditionKind::Performed { filter, .. } = &mut condition.kind else { panic!("it is about events") };
        *filter = Some(text(predicate));
        condition
    }

    /// Returns all lists of up to three of some values.
    fn lists(of: &[f64]) -> Vec<Vec<f64>> {
        let mut lists = vec![Vec::new()];
        for from in 0..3 {
            let longest: Vec<Vec<f64>> = lists.iter().filter(|list: &&Vec<f64>| list.len() == from).cloned().collect();
            lists.extend(longest.iter().flat_map(|list| of.iter().map(|value| [&list[..], &[*value]].concat())));
        }
        lists
    }

    /// Returns the aggregates of a column.
    fn aggregates(column: &str) -> Vec<Aggregate> {
        let of = [Aggregate::Sum, Aggregate::Avg, Aggregate::Min, Aggregate::Max, Aggregate::Distinct];
        of.map(|aggregate: fn(String) -> Aggregate| aggregate(column.to_string())).to_vec()
    }

    /// Of the values that the events of a condition can have.
    #[test]
    fn an_aggregate_could_come_from_missing_events_if_some_more_of_them_change_it() {
        let aggregates = aggregates("revenue");
        let number = |n: i64| Decimal::from(n);
        // Bounds that some values meet and some do not.
        let comparisons = [
            Comparison::AtLeast(number(2)),
            Comparison::MoreThan(number(1)),
            Comparison::AtMost(number(1)),
            Comparison::LessThan(number(2)),
            Comparison::Exactly(number(1)),
            Comparison::Between(number(1), number(2)),
        ];
        let filters: [(&str, &[f64]); 6] = [
            ("revenue is not null", &[-2.0, 0.0, 1.0, 3.0]),
            ("revenue >= 0", &[0.0, 1.0, 3.0]),
            ("0 < revenue and revenue <> 5", &[0.5, 1.0, 3.0]),
            ("revenue between 0 and 5 or revenue in (7, 9)", &[0.0, 1.0, 3.0, 7.0]),
            ("revenue > -1", &[-0.5, 0.0, 1.0, 3.0]),
            ("revenue >= 0 or revenue < -1", &[-2.0, 0.0, 1.0, 3.0]),
        ];
        let mut certain = 0;
        for aggregate in &aggregates {
            for comparison in &comparisons {
                for (filter, values) in filters {
                    let condition = of_events(filter, performed_of("ordered", aggregate.clone(), *comparison, 1_000));
                    let plan = compile(&job(&[("a", "users", condition)]), "job.yaml", &Schemas::new());
                    let plan = plan.expect("a sound job");
                    let facts = plan.models.iter().flat_map(|model| &model.facts);
                    let fact = facts.into_iter().find(|fact| fact.kind.window().is_some()).expect("the condition");
                    let found = could_come_from_missing_events(&plan, &fact.kind);
                    let lists = lists(values);
                    let changes = |truth: bool| {
                        lists.iter().filter(|seen| meets(aggregate, comparison, seen) == truth).any(|seen| {
                            let more = |more: &Vec<f64>| [&seen[..], more].concat();
                            lists.iter().any(|list| meets(aggregate, comparison, &more(list)) != truth)
                        })
                    };
                    for truth in [true, false] {
                        let (changes, found) = (changes(truth), found.makes(truth));
                        assert!(found || !changes, "{aggregate:?} {comparison:?} {filter}: {truth} can change");
                        certain += u32::from(!found);
                    }
                    // What an average of values that are bounded can't come to is not worked out.
                    if !matches!(aggregate, Aggregate::Avg(_)) {
                        assert_eq!(found.makes(true), changes(true), "{aggregate:?} {comparison:?} {filter}");
                    }
                }
            }
        }
        assert!(certain > 40, "{certain} truths are certain");
    }

    /// Of rows that may begin or cease to count with events that are missing, as the condition of their own key allows.
    #[test]
    fn an_aggregate_of_rows_could_come_from_missing_events_if_rows_that_turn_change_it() {
        let aggregates = [vec![Aggregate::Count], aggregates("amount")].concat();
        let number = |n: i64| Decimal::from(n);
        let comparisons = [
            Comparison::AtLeast(number(2)),
            Comparison::LessThan(number(2)),
            Comparison::Exactly(number(1)),
            Comparison::Between(number(1), number(2)),
            Comparison::Between(number(0), number(1)),
        ];
        let filters: [(&str, &[f64]); 2] =
            [("amount is not null", &[-2.0, 0.0, 1.0, 3.0]), ("amount >= 0", &[0.0, 1.0, 3.0])];
        // A condition of an order's own events, and whether missing ones make it begin and cease to count.
        let of_orders = [
            (Comparison::AtLeast(number(1)), true, false),
            (Comparison::AtMost(number(0)), false, true),
            (Comparison::Exactly(number(1)), true, true),
        ];
        for (aggregate, comparison) in aggregates.iter().flat_map(|one| comparisons.iter().map(move |of| (one, of))) {
            for (filter, values) in filters {
                for (own, begins, ceases) in of_orders {
                    let mut condition = related(Some(filter), aggregate.clone(), *comparison);
                    let ConditionKind::Related { whose, .. } = &mut condition.kind else { panic!("it is about rows") };
                    *whose = Some(Box::new(performed("paid", own, 1_000)));
                    let mut job = job(&[("a", "users", condition)]);
                    let paid = usher_config::Event { model: "orders".to_string(), ..job.events["visited"].clone() };
                    job.events.insert("paid".to_string(), paid);
                    let plan = compile(&job, "job.yaml", &Schemas::new()).expect("a sound job");
                    let users = plan.models.iter().position(|model| model.id == "users").expect("it is there");
                    // A comparison may be stored as the reverse of another's fact.
                    let found = in_rows(&plan, users, &plan.models[users].audiences[0].expr);
                    // Of each row, whether it counts now, and whether with all events.
                    let turns = |now: bool| if now && ceases || !now && begins { vec![now, !now] } else { vec![now] };
                    let rows: Vec<(f64, bool, bool)> = (values.iter())
                        .flat_map(|value| [false, true].map(|now| (*value, now)))
                        .flat_map(|(value, now)| turns(now).into_iter().map(move |then| (value, now, then)))
                        .collect();
                    let (mut changes, mut combined) = ([false; 2], vec![Vec::new()]);
                    for _ in 0..3 {
                        let longer =
                            |list: &Vec<_>| rows.iter().map(|row| [&list[..], &[*row]].concat()).collect::<Vec<_>>();
                        combined = combined.iter().flat_map(longer).collect();
                        for list in &combined {
                            let counted = |then: bool| {
                                let rows = list.iter().filter(|(_, now, later)| if then { *later } else { *now });
                                meets(aggregate, comparison, &rows.map(|row| row.0).collect::<Vec<f64>>())
                            };
                            let (now, then) = (counted(false), counted(true));
                            changes[usize::from(now)] |= now != then;
                        }
                    }
                    for truth in [true, false] {
                        let what = format!("{aggregate:?} {comparison:?} {filter}, {own:?}, {truth}");
                        let changes = changes[usize::from(truth)];
                        assert!(found.makes(truth) || !changes, "{what}: it can change");
                        // What an average, or a minimum of values that are bounded, can't come to is not worked out.
                        let is_known = match aggregate {
                            Aggregate::Avg(_) => false,
                            Aggregate::Min(_) => {
                                !matches!(comparison, Comparison::Between(least, _) if *least == number(0))
                            }
                            Aggregate::Count | Aggregate::Sum(_) | Aggregate::Max(_) | Aggregate::Distinct(_) => true,
                        };
                        assert!(!is_known || changes == found.makes(truth), "{what}: it can't change");
                    }
                }
            }
        }
    }
}
