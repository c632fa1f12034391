//! The typed tree of a predicate: what it means.
//!
//! Every node has operands of the types that it needs: mixed integers and numbers have an explicit
//! [`Node::ToNumber`], a quoted literal beside a time is a time. So evaluation checks no types.
//!
//! Plan files contain this tree: a variant that moves, goes or comes changes their format.

use super::like::Like;
use super::regexp::Regexp;
use serde::{Deserialize, Serialize};

/// An expression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Node {
    /// A column, by its index in the predicate's columns.
    Column(u32),
    Literal(Literal),
    /// An integer as a number.
    ToNumber(Box<Node>),
    Negate(Box<Node>),
    /// Both integers or both numbers; [`Arithmetic::Divide`] always numbers.
    Arithmetic(Arithmetic, Box<Node>, Box<Node>),
    Concat(Box<Node>, Box<Node>),
    /// Two of one type.
    Compare(Compare, Box<Node>, Box<Node>),
    /// A time compared with the clock plus so many ms.
    Clock(Compare, Box<Node>, i64),
    /// `is distinct from`: never null.
    Distinct(Box<Node>, Box<Node>),
    /// Operand, low, high.
    Between(Box<Node>, Box<Node>, Box<Node>),
    In(Box<Node>, Items),
    /// With a literal pattern.
    Like(Box<Node>, Like),
    /// With a pattern that is an expression, so that each row may have another one.
    LikeEach {
        operand: Box<Node>,
        pattern: Box<Node>,
        escape: Option<char>,
        insensitive: bool,
    },
    RegexpMatches(Box<Node>, Regexp),
    /// List, element.
    ListContains(Box<Node>, Box<Node>),
    IsNull(Box<Node>),
    Not(Box<Node>),
    All(Vec<Node>),
    Any(Vec<Node>),
    Coalesce(Vec<Node>),
    Abs(Box<Node>),
    Lower(Box<Node>),
    Upper(Box<Node>),
    Trim(Box<Node>),
    Length(Box<Node>),
    StartsWith(Box<Node>, Box<Node>),
    EndsWith(Box<Node>, Box<Node>),
    Contains(Box<Node>, Box<Node>),
}

/// A value in the text. Numbers are finite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Literal {
    Null,
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    /// A date or timestamp, ms since the epoch.
    Time(i64),
}

/// The literals of `in (..)` without null, sorted, each once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Items {
    pub(crate) values: ItemValues,
    /// Whether null is among them.
    pub(crate) null: bool,
}

/// The values of [`Items`], of one type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ItemValues {
    Boolean(Vec<bool>),
    Integer(Vec<i64>),
    Number(Vec<f64>),
    Text(Vec<String>),
    Time(Vec<i64>),
}

/// An arithmetic operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// A comparison operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Compare {
    Equal,
    Unequal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl Arithmetic {
    /// Returns the operator's symbol.
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Arithmetic::Add => "+",
            Arithmetic::Subtract => "-",
            Arithmetic::Multiply => "*",
            Arithmetic::Divide => "/",
            Arithmetic::Remainder => "%",
        }
    }
}

impl Compare {
    /// Returns the operator's symbol.
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Compare::Equal => "=",
            Compare::Unequal => "<>",
            Compare::Less => "<",
            Compare::LessEqual => "<=",
            Compare::Greater => ">",
            Compare::GreaterEqual => ">=",
        }
    }

    /// Returns the same comparison with its sides exchanged.
    pub(crate) fn flipped(self) -> Compare {
        match self {
            Compare::Equal | Compare::Unequal => self,
            Compare::Less => Compare::Greater,
            Compare::LessEqual => Compare::GreaterEqual,
            Compare::Greater => Compare::Less,
            Compare::GreaterEqual => Compare::LessEqual,
        }
    }

    /// Returns whether it holds between two values.
    #[inline]
    pub(crate) fn holds<T: PartialOrd + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Compare::Equal => left == right,
            Compare::Unequal => left != right,
            Compare::Less => left < right,
            Compare::LessEqual => left <= right,
            Compare::Greater => left > right,
            Compare::GreaterEqual => left >= right,
        }
    }
}

