//! A pull against real files: written with the `parquet` crate, read back, compared with what was written.

// A seed and a reason for skipping are for whoever reads a failed run.
#![allow(clippy::print_stdout)]

mod damage;
mod delta;
mod errors;
mod foreign;
mod remote;
mod types;
mod warehouses;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;
use usher_config::ColumnType;

use super::*;
use usher_core::warehouse::KeyedBatch;

/// Writes one file; its folders are made.
fn write(path: &Path, columns: &[(&str, ArrayRef)], compression: Compression, row_group_rows: usize) {
    fs::create_dir_all(path.parent().expect("a file has a folder")).expect("the folder is made");
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.iter().map(|(name, column)| (*name, Arc::clone(column), column.is_nullable())),
    );
    let batch = batch.expect("the columns are of one length");
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_max_row_group_row_count(Some(row_group_rows))
        .build();
    let file = File::create(path).expect("the file is made");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).expect("the schema is writable");
    writer.write(&batch).expect("the batch is written");
    writer.close().expect("the footer is written");
}

/// Writes users with the given keys and lifetime values.
fn write_users(path: &Path, users: &[(&str, f64)]) {
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values(users.iter().map(|user| user.0)));
    let values: ArrayRef = Arc::new(Float64Array::from_iter_values(users.iter().map(|user| user.1)));
    write(path, &[("user_id", keys), ("ltv", values)], Compression::SNAPPY, 1_000);
}

fn wanted(key: &str, columns: &[(&str, ColumnType)]) -> Wanted {
    let columns = columns.iter().map(|&(name, to)| (name.to_owned(), to)).collect();
    Wanted { key: key.to_owned(), foreign_key: None, columns, undeclared: BTreeSet::new() }
}

/// Users as they are pulled.
fn users() -> Wanted {
    wanted("user_id", &[("ltv", ColumnType::Number)])
}

fn pull(parquet: &str, folder: &Path, wanted: &Wanted) -> Result<Arc<ParquetSnapshot>, SnapshotError> {
    ParquetWarehouse::new(parquet, folder)?.pull(wanted)
}

/// All batches of all pieces.
fn read(pull: &ParquetSnapshot) -> Result<Vec<KeyedBatch>, SnapshotError> {
    let mut all = Vec::new();
    for piece in 0..pull.pieces() {
        for rows in pull.piece(piece)? {
            all.push(rows?);
        }
    }
    Ok(all)
}

/// The users of a pull as (key, ltv).
fn pairs(pull: &ParquetSnapshot) -> Vec<(String, Option<f64>)> {
    let rows = read(pull).expect("the pull is readable");
    let pairs = rows.iter().flat_map(|rows| {
        rows.keys
            .iter()
            .map(|key| key.expect("a key is never null").to_owned())
            .zip(rows.columns[0].as_primitive::<Float64Type>().iter())
    });
    pairs.collect()
}

fn paths(pull: &ParquetSnapshot) -> Vec<&str> {
    pull.files().iter().map(|file| &*file.path).collect()
}

fn gzip() -> Compression {
    Compression::GZIP(GzipLevel::default())
}

fn zstd() -> Compression {
    Compression::ZSTD(ZstdLevel::default())
}

#[test]
fn every_codec_reads_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values((0..20_000).map(|n| format!("u-{n}"))));
    let values: ArrayRef =
        Arc::new(Float64Array::from_iter((0..20_000).map(|n| (n % 7 != 0).then_some(f64::from(n) / 8.0))));
    let codecs = [
        ("uncompressed", Compression::UNCOMPRESSED),
        ("snappy", Compression::SNAPPY),
        ("zstd", zstd()),
        ("gzip", gzip()),
        ("lz4", Compression::LZ4_RAW),
        ("lz4-hadoop", Compression::LZ4),
    ];
    for (name, codec) in codecs {
        let file = format!("{name}.parquet");
        write(
            &folder.path().join(&file),
            &[("user_id", Arc::clone(&keys)), ("ltv", Arc::clone(&values))],
            codec,
            9_000,
        );
        let pull = pull(&file, folder.path(), &users()).expect(name);
        assert_eq!((pull.pieces(), pull.rows()), (3, 20_000), "{name}");
        let expected: Vec<_> =
            (0..20_000).map(|n| (format!("u-{n}"), (n % 7 != 0).then_some(f64::from(n) / 8.0))).collect();
        assert_eq!(pairs(&pull), expected, "{name}");
    }
}

