//! The whole program, from the outside: one binary of tests.

mod bad_input;
mod cli;
mod client;
mod golden;
mod kafka;
mod live;
mod oracle;
mod simulator;
mod support;
mod tidy;
