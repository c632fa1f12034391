//! Restore: how a run starts from what an earlier run left behind.
//!
//! Worker 0 sends all workers the partitions, the manifest and the ledgers ([`send`]). Each worker takes up the keys that it owns
//! from the parts of the checkpoint, opens its partitions where they are to be read on ([`begin`]), and takes up the ledgers'
//! memberships of its keys. What an edit of the job has changed is found by fingerprints ([`Unchanged`]).

use super::message::{ControlMessage, LedgerMembers, StartMessage, StoredPart};
use crate::checkpoint::{FailedPull, Manifest, ModelManifest, PullRecord, RowsManifest, read_part};
use crate::failure::{Failure, FailureKind};
use crate::ingest::event_batch::{hash_key, owner};
use crate::ingest::reader::{PartitionReader, PartitionReaders, ReadSince};
use crate::operators::control::ControlChannel;
use crate::snapshots::refusal::leaving;
use crate::snapshots::schedule::HELD_AT_START;
use crate::state::brake::{Exits, exceeding};
use crate::state::codec::Mapping;
use crate::state::committed::{Baseline, SyncBaseline};
use crate::state::epoch::{EpochWorker, Restored};
use crate::state::facts::{Words, contains, insert, set, words_for};
use crate::state::transition::Removed;
use crate::time::{Slot, Time};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use usher_config::OnRemove;
use usher_core::catalog::Catalog;
use usher_core::change::Recipients;
use usher_core::ledger::Ledger;
use usher_core::lock::lock;
use usher_core::source::{Partition, PartitionId, Resume, Source, SourceError};
use usher_core::store::Store;
use usher_queries::plan::{FactKind, LivePlan, ModelPlan, Plan, TraitPlan};

/// Memberships in a message: a few hundred kB.
const MEMBERS_PER_MESSAGE: usize = 4_096;

/// What worker 0 sends first of all.
pub(crate) struct Bootstrap {
    /// By rank in the order of arrival.
    pub(crate) partitions: Vec<PartitionId>,
    pub(crate) manifest: Option<Vec<u8>>,
    /// Per sync of the job.
    pub(crate) ledgers: Arc<[Ledger]>,
    pub(crate) catalog: Arc<Catalog>,
    /// A time that the clock starts at if it would start later; `None` if there is no limit.
    pub(crate) clock_limit: Option<Time>,
    /// Models of which a pull is due.
    pub(crate) due: Vec<bool>,
}

/// What a worker restores with.
pub(crate) struct RestoreSetup {
    pub(crate) worker: u32,
    pub(crate) plan: Arc<Plan>,
    /// Ids of sources, and the sources.
    pub(crate) source_ids: Arc<Vec<String>>,
    pub(crate) sources: Arc<Vec<Mutex<Box<dyn Source>>>>,
    pub(crate) store: Option<Arc<dyn Store>>,
    /// Partitions that are not what an earlier run read are read from where they are entered.
    pub(crate) restart_sources: bool,
    /// Whether models are pulled; else what the state has of them is all that is known.
    pub(crate) pulls: bool,
}

