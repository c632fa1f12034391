//! The keeper: one worker's share of the membership, and how far time has come there.
//!
//! Computes the changes of all keys that this worker owns, stretch by stretch of time. Promises: a change carries its
//! own time; all changes of a stretch are told before the next begins; the same hits and rows give the same changes
//! however they were batched. Holds hits that have not taken effect, pulls that are staged, and [`Keys`] per model.
//! Works within a budget: [`Keeper::work`] returns after about `fuel` units and goes on where it was.
//!
//! A stretch goes through these steps, each of which may take several activations:
//! 1. hits that take effect in it are applied, by (time, arrival);
//! 2. timers due in it fire;
//! 3. keys that a pull concerns are switched, at its last ms;
//! 4. flips are ordered and settled into changes;
//! 5. at the job's start only: every key is announced.
//!
//! Until the start nothing is told: what came before is history. Under [`Span::Live`] nothing is worked on before it is known
//! what syncs were told by an earlier run ([`Keeper::begin`]); at the start only what differs from that is told.

use crate::checkpoint::Encoder;
use crate::hits::{Hit, Hits};
use crate::keys::committed::Start;
use crate::keys::outlook::Waiting;
use crate::keys::snapshot::Staged;
use crate::keys::state::{KeyState, Mapping};
use crate::keys::windows::{Arrival, Held};
use crate::keys::{Announced, Cause, Changed, Keys};
use crate::rows::Rows;
use crate::time::{Slot, Time};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};
use usher_core::change::{Reason, Recipients};
use usher_queries::plan::Plan;

/// What decides where a job's clock starts and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// From when all sources have been read to where they stood, until told to stop.
    Live,
    /// Over what the sources hold.
    Replay {
        /// Where the clock starts; none: at the least first timestamp.
        from: Option<Time>,
        /// Where it ends, inclusive; none: at the greatest timestamp.
        until: Option<Time>,
    },
}

/// What a worker's sources tell all keepers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Milestone {
    /// Replay: the least first timestamp of its partitions. Live: its clock when it had read what stood there.
    Opened(Option<Time>),
    /// The greatest timestamp, or the clock at which it was stopped.
    Ended(Option<Time>),
}

/// What the keeper tells.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Output<'a> {
    /// A key entered or left an audience.
    Membership {
        /// Which of the job's models.
        model: usize,
        slot: Slot,
        /// The audience's index in the model.
        audience: u32,
        time: Time,
        entered: bool,
        key: &'a str,
        reason: Reason,
    },
    /// Who belongs is told up to before a time.
    Done(Time),
    /// Syncs are to be told.
    Change {
        model: usize,
        audience: u32,
        time: Time,
        entered: bool,
        key: &'a str,
        /// What messages may carry of its row.
        row: &'a str,
        reason: Reason,
        recipients: Recipients,
    },
    /// A sync is to be told that a key is no longer in an audience that the job or the sync does not have any more.
    Removed { removed: &'a Removed, time: Time },
}

/// A membership that a sync was told of, in an audience that it has no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Removed {
    /// The audience's index in the catalog of messages.
    pub(crate) audience: u32,
    pub(crate) key: String,
    pub(crate) recipients: Recipients,
}

/// What an earlier run left behind, for one worker.
#[derive(Default)]
pub(crate) struct Beginning {
    /// Per model, what the syncs are to it.
    pub(crate) starts: Vec<Start>,
    /// Per model and audience, whether its definition is new: then so is the reason of what is told first.
    pub(crate) defined: Vec<Vec<bool>>,
    /// The syncs that are new, for which everything is.
    pub(crate) new_syncs: Vec<bool>,
    /// Models whose snapshot is known.
    pub(crate) pulled: Vec<bool>,
    /// What is taken back at the start; on one worker, which says so apart ([`Keeper::take_removed`]).
    pub(crate) removed: Vec<Removed>,
}

/// How [`Keeper::work`] left things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worked {
    /// Nothing to do until something comes in or time passes.
    Idle,
    /// Out of fuel.
    More,
    /// The clock has reached its end.
    Finished,
}

