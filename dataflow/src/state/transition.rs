//! What changes: flips of facts, transitions of memberships, and their causes.

use crate::time::{Slot, Time};
use serde::{Deserialize, Serialize};
use usher_core::change::{ChangeKind, Reason, Recipients};

/// Why a fact flips. Of several causes the first in this order is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Cause {
    /// An event took effect.
    Event,
    /// A window ended, or a moment of `now()` passed.
    Expiry,
    /// A pull switched the key.
    Snapshot,
    /// An event set a live column.
    Trait,
}

impl Cause {
    /// Returns the cause as changes have it.
    pub(crate) fn reason(self) -> Reason {
        match self {
            Cause::Event => Reason::Event,
            Cause::Expiry => Reason::Expiry,
            Cause::Snapshot => Reason::Snapshot,
            Cause::Trait => Reason::Trait,
        }
    }
}

/// A set of causes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Causes(u8);

impl Causes {
    pub(crate) fn add(&mut self, cause: Cause) {
        self.0 |= 1 << cause as u8;
    }

    pub(crate) fn join(&mut self, other: Causes) {
        self.0 |= other.0;
    }

    /// Returns the cause that is given.
    ///
    /// # Panics
    /// Panics if there is none: nothing changes without a cause.
    pub(crate) fn first(self) -> Cause {
        self.get().expect("a membership changed without a cause")
    }

    /// Returns the cause that is given; `None` if there is none.
    pub(crate) fn get(self) -> Option<Cause> {
        [Cause::Event, Cause::Expiry, Cause::Snapshot, Cause::Trait]
            .into_iter()
            .find(|cause| self.0 >> *cause as u8 & 1 == 1)
    }
}

/// In place of a fact: the included columns of the key's row change.
pub(crate) const ROW: u32 = u32::MAX;
/// In place of a fact: what the key's row is to its parent changes.
pub(crate) const OUTWARD: u32 = u32::MAX - 1;

/// A fact of a key becomes true or false.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flip {
    pub(crate) time: Time,
    pub(crate) slot: Slot,
    pub(crate) fact: u32,
    pub(crate) truth: bool,
    pub(crate) cause: Cause,
}

/// A key enters or leaves an audience, or stays in it with another row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transition {
    pub(crate) time: Time,
    pub(crate) model: usize,
    pub(crate) slot: Slot,
    /// The audience's index in the model.
    pub(crate) audience: u32,
    pub(crate) kind: ChangeKind,
    pub(crate) reason: Reason,
}

/// The texts of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyText<'a> {
    pub(crate) key: &'a str,
    /// The included columns of its row as a JSON object; empty if no sync includes any.
    pub(crate) row: &'a str,
}

/// A membership in a ledger whose audience the job, or the sync, no longer has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Removed {
    /// The model whose key it is; `None` if the job no longer has it.
    pub(crate) model: Option<u32>,
    /// The audience's index in the catalog of messages.
    pub(crate) audience: u32,
    pub(crate) key: String,
    pub(crate) recipients: Recipients,
}

/// Takes what an epoch brings, in order.
pub(crate) trait EpochOutput {
    /// A membership changes. `recipients` are the syncs that it is sent to; `None` if all ledgers have it already.
    fn transition(&mut self, transition: &Transition, recipients: Option<Recipients>, text: KeyText<'_>);

    /// Membership does not change, but the ledgers of some syncs differ from it.
    fn correction(&mut self, transition: &Transition, recipients: Recipients, text: KeyText<'_>);

    /// The row of a member changes: the transition's kind is [`ChangeKind::Update`]. Syncs whose included columns do not differ
    /// commit nothing.
    fn update(&mut self, transition: &Transition, recipients: Recipients, text: KeyText<'_>);

    /// A ledger has a membership in an audience that is gone: it exits at `time`. `row` is its key's, empty if there is none.
    fn removal(&mut self, removed: &Removed, time: Time, row: &str);

    /// All transitions before `until` have been given.
    fn epoch_end(&mut self, until: Time);
}
