//! The dataflow, and nothing else: every worker builds this graph, whatever the job.
//!
//! ```text
//!  partitions ─► Events ──batches of matched events──┐ exchanged by key
//!                  └───────source progress───────────┤
//!                                                    ▼
//!                                               Membership ─► memberships: (audience, slot), by difference ─► Members
//!                                                    ▲   └──► changes: the same with cause and texts ────────► Deliver ─► sinks
//!                  ┌────whole pulls, verdicts────────┘
//!  pulls ──► Snapshots ──rows, exchanged by key──► Stage
//! ```
//!
//! *Events* reads this worker's partitions and matches messages to the events of the job; its frontier is the clock. *Snapshots*
//! passes on rows that threads have read and evaluated. *Stage* holds a pull back until it is whole on all workers.
//! *Membership* owns keys: facts that events decide in windows, facts that pulls decide, and the audiences that follow from both
//! ([`crate::state`]); it writes the index that lookups read. *Members* is differential's arrangement of the memberships: pages
//! and sizes seek in it. *Deliver*, on worker 0, hands each finished epoch to the sinks; its frontier is what has been handed
//! over, and feeds back to *Events*: what is slow downstream waits in the sources. Beside the data, a [`ControlChannel`] carries
//! messages between workers.
//!
//! The number of operators does not depend on the job: its audiences are data in *Membership*.

use crate::ingest::reader::ReaderSetup;
use crate::operators::control::ControlChannel;
use crate::operators::deliver::{DeliverSetup, deliver};
use crate::operators::events::events;
use crate::operators::members::{Members, members};
use crate::operators::membership::{MembershipInputs, MembershipOutputs, MembershipSetup, membership};
use crate::operators::snapshots::{RowMessage, snapshots};
use crate::operators::stage::{StageSetup, stage};
use crate::time::Time;
use std::sync::mpsc::Receiver;
use timely::dataflow::Scope;
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::probe::Handle as ProbeHandle;
use timely::scheduling::{Activator, SyncActivator};

/// What the operators of a worker need.
pub(crate) struct Inputs {
    pub(crate) events: ReaderSetup,
    pub(crate) rows: Receiver<RowMessage>,
    pub(crate) stage: StageSetup,
    pub(crate) membership: MembershipSetup,
    pub(crate) deliver: DeliverSetup,
}

/// What a worker holds of its dataflow.
pub(crate) struct Graph {
    /// Its frontier is the time before which all changes have been handed to the sinks, and arranged.
    pub(crate) committed: ProbeHandle<Time>,
    pub(crate) members: Members,
    pub(crate) control: ControlChannel,
    /// Wakes *Snapshots* from the threads that read rows.
    pub(crate) wake_snapshots: SyncActivator,
    /// Wakes *Membership* when its state has been restored.
    pub(crate) wake_membership: Activator,
}

/// Builds the dataflow of one worker.
pub(crate) fn build(scope: Scope<'_, Time>, inputs: Inputs) -> Graph {
    let committed = ProbeHandle::new();
    let control = ControlChannel::new(scope);

    let (events, progress) = events(scope, inputs.events, committed.clone());
    let (rows, wake_snapshots) = snapshots(scope, inputs.rows);
    let (pulls, verdicts) = stage(rows, inputs.stage);
    let inputs_of_membership = MembershipInputs { events, progress, pulls, verdicts };
    let MembershipOutputs { memberships, changes, wake } = membership(inputs_of_membership, inputs.membership);
    let members = members(memberships, &committed);
    deliver(changes, inputs.deliver).probe_with(&committed);

    Graph { committed, members, control, wake_snapshots, wake_membership: wake }
}
