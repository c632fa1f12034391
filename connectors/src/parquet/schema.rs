//! The columns of a file and their types, in the job's words.

use std::fmt;

use arrow_schema::DataType;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::basic::{ConvertedType, LogicalType};
use parquet::schema::types::Type;
use usher_config::ColumnType;

use super::delta::TableFile;
use super::delta::columns::TableColumns;
use super::partitions;
use usher_core::suggest::some_of;
use usher_core::warehouse::{SnapshotError, SnapshotErrorKind};

/// The columns of a model's files, by the footers of one or of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    file: String,
    /// Whether its columns are those of a table, not of paths.
    is_table: bool,
    pub(super) columns: Vec<Column>,
}

/// A column of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub name: String,
    pub found: FoundType,
    pub source: Source,
}

/// Where a column is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// In the file, at this position.
    File(usize),
    /// In its path or in the log of its table, with this text; `None` for null.
    Path(Option<String>),
    /// Nowhere: the file was written before its table had the column, which is null.
    Absent,
}

/// The type of a column as found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundType {
    /// One of the job's types.
    Known(ColumnType),
    /// None: no row has a value. It is read as any type.
    Null,
    /// Another, by its name. An error only where the column is used.
    Unsupported(String),
}

impl fmt::Display for FoundType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FoundType::Known(known) => known.fmt(f),
            FoundType::Null => f.write_str("null"),
            FoundType::Unsupported(name) => f.write_str(name),
        }
    }
}

impl Schema {
    /// Returns the columns of a file and of its path; one of the file wins.
    pub(super) fn of_file(path: &str, metadata: &ArrowReaderMetadata) -> Schema {
        let roots = metadata.parquet_schema().root_schema().get_fields();
        let fields = metadata.schema().fields().iter().zip(roots).enumerate();
        let mut columns: Vec<Column> = fields
            .map(|(at, (field, root))| Column {
                name: field.name().clone(),
                found: found_type(field.data_type(), root),
                source: Source::File(at),
            })
            .collect();
        for (name, value) in partitions::of_path(path) {
            if columns.iter().all(|column| column.name != name) {
                let found = FoundType::Known(ColumnType::String);
                columns.push(Column { name, found, source: Source::Path(value) });
            }
        }
        Schema { file: path.to_owned(), is_table: false, columns }
    }

    /// Returns the columns of a table at a location.
    pub(super) fn of_table(location: &str, columns: &TableColumns) -> Schema {
        Schema { file: location.to_owned(), is_table: true, columns: columns.of_table() }
    }

    /// Returns the columns of a file of a table.
    pub(super) fn of_table_file(path: &str, metadata: &ArrowReaderMetadata, file: &TableFile) -> Schema {
        let columns = file.columns.of_file(metadata, &file.partition);
        Schema { file: path.to_owned(), is_table: true, columns }
    }

    /// Adds the columns of another file that this one lacks, and the types of those that have no value here.
    pub(super) fn join(&mut self, other: Schema) {
        for column in other.columns {
            match self.columns.iter_mut().find(|own| own.name == column.name) {
                None => self.columns.push(column),
                Some(own) if own.found == FoundType::Null => own.found = column.found,
                Some(_) => {}
            }
        }
    }

    /// The type of the column `name`: by its exact name, else without case where that is unique.
    pub fn column(&self, name: &str) -> Option<FoundType> {
        let at = self.position(name).ok().flatten()?;
        Some(self.columns[at].found.clone())
    }

    /// Returns whether some column has no value, and so no type.
    pub fn has_null(&self) -> bool {
        self.columns.iter().any(|column| column.found == FoundType::Null)
    }

    /// The columns' names, in the file's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| &*column.name)
    }

    /// The file whose footer was read first.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Where the column `name` stands; `None` if there is no such column.
    ///
    /// # Errors
    ///
    /// It may be any of several.
    pub(super) fn position(&self, name: &str) -> Result<Option<usize>, SnapshotError> {
        let lower = name.to_lowercase();
        let exact = |at: &usize| self.columns[*at].name == name;
        let without_case = |at: &usize| self.columns[*at].name.to_lowercase() == lower;
        let in_file = |at: &usize| matches!(self.columns[*at].source, Source::File(_));
        let all = || 0..self.columns.len();
        let found = [
            all().filter(in_file).filter(exact).collect::<Vec<_>>(),
            all().filter(in_file).filter(without_case).collect(),
            all().filter(exact).collect(),
            all().filter(without_case).collect(),
        ];
        match found.into_iter().find(|found| !found.is_empty()).as_deref() {
            None => Ok(None),
            Some([at]) => Ok(Some(*at)),
            Some(several) => Err(self.ambiguous(name, several)),
        }
    }

    /// Returns the error of a column that is not there.
    pub(super) fn missing(&self, name: &str) -> SnapshotError {
        let error = SnapshotError::new(SnapshotErrorKind::MissingColumn, &self.file, format!("no column `{name}`"));
        let closest = self
            .names()
            .map(|other| (strsim::jaro_winkler(&name.to_lowercase(), &other.to_lowercase()), other))
            .filter(|&(likeness, _)| likeness > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        match closest {
            Some((_, other)) => error.hint(format!("did you mean `{other}`?")),
            None => error.hint(self.folder(name).unwrap_or_else(|| self.listing())),
        }
    }

    /// Returns a hint about a folder of a name, without a value, where a partition was meant; `None` if there is none.
    fn folder(&self, name: &str) -> Option<String> {
        let path: Vec<&str> = self.file.split('/').collect();
        let (_, folders) = path.split_last().filter(|_| !self.is_table)?;
        let at = folders.iter().position(|folder| folder.eq_ignore_ascii_case(name))?;
        let value = folders.get(at + 1).filter(|value| !value.contains('=')).unwrap_or(&"VALUE");
        let folder = folders[at];
        Some(format!("the folder `{folder}` is no column: one is named with its value, as in `{name}={value}`"))
    }

    fn ambiguous(&self, name: &str, found: &[usize]) -> SnapshotError {
        let names: Vec<String> = found.iter().map(|&at| format!("`{}`", self.columns[at].name)).collect();
        let what = format!("the column `{name}` may be any of {}", names.join(", "));
        SnapshotError::new(SnapshotErrorKind::MissingColumn, &self.file, what).hint("write it exactly as in the file")
    }

    fn listing(&self) -> String {
        some_of(self.names())
            .map_or_else(|| "the file has no columns".to_owned(), |names| format!("the file has {names}"))
    }
}

