//! Keys as dense numbers.
//!
//! Promises: a key has one slot as long as anything is known of it. The slot of a forgotten key keeps its text, and goes to
//! no other key, until its retirement is over ([`Dictionary::release`]): whoever reads memberships by slot as of a time before
//! finds the right text. Holds: the key's text once, its hash, 10 to 12.5 bytes of tables. Refuses: to forget keys while slots are
//! held ([`Dictionary::hold`]); the caller asks first.

use super::room::{self, make_room};
use super::slot_table::SlotTable;
use crate::time::{Slot, Time};
use hashbrown::HashSet;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::hint::black_box;
use std::rc::Rc;

/// The tables of a dictionary, as a power of two. Each grows by itself, by moving all that it has: of many keys a 256th.
const TABLES: u32 = 8;

/// The first bit of a hash that decides the table.
const TABLE_AT: u32 = 40;

/// How many keys are read ahead at once: more reads than a core has under way, so that few wait at the end of a step.
pub(crate) const AHEAD: usize = 32;

struct Head {
    hash: u64,
    key: Box<str>,
}

impl Head {
    fn is_of(&self, hash: u64, key: &str) -> bool {
        self.hash == hash && *self.key == *key
    }
}

/// A dictionary that the operators of a worker share.
pub(crate) type SharedDictionary = Rc<RefCell<Dictionary>>;

/// The keys of one model that a worker owns.
pub(crate) struct Dictionary {
    /// By [`table_of`] of the hash.
    tables: Box<[SlotTable]>,
    heads: Vec<Head>,
    free: Vec<Slot>,
    /// Slots of forgotten keys, with the last time as of which they may be read.
    retired: VecDeque<(Time, Slot)>,
    /// The slots in `retired`.
    retired_slots: HashSet<Slot>,
    /// How many holders of slots there are beside the state of the keys.
    holders: usize,
}

/// Returns the table of a hash. Other bits decide places within it (the lowest 32), and which worker owns the key (the highest).
fn table_of(hash: u64) -> usize {
    (hash >> TABLE_AT) as usize & ((1 << TABLES) - 1)
}

/// Returns the share of a table, which decides its sizes. As many hashes lead to each table, so tables of the same size would all grow at once.
fn share_of(table: usize) -> f64 {
    table as f64 / f64::from(1 << TABLES)
}

impl Default for Dictionary {
    fn default() -> Dictionary {
        Dictionary {
            tables: (0..1 << TABLES).map(|_| SlotTable::default()).collect(),
            heads: Vec::new(),
            free: Vec::new(),
            retired: VecDeque::new(),
            retired_slots: HashSet::new(),
            holders: 0,
        }
    }
}

impl Dictionary {
    /// Returns the number of slots, in use or not.
    pub(crate) fn len(&self) -> usize {
        self.heads.len()
    }

    /// Returns the number of keys.
    pub(crate) fn keys(&self) -> usize {
        self.heads.len() - self.free.len() - self.retired.len()
    }

    /// Returns the hash of the key in a slot.
    pub(crate) fn hash(&self, slot: Slot) -> u64 {
        self.heads[slot as usize].hash
    }

    /// Returns the key in a slot, or the one that was there last while the slot is retired.
    pub(crate) fn key(&self, slot: Slot) -> &str {
        &self.heads[slot as usize].key
    }

    /// Returns the slot of a key; `None` if nothing is known of the key.
    pub(crate) fn find(&self, hash: u64, key: &str) -> Option<Slot> {
        self.tables[table_of(hash)].find(hash, |slot| self.heads[slot as usize].is_of(hash, key))
    }

    /// Returns a slot that a key with this hash may have; `None` if no key has the hash.
    pub(crate) fn candidate(&self, hash: u64) -> Option<Slot> {
        self.tables[table_of(hash)].find(hash, |_| true)
    }

    /// Returns what the search for a hash reads first, to have it read.
    pub(crate) fn touch(&self, hash: u64) -> u64 {
        self.tables[table_of(hash)].touch(hash)
    }

