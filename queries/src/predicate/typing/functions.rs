//! Functions: their names, how many arguments each takes, and the types of these.

use super::Typer;
use super::coercions::to_number;
use super::kind::{Element, Kind, Typed};
use super::parsed::{bare, start};
use super::refusals::short;
use crate::predicate::Now;
use crate::predicate::regexp::Regexp;
use crate::predicate::tree::Node;
use sqlparser::ast::{Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectNamePart, Value};
use sqlparser::tokenizer::Location;
use std::ops::RangeInclusive;
use usher_config::nearest;

/// All functions. `trim` has a syntax of its own, and `now` stands in comparisons only.
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

/// Returns how many arguments a function takes. `None` if it is not called as one, or there is no such function.
fn arity(name: &str) -> Option<RangeInclusive<usize>> {
    match name {
        "coalesce" => Some(1..=usize::MAX),
        "lower" | "upper" | "length" | "abs" => Some(1..=1),
        "starts_with" | "ends_with" | "contains" | "regexp_matches" | "list_contains" => Some(2..=2),
        _ => None,
    }
}

impl Typer<'_> {
    /// Types a call.
    pub(super) fn function(&mut self, expr: &Expr, function: &Function, at: Location) -> Option<Typed> {
        let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else {
            return self.refuse(expr);
        };
        let name = name.value.to_ascii_lowercase();
        if name == "now" {
            return if self.now == Now::Refused { self.now_refused(at) } else { self.misplaced_now(at) };
        }
        let Some(takes) = arity(&name) else {
            return self.unknown_function(&name, at);
        };
        let arguments = self.arguments(function, at)?;
        if !takes.contains(&arguments.len()) {
            let (count, s) = (takes.start(), if *takes.start() == 1 { "" } else { "s" });
            let least = if takes.end() > count { "at least " } else { "" };
            return self.fault(at, format!("`{name}` takes {least}{count} argument{s}, found {}", arguments.len()));
        }
        let (node, kind) = match name.as_str() {
            "lower" => (Node::Lower(self.text(arguments[0], &name)?), Kind::Text),
            "upper" => (Node::Upper(self.text(arguments[0], &name)?), Kind::Text),
            "length" => (Node::Length(self.text(arguments[0], &name)?), Kind::Integer),
            "starts_with" => (self.of_two_texts(Node::StartsWith, &arguments, &name)?, Kind::Boolean),
            "ends_with" => (self.of_two_texts(Node::EndsWith, &arguments, &name)?, Kind::Boolean),
            "contains" => (self.of_two_texts(Node::Contains, &arguments, &name)?, Kind::Boolean),
            "regexp_matches" => (self.regexp_matches(arguments[0], arguments[1])?, Kind::Boolean),
            "list_contains" => (self.list_contains(arguments[0], arguments[1])?, Kind::Boolean),
            "abs" => self.abs(arguments[0])?,
            "coalesce" => self.coalesce(&arguments)?,
            other => unreachable!("`{other}` has an arity and no type"),
        };
        Some(Typed { node, kind, at })
    }

    /// Reports a name that no function has.
    fn unknown_function(&mut self, name: &str, at: Location) -> Option<Typed> {
        let hint = match nearest(name, NAMES) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("functions: {}", NAMES.map(|name| format!("`{name}`")).join(", ")),
        };
        self.hinted(at, format!("unknown function `{name}`"), hint)
    }

    /// Returns the arguments of a plain call: no `distinct`, no `*`, no `over`.
    pub(super) fn arguments<'e>(&mut self, function: &'e Function, at: Location) -> Option<Vec<&'e Expr>> {
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

    /// Types a function of two texts.
    fn of_two_texts(
        &mut self,
        node: fn(Box<Node>, Box<Node>) -> Node,
        arguments: &[&Expr],
        name: &str,
    ) -> Option<Node> {
        let (whole, part) = (self.text(arguments[0], name), self.text(arguments[1], name));
        Some(node(whole?, part?))
    }

    /// Types `regexp_matches`, whose pattern is a literal and compiled here.
    fn regexp_matches(&mut self, operand: &Expr, pattern: &Expr) -> Option<Node> {
        let operand = self.text(operand, "regexp_matches");
        let pattern = bare(pattern);
        let Expr::Value(value) = pattern else {
            return self.fault(start(pattern), "the pattern of `regexp_matches` is a literal");
        };
        let at = value.span.start;
        let Value::SingleQuotedString(pattern) = &value.value else {
            return self.fault(at, "the pattern of `regexp_matches` is a literal string");
        };
        match Regexp::try_from(pattern.clone()) {
            Ok(regexp) => Some(Node::RegexpMatches(operand?, regexp)),
            Err(error) => self.fault(at, format!("`{pattern}` is not a regular expression: {error}")),
        }
    }

    /// Types `abs`, which keeps its operand's type.
    fn abs(&mut self, operand: &Expr) -> Option<(Node, Kind)> {
        let operand = self.expr(operand)?;
        if !operand.kind.is_numeric() {
            return self.fault(operand.at, format!("`abs` takes numbers, found {}", operand.kind));
        }
        Some((Node::Abs(Box::new(operand.node)), operand.kind))
    }

    /// Types `coalesce`, whose arguments have one type.
    fn coalesce(&mut self, arguments: &[&Expr]) -> Option<(Node, Kind)> {
        let typed = arguments.iter().map(|argument| self.expr(argument)).collect::<Vec<_>>();
        let typed = typed.into_iter().collect::<Option<Vec<_>>>()?;
        let (nodes, kind) = self.unify(typed, "`coalesce`")?;
        Some((Node::Coalesce(nodes), kind))
    }

    /// Types `list_contains`: a list, and something of its elements' type.
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
}
