//! Expressions in canonical form: flat, sorted, without repeats and without constants that decide nothing.
//!
//! A constant that decides all, such as the false part of a conjunction, stays beside conditions: these can't change
//! who belongs any more, but where something else does at the same ms, they may give the reason.

use super::canonical::hex;
use crate::plan::{Expr, Fact};
use std::collections::BTreeSet;

/// A condition as its parts are typed: facts are still their canonical text, audiences their id.
pub(super) enum Tree {
    All(Vec<Tree>),
    Any(Vec<Tree>),
    Not(Box<Tree>),
    Fact(String),
    Audience(String),
}

/// The canonical expression of a tree.
pub(super) fn expr(tree: &Tree, fact: &dyn Fn(&str) -> u32, audience: &dyn Fn(&str) -> u32) -> Expr {
    match tree {
        Tree::All(children) => all(children.iter().map(|child| expr(child, fact, audience))),
        Tree::Any(children) => any(children.iter().map(|child| expr(child, fact, audience))),
        Tree::Not(child) => not(expr(child, fact, audience)),
        Tree::Fact(text) => Expr::Fact(fact(text)),
        Tree::Audience(id) => Expr::Audience(audience(id)),
    }
}

/// The canonical conjunction: flat, sorted, without repeats and without what is true.
fn all(children: impl Iterator<Item = Expr>) -> Expr {
    let mut parts = BTreeSet::new();
    for child in children {
        match child {
            Expr::All(inner) => parts.extend(inner),
            child => {
                parts.insert(child);
            }
        }
    }
    if parts.len() == 1 { parts.pop_first().expect("one part") } else { Expr::All(parts.into_iter().collect()) }
}

/// The canonical disjunction: flat, sorted, without repeats and without what is false.
fn any(children: impl Iterator<Item = Expr>) -> Expr {
    let mut parts = BTreeSet::new();
    for child in children {
        match child {
            Expr::Any(inner) => parts.extend(inner),
            child => {
                parts.insert(child);
            }
        }
    }
    if parts.len() == 1 { parts.pop_first().expect("one part") } else { Expr::Any(parts.into_iter().collect()) }
}

/// The canonical negation: none of a negation or a constant.
fn not(child: Expr) -> Expr {
    match child {
        Expr::Not(inner) => *inner,
        Expr::All(inner) if inner.is_empty() => Expr::Any(inner),
        Expr::Any(inner) if inner.is_empty() => Expr::All(inner),
        child => Expr::Not(Box::new(child)),
    }
}

/// `expr` for keys of the snapshot: the outermost is always `All([Fact(0), ..])`, even where `expr` is constant.
pub(super) fn known_and(expr: Expr) -> Expr {
    let rest = match expr {
        Expr::All(parts) => parts,
        expr => vec![expr],
    };
    Expr::All([Expr::Fact(0)].into_iter().chain(rest).collect())
}

/// The canonical text of an expression over fingerprints: sorted by those, so that no index or id shows.
pub(super) fn meaning(expr: &Expr, facts: &[Fact], audience: &dyn Fn(u32) -> [u8; 16]) -> String {
    let list = |children: &[Expr]| {
        let mut texts: Vec<String> = children.iter().map(|child| meaning(child, facts, audience)).collect();
        texts.sort();
        texts.join(" ")
    };
    match expr {
        Expr::All(children) => format!("all({})", list(children)),
        Expr::Any(children) => format!("any({})", list(children)),
        Expr::Not(child) => format!("not({})", meaning(child, facts, audience)),
        Expr::Fact(ix) => format!("fact:{}", hex(&facts[*ix as usize].fingerprint)),
        Expr::Audience(ix) => format!("audience:{}", hex(&audience(*ix))),
    }
}
