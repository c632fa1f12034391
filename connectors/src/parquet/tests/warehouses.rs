//! What people's warehouses look like: partitioned folders, columns that come and go, tables of other formats, writers' faults.

use arrow_array::types::TimestampMillisecondType;
use arrow_array::{BooleanArray, Int32Array, NullArray};

use super::*;

/// What a pull of `written` says.
fn said(written: &str, folder: &Path, wanted: &Wanted) -> String {
    let error = pull(written, folder, wanted).and_then(|pull| read(&pull)).expect_err("it fails");
    error.to_string().replace(folder.canonicalize().expect("a folder").to_str().expect("UTF-8"), "FOLDER")
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// Rows as text: the key, then the columns.
fn lines(pull: &ParquetSnapshot) -> Vec<String> {
    let mut lines = Vec::new();
    for rows in read(pull).expect("the pull is readable") {
        for row in 0..rows.keys.len() {
            let mut line = rows.keys.value(row).to_owned();
            for column in &rows.columns {
                let text = arrow_cast::cast(column, &arrow_schema::DataType::Utf8).expect("it has a text");
                let text = text.as_string::<i32>();
                line += if text.is_null(row) { " null" } else { " " };
                line += if text.is_null(row) { "" } else { text.value(row) };
            }
            lines.push(line);
        }
    }
    lines
}

/// The same with the types that the files have.
fn undeclared(wanted: Wanted) -> Wanted {
    let undeclared: BTreeSet<String> =
        wanted.columns.iter().map(|(name, _)| name.clone()).chain([wanted.key.clone()]).collect();
    Wanted { undeclared, ..wanted }
}

#[test]
fn folders_of_column_and_value_are_columns_of_their_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |path: &str, key: &str| {
        write(&folder.path().join("w").join(path), &[("user_id", texts(&[key]))], zstd(), 10);
    };
    file("country=DE/year=2026/a.parquet", "a");
    file("country=__HIVE_DEFAULT_PARTITION__/year=2025/b.parquet", "b");
    file("country=C%C3%B4te%20d%27Ivoire/c.parquet", "c");
    let columns = [("country", ColumnType::String), ("year", ColumnType::Integer)];
    let pulled = pull("w/", folder.path(), &wanted("user_id", &columns)).expect("a pull");
    assert_eq!(lines(&pulled), ["c Côte d'Ivoire null", "a DE 2026", "b null 2025"]);
    // The folder that a location names counts as one that is found; any name matches without case.
    let pulled = pull("w/country=DE", folder.path(), &wanted("user_id", &[("Country", ColumnType::String)]));
    assert_eq!(lines(&pulled.expect("a pull")), ["a DE"]);
    // A key may be one.
    let pulled = pull("w/*/year=2026", folder.path(), &undeclared(wanted("year", &[]))).expect("a pull");
    assert_eq!(lines(&pulled), ["2026"]);

    let schema = |written: &str| ParquetWarehouse::new(written, folder.path()).expect("a path");
    let first = schema("w/").schema().expect("a schema");
    assert_eq!(first.names().collect::<Vec<_>>(), ["user_id", "country"]);
    let whole = schema("w/").whole_schema().expect("a schema");
    assert_eq!(whole.names().collect::<Vec<_>>(), ["user_id", "country", "year"]);
    assert_eq!(whole.column("year"), Some(FoundType::Known(ColumnType::String)));
}

#[test]
fn a_value_of_a_path_is_of_the_declared_type_or_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("w/v=9999-12-31/a.parquet"), &[("user_id", texts(&["a"]))], zstd(), 10);
    let read_as = |to| pull("w", folder.path(), &wanted("user_id", &[("v", to)]));
    let pulled = read_as(ColumnType::Date).expect("a date");
    let rows = read(&pulled).expect("rows").remove(0);
    assert_eq!(rows.columns[0].as_primitive::<TimestampMillisecondType>().value(0), 253_402_214_400_000);
    let expected = "`w/v=9999-12-31/a.parquet`: the column `v` has the value `9999-12-31` in the path; wanted is `integer`\n  \
                    hint: rename the folder, or declare the column as `string`";
    assert_eq!(read_as(ColumnType::Integer).expect_err("it is none").to_string(), expected);
}

