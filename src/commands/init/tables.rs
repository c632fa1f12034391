//! Tables of Parquet: their columns, and which of these are keys.

use crate::exit::Exit;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use usher_config::ColumnType;
use usher_connectors::parquet::{FoundType, ParquetWarehouse};
use usher_core::warehouse::{SnapshotError, Wanted, Warehouse};

/// Rows that are read of a column.
const ROWS: usize = 10_000;

/// A table of the warehouse.
pub struct Table {
    /// Its id in the job.
    pub id: String,
    /// Its path or url, as it was given.
    pub path: String,
    /// The columns with a type, in the file's order.
    pub columns: Vec<(String, ColumnType)>,
    /// The texts in columns of strings and integers.
    values: BTreeMap<String, Texts>,
}

/// The texts of a column.
struct Texts {
    distinct: BTreeSet<String>,
    /// No text stands twice, and no row has none.
    is_unique: bool,
}

/// Returns whether this is Parquet: a file that begins as such, a folder or glob with such a file, or a url of an object store.
pub fn is_table(text: &str) -> bool {
    const SCHEMES: [&str; 6] = ["s3://", "gs://", "az://", "http://", "https://", "file://"];
    SCHEMES.iter().any(|scheme| text.starts_with(scheme)) || begins_as_parquet(Path::new(text)) || has_parquet(text)
}

fn begins_as_parquet(path: &Path) -> bool {
    let mut start = [0; 4];
    let read = std::fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut start));
    read.is_ok() && start == *b"PAR1"
}

/// Returns whether a folder, or what matches a glob, has Parquet.
fn has_parquet(text: &str) -> bool {
    let pattern = if Path::new(text).is_dir() {
        format!("{}/**/*.parquet", glob::Pattern::escape(text.trim_end_matches('/')))
    } else {
        text.to_owned()
    };
    glob::glob(&pattern).is_ok_and(|mut paths| paths.any(|path| path.is_ok_and(|path| begins_as_parquet(&path))))
}

impl Table {
    /// Reads the columns of a table, and the values that may be keys.
    pub fn read(path: &str) -> Result<Table, Exit> {
        let failed = |error: SnapshotError| {
            Exit::not_opened(format_args!("the table {} can't be read", error.message())).hint(error.hint)
        };
        let warehouse = ParquetWarehouse::new(path, Path::new(".")).map_err(failed)?;
        let schema = warehouse.whole_schema().map_err(failed)?;
        let typed = schema.names().filter_map(|name| match schema.column(name) {
            Some(FoundType::Known(column_type)) => Some((name.to_owned(), column_type)),
            _ => None,
        });
        let columns: Vec<(String, ColumnType)> = typed.collect();
        let mut values = BTreeMap::new();
        for (name, _) in columns.iter().filter(|(_, of)| matches!(of, ColumnType::String | ColumnType::Integer)) {
            values.insert(name.clone(), texts(&warehouse, name).map_err(failed)?);
        }
        let stem = Path::new(path.trim_end_matches('/')).file_stem();
        let stem = stem.map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Table { id: super::text::id(&stem, "rows"), path: path.to_owned(), columns, values })
    }

    /// Returns the column that is probably the key: of those without repeats, the one with most of `keys`, else the one that is
    /// named as a key is, else the first.
    pub fn key(&self, keys: &BTreeSet<String>) -> &str {
        let singular = self.id.trim_end_matches('s');
        let is_named = |name: &str| {
            let name = name.to_lowercase();
            name == "id" || name == format!("{singular}_id") || name == "key"
        };
        let rank = |name: &str| {
            let texts = self.values.get(name);
            let common = texts.map_or(0, |texts| texts.distinct.intersection(keys).count());
            let unique = texts.is_some_and(|texts| texts.is_unique);
            (unique, common, is_named(name), name.to_lowercase().ends_with("id"))
        };
        let names = self.columns.iter().map(|(name, _)| name.as_str());
        // The first of equals: `max_by_key` returns the last.
        names.rev().max_by_key(|name| rank(name)).unwrap_or("id")
    }

    /// Returns whether a column has a text of its own in each row that was read.
    pub fn has_key(&self) -> bool {
        self.values.values().any(|texts| texts.is_unique)
    }

    /// Returns the files of a folder that are no Parquet, which the table has nothing of, in order; those that a folder of events would have.
    pub fn others(&self) -> Vec<PathBuf> {
        let folder = self.path.trim_end_matches('/');
        if !Path::new(folder).is_dir() {
            return Vec::new();
        }
        let is_hidden = |path: &Path| {
            let below = path.strip_prefix(folder).unwrap_or(path);
            below.iter().any(|name| matches!(name.as_encoded_bytes().first(), Some(b'_' | b'.')))
        };
        let files = glob::glob(&format!("{}/**/*", glob::Pattern::escape(folder))).into_iter().flatten().flatten();
        files.filter(|path| path.is_file() && !is_hidden(path) && !begins_as_parquet(path)).collect()
    }

    /// Returns the texts of a column.
    pub fn texts(&self, column: &str) -> Option<&BTreeSet<String>> {
        self.values.get(column).map(|texts| &texts.distinct)
    }

    /// Returns how many of these keys a column has.
    pub fn common(&self, column: &str, keys: &BTreeSet<String>) -> usize {
        self.texts(column).map_or(0, |texts| texts.intersection(keys).count())
    }

    /// Returns the column besides `key` that has most of the keys of another table; `None` if none has any.
    pub fn foreign_key(&self, key: &str, keys: &BTreeSet<String>) -> Option<&str> {
        let columns = self.columns.iter().map(|(name, _)| name.as_str()).filter(|name| *name != key);
        let common = columns.map(|name| (self.common(name, keys), name)).filter(|(common, _)| *common > 0);
        common.max_by_key(|(common, _)| *common).map(|(_, name)| name)
    }
}

fn texts(warehouse: &ParquetWarehouse, column: &str) -> Result<Texts, SnapshotError> {
    let wanted = Wanted { key: column.to_owned(), foreign_key: None, columns: Vec::new(), undeclared: BTreeSet::new() };
    let snapshot = warehouse.open(&wanted)?;
    let mut texts = Texts { distinct: BTreeSet::new(), is_unique: true };
    let mut rows = 0;
    for piece in 0..snapshot.pieces() {
        for batch in snapshot.read(piece)? {
            let batch = batch?;
            // Rows without a key are skipped.
            texts.is_unique &= batch.skipped == 0;
            for text in batch.keys.iter().flatten() {
                texts.is_unique &= texts.distinct.insert(text.to_owned());
                rows += 1;
                if rows == ROWS {
                    return Ok(texts);
                }
            }
        }
    }
    Ok(texts)
}
