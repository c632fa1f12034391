//! The changes of a sync that are in memory: in which order they go, in which requests, and what becomes of each.
//!
//! A pure state machine: time and randomness are arguments, requests are values ([`Queue::next`]), and their ends are calls
//! ([`Queue::delivered`], [`Queue::failed`], [`Queue::refused`]). What is settled is in [`Queue::events`], which the caller makes durable.
//!
//! * **Order.** Each key has a lane: its changes in the order of the log, of which one is in a request or waits for its retry, and
//!   the others wait behind it. So a change that waits for a retry holds its key and nothing else. Lanes whose first change may go
//!   are taken in the order of the log, in turns with retries that are due: changes that keep failing hold up no others.
//! * **Requests.** One change, or a batch: of different keys and one group, up to a number and a size, sent when it is full or its oldest
//!   change has waited long enough. A request that failed is tried again as it was, unless something in it was superseded. A batch
//!   that was refused is halved, down to one change; that has three tries, and is a dead letter then, unless the sync is
//!   `rejecting`.
//! * **`mode: state`.** A change is superseded when it would be sent and a later one of its membership is in the log, or the
//!   destination holds what it leads to. One that is on its way is not, before its attempt has ended. A change that the sync does not
//!   send sets what is held when its turn comes.
//!
//! Holds what it was given and has not settled: the caller gives more while there is [room](Queue::has_room).

use super::breaker::{Allowance, Breaker};
use super::held::Held;
use super::schedule::Schedule;
use crate::committed_rows::Folded;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::time::{Duration, Instant};
use usher_core::change::{ChangeKind, Reason};
use xxhash_rust::xxh3::xxh3_64;

/// Tries of a change that is refused.
const TRIES: u32 = 3;
/// Changes in memory at most, before no more is read: with usual keys some 5 MB.
const ROOM: usize = 16_384;

/// A change that is to be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// Its number in the log.
    pub number: u64,
    /// Its number among the dead letters, of one that is sent again.
    pub dead_letter: Option<u64>,
    /// Whether it goes even if a later change of its membership was delivered: of a dead letter.
    pub forced: bool,
    /// Whether the sync sends it; if not, it only says what the destination is to be taken to hold.
    pub sent: bool,
    /// Its audience, as the caller numbers them.
    pub audience: u32,
    /// The number of the requests that it can be in: a request has changes of one number.
    pub group: u32,
    /// What identifies its audience and key.
    pub membership: u128,
    pub kind: ChangeKind,
    pub reason: Reason,
    /// ms since the epoch.
    pub at: u64,
    pub key: Arc<str>,
    pub row: Arc<str>,
    pub previous_row: Arc<str>,
    /// When it was given.
    pub since: Instant,
    /// Of its message in a batch.
    pub bytes: usize,
}

/// Why a change is a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Death {
    /// The destination refused it.
    Refused,
    /// It has waited longer than `keep`, or there was more than `keep_bytes` behind it.
    Expired,
    /// Its request can't be written: a template fails on it.
    Unwritable,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Delivered,
    Superseded,
    /// It was not to be sent.
    Unsent,
    Dead(Death),
}

/// What the caller makes durable, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Settled(Arc<Change>, End),
    /// What the destination holds of a membership: the row, and whether that is certain; `None`: nothing.
    Held(u128, Option<(Arc<str>, bool)>),
}

/// How changes are put together.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchBounds {
    pub changes: usize,
    pub bytes: usize,
    pub wait: Duration,
}

/// A request to be sent.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub id: u64,
    pub changes: Vec<Arc<Change>>,
}

/// The changes of one key.
#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Arc<Change>>,
    /// One is in a request, or waits for its retry.
    busy: bool,
    /// The group and the number by which it is in `ready`.
    ready: Option<(u32, u64)>,
}

/// The changes of a request.
#[derive(Debug)]
struct Unit {
    changes: Vec<Arc<Change>>,
    /// Attempts that failed.
    failures: u32,
    /// Attempts that were refused.
    refusals: u32,
    /// In `mode: state`: what was held of each before the attempt that is on its way.
    before: Vec<Option<(Arc<str>, bool)>>,
}

/// In `mode: state`.
#[derive(Debug)]
struct State {
    held: Held,
    /// By membership: the number of its last change in the log, while it is not settled.
    last: HashMap<u128, u64, BuildHasherDefault<Folded>>,
}