#[test]
fn pieces_in_their_order_are_all_rows_by_path_and_row_group() {
    let seed = 7;
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..20 {
        let folder = tempfile::tempdir().expect("a folder");
        let mut expected = Vec::new();
        // Made in an order other than that of the paths.
        let mut files: Vec<usize> = (0..rng.usize(1..6)).collect();
        let mut pieces = 0;
        rng.shuffle(&mut files);
        for file in files {
            let rows = rng.usize(0..30);
            let row_group = rng.usize(1..12);
            let keys: Vec<i64> = (0..rows).map(|_| rng.i64(-1_000..1_000)).collect();
            let values: Vec<Option<f64>> = (0..rows).map(|_| rng.bool().then(|| f64::from(rng.i32(..)))).collect();
            let path = format!("w/{}/part-{file}.parquet", file % 2);
            expected.push((path.clone(), keys.iter().map(i64::to_string).zip(values.clone()).collect::<Vec<_>>()));
            write(
                &folder.path().join(&path),
                &[("user_id", Arc::new(Int64Array::from(keys))), ("ltv", Arc::new(Float64Array::from(values)))],
                zstd(),
                row_group,
            );
            pieces += rows.div_ceil(row_group);
        }
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        let pull = pull("w", folder.path(), &users()).expect("a folder is read");
        assert_eq!(paths(&pull), expected.iter().map(|file| &*file.0).collect::<Vec<_>>());
        assert_eq!(pull.pieces(), pieces);
        assert_eq!(pairs(&pull), expected.into_iter().flat_map(|file| file.1).collect::<Vec<_>>());
    }
}

#[test]
fn a_folder_is_all_its_parquet_but_hidden_names() {
    let folder = tempfile::tempdir().expect("a folder");
    for file in [
        "b.parquet",
        "a/z.parquet",
        "a/b/c.parquet",
        "_x.parquet",
        ".x.parquet",
        "_tmp/x.parquet",
        ".git/x.parquet",
        "a/x.pq",
    ] {
        write_users(&folder.path().join("_warehouse/users").join(file), &[(file, 1.0)]);
    }
    fs::write(folder.path().join("_warehouse/users/_SUCCESS"), "").expect("a marker");
    for written in ["_warehouse/users", "_warehouse/users/"] {
        let pull = pull(written, folder.path(), &users()).expect(written);
        let expected = ["_warehouse/users/a/b/c.parquet", "_warehouse/users/a/z.parquet", "_warehouse/users/b.parquet"];
        assert_eq!(paths(&pull), expected);
    }
    let absolute = folder.path().join("_warehouse/users");
    let pull = pull(absolute.to_str().expect("utf-8"), Path::new("/elsewhere"), &users()).expect("an absolute path");
    assert_eq!(pull.files().len(), 3);
}

#[test]
fn a_glob_takes_names_and_folders_that_match() {
    let folder = tempfile::tempdir().expect("a folder");
    for file in [
        "w/1/a.parquet",
        "w/1/b.parquet",
        "w/2/a.parquet",
        "w/2/_a.parquet",
        "w/x/y/a.parquet",
        "w/c.pq",
        "w/d.parquet/part-0.parquet",
    ] {
        write_users(&folder.path().join(file), &[(file, 1.0)]);
    }
    let found = |written: &str| match pull(written, folder.path(), &users()) {
        Ok(pull) => paths(&pull).join(" "),
        Err(error) => error.to_string(),
    };
    assert_eq!(found("w/?/a.parquet"), "w/1/a.parquet w/2/a.parquet");
    assert_eq!(found("w/1/*.parquet"), "w/1/a.parquet w/1/b.parquet");
    assert_eq!(found("w/**/a.parquet"), "w/1/a.parquet w/2/a.parquet w/x/y/a.parquet");
    assert_eq!(found("w/x/**"), "w/x/y/a.parquet");
    assert_eq!(found("w/*.pq"), "w/c.pq");
    assert_eq!(found("w/2*"), "w/2/a.parquet");
    assert_eq!(found("w/2/_*"), "w/2/_a.parquet");
    // Some writers make a folder of that name.
    assert_eq!(found("w/*.parquet"), "w/d.parquet/part-0.parquet");
    assert_eq!(
        found("w/3/*.parquet"),
        "`w/3/*.parquet`: no such file or folder\n  hint: it was looked for at `FOLDER/w/3`"
            .replace("FOLDER", folder.path().to_str().expect("utf-8"))
    );
    assert_eq!(
        found("w/q*.parquet"),
        "`w/q*.parquet`: no file matches\n  hint: names with a leading `_` or `.` are skipped"
    );
}

