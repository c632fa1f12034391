//! Where each wanted column of a file is: in the file, in its path, or nowhere.
//!
//! Promises: a column that some files lack is null there; a column of the file wins over one of its path; a column whose type
//! is not declared has one type in all files. Refuses, for a whole pull and before a row is read: a file without the key or the
//! foreign key, a column that no file has, and a type that is another than the job's and can't become it.

use std::collections::BTreeMap;

use arrow_array::BooleanArray;
use arrow_array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMillisecondArray, new_null_array};
use std::sync::Arc;
use usher_core::time::{midnight, parse_date, parse_timestamp};
use usher_core::value::ColumnType;
use usher_core::warehouse::{SnapshotError, SnapshotErrorKind, Wanted};

use super::cast;
use super::schema::{FoundType, Schema, Source};

/// Where the values of a wanted column are.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In this column of a batch.
    Batch(usize),
    /// In the file's path: one value, the same for all rows.
    Path(ArrayRef),
    /// Nowhere: the column is null.
    Nowhere,
}

/// A wanted column of a file.
#[derive(Clone, Debug)]
pub(super) struct LaidOut {
    pub name: String,
    pub place: Place,
}

/// Which columns of a batch are what.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub key: LaidOut,
    pub foreign_key: Option<LaidOut>,
    pub columns: Vec<(LaidOut, ColumnType)>,
}

/// Lays out the files of one pull, one after the other.
pub(super) struct Layouts<'a> {
    wanted: &'a Wanted,
    /// Per wanted column that some file has: the first such file, and the column's type there.
    found: BTreeMap<&'a str, (String, FoundType)>,
    /// The first file.
    first: Option<Schema>,
    files: usize,
}

