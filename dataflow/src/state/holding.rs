//! Holding: keys that do not enter while windows are incomplete (SPEC §6).
//!
//! Computes whether a membership could come from missing events. Of each condition whose window is incomplete, a truth that
//! could come from missing events speaks against the membership, and so does a falsity that could, below a `not`. An audience that
//! a condition mentions below a `not` is taken with the conditions that it has. What then does not hold is held: the key is no
//! member. A key that is a member stays one as long as its conditions hold. Once a window is complete, whoever was held for it
//! alone enters.
//!
//! Holds, until the last window is complete: a bit per (key, audience). Refuses nothing: an audience with `incomplete: send` never
//! waits.

use super::facts::{BitRows, Words, get, ones, set, words_for};
use crate::time::{Slot, Time};
use usher_queries::missing::MissingEvents;
use usher_queries::plan::Expr;

/// A condition whose window lacks events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IncompleteWindow {
    pub(crate) fact: u32,
    /// When the window has all events.
    pub(crate) complete_at: Time,
    pub(crate) missing: MissingEvents,
}

/// What is held of the keys of one model.
pub(crate) struct Holding {
    /// By audience.
    exprs: Vec<Expr>,
    /// By audience, whether it does not wait.
    sends: Vec<bool>,
    /// By audience, its facts and those of the audiences that it mentions.
    facts: Vec<Words>,
    /// By fact, the ranks of the audiences that it can hold or admit.
    ranks_by_fact: Vec<Words>,
    /// By audience.
    ranks: Vec<u32>,
    windows: Vec<IncompleteWindow>,
    /// Facts whose truth, and facts whose falsity, could come from missing events.
    doubtful_if_true: Words,
    doubtful_if_false: Words,
    held: BitRows,
    /// By audience, the keys that are held.
    counts: Vec<u64>,
}

impl Holding {
    /// Returns the holding of a model with incomplete windows; `None` if none of them matters.
    ///
    /// `exprs` and `sends` are by audience, `order` is that in which they are decided.
    pub(crate) fn new(
        exprs: &[Expr],
        order: &[u32],
        fact_words: usize,
        sends: &[bool],
        windows: Vec<IncompleteWindow>,
    ) -> Option<Holding> {
        let windows: Vec<IncompleteWindow> =
            windows.into_iter().filter(|window| window.missing != MissingEvents::default()).collect();
        if windows.is_empty() {
            return None;
        }
        let rank_words = words_for(exprs.len());
        let (mut facts, mut ranks) = (vec![vec![0; fact_words]; exprs.len()], vec![0; exprs.len()]);
        let mut ranks_by_fact = vec![vec![0; rank_words]; fact_words * 64];
        for (rank, audience) in order.iter().enumerate() {
            let (mut own, mut mentioned) = (vec![0; fact_words], Vec::new());
            exprs[*audience as usize]
                .leaves(&mut |fact| set(&mut own, fact, true), &mut |audience| mentioned.push(audience));
            for earlier in mentioned {
                own.iter_mut().zip(&facts[earlier as usize]).for_each(|(own, earlier)| *own |= earlier);
            }
            ones(&own).for_each(|fact| set(&mut ranks_by_fact[fact as usize], rank as u32, true));
            ranks[*audience as usize] = rank as u32;
            facts[*audience as usize] = own;
        }
        let mut holding = Holding {
            exprs: exprs.to_vec(),
            sends: sends.to_vec(),
            facts,
            ranks_by_fact,
            ranks,
            windows,
            doubtful_if_true: vec![0; fact_words],
            doubtful_if_false: vec![0; fact_words],
            held: BitRows::new(vec![0; rank_words]),
            counts: vec![0; exprs.len()],
        };
        holding.doubt();
        Some(holding)
    }

    fn doubt(&mut self) {
        self.doubtful_if_true.fill(0);
        self.doubtful_if_false.fill(0);
        for IncompleteWindow { fact, missing, .. } in &self.windows {
            set(&mut self.doubtful_if_true, *fact, missing.makes_true);
            set(&mut self.doubtful_if_false, *fact, missing.makes_false);
        }
    }

