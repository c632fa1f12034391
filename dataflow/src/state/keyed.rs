//! All that a worker holds of one model's keys: windows, properties and evaluation, over one dictionary.
//!
//! Every change of a fact is a [`Flip`] with its own time. Flips are collected until an epoch is complete; then they are put in
//! order and settled key by key, ms by ms: only what differs between two times is a transition. A key of which nothing is known
//! any more is forgotten. Refuses: to decide when time passes; [`super::epoch`] does.

use super::changed::ChangedKeys;
use super::committed::Baseline;
use super::contributions::Contributions;
use super::deciding::{Deciding, deciding};
use super::dictionary::{AHEAD, SharedDictionary};
use super::evaluate::EvaluateState;
use super::facts::{Words, get};
use super::holding::{Holding, IncompleteWindow};
use super::properties::PropertyState;
use super::rows::RowState;
use super::staged::Staged;
use super::tallies::{TallyState, Update};
use super::transition::{Cause, EpochOutput, Flip, KeyText, ROW, Transition};
use super::windows::{Applied, Arrival, Held, WindowState};
use crate::control::message::LedgerMembers;
use crate::ingest::event_batch::MatchedEvent;
use crate::ingest::row_batch::Role;
use crate::time::{Slot, Time};
use std::hint::black_box;
use std::rc::Rc;
use usher_core::api::{ExplainedLive, ExplainedParent};
use usher_core::change::{ChangeKind, Reason, Recipients};
use usher_queries::StoredValue;
use usher_queries::plan::{EventPlan, Expr, ModelPlan, Role as EventRole};

/// The keys of one model that this worker owns.
pub(crate) struct KeyedState {
    /// The model's index in the plan.
    model: usize,
    /// The number of facts.
    pub(super) facts: usize,
    keys: SharedDictionary,
    pub(super) windows: WindowState,
    pub(super) properties: PropertyState,
    /// The rows, if events change them too.
    pub(super) rows: Option<RowState>,
    /// What rows contribute to the facts of their parents, if anything.
    contributions: Option<Contributions>,
    /// What rows of other models contribute to facts here.
    pub(super) tallies: TallyState,
    pub(super) evaluate: EvaluateState,
    pub(super) flips: Vec<Flip>,
    /// How many of the flips, in order, have been settled.
    settled: usize,
    /// The audiences that a key enters at the ms at hand.
    entered: Vec<u32>,
    /// The audiences that some sync sends updates of.
    with_updates: Words,
    /// The facts of a key that traits decide, at the start.
    by_traits: Words,
    /// Slots of which perhaps nothing is known any more.
    pub(super) idle: Vec<Slot>,
    /// Which keys have changed; `None` before the first checkpoint lists all.
    changed: Option<ChangedKeys>,
}

impl KeyedState {
    pub(crate) fn new(
        index: usize,
        model: &ModelPlan,
        events: &[EventPlan],
        with_updates: Words,
        keys: SharedDictionary,
    ) -> KeyedState {
        KeyedState {
            model: index,
            facts: model.facts.len(),
            keys,
            windows: WindowState::new(model, events),
            properties: PropertyState::new(model),
            rows: RowState::new(index, model),
            contributions: Contributions::new(model),
            tallies: TallyState::new(model),
            evaluate: EvaluateState::new(model),
            flips: Vec::new(),
            settled: 0,
            entered: Vec::new(),
            with_updates,
            by_traits: Words::new(),
            idle: Vec::new(),
            changed: None,
        }
    }

    /// Returns the included columns of a key's row; empty if there are none.
    pub(crate) fn row(&self, slot: Slot) -> &str {
        self.properties.row(slot)
    }

    /// Returns the condition that decides whether a key meets an expression; `None` if it has no conditions.
    pub(crate) fn decided_by(&self, slot: Slot, expr: &Expr) -> Option<Deciding> {
        deciding(expr, self.evaluate.facts().row(slot), self.evaluate.members(slot))
    }

    /// Returns whether a key has a row in the snapshot in force.
    pub(crate) fn in_snapshot(&self, slot: Option<Slot>) -> bool {
        let Some(slot) = slot else { return false };
        match &self.rows {
            Some(rows) => rows.kept(slot).is_some_and(|row| row.snapshot.is_some()),
            None => get(self.evaluate.facts().row(slot), 0),
        }
    }

