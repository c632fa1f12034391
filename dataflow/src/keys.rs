//! All that a worker knows of one model's keys: the heart of the engine, without a dataflow around it.
//!
//! Computes membership from events, snapshots and the passing of time. Every change of a fact is a [`Flip`] with its
//! own time; flips are collected until a stretch of time is complete, then [`Keys::settle`] turns them into entries and
//! exits, key by key and ms by ms: only what differs between two times is a change.
//!
//! Holds per key: its text, a bit per fact and per audience, the events that still matter ([`windows`]), and the
//! moments of `now()` conditions. A key of which nothing is known any more is forgotten. Refuses: deciding when time
//! passes; that is the keeper's.

pub(crate) mod audiences;
pub(crate) mod committed;
pub(crate) mod outlook;
pub(crate) mod slots;
pub(crate) mod snapshot;
pub(crate) mod state;
pub(crate) mod timers;
pub(crate) mod windows;

use crate::hits::Hit;
use crate::rows::{Role, Rows, Timeline};
use crate::time::{Slot, Time};
use audiences::{Audiences, Turn};
use committed::{CommittedBits, Start};
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use slots::Slots;
use snapshot::Staged;
use timers::{Timer, Timers};
use usher_config::Comparison;
use usher_core::change::Recipients;
use usher_queries::aggregate::{Contribution, Summary};
use usher_queries::plan::{FactKind, ModelPlan};
use windows::{Arrival, Held, Out, Rule, Windows};

/// Why a fact flipped, the one that is told first first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Cause {
    Event,
    Expiry,
    Snapshot,
}

/// A set of causes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Causes(u8);

impl Causes {
    fn add(&mut self, cause: Cause) {
        self.0 |= 1 << cause as u8;
    }

    fn join(&mut self, other: Causes) {
        self.0 |= other.0;
    }

    fn first(self) -> Cause {
        [Cause::Event, Cause::Expiry, Cause::Snapshot]
            .into_iter()
            .find(|cause| self.0 >> *cause as u8 & 1 == 1)
            .expect("a membership changed without a cause")
    }
}

/// A fact of a key became true or false.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flip {
    pub(crate) time: Time,
    pub(crate) slot: Slot,
    pub(crate) fact: u32,
    pub(crate) truth: bool,
    pub(crate) cause: Cause,
}

/// Truth over time of a fact that speaks of `now()`, with its armed timer.
struct Clocked {
    truth: ClockedTruth,
    armed: Option<Time>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ClockedTruth {
    /// A predicate on the key's row.
    Row(Timeline),
    /// Rows that come into and go out of an aggregate.
    Aggregate(Vec<(Contribution, Timeline)>),
}

/// What a fact is decided by.
enum FactState {
    Known,
    Window(Rule),
    Property { clocked: bool },
    Related { empty: Summary, comparison: Comparison, clocked: bool },
}

/// An entry or exit, as [`Keys::settle`] tells it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Changed<'a> {
    pub(crate) time: Time,
    pub(crate) slot: Slot,
    pub(crate) key: &'a str,
    /// What messages may carry of its row; empty where there is nothing.
    pub(crate) row: &'a str,
    pub(crate) turn: Turn,
}

/// What [`Keys::announce`] tells of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Announced<'a> {
    /// It is in the audience.
    Member {
        /// The key's slot.
        slot: Slot,
        key: &'a str,
        /// The audience's index in the model.
        audience: u32,
        cause: Cause,
    },
    /// Some sync was told otherwise.
    Change {
        time: Time,
        key: &'a str,
        row: &'a str,
        audience: u32,
        entered: bool,
        /// Of an entry that was never told.
        cause: Cause,
        recipients: Recipients,
        /// An exit whose window ended at `time`.
        expired: bool,
    },
}

/// The keys of one model that this worker owns.
pub(crate) struct Keys {
    facts: Vec<FactState>,
    audiences: Audiences,
    slots: Slots,
    windows: Vec<Windows>,
    /// `fact_words` a slot.
    truths: Vec<u64>,
    /// `member_words` a slot.
    members: Vec<u64>,
    clocked: HashMap<(Slot, u32), Clocked>,
    /// What messages may carry of a key's row.
    rows: HashMap<Slot, Box<str>>,
    timers: Timers,
    /// What syncs were told by an earlier run, until the difference has been announced.
    ledger: Option<CommittedBits>,
    flips: Vec<Flip>,
    settled: usize,
    /// Slots of which perhaps nothing is known any more.
    idle: Vec<Slot>,
    // Scratch of `settle`.
    last: Vec<(u32, bool, Cause)>,
    flipped: Vec<(u32, Cause)>,
}

