//! The types of expressions, and an expression with its type.

use crate::predicate::tree::Node;
use sqlparser::tokenizer::Location;
use std::fmt;
use usher_config::ColumnType;

/// The type of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
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

/// The type of a list's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
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
    /// Returns the type of a column.
    pub(super) fn of(column_type: ColumnType) -> Kind {
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

    /// Returns whether it is a point in time.
    pub(super) fn is_time(self) -> bool {
        matches!(self, Kind::Timestamp | Kind::Date)
    }

    /// Returns whether arithmetic takes it.
    pub(super) fn is_numeric(self) -> bool {
        matches!(self, Kind::Null | Kind::Integer | Kind::Number)
    }
}

/// An expression with its type and the place where it begins in the text.
#[derive(Clone)]
pub(super) struct Typed {
    pub(super) node: Node,
    pub(super) kind: Kind,
    pub(super) at: Location,
}
