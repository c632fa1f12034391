//! Actions: what an entry of a log, and a row of a checkpoint, says.
//!
//! Pure. Fields that are not used here are passed over, as the protocol has it; so are actions of other kinds.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One action: one field is set. All others are of a kind that readers pass over.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Action {
    pub protocol: Option<Protocol>,
    pub meta_data: Option<Metadata>,
    pub add: Option<Add>,
    pub remove: Option<Remove>,
    pub sidecar: Option<Sidecar>,
    pub commit_info: Option<CommitInfo>,
}

/// What readers must be able to do.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Protocol {
    pub min_reader_version: u32,
    /// From reader version 3 on.
    #[serde(default)]
    pub reader_features: Option<Vec<String>>,
}

/// The table's schema and settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    pub id: String,
    /// JSON.
    pub schema_string: String,
    #[serde(default)]
    pub partition_columns: Vec<String>,
    #[serde(default)]
    pub configuration: BTreeMap<String, Option<String>>,
}

/// A file that is part of the table.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Add {
    /// `%`-encoded, below the table's folder or absolute.
    pub path: String,
    #[serde(default)]
    pub partition_values: BTreeMap<String, Option<String>>,
    /// In bytes.
    pub size: u64,
    /// ms since the epoch.
    #[serde(default)]
    pub modification_time: Option<i64>,
    #[serde(default)]
    pub deletion_vector: Option<DeletionVector>,
    /// False if all rows of the file were in other files of the table before.
    #[serde(default = "changes")]
    pub data_change: bool,
}

/// A file that no longer is.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Remove {
    pub path: String,
    #[serde(default)]
    pub deletion_vector: Option<DeletionVector>,
    /// False if all rows of the file are in other files of the table from then on.
    #[serde(default = "changes")]
    pub data_change: bool,
}

/// What an action without a word of it does.
fn changes() -> bool {
    true
}

/// What identifies a file with some of its rows: its path as the log has it, and the id of its deletion vector.
pub(super) type FileName = (String, Option<String>);

/// Where the deleted rows of a file are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeletionVector {
    /// `u`: in a file of the table; `p`: in a file by its absolute path; `i`: here.
    pub storage_type: String,
    pub path_or_inline_dv: String,
    #[serde(default)]
    pub offset: Option<u64>,
    pub size_in_bytes: usize,
    pub cardinality: u64,
}

/// A file with a part of a checkpoint.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sidecar {
    pub path: String,
}

/// Where a commit came from.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CommitInfo {
    /// ms since the epoch.
    pub in_commit_timestamp: Option<i64>,
}

impl Add {
    pub fn name(&self) -> FileName {
        (self.path.clone(), self.deletion_vector.as_ref().map(DeletionVector::id))
    }
}

impl Remove {
    pub fn name(&self) -> FileName {
        (self.path.clone(), self.deletion_vector.as_ref().map(DeletionVector::id))
    }
}

impl DeletionVector {
    /// Returns what identifies it in a table.
    pub fn id(&self) -> String {
        let offset = self.offset.map(|offset| format!("@{offset}")).unwrap_or_default();
        format!("{}{}{offset}", self.storage_type, self.path_or_inline_dv)
    }
}

/// Reads the actions of an entry: one JSON object a line. The error is the line's number, from 1 on, and what is wrong.
pub(super) fn of_lines(lines: &[u8]) -> Result<Vec<Action>, (usize, String)> {
    let lines = lines.split(|byte| *byte == b'\n').enumerate();
    let lines = lines.filter(|(_, line)| !line.iter().all(u8::is_ascii_whitespace));
    lines.map(|(at, line)| serde_json::from_slice(line).map_err(|error| (at + 1, reason(&error)))).collect()
}

/// Returns what is wrong with one line of JSON, which the decoder places in its first line.
pub(super) fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(what, _)| what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_its_lines_and_a_broken_one_is_placed() {
        let actions = of_lines(
            b"{\"commitInfo\":{\"operation\":\"WRITE\",\"inCommitTimestamp\":7}}\n\n{\"txn\":{\"appId\":\"a\"}}\r\n\
              {\"add\":{\"path\":\"a%20b.parquet\",\"partitionValues\":{\"p\":null},\"size\":3,\"dataChange\":true,\
              \"stats\":\"{}\",\"deletionVector\":{\"storageType\":\"u\",\"pathOrInlineDv\":\"x\",\"offset\":1,\
              \"sizeInBytes\":4,\"cardinality\":2}}}",
        )
        .expect("three actions");
        assert_eq!(actions.len(), 3);
        assert_eq!(actions[0].commit_info.as_ref().and_then(|info| info.in_commit_timestamp), Some(7));
        assert!(actions[1].add.is_none());
        let add = actions[2].add.as_ref().expect("a file");
        assert_eq!((&add.path[..], add.size, add.partition_values["p"].clone()), ("a%20b.parquet", 3, None));
        assert_eq!(add.deletion_vector.as_ref().map(DeletionVector::id), Some("ux@1".to_owned()));
        let (line, what) = of_lines(b"{\"txn\":{}}\n{\"add\":{\"path\":\"a\"").expect_err("half a line");
        assert_eq!((line, &what[..]), (2, "EOF while parsing an object"));
        let (line, what) = of_lines(b"{\"add\":{\"path\":\"a\"}}").expect_err("no size");
        assert_eq!((line, &what[..]), (1, "missing field `size`"));
    }
}