/// The changes of one sync.
#[derive(Debug)]
pub(super) struct Queue {
    pub breaker: Breaker,
    schedule: Schedule,
    batch: Option<BatchBounds>,
    state: Option<State>,
    lanes: HashMap<Arc<str>, Lane>,
    /// Keys whose first change may go, by its group and number. No group is empty.
    ready: BTreeMap<u32, BTreeMap<u64, Arc<str>>>,
    /// By when they are due, and a number that makes that unique.
    retries: BTreeMap<(Instant, u64), Unit>,
    on_their_way: HashMap<u64, Unit>,
    next_id: u64,
    /// Whether the last request was a retry.
    was_retry: bool,
    /// Changes.
    count: usize,
    /// Attempts that were made of changes of which one was made before, since the log began.
    pub retried: u64,
    events: Vec<Event>,
}

impl Queue {
    /// Returns an empty queue; `held` is what the destination holds, in `mode: state`.
    pub fn new(breaker: Breaker, schedule: Schedule, batch: Option<BatchBounds>, held: Option<Held>) -> Queue {
        Queue {
            breaker,
            schedule,
            batch,
            state: held.map(|held| State { held, last: HashMap::default() }),
            lanes: HashMap::new(),
            ready: BTreeMap::new(),
            retries: BTreeMap::new(),
            on_their_way: HashMap::new(),
            next_id: 0,
            was_retry: false,
            count: 0,
            retried: 0,
            events: Vec::new(),
        }
    }

    /// Returns whether more changes of the log may be given.
    pub fn has_room(&self) -> bool {
        self.count < ROOM
    }

    /// Returns how many changes there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Takes what happened since the last call.
    pub fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Returns what the destination holds, in `mode: state`.
    pub fn held(&self) -> Option<&Held> {
        self.state.as_ref().map(|state| &state.held)
    }

    /// Takes note of a change of the log, in `mode: state`, before or when it is [given](Self::push).
    pub fn note(&mut self, membership: u128, number: u64) {
        if let Some(state) = &mut self.state {
            let last = state.last.entry(membership).or_default();
            *last = number.max(*last);
        }
    }

    /// Takes it that the destination may hold anything of a membership, in `mode: state`.
    pub fn doubt(&mut self, membership: u128) {
        let row = self.held().and_then(|held| held.get(membership)).map(|held| Arc::clone(&held.row));
        self.hold(membership, Some((row.unwrap_or_default(), false)));
    }

    /// Gives a change: of the log, in its order, or a dead letter, which goes before later changes of its key.
    pub fn push(&mut self, change: Change) {
        self.count += 1;
        let change = Arc::new(change);
        self.note(change.membership, change.number);
        let lane = self.lanes.entry(Arc::clone(&change.key)).or_default();
        let at = lane.waiting.partition_point(|other| other.number < change.number);
        let is_superseded = |other: &Arc<Change>| other.membership == change.membership && other.sent && !other.forced;
        let superseded = match self.state {
            // What is superseded already need not wait for its turn.
            Some(_) => lane.waiting.iter().take(at).rposition(is_superseded),
            None => None,
        };
        lane.waiting.insert(at, Arc::clone(&change));
        if let Some(superseded) = superseded.and_then(|superseded| lane.waiting.remove(superseded)) {
            self.settle(superseded, End::Superseded);
        }
        let key = Arc::clone(&change.key);
        self.offer(&key);
    }

    /// Returns the next request that may be sent now; `None` if there is none before [`Queue::wake`] or the end of another.
    pub fn next(&mut self, now: Instant) -> Option<Attempt> {
        loop {
            let allowance = self.breaker.allowance(now);
            let (most, probe) = match allowance {
                Allowance::Nothing { .. } => return None,
                Allowance::Probe => (1, true),
                Allowance::Requests(most) => (most, false),
            };
            if self.on_their_way.len() >= most {
                return None;
            }
            let mut unit = self.next_unit(now, probe)?;
            self.remove_superseded(&mut unit);
            if unit.changes.is_empty() {
                continue;
            }
            if probe && unit.changes.len() > 1 {
                let changes = unit.changes.split_off(1);
                self.wait(Unit { changes, before: Vec::new(), ..unit }, now);
            }
            return Some(self.start(unit));
        }
    }

    /// Takes the changes of the next request.
    fn next_unit(&mut self, now: Instant, probe: bool) -> Option<Unit> {
        let due = self.retries.first_key_value().is_some_and(|((due, _), _)| *due <= now);
        if (!due || self.was_retry)
            && let Some(unit) = self.first_ready(now, probe)
        {
            self.was_retry = false;
            return Some(unit);
        }
        // A probe does not wait for the schedule of a request: the breaker has its own.
        let unit = if due || probe { self.first_retry() } else { None };
        self.was_retry = unit.is_some();
        unit
    }

