//! Evaluation on one row, and the operations on single values that both evaluations share.
//!
//! It allocates only texts that an expression makes (`||`, `lower` of an upper case text).

use super::like::matches_once;
use super::tree::{Arithmetic, Compare, ItemValues, Items, Literal, Node};
use crate::Value;
use std::borrow::Cow;

/// The value of an expression. Truth in three values is an `Option<bool>`, whose `None` is null.
#[derive(Clone, Debug)]
pub(crate) enum Scalar<'r> {
    Null,
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Text(Cow<'r, str>),
    Time(i64),
    List(&'r [Value<'r>]),
}

/// Returns whether a condition is true; unlike [`truth`] it may stop at the first part that is null.
#[inline]
pub(crate) fn is_true<'r>(node: &'r Node, row: &'r [Value<'r>], now: i64) -> bool {
    match node {
        Node::All(nodes) => nodes.iter().all(|node| is_true(node, row, now)),
        Node::Any(nodes) => nodes.iter().any(|node| is_true(node, row, now)),
        _ => truth(node, row, now) == Some(true),
    }
}

/// Returns the truth of a condition, `None` if it is null.
fn truth<'r>(node: &'r Node, row: &'r [Value<'r>], now: i64) -> Option<bool> {
    match node {
        Node::Compare(compare, left, right) => {
            if let (Node::Column(column), Node::Literal(right)) = (&**left, &**right) {
                return with_literal(*compare, &row[*column as usize], right);
            }
            match (value(left, row, now), value(right, row, now)) {
                (Scalar::Null, _) | (_, Scalar::Null) => None,
                (Scalar::Integer(left), Scalar::Integer(right)) => Some(compare.holds(&left, &right)),
                (Scalar::Number(left), Scalar::Number(right)) => Some(compare.holds(&left, &right)),
                (Scalar::Text(left), Scalar::Text(right)) => Some(compare.holds::<str>(&left, &right)),
                (Scalar::Time(left), Scalar::Time(right)) => Some(compare.holds(&left, &right)),
                (Scalar::Boolean(left), Scalar::Boolean(right)) => Some(compare.holds(&left, &right)),
                (left, right) => unlike(left, right),
            }
        }
        Node::Clock(compare, operand, offset) => match value(operand, row, now) {
            Scalar::Time(time) => Some(compare.holds(&i128::from(time), &clock(now, *offset))),
            _ => None,
        },
        Node::Distinct(left, right) => Some(match (value(left, row, now), value(right, row, now)) {
            (Scalar::Null, Scalar::Null) => false,
            (Scalar::Null, _) | (_, Scalar::Null) => true,
            (left, right) => !equal(&left, &right),
        }),
        Node::Between(operand, low, high) => {
            let operand = value(operand, row, now);
            let above = at_most(&value(low, row, now), &operand);
            and(above, at_most(&operand, &value(high, row, now)))
        }
        Node::In(operand, items) => found(&value(operand, row, now), items),
        Node::Like(operand, like) => text(operand, row, now).map(|text| like.matches(&text)),
        Node::LikeEach { operand, pattern, escape, insensitive } => {
            matches_once(&text(operand, row, now)?, &text(pattern, row, now)?, *escape, *insensitive)
        }
        Node::RegexpMatches(operand, regexp) => text(operand, row, now).map(|text| regexp.matches(&text)),
        Node::ListContains(list, element) => match (value(list, row, now), value(element, row, now)) {
            (Scalar::Null, _) | (_, Scalar::Null) => None,
            (Scalar::List(values), element) => Some(values.iter().any(|value| same(value, &element))),
            (list, element) => unlike(list, element),
        },
        Node::IsNull(operand) => Some(matches!(value(operand, row, now), Scalar::Null)),
        Node::Not(operand) => truth(operand, row, now).map(|truth| !truth),
        Node::All(nodes) => {
            let mut all = Some(true);
            for node in nodes {
                all = and(all, truth(node, row, now));
                if all == Some(false) {
                    break;
                }
            }
            all
        }
        Node::Any(nodes) => {
            let mut any = Some(false);
            for node in nodes {
                any = or(any, truth(node, row, now));
                if any == Some(true) {
                    break;
                }
            }
            any
        }
        Node::StartsWith(whole, part) => Some(text(whole, row, now)?.starts_with(text(part, row, now)?.as_ref())),
        Node::EndsWith(whole, part) => Some(text(whole, row, now)?.ends_with(text(part, row, now)?.as_ref())),
        Node::Contains(whole, part) => Some(text(whole, row, now)?.contains(text(part, row, now)?.as_ref())),
        Node::Column(_) | Node::Literal(_) | Node::Coalesce(_) => match value(node, row, now) {
            Scalar::Boolean(boolean) => Some(boolean),
            Scalar::Null => None,
            other => unlike(other, "a condition"),
        },
        Node::ToNumber(_)
        | Node::Negate(_)
        | Node::Arithmetic(..)
        | Node::Concat(..)
        | Node::Abs(_)
        | Node::Lower(_)
        | Node::Upper(_)
        | Node::Trim(_)
        | Node::Length(_) => unlike(node, "a condition"),
    }
}

