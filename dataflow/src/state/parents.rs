//! Columns of parents: what rows read of the rows that they belong to, which other workers own.
//!
//! Computes, at the owners of rows, the values of the columns that they read of their parents, at every ms of an epoch ([`Parents`]); and
//! at the owners of the parents, which workers to send them to ([`Readers`]). A worker asks the owner of a parent's key for it when the
//! first of its rows points there, and ends that when the last one no longer does ([`Interest`]); the owner answers with the values of that
//! ms, and sends each change of them with its ms and its cause ([`ParentValues`]): once to each worker, however many rows read it. Promises:
//! values as of any ms of the epoch at hand are there when all answers and changes up to it have come. Holds, per parent that a row of this
//! worker points to: the values, and which rows do; per parent, which workers ask. Nothing of it is in a checkpoint: rows ask anew at a
//! start. Refuses to say when all has come; [`super::epoch`] does.

use super::transition::Cause;
use crate::ingest::event_batch::hash_key;
use crate::time::{Slot, Time};
use hashbrown::{HashMap, HashSet};
use serde::{Deserialize, Serialize};
use std::rc::Rc;
use usher_queries::StoredValue;

/// Rows of a worker begin, or cease, to point to a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Interest {
    pub(crate) time: Time,
    /// The parent's model.
    pub(crate) model: u32,
    /// [`hash_key`] of the parent's key, and the key.
    pub(crate) key_hash: u64,
    pub(crate) key: String,
    /// The model of the rows.
    pub(crate) child: u32,
    /// The worker that has them; the operator knows which one it is.
    pub(crate) worker: u32,
    pub(crate) begins: bool,
}

/// What rows of a worker read of a parent, from a time on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ParentValues {
    /// The worker that has the rows.
    pub(crate) worker: u32,
    /// The model of the rows.
    pub(crate) child: u32,
    /// The parent's key.
    pub(crate) key: String,
    pub(crate) time: Time,
    /// Why they changed; `None` if they did not: it is the answer to an [`Interest`].
    pub(crate) cause: Option<Cause>,
    /// All null where the key has no row.
    pub(crate) values: Vec<StoredValue>,
}

/// The values of a parent before a change in this epoch.
struct Before {
    time: Time,
    cause: Cause,
    values: Rc<[StoredValue]>,
}

/// A parent that rows of this worker point to, or pointed to in this epoch.
struct Parent {
    values: Rc<[StoredValue]>,
    /// From when on the owner was asked for it.
    since: Time,
    changes: Vec<Before>,
    rows: HashSet<Slot>,
}

/// The parents that rows of a model read.
pub(crate) struct Parents {
    /// Their model, and that of the rows.
    model: u32,
    child: u32,
    nulls: Rc<[StoredValue]>,
    known: HashMap<Box<str>, Parent>,
    /// Rows that have pointed elsewhere in this epoch.
    left: Vec<(Slot, Box<str>)>,
    changed: Vec<Box<str>>,
    interests: Vec<Interest>,
}

impl Parents {
    /// `columns`: how many columns the rows read.
    pub(crate) fn new(model: u32, child: u32, columns: usize) -> Parents {
        Parents {
            model,
            child,
            nulls: vec![StoredValue::Null; columns].into(),
            known: HashMap::new(),
            left: Vec::new(),
            changed: Vec::new(),
            interests: Vec::new(),
        }
    }

    /// Takes note that a row points from one key to another from a time on.
    pub(crate) fn moved(&mut self, slot: Slot, time: Time, (before, now): (Option<&str>, Option<&str>)) {
        if before == now {
            return;
        }
        // Until the epoch ends it may have to be worked out as of a ms before.
        self.left.extend(before.map(|key| (slot, key.into())));
        let Some(key) = now else { return };
        if let Some(parent) = self.known.get_mut(key) {
            parent.rows.insert(slot);
            if parent.since <= time {
                return;
            }
            parent.since = time;
        } else {
            let (values, rows) = (Rc::clone(&self.nulls), HashSet::from_iter([slot]));
            self.known.insert(key.into(), Parent { values, since: time, changes: Vec::new(), rows });
        }
        self.ask(key.to_owned(), time, true);
    }

