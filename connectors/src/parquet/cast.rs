//! From the types of a file to the types of a job.
//!
//! One canonical Arrow type per type of a job: `string` Utf8, `integer` Int64, `number` Float64, `boolean` Boolean, `timestamp` and
//! `date` Timestamp in ms without zone, lists List of the first three. What has no value there (an integer beyond 64 bits, NaN, an
//! infinity, a time beyond the range of ms) is null. A declared type may be wider than the file's: a string takes integers, numbers
//! and booleans (their JSON text), a number takes integers, a timestamp takes dates, lists likewise; nothing else is converted.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Decimal128Type, Float32Type, Float64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{
    Array, ArrayRef, Float64Array, ListArray, PrimitiveArray, StringArray, TimestampMillisecondArray, new_null_array,
};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Field, TimeUnit};
use usher_config::ColumnType;

use super::schema::{FoundType, found_type};

/// A key longer than this is none, in bytes (SPEC §3).
const KEY_BYTES_MAX: usize = 1024;

const DAY_MS: i64 = 86_400_000;

/// Tells whether a column of the type `from` can be read as `to`.
pub(super) fn can_become(from: &DataType, to: ColumnType) -> bool {
    use ColumnType::*;
    // A column without any value is written without a type by some writers; null is of all types.
    if *from == DataType::Null {
        return true;
    }
    let FoundType::Known(from) = found_type(from) else {
        return false;
    };
    from == to
        || matches!(
            (from, to),
            (Integer | Number | Boolean, String)
                | (Integer, Number)
                | (Date, Timestamp)
                | (ListInteger | ListNumber, ListString)
                | (ListInteger, ListNumber)
        )
}

/// Tells whether a column of the type `from` can hold keys.
pub(super) fn can_be_key(from: &DataType) -> bool {
    matches!(found_type(from), FoundType::Known(ColumnType::String | ColumnType::Integer))
}

/// The canonical Arrow type of a job's type.
pub(super) fn canonical_type(to: ColumnType) -> DataType {
    match to {
        ColumnType::String => DataType::Utf8,
        ColumnType::Integer => DataType::Int64,
        ColumnType::Number => DataType::Float64,
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Timestamp | ColumnType::Date => DataType::Timestamp(TimeUnit::Millisecond, None),
        ColumnType::ListString | ColumnType::ListInteger | ColumnType::ListNumber => {
            DataType::List(Arc::new(Field::new("item", canonical_type(item_of(to)), true)))
        }
    }
}

/// The column as the job's type `to`; [`can_become`] holds.
pub(super) fn canonical(column: &ArrayRef, to: ColumnType) -> Result<ArrayRef, ArrowError> {
    let column = plain(column)?;
    if *column.data_type() == DataType::Null {
        return Ok(new_null_array(&canonical_type(to), column.len()));
    }
    Ok(match to {
        ColumnType::String => Arc::new(strings(&column)?),
        ColumnType::Integer => cast(&column, &DataType::Int64)?,
        ColumnType::Number => Arc::new(numbers(&column)?),
        ColumnType::Boolean => column,
        ColumnType::Timestamp | ColumnType::Date => Arc::new(moments(&column)?),
        ColumnType::ListString | ColumnType::ListInteger | ColumnType::ListNumber => {
            Arc::new(lists(&column, item_of(to))?)
        }
    })
}

/// The column as keys: null where it is null, empty or too long; [`can_be_key`] holds.
pub(super) fn keys(column: &ArrayRef) -> Result<StringArray, ArrowError> {
    let texts = strings(&plain(column)?)?;
    let is_key = |text: &str| !text.is_empty() && text.len() <= KEY_BYTES_MAX;
    // Nearly always all of them are.
    if texts.iter().flatten().all(is_key) {
        return Ok(texts);
    }
    Ok(texts.iter().map(|text| text.filter(|text| is_key(text))).collect())
}

fn item_of(list: ColumnType) -> ColumnType {
    match list {
        ColumnType::ListInteger => ColumnType::Integer,
        ColumnType::ListNumber => ColumnType::Number,
        _ => ColumnType::String,
    }
}

