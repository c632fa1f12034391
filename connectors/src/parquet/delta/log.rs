//! The log of a table: entries by version, and checkpoints that stand for all entries up to one.
//!
//! Promises: the state of a version is that of its newest usable checkpoint and of all entries after it, in order; of a log that was
//! replayed before, only newer entries are read, unless its entry of that version is another one now. A version by time is the newest that was
//! committed then or before: by the time in the entry where the table keeps one, else by that of the entry's file, which never runs
//! backwards.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use usher_config::TableVersion;
use usher_core::time;
use usher_core::warehouse::{FileVersion, SnapshotError, SnapshotErrorKind, Version};

use super::actions::{self, Add, FileName, Metadata, Protocol};
use super::columns::TableColumns;
use super::deletion::Deleted;
use super::folder::Folder;
use super::{Action, Table, TableFile, checkpoint, damaged};
use crate::parquet::{Found, error};

/// The newest version of the protocol for readers that is known here, from which on features have names.
const READER_VERSION: u32 = 3;

/// The features of readers that are read here. A column of a variant is refused where it is used.
const FEATURES: [&str; 9] = [
    "columnMapping",
    "deletionVectors",
    "timestampNtz",
    "typeWidening",
    "typeWidening-preview",
    "v2Checkpoint",
    "vacuumProtocolCheck",
    "variantType",
    "variantType-preview",
];

/// The folder of the parts of a checkpoint of the second kind.
const SIDECARS: &str = "_delta_log/_sidecars";

/// A log that was replayed up to a version.
#[derive(Debug)]
pub(super) struct Replayed {
    number: u64,
    /// The entry of this version, by which another table in the same folder shows.
    pub entry: Option<FileVersion>,
    pub state: State,
}

/// What a table is at a version.
#[derive(Debug, Default)]
pub(super) struct State {
    protocol: Option<Protocol>,
    metadata: Option<Metadata>,
    files: BTreeMap<FileName, Add>,
}

/// What a listing of a log found.
#[derive(Debug, Default)]
struct Listing {
    entries: BTreeMap<u64, FileVersion>,
    /// The files of each whole checkpoint.
    checkpoints: BTreeMap<u64, Vec<String>>,
}

/// What a file of a log is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Entry(u64),
    Checkpoint(u64),
    /// The version, the number of the part and that of all parts.
    Part(u64, u32, u32),
}

/// Replays a log up to the version that is to be read. `before` is what was replayed last.
///
/// # Errors
/// The log can't be read, is damaged, or does not reach the version.
pub(super) fn read(folder: &Folder<'_>, at: TableVersion, before: Option<Replayed>) -> Result<Replayed, SnapshotError> {
    // What is older than the last checkpoint is listed only if it is needed.
    let after = match at {
        TableVersion::Newest => before.as_ref().map(|before| before.number).into_iter().chain(last(folder)).min(),
        TableVersion::Number(_) | TableVersion::Time(_) => None,
    };
    if let Some(number) = after {
        // `.` is less than any digit, and what stands for a version starts with its number.
        let listing = Listing::new(folder.log(Some(&format!("{number:020}")))?);
        if let Some(newest) = listing.newest()
            && (listing.checkpoints.contains_key(&number) || listing.entries.contains_key(&number))
            && let Ok(replayed) = listing.replay(folder, newest, before)
        {
            return Ok(replayed);
        }
        return read_all(folder, at, None);
    }
    read_all(folder, at, before)
}

/// Replays a log whose whole folder is listed.
fn read_all(folder: &Folder<'_>, at: TableVersion, before: Option<Replayed>) -> Result<Replayed, SnapshotError> {
    let listing = Listing::new(folder.log(None)?);
    let log = folder.shown("_delta_log");
    let missing = |what: String| SnapshotError::new(SnapshotErrorKind::Missing, &log, what);
    let newest = listing.newest().ok_or_else(|| missing("the log has no entry and no whole checkpoint".to_owned()))?;
    let number = match at {
        TableVersion::Newest => newest,
        TableVersion::Number(number) if u64::from(number) > newest => {
            let what = format!("the table has no version {number}: its newest is {newest}");
            return Err(missing(what).hint("`version` names a version that is there; without it the newest is read"));
        }
        TableVersion::Number(number) => number.into(),
        TableVersion::Time(ms) => listing.at(folder, ms)?,
    };
    listing.replay(folder, number, before)
}

