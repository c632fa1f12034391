//! The whole program, from the outside: one binary of tests.

// What a test reached, and what it could not do here, is said.
#![allow(clippy::print_stdout)]

mod api;
mod bad_input;
mod cli;
mod client;
mod cluster;
mod golden;
mod kafka;
mod kills;
mod live;
mod oracle;
mod process;
mod recovery;
mod refusals;
mod served;
mod shop;
mod simulator;
mod support;
mod tidy;