    /// Returns the live columns of a key's row; none if it has no row.
    pub(crate) fn live_values(&self, slot: Slot) -> Vec<ExplainedLive> {
        self.rows.as_ref().map_or_else(Vec::new, |rows| rows.live_values(slot))
    }

    /// Returns what a key's row reads of those that it belongs to; nothing if it has no row.
    pub(crate) fn parent_values(&self, slot: Slot) -> Vec<ExplainedParent> {
        self.rows.as_ref().map_or_else(Vec::new, |rows| rows.parent_values(slot))
    }

    /// Begins to note which keys change: all are to be written.
    pub(super) fn note_changes(&mut self) {
        self.changed = Some(ChangedKeys::default());
    }

    /// Returns [`ChangedKeys::since`].
    ///
    /// # Panics
    /// Panics if all keys were never listed.
    pub(super) fn changed_since(&mut self, since: u64, checkpoint: u64) -> (Vec<Slot>, Vec<(u64, Box<str>)>) {
        self.changed.as_mut().expect("a checkpoint has listed all keys").since(since, checkpoint)
    }

    /// Takes note that what a checkpoint has of a key changes.
    fn mark(&mut self, slot: Slot) {
        if let Some(changed) = &mut self.changed {
            changed.mark(slot);
        }
    }

    /// Returns the dictionary of the keys.
    pub(crate) fn keys(&self) -> &SharedDictionary {
        &self.keys
    }

    /// Returns the slot of a key of which something is known here.
    pub(crate) fn find(&self, hash: u64, key: &str) -> Option<Slot> {
        self.keys.borrow().find(hash, key).filter(|slot| self.has(*slot))
    }

    /// Returns whether there is room for a slot.
    pub(crate) fn has(&self, slot: Slot) -> bool {
        self.windows.has(slot)
    }

    /// Makes room for all slots of the dictionary.
    pub(crate) fn fit(&mut self) {
        let slots = self.keys.borrow().len();
        self.windows.fit(slots);
        self.evaluate.fit(slots);
    }

    /// Reserves memory for so many more keys.
    pub(crate) fn reserve(&mut self, keys: usize) {
        self.keys.borrow_mut().reserve(keys);
        self.windows.reserve(keys);
        self.evaluate.reserve(keys);
    }

    /// Returns the slot of a key, with room for all that is kept of it.
    pub(crate) fn intern(&mut self, hash: u64, key: &str) -> Slot {
        let slot = self.keys.borrow_mut().intern(hash, key);
        // New here, though Stage may have named it before.
        if !self.has(slot) {
            self.fit();
        }
        slot
    }

    /// Reads what events of keys with these hashes will read, at most [`AHEAD`]. All but the first reads of a key depend on the one before, and
    /// most miss the caches: of several keys at once they overlap.
    pub(crate) fn read_ahead(&self, hashes: &[u64]) {
        debug_assert!(hashes.len() <= AHEAD, "{} keys are read ahead at once", hashes.len());
        let keys = self.keys.borrow();
        // The compiler must not find that nothing uses what is read.
        black_box(hashes.iter().fold(0, |all, hash| all ^ keys.touch(*hash)));
        let mut slots = [0; AHEAD];
        let mut count = 0;
        for slot in hashes.iter().filter_map(|hash| keys.candidate(*hash)).filter(|slot| self.has(*slot)) {
            slots[count] = slot;
            count += 1;
        }
        let slots = &slots[..count];
        let own = |slot: &Slot| keys.hash(*slot) ^ self.windows.touch(*slot);
        let text = |slot: &Slot| keys.key(*slot).as_bytes().first().copied().unwrap_or(0);
        let within = |slot: &Slot| u64::from(text(slot)) ^ self.windows.touch_within(*slot);
        black_box(slots.iter().map(own).fold(0, |all, one| all ^ one));
        black_box(slots.iter().map(within).fold(0, |all, one| all ^ one));
        black_box(slots.iter().fold(0, |all, slot| all ^ self.windows.touch_events(*slot)));
    }

