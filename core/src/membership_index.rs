//! The published index: who is in which audience, as of a time, for readers that never wait for a worker.
//!
//! Each worker has a [`IndexWriter`]. It collects the changes of the keys that the worker owns, and at [`IndexWriter::close`]
//! applies them, one swap per key. A worker's *as-of* is what it closed last; the index's is the least over the workers, and
//! all answers of one call are membership at exactly that time, whatever worker owns which key: a key keeps the versions that
//! a reader of the last [`KEPT_MS`] may need.
//!
//! Until every worker has closed once, what downstream was told is served ([`MembershipIndex::load_told`]), as of told's clock and
//! marked as recovering; without that there is no answer. The first epoch of a worker holds an entry for everybody who
//! belongs, in any number of pieces; it is not in the stream of changes.
//!
//! Promises: readers take no lock that a writer holds for longer than a copy; a writer waits for no reader; a lookup equals
//! membership at its as-of time. Refuses (panics): an as-of that goes back, an entry of a member, an exit of somebody else.
//!
//! In memory, per member: its text, some 90 bytes, and 4 bytes per audience. A key without audiences takes nothing.

mod recent;
#[cfg(test)]
mod tests;

pub use recent::{ChangesAfter, Interest, Recent, RecentChange};

use crate::catalog::Catalog;
use crate::change::{ChangeKind, Reason};
use crate::ledger::LedgerAudience;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Duration;
use tokio::sync::Notify;

/// How long a version that was superseded stays readable, in ms of the job's clock: many times what a batch lookup takes, so
/// that readers hardly ever start over, and few versions of keys that change all the time.
const KEPT_MS: u64 = 200;

/// Changes that a worker's first epoch collects before it applies them: bounds the memory of a first fill.
const FIRST_FILL: usize = 65_536;

/// Bounds of the buckets of epochs' durations, in seconds.
const EPOCH_SECONDS: [f64; 10] = [0.001, 0.003, 0.01, 0.03, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0];

/// A model, by its index in the order of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelIndex(u32);

/// An audience of the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudienceEntry {
    /// Its id.
    pub id: String,
    /// What people see as its name.
    pub name: String,
    /// Its model's id.
    pub model: String,
    model_index: u32,
}

/// What an answer is as of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsOf {
    /// ms since the epoch.
    pub time: u64,
    /// The answer is what downstream was told last; the job is not live yet.
    pub recovering: bool,
}

/// How many members an audience has, and how that came about since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Members.
    pub size: u64,
    /// Entries, those of the first epoch included.
    pub entries: u64,
    /// Exits.
    pub exits: u64,
}

/// Whether what was read of a partition is reflected in answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reflected {
    /// It is.
    Yes,
    /// Not yet, or the partition is not known yet.
    NotYet,
    /// The job has no such source.
    UnknownSource,
}

/// The index. One per process.
pub struct MembershipIndex {
    catalog: Catalog,
    audiences: Vec<AudienceEntry>,
    models: Vec<Model>,
    workers: Box<[Worker]>,
    recovered: RwLock<Option<Arc<Recovered>>>,
    /// Keys that lost their last audience up to this time may have been forgotten.
    forgotten: AtomicU64,
    /// By source, then partition.
    partitions: Mutex<BTreeMap<String, BTreeMap<String, Positions>>>,
    /// A worker has closed an epoch, or a partition has come.
    moved: Notify,
    recent: Recent,
    epochs: prometheus::Histogram,
    nobody: Arc<[u32]>,
}

struct Model {
    id: String,
    members: papaya::HashMap<Arc<str>, Held>,
}

/// Workers write their own only; apart, so that they do not share cache lines.
#[repr(align(128))]
struct Worker {
    /// 0: never.
    closed: AtomicU64,
    counts: Mutex<Vec<Count>>,
    taken: OnceLock<()>,
}

struct Recovered {
    time: u64,
    /// By model.
    members: Vec<HashMap<Box<str>, Arc<[u32]>>>,
    /// By audience.
    sizes: Vec<u64>,
}

/// Positions of a partition.
#[derive(Default)]
struct Positions {
    /// All before this is reflected.
    reflected: u64,
    /// All before `.1` is reflected once the index is as of `.0`.
    ahead: VecDeque<(u64, u64)>,
}

