//! The files that a job file includes: their sections join those of the job file.
//!
//! An included file holds only sections of ids: sources, models, events, audiences and syncs. An id that two files give
//! is a problem that names both places. Values keep the file that they stand in, so that problems point into it.

use std::collections::BTreeSet;

use usher_core::suggest::and_list;

use crate::schema::{AnyKey, job};
use crate::variables::{self, Lookup};
use crate::yaml::{self, Entry, Kind, Node};
use crate::{Place, Problem};

/// A file that a job includes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Included {
    /// Its path, relative to the job file's folder.
    pub file: String,
    /// Its content.
    pub text: String,
}

/// Returns the files that match a glob, which is relative to the job file's folder; the error is why they can't be read.
pub type Include<'a> = &'a dyn Fn(&str) -> Result<Vec<Included>, String>;

/// Adds the sections of all files that `root` includes. Each file is included once.
pub(crate) fn include(root: &mut Node, files: Include, variable: Lookup, problems: &mut Vec<Problem>) {
    let mut seen = BTreeSet::new();
    for (glob, place) in globs(root) {
        let included = match files(&glob) {
            Ok(included) => included,
            Err(reason) => {
                problems.push(Problem::new(&place, format!("`{glob}` can't be included: {reason}")));
                continue;
            }
        };
        if included.is_empty() {
            let hint = "a glob is relative to the job file's folder, as in `audiences/*.yaml`";
            problems.push(Problem::new(&place, format!("`{glob}` matches no file")).hint(hint));
        }
        for Included { file, text } in included {
            if seen.insert(file.clone()) {
                match yaml::parse(&text, &file, problems) {
                    Ok(mut node) => {
                        variables::substitute(&mut node, "", variable, problems);
                        add(root, node, problems);
                    }
                    Err(problem) => problems.push(problem),
                }
            }
        }
    }
}

/// Returns the globs of a job file with their places. A value that is not a text is reported with the other keys.
fn globs(root: &Node) -> Vec<(String, Place)> {
    let Kind::Mapping(entries) = &root.kind else { return Vec::new() };
    let name = job::INCLUDE.name();
    let Some(value) = entries.iter().find(|entry| entry.key == name).map(|entry| &entry.value) else {
        return Vec::new();
    };
    let glob = |node: &Node, path: &str| match &node.kind {
        Kind::Text { text, .. } if !text.trim().is_empty() => Some((text.clone(), node.place(path))),
        _ => None,
    };
    match &value.kind {
        Kind::List(list) => {
            list.iter().enumerate().filter_map(|(at, node)| glob(node, &yaml::element(name, at))).collect()
        }
        _ => glob(value, name).into_iter().collect(),
    }
}

/// Adds the sections of one file.
fn add(root: &mut Node, file: Node, problems: &mut Vec<Problem>) {
    let sections = job::SECTIONS.map(AnyKey::name);
    let entries = match file.kind {
        Kind::Mapping(entries) => entries,
        Kind::Null | Kind::Broken => return,
        _ => {
            problems.push(Problem::new(&file.place(""), format!("an included file holds {}", and_list(&sections))));
            return;
        }
    };
    for section in entries {
        if !sections.contains(&section.key.as_str()) {
            let message = format!("`{}` has no place in an included file", section.key);
            let hint = format!("included files hold {}; the rest is in the job file", and_list(&sections));
            problems.push(Problem::new(&section.place(&section.key), message).hint(hint));
            continue;
        }
        merge(root, section, problems);
    }
}

/// Adds the ids of one section.
fn merge(root: &mut Node, section: Entry, problems: &mut Vec<Problem>) {
    let Kind::Mapping(all) = &mut root.kind else { return };
    let Some(known) = all.iter_mut().find(|entry| entry.key == section.key) else {
        all.push(section);
        return;
    };
    if matches!(known.value.kind, Kind::Null) {
        known.value.kind = Kind::Mapping(Vec::new());
    }
    let Kind::Mapping(known) = &mut known.value.kind else { return };
    let place = section.value.place(&section.key);
    let added = match section.value.kind {
        Kind::Mapping(added) => added,
        Kind::Null | Kind::Broken => return,
        _ => {
            problems.push(Problem::new(&place, "must be a mapping of ids").hint("write `ID: {…}` for each"));
            return;
        }
    };
    for entry in added {
        match known.iter().find(|other| other.key == entry.key) {
            None => known.push(entry),
            Some(first) => {
                let path = yaml::child(&section.key, &entry.key);
                let Place { file, line, column, .. } = first.place(&path);
                let file = if file.is_empty() { "the job file".to_owned() } else { format!("`{file}`") };
                let message = format!("`{}` is given twice, first in {file} at {line}:{column}", entry.key);
                problems.push(Problem::new(&entry.place(&path), message).hint("give one of them another id"));
            }
        }
    }
}
