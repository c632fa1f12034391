//! Random predicates on random rows: the evaluations against a third one, written plainly beside the text.
//!
//! The generator makes each expression as text, in a random spelling with the parentheses that SQL's precedence needs
//! and some that it does not, and as a function that computes its value the slow way.

use super::{Row, batch, predicate, string};
use fastrand::Rng;
use std::collections::BTreeMap;
use usher_queries::Value;
use usher_queries::predicate::Evaluator;

/// A value other than null.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
enum V {
    B(bool),
    I(i64),
    N(f64),
    S(String),
    T(i64),
}

type Answer = Option<V>;

/// Computes an expression for a row at a time.
type Eval = Box<dyn Fn(&Row, i64) -> Answer>;

/// An expression: text, how tightly it binds, and its value.
struct E {
    text: String,
    binds: u8,
    eval: Eval,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    B,
    I,
    N,
    S,
    T,
}

struct Generator<'r> {
    random: &'r mut Rng,
    /// How often each form was made.
    made: BTreeMap<&'static str, usize>,
}

fn truth(answer: Answer) -> Option<bool> {
    match answer {
        None => None,
        Some(V::B(truth)) => Some(truth),
        other => panic!("{other:?} is no truth"),
    }
}

fn text(answer: Answer) -> Option<String> {
    match answer {
        None => None,
        Some(V::S(text)) => Some(text),
        other => panic!("{other:?} is no text"),
    }
}

/// A number as a double, from either type.
fn double(answer: &Answer) -> Option<f64> {
    match answer {
        None => None,
        Some(V::I(integer)) => Some(*integer as f64),
        Some(V::N(number)) => Some(*number),
        other => panic!("{other:?} is no number"),
    }
}

fn both(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    if left == Some(false) || right == Some(false) {
        return Some(false);
    }
    if left.is_none() || right.is_none() { None } else { Some(true) }
}

fn either(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    if left == Some(true) || right == Some(true) {
        return Some(true);
    }
    if left.is_none() || right.is_none() { None } else { Some(false) }
}

fn compared(symbol: &str, left: &Answer, right: &Answer) -> Option<bool> {
    let (one, other) = (left.as_ref()?, right.as_ref()?);
    let order = match (one, other) {
        (V::I(_), V::N(_)) | (V::N(_), V::I(_)) => double(left)?.partial_cmp(&double(right)?)?,
        _ => one.partial_cmp(other)?,
    };
    Some(match symbol {
        "=" => order.is_eq(),
        "<>" | "!=" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        _ => order.is_ge(),
    })
}

fn computed(symbol: &str, left: &Answer, right: &Answer) -> Answer {
    match (left.as_ref()?, right.as_ref()?) {
        (V::I(left), V::I(right)) if symbol != "/" => {
            let (left, right) = (i128::from(*left), i128::from(*right));
            let result = match symbol {
                "+" => left + right,
                "-" => left - right,
                "*" => left * right,
                _ if right == 0 => return None,
                _ => left - (left / right) * right,
            };
            i64::try_from(result).ok().map(V::I)
        }
        _ => {
            let (left, right) = (double(left)?, double(right)?);
            let result = match symbol {
                "+" => left + right,
                "-" => left - right,
                "*" => left * right,
                "/" => left / right,
                _ => left % right,
            };
            if result.is_nan() || result.is_infinite() { None } else { Some(V::N(result)) }
        }
    }
}

/// Returns whether `like` holds, by its definition: what the first sign of the pattern allows, and then the rest.
fn like(text: &[char], pattern: &[char], escape: Option<char>, insensitive: bool) -> bool {
    let same = |left: char, right: char| match insensitive {
        true => left.to_lowercase().eq(right.to_lowercase()),
        false => left == right,
    };
    match pattern {
        [] => text.is_empty(),
        [sign, literal, rest @ ..] if Some(*sign) == escape => {
            text.first().is_some_and(|first| same(*first, *literal) && like(&text[1..], rest, escape, insensitive))
        }
        ['%', rest @ ..] => (0..=text.len()).any(|skip| like(&text[skip..], rest, escape, insensitive)),
        ['_', rest @ ..] => !text.is_empty() && like(&text[1..], rest, escape, insensitive),
        [literal, rest @ ..] => {
            text.first().is_some_and(|first| same(*first, *literal) && like(&text[1..], rest, escape, insensitive))
        }
    }
}

