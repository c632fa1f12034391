//! The columns of a table, by its log.
//!
//! Pure. A column has a name, which the table may change, and a physical name or an id, by which its files have it for ever.

use std::collections::BTreeMap;

use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use serde::Deserialize;
use serde_json::Value;
use usher_config::ColumnType;

use super::actions::Metadata;
use crate::parquet::schema::{Column, FoundType, Source, found_type};

/// The columns of a version of a table.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::parquet) struct TableColumns {
    columns: Vec<TableColumn>,
    /// Whether files have them by their ids, else by their physical names.
    by_id: bool,
}

/// A column of a table.
#[derive(Debug, PartialEq, Eq)]
struct TableColumn {
    name: String,
    found: FoundType,
    physical: String,
    id: Option<i32>,
    /// Whether its values are in the log, not in the files.
    is_partition: bool,
}

#[derive(Deserialize)]
struct Struct {
    fields: Vec<Field>,
}

#[derive(Deserialize)]
struct Field {
    name: String,
    #[serde(rename = "type")]
    of: Value,
    #[serde(default)]
    metadata: BTreeMap<String, Value>,
}

impl TableColumns {
    /// Reads the columns of a table's metadata. The error says what is wrong with it.
    pub(super) fn new(metadata: &Metadata) -> Result<TableColumns, String> {
        let schema: Struct = serde_json::from_str(&metadata.schema_string)
            .map_err(|error| format!("its schema is no JSON of a struct: {error}"))?;
        let mode = metadata.configuration.get("delta.columnMapping.mode").and_then(Option::as_deref).unwrap_or("none");
        if !["none", "name", "id"].contains(&mode) {
            return Err(format!("its columns are mapped by `{mode}`, which is not known"));
        }
        let mapped = mode != "none";
        let column = |field: Field| {
            let of_metadata = |name: &str| field.metadata.get(name).filter(|_| mapped);
            let physical = of_metadata("delta.columnMapping.physicalName").and_then(Value::as_str);
            let id = of_metadata("delta.columnMapping.id").and_then(Value::as_i64);
            TableColumn {
                physical: physical.unwrap_or(&field.name).to_owned(),
                id: id.and_then(|id| i32::try_from(id).ok()),
                found: found(&field.of),
                is_partition: metadata.partition_columns.contains(&field.name),
                name: field.name,
            }
        };
        Ok(TableColumns { columns: schema.fields.into_iter().map(column).collect(), by_id: mode == "id" })
    }

    /// Returns the columns as a file of the table has them.
    pub(in crate::parquet) fn of_file(
        &self,
        metadata: &ArrowReaderMetadata,
        partition: &BTreeMap<String, Option<String>>,
    ) -> Vec<Column> {
        let roots = metadata.parquet_schema().root_schema().get_fields();
        let is_it = |column: &TableColumn, at: usize| match column.id.filter(|_| self.by_id) {
            Some(id) => roots[at].get_basic_info().has_id() && roots[at].get_basic_info().id() == id,
            None => roots[at].name() == column.physical,
        };
        let column = |column: &TableColumn| {
            let (found, source) = if column.is_partition {
                let text = partition.get(&column.physical).cloned().flatten();
                // No partition has an empty text: it is how null is written.
                let text = text.filter(|text| !text.is_empty()).map(|text| plain_time(text, &column.found));
                (column.found.clone(), Source::Path(text))
            } else {
                match (0..roots.len()).find(|at| is_it(column, *at)) {
                    None => (column.found.clone(), Source::Absent),
                    Some(at) => {
                        let found = found_type(metadata.schema().field(at).data_type(), &roots[at]);
                        (widened(found, &column.found), Source::File(at))
                    }
                }
            };
            Column { name: column.name.clone(), found, source }
        };
        self.columns.iter().map(column).collect()
    }

    /// Returns the columns of the table, which are in no file.
    pub(in crate::parquet) fn of_table(&self) -> Vec<Column> {
        let column =
            |of: &TableColumn| Column { name: of.name.clone(), found: of.found.clone(), source: Source::Absent };
        self.columns.iter().map(column).collect()
    }
}

