//! Predicates: SQL expressions over named, typed columns, in three-valued logic.
//!
//! [`Predicate`] is the typed, canonical, serialisable form; [`Evaluator`] runs it, on one row or on a batch.

use crate::Value;
use arrow_array::{ArrayRef, BooleanArray};
use serde::{Deserialize, Serialize};
use usher_config::{ColumnType, Problem, Text};

/// A typed predicate in canonical form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Predicate {
    /// The canonical text: equal predicates have equal texts.
    pub text: String,
    /// The columns it reads, in the order in which [`Evaluator`] wants their values; sorted by name.
    pub columns: Vec<(String, ColumnType)>,
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
    /// Reads and types `text` against the columns that `column` knows by name.
    ///
    /// All problems are reported, each at the text's place, with the column in the text in the message.
    /// `known` lists the names there are, for "did you mean".
    pub fn parse(
        _text: &Text,
        _column: &dyn Fn(&str) -> Option<ColumnType>,
        _known: &[String],
        _now: Now,
    ) -> Result<Predicate, Vec<Problem>> {
        unimplemented!()
    }

    /// Whether its truth depends on the clock.
    pub fn mentions_now(&self) -> bool {
        unimplemented!()
    }
}

/// A predicate ready to run.
pub struct Evaluator {}

impl Evaluator {
    /// Prepares a predicate: regular expressions compiled, columns resolved to indexes.
    pub fn new(_predicate: &Predicate) -> Evaluator {
        unimplemented!()
    }

    /// Whether it holds (is true, not null) for a row at `now`; `row[i]` is the value of `columns[i]`.
    pub fn holds(&self, _row: &[Value<'_>], _now: i64) -> bool {
        unimplemented!()
    }

    /// [`Evaluator::holds`] for each row of a batch. `columns[i]` is `columns[i]`'s array in the canonical Arrow type:
    /// string Utf8, integer Int64, number Float64, boolean Boolean, timestamp and date Timestamp(ms, no zone),
    /// lists List of those. The result has no nulls.
    pub fn holds_batch(&self, _columns: &[ArrayRef], _rows: usize, _now: i64) -> BooleanArray {
        unimplemented!()
    }

    /// The clock values at which the truth may change for this row, sorted, each once: between two of them it is
    /// constant, and the value at a moment is the value from that moment on. Empty without `now()`.
    pub fn moments(&self, _row: &[Value<'_>]) -> Vec<i64> {
        unimplemented!()
    }
}
