//! From the parser's tree to the typed one: names are resolved, types checked, all problems collected.
//!
//! What the parser reads and predicates do not have is refused by name. An expression with a problem has no type, and
//! what contains it stays silent: each mistake is reported once.

use super::Now;
use super::like::{Like, Written};
use super::matches::Matches;
use super::node::{Arithmetic, Compare, ItemValues, Items, Literal, Node};
use super::syntax::{DEPTH, Fault};
use super::text::{quoted, symbol};
use crate::time::{parse_date, parse_timestamp};
use sqlparser::ast::{
    BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, InTarget,
    ObjectNamePart, Spanned, TimezoneInfo, UnaryOperator, Value,
};
use sqlparser::tokenizer::Location;
use std::fmt;
use usher_config::ColumnType;

/// The types of expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Of the literal `null`, which fits everywhere.
    Null,
    Boolean,
    Integer,
    Number,
    Text,
    Timestamp,
    Date,
    List(Element),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    Text,
    Integer,
    Number,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Null => "null",
            Kind::Boolean => "boolean",
            Kind::Integer => "integer",
            Kind::Number => "number",
            Kind::Text => "string",
            Kind::Timestamp => "timestamp",
            Kind::Date => "date",
            Kind::List(Element::Text) => "list<string>",
            Kind::List(Element::Integer) => "list<integer>",
            Kind::List(Element::Number) => "list<number>",
        })
    }
}

impl Kind {
    fn of(column_type: ColumnType) -> Kind {
        match column_type {
            ColumnType::String => Kind::Text,
            ColumnType::Integer => Kind::Integer,
            ColumnType::Number => Kind::Number,
            ColumnType::Boolean => Kind::Boolean,
            ColumnType::Timestamp => Kind::Timestamp,
            ColumnType::Date => Kind::Date,
            ColumnType::ListString => Kind::List(Element::Text),
            ColumnType::ListInteger => Kind::List(Element::Integer),
            ColumnType::ListNumber => Kind::List(Element::Number),
        }
    }

    fn is_time(self) -> bool {
        matches!(self, Kind::Timestamp | Kind::Date)
    }

    fn is_numeric(self) -> bool {
        matches!(self, Kind::Null | Kind::Integer | Kind::Number)
    }
}

/// An expression with its type and its beginning in the text.
struct Typed {
    node: Node,
    kind: Kind,
    at: Location,
}

/// What collects while a tree is typed.
pub(crate) struct Typer<'a> {
    column: &'a dyn Fn(&str) -> Option<ColumnType>,
    known: &'a [String],
    now: Now,
    depth: usize,
    /// The columns met, in the order of their indexes.
    pub(crate) columns: Vec<(String, ColumnType)>,
    /// What is wrong, in the order of the text.
    pub(crate) faults: Vec<Fault>,
}

