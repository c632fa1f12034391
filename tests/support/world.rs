//! The world of a simulated job: sources, syncs, store and clock in memory, which outlive it, and their failures.
//!
//! Promises: what was acknowledged stays; what a dead or replaced job still does has no effect, as with transactions
//! that are fenced and manifests that are put if absent. What a job does in the world is counted: at the count that the
//! simulation draws the job dies, before the action or after it, without an acknowledgement.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use usher_config::Job;
use usher_core::catalog::Catalog;
use usher_core::change::{ChangeKind, Changes, Filter, Reason};
use usher_core::clock::Clock;
use usher_core::ledger::{Ledger, LedgerAudience};
use usher_core::sink::{Sink, SinkError, Standing, SyncStatus};
use usher_core::source::{
    Body, Partition, PartitionId, Polled, ReadFrom, Record, Records, Resume, Source, SourceError,
};
use usher_core::store::{Store, StoreError};
use usher_dataflow::{Status, Time};

/// The rules of the world; each can be broken on purpose, to show that the simulator detects it.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// What a replaced job still sends is refused.
    pub fence: bool,
    /// A sink reports a change as committed once it is, no sooner.
    pub report_after_commit: bool,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { fence: true, report_after_commit: true }
    }
}

/// A message that downstream has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub audience: String,
    pub key: String,
    pub at: u64,
    pub entered: bool,
    reason: Reason,
}

#[derive(Default)]
struct Topic {
    /// Which life may write.
    owner: u64,
    messages: Vec<Message>,
    /// Audience, model, key.
    ledger: BTreeSet<(String, String, String)>,
    clock: u64,
    any: bool,
    checked: usize,
    members: BTreeSet<(String, String)>,
    ids: BTreeSet<(String, String, bool, u64)>,
}

#[derive(Default)]
struct Lasting {
    partitions: BTreeMap<PartitionId, Vec<String>>,
    manifests: BTreeMap<u64, Vec<u8>>,
    parts: BTreeMap<String, Vec<u8>>,
    topics: Vec<Topic>,
    done: u64,
    /// When the job dies, counted in what it has done.
    dies_at: Option<u64>,
    lives: u64,
    notes: Vec<String>,
    random: fastrand::Rng,
}

/// What outlives a job.
pub struct World {
    clock: AtomicU64,
    /// Messages before this time were deleted before any job read them; 0: none were.
    kept_since: AtomicU64,
    /// Syncs are asked to commit whatever they have.
    commit: AtomicBool,
    lasting: Mutex<Lasting>,
    rules: Rules,
}

impl Clock for World {
    fn now(&self) -> Time {
        self.clock.load(Ordering::SeqCst)
    }
}

impl World {
    pub fn new(seed: u64, rules: Rules) -> Arc<World> {
        let random = fastrand::Rng::with_seed(seed);
        Arc::new(World {
            clock: AtomicU64::new(0),
            kept_since: AtomicU64::new(0),
            commit: AtomicBool::new(false),
            lasting: Mutex::new(Lasting { random, ..Lasting::default() }),
            rules,
        })
    }