/// Hits waiting for their time, and how many have not been applied.
struct Batch {
    hits: Hits,
    next: usize,
    left: usize,
}

/// A hit whose time has come.
#[derive(Clone, Copy)]
struct Ready {
    at: Time,
    arrival: Arrival,
    batch: u32,
    index: u32,
}

enum Step {
    Hits,
    Fire,
    Switch,
    Order,
    Settle,
    Announce { model: usize, slot: Slot },
}

/// The keys of a worker by shard, as they were listed: what [`Keeper::shard`] goes by.
pub(crate) struct Listing {
    /// Per model, the slots in order of their shard, and where each shard's end.
    models: Vec<(Vec<Slot>, Vec<usize>)>,
}

/// Shards that state is cut into: 256, by the first byte of the key's hash. It never changes.
///
/// At a million keys, one is some 4,000 keys and a few ms of work.
pub(crate) const SHARDS: usize = 256;

/// The shard of a key.
pub(crate) fn shard_of(key_hash: u64) -> usize {
    (key_hash >> 56) as usize
}

/// Keys of models, by role, that a pull says something of.
pub(crate) struct Pull {
    /// The model that was pulled.
    pub(crate) pulled: u32,
    /// Which pull of it, from 1.
    pub(crate) number: u64,
    pub(crate) parts: Vec<(u32, Staged)>,
}

struct Switching {
    pull: Pull,
    part: usize,
    slot: Slot,
    /// Keys for which it says something new.
    new: u64,
}

pub(crate) struct Keeper {
    span: Span,
    peers: usize,
    keys: Vec<Keys>,
    /// Per event: its model and the facts that its hits name.
    events: Vec<(usize, Vec<u32>)>,
    batches: Vec<Option<Batch>>,
    vacant: Vec<u32>,
    ready: VecDeque<Ready>,
    opened: Vec<Option<Time>>,
    ended: Vec<Option<Time>>,
    /// Models whose first pull has not come.
    missing: BTreeSet<u32>,
    /// Where an earlier run told of memberships and left no snapshot: from when on the sync that was told least knows nothing.
    /// There, not at the start, the first pulls are in force, so that what ends by itself between the two is dated by when it
    /// does. None once they are.
    resumed: Option<Time>,
    staging: BTreeSet<u32>,
    whole: VecDeque<Pull>,
    switching: Option<Switching>,
    /// Whether it is known what an earlier run left behind.
    begun: bool,
    beginning: Beginning,
    /// Per model, the number of the pull in force; 0: that of an earlier run, or none.
    in_force: Vec<u64>,
    start: Option<Time>,
    started: bool,
    /// All before it is told.
    done: Time,
    stretch: Option<(Time, Step)>,
    /// Whether somebody waits for the end of the stretch.
    awaited: bool,
    /// Pulls that have been switched to and not been asked for: model, number, keys for which they say something new.
    switched: Vec<(u32, u64, u64)>,
    /// By event, messages that repeated one that is held.
    repeats: Vec<u64>,
}

impl Keeper {
    pub(crate) fn new(plan: &Plan, span: Span, peers: usize) -> Keeper {
        Keeper {
            span,
            peers,
            keys: plan.models.iter().map(Keys::new).collect(),
            events: plan.events.iter().map(|event| (event.model as usize, event.facts.clone())).collect(),
            batches: Vec::new(),
            vacant: Vec::new(),
            ready: VecDeque::new(),
            opened: Vec::new(),
            ended: Vec::new(),
            missing: (0..plan.models.len() as u32)
                .filter(|model| plan.models[*model as usize].snapshot.is_some())
                .collect(),
            resumed: None,
            staging: BTreeSet::new(),
            whole: VecDeque::new(),
            switching: None,
            begun: !matches!(span, Span::Live),
            beginning: Beginning {
                starts: vec![Start::default(); plan.models.len()],
                defined: plan.models.iter().map(|model| vec![true; model.audiences.len()]).collect(),
                ..Beginning::default()
            },
            in_force: vec![0; plan.models.len()],
            start: None,
            started: false,
            done: 0,
            stretch: None,
            awaited: false,
            switched: Vec::new(),
            repeats: vec![0; plan.events.len()],
        }
    }

