//! The membership index: who is in which audience, as of a time, for readers that never wait for a worker.
//!
//! Each worker has an [`IndexWriter`]. It collects the changes of the keys that the worker owns, and [`IndexWriter::close`]
//! applies them, one swap per key. The *as-of* of a worker is the time that it closed last; that of the index is the least over
//! its workers. All answers of one call are membership at exactly that time, whichever workers own the keys: a key keeps the
//! versions that a reader of the last [`KEPT_MS`] may need.
//!
//! Until every worker has closed once, the index serves the memberships in the ledgers of the syncs
//! ([`MembershipIndex::load_ledger`]), as of the time of the ledgers and marked as recovering; without ledgers there is no answer.
//! The first epoch of a worker holds an entry for each member, in any number of pieces; it is not in the stream of changes.
//!
//! Promises: readers take no lock that a writer holds for longer than a copy; a writer waits for no reader; a lookup equals
//! membership at its as-of time. Refuses (panics): an as-of that goes back, an entry of a member, an exit of a non-member.
//!
//! In memory, per member: the text of its key, some 90 bytes, and 4 bytes per audience, which keys with the same audiences share. A key
//! without audiences takes nothing.
//!
//! ```
//! use std::sync::Arc;
//! use usher_core::catalog::Catalog;
//! use usher_core::change::{ChangeKind, Reason};
//! use usher_core::membership_index::{AsOf, IndexWriter, MembershipIndex};
//!
//! let catalog = Catalog::new("shop", [("buyers", "Buyers", "users"), ("vips", "VIPs", "users")]);
//! let index = Arc::new(MembershipIndex::new(catalog, ["users".to_owned()], ["web".to_owned()], 1, 0));
//! let users = index.model("users").unwrap();
//! assert!(index.lookup(users, "u-1").is_none());
//!
//! let mut writer = IndexWriter::new(index.clone(), 0);
//! writer.close(100);
//! writer.publish(105, 1, ChangeKind::Entry, Reason::Event, "u-1");
//! writer.close(110);
//!
//! let (as_of, audiences) = index.lookup(users, "u-1").unwrap();
//! assert_eq!(as_of, AsOf { time: 110, recovering: false });
//! assert_eq!(*audiences, [1]);
//! ```

mod recent;
#[cfg(test)]
mod tests;

pub use recent::{ChangesAfter, Interest, Recent, RecentChange};

use crate::catalog::Catalog;
use crate::change::{ChangeKind, Reason};
use crate::ledger::LedgerAudience;
use crate::lock::{self, lock};
use hashbrown::{DefaultHashBuilder, HashMap, HashSet};
use papaya::ResizeMode;
use seize::{Collector, Guard as _};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Duration;
use tokio::sync::Notify;

/// How long a superseded version stays readable, in ms of the job's clock: many times the duration of a batch lookup, so that
/// readers hardly ever start over, and short enough that a key that changes often has few versions.
const KEPT_MS: u64 = 200;

/// Changes that a worker collects in its first epoch before it applies them: bounds the memory of the first fill.
const FIRST_FILL: usize = 65_536;

/// Slots of a table that has become too small which a write moves to a larger one if it needs room there, some 0.3 µs each.
const MOVED_AT_ONCE: usize = 16;

/// Sets of audiences that are kept for sharing. When there are so many, all are dropped: that takes less than a ms.
const SHARED_SETS_MAX: usize = 16_384;

/// Audiences in a set that is shared, at most: larger ones are mostly of one key.
const SHARED_SET_LEN_MAX: usize = 16;

/// Superseded entries that are freed at once: before that all processors are interrupted, so that no reader has one.
const FREED_AT_ONCE: usize = 1_024;

/// Bounds of the buckets of epochs' durations, in seconds.
const EPOCH_SECONDS: [f64; 10] = [0.001, 0.003, 0.01, 0.03, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0];

/// A model: its index in the order of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelIndex(u32);

/// An audience of the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudienceEntry {
    /// Its id.
    pub id: String,
    /// Its name, as people see it.
    pub name: String,
    /// The id of its model.
    pub model: String,
    model_index: u32,
}

/// The time of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsOf {
    /// ms since the epoch.
    pub time: u64,
    /// Whether the answer comes from the ledgers of the syncs, because the job is not live yet.
    pub recovering: bool,
}

