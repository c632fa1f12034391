//! From the parser's tree to the typed one: names are resolved, types checked, all problems collected.
//!
//! What the parser reads and predicates do not have is refused by name. An expression with a problem has no type, and
//! what contains it adds no problem of its own: each mistake is reported once.
//!
//! | file | types |
//! |---|---|
//! | `literals.rs` | numbers, texts, times, the items of `in` |
//! | `operators.rs` | arithmetic, comparisons, `between`, `in`, `like` |
//! | `clock.rs` | comparisons with `now()` |
//! | `functions.rs` | calls |
//! | `coercions.rs` | operands that must have one type |
//! | `refusals.rs` | nothing: it names what predicates do not have |

mod clock;
mod coercions;
mod functions;
mod kind;
mod literals;
mod operators;
mod parsed;
mod refusals;

use self::kind::{Kind, Typed};
use self::parsed::{bare, start};
use super::Now;
use super::parents::{ParentColumn, Parents, Unresolved};
use super::print::quoted;
use super::syntax::{DEPTH, Fault, SPLIT, too_deep};
use super::tree::Node;
use sqlparser::ast::{BinaryOperator, Expr, Ident, InTarget, UnaryOperator};
use sqlparser::tokenizer::Location;
use usher_config::{ColumnType, nearest, some_of};

/// A column that was met: of the row where no models stand before it.
pub(crate) type Met = ParentColumn;

/// What collects while a tree is typed.
pub(crate) struct Typer<'a> {
    /// Returns the type of a column by its name.
    column: &'a dyn Fn(&str) -> Option<ColumnType>,
    /// The names of the columns, for hints.
    known: &'a [String],
    parents: &'a dyn Parents,
    now: Now,
    depth: usize,
    /// The columns met, in the order of their indexes.
    pub(crate) columns: Vec<Met>,
    /// What is wrong, in the order of the text.
    pub(crate) faults: Vec<Fault>,
}