    fn lasting(&self) -> MutexGuard<'_, Lasting> {
        self.lasting.lock().expect("the lock is not poisoned")
    }

    pub fn set_clock(&self, clock: u64) {
        self.clock.store(clock, Ordering::SeqCst);
    }

    pub fn keep_since(&self, time: u64) {
        self.kept_since.store(time, Ordering::SeqCst);
    }

    pub fn ask_to_commit(&self, asked: bool) {
        self.commit.store(asked, Ordering::SeqCst);
    }

    pub fn add_partition(&self, source: &str, name: &str) {
        let id = PartitionId { source: source.to_owned(), name: name.to_owned() };
        self.lasting().partitions.insert(id, Vec::new());
    }

    pub fn append(&self, source: &str, name: &str, lines: Vec<String>) {
        let id = PartitionId { source: source.to_owned(), name: name.to_owned() };
        self.lasting().partitions.get_mut(&id).expect("the partition was added").extend(lines);
    }

    /// The job dies when it has done so much more.
    pub fn die_after(&self, more: u64) {
        let mut lasting = self.lasting();
        lasting.dies_at = Some(lasting.done + more);
    }

    pub fn new_life(self: &Arc<World>) -> Arc<Life> {
        let mut lasting = self.lasting();
        lasting.lives += 1;
        lasting.dies_at = None;
        Arc::new(Life {
            number: lasting.lives,
            world: Arc::clone(self),
            dead: AtomicBool::new(false),
            status: OnceLock::new(),
            read: Mutex::new(BTreeMap::new()),
            committed: Mutex::new(Vec::new()),
        })
    }

    /// Returns the ledger of a sync.
    pub fn ledger(&self, sync: usize, job: &Job) -> Ledger {
        let lasting = self.lasting();
        let mut ledger = Ledger::default();
        let Some(topic) = lasting.topics.get(sync) else { return ledger };
        (ledger.any, ledger.clock) = (topic.any, topic.clock);
        for (id, model, key) in &topic.ledger {
            let name = job.audiences.get(id).map_or(id, |audience| &audience.name);
            let audience = ledger.audience(LedgerAudience { id: id.clone(), name: name.clone(), model: model.clone() });
            ledger.push(audience, key);
        }
        ledger
    }

    /// Returns the messages of a sync.
    pub fn messages(&self, sync: usize) -> Vec<Message> {
        self.lasting().topics.get(sync).map_or(Vec::new(), |topic| topic.messages.clone())
    }

    pub fn committed_in_all(&self) -> usize {
        self.lasting().topics.iter().map(|topic| topic.messages.len()).sum()
    }

    /// How many messages are dated later than a time.
    pub fn dated_after(&self, time: u64) -> usize {
        self.lasting().topics.iter().flat_map(|topic| &topic.messages).filter(|message| message.at > time).count()
    }

    /// Notes what happens, for the report of a failure.
    pub fn note(&self, what: String) {
        self.lasting().notes.push(what);
    }

    /// What was noted.
    pub fn notes(&self) -> String {
        self.lasting().notes.join("\n")
    }

    /// The exits with the reason `recovery`.
    pub fn recovered_exits(&self, sync: usize) -> Vec<Message> {
        let lasting = self.lasting();
        let exits = lasting.topics[sync].messages.iter().filter(|m| !m.entered && m.reason == Reason::Recovery);
        exits.cloned().collect()
    }

    /// Reads what a sync has sent since the last check, as a consumer does; returns the members that it adds up to.
    pub fn check(&self, sync: usize) -> Result<BTreeSet<(String, String)>, String> {
        let mut lasting = self.lasting();
        let topic = &mut lasting.topics[sync];
        for message in &topic.messages[topic.checked..] {
            let Message { audience, key, at, entered, .. } = message.clone();
            if !topic.ids.insert((audience.clone(), key.clone(), entered, at)) {
                return Err(format!("{message:?} came twice"));
            }
            let member = (audience, key);
            let alternates = if entered { topic.members.insert(member) } else { topic.members.remove(&member) };
            if !alternates {
                return Err(format!("{message:?} does not alternate"));
            }
        }
        topic.checked = topic.messages.len();
        Ok(topic.members.clone())
    }
}

/// A job's life in the world.
pub struct Life {
    number: u64,
    world: Arc<World>,
    dead: AtomicBool,
    status: OnceLock<Arc<Status>>,
    /// Up to where it has read.
    read: Mutex<BTreeMap<PartitionId, usize>>,
    /// Up to when each sync has committed.
    committed: Mutex<Vec<u64>>,
}

/// Whether an action happened, and whether it was acknowledged.
enum Happens {
    Acknowledged,
    Unacknowledged,
    Not,
}

impl Life {
    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn is_alive(&self) -> bool {
        !self.dead.load(Ordering::SeqCst)
    }

    pub fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }

    pub fn end_with(&self, status: Arc<Status>) {
        assert!(self.status.set(status).is_ok(), "a life ends once");
    }

    pub fn has_read_all(&self) -> bool {
        let lasting = self.world.lasting();
        let read = self.read.lock().expect("the lock is not poisoned");
        lasting.partitions.iter().all(|(id, lines)| read.get(id) == Some(&lines.len()))
    }

    pub fn committed(&self) -> Vec<u64> {
        self.committed.lock().expect("the lock is not poisoned").clone()
    }

    pub fn has_committed(&self, clock: u64) -> bool {
        self.committed.lock().expect("the lock is not poisoned").iter().all(|committed| *committed >= clock)
    }

    pub fn store(self: &Arc<Life>) -> FakeStore {
        FakeStore(Arc::clone(self))
    }

    /// Takes over the ledger of a sync, as a producer that fences does.
    pub fn fence(&self, sync: usize) {
        let mut lasting = self.world.lasting();
        if lasting.topics.len() <= sync {
            lasting.topics.resize_with(sync + 1, Topic::default);
        }
        lasting.topics[sync].owner = self.number;
    }

    /// Starts a sync.
    pub fn sink(self: &Arc<Life>, sync: usize, job: &Job, catalog: &Arc<Catalog>) -> Box<dyn Sink> {
        let mut lasting = self.world.lasting();
        self.committed.lock().expect("the lock is not poisoned").push(0);
        let filter = usher_connectors::messages::filter(
            sync as u16,
            job.syncs.values().nth(sync).expect("a sync of the job"),
            catalog,
        );
        let models = job.audiences.iter().map(|(id, audience)| (id.clone(), audience.model.clone())).collect();
        let sink = FakeSink {
            life: Arc::clone(self),
            sync,
            filter,
            catalog: Arc::clone(catalog),
            models,
            waiting: Vec::new(),
            until: 0,
            committed: 0,
            commit_every: if lasting.random.bool() { lasting.random.usize(1..=3) } else { usize::MAX },
            writes: 0,
        };
        Box::new(sink)
    }

    /// Counts something that is done in the world; decides what comes of it.
    fn does(&self, lasting: &mut Lasting) -> Happens {
        if !self.is_alive() {
            return Happens::Not;
        }
        lasting.done += 1;
        if lasting.dies_at.is_some_and(|at| at <= lasting.done) && lasting.lives == self.number {
            lasting.dies_at = None;
            self.die();
            if let Some(status) = self.status.get() {
                status.abort();
            }
            return if lasting.random.bool() { Happens::Unacknowledged } else { Happens::Not };
        }
        Happens::Acknowledged
    }
}

