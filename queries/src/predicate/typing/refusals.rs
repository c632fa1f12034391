//! What the parser reads and predicates do not have, refused by name.

use super::Typer;
use super::kind::Typed;
use super::parsed::start;
use sqlparser::ast::{BinaryOperator, Expr};

/// The most characters of an expression that a message repeats.
const SHORT: usize = 40;

impl Typer<'_> {
    /// Reports an expression of a form that predicates do not have.
    pub(super) fn refuse(&mut self, expr: &Expr) -> Option<Typed> {
        let (what, hint) = refused(expr);
        let message = format!("`{what}` is not part of predicates");
        match hint {
            Some(hint) => self.hinted(start(expr), message, hint),
            None => self.fault(start(expr), message),
        }
    }
}

/// Returns the name of what is refused, and what to write instead.
fn refused(expr: &Expr) -> (String, Option<&'static str>) {
    match expr {
        Expr::BinaryOp { op, .. } => operator(op, ""),
        Expr::AnyOp { compare_op: op, .. } => operator(op, " any"),
        Expr::AllOp { compare_op: op, .. } => operator(op, " all"),
        Expr::UnaryOp { op, .. } => (op.to_string(), None),
        Expr::TypedString(_) => (short(&expr.to_string()), Some("write `date '2026-11-23'`")),
        other => match named(other) {
            Some((name, hint)) => (name.to_owned(), hint),
            None => (short(&other.to_string()), None),
        },
    }
}

/// Returns the name of an operator, and what to write instead.
fn operator(op: &BinaryOperator, quantified: &str) -> (String, Option<&'static str>) {
    let hint = match op {
        BinaryOperator::PGRegexMatch => Some("write `regexp_matches(column, 'pattern')`"),
        BinaryOperator::Spaceship => Some("write `is not distinct from`"),
        _ => None,
    };
    (format!("{}{quantified}", op.to_string().to_lowercase()), hint)
}

/// Returns the name of a form that has one, and what to write instead.
fn named(expr: &Expr) -> Option<(&'static str, Option<&'static str>)> {
    Some(match expr {
        Expr::IsTrue(_) => ("is true", Some("a boolean column alone is a predicate")),
        Expr::IsNotTrue(_) => ("is not true", Some("write `not coalesce(column, false)`")),
        Expr::IsFalse(_) => ("is false", Some("write `not column`")),
        Expr::IsNotFalse(_) => ("is not false", Some("write `coalesce(column, true)`")),
        Expr::IsUnknown(_) => ("is unknown", Some("write `is null`")),
        Expr::IsNotUnknown(_) => ("is not unknown", Some("write `is not null`")),
        Expr::Case { .. } => ("case", None),
        Expr::Cast { .. } => ("cast", Some("the column's declared type decides")),
        Expr::Subquery(_) => ("(select …)", Some("`related` looks at the rows of another model")),
        Expr::Exists { .. } => ("exists", Some("`related` looks at the rows of another model")),
        Expr::SimilarTo { .. } => ("similar to", Some("write `regexp_matches(column, 'pattern')`")),
        Expr::RLike { .. } => ("rlike", Some("write `regexp_matches(column, 'pattern')`")),
        Expr::Like { any: true, .. } => ("like any", Some("join several `like` with `or`")),
        Expr::ILike { any: true, .. } => ("ilike any", Some("join several `ilike` with `or`")),
        Expr::Collate { .. } => ("collate", None),
        Expr::AtTimeZone { .. } => ("at time zone", Some("times have their offset: `'2026-11-23 10:00:00+01:00'`")),
        Expr::Tuple(_) => ("a list in parentheses", Some("it stands only after `in`")),
        _ => return None,
    })
}

/// Returns the beginning of a text, for a message.
pub(super) fn short(text: &str) -> String {
    if text.chars().count() <= SHORT { text.to_owned() } else { text.chars().take(SHORT).chain(['…']).collect() }
}