    /// Between two stretches: all up to and including a time has taken effect, and nothing later. None: within one, or before who
    /// belongs is announced; then the next time that [`Keeper::work`] comes to the end of a stretch it returns.
    pub(crate) fn rest(&mut self) -> Option<Time> {
        self.awaited = self.stretch.is_some();
        (self.started && !self.awaited).then(|| self.done - 1)
    }

    /// Whether no stretch is being worked on.
    pub(crate) fn is_between(&self) -> bool {
        self.stretch.is_none()
    }

    /// The keys of a model.
    pub(crate) fn keys(&self, model: usize) -> &Keys {
        &self.keys[model]
    }

    /// The events of a key that have not taken effect, in the order in which they will.
    pub(crate) fn waiting(&self, model: usize, hash: u64, key: &str) -> Vec<Waiting> {
        let gathered = self.ready.iter().map(|ready| (ready.batch as usize, ready.index as usize));
        let later = self.batches.iter().enumerate().flat_map(|(number, batch)| {
            let indexes = batch.as_ref().map_or(0..0, |batch| batch.next..batch.hits.hits.len());
            indexes.map(move |index| (number, index))
        });
        let mut waiting = Vec::new();
        for (number, index) in gathered.chain(later) {
            let hits = &self.batches[number].as_ref().expect("a batch stays until its last hit is applied").hits;
            let hit = &hits.hits[index];
            let (of, facts) = &self.events[usize::from(hit.event)];
            if *of != model || hit.key_hash != hash || hits.key(hit) != key {
                continue;
            }
            let arrival = Arrival::new(hits.partition, hit.position);
            let event = Held { timestamp: hit.timestamp, arrival, id: hit.id };
            let positions =
                (0..64).filter(|bit| hit.facts >> bit & 1 == 1).map(|bit| usize::from(hit.block) * 64 + bit);
            waiting.extend(positions.map(|position| Waiting { fact: facts[position], at: hit.at, event }));
        }
        waiting.sort_by_key(|waiting| (waiting.at, waiting.event.arrival));
        waiting
    }

    /// The pulls that have been switched to since the last call: model, number, keys for which they say something new.
    pub(crate) fn take_switched(&mut self) -> Vec<(u32, u64, u64)> {
        std::mem::take(&mut self.switched)
    }

    /// By event, messages that repeated one that is held.
    pub(crate) fn repeats(&self) -> &[u64] {
        &self.repeats
    }

    /// All before it has been told.
    pub(crate) fn done(&self) -> Time {
        self.done
    }

    /// Whether it has announced who belongs.
    pub(crate) fn is_started(&self) -> bool {
        self.started
    }

    /// How many keys something is known of.
    pub(crate) fn len(&self) -> usize {
        self.keys.iter().map(Keys::len).sum()
    }

    /// Takes up a key as an earlier run knew it at `clock`.
    pub(crate) fn restore(&mut self, model: usize, hash: u64, state: &KeyState, mapping: &Mapping, clock: Time) {
        assert!(!self.begun, "state is restored before anything else is done");
        self.keys[model].restore(hash, state, mapping, clock);
        self.done = self.done.max(clock);
    }

    /// Takes up what a sync was told of keys of a model: sync, audience, the key's hash, key.
    pub(crate) fn take_ledger(&mut self, model: usize, ledger: impl Iterator<Item = (usize, u32, u64, String)>) {
        assert!(!self.begun, "what was told is taken up before anything else is done");
        self.keys[model].take_ledger(self.beginning.starts[model].syncs.len(), ledger);
    }