/// Sends all workers what the run starts from. Memberships in ledgers whose audience is gone go to the owners of their keys too:
/// they exit at the start.
pub(crate) fn send(bootstrap: Bootstrap, plan: &Plan, control: &ControlChannel) {
    let Bootstrap { partitions, manifest, ledgers, catalog, clock_limit, due } = bootstrap;
    let new_syncs: Vec<bool> = ledgers.iter().map(|ledger| !ledger.any).collect();
    let clocks = ledgers.iter().map(|ledger| ledger.clock).collect();
    let begin = StartMessage::Begin { partitions, manifest, new_syncs, clocks, clock_limit, due };
    control.broadcast(&ControlMessage::Start(begin));
    let mut removed: BTreeMap<u32, Vec<Removed>> = BTreeMap::new();
    for (sync, ((id, of), ledger)) in plan.job.syncs.iter().zip(&*ledgers).enumerate() {
        // Of each audience in the ledger, where it is now.
        let places: Vec<Option<(u32, u32)>> = ledger
            .audiences
            .iter()
            .map(|audience| {
                let model = plan.models.iter().position(|model| model.id == audience.model)?;
                let index = plan.models[model].audiences.iter().position(|known| known.id == audience.id)?;
                of.audiences.contains(&audience.id).then_some((model as u32, index as u32))
            })
            .collect();
        let send = |(to, model): (u32, u32), members: LedgerMembers| {
            control.send(to, ControlMessage::Start(StartMessage::Ledger { sync: sync as u32, model, members }));
        };
        let mut messages: BTreeMap<(u32, u32), LedgerMembers> = BTreeMap::new();
        for (audience, key) in ledger.iter() {
            match places[audience as usize] {
                Some((model, index)) => {
                    let hash = hash_key(key);
                    let place = (owner(hash, control.peers()), model);
                    let members = messages.entry(place).or_default();
                    members.push(index, hash, key);
                    if members.len() == MEMBERS_PER_MESSAGE {
                        send(place, std::mem::take(members));
                    }
                }
                None => {
                    let audience = catalog.index_in_ledger(&ledger.audiences[audience as usize]);
                    let audience =
                        audience.unwrap_or_else(|| panic!("the catalog lacks an audience of the ledger of `{id}`"));
                    let recipients = match of.on_remove {
                        OnRemove::Exit => Recipients::Only(sync as u16),
                        OnRemove::Forget => Recipients::LedgerOnly(sync as u16),
                    };
                    let model = plan.models.iter().position(|model| model.id == catalog.entry(audience).model);
                    let model = model.map(|model| model as u32);
                    let to = owner(hash_key(key), control.peers());
                    let gone = removed.entry(to).or_default();
                    gone.push(Removed { model, audience, key: key.to_owned(), recipients });
                    if gone.len() == MEMBERS_PER_MESSAGE {
                        let members = std::mem::take(gone);
                        control.send(to, ControlMessage::Start(StartMessage::Removed { members }));
                    }
                }
            }
        }
        messages.into_iter().for_each(|(place, members)| send(place, members));
    }
    for (to, members) in removed {
        control.send(to, ControlMessage::Start(StartMessage::Removed { members }));
    }
    control.broadcast(&ControlMessage::Start(StartMessage::LedgersSent));
}

/// Judges the first pulls by the ledgers: `exits` are the counts of all workers.
///
/// # Errors
/// More members of an audience would leave than its model, or one that belongs to it, allows.
pub(crate) fn judge_start(plan: &Plan, epochs: &EpochWorker, exits: &[Exits]) -> Result<(), Failure> {
    for model in 0..plan.models.len() as u32 {
        let Some((pulled, most)) = epochs.start_limit(model) else { continue };
        let exceeding = exceeding(exits.iter().filter(|exits| exits.model == model).cloned(), most);
        if !exceeding.is_empty() {
            let leaving = leaving(plan, &exceeding, most);
            let id = &plan.models[pulled as usize].id;
            let message = format!("model `{id}` is held: nothing of it is in force, and by the ledgers {leaving}");
            return Err(Failure { kind: FailureKind::FirstPull, message, hint: Some(HELD_AT_START.to_owned()) });
        }
    }
    Ok(())
}

