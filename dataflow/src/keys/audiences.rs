//! From facts to audiences.
//!
//! Computes: the audiences a key is in, from the truth of its facts, and only those again that mention a fact that
//! flipped (an inverted index), each after the audiences that it mentions. Holds: a bit per (key, fact) and per
//! (key, audience). Refuses: nothing; any fact may flip at any time.
//!
//! An audience that is a conjunction of facts and their negations, as most are, is compared by masks of 64 facts at a
//! time; others are walked.

use super::{Cause, Causes};
use usher_queries::plan::{Expr, FactKind, ModelPlan};

/// A set of small numbers, 64 a word.
pub(crate) type Words = Vec<u64>;

pub(crate) fn words_for(bits: usize) -> usize {
    bits.div_ceil(64)
}

pub(crate) fn get(words: &[u64], bit: u32) -> bool {
    words[bit as usize / 64] >> (bit % 64) & 1 == 1
}

pub(crate) fn set(words: &mut [u64], bit: u32, value: bool) {
    let mask = 1 << (bit % 64);
    if value {
        words[bit as usize / 64] |= mask;
    } else {
        words[bit as usize / 64] &= !mask;
    }
}

/// How an audience is decided.
enum Test {
    /// All facts under `mask` have the value in `want`, word by word.
    Conjunction(Vec<(u32, u64, u64)>),
    Tree(Expr),
}

struct Audience {
    test: Test,
    /// The facts that its conditions are.
    facts: Words,
    /// The ranks of the audiences that its conditions are.
    mentions: Vec<u32>,
    /// The ranks of the audiences that mention it.
    mentioned_by: Vec<u32>,
}

/// All audiences of a model, ready to be decided. Ranks are positions in `ModelPlan::order`.
pub(crate) struct Audiences {
    by_rank: Vec<Audience>,
    /// Index of the audience at a rank.
    order: Vec<u32>,
    /// Per fact, the ranks of the audiences that mention it.
    by_fact: Vec<Words>,
    /// Truth of each fact for a key of which nothing is known. No audience holds for such a key.
    pub(crate) default_facts: Words,
    performed: Words,
    rank_words: usize,
    // Scratch of `decide`.
    dirty: Words,
    causes: Vec<Causes>,
}

/// A change of membership of one key at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) audience: u32,
    pub(crate) entered: bool,
    pub(crate) cause: Cause,
}

impl Audiences {
    pub(crate) fn new(model: &ModelPlan) -> Audiences {
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
        let mut by_rank: Vec<Audience> = Vec::new();
        for (rank, index) in model.order.iter().enumerate() {
            let expr = &model.audiences[*index as usize].expr;
            let (mut own, mut mentions) = (vec![0; words_for(facts)], Vec::new());
            expr.leaves(&mut |fact| set(&mut own, fact, true), &mut |audience| mentions.push(audience));
            for fact in ones(&own) {
                set(&mut by_fact[fact as usize], rank as u32, true);
            }
            let mentions: Vec<u32> = mentions.into_iter().map(|a| rank_of[a as usize]).collect();
            for earlier in &mentions {
                assert!((*earlier as usize) < rank, "an audience is ordered before one that it mentions");
                by_rank[*earlier as usize].mentioned_by.push(rank as u32);
            }
            let test = conjunction(expr).map_or_else(|| Test::Tree(expr.clone()), Test::Conjunction);
            by_rank.push(Audience { test, facts: own, mentions, mentioned_by: Vec::new() });
        }
        let mut default_facts = vec![0; words_for(facts)];
        let mut performed = vec![0; words_for(facts)];
        for (i, fact) in model.facts.iter().enumerate() {
            set(&mut default_facts, i as u32, fact.default);
            set(&mut performed, i as u32, matches!(fact.kind, FactKind::Performed { .. }));
        }
        let audiences = Audiences {
            causes: vec![Causes::default(); by_rank.len()],
            dirty: vec![0; rank_words],
            by_rank,
            order: model.order.clone(),
            by_fact,
            default_facts,
            performed,
            rank_words,
        };
        let nobody = vec![0; rank_words];
        for (rank, index) in audiences.order.iter().enumerate() {
            let holds = audiences.holds(rank, &audiences.default_facts, &nobody);
            assert!(
                !holds,
                "audience {} holds for a key of which nothing is known",
                model.audiences[*index as usize].id
            );
        }
        audiences
    }

    /// How many words of 64 bits a key's memberships take.
    pub(crate) fn member_words(&self) -> usize {
        self.rank_words
    }

    /// Decides again what flipped facts touch. `facts` is the truth now, `flipped` what is no longer as it was and why,
    /// `members` the memberships before, and after.
    pub(crate) fn decide(
        &mut self,
        facts: &[u64],
        flipped: &[(u32, Cause)],
        members: &mut [u64],
        turn: &mut impl FnMut(Turn),
    ) {
        self.dirty.fill(0);
        for (fact, _) in flipped {
            for (dirty, touched) in self.dirty.iter_mut().zip(&self.by_fact[*fact as usize]) {
                *dirty |= touched;
            }
        }
        let mut changed = false;
        for word in 0..self.rank_words {
            // An audience only makes later ones dirty, in this word or those that follow.
            while self.dirty[word] != 0 {
                let rank = word * 64 + self.dirty[word].trailing_zeros() as usize;
                self.dirty[word] &= self.dirty[word] - 1;
                let index = self.order[rank];
                let holds = self.holds(rank, facts, members);
                if holds == get(members, index) {
                    continue;
                }
                set(members, index, holds);
                changed = true;
                let audience = &self.by_rank[rank];
                let mut causes = Causes::default();
                for (fact, cause) in flipped {
                    if get(&audience.facts, *fact) {
                        causes.add(*cause);
                    }
                }
                for earlier in &audience.mentions {
                    causes.join(self.causes[*earlier as usize]);
                }
                for later in &audience.mentioned_by {
                    set(&mut self.dirty, *later, true);
                }
                self.causes[rank] = causes;
                turn(Turn { audience: index, entered: holds, cause: causes.first() });
            }
        }
        if changed {
            self.causes.fill(Causes::default());
        }
    }