/// The column without its dictionary or runs.
fn plain(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        DataType::Dictionary(_, values) => plain(&cast(column, values)?),
        DataType::RunEndEncoded(_, values) => plain(&cast(column, values.data_type())?),
        _ => Ok(Arc::clone(column)),
    }
}

fn strings(column: &ArrayRef) -> Result<StringArray, ArrowError> {
    Ok(match column.data_type() {
        DataType::Utf8 => column.as_string().clone(),
        // In single precision where the file is: 0.1 stays `0.1`.
        DataType::Float16 | DataType::Float32 => cast(column, &DataType::Float32)?
            .as_primitive::<Float32Type>()
            .iter()
            .map(|x| json(x.filter(|x| x.is_finite())?))
            .collect(),
        DataType::Float64 => {
            column.as_primitive::<Float64Type>().iter().map(|x| json(x.filter(|x| x.is_finite())?)).collect()
        }
        _ => cast(column, &DataType::Utf8)?.as_string().clone(),
    })
}

fn json(x: impl serde::Serialize) -> Option<String> {
    serde_json::to_string(&x).ok()
}

fn numbers(column: &ArrayRef) -> Result<Float64Array, ArrowError> {
    // The doubles and powers of ten up to these are exact, so that one division rounds once.
    const EXACT_MAX: u128 = 1 << 53;
    const EXACT_SCALE_MAX: i8 = 22;
    Ok(match *column.data_type() {
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            return numbers(&cast(column, &DataType::Decimal128(precision, scale))?);
        }
        DataType::Decimal128(_, scale) => {
            let decimals = column.as_primitive::<Decimal128Type>();
            let small = decimals.iter().flatten().all(|x| x.unsigned_abs() <= EXACT_MAX);
            if small && (0..=EXACT_SCALE_MAX).contains(&scale) {
                let unit = 10f64.powi(scale.into());
                decimals.unary(|x| x as f64 / unit)
            } else {
                parsed(column)?
            }
        }
        DataType::Decimal256(..) => parsed(column)?,
        _ => cast(column, &DataType::Float64)?
            .as_primitive::<Float64Type>()
            .unary_opt(|x| Some(x).filter(|x| x.is_finite())),
    })
}

/// The doubles nearest to the column's decimal texts.
fn parsed(column: &ArrayRef) -> Result<Float64Array, ArrowError> {
    Ok(strings(column)?.iter().map(|text| text?.parse().ok()).collect())
}

fn moments(column: &ArrayRef) -> Result<TimestampMillisecondArray, ArrowError> {
    fn by<T: arrow_array::types::ArrowPrimitiveType>(
        column: &ArrayRef,
        to_ms: impl Fn(T::Native) -> Option<i64>,
    ) -> PrimitiveArray<TimestampMillisecondType> {
        column.as_primitive::<T>().unary_opt(to_ms)
    }
    Ok(match column.data_type() {
        DataType::Date32 => by::<Date32Type>(column, |days| Some(i64::from(days) * DAY_MS)),
        DataType::Date64 => by::<Date64Type>(column, |ms| ms.div_euclid(DAY_MS).checked_mul(DAY_MS)),
        DataType::Timestamp(TimeUnit::Second, _) => by::<TimestampSecondType>(column, |s| s.checked_mul(1_000)),
        // With a zone the values are UTC all the same, so the zone is dropped, not applied.
        DataType::Timestamp(TimeUnit::Millisecond, _) => by::<TimestampMillisecondType>(column, Some),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            by::<TimestampMicrosecondType>(column, |us| Some(us.div_euclid(1_000)))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            by::<TimestampNanosecondType>(column, |ns| Some(ns.div_euclid(1_000_000)))
        }
        other => return Err(ArrowError::CastError(format!("{other} is no time"))),
    })
}

fn lists(column: &ArrayRef, item: ColumnType) -> Result<ListArray, ArrowError> {
    let column = match column.data_type() {
        DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::ListView(field)
        | DataType::LargeListView(field) => cast(column, &DataType::List(Arc::clone(field)))?,
        _ => Arc::clone(column),
    };
    let (_, offsets, values, nulls) = column.as_list::<i32>().clone().into_parts();
    let field = Arc::new(Field::new("item", canonical_type(item), true));
    ListArray::try_new(field, offsets, canonical(&values, item)?, nulls)
}