/// The audiences of a key.
struct Held {
    newest: Version,
    /// Superseded versions, the newest last. Back to 0 where the key is new.
    older: Box<[Version]>,
}

#[derive(Clone)]
struct Version {
    from: u64,
    /// Sorted.
    audiences: Arc<[u32]>,
}

impl Held {
    /// The audiences at `time`; none where that is no longer known.
    fn at(&self, time: u64) -> Option<&Arc<[u32]>> {
        let versions = std::iter::once(&self.newest).chain(self.older.iter().rev());
        versions.into_iter().find(|version| version.from <= time).map(|version| &version.audiences)
    }
}

impl MembershipIndex {
    /// Returns an empty index of the audiences of `catalog`, for `workers` workers of this process.
    ///
    /// `models` and `sources` are the ids of the job's. `run` is part of the ids in the stream of changes: the time of the start
    /// in ms.
    pub fn new(
        catalog: Catalog,
        models: impl IntoIterator<Item = String>,
        sources: impl IntoIterator<Item = String>,
        workers: usize,
        run: u64,
    ) -> MembershipIndex {
        let models: BTreeSet<String> = models.into_iter().collect();
        let rank = |model: &str| models.iter().position(|id| id == model).expect("an audience's model is the job's");
        let audiences: Vec<AudienceEntry> = (0..catalog.present() as u32)
            .map(|index| {
                let LedgerAudience { id, name, model } = catalog.audience(index);
                let model_index = rank(&model) as u32;
                AudienceEntry { id, name, model, model_index }
            })
            .collect();
        let worker = || Worker {
            closed: AtomicU64::new(0),
            counts: Mutex::new(vec![Count::default(); audiences.len()]),
            taken: OnceLock::new(),
        };
        let epochs = prometheus::HistogramOpts::new("usher_epoch_seconds", "Time that epochs took, of all workers.")
            .buckets(EPOCH_SECONDS.to_vec());
        MembershipIndex {
            catalog,
            workers: (0..workers).map(|_| worker()).collect(),
            models: models.into_iter().map(|id| Model { id, members: papaya::HashMap::new() }).collect(),
            audiences,
            recovered: RwLock::new(None),
            forgotten: AtomicU64::new(0),
            partitions: Mutex::new(sources.into_iter().map(|id| (id, BTreeMap::new())).collect()),
            moved: Notify::new(),
            recent: Recent::new(run),
            epochs: prometheus::Histogram::with_opts(epochs).expect("the name is one"),
            nobody: Arc::new([]),
        }
    }

    /// The job's audiences, in the order of their ids: what answers name is an index here.
    pub fn audiences(&self) -> &[AudienceEntry] {
        &self.audiences
    }

    /// The same, as messages need them.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The model `id`.
    pub fn model(&self, id: &str) -> Option<ModelIndex> {
        self.models.binary_search_by(|model| model.id[..].cmp(id)).ok().map(|index| ModelIndex(index as u32))
    }

    /// The ids of the job's sources.
    pub fn sources(&self) -> Vec<String> {
        self.partitions.lock().expect("nobody panics with the lock").keys().cloned().collect()
    }

    /// The latest changes.
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// How long epochs took.
    pub fn epochs(&self) -> &prometheus::Histogram {
        &self.epochs
    }

