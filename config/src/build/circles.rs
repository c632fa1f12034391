//! The circles in a graph of ids.

use std::collections::{BTreeMap, BTreeSet};

use crate::Place;

/// The edges of a graph by the id that they leave: the id that each leads to, and where the file has it.
pub(super) type Edges<'a> = BTreeMap<&'a str, Vec<(&'a str, Place)>>;

/// Returns the circles in a graph: each as text that begins with its least id, and the place of the edge that leaves
/// that id.
///
/// A depth-first walk that reports each edge to an id on its own path. It does not recurse: a chain may be as long as
/// the file.
pub(super) fn circles(edges: &Edges) -> Vec<(String, Place)> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for start in edges.keys().copied() {
        // The ids on the path, each with the number of its edges that were followed.
        let mut path = vec![(start, 0)];
        let mut on_path = BTreeSet::from([start]);
        if !seen.insert(start) {
            continue;
        }
        while let Some((id, followed)) = path.last_mut() {
            let Some((target, _)) = edges.get(id).and_then(|targets| targets.get(*followed)) else {
                on_path.remove(id);
                path.pop();
                continue;
            };
            *followed += 1;
            if on_path.contains(target) {
                found.push(circle(edges, &path, target));
            } else if seen.insert(target) {
                on_path.insert(target);
                path.push((target, 0));
            }
        }
    }
    found
}

/// Returns the circle that the last id of `path` closes by its edge to `target`, which is on the path.
fn circle(edges: &Edges, path: &[(&str, usize)], target: &str) -> (String, Place) {
    let first = path.iter().position(|(id, _)| *id == target).expect("the target is on the path");
    let ids = &path[first..];
    let least = (0..ids.len()).min_by_key(|at| ids[*at].0).expect("a circle is not empty");
    let mut names: Vec<String> = (0..ids.len()).map(|at| format!("`{}`", ids[(least + at) % ids.len()].0)).collect();
    names.push(names[0].clone());
    let (id, followed) = ids[least];
    (names.join(" -> "), edges[id][followed - 1].1.clone())
}
