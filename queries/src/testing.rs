//! Jobs and histories for tests of this crate and of those that depend on it.
//!
//! Built for tests only: with the feature `testing`, which no binary enables.

pub mod fixtures;
pub mod generator;