impl<'a> Typer<'a> {
    pub(crate) fn new(column: &'a dyn Fn(&str) -> Option<ColumnType>, known: &'a [String], now: Now) -> Typer<'a> {
        Typer { column, known, now, depth: 0, columns: Vec::new(), faults: Vec::new() }
    }

    /// Types a condition; none if there are faults.
    pub(crate) fn condition(&mut self, expr: &Expr, of: &str) -> Option<Node> {
        let typed = self.expr(expr)?;
        if matches!(typed.kind, Kind::Boolean | Kind::Null) {
            return Some(typed.node);
        }
        self.fault(typed.at, format!("{of} is a condition, found {}", typed.kind))
    }

    fn fault<T>(&mut self, at: Location, message: impl Into<String>) -> Option<T> {
        self.faults.push(Fault::new(at, message));
        None
    }

    fn hinted<T>(&mut self, at: Location, message: impl Into<String>, hint: impl Into<String>) -> Option<T> {
        self.faults.push(Fault::new(at, message).hint(hint));
        None
    }

    fn expr(&mut self, expr: &Expr) -> Option<Typed> {
        let mut expr = expr;
        while let Expr::Nested(inner) = expr {
            expr = inner;
        }
        if self.depth == DEPTH {
            let message = format!("the predicate nests deeper than {DEPTH} levels");
            // Once is enough: siblings at this depth would repeat it.
            if self.faults.iter().all(|fault| fault.message != message) {
                self.fault::<()>(start(expr), message);
            }
            return None;
        }
        self.depth += 1;
        let typed = self.one(expr);
        self.depth -= 1;
        typed
    }

    fn one(&mut self, expr: &Expr) -> Option<Typed> {
        let at = start(expr);
        let boolean = |node| Some(Typed { node, kind: Kind::Boolean, at });
        match expr {
            Expr::Identifier(name) => self.name(name),
            Expr::Value(value) => self.literal(&value.value, at),
            Expr::TypedString(typed) => {
                let Value::SingleQuotedString(text) = &typed.value.value else {
                    return self.refuse(expr);
                };
                match typed.data_type {
                    DataType::Date => self.time(text, Kind::Date, at),
                    DataType::Timestamp(None, TimezoneInfo::None) => self.time(text, Kind::Timestamp, at),
                    _ => self.refuse(expr),
                }
            }
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
                let operand = self.condition(expr, "what `not` takes")?;
                boolean(Node::Not(Box::new(operand)))
            }
            Expr::UnaryOp { op: op @ (UnaryOperator::Minus | UnaryOperator::Plus), expr } => {
                self.sign(*op == UnaryOperator::Minus, expr, at)
            }
            Expr::BinaryOp { op: op @ (BinaryOperator::And | BinaryOperator::Or), .. } => self.join(op, expr, at),
            Expr::BinaryOp { left, op, right } => self.binary(expr, left, op, right, at),
            Expr::IsNull(operand) => boolean(Node::IsNull(Box::new(self.expr(operand)?.node))),
            Expr::IsNotNull(operand) => boolean(not(Node::IsNull(Box::new(self.expr(operand)?.node)))),
            Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
                let ([left, right], _) = self.alike([left, right], "`is distinct from`")?;
                let distinct = Node::Distinct(Box::new(left), Box::new(right));
                boolean(if let Expr::IsDistinctFrom(..) = expr { distinct } else { not(distinct) })
            }
            Expr::Between { expr, negated, low, high } => {
                let between = self.between(expr, low, high)?;
                boolean(if *negated { not(between) } else { between })
            }
            Expr::In { expr: operand, target: InTarget::List(list), negated, global: false } => {
                let within = self.within(operand, list)?;
                boolean(if *negated { not(within) } else { within })
            }
            Expr::In { target, .. } if !matches!(target, InTarget::List(_)) => {
                self.fault(at, "`in` takes literals in parentheses")
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char } => {
                let like = self.like(expr, pattern, escape_char.as_deref(), false)?;
                boolean(if *negated { not(like) } else { like })
            }
            Expr::ILike { negated, any: false, expr, pattern, escape_char } => {
                let like = self.like(expr, pattern, escape_char.as_deref(), true)?;
                boolean(if *negated { not(like) } else { like })
            }
            Expr::Function(function) => self.function(expr, function, at),
            Expr::Trim { trim_where: None, trim_what: None, expr, trim_characters: None } => {
                let operand = self.text(expr, "trim")?;
                Some(Typed { node: Node::Trim(operand), kind: Kind::Text, at })
            }
            Expr::Interval(_) => self.hinted(
                at,
                "an interval stands only in `column CMP now() ± interval`",
                "compare a column: `seen_at > now() - interval '7 days'`",
            ),
            Expr::CompoundIdentifier(parts) => {
                let name = parts.iter().map(|part| part.value.as_str()).collect::<Vec<_>>().join(".");
                let message = format!("`{name}` is not a column's name");
                if (self.column)(&name).is_some() {
                    return self.hinted(at, message, format!("quote it: `{}`", quoted(&name)));
                }
                self.hinted(at, message, "predicates name columns without a table")
            }
            _ => self.refuse(expr),
        }
    }

    fn name(&mut self, name: &Ident) -> Option<Typed> {
        let at = name.span.start;
        let Some(column_type) = (self.column)(&name.value) else {
            let message = format!("unknown column `{}`", name.value);
            return match self.nearest(&name.value) {
                Some(near) => self.hinted(at, message, format!("did you mean `{}`?", quoted(near))),
                None if name.quote_style.is_some() => {
                    let text = name.value.replace('\'', "''");
                    self.hinted(at, message, format!("double quotes name a column; text is `'{text}'`"))
                }
                None => self.fault(at, message),
            };
        };
        let index = self.columns.iter().position(|(known, _)| *known == name.value).unwrap_or_else(|| {
            self.columns.push((name.value.clone(), column_type));
            self.columns.len() - 1
        });
        Some(Typed { node: Node::Column(index as u32), kind: Kind::of(column_type), at })
    }

    /// The known name nearest to one that is not, if it is near.
    fn nearest(&self, name: &str) -> Option<&'a str> {
        let lower = name.to_lowercase();
        let distance = |known: &'a String| (strsim::osa_distance(&known.to_lowercase(), &lower), known.as_str());
        let (distance, near) = self.known.iter().map(distance).min()?;
        is_near(distance, name).then_some(near)
    }

    fn literal(&mut self, value: &Value, at: Location) -> Option<Typed> {
        let (literal, kind) = match value {
            Value::SingleQuotedString(text) => (Literal::Text(text.clone()), Kind::Text),
            Value::Boolean(boolean) => (Literal::Boolean(*boolean), Kind::Boolean),
            Value::Null => (Literal::Null, Kind::Null),
            Value::Number(digits, false) => return self.number(digits, false, at),
            other => {
                let message = format!("`{other}` is not a literal of predicates");
                return self.hinted(at, message, "write text in single quotes: `'text'`");
            }
        };
        Some(Typed { node: Node::Literal(literal), kind, at })
    }

    /// A number: an integer if it has neither point nor exponent. One beyond all doubles is null.
    fn number(&mut self, digits: &str, negative: bool, at: Location) -> Option<Typed> {
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

    fn time(&mut self, text: &str, kind: Kind, at: Location) -> Option<Typed> {
        let time = if kind == Kind::Date { parse_date(text) } else { read_time(text) };
        let Some(time) = time else {
            let example = if kind == Kind::Date { "2026-11-23" } else { "2026-11-23 10:00:00Z" };
            return self.hinted(at, format!("`{text}` is not a {kind}"), format!("write it as `{example}`"));
        };
        Some(Typed { node: Node::Literal(Literal::Time(time)), kind, at })
    }

    fn sign(&mut self, minus: bool, expr: &Expr, at: Location) -> Option<Typed> {
        let mut inner = expr;
        while let Expr::Nested(nested) = inner {
            inner = nested;
        }
        if let Expr::Value(value) = inner
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

    /// `and` and `or`: the parser nests them to the left, one in another; here they are one.
    fn join(&mut self, join: &BinaryOperator, expr: &Expr, at: Location) -> Option<Typed> {
        let mut parts = Vec::new();
        let mut rest = expr;
        while let Expr::BinaryOp { left, op, right } = rest
            && op == join
        {
            parts.push(&**right);
            rest = left;
        }
        parts.push(rest);
        let of = format!("what `{}` joins", join.to_string().to_lowercase());
        let nodes = parts.into_iter().rev().map(|part| self.condition(part, &of)).collect::<Vec<_>>();
        let nodes = nodes.into_iter().collect::<Option<Vec<_>>>()?;
        let node = if *join == BinaryOperator::And { Node::All(nodes) } else { Node::Any(nodes) };
        Some(Typed { node, kind: Kind::Boolean, at })
    }

    fn binary(&mut self, expr: &Expr, left: &Expr, op: &BinaryOperator, right: &Expr, at: Location) -> Option<Typed> {
        let compare = match op {
            BinaryOperator::Eq => Compare::Equal,
            BinaryOperator::NotEq => Compare::Unequal,
            BinaryOperator::Lt => Compare::Less,
            BinaryOperator::LtEq => Compare::LessEqual,
            BinaryOperator::Gt => Compare::Greater,
            BinaryOperator::GtEq => Compare::GreaterEqual,
            BinaryOperator::Plus => return self.arithmetic(Arithmetic::Add, "+", left, right, at),
            BinaryOperator::Minus => {
                return self.arithmetic(Arithmetic::Subtract, "-", left, right, at);
            }
            BinaryOperator::Multiply => {
                return self.arithmetic(Arithmetic::Multiply, "*", left, right, at);
            }
            BinaryOperator::Divide => {
                return self.arithmetic(Arithmetic::Divide, "/", left, right, at);
            }
            BinaryOperator::Modulo => {
                return self.arithmetic(Arithmetic::Remainder, "%", left, right, at);
            }
            BinaryOperator::StringConcat => {
                let (left, right) = (self.text(left, "||"), self.text(right, "||"));
                return Some(Typed { node: Node::Concat(left?, right?), kind: Kind::Text, at });
            }
            _ => return self.refuse(expr),
        };
        let node = if is_clock(right) {
            self.clock(compare, left, right)?
        } else if is_clock(left) {
            self.clock(compare.flipped(), right, left)?
        } else {
            let ([left, right], _) = self.alike([left, right], &format!("`{}`", symbol(compare)))?;
            Node::Compare(compare, Box::new(left), Box::new(right))
        };
        Some(Typed { node, kind: Kind::Boolean, at })
    }

    fn arithmetic(
        &mut self,
        arithmetic: Arithmetic,
        symbol: &str,
        left: &Expr,
        right: &Expr,
        at: Location,
    ) -> Option<Typed> {
        let mut operands = Vec::new();
        for operand in [self.expr(left), self.expr(right)].into_iter().flatten() {
            if operand.kind.is_numeric() {
                operands.push(operand);
            } else {
                self.fault::<()>(operand.at, format!("`{symbol}` takes numbers, found {}", operand.kind));
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

    /// Types expressions and brings them to one type: that of the values, null if they all are.
    fn alike<const N: usize>(&mut self, exprs: [&Expr; N], what: &str) -> Option<([Node; N], Kind)> {
        let typed = exprs.map(|expr| self.expr(expr)).into_iter().collect::<Option<Vec<_>>>()?;
        let (nodes, kind) = self.unify(typed, what)?;
        Some((<[Node; N]>::try_from(nodes).expect("as many come out as went in"), kind))
    }

    fn unify(&mut self, mut typed: Vec<Typed>, what: &str) -> Option<(Vec<Node>, Kind)> {
        if typed.iter().any(|typed| typed.kind.is_time()) {
            for typed in &mut typed {
                let Node::Literal(Literal::Text(text)) = &typed.node else {
                    continue;
                };
                let Some(time) = read_time(text) else {
                    let message = format!("`'{text}'` is not a date or timestamp");
                    return self.hinted(typed.at, message, "write it as `'2026-11-23'` or `'2026-11-23 10:00:00Z'`");
                };
                *typed = Typed { node: Node::Literal(Literal::Time(time)), kind: Kind::Timestamp, at: typed.at };
            }
        }
        let mut kind = Kind::Null;
        for typed in &typed {
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
                    let hint = match (one, other) {
                        (Kind::Text, Kind::Integer | Kind::Number) => Some("text is in single quotes: `'5'`"),
                        (Kind::Integer | Kind::Number, Kind::Text) => Some("numbers have no quotes: `5`"),
                        (Kind::Boolean, Kind::Text) => Some("booleans have no quotes: `true`"),
                        _ => None,
                    };
                    let at = typed.at;
                    return match hint {
                        Some(hint) => self.hinted(at, message, hint),
                        None => self.fault(at, message),
                    };
                }
            };
        }
        let node = |typed: Typed| {
            if kind == Kind::Number { to_number(typed) } else { typed.node }
        };
        Some((typed.into_iter().map(node).collect(), kind))
    }

    /// `column CMP now() ± interval`.
    fn clock(&mut self, compare: Compare, column: &Expr, clock: &Expr) -> Option<Node> {
        let offset = self.offset(clock);
        if self.now == Now::Refused {
            // Said once, where `now()` stands; the column's problems still count.
            self.expr(column);
            return None;
        }
        let column = bare(column);
        if !matches!(column, Expr::Identifier(_)) {
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

    /// The ms that `now() ± interval` adds to the clock.
    fn offset(&mut self, clock: &Expr) -> Option<i64> {
        match bare(clock) {
            Expr::BinaryOp { left, op, right } => {
                let before = self.offset(left)?;
                let at = start(right);
                let Expr::Interval(interval) = bare(right) else {
                    let message = "only an interval is added to `now()`";
                    return self.hinted(at, message, "write `now() - interval '7 days'`");
                };
                let ms = match (&*interval.value, &interval.leading_field, &interval.last_field) {
                    (Expr::Value(value), None, None) => match &value.value {
                        Value::SingleQuotedString(text) => interval_ms(text),
                        _ => None,
                    },
                    _ => None,
                };
                let offset = ms.and_then(|ms| match op {
                    BinaryOperator::Plus => before.checked_add(ms),
                    _ => before.checked_sub(ms),
                });
                if offset.is_none() {
                    let message =
                        format!("`{}` is not an interval of predicates", bare(right).to_string().to_lowercase());
                    let hint = "write `interval '7 days'`: a whole number of milliseconds, seconds, minutes, hours, \
                                days or weeks";
                    return self.hinted(at, message, hint);
                }
                offset
            }
            Expr::Function(function) => {
                let at = start(clock);
                if self.now == Now::Refused {
                    return self.now_refused(at);
                }
                let arguments = self.arguments(function, at)?;
                if arguments.is_empty() { Some(0) } else { self.fault(at, "`now()` takes no arguments") }
            }
            _ => unreachable!("`is_clock` says what a clock is"),
        }
    }

    fn now_refused<T>(&mut self, at: Location) -> Option<T> {
        self.hinted(at, "`now()` can't stand in `performed` or `sequence`", "`within` says how far back events count")
    }

    fn between(&mut self, operand: &Expr, low: &Expr, high: &Expr) -> Option<Node> {
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
        let ([operand, low, high], _) = self.alike([operand, low, high], "`between`")?;
        Some(Node::Between(Box::new(operand), Box::new(low), Box::new(high)))
    }

    fn within(&mut self, operand: &Expr, list: &[Expr]) -> Option<Node> {
        let mut typed = vec![self.expr(operand)];
        for item in list {
            let item = self.expr(item);
            typed.push(match item {
                Some(Typed { node: Node::Literal(_), .. }) | None => item,
                Some(item) => self.fault(item.at, "`in` takes literals, found an expression"),
            });
        }
        let typed = typed.into_iter().collect::<Option<Vec<_>>>()?;
        let (mut nodes, kind) = self.unify(typed, "`in`")?;
        let operand = nodes.remove(0);
        let literals = nodes.into_iter().filter_map(|node| match node {
            Node::Literal(literal) => Some(literal),
            _ => None,
        });
        Some(Node::In(Box::new(operand), items(literals.collect(), kind)))
    }

    fn like(&mut self, operand: &Expr, pattern: &Expr, escape: Option<&Expr>, insensitive: bool) -> Option<Node> {
        let name = if insensitive { "ilike" } else { "like" };
        let at = start(pattern);
        let (operand, pattern) = (self.text(operand, name), self.text(pattern, name));
        let (operand, pattern) = (operand?, pattern?);
        let escape = match escape {
            None => None,
            Some(escape) => {
                let mut chars = match escape {
                    Expr::Value(value) => match &value.value {
                        Value::SingleQuotedString(text) => text.chars(),
                        _ => "".chars(),
                    },
                    _ => "".chars(),
                };
                match (chars.next(), chars.next()) {
                    (Some(one), None) => Some(one),
                    _ => {
                        return self.hinted(at, "`escape` takes one character", "write `escape '\\'`");
                    }
                }
            }
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

    /// Types an operand that must be text.
    fn text(&mut self, expr: &Expr, name: &str) -> Option<Box<Node>> {
        let typed = self.expr(expr)?;
        match typed.kind {
            Kind::Text | Kind::Null => Some(Box::new(typed.node)),
            Kind::List(_) if name == "contains" => {
                self.hinted(typed.at, "`contains` takes strings, found a list", "write `list_contains`")
            }
            kind => self.fault(typed.at, format!("`{name}` takes strings, found {kind}")),
        }
    }

    /// The arguments of a plain call.
    fn arguments<'e>(&mut self, function: &'e Function, at: Location) -> Option<Vec<&'e Expr>> {
        let plain = function.over.is_none()
            && function.filter.is_none()
            && function.null_treatment.is_none()
            && function.within_group.is_empty()
            && !function.uses_odbc_syntax
            && function.parameters == FunctionArguments::None;
        if plain
            && let FunctionArguments::List(list) = &function.args
            && list.duplicate_treatment.is_none()
            && list.clauses.is_empty()
        {
            let argument = |argument: &'e FunctionArg| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
                _ => None,
            };
            if let Some(arguments) = list.args.iter().map(argument).collect() {
                return Some(arguments);
            }
        }
        self.fault(at, format!("`{}` takes plain arguments only", short(&function.to_string())))
    }

    fn function(&mut self, expr: &Expr, function: &Function, at: Location) -> Option<Typed> {
        const NAMES: [&str; 12] = [
            "lower",
            "upper",
            "length",
            "trim",
            "coalesce",
            "abs",
            "starts_with",
            "ends_with",
            "contains",
            "regexp_matches",
            "list_contains",
            "now",
        ];
        let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else {
            return self.refuse(expr);
        };
        let name = name.value.to_ascii_lowercase();
        let takes = match name.as_str() {
            "now" if self.now == Now::Refused => return self.now_refused(at),
            "now" => {
                return self.hinted(
                    at,
                    "`now()` stands only in `column CMP now() ± interval`",
                    "compare a column: `seen_at > now() - interval '7 days'`",
                );
            }
            "coalesce" => 1..=usize::MAX,
            "lower" | "upper" | "length" | "abs" => 1..=1,
            "starts_with" | "ends_with" | "contains" | "regexp_matches" | "list_contains" => 2..=2,
            _ => {
                let near = NAMES.iter().map(|known| (strsim::osa_distance(known, &name), *known)).min();
                let hint = match near {
                    Some((distance, near)) if is_near(distance, &name) => {
                        format!("did you mean `{near}`?")
                    }
                    _ => format!(
                        "there are {}",
                        NAMES.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
                    ),
                };
                return self.hinted(at, format!("unknown function `{name}`"), hint);
            }
        };
        let arguments = self.arguments(function, at)?;
        if !takes.contains(&arguments.len()) {
            let (count, s) = (takes.start(), if *takes.start() == 1 { "" } else { "s" });
            return self.fault(at, format!("`{name}` takes {count} argument{s}, found {}", arguments.len()));
        }
        let mut texts = || arguments.iter().map(|argument| self.text(argument, &name)).collect::<Vec<_>>();
        let (node, kind) = match name.as_str() {
            "lower" => (Node::Lower(texts().remove(0)?), Kind::Text),
            "upper" => (Node::Upper(texts().remove(0)?), Kind::Text),
            "length" => (Node::Length(texts().remove(0)?), Kind::Integer),
            "starts_with" | "ends_with" | "contains" => {
                let part = texts().into_iter().collect::<Option<Vec<_>>>()?;
                let [whole, part] = <[Box<Node>; 2]>::try_from(part).ok()?;
                let node = match name.as_str() {
                    "starts_with" => Node::StartsWith(whole, part),
                    "ends_with" => Node::EndsWith(whole, part),
                    _ => Node::Contains(whole, part),
                };
                (node, Kind::Boolean)
            }
            "regexp_matches" => {
                let operand = self.text(arguments[0], &name);
                let pattern = bare(arguments[1]);
                let Expr::Value(value) = pattern else {
                    return self.fault(start(pattern), "the pattern of `regexp_matches` is a literal");
                };
                let Value::SingleQuotedString(pattern) = &value.value else {
                    return self.fault(value.span.start, "the pattern of `regexp_matches` is a literal string");
                };
                match Matches::try_from(pattern.clone()) {
                    Ok(matches) => (Node::Matches(operand?, matches), Kind::Boolean),
                    Err(error) => {
                        let message = format!("`{pattern}` is not a regular expression: {error}");
                        return self.fault(value.span.start, message);
                    }
                }
            }
            "abs" => {
                let operand = self.expr(arguments[0])?;
                if !operand.kind.is_numeric() {
                    return self.fault(operand.at, format!("`abs` takes numbers, found {}", operand.kind));
                }
                (Node::Abs(Box::new(operand.node)), operand.kind)
            }
            "list_contains" => (self.list_contains(arguments[0], arguments[1])?, Kind::Boolean),
            _ => {
                let typed = arguments.into_iter().map(|argument| self.expr(argument)).collect::<Vec<_>>();
                let typed = typed.into_iter().collect::<Option<Vec<_>>>()?;
                let (nodes, kind) = self.unify(typed, "`coalesce`")?;
                (Node::Coalesce(nodes), kind)
            }
        };
        Some(Typed { node, kind, at })
    }

    fn list_contains(&mut self, list: &Expr, element: &Expr) -> Option<Node> {
        let (list, element) = (self.expr(list), self.expr(element));
        let (list, element) = (list?, element?);
        let element_node = match (list.kind, element.kind) {
            (Kind::Null, _) | (Kind::List(_), Kind::Null) => element.node,
            (Kind::List(Element::Text), Kind::Text) => element.node,
            (Kind::List(Element::Integer), Kind::Integer | Kind::Number) => element.node,
            (Kind::List(Element::Number), Kind::Integer | Kind::Number) => to_number(element),
            (Kind::List(_), found) => {
                return self.fault(element.at, format!("a {} holds no {found}", list.kind));
            }
            (found, _) => {
                return self.fault(list.at, format!("`list_contains` takes a list, found {found}"));
            }
        };
        Some(Node::ListContains(Box::new(list.node), Box::new(element_node)))
    }

    /// Names what the parser reads and predicates do not have.
    fn refuse<T>(&mut self, expr: &Expr) -> Option<T> {
        let at = start(expr);
        let (what, hint) = match expr {
            Expr::IsTrue(_) => ("is true".into(), Some("a boolean column alone is a predicate")),
            Expr::IsNotTrue(_) => ("is not true".into(), Some("write `not coalesce(column, false)`")),
            Expr::IsFalse(_) => ("is false".into(), Some("write `not column`")),
            Expr::IsNotFalse(_) => ("is not false".into(), Some("write `coalesce(column, true)`")),
            Expr::IsUnknown(_) => ("is unknown".into(), Some("write `is null`")),
            Expr::IsNotUnknown(_) => ("is not unknown".into(), Some("write `is not null`")),
            Expr::BinaryOp { op, .. } | Expr::AnyOp { compare_op: op, .. } | Expr::AllOp { compare_op: op, .. } => {
                let hint = match op {
                    BinaryOperator::PGRegexMatch => Some("write `regexp_matches(column, 'pattern')`"),
                    BinaryOperator::Spaceship => Some("write `is not distinct from`"),
                    _ => None,
                };
                let quantified = match expr {
                    Expr::AnyOp { .. } => " any",
                    Expr::AllOp { .. } => " all",
                    _ => "",
                };
                (format!("{}{quantified}", op.to_string().to_lowercase()), hint)
            }
            Expr::UnaryOp { op, .. } => (op.to_string(), None),
            Expr::Case { .. } => ("case".into(), None),
            Expr::Cast { .. } => ("cast".into(), Some("the column's declared type decides")),
            Expr::Subquery(_) => ("(select …)".into(), Some("`related` looks at the rows of another model")),
            Expr::Exists { .. } => ("exists".into(), Some("`related` looks at the rows of another model")),
            Expr::SimilarTo { .. } => ("similar to".into(), Some("write `regexp_matches(column, 'pattern')`")),
            Expr::RLike { .. } => ("rlike".into(), Some("write `regexp_matches(column, 'pattern')`")),
            Expr::Like { any: true, .. } => ("like any".into(), Some("join several `like` with `or`")),
            Expr::ILike { any: true, .. } => ("ilike any".into(), Some("join several `ilike` with `or`")),
            Expr::Collate { .. } => ("collate".into(), None),
            Expr::AtTimeZone { .. } => {
                ("at time zone".into(), Some("times have their offset: `'2026-11-23 10:00:00+01:00'`"))
            }
            Expr::Tuple(_) => ("a list in parentheses".into(), Some("it stands only after `in`")),
            other => (short(&other.to_string()), None),
        };
        let message = format!("`{what}` is not part of predicates");
        match hint {
            Some(hint) => self.hinted(at, message, hint),
            None => self.fault(at, message),
        }
    }
}

/// Whether so many changes leave a name recognisable.
fn is_near(distance: usize, name: &str) -> bool {
    let length = name.chars().count();
    distance < length && distance <= 1 + length / 4
}

fn not(node: Node) -> Node {
    Node::Not(Box::new(node))
}

/// An expression without the parentheses around it.
fn bare(mut expr: &Expr) -> &Expr {
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}

/// Whether an expression is `now()` or something added to it.
fn is_clock(expr: &Expr) -> bool {
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

/// Where an expression begins, without the recursion that long chains of operators would cost.
fn start(expr: &Expr) -> Location {
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

/// The beginning of a text, for a message.
fn short(text: &str) -> String {
    if text.chars().count() <= 40 { text.to_owned() } else { text.chars().take(40).chain(['…']).collect() }
}

fn to_number(typed: Typed) -> Node {
    match (typed.kind, typed.node) {
        (_, Node::Literal(Literal::Integer(integer))) => Node::Literal(Literal::Number(integer as f64)),
        (_, node @ Node::Literal(_)) => node,
        (Kind::Integer, node) => Node::ToNumber(Box::new(node)),
        (_, node) => node,
    }
}

/// A quoted literal against a date or timestamp: either.
fn read_time(text: &str) -> Option<i64> {
    parse_timestamp(text).or_else(|| parse_date(text))
}

/// Sorts literals of one type, each once, null apart.
fn items(literals: Vec<Literal>, kind: Kind) -> Items {
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

fn sorted<T: PartialOrd>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values = values.collect::<Vec<_>>();
    values.sort_by(|left, right| left.partial_cmp(right).expect("literals are finite"));
    values.dedup_by(|left, right| left == right);
    values
}

/// The ms of an interval's text, `7 days` or `1 day 12 hours`; none if it is not one.
fn interval_ms(text: &str) -> Option<i64> {
    let mut rest = text.trim();
    let mut total: Option<i64> = None;
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit())?;
        let (count, tail) = rest.split_at(digits);
        let tail = tail.trim_start();
        let letters = tail.find(|char: char| !char.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let size: i64 = match unit.to_ascii_lowercase().as_str() {
            "ms" | "millisecond" | "milliseconds" => 1,
            "s" | "sec" | "secs" | "second" | "seconds" => 1000,
            "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
            "h" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => 86_400_000,
            "w" | "week" | "weeks" => 604_800_000,
            _ => return None,
        };
        let ms = count.parse::<i64>().ok()?.checked_mul(size)?;
        total = Some(total.unwrap_or(0).checked_add(ms)?);
        rest = tail.trim_start();
    }
    total
}