/// Returns the actions of a version's entry.
///
/// # Errors
/// It is missing, can't be read, or is damaged.
pub(super) fn entry(folder: &Folder<'_>, version: u64) -> Result<Vec<Action>, SnapshotError> {
    let at = format!("_delta_log/{version:020}.json");
    let entry = actions::of_lines(&folder.whole(&at)?).map_err(|(line, what)| {
        damaged(&folder.shown(&at), format!("line {line} of this entry of the table's log is no action: {what}"))
    })?;
    match entry.is_empty() {
        true => Err(damaged(&folder.shown(&at), "this entry of the table's log is empty")),
        false => Ok(entry),
    }
}

/// Returns the file that a version's entry is; `None` if it is not there, or can't be listed.
pub(super) fn entry_file(folder: &Folder<'_>, version: u64) -> Option<FileVersion> {
    let listing = Listing::new(folder.log(Some(&format!("{version:020}"))).ok()?);
    listing.entries.get(&version).cloned()
}

/// Returns the version of the last checkpoint, where the table's hint can be read: it may be old, and need not be there.
fn last(folder: &Folder<'_>) -> Option<u64> {
    #[derive(Deserialize)]
    struct LastCheckpoint {
        version: u64,
    }
    let hint = folder.whole("_delta_log/_last_checkpoint").ok()?;
    serde_json::from_slice::<LastCheckpoint>(&hint).ok().map(|last| last.version)
}

/// Returns what a file of a log is; `None` if nothing is read of it.
fn name(text: &str) -> Option<Name> {
    let (version, rest) = text.split_at_checked(20)?;
    let number = |digits: &str, count: usize| {
        let all = digits.len() == count && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|_| all)
    };
    let version = number(version, 20)?;
    match rest.strip_prefix('.')?.split('.').collect::<Vec<_>>()[..] {
        ["json"] => Some(Name::Entry(version)),
        ["checkpoint", "parquet"] => Some(Name::Checkpoint(version)),
        ["checkpoint", _, "json" | "parquet"] => Some(Name::Checkpoint(version)),
        ["checkpoint", part, parts, "parquet"] => {
            let of = |digits: &str| number(digits, 10).and_then(|number| u32::try_from(number).ok());
            Some(Name::Part(version, of(part)?, of(parts)?))
        }
        _ => None,
    }
}

impl Listing {
    fn new(files: Vec<FileVersion>) -> Listing {
        let mut listing = Listing::default();
        let mut parts: BTreeMap<(u64, u32), Vec<String>> = BTreeMap::new();
        for file in files {
            match name(&file.path) {
                Some(Name::Entry(version)) => {
                    listing.entries.insert(version, file);
                }
                Some(Name::Checkpoint(version)) => {
                    listing.checkpoints.insert(version, vec![file.path]);
                }
                Some(Name::Part(version, _, all)) => parts.entry((version, all)).or_default().push(file.path),
                None => {}
            }
        }
        for ((version, all), names) in parts {
            if names.len() == all as usize {
                listing.checkpoints.entry(version).or_insert(names);
            }
        }
        listing
    }

    /// Returns the newest version.
    fn newest(&self) -> Option<u64> {
        let (entry, checkpoint) = (self.entries.last_key_value(), self.checkpoints.last_key_value());
        entry.map(|(version, _)| *version).max(checkpoint.map(|(version, _)| *version))
    }

    /// Returns the state of a version.
    fn replay(&self, folder: &Folder<'_>, number: u64, before: Option<Replayed>) -> Result<Replayed, SnapshotError> {
        let checkpoint = self.checkpoints.range(..=number).next_back();
        let before = before.filter(|before| {
            let same = before.entry.is_some() && before.entry.as_ref() == self.entries.get(&before.number);
            // Where entries before a newer checkpoint were cleaned up, the checkpoint stands for them.
            let all = (before.number..number).all(|version| self.entries.contains_key(&(version + 1)));
            let newer = checkpoint.is_some_and(|(version, _)| *version > before.number);
            same && before.number <= number && (all || !newer)
        });
        let (mut state, first) = match (before, checkpoint) {
            (Some(before), _) => (before.state, before.number + 1),
            (None, Some((version, names))) => (State::of_checkpoint(folder, names)?, version + 1),
            (None, None) => (State::default(), 0),
        };
        for version in first..=number {
            // By its name: a listing of a folder beside a writer may have an entry and lack an earlier one.
            match entry(folder, version) {
                Err(error) if error.kind == SnapshotErrorKind::Missing => return Err(self.gap(folder, version, number)),
                read => read?.into_iter().for_each(|action| state.apply(action)),
            }
        }
        Ok(Replayed { number, entry: self.entries.get(&number).cloned(), state })
    }

