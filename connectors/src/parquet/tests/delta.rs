//! Delta tables: what delta-rs, and for what it can't write `scripts/delta-tables`, wrote into `delta/`, is read as stated there.

use super::*;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use usher_config::TableVersion;

/// What a version of a table holds: the key, and the columns in their order.
type Rows = Vec<Vec<Value>>;

/// What `scripts/delta-tables` states of a table.
struct Stated {
    wanted: Wanted,
    versions: BTreeMap<u32, Rows>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/parquet/tests/delta")
}

fn stated(table: &str) -> Stated {
    let text = fs::read_to_string(fixtures().join(format!("{table}.json"))).expect("it is stated");
    let stated: Value = serde_json::from_str(&text).expect("it is JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let of_type = |name: &Value| {
        let named = ColumnType::ALL.iter().copied().find(|of| Some(of.name()) == name.as_str());
        named.expect("a type of a job")
    };
    let columns = stated["columns"].as_array().expect("columns").iter();
    let columns: Vec<(String, ColumnType)> = columns.map(|column| (text(&column[0]), of_type(&column[1]))).collect();
    let columns: Vec<(&str, ColumnType)> = columns.iter().map(|(name, of)| (&name[..], *of)).collect();
    let versions = stated["versions"].as_object().expect("versions").iter();
    let versions = versions.map(|(version, rows)| {
        let rows = serde_json::from_value(rows.clone()).expect("rows");
        (version.parse().expect("a number"), rows)
    });
    Stated { wanted: wanted("user_id", &columns), versions: versions.collect() }
}

fn warehouse(table: &Path, at: TableVersion) -> ParquetWarehouse {
    ParquetWarehouse::delta(table.to_str().expect("a path in UTF-8"), at, Path::new("/")).expect("a path")
}

fn error(table: &Path, at: TableVersion) -> SnapshotError {
    warehouse(table, at).pull(&users()).expect_err("it is refused")
}

/// The rows of a pull, as they are stated, by key.
fn rows(pull: &ParquetSnapshot) -> Rows {
    use arrow_array::types::TimestampMillisecondType;
    let mut all = Rows::new();
    for batch in read(pull).expect("the version is readable") {
        let mut columns: Vec<Vec<Value>> = vec![batch.keys.iter().map(Value::from).collect()];
        for column in &batch.columns {
            let value = |row: usize| match column.data_type() {
                _ if column.is_null(row) => Value::Null,
                arrow_schema::DataType::Utf8 => column.as_string::<i32>().value(row).into(),
                arrow_schema::DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
                arrow_schema::DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
                arrow_schema::DataType::Boolean => column.as_boolean().value(row).into(),
                arrow_schema::DataType::List(_) => {
                    let list = column.as_list::<i32>().value(row);
                    list.as_string::<i32>().iter().map(Value::from).collect()
                }
                _ => column.as_primitive::<TimestampMillisecondType>().value(row).into(),
            };
            columns.push((0..column.len()).map(value).collect());
        }
        all.extend((0..batch.keys.len()).map(|row| columns.iter().map(|column| column[row].clone()).collect()));
    }
    sorted(all)
}

fn sorted(mut rows: Rows) -> Rows {
    rows.sort_by_key(|row| row[0].to_string());
    rows
}

/// A copy of a fixture, to be changed.
fn copy(table: &str) -> (tempfile::TempDir, PathBuf) {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("a folder");
        for entry in fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            if from.is_dir() {
                copy(&from, &to);
            } else {
                fs::copy(&from, &to).expect("a copy");
            }
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(table);
    copy(&fixtures().join(table), &path);
    (folder, path)
}

fn entry(table: &Path, version: u32) -> PathBuf {
    table.join(format!("_delta_log/{version:020}.json"))
}