/// The size of an audience, and its entries and exits since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Number of members.
    pub size: u64,
    /// Entries, including those of the first epoch.
    pub entries: u64,
    /// Exits.
    pub exits: u64,
}

/// Whether a message is reflected in answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reflected {
    /// It is.
    Yes,
    /// Not yet, or the partition was not read from yet.
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
    /// What is served while the job recovers.
    ledger_view: RwLock<Option<Arc<LedgerView>>>,
    /// Keys that lost their last audience up to this time may have been forgotten.
    forgotten: AtomicU64,
    /// By source, then partition.
    partitions: Mutex<BTreeMap<String, BTreeMap<String, Positions>>>,
    /// Notified when a worker has closed an epoch or a partition was reflected.
    moved: Notify,
    recent: Recent,
    epochs: prometheus::Histogram,
    /// The audiences of a key that is in none.
    no_audiences: Arc<[u32]>,
}

struct Model {
    id: String,
    members: Members,
}

/// Keys, by text, and their audiences.
type Members = papaya::HashMap<Arc<str>, Held, DefaultHashBuilder>;

/// Returns an empty table.
fn no_members() -> Members {
    papaya::HashMap::builder()
        .hasher(DefaultHashBuilder::default())
        .resize_mode(ResizeMode::Incremental(MOVED_AT_ONCE))
        .collector(Collector::new().batch_size(FREED_AT_ONCE))
        .build()
}

/// Returns a set of audiences, shared with the other keys that have it where that is worth it.
fn share(sets: &mut HashSet<Arc<[u32]>>, audiences: &[u32]) -> Arc<[u32]> {
    if audiences.len() > SHARED_SET_LEN_MAX {
        return audiences.into();
    }
    if sets.len() == SHARED_SETS_MAX {
        sets.clear();
    }
    sets.get_or_insert_with(audiences, |audiences| audiences.into()).clone()
}

/// What one worker writes. Aligned, so that workers do not share cache lines.
#[repr(align(128))]
struct Worker {
    /// The time that the worker closed last; 0 if it has closed none.
    closed: AtomicU64,
    counts: Mutex<Vec<Count>>,
    /// Set once the worker has its writer.
    taken: OnceLock<()>,
}

/// The memberships in the ledgers of the syncs, at one time.
struct LedgerView {
    time: u64,
    /// By model.
    members: Vec<HashMap<Box<str>, Arc<[u32]>>>,
    /// By audience.
    sizes: Vec<u64>,
}

/// How far a partition is reflected.
#[derive(Default)]
struct Positions {
    /// All messages before this position are reflected.
    reflected: u64,
    /// (time, position): all messages before the position are reflected once the index is as of the time. Both grow.
    ahead: VecDeque<(u64, u64)>,
}

/// The audiences of a key.
struct Held {
    newest: Version,
    /// Superseded versions, the newest last. For a new key the oldest is from 0.
    older: Box<[Version]>,
}

#[derive(Clone)]
struct Version {
    /// From this time on, ms since the epoch.
    from: u64,
    /// Sorted.
    audiences: Arc<[u32]>,
}

impl Held {
    /// Returns the audiences at `time`; `None` if that version is no longer kept.
    fn at(&self, time: u64) -> Option<&Arc<[u32]>> {
        let versions = std::iter::once(&self.newest).chain(self.older.iter().rev());
        versions.into_iter().find(|version| version.from <= time).map(|version| &version.audiences)
    }
}

