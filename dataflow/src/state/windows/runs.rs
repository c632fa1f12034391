//! What is held of a key's facts that take more than the newest few events: those of [`WindowRule::Kept`](super::WindowRule::Kept).
//!
//! Holds, per (key, fact), a run of 8 bytes, and its events: next to those of the key's other facts, 40 bytes each, while they are few, else
//! in a [`Large`] of its own. What is held, and what it means, is decided in `kept.rs`. The steps for an event are those of `counts.rs`; a fact
//! is looked at again when the oldest event that is held leaves.

use super::counts::Look;
use super::event_list::{EventList, Few, ValuedEvent};
use super::kept::{Kept, KeptRule, Large, Question};
use super::{Held, Out, WindowRule};
use crate::state::transition::{Cause, Flip};
use crate::time::Time;
use thin_vec::ThinVec;

/// What is held of one fact.
#[derive(Clone, Copy, Debug)]
struct Run {
    fact: u32,
    /// How many events it has in [`Runs::few`].
    len: u16,
    is_large: bool,
    truth: bool,
}

/// Where a run is: its index, and where its events are, or would be, in [`Runs::few`].
type At = (usize, usize);

/// All of a key's runs. One of which nothing is held is not there.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// Sorted by fact.
    runs: ThinVec<Run>,
    /// The events of the runs that are not large one after the other, each from oldest to newest.
    few: ThinVec<ValuedEvent>,
    /// The events of those that are, with their facts.
    large: ThinVec<(u32, Large)>,
}

impl Runs {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Applies an event with its value at clock `at`.
    pub(super) fn apply(
        &mut self,
        rule: &KeptRule,
        fact: u32,
        at: Time,
        (event, value): (Held, i128),
        out: &mut Out<'_>,
    ) -> Look {
        debug_assert!(event.timestamp <= at, "an event of the future was applied");
        if rule.is_constant() {
            return Look::default();
        }
        let over = event.timestamp + rule.within <= at;
        let run = self.find(fact);
        if !self.has(run, fact) {
            if over {
                return Look::default();
            }
            self.runs.insert(run.0, Run { fact, len: 0, is_large: false, truth: rule.holds_of_nothing });
        } else {
            self.expire(rule, run, at, out);
        }
        let known = self.kept(run).find(event.id);
        match known {
            Some(held) if event.arrival >= held.arrival => {}
            // The order of events of equal timestamps decides sequences.
            Some(held) => self.kept(run).set_arrival(rule, &held, event.arrival),
            None if over => {}
            None => self.insert(rule, run, event, value),
        }
        self.decide(rule, run, (at, Cause::Event), out);
        Look { repeat: known.is_some(), due: self.due_or_remove(rule, run) }
    }

    /// Removes what has left its window at `through`; returns when to look again, if anything is left.
    pub(super) fn fire(&mut self, rules: &[Option<WindowRule>], through: Time, out: &mut Out<'_>) -> Option<Time> {
        let (mut run, mut next) = ((0, 0), None);
        while let Some(Run { fact, .. }) = self.runs.get(run.0) {
            let Some(WindowRule::Kept(rule)) = &rules[*fact as usize] else {
                panic!("events are kept for fact {fact}, whose newest few decide");
            };
            self.expire(rule, run, through, out);
            if let Some(due) = self.due_or_remove(rule, run) {
                next = Some(next.map_or(due, |next: Time| next.min(due)));
                run = (run.0 + 1, run.1 + usize::from(self.runs[run.0].len));
            }
        }
        next
    }

    /// Removes the events of a fact as if all time passed.
    pub(super) fn expire_all(&mut self, rule: &KeptRule, fact: u32, out: &mut Out<'_>) {
        let run = self.find(fact);
        if self.has(run, fact) {
            self.expire(rule, run, Time::MAX, out);
        }
    }

    /// Takes up what was held of a fact of which nothing is held yet; returns its truth, and when to look at it.
    pub(super) fn restore(&mut self, rule: &KeptRule, fact: u32, held: &[(Held, i128)]) -> (bool, Option<Time>) {
        if held.is_empty() {
            return (rule.holds_of_nothing, None);
        }
        let run = self.find(fact);
        assert!(!self.has(run, fact), "a fact is restored once");
        self.runs.insert(run.0, Run { fact, len: 0, is_large: false, truth: rule.holds_of_nothing });
        if let Question::Sequence(_) = &rule.question
            && held.len() > rule.few()
        {
            let events: Vec<ValuedEvent> = held.iter().map(|(held, bits)| ValuedEvent::new(*held, *bits)).collect();
            self.runs[run.0].is_large = true;
            self.large.push((fact, Large::of(rule, &events)));
        } else {
            held.iter().for_each(|(event, value)| self.insert(rule, run, *event, *value));
        }
        let truth = self.kept(run).holds(rule);
        self.runs[run.0].truth = truth;
        (truth, self.due_or_remove(rule, run))
    }

