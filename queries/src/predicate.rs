//! Predicates: SQL expressions over named, typed columns, in three-valued logic.
//!
//! [`Predicate`] is the typed, canonical, serialisable form; [`Evaluator`] runs it, on one row or on a batch, with the
//! same answers; [`PredicateIndex`] finds, among many, those that can hold for a row.
//!
//! Where SPEC leaves a choice, the rules are:
//!
//! * Unquoted names match columns exactly, as quoted ones do; keywords and functions match in any case. Words that
//!   begin or continue an expression (`not`, `in`, `null`, …) name columns only in quotes.
//! * Booleans compare, false before true. Lists compare with nothing; `list_contains` and `is null` take them. A null
//!   element is never found.
//! * An integer literal beyond 64 bits is a problem, a number literal beyond all doubles is null. An integer
//!   is compared with each item of `in` and each bound of `between` as with that one alone: exactly with integers, as a
//!   double with numbers.
//! * A quoted literal beside a date or timestamp may be either, and compares to the ms. `date '..'` is a date only.
//! * Patterns of `like` may be expressions. A pattern that ends with its escape character is a problem if it is a
//!   literal, else null. `ilike` compares code points by their lower case.
//! * `now()` may stand in `between`, which is two comparisons; more than one interval may follow it. Intervals stand
//!   nowhere else, have whole numbers and no sign, and may have several units (`1 day 12 hours`, `90m`).
//! * At most 50 levels deep and 2,000 operators long.

mod batch;
mod canonical;
mod index;
mod like;
mod never;
mod parents;
mod print;
mod regexp;
mod scalar;
mod syntax;
mod tree;
mod typing;

pub use self::index::PredicateIndex;
pub use self::never::Never;
pub use self::parents::{NoParents, ParentColumn, Parents, Unresolved};
use self::scalar::{Scalar, is_true, value};
use self::tree::{Compare, Node};
use self::typing::{Met, Typer};
use crate::Value;
use arrow_array::{ArrayRef, BooleanArray};
use serde::{Deserialize, Serialize};
use usher_config::{ColumnType, Problem, Text};

/// A typed predicate in canonical form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Predicate {
    /// The canonical text: equal predicates have equal texts.
    pub text: String,
    /// The columns of the row that it reads, sorted by name: the order in which [`Evaluator`] takes their values.
    pub columns: Vec<(String, ColumnType)>,
    /// The columns of parents that it reads, sorted: [`Evaluator`] takes their values behind those of `columns`.
    pub of_parents: Vec<ParentColumn>,
    /// Its meaning; columns by their index in `columns`, and behind them in `of_parents`.
    root: Node,
}

/// Whether `now()` may stand in a predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Now {
    /// In `property` and in `related`'s `where`.
    Allowed,
    /// In `performed` and `sequence`: a problem that points to `within`.
    Refused,
}

impl Predicate {
    /// Reads and types `text`; `column` returns a column's type by name, `known` lists the names, for hints, and `parents` has the columns
    /// of the models that the row's model belongs to.
    ///
    /// # Errors
    ///
    /// All problems, each at the text's place, with the column in the text in its message; none if all that is wrong was
    /// reported elsewhere.
    pub fn parse(
        text: &Text,
        column: &dyn Fn(&str) -> Option<ColumnType>,
        known: &[String],
        parents: &dyn Parents,
        now: Now,
    ) -> Result<Predicate, Vec<Problem>> {
        let problem =
            |fault: syntax::Fault| Problem { place: text.place.clone(), message: fault.sentence(), hint: fault.hint };
        let expr = syntax::parse(&text.value).map_err(|fault| vec![problem(fault)])?;
        let mut typer = Typer::new(column, known, parents, now);
        let root = typer.condition(&expr, "a predicate");
        let Typer { mut faults, columns, .. } = typer;
        faults.sort_by_key(|fault| fault.location);
        let mut problems = faults.into_iter().map(problem).collect::<Vec<_>>();
        problems.dedup();
        match root {
            Some(root) if problems.is_empty() => Ok(Predicate::new(root, columns)),
            _ => Err(problems),
        }
    }

    /// Sorts the columns and brings the tree into its canonical form.
    fn new(mut root: Node, met: Vec<Met>) -> Predicate {
        let mut columns = met.clone();
        columns.sort();
        let place = |index: u32| {
            let at = columns.binary_search(&met[index as usize]).expect("the same columns, sorted");
            u32::try_from(at).expect("an index came from a u32")
        };
        renumber(&mut root, &place);
        // Those of the row have no models before them, so they are first.
        let own = columns.partition_point(|of| of.models.is_empty());
        let of_parents = columns.split_off(own);
        let columns = columns.into_iter().map(|of| (of.column, of.column_type)).collect();
        let mut predicate = Predicate { text: String::new(), columns, of_parents, root };
        let names = predicate.names();
        canonical::canonical(&mut predicate.root, &names);
        predicate.text = print::text(&predicate.root, &names);
        predicate
    }

    /// Returns all columns by their index in the tree, as they are written, with their types.
    fn names(&self) -> Vec<(String, ColumnType)> {
        let own = self.columns.iter().map(|(name, of)| (print::quoted(name), *of));
        own.chain(self.of_parents.iter().map(|of| (of.to_string(), of.column_type))).collect()
    }

    /// Returns all columns by their index in the tree.
    fn met(&self) -> Vec<Met> {
        let own = self.columns.iter().map(|(name, of)| ParentColumn::own(name, *of));
        own.chain(self.of_parents.iter().cloned()).collect()
    }

