//! Evaluate: facts become memberships.
//!
//! It is differential's `reduce` from the facts of a key to its audiences, specialised for a total order of time as
//! differential's own `threshold_total` and `count_total` are: facts and memberships of a key are bits, an inverted index leads
//! from a flipped fact to the audiences that mention it, and only these are decided again. A random test holds it to the
//! general `reduce` over the same facts. What `reduce` does not carry is the cause of each difference, which stands beside it
//! here: the causes of all conditions of the audience that changed for the key at that ms.
//!
//! Promises: memberships at a time are those that all flips up to it imply; what enters and leaves at one ms is no change.
//! Holds: a bit per (key, fact) and per (key, audience); until the start also what the ledgers have of each key. Refuses:
//! nothing; any fact may flip at any time.
//!
//! The facts and negated facts of a conjunction, which most audiences are, are compared by masks of 64 facts at a time; the masks of all
//! audiences stand in a row. Where an audience has other conditions too, these are walked if the masks fit. An audience is only tested
//! for a key that has the most selective of the facts that it needs: of 1,000 audiences, most are not.

use super::brake::Exits;
use super::committed::{Baseline, CommittedBits};
use super::fact_counts::FactCounts;
use super::facts::{BitRows, Words, get, ones, set, words_for};
use super::holding::{Holding, IncompleteWindow};
use super::transition::{Cause, Causes, EpochOutput, Flip, KeyText, OUTWARD, Transition};
use crate::time::{Slot, Time};
use usher_core::change::{ChangeKind, Reason, Recipients};
use usher_queries::plan::{Expr, FactKind, ModelPlan};

/// Facts that have to have a value: those under `mask` that in `want`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Term {
    /// Which 64 facts.
    word: u32,
    mask: u64,
    want: u64,
}

/// Facts never have it.
const NEVER: Term = Term { word: 0, mask: 0, want: 1 };

/// How the audiences are decided, by rank.
#[derive(Default)]
struct Tests {
    /// Where the terms of a rank end in `terms`, behind those of the rank before.
    ends: Vec<u32>,
    terms: Vec<Term>,
    /// What has to hold beside the terms.
    others: Vec<Option<Expr>>,
}

impl Tests {
    fn push(&mut self, expr: &Expr) {
        let (terms, other) = split(expr);
        self.terms.extend(terms);
        self.ends.push(self.terms.len() as u32);
        self.others.push(other);
    }

    #[inline]
    fn terms(&self, rank: usize) -> &[Term] {
        let begin = rank.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        &self.terms[begin..self.ends[rank] as usize]
    }

    /// Returns the facts that have to have another truth than `default` has for the audience at a rank to hold.
    fn needs(&self, rank: usize, default: &[u64]) -> impl Iterator<Item = u32> {
        let of = |term: &Term| (term.word * 64, term.mask & (term.want ^ default[term.word as usize]));
        self.terms(rank).iter().map(of).flat_map(|(first, bits)| {
            let facts = (0..64).filter(move |bit| bits >> bit & 1 == 1);
            facts.map(move |bit| first + bit)
        })
    }

    /// Returns whether the audience at a rank holds.
    #[inline]
    fn holds(&self, rank: usize, facts: &[u64], members: &[u64]) -> bool {
        self.terms(rank).iter().all(|term| facts[term.word as usize] & term.mask == term.want)
            && self.others[rank].as_ref().is_none_or(|other| walk(other, facts, members))
    }
}

/// The ranks of the audiences that an audience mentions, and of those that mention it.
#[derive(Default)]
struct Links {
    mentions: Vec<u32>,
    mentioned_by: Vec<u32>,
}

/// All audiences of a model, ready to be decided. Ranks are positions in `ModelPlan::order`.
struct Audiences {
    tests: Tests,
    /// The facts that the conditions of an audience are, by rank.
    own: BitRows,
    links: Vec<Links>,
    /// The ranks that have links.
    linked: Words,
    /// Index of the audience at a rank.
    order: Vec<u32>,
    /// By index.
    exprs: Vec<Expr>,
    /// Per fact, the ranks of the audiences that mention it.
    by_fact: Vec<Words>,
    /// Per fact, the ranks of the audiences that can't hold while the fact is as for a key of which nothing is known. Of several such
    /// facts of an audience only one has its rank: that which fewest audiences mention.
    needing: BitRows,
    /// The ranks of the audiences that have no such fact.
    needing_none: Words,
    /// Truth of each fact for a key of which nothing is known. No audience holds for such a key.
    default_facts: Words,
    performed: Words,
    rank_words: usize,
    // Scratch of `decide`. Causes are kept of linked audiences, those of `caused`.
    dirty: Words,
    candidates: Words,
    causes: Vec<Causes>,
    caused: Vec<u32>,
}

/// A membership of one key that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    /// The audience's index in the model.
    pub(crate) audience: u32,
    pub(crate) kind: ChangeKind,
    pub(crate) cause: Cause,
}

/// The facts and memberships of all keys of a model.
pub(crate) struct EvaluateState {
    audiences: Audiences,
    facts: BitRows,
    members: BitRows,
    /// From the start on: how many keys meet each fact.
    counts: FactCounts,
    /// What the ledgers had at the start, until the difference to them has been given.
    committed: Option<CommittedBits>,
    /// Who does not enter yet, while windows are incomplete.
    holding: Option<Holding>,
    // Scratch, used again from key to key.
    last: Vec<(u32, bool, Cause)>,
    flipped: Vec<(u32, Cause)>,
    decisions: Vec<Decision>,
    recipients: Vec<Recipients>,
}