impl RestoreSetup {
    /// Takes up what an earlier run left of this worker's keys, and opens its partitions.
    ///
    /// # Errors
    /// A part can't be read or makes no sense; a partition can't be opened, or is not what was read.
    pub(crate) fn begin(
        &self,
        peers: u32,
        begin: &StartMessage,
        epochs: &mut EpochWorker,
        readers: &mut PartitionReaders,
    ) -> Result<(), Failure> {
        let StartMessage::Begin { partitions, manifest, new_syncs, clocks, clock_limit, due } = begin else {
            return Ok(());
        };
        let plan = &self.plan;
        let limited = |clock: Time| clock_limit.map_or(clock, |limit| clock.min(limit));
        let manifest = manifest.as_ref().map(|bytes| {
            let manifest = Manifest::decode(bytes).expect("it was read before");
            Manifest { clock: limited(manifest.clock), ..manifest }
        });
        let unchanged = Unchanged::new(plan, manifest.as_ref());
        if let Some(manifest) = &manifest {
            let of = |(index, new): (usize, &Vec<bool>)| baseline(plan, index, new.clone(), new_syncs, clocks);
            let baselines = unchanged.new_definitions.iter().enumerate().map(of).collect();
            let committed = clocks.iter().max().map_or(0, |committed| committed + 1);
            let fact_since = fact_since(plan, &manifest.models);
            let pulled = unchanged.pulled.iter().map(|pulled| *pulled || !self.pulls).collect();
            let restored = Restored { baselines, pulled, due: due.clone(), fact_since };
            epochs.prepare(restored, manifest.clock, manifest.clock.max(limited(committed)));
            self.restore_keys(peers, manifest, &unchanged, partitions, epochs)?;
        }
        self.open_partitions(peers, manifest.as_ref(), &unchanged, partitions, readers)
    }

    fn restore_keys(
        &self,
        peers: u32,
        manifest: &Manifest,
        unchanged: &Unchanged,
        partitions: &[PartitionId],
        epochs: &mut EpochWorker,
    ) -> Result<(), Failure> {
        let Some(store) = &self.store else { return Ok(()) };
        let mut ranks = vec![0; manifest.partitions.iter().map(|(rank, _)| *rank as usize + 1).max().unwrap_or(0)];
        for (rank, id) in &manifest.partitions {
            let now = partitions.iter().position(|partition| partition == id);
            ranks[*rank as usize] = now.expect("all partitions of the manifest are listed") as u32;
        }
        let models = unchanged.models.iter().zip(&manifest.models);
        let mappings = models.map(|(model, state)| {
            let (model, facts) = model.as_ref()?;
            let (columns, live) = rows_kept(&self.plan.models[*model], &state.rows);
            let pulled = state.pull.as_ref().map_or(0, |pull| pull.began);
            Some((*model, Mapping { facts: facts.clone(), ranks: ranks.clone(), columns, live, pulled }))
        });
        let mappings: Vec<Option<(usize, Mapping)>> = mappings.collect();
        for (model, state) in unchanged.models.iter().zip(&manifest.models) {
            if let (Some((model, _)), Some(pull)) = (model, &state.pull) {
                epochs.restore_pull(*model, pull.began);
            }
        }
        let mut newer: Vec<NewerKeys> = mappings.iter().map(|_| NewerKeys::default()).collect();
        // The newest first: of a key that a newer part has, or has forgotten, an older one is passed over.
        let changed = manifest.changed.iter().rev().map(|part| (part, true));
        let is_mine = |part: &StoredPart| {
            let (first, last) = (u64::from(part.shards.0) << 56, u64::from(part.shards.1) << 56 | u64::MAX >> 8);
            (owner(first, peers)..=owner(last, peers)).contains(&self.worker)
        };
        let all = manifest.parts.iter().filter(|part| is_mine(part)).count();
        let mut is_first = vec![true; self.plan.models.len()];
        for (part, changed) in changed.chain(manifest.parts.iter().map(|part| (part, false))) {
            if !is_mine(part) {
                continue;
            }
            let models = read_part(&**store, part).map_err(|error| Failure::of_resume(&error))?;
            for ((of, mapping), newer) in models.into_iter().zip(&mappings).zip(&mut newer) {
                let Some((model, mapping)) = mapping else { continue };
                if !changed && std::mem::take(&mut is_first[*model]) {
                    // Parts of a whole checkpoint have about equally many keys. Room for all of them saves copying tables as they grow.
                    epochs.reserve(*model, of.keys.len() * all);
                }
                for state in &of.keys {
                    let hash = hash_key(&state.key);
                    if owner(hash, peers) != self.worker {
                        continue;
                    }
                    let slot = if newer.is_empty() { None } else { epochs.model(*model).find(hash, &state.key) };
                    if newer.has(slot, &state.key) {
                        continue;
                    }
                    let slot = epochs.restore(*model, hash, state, mapping, manifest.clock);
                    if changed {
                        insert(&mut newer.restored, slot);
                    }
                }
                newer.forgotten.extend(of.forgotten);
            }
        }
        Ok(())
    }

