//! Exact aggregates over the rows that belong to a key, and over its events in a window.
//!
//! A row is reduced to a [`Contribution`] where it is read, a few bytes that can be shipped; a [`Summary`] adds
//! contributions up where the key lives and is held against a threshold. Order never matters and nothing is rounded
//! on the way: sums are 256-bit integers of 10^-9, an average is compared as the sum against n × threshold, and
//! distinct values are counted by a 128-bit hash of their canonical bytes.
//!
//! Values without an order or sum are refused by a panic: [`crate::compile()`] lets no column of another type through.

use crate::Value;
use ethnum::I256;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use usher_config::{Aggregate, Comparison, Decimal};

/// The number of raw units in one: a [`Decimal`] is an integer number of 10^-9.
const ONE: i128 = 1_000_000_000;

/// What one row adds to an aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Contribution {
    /// The row itself: what `count` counts.
    Row,
    /// A number, in units of 10^-9: what `sum avg min max` take.
    Number(i128),
    /// The hash of a value: what `distinct` counts.
    Value(u128),
    /// A null, which every aggregate of a column skips.
    Null,
    /// A number beyond ±10^28: skipped as a null, and counted as a mismatch by the reader.
    OutOfRange,
}

impl Contribution {
    /// Returns what an event adds whose number is written as `text` in its message. A message's number counts as it is
    /// written, not as the double next to it.
    pub fn of_number(text: &str) -> Contribution {
        Decimal::parse(text).map_or(Contribution::OutOfRange, |number| Contribution::Number(number.raw()))
    }

    /// Returns what a row with `value` in the aggregate's column adds; `count` ignores the value.
    ///
    /// # Panics
    ///
    /// Panics if the aggregate can't take the value (a string to sum): `compile` has checked the column's type.
    pub fn of(aggregate: &Aggregate, value: &Value<'_>) -> Contribution {
        match aggregate {
            Aggregate::Count => Contribution::Row,
            _ if *value == Value::Null => Contribution::Null,
            Aggregate::Distinct(_) => Contribution::Value(hash(value)),
            Aggregate::Sum(_) | Aggregate::Avg(_) | Aggregate::Min(_) | Aggregate::Max(_) => {
                let number = match value {
                    Value::Integer(n) => Some(Decimal::from(*n)),
                    Value::Number(x) => Decimal::from_f64(*x),
                    other => panic!("`{other:?}` is no number, which compile should have found"),
                };
                number.map_or(Contribution::OutOfRange, |number| Contribution::Number(number.raw()))
            }
        }
    }
}

/// How a value bears on a compared `min` or `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearing {
    /// No other value makes it matter: below all that holds for a `max`, above it for a `min`.
    Nothing,
    /// The comparison holds if it is the extreme value.
    Holds,
    /// The comparison does not hold as long as it is there.
    Breaks,
}

/// Returns how a value in units of 10^-9 bears on a `min` or `max` that is compared.
///
/// So one value of each of two kinds decides: the comparison holds as long as there is one that `Holds` and none that `Breaks`.
///
/// # Panics
///
/// Panics if the aggregate is another one.
pub fn bearing(aggregate: &Aggregate, comparison: &Comparison, raw: i128) -> Bearing {
    if compare(I256::from(raw), 1, comparison) {
        return Bearing::Holds;
    }
    let breaks = match (aggregate, comparison) {
        (Aggregate::Max(_), Comparison::AtLeast(_) | Comparison::MoreThan(_))
        | (Aggregate::Min(_), Comparison::AtMost(_) | Comparison::LessThan(_)) => false,
        (Aggregate::Max(_), Comparison::AtMost(most) | Comparison::LessThan(most) | Comparison::Exactly(most))
        | (Aggregate::Max(_), Comparison::Between(_, most)) => raw >= most.raw(),
        (Aggregate::Min(_), Comparison::AtLeast(least) | Comparison::MoreThan(least) | Comparison::Exactly(least))
        | (Aggregate::Min(_), Comparison::Between(least, _)) => raw <= least.raw(),
        (other, _) => panic!("`{other:?}` has no extreme value"),
    };
    if breaks { Bearing::Breaks } else { Bearing::Nothing }
}