impl EvaluateState {
    pub(crate) fn new(model: &ModelPlan) -> EvaluateState {
        let audiences = Audiences::new(model);
        EvaluateState {
            facts: BitRows::new(audiences.default_facts.clone()),
            members: BitRows::new(vec![0; audiences.rank_words]),
            counts: FactCounts::new(model),
            audiences,
            committed: None,
            holding: None,
            last: Vec::new(),
            flipped: Vec::new(),
            decisions: Vec::new(),
            recipients: Vec::new(),
        }
    }

    /// Reserves memory for so many more slots.
    pub(crate) fn reserve(&mut self, slots: usize) {
        self.facts.reserve(slots);
        self.members.reserve(slots);
    }

    /// Makes room for so many slots.
    pub(crate) fn fit(&mut self, slots: usize) {
        self.facts.fit(slots);
        self.members.fit(slots);
        if let Some(holding) = &mut self.holding {
            holding.fit(slots);
        }
    }

    /// Begins to hold keys until windows are complete. `sends`: by audience, whether it does not wait.
    pub(crate) fn hold_for(&mut self, sends: &[bool], incomplete: Vec<IncompleteWindow>, slots: usize) {
        let audiences = &self.audiences;
        self.holding =
            Holding::new(&audiences.exprs, &audiences.order, audiences.default_facts.len(), sends, incomplete);
        if let Some(holding) = &mut self.holding {
            holding.fit(slots);
        }
    }

    /// Returns what is held; `None` if nothing can be.
    pub(crate) fn holding(&self) -> Option<&Holding> {
        self.holding.as_ref()
    }

    /// Takes note that the windows up to `time` are complete. Keys are released one by one.
    pub(crate) fn complete(&mut self, time: Time) {
        if let Some(holding) = &mut self.holding {
            holding.complete(time);
        }
    }

    /// Decides again the audiences that a key is held for; returns the memberships that change.
    pub(crate) fn release(&mut self, slot: Slot) -> &[Decision] {
        self.decisions.clear();
        let Some(holding) = &mut self.holding else { return &[] };
        if holding.held(slot).iter().any(|word| *word != 0) {
            let (facts, members) = (self.facts.row(slot), self.members.row_mut(slot));
            self.audiences.decide_held(facts, members, &mut self.decisions, (holding, slot));
        }
        &self.decisions
    }

    /// Ends holding once all windows are complete and all keys released.
    pub(crate) fn end_holding(&mut self) {
        if self.holding.as_ref().is_some_and(|holding| holding.next_complete().is_none()) {
            self.holding = None;
        }
    }

    /// Returns something of a key's facts and memberships, so that they are read before they are needed.
    pub(crate) fn touch(&self, slot: Slot) -> u64 {
        let first = |row: &[u64]| row.first().copied().unwrap_or(0);
        first(self.facts.row(slot)) ^ first(self.members.row(slot))
    }

    /// Returns the truth of all facts.
    pub(crate) fn facts(&self) -> &BitRows {
        &self.facts
    }

    /// Returns how many keys meet each fact.
    pub(crate) fn fact_counts(&self) -> &FactCounts {
        &self.counts
    }

    /// Returns the number of audiences.
    pub(crate) fn audiences(&self) -> usize {
        self.audiences.order.len()
    }

    /// Returns the audiences that a key is in.
    pub(crate) fn members(&self, slot: Slot) -> &[u64] {
        self.members.row(slot)
    }

    /// Finds the audiences that a key is in; before the start, those that it will be in if its facts stay.
    pub(crate) fn current_members(&self, slot: Slot, started: bool, members: &mut Words) {
        if started {
            members.clear();
            members.extend_from_slice(self.members.row(slot));
        } else {
            let is_committed =
                |audience| self.committed.as_ref().is_some_and(|committed| committed.is_in_any(slot, audience));
            self.members_by(self.facts.row(slot), is_committed, members);
        }
    }

    /// Finds the audiences that a key with these facts would be in. `is_member`: whether it is in one now, and so is not held for it.
    pub(crate) fn members_by(&self, facts: &[u64], is_member: impl Fn(u32) -> bool, members: &mut Words) {
        members.clear();
        members.resize(self.audiences.rank_words, 0);
        for (rank, index) in self.audiences.order.iter().enumerate() {
            let waits = |holding: &Holding| !is_member(*index) && !holding.is_certain(*index, facts, members);
            let holds = self.audiences.holds(rank, facts, members) && !self.holding.as_ref().is_some_and(waits);
            set(members, *index, holds);
        }
    }

    /// Takes up the truth of a fact of a key.
    pub(crate) fn restore(&mut self, slot: Slot, fact: u32, truth: bool) {
        set(self.facts.row_mut(slot), fact, truth);
    }

    /// Takes up a membership that the ledger of a sync has. `syncs` is the number of the job's syncs.
    pub(crate) fn restore_ledger(&mut self, syncs: usize, slot: Slot, sync: usize, audience: u32) {
        let words = self.audiences.rank_words;
        self.committed.get_or_insert_with(|| CommittedBits::new(syncs, words)).add(slot, sync, audience);
    }

    /// Decides the memberships of the keys in ledgers, as far as is known when all ledgers have been taken up.
    pub(crate) fn decide_committed(&mut self) {
        let Some(committed) = &self.committed else { return };
        for slot in committed.slots() {
            let members = self.members.row_mut(slot);
            self.audiences.decide_all(self.facts.row(slot), &[], members, &mut self.decisions, None, |_| true);
        }
    }

