//! What an edit of a job does: the report that `usher diff` and `POST /v1/diff` give, and the port to what works it out.
//!
//! Plain data. Types with a schema are part of the API: their comments are its description.

use crate::reply::ApiError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// Works out what an edit of the job that runs does.
pub trait Differ: Send + Sync {
    /// Returns what the job in the bytes of a plan file would do in place of the one that runs; with `read` its sources and models are
    /// read as a start reads them. Blocks until that is known. Gives up soon after `is_cancelled` returns true.
    ///
    /// # Errors
    /// [`ApiError::Wrong`] if the bytes are no plan that could follow, [`ApiError::Unavailable`] if something can't be read.
    fn diff(&self, plan: &[u8], read: bool, is_cancelled: &dyn Fn() -> bool) -> Result<EditReport, ApiError>;
}

/// What an edit does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EditReport {
    /// What it changes.
    #[serde(flatten)]
    pub edit: Edit,
    /// What a start would send; null without a state.
    pub state: Option<StartReport>,
}

/// What a start of the edited job would send.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StartReport {
    /// The clock of the start, RFC 3339 in UTC.
    pub as_of: String,
    /// Whether sources and models were read, rather than the last checkpoint alone.
    pub read: bool,
    /// The audiences of which something is sent, by sync and audience.
    pub differences: Vec<StartOfAudience>,
    /// The audiences that are not counted: nothing is known of their conditions without the sources and the warehouse.
    pub to_be_filled: BTreeSet<String>,
    /// The committed members, by sync and audience.
    pub committed: Vec<CommittedMembers>,
}

/// What a start sends of an audience to a sync.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StartOfAudience {
    /// The sync's id.
    pub sync: String,
    /// The audience's id.
    pub audience: String,
    /// Its members in the ledger of the sync.
    pub members: u64,
    /// How many members enter.
    pub entries: u64,
    /// How many leave.
    pub exits: u64,
    /// The first ten of each, by key.
    pub samples: Vec<EditSample>,
}

/// A member that enters or leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EditSample {
    /// The key.
    pub key: String,
    /// `entry` or `exit`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// The reason that the change would have.
    pub reason: String,
    /// The condition that decides it, as in the job file; null if that is not known.
    pub condition: Option<String>,
}

/// The members of an audience in the ledger of a sync.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommittedMembers {
    /// The sync's id.
    pub sync: String,
    /// The audience's id.
    pub audience: String,
    /// How many there are.
    pub members: u64,
}

/// What an edit changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Edit {
    /// The audiences that differ, by id.
    pub audiences: Vec<AudienceEdit>,
    /// The events that differ, by id. Empty if only the state of the job before the edit is known.
    pub events: Vec<NamedEdit>,
    /// The syncs that differ, by id.
    pub syncs: Vec<NamedEdit>,
    /// The windows that are new.
    pub filled: Vec<FilledWindow>,
}

/// What happens to an audience.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AudienceEdit {
    /// Its id.
    pub id: String,
    /// What happens to it.
    #[serde(flatten)]
    pub change: AudienceChange,
}

/// The ways in which an audience differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum AudienceChange {
    /// It is new.
    Added {
        /// Audiences that are removed and have the same conditions.
        same_conditions_as: Vec<String>,
    },
    /// It is gone.
    Removed {
        /// Audiences that are added and have the same conditions.
        same_conditions_as: Vec<String>,
    },
    /// It has other conditions. Both lists are empty where the same conditions are combined otherwise.
    Changed {
        /// Conditions that it had, as in the job file; unknown, and empty, if only the state is known.
        removed_conditions: Vec<String>,
        /// Conditions that it has now.
        added_conditions: Vec<String>,
    },
    /// Its name for people is another.
    Renamed {
        /// The name before.
        from: String,
        /// The name now.
        to: String,
    },
}

/// What happens to an event or a sync.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NamedEdit {
    /// Its id.
    pub id: String,
    /// What happens to it.
    #[serde(flatten)]
    pub change: NamedChange,
}

/// The ways in which an event or a sync differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum NamedChange {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It differs.
    Changed {
        /// The keys of the job file that differ.
        keys: Vec<String>,
    },
    /// Its label for people is another.
    Renamed {
        /// The label before, or the id.
        from: String,
        /// The label now, or the id.
        to: String,
    },
}

/// A window that the job has not kept before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FilledWindow {
    /// The condition, as in the job file.
    pub condition: String,
    /// The audiences that have it.
    pub audiences: Vec<String>,
    /// Its length.
    pub within: String,
    /// From when on each of its sources is read.
    pub from: Vec<String>,
}
