//! Keys as dense numbers.
//!
//! Promises: a key has one slot as long as anything is known of it; slots of forgotten keys are used again. Holds: the
//! key's text once, its hash, 4 bytes of table. Refuses: forgetting a key that others still refer to; the caller knows.

use crate::time::Slot;
use hashbrown::HashTable;

struct Head {
    hash: u64,
    key: Box<str>,
}

/// The keys of one model that live on this worker.
#[derive(Default)]
pub(crate) struct Slots {
    table: HashTable<Slot>,
    heads: Vec<Head>,
    free: Vec<Slot>,
}

impl Slots {
    /// How many slots there are, in use or not.
    pub(crate) fn len(&self) -> usize {
        self.heads.len()
    }

    /// How many keys there are.
    pub(crate) fn in_use(&self) -> usize {
        self.heads.len() - self.free.len()
    }

    pub(crate) fn hash(&self, slot: Slot) -> u64 {
        self.heads[slot as usize].hash
    }

    pub(crate) fn key(&self, slot: Slot) -> &str {
        &self.heads[slot as usize].key
    }

    /// The slot of a key, if it has one.
    pub(crate) fn find(&self, hash: u64, key: &str) -> Option<Slot> {
        let same = |slot: &Slot| {
            let head = &self.heads[*slot as usize];
            head.hash == hash && *head.key == *key
        };
        self.table.find(hash, same).copied()
    }

    /// The slot of a key, a new one where it has none. `hash` is [`crate::hits::hash_key`] of the key.
    pub(crate) fn intern(&mut self, hash: u64, key: &str) -> Slot {
        let Slots { table, heads, free } = self;
        let same = |slot: &Slot| {
            let head = &heads[*slot as usize];
            head.hash == hash && *head.key == *key
        };
        if let Some(slot) = table.find(hash, same) {
            return *slot;
        }
        let head = Head { hash, key: key.into() };
        let slot = match free.pop() {
            Some(slot) => {
                heads[slot as usize] = head;
                slot
            }
            None => {
                let slot = Slot::try_from(heads.len()).expect("more than 2^32 keys of one model on one worker");
                heads.push(head);
                slot
            }
        };
        table.insert_unique(hash, slot, |slot| heads[*slot as usize].hash);
        slot
    }

    /// Whether a slot is nobody's. Keys are never empty.
    pub(crate) fn is_free(&self, slot: Slot) -> bool {
        self.heads[slot as usize].key.is_empty()
    }

    /// Forgets a key; its slot may become another's.
    pub(crate) fn forget(&mut self, slot: Slot) {
        let hash = self.heads[slot as usize].hash;
        let Ok(entry) = self.table.find_entry(hash, |s| *s == slot) else {
            panic!("slot {slot} was forgotten twice");
        };
        entry.remove();
        self.heads[slot as usize].key = Box::default();
        self.free.push(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forgotten_key_leaves_its_slot_to_another() {
        let mut slots = Slots::default();
        assert_eq!(slots.intern(1, "a"), 0);
        assert_eq!(slots.intern(1, "b"), 1, "an equal hash is not an equal key");
        assert_eq!(slots.intern(1, "a"), 0);
        slots.forget(0);
        assert_eq!((slots.in_use(), slots.intern(9, "c")), (1, 0));
        assert_eq!((slots.key(0), slots.key(1)), ("c", "b"));
    }
}