/// Topics of messages, in memory.
pub struct FakeSource {
    life: Arc<Life>,
    id: String,
}

impl FakeSource {
    pub fn new(life: &Arc<Life>, id: &str) -> FakeSource {
        FakeSource { life: Arc::clone(life), id: id.to_owned() }
    }
}

impl Source for FakeSource {
    fn partitions(&self) -> Vec<PartitionId> {
        let lasting = self.life.world.lasting();
        lasting.partitions.keys().filter(|id| id.source == self.id).cloned().collect()
    }

    fn discover(&mut self) -> Result<Vec<PartitionId>, SourceError> {
        Ok(Vec::new())
    }

    fn open(&mut self, id: &PartitionId, from: Option<&Resume>) -> Result<Box<dyn Partition>, SourceError> {
        let there = self.life.world.lasting().partitions[id].len();
        let position = from.map_or(0, |resume| resume.position);
        assert!(position <= there as u64, "the state has read what was never there");
        let (life, id, line) = (Arc::clone(&self.life), id.clone(), String::new());
        life.read.lock().expect("the lock is not poisoned").insert(id.clone(), position as usize);
        let kept_since = self.life.world.kept_since.load(Ordering::SeqCst);
        let since = if from.is_none() && kept_since > 0 { ReadFrom::Time(kept_since) } else { ReadFrom::Ever };
        Ok(Box::new(FakePartition { life, id, position, there, line, since }))
    }
}

struct FakePartition {
    life: Arc<Life>,
    id: PartitionId,
    position: u64,
    there: usize,
    line: String,
    since: ReadFrom,
}

impl Partition for FakePartition {
    fn id(&self) -> &PartitionId {
        &self.id
    }

    fn poll(&mut self, _budget: usize) -> Result<Polled<'_>, SourceError> {
        {
            let lasting = self.life.world.lasting();
            let Some(line) = lasting.partitions[&self.id].get(self.position as usize) else {
                return Ok(Polled::Idle);
            };
            self.line.clone_from(line);
        }
        let record =
            Record { position: self.position, timestamp: None, headers: None, body: Body::Bytes(self.line.as_bytes()) };
        self.position += 1;
        self.life.read.lock().expect("the lock is not poisoned").insert(self.id.clone(), self.position as usize);
        Ok(Polled::Records(Records::one(record)))
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn since(&self) -> ReadFrom {
        self.since
    }

    fn identity(&self) -> String {
        "the one".to_owned()
    }

    fn progress(&self) -> (u64, u64) {
        (self.position, self.there as u64)
    }

    fn caught_up(&self) -> bool {
        self.position >= self.there as u64
    }
}

/// An object store, in memory.
pub struct FakeStore(Arc<Life>);

fn failed() -> StoreError {
    StoreError::Failed { url: "memory".to_owned(), action: "written", reason: "it is simulated".to_owned() }
}

impl Store for FakeStore {
    fn put_part(&self, name: &str, content: &[u8]) -> Result<u64, StoreError> {
        let mut lasting = self.0.world.lasting();
        let fails = lasting.random.u8(0..50) == 0;
        let happens = self.0.does(&mut lasting);
        let whole = !matches!(happens, Happens::Not) && !fails;
        let kept = if whole { content.len() } else { lasting.random.usize(0..=content.len()) };
        if self.0.is_alive() || whole {
            assert!(!lasting.parts.contains_key(name), "`{name}` is stored twice");
            lasting.parts.insert(name.to_owned(), content[..kept].to_vec());
        }
        match happens {
            Happens::Acknowledged if !fails => Ok(content.len() as u64),
            _ => Err(failed()),
        }
    }

    fn get_part(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let lasting = self.0.world.lasting();
        let part = lasting.parts.get(name);
        Ok(part.unwrap_or_else(|| panic!("the manifest names `{name}`, which is not there")).clone())
    }

