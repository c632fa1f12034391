//! Every type of a file as the job's type, against the obvious conversion.

use arrow_array::types::{Int32Type, TimestampMillisecondType};
use arrow_array::*;
use arrow_schema::DataType as D;

use super::*;

/// Writes the column, reads it back as `to`, and tells what it was found to be.
fn as_type(column: ArrayRef, to: ColumnType) -> (FoundType, ArrayRef) {
    let folder = tempfile::tempdir().expect("a folder");
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..column.len() as i64));
    write(&folder.path().join("t.parquet"), &[("id", keys), ("x", column)], zstd(), 1_000);
    let warehouse = ParquetWarehouse::new("t.parquet", folder.path()).expect("a path");
    let found = warehouse.schema().expect("a schema").column("x").expect("the column");
    let pull = warehouse.pull(&wanted("id", &[("x", to)])).expect("it can become that");
    (found, Arc::clone(&read(&pull).expect("rows")[0].columns[0]))
}

fn check(column: impl Array + 'static, to: ColumnType, expected: impl Array + 'static) {
    let (found, read) = as_type(Arc::new(column), to);
    assert_eq!(found, FoundType::Known(to));
    assert_eq!(read.to_data(), expected.to_data());
}

/// Checks a conversion from a file's type that is another than the job's.
fn check_wider(column: impl Array + 'static, from: ColumnType, to: ColumnType, expected: impl Array + 'static) {
    let (found, read) = as_type(Arc::new(column), to);
    assert_eq!(found, FoundType::Known(from));
    assert_eq!(read.to_data(), expected.to_data());
}

#[test]
fn all_integers_are_integer() {
    let expected = || Int64Array::from(vec![Some(1), None, Some(100)]);
    check(Int8Array::from(vec![Some(1), None, Some(100)]), ColumnType::Integer, expected());
    check(Int16Array::from(vec![Some(1), None, Some(100)]), ColumnType::Integer, expected());
    check(Int32Array::from(vec![Some(1), None, Some(100)]), ColumnType::Integer, expected());
    check(Int64Array::from(vec![Some(1), None, Some(100)]), ColumnType::Integer, expected());
    check(UInt8Array::from(vec![Some(1), None, Some(100)]), ColumnType::Integer, expected());
    check(UInt16Array::from(vec![Some(1), None, Some(100)]), ColumnType::Integer, expected());
    check(UInt32Array::from(vec![Some(1), None, Some(100)]), ColumnType::Integer, expected());
    let beyond = UInt64Array::from(vec![Some(1), Some(u64::MAX), Some(100)]);
    check(beyond, ColumnType::Integer, expected());
    for precision in [5, 12, 20, 38] {
        let decimals = Decimal128Array::from(vec![Some(1), None, Some(100)]).with_precision_and_scale(precision, 0);
        check(decimals.expect("a precision"), ColumnType::Integer, expected());
    }
    let beyond =
        Decimal128Array::from(vec![Some(1), Some(i128::from(i64::MAX) + 1), Some(100)]).with_precision_and_scale(38, 0);
    check(beyond.expect("a precision"), ColumnType::Integer, expected());
}

#[test]
fn keys_beyond_64_bits_are_their_decimal_text() {
    let check = |keys: ArrayRef, expected: &[&str]| {
        let folder = tempfile::tempdir().expect("a folder");
        write(&folder.path().join("k.parquet"), &[("id", keys)], zstd(), 10);
        let rows =
            read(&pull("k.parquet", folder.path(), &wanted("id", &[])).expect("a pull")).expect("rows").remove(0);
        assert_eq!(rows.keys, StringArray::from(expected.to_vec()));
    };
    check(Arc::new(UInt64Array::from(vec![u64::MAX, 0])), &["18446744073709551615", "0"]);
    let wide = Decimal128Array::from(vec![12_345_678_901_234_567_890_123, -7]).with_precision_and_scale(38, 0);
    check(Arc::new(wide.expect("a precision")), &["12345678901234567890123", "-7"]);
    let narrow = Decimal128Array::from(vec![10, -7]).with_precision_and_scale(4, 0);
    check(Arc::new(narrow.expect("a precision")), &["10", "-7"]);
    check(Arc::new(Int8Array::from(vec![-128, 127])), &["-128", "127"]);
    let widest = arrow_buffer::i256::from_string(&"9".repeat(76)).expect("76 digits");
    let widest = Decimal256Array::from(vec![widest]).with_precision_and_scale(76, 0);
    check(Arc::new(widest.expect("a precision")), &[&"9".repeat(76)]);
}