impl Keys {
    pub(crate) fn new(model: &ModelPlan) -> Keys {
        let facts = model
            .facts
            .iter()
            .map(|fact| match &fact.kind {
                FactKind::Known => FactState::Known,
                FactKind::Performed { within, least, most, .. } => FactState::Window(Rule::new(*within, *least, *most)),
                FactKind::Property(predicate) => FactState::Property { clocked: predicate.mentions_now() },
                FactKind::Related { filter, aggregate, comparison, .. } => FactState::Related {
                    empty: Summary::new(aggregate),
                    comparison: *comparison,
                    clocked: filter.as_ref().is_some_and(|f| f.mentions_now()),
                },
            })
            .collect();
        Keys {
            facts,
            audiences: Audiences::new(model),
            slots: Slots::default(),
            windows: Vec::new(),
            truths: Vec::new(),
            members: Vec::new(),
            clocked: HashMap::new(),
            rows: HashMap::new(),
            timers: Timers::default(),
            ledger: None,
            flips: Vec::new(),
            settled: 0,
            idle: Vec::new(),
            last: Vec::new(),
            flipped: Vec::new(),
        }
    }

    /// The slot of a key, with room for all that is kept of it.
    pub(crate) fn intern(&mut self, hash: u64, key: &str) -> Slot {
        let slot = self.slots.intern(hash, key);
        if slot as usize == self.windows.len() {
            self.windows.push(Windows::default());
            self.truths.extend_from_slice(&self.audiences.default_facts);
            self.members.resize(self.members.len() + self.audiences.member_words(), 0);
        }
        slot
    }

    /// How many slots there are to go over.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// How many keys something is known of.
    pub(crate) fn len(&self) -> usize {
        self.slots.in_use()
    }

    /// Applies a hit; `facts` are its event's. Tells whether it repeats an event that is held.
    pub(crate) fn hit(&mut self, hit: &Hit, key: &str, arrival: Arrival, facts: &[u32]) -> bool {
        let slot = self.intern(hit.key_hash, key);
        let windows = &mut self.windows[slot as usize];
        let mut out = Out { slot, flips: &mut self.flips, timers: &mut self.timers };
        let event = Held { timestamp: hit.timestamp, arrival, id: hit.id };
        let mut repeat = false;
        let mut rest = hit.facts;
        while rest != 0 {
            let fact = facts[usize::from(hit.block) * 64 + rest.trailing_zeros() as usize];
            rest &= rest - 1;
            let FactState::Window(rule) = &self.facts[fact as usize] else {
                panic!("a hit counts for fact {fact}, which has no window");
            };
            repeat |= windows.apply(rule, fact, hit.at, event, &mut out);
        }
        if windows.is_empty() {
            self.idle.push(slot);
        }
        repeat
    }

    /// Fires the next timer due by `through`; false: there is none.
    pub(crate) fn fire(&mut self, through: Time) -> bool {
        let Some(Timer { time, slot, fact }) = self.timers.pop(through) else {
            return false;
        };
        if let FactState::Window(rule) = &self.facts[fact as usize] {
            let windows = &mut self.windows[slot as usize];
            windows.fire(rule, fact, time, &mut Out { slot, flips: &mut self.flips, timers: &mut self.timers });
            if windows.is_empty() {
                self.idle.push(slot);
            }
        } else if self.clocked.get(&(slot, fact)).is_some_and(|c| c.armed == Some(time)) {
            self.look(slot, fact, time, Cause::Expiry);
        }
        true
    }

    /// Stages a batch of a pull. Tells a key that came twice.
    pub(crate) fn stage(&mut self, staged: &mut Staged, rows: &mut Rows) -> Option<String> {
        let slots: Vec<Slot> = (0..rows.len())
            .map(|row| {
                let (hash, key) = rows.key(row);
                self.intern(hash, key)
            })
            .collect();
        staged.add(rows, &slots).map(|row| rows.key(row).1.to_owned())
    }

