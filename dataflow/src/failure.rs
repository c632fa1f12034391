//! Why a running job ends: what part of the world failed, and what to do.

use usher_core::sink::SinkError;
use usher_core::source::SourceError;
use usher_core::store::StoreError;

/// Why a job that ran could not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What part of the world failed.
    pub kind: FailureKind,
    /// What happened, to what.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// The parts of the world that can end a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// A source could not be read on.
    Source,
    /// A source could not be read to its end without its registry.
    Registry,
    /// The first pull of a model failed.
    FirstPull,
    /// A sink could not be written.
    Sink,
    /// The reader of the changes has closed its end.
    SinkClosed,
    /// The start could not go on from the state.
    Resume,
    /// State could not be kept.
    State,
    /// Another process was lost.
    Peer,
}

impl Failure {
    /// Returns a source's error as the end of the job.
    pub(crate) fn of_source(error: SourceError) -> Failure {
        let kind = match error {
            SourceError::Registry { .. } => FailureKind::Registry,
            _ => FailureKind::Source,
        };
        Failure::new(kind, &error, error.hint())
    }

    /// Returns a sink's error as the end of the job.
    pub(crate) fn of_sink(error: SinkError) -> Failure {
        let kind = match error {
            SinkError::Closed { .. } => FailureKind::SinkClosed,
            SinkError::Behind { .. } | SinkError::Superseded { .. } | SinkError::Failed { .. } => FailureKind::Sink,
        };
        Failure::new(kind, &error, error.hint())
    }

    /// Returns the error of a store from which a start can't go on, as the end of the job.
    pub(crate) fn of_resume(error: &StoreError) -> Failure {
        Failure::new(FailureKind::Resume, error, error.hint())
    }

    /// Returns the error of a store that keeps no checkpoint any more, as the end of the job.
    pub(crate) fn of_state(error: &StoreError) -> Failure {
        Failure::new(FailureKind::State, error, error.hint())
    }

    fn new(kind: FailureKind, error: &dyn std::error::Error, hint: &str) -> Failure {
        Failure { kind, message: error.to_string(), hint: Some(hint.to_owned()) }
    }
}