#[test]
fn a_decimal_of_76_digits_is_the_nearest_number_and_beyond_64_bits_no_integer() {
    let digits = |text: &str| arrow_buffer::i256::from_string(text).expect("an integer");
    let of = |scale: i8| {
        let values = vec![Some(digits(&"9".repeat(76))), None, Some(digits("-12345")), Some(digits("1"))];
        Decimal256Array::from(values).with_precision_and_scale(76, scale).expect("a precision")
    };
    check(of(0), ColumnType::Integer, Int64Array::from(vec![None, None, Some(-12_345), Some(1)]));
    check(of(2), ColumnType::Number, Float64Array::from(vec![Some(1e74), None, Some(-123.45), Some(0.01)]));
    check(of(76), ColumnType::Number, Float64Array::from(vec![Some(1.0), None, Some(-1.2345e-72), Some(1e-76)]));
    check_wider(of(0), ColumnType::Integer, ColumnType::Number, {
        Float64Array::from(vec![Some(1e76), None, Some(-12_345.0), Some(1.0)])
    });
    let text = format!("{}.{}", "9".repeat(74), "99");
    check_wider(of(2), ColumnType::Number, ColumnType::String, {
        StringArray::from(vec![Some(&text[..]), None, Some("-123.45"), Some("0.01")])
    });
}

#[test]
fn floats_and_other_decimals_are_number() {
    let doubles = Float64Array::from(vec![
        Some(1.5),
        None,
        Some(f64::NAN),
        Some(f64::INFINITY),
        Some(f64::NEG_INFINITY),
        Some(-0.0),
    ]);
    check(doubles, ColumnType::Number, Float64Array::from(vec![Some(1.5), None, None, None, None, Some(-0.0)]));
    check(
        Float32Array::from(vec![Some(1.5), None, Some(f32::NAN)]),
        ColumnType::Number,
        Float64Array::from(vec![Some(1.5), None, None]),
    );
}

