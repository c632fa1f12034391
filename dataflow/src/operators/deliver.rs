//! Deliver: changes go to the sinks, stretch by stretch of time, on worker 0.
//!
//! Promises: a sink is handed all changes of a stretch at once, when it is complete on all workers, in order of (time, audience,
//! key), and is told how far time has come where nothing changed too. While a sink is behind nothing is handed over, and the
//! frontier stays: the clock waits for it. Before the job's start sinks hear nothing. Holds the changes of times that are
//! not complete or not handed over.

use crate::job::{Failure, FailureKind, Status};
use crate::keeper::{Keeper, Span};
use crate::time::Time;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use usher_core::change::Changes;
use usher_core::sink::{Sink, SinkError};

/// The sinks of a job.
pub(crate) type Sinks = Arc<Mutex<Vec<Box<dyn Sink>>>>;

/// How soon it is looked again whether a sink has caught up.
const LOOK: Duration = Duration::from_millis(2);

pub(crate) struct DeliverSetup {
    pub(crate) worker: usize,
    pub(crate) span: Span,
    pub(crate) keeper: Rc<RefCell<Keeper>>,
    pub(crate) sinks: Sinks,
    pub(crate) status: Arc<Status>,
}

/// Builds the operator. Its output carries nothing; its frontier is what has been handed over.
pub(crate) fn deliver<'scope>(
    changes: StreamVec<'scope, Time, Changes>,
    setup: DeliverSetup,
) -> StreamVec<'scope, Time, ()> {
    let scope = changes.scope();
    let mut builder = OperatorBuilder::new("Deliver".to_owned(), scope);
    let activator = scope.activator_for(Rc::clone(&builder.operator_info().address));
    let mut changes = builder.new_input(changes, Exchange::new(|_: &Changes| 0));
    let (output, stream) = builder.new_output::<Vec<()>>();
    let _output = OutputBuilder::<Time, CapacityContainerBuilder<Vec<()>>>::from(output);
    builder.build_reschedule(move |mut capabilities| {
        // On the other workers nothing arrives.
        let mut cap = capabilities.pop().filter(|_| setup.worker == 0);
        let mut pending = Changes::default();
        let mut until = 0;
        move |frontiers| {
            changes.for_each_stamp(|_, data| {
                data.flat_map(|data| data.drain(..)).for_each(|changes| pending.append(&changes));
            });
            let Some(hold) = &mut cap else { return false };
            let frontier = frontiers[0].frontier().first().copied();
            let Some(delivered) = setup.hand_over(&mut pending, frontier, &mut until) else {
                activator.activate_after(LOOK);
                return false;
            };
            match delivered {
                Some(time) => hold.downgrade(&time),
                None => cap = None,
            }
            false
        }
    });
    stream
}

impl DeliverSetup {
    /// Hands over what is complete, up to `frontier`; none: a sink is behind. `until`: what was said last.
    fn hand_over(&self, pending: &mut Changes, frontier: Option<Time>, until: &mut Time) -> Option<Option<Time>> {
        if self.status.aborted() {
            return Some(frontier);
        }
        let begun = match self.span {
            Span::Replay { .. } => true,
            Span::Live => self.keeper.borrow().start().is_some_and(|start| frontier.is_none_or(|time| time > start)),
        };
        if begun {
            let mut sinks = self.sinks.lock().expect("a worker panicked, which ends the process");
            if sinks.iter().any(|sink| !sink.ready()) {
                return None;
            }
            let mut due = pending.take_before(frontier);
            due.sort();
            let latest = || due.iter().map(|change| change.at + 1).max();
            *until = frontier.or_else(latest).unwrap_or(0).max(*until);
            if let Some(error) = sinks.iter_mut().find_map(|sink| sink.write(&due, *until).err()) {
                self.status.fail(failure(error));
            }
        }
        if let Some(frontier) = frontier {
            self.status.publish_clock(frontier.saturating_sub(1));
        }
        Some(frontier)
    }
}

/// A sink's error as the end of the job.
pub(crate) fn failure(error: SinkError) -> Failure {
    let kind = match error {
        SinkError::Closed { .. } => FailureKind::SinkClosed,
        SinkError::Superseded { .. } | SinkError::Failed { .. } => FailureKind::Sink,
    };
    Failure { kind, message: error.to_string(), hint: Some(error.hint().to_owned()) }
}
