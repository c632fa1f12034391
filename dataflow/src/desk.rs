//! Desk: what a worker does between two steps of its dataflow.
//!
//! At the start, as worker 0 says: takes up what an earlier run left of its keys, opens its partitions, hears what syncs were
//! told, and lets its keeper begin. Then: its share of checkpoints. What one process is told, to stop, the first worker of it
//! tells all; worker 0 then makes the last checkpoint, and lets all end.

use crate::checkpoint::{Lead, Manifest, ModelState, Uploads, Writing, decode_shard};
use crate::engine::Inner;
use crate::engine::clerk::Clerk;
use crate::hits::{hash_key, owner};
use crate::job::{Failure, FailureKind, Status};
use crate::keeper::{Beginning, Keeper, Removed};
use crate::keys::audiences::{set, words_for};
use crate::keys::committed::{Start, SyncStart};
use crate::keys::state::Mapping;
use crate::letters::Letter;
use crate::operators::bus::Bus;
use crate::operators::deliver::Sinks;
use crate::operators::read::{Reading, Readings, unreadable};
use crate::time::Time;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use timely::scheduling::Activator;
use usher_config::OnRemove;
use usher_core::catalog::Catalog;
use usher_core::change::Recipients;
use usher_core::ledger::Ledger;
use usher_core::source::{PartitionId, Resume, Source, SourceError};
use usher_core::store::{Store, StoreError};
use usher_queries::plan::{FactKind, Plan};

/// Memberships in a letter: a few hundred kB.
const LEDGER_PER_LETTER: usize = 4_096;
/// How long what has been read is worked off at the end, where a sync does not take it: it is told at the next start.
const WORK_OFF: Duration = Duration::from_secs(5);

pub(crate) struct DeskSetup {
    pub(crate) worker: u32,
    pub(crate) plan: Arc<Plan>,
    pub(crate) bus: Bus,
    /// Wakes the operator that the keeper works in.
    pub(crate) wake_keep: Activator,
    pub(crate) keeper: Rc<RefCell<Keeper>>,
    pub(crate) readings: Rc<RefCell<Readings>>,
    /// Ids of sources, and the sources.
    pub(crate) source_ids: Arc<Vec<String>>,
    pub(crate) sources: Arc<Vec<Mutex<Box<dyn Source>>>>,
    pub(crate) status: Arc<Status>,
    pub(crate) store: Option<Arc<dyn Store>>,
    /// On worker 0, with a store.
    pub(crate) lead: Option<Lead>,
    pub(crate) sinks: Sinks,
    /// Workers of each process, where there are several.
    pub(crate) threads: Option<u32>,
    /// Partitions that are not what an earlier run read are read from where they are entered.
    pub(crate) restart_sources: bool,
    /// What the API asks.
    pub(crate) api: Option<Arc<Inner>>,
}

/// A worker's desk.
pub(crate) struct Desk {
    setup: DeskSetup,
    clerk: Option<Clerk>,
    uploads: Option<Uploads>,
    writing: Option<Writing>,
    /// The last checkpoint, while what has been read is waited for.
    settling: Option<u64>,
    stop_said: bool,
    end_said: bool,
    ending: Option<Instant>,
}

/// What worker 0 says first of all, from what an earlier run left behind.
pub(crate) struct Opening {
    pub(crate) partitions: Vec<PartitionId>,
    pub(crate) manifest: Option<Vec<u8>>,
    /// Per sync of the job.
    pub(crate) ledgers: Vec<Ledger>,
    pub(crate) catalog: Arc<Catalog>,
}

impl Desk {
    pub(crate) fn new(setup: DeskSetup) -> Desk {
        let uploads = setup.store.as_ref().map(|store| Uploads::start(Arc::clone(store)));
        let clerk = setup.api.clone().map(|api| Clerk::new(api, &setup));
        let (writing, settling) = (None, None);
        Desk { setup, clerk, uploads, writing, settling, stop_said: false, end_said: false, ending: None }
    }