#[test]
fn a_decimal_is_the_nearest_double() {
    let seed = 3;
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..60 {
        let precision = rng.u8(1..=38);
        let scale = rng.i8(1..=precision as i8);
        let values: Vec<i128> = (0..50).map(|_| rng.i128(..) % 10i128.pow(rng.u32(1..=u32::from(precision)))).collect();
        let expected = values.iter().map(|&value| {
            let digits = format!("{:0width$}", value.unsigned_abs(), width = scale as usize + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
            let magnitude: f64 = format!("{whole}.{fraction}").parse().expect("digits");
            if value < 0 { -magnitude } else { magnitude }
        });
        let expected = Float64Array::from_iter_values(expected);
        let decimals = Decimal128Array::from(values).with_precision_and_scale(precision, scale).expect("a scale");
        check(decimals, ColumnType::Number, expected);
    }
}

#[test]
fn all_string_forms_are_string() {
    let texts = vec![Some("a"), None, Some("ü"), Some(""), Some("a")];
    let expected = || StringArray::from(texts.clone());
    check(StringArray::from(texts.clone()), ColumnType::String, expected());
    check(LargeStringArray::from(texts.clone()), ColumnType::String, expected());
    check(StringViewArray::from(texts.clone()), ColumnType::String, expected());
    let dictionary: DictionaryArray<Int32Type> = texts.clone().into_iter().collect();
    check(dictionary, ColumnType::String, expected());
}

#[test]
fn times_of_any_unit_are_floored_to_ms() {
    let seed = 5;
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut raw: Vec<i64> = (0..500).map(|_| rng.i64(-10_000_000_000..10_000_000_000)).collect();
    raw.extend([-1, 0, 1, -999, -1_000, -1_001, -999_999, -1_000_000, -1_000_001]);
    // Per ms: the floor, with remainders made positive by hand.
    let floored = |unit: i64| {
        let floor = move |value: i64| {
            if value % unit != 0 && value < 0 { value / unit - 1 } else { value / unit }
        };
        TimestampMillisecondArray::from_iter_values(raw.iter().map(move |&value| floor(value)))
    };
    let seconds = TimestampMillisecondArray::from_iter_values(raw.iter().map(|&value| value * 1_000));
    check(TimestampSecondArray::from(raw.clone()), ColumnType::Timestamp, seconds);
    check(TimestampMillisecondArray::from(raw.clone()), ColumnType::Timestamp, floored(1));
    check(TimestampMicrosecondArray::from(raw.clone()), ColumnType::Timestamp, floored(1_000));
    check(TimestampNanosecondArray::from(raw.clone()), ColumnType::Timestamp, floored(1_000_000));
    // The zone of a column says how to show it, not what it is.
    check(
        TimestampMicrosecondArray::from(raw.clone()).with_timezone("America/New_York"),
        ColumnType::Timestamp,
        floored(1_000),
    );
    check(
        TimestampNanosecondArray::from(raw.clone()).with_timezone("+05:00"),
        ColumnType::Timestamp,
        floored(1_000_000),
    );
}

#[test]
fn dates_are_their_midnight() {
    let midnights =
        || TimestampMillisecondArray::from(vec![Some(-86_400_000), None, Some(0), Some(86_400_000 * 20_000)]);
    check(Date32Array::from(vec![Some(-1), None, Some(0), Some(20_000)]), ColumnType::Date, midnights());
    let ms = vec![Some(-1), None, Some(86_399_999), Some(86_400_000 * 20_000)];
    check(Date64Array::from(ms), ColumnType::Date, midnights());
    check_wider(
        Date32Array::from(vec![Some(-1), None, Some(0), Some(20_000)]),
        ColumnType::Date,
        ColumnType::Timestamp,
        midnights(),
    );
}

#[test]
fn lists_are_lists_of_their_items() {
    let integers = || {
        ListArray::from_iter_primitive::<Int64Type, _, _>(vec![
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
            Some(vec![Some(3)]),
        ])
    };
    let small = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1), None]),
        None,
        Some(vec![]),
        Some(vec![Some(3)]),
    ]);
    check(small.clone(), ColumnType::ListInteger, integers());
    let large = LargeListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1), None]),
        None,
        Some(vec![]),
        Some(vec![Some(3)]),
    ]);
    check(large, ColumnType::ListInteger, integers());
    let numbers =
        |items: Vec<Option<f64>>| ListArray::from_iter_primitive::<Float64Type, _, _>(vec![Some(items), None]);
    check(numbers(vec![Some(0.5), Some(f64::NAN)]), ColumnType::ListNumber, numbers(vec![Some(0.5), None]));
    let widened = ListArray::from_iter_primitive::<Float64Type, _, _>(vec![
        Some(vec![Some(1.0), None]),
        None,
        Some(vec![]),
        Some(vec![Some(3.0)]),
    ]);
    check_wider(small, ColumnType::ListInteger, ColumnType::ListNumber, widened);

    let texts = |large: bool| -> ArrayRef {
        let mut items = builder::ListBuilder::new(builder::StringBuilder::new());
        items.append_value([Some("a"), None]);
        items.append_null();
        let list: ArrayRef = Arc::new(items.finish());
        let item = if large { D::LargeUtf8 } else { D::Utf8 };
        arrow_cast::cast(&list, &D::List(Arc::new(arrow_schema::Field::new("item", item, true))))
            .expect("strings are strings")
    };
    let (found, read) = as_type(texts(true), ColumnType::ListString);
    assert_eq!(found, FoundType::Known(ColumnType::ListString));
    assert_eq!(read.to_data(), texts(false).to_data());
}

#[test]
fn a_string_takes_the_json_text_of_what_is_none() {
    use ColumnType::*;
    check_wider(Int64Array::from(vec![Some(-5), None]), Integer, String, StringArray::from(vec![Some("-5"), None]));
    let doubles = Float64Array::from(vec![Some(0.1), Some(1e21), Some(f64::NAN), Some(3.0), None]);
    check_wider(doubles, Number, String, StringArray::from(vec![Some("0.1"), Some("1e+21"), None, Some("3.0"), None]));
    check_wider(Float32Array::from(vec![0.1]), Number, String, StringArray::from(vec!["0.1"]));
    let decimals = Decimal128Array::from(vec![1250, -5]).with_precision_and_scale(10, 2).expect("a scale");
    check_wider(decimals, Number, String, StringArray::from(vec!["12.50", "-0.05"]));
    check_wider(
        BooleanArray::from(vec![Some(true), None, Some(false)]),
        Boolean,
        String,
        StringArray::from(vec![Some("true"), None, Some("false")]),
    );
    check_wider(
        Int64Array::from(vec![Some(1 << 60), None]),
        Integer,
        Number,
        Float64Array::from(vec![Some((1u64 << 60) as f64), None]),
    );
}

