//! Deliver: changes go to the sinks, epoch by epoch, on worker 0.
//!
//! Promises: a sink is handed all changes of an epoch at once, when it is complete on all workers (in a replay those of some epochs, up to [`GATHER`]
//! later), in order of (time, audience, key), and learns how far time has come where nothing changed too. While a sink is behind nothing is handed over, and the
//! frontier stays: the clock waits for it. Before the job's start sinks are handed nothing. Holds the changes of times that are
//! not complete or not handed over.

use crate::failure::Failure;
use crate::start_difference::{AudienceDifference, StartDifference};
use crate::status::Status;
use crate::time::Span;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use usher_core::catalog::Catalog;
use usher_core::change::Changes;
use usher_core::lock::lock;
use usher_core::sink::Sink;
use usher_queries::plan::Plan;

/// The sinks of a job.
pub(crate) type Sinks = Arc<Mutex<Vec<Box<dyn Sink>>>>;

/// Lines of the log about what a start sends, at most.
const LINES_MAX: usize = 20;

/// How soon to look again whether a sink has caught up.
const LOOK: Duration = Duration::from_millis(2);

/// How long after the last time a replay hands over a few changes. Each time wakes a sink's thread.
const GATHER: Duration = Duration::from_millis(2);
/// From so many changes on a replay does not wait.
const MANY: usize = 1024;

/// What arrives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Outgoing {
    /// When all keys were announced: sinks are handed nothing before. From worker 0, which holds the time until it has sent it.
    Start(Time),
    /// Some changes of a worker.
    Changes(Changes),
}

/// What the operator needs.
pub(crate) struct DeliverSetup {
    pub(crate) worker: usize,
    pub(crate) span: Span,
    pub(crate) plan: Arc<Plan>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) sinks: Sinks,
    pub(crate) status: Arc<Status>,
    /// Whether it is logged what the start sends: not if that is only worked out.
    pub(crate) logs: bool,
}

/// What waits to be handed over.
#[derive(Default)]
struct Pending {
    start: Option<Time>,
    /// Whether what the start sends was counted.
    counted: bool,
    /// As they came, none of them empty. A worker that is ahead of another has many here: those that are not complete are left as they are.
    changes: Vec<Arrived>,
    /// The time up to which sinks were last handed changes.
    until: Time,
    /// When sinks were last handed what there was.
    handed_over: Option<Instant>,
}

/// Changes of a worker, in no order of time.
struct Arrived {
    changes: Changes,
    /// From the time of the first of them to that of the last.
    times: RangeInclusive<Time>,
}

/// Builds the operator. Its output carries nothing; its frontier is what has been handed over.
pub(crate) fn deliver<'scope>(
    changes: StreamVec<'scope, Time, Outgoing>,
    setup: DeliverSetup,
) -> StreamVec<'scope, Time, ()> {
    let scope = changes.scope();
    let mut builder = OperatorBuilder::new("Deliver".to_owned(), scope);
    let activator = scope.activator_for(Rc::clone(&builder.operator_info().address));
    let mut changes = builder.new_input(changes, Exchange::new(|_: &Outgoing| 0));
    let (output, stream) = builder.new_output::<Vec<()>>();
    let _output = OutputBuilder::<Time, CapacityContainerBuilder<Vec<()>>>::from(output);
    builder.build_reschedule(move |mut capabilities| {
        // On the other workers nothing arrives.
        let mut cap = capabilities.pop().filter(|_| setup.worker == 0);
        let mut pending = Pending::default();
        let mut armed: Option<Instant> = None;
        move |frontiers| {
            changes.for_each_stamp(|_, data| {
                data.flat_map(|data| data.drain(..)).for_each(|outgoing| pending.add(outgoing));
            });
            let Some(hold) = &mut cap else { return false };
            let frontier = frontiers[0].frontier().first().copied();
            if let Some(wait) = setup.hand_over(&mut pending, frontier) {
                // A timer can't be taken back: another one is armed only when it has gone off.
                let now = Instant::now();
                if armed.is_none_or(|at| at <= now) {
                    armed = Some(now + wait);
                    activator.activate_after(wait);
                }
                return false;
            }
            match frontier {
                Some(time) => hold.downgrade(&time),
                None => cap = None,
            }
            false
        }
    });
    stream
}

impl Pending {
    fn add(&mut self, outgoing: Outgoing) {
        match outgoing {
            Outgoing::Start(start) => self.start = Some(start),
            Outgoing::Changes(changes) => self.changes.extend(Arrived::of(changes)),
        }
    }