    /// Returns the predicate that holds where both do.
    pub fn and(&self, other: &Predicate) -> Predicate {
        let mut met = self.met();
        met.extend(other.met().into_iter().filter(|column| !self.met().contains(column)));
        let roots = [self, other].map(|predicate| {
            let mut root = predicate.root.clone();
            let columns = predicate.met();
            let place = |index: u32| {
                let column = &columns[index as usize];
                let at = met.iter().position(|met| met == column).expect("it has the columns of both");
                u32::try_from(at).expect("an index came from a u32")
            };
            renumber(&mut root, &place);
            root
        });
        Predicate::new(Node::All(roots.into()), met)
    }

    /// Returns whether its truth depends on the clock.
    pub fn mentions_now(&self) -> bool {
        self.root.any(&|node| matches!(node, Node::Clock(..)))
    }

    /// Returns whether it is known to hold only for rows in which the value of `column`, a number, is not negative: by a
    /// comparison of the column with a literal that all such rows must meet.
    pub fn excludes_negative_numbers(&self, column: &str) -> bool {
        let index = self.columns.iter().position(|(name, _)| name == column);
        index.is_some_and(|index| self.root.excludes_negatives(index as u32))
    }
}

/// Replaces the index of each column.
fn renumber(node: &mut Node, place: &dyn Fn(u32) -> u32) {
    if let Node::Column(index) = node {
        *index = place(*index);
    }
    for operand in node.operands_mut() {
        renumber(operand, place);
    }
}

/// A predicate ready to run.
#[derive(Clone, Debug)]
pub struct Evaluator {
    root: Node,
    columns: Vec<(String, ColumnType)>,
}

impl Evaluator {
    /// Prepares a predicate: what is cheap is evaluated first.
    pub fn new(predicate: &Predicate) -> Evaluator {
        let mut root = predicate.root.clone();
        cheap_first(&mut root);
        Evaluator { root, columns: predicate.names() }
    }

    /// Returns whether it holds (is true, not null) for a row at `now`; `row[i]` is the value of `columns[i]`, and behind them of
    /// `of_parents[i]`.
    ///
    /// # Panics
    ///
    /// Panics if a value does not have its column's type.
    pub fn holds(&self, row: &[Value<'_>], now: i64) -> bool {
        is_true(&self.root, row, now)
    }

    /// Returns [`Evaluator::holds`] for each row of a batch. `columns[i]` is the array of the predicate's `columns[i]`
    /// in its canonical Arrow type: string Utf8, integer Int64, number Float64, boolean Boolean, timestamp and date
    /// Timestamp(ms, no zone), lists List of those. The result has no nulls.
    ///
    /// # Panics
    ///
    /// Panics if an array has another type or another length.
    pub fn holds_batch(&self, columns: &[ArrayRef], rows: usize, now: i64) -> BooleanArray {
        batch::holds(&self.root, &self.columns, columns, rows, now)
    }

    /// Returns the clock values at which the truth changes for this row, sorted, each once: between two of them it is
    /// constant, and the value at a moment is the value from that moment on. Empty without `now()`.
    pub fn moments(&self, row: &[Value<'_>]) -> Vec<i64> {
        let mut candidates = Vec::new();
        moments(&self.root, row, &mut candidates);
        candidates.sort_unstable();
        candidates.dedup();
        let mut truth = self.holds(row, i64::MIN);
        candidates.retain(|moment| {
            let before = std::mem::replace(&mut truth, self.holds(row, *moment));
            before != truth
        });
        candidates
    }
}

/// Collects the clock values at which a comparison with the clock changes, without those beyond 64 bits.
///
/// The sides of `time CMP now() + offset` are equal when the clock is at `time - offset`: a strict comparison and its
/// opposite change there or a ms later, equality at both.
fn moments<'r>(node: &'r Node, row: &'r [Value<'r>], found: &mut Vec<i64>) {
    if let Node::Clock(compare, operand, offset) = node
        && let Scalar::Time(time) = value(operand, row, 0)
    {
        let (meet, after) = match compare {
            Compare::Greater | Compare::LessEqual => (true, false),
            Compare::GreaterEqual | Compare::Less => (false, true),
            Compare::Equal | Compare::Unequal => (true, true),
        };
        let met = i128::from(time) - i128::from(*offset);
        found.extend(meet.then_some(met).and_then(|moment| i64::try_from(moment).ok()));
        found.extend(after.then_some(met + 1).and_then(|moment| i64::try_from(moment).ok()));
    }
    for operand in node.operands() {
        moments(operand, row, found);
    }
}

/// Sorts what `and` and `or` join by cost, so that what is expensive is often not evaluated at all.
fn cheap_first(node: &mut Node) {
    for operand in node.operands_mut() {
        cheap_first(operand);
    }
    if let Node::All(nodes) | Node::Any(nodes) = node {
        nodes.sort_by_cached_key(cost);
    }
}

/// Returns a rough cost, in comparisons.
fn cost(node: &Node) -> u32 {
    let own = match node {
        Node::RegexpMatches(..) | Node::LikeEach { .. } => 50,
        Node::Like(_, like) if like.written.insensitive => 20,
        Node::Concat(..) | Node::Lower(_) | Node::Upper(_) => 20,
        Node::Like(..) | Node::Contains(..) | Node::Length(_) | Node::ListContains(..) | Node::In(..) => 5,
        _ => 1,
    };
    node.operands().into_iter().map(cost).fold(own, u32::saturating_add)
}