#[test]
fn a_column_of_nothing_is_of_any_type() {
    for to in [ColumnType::String, ColumnType::Number, ColumnType::ListInteger, ColumnType::Date, ColumnType::Boolean] {
        let (found, read) = as_type(Arc::new(NullArray::new(3)), to);
        assert_eq!(found, FoundType::Null);
        assert_eq!((read.len(), read.logical_null_count()), (3, 3));
        assert_eq!(*read.data_type(), super::super::cast::canonical_type(to));
    }
}

#[test]
fn other_types_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(Int64Array::from(vec![1]))),
        ("bytes", Arc::new(FixedSizeBinaryArray::try_from(vec![&[0u8; 16][..]]).expect("one size"))),
        ("time", Arc::new(Time64MicrosecondArray::from(vec![1]))),
    ];
    write(&folder.path().join("t.parquet"), &columns, zstd(), 10);
    let schema =
        ParquetWarehouse::new("t.parquet", folder.path()).and_then(|warehouse| warehouse.schema()).expect("a schema");
    assert_eq!(schema.column("bytes"), Some(FoundType::Unsupported("FixedSizeBinary(16)".into())));
    assert_eq!(schema.column("time"), Some(FoundType::Unsupported("Time64(µs)".into())));
    for (name, to) in [("time", ColumnType::Timestamp), ("bytes", ColumnType::String)] {
        let error = pull("t.parquet", folder.path(), &wanted("id", &[(name, to)])).expect_err("it is no type of a job");
        let found = schema.column(name).expect("the column");
        let expected = format!(
            "`t.parquet`: the column `{name}` has the type `{found}`; wanted is `{to}`\n  hint: cast it in the export"
        );
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn bytes_that_are_utf_8_are_string_and_others_are_refused_with_their_column() {
    let texts = vec![Some("a"), None, Some("ü"), Some("")];
    let bytes: Vec<Option<&[u8]>> = texts.iter().map(|text| text.map(str::as_bytes)).collect();
    let expected = || StringArray::from(texts.clone());
    check(BinaryArray::from(bytes.clone()), ColumnType::String, expected());
    check(LargeBinaryArray::from(bytes.clone()), ColumnType::String, expected());
    check(BinaryViewArray::from(bytes), ColumnType::String, expected());

    let folder = tempfile::tempdir().expect("a folder");
    let raw: ArrayRef = Arc::new(BinaryArray::from(vec![&b"a"[..], b"b\xff\x00"]));
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    write(&folder.path().join("b.parquet"), &[("id", ids), ("raw", raw)], zstd(), 10);
    let expected =
        "`b.parquet`: the column `raw` holds bytes that are not UTF-8: `ff00`\n  hint: cast it in the export";
    for wanted in [wanted("id", &[("raw", ColumnType::String)]), wanted("raw", &[])] {
        let pull = pull("b.parquet", folder.path(), &wanted).expect("the file is read");
        assert_eq!(read(&pull).expect_err("one value is no text").to_string(), expected);
    }
}

/// Writes a file with one row per value of `values` in a column `x` of the type that `message` gives it; `id` counts.
fn write_raw<T: parquet::data_type::DataType>(path: &Path, column: &str, values: &[T::T]) {
    use parquet::data_type::Int64Type as Long;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    let message = format!("message m {{ required int64 id; {column} }}");
    let schema = parse_message_type(&message).expect("a schema");
    let file = File::create(path).expect("a file");
    let mut writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::default()).expect("a writer");
    let mut group = writer.next_row_group().expect("a row group");
    let mut ids = group.next_column().expect("a column").expect("the ids");
    let count: Vec<i64> = (0..values.len() as i64).collect();
    ids.typed::<Long>().write_batch(&count, None, None).expect("ids");
    ids.close().expect("the ids");
    let mut column = group.next_column().expect("a column").expect("the values");
    column.typed::<T>().write_batch(values, None, None).expect("values");
    column.close().expect("the values");
    group.close().expect("the row group");
    writer.close().expect("the footer");
}

/// The column `x` of a file, as `to`.
fn read_raw(folder: &Path, to: ColumnType) -> ArrayRef {
    let pull = pull("x.parquet", folder, &wanted("id", &[("x", to)])).expect("a pull");
    Arc::clone(&read(&pull).expect("rows")[0].columns[0])
}