/// Returns the table's type of a column whose type was widened since the file was written, else the file's.
fn widened(in_file: FoundType, of_table: &FoundType) -> FoundType {
    use ColumnType::{Date, Integer, Number, Timestamp};
    use FoundType::{Known, Null};
    match (&in_file, of_table) {
        (Null, _) | (Known(Integer), Known(Number)) | (Known(Date), Known(Timestamp)) => of_table.clone(),
        _ => in_file,
    }
}

/// Returns the text of a time as a job writes it: `2026-11-01 10:00:00` is one of the two forms that a log has.
fn plain_time(text: String, found: &FoundType) -> String {
    match found {
        FoundType::Known(ColumnType::Timestamp) if text.as_bytes().get(10) == Some(&b' ') => text.replacen(' ', "T", 1),
        _ => text,
    }
}

/// Returns the job's type of a type of a table.
fn found(of: &Value) -> FoundType {
    use ColumnType::*;
    let known = match of {
        Value::String(name) => match &name[..] {
            "string" | "binary" => String,
            "long" | "integer" | "short" | "byte" => Integer,
            "float" | "double" => Number,
            "boolean" => Boolean,
            "date" => Date,
            "timestamp" | "timestamp_ntz" => Timestamp,
            "decimal" => Integer,
            decimal if decimal.starts_with("decimal(") => {
                let scale = decimal.trim_end_matches(')').rsplit_once(',').map_or("0", |(_, scale)| scale.trim());
                if scale == "0" { Integer } else { Number }
            }
            other => return FoundType::Unsupported(other.to_owned()),
        },
        of => match of["type"].as_str() {
            Some("array") => match found(&of["elementType"]) {
                FoundType::Known(String) => ListString,
                FoundType::Known(Integer) => ListInteger,
                FoundType::Known(Number) => ListNumber,
                item => return FoundType::Unsupported(format!("list of {item}")),
            },
            Some(name) => return FoundType::Unsupported(name.to_owned()),
            None => return FoundType::Unsupported("a type without a name".to_owned()),
        },
    };
    FoundType::Known(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn types_of_a_table_are_those_of_its_files() {
        let check = |of: Value, expected: &str| assert_eq!(found(&of).to_string(), expected, "{of}");
        check(json!("long"), "integer");
        check(json!("decimal(38,0)"), "integer");
        check(json!("decimal(10, 2)"), "number");
        check(json!("timestamp_ntz"), "timestamp");
        check(json!("variant"), "variant");
        check(json!({"type": "array", "elementType": "double", "containsNull": true}), "list<number>");
        check(json!({"type": "array", "elementType": "date", "containsNull": true}), "list of date");
        check(json!({"type": "struct", "fields": []}), "struct");
        check(json!({"type": "map", "keyType": "string", "valueType": "string"}), "map");
        check(json!(null), "a type without a name");
    }

    #[test]
    fn a_mapped_column_has_a_name_and_a_physical_name() {
        let metadata = |mode: &str, schema: Value| Metadata {
            id: "t".to_owned(),
            schema_string: schema.to_string(),
            partition_columns: vec!["day".to_owned()],
            configuration: [("delta.columnMapping.mode".to_owned(), Some(mode.to_owned()))].into(),
        };
        let mapping = json!({"delta.columnMapping.physicalName": "col-7", "delta.columnMapping.id": 7});
        let schema = json!({"type": "struct", "fields": [
            {"name": "ltv", "type": "double", "nullable": true, "metadata": mapping},
            {"name": "day", "type": "date", "nullable": true, "metadata": {}},
        ]});
        for (mode, physical, id) in [("none", "ltv", None), ("name", "col-7", Some(7)), ("id", "col-7", Some(7))] {
            let columns = TableColumns::new(&metadata(mode, schema.clone())).expect("a schema");
            let ltv = &columns.columns[0];
            assert_eq!((&ltv.name[..], &ltv.physical[..], ltv.id), ("ltv", physical, id), "{mode}");
            assert_eq!((ltv.is_partition, columns.columns[1].is_partition, columns.by_id), (false, true, mode == "id"));
        }
        let error = TableColumns::new(&metadata("guess", schema.clone())).expect_err("a mode that is not known");
        assert_eq!(error, "its columns are mapped by `guess`, which is not known");
        assert!(TableColumns::new(&metadata("name", json!("x"))).is_err());
    }
}
