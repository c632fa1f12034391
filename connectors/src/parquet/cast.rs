//! From the types of a file to the types of a job.
//!
//! One canonical Arrow type per type of a job: `string` Utf8, `integer` Int64, `number` Float64, `boolean` Boolean, `timestamp` and
//! `date` Timestamp in ms without zone, lists List of the first three. What has no value there (an integer beyond 64 bits, NaN, an
//! infinity) is null. A declared type may be wider than the file's: a string takes integers, numbers and booleans (their JSON
//! text), a number takes integers, a timestamp takes dates, lists likewise; nothing else is converted. Refuses, with the value: a
//! time beyond 64 bits of ms, and bytes that are no UTF-8 where text is wanted.
//!
//! `arrow_cast` converts between all types of Arrow, and is the crate that takes longest to compile after `sqlparser`. The tests
//! compare these few conversions with it.

use std::fmt;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DecimalType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, RunEndIndexType,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, Float64Array, Int64Array, ListArray, OffsetSizeTrait, PrimitiveArray, StringArray,
    TimestampMillisecondArray, UInt64Array, new_null_array,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{ArrowError, DataType, Field, TimeUnit};
use arrow_select::take::take;
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
        ColumnType::Integer => Arc::new(integers(&column)?),
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
    /// The index of the value of each row.
    fn of_rows<R: RunEndIndexType>(column: &ArrayRef) -> (&ArrayRef, UInt64Array) {
        let runs = column.as_run::<R>();
        (runs.values(), (0..runs.len()).map(|row| runs.get_physical_index(row) as u64).collect())
    }
    match column.data_type() {
        DataType::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            plain(&take(dictionary.values(), dictionary.keys(), None)?)
        }
        DataType::RunEndEncoded(ends, _) => {
            let (values, at) = match ends.data_type() {
                DataType::Int16 => of_rows::<Int16Type>(column),
                DataType::Int32 => of_rows::<Int32Type>(column),
                _ => of_rows::<Int64Type>(column),
            };
            plain(&take(values, &at, None)?)
        }
        _ => Ok(Arc::clone(column)),
    }
}

/// Returns the error of a type that [`can_become`] does not let through.
fn unexpected(column: &ArrayRef, to: &str) -> ArrowError {
    ArrowError::CastError(format!("{} is no {to}", column.data_type()))
}

/// What is beyond 64 bits is null.
fn integers(column: &ArrayRef) -> Result<Int64Array, ArrowError> {
    fn widened<T: ArrowPrimitiveType<Native: Into<i64>>>(column: &ArrayRef) -> Int64Array {
        column.as_primitive::<T>().unary(Into::into)
    }
    fn fitting<T: ArrowPrimitiveType<Native: TryInto<i64>>>(column: &ArrayRef) -> Int64Array {
        column.as_primitive::<T>().unary_opt(|x| x.try_into().ok())
    }
    Ok(match column.data_type() {
        DataType::Int8 => widened::<Int8Type>(column),
        DataType::Int16 => widened::<Int16Type>(column),
        DataType::Int32 => widened::<Int32Type>(column),
        DataType::Int64 => column.as_primitive().clone(),
        DataType::UInt8 => widened::<UInt8Type>(column),
        DataType::UInt16 => widened::<UInt16Type>(column),
        DataType::UInt32 => widened::<UInt32Type>(column),
        DataType::UInt64 => fitting::<UInt64Type>(column),
        DataType::Decimal32(_, 0) => widened::<Decimal32Type>(column),
        DataType::Decimal64(_, 0) => widened::<Decimal64Type>(column),
        DataType::Decimal128(_, 0) => fitting::<Decimal128Type>(column),
        DataType::Decimal256(_, 0) => {
            column.as_primitive::<Decimal256Type>().unary_opt(|x| x.to_i128().and_then(|x| x.try_into().ok()))
        }
        _ => return Err(unexpected(column, "integer")),
    })
}

fn strings(column: &ArrayRef) -> Result<StringArray, ArrowError> {
    fn shown<T: ArrowPrimitiveType<Native: fmt::Display>>(column: &ArrayRef) -> StringArray {
        column.as_primitive::<T>().iter().map(|x| Some(x?.to_string())).collect()
    }
    fn finite<T: ArrowPrimitiveType<Native: serde::Serialize + Into<f64>>>(column: &ArrayRef) -> StringArray {
        let finite = |x: &T::Native| (*x).into().is_finite();
        column.as_primitive::<T>().iter().map(|x| serde_json::to_string(&x.filter(finite)?).ok()).collect()
    }
    fn with_point<T: DecimalType>(column: &ArrayRef) -> StringArray {
        let decimals = column.as_primitive::<T>();
        (0..decimals.len()).map(|row| decimals.is_valid(row).then(|| decimals.value_as_string(row))).collect()
    }
    Ok(match column.data_type() {
        DataType::Utf8 => column.as_string().clone(),
        DataType::LargeUtf8 => column.as_string::<i64>().iter().collect(),
        DataType::Utf8View => column.as_string_view().iter().collect(),
        DataType::Boolean => column.as_boolean().iter().map(|x| Some(if x? { "true" } else { "false" })).collect(),
        DataType::Int8 => shown::<Int8Type>(column),
        DataType::Int16 => shown::<Int16Type>(column),
        DataType::Int32 => shown::<Int32Type>(column),
        DataType::Int64 => shown::<Int64Type>(column),
        DataType::UInt8 => shown::<UInt8Type>(column),
        DataType::UInt16 => shown::<UInt16Type>(column),
        DataType::UInt32 => shown::<UInt32Type>(column),
        DataType::UInt64 => shown::<UInt64Type>(column),
        DataType::Decimal32(..) => with_point::<Decimal32Type>(column),
        DataType::Decimal64(..) => with_point::<Decimal64Type>(column),
        DataType::Decimal128(..) => with_point::<Decimal128Type>(column),
        DataType::Decimal256(..) => with_point::<Decimal256Type>(column),
        // In single precision where the file is: 0.1 stays `0.1`.
        DataType::Float16 => {
            let singles: PrimitiveArray<Float32Type> = column.as_primitive::<Float16Type>().unary(|x| x.to_f32());
            finite::<Float32Type>(&(Arc::new(singles) as ArrayRef))
        }
        DataType::Float32 => finite::<Float32Type>(column),
        DataType::Float64 => finite::<Float64Type>(column),
        // Of all fixed sizes only this one is read as text.
        DataType::FixedSizeBinary(16) => column.as_fixed_size_binary().iter().map(|bytes| bytes.map(uuid)).collect(),
        DataType::Binary => texts(column.as_binary::<i32>().iter())?,
        DataType::LargeBinary => texts(column.as_binary::<i64>().iter())?,
        DataType::BinaryView => texts(column.as_binary_view().iter())?,
        DataType::Null => StringArray::new_null(column.len()),
        _ => return Err(unexpected(column, "string")),
    })
}

