//! The types of columns and properties.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The type of a column or property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum ColumnType {
    String,
    Integer,
    Number,
    Boolean,
    Timestamp,
    Date,
    ListString,
    ListInteger,
    ListNumber,
}

impl ColumnType {
    /// All types.
    pub const ALL: [ColumnType; 9] = [
        ColumnType::String,
        ColumnType::Integer,
        ColumnType::Number,
        ColumnType::Boolean,
        ColumnType::Timestamp,
        ColumnType::Date,
        ColumnType::ListString,
        ColumnType::ListInteger,
        ColumnType::ListNumber,
    ];

    /// Returns whether it is a list.
    pub const fn is_list(self) -> bool {
        matches!(self, ColumnType::ListString | ColumnType::ListInteger | ColumnType::ListNumber)
    }

    /// Returns the type as the job file writes it.
    pub const fn name(self) -> &'static str {
        match self {
            ColumnType::String => "string",
            ColumnType::Integer => "integer",
            ColumnType::Number => "number",
            ColumnType::Boolean => "boolean",
            ColumnType::Timestamp => "timestamp",
            ColumnType::Date => "date",
            ColumnType::ListString => "list<string>",
            ColumnType::ListInteger => "list<integer>",
            ColumnType::ListNumber => "list<number>",
        }
    }

    /// Returns the type that the job file writes as `name`; `None` if there is no such type.
    pub fn parse(name: &str) -> Option<ColumnType> {
        ColumnType::ALL.into_iter().find(|column_type| column_type.name() == name)
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