    /// Says what an earlier run left behind, before keys are restored and what was told is taken up.
    pub(crate) fn prepare(&mut self, beginning: Beginning, clock: Time) {
        self.missing.retain(|model| !beginning.pulled.get(*model as usize).copied().unwrap_or(false));
        // What is taken back may have been said before.
        let removed = std::mem::take(&mut self.beginning.removed);
        self.beginning = Beginning { removed, ..beginning };
        self.done = self.done.max(clock);
        let syncs = self.beginning.starts.iter().flat_map(|start| &start.syncs);
        let ledger = syncs.map(|sync| sync.committed).filter(|ledger| *ledger > 0).min();
        self.resumed = ledger.filter(|_| !self.missing.is_empty()).map(|ledger| ledger + 1);
    }

    /// Says that all that an earlier run left behind has been taken up: work can begin.
    pub(crate) fn begin(&mut self) {
        self.keys.iter_mut().for_each(Keys::decide_committed);
        self.begun = true;
    }

    /// The number of the pull in force, per model; none: one is being switched to now.
    pub(crate) fn steady(&self) -> Option<Vec<u64>> {
        (self.whole.is_empty() && self.switching.is_none()).then(|| self.in_force.clone())
    }

    /// When everybody who belongs is announced, once that is known.
    pub(crate) fn start(&self) -> Option<Time> {
        self.start
    }

    /// Adds what is to be taken back at the start.
    pub(crate) fn take_removed(&mut self, removed: Vec<Removed>) {
        self.beginning.removed = removed;
    }

    /// Lists the keys by shard.
    pub(crate) fn list(&self) -> Listing {
        let of = |keys: &Keys| {
            let mut ends = vec![0; SHARDS + 1];
            keys.hashes().for_each(|(_, hash)| ends[shard_of(hash) + 1] += 1);
            for shard in 0..SHARDS {
                ends[shard + 1] += ends[shard];
            }
            let mut slots = vec![0; ends[SHARDS]];
            for (slot, hash) in keys.hashes() {
                let at = &mut ends[shard_of(hash)];
                slots[*at] = slot;
                *at += 1;
            }
            ends.pop();
            (slots, ends)
        };
        Listing { models: self.keys.iter().map(of).collect() }
    }

    /// What is known now of the keys that were listed in a shard, encoded; none: nothing.
    pub(crate) fn shard(&self, listing: &Listing, shard: usize) -> Option<Vec<u8>> {
        let mut encoder = Encoder::new(self.keys.len());
        for (keys, (slots, ends)) in self.keys.iter().zip(&listing.models) {
            encoder.model();
            let start = if shard == 0 { 0 } else { ends[shard - 1] };
            // A slot may be another key's since.
            let there = slots[start..ends[shard]]
                .iter()
                .filter(|slot| keys.hash_of(**slot).is_some_and(|hash| shard_of(hash) == shard));
            there.filter_map(|slot| keys.state(*slot)).for_each(|key| encoder.key(&key));
        }
        encoder.end()
    }

    /// Takes in hits.
    pub(crate) fn receive(&mut self, mut hits: Hits) {
        // Only events of the future come out of order.
        if !hits.hits.is_sorted_by_key(|hit| hit.at) {
            hits.hits.sort_by_key(|hit| hit.at);
        }
        let left = hits.hits.len();
        let batch = Some(Batch { hits, next: 0, left });
        match self.vacant.pop() {
            Some(at) => self.batches[at as usize] = batch,
            None => self.batches.push(batch),
        }
    }

    pub(crate) fn milestone(&mut self, milestone: Milestone) {
        match milestone {
            Milestone::Opened(at) => self.opened.push(at),
            Milestone::Ended(at) => self.ended.push(at),
        }
        if self.start.is_none() {
            // No timestamp at all: no change, whatever the flags say.
            let all_opened = self.opened.len() == self.peers;
            self.start = match self.span {
                Span::Live if all_opened => self.opened.iter().flatten().max().map(|clock| self.done.max(clock + 1)),
                Span::Replay { from: Some(from), .. } if self.opened.iter().any(Option::is_some) => Some(from),
                Span::Replay { from: None, .. } if all_opened => self.opened.iter().flatten().min().copied(),
                _ => None,
            };
        }
    }