/// Compares a column with a literal: the most frequent condition, without scalars in between.
#[inline]
fn with_literal(compare: Compare, left: &Value<'_>, right: &Literal) -> Option<bool> {
    match (left, right) {
        (Value::Null, _) | (_, Literal::Null) => None,
        (Value::String(left), Literal::Text(right)) => Some(compare.holds::<str>(left, right)),
        (Value::Number(left), Literal::Number(right)) => Some(compare.holds(&finite(*left)?, right)),
        (Value::Integer(left), Literal::Integer(right)) => Some(compare.holds(left, right)),
        (Value::Timestamp(left) | Value::Date(left), Literal::Time(right)) => Some(compare.holds(left, right)),
        (Value::Boolean(left), Literal::Boolean(right)) => Some(compare.holds(left, right)),
        (left, right) => unlike(left, right),
    }
}

/// Returns the value of an expression.
pub(crate) fn value<'r>(node: &'r Node, row: &'r [Value<'r>], now: i64) -> Scalar<'r> {
    match node {
        Node::Column(column) => match &row[*column as usize] {
            Value::Null => Scalar::Null,
            Value::Boolean(boolean) => Scalar::Boolean(*boolean),
            Value::Integer(integer) => Scalar::Integer(*integer),
            Value::Number(number) => of_number(finite(*number)),
            Value::String(text) => Scalar::Text(Cow::Borrowed(text)),
            Value::Timestamp(time) | Value::Date(time) => Scalar::Time(*time),
            Value::List(values) => Scalar::List(values),
        },
        Node::Literal(literal) => match literal {
            Literal::Null => Scalar::Null,
            Literal::Boolean(boolean) => Scalar::Boolean(*boolean),
            Literal::Integer(integer) => Scalar::Integer(*integer),
            Literal::Number(number) => Scalar::Number(*number),
            Literal::Text(text) => Scalar::Text(Cow::Borrowed(text)),
            Literal::Time(time) => Scalar::Time(*time),
        },
        Node::ToNumber(operand) => match value(operand, row, now) {
            Scalar::Integer(integer) => Scalar::Number(integer as f64),
            _ => Scalar::Null,
        },
        Node::Negate(operand) => match value(operand, row, now) {
            Scalar::Integer(integer) => of_integer(integer.checked_neg()),
            Scalar::Number(number) => Scalar::Number(-number),
            _ => Scalar::Null,
        },
        Node::Abs(operand) => match value(operand, row, now) {
            Scalar::Integer(integer) => of_integer(integer.checked_abs()),
            Scalar::Number(number) => Scalar::Number(number.abs()),
            _ => Scalar::Null,
        },
        Node::Arithmetic(operation, left, right) => match (value(left, row, now), value(right, row, now)) {
            (Scalar::Null, _) | (_, Scalar::Null) => Scalar::Null,
            (Scalar::Integer(left), Scalar::Integer(right)) => of_integer(integers(*operation, left, right)),
            (Scalar::Number(left), Scalar::Number(right)) => of_number(numbers(*operation, left, right)),
            (left, right) => unlike(left, right),
        },
        Node::Concat(left, right) => match (text(left, row, now), text(right, row, now)) {
            (Some(left), Some(right)) => Scalar::Text(Cow::Owned([left, right].concat())),
            _ => Scalar::Null,
        },
        Node::Coalesce(nodes) => nodes
            .iter()
            .map(|node| value(node, row, now))
            .find(|value| !matches!(value, Scalar::Null))
            .unwrap_or(Scalar::Null),
        Node::Lower(operand) => of_text(text(operand, row, now).map(lower)),
        Node::Upper(operand) => of_text(text(operand, row, now).map(upper)),
        Node::Trim(operand) => of_text(text(operand, row, now).map(trim)),
        Node::Length(operand) => of_integer(text(operand, row, now).map(|text| length(&text))),
        _ => truth(node, row, now).map_or(Scalar::Null, Scalar::Boolean),
    }
}

