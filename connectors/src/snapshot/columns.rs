//! From the types of a file's columns to the job's, and from its arrays to one Arrow type for each.
//!
//! Integers of any width and decimals of scale 0 are `integer` (beyond 64 bits: null, but whole as a key); floats and
//! other decimals `number`; strings in any form `string`; dates and timestamps of any unit are ms. A column may be read
//! as what it can be without loss: an integer as `number` or `string`, a date as `timestamp`.

use super::SnapshotError;
use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Date64Type, Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef, Float64Array, PrimitiveArray, StringArray};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Field, SchemaRef, TimeUnit};
use std::sync::Arc;
use usher_config::ColumnType;

/// The type that a file's column has for a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundType {
    /// One of the job's.
    Known(ColumnType),
    /// None of them; its name.
    Unsupported(String),
}

/// The columns of a file.
pub struct Schema(SchemaRef);

impl Schema {
    pub(super) fn new(schema: &SchemaRef) -> Schema {
        Schema(Arc::clone(schema))
    }

    /// The columns' names, in the file's order.
    pub fn names(&self) -> Vec<&str> {
        self.0.fields().iter().map(|field| field.name().as_str()).collect()
    }

    /// The type of a column, by its exact name or, where only one is so, by its name without case.
    pub fn column(&self, name: &str) -> Option<FoundType> {
        self.find(name).map(|at| found_type(self.0.field(at).data_type()))
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        let fields = self.0.fields();
        let exact = fields.iter().position(|field| field.name() == name);
        exact.or_else(|| {
            let lower = name.to_lowercase();
            let mut like = fields.iter().enumerate().filter(|(_, field)| field.name().to_lowercase() == lower);
            match (like.next(), like.next()) {
                (Some((at, _)), None) => Some(at),
                _ => None,
            }
        })
    }

    pub(super) fn check_key(&self, file: &str, at: usize) -> Result<(), SnapshotError> {
        let field = self.0.field(at);
        match found_type(field.data_type()) {
            FoundType::Known(ColumnType::String | ColumnType::Integer) => Ok(()),
            found => Err(SnapshotError::new(
                format!("`{file}`: the key column `{}` is of type {}", field.name(), found.name()),
                "a key is a string or an integer",
            )),
        }
    }

    pub(super) fn cast(&self, file: &str, at: usize, to: ColumnType) -> Result<Cast, SnapshotError> {
        use ColumnType as T;
        let field = self.0.field(at);
        let found = found_type(field.data_type());
        let fits = match &found {
            FoundType::Known(from) if *from == to => true,
            FoundType::Known(from) => {
                matches!((from, to), (T::Integer, T::Number | T::String) | (T::Date, T::Timestamp) | (T::ListInteger, T::ListNumber))
            }
            FoundType::Unsupported(_) => false,
        };
        if fits {
            return Ok(Cast(to));
        }
        let name = field.name();
        Err(SnapshotError::new(
            format!("`{file}`: the column `{name}` is of type {}, not {}", found.name(), type_name(to)),
            format!("if its type has changed for good, change `columns: {{{name}: ..}}` in the job file, or compile the plan again"),
        ))
    }
}

impl FoundType {
    fn name(&self) -> String {
        match self {
            FoundType::Known(column_type) => type_name(*column_type).to_owned(),
            FoundType::Unsupported(name) => name.clone(),
        }
    }
}

fn type_name(column_type: ColumnType) -> &'static str {
    match column_type {
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

fn found_type(data_type: &DataType) -> FoundType {
    use DataType as D;
    let unsupported = || FoundType::Unsupported(data_type.to_string());
    let known = match data_type {
        D::Utf8 | D::LargeUtf8 | D::Utf8View => ColumnType::String,
        D::Dictionary(_, of) => return found_type(of),
        D::Boolean => ColumnType::Boolean,
        D::Decimal32(_, 0) | D::Decimal64(_, 0) | D::Decimal128(_, 0) | D::Decimal256(_, 0) => ColumnType::Integer,
        D::Decimal32(..) | D::Decimal64(..) | D::Decimal128(..) | D::Decimal256(..) => ColumnType::Number,
        D::Date32 | D::Date64 => ColumnType::Date,
        D::Timestamp(..) => ColumnType::Timestamp,
        D::List(of) | D::LargeList(of) | D::FixedSizeList(of, _) => match found_type(of.data_type()) {
            FoundType::Known(ColumnType::String) => ColumnType::ListString,
            FoundType::Known(ColumnType::Integer) => ColumnType::ListInteger,
            FoundType::Known(ColumnType::Number) => ColumnType::ListNumber,
            _ => return unsupported(),
        },
        other if other.is_integer() => ColumnType::Integer,
        other if other.is_floating() => ColumnType::Number,
        _ => return unsupported(),
    };
    FoundType::Known(known)
}

/// How a column is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cast(ColumnType);

impl Cast {
    pub(super) fn apply(self, array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        let list = |of: DataType| DataType::List(Arc::new(Field::new("item", of, true)));
        Ok(match self.0 {
            ColumnType::String => cast(array, &DataType::Utf8)?,
            ColumnType::Integer => cast(array, &DataType::Int64)?,
            ColumnType::Number => {
                // Predicates know no NaN and no infinity.
                let numbers = cast(array, &DataType::Float64)?;
                let finite = numbers.as_primitive::<Float64Type>();
                if finite.values().iter().all(|x| x.is_finite()) {
                    numbers
                } else {
                    Arc::new(finite.iter().map(|x| x.filter(|x| x.is_finite())).collect::<Float64Array>())
                }
            }
            ColumnType::Boolean => cast(array, &DataType::Boolean)?,
            ColumnType::Timestamp => Arc::new(millis(array)?),
            ColumnType::Date => Arc::new(millis(array)?.unary::<_, TimestampMillisecondType>(|ms| ms - ms.rem_euclid(86_400_000))),
            ColumnType::ListString => cast(array, &list(DataType::Utf8))?,
            ColumnType::ListInteger => cast(array, &list(DataType::Int64))?,
            ColumnType::ListNumber => cast(array, &list(DataType::Float64))?,
        })
    }
}

/// Ms since the epoch of any date or timestamp; what is finer is floored.
fn millis(array: &ArrayRef) -> Result<PrimitiveArray<TimestampMillisecondType>, ArrowError> {
    Ok(match array.data_type() {
        DataType::Date32 => array.as_primitive::<Date32Type>().unary(|days| i64::from(days) * 86_400_000),
        DataType::Date64 => array.as_primitive::<Date64Type>().unary(|ms| ms),
        DataType::Timestamp(unit, _) => {
            let raw = cast(array, &DataType::Int64)?;
            let raw = raw.as_primitive::<Int64Type>();
            match unit {
                TimeUnit::Second => raw.unary_opt(|s| s.checked_mul(1_000)),
                TimeUnit::Millisecond => raw.unary(|ms| ms),
                TimeUnit::Microsecond => raw.unary(|us| us.div_euclid(1_000)),
                TimeUnit::Nanosecond => raw.unary(|ns| ns.div_euclid(1_000_000)),
            }
        }
        other => return Err(ArrowError::CastError(format!("{other} is no time"))),
    })
}

/// A key column as text: integers by their decimal form.
pub(super) fn key_text(array: &ArrayRef) -> Result<StringArray, ArrowError> {
    Ok(cast(array, &DataType::Utf8)?.as_string::<i32>().clone())
}