    /// Makes room for so many slots.
    pub(crate) fn fit(&mut self, slots: usize) {
        self.held.fit(slots);
    }

    /// Returns when the next window is complete; `None` if all are.
    pub(crate) fn next_complete(&self) -> Option<Time> {
        self.windows.iter().map(|window| window.complete_at).min()
    }

    /// Takes note that the windows up to `time` are complete.
    pub(crate) fn complete(&mut self, time: Time) {
        self.windows.retain(|window| window.complete_at > time);
        self.doubt();
    }

    /// Returns until when an audience may hold keys, and the conditions that it waits for; `None` if it does not.
    pub(crate) fn held_until(&self, audience: u32) -> Option<(Time, Vec<u32>)> {
        let facts = &self.facts[audience as usize];
        let waits_for: Vec<&IncompleteWindow> =
            self.windows.iter().filter(|window| get(facts, window.fact) && !self.sends[audience as usize]).collect();
        let until = waits_for.iter().map(|window| window.complete_at).max()?;
        Some((until, waits_for.iter().map(|window| window.fact).collect()))
    }

    /// Returns whether a key is held for an audience.
    pub(crate) fn holds(&self, slot: Slot, audience: u32) -> bool {
        get(self.held.row(slot), self.ranks[audience as usize])
    }

    /// Returns the number of keys held, by audience.
    pub(crate) fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Returns the ranks of the audiences that a key is held for; all bits are 0 if there are none.
    pub(crate) fn held(&self, slot: Slot) -> &[u64] {
        self.held.row(slot)
    }

    /// Returns the ranks of the audiences whose keys a flip of a fact may hold or admit.
    pub(crate) fn touched(&self, fact: u32) -> &[u64] {
        &self.ranks_by_fact[fact as usize]
    }

    /// Returns whether a key is a member of an audience whose conditions hold or not (`holds`), given whether it was; takes note of what
    /// is held. `members` has the memberships of the audiences before it in the order.
    pub(crate) fn admits(
        &mut self,
        (slot, audience): (Slot, u32),
        (holds, is_member): (bool, bool),
        facts: &[u64],
        members: &[u64],
    ) -> bool {
        let admitted = holds && (is_member || self.is_certain(audience, facts, members));
        let (held, rank) = (holds && !admitted, self.ranks[audience as usize]);
        let row = self.held.row_mut(slot);
        if get(row, rank) != held {
            set(row, rank, held);
            let count = &mut self.counts[audience as usize];
            *count = if held { *count + 1 } else { *count - 1 };
        }
        admitted
    }

    /// Returns whether a key that meets the conditions of an audience is a member of it, whatever events are missing. `members` has the
    /// memberships of the audiences before it in the order.
    pub(crate) fn is_certain(&self, audience: u32, facts: &[u64], members: &[u64]) -> bool {
        self.sends[audience as usize] || self.for_sure(&self.exprs[audience as usize], true, facts, members)
    }

    /// Returns the least that an expression can be with the missing events; the most if `least` is false.
    fn for_sure(&self, expr: &Expr, least: bool, facts: &[u64], members: &[u64]) -> bool {
        let of = |expr: &Expr| self.for_sure(expr, least, facts, members);
        match expr {
            Expr::All(parts) => parts.iter().all(of),
            Expr::Any(parts) => parts.iter().any(of),
            Expr::Not(part) => !self.for_sure(part, !least, facts, members),
            Expr::Fact(fact) if least => get(facts, *fact) && !get(&self.doubtful_if_true, *fact),
            Expr::Fact(fact) => get(facts, *fact) || get(&self.doubtful_if_false, *fact),
            // Who is a member of an audience that waits is one.
            Expr::Audience(audience) if least && !self.sends[*audience as usize] => get(members, *audience),
            Expr::Audience(audience) => of(&self.exprs[*audience as usize]),
        }
    }
}