#[cfg(unix)]
#[test]
fn links_are_followed_once() {
    let folder = tempfile::tempdir().expect("a folder");
    write_users(&folder.path().join("data/a.parquet"), &[("a", 1.0)]);
    fs::create_dir(folder.path().join("w")).expect("a folder");
    std::os::unix::fs::symlink(folder.path().join("data"), folder.path().join("w/data")).expect("a link");
    std::os::unix::fs::symlink(folder.path().join("w"), folder.path().join("w/circle")).expect("a link");
    let pull = pull("w", folder.path(), &users()).expect("links are followed");
    assert_eq!(paths(&pull), ["w/data/a.parquet"]);
}

#[test]
fn rows_without_a_key_are_skipped_and_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let long = "x".repeat(1_024);
    let too_long = "x".repeat(1_025);
    let keys: ArrayRef =
        Arc::new(StringArray::from(vec![Some("a"), None, Some(""), Some(&too_long), Some(&long), Some(" ")]));
    let parents: ArrayRef =
        Arc::new(StringArray::from(vec![Some("p"), Some("q"), None, None, Some(&too_long), Some("")]));
    let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4, 5, 6]));
    write(&folder.path().join("o.parquet"), &[("id", keys), ("parent", parents), ("n", values)], zstd(), 100);
    let wanted = Wanted { foreign_key: Some("parent".into()), ..wanted("id", &[("n", ColumnType::Integer)]) };
    let rows = read(&pull("o.parquet", folder.path(), &wanted).expect("the file is read")).expect("the rows are read");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].skipped, 3);
    assert_eq!(rows[0].keys, StringArray::from(vec!["a", &long, " "]));
    assert_eq!(rows[0].foreign_keys, Some(StringArray::from(vec![Some("p"), None, None])));
    assert_eq!(rows[0].columns[0].as_primitive::<Int64Type>(), &Int64Array::from(vec![1, 5, 6]));
}

#[test]
fn names_match_exactly_else_without_case_where_unique() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["k"]));
    let number = |n: f64| Arc::new(Float64Array::from(vec![n])) as ArrayRef;
    let columns = [("USER_ID", keys), ("Ltv", number(1.0)), ("A", number(2.0)), ("a", number(3.0))];
    write(&folder.path().join("u.parquet"), &columns, zstd(), 100);
    assert_eq!(
        pairs(&pull("u.parquet", folder.path(), &users()).expect("without case")),
        [("k".to_owned(), Some(1.0))]
    );
    let exact = wanted("user_id", &[("a", ColumnType::Number)]);
    assert_eq!(pairs(&pull("u.parquet", folder.path(), &exact).expect("exactly")), [("k".to_owned(), Some(3.0))]);

    let schema =
        ParquetWarehouse::new("u.parquet", folder.path()).and_then(|warehouse| warehouse.schema()).expect("a schema");
    assert_eq!(schema.names().collect::<Vec<_>>(), ["USER_ID", "Ltv", "A", "a"]);
    assert_eq!(schema.column("user_id"), Some(FoundType::Known(ColumnType::String)));
    assert_eq!(schema.column("LTV"), Some(FoundType::Known(ColumnType::Number)));
    assert_eq!(schema.column("nope"), None);
    assert_eq!(schema.file(), "u.parquet");
}

