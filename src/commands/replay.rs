//! `usher replay`: the changes of a job over all that its sources hold, in event time.

use crate::exit::Exit;
use crate::open::{self, FixedClock, load};
use crate::overwrite;
use crate::supervise::{self, Ending, Signals};
use crate::terminal::print_stderr;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use usher_connectors::kafka::Bounds;
use usher_connectors::writer::Writer;
use usher_core::clock::Clock;
use usher_core::sink::Sink;
use usher_core::source::SourceError;
use usher_dataflow::{OpenedJob, Time};

/// The flags of `replay`.
pub struct Flags {
    pub from: Option<Time>,
    pub until: Option<Time>,
    pub now: Option<Time>,
    pub workers: usize,
    pub out: Option<PathBuf>,
    pub dead_letters: Option<PathBuf>,
    pub summary: Option<PathBuf>,
}

impl Flags {
    /// Returns the files that are written, with their flags.
    fn files(&self) -> Vec<(&'static str, &Path)> {
        let files = [("--out", &self.out), ("--dead-letters", &self.dead_letters), ("--summary", &self.summary)];
        files.into_iter().filter_map(|(flag, file)| Some((flag, file.as_deref()?))).collect()
    }

    /// Refuses two flags that name one file.
    fn check_files(&self) -> Result<(), Exit> {
        let files = self.files();
        for (at, (flag, file)) in files.iter().enumerate() {
            if let Some((other, _)) = files[..at].iter().find(|(_, other)| other == file) {
                return Err(Exit::wrong(format_args!("{other} and {flag} both name `{}`", file.display()))
                    .hint("give each a file of its own".to_owned()));
            }
        }
        Ok(())
    }
}

/// Replays a job over all that its sources hold.
pub fn replay(path: &Path, flags: Flags) -> Result<(), Exit> {
    let signals = Signals::handle()?;
    let span = open::replay_span(flags.from, flags.until)?;
    flags.check_files()?;
    let loaded = load(path)?;
    for (flag, file) in flags.files() {
        overwrite::refuse(&loaded, path, flag, file)?;
    }
    let now = flags.now.unwrap_or_else(|| {
        let now = open::WallClock.now();
        print_stderr(format_args!(
            "refusing messages dated later than {} (now) plus {}; --now sets another time",
            supervise::rfc3339(now),
            usher_config::duration::format(loaded.plan.job.limits.future_skew)
        ));
        now
    });
    let sources = open::open_sources(&loaded, Some(Bounds { from: flags.from }), now, None)?;
    let warehouses = open::open_warehouses(&loaded)?;
    let dead_letters = open::open_dead_letters_at(flags.dead_letters.as_deref())?;
    let catalog = Arc::new(loaded.plan.job.catalog());
    let sink: Box<dyn Sink> = match &flags.out {
        Some(out) => Box::new(Writer::create(out, Arc::clone(&catalog))?),
        None => Box::new(Writer::stdout(Arc::clone(&catalog))),
    };
    let summary = flags.summary.as_deref().map(create).transpose()?;
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
        cores: open::cores(),
    };
    let ended = supervise::run(opened, Ending::AtTheEnd, &signals)?;
    if let Some((path, mut file)) = summary {
        writeln!(file, "{}", ended.summary.json()).map_err(|error| {
            Exit::failed(format_args!("the summary `{}` can't be written: {error}", path.display()))
                .hint("free some space, or give another path".to_owned())
        })?;
    }
    ended.result?;
    if ended.stopped {
        print_stderr("stopped before the end: the changes of what was not read are missing");
    }
    match &ended.damaged[..] {
        [] => Ok(()),
        damaged => Err(damaged_files(damaged)),
    }
}

/// Returns the exit of a replay whose files could not all be read to their end.
fn damaged_files(damaged: &[SourceError]) -> Exit {
    let rest = damaged.len() - 1;
    let more = if rest == 0 { String::new() } else { format!("; {rest} more files are damaged") };
    Exit::failed(format_args!("{}{more}", damaged[0])).hint(damaged[0].hint().to_owned())
}

/// Creates the file of the summary, or empties it.
fn create(path: &Path) -> Result<(&Path, File), Exit> {
    let file = File::create(path).map_err(|error| {
        Exit::not_opened(format_args!("the summary `{}` can't be written: {error}", path.display()))
            .hint("give a path in a folder that exists and may be written".to_owned())
    })?;
    Ok((path, file))
}
