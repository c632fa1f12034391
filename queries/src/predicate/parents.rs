//! Columns of parents: columns of the models that a row's model belongs to, directly or over several steps.

use super::print::quoted;
use serde::{Deserialize, Serialize};
use std::fmt;
use usher_config::ColumnType;

/// A column of a model that a row's model belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ParentColumn {
    /// The ids of the models from the one that the row's model belongs to on, each of which belongs to the next.
    pub models: Vec<String>,
    /// The column of the last of them.
    pub column: String,
    /// Its type.
    pub column_type: ColumnType,
}

impl ParentColumn {
    /// Returns a column of the row itself.
    pub(crate) fn own(column: &str, column_type: ColumnType) -> ParentColumn {
        ParentColumn { models: Vec::new(), column: column.to_owned(), column_type }
    }
}

impl fmt::Display for ParentColumn {
    /// Writes it as in a predicate.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.models.iter().try_for_each(|model| write!(f, "{}.", quoted(model)))?;
        write!(f, "{}", quoted(&self.column))
    }
}

/// The columns of the models that a row's model belongs to.
pub trait Parents {
    /// Returns the type of a column of the last of `models`, the first of which the row's model belongs to.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with a part of the name: a model that the one before it does not belong to, or an unknown column. `None` if
    /// it only follows from what was reported elsewhere.
    fn column(&self, models: &[String], column: &str) -> Result<ColumnType, Option<Unresolved>>;
}

/// A name of several parts that stands for no column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// The part that is wrong: the models, and behind them the column.
    pub part: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// There are no such columns: what predicates are about is no row.
#[derive(Clone, Copy, Debug)]
pub struct NoParents;

impl Parents for NoParents {
    fn column(&self, models: &[String], column: &str) -> Result<ColumnType, Option<Unresolved>> {
        let name = models.iter().map(String::as_str).chain([column]).collect::<Vec<_>>().join(".");
        let message = format!("`{name}` is no property of an event: predicates on events read no columns of models");
        let hint = "name a property, or put a `property` condition on the key's row beside it".to_owned();
        Err(Some(Unresolved { part: 0, message, hint }))
    }
}