    /// Decides all audiences of a key from nothing, and tells those that hold. The cause is an event where some
    /// performed condition is not as it is for an unknown key, else the snapshot.
    pub(crate) fn decide_all(&mut self, facts: &[u64], members: &mut [u64], turn: &mut impl FnMut(Turn)) {
        members.fill(0);
        for rank in 0..self.by_rank.len() {
            if !self.holds(rank, facts, members) {
                continue;
            }
            let (index, audience) = (self.order[rank], &self.by_rank[rank]);
            set(members, index, true);
            let own = audience.facts.iter().enumerate();
            let by_event =
                own.into_iter().any(|(w, own)| own & self.performed[w] & (facts[w] ^ self.default_facts[w]) != 0);
            // Of the audiences that it mentions, only those that hold have causes here.
            let mut causes = Causes::default();
            causes.add(if by_event { Cause::Event } else { Cause::Snapshot });
            for earlier in &audience.mentions {
                causes.join(self.causes[*earlier as usize]);
            }
            self.causes[rank] = causes;
            turn(Turn { audience: index, entered: true, cause: causes.first() });
        }
        self.causes.fill(Causes::default());
    }

    fn holds(&self, rank: usize, facts: &[u64], members: &[u64]) -> bool {
        match &self.by_rank[rank].test {
            Test::Conjunction(masks) => masks.iter().all(|(word, mask, want)| facts[*word as usize] & mask == *want),
            Test::Tree(expr) => walk(expr, facts, members),
        }
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

/// The masks of a conjunction of facts and negated facts that does not contradict itself.
fn conjunction(expr: &Expr) -> Option<Vec<(u32, u64, u64)>> {
    let mut masks: Vec<(u32, u64, u64)> = Vec::new();
    let mut literal = |fact: u32, value: bool| {
        let (word, bit) = (fact / 64, 1 << (fact % 64));
        let mask = match masks.iter_mut().find(|(w, ..)| *w == word) {
            Some(mask) => mask,
            None => masks.push_mut((word, 0, 0)),
        };
        if mask.1 & bit != 0 && (mask.2 & bit != 0) != value {
            return None;
        }
        mask.1 |= bit;
        mask.2 |= if value { bit } else { 0 };
        Some(())
    };
    let of = match expr {
        Expr::All(of) => of.as_slice(),
        other => std::slice::from_ref(other),
    };
    for e in of {
        match e {
            Expr::Fact(fact) => literal(*fact, true)?,
            Expr::Not(e) => match **e {
                Expr::Fact(fact) => literal(fact, false)?,
                _ => return None,
            },
            _ => return None,
        }
    }
    Some(masks)
}

/// The numbers in a set, ascending.
pub(crate) fn ones(words: &[u64]) -> impl Iterator<Item = u32> + '_ {
    words.iter().enumerate().flat_map(|(w, word)| {
        let mut rest = *word;
        std::iter::from_fn(move || {
            let bit = (rest != 0).then(|| rest.trailing_zeros())?;
            rest &= rest - 1;
            Some(w as u32 * 64 + bit)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use usher_config::Members;
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
        }
    }

    #[test]
    fn deciding_what_flips_touch_is_deciding_all() {
        for seed in 0..20 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let model = model(&mut rng);
            let mut audiences = Audiences::new(&model);
            let mut facts = vec![0; words_for(FACTS as usize)];
            let mut members = vec![0; audiences.member_words()];
            let mut entries = 0;
            for _ in 0..500 {
                let flipped: Vec<(u32, Cause)> =
                    (0..rng.usize(1..4)).map(|_| (rng.u32(0..FACTS), Cause::Event)).collect();
                for (fact, _) in &flipped {
                    let truth = get(&facts, *fact);
                    set(&mut facts, *fact, !truth);
                }
                let before = members.clone();
                let mut turned = vec![0; audiences.member_words()];
                audiences.decide(&facts, &flipped, &mut members, &mut |turn| {
                    set(&mut turned, turn.audience, true);
                    entries += u32::from(turn.entered);
                });
                let mut want = vec![0; audiences.member_words()];
                for (i, audience) in model.audiences.iter().enumerate() {
                    let holds = walk(&audience.expr, &facts, &want);
                    set(&mut want, i as u32, holds);
                }
                assert_eq!(members, want, "seed {seed}");
                let changed: Vec<u64> = before.iter().zip(&members).map(|(a, b)| a ^ b).collect();
                assert_eq!(turned, changed, "seed {seed}: exactly what changed is told");
            }
            assert!(entries > 0, "seed {seed} reaches nobody");
        }
    }
}