#[test]
fn every_version_of_every_table_is_read_as_its_writer_reads_it() {
    let tables = fs::read_dir(fixtures()).expect("a folder").map(|entry| entry.expect("an entry").path());
    let tables: Vec<PathBuf> = tables.filter(|path| path.is_dir()).collect();
    assert_eq!(tables.len(), 12);
    for table in tables {
        let name = table.file_name().expect("a name").to_str().expect("UTF-8");
        let Stated { wanted, versions } = stated(name);
        assert!(!versions.is_empty(), "{name}");
        for (&version, expected) in &versions {
            let pull = warehouse(&table, TableVersion::Number(version)).pull(&wanted);
            let pull = pull.unwrap_or_else(|error| panic!("{name} {version}: {error}"));
            assert_eq!(rows(&pull), sorted(expected.clone()), "{name} {version}");
            assert_eq!(pull.rows(), expected.len() as u64, "{name} {version}");
            assert_eq!(pull.version.as_ref().map(|version| version.number), Some(u64::from(version)));
        }
        let (last, expected) = versions.last_key_value().expect("a version");
        let newest = warehouse(&table, TableVersion::Newest).pull(&wanted).expect("the newest");
        assert_eq!(newest.version.as_ref().map(|version| version.number), Some(u64::from(*last)), "{name}");
        assert_eq!(rows(&newest), sorted(expected.clone()), "{name}");
    }
}

#[test]
fn a_version_that_was_opened_is_not_opened_again_and_a_later_one_reads_what_is_new() {
    let (_folder, table) = copy("deleted");
    let Stated { wanted, versions } = stated("deleted");
    let hidden = |version| table.join(format!("_delta_log/later-{version}"));
    for version in 1..4 {
        fs::rename(entry(&table, version), hidden(version)).expect("an entry");
    }
    let warehouse = warehouse(&table, TableVersion::Newest);
    let mut before: Option<Arc<ParquetSnapshot>> = None;
    for version in 0..4 {
        if version > 0 {
            fs::rename(hidden(version), entry(&table, version)).expect("an entry");
            // What was replayed is not read again: were it, it would be refused.
            let size = fs::metadata(entry(&table, version - 1)).expect("an entry").len();
            let time = fs::metadata(entry(&table, version - 1)).and_then(|of| of.modified()).expect("a time");
            fs::write(entry(&table, version - 1), vec![b'x'; usize::try_from(size).expect("small")]).expect("written");
            let file = File::options().write(true).open(entry(&table, version - 1)).expect("an entry");
            file.set_modified(time).expect("a time");
        }
        let pull = warehouse.pull(&wanted).unwrap_or_else(|error| panic!("{version}: {error}"));
        assert_eq!(rows(&pull), sorted(versions[&version].clone()), "{version}");
        assert!(Arc::ptr_eq(&pull, &warehouse.pull(&wanted).expect("the same")), "{version}");
        assert!(!before.is_some_and(|before| Arc::ptr_eq(&pull, &before)), "{version}");
        before = Some(pull);
    }
    // Another table in the same place is no later version.
    let other = fixtures().join("timed");
    fs::remove_dir_all(&table).expect("removed");
    fs::create_dir_all(table.join("_delta_log")).expect("a folder");
    for version in 0..3 {
        fs::copy(entry(&other, version), entry(&table, version)).expect("a copy");
        fs::copy(other.join(format!("{version}.parquet")), table.join(format!("{version}.parquet"))).expect("a copy");
    }
    let pull = warehouse.pull(&wanted).expect("the other table");
    assert_eq!(rows(&pull), sorted(stated("timed").versions[&2].clone()));
}

