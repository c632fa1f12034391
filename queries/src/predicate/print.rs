//! Predicates as text: each canonical tree has one.
//!
//! The text has the fewest parentheses that the parser needs to read the same tree again.

use super::syntax::RESERVED;
use super::tree::{Arithmetic, ItemValues, Items, Literal, Node};
use usher_config::ColumnType;
use usher_core::time::{self, DAY};

/// Returns the canonical text of a canonical tree; `columns` are as they are written.
pub(crate) fn text(node: &Node, columns: &[(String, ColumnType)]) -> String {
    let mut writer = Writer { columns, out: String::new() };
    writer.node(node, 0, false);
    writer.out
}

/// Returns how tightly an expression binds, in the parser's numbers.
fn binding(node: &Node) -> u8 {
    match node {
        Node::Any(_) => 5,
        Node::All(_) => 10,
        Node::Not(operand) => match &**operand {
            Node::In(..)
            | Node::Between(..)
            | Node::Like(..)
            | Node::LikeEach { .. }
            | Node::IsNull(_)
            | Node::Distinct(..) => binding(operand),
            _ => 15,
        },
        Node::Distinct(..) | Node::IsNull(_) => 17,
        Node::Like(..) | Node::LikeEach { .. } => 19,
        Node::Compare(..) | Node::Clock(..) | Node::Between(..) | Node::In(..) => 20,
        Node::Arithmetic(Arithmetic::Add | Arithmetic::Subtract, ..) => 30,
        Node::Arithmetic(..) | Node::Concat(..) => 40,
        Node::ToNumber(operand) => binding(operand),
        Node::Negate(_) => 45,
        _ => 100,
    }
}

/// Returns whether one of these makes the others numbers, so that an integral literal needs no point.
fn numbers(operands: &[&Node]) -> bool {
    operands.iter().any(|operand| !matches!(operand, Node::Literal(_) | Node::ToNumber(_)) && !is_null(operand))
}

/// Returns whether an expression has no type but null, which makes nothing a number.
fn is_null(node: &Node) -> bool {
    match node {
        Node::Literal(literal) => *literal == Literal::Null,
        Node::Abs(operand) => is_null(operand),
        Node::Arithmetic(arithmetic, left, right) => {
            *arithmetic != Arithmetic::Divide && is_null(left) && is_null(right)
        }
        Node::Coalesce(nodes) => nodes.iter().all(is_null),
        _ => false,
    }
}

struct Writer<'c> {
    columns: &'c [(String, ColumnType)],
    out: String,
}