#[test]
fn a_column_of_the_file_wins_over_one_of_its_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let columns = [("user_id", texts(&["a"])), ("Plan", texts(&["file"]))];
    write(&folder.path().join("w/plan=path/a.parquet"), &columns, zstd(), 10);
    let wanted = wanted("user_id", &[("plan", ColumnType::String)]);
    assert_eq!(lines(&pull("w", folder.path(), &wanted).expect("a pull")), ["a file"]);
}

#[test]
fn a_column_that_some_files_lack_is_null_there_but_no_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![7]));
    write(&folder.path().join("w/1.parquet"), &[("user_id", texts(&["a"]))], zstd(), 10);
    write(&folder.path().join("w/2.parquet"), &[("user_id", texts(&["b"])), ("n", numbers)], zstd(), 10);
    let columns = undeclared(wanted("user_id", &[("n", ColumnType::Integer)]));
    assert_eq!(lines(&pull("w", folder.path(), &columns).expect("a pull")), ["a null", "b 7"]);
    let nowhere = wanted("user_id", &[("m", ColumnType::Integer)]);
    let expected = "`w/1.parquet`: no column `m` here, nor in any other of the 2 files\n  hint: the file has `user_id`";
    assert_eq!(said("w", folder.path(), &nowhere), expected);
    let expected = "`w/1.parquet`: no column `n`\n  hint: the file has `user_id`";
    assert_eq!(said("w", folder.path(), &wanted("n", &[])), expected);
    let foreign = Wanted { foreign_key: Some("n".into()), ..wanted("user_id", &[]) };
    assert_eq!(said("w", folder.path(), &foreign), expected);
}

#[test]
fn a_type_that_differs_between_files_names_both() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, column: ArrayRef| {
        write(&folder.path().join("w").join(name), &[("user_id", texts(&[name])), ("x", column)], zstd(), 10);
    };
    file("1.parquet", Arc::new(NullArray::new(1)));
    file("2.parquet", Arc::new(Int32Array::from(vec![1])));
    file("3.parquet", Arc::new(Int64Array::from(vec![2])));
    let integers = undeclared(wanted("user_id", &[("x", ColumnType::Integer)]));
    let expected = ["1.parquet null", "2.parquet 1", "3.parquet 2"];
    assert_eq!(lines(&pull("w", folder.path(), &integers).expect("they are all integers")), expected);

    file("4.parquet", Arc::new(StringArray::from(vec!["3"])));
    let hint = "\n  hint: write it in one type, or declare the column in the job";
    let differs = "`w/4.parquet`: the column `x` has the type `string`; it is `integer` in `w/2.parquet`";
    assert_eq!(said("w", folder.path(), &integers), format!("{differs}{hint}"));
    // In any order: text takes integers only where the job says so.
    let as_text = undeclared(wanted("user_id", &[("x", ColumnType::String)]));
    assert_eq!(said("w", folder.path(), &as_text), format!("{differs}{hint}"));
    let declared = wanted("user_id", &[("x", ColumnType::String)]);
    let expected = ["1.parquet null", "2.parquet 1", "3.parquet 2", "4.parquet 3"];
    assert_eq!(lines(&pull("w", folder.path(), &declared).expect("all have a text")), expected);

    write(&folder.path().join("k/1.parquet"), &[("id", texts(&["a"]))], zstd(), 10);
    write(&folder.path().join("k/2.parquet"), &[("id", Arc::new(Int64Array::from(vec![1])))], zstd(), 10);
    let expected =
        format!("`k/2.parquet`: the column `id` has the type `integer`; it is `string` in `k/1.parquet`{hint}");
    assert_eq!(said("k", folder.path(), &undeclared(wanted("id", &[]))), expected);
}

