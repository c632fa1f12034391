//! Who leads the checkpoints: worker 0, from mark to manifest.
//!
//! Every so often, once the job is live: all mark, all write, syncs have been told, the manifest is published. A checkpoint
//! that comes to nothing (a pull was switched to meanwhile, a part could not be stored) is given up and made again later;
//! one that another process has overtaken ends the job.
//!
//! Where the job is told to stop there is one more, the last. Nothing more is read, and all that was takes effect and is told
//! before it is marked, so that the next start reads none of it again. It is made within [`LAST`], or given up: then the next
//! start goes on from the one before.

use super::{Manifest, ModelState, Published, PulledAt, REVISION, Uploaded, Uploads};
use crate::letters::Letter;
use crate::operators::bus::Bus;
use crate::operators::read::Standpoint;
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use usher_core::source::PartitionId;
use usher_core::store::StoreError;
use usher_queries::plan::Plan;

/// How soon a checkpoint that was given up is made again, …
const AGAIN: Duration = Duration::from_secs(1);
/// … and the last one, which somebody waits for.
const LAST_AGAIN: Duration = Duration::from_millis(250);
/// How long a job that was told to stop goes on for its last checkpoint: several times what a million keys take, and well
/// within what supervisors wait before they kill.
const LAST: Duration = Duration::from_secs(15);

/// The pulls that were whole, by model and number; 0 is an earlier run's.
pub(crate) type WholePulls = Arc<Mutex<BTreeMap<(u32, u64), PulledAt>>>;

/// Where a checkpoint is; over: the last one is made, or given up.
enum Phase {
    Idle,
    Marking { standpoints: Vec<Standpoint>, left: u32 },
    Writing { standpoints: Vec<Standpoint>, parts: Vec<(u32, String, u64)>, done: Time, left: u32 },
    Telling { standpoints: Vec<Standpoint>, parts: Vec<(u32, String, u64)>, done: Time },
    Publishing { bytes: u64, parts: usize },
    Over,
}

/// What every manifest of this run says.
pub(crate) struct Heading {
    pub(crate) incarnation: u64,
    /// The number of the manifest that claimed the state: what this run stores is named after it.
    pub(crate) claim: u64,
    /// By rank, those known at the start.
    pub(crate) partitions: Vec<PartitionId>,
}

/// What became of the last checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) took: Duration,
    pub(crate) bytes: u64,
    pub(crate) parts: usize,
}

/// Worker 0's part in checkpoints.
pub(crate) struct Lead {
    plan: Arc<Plan>,
    heading: Heading,
    every: Duration,
    whole_pulls: WholePulls,
    phase: Phase,
    /// Per model, the pull in force; the same for all workers all the time, or the checkpoint is given up.
    in_force: Option<Vec<u64>>,
    /// Partitions by rank, those found later too.
    partitions: BTreeMap<u32, PartitionId>,
    checkpoint: u64,
    /// The number of the newest manifest.
    number: u64,
    clock: Time,
    since: Instant,
    due: Instant,
    /// Where the job was told to stop, until when there may be a last checkpoint.
    until: Option<Instant>,
    /// Whether the one under way is the last.
    last: bool,
}

impl Lead {
    pub(crate) fn new(plan: Arc<Plan>, heading: Heading, every: Duration, whole_pulls: WholePulls) -> Lead {
        let partitions = heading.partitions.iter().cloned().enumerate().map(|(rank, id)| (rank as u32, id)).collect();
        let (now, number) = (Instant::now(), heading.claim);
        Lead {
            plan,
            heading,
            every,
            whole_pulls,
            phase: Phase::Idle,
            in_force: None,
            partitions,
            checkpoint: 0,
            number,
            clock: 0,
            since: now,
            due: now,
            until: None,
            last: false,
        }
    }

    /// Makes one more checkpoint, at once or after the one under way, and then no more.
    pub(crate) fn stop(&mut self) {
        if self.until.is_none() {
            let now = Instant::now();
            (self.until, self.due) = (Some(now + LAST), now);
        }
    }

    /// Whether the last checkpoint is made or given up.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Goes on where it can. `told`: what all syncs have been told; `clock`: up to where the job has come.
    ///
    /// # Errors
    /// The state is another process's now.
    pub(crate) fn turn(
        &mut self,
        bus: &Bus,
        uploads: &Uploads,
        clock: Time,
        committed: Time,
    ) -> Result<Option<Made>, StoreError> {
        if self.until.is_some_and(|until| until <= Instant::now()) && !self.is_over() {
            let seconds = LAST.as_secs();
            tracing::warn!(
                seconds,
                "the last checkpoint was not made in time; the next start reads again from the one before"
            );
            self.phase = Phase::Over;
        }
        match &mut self.phase {
            Phase::Idle if self.due <= Instant::now() => {
                self.checkpoint += 1;
                self.since = Instant::now();
                self.clock = clock;
                self.in_force = None;
                self.last = self.until.is_some();
                bus.post_to_all(&Letter::Mark { checkpoint: self.checkpoint, last: self.last });
                self.phase = Phase::Marking { standpoints: Vec::new(), left: bus.peers() };
            }
            Phase::Telling { done, .. } if committed >= *done => {
                let Phase::Telling { standpoints, parts, .. } = std::mem::replace(&mut self.phase, Phase::Idle) else {
                    panic!("it was just so");
                };
                self.publish(uploads, standpoints, parts);
            }
            Phase::Publishing { bytes, parts } => {
                let made = Made { took: self.since.elapsed(), bytes: *bytes, parts: *parts };
                match uploads.result() {
                    None => {}
                    Some(Uploaded::Part(_)) => panic!("all shards were written before"),
                    Some(Uploaded::Manifest(Ok(Published::Earlier))) => {
                        self.number += 1;
                        self.give_up("an earlier manifest turned out to be published");
                    }
                    Some(Uploaded::Manifest(Ok(Published::This))) => {
                        self.number += 1;
                        self.phase = if self.last { Phase::Over } else { Phase::Idle };
                        self.due = if self.until.is_some() { Instant::now() } else { self.since + self.every };
                        return Ok(Some(made));
                    }
                    Some(Uploaded::Manifest(Err(error @ StoreError::Superseded { .. }))) => return Err(error),
                    Some(Uploaded::Manifest(Err(error))) => self.give_up(&error.to_string()),
                }
            }
            _ => {}
        }
        Ok(None)
    }

