//! Snapshots: when models are pulled ([`schedule`]), what became of it ([`history`]), and why one is not taken ([`refusal`]).

pub(crate) mod history;
pub(crate) mod refusal;
pub(crate) mod schedule;