    /// Worker 0: says how everybody starts.
    pub(crate) fn open(&self, opening: Opening) {
        let DeskSetup { plan, bus, keeper, .. } = &self.setup;
        let Opening { partitions, manifest, ledgers, catalog } = opening;
        let new_syncs: Vec<bool> = ledgers.iter().map(|ledger| !ledger.any).collect();
        let clocks = ledgers.iter().map(|ledger| ledger.clock).collect();
        bus.post_to_all(&Letter::Start { partitions, manifest, new_syncs, clocks });
        let mut removed = Vec::new();
        for (sync, (id, of)) in plan.job.syncs.iter().enumerate() {
            let Some(ledger) = ledgers.get(sync) else { continue };
            // Of each audience that was told, where it is now.
            let places: Vec<Option<(u32, u32)>> = ledger
                .audiences
                .iter()
                .map(|audience| {
                    let model = plan.models.iter().position(|model| model.id == audience.model)?;
                    let index = plan.models[model].audiences.iter().position(|known| known.id == audience.id)?;
                    of.audiences.contains(&audience.id).then_some((model as u32, index as u32))
                })
                .collect();
            let mut letters: BTreeMap<(u32, u32), Vec<(u32, String)>> = BTreeMap::new();
            for (audience, key) in ledger.iter() {
                match places[audience as usize] {
                    Some((model, index)) => {
                        let to = owner(hash_key(key), bus.peers());
                        let members = letters.entry((to, model)).or_default();
                        members.push((index, key.to_owned()));
                        if members.len() == LEDGER_PER_LETTER {
                            let members = std::mem::take(members);
                            bus.post(to, Letter::Ledger { sync: sync as u32, model, members });
                        }
                    }
                    None => {
                        let audience = catalog.index_in_ledger(&ledger.audiences[audience as usize]);
                        let audience = audience.unwrap_or_else(|| panic!("what sync `{id}` was told is in no catalog"));
                        let recipients = match of.on_remove {
                            OnRemove::Exit => Recipients::Only(sync as u16),
                            OnRemove::Forget => Recipients::LedgerOnly(sync as u16),
                        };
                        removed.push(Removed { audience, key: key.to_owned(), recipients });
                    }
                }
            }
            for ((to, model), members) in letters {
                bus.post(to, Letter::Ledger { sync: sync as u32, model, members });
            }
        }
        removed.sort_by(|a, b| (a.audience, &a.key).cmp(&(b.audience, &b.key)));
        keeper.borrow_mut().take_removed(removed);
        bus.post_to_all(&Letter::AllLedgers);
    }

    /// Reads the post and goes on with what there is to do. `told`: up to where all changes have been delivered. Tells
    /// whether there is more at once.
    pub(crate) fn turn(&mut self, committed: Option<Time>) -> bool {
        while let Some(letter) = self.setup.bus.take() {
            if let Err(failure) = self.read(letter, committed) {
                self.setup.status.fail(failure);
                return false;
            }
        }
        if let Err(failure) = self.lead(committed) {
            self.setup.status.fail(failure);
            return false;
        }
        self.say_stop();
        if let Some(checkpoint) = self.settling
            && self.setup.readings.borrow().has_settled(committed.unwrap_or(Time::MAX))
        {
            self.settling = None;
            self.mark(checkpoint, committed);
        }
        if self.ending.is_some_and(|since| since.elapsed() > WORK_OFF) && !self.setup.status.aborted() {
            tracing::warn!("a sync does not take what is to be told; the next start tells it");
            self.setup.status.abort();
        }
        let mut busy = self.clerk.as_mut().is_some_and(|clerk| clerk.turn(&self.setup));
        if let (Some(writing), Some(uploads)) = (&mut self.writing, &self.uploads) {
            let keeper = self.setup.keeper.borrow();
            match writing.step(&keeper, uploads) {
                Some(written) => {
                    self.setup.bus.post(0, written);
                    self.writing = None;
                }
                None => busy |= writing.is_busy(),
            }
        }
        busy
    }

