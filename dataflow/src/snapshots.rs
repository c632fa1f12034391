//! Snapshots: when models are pulled ([`schedule`]), and what became of it ([`history`]).

pub(crate) mod history;
pub(crate) mod schedule;