#[test]
fn a_uuid_is_text_with_hyphens_as_a_column_and_as_a_key() {
    use parquet::data_type::{FixedLenByteArray, FixedLenByteArrayType};

    let folder = tempfile::tempdir().expect("a folder");
    let bytes: Vec<u8> = (0..16).map(|byte| byte * 17).collect();
    let values = [FixedLenByteArray::from(bytes), FixedLenByteArray::from(vec![0; 16])];
    let path = folder.path().join("x.parquet");
    write_raw::<FixedLenByteArrayType>(&path, "required fixed_len_byte_array(16) x (UUID);", &values);
    let expected =
        StringArray::from(vec!["00112233-4455-6677-8899-aabbccddeeff", "00000000-0000-0000-0000-000000000000"]);
    assert_eq!(read_raw(folder.path(), ColumnType::String).as_string::<i32>(), &expected);
    let keyed = pull("x.parquet", folder.path(), &wanted("x", &[])).expect("a pull");
    assert_eq!(read(&keyed).expect("rows")[0].keys, expected);
}

#[test]
fn decimals_of_every_physical_form_are_the_nearest_double() {
    use parquet::data_type::{ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType};
    use parquet::data_type::{Int32Type as Int, Int64Type as Long};

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.parquet");
    let expected = Float64Array::from(vec![-1.25, 0.01]);
    let check = || {
        let schema = ParquetWarehouse::new("x.parquet", folder.path()).and_then(|of| of.schema()).expect("a schema");
        assert_eq!(schema.column("x"), Some(FoundType::Known(ColumnType::Number)));
        assert_eq!(read_raw(folder.path(), ColumnType::Number).as_primitive::<Float64Type>(), &expected);
        assert_eq!(
            read_raw(folder.path(), ColumnType::String).as_string::<i32>(),
            &StringArray::from(vec!["-1.25", "0.01"])
        );
    };
    write_raw::<Int>(&path, "required int32 x (DECIMAL(9, 2));", &[-125, 1]);
    check();
    write_raw::<Long>(&path, "required int64 x (DECIMAL(18, 2));", &[-125, 1]);
    check();
    let bytes = |length: usize| {
        [-125i128, 1].map(|n| [vec![if n < 0 { 0xff } else { 0 }; length - 16], n.to_be_bytes().to_vec()].concat())
    };
    let cut = |length: usize| [-125i128, 1].map(|n| n.to_be_bytes()[16 - length..].to_vec());
    write_raw::<ByteArrayType>(&path, "required binary x (DECIMAL(30, 2));", &cut(3).map(ByteArray::from));
    check();
    let of_length = "required fixed_len_byte_array";
    for length in [5, 16] {
        let values = cut(length).map(FixedLenByteArray::from);
        write_raw::<FixedLenByteArrayType>(&path, &format!("{of_length}({length}) x (DECIMAL(11, 2));"), &values);
        check();
    }
    let values = bytes(20).map(FixedLenByteArray::from);
    write_raw::<FixedLenByteArrayType>(&path, &format!("{of_length}(20) x (DECIMAL(45, 2));"), &values);
    check();
}

#[test]
fn lists_of_two_levels_and_repeated_columns_are_lists() {
    use parquet::data_type::Int32Type as Int;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    for column in [
        "optional group x (LIST) { repeated int32 array; }",
        "optional group x (LIST) { repeated group list { optional int32 element; } }",
        "required group x (LIST) { repeated group bag { required int32 array_element; } }",
        "repeated int32 x;",
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let schema = parse_message_type(&format!("message m {{ {column} required int64 id; }}")).expect("a schema");
        let levels = |of: &parquet::schema::types::SchemaDescriptor| of.column(0).max_def_level();
        let all = levels(&parquet::schema::types::SchemaDescriptor::new(Arc::new(schema.clone())));
        let file = File::create(folder.path().join("x.parquet")).expect("a file");
        let mut writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::default()).expect("a writer");
        let mut group = writer.next_row_group().expect("a row group");
        let mut values = group.next_column().expect("a column").expect("the items");
        values.typed::<Int>().write_batch(&[1, 2, 3], Some(&[all, all, all]), Some(&[0, 1, 0])).expect("items");
        values.close().expect("the items");
        let mut ids = group.next_column().expect("a column").expect("the ids");
        ids.typed::<parquet::data_type::Int64Type>().write_batch(&[1, 2], None, None).expect("ids");
        ids.close().expect("the ids");
        group.close().expect("the row group");
        writer.close().expect("the footer");
        let expected =
            ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), Some(2)]), Some(vec![Some(3)])]);
        let read = read_raw(folder.path(), ColumnType::ListInteger);
        assert_eq!(read.as_list::<i32>(), &expected, "{column}");
    }
}