    fn read(&mut self, letter: Letter, committed: Option<Time>) -> Result<(), Failure> {
        match letter {
            Letter::Start { partitions, manifest, new_syncs, clocks } => {
                self.start(&partitions, manifest.as_deref(), new_syncs, &clocks)?;
            }
            Letter::Ledger { sync, model, members } => {
                let members = members.into_iter().map(|(audience, key)| (sync as usize, audience, hash_key(&key), key));
                self.setup.keeper.borrow_mut().take_ledger(model as usize, members);
            }
            Letter::AllLedgers => {
                self.setup.keeper.borrow_mut().begin();
                self.setup.wake_keep.activate();
            }
            Letter::Mark { checkpoint, last: false } => self.mark(checkpoint, committed),
            Letter::Mark { checkpoint, last: true } => {
                self.setup.readings.borrow_mut().rest();
                self.settling = Some(checkpoint);
            }
            Letter::Write { checkpoint, prefix } => {
                let prefix = format!("{prefix}-{:03}", self.setup.worker);
                self.writing = Some(Writing::new(checkpoint, prefix, &self.setup.keeper.borrow()));
            }
            letter @ (Letter::Marked { .. } | Letter::Written { .. }) => {
                let lead = self.setup.lead.as_mut().expect("only worker 0 is answered");
                lead.take(&self.setup.bus, letter);
            }
            letter @ (Letter::List { .. }
            | Letter::Listed { .. }
            | Letter::Switched { .. }
            | Letter::Pull { .. }
            | Letter::Reflected { .. }
            | Letter::News { .. }) => {
                if let Some(clerk) = &mut self.clerk {
                    clerk.read(letter);
                }
            }
            Letter::Stop => {
                self.stop_said = true;
                self.setup.status.stop();
            }
            Letter::End => {
                self.setup.readings.borrow_mut().end();
                self.ending = Some(Instant::now());
            }
        }
        Ok(())
    }

    /// Says where this worker's partitions stand.
    fn mark(&self, checkpoint: u64, committed: Option<Time>) {
        let standpoints = self.setup.readings.borrow_mut().resumes(committed.unwrap_or(Time::MAX));
        let in_force = self.setup.keeper.borrow().steady();
        self.setup.bus.post(0, Letter::Marked { checkpoint, standpoints, in_force });
    }

    /// Takes up what an earlier run left of this worker's keys, and opens its partitions.
    fn start(
        &mut self,
        partitions: &[PartitionId],
        manifest: Option<&[u8]>,
        new_syncs: Vec<bool>,
        clocks: &[Time],
    ) -> Result<(), Failure> {
        let plan = Arc::clone(&self.setup.plan);
        let manifest = manifest.map(|bytes| Manifest::decode(bytes).expect("it was read before"));
        let known = Known::new(&plan, manifest.as_ref());
        if let Some(manifest) = &manifest {
            let beginning = Beginning {
                starts: plan.models.iter().map(|model| start_of(&plan, &model.id, &new_syncs, clocks)).collect(),
                defined: known.defined.clone(),
                new_syncs,
                pulled: known.pulled.clone(),
                removed: Vec::new(),
            };
            let ledger = clocks.iter().max().map_or(0, |ledger| ledger + 1);
            self.setup.keeper.borrow_mut().prepare(beginning, manifest.clock.max(ledger));
            self.restore(manifest, &known, partitions)?;
        }
        let resumes: BTreeMap<&PartitionId, &Resume> = manifest
            .iter()
            .flat_map(|m| &m.standpoints)
            .map(|standpoint| (&standpoint.id, &standpoint.resume))
            .collect();
        let read_before: BTreeSet<&str> = resumes.keys().map(|partition| &partition.source[..]).collect();
        let since = manifest.as_ref().map(|manifest| manifest.clock).filter(|clock| *clock > 0);
        let peers = self.setup.bus.peers();
        let mut readings = Vec::new();
        for (source, id) in self.setup.source_ids.iter().enumerate() {
            let mut of = self.setup.sources[source].lock().expect("a worker panicked, which ends the process");
            let listed = of.partitions();
            for (rank, partition) in partitions.iter().enumerate() {
                let rank = rank as u32;
                if partition.source != *id || rank % peers != self.setup.worker {
                    continue;
                }
                let resume = resumes.get(partition).copied();
                if !listed.contains(partition) {
                    if resume.is_some() {
                        let (source, partition) = (id, &partition.name);
                        tracing::warn!(source, partition, "is gone; what was read of it counts as before");
                    }
                    continue;
                }
                let again = known.new_sources.contains(id);
                let opened = if resume.is_none() && read_before.contains(&id[..]) {
                    open_new(&mut **of, partition)?
                } else {
                    open(&mut **of, partition, resume, again, self.setup.restart_sources)?
                };
                readings.push(Reading::new(source, rank, opened, since));
            }
        }
        // Those found later have the ranks that come next for their worker.
        let beyond = (partitions.len() as u32).next_multiple_of(peers);
        self.setup.readings.borrow_mut().hand_in(readings, beyond + self.setup.worker);
        Ok(())
    }

