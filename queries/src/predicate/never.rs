//! Parts of a predicate that are never true, whatever the row: for warnings, not for evaluation.
//!
//! It finds comparisons with null, ranges that are empty, and bounds on one operand that leave no value. It finds no other contradictions.

use super::Predicate;
use super::print::text;
use super::tree::{Compare, Literal, Node};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use usher_config::ColumnType;

/// A part of a predicate that is never true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Never {
    /// A comparison with null: its operand and the test that was probably meant, `is null` or `is not null`.
    ComparedWithNull(String, &'static str),
    /// A `between` whose first bound is greater than its second, and the one with the bounds exchanged.
    EmptyRange(String, String),
    /// Two parts joined by `and` that no value of their operand fulfils.
    Contradiction(String, String),
}

impl Predicate {
    /// Returns the parts that are never true, in the order of the canonical text.
    pub fn never_true(&self) -> Vec<Never> {
        let mut found = Vec::new();
        collect_never(&self.root, &self.names(), &mut found);
        found
    }
}

/// Adds the parts of an expression that are never true.
fn collect_never(node: &Node, names: &[(String, ColumnType)], found: &mut Vec<Never>) {
    if let Node::Compare(compare, left, right) = node {
        let null = |node: &Node| matches!(node, Node::Literal(Literal::Null));
        let other = if null(right) { Some(left) } else { null(left).then_some(right) };
        if let Some(other) = other {
            let test = if *compare == Compare::Unequal { "is not null" } else { "is null" };
            found.push(Never::ComparedWithNull(text(other, names), test));
        }
    }
    if let Node::Between(operand, low, high) = node
        && is_empty(low, high)
    {
        let exchanged = Node::Between(operand.clone(), high.clone(), low.clone());
        found.push(Never::EmptyRange(text(node, names), text(&exchanged, names)));
    }
    if let Node::All(parts) = node {
        found.extend(contradiction(parts, names));
    }
    node.operands().into_iter().for_each(|operand| collect_never(operand, names, found));
}

/// Returns the first two of `parts` that leave no value of their operand.
fn contradiction(parts: &[Node], names: &[(String, ColumnType)]) -> Option<Never> {
    let mut bounds: BTreeMap<String, Vec<(Compare, &Literal, &Node)>> = BTreeMap::new();
    for part in parts {
        let (operand, bound) = match part {
            Node::Compare(compare, operand, literal) => match &**literal {
                Node::Literal(literal) => (operand, vec![(*compare, literal)]),
                _ => continue,
            },
            Node::Between(operand, low, high) => match (&**low, &**high) {
                (Node::Literal(low), Node::Literal(high)) if order(low, high) != Some(Ordering::Greater) => {
                    (operand, vec![(Compare::GreaterEqual, low), (Compare::LessEqual, high)])
                }
                _ => continue,
            },
            _ => continue,
        };
        let of = bounds.entry(text(operand, names)).or_default();
        for (compare, literal) in bound {
            let other = of.iter().find(|(other, bound, _)| excludes((*other, bound), (compare, literal)));
            if let Some((_, _, other)) = other {
                let text = |node| text(node, names);
                return Some(Never::Contradiction(text(other), text(part)));
            }
            of.push((compare, literal, part));
        }
    }
    None
}

/// Returns whether two bounds are literals of which the first is greater.
fn is_empty(low: &Node, high: &Node) -> bool {
    match (low, high) {
        (Node::Literal(low), Node::Literal(high)) => order(low, high) == Some(Ordering::Greater),
        _ => false,
    }
}

/// Returns whether no value fulfils both comparisons.
fn excludes((a, left): (Compare, &Literal), (b, right): (Compare, &Literal)) -> bool {
    use Compare::{Equal, Greater, GreaterEqual, Less, LessEqual, Unequal};
    let Some(order) = order(left, right) else { return false };
    let is_upper = |compare| matches!(compare, Less | LessEqual);
    let is_lower = |compare| matches!(compare, Greater | GreaterEqual);
    match (a, b) {
        (Equal, Equal) => order != Ordering::Equal,
        (Equal, Unequal) | (Unequal, Equal) => order == Ordering::Equal,
        (Equal, other) => !other.holds_for(order),
        (other, Equal) => !other.holds_for(order.reverse()),
        (upper, lower) if is_upper(upper) && is_lower(lower) => {
            order == Ordering::Less || (order == Ordering::Equal && (upper, lower) != (LessEqual, GreaterEqual))
        }
        (lower, upper) if is_lower(lower) && is_upper(upper) => {
            order == Ordering::Greater || (order == Ordering::Equal && (lower, upper) != (GreaterEqual, LessEqual))
        }
        _ => false,
    }
}

impl Compare {
    /// Returns whether it holds for a left value that is ordered so to the right one.
    fn holds_for(self, order: Ordering) -> bool {
        self.holds(&order, &Ordering::Equal)
    }
}

/// Orders two literals; `None` if they are of different kinds or null.
fn order(left: &Literal, right: &Literal) -> Option<Ordering> {
    match (left, right) {
        (Literal::Boolean(a), Literal::Boolean(b)) => Some(a.cmp(b)),
        (Literal::Integer(a), Literal::Integer(b)) | (Literal::Time(a), Literal::Time(b)) => Some(a.cmp(b)),
        (Literal::Text(a), Literal::Text(b)) => Some(a.cmp(b)),
        (Literal::Number(a), Literal::Number(b)) => a.partial_cmp(b),
        (Literal::Integer(a), Literal::Number(b)) => (*a as f64).partial_cmp(b),
        (Literal::Number(a), Literal::Integer(b)) => a.partial_cmp(&(*b as f64)),
        _ => None,
    }
}