impl<'a> Layouts<'a> {
    pub(super) fn new(wanted: &'a Wanted) -> Layouts<'a> {
        Layouts { wanted, found: BTreeMap::new(), first: None, files: 0 }
    }

    /// Finds the wanted columns of a file: the positions in it of those that are read, ascending, and its layout.
    ///
    /// # Errors
    ///
    /// The file lacks the key or the foreign key, or has a wanted column in a type that can't become the wanted one.
    pub(super) fn file(&mut self, schema: Schema) -> Result<(Vec<usize>, Layout), SnapshotError> {
        let wanted = self.wanted;
        let key = self.key(&schema, &wanted.key)?;
        let foreign_key = wanted.foreign_key.as_ref().map(|name| self.key(&schema, name)).transpose()?;
        let columns = wanted.columns.iter();
        let columns =
            columns.map(|(name, to)| Ok((self.column(&schema, name, *to)?, *to))).collect::<Result<Vec<_>, _>>()?;
        self.files += 1;
        self.first.get_or_insert(schema);

        let all = || columns.iter().map(|(column, _)| column).chain(&foreign_key).chain([&key]);
        let mut roots: Vec<usize> = all().filter_map(|column| column.position()).collect();
        roots.sort_unstable();
        roots.dedup();
        // A batch holds the read columns only.
        let in_batch = |mut column: LaidOut| {
            if let Place::Batch(at) = &mut column.place {
                *at = roots.binary_search(at).expect("the columns of a layout are read");
            }
            column
        };
        let layout = Layout {
            key: in_batch(key),
            foreign_key: foreign_key.map(in_batch),
            columns: columns.into_iter().map(|(column, to)| (in_batch(column), to)).collect(),
        };
        Ok((roots, layout))
    }

    /// Checks that each wanted column is in some file.
    ///
    /// # Errors
    ///
    /// One is in none.
    pub(super) fn end(self) -> Result<(), SnapshotError> {
        let Some(first) = &self.first else { return Ok(()) };
        match self.wanted.columns.iter().find(|(name, _)| !self.found.contains_key(&name[..])) {
            None => Ok(()),
            Some((name, _)) => {
                let error = first.missing(name);
                let what = match self.files {
                    1 => error.what,
                    files => format!("{} here, nor in any other of the {files} files", error.what),
                };
                Err(SnapshotError { what, ..error })
            }
        }
    }

    fn key(&mut self, schema: &Schema, name: &'a str) -> Result<LaidOut, SnapshotError> {
        let Some(at) = schema.position(name)? else { return Err(schema.missing(name)) };
        let column = &schema.columns[at];
        if !cast::can_be_key(&column.found) {
            return Err(self.changed(schema, at, name, "string` or `integer").hint(match column.found {
                FoundType::Unsupported(_) => "keys are strings or integers; cast it in the export",
                _ => "keys are strings or integers",
            }));
        }
        self.note(schema, at, name)?;
        let place = match &column.source {
            Source::File(at) => Place::Batch(*at),
            Source::Path(value) => Place::Path(Arc::new(StringArray::from(vec![value.clone()]))),
            Source::Absent => return Err(schema.missing(name)),
        };
        Ok(LaidOut { name: name.to_owned(), place })
    }

    fn column(&mut self, schema: &Schema, name: &'a str, to: ColumnType) -> Result<LaidOut, SnapshotError> {
        let laid_out = |place| Ok(LaidOut { name: name.to_owned(), place });
        let Some(at) = schema.position(name)? else { return laid_out(Place::Nowhere) };
        let column = &schema.columns[at];
        // A path has texts only: what is declared is read from them.
        if let Source::Path(value) = &column.source
            && !self.wanted.undeclared.contains(name)
        {
            self.found.entry(name).or_insert_with(|| (schema.file().to_owned(), FoundType::Known(to)));
            return laid_out(Place::Path(self.of_path(schema, name, value.as_deref(), to)?));
        }
        if !cast::can_become(&column.found, to) {
            let error = self.changed(schema, at, name, to.name());
            return Err(match &column.found {
                FoundType::Unsupported(_) => error.hint("cast it in the export"),
                _ if self.found.contains_key(name) => {
                    error.hint("write it in one type, or declare the column in the job")
                }
                found => error.hint(format!("write the column as it was, or declare it as `{found}` in the job")),
            });
        }
        self.note(schema, at, name)?;
        laid_out(match &column.source {
            Source::File(at) => Place::Batch(*at),
            Source::Path(value) => Place::Path(self.of_path(schema, name, value.as_deref(), to)?),
            Source::Absent => Place::Nowhere,
        })
    }

    /// Notes the type of a column of a file.
    ///
    /// # Errors
    ///
    /// It is not declared, and another file has it in another type.
    fn note(&mut self, schema: &Schema, at: usize, name: &'a str) -> Result<(), SnapshotError> {
        let found = &schema.columns[at].found;
        match self.found.get_mut(name) {
            None => {
                self.found.insert(name, (schema.file().to_owned(), found.clone()));
            }
            Some(first) if first.1 == FoundType::Null => *first = (schema.file().to_owned(), found.clone()),
            Some((_, first)) if first == found || *found == FoundType::Null => {}
            Some(_) if !self.wanted.undeclared.contains(name) => {}
            Some((file, first)) => {
                let what = format!("the column `{name}` has the type `{found}`; it is `{first}` in `{file}`");
                return Err(SnapshotError::new(SnapshotErrorKind::ChangedType, schema.file(), what)
                    .hint("write it in one type, or declare the column in the job"));
            }
        }
        Ok(())
    }

    fn changed(&self, schema: &Schema, at: usize, name: &str, wanted: &str) -> SnapshotError {
        let found = &schema.columns[at].found;
        let what = match self.found.get(name) {
            Some((file, first)) => format!("the column `{name}` has the type `{found}`; it is `{first}` in `{file}`"),
            None => format!("the column `{name}` has the type `{found}`; wanted is `{wanted}`"),
        };
        SnapshotError::new(SnapshotErrorKind::ChangedType, schema.file(), what)
    }

    /// Reads the value that a path has for a column.
    fn of_path(
        &self,
        schema: &Schema,
        name: &str,
        value: Option<&str>,
        to: ColumnType,
    ) -> Result<ArrayRef, SnapshotError> {
        let Some(text) = value else { return Ok(new_null_array(&cast::canonical_type(to), 1)) };
        let time = |ms: i64| Arc::new(TimestampMillisecondArray::from(vec![ms])) as ArrayRef;
        let read: Option<ArrayRef> = match to {
            ColumnType::String => Some(Arc::new(StringArray::from(vec![text]))),
            ColumnType::Integer => text.parse().ok().map(|n: i64| Arc::new(Int64Array::from(vec![n])) as ArrayRef),
            ColumnType::Number => {
                let number = text.parse().ok().filter(|x: &f64| x.is_finite());
                number.map(|x| Arc::new(Float64Array::from(vec![x])) as ArrayRef)
            }
            ColumnType::Boolean => text.parse().ok().map(|b: bool| Arc::new(BooleanArray::from(vec![b])) as ArrayRef),
            ColumnType::Timestamp => parse_timestamp(text).or_else(|| parse_date(text)).map(time),
            ColumnType::Date => parse_date(text).or_else(|| parse_timestamp(text).map(midnight)).map(time),
            ColumnType::ListString | ColumnType::ListInteger | ColumnType::ListNumber => None,
        };
        read.ok_or_else(|| {
            let what = format!("the column `{name}` has the value `{text}` in the path; wanted is `{to}`");
            SnapshotError::new(SnapshotErrorKind::ChangedType, schema.file(), what)
                .hint("rename the folder, or declare the column as `string`")
        })
    }
}

impl LaidOut {
    /// The position in the file, if the column is read from it.
    fn position(&self) -> Option<usize> {
        match self.place {
            Place::Batch(at) => Some(at),
            Place::Path(_) | Place::Nowhere => None,
        }
    }
}