    fn open_partitions(
        &self,
        peers: u32,
        manifest: Option<&Manifest>,
        unchanged: &Unchanged,
        partitions: &[PartitionId],
        readers: &mut PartitionReaders,
    ) -> Result<(), Failure> {
        let resumes: BTreeMap<&PartitionId, &Resume> =
            manifest.iter().flat_map(|m| &m.progress).map(|progress| (&progress.id, &progress.resume)).collect();
        let read_before: BTreeSet<&str> = resumes.keys().map(|partition| &partition.source[..]).collect();
        let read = manifest.map(Manifest::read).unwrap_or_default();
        let since = manifest.map(|manifest| manifest.clock).filter(|clock| *clock > 0);
        let mut opened = Vec::new();
        for (source, id) in self.source_ids.iter().enumerate() {
            let mut of = lock(&self.sources[source]);
            // The first process, which has the manifest, has done so before it listed all partitions; the others do it now.
            of.resume(&read);
            let listed = of.partitions();
            for (rank, partition) in partitions.iter().enumerate() {
                let rank = rank as u32;
                if partition.source != *id || rank % peers != self.worker {
                    continue;
                }
                let resume = resumes.get(partition).copied();
                if !listed.contains(partition) {
                    if resume.is_some() {
                        let (source, partition) = (id, &partition.name);
                        tracing::warn!(source, partition, "the partition is gone; what was read of it stays in force");
                    }
                    continue;
                }
                let again = unchanged.new_sources.contains(id);
                let (reader, read) = if resume.is_none() && read_before.contains(&id[..]) {
                    let reader = open_new(&mut **of, partition)?;
                    let from = reader.since();
                    (reader, ReadSince { new: from, kept: from })
                } else {
                    open(&mut **of, partition, resume, again, self.restart_sources)?
                };
                opened.push(PartitionReader::new(source, rank, reader, read, since));
            }
        }
        // Partitions found later have the ranks that come next for their worker.
        let beyond = (partitions.len() as u32).next_multiple_of(peers);
        readers.hand_in(opened, beyond + self.worker);
        Ok(())
    }
}

/// The keys of a model that newer parts of a checkpoint have.
#[derive(Default)]
struct NewerKeys {
    /// By slot, whether it is taken up.
    restored: Words,
    /// Keys that were forgotten.
    forgotten: HashSet<String>,
}

impl NewerKeys {
    fn is_empty(&self) -> bool {
        self.restored.is_empty() && self.forgotten.is_empty()
    }

    fn has(&self, slot: Option<Slot>, key: &str) -> bool {
        slot.is_some_and(|slot| contains(&self.restored, slot)) || self.forgotten.contains(key)
    }
}

/// What of an earlier run still means the same after an edit of the job.
struct Unchanged {
    /// Per model of the manifest: its index now, and per fact as it was written, the fact now.
    models: Vec<Option<(usize, Vec<Option<u32>>)>>,
    /// Per model and audience, whether its definition is new.
    new_definitions: Vec<Vec<bool>>,
    /// Per model, whether the checkpoint has all that a pull of it decides.
    pulled: Vec<bool>,
    /// Sources with an event of a window that is new.
    new_sources: Vec<String>,
}