impl<'a> Typer<'a> {
    pub(crate) fn new(
        column: &'a dyn Fn(&str) -> Option<ColumnType>,
        known: &'a [String],
        parents: &'a dyn Parents,
        now: Now,
    ) -> Typer<'a> {
        Typer { column, known, parents, now, depth: 0, columns: Vec::new(), faults: Vec::new() }
    }

    /// Types a condition, which `of` names for the message. `None` if there are faults.
    pub(crate) fn condition(&mut self, expr: &Expr, of: &str) -> Option<Node> {
        let typed = self.expr(expr)?;
        if matches!(typed.kind, Kind::Boolean | Kind::Null) {
            return Some(typed.node);
        }
        self.fault(typed.at, format!("{of} is a condition, found {}", typed.kind))
    }

    /// Reports what is wrong at a place.
    fn fault<T>(&mut self, at: Location, message: impl Into<String>) -> Option<T> {
        self.faults.push(Fault::new(at, message));
        None
    }

    /// Reports what is wrong at a place, and what to do.
    fn hinted<T>(&mut self, at: Location, message: impl Into<String>, hint: impl Into<String>) -> Option<T> {
        self.faults.push(Fault::new(at, message).hint(hint));
        None
    }

    /// Types an expression, within the bound of depth.
    fn expr(&mut self, expr: &Expr) -> Option<Typed> {
        let expr = bare(expr);
        if self.depth == DEPTH {
            let message = too_deep();
            // Once is enough: siblings at this depth would repeat it.
            if self.faults.iter().all(|fault| fault.message != message) {
                self.hinted::<()>(start(expr), message, SPLIT);
            }
            return None;
        }
        self.depth += 1;
        let typed = self.bare_expr(expr);
        self.depth -= 1;
        typed
    }

    fn bare_expr(&mut self, expr: &Expr) -> Option<Typed> {
        let at = start(expr);
        match expr {
            Expr::Identifier(name) => self.name(name),
            Expr::CompoundIdentifier(parts) => self.compound_name(parts, at),
            Expr::Value(value) => self.literal(&value.value, at),
            Expr::TypedString(typed) => self.typed_string(expr, typed, at),
            Expr::UnaryOp { op: op @ (UnaryOperator::Minus | UnaryOperator::Plus), expr } => {
                self.sign(*op == UnaryOperator::Minus, expr, at)
            }
            Expr::BinaryOp { op: op @ (BinaryOperator::And | BinaryOperator::Or), .. } => self.join(op, expr, at),
            Expr::BinaryOp { left, op, right } => self.binary(expr, left, op, right, at),
            Expr::Function(function) => self.function(expr, function, at),
            Expr::Trim { trim_where: None, trim_what: None, expr, trim_characters: None } => {
                Some(Typed { node: Node::Trim(self.text(expr, "trim")?), kind: Kind::Text, at })
            }
            Expr::Interval(_) => self.misplaced_interval(at),
            _ => self.test(expr, at),
        }
    }

    /// Types what is true or false by its form: `not`, and the tests that a `not` may stand inside of.
    fn test(&mut self, expr: &Expr, at: Location) -> Option<Typed> {
        let (node, negated) = match expr {
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => (self.condition(expr, "what `not` takes")?, true),
            Expr::IsNull(operand) => (Node::IsNull(Box::new(self.expr(operand)?.node)), false),
            Expr::IsNotNull(operand) => (Node::IsNull(Box::new(self.expr(operand)?.node)), true),
            Expr::IsDistinctFrom(left, right) => (self.distinct(left, right)?, false),
            Expr::IsNotDistinctFrom(left, right) => (self.distinct(left, right)?, true),
            Expr::Between { expr, negated, low, high } => (self.between(expr, low, high)?, *negated),
            Expr::In { expr: operand, target: InTarget::List(list), negated, global: false } => {
                (self.among(operand, list)?, *negated)
            }
            Expr::In { target, .. } if !matches!(target, InTarget::List(_)) => {
                return self.fault(at, "`in` takes literals in parentheses");
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char } => {
                (self.like(expr, pattern, escape_char.as_deref(), false)?, *negated)
            }
            Expr::ILike { negated, any: false, expr, pattern, escape_char } => {
                (self.like(expr, pattern, escape_char.as_deref(), true)?, *negated)
            }
            _ => return self.refuse(expr),
        };
        let node = if negated { Node::Not(Box::new(node)) } else { node };
        Some(Typed { node, kind: Kind::Boolean, at })
    }

    fn distinct(&mut self, left: &Expr, right: &Expr) -> Option<Node> {
        let ([left, right], _) = self.alike([left, right], "`is distinct from`")?;
        Some(Node::Distinct(Box::new(left), Box::new(right)))
    }

    /// Types a column.
    fn name(&mut self, name: &Ident) -> Option<Typed> {
        let at = name.span.start;
        let Some(column_type) = (self.column)(&name.value) else {
            return self.unknown_column(name);
        };
        Some(self.met(ParentColumn::own(&name.value, column_type), at))
    }

    /// Enters a column that the text names.
    fn met(&mut self, column: Met, at: Location) -> Typed {
        let kind = Kind::of(column.column_type);
        let index = self.columns.iter().position(|known| *known == column).unwrap_or_else(|| {
            self.columns.push(column);
            self.columns.len() - 1
        });
        Typed { node: Node::Column(index as u32), kind, at }
    }

    /// Reports a name that no column has.
    fn unknown_column(&mut self, name: &Ident) -> Option<Typed> {
        let at = name.span.start;
        let message = format!("unknown column `{}`", name.value);
        match nearest(&name.value, self.known.iter().map(String::as_str)) {
            Some(near) => self.hinted(at, message, format!("did you mean `{}`?", quoted(near))),
            None if name.quote_style.is_some() => {
                let text = name.value.replace('\'', "''");
                self.hinted(at, message, format!("double quotes name a column; text is `'{text}'`"))
            }
            None => match some_of(self.known.iter().map(String::as_str)) {
                Some(known) => self.hinted(at, message, format!("columns: {known}")),
                None => self.fault(at, message),
            },
        }
    }

    /// Types a name of several parts: a column of a model that the row's model belongs to, behind the ids of the models on the way.
    fn compound_name(&mut self, parts: &[Ident], at: Location) -> Option<Typed> {
        let (column, models) = parts.split_last().expect("a name has parts");
        let models: Vec<String> = models.iter().map(|model| model.value.clone()).collect();
        match self.parents.column(&models, &column.value) {
            Ok(column_type) => {
                let column = column.value.clone();
                Some(self.met(ParentColumn { models, column, column_type }, at))
            }
            Err(None) => None,
            Err(Some(Unresolved { part, message, hint })) => {
                let name = parts.iter().map(|part| part.value.as_str()).collect::<Vec<_>>().join(".");
                if (self.column)(&name).is_some() {
                    let message = format!("`{name}` is not a column's name");
                    return self.hinted(at, message, format!("quote it: `{}`", quoted(&name)));
                }
                self.hinted(parts[part].span.start, message, hint)
            }
        }
    }

    /// Types `and` and `or`: the parser nests a chain of them to the left, here it is one node.
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
}
