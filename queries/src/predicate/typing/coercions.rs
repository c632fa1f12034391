//! Operands of one type: a quoted literal beside a time becomes a time, an integer beside a number becomes a number.

use super::Typer;
use super::kind::{Kind, Typed};
use super::literals::read_time;
use crate::predicate::tree::{Literal, Node};
use sqlparser::ast::Expr;

impl Typer<'_> {
    /// Types expressions and brings them to one type, which is null if they all are.
    pub(super) fn alike<const N: usize>(&mut self, exprs: [&Expr; N], what: &str) -> Option<([Node; N], Kind)> {
        let typed = exprs.map(|expr| self.expr(expr)).into_iter().collect::<Option<Vec<_>>>()?;
        let (nodes, kind) = self.unify(typed, what)?;
        Some((<[Node; N]>::try_from(nodes).expect("as many come out as went in"), kind))
    }

    /// Brings typed expressions to one type; `what` takes them, for the message.
    pub(super) fn unify(&mut self, mut typed: Vec<Typed>, what: &str) -> Option<(Vec<Node>, Kind)> {
        if typed.iter().any(|typed| typed.kind.is_time()) {
            self.read_times(&mut typed)?;
        }
        let kind = self.common_kind(&typed, what)?;
        let node = |typed: Typed| {
            if kind == Kind::Number { to_number(typed) } else { typed.node }
        };
        Some((typed.into_iter().map(node).collect(), kind))
    }

    /// Reads the quoted literals among operands, one of which is a time, as times.
    fn read_times(&mut self, typed: &mut [Typed]) -> Option<()> {
        for typed in typed {
            let Node::Literal(Literal::Text(text)) = &typed.node else {
                continue;
            };
            let Some(time) = read_time(text) else {
                let message = format!("`'{text}'` is not a date or timestamp");
                return self.hinted(typed.at, message, "write it as `'2026-11-23'` or `'2026-11-23 10:00:00Z'`");
            };
            *typed = Typed { node: Node::Literal(Literal::Time(time)), kind: Kind::Timestamp, at: typed.at };
        }
        Some(())
    }

    /// Returns the one type that these operands can have.
    fn common_kind(&mut self, typed: &[Typed], what: &str) -> Option<Kind> {
        let mut kind = Kind::Null;
        for typed in typed {
            kind = match (kind, typed.kind) {
                (_, Kind::List(_)) => {
                    let message = format!("{what} takes no lists, found {}", typed.kind);
                    return self.hinted(typed.at, message, "`list_contains(list, x)` looks into one");
                }
                (one, Kind::Null) | (Kind::Null, one) => one,
                (one, other) if one == other => one,
                (Kind::Integer, Kind::Number) | (Kind::Number, Kind::Integer) => Kind::Number,
                (one, other) if one.is_time() && other.is_time() => Kind::Timestamp,
                (one, other) => {
                    let message = format!("{what} takes one type, found {one} and {other}");
                    return match quotes(one, other) {
                        Some(hint) => self.hinted(typed.at, message, hint),
                        None => self.fault(typed.at, message),
                    };
                }
            };
        }
        Some(kind)
    }
}

/// Returns what to write where quotes, or their absence, may have caused a mixture of types.
fn quotes(one: Kind, other: Kind) -> Option<&'static str> {
    match (one, other) {
        (Kind::Text, Kind::Integer | Kind::Number) => Some("text is in single quotes: `'5'`"),
        (Kind::Integer | Kind::Number, Kind::Text) => Some("numbers have no quotes: `5`"),
        (Kind::Boolean, Kind::Text) => Some("booleans have no quotes: `true`"),
        _ => None,
    }
}

/// Returns a numeric expression as one of doubles.
pub(super) fn to_number(typed: Typed) -> Node {
    match (typed.kind, typed.node) {
        (_, Node::Literal(Literal::Integer(integer))) => Node::Literal(Literal::Number(integer as f64)),
        (_, node @ Node::Literal(_)) => node,
        (Kind::Integer, node) => Node::ToNumber(Box::new(node)),
        (_, node) => node,
    }
}