/// Returns the 128-bit hash of a value's canonical bytes. Equal values have equal bytes, 0.0 and -0.0 too.
fn hash(value: &Value<'_>) -> u128 {
    use xxhash_rust::xxh3::xxh3_128;
    match value {
        Value::String(s) => xxh3_128(s.as_bytes()),
        Value::Boolean(b) => xxh3_128(&[u8::from(*b)]),
        Value::Integer(n) => xxh3_128(&n.to_le_bytes()),
        Value::Number(x) => xxh3_128(&(x + 0.0).to_bits().to_le_bytes()),
        Value::Timestamp(ms) | Value::Date(ms) => xxh3_128(&ms.to_le_bytes()),
        Value::Null | Value::List(_) => {
            panic!("`{value:?}` is no scalar, which compile should have found")
        }
    }
}

/// The aggregate of the contributions added so far.
#[derive(Clone, Debug)]
pub struct Summary(Kept);

/// What each aggregate needs to keep.
#[derive(Clone, Debug)]
enum Kept {
    Count(u64),
    Sum(I256),
    Avg { sum: I256, count: u64 },
    Min(Option<i128>),
    Max(Option<i128>),
    Distinct(BTreeSet<u128>),
}

impl Summary {
    /// Returns the aggregate of nothing.
    pub fn new(aggregate: &Aggregate) -> Summary {
        Summary(match aggregate {
            Aggregate::Count => Kept::Count(0),
            Aggregate::Sum(_) => Kept::Sum(I256::ZERO),
            Aggregate::Avg(_) => Kept::Avg { sum: I256::ZERO, count: 0 },
            Aggregate::Min(_) => Kept::Min(None),
            Aggregate::Max(_) => Kept::Max(None),
            Aggregate::Distinct(_) => Kept::Distinct(BTreeSet::new()),
        })
    }

    /// Adds what a row contributes.
    ///
    /// # Panics
    ///
    /// Panics if the contribution was made for another aggregate.
    pub fn add(&mut self, contribution: Contribution) {
        if matches!(contribution, Contribution::Null | Contribution::OutOfRange) {
            return;
        }
        match (&mut self.0, contribution) {
            (Kept::Count(count), Contribution::Row) => *count += 1,
            // A contribution is below 2^124, so no number of rows that exist can overflow 2^255.
            (Kept::Sum(sum), Contribution::Number(raw)) => *sum += I256::from(raw),
            (Kept::Avg { sum, count }, Contribution::Number(raw)) => {
                *sum += I256::from(raw);
                *count += 1;
            }
            (Kept::Min(least), Contribution::Number(raw)) => *least = Some(least.map_or(raw, |least| least.min(raw))),
            (Kept::Max(most), Contribution::Number(raw)) => *most = Some(most.map_or(raw, |most| most.max(raw))),
            (Kept::Distinct(seen), Contribution::Value(hash)) => {
                seen.insert(hash);
            }
            (kept, contribution) => {
                panic!("`{contribution:?}` was made for another aggregate than `{kept:?}`")
            }
        }
    }

    /// Returns the count of so many rows, or of so many distinct values.
    pub fn of_count(count: u64) -> Summary {
        Summary(Kept::Count(count))
    }

    /// Takes back what was added to a count, a sum or an average.
    ///
    /// # Panics
    ///
    /// Panics if the aggregate is another one, or has not had the contribution.
    pub fn take_back(&mut self, contribution: Contribution) {
        match (&mut self.0, contribution) {
            (Kept::Count(count), Contribution::Row) => {
                *count = count.checked_sub(1).expect("only what was added is taken back");
            }
            (Kept::Sum(sum), Contribution::Number(raw)) => *sum -= I256::from(raw),
            (Kept::Avg { sum, count }, Contribution::Number(raw)) => {
                *sum -= I256::from(raw);
                *count = count.checked_sub(1).expect("only what was added is taken back");
            }
            (kept, contribution) => panic!("`{contribution:?}` can't be taken back from `{kept:?}`"),
        }
    }

