//! `usher status`: prints the audiences, models, syncs, sources and events of a running job.

use super::print;
use crate::client::{Client, Connection};
use crate::exit::Exit;
use serde_json::{Value, json};

/// Prints a table of each, or all of it as JSON.
pub fn status(connection: &Connection) -> Result<(), Exit> {
    let client = Client::new(connection)?;
    let readiness = client.readiness()?;
    let audiences = client.get(&["v1", "audiences"])?;
    let models = client.get(&["v1", "models"])?.body["models"].take();
    let syncs = client.get(&["v1", "syncs"])?.body["syncs"].take();
    let sources = client.get(&["v1", "sources"])?.body["sources"].take();
    let events = client.get(&["v1", "events"])?.body["events"].take();
    let as_of = audiences.as_of;
    let audiences = &audiences.body["audiences"];
    if connection.json {
        let ready = &readiness["ready"];
        let all = json!({ "ready": ready, "detail": readiness["detail"], "as_of": as_of, "audiences": audiences,
            "models": models, "syncs": syncs, "sources": sources, "events": events });
        return print(&format!("{all}\n"));
    }
    let mut text = match (readiness["ready"].as_bool(), as_of) {
        (Some(true), Some(as_of)) => match &readiness["detail"] {
            Value::Null => format!("live, as of {as_of}\n"),
            detail => format!("{}, as of {as_of}\n", shown(detail)),
        },
        _ => format!("not live yet: {}\n", shown(&readiness["detail"])),
    };
    text += &table("audience", audiences, &["model", "size", "entries", "exits", "freshness", "windows"]);
    text += &table("model", &models, &["freshness", "rows", "last_pull", "next_pull", "last_error"]);
    text += &table(
        "sync",
        &syncs,
        &[
            "state",
            "committed",
            "delivered",
            "waiting",
            "oldest_waiting_ms",
            "superseded",
            "dead_letters",
            "retries",
            "last_error",
        ],
    );
    text += &table("source", &counted(&sources), &["read", "matched", "skipped", "dead_letters", "damaged_files"]);
    text += &table("event", &events, &["source", "matched", "repeats", "without_row", "last_seen"]);
    print(&text)
}

/// Returns sources with the sums of their counts by reason, and the number of their damaged files.
fn counted(sources: &Value) -> Value {
    let sum =
        |counts: &Value| counts.as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum::<u64>();
    let counted = |source: &Value| {
        json!({ "id": source["id"], "read": source["read"], "matched": source["matched"], "skipped": sum(&source["skipped"]),
            "dead_letters": sum(&source["dead_letters"]), "damaged_files": source["damaged_files"].as_array().map(Vec::len) })
    };
    sources.as_array().into_iter().flatten().map(counted).collect()
}

/// Returns the rows of a list as a table: a column for the id, then one for each name that some row has.
pub(super) fn table(first: &str, rows: &Value, columns: &[&str]) -> String {
    if rows.as_array().is_none_or(Vec::is_empty) {
        return format!("\nno {first}s\n");
    }
    let known = |name: &&&str| rows.as_array().into_iter().flatten().any(|row| row.get(**name).is_some());
    let columns: Vec<&str> = columns.iter().filter(known).copied().collect();
    let mut cells = vec![vec![first.to_owned()]];
    cells[0].extend(columns.iter().map(|name| name.replace('_', " ")));
    for row in rows.as_array().into_iter().flatten() {
        let mut line = vec![shown(&row["id"])];
        line.extend(columns.iter().map(|name| shown(&row[name])));
        cells.push(line);
    }
    let widths: Vec<usize> = (0..=columns.len())
        .map(|column| cells.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = "\n".to_owned();
    for line in &cells {
        let padded: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}", width = *width)).collect();
        text += padded.join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.replace(char::is_control, " "),
        // Windows.
        Value::Object(windows) if windows.get("complete") == Some(&Value::Bool(true)) => "complete".to_owned(),
        Value::Object(windows) => match windows.get("complete_at").and_then(Value::as_str) {
            Some(time) => format!("complete at {time}"),
            None => "not complete".to_owned(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_column_for_each_name() {
        let rows = json!([
            {"id": "crm", "committed": 12, "last_error": null, "windows": {"complete": true, "complete_at": null}},
            {"id": "a_long_one", "committed": 1, "last_error": "no\nanswer", "windows": {"complete": false}},
        ]);
        assert_eq!(
            table("sync", &rows, &["committed", "last_error", "windows"]),
            "
sync        committed  last error  windows
crm         12         -           complete
a_long_one  1          no answer   not complete
"
        );
        assert_eq!(table("sync", &json!([]), &["committed"]), "\nno syncs\n");
    }
}