    /// Takes an answer.
    pub(crate) fn take(&mut self, bus: &Bus, letter: Letter) {
        let checkpoint = match &letter {
            Letter::Marked { checkpoint, .. } | Letter::Written { checkpoint, .. } => *checkpoint,
            _ => panic!("no answer of a checkpoint: {letter:?}"),
        };
        if checkpoint != self.checkpoint {
            return;
        }
        match (&mut self.phase, letter) {
            (Phase::Marking { standpoints, left }, Letter::Marked { standpoints: more, in_force, .. }) => {
                standpoints.extend(more);
                *left -= 1;
                let last = *left == 0;
                if !self.is_steady(in_force) {
                    self.give_up("a pull was switched to meanwhile");
                } else if last {
                    let Phase::Marking { standpoints, .. } = std::mem::replace(&mut self.phase, Phase::Idle) else {
                        panic!("it was just so");
                    };
                    let prefix = format!("{:010}-{checkpoint:06}", self.heading.claim);
                    bus.post_to_all(&Letter::Write { checkpoint, prefix });
                    self.phase = Phase::Writing { standpoints, parts: Vec::new(), done: 0, left: bus.peers() };
                }
            }
            (
                Phase::Writing { parts, done, left, .. },
                Letter::Written { parts: more, done: came_to, in_force, failed, .. },
            ) => {
                parts.extend(more);
                *done = came_to.max(*done);
                *left -= 1;
                let last = *left == 0;
                if let Some(failed) = failed {
                    self.give_up(&failed);
                } else if !self.is_steady(in_force) {
                    self.give_up("a pull was switched to meanwhile");
                } else if last {
                    let Phase::Writing { standpoints, parts, done, .. } =
                        std::mem::replace(&mut self.phase, Phase::Idle)
                    else {
                        panic!("it was just so");
                    };
                    self.phase = Phase::Telling { standpoints, parts, done };
                }
            }
            // Of one that was given up.
            _ => {}
        }
    }

    fn is_steady(&mut self, in_force: Option<Vec<u64>>) -> bool {
        let Some(in_force) = in_force else { return false };
        *self.in_force.get_or_insert_with(|| in_force.clone()) == in_force
    }

    fn give_up(&mut self, reason: &str) {
        tracing::warn!(reason, "a checkpoint was given up; it is made again");
        self.phase = Phase::Idle;
        self.due = Instant::now() + if self.until.is_some() { LAST_AGAIN } else { AGAIN };
    }

    fn publish(&mut self, uploads: &Uploads, mut standpoints: Vec<Standpoint>, mut parts: Vec<(u32, String, u64)>) {
        standpoints.sort();
        parts.sort();
        let ids = standpoints.iter().map(|standpoint| (standpoint.rank, standpoint.id.clone()));
        self.partitions.extend(ids);
        let whole_pulls = self.whole_pulls.lock().expect("a panic ends the process");
        let in_force = self.in_force.as_ref().expect("all have said which pulls are in force");
        let models = self.plan.models.iter().enumerate().map(|(index, model)| ModelState {
            id: model.id.clone(),
            facts: model.facts.iter().map(|fact| fact.fingerprint).collect(),
            pull: whole_pulls.get(&(index as u32, in_force[index])).cloned(),
        });
        let audiences = self.plan.models.iter().flat_map(|model| &model.audiences);
        let manifest = Manifest {
            revision: REVISION,
            job: self.plan.job.name.clone(),
            incarnation: self.heading.incarnation,
            clock: self.clock,
            partitions: self.partitions.iter().map(|(rank, id)| (*rank, id.clone())).collect(),
            standpoints,
            models: models.collect(),
            audiences: audiences.map(|audience| (audience.id.clone(), audience.fingerprint)).collect(),
            parts,
        };
        drop(whole_pulls);
        let keep: BTreeSet<String> = manifest.parts.iter().map(|(_, name, _)| name.clone()).collect();
        let bytes = manifest.parts.iter().map(|(_, _, bytes)| bytes).sum();
        let count = manifest.parts.len();
        uploads.publish(self.number + 1, manifest, keep);
        self.phase = Phase::Publishing { bytes, parts: count };
    }
}