/// The texts that bytes are.
fn texts<'a>(values: impl Iterator<Item = Option<&'a [u8]>>) -> Result<StringArray, ArrowError> {
    let text = |bytes| match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => {
            Err(Refused::error(format!("holds bytes that are not UTF-8: `{}`", shown(bytes, error.valid_up_to()))))
        }
    };
    values.map(|bytes| bytes.map(text).transpose()).collect()
}

/// Some bytes from `at` on, in hexadecimal.
fn shown(bytes: &[u8], at: usize) -> String {
    bytes[at..].iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A UUID with hyphens.
pub(super) fn uuid(bytes: &[u8]) -> String {
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

fn numbers(column: &ArrayRef) -> Result<Float64Array, ArrowError> {
    // The doubles and powers of ten up to these are exact, so that one division rounds once.
    const EXACT_MAX: u128 = 1 << 53;
    const EXACT_SCALE_MAX: i8 = 22;
    fn exact<T: ArrowPrimitiveType<Native: Into<f64>>>(column: &ArrayRef) -> Float64Array {
        column.as_primitive::<T>().unary(Into::into)
    }
    Ok(match *column.data_type() {
        DataType::Int8 => exact::<Int8Type>(column),
        DataType::Int16 => exact::<Int16Type>(column),
        DataType::Int32 => exact::<Int32Type>(column),
        DataType::Int64 => column.as_primitive::<Int64Type>().unary(|x| x as f64),
        DataType::UInt8 => exact::<UInt8Type>(column),
        DataType::UInt16 => exact::<UInt16Type>(column),
        DataType::UInt32 => exact::<UInt32Type>(column),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().unary(|x| x as f64),
        DataType::Float16 => {
            column.as_primitive::<Float16Type>().unary_opt(|x| Some(x.to_f64()).filter(|x| x.is_finite()))
        }
        DataType::Float32 => {
            column.as_primitive::<Float32Type>().unary_opt(|x| Some(f64::from(x)).filter(|x| x.is_finite()))
        }
        DataType::Float64 => column.as_primitive::<Float64Type>().unary_opt(|x| Some(x).filter(|x| x.is_finite())),
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
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal256(..) => parsed(column)?,
        _ => return Err(unexpected(column, "number")),
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
        _ => Err(unexpected(column, "time")),
    }
}

fn lists(column: &ArrayRef, item: ColumnType) -> Result<ListArray, ArrowError> {
    /// The values that the rows point at, one row after the other, and the number of each row's.
    fn of_views<O: OffsetSizeTrait>(column: &ArrayRef) -> Result<(ArrayRef, Vec<usize>), ArrowError> {
        let views = column.as_list_view::<O>();
        let rows = views.offsets().iter().zip(views.sizes()).enumerate();
        let ranges = rows.map(|(row, (from, size))| {
            let from = from.as_usize();
            from..if views.is_valid(row) { from + size.as_usize() } else { from }
        });
        let ranges = ranges.collect::<Vec<_>>();
        let at: UInt64Array = ranges.iter().cloned().flatten().map(|at| at as u64).collect();
        Ok((take(views.values(), &at, None)?, ranges.iter().map(ExactSizeIterator::len).collect()))
    }
    let (values, lengths) = match column.data_type() {
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            return ListArray::try_new(
                Arc::new(Field::new("item", canonical_type(item), true)),
                list.offsets().clone(),
                canonical(list.values(), item)?,
                list.nulls().cloned(),
            );
        }
        DataType::LargeList(_) => {
            let list = column.as_list::<i64>();
            let (from, to) = (list.value_offsets()[0] as usize, list.value_offsets()[list.len()] as usize);
            (list.values().slice(from, to - from), list.offsets().lengths().collect())
        }
        DataType::FixedSizeList(_, size) => {
            let list = column.as_fixed_size_list();
            (Arc::clone(list.values()), vec![*size as usize; list.len()])
        }
        DataType::ListView(_) => of_views::<i32>(column)?,
        DataType::LargeListView(_) => of_views::<i64>(column)?,
        _ => return Err(unexpected(column, "list")),
    };
    if i32::try_from(values.len()).is_err() {
        return Err(ArrowError::OffsetOverflowError(values.len()));
    }
    let field = Arc::new(Field::new("item", canonical_type(item), true));
    ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), canonical(&values, item)?, column.nulls().cloned())
}