    /// Serves what downstream was told at `time`, as (audience, key), until the job is live.
    pub fn load_ledger<'k>(&self, time: u64, members: impl IntoIterator<Item = (u32, &'k str)>) {
        let mut sets: Vec<HashMap<Box<str>, Vec<u32>>> = self.models.iter().map(|_| HashMap::new()).collect();
        let mut sizes = vec![0; self.audiences.len()];
        for (audience, key) in members {
            let of_model = &mut sets[self.audiences[audience as usize].model_index as usize];
            let set = match of_model.get_mut(key) {
                Some(set) => set,
                None => of_model.entry(key.into()).or_default(),
            };
            // Several syncs may have been told the same.
            if let Err(place) = set.binary_search(&audience) {
                set.insert(place, audience);
                sizes[audience as usize] += 1;
            }
        }
        let members =
            sets.into_iter().map(|sets| sets.into_iter().map(|(key, set)| (key, set.into())).collect()).collect();
        *self.recovered.write().expect("nobody panics with the lock") =
            Some(Arc::new(Recovered { time, members, sizes }));
    }

    /// What answers are as of now; none: there is no answer yet.
    pub fn as_of(&self) -> Option<AsOf> {
        match self.live_time() {
            0 => self.recovered().map(|recovered| AsOf { time: recovered.time, recovering: true }),
            time => Some(AsOf { time, recovering: false }),
        }
    }

    /// The audiences of `key`, sorted; none: there is no answer yet.
    pub fn lookup(&self, model: ModelIndex, key: &str) -> Option<(AsOf, Arc<[u32]>)> {
        self.read(model, |find| find(key))
    }

    /// The audiences of each of `keys`, in their order, at one time; none: there is no answer yet.
    pub fn lookup_all<K: AsRef<str>>(&self, model: ModelIndex, keys: &[K]) -> Option<(AsOf, Vec<Arc<[u32]>>)> {
        self.read(model, |find| keys.iter().map(|key| find(key.as_ref())).collect())
    }

    /// Reads at one time.
    fn read<T>(
        &self,
        model: ModelIndex,
        read: impl Fn(&dyn Fn(&str) -> Option<Arc<[u32]>>) -> Option<T>,
    ) -> Option<(AsOf, T)> {
        loop {
            let time = self.live_time();
            if time == 0 {
                // The last worker may have closed its first epoch in between: then there is no told any more, but a time.
                if let Some(recovered) = self.recovered() {
                    let members = &recovered.members[model.0 as usize];
                    let found = read(&|key| Some(members.get(key).unwrap_or(&self.nobody).clone()))?;
                    return Some((AsOf { time: recovered.time, recovering: true }, found));
                }
                if self.live_time() == 0 {
                    return None;
                }
                continue;
            }
            let members = self.models[model.0 as usize].members.pin();
            let found = read(&|key| match members.get(key) {
                Some(held) => held.at(time).cloned(),
                None => Some(self.nobody.clone()),
            });
            // What is no longer known at that time is known at a later one, which it is by now.
            if let Some(found) = found
                && self.forgotten.load(Ordering::Acquire) <= time
            {
                return Some((AsOf { time, recovering: false }, found));
            }
        }
    }

    /// Sizes, entries and exits, by audience.
    ///
    /// Each worker's are exact at what it closed last.
    pub fn counts(&self) -> Vec<Count> {
        if self.live_time() == 0
            && let Some(recovered) = self.recovered()
        {
            return recovered.sizes.iter().map(|size| Count { size: *size, ..Count::default() }).collect();
        }
        let mut sum = vec![Count::default(); self.audiences.len()];
        for worker in &self.workers {
            let counts = worker.counts.lock().expect("nobody panics with the lock");
            for (sum, count) in sum.iter_mut().zip(&*counts) {
                sum.size += count.size;
                sum.entries += count.entries;
                sum.exits += count.exits;
            }
        }
        sum
    }

    /// Takes note that what a partition holds before `position` takes effect at `at` or before: it is reflected once the index
    /// is as of `at`. Neither goes back, for one partition. From any thread.
    ///
    /// Under several processes each says it of the partitions of all.
    pub fn reflect(&self, source: &str, partition: &str, position: u64, at: u64) {
        let time = self.live_time();
        {
            let mut sources = self.partitions.lock().expect("nobody panics with the lock");
            let partitions = sources.get_mut(source).expect("partitions are of the job's sources");
            if !partitions.contains_key(partition) {
                partitions.insert(partition.to_owned(), Positions::default());
            }
            let positions = partitions.get_mut(partition).expect("it was put there");
            positions.advance(time);
            match positions.ahead.back_mut() {
                Some(last) if last.0 >= at => last.1 = last.1.max(position),
                _ => positions.ahead.push_back((at, position)),
            }
            positions.advance(time);
        }
        if at <= time {
            self.moved.notify_waiters();
        }
    }

    /// Whether the message that starts at `position` is reflected.
    pub fn reflected(&self, source: &str, partition: &str, position: u64) -> Reflected {
        let time = self.live_time();
        let mut sources = self.partitions.lock().expect("nobody panics with the lock");
        let Some(partitions) = sources.get_mut(source) else { return Reflected::UnknownSource };
        let reflected = partitions.get_mut(partition).is_some_and(|positions| {
            positions.advance(time);
            position < positions.reflected
        });
        if reflected { Reflected::Yes } else { Reflected::NotYet }
    }

    /// Waits until the message that starts at `position` is reflected, `patience` at most; then says whether it is.
    pub async fn wait_for(&self, source: &str, partition: &str, position: u64, patience: Duration) -> Reflected {
        let waiting = async {
            loop {
                let moved = self.moved.notified();
                tokio::pin!(moved);
                // Before the look, so that nothing is missed after it.
                moved.as_mut().enable();
                let reflected = self.reflected(source, partition, position);
                if reflected != Reflected::NotYet {
                    return reflected;
                }
                moved.await;
            }
        };
        tokio::time::timeout(patience, waiting).await.unwrap_or(Reflected::NotYet)
    }

    /// The least that workers have closed; 0 while one never has.
    fn live_time(&self) -> u64 {
        self.workers.iter().map(|worker| worker.closed.load(Ordering::Acquire)).min().unwrap_or(0)
    }

    fn recovered(&self) -> Option<Arc<Recovered>> {
        self.recovered.read().expect("nobody panics with the lock").clone()
    }
}

