//! Bytes in, bytes out: what implements the ports of [`usher_core`] against the world.
//!
//! | module | is |
//! |---|---|
//! | [`kafka`] | topics as sources, as destinations of changes, for dead letters. The only one that names `rdkafka` |
//! | [`registry`] | schemas that the messages of topics name |
//! | [`file`](mod@file) | files as sources: plain, compressed, followed |
//! | [`parquet`] | a model's Parquet, local or in an object store |
//! | [`messages`], [`writer`], [`outbox`] | how changes are written, and the syncs to files and to stdout |
//! | [`moved`] | ledgers that follow their syncs from one keeper to another |
//! | [`webhook`] | syncs by HTTP: an outlet of the outbox |
//! | [`dead_letters`] | files, topics and the log as places for bad messages |
//! | [`state_store`] | folders and buckets as stores of state |
//!
//! Nothing here knows what an audience is: rows are columns, changes are texts.

mod committed_rows;
pub mod dead_letters;
mod disk;
pub mod file;
pub mod kafka;
pub mod messages;
pub mod moved;
pub mod outbox;
pub mod parquet;
mod queued_writer;
pub mod registry;
pub mod state_store;
pub mod webhook;
pub mod writer;
