//! The dataflow of one worker. Every worker builds the same operators for every job: audiences are data in *Membership*. Only the number of
//! streams of `updates` follows from the job's models.
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
//!  │             ▲ │ │ │
//!  │     updates └╪┘ │ │
//!  │   memberships   │ │ changes
//!  │                 │ ╪
//!  │                 ▼ ▼
//!  │           Members Deliver ──► sinks of the syncs
//!  │                 │ │
//!  └ handed_over ◄───┴─┘
//!
//!  │ stays on its worker    ╪ exchanged: events, rows and updates to the owner of the key; progress, verdicts and the marks that end a
//!  share of a pull to every worker; changes to worker 0 of the job    handed_over: a probe of both outputs, which Events polls: no edge
//! ```
//!
//! **Time** is the clock of the job in ms ([`crate::time::Time`]). Under `replay` it is the least clock of the
//! partitions that are not at their end, and the clock of a partition is the greatest timestamp read from it. Under
//! `run` it is that too until the job has read what was there at its start, and the wall clock from then on. Each
//! Events operator holds a capability at the clock of its own partitions and downgrades it, with or without events; the
//! least of all workers' is the clock of the job, and the frontier that Membership works by. An *epoch* is the span of ms between two frontiers that
//! Membership sees. It is worked through ms by ms: where a membership after a ms differs from that before it, there
//! is a change, at that ms. The timers of windows end them within an epoch, in order with the events.
//!
//! * **Events** decodes the messages of this worker's partitions and matches them to the events of the job. `events`:
//!   batches of matched events, each batch for one worker, the owner of their keys, by hash. A batch is sent at the
//!   clock; an event has its own timestamp in it. One that is earlier counts for what is left of its windows, and what changes
//!   by it changes at the clock; one that is later takes effect when the clock has come to it. `progress`: how far a partition
//!   was read, a copy for each worker: from these each worker decides whether the job has read what was there at its
//!   start. Events stops reading while more than 64 MiB of the events that this worker has emitted have times that
//!   are not handed over. What is read of files under replay and catch-up may be decoded by other workers of the process that have nothing left to
//!   read ([`crate::ingest::decoding`]), beside the graph; it is emitted here, in the order of the partition.
//! * **Snapshots** emits the rows of pulls, with the facts that follow from each, as threads have read and evaluated
//!   them. A *pull* is one reading of a model's files, its rows are the model's *snapshot* once it is in force; each
//!   reading thread reads a share of the files, and ends it with a mark to every worker. Rows have no time: Snapshots holds
//!   time 0 as long as the job runs, and the inputs of Membership that follow from it do not hold back the frontiers of
//!   its outputs (timely: they have no path summary to them).
//! * **Stage** keeps the rows of a pull, each at the owner of its key, until the marks of all shares are there. Then
//!   it emits this worker's part of the pull (`whole_pulls`), and its verdict (`verdicts`, a copy for each worker):
//!   good, or a share could not be read, or a key came twice; and how many of this worker's members would leave, which
//!   it finds in the state that it shares with Membership. Each Membership has the verdicts of all workers, so all
//!   come to the same, and puts its part in force at its own frontier then; where the rows count for keys of other workers,
//!   all agree on a time first. Under replay no event is applied before the first pulls are in force.
//! * **Membership** owns keys. A *slot* is the number of a key on its owner. A *fact* is a distinct condition, a bit
//!   per key; facts are decided by events in windows and by rows of pulls, audiences by facts ([`crate::state`]).
//!   `memberships`: `((audience, slot), time, ±1)`. `changes`: the same as entries and exits with their causes, keys
//!   and the keys' rows; at a start, the differences to the ledgers of the syncs, which were read before. It writes
//!   the index that lookups read (`usher_core::membership_index`), closed at the end of each epoch.
//!   `updates`: what a row says to a key of another worker. Where orders count whose own key meets a condition, the order's owner sends to the user's
//!   owner what the order adds ([`crate::state::contributions`]); a user shows the plan of its account: the account's owner sends it to the user's owner
//!   ([`crate::state::joins`]). As models belong to each other in no circle, there is one such stream for each step from
//!   model to model, and none in most jobs; an epoch ends when all have been worked off. This is a feedback edge of timely's.
//! * **Members** arranges the memberships: pages of members are read from the arrangement. A job without an API only counts them.
//! * **Deliver** buffers changes on worker 0 until the frontier shows that no worker has more of their time, and
//!   hands them to the sinks: a *sink* is the code that writes a sync, and commits to its ledger, on a thread of its own. Deliver's
//!   output carries nothing; its frontier is held while a sink has no room. So what is handed over may not be committed yet, but
//!   what waits to be committed is bounded.
//!
//! **Beside the graph.** [`ControlChannel`] is an exchange of messages between the worker loops (restore,
//! checkpoints, queries, shutdown), without time. Between two steps the worker loop reads the state that it shares
//! with Membership: checkpoints, explain. A checkpoint needs no common time: an event that is read again changes nothing,
//! because a window knows the events that count in it by their ids, so the positions from which to read are enough, if they are no
//! later than the state. Membership processes nothing until its state has been restored; then the loop wakes it. Members
//! is filled by Membership, not restored. Lookups and `/v1/changes` read the index, which keeps recent changes too, pages of
//! members the arrangement, explain the state.

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
    pub(crate) snapshots: Receiver<RowMessage>,
    pub(crate) stage: StageSetup,
    pub(crate) membership: MembershipSetup,
    pub(crate) deliver: DeliverSetup,
}

/// The handles that the worker loop keeps of its dataflow.
pub(crate) struct Graph {
    /// Its frontier is the time before which changes were handed to the sinks and memberships arranged, on all workers.
    pub(crate) handed_over: ProbeHandle<Time>,
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
    let handed_over = ProbeHandle::new();

    let (events, progress): (Stream<'scope, EventBatch>, Stream<'scope, (u32, SourceProgress)>) =
        events(scope, inputs.events, handed_over.clone());

    let (rows, wake_snapshots): (Stream<'scope, RowMessage>, SyncActivator) = snapshots(scope, inputs.snapshots);
    // Exchanged at Stage's input: rows to the owners of their keys, marks to every worker.
    let (whole_pulls, verdicts): (Stream<'scope, StagedPull>, Stream<'scope, Verdict>) = stage(rows, inputs.stage);

    let listed = inputs.membership.listed();

    // Exchanged at its inputs: `events`, `progress` and `verdicts`, each to the worker that it names. `whole_pulls` stays. Its `updates`
    // are a loop inside.
    let streams = MembershipInputs { events, progress, whole_pulls, verdicts };
    let MembershipOutputs { memberships, changes, wake: wake_membership } = membership(streams, inputs.membership);

    // Exchanged at Deliver's input: all changes, to worker 0. The probe has the lesser of both frontiers, over all workers.
    let changes: Stream<'scope, Outgoing> = changes;
    let members = members(memberships, listed, &handed_over);
    deliver(changes, inputs.deliver).probe_with(&handed_over);

    // Beside the graph: an exchange is a dataflow channel and needs a scope, but no operator above reads it.
    let control = ControlChannel::new(scope);

    Graph { handed_over, members, control, wake_snapshots, wake_membership }
}