impl Unchanged {
    fn new(plan: &Plan, manifest: Option<&Manifest>) -> Unchanged {
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
        let new_definitions = plan.models.iter().map(|model| {
            // A run that made no checkpoint left no definitions: they are taken to be the same.
            let new = |id: &str, now| !audiences.is_empty() && fingerprint(id) != Some(now);
            model.audiences.iter().map(|audience| new(&audience.id, audience.fingerprint)).collect()
        });
        let new_sources = plan.events.iter().filter(|event| {
            let model = &plan.models[event.model as usize];
            let set = |set: &TraitPlan| model.rows.as_ref().map(|rows| &rows.live[set.live as usize]);
            let is_new =
                |live: &LivePlan| !state_of(&model.id).is_some_and(|state| state.rows.live.contains(&live.fingerprint));
            event.facts.iter().any(|fact| !kept(event.model as usize, *fact as usize))
                || event.traits.iter().filter_map(set).any(is_new)
        });
        Unchanged {
            models: models.collect(),
            new_definitions: new_definitions.collect(),
            pulled: (0..plan.models.len()).map(|model| has_snapshot(plan, model, &state_of, &kept)).collect(),
            new_sources: new_sources.flat_map(|event| event.sources.iter().cloned()).collect(),
        }
    }
}

/// Returns, per model and fact, from when on an earlier run has read the events of its window; `None` if it has not kept it.
fn fact_since(plan: &Plan, states: &[ModelManifest]) -> Vec<Vec<Option<Time>>> {
    let models = plan.models.iter().map(|model| {
        let state = states.iter().find(|state| state.id == model.id);
        let since = |fingerprint: &[u8; 16]| {
            let fact = state?.facts.iter().position(|known| known == fingerprint)?;
            Some(state?.since.get(fact).copied().unwrap_or(0))
        };
        model.facts.iter().map(|fact| since(&fact.fingerprint)).collect()
    });
    models.collect()
}

/// Returns, by column and by live column of a model's rows, which one it was when the state was written; `None` if it is new.
fn rows_kept(model: &ModelPlan, was: &RowsManifest) -> (Vec<Option<u32>>, Vec<Option<u32>>) {
    let now = RowsManifest::of(model);
    let column = |now: &(String, String)| was.columns.iter().position(|was| was == now).map(|was| was as u32);
    let live = |now: &[u8; 16]| was.live.iter().position(|was| was == now).map(|was| was as u32);
    (now.columns.iter().map(column).collect(), now.live.iter().map(live).collect())
}

/// Returns whether the checkpoint has all that a pull of `model` decides.
fn has_snapshot<'a>(
    plan: &Plan,
    model: usize,
    state_of: &impl Fn(&str) -> Option<&'a ModelManifest>,
    kept: &impl Fn(usize, usize) -> bool,
) -> bool {
    let Some(snapshot) = &plan.models[model].snapshot else { return false };
    let pull = state_of(&plan.models[model].id).and_then(|state| state.pull.as_ref());
    let own = plan.models[model].facts.iter().enumerate();
    let own = own.filter(|(_, fact)| matches!(fact.kind, FactKind::Known | FactKind::Property(_)));
    // Of rows that are kept they follow.
    let mut own = own.filter(|_| !plan.models[model].audiences.is_empty() && plan.models[model].rows.is_none());
    let related = snapshot.parent.iter().flat_map(|(parent, _)| {
        let facts = plan.models[*parent as usize].facts.iter().enumerate();
        let on =
            facts.filter(|(_, fact)| matches!(fact.kind, FactKind::Related { model: of, .. } if of as usize == model));
        on.map(|(fact, _)| (*parent as usize, fact))
    });
    let include = || snapshot.include.iter().map(|(name, _)| name);
    let has_columns = || {
        let now = &plan.models[model];
        state_of(&now.id).is_some_and(|state| {
            // What follows from a kept row is in no checkpoint.
            let knows_more = now.rows.is_some() || state.rows == RowsManifest::default();
            knows_more && rows_kept(now, &state.rows).0.iter().all(Option::is_some)
        })
    };
    pull.is_some_and(|pull| pull.parquet == snapshot.parquet && pull.include.iter().eq(include()))
        && own.all(|(fact, _)| kept(model, fact))
        && related.into_iter().all(|(parent, fact)| kept(parent, fact))
        && has_columns()
}

