//! The edge: where bytes and rows become hits and facts, on the worker that read them.
//!
//! Everything that can be decided without knowing what else there is of a key is decided here, so that what no
//! condition asks for never leaves the worker.

pub(crate) mod messages;
pub(crate) mod rows;