    fn ask(&mut self, key: String, time: Time, begins: bool) {
        let (model, child, key_hash) = (self.model, self.child, hash_key(&key));
        self.interests.push(Interest { time, model, key_hash, key, child, worker: 0, begins });
    }

    /// Takes in values of a parent, in order of time; those of one that no row points to any more are dropped. Adds the rows that may read
    /// something new to `rows`, with the ms.
    pub(crate) fn take(&mut self, of: ParentValues, rows: &mut Vec<(Time, Slot)>) {
        let ParentValues { key, time, cause, values, .. } = of;
        let Some(parent) = self.known.get_mut(&key[..]) else { return };
        let before = std::mem::replace(&mut parent.values, values.into());
        let Some(cause) = cause else { return };
        let last = parent.changes.last().map(|last| last.time);
        if last.is_none() {
            self.changed.push(key.into());
        }
        // Before the start, what is older is taken for as late.
        let time = last.map_or(time, |last| last.max(time));
        parent.changes.push(Before { time, cause, values: before });
        rows.extend(parent.rows.iter().map(|slot| (time, *slot)));
    }

    /// Returns the values of a parent as of a time of this epoch, or right `before` it; nulls for a row that points to none. `None` if
    /// nothing is known of the parent here.
    pub(crate) fn values(&self, key: Option<&str>, time: Time, before: bool) -> Option<&[StoredValue]> {
        let Some(key) = key else { return Some(&self.nulls) };
        let parent = self.known.get(key)?;
        let later = parent.changes.iter().find(|change| is_later(change.time, time, before));
        Some(later.map_or(&parent.values, |change| &change.values))
    }

    /// Returns why a parent's values changed at a time; `None` if they did not.
    pub(crate) fn cause(&self, key: &str, time: Time) -> Option<Cause> {
        let parent = self.known.get(key)?;
        let of_ms = parent.changes.iter().filter(|change| change.time == time);
        let cause = of_ms.map(|change| change.cause).min()?;
        (self.values(Some(key), time, true) != self.values(Some(key), time, false)).then_some(cause)
    }

    /// Forgets how parents were before, and those that no row points to any more; the next epoch begins at `until`. `key_of` returns the key
    /// that a row points to now.
    pub(crate) fn end_epoch(&mut self, until: Time, key_of: impl Fn(Slot) -> Option<Box<str>>) {
        for key in self.changed.drain(..) {
            if let Some(parent) = self.known.get_mut(&key) {
                parent.changes.clear();
            }
        }
        for (slot, key) in std::mem::take(&mut self.left) {
            let Some(parent) = self.known.get_mut(&key) else { continue };
            if key_of(slot).as_ref() != Some(&key) {
                parent.rows.remove(&slot);
            }
            if parent.rows.is_empty() {
                self.known.remove(&key);
                self.ask(key.into_string(), until, false);
            }
        }
    }

    /// Takes what is to be asked of the owners of parents.
    pub(crate) fn take_interests(&mut self) -> Vec<Interest> {
        std::mem::take(&mut self.interests)
    }
}

/// Returns whether what changed at `changed` is not so yet as of a time, or right `before` it.
pub(crate) fn is_later(changed: Time, time: Time, before: bool) -> bool {
    if before { time <= changed } else { time < changed }
}

/// The workers that read the rows of a model as those of parents, for the rows of one model that belongs to it.
pub(crate) struct Readers {
    pub(crate) child: u32,
    /// What they read, as indexes of the row's columns, and behind them of those that it reads of its own parents.
    pub(crate) columns: Vec<usize>,
    workers: HashMap<Slot, Vec<u32>>,
}

impl Readers {
    pub(crate) fn new(child: u32, columns: Vec<usize>) -> Readers {
        Readers { child, columns, workers: HashMap::new() }
    }

    /// Begins to send a key's values to a worker.
    pub(crate) fn begin(&mut self, slot: Slot, worker: u32) {
        let workers = self.workers.entry(slot).or_default();
        if !workers.contains(&worker) {
            workers.push(worker);
        }
    }

