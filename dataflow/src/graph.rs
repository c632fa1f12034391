//! The dataflow of one worker. Every worker builds the same graph for every job: audiences are data in *Membership*.
//!
//! ```text
//!    partitions of this worker           threads of this worker that read and evaluate rows
//!                 │ messages                             │ RowMessage
//!                 ▼                                      ▼
//!  ┌──────────► Events                               Snapshots
//!  │       events │ │ progress                           │ rows
//!  │              ╪ ╪                                    ╪
//!  │              │ │                                    ▼
//!  │              │ │                                  Stage
//!  │              │ │                       whole_pulls │ │ verdicts
//!  │              │ │         ┌─────────────────────────┘ ╪
//!  │              ▼ ▼         ▼                           │
//!  │            Membership ◄──────────────────────────────┘
//!  │   memberships │ │ changes
//!  │               │ ╪
//!  │               ▼ ▼
//!  │         Members Deliver ──► sinks of the syncs
//!  │               │ │
//!  └── committed ◄─┴─┘
//!
//!  │ stays on its worker    ╪ exchanged: events and rows to the owner of the key, progress and verdicts to every
//!  worker, changes to worker 0    ◄── committed: a probe that Events reads, no loop of timely's
//! ```
//!
//! **Time** is the clock of the job in ms ([`crate::time::Time`]), live the wall clock, under replay the least clock
//! of the partitions that are not at their end. Each Events operator holds a capability at its clock and downgrades
//! it, with or without events; the least of all workers' is the frontier of `events` and `progress`, by which Membership
//! works. An *epoch* is what it works on between two advances of that frontier; timers of windows fire by it.
//!
//! * **Events** decodes the messages of this worker's partitions and matches them to the events of the job. `events`:
//!   batches of matched events, each for the owner of its keys. `progress`: how far a partition was read, to every
//!   worker, each of which decides by it when the job is live. Events stops reading while more than 64 MiB of the
//!   events that it has emitted lie between its clock and `committed`.
//! * **Snapshots** emits the rows of pulls, with the facts that follow from each, as threads have read and evaluated
//!   them. A *pull* is one reading of a model's files; each worker reads a share of the files.
//! * **Stage** keeps the rows of a pull, each at the owner of its key, until all workers have read their shares.
//!   `verdicts`: of each worker, for every worker, whether its part of the pull is complete. `whole_pulls`: the part of
//!   this worker's keys. Membership puts a pull in force when the verdicts of all workers are good, at the time of its
//!   frontier then. It does not wait for the frontiers of these two streams, so rows hold no time back.
//! * **Membership** owns keys. A *slot* is the number of a key on its owner. Facts (one bit per key and condition)
//!   are decided by events in windows and by rows of pulls, audiences by facts ([`crate::state`]). `memberships`:
//!   `((audience, slot), time, ±1)`. `changes`: the same as entries and exits with their causes, keys and rows, and,
//!   at a start, the differences to the syncs' ledgers, which were read before. It writes the index that lookups read (`usher_core::membership_index`), closed at the end of
//!   each epoch.
//! * **Members** arranges the memberships: pages of members are read from the arrangement.
//! * **Deliver** buffers changes on worker 0 until the frontier shows that no worker has more of their time, and hands
//!   them to the sinks, which commit them to the ledgers on threads of their own. It holds its output's frontier while
//!   a sink has no room.
//!
//! **Beside the graph.** [`ControlChannel`] is an exchange of messages between the worker loops (restore,
//! checkpoints, queries, shutdown), without time. Between two steps the worker loop reads the state that it shares
//! with Membership: checkpoints, explain. State is restored before Membership is first woken; Members is filled by
//! Membership, not restored. The HTTP edge reads the index, and asks worker loops for the rest.

use crate::ingest::event_batch::EventBatch;
use crate::ingest::reader::{ReaderSetup, SourceProgress};
use crate::operators::control::ControlChannel;
use crate::operators::deliver::{DeliverSetup, Outgoing, deliver};
use crate::operators::events::events;
use crate::operators::members::{Members, members};
use crate::operators::membership::{MembershipInputs, MembershipOutputs, MembershipSetup, membership};
use crate::operators::snapshots::{RowMessage, snapshots};
use crate::operators::stage::{StageSetup, StagedPull, Verdict, stage};
use crate::time::Time;
use std::sync::mpsc::Receiver;
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::probe::Handle as ProbeHandle;
use timely::dataflow::{Scope, StreamVec};
use timely::scheduling::{Activator, SyncActivator};

/// What the operators of a worker are built from, one field for each operator that needs something.
pub(crate) struct Inputs {
    pub(crate) events: ReaderSetup,
    pub(crate) rows: Receiver<RowMessage>,
    pub(crate) stage: StageSetup,
    pub(crate) membership: MembershipSetup,
    pub(crate) deliver: DeliverSetup,
}

/// The handles that the worker loop keeps of its dataflow.
pub(crate) struct Graph {
    /// Its frontier is the time before which changes were handed to the sinks and memberships arranged, on all workers.
    pub(crate) committed: ProbeHandle<Time>,
    pub(crate) members: Members,
    pub(crate) control: ControlChannel,
    /// Wakes *Snapshots* from the threads that read rows.
    pub(crate) wake_snapshots: SyncActivator,
    /// Wakes *Membership* from this worker's loop, when its state has been restored.
    pub(crate) wake_membership: Activator,
}

/// Builds the dataflow of one worker.
pub(crate) fn build<'scope>(scope: Scope<'scope, Time>, inputs: Inputs) -> Graph {
    type Stream<'scope, Record> = StreamVec<'scope, Time, Record>;
    let committed = ProbeHandle::new();
    let control = ControlChannel::new(scope);

    let (events, progress): (Stream<'scope, EventBatch>, Stream<'scope, (u32, SourceProgress)>) =
        events(scope, inputs.events, committed.clone());

    let (rows, wake_snapshots): (Stream<'scope, RowMessage>, SyncActivator) = snapshots(scope, inputs.rows);
    let (whole_pulls, verdicts): (Stream<'scope, StagedPull>, Stream<'scope, Verdict>) = stage(rows, inputs.stage);

    let streams = MembershipInputs { events, progress, pulls: whole_pulls, verdicts };
    let MembershipOutputs { memberships, changes, wake: wake_membership } = membership(streams, inputs.membership);

    let changes: Stream<'scope, Outgoing> = changes;
    let members = members(memberships, &committed);
    deliver(changes, inputs.deliver).probe_with(&committed);

    Graph { committed, members, control, wake_snapshots, wake_membership }
}
