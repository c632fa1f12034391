//! A job file becomes a value.
//!
//! Pure: text in, [`Job`] or [`Problems`] out. Nothing here opens a file, reads the environment or knows
//! a clock; callers hand in the text and a function that looks variables up.

pub mod decimal;
pub mod duration;
pub mod job;
pub mod path;
pub mod problem;
pub mod size;

pub use decimal::Decimal;
pub use job::*;
pub use path::{Found, Path, Step};
pub use problem::{Place, Problem, Problems};
