//! Which keys of a model have changed since they were last written to a checkpoint.
//!
//! Promises: what [`ChangedKeys::since`] returns has every key that was marked or forgotten after an earlier checkpoint began to list its
//! keys. It may have more: a key that was marked twice, or whose slot another key has now. Holds a bit per slot, the keys that were
//! forgotten, and as much for each checkpoint that is not known to be published. Refuses: to know what changes a key;
//! [`super::keyed`] marks it.

use super::facts::{Words, insert, ones};
use crate::time::Slot;

/// Keys that have changed.
#[derive(Default)]
struct Changes {
    /// A bit per slot.
    slots: Words,
    /// Keys that were forgotten, with their hashes.
    gone: Vec<(u64, Box<str>)>,
}

impl Changes {
    fn add(&mut self, other: Changes) {
        if self.slots.len() < other.slots.len() {
            self.slots.resize(other.slots.len(), 0);
        }
        for (word, more) in self.slots.iter_mut().zip(other.slots) {
            *word |= more;
        }
        self.gone.extend(other.gone);
    }
}

/// The keys of a model that have changed, by the checkpoint that was to write them.
#[derive(Default)]
pub(crate) struct ChangedKeys {
    /// Those that the next checkpoint is to write.
    now: Changes,
    /// Those that checkpoints were to write, each with its number, ascending.
    before: Vec<(u64, Changes)>,
}

impl ChangedKeys {
    /// Takes note that what is known of the key in a slot changes.
    pub(crate) fn mark(&mut self, slot: Slot) {
        insert(&mut self.now.slots, slot);
    }

    /// Takes note that a key is forgotten.
    pub(crate) fn forget(&mut self, hash: u64, key: &str) {
        self.now.gone.push((hash, key.into()));
    }

    /// Returns the slots of the keys that have changed since the checkpoint `since`, ascending, and the keys that were forgotten. They are to be
    /// written by `checkpoint`: unless a later call names that one or a later one as `since`, they are returned again.
    pub(crate) fn since(&mut self, since: u64, checkpoint: u64) -> (Vec<Slot>, Vec<(u64, Box<str>)>) {
        let mut changes = std::mem::take(&mut self.now);
        for (number, earlier) in self.before.drain(..) {
            if number > since {
                changes.add(earlier);
            }
        }
        changes.gone.sort_unstable();
        changes.gone.dedup();
        let listed = (ones(&changes.slots).collect(), changes.gone.clone());
        self.before.push((checkpoint, changes));
        listed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(keys: &[&str]) -> Vec<(u64, Box<str>)> {
        keys.iter().map(|key| (key.len() as u64, (*key).into())).collect()
    }

    fn forget(changed: &mut ChangedKeys, key: &str) {
        changed.forget(key.len() as u64, key);
    }

    #[test]
    fn what_a_published_checkpoint_has_written_is_not_returned_again() {
        let mut changed = ChangedKeys::default();
        for slot in [200, 0, 63, 64, 0] {
            changed.mark(slot);
        }
        forget(&mut changed, "b");
        assert_eq!(changed.since(1, 2), (vec![0, 63, 64, 200], gone(&["b"])));
        changed.mark(64);
        assert_eq!(changed.since(2, 3), (vec![64], gone(&[])));
        assert_eq!(changed.since(3, 4), (vec![], gone(&[])));
    }

    #[test]
    fn what_checkpoints_that_were_given_up_were_to_write_is_returned_again() {
        let mut changed = ChangedKeys::default();
        changed.mark(5);
        forget(&mut changed, "b");
        assert_eq!(changed.since(1, 2), (vec![5], gone(&["b"])));
        changed.mark(700);
        forget(&mut changed, "aa");
        forget(&mut changed, "b");
        assert_eq!(changed.since(1, 3), (vec![5, 700], gone(&["b", "aa"])));
        changed.mark(6);
        assert_eq!(changed.since(1, 4), (vec![5, 6, 700], gone(&["b", "aa"])));
        assert_eq!(changed.since(4, 5), (vec![], gone(&[])));
    }
}
