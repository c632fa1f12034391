//! Literals: numbers, texts, times, and the lists of them that `in` takes.

use super::Typer;
use super::kind::{Kind, Typed};
use crate::predicate::tree::{ItemValues, Items, Literal, Node};
use sqlparser::ast::{DataType, Expr, TimezoneInfo, TypedString, Value};
use sqlparser::tokenizer::Location;
use usher_core::time::{parse_date, parse_timestamp};

impl Typer<'_> {
    /// Types a literal as it stands in the text.
    pub(super) fn literal(&mut self, value: &Value, at: Location) -> Option<Typed> {
        let (literal, kind) = match value {
            Value::SingleQuotedString(text) => (Literal::Text(text.clone()), Kind::Text),
            Value::Boolean(boolean) => (Literal::Boolean(*boolean), Kind::Boolean),
            Value::Null => (Literal::Null, Kind::Null),
            Value::Number(digits, false) => return self.number(digits, false, at),
            Value::Placeholder(name) => {
                let message = format!("`{name}` is not a literal of predicates");
                return self.hinted(at, message, "a predicate has no parameters: write the value");
            }
            other => {
                let message = format!("`{other}` is not a literal of predicates");
                return self.hinted(at, message, "write text in single quotes: `'text'`");
            }
        };
        Some(Typed { node: Node::Literal(literal), kind, at })
    }

    /// Types `date '..'` and `timestamp '..'`.
    pub(super) fn typed_string(&mut self, expr: &Expr, typed: &TypedString, at: Location) -> Option<Typed> {
        let Value::SingleQuotedString(text) = &typed.value.value else {
            return self.refuse(expr);
        };
        match typed.data_type {
            DataType::Date => self.time(text, Kind::Date, at),
            DataType::Timestamp(None, TimezoneInfo::None) => self.time(text, Kind::Timestamp, at),
            _ => self.refuse(expr),
        }
    }

    /// Types a number: an integer if it has neither point nor exponent. One beyond all doubles is null.
    pub(super) fn number(&mut self, digits: &str, negative: bool, at: Location) -> Option<Typed> {
        let digits = if negative { format!("-{digits}") } else { digits.to_owned() };
        if digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
            return match digits.parse() {
                Ok(integer) => Some(Typed { node: Node::Literal(Literal::Integer(integer)), kind: Kind::Integer, at }),
                Err(_) => {
                    let message = format!("`{digits}` does not fit in 64 bits");
                    self.hinted(at, message, format!("`{digits}.0` is a number of double precision"))
                }
            };
        }
        let Ok(number) = digits.parse::<f64>() else {
            return self.fault(at, format!("`{digits}` is not a number"));
        };
        let literal = if number.is_finite() { Literal::Number(number) } else { Literal::Null };
        Some(Typed { node: Node::Literal(literal), kind: Kind::Number, at })
    }

    /// Types the text of a date or a timestamp; a timestamp may be a date alone.
    pub(super) fn time(&mut self, text: &str, kind: Kind, at: Location) -> Option<Typed> {
        let time = if kind == Kind::Date { parse_date(text) } else { read_time(text) };
        let Some(time) = time else {
            let example = if kind == Kind::Date { "2026-11-23" } else { "2026-11-23 10:00:00Z" };
            return self.hinted(at, format!("`{text}` is not a {kind}"), format!("write it as `{example}`"));
        };
        Some(Typed { node: Node::Literal(Literal::Time(time)), kind, at })
    }
}

/// Reads a quoted literal that is compared with a time: a timestamp or a date. `None` if it is neither.
pub(super) fn read_time(text: &str) -> Option<i64> {
    parse_timestamp(text).or_else(|| parse_date(text))
}

/// Sorts the literals of `in`, all of type `kind`, each once, with null apart.
pub(super) fn items(literals: Vec<Literal>, kind: Kind) -> Items {
    let null = literals.contains(&Literal::Null);
    let literals = literals.into_iter();
    let values = match kind {
        Kind::Boolean => ItemValues::Boolean(sorted(literals.filter_map(|literal| match literal {
            Literal::Boolean(boolean) => Some(boolean),
            _ => None,
        }))),
        Kind::Number => ItemValues::Number(sorted(literals.filter_map(|literal| match literal {
            Literal::Number(number) => Some(number),
            _ => None,
        }))),
        Kind::Text => ItemValues::Text(sorted(literals.filter_map(|literal| match literal {
            Literal::Text(text) => Some(text),
            _ => None,
        }))),
        Kind::Timestamp | Kind::Date => ItemValues::Time(sorted(literals.filter_map(|literal| match literal {
            Literal::Time(time) => Some(time),
            _ => None,
        }))),
        Kind::Integer | Kind::Null | Kind::List(_) => {
            ItemValues::Integer(sorted(literals.filter_map(|literal| match literal {
                Literal::Integer(integer) => Some(integer),
                _ => None,
            })))
        }
    };
    Items { values, null }
}

/// Sorts values, each once.
fn sorted<T: PartialOrd>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values = values.collect::<Vec<_>>();
    values.sort_by(|left, right| left.partial_cmp(right).expect("literals are finite"));
    values.dedup_by(|left, right| left == right);
    values
}