    /// Stages a batch of a pull; tells a key that came twice in it.
    pub(crate) fn stage(&mut self, staged: &mut Staged, rows: &mut Rows) -> Option<String> {
        self.staging.insert(rows.pulled);
        self.keys[rows.model as usize].stage(staged, rows)
    }

    /// A pull is whole: its keys are switched as time goes on.
    pub(crate) fn take(&mut self, pulled: u32, pull: Pull) {
        self.staging.remove(&pulled);
        self.whole.push_back(pull);
        self.missing.remove(&pulled);
    }

    /// A pull failed: what it said is dropped.
    pub(crate) fn give_up(&mut self, pulled: u32, pull: &Pull) {
        self.staging.remove(&pulled);
        for (model, staged) in &pull.parts {
            self.keys[*model as usize].give_up(staged);
        }
    }

    /// Works on all that is complete. `frontier`: hits that take effect before it are all here; none: all are.
    pub(crate) fn work(&mut self, frontier: Option<Time>, mut fuel: usize, tell: &mut dyn FnMut(Output<'_>)) -> Worked {
        if !self.begun {
            return if frontier.is_none() { Worked::Finished } else { Worked::Idle };
        }
        let end = match self.end(frontier) {
            Ok(end) => end,
            Err(worked) => return worked,
        };
        loop {
            if self.stretch.is_none() {
                match self.next_stretch(end, fuel) {
                    Some(until) => self.stretch = Some((until, Step::Hits)),
                    None if frontier.is_none() && self.done >= end => return Worked::Finished,
                    None => return Worked::Idle,
                }
            }
            fuel = self.step(fuel, tell);
            if fuel == 0 || (self.awaited && self.stretch.is_none()) {
                return Worked::More;
            }
        }
    }

    /// The end, exclusive, of what can be worked on.
    fn end(&self, frontier: Option<Time>) -> Result<Time, Worked> {
        let last = match (self.span, self.start) {
            (Span::Replay { until: Some(until), .. }, Some(start)) if until < start => return Err(Worked::Finished),
            (Span::Replay { until: Some(until), .. }, _) => Some(until),
            // With `from` beyond the end, what holds then is told all the same.
            _ if self.ended.len() == self.peers => self.ended.iter().flatten().max().copied().max(self.start),
            _ => None,
        };
        match (frontier, last) {
            (Some(frontier), Some(last)) => Ok(frontier.min(last + 1)),
            (Some(frontier), None) => Ok(frontier),
            (None, _) if self.ended.len() < self.peers => Err(Worked::Idle),
            (None, _) if self.start.is_none() => Err(Worked::Finished),
            (None, Some(last)) => Ok(last + 1),
            (None, None) => Err(Worked::Finished),
        }
    }

    /// Decides up to where, exclusive, the next stretch goes: no further than the start, and with a limited number of hits.
    fn next_stretch(&mut self, end: Time, fuel: usize) -> Option<Time> {
        let end = match self.start {
            _ if self.started => end,
            _ if self.resumed.is_some() && !self.missing.is_empty() => return None,
            _ if self.resumed.is_some() => end.min(self.done + 1),
            None if matches!(self.span, Span::Replay { .. }) => return None,
            None => end,
            Some(start) if self.done < start => end.min(start),
            Some(_) if !self.missing.is_empty() => return None,
            Some(start) => end.min(start + 1),
        };
        if self.done >= end {
            return None;
        }
        self.gather(end);
        let Some(beyond) = self.ready.get(fuel) else {
            return Some(end);
        };
        let first = self.ready[0].at;
        // Time does not go back for what is read again and took effect before.
        Some(if beyond.at > first { beyond.at } else { first + 1 }.max(self.done + 1))
    }

    /// Moves the hits that take effect before `end` to `ready`, in order.
    fn gather(&mut self, end: Time) {
        let already = self.ready.len();
        let mut batches = 0;
        for (number, batch) in self.batches.iter_mut().enumerate() {
            let Some(batch) = batch else { continue };
            let waiting = &batch.hits.hits[batch.next..];
            let due = waiting.partition_point(|hit| hit.at < end);
            for (i, hit) in waiting[..due].iter().enumerate() {
                let arrival = Arrival::new(batch.hits.partition, hit.position);
                self.ready.push_back(Ready {
                    at: hit.at,
                    arrival,
                    batch: number as u32,
                    index: (batch.next + i) as u32,
                });
            }
            batch.next += due;
            batches += usize::from(due > 0);
        }
        if batches > 1 {
            // What was ready before takes effect before all that is new.
            self.ready.make_contiguous()[already..].sort_by_key(|ready| (ready.at, ready.arrival));
        }
    }

    /// Does one step of the stretch; tells the fuel left.
    fn step(&mut self, fuel: usize, tell: &mut dyn FnMut(Output<'_>)) -> usize {
        let (until, step) = self.stretch.as_mut().expect("a step is done within a stretch");
        let until = *until;
        let mut left = fuel;
        match step {
            Step::Hits => {
                while left > 0 && self.ready.front().is_some_and(|ready| ready.at < until) {
                    let ready = self.ready.pop_front().expect("it was just seen");
                    self.apply(ready);
                    left -= 1;
                }
                if left > 0 {
                    self.go_on(Step::Fire);
                }
            }
            Step::Fire => {
                for keys in &mut self.keys {
                    while left > 0 && keys.fire(until - 1) {
                        left -= 1;
                    }
                }
                if left > 0 {
                    self.go_on(Step::Switch);
                }
            }
            Step::Switch => {
                left = self.switch(self.resumed.unwrap_or(until - 1), left);
                if left > 0 && self.resumed.take().is_some() {
                    // What they say of later moments of this stretch.
                    self.go_on(Step::Fire);
                } else if left > 0 || self.started {
                    self.go_on(Step::Order);
                } else if self.resumed.is_none() {
                    // Before the start a pull is taken whole, and its flips, of every key, need not wait: nobody is told.
                    for keys in &mut self.keys {
                        keys.order_flips();
                        keys.settle(usize::MAX, None);
                    }
                }
            }
            Step::Order => {
                self.keys.iter_mut().for_each(Keys::order_flips);
                self.go_on(Step::Settle);
            }
            Step::Settle => {
                for (model, keys) in self.keys.iter_mut().enumerate() {
                    let mut ledger = |changed: Changed<'_>| {
                        let Changed { time, slot, key, row, turn } = changed;
                        let (audience, entered) = (turn.audience, turn.entered);
                        let (reason, recipients) = (reason(turn.cause), Recipients::All);
                        tell(Output::Membership { model, slot, audience, time, entered, key, reason });
                        tell(Output::Change { model, audience, time, entered, key, row, reason, recipients });
                    };
                    let ledger: Option<&mut dyn FnMut(Changed<'_>)> =
                        if self.started { Some(&mut ledger) } else { None };
                    if keys.settle(left, ledger) {
                        return 0;
                    }
                }
                left -= 1;
                if !self.started && self.start.is_some_and(|start| start < until) {
                    self.go_on(Step::Announce { model: 0, slot: 0 });
                } else {
                    if self.started {
                        tell(Output::Done(until));
                    }
                    self.finish_stretch(until);
                }
            }
            Step::Announce { model, slot } => {
                while let Some(keys) = self.keys.get_mut(*model) {
                    while left > 0 && (*slot as usize) < keys.slots() {
                        announce(keys, self.span, &self.beginning, *model, *slot, until - 1, tell);
                        *slot += 1;
                        left -= 1;
                    }
                    if left == 0 {
                        return 0;
                    }
                    (*model, *slot) = (*model + 1, 0);
                }
                for removed in std::mem::take(&mut self.beginning.removed) {
                    tell(Output::Removed { removed: &removed, time: until - 1 });
                }
                self.started = true;
                self.keys.iter_mut().for_each(Keys::announced);
                tell(Output::Done(until));
                self.finish_stretch(until);
            }
        }
        left
    }

    fn go_on(&mut self, next: Step) {
        self.stretch.as_mut().expect("a step is done within a stretch").1 = next;
    }

    fn finish_stretch(&mut self, until: Time) {
        // A staged or switching pull refers to slots of keys that nothing else is known of.
        if self.staging.is_empty() && self.whole.is_empty() && self.switching.is_none() {
            self.keys.iter_mut().for_each(Keys::forget_idle);
        }
        self.done = until;
        self.stretch = None;
    }

    fn apply(&mut self, ready: Ready) {
        let slot = &mut self.batches[ready.batch as usize];
        let batch = slot.as_mut().expect("a batch stays until its last hit is applied");
        let hit: Hit = batch.hits.hits[ready.index as usize];
        let (model, facts) = &self.events[usize::from(hit.event)];
        let repeat = self.keys[*model].hit(&hit, batch.hits.key(&hit), ready.arrival, facts);
        self.repeats[usize::from(hit.event)] += u64::from(repeat);
        batch.left -= 1;
        if batch.left == 0 {
            *slot = None;
            self.vacant.push(ready.batch);
        }
    }

    /// Switches keys of whole pulls at `time`; tells the fuel left.
    fn switch(&mut self, time: Time, mut fuel: usize) -> usize {
        loop {
            if self.switching.is_none() {
                // In history nobody is told, and the first pulls are in force from the start on.
                let due = self.started || self.resumed.is_some() || self.start.is_some_and(|start| time >= start);
                let Some(pull) = self.whole.pop_front_if(|_| due) else { return fuel };
                self.switching = Some(Switching { pull, part: 0, slot: 0, new: 0 });
            }
            let Some(switching) = &mut self.switching else { return fuel };
            while let Some((model, staged)) = switching.pull.parts.get_mut(switching.part) {
                let keys = &mut self.keys[*model as usize];
                while (switching.slot as usize) < keys.slots() {
                    if fuel == 0 {
                        return 0;
                    }
                    switching.new += u64::from(keys.switch(staged, switching.slot, time));
                    switching.slot += 1;
                    fuel -= 1;
                }
                (switching.part, switching.slot) = (switching.part + 1, 0);
            }
            let Pull { pulled, number, .. } = switching.pull;
            self.in_force[pulled as usize] = number;
            self.switched.push((pulled, number, switching.new));
            self.switching = None;
        }
    }
}

/// Tells of one key what differs from what syncs were told.
fn announce(
    keys: &mut Keys,
    span: Span,
    beginning: &Beginning,
    model: usize,
    slot: Slot,
    time: Time,
    tell: &mut dyn FnMut(Output<'_>),
) {
    keys.announce(slot, time, &beginning.starts[model], &mut |announced| match announced {
        Announced::Member { slot, key, audience, cause } => {
            tell(Output::Membership { model, slot, audience, time, entered: true, key, reason: reason(cause) });
        }
        Announced::Change { time, key, row, audience, entered, cause, recipients, expired } => {
            let new_sync = match recipients {
                Recipients::All => beginning.new_syncs.iter().all(|new| *new),
                Recipients::Only(sync) | Recipients::LedgerOnly(sync) => beginning.new_syncs[usize::from(sync)],
            };
            let reason = match span {
                Span::Replay { .. } => reason(cause),
                Span::Live if new_sync || beginning.defined[model][audience as usize] => Reason::Definition,
                Span::Live if expired => Reason::Expiry,
                Span::Live => Reason::Recovery,
            };
            tell(Output::Change { model, audience, time, entered, key, row, reason, recipients });
        }
    });
}

/// The cause as sinks tell it.
fn reason(cause: Cause) -> Reason {
    match cause {
        Cause::Event => Reason::Event,
        Cause::Expiry => Reason::Expiry,
        Cause::Snapshot => Reason::Snapshot,
    }
}
