//! The latest changes, numbered, for clients that follow them: a ring of bounded length.
//!
//! The id of a change is `<run>-<number>`. Numbers grow by one, from 1 in each run of the job. A follower that resumes after a
//! change that has left the ring, or after an id of another run, gets `missed` and goes on with the oldest change in the ring.

use crate::change::{ChangeKind, Reason};
use crate::lock::lock;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// How many changes are kept: a minute of 1,000 a second, some 10 MB.
const KEPT: usize = 65_536;

/// How many changes a follower looks at under the lock.
const LOOKED_AT: usize = 1024;

/// A change of membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentChange {
    /// When, ms since the epoch.
    pub at: u64,
    /// Which audience, by its index.
    pub audience: u32,
    /// Whether the key enters or leaves.
    pub kind: ChangeKind,
    /// The cause.
    pub reason: Reason,
    /// The key.
    pub key: Arc<str>,
}

/// The changes that a follower wants. `None` is no restriction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Only changes of this audience, by its index.
    pub audience: Option<u32>,
    /// Only changes of this key.
    pub key: Option<String>,
}

/// The next changes of a follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangesAfter {
    /// Whether changes were missed before these.
    pub missed: bool,
    /// With their numbers.
    pub changes: Vec<(u64, RecentChange)>,
    /// The last number that was looked at.
    pub last: u64,
    /// Whether there are later changes to look at.
    pub more: bool,
}

/// The ring of the latest changes.
pub struct Recent {
    run: u64,
    ring: Mutex<Ring>,
    /// Notified when changes were appended.
    appended: Notify,
}

struct Ring {
    /// The number of the last change.
    last: u64,
    changes: VecDeque<RecentChange>,
}

impl Recent {
    pub(super) fn new(run: u64) -> Recent {
        Recent { run, ring: Mutex::new(Ring { last: 0, changes: VecDeque::new() }), appended: Notify::new() }
    }

    /// Appends changes, and drops the oldest above the bound.
    pub(super) fn append(&self, changes: impl Iterator<Item = RecentChange>) {
        let mut any = false;
        {
            let mut ring = lock(&self.ring);
            for change in changes {
                if ring.changes.len() == KEPT {
                    ring.changes.pop_front();
                }
                ring.changes.push_back(change);
                ring.last += 1;
                any = true;
            }
        }
        if any {
            self.appended.notify_waiters();
        }
    }

    /// Returns the number of the last change; 0 if there was none.
    pub fn last(&self) -> u64 {
        lock(&self.ring).last
    }

    /// Returns the id of the change with this number.
    pub fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.run)
    }

    /// Returns the number in an id: `None` if the text is not an id, `Some(None)` if it is an id of another run.
    pub fn number(&self, id: &str) -> Option<Option<u64>> {
        let (run, number) = id.split_once('-')?;
        let (run, number) = (run.parse::<u64>().ok()?, number.parse::<u64>().ok()?);
        Some((run == self.run && number <= self.last()).then_some(number))
    }

    /// Returns changes after the one numbered `after`, a bounded number of them; `None` begins with the oldest.
    pub fn since(&self, after: Option<u64>, interest: &Interest) -> ChangesAfter {
        let ring = lock(&self.ring);
        let before_oldest = ring.last - ring.changes.len() as u64;
        let missed = after.is_none_or(|after| after < before_oldest);
        let start = after.unwrap_or(0).max(before_oldest);
        let looked_at = ring.changes.iter().skip((start - before_oldest) as usize).take(LOOKED_AT);
        let mut last = start;
        let mut changes = Vec::new();
        for change in looked_at {
            last += 1;
            if interest.audience.is_none_or(|audience| audience == change.audience)
                && interest.key.as_ref().is_none_or(|key| **key == *change.key)
            {
                changes.push((last, change.clone()));
            }
        }
        ChangesAfter { missed, changes, last, more: last < ring.last }
    }

    /// Waits until there are changes after the one numbered `after`.
    pub async fn wait(&self, after: u64) {
        loop {
            let appended = self.appended.notified();
            tokio::pin!(appended);
            appended.as_mut().enable();
            if self.last() > after {
                return;
            }
            appended.await;
        }
    }
}
