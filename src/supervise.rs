//! Supervises a running job: signals stop it, a terminal shows its progress, and its totals are printed at its end.

use crate::exit::Exit;
use crate::terminal::{print_stderr, progress};
use serde_json::{Map, Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use usher_core::counts::{Counts, Skip};
use usher_core::dead_letters::DeadLetterReason;
use usher_core::source::SourceError;
use usher_dataflow::{FailureKind, OpenedJob, Status, Time};

/// How often the job is looked at until it is live.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// How often it is looked at once it is live: only a signal is waited for then. The end of the job wakes at once.
const POLL_LIVE_EVERY: Duration = Duration::from_millis(100);

/// How long after the first signal another one counts as the same: some senders signal a process and its group.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// What ends a job, besides a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The end of its input.
    AtTheEnd,
    /// Nothing.
    WhenStopped,
}

/// The totals of a run.
///
/// Its text is the closing line: `679 entries, 474 exits, 205 members; 200 keys; 20.0 s`.
pub struct Summary {
    /// The messages.
    pub counts: Counts,
    /// Memberships that began.
    pub entries: u64,
    /// Memberships that ended.
    pub exits: u64,
    /// Memberships that hold, of all audiences together; counted apart from entries and exits, and only once the job
    /// has ended.
    pub members: u64,
    /// Keys that have state.
    pub keys: u64,
    /// Files that are damaged in the middle.
    pub damaged_files: usize,
    /// How long the run took.
    pub elapsed: Duration,
}

impl Summary {
    fn of(status: &Status, elapsed: Duration) -> Summary {
        let audiences = status.transitions();
        Summary {
            counts: status.counts(),
            entries: audiences.iter().map(|audience| audience.entries).sum(),
            exits: audiences.iter().map(|audience| audience.exits).sum::<u64>() + status.removed_exits(),
            members: status.members().iter().sum(),
            keys: status.keys(),
            damaged_files: status.damaged().len(),
            elapsed,
        }
    }

    /// Returns the totals as JSON: `docs/FORMATS.md` has the fields.
    pub fn json(&self) -> Value {
        let counts = &self.counts;
        let named = |(name, count): (&str, u64)| (name.to_owned(), Value::from(count));
        let skipped: Map<String, Value> =
            Skip::ALL.into_iter().map(|skip| named((skip.name(), counts.skipped(skip)))).collect();
        let dead_letters: Map<String, Value> = DeadLetterReason::ALL
            .into_iter()
            .map(|reason| named((reason.name(), counts.dead_letters(reason))))
            .collect();
        json!({
            "read": counts.read,
            "matched": counts.matched,
            "skipped": skipped,
            "dead_letters": dead_letters,
            "repeats": counts.repeats,
            "mismatches": counts.mismatches,
            "entries": self.entries,
            "exits": self.exits,
            "members": self.members,
            "keys": self.keys,
            "damaged_files": self.damaged_files,
            "seconds": self.elapsed.as_secs_f64(),
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} entries, {} exits, {} members; {} keys; {:.1} s",
            self.entries,
            self.exits,
            self.members,
            self.keys,
            self.elapsed.as_secs_f64()
        )
    }
}

/// A run that has ended.
pub struct Ended {
    /// What it did.
    pub summary: Summary,
    /// How it ended.
    pub result: Result<(), Exit>,
    /// Files that are damaged in the middle.
    pub damaged: Vec<SourceError>,
    /// Whether a signal stopped it.
    pub stopped: bool,
}

/// The signals that stop a job, handled from when this is made.
///
/// A signal while the job is being opened ends the process at once, with 0: nothing was read, and what was begun is found out at
/// the next start, as after a crash. Not so once it has met other processes, which would take that for a failure: then the job is opened, and stops.
/// Once the job runs, the first signal stops it cleanly, and another one ends it at once.
pub struct Signals {
    opening: Arc<AtomicBool>,
    /// The job runs.
    running: Arc<AtomicBool>,
    signalled: Arc<AtomicBool>,
    end_at_once: Arc<AtomicBool>,
}