/// Makes a folder with a plain file and what a table of a format has.
fn table(markers: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    write_users(&folder.path().join("w/users/data/p=1/a.parquet"), &[("a", 1.0)]);
    write_users(&folder.path().join("w/plain/a.parquet"), &[("b", 1.0)]);
    for marker in markers {
        let marker = folder.path().join("w/users").join(marker);
        fs::create_dir_all(marker.parent().expect("it has a folder")).expect("the folder is made");
        fs::write(marker, "{}").expect("the marker is written");
    }
    folder
}

#[test]
fn the_folder_of_a_table_format_is_refused_by_its_name_wherever_the_location_starts() {
    for (markers, name) in [
        (&["_delta_log/00000000000000000000.json"][..], "a Delta table, with `_delta_log`"),
        (&[".hoodie/hoodie.properties"], "a Hudi table, with `.hoodie`"),
        (&["metadata/v1.metadata.json"], "an Iceberg table, with `metadata/*.metadata.json`"),
    ] {
        let folder = table(markers);
        for written in [
            "w",
            "w/",
            "w/users",
            "w/users/data/",
            "w/users/data/p=1",
            "w/users/data/p=1/a.parquet",
            "w/users/data/*/*.parquet",
            "w/*/data/**/*.parquet",
        ] {
            let text = said(written, folder.path(), &users());
            assert!(text.contains(&format!("this is {name}")), "{written}: {text}");
            assert!(text.contains("/users`") && text.contains("`force_files: true`"), "{written}: {text}");
            let forced = ParquetWarehouse::new(written, folder.path()).expect("a path").force_files(true);
            assert!(!pairs(&forced.pull(&users()).expect("it is forced")).is_empty(), "{written}");
        }
        assert_eq!(pairs(&pull("w/plain", folder.path(), &users()).expect("plain files")).len(), 1);
        assert_eq!(pairs(&pull("w/p*/", folder.path(), &users()).expect("plain files")).len(), 1);
    }
    let folder = table(&["_delta_log/0.json"]);
    let text = said("w/users/data/p=1/", folder.path(), &users());
    assert!(text.starts_with("`FOLDER/w/users`: this is a Delta table"), "{text}");
    assert!(text.contains("read it with `delta:` in place of `parquet:`"), "{text}");
}

#[test]
fn a_folder_without_a_value_is_no_column_and_the_message_says_how_one_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |path: &str, key: &str| write(&folder.path().join(path), &[("user_id", texts(&[key]))], zstd(), 10);
    file("w/country/DE/a.parquet", "a");
    let columns = [("country", ColumnType::String)];
    assert_eq!(
        said("w", folder.path(), &wanted("user_id", &columns)),
        "`w/country/DE/a.parquet`: no column `country`\n  hint: the folder `country` is no column: one is named with its \
         value, as in `country=DE`"
    );
    assert!(said("w", folder.path(), &wanted("Country", &[])).ends_with("as in `Country=DE`"));
    // A column whose name is near is the better hint.
    let county = folder.path().join("u/country/DE/a.parquet");
    write(&county, &[("user_id", texts(&["a"])), ("county", texts(&["Kent"]))], zstd(), 10);
    assert!(said("u", folder.path(), &wanted("user_id", &columns)).ends_with("hint: did you mean `county`?"));
    // Of folders of both kinds those with a value are columns, which are null elsewhere.
    file("v/country=DE/a.parquet", "a");
    file("v/FR/b.parquet", "b");
    let pulled = pull("v", folder.path(), &wanted("user_id", &columns)).expect("a pull");
    assert_eq!(lines(&pulled), ["b null", "a DE"]);
}

