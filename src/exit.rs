//! Every way to end badly: the one file that turns all errors into a message, a hint and an exit code.

use crate::terminal::{is_json, print_error, print_stderr};
use serde_json::{Value, json};
use std::fmt::Display;
use std::process::ExitCode;
use std::time::Duration;
use usher_config::{Problem, Problems};
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
const NOT_OPENED: u8 = 3;

/// An end that is not a success.
#[derive(Debug)]
pub struct Exit {
    code: u8,
    message: String,
    hint: Option<String>,
    /// What is wrong in the job, place by place.
    problems: Option<Problems>,
}

/// Returns the problems of a job as JSON, each with its place.
pub fn problems_as_json(problems: &Problems) -> Vec<Value> {
    let problem = |problem: &Problem| {
        let Problem { place, message, hint } = problem;
        json!({ "file": problems.file_of(place), "line": place.line, "column": place.column, "path": place.path,
            "message": message, "hint": hint })
    };
    problems.problems.iter().map(problem).collect()
}

impl Exit {
    fn new(code: u8, message: impl Display) -> Exit {
        Exit { code, message: message.to_string(), hint: None, problems: None }
    }

    /// The job or the command line is wrong.
    pub fn wrong(message: impl Display) -> Exit {
        Exit::new(WRONG, message)
    }

    /// Something could not be opened.
    pub fn not_opened(message: impl Display) -> Exit {
        Exit::new(NOT_OPENED, message)
    }

    /// Something failed while running.
    pub fn failed(message: impl Display) -> Exit {
        Exit::new(FAILED, message)
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<Option<String>>) -> Exit {
        self.hint = hint.into();
        self
    }

    /// Returns what is wrong as JSON: the problems of the job, else the one message.
    pub fn problems(&self) -> Vec<Value> {
        match &self.problems {
            Some(problems) => problems_as_json(problems),
            None => vec![json!({ "message": self.message, "hint": self.hint })],
        }
    }

    /// Returns the message and the hint as one line.
    pub fn in_one_line(&self) -> String {
        let hint = self.hint.as_ref().map_or(String::new(), |hint| format!("; {hint}"));
        format!("{}{hint}", self.message.trim_end().replace('\n', "; "))
    }

    /// Prints the message and the hint; returns the code for the shell.
    pub fn report(self) -> ExitCode {
        if !self.message.is_empty() {
            print_error(self.message.trim_end(), self.hint.as_deref());
        }
        ExitCode::from(self.code)
    }
}

impl From<Problems> for Exit {
    fn from(problems: Problems) -> Exit {
        let count = problems.problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        let exit = Exit::wrong(format_args!("{count} {noun} in `{}`\n{problems}", problems.file));
        Exit { problems: Some(problems), ..exit }
    }
}

impl From<SnapshotError> for Exit {
    fn from(error: SnapshotError) -> Exit {
        Exit::not_opened(error.message()).hint(error.hint)
    }
}

/// Errors of opening something, each with a hint.
macro_rules! not_opened {
    ($($error:ty),*) => {$(
        impl From<$error> for Exit {
            fn from(error: $error) -> Exit {
                let hint = error.hint();
                Exit::not_opened(error).hint(hint.to_owned())
            }
        }
    )*};
}
not_opened!(SourceError, StoreError, ClaimError, ClusterError, SinkError);

impl From<ServeError> for Exit {
    fn from(error: ServeError) -> Exit {
        let hint = error.hint();
        let code = match error {
            ServeError::Open { .. } | ServeError::Key { .. } => WRONG,
            ServeError::Listen { .. } | ServeError::Threads(_) => NOT_OPENED,
        };
        Exit::new(code, error).hint(hint.to_owned())
    }
}

impl From<Failure> for Exit {
    fn from(failure: Failure) -> Exit {
        let code = match failure.kind {
            FailureKind::FirstPull | FailureKind::Resume | FailureKind::Registry => NOT_OPENED,
            FailureKind::Source
            | FailureKind::Sink
            | FailureKind::SinkClosed
            | FailureKind::State
            | FailureKind::Peer => FAILED,
        };
        Exit::new(code, failure.message).hint(failure.hint)
    }
}

/// How long a job that has lost another process has to end by itself, with the reason.
const LOST_PROCESS_GRACE: Duration = Duration::from_secs(5);

/// Returns the process at the other end if this thread is one of a connection's.
fn lost_process() -> Option<String> {
    let thread = std::thread::current();
    let (task, process) = thread.name()?.strip_prefix("timely:")?.split_once('-')?;
    matches!(task, "send" | "recv").then(|| process.to_owned())
}

/// What a panic means.
const BUG: &str = "this is a bug in usher, not in your job";

/// Makes a panic of any thread end the process: without one worker the others would wait for ever.
pub fn end_process_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // The Parquet reader panics on some damaged files; that is caught, and the pull fails.
        if usher_connectors::parquet::panics_are_caught() {
            return;
        }
        // timely's connections panic when the other end is gone. The heartbeat finds that too, with a better reason.
        if let Some(process) = lost_process() {
            std::thread::sleep(LOST_PROCESS_GRACE);
            print_error(
                format_args!("the connection to process {process} broke"),
                Some("restart all processes together"),
            );
            std::process::exit(i32::from(FAILED));
        }
        if is_json() {
            print_error(info, Some(BUG));
        } else {
            report(info);
            print_stderr(format_args!("hint: {BUG}; the lines above say where"));
        }
        std::process::exit(i32::from(FAILED));
    }));
}
