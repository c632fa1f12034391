//! Columns that are in a file's path: each folder `column=value`, as Hive writes them.
//!
//! Pure. Name and value are `%`-decoded; `__HIVE_DEFAULT_PARTITION__` is null. Of a name that comes twice the innermost folder
//! counts.

/// What Hive writes for null.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// Returns the columns of a file's path, by their order in it, each with its text; `None` for null.
pub(super) fn of_path(path: &str) -> Vec<(String, Option<String>)> {
    let mut columns: Vec<(String, Option<String>)> = Vec::new();
    // The last is the file's own name.
    for folder in path.split('/').rev().skip(1) {
        let Some((name, value)) = folder.split_once('=').filter(|(name, _)| !name.is_empty()) else { continue };
        let name = decoded(name);
        if columns.iter().all(|(other, _)| *other != name) {
            columns.push((name, (value != NULL).then(|| decoded(value))));
        }
    }
    columns.reverse();
    columns
}

/// Decodes `%XX`. What is no escape stays, and so does a text that would not be UTF-8.
pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| after.first_chunk::<2>()).flatten();
        let byte = escaped.and_then(|[h, l]| {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            u8::try_from(digit(*h)? * 16 + digit(*l)?).ok()
        });
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_column_and_value_are_columns() {
        let check = |path: &str, expected: &[(&str, Option<&str>)]| {
            let found = of_path(path);
            let found: Vec<_> = found.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
            assert_eq!(found, expected, "{path}");
        };
        check("users/country=DE/part-0.parquet", &[("country", Some("DE"))]);
        check("s3://b/w/year=2026/month=11/x.parquet", &[("year", Some("2026")), ("month", Some("11"))]);
        check("a=1/b/a=2/x.parquet", &[("a", Some("2"))]);
        check("dt=2026-11-01T10%3A00%3A00/x", &[("dt", Some("2026-11-01T10:00:00"))]);
        check("a%20b=c%2Fd%3D/x", &[("a b", Some("c/d="))]);
        check("city=Z%C3%BCrich/x", &[("city", Some("Zürich"))]);
        check(
            "a=%ff/b=100%/c=%2/d=%zz/x",
            &[("a", Some("%ff")), ("b", Some("100%")), ("c", Some("%2")), ("d", Some("%zz"))],
        );
        check("a=__HIVE_DEFAULT_PARTITION__/b=/x", &[("a", None), ("b", Some(""))]);
        check("k=v=w/x", &[("k", Some("v=w"))]);
        check("=v/plain/x=1.parquet", &[]);
        check("x.parquet", &[]);
    }
}