#[test]
fn a_time_names_the_newest_version_of_then() {
    let number = |table: &Path, ms: u64| {
        let pull = warehouse(table, TableVersion::Time(ms)).pull(&users())?;
        Ok::<_, SnapshotError>(pull.version.as_ref().map_or(0, |version| version.number))
    };
    // The entries have their times in them.
    let start = 1_760_000_000_000;
    let table = fixtures().join("timed");
    for (ms, version) in [(start, 0), (start + 59_999, 0), (start + 60_000, 1), (start + 999_999, 2)] {
        assert_eq!(number(&table, ms), Ok(version), "{ms}");
    }
    let error = number(&table, start - 1).expect_err("nothing is as old");
    assert!(error.what.ends_with("its oldest, 0, is of 2025-10-09T08:53:20Z"), "{error}");
    // The times of files, which must not run backwards.
    let (_folder, table) = copy("deleted");
    for (version, second) in [(0, 100), (1, 300), (2, 200), (3, 400)] {
        let file = File::options().write(true).open(entry(&table, version)).expect("an entry");
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(second)).expect("a time");
    }
    for (ms, version) in [(100_000, 0), (299_999, 0), (300_000, 1), (300_001, 2), (400_000, 3)] {
        assert_eq!(number(&table, ms), Ok(version), "{ms}");
    }
}