    /// Ends it.
    pub(crate) fn end(&mut self, slot: Slot, worker: u32) {
        if let Some(workers) = self.workers.get_mut(&slot) {
            workers.retain(|of| *of != worker);
            if workers.is_empty() {
                self.workers.remove(&slot);
            }
        }
    }

    /// Returns the workers that read a key's values.
    pub(crate) fn of(&self, slot: Slot) -> &[u32] {
        self.workers.get(&slot).map_or(&[], |workers| workers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(key: &str, time: Time, cause: Option<Cause>, value: i64) -> ParentValues {
        let values = vec![StoredValue::Integer(value)];
        ParentValues { worker: 0, child: 1, key: key.to_owned(), time, cause, values }
    }

    fn asked(parents: &mut Parents) -> Vec<(String, Time, bool)> {
        parents.take_interests().into_iter().map(|of| (of.key, of.time, of.begins)).collect()
    }

    #[test]
    fn a_worker_asks_for_a_parent_once_knows_it_as_of_each_ms_and_ends_that_with_the_last_row() {
        let mut parents = Parents::new(0, 1, 1);
        (0..100_000).for_each(|slot| parents.moved(slot, 10, (None, Some("a"))));
        assert_eq!(asked(&mut parents), [("a".to_owned(), 10, true)], "once, however many rows");
        let mut rows = Vec::new();
        parents.take(values("a", 10, None, 1), &mut rows);
        assert_eq!(rows, [], "an answer is no change");
        parents.take(values("a", 12, Some(Cause::Trait), 2), &mut rows);
        assert_eq!(rows.len(), 100_000, "each row once");
        let value = |time, before| match parents.values(Some("a"), time, before) {
            Some([StoredValue::Integer(value)]) => *value,
            other => panic!("{other:?}"),
        };
        assert_eq!([value(11, false), value(12, true), value(12, false), value(13, false)], [1, 1, 2, 2]);
        assert_eq!((parents.cause("a", 12), parents.cause("a", 11)), (Some(Cause::Trait), None));
        assert_eq!(parents.values(None, 12, false), Some(&[StoredValue::Null][..]));
        assert_eq!(parents.values(Some("b"), 12, false), None);

        // Within the epoch, what a row pointed to is known.
        (0..100_000).for_each(|slot| parents.moved(slot, 14, (Some("a"), None)));
        parents.moved(7, 15, (None, Some("a")));
        assert!(parents.values(Some("a"), 13, false).is_some());
        parents.end_epoch(20, |slot| (slot == 7).then(|| "a".into()));
        assert_eq!(asked(&mut parents), [], "a row points there");
        parents.moved(7, 21, (Some("a"), Some("b")));
        parents.end_epoch(30, |_| Some("b".into()));
        assert_eq!(asked(&mut parents), [("b".to_owned(), 21, true), ("a".to_owned(), 30, false)]);
        assert_eq!(parents.values(Some("a"), 30, false), None);
        parents.take(values("a", 30, Some(Cause::Trait), 3), &mut rows);
        assert_eq!(parents.values(Some("a"), 30, false), None, "nothing asks for it");
    }

    #[test]
    fn a_key_is_asked_for_anew_from_an_earlier_ms_and_each_worker_reads_it_once() {
        let mut parents = Parents::new(0, 1, 1);
        parents.moved(1, 10, (None, Some("a")));
        parents.moved(2, 5, (None, Some("a")));
        parents.moved(3, 7, (None, Some("a")));
        assert_eq!(asked(&mut parents), [("a".to_owned(), 10, true), ("a".to_owned(), 5, true)]);
        let mut readers = Readers::new(1, vec![0]);
        [2, 0, 2].into_iter().for_each(|worker| readers.begin(9, worker));
        assert_eq!(readers.of(9), [2, 0]);
        readers.end(9, 2);
        assert_eq!((readers.of(9), readers.of(8)), (&[0][..], &[][..]));
        readers.end(9, 0);
        assert!(readers.workers.is_empty());
    }
}