    /// Returns the aggregate for people: a sum and an average with 9 fractional digits at most, the average rounded towards
    /// zero. `None` if it is null, or beyond ±10^28.
    pub fn shown(&self) -> Option<String> {
        let decimal =
            |raw: I256| i128::try_from(raw).ok().and_then(Decimal::from_raw).map(|decimal| decimal.to_string());
        match &self.0 {
            Kept::Count(count) => Some(count.to_string()),
            Kept::Sum(sum) => decimal(*sum),
            Kept::Avg { count: 0, .. } => None,
            Kept::Avg { sum, count } => decimal(*sum / I256::from(*count)),
            Kept::Min(raw) | Kept::Max(raw) => raw.and_then(|raw| decimal(I256::from(raw))),
            Kept::Distinct(seen) => Some(seen.len().to_string()),
        }
    }

    /// Returns whether a comparison holds for the aggregate. `avg`, `min` and `max` of nothing are null: none holds.
    pub fn holds(&self, comparison: &Comparison) -> bool {
        // The aggregate is `total / n`, and `n × threshold` is compared with `total`: exact for averages too.
        let (total, n) = match &self.0 {
            Kept::Count(count) => (I256::from(*count) * I256::from(ONE), 1),
            Kept::Sum(sum) => (*sum, 1),
            Kept::Avg { count: 0, .. } | Kept::Min(None) | Kept::Max(None) => return false,
            Kept::Avg { sum, count } => (*sum, *count),
            Kept::Min(Some(raw)) | Kept::Max(Some(raw)) => (I256::from(*raw), 1),
            Kept::Distinct(seen) => (I256::from(seen.len() as u64) * I256::from(ONE), 1),
        };
        compare(total, n, comparison)
    }
}

