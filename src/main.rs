//! usher: an open realtime audience engine.
//!
//! Thin: the command line becomes a call into the libraries, and what they return becomes output and an exit code. Only
//! this package uses the command line, the terminal, signals and the wall clock.

mod api;
mod args;
mod client;
mod commands;
mod exit;
mod foresee;
mod open;
mod overwrite;
mod profile;
mod sample;
mod schemas;
mod supervise;
mod terminal;
mod version;

use std::process::ExitCode;

/// jemalloc asks the kernel for huge pages (`.cargo/config.toml`), which takes a tenth off what an event costs among a million keys (docs/CAPACITY.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    exit::end_process_on_panic();
    let args = args::Args::of_process();
    terminal::log_to_stderr(args.command.log_format());
    open::raise_limit_of_files();
    open::reserve_for_tables();
    match commands::run(args.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => exit.report(),
    }
}