    /// Removes and returns the changes before a time, in order; `None` for all.
    fn take_before(&mut self, time: Option<Time>) -> Changes {
        let is_due = |at: &Time| time.is_none_or(|time| *at < time);
        let mut due: Vec<Changes> = Vec::new();
        for arrived in std::mem::take(&mut self.changes) {
            let Arrived { mut changes, times } = arrived;
            if is_due(times.end()) {
                due.push(changes);
            } else if is_due(times.start()) {
                due.push(changes.take_before(time));
                self.changes.extend(Arrived::of(changes));
            } else {
                self.changes.push(Arrived { changes, times });
            }
        }
        let mut due = Changes::concat(due);
        due.sort();
        due
    }

    /// Returns until when a replay waits with what there is.
    fn wait_until(&self) -> Option<Instant> {
        self.handed_over.map(|at| at + GATHER).filter(|_| !self.many())
    }

    /// Returns whether so many changes wait that a replay does not wait for more.
    fn many(&self) -> bool {
        self.changes.iter().map(|arrived| arrived.changes.len()).sum::<usize>() >= MANY
    }
}

impl Arrived {
    /// Returns changes with their times; `None` if there are none.
    fn of(changes: Changes) -> Option<Arrived> {
        let all = || changes.iter().map(|change| change.at);
        let times = all().min()?..=all().max()?;
        Some(Arrived { changes, times })
    }
}

/// Logs what a start sends.
fn log(difference: &StartDifference) {
    for AudienceDifference { sync, audience, entries, exits, .. } in difference.audiences.iter().take(LINES_MAX) {
        tracing::info!(sync, audience, entries, exits, "the start sends");
    }
    let more = difference.audiences.len().saturating_sub(LINES_MAX);
    if more > 0 {
        tracing::info!("the start sends changes of {more} more audiences");
    }
}

impl DeliverSetup {
    /// Counts what the start sends, before the sinks are handed it.
    fn foresee(&self, start: Time, changes: &Changes) {
        let difference = StartDifference::count(&self.plan, &self.catalog, start, changes, &self.status.conditions());
        if self.logs {
            log(&difference);
        }
        self.status.publish_start_difference(difference);
    }

    /// Hands over what is complete, up to `frontier`; returns when to try again if it did not: a sink is behind, or a replay waits for more.
    fn hand_over(&self, pending: &mut Pending, frontier: Option<Time>) -> Option<Duration> {
        if self.status.aborted() {
            return None;
        }
        let replays = matches!(self.span, Span::Replay { .. });
        if replays && frontier.is_some() {
            let wait = pending.wait_until().map(|until| until.saturating_duration_since(Instant::now()));
            if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
                return Some(wait);
            }
        }
        let begun = match self.span {
            Span::Replay { .. } => true,
            Span::Live => pending.start.is_some_and(|start| frontier.is_none_or(|time| time > start)),
        };
        if begun {
            let mut sinks = lock(&self.sinks);
            if sinks.iter().any(|sink| !sink.ready()) {
                return Some(LOOK);
            }
            pending.handed_over = replays.then(Instant::now);
            let due = pending.take_before(frontier);
            if let (Span::Live, Some(start), false) = (self.span, pending.start, pending.counted) {
                pending.counted = true;
                self.foresee(start, &due);
            }
            let latest = || due.iter().map(|change| change.at + 1).max();
            pending.until = frontier.or_else(latest).unwrap_or(0).max(pending.until);
            if let Some(error) = sinks.iter_mut().find_map(|sink| sink.write(&due, pending.until).err()) {
                self.status.fail(Failure::of_sink(error));
            }
        }
        if let Some(frontier) = frontier {
            self.status.publish_clock(frontier.saturating_sub(1));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use usher_core::change::{ChangeKind, Reason};

    #[test]
    fn what_is_complete_is_taken_in_order_and_nothing_else() {
        for seed in 0..300 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut pending, mut waiting, mut frontier) = (Pending::default(), Vec::new(), 0);
            for _ in 0..rng.usize(1..20) {
                for _ in 0..rng.usize(0..4) {
                    let mut changes = Changes::new();
                    for _ in 0..rng.usize(0..200) {
                        let (at, audience, key) = (frontier + rng.u64(0..30), rng.u32(0..3), rng.u8(..).to_string());
                        changes.push(at, audience, ChangeKind::Entry, Reason::Event, &key);
                        waiting.push((at, audience, key));
                    }
                    pending.add(Outgoing::Changes(changes));
                }
                let time = Some(frontier + rng.u64(0..20)).filter(|_| rng.u8(0..10) > 0);
                frontier = time.unwrap_or(frontier + 30);
                let is_due = |(at, ..): &mut (Time, u32, String)| *at < frontier;
                let mut expected: Vec<_> = waiting.extract_if(.., is_due).collect();
                expected.sort();
                let taken = pending.take_before(time);
                let found = taken.iter().map(|change| (change.at, change.audience, taken.key(change).to_owned()));
                assert!(found.eq(expected), "seed {seed}");
                assert_eq!(pending.many(), waiting.len() >= MANY, "seed {seed}");
            }
        }
    }
}
