//! How membership is kept: the one crate that names timely and differential dataflow.
//!
//! [`run`] takes a job with everything opened and runs it on worker threads. Read `graph.rs` first: it is the whole dataflow.
//!
//! ```text
//!  run        starts the workers, joins them, finishes the sinks      worker     one worker's loop between steps
//!  graph      the dataflow, and nothing else                          operators  its operators: thin shells
//!  ingest     messages → matched events, rows → facts                 state      keys: windows, properties, evaluation
//!  control    messages between workers: start, checkpoints, queries   checkpoint what a job resumes from
//!  snapshots  when models are pulled, and what became of it           api        what the HTTP edge asks
//!  cluster    several processes, and their heartbeat                  opened, status, failure: what comes in, what comes out
//! ```

mod api;
mod checkpoint;
mod clock_watch;
mod cluster;
mod control;
mod failure;
mod graph;
mod ingest;
mod opened;
mod operators;
mod run;
mod snapshots;
mod start_difference;
mod state;
mod status;
mod time;
mod worker;

pub use api::{ApiSetup, JobApi};
pub use checkpoint::{
    ClaimError, ManifestError, ModelContent, PartitionContent, StateBefore, StateContent, before, claim, job_before,
    note_moved, noted_positions, verify,
};
pub use cluster::{Cluster, ClusterError, Peers, connect};
pub use failure::{Failure, FailureKind};
pub use ingest::evaluate_rows::wanted;
pub use opened::{OpenedJob, Purpose, Recovery};
pub use run::run;
pub use start_difference::{AudienceDifference, StartDifference, StartSample};
pub use state::deciding::Deciding;
pub use state::room::reserve_for_tables;
pub use status::{Checkpoints, Status, Transitions};
pub use time::{Span, Time};
