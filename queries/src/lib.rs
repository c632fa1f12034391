//! What an audience means.
//!
//! Pure: a job becomes a [`plan::Plan`]; predicates are evaluated on one event or on a batch of rows; the oracle works
//! out from scratch who belongs. Nothing here opens a file, reads a clock or keeps state.
//!
//! | module | contents |
//! |---|---|
//! | [`mod@compile`] | a job becomes a plan |
//! | `lint` | what of a sound job is probably not meant |
//! | [`plan`], [`plan_file`], [`explain`] | the plan: as data, as bytes, as text |
//! | [`predicate`] | SQL expressions, typed and evaluated |
//! | [`coerce`], [`value`] | values of messages and rows; their times are read by [`time`] |
//! | [`aggregate`] | `count`, `sum`, `avg`, `min`, `max`, `distinct` over related rows |
//! | [`oracle`] | the definition of correct, which the engine is tested against |
//! | `testing` | jobs and histories for tests, with the feature `testing` only |

pub mod aggregate;
pub mod coerce;
pub mod compile;
pub mod diff;
pub mod explain;
mod expr;
mod lint;
pub mod missing;
#[cfg(any(test, feature = "testing"))]
pub mod oracle;
pub mod plan;
pub mod plan_file;
pub mod predicate;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod value;

pub use compile::conditions;
pub use compile::{Schemas, check_salvage, compile, needs_schema, salvage_needs_schema};
pub use lint::warnings;
pub use usher_core::time;
pub use value::{StoredValue, Value};