/// Returns whether a comparison holds for `total / n`.
fn compare(total: I256, n: u64, comparison: &Comparison) -> bool {
    let times = |threshold: &Decimal| I256::from(threshold.raw()) * I256::from(n);
    match comparison {
        Comparison::AtLeast(threshold) => total >= times(threshold),
        Comparison::AtMost(threshold) => total <= times(threshold),
        Comparison::MoreThan(threshold) => total > times(threshold),
        Comparison::LessThan(threshold) => total < times(threshold),
        Comparison::Exactly(threshold) => total == times(threshold),
        Comparison::Between(least, most) => times(least) <= total && total <= times(most),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    fn column() -> String {
        "c".to_string()
    }

    fn summary(aggregate: &Aggregate, values: &[Value<'_>]) -> Summary {
        let mut summary = Summary::new(aggregate);
        for value in values {
            summary.add(Contribution::of(aggregate, value));
        }
        summary
    }

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).expect("a decimal")
    }

    #[test]
    fn of_nothing_count_sum_and_distinct_are_0_and_the_others_are_null() {
        let zero = Comparison::Exactly(Decimal::from(0));
        let any = Comparison::AtLeast(decimal("-1000000000000"));
        for aggregate in [Aggregate::Count, Aggregate::Sum(column()), Aggregate::Distinct(column())] {
            assert!(Summary::new(&aggregate).holds(&zero), "{aggregate:?}");
        }
        for aggregate in [Aggregate::Avg(column()), Aggregate::Min(column()), Aggregate::Max(column())] {
            assert!(!Summary::new(&aggregate).holds(&any), "{aggregate:?}");
        }
    }

    #[test]
    fn an_aggregate_is_shown_as_a_decimal_and_null_as_nothing() {
        let shown = |aggregate: Aggregate, values: &[Value<'_>]| summary(&aggregate, values).shown();
        let values = [Value::Number(0.1), Value::Integer(1), Value::Null, Value::Integer(1)];
        let text = |text: &str| Some(text.to_string());
        assert_eq!(shown(Aggregate::Count, &values), text("4"));
        assert_eq!(shown(Aggregate::Sum(column()), &values), text("2.1"));
        assert_eq!(shown(Aggregate::Avg(column()), &values), text("0.7"));
        assert_eq!(
            shown(Aggregate::Avg(column()), &[Value::Integer(1), Value::Integer(1), Value::Integer(-3)]),
            text("-0.333333333")
        );
        assert_eq!(shown(Aggregate::Min(column()), &values), text("0.1"));
        assert_eq!(shown(Aggregate::Max(column()), &values), text("1"));
        assert_eq!(shown(Aggregate::Distinct(column()), &values[1..]), text("1"));
        assert_eq!(shown(Aggregate::Sum(column()), &[]), text("0"));
        for aggregate in [Aggregate::Avg(column()), Aggregate::Min(column()), Aggregate::Max(column())] {
            assert_eq!(shown(aggregate, &[Value::Null]), None);
        }
        assert_eq!(shown(Aggregate::Sum(column()), &vec![Value::Number(1e28); 2]), None, "beyond the range");
    }

    #[test]
    fn nulls_count_as_rows_and_as_nothing_else() {
        let values = [Value::Null, Value::Integer(4), Value::Null];
        let exactly = |n| Comparison::Exactly(Decimal::from(n));
        assert!(summary(&Aggregate::Count, &values).holds(&exactly(3)));
        assert!(summary(&Aggregate::Sum(column()), &values).holds(&exactly(4)));
        assert!(summary(&Aggregate::Avg(column()), &values).holds(&exactly(4)));
        assert!(summary(&Aggregate::Min(column()), &values).holds(&exactly(4)));
        assert!(summary(&Aggregate::Distinct(column()), &values).holds(&exactly(1)));
    }

    #[test]
    fn tenths_sum_to_exactly_one() {
        let tenths = vec![Value::Number(0.1); 10];
        assert!(summary(&Aggregate::Sum(column()), &tenths).holds(&Comparison::Exactly(Decimal::from(1))));
    }

    #[test]
    fn an_average_is_compared_without_dividing() {
        let values = [Value::Integer(1), Value::Integer(1), Value::Integer(2)];
        let average = summary(&Aggregate::Avg(column()), &values);
        assert!(average.holds(&Comparison::MoreThan(decimal("1.333333333"))));
        assert!(average.holds(&Comparison::LessThan(decimal("1.333333334"))));
    }

    #[test]
    fn a_sum_may_grow_beyond_what_one_value_may_be() {
        let huge = Value::Number(1e28);
        // A hundred of them are more than 128 bits hold.
        let mut sum = summary(&Aggregate::Sum(column()), &vec![huge; 100]);
        assert!(sum.holds(&Comparison::MoreThan(decimal("10000000000000000000000000000"))));
        for _ in 0..100 {
            sum.add(Contribution::Number(-(10i128.pow(37))));
        }
        assert!(sum.holds(&Comparison::Exactly(Decimal::from(0))));
    }

    #[test]
    fn a_number_beyond_the_range_is_a_mismatch_and_adds_nothing() {
        let beyond = Contribution::of(&Aggregate::Max(column()), &Value::Number(1.1e28));
        assert_eq!(beyond, Contribution::OutOfRange);
        let mut max = summary(&Aggregate::Max(column()), &[Value::Integer(3)]);
        max.add(beyond);
        assert!(max.holds(&Comparison::Exactly(Decimal::from(3))));
    }

    #[test]
    fn distinct_takes_the_two_zeros_for_one() {
        let aggregate = Aggregate::Distinct(column());
        let zeros = summary(&aggregate, &[Value::Number(0.0), Value::Number(-0.0), Value::Number(0.0)]);
        assert!(zeros.holds(&Comparison::Exactly(Decimal::from(1))));
        let words = ["a", "b", "a"].map(|word| Value::String(Cow::Borrowed(word)));
        assert!(summary(&aggregate, &words).holds(&Comparison::Exactly(Decimal::from(2))));
    }

    #[test]
    fn thresholds_include_their_ends_unless_they_are_strict() {
        let two = summary(&Aggregate::Count, &[Value::Null, Value::Null]);
        let n = Decimal::from;
        assert!(two.holds(&Comparison::AtLeast(n(2))) && !two.holds(&Comparison::AtLeast(n(3))));
        assert!(two.holds(&Comparison::AtMost(n(2))) && !two.holds(&Comparison::AtMost(n(1))));
        assert!(two.holds(&Comparison::MoreThan(n(1))) && !two.holds(&Comparison::MoreThan(n(2))));
        assert!(two.holds(&Comparison::LessThan(n(3))) && !two.holds(&Comparison::LessThan(n(2))));
        assert!(two.holds(&Comparison::Between(n(1), n(2))) && !two.holds(&Comparison::Between(n(3), n(9))));
    }

    #[test]
    fn what_is_taken_back_leaves_no_trace_in_any_order() {
        let seed = 11;
        let mut random = fastrand::Rng::with_seed(seed);
        for aggregate in [Aggregate::Sum(column()), Aggregate::Avg(column())] {
            let mut numbers: Vec<i128> = (0..200).map(|_| random.i128(-(10i128.pow(37))..=10i128.pow(37))).collect();
            let mut summary = Summary::new(&aggregate);
            numbers.iter().for_each(|raw| summary.add(Contribution::Number(*raw)));
            random.shuffle(&mut numbers);
            let last = numbers.pop().expect("there are numbers");
            numbers.iter().for_each(|raw| summary.take_back(Contribution::Number(*raw)));
            let exactly = Comparison::Exactly(Decimal::from_raw(last).expect("in range"));
            assert!(summary.holds(&exactly), "seed {seed}: {aggregate:?}");
        }
    }

    #[test]
    fn the_extreme_value_is_decided_by_one_that_holds_and_one_that_breaks() {
        let seed = 12;
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let one = |random: &mut fastrand::Rng| Decimal::from(random.i64(-3..=3));
            let (a, b) = (one(&mut random), one(&mut random));
            let comparison = match random.u8(0..6) {
                0 => Comparison::AtLeast(a),
                1 => Comparison::AtMost(a),
                2 => Comparison::MoreThan(a),
                3 => Comparison::LessThan(a),
                4 => Comparison::Exactly(a),
                _ => Comparison::Between(a.min(b), a.max(b)),
            };
            let aggregate = if random.bool() { Aggregate::Min(column()) } else { Aggregate::Max(column()) };
            let numbers: Vec<i128> = (0..random.usize(0..4)).map(|_| one(&mut random).raw()).collect();
            let mut summary = Summary::new(&aggregate);
            numbers.iter().for_each(|raw| summary.add(Contribution::Number(*raw)));
            let bearings: Vec<Bearing> = numbers.iter().map(|raw| bearing(&aggregate, &comparison, *raw)).collect();
            let decided = bearings.contains(&Bearing::Holds) && !bearings.contains(&Bearing::Breaks);
            assert_eq!(decided, summary.holds(&comparison), "{aggregate:?} {comparison:?} of {numbers:?}");
        }
    }

    #[test]
    fn a_number_of_a_message_counts_as_it_is_written() {
        let number = |raw: i128| Contribution::Number(raw);
        assert_eq!(Contribution::of_number("0.1"), number(100_000_000));
        assert_eq!(
            Contribution::of_number("12345678901234567890.123456789"),
            number(12_345_678_901_234_567_890_123_456_789)
        );
        assert_eq!(Contribution::of_number("0.1234567894999999999999999999999999999999"), number(123_456_789));
        assert_eq!(Contribution::of_number("1e28"), number(10i128.pow(37)));
        assert_eq!(Contribution::of_number("1e300"), Contribution::OutOfRange);
    }
}