    /// Returns when to ask for the next request, if no request ends before.
    pub fn wake(&self, now: Instant) -> Option<Instant> {
        if self.ready.is_empty() && self.retries.is_empty() {
            return None;
        }
        let most = match self.breaker.allowance(now) {
            Allowance::Nothing { until } => return until,
            Allowance::Probe if self.on_their_way.is_empty() => return Some(now),
            Allowance::Probe => 1,
            Allowance::Requests(most) => most,
        };
        if self.on_their_way.len() >= most {
            return None;
        }
        let retry = self.retries.first_key_value().map(|((due, _), _)| *due);
        let ready = self.ready.values().map(|keys| match &self.batch {
            Some(batch) if !self.is_full(keys, batch) => self.first_of(keys).since + batch.wait,
            _ => now,
        });
        retry.into_iter().chain(ready).min()
    }

    /// Returns the changes of a request that is on its way.
    pub fn changes(&self, id: u64) -> Vec<Arc<Change>> {
        self.on_their_way.get(&id).map(|unit| unit.changes.clone()).unwrap_or_default()
    }

    /// Takes the end of a request that was delivered.
    pub fn delivered(&mut self, id: u64) {
        let unit = self.take(id);
        self.take_over(unit.changes);
    }

    /// Takes the end of a request of which some changes were refused, by their places in order, and all others delivered.
    pub fn delivered_but(&mut self, id: u64, refused: &[usize], now: Instant, random: f64) {
        let unit = self.take(id);
        let (refusals, mut delivered, mut changes) = (unit.refusals + 1, Vec::new(), Vec::new());
        let mut before = unit.before.into_iter();
        for (place, change) in unit.changes.into_iter().enumerate() {
            let before = before.next();
            if refused.binary_search(&place).is_err() {
                delivered.push(change);
                continue;
            }
            if let Some(before) = before {
                // It was answered: what was held before is held.
                self.hold(change.membership, before);
            }
            changes.push(change);
        }
        if !delivered.is_empty() {
            self.take_over(delivered);
        }
        let mut rejecting = false;
        for change in &changes {
            rejecting = self.breaker.refused(xxh3_64(change.key.as_bytes()), now, random);
        }
        self.refuse(Unit { changes, failures: 0, refusals, before: Vec::new() }, rejecting, now, random);
    }

    /// Settles changes as delivered.
    fn take_over(&mut self, changes: Vec<Arc<Change>>) {
        self.breaker.delivered(changes.iter().map(|change| xxh3_64(change.key.as_bytes())));
        for change in changes {
            if self.state.is_some() {
                let held = (change.kind != ChangeKind::Exit).then(|| (Arc::clone(&change.row), true));
                self.hold(change.membership, held);
            }
            self.supersede_dead_letters(&change);
            self.finish(change, End::Delivered);
        }
    }

    /// Takes the end of a request that failed: all of it is tried again, after the wait that was asked for, if any.
    pub fn failed(&mut self, id: u64, asked: Option<Duration>, throttled: bool, now: Instant, random: f64) {
        let mut unit = self.take(id);
        unit.failures += 1;
        match throttled {
            true => self.breaker.throttled(asked, now, random),
            false => self.breaker.failed(asked, now, random),
        }
        let due = now + self.schedule.delay(unit.failures, random);
        self.wait(unit, due);
    }

    /// Takes the end of a request that was refused.
    pub fn refused(&mut self, id: u64, now: Instant, random: f64) {
        let mut unit = self.take(id);
        for (change, before) in unit.changes.iter().zip(std::mem::take(&mut unit.before)) {
            // It was answered: what was held before is held.
            self.hold(change.membership, before);
        }
        if unit.changes.len() > 1 {
            let changes = unit.changes.split_off(unit.changes.len() / 2);
            self.wait(Unit { changes, failures: 0, refusals: 0, before: Vec::new() }, now);
            self.wait(Unit { failures: 0, ..unit }, now);
            return;
        }
        unit.refusals += 1;
        let key = xxh3_64(unit.changes[0].key.as_bytes());
        let rejecting = self.breaker.refused(key, now, random);
        self.refuse(unit, rejecting, now, random);
    }

    /// Tries changes again that were refused, or gives them up.
    fn refuse(&mut self, unit: Unit, rejecting: bool, now: Instant, random: f64) {
        if unit.refusals >= TRIES && !rejecting {
            for change in unit.changes {
                self.finish(change, End::Dead(Death::Refused));
            }
            return;
        }
        let due = now + self.schedule.delay(unit.refusals, random);
        self.wait(unit, due);
    }

