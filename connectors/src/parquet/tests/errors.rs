//! Each failure with its exact words.

use arrow_array::StructArray;
use arrow_array::{BooleanArray, TimestampMillisecondArray};
use arrow_schema::Field;

use super::*;

/// What a pull of `written` says.
fn said(written: &str, folder: &Path, wanted: &Wanted) -> (SnapshotErrorKind, String) {
    let error = pull(written, folder, wanted).and_then(|pull| read(&pull)).expect_err("it fails");
    (error.kind, error.to_string().replace(folder.to_str().expect("utf-8"), "FOLDER"))
}

#[test]
fn a_missing_file_says_where_it_was_looked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = "`warehouse/users.parquet`: no such file or folder\n  hint: it was looked for at `FOLDER/warehouse/users.parquet`";
    assert_eq!(
        said("warehouse/users.parquet", folder.path(), &users()),
        (SnapshotErrorKind::Missing, expected.to_owned())
    );
}

#[test]
fn a_folder_without_parquet_says_what_it_skips() {
    let folder = tempfile::tempdir().expect("a folder");
    write_users(&folder.path().join("w/_old.parquet"), &[("a", 1.0)]);
    let expected = "`w/`: no `*.parquet` file below this folder\n  hint: names with a leading `_` or `.` are skipped";
    assert_eq!(said("w/", folder.path(), &users()), (SnapshotErrorKind::Missing, expected.to_owned()));
}

#[test]
fn an_unknown_url_names_the_known_ones_and_hides_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = "`hdfs://`: an unknown kind of url\n  hint: a path, a folder, a glob, or a url of `s3`, `gs`, `az`, `http` or `https`";
    assert_eq!(
        said("hdfs://me:secret@node/users", folder.path(), &users()),
        (SnapshotErrorKind::Location, expected.to_owned())
    );
    let expected = "`s3:///x`: the url names no bucket or host";
    assert_eq!(said("s3:///x", folder.path(), &users()), (SnapshotErrorKind::Location, expected.to_owned()));
    let expected = "``: the location is empty\n  hint: a path, a folder, a glob, or a url";
    assert_eq!(said("", folder.path(), &users()), (SnapshotErrorKind::Location, expected.to_owned()));
}

#[test]
fn what_is_no_parquet_is_called_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let hint = "\n  hint: the file is truncated, still being written, or in another format";
    let check = |name: &str, content: &[u8], expected: &str| {
        fs::write(folder.path().join(name), content).expect("the file is written");
        let expected = format!("`{name}`: the Parquet footer can't be read: {expected}{hint}");
        assert_eq!(said(name, folder.path(), &users()), (SnapshotErrorKind::NotParquet, expected));
    };
    check("empty.parquet", b"", "Parquet file too small. Size is 0 but need 8");
    check("text.parquet", b"user_id,ltv\na,1\n", "Invalid Parquet file. Corrupt footer");

    let whole = folder.path().join("whole.parquet");
    write_users(&whole, &[("a", 1.0), ("b", 2.0)]);
    let whole = fs::read(whole).expect("the file is read");
    check("half.parquet", &whole[..whole.len() / 2], "Invalid Parquet file. Corrupt footer");
}

#[test]
fn a_missing_column_says_which_was_meant() {
    let folder = tempfile::tempdir().expect("a folder");
    write_users(&folder.path().join("u.parquet"), &[("a", 1.0)]);
    let kind = SnapshotErrorKind::MissingColumn;
    let meant = wanted("user_id", &[("ltx", ColumnType::Number)]);
    let expected = "`u.parquet`: no column `ltx`\n  hint: did you mean `ltv`?";
    assert_eq!(said("u.parquet", folder.path(), &meant), (kind, expected.to_owned()));
    let key = wanted("account", &[]);
    let expected = "`u.parquet`: no column `account`\n  hint: the file has `user_id` and `ltv`";
    assert_eq!(said("u.parquet", folder.path(), &key), (kind, expected.to_owned()));
}

