//! `column CMP now() ± interval`: the one place where `now()` and intervals stand.

use super::Typer;
use super::kind::Typed;
use super::parsed::{bare, start};
use crate::predicate::Now;
use crate::predicate::tree::{Compare, Node};
use sqlparser::ast::{BinaryOperator, Expr, Interval, ObjectNamePart, Value};
use sqlparser::tokenizer::Location;
use usher_core::time::DAY;

/// What to write instead of `now()` or an interval in another place.
const COMPARE_A_COLUMN: &str = "compare a column: `seen_at > now() - interval '7 days'`";

impl Typer<'_> {
    /// Types a comparison of `column` with `clock`, which is `now()` with any number of intervals added.
    pub(super) fn clock(&mut self, compare: Compare, column: &Expr, clock: &Expr) -> Option<Node> {
        let offset = self.offset(clock);
        if self.now == Now::Refused {
            // `offset` reported `now()`; the column's problems still count.
            self.expr(column);
            return None;
        }
        let column = bare(column);
        if !matches!(column, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
            return self.hinted(
                start(column),
                "`now()` is compared with a column",
                "leave the column alone on its side: `seen_at > now() - interval '7 days'`",
            );
        }
        let column = self.expr(column)?;
        if !column.kind.is_time() {
            return self
                .fault(column.at, format!("`now()` is compared with a date or timestamp, found {}", column.kind));
        }
        Some(Node::Clock(compare, Box::new(column.node), offset?))
    }

    /// Returns the ms that `now() ± interval` adds to the clock.
    fn offset(&mut self, clock: &Expr) -> Option<i64> {
        match bare(clock) {
            Expr::BinaryOp { left, op, right } => {
                let before = self.offset(left)?;
                let at = start(right);
                let Expr::Interval(interval) = bare(right) else {
                    let message = "only an interval is added to `now()`";
                    return self.hinted(at, message, "write `now() - interval '7 days'`");
                };
                let shown = || bare(right).to_string().to_lowercase();
                let too_long = |typer: &mut Self| {
                    let hint = format!("`now()` is moved by at most {} days", i64::MAX / DAY);
                    typer.hinted(at, format!("`{}` is too long", shown()), hint)
                };
                let ms = match interval_ms(interval) {
                    Some(Ok(ms)) => ms,
                    Some(Err(TooLong)) => return too_long(self),
                    None => {
                        let message = format!("`{}` is not an interval of predicates", shown());
                        let hint = "write `interval '7 days'`: a whole number of milliseconds, seconds, minutes, hours, \
                                    days or weeks";
                        return self.hinted(at, message, hint);
                    }
                };
                let moved = match op {
                    BinaryOperator::Plus => before.checked_add(ms),
                    _ => before.checked_sub(ms),
                };
                moved.or_else(|| too_long(self))
            }
            Expr::Function(function) => {
                let at = start(clock);
                if self.now == Now::Refused {
                    return self.now_refused(at);
                }
                let arguments = self.arguments(function, at)?;
                if arguments.is_empty() { Some(0) } else { self.fault(at, "`now()` takes no arguments") }
            }
            _ => unreachable!("`is_clock` lets nothing else through"),
        }
    }

    /// Reports `now()` where only `within` limits the time.
    pub(super) fn now_refused<T>(&mut self, at: Location) -> Option<T> {
        self.hinted(at, "`now()` can't stand in `performed` or `sequence`", "`within` limits how far back events count")
    }

    /// Reports `now()` outside a comparison with a column.
    pub(super) fn misplaced_now(&mut self, at: Location) -> Option<Typed> {
        self.hinted(at, "`now()` stands only in `column CMP now() ± interval`", COMPARE_A_COLUMN)
    }

    /// Reports an interval that is not added to `now()`.
    pub(super) fn misplaced_interval(&mut self, at: Location) -> Option<Typed> {
        self.hinted(at, "an interval stands only in `column CMP now() ± interval`", COMPARE_A_COLUMN)
    }
}

/// Returns whether an expression is `now()`, or something added to it.
pub(super) fn is_clock(expr: &Expr) -> bool {
    let mut expr = bare(expr);
    while let Expr::BinaryOp { left, op: BinaryOperator::Plus | BinaryOperator::Minus, .. } = expr {
        expr = bare(left);
    }
    match expr {
        Expr::Function(function) => match function.name.0.as_slice() {
            [ObjectNamePart::Identifier(name)] => name.quote_style.is_none() && name.value.eq_ignore_ascii_case("now"),
            _ => false,
        },
        _ => false,
    }
}

/// An interval of more ms than 64 bits hold.
struct TooLong;

/// Returns the ms of an interval. `None` if it is not one of predicates.
fn interval_ms(interval: &Interval) -> Option<Result<i64, TooLong>> {
    match (&*interval.value, &interval.leading_field, &interval.last_field) {
        (Expr::Value(value), None, None) => match &value.value {
            Value::SingleQuotedString(text) => units_ms(text),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the ms of an interval's text, `7 days` or `1 day 12 hours`. `None` if it is not one.
fn units_ms(text: &str) -> Option<Result<i64, TooLong>> {
    let mut rest = text.trim();
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit()).filter(|digits| *digits > 0)?;
        let (count, tail) = rest.split_at(digits);
        let tail = tail.trim_start();
        let letters = tail.find(|char: char| !char.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let size: i64 = match unit.to_ascii_lowercase().as_str() {
            "ms" | "millisecond" | "milliseconds" => 1,
            "s" | "sec" | "secs" | "second" | "seconds" => 1000,
            "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
            "h" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => DAY,
            "w" | "week" | "weeks" => 7 * DAY,
            _ => return None,
        };
        parts.push(count.parse::<i64>().ok().and_then(|count| count.checked_mul(size)));
        rest = tail.trim_start();
    }
    let total = parts.iter().try_fold(0_i64, |total, part| total.checked_add((*part)?));
    (!parts.is_empty()).then(|| total.ok_or(TooLong))
}
