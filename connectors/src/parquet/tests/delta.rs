//! Delta tables: what delta-rs, and for what it can't write `scripts/delta-tables`, wrote into `delta/`, is read as stated there.

use super::*;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
    rows_of(read(pull).expect("the version is readable"))
}

fn rows_of(batches: Vec<KeyedBatch>) -> Rows {
    use arrow_array::types::TimestampMillisecondType;
    let mut all = Rows::new();
    for batch in batches {
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

/// Applies a difference to rows; `None` if it can't be read. Panics where it does not fit them.
fn apply(before: &Rows, [added, removed]: &[ParquetSnapshot; 2]) -> Option<Rows> {
    let key = |row: &Vec<Value>| row[0].as_str().expect("a key").to_owned();
    let mut all: BTreeMap<String, Vec<Value>> = before.iter().map(|row| (key(row), row.clone())).collect();
    for batch in read(removed).ok()? {
        assert!(batch.columns.is_empty(), "of a row that is gone the key is read");
        for gone in batch.keys.iter().flatten() {
            assert!(all.remove(gone).is_some(), "{gone} was there");
        }
    }
    for row in rows_of(read(added).ok()?) {
        assert!(all.insert(key(&row), row).is_none(), "a key is there once");
    }
    Some(sorted(all.into_values().collect()))
}

#[test]
fn a_later_version_is_an_earlier_one_and_what_differs() {
    let (mut found, mut less) = (0, 0);
    for table in fs::read_dir(fixtures()).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if !table.is_dir() {
            continue;
        }
        let name = table.file_name().expect("a name").to_str().expect("UTF-8");
        let Stated { wanted, versions } = stated(name);
        let warehouse = warehouse(&table, TableVersion::Newest);
        let of_version = |version: &u32| {
            let delta = warehouse.delta.as_ref().expect("a table").with_version(TableVersion::Number(*version));
            ParquetWarehouse { delta: Some(delta), ..warehouse.clone() }
        };
        for (from, to) in versions.keys().flat_map(|from| versions.keys().map(move |to| (from, to))) {
            let (before, after) = (of_version(from).pull(&wanted), of_version(to).pull(&wanted));
            let (before, after) = (before.expect("a version"), after.expect("a version"));
            let number = |pull: &ParquetSnapshot| pull.version.clone().expect("a version");
            let Some(difference) = warehouse.differing(&number(&before), &number(&after), &wanted) else { continue };
            assert!(from < to, "{name}: {from} is not before {to}");
            let expected = sorted(versions[to].clone());
            assert_eq!(apply(&versions[from], &difference), Some(expected), "{name} {from} {to}");
            (found, less) = (
                found + 1,
                less + u32::from(difference.iter().map(ParquetSnapshot::rows).sum::<u64>() < after.rows() / 2),
            );
            // What another job reads of it is not known.
            let other = Wanted { columns: Vec::new(), ..wanted.clone() };
            assert!(warehouse.differing(&number(&before), &number(&after), &other).is_none());
        }
    }
    assert!(found > 12 && less > 3, "{found} differences, {less} of less than half the rows");
}

/// Stops a thread that looks at it, a failed assertion or not.
struct StopAtEnd<'s>(&'s AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A table that is written beside its pulls.
struct Written {
    table: PathBuf,
    /// The files of the newest version, with the users in them and their values.
    files: Vec<(String, BTreeMap<String, f64>)>,
    /// The files that were removed, and by which version.
    removed: Vec<(u32, PathBuf)>,
    rng: fastrand::Rng,
}

impl Written {
    /// Commits a version: rows that are new, that change, that go, or files that are joined. Then removes files that are no longer needed.
    fn commit(&mut self, number: u32) -> BTreeMap<String, f64> {
        let mut actions = String::new();
        if number == 0 {
            let column = |name: &str, of: &str| {
                format!(r#"{{\"name\":\"{name}\",\"type\":\"{of}\",\"nullable\":true,\"metadata\":{{}}}}"#)
            };
            let columns = format!("{},{}", column("user_id", "string"), column("ltv", "double"));
            let schema = format!(r#"{{\"type\":\"struct\",\"fields\":[{columns}]}}"#);
            actions += "{\"protocol\":{\"minReaderVersion\":1,\"minWriterVersion\":2}}\n";
            actions += &format!("{{\"metaData\":{{\"id\":\"t\",\"schemaString\":\"{schema}\"}}}}\n");
        }
        let joins = number % 5 == 4;
        let mut users = BTreeMap::new();
        for _ in 0..if number == 0 { 0 } else { 1 + usize::from(joins) } {
            let (name, of_file) = self.files.swap_remove(self.rng.usize(..self.files.len()));
            actions += &format!("{{\"remove\":{{\"path\":\"{name}\",\"dataChange\":{}}}}}\n", !joins);
            self.removed.push((number, self.table.join(name)));
            users.extend(of_file);
        }
        if !joins {
            users.retain(|_, _| self.rng.u8(..4) > 0);
            let some = users.values_mut().filter(|_| self.rng.bool());
            some.for_each(|value| *value = f64::from(number));
        }
        let new = if joins {
            0..0
        } else if number == 0 {
            0..40
        } else {
            0..self.rng.u32(..4)
        };
        let mut parts = vec![users];
        parts.extend(new.map(|user| BTreeMap::from([(format!("u-{number}-{user}"), f64::from(number))])));
        for (part, users) in parts.into_iter().enumerate().filter(|(_, users)| !users.is_empty()) {
            let name = format!("{number}-{part}.parquet");
            write_users(&self.table.join(&name), &users.iter().map(|(key, ltv)| (&key[..], *ltv)).collect::<Vec<_>>());
            let size = fs::metadata(self.table.join(&name)).expect("a file").len();
            actions += &format!("{{\"add\":{{\"path\":\"{name}\",\"size\":{size},\"dataChange\":{}}}}}\n", !joins);
            self.files.push((name, users));
        }
        let temporary = self.table.join("_delta_log/.tmp");
        fs::write(&temporary, actions).expect("written");
        fs::rename(&temporary, entry(&self.table, number)).expect("an entry");
        // Soon, so that pulls meet files that are gone, or late, so that they find what they differ from.
        let kept = if (number / 16).is_multiple_of(2) { 1 } else { 8 };
        self.removed.retain(|(version, path)| version + kept > number || fs::remove_file(path).is_err());
        self.files.iter().flat_map(|(_, users)| users.clone()).collect()
    }
}

#[test]
fn no_pull_beside_a_writer_and_a_vacuum_is_a_mixture() {
    // Each pull is read whole and, where it can be, by what differs from the last.
    let folder = tempfile::tempdir().expect("a folder");
    let table = folder.path().join("t");
    fs::create_dir_all(table.join("_delta_log")).expect("a folder");
    let rng = fastrand::Rng::with_seed(7);
    let mut written = Written { table: table.clone(), files: Vec::new(), removed: Vec::new(), rng };
    let versions = Mutex::new(vec![written.commit(0)]);
    const PULLS: usize = 200;
    // The writer is at most so many versions ahead of what was read: a pull that never comes to an end shows nothing.
    const AHEAD: usize = 4;
    let stop = AtomicBool::new(false);
    let seen = AtomicUsize::new(0);
    let (mut whole, mut gone, mut by_difference, mut last) = (0, 0, 0, None::<(Arc<ParquetSnapshot>, Rows)>);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 1.. {
                while number > seen.load(Ordering::Relaxed) + AHEAD && !stop.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
                if stop.load(Ordering::Relaxed) {
                    return number;
                }
                // Before a reader can look for it.
                let mut versions = versions.lock().expect("no panic");
                versions.push(written.commit(u32::try_from(number).expect("a small number")));
            }
            unreachable!("the numbers do not end")
        });
        let stop = StopAtEnd(&stop);
        let warehouse = warehouse(&table, TableVersion::Newest);
        while whole < PULLS {
            let pull = warehouse.pull(&users()).and_then(|pull| read(&pull).map(|batches| (pull, rows_of(batches))));
            let (pull, found) = match pull {
                Ok(pull) => pull,
                Err(error) => {
                    assert!(error.what.starts_with("the file is gone, and version "), "{error}");
                    gone += 1;
                    continue;
                }
            };
            let version = pull.version.clone().expect("a version");
            let number = usize::try_from(version.number).expect("a small number");
            seen.store(number, Ordering::Relaxed);
            let expected = versions.lock().expect("no panic")[number].clone();
            let expected: Rows = expected.into_iter().map(|(key, ltv)| vec![key.into(), ltv.into()]).collect();
            assert_eq!(found, sorted(expected), "version {number}");
            if let Some((before, of_before)) = &last {
                let from = before.version.clone().expect("a version");
                assert!(from.number <= version.number, "a later pull is of no older version");
                let difference = warehouse.differing(&from, &version, &users());
                if let Some(rows) = difference.and_then(|difference| apply(of_before, &difference)) {
                    assert_eq!(rows, found, "version {number} by what differs from {}", from.number);
                    by_difference += 1;
                }
            }
            (last, whole) = (Some((pull, found)), whole + 1);
        }
        drop(stop);
        let versions = writer.join().expect("the writer ends");
        println!(
            "{whole} pulls, {by_difference} by what differs, {gone} of a version whose files were gone, {versions} versions"
        );
        assert!(versions > 20 && by_difference > 20, "the writer wrote beside the pulls");
    });
}