    /// Returns the slot of a key, a new one if it has none. `hash` is [`crate::ingest::event_batch::hash_key`] of the key.
    pub(crate) fn intern(&mut self, hash: u64, key: &str) -> Slot {
        let Dictionary { tables, heads, free, .. } = self;
        let at = table_of(hash);
        let table = &mut tables[at];
        if let Some(slot) = table.find(hash, |slot| heads[slot as usize].is_of(hash, key)) {
            return slot;
        }
        let head = Head { hash, key: key.into() };
        let slot = match free.pop() {
            Some(slot) => {
                heads[slot as usize] = head;
                slot
            }
            None => {
                let slot = Slot::try_from(heads.len()).ok().filter(|slot| *slot < Slot::MAX);
                let slot = slot.expect("a worker owns fewer than 2^32 keys of a model");
                make_room(heads, 1);
                heads.push(head);
                slot
            }
        };
        table.insert(hash, slot, share_of(at));
        slot
    }

    /// Reserves memory for so many more keys.
    pub(crate) fn reserve(&mut self, keys: usize) {
        let Dictionary { tables, heads, .. } = self;
        room::reserve(heads, keys);
        // Keys are not spread evenly: of 30,000 tables one gets more than the mean and four standard deviations.
        let mean = (keys >> TABLES) as f64;
        let each = (mean + 4.0 * mean.sqrt()) as usize;
        tables.iter_mut().enumerate().for_each(|(at, table)| table.reserve(each, share_of(at)));
    }

