//! One file per command, and the dispatch to them.

mod check;
mod compile;
mod demo;
mod diff;
mod explain;
mod init;
mod lookup;
mod members;
mod peek;
mod pull;
mod replay;
mod resend;
mod run;
mod state;
mod status;
mod syncs;
mod why;

pub use run::audiences;
pub use state::folders;

use crate::args::{Args, Command, StateCommand};
use crate::client::Connection;
use crate::exit::Exit;
use clap::CommandFactory;
use std::io::Write;

/// Runs a command.
pub fn run(command: Command) -> Result<(), Exit> {
    match command {
        Command::Demo { duration, workers } => demo::demo(duration, usize::from(workers)),
        Command::Check { job, connect, json } => check::check(&job, connect, json),
        Command::Init { samples, output } => init::init(&samples, &output),
        Command::Peek { job_and_source, messages, json } => {
            let flags = peek::Flags { messages, json };
            match &job_and_source[..] {
                [job, source] => peek::peek(Some(job.as_ref()), source, flags),
                [source] => peek::peek(None, source, flags),
                _ => unreachable!("the command line has one or two of them"),
            }
        }
        Command::Compile { job, output } => compile::compile(&job, &output),
        Command::Explain { job, audience } => explain::explain(&job, audience.as_deref()),
        Command::Diff { jobs, state, url, key_file, read, json, max_exits, workers } => {
            let api = url.map(|url| Connection { url: Some(url), key_file, json });
            let flags = diff::Flags { state, api, read, json, max_exits, workers: usize::from(workers) };
            match &jobs[..] {
                [old, new] => diff::diff(Some(old), new, &flags),
                [new] => diff::diff(None, new, &flags),
                _ => unreachable!("the command line has one or two of them"),
            }
        }
        Command::Run {
            job, workers, processes, process, hosts, restart_sources, drop_syncs, clock_from_now, ..
        } => {
            let (workers, processes, process) = (usize::from(workers), usize::from(processes), usize::from(process));
            let flags = run::Flags { workers, processes, process, hosts, restart_sources, drop_syncs, clock_from_now };
            run::run(&job, &flags)
        }
        Command::Replay { job, from, until, now, workers, out, dead_letters, summary, .. } => {
            let workers = usize::from(workers);
            replay::replay(&job, replay::Flags { from, until, now, workers, out, dead_letters, summary })
        }
        Command::Lookup { model, key, connection } => lookup::lookup(&connection, &model, &key),
        Command::Pull { model, full, accept, wait, connection } => {
            pull::pull(&connection, &model, pull::Flags { full, accept, wait })
        }
        Command::Resend { job_and_sync } => match &job_and_sync[..] {
            [job, sync] => resend::resend(job.as_ref(), sync),
            [sync] => resend::resend("job.yaml".as_ref(), sync),
            _ => unreachable!("the command line has one or two of them"),
        },
        Command::State { command: StateCommand::Verify { url, json } } => state::verify(&url, json),
        Command::Why { model, key, audience, connection } => why::why(&connection, &model, &key, audience.as_deref()),
        Command::Members { audience, connection } => members::members(&connection, &audience),
        Command::Syncs { order: None, connection } => syncs::syncs(&connection),
        Command::Syncs { order: Some(order), .. } => syncs::order(order),
        Command::Status { connection } => status::status(&connection),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "usher", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Command::Schema => {
            let schema = serde_json::to_string_pretty(&usher_config::schema()).expect("a schema is JSON");
            print(&format!("{schema}\n"))
        }
    }
}

/// Returns a count with its noun: `1 audience`, `3 audiences`.
fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Writes data to stdout; a reader may close it early.
fn print(text: &str) -> Result<(), Exit> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Exit::failed(format_args!("stdout can't be written: {error}")))
        }
        _ => Ok(()),
    }
}
