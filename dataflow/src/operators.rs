//! The operators: thin shells around what the other modules compute.
//!
//! ```text
//!  Read ──hits──────────────► Keep ──changes──► Deliver
//!    └────milestones────────►  ▲ └──memberships──► Members
//!  Pull ──rows──► Stage ──verdicts──┘
//! ```
//! Hits, milestones, rows and verdicts are exchanged; changes go to worker 0. Beside them, Bus carries letters. Their number
//! does not depend on the job's.

pub(crate) mod bus;
pub(crate) mod deliver;
pub(crate) mod keep;
pub(crate) mod members;
pub(crate) mod pull;
pub(crate) mod read;
pub(crate) mod stage;