impl Writer<'_> {
    /// Writes an expression where only what binds at least as tightly as `tight` may stand. Where it is `loose`, an
    /// integral number needs no point.
    fn node(&mut self, node: &Node, tight: u8, loose: bool) {
        if binding(node) < tight {
            self.out.push('(');
            self.node(node, 0, loose);
            self.out.push(')');
            return;
        }
        match node {
            Node::Column(column) => self.out.push_str(&self.columns[*column as usize].0),
            Node::Literal(literal) => self.literal(literal, loose),
            Node::ToNumber(operand) => self.node(operand, tight, false),
            Node::Negate(operand) => {
                self.out.push('-');
                let from = self.out.len();
                self.node(operand, 45, false);
                if self.out[from..].starts_with('-') {
                    // `--` would begin a comment.
                    self.out.insert(from, ' ');
                }
            }
            Node::Arithmetic(arithmetic, left, right) => {
                let tight = match arithmetic {
                    Arithmetic::Add | Arithmetic::Subtract => 30,
                    Arithmetic::Multiply | Arithmetic::Divide | Arithmetic::Remainder => 40,
                };
                let loose = *arithmetic == Arithmetic::Divide || numbers(&[left, right]);
                self.infix(left, arithmetic.symbol(), right, tight, loose);
            }
            Node::Concat(left, right) => self.infix(left, "||", right, 40, false),
            Node::Compare(compare, left, right) => {
                self.infix(left, compare.symbol(), right, 20, numbers(&[left, right]));
            }
            Node::Clock(compare, operand, offset) => {
                self.node(operand, 20, false);
                self.out.push_str(&format!(" {} now()", compare.symbol()));
                if *offset != 0 {
                    let sign = if *offset < 0 { '-' } else { '+' };
                    self.out.push_str(&format!(" {sign} interval '{}'", interval(offset.unsigned_abs())));
                }
            }
            Node::Distinct(left, right) => self.infix(left, "is distinct from", right, 17, numbers(&[left, right])),
            Node::IsNull(operand) => {
                self.node(operand, 17, false);
                self.out.push_str(" is null");
            }
            Node::Between(operand, low, high) => self.between(operand, "between", low, high),
            Node::In(operand, items) => self.among(operand, "in", items),
            Node::Like(operand, like) => {
                let written = &like.written;
                let pattern = Node::Literal(Literal::Text(written.pattern.clone()));
                self.like(operand, "", &pattern, written.escape, written.insensitive);
            }
            Node::LikeEach { operand, pattern, escape, insensitive } => {
                self.like(operand, "", pattern, *escape, *insensitive);
            }
            Node::Not(operand) => self.not(operand),
            Node::All(nodes) => self.join(nodes, " and ", 11),
            Node::Any(nodes) => self.join(nodes, " or ", 6),
            Node::Coalesce(nodes) => self.call("coalesce", &nodes.iter().collect::<Vec<_>>()),
            Node::RegexpMatches(operand, regexp) => {
                self.out.push_str("regexp_matches(");
                self.node(operand, 0, false);
                self.out.push_str(", ");
                self.quote(regexp.as_str());
                self.out.push(')');
            }
            Node::ListContains(list, element) => {
                self.out.push_str("list_contains(");
                self.node(list, 0, false);
                self.out.push_str(", ");
                self.node(element, 0, self.is_of_numbers(list));
                self.out.push(')');
            }
            Node::Abs(operand) => self.call("abs", &[operand]),
            Node::Lower(operand) => self.call("lower", &[operand]),
            Node::Upper(operand) => self.call("upper", &[operand]),
            Node::Trim(operand) => self.call("trim", &[operand]),
            Node::Length(operand) => self.call("length", &[operand]),
            Node::StartsWith(whole, part) => self.call("starts_with", &[whole, part]),
            Node::EndsWith(whole, part) => self.call("ends_with", &[whole, part]),
            Node::Contains(whole, part) => self.call("contains", &[whole, part]),
        }
    }

    fn not(&mut self, operand: &Node) {
        match operand {
            Node::IsNull(operand) => {
                self.node(operand, 17, false);
                self.out.push_str(" is not null");
            }
            Node::Distinct(left, right) => {
                self.infix(left, "is not distinct from", right, 17, numbers(&[left, right]));
            }
            Node::Between(operand, low, high) => self.between(operand, "not between", low, high),
            Node::In(operand, items) => self.among(operand, "not in", items),
            Node::Like(operand, like) => {
                let written = &like.written;
                let pattern = Node::Literal(Literal::Text(written.pattern.clone()));
                self.like(operand, "not ", &pattern, written.escape, written.insensitive);
            }
            Node::LikeEach { operand, pattern, escape, insensitive } => {
                self.like(operand, "not ", pattern, *escape, *insensitive);
            }
            _ => {
                self.out.push_str("not ");
                self.node(operand, 16, false);
            }
        }
    }

    fn infix(&mut self, left: &Node, symbol: &str, right: &Node, tight: u8, loose: bool) {
        self.node(left, tight, loose);
        self.out.push_str(&format!(" {symbol} "));
        self.node(right, tight + 1, loose);
    }

    fn between(&mut self, operand: &Node, word: &str, low: &Node, high: &Node) {
        let loose = numbers(&[operand, low, high]);
        self.infix(operand, word, low, 20, loose);
        self.out.push_str(" and ");
        self.node(high, 21, loose);
    }

    fn like(&mut self, operand: &Node, not: &str, pattern: &Node, escape: Option<char>, insensitive: bool) {
        let word = if insensitive { "ilike" } else { "like" };
        self.infix(operand, &format!("{not}{word}"), pattern, 19, false);
        if let Some(escape) = escape {
            self.out.push_str(" escape ");
            self.quote(escape.encode_utf8(&mut [0; 4]));
        }
    }

    fn among(&mut self, operand: &Node, word: &str, items: &Items) {
        self.node(operand, 20, false);
        self.out.push_str(&format!(" {word} ("));
        let loose = numbers(&[operand]);
        let mut literals = match &items.values {
            ItemValues::Boolean(values) => values.iter().copied().map(Literal::Boolean).collect(),
            ItemValues::Integer(values) => values.iter().copied().map(Literal::Integer).collect(),
            ItemValues::Number(values) => values.iter().copied().map(Literal::Number).collect(),
            ItemValues::Text(values) => values.iter().cloned().map(Literal::Text).collect(),
            ItemValues::Time(values) => values.iter().copied().map(Literal::Time).collect::<Vec<_>>(),
        };
        literals.extend(items.null.then_some(Literal::Null));
        for (index, literal) in literals.iter().enumerate() {
            self.out.push_str(if index == 0 { "" } else { ", " });
            self.literal(literal, loose);
        }
        self.out.push(')');
    }

    fn join(&mut self, nodes: &[Node], word: &str, tight: u8) {
        for (index, node) in nodes.iter().enumerate() {
            self.out.push_str(if index == 0 { "" } else { word });
            self.node(node, tight, false);
        }
    }

    fn call(&mut self, name: &str, arguments: &[&Node]) {
        self.out.push_str(name);
        self.out.push('(');
        let loose = numbers(arguments);
        for (index, argument) in arguments.iter().enumerate() {
            self.out.push_str(if index == 0 { "" } else { ", " });
            self.node(argument, 0, loose);
        }
        self.out.push(')');
    }

    fn is_of_numbers(&self, list: &Node) -> bool {
        matches!(list, Node::Column(column) if self.columns[*column as usize].1 == ColumnType::ListNumber)
    }

    fn literal(&mut self, literal: &Literal, loose: bool) {
        /// Below 2^53 an integral double and the integer are the same number.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match literal {
            Literal::Null => self.out.push_str("null"),
            Literal::Boolean(boolean) => self.out.push_str(&boolean.to_string()),
            Literal::Integer(integer) => self.out.push_str(&integer.to_string()),
            Literal::Number(number) if loose && number.fract() == 0.0 && number.abs() < EXACT => {
                self.out.push_str(&(*number as i64).to_string());
            }
            Literal::Number(number) => self.out.push_str(&format!("{number:?}")),
            Literal::Text(text) => self.quote(text),
            Literal::Time(time) => self.out.push_str(&written_time(*time)),
        }
    }

    fn quote(&mut self, text: &str) {
        self.out.push('\'');
        self.out.push_str(&text.replace('\'', "''"));
        self.out.push('\'');
    }
}

/// Returns a column's name as it is written in a predicate.
pub(crate) fn quoted(name: &str) -> String {
    let plain = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
        && !RESERVED.contains(&name.to_ascii_lowercase().as_str());
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Returns a time as a literal: a date where it is the midnight of one that a literal can name.
fn written_time(time: i64) -> String {
    match time::shortest(time).expect("literals are written with years of four digits") {
        midnight if time % DAY == 0 && midnight.ends_with('Z') => format!("date '{}'", &midnight[..10]),
        moment => format!("timestamp '{moment}'"),
    }
}

/// Returns an interval in the largest unit up to days in which it is whole.
fn interval(ms: u64) -> String {
    let units = [(DAY as u64, "day"), (3_600_000, "hour"), (60_000, "minute"), (1000, "second"), (1, "millisecond")];
    let (size, unit) = units.into_iter().find(|(size, _)| ms.is_multiple_of(*size)).expect("all are whole ms");
    let count = ms / size;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}
