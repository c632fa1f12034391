//! Bytes in, bytes out.

pub mod snapshot;
