//! Files of this machine.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::error;
use super::location::{Location, Shape};
use super::tables::{ABOVE, DATA, DELTA, Format, HUDI, METADATA, METADATA_FILE, Table};
use super::{Found, Handle};
use usher_core::warehouse::FileVersion;
use usher_core::warehouse::SnapshotError;

/// Lists the files of a location that starts at `base`, in no order, and finds the table that one of them is of.
///
/// # Errors
///
/// The base is missing, or a folder or file can't be looked at.
pub(super) fn list(location: &Location, base: &Path) -> Result<(Vec<Found>, Option<Table>), SnapshotError> {
    let meta = fs::metadata(base).map_err(|error| of_base(location, base, &error))?;
    let mut found = Vec::new();
    match location.shape {
        Shape::Exact if !meta.is_dir() => found.push(version(&location.written, base.to_owned(), &meta)),
        Shape::Exact => walk(&Shape::Folder, &location.shown, base, &mut Vec::new(), &mut Vec::new(), &mut found)?,
        _ => walk(&location.shape, &location.shown, base, &mut Vec::new(), &mut Vec::new(), &mut found)?,
    }
    let table = table(location, base, &found);
    Ok((found, table))
}

/// Returns the table that one of the files is of: one of the folders around it, up to some above the base.
fn table(location: &Location, base: &Path, found: &[Found]) -> Option<Table> {
    let paths = found.iter().filter_map(|found| match &found.handle {
        Handle::Local(path) => Some(path),
        Handle::Store(..) => None,
    });
    // From the base down, then from the base up.
    let below = paths.flat_map(|path| path.ancestors().skip(1).take_while(|folder| folder.starts_with(base)));
    let folders: BTreeSet<&Path> = below.collect();
    let first_above = if folders.contains(base) { 1 } else { 0 };
    let real = fs::canonicalize(base).ok();
    let folder = if base.is_dir() { real.as_deref() } else { real.as_deref().and_then(Path::parent) };
    let above =
        folder.into_iter().flat_map(|folder| folder.ancestors().skip(first_above).take(ABOVE + 1 - first_above));
    let mut all = folders.iter().copied().chain(above);
    all.find_map(|folder| {
        let format = format(folder)?;
        let folder = match folder.strip_prefix(base) {
            Ok(below) => Path::new(&location.shown).join(below).display().to_string(),
            Err(_) => folder.display().to_string(),
        };
        Some(Table { folder: folder.trim_end_matches('/').to_owned(), format })
    })
}

/// Returns the format of the table that a folder is.
fn format(folder: &Path) -> Option<Format> {
    let has = |name: &str| folder.join(name).is_dir();
    let has_metadata = || {
        let files = fs::read_dir(folder.join(METADATA)).into_iter().flatten().flatten();
        files.into_iter().any(|file| file.file_name().to_string_lossy().ends_with(METADATA_FILE))
    };
    if has(DELTA) {
        Some(Format::Delta)
    } else if has(HUDI) {
        Some(Format::Hudi)
    } else {
        (has(DATA) && has_metadata()).then_some(Format::Iceberg)
    }
}

/// Opens a listed file.
///
/// # Errors
///
/// It is missing, or no longer the one that was listed.
pub(super) fn open(version_then: &FileVersion, path: &Path) -> Result<File, SnapshotError> {
    let file = File::open(path).map_err(|error| error::of_io(&version_then.path, &error))?;
    check(version_then, &file)?;
    Ok(file)
}

/// Checks that an open file is still the one that was listed: it may be written over while it is read.
///
/// # Errors
///
/// It is another.
pub(super) fn check(version_then: &FileVersion, file: &File) -> Result<(), SnapshotError> {
    let now = file.metadata().map_err(|error| error::of_io(&version_then.path, &error))?;
    match version(&version_then.path, PathBuf::new(), &now).version == *version_then {
        true => Ok(()),
        false => Err(error::replaced(&version_then.path)),
    }
}

/// Walks the folder at `names` below the base. `above` holds the real paths of the folders around it, against links in a circle.
fn walk(
    shape: &Shape,
    shown: &str,
    folder: &Path,
    names: &mut Vec<String>,
    above: &mut Vec<PathBuf>,
    found: &mut Vec<Found>,
) -> Result<(), SnapshotError> {
    let at =
        |names: &[String]| [shown].into_iter().chain(names.iter().map(|name| &**name)).collect::<Vec<_>>().join("/");
    let of_io = |names: &[String], error: std::io::Error| error::of_io(&at(names), &error);
    let real = fs::canonicalize(folder).map_err(|error| of_io(names, error))?;
    if above.contains(&real) {
        return Ok(());
    }
    above.push(real);
    for entry in fs::read_dir(folder).map_err(|error| of_io(names, error))? {
        let entry = entry.map_err(|error| of_io(names, error))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
        let path: Vec<&str> = names.iter().map(|name| &**name).collect();
        let (takes, enters) = (shape.takes(&path), shape.enters(&path));
        if takes || enters {
            let meta = fs::metadata(entry.path()).map_err(|error| of_io(names, error))?;
            if meta.is_dir() && enters {
                walk(shape, shown, &entry.path(), names, above, found)?;
            } else if !meta.is_dir() && takes {
                found.push(version(&at(names), entry.path(), &meta));
            }
        }
        names.pop();
    }
    above.pop();
    Ok(())
}

pub(super) fn version(shown: &str, path: PathBuf, meta: &Metadata) -> Found {
    let modified = meta.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let version = FileVersion {
        path: shown.to_owned(),
        size: meta.len(),
        e_tag: None,
        modified_ms: modified.and_then(|at| i64::try_from(at.as_millis()).ok()),
    };
    Found { version, handle: Handle::Local(path) }
}

pub(super) fn of_base(location: &Location, base: &Path, error: &std::io::Error) -> SnapshotError {
    let error = error::of_io(&location.written, error);
    match error.hint {
        None => error.hint(format!("it was looked for at `{}`", base.display())),
        Some(_) => error,
    }
}
