//! Differences: the files, and the rows of them, that one version of a table has and an earlier one has not, and the other way round.
//!
//! Promises: the rows of the earlier version, without those that are removed and with those that are added, are the rows of the later one.
//! An action that says that it changes no rows (`dataChange: false`, of a compaction) is taken at its word. Of a file whose deletion
//! vector changed only the rows count that it deletes, or no longer does.
//!
//! There is no difference where it is not certain: an entry between the two versions is gone, the columns are others, the log's
//! actions do not lead from the files of the one version to those of the other, or a row could have come and gone between them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use usher_core::warehouse::FileVersion;

use super::actions::{Add, FileName};
use super::columns::TableColumns;
use super::deletion::Deleted;
use super::folder::Folder;
use super::{TableFile, log};
use crate::parquet::Found;

/// What a table's log says of a version that was opened.
#[derive(Debug)]
pub(in crate::parquet) struct OfTable {
    /// The entry of the version, by which another table in the same folder shows.
    pub entry: Option<FileVersion>,
    pub columns: Arc<TableColumns>,
    /// Those of the snapshot, in its order.
    pub files: Vec<TableFile>,
}

impl OfTable {
    /// Returns the places of the files in the snapshot.
    fn places(&self) -> BTreeMap<&FileName, usize> {
        self.files.iter().enumerate().map(|(at, file)| (&file.name, at)).collect()
    }
}

/// A file of a difference.
pub(in crate::parquet) enum Part {
    /// One of the earlier version's snapshot, or of the later one's, by its place.
    Of(usize),
    /// One that was added and removed in between.
    Between(Found, TableFile),
}

/// A file with rows that differ, and those of its rows that do not, if only some do.
pub(in crate::parquet) struct Differing {
    pub part: Part,
    pub same: Option<Deleted>,
}

/// The files with rows that were added, and with rows that were removed.
#[derive(Default)]
pub(in crate::parquet) struct Differences {
    pub added: Vec<Differing>,
    pub removed: Vec<Differing>,
}

/// What the entries between two versions say of the files of rows that changed.
#[derive(Default)]
struct Actions {
    /// How often each was added, less how often it was removed.
    net: BTreeMap<FileName, i32>,
    /// Those that were added, with or without a change of rows.
    adds: BTreeMap<FileName, Add>,
}

/// Returns how the version `to` differs from the version `from`, each with its number; `None` if that is not certain. `rows` is the number
/// of rows of a file of `to`, by its place, the deleted ones included.
pub(super) fn between(
    folder: &Folder<'_>,
    (from_number, from): (u64, &OfTable),
    (to_number, to): (u64, &OfTable),
    rows: impl Fn(usize) -> u64,
) -> Option<Differences> {
    if from.entry.is_none() || log::entry_file(folder, from_number) != from.entry || from.columns != to.columns {
        return None;
    }
    let (before, after) = (from.places(), to.places());
    let Actions { net, adds } = actions(folder, from_number + 1..=to_number, &before, &after)?;
    let of = |count: i32| net.iter().filter(move |(_, net)| **net == count).map(|(name, _)| name);
    // Else a row may have come and gone in between, and which one is left would not be known by its key.
    let is_plain = of(1).all(|name| after.contains_key(name)) || of(-1).all(|name| before.contains_key(name));
    if !is_plain || net.values().any(|net| net.abs() > 1) {
        return None;
    }
    let mut fetched = None;
    let mut part = |name: &FileName, places: &BTreeMap<&FileName, usize>| match places.get(name) {
        Some(at) => Some(Part::Of(*at)),
        None => {
            let (found, file) = log::file(folder, adds.get(name)?, &to.columns, &mut fetched).ok()?;
            Some(Part::Between(found, file))
        }
    };
    let mut differences = Differences::default();
    // The same file with another vector: by its path, where it is in both versions.
    let vector = |version: &OfTable, at: usize| version.files[at].deleted.clone();
    let new: BTreeMap<&str, usize> = of(1).filter_map(|name| Some((&name.0[..], *after.get(name)?))).collect();
    let changed: BTreeMap<&str, (usize, usize)> =
        of(-1).filter_map(|name| Some((&name.0[..], (*before.get(name)?, *new.get(&name.0[..])?)))).collect();
    for (old, new) in changed.values() {
        let (was, is) = (vector(from, *old), vector(to, *new));
        let of_rows = |vector: &Option<Deleted>, other: &Option<Deleted>| {
            Some(vector.as_ref()?.all_but_new(other.as_ref(), rows(*new)))
        };
        let added = of_rows(&was, &is).map(|same| Differing { part: Part::Of(*new), same: Some(same) });
        let removed = of_rows(&is, &was).map(|same| Differing { part: Part::Of(*old), same: Some(same) });
        differences.added.extend(added);
        differences.removed.extend(removed);
    }
    for name in of(1).filter(|name| !changed.contains_key(&name.0[..])) {
        differences.added.push(Differing { part: part(name, &after)?, same: None });
    }
    for name in of(-1).filter(|name| !changed.contains_key(&name.0[..])) {
        differences.removed.push(Differing { part: part(name, &before)?, same: None });
    }
    Some(differences)
}

/// Returns what the entries of these versions do to the files; `None` if one can't be read, or they do not lead from the files `before` to
/// those `after`.
fn actions(
    folder: &Folder<'_>,
    versions: std::ops::RangeInclusive<u64>,
    before: &BTreeMap<&FileName, usize>,
    after: &BTreeMap<&FileName, usize>,
) -> Option<Actions> {
    let mut files: BTreeSet<FileName> = before.keys().map(|name| (*name).clone()).collect();
    let mut actions = Actions::default();
    for version in versions {
        for action in log::entry(folder, version).ok()? {
            // What is done already changes nothing.
            if let Some(remove) = action.remove
                && files.remove(&remove.name())
                && remove.data_change
            {
                *actions.net.entry(remove.name()).or_default() -= 1;
            }
            if let Some(add) = action.add {
                if files.insert(add.name()) && add.data_change {
                    *actions.net.entry(add.name()).or_default() += 1;
                }
                actions.adds.insert(add.name(), add);
            }
        }
    }
    files.iter().eq(after.keys().copied()).then_some(actions)
}
