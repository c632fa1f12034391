//! Operators: arithmetic, comparisons, `between`, `in` and `like`.

use super::Typer;
use super::clock::is_clock;
use super::coercions::to_number;
use super::kind::{Kind, Typed};
use super::literals::items;
use super::parsed::{bare, start};
use crate::predicate::like::{Like, Written};
use crate::predicate::tree::{Arithmetic, Compare, Literal, Node};
use sqlparser::ast::{BinaryOperator, Expr, Value};
use sqlparser::tokenizer::Location;

/// From here on doubles do not tell all integers apart: 2^53 is also what 2^53 + 1 becomes.
const EXACT: u64 = 1 << 53;

impl Typer<'_> {
    /// Types `-` and `+` before one operand; before a number they are its sign.
    pub(super) fn sign(&mut self, minus: bool, expr: &Expr, at: Location) -> Option<Typed> {
        if let Expr::Value(value) = bare(expr)
            && let Value::Number(digits, false) = &value.value
        {
            return self.number(digits, minus, at);
        }
        let operand = self.expr(expr)?;
        if !operand.kind.is_numeric() {
            let sign = if minus { "-" } else { "+" };
            return self.fault(operand.at, format!("`{sign}` takes numbers, found {}", operand.kind));
        }
        let (node, kind) = match (operand.node, operand.kind) {
            typed if !minus => typed,
            (Node::Literal(Literal::Integer(integer)), kind) => match integer.checked_neg() {
                Some(integer) => (Node::Literal(Literal::Integer(integer)), kind),
                None => (Node::Literal(Literal::Null), Kind::Null),
            },
            (Node::Literal(Literal::Number(number)), kind) => (Node::Literal(Literal::Number(-number)), kind),
            (node @ Node::Literal(Literal::Null), kind) => (node, kind),
            (node, kind) => (Node::Negate(Box::new(node)), kind),
        };
        Some(Typed { node, kind, at: operand.at })
    }

    /// Types an operator between two operands, other than `and` and `or`.
    pub(super) fn binary(
        &mut self,
        expr: &Expr,
        left: &Expr,
        op: &BinaryOperator,
        right: &Expr,
        at: Location,
    ) -> Option<Typed> {
        let node = match op {
            BinaryOperator::Eq => self.compare(Compare::Equal, left, right)?,
            BinaryOperator::NotEq => self.compare(Compare::Unequal, left, right)?,
            BinaryOperator::Lt => self.compare(Compare::Less, left, right)?,
            BinaryOperator::LtEq => self.compare(Compare::LessEqual, left, right)?,
            BinaryOperator::Gt => self.compare(Compare::Greater, left, right)?,
            BinaryOperator::GtEq => self.compare(Compare::GreaterEqual, left, right)?,
            BinaryOperator::Plus => return self.arithmetic(Arithmetic::Add, left, right, at),
            BinaryOperator::Minus => return self.arithmetic(Arithmetic::Subtract, left, right, at),
            BinaryOperator::Multiply => return self.arithmetic(Arithmetic::Multiply, left, right, at),
            BinaryOperator::Divide => return self.arithmetic(Arithmetic::Divide, left, right, at),
            BinaryOperator::Modulo => return self.arithmetic(Arithmetic::Remainder, left, right, at),
            BinaryOperator::StringConcat => {
                let (left, right) = (self.text(left, "||"), self.text(right, "||"));
                return Some(Typed { node: Node::Concat(left?, right?), kind: Kind::Text, at });
            }
            _ => return self.refuse(expr),
        };
        Some(Typed { node, kind: Kind::Boolean, at })
    }

    /// Types a comparison: of two operands of one type, or of a column with the clock.
    fn compare(&mut self, compare: Compare, left: &Expr, right: &Expr) -> Option<Node> {
        if is_clock(right) {
            self.clock(compare, left, right)
        } else if is_clock(left) {
            self.clock(compare.flipped(), right, left)
        } else {
            let ([left, right], _) = self.alike([left, right], &format!("`{}`", compare.symbol()))?;
            Some(Node::Compare(compare, Box::new(left), Box::new(right)))
        }
    }

    /// Types arithmetic: of numbers if an operand is one or it divides, else of integers.
    fn arithmetic(&mut self, arithmetic: Arithmetic, left: &Expr, right: &Expr, at: Location) -> Option<Typed> {
        let mut operands = Vec::new();
        for operand in [self.expr(left), self.expr(right)].into_iter().flatten() {
            if operand.kind.is_numeric() {
                operands.push(operand);
            } else {
                let message = format!("`{}` takes numbers, found {}", arithmetic.symbol(), operand.kind);
                self.fault::<()>(operand.at, message);
            }
        }
        let [left, right] = <[Typed; 2]>::try_from(operands).ok()?;
        let kind = match (left.kind, right.kind) {
            _ if arithmetic == Arithmetic::Divide => Kind::Number,
            (Kind::Number, _) | (_, Kind::Number) => Kind::Number,
            (Kind::Null, kind) | (kind, _) => kind,
        };
        let operand = |typed: Typed| Box::new(if kind == Kind::Number { to_number(typed) } else { typed.node });
        Some(Typed { node: Node::Arithmetic(arithmetic, operand(left), operand(right)), kind, at })
    }

    /// Types `between`; with a clock as a bound it is two comparisons.
    pub(super) fn between(&mut self, operand: &Expr, low: &Expr, high: &Expr) -> Option<Node> {
        if is_clock(low) || is_clock(high) {
            let mut side = |compare, bound| {
                if is_clock(bound) {
                    return self.clock(compare, operand, bound);
                }
                let ([operand, bound], _) = self.alike([operand, bound], "`between`")?;
                Some(Node::Compare(compare, Box::new(operand), Box::new(bound)))
            };
            let (low, high) = (side(Compare::GreaterEqual, low), side(Compare::LessEqual, high));
            return Some(Node::All(vec![low?, high?]));
        }
        let typed = [operand, low, high].map(|expr| self.expr(expr)).into_iter().collect::<Option<Vec<_>>>()?;
        if needs_two_types(&typed) {
            let [operand, low, high] = <[Typed; 3]>::try_from(typed).ok().expect("there are three");
            let ((left, low), (right, high)) = (of_one_type(&operand, low), of_one_type(&operand, high));
            let low = Node::Compare(Compare::GreaterEqual, Box::new(left), Box::new(low));
            let high = Node::Compare(Compare::LessEqual, Box::new(right), Box::new(high));
            return Some(Node::All(vec![low, high]));
        }
        let (nodes, _) = self.unify(typed, "`between`")?;
        let [operand, low, high] = <[Node; 3]>::try_from(nodes).expect("as many come out as went in").map(Box::new);
        Some(Node::Between(operand, low, high))
    }

    /// Types `in`: an operand and literals of one type. Integers that doubles do not hold exactly stay integers beside numbers.
    pub(super) fn among(&mut self, operand: &Expr, list: &[Expr]) -> Option<Node> {
        let mut typed = vec![self.expr(operand)];
        for item in list {
            let item = self.expr(item);
            typed.push(match item {
                Some(Typed { node: Node::Literal(_), .. }) | None => item,
                Some(item) => self.fault(item.at, "`in` takes literals, found an expression"),
            });
        }
        let mut typed = typed.into_iter().collect::<Option<Vec<_>>>()?;
        if !needs_two_types(&typed) {
            return self.among_one_type(typed);
        }
        let operand = typed.remove(0);
        let (numbers, mut integers): (Vec<Typed>, Vec<Typed>) = typed.into_iter().partition(is_number);
        // A number beyond all doubles is null, which has no type.
        integers
            .iter_mut()
            .filter(|item| item.node == Node::Literal(Literal::Null))
            .for_each(|null| null.kind = Kind::Null);
        let mut part = |items: Vec<Typed>| self.among_one_type([operand.clone()].into_iter().chain(items).collect());
        let exact = part(integers)?;
        Some(if numbers.is_empty() { exact } else { Node::Any(vec![exact, part(numbers)?]) })
    }

    /// Types `in` of an operand, the first of `typed`, and literals that are all brought to one type.
    fn among_one_type(&mut self, typed: Vec<Typed>) -> Option<Node> {
        let (mut nodes, kind) = self.unify(typed, "`in`")?;
        let operand = nodes.remove(0);
        let literals = nodes.into_iter().filter_map(|node| match node {
            Node::Literal(literal) => Some(literal),
            _ => None,
        });
        Some(Node::In(Box::new(operand), items(literals.collect(), kind)))
    }

    /// Types `like` and `ilike`: with a literal pattern, which is read here, or with one that each row has its own of.
    pub(super) fn like(
        &mut self,
        operand: &Expr,
        pattern: &Expr,
        escape: Option<&Expr>,
        insensitive: bool,
    ) -> Option<Node> {
        let name = if insensitive { "ilike" } else { "like" };
        let at = start(pattern);
        let (operand, pattern) = (self.text(operand, name), self.text(pattern, name));
        let (operand, pattern) = (operand?, pattern?);
        let escape = match escape.map(one_character) {
            None => None,
            Some(Some(escape)) => Some(escape),
            Some(None) => return self.hinted(at, "`escape` takes one character", "write `escape '\\'`"),
        };
        match *pattern {
            Node::Literal(Literal::Text(pattern)) => {
                let written = Written { pattern, escape, insensitive };
                match Like::try_from(written) {
                    Ok(like) => Some(Node::Like(operand, like)),
                    Err(error) => self.fault(at, error),
                }
            }
            _ => Some(Node::LikeEach { operand, pattern, escape, insensitive }),
        }
    }

    /// Types an operand of `name` that must be text.
    pub(super) fn text(&mut self, expr: &Expr, name: &str) -> Option<Box<Node>> {
        let typed = self.expr(expr)?;
        match typed.kind {
            Kind::Text | Kind::Null => Some(Box::new(typed.node)),
            Kind::List(_) if name == "contains" => {
                self.hinted(typed.at, "`contains` takes strings, found a list", "write `list_contains`")
            }
            kind => self.fault(typed.at, format!("`{name}` takes strings, found {kind}")),
        }
    }
}

