//! `usher run`: until told to stop.

use crate::exit::Exit;
use crate::job::{self, WallClock, load};
use crate::running::{self, Ending};
use crate::terminal::say;
use std::path::Path;
use std::sync::Arc;
use usher_config::SyncTo;
use usher_connectors::sink::{Catalog, Filter, Sink, Writer};
use usher_dataflow::{Clock, Opened, Span};

/// Runs a job.
pub fn run(path: &Path, workers: usize) -> Result<(), Exit> {
    let loaded = load(path)?;
    let sources = job::open_sources(&loaded, None, WallClock.now())?;
    let warehouses = job::open_warehouses(&loaded)?;
    let dead_letters = job::open_dead_letters(&loaded)?;
    let catalog = Arc::new(Catalog::of(&loaded.plan.job));
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    for (index, (id, sync)) in loaded.plan.job.syncs.iter().enumerate() {
        let filter = Filter::of(index as u16, sync, &catalog);
        sinks.push(match &sync.to {
            SyncTo::File(target) => {
                Box::new(Writer::append(&loaded.folder.join(&target.path), Arc::clone(&catalog), filter)?)
            }
            SyncTo::Kafka(target) => (job::open_kafka_sync(&loaded, index, id, target)?.start)(Arc::clone(&catalog)),
            SyncTo::Stdout => Box::new(Writer::stdout(Arc::clone(&catalog), filter)),
        });
    }
    if sinks.is_empty() {
        say("the job has no syncs: changes are counted and go nowhere");
    }
    say(
        "state is not kept across restarts in this version: a start reads the sources from their beginning and tells everybody who belongs",
    );
    let opened = Opened {
        plan: loaded.plan,
        span: Span::Live,
        clock: Arc::new(WallClock),
        sources,
        warehouses,
        sinks,
        dead_letters,
        workers,
    };
    running::run(opened, Ending::WhenStopped)
}
