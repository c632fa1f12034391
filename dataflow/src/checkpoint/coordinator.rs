//! The coordinator of checkpoints: worker 0's part, from the mark to the manifest.
//!
//! At an interval, once the job is live: all workers mark, all write, the syncs commit, the manifest is published. A checkpoint
//! that can't be completed (a worker switched to a pull meanwhile, a part could not be stored) is given up and made again
//! later. If another process has published a manifest, the job ends.
//!
//! A job that is asked to stop makes one last checkpoint. Nothing more is read, and everything that was read takes effect and is
//! committed before it is marked, so that the next start reads none of it again. It is completed within [`LAST`], or given up:
//! then the next start resumes from the one before.

use super::manifest::{PublishOutcome, REVISION};
use super::writer::Uploaded;
use super::{FailedPull, Manifest, ModelManifest, PullRecord, RowsManifest, Uploader};
use crate::control::message::{CheckpointAnswer, CheckpointOrder, CheckpointStep, ControlMessage, StoredPart};
use crate::ingest::reader::PartitionProgress;
use crate::operators::control::ControlChannel;
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use usher_core::lock::lock;
use usher_core::sink::LedgerPosition;
use usher_core::source::PartitionId;
use usher_core::store::StoreError;
use usher_queries::plan::Plan;

/// How long after a checkpoint was given up the next one starts, …
const RETRY: Duration = Duration::from_secs(1);
/// … and where a worker had switched to a pull, and after the last one was, which the shutdown waits for. Less than the shortest `refresh`:
/// a checkpoint that met a pull would meet the next one each time.
const RETRY_SOON: Duration = Duration::from_millis(250);
/// Why a checkpoint is given up that has keys as of two pulls.
const SWITCHED: &str = "a worker switched to a pull meanwhile";
/// How long a job that was asked to stop goes on for its last checkpoint: several times what a million keys take, and well
/// within what supervisors wait before they kill.
const LAST: Duration = Duration::from_secs(15);

/// How many checkpoints write what has changed before one writes all keys: a start reads the parts of all of them.
const CHANGES: u32 = 64;

/// What checkpoints keep of pulls.
#[derive(Default)]
pub(crate) struct PullRecords {
    /// The pulls that are complete, by model and number; number 0 is an earlier run's.
    pub(crate) whole: BTreeMap<(u32, u64), PullRecord>,
    /// By model, how the last pull failed, if it did.
    pub(crate) failed: BTreeMap<u32, FailedPull>,
}

/// The same, which the scheduler writes and checkpoints read.
pub(crate) type SharedPulls = Arc<Mutex<PullRecords>>;

/// How far the checkpoint under way is.
enum Phase {
    /// None is under way.
    Idle,
    /// Workers report the progress of their partitions; `left` have not.
    Marking { progress: Vec<PartitionProgress>, left: u32 },
    /// Workers write their keys into `parts`; `left` have not finished. `since`: those that have changed since that checkpoint.
    Writing { progress: Vec<PartitionProgress>, parts: Vec<StoredPart>, since: Option<u64>, done: Time, left: u32 },
    /// All parts are stored; the syncs have not committed everything before `done`.
    Committing { progress: Vec<PartitionProgress>, parts: Vec<StoredPart>, since: Option<u64>, done: Time },
    /// The manifest is being published, which makes this the last checkpoint; it wrote so many bytes.
    Publishing { published: Published, written: u64 },
    /// The last checkpoint is made, or given up.
    Over,
}

/// The last checkpoint of this run that was published.
#[derive(Clone)]
struct Published {
    checkpoint: u64,
    /// The files with all keys, and those with the keys that later checkpoints changed.
    parts: Vec<StoredPart>,
    changed: Vec<StoredPart>,
    /// How many checkpoints have written the latter.
    changes: u32,
}