    /// Takes it that the request of an attempt can't be written because of one of its changes, by its place: that is a dead letter,
    /// and the others go without it.
    pub fn unwritable(&mut self, id: u64, place: usize, now: Instant) {
        let mut unit = self.take(id);
        for (change, before) in unit.changes.iter().zip(std::mem::take(&mut unit.before)) {
            self.hold(change.membership, before);
        }
        let change = unit.changes.remove(place);
        self.finish(change, End::Dead(Death::Unwritable));
        if !unit.changes.is_empty() {
            self.wait(unit, now);
        }
    }

    /// Makes dead letters of the changes of the log before a number that are not on their way.
    pub fn expire(&mut self, before: u64) {
        let is_old = |change: &Change| change.number < before && change.dead_letter.is_none() && change.sent;
        let keys: Vec<Arc<str>> = self.lanes.keys().cloned().collect();
        for key in keys {
            let lane = self.lanes.get_mut(&key).expect("nothing is removed but by its own key");
            let (old, waiting) = lane.waiting.drain(..).partition(|change| is_old(change));
            lane.waiting = waiting;
            for change in Vec::from(old) {
                self.settle(change, End::Dead(Death::Expired));
            }
            self.offer(&key);
        }
        for (due, mut unit) in std::mem::take(&mut self.retries) {
            let (old, changes): (Vec<_>, Vec<_>) = unit.changes.drain(..).partition(|change| is_old(change));
            unit.changes = changes;
            if !unit.changes.is_empty() {
                self.retries.insert(due, unit);
            }
            for change in old {
                self.finish(change, End::Dead(Death::Expired));
            }
        }
    }