    /// Returns whether a ledger has something of a key, before the start.
    pub(crate) fn is_in_ledger(&self, slot: Slot) -> bool {
        self.committed.as_ref().is_some_and(|committed| committed.has(slot))
    }

    /// Returns whether the facts of a key are those of a key of which nothing is known.
    pub(crate) fn is_default(&self, slot: Slot) -> bool {
        self.facts.row(slot) == self.facts.default()
    }

    /// Forgets a key, which is in no audience.
    pub(crate) fn forget(&mut self, slot: Slot) {
        assert!(self.members.row(slot).iter().all(|word| *word == 0), "a key of which nothing is known is a member");
    }

    /// Returns the audiences that a key is in.
    pub(crate) fn memberships(&self, slot: Slot) -> impl Iterator<Item = u32> + '_ {
        ones(self.members.row(slot))
    }

    /// Takes the flips of one key at one ms, in order, and returns the memberships that change. Before the start none are
    /// given: facts are kept, and of keys in ledgers it is noted when a membership ended by itself.
    pub(crate) fn settle(&mut self, of_key: &[Flip], started: bool) -> &[Decision] {
        self.decisions.clear();
        let Flip { time, slot, .. } = of_key[0];
        // Of two flips of a fact at one ms the later one counts.
        self.last.clear();
        for flip in of_key.iter().filter(|flip| flip.fact < OUTWARD) {
            match self.last.iter_mut().find(|(fact, ..)| *fact == flip.fact) {
                Some(last) => *last = (flip.fact, flip.truth, flip.cause),
                None => self.last.push((flip.fact, flip.truth, flip.cause)),
            }
        }
        let facts = self.facts.row_mut(slot);
        self.flipped.clear();
        for (fact, truth, cause) in &self.last {
            if get(facts, *fact) != *truth {
                set(facts, *fact, *truth);
                self.flipped.push((*fact, *cause));
            }
        }
        if self.flipped.is_empty() {
            return &[];
        }
        if started {
            self.counts.flip(facts, self.flipped.iter().map(|(fact, _)| *fact));
        }
        let members = self.members.row_mut(slot);
        match &mut self.committed {
            _ if started => {
                let holding = self.holding.as_mut().map(|holding| (holding, slot));
                self.audiences.decide(facts, &self.flipped, members, &mut self.decisions, holding);
            }
            Some(committed) if committed.has(slot) => {
                self.audiences.decide(facts, &self.flipped, members, &mut self.decisions, None);
                self.decisions.drain(..).for_each(|decision| committed.note(slot, time, decision));
            }
            _ => {}
        }
        &self.decisions
    }

    /// Returns the memberships that change by the last [`EvaluateState::settle`].
    pub(crate) fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    /// Returns the facts that differ after the last [`EvaluateState::settle`], and why.
    pub(crate) fn flipped(&self) -> &[(u32, Cause)] {
        &self.flipped
    }

    /// Decides all audiences of one key at the start: gives its memberships, and what the ledgers have otherwise. `by_traits`: its facts
    /// that live columns decide; empty if there are none.
    pub(crate) fn announce(
        &mut self,
        (model, slot): (usize, Slot),
        time: Time,
        baseline: &Baseline,
        by_traits: &[u64],
        text: KeyText<'_>,
        out: &mut impl EpochOutput,
    ) {
        let facts = self.facts.row(slot);
        self.counts.add(facts);
        let committed = self.committed.as_ref().filter(|committed| committed.has(slot));
        if facts == self.facts.default() && committed.is_none() {
            return;
        }
        let members = self.members.row_mut(slot);
        self.decisions.clear();
        // Who was committed before stays.
        let stays = |audience: u32| committed.is_some_and(|committed| committed.is_in_any(slot, audience));
        let holding = self.holding.as_mut().map(|holding| (holding, slot));
        self.audiences.decide_all(facts, by_traits, members, &mut self.decisions, holding, stays);
        for Decision { audience, cause, .. } in &self.decisions {
            let has = |sync| committed.is_some_and(|committed| committed.is_committed(slot, sync, *audience));
            let transition =
                |reason| Transition { time, model, slot, audience: *audience, kind: ChangeKind::Entry, reason };
            baseline.recipients(*audience, ChangeKind::Entry, has, &mut self.recipients);
            match self.recipients.split_first() {
                None => out.transition(&transition(cause.reason()), None, text),
                Some((first, others)) => {
                    let reason = |to| baseline.reason(*audience, to, *cause, false);
                    out.transition(&transition(reason(*first)), Some(*first), text);
                    others.iter().for_each(|to| out.correction(&transition(reason(*to)), *to, text));
                }
            }
            // Whether the row differs from what the ledger has, the sync decides, which has that.
            for (sync, of) in baseline.syncs.iter().enumerate().filter(|(sync, of)| of.updates && has(*sync)) {
                if get(&of.has, *audience) {
                    let update = Transition { kind: ChangeKind::Update, ..transition(Reason::Recovery) };
                    out.update(&update, Recipients::Only(sync as u16), text);
                }
            }
        }
        let Some(committed) = committed else { return };
        for audience in committed.audiences(slot).filter(|audience| !get(members, *audience)) {
            let ended = committed.ended(slot, audience);
            // A membership that ended before the entry was committed to a sync: by the live clock events take effect otherwise
            // than when they are read again, so the entry was right, and the membership is over only now.
            let is_new = |sync: usize| ended.is_some_and(|ended| ended > baseline.syncs[sync].committed);
            for expired in [true, false] {
                let time = ended.filter(|_| expired).unwrap_or(time);
                let skip = |sync| !committed.is_committed(slot, sync, audience) || is_new(sync) != expired;
                baseline.recipients(audience, ChangeKind::Exit, skip, &mut self.recipients);
                for to in &self.recipients {
                    let reason = baseline.reason(audience, *to, Cause::Expiry, expired);
                    let transition = Transition { time, model, slot, audience, kind: ChangeKind::Exit, reason };
                    out.correction(&transition, *to, text);
                }
            }
        }
    }

    /// Counts, per audience, the keys that some ledger has in it, and those of them that will not be members at the start and whose
    /// membership did not end by itself. Before the start, when it is known what is held.
    pub(crate) fn count_committed(&self, counts: &mut [Exits]) {
        let Some(committed) = &self.committed else { return };
        let mut after = Words::new();
        for slot in committed.slots() {
            self.members_by(self.facts.row(slot), |audience| committed.is_in_any(slot, audience), &mut after);
            for audience in committed.audiences(slot) {
                let count = &mut counts[audience as usize];
                count.members += 1;
                count.leaving += u64::from(!get(&after, audience) && committed.ended(slot, audience).is_none());
            }
        }
    }

    /// Drops what the ledgers had: the difference to them has been given.
    pub(crate) fn end_announcement(&mut self) {
        self.committed = None;
    }
}