    /// Applies a matched event; `facts` and `roles` are those of its event in the plan. Returns the key's slot, and whether it repeats
    /// an event that is held. `values` are those that it carries.
    pub(crate) fn apply(
        &mut self,
        event: &MatchedEvent,
        key: &str,
        arrival: Arrival,
        (facts, roles): (&[u32], &[EventRole]),
        values: &[i128],
    ) -> (Slot, bool) {
        let slot = self.intern(event.key_hash, key);
        let applied = Applied {
            at: event.at,
            event: Held { timestamp: event.timestamp, arrival, id: event.id },
            bits: event.facts,
            facts: &facts[usize::from(event.block) * 64..],
            roles: &roles[usize::from(event.block) * 64..],
            values,
        };
        let repeat = self.windows.apply(slot, &applied, &mut self.flips);
        self.mark(slot);
        if self.windows.key(slot).is_empty() {
            self.idle.push(slot);
        }
        (slot, repeat)
    }

    /// Applies an event that sets live columns, by index, to values. Returns the key's slot, and whether it repeats an event that is
    /// held.
    pub(crate) fn apply_traits<'v>(
        &mut self,
        event: &MatchedEvent,
        key: &str,
        arrival: Arrival,
        values: impl Iterator<Item = (u32, &'v StoredValue)>,
    ) -> (Slot, bool) {
        let slot = self.intern(event.key_hash, key);
        let rows = self.rows.as_mut().expect("a model with live columns keeps rows");
        let (times, origin) = ((event.at, event.timestamp), (arrival, event.id));
        let repeat = rows.apply(slot, times, origin, values, (&mut self.properties, &mut self.flips));
        if rows.is_empty(slot) {
            self.idle.push(slot);
        }
        self.mark(slot);
        (slot, repeat)
    }

    /// Returns a time before which nothing changes by itself. None if nothing ever does.
    pub(crate) fn next_timer(&self) -> Option<Time> {
        self.windows.next_timer().into_iter().chain(self.properties.next_timer()).min()
    }

    /// Returns a time, at most `end`, before which so many timers of each kind are due: see [`super::timers::Timers::limit`].
    pub(crate) fn timer_limit(&self, many: usize, end: Time) -> Time {
        self.properties.timer_limit(many, self.windows.timer_limit(many, end))
    }

    /// Returns which of the values that an event carries a fact takes; 0 if it takes none.
    pub(crate) fn value_of(&self, fact: u32, values: &[i128]) -> i128 {
        self.windows.rule(fact).and_then(|rule| rule.value()).map_or(0, |value| values[value])
    }

    /// Fires the next timer due by `through`; returns whether one was due.
    pub(crate) fn fire(&mut self, through: Time) -> bool {
        if let Some(slot) = self.windows.fire(through, &mut self.flips) {
            self.mark(slot);
            if self.windows.key(slot).is_empty() {
                self.idle.push(slot);
            }
            return true;
        }
        self.properties.fire(through, false, &mut self.flips)
    }

    /// Switches a key to what a pull that began then has of it, at `time`, or at `last` if its row is held; returns whether anything
    /// is new.
    pub(crate) fn switch(&mut self, staged: &mut Staged, slot: Slot, began: Time, (time, last): (Time, Time)) -> bool {
        if self.leaves(staged, slot) {
            return false;
        }
        let (new, changes) = match &mut self.rows {
            Some(rows) if staged.role == Role::Own => {
                let to = (&mut self.properties, &mut self.flips);
                rows.switch(slot, staged.values(slot), began, (time, last), to)
            }
            _ => {
                let new = self.properties.switch(staged, slot, time, self.evaluate.facts(), &mut self.flips);
                (new, new)
            }
        };
        if changes {
            self.mark(slot);
        }
        if !staged.has(slot) {
            self.idle.push(slot);
        }
        new
    }

    /// Returns the key that is the `at`-th to be switched to a part of a pull; `None` if that is behind the last.
    pub(crate) fn switched(&self, staged: &Staged, at: u32) -> Option<Slot> {
        match staged.named() {
            // What is kept of keys without a row changes too.
            Some(named) if self.rows.is_none() => named.get(at as usize).copied(),
            _ => Some(at).filter(|slot| self.has(*slot)),
        }
    }