#[test]
fn what_a_table_needs_and_is_not_read_here_is_refused_by_its_name() {
    let (_folder, table) = copy("timed");
    let with = |protocol: &str| {
        let text = fs::read_to_string(entry(&table, 2)).expect("an entry");
        let text = text.lines().filter(|line| !line.starts_with("{\"protocol\"")).collect::<Vec<_>>().join("\n");
        fs::write(entry(&table, 2), format!("{text}\n{{\"protocol\":{protocol}}}\n")).expect("written");
        error(&table, TableVersion::Newest)
    };
    let one = with(r#"{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors","timeMachine"]}"#);
    assert_eq!(one.kind, SnapshotErrorKind::Unsupported);
    assert_eq!(one.what, "the table needs the reader feature `timeMachine`, which is not supported");
    let two = with(r#"{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["a","catalogManaged"]}"#);
    assert_eq!(two.what, "the table needs the reader features `a`, `catalogManaged`, which are not supported");
    let newer = with(r#"{"minReaderVersion":4,"minWriterVersion":7}"#);
    assert_eq!(newer.what, "the table needs reader version 4, which is not supported");
    // An earlier version did not need it.
    assert!(warehouse(&table, TableVersion::Number(1)).pull(&users()).is_ok());
}

#[test]
fn damage_of_a_log_is_placed_and_what_is_gone_is_named() {
    let (_folder, table) = copy("plain");
    let whole = fs::read(entry(&table, 3)).expect("an entry");
    let damaged = |content: &[u8]| {
        fs::write(entry(&table, 3), content).expect("written");
        let error = error(&table, TableVersion::Newest);
        assert_eq!((error.kind, error.at), (SnapshotErrorKind::Unreadable, entry(&table, 3).display().to_string()));
        error.what
    };
    let half = damaged(&whole[..whole.len() - 20]);
    assert!(half.starts_with("line ") && half.contains("of this entry of the table's log is no action: "), "{half}");
    assert_eq!(damaged(b"\n"), "this entry of the table's log is empty");
    fs::remove_file(entry(&table, 3)).expect("removed");
    let gap = error(&table, TableVersion::Newest);
    assert_eq!(gap.what, "the log has no entry of version 3, which version 6 needs");
    fs::write(entry(&table, 3), &whole).expect("written");
    assert!(warehouse(&table, TableVersion::Newest).pull(&users()).is_ok());

    let later = error(&table, TableVersion::Number(7));
    assert_eq!(later.what, "the table has no version 7: its newest is 6");
    let (_parts, parts) = copy("parts");
    let old = error(&parts, TableVersion::Number(1));
    assert_eq!(old.what, "the log has no entry of version 0, which version 1 needs");
    assert_eq!(old.hint.as_deref(), Some("old entries are cleaned up: the oldest whole version is 2"));
    let part = parts.join("_delta_log/00000000000000000002.checkpoint.0000000001.0000000002.parquet");
    fs::write(&part, "no Parquet").expect("written");
    let checkpoint = error(&parts, TableVersion::Newest);
    assert_eq!(checkpoint.at, part.display().to_string());
    assert!(checkpoint.what.starts_with("the checkpoint can't be read: "), "{checkpoint}");

    // A vacuum took the files of a version, one of them before and one of them after it was opened.
    let pull = warehouse(&table, TableVersion::Newest).pull(&users()).expect("the newest");
    let file = pull.files()[0].path.clone();
    fs::remove_file(&file).expect("removed");
    let gone = "the file is gone, and version 6 of the table names it";
    let error_of_piece = pull.piece(0).err().expect("it is gone");
    assert_eq!((&error_of_piece.at, &error_of_piece.what[..]), (&file, gone));
    let before = error(&table, TableVersion::Newest);
    assert_eq!((before.kind, &before.at, &before.what[..]), (SnapshotErrorKind::Missing, &file, gone));
    fs::write(&file, "short").expect("written");
    assert!(error(&table, TableVersion::Newest).what.starts_with("the file has 5 bytes, and the table's log says "));

    let (_deleted, deleted) = copy("deleted");
    let vector = fs::read_dir(&deleted).expect("a folder").map(|entry| entry.expect("an entry").path());
    let vector = vector.into_iter().find(|path| path.extension().is_some_and(|end| end == "bin")).expect("a vector");
    let mut bytes = fs::read(&vector).expect("a vector");
    bytes[30] ^= 1;
    fs::write(&vector, bytes).expect("written");
    let vectors = error(&deleted, TableVersion::Number(2));
    assert_eq!(vectors.at, vector.display().to_string());
    assert_eq!(vectors.what, "the deletion vector at byte 1 is damaged: its checksum is wrong");
}

#[test]
fn a_folder_without_a_log_and_a_column_that_no_version_has_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    write_users(&folder.path().join("u/a.parquet"), &[("a", 1.0)]);
    let none = error(&folder.path().join("u"), TableVersion::Newest);
    assert_eq!(none.what, "there is no `_delta_log` in this folder");
    assert_eq!(error(&folder.path().join("v"), TableVersion::Newest).what, "no such file or folder");
    fs::create_dir(folder.path().join("u/_delta_log")).expect("a folder");
    assert_eq!(error(&folder.path().join("u"), TableVersion::Newest).what, "there is no `_delta_log` in this folder");

    let table = fixtures().join("plain");
    let column = |name: &str, at| {
        let wanted = wanted("user_id", &[(name, ColumnType::String)]);
        warehouse(&table, at).pull(&wanted).map(|pull| rows(&pull))
    };
    let missing = column("pla", TableVersion::Newest).expect_err("no such column");
    assert_eq!((missing.what, missing.hint.as_deref()), ("no column `pla`".to_owned(), Some("did you mean `plan`?")));
    let of_location = column("tests", TableVersion::Newest).expect_err("a folder of the location");
    assert_eq!(of_location.hint.as_deref(), Some("the file has `user_id`, `ltv` and `plan`"));
    assert_eq!(column("plan", TableVersion::Number(3)).expect_err("not yet").what, "no column `plan`");
    let values = column("plan", TableVersion::Number(4)).expect("it is a column now, and null in the files before");
    assert_eq!(values.iter().filter(|row| !row[1].is_null()).count(), 2);
    let schema = warehouse(&table, TableVersion::Newest).schema().expect("a schema");
    assert_eq!(schema.names().collect::<Vec<_>>(), ["user_id", "ltv", "plan"]);
    assert_eq!(schema.column("PLAN"), Some(FoundType::Known(ColumnType::String)));
}

#[test]
fn no_pull_beside_a_writer_and_a_vacuum_is_a_mixture() {
    // A writer replaces all rows by those of its next number, and removes the files of the number before.
    let folder = tempfile::tempdir().expect("a folder");
    let table = folder.path().join("t");
    fs::create_dir_all(table.join("_delta_log")).expect("a folder");
    let schema = r#"{\"type\":\"struct\",\"fields\":[{\"name\":\"user_id\",\"type\":\"string\",\"nullable\":true,\"metadata\":{}},{\"name\":\"ltv\",\"type\":\"double\",\"nullable\":true,\"metadata\":{}}]}"#;
    let commit = |number: u32| {
        let mut actions = String::new();
        if number == 0 {
            actions += "{\"protocol\":{\"minReaderVersion\":1,\"minWriterVersion\":2}}\n";
            actions += &format!(
                "{{\"metaData\":{{\"id\":\"t\",\"schemaString\":\"{schema}\",\"partitionColumns\":[],\"configuration\":{{}}}}}}\n"
            );
        }
        for file in 0..3 {
            let name = format!("{number}-{file}.parquet");
            write_users(&table.join(&name), &[(&format!("u-{file}")[..], f64::from(number))]);
            let size = fs::metadata(table.join(&name)).expect("a file").len();
            actions += &format!(
                "{{\"add\":{{\"path\":\"{name}\",\"partitionValues\":{{}},\"size\":{size},\"modificationTime\":1,\"dataChange\":true}}}}\n"
            );
            if let Some(before) = number.checked_sub(1) {
                actions += &format!("{{\"remove\":{{\"path\":\"{before}-{file}.parquet\",\"dataChange\":true}}}}\n");
            }
        }
        let temporary = table.join("_delta_log/.tmp");
        fs::write(&temporary, actions).expect("written");
        fs::rename(&temporary, entry(&table, number)).expect("an entry");
    };
    commit(0);
    const PULLS: usize = 200;
    // The writer is at most so many versions ahead of what was read: a pull that never comes to an end shows nothing.
    const AHEAD: u32 = 4;
    let stop = AtomicBool::new(false);
    let seen = AtomicU32::new(0);
    let (mut read_whole, mut gone, mut last) = (0, 0, 0.0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 1.. {
                if stop.load(Ordering::Relaxed) {
                    return number;
                }
                while number > seen.load(Ordering::Relaxed) + AHEAD && !stop.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
                commit(number);
                if number >= 2 {
                    (0..3).for_each(|file| drop(fs::remove_file(table.join(format!("{}-{file}.parquet", number - 2)))));
                }
            }
            unreachable!("the numbers do not end")
        });
        let warehouse = warehouse(&table, TableVersion::Newest);
        while read_whole < PULLS {
            let pull = warehouse.pull(&users()).and_then(|pull| read(&pull).map(|batches| (pull, batches)));
            let (pull, batches) = match pull {
                Ok(pull) => pull,
                Err(error) => {
                    assert!(error.what.starts_with("the file is gone, and version "), "{error}");
                    gone += 1;
                    continue;
                }
            };
            let number = pull.version.as_ref().map_or(0, |version| version.number);
            seen.store(u32::try_from(number).expect("a small number"), Ordering::Relaxed);
            let number = number as f64;
            let found: Vec<(String, Option<f64>)> = batches
                .iter()
                .flat_map(|rows| {
                    let keys = rows.keys.iter().map(|key| key.unwrap_or_default().to_owned());
                    keys.zip(rows.columns[0].as_primitive::<Float64Type>().iter()).collect::<Vec<_>>()
                })
                .collect();
            let expected: Vec<_> = (0..3).map(|file| (format!("u-{file}"), Some(number))).collect();
            assert_eq!(found, expected);
            assert!(number >= last, "a later pull is of no older version");
            (last, read_whole) = (number, read_whole + 1);
        }
        stop.store(true, Ordering::Relaxed);
        let written = writer.join().expect("the writer ends");
        println!("{read_whole} pulls, {gone} of a version whose files were gone, {written} versions");
        assert!(written > 20, "the writer wrote beside the pulls");
    });
}
