//! Around a running job: signals stop it, people see how far it is, and in the end it says what it did.

use crate::exit::Exit;
use crate::terminal::{progress, say};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use usher_dataflow::{FailureKind, OpenedJob, Status, Time};

/// How often the watcher looks.
const LOOK: Duration = Duration::from_millis(20);

/// How long after the first signal another one is taken for the same: some senders signal a process and its group.
const PATIENCE: Duration = Duration::from_secs(1);

/// What ends a job but a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The end of its input.
    AtTheEnd,
    /// Nothing.
    WhenStopped,
}

/// Runs an opened job and says at the end what it did.
pub fn run(opened: OpenedJob, ending: Ending) -> Result<(), Exit> {
    run_watched(opened, ending, &mut |_, _| {})
}

/// Runs an opened job; `look` is called some 50 times a second with its status and how long it has run.
pub fn run_watched(opened: OpenedJob, ending: Ending, look: &mut dyn FnMut(&Status, Duration)) -> Result<(), Exit> {
    let audiences: usize = opened.plan.models.iter().map(|model| model.audiences.len()).sum();
    let status = Status::new(opened.workers, audiences);
    let dead_letters = Arc::clone(&opened.dead_letters);
    let (signalled, impatient) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    for signal in [SIGINT, SIGTERM] {
        // A later one does not wait for anything.
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&impatient))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&signalled)))
            .map_err(|error| Exit::failed(format_args!("signals can't be handled: {error}")))?;
    }
    let since = Instant::now();
    let job = {
        let status = Arc::clone(&status);
        std::thread::Builder::new().name("job".to_owned()).spawn(move || usher_dataflow::run(opened, &status))
    };
    let job = job.expect("the system can start a thread");
    let bar = progress(0);
    let mut live = false;
    let mut stopping = None;
    while !job.is_finished() {
        std::thread::sleep(LOOK);
        let (read, of) = status.bytes();
        bar.set_length(of.max(read));
        bar.set_position(read);
        if signalled.load(Ordering::Relaxed) {
            let first = *stopping.get_or_insert_with(Instant::now);
            impatient.store(first.elapsed() > PATIENCE, Ordering::Relaxed);
            match ending {
                Ending::AtTheEnd => status.abort(),
                Ending::WhenStopped => status.stop(),
            }
        }
        if ending == Ending::WhenStopped && !live && status.live() {
            live = true;
            bar.finish_and_clear();
            say(format_args!(
                "live after {:.1} s: {} messages read, {} keys",
                since.elapsed().as_secs_f64(),
                status.counts().read,
                status.keys()
            ));
        }
        look(&status, since.elapsed());
    }
    bar.finish_and_clear();
    let result = job.join().expect("a panic ends the process before it is joined");
    let closed = dead_letters.finish();
    let turns = status.transitions();
    let (entries, exits) =
        turns.iter().fold((0, 0), |(entries, exits), turns| (entries + turns.entries, exits + turns.exits));
    say(status.counts());
    let members: u64 = status.members().iter().sum();
    say(format_args!(
        "{entries} entries, {exits} exits, {members} members; {} keys; {:.1} s",
        status.keys(),
        since.elapsed().as_secs_f64()
    ));
    if live {
        say(format_args!("max lag since live: {} ms", status.lag_ms_max()));
    }
    match result {
        // Whoever read our output has seen enough.
        Err(failure) if failure.kind == FailureKind::SinkClosed => Ok(()),
        Err(failure) => Err(failure.into()),
        Ok(()) => Ok(closed?),
    }
}

/// A time for people.
pub fn rfc3339(time: Time) -> String {
    i64::try_from(time)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| time.to_string(), |time| time.to_string())
}