    /// Puts a lane's first change among those that may go, if it may.
    fn offer(&mut self, key: &Arc<str>) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let first = if lane.busy { None } else { lane.waiting.front() };
        let place = first.map(|change| (change.group, change.number));
        let before = std::mem::replace(&mut lane.ready, place);
        if !lane.busy && lane.waiting.is_empty() {
            self.lanes.remove(key);
        }
        if before != place {
            if let Some((group, number)) = before {
                self.remove_ready(group, number);
            }
            if let Some((group, number)) = place {
                self.ready.entry(group).or_default().insert(number, Arc::clone(key));
            }
        }
    }

    /// Removes a key from those that may go. Returns it.
    fn remove_ready(&mut self, group: u32, number: u64) -> Option<Arc<str>> {
        let keys = self.ready.get_mut(&group)?;
        let key = keys.remove(&number);
        if keys.is_empty() {
            self.ready.remove(&group);
        }
        key
    }

    /// Returns whether the keys of a group fill a batch.
    fn is_full(&self, keys: &BTreeMap<u64, Arc<str>>, batch: &BatchBounds) -> bool {
        let first = keys.values().take(batch.changes);
        keys.len() >= batch.changes || first.map(|key| self.lanes[key].waiting[0].bytes).sum::<usize>() >= batch.bytes
    }

    /// Returns the first change of the keys of a group.
    fn first_of(&self, keys: &BTreeMap<u64, Arc<str>>) -> &Arc<Change> {
        let key = keys.values().next().expect("no group is empty");
        &self.lanes[key].waiting[0]
    }

    /// Returns the group whose first change is the oldest of those whose batch may go.
    fn first_group(&self, now: Instant, batch: Option<&BatchBounds>) -> Option<u32> {
        let may_go = |keys: &BTreeMap<u64, Arc<str>>| {
            batch.is_none_or(|batch| self.first_of(keys).since + batch.wait <= now || self.is_full(keys, batch))
        };
        let groups = self.ready.iter().filter(|(_, keys)| may_go(keys));
        groups.min_by_key(|(_, keys)| keys.keys().next().copied()).map(|(group, _)| *group)
    }

    fn first_retry(&mut self) -> Option<Unit> {
        self.retries.pop_first().map(|(_, unit)| unit)
    }

    /// Takes the changes of a new request.
    fn first_ready(&mut self, now: Instant, probe: bool) -> Option<Unit> {
        let batch = self.batch.filter(|_| !probe);
        // All changes of a group may turn out not to be sent.
        while let Some(group) = self.first_group(now, batch.as_ref()) {
            let changes = self.first_changes(group, batch.as_ref());
            if !changes.is_empty() {
                return Some(Unit { changes, failures: 0, refusals: 0, before: Vec::new() });
            }
        }
        None
    }

    /// Takes the first changes of a group that are to be sent, as many as go in one request.
    fn first_changes(&mut self, group: u32, batch: Option<&BatchBounds>) -> Vec<Arc<Change>> {
        let (most, most_bytes) = batch.map_or((1, 0), |batch| (batch.changes, batch.bytes));
        let (mut changes, mut bytes) = (Vec::new(), 0);
        while changes.len() < most {
            let next = self.ready.get(&group).map_or(0, |keys| self.first_of(keys).bytes);
            if !changes.is_empty() && bytes + next > most_bytes {
                break;
            }
            let Some(change) = self.first_change(group) else { break };
            bytes += change.bytes;
            changes.push(change);
        }
        changes
    }

    /// Takes the first change of a group that is to be sent, and settles those before it that are not.
    fn first_change(&mut self, group: u32) -> Option<Arc<Change>> {
        loop {
            let number = *self.ready.get(&group)?.keys().next().expect("no group is empty");
            let key = self.remove_ready(group, number).expect("it was just found");
            let lane = self.lanes.get_mut(&key).expect("a lane that is ready is there");
            lane.ready = None;
            lane.busy = true;
            let change = lane.waiting.pop_front().expect("a lane that is ready has a change");
            if !change.sent {
                let held = (change.kind != ChangeKind::Exit).then(|| (Arc::clone(&change.row), true));
                self.hold(change.membership, held);
                self.finish(change, End::Unsent);
            } else if self.is_superseded(&change) {
                self.finish(change, End::Superseded);
            } else {
                return Some(match &self.state {
                    Some(state) => state.held.sent(&change),
                    None => change,
                });
            }
        }
    }

    fn is_superseded(&self, change: &Change) -> bool {
        self.state.as_ref().is_some_and(|state| {
            let later = state.last.get(&change.membership).is_some_and(|last| *last > change.number);
            !change.forced && (later || state.held.has(change))
        })
    }

    /// Settles those changes of a request that is to be tried again that need not be.
    fn remove_superseded(&mut self, unit: &mut Unit) {
        let changes = std::mem::take(&mut unit.changes);
        for change in changes {
            match self.is_superseded(&change) {
                true => self.finish(change, End::Superseded),
                false => unit.changes.push(change),
            }
        }
    }

    fn start(&mut self, mut unit: Unit) -> Attempt {
        let id = self.next_id;
        self.next_id += 1;
        self.retried += u64::from(unit.failures + unit.refusals > 0);
        unit.before.clear();
        for change in &unit.changes {
            let Some(state) = &self.state else { break };
            let before = state.held.get(change.membership).map(|held| (Arc::clone(&held.row), held.known));
            // An exit is not known to have left: its row is still the one that is held.
            let row = match (&before, change.kind) {
                (Some((row, _)), ChangeKind::Exit) => Arc::clone(row),
                _ => Arc::clone(&change.row),
            };
            unit.before.push(before);
            self.hold(change.membership, Some((row, false)));
        }
        let changes = unit.changes.clone();
        self.on_their_way.insert(id, unit);
        Attempt { id, changes }
    }

    fn take(&mut self, id: u64) -> Unit {
        self.on_their_way.remove(&id).expect("a request ends once")
    }

    /// Puts a request among those that are tried again.
    fn wait(&mut self, unit: Unit, due: Instant) {
        let number = self.next_id;
        self.next_id += 1;
        self.retries.insert((due, number), unit);
    }

    /// Settles a change that its lane is busy with.
    fn finish(&mut self, change: Arc<Change>, end: End) {
        let key = Arc::clone(&change.key);
        self.settle(change, end);
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.busy = false;
        }
        self.offer(&key);
    }

    /// Settles the dead letters that wait behind a later change of their membership that was delivered.
    fn supersede_dead_letters(&mut self, delivered: &Change) {
        let Some(lane) = self.lanes.get_mut(&delivered.key) else { return };
        let is_over = |change: &Arc<Change>| {
            let earlier = change.number < delivered.number && change.membership == delivered.membership;
            earlier && change.dead_letter.is_some() && !change.forced
        };
        let (over, waiting) = lane.waiting.drain(..).partition(is_over);
        lane.waiting = waiting;
        for change in Vec::from(over) {
            self.settle(change, End::Superseded);
        }
    }

    fn settle(&mut self, change: Arc<Change>, end: End) {
        self.count -= 1;
        if let Some(state) = &mut self.state
            && state.last.get(&change.membership) == Some(&change.number)
        {
            state.last.remove(&change.membership);
        }
        self.events.push(Event::Settled(change, end));
    }

    fn hold(&mut self, membership: u128, held: Option<(Arc<str>, bool)>) {
        if let Some(state) = &mut self.state {
            state.held.set(membership, held.as_ref().map(|(row, known)| (&row[..], *known)));
            self.events.push(Event::Held(membership, held));
        }
    }
}

#[cfg(test)]
mod tests;