    /// Switches one key to what a pull says of it, at `time`; tells whether that is something new.
    pub(crate) fn switch(&mut self, staged: &mut Staged, slot: Slot, time: Time) -> bool {
        let known = staged.has(slot);
        let mut new = false;
        if staged.role == Role::Own {
            new |= self.turn(time, slot, 0, known);
            let row = staged.text(slot);
            new |= self.rows.get(&slot) != row.as_ref();
            match row {
                Some(row) => drop(self.rows.insert(slot, row)),
                None => drop(self.rows.remove(&slot)),
            }
        }
        for i in 0..staged.facts.len() {
            let fact = staged.facts[i];
            let clocked = match &self.facts[fact as usize] {
                FactState::Property { clocked: false } => {
                    let truth = known && staged.truth(slot, i);
                    new |= self.turn(time, slot, fact, truth);
                    continue;
                }
                FactState::Related { comparison, clocked: false, .. } => {
                    let truth = staged.summary(slot, i).holds(comparison);
                    new |= self.turn(time, slot, fact, truth);
                    continue;
                }
                FactState::Property { .. } => staged.timelines.remove(&(slot, fact)).map(ClockedTruth::Row),
                FactState::Related { .. } => staged.timed.remove(&(slot, fact)).map(ClockedTruth::Aggregate),
                FactState::Known | FactState::Window(_) => panic!("fact {fact} is decided by no pull"),
            };
            new |= self.clocked.get(&(slot, fact)).map(|clocked| &clocked.truth) != clocked.as_ref();
            match clocked {
                Some(truth) => {
                    self.clocked.insert((slot, fact), Clocked { truth, armed: None });
                    self.look(slot, fact, time, Cause::Snapshot);
                }
                None => {
                    if self.clocked.remove(&(slot, fact)).is_some() {
                        let truth = audiences::get(&self.audiences.default_facts, fact);
                        self.flips.push(Flip { time, slot, fact, truth, cause: Cause::Snapshot });
                    }
                }
            }
        }
        if !known {
            self.idle.push(slot);
        }
        new
    }

    /// Says that a staged pull is given up: keys that only it knew are forgotten.
    pub(crate) fn give_up(&mut self, staged: &Staged) {
        self.idle.extend(staged.slots());
    }

    /// The truth now of a fact that speaks of `now()`, and a timer for its next turn.
    fn look(&mut self, slot: Slot, fact: u32, time: Time, cause: Cause) {
        let (truth, next) = self.look_at(slot, fact, time);
        self.clocked.get_mut(&(slot, fact)).expect("it was just looked at").armed = next;
        if let Some(time) = next {
            self.timers.push(Timer { time, slot, fact });
        }
        self.flips.push(Flip { time, slot, fact, truth, cause });
    }

    /// The truth at `time` of a fact that speaks of `now()`, and when it is to be looked at again.
    fn look_at(&self, slot: Slot, fact: u32, time: Time) -> (bool, Option<Time>) {
        let clocked = self.clocked.get(&(slot, fact)).expect("a fact that is looked at has a timeline");
        match (&clocked.truth, &self.facts[fact as usize]) {
            (ClockedTruth::Row(timeline), _) => (timeline.at(time), timeline.next(time)),
            (ClockedTruth::Aggregate(rows), FactState::Related { empty, comparison, .. }) => {
                let mut summary = empty.clone();
                rows.iter().filter(|(_, when)| when.at(time)).for_each(|(what, _)| summary.add(*what));
                (summary.holds(comparison), rows.iter().filter_map(|(_, when)| when.next(time)).min())
            }
            (ClockedTruth::Aggregate(_), _) => panic!("fact {fact} is no aggregate"),
        }
    }

    /// Flips a fact that only pulls decide, if it is not so already: no other flip of it can be pending. Tells whether.
    fn turn(&mut self, time: Time, slot: Slot, fact: u32, truth: bool) -> bool {
        let start = slot as usize * self.audiences.default_facts.len();
        let turns = audiences::get(&self.truths[start..], fact) != truth;
        if turns {
            self.flips.push(Flip { time, slot, fact, truth, cause: Cause::Snapshot });
        }
        turns
    }

    /// Puts the flips so far in order. All of a stretch of time must be there.
    pub(crate) fn order_flips(&mut self) {
        // Stable: of two flips of a fact in the same ms the later one counts.
        self.flips.sort_by_key(|flip| (flip.time, flip.slot));
        self.settled = 0;
    }