impl MembershipIndex {
    /// Returns an empty index of the audiences of `catalog`, for `workers` workers of this process.
    ///
    /// `models` and `sources` are the ids of those of the job. `run` is the time of the start in ms; it is part of the ids in the
    /// stream of changes.
    ///
    /// # Panics
    /// Panics if the model of an audience is not one of `models`.
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
        let epochs = prometheus::HistogramOpts::new("usher_epoch_seconds", "Duration of epochs, over all workers.")
            .buckets(EPOCH_SECONDS.to_vec());
        MembershipIndex {
            catalog,
            workers: (0..workers).map(|_| worker()).collect(),
            models: models.into_iter().map(|id| Model { id, members: no_members() }).collect(),
            audiences,
            ledger_view: RwLock::new(None),
            forgotten: AtomicU64::new(0),
            partitions: Mutex::new(sources.into_iter().map(|id| (id, BTreeMap::new())).collect()),
            moved: Notify::new(),
            recent: Recent::new(run),
            epochs: prometheus::Histogram::with_opts(epochs).expect("the name is valid"),
            no_audiences: Arc::new([]),
        }
    }

    /// Returns the job's audiences, ordered by id. Audiences in answers are indexes here.
    pub fn audiences(&self) -> &[AudienceEntry] {
        &self.audiences
    }

    /// Returns the audiences as messages need them.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Returns the model `id`; `None` if the job has no such model.
    pub fn model(&self, id: &str) -> Option<ModelIndex> {
        self.models.binary_search_by(|model| model.id[..].cmp(id)).ok().map(|index| ModelIndex(index as u32))
    }

    /// Returns the ids of the job's sources, in order.
    pub fn sources(&self) -> Vec<String> {
        lock(&self.partitions).keys().cloned().collect()
    }

    /// Returns the latest changes.
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Returns the histogram of the durations of epochs, in seconds.
    pub fn epochs(&self) -> &prometheus::Histogram {
        &self.epochs
    }

    /// Serves `members`, the memberships in the ledgers as (audience, key), as of `time`, until the job is live.
    ///
    /// A membership may be in several ledgers; so many processes share the keys. `time` is that of the latest change in a ledger, ms since the
    /// epoch. May be called from any thread: if the job is live by the end, nothing is served.
    pub fn load_ledger<'k>(&self, time: u64, members: impl IntoIterator<Item = (u32, &'k str)>, processes: usize) {
        let mut view = LedgerView {
            time,
            members: self.models.iter().map(|_| HashMap::new()).collect(),
            sizes: vec![0; self.audiences.len()],
        };
        let mut sets = HashSet::new();
        let mut set = Vec::new();
        for (audience, key) in members {
            let of_model = &mut view.members[self.audiences[audience as usize].model_index as usize];
            let of_key = match of_model.get_mut(key) {
                Some(of_key) => of_key,
                None => of_model.entry(key.into()).or_insert_with(|| self.no_audiences.clone()),
            };
            // Several syncs may have the same membership in their ledgers.
            let Err(place) = of_key.binary_search(&audience) else { continue };
            set.clear();
            set.extend_from_slice(of_key);
            set.insert(place, audience);
            *of_key = share(&mut sets, &set);
            view.sizes[audience as usize] += 1;
        }
        if self.live_time() == 0 {
            // Most keys in ledgers will be members, here or in other processes. Room for them now saves copying the table as it grows.
            for (model, members) in self.models.iter().zip(&view.members) {
                model.members.pin().reserve((members.len() / processes).saturating_sub(model.members.len()));
            }
        }
        let mut place = lock::write(&self.ledger_view);
        if self.live_time() == 0 {
            *place = Some(Arc::new(view));
        }
    }

    /// Returns the time of answers now; `None` if there is no answer yet.
    pub fn as_of(&self) -> Option<AsOf> {
        match self.live_time() {
            0 => self.ledger_view().map(|view| AsOf { time: view.time, recovering: true }),
            time => Some(AsOf { time, recovering: false }),
        }
    }

    /// Returns the audiences of `key`, sorted, and their time; `None` if there is no answer yet.
    pub fn lookup(&self, model: ModelIndex, key: &str) -> Option<(AsOf, Arc<[u32]>)> {
        self.read(model, |find| find(key))
    }

    /// Returns the audiences of each of `keys`, in their order, at one time; `None` if there is no answer yet.
    pub fn lookup_all<K: AsRef<str>>(&self, model: ModelIndex, keys: &[K]) -> Option<(AsOf, Vec<Arc<[u32]>>)> {
        self.read(model, |find| keys.iter().map(|key| find(key.as_ref())).collect())
    }

    /// Calls `read` with a lookup of keys at one time, again if versions of that time were dropped meanwhile.
    fn read<T>(
        &self,
        model: ModelIndex,
        read: impl Fn(&dyn Fn(&str) -> Option<Arc<[u32]>>) -> Option<T>,
    ) -> Option<(AsOf, T)> {
        loop {
            let time = self.live_time();
            if time == 0 {
                // The last worker may close its first epoch in between: then the view of the ledgers is gone, but there is a time.
                if let Some(view) = self.ledger_view() {
                    let members = &view.members[model.0 as usize];
                    let found = read(&|key| Some(members.get(key).unwrap_or(&self.no_audiences).clone()))?;
                    return Some((AsOf { time: view.time, recovering: true }, found));
                }
                if self.live_time() == 0 {
                    return None;
                }
                continue;
            }
            let members = self.models[model.0 as usize].members.pin();
            let found = read(&|key| match members.get(key) {
                Some(held) => held.at(time).cloned(),
                None => Some(self.no_audiences.clone()),
            });
            // A version that is no longer kept was superseded at a time that the index has reached by now: read again.
            if let Some(found) = found
                && self.forgotten.load(Ordering::Acquire) <= time
            {
                return Some((AsOf { time, recovering: false }, found));
            }
        }
    }

    /// Returns sizes, entries and exits, by audience.
    ///
    /// The part of each worker is exact at the time that it closed last.
    pub fn counts(&self) -> Vec<Count> {
        if self.live_time() == 0
            && let Some(view) = self.ledger_view()
        {
            return view.sizes.iter().map(|size| Count { size: *size, ..Count::default() }).collect();
        }
        let mut sum = vec![Count::default(); self.audiences.len()];
        for worker in &self.workers {
            let counts = lock(&worker.counts);
            for (sum, count) in sum.iter_mut().zip(&*counts) {
                sum.size += count.size;
                sum.entries += count.entries;
                sum.exits += count.exits;
            }
        }
        sum
    }

    /// Records that the messages of a partition before `position` take effect at `at` or before: they are reflected once the
    /// index is as of `at`. Neither goes back for one partition. May be called from any thread.
    ///
    /// With several processes, each records the partitions of all of them.
    ///
    /// # Panics
    /// Panics if the job has no such source.
    pub fn reflect(&self, source: &str, partition: &str, position: u64, at: u64) {
        let time = self.live_time();
        {
            let mut sources = lock(&self.partitions);
            let partitions = sources.get_mut(source).expect("partitions are of the job's sources");
            if !partitions.contains_key(partition) {
                partitions.insert(partition.to_owned(), Positions::default());
            }
            let positions = partitions.get_mut(partition).expect("it was inserted");
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

    /// Returns whether the message that starts at `position` is reflected.
    pub fn reflected(&self, source: &str, partition: &str, position: u64) -> Reflected {
        let time = self.live_time();
        let mut sources = lock(&self.partitions);
        let Some(partitions) = sources.get_mut(source) else { return Reflected::UnknownSource };
        let reflected = partitions.get_mut(partition).is_some_and(|positions| {
            positions.advance(time);
            position < positions.reflected
        });
        if reflected { Reflected::Yes } else { Reflected::NotYet }
    }

    /// Waits until the message that starts at `position` is reflected, at most for `patience`; returns whether it is.
    pub async fn wait_for(&self, source: &str, partition: &str, position: u64, patience: Duration) -> Reflected {
        let waiting = async {
            loop {
                let moved = self.moved.notified();
                tokio::pin!(moved);
                // Registered before the check, so that no notification after it is missed.
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

    /// Waits until answers are as of a time after `time`, at most for `patience`.
    pub async fn wait_past(&self, time: u64, patience: Duration) {
        let waiting = async {
            loop {
                let moved = self.moved.notified();
                tokio::pin!(moved);
                moved.as_mut().enable();
                if self.live_time() > time {
                    return;
                }
                moved.await;
            }
        };
        // An answer that is a little older is one, too.
        let _ = tokio::time::timeout(patience, waiting).await;
    }

    /// Returns the least of the times that workers closed last; 0 until all have closed once.
    fn live_time(&self) -> u64 {
        self.workers.iter().map(|worker| worker.closed.load(Ordering::Acquire)).min().unwrap_or(0)
    }

    fn ledger_view(&self) -> Option<Arc<LedgerView>> {
        lock::read(&self.ledger_view).clone()
    }
}

impl Positions {
    /// Takes over the positions that are reflected as of `time`.
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

/// Writes the changes of the keys of one worker.
pub struct IndexWriter {
    index: Arc<MembershipIndex>,
    worker: usize,
    changes: Vec<Collected>,
    counts: Vec<Count>,
    /// For sharing.
    sets: HashSet<Arc<[u32]>>,
    /// By `newest`, the earliest first.
    superseded: VecDeque<Superseded>,
}

/// Keys whose older versions can be dropped once no reader needs a time before `newest`.
struct Superseded {
    newest: u64,
    /// With their models.
    keys: Vec<(u32, Arc<str>)>,
}

/// A change that waits to be applied.
struct Collected {
    model: u32,
    change: RecentChange,
}

impl IndexWriter {
    /// Returns the writer of worker number `worker` of this process.
    ///
    /// # Panics
    /// Panics if the worker already has a writer.
    pub fn new(index: Arc<MembershipIndex>, worker: usize) -> IndexWriter {
        index.workers[worker].taken.set(()).expect("a worker has one writer");
        let counts = vec![Count::default(); index.audiences.len()];
        let (changes, sets, superseded) = (Vec::new(), HashSet::new(), VecDeque::new());
        IndexWriter { index, worker, changes, counts, sets, superseded }
    }

    /// Collects a change of membership at `at`, ms since the epoch, which readers see from the next [`IndexWriter::close`] on. The
    /// changes of one key come in their order.
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

    /// Applies the collected changes: membership of this worker's keys is final up to and including `as_of`, ms since the epoch.
    ///
    /// # Panics
    /// Panics if `as_of` goes back or is 0, if it is before a collected change or, with changes, is the time that was closed last,
    /// and if a change is an entry of a member or an exit of a non-member.
    pub fn close(&mut self, as_of: u64) {
        let index = self.index.clone();
        let closed = self.closed();
        assert!(as_of >= closed && as_of > 0, "an epoch that was closed at {closed} is closed again at {as_of}");
        assert!(self.changes.is_empty() || as_of > closed, "a change comes after its time {as_of} was closed");
        assert!(self.changes.iter().all(|collected| collected.change.at <= as_of), "a change is later than {as_of}");
        self.apply(closed);
        if closed == 0 {
            // Whoever iterates ends a growth that is under way: otherwise the first changes of the live job would. The smaller table is freed.
            for model in &index.models {
                let guard = model.members.guard();
                let _ = model.members.iter(&guard).next();
                guard.flush();
            }
        }
        let worker = &index.workers[self.worker];
        lock(&worker.counts).copy_from_slice(&self.counts);
        worker.closed.store(as_of, Ordering::Release);
        if closed > 0 {
            index.recent.append(self.changes.drain(..).map(|collected| collected.change));
        } else if index.live_time() > 0
            && let Some(view) = lock::write(&index.ledger_view).take()
        {
            // The view may be large; the worker does not wait until it is freed.
            std::thread::spawn(move || drop(view));
        }
        self.changes.clear();
        self.trim();
        index.moved.notify_waiters();
    }

    /// Records the duration of an epoch.
    pub fn took(&self, duration: Duration) {
        self.index.epochs.observe(duration.as_secs_f64());
    }

    fn closed(&self) -> u64 {
        self.index.workers[self.worker].closed.load(Ordering::Relaxed)
    }

    /// Gives keys their new versions. Those of the first epoch hold from time 0: there are no readers before its end.
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
                None => vec![Version { from: 0, audiences: self.index.no_audiences.clone() }],
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
                let version = Version { from, audiences: share(&mut self.sets, &audiences) };
                match versions.last_mut() {
                    Some(last) if last.from >= from => last.audiences = version.audiences,
                    _ => versions.push(version),
                }
            }
            // Keeps the version that holds at the floor, and newer ones.
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
            // The time of the last new version; it is at most that of this close.
            let newest = self.changes.iter().map(|collected| collected.change.at.max(closed + 1)).max().unwrap_or(0);
            self.superseded.push_back(Superseded { newest, keys: superseded });
        }
    }

    /// Drops the versions that no reader needs any more.
    fn trim(&mut self) {
        let floor = self.index.live_time().saturating_sub(KEPT_MS);
        while let Some(Superseded { newest, .. }) = self.superseded.front()
            && *newest <= floor
        {
            let Superseded { keys, .. } = self.superseded.pop_front().expect("the deque is not empty");
            for (model, key) in keys {
                let members = &self.index.models[model as usize].members;
                let members = members.pin();
                let Some(Held { newest, older }) = members.get(&*key) else { continue };
                // The key has changed since, and is also in a later batch.
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