    /// Returns whether a part of a pull leaves what is known of a key as it is: it is a difference, and does not name the key.
    pub(crate) fn leaves(&self, staged: &Staged, slot: Slot) -> bool {
        let without_row =
            || self.rows.as_ref().is_some_and(|rows| rows.kept(slot).is_some_and(|row| row.snapshot.is_none()));
        staged.named().is_some() && !staged.names(slot) && !without_row()
    }

    /// Returns whether what a difference says of a key that it names fits the snapshot in force: a row that is removed is there, and one that is
    /// added is not, unless it is also removed.
    pub(crate) fn fits(&self, staged: &Staged, slot: Slot) -> bool {
        let known = self.has(slot) && self.in_snapshot(Some(slot));
        if staged.removes(slot) { known } else { !known }
    }

    /// Takes note that all keys have been switched to a part of a pull that began then.
    pub(crate) fn end_switch(&mut self, staged: &Staged, began: Time) {
        if let Some(rows) = self.rows.as_mut().filter(|_| staged.role == Role::Own) {
            rows.set_pulled(began);
        }
    }

    /// Takes note that the rows of a pull that began then are in force.
    pub(crate) fn restore_pull(&mut self, began: Time) {
        if let Some(rows) = &mut self.rows {
            rows.set_pulled(began);
        }
    }

    /// Writes into `facts` what they would be at `time` if the key were switched to a pull that began then.
    pub(crate) fn preview(&self, staged: &Staged, slot: Slot, (began, time): (Time, Time), facts: &mut [u64]) {
        match &self.rows {
            Some(rows) if staged.role == Role::Own => rows.preview(slot, staged.values(slot), (began, time), facts),
            _ => self.properties.preview(staged, slot, time, self.evaluate.facts().default(), facts),
        }
    }

    /// Takes note that a staged pull is given up: keys that only it named are forgotten.
    pub(crate) fn give_up(&mut self, staged: &Staged) {
        self.fit();
        self.idle.extend(staged.slots());
    }

    /// Takes up memberships that the ledger of a sync has.
    pub(crate) fn restore_ledger(&mut self, syncs: usize, sync: usize, members: &LedgerMembers) {
        let slots = self.keys.borrow_mut().intern_all(members.len(), |at| members.key(at));
        self.fit();
        for (slot, audience) in slots.into_iter().zip(members.audiences()) {
            self.evaluate.restore_ledger(syncs, slot, sync, audience);
        }
    }

    /// Ends restoring: settles what restored keys flipped, and decides the memberships of the keys in ledgers.
    pub(crate) fn end_restore(&mut self) {
        self.order_flips();
        self.settle_silently(usize::MAX, Time::MAX);
        self.evaluate.decide_committed();
    }

    /// Puts the flips so far in order. All flips of the epoch must be there.
    pub(crate) fn order_flips(&mut self) {
        self.flips.drain(..self.settled);
        // Stable: of two flips of a fact in the same ms the later one counts.
        self.flips.sort_by_key(|flip| (flip.time, flip.slot));
        self.settled = 0;
    }

    /// Turns up to about `fuel` ordered flips before `limit` into transitions, and changes of members' rows into updates; returns whether any
    /// such flips are left.
    pub(crate) fn settle(&mut self, fuel: usize, limit: Time, out: &mut impl EpochOutput) -> bool {
        let end = self.flips.partition_point(|flip| flip.time < limit);
        let until = end.min(self.settled + fuel);
        let keys = Rc::clone(&self.keys);
        let keys = keys.borrow();
        let flips = std::mem::take(&mut self.flips);
        let mut ahead = self.settled;
        while self.settled < until {
            if self.settled >= ahead {
                ahead = self.settled + AHEAD;
                let next = &flips[self.settled..ahead.min(flips.len())];
                black_box(next.iter().fold(0, |all, flip| all ^ self.evaluate.touch(flip.slot)));
            }
            let of_key = next_key(&flips, &mut self.settled);
            let Flip { time, slot, .. } = of_key[0];
            let row_changes = of_key.iter().filter(|flip| flip.fact == ROW).map(|flip| flip.cause).min();
            self.evaluate.settle(of_key, true);
            self.contribute(of_key);
            let decisions = self.evaluate.decisions();
            if decisions.is_empty() && row_changes.is_none() {
                continue;
            }
            let text = KeyText { key: keys.key(slot), row: self.properties.row_at(slot, time) };
            self.entered.clear();
            for decision in decisions {
                let (audience, kind, reason) = (decision.audience, decision.kind, decision.cause.reason());
                let transition = Transition { time, model: self.model, slot, audience, kind, reason };
                out.transition(&transition, Some(Recipients::All), text);
                if kind == ChangeKind::Entry {
                    self.entered.push(audience);
                }
            }
            if let Some(cause) = row_changes {
                self.update(slot, time, cause, text, out);
            }
        }
        self.flips = flips;
        self.end_settling(end)
    }