const TEXTS: [&str; 9] = ["", "a", "A", "ab", "aab%", "b_a", " a ", "É", "日本"];
const INTEGERS: [i64; 9] = [0, 1, -1, 2, 3, 7, 9_007_199_254_740_993, i64::MAX, i64::MIN];
const NUMBERS: [f64; 9] = [0.0, -0.0, 1.0, 0.5, -1.5, 2.0, 9_007_199_254_740_992.0, 1e308, -1e308];
const TIMES: [i64; 5] = [0, 86_400_000, 1, 5000, -86_400_000];

fn pick<T: Clone>(random: &mut Rng, from: &[T]) -> T {
    from[random.usize(..from.len())].clone()
}

/// Returns a column's value; a number that is NaN or infinite is null.
fn answer(value: Option<&Value<'static>>) -> Answer {
    match value? {
        Value::Null => None,
        Value::Boolean(boolean) => Some(V::B(*boolean)),
        Value::Integer(integer) => Some(V::I(*integer)),
        Value::Number(number) => number.is_finite().then_some(V::N(*number)),
        Value::String(text) => Some(V::S(text.to_string())),
        Value::Timestamp(time) | Value::Date(time) => Some(V::T(*time)),
        Value::List(_) => panic!("lists are read by name"),
    }
}