#[test]
fn a_time_beyond_64_bits_of_ms_is_refused_with_its_value() {
    let folder = tempfile::tempdir().expect("a folder");
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let times: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX]));
    write(&folder.path().join("t.parquet"), &[("id", ids), ("at", times)], zstd(), 10);
    let wanted = wanted("id", &[("at", ColumnType::Timestamp)]);
    let error = read(&pull("t.parquet", folder.path(), &wanted).expect("a pull")).expect_err("no ms holds it");
    let expected =
        "`t.parquet`: the column `at` holds `9223372036854775807`, a Timestamp(s) that 64 bits of ms do not hold";
    assert!(error.to_string().starts_with(expected), "{error}");
    // The largest date is 5,881,580-07-11.
    let all = Date32Array::from(vec![i32::MIN, i32::MAX]);
    let midnights = [i32::MIN, i32::MAX].map(|days| i64::from(days) * 86_400_000);
    check(all, ColumnType::Date, TimestampMillisecondArray::from(midnights.to_vec()));
}

#[test]
fn the_old_96_bit_timestamps_reach_beyond_the_range_of_ns() {
    use parquet::data_type::{Int64Type as Long, Int96, Int96Type};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    let folder = tempfile::tempdir().expect("a folder");
    let schema = parse_message_type("message m { required int64 id; optional int96 at; }").expect("a schema");
    let file = File::create(folder.path().join("t.parquet")).expect("a file");
    let mut writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::default()).expect("a writer");
    let mut group = writer.next_row_group().expect("a row group");
    let mut ids = group.next_column().expect("a column").expect("the ids");
    ids.typed::<Long>().write_batch(&[1, 2, 3], None, None).expect("ids");
    ids.close().expect("the ids");
    let mut times = group.next_column().expect("a column").expect("the times");
    // Days are Julian: 2440588 is 1970-01-01.
    let time = |nanos: u64, day: u32| {
        let mut time = Int96::new();
        time.set_data(nanos as u32, (nanos >> 32) as u32, day);
        time
    };
    let values = [time(1_999_999, 2_440_587), time(86_399_000_000_000, 5_373_484)];
    times.typed::<Int96Type>().write_batch(&values, Some(&[1, 1, 0]), None).expect("times");
    times.close().expect("the times");
    group.close().expect("the row group");
    writer.close().expect("the footer");

    let wanted = wanted("id", &[("at", ColumnType::Timestamp)]);
    let rows = read(&pull("t.parquet", folder.path(), &wanted).expect("a pull")).expect("rows").remove(0);
    let at = rows.columns[0].as_primitive::<TimestampMillisecondType>();
    // A day before the epoch and 1 ms; 9999-12-31T23:59:59Z.
    assert_eq!(at, &TimestampMillisecondArray::from(vec![Some(-86_399_999), Some(253_402_300_799_000), None]));
}