impl Positions {
    fn advance(&mut self, time: u64) {
        while let Some((at, position)) = self.ahead.front()
            && *at <= time
            && time > 0
        {
            self.reflected = self.reflected.max(*position);
            self.ahead.pop_front();
        }
    }
}

/// Writes the changes of one worker's keys.
pub struct IndexWriter {
    index: Arc<MembershipIndex>,
    worker: usize,
    changes: Vec<Collected>,
    counts: Vec<Count>,
    superseded: VecDeque<Superseded>,
}

/// Keys whose older versions go once no reader asks for a time before `newest`.
struct Superseded {
    newest: u64,
    /// With their models.
    keys: Vec<(u32, Arc<str>)>,
}

struct Collected {
    model: u32,
    change: RecentChange,
}

impl IndexWriter {
    /// The publisher of worker `worker`, counted in this process. A worker has one.
    pub fn new(index: Arc<MembershipIndex>, worker: usize) -> IndexWriter {
        index.workers[worker].taken.set(()).expect("a worker has one publisher");
        let counts = vec![Count::default(); index.audiences.len()];
        IndexWriter { index, worker, changes: Vec::new(), counts, superseded: VecDeque::new() }
    }

    /// Collects a change of membership, dated `at`. Those of one key come in their order.
    pub fn publish(&mut self, at: u64, audience: u32, kind: ChangeKind, reason: Reason, key: &str) {
        let key = match self.changes.last() {
            Some(last) if *last.change.key == *key => last.change.key.clone(),
            _ => key.into(),
        };
        let model = self.index.audiences[audience as usize].model_index;
        self.changes.push(Collected { model, change: RecentChange { at, audience, kind, reason, key } });
        if self.closed() == 0 && self.changes.len() >= FIRST_FILL {
            self.apply(0);
            self.changes.clear();
        }
    }

    /// Makes what was collected visible: membership of this worker's keys is known up to and including `as_of`, ms.
    pub fn close(&mut self, as_of: u64) {
        let index = self.index.clone();
        let closed = self.closed();
        assert!(as_of >= closed && as_of > 0, "an epoch that was closed at {closed} is closed again at {as_of}");
        assert!(self.changes.is_empty() || as_of > closed, "a change comes after its time {as_of} was closed");
        assert!(self.changes.iter().all(|collected| collected.change.at <= as_of), "a change is later than {as_of}");
        self.apply(closed);
        self.index.workers[self.worker]
            .counts
            .lock()
            .expect("nobody panics with the lock")
            .copy_from_slice(&self.counts);
        index.workers[self.worker].closed.store(as_of, Ordering::Release);
        if closed > 0 {
            index.recent.append(self.changes.drain(..).map(|collected| collected.change));
        } else if index.live_time() > 0
            && let Some(recovered) = index.recovered.write().expect("nobody panics with the lock").take()
        {
            // It may be large, and the worker has other things to do.
            std::thread::spawn(move || drop(recovered));
        }
        self.changes.clear();
        self.trim();
        index.moved.notify_waiters();
    }

