//! How membership is kept: the one crate that names timely and differential dataflow.
//!
//! [`run`] takes a job with everything opened and runs it on worker threads. Messages and rows become hits and facts at
//! the edge, cross to the worker that owns their key, and become changes of membership there.

mod checkpoint;
mod cluster;
mod desk;
mod edge;
mod engine;
mod hits;
mod job;
mod keeper;
mod keys;
mod letters;
mod operators;
mod pulls;
mod rows;
mod run;
mod time;

pub use checkpoint::{ClaimError, ManifestError, claim};
pub use cluster::{ClusterError, Peers, connect};
pub use edge::rows::wanted;
pub use engine::{ApiSetup, JobApi};
pub use job::{Checkpoints, Cluster, Failure, FailureKind, OpenedJob, Recovery, Status, Turns};
pub use keeper::Span;
pub use run::run;
pub use time::Time;