    /// Takes what the flips of a key at one ms, which are settled, make its row contribute to the facts of its parent.
    fn contribute(&mut self, of_key: &[Flip]) {
        if let (Some(contributions), Some(rows)) = (&mut self.contributions, &self.rows) {
            let Flip { time, slot, .. } = of_key[0];
            let facts = self.evaluate.facts().row(slot);
            contributions.settle(of_key, self.evaluate.flipped(), facts, rows.outward_at(slot, time));
        }
    }

    /// Returns whether rows of this model contribute to facts of their parents.
    pub(crate) fn contributes(&self) -> bool {
        self.contributions.is_some()
    }

    /// Takes what rows contribute anew, and no longer, to facts of their parents.
    pub(crate) fn take_updates(&mut self) -> Vec<Update> {
        self.contributions.as_mut().map_or_else(Vec::new, Contributions::take_updates)
    }

    /// Takes in what rows of other models contribute to one fact of a key, in order of time.
    pub(crate) fn tally(&mut self, updates: &[Update]) {
        let slot = self.intern(updates[0].key_hash, &updates[0].key);
        self.tallies.apply(slot, updates, &mut self.flips);
        if self.tallies.is_empty(slot) {
            self.idle.push(slot);
        }
    }

    /// Gives the updates of a member whose row changes at `time`.
    fn update(&self, slot: Slot, time: Time, cause: Cause, text: KeyText<'_>, out: &mut impl EpochOutput) {
        for audience in self.evaluate.memberships(slot) {
            // An entry at this ms has the row already.
            if get(&self.with_updates, audience) && !self.entered.contains(&audience) {
                let (model, kind, reason) = (self.model, ChangeKind::Update, cause.reason());
                let transition = Transition { time, model, slot, audience, kind, reason };
                out.update(&transition, Recipients::All, text);
            }
        }
    }

    /// Takes up to about `fuel` ordered flips before `limit` into the facts; returns whether any such are left. Before the start nothing is decided
    /// but when committed memberships ended.
    pub(crate) fn settle_silently(&mut self, fuel: usize, limit: Time) -> bool {
        let end = self.flips.partition_point(|flip| flip.time < limit);
        let until = end.min(self.settled.saturating_add(fuel));
        let flips = std::mem::take(&mut self.flips);
        while self.settled < until {
            let of_key = next_key(&flips, &mut self.settled);
            self.evaluate.settle(of_key, false);
            self.contribute(of_key);
        }
        self.flips = flips;
        self.end_settling(end)
    }

    /// Ends settling the flips up to the one with this index; returns whether some of these are left.
    fn end_settling(&mut self, end: usize) -> bool {
        if self.settled < self.flips.len() {
            return self.settled < end;
        }
        self.flips.clear();
        self.settled = 0;
        self.properties.end_epoch();
        self.rows.iter_mut().for_each(RowState::end_epoch);
        false
    }

    /// Decides all audiences of one key at the start.
    pub(crate) fn announce(&mut self, slot: Slot, time: Time, baseline: &Baseline, out: &mut impl EpochOutput) {
        let in_ledger = self.evaluate.is_in_ledger(slot);
        let keys = self.keys.borrow();
        let text = KeyText { key: keys.key(slot), row: self.properties.row(slot) };
        if let Some(rows) = &self.rows {
            self.by_traits.resize(self.evaluate.facts().default().len(), 0);
            rows.by_traits(slot, time, &mut self.by_traits);
        }
        self.evaluate.announce((self.model, slot), time, baseline, &self.by_traits, text, out);
        if in_ledger {
            self.idle.push(slot);
        }
    }

