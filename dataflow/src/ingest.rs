//! Ingest: on the worker that reads them, messages become matched events and rows become facts.
//!
//! All that can be decided without the other state of a key is decided here, so that what no condition asks for never leaves
//! the worker. Batches travel, not events: [`event_batch`] and [`row_batch`] are what the dataflow carries.

pub(crate) mod advice;
pub(crate) mod decoding;
pub(crate) mod evaluate_rows;
pub(crate) mod event_batch;
pub(crate) mod known_rows;
pub(crate) mod match_events;
pub(crate) mod pace;
pub(crate) mod read_ahead;
pub(crate) mod reader;
pub(crate) mod row_batch;
pub(crate) mod seen;
pub(crate) mod watch;