    /// Returns the error of a version whose entry is missing.
    fn gap(&self, folder: &Folder<'_>, version: u64, wanted: u64) -> SnapshotError {
        let what = format!("the log has no entry of version {version}, which version {wanted} needs");
        let error = SnapshotError::new(SnapshotErrorKind::Unreadable, &folder.shown("_delta_log"), what);
        match self.checkpoints.range(wanted..).next() {
            Some((kept, _)) => error.hint(format!("old entries are cleaned up: the oldest whole version is {kept}")),
            None => error.hint("restore the entry, or the table from an earlier version"),
        }
    }

    /// Returns the newest version that was committed at a time or before.
    fn at(&self, folder: &Folder<'_>, ms: u64) -> Result<u64, SnapshotError> {
        let ms = i64::try_from(ms).unwrap_or(i64::MAX);
        let in_entry = |entry: &FileVersion| {
            let at = format!("_delta_log/{}", entry.path);
            let actions = actions::of_lines(&folder.whole(&at)?).unwrap_or_default();
            Ok::<_, SnapshotError>(actions.into_iter().find_map(|action| action.commit_info?.in_commit_timestamp))
        };
        // From the version on at which a table begins to keep times in its entries, all of them have one.
        let mut times: BTreeMap<u64, i64> = BTreeMap::new();
        for (version, entry) in self.entries.iter().rev() {
            match in_entry(entry)? {
                Some(time) => times.insert(*version, time),
                None => break,
            };
            if times[version] <= ms {
                return Ok(*version);
            }
        }
        let mut last = i64::MIN;
        for (version, entry) in &self.entries {
            if times.contains_key(version) {
                break;
            }
            last = entry.modified_ms.unwrap_or(last).max(last.saturating_add(1));
            times.insert(*version, last);
        }
        let found = times.iter().rev().find(|(_, time)| **time <= ms).map(|(version, _)| *version);
        found.ok_or_else(|| {
            let shown = |ms: i64| time::shortest(ms).unwrap_or_else(|| ms.to_string());
            let oldest = times.first_key_value().map(|(version, time)| (version, shown(*time)));
            let what = match oldest {
                Some((version, time)) => {
                    format!("the table has no version of {} or before: its oldest, {version}, is of {time}", shown(ms))
                }
                None => "the log has no entries, so no version has a time".to_owned(),
            };
            SnapshotError::new(SnapshotErrorKind::Missing, &folder.shown("_delta_log"), what)
                .hint("write a later `timestamp`, or a `version`")
        })
    }
}

impl Replayed {
    /// Returns what identifies the version.
    pub fn version(&self) -> Version {
        let table = self.state.metadata.as_ref().map_or("", |metadata| &metadata.id);
        Version { table: table.to_owned(), number: self.number }
    }
}

impl State {
    /// Reads a checkpoint: its files, and those that they name.
    fn of_checkpoint(folder: &Folder<'_>, names: &[String]) -> Result<State, SnapshotError> {
        let mut state = State::default();
        let mut sidecars = Vec::new();
        let of = |at: &str| {
            let bytes = folder.whole(at)?;
            let actions = match at.ends_with(".json") {
                true => actions::of_lines(&bytes).map_err(|(line, what)| format!("line {line}: {what}")),
                false => checkpoint::actions(bytes),
            };
            actions.map_err(|what| damaged(&folder.shown(at), format!("the checkpoint can't be read: {what}")))
        };
        for name in names {
            for mut action in of(&format!("_delta_log/{name}"))? {
                sidecars.extend(action.sidecar.take());
                state.apply(action);
            }
        }
        for sidecar in sidecars {
            let name = sidecar.path.rsplit('/').next().unwrap_or_default();
            of(&format!("{SIDECARS}/{name}"))?.into_iter().for_each(|action| state.apply(action));
        }
        Ok(state)
    }

    fn apply(&mut self, action: Action) {
        if let Some(remove) = action.remove {
            self.files.remove(&remove.name());
        }
        if let Some(add) = action.add {
            self.files.insert(add.name(), add);
        }
        self.protocol = action.protocol.or(self.protocol.take());
        self.metadata = action.meta_data.or(self.metadata.take());
    }

