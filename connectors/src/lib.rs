//! Bytes in, bytes out.
//!
//! Sources of messages, their wire formats, snapshots of the warehouse, and sinks of changes. Nothing here knows what an
//! audience is: messages are handed out as values at paths, rows as columns.

pub mod dead_letters;
mod disk;
pub mod file;
pub mod formats;
pub mod kafka;
pub mod published;
pub mod serve;
pub mod sink;
pub mod snapshot;
pub mod source;
pub mod store;