    /// Turns up to about `fuel` ordered flips into changes; tells whether any are left.
    ///
    /// `tell` is none before the job's start: facts are kept, nothing is decided.
    pub(crate) fn settle(&mut self, fuel: usize, mut tell: Option<&mut dyn FnMut(Changed<'_>)>) -> bool {
        let until = self.flips.len().min(self.settled + fuel);
        let (fact_words, member_words) = (self.audiences.default_facts.len(), self.audiences.member_words());
        while self.settled < until {
            let Flip { time, slot, .. } = self.flips[self.settled];
            self.last.clear();
            while let Some(flip) = self.flips.get(self.settled).filter(|f| f.time == time && f.slot == slot) {
                match self.last.iter_mut().find(|(fact, ..)| *fact == flip.fact) {
                    Some(last) => *last = (flip.fact, flip.truth, flip.cause),
                    None => self.last.push((flip.fact, flip.truth, flip.cause)),
                }
                self.settled += 1;
            }
            let truths = &mut self.truths[slot as usize * fact_words..][..fact_words];
            self.flipped.clear();
            for (fact, truth, cause) in &self.last {
                if audiences::get(truths, *fact) != *truth {
                    audiences::set(truths, *fact, *truth);
                    self.flipped.push((*fact, *cause));
                }
            }
            if self.flipped.is_empty() {
                continue;
            }
            let members = &mut self.members[slot as usize * member_words..][..member_words];
            match (&mut tell, &mut self.ledger) {
                (Some(tell), _) => {
                    let key = self.slots.key(slot);
                    let row = self.rows.get(&slot).map_or("", |row| row);
                    let mut tell = |turn| tell(Changed { time, slot, key, row, turn });
                    self.audiences.decide(truths, &self.flipped, members, &mut tell);
                }
                // Of those that were told, it matters when their window ended.
                (None, Some(ledger)) if ledger.has(slot) => {
                    self.audiences.decide(truths, &self.flipped, members, &mut |turn| ledger.turned(slot, time, turn));
                }
                (None, _) => {}
            }
        }
        if self.settled < self.flips.len() {
            return true;
        }
        self.flips.clear();
        self.settled = 0;
        false
    }

    /// Decides all audiences of one key at the job's start: tells those it is in, and whose sync was told otherwise.
    pub(crate) fn announce(&mut self, slot: Slot, time: Time, start: &Start, tell: &mut dyn FnMut(Announced<'_>)) {
        let (fact_words, member_words) = (self.audiences.default_facts.len(), self.audiences.member_words());
        let truths = &self.truths[slot as usize * fact_words..][..fact_words];
        let members = &mut self.members[slot as usize * member_words..][..member_words];
        let ledger = self.ledger.as_ref().filter(|ledger| ledger.has(slot));
        if truths == self.audiences.default_facts && ledger.is_none() {
            return;
        }
        let key = self.slots.key(slot);
        let row = self.rows.get(&slot).map_or("", |row| row);
        self.audiences.decide_all(truths, members, &mut |turn| {
            let Turn { audience, cause, .. } = turn;
            tell(Announced::Member { slot, key, audience, cause });
            start.recipients(
                audience,
                true,
                |sync| ledger.is_some_and(|ledger| ledger.is_committed(slot, sync, audience)),
                |to| {
                    tell(Announced::Change {
                        time,
                        key,
                        row,
                        audience,
                        entered: true,
                        cause,
                        recipients: to,
                        expired: false,
                    });
                },
            );
        });
        if let Some(ledger) = ledger {
            for audience in ledger.audiences(slot).filter(|audience| !audiences::get(members, *audience)) {
                let ended = ledger.ended(slot, audience);
                // What ended before a sync was told the entry is no news to it: what was told was right then, for by the live
                // clock events take effect otherwise than when they are read again. Then it is over only now.
                let news = |sync: usize| ended.is_some_and(|ended| ended > start.syncs[sync].committed);
                for expired in [true, false] {
                    let time = ended.filter(|_| expired).unwrap_or(time);
                    let cause = Cause::Expiry;
                    start.recipients(
                        audience,
                        false,
                        |sync| !ledger.is_committed(slot, sync, audience) || news(sync) != expired,
                        |recipients| {
                            let entered = false;
                            tell(Announced::Change { time, key, row, audience, entered, cause, recipients, expired });
                        },
                    );
                }
            }
            self.idle.push(slot);
        }
    }

    /// Says that everything has been announced.
    pub(crate) fn announced(&mut self) {
        self.ledger = None;
    }

    /// Forgets the keys of which nothing is known any more. No flips may be pending, and no pull staged.
    pub(crate) fn forget_idle(&mut self) {
        if self.idle.is_empty() {
            return;
        }
        let (fact_words, member_words) = (self.audiences.default_facts.len(), self.audiences.member_words());
        let clocked = self.facts.iter().enumerate().filter(|(_, f)| {
            matches!(f, FactState::Property { clocked: true } | FactState::Related { clocked: true, .. })
        });
        let clocked: Vec<u32> = clocked.map(|(fact, _)| fact as u32).collect();
        self.idle.sort_unstable();
        self.idle.dedup();
        for slot in std::mem::take(&mut self.idle) {
            let i = slot as usize;
            let nothing_known = !self.slots.is_free(slot)
                && self.windows[i].is_empty()
                && self.truths[i * fact_words..][..fact_words] == self.audiences.default_facts
                && !clocked.iter().any(|fact| self.clocked.contains_key(&(slot, *fact)));
            if nothing_known {
                let members = &mut self.members[i * member_words..][..member_words];
                if self.ledger.as_ref().is_some_and(|ledger| ledger.has(slot)) {
                    // Before the start it is remembered for what was told of it.
                    self.idle.push(slot);
                    continue;
                }
                assert!(members.iter().all(|word| *word == 0), "a key of which nothing is known is a member");
                self.rows.remove(&slot);
                self.slots.forget(slot);
            }
        }
    }
}
