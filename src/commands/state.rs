//! `usher state`: work on the state of a stopped job.

use super::print;
use crate::exit::Exit;
use crate::supervise::rfc3339;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use usher_connectors::outbox::{LogContent, read_content};
use usher_connectors::state_store::Objects;
use usher_core::sink::LedgerPosition;
use usher_dataflow::{ModelContent, PartitionContent, StateContent};

/// Reads all of a stopped job's state, and prints what it holds.
pub fn verify(url: &str, json: bool) -> Result<(), Exit> {
    let folder = match url.split_once("://") {
        None => Some(url),
        Some(("file", path)) => Some(path),
        Some(_) => None,
    };
    if let Some(folder) = folder
        && !Path::new(folder).join("manifests").is_dir()
    {
        return Err(
            Exit::not_opened(format_args!("`{folder}` holds no state")).hint("give the job's `state.url`".to_owned())
        );
    }
    let store = Objects::open(url, Path::new("."), 0)?;
    let Some(content) = usher_dataflow::verify(&store)? else {
        return Err(
            Exit::not_opened(format_args!("`{url}` holds no state")).hint("give the job's `state.url`".to_owned())
        );
    };
    let logs = folder.map_or(Ok(Vec::new()), |folder| read_logs(&Path::new(folder).join("ledger")))?;
    for (id, noted) in &content.ledgers {
        let log = logs.iter().find(|(known, _)| known == id);
        let found = log.map_or(0, |(_, log)| log.position.at);
        if folder.is_some() && noted.keeper == "outbox" {
            let found = LedgerPosition { at: found, ..noted.clone() };
            LedgerPosition::check(&found, Some(noted), id)?;
        }
    }
    print(&if json { format!("{:#}\n", as_json(&content, &logs)) } else { as_text(&content, &logs) })
}

/// Reads the ledgers in a folder, by sync.
fn read_logs(folder: &Path) -> Result<Vec<(String, LogContent)>, Exit> {
    let mut logs = Vec::new();
    for (id, folder) in folders(folder)? {
        if let Some(log) = read_content(&folder)? {
            logs.push((id, log));
        }
    }
    Ok(logs)
}

/// Returns the folders in a folder by name, in order; none if it does not exist.
pub fn folders(folder: &Path) -> Result<Vec<(String, PathBuf)>, Exit> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        entries => entries,
    };
    let failed = |error| Exit::not_opened(format_args!("`{}` can't be read: {error}", folder.display()));
    for entry in entries.map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.path().is_dir() {
            found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

fn as_text(content: &StateContent, logs: &[(String, LogContent)]) -> String {
    let StateContent { number, job, clock, parts, bytes, models, partitions, audiences, ledgers } = content;
    let mut out = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| writeln!(out, "{text}").expect("a string can be written");
    line(format_args!("job {job}: checkpoint {number} of {}: {parts} parts, {bytes} bytes", rfc3339(*clock)));
    for ModelContent { id, keys, pull } in models {
        match pull {
            Some((began, rows)) => {
                line(format_args!("model {id}: {keys} keys; pull of {}: {rows} rows", rfc3339(*began)));
            }
            None => line(format_args!("model {id}: {keys} keys")),
        }
    }
    for PartitionContent { source, name, position } in partitions {
        line(format_args!("source {source}: {name} up to {position}"));
    }
    line(format_args!("audiences: {}", audiences.join(", ")));
    for (id, position) in ledgers {
        line(format_args!("ledger {id}: {position} was committed"));
    }
    for (id, LogContent { ledger, waiting, .. }) in logs {
        line(format_args!("ledger {id}: {} members, {waiting} changes are waiting", ledger.len()));
    }
    out
}

fn as_json(content: &StateContent, logs: &[(String, LogContent)]) -> Value {
    let StateContent { number, job, clock, parts, bytes, models, partitions, audiences, ledgers } = content;
    let models: Vec<Value> = models
        .iter()
        .map(|ModelContent { id, keys, pull }| {
            json!({"id": id, "keys": keys, "pulled_at": pull.map(|pull| rfc3339(pull.0)), "rows": pull.map(|pull| pull.1)})
        })
        .collect();
    let partitions: Vec<Value> = partitions
        .iter()
        .map(|PartitionContent { source, name, position }| {
            json!({"source": source, "partition": name, "position": position})
        })
        .collect();
    let ledgers: Vec<Value> = ledgers
        .iter()
        .map(|(id, position)| json!({"sync": id, "keeper": position.keeper, "position": position.at}))
        .collect();
    let logs: Vec<Value> = logs
        .iter()
        .map(|(id, log)| json!({"sync": id, "members": log.ledger.len(), "waiting": log.waiting, "position": log.position.at}))
        .collect();
    json!({
        "job": job, "checkpoint": number, "clock": rfc3339(*clock), "parts": parts, "bytes": bytes, "models": models,
        "partitions": partitions, "audiences": audiences, "noted_ledgers": ledgers, "ledgers": logs,
    })
}
