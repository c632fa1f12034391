//! What an audience means.
//!
//! Pure: a job becomes a [`plan::Plan`]; predicates are evaluated on one event or on a batch of rows; the oracle
//! says from scratch who belongs. Nothing here opens a file, reads a clock or keeps state.

pub mod aggregate;
pub mod coerce;
pub mod compile;
pub mod explain;
pub mod oracle;
pub mod plan;
pub mod plan_file;
pub mod predicate;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
pub mod value;

pub use compile::conditions;
pub use compile::{Schemas, check_predicates, compile, needs_schema};
pub use value::Value;