    fn restore(&self, manifest: &Manifest, known: &Known, partitions: &[PartitionId]) -> Result<(), Failure> {
        let Some(store) = &self.setup.store else { return Ok(()) };
        let (worker, peers) = (self.setup.worker, self.setup.bus.peers());
        let mut ranks = vec![0; manifest.partitions.iter().map(|(rank, _)| *rank as usize + 1).max().unwrap_or(0)];
        for (rank, id) in &manifest.partitions {
            let now = partitions.iter().position(|partition| partition == id);
            ranks[*rank as usize] = now.expect("all partitions that are known are listed") as u32;
        }
        let mappings: Vec<Option<(usize, Mapping)>> = known
            .models
            .iter()
            .map(|model| {
                let (model, facts) = model.as_ref()?;
                Some((*model, Mapping { facts: facts.clone(), ranks: ranks.clone() }))
            })
            .collect();
        let mut keeper = self.setup.keeper.borrow_mut();
        for (shard, name, _) in &manifest.parts {
            let first = u64::from(*shard) << 56;
            if !(owner(first, peers)..=owner(first | u64::MAX >> 8, peers)).contains(&worker) {
                continue;
            }
            let bytes = store.get_part(name).map_err(|error| not_resumed(&error))?;
            let shard = decode_shard(&bytes).map_err(|reason| {
                not_resumed(&StoreError::Damaged { url: "the store".to_owned(), name: name.clone(), reason })
            })?;
            for (states, mapping) in shard.iter().zip(&mappings) {
                let Some((model, mapping)) = mapping else { continue };
                for state in states {
                    let hash = hash_key(&state.key);
                    if owner(hash, peers) == worker {
                        keeper.restore(*model, hash, state, mapping, manifest.clock);
                    }
                }
            }
        }
        Ok(())
    }

    /// Worker 0: makes checkpoints, and lets all end where the job was told to stop. One that is not live ends at once: it has
    /// told nothing.
    fn lead(&mut self, committed: Option<Time>) -> Result<(), Failure> {
        if self.setup.worker != 0 || self.end_said {
            return Ok(());
        }
        let stopped = self.setup.status.stopped();
        let over = match committed {
            Some(clock) if self.setup.lead.is_some() && self.setup.status.live() => self.checkpoint(stopped, clock)?,
            _ => true,
        };
        if stopped && over {
            self.end_said = true;
            self.setup.bus.post_to_all(&Letter::End);
        }
        Ok(())
    }