/// Returns the value of an expression of texts, `None` if it is null.
fn text<'r>(node: &'r Node, row: &'r [Value<'r>], now: i64) -> Option<Cow<'r, str>> {
    match value(node, row, now) {
        Scalar::Text(text) => Some(text),
        Scalar::Null => None,
        other => unlike(other, "text"),
    }
}

/// Panics about values of types that the typing lets not meet.
#[cold]
fn unlike<T>(left: impl std::fmt::Debug, right: impl std::fmt::Debug) -> T {
    panic!("a row does not have its predicate's column types: {left:?} met {right:?}")
}

fn of_integer<'r>(integer: Option<i64>) -> Scalar<'r> {
    integer.map_or(Scalar::Null, Scalar::Integer)
}

fn of_number<'r>(number: Option<f64>) -> Scalar<'r> {
    number.map_or(Scalar::Null, Scalar::Number)
}

fn of_text(text: Option<Cow<'_, str>>) -> Scalar<'_> {
    text.map_or(Scalar::Null, Scalar::Text)
}

/// `and` in three values.
pub(crate) fn and(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    match (left, right) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

/// `or` in three values.
fn or(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    and(left.map(|left| !left), right.map(|right| !right)).map(|neither| !neither)
}

/// Returns the number, `None` (null) if it is NaN or infinite.
#[inline]
pub(crate) fn finite(number: f64) -> Option<f64> {
    number.is_finite().then_some(number)
}

/// Returns the clock plus an offset, which may be beyond 64 bits.
#[inline]
pub(crate) fn clock(now: i64, offset: i64) -> i128 {
    i128::from(now) + i128::from(offset)
}

/// Computes in 64 bits. `None` (null) for an overflow and for `% 0`.
#[inline]
pub(crate) fn integers(operation: Arithmetic, left: i64, right: i64) -> Option<i64> {
    match operation {
        Arithmetic::Add => left.checked_add(right),
        Arithmetic::Subtract => left.checked_sub(right),
        Arithmetic::Multiply => left.checked_mul(right),
        Arithmetic::Remainder if right == 0 => None,
        // The least integer % -1 is 0: its quotient would overflow, the remainder does not.
        Arithmetic::Remainder => Some(left.wrapping_rem(right)),
        Arithmetic::Divide => unreachable!("division is of numbers"),
    }
}

/// Computes with doubles. `None` (null) for a result that is not finite.
#[inline]
pub(crate) fn numbers(operation: Arithmetic, left: f64, right: f64) -> Option<f64> {
    finite(match operation {
        Arithmetic::Add => left + right,
        Arithmetic::Subtract => left - right,
        Arithmetic::Multiply => left * right,
        Arithmetic::Divide => left / right,
        Arithmetic::Remainder => left % right,
    })
}

pub(crate) fn lower(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.is_ascii() && !text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return text;
    }
    Cow::Owned(text.to_lowercase())
}

pub(crate) fn upper(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.is_ascii() && !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return text;
    }
    Cow::Owned(text.to_uppercase())
}