impl Generator<'_> {
    fn note(&mut self, form: &'static str) {
        *self.made.entry(form).or_default() += 1;
    }

    /// A keyword in some case.
    fn word(&mut self, word: &str) -> String {
        match self.random.usize(0..3) {
            0 => word.to_uppercase(),
            _ => word.to_lowercase(),
        }
    }

    /// An expression's text where only what binds at least so tightly may stand.
    fn at_least(&mut self, expression: &E, tight: u8) -> String {
        if expression.binds < tight || self.random.usize(0..8) == 0 {
            return format!("( {})", expression.text);
        }
        expression.text.clone()
    }

    fn column(&mut self, kind: Kind) -> E {
        let name = match kind {
            Kind::B => pick(self.random, &["b", "c"]),
            Kind::I => pick(self.random, &["i", "j"]),
            Kind::N => pick(self.random, &["n", "ltv", "total billed"]),
            Kind::S => pick(self.random, &["s", "path", "x.y"]),
            Kind::T => pick(self.random, &["t", "u", "d"]),
        };
        let quote = name.contains([' ', '.']) || self.random.usize(0..5) == 0;
        let text = if quote { format!("\"{name}\"") } else { name.to_owned() };
        E { text, binds: 100, eval: Box::new(move |row, _| answer(row.get(name))) }
    }

    fn literal(&mut self, kind: Kind) -> E {
        let (text, value) = match kind {
            _ if self.random.usize(0..12) == 0 => (self.word("null"), None),
            Kind::B => {
                let boolean = self.random.bool();
                (self.word(&boolean.to_string()), Some(V::B(boolean)))
            }
            Kind::I => {
                let integer = pick(self.random, &INTEGERS);
                (integer.to_string(), Some(V::I(integer)))
            }
            Kind::N => {
                let number = pick(self.random, &NUMBERS);
                (format!("{number:?}"), Some(V::N(number)))
            }
            Kind::S => {
                let text = pick(self.random, &TEXTS);
                (format!("'{text}'"), Some(V::S(text.to_owned())))
            }
            Kind::T => match self.random.usize(0..3) {
                0 => (format!("{} '1970-01-02'", self.word("date")), Some(V::T(86_400_000))),
                1 => (format!("{} '1970-01-01 01:00:05+01:00'", self.word("timestamp")), Some(V::T(5000))),
                _ => ("timestamp '1970-01-01T00:00:00.0019'".to_owned(), Some(V::T(1))),
            },
        };
        // A sign is an operator, so a negative literal is no atom.
        let binds = if text.starts_with('-') { 45 } else { 100 };
        E { text, binds, eval: Box::new(move |_, _| value.clone()) }
    }

    fn expression(&mut self, kind: Kind, depth: usize) -> E {
        if depth == 0 || self.random.usize(0..5) == 0 {
            return if self.random.usize(0..3) == 0 { self.literal(kind) } else { self.column(kind) };
        }
        let depth = depth - 1;
        if self.random.usize(0..8) == 0 {
            return self.coalesce(kind, depth);
        }
        match kind {
            Kind::B => self.condition(depth),
            Kind::I | Kind::N => self.arithmetic(kind, depth),
            Kind::S => self.string(depth),
            Kind::T => self.column(kind),
        }
    }

    fn coalesce(&mut self, kind: Kind, depth: usize) -> E {
        self.note("coalesce");
        let count = self.random.usize(1..4);
        let parts = (0..count).map(|_| self.expression(kind, depth)).collect::<Vec<_>>();
        let texts = parts.iter().map(|part| part.text.clone()).collect::<Vec<_>>();
        let text = format!("{}({})", self.word("coalesce"), texts.join(","));
        E { text, binds: 100, eval: Box::new(move |row, now| parts.iter().find_map(|part| (part.eval)(row, now))) }
    }

    fn call(&mut self, name: &'static str, operand: E, eval: impl Fn(Answer) -> Answer + 'static) -> E {
        self.note(name);
        let text = format!("{}( {} )", self.word(name), operand.text);
        E { text, binds: 100, eval: Box::new(move |row, now| eval((operand.eval)(row, now))) }
    }

    fn infix(
        &mut self,
        symbol: &'static str,
        binds: u8,
        left: E,
        right: E,
        eval: impl Fn(Answer, Answer) -> Answer + 'static,
    ) -> E {
        self.note(symbol);
        let space = if symbol.starts_with(char::is_alphabetic) || self.random.bool() { " " } else { "" };
        let word = if symbol.starts_with(char::is_alphabetic) { self.word(symbol) } else { symbol.to_owned() };
        // `a--1` would begin a comment.
        let (before, after) = if symbol == "-" { (" ", " ") } else { (space, space) };
        let text = format!("{}{before}{word}{after}{}", self.at_least(&left, binds), self.at_least(&right, binds + 1));
        E { text, binds, eval: Box::new(move |row, now| eval((left.eval)(row, now), (right.eval)(row, now))) }
    }

    fn numeric(&mut self, depth: usize) -> E {
        let kind = pick(self.random, &[Kind::I, Kind::N]);
        self.expression(kind, depth)
    }

    fn arithmetic(&mut self, kind: Kind, depth: usize) -> E {
        let number = |answer: Answer| double(&answer).map(V::N);
        match self.random.usize(0..7) {
            0 => {
                let operand = self.expression(kind, depth);
                self.call("abs", operand, |answer| match answer? {
                    V::I(integer) => i64::try_from(i128::from(integer).abs()).ok().map(V::I),
                    V::N(number) => Some(V::N(number.abs())),
                    other => panic!("{other:?}"),
                })
            }
            1 if kind == Kind::I => {
                let operand = self.expression(Kind::S, depth);
                self.call("length", operand, |answer| text(answer).map(|text| V::I(text.chars().count() as i64)))
            }
            2 => {
                self.note("negate");
                let operand = self.expression(kind, depth);
                let inner = self.at_least(&operand, 45);
                let eval = move |row: &Row, now| match (operand.eval)(row, now)? {
                    V::I(integer) => i64::try_from(-i128::from(integer)).ok().map(V::I),
                    V::N(number) => Some(V::N(-number)),
                    other => panic!("{other:?}"),
                };
                E { text: format!("- {inner}"), binds: 45, eval: Box::new(eval) }
            }
            3 if kind == Kind::N => {
                let (left, right) = (self.numeric(depth), self.numeric(depth));
                self.infix("/", 40, left, right, |left, right| computed("/", &left, &right))
            }
            4 if kind == Kind::N => {
                let (left, right) = (self.expression(Kind::I, depth), self.expression(Kind::N, depth));
                self.infix("*", 40, left, right, move |left, right| computed("*", &number(left), &number(right)))
            }
            _ => {
                let (symbol, binds) = pick(self.random, &[("+", 30), ("-", 30), ("*", 40), ("%", 40)]);
                let (left, right) = (self.expression(kind, depth), self.expression(kind, depth));
                let eval = move |left, right| match kind {
                    Kind::N => computed(symbol, &number(left), &number(right)),
                    _ => computed(symbol, &left, &right),
                };
                self.infix(symbol, binds, left, right, eval)
            }
        }
    }

    fn string(&mut self, depth: usize) -> E {
        let operand = self.expression(Kind::S, depth);
        match self.random.usize(0..4) {
            0 => self.call("lower", operand, |answer| text(answer).map(|text| V::S(text.to_lowercase()))),
            1 => self.call("upper", operand, |answer| text(answer).map(|text| V::S(text.to_uppercase()))),
            2 => self.call("trim", operand, |answer| text(answer).map(|text| V::S(text.trim_matches(' ').to_owned()))),
            _ => {
                let right = self.expression(Kind::S, depth);
                self.infix("||", 40, operand, right, |left, right| Some(V::S(text(left)? + &text(right)?)))
            }
        }
    }

    fn any_kind(&mut self) -> Kind {
        pick(self.random, &[Kind::B, Kind::I, Kind::N, Kind::S, Kind::T])
    }

    fn condition(&mut self, depth: usize) -> E {
        let negated = self.random.bool();
        let flip = move |truth: Option<bool>| truth.map(|truth| V::B(truth != negated));
        match self.random.usize(0..14) {
            0 | 1 => {
                let (left, right) = (self.expression(Kind::B, depth), self.expression(Kind::B, depth));
                self.infix("and", 10, left, right, |left, right| both(truth(left), truth(right)).map(V::B))
            }
            2 | 3 => {
                let (left, right) = (self.expression(Kind::B, depth), self.expression(Kind::B, depth));
                self.infix("or", 5, left, right, |left, right| either(truth(left), truth(right)).map(V::B))
            }
            4 => {
                self.note("not");
                let operand = self.expression(Kind::B, depth);
                let text = format!("{} {}", self.word("not"), self.at_least(&operand, 16));
                let eval = move |row: &Row, now| truth((operand.eval)(row, now)).map(|truth| V::B(!truth));
                E { text, binds: 15, eval: Box::new(eval) }
            }
            5 | 6 => {
                let symbol = pick(self.random, &["=", "<>", "!=", "<", "<=", ">", ">="]);
                let kind = self.any_kind();
                let (left, right) = match kind {
                    Kind::I | Kind::N => (self.numeric(depth), self.numeric(depth)),
                    _ => (self.expression(kind, depth), self.expression(kind, depth)),
                };
                self.infix(symbol, 20, left, right, move |left, right| compared(symbol, &left, &right).map(V::B))
            }
            7 => {
                let kind = self.any_kind();
                let (left, right) = (self.expression(kind, depth), self.expression(kind, depth));
                let word = if negated { "is not distinct from" } else { "is distinct from" };
                self.infix(word, 17, left, right, move |left, right| {
                    let equal = match (&left, &right) {
                        (None, None) => true,
                        (None, _) | (_, None) => false,
                        _ => compared("=", &left, &right) == Some(true),
                    };
                    flip(Some(!equal))
                })
            }
            8 => {
                self.note("is null");
                let kind = self.any_kind();
                let operand = self.expression(kind, depth);
                let word = self.word(if negated { "is not null" } else { "is null" });
                let text = format!("{} {word}", self.at_least(&operand, 17));
                E { text, binds: 17, eval: Box::new(move |row, now| flip(Some((operand.eval)(row, now).is_none()))) }
            }
            9 => {
                self.note("between");
                let kind = self.any_kind();
                let parts = [0; 3].map(|_| match kind {
                    Kind::I | Kind::N => self.numeric(depth),
                    _ => self.expression(kind, depth),
                });
                let word = self.word(if negated { "not between" } else { "between" });
                let and = self.word("and");
                let (operand, low) = (self.at_least(&parts[0], 20), self.at_least(&parts[1], 21));
                let text = format!("{operand} {word} {low} {and} {}", self.at_least(&parts[2], 21));
                let eval = move |row: &Row, now| {
                    let [operand, low, high] = [0, 1, 2].map(|part: usize| (parts[part].eval)(row, now));
                    flip(both(compared(">=", &operand, &low), compared("<=", &operand, &high)))
                };
                E { text, binds: 20, eval: Box::new(eval) }
            }
            10 => {
                self.note("in");
                let kind = self.any_kind();
                let operand = self.expression(kind, depth);
                let count = self.random.usize(1..6);
                let mut item = || match kind {
                    Kind::I | Kind::N => {
                        let kind = pick(self.random, &[Kind::I, Kind::N]);
                        self.literal(kind)
                    }
                    _ => self.literal(kind),
                };
                let items = (0..count).map(|_| item()).collect::<Vec<_>>();
                let texts = items.iter().map(|item| item.text.clone()).collect::<Vec<_>>().join(" ,");
                let word = self.word(if negated { "not in" } else { "in" });
                let text = format!("{} {word} ({texts})", self.at_least(&operand, 20));
                let eval = move |row: &Row, now| {
                    let operand = (operand.eval)(row, now);
                    let mut any = Some(false);
                    for item in &items {
                        any = either(any, compared("=", &operand, &(item.eval)(row, now)));
                    }
                    flip(any)
                };
                E { text, binds: 20, eval: Box::new(eval) }
            }
            11 => self.like(depth, negated),
            12 => {
                let name = pick(self.random, &["starts_with", "ends_with", "contains"]);
                self.note(name);
                let (whole, part) = (self.expression(Kind::S, depth), self.expression(Kind::S, depth));
                let written = format!("{}({}, {})", self.word(name), whole.text, part.text);
                let eval = move |row: &Row, now| {
                    let (whole, part) = (text((whole.eval)(row, now))?, text((part.eval)(row, now))?);
                    Some(V::B(match name {
                        "starts_with" => whole.starts_with(&part),
                        "ends_with" => whole.ends_with(&part),
                        _ => whole.contains(&part),
                    }))
                };
                E { text: written, binds: 100, eval: Box::new(eval) }
            }
            _ => match self.random.usize(0..3) {
                0 => self.list_contains(depth),
                1 => self.matches(depth),
                _ => self.clock(),
            },
        }
    }

    fn like(&mut self, depth: usize, negated: bool) -> E {
        let insensitive = self.random.bool();
        let escape = pick(self.random, &[None, None, Some('!')]);
        self.note(if insensitive { "ilike" } else { "like" });
        let operand = self.expression(Kind::S, depth);
        let fixed = self.random.usize(0..3) > 0;
        let pattern = if fixed {
            let mut signs: Vec<char> =
                (0..self.random.usize(0..5)).map(|_| pick(self.random, &['%', '_', 'a', 'B', '!', 'é'])).collect();
            if signs.iter().rev().take_while(|sign| **sign == '!').count() > 0 {
                signs.push('a');
            }
            let pattern = signs.into_iter().collect::<String>();
            E { text: format!("'{pattern}'"), binds: 100, eval: Box::new(move |_, _| Some(V::S(pattern.clone()))) }
        } else {
            self.column(Kind::S)
        };
        let word = match (negated, insensitive) {
            (false, false) => "like",
            (true, false) => "not like",
            (false, true) => "ilike",
            (true, true) => "not ilike",
        };
        let word = self.word(word);
        let mut written = format!("{} {word} {}", self.at_least(&operand, 19), self.at_least(&pattern, 20));
        if escape.is_some() {
            written += " escape '!'";
        }
        let eval = move |row: &Row, now| {
            let (operand, pattern) = (text((operand.eval)(row, now))?, text((pattern.eval)(row, now))?);
            let (operand, pattern) = (operand.chars().collect::<Vec<_>>(), pattern.chars().collect::<Vec<_>>());
            Some(V::B(like(&operand, &pattern, escape, insensitive) != negated))
        };
        E { text: written, binds: 19, eval: Box::new(eval) }
    }

    fn list_contains(&mut self, depth: usize) -> E {
        self.note("list_contains");
        let (list, kind) =
            pick(self.random, &[("ls", Kind::S), ("li", Kind::I), ("li", Kind::N), ("ln", Kind::N), ("ln", Kind::I)]);
        let element = self.expression(kind, depth);
        let written = format!("list_contains({list}, {})", element.text);
        let eval = move |row: &Row, now| {
            let element = (element.eval)(row, now);
            element.as_ref()?;
            match row.get(list) {
                Some(Value::List(values)) => {
                    Some(V::B(values.iter().any(|value| compared("=", &answer(Some(value)), &element) == Some(true))))
                }
                _ => None,
            }
        };
        E { text: written, binds: 100, eval: Box::new(eval) }
    }

    fn matches(&mut self, depth: usize) -> E {
        self.note("regexp_matches");
        let operand = self.expression(Kind::S, depth);
        let written = format!("regexp_matches({}, '^.?a')", operand.text);
        let eval = move |row: &Row, now| {
            let text = text((operand.eval)(row, now))?;
            Some(V::B(text.chars().take(2).any(|char| char == 'a')))
        };
        E { text: written, binds: 100, eval: Box::new(eval) }
    }

    fn clock(&mut self) -> E {
        self.note("now");
        let column = self.column(Kind::T);
        let symbol = pick(self.random, &["=", "<>", "<", "<=", ">", ">="]);
        let (interval, offset) =
            pick(self.random, &[("", 0), (" - interval '5 s'", -5000), (" + INTERVAL '1 day'", 86_400_000)]);
        let now = self.word("now()");
        let first = self.random.bool();
        let text = if first {
            format!("{} {symbol} {now}{interval}", column.text)
        } else {
            format!("{now}{interval} {symbol} {}", column.text)
        };
        let eval = move |row: &Row, now: i64| {
            let (column, clock) = ((column.eval)(row, now), Some(V::T(now + offset)));
            let truth = if first { compared(symbol, &column, &clock) } else { compared(symbol, &clock, &column) };
            truth.map(V::B)
        };
        E { text, binds: 20, eval: Box::new(eval) }
    }
}

