//! `usher replay`: the changes that the sources' own time implies.

use crate::exit::Exit;
use crate::job::{self, FixedClock, load};
use crate::running::{self, Ending};
use crate::terminal::say;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use usher_connectors::kafka::Bounds;
use usher_connectors::writer::Writer;
use usher_core::change::Filter;
use usher_core::clock::Clock;
use usher_core::sink::Sink;
use usher_dataflow::{OpenedJob, Time};

/// What was typed after the job.
pub struct Flags {
    pub from: Option<Time>,
    pub until: Option<Time>,
    pub now: Option<Time>,
    pub workers: usize,
    pub out: Option<PathBuf>,
}

/// Replays a job over what its sources hold.
pub fn replay(path: &Path, flags: Flags) -> Result<(), Exit> {
    let span = job::replay_span(flags.from, flags.until)?;
    let loaded = load(path)?;
    let now = flags.now.unwrap_or_else(|| {
        let now = job::WallClock.now();
        say(format_args!(
            "messages later than now, {}, plus {} are of the future; --now sets another time",
            running::rfc3339(now),
            usher_config::duration::format(loaded.plan.job.limits.future_skew)
        ));
        now
    });
    let sources = job::open_sources(&loaded, Some(Bounds { from: flags.from }), now)?;
    let warehouses = job::open_warehouses(&loaded)?;
    let dead_letters = job::open_dead_letters(&loaded)?;
    let catalog = Arc::new(loaded.plan.job.catalog());
    let sink: Box<dyn Sink> = match &flags.out {
        Some(out) => Box::new(Writer::create(out, Arc::clone(&catalog), Filter::all())?),
        None => Box::new(Writer::stdout(Arc::clone(&catalog), Filter::all())),
    };
    let opened = OpenedJob {
        plan: loaded.plan,
        span,
        clock: Arc::new(FixedClock(now)),
        sources,
        warehouses,
        sinks: vec![sink],
        catalog: Arc::clone(&catalog),
        recovery: None,
        cluster: None,
        api: None,
        dead_letters,
        workers: flags.workers,
    };
    running::run(opened, Ending::AtTheEnd)
}
