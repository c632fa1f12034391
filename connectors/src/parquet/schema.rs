//! The columns of a file and their types, in the job's words.

use arrow_schema::{DataType, Schema as ArrowSchema};
use usher_config::ColumnType;

use usher_core::warehouse::{SnapshotError, SnapshotErrorKind};

/// The columns of a model's files, by the footer of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    pub(super) file: String,
    pub(super) columns: Vec<(String, FoundType)>,
}

/// The type of a column as found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundType {
    /// One of the job's types.
    Known(ColumnType),
    /// Another, by its Arrow name. An error only where the column is used.
    Unsupported(String),
}

impl Schema {
    pub(super) fn of_arrow(file: &str, schema: &ArrowSchema) -> Schema {
        let columns =
            schema.fields().iter().map(|field| (field.name().clone(), found_type(field.data_type()))).collect();
        Schema { file: file.to_owned(), columns }
    }

    /// The type of the column `name`: by its exact name, else without case where that is unique.
    pub fn column(&self, name: &str) -> Option<FoundType> {
        self.position(name).ok().map(|at| self.columns[at].1.clone())
    }

    /// The columns' names, in the file's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| &**name)
    }

    /// The file whose footer was read.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Where the column `name` stands.
    ///
    /// # Errors
    ///
    /// No such column, or several.
    pub(super) fn position(&self, name: &str) -> Result<usize, SnapshotError> {
        let exact: Vec<usize> = (0..self.columns.len()).filter(|&at| self.columns[at].0 == name).collect();
        let lower = name.to_lowercase();
        let found = match exact.is_empty() {
            false => exact,
            true => (0..self.columns.len()).filter(|&at| self.columns[at].0.to_lowercase() == lower).collect(),
        };
        match *found {
            [at] => Ok(at),
            [] => Err(self.missing(name)),
            _ => Err(self.ambiguous(name, &found)),
        }
    }

    fn missing(&self, name: &str) -> SnapshotError {
        let error = SnapshotError::new(SnapshotErrorKind::MissingColumn, &self.file, format!("no column `{name}`"));
        let closest = self
            .names()
            .map(|other| (strsim::jaro_winkler(&name.to_lowercase(), &other.to_lowercase()), other))
            .filter(|&(likeness, _)| likeness > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        match closest {
            Some((_, other)) => error.hint(format!("did you mean `{other}`?")),
            None => error.hint(self.listing()),
        }
    }

    fn ambiguous(&self, name: &str, found: &[usize]) -> SnapshotError {
        let names: Vec<String> = found.iter().map(|&at| format!("`{}`", self.columns[at].0)).collect();
        let what = format!("the column `{name}` may be any of {}", names.join(", "));
        SnapshotError::new(SnapshotErrorKind::MissingColumn, &self.file, what).hint("write it exactly as in the file")
    }

    fn listing(&self) -> String {
        // A hint is read by people: a wide table is cut.
        const SHOWN: usize = 12;
        let names: Vec<String> = self.names().take(SHOWN).map(|name| format!("`{name}`")).collect();
        match self.columns.len() {
            0 => "the file has no columns".to_owned(),
            count if count > SHOWN => format!("the file has {} and {} more", names.join(", "), count - SHOWN),
            _ => format!("the file has {}", names.join(", ")),
        }
    }
}

/// The job's type of an Arrow type.
pub(super) fn found_type(data_type: &DataType) -> FoundType {
    use ColumnType::*;
    use DataType as D;
    let known = match data_type {
        D::Boolean => Boolean,
        D::Int8 | D::Int16 | D::Int32 | D::Int64 | D::UInt8 | D::UInt16 | D::UInt32 | D::UInt64 => Integer,
        D::Decimal32(_, 0) | D::Decimal64(_, 0) | D::Decimal128(_, 0) | D::Decimal256(_, 0) => Integer,
        D::Decimal32(..) | D::Decimal64(..) | D::Decimal128(..) | D::Decimal256(..) => Number,
        D::Float16 | D::Float32 | D::Float64 => Number,
        D::Utf8 | D::LargeUtf8 | D::Utf8View => String,
        D::Date32 | D::Date64 => Date,
        D::Timestamp(..) => Timestamp,
        D::Dictionary(_, values) => return found_type(values),
        D::RunEndEncoded(_, values) => return found_type(values.data_type()),
        D::List(item) | D::LargeList(item) | D::FixedSizeList(item, _) | D::ListView(item) | D::LargeListView(item) => {
            match found_type(item.data_type()) {
                FoundType::Known(String) => ListString,
                FoundType::Known(Integer) => ListInteger,
                FoundType::Known(Number) => ListNumber,
                _ => return FoundType::Unsupported(data_type.to_string()),
            }
        }
        _ => return FoundType::Unsupported(data_type.to_string()),
    };
    FoundType::Known(known)
}