/// The job's type of a column, by its Arrow type and by its type in the file, which has annotations that Arrow's lacks.
pub(super) fn found_type(data_type: &DataType, in_file: &Type) -> FoundType {
    use ColumnType::*;
    use DataType as D;
    let known = match data_type {
        D::Null => return FoundType::Null,
        D::Boolean => Boolean,
        D::Int8 | D::Int16 | D::Int32 | D::Int64 | D::UInt8 | D::UInt16 | D::UInt32 | D::UInt64 => Integer,
        D::Decimal32(_, 0) | D::Decimal64(_, 0) | D::Decimal128(_, 0) | D::Decimal256(_, 0) => Integer,
        D::Decimal32(..) | D::Decimal64(..) | D::Decimal128(..) | D::Decimal256(..) => Number,
        D::Float16 | D::Float32 | D::Float64 => Number,
        D::Utf8 | D::LargeUtf8 | D::Utf8View => String,
        D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(16) => match annotation(in_file) {
            Annotation::Plain if !matches!(data_type, D::FixedSizeBinary(_)) => String,
            Annotation::Uuid if matches!(data_type, D::FixedSizeBinary(_)) => String,
            Annotation::Other(name) => return FoundType::Unsupported(name),
            Annotation::Plain | Annotation::Uuid => return FoundType::Unsupported(data_type.to_string()),
        },
        D::Date32 | D::Date64 => Date,
        D::Timestamp(..) => Timestamp,
        D::Dictionary(_, values) => return found_type(values, in_file),
        D::RunEndEncoded(_, values) => return found_type(values.data_type(), in_file),
        D::List(item) | D::LargeList(item) | D::FixedSizeList(item, _) | D::ListView(item) | D::LargeListView(item) => {
            match found_type(item.data_type(), in_file) {
                FoundType::Known(String) | FoundType::Null => ListString,
                FoundType::Known(Integer) => ListInteger,
                FoundType::Known(Number) => ListNumber,
                item => return FoundType::Unsupported(format!("list of {item}")),
            }
        }
        D::Struct(_) => return FoundType::Unsupported("struct".to_owned()),
        D::Map(..) => return FoundType::Unsupported("map".to_owned()),
        _ => return FoundType::Unsupported(data_type.to_string()),
    };
    FoundType::Known(known)
}

/// What a file says that bytes mean.
enum Annotation {
    /// Nothing, or one of an enumeration's texts.
    Plain,
    Uuid,
    /// Something that is no text, by its name.
    Other(std::string::String),
}

/// Returns the annotation of a column, or of the items of a list.
fn annotation(in_file: &Type) -> Annotation {
    let mut leaf = in_file;
    while leaf.is_group() {
        match leaf.get_fields() {
            [only] => leaf = only,
            _ => break,
        }
    }
    let info = leaf.get_basic_info();
    match (info.logical_type_ref(), info.converted_type()) {
        (Some(LogicalType::Uuid), _) => Annotation::Uuid,
        (Some(LogicalType::Enum | LogicalType::String | LogicalType::Json), _) => Annotation::Plain,
        (Some(LogicalType::_Unknown { .. }), _) => Annotation::Other("bytes of an unknown kind".to_owned()),
        (Some(LogicalType::Bson), _) | (None, ConvertedType::BSON) => Annotation::Other("BSON".to_owned()),
        (Some(LogicalType::Geometry { .. }), _) => Annotation::Other("geometry".to_owned()),
        (Some(LogicalType::Geography { .. }), _) => Annotation::Other("geography".to_owned()),
        (None, _) => Annotation::Plain,
        (Some(other), _) => Annotation::Other(format!("{other:?}")),
    }
}
