//! What syncs were told by an earlier run, beside what holds now.
//!
//! Computes, per key and audience, which syncs were told something else than holds (SPEC §6), and of a membership that
//! ended while it was not told, when its window ended. Holds, from the start until the difference is announced: a bit
//! per (told key, sync, audience), and the time of each ending.

use super::audiences::{Words, get, ones, set};
use super::{Cause, Turn};
use crate::time::{Slot, Time};
use hashbrown::HashMap;
use usher_core::change::Recipients;

/// What the syncs of a job are to one model.
#[derive(Clone, Debug, Default)]
pub(crate) struct Start {
    /// In the order of the job.
    pub(crate) syncs: Vec<SyncStart>,
}

/// What one sync is to one model.
#[derive(Clone, Debug)]
pub(crate) struct SyncStart {
    /// The audiences that it has, by index in the model.
    pub(crate) has: Words,
    /// It is new and wants to hear only of what changes from now on.
    pub(crate) silent: bool,
    /// The time of the latest change that it was told.
    pub(crate) committed: Time,
}

impl Start {
    /// Whom a change of `audience` is for: the syncs that have the audience and for which `knows` is not so.
    pub(crate) fn recipients(
        &self,
        audience: u32,
        entered: bool,
        knows: impl Fn(usize) -> bool,
        mut tell: impl FnMut(Recipients),
    ) {
        let having = || self.syncs.iter().enumerate().filter(|(_, sync)| get(&sync.has, audience));
        if having().all(|(index, sync)| !(knows(index) || entered && sync.silent)) {
            // That of a job without syncs too: it is counted, and who watches sees it.
            return tell(Recipients::All);
        }
        for (index, sync) in having().filter(|(index, _)| !knows(*index)) {
            let index = index as u16;
            tell(if entered && sync.silent { Recipients::LedgerOnly(index) } else { Recipients::Only(index) });
        }
    }
}

/// What was told of the keys of one model.
pub(crate) struct CommittedBits {
    syncs: usize,
    member_words: usize,
    /// Per told key: the audiences of one sync after the other.
    bits: HashMap<Slot, Box<[u64]>>,
    /// When memberships ended by themselves that had been told.
    ended: HashMap<(Slot, u32), Time>,
}

impl CommittedBits {
    pub(crate) fn new(syncs: usize, member_words: usize) -> CommittedBits {
        CommittedBits { syncs, member_words, bits: HashMap::new(), ended: HashMap::new() }
    }

    /// Says that a sync was told that the key is in the audience.
    pub(crate) fn add(&mut self, slot: Slot, sync: usize, audience: u32) {
        let words = self.member_words;
        let bits = self.bits.entry(slot).or_insert_with(|| vec![0; self.syncs * words].into_boxed_slice());
        set(&mut bits[sync * words..][..words], audience, true);
    }

    /// The keys of which something was told.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.bits.keys().copied()
    }

    pub(crate) fn has(&self, slot: Slot) -> bool {
        self.bits.contains_key(&slot)
    }

    pub(crate) fn is_committed(&self, slot: Slot, sync: usize, audience: u32) -> bool {
        let words = self.member_words;
        self.bits.get(&slot).is_some_and(|bits| get(&bits[sync * words..][..words], audience))
    }

    /// The audiences that some sync was told the key is in.
    pub(crate) fn audiences(&self, slot: Slot) -> impl Iterator<Item = u32> + use<> {
        let mut any = vec![0; self.member_words];
        for bits in self.bits[&slot].chunks(self.member_words.max(1)) {
            any.iter_mut().zip(bits).for_each(|(any, bits)| *any |= bits);
        }
        ones(&any).collect::<Vec<u32>>().into_iter()
    }

    /// Says that the key entered or left the audience, before anybody is told.
    pub(crate) fn turned(&mut self, slot: Slot, time: Time, turn: Turn) {
        if !turn.entered && turn.cause == Cause::Expiry {
            self.ended.insert((slot, turn.audience), time);
        } else {
            self.ended.remove(&(slot, turn.audience));
        }
    }

    /// When the membership ended by itself.
    pub(crate) fn ended(&self, slot: Slot, audience: u32) -> Option<Time> {
        self.ended.get(&(slot, audience)).copied()
    }
}