impl Signals {
    /// Handles the signals.
    pub fn handle() -> Result<Signals, Exit> {
        let flag = |value| Arc::new(AtomicBool::new(value));
        let signals =
            Signals { opening: flag(true), running: flag(false), signalled: flag(false), end_at_once: flag(false) };
        for signal in [SIGINT, SIGTERM] {
            // A second signal does not wait for anything.
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&signals.end_at_once))
                .and_then(|_| signal_hook::flag::register_conditional_shutdown(signal, 0, Arc::clone(&signals.opening)))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&signals.signalled)))
                .map_err(|error| Exit::failed(format_args!("signals can't be handled: {error}")))?;
        }
        Ok(signals)
    }

    /// Notes that other processes have been met, which wait until this one has opened the job.
    pub fn have_met_others(&self) {
        self.opening.store(false, Ordering::SeqCst);
        let (running, signalled) = (Arc::clone(&self.running), Arc::clone(&self.signalled));
        let end_at_once = Arc::clone(&self.end_at_once);
        let watch = move || {
            let mut first: Option<Instant> = None;
            while !running.load(Ordering::SeqCst) {
                if signalled.load(Ordering::Relaxed) {
                    if first.is_none() {
                        print_stderr("stopping, with the other processes, as soon as the job is opened");
                    }
                    let since = *first.get_or_insert_with(Instant::now);
                    end_at_once.store(since.elapsed() > SAME_SIGNAL, Ordering::Relaxed);
                }
                std::thread::sleep(POLL_LIVE_EVERY);
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(watch).expect("the system can start a thread");
    }
}

/// Runs an opened job to its end and prints its totals.
pub fn run(opened: OpenedJob, ending: Ending, signals: &Signals) -> Result<Ended, Exit> {
    run_watched(opened, ending, signals, &mut |_, _| {})
}

/// As [`run`]; calls `observe` with the job's status and how long it has run: some 50 times a second, 10 times once it is live.
pub fn run_watched(
    opened: OpenedJob,
    ending: Ending,
    signals: &Signals,
    observe: &mut dyn FnMut(&Status, Duration),
) -> Result<Ended, Exit> {
    let audiences: usize = opened.plan.models.iter().map(|model| model.audiences.len()).sum();
    let status = Status::new(opened.workers, audiences);
    let syncs: Vec<String> = opened.plan.job.syncs.keys().cloned().collect();
    let dead_letters = Arc::clone(&opened.dead_letters);
    let Signals { opening, running, signalled, end_at_once } = signals;
    opening.store(false, Ordering::SeqCst);
    running.store(true, Ordering::SeqCst);
    let since = Instant::now();
    let job = {
        let (status, supervisor) = (Arc::clone(&status), std::thread::current());
        std::thread::Builder::new().name("job".to_owned()).spawn(move || {
            let result = usher_dataflow::run(opened, &status);
            supervisor.unpark();
            result
        })
    };
    let job = job.expect("the system can start a thread");
    let bar = progress(0);
    let mut live = false;
    let mut stopping = None;
    while !job.is_finished() {
        std::thread::park_timeout(if live { POLL_LIVE_EVERY } else { POLL_EVERY });
        let (read, of) = status.bytes();
        bar.set_length(of.max(read));
        bar.set_position(read);
        if signalled.load(Ordering::Relaxed) {
            let first = *stopping.get_or_insert_with(Instant::now);
            end_at_once.store(first.elapsed() > SAME_SIGNAL, Ordering::Relaxed);
            match ending {
                Ending::AtTheEnd => status.abort(),
                Ending::WhenStopped => status.stop(),
            }
        }
        if ending == Ending::WhenStopped && !live && status.live() {
            live = true;
            bar.finish_and_clear();
            print_stderr(format_args!(
                "live after {:.1} s: {} messages read, {} keys",
                since.elapsed().as_secs_f64(),
                status.counts().read,
                status.keys()
            ));
        }
        observe(&status, since.elapsed());
    }
    bar.finish_and_clear();
    let result = job.join().expect("a panic ends the process before it is joined");
    let closed = dead_letters.finish();
    let summary = Summary::of(&status, since.elapsed());
    print_stderr(summary.counts);
    print_stderr(&summary);
    if live {
        print_stderr(format_args!("max lag since live: {} ms", status.lag_ms_max()));
    }
    for (id, sync) in syncs.iter().zip(status.syncs()).filter(|(_, sync)| sync.waiting > 0) {
        let reason = sync.last_error.map_or(String::new(), |error| format!(": {error}"));
        let wait = if sync.waiting == 1 { "change still waits" } else { "changes still wait" };
        print_stderr(format_args!("{} {wait} for sync `{id}`{reason}", sync.waiting));
    }
    let result = match result {
        // The reader of stdout has closed it: it has all it wants.
        Err(failure) if failure.kind == FailureKind::SinkClosed => Ok(()),
        Err(failure) => Err(failure.into()),
        Ok(()) => closed.map_err(Exit::from),
    };
    Ok(Ended { summary, result, damaged: status.damaged(), stopped: stopping.is_some() })
}

/// Returns `time` as RFC 3339 in UTC; as a number if it is beyond what RFC 3339 can hold.
pub fn rfc3339(time: Time) -> String {
    i64::try_from(time).ok().and_then(usher_queries::time::shortest).unwrap_or_else(|| time.to_string())
}