impl Audiences {
    fn new(model: &ModelPlan) -> Audiences {
        let rank_of: Vec<u32> = {
            let mut ranks = vec![0; model.audiences.len()];
            for (rank, index) in model.order.iter().enumerate() {
                ranks[*index as usize] = rank as u32;
            }
            ranks
        };
        let facts = model.facts.len();
        let rank_words = words_for(model.audiences.len());
        let mut by_fact = vec![vec![0; rank_words]; facts];
        let ranks = model.order.len();
        let (mut tests, mut own_facts) = (Tests::default(), BitRows::filled(vec![0; words_for(facts)], ranks));
        let (mut links, mut linked): (Vec<Links>, Words) = (Vec::new(), vec![0; rank_words]);
        for (rank, index) in model.order.iter().enumerate() {
            let expr = &model.audiences[*index as usize].expr;
            let (own, mut mentions) = (own_facts.row_mut(rank as Slot), Vec::new());
            expr.leaves(&mut |fact| set(own, fact, true), &mut |audience| mentions.push(audience));
            for fact in ones(own) {
                set(&mut by_fact[fact as usize], rank as u32, true);
            }
            let mentions: Vec<u32> = mentions.into_iter().map(|a| rank_of[a as usize]).collect();
            for earlier in &mentions {
                assert!((*earlier as usize) < rank, "an audience is ordered before one that it mentions");
                links[*earlier as usize].mentioned_by.push(rank as u32);
                set(&mut linked, *earlier, true);
                set(&mut linked, rank as u32, true);
            }
            links.push(Links { mentions, mentioned_by: Vec::new() });
            tests.push(expr);
        }
        let mut default_facts = vec![0; words_for(facts)];
        let mut performed = vec![0; words_for(facts)];
        for (i, fact) in model.facts.iter().enumerate() {
            set(&mut default_facts, i as u32, fact.default);
            let by_rows = matches!(fact.kind, FactKind::Tallied { windowed: true, .. });
            set(&mut performed, i as u32, fact.kind.window().is_some() || by_rows);
        }
        let (mut needing, mut needing_none) = (BitRows::filled(vec![0; rank_words], facts), vec![0; rank_words]);
        for rank in 0..ranks as u32 {
            let needed = tests.needs(rank as usize, &default_facts);
            let mentions = |fact: &u32| by_fact[*fact as usize].iter().map(|word| word.count_ones()).sum::<u32>();
            match needed.min_by_key(mentions) {
                Some(fact) => set(needing.row_mut(fact), rank, true),
                None => set(&mut needing_none, rank, true),
            }
        }
        let audiences = Audiences {
            causes: vec![Causes::default(); ranks],
            caused: Vec::new(),
            dirty: vec![0; rank_words],
            candidates: vec![0; rank_words],
            needing,
            needing_none,
            tests,
            own: own_facts,
            links,
            linked,
            order: model.order.clone(),
            exprs: model.audiences.iter().map(|audience| audience.expr.clone()).collect(),
            by_fact,
            default_facts,
            performed,
            rank_words,
        };
        let no_members = vec![0; rank_words];
        for (rank, index) in audiences.order.iter().enumerate() {
            let holds = audiences.holds(rank, &audiences.default_facts, &no_members);
            assert!(
                !holds,
                "audience {} holds for a key of which nothing is known",
                model.audiences[*index as usize].id
            );
        }
        audiences
    }

    /// Decides again what flipped facts touch. `facts` is the truth now, `flipped` are the facts that have flipped and why,
    /// `members` the memberships before, and after; `decisions` gets those that changed.
    fn decide(
        &mut self,
        facts: &[u64],
        flipped: &[(u32, Cause)],
        members: &mut [u64],
        decisions: &mut Vec<Decision>,
        holding: Option<(&mut Holding, Slot)>,
    ) {
        self.dirty.fill(0);
        for (fact, _) in flipped {
            let touched = match &holding {
                Some((holding, _)) => holding.touched(*fact),
                None => &self.by_fact[*fact as usize],
            };
            self.dirty.iter_mut().zip(touched).for_each(|(dirty, touched)| *dirty |= touched);
        }
        let held = holding.as_ref().map(|(holding, slot)| holding.held(*slot));
        self.find_candidates(facts, flipped.iter().map(|(fact, _)| *fact), held);
        self.dirty.iter_mut().zip(&self.candidates).for_each(|(dirty, candidates)| *dirty &= candidates);
        self.decide_dirty(facts, flipped, members, decisions, holding);
    }