/// Returns whether an integer, the first of `typed`, meets both numbers and integers, which may lose digits as doubles: it is compared with
/// each as if it stood alone.
fn needs_two_types(typed: &[Typed]) -> bool {
    let may_lose_digits = |typed: &Typed| match typed.node {
        Node::Literal(Literal::Integer(integer)) => integer.unsigned_abs() >= EXACT,
        Node::Literal(_) => false,
        _ => typed.kind == Kind::Integer,
    };
    let (operand, others) = typed.split_first().expect("an operand is first");
    may_lose_digits(operand)
        && others.iter().all(|other| other.kind.is_numeric())
        && others.iter().any(|other| other.kind == Kind::Number)
        && others.iter().any(may_lose_digits)
}

/// Returns whether an operand is a number and not null.
fn is_number(typed: &Typed) -> bool {
    typed.kind == Kind::Number && typed.node != Node::Literal(Literal::Null)
}

/// Brings an integer and what it is compared with to one type.
fn of_one_type(integer: &Typed, other: Typed) -> (Node, Node) {
    if is_number(&other) { (to_number(integer.clone()), to_number(other)) } else { (integer.node.clone(), other.node) }
}

/// Returns the character that a literal consists of. `None` if it is no literal of one character.
fn one_character(expr: &Expr) -> Option<char> {
    let Expr::Value(value) = expr else {
        return None;
    };
    let Value::SingleQuotedString(text) = &value.value else {
        return None;
    };
    let mut chars = text.chars();
    chars.next().filter(|_| chars.next().is_none())
}
