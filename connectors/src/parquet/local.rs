//! Files of this machine.

use std::fs::{self, File, Metadata};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::error;
use super::location::{Location, Shape};
use super::{Found, Handle};
use usher_core::warehouse::FileVersion;
use usher_core::warehouse::SnapshotError;

/// Lists the files of a location that starts at `base`, in no order.
///
/// # Errors
///
/// The base is missing, or a folder or file can't be looked at.
pub(super) fn list(location: &Location, base: &Path) -> Result<Vec<Found>, SnapshotError> {
    let meta = fs::metadata(base).map_err(|error| of_base(location, base, &error))?;
    let mut found = Vec::new();
    match location.shape {
        Shape::Exact if !meta.is_dir() => found.push(version(&location.written, base.to_owned(), &meta)),
        Shape::Exact => walk(&Shape::Folder, &location.shown, base, &mut Vec::new(), &mut Vec::new(), &mut found)?,
        _ => walk(&location.shape, &location.shown, base, &mut Vec::new(), &mut Vec::new(), &mut found)?,
    }
    Ok(found)
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

fn version(shown: &str, path: PathBuf, meta: &Metadata) -> Found {
    let modified = meta.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let version = FileVersion {
        path: shown.to_owned(),
        size: meta.len(),
        e_tag: None,
        modified_ms: modified.and_then(|at| i64::try_from(at.as_millis()).ok()),
    };
    Found { version, handle: Handle::Local(path) }
}

fn of_base(location: &Location, base: &Path, error: &std::io::Error) -> SnapshotError {
    let error = error::of_io(&location.written, error);
    match error.hint {
        None => error.hint(format!("it was looked for at `{}`", base.display())),
        Some(_) => error,
    }
}