    /// Goes on with the checkpoint; tells whether it was the last. `clock`: up to where all has been delivered.
    fn checkpoint(&mut self, stopped: bool, clock: Time) -> Result<bool, Failure> {
        let (Some(lead), Some(uploads)) = (&mut self.setup.lead, &self.uploads) else { return Ok(true) };
        if stopped {
            lead.stop();
        }
        let by_sinks = {
            let sinks = self.setup.sinks.lock().expect("a worker panicked, which ends the process");
            sinks.iter().map(|sink| sink.committed()).min().unwrap_or(Time::MAX)
        };
        match lead.turn(&self.setup.bus, uploads, clock, by_sinks.min(clock)) {
            Ok(None) => Ok(lead.is_over()),
            Ok(Some(made)) => {
                tracing::debug!(
                    took_ms = made.took.as_millis() as u64,
                    bytes = made.bytes,
                    parts = made.parts,
                    "checkpoint"
                );
                self.setup.status.publish_checkpoint(made.took, made.bytes);
                Ok(lead.is_over())
            }
            Err(error) => Err(Failure {
                kind: FailureKind::State,
                message: error.to_string(),
                hint: Some(error.hint().to_owned()),
            }),
        }
    }

    /// Tells the other processes that this one was told to stop.
    fn say_stop(&mut self) {
        let first = self.setup.threads.is_some_and(|threads| self.setup.worker.is_multiple_of(threads));
        if first && self.setup.status.stopped() && !self.stop_said {
            self.stop_said = true;
            self.setup.bus.post_to_all(&Letter::Stop);
        }
    }
}

/// What of an earlier run still means the same.
struct Known {
    /// Per model of the manifest: its index now, and per fact as it was written, the fact now.
    models: Vec<Option<(usize, Vec<Option<u32>>)>>,
    /// Per model and audience, whether its definition is new.
    defined: Vec<Vec<bool>>,
    /// Per model, whether its snapshot is known whole.
    pulled: Vec<bool>,
    /// Sources whose history some window asks for that was not kept before.
    new_sources: Vec<String>,
}

impl Known {
    fn new(plan: &Plan, manifest: Option<&Manifest>) -> Known {
        let states = manifest.map_or(&[][..], |manifest| &manifest.models);
        let state_of = |id: &str| states.iter().find(|state| state.id == id);
        let models = states.iter().map(|state| {
            let index = plan.models.iter().position(|model| model.id == state.id)?;
            let now = |was: &[u8; 16]| {
                let fact = plan.models[index].facts.iter().position(|fact| fact.fingerprint == *was);
                fact.map(|fact| fact as u32)
            };
            Some((index, state.facts.iter().map(now).collect()))
        });
        let kept = |model: usize, fact: usize| {
            let model = &plan.models[model];
            state_of(&model.id).is_some_and(|state| state.facts.contains(&model.facts[fact].fingerprint))
        };
        let audiences = manifest.map_or(&[][..], |manifest| &manifest.audiences);
        let fingerprint =
            |id: &str| audiences.iter().find(|(known, _)| known == id).map(|(_, fingerprint)| *fingerprint);
        let defined = plan.models.iter().map(|model| {
            // A run that made no checkpoint has not said what it told of: it is taken to be the same.
            let new = |id: &str, now| !audiences.is_empty() && fingerprint(id) != Some(now);
            model.audiences.iter().map(|audience| new(&audience.id, audience.fingerprint)).collect()
        });
        let new_sources = plan
            .events
            .iter()
            .filter(|event| event.facts.iter().any(|fact| !kept(event.model as usize, *fact as usize)));
        Known {
            models: models.collect(),
            defined: defined.collect(),
            pulled: (0..plan.models.len()).map(|model| snapshot_known(plan, model, &state_of, &kept)).collect(),
            new_sources: new_sources.map(|event| event.source.clone()).collect(),
        }
    }
}