#[test]
fn what_only_looks_like_a_table_is_plain_files() {
    // No metadata beside the data, a file instead of a folder, more than three folders above.
    for markers in [&["metadata/readme.txt"][..], &["_delta_log"], &[".hoodie"]] {
        let folder = table(markers);
        assert_eq!(pairs(&pull("w/users", folder.path(), &users()).expect("plain files")).len(), 1, "{markers:?}");
    }
    let folder = table(&["_delta_log/0.json"]);
    write_users(&folder.path().join("w/users/1/2/3/4/a.parquet"), &[("c", 1.0)]);
    assert_eq!(pairs(&pull("w/users/1/2/3/4/", folder.path(), &users()).expect("four above")).len(), 1);
    assert!(said("w/users/1/2/3/", folder.path(), &users()).contains("Delta"));
}

/// The bytes of a file, for tests that damage it: uncompressed, without Arrow's own schema.
fn plain_bytes(folder: &Path, rows: i64) -> Vec<u8> {
    let path = folder.join("plain.parquet");
    let batch = RecordBatch::try_from_iter([("user_id", Arc::new(Int64Array::from_iter_values(0..rows)) as ArrayRef)]);
    let batch = batch.expect("one column");
    let options = parquet::arrow::arrow_writer::ArrowWriterOptions::new().with_skip_arrow_metadata(true);
    let file = File::create(&path).expect("the file is made");
    let mut writer = ArrowWriter::try_new_with_options(file, batch.schema(), options).expect("the schema is writable");
    writer.write(&batch).expect("the batch is written");
    writer.close().expect("the footer is written");
    fs::read(path).expect("the file is read")
}

/// Replaces the number of rows that the footer has for the whole file, which is below 64 as the new one is.
fn with_rows(mut bytes: Vec<u8>, rows: u8, instead: u8) -> Vec<u8> {
    let length = u32::from_le_bytes(bytes[bytes.len() - 8..][..4].try_into().expect("four bytes")) as usize;
    let footer = bytes.len() - 8 - length;
    // The third field, an i64, and then the list of row groups.
    let field = [0x16, rows * 2, 0x19];
    let at = bytes[footer..].windows(3).position(|window| window == field).expect("the footer has the field");
    bytes[footer + at + 1] = instead * 2;
    bytes
}

#[test]
fn a_footer_without_a_count_is_that_of_its_row_groups_and_a_wrong_one_fails_the_pull() {
    let folder = tempfile::tempdir().expect("a folder");
    let bytes = plain_bytes(folder.path(), 6);
    fs::write(folder.path().join("u.parquet"), with_rows(bytes.clone(), 6, 0)).expect("the file is written");
    let pulled = pull("u.parquet", folder.path(), &wanted("user_id", &[])).expect("an old writer's file");
    assert_eq!((pulled.rows(), lines(&pulled).len()), (6, 6));
    for instead in [5, 7] {
        fs::write(folder.path().join("u.parquet"), with_rows(bytes.clone(), 6, instead)).expect("the file is written");
        let expected = format!(
            "`u.parquet`: the footer says that the file has {instead} rows, and that its row groups have 6\n  \
             hint: the file is damaged; write it again"
        );
        assert_eq!(said("u.parquet", folder.path(), &wanted("user_id", &[])), expected);
    }
}

#[test]
fn a_row_group_without_rows_is_read() {
    use parquet::data_type::Int64Type as Long;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    let folder = tempfile::tempdir().expect("a folder");
    let schema = parse_message_type("message m { required int64 id; }").expect("a schema");
    let file = File::create(folder.path().join("e.parquet")).expect("a file");
    let mut writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::default()).expect("a writer");
    for ids in [&[1, 2][..], &[], &[3]] {
        let mut group = writer.next_row_group().expect("a row group");
        let mut column = group.next_column().expect("a column").expect("the ids");
        column.typed::<Long>().write_batch(ids, None, None).expect("ids");
        column.close().expect("the ids");
        group.close().expect("the row group");
    }
    writer.close().expect("the footer");
    let pulled = pull("e.parquet", folder.path(), &wanted("id", &[])).expect("a pull");
    assert_eq!((pulled.pieces(), lines(&pulled)), (3, vec!["1".to_owned(), "2".to_owned(), "3".to_owned()]));
}

