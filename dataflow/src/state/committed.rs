//! The ledgers at the start, beside what holds now.
//!
//! Computes, per key and audience, the syncs whose ledger differs from what holds (SPEC §6), and of a committed membership that
//! ended by itself meanwhile, when its window ended. Holds, from the start until the difference has been given: 4 bytes per
//! slot, a bit per (key in a ledger, sync, audience), and the time of each ending.

use super::evaluate::Decision;
use super::facts::{Words, get, ones, set};
use super::transition::Cause;
use crate::time::{Slot, Time};
use hashbrown::HashMap;
use usher_core::change::{ChangeKind, Reason, Recipients};

/// What a run starts from, for one model.
#[derive(Clone, Debug, Default)]
pub(crate) struct Baseline {
    /// Whether the job runs live: then what is given at the start is a difference to the ledgers.
    pub(crate) live: bool,
    /// In the order of the job.
    pub(crate) syncs: Vec<SyncBaseline>,
    /// Per audience of the model, whether its definition is new.
    pub(crate) new_definitions: Vec<bool>,
}

/// What a run starts from, for one model and one sync.
#[derive(Clone, Debug)]
pub(crate) struct SyncBaseline {
    /// The audiences that the sync has, by index in the model.
    pub(crate) has: Words,
    /// Whether it has no ledger yet.
    pub(crate) is_new: bool,
    /// Whether the members at the start count as committed without being sent: it is new, with `backfill: false`.
    pub(crate) silent: bool,
    /// The time of the latest change that was committed to it.
    pub(crate) committed: Time,
    /// Whether it sends updates.
    pub(crate) updates: bool,
}

impl Baseline {
    /// Finds the recipients of a change of `audience`: the syncs that have it and for which `skip` is false.
    pub(crate) fn recipients(
        &self,
        audience: u32,
        kind: ChangeKind,
        skip: impl Fn(usize) -> bool,
        found: &mut Vec<Recipients>,
    ) {
        found.clear();
        let silent = |sync: &SyncBaseline| kind == ChangeKind::Entry && sync.silent;
        let having = || self.syncs.iter().enumerate().filter(|(_, sync)| get(&sync.has, audience));
        if having().all(|(index, sync)| !(skip(index) || silent(sync))) {
            // A job without syncs too: its changes are counted, and streamed.
            found.push(Recipients::All);
            return;
        }
        let only = |(index, sync): (usize, &SyncBaseline)| match silent(sync) {
            true => Recipients::LedgerOnly(index as u16),
            false => Recipients::Only(index as u16),
        };
        found.extend(having().filter(|(index, _)| !skip(*index)).map(only));
    }

    /// Returns the reason of a change at the start. `expired`: a window ended while the job was down.
    pub(crate) fn reason(&self, audience: u32, recipients: Recipients, cause: Cause, expired: bool) -> Reason {
        let new_sync = match recipients {
            Recipients::All => self.syncs.iter().all(|sync| sync.is_new),
            Recipients::Only(sync) | Recipients::LedgerOnly(sync) => self.syncs[usize::from(sync)].is_new,
        };
        match self.live {
            false => cause.reason(),
            true if expired => Reason::Expiry,
            true if new_sync || self.new_definitions[audience as usize] => Reason::Definition,
            true => Reason::Recovery,
        }
    }
}

/// What the ledgers have of the keys of one model.
pub(crate) struct CommittedBits {
    syncs: usize,
    member_words: usize,
    /// By slot, one more than its place in `bits`; 0 if no ledger has the key.
    places: Vec<u32>,
    /// Per place: the audiences of one sync after the other.
    bits: Vec<u64>,
    /// When committed memberships ended by themselves.
    ended: HashMap<(Slot, u32), Time>,
}

impl CommittedBits {
    pub(crate) fn new(syncs: usize, member_words: usize) -> CommittedBits {
        CommittedBits { syncs, member_words, places: Vec::new(), bits: Vec::new(), ended: HashMap::new() }
    }

    /// Takes up that the ledger of a sync has the key in the audience.
    pub(crate) fn add(&mut self, slot: Slot, sync: usize, audience: u32) {
        let words = self.syncs * self.member_words;
        if self.places.len() <= slot as usize {
            self.places.resize(slot as usize + 1, 0);
        }
        let place = &mut self.places[slot as usize];
        if *place == 0 {
            self.bits.resize(self.bits.len() + words, 0);
            *place = u32::try_from(self.bits.len() / words).expect("a worker owns at most 2^32 keys of a model");
        }
        let of_sync = (*place as usize - 1) * words + sync * self.member_words;
        set(&mut self.bits[of_sync..][..self.member_words], audience, true);
    }

    /// Returns the keys in ledgers, ascending.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.places.iter().enumerate().filter(|(_, place)| **place != 0).map(|(slot, _)| slot as Slot)
    }

    pub(crate) fn has(&self, slot: Slot) -> bool {
        self.of(slot).is_some()
    }

    pub(crate) fn is_committed(&self, slot: Slot, sync: usize, audience: u32) -> bool {
        let words = self.member_words;
        self.of(slot).is_some_and(|bits| get(&bits[sync * words..][..words], audience))
    }

    /// Returns the audiences of a key in each ledger.
    fn of(&self, slot: Slot) -> Option<&[u64]> {
        let words = self.syncs * self.member_words;
        let place = self.places.get(slot as usize)?.checked_sub(1)? as usize;
        Some(&self.bits[place * words..][..words])
    }

    /// Returns whether some ledger has the key in the audience.
    pub(crate) fn is_in_any(&self, slot: Slot, audience: u32) -> bool {
        (0..self.syncs).any(|sync| self.is_committed(slot, sync, audience))
    }

    /// Returns the audiences that some ledger has the key in.
    pub(crate) fn audiences(&self, slot: Slot) -> impl Iterator<Item = u32> + use<> {
        let mut any = vec![0; self.member_words];
        let bits = self.of(slot).expect("the key is in a ledger");
        for bits in bits.chunks(self.member_words.max(1)) {
            any.iter_mut().zip(bits).for_each(|(any, bits)| *any |= bits);
        }
        ones(&any).collect::<Vec<u32>>().into_iter()
    }

    /// Notes that the key entered or left the audience before the start.
    pub(crate) fn note(&mut self, slot: Slot, time: Time, decision: Decision) {
        if decision.kind == ChangeKind::Exit && decision.cause == Cause::Expiry {
            self.ended.insert((slot, decision.audience), time);
        } else {
            self.ended.remove(&(slot, decision.audience));
        }
    }

    /// Returns when the membership ended by itself.
    pub(crate) fn ended(&self, slot: Slot, audience: u32) -> Option<Time> {
        self.ended.get(&(slot, audience)).copied()
    }
}
