//! Files of other writers, and those of apache/parquet-testing: each column is read as DuckDB reads it, or refused by a message that
//! says what is not supported. `scripts/parquet-files` makes the files and states their values; docs/PARQUET.md has the outcomes.

use super::*;
use serde_json::Value;
use std::path::PathBuf;

/// The folder in the place of a file whose rows all have this key, so that every row is read.
const KEY: &str = "usher_key";

fn folder() -> PathBuf {
    match std::env::var_os("USHER_PARQUET_FILES") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("src/parquet/tests/foreign"),
    }
}

/// The values of a column in a job's type, as they are stated.
fn values(column: &ArrayRef) -> Vec<Value> {
    use arrow_array::types::TimestampMillisecondType;
    use arrow_schema::DataType;
    let value = |row: usize| match column.data_type() {
        _ if column.is_null(row) => Value::Null,
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::List(_) => values(&column.as_list::<i32>().value(row)).into(),
        _ => column.as_primitive::<TimestampMillisecondType>().value(row).into(),
    };
    (0..column.len()).map(value).collect()
}

/// Whether a value that was read is the one that is stated: a number is stated as an integer too.
fn same(read: &Value, stated: &Value) -> bool {
    match (read, stated) {
        (Value::Array(read), Value::Array(stated)) => {
            read.len() == stated.len() && read.iter().zip(stated).all(|(read, stated)| same(read, stated))
        }
        (Value::Number(read), Value::Number(stated)) if read.is_f64() || stated.is_f64() => {
            let (read, stated) = (read.as_f64().unwrap_or(f64::NAN), stated.as_f64().unwrap_or(f64::NAN));
            // The reader of JSON rounds the last digit of what is stated.
            (read - stated).abs() <= f64::EPSILON * read.abs()
        }
        _ => read == stated,
    }
}

/// Columns that are read where DuckDB and pyarrow refuse them: the file is damaged, and nothing in it says so to a reader of values.
const READ_ALONE: [(&str, &str); 1] = [("apache/bad_data/ARROW-RS-GH-6229-DICTHEADER.parquet", "nation_key")];

/// The columns that are read as stated, and those that are refused, by the reason.
fn outcome(file: &Path, stated: &Value, wrong: &mut Vec<String>) -> (Vec<String>, BTreeMap<String, Vec<String>>) {
    let place = tempfile::tempdir().expect("a folder");
    let inside = format!("{KEY}=1/{}", file.file_name().expect("a name").to_string_lossy());
    fs::create_dir(place.path().join(format!("{KEY}=1"))).expect("a folder");
    fs::copy(file, place.path().join(&inside)).expect("a copy");
    let (mut read_columns, mut refused) = (Vec::new(), BTreeMap::<String, Vec<String>>::new());
    let schema = match ParquetWarehouse::new(&inside, place.path()).and_then(|warehouse| warehouse.schema()) {
        Ok(schema) => schema,
        Err(error) => return (read_columns, [(error.what, Vec::new())].into()),
    };
    for name in schema.names().filter(|name| *name != KEY) {
        let mut refuse = |why: String| refused.entry(why).or_default().push(name.to_owned());
        let column_type = match schema.column(name) {
            Some(FoundType::Known(of)) => of,
            Some(FoundType::Null) => ColumnType::String,
            Some(FoundType::Unsupported(what)) => {
                refuse(what);
                continue;
            }
            None => panic!("{}: `{name}` may be several columns", file.display()),
        };
        let wanted = wanted(KEY, &[(name, column_type)]);
        let batches = match pull(&inside, place.path(), &wanted).and_then(|pull| read(&pull)) {
            Ok(batches) => batches,
            Err(error) => {
                assert_ne!(error.kind, SnapshotErrorKind::Network, "{}: {error}", file.display());
                refuse(error.what.replace(&format!("the column `{name}` "), ""));
                continue;
            }
        };
        let found: Vec<Value> = batches.iter().flat_map(|rows| values(&rows.columns[0])).collect();
        let expected = stated[name].as_array();
        let Some(expected) = expected else {
            let known = READ_ALONE.iter().any(|(known, column)| file.ends_with(known) && name == *column);
            if !known {
                wrong.push(format!("{}: nothing else reads `{name}`: {found:?}", file.display()));
            }
            refuse("read, but not by other readers: the file is damaged".to_owned());
            continue;
        };
        if found.len() != expected.len() {
            wrong.push(format!("{}: `{name}` has {} rows, not {}", file.display(), found.len(), expected.len()));
        }
        let mut rows = found.iter().zip(expected).enumerate();
        if let Some((row, (found, expected))) = rows.find(|(_, (found, expected))| !same(found, expected)) {
            wrong.push(format!("{}: `{name}` row {row} is {found}, not {expected}", file.display()));
        }
        read_columns.push(name.to_owned());
    }
    (read_columns, refused)
}

/// A row of the table: the file, what was read, what was refused and why.
fn row(name: &str, read: &[String], refused: &BTreeMap<String, Vec<String>>) -> String {
    let count = read.len() + refused.values().map(Vec::len).sum::<usize>();
    let named = |columns: &[String]| match columns {
        [] => String::new(),
        [one] => format!(" (`{one}`)"),
        [one, rest @ ..] => format!(" (`{one}` and {} more)", rest.len()),
    };
    let why: Vec<String> = refused.iter().map(|(why, columns)| format!("{why}{}", named(columns))).collect();
    let read = match (read.len(), count) {
        (0, _) => "nothing".to_owned(),
        (all, count) if all == count => format!("all {all} columns"),
        (some, count) => format!("{some} of {count} columns"),
    };
    format!("| `{name}` | {read} | {} |", why.join("; ").replace('|', "\\|"))
}

#[test]
fn every_column_of_foreign_files_is_read_as_duckdb_reads_it_or_refused_by_name() {
    let folder = folder();
    let stated = fs::read_to_string(folder.join("expected.json")).expect("it is stated");
    let stated: BTreeMap<String, Value> = serde_json::from_str(&stated).expect("it is JSON");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PARQUET.md");
    let docs = fs::read_to_string(docs).expect("the documentation");
    let mut missing = Vec::new();
    let (mut columns, mut wrong) = (0, Vec::new());
    for (name, stated) in &stated {
        let (read, refused) = outcome(&folder.join(name), stated, &mut wrong);
        columns += read.len();
        let row = row(name, &read, &refused);
        println!("{row}");
        if !docs.contains(&row) {
            missing.push(row);
        }
    }
    assert!(stated.len() > 100 && columns > 500, "{} files, {columns} columns", stated.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(missing.is_empty(), "not in docs/PARQUET.md:\n{}", missing.join("\n"));
}