impl Published {
    /// Returns whether all keys are to be written again.
    fn needs_all_keys(&self) -> bool {
        let bytes = |parts: &[StoredPart]| parts.iter().map(|part| part.bytes).sum::<u64>();
        self.changes >= CHANGES || bytes(&self.changed) * 2 > bytes(&self.parts)
    }

    fn all_parts(&self) -> impl Iterator<Item = &StoredPart> {
        self.parts.iter().chain(&self.changed)
    }
}

/// What all manifests of this run have in common.
pub(crate) struct ManifestHeader {
    /// A random number of this run.
    pub(crate) incarnation: u64,
    /// The number of the manifest that claimed the state: the names of this run's parts begin with it.
    pub(crate) claim: u64,
    /// The partitions known at the start, by rank.
    pub(crate) partitions: Vec<PartitionId>,
}

/// A checkpoint that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CheckpointMade {
    /// From the mark to the published manifest.
    pub(crate) took: Duration,
    /// Of all parts of the state together.
    pub(crate) bytes: u64,
    /// The number of parts.
    pub(crate) parts: usize,
    /// Of the parts that this checkpoint wrote.
    pub(crate) written: u64,
}

/// Makes the checkpoints of a job; on worker 0.
pub(crate) struct Coordinator {
    plan: Arc<Plan>,
    header: ManifestHeader,
    every: Duration,
    pulls: SharedPulls,
    phase: Phase,
    /// Per model, the pull in force; the same on all workers throughout, or the checkpoint is given up.
    in_force: Option<Vec<u64>>,
    /// Partitions by rank, those found after the start too.
    partitions: BTreeMap<u32, PartitionId>,
    /// Per model and fact, from when on the events of its window were read.
    fact_since: Vec<Vec<Time>>,
    checkpoint: u64,
    published: Option<Published>,
    /// The number of the newest manifest.
    number: u64,
    clock: Time,
    since: Instant,
    due: Instant,
    /// Once the job is asked to stop: the deadline of the last checkpoint.
    until: Option<Instant>,
    /// Whether the one under way is the last.
    last: bool,
    /// How many were given up.
    failed: u64,
}

impl Coordinator {
    /// Returns a coordinator that makes a checkpoint every so often, the first one at once.
    pub(crate) fn new(plan: Arc<Plan>, header: ManifestHeader, every: Duration, pulls: SharedPulls) -> Coordinator {
        let partitions = header.partitions.iter().cloned().enumerate().map(|(rank, id)| (rank as u32, id)).collect();
        let (now, number) = (Instant::now(), header.claim);
        Coordinator {
            plan,
            header,
            every,
            pulls,
            phase: Phase::Idle,
            in_force: None,
            partitions,
            fact_since: Vec::new(),
            checkpoint: 0,
            published: None,
            number,
            clock: 0,
            since: now,
            due: now,
            until: None,
            last: false,
            failed: 0,
        }
    }

    /// Returns how many checkpoints were given up.
    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// Takes up from when on the events of each window were read; before the first checkpoint.
    pub(crate) fn read_since(&mut self, fact_since: &[Vec<Time>]) {
        if self.fact_since.is_empty() {
            self.fact_since = fact_since.to_vec();
        }
    }

    /// Makes one more checkpoint, at once or after the one under way, and then no more.
    pub(crate) fn stop(&mut self) {
        if self.until.is_none() {
            let now = Instant::now();
            (self.until, self.due) = (Some(now + LAST), now);
        }
    }

