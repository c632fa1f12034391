//! A store in memory, with faults on request: the store of tests and of the simulator.
//!
//! It is [`Objects`] over a map, frames and all. Clones share what is stored, as processes share a bucket.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::frame::{self, Kind};
use super::objects::{self, Blobs, Objects};
use usher_core::lock::{lock, wait_while};
use usher_core::store::{Store, StoreError};

/// A store in memory.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    objects: Arc<Objects>,
}

/// The calls of a [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// [`Store::put_part`].
    PutPart,
    /// [`Store::get_part`].
    GetPart,
    /// [`Store::latest`].
    Latest,
    /// [`Store::publish`].
    Publish,
    /// [`Store::collect`].
    Collect,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done, and an error returned.
    Refused,
    /// All is done, and an error returned.
    LostAnswer,
    /// Of what [`Call::PutPart`] or [`Call::Publish`] would store, so many bytes are there (all but the last, at most), and an
    /// error returned. Of other calls: as refused.
    Cut(usize),
    /// It waits for [`MemoryStore::release`], then goes on.
    Held,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Default)]
struct State {
    blobs: BTreeMap<String, Vec<u8>>,
    faults: BTreeMap<Call, VecDeque<Option<Fault>>>,
    held: usize,
    releases: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl MemoryStore {
    /// An empty one.
    pub fn new() -> MemoryStore {
        let shared = Arc::new(Shared::default());
        let objects = Objects::over("memory", Box::new(Arc::clone(&shared)));
        MemoryStore { shared, objects: Arc::new(objects) }
    }

    /// Lets the call of this kind that comes after `passed` more take a fault. Faults of a kind are given in the order of calls.
    pub fn fault(&self, call: Call, passed: usize, fault: Fault) {
        let mut state = self.shared.lock();
        let faults = state.faults.entry(call).or_default();
        faults.extend(std::iter::repeat_n(None, passed));
        faults.push_back(Some(fault));
    }

    /// Lets all calls that are held go on.
    pub fn release(&self) {
        self.shared.lock().releases += 1;
        self.shared.released.notify_all();
    }

    /// How many calls are held.
    pub fn held(&self) -> usize {
        self.shared.lock().held
    }

    /// The names of the parts.
    pub fn parts(&self) -> BTreeSet<String> {
        self.shared.list("parts").expect("a map can be listed").into_iter().collect()
    }

    /// Does what the script says in front of a call: `Ok(true)` if its answer is to be lost.
    fn enter(&self, call: Call, store: impl FnOnce(&mut State, usize)) -> Result<bool, StoreError> {
        let action = if matches!(call, Call::GetPart | Call::Latest) { "read" } else { "written" };
        let refused = || self.objects.failed(action, "as the script has it".to_owned());
        let mut state = self.shared.lock();
        match state.faults.get_mut(&call).and_then(VecDeque::pop_front).flatten() {
            None => Ok(false),
            Some(Fault::LostAnswer) => Ok(true),
            Some(Fault::Refused) => Err(refused()),
            Some(Fault::Cut(bytes)) => {
                store(&mut state, bytes);
                Err(refused())
            }
            Some(Fault::Held) => {
                let releases = state.releases;
                state.held += 1;
                let until = |state: &mut State| state.releases == releases;
                state = wait_while(&self.shared.released, state, until);
                state.held -= 1;
                Ok(false)
            }
        }
    }

    fn leave<T>(&self, lost: bool, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        match lost {
            true => answer.and(Err(self.objects.failed("written", "as the script has it: the answer is lost".into()))),
            false => answer,
        }
    }
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new()
    }
}

/// Stores the beginning of an object that would be created.
fn cut(name: String, frame: &[u8]) -> impl FnOnce(&mut State, usize) {
    move |state, bytes| {
        state.blobs.entry(name).or_insert_with(|| frame[..bytes.min(frame.len() - 1)].to_vec());
    }
}

impl Store for MemoryStore {
    fn put_part(&self, name: &str, content: &[u8]) -> Result<u64, StoreError> {
        let frame = frame::seal(Kind::Part, content);
        let lost = self.enter(Call::PutPart, cut(objects::part(name), &frame))?;
        self.leave(lost, self.objects.put_part(name, content))
    }

    fn get_part(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let lost = self.enter(Call::GetPart, |_, _| {})?;
        self.leave(lost, self.objects.get_part(name))
    }

    fn latest(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let lost = self.enter(Call::Latest, |_, _| {})?;
        self.leave(lost, self.objects.latest())
    }

    fn publish(&self, number: u64, content: &[u8]) -> Result<(), StoreError> {
        let frame = frame::seal(Kind::Manifest, content);
        let lost = self.enter(Call::Publish, cut(objects::manifest(number), &frame))?;
        self.leave(lost, self.objects.publish(number, content))
    }

    fn collect(&self, keep: &BTreeSet<String>, number: u64) -> Result<(), StoreError> {
        let lost = self.enter(Call::Collect, |_, _| {})?;
        self.leave(lost, self.objects.collect(keep, number))
    }
}

impl Blobs for Arc<Shared> {
    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, String> {
        let mut state = self.lock();
        let new = !state.blobs.contains_key(name);
        if new {
            state.blobs.insert(name.to_owned(), bytes.to_vec());
        }
        Ok(new)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(self.lock().blobs.get(name).cloned())
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, String> {
        let below = |name: &String| Some(name.strip_prefix(folder)?.strip_prefix('/')?.to_owned());
        Ok(self.lock().blobs.keys().filter_map(below).collect())
    }

    fn remove(&self, name: &str) -> Result<(), String> {
        self.lock().blobs.remove(name);
        Ok(())
    }
}
