//! Deliver: changes go to the sinks, epoch by epoch.
//!
//! Promises: a sink is handed all changes of a stretch of time at once, when it is complete, in order of (time,
//! audience, key) per worker; under replay one worker has them all. A sink that is full blocks its worker, and with it
//! the reading of the sources. Holds the changes of times that are not complete.

use crate::job::{Failure, FailureKind, Status};
use crate::time::Time;
use std::sync::{Arc, Mutex};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::Operator;
use usher_connectors::sink::{Changes, Sink, SinkError};

/// The sinks of a process, shared by its workers.
pub(crate) type Sinks = Arc<Mutex<Vec<Box<dyn Sink>>>>;

/// Builds the operator. Its output carries nothing; its frontier is what has been delivered.
pub(crate) fn deliver<'scope>(
    changes: StreamVec<'scope, Time, Changes>,
    gather: bool,
    sinks: Sinks,
    status: Arc<Status>,
) -> StreamVec<'scope, Time, ()> {
    let mut pending = Changes::default();
    let mut logic = move |frontier: Option<Time>, arrived: Vec<Changes>| {
        arrived.iter().for_each(|changes| pending.append(changes));
        let mut due = pending.take_before(frontier);
        if !due.is_empty() && !status.aborted() {
            due.sort();
            let until = frontier.unwrap_or(Time::MAX);
            let mut sinks = sinks.lock().expect("a worker panicked, which ends the process");
            if let Some(error) = sinks.iter_mut().find_map(|sink| sink.write(&due, until).err()) {
                status.fail(failure(error));
            }
        }
        if let Some(frontier) = frontier {
            status.publish_clock(frontier.saturating_sub(1));
        }
    };
    macro_rules! build {
        ($pact:expr) => {
            changes.unary_frontier::<CapacityContainerBuilder<Vec<()>>, _, _, _>($pact, "Deliver", move |cap, _| {
                drop(cap);
                move |(input, frontier), _output| {
                    let mut arrived = Vec::new();
                    input.for_each_stamp(|_, data| data.for_each(|data| arrived.append(data)));
                    logic(frontier.frontier().first().copied(), arrived);
                }
            })
        };
    }
    if gather { build!(Exchange::new(|_: &Changes| 0)) } else { build!(Pipeline) }
}

/// A sink's error as the end of the job.
pub(crate) fn failure(error: SinkError) -> Failure {
    let kind = match error {
        SinkError::Closed { .. } => FailureKind::SinkClosed,
        SinkError::Superseded { .. } | SinkError::Failed { .. } => FailureKind::Sink,
    };
    Failure { kind, message: error.to_string(), hint: Some(error.hint().to_owned()) }
}
