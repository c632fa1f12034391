//! The port to a sync that delivers by itself: what an operator asks of it. Types with a schema are part of the API: their comments
//! are its description.

use crate::reply::{ApiError, BoxFuture, Moment};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The delivery of one sync, while its job runs. May be called from any thread.
pub trait Delivery: Send + Sync {
    /// Carries out an order.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`] if the job stops, [`ApiError::NotFound`] if the order names a dead letter that does not exist.
    fn order(&self, order: DeliveryOrder) -> BoxFuture<'static, Result<DeliveryReply, ApiError>>;
}

/// What is asked of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryOrder {
    /// The last attempts.
    Attempts,
    /// Dead letters, in pages.
    DeadLetters {
        /// The number from which on they are listed.
        from: u64,
        /// How many at most.
        limit: usize,
    },
    /// Sends nothing until it is resumed.
    Pause,
    /// Ends a pause and all waiting.
    Resume,
    /// Sends an example now, whatever the state.
    Test,
    /// Sends dead letters again.
    Redeliver(Selection),
    /// Drops dead letters.
    Drop(Selection),
}

/// What a delivery answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryReply {
    /// The last attempts, the newest first.
    Attempts(Vec<AttemptReport>),
    /// A page of dead letters.
    DeadLetters(DeadLetterPage),
    /// It is done.
    Done,
    /// How the example was answered.
    Test(AttemptReport),
    /// How many dead letters it concerns.
    Count(u64),
}

/// Which dead letters: exactly one of `ids`, `audience` and `all`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Those with these ids.
    #[serde(default)]
    #[schema(required = false)]
    pub ids: Option<Vec<String>>,
    /// Those of this audience.
    #[serde(default)]
    #[schema(required = false)]
    pub audience: Option<String>,
    /// All of them.
    #[serde(default)]
    #[schema(required = false)]
    pub all: bool,
    /// Sends those too of which a later change of the audience and key was delivered; otherwise they are superseded.
    #[serde(default)]
    #[schema(required = false)]
    pub force: bool,
}

/// An attempt to deliver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AttemptReport {
    /// When it began.
    pub time: Moment,
    /// The id of its request.
    pub id: String,
    /// Changes in it.
    pub changes: u64,
    /// The status of the answer; null if there was none.
    pub status: Option<u16>,
    /// How long it took, ms.
    pub latency_ms: u64,
    /// The first 1,024 bytes of the answer, or why there was none.
    pub answer: String,
}

/// A page of dead letters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct DeadLetterPage {
    /// The oldest first.
    pub dead_letters: Vec<DeadLetterReport>,
    /// The cursor of the next page; null on the last page.
    pub next_cursor: Option<String>,
}

/// A change that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct DeadLetterReport {
    /// Its id among the dead letters of the sync.
    pub id: String,
    /// When it was given up.
    pub time: Moment,
    /// Why: `refused`, `expired` or `unwritable`.
    pub reason: String,
    /// The status of the last answer; null if there was none.
    pub status: Option<u16>,
    /// The first 1,024 bytes of the last answer, or why there was none.
    pub answer: String,
    /// Whether it is being sent again.
    pub again: bool,
    /// `entry`, `exit` or `update`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// The audience's id.
    pub audience_id: String,
    /// The member's key.
    pub key: String,
    /// When it happened.
    pub at: Moment,
    /// The included columns, as JSON; null if there are none.
    pub row: Option<serde_json::Value>,
}