    /// Returns the slots of so many keys, as [`Dictionary::intern`] does; `key` returns the hash and the text of each.
    ///
    /// Rows often come in the order in which their keys got slots, so the slot after the last one is tried first. Other keys are read ahead,
    /// [`AHEAD`] at a time: most of these reads miss the caches, and each depends on the one before.
    pub(crate) fn intern_all<'k>(&mut self, count: usize, key: impl Fn(usize) -> (u64, &'k str)) -> Vec<Slot> {
        let mut slots: Vec<Slot> = Vec::with_capacity(count);
        let mut read = 0;
        for at in 0..count {
            let (hash, text) = key(at);
            let next = slots.last().map(|last| last + 1).filter(|slot| self.has_key(*slot, hash, text));
            let slot = next.unwrap_or_else(|| {
                if at >= read {
                    read = count.min(at + AHEAD);
                    self.read_ahead((at..read).map(|at| key(at).0));
                }
                self.intern(hash, text)
            });
            slots.push(slot);
        }
        slots
    }

    /// Returns whether a slot is that of a key, without looking for the key.
    fn has_key(&self, slot: Slot, hash: u64, key: &str) -> bool {
        let head = self.heads.get(slot as usize);
        head.is_some_and(|head| head.is_of(hash, key)) && !self.retired_slots.contains(&slot)
    }

    /// Reads what finding so many keys with these hashes will read, step by step of all.
    fn read_ahead(&self, hashes: impl Iterator<Item = u64> + Clone) {
        // The compiler must not find that nothing uses what is read.
        black_box(hashes.clone().fold(0, |all, hash| all ^ self.touch(hash)));
        let mut slots = [0; AHEAD];
        let mut count = 0;
        for slot in hashes.filter_map(|hash| self.candidate(hash)) {
            slots[count] = slot;
            count += 1;
        }
        let slots = &slots[..count];
        let text = |slot: &Slot| self.key(*slot).as_bytes().first().copied().unwrap_or(0);
        black_box(slots.iter().fold(0, |all, slot| all ^ self.hash(*slot)));
        black_box(slots.iter().fold(0, |all, slot| all ^ text(slot)));
    }

    /// Returns the slots in use and the hashes of their keys.
    pub(crate) fn hashes(&self) -> impl Iterator<Item = (Slot, u64)> + Clone + '_ {
        (0..self.heads.len() as Slot).filter_map(|slot| Some((slot, self.hash_in_use(slot)?)))
    }

    /// Returns the hash of a slot's key; `None` if the slot is not in use.
    pub(crate) fn hash_in_use(&self, slot: Slot) -> Option<u64> {
        self.is_in_use(slot).then(|| self.hash(slot))
    }

    /// Returns whether a slot has a key of which something is known. Keys are never empty.
    pub(crate) fn is_in_use(&self, slot: Slot) -> bool {
        !self.heads[slot as usize].key.is_empty() && !self.retired_slots.contains(&slot)
    }

    /// Forgets a key. Its slot is retired: it may be read as of times up to `at`.
    ///
    /// # Panics
    /// Panics if the slot has no key.
    pub(crate) fn forget(&mut self, slot: Slot, at: Time) {
        let hash = self.heads[slot as usize].hash;
        assert!(self.tables[table_of(hash)].remove(hash, slot), "slot {slot} was forgotten twice");
        self.retired.push_back((at, slot));
        self.retired_slots.insert(slot);
    }

    /// Ends the retirement of slots that are read no more: as of times before `time`.
    pub(crate) fn release(&mut self, time: Time) {
        while let Some((_, slot)) = self.retired.pop_front_if(|(at, _)| *at < time) {
            self.retired_slots.remove(&slot);
            self.heads[slot as usize].key = Box::default();
            self.free.push(slot);
        }
    }

    /// Keeps all slots as they are until [`Dictionary::let_go`] was called as often.
    pub(crate) fn hold(&mut self) {
        self.holders += 1;
    }

    /// Ends one [`Dictionary::hold`].
    pub(crate) fn let_go(&mut self) {
        self.holders -= 1;
    }

    /// Returns whether keys may not be forgotten now.
    pub(crate) fn is_held(&self) -> bool {
        self.holders > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forgotten_key_leaves_its_slot_to_another_after_its_retirement() {
        let mut keys = Dictionary::default();
        assert_eq!(keys.intern(1, "a"), 0);
        assert_eq!(keys.intern(1, "b"), 1, "an equal hash is not an equal key");
        assert_eq!(keys.intern(1, "a"), 0);
        keys.forget(0, 9);
        assert_eq!((keys.keys(), keys.find(1, "a"), keys.key(0)), (1, None, "a"), "its text can still be read");
        assert_eq!(keys.intern(1, "a"), 2, "the same key is a new one");
        keys.release(9);
        assert_eq!(keys.intern(3, "d"), 3);
        keys.release(10);
        assert_eq!((keys.is_in_use(0), keys.intern(9, "c")), (false, 0));
        assert_eq!((keys.key(0), keys.key(1), keys.keys()), ("c", "b", 4));
    }

    /// Whatever the number of keys, and where room was reserved, not at all.
    #[test]
    fn tables_grow_one_after_the_other() {
        let hash = |key: u64| key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let capacities = |keys: &Dictionary| keys.tables.iter().map(SlotTable::capacity).collect::<Vec<_>>();
        let mut keys = Dictionary::default();
        let mut reserved = Dictionary::default();
        reserved.reserve(700_000);
        let room = capacities(&reserved);
        let (mut before, mut most) = (capacities(&keys), 0);
        for key in 0..700_000 {
            keys.intern(hash(key), "");
            reserved.intern(hash(key), "");
            // All tables grow within a quarter more keys.
            if key >= 300_000 && key % 10_000 == 0 {
                let now = capacities(&keys);
                let grown = before.iter().zip(&now).filter(|(before, now)| before != now).count();
                most = most.max(if key > 300_000 { grown } else { 0 });
                before = now;
            }
        }
        assert!((16..64).contains(&most), "{most} tables grew within 10,000 keys");
        assert_eq!(capacities(&reserved), room);
    }

    #[test]
    fn keys_in_any_order_have_the_slots_that_each_has_alone() {
        let texts: Vec<String> = (0..100).map(|key| format!("key-{key}")).collect();
        // In several tables, several keys with one hash.
        let of = |key: usize| ((key as u64 % 7) << TABLE_AT, &texts[key][..]);
        let mut keys = Dictionary::default();
        keys.reserve(3);
        let first = keys.intern_all(60, of);
        assert_eq!(first, (0..60).collect::<Vec<Slot>>());
        keys.forget(20, 9);
        for order in [
            (0..100).collect::<Vec<usize>>(),
            (0..100).rev().collect(),
            (0..100).map(|at| at * 37 % 100).collect(),
            vec![5, 6, 7, 7, 8, 19, 20, 21, 99, 99],
        ] {
            let slots = keys.intern_all(order.len(), |at| of(order[at]));
            let each: Vec<Option<Slot>> = order.iter().map(|key| keys.find(of(*key).0, of(*key).1)).collect();
            assert_eq!(slots.iter().copied().map(Some).collect::<Vec<_>>(), each, "{order:?}");
        }
        assert_eq!(keys.find(of(20).0, of(20).1), Some(60), "a retired slot is not taken for the key's");
        assert_eq!(keys.keys(), 100);
    }
}
