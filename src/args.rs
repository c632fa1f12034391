//! What can be typed.

use crate::client::Connection;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// An open realtime audience engine: who is in which audience, right to the millisecond.
#[derive(Debug, Parser)]
#[command(
    name = "usher",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 done or stopped by a signal; 1 failed while running; 2 the job or the command line is wrong; 3 could not be opened.\nData goes to stdout, everything else to stderr. USHER_LOG sets what is logged (default: info)."
)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a small shop up and show people entering and leaving audiences as it happens.
    ///
    /// Writes users and orders as Parquet and a live file of Segment events to a temporary folder, and runs five audiences
    /// over them. Changes go to stdout, one JSON object a line; totals to stderr, one line a second.
    Demo {
        /// How long, e.g. 30s or 2m; without it, until Ctrl-C.
        #[arg(long = "for", value_name = "DURATION", value_parser = args_duration)]
        duration: Option<u64>,
        /// Worker threads.
        #[arg(short = 'w', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
        workers: u16,
    },
    /// Validate a job: all problems at once, each with its place.
    ///
    /// Of the world it reads only the schema of models whose columns are not all declared.
    Check {
        /// The job file, or a plan.
        job: PathBuf,
        /// Also open every source, snapshot and sync.
        #[arg(long)]
        connect: bool,
    },
    /// Compile a job to one file that `run` and `replay` take in its place.
    Compile {
        /// The job file.
        job: PathBuf,
        /// Where the plan goes.
        #[arg(short, long, value_name = "PLAN")]
        output: PathBuf,
    },
    /// Show the plan as text: conditions, what they share, what state each holds.
    Explain {
        /// The job file, or a plan.
        job: PathBuf,
        /// Only this audience.
        audience: Option<String>,
    },
    /// Run a job until told to stop.
    ///
    /// Goes on from what an earlier run left in the job's state. Several processes run one job together: each is started with
    /// the same job, -w, -n and host file, and a -p of its own.
    #[command(disable_help_flag = true)]
    Run {
        /// The job file, or a plan.
        job: PathBuf,
        /// Worker threads of each process.
        #[arg(short = 'w', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
        workers: u16,
        /// How many processes there are.
        #[arg(short = 'n', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
        processes: u16,
        /// Which of them this one is, from 0.
        #[arg(short = 'p', long, value_name = "I", default_value_t = 0)]
        process: u16,
        /// A file with the address of each process, `host:port` a line (default: localhost, from port 2101 on).
        #[arg(short = 'h', long = "hosts", value_name = "FILE")]
        hosts: Option<PathBuf>,
        /// Where a source is not what the state has read (a topic made anew, a file that was cut), read it from its start.
        #[arg(long)]
        restart_sources: bool,
        /// Print help.
        #[arg(long, action = clap::ArgAction::Help)]
        help: Option<bool>,
    },
    /// Run a job over what its sources hold, by the events' own time, and print every change.
    ///
    /// Same input and flags, same bytes, for any number of workers. Syncs are not touched.
    Replay {
        /// The job file, or a plan.
        job: PathBuf,
        /// Where the clock starts; what is earlier is history. RFC 3339 or ms since the epoch.
        #[arg(long, value_name = "TIME", value_parser = args_time)]
        from: Option<u64>,
        /// Where it ends, inclusive.
        #[arg(long, value_name = "TIME", value_parser = args_time)]
        until: Option<u64>,
        /// Events later than this plus the skew are of the future and refused (default: the wall clock).
        #[arg(long, value_name = "TIME", value_parser = args_time)]
        now: Option<u64>,
        /// Worker threads.
        #[arg(short = 'w', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
        workers: u16,
        /// Write to this file, replacing it, instead of stdout.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Ask a running job which audiences a key is in.
    Lookup {
        /// The model's id.
        model: String,
        /// The key.
        key: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Have a running job pull a model now.
    ///
    /// Files that did not change are skipped. Returns when the pull is accepted, not when it is done.
    Pull {
        /// The model's id.
        model: String,
        /// Read all files.
        #[arg(long)]
        full: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Ask a running job how it stands: audiences, models, syncs.
    Status {
        #[command(flatten)]
        connection: Connection,
    },
    /// Print the JSON Schema of the job file.
    Schema,
}

fn args_duration(text: &str) -> Result<u64, String> {
    usher_config::duration::parse(text).map_err(|error| error.to_string())
}

fn args_time(text: &str) -> Result<u64, String> {
    let time = match text.parse::<i64>() {
        Ok(ms) => Some(ms),
        Err(_) => usher_queries::time::parse_timestamp(text),
    };
    time.and_then(|ms| u64::try_from(ms).ok())
        .ok_or_else(|| "a time is RFC 3339, like 2026-11-23T10:00:00Z, or ms since the epoch, from 1970 on".to_owned())
}
