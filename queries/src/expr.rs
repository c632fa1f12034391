//! Boolean expressions over facts and audiences: what an audience's condition compiles to.
//!
//! The compiler makes them canonical: flat, sorted, without repeats, without double negations and without constants
//! that decide nothing. A constant that decides all, such as the false part of a conjunction, stays beside conditions:
//! these can no longer change who belongs, but where something else does at the same ms, they may give the reason.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A fact's index within its model.
pub type FactIx = u32;

/// An audience's index within its model.
pub type AudienceIx = u32;

/// A boolean expression over facts and other audiences of the model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Expr {
    All(Vec<Expr>),
    Any(Vec<Expr>),
    Not(Box<Expr>),
    Fact(FactIx),
    Audience(AudienceIx),
}

impl Expr {
    /// Returns whether it holds, given which facts and which audiences hold.
    pub fn holds(&self, fact: &impl Fn(FactIx) -> bool, audience: &impl Fn(AudienceIx) -> bool) -> bool {
        match self {
            Expr::All(parts) => parts.iter().all(|part| part.holds(fact, audience)),
            Expr::Any(parts) => parts.iter().any(|part| part.holds(fact, audience)),
            Expr::Not(part) => !part.holds(fact, audience),
            Expr::Fact(ix) => fact(*ix),
            Expr::Audience(ix) => audience(*ix),
        }
    }

    /// Calls `fact` and `audience` with the leaves, from left to right.
    pub fn leaves(&self, fact: &mut dyn FnMut(FactIx), audience: &mut dyn FnMut(AudienceIx)) {
        match self {
            Expr::All(parts) | Expr::Any(parts) => parts.iter().for_each(|part| part.leaves(fact, audience)),
            Expr::Not(part) => part.leaves(fact, audience),
            Expr::Fact(ix) => fact(*ix),
            Expr::Audience(ix) => audience(*ix),
        }
    }

    /// Returns the canonical conjunction: flat, sorted, without repeats and without what is true.
    pub(crate) fn all(parts: impl IntoIterator<Item = Expr>) -> Expr {
        let mut flat = BTreeSet::new();
        for part in parts {
            match part {
                Expr::All(inner) => flat.extend(inner),
                part => {
                    flat.insert(part);
                }
            }
        }
        if flat.len() == 1 { flat.pop_first().expect("one part") } else { Expr::All(flat.into_iter().collect()) }
    }

    /// Returns the canonical disjunction: flat, sorted, without repeats and without what is false.
    pub(crate) fn any(parts: impl IntoIterator<Item = Expr>) -> Expr {
        let mut flat = BTreeSet::new();
        for part in parts {
            match part {
                Expr::Any(inner) => flat.extend(inner),
                part => {
                    flat.insert(part);
                }
            }
        }
        if flat.len() == 1 { flat.pop_first().expect("one part") } else { Expr::Any(flat.into_iter().collect()) }
    }

    /// Returns the canonical negation, which is never one of a negation or a constant.
    pub(crate) fn negated(self) -> Expr {
        match self {
            Expr::Not(inner) => *inner,
            Expr::All(inner) if inner.is_empty() => Expr::Any(inner),
            Expr::Any(inner) if inner.is_empty() => Expr::All(inner),
            part => Expr::Not(Box::new(part)),
        }
    }

    /// Returns the expression for keys of the snapshot: the outermost is always `All([Fact(0), ..])`, also where the
    /// rest is constant.
    pub(crate) fn and_known(self) -> Expr {
        let rest = match self {
            Expr::All(parts) => parts,
            part => vec![part],
        };
        Expr::All([Expr::Fact(0)].into_iter().chain(rest).collect())
    }
}
