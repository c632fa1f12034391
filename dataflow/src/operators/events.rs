//! Events: this worker's partitions become batches of matched events.
//!
//! A shell around [`ReadScheduler`]. Promises: the frontier of the output is the clock, so no batch takes effect before it; one
//! chunk of a partition per activation, with a timer while there is nothing to read ([`Pace`]). Feedback: `handed_over`, the
//! frontier of the whole job, limits what is on its way, and how far the live clock runs ahead.
//!
//! Holds one capability for each output: for events at the clock, for progress at time 0.
//!
//! [`Pace`]: crate::ingest::pace::Pace

use crate::ingest::decoding::Wake;
use crate::ingest::event_batch::EventBatch;
use crate::ingest::reader::{Next, ReadScheduler, ReaderSetup, SourceProgress};
use crate::time::Time;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::probe::Handle as ProbeHandle;
use timely::dataflow::{Scope, StreamVec};
use usher_core::lock::lock;

/// Batches of events, and the progress of sources, addressed to each worker.
pub(crate) type EventStreams<'scope> =
    (StreamVec<'scope, Time, EventBatch>, StreamVec<'scope, Time, (u32, SourceProgress)>);

/// Builds the operator. The frontier of `handed_over` is the time before which all changes of the job have been
/// handed to the sinks.
pub(crate) fn events<'scope>(
    scope: Scope<'scope, Time>,
    setup: ReaderSetup,
    handed_over: ProbeHandle<Time>,
) -> EventStreams<'scope> {
    let mut builder = OperatorBuilder::new("Events".to_owned(), scope);
    let activator = scope.activator_for(Rc::clone(&builder.operator_info().address));
    let wake = |scope: &Scope<'scope, Time>, address: &[usize]| scope.worker().sync_activator_for(address.to_vec());
    setup.status.pace().add(wake(&scope, &builder.operator_info().address));
    let wake_readers = Mutex::new(wake(&scope, &builder.operator_info().address));
    let wake_readers: Wake = Arc::new(move || {
        // A worker that has ended needs no waking.
        let _ = lock(&wake_readers).activate();
    });
    let (events, events_stream) = builder.new_output::<Vec<EventBatch>>();
    let mut events = OutputBuilder::<Time, CapacityContainerBuilder<Vec<EventBatch>>>::from(events);
    let (progress, progress_stream) = builder.new_output::<Vec<(u32, SourceProgress)>>();
    let mut progress = OutputBuilder::<Time, CapacityContainerBuilder<Vec<(u32, SourceProgress)>>>::from(progress);
    builder.build_reschedule(move |mut capabilities| {
        let progress_cap = capabilities.pop().expect("an operator starts with a capability for each output");
        let events_cap = capabilities.pop().expect("an operator starts with a capability for each output");
        let mut caps = Some((events_cap, progress_cap));
        let mut scheduler = ReadScheduler::new(setup, wake_readers);
        let peers = scheduler.peers() as u32;
        let mut armed: Option<Instant> = None;
        move |_frontiers| {
            let Some((hold, progress_hold)) = &mut caps else { return false };
            let handed_over = handed_over.with_frontier(|frontier| frontier.first().copied());
            let activation = scheduler.activate(*hold.time(), handed_over);
            hold.downgrade(&activation.from);
            for batch in activation.events {
                events.activate().session(&*hold).give(batch);
            }
            for news in activation.source_progress {
                progress
                    .activate()
                    .session(&*progress_hold)
                    .give_iterator((0..peers).map(|worker| (worker, news.clone())));
            }
            match activation.next {
                Next::Again(time) => {
                    hold.downgrade(&time);
                    activator.activate();
                }
                Next::Wait(time, wait) => {
                    hold.downgrade(&time);
                    // A timer can't be taken back: another one is armed only where it goes off earlier.
                    let now = Instant::now();
                    if armed.is_none_or(|at| at <= now || at > now + wait) {
                        // Taken before it is armed: when it goes off, this has passed.
                        armed = Some(now + wait);
                        activator.activate_after(wait);
                    }
                }
                Next::Done => caps = None,
            }
            false
        }
    });
    (events_stream, progress_stream)
}