    /// Finds the audiences that a key with these facts may be in, those that it may have been in before some flipped, and those that it
    /// is `held` for.
    fn find_candidates(&mut self, facts: &[u64], flipped: impl Iterator<Item = u32>, held: Option<&[u64]>) {
        let Audiences { candidates, needing, needing_none, default_facts, .. } = self;
        candidates.copy_from_slice(needing_none);
        candidates.iter_mut().zip(held.unwrap_or_default()).for_each(|(all, held)| *all |= held);
        let mut add = |fact| candidates.iter_mut().zip(needing.row(fact)).for_each(|(all, needing)| *all |= needing);
        flipped.for_each(&mut add);
        for (word, (is, default)) in facts.iter().zip(default_facts.iter()).enumerate() {
            ones(&[is ^ default]).for_each(|fact| add(word as u32 * 64 + fact));
        }
    }

    /// Decides again the audiences that a key is held for, as [`Audiences::decide`] does. The cause is not one of theirs.
    fn decide_held(
        &mut self,
        facts: &[u64],
        members: &mut [u64],
        decisions: &mut Vec<Decision>,
        (holding, slot): (&mut Holding, Slot),
    ) {
        self.dirty.copy_from_slice(holding.held(slot));
        self.decide_dirty(facts, &[], members, decisions, Some((holding, slot)));
    }

    fn decide_dirty(
        &mut self,
        facts: &[u64],
        flipped: &[(u32, Cause)],
        members: &mut [u64],
        decisions: &mut Vec<Decision>,
        mut holding: Option<(&mut Holding, Slot)>,
    ) {
        for word in 0..self.rank_words {
            // An audience only makes later ones dirty, in this word or those that follow.
            while self.dirty[word] != 0 {
                let rank = word * 64 + self.dirty[word].trailing_zeros() as usize;
                self.dirty[word] &= self.dirty[word] - 1;
                let index = self.order[rank];
                let (mut holds, is_member) = (self.holds(rank, facts, members), get(members, index));
                if let Some((holding, slot)) = &mut holding {
                    holds = holding.admits((*slot, index), (holds, is_member), facts, members);
                }
                if holds == is_member {
                    continue;
                }
                set(members, index, holds);
                let own = self.own.row(rank as Slot);
                let mut causes = Causes::default();
                for (fact, cause) in flipped {
                    if get(own, *fact) {
                        causes.add(*cause);
                    }
                }
                let is_linked = get(&self.linked, rank as u32);
                if is_linked {
                    let Links { mentions, mentioned_by } = &self.links[rank];
                    mentions.iter().for_each(|earlier| causes.join(self.causes[*earlier as usize]));
                    mentioned_by.iter().for_each(|later| set(&mut self.dirty, *later, true));
                }
                if holding.is_some() && causes.get().is_none() {
                    // What made it certain is a condition of an audience that it mentions, whose members are the same; or a window
                    // that is complete now.
                    flipped.iter().for_each(|(_, cause)| causes.add(*cause));
                    if flipped.is_empty() {
                        causes.add(Cause::Snapshot);
                    }
                }
                if is_linked {
                    self.keep_causes(rank, causes);
                }
                let kind = if holds { ChangeKind::Entry } else { ChangeKind::Exit };
                decisions.push(Decision { audience: index, kind, cause: causes.first() });
            }
        }
        self.forget_causes();
    }

    fn keep_causes(&mut self, rank: usize, causes: Causes) {
        self.causes[rank] = causes;
        self.caused.push(rank as u32);
    }

    fn forget_causes(&mut self) {
        self.caused.drain(..).for_each(|rank| self.causes[rank as usize] = Causes::default());
    }

    /// Decides all audiences of a key from nothing; `decisions` gets those that hold. The cause is an event if some performed
    /// condition differs from that of an unknown key, else the snapshot, else traits.
    ///
    /// `stays`: the key is a member already, and stays one if the audience's conditions hold.
    fn decide_all(
        &mut self,
        facts: &[u64],
        by_traits: &[u64],
        members: &mut [u64],
        decisions: &mut Vec<Decision>,
        mut holding: Option<(&mut Holding, Slot)>,
        stays: impl Fn(u32) -> bool,
    ) {
        members.fill(0);
        let held = holding.as_ref().map(|(holding, slot)| holding.held(*slot));
        self.find_candidates(facts, std::iter::empty(), held);
        let candidates = std::mem::take(&mut self.candidates);
        for rank in ones(&candidates).map(|rank| rank as usize) {
            let (index, mut holds) = (self.order[rank], self.holds(rank, facts, members));
            if let Some((holding, slot)) = &mut holding {
                holds = holding.admits((*slot, index), (holds, stays(index)), facts, members);
            }
            if !holds {
                continue;
            }
            set(members, index, true);
            let (mut by_event, mut by_trait, mut by_snapshot) = (false, false, false);
            for (w, own) in self.own.row(rank as Slot).iter().enumerate() {
                let differ = own & (facts[w] ^ self.default_facts[w]);
                let traits = by_traits.get(w).copied().unwrap_or(0);
                by_event |= differ & self.performed[w] != 0;
                by_trait |= differ & traits != 0;
                by_snapshot |= differ & !self.performed[w] & !traits != 0;
            }
            // Of the audiences that it mentions, only those that hold have causes here.
            let mut causes = Causes::default();
            let own = [(by_event, Cause::Event), (by_trait, Cause::Trait), (by_snapshot, Cause::Snapshot)];
            own.into_iter().filter(|(is, _)| *is).for_each(|(_, cause)| causes.add(cause));
            for earlier in &self.links[rank].mentions {
                causes.join(self.causes[*earlier as usize]);
            }
            if causes.get().is_none() {
                causes.add(Cause::Snapshot);
            }
            self.keep_causes(rank, causes);
            decisions.push(Decision { audience: index, kind: ChangeKind::Entry, cause: causes.first() });
        }
        self.candidates = candidates;
        self.forget_causes();
    }