    /// Returns the columns.
    ///
    /// # Errors
    /// The table needs what is not read here, or its schema can't be read.
    pub fn columns(&self, folder: &Folder<'_>) -> Result<TableColumns, SnapshotError> {
        let log = folder.shown("_delta_log");
        let (Some(protocol), Some(metadata)) = (&self.protocol, &self.metadata) else {
            return Err(damaged(&log, "the log says nothing of the table's protocol or of its schema"));
        };
        protocol.check(&folder.location.shown)?;
        TableColumns::new(metadata).map_err(|what| damaged(&log, format!("the table can't be read: {what}")))
    }

    /// Finds the files of the version.
    ///
    /// # Errors
    /// Those of [`State::columns`]; a file is missing, or a deletion vector can't be read.
    pub fn table(
        &self,
        folder: &Folder<'_>,
        version: Version,
        entry: Option<FileVersion>,
    ) -> Result<Table, SnapshotError> {
        let columns = Arc::new(self.columns(folder)?);
        let mut fetched = None;
        let file = |add: &Add| file(folder, add, &columns, &mut fetched);
        let mut files = self.files.values().map(file).collect::<Result<Vec<_>, SnapshotError>>()?;
        files.sort_by(|a, b| a.0.version.path.cmp(&b.0.version.path));
        Ok(Table { version, entry, columns, files })
    }
}

/// Finds a file of a table; `fetched` holds the last file of deletion vectors that was read.
///
/// # Errors
/// It is missing, or its deletion vector can't be read.
pub(super) fn file(
    folder: &Folder<'_>,
    add: &Add,
    columns: &Arc<TableColumns>,
    fetched: &mut Option<(String, bytes::Bytes)>,
) -> Result<(Found, TableFile), SnapshotError> {
    let found = folder.file(&add.path, add.size, add.modification_time)?;
    let deleted = add.deletion_vector.as_ref();
    let deleted = deleted.map(|vector| Deleted::read(vector, folder, fetched)).transpose()?;
    let (columns, partition) = (Arc::clone(columns), add.partition_values.clone());
    Ok((found, TableFile { name: add.name(), columns, partition, deleted }))
}

impl Protocol {
    /// Checks that readers like this one may read the table.
    fn check(&self, at: &str) -> Result<(), SnapshotError> {
        if self.min_reader_version > READER_VERSION {
            let what = format!("the table needs reader version {}, which is not supported", self.min_reader_version);
            return Err(error::unsupported(at, what, "readers up to version 3 and their features are read here"));
        }
        let unknown: Vec<String> = self
            .reader_features
            .iter()
            .flatten()
            .filter(|name| !FEATURES.contains(&&name[..]))
            .map(|name| format!("`{name}`"))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let (feature, is) = if unknown.len() == 1 { ("feature", "is") } else { ("features", "are") };
        let what = format!("the table needs the reader {feature} {}, which {is} not supported", unknown.join(", "));
        let hint =
            "drop the feature from the table (`ALTER TABLE … DROP FEATURE`), or export the table as plain Parquet";
        Err(error::unsupported(at, what, hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_log_are_known_by_their_names() {
        let n = "00000000000000000007";
        assert_eq!(name(&format!("{n}.json")), Some(Name::Entry(7)));
        assert_eq!(name(&format!("{n}.checkpoint.parquet")), Some(Name::Checkpoint(7)));
        assert_eq!(
            name(&format!("{n}.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json")),
            Some(Name::Checkpoint(7))
        );
        let part = format!("{n}.checkpoint.0000000001.0000000003.parquet");
        assert_eq!(name(&part), Some(Name::Part(7, 1, 3)));
        for other in ["_last_checkpoint", &format!("{n}.crc"), &format!("{n}.{n}.compacted.json"), "7.json", ""] {
            assert_eq!(name(other), None, "{other}");
        }
        let file = |path: &str| FileVersion { path: path.to_owned(), size: 1, e_tag: None, modified_ms: None };
        let two = [part.clone(), part.replace("0000000001.", "0000000002.")];
        let listing = Listing::new(two.iter().map(|path| file(path)).collect());
        assert_eq!(listing.newest(), None, "a part of the checkpoint is missing");
        let three = two.iter().cloned().chain([part.replace("0000000001.", "0000000003.")]);
        assert_eq!(Listing::new(three.map(|path| file(&path)).collect()).newest(), Some(7));
    }
}
