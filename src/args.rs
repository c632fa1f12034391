//! The command line.

use crate::client::Connection;
use crate::terminal::LogFormat;
use crate::version;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use usher_config::Share;

/// An open realtime audience engine: who is in which audience, to the millisecond.
#[derive(Debug, Parser)]
#[command(
    name = "usher",
    version = env!("CARGO_PKG_VERSION"),
    long_version = version::text(),
    max_term_width = 100,
    after_help = "Exit codes: 0 done, or stopped by a signal; 1 failed while running; 2 wrong job or command line; 3 could not open something.\n\
                  Data goes to stdout, everything else to stderr. USHER_LOG sets the log level (default: info)."
)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a demo shop and print entries and exits live.
    ///
    /// Writes users and orders as Parquet and a growing file of Segment events to a temporary folder, and runs a job of
    /// seven audiences over them. Prints each change on stdout as a line of JSON, and totals on stderr once a second.
    Demo {
        /// How long to run, e.g. 30s or 2m (default: until Ctrl-C).
        #[arg(long = "for", value_name = "DURATION", value_parser = args_duration)]
        duration: Option<u64>,
        /// Worker threads.
        #[arg(short = 'w', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
        workers: u16,
    },
    /// Validate a job and print all problems at once, each with its line and column.
    ///
    /// Opens nothing, except the Parquet schema of models whose columns are not all declared.
    Check {
        /// The job file, or a plan.
        job: PathBuf,
        /// Also open every source, snapshot, sync and dead letter file, and the state store.
        #[arg(long)]
        connect: bool,
        /// Print the result on stdout as JSON: `{"ok": …, "problems": [{"file", "line", "column", "path", "message", "hint"}], "warnings": …}`, these alike.
        #[arg(long)]
        json: bool,
    },
    /// Write a job file from samples of events and tables.
    ///
    /// Events are files, folders, globs or `kafka://HOST:PORT/TOPIC`, tables are Parquet: they are distinguished by content. Without
    /// samples it writes a small shop with its data. Never overwrites.
    Init {
        /// Samples of events, and tables.
        #[arg(value_name = "FILE")]
        samples: Vec<String>,
        /// The job file to write.
        #[arg(short, long, value_name = "JOB", default_value = "job.yaml")]
        output: PathBuf,
    },
    /// Print what comes in: types, names, paths with counts and samples, and which events of the job match.
    ///
    /// SOURCE is the id of a source of JOB, else a file, folder, glob or `kafka://HOST:PORT/TOPIC`. `where` of events is not evaluated.
    /// Messages of a source with `unwrap` or `encoding` are shown as the job sees them.
    #[command(override_usage = "usher peek [OPTIONS] [JOB] SOURCE")]
    Peek {
        /// The job file or a plan (default: job.yaml), and the source.
        #[arg(value_name = "[JOB] SOURCE", num_args = 1..=2, required = true)]
        job_and_source: Vec<String>,
        /// Read so many messages at most.
        #[arg(long, value_name = "N", default_value_t = 10_000)]
        messages: usize,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Compile a job to a plan: one file that `run` and `replay` accept in place of the job.
    Compile {
        /// The job file.
        job: PathBuf,
        /// The file to write the plan to.
        #[arg(short, long, value_name = "PLAN")]
        output: PathBuf,
    },
    /// Print the plan as text: conditions, what they share, what state each holds.
    Explain {
        /// The job file, or a plan.
        job: PathBuf,
        /// Only this audience.
        audience: Option<String>,
    },
    /// Print what an edit of a job does before it is made: what is added, removed, changed or renamed, which windows are filled, and, with
    /// the state of the job that runs, how many members would enter and leave.
    ///
    /// Reads the state as of its last checkpoint, whether the job runs or not, and changes nothing. Without OLD the edit is compared
    /// with that state, or with the job at --url; with OLD and one of these, definitions are compared with OLD's.
    #[command(override_usage = "usher diff [OPTIONS] [OLD] NEW")]
    Diff {
        /// The job files, or plans, before the edit and after it.
        #[arg(value_name = "[OLD] NEW", num_args = 1..=2, required = true)]
        jobs: Vec<PathBuf>,
        /// The state of the job that runs (default, without OLD: that of NEW).
        #[arg(long, value_name = "URL")]
        state: Option<String>,
        /// The API of the job that runs, which then works it out; the key is in $USHER_API_KEY and needs `admin`.
        #[arg(long, value_name = "URL", conflicts_with = "state")]
        url: Option<String>,
        /// A file that contains a key of the API.
        #[arg(long, value_name = "FILE", requires = "url")]
        key_file: Option<PathBuf>,
        /// Also read the sources and the warehouse, as a start would: windows that are new count too.
        #[arg(long)]
        read: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// End with 1 if more than this share of an audience's members would leave in a sync, or if that is unknown, e.g. 5%.
        #[arg(long, value_name = "SHARE", value_parser = args_share)]
        max_exits: Option<Share>,
        /// Worker threads.
        #[arg(short = 'w', long, value_name = "N", default_value_t = 1, conflicts_with = "url", value_parser = clap::value_parser!(u16).range(1..=256))]
        workers: u16,
    },
    /// Run a job until a signal stops it.
    ///
    /// Resumes from the state of the last run. Several processes can run one job together: start each with the same
    /// job, -w,
    /// -n and host file, and its own -p.
    #[command(disable_help_flag = true)]
    Run {
        /// The job file, or a plan.
        job: PathBuf,
        /// Worker threads of each process.
        #[arg(short = 'w', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
        workers: u16,
        /// Number of processes.
        #[arg(short = 'n', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
        processes: u16,
        /// Number of this process, from 0.
        #[arg(short = 'p', long, value_name = "I", default_value_t = 0)]
        process: u16,
        /// A file with the address of each process, one `host:port` per line (default: localhost, from port 2101).
        ///
        /// Without a value, -h is help.
        #[arg(short = 'h', long = "hosts", value_name = "FILE")]
        hosts: Option<PathBuf>,
        /// Read a source from its start if it is not the one that the state has read (a topic that was recreated, a
        /// file that was truncated).
        #[arg(long)]
        restart_sources: bool,
        /// Drop the changes that wait for a sync that was removed from the job. May be given several times.
        #[arg(long = "drop-sync", value_name = "ID")]
        drop_syncs: Vec<String>,
        /// Where the state's clock is ahead of this machine's, go on from this machine's: changes are then dated before ones that were sent.
        #[arg(long)]
        clock_from_now: bool,
        /// How lines on stderr are written.
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
        log_format: LogFormat,
        /// Print help.
        #[arg(long, action = clap::ArgAction::Help)]
        help: Option<bool>,
    },
    /// Run a job over all that its sources hold now, in event time, and print every change.
    ///
    /// The same input and flags give the same bytes, for any number of workers. Writes to no sync and keeps no state.
    Replay {
        /// The job file, or a plan.
        job: PathBuf,
        /// Start of the clock: earlier events count, but their changes are not printed. RFC 3339 or Unix time.
        #[arg(long, value_name = "TIME", value_parser = args_time)]
        from: Option<u64>,
        /// End of the clock, inclusive.
        #[arg(long, value_name = "TIME", value_parser = args_time)]
        until: Option<u64>,
        /// Refuse events later than this plus `limits.future_skew` (default: the wall clock).
        #[arg(long, value_name = "TIME", value_parser = args_time)]
        now: Option<u64>,
        /// Worker threads.
        #[arg(short = 'w', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
        workers: u16,
        /// Write changes to this file, replacing it, instead of stdout.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Write messages that can't be read to this file, replacing it (default: samples in the log).
        #[arg(long, value_name = "FILE")]
        dead_letters: Option<PathBuf>,
        /// Write the totals to this file as JSON, replacing it.
        #[arg(long, value_name = "FILE")]
        summary: Option<PathBuf>,
        /// How lines on stderr are written.
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
        log_format: LogFormat,
    },
    /// Print the audiences that a key is in, from a running job.
    Lookup {
        /// The model's id.
        model: String,
        /// The key.
        key: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Print why a key is in audiences or not, from a running job: each condition with its value and threshold.
    Why {
        /// The model's id.
        model: String,
        /// The key.
        key: String,
        /// Only this audience.
        audience: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Print the members of an audience of a running job, one a line.
    Members {
        /// The audience's id.
        audience: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Print how the syncs of a running job stand, or pause, resume and test one, and see to its dead letters.
    #[command(args_conflicts_with_subcommands = true)]
    Syncs {
        #[command(subcommand)]
        order: Option<SyncOrder>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Make a running job pull a model now.
    ///
    /// Does nothing if no file has changed since the last good pull. Returns when the job has accepted the pull, not when the
    /// pull is done.
    Pull {
        /// The model's id.
        model: String,
        /// Read all files, changed or not.
        #[arg(long)]
        full: bool,
        /// Take the pull whatever `max_exits` and `min_rows` say: one that was held is pulled anew.
        #[arg(long)]
        accept: bool,
        /// Wait for the pull's end; exit code 1 if it fails or is held.
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Start the ledger of a sync anew at the next start of the job: all members are then sent again.
    ///
    /// For a destination that was created anew or has lost what was sent, and for a ledger that is gone or older than the state.
    #[command(override_usage = "usher resend [JOB] SYNC")]
    Resend {
        /// The job file or a plan (default: job.yaml), and the sync's id.
        #[arg(value_name = "[JOB] SYNC", num_args = 1..=2, required = true)]
        job_and_sync: Vec<String>,
    },
    /// Work on the state of a stopped job.
    State {
        #[command(subcommand)]
        command: StateCommand,
    },
    /// Print the audiences, models and syncs of a running job.
    Status {
        #[command(flatten)]
        connection: Connection,
    },
    /// Print a script that completes usher's command line.
    ///
    /// For bash: `source <(usher completions bash)`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the JSON Schema of the job file.
    Schema,
}

/// An order to a sync of a running job.
#[derive(Debug, Subcommand)]
pub enum SyncOrder {
    /// Send nothing until it is resumed, after restarts too.
    Pause {
        /// The sync's id.
        sync: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// End a pause and all waiting: it sends at once.
    Resume {
        /// The sync's id.
        sync: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Send an example now, whatever the state: an entry of the key `usher-test`. Exit code 1 if it is not taken.
    Test {
        /// The sync's id.
        sync: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Print the last attempts, the newest first.
    Attempts {
        /// The sync's id.
        sync: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Print dead letters, the oldest first.
    DeadLetters {
        /// The sync's id.
        sync: String,
        /// How many at most, to 1000.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// Where to go on: what the page before has printed.
        #[arg(long, default_value = "")]
        cursor: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Send dead letters again.
    Redeliver {
        #[command(flatten)]
        selection: DeadLetterSelection,
        /// Send those too of which a later change of the audience and key was delivered (default: they are superseded).
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Drop dead letters. They stay counted.
    Drop {
        #[command(flatten)]
        selection: DeadLetterSelection,
        #[command(flatten)]
        connection: Connection,
    },
}

/// Which dead letters of a sync: some ids, those of an audience, or all.
#[derive(Debug, clap::Args)]
pub struct DeadLetterSelection {
    /// The sync's id.
    pub sync: String,
    /// Those with these ids.
    #[arg(
        value_name = "ID",
        required_unless_present_any = ["audience", "all"],
        conflicts_with_all = ["audience", "all"]
    )]
    pub ids: Vec<String>,
    /// Those of this audience.
    #[arg(long, value_name = "AUDIENCE", conflicts_with = "all")]
    pub audience: Option<String>,
    /// All of them.
    #[arg(long)]
    pub all: bool,
}

/// What can be done with state.
#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// Read all of a stopped job's state, as a start would, and print what it holds.
    ///
    /// Ends with 3 if something is missing or damaged. Ledgers in topics are not read.
    Verify {
        /// Where the state is: `state.url` of the job; a folder is relative to the working folder.
        url: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

impl Command {
    /// Returns how lines on stderr are written.
    pub fn log_format(&self) -> LogFormat {
        match self {
            Command::Run { log_format, .. } | Command::Replay { log_format, .. } => *log_format,
            _ => LogFormat::Text,
        }
    }
}

impl Args {
    /// Reads the command line; prints what is wrong with it, or help, and ends the process.
    pub fn of_process() -> Args {
        Args::parse_from(with_help(std::env::args_os()))
    }
}

/// Returns the arguments with `run -h` as `run --help` where no value follows: with a value it is timely's host file.
fn with_help(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<OsString> = args.collect();
    let is_run = args.get(1).is_some_and(|command| command == "run");
    for at in 2..args.len() {
        let value = args.get(at + 1);
        let has_value = value.is_some_and(|value| !value.as_encoded_bytes().starts_with(b"-"));
        if is_run && args[at] == "-h" && !has_value {
            args[at] = "--help".into();
        }
    }
    args
}

fn args_duration(text: &str) -> Result<u64, String> {
    usher_config::duration::parse(text).map_err(|error| error.to_string())
}

fn args_share(text: &str) -> Result<Share, String> {
    Share::parse(text).ok_or_else(|| "a share is a percentage, like `5%` or `0.5%`".to_owned())
}

fn args_time(text: &str) -> Result<u64, String> {
    usher_core::time::parse_setting(text).ok_or_else(|| {
        "a time is RFC 3339, like 2026-11-23T10:00:00Z, or Unix time in seconds or ms, from 1970 on".to_owned()
    })
}
