//! Bytes in, bytes out.

pub mod dead_letters;
pub mod file;
pub mod sink;
pub mod source;