    /// Takes note of how long an epoch took.
    pub fn took(&self, duration: Duration) {
        self.index.epochs.observe(duration.as_secs_f64());
    }

    fn closed(&self) -> u64 {
        self.index.workers[self.worker].closed.load(Ordering::Relaxed)
    }

    /// Gives keys their new versions. In the first epoch nobody reads yet, and it holds from ever.
    fn apply(&mut self, closed: u64) {
        let floor = self.index.live_time().saturating_sub(KEPT_MS);
        let mut order: Vec<u32> = (0..self.changes.len() as u32).collect();
        let at = |ix: &u32| &self.changes[*ix as usize];
        order.sort_by(|a, b| {
            let (a, b) = (at(a), at(b));
            (a.model, &a.change.key).cmp(&(b.model, &b.change.key))
        });
        let mut superseded = Vec::new();
        for of_key in order.chunk_by(|a, b| (at(a).model, &at(a).change.key) == (at(b).model, &at(b).change.key)) {
            let Collected { model, change } = at(&of_key[0]);
            let members = self.index.models[*model as usize].members.pin();
            let held = members.get(&*change.key);
            let mut versions: Vec<Version> = match held {
                Some(held) => held.older.iter().chain([&held.newest]).cloned().collect(),
                None => vec![Version { from: 0, audiences: self.index.nobody.clone() }],
            };
            let mut audiences = versions.last().expect("there is one").audiences.to_vec();
            for at_once in of_key.chunk_by(|a, b| at(a).change.at == at(b).change.at) {
                for ix in at_once {
                    let RecentChange { audience, kind, key, .. } = &at(ix).change;
                    let count = &mut self.counts[*audience as usize];
                    match (kind, audiences.binary_search(audience)) {
                        (ChangeKind::Entry, Err(place)) => {
                            audiences.insert(place, *audience);
                            count.entries += 1;
                            count.size += 1;
                        }
                        (ChangeKind::Exit, Ok(place)) => {
                            audiences.remove(place);
                            count.exits += 1;
                            count.size -= 1;
                        }
                        _ => panic!("{} of `{key}`, audience {audience}, changes nothing", kind.name()),
                    }
                }
                let from = if closed == 0 { 0 } else { at(&at_once[0]).change.at.max(closed + 1) };
                let version = Version { from, audiences: audiences[..].into() };
                match versions.last_mut() {
                    Some(last) if last.from >= from => last.audiences = version.audiences,
                    _ => versions.push(version),
                }
            }
            // The newest that holds at the floor, and what is newer.
            let first = versions.iter().rposition(|version| version.from <= floor).unwrap_or(0);
            versions.drain(..first);
            let newest = versions.pop().expect("there is one");
            if closed == 0 && newest.audiences.is_empty() {
                members.remove(&*change.key);
                continue;
            }
            if !versions.is_empty() || newest.audiences.is_empty() {
                superseded.push((*model, change.key.clone()));
            }
            members.insert(change.key.clone(), Held { newest, older: versions.into() });
        }
        if !superseded.is_empty() {
            // All that was changed is at most the next close.
            let newest = self.changes.iter().map(|collected| collected.change.at.max(closed + 1)).max().unwrap_or(0);
            self.superseded.push_back(Superseded { newest, keys: superseded });
        }
    }

    /// Forgets versions that no reader asks for any more.
    fn trim(&mut self) {
        let floor = self.index.live_time().saturating_sub(KEPT_MS);
        while let Some(Superseded { newest, .. }) = self.superseded.front()
            && *newest <= floor
        {
            let Superseded { keys, .. } = self.superseded.pop_front().expect("it is there");
            for (model, key) in keys {
                let members = &self.index.models[model as usize].members;
                let members = members.pin();
                let Some(Held { newest, older }) = members.get(&*key) else { continue };
                // What was changed since has its own turn.
                if newest.from > floor {
                    continue;
                }
                if newest.audiences.is_empty() {
                    self.index.forgotten.fetch_max(newest.from, Ordering::AcqRel);
                    members.remove(&*key);
                } else if !older.is_empty() {
                    let newest = newest.clone();
                    members.insert(key, Held { newest, older: Box::new([]) });
                }
            }
        }
    }
}