/// Columns of types that a file can have, with values chosen by `rng` and with nulls; some are a slice of a longer column.
fn random_columns(rng: &mut fastrand::Rng) -> Vec<ArrayRef> {
    use arrow_array::types::{Int16Type, Int64Type as Long};
    use arrow_schema::Field;

    let len = rng.usize(0..40);
    let mut longs = |span: i64| -> ArrayRef {
        Arc::new((0..len).map(|_| rng.bool().then(|| rng.i64(-span..=span))).collect::<Int64Array>())
    };
    let (small, large) = (longs(100), longs(i64::MAX));
    let cast = |from: &ArrayRef, to: &D| arrow_cast::cast(from, to).expect("Arrow converts it");
    let mut columns = vec![Arc::clone(&small), Arc::clone(&large)];
    for to in [D::Int8, D::Int16, D::Int32, D::UInt8, D::UInt16, D::UInt32, D::UInt64, D::Boolean] {
        columns.push(cast(&small, &to));
    }
    for to in [D::UInt64, D::Float64, D::Utf8, D::LargeUtf8, D::Utf8View, D::Binary, D::LargeBinary, D::BinaryView] {
        columns.push(cast(&if to.is_numeric() { large.clone() } else { cast(&large, &D::Utf8) }, &to));
    }
    columns.push(cast(&small, &D::Float16));
    columns.push(cast(&small, &D::Float32));
    for to in [D::Decimal32(9, 0), D::Decimal64(18, 0), D::Decimal128(38, 0), D::Decimal256(76, 0)] {
        columns.push(cast(&small, &to));
    }
    for to in [D::Decimal32(9, 2), D::Decimal64(18, 3), D::Decimal128(38, 4), D::Decimal256(76, 5)] {
        columns.push(cast(&small, &to));
    }
    let text = cast(&small, &D::Utf8);
    for values in [Arc::clone(&small), text, cast(&small, &D::Float64)] {
        let of = |ends: D| D::Dictionary(Box::new(ends), Box::new(values.data_type().clone()));
        columns.push(cast(&values, &of(D::Int8)));
        columns.push(cast(&values, &of(D::UInt32)));
        let ends: Vec<i64> = (1..=len as i64).map(|end| end * 3).collect();
        if len > 0 {
            let runs = RunArray::<Long>::try_new(&Int64Array::from(ends.clone()), &values).expect("runs");
            columns.push(Arc::new(runs));
            let ends = Int16Array::from_iter_values(ends.iter().map(|&end| end as i16));
            columns.push(Arc::new(RunArray::<Int16Type>::try_new(&ends, &values).expect("runs")));
        }
        let item = Arc::new(Field::new("item", values.data_type().clone(), true));
        let mut rows = ListArray::from_iter_primitive::<Long, _, _>(
            (0..len).map(|row| (row % 5 != 3).then(|| (0..row % 4).map(|at| (at != 1).then_some(at as i64)))),
        );
        if *values.data_type() != D::Int64 {
            rows = cast(&(Arc::new(rows) as ArrayRef), &D::List(Arc::clone(&item))).as_list().clone();
        }
        let rows: ArrayRef = Arc::new(rows);
        for to in [D::LargeList(Arc::clone(&item)), D::ListView(Arc::clone(&item)), D::LargeListView(item)] {
            columns.push(cast(&rows, &to));
        }
        columns.push(rows);
        let fixed = Arc::new(Field::new("item", values.data_type().clone(), true));
        columns
            .push(Arc::new(FixedSizeListArray::try_new(fixed, 2, values.slice(0, len / 2 * 2), None).expect("pairs")));
    }
    let part = |column: ArrayRef| if rng.bool() { column.slice(column.len() / 3, column.len() / 2) } else { column };
    columns.into_iter().map(part).collect()
}

#[test]
fn what_arrow_converts_is_converted_to_the_same() {
    use super::super::cast::{can_become, canonical, canonical_type};
    use ColumnType::*;

    let seed = 11;
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let bytes = parquet::schema::types::Type::primitive_type_builder("x", parquet::basic::Type::BYTE_ARRAY);
    let bytes = bytes.build().expect("a type");
    let mut compared = BTreeMap::new();
    for _ in 0..200 {
        for column in random_columns(&mut rng) {
            let found = super::super::schema::found_type(column.data_type(), &bytes);
            for to in [String, Integer, Number, Boolean, ListString, ListInteger, ListNumber] {
                if !can_become(&found, to) {
                    continue;
                }
                let own = canonical(&column, to).expect("it can become that");
                let text = |array: &ArrayRef| {
                    let options = arrow_cast::display::FormatOptions::default().with_null("null");
                    let shown = arrow_cast::display::ArrayFormatter::try_new(array, &options).expect("it has a text");
                    (0..array.len()).map(|row| shown.value(row).to_string()).collect::<Vec<_>>()
                };
                assert_eq!(*own.data_type(), canonical_type(to));
                let by_arrow = arrow_cast::cast(&column, &canonical_type(to)).expect("Arrow converts it");
                // Where the texts of Arrow are not those of JSON, `a_string_takes_the_json_text_of_what_is_none` says what is right.
                let of_floats = matches!(found, FoundType::Known(Number | ListNumber));
                if !(of_floats && matches!(to, String | ListString)) {
                    assert_eq!(text(&own), text(&by_arrow), "{} as {to}", column.data_type());
                    *compared.entry(column.data_type().to_string()).or_insert(0) += column.len();
                }
            }
        }
    }
    println!("{compared:?}");
    assert!(compared.len() > 45 && compared.values().all(|&rows| rows > 300), "{compared:?}");
}