/// Writes one of the files that other writers made; see `fixtures/make.py`.
fn fixture(folder: &Path, name: &str, bytes: &[u8]) {
    fs::write(folder.join(name), bytes).expect("the file is written");
}

#[test]
fn a_page_with_a_wrong_checksum_is_damaged() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = include_bytes!("fixtures/checksums.parquet");
    fixture(folder.path(), "u.parquet", whole);
    let numbers = wanted("user_id", &[("n", ColumnType::Integer)]);
    let pulled = pull("u.parquet", folder.path(), &numbers).expect("a pull");
    assert_eq!(lines(&pulled), ["a 1000001", "b 1000002", "c 1000003"]);
    let value = 1_000_002i64.to_le_bytes();
    let at = whole.windows(8).position(|window| window == value).expect("it is not compressed");
    let mut bytes = whole.to_vec();
    bytes[at] ^= 1;
    fixture(folder.path(), "u.parquet", &bytes);
    let expected = "`u.parquet`: row group 0 can't be decoded: Page CRC checksum mismatch\n  \
                    hint: the file is damaged; write it again";
    assert_eq!(said("u.parquet", folder.path(), &numbers), expected);
}

#[test]
fn a_codec_that_is_not_supported_is_named_and_the_file_is_not_called_damaged() {
    let folder = tempfile::tempdir().expect("a folder");
    let brotli = include_bytes!("fixtures/brotli.parquet");
    let hint = "compress it with zstd, snappy, gzip or lz4";
    fixture(folder.path(), "u.parquet", brotli);
    let expected =
        format!("`u.parquet`: the column `user_id` is compressed with brotli, which is not supported\n  hint: {hint}");
    assert_eq!(said("u.parquet", folder.path(), &wanted("user_id", &[])), expected);
    // The codec of a column is the fourth field of its metadata, after its path.
    let mut lzo = brotli.to_vec();
    let field = *b"\x18\x07user_id\x15\x08";
    let at = lzo.windows(field.len()).position(|window| window == field).expect("the footer has the field");
    lzo[at + field.len() - 1] = 6;
    fixture(folder.path(), "u.parquet", &lzo);
    let expected =
        format!("`u.parquet`: the column `user_id` is compressed with LZO, which is not supported\n  hint: {hint}");
    assert_eq!(said("u.parquet", folder.path(), &wanted("user_id", &[])), expected);
}

#[test]
fn encryption_is_named_and_what_is_not_encrypted_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let hint = "\n  hint: write it without Parquet's encryption";
    fixture(folder.path(), "footer.parquet", include_bytes!("fixtures/encrypted_footer.parquet"));
    let expected = format!("`footer.parquet`: the file is encrypted, which is not supported{hint}");
    assert_eq!(said("footer.parquet", folder.path(), &wanted("user_id", &[])), expected);
    fixture(folder.path(), "column.parquet", include_bytes!("fixtures/encrypted_column.parquet"));
    let expected = format!("`column.parquet`: the column `plan` is encrypted, which is not supported{hint}");
    assert_eq!(said("column.parquet", folder.path(), &wanted("user_id", &[("plan", ColumnType::String)])), expected);
    let open = pull("column.parquet", folder.path(), &wanted("user_id", &[])).expect("the key is not encrypted");
    assert_eq!(lines(&open), ["a", "b"]);
}

#[test]
fn a_flag_of_a_path_is_read_like_one_of_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![false]));
    write(&folder.path().join("w/1.parquet"), &[("user_id", texts(&["a"])), ("vip", flags)], zstd(), 10);
    write(&folder.path().join("w/vip=true/2.parquet"), &[("user_id", texts(&["b"]))], zstd(), 10);
    let declared = wanted("user_id", &[("vip", ColumnType::Boolean)]);
    assert_eq!(lines(&pull("w", folder.path(), &declared).expect("a pull")), ["a false", "b true"]);
    let text = said("w", folder.path(), &undeclared(declared));
    assert!(text.contains("`vip` has the type `string`; it is `boolean` in `w/1.parquet`"), "{text}");
}
