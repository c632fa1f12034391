//! Bytes in, bytes out.

pub mod formats;