fn random_row(random: &mut Rng) -> Row {
    let mut row = Row::new();
    for (name, _) in super::COLUMNS {
        if random.usize(0..5) == 0 {
            continue;
        }
        let number = |random: &mut Rng| match random.usize(0..12) {
            0 => f64::NAN,
            1 => f64::INFINITY,
            _ => pick(random, &NUMBERS),
        };
        let value = match name {
            "b" | "c" => Value::Boolean(random.bool()),
            "i" | "j" => Value::Integer(pick(random, &INTEGERS)),
            "n" | "ltv" | "total billed" => Value::Number(number(random)),
            "s" | "path" | "x.y" => string(pick(random, &TEXTS)),
            "t" | "u" => Value::Timestamp(pick(random, &TIMES)),
            "d" => Value::Date(pick(random, &[0, 86_400_000])),
            _ => Value::List(
                (0..random.usize(0..4))
                    .map(|_| match name {
                        _ if random.usize(0..4) == 0 => Value::Null,
                        "li" => Value::Integer(pick(random, &INTEGERS)),
                        "ln" => Value::Number(number(random)),
                        _ => string(pick(random, &TEXTS)),
                    })
                    .collect(),
            ),
        };
        row.insert(name, value);
    }
    row
}

#[test]
fn all_evaluations_agree_on_random_predicates() {
    let seed = 20_261_124;
    let mut random = Rng::with_seed(seed);
    let mut generator = Generator { random: &mut random, made: BTreeMap::new() };
    let mut answers = [0; 3];
    let mut moments_seen = 0;
    for round in 0..6000 {
        let depth = generator.random.usize(1..5);
        let expression = generator.condition(depth);
        let context = format!("seed {seed}, round {round}: {}", expression.text);
        let parsed = predicate(&expression.text);
        let again = predicate(&parsed.text);
        assert_eq!(again, parsed, "{context}");
        let evaluator = Evaluator::new(&parsed);
        let rows = (0..20).map(|_| random_row(generator.random)).collect::<Vec<_>>();
        let values = rows.iter().map(|row| super::values(&parsed, row)).collect::<Vec<_>>();
        let now = pick(generator.random, &[0, 5000, -5000, 86_405_000, 1]);
        let arrays = batch::columns(&parsed.columns, &values);
        let in_batch = evaluator.holds_batch(&arrays, rows.len(), now);
        let sliced = arrays.iter().map(|array| array.slice(3, 9)).collect::<Vec<_>>();
        assert_eq!(evaluator.holds_batch(&sliced, 9, now), in_batch.slice(3, 9), "{context}: a slice differs");
        for (index, (row, values)) in rows.iter().zip(&values).enumerate() {
            let answer = truth((expression.eval)(row, now));
            answers[answer.map_or(2, usize::from)] += 1;
            let expected = answer == Some(true);
            assert_eq!(evaluator.holds(values, now), expected, "{context}\n{}\n{row:?}", parsed.text);
            assert_eq!(in_batch.value(index), expected, "{context}, in a batch\n{}\n{row:?}", parsed.text);
            let back: Vec<Value<'_>> = parsed
                .columns
                .iter()
                .zip(&arrays)
                .map(|((_, column_type), array)| Value::at(array, *column_type, index))
                .collect();
            assert_eq!(evaluator.holds(&back, now), expected, "{context}, read from a batch");
            for moment in evaluator.moments(values) {
                moments_seen += 1;
                let before = truth((expression.eval)(row, moment - 1)) == Some(true);
                let after = truth((expression.eval)(row, moment)) == Some(true);
                assert_ne!(before, after, "{context} at {moment}");
            }
        }
    }
    assert!(answers.iter().all(|count| *count > 10_000), "all three answers come: {answers:?}");
    assert!(moments_seen > 1000, "moments come: {moments_seen}");
    assert!(generator.made.len() >= 30, "all forms come: {:?}", generator.made);
    assert!(generator.made.values().all(|count| *count > 50), "each often: {:?}", generator.made);
}
