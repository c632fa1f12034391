//! Agreement: at which ms all workers switch to a pull whose rows contribute to facts of the keys that they belong to.
//!
//! Rows of one parent lie with several workers, and switch at one ms (SPEC §3). Each worker proposes, to all, the first ms that it has
//! not begun when it has the verdicts on the pull; the greatest proposal is the ms of the switch. Promises: all workers come to
//! the same ms, and no worker is past it, because none begins an epoch while a proposal is missing. That takes as long as a message
//! between workers does. Holds the pulls that wait for proposals. Refuses nothing.

use super::epoch::WholePull;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The first ms at which a worker can switch to a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Proposal {
    /// The model that was pulled.
    pub(crate) pulled: u32,
    /// Which pull of it.
    pub(crate) pull: u64,
    pub(crate) at: Time,
}

/// The proposals of all workers, and the pulls that wait for them.
pub(crate) struct Agreement {
    peers: usize,
    /// By pull: how many workers have proposed a ms, and the greatest.
    proposed: BTreeMap<(u32, u64), (usize, Time)>,
    waiting: Vec<WholePull>,
}

impl Agreement {
    pub(crate) fn new(peers: usize) -> Agreement {
        Agreement { peers, proposed: BTreeMap::new(), waiting: Vec::new() }
    }

    /// Takes a pull that waits for the proposals on it.
    pub(crate) fn wait(&mut self, pull: WholePull) {
        self.waiting.push(pull);
    }

    /// Takes in a proposal of a worker.
    pub(crate) fn propose(&mut self, Proposal { pulled, pull, at }: Proposal) {
        let (workers, greatest) = self.proposed.entry((pulled, pull)).or_default();
        (*workers, *greatest) = (*workers + 1, at.max(*greatest));
    }

    /// Returns whether a pull waits for proposals.
    pub(crate) fn is_open(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes out a pull of which all proposals are here, with its ms.
    pub(crate) fn agreed(&mut self) -> Option<WholePull> {
        let is_agreed = |pull: &WholePull| {
            self.proposed.get(&(pull.pulled, pull.number)).is_some_and(|(workers, _)| *workers == self.peers)
        };
        let mut pull = self.waiting.remove(self.waiting.iter().position(is_agreed)?);
        let (_, at) = self.proposed.remove(&(pull.pulled, pull.number)).expect("it was just seen");
        pull.at = Some(at);
        Some(pull)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pull(number: u64) -> WholePull {
        WholePull { pulled: 1, number, began: 0, at: None, parts: Vec::new() }
    }

    #[test]
    fn a_pull_waits_for_the_proposals_of_all_workers_and_switches_at_the_greatest() {
        let mut agreement = Agreement::new(3);
        let propose = |agreement: &mut Agreement, pull, at| agreement.propose(Proposal { pulled: 1, pull, at });
        propose(&mut agreement, 7, 120);
        agreement.wait(pull(8));
        agreement.wait(pull(7));
        propose(&mut agreement, 8, 300);
        propose(&mut agreement, 7, 100);
        assert!(agreement.agreed().is_none() && agreement.is_open());
        propose(&mut agreement, 7, 110);
        assert_eq!(agreement.agreed().map(|pull| (pull.number, pull.at)), Some((7, Some(120))));
        assert!(agreement.agreed().is_none() && agreement.is_open());
        propose(&mut agreement, 8, 310);
        propose(&mut agreement, 8, 305);
        assert_eq!(agreement.agreed().map(|pull| (pull.number, pull.at)), Some((8, Some(310))));
        assert!(!agreement.is_open());
    }
}
