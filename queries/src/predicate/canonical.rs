//! The canonical form: predicates that differ in spelling only become one tree, and so one text.
//!
//! Spelling is: spaces, the case of keywords and functions, parentheses that change nothing, `!=` for `<>`, the
//! nesting, order and repetition of what `and` or `or` joins, the order and repetition of `in`'s items, the side of a
//! comparison on which something stands, a double `not`, `300.0` for `300` where both are the same number, the spelling
//! of times and intervals. Parsing a canonical text gives the same text.

use super::print::text;
use super::tree::{Literal, Node};
use usher_config::ColumnType;

/// Brings a tree into its canonical form.
pub(crate) fn canonical(node: &mut Node, columns: &[(String, ColumnType)]) {
    for operand in node.operands_mut() {
        canonical(operand, columns);
    }
    match node {
        Node::Compare(compare, left, right) if place(right, columns) < place(left, columns) => {
            std::mem::swap(left, right);
            *compare = compare.flipped();
        }
        Node::Distinct(left, right) if place(right, columns) < place(left, columns) => {
            std::mem::swap(left, right);
        }
        Node::Not(operand) => {
            if let Node::Not(twice) = &mut **operand {
                *node = std::mem::replace(twice, Node::Literal(Literal::Null));
            }
        }
        Node::All(nodes) => {
            let flat = nodes.drain(..).flat_map(|node| if let Node::All(nodes) = node { nodes } else { vec![node] });
            *node = joined(flat.collect(), columns, Node::All);
        }
        Node::Any(nodes) => {
            let flat = nodes.drain(..).flat_map(|node| if let Node::Any(nodes) = node { nodes } else { vec![node] });
            *node = joined(flat.collect(), columns, Node::Any);
        }
        _ => {}
    }
}

/// Returns what operands are ordered by: literals to the right, else by text.
fn place(node: &Node, columns: &[(String, ColumnType)]) -> (bool, String) {
    (matches!(node, Node::Literal(_)), text(node, columns))
}

/// Joins operands of `and` or `or`, sorted by text, each once.
fn joined(nodes: Vec<Node>, columns: &[(String, ColumnType)], join: fn(Vec<Node>) -> Node) -> Node {
    let mut nodes = nodes.into_iter().map(|node| (text(&node, columns), node)).collect::<Vec<_>>();
    nodes.sort_by(|(left, _), (right, _)| left.cmp(right));
    nodes.dedup_by(|(left, _), (right, _)| left == right);
    let mut nodes = nodes.into_iter().map(|(_, node)| node).collect::<Vec<_>>();
    if nodes.len() == 1 { nodes.remove(0) } else { join(nodes) }
}
