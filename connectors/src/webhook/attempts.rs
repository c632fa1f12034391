//! The last attempts of a sync, and their answers: what an operator reads first.

use std::collections::VecDeque;
use std::time::Duration;
use usher_core::api::Moment;
use usher_core::delivery::AttemptReport;

/// Attempts that are kept.
const KEPT: usize = 100;
/// Bytes of an answer that are kept.
pub(super) const ANSWER_BYTES: usize = 1 << 10;

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EndedAttempt {
    /// When it began, ms since the epoch.
    pub time: u64,
    /// The id of its request.
    pub id: String,
    pub changes: usize,
    /// The status of the answer; `None` if there was none.
    pub status: Option<u16>,
    pub latency: Duration,
    /// The first of the answer's body, or why there was none.
    pub answer: String,
}

impl EndedAttempt {
    /// Returns it as the API shows it.
    pub fn report(&self) -> AttemptReport {
        AttemptReport {
            time: Moment(self.time),
            id: self.id.clone(),
            changes: self.changes as u64,
            status: self.status,
            latency_ms: self.latency.as_millis() as u64,
            answer: self.answer.clone(),
        }
    }
}

/// The last attempts, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Attempts(VecDeque<EndedAttempt>);

impl Attempts {
    pub fn push(&mut self, attempt: EndedAttempt) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(attempt);
    }

    /// Returns them, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &EndedAttempt> {
        self.0.iter().rev()
    }
}

/// Returns the first bytes of an answer as text.
pub(super) fn text(answer: &[u8]) -> String {
    String::from_utf8_lossy(&answer[..answer.len().min(ANSWER_BYTES)]).into_owned()
}
