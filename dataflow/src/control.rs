//! What workers agree on beside the data: how a run starts, its checkpoints, what the API asks, how a run ends.

pub(crate) mod message;
pub(crate) mod queries;
pub(crate) mod restore;
