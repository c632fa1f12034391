//! `usher check`: validates a job; with `--connect` also opens what it names.

use super::counted;
use crate::exit::{Exit, problems_as_json};
use crate::open::{
    Loaded, check_kafka, check_registries, check_sources, check_state, load, open_warehouses, print_warnings,
    refuse_shared_files, variable, warnings,
};
use crate::terminal::print_stderr;
use serde_json::json;
use std::path::Path;
use usher_config::{DeadLettersTo, SyncTo};
use usher_connectors::webhook;
use usher_dataflow::wanted;

/// Validates a job; with `connect` also opens what it names.
pub fn check(path: &Path, connect: bool, json: bool) -> Result<(), Exit> {
    let loaded = load(path).and_then(|loaded| {
        refuse_shared_files(&loaded, path)?;
        if connect {
            open_all(&loaded, path)?;
        }
        Ok(loaded)
    });
    if json {
        let (problems, warnings) = match &loaded {
            Ok(loaded) => (Vec::new(), problems_as_json(&warnings(&loaded.plan, path))),
            Err(exit) => (exit.problems(), Vec::new()),
        };
        super::print(&format!("{}\n", json!({ "ok": loaded.is_ok(), "problems": problems, "warnings": warnings })))?;
    }
    let loaded = loaded?;
    print_warnings(&loaded.plan, path);
    let audiences: usize = loaded.plan.models.iter().map(|model| model.audiences.len()).sum();
    let facts: usize = loaded.plan.models.iter().map(|model| model.facts.len() - 1).sum();
    let opened =
        if connect { "; sources, snapshots, syncs, dead letters and the state store can be opened" } else { "" };
    print_stderr(format_args!(
        "ok: `{}`: {} over {}{opened}",
        path.display(),
        counted(audiences as u64, "audience"),
        counted(facts as u64, "condition")
    ));
    Ok(())
}

fn open_all(loaded: &Loaded, path: &Path) -> Result<(), Exit> {
    check_sources(loaded)?;
    check_registries(loaded, path)?;
    check_state(loaded)?;
    check_kafka(loaded)?;
    for (model, warehouse) in open_warehouses(loaded)?.into_iter().enumerate() {
        if let (Some(warehouse), Some(wanted)) = (warehouse, wanted(&loaded.plan, model)) {
            warehouse.open(&wanted).map_err(|error| {
                Exit::not_opened(format_args!("model `{}`: {}", loaded.plan.models[model].id, error.message()))
                    .hint(error.hint)
            })?;
        }
    }
    let job = &loaded.plan.job;
    for sync in job.syncs.values() {
        webhook::connect(sync, &loaded.folder, &variable)?;
    }
    let syncs = job.syncs.values().filter_map(|sync| match &sync.to {
        SyncTo::File(target) => Some(target),
        SyncTo::Stdout | SyncTo::Kafka(_) | SyncTo::Webhook(_) => None,
    });
    let dead_letters = job.dead_letters.iter().filter_map(|to| match to {
        DeadLettersTo::File(target) => Some(target),
        DeadLettersTo::Kafka { .. } => None,
    });
    for target in syncs.chain(dead_letters) {
        let path = loaded.folder.join(&target.path);
        let existed = path.exists();
        std::fs::OpenOptions::new().append(true).create(true).open(&path).map_err(|error| {
            Exit::not_opened(format_args!("`{}` can't be written: {error}", path.display()))
                .hint("give a path in a folder that exists and may be written".to_owned())
        })?;
        if !existed {
            // The check leaves nothing behind; if the file can't be removed, an empty one does no harm.
            let _ = std::fs::remove_file(&path);
        }
    }
    Ok(())
}
