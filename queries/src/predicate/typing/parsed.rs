//! The parser's tree, read without recursion: a long chain of operators is a deep tree, and must not cost stack.

use sqlparser::ast::{Expr, Spanned};
use sqlparser::tokenizer::Location;

/// Returns an expression without the parentheses around it.
pub(super) fn bare(mut expr: &Expr) -> &Expr {
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}

/// Returns the place where an expression begins.
pub(super) fn start(expr: &Expr) -> Location {
    let mut expr = expr;
    loop {
        expr = match expr {
            Expr::Nested(inner) => inner,
            Expr::BinaryOp { left, .. } => left,
            Expr::IsNull(left) | Expr::IsNotNull(left) => left,
            Expr::IsTrue(left) | Expr::IsNotTrue(left) | Expr::IsFalse(left) | Expr::IsNotFalse(left) => left,
            Expr::IsDistinctFrom(left, _) | Expr::IsNotDistinctFrom(left, _) => left,
            Expr::Between { expr, .. } | Expr::In { expr, .. } => expr,
            Expr::Like { expr, .. } | Expr::ILike { expr, .. } | Expr::SimilarTo { expr, .. } => expr,
            Expr::RLike { expr, .. } | Expr::Cast { expr, .. } | Expr::Collate { expr, .. } => expr,
            Expr::AtTimeZone { timestamp, .. } => timestamp,
            Expr::AnyOp { left, .. } | Expr::AllOp { left, .. } => left,
            Expr::Function(function) => return function.name.span().start,
            Expr::Value(value) => return value.span.start,
            Expr::UnaryOp { expr, .. } => expr,
            other => return other.span().start,
        };
    }
}