impl Node {
    /// Returns whether, in its canonical form, it is true only where a numeric column is not negative, as far as comparisons of
    /// the column with literals show.
    pub(crate) fn excludes_negatives(&self, column: u32) -> bool {
        let reads = |node: &Node| {
            let node = if let Node::ToNumber(operand) = node { operand } else { node };
            *node == Node::Column(column)
        };
        match self {
            Node::All(parts) => parts.iter().any(|part| part.excludes_negatives(column)),
            Node::Any(parts) => parts.iter().all(|part| part.excludes_negatives(column)),
            Node::Compare(Compare::Equal | Compare::Greater | Compare::GreaterEqual, left, right) => {
                reads(left) && right.is_not_negative()
            }
            Node::Between(operand, low, _) => reads(operand) && low.is_not_negative(),
            Node::In(operand, Items { values: ItemValues::Integer(values), .. }) => {
                reads(operand) && values.iter().all(|value| *value >= 0)
            }
            Node::In(operand, Items { values: ItemValues::Number(values), .. }) => {
                reads(operand) && values.iter().all(|value| *value >= 0.0)
            }
            _ => false,
        }
    }

    /// Returns whether it is a literal number that is not negative.
    fn is_not_negative(&self) -> bool {
        match self {
            Node::Literal(Literal::Integer(number)) => *number >= 0,
            Node::Literal(Literal::Number(number)) => *number >= 0.0,
            Node::ToNumber(operand) => operand.is_not_negative(),
            _ => false,
        }
    }

    /// Returns the direct operands, in order.
    pub(crate) fn operands(&self) -> Vec<&Node> {
        match self {
            Node::Column(_) | Node::Literal(_) => vec![],
            Node::ToNumber(a)
            | Node::Negate(a)
            | Node::Clock(_, a, _)
            | Node::In(a, _)
            | Node::Like(a, _)
            | Node::RegexpMatches(a, _)
            | Node::IsNull(a)
            | Node::Not(a)
            | Node::Abs(a)
            | Node::Lower(a)
            | Node::Upper(a)
            | Node::Trim(a)
            | Node::Length(a) => vec![a],
            Node::Arithmetic(_, a, b)
            | Node::Concat(a, b)
            | Node::Compare(_, a, b)
            | Node::Distinct(a, b)
            | Node::LikeEach { operand: a, pattern: b, .. }
            | Node::ListContains(a, b)
            | Node::StartsWith(a, b)
            | Node::EndsWith(a, b)
            | Node::Contains(a, b) => vec![a, b],
            Node::Between(a, b, c) => vec![a, b, c],
            Node::All(nodes) | Node::Any(nodes) | Node::Coalesce(nodes) => nodes.iter().collect(),
        }
    }

    /// Returns the direct operands, in order, to change.
    pub(crate) fn operands_mut(&mut self) -> Vec<&mut Node> {
        match self {
            Node::Column(_) | Node::Literal(_) => vec![],
            Node::ToNumber(a)
            | Node::Negate(a)
            | Node::Clock(_, a, _)
            | Node::In(a, _)
            | Node::Like(a, _)
            | Node::RegexpMatches(a, _)
            | Node::IsNull(a)
            | Node::Not(a)
            | Node::Abs(a)
            | Node::Lower(a)
            | Node::Upper(a)
            | Node::Trim(a)
            | Node::Length(a) => vec![a],
            Node::Arithmetic(_, a, b)
            | Node::Concat(a, b)
            | Node::Compare(_, a, b)
            | Node::Distinct(a, b)
            | Node::LikeEach { operand: a, pattern: b, .. }
            | Node::ListContains(a, b)
            | Node::StartsWith(a, b)
            | Node::EndsWith(a, b)
            | Node::Contains(a, b) => vec![a, b],
            Node::Between(a, b, c) => vec![a, b, c],
            Node::All(nodes) | Node::Any(nodes) | Node::Coalesce(nodes) => nodes.iter_mut().collect(),
        }
    }

    /// Returns whether `test` holds for this node or any below it.
    pub(crate) fn any(&self, test: &dyn Fn(&Node) -> bool) -> bool {
        test(self) || self.operands().into_iter().any(|operand| operand.any(test))
    }
}