pub(crate) fn trim(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim_matches(' ')),
        Cow::Owned(text) => Cow::Owned(text.trim_matches(' ').to_owned()),
    }
}

pub(crate) fn length(text: &str) -> i64 {
    text.chars().count() as i64
}

/// Returns whether two scalars of one type, not null, are equal.
fn equal(left: &Scalar<'_>, right: &Scalar<'_>) -> bool {
    match (left, right) {
        (Scalar::Boolean(left), Scalar::Boolean(right)) => left == right,
        (Scalar::Integer(left), Scalar::Integer(right)) => left == right,
        (Scalar::Number(left), Scalar::Number(right)) => left == right,
        (Scalar::Text(left), Scalar::Text(right)) => left == right,
        (Scalar::Time(left), Scalar::Time(right)) => left == right,
        (left, right) => unlike(left, right),
    }
}

fn at_most(left: &Scalar<'_>, right: &Scalar<'_>) -> Option<bool> {
    match (left, right) {
        (Scalar::Null, _) | (_, Scalar::Null) => None,
        (Scalar::Boolean(left), Scalar::Boolean(right)) => Some(left <= right),
        (Scalar::Integer(left), Scalar::Integer(right)) => Some(left <= right),
        (Scalar::Number(left), Scalar::Number(right)) => Some(left <= right),
        (Scalar::Text(left), Scalar::Text(right)) => Some(left <= right),
        (Scalar::Time(left), Scalar::Time(right)) => Some(left <= right),
        (left, right) => unlike(left, right),
    }
}

/// Returns whether a list's element equals `sought`; a null element does not.
fn same(element: &Value<'_>, sought: &Scalar<'_>) -> bool {
    match (element, sought) {
        (Value::Null, _) => false,
        (Value::String(element), Scalar::Text(sought)) => element == sought,
        (Value::Integer(element), Scalar::Integer(sought)) => element == sought,
        (Value::Integer(element), Scalar::Number(sought)) => *element as f64 == *sought,
        (Value::Number(element), Scalar::Number(sought)) => element == sought,
        (element, sought) => unlike(element, sought),
    }
}

/// Returns whether `in` holds: true if the operand is among the items, else null if null is among them.
fn found(operand: &Scalar<'_>, items: &Items) -> Option<bool> {
    let found = match (operand, &items.values) {
        (Scalar::Null, _) => return None,
        (Scalar::Text(text), ItemValues::Text(_)) => items.has_text(text),
        (Scalar::Integer(integer), ItemValues::Integer(values)) => has(values, integer),
        (Scalar::Number(number), ItemValues::Number(values)) => has(values, number),
        (Scalar::Time(time), ItemValues::Time(values)) => has(values, time),
        (Scalar::Boolean(boolean), ItemValues::Boolean(values)) => has(values, boolean),
        (operand, values) => unlike(operand, values),
    };
    items.answer(found)
}

/// Returns whether a sorted list, without NaN, has a value.
pub(crate) fn has<T: PartialOrd>(sorted: &[T], sought: &T) -> bool {
    let compare = |item: &T| item.partial_cmp(sought).expect("what is compared is finite");
    sorted.binary_search_by(compare).is_ok()
}

impl Items {
    /// Returns whether a text is among them.
    pub(crate) fn has_text(&self, sought: &str) -> bool {
        match &self.values {
            ItemValues::Text(sorted) => sorted.binary_search_by(|item| item.as_str().cmp(sought)).is_ok(),
            _ => false,
        }
    }

    /// Returns the truth of `in`, given whether the value was found among them.
    pub(crate) fn answer(&self, found: bool) -> Option<bool> {
        if found || !self.null { Some(found) } else { None }
    }
}