    fn latest(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let lasting = self.0.world.lasting();
        Ok(lasting.manifests.last_key_value().map(|(number, content)| (*number, content.clone())))
    }

    fn publish(&self, number: u64, content: &[u8]) -> Result<(), StoreError> {
        let mut lasting = self.0.world.lasting();
        if lasting.manifests.range(number..).next().is_some() {
            return Err(StoreError::Superseded { url: "memory".to_owned(), number });
        }
        let unacknowledged = lasting.random.u8(0..20) == 0;
        match self.0.does(&mut lasting) {
            Happens::Not => return Err(failed()),
            Happens::Acknowledged if !unacknowledged => {
                lasting.manifests.insert(number, content.to_vec());
                return Ok(());
            }
            Happens::Acknowledged | Happens::Unacknowledged => {}
        }
        lasting.manifests.insert(number, content.to_vec());
        Err(failed())
    }

    fn collect(&self, keep: &BTreeSet<String>, number: u64) -> Result<(), StoreError> {
        let mut lasting = self.0.world.lasting();
        if lasting.manifests.last_key_value().is_some_and(|(latest, _)| *latest > number) {
            return Err(StoreError::Superseded { url: "memory".to_owned(), number });
        }
        if let Happens::Acknowledged = self.0.does(&mut lasting) {
            lasting.manifests.retain(|known, _| *known >= number);
            lasting.parts.retain(|name, _| keep.contains(name));
        }
        Ok(())
    }
}

/// A topic with transactions, in memory.
struct FakeSink {
    life: Arc<Life>,
    sync: usize,
    filter: Filter,
    catalog: Arc<Catalog>,
    models: BTreeMap<String, String>,
    /// Messages, and whether they are sent.
    waiting: Vec<(Message, bool)>,
    until: u64,
    committed: u64,
    commit_every: usize,
    writes: usize,
}

impl FakeSink {
    fn commit(&mut self) -> Result<(), SinkError> {
        let refused = |reason: &str| SinkError::Failed {
            to: "the topic".to_owned(),
            action: "written",
            reason: reason.to_owned(),
            hint: "none",
        };
        let mut lasting = self.life.world.lasting();
        if self.life.world.rules.fence && lasting.topics[self.sync].owner != self.life.number {
            return Err(refused("fenced"));
        }
        let happens = self.life.does(&mut lasting);
        if matches!(happens, Happens::Not) {
            return Err(refused("dead"));
        }
        let Lasting { topics, notes, .. } = &mut *lasting;
        let topic = &mut topics[self.sync];
        for (message, sent) in self.waiting.drain(..) {
            let model = self.models.get(&message.audience).cloned().unwrap_or_default();
            let member = (message.audience.clone(), model, message.key.clone());
            if message.entered {
                topic.ledger.insert(member);
            } else {
                topic.ledger.retain(|(audience, _, key)| (audience, key) != (&member.0, &member.2));
            }
            topic.clock = topic.clock.max(message.at);
            notes.push(format!("life {} tells sync {} {message:?}", self.life.number, self.sync));
            if sent {
                topic.messages.push(message);
            }
        }
        topic.any = true;
        if matches!(happens, Happens::Unacknowledged) {
            return Err(refused("dead"));
        }
        self.committed = self.until;
        self.life.committed.lock().expect("the lock is not poisoned")[self.sync] = self.until;
        Ok(())
    }
}

/// The status of a sync that nobody asks for.
struct NoStanding;

impl Standing for NoStanding {
    fn status(&self) -> SyncStatus {
        SyncStatus::default()
    }
}

impl Sink for FakeSink {
    fn write(&mut self, epoch: &Changes, until: u64) -> Result<(), SinkError> {
        assert!(until >= self.until, "time goes back");
        for change in epoch.iter().filter(|change| self.filter.commits(change)) {
            assert!((self.until..until).contains(&change.at) || self.until == 0, "a change comes out of its time");
            let message = Message {
                audience: self.catalog.id(change.audience).to_owned(),
                key: epoch.key(change).to_owned(),
                at: change.at,
                entered: change.kind == ChangeKind::Entry,
                reason: change.reason,
            };
            self.waiting.push((message, self.filter.sends(change)));
        }
        if until == self.until {
            return Ok(());
        }
        self.until = until;
        self.writes += 1;
        if !self.life.world.rules.report_after_commit {
            self.committed = until;
        }
        // Several writes are one transaction, until it is asked for.
        let asked = self.life.world.commit.load(Ordering::SeqCst);
        if asked || self.writes.is_multiple_of(self.commit_every) { self.commit() } else { Ok(()) }
    }

    fn committed(&self) -> u64 {
        self.committed
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        if self.waiting.is_empty() { Ok(()) } else { self.commit() }
    }

    fn standing(&self) -> Arc<dyn Standing> {
        Arc::new(NoStanding)
    }
}