/// Whether what a pull of `model` decides is all known.
fn snapshot_known<'a>(
    plan: &Plan,
    model: usize,
    state_of: &impl Fn(&str) -> Option<&'a ModelState>,
    kept: &impl Fn(usize, usize) -> bool,
) -> bool {
    let Some(snapshot) = &plan.models[model].snapshot else { return false };
    let pull = state_of(&plan.models[model].id).and_then(|state| state.pull.as_ref());
    let own = plan.models[model].facts.iter().enumerate();
    let own = own.filter(|(_, fact)| matches!(fact.kind, FactKind::Known | FactKind::Property(_)));
    let mut own = own.filter(|_| !plan.models[model].audiences.is_empty());
    let related = snapshot.parent.iter().flat_map(|(parent, _)| {
        let facts = plan.models[*parent as usize].facts.iter().enumerate();
        let on =
            facts.filter(|(_, fact)| matches!(fact.kind, FactKind::Related { model: of, .. } if of as usize == model));
        on.map(|(fact, _)| (*parent as usize, fact))
    });
    let include = || snapshot.include.iter().map(|(name, _)| name);
    pull.is_some_and(|pull| pull.parquet == snapshot.parquet && pull.include.iter().eq(include()))
        && own.all(|(fact, _)| kept(model, fact))
        && related.into_iter().all(|(parent, fact)| kept(parent, fact))
}

/// Per model of the plan, the pull of an earlier run that still says all that is asked.
pub(crate) fn known_pulls(plan: &Plan, manifest: Option<&Manifest>) -> Vec<Option<crate::checkpoint::PulledAt>> {
    let known = Known::new(plan, manifest);
    let states = manifest.map_or(&[][..], |manifest| &manifest.models);
    let pull_of = |model: usize| {
        let state = states.iter().find(|state| state.id == plan.models[model].id)?;
        state.pull.clone().filter(|_| known.pulled[model])
    };
    (0..plan.models.len()).map(pull_of).collect()
}

/// What the syncs of the job are to a model.
fn start_of(plan: &Plan, model: &str, new_syncs: &[bool], clocks: &[Time]) -> Start {
    let model = plan.models.iter().find(|of| of.id == model).expect("it is the plan's");
    let syncs = plan.job.syncs.values().zip(new_syncs.iter().zip(clocks)).map(|(sync, (new, clock))| {
        let mut has = vec![0; words_for(model.audiences.len())];
        for (index, audience) in model.audiences.iter().enumerate() {
            if sync.audiences.contains(&audience.id) {
                set(&mut has, index as u32, true);
            }
        }
        SyncStart { has, silent: *new && !sync.backfill, committed: *clock }
    });
    Start { syncs: syncs.collect() }
}

/// Opens a partition where an earlier run stood; `again`: where the source is entered, if that is earlier.
fn open(
    source: &mut dyn Source,
    id: &PartitionId,
    resume: Option<&Resume>,
    again: bool,
    restart: bool,
) -> Result<Box<dyn usher_core::source::Partition>, Failure> {
    let resumed = match source.open(id, resume) {
        Err(error @ SourceError::Unlike { .. }) if restart => {
            tracing::warn!(error = %error, "it is read from where it is entered");
            return source.open(id, None).map_err(unreadable);
        }
        Err(error) => {
            return Err(Failure { kind: FailureKind::Resume, ..unreadable(error) });
        }
        Ok(resumed) => resumed,
    };
    if resume.is_none() || !again {
        return Ok(resumed);
    }
    // One at a time: a partition is read once.
    let to = resumed.position();
    drop(resumed);
    let entered = source.open(id, None).map_err(unreadable)?;
    let from = entered.position();
    if from < to {
        let (source, partition) = (&id.source, &id.name);
        tracing::info!(source, partition, from, to, "is read again for a window that is new");
        return Ok(entered);
    }
    drop(entered);
    source.open(id, resume).map_err(unreadable)
}

/// Opens a partition that has come while the job was down: from its start, wherever the source would be entered.
fn open_new(source: &mut dyn Source, id: &PartitionId) -> Result<Box<dyn usher_core::source::Partition>, Failure> {
    let identity = source.open(id, None).map_err(unreadable)?.identity();
    source.open(id, Some(&Resume { position: 0, identity })).map_err(unreadable)
}

/// State that can't be gone on from, as the end of the job.
pub(crate) fn not_resumed(error: &StoreError) -> Failure {
    Failure { kind: FailureKind::Resume, message: error.to_string(), hint: Some(error.hint().to_owned()) }
}
