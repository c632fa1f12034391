//! `usher demo`: runs a small shop and prints its changes.
//!
//! Writes a warehouse of two tables and a job file to a temporary folder, appends events of made-up visitors to a file
//! that the job follows, and runs the job as `usher run` would. Some of the events are broken, late or sent twice.

pub(super) mod shop;

use crate::api::Bound;
use crate::exit::Exit;
use crate::open::{self, Loaded, WallClock};
use crate::supervise::{self, Ending, Signals};
use crate::terminal::print_stderr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use usher_connectors::writer::Writer;
use usher_core::clock::Clock;
use usher_dataflow::{OpenedJob, Span, Status};

/// Runs the demo for so many ms, or until a signal.
pub fn demo(duration: Option<u64>, workers: usize) -> Result<(), Exit> {
    let folder = tempfile::Builder::new().prefix("usher-demo-").tempdir().map_err(not_written)?;
    shop::write(folder.path()).map_err(not_written)?;
    print_stderr(format_args!(
        "the shop is in {} until the demo ends: job.yaml, warehouse/, events.jsonl",
        folder.path().display()
    ));
    let file = folder.path().join("job.yaml");
    let job = usher_config::parse(shop::JOB, &file.display().to_string(), folder.path(), &|_| None)?;
    let loaded = Loaded { plan: open::plan(&job, "job.yaml")?, folder: folder.path().to_owned() };
    let catalog = Arc::new(loaded.plan.job.catalog());
    let api = Bound::local()?.serve(&loaded.plan, workers, (0, &["localhost".to_owned()]), None)?;
    let opened = OpenedJob {
        api: Some(Arc::clone(&api.api)),
        span: Span::Live,
        clock: Arc::new(WallClock),
        sources: open::open_sources(&loaded, None, WallClock.now(), None)?,
        warehouses: open::open_warehouses(&loaded)?,
        catalog: Arc::clone(&catalog),
        recovery: None,
        cluster: None,
        sinks: vec![Box::new(Writer::stdout(catalog))],
        dead_letters: open::open_dead_letters(&loaded, &file)?,
        workers,
        cores: open::cores(),
        plan: loaded.plan,
    };
    let closing = Arc::new(AtomicBool::new(false));
    let visitors = {
        let (events, closing) = (folder.path().join("events.jsonl"), Arc::clone(&closing));
        std::thread::Builder::new().name("visitors".to_owned()).spawn(move || shop::visit(&events, &closing))
    };
    let visitors = visitors.expect("the system can start a thread");
    let mut seconds = 0;
    // Only now: a signal before leaves the folder, which the system removes.
    let signals = Signals::handle()?;
    let ended = supervise::run_watched(opened, Ending::WhenStopped, &signals, &mut |status, since| {
        if since.as_secs() > seconds {
            seconds = since.as_secs();
            print_stderr(format_args!("{:>3} s: {}; {}", since.as_secs(), status.counts(), changes(status)));
        }
        if duration.is_some_and(|ms| since >= Duration::from_millis(ms)) {
            status.stop();
        }
    });
    api.stop();
    closing.store(true, Ordering::Relaxed);
    visitors.join().expect("a panic ends the process before it is joined").map_err(not_written)?;
    ended?.result
}

fn changes(status: &Status) -> String {
    let audiences = status.transitions();
    let entries: u64 = audiences.iter().map(|audience| audience.entries).sum();
    let exits: u64 = audiences.iter().map(|audience| audience.exits).sum();
    format!("{entries} entries, {exits} exits, {} members", entries - exits)
}

fn not_written(error: std::io::Error) -> Exit {
    Exit::not_opened(format_args!("the demo's folder can't be written: {error}"))
        .hint("TMPDIR names the folder for temporary files; it needs a few MB".to_owned())
}
