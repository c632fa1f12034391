//! From the types of a file to the types of a job.
//!
//! One canonical Arrow type per type of a job: `string` Utf8, `integer` Int64, `number` Float64, `boolean` Boolean, `timestamp` and
//! `date` Timestamp in ms without zone, lists List of the first three. What has no value there (an integer beyond 64 bits, NaN, an
//! infinity) is null. A declared type may be wider than the file's: a string takes integers, numbers and booleans (their JSON
//! text), a number takes integers, a timestamp takes dates, lists likewise; nothing else is converted. Refuses, with the value: a
//! time beyond 64 bits of ms, and bytes that are no UTF-8 where text is wanted.

use std::fmt;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Decimal128Type, Float32Type, Float64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{
    Array, ArrayRef, Float64Array, LargeBinaryArray, ListArray, PrimitiveArray, StringArray, TimestampMillisecondArray,
    new_null_array,
};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Field, TimeUnit};
use usher_config::ColumnType;

use super::schema::FoundType;

/// A key longer than this is none, in bytes (SPEC §3).
const KEY_BYTES_MAX: usize = 1024;

const DAY_MS: i64 = 86_400_000;

/// Why a value of a column is refused, without the column's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub what: String,
}

impl Refused {
    fn error(what: String) -> ArrowError {
        ArrowError::ExternalError(Box::new(Refused { what }))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Refused {}

/// Returns whether a column of the type `from` can be read as `to`.
pub(super) fn can_become(from: &FoundType, to: ColumnType) -> bool {
    use ColumnType::*;
    let from = match *from {
        FoundType::Known(from) => from,
        FoundType::Null => return true,
        FoundType::Unsupported(_) => return false,
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

/// Returns whether a column of the type `from` can hold keys. One without a value does: its rows have none.
pub(super) fn can_be_key(from: &FoundType) -> bool {
    matches!(from, FoundType::Known(ColumnType::String | ColumnType::Integer) | FoundType::Null)
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
        // Of all fixed sizes only this one is read as text.
        DataType::FixedSizeBinary(16) => column.as_fixed_size_binary().iter().map(|bytes| bytes.map(uuid)).collect(),
        DataType::Binary | DataType::BinaryView => texts(cast(column, &DataType::LargeBinary)?.as_binary())?,
        DataType::LargeBinary => texts(column.as_binary())?,
        DataType::Null => StringArray::new_null(column.len()),
        _ => cast(column, &DataType::Utf8)?.as_string().clone(),
    })
}

/// The texts that bytes are.
fn texts(column: &LargeBinaryArray) -> Result<StringArray, ArrowError> {
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => {
            Err(Refused::error(format!("holds bytes that are not UTF-8: `{}`", shown(bytes, error.valid_up_to()))))
        }
    };
    let texts = column.iter().map(|bytes| bytes.map(text).transpose()).collect::<Result<Vec<_>, _>>()?;
    Ok(StringArray::from(texts))
}

/// Some bytes from `at` on, in hexadecimal.
fn shown(bytes: &[u8], at: usize) -> String {
    bytes[at..].iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A UUID with hyphens.
fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).expect("half a byte is one digit"));
        }
    }
    text
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
    ) -> Result<PrimitiveArray<TimestampMillisecondType>, ArrowError>
    where
        T::Native: fmt::Display,
    {
        column.as_primitive::<T>().try_unary(|raw| {
            to_ms(raw).ok_or_else(|| {
                Refused::error(format!("holds `{raw}`, a {} that 64 bits of ms do not hold", column.data_type()))
            })
        })
    }
    match column.data_type() {
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
        other => Err(ArrowError::CastError(format!("{other} is no time"))),
    }
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
