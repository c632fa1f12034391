//! The whole program, from the outside: one binary of tests.

// What a test reached, and what it could not do here, is stderr.
#![allow(clippy::print_stdout)]

mod advice;
mod api;
mod api_oracle;
mod bad_input;
mod cli;
mod client;
mod cluster;
mod cookbook;
mod destinations;
mod diff;
mod envelopes;
mod event_aggregates;
mod golden;
mod init;
mod kafka;
mod kills;
mod live;
mod metrics;
mod one_file;
mod oracle;
mod parents;
mod recovery;
mod reference;
mod refusals;
mod related;
mod sequences;
mod simulator;
mod sync_rows;
mod support {
    //! What suites share: the program as a process, a shop that it runs on, rows of Parquet, a simulated world.

    pub mod process;
    pub mod receiver;
    pub mod rows;
    pub mod shop;
    pub mod world;
}
mod tidy;
mod traits;
mod webhooks;