#[test]
fn one_column_may_be_wanted_as_everything() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys: ArrayRef = Arc::new(Int64Array::from(vec![3, 4]));
    write(&folder.path().join("n.parquet"), &[("pad", Arc::clone(&keys)), ("id", keys)], zstd(), 100);
    let wanted = Wanted {
        foreign_key: Some("id".into()),
        ..wanted("id", &[("id", ColumnType::String), ("id", ColumnType::Number), ("pad", ColumnType::Integer)])
    };
    let rows = read(&pull("n.parquet", folder.path(), &wanted).expect("the file is read"))
        .expect("the rows are read")
        .remove(0);
    let texts = StringArray::from(vec!["3", "4"]);
    assert_eq!((&rows.keys, rows.foreign_keys.as_ref()), (&texts, Some(&texts)));
    assert_eq!(rows.columns[0].as_string::<i32>(), &texts);
    assert_eq!(rows.columns[1].as_primitive::<Float64Type>(), &Float64Array::from(vec![3.0, 4.0]));
    assert_eq!(rows.columns[2].as_primitive::<Int64Type>(), &Int64Array::from(vec![3, 4]));
}

#[test]
fn a_file_replaced_after_the_pull_is_an_error_not_a_mixture() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("u.parquet");
    write_users(&path, &[("a", 1.0)]);
    let pull = pull("u.parquet", folder.path(), &users()).expect("the first");
    write_users(&path, &[("a", 1.0), ("b", 2.0)]);
    let error = pull.read(0).err().expect("it is another file");
    assert_eq!(
        error.to_string(),
        "`u.parquet`: the file was replaced while it was read\n  hint: the next pull reads the new one"
    );
    assert_eq!(error.kind, SnapshotErrorKind::Replaced);
}

#[test]
fn a_file_written_over_while_a_piece_is_read_is_an_error_at_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("u.parquet");
    write_users(&path, &[("a", 1.0)]);
    let pull = pull("u.parquet", folder.path(), &users()).expect("the first");
    let mut piece = pull.read(0).expect("it is the same file");
    assert_eq!(piece.next().expect("a batch").expect("rows").keys.len(), 1);
    write_users(&path, &[("a", 1.0), ("b", 2.0)]);
    let error = piece.next().expect("an end is not enough").expect_err("it is another file");
    assert_eq!(error.kind, SnapshotErrorKind::Replaced);
    assert!(piece.next().is_none());
}

#[test]
fn pulls_are_shared_and_pieces_sent_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>() {}
    shared::<ParquetWarehouse>();
    shared::<ParquetSnapshot>();
    sent::<PieceReader>();
}

/// `cargo test --release -p usher-connectors a_million -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn a_million_rows_of_four_columns_in_ms() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut rng = fastrand::Rng::with_seed(1);
    let count = 1_000_000;
    let columns: [(&str, ArrayRef); 4] = [
        ("user_id", Arc::new(StringArray::from_iter_values((0..count).map(|n| format!("u-{n}"))))),
        ("ltv", Arc::new(Float64Array::from_iter_values((0..count).map(|_| f64::from(rng.u32(0..100_000)) / 100.0)))),
        ("age", Arc::new(Int64Array::from_iter_values((0..count).map(|_| rng.i64(18..90))))),
        ("plan", Arc::new(StringArray::from_iter_values((0..count).map(|_| ["free", "pro", "team"][rng.usize(0..3)])))),
    ];
    write(&folder.path().join("u.parquet"), &columns, zstd(), 100_000);
    let wanted =
        wanted("user_id", &[("ltv", ColumnType::Number), ("age", ColumnType::Integer), ("plan", ColumnType::String)]);
    for _ in 0..5 {
        let start = std::time::Instant::now();
        let pull = pull("u.parquet", folder.path(), &wanted).expect("the file is read");
        let rows: usize = (0..pull.pieces())
            .flat_map(|piece| pull.piece(piece).expect("a piece"))
            .map(|rows| rows.expect("rows").keys.len())
            .sum();
        println!("{rows} rows in {} ms, {} bytes", start.elapsed().as_millis(), pull.files()[0].size);
    }
}