    /// Returns the events of all facts with their values, by fact, each from oldest to newest.
    pub(super) fn held(&self) -> impl Iterator<Item = (u32, Vec<(Held, i128)>)> {
        let mut start = 0;
        self.runs.iter().map(move |run| {
            let few = &self.few[start..start + usize::from(run.len)];
            start += few.len();
            let large = run.is_large.then(|| self.large[self.large_of(run.fact)].1.events());
            (run.fact, few.iter().map(ValuedEvent::pair).chain(large.into_iter().flatten()).collect())
        })
    }

    /// Returns a number that depends on what is held of the many, which is behind pointers.
    pub(super) fn touch(&self) -> u64 {
        self.large.iter().fold(self.few.len() as u64, |all, (_, large)| all ^ large.len() as u64)
    }

    /// Returns where the run of a fact is, or would be.
    fn find(&self, fact: u32) -> At {
        let before = self.runs.iter().take_while(|run| run.fact < fact);
        before.fold((0, 0), |(index, start), run| (index + 1, start + usize::from(run.len)))
    }

    fn has(&self, (index, _): At, fact: u32) -> bool {
        self.runs.get(index).is_some_and(|run| run.fact == fact)
    }

    /// Returns where the many events of a fact are.
    fn large_of(&self, fact: u32) -> usize {
        self.large.iter().position(|(of, _)| *of == fact).expect("a large run has many events")
    }

    /// Returns the events of a run.
    fn kept(&mut self, (index, start): At) -> Kept<'_> {
        if self.runs[index].is_large {
            let at = self.large_of(self.runs[index].fact);
            return match &mut self.large[at].1 {
                Large::Many(many) => Kept::List(EventList::Many(many)),
                Large::Chains(chains) => Kept::Chains(chains),
            };
        }
        Kept::List(EventList::Few(Few { all: &mut self.few, start, len: &mut self.runs[index].len }))
    }

    /// Takes an event into a run, which it may make large.
    fn insert(&mut self, rule: &KeptRule, run: At, event: Held, value: i128) {
        let (index, start) = run;
        let Run { fact, len, is_large, .. } = self.runs[index];
        if !is_large && usize::from(len) >= rule.few() {
            let few = start..start + usize::from(len);
            self.large.push((fact, Large::of(rule, &self.few[few.clone()])));
            self.few.drain(few);
            self.runs[index].len = 0;
            self.runs[index].is_large = true;
        }
        self.kept(run).insert(rule, event, value);
    }

    /// Sends a flip if the truth of a run's fact is not what it was.
    fn decide(&mut self, rule: &KeptRule, run: At, (time, cause): (Time, Cause), out: &mut Out<'_>) {
        let truth = self.kept(run).holds(rule);
        let run = &mut self.runs[run.0];
        if run.truth != truth {
            run.truth = truth;
            out.flips.push(Flip { time, slot: out.slot, fact: run.fact, truth, cause });
        }
    }

    /// Removes a run's events that have left the window at `through`.
    fn expire(&mut self, rule: &KeptRule, run: At, through: Time, out: &mut Out<'_>) {
        loop {
            let mut kept = self.kept(run);
            let Some(oldest) = kept.oldest() else { break };
            let time = oldest.timestamp + rule.within;
            if time > through {
                break;
            }
            kept.remove_oldest();
            self.decide(rule, run, (time, Cause::Expiry), out);
        }
        let (index, start) = run;
        let Run { fact, is_large, .. } = self.runs[index];
        if is_large && rule.are_few_again(self.kept(run).len()) {
            let (_, large) = self.large.swap_remove(self.large_of(fact));
            let few: Vec<ValuedEvent> = large.events().map(|(held, value)| ValuedEvent::new(held, value)).collect();
            self.runs[index].len = few.len() as u16;
            self.runs[index].is_large = false;
            self.few.splice(start..start, few);
        }
    }

    /// Returns when to look at a run again; removes it if nothing is held of it.
    fn due_or_remove(&mut self, rule: &KeptRule, run: At) -> Option<Time> {
        let oldest = self.kept(run).oldest();
        if oldest.is_none() {
            self.runs.remove(run.0);
        }
        Some(oldest?.timestamp + rule.within)
    }
}
