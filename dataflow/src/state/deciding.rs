//! Which condition decides a membership: what to show of a member that enters or leaves.
//!
//! Pure. Of several conditions that hold a membership up together, the one that is named last is returned; of several that prevent
//! it, the first.

use super::facts::get;
use usher_queries::plan::{AudienceIx, Expr, FactIx};

/// A condition that decides a membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deciding {
    /// A fact of the audience's model, by index.
    Fact(FactIx),
    /// Another audience of the model, by index.
    Audience(AudienceIx),
}

/// Returns a condition by which an expression has the truth that it has: if that condition alone had another, it would turn, where
/// there is such a condition. `None` of an expression without conditions.
pub(crate) fn deciding(expr: &Expr, facts: &[u64], members: &[u64]) -> Option<Deciding> {
    let holds = |expr: &Expr| holds(expr, facts, members);
    let of = |expr: &Expr| deciding(expr, facts, members);
    match expr {
        Expr::Fact(fact) => Some(Deciding::Fact(*fact)),
        Expr::Audience(audience) => Some(Deciding::Audience(*audience)),
        Expr::Not(part) => of(part),
        // Whether the key is known comes first, and decides where it is not.
        Expr::All(parts) => match parts.iter().find(|part| !holds(part)) {
            Some(part) => of(part),
            None => parts.iter().rev().find_map(of),
        },
        Expr::Any(parts) => match parts.iter().find(|part| holds(part)) {
            Some(part) => of(part),
            None => parts.iter().find_map(of),
        },
    }
}

fn holds(expr: &Expr, facts: &[u64], members: &[u64]) -> bool {
    expr.holds(&|fact| get(facts, fact), &|audience| get(members, audience))
}

#[cfg(test)]
mod tests {
    use super::super::facts::{set, words_for};
    use super::*;

    /// Returns a random expression over facts that occur once each.
    fn expr(rng: &mut fastrand::Rng, next: &mut u32, depth: u32) -> Expr {
        let mut some = |rng: &mut fastrand::Rng| (0..rng.usize(1..4)).map(|_| expr(rng, next, depth + 1)).collect();
        match rng.u8(0..if depth > 3 { 1 } else { 4 }) {
            1 => Expr::All(some(rng)),
            2 => Expr::Any(some(rng)),
            3 => Expr::Not(Box::new(expr(rng, next, depth + 1))),
            _ => {
                *next += 1;
                Expr::Fact(*next - 1)
            }
        }
    }

    /// Returns whether one condition alone can turn an expression.
    fn can_turn(expr: &Expr, facts: &[u64], count: u32) -> bool {
        let before = holds(expr, facts, &[]);
        (0..count).any(|fact| turns(expr, facts, fact) != before)
    }

    fn turns(expr: &Expr, facts: &[u64], fact: u32) -> bool {
        let mut turned = facts.to_vec();
        let truth = get(&turned, fact);
        set(&mut turned, fact, !truth);
        holds(expr, &turned, &[])
    }

    #[test]
    fn a_condition_that_decides_a_conjunction_turns_it() {
        let mut rng = fastrand::Rng::with_seed(7);
        let (mut turned, mut met) = (0, 0);
        for _ in 0..2_000 {
            let mut count = 0;
            let expr = expr(&mut rng, &mut count, 0);
            let mut facts = vec![0; words_for(count as usize)];
            (0..count).for_each(|fact| set(&mut facts, fact, rng.bool()));
            let Some(Deciding::Fact(fact)) = deciding(&expr, &facts, &[]) else { panic!("it has conditions") };
            assert!(fact < count);
            let is_literals = |parts: &[Expr]| parts.iter().all(|part| matches!(part, Expr::Fact(_)));
            let one_false = |parts: &[Expr]| parts.iter().filter(|part| !holds(part, &facts, &[])).count() < 2;
            if let Expr::All(parts) = &expr
                && is_literals(parts)
                && one_false(parts)
            {
                met += 1;
                turned += u32::from(turns(&expr, &facts, fact) != holds(&expr, &facts, &[]));
                assert!(can_turn(&expr, &facts, count));
            }
        }
        assert!(met > 20 && turned == met, "{turned} of {met}");
    }
}