    /// Begins to hold keys until windows are complete. `sends`: by audience, whether it does not wait.
    pub(crate) fn hold_for(&mut self, sends: &[bool], incomplete: Vec<IncompleteWindow>) {
        let slots = self.keys.borrow().len();
        self.evaluate.hold_for(sends, incomplete, slots);
    }

    /// Returns what is held; `None` if nothing can be.
    pub(crate) fn holding(&self) -> Option<&Holding> {
        self.evaluate.holding()
    }

    /// Returns, by audience, until when a key is held for it; `None` if it is not. Empty if nothing is held.
    pub(crate) fn held_until(&self, slot: Option<Slot>) -> Vec<Option<Time>> {
        let (Some(holding), Some(slot)) = (self.evaluate.holding(), slot) else { return Vec::new() };
        let until = |audience: u32| holding.holds(slot, audience).then(|| holding.held_until(audience))?;
        (0..holding.counts().len() as u32).map(|audience| Some(until(audience)?.0)).collect()
    }

    /// Takes note that the windows up to `time` are complete.
    pub(crate) fn complete(&mut self, time: Time) {
        self.evaluate.complete(time);
    }

    /// Lets a key enter that was held until a window was complete, at `time`.
    pub(crate) fn release(&mut self, slot: Slot, time: Time, out: &mut impl EpochOutput) {
        let keys = self.keys.borrow();
        for decision in self.evaluate.release(slot) {
            let (model, audience, kind) = (self.model, decision.audience, decision.kind);
            let transition = Transition { time, model, slot, audience, kind, reason: Reason::Definition };
            let text = KeyText { key: keys.key(slot), row: self.properties.row(slot) };
            out.transition(&transition, Some(Recipients::All), text);
        }
    }

    /// Ends holding once all windows are complete and all keys released.
    pub(crate) fn end_release(&mut self) {
        self.evaluate.end_holding();
    }

    /// Takes note that all keys have been announced.
    pub(crate) fn end_announcement(&mut self) {
        self.evaluate.end_announcement();
        self.properties.note_changed_rows();
    }

    /// Forgets the keys of which nothing is known any more, at the end of an epoch whose last ms is `at`. No flips may be
    /// pending.
    pub(crate) fn forget_idle(&mut self, at: Time) {
        if self.idle.is_empty() || self.keys.borrow().is_held() {
            return;
        }
        self.idle.sort_unstable();
        self.idle.dedup();
        let keys = Rc::clone(&self.keys);
        let mut keys = keys.borrow_mut();
        for slot in std::mem::take(&mut self.idle) {
            let nothing_known = keys.is_in_use(slot)
                && self.windows.key(slot).is_empty()
                && self.evaluate.is_default(slot)
                && self.rows.as_ref().is_none_or(|rows| rows.is_empty(slot))
                && self.contributions.as_ref().is_none_or(|of| of.is_empty(slot))
                && self.tallies.is_empty(slot)
                && self.properties.is_timeless(slot);
            if !nothing_known {
                continue;
            }
            if self.evaluate.is_in_ledger(slot) {
                // Before the start it is kept for what the ledgers have of it.
                self.idle.push(slot);
                continue;
            }
            self.evaluate.forget(slot);
            self.properties.forget(slot);
            if let Some(changed) = &mut self.changed {
                changed.forget(keys.hash(slot), keys.key(slot));
            }
            keys.forget(slot, at);
        }
    }
}

/// Returns the next flips of one key at one ms, and moves behind them.
fn next_key<'a>(flips: &'a [Flip], settled: &mut usize) -> &'a [Flip] {
    let rest = &flips[*settled..];
    let Flip { time, slot, .. } = rest[0];
    let len = rest.iter().take_while(|flip| flip.time == time && flip.slot == slot).count();
    *settled += len;
    &rest[..len]
}
