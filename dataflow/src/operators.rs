//! The operators: thin shells, each around what another module computes. [`crate::graph`] connects them.

pub(crate) mod control;
pub(crate) mod deliver;
pub(crate) mod events;
pub(crate) mod members;
pub(crate) mod membership;
pub(crate) mod snapshots;
pub(crate) mod stage;