    /// Returns whether the last checkpoint is made or given up.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Advances the checkpoint as far as possible without waiting. Returns it if it is made now.
    ///
    /// `clock` is the job's frontier; all syncs have committed every change before `committed`, and `ledgers` returns the positions
    /// of their ledgers.
    ///
    /// # Errors
    /// Another process has claimed the state.
    pub(crate) fn step(
        &mut self,
        control: &ControlChannel,
        uploader: &Uploader,
        clock: Time,
        committed: Time,
        ledgers: impl FnOnce() -> Vec<(String, LedgerPosition)>,
    ) -> Result<Option<CheckpointMade>, StoreError> {
        if self.until.is_some_and(|until| until <= Instant::now()) && !self.is_over() {
            let seconds = LAST.as_secs();
            tracing::warn!(
                seconds,
                "the last checkpoint was not made in time; the next start reads again from the one before"
            );
            self.phase = Phase::Over;
        }
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle if self.due <= Instant::now() => {
                self.begin(control, clock);
                Ok(None)
            }
            Phase::Committing { progress, parts, since, done } if committed >= done => {
                self.publish(uploader, progress, (since, parts), ledgers());
                Ok(None)
            }
            Phase::Publishing { published, written } => {
                self.published(uploader.result(self.checkpoint), published, written)
            }
            phase => {
                self.phase = phase;
                Ok(None)
            }
        }
    }

    /// Takes the answer of a worker. Ignores one to a checkpoint that was given up.
    pub(crate) fn take(&mut self, control: &ControlChannel, answer: CheckpointAnswer) {
        let CheckpointAnswer { checkpoint, in_force, step } = answer;
        if checkpoint != self.checkpoint {
            return;
        }
        match (std::mem::replace(&mut self.phase, Phase::Idle), step) {
            (Phase::Marking { mut progress, left }, CheckpointStep::Marked(more)) => {
                progress.extend(more);
                let left = left - 1;
                if !self.is_steady(in_force) {
                    self.give_up(SWITCHED);
                } else if left == 0 {
                    let prefix = format!("{:010}-{checkpoint:06}", self.header.claim);
                    let since =
                        self.published.as_ref().filter(|last| !last.needs_all_keys()).map(|last| last.checkpoint);
                    let order = CheckpointOrder::Write { checkpoint, prefix, since };
                    control.broadcast(&ControlMessage::Checkpoint(order));
                    self.phase = Phase::Writing { progress, parts: Vec::new(), since, done: 0, left: control.peers() };
                } else {
                    self.phase = Phase::Marking { progress, left };
                }
            }
            (
                Phase::Writing { progress, mut parts, since, done, left },
                CheckpointStep::Written { parts: more, done: reached, failed },
            ) => {
                parts.extend(more);
                let (done, left) = (done.max(reached), left - 1);
                if let Some(failed) = failed {
                    self.give_up(&failed);
                } else if !self.is_steady(in_force) {
                    self.give_up(SWITCHED);
                } else if left == 0 {
                    self.phase = Phase::Committing { progress, parts, since, done };
                } else {
                    self.phase = Phase::Writing { progress, parts, since, done, left };
                }
            }
            // The checkpoint was given up after this was sent.
            (phase, _) => self.phase = phase,
        }
    }

    /// Asks all workers to mark.
    fn begin(&mut self, control: &ControlChannel, clock: Time) {
        self.checkpoint += 1;
        self.since = Instant::now();
        self.clock = clock;
        self.in_force = None;
        self.last = self.until.is_some();
        let order = CheckpointOrder::Mark { checkpoint: self.checkpoint, last: self.last };
        control.broadcast(&ControlMessage::Checkpoint(order));
        self.phase = Phase::Marking { progress: Vec::new(), left: control.peers() };
    }

    /// Returns whether the same pulls are in force as on the workers that have answered before.
    fn is_steady(&mut self, in_force: Option<Vec<u64>>) -> bool {
        let Some(in_force) = in_force else { return false };
        *self.in_force.get_or_insert_with(|| in_force.clone()) == in_force
    }

    fn give_up(&mut self, reason: &str) {
        tracing::warn!(reason, "a checkpoint was given up; it is made again");
        self.failed += 1;
        self.phase = Phase::Idle;
        let soon = self.until.is_some() || reason == SWITCHED;
        self.due = Instant::now() + if soon { RETRY_SOON } else { RETRY };
    }

    /// Starts to publish the manifest of parts that are all stored: of the keys that have changed since a checkpoint, or of all.
    fn publish(
        &mut self,
        uploader: &Uploader,
        mut progress: Vec<PartitionProgress>,
        (since, mut parts): (Option<u64>, Vec<StoredPart>),
        ledgers: Vec<(String, LedgerPosition)>,
    ) {
        progress.sort();
        parts.sort();
        self.partitions.extend(progress.iter().map(|partition| (partition.rank, partition.id.clone())));
        let written = parts.iter().map(|part| part.bytes).sum();
        let checkpoint = self.checkpoint;
        let published = match self.published.clone().filter(|_| since.is_some()) {
            Some(Published { parts: all, mut changed, changes, .. }) => {
                let changes = changes + u32::from(!parts.is_empty());
                changed.extend(parts);
                Published { checkpoint, parts: all, changed, changes }
            }
            None => Published { checkpoint, parts, changed: Vec::new(), changes: 0 },
        };
        let manifest = self.manifest(progress, &published, ledgers);
        let keep: BTreeSet<String> = published.all_parts().map(|part| part.name.clone()).collect();
        uploader.publish(checkpoint, self.number + 1, manifest, keep);
        self.phase = Phase::Publishing { published, written };
    }

    fn manifest(
        &self,
        progress: Vec<PartitionProgress>,
        published: &Published,
        ledgers: Vec<(String, LedgerPosition)>,
    ) -> Manifest {
        let pulls = lock(&self.pulls);
        let in_force = self.in_force.as_ref().expect("every answer has the pulls in force");
        let models = self.plan.models.iter().enumerate().map(|(index, model)| ModelManifest {
            id: model.id.clone(),
            facts: model.facts.iter().map(|fact| fact.fingerprint).collect(),
            since: self.fact_since.get(index).cloned().unwrap_or_else(|| vec![0; model.facts.len()]),
            pull: pulls.whole.get(&(index as u32, in_force[index])).cloned(),
            rows: RowsManifest::of(model),
        });
        let audiences = self.plan.models.iter().flat_map(|model| &model.audiences);
        let failed =
            pulls.failed.iter().map(|(model, pull)| (self.plan.models[*model as usize].id.clone(), pull.clone()));
        Manifest {
            revision: REVISION,
            job: self.plan.job.name.clone(),
            incarnation: self.header.incarnation,
            clock: self.clock,
            partitions: self.partitions.iter().map(|(rank, id)| (*rank, id.clone())).collect(),
            progress,
            models: models.collect(),
            audiences: audiences.map(|audience| (audience.id.clone(), audience.fingerprint)).collect(),
            parts: published.parts.clone(),
            changed: published.changed.clone(),
            ledgers,
            failed_pulls: failed.collect(),
        }
    }

    /// Takes what became of the manifest, if that is known.
    fn published(
        &mut self,
        result: Option<Uploaded>,
        published: Published,
        written: u64,
    ) -> Result<Option<CheckpointMade>, StoreError> {
        let outcome = match result {
            None => {
                self.phase = Phase::Publishing { published, written };
                return Ok(None);
            }
            Some(Uploaded::Part(_)) => panic!("all parts are stored before the manifest is published"),
            Some(Uploaded::Manifest(outcome)) => outcome,
        };
        match outcome {
            Ok(PublishOutcome::This) => {
                self.number += 1;
                self.phase = if self.last { Phase::Over } else { Phase::Idle };
                self.due = if self.until.is_some() { Instant::now() } else { self.since + self.every };
                let bytes = published.all_parts().map(|part| part.bytes).sum();
                let parts = published.all_parts().count();
                self.published = Some(published);
                Ok(Some(CheckpointMade { took: self.since.elapsed(), bytes, parts, written }))
            }
            Ok(PublishOutcome::Earlier) => {
                self.number += 1;
                self.give_up("an earlier manifest turned out to be published");
                Ok(None)
            }
            Err(error @ StoreError::Superseded { .. }) => Err(error),
            Err(error) => {
                self.give_up(&error.to_string());
                Ok(None)
            }
        }
    }
}
