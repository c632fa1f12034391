//! Table formats: folders whose log, not whose files, says which rows there are.
//!
//! A Delta table has `_delta_log`, a Hudi table `.hoodie`, an Iceberg table `metadata/*.metadata.json` beside `data`. Rows that such a
//! table has deleted or rewritten are still in its files, so a warehouse refuses a file with such a folder around it, up to three
//! above the location, as far as its store can list.

use std::collections::BTreeSet;

use usher_core::warehouse::{SnapshotError, SnapshotErrorKind};

/// How many folders above the location are looked at.
pub(super) const ABOVE: usize = 3;

/// What the folder of a table has.
pub(super) const DELTA: &str = "_delta_log";
pub(super) const HUDI: &str = ".hoodie";
pub(super) const METADATA: &str = "metadata";
pub(super) const METADATA_FILE: &str = ".metadata.json";
pub(super) const DATA: &str = "data";

/// A table format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Delta,
    Hudi,
    Iceberg,
}

/// A table that was found where plain files are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub folder: String,
    pub format: Format,
}

impl Table {
    /// Returns the error of a warehouse that is a table's.
    pub(super) fn error(&self) -> SnapshotError {
        let (name, marker) = match self.format {
            Format::Delta => ("a Delta table", "_delta_log"),
            Format::Hudi => ("a Hudi table", ".hoodie"),
            Format::Iceberg => ("an Iceberg table", "metadata/*.metadata.json"),
        };
        let what = format!("this is {name}, with `{marker}`: its files hold rows that were deleted from the table");
        let key = match self.format {
            Format::Delta => "read it with `delta:` in place of `parquet:`",
            Format::Hudi | Format::Iceberg => "this format is not supported: export the table as plain Parquet",
        };
        SnapshotError::new(SnapshotErrorKind::Table, &self.folder, what)
            .hint(format!("{key}; `force_files: true` reads all its files as they are"))
    }
}

/// The folders of tables below a location, collected from the paths that a store lists.
#[derive(Default)]
pub(super) struct Markers {
    delta: BTreeSet<String>,
    hudi: BTreeSet<String>,
    metadata: BTreeSet<String>,
    data: BTreeSet<String>,
}

impl Markers {
    /// Takes the path of a file, or of a folder, that was listed.
    pub(super) fn see(&mut self, names: &[&str]) {
        for (at, name) in names.iter().enumerate() {
            let folders = match *name {
                DELTA => &mut self.delta,
                HUDI => &mut self.hudi,
                DATA => &mut self.data,
                METADATA if names.get(at + 1).is_some_and(|file| file.ends_with(METADATA_FILE)) => &mut self.metadata,
                _ => continue,
            };
            folders.insert(names[..at].join("/"));
        }
    }

    /// Adds what others have.
    pub(super) fn join(&mut self, others: Markers) {
        self.delta.extend(others.delta);
        self.hudi.extend(others.hudi);
        self.metadata.extend(others.metadata);
        self.data.extend(others.data);
    }

    /// Returns the outermost table around a file: its folder below the location, and its format.
    pub(super) fn around(&self, names: &[&str]) -> Option<(String, Format)> {
        (0..names.len()).find_map(|depth| {
            let folder = names[..depth].join("/");
            let format = if self.delta.contains(&folder) {
                Format::Delta
            } else if self.hudi.contains(&folder) {
                Format::Hudi
            } else if self.metadata.contains(&folder) && self.data.contains(&folder) {
                Format::Iceberg
            } else {
                return None;
            };
            Some((folder, format))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_a_tables_if_a_folder_around_it_has_the_tables_log() {
        let mut markers = Markers::default();
        for path in [
            "plain/a.parquet",
            "delta/_delta_log/0.json",
            "delta/day=1/a.parquet",
            "x/hudi/.hoodie/hoodie.properties",
            "ice/metadata/v1.metadata.json",
            "ice/data/a.parquet",
            "no/metadata/v1.metadata.json",
            "no/a.parquet",
            "nor/metadata/readme.txt",
            "nor/data/a.parquet",
        ] {
            markers.see(&path.split('/').collect::<Vec<_>>());
        }
        let around = |markers: &Markers, path: &str| markers.around(&path.split('/').collect::<Vec<_>>());
        let found = |folder: &str, format| Some((folder.to_owned(), format));
        assert_eq!(around(&markers, "delta/day=1/a.parquet"), found("delta", Format::Delta));
        assert_eq!(around(&markers, "x/hudi/b/a.parquet"), found("x/hudi", Format::Hudi));
        assert_eq!(around(&markers, "ice/data/a.parquet"), found("ice", Format::Iceberg));
        for path in ["plain/a.parquet", "x/a.parquet", "no/a.parquet", "nor/data/a.parquet", "a.parquet"] {
            assert_eq!(around(&markers, path), None, "{path}");
        }
        markers.see(&["_delta_log", "0.json"]);
        assert_eq!(around(&markers, "plain/a.parquet"), found("", Format::Delta));
    }
}
