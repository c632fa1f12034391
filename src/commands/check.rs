//! `usher check`: is the job right, and, asked to look, is the world there?

use crate::exit::Exit;
use crate::job::{Loaded, WallClock, check_kafka, load, open_sources, open_warehouses};
use crate::terminal::say;
use std::path::Path;
use usher_config::{DeadLettersTo, SyncTo};
use usher_connectors::kafka::Bounds;
use usher_core::clock::Clock;
use usher_dataflow::wanted;

/// Validates a job; with `connect` also opens what it names.
pub fn check(path: &Path, connect: bool) -> Result<(), Exit> {
    let loaded = load(path)?;
    if connect {
        open_all(&loaded)?;
    }
    let audiences: usize = loaded.plan.models.iter().map(|model| model.audiences.len()).sum();
    let facts: usize = loaded.plan.models.iter().map(|model| model.facts.len() - 1).sum();
    let opened = if connect { ", everything opens" } else { "" };
    say(format_args!("`{}` is right: {audiences} audiences over {facts} conditions{opened}", path.display()));
    Ok(())
}

fn open_all(loaded: &Loaded) -> Result<(), Exit> {
    open_sources(loaded, Some(Bounds::default()), WallClock.now())?;
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
    let syncs = job.syncs.values().filter_map(|sync| match &sync.to {
        SyncTo::File(target) => Some(target),
        SyncTo::Stdout | SyncTo::Kafka(_) => None,
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
            // Looking leaves nothing behind; if it can't be removed, an empty file does no harm.
            let _ = std::fs::remove_file(&path);
        }
    }
    Ok(())
}