    #[inline]
    fn holds(&self, rank: usize, facts: &[u64], members: &[u64]) -> bool {
        self.tests.holds(rank, facts, members)
    }
}

fn walk(expr: &Expr, facts: &[u64], members: &[u64]) -> bool {
    match expr {
        Expr::All(of) => of.iter().all(|e| walk(e, facts, members)),
        Expr::Any(of) => of.iter().any(|e| walk(e, facts, members)),
        Expr::Not(of) => !walk(of, facts, members),
        Expr::Fact(fact) => get(facts, *fact),
        Expr::Audience(audience) => get(members, *audience),
    }
}

/// Splits a conjunction into the facts and negated facts among its parts, and the rest.
fn split(expr: &Expr) -> (Vec<Term>, Option<Expr>) {
    let parts = match expr {
        Expr::All(of) => of.as_slice(),
        other => std::slice::from_ref(other),
    };
    let (mut terms, mut others): (Vec<Term>, Vec<Expr>) = (Vec::new(), Vec::new());
    for part in parts {
        let literal = match part {
            Expr::Fact(fact) => Some((*fact, true)),
            Expr::Not(of) => match **of {
                Expr::Fact(fact) => Some((fact, false)),
                _ => None,
            },
            _ => None,
        };
        let Some((fact, truth)) = literal else {
            others.push(part.clone());
            continue;
        };
        let (word, bit) = (fact / 64, 1 << (fact % 64));
        let term = match terms.iter_mut().find(|term| term.word == word) {
            Some(term) => term,
            None => terms.push_mut(Term { word, mask: 0, want: 0 }),
        };
        if term.mask & bit != 0 && (term.want & bit != 0) != truth {
            return (vec![NEVER], None);
        }
        term.mask |= bit;
        term.want |= if truth { bit } else { 0 };
    }
    (terms, (!others.is_empty()).then_some(Expr::All(others)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use usher_config::Members;
    use usher_queries::missing::MissingEvents;
    use usher_queries::plan::{AudiencePlan, Fact};

    const FACTS: u32 = 70;

    fn expr(rng: &mut fastrand::Rng, depth: u32, earlier: u32) -> Expr {
        let some = |rng: &mut fastrand::Rng| (0..rng.usize(1..4)).map(|_| expr(rng, depth + 1, earlier)).collect();
        match rng.u32(0..if depth > 2 { 2 } else { 6 }) {
            0 => Expr::Fact(rng.u32(0..FACTS)),
            1 if earlier > 0 => Expr::Audience(rng.u32(0..earlier)),
            1 => Expr::Fact(rng.u32(0..FACTS)),
            2 => Expr::Not(Box::new(expr(rng, depth + 1, earlier))),
            3 => Expr::Any(some(rng)),
            _ => Expr::All(some(rng)),
        }
    }

    /// Audiences that mention earlier ones, none of which holds when no fact does.
    fn model(rng: &mut fastrand::Rng) -> ModelPlan {
        let fact = || Fact { kind: FactKind::Known, fingerprint: [0; 16], text: String::new(), default: false };
        let audiences = (0..100).map(|i| AudiencePlan {
            id: format!("a{i:03}"),
            name: String::new(),
            fingerprint: [0; 16],
            expr: Expr::All(vec![Expr::Fact(rng.u32(0..FACTS)), expr(rng, 0, i)]),
        });
        ModelPlan {
            id: "users".into(),
            members: Members::Known,
            audiences: audiences.collect(),
            order: (0..100).collect(),
            facts: (0..FACTS).map(|_| fact()).collect(),
            snapshot: None,
            rows: None,
        }
    }

    #[test]
    fn deciding_what_flips_touch_is_deciding_all() {
        for seed in 0..20 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut model = model(&mut rng);
            // Some facts are true of a key of which nothing is known: then the first condition of an audience is that they are not.
            model.facts.iter_mut().for_each(|fact| fact.default = rng.u8(0..4) == 0);
            for audience in &mut model.audiences {
                let Expr::All(parts) = &mut audience.expr else { panic!("it is a conjunction") };
                let Expr::Fact(first) = parts[0] else { panic!("its first part is a fact") };
                if model.facts[first as usize].default {
                    parts[0] = Expr::Not(Box::new(Expr::Fact(first)));
                }
            }
            let mut audiences = Audiences::new(&model);
            let mut facts = audiences.default_facts.clone();
            let mut members = vec![0; audiences.rank_words];
            let mut entries = 0;
            for _ in 0..500 {
                let flipped: Vec<(u32, Cause)> =
                    (0..rng.usize(1..4)).map(|_| (rng.u32(0..FACTS), Cause::Event)).collect();
                for (fact, _) in &flipped {
                    let truth = get(&facts, *fact);
                    set(&mut facts, *fact, !truth);
                }
                let before = members.clone();
                let (mut turned, mut decisions) = (vec![0; audiences.rank_words], Vec::new());
                audiences.decide(&facts, &flipped, &mut members, &mut decisions, None);
                for decision in &decisions {
                    set(&mut turned, decision.audience, true);
                    entries += u32::from(decision.kind == ChangeKind::Entry);
                }
                let mut want = vec![0; audiences.rank_words];
                for (i, audience) in model.audiences.iter().enumerate() {
                    let holds = walk(&audience.expr, &facts, &want);
                    set(&mut want, i as u32, holds);
                }
                assert_eq!(members, want, "seed {seed}");
                let changed: Vec<u64> = before.iter().zip(&members).map(|(a, b)| a ^ b).collect();
                assert_eq!(turned, changed, "seed {seed}: exactly what changed is decided");
                let mut all = members.clone();
                decisions.clear();
                audiences.decide_all(&facts, &[], &mut all, &mut decisions, None, |_| false);
                let decided: Vec<u32> = decisions.iter().map(|decision| decision.audience).collect();
                assert_eq!((all, decided), (want.clone(), ones(&want).collect()), "seed {seed}: from nothing");
            }
            assert!(entries > 0, "seed {seed} reaches no audience");
        }
    }

    /// What is known of an expression where conditions are in doubt: Kleene's logic. `None`: it could be either.
    fn known(
        expr: &Expr,
        facts: &[u64],
        doubtful: &dyn Fn(u32, bool) -> bool,
        (model, sends): (&ModelPlan, &[bool]),
        members: &[bool],
    ) -> Option<bool> {
        let of = |expr: &Expr| known(expr, facts, doubtful, (model, sends), members);
        let parts = |of_all: &[Expr], neutral: bool| {
            let parts: Vec<Option<bool>> = of_all.iter().map(of).collect();
            match parts.contains(&Some(!neutral)) {
                true => Some(!neutral),
                false => (!parts.contains(&None)).then_some(neutral),
            }
        };
        match expr {
            Expr::All(of_all) => parts(of_all, true),
            Expr::Any(of_any) => parts(of_any, false),
            Expr::Not(part) => of(part).map(|truth| !truth),
            Expr::Fact(fact) => Some(get(facts, *fact)).filter(|truth| !doubtful(*fact, *truth)),
            Expr::Audience(audience) if members[*audience as usize] && !sends[*audience as usize] => Some(true),
            Expr::Audience(audience) => of(&model.audiences[*audience as usize].expr),
        }
    }

    /// Memberships by definition: who is one stays as long as the conditions hold, and who is not enters when that is certain.
    fn by_definition(
        model: &ModelPlan,
        sends: &[bool],
        facts: &[u64],
        doubtful: &dyn Fn(u32, bool) -> bool,
        before: &[bool],
    ) -> (Vec<bool>, Vec<bool>) {
        let (mut members, mut held) = (vec![false; before.len()], vec![false; before.len()]);
        for (index, audience) in model.audiences.iter().enumerate() {
            let mut bits = vec![0; words_for(members.len())];
            members.iter().enumerate().for_each(|(index, member)| set(&mut bits, index as u32, *member));
            let holds = walk(&audience.expr, facts, &bits);
            let certain = || known(&audience.expr, facts, doubtful, (model, sends), &members) == Some(true);
            let admitted = holds && (before[index] || sends[index] || certain());
            (members[index], held[index]) = (admitted, holds && !admitted);
        }
        (members, held)
    }

    #[test]
    fn keys_are_held_and_released_as_by_definition() {
        const KEYS: Slot = 5;
        let (mut holds, mut released, mut stayed) = (0u64, 0u64, 0u64);
        for seed in 0..60 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let model = model(&mut rng);
            let sends: Vec<bool> = model.audiences.iter().map(|_| rng.u8(0..6) == 0).collect();
            let windows: Vec<IncompleteWindow> = (0..FACTS)
                .filter(|_| rng.u8(0..4) == 0)
                .collect::<Vec<u32>>()
                .into_iter()
                .map(|fact| IncompleteWindow {
                    fact,
                    complete_at: rng.u64(5..40),
                    missing: MissingEvents { makes_true: rng.bool(), makes_false: rng.bool() },
                })
                .collect();
            let doubtful_at = |time: Time| {
                let windows = windows.clone();
                move |fact: u32, truth: bool| {
                    let of = windows.iter().find(|window| window.fact == fact);
                    of.is_some_and(|window| window.complete_at > time && window.missing.makes(truth))
                }
            };
            let mut evaluate = EvaluateState::new(&model);
            evaluate.fit(KEYS as usize);
            evaluate.hold_for(&sends, windows.clone(), KEYS as usize);
            let mut facts = vec![vec![0; words_for(FACTS as usize)]; KEYS as usize];
            let mut members = vec![vec![false; model.audiences.len()]; KEYS as usize];
            for time in 1..50u64 {
                // Flips settle with the windows as they were before this ms, then those that are complete now release keys.
                for slot in 0..KEYS {
                    let flips: Vec<Flip> = (0..rng.u8(0..4))
                        .map(|_| {
                            let fact = rng.u32(0..FACTS);
                            Flip { time, slot, fact, truth: rng.u8(0..3) > 0, cause: Cause::Event }
                        })
                        .collect();
                    let mut foreseen = Words::new();
                    if !flips.is_empty() {
                        flips.iter().for_each(|flip| set(&mut facts[slot as usize], flip.fact, flip.truth));
                        let is_member = |audience: u32| members[slot as usize][audience as usize];
                        evaluate.members_by(&facts[slot as usize], is_member, &mut foreseen);
                        evaluate.settle(&flips, true);
                        assert_eq!(
                            foreseen,
                            evaluate.members(slot),
                            "seed {seed}, key {slot} at {time}: who will be a member"
                        );
                    }
                    let (facts, members) = (&facts[slot as usize], &mut members[slot as usize]);
                    let before = members.clone();
                    *members = by_definition(&model, &sends, facts, &doubtful_at(time - 1), members).0;
                    stayed += before.iter().zip(&*members).filter(|(before, now)| **before && **now).count() as u64;
                    let found: Vec<u32> = evaluate.memberships(slot).collect();
                    let want: Vec<u32> = ones_of(members);
                    assert_eq!(found, want, "seed {seed}, key {slot} at {time}");
                }
                if windows.iter().any(|window| window.complete_at == time) {
                    evaluate.complete(time);
                    for slot in 0..KEYS {
                        released += evaluate.release(slot).len() as u64;
                    }
                    evaluate.end_holding();
                }
                let mut count = vec![0; model.audiences.len()];
                for slot in 0..KEYS {
                    let (facts, members) = (&facts[slot as usize], &mut members[slot as usize]);
                    let (now, held) = by_definition(&model, &sends, facts, &doubtful_at(time), members);
                    *members = now;
                    count.iter_mut().zip(&held).for_each(|(count, held)| *count += u64::from(*held));
                    let found: Vec<u32> = evaluate.memberships(slot).collect();
                    assert_eq!(found, ones_of(members), "seed {seed}, key {slot} after {time}");
                }
                holds += count.iter().sum::<u64>();
                let counts =
                    evaluate.holding().map_or(vec![0; model.audiences.len()], |holding| holding.counts().to_vec());
                assert_eq!(counts, count, "seed {seed}: what is held at {time}");
            }
            assert!(evaluate.holding().is_none(), "seed {seed}: nothing is held when all windows are complete");
        }
        assert!(
            holds > 1_000 && released > 100 && stayed > 1_000,
            "{holds} held, {released} released, {stayed} stayed"
        );
    }

    fn ones_of(members: &[bool]) -> Vec<u32> {
        members.iter().enumerate().filter(|(_, member)| **member).map(|(index, _)| index as u32).collect()
    }

    /// Memberships as differential's general `reduce` derives them from the same facts.
    #[test]
    fn evaluate_equals_differentials_reduce_over_the_same_facts() {
        use differential_dataflow::input::Input;

        const KEYS: Slot = 7;
        for seed in 0..10 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let model = model(&mut rng);
            let mut evaluate = EvaluateState::new(&model);
            evaluate.fit(KEYS as usize);
            // Flips by ms, of random keys and facts; a fact may flip to and fro within one ms.
            let mut flips: Vec<Flip> = (0..400)
                .map(|_| Flip {
                    time: rng.u64(1..60),
                    slot: rng.u32(0..KEYS),
                    fact: rng.u32(0..FACTS),
                    truth: rng.bool(),
                    cause: Cause::Event,
                })
                .collect();
            flips.sort_by_key(|flip| (flip.time, flip.slot));
            let mut ours: Vec<((u32, Slot), Time, isize)> = Vec::new();
            for of_key in flips.chunk_by(|a, b| (a.time, a.slot) == (b.time, b.slot)) {
                let Flip { time, slot, .. } = of_key[0];
                let diff = |kind| if kind == ChangeKind::Entry { 1 } else { -1 };
                ours.extend(evaluate.settle(of_key, true).iter().map(|d| ((d.audience, slot), time, diff(d.kind))));
            }
            // The facts as a collection: what holds before and after each ms.
            let mut facts: Vec<((Slot, u32), Time, isize)> = Vec::new();
            let mut truth = vec![vec![false; FACTS as usize]; KEYS as usize];
            for flip in &flips {
                let now = &mut truth[flip.slot as usize][flip.fact as usize];
                facts.push(((flip.slot, flip.fact), flip.time, isize::from(flip.truth) - isize::from(*now)));
                *now = flip.truth;
            }
            let exprs: Vec<Expr> = model.audiences.iter().map(|audience| audience.expr.clone()).collect();
            let derived = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
            let found = std::sync::Arc::clone(&derived);
            timely::execute_directly(move |worker| {
                let mut input = worker.dataflow::<Time, _, _>(|scope| {
                    let (input, facts) = scope.new_collection::<(Slot, u32), isize>();
                    facts
                        .reduce(move |_slot, facts, members| {
                            let mut row = vec![0; words_for(FACTS as usize)];
                            facts
                                .iter()
                                .filter(|(_, count)| *count > 0)
                                .for_each(|(fact, _)| set(&mut row, **fact, true));
                            let mut holding = vec![0; words_for(exprs.len())];
                            for (index, expr) in exprs.iter().enumerate() {
                                let holds = walk(expr, &row, &holding);
                                set(&mut holding, index as u32, holds);
                            }
                            members.extend(ones(&holding).map(|audience| (audience, 1)));
                        })
                        .inspect(move |((slot, audience), time, diff)| {
                            found.lock().expect("one thread").push(((*audience, *slot), *time, *diff));
                        });
                    input
                });
                for (fact, time, diff) in facts {
                    input.advance_to(time);
                    input.update(fact, diff);
                }
            });
            let mut theirs = derived.lock().expect("one thread").clone();
            differential_dataflow::consolidation::consolidate_updates(&mut theirs);
            let given = ours.len();
            differential_dataflow::consolidation::consolidate_updates(&mut ours);
            assert_eq!(given, ours.len(), "seed {seed}: at most one update per membership and time");
            assert!(!ours.is_empty(), "seed {seed} reaches no audience");
            assert_eq!(ours, theirs, "seed {seed}");
        }
    }
}
