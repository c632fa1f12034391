//! The latest changes, numbered, for those who follow them: a ring of bounded length.
//!
//! A change's id is `<run>-<number>`. Numbers grow by one from 1 in each run of the job. Who asks for what has left the ring,
//! or gives an id of another run, is told that changes were missed, and goes on from the oldest that is there.

use crate::change::{ChangeKind, Reason};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// How many changes are kept: a minute of 1,000 a second, some 10 MB.
const KEPT: usize = 65_536;

/// How many changes are looked at under the lock.
const LOOKED_AT: usize = 1024;

/// A change of membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentChange {
    /// When, ms since the epoch.
    pub at: u64,
    /// Which audience, by its index.
    pub audience: u32,
    /// In or out.
    pub kind: ChangeKind,
    /// Why.
    pub reason: Reason,
    /// Whose.
    pub key: Arc<str>,
}

/// What a follower wants to hear of; none: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Changes of this audience.
    pub audience: Option<u32>,
    /// Changes of this key.
    pub key: Option<String>,
}

/// The next changes of a follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangesAfter {
    /// Changes were missed before these.
    pub missed: bool,
    /// With their numbers.
    pub changes: Vec<(u64, RecentChange)>,
    /// The last number that was looked at.
    pub last: u64,
    /// There are more to look at.
    pub more: bool,
}

/// The ring.
pub struct Recent {
    run: u64,
    ring: Mutex<Ring>,
    came: Notify,
}

struct Ring {
    /// The number of the last change.
    last: u64,
    changes: VecDeque<RecentChange>,
}

impl Recent {
    pub(super) fn new(run: u64) -> Recent {
        Recent { run, ring: Mutex::new(Ring { last: 0, changes: VecDeque::new() }), came: Notify::new() }
    }

    pub(super) fn append(&self, changes: impl Iterator<Item = RecentChange>) {
        let mut any = false;
        {
            let mut ring = self.ring.lock().expect("nobody panics with the lock");
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
            self.came.notify_waiters();
        }
    }

    /// The number of the last change; 0: there was none.
    pub fn last(&self) -> u64 {
        self.ring.lock().expect("nobody panics with the lock").last
    }

    /// The id of the change with this number.
    pub fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.run)
    }

    /// The number in an id, which is none where it is of another run; none: it is no id.
    pub fn number(&self, id: &str) -> Option<Option<u64>> {
        let (run, number) = id.split_once('-')?;
        let (run, number) = (run.parse::<u64>().ok()?, number.parse::<u64>().ok()?);
        Some((run == self.run && number <= self.last()).then_some(number))
    }

    /// The next changes after the one numbered `after`, a bounded number of them; none after: from the oldest.
    pub fn since(&self, after: Option<u64>, interest: &Interest) -> ChangesAfter {
        let ring = self.ring.lock().expect("nobody panics with the lock");
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
            let came = self.came.notified();
            tokio::pin!(came);
            came.as_mut().enable();
            if self.last() > after {
                return;
            }
            came.await;
        }
    }
}