/// Returns, per model of the plan, the pull of an earlier run that has all that the job needs.
pub(crate) fn known_pulls(plan: &Plan, manifest: Option<&Manifest>) -> Vec<Option<PullRecord>> {
    let unchanged = Unchanged::new(plan, manifest);
    let states = manifest.map_or(&[][..], |manifest| &manifest.models);
    let pull_of = |model: usize| {
        let state = states.iter().find(|state| state.id == plan.models[model].id)?;
        state.pull.clone().filter(|_| unchanged.pulled[model])
    };
    (0..plan.models.len()).map(pull_of).collect()
}

/// Returns, per model of the plan with a `known` pull of an earlier run, how the last pull of that run failed, if it did.
pub(crate) fn failed_pulls(
    plan: &Plan,
    manifest: Option<&Manifest>,
    known: &[Option<PullRecord>],
) -> Vec<Option<FailedPull>> {
    let failed = manifest.map_or(&[][..], |manifest| &manifest.failed_pulls);
    let failed_of = |(model, known): (&ModelPlan, &Option<PullRecord>)| {
        let (_, failed) = failed.iter().find(|(id, _)| *id == model.id)?;
        known.as_ref().filter(|known| known.parquet == failed.parquet)?;
        Some(failed.clone())
    };
    plan.models.iter().zip(known).map(failed_of).collect()
}

/// Returns what a run starts from, for a model.
fn baseline(plan: &Plan, index: usize, new_definitions: Vec<bool>, new_syncs: &[bool], clocks: &[Time]) -> Baseline {
    let model = &plan.models[index];
    let syncs = plan.job.syncs.values().zip(new_syncs.iter().zip(clocks)).map(|(sync, (is_new, clock))| {
        let mut has = vec![0; words_for(model.audiences.len())];
        for (index, audience) in model.audiences.iter().enumerate() {
            if sync.audiences.contains(&audience.id) {
                set(&mut has, index as u32, true);
            }
        }
        SyncBaseline {
            has,
            is_new: *is_new,
            silent: *is_new && !sync.backfill,
            committed: *clock,
            updates: sync.send_update,
        }
    });
    Baseline { live: true, syncs: syncs.collect(), new_definitions }
}

/// Opens a partition at the position of an earlier run; with `again` where the source is entered, if that is earlier. Returns from when
/// on it is read, too.
fn open(
    source: &mut dyn Source,
    id: &PartitionId,
    resume: Option<&Resume>,
    again: bool,
    restart: bool,
) -> Result<(Box<dyn Partition>, ReadSince), Failure> {
    let entered = |partition: Box<dyn Partition>| {
        let from = partition.since();
        (partition, ReadSince { new: from, kept: from })
    };
    let resumed = match source.open(id, resume) {
        Err(error @ SourceError::Unlike { .. }) if restart => {
            tracing::warn!(error = %error, "the partition is not what was read: it is read from where the source is entered");
            return source.open(id, None).map_err(Failure::of_source).map(entered);
        }
        Err(error) => {
            return Err(Failure { kind: FailureKind::Resume, ..Failure::of_source(error) });
        }
        Ok(resumed) => resumed,
    };
    if resume.is_none() || !again {
        return Ok(entered(resumed));
    }
    // One at a time: a partition is read once.
    let to = resumed.position();
    let kept = resumed.since();
    drop(resumed);
    let entered = source.open(id, None).map_err(Failure::of_source)?;
    let from = entered.position();
    let read = ReadSince { new: entered.since(), kept };
    if from < to {
        let (source, partition) = (&id.source, &id.name);
        tracing::info!(source, partition, from, to, "the partition is read again for a window that is new");
        return Ok((entered, read));
    }
    drop(entered);
    Ok((source.open(id, resume).map_err(Failure::of_source)?, read))
}

/// Opens a partition that was added while the job was down: from its start, wherever the source would be entered.
fn open_new(source: &mut dyn Source, id: &PartitionId) -> Result<Box<dyn Partition>, Failure> {
    let identity = source.open(id, None).map_err(Failure::of_source)?.identity();
    source.open(id, Some(&Resume { position: 0, identity })).map_err(Failure::of_source)
}