#[test]
fn a_key_missing_in_any_file_is_found_before_a_row_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    write_users(&folder.path().join("w/1.parquet"), &[("a", 1.0)]);
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["b"]));
    write(&folder.path().join("w/2.parquet"), &[("id", keys)], zstd(), 10);
    let error = pull("w", folder.path(), &users()).expect_err("the second lacks it");
    assert_eq!(error.to_string(), "`w/2.parquet`: no column `user_id`\n  hint: the file has `id`");
}

#[test]
fn an_ambiguous_column_lists_its_candidates() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["k"]));
    write(&folder.path().join("u.parquet"), &[("ID", Arc::clone(&keys)), ("Id", keys)], zstd(), 10);
    let expected = "`u.parquet`: the column `id` may be any of `ID`, `Id`\n  hint: write it exactly as in the file";
    assert_eq!(
        said("u.parquet", folder.path(), &wanted("id", &[])),
        (SnapshotErrorKind::MissingColumn, expected.to_owned())
    );
}

#[test]
fn a_changed_type_names_both() {
    let folder = tempfile::tempdir().expect("a folder");
    let text: ArrayRef = Arc::new(StringArray::from(vec!["many"]));
    let flag: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
    let at: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1]));
    let inner: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let nested: ArrayRef =
        Arc::new(StructArray::from(vec![(Arc::new(Field::new("x", arrow_schema::DataType::Int64, true)), inner)]));
    let columns = [("user_id", Arc::clone(&text)), ("ltv", text), ("flag", flag), ("at", at), ("nested", nested)];
    write(&folder.path().join("u.parquet"), &columns, zstd(), 10);

    let kind = SnapshotErrorKind::ChangedType;
    let expected = "`u.parquet`: the column `ltv` has the type `string`; wanted is `number`\n  hint: write the column as it was, or declare it as `string` in the job";
    assert_eq!(said("u.parquet", folder.path(), &users()), (kind, expected.to_owned()));
    let expected = "`u.parquet`: the column `flag` has the type `boolean`; wanted is `string` or `integer`\n  hint: keys are strings or integers";
    assert_eq!(said("u.parquet", folder.path(), &wanted("flag", &[])), (kind, expected.to_owned()));
    let expected = "`u.parquet`: the column `at` has the type `timestamp`; wanted is `date`\n  hint: write the column as it was, or declare it as `timestamp` in the job";
    assert_eq!(
        said("u.parquet", folder.path(), &wanted("user_id", &[("at", ColumnType::Date)])),
        (kind, expected.to_owned())
    );
    let (found, said) = said("u.parquet", folder.path(), &wanted("user_id", &[("nested", ColumnType::String)]));
    assert_eq!(found, kind);
    let expected =
        "`u.parquet`: the column `nested` has the type `struct`; wanted is `string`\n  hint: cast it in the export";
    assert_eq!(said, expected);

    // A type outside the job's hurts nobody who doesn't ask for it.
    assert_eq!(
        read(&pull("u.parquet", folder.path(), &wanted("user_id", &[])).expect("a pull")).expect("rows").len(),
        1
    );
}

#[test]
fn a_damaged_page_names_its_row_group() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("u.parquet");
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values((0..1_000).map(|n| format!("u-{n}"))));
    write(&path, &[("user_id", keys)], zstd(), 500);
    let mut bytes = fs::read(&path).expect("the file is read");
    // Behind the magic and the header of the first page.
    bytes[200..400].fill(0xff);
    fs::write(&path, bytes).expect("the file is written");
    let (kind, said) = said("u.parquet", folder.path(), &wanted("user_id", &[]));
    assert_eq!(kind, SnapshotErrorKind::Unreadable);
    assert!(said.starts_with("`u.parquet`: row group 0 can't be decoded: "), "{said}");
    assert!(said.ends_with("\n  hint: the file is damaged; write it again"), "{said}");
}

#[test]
fn access_denied_by_the_disk_says_who_needs_it() {
    let error = error::of_io("w/u.parquet", &std::io::ErrorKind::PermissionDenied.into());
    let expected = "`w/u.parquet`: access is denied\n  hint: the user that runs the job needs read access to the file and its folders";
    assert_eq!((error.kind, error.to_string()), (SnapshotErrorKind::Denied, expected.to_owned()));
}
