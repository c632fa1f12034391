//! Every way to end badly: the one file that knows all errors, and turns them into a message, a hint and an exit code.

use crate::terminal::{alarm, say};
use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;
use usher_config::Problems;
use usher_core::sink::SinkError;
use usher_core::source::SourceError;
use usher_core::store::StoreError;
use usher_core::warehouse::SnapshotError;
use usher_dataflow::{ClaimError, ClusterError, Failure, FailureKind};
use usher_serve::ServeError;

/// Failed while running.
const FAILED: u8 = 1;
/// The job or the command line is wrong.
const WRONG: u8 = 2;
/// Could not open.
const CLOSED: u8 = 3;

/// An end that is not a success.
#[derive(Debug)]
pub struct Exit {
    code: u8,
    message: String,
    hint: Option<String>,
}

impl Exit {
    fn new(code: u8, message: impl Display) -> Exit {
        Exit { code, message: message.to_string(), hint: None }
    }

    /// The job or the command line is wrong.
    pub fn wrong(message: impl Display) -> Exit {
        Exit::new(WRONG, message)
    }

    /// Something could not be opened.
    pub fn not_opened(message: impl Display) -> Exit {
        Exit::new(CLOSED, message)
    }

    /// Something failed on the way.
    pub fn failed(message: impl Display) -> Exit {
        Exit::new(FAILED, message)
    }

    /// Says what to do.
    pub fn hint(mut self, hint: impl Into<Option<String>>) -> Exit {
        self.hint = hint.into();
        self
    }

    /// Tells the user, and the shell.
    pub fn report(self) -> ExitCode {
        if !self.message.is_empty() {
            say(format_args!("{} {}", alarm("error:"), self.message.trim_end()));
        }
        if let Some(hint) = self.hint {
            say(format_args!("hint: {hint}"));
        }
        ExitCode::from(self.code)
    }
}

impl From<Problems> for Exit {
    fn from(problems: Problems) -> Exit {
        let count = problems.problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        Exit::wrong(format_args!("{count} {noun} in `{}`\n{problems}", problems.file))
    }
}

impl From<SnapshotError> for Exit {
    fn from(error: SnapshotError) -> Exit {
        Exit::not_opened(error.message()).hint(error.hint)
    }
}

impl From<SourceError> for Exit {
    fn from(error: SourceError) -> Exit {
        let hint = error.hint();
        Exit::not_opened(error).hint(hint.to_owned())
    }
}

impl From<StoreError> for Exit {
    fn from(error: StoreError) -> Exit {
        let hint = error.hint();
        Exit::not_opened(error).hint(hint.to_owned())
    }
}

impl From<ClaimError> for Exit {
    fn from(error: ClaimError) -> Exit {
        let hint = error.hint();
        Exit::not_opened(error).hint(hint.to_owned())
    }
}

impl From<ClusterError> for Exit {
    fn from(error: ClusterError) -> Exit {
        let hint = error.hint();
        Exit::not_opened(error).hint(hint.to_owned())
    }
}

impl From<SinkError> for Exit {
    fn from(error: SinkError) -> Exit {
        let hint = error.hint();
        Exit::not_opened(error).hint(hint.to_owned())
    }
}

impl From<ServeError> for Exit {
    fn from(error: ServeError) -> Exit {
        let hint = error.hint();
        let code = match error {
            ServeError::Open { .. } | ServeError::Key { .. } => WRONG,
            ServeError::Listen { .. } | ServeError::Threads(_) => CLOSED,
        };
        Exit::new(code, error).hint(hint.to_owned())
    }
}

impl From<Failure> for Exit {
    fn from(failure: Failure) -> Exit {
        let code = match failure.kind {
            FailureKind::FirstPull | FailureKind::Resume => CLOSED,
            FailureKind::Source
            | FailureKind::Sink
            | FailureKind::SinkClosed
            | FailureKind::State
            | FailureKind::Peer => FAILED,
        };
        Exit::new(code, failure.message).hint(failure.hint)
    }
}

/// How long a job that has lost another process has to end by itself, and to say why.
const PATIENCE: Duration = Duration::from_secs(5);

/// The process at the other end, where this thread is one of a connection's.
fn lost_process() -> Option<String> {
    let thread = std::thread::current();
    let (task, process) = thread.name()?.strip_prefix("timely:")?.split_once('-')?;
    matches!(task, "send" | "recv").then(|| process.to_owned())
}

/// A panic of any thread ends the process: a worker that is gone would leave the others waiting for ever.
pub fn end_process_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // The Parquet reader panics on some damaged files; that is caught, and the pull fails.
        if usher_connectors::parquet::panics_are_caught() {
            return;
        }
        // timely's connections panic where the other end is gone. The job hears of it otherwise too, and then knows more.
        if let Some(process) = lost_process() {
            std::thread::sleep(PATIENCE);
            say(format_args!("{} the connection to process {process} broke", alarm("error:")));
            say("hint: restart all processes together");
            std::process::exit(i32::from(FAILED));
        }
        report(info);
        say("hint: this is a bug in usher, not in your job; the lines above say where");
        std::process::exit(i32::from(FAILED));
    }));
}
